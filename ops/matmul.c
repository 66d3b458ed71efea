// matmul: the dense product of two matrices, either of which may be stored transposed.
#include "ops/hooks.h"

MuseStatus muse_infer_matmul(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType a = op->operands[0]->type, b = op->operands[1]->type;
  bool trans_a = muse_op_bool(op, "trans_a"), trans_b = muse_op_bool(op, "trans_b");
  if (a.rank != 2 || b.rank != 2)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "matmul takes matrices, but its operands have rank %d and %d; reshape them to rank 2", a.rank,
                         b.rank);
  if (a.dtype != MUSE_F32 && a.dtype != MUSE_BF16)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "the left operand of matmul is %s; cast it to f32 or bf16",
                         muse_dtype_name(a.dtype));
  if (b.dtype != MUSE_F32 && b.dtype != MUSE_BF16 && !(b.dtype == MUSE_T2 && trans_b))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "the right operand of matmul is %s; it must be f32, bf16, or t2 with trans_b = true",
                         muse_dtype_name(b.dtype));
  int64_t m = a.dim[trans_a ? 1 : 0], k = a.dim[trans_a ? 0 : 1];
  int64_t n = b.dim[trans_b ? 0 : 1], k_b = b.dim[trans_b ? 1 : 0];
  if (k != k_b)
    return muse_error_at(
        diag, MUSE_ERR_INPUT, op->loc,
        "matmul sums over %lld elements of its left and %lld of its right operand; check shapes, trans_a and trans_b",
        (long long)k, (long long)k_b);
  out[0] = muse_type2(MUSE_F32, m, n);
  return MUSE_OK;
}

void muse_eval_matmul(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  bool trans_a = muse_op_bool(op, "trans_a"), trans_b = muse_op_bool(op, "trans_b");
  int64_t M = out[0].type.dim[0], N = out[0].type.dim[1];
  int64_t K = in[0].type.dim[trans_a ? 0 : 1];
  int64_t a_m = trans_a ? 1 : K, a_k = trans_a ? M : 1;
  int64_t b_n = trans_b ? K : 1, b_k = trans_b ? 1 : N;
  for (int64_t m = 0; m < M; m++)
    for (int64_t n = 0; n < N; n++) {
      const double *a = in[0].data + m * a_m, *b = in[1].data + n * b_n;
      double sum = 0;
      for (int64_t k = 0; k < K; k++) sum += a[k * a_k] * b[k * b_k];
      out[0].data[m * N + n] = sum;
    }
}

// C = A' B' with A' = A or A^T and B' = B or B^T:  dA' = dC B'^T,  dB' = A'^T dC,  each transposed back as A and B are
//   stored. The products of two 16-bit matrices have 16-bit operands backward, too; gradients are f32.
void muse_grad_matmul(MuseGrad *g) {
  MuseValue *d = g->d_results[0];
  MuseValue *a = g->op->operands[0], *b = g->op->operands[1];
  bool trans_a = muse_op_bool(g->op, "trans_a"), trans_b = muse_op_bool(g->op, "trans_b");
  if (d == NULL) return;
  if (a->type.dtype == b->type.dtype) d = muse_build_cast(g->b, d, a->type.dtype);
  MuseValue *b_plain = b;
  if (muse_dtype_is_trit(b->type.dtype)) // dA sums over the rows of b, which are not contiguous in the packed form
    b_plain = muse_build_cast(g->b, muse_build_unary(g->b, MUSE_OP_unpack_trits, b), MUSE_F32);
  g->d_operands[0] = trans_a ? muse_build_matmul(g->b, b_plain, d, trans_b, true)
                             : muse_build_matmul(g->b, d, b_plain, false, !trans_b);
  if (muse_dtype_is_trit(b->type.dtype)) return; // trits are constants
  g->d_operands[1] = trans_b ? muse_build_matmul(g->b, d, a, true, trans_a)
                             : muse_build_matmul(g->b, a, d, !trans_a, false);
}
