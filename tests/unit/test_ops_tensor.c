// Storage of the oracle's tensors: every pattern of the short types survives, rounding is to nearest even, trit layouts
// are those of ir/type.h.

#include "ops/hooks.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static void expect_all_patterns(MuseDtype dtype) {
  MuseArena *arena = muse_arena_create();
  MuseTensor t = muse_tensor_create(arena, muse_type1(dtype, 65536));
  uint16_t *in = MUSE_NEW_ARRAY(arena, uint16_t, 65536), *out = MUSE_NEW_ARRAY(arena, uint16_t, 65536);
  for (int i = 0; i < 65536; i++) in[i] = (uint16_t)i;
  muse_tensor_load(&t, in);
  muse_tensor_store(&t, out);
  for (int i = 0; i < 65536; i++) {
    if (isnan(t.data[i])) continue; // payloads of NaN are not kept
    cr_assert(out[i] == in[i], "%s: pattern %04x became %04x", muse_dtype_name(dtype), in[i], out[i]);
    cr_assert(muse_round_to_dtype(t.data[i], dtype) == t.data[i]);
  }
  muse_arena_destroy(arena);
}
Test(ops_tensor, bf16_patterns) { expect_all_patterns(MUSE_BF16); }
Test(ops_tensor, f16_patterns) { expect_all_patterns(MUSE_F16); }

// Half between two neighbours goes to the even one, anything beyond to the nearer.
Test(ops_tensor, rounding_is_to_nearest_even) {
  cr_expect_eq(muse_round_to_dtype(1 + 0x1p-8, MUSE_BF16), 1);
  cr_expect_eq(muse_round_to_dtype(1 + 0x3p-8, MUSE_BF16), 1 + 0x1p-6);
  cr_expect_eq(muse_round_to_dtype(1 + 0x1.01p-8, MUSE_BF16), 1 + 0x1p-7);
  cr_expect_eq(muse_round_to_dtype(1 + 0x1p-11, MUSE_F16), 1);
  cr_expect_eq(muse_round_to_dtype(1 + 0x3p-11, MUSE_F16), 1 + 0x1p-9);
  cr_expect_eq(muse_round_to_dtype(65519, MUSE_F16), 65504);
  cr_expect_eq(muse_round_to_dtype(65520, MUSE_F16), INFINITY);
  cr_expect_eq(muse_round_to_dtype(-1e39, MUSE_BF16), -INFINITY);
  cr_expect_eq(muse_round_to_dtype(0x1p-25, MUSE_F16), 0);
  cr_expect_eq(muse_round_to_dtype(0x1.8p-25, MUSE_F16), 0x1p-24);
  cr_expect_eq(muse_round_to_dtype(0.1, MUSE_F32), (double)0.1f);
  cr_expect_eq(muse_round_to_dtype(0.1, MUSE_F64), 0.1);
  cr_expect_eq(muse_round_half_even(2.5), 2);
  cr_expect_eq(muse_round_half_even(-1.5), -2);
}

static void expect_trits_survive(MuseDtype dtype, int64_t columns) {
  MuseArena *arena = muse_arena_create();
  MuseType type = muse_type2(dtype, 3, columns);
  MuseTensor t = muse_tensor_create(arena, type), back = muse_tensor_create(arena, type);
  void *bytes = muse_arena_alloc(arena, (size_t)muse_type_bytes(type));
  for (int64_t i = 0; i < 3 * columns; i++) t.data[i] = (double)((i * 7 + i / 5) % 3) - 1;
  muse_tensor_store(&t, bytes);
  muse_tensor_load(&back, bytes);
  for (int64_t i = 0; i < 3 * columns; i++) cr_assert(t.data[i] == back.data[i]);
  muse_arena_destroy(arena);
}
Test(ops_tensor, trits_survive) {
  const int64_t columns[] = {1, 63, 64, 65, 255, 256, 257, 319, 320, 321, 1000};
  for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
    expect_trits_survive(MUSE_T2, columns[i]);
    expect_trits_survive(MUSE_T5, columns[i]);
  }
}

Test(ops_tensor, t2_layout) {
  MuseArena *arena = muse_arena_create();
  MuseTensor t = muse_tensor_create(arena, muse_type2(MUSE_T2, 1, 200));
  uint8_t bytes[64];
  t.data[3] = 1;        // bits 0-1 of byte 3
  t.data[64 + 3] = -1;  // bits 2-3
  t.data[128 + 3] = 1;  // bits 4-5; bits 6-7 are padding, code 1
  muse_tensor_store(&t, bytes);
  cr_expect_eq(bytes[3], 2 | 0 << 2 | 2 << 4 | 1 << 6);
  cr_expect_eq(bytes[4], 0x55);
  muse_arena_destroy(arena);
}

Test(ops_tensor, t5_layout) {
  MuseArena *arena = muse_arena_create();
  MuseTensor t = muse_tensor_create(arena, muse_type2(MUSE_T5, 1, 320));
  uint8_t bytes[64];
  const int digit[5] = {2, 0, 1, 2, 0};
  for (int k = 0; k < 5; k++) t.data[64 * k + 9] = digit[k] - 1;
  muse_tensor_store(&t, bytes);
  int v = 2 * 81 + 0 * 27 + 1 * 9 + 2 * 3 + 0;
  cr_expect_eq(bytes[9], (v * 256 + 242) / 243);
  cr_expect_eq(bytes[0], (121 * 256 + 242) / 243); // five zeros
  muse_arena_destroy(arena);
}

Test(ops_tensor, integers_survive) {
  MuseArena *arena = muse_arena_create();
  const struct {
    MuseDtype dtype;
    double value[3];
  } cases[] = {{MUSE_I8, {-128, 0, 127}},
               {MUSE_U8, {0, 1, 255}},
               {MUSE_I32, {-2147483648.0, 5, 2147483647}},
               {MUSE_U32, {0, 7, 4294967295.0}},
               {MUSE_I64, {-9e15, 1, 9e15}},
               {MUSE_BOOL, {0, 1, 1}},
               {MUSE_F32, {-0x1.8p-140, 0.5, 3e38}},
               {MUSE_F64, {0.1, -1e300, 5e-324}}};
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    MuseTensor t = muse_tensor_create(arena, muse_type1(cases[c].dtype, 3));
    double bytes[3];
    memcpy(t.data, cases[c].value, sizeof cases[c].value);
    muse_tensor_store(&t, bytes);
    memset(t.data, 0, sizeof cases[c].value);
    muse_tensor_load(&t, bytes);
    for (int i = 0; i < 3; i++)
      cr_expect(t.data[i] == (cases[c].dtype == MUSE_F32 ? (double)(float)cases[c].value[i] : cases[c].value[i]),
                "%s %d", muse_dtype_name(cases[c].dtype), i);
  }
  muse_arena_destroy(arena);
}
