// See the header.
#include "tests/unit/cuda_cases.h"

#include "compiler/emit_cuda.h"
#include "compiler/pipeline.h"
#include "ir/base/status.h"
#include "ir/text.h"
#include "tests/unit/kernel_support.h"
#include "tests/unit/random_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct List {
  MuseCudaCase *item;
  int n, capacity;
} List;

MuseCudaCase muse_cuda_case_of_text(const char *name, const char *skeleton, double bound, const char *text) {
  MuseDiag *diag = muse_diag_create();
  MuseStr whole = {0};
  MuseCudaCase c = {.bound = bound};
  snprintf(c.name, sizeof c.name, "%.*s", (int)sizeof c.name - 1, name);
  muse_str_appendf(&whole, "module {level = \"tensor\"} source \"\"\n%s\n", text);
  if (muse_module_parse(name, muse_str_text(&whole), whole.len, &c.module, diag) != MUSE_OK ||
      muse_ops_verify(c.module, diag) != MUSE_OK) {
    muse_diag_print(diag, stderr);
    MUSE_ASSERT(!"text of a case");
  }
  c.kernel = muse_harness_outline(c.module, c.module->first_func, skeleton);
  muse_str_free(&whole);
  muse_diag_destroy(diag);
  return c;
}

static void add(List *list, const char *name, const char *skeleton, double bound, const char *text) {
  MUSE_ASSERT(list->n < list->capacity);
  list->item[list->n++] = muse_cuda_case_of_text(name, skeleton, bound, text);
}

// $C in the text becomes the number of columns, $R that of rows.
static void add_sized(List *list, const char *name, double bound, int rows, int columns, const char *text) {
  MuseStr s = {0}, label = {0};
  for (const char *p = text; *p; p++) {
    if (*p == '$') muse_str_appendf(&s, "%d", *++p == 'C' ? columns : rows);
    else muse_str_append_n(&s, p, 1);
  }
  muse_str_appendf(&label, "%s %d x %d", name, rows, columns);
  add(list, muse_str_text(&label), "map", bound, muse_str_text(&s));
  muse_str_free(&s);
  muse_str_free(&label);
}

static void add_transpose(List *list, const char *from, const char *perm, const char *to) {
  MuseStr s = {0}, label = {0};
  muse_str_appendf(&s, "func @f(%%0 : %s) -> ({}) {\n  %%1 = transpose %%0 {perm = [%s]} : %s\n  return %%1\n}", from,
                   perm, to);
  muse_str_appendf(&label, "transpose %s by %s", from, perm);
  add(list, muse_str_text(&label), "transpose", 1e-300, muse_str_text(&s));
  muse_str_free(&s);
  muse_str_free(&label);
}

static void add_gather(List *list, const char *dtype, int V, int B, int T, int D) {
  MuseStr s = {0}, label = {0};
  muse_str_appendf(&s,
                   "func @f(%%0 : %s[%d,%d], %%1 : i32[%d,%d]) -> ({}) {\n  %%2 = gather_rows %%0, %%1 : %s[%d,%d,%d]\n"
                   "  return %%2\n}",
                   dtype, V, D, B, T, dtype, B, T, D);
  muse_str_appendf(&label, "gather %s %d x %d", dtype, V, D);
  add(list, muse_str_text(&label), "gather_rows", 1e-300, muse_str_text(&s));
  muse_str_free(&s);
  muse_str_free(&label);
}

static void add_casts(List *list) {
  static const char *const names[] = {"f32", "bf16", "f16", "f64", "i8", "u8", "i32", "u32", "i64", "bool"};
  for (int a = 0; a < 10; a++) {
    MuseStr s = {0}, label = {0};
    muse_str_append(&s, "func @f(%0 : i32[3,40]) -> ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}) {\n");
    muse_str_appendf(&s, "  %%1 = cast %%0 {to = %s} : %s[3,40]\n", names[a], names[a]);
    for (int b = 0; b < 10; b++)
      muse_str_appendf(&s, "  %%%d = cast %%1 {to = %s} : %s[3,40]\n", 2 + b, names[b], names[b]);
    muse_str_append(&s, "  return %2, %3, %4, %5, %6, %7, %8, %9, %10, %11\n}");
    muse_str_appendf(&label, "casts from %s", names[a]);
    add(list, muse_str_text(&label), "map", 1e-300, muse_str_text(&s));
    muse_str_free(&s);
    muse_str_free(&label);
  }
}

