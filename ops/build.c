// Builders: create an op, infer its result types, insert it. Operands come from the compiler itself, so that a refusal
// here is a bug and aborts with the sentence of the inference.

#include "ops/hooks.h"

#include <stdlib.h>

MuseBuilder muse_builder_at_end(MuseModule *module, MuseRegion *region) {
  return (MuseBuilder){.module = module, .region = region, .layer = -1};
}

MuseBuilder muse_builder_before(MuseModule *module, MuseOp *op) {
  return (MuseBuilder){
      .module = module, .region = op->region, .before = op, .loc = op->loc, .layer = op->layer, .stage = op->stage};
}

MuseOp *muse_build_op(MuseBuilder *b, MuseOpKind kind, int n_operands, MuseValue *const *operands,
                      const MuseAttrList *attrs) {
  const MuseOpInfo *info = muse_op_info(kind);
  MUSE_ASSERT(n_operands >= info->min_operands && (info->max_operands < 0 || n_operands <= info->max_operands));
  // The one op whose result count varies outside control flow: a gradient for each float operand, none for doc and do.
  int n_results = kind == MUSE_OP_window_attention_grad ? n_operands - 2 : info->results;
  MUSE_ASSERT(n_results >= 0 && n_results <= 8);
  MuseOp probe = {.kind = kind, .n_operands = n_operands, .n_results = n_results, .operands = (MuseValue **)operands};
  if (attrs) probe.attrs = *attrs;
  probe.loc = b->loc;
  probe.region = b->region;

  MuseType types[8];
  if (info->class_ != MUSE_CLASS_CONTROL) {
    MuseDiag *diag = muse_diag_create();
    if (muse_ops_infer(&probe, types, diag) != MUSE_OK) {
      muse_diag_print(diag, stderr);
      MUSE_ASSERT(!"a builder was given operands that the op refuses");
    }
    muse_diag_destroy(diag);
  }
  MuseOp *op = muse_op_create(b->module, kind, n_operands, operands, n_results, types);
  if (attrs) muse_attr_copy(b->module, &op->attrs, attrs);
  op->loc = b->loc;
  op->layer = b->layer;
  op->stage = b->stage;
  if (b->before)
    muse_op_insert_before(op, b->before);
  else
    muse_op_append(op, b->region);
  return op;
}

MuseValue *muse_build_unary(MuseBuilder *b, MuseOpKind kind, MuseValue *x) {
  return muse_build_op(b, kind, 1, &x, NULL)->results[0];
}

MuseValue *muse_build_binary(MuseBuilder *b, MuseOpKind kind, MuseValue *x, MuseValue *y) {
  return muse_build_op(b, kind, 2, (MuseValue *[]){x, y}, NULL)->results[0];
}

MuseValue *muse_build_const(MuseBuilder *b, double value) { return muse_build_const_typed(b, value, MUSE_F32); }

MuseValue *muse_build_const_typed(MuseBuilder *b, double value, MuseDtype dtype) {
  MuseAttrList attrs = {0};
  muse_attr_set_real(b->module, &attrs, "value", value);
  if (dtype != MUSE_F32) muse_attr_set_dtype(b->module, &attrs, "dtype", dtype);
  return muse_build_op(b, MUSE_OP_const, 0, NULL, &attrs)->results[0];
}

MuseValue *muse_build_cast(MuseBuilder *b, MuseValue *x, MuseDtype to) {
  if (x->type.dtype == to) return x;
  MuseAttrList attrs = {0};
  muse_attr_set_dtype(b->module, &attrs, "to", to);
  return muse_build_op(b, MUSE_OP_cast, 1, &x, &attrs)->results[0];
}

MuseValue *muse_build_select(MuseBuilder *b, MuseValue *cond, MuseValue *yes, MuseValue *no) {
  return muse_build_op(b, MUSE_OP_select, 3, (MuseValue *[]){cond, yes, no}, NULL)->results[0];
}

MuseValue *muse_build_reduce(MuseBuilder *b, MuseOpKind kind, MuseValue *x, const int64_t *axes, int n_axes) {
  if (n_axes == 0) return x;
  MuseAttrList attrs = {0};
  muse_attr_set_ints(b->module, &attrs, "axes", axes, n_axes);
  return muse_build_op(b, kind, 1, &x, &attrs)->results[0];
}

MuseValue *muse_build_reduce_last(MuseBuilder *b, MuseOpKind kind, MuseValue *x) {
  MUSE_ASSERT(x->type.rank >= 1);
  return muse_build_reduce(b, kind, x, (int64_t[]){x->type.rank - 1}, 1);
}

MuseValue *muse_build_reduce_all(MuseBuilder *b, MuseOpKind kind, MuseValue *x) {
  const int64_t axes[MUSE_MAX_RANK] = {0, 1, 2, 3, 4, 5};
  return muse_build_reshape(b, muse_build_reduce(b, kind, x, axes, x->type.rank), 0, NULL);
}

