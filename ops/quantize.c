// BitNet b1.58 (arXiv:2402.17764) and the int8 cores of the tensor train: quantisation, BitLinear, its straight-through
// backward products. Formulas: docs/model.md section 2. All of them are composites: their evaluation here is written
// from the formulas, their decomposition from map ops, reductions and the structured products, and a test compares the
// two.
//
// Random streams: an op with rng_id n draws with the ids 2n (bit_linear_dx, first use) and 2n+1 (bit_linear_dw, second
// use), so the two products of one BitLinear share the rng_id of the forward op.

#include "ops/hooks.h"

#include "ir/base/philox.h"

#include <math.h>
#include <string.h>

#define ACTIVATION_FLOOR 1e-5 // least a
#define GAMMA_FLOOR 1e-6      // least gamma
#define SCALE_FLOOR \
  1e-30 // least maximum of a gradient row or core slice: keeps 0/0 out, and is normal in f32 after /127

static double clip(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

static MuseStatus expect_float_matrix(const MuseOp *op, int index, const char *name, MuseDiag *diag) {
  MuseType t = muse_operand_type(op, index);
  if (!muse_dtype_is_storage_float(t.dtype) || t.rank != 2)
    return muse_op_refuse(op, diag, "operand %d (%s) is %s but must be a matrix of f32, bf16 or f16", index + 1, name,
                          muse_type_text(t));
  return MUSE_OK;
}

// ---- quantize_rows ----

MuseStatus muse_infer_quantize_rows(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  if (!muse_dtype_is_storage_float(x.dtype) || x.rank < 1)
    return muse_op_refuse(op, diag, "the operand is %s but must be f32, bf16 or f16 with at least one dimension",
                          muse_type_text(x));
  out[0] = muse_type_with_dtype(x, MUSE_I8);
  out[1] = muse_type_with_dtype(x, MUSE_F32);
  out[1].dim[x.rank - 1] = 1;
  return MUSE_OK;
}

// One row: returns a, writes q.
static double quantize_row(const double *x, int64_t n, double *q) {
  double top = 0;
  for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(x[i]));
  double a = fmax(top, ACTIVATION_FLOOR);
  for (int64_t i = 0; i < n; i++) q[i] = clip(muse_round_half_even(x[i] * (127 / a)), -128, 127);
  return a;
}

void muse_eval_quantize_rows(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t rows = muse_type_rows(in->type), n = muse_type_last_dim(in->type);
  for (int64_t row = 0; row < rows; row++)
    out[1].data[row] = quantize_row(in->data + row * n, n, out[0].data + row * n);
}

void muse_decompose_quantize_rows(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseValue *x = muse_build_cast(b, op->operands[0], MUSE_F32);
  MuseValue *top = muse_build_reduce_last(b, MUSE_OP_reduce_max, muse_build_unary(b, MUSE_OP_abs, x));
  MuseValue *a = muse_build_binary(b, MUSE_OP_max, top, muse_build_const(b, ACTIVATION_FLOOR));
  MuseValue *scale = muse_build_binary(b, MUSE_OP_div, muse_build_const(b, 127), a);
  MuseValue *q = muse_build_unary(b, MUSE_OP_round, muse_build_binary(b, MUSE_OP_mul, x, scale));
  out[0] = muse_build_cast(b, muse_build_clip(b, q, -128, 127), MUSE_I8);
  out[1] = a;
}

// ---- ternarize ----

MuseStatus muse_infer_ternarize(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(expect_float_matrix(op, 0, "w", diag));
  MuseType w = muse_operand_type(op, 0);
  bool transpose = muse_op_bool(op, "transpose");
  out[0] = muse_type2(MUSE_T2, w.dim[transpose], w.dim[!transpose]);
  out[1] = muse_scalar_type(MUSE_F32);
  return MUSE_OK;
}

static double absmean_scale(const double *w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += fabs(w[i]);
  return fmax(sum / (double)n, GAMMA_FLOOR);
}

static double trit_of(double w, double gamma) { return clip(muse_round_half_even(w / gamma), -1, 1); }

void muse_eval_ternarize(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t rows = in->type.dim[0], columns = in->type.dim[1];
  bool transpose = muse_op_bool(op, "transpose");
  double gamma = absmean_scale(in->data, rows * columns);
  for (int64_t n = 0; n < rows; n++)
    for (int64_t k = 0; k < columns; k++)
      out[0].data[transpose ? k * rows + n : n * columns + k] = trit_of(in->data[n * columns + k], gamma);
  out[1].data[0] = gamma;
}

