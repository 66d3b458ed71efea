// gather_rows and scatter_add_rows: the dense embedding and its gradient.
#include "ops/hooks.h"

MuseStatus muse_infer_gather_rows(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType table = op->operands[0]->type, tokens = op->operands[1]->type;
  if (table.rank != 2 || !muse_dtype_is_float(table.dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "gather_rows takes a table [V,D] of floating-point numbers as its first operand");
  if (tokens.rank != 2 || tokens.dtype != MUSE_I32)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "gather_rows takes tokens i32[B,T] as its second operand");
  out[0] = muse_type3(table.dtype, tokens.dim[0], tokens.dim[1], table.dim[1]);
  return MUSE_OK;
}

void muse_eval_gather_rows(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t D = in[0].type.dim[1], n = muse_type_elements(in[1].type);
  for (int64_t i = 0; i < n; i++) {
    int64_t token = (int64_t)in[1].data[i];
    MUSE_ASSERT(token >= 0 && token < in[0].type.dim[0]);
    for (int64_t j = 0; j < D; j++) out[0].data[i * D + j] = in[0].data[token * D + j];
  }
}

void muse_grad_gather_rows(MuseGrad *g) {
  MuseValue *table = g->op->operands[0], *d = g->d_results[0];
  if (!d) return;
  MuseAttrList attrs = {0};
  muse_attr_set_int(g->b->module, &attrs, "rows", table->type.dim[0]);
  if (d->type.dtype == MUSE_F64) d = muse_build_cast(g->b, d, MUSE_F32);
  MuseValue *operands[2] = {d, g->op->operands[1]};
  g->d_operands[0] = muse_build_op(g->b, MUSE_OP_scatter_add_rows, 2, operands, &attrs)->results[0];
  if (table->type.dtype == MUSE_F64) g->d_operands[0] = muse_build_cast(g->b, g->d_operands[0], MUSE_F64);
}

MuseStatus muse_infer_scatter_add_rows(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType d = op->operands[0]->type, tokens = op->operands[1]->type;
  int64_t rows = muse_op_int(op, "rows");
  if (tokens.rank != 2 || tokens.dtype != MUSE_I32)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "scatter_add_rows takes tokens i32[B,T] as its second operand");
  if (d.rank != 3 || !muse_dtype_is_storage_float(d.dtype) || d.dim[0] != tokens.dim[0] || d.dim[1] != tokens.dim[1])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "scatter_add_rows takes [B,T,D] of f32, bf16 or f16 with the B and T of the tokens as its "
                         "first operand");
  if (rows < 1) return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "scatter_add_rows needs rows >= 1");
  out[0] = muse_type2(MUSE_F32, rows, d.dim[2]);
  return MUSE_OK;
}

void muse_eval_scatter_add_rows(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t D = out[0].type.dim[1], n = muse_type_elements(in[1].type), total = muse_type_elements(out[0].type);
  for (int64_t i = 0; i < total; i++) out[0].data[i] = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t token = (int64_t)in[1].data[i];
    MUSE_ASSERT(token >= 0 && token < out[0].type.dim[0]);
    for (int64_t j = 0; j < D; j++) out[0].data[token * D + j] += in[0].data[i * D + j];
  }
}
