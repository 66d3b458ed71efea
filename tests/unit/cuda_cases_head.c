// Kernels of the embedding, the head and the small ops for the CUDA emitters.
#include "tests/unit/cuda_cases.h"

#include "ir/base/status.h"
#include "ir/base/str.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The text of a function by a format; the case is named after its skeleton and `name`.
__attribute__((format(printf, 5, 6)))
static void add(MuseCudaCaseList *list, const char *skeleton, const char *name, double bound, const char *format, ...) {
  char text[2048], label[64];
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  MUSE_ASSERT(n > 0 && n < (int)sizeof text);
  snprintf(label, sizeof label, "%s %s", skeleton, name);
  muse_cuda_add_text(list, skeleton, label, bound, text);
}

// ---- the small ops ----

static void add_scatter(MuseCudaCaseList *list, const char *dtype, int V, int B, int T, int D) {
  char name[64];
  snprintf(name, sizeof name, "%s %d tokens to %d x %d", dtype, B * T, V, D);
  add(list, "scatter_add_rows", name, 2e-6,
      "func @f(%%0 : %s[%d,%d,%d], %%1 : i32[%d,%d]) -> ({}) {\n"
      "  %%2 = scatter_add_rows %%0, %%1 {rows = %d} : f32[%d,%d]\n  return %%2\n}",
      dtype, B, T, D, B, T, V, V, D);
}

static void add_doc(MuseCudaCaseList *list, int B, int T, long long eos) {
  char name[64];
  snprintf(name, sizeof name, "%d x %d, eos %lld", B, T, eos);
  add(list, "doc_begin", name, 1e-300,
      "func @f(%%0 : i32[%d,%d]) -> ({}) {\n  %%1 = doc_begin %%0 {eos = %lld} : i32[%d,%d]\n  return %%1\n}", B, T,
      eos, B, T);
}

static void add_ring(MuseCudaCaseList *list, const char *dtype, const char *ring, const char *slot, int axis) {
  char name[64];
  snprintf(name, sizeof name, "%s %s at %d", dtype, ring, axis);
  add(list, "ring_write", name, 1e-300,
      "func @f(%%0 : %s[%s], %%1 : %s[%s], %%2 : i64[]) -> ({}) {\n"
      "  %%3 = ring_write %%0, %%1, %%2 {axis = %d} : %s[%s]\n  return %%3\n}",
      dtype, ring, dtype, slot, axis, dtype, ring);
}

static void add_rope_table(MuseCudaCaseList *list, int rows, int half) {
  char name[64];
  snprintf(name, sizeof name, "%d x %d", rows, half);
  add(list, "rope_table", name, 1e-6,
      "func @f(%%0 : i64[]) -> ({}) {\n  %%1 = rope_table %%0 {rows = %d, half = %d, base = 10000} : f32[%d,%d]\n"
      "  return %%1\n}",
      rows, half, rows, 2 * half);
}

// ---- tensor train ----

typedef struct TrainShape {
  int v1, v2, r, d1, d2, D, N, V;
  const char *dtype;
} TrainShape;

static void add_tt_gather(MuseCudaCaseList *list, TrainShape s, int B) {
  char name[64], d[16];
  snprintf(d, sizeof d, "%s", s.dtype);
  snprintf(name, sizeof name, "%s %dx%d r %d, %dx%d, N %d", d, s.v1, s.v2, s.r, s.d1, s.d2, s.N);
  add(list, "tt_gather", name, strcmp(d, "f32") ? 1e-2 : 1e-5,
      "func @f(%%0 : %s[%d,%d,%d], %%1 : %s[%d,%d,%d], %%2 : f32[%d], %%3 : i32[%d,%d]) -> ({}) {\n"
      "  %%4 = tt_gather %%0, %%1, %%2, %%3 {dim = %d} : %s[%d,%d,%d]\n  return %%4\n}",
      d, s.v1, s.r, s.d1, d, s.v2, s.r, s.d2, s.r, B, s.N / B, s.D, d, B, s.N / B, s.D);
}

// results: names of the values that are returned, of %5, %6, %7
static void add_tt_gather_grad(MuseCudaCaseList *list, TrainShape s, int B, const char *results, const char *returned) {
  char name[64];
  snprintf(name, sizeof name, "%s %dx%d r %d, %dx%d, N %d", s.dtype, s.v1, s.v2, s.r, s.d1, s.d2, s.N);
  add(list, "tt_gather_grad", name, 1e-5,
      "func @f(%%0 : %s[%d,%d,%d], %%1 : %s[%d,%d,%d], %%2 : %s[%d,%d,%d], %%3 : f32[%d], %%4 : i32[%d,%d]) -> (%s) "
      "{\n  %%5, %%6, %%7 = tt_gather_grad %%0, %%1, %%2, %%3, %%4 : f32[%d,%d,%d], f32[%d,%d,%d], f32[%d]\n"
      "  return %s\n}",
      s.dtype, B, s.N / B, s.D, s.dtype, s.v1, s.r, s.d1, s.dtype, s.v2, s.r, s.d2, s.r, B, s.N / B, returned, s.v1,
      s.r, s.d1, s.v2, s.r, s.d2, s.r, results);
}

