// Copies of ops, functions and modules. Text is copied too, so that a copy may outlive the module it came from.
#include "ir/op.h"

#include "ir/base/status.h"

#include <stdlib.h>

static void clone_body(MuseModule *module, const MuseRegion *from, MuseRegion *to, MuseValue **map) {
  for (int i = 0; i < from->n_args; i++) {
    map[from->args[i]->id] = muse_region_add_arg(module, to, from->args[i]->type);
    if (from->arg_attrs && to->arg_attrs) muse_attr_copy(module, &to->arg_attrs[i], &from->arg_attrs[i]);
  }
  for (const MuseOp *op = from->first; op; op = op->next) muse_op_clone(module, op, map, to, NULL);
}

MuseOp *muse_op_clone(MuseModule *module, const MuseOp *op, MuseValue **map, MuseRegion *region, MuseOp *before) {
  MuseOp *copy = muse_op_create(module, op->kind, op->n_operands, op->operands, 0, NULL);
  for (int i = 0; i < op->n_operands; i++) {
    MuseValue *v = op->operands[i];
    // Values made after the numbering (id -1) stand for themselves: they belong to the place the copy goes to.
    if (v->id >= 0 && map[v->id]) copy->operands[i] = map[v->id];
  }
  copy->results = MUSE_NEW_ARRAY(module->arena, MuseValue *, op->n_results);
  copy->n_results = op->n_results;
  for (int i = 0; i < op->n_results; i++) {
    copy->results[i] = MUSE_NEW(module->arena, MuseValue);
    *copy->results[i] = (MuseValue){.type = op->results[i]->type, .def = copy, .index = i, .id = -1};
    if (op->results[i]->id >= 0) map[op->results[i]->id] = copy->results[i];
  }
  muse_attr_copy(module, &copy->attrs, &op->attrs);
  copy->loc = op->loc;
  if (op->loc.file) copy->loc.file = module->source;
  if (op->loc.key) copy->loc.key = muse_arena_strdup(module->arena, op->loc.key);
  copy->layer = op->layer;
  copy->stage = op->stage;
  if (before) muse_op_insert_before(copy, before);
  else muse_op_append(copy, region);
  if (op->body) clone_body(module, op->body, muse_op_create_body(module, copy), map);
  return copy;
}

static MuseFunc *clone_func_into(MuseModule *module, MuseFunc *func, const char *name) {
  MuseFunc *copy = muse_func_create(module, name);
  MuseValue **map = calloc((size_t)muse_func_number(func) + 1, sizeof *map);
  MUSE_ASSERT(map);
  clone_body(module, &func->body, &copy->body, map);
  free(map);
  muse_attr_copy(module, &copy->attrs, &func->attrs);
  copy->n_results = func->n_results;
  copy->result_attrs = MUSE_NEW_ARRAY(module->arena, MuseAttrList, func->n_results);
  for (int i = 0; i < func->n_results; i++) muse_attr_copy(module, &copy->result_attrs[i], &func->result_attrs[i]);
  return copy;
}

MuseFunc *muse_func_clone(MuseModule *module, MuseFunc *func, const char *name) {
  return clone_func_into(module, func, name);
}

MuseModule *muse_module_clone(const MuseModule *module) {
  MuseModule *copy = muse_module_create(module->source);
  muse_attr_copy(copy, &copy->attrs, &module->attrs);
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *from = module->buffers[i];
    MuseBuffer *to = muse_module_add_buffer(copy, from->name, from->type, from->role);
    muse_attr_copy(copy, &to->attrs, &from->attrs);
  }
  for (MuseFunc *f = module->first_func; f; f = f->next) clone_func_into(copy, f, f->name);
  return copy;
}