void muse_decompose_ternarize(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseValue *w = muse_build_cast(b, op->operands[0], MUSE_F32);
  // Rows first, then the sum of the rows: one f32 sum over 10^8 weights would lose the digits that decide trits near a
  // half.
  MuseValue *sum = muse_build_sum_by_rows(b, muse_build_unary(b, MUSE_OP_abs, w));
  MuseValue *mean = muse_build_scale(b, sum, 1.0 / (double)muse_type_elements(w->type));
  MuseValue *gamma = muse_build_binary(b, MUSE_OP_max, mean, muse_build_const(b, GAMMA_FLOOR));
  MuseAttrList attrs = {0};
  muse_attr_set_dtype(b->module, &attrs, "dtype", MUSE_T2);
  if (muse_op_bool(op, "transpose")) muse_attr_set_bool(b->module, &attrs, "transpose", true);
  out[0] = muse_build_op(b, MUSE_OP_pack_trits, 2, (MuseValue *[]){w, gamma}, &attrs)->results[0];
  out[1] = gamma;
}

// ---- bit_linear: y = (q t^T) gamma a / 127 ----

typedef enum GradientKind { GRADIENT_F32, GRADIENT_BF16, GRADIENT_INT8, GRADIENT_UNKNOWN } GradientKind;

static GradientKind gradient_kind(const MuseOp *op) {
  const char *text = muse_op_text(op, "gradient");
  return muse_str_eq(text, "f32")    ? GRADIENT_F32
         : muse_str_eq(text, "bf16") ? GRADIENT_BF16
         : muse_str_eq(text, "int8") ? GRADIENT_INT8
                                     : GRADIENT_UNKNOWN;
}

// Attributes and, for the backward products, the random operand.
static MuseStatus check_gradient(const MuseOp *op, bool backward, MuseDiag *diag) {
  GradientKind kind = gradient_kind(op);
  if (kind == GRADIENT_UNKNOWN)
    return muse_op_refuse(op, diag, "gradient is \"%s\" but must be \"f32\", \"bf16\" or \"int8\"",
                          muse_op_text(op, "gradient"));
  if (muse_op_int(op, "rng_id") < 0) return muse_op_refuse(op, diag, "rng_id must not be negative");
  if (!backward) return MUSE_OK;
  if (kind == GRADIENT_INT8 && op->n_operands != 3)
    return muse_op_refuse(op, diag,
                          "with int8 gradients a third operand u32[2] (seed, step) is needed for the rounding");
  if (op->n_operands == 3 && !muse_type_eq(muse_operand_type(op, 2), muse_type1(MUSE_U32, 2)))
    return muse_op_refuse(op, diag, "the third operand is %s but must be u32[2] (seed, step)",
                          muse_type_text(muse_operand_type(op, 2)));
  return MUSE_OK;
}

// Both operands are matrices of floats with the same dimension `dim`.
static MuseStatus expect_float_matrices(const MuseOp *op, const char *a, const char *b, int dim, MuseDiag *diag) {
  MUSE_TRY(expect_float_matrix(op, 0, a, diag));
  MUSE_TRY(expect_float_matrix(op, 1, b, diag));
  MuseType x = muse_operand_type(op, 0), y = muse_operand_type(op, 1);
  if (x.dim[dim] == y.dim[dim]) return MUSE_OK;
  return muse_op_refuse(op, diag, "%s %s and %s %s must have the same %s", a, muse_type_text(x), b, muse_type_text(y),
                        dim ? "last dimension" : "number of rows");
}

MuseStatus muse_infer_bit_linear(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(expect_float_matrices(op, "x", "w", 1, diag));
  MuseType x = muse_operand_type(op, 0), w = muse_operand_type(op, 1);
  *out = muse_type2(MUSE_F32, x.dim[0], w.dim[0]);
  return check_gradient(op, false, diag);
}

void muse_eval_bit_linear(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t M = in[0].type.dim[0], K = in[0].type.dim[1], N = in[1].type.dim[0];
  double gamma = absmean_scale(in[1].data, N * K), *q = MUSE_NEW_ARRAY(eval->arena, double, K);
  for (int64_t m = 0; m < M; m++) {
    double a = quantize_row(in[0].data + m * K, K, q);
    for (int64_t n = 0; n < N; n++) {
      double sum = 0;
      for (int64_t k = 0; k < K; k++) sum += q[k] * trit_of(in[1].data[n * K + k], gamma);
      out->data[m * N + n] = sum * (gamma * a / 127);
    }
  }
}

