// Optimizer steps: AdamW, the pieces of the global-norm clip, and the compact Adafactor with int8 latents. Formulas:
// docs/model.md section 6. Composites: they become a few map kernels.

#include "ops/hooks.h"

#include "ir/base/philox.h"

#include <math.h>

static MuseStatus expect_type(const MuseOp *op, int index, const char *name, MuseType want, MuseDiag *diag) {
  MuseType t = muse_operand_type(op, index);
  if (muse_type_eq(t, want)) return MUSE_OK;
  return muse_op_refuse(op, diag, "operand %d (%s) is %s but must be %s", index + 1, name, muse_type_text(t),
                        muse_type_text(want));
}

static MuseValue *build(MuseBuilder *b, MuseOpKind kind, MuseValue *x, MuseValue *y) {
  return muse_build_binary(b, kind, x, y);
}
#define MUL(x, y) build(b, MUSE_OP_mul, x, y)
#define ADD(x, y) build(b, MUSE_OP_add, x, y)
#define SUB(x, y) build(b, MUSE_OP_sub, x, y)
#define DIV(x, y) build(b, MUSE_OP_div, x, y)

// ---- adamw (Loshchilov and Hutter, arXiv:1711.05101) ----
//   g' = g clip      m' = b1 m + (1-b1) g'      v' = b2 v + (1-b2) g'^2
//   w' = w (1 - lr weight_decay) - lr (m'/bias1) / (sqrt(v'/bias2) + eps)

MuseStatus muse_infer_adamw(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  static const char *const names[8] = {"w", "g", "m", "v", "lr", "clip", "bias1", "bias2"};
  MuseType w = muse_operand_type(op, 0);
  if (w.dtype != MUSE_F32) return muse_op_refuse(op, diag, "operand 1 (w) is %s but must be f32", muse_type_text(w));
  for (int i = 1; i < 8; i++) MUSE_TRY(expect_type(op, i, names[i], i < 4 ? w : muse_scalar_type(MUSE_F32), diag));
  out[0] = out[1] = out[2] = w;
  return MUSE_OK;
}

void muse_eval_adamw(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  double beta1 = muse_op_real(op, "beta1"), beta2 = muse_op_real(op, "beta2"), eps = muse_op_real(op, "eps");
  double lr = in[4].data[0], clip = in[5].data[0], bias1 = in[6].data[0], bias2 = in[7].data[0];
  double keep = 1 - lr * muse_op_real(op, "weight_decay");
  int64_t n = muse_type_elements(in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double g = in[1].data[i] * clip;
    double m = beta1 * in[2].data[i] + (1 - beta1) * g;
    double v = beta2 * in[3].data[i] + (1 - beta2) * g * g;
    out[0].data[i] = in[0].data[i] * keep - lr * (m / bias1) / (sqrt(v / bias2) + eps);
    out[1].data[i] = m;
    out[2].data[i] = v;
  }
}

void muse_decompose_adamw(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  double beta1 = muse_op_real(op, "beta1"), beta2 = muse_op_real(op, "beta2"), decay = muse_op_real(op, "weight_decay");
  MuseValue *w = op->operands[0], *lr = op->operands[4], *bias1 = op->operands[6], *bias2 = op->operands[7];
  MuseValue *g = MUL(op->operands[1], op->operands[5]);
  MuseValue *m = ADD(muse_build_scale(b, op->operands[2], beta1), muse_build_scale(b, g, 1 - beta1));
  MuseValue *v = ADD(muse_build_scale(b, op->operands[3], beta2), muse_build_scale(b, MUL(g, g), 1 - beta2));
  MuseValue *root = muse_build_offset(b, muse_build_unary(b, MUSE_OP_sqrt, DIV(v, bias2)), muse_op_real(op, "eps"));
  if (decay != 0) w = MUL(w, SUB(muse_build_const(b, 1), muse_build_scale(b, lr, decay)));
  out[0] = SUB(w, MUL(DIV(lr, bias1), DIV(m, root)));
  out[1] = m;
  out[2] = v;
}

// ---- clip_factor, sum_squares ----

MuseStatus muse_infer_clip_factor(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  *out = muse_scalar_type(MUSE_F32);
  if (!(muse_op_real(op, "max_norm") >= 0))
    return muse_op_refuse(op, diag, "max_norm must be 0 (no clipping) or positive");
  return expect_type(op, 0, "sum of squares", *out, diag);
}

void muse_eval_clip_factor(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  double max_norm = muse_op_real(op, "max_norm");
  out->data[0] = max_norm == 0 ? 1 : fmin(1, max_norm / (sqrt(in->data[0]) + 1e-6));
}

void muse_decompose_clip_factor(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  double max_norm = muse_op_real(op, "max_norm");
  out[0] = muse_build_const(b, 1);
  if (max_norm == 0) return;
  MuseValue *norm = muse_build_offset(b, muse_build_unary(b, MUSE_OP_sqrt, op->operands[0]), 1e-6);
  out[0] = build(b, MUSE_OP_min, out[0], DIV(muse_build_const(b, max_norm), norm));
}

