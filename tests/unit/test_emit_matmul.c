// Matrix products and trit kernels at every level of the machine against the oracle. Integer results must be exact, so
// that all levels agree to the bit.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static MuseHarnessReport run_with(const char *skeleton, const char *text, MuseHarness options) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(skeleton, text, &kernel);
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  muse_module_destroy(module);
  return report;
}

static MuseHarnessReport run_text(const char *skeleton, const char *text) {
  return run_with(skeleton, text, (MuseHarness){.round_storage = true});
}

// A machine that emulates tiles has run them.
static void expect_tiles(const MuseHarnessReport *r, const char *what) {
  MuseCpuTarget amx;
  if (muse_harness_emulates_tiles(&amx)) cr_assert_gt(r->emulated_tiles, 0, "%s: level amx ran no tiles", what);
}

static void expect_exact(const MuseHarnessReport *r, int result, const char *what) {
  cr_assert_eq(r->error[result], 0, "%s: result %d is off by %g", what, result, r->error[result]);
  cr_assert_eq(r->differing[result], 0, "%s: %g of result %d differ", what, r->differing[result], result);
}

// ---- f32 ----

static void check_matmul(int M, int N, int K, bool ta, bool tb, const char *a, const char *b) {
  char text[512], what[96];
  snprintf(text, sizeof text,
           "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d]) -> ({}) {\n"
           "  %%2 = matmul %%0, %%1 {trans_a = %s, trans_b = %s} : f32[%d,%d]\n  return %%2\n}",
           a, ta ? K : M, ta ? M : K, b, tb ? N : K, tb ? K : N, ta ? "true" : "false", tb ? "true" : "false", M, N);
  snprintf(what, sizeof what, "%s x %s, %dx%dx%d, trans_a %d, trans_b %d", a, b, M, N, K, ta, tb);
  MuseHarnessReport r = run_text("matmul", text);
  cr_assert_lt(r.worst, 3e-6, "%s: %g", what, r.worst);
}

