// Checks every invariant that the rest of the compiler takes for granted. Works on damaged structures: nothing is
// followed before it has been checked.
#include "ir/verify.h"

#include "ir/base/status.h"
#include "ir/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16

typedef struct Verifier {
  MuseModule *module;
  MuseFunc *func;
  MuseInferFn infer;
  MuseDiag *diag;
  MuseDiag *scratch; // for messages of `infer`, which get place and text of the op added
  bool kernel_level;
  bool sound; // the structure of the function has been checked: ops can be printed
  MuseValue **values; // by id
  bool *seen;         // the definition has been passed
  int n_values;
  char *buffer_seen; // by buffer index: 1 bound to an argument, 2 to a result
} Verifier;

// One sentence: function, op, what is wrong.
__attribute__((format(printf, 3, 4))) static MuseStatus damaged(Verifier *v, const MuseOp *op, const char *format,
                                                                ...) {
  char message[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  MuseLoc loc = op && op->loc.line > 0 ? op->loc : (MuseLoc){0};
  const char *name = v->func->name ? v->func->name : "";
  if (!op) return muse_error_at(v->diag, MUSE_ERR_INPUT, loc, "in function @%s: %s", name, message);
  if (!v->sound) {
    return muse_error_at(v->diag, MUSE_ERR_INPUT, loc, "in function @%s: op '%s': %s", name,
                         muse_op_info(op->kind)->name, message);
  }
  MuseStr text = {0};
  muse_op_print(op, &text);
  muse_error_at(v->diag, MUSE_ERR_INPUT, loc, "in function @%s: %s: in \"%s\"", name, message, muse_str_text(&text));
  muse_str_free(&text);
  return MUSE_ERR_INPUT;
}

// Names are compared more often than anything else here, and most differ in the first letter.
static bool same_name(const char *a, const char *b) { return *a == *b && strcmp(a, b) == 0; }

// --- structure: pointers, links, counts; after it the function can be walked, numbered and printed ---

static MuseStatus check_list_memory(Verifier *v, const MuseOp *op, const MuseAttrList *list) {
  if (list->len < 0 || list->len > list->cap || (list->len > 0 && !list->data)) {
    return damaged(v, op, "the attribute list is damaged");
  }
  for (int i = 0; i < list->len; i++) {
    const MuseAttr *a = &list->data[i];
    if (!a->name) return damaged(v, op, "an attribute has no name");
    if (a->kind > MUSE_ATTR_DTYPE) return damaged(v, op, "attribute '%s' is of no known kind", a->name);
    if (a->kind == MUSE_ATTR_TEXT && !a->text) return damaged(v, op, "attribute '%s' has no text", a->name);
    if (a->kind == MUSE_ATTR_INTS && (a->ints.len < 0 || (a->ints.len > 0 && !a->ints.data))) {
      return damaged(v, op, "attribute '%s' has no integers", a->name);
    }
    if (a->kind == MUSE_ATTR_DTYPE && (unsigned)a->dtype >= MUSE_N_DTYPES) {
      return damaged(v, op, "attribute '%s' holds no element type", a->name);
    }
    for (int j = 0; j < i; j++) {
      if (same_name(list->data[j].name, a->name)) return damaged(v, op, "attribute '%s' is given twice", a->name);
    }
  }
  return MUSE_OK;
}

static MuseStatus check_region(Verifier *v, MuseRegion *region, MuseOp *owner, int depth);

static MuseStatus check_op_memory(Verifier *v, MuseOp *op, int depth) {
  if (op->n_operands < 0 || (op->n_operands > 0 && !op->operands)) return damaged(v, op, "the operand list is damaged");
  for (int i = 0; i < op->n_operands; i++) {
    if (!op->operands[i]) return damaged(v, op, "operand %d is missing", i);
  }
  if (op->n_results < 0 || (op->n_results > 0 && !op->results)) return damaged(v, op, "the result list is damaged");
  for (int i = 0; i < op->n_results; i++) {
    const MuseValue *r = op->results[i];
    if (!r) return damaged(v, op, "result %d is missing", i);
    if (r->def != op) return damaged(v, op, "result %d does not name this op as its definition", i);
    if (r->index != i) return damaged(v, op, "result %d has the index %d", i, r->index);
    if (r->region != op->region) return damaged(v, op, "result %d names another region than its op", i);
    if (!muse_type_valid(r->type)) return damaged(v, op, "result %d has no legal type", i);
  }
  v->n_values += op->n_results;
  MUSE_TRY(check_list_memory(v, op, &op->attrs));
  if (op->layer < -1) return damaged(v, op, "the layer is %d", op->layer);
  if ((unsigned)op->stage > MUSE_STAGE_UPDATE) return damaged(v, op, "the stage is unknown");
  if (op->body && op->kind != MUSE_OP_kernel) return damaged(v, op, "only a kernel has a region");
  if (!op->body && op->kind == MUSE_OP_kernel) return damaged(v, op, "the kernel has no region");
  return op->body ? check_region(v, op->body, op, depth + 1) : MUSE_OK;
}

static MuseStatus check_region(Verifier *v, MuseRegion *region, MuseOp *owner, int depth) {
  if (depth > MAX_DEPTH) return damaged(v, owner, "regions stand too deep in each other");
  if (region->owner != owner) return damaged(v, owner, "a region does not name the op it belongs to");
  if (region->n_args < 0 || (region->n_args > 0 && !region->args))
    return damaged(v, owner, "the argument list is damaged");
  for (int i = 0; i < region->n_args; i++) {
    const MuseValue *a = region->args[i];
    if (!a) return damaged(v, owner, "argument %d is missing", i);
    if (a->def) return damaged(v, owner, "argument %d names an op as its definition", i);
    if (a->index != i) return damaged(v, owner, "argument %d has the index %d", i, a->index);
    if (a->region != region) return damaged(v, owner, "argument %d names another region than its own", i);
    if (!muse_type_valid(a->type)) return damaged(v, owner, "argument %d has no legal type", i);
  }
  v->n_values += region->n_args;
  if (!owner && region->n_args > 0 && !region->arg_attrs)
    return damaged(v, owner, "the arguments have no attribute lists");
  if (owner && region->arg_attrs) return damaged(v, owner, "arguments of a kernel's region have attributes");
  for (int i = 0; !owner && i < region->n_args; i++) MUSE_TRY(check_list_memory(v, owner, &region->arg_attrs[i]));
  // A list that comes back to one of its ops gives that op two predecessors, so this walk ends.
  MuseOp *prev = NULL;
  for (MuseOp *op = region->first; op; prev = op, op = op->next) {
    if ((unsigned)op->kind >= MUSE_N_OPS) return damaged(v, owner, "an op is of no known kind");
    if (op->prev != prev) return damaged(v, op, "the op before it is not the one it names");
    if (op->region != region) return damaged(v, op, "it names another region than the one it stands in");
    MUSE_TRY(check_op_memory(v, op, depth));
  }
  if (region->last != prev) return damaged(v, owner, "the last op is not the end of the list");
  return MUSE_OK;
}

// --- meaning ---

static MuseStatus check_schema(Verifier *v, const MuseOp *op) {
  int n;
  const MuseAttrSchema *schema = muse_op_schema(op->kind, &n);
  for (int i = 0; i < op->attrs.len; i++) {
    const MuseAttr *a = &op->attrs.data[i];
    int row = 0;
    while (row < n && !same_name(a->name, schema[row].value.name)) row++;
    if (row == n) return damaged(v, op, "the op has no attribute '%s'", a->name);
    if (a->kind != schema[row].kind) {
      return damaged(v, op, "attribute '%s' is of kind %s, not %s", a->name, muse_attr_kind_name(a->kind),
                     muse_attr_kind_name(schema[row].kind));
    }
  }
  for (int i = 0; i < n; i++) {
    const char *name = schema[i].value.name;
    if (schema[i].required && !muse_attr_find(&op->attrs, name))
      return damaged(v, op, "attribute '%s' is missing", name);
  }
  return MUSE_OK;
}

static MuseStatus check_operands(Verifier *v, const MuseOp *op) {
  const MuseOpInfo *info = muse_op_info(op->kind);
  if (op->n_operands < info->min_operands || (info->max_operands >= 0 && op->n_operands > info->max_operands)) {
    if (info->max_operands < 0) {
      return damaged(v, op, "the op has %d operands, not at least %d", op->n_operands, info->min_operands);
    }
    if (info->min_operands == info->max_operands) {
      return damaged(v, op, "the op has %d operands, not %d", op->n_operands, info->min_operands);
    }
    return damaged(v, op, "the op has %d operands, not %d to %d", op->n_operands, info->min_operands,
                   info->max_operands);
  }
  if (info->results >= 0 && op->n_results != info->results) {
    return damaged(v, op, "the op has %d results, not %d", op->n_results, info->results);
  }
  for (int i = 0; i < op->n_operands; i++) {
    const MuseValue *value = op->operands[i];
    if (value->id < 0 || value->id >= v->n_values || v->values[value->id] != value) {
      return damaged(v, op, "operand %d is no value of this function", i);
    }
    if (value->region != op->region) {
      if (op->region->owner) return damaged(v, op, "operand %d comes from outside the kernel's region", i);
      return damaged(v, op, "operand %d comes from inside a kernel's region", i);
    }
    if (!v->seen[value->id]) return damaged(v, op, "operand %d is used before it is defined", i);
  }
  return MUSE_OK;
}

static MuseStatus check_inferred(Verifier *v, const MuseOp *op) {
  MuseType few[8], *types = few;
  if (op->n_results > 8) {
    types = malloc(sizeof *types * (size_t)op->n_results);
    MUSE_ASSERT(types);
  }
  MuseStatus status = v->infer(op, types, v->scratch);
  if (status != MUSE_OK) {
    const char *why = muse_diag_message(v->scratch, 0);
    damaged(v, op, "%s", why ? why : "the types of its operands are wrong");
    muse_diag_clear(v->scratch);
  }
  for (int i = 0; status == MUSE_OK && i < op->n_results; i++) {
    if (muse_type_eq(types[i], op->results[i]->type)) continue;
    MuseStr have = {0}, want = {0};
    muse_type_print(op->results[i]->type, &have);
    if (muse_type_valid(types[i])) muse_type_print(types[i], &want);
    else muse_str_append(&want, "a tensor larger than any address space");
    status = damaged(v, op, "result %d has type %s, but its operands make it %s", i, muse_str_text(&have),
                     muse_str_text(&want));
    muse_str_free(&have);
    muse_str_free(&want);
  }
  if (types != few) free(types);
  return status;
}

static MuseStatus check_meaning(Verifier *v, MuseRegion *region);

static MuseStatus check_same_type(Verifier *v, const MuseOp *op, const char *what, int i, MuseType a, const char *other,
                                  MuseType b) {
  if (muse_type_eq(a, b)) return MUSE_OK;
  MuseStr have = {0}, want = {0};
  muse_type_print(a, &have);
  muse_type_print(b, &want);
  damaged(v, op, "%s %d has type %s, but %s has type %s", what, i, muse_str_text(&have), other, muse_str_text(&want));
  muse_str_free(&have);
  muse_str_free(&want);
  return MUSE_ERR_INPUT;
}

// A random op in a kernel names an entry of the kernel's rng_ids.
static MuseStatus check_rng_id(Verifier *v, const MuseOp *op) {
  if (!(muse_op_info(op->kind)->traits & MUSE_TRAIT_RANDOM)) return MUSE_OK;
  const MuseAttr *ids = muse_attr_find(&op->region->owner->attrs, "rng_ids");
  int64_t id = muse_op_int(op, "rng_id"), n = ids ? ids->ints.len : 0;
  if (id >= 0 && id < n) return MUSE_OK;
  return damaged(v, op, "rng_id is %lld, but the kernel's rng_ids has %lld entries", (long long)id, (long long)n);
}

static MuseStatus check_kernel(Verifier *v, const MuseOp *op) {
  MuseRegion *body = op->body;
  if (op->region->owner) return damaged(v, op, "a kernel stands in a kernel");
  if (body->n_args != op->n_operands) {
    return damaged(v, op, "the kernel has %d operands, but its region has %d arguments", op->n_operands, body->n_args);
  }
  for (int i = 0; i < body->n_args; i++) {
    MUSE_TRY(
        check_same_type(v, op, "operand", i, op->operands[i]->type, "the argument of the region", body->args[i]->type));
  }
  const MuseAttr *offset = muse_attr_find(&op->attrs, "offset"), *workspace = muse_attr_find(&op->attrs, "workspace");
  if (offset && offset->ints.len != op->n_results) {
    return damaged(v, op, "offset has %d entries for %d results", offset->ints.len, op->n_results);
  }
  if (workspace && workspace->ints.len != 2)
    return damaged(v, op, "workspace has %d entries, not 2", workspace->ints.len);
  const MuseAttr *ids = muse_attr_find(&op->attrs, "rng_ids");
  for (int i = 0; ids && i < ids->ints.len; i++) {
    if (ids->ints.data[i] < 0) return damaged(v, op, "rng_ids holds a negative number");
  }
  MUSE_TRY(check_meaning(v, body));
  const MuseOp *yield = body->last;
  if (yield->n_operands != op->n_results) {
    return damaged(v, op, "the kernel has %d results, but its region yields %d values", op->n_results,
                   yield->n_operands);
  }
  for (int i = 0; i < op->n_results; i++) {
    MUSE_TRY(check_same_type(v, op, "result", i, op->results[i]->type, "the yielded value", yield->operands[i]->type));
  }
  return MUSE_OK;
}

static MuseStatus check_place(Verifier *v, const MuseOp *op) {
  const MuseOpInfo *info = muse_op_info(op->kind);
  const MuseOp *owner = op->region->owner;
  MuseOpKind end = owner ? MUSE_OP_yield : MUSE_OP_return;
  bool terminator = info->traits & MUSE_TRAIT_TERMINATOR;
  if (terminator && op->kind != end) {
    return damaged(v, op, owner ? "a kernel's region ends with yield" : "a function ends with return");
  }
  if (terminator && op->next) return damaged(v, op, "ops follow the end of the region");
  if (owner && info->class_ == MUSE_CLASS_COMPOSITE) return damaged(v, op, "a composite op stands in a kernel");
  if (!owner && v->kernel_level && !terminator && op->kind != MUSE_OP_kernel && op->kind != MUSE_OP_reshape) {
    return damaged(v, op, "at level \"kernel\" a function holds only kernels, reshapes and return");
  }
  return MUSE_OK;
}

static MuseStatus check_meaning(Verifier *v, MuseRegion *region) {
  for (int i = 0; i < region->n_args; i++) v->seen[region->args[i]->id] = true;
  for (MuseOp *op = region->first; op; op = op->next) {
    MUSE_TRY(check_place(v, op));
    MUSE_TRY(check_operands(v, op));
    MUSE_TRY(check_schema(v, op));
    if (op->kind == MUSE_OP_kernel) MUSE_TRY(check_kernel(v, op));
    else if (muse_op_info(op->kind)->class_ != MUSE_CLASS_CONTROL) MUSE_TRY(check_inferred(v, op));
    if (region->owner) MUSE_TRY(check_rng_id(v, op));
    for (int i = 0; i < op->n_results; i++) v->seen[op->results[i]->id] = true;
  }
  if (!region->last || !(muse_op_info(region->last->kind)->traits & MUSE_TRAIT_TERMINATOR)) {
    if (region->owner) return damaged(v, region->owner, "the kernel's region does not end with yield");
    return damaged(v, NULL, "the function does not end with return");
  }
  return MUSE_OK;
}

static MuseStatus check_binding(Verifier *v, const MuseAttrList *attrs, MuseType type, const char *what, int index,
                                char bit) {
  const MuseAttr *a = muse_attr_find(attrs, "buffer");
  if (!a) return MUSE_OK;
  if (a->kind != MUSE_ATTR_TEXT) return damaged(v, NULL, "attribute 'buffer' of %s %d is not text", what, index);
  const MuseBuffer *buffer = muse_module_buffer(v->module, a->text);
  if (!buffer) return damaged(v, NULL, "%s %d is bound to buffer '%s', which is not declared", what, index, a->text);
  if (!muse_type_eq(buffer->type, type)) {
    MuseStr have = {0}, want = {0};
    muse_type_print(type, &have);
    muse_type_print(buffer->type, &want);
    damaged(v, NULL, "%s %d has type %s, but buffer '%s' has type %s", what, index, muse_str_text(&have), a->text,
            muse_str_text(&want));
    muse_str_free(&have);
    muse_str_free(&want);
    return MUSE_ERR_INPUT;
  }
  if (v->buffer_seen[buffer->index] & bit) return damaged(v, NULL, "buffer '%s' is bound to two %ss", a->text, what);
  v->buffer_seen[buffer->index] |= bit;
  return MUSE_OK;
}

static MuseStatus check_bindings(Verifier *v) {
  MuseFunc *func = v->func;
  const MuseOp *ret = func->body.last;
  if (func->n_results != ret->n_operands) {
    return damaged(v, ret, "the function declares %d results, but returns %d values", func->n_results, ret->n_operands);
  }
  for (int i = 0; i < func->body.n_args; i++) {
    MUSE_TRY(check_binding(v, &func->body.arg_attrs[i], func->body.args[i]->type, "argument", i, 1));
  }
  for (int i = 0; i < func->n_results; i++) {
    MUSE_TRY(check_binding(v, &func->result_attrs[i], ret->operands[i]->type, "result", i, 2));
  }
  return MUSE_OK;
}

// Numbers all values as muse_func_number does, and keeps them by number.
static int collect(Verifier *v, MuseRegion *region, int id) {
  for (int i = 0; i < region->n_args; i++, id++) (v->values[id] = region->args[i])->id = id;
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_results; i++, id++) (v->values[id] = op->results[i])->id = id;
    if (op->body) id = collect(v, op->body, id);
  }
  return id;
}

