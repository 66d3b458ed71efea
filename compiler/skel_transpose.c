// Merged dimensions and tasks of a transposition (see the header).

#include "compiler/skel_transpose.h"

#include "ir/base/checked.h"

enum { TARGET_ELEMENTS = 32768 };

void muse_transpose_plan(const MuseOp *kernel, MuseTransposePlan *out) {
  const MuseOp *op = kernel->body->first;
  MUSE_ASSERT(op && op->kind == MUSE_OP_transpose);
  MuseType x = op->operands[0]->type, y = op->results[0]->type;
  const MuseAttr *perm = muse_attr_ints(&op->attrs, "perm");
  int64_t stride[MUSE_MAX_RANK + 1];
  stride[x.rank] = 1;
  for (int i = x.rank - 1; i >= 0; i--) stride[i] = stride[i + 1] * x.dim[i];
  *out = (MuseTransposePlan){0};
  for (int i = 0; i < y.rank; i++) {
    if (y.dim[i] == 1) continue;
    int64_t step = stride[perm->ints.data[i] + 1];
    int last = out->rank - 1;
    // The dimension before steps over exactly this one: both are one dimension.
    if (last >= 0 && out->in_stride[last] == step * y.dim[i]) {
      out->out_dim[last] *= y.dim[i];
      out->in_stride[last] = step;
      continue;
    }
    out->out_dim[out->rank] = y.dim[i];
    out->in_stride[out->rank++] = step;
  }
  if (out->rank == 0) out->rank = 1, out->out_dim[0] = 1, out->in_stride[0] = 1;
  int last = out->rank - 1;
  int64_t elements = muse_type_elements(y);
  out->copies_rows = out->in_stride[last] == 1;
  if (out->copies_rows) {
    out->units = elements / out->out_dim[last];
    out->units_per_task = muse_ceil_div(TARGET_ELEMENTS, out->out_dim[last]);
  } else {
    for (int i = 0; i < last; i++)
      if (out->in_stride[i] == 1) out->read_dim = i;
    out->row_tiles = muse_ceil_div(out->out_dim[out->read_dim], MUSE_TRANSPOSE_TILE);
    out->column_tiles = muse_ceil_div(out->out_dim[last], MUSE_TRANSPOSE_TILE);
    out->outer = elements / out->out_dim[last] / out->out_dim[out->read_dim];
    out->units = out->outer * out->row_tiles;
    out->units_per_task = muse_ceil_div(TARGET_ELEMENTS, out->out_dim[last] * MUSE_TRANSPOSE_TILE);
  }
  if (out->units_per_task > out->units) out->units_per_task = out->units;
  out->n_tasks = muse_ceil_div(out->units, out->units_per_task);
}

void muse_skel_transpose_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseTransposePlan plan;
  muse_transpose_plan(kernel, &plan);
  out_info->n_stages = 1;
  out_info->stage[0].n_tasks = plan.n_tasks;
}
