// Smaller forms of kernels (see the header): by the text, which says everything about a kernel.
#include "runtime/check_cut.h"

#include "compiler/kernel_info.h"
#include "ir/base/str.h"
#include "ir/text.h"
#include "ops/ops.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 32, MAX_DIMS = 64 };

static bool follows(const char *text, const char *p, const char *before) {
  size_t n = strlen(before);
  return (size_t)(p - text) >= n && strncmp(p - n, before, n) == 0;
}

// Calls `visit` with each dimension in the text ("f32[8,512]", "shape = [8, 512]", "rows = 512") and appends the text
// with what it returns in their place to *out (NULL: nothing).
static void each_dim(const char *text, int64_t (*visit)(void *context, int64_t dim), void *context, MuseStr *out) {
  bool in_type = false;
  for (const char *p = text; *p;) {
    if (*p == '[') in_type = p > text && (isalnum((unsigned char)p[-1]) || follows(text, p, "shape = "));
    if (*p == ']') in_type = false;
    if (isdigit((unsigned char)*p) && (in_type || follows(text, p, "rows = "))) {
      char *end;
      int64_t dim = visit(context, strtoll(p, &end, 10));
      if (out) muse_str_appendf(out, "%lld", (long long)dim);
      p = end;
    } else {
      if (out) muse_str_append_n(out, p, 1);
      p++;
    }
  }
}

typedef struct Dims { int64_t dim[MAX_DIMS]; int n; } Dims;

static int64_t collect(void *context, int64_t dim) {
  Dims *d = context;
  for (int i = 0; i < d->n; i++)
    if (d->dim[i] == dim) return dim;
  if (dim > SMALLEST && d->n < MAX_DIMS) d->dim[d->n++] = dim;
  return dim;
}

typedef struct Swap { int64_t from, to; } Swap;
static int64_t swap(void *context, int64_t dim) {
  const Swap *s = context;
  return dim == s->from ? s->to : dim;
}

static int descending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? 1 : x > y ? -1 : 0;
}

// The types of the block's arguments: "(%0 : T, %1 : T):" of the canonical text.
static void append_args(const char *body, bool with_types, int first, MuseStr *out) {
  const char *p = strchr(body, '(') + 1, *end = strstr(body, "):");
  for (int i = 0; p < end; i++) {
    const char *type = strchr(p, ':') + 2;
    size_t length = 0;
    while (type + length < end && type[length] != ']') length++;
    length++;
    if (i) muse_str_append(out, ", ");
    muse_str_appendf(out, "%%%d", first + i);
    if (with_types) muse_str_appendf(out, " : %.*s", (int)length, type);
    p = type + length;
    if (*p == ',') p += 2;
  }
}

// Placement is not part of the canonical text, nor are the numbers of random streams, which a kernel needs.
static void append_ids(const MuseOp *kernel, MuseStr *out) {
  const MuseAttr *ids = muse_attr_find(&kernel->attrs, "rng_ids");
  if (!ids) return;
  muse_str_append(out, "rng_ids = [");
  for (int i = 0; i < ids->ints.len; i++)
    muse_str_appendf(out, "%s%lld", i ? ", " : "", (long long)ids->ints.data[i]);
  muse_str_append(out, "], ");
}

// A module of one function with one kernel, from its canonical text.
static void module_text(const char *canonical, const MuseOp *kernel, MuseStr *out) {
  const char *body = strstr(canonical, "^(");
  size_t head = (size_t)(body - canonical);
  // Numbers that no value of the body has: each of those takes several characters.
  int first_operand = (int)(strlen(canonical) / 2), first_result = first_operand + 500;
  muse_str_append(out, "module {level = \"kernel\"} source \"\"\n\nfunc @cut(");
  append_args(body, true, first_operand, out);
  muse_str_append(out, ") -> () {\n  ");
  // "kernel {attributes} : types {": results and operands are put in.
  const char *types = canonical;
  for (const char *p = canonical; p < canonical + head; p++)
    if (strncmp(p, "} : ", 4) == 0) types = p + 4;
  int n_results = 0, depth = 0;
  for (const char *p = types; p < canonical + head && *p != '{'; p++) {
    depth += (*p == '[') - (*p == ']');
    n_results += *p == ']' && depth == 0;
  }
  for (int i = 0; i < n_results; i++) muse_str_appendf(out, "%s%%%d", i ? ", " : "", first_result + i);
  muse_str_append(out, n_results ? " = kernel " : "kernel ");
  append_args(body, false, first_operand, out);
  size_t attributes = strlen("kernel {");
  muse_str_append(out, " {");
  append_ids(kernel, out);
  muse_str_append_n(out, canonical + attributes, head - attributes);
  muse_str_append(out, body);
  muse_str_append(out, "  return\n}\n");
}

// Parses and verifies; NULL when that fails.
static MuseModule *make(const char *canonical, const MuseOp *original, MuseOp **out_kernel) {
  MuseStr text = {0};
  MuseDiag *quiet = muse_diag_create();
  MuseModule *module = NULL;
  module_text(canonical, original, &text);
  MuseStatus status = muse_module_parse("cut kernel", muse_str_text(&text), text.len, &module, quiet);
  if (status != MUSE_OK) module = NULL;
  if (status == MUSE_OK) status = muse_ops_verify(module, quiet);
  MuseOp *kernel = status == MUSE_OK ? module->first_func->body.first : NULL;
  if (kernel && (kernel->kind != MUSE_OP_kernel || muse_kernel_fault(kernel))) kernel = NULL;
  if (!kernel && module) {
    muse_module_destroy(module);
    module = NULL;
  }
  *out_kernel = kernel;
  muse_str_free(&text);
  muse_diag_destroy(quiet);
  return module;
}

void muse_cut_free(MuseCutKernel *cut) {
  if (cut->module) muse_module_destroy(cut->module);
  *cut = (MuseCutKernel){0};
}

// Halves one dimension as far as needed and possible; the text stays that of the smallest that verified.
static void halve(MuseStr *text, int64_t dim, const MuseOp *original, bool (*small_enough)(const MuseOp *),
                  MuseCutKernel *cut) {
  while (dim / 2 >= SMALLEST && !(cut->kernel && small_enough(cut->kernel))) {
    Swap s = {dim, dim / 2};
    MuseStr smaller = {0};
    MuseCutKernel next;
    each_dim(muse_str_text(text), swap, &s, &smaller);
    next.module = make(muse_str_text(&smaller), original, &next.kernel);
    if (!next.module) {
      muse_str_free(&smaller);
      return;
    }
    muse_cut_free(cut);
    *cut = next;
    muse_str_free(text);
    *text = smaller;
    dim /= 2;
  }
}

bool muse_kernel_cut(MuseModule *module, const MuseOp *kernel, bool (*small_enough)(const MuseOp *kernel),
                     MuseCutKernel *out_cut) {
  MuseStr text = {0};
  Dims dims = {0};
  *out_cut = (MuseCutKernel){0};
  muse_kernel_print_canonical(module, kernel, &text);
  each_dim(muse_str_text(&text), collect, &dims, NULL);
  qsort(dims.dim, (size_t)dims.n, sizeof *dims.dim, descending);
  for (int i = 0; i < dims.n; i++) halve(&text, dims.dim[i], kernel, small_enough, out_cut);
  muse_str_free(&text);
  if (out_cut->kernel && small_enough(out_cut->kernel)) return true;
  muse_cut_free(out_cut);
  return false;
}
