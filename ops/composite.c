// rms_norm and softmax: composites over the last dimension. Operands may be storage types; arithmetic and result are
// f32 (f64 for f64 operands), because norms and softmax stay in f32 under mixed precision (docs/model.md section 6).

#include "ops/hooks.h"

#include <math.h>

static MuseDtype compute_dtype(MuseType x) { return x.dtype == MUSE_F64 ? MUSE_F64 : MUSE_F32; }

static MuseStatus infer_rows(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  if (!muse_dtype_is_float(x.dtype) || x.rank < 1)
    return muse_op_refuse(op, diag, "the operand is %s but must be a float tensor with at least one dimension",
                          muse_type_text(x));
  *out = muse_type_with_dtype(x, compute_dtype(x));
  return MUSE_OK;
}

// ---- rms_norm: y = x r w, r = 1 / sqrt(mean(x^2) + eps)  (Zhang and Sennrich, arXiv:1910.07467) ----

MuseStatus muse_infer_rms_norm(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  MUSE_TRY(infer_rows(op, out, diag));
  if (!(muse_op_real(op, "eps") > 0)) return muse_op_refuse(op, diag, "eps must be positive");
  if (op->n_operands == 2) {
    MuseType w = muse_operand_type(op, 1);
    if (!muse_dtype_is_float(w.dtype) || w.rank != 1 || w.dim[0] != muse_type_last_dim(x))
      return muse_op_refuse(op, diag, "the weight is %s but must be a float vector of length %lld", muse_type_text(w),
                            (long long)muse_type_last_dim(x));
  }
  return MUSE_OK;
}

void muse_eval_rms_norm(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t rows = muse_type_rows(out->type), n = muse_type_last_dim(out->type);
  double eps = muse_op_real(op, "eps");
  for (int64_t row = 0; row < rows; row++) {
    const double *x = in[0].data + row * n;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    double r = 1 / sqrt(sum / (double)n + eps);
    for (int64_t i = 0; i < n; i++) out->data[row * n + i] = x[i] * r * (op->n_operands == 2 ? in[1].data[i] : 1);
  }
}

// r [..,1] of x in the compute type.
static MuseValue *build_inverse_rms(MuseBuilder *b, MuseValue *x, double eps) {
  MuseValue *sum = muse_build_reduce_last(b, MUSE_OP_reduce_sum, muse_build_binary(b, MUSE_OP_mul, x, x));
  MuseValue *mean = muse_build_scale(b, sum, 1.0 / (double)muse_type_last_dim(x->type));
  return muse_build_unary(b, MUSE_OP_rsqrt, muse_build_offset(b, mean, eps));
}

void muse_decompose_rms_norm(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseDtype dtype = op->results[0]->type.dtype;
  MuseValue *x = muse_build_cast(b, op->operands[0], dtype);
  MuseValue *y = muse_build_binary(b, MUSE_OP_mul, x, build_inverse_rms(b, x, muse_op_real(op, "eps")));
  if (op->n_operands == 2) y = muse_build_binary(b, MUSE_OP_mul, y, muse_build_cast(b, op->operands[1], dtype));
  out[0] = y;
}

// dx = r (dy w) - x r^3 mean(dy w x), dw = sum over rows of dy x r
void muse_grad_rms_norm(MuseGrad *g) {
  MuseBuilder *b = g->b;
  MuseDtype dtype = g->op->results[0]->type.dtype;
  MuseValue *dy = g->d_results[0], *x = muse_build_cast(b, g->op->operands[0], dtype);
  MuseValue *r = build_inverse_rms(b, x, muse_op_real(g->op, "eps"));
  MuseValue *dn = dy; // cotangent of the normalised row
  if (g->op->n_operands == 2) {
    dn = muse_build_binary(b, MUSE_OP_mul, dy, muse_build_cast(b, g->op->operands[1], dtype));
    muse_grad_give(g, 1, muse_build_binary(b, MUSE_OP_mul, dy, muse_build_binary(b, MUSE_OP_mul, x, r)));
  }
  MuseValue *dot = muse_build_reduce_last(b, MUSE_OP_reduce_sum, muse_build_binary(b, MUSE_OP_mul, dn, x));
  MuseValue *mean = muse_build_scale(b, dot, 1.0 / (double)muse_type_last_dim(x->type));
  MuseValue *r3 = muse_build_binary(b, MUSE_OP_mul, r, muse_build_binary(b, MUSE_OP_mul, r, r));
  MuseValue *along = muse_build_binary(b, MUSE_OP_mul, x, muse_build_binary(b, MUSE_OP_mul, r3, mean));
  muse_grad_give(g, 0, muse_build_binary(b, MUSE_OP_sub, muse_build_binary(b, MUSE_OP_mul, dn, r), along));
}

// ---- softmax over the last dimension, shifted by the row's maximum ----

MuseStatus muse_infer_softmax(const MuseOp *op, MuseType *out, MuseDiag *diag) { return infer_rows(op, out, diag); }

void muse_eval_softmax(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t rows = muse_type_rows(out->type), n = muse_type_last_dim(out->type);
  for (int64_t row = 0; row < rows; row++) {
    const double *x = in->data + row * n;
    double *y = out->data + row * n, top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = isnan(x[i]) || x[i] > top ? x[i] : top;
    for (int64_t i = 0; i < n; i++) sum += y[i] = exp(x[i] - top);
    for (int64_t i = 0; i < n; i++) y[i] /= sum;
  }
}

void muse_decompose_softmax(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseValue *x = muse_build_cast(b, op->operands[0], op->results[0]->type.dtype);
  MuseValue *top = muse_build_reduce_last(b, MUSE_OP_reduce_max, x);
  MuseValue *e = muse_build_unary(b, MUSE_OP_exp, muse_build_binary(b, MUSE_OP_sub, x, top));
  out[0] = muse_build_binary(b, MUSE_OP_div, e, muse_build_reduce_last(b, MUSE_OP_reduce_sum, e));
}

// dx = y (dy - sum(dy y))
void muse_grad_softmax(MuseGrad *g) {
  MuseBuilder *b = g->b;
  MuseValue *dy = g->d_results[0], *y = g->op->results[0];
  MuseValue *dot = muse_build_reduce_last(b, MUSE_OP_reduce_sum, muse_build_binary(b, MUSE_OP_mul, dy, y));
  muse_grad_give(g, 0, muse_build_binary(b, MUSE_OP_mul, y, muse_build_binary(b, MUSE_OP_sub, dy, dot)));
}