Test(emit_matmul, shapes_and_transpositions) {
  static const int shape[][3] = {{1, 1, 1},    {13, 33, 37}, {37, 257, 70}, {5, 3, 9},
                                 {25, 16, 64}, {3, 1, 40},   {64, 64, 64}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
    for (int t = 0; t < 4; t++) check_matmul(shape[i][0], shape[i][1], shape[i][2], t & 1, t & 2, "f32", "f32");
}

Test(emit_matmul, several_blocks) { // of K (512) and of the result
  for (int t = 0; t < 4; t++) check_matmul(200, 289, 1100, t & 1, t & 2, "f32", "f32");
}

Test(emit_matmul, few_rows) { // weights are streamed
  static const int shape[][3] = {{1, 257, 128}, {2, 33, 77}, {3, 5, 1100}, {4, 64, 64}, {1, 1, 3}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
    check_matmul(shape[i][0], shape[i][1], shape[i][2], false, true, "f32", "f32");
    check_matmul(shape[i][0], shape[i][1], shape[i][2], false, true, "f32", "bf16");
  }
}

Test(emit_matmul, storage_types) {
  for (int t = 0; t < 4; t++) {
    check_matmul(13, 35, 37, t & 1, t & 2, "bf16", "bf16");
    check_matmul(14, 20, 530, t & 1, t & 2, "f32", "bf16");
  }
  check_matmul(29, 70, 700, false, true, "f32", "t2");
  check_matmul(6, 17, 1030, true, true, "bf16", "t2");
}

// row, column and scalar operands, a residual written in place, a bf16 copy, the product itself
Test(emit_matmul, epilogue) {
  MuseHarnessReport r = run_text("matmul", "func @f(%0 : f32[37,70], %1 : f32[45,70], %2 : f32[37,1], %3 : f32[45], %4 "
                                           ": f32[37,45], %5 : f32[]) -> ({}, {}, {}, {}) {\n"
                                           "  %6 = matmul %0, %1 {trans_b = true} : f32[37,45]\n"
                                           "  %7 = mul %6, %2 : f32[37,45]\n"
                                           "  %8 = add %7, %3 : f32[37,45]\n"
                                           "  %9 = mul %8, %5 : f32[37,45]\n"
                                           "  %10 = add %9, %4 : f32[37,45]\n"
                                           "  %11 = cast %9 {to = bf16} : bf16[37,45]\n"
                                           "  %12 = less %9, %4 : bool[37,45]\n"
                                           "  return %10, %11, %6, %12\n}");
  cr_assert_lt(r.error[0], 1e-5, "%g", r.error[0]);
  cr_assert_lt(r.error[1], 0.01, "%g", r.error[1]);
  cr_assert_lt(r.differing[1], 0.01);
  cr_assert_lt(r.error[2], 1e-5, "%g", r.error[2]);
  cr_assert_lt(r.differing[3], 0.01);
}

Test(emit_matmul, softplus_of_the_potential) { // few columns
  MuseHarnessReport r = run_text("matmul",
    "func @f(%0 : f32[100,128], %1 : f32[4,128], %2 : f32[4]) -> ({}) {\n"
    "  %3 = matmul %0, %1 {trans_b = true} : f32[100,4]\n"
    "  %4 = add %3, %2 : f32[100,4]\n"
    "  %5 = softplus %4 : f32[100,4]\n"
    "  return %5\n}");
  cr_assert_lt(r.worst, 1e-5, "%g", r.worst);
}

// ---- trits ----

static void check_ternary(int M, int N, int K, const char *trits) {
  char text[1024], what[96];
  snprintf(text, sizeof text,
           "func @f(%%0 : i8[%d,%d], %%1 : %s[%d,%d], %%2 : f32[%d,1], %%3 : f32[], %%4 : f32[%d,%d]) -> ({}, {}) {\n"
           "  %%5 = ternary_matmul %%0, %%1 : i32[%d,%d]\n"
           "  %%6 = cast %%5 {to = f32} : f32[%d,%d]\n"
           "  %%7 = mul %%2, %%3 : f32[%d,1]\n"
           "  %%8 = mul %%6, %%7 : f32[%d,%d]\n"
           "  %%9 = add %%8, %%4 : f32[%d,%d]\n"
           "  return %%9, %%5\n}",
           M, K, trits, N, K, M, M, N, M, N, M, N, M, M, N, M, N);
  snprintf(what, sizeof what, "%s %dx%dx%d", trits, M, N, K);
  MuseHarnessReport r = run_text("ternary_matmul", text);
  cr_assert_lt(r.error[0], 1e-6, "%s: %g", what, r.error[0]);
  expect_exact(&r, 1, what);
  if (M > 4) expect_tiles(&r, what); // few rows are streamed past the tiles
}

Test(emit_ternary_matmul, few_rows) {
  static const int shape[][3] = {{1, 1, 1},    {1, 70, 700},   {2, 33, 320}, {3, 64, 257},
                                 {4, 5, 1300}, {1, 100, 2560}, {2, 1, 63}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
    check_ternary(shape[i][0], shape[i][1], shape[i][2], "t2");
    check_ternary(shape[i][0], shape[i][1], shape[i][2], "t5");
  }
}

Test(emit_ternary_matmul, tiles) {
  // the last three: several blocks of K, and several panels of fewer rows than a tile of AMX has
  static const int shape[][3] = {{5, 40, 100}, {37, 70, 700},   {100, 32, 64},  {24, 16, 321},
                                 {7, 1, 33},   {30, 130, 5200}, {9, 130, 2700}, {30, 100, 2600}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
    check_ternary(shape[i][0], shape[i][1], shape[i][2], "t2");
    check_ternary(shape[i][0], shape[i][1], shape[i][2], "t5");
  }
}

static void fill_extremes(void *user, int index, MuseTensor *t) { // the largest sums there are
  for (int64_t i = 0, n = muse_type_elements(t->type); i < n; i++)
    t->data[i] = t->type.dtype == MUSE_I8 ? -128 : *(int *)user;
}

Test(emit_ternary_matmul, largest_sums) {
  for (int trit = -1; trit <= 1; trit++)
    for (int M = 1; M <= 9; M += 8)
      for (int five = 0; five < 2; five++) {
        char text[256];
        snprintf(text, sizeof text,
                 "func @f(%%0 : i8[%d,40000], %%1 : %s[3,40000]) -> ({}) {\n"
                 "  %%2 = ternary_matmul %%0, %%1 : i32[%d,3]\n  return %%2\n}", M, five ? "t5" : "t2", M);
        MuseHarnessReport r = run_with("ternary_matmul", text,
                                       (MuseHarness){.fill = fill_extremes, .user = &trit, .no_cross = true});
        expect_exact(&r, 0, text);
      }
}

static void check_anchors(int M) { // Q, K, V: other widths, each with an epilogue of its own, a shared row scale
  char text[1024];
  snprintf(text, sizeof text,
           "func @f(%%0 : i8[%d,300], %%1 : t2[64,300], %%2 : t5[33,300], %%3 : t2[70,300], %%4 : f32[%d,1], %%5 : "
           "f32[33]) -> ({}, {}, {}) {\n"
           "  %%6 = ternary_matmul %%0, %%1 : i32[%d,64]\n"
           "  %%7 = ternary_matmul %%0, %%2 : i32[%d,33]\n"
           "  %%8 = ternary_matmul %%0, %%3 : i32[%d,70]\n"
           "  %%9 = cast %%6 {to = f32} : f32[%d,64]\n"
           "  %%10 = mul %%9, %%4 : f32[%d,64]\n"
           "  %%11 = cast %%7 {to = f32} : f32[%d,33]\n"
           "  %%12 = mul %%11, %%5 : f32[%d,33]\n"
           "  %%13 = mul %%12, %%4 : f32[%d,33]\n"
           "  return %%10, %%8, %%13\n}",
           M, M, M, M, M, M, M, M, M, M);
  MuseHarnessReport r = run_text("ternary_matmul", text);
  cr_assert_lt(r.error[0], 1e-6, "%g", r.error[0]);
  expect_exact(&r, 1, "second anchor");
  cr_assert_lt(r.error[2], 1e-6, "%g", r.error[2]);
}

Test(emit_ternary_matmul, several_anchors) {
  check_anchors(1);
  check_anchors(3);
  check_anchors(50);
}

// ---- int8 ----

static void check_int8(int M, int N, int K) {
  char text[256], what[64];
  snprintf(
      text, sizeof text,
      "func @f(%%0 : i8[%d,%d], %%1 : i8[%d,%d]) -> ({}) {\n  %%2 = int8_matmul %%0, %%1 : i32[%d,%d]\n  return %%2\n}",
      K, M, K, N, M, N);
  snprintf(what, sizeof what, "int8 %dx%dx%d", M, N, K);
  MuseHarnessReport r = run_text("int8_matmul", text);
  expect_exact(&r, 0, what);
  expect_tiles(&r, what);
}

Test(emit_int8_matmul, shapes) {
  static const int shape[][3] = {{1, 1, 1},  {37, 70, 203},  {130, 40, 5203}, {7, 17, 64},
                                 {25, 9, 2}, {64, 128, 256}, {9, 130, 2700}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) check_int8(shape[i][0], shape[i][1], shape[i][2]);
}

Test(emit_int8_matmul, largest_sums) {
  int unused = 0;
  MuseHarnessReport r = run_with("int8_matmul",
    "func @f(%0 : i8[60000,3], %1 : i8[60000,5]) -> ({}) {\n  %2 = int8_matmul %0, %1 : i32[3,5]\n  return %2\n}",
    (MuseHarness){.fill = fill_extremes, .user = &unused, .no_cross = true});
  expect_exact(&r, 0, "int8");
}

Test(emit_int8_matmul, scaled_rows) { // dW of BitLinear with int8 gradients
  MuseHarnessReport r = run_text("int8_matmul",
    "func @f(%0 : i8[130,48], %1 : i8[130,33], %2 : f32[48,1]) -> ({}) {\n"
    "  %3 = int8_matmul %0, %1 : i32[48,33]\n"
    "  %4 = cast %3 {to = f32} : f32[48,33]\n"
    "  %5 = mul %4, %2 : f32[48,33]\n"
    "  return %5\n}");
  cr_assert_lt(r.worst, 1e-6, "%g", r.worst);
}

// ---- packing ----

static void fill_weights(void *user, int index, MuseTensor *t) { // many exactly at half the scale, some NaN
  if (t->type.rank == 0) {
    t->data[0] = 0.75;
    return;
  }
  for (int64_t i = 0, n = muse_type_elements(t->type); i < n; i++) {
    uint64_t h = ((uint64_t)i * 0x9E3779B97F4A7C15u) >> 40;
    t->data[i] = h % 11 == 0   ? 0.375
                 : h % 11 == 1 ? -0.375
                 : h % 97 == 5 ? (double)__builtin_nanf("")
                               : (double)(h % 2001) / 1000 - 1;
  }
}

static void fill_grid(void *user, int index, MuseTensor *t) { // 31 steps of 0.25/31 and half the scale: a tie in f32
  for (int64_t i = 0, n = muse_type_elements(t->type); i < n; i++)
    t->data[i] = index == 0   ? (double)(((uint64_t)i * 0x9E3779B97F4A7C15u >> 40) % 255) - 127
                 : index == 1 ? (double)(31 * (0.25f / 31)) * 2
                              : (double)(0.25f / 31);
}

static void check_pack(int N, int K, const char *trits, bool transpose, bool grid) {
  char text[256], what[64];
  snprintf(text, sizeof text,
           "func @f(%%0 : %s[%d,%d], %%1 : f32[]%s) -> ({}) {\n"
           "  %%3 = pack_trits %%0, %%1%s {dtype = %s, transpose = %s} : %s[%d,%d]\n  return %%3\n}",
           grid ? "i8" : "f32", N, K, grid ? ", %2 : f32[]" : "", grid ? ", %2" : "", trits,
           transpose ? "true" : "false", trits, transpose ? K : N, transpose ? N : K);
  snprintf(what, sizeof what, "pack %s %dx%d, transpose %d, grid %d", trits, N, K, transpose, grid);
  MuseHarnessReport r = run_with("pack_trits", text, (MuseHarness){.fill = grid ? fill_grid : fill_weights});
  expect_exact(&r, 0, what);
}

Test(emit_trits, pack) {
  static const int shape[][2] = {{1, 1}, {3, 343}, {300, 37}, {70, 700}, {333, 64}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
    for (int form = 0; form < 8; form++)
      check_pack(shape[i][0], shape[i][1], form & 1 ? "t5" : "t2", form & 2, form & 4);
}

Test(emit_trits, unpack) {
  static const int shape[][2] = {{1, 1}, {7, 343}, {200, 643}, {3, 320}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
    for (int five = 0; five < 2; five++) {
      char text[192];
      const char *trits = five ? "t5" : "t2";
      snprintf(text, sizeof text,
               "func @f(%%0 : %s[%d,%d]) -> ({}) {\n  %%1 = unpack_trits %%0 : i8[%d,%d]\n  return %%1\n}", trits,
               shape[i][0], shape[i][1], shape[i][0], shape[i][1]);
      MuseHarnessReport r = run_text("unpack_trits", text);
      expect_exact(&r, 0, text);
    }
}

// The instructions that make these levels what they are, on whatever machine.
Test(emit_ternary_matmul, compiles_for_amx_and_neon) {
  static const char *const names[] = {"cpu:amx", "cpu:neon", "cpu:neon-dot"};
  static const char *const texts[][2] = {
      {"ternary_matmul", "func @f(%0 : i8[70,5200], %1 : t5[45,5200]) -> ({}) {\n %2 = ternary_matmul %0, %1 : "
                         "i32[70,45]\n return %2\n}"},
      {"ternary_matmul",
       "func @f(%0 : i8[2,520], %1 : t5[45,520]) -> ({}) {\n %2 = ternary_matmul %0, %1 : i32[2,45]\n return %2\n}"},
      {"int8_matmul",
       "func @f(%0 : i8[70,33], %1 : i8[70,45]) -> ({}) {\n %2 = int8_matmul %0, %1 : i32[33,45]\n return %2\n}"},
  };
  const MuseCpuModule *cpu = muse_harness_module();
  for (size_t n = 0; n < sizeof names / sizeof *names; n++)
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      MuseOp *kernel;
      MuseModule *module = muse_harness_kernel(texts[i][0], texts[i][1], &kernel);
      MuseDiag *diag = muse_diag_create();
      MuseCpuTarget target;
      char *text;
      size_t bytes;
      cr_assert_eq(cpu->parse_target(names[n], &target, diag), MUSE_OK);
      cr_assert_eq(cpu->emit(kernel, "k", &target, "asm", &text, &bytes, diag), MUSE_OK);
      if (n == 0 && i != 1)
        cr_assert(strstr(text, "tdpbsud") && strstr(text, "ldtilecfg") && strstr(text, "tilerelease"), "no AMX tiles");
      if (n == 2) cr_assert_not_null(strstr(text, "sdot"), "no sdot");
      free(text);
      muse_diag_destroy(diag);
      muse_module_destroy(module);
    }
}
