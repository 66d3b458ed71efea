// Cases of the scans: Green's function, the resolvent, and their gradients.
#include "tests/unit/cuda_cases.h"

#include "ir/base/philox.h"
#include "ir/base/str.h"

#include <stdio.h>

// ---- values ----

static double uniform(int64_t i, int stream) { return muse_random_uniform((uint64_t)i, (uint64_t)stream, 5, 99); }

// kappa and eta of heads from fast (even) to slow.
static void fill_green(int operand, MuseTensor *t) {
  const int64_t H = t->type.dim[t->type.rank - 1];
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    const double u = uniform(i, operand), scale = i % H % 2 ? 1e-3 : 1;
    t->data[i] = operand == 0 ? 0.5 * u * u * scale : operand == 1 ? (1e-3 + 0.2 * u) * scale : 0;
  }
}

static void fill_green_documents(int operand, MuseTensor *t) {
  if (operand == 2) muse_cuda_fill_documents(t);
  else fill_green(operand, t);
}

// 1 + Re g and Im g of heads that forget fast (even) or slowly. Of a single token the derivative by Im g is 0 but for
// rounding; with Im g = 0 it is 0.
static void fill_e(bool imaginary, int operand, MuseTensor *t) {
  const int64_t H = t->type.dim[2];
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    const double u = uniform(i, operand);
    if (i % H % 2) t->data[i] = imaginary ? 0.01 + 0.003 * u : 0.0123 + 0.002 * u;
    else t->data[i] = imaginary ? 0.3 * u - 0.05 : 0.6 - 0.5 * u;
    if (imaginary && t->type.dim[1] == 1) t->data[i] = 0;
  }
}

static void fill_uniform(int operand, MuseTensor *t) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) t->data[i] = 2 * uniform(i, operand) - 1;
}

static void fill_zero(MuseTensor *t) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) t->data[i] = 0;
}

static void fill_green_grad(int operand, MuseTensor *t) {
  if (operand < 2) fill_e(operand == 1, operand, t);
  else if (operand == 2) fill_zero(t);
  else fill_uniform(operand, t);
}

static void fill_green_grad_documents(int operand, MuseTensor *t) {
  if (operand == 2) muse_cuda_fill_documents(t);
  else fill_green_grad(operand, t);
}

static void fill_resolvent(int operand, MuseTensor *t) {
  if (operand == 3 || operand == 4) fill_e(operand == 4, operand, t);
  else if (operand == 5) fill_zero(t);
  else fill_uniform(operand, t);
}

static void fill_resolvent_documents(int operand, MuseTensor *t) {
  if (operand == 5) muse_cuda_fill_documents(t);
  else fill_resolvent(operand, t);
}

void muse_cuda_scan_values(MuseCudaCase *c) {
  switch (c->kernel->body->first->kind) {
    case MUSE_OP_green_scan: c->fill = fill_green_documents; break;
    case MUSE_OP_green_scan_grad: c->fill = fill_green_grad_documents; break;
    case MUSE_OP_resolvent_scan:
    case MUSE_OP_resolvent_scan_grad: c->fill = fill_resolvent_documents; break;
    default: break;
  }
}

// ---- cases ----

static void add(MuseCudaCaseList *list, const char *skeleton, const char *label, double bound, const MuseStr *text,
                void (*fill)(int, MuseTensor *)) {
  muse_cuda_add_text(list, skeleton, label, bound, muse_str_text(text))->fill = fill;
}

static void add_green(MuseCudaCaseList *list, int B, int T, int H, bool documents) {
  MuseStr s = {0};
  char label[64];
  snprintf(label, sizeof label, "green scan %dx%dx%d%s", B, T, H, documents ? " documents" : "");
  muse_str_appendf(&s,
                   "func @f(%%0 : f32[%d,%d,%d], %%1 : f32[%d], %%2 : i32[%d,%d]) -> ({}, {}) {\n"
                   "  %%3, %%4 = green_scan %%0, %%1, %%2 : f32[%d,%d,%d], f32[%d,%d,%d]\n  return %%3, %%4\n}",
                   B, T, H, H, B, T, B, T, H, B, T, H);
  add(list, "green_scan", label, 5e-6, &s, documents ? fill_green_documents : fill_green);
  muse_str_clear(&s);
  snprintf(label, sizeof label, "green scan gradient %dx%dx%d%s", B, T, H, documents ? " documents" : "");
  muse_str_appendf(&s,
                   "func @f(%%0 : f32[%d,%d,%d], %%1 : f32[%d,%d,%d], %%2 : i32[%d,%d], %%3 : f32[%d,%d,%d], "
                   "%%4 : f32[%d,%d,%d]) -> ({}, {}) {\n"
                   "  %%5, %%6 = green_scan_grad %%0, %%1, %%2, %%3, %%4 : f32[%d,%d,%d], f32[%d]\n"
                   "  return %%5, %%6\n}",
                   B, T, H, B, T, H, B, T, B, T, H, B, T, H, B, T, H, H);
  add(list, "green_scan_grad", label, 1e-5, &s, documents ? fill_green_grad_documents : fill_green_grad);
  muse_str_free(&s);
}

