// window_attention: softmax attention of token t over the tokens s of its document with t - window < s <= t. A window
// of at least T tokens is full causal attention.
//
//   score "dot":         x_ts = q_t . k_s
//   score "hyperbolic":  x_ts = -scale acosh(u_ts),  u_ts = max(cosh a_t cosh b_s - sinh a_t sinh b_s cos_ts, 1 +
//   1e-5),
//                        cos_ts = clip(q_t . k_s, -1, 1): the distance of two points of the Lorentz model whose radii
//                        are a and b and whose directions are the unit vectors q and k (law of cosines)
//   o_t = sum_s softmax_s(x_t) v_s
// A clamped max or clip passes no gradient. q, k, v, o and their gradients are stored in one type, f32, bf16 or f16; a,
// b, scale and theirs are f32.
#include "ops/hooks.h"

#include <math.h>
#include <string.h>

static const double min_cosh_excess = 1e-5;

// The operands that forward and backward share; *out_n is their number (4 or 7).
static MuseStatus check_operands(const MuseOp *op, const char *name, int extra, int *out_n, MuseDiag *diag) {
  const char *score = muse_op_text(op, "score");
  if (strcmp(score, "dot") != 0 && strcmp(score, "hyperbolic") != 0)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: score must be \"dot\" or \"hyperbolic\"", name);
  const int n = strcmp(score, "dot") == 0 ? 4 : 7;
  if (op->n_operands != n + extra)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: score \"%s\" takes %d operands, not %d", name, score,
                         n + extra, op->n_operands);
  if (muse_op_int(op, "window") < 1)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: window must be at least 1", name);
  MuseType q = op->operands[0]->type;
  if (!muse_dtype_is_storage_float(q.dtype) || q.rank != 4)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s: the first operand (q) must be [B,T,H,d] of f32, bf16 or f16", name);
  for (int i = 1; i < 3; i++)
    if (!muse_type_eq(op->operands[i]->type, q))
      return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: operand %d (%s) must have the type of q", name, i + 1,
                           i == 1 ? "k" : "v");
  if (!muse_type_eq(op->operands[3]->type, muse_type2(MUSE_I32, q.dim[0], q.dim[1])))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: operand 4 (doc) must be i32[B,T] with the B and T of q",
                         name);
  if (n == 7) {
    for (int i = 4; i < 6; i++)
      if (!muse_type_eq(op->operands[i]->type, muse_type3(MUSE_F32, q.dim[0], q.dim[1], q.dim[2])))
        return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                             "%s: operand %d (%s) must be f32[B,T,H] with the sizes of q", name, i + 1,
                             i == 4 ? "alpha" : "beta");
    if (!muse_type_eq(op->operands[6]->type, muse_type1(MUSE_F32, q.dim[2])))
      return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: operand 7 (scale) must be f32[H] with the H of q", name);
  }
  *out_n = n;
  return MUSE_OK;
}

MuseStatus muse_infer_window_attention(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  int n;
  MUSE_TRY(check_operands(op, "window_attention", 0, &n, diag));
  out[0] = op->operands[0]->type;
  return MUSE_OK;
}

MuseStatus muse_infer_window_attention_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  int n;
  MUSE_TRY(check_operands(op, "window_attention_grad", 1, &n, diag));
  if (!muse_type_eq(op->operands[n]->type, op->operands[0]->type))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "window_attention_grad: operand %d (do) must have the type of q", n + 1);
  // The number of results is open in the op list: six with the operands of the hyperbolic score, else three.
  if (op->n_results != (n == 7 ? 6 : 3))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "window_attention_grad: score \"%s\" gives %d results, not %d",
                      muse_op_text(op, "score"), n == 7 ? 6 : 3, op->n_results);
  for (int i = 0; i < 3; i++) out[i] = op->operands[0]->type;
  for (int i = 3; i < op->n_results; i++) out[i] = op->operands[i + 1]->type;
  return MUSE_OK;
}

// The score of one pair and what its derivatives need.
typedef struct Pair {
  double x;              // the score
  double dot, cosine, u; // q.k, clipped, and the clamped cosh
} Pair;

typedef struct Head { // one head of one row; tokens are `stride` vectors apart
  int64_t T, H, d, window, at;
  bool hyperbolic;
  const double *q, *k, *v, *doc, *alpha, *beta;
  double scale;
} Head;

static Head head_of(const MuseOp *op, const MuseTensor *in, int64_t b, int64_t h) {
  MuseType q = in[0].type;
  Head s = {.T = q.dim[1],
            .H = q.dim[2],
            .d = q.dim[3],
            .window = muse_op_int(op, "window"),
            .q = in[0].data,
            .k = in[1].data,
            .v = in[2].data,
            .doc = in[3].data + b * q.dim[1]};
  s.at = b * s.T * s.H + h;
  s.hyperbolic = strcmp(muse_op_text(op, "score"), "hyperbolic") == 0;
  if (s.hyperbolic) {
    s.alpha = in[4].data;
    s.beta = in[5].data;
    s.scale = in[6].data[h];
  }
  return s;
}

static int64_t first_key(const Head *h, int64_t t) {
  const int64_t doc = (int64_t)h->doc[t], start = t - h->window + 1;
  return start > doc ? start : doc;
}