static void add_rope(List *list, int B, int T, int H, int d, bool inverse) {
  MuseStr s = {0}, label = {0};
  char shape[64];
  snprintf(shape, sizeof shape, "%d,%d,%d,%d", B, T, H, d);
  muse_str_appendf(&s,
                   "func @f(%%0 : f32[%s], %%1 : f32[%d,%d]) -> ({}, {}) {\n"
                   "  %%2 = rope %%0, %%1 {inverse = %s} : f32[%s]\n  %%3 = mul %%2, %%0 : f32[%s]\n"
                   "  %%4 = reduce_sum %%3 {axes = [3]} : f32[%d,%d,%d,1]\n  %%5 = add %%2, %%4 : f32[%s]\n"
                   "  return %%2, %%5\n}",
                   shape, T, d, inverse ? "true" : "false", shape, shape, B, T, H, shape);
  muse_str_appendf(&label, "rope %s", shape);
  add(list, muse_str_text(&label), "map", 2e-6, muse_str_text(&s));
  muse_str_free(&s);
  muse_str_free(&label);
}

static const char quantise[] =
    "func @f(%0 : f32[$R,$C], %1 : f32[$C]) -> ({}, {}, {}) {\n"
    "  %2 = mul %0, %0 : f32[$R,$C]\n  %3 = reduce_sum %2 {axes = [1]} : f32[$R,1]\n"
    "  %4 = const {value = 0.0081} : f32[]\n  %5 = mul %3, %4 : f32[$R,1]\n  %6 = rsqrt %5 : f32[$R,1]\n"
    "  %7 = mul %0, %6 : f32[$R,$C]\n  %8 = mul %7, %1 : f32[$R,$C]\n  %9 = abs %8 : f32[$R,$C]\n"
    "  %10 = reduce_max %9 {axes = [1]} : f32[$R,1]\n  %11 = const {value = 127} : f32[]\n"
    "  %12 = div %11, %10 : f32[$R,1]\n  %13 = mul %8, %12 : f32[$R,$C]\n  %14 = round %13 : f32[$R,$C]\n"
    "  %15 = cast %14 {to = i8} : i8[$R,$C]\n  return %15, %10, %8\n}";
static const char softmax[] =
    "func @f(%0 : f32[$R,$C]) -> ({}, {}) {\n  %1 = reduce_max %0 {axes = [1]} : f32[$R,1]\n"
    "  %2 = sub %0, %1 : f32[$R,$C]\n  %3 = exp %2 : f32[$R,$C]\n  %4 = reduce_sum %3 {axes = [1]} : f32[$R,1]\n"
    "  %5 = div %3, %4 : f32[$R,$C]\n  %6 = log %4 : f32[$R,1]\n  %7 = add %6, %1 : f32[$R,1]\n  return %5, %7\n}";
static const char columns_only[] =
    "func @f(%0 : f32[$R,$C], %1 : bf16[$R,1]) -> ({}, {}, {}) {\n  %2 = cast %1 {to = f32} : f32[$R,1]\n"
    "  %3 = mul %0, %2 : f32[$R,$C]\n  %4 = abs %3 : f32[$R,$C]\n  %5 = reduce_sum %4 {axes = [0]} : f32[1,$C]\n"
    "  %6 = reduce_max %3 {axes = [0]} : f32[1,$C]\n  return %3, %5, %6\n}";
// The gradient of a norm: row sums, then sums over the rows.
static const char columns_after_rows[] =
    "func @f(%0 : f32[$R,$C], %1 : f32[$R,$C]) -> ({}, {}, {}) {\n  %2 = mul %0, %0 : f32[$R,$C]\n"
    "  %3 = reduce_sum %2 {axes = [1]} : f32[$R,1]\n  %4 = sqrt %3 : f32[$R,1]\n  %5 = div %1, %4 : f32[$R,$C]\n"
    "  %6 = abs %5 : f32[$R,$C]\n  %7 = reduce_sum %6 {axes = [0]} : f32[1,$C]\n"
    "  %8 = reduce_sum %3 {axes = [0]} : f32[1,1]\n  return %5, %7, %8\n}";