static MuseStatus verify(Verifier *v) {
  MuseFunc *func = v->func;
  if (!func->name || !*func->name) return damaged(v, NULL, "the function has no name");
  MUSE_TRY(check_list_memory(v, NULL, &func->attrs));
  if (func->n_results < 0 || (func->n_results > 0 && !func->result_attrs)) {
    return damaged(v, NULL, "the results have no attribute lists");
  }
  for (int i = 0; i < func->n_results; i++) MUSE_TRY(check_list_memory(v, NULL, &func->result_attrs[i]));
  MUSE_TRY(check_region(v, &func->body, NULL, 0));
  v->sound = true;
  v->values = calloc((size_t)v->n_values + 1, sizeof *v->values);
  v->seen = calloc((size_t)v->n_values + 1, sizeof *v->seen);
  v->buffer_seen = calloc((size_t)v->module->n_buffers + 1, 1);
  MUSE_ASSERT(v->values && v->seen && v->buffer_seen);
  collect(v, &func->body, 0);
  MUSE_TRY(check_meaning(v, &func->body));
  return check_bindings(v);
}

MuseStatus muse_verify_func(MuseFunc *func, MuseInferFn infer, MuseDiag *diag) {
  MUSE_ASSERT(func->module);
  Verifier v = {.module = func->module, .func = func, .infer = infer, .diag = diag, .scratch = muse_diag_create()};
  const MuseAttr *level = muse_attr_find(&func->module->attrs, "level");
  v.kernel_level = level && level->kind == MUSE_ATTR_TEXT && muse_str_eq(level->text, "kernel");
  MuseStatus status = verify(&v);
  muse_diag_destroy(v.scratch);
  free(v.values);
  free(v.seen);
  free(v.buffer_seen);
  return status;
}

