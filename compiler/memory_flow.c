// Lifetimes of tensors in a function at kernel level.
#include "compiler/memory_flow.h"

#include "ir/base/status.h"

MuseMemoryFlow muse_memory_flow(MuseFunc *func, MuseArena *arena) {
  MuseMemoryFlow flow = {.func = func, .n_values = muse_func_number(func)};
  for (MuseOp *op = func->body.first; op; op = op->next) flow.n_ops++;
  flow.ops = MUSE_NEW_ARRAY(arena, MuseOp *, flow.n_ops);
  flow.values = MUSE_NEW_ARRAY(arena, MuseValue *, flow.n_values);
  flow.root = MUSE_NEW_ARRAY(arena, int, flow.n_values);
  flow.def = MUSE_NEW_ARRAY(arena, int, flow.n_values);
  flow.last = MUSE_NEW_ARRAY(arena, int, flow.n_values);
  for (int i = 0; i < func->body.n_args; i++) {
    int id = func->body.args[i]->id;
    flow.values[id] = func->body.args[i];
    flow.root[id] = id;
    flow.def[id] = flow.last[id] = -1;
  }
  int p = 0;
  for (MuseOp *op = func->body.first; op; op = op->next, p++) {
    flow.ops[p] = op;
    bool alias = op->kind == MUSE_OP_reshape;
    MUSE_ASSERT(alias || op->kind == MUSE_OP_kernel || op->kind == MUSE_OP_return);
    for (int i = 0; i < op->n_operands; i++) {
      if (!alias) flow.last[flow.root[op->operands[i]->id]] = p; // a reshape reads nothing
    }
    for (int i = 0; i < op->n_results; i++) {
      int id = op->results[i]->id;
      flow.values[id] = op->results[i];
      flow.root[id] = alias ? flow.root[op->operands[0]->id] : id;
      flow.def[id] = flow.last[id] = p;
    }
  }
  return flow;
}

bool muse_memory_in_place(const MuseMemoryFlow *flow, const MuseMemoryHooks *hooks, const MuseOp *kernel, int result,
                          int root) {
  bool reads = false;
  for (int i = 0; i < kernel->n_operands; i++) {
    const MuseValue *operand = kernel->operands[i];
    if (flow->root[operand->id] != root) continue;
    reads = true;
    if (!muse_type_eq(operand->type, kernel->results[result]->type)) return false;
    if (!hooks->allows_in_place(kernel, result, i)) return false;
  }
  return reads;
}

const MuseBuffer *muse_memory_arg_buffer(const MuseFunc *func, int index) {
  const char *name = muse_func_arg_buffer(func, index);
  return name ? muse_module_buffer(func->module, name) : NULL;
}

const MuseBuffer *muse_memory_result_buffer(const MuseFunc *func, int index) {
  const char *name = muse_func_result_buffer(func, index);
  return name ? muse_module_buffer(func->module, name) : NULL;
}