static const char random_rounds[] =
    "func @f(%0 : f32[$R,$C], %1 : u32[2], %2 : f32[$R,1], %3 : f32[$C]) -> ({}, {}, {}, {}) {\n"
    "  %4 = stochastic_round %0, %1 {rng_id = 123456789012} : f32[$R,$C]\n  %5 = mul %0, %2 : f32[$R,$C]\n"
    "  %6 = stochastic_round %5, %1 {rng_id = 4} : f32[$R,$C]\n  %7 = cast %6 {to = i8} : i8[$R,$C]\n"
    "  %8 = stochastic_round %2, %1 {rng_id = 5} : f32[$R,1]\n  %9 = stochastic_round %3, %1 {rng_id = 6} : f32[$C]\n"
    "  %10 = add %9, %4 : f32[$R,$C]\n  return %4, %7, %8, %10\n}";
static const char flat_sums[] =
    "func @f(%0 : f32[$R,$C], %1 : bf16[$R,$C], %2 : f32[]) -> ({}, {}, {}, {}) {\n"
    "  %3 = cast %1 {to = f32} : f32[$R,$C]\n  %4 = mul %0, %3 : f32[$R,$C]\n  %5 = mul %4, %4 : f32[$R,$C]\n"
    "  %6 = reduce_sum %5 {axes = [0, 1]} : f32[1,1]\n  %7 = reduce_max %4 {axes = [0, 1]} : f32[1,1]\n"
    "  %8 = exp %2 : f32[]\n  %9 = mul %4, %8 : f32[$R,$C]\n  return %9, %6, %7, %8\n}";
// Sums that keep leading dimensions only, from a value of the rows and from values of all columns.
static const char sums_of_heads[] =
    "func @f(%0 : f32[6,$R,5,$C]) -> ({}, {}, {}, {}) {\n  %1 = abs %0 : f32[6,$R,5,$C]\n"
    "  %2 = reduce_sum %1 {axes = [3]} : f32[6,$R,5,1]\n  %3 = mul %0, %2 : f32[6,$R,5,$C]\n"
    "  %4 = mul %2, %2 : f32[6,$R,5,1]\n  %5 = reduce_sum %4 {axes = [0, 1]} : f32[1,1,5,1]\n"
    "  %6 = reduce_sum %1 {axes = [1, 3]} : f32[6,1,5,1]\n  %7 = reduce_max %0 {axes = [0, 2, 3]} : f32[1,$R,1,1]\n"
    "  return %3, %5, %6, %7\n}";
// By what is the same in a row, in a column, everywhere; zeros; divisors near the ends of the range.
static const char divisions[] =
    "func @f(%0 : f32[$R,$C], %1 : f32[$R,1], %2 : f32[$C], %3 : f32[]) -> ({}, {}, {}, {}, {}, {}) {\n"
    "  %4 = const {value = 0} : f32[]\n  %5 = max %0, %4 : f32[$R,$C]\n  %6 = div %5, %1 : f32[$R,$C]\n"
    "  %7 = div %5, %2 : f32[$R,$C]\n  %8 = div %5, %3 : f32[$R,$C]\n  %9 = const {value = 1e-38} : f32[]\n"
    "  %10 = mul %1, %9 : f32[$R,1]\n  %11 = const {value = 1e-30} : f32[]\n  %12 = mul %5, %11 : f32[$R,$C]\n"
    "  %13 = div %12, %10 : f32[$R,$C]\n  %14 = const {value = 1e38} : f32[]\n  %15 = mul %1, %14 : f32[$R,1]\n"
    "  %16 = mul %5, %14 : f32[$R,$C]\n  %17 = div %16, %15 : f32[$R,$C]\n  %18 = abs %2 : f32[$C]\n"
    "  %19 = exp %18 : f32[$C]\n  %20 = div %0, %19 : f32[$R,$C]\n"
    "  return %6, %7, %8, %13, %17, %20\n}";