MuseStatus muse_infer_sum_squares(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType x = muse_operand_type(op, 0);
  *out = muse_scalar_type(MUSE_F32);
  if (!muse_dtype_is_storage_float(x.dtype))
    return muse_op_refuse(op, diag, "the operand is %s but must be f32, bf16 or f16", muse_type_text(x));
  return MUSE_OK;
}

void muse_eval_sum_squares(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t n = muse_type_elements(in->type);
  for (int64_t i = 0; i < n; i++) out->data[0] += in->data[i] * in->data[i];
}

void muse_decompose_sum_squares(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseValue *x = muse_build_cast(b, op->operands[0], MUSE_F32);
  out[0] = muse_build_sum_by_rows(b, MUL(x, x));
}

// ---- adafactor8 (Shazeer and Stern, arXiv:1804.04235, with momentum and latents in int8) ----
//   r' = decay r + (1-decay) mean_k(g^2 + e)      c' = decay c + (1-decay) mean_n(g^2 + e)      e = 1e-30
//   u = g / sqrt(r'_n c'_k / mean r')             u /= max(1, rms(u))
//   m = momentum (m8 mscale) + (1-momentum) u     mscale' = max_k|m| / 127      m8' = clip(SR(m / mscale'), -127, 127)
//   w8' = clip(SR(w8 (1 - lr weight_decay) - lr m / delta), -127, 127)
// The step uses m before it is rounded. Streams: 2 rng_id for m8, 2 rng_id + 1 for w8. e keeps 0/0 out for rows without
// gradient.

#define MEAN_FLOOR 1e-30
#define MOMENT_FLOOR 1e-30 // least max|m|, so that a row of zeros has a scale

MuseStatus muse_infer_adafactor8(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType w = muse_operand_type(op, 0), scalar = muse_scalar_type(MUSE_F32);
  if (w.dtype != MUSE_I8 || w.rank != 2)
    return muse_op_refuse(op, diag, "operand 1 (w8) is %s but must be i8[N,K]", muse_type_text(w));
  int64_t N = w.dim[0], K = w.dim[1];
  MuseType r = muse_type1(MUSE_F32, N), c = muse_type1(MUSE_F32, K), scale = muse_type2(MUSE_F32, N, 1);
  MUSE_TRY(expect_type(op, 1, "delta", scalar, diag));
  MUSE_TRY(expect_type(op, 2, "g", muse_type2(MUSE_F32, N, K), diag));
  MUSE_TRY(expect_type(op, 3, "r", r, diag));
  MUSE_TRY(expect_type(op, 4, "c", c, diag));
  MUSE_TRY(expect_type(op, 5, "m8", w, diag));
  MUSE_TRY(expect_type(op, 6, "mscale", scale, diag));
  MUSE_TRY(expect_type(op, 7, "lr", scalar, diag));
  MUSE_TRY(expect_type(op, 8, "decay", scalar, diag));
  MUSE_TRY(expect_type(op, 9, "rng", muse_type1(MUSE_U32, 2), diag));
  if (muse_op_int(op, "rng_id") < 0) return muse_op_refuse(op, diag, "rng_id must not be negative");
  out[0] = out[3] = w;
  out[1] = r;
  out[2] = c;
  out[4] = scale;
  return MUSE_OK;
}

static double stochastic_int8(double x, int64_t index, uint64_t id, const MuseTensor *rng) {
  double y = floor(x + muse_random_uniform((uint64_t)index, id, (uint32_t)rng->data[0], (uint32_t)rng->data[1]));
  return y < -127 ? -127 : y > 127 ? 127 : y;
}

// Writes r', c' and the clipped update u.
static void factored_update(const MuseTensor *in, double *r, double *c, double *u) {
  int64_t N = in[0].type.dim[0], K = in[0].type.dim[1];
  double decay = in[8].data[0], mean_r = 0, sum = 0;
  const double *g = in[2].data;
  for (int64_t n = 0; n < N; n++)
    for (int64_t k = 0; k < K; k++) {
      double square = g[n * K + k] * g[n * K + k] + MEAN_FLOOR;
      r[n] += square / (double)K;
      c[k] += square / (double)N;
    }
  for (int64_t n = 0; n < N; n++) mean_r += (r[n] = decay * in[3].data[n] + (1 - decay) * r[n]) / (double)N;
  for (int64_t k = 0; k < K; k++) c[k] = decay * in[4].data[k] + (1 - decay) * c[k];
  for (int64_t n = 0; n < N; n++)
    for (int64_t k = 0; k < K; k++) {
      u[n * K + k] = g[n * K + k] / sqrt(r[n] / mean_r) / sqrt(c[k]);
      sum += u[n * K + k] * u[n * K + k];
    }
  double rms = sqrt(sum / (double)(N * K));
  for (int64_t i = 0; rms > 1 && i < N * K; i++) u[i] /= rms;
}