static Pair pair_score(const Head *h, int64_t t, int64_t s) {
  const double *q = h->q + (h->at + t * h->H) * h->d, *k = h->k + (h->at + s * h->H) * h->d;
  Pair p = {0};
  for (int64_t i = 0; i < h->d; i++) p.dot += q[i] * k[i];
  p.x = p.dot;
  if (h->hyperbolic) {
    const double a = h->alpha[h->at + t * h->H], b = h->beta[h->at + s * h->H];
    p.cosine = fmin(fmax(p.dot, -1), 1);
    p.u = fmax(cosh(a) * cosh(b) - sinh(a) * sinh(b) * p.cosine, 1 + min_cosh_excess);
    p.x = -h->scale * acosh(p.u);
  }
  return p;
}

// The softmax weights of query t over the keys first..t into w[0..].
static void weights_of(const Head *h, int64_t t, int64_t first, double *w) {
  double top = -INFINITY, sum = 0;
  for (int64_t s = first; s <= t; s++) {
    w[s - first] = pair_score(h, t, s).x;
    top = fmax(top, w[s - first]);
  }
  for (int64_t s = first; s <= t; s++) sum += w[s - first] = exp(w[s - first] - top);
  for (int64_t s = first; s <= t; s++) w[s - first] /= sum;
}

void muse_eval_window_attention(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseType q = in[0].type;
  double *w = MUSE_NEW_ARRAY(eval->arena, double, q.dim[1]);
  memset(out[0].data, 0, (size_t)muse_type_elements(q) * sizeof(double));
  for (int64_t b = 0; b < q.dim[0]; b++)
    for (int64_t n = 0; n < q.dim[2]; n++) {
      Head h = head_of(op, in, b, n);
      for (int64_t t = 0; t < h.T; t++) {
        double *o = out[0].data + (h.at + t * h.H) * h.d;
        const int64_t first = first_key(&h, t);
        weights_of(&h, t, first, w);
        for (int64_t s = first; s <= t; s++)
          for (int64_t j = 0; j < h.d; j++) o[j] += w[s - first] * h.v[(h.at + s * h.H) * h.d + j];
      }
    }
}

void muse_grad_window_attention(MuseGrad *g) {
  MuseOp *op = g->op;
  const int n = op->n_operands;
  MuseValue *operands[8];
  for (int i = 0; i < n; i++) operands[i] = op->operands[i];
  operands[n] = g->d_results[0];
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_window_attention_grad, n + 1, operands, &op->attrs);
  for (int i = 0; i < n; i++) g->d_operands[i] = i < 3 ? grad->results[i] : i > 3 ? grad->results[i - 1] : NULL;
}

// The cotangent dx of the score of pair (t, s), carried on to what the score is made of.
static void pair_backward(const Head *h, int64_t t, int64_t s, Pair p, double dx, int64_t head, MuseTensor *out) {
  const int64_t it = h->at + t * h->H, is = h->at + s * h->H;
  double ddot = dx;
  if (h->hyperbolic) {
    const double a = h->alpha[it], b = h->beta[is];
    out[5].data[head] -= dx * acosh(p.u);
    const double du = p.u > 1 + min_cosh_excess ? -h->scale * dx / sqrt(p.u * p.u - 1) : 0;
    out[3].data[it] += du * (sinh(a) * cosh(b) - cosh(a) * sinh(b) * p.cosine);
    out[4].data[is] += du * (cosh(a) * sinh(b) - sinh(a) * cosh(b) * p.cosine);
    ddot = p.dot == p.cosine ? -du * sinh(a) * sinh(b) : 0;
  }
  for (int64_t i = 0; i < h->d; i++) {
    out[0].data[it * h->d + i] += ddot * h->k[is * h->d + i];
    out[1].data[is * h->d + i] += ddot * h->q[it * h->d + i];
  }
}

void muse_eval_window_attention_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseType q = in[0].type;
  const double *cotangent = in[op->n_operands - 1].data;
  double *w = MUSE_NEW_ARRAY(eval->arena, double, q.dim[1]), *dw = MUSE_NEW_ARRAY(eval->arena, double, q.dim[1]);
  for (int i = 0; i < op->n_results; i++)
    memset(out[i].data, 0, (size_t)muse_type_elements(out[i].type) * sizeof(double));
  for (int64_t b = 0; b < q.dim[0]; b++)
    for (int64_t n = 0; n < q.dim[2]; n++) {
      Head h = head_of(op, in, b, n);
      for (int64_t t = 0; t < h.T; t++) {
        const double *dout = cotangent + (h.at + t * h.H) * h.d;
        const int64_t first = first_key(&h, t);
        double mean = 0; // sum_s w_s dw_s
        weights_of(&h, t, first, w);
        for (int64_t s = first; s <= t; s++) {
          const int64_t is = h.at + s * h.H;
          double sum = 0;
          for (int64_t j = 0; j < h.d; j++) {
            sum += dout[j] * h.v[is * h.d + j];
            out[2].data[is * h.d + j] += w[s - first] * dout[j];
          }
          dw[s - first] = sum;
          mean += w[s - first] * sum;
        }
        for (int64_t s = first; s <= t; s++)
          pair_backward(&h, t, s, pair_score(&h, t, s), w[s - first] * (dw[s - first] - mean), n, out);
      }
    }
}