static int map_cases(MuseCudaCase *out, int capacity) {
  List list = {.item = out, .capacity = capacity};
  static const int columns[] = {1, 2, 3, 16, 33, 64, 100, 128, 515, 640, 1600, 5120, 20480, 33000};
  for (int i = 0; i < 14; i++) {
    int C = columns[i], R = C > 1000 ? 9 : 37;
    add_sized(&list, "quantise", 1e-5, R, C, quantise);
    list.item[list.n - 1].shaky = true;
    add_sized(&list, "softmax", 2e-6, R, C, softmax);
    add_sized(&list, "column sums", 2e-6, C > 1000 ? 70 : 700, C, columns_only);
    add_sized(&list, "norm gradient", 4e-6, C > 1000 ? 70 : 700, C, columns_after_rows);
    add_sized(&list, "stochastic rounding", 1e-300, 11, C, random_rounds);
    add_sized(&list, "sums of everything", 2e-6, 77, C, flat_sums);
    if (C < 1000) add_sized(&list, "sums of heads", 4e-6, C > 100 ? 7 : 33, C, sums_of_heads);
  }
  add_sized(&list, "divisions", 2.5e-7, 67, 36, divisions);
  add_sized(&list, "divisions", 2.5e-7, 5, 20480, divisions);
  add_sized(&list, "one row of many", 2e-6, 1, 300008, flat_sums);
  add_sized(&list, "odd and many", 2e-6, 1, 300007, flat_sums);
  add(&list, "sums over all kinds of axes", "map", 4e-6,
      "func @f(%0 : f32[5,37,19], %1 : f32[5,1,1]) -> ({}, {}, {}, {}, {}, {}, {}) {\n"
      "  %2 = mul %0, %1 : f32[5,37,19]\n  %3 = reduce_max %2 {axes = [0, 1]} : f32[1,1,19]\n  %20 = abs %2 : "
      "f32[5,37,19]\n"
      "  %4 = reduce_sum %20 {axes = [0, 1, 2]} : f32[1,1,1]\n  %5 = reduce_max %2 {axes = [0]} : f32[1,37,19]\n"
      "  %6 = reduce_sum %20 {axes = [1, 2]} : f32[5,1,1]\n  %7 = reduce_sum %20 {axes = [2]} : f32[5,37,1]\n"
      "  %8 = mul %7, %7 : f32[5,37,1]\n  %9 = reduce_sum %8 {axes = [0, 1]} : f32[1,1,1]\n"
      "  %10 = reduce_max %8 {axes = [0]} : f32[1,37,1]\n  return %3, %4, %5, %6, %7, %9, %10\n}");
  add(&list, "sums of places that move, long rows", "map", 4e-6,
      "func @f(%0 : f32[6,11,700]) -> ({}, {}, {}) {\n  %1 = abs %0 : f32[6,11,700]\n"
      "  %2 = reduce_sum %1 {axes = [0]} : f32[1,11,700]\n  %3 = reduce_sum %1 {axes = [0, 2]} : f32[1,11,1]\n"
      "  %4 = reduce_sum %1 {axes = [2]} : f32[6,11,1]\n  return %2, %3, %4\n}");
  add(&list, "whole numbers", "map", 1e-300,
      "func @f(%0 : i32[50,60], %1 : i32[60]) -> ({}, {}, {}, {}) {\n  %2 = mul %0, %1 : i32[50,60]\n"
      "  %3 = reduce_sum %2 {axes = [1]} : i32[50,1]\n  %4 = reduce_max %2 {axes = [0]} : i32[1,60]\n"
      "  %5 = cast %3 {to = i64} : i64[50,1]\n  %6 = reduce_sum %5 {axes = [0]} : i64[1,1]\n  return %2, %3, %4, "
      "%6\n}");
  add(&list, "broadcasts of all kinds", "map", 2e-6,
      "func @f(%0 : f32[4,1,6,24], %1 : bf16[5,1,24], %2 : f16[6,1], %3 : f64[4,5,1,1], %4 : f32[24]) -> ({}) {\n"
      "  %5 = cast %1 {to = f32} : f32[5,1,24]\n  %6 = cast %2 {to = f32} : f32[6,1]\n"
      "  %7 = cast %3 {to = f32} : f32[4,5,1,1]\n  %8 = add %0, %5 : f32[4,5,6,24]\n  %9 = mul %8, %6 : f32[4,5,6,24]\n"
      "  %10 = sub %9, %7 : f32[4,5,6,24]\n  %11 = mul %10, %4 : f32[4,5,6,24]\n  return %11\n}");
  add(&list, "functions", "map", 2e-6,
      "func @f(%0 : f32[7,64]) -> ({}, {}, {}, {}, {}, {}, {}, {}, {}) {\n  %1 = exp %0 : f32[7,64]\n"
      "  %2 = log %1 : f32[7,64]\n  %3 = tanh %0 : f32[7,64]\n  %4 = sigmoid %0 : f32[7,64]\n  %5 = softplus %0 : "
      "f32[7,64]\n"
      "  %6 = sin %0 : f32[7,64]\n  %7 = cos %0 : f32[7,64]\n  %8 = floor %0 : f32[7,64]\n  %9 = recip %1 : f32[7,64]\n"
      "  return %1, %2, %3, %4, %5, %6, %7, %8, %9\n}");
  add(&list, "functions in f64", "map", 1e-13,
      "func @f(%0 : f64[7,64]) -> ({}, {}, {}, {}, {}, {}, {}) {\n  %1 = exp %0 : f64[7,64]\n"
      "  %2 = log %1 : f64[7,64]\n  %3 = tanh %0 : f64[7,64]\n  %4 = sigmoid %0 : f64[7,64]\n  %5 = softplus %0 : "
      "f64[7,64]\n"
      "  %6 = rsqrt %1 : f64[7,64]\n  %7 = reduce_sum %1 {axes = [1]} : f64[7,1]\n"
      "  return %1, %2, %3, %4, %5, %6, %7\n}");
  add(&list, "scalars only", "map", 1e-6,
      "func @f(%0 : f32[], %1 : f32[1,1]) -> ({}, {}) {\n  %2 = exp %0 : f32[]\n  %3 = add %0, %1 : f32[1,1]\n"
      "  return %2, %3\n}");
  add_rope(&list, 2, 5, 3, 64, false);
  add_rope(&list, 1, 7, 1, 32, true);
  add_rope(&list, 2, 3, 2, 6, false);
  add_rope(&list, 1, 2, 3, 20, true);
  add_rope(&list, 1, 3, 2, 512, false);
  add_casts(&list);
  add_transpose(&list, "f32[64,48]", "1, 0", "f32[48,64]");
  add_transpose(&list, "f32[33,70]", "1, 0", "f32[70,33]");
  add_transpose(&list, "i8[150,137]", "1, 0", "i8[137,150]");
  add_transpose(&list, "bf16[40,96]", "1, 0", "bf16[96,40]");
  add_transpose(&list, "f64[35,34]", "1, 0", "f64[34,35]");
  add_transpose(&list, "bool[20,35]", "1, 0", "bool[35,20]");
  add_transpose(&list, "f32[2,9,3,20]", "0, 2, 1, 3", "f32[2,3,9,20]");
  add_transpose(&list, "f32[2,35,5,16]", "0, 2, 3, 1", "f32[2,5,16,35]");
  add_transpose(&list, "f32[3,4,5,6,7]", "4, 2, 0, 3, 1", "f32[7,5,3,6,4]");
  add_transpose(&list, "f32[7]", "0", "f32[7]");
  add_transpose(&list, "i32[1,5,1]", "2, 0, 1", "i32[1,1,5]");
  add_transpose(&list, "f16[3,40,33]", "2, 1, 0", "f16[33,40,3]");
  add_gather(&list, "f32", 5, 1, 1, 1);
  add_gather(&list, "f32", 17, 3, 5, 7);
  add_gather(&list, "f32", 257, 2, 129, 128);
  add_gather(&list, "bf16", 31, 2, 9, 77);
  return list.n;
}

