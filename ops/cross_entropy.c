// The head: logits = x * table^T, loss = mean over rows of logsumexp(logits) - logits[target], in nats. The table is
// dense [V,D] (cross_entropy) or a tensor train (tt_cross_entropy). The gradient ops compute the loss on the way.
// x and the table (the cores) are stored in one type, f32, bf16 or f16, and dx in that of x; gradients of parameters
// are f32, since they are sums over all tokens.
#include "ops/tensor_train.h"

#include "ops/hooks.h"

#include <math.h>
#include <string.h>

static MuseStatus check_rows(const MuseOp *op, int targets, MuseDiag *diag) {
  const char *name = muse_op_info(op->kind)->name;
  MuseType x = op->operands[0]->type, t = op->operands[targets]->type;
  if (x.rank != 2 || !muse_dtype_is_storage_float(x.dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s takes x [N,D] of f32, bf16 or f16 as its first operand",
                         name);
  if (t.rank != 1 || t.dtype != MUSE_I32 || t.dim[0] != x.dim[0])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s takes targets i32[N] with the N of x as operand %d", name,
                         targets + 1);
  return MUSE_OK;
}

static MuseStatus check_scalar(const MuseOp *op, int index, MuseDiag *diag) {
  if (muse_type_eq(op->operands[index]->type, muse_scalar_type(MUSE_F32))) return MUSE_OK;
  return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s takes the cotangent of the loss, f32[], as operand %d",
                       muse_op_info(op->kind)->name, index + 1);
}

static MuseStatus check_dense(const MuseOp *op, MuseDiag *diag) {
  MUSE_TRY(check_rows(op, 2, diag));
  MuseType x = op->operands[0]->type, table = op->operands[1]->type;
  if (table.rank != 2 || table.dtype != x.dtype || table.dim[1] != x.dim[1])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s takes a table [V,D] with the D and the element type of x as its second operand",
                         muse_op_info(op->kind)->name);
  return MUSE_OK;
}

static MuseStatus check_train(const MuseOp *op, MuseDiag *diag) {
  MUSE_TRY(check_rows(op, 4, diag));
  if (muse_op_int(op, "vocab") < 1)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s needs vocab >= 1", muse_op_info(op->kind)->name);
  MuseType x = op->operands[0]->type;
  if (op->operands[1]->type.dtype != x.dtype)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s takes cores with the element type of x",
                         muse_op_info(op->kind)->name);
  return muse_tt_check(op, 1, muse_op_int(op, "vocab"), x.dim[1], diag);
}

// The loss of all rows, and with dx (may be NULL) the gradients times d_loss; `row_grad` receives the gradient of each
// table row.
typedef struct Head {
  const MuseTensor *x, *targets;
  int64_t N, D, V;
  const double *table; // [V,D], built whole: this is the oracle
} Head;

static double evaluate(const Head *h, double d_loss, double *dx, double *d_table, MuseArena *arena) {
  double loss = 0, *logits = MUSE_NEW_ARRAY(arena, double, h->V);
  for (int64_t n = 0; n < h->N; n++) {
    const double *x = h->x->data + n * h->D;
    int64_t target = (int64_t)h->targets->data[n];
    MUSE_ASSERT(target >= 0 && target < h->V);
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < h->V; v++) {
      double s = 0;
      for (int64_t j = 0; j < h->D; j++) s += x[j] * h->table[v * h->D + j];
      logits[v] = s;
      if (s > max || isnan(s)) max = s;
    }
    for (int64_t v = 0; v < h->V; v++) sum += exp(logits[v] - max);
    loss += (max + log(sum) - logits[target]) / (double)h->N;
    if (!dx) continue;
    for (int64_t v = 0; v < h->V; v++) {
      double p = (exp(logits[v] - max) / sum - (v == target)) * d_loss / (double)h->N;
      for (int64_t j = 0; j < h->D; j++) {
        dx[n * h->D + j] += p * h->table[v * h->D + j];
        d_table[v * h->D + j] += p * x[j];
      }
    }
  }
  return loss;
}

