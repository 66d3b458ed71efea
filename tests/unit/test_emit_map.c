// Map and transpose kernels at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

static MuseHarnessReport run_text(const char *skeleton, const char *text, const MuseHarness *options) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(skeleton, text, &kernel);
  MuseHarnessReport report;
  muse_harness_run(module, kernel, options, &report);
  muse_module_destroy(module);
  return report;
}

Test(emit_map, add) {
  MuseHarnessReport r = run_text(
      "map", "func @f(%0 : f32[3,5], %1 : f32[5]) -> ({}) {\n  %2 = add %0, %1 : f32[3,5]\n  return %2\n}", NULL);
  cr_assert_lt(r.worst, 1e-7, "%g", r.worst);
}

Test(emit_map, rms_norm_quantise) {
  MuseHarness h = {.round_storage = true, .time_repeats = 3};
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[37,123], %1 : f32[123]) -> ({}, {}) {\n"
                                 "  %2 = mul %0, %0 : f32[37,123]\n"
                                 "  %3 = reduce_sum %2 {axes = [1]} : f32[37,1]\n"
                                 "  %4 = const {value = 0.00813} : f32[]\n"
                                 "  %5 = mul %3, %4 : f32[37,1]\n"
                                 "  %6 = rsqrt %5 : f32[37,1]\n"
                                 "  %7 = mul %0, %6 : f32[37,123]\n"
                                 "  %8 = mul %7, %1 : f32[37,123]\n"
                                 "  %9 = abs %8 : f32[37,123]\n"
                                 "  %10 = reduce_max %9 {axes = [1]} : f32[37,1]\n"
                                 "  %11 = const {value = 127} : f32[]\n"
                                 "  %12 = div %11, %10 : f32[37,1]\n"
                                 "  %13 = mul %8, %12 : f32[37,123]\n"
                                 "  %14 = round %13 : f32[37,123]\n"
                                 "  %15 = cast %14 {to = i8} : i8[37,123]\n"
                                 "  return %15, %10\n}",
                                 &h);
  cr_assert_lt(r.worst, 1e-6, "%g", r.worst);
  cr_assert_leq(r.error[0], 1, "%g", r.error[0]);
  cr_assert_lt(r.differing[0], 1e-3);
}

// ---- every op by itself ----

Test(emit_map, every_dtype) {
  static const char *const names[] = {"f32", "bf16", "f16", "f64", "i8", "u8", "i32", "u32", "i64", "bool"};
  for (int a = 0; a < 10; a++) {
    // One kernel casts to all others; values are such that every type holds them (0 to 15), and the floats also
    // fractions.
    MuseStr text = {0};
    muse_str_appendf(&text,
                     "func @f(%%0 : i32[3,37], %%1 : f32[37]) -> ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}) {\n");
    muse_str_appendf(&text, "  %%2 = cast %%0 {to = %s} : %s[3,37]\n", names[a], names[a]);
    for (int b = 0; b < 10; b++)
      muse_str_appendf(&text, "  %%%d = cast %%2 {to = %s} : %s[3,37]\n", 3 + b, names[b], names[b]);
    muse_str_appendf(&text, "  %%13 = cast %%1 {to = bf16} : bf16[37]\n  %%14 = cast %%13 {to = f32} : f32[37]\n");
    muse_str_appendf(&text, "  %%15 = cast %%1 {to = f16} : f16[37]\n  %%16 = cast %%15 {to = f32} : f32[37]\n");
    muse_str_appendf(&text, "  %%17 = add %%14, %%16 : f32[37]\n  %%18 = cast %%0 {to = f32} : f32[3,37]\n  %%19 = add "
                            "%%17, %%18 : f32[3,37]\n");
    muse_str_appendf(&text, "  return %%3, %%4, %%5, %%6, %%7, %%8, %%9, %%10, %%11, %%12, %%19\n}");
    MuseHarness h = {.round_storage = true};
    MuseHarnessReport r = run_text("map", muse_str_text(&text), &h);
    for (int b = 0; b < 11; b++)
      cr_expect_eq(r.error[b], 0, "%s to %s: %g", names[a], b < 10 ? names[b] : "rounded", r.error[b]);
    muse_str_free(&text);
  }
}

