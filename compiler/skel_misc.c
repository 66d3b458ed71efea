// How the small ops around the mixers are cut into tasks.

#include "compiler/skel_misc.h"

#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

void muse_doc_begin_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0].n_tasks = muse_kernel_single_op(kernel)->operands[0]->type.dim[0];
}

// Token t is read before document t is written.
bool muse_doc_begin_allows_in_place(const MuseOp *kernel, int result, int operand) { return true; }

int64_t muse_rope_rows_per_task(const MuseOp *kernel) {
  const int64_t half = muse_op_int(muse_kernel_single_op(kernel), "half");
  return half < MUSE_ROPE_ENTRIES ? MUSE_ROPE_ENTRIES / half : 1;
}

void muse_rope_table_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0].n_tasks =
      muse_ceil_div(muse_op_int(muse_kernel_single_op(kernel), "rows"), muse_rope_rows_per_task(kernel));
}

MuseRingShape muse_ring_shape(const MuseOp *kernel) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  MuseType ring = op->operands[0]->type;
  const int axis = (int)muse_op_int(op, "axis");
  MuseRingShape shape = {1, ring.dim[axis], muse_dtype_bytes(ring.dtype), 1};
  for (int i = 0; i < axis; i++) shape.outer *= ring.dim[i];
  for (int i = axis + 1; i < ring.rank; i++) shape.inner_bytes *= ring.dim[i];
  if (shape.inner_bytes < MUSE_RING_BYTES) shape.rows_per_task = MUSE_RING_BYTES / shape.inner_bytes;
  return shape;
}

void muse_ring_write_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseRingShape shape = muse_ring_shape(kernel);
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0].n_tasks = muse_ceil_div(shape.outer * shape.slots, shape.rows_per_task);
}

bool muse_ring_write_allows_in_place(const MuseOp *kernel, int result, int operand) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  // With one slot the new value has the ring's type; it must not be written over while other rows still read it.
  return operand == muse_kernel_operand_of(op, 0) && operand != muse_kernel_operand_of(op, 1);
}
