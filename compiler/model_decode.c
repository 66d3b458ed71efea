// The function @decode: one token through all layers with the state they keep, constant in the length of the text
// (section 7 of docs/model.md). Inputs besides the token:
//   position i64[]   of the token since the start of the text; only differences enter the scores
//   keep f32[]       0 when the token starts a document (the BK state is forgotten), else 1
//   window_mask f32[W]  added to the scores of the ring's slots: 0, or -1e30 for slots that hold nothing of the
//   document
// State of layer N: state.N.s_re, s_im [H,d,d] (rows: value, columns: key), e_re, e_im [1,1,H] (1 + g); ring.N.k
// [H,W,d], ring.N.v [H,d,W] (transposed, so that both sums run over the last dimension), ring.N.beta [H,W].
#include "compiler/blocks.h"

#include <stdlib.h>

typedef struct Decoder {
  MuseLowering lw;
  MuseResultList *results;
  MuseValue *position, *keep, *mask;
  int64_t H, d, W;
} Decoder;

static MuseValue *binary(Decoder *x, MuseOpKind kind, MuseValue *a, MuseValue *b) {
  return muse_build_binary(&x->lw.b, kind, a, b);
}
static MuseValue *mul(Decoder *x, MuseValue *a, MuseValue *b) { return binary(x, MUSE_OP_mul, a, b); }
static MuseValue *wide(Decoder *x, MuseValue *v) { return muse_lower_f32(&x->lw, v); }
static MuseValue *reshape(Decoder *x, MuseValue *v, int rank, const int64_t *shape) {
  return muse_build_reshape(&x->lw.b, v, rank, shape);
}

static MuseValue *state(Decoder *x, int layer, const char *name, MuseType type, char full[64]) {
  snprintf(full, 64, "state.%d.%s", layer, name);
  return muse_lower_input(&x->lw, full, type, "state");
}

// g = 1/(m - g'), m = -(2+kappa) - i eta, g' = keep * previous g, as e = 1 + g = u/(1+u), u = kappa + i eta + e' (see
// ops/green_scan.c); e' is exactly the previous e, or exactly 1, whatever it was.
static void green_step(Decoder *x, const MuseMixerInputs *in, int layer, MuseValue **e_re, MuseValue **e_im) {
  MuseValue *one = muse_build_const(&x->lw.b, 1);
  char re_name[64], im_name[64];
  MuseType type = muse_type3(MUSE_F32, 1, 1, x->H);
  MuseValue *p_re = mul(x, state(x, layer, "e_re", type, re_name), x->keep);
  MuseValue *p_im = mul(x, state(x, layer, "e_im", type, im_name), x->keep);
  p_re = binary(x, MUSE_OP_add, p_re, binary(x, MUSE_OP_sub, one, x->keep));
  MuseValue *re = binary(x, MUSE_OP_add, in->kappa, p_re);
  MuseValue *im = binary(x, MUSE_OP_add, p_im, reshape(x, in->eta, 3, (int64_t[]){1, 1, x->H}));
  MuseValue *below = binary(x, MUSE_OP_add, re, one), *im2 = mul(x, im, im);
  MuseValue *norm2 = binary(x, MUSE_OP_add, mul(x, below, below), im2);
  *e_re = binary(x, MUSE_OP_div, binary(x, MUSE_OP_add, mul(x, re, below), im2), norm2);
  *e_im = binary(x, MUSE_OP_div, im, norm2);
  muse_lower_result(&x->lw, x->results, *e_re, re_name);
  muse_lower_result(&x->lw, x->results, *e_im, im_name);
}