static MuseOp *build_ternarize(MuseBuilder *b, MuseValue *w, bool transpose) {
  MuseAttrList attrs = {0};
  if (transpose) muse_attr_set_bool(b->module, &attrs, "transpose", true);
  return muse_build_op(b, MUSE_OP_ternarize, 1, &w, &attrs);
}

static MuseValue *build_mul(MuseBuilder *b, MuseValue *x, MuseValue *y) {
  return muse_build_binary(b, MUSE_OP_mul, x, y);
}

void muse_decompose_bit_linear(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseOp *quantized = muse_build_op(b, MUSE_OP_quantize_rows, 1, op->operands, NULL);
  MuseOp *ternary = build_ternarize(b, op->operands[1], false);
  MuseValue *sum = muse_build_binary(b, MUSE_OP_ternary_matmul, quantized->results[0], ternary->results[0]);
  MuseValue *step = muse_build_scale(b, ternary->results[1], 1.0 / 127);
  out[0] = build_mul(b, muse_build_cast(b, sum, MUSE_F32), build_mul(b, quantized->results[1], step));
}

// dX = dY (gamma t), dW = dY^T (q a / 127); gamma and a are constants of the straight-through estimate.
void muse_grad_bit_linear(MuseGrad *g) {
  MuseBuilder *b = g->b;
  MuseAttrList attrs = {0};
  bool int8 = gradient_kind(g->op) == GRADIENT_INT8;
  MUSE_ASSERT(!int8 || g->rng);
  muse_attr_set_text(b->module, &attrs, "gradient", muse_op_text(g->op, "gradient"));
  muse_attr_set_int(b->module, &attrs, "rng_id", muse_op_int(g->op, "rng_id"));
  MuseValue *for_dx[3] = {g->d_results[0], g->op->operands[1], g->rng};
  MuseValue *for_dw[3] = {g->d_results[0], g->op->operands[0], g->rng};
  muse_grad_give(g, 0, muse_build_op(b, MUSE_OP_bit_linear_dx, int8 ? 3 : 2, for_dx, &attrs)->results[0]);
  muse_grad_give(g, 1, muse_build_op(b, MUSE_OP_bit_linear_dw, int8 ? 3 : 2, for_dw, &attrs)->results[0]);
}

// ---- bit_linear_dx: dx [M,K] = dy [M,N] (gamma t) ----

MuseStatus muse_infer_bit_linear_dx(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(expect_float_matrix(op, 0, "dy", diag));
  MUSE_TRY(expect_float_matrix(op, 1, "w", diag));
  MuseType dy = muse_operand_type(op, 0), w = muse_operand_type(op, 1);
  if (dy.dim[1] != w.dim[0])
    return muse_op_refuse(op, diag, "the columns of dy %s must be the rows of w %s", muse_type_text(dy),
                          muse_type_text(w));
  *out = muse_type2(MUSE_F32, dy.dim[0], w.dim[1]);
  return check_gradient(op, true, diag);
}

// One int8 value of a gradient: stochastic, clipped to the symmetric range (x/scale may exceed 127 by an ulp).
static double round_gradient(double x, double scale, int64_t index, const MuseOp *op, const MuseTensor *rng,
                             int stream) {
  double u = muse_random_uniform((uint64_t)index, 2 * (uint64_t)muse_op_int(op, "rng_id") + (uint64_t)stream,
                                 (uint32_t)rng->data[0], (uint32_t)rng->data[1]);
  return clip(floor(x / scale + u), -127, 127);
}

// Replaces values [0, n) with stride by their int8 approximation times its scale; the same in exact arithmetic as a
// product of the int8 values with the scale applied behind it.
static void round_line(double *z, int64_t n, int64_t stride, int64_t first, const MuseOp *op, const MuseTensor *rng,
                       int stream) {
  double top = SCALE_FLOOR;
  for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(z[i * stride]));
  for (int64_t i = 0; i < n; i++)
    z[i * stride] = round_gradient(z[i * stride], top / 127, first + i * stride, op, rng, stream) * (top / 127);
}

static double *copy_of(const MuseEval *eval, const double *x, int64_t n) {
  return memcpy(MUSE_NEW_ARRAY(eval->arena, double, n), x, sizeof(double) * (size_t)n);
}

