// Cases of floating-point products: all forms, types and paths, with epilogues.
#include "tests/unit/cuda_cases.h"

#include "ir/base/str.h"

#include <stdio.h>
#include <string.h>

// NT: x W^T; NN: dY W; TN: dY^T X; TT.
typedef enum Form { NT, NN, TN, TT } Form;
static const char *const form_names[] = {"NT", "NN", "TN", "TT"};

// Of the sums: f32 in another order; one f32 operand rounded to bf16, or to 17 bits.
static const double exact = 3e-6, rounded = 3e-3, partly = 2e-5;

static MuseCudaCase *add_text(MuseCudaCaseList *list, const char *label, const char *text) {
  return muse_cuda_add_text(list, "matmul", label, exact, text);
}

static void append_shapes(MuseStr *s, const char *a, const char *b, Form form, int M, int N, int K) {
  const bool ta = form == TN || form == TT, tb = form == NT || form == TT;
  muse_str_appendf(s, "%%0 : %s[%d,%d], %%1 : %s[%d,%d]", a, ta ? K : M, ta ? M : K, b, tb ? N : K, tb ? K : N);
}

static void append_product(MuseStr *s, int value, Form form, int M, int N) {
  muse_str_appendf(s, "  %%%d = matmul %%0, %%1 {trans_a = %s, trans_b = %s} : f32[%d,%d]\n", value,
                   form == TN || form == TT ? "true" : "false", form == NT || form == TT ? "true" : "false", M, N);
}

// The product alone.
static void add(MuseCudaCaseList *list, const char *a, const char *b, Form form, int M, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "%s x %s %s %dx%dx%d", a, b, form_names[form], M, N, K);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, a, b, form, M, N, K);
  muse_str_append(&s, ") -> ({}) {\n");
  append_product(&s, 2, form, M, N);
  muse_str_append(&s, "  return %2\n}");
  MuseCudaCase *c = add_text(list, label, muse_str_text(&s));
  if (strcmp(a, b) != 0 && strcmp(b, "t2") != 0) {
    if (M > 64 && N > 64) c->frobenius = rounded;
    else c->bound = partly;
  }
  muse_str_free(&s);
}

// A residual, rounded to bf16 as mixed precision does; beside it the result as bf16.
static void add_residual(MuseCudaCaseList *list, const char *a, const char *b, Form form, int M, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "%s x %s %s %dx%dx%d + residual", a, b, form_names[form], M, N, K);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, a, b, form, M, N, K);
  muse_str_appendf(&s, ", %%2 : f32[%d,%d]) -> ({}, {}) {\n", M, N);
  append_product(&s, 3, form, M, N);
  muse_str_appendf(&s,
                   "  %%4 = add %%3, %%2 : f32[%d,%d]\n  %%5 = cast %%4 {to = bf16} : bf16[%d,%d]\n"
                   "  %%6 = cast %%5 {to = f32} : f32[%d,%d]\n  return %%6, %%5\n}",
                   M, N, M, N, M, N);
  add_text(list, label, muse_str_text(&s))->frobenius = rounded;
  muse_str_free(&s);
}

// The potential's gradient to x, added to those of q, k and v, one result of each type.
static void add_sum_of_three(MuseCudaCaseList *list, int M, int N, int K) {
  MuseStr s = {0};
  char label[64], t[32];
  snprintf(label, sizeof label, "f32 x f32 NN %dx%dx%d + three", M, N, K);
  snprintf(t, sizeof t, "f32[%d,%d]", M, N);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, "f32", "f32", NN, M, N, K);
  muse_str_appendf(&s, ", %%2 : %s, %%3 : %s, %%4 : %s) -> ({}) {\n", t, t, t);
  append_product(&s, 5, NN, M, N);
  muse_str_appendf(&s,
                   "  %%6 = add %%5, %%2 : %s\n  %%7 = add %%6, %%3 : %s\n  %%8 = add %%7, %%4 : %s\n"
                   "  return %%8\n}",
                   t, t, t);
  add_text(list, label, muse_str_text(&s));
  muse_str_free(&s);
}

// A result in bf16.
static void add_half(MuseCudaCaseList *list, Form form, int M, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "bf16 x bf16 %s %dx%dx%d to bf16", form_names[form], M, N, K);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, "bf16", "bf16", form, M, N, K);
  muse_str_append(&s, ") -> ({}) {\n");
  append_product(&s, 2, form, M, N);
  muse_str_appendf(&s, "  %%3 = cast %%2 {to = bf16} : bf16[%d,%d]\n  return %%3\n}", M, N);
  add_text(list, label, muse_str_text(&s));
  muse_str_free(&s);
}

