// Views: reshape (same bytes), broadcast (fused into the maps that read it), transpose (a plain rearrangement).

#include "ops/hooks.h"

#include <string.h>

// Reads the attribute `shape` into *out with the dtype of x.
static MuseStatus shape_from_attr(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  const MuseAttr *shape = muse_attr_ints(&op->attrs, "shape");
  if (muse_dtype_is_trit(x.dtype))
    return muse_op_refuse(op, diag, "%s is packed by rows and cannot be viewed; unpack_trits first", muse_type_text(x));
  if (shape->ints.len > MUSE_MAX_RANK)
    return muse_op_refuse(op, diag, "a shape has at most %d dimensions, not %d", MUSE_MAX_RANK, shape->ints.len);
  int64_t elements = 1;
  for (int i = 0; i < shape->ints.len; i++)
    if (shape->ints.data[i] < 1 || __builtin_mul_overflow(elements, shape->ints.data[i], &elements))
      return muse_op_refuse(op, diag,
                            "dimension %d of the shape is %lld; dimensions are positive and their product fits 63 bits",
                            i, (long long)shape->ints.data[i]);
  *out = muse_type(x.dtype, shape->ints.len, shape->ints.data);
  return MUSE_OK;
}

MuseStatus muse_infer_reshape(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  MUSE_TRY(shape_from_attr(op, out, diag));
  if (muse_type_elements(*out) != muse_type_elements(x))
    return muse_op_refuse(op, diag, "%s and %s have different numbers of elements", muse_type_text(x),
                          muse_type_text(*out));
  return MUSE_OK;
}

MuseStatus muse_infer_broadcast(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  MUSE_TRY(shape_from_attr(op, out, diag));
  if (!muse_type_broadcasts_to(x, *out))
    return muse_op_refuse(op, diag, "%s does not broadcast to %s", muse_type_text(x), muse_type_text(*out));
  return MUSE_OK;
}

MuseStatus muse_infer_transpose(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  const MuseAttr *perm = muse_attr_ints(&op->attrs, "perm");
  if (muse_dtype_is_trit(x.dtype))
    return muse_op_refuse(op, diag, "%s is packed by rows; pack_trits makes the transposed matrix", muse_type_text(x));
  if (perm->ints.len != x.rank)
    return muse_op_refuse(op, diag, "perm has %d entries but %s has %d dimensions", perm->ints.len, muse_type_text(x),
                          x.rank);
  unsigned seen = 0;
  *out = x;
  for (int i = 0; i < x.rank; i++) {
    int64_t from = perm->ints.data[i];
    if (from < 0 || from >= x.rank || (seen >> from & 1))
      return muse_op_refuse(op, diag, "perm must name each of the %d dimensions once", x.rank);
    seen |= 1u << from;
    out->dim[i] = x.dim[from];
  }
  return MUSE_OK;
}

void muse_eval_reshape(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  memcpy(out->data, in->data, sizeof(double) * (size_t)muse_type_elements(out->type));
}

// Copies with any strides: out[i0,i1,..] = in[sum of i * stride].
static void gather_strided(const double *in, const int64_t *stride, MuseTensor *out) {
  int64_t index[MUSE_MAX_RANK] = {0}, offset = 0, n = muse_type_elements(out->type);
  for (int64_t k = 0; k < n; k++) {
    out->data[k] = in[offset];
    for (int i = out->type.rank - 1; i >= 0; i--) {
      index[i]++;
      offset += stride[i];
      if (index[i] < out->type.dim[i]) break;
      offset -= stride[i] * out->type.dim[i];
      index[i] = 0;
    }
  }
}

void muse_eval_broadcast(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t stride[MUSE_MAX_RANK];
  muse_broadcast_strides(in->type, out->type, stride);
  gather_strided(in->data, stride, out);
}

void muse_eval_transpose(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const MuseAttr *perm = muse_attr_ints(&op->attrs, "perm");
  int64_t stride[MUSE_MAX_RANK];
  for (int i = 0; i < out->type.rank; i++) {
    stride[i] = 1;
    for (int64_t j = perm->ints.data[i] + 1; j < in->type.rank; j++) stride[i] *= in->type.dim[j];
  }
  gather_strided(in->data, stride, out);
}

void muse_grad_reshape(MuseGrad *g) {
  MuseType x = g->op->operands[0]->type;
  if (muse_dtype_is_float(x.dtype)) g->d_operands[0] = muse_build_reshape(g->b, g->d_results[0], x.rank, x.dim);
}

void muse_grad_broadcast(MuseGrad *g) {
  MuseType x = g->op->operands[0]->type;
  if (!muse_dtype_is_float(x.dtype)) return;
  // Sums are made in a compute type; a cotangent of a storage type goes through f32.
  MuseValue *dy =
      muse_dtype_is_compute_float(x.dtype) ? g->d_results[0] : muse_build_cast(g->b, g->d_results[0], MUSE_F32);
  muse_grad_give(g, 0, dy);
}

void muse_grad_transpose(MuseGrad *g) {
  const MuseAttr *perm = muse_attr_ints(&g->op->attrs, "perm");
  int64_t inverse[MUSE_MAX_RANK];
  if (!muse_dtype_is_float(g->op->operands[0]->type.dtype)) return;
  for (int i = 0; i < perm->ints.len; i++) inverse[perm->ints.data[i]] = i;
  g->d_operands[0] = muse_build_transpose(g->b, g->d_results[0], perm->ints.len, inverse);
}
