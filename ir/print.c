// IR to text. Whole models pass here, so the small parts are appended without printf.
#include "ir/text.h"

#include "ir/base/status.h"
#include "ir/lex.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIT(out, text) muse_str_append_n((out), "" text, sizeof(text) - 1)

static void print_int(int64_t value, MuseStr *out) {
  char text[24], *p = text + sizeof text;
  uint64_t u = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do *--p = (char)('0' + u % 10);
  while (u /= 10);
  if (value < 0) *--p = '-';
  muse_str_append_n(out, p, (size_t)(text + sizeof text - p));
}

static void print_quoted(const char *text, MuseStr *out) {
  LIT(out, "\"");
  const char *plain = text;
  for (const char *p = text; *p; p++) {
    unsigned char c = (unsigned char)*p;
    if (c >= 0x20 && c != 0x7f && c != '"' && c != '\\') continue;
    muse_str_append_n(out, plain, (size_t)(p - plain));
    plain = p + 1;
    if (c == '"') LIT(out, "\\\"");
    else if (c == '\\') LIT(out, "\\\\");
    else if (c == '\n') LIT(out, "\\n");
    else if (c == '\t') LIT(out, "\\t");
    else if (c == '\r') LIT(out, "\\r");
    else muse_str_appendf(out, "\\x%02x", c);
  }
  muse_str_append(out, plain);
  LIT(out, "\"");
}

static void print_at_name(const char *name, MuseStr *out) {
  LIT(out, "@");
  if (muse_lex_is_name(name)) muse_str_append(out, name);
  else print_quoted(name, out);
}

static void print_word(const char *word, MuseStr *out) {
  if (muse_lex_is_word(word)) muse_str_append(out, word);
  else print_quoted(word, out);
}

static void print_real(double value, MuseStr *out) {
  if (isnan(value)) {
    muse_str_append(out, signbit(value) ? "-nan" : "nan");
    return;
  }
  size_t begin = out->len;
  muse_str_append_double(out, value);
  if (isfinite(value) && !strpbrk(out->data + begin, ".e")) LIT(out, ".0"); // 1 would be an integer
}

static void print_attr(const MuseAttr *a, MuseStr *out) {
  print_word(a->name, out);
  LIT(out, " = ");
  switch (a->kind) {
    case MUSE_ATTR_INT: print_int(a->i, out); break;
    case MUSE_ATTR_REAL: print_real(a->real, out); break;
    case MUSE_ATTR_BOOL: muse_str_append(out, a->b ? "true" : "false"); break;
    case MUSE_ATTR_TEXT: print_quoted(a->text, out); break;
    case MUSE_ATTR_INTS:
      LIT(out, "[");
      for (int i = 0; i < a->ints.len; i++) {
        if (i) LIT(out, ", ");
        print_int(a->ints.data[i], out);
      }
      LIT(out, "]");
      break;
    case MUSE_ATTR_DTYPE: muse_str_append(out, muse_dtype_name(a->dtype)); break;
  }
}

// Attributes of a kernel that do not change its code.
static bool is_placement(const char *name) {
  return muse_str_eq(name, "offset") || muse_str_eq(name, "workspace") || muse_str_eq(name, "rng_ids") ||
         muse_str_eq(name, "name");
}

static void print_braced_attrs(const MuseAttrList *list, bool canonical, MuseStr *out) {
  LIT(out, "{");
  bool first = true;
  for (int i = 0; i < list->len; i++) {
    if (canonical && is_placement(list->data[i].name)) continue;
    if (!first) LIT(out, ", ");
    first = false;
    print_attr(&list->data[i], out);
  }
  LIT(out, "}");
}

static void print_attrs(const MuseAttrList *list, MuseStr *out) { // " {...}", nothing for an empty list
  if (list->len == 0) return;
  LIT(out, " ");
  print_braced_attrs(list, false, out);
}

static void print_value(const MuseValue *value, MuseStr *out) {
  LIT(out, "%");
  print_int(value->id, out);
}

static void print_values(MuseValue *const *values, int n, MuseStr *out) {
  for (int i = 0; i < n; i++) {
    if (i) LIT(out, ", ");
    print_value(values[i], out);
  }
}

static void print_typed_args(const MuseRegion *region, MuseStr *out) {
  LIT(out, "(");
  for (int i = 0; i < region->n_args; i++) {
    if (i) LIT(out, ", ");
    print_value(region->args[i], out);
    LIT(out, " : ");
    muse_type_print(region->args[i]->type, out);
    if (region->arg_attrs) print_attrs(&region->arg_attrs[i], out);
  }
  LIT(out, ")");
}

static void indent(int depth, MuseStr *out) {
  for (int i = 0; i < depth; i++) LIT(out, "  ");
}

static void print_place(const MuseOp *op, MuseStr *out) {
  if (op->loc.line > 0 || op->loc.key) {
    LIT(out, " loc(");
    print_int(op->loc.line, out);
    LIT(out, ":");
    print_int(op->loc.col, out);
    if (op->loc.key) {
      LIT(out, " ");
      print_word(op->loc.key, out);
    }
    LIT(out, ")");
  }
  if (op->layer >= 0) {
    LIT(out, " layer(");
    print_int(op->layer, out);
    LIT(out, ")");
  }
  static const char *const stages[] = {"", " forward", " backward", " update"};
  muse_str_append(out, stages[op->stage]);
}

