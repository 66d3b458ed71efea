// Cases of the products of int8 by warpgroups (sm_90a); the other architectures take the same kernels another way.
#include "tests/unit/cuda_cases.h"

#include "ir/base/str.h"

#include <stdio.h>

// i8 [M,K] x trits, scaled by token and channel, with a residual; and the bare sums.
static void add_ternary(MuseCudaCaseList *list, const char *trits, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], c[32];
  snprintf(c, sizeof c, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : %s[%d,%d], %%2 : f32[%d,1], %%3 : f32[%d], %%4 : f32%s) -> ({}, {}) "
                   "{\n  %%5 = ternary_matmul %%0, %%1 : i32%s\n  %%6 = cast %%5 {to = f32} : f32%s\n",
                   M, K, trits, N, K, M, N, c, c, c);
  muse_str_appendf(&s,
                   "  %%7 = mul %%6, %%2 : f32%s\n  %%8 = mul %%7, %%3 : f32%s\n  %%9 = add %%8, %%4 : f32%s\n"
                   "  return %%9, %%5\n}",
                   c, c, c);
  snprintf(label, sizeof label, "wgmma %s %d x %d x %d", trits, M, N, K);
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-6, &s);
}

// BitLinear's own product: scales, to bf16.
static void add_scaled(MuseCudaCaseList *list, const char *trits, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], c[32];
  snprintf(c, sizeof c, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : %s[%d,%d], %%2 : f32[%d,1], %%3 : f32[]) -> ({}) {\n"
                   "  %%4 = mul %%2, %%3 : f32[%d,1]\n  %%5 = ternary_matmul %%0, %%1 : i32%s\n",
                   M, K, trits, N, K, M, M, c);
  muse_str_appendf(&s,
                   "  %%6 = cast %%5 {to = f32} : f32%s\n  %%7 = mul %%6, %%4 : f32%s\n"
                   "  %%8 = cast %%7 {to = bf16} : bf16%s\n  return %%8\n}",
                   c, c, c);
  snprintf(label, sizeof label, "wgmma %s to bf16 %d x %d x %d", trits, M, N, K);
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-2, &s);
}

// A projection back to the stream of activations: the residual is added, f32 inside.
static void add_residual(MuseCudaCaseList *list, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], c[32];
  snprintf(c, sizeof c, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : t2[%d,%d], %%2 : f32[%d,1], %%3 : bf16%s) -> ({}) {\n"
                   "  %%4 = ternary_matmul %%0, %%1 : i32%s\n  %%5 = cast %%4 {to = f32} : f32%s\n"
                   "  %%6 = mul %%5, %%2 : f32%s\n",
                   M, K, N, K, M, c, c, c, c);
  muse_str_appendf(&s,
                   "  %%7 = cast %%3 {to = f32} : f32%s\n  %%8 = add %%7, %%6 : f32%s\n"
                   "  %%9 = cast %%8 {to = bf16} : bf16%s\n  return %%9\n}",
                   c, c, c);
  snprintf(label, sizeof label, "wgmma t2 + residual %d x %d x %d", M, N, K);
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-2, &s);
}

// The gradient of a weight, added to what was there (in its place, where the kernel may).
static void add_gradient(MuseCudaCaseList *list, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], c[32];
  snprintf(c, sizeof c, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : i8[%d,%d], %%2 : f32[%d,1], %%3 : f32%s) -> ({}) {\n"
                   "  %%4 = int8_matmul %%0, %%1 : i32%s\n  %%5 = cast %%4 {to = f32} : f32%s\n",
                   K, M, K, N, M, c, c, c);
  muse_str_appendf(&s, "  %%6 = mul %%5, %%2 : f32%s\n  %%7 = add %%3, %%6 : f32%s\n  return %%7\n}", c, c);
  snprintf(label, sizeof label, "wgmma int8 gradient %d x %d x %d", M, N, K);
  muse_cuda_add_case(list, "int8_matmul", label, 1e-6, &s);
}

