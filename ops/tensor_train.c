// The tensor-train embedding (QHTT) and its products:  row i = i1*v2 + i2 of the table is the first D elements of the
//   d1 x d2
// matrix  E_i = sum_rho cosphase_rho * core1[i1,rho,:] (x) core2[i2,rho,:],  row-major. Section 3 of docs/model.md.
#include "ops/tensor_train.h"

#include "ops/hooks.h"

#include <math.h>
#include <string.h>

MuseStatus muse_tt_check(const MuseOp *op, int first, int64_t vocab, int64_t dim, MuseDiag *diag) {
  const char *name = muse_op_info(op->kind)->name;
  MuseType c1 = op->operands[first]->type, c2 = op->operands[first + 1]->type, phase = op->operands[first + 2]->type;
  if (c1.rank != 3 || c2.rank != 3 || phase.rank != 1 || !muse_dtype_is_storage_float(c1.dtype) ||
      c2.dtype != c1.dtype || phase.dtype != MUSE_F32)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s takes cores [v1,r,d1] and [v2,r,d2], both f32, bf16 or f16, and f32[r] as operands %d to "
                         "%d",
                         name, first + 1, first + 3);
  if (c1.dim[1] != c2.dim[1] || phase.dim[0] != c1.dim[1])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: the cores and the phase have different ranks r", name);
  if (dim < 1 || dim > c1.dim[2] * c2.dim[2] || (vocab && vocab > c1.dim[0] * c2.dim[0]))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s: the cores are too small for %lld dimensions and %lld tokens", name, (long long)dim,
                         (long long)vocab);
  return MUSE_OK;
}

MuseTrain muse_tt_of(const MuseTensor *in) {
  return (MuseTrain){.v1 = in[0].type.dim[0], .v2 = in[1].type.dim[0], .r = in[0].type.dim[1], .d1 = in[0].type.dim[2],
                     .d2 = in[1].type.dim[2], .core1 = in[0].data, .core2 = in[1].data, .cosphase = in[2].data};
}

void muse_tt_row(const MuseTrain *t, int64_t token, int64_t D, double *out_row) {
  const double *c1 = t->core1 + token / t->v2 * t->r * t->d1, *c2 = t->core2 + token % t->v2 * t->r * t->d2;
  memset(out_row, 0, sizeof(double) * (size_t)D);
  for (int64_t rho = 0; rho < t->r; rho++)
    for (int64_t j = 0; j < D; j++)
      out_row[j] += t->cosphase[rho] * c1[rho * t->d1 + j / t->d2] * c2[rho * t->d2 + j % t->d2];
}

void muse_tt_add_row_grad(const MuseTrain *t, int64_t token, int64_t D, const double *d_row, double *d_core1,
                          double *d_core2, double *d_cosphase) {
  int64_t o1 = token / t->v2 * t->r * t->d1, o2 = token % t->v2 * t->r * t->d2;
  for (int64_t rho = 0; rho < t->r; rho++)
    for (int64_t j = 0; j < D; j++) {
      int64_t a = o1 + rho * t->d1 + j / t->d2, b = o2 + rho * t->d2 + j % t->d2;
      d_core1[a] += d_row[j] * t->cosphase[rho] * t->core2[b];
      d_core2[b] += d_row[j] * t->cosphase[rho] * t->core1[a];
      d_cosphase[rho] += d_row[j] * t->core1[a] * t->core2[b];
    }
}

static MuseStatus check_tokens(const MuseOp *op, int index, int64_t max_rank, MuseDiag *diag) {
  MuseType t = op->operands[index]->type;
  if (t.dtype == MUSE_I32 && t.rank == max_rank) return MUSE_OK;
  return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s takes tokens i32[B,T] as operand %d",
                       muse_op_info(op->kind)->name, index + 1);
}

MuseStatus muse_infer_tt_gather(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  int64_t D = muse_op_int(op, "dim");
  MUSE_TRY(muse_tt_check(op, 0, 0, D, diag));
  MUSE_TRY(check_tokens(op, 3, 2, diag));
  out[0] = muse_type3(op->operands[0]->type.dtype, op->operands[3]->type.dim[0], op->operands[3]->type.dim[1], D);
  return MUSE_OK;
}

void muse_eval_tt_gather(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseTrain t = muse_tt_of(in);
  int64_t D = out[0].type.dim[2], n = muse_type_elements(in[3].type);
  for (int64_t i = 0; i < n; i++) muse_tt_row(&t, (int64_t)in[3].data[i], D, out[0].data + i * D);
}

void muse_grad_tt_gather(MuseGrad *g) {
  MuseOp *op = g->op;
  if (!g->d_results[0]) return;
  MuseValue *operands[5] = {g->d_results[0], op->operands[0], op->operands[1], op->operands[2], op->operands[3]};
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_tt_gather_grad, 5, operands, NULL);
  for (int i = 0; i < 3; i++) g->d_operands[i] = grad->results[i];
}

MuseStatus muse_infer_tt_gather_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType d = op->operands[0]->type;
  MUSE_TRY(check_tokens(op, 4, 2, diag));
  if (d.rank != 3 || !muse_dtype_is_storage_float(d.dtype) || d.dim[0] != op->operands[4]->type.dim[0] ||
      d.dim[1] != op->operands[4]->type.dim[1])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "tt_gather_grad takes [B,T,D] of f32, bf16 or f16 with the B and T of the tokens as its first "
                         "operand");
  MUSE_TRY(muse_tt_check(op, 1, 0, d.dim[2], diag));
  for (int i = 0; i < 3; i++) out[i] = muse_type_with_dtype(op->operands[1 + i]->type, MUSE_F32);
  return MUSE_OK;
}

void muse_eval_tt_gather_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseTrain t = muse_tt_of(in + 1);
  int64_t D = in[0].type.dim[2], n = muse_type_elements(in[4].type);
  for (int i = 0; i < 3; i++) memset(out[i].data, 0, sizeof(double) * (size_t)muse_type_elements(out[i].type));
  for (int64_t i = 0; i < n; i++)
    muse_tt_add_row_grad(&t, (int64_t)in[4].data[i], D, in[0].data + i * D, out[0].data, out[1].data, out[2].data);
}

MuseStatus muse_infer_tt_matmul(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = op->operands[0]->type;
  int64_t V = muse_op_int(op, "vocab");
  if (x.rank != 2 || !muse_dtype_is_storage_float(x.dtype) || x.dtype != op->operands[1]->type.dtype)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "tt_matmul takes x [N,D] of f32, bf16 or f16 and cores of the same type");
  MUSE_TRY(muse_tt_check(op, 1, V, x.dim[1], diag));
  if (V < 1) return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "tt_matmul needs vocab >= 1");
  out[0] = muse_type2(MUSE_F32, x.dim[0], V);
  return MUSE_OK;
}

void muse_eval_tt_matmul(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseTrain t = muse_tt_of(in + 1);
  int64_t N = in[0].type.dim[0], D = in[0].type.dim[1], V = out[0].type.dim[1];
  double *row = MUSE_NEW_ARRAY(eval->arena, double, D);
  for (int64_t v = 0; v < V; v++) {
    muse_tt_row(&t, v, D, row);
    for (int64_t i = 0; i < N; i++) {
      double sum = 0;
      for (int64_t j = 0; j < D; j++) sum += in[0].data[i * D + j] * row[j];
      out[0].data[i * V + v] = sum;
    }
  }
}