// Ops whose only attribute is a list of integers.
static MuseValue *build_with_ints(MuseBuilder *b, MuseOpKind kind, const char *name, MuseValue *x, int n,
                                  const int64_t *ints) {
  MuseAttrList attrs = {0};
  muse_attr_set_ints(b->module, &attrs, name, ints, n);
  return muse_build_op(b, kind, 1, &x, &attrs)->results[0];
}

MuseValue *muse_build_reshape(MuseBuilder *b, MuseValue *x, int rank, const int64_t *shape) {
  if (muse_type_same_shape(x->type, muse_type(x->type.dtype, rank, shape))) return x;
  return build_with_ints(b, MUSE_OP_reshape, "shape", x, rank, shape);
}

MuseValue *muse_build_broadcast(MuseBuilder *b, MuseValue *x, MuseType shape_of) {
  if (muse_type_same_shape(x->type, shape_of)) return x;
  return build_with_ints(b, MUSE_OP_broadcast, "shape", x, shape_of.rank, shape_of.dim);
}

MuseValue *muse_build_sum_to(MuseBuilder *b, MuseValue *x, MuseType shape_of) {
  MUSE_ASSERT(muse_type_broadcasts_to(shape_of, x->type));
  int missing = x->type.rank - shape_of.rank, n_axes = 0;
  int64_t axes[MUSE_MAX_RANK];
  for (int i = 0; i < x->type.rank; i++)
    if (x->type.dim[i] > 1 && (i < missing || shape_of.dim[i - missing] == 1)) axes[n_axes++] = i;
  x = muse_build_reduce(b, MUSE_OP_reduce_sum, x, axes, n_axes);
  return muse_build_reshape(b, x, shape_of.rank, shape_of.dim);
}

MuseValue *muse_build_transpose(MuseBuilder *b, MuseValue *x, int rank, const int64_t *perm) {
  return build_with_ints(b, MUSE_OP_transpose, "perm", x, rank, perm);
}

MuseValue *muse_build_matmul(MuseBuilder *b, MuseValue *a, MuseValue *c, bool trans_a, bool trans_b) {
  MuseAttrList attrs = {0};
  if (trans_a) muse_attr_set_bool(b->module, &attrs, "trans_a", true);
  if (trans_b) muse_attr_set_bool(b->module, &attrs, "trans_b", true);
  return muse_build_op(b, MUSE_OP_matmul, 2, (MuseValue *[]){a, c}, &attrs)->results[0];
}

MuseValue *muse_build_rope(MuseBuilder *b, MuseValue *x, MuseValue *table, bool inverse) {
  MuseAttrList attrs = {0};
  if (inverse) muse_attr_set_bool(b->module, &attrs, "inverse", true);
  return muse_build_op(b, MUSE_OP_rope, 2, (MuseValue *[]){x, table}, &attrs)->results[0];
}

MuseValue *muse_build_rms_norm(MuseBuilder *b, MuseValue *x, MuseValue *w_or_null) {
  return muse_build_op(b, MUSE_OP_rms_norm, w_or_null ? 2 : 1, (MuseValue *[]){x, w_or_null}, NULL)->results[0];
}

MuseValue *muse_build_scale(MuseBuilder *b, MuseValue *x, double factor) {
  return muse_build_binary(b, MUSE_OP_mul, x, muse_build_const_typed(b, factor, x->type.dtype));
}

MuseValue *muse_build_offset(MuseBuilder *b, MuseValue *x, double addend) {
  return muse_build_binary(b, MUSE_OP_add, x, muse_build_const_typed(b, addend, x->type.dtype));
}

MuseValue *muse_build_clip(MuseBuilder *b, MuseValue *x, double low, double high) {
  x = muse_build_binary(b, MUSE_OP_max, x, muse_build_const_typed(b, low, x->type.dtype));
  return muse_build_binary(b, MUSE_OP_min, x, muse_build_const_typed(b, high, x->type.dtype));
}

MuseValue *muse_build_stochastic_round(MuseBuilder *b, MuseValue *x, MuseValue *rng, int64_t rng_id) {
  MuseAttrList attrs = {0};
  muse_attr_set_int(b->module, &attrs, "rng_id", rng_id);
  return muse_build_op(b, MUSE_OP_stochastic_round, 2, (MuseValue *[]){x, rng}, &attrs)->results[0];
}

MuseValue *muse_build_sum_by_rows(MuseBuilder *b, MuseValue *x) {
  if (x->type.rank == 0) return x;
  MuseValue *rows = muse_build_reduce_last(b, MUSE_OP_reduce_sum, x);
  int64_t axes[MUSE_MAX_RANK];
  int n_axes = 0;
  for (int i = 0; i + 1 < x->type.rank; i++)
    if (x->type.dim[i] > 1) axes[n_axes++] = i;
  return muse_build_reshape(b, muse_build_reduce(b, MUSE_OP_reduce_sum, rows, axes, n_axes), 0, NULL);
}

void muse_grad_give(MuseGrad *g, int operand, MuseValue *value) {
  MuseType type = g->op->operands[operand]->type;
  if (!value || !muse_dtype_is_float(type.dtype)) return;
  g->d_operands[operand] = muse_build_cast(g->b, muse_build_sum_to(g->b, value, type), type.dtype);
}
