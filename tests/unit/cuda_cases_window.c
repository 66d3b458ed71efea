// Cases of windowed attention and its gradient: both scores, documents, windows from 1 to all tokens, heads that no
// tile divides and heads of several chunks.
#include "tests/unit/cuda_cases.h"

#include "ir/base/philox.h"
#include "ir/base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Shape { int B, T, H, d, window; } Shape;

// ---- values ----

static double uniform(int64_t i, int stream) { return muse_random_uniform((uint64_t)i, (uint64_t)stream, 11, 98); }

// Tokens whose key is the query, so that their distance is 0.
static bool is_twin(int64_t token) { return token % 5 == 0; }

// Directions: unit vectors but for every seventh token, whose products may leave [-1, 1] and are clipped.
static void fill_directions(int operand, MuseTensor *t) {
  const int64_t d = t->type.dim[3], H = t->type.dim[2], T = t->type.dim[1];
  for (int64_t i = 0; i < muse_type_elements(t->type); i += d) {
    const int64_t token = i / (d * H) % T;
    double square = 1e-6;
    for (int64_t j = 0; j < d; j++) {
      t->data[i + j] = 2 * uniform(i + j, is_twin(token) ? 0 : operand) - 1;
      square += t->data[i + j] * t->data[i + j];
    }
    const double length = token % 7 == 3 ? 1.7 : 0.999;
    for (int64_t j = 0; j < d; j++) t->data[i + j] *= length / sqrt(square);
  }
}

// Products of variance 1.
static void fill_factors(int operand, MuseTensor *t) {
  const double scale = operand == 0 ? 3.46 / sqrt((double)t->type.dim[3]) : 3.46;
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) t->data[i] = scale * (uniform(i, operand) - 0.5);
}

static void fill_radii(int operand, MuseTensor *t) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    const bool twin = is_twin(i / t->type.dim[2] % t->type.dim[1]);
    t->data[i] = 0.2 + 1.8 * uniform(i, twin ? 4 : operand);
  }
}

static void fill_uniform(int operand, MuseTensor *t) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) t->data[i] = 2 * uniform(i, operand) - 1;
}

static void fill(int operand, MuseTensor *t, bool hyperbolic, bool documents) {
  if (operand == 3) {
    if (documents) muse_cuda_fill_documents(t);
    else memset(t->data, 0, (size_t)muse_type_elements(t->type) * sizeof *t->data);
  } else if (operand < 2) {
    if (hyperbolic) fill_directions(operand, t);
    else fill_factors(operand, t);
  } else if (hyperbolic && (operand == 4 || operand == 5)) {
    fill_radii(operand, t);
  } else if (hyperbolic && operand == 6) {
    for (int64_t i = 0; i < t->type.dim[0]; i++) t->data[i] = 0.5 + 2 * uniform(i, operand);
  } else {
    fill_uniform(operand, t);
  }
}

static void fill_dot(int operand, MuseTensor *t) { fill(operand, t, false, false); }
static void fill_dot_documents(int operand, MuseTensor *t) { fill(operand, t, false, true); }
static void fill_hyperbolic(int operand, MuseTensor *t) { fill(operand, t, true, false); }
static void fill_hyperbolic_documents(int operand, MuseTensor *t) { fill(operand, t, true, true); }

void muse_cuda_window_values(MuseCudaCase *c, bool documents) {
  const MuseOp *op = c->kernel->body->first;
  const bool hyperbolic = strcmp(muse_op_text(op, "score"), "hyperbolic") == 0;
  c->fill = hyperbolic ? (documents ? fill_hyperbolic_documents : fill_hyperbolic)
                       : (documents ? fill_dot_documents : fill_dot);
  c->bound = 2e-5;
  if (op->operands[0]->type.dtype != MUSE_F32) c->frobenius = 1e-2;
  else if (hyperbolic && op->n_results > 1) c->bound = 2e-4; // at twins the rounding of a product is 3e-5 of 1 - cos
}

// ---- cases ----

