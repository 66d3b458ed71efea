// Map ops: element by element with NumPy broadcasting. Types, exact evaluation, gradients. (rope, a map op with a shape
// of its own, is in rope.c.)

#include "ops/hooks.h"

#include "ir/base/philox.h"

#include <math.h>

// ---- types ----

MuseStatus muse_infer_const(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  const MuseAttr *dtype = muse_attr_find(&op->attrs, "dtype");
  *out = muse_scalar_type(dtype ? dtype->dtype : MUSE_F32);
  if (muse_dtype_is_trit(out->dtype))
    return muse_op_refuse(op, diag, "a constant cannot be a trit; use i8 and pack_trits");
  return MUSE_OK;
}

MuseStatus muse_infer_cast(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  MuseDtype to = muse_attr_dtype(&op->attrs, "to");
  if (muse_dtype_is_trit(x.dtype) || muse_dtype_is_trit(to))
    return muse_op_refuse(op, diag, "trits are made by pack_trits and read by unpack_trits, not by cast (%s to %s)",
                          muse_type_text(x), muse_dtype_name(to));
  *out = muse_type_with_dtype(x, to);
  return MUSE_OK;
}

static MuseStatus infer_unary(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  *out = muse_operand_type(op, 0);
  if (!muse_dtype_is_compute_float(out->dtype))
    return muse_op_refuse(op, diag, "the operand is %s but must be f32 or f64; cast it first", muse_type_text(*out));
  return MUSE_OK;
}

// Operands from index `first` on must have one dtype; all operands broadcast.
static MuseStatus infer_broadcast(const MuseOp *op, int first, bool ints, MuseType *out, MuseDiag *diag) {
  MuseType shape = muse_operand_type(op, 0), x = muse_operand_type(op, first);
  bool int_ok = ints && (x.dtype == MUSE_I32 || x.dtype == MUSE_I64);
  if (!muse_dtype_is_compute_float(x.dtype) && !int_ok)
    return muse_op_refuse(op, diag, "operand %d is %s but must be f32%s; cast it first", first + 1, muse_type_text(x),
                          ints ? ", f64, i32 or i64" : " or f64");
  for (int i = 1; i < op->n_operands; i++) {
    MuseType y = muse_operand_type(op, i);
    if (i > first && y.dtype != x.dtype)
      return muse_op_refuse(op, diag, "operands %d and %d have different types %s and %s; cast one of them", first + 1,
                            i + 1, muse_type_text(x), muse_type_text(y));
    MuseType before = shape;
    if (!muse_type_broadcast(before, y, &shape))
      return muse_op_refuse(op, diag, "the shapes of %s and %s do not broadcast", muse_type_text(before),
                            muse_type_text(y));
  }
  *out = muse_type_with_dtype(shape, x.dtype);
  return MUSE_OK;
}

static MuseStatus infer_compare(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(infer_broadcast(op, 0, true, out, diag));
  out->dtype = MUSE_BOOL;
  return MUSE_OK;
}

MuseStatus muse_infer_select(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType cond = muse_operand_type(op, 0);
  if (cond.dtype != MUSE_BOOL)
    return muse_op_refuse(op, diag, "the condition is %s but must be bool", muse_type_text(cond));
  return infer_broadcast(op, 1, true, out, diag);
}

MuseStatus muse_infer_stochastic_round(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType rng = muse_operand_type(op, 1);
  MUSE_TRY(infer_unary(op, out, diag));
  if (!muse_type_eq(rng, muse_type1(MUSE_U32, 2)))
    return muse_op_refuse(op, diag, "the second operand is %s but must be u32[2] (seed, step)", muse_type_text(rng));
  if (muse_op_int(op, "rng_id") < 0) return muse_op_refuse(op, diag, "rng_id must not be negative");
  return MUSE_OK;
}

#define INFER(name, call) \
  MuseStatus muse_infer_##name(const MuseOp *op, MuseType *out, MuseDiag *diag) { return call; }
INFER(neg, infer_unary(op, out, diag))
INFER(abs, infer_unary(op, out, diag))
INFER(exp, infer_unary(op, out, diag))
INFER(log, infer_unary(op, out, diag))
INFER(sqrt, infer_unary(op, out, diag))
INFER(rsqrt, infer_unary(op, out, diag))
INFER(recip, infer_unary(op, out, diag))
INFER(sin, infer_unary(op, out, diag))
INFER(cos, infer_unary(op, out, diag))
INFER(tanh, infer_unary(op, out, diag))
INFER(sigmoid, infer_unary(op, out, diag))
INFER(softplus, infer_unary(op, out, diag))
INFER(round, infer_unary(op, out, diag))
INFER(floor, infer_unary(op, out, diag))
INFER(add, infer_broadcast(op, 0, true, out, diag))
INFER(sub, infer_broadcast(op, 0, true, out, diag))
INFER(mul, infer_broadcast(op, 0, true, out, diag))
INFER(div, infer_broadcast(op, 0, false, out, diag))
INFER(max, infer_broadcast(op, 0, true, out, diag))
INFER(min, infer_broadcast(op, 0, true, out, diag))
INFER(less, infer_compare(op, out, diag))
INFER(equal, infer_compare(op, out, diag))