static void fill_halves(void *user, int index, MuseTensor *t) {
  // Bit patterns of all f16, as numbers, and their neighbourhood: rounding, subnormals, overflow, infinities.
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    int e = (int)(i / 64 % 36) - 26;
    double m = 1 + (double)(i % 64) / 64 + (i / 2304 % 3 - 1) * 0x1p-12;
    t->data[i] = (i & 1 ? -1 : 1) * m * __builtin_exp2(e);
  }
  t->data[0] = __builtin_inf();
  t->data[1] = -__builtin_inf();
  t->data[2] = __builtin_nan("");
  t->data[3] = 65519.9;
  t->data[4] = 65520;
  t->data[5] = -0.0;
}

Test(emit_map, half_rounding) {
  MuseHarness h = {.round_storage = true, .fill = fill_halves};
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[13824]) -> ({}, {}) {\n  %1 = cast %0 {to = f16} : f16[13824]\n  %2 "
                                 "= cast %0 {to = bf16} : bf16[13824]\n"
                                 "  return %1, %2\n}",
                                 &h);
  cr_expect_eq(r.differing[0], 0, "f16: %g", r.differing[0]);
  cr_expect_eq(r.differing[1], 0, "bf16: %g", r.differing[1]);
}

static void fill_nan(void *user, int index, MuseTensor *t) {
  // Rows: all finite; a NaN in the first, a middle, the last column; both infinities; a negative NaN.
  int64_t columns = muse_type_last_dim(t->type);
  double *d = t->data;
  d[columns] = d[2 * columns + columns / 2] = d[4 * columns - 1] = __builtin_nan("");
  d[4 * columns + 1] = __builtin_inf();
  d[4 * columns + 2] = -__builtin_inf();
  d[5 * columns + 3] = -__builtin_nan("");
}

// A bad value must be seen: NaN goes through max, min and both kinds of maxima.
Test(emit_map, nan_travels) {
  static const int columns[] = {5, 16, 40, 200};
  for (int i = 0; i < 4; i++) {
    int c = columns[i];
    char text[900];
    snprintf(text, sizeof text,
             "func @f(%%0 : f32[6,%d]) -> ({}, {}, {}, {}, {}) {\n"
             "  %%1 = abs %%0 : f32[6,%d]\n"
             "  %%2 = reduce_max %%1 {axes = [1]} : f32[6,1]\n"
             "  %%3 = reduce_max %%0 {axes = [1]} : f32[6,1]\n"
             "  %%4 = const {value = 0.5} : f32[]\n"
             "  %%5 = max %%0, %%4 : f32[6,%d]\n"
             "  %%6 = min %%0, %%3 : f32[6,%d]\n"
             "  %%7 = reduce_max %%1 {axes = [0]} : f32[1,%d]\n"
             "  return %%2, %%3, %%5, %%6, %%7\n}",
             c, c, c, c, c);
    MuseHarness h = {.fill = fill_nan};
    MuseHarnessReport r = run_text("map", text, &h);
    for (int o = 0; o < 5; o++) cr_expect_eq(r.differing[o], 0, "%d columns, result %d: %g", c, o, r.differing[o]);
  }
}

// ---- shapes of reductions ----