static MuseStatus verify_buffers(MuseModule *module, MuseDiag *diag) {
  static const char *const roles[] = {"param", "scale", "moment", "packed", "const",
                                      "grad",  "input", "hyper",  "output", "state"};
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *b = module->buffers[i];
    if (muse_module_buffer(module, b->name) != b || b->index != i) {
      return muse_error(diag, MUSE_ERR_INPUT, "buffer '%s' is not the one found under its name", b->name);
    }
    if (!muse_type_valid(b->type)) return muse_error(diag, MUSE_ERR_INPUT, "buffer '%s' has no legal type", b->name);
    size_t r = 0, n = sizeof roles / sizeof *roles;
    while (r < n && !muse_str_eq(roles[r], b->role)) r++;
    if (r == n) {
      const char *near = muse_str_nearest(b->role, roles, n);
      return muse_error(diag, MUSE_ERR_INPUT, "buffer '%s' has the unknown role '%s'; did you mean '%s'?", b->name,
                        b->role, near ? near : "param");
    }
  }
  return MUSE_OK;
}

// The attributes that passes and reports read of modules, functions and buffers; others are free.
static const struct {
  const char *name;
  MuseAttrKind kind;
} known_attrs[] = {
    {"config", MUSE_ATTR_TEXT},      {"decay", MUSE_ATTR_BOOL},  {"differentiate", MUSE_ATTR_BOOL},
    {"first", MUSE_ATTR_REAL},       {"init", MUSE_ATTR_TEXT},   {"gradient_accumulation_steps", MUSE_ATTR_INT},
    {"last", MUSE_ATTR_REAL},        {"latent", MUSE_ATTR_BOOL}, {"nominal_parameters", MUSE_ATTR_INT},
    {"layer", MUSE_ATTR_INT},        {"live", MUSE_ATTR_INT},    {"parameters", MUSE_ATTR_INT},
    {"passes_done", MUSE_ATTR_INT},  {"peak", MUSE_ATTR_INT},    {"remat", MUSE_ATTR_BOOL},
    {"slab", MUSE_ATTR_INT},         {"std", MUSE_ATTR_REAL},    {"target", MUSE_ATTR_TEXT},
    {"value", MUSE_ATTR_REAL},
};