static const char adamw[] =
    "func @f(%0 : f32[$R,$C], %1 : f32[$R,$C], %2 : f32[$R,$C], %3 : f32[$R,$C], %4 : f32[]) -> ({}, {}, {}, {}) {\n"
    "  %5 = const {value = 0.9} : f32[]\n  %6 = const {value = 0.1} : f32[]\n  %7 = mul %2, %5 : f32[$R,$C]\n"
    "  %8 = mul %1, %6 : f32[$R,$C]\n  %9 = add %7, %8 : f32[$R,$C]\n  %10 = mul %1, %1 : f32[$R,$C]\n"
    "  %11 = mul %10, %6 : f32[$R,$C]\n  %12 = abs %3 : f32[$R,$C]\n  %13 = mul %12, %5 : f32[$R,$C]\n"
    "  %14 = add %13, %11 : f32[$R,$C]\n  %15 = sqrt %14 : f32[$R,$C]\n  %16 = const {value = 1e-08} : f32[]\n"
    "  %17 = add %15, %16 : f32[$R,$C]\n  %18 = div %9, %17 : f32[$R,$C]\n  %19 = mul %18, %4 : f32[$R,$C]\n"
    "  %20 = sub %0, %19 : f32[$R,$C]\n  %21 = abs %20 : f32[$R,$C]\n"
    "  %22 = reduce_sum %21 {axes = [0, 1]} : f32[1,1]\n  return %20, %9, %14, %22\n}";