static void add(MuseCudaCaseList *list, const char *dtype, Shape s, bool hyperbolic, bool documents, bool grad) {
  MuseStr text = {0}, operands = {0}, results = {0};
  char label[64], vectors[64], radii[64];
  snprintf(vectors, sizeof vectors, "%s[%d,%d,%d,%d]", dtype, s.B, s.T, s.H, s.d);
  snprintf(radii, sizeof radii, "f32[%d,%d,%d]", s.B, s.T, s.H);
  snprintf(label, sizeof label, "window%s %s %s %dx%dx%dx%d W %d%s", grad ? " gradient" : "",
           hyperbolic ? "hyperbolic" : "dot", dtype, s.B, s.T, s.H, s.d, s.window, documents ? " documents" : "");
  muse_str_appendf(&text, "func @f(%%0 : %s, %%1 : %s, %%2 : %s, %%3 : i32[%d,%d]", vectors, vectors, vectors, s.B,
                   s.T);
  int n = 4;
  if (hyperbolic) {
    muse_str_appendf(&text, ", %%4 : %s, %%5 : %s, %%6 : f32[%d]", radii, radii, s.H);
    n = 7;
  }
  if (grad) muse_str_appendf(&text, ", %%%d : %s", n++, vectors);
  const int n_results = !grad ? 1 : hyperbolic ? 6 : 3;
  for (int i = 0; i < n; i++) muse_str_appendf(&operands, "%s%%%d", i ? ", " : "", i);
  for (int i = 0; i < n_results; i++) muse_str_appendf(&results, "%s%%%d", i ? ", " : "", n + i);
  muse_str_append(&text, ") -> (");
  for (int i = 0; i < n_results; i++) muse_str_append(&text, i ? ", {}" : "{}");
  muse_str_appendf(&text, ") {\n  %s = window_attention%s %s {window = %d, score = \"%s\"} : ",
                   muse_str_text(&results), grad ? "_grad" : "", muse_str_text(&operands), s.window,
                   hyperbolic ? "hyperbolic" : "dot");
  for (int i = 0; i < n_results; i++) {
    muse_str_append(&text, i ? ", " : "");
    if (i < 3) muse_str_append(&text, vectors);
    else if (i < 5) muse_str_append(&text, radii);
    else muse_str_appendf(&text, "f32[%d]", s.H);
  }
  muse_str_appendf(&text, "\n  return %s\n}", muse_str_text(&results));
  MuseCudaCase *c =
      muse_cuda_add_case(list, grad ? "window_attention_grad" : "window_attention", label, 2e-5, &text);
  muse_cuda_window_values(c, documents);
  muse_str_free(&operands);
  muse_str_free(&results);
}

static void add_pair(MuseCudaCaseList *list, const char *dtype, Shape s, bool hyperbolic, bool documents) {
  add(list, dtype, s, hyperbolic, documents, false);
  add(list, dtype, s, hyperbolic, documents, true);
}

int muse_cuda_window_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const struct {
    Shape shape;
    bool documents;
  } all[] = {
      {{1, 1, 1, 16, 1}, false},    {{2, 7, 3, 5, 3}, true},       {{1, 130, 2, 20, 1}, false},
      {{2, 200, 2, 64, 130}, true}, {{1, 300, 3, 128, 300}, false}, {{1, 90, 2, 200, 33}, true},
  };
  for (int i = 0; i < 6; i++)
    for (int dtype = 0; dtype < 2; dtype++) {
      add_pair(&list, dtype ? "bf16" : "f32", all[i].shape, true, all[i].documents);
      if (i % 2) add_pair(&list, dtype ? "bf16" : "f32", all[i].shape, false, !all[i].documents);
    }
  add_pair(&list, "bf16", (Shape){2, 515, 2, 128, 64}, true, true);
  add_pair(&list, "bf16", (Shape){1, 700, 2, 32, 4096}, false, false);
  add_pair(&list, "f16", (Shape){2, 150, 3, 64, 40}, true, false);
  add_pair(&list, "f16", (Shape){1, 70, 1, 6, 70}, false, true);
  return list.n;
}

int muse_cuda_window_bench_cases(MuseCudaCase *out, int capacity) {
  MuseCudaCaseList list = {.item = out, .capacity = capacity};
  static const int windows[] = {64, 256, 512};
  for (int i = 0; i < 3; i++) add_pair(&list, "bf16", (Shape){8, 512, 40, 128, windows[i]}, true, false);
  add_pair(&list, "bf16", (Shape){8, 512, 40, 128, 256}, false, false);
  add_pair(&list, "bf16", (Shape){1, 4096, 40, 128, 4096}, false, false);
  add_pair(&list, "bf16", (Shape){1, 4096, 40, 128, 4096}, true, false);
  add_pair(&list, "f32", (Shape){8, 512, 40, 128, 256}, true, false);
  add_pair(&list, "f32", (Shape){1, 4096, 40, 128, 4096}, false, false);
  return list.n;
}
