// Growth of MUSE_VEC arrays: doubling, so that pushing n elements costs O(n).
#include "ir/base/vec.h"

#include "ir/base/status.h"

#include <stdint.h>

void *muse_vec_grow(void *data, size_t *cap, size_t need, size_t element_size) {
  size_t new_cap = *cap < 4 ? 8 : (*cap > SIZE_MAX / 2 ? SIZE_MAX : *cap * 2);
  if (new_cap < need) new_cap = need;
  size_t bytes;
  if (__builtin_mul_overflow(new_cap, element_size, &bytes)) muse_out_of_memory(SIZE_MAX);
  void *grown = realloc(data, bytes);
  if (!grown) muse_out_of_memory(bytes);
  *cap = new_cap;
  return grown;
}