// ---- evaluation ----

void muse_broadcast_strides(MuseType from, MuseType shape, int64_t out_strides[MUSE_MAX_RANK]) {
  int64_t stride = 1;
  for (int i = shape.rank - 1; i >= 0; i--) {
    int j = i - (shape.rank - from.rank);
    out_strides[i] = j < 0 || from.dim[j] == 1 ? 0 : stride;
    if (j >= 0) stride *= from.dim[j];
  }
}

// Walks all elements of `shape` in row-major order and keeps the element offsets of up to three operands.
typedef struct Walk {
  MuseType shape;
  int n;
  int64_t stride[3][MUSE_MAX_RANK], index[MUSE_MAX_RANK], offset[3];
} Walk;

static Walk walk_start(MuseType shape, const MuseTensor *operands, int n) {
  Walk w = {.shape = shape, .n = n};
  for (int k = 0; k < n; k++) muse_broadcast_strides(operands[k].type, shape, w.stride[k]);
  return w;
}

static void walk_next(Walk *w) {
  for (int i = w->shape.rank - 1; i >= 0; i--) {
    w->index[i]++;
    for (int k = 0; k < w->n; k++) w->offset[k] += w->stride[k][i];
    if (w->index[i] < w->shape.dim[i]) return;
    for (int k = 0; k < w->n; k++) w->offset[k] -= w->stride[k][i] * w->shape.dim[i];
    w->index[i] = 0;
  }
}

void muse_eval_const(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  out->data[0] = muse_op_real(op, "value");
}

static double convert(double x, MuseDtype to) {
  switch (to) {
  case MUSE_BOOL: return x != 0;
  case MUSE_I8:
  case MUSE_U8:
  case MUSE_I32:
  case MUSE_U32:
  case MUSE_I64: return trunc(x);
  default: return x; // float types are rounded by the caller, when it rounds at all
  }
}

void muse_eval_cast(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t n = muse_type_elements(out->type);
  for (int64_t i = 0; i < n; i++) out->data[i] = convert(in->data[i], out->type.dtype);
}

#define EVAL_UNARY(name, expr)                                                                           \
  void muse_eval_##name(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) { \
    int64_t n = muse_type_elements(out->type);                                                           \
    for (int64_t i = 0; i < n; i++) {                                                                    \
      double x = in->data[i];                                                                            \
      out->data[i] = expr;                                                                               \
    }                                                                                                    \
  }
EVAL_UNARY(neg, -x)
EVAL_UNARY(abs, fabs(x))
EVAL_UNARY(exp, exp(x))
EVAL_UNARY(log, log(x))
EVAL_UNARY(sqrt, sqrt(x))
EVAL_UNARY(rsqrt, 1 / sqrt(x))
EVAL_UNARY(recip, 1 / x)
EVAL_UNARY(sin, sin(x))
EVAL_UNARY(cos, cos(x))
EVAL_UNARY(tanh, tanh(x))
EVAL_UNARY(sigmoid, x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)))
EVAL_UNARY(softplus, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
EVAL_UNARY(round, muse_round_half_even(x))
EVAL_UNARY(floor, floor(x))

#define EVAL_BINARY(name, expr)                                                                          \
  void muse_eval_##name(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) { \
    Walk w = walk_start(out->type, in, 2);                                                               \
    int64_t n = muse_type_elements(out->type);                                                           \
    for (int64_t i = 0; i < n; i++, walk_next(&w)) {                                                     \
      double x = in[0].data[w.offset[0]], y = in[1].data[w.offset[1]];                                   \
      out->data[i] = expr;                                                                               \
    }                                                                                                    \
  }
EVAL_BINARY(add, x + y)
EVAL_BINARY(sub, x - y)
EVAL_BINARY(mul, x *y)
EVAL_BINARY(div, x / y)
// A NaN travels on: a bad value must be seen, not hidden by the other operand.
EVAL_BINARY(max, isnan(x) || x > y ? x : y)
EVAL_BINARY(min, isnan(x) || x < y ? x : y)
EVAL_BINARY(less, x < y)
EVAL_BINARY(equal, x == y)

void muse_eval_select(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  Walk w = walk_start(out->type, in, 3);
  int64_t n = muse_type_elements(out->type);
  for (int64_t i = 0; i < n; i++, walk_next(&w))
    out->data[i] = in[0].data[w.offset[0]] != 0 ? in[1].data[w.offset[1]] : in[2].data[w.offset[2]];
}

void muse_eval_stochastic_round(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  uint64_t id = (uint64_t)muse_op_int(op, "rng_id");
  const MuseOp *kernel = op->region ? op->region->owner : NULL;
  if (kernel) { // inside a kernel: the position in its list, so that equal kernels share code
    const MuseAttr *ids = muse_attr_ints(&kernel->attrs, "rng_ids");
    MUSE_ASSERT(id < (uint64_t)ids->ints.len);
    id = (uint64_t)ids->ints.data[id];
  }
  uint32_t seed = (uint32_t)in[1].data[0], step = (uint32_t)in[1].data[1];
  int64_t n = muse_type_elements(out->type);
  for (int64_t i = 0; i < n; i++) {
    double sum = in[0].data[i] + muse_random_uniform((uint64_t)i, id, seed, step);
    // A back end adds in f32, where a sum just below an integer may round up to it.
    out->data[i] = floor(eval->round_storage ? muse_round_to_dtype(sum, out->type.dtype) : sum);
  }
}