static void round_all_to_bf16(const MuseEval *eval, double *z, int64_t n) {
  for (int64_t i = 0; eval->round_storage && i < n; i++) z[i] = muse_round_to_dtype(z[i], MUSE_BF16);
}

void muse_eval_bit_linear_dx(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t M = in[0].type.dim[0], N = in[0].type.dim[1], K = in[1].type.dim[1];
  double gamma = absmean_scale(in[1].data, N * K), *dy = copy_of(eval, in[0].data, M * N);
  GradientKind kind = gradient_kind(op);
  if (kind == GRADIENT_INT8)
    for (int64_t m = 0; m < M; m++) round_line(dy + m * N, N, 1, m * N, op, &in[2], 0);
  if (kind == GRADIENT_BF16) round_all_to_bf16(eval, dy, M * N);
  for (int64_t m = 0; m < M; m++)
    for (int64_t n = 0; n < N; n++)
      for (int64_t k = 0; k < K; k++) out->data[m * K + k] += dy[m * N + n] * trit_of(in[1].data[n * K + k], gamma);
  for (int64_t i = 0; i < M * K; i++) out->data[i] *= gamma;
}

// q = clip(stochastic_round(z / s)) with s = max|z| / 127 over the given axis; *out_scale keeps that axis as 1. A
// maximum over rows ends its kernel, so what follows it would be a kernel of its own: there the floor and the factor,
// which are monotone and so give the same number, are applied to the elements.
static MuseValue *build_gradient_int8(MuseBuilder *b, MuseValue *z, int64_t axis, MuseValue *rng, int64_t stream,
                                      MuseValue **out_scale) {
  const bool over_rows = axis != z->type.rank - 1;
  MuseValue *top = muse_build_unary(b, MUSE_OP_abs, z);
  if (!over_rows) top = muse_build_reduce(b, MUSE_OP_reduce_max, top, &axis, 1);
  top = muse_build_binary(b, MUSE_OP_max, top, muse_build_const(b, SCALE_FLOOR));
  top = muse_build_scale(b, top, 1.0 / 127);
  *out_scale = over_rows ? muse_build_reduce(b, MUSE_OP_reduce_max, top, &axis, 1) : top;
  MuseValue *ratio = muse_build_binary(b, MUSE_OP_div, z, *out_scale);
  MuseValue *rounded = muse_build_stochastic_round(b, ratio, rng, stream);
  return muse_build_cast(b, muse_build_clip(b, rounded, -127, 127), MUSE_I8);
}

void muse_decompose_bit_linear_dx(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  // The transposed matrix is packed on its own, so that the product is the forward's: rows of trits along the summed
  // dimension.
  MuseOp *ternary = build_ternarize(b, op->operands[1], true);
  MuseValue *t = ternary->results[0], *gamma = ternary->results[1];
  MuseValue *dy = muse_build_cast(b, op->operands[0], MUSE_F32);
  if (gradient_kind(op) != GRADIENT_INT8) {
    if (gradient_kind(op) == GRADIENT_BF16) dy = muse_build_cast(b, op->operands[0], MUSE_BF16);
    out[0] = build_mul(b, muse_build_matmul(b, dy, t, false, true), gamma);
    return;
  }
  MuseValue *scale;
  MuseValue *q = build_gradient_int8(b, dy, 1, op->operands[2], 2 * muse_op_int(op, "rng_id"), &scale);
  MuseValue *sum = muse_build_cast(b, muse_build_binary(b, MUSE_OP_ternary_matmul, q, t), MUSE_F32);
  out[0] = build_mul(b, sum, build_mul(b, scale, gamma));
}

// ---- bit_linear_dw: dw [N,K] = dy^T (q a / 127) ----

MuseStatus muse_infer_bit_linear_dw(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(expect_float_matrices(op, "dy", "x", 0, diag));
  MuseType dy = muse_operand_type(op, 0), x = muse_operand_type(op, 1);
  *out = muse_type2(MUSE_F32, dy.dim[1], x.dim[1]);
  return check_gradient(op, true, diag);
}