Test(emit_map, terminal_reductions) {
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[5,37,19], %1 : f32[5,1,1]) -> ({}, {}, {}, {}, {}, {}, {}) {\n"
                                 "  %2 = mul %0, %1 : f32[5,37,19]\n"
                                 "  %3 = reduce_sum %2 {axes = [0, 1]} : f32[1,1,19]\n"
                                 "  %4 = reduce_sum %2 {axes = [0, 1, 2]} : f32[1,1,1]\n"
                                 "  %5 = reduce_max %2 {axes = [0]} : f32[1,37,19]\n"
                                 "  %6 = reduce_sum %2 {axes = [1, 2]} : f32[5,1,1]\n"
                                 "  %7 = reduce_sum %2 {axes = [2]} : f32[5,37,1]\n"
                                 "  %8 = mul %7, %7 : f32[5,37,1]\n"
                                 "  %9 = reduce_sum %8 {axes = [0, 1]} : f32[1,1,1]\n"
                                 "  %10 = reduce_max %8 {axes = [0]} : f32[1,37,1]\n"
                                 "  return %3, %4, %5, %6, %7, %9, %10\n}",
                                 NULL);
  cr_expect_lt(r.worst, 2e-6, "%g", r.worst);
}

Test(emit_map, large_sum) {
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[300007], %1 : bf16[300007]) -> ({}, {}, {}) {\n"
                                 "  %2 = cast %1 {to = f32} : f32[300007]\n"
                                 "  %3 = mul %0, %2 : f32[300007]\n"
                                 "  %4 = mul %3, %3 : f32[300007]\n"
                                 "  %5 = reduce_sum %4 {axes = [0]} : f32[1]\n"
                                 "  %6 = reduce_max %3 {axes = [0]} : f32[1]\n"
                                 "  return %5, %3, %6\n}",
                                 NULL);
  cr_expect_lt(r.worst, 1e-6, "%g", r.worst);
}

Test(emit_map, column_sums) {
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[700,1283], %1 : f32[700,1]) -> ({}, {}) {\n"
                                 "  %2 = mul %0, %1 : f32[700,1283]\n"
                                 "  %3 = reduce_sum %2 {axes = [0]} : f32[1,1283]\n"
                                 "  return %2, %3\n}",
                                 NULL);
  cr_expect_lt(r.worst, 1e-6, "%g", r.worst);
}

// softmax: three phases.
Test(emit_map, softmax) {
  static const int columns[] = {1, 3, 16, 33, 128, 515};
  for (int i = 0; i < 6; i++) {
    int c = columns[i];
    char text[900];
    snprintf(text, sizeof text,
             "func @f(%%0 : f32[9,%d]) -> ({}, {}) {\n"
             "  %%1 = reduce_max %%0 {axes = [1]} : f32[9,1]\n"
             "  %%2 = sub %%0, %%1 : f32[9,%d]\n"
             "  %%3 = exp %%2 : f32[9,%d]\n"
             "  %%4 = reduce_sum %%3 {axes = [1]} : f32[9,1]\n"
             "  %%5 = div %%3, %%4 : f32[9,%d]\n"
             "  %%6 = log %%4 : f32[9,1]\n"
             "  %%7 = add %%6, %%1 : f32[9,1]\n"
             "  return %%5, %%7\n}",
             c, c, c, c);
    MuseHarnessReport r = run_text("map", text, NULL);
    cr_expect_lt(r.worst, 1e-6, "%d columns: %g", c, r.worst);
  }
}

Test(emit_map, rope) {
  static const int dims[][4] = {{2, 5, 3, 64}, {1, 7, 1, 32}, {2, 3, 2, 6}, {1, 2, 3, 20}};
  for (int i = 0; i < 4; i++)
    for (int inverse = 0; inverse < 2; inverse++) {
      char text[500], shape[64];
      snprintf(shape, sizeof shape, "%d,%d,%d,%d", dims[i][0], dims[i][1], dims[i][2], dims[i][3]);
      snprintf(text, sizeof text,
               "func @f(%%0 : f32[%s], %%1 : f32[%d,%d]) -> ({}, {}) {\n"
               "  %%2 = rope %%0, %%1 {inverse = %s} : f32[%s]\n"
               "  %%3 = mul %%2, %%0 : f32[%s]\n"
               "  %%4 = reduce_sum %%3 {axes = [3]} : f32[%d,%d,%d,1]\n"
               "  %%5 = add %%2, %%4 : f32[%s]\n"
               "  return %%2, %%5\n}",
               shape, dims[i][1], dims[i][3], inverse ? "true" : "false", shape, shape, dims[i][0], dims[i][1],
               dims[i][2], shape);
      MuseHarnessReport r = run_text("map", text, NULL);
      cr_expect_lt(r.worst, 1e-6, "[%s]: %g", shape, r.worst);
    }
}

