#ifndef MUSE_IR_BASE_VEC_H
#define MUSE_IR_BASE_VEC_H

#include <stddef.h>
#include <stdlib.h>

// Growable array on the heap: MUSE_VEC(int) v = {0}; muse_vec_push(&v, 3); ... muse_vec_free(&v);
#define MUSE_VEC(T)                                                                                                    \
  struct {                                                                                                             \
    T *data;                                                                                                           \
    size_t len, cap;                                                                                                   \
  }

void *muse_vec_grow(void *data, size_t *cap, size_t need, size_t element_size); // aborts when memory runs out

#define muse_vec_reserve(v, n)                                                                                         \
  ((v)->cap >= (size_t)(n) ? (void)0                                                                                   \
                           : (void)((v)->data = muse_vec_grow((v)->data, &(v)->cap, (size_t)(n), sizeof *(v)->data)))
#define muse_vec_push(v, x) (muse_vec_reserve((v), (v)->len + 1), (void)((v)->data[(v)->len++] = (x)))
#define muse_vec_pop(v) ((v)->data[--(v)->len])
#define muse_vec_last(v) ((v)->data[(v)->len - 1])
#define muse_vec_clear(v) ((void)((v)->len = 0))
#define muse_vec_free(v) (free((v)->data), (v)->data = NULL, (v)->len = (v)->cap = 0)

#endif