static void add_tt_matmul(MuseCudaCaseList *list, TrainShape s) {
  char name[64];
  snprintf(name, sizeof name, "%s %dx%d r %d, %dx%d, N %d", s.dtype, s.v1, s.v2, s.r, s.d1, s.d2, s.N);
  add(list, "tt_matmul", name, 1e-5,
      "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d,%d], %%2 : %s[%d,%d,%d], %%3 : f32[%d]) -> ({}) {\n"
      "  %%4 = tt_matmul %%0, %%1, %%2, %%3 {vocab = %d} : f32[%d,%d]\n  return %%4\n}",
      s.dtype, s.N, s.D, s.dtype, s.v1, s.r, s.d1, s.dtype, s.v2, s.r, s.d2, s.r, s.V, s.N, s.V);
}

static void add_trains(MuseCudaCaseList *list) {
  static const TrainShape shapes[] = {
      {1, 1, 1, 1, 1, 1, 1, 1, "f32"},         {3, 5, 4, 7, 9, 61, 6, 13, "f32"},
      {9, 8, 24, 33, 31, 1023, 40, 70, "f32"}, {5, 4, 16, 72, 72, 5120, 9, 19, "f32"},
      {4, 3, 130, 140, 5, 700, 30, 12, "f32"},
  };
  for (int i = 0; i < 5; i++) {
    add_tt_gather(list, shapes[i], 1);
    add_tt_gather_grad(list, shapes[i], 1, "%5, %6, %7", "{}, {}, {}");
    add_tt_matmul(list, shapes[i]);
  }
  add_tt_gather_grad(list, shapes[1], 2, "%6", "{}");
  add_tt_gather_grad(list, shapes[2], 2, "%7", "{}");
  add_tt_gather_grad(list, shapes[2], 2, "%7, %5", "{}, {}");
  add_tt_gather_grad(list, (TrainShape){7, 6, 9, 5, 4, 19, 700, 0, "f32"}, 7, "%5, %6, %7", "{}, {}, {}");
  add_tt_gather(list, (TrainShape){9, 8, 24, 33, 31, 1023, 40, 70, "bf16"}, 2);
  add_tt_gather_grad(list, (TrainShape){9, 8, 24, 33, 31, 1023, 40, 70, "bf16"}, 2, "%5, %6, %7", "{}, {}, {}");
  add_tt_matmul(list, (TrainShape){9, 8, 24, 33, 31, 1023, 3, 70, "f16"});
  // Several rounds of tokens.
  add_tt_matmul(list, (TrainShape){64, 4, 64, 8, 64, 512, 130, 255, "f32"});
}

// ---- head ----

static double noise(uint64_t i, uint64_t stream) {
  uint64_t x = (i + 1) * 0x9E3779B97F4A7C15u + stream * 0xD1B54A32D192ED03u;
  x ^= x >> 29, x *= 0xBF58476D1CE4E5B9u, x ^= x >> 32, x *= 0x94D049BB133111EBu, x ^= x >> 31;
  return (double)(x >> 11) * 0x1p-53 * 2 - 1;
}

static void fill_floats(MuseTensor *t, int operand, double scale) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) t->data[i] = scale * noise((uint64_t)i, (uint64_t)operand);
}

// So that logits are of the order of 1; tokens are filled by the caller.
static void fill_head(int operand, MuseTensor *t) {
  if (operand == 0) fill_floats(t, operand, 3 / sqrt((double)t->type.dim[1]));
  else fill_floats(t, operand, 2);
}
static void fill_train_head(int operand, MuseTensor *t) {
  if (operand == 1 || operand == 2) fill_floats(t, operand, 2 / sqrt(sqrt((double)t->type.dim[1])));
  else fill_head(operand, t);
}