// Q, K, V: other widths, packings and epilogues.
static void add_anchors(MuseCudaCaseList *list, int M, int K, int N0, int N1, int N2) {
  MuseStr s = {0};
  char label[64];
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : t2[%d,%d], %%2 : t5[%d,%d], %%3 : t2[%d,%d], %%4 : f32[%d,1], %%5 : "
                   "f32[%d], %%6 : bf16[%d,%d]) -> ({}, {}, {}) {\n",
                   M, K, N0, K, N1, K, N2, K, M, N1, M, N0);
  muse_str_appendf(&s,
                   "  %%7 = ternary_matmul %%0, %%1 : i32[%d,%d]\n  %%8 = ternary_matmul %%0, %%2 : i32[%d,%d]\n"
                   "  %%9 = ternary_matmul %%0, %%3 : i32[%d,%d]\n  %%10 = cast %%7 {to = f32} : f32[%d,%d]\n",
                   M, N0, M, N1, M, N2, M, N0);
  muse_str_appendf(&s,
                   "  %%11 = mul %%10, %%4 : f32[%d,%d]\n  %%12 = cast %%6 {to = f32} : f32[%d,%d]\n"
                   "  %%13 = add %%11, %%12 : f32[%d,%d]\n  %%14 = cast %%13 {to = bf16} : bf16[%d,%d]\n",
                   M, N0, M, N0, M, N0, M, N0);
  muse_str_appendf(&s,
                   "  %%15 = cast %%8 {to = f32} : f32[%d,%d]\n  %%16 = mul %%15, %%5 : f32[%d,%d]\n"
                   "  return %%14, %%9, %%16\n}",
                   M, N1, M, N1);
  snprintf(label, sizeof label, "wgmma three %d x %d", M, K);
  muse_cuda_add_case(list, "ternary_matmul", label, 1e-6, &s);
}

// a [K,M], b [K,N]; scaled by row and column, added to what was there.
static void add_int8(MuseCudaCaseList *list, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], c[32];
  snprintf(c, sizeof c, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "func @f(%%0 : i8[%d,%d], %%1 : i8[%d,%d], %%2 : f32[%d,1], %%3 : f32%s) -> ({}, {}) {\n"
                   "  %%4 = int8_matmul %%0, %%1 : i32%s\n  %%5 = cast %%4 {to = f32} : f32%s\n",
                   K, M, K, N, M, c, c, c);
  muse_str_appendf(&s, "  %%6 = mul %%5, %%2 : f32%s\n  %%7 = add %%6, %%3 : f32%s\n  return %%7, %%4\n}", c, c);
  snprintf(label, sizeof label, "wgmma int8 %d x %d x %d", M, N, K);
  muse_cuda_add_case(list, "int8_matmul", label, 1e-6, &s);
}

// What stands around the products of a BitLinear: $R tokens of $C channels.
static const char norm_and_quantise[] =
    "func @f(%0 : bf16[$R,$C], %1 : f32[$C], %2 : f32[]) -> ({}, {}) {\n  %3 = cast %0 {to = f32} : f32[$R,$C]\n"
    "  %4 = mul %3, %3 : f32[$R,$C]\n  %5 = reduce_sum %4 {axes = [1]} : f32[$R,1]\n"
    "  %6 = const {value = 0.0002} : f32[]\n  %7 = mul %5, %6 : f32[$R,1]\n  %8 = rsqrt %7 : f32[$R,1]\n"
    "  %9 = mul %3, %8 : f32[$R,$C]\n  %10 = mul %9, %1 : f32[$R,$C]\n  %11 = cast %10 {to = bf16} : bf16[$R,$C]\n"
    "  %12 = cast %11 {to = f32} : f32[$R,$C]\n  %13 = abs %12 : f32[$R,$C]\n"
    "  %14 = reduce_max %13 {axes = [1]} : f32[$R,1]\n  %15 = const {value = 127} : f32[]\n"
    "  %16 = div %15, %14 : f32[$R,1]\n  %17 = mul %12, %16 : f32[$R,$C]\n  %18 = round %17 : f32[$R,$C]\n"
    "  %19 = const {value = -128} : f32[]\n  %20 = max %18, %19 : f32[$R,$C]\n  %21 = min %20, %15 : f32[$R,$C]\n"
    "  %22 = cast %21 {to = i8} : i8[$R,$C]\n  %23 = mul %14, %2 : f32[$R,1]\n  return %22, %23\n}";
static const char quantise_tokens[] =
    "func @f(%0 : bf16[$R,$C], %1 : u32[2], %2 : f32[], %3 : f32[$R,1]) -> ({}, {}, {}) {\n"
    "  %4 = cast %0 {to = f32} : f32[$R,$C]\n  %5 = abs %4 : f32[$R,$C]\n"
    "  %6 = reduce_max %5 {axes = [1]} : f32[$R,1]\n  %7 = const {value = 0.007874015748031496} : f32[]\n"
    "  %8 = mul %6, %7 : f32[$R,1]\n  %9 = div %4, %8 : f32[$R,$C]\n"
    "  %10 = stochastic_round %9, %1 {rng_id = 7} : f32[$R,$C]\n  %11 = const {value = -127} : f32[]\n"
    "  %12 = max %10, %11 : f32[$R,$C]\n  %13 = const {value = 127} : f32[]\n  %14 = min %12, %13 : f32[$R,$C]\n"
    "  %15 = cast %14 {to = i8} : i8[$R,$C]\n  %16 = mul %8, %2 : f32[$R,1]\n  %17 = mul %3, %7 : f32[$R,1]\n"
    "  %18 = mul %4, %17 : f32[$R,$C]\n  %19 = abs %18 : f32[$R,$C]\n"
    "  %20 = reduce_max %19 {axes = [0]} : f32[1,$C]\n  return %15, %16, %20\n}";