// S = g (k v^T - S') = e (k v^T - S') - (k v^T - S'), o = Re(q^T S), with S stored as [value, key]
static MuseValue *resolvent_step(Decoder *x, const MuseMixerInputs *in, int layer, MuseValue **out_g_im) {
  MuseBuilder *b = &x->lw.b;
  char re_name[64], im_name[64];
  MuseType type = muse_type3(MUSE_F32, x->H, x->d, x->d);
  MuseValue *e_re, *g_im;
  muse_lower_at(&x->lw, "use_birman_schwinger", layer);
  green_step(x, in, layer, &e_re, &g_im);
  *out_g_im = g_im;
  MuseValue *er = reshape(x, e_re, 3, (int64_t[]){x->H, 1, 1}), *gi = reshape(x, g_im, 3, (int64_t[]){x->H, 1, 1});
  MuseValue *q = reshape(x, wide(x, in->q_hat), 3, (int64_t[]){x->H, 1, x->d}),
            *k = reshape(x, wide(x, in->k_hat), 3, (int64_t[]){x->H, 1, x->d});
  MuseValue *v = reshape(x, wide(x, in->v), 3, (int64_t[]){x->H, x->d, 1});
  MuseValue *s_re = mul(x, state(x, layer, "s_re", type, re_name), x->keep);
  MuseValue *s_im = mul(x, state(x, layer, "s_im", type, im_name), x->keep);
  MuseValue *a = binary(x, MUSE_OP_sub, mul(x, v, k), s_re); // kv - S = a - i s_im
  MuseValue *re = binary(x, MUSE_OP_sub, binary(x, MUSE_OP_add, mul(x, a, er), mul(x, s_im, gi)), a);
  MuseValue *im = binary(x, MUSE_OP_add, binary(x, MUSE_OP_sub, mul(x, a, gi), mul(x, s_im, er)), s_im);
  muse_lower_result(&x->lw, x->results, re, re_name);
  muse_lower_result(&x->lw, x->results, im, im_name);
  MuseValue *o = muse_build_reduce_last(b, MUSE_OP_reduce_sum, mul(x, re, q));
  return reshape(x, o, 4, (int64_t[]){1, 1, x->H, x->d});
}

static MuseValue *ring(Decoder *x, int layer, const char *name, MuseType type, MuseValue *v, int axis) {
  char full[64];
  MuseValue *old = state(x, layer, name, type, full);
  MuseAttrList attrs = {0};
  muse_attr_set_int(x->lw.module, &attrs, "axis", axis);
  MuseValue *now = muse_build_op(&x->lw.b, MUSE_OP_ring_write, 3, (MuseValue *[]){old, v, x->position}, &attrs)
                       ->results[0];
  muse_lower_result(&x->lw, x->results, now, full);
  return now;
}

// -scale acosh(1 + z), z = max(2 sinh^2((a-b)/2) + sinh a sinh b (1 - cos), 1e-5): the distance, written so that
// nothing cancels.
static MuseValue *hyperbolic_score(Decoder *x, const MuseMixerInputs *in, MuseValue *cosine, MuseValue *beta) {
  MuseBuilder *b = &x->lw.b;
  MuseValue *one = muse_build_const(b, 1), *half = muse_build_const(b, 0.5);
  MuseValue *alpha = reshape(x, in->alpha, 2, (int64_t[]){x->H, 1});
  cosine = binary(x, MUSE_OP_max, binary(x, MUSE_OP_min, cosine, one), muse_build_const(b, -1));
  MuseValue *e[3] = {alpha, beta, mul(x, binary(x, MUSE_OP_sub, alpha, beta), half)}, *sinh[3];
  for (int i = 0; i < 3; i++) {
    MuseValue *grow = muse_build_unary(b, MUSE_OP_exp, e[i]);
    sinh[i] = mul(x, binary(x, MUSE_OP_sub, grow, muse_build_unary(b, MUSE_OP_recip, grow)), half);
  }
  MuseValue *z = mul(x, mul(x, sinh[2], sinh[2]), muse_build_const(b, 2));
  z = binary(x, MUSE_OP_add, z, mul(x, mul(x, sinh[1], sinh[0]), binary(x, MUSE_OP_sub, one, cosine)));
  z = binary(x, MUSE_OP_max, z, muse_build_const(b, 1e-5));
  MuseValue *root = muse_build_unary(b, MUSE_OP_sqrt, mul(x, z, binary(x, MUSE_OP_add, z, muse_build_const(b, 2))));
  MuseValue *dist = muse_build_unary(b, MUSE_OP_log, binary(x, MUSE_OP_add, binary(x, MUSE_OP_add, z, root), one));
  return muse_build_unary(b, MUSE_OP_neg, mul(x, dist, reshape(x, in->scale, 2, (int64_t[]){x->H, 1})));
}