// ---- gradients: dy and y are the cotangent and the value of the result ----

#define B g->b
#define X g->op->operands[0]
#define Y2 g->op->operands[1]
#define Y g->op->results[0]
#define DY g->d_results[0]
#define MUL(a, c) muse_build_binary(B, MUSE_OP_mul, a, c)
#define SUB(a, c) muse_build_binary(B, MUSE_OP_sub, a, c)
#define NEG(a) muse_build_unary(B, MUSE_OP_neg, a)
#define LESS(a, c) muse_build_binary(B, MUSE_OP_less, a, c)
#define CONST(value) muse_build_const_typed(B, value, Y->type.dtype)

void muse_grad_cast(MuseGrad *g) {
  if (muse_dtype_is_float(Y->type.dtype)) muse_grad_give(g, 0, DY);
}

#define GRAD_UNARY(name, dx) \
  void muse_grad_##name(MuseGrad *g) { muse_grad_give(g, 0, dx); }
GRAD_UNARY(neg, NEG(DY))
GRAD_UNARY(exp, MUL(DY, Y))
GRAD_UNARY(log, muse_build_binary(B, MUSE_OP_div, DY, X))
GRAD_UNARY(sqrt, muse_build_binary(B, MUSE_OP_div, muse_build_scale(B, DY, 0.5), Y))
GRAD_UNARY(rsqrt, MUL(muse_build_scale(B, DY, -0.5), MUL(Y, MUL(Y, Y))))
GRAD_UNARY(recip, NEG(MUL(DY, MUL(Y, Y))))
GRAD_UNARY(sin, MUL(DY, muse_build_unary(B, MUSE_OP_cos, X)))
GRAD_UNARY(cos, MUL(DY, muse_build_unary(B, MUSE_OP_neg, muse_build_unary(B, MUSE_OP_sin, X))))
GRAD_UNARY(tanh, MUL(DY, SUB(CONST(1), MUL(Y, Y))))
GRAD_UNARY(sigmoid, MUL(DY, MUL(Y, SUB(CONST(1), Y))))
GRAD_UNARY(softplus, MUL(DY, muse_build_unary(B, MUSE_OP_sigmoid, X)))

void muse_grad_abs(MuseGrad *g) {
  MuseValue *zero = CONST(0), *negative = muse_build_select(B, LESS(X, zero), NEG(DY), zero);
  muse_grad_give(g, 0, muse_build_select(B, LESS(zero, X), DY, negative));
}

void muse_grad_add(MuseGrad *g) {
  muse_grad_give(g, 0, DY);
  muse_grad_give(g, 1, DY);
}

void muse_grad_sub(MuseGrad *g) {
  if (!muse_dtype_is_float(Y->type.dtype)) return;
  muse_grad_give(g, 0, DY);
  muse_grad_give(g, 1, NEG(DY));
}

void muse_grad_mul(MuseGrad *g) {
  if (!muse_dtype_is_float(Y->type.dtype)) return;
  muse_grad_give(g, 0, MUL(DY, Y2));
  muse_grad_give(g, 1, MUL(DY, X));
}

void muse_grad_div(MuseGrad *g) {
  MuseValue *dx = muse_build_binary(B, MUSE_OP_div, DY, Y2);
  muse_grad_give(g, 0, dx);
  muse_grad_give(g, 1, NEG(MUL(dx, Y)));
}

// The winner takes dy; equal operands take half each.
static void grad_extreme(MuseGrad *g, bool first_wins_when_less) {
  if (!muse_dtype_is_float(Y->type.dtype)) return;
  MuseValue *zero = CONST(0), *half = muse_build_scale(B, DY, 0.5);
  MuseValue *first_less = LESS(X, Y2), *second_less = LESS(Y2, X);
  MuseValue *first_wins = first_wins_when_less ? first_less : second_less;
  MuseValue *second_wins = first_wins_when_less ? second_less : first_less;
  muse_grad_give(g, 0, muse_build_select(B, first_wins, DY, muse_build_select(B, second_wins, zero, half)));
  muse_grad_give(g, 1, muse_build_select(B, second_wins, DY, muse_build_select(B, first_wins, zero, half)));
}
void muse_grad_max(MuseGrad *g) { grad_extreme(g, false); }
void muse_grad_min(MuseGrad *g) { grad_extreme(g, true); }

void muse_grad_select(MuseGrad *g) {
  if (!muse_dtype_is_float(Y->type.dtype)) return;
  MuseValue *zero = CONST(0);
  muse_grad_give(g, 1, muse_build_select(B, X, DY, zero));
  muse_grad_give(g, 2, muse_build_select(B, X, zero, DY));
}
