#ifndef MUSE_COMPILER_SKEL_EMBED_H
#define MUSE_COMPILER_SKEL_EMBED_H

#include "compiler/kernel_info.h"

// Skeletons "gather_rows" and "scatter_add_rows": the body is that one op.
//
// gather_rows: a task copies MuseGather.tokens_per_task rows.
// scatter_add_rows: a task owns a block of columns of the result; it clears them and then walks all tokens in order, so
// the sums have the order of the tokens and the cost is rows + tokens.
typedef struct MuseGather {
  const MuseOp *op;
  int64_t V, D, tokens;     // rows and columns of the table, number of tokens
  int64_t tokens_per_task;  // gather_rows
  int64_t columns_per_task; // scatter_add_rows: a multiple of 16
  int64_t n_tasks;
} MuseGather;
void muse_gather_layout(const MuseOp *kernel, MuseGather *out);
void muse_gather_info(const MuseOp *kernel, MuseKernelInfo *out_info); // of both

#endif