static void add_resolvent(MuseCudaCaseList *list, const char *dtype, int B, int T, int H, int d, bool documents) {
  MuseStr s = {0};
  char label[128], x[48], e[40];
  const bool f32 = dtype[0] == 'f' && dtype[1] == '3';
  snprintf(x, sizeof x, "%s[%d,%d,%d,%d]", dtype, B, T, H, d);
  snprintf(e, sizeof e, "f32[%d,%d,%d]", B, T, H);
  for (int grad = 0; grad < 2; grad++) {
    muse_str_clear(&s);
    snprintf(label, sizeof label, "resolvent%s %s%s", grad ? " gradient" : "", x, documents ? " documents" : "");
    muse_str_appendf(&s, "func @f(%%0 : %s, %%1 : %s, %%2 : %s, %%3 : %s, %%4 : %s, %%5 : i32[%d,%d]", x, x, x, e, e, B,
                     T);
    if (grad)
      muse_str_appendf(&s,
                       ", %%6 : %s) -> ({}, {}, {}, {}, {}) {\n  %%7, %%8, %%9, %%10, %%11 = resolvent_scan_grad %%0, "
                       "%%1, %%2, %%3, %%4, %%5, %%6 : %s, %s, %s, %s, %s\n  return %%7, %%8, %%9, %%10, %%11\n}",
                       x, x, x, x, e, e);
    else
      muse_str_appendf(&s,
                       ") -> ({}) {\n  %%6 = resolvent_scan %%0, %%1, %%2, %%3, %%4, %%5 : %s\n  return %%6\n}", x);
    add(list, grad ? "resolvent_scan_grad" : "resolvent_scan", label, grad ? 2e-5 : 1e-5, &s,
        documents ? fill_resolvent_documents : fill_resolvent);
    if (!f32) list->item[list->n - 1].frobenius = 1e-2;
  }
  muse_str_free(&s);
}

int muse_cuda_scan_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const int green[][3] = {{1, 1, 1},  {2, 7, 3},   {3, 1, 5},     {1, 32, 4},  {1, 33, 1},
                                 {2, 65, 7}, {2, 130, 40}, {2, 1100, 5}, {1, 4500, 3}};
  for (size_t i = 0; i < sizeof green / sizeof *green; i++)
    for (int documents = 0; documents < 2; documents++)
      add_green(&list, green[i][0], green[i][1], green[i][2], documents);
  static const int resolvent[][4] = {{1, 1, 1, 4},     {2, 7, 3, 5},    {1, 80, 5, 20},  {2, 130, 2, 32},
                                     {1, 130, 1, 128}, {1, 64, 17, 16}, {1, 200, 2, 64}, {3, 65, 4, 40},
                                     {1, 70, 1, 300},  {1, 9, 1, 1100}, {1, 40, 2, 1},   {1, 600, 2, 48},
                                     {2, 270, 3, 128}};
  for (size_t i = 0; i < sizeof resolvent / sizeof *resolvent; i++)
    for (int documents = 0; documents < 2; documents++) {
      const int *x = resolvent[i];
      add_resolvent(&list, "f32", x[0], x[1], x[2], x[3], documents);
      add_resolvent(&list, "bf16", x[0], x[1], x[2], x[3], documents);
      if (i % 3 == 1) add_resolvent(&list, "f16", x[0], x[1], x[2], x[3], documents);
    }
  return list.n;
}

int muse_cuda_scan_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  add_green(&list, 8, 2048, 40, false);
  add_green(&list, 1, 4096, 40, false);
  add_green(&list, 1, 65536, 40, false);
  add_resolvent(&list, "bf16", 1, 4096, 40, 128, false);
  add_resolvent(&list, "bf16", 1, 65536, 40, 128, false);
  add_resolvent(&list, "bf16", 8, 512, 40, 128, false);
  add_resolvent(&list, "f32", 1, 4096, 40, 128, false);
  return list.n;
}
