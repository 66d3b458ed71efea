// Cases of the products of bytes and trits, and of packing: shapes that reach every tile and every edge, all levels and
// dtypes of epilogues, several anchors.
#include "tests/unit/cuda_cases.h"

#include "ir/base/str.h"

#include <stdio.h>

typedef enum Epilogue { SUMS, SCALED, EVERYTHING } Epilogue;

static const char *const epilogue_names[] = {"sums", "scaled", "everything"};

// Arguments from %2 on, after the operands of the product.
static const char *arguments(Epilogue e, int M, int N) {
  static char text[256];
  if (e == SUMS) return "";
  int n = snprintf(text, sizeof text, ", %%2 : f32[%d,1]", M);
  if (e == EVERYTHING)
    snprintf(text + n, sizeof text - (size_t)n,
             ", %%3 : f32[%d], %%4 : f32[], %%5 : f32[%d,%d], %%6 : bf16[%d,%d], %%7 : u32[2]", N, M, N, M, N);
  return text;
}

// From the sums %20 to the return.
static void append_epilogue(MuseStr *s, Epilogue e, int M, int N) {
  char f32[48], bf16[48], i8[48], boolean[48];
  snprintf(f32, sizeof f32, "f32[%d,%d]", M, N);
  snprintf(bf16, sizeof bf16, "bf16[%d,%d]", M, N);
  snprintf(i8, sizeof i8, "i8[%d,%d]", M, N);
  snprintf(boolean, sizeof boolean, "bool[%d,%d]", M, N);
  if (e == SUMS) {
    muse_str_append(s, "  return %20\n}");
    return;
  }
  muse_str_appendf(s, "  %%21 = cast %%20 {to = f32} : %s\n  %%22 = mul %%21, %%2 : %s\n", f32, f32);
  if (e == SCALED) {
    muse_str_appendf(s, "  %%23 = cast %%22 {to = bf16} : %s\n  return %%23\n}", bf16);
    return;
  }
  muse_str_appendf(s, "  %%23 = mul %%21, %%3 : %s\n  %%24 = mul %%22, %%4 : %s\n  %%25 = add %%24, %%5 : %s\n", f32,
                   f32, f32);
  muse_str_appendf(s, "  %%26 = cast %%6 {to = f32} : %s\n  %%27 = sub %%25, %%26 : %s\n", f32, f32);
  muse_str_appendf(s, "  %%28 = cast %%27 {to = bf16} : %s\n  %%29 = const {value = 0.001} : f32[]\n", bf16);
  muse_str_appendf(s, "  %%30 = mul %%21, %%29 : %s\n  %%31 = tanh %%30 : %s\n", f32, f32);
  muse_str_appendf(s, "  %%32 = const {value = 100.0} : f32[]\n  %%33 = mul %%31, %%32 : %s\n", f32);
  muse_str_appendf(s, "  %%34 = stochastic_round %%33, %%7 {rng_id = 77} : %s\n  %%35 = cast %%34 {to = i8} : %s\n",
                   f32, i8);
  muse_str_appendf(s, "  %%36 = less %%23, %%5 : %s\n  %%37 = select %%36, %%23, %%5 : %s\n", boolean, f32);
  muse_str_append(s, "  return %25, %28, %35, %36, %37, %20\n}");
}

static void append_results(MuseStr *s, Epilogue e) {
  muse_str_append(s, e == EVERYTHING ? ") -> ({}, {}, {}, {}, {}, {}) {\n" : ") -> ({}) {\n");
}

static void add_ternary(MuseCudaCaseList *list, const char *trits, int M, int N, int K, Epilogue e) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "%s product %dx%dx%d, %s", trits, M, N, K, epilogue_names[e]);
  muse_str_appendf(&s, "func @f(%%0 : i8[%d,%d], %%1 : %s[%d,%d]%s", M, K, trits, N, K, arguments(e, M, N));
  append_results(&s, e);
  muse_str_appendf(&s, "  %%20 = ternary_matmul %%0, %%1 : i32[%d,%d]\n", M, N);
  append_epilogue(&s, e, M, N);
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-5, &s);
  list->item[list->n - 1].shaky = e == EVERYTHING; // tanh in front of rounding, a comparison of floats
  muse_str_free(&s);
}

static void add_bytes(MuseCudaCaseList *list, int M, int N, int K, Epilogue e) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "int8 product %dx%dx%d, %s", M, N, K, epilogue_names[e]);
  muse_str_appendf(&s, "func @f(%%0 : i8[%d,%d], %%1 : i8[%d,%d]%s", K, M, K, N, arguments(e, M, N));
  append_results(&s, e);
  muse_str_appendf(&s, "  %%20 = int8_matmul %%0, %%1 : i32[%d,%d]\n", M, N);
  append_epilogue(&s, e, M, N);
  muse_cuda_add_case(list, "int8_matmul", label, 1e-5, &s);
  list->item[list->n - 1].shaky = e == EVERYTHING;
  muse_str_free(&s);
}