static void print_op(const MuseOp *op, int depth, bool canonical, MuseStr *out);

static void print_body(const MuseRegion *region, int depth, bool canonical, MuseStr *out) {
  LIT(out, " {\n");
  indent(depth, out);
  LIT(out, "^");
  print_typed_args(region, out);
  LIT(out, ":\n");
  for (const MuseOp *op = region->first; op; op = op->next) print_op(op, depth + 1, canonical, out);
  indent(depth, out);
  LIT(out, "}");
}

static void print_op(const MuseOp *op, int depth, bool canonical, MuseStr *out) {
  indent(depth, out);
  if (op->n_results) {
    print_values(op->results, op->n_results, out);
    LIT(out, " = ");
  }
  muse_str_append(out, muse_op_info(op->kind)->name);
  if (op->n_operands) {
    LIT(out, " ");
    print_values(op->operands, op->n_operands, out);
  }
  print_attrs(&op->attrs, out);
  for (int i = 0; i < op->n_results; i++) {
    if (i) LIT(out, ", ");
    else LIT(out, " : ");
    muse_type_print(op->results[i]->type, out);
  }
  if (!canonical) print_place(op, out);
  if (op->body) print_body(op->body, depth, canonical, out);
  LIT(out, "\n");
}

void muse_func_print(MuseFunc *func, MuseStr *out) {
  muse_func_number(func);
  LIT(out, "func ");
  print_at_name(func->name, out);
  print_typed_args(&func->body, out);
  LIT(out, " -> (");
  for (int i = 0; i < func->n_results; i++) {
    if (i) LIT(out, ", ");
    print_braced_attrs(&func->result_attrs[i], false, out);
  }
  LIT(out, ")");
  print_attrs(&func->attrs, out);
  LIT(out, " {\n");
  for (const MuseOp *op = func->body.first; op; op = op->next) print_op(op, 1, false, out);
  LIT(out, "}\n");
}

void muse_module_print(MuseModule *module, MuseStr *out) {
  LIT(out, "module");
  print_attrs(&module->attrs, out);
  if (*module->source) {
    LIT(out, " source ");
    print_quoted(module->source, out);
  }
  LIT(out, "\n");
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *b = module->buffers[i];
    LIT(out, "buffer ");
    print_at_name(b->name, out);
    LIT(out, " : ");
    muse_type_print(b->type, out);
    LIT(out, " role ");
    print_quoted(b->role, out);
    print_attrs(&b->attrs, out);
    LIT(out, "\n");
  }
  for (MuseFunc *f = module->first_func; f; f = f->next) {
    LIT(out, "\n");
    muse_func_print(f, out);
  }
}

void muse_op_print(const MuseOp *op, MuseStr *out) {
  size_t begin = out->len;
  print_op(op, 0, false, out);
  // One line of it: a kernel's body is left out.
  char *brace = op->body && out->data ? strstr(out->data + begin, " {\n") : NULL;
  if (brace) {
    *brace = '\0';
    out->len = (size_t)(brace - out->data);
  } else if (out->len > begin && out->data[out->len - 1] == '\n') {
    out->data[--out->len] = '\0';
  }
}

// --- canonical text ---

// Numbers the values of a region from `next`; ids they had are appended to `saved` (NULL: not kept) in the same order.
static int renumber(MuseRegion *region, int next, int *saved) {
  for (int i = 0; i < region->n_args; i++) {
    if (saved) saved[next] = region->args[i]->id;
    region->args[i]->id = next++;
  }
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_results; i++) {
      if (saved) saved[next] = op->results[i]->id;
      op->results[i]->id = next++;
    }
    if (op->body) next = renumber(op->body, next, saved);
  }
  return next;
}

static int count_values(const MuseRegion *region) {
  int n = region->n_args;
  for (const MuseOp *op = region->first; op; op = op->next)
    n += op->n_results + (op->body ? count_values(op->body) : 0);
  return n;
}

static int restore(MuseRegion *region, int next, const int *saved) {
  for (int i = 0; i < region->n_args; i++) region->args[i]->id = saved[next++];
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_results; i++) op->results[i]->id = saved[next++];
    if (op->body) next = restore(op->body, next, saved);
  }
  return next;
}

void muse_kernel_print_canonical(MuseModule *module, const MuseOp *kernel, MuseStr *out) {
  MUSE_ASSERT(kernel->kind == MUSE_OP_kernel && kernel->body);
  int *saved = malloc(sizeof *saved * ((size_t)count_values(kernel->body) + 1));
  MUSE_ASSERT(saved);
  renumber(kernel->body, 0, saved);
  LIT(out, "kernel ");
  print_braced_attrs(&kernel->attrs, true, out);
  LIT(out, " :");
  for (int i = 0; i < kernel->n_results; i++) {
    if (i) LIT(out, ", ");
    else LIT(out, " ");
    muse_type_print(kernel->results[i]->type, out);
  }
  print_body(kernel->body, 0, true, out);
  LIT(out, "\n");
  restore(kernel->body, 0, saved);
  free(saved);
}