Test(emit_map, stochastic_round) {
  static const int columns[] = {1, 7, 64, 100};
  for (int i = 0; i < 4; i++) {
    int c = columns[i];
    char text[700];
    snprintf(text, sizeof text,
             "func @f(%%0 : f32[11,%d], %%1 : u32[2], %%2 : f32[11,1]) -> ({}, {}, {}) {\n"
             "  %%3 = stochastic_round %%0, %%1 {rng_id = 123456789012} : f32[11,%d]\n"
             "  %%4 = mul %%0, %%2 : f32[11,%d]\n"
             "  %%5 = stochastic_round %%4, %%1 {rng_id = 4} : f32[11,%d]\n"
             "  %%6 = cast %%5 {to = i8} : i8[11,%d]\n"
             "  %%7 = stochastic_round %%2, %%1 {rng_id = 5} : f32[11,1]\n"
             "  return %%3, %%6, %%7\n}",
             c, c, c, c, c);
    MuseHarness h = {.round_storage = true};
    MuseHarnessReport r = run_text("map", text, &h);
    for (int o = 0; o < 3; o++) cr_expect_eq(r.differing[o], 0, "%d columns, result %d: %g", c, o, r.differing[o]);
  }
}

Test(emit_map, scalars_only) {
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[], %1 : f32[1,1]) -> ({}, {}) {\n"
                                 "  %2 = sqrt %0 : f32[]\n  %3 = add %0, %1 : f32[1,1]\n  return %2, %3\n}",
                                 &(MuseHarness){.seed = 3});
  cr_expect_lt(r.worst, 1e-6, "%g", r.worst);
}

// A scalar that is yielded beside a tensor is stored once.
Test(emit_map, scalar_beside_tensor) {
  MuseHarnessReport r = run_text("map",
                                 "func @f(%0 : f32[], %1 : f32[70000]) -> ({}, {}) {\n"
                                 "  %2 = exp %0 : f32[]\n  %3 = mul %1, %2 : f32[70000]\n  return %2, %3\n}",
                                 NULL);
  cr_expect_lt(r.worst, 1e-6, "%g", r.worst);
}

// ---- transpose ----

Test(emit_map, transpose) {
  static const struct {
    const char *from, *perm, *to;
  } cases[] = {
      {"f32[64,48]", "1, 0", "f32[48,64]"},
      {"f32[33,70]", "1, 0", "f32[70,33]"},
      {"i8[50,37]", "1, 0", "i8[37,50]"},
      {"bf16[40,96]", "1, 0", "bf16[96,40]"},
      {"f64[35,34]", "1, 0", "f64[34,35]"},
      {"bool[20,35]", "1, 0", "bool[35,20]"},
      {"f32[2,9,3,20]", "0, 2, 1, 3", "f32[2,3,9,20]"},
      {"f32[2,35,5,16]", "0, 2, 3, 1", "f32[2,5,16,35]"},
      {"f32[3,4,5,6,7]", "4, 2, 0, 3, 1", "f32[7,5,3,6,4]"},
      {"f32[7]", "0", "f32[7]"},
      {"i32[1,5,1]", "2, 0, 1", "i32[1,1,5]"},
      {"f16[3,40,33]", "2, 1, 0", "f16[33,40,3]"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[300];
    snprintf(text, sizeof text,
             "func @f(%%0 : %s) -> ({}) {\n  %%1 = transpose %%0 {perm = [%s]} : %s\n  return %%1\n}", cases[i].from,
             cases[i].perm, cases[i].to);
    MuseHarnessReport r = run_text("transpose", text, NULL);
    cr_expect_eq(r.error[0], 0, "%s by %s", cases[i].from, cases[i].perm);
  }
}