static MuseStatus verify_attr_kinds(const MuseAttrList *list, const char *what, const char *name, MuseDiag *diag) {
  for (int i = 0; i < list->len; i++) {
    const MuseAttr *a = &list->data[i];
    for (size_t k = 0; k < sizeof known_attrs / sizeof *known_attrs; k++) {
      if (!same_name(a->name, known_attrs[k].name) || a->kind == known_attrs[k].kind) continue;
      return muse_error(diag, MUSE_ERR_INPUT, "%s%s: attribute '%s' must be of kind %s, and is %s", what, name, a->name,
                        muse_attr_kind_name(known_attrs[k].kind), muse_attr_kind_name(a->kind));
    }
  }
  return MUSE_OK;
}

static MuseStatus verify_known_attrs(const MuseModule *module, MuseDiag *diag) {
  MUSE_TRY(verify_attr_kinds(&module->attrs, "the module", "", diag));
  for (int i = 0; i < module->n_buffers; i++)
    MUSE_TRY(verify_attr_kinds(&module->buffers[i]->attrs, "buffer @", module->buffers[i]->name, diag));
  const MuseAttr *steps = muse_attr_find(&module->attrs, "gradient_accumulation_steps");
  if (steps && steps->i < 1)
    return muse_error(diag, MUSE_ERR_INPUT, "the module's gradient_accumulation_steps must be at least 1");
  for (const MuseFunc *f = module->first_func; f; f = f->next) {
    MUSE_TRY(verify_attr_kinds(&f->attrs, "function @", f->name ? f->name : "", diag));
    if (!muse_attr_bool_or(&f->attrs, "differentiate", false)) continue;
    const MuseOp *ret = f->body.last;
    if (!ret || ret->n_operands < 1 || ret->operands[0]->type.rank != 0 || ret->operands[0]->type.dtype != MUSE_F32)
      return muse_error(diag, MUSE_ERR_INPUT,
                        "function @%s is to be differentiated, so its first result must be the loss, f32[]", f->name);
  }
  return MUSE_OK;
}