static void add_head(MuseCudaCaseList *list, const char *dtype, int N, int V, int D, const char *results,
                     const char *returned) {
  char name[64];
  snprintf(name, sizeof name, "%s N %d, V %d, D %d", dtype, N, V, D);
  const double bound = strcmp(dtype, "f32") == 0 ? 2e-5 : 1e-2;
  if (!results)
    add(list, "cross_entropy", name, bound,
        "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d], %%2 : i32[%d]) -> ({}) {\n"
        "  %%3 = cross_entropy %%0, %%1, %%2 : f32[]\n  return %%3\n}",
        dtype, N, D, dtype, V, D, N);
  else
    add(list, "cross_entropy_grad", name, bound,
        "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d], %%2 : i32[%d], %%3 : f32[]) -> (%s) {\n"
        "  %%4, %%5, %%6 = cross_entropy_grad %%0, %%1, %%2, %%3 : f32[], %s[%d,%d], f32[%d,%d]\n  return %s\n}",
        dtype, N, D, dtype, V, D, N, returned, dtype, N, D, V, D, results);
  list->item[list->n - 1].fill = fill_head;
  list->item[list->n - 1].frobenius = bound;
}

static void add_train_head(MuseCudaCaseList *list, TrainShape s, const char *results, const char *returned) {
  char name[64];
  snprintf(name, sizeof name, "%s N %d, V %d, D %d", s.dtype, s.N, s.V, s.D);
  const double bound = strcmp(s.dtype, "f32") == 0 ? 2e-5 : 1e-2;
  if (!results)
    add(list, "tt_cross_entropy", name, bound,
        "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d,%d], %%2 : %s[%d,%d,%d], %%3 : f32[%d], %%4 : i32[%d]) -> ({}) {\n"
        "  %%5 = tt_cross_entropy %%0, %%1, %%2, %%3, %%4 {vocab = %d} : f32[]\n  return %%5\n}",
        s.dtype, s.N, s.D, s.dtype, s.v1, s.r, s.d1, s.dtype, s.v2, s.r, s.d2, s.r, s.N, s.V);
  else
    add(list, "tt_cross_entropy_grad", name, bound,
        "func @f(%%0 : %s[%d,%d], %%1 : %s[%d,%d,%d], %%2 : %s[%d,%d,%d], %%3 : f32[%d], %%4 : i32[%d], %%5 : f32[]) "
        "-> (%s) {\n  %%6, %%7, %%8, %%9, %%10 = tt_cross_entropy_grad %%0, %%1, %%2, %%3, %%4, %%5 {vocab = %d} : "
        "f32[], %s[%d,%d], f32[%d,%d,%d], f32[%d,%d,%d], f32[%d]\n  return %s\n}",
        s.dtype, s.N, s.D, s.dtype, s.v1, s.r, s.d1, s.dtype, s.v2, s.r, s.d2, s.r, s.N, returned, s.V, s.dtype, s.N,
        s.D, s.v1, s.r, s.d1, s.v2, s.r, s.d2, s.r, results);
  list->item[list->n - 1].fill = fill_train_head;
  list->item[list->n - 1].frobenius = bound;
}

static const char all_of_head[] = "%4, %5, %6", three[] = "{}, {}, {}";
static const char all_of_train[] = "%6, %7, %8, %9, %10", five[] = "{}, {}, {}, {}, {}";

