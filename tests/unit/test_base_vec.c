// Growable arrays.
#include "ir/base/vec.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>

Test(base_vec, push_pop_and_last) {
  MUSE_VEC(int64_t) v = {0};
  for (int64_t i = 0; i < 10000; i++) muse_vec_push(&v, i * i);
  cr_assert_eq(v.len, 10000);
  cr_assert_geq(v.cap, v.len);
  for (int64_t i = 0; i < 10000; i++) cr_assert_eq(v.data[i], i * i);
  cr_assert_eq(muse_vec_last(&v), 9999 * 9999);
  cr_assert_eq(muse_vec_pop(&v), 9999 * 9999);
  cr_assert_eq(v.len, 9999);
  muse_vec_free(&v);
  cr_assert_null(v.data);
  cr_assert(v.len == 0 && v.cap == 0);
}

Test(base_vec, structures_of_odd_size) {
  struct odd { char bytes[7]; };
  MUSE_VEC(struct odd) v = {0};
  for (int i = 0; i < 100; i++) muse_vec_push(&v, ((struct odd){{(char)i, 0, 0, 0, 0, 0, (char)-i}}));
  for (int i = 0; i < 100; i++) cr_assert(v.data[i].bytes[0] == i && v.data[i].bytes[6] == -i);
  muse_vec_free(&v);
}

Test(base_vec, reserve_keeps_addresses_until_full) {
  MUSE_VEC(int) v = {0};
  muse_vec_reserve(&v, 1000);
  cr_assert_geq(v.cap, 1000);
  int *before = v.data;
  for (int i = 0; i < 1000; i++) muse_vec_push(&v, i);
  cr_assert_eq(v.data, before);
  muse_vec_reserve(&v, 10);
  cr_assert_eq(v.data, before);
  muse_vec_clear(&v);
  cr_assert_eq(v.len, 0);
  cr_assert_eq(v.data, before);
  muse_vec_free(&v);
}

Test(base_vec, growth_is_geometric) {
  MUSE_VEC(char) v = {0};
  int n_moves = 0;
  size_t cap = 0;
  for (int i = 0; i < 1 << 20; i++) {
    muse_vec_push(&v, 'x');
    if (v.cap != cap) n_moves++, cap = v.cap;
  }
  cr_assert_leq(n_moves, 21);
  muse_vec_free(&v);
}

Test(base_vec, byte_overflow_aborts, .signal = SIGABRT) {
  MUSE_VEC(int64_t) v = {0};
  muse_vec_reserve(&v, SIZE_MAX / 4);
}