static bool defined_before(const MuseModule *module, const MuseFunc *func) {
  for (const MuseFunc *f = module->first_func; f != func; f = f->next) {
    if (f->name && func->name && strcmp(f->name, func->name) == 0) return true;
  }
  return false;
}

MuseStatus muse_verify_module(MuseModule *module, MuseInferFn infer, MuseDiag *diag) {
  const MuseAttr *level = muse_attr_find(&module->attrs, "level");
  if (level && (level->kind != MUSE_ATTR_TEXT ||
                (!muse_str_eq(level->text, "tensor") && !muse_str_eq(level->text, "kernel")))) {
    return muse_error(diag, MUSE_ERR_INPUT, "the module's level must be \"tensor\" or \"kernel\"");
  }
  MUSE_TRY(verify_buffers(module, diag));
  MuseStatus status = MUSE_OK;
  const MuseFunc *last = NULL;
  for (MuseFunc *f = module->first_func; f; last = f, f = f->next) {
    if (defined_before(module, f)) {
      status = muse_error(diag, MUSE_ERR_INPUT, "function @%s is defined twice", f->name);
      break;
    }
    MuseStatus one;
    if (f->module == module) one = muse_verify_func(f, infer, diag);
    else
      one = muse_error(diag, MUSE_ERR_INPUT, "function @%s names another module than its own", f->name ? f->name : "");
    if (status == MUSE_OK) status = one; // the first damage of each function is reported
  }
  if (status == MUSE_OK && module->last_func != last) {
    status = muse_error(diag, MUSE_ERR_INPUT, "the module's last function is not the end of its list");
  }
  if (status == MUSE_OK) status = verify_known_attrs(module, diag);
  return status;
}