static void add_heads(MuseCudaCaseList *list) {
  static const char *const dtypes[] = {"f32", "bf16", "f16"};
  for (int i = 0; i < 3; i++) {
    const char *d = dtypes[i];
    add_head(list, d, 1, 1, 1, all_of_head, three);
    add_head(list, d, 7, 13, 9, all_of_head, three);
    add_head(list, d, 40, 333, 24, all_of_head, three);
    add_head(list, d, 200, 1100, 72, all_of_head, three);
    add_head(list, d, 150, 519, 160, NULL, NULL);
    add_head(list, d, 1, 700, 64, NULL, NULL);
    add_train_head(list, (TrainShape){3, 5, 4, 7, 9, 61, 6, 13, d}, all_of_train, five);
    add_train_head(list, (TrainShape){9, 8, 24, 16, 16, 250, 140, 69, d}, all_of_train, five);
    add_train_head(list, (TrainShape){9, 8, 16, 8, 16, 128, 40, 70, d}, NULL, NULL);
  }
  add_head(list, "bf16", 300, 2500, 264, all_of_head, three);
  // Several chunks of tokens, several groups of rows.
  add_head(list, "f32", 130, 420000, 8, all_of_head, three);
  add_train_head(list, (TrainShape){550, 550, 2, 2, 4, 7, 135, 300001, "f32"}, all_of_train, five);
  add_train_head(list, (TrainShape){130, 16, 2, 64, 128, 8190, 3, 2075, "f32"}, all_of_train, five);
  add_train_head(list, (TrainShape){300, 16, 3, 64, 128, 8192, 5, 4700, "bf16"}, all_of_train, five);
  add_train_head(list, (TrainShape){130, 16, 2, 64, 128, 8190, 3, 2075, "f32"}, NULL, NULL);
  // The same where sm_90a multiplies by warpgroups, and few results of it.
  add_train_head(list, (TrainShape){20, 16, 24, 16, 16, 248, 140, 310, "bf16"}, all_of_train, five);
  add_train_head(list, (TrainShape){21, 18, 136, 17, 24, 400, 300, 377, "f16"}, all_of_train, five);
  add_train_head(list, (TrainShape){21, 18, 136, 17, 24, 400, 300, 377, "bf16"}, NULL, NULL);
  add_train_head(list, (TrainShape){300, 16, 8, 64, 128, 8192, 65, 4700, "bf16"}, all_of_train, five);
  add_train_head(list, (TrainShape){20, 16, 24, 16, 16, 248, 140, 310, "bf16"}, "%8", "{}");
  add_train_head(list, (TrainShape){20, 16, 24, 16, 16, 248, 140, 310, "bf16"}, "%10, %7", "{}, {}");
  add_head(list, "bf16", 300, 420000, 8, all_of_head, three);
  add_head(list, "bf16", 70, 300, 40, "%6, %4", "{}, {}");
  add_head(list, "bf16", 70, 300, 40, "%5", "{}");
  add_head(list, "bf16", 70, 300, 40, "%4", "{}");
  add_head(list, "bf16", 200, 777, 200, NULL, NULL);
  add_head(list, "f32", 9, 100, 33, "%5", "{}");
  add_head(list, "f32", 9, 100, 33, "%6, %4", "{}, {}");
  add_head(list, "bf16", 9, 100, 40, "%4", "{}");
  add_train_head(list, (TrainShape){9, 8, 24, 16, 16, 250, 14, 69, "f32"}, "%7", "{}");
  add_train_head(list, (TrainShape){9, 8, 24, 16, 16, 250, 14, 69, "f32"}, "%9, %6", "{}, {}");
  add_train_head(list, (TrainShape){9, 8, 24, 16, 16, 250, 14, 69, "bf16"}, "%10", "{}");
  add_train_head(list, (TrainShape){9, 8, 24, 16, 16, 250, 14, 69, "bf16"}, "%8", "{}");
}

int muse_cuda_head_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  add_scatter(&list, "f32", 5, 1, 1, 1);
  add_scatter(&list, "f32", 300, 3, 67, 7);
  add_scatter(&list, "f32", 33, 2, 600, 64);
  add_scatter(&list, "f32", 517, 1, 50, 1602);
  add_scatter(&list, "bf16", 300, 3, 67, 40);
  add_scatter(&list, "f16", 30, 2, 167, 33);
  add_doc(&list, 1, 1, 3);
  add_doc(&list, 3, 37, 3);
  add_doc(&list, 2, 5000, 7);
  add_doc(&list, 2, 130, -1);
  add_doc(&list, 1, 9, 1ll << 40);
  add_ring(&list, "f32", "2,16,3,8", "2,1,3,8", 1);
  add_ring(&list, "bf16", "5,7", "5,1", 1);
  add_ring(&list, "f32", "1,3", "1,3", 0);
  add_ring(&list, "i8", "3,37,33", "3,1,33", 1);
  add_ring(&list, "f32", "19,700", "1,700", 0);
  add_rope_table(&list, 1, 1);
  add_rope_table(&list, 33, 24);
  add_rope_table(&list, 512, 32);
  add_trains(&list);
  add_heads(&list);
  return list.n;
}

int muse_cuda_head_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  add_scatter(&list, "f32", 50257, 2, 512, 1600);
  add_scatter(&list, "bf16", 50257, 32, 512, 1600);
  add_doc(&list, 32, 512, 50256);
  add_ring(&list, "bf16", "8,64,5120", "8,1,5120", 1);
  add_rope_table(&list, 512, 64);
  TrainShape train = {225, 224, 128, 72, 72, 5120, 4096, 50257, "f32"};
  TrainShape decode = train;
  decode.N = 1;
  add_tt_gather(&list, train, 8);
  add_tt_gather_grad(&list, train, 8, "%5, %6, %7", "{}, {}, {}");
  add_tt_matmul(&list, decode);
  add_head(&list, "bf16", 1024, 50257, 1600, all_of_head, three);
  add_head(&list, "bf16", 4096, 50257, 1600, all_of_head, three);
  add_head(&list, "bf16", 1024, 50257, 1600, NULL, NULL);
  add_head(&list, "f32", 1024, 50257, 1600, all_of_head, three);
  train.dtype = "bf16", train.N = 512;
  add_train_head(&list, train, all_of_train, five);
  train.N = 4096;
  add_train_head(&list, train, all_of_train, five);
  return list.n;
}
