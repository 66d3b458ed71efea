// How gather_rows and scatter_add_rows are cut into tasks.

#include "compiler/skel_embed.h"

#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

enum { GATHER_BYTES = 32 << 10, SCATTER_TASKS = 16, SCATTER_COLUMNS = 16 };

void muse_gather_layout(const MuseOp *kernel, MuseGather *out) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const bool gather = op->kind == MUSE_OP_gather_rows;
  MuseType table = gather ? op->operands[0]->type : op->results[0]->type;
  *out =
      (MuseGather){.op = op, .V = table.dim[0], .D = table.dim[1], .tokens = muse_type_elements(op->operands[1]->type)};
  if (gather) {
    out->tokens_per_task = muse_ceil_div(GATHER_BYTES, out->D * muse_dtype_bytes(table.dtype));
    out->n_tasks = muse_ceil_div(out->tokens, out->tokens_per_task);
  } else {
    out->columns_per_task = muse_round_up(muse_ceil_div(out->D, SCATTER_TASKS), SCATTER_COLUMNS);
    out->n_tasks = muse_ceil_div(out->D, out->columns_per_task);
  }
}

void muse_gather_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseGather g;
  muse_gather_layout(kernel, &g);
  *out_info = (MuseKernelInfo){.n_stages = 1, .stage = {{.n_tasks = g.n_tasks}}};
}