// Three matrices with their epilogues, as of queries, keys and values.
static void add_three(MuseCudaCaseList *list, const char *const trits[3], int M, const int N[3], int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "three of %s %s %s %dx%dx%d", trits[0], trits[1], trits[2], M, N[0], K);
  muse_str_appendf(&s, "func @f(%%0 : i8[%d,%d]", M, K);
  for (int i = 0; i < 3; i++)
    muse_str_appendf(&s, ", %%%d : %s[%d,%d], %%%d : f32[%d,1]", 2 * i + 1, trits[i], N[i], K, 2 * i + 2, M);
  muse_str_append(&s, ") -> ({}, {}, {}) {\n");
  for (int i = 0; i < 3; i++) {
    muse_str_appendf(&s, "  %%%d = ternary_matmul %%0, %%%d : i32[%d,%d]\n", 10 * i + 10, 2 * i + 1, M, N[i]);
    muse_str_appendf(&s, "  %%%d = cast %%%d {to = f32} : f32[%d,%d]\n", 10 * i + 11, 10 * i + 10, M, N[i]);
    muse_str_appendf(&s, "  %%%d = mul %%%d, %%%d : f32[%d,%d]\n", 10 * i + 12, 10 * i + 11, 2 * i + 2, M, N[i]);
    muse_str_appendf(&s, "  %%%d = cast %%%d {to = bf16} : bf16[%d,%d]\n", 10 * i + 13, 10 * i + 12, M, N[i]);
  }
  muse_str_append(&s, "  return %13, %23, %33\n}");
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-5, &s);
  muse_str_free(&s);
}

static void add_pack(MuseCudaCaseList *list, const char *trits, int N, int K, bool transposed, bool grid) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "pack %s %dx%d%s%s", trits, N, K, transposed ? " transposed" : "",
           grid ? " i8" : "");
  muse_str_appendf(&s,
                   "func @f(%%0 : %s[%d,%d], %%1 : f32[]%s) -> ({}) {\n"
                   "  %%3 = pack_trits %%0, %%1%s {dtype = %s, transpose = %s} : %s[%d,%d]\n  return %%3\n}",
                   grid ? "i8" : "f32", N, K, grid ? ", %2 : f32[]" : "", grid ? ", %2" : "", trits,
                   transposed ? "true" : "false", trits, transposed ? K : N, transposed ? N : K);
  muse_cuda_add_case(list, "pack_trits", label, 0, &s);
  muse_str_free(&s);
}

static void add_unpack(MuseCudaCaseList *list, const char *trits, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "unpack %s %dx%d", trits, N, K);
  muse_str_appendf(&s, "func @f(%%0 : %s[%d,%d]) -> ({}) {\n  %%1 = unpack_trits %%0 : i8[%d,%d]\n  return %%1\n}",
                   trits, N, K, N, K);
  muse_cuda_add_case(list, "unpack_trits", label, 0, &s);
  muse_str_free(&s);
}

