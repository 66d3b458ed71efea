// Modules, buffers, functions, and the doubly linked lists of ops in regions.
#include "ir/op.h"

#include "ir/base/hash.h"
#include "ir/base/status.h"

#include <string.h>

// --- modules ---

MuseModule *muse_module_create(const char *source) {
  MuseArena *arena = muse_arena_create();
  MuseModule *module = MUSE_NEW(arena, MuseModule);
  module->arena = arena;
  module->source = muse_arena_strdup(arena, source ? source : "");
  module->buffer_by_name = muse_map_create();
  return module;
}

void muse_module_destroy(MuseModule *module) {
  if (!module) return;
  muse_map_destroy(module->buffer_by_name);
  muse_arena_destroy(module->arena);
}

MuseFunc *muse_func_create(MuseModule *module, const char *name) {
  MuseFunc *func = MUSE_NEW(module->arena, MuseFunc);
  func->name = muse_arena_strdup(module->arena, name);
  func->module = module;
  if (module->last_func) module->last_func->next = func;
  else module->first_func = func;
  module->last_func = func;
  return func;
}

MuseFunc *muse_module_func(const MuseModule *module, const char *name) {
  for (MuseFunc *f = module->first_func; f; f = f->next) {
    if (strcmp(f->name, name) == 0) return f;
  }
  return NULL;
}

void muse_module_remove_func(MuseModule *module, MuseFunc *func) {
  MuseFunc **link = &module->first_func, *last = NULL;
  while (*link && *link != func) {
    last = *link;
    link = &(*link)->next;
  }
  MUSE_ASSERT(*link == func);
  *link = func->next;
  if (module->last_func == func) module->last_func = last;
  func->next = NULL;
}

// --- buffers ---

MuseBuffer *muse_module_add_buffer(MuseModule *module, const char *name, MuseType type, const char *role) {
  MUSE_ASSERT(!muse_module_buffer(module, name));
  MuseBuffer *buffer = MUSE_NEW(module->arena, MuseBuffer);
  buffer->name = muse_arena_strdup(module->arena, name);
  buffer->type = type;
  buffer->role = muse_arena_strdup(module->arena, role);
  buffer->index = module->n_buffers;
  if (module->n_buffers == module->cap_buffers) {
    int cap = module->cap_buffers ? module->cap_buffers * 2 : 16;
    MuseBuffer **grown = MUSE_NEW_ARRAY(module->arena, MuseBuffer *, cap);
    if (module->n_buffers) memcpy(grown, module->buffers, sizeof *grown * (size_t)module->n_buffers);
    module->buffers = grown;
    module->cap_buffers = cap;
  }
  module->buffers[module->n_buffers++] = buffer;
  muse_map_put(module->buffer_by_name, name, buffer);
  return buffer;
}

void muse_module_set_buffers(MuseModule *module, MuseBuffer *const *buffers, int n) {
  muse_map_destroy(module->buffer_by_name);
  module->buffer_by_name = muse_map_create();
  for (int i = 0; i < n; i++) {
    module->buffers[i] = buffers[i];
    buffers[i]->index = i;
    muse_map_put(module->buffer_by_name, buffers[i]->name, buffers[i]);
  }
  module->n_buffers = n;
}

MuseBuffer *muse_module_buffer(const MuseModule *module, const char *name) {
  return muse_map_get(module->buffer_by_name, name);
}

// --- arguments and results ---

static MuseValue *value_create(MuseModule *module, MuseType type, MuseOp *def, MuseRegion *region, int index) {
  MuseValue *value = MUSE_NEW(module->arena, MuseValue);
  *value = (MuseValue){.type = type, .def = def, .region = region, .index = index, .id = -1};
  return value;
}

