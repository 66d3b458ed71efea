// Rotary positions. rope_table holds cos and sin of (p+t) base^(-j/half) for t < rows, j < half; rope turns the pairs
// (x1_j, x2_j) of the two halves of each head by these angles: (x1 c - x2 s, x2 c + x1 s), or back (`inverse`).
// A rotation is orthogonal, so the gradient of rope is rope with `inverse` toggled. x may be stored in bf16 or f16; the
// table and the result are f32 (f64 for an f64 x).
#include "ops/hooks.h"

#include <math.h>

MuseStatus muse_infer_rope_table(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  const int64_t rows = muse_op_int(op, "rows"), half = muse_op_int(op, "half");
  if (op->operands[0]->type.dtype != MUSE_I64 || op->operands[0]->type.rank != 0)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "rope_table: the operand (position of the first row) must be i64[]");
  if (rows < 1 || half < 1 || half > INT32_MAX || rows > INT64_MAX / 64 / half)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "rope_table: rows and half must be at least 1 and the table must fit memory");
  if (!(muse_op_real(op, "base") > 0))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "rope_table: base must be positive");
  out[0] = muse_type2(MUSE_F32, rows, 2 * half);
  return MUSE_OK;
}

void muse_eval_rope_table(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t rows = muse_op_int(op, "rows"), half = muse_op_int(op, "half");
  const double base = muse_op_real(op, "base");
  for (int64_t t = 0; t < rows; t++)
    for (int64_t j = 0; j < half; j++) {
      const double angle = (in[0].data[0] + (double)t) * pow(base, -(double)j / (double)half);
      out[0].data[t * 2 * half + j] = cos(angle);
      out[0].data[t * 2 * half + half + j] = sin(angle);
    }
}

MuseStatus muse_infer_rope(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = op->operands[0]->type, table = op->operands[1]->type;
  if (!muse_dtype_is_float(x.dtype) || x.rank != 4 || x.dim[3] % 2 != 0)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "rope: the first operand (x) must be f32, bf16 or f16 [B,T,H,d] with an even d");
  const MuseDtype compute = x.dtype == MUSE_F64 ? MUSE_F64 : MUSE_F32;
  if (!muse_type_eq(table, muse_type2(compute, x.dim[1], x.dim[3])))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "rope: the second operand (table) must be f32[T,d] with the T and d of x");
  out[0] = muse_type_with_dtype(x, compute);
  return MUSE_OK;
}

void muse_eval_rope(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseType x = in[0].type;
  const int64_t T = x.dim[1], H = x.dim[2], d = x.dim[3], half = d / 2;
  const double sign = muse_op_bool(op, "inverse") ? -1 : 1;
  for (int64_t row = 0; row < x.dim[0] * T * H; row++) {
    const double *table = in[1].data + row / H % T * d, *from = in[0].data + row * d;
    double *to = out[0].data + row * d;
    for (int64_t j = 0; j < half; j++) {
      const double c = table[j], s = sign * table[half + j], x1 = from[j], x2 = from[half + j];
      to[j] = x1 * c - x2 * s;
      to[half + j] = x2 * c + x1 * s;
    }
  }
}

void muse_grad_rope(MuseGrad *g) {
  g->d_operands[0] = muse_build_rope(g->b, g->d_results[0], g->op->operands[1], !muse_op_bool(g->op, "inverse"));
  g->d_operands[1] = NULL; // a table of constants
}