void muse_eval_adafactor8(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  int64_t N = in[0].type.dim[0], K = in[0].type.dim[1];
  double delta = in[1].data[0], lr = in[7].data[0], beta = muse_op_real(op, "momentum");
  double keep = 1 - lr * muse_op_real(op, "weight_decay"), *m = MUSE_NEW_ARRAY(eval->arena, double, N * K);
  uint64_t id = 2 * (uint64_t)muse_op_int(op, "rng_id");
  factored_update(in, out[1].data, out[2].data, m);
  for (int64_t n = 0; n < N; n++) {
    double top = MOMENT_FLOOR;
    for (int64_t i = n * K; i < (n + 1) * K; i++) {
      m[i] = beta * in[5].data[i] * in[6].data[n] + (1 - beta) * m[i];
      top = fmax(top, fabs(m[i]));
    }
    out[4].data[n] = top / 127;
    for (int64_t i = n * K; i < (n + 1) * K; i++) {
      out[3].data[i] = stochastic_int8(m[i] / (top / 127), i, id, &in[9]);
      out[0].data[i] = stochastic_int8(in[0].data[i] * keep - lr / delta * m[i], i, id + 1, &in[9]);
    }
  }
}

// decay old + (1-decay) mean
static MuseValue *build_running_mean(MuseBuilder *b, MuseValue *decay, MuseValue *old, MuseValue *mean) {
  return ADD(MUL(decay, old), MUL(SUB(muse_build_const(b, 1), decay), mean));
}

void muse_decompose_adafactor8(MuseBuilder *b, MuseOp *op, MuseValue **out) {
  MuseValue *delta = op->operands[1], *g = op->operands[2], *lr = op->operands[7], *decay = op->operands[8],
            *rng = op->operands[9];
  int64_t N = g->type.dim[0], K = g->type.dim[1], id = 2 * muse_op_int(op, "rng_id");
  double beta = muse_op_real(op, "momentum"), weight_decay = muse_op_real(op, "weight_decay");

  MuseValue *square = muse_build_offset(b, MUL(g, g), MEAN_FLOOR);
  MuseValue *row_mean = muse_build_scale(b, muse_build_reduce_last(b, MUSE_OP_reduce_sum, square), 1.0 / (double)K);
  MuseValue *column_mean =
      muse_build_scale(b, muse_build_reduce(b, MUSE_OP_reduce_sum, square, (int64_t[]){0}, 1), 1.0 / (double)N);
  out[1] = build_running_mean(b, decay, op->operands[3], muse_build_reshape(b, row_mean, 1, &N));
  out[2] = build_running_mean(b, decay, op->operands[4], muse_build_reshape(b, column_mean, 1, &K));

  MuseValue *mean_r = muse_build_scale(b, muse_build_sum_by_rows(b, out[1]), 1.0 / (double)N);
  // Two square roots: the product r c underflows f32 where gradients are small, its factors do not.
  MuseValue *row_factor = muse_build_unary(b, MUSE_OP_rsqrt, DIV(out[1], mean_r));
  MuseValue *column_factor = muse_build_unary(b, MUSE_OP_rsqrt, out[2]);
  MuseValue *u = MUL(MUL(g, muse_build_reshape(b, row_factor, 2, (int64_t[]){N, 1})), column_factor);
  MuseValue *mean_u = muse_build_scale(b, muse_build_sum_by_rows(b, MUL(u, u)), 1.0 / (double)(N * K));
  MuseValue *rms = muse_build_unary(b, MUSE_OP_sqrt, mean_u);
  u = DIV(u, build(b, MUSE_OP_max, rms, muse_build_const(b, 1)));

  MuseValue *old = MUL(muse_build_cast(b, op->operands[5], MUSE_F32), op->operands[6]);
  MuseValue *m = ADD(muse_build_scale(b, old, beta), muse_build_scale(b, u, 1 - beta));
  MuseValue *top = muse_build_reduce_last(b, MUSE_OP_reduce_max, muse_build_unary(b, MUSE_OP_abs, m));
  out[4] = muse_build_scale(b, build(b, MUSE_OP_max, top, muse_build_const(b, MOMENT_FLOOR)), 1.0 / 127);
  MuseValue *m8 = muse_build_stochastic_round(b, DIV(m, out[4]), rng, id);
  out[3] = muse_build_cast(b, muse_build_clip(b, m8, -127, 127), MUSE_I8);

  MuseValue *w = muse_build_cast(b, op->operands[0], MUSE_F32);
  if (weight_decay != 0) w = MUL(w, SUB(muse_build_const(b, 1), muse_build_scale(b, lr, weight_decay)));
  MuseValue *w8 = muse_build_stochastic_round(b, SUB(w, MUL(DIV(lr, delta), m)), rng, id + 1);
  out[0] = muse_build_cast(b, muse_build_clip(b, w8, -127, 127), MUSE_I8);
}