static const char points[] =
    "func @f(%0 : bf16[$R,$C], %1 : f32[$R,$C], %2 : f32[$C]) -> ({}) {\n  %3 = cast %0 {to = f32} : f32[$R,$C]\n"
    "  %4 = mul %3, %2 : f32[$R,$C]\n  %5 = add %4, %1 : f32[$R,$C]\n  %6 = cast %5 {to = bf16} : bf16[$R,$C]\n"
    "  return %6\n}";

static int map_bench_cases(MuseCudaCase *out, int capacity) {
  List list = {.item = out, .capacity = capacity};
  add_sized(&list, "points", 1e-2, 8192, 5120, points);
  add_sized(&list, "quantise", 1e-5, 8192, 5120, quantise);
  add_sized(&list, "quantise", 1e-5, 163840, 128, quantise);
  add_sized(&list, "quantise", 1e-5, 16384, 1600, quantise);
  add_sized(&list, "softmax", 2e-6, 8192, 4096, softmax);
  add_sized(&list, "column sums", 2e-6, 8192, 5120, columns_only);
  add_sized(&list, "norm gradient", 4e-6, 8192, 5120, columns_after_rows);
  add_sized(&list, "norm gradient", 4e-6, 163840, 128, columns_after_rows);
  add_sized(&list, "sums of everything", 2e-6, 8192, 5120, flat_sums);
  add_sized(&list, "stochastic rounding", 1e-300, 8192, 5120, random_rounds);
  add_sized(&list, "adamw and a sum", 2e-6, 8192, 5120, adamw);
  add_transpose(&list, "f32[8192,5120]", "1, 0", "f32[5120,8192]");
  add_transpose(&list, "bf16[8192,10240]", "1, 0", "bf16[10240,8192]");
  add_transpose(&list, "i8[16384,10240]", "1, 0", "i8[10240,16384]");
  add_transpose(&list, "f32[8,1024,40,128]", "0, 2, 1, 3", "f32[8,40,1024,128]");
  add_gather(&list, "f32", 50257, 8, 1024, 5120);
  return list.n;
}

static const MuseCudaFamily families[] = {
    {"map", map_cases, map_bench_cases},
    {"matmul", muse_cuda_matmul_cases, muse_cuda_matmul_bench_cases},
    {"head", muse_cuda_head_cases, muse_cuda_head_bench_cases},
    {"product", muse_cuda_product_cases, muse_cuda_product_bench_cases},
    {"scan", muse_cuda_scan_cases, muse_cuda_scan_bench_cases},
    {"wgmma", muse_cuda_wgmma_cases, muse_cuda_wgmma_bench_cases},
    {"window", muse_cuda_window_cases, muse_cuda_window_bench_cases},
};