static void clear(MuseTensor *t) { memset(t->data, 0, sizeof(double) * (size_t)muse_type_elements(t->type)); }

static double *whole_table(MuseArena *arena, const MuseTrain *t, int64_t V, int64_t D) {
  double *table = MUSE_NEW_ARRAY(arena, double, V *D);
  for (int64_t v = 0; v < V; v++) muse_tt_row(t, v, D, table + v * D);
  return table;
}

MuseStatus muse_infer_cross_entropy(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  out[0] = muse_scalar_type(MUSE_F32);
  return check_dense(op, diag);
}

void muse_eval_cross_entropy(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  Head h = {&in[0], &in[2], in[0].type.dim[0], in[0].type.dim[1], in[1].type.dim[0], in[1].data};
  out[0].data[0] = evaluate(&h, 0, NULL, NULL, eval->arena);
}

void muse_grad_cross_entropy(MuseGrad *g) {
  MuseOp *op = g->op;
  if (!g->d_results[0]) return;
  MuseValue *operands[4] = {op->operands[0], op->operands[1], op->operands[2], g->d_results[0]};
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_cross_entropy_grad, 4, operands, NULL);
  g->d_operands[0] = grad->results[1];
  g->d_operands[1] = grad->results[2];
}

MuseStatus muse_infer_cross_entropy_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(check_dense(op, diag));
  out[0] = muse_scalar_type(MUSE_F32);
  out[1] = op->operands[0]->type;
  out[2] = muse_type_with_dtype(op->operands[1]->type, MUSE_F32);
  return check_scalar(op, 3, diag);
}

void muse_eval_cross_entropy_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  Head h = {&in[0], &in[2], in[0].type.dim[0], in[0].type.dim[1], in[1].type.dim[0], in[1].data};
  clear(&out[1]);
  clear(&out[2]);
  out[0].data[0] = evaluate(&h, in[3].data[0], out[1].data, out[2].data, eval->arena);
}

MuseStatus muse_infer_tt_cross_entropy(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  out[0] = muse_scalar_type(MUSE_F32);
  return check_train(op, diag);
}

void muse_eval_tt_cross_entropy(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseTrain t = muse_tt_of(in + 1);
  int64_t V = muse_op_int(op, "vocab"), D = in[0].type.dim[1];
  Head h = {&in[0], &in[4], in[0].type.dim[0], D, V, whole_table(eval->arena, &t, V, D)};
  out[0].data[0] = evaluate(&h, 0, NULL, NULL, eval->arena);
}

void muse_grad_tt_cross_entropy(MuseGrad *g) {
  MuseOp *op = g->op;
  if (!g->d_results[0]) return;
  MuseValue *operands[6];
  for (int i = 0; i < 5; i++) operands[i] = op->operands[i];
  operands[5] = g->d_results[0];
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_tt_cross_entropy_grad, 6, operands, &op->attrs);
  for (int i = 0; i < 4; i++) g->d_operands[i] = grad->results[1 + i];
}

MuseStatus muse_infer_tt_cross_entropy_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(check_train(op, diag));
  out[0] = muse_scalar_type(MUSE_F32);
  out[1] = op->operands[0]->type;
  for (int i = 1; i < 4; i++) out[1 + i] = muse_type_with_dtype(op->operands[i]->type, MUSE_F32);
  return check_scalar(op, 5, diag);
}

void muse_eval_tt_cross_entropy_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseTrain t = muse_tt_of(in + 1);
  int64_t V = muse_op_int(op, "vocab"), D = in[0].type.dim[1];
  Head h = {&in[0], &in[4], in[0].type.dim[0], D, V, whole_table(eval->arena, &t, V, D)};
  double *d_table = MUSE_NEW_ARRAY(eval->arena, double, V *D);
  for (int i = 1; i < 5; i++) clear(&out[i]);
  out[0].data[0] = evaluate(&h, in[5].data[0], out[1].data, d_table, eval->arena);
  for (int64_t v = 0; v < V; v++)
    muse_tt_add_row_grad(&t, v, D, d_table + v * D, out[2].data, out[3].data, out[4].data);
}