// The potential: a bias, softplus, and its derivative.
static void add_potential(MuseCudaCaseList *list, const char *a, const char *b, int M, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "potential %s x %s %dx%dx%d", a, b, M, N, K);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, a, b, NT, M, N, K);
  muse_str_appendf(&s, ", %%2 : f32[%d]) -> ({}, {}) {\n", N);
  append_product(&s, 3, NT, M, N);
  muse_str_appendf(&s,
                   "  %%4 = add %%3, %%2 : f32[%d,%d]\n  %%5 = softplus %%4 : f32[%d,%d]\n"
                   "  %%6 = sigmoid %%4 : f32[%d,%d]\n  return %%5, %%6\n}",
                   M, N, M, N, M, N);
  MuseCudaCase *c = add_text(list, label, muse_str_text(&s));
  if (strcmp(a, "f32") == 0 && strcmp(b, "f32") == 0) c->bound = 1e-5;
  else c->frobenius = partly; // small values of the sigmoid are off by more of their own size
  muse_str_free(&s);
}

// Row, column and scalar operands, a result that may replace an operand, a bf16 copy, bools, random rounding.
static void add_mixture(MuseCudaCaseList *list, int M, int N, int K) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "mixed epilogue %dx%dx%d", M, N, K);
  muse_str_append(&s, "func @f(");
  append_shapes(&s, "f32", "f32", NT, M, N, K);
  muse_str_appendf(&s,
                   ", %%2 : f32[%d,1], %%3 : f32[%d], %%4 : f32[%d,%d], %%5 : f32[], %%6 : u32[2]) -> ({}, {}, {}, {}, "
                   "{}) {\n",
                   M, N, M, N);
  append_product(&s, 7, NT, M, N);
  char t[32];
  snprintf(t, sizeof t, "[%d,%d]", M, N);
  muse_str_appendf(&s,
                   "  %%8 = mul %%7, %%2 : f32%s\n  %%9 = add %%8, %%3 : f32%s\n  %%10 = mul %%9, %%5 : f32%s\n"
                   "  %%11 = add %%10, %%4 : f32%s\n  %%12 = cast %%10 {to = bf16} : bf16%s\n"
                   "  %%13 = less %%10, %%4 : bool%s\n  %%14 = stochastic_round %%4, %%6 {rng_id = 7} : f32%s\n"
                   "  %%15 = add %%14, %%9 : f32%s\n  return %%11, %%12, %%7, %%13, %%15\n}",
                   t, t, t, t, t, t, t, t);
  MuseCudaCase *c = add_text(list, label, muse_str_text(&s));
  c->bound = 1e-5;
  c->shaky = true;
  muse_str_free(&s);
}

