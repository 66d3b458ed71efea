// Counting packed trits, against counting them one by one.
#include "runtime/trit_counts.h"

#include "ir/base/philox.h"
#include "ops/ops.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void check(MuseDtype dtype, int64_t rows, int64_t columns) {
  MuseType type = muse_type2(dtype, rows, columns);
  double *values = calloc((size_t)(rows * columns), sizeof *values);
  int64_t want[3] = {5, 6, 7}, got[3] = {5, 6, 7}; // counts are added to
  for (int64_t i = 0; i < rows * columns; i++) {
    int digit = (int)(muse_random_uniform((uint64_t)i, 1, 2, 3) * 3);
    if (digit == 2 && i % 3 == 0) digit = 0; // unequal counts, so that mixed-up digits show
    values[i] = digit - 1;
    want[digit]++;
  }
  void *packed = calloc(1, (size_t)muse_type_bytes(type));
  MuseTensor tensor = {.type = type, .data = values};
  muse_tensor_store(&tensor, packed);
  muse_count_trits(dtype, packed, rows, columns, got);
  for (int digit = 0; digit < 3; digit++)
    cr_expect_eq(got[digit], want[digit], "%s [%lld,%lld]: %lld times %d, not %lld", muse_dtype_name(dtype),
                 (long long)rows, (long long)columns, (long long)got[digit], digit - 1, (long long)want[digit]);
  free(packed);
  free(values);
}

Test(trit_counts, equal_the_unpacked_ones) {
  static const int64_t columns[] = {1, 63, 64, 255, 256, 257, 319, 320, 321, 1000};
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
    check(MUSE_T2, 7, columns[i]);
    check(MUSE_T5, 7, columns[i]);
  }
}