MuseValue *muse_region_add_arg(MuseModule *module, MuseRegion *region, MuseType type) {
  bool has_attrs = !region->owner; // arguments of functions only
  if (region->n_args < region->n_known) region->n_known = 0; // some were removed
  if (region->n_args == region->cap_args) {
    int cap = region->cap_args ? region->cap_args * 2 : 8;
    MuseValue **args = MUSE_NEW_ARRAY(module->arena, MuseValue *, cap);
    if (region->n_args) memcpy(args, region->args, sizeof *args * (size_t)region->n_args);
    region->args = args;
    if (has_attrs) {
      MuseAttrList *attrs = MUSE_NEW_ARRAY(module->arena, MuseAttrList, cap);
      if (region->n_args) memcpy(attrs, region->arg_attrs, sizeof *attrs * (size_t)region->n_args);
      region->arg_attrs = attrs;
    }
    region->cap_args = cap;
  }
  if (has_attrs) region->arg_attrs[region->n_args] = (MuseAttrList){0}; // not the list of an argument that was removed
  MuseValue *value = value_create(module, type, NULL, region, region->n_args);
  region->args[region->n_args++] = value;
  return value;
}

// The slot of the argument bound to that buffer, or the free one where it belongs.
static int *arg_slot(const MuseFunc *func, const char *buffer) {
  const MuseRegion *body = &func->body;
  int mask = body->n_slots - 1, at = (int)(muse_hash64(buffer, strlen(buffer)) & (uint64_t)mask);
  for (;; at = (at + 1) & mask) {
    int *slot = &body->slots[at];
    if (!*slot || strcmp(muse_func_arg_buffer(func, *slot - 1), buffer) == 0) return slot;
  }
}

// Brings the table up to date: arguments are added at the end, by many hands, and removed by dce.
static void index_args(MuseFunc *func) {
  MuseRegion *body = &func->body;
  if (body->n_args * 2 >= body->n_slots) {
    while (body->n_args * 2 >= body->n_slots) body->n_slots = body->n_slots ? body->n_slots * 2 : 32;
    body->slots = MUSE_NEW_ARRAY(func->module->arena, int, body->n_slots);
    body->n_known = 0;
  } else if (body->n_args < body->n_known || body->n_known == 0) {
    memset(body->slots, 0, sizeof *body->slots * (size_t)body->n_slots);
    body->n_known = 0;
  }
  for (; body->n_known < body->n_args; body->n_known++) {
    const char *name = muse_func_arg_buffer(func, body->n_known);
    int *slot = name ? arg_slot(func, name) : NULL;
    if (slot && !*slot) *slot = body->n_known + 1;
  }
}

MuseValue *muse_func_arg_for_buffer(MuseFunc *func, const MuseBuffer *buffer) {
  index_args(func);
  int known = *arg_slot(func, buffer->name);
  if (known) return func->body.args[known - 1];
  MuseValue *value = muse_region_add_arg(func->module, &func->body, buffer->type);
  muse_attr_set_text(func->module, &func->body.arg_attrs[value->index], "buffer", buffer->name);
  return value;
}

const char *muse_func_arg_buffer(const MuseFunc *func, int index) {
  MUSE_ASSERT(index >= 0 && index < func->body.n_args);
  return muse_attr_text_or(&func->body.arg_attrs[index], "buffer", NULL);
}

const char *muse_func_result_buffer(const MuseFunc *func, int index) {
  MUSE_ASSERT(index >= 0 && index < func->n_results);
  return muse_attr_text_or(&func->result_attrs[index], "buffer", NULL);
}

static void set_n_results(MuseFunc *func, int n) {
  if (n > func->n_results) {
    MuseAttrList *attrs = MUSE_NEW_ARRAY(func->module->arena, MuseAttrList, n);
    if (func->n_results) memcpy(attrs, func->result_attrs, sizeof *attrs * (size_t)func->n_results);
    func->result_attrs = attrs;
  }
  func->n_results = n;
}

void muse_func_set_result_buffer(MuseFunc *func, int index, const char *buffer) {
  if (index >= func->n_results) set_n_results(func, index + 1);
  muse_attr_set_text(func->module, &func->result_attrs[index], "buffer", buffer);
}