int muse_cuda_product_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const char *const t222[] = {"t2", "t2", "t2"}, *const t252[] = {"t2", "t5", "t2"},
                           *const t555[] = {"t5", "t5", "t5"};
  // Tiles, small ones first; the last three are large enough for the other tiles.
  add_ternary(&list, "t2", 9, 1, 1, EVERYTHING);
  add_ternary(&list, "t2", 17, 33, 100, EVERYTHING);
  add_ternary(&list, "t2", 64, 64, 256, SUMS);
  add_ternary(&list, "t2", 65, 130, 304, EVERYTHING);
  add_ternary(&list, "t5", 100, 132, 1600, EVERYTHING);
  add_ternary(&list, "t5", 33, 1, 641, SCALED);
  add_ternary(&list, "t2", 9, 520, 2000, SCALED);
  add_ternary(&list, "t5", 70, 66, 5200, SUMS);
  add_ternary(&list, "t2", 500, 2000, 400, SCALED);
  add_ternary(&list, "t2", 999, 2000, 90, EVERYTHING);
  add_ternary(&list, "t2", 2041, 4098, 80, SCALED);
  add_three(&list, t222, 40, (const int[]){64, 40, 72}, 512);
  add_three(&list, t252, 21, (const int[]){70, 33, 64}, 300);
  add_three(&list, t555, 130, (const int[]){80, 80, 80}, 960);
  // Few rows.
  for (int M = 1; M <= 8; M++)
    add_ternary(&list, M % 2 ? "t2" : "t5", M, 40 + 5 * M, 300 * M + 16, M % 3 ? SCALED : EVERYTHING);
  add_ternary(&list, "t2", 1, 1, 1, EVERYTHING);
  add_ternary(&list, "t5", 1, 17, 5, EVERYTHING);
  add_ternary(&list, "t2", 1, 100, 5120, SCALED);
  add_ternary(&list, "t5", 1, 64, 20480, SCALED);
  add_ternary(&list, "t2", 8, 35, 20480, SUMS);
  add_ternary(&list, "t5", 7, 20, 40001, SUMS);
  add_three(&list, t222, 1, (const int[]){160, 80, 80}, 1600);
  add_three(&list, t252, 3, (const int[]){70, 33, 1}, 777);
  add_three(&list, t555, 8, (const int[]){16, 32, 48}, 640);
  // Bytes.
  add_bytes(&list, 1, 1, 1, EVERYTHING);
  add_bytes(&list, 3, 5, 60000, SUMS);
  add_bytes(&list, 33, 45, 70, EVERYTHING);
  add_bytes(&list, 48, 80, 128, EVERYTHING);
  add_bytes(&list, 160, 129, 300, SCALED);
  add_bytes(&list, 500, 2000, 77, SCALED);
  add_bytes(&list, 1008, 2000, 96, EVERYTHING);
  // Packing.
  static const int sizes[][2] = {{1, 1}, {5, 3}, {64, 320}, {70, 129}, {33, 1600}, {515, 260}, {640, 512}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int five = 0; five < 2; five++) {
      add_pack(&list, five ? "t5" : "t2", sizes[i][0], sizes[i][1], false, i % 2 == 0);
      add_pack(&list, five ? "t5" : "t2", sizes[i][0], sizes[i][1], true, i % 2 == 0);
      add_unpack(&list, five ? "t5" : "t2", sizes[i][0], sizes[i][1]);
    }
  return list.n;
}

// Weights of few rows lie beyond the cache.
static void add_cold(MuseCudaCaseList *list, const char *trits, int M, int N, int K) {
  add_ternary(list, trits, M, N, K, SCALED);
  list->item[list->n - 1].cold = true;
}

int muse_cuda_product_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const char *const t222[] = {"t2", "t2", "t2"};
  add_ternary(&list, "t2", 4096, 20480, 5120, SCALED);
  add_ternary(&list, "t5", 4096, 20480, 5120, SCALED);
  add_ternary(&list, "t2", 4096, 5120, 20480, SCALED);
  add_ternary(&list, "t2", 4096, 5120, 5120, SCALED);
  add_three(&list, t222, 4096, (const int[]){5120, 5120, 5120}, 5120);
  add_ternary(&list, "t2", 512, 5120, 5120, SCALED);
  add_ternary(&list, "t2", 512, 20480, 5120, SCALED);
  add_ternary(&list, "t2", 256, 5120, 5120, SCALED);
  add_ternary(&list, "t2", 256, 20480, 5120, SCALED);
  add_ternary(&list, "t2", 128, 20480, 5120, SCALED);
  add_ternary(&list, "t2", 1024, 5120, 5120, SCALED);
  add_ternary(&list, "t2", 1024, 20480, 5120, SCALED);
  add_ternary(&list, "t2", 16384, 6400, 1600, SCALED);
  add_bytes(&list, 20480, 5120, 4096, SUMS);
  add_bytes(&list, 5120, 5120, 4096, SUMS);
  add_bytes(&list, 6400, 1600, 16384, SUMS);
  static const int few[] = {1, 2, 4, 8, 16, 64};
  for (int i = 0; i < 6; i++) {
    add_cold(&list, "t2", few[i], 20480, 5120);
    add_cold(&list, "t5", few[i], 20480, 5120);
  }
  add_cold(&list, "t2", 1, 5120, 20480);
  add_cold(&list, "t2", 1, 5120, 5120);
  add_three(&list, t222, 1, (const int[]){5120, 5120, 5120}, 5120);
  list.item[list.n - 1].cold = true;
  add_pack(&list, "t2", 20480, 5120, false, false);
  add_pack(&list, "t2", 20480, 5120, true, false);
  add_pack(&list, "t5", 20480, 5120, false, false);
  add_pack(&list, "t5", 20480, 5120, true, false);
  add_pack(&list, "t2", 20480, 5120, false, true);
  add_pack(&list, "t2", 20480, 5120, true, true);
  add_unpack(&list, "t2", 20480, 5120);
  add_unpack(&list, "t5", 20480, 5120);
  return list.n;
}