static MuseValue *window_step(Decoder *x, const MuseMixerInputs *in, int layer) {
  MuseBuilder *b = &x->lw.b;
  int64_t H = x->H, d = x->d, W = x->W;
  muse_lower_at(&x->lw, "local_window", layer);
  MuseValue *k = reshape(x, wide(x, in->k_score), 3, (int64_t[]){H, 1, d});
  MuseValue *v = reshape(x, wide(x, in->v), 3, (int64_t[]){H, d, 1});
  k = ring(x, layer, "k", muse_type3(MUSE_F32, H, W, d), k, 1);
  v = ring(x, layer, "v", muse_type3(MUSE_F32, H, d, W), v, 2);
  MuseValue *q = reshape(x, wide(x, in->q_score), 3, (int64_t[]){H, 1, d});
  MuseValue *score = reshape(x, muse_build_reduce_last(b, MUSE_OP_reduce_sum, mul(x, k, q)), 2, (int64_t[]){H, W});
  if (in->alpha) {
    MuseValue *beta = ring(x, layer, "beta", muse_type2(MUSE_F32, H, W), reshape(x, in->beta, 2, (int64_t[]){H, 1}), 1);
    score = hyperbolic_score(x, in, score, beta);
  }
  score = binary(x, MUSE_OP_add, score, x->mask);
  MuseValue *p = reshape(x, muse_build_unary(b, MUSE_OP_softmax, score), 3, (int64_t[]){H, 1, W});
  MuseValue *o = muse_build_reduce_last(b, MUSE_OP_reduce_sum, mul(x, v, p));
  return reshape(x, o, 4, (int64_t[]){1, 1, H, d});
}

static void prepare(Decoder *x) {
  MuseLowering *lw = &x->lw;
  const MuseConfig *c = lw->cfg;
  muse_lower_at(lw, "n_seq", -1);
  lw->tokens = muse_lower_input(lw, "token", muse_type2(MUSE_I32, 1, 1), "input");
  x->keep = muse_lower_input(lw, "keep", muse_scalar_type(MUSE_F32), "input");
  if (!muse_has_window(c)) return;
  x->position = muse_lower_input(lw, "position", muse_scalar_type(MUSE_I64), "input");
  x->mask = muse_lower_input(lw, "window_mask", muse_type1(MUSE_F32, x->W), "input");
  MuseAttrList attrs = {0};
  muse_attr_set_int(lw->module, &attrs, "rows", 1);
  muse_attr_set_int(lw->module, &attrs, "half", x->d / 2);
  lw->rope = muse_build_op(&lw->b, MUSE_OP_rope_table, 1, &x->position, &attrs)->results[0];
}

void muse_model_decode(const MuseConfig *c, MuseModule *module) {
  Decoder x = {
      .results = calloc(1, sizeof *x.results), .H = c->num_heads, .d = c->d_model / c->num_heads, .W = muse_window(c)};
  MUSE_ASSERT(x.results != NULL);
  muse_lower_begin(&x.lw, c, module, "decode", 1, 1);
  prepare(&x);
  MuseValue *h = muse_block_embed(&x.lw);
  for (int i = 0; i < c->n_layers; i++) {
    MuseMixerInputs in;
    MuseValue *g_im = NULL;
    muse_block_mixer_inputs(&x.lw, h, i, &in);
    MuseValue *global = muse_has_bk(c) ? resolvent_step(&x, &in, i, &g_im) : NULL;
    MuseValue *local = muse_has_window(c) ? window_step(&x, &in, i) : NULL;
    h = muse_block_mixer_out(&x.lw, h, muse_block_gate(&x.lw, i, global, local, g_im), i);
    h = muse_block_ffn(&x.lw, h, i);
  }
  muse_lower_result(&x.lw, x.results, muse_block_logits(&x.lw, h), "next_logits");
  muse_lower_return(&x.lw, x.results);
  free(x.results);
}