void muse_func_add_result(MuseFunc *func, MuseValue *value, const char *buffer) {
  MuseOp *ret = func->body.last;
  MUSE_ASSERT(ret && ret->kind == MUSE_OP_return && func->n_results == ret->n_operands);
  int n = ret->n_operands;
  if (n >= func->cap_results || ret->operands != func->operands_room || func->result_attrs != func->attrs_room) {
    int cap = 2 * n + 8; // functions with a result a parameter get them one by one
    func->operands_room = MUSE_NEW_ARRAY(func->module->arena, MuseValue *, cap);
    func->attrs_room = MUSE_NEW_ARRAY(func->module->arena, MuseAttrList, cap);
    if (n) memcpy(func->operands_room, ret->operands, sizeof(MuseValue *) * (size_t)n);
    if (n) memcpy(func->attrs_room, func->result_attrs, sizeof(MuseAttrList) * (size_t)n);
    ret->operands = func->operands_room;
    func->result_attrs = func->attrs_room;
    func->cap_results = cap;
  }
  ret->operands[n] = value;
  ret->n_operands = func->n_results = n + 1;
  func->result_attrs[n] = (MuseAttrList){0};
  muse_attr_set_text(func->module, &func->result_attrs[n], "buffer", buffer);
}

// --- ops ---

MuseOp *muse_op_create(MuseModule *module, MuseOpKind kind, int n_operands, MuseValue *const *operands, int n_results,
                       const MuseType *result_types) {
  MUSE_ASSERT((unsigned)kind < MUSE_N_OPS && n_operands >= 0 && n_results >= 0);
  MuseOp *op = MUSE_NEW(module->arena, MuseOp);
  op->kind = kind;
  op->layer = -1;
  op->n_operands = n_operands;
  op->operands = MUSE_NEW_ARRAY(module->arena, MuseValue *, n_operands);
  if (n_operands) memcpy(op->operands, operands, sizeof *operands * (size_t)n_operands);
  op->n_results = n_results;
  op->results = MUSE_NEW_ARRAY(module->arena, MuseValue *, n_results);
  for (int i = 0; i < n_results; i++) op->results[i] = value_create(module, result_types[i], op, NULL, i);
  return op;
}

// The number of results of a function follows its `return`. A region without owner is the body of a function.
static void follow_return(MuseOp *op) {
  if (op->kind != MUSE_OP_return || !op->region || op->region->owner) return;
  set_n_results((MuseFunc *)((char *)op->region - offsetof(MuseFunc, body)), op->n_operands);
}

static void set_region(MuseOp *op, MuseRegion *region) {
  op->region = region;
  for (int i = 0; i < op->n_results; i++) op->results[i]->region = region;
  if (region) follow_return(op);
}

void muse_op_insert_before(MuseOp *op, MuseOp *before) {
  MUSE_ASSERT(!op->region && before->region);
  op->next = before;
  op->prev = before->prev;
  if (before->prev) before->prev->next = op;
  else before->region->first = op;
  before->prev = op;
  set_region(op, before->region);
}

void muse_op_append(MuseOp *op, MuseRegion *region) {
  MUSE_ASSERT(!op->region);
  op->prev = region->last;
  op->next = NULL;
  if (region->last) region->last->next = op;
  else region->first = op;
  region->last = op;
  set_region(op, region);
}

void muse_op_unlink(MuseOp *op) {
  MUSE_ASSERT(op->region);
  if (op->prev) op->prev->next = op->next;
  else op->region->first = op->next;
  if (op->next) op->next->prev = op->prev;
  else op->region->last = op->prev;
  op->prev = op->next = NULL;
  set_region(op, NULL);
}

MuseRegion *muse_op_create_body(MuseModule *module, MuseOp *op) {
  MUSE_ASSERT(!op->body);
  op->body = MUSE_NEW(module->arena, MuseRegion);
  op->body->owner = op;
  return op->body;
}

void muse_op_add_result(MuseModule *module, MuseOp *op, MuseType type) {
  MuseValue **results = MUSE_NEW_ARRAY(module->arena, MuseValue *, op->n_results + 1);
  if (op->n_results) memcpy(results, op->results, sizeof *results * (size_t)op->n_results);
  results[op->n_results] = value_create(module, type, op, op->region, op->n_results);
  op->results = results;
  op->n_results++;
}

void muse_op_set_operands(MuseModule *module, MuseOp *op, int n, MuseValue *const *operands) {
  MUSE_ASSERT(n >= 0);
  MuseValue **copy = MUSE_NEW_ARRAY(module->arena, MuseValue *, n); // new memory: operands may be the old array
  if (n) memcpy(copy, operands, sizeof *copy * (size_t)n);
  op->operands = copy;
  op->n_operands = n;
  follow_return(op);
}
