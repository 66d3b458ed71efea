// Integer products of BitLinear layers and the conversion between latent weights and packed trits.
#include "ops/hooks.h"

// |sum| <= 128*128*K must fit an i32.
#define MAX_INT8_K (((int64_t)1 << 17) - 1)

static MuseStatus check_k(const MuseOp *op, int64_t left, int64_t right, MuseDiag *diag) {
  const char *name = muse_op_info(op->kind)->name;
  if (left != right)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s sums over %lld elements of its left and %lld of its right operand; they must be equal",
                         name, (long long)left, (long long)right);
  if (left > MAX_INT8_K)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s sums over %lld products, more than %lld can overflow its i32 result; split the sum", name,
                         (long long)left, (long long)MAX_INT8_K);
  return MUSE_OK;
}

MuseStatus muse_infer_ternary_matmul(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = op->operands[0]->type, w = op->operands[1]->type;
  if (x.rank != 2 || x.dtype != MUSE_I8)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "the left operand of ternary_matmul is %s of rank %d; it must be i8[M,K]",
                         muse_dtype_name(x.dtype), x.rank);
  if (w.rank != 2 || !muse_dtype_is_trit(w.dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "the right operand of ternary_matmul is %s of rank %d; it must be t2[N,K] or t5[N,K]",
                         muse_dtype_name(w.dtype), w.rank);
  MUSE_TRY(check_k(op, x.dim[1], w.dim[1], diag));
  out[0] = muse_type2(MUSE_I32, x.dim[0], w.dim[0]);
  return MUSE_OK;
}

void muse_eval_ternary_matmul(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t M = in[0].type.dim[0], K = in[0].type.dim[1], N = in[1].type.dim[0];
  for (int64_t m = 0; m < M; m++)
    for (int64_t n = 0; n < N; n++) {
      const double *x = in[0].data + m * K, *w = in[1].data + n * K;
      double sum = 0;
      for (int64_t k = 0; k < K; k++) sum += x[k] * w[k];
      out[0].data[m * N + n] = sum;
    }
}

MuseStatus muse_infer_int8_matmul(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType a = op->operands[0]->type, b = op->operands[1]->type;
  if (a.rank != 2 || b.rank != 2 || a.dtype != MUSE_I8 || b.dtype != MUSE_I8)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "int8_matmul takes i8[K,M] and i8[K,N], but its operands are %s of rank %d and %s of rank %d",
                         muse_dtype_name(a.dtype), a.rank, muse_dtype_name(b.dtype), b.rank);
  MUSE_TRY(check_k(op, a.dim[0], b.dim[0], diag));
  out[0] = muse_type2(MUSE_I32, a.dim[1], b.dim[1]);
  return MUSE_OK;
}

void muse_eval_int8_matmul(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t K = in[0].type.dim[0], M = in[0].type.dim[1], N = in[1].type.dim[1];
  for (int64_t i = 0; i < M * N; i++) out[0].data[i] = 0;
  for (int64_t k = 0; k < K; k++)
    for (int64_t m = 0; m < M; m++)
      for (int64_t n = 0; n < N; n++) out[0].data[m * N + n] += in[0].data[k * M + m] * in[1].data[k * N + n];
}

MuseStatus muse_infer_pack_trits(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType w = op->operands[0]->type, gamma = op->operands[1]->type;
  const MuseAttr *attr = muse_attr_find(&op->attrs, "dtype");
  MuseDtype dtype = attr != NULL ? attr->dtype : MUSE_T2;
  if (!muse_dtype_is_trit(dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "pack_trits makes t2 or t5, not %s", muse_dtype_name(dtype));
  MuseDtype wanted = op->n_operands == 3 ? MUSE_I8 : MUSE_F32;
  if (w.rank != 2 || w.dtype != wanted)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "pack_trits takes %s[N,K] %s a third operand, but its first operand is %s of rank %d",
                         muse_dtype_name(wanted), wanted == MUSE_I8 ? "with" : "without", muse_dtype_name(w.dtype),
                         w.rank);
  if (gamma.rank != 0 || gamma.dtype != MUSE_F32)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "the scale of pack_trits is %s of rank %d; it must be f32[]",
                         muse_dtype_name(gamma.dtype), gamma.rank);
  if (op->n_operands == 3 && !muse_type_eq(op->operands[2]->type, gamma))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "the grid width (third operand) of pack_trits is %s of rank %d; it must be f32[]",
                         muse_dtype_name(op->operands[2]->type.dtype), op->operands[2]->type.rank);
  bool transpose = muse_op_bool(op, "transpose");
  out[0] = muse_type2(dtype, w.dim[transpose ? 1 : 0], w.dim[transpose ? 0 : 1]);
  return MUSE_OK;
}

// clip(round(w/gamma), -1, 1), half to even, is 1 exactly when w > gamma/2: at one half the even neighbour is 0.
// Halving is exact, so f32 kernels and this f64 evaluation agree on every element. NaN becomes 0. A weight of 8 bits is
// rounded to f32 behind its product with the grid's width, as it would be in memory.
void muse_eval_pack_trits(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t N = in[0].type.dim[0], K = in[0].type.dim[1];
  bool transpose = muse_op_bool(op, "transpose");
  double half = in[1].data[0] / 2;
  for (int64_t n = 0; n < N; n++)
    for (int64_t k = 0; k < K; k++) {
      double w = in[0].data[n * K + k];
      if (op->n_operands == 3) w = (double)(float)(w * in[2].data[0]);
      out[0].data[transpose ? k * N + n : n * K + k] = (w > half) - (w < -half);
    }
}

MuseStatus muse_infer_unpack_trits(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType w = op->operands[0]->type;
  if (w.rank != 2 || !muse_dtype_is_trit(w.dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "unpack_trits takes t2[N,K] or t5[N,K], but its operand is %s of rank %d",
                         muse_dtype_name(w.dtype), w.rank);
  out[0] = muse_type_with_dtype(w, MUSE_I8);
  return MUSE_OK;
}

void muse_eval_unpack_trits(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t count = muse_type_elements(out[0].type);
  for (int64_t i = 0; i < count; i++) out[0].data[i] = in[0].data[i];
}
