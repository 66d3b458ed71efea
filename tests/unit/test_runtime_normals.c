// Normal parameters made many at a time, and rows of trits: both against their definitions.
#include "runtime/normals.h"

#include "ir/base/philox.h"
#include "ir/type.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(normals, .init = scratch_setup, .fini = scratch_teardown);

static void check_range(uint64_t op_id, uint32_t seed, double std, int64_t first, int64_t count) {
  float *out = calloc((size_t)count + 1, sizeof *out);
  muse_normals_fill(op_id, seed, std, first, count, out);
  for (int64_t i = 0; i < count; i++) {
    float want = (float)(std * muse_random_normal((uint64_t)(first + i), op_id, seed, 0));
    cr_assert(memcmp(&want, &out[i], sizeof want) == 0, "element %lld is %a, not %a", (long long)(first + i),
              (double)out[i], (double)want);
  }
  cr_assert(out[count] == 0);
  free(out);
}

Test(normals, bits_are_those_of_one_at_a_time) {
  // Among these 1.5 million some lie within the margin and some on the axes (2 in a million each).
  check_range(0x123456789abcdef0u, 42, 0.02, 0, 1 << 20);
  check_range(77, 0xffffffffu, 0.1, 4096, 1 << 18);
  check_range(1, 0, 1, ((int64_t)1 << 34) - 1024, 1 << 18); // the block number passes 32 bits
  for (int64_t count = 1; count < 40; count++) check_range(5, 7, 0.5, 8, count);
  check_range(5, 7, 0.5, 512, 1537);
}

Test(normals, magnitudes_are_summed) {
  float w[1000];
  double want = 0;
  for (int i = 0; i < 1000; i++) want += fabs((double)(w[i] = (float)muse_random_normal((uint64_t)i, 3, 4, 0)));
  cr_assert(fabs(muse_sum_magnitudes(w, 1000) - want) < 1e-9);
  cr_assert(muse_sum_magnitudes(w, 0) == 0);
}

Test(normals, latents_lie_on_their_grid) {
  float w[1003];
  int8_t got[1003];
  double delta = 0.03125; // a power of two, so that there are ties
  for (int i = 0; i < 1003; i++) w[i] = i % 5 ? (float)muse_random_normal((uint64_t)i, 8, 4, 0) * 2 : (float)i / 64;
  w[7] = 1e30f;
  w[9] = -1e30f;
  muse_round_to_grid(w, 1003, delta, got);
  for (int i = 0; i < 1003; i++) cr_assert(got[i] == (int)fmax(-127, fmin(127, nearbyint((double)w[i] / delta))));
}

// Digit j of a byte, as ir/type.h says.
static int digit_of(uint8_t byte, int j) {
  int power = 1;
  for (int i = 0; i < j; i++) power *= 3;
  return ((byte * power % 256) * 3) >> 8;
}

static void check_row(int64_t columns) {
  float *w = calloc((size_t)columns, sizeof *w), gamma = 0.75f;
  int64_t bytes = muse_trit_row_bytes(MUSE_T5, columns), nonzero = 0, want_nonzero = 0;
  uint8_t *row = calloc((size_t)bytes + 1, 1);
  double error = 0, want_error = 0;
  for (int64_t k = 0; k < columns; k++)
    w[k] = k % 7 == 3 ? (k & 1 ? 0.375f : -0.375f) : (float)muse_random_normal((uint64_t)k, 9, 9, 0); // ties too
  muse_pack_row_t5(w, columns, gamma, row, &nonzero, &error);
  for (int64_t k = 0; k < bytes / 64 * 320; k++) {
    int t = digit_of(row[k / 320 * 64 + k % 64], (int)(k % 320 / 64)) - 1;
    int want = k < columns ? (int)fmax(-1, fmin(1, nearbyint((double)w[k] / (double)gamma))) : 0;
    cr_assert(t == want, "trit %lld of %lld is %d, not %d", (long long)k, (long long)columns, t, want);
    if (k >= columns) continue;
    want_nonzero += want != 0;
    double e = (double)w[k] - (double)gamma * want;
    want_error += e * e;
  }
  cr_assert(nonzero == want_nonzero);
  cr_assert(fabs(error - want_error) <= 1e-12 * (1 + want_error));
  cr_assert(row[bytes] == 0);
  free(w);
  free(row);
}

Test(normals, rows_of_trits) {
  for (int64_t columns = 1; columns < 700; columns += columns < 330 ? 1 : 37) check_row(columns);
  check_row(5120);
}