static const char quantise_channels[] =
    "func @f(%0 : bf16[$R,$C], %1 : f32[$R,1], %2 : f32[1,$C], %3 : u32[2]) -> ({}) {\n"
    "  %4 = cast %0 {to = f32} : f32[$R,$C]\n  %5 = mul %4, %1 : f32[$R,$C]\n  %6 = div %5, %2 : f32[$R,$C]\n"
    "  %7 = stochastic_round %6, %3 {rng_id = 8} : f32[$R,$C]\n  %8 = const {value = -127} : f32[]\n"
    "  %9 = max %7, %8 : f32[$R,$C]\n  %10 = const {value = 127} : f32[]\n  %11 = min %9, %10 : f32[$R,$C]\n"
    "  %12 = cast %11 {to = i8} : i8[$R,$C]\n  return %12\n}";

static void add_map(MuseCudaCaseList *list, const char *name, int rows, int columns, const char *text) {
  MuseStr s = {0};
  char label[64];
  for (const char *p = text; *p; p++) {
    if (*p == '$') muse_str_appendf(&s, "%d", *++p == 'C' ? columns : rows);
    else muse_str_append_n(&s, p, 1);
  }
  snprintf(label, sizeof label, "%s %d x %d", name, rows, columns);
  muse_cuda_add_case(list, "map", label, 1e-5, &s);
}

int muse_cuda_wgmma_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const int shape[][3] = {
      {128, 8, 16},    {129, 40, 48},    {191, 264, 80},   {128, 256, 128}, {129, 72, 256},  {200, 520, 272},
      {300, 96, 320},  {257, 160, 1040}, {384, 1000, 336}, {160, 3000, 64}, {1000, 64, 640}, {640, 1600, 208},
      {2100, 528, 96}, {130, 130, 64},  {65, 40, 48}}; // the last two take the general path
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
    add_ternary(&list, "t2", shape[i][0], shape[i][1], shape[i][2]);
    add_ternary(&list, "t5", shape[i][0], shape[i][1], shape[i][2]);
  }
  add_scaled(&list, "t2", 333, 776, 400);
  add_scaled(&list, "t5", 136, 2048, 1600);
  add_anchors(&list, 257, 320, 256, 64, 72);
  add_anchors(&list, 140, 1600, 1600, 200, 8);
  add_residual(&list, 300, 712, 208);
  add_residual(&list, 256, 512, 128);
  add_gradient(&list, 272, 528, 70);
  static const int turned[][3] = {{64, 16, 1},    {80, 48, 100},  {128, 128, 128}, {144, 272, 130},
                                  {400, 160, 77}, {1600, 64, 33}, {256, 512, 1000}};
  for (size_t i = 0; i < sizeof turned / sizeof *turned; i++)
    add_int8(&list, turned[i][0], turned[i][1], turned[i][2]);
  return list.n;
}

int muse_cuda_wgmma_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  // BitLinear 5120 -> 20480, 4096 tokens: forward (quantise, product), gradients (two roundings, dX, dW).
  add_map(&list, "norm, quantise", 4096, 5120, norm_and_quantise);
  add_scaled(&list, "t2", 4096, 20480, 5120);
  add_map(&list, "round by token, scales by channel", 4096, 20480, quantise_tokens);
  add_map(&list, "round by channel", 4096, 20480, quantise_channels);
  add_scaled(&list, "t2", 4096, 5120, 20480);
  add_gradient(&list, 20480, 5120, 4096);
  add_scaled(&list, "t5", 4096, 20480, 5120);
  add_scaled(&list, "t2", 4096, 5120, 5120);
  add_scaled(&list, "t2", 512, 5120, 5120);
  add_scaled(&list, "t2", 128, 5120, 5120);
  add_scaled(&list, "t2", 16384, 6400, 1600);
  add_scaled(&list, "t2", 2048, 6400, 1600);
  add_scaled(&list, "t2", 2048, 1600, 6400);
  add_scaled(&list, "t2", 1024, 1600, 1600);
  add_anchors(&list, 4096, 5120, 5120, 5120, 5120);
  add_residual(&list, 4096, 5120, 20480);
  add_residual(&list, 512, 5120, 5120);
  add_residual(&list, 16384, 1600, 1600);
  add_gradient(&list, 20480, 5120, 512);
  add_gradient(&list, 5120, 5120, 512);
  add_gradient(&list, 1600, 6400, 16384);
  add_gradient(&list, 1600, 1600, 2048);
  return list.n;
}
