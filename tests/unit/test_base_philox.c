// Philox4x32-10 against the known-answer vectors that Random123 publishes (examples/kat_vectors), and the properties of
// the streams made from it.
#include "ir/base/philox.h"

#include <criterion/criterion.h>
#include <math.h>

Test(base_philox, known_answers) {
  static const struct { uint32_t counter[4], key[2], expected[4]; } vectors[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int v = 0; v < 3; v++) {
    uint32_t out[4];
    muse_philox4x32(vectors[v].counter, vectors[v].key, out);
    for (int i = 0; i < 4; i++) cr_assert_eq(out[i], vectors[v].expected[i], "vector %d, word %d", v, i);
  }
}

Test(base_philox, output_may_overwrite_the_counter) {
  uint32_t block[4] = {0, 0, 0, 0};
  muse_philox4x32(block, (uint32_t[2]){0, 0}, block);
  cr_assert_eq(block[0], 0x6627e8d5);
  cr_assert_eq(block[3], 0x9b00dbd8);
}

// Element 4k + i is word i of the block with counter (k low, k high, op low, op high) and key (seed, step).
Test(base_philox, stream_layout) {
  uint64_t block = 0x123456789aull, op_id = 0xfedcba9876543210ull;
  uint32_t expected[4];
  muse_philox4x32((uint32_t[4]){0x3456789a, 0x12, 0x76543210, 0xfedcba98}, (uint32_t[2]){42, 1000}, expected);
  for (uint64_t i = 0; i < 4; i++) cr_assert_eq(muse_random_u32(block * 4 + i, op_id, 42, 1000), expected[i]);
}

Test(base_philox, every_coordinate_changes_the_word) {
  uint32_t word = muse_random_u32(5, 6, 7, 8);
  cr_assert_neq(word, muse_random_u32(6, 6, 7, 8));
  cr_assert_neq(word, muse_random_u32(9, 6, 7, 8));
  cr_assert_neq(word, muse_random_u32(5 + (4ull << 32), 6, 7, 8));
  cr_assert_neq(word, muse_random_u32(5, 7, 7, 8));
  cr_assert_neq(word, muse_random_u32(5, 6 + (1ull << 32), 7, 8));
  cr_assert_neq(word, muse_random_u32(5, 6, 8, 8));
  cr_assert_neq(word, muse_random_u32(5, 6, 7, 9));
}

Test(base_philox, uniform_is_exact_in_f32_and_evenly_spread) {
  enum { N = 100000 };
  double sum = 0, sum_squares = 0;
  int buckets[16] = {0};
  for (uint64_t i = 0; i < N; i++) {
    double u = muse_random_uniform(i, 3, 1, 0);
    cr_assert(u >= 0 && u < 1);
    cr_assert_eq((double)(float)u, u);
    cr_assert_eq(u, (muse_random_u32(i, 3, 1, 0) >> 8) / 16777216.0);
    sum += u;
    sum_squares += u * u;
    buckets[(int)(u * 16)]++;
  }
  // Five standard deviations of the means: sqrt(1/12/N) and sqrt(4/45/N).
  cr_assert_float_eq(sum / N, 0.5, 5 * sqrt(1.0 / 12 / N));
  cr_assert_float_eq(sum_squares / N, 1.0 / 3, 5 * sqrt(4.0 / 45 / N));
  for (int b = 0; b < 16; b++) cr_assert_float_eq(buckets[b], N / 16.0, 5 * sqrt(N / 16.0));
}

Test(base_philox, normal_follows_box_muller) {
  for (uint64_t i = 0; i < 1000; i += 2) {
    double u = muse_random_uniform(i, 9, 4, 2), v = muse_random_uniform(i + 1, 9, 4, 2);
    double cosine = muse_random_normal(i, 9, 4, 2), sine = muse_random_normal(i + 1, 9, 4, 2);
    cr_assert_float_eq(cosine * cosine + sine * sine, -2 * log(1 - u), 1e-12);
    double turn = atan2(sine, cosine) / (2 * M_PI);
    if (cosine != 0 || sine != 0) cr_assert_float_eq(turn < -1e-12 ? turn + 1 : turn, v, 1e-9);
  }
}

Test(base_philox, normal_has_its_moments) {
  enum { N = 200000 };
  double moments[5] = {0};
  for (uint64_t i = 0; i < N; i++) {
    double x = muse_random_normal(i, 77, 123, 0), power = 1;
    cr_assert(isfinite(x));
    for (int m = 1; m <= 4; m++) moments[m] += (power *= x) / N;
  }
  // Five standard deviations: Var x = 1, Var x^2 = 2, Var x^3 = 15, Var x^4 = 96.
  cr_assert_float_eq(moments[1], 0, 5 * sqrt(1.0 / N));
  cr_assert_float_eq(moments[2], 1, 5 * sqrt(2.0 / N));
  cr_assert_float_eq(moments[3], 0, 5 * sqrt(15.0 / N));
  cr_assert_float_eq(moments[4], 3, 5 * sqrt(96.0 / N));
}
