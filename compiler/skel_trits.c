// How packing and unpacking of trits is cut into tasks. See skel_trits.h.

#include "compiler/skel_trits.h"

#include "ir/base/checked.h"
#include "ir/base/status.h"

const MuseOp *muse_trits_op(const MuseOp *kernel) {
  const MuseOp *op = kernel->body->first;
  MUSE_ASSERT(op->kind == MUSE_OP_pack_trits || op->kind == MUSE_OP_unpack_trits);
  return op;
}

int64_t muse_trits_rows_per_task(const MuseOp *op) {
  if (op->kind == MUSE_OP_pack_trits && muse_op_bool(op, "transpose")) return 32;
  int64_t rows = 65536 / op->results[0]->type.dim[1]; // elements of a task
  return rows < 1 ? 1 : rows;
}

void muse_trits_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  const MuseOp *op = muse_trits_op(kernel);
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0].n_tasks = muse_ceil_div(op->results[0]->type.dim[0], muse_trits_rows_per_task(op));
}