void muse_eval_bit_linear_dw(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t M = in[0].type.dim[0], N = in[0].type.dim[1], K = in[1].type.dim[1];
  double *z = copy_of(eval, in[0].data, M * N), *q = MUSE_NEW_ARRAY(eval->arena, double, M * K);
  GradientKind kind = gradient_kind(op);
  for (int64_t m = 0; m < M; m++) {
    double a = quantize_row(in[1].data + m * K, K, q + m * K);
    for (int64_t n = 0; n < N; n++) z[m * N + n] *= a / 127;
  }
  if (kind == GRADIENT_INT8)
    for (int64_t n = 0; n < N; n++) round_line(z + n, M, N, n, op, &in[2], 1);
  if (kind == GRADIENT_BF16) round_all_to_bf16(eval, z, M * N);
  for (int64_t m = 0; m < M; m++)
    for (int64_t n = 0; n < N; n++)
      for (int64_t k = 0; k < K; k++) out->data[n * K + k] += z[m * N + n] * q[m * K + k];
}

void muse_decompose_bit_linear_dw(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  // The same quantize_rows as the forward's: common subexpressions make it one, and q is what the forward kept.
  MuseOp *quantized = muse_build_op(b, MUSE_OP_quantize_rows, 1, &op->operands[1], NULL);
  MuseValue *q = quantized->results[0], *dy = muse_build_cast(b, op->operands[0], MUSE_F32);
  MuseValue *z = build_mul(b, dy, muse_build_scale(b, quantized->results[1], 1.0 / 127));
  if (gradient_kind(op) != GRADIENT_INT8) {
    MuseDtype dtype = gradient_kind(op) == GRADIENT_BF16 ? MUSE_BF16 : MUSE_F32; // q <= 128 is exact in bf16
    out[0] = muse_build_matmul(b, muse_build_cast(b, z, dtype), muse_build_cast(b, q, dtype), true, false);
    return;
  }
  MuseValue *scale; // [1,N]: one for each output channel, which is a row of dw
  MuseValue *zq = build_gradient_int8(b, z, 0, op->operands[2], 2 * muse_op_int(op, "rng_id") + 1, &scale);
  MuseValue *sum = muse_build_cast(b, muse_build_binary(b, MUSE_OP_int8_matmul, zq, q), MUSE_F32);
  out[0] = build_mul(b, sum, muse_build_reshape(b, scale, 2, (int64_t[]){z->type.dim[1], 1}));
}

// ---- fake_quantize: symmetric int8 for each slice core[i,:,:], straight through ----

MuseStatus muse_infer_fake_quantize(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  *out = muse_operand_type(op, 0);
  if (out->dtype != MUSE_F32 || out->rank != 3)
    return muse_op_refuse(op, diag, "the operand is %s but must be f32 with three dimensions", muse_type_text(*out));
  return MUSE_OK;
}

void muse_eval_fake_quantize(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t n = in->type.dim[1] * in->type.dim[2];
  for (int64_t i = 0; i < in->type.dim[0]; i++) {
    const double *x = in->data + i * n;
    double top = SCALE_FLOOR;
    for (int64_t k = 0; k < n; k++) top = fmax(top, fabs(x[k]));
    for (int64_t k = 0; k < n; k++)
      out->data[i * n + k] = clip(muse_round_half_even(x[k] / (top / 127)), -127, 127) * (top / 127);
  }
}

void muse_decompose_fake_quantize(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseType type = op->results[0]->type;
  MuseValue *x = muse_build_reshape(b, op->operands[0], 2, (int64_t[]){type.dim[0], type.dim[1] * type.dim[2]});
  MuseValue *top = muse_build_reduce_last(b, MUSE_OP_reduce_max, muse_build_unary(b, MUSE_OP_abs, x));
  top = muse_build_binary(b, MUSE_OP_max, top, muse_build_const(b, SCALE_FLOOR));
  MuseValue *scale = muse_build_scale(b, top, 1.0 / 127);
  // The ratio in f64: in f32 one that is next to a half would round to the other side, which a whole model can hear.
  MuseValue *exact = muse_build_scale(b, muse_build_cast(b, top, MUSE_F64), 1.0 / 127);
  MuseValue *q = muse_build_unary(b, MUSE_OP_round,
                                  muse_build_binary(b, MUSE_OP_div, muse_build_cast(b, x, MUSE_F64), exact));
  q = muse_build_cast(b, q, MUSE_F32);
  out[0] = muse_build_reshape(b, build_mul(b, muse_build_clip(b, q, -127, 127), scale), 3, type.dim);
}

void muse_grad_fake_quantize(MuseGrad *g) { muse_grad_give(g, 0, g->d_results[0]); }