int muse_cuda_matmul_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity}, *l = &list;
  for (Form form = NT; form <= TT; form++) {
    add(l, "f32", "f32", form, 13, 33, 37);
    add(l, "bf16", "bf16", form, 13, 35, 38);
    add(l, "f32", "f32", form, 200, 292, 1100); // parts of K
    add(l, "bf16", "bf16", form, 200, 296, 1104);
    add(l, "f32", "bf16", form, 141, 289, 530);
  }
  add(l, "bf16", "f32", NT, 70, 66, 300);
  add(l, "f32", "f32", NT, 1, 1, 1);
  add(l, "f32", "f32", NN, 9, 1, 3);
  // whole tiles of 128, on every architecture
  add(l, "bf16", "bf16", NT, 1670, 1544, 72);
  add(l, "bf16", "bf16", TN, 1664, 1800, 40);
  add(l, "f32", "f32", NT, 1670, 1544, 36);
  add(l, "f32", "f32", TN, 1670, 1544, 33);
  add_residual(l, "f32", "bf16", NN, 1670, 1545, 72);
  add_residual(l, "bf16", "bf16", NT, 1664, 1544, 64);
  // large enough for the copy engine and warpgroup products of sm_90a: directly, through the workspace, in parts of K
  for (Form form = NT; form <= TT; form++) {
    add(l, "bf16", "bf16", form, 1032, 1000, 136);
    add(l, "f32", "f32", form, 520, 525, 500);
  }
  add(l, "bf16", "bf16", NT, 523, 517, 505);
  add(l, "bf16", "bf16", TN, 200, 330, 2104);
  add(l, "f32", "f32", NT, 200, 330, 2100);
  add_residual(l, "f32", "bf16", NN, 2100, 2056, 72);
  add_mixture(l, 300, 1001, 500);
  add(l, "f32", "t2", NT, 520, 516, 520);
  // trits
  add(l, "f32", "t2", NT, 29, 70, 700);
  add(l, "bf16", "t2", TT, 70, 90, 1030);
  add(l, "f32", "t2", NT, 1670, 1544, 300);
  // few columns, few rows of the result, small K
  add_potential(l, "bf16", "f32", 300, 25, 520);
  add_potential(l, "f32", "f32", 1000, 40, 512);
  add_potential(l, "bf16", "bf16", 515, 64, 1000);
  add_potential(l, "bf16", "f32", 1100, 40, 3104); // by the copy engine of sm_90a
  add_potential(l, "bf16", "bf16", 1090, 63, 2000);
  add_residual(l, "f32", "f32", NN, 300, 1600, 25);
  add_sum_of_three(l, 3000, 1600, 32);
  add_half(l, NN, 3000, 1600, 40);
  add_residual(l, "bf16", "bf16", TN, 25, 1600, 2000);
  add_potential(l, "bf16", "bf16", 512, 40, 1100);
  add_residual(l, "f32", "bf16", TN, 25, 200, 1030);
  add(l, "f32", "f32", TN, 40, 640, 2000);
  add(l, "bf16", "bf16", NT, 8, 600, 1000);
  add(l, "f32", "bf16", NT, 5, 1100, 520);
  add(l, "bf16", "bf16", TN, 57, 130, 600);
  // few rows of x: weights are streamed
  static const int few[][3] = {{1, 257, 128}, {2, 33, 77}, {3, 5, 1100}, {8, 64, 64}, {1, 1, 3}, {1, 8500, 40}};
  for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
    add(l, "f32", "f32", NT, few[i][0], few[i][1], few[i][2]);
    add(l, "bf16", i % 2 ? "f32" : "bf16", NT, few[i][0], few[i][1], few[i][2]);
  }
  add_potential(l, "bf16", "f32", 1, 25, 1600);
  add_residual(l, "bf16", "bf16", NT, 2, 100, 520);
  add_mixture(l, 37, 45, 70);
  add_mixture(l, 5, 45, 70);
  add_mixture(l, 100, 48, 2000);
  return list.n;
}

int muse_cuda_matmul_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity}, *l = &list;
  add(l, "bf16", "bf16", NT, 4096, 20480, 5120);
  add(l, "bf16", "bf16", NN, 4096, 5120, 20480);
  add(l, "bf16", "bf16", TN, 20480, 5120, 4096);
  add_residual(l, "f32", "bf16", NN, 4096, 5120, 20480);
  add_residual(l, "f32", "bf16", TN, 5120, 20480, 4096);
  add_residual(l, "bf16", "bf16", NT, 1024, 1600, 1600);
  add_residual(l, "bf16", "bf16", NT, 4096, 5120, 5120);
  add(l, "f32", "f32", NT, 4096, 5120, 5120);
  add(l, "f32", "f32", NN, 4096, 5120, 5120);
  add(l, "f32", "f32", TN, 5120, 5120, 4096);
  add(l, "f32", "t2", NT, 4096, 5120, 5120);
  add_potential(l, "bf16", "f32", 4096, 40, 5120);
  add_potential(l, "f32", "f32", 4096, 40, 5120);
  add_potential(l, "bf16", "f32", 16384, 25, 1600);
  add_residual(l, "f32", "f32", NN, 4096, 5120, 40);
  add_sum_of_three(l, 4096, 5120, 40);
  add(l, "f32", "bf16", TN, 40, 5120, 4096);
  add(l, "f32", "f32", TN, 40, 5120, 4096);
  add(l, "bf16", "bf16", NT, 1, 20480, 5120);
  add(l, "f32", "f32", NT, 1, 50257, 1600);
  add(l, "bf16", "bf16", NT, 8, 20480, 5120);
  add(l, "bf16", "bf16", NT, 1, 1600, 6400);
  add(l, "bf16", "f32", NT, 1, 40, 5120);
  add_half(l, NT, 4096, 20480, 5120);
  add_half(l, NN, 4096, 5120, 20480);
  add_residual(l, "bf16", "bf16", TN, 20480, 5120, 4096);
  add_potential(l, "bf16", "bf16", 4096, 40, 5120);
  add_potential(l, "bf16", "bf16", 16384, 25, 1600);
  add_half(l, NN, 4096, 5120, 40);
  add_residual(l, "bf16", "bf16", NN, 4096, 5120, 40);
  add_residual(l, "bf16", "bf16", TN, 40, 5120, 4096);
  add_residual(l, "bf16", "bf16", TN, 25, 1600, 16384);
  add_potential(l, "bf16", "bf16", 512, 40, 5120);
  return list.n;
}
