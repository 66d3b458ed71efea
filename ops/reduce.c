// reduce_sum and reduce_max over a set of axes; reduced dimensions stay as 1, so that a result broadcasts back to its
// operand.

#include "ops/hooks.h"

#include <math.h>

static MuseStatus infer_reduce(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  const MuseAttr *axes = muse_attr_ints(&op->attrs, "axes");
  if (!muse_dtype_is_compute_float(x.dtype) && x.dtype != MUSE_I32 && x.dtype != MUSE_I64)
    return muse_op_refuse(op, diag, "the operand is %s but must be f32, f64, i32 or i64; cast it first",
                          muse_type_text(x));
  if (axes->ints.len == 0) return muse_op_refuse(op, diag, "axes is empty; name at least one axis");
  *out = x;
  for (int i = 0; i < axes->ints.len; i++) {
    int64_t axis = axes->ints.data[i];
    if (axis < 0 || axis >= x.rank)
      return muse_op_refuse(op, diag, "axis %lld is not an axis of %s", (long long)axis, muse_type_text(x));
    if (i > 0 && axis <= axes->ints.data[i - 1])
      return muse_op_refuse(op, diag, "axes must be named once, in ascending order");
    out->dim[axis] = 1;
  }
  return MUSE_OK;
}
MuseStatus muse_infer_reduce_sum(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  return infer_reduce(op, out, diag);
}
MuseStatus muse_infer_reduce_max(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  return infer_reduce(op, out, diag);
}

static void eval_reduce(const MuseTensor *in, MuseTensor *out, bool is_max) {
  int64_t stride[MUSE_MAX_RANK], index[MUSE_MAX_RANK] = {0}, offset = 0, n = muse_type_elements(in->type);
  MuseType shape = in->type;
  muse_broadcast_strides(out->type, shape, stride);
  for (int64_t i = 0; is_max && i < muse_type_elements(out->type); i++) out->data[i] = -INFINITY;
  for (int64_t k = 0; k < n; k++) {
    double x = in->data[k], *to = &out->data[offset];
    *to = !is_max ? *to + x : isnan(x) || x > *to ? x : *to;
    for (int i = shape.rank - 1; i >= 0; i--) {
      index[i]++;
      offset += stride[i];
      if (index[i] < shape.dim[i]) break;
      offset -= stride[i] * shape.dim[i];
      index[i] = 0;
    }
  }
}
void muse_eval_reduce_sum(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  eval_reduce(in, out, false);
}
void muse_eval_reduce_max(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  eval_reduce(in, out, true);
}

void muse_grad_reduce_sum(MuseGrad *g) {
  muse_grad_give(g, 0, muse_build_broadcast(g->b, g->d_results[0], g->op->operands[0]->type));
}

void muse_grad_reduce_max(MuseGrad *g) {
  MuseValue *x = g->op->operands[0], *y = g->op->results[0];
  if (!muse_dtype_is_float(x->type.dtype)) return;
  const MuseAttr *axes = muse_attr_ints(&g->op->attrs, "axes");
  MuseValue *is_max = muse_build_cast(g->b, muse_build_binary(g->b, MUSE_OP_equal, x, y), x->type.dtype);
  MuseValue *count = muse_build_reduce(g->b, MUSE_OP_reduce_sum, is_max, axes->ints.data, axes->ints.len);
  MuseValue *share = muse_build_binary(g->b, MUSE_OP_div, g->d_results[0], count);
  muse_grad_give(g, 0, muse_build_binary(g->b, MUSE_OP_mul, is_max, share));
}