int muse_cuda_named_cases(const char *argument, MuseCudaCase *out, int capacity) {
  const bool bench = strncmp(argument, "bench", 5) == 0;
  const char *rest = argument + 5; // "cases" is as long
  if ((!bench && strncmp(argument, "cases", 5) != 0) || (*rest != 0 && *rest != ':')) return -1;
  int n = 0, known = *rest == 0;
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
    if (*rest && strcmp(rest + 1, families[i].name) != 0) continue;
    known = 1;
    int (*add_cases)(MuseCudaCase *, int) = bench ? families[i].bench : families[i].cases;
    if (add_cases) n += add_cases(out + n, capacity - n);
  }
  return known ? n : -1;
}

MuseCudaCase *muse_cuda_add_text(MuseCudaCaseList *list, const char *skeleton, const char *name, double bound,
                                 const char *text) {
  MUSE_ASSERT(list->n < list->capacity);
  MuseCudaCase *c = &list->item[list->n++];
  *c = muse_cuda_case_of_text(name, skeleton, bound, text);
  return c;
}

MuseCudaCase *muse_cuda_add_case(MuseCudaCaseList *list, const char *skeleton, const char *name, double bound,
                                 MuseStr *text) {
  MuseCudaCase *c = muse_cuda_add_text(list, skeleton, name, bound, muse_str_text(text));
  muse_str_free(text);
  return c;
}

void muse_cuda_fill_documents(MuseTensor *t) {
  const int64_t T = t->type.dim[1];
  double begin = 0;
  for (int64_t i = 0; i < t->type.dim[0] * T; i++) {
    const int64_t s = i % T;
    if (s == 0 || s == 64 || (s * 7 + i / T) % 41 == 0) begin = (double)s;
    t->data[i] = begin;
  }
}

int muse_cuda_random_cases(uint32_t first, int n, MuseCudaCase *out) {
  for (int i = 0; i < n; i++) {
    out[i] = (MuseCudaCase){.bound = -1}; // muse_random_map_is_right
    snprintf(out[i].name, sizeof out[i].name, "random map %u", first + (unsigned)i);
    out[i].module = muse_random_map(first + (uint32_t)i, &out[i].kernel);
  }
  return n;
}

int muse_cuda_config_cases(const char *config, const char **overrides, MuseCudaCase *out, int capacity) {
  MuseArena *arena = muse_arena_create(); // lives as long as the module
  MuseDiag *diag = muse_diag_create();
  MuseTextList sets = {.data = overrides};
  while (overrides && overrides[sets.len]) sets.len++;
  MuseConfig c;
  MuseCompileOptions options = {.passes = {.bisect = -1}};
  MuseModule *module = NULL;
  int n = 0;
  MuseStatus status = muse_config_load(config, &sets, arena, &c, diag);
  if (status == MUSE_OK) status = muse_compile_config(&c, config, "cpu", &options, &module, diag);
  if (status != MUSE_OK) muse_diag_print(diag, stderr);
  MuseMap *seen = muse_map_create();
  MuseStr text = {0};
  for (MuseFunc *f = status == MUSE_OK ? module->first_func : NULL; f; f = f->next)
    for (MuseOp *op = f->body.first; op; op = op->next) {
      if (op->kind != MUSE_OP_kernel) continue;
      muse_str_clear(&text);
      muse_kernel_print_canonical(module, op, &text);
      if (muse_map_get(seen, muse_str_text(&text))) continue;
      muse_map_put(seen, muse_str_text(&text), op);
      MUSE_ASSERT(n < capacity);
      // Bodies that take the difference of near exponentials (sinh, acosh near 1) magnify roundings.
      out[n] = (MuseCudaCase){.module = module, .kernel = op, .bound = 1e-4, .shaky = true};
      if (strcmp(muse_op_text(op, "skeleton"), "matmul") == 0 && strstr(muse_str_text(&text), "bf16"))
        out[n].frobenius = 3e-3; // an f32 operand beside one of bf16 may be rounded
      if (muse_str_starts_with(muse_op_text(op, "skeleton"), "window_attention"))
        muse_cuda_window_values(&out[n], true);
      else muse_cuda_scan_values(&out[n]);
      snprintf(out[n].name, sizeof out[n].name, "%.40s kernel %d",
               strrchr(config, '/') ? strrchr(config, '/') + 1 : config, n);
      n++;
    }
  muse_str_free(&text);
  muse_map_destroy(seen);
  muse_diag_destroy(diag);
  return status == MUSE_OK ? n : -1;
}
