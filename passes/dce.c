// dce: removes ops whose results nothing uses, function arguments without a use, and (after the last function) buffers
// that no
// function binds, except parameters. Legal because ops have no side effects.
#include "passes/rewrite.h"

#include <string.h>

static bool remove_ops(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false;
  int n = muse_func_number(fn);
  int *uses = muse_func_use_counts(fn, cx->scratch, n);
  for (MuseOp *op = fn->body.last, *prev; op; op = prev) {
    prev = op->prev;
    if (muse_op_info(op->kind)->traits & MUSE_TRAIT_TERMINATOR) continue;
    int used = 0;
    for (int i = 0; i < op->n_results; i++) used += uses[op->results[i]->id];
    if (used) continue;
    for (int i = 0; i < op->n_operands; i++) uses[op->operands[i]->id]--;
    muse_op_unlink(op);
    changed = true;
  }
  return changed;
}

static bool remove_args(MusePassCtx *cx, MuseFunc *fn) {
  int n = muse_func_number(fn);
  int *uses = muse_func_use_counts(fn, cx->scratch, n);
  MuseRegion *body = &fn->body;
  int kept = 0;
  for (int i = 0; i < body->n_args; i++) {
    if (!uses[body->args[i]->id]) continue;
    body->args[kept] = body->args[i];
    if (body->arg_attrs) body->arg_attrs[kept] = body->arg_attrs[i];
    body->args[kept]->index = kept;
    kept++;
  }
  bool changed = kept != body->n_args;
  body->n_args = kept;
  return changed;
}

static bool remove_buffers(MuseModule *module) {
  MuseMap *used = muse_map_create();
  for (MuseFunc *fn = module->first_func; fn; fn = fn->next) {
    for (int i = 0; i < fn->body.n_args; i++)
      if (muse_func_arg_buffer(fn, i)) muse_map_put(used, muse_func_arg_buffer(fn, i), module);
    for (int i = 0; i < fn->n_results; i++)
      if (muse_func_result_buffer(fn, i)) muse_map_put(used, muse_func_result_buffer(fn, i), module);
  }
  int kept = 0, before = module->n_buffers;
  for (int i = 0; i < before; i++)
    if (strcmp(module->buffers[i]->role, "param") == 0 || muse_map_get(used, module->buffers[i]->name)) kept++;
  if (kept != before) {
    MuseBuffer **list = MUSE_NEW_ARRAY(module->arena, MuseBuffer *, kept);
    kept = 0;
    for (int i = 0; i < before; i++)
      if (strcmp(module->buffers[i]->role, "param") == 0 || muse_map_get(used, module->buffers[i]->name))
        list[kept++] = module->buffers[i];
    muse_module_set_buffers(module, list, kept);
  }
  muse_map_destroy(used);
  return kept != before;
}

bool muse_pass_dce(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = remove_ops(cx, fn);
  changed |= remove_args(cx, fn);
  if (!fn->next) changed |= remove_buffers(cx->module);
  return changed;
}
