#ifndef MUSE_COMPILER_MEMORY_FLOW_H
#define MUSE_COMPILER_MEMORY_FLOW_H

#include "compiler/memory_plan.h"

// Lifetimes in a function at kernel level, for memory_plan.c (which chooses places) and memory_map.c (which checks
// them). Time is the position of an op in the function; `return` is the last. Values are known by id; only values of
// the function's own region have entries that mean something. The root of a reshape's result is the root of its
// operand.
typedef struct MuseMemoryFlow {
  MuseFunc *func;
  MuseOp **ops;
  int n_ops;
  int n_values;
  MuseValue **values;
  int *root;
  int *def;  // -1: argument
  int *last; // of a root: the last op that reads it or an alias; its own `def` when nobody does
} MuseMemoryFlow;

// Numbers the function. All in `arena`.
MuseMemoryFlow muse_memory_flow(MuseFunc *func, MuseArena *arena);

// Result `result` of the kernel may take over the memory of the root `root`, which it is the last to read.
bool muse_memory_in_place(const MuseMemoryFlow *flow, const MuseMemoryHooks *hooks, const MuseOp *kernel, int result,
                          int root);

// The buffer that argument or result `index` is bound to; NULL when it is not.
const MuseBuffer *muse_memory_arg_buffer(const MuseFunc *func, int index);
const MuseBuffer *muse_memory_result_buffer(const MuseFunc *func, int index);

#endif
