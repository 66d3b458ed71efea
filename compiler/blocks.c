// The blocks of the model as IR; formulas and section numbers are those of the model description (docs/model.md).
#include "compiler/blocks.h"

#include <stdarg.h>
#include <string.h>

void muse_lower_begin(MuseLowering *lw, const MuseConfig *cfg, MuseModule *module, const char *func, int64_t B,
                      int64_t T) {
  memset(lw, 0, sizeof *lw);
  lw->cfg = cfg;
  lw->module = module;
  lw->func = muse_func_create(module, func);
  lw->b = muse_builder_at_end(module, &lw->func->body);
  lw->b.stage = MUSE_STAGE_FORWARD;
  lw->b.layer = -1;
  lw->B = B, lw->T = T;
  lw->next_rng = 1;
}

void muse_lower_at(MuseLowering *lw, const char *key, int layer) {
  lw->b.loc = muse_config_loc(lw->cfg, key);
  lw->b.loc.key = key;
  lw->b.layer = layer;
}

void muse_lower_result(MuseLowering *lw, MuseResultList *list, MuseValue *value, const char *buffer) {
  if (list->n == list->cap) {
    int cap = list->cap ? 2 * list->cap : 64;
    MuseValue **values = MUSE_NEW_ARRAY(lw->module->arena, MuseValue *, cap);
    const char **buffers = MUSE_NEW_ARRAY(lw->module->arena, const char *, cap);
    if (list->n) {
      memcpy(values, list->value, (size_t)list->n * sizeof *values);
      memcpy(buffers, list->buffer, (size_t)list->n * sizeof *buffers);
    }
    list->value = values, list->buffer = buffers, list->cap = cap;
  }
  list->value[list->n] = value;
  list->buffer[list->n++] = muse_arena_strdup(lw->module->arena, buffer);
  if (!muse_module_buffer(lw->module, buffer)) muse_module_add_buffer(lw->module, buffer, value->type, "output");
}

void muse_lower_return(MuseLowering *lw, const MuseResultList *list) {
  MuseOp *ret = muse_op_create(lw->module, MUSE_OP_return, list->n, list->value, 0, NULL);
  ret->layer = -1;
  muse_op_append(ret, &lw->func->body);
  for (int i = 0; i < list->n; i++) muse_func_set_result_buffer(lw->func, i, list->buffer[i]);
}

MuseValue *muse_lower_arg(MuseLowering *lw, const char *format, ...) {
  char name[256];
  va_list args;
  va_start(args, format);
  vsnprintf(name, sizeof name, format, args);
  va_end(args);
  const MuseBuffer *buffer = muse_module_buffer(lw->module, name);
  MUSE_ASSERT(buffer != NULL);
  return muse_func_arg_for_buffer(lw->func, buffer);
}

MuseValue *muse_lower_input(MuseLowering *lw, const char *name, MuseType type, const char *role) {
  const MuseBuffer *buffer = muse_module_buffer(lw->module, name);
  if (!buffer) buffer = muse_module_add_buffer(lw->module, name, type, role);
  MUSE_ASSERT(muse_type_eq(buffer->type, type));
  return muse_func_arg_for_buffer(lw->func, buffer);
}

// A matrix kept as int8 latents enters as cast(w8) * delta (see pass autodiff).
MuseValue *muse_lower_layer_param(MuseLowering *lw, int layer, const char *name) {
  MuseValue *w = muse_lower_arg(lw, "layers.%d.%s", layer, name);
  if (w->type.dtype != MUSE_I8) return w;
  muse_attr_set_bool(lw->module, &lw->func->body.arg_attrs[w->index], "latent", true);
  MuseValue *delta = muse_lower_arg(lw, "delta.layers.%d.%s", layer, name);
  return muse_build_binary(&lw->b, MUSE_OP_mul, muse_build_cast(&lw->b, w, MUSE_F32), delta);
}

MuseValue *muse_lower_f32(MuseLowering *lw, MuseValue *x) { return muse_build_cast(&lw->b, x, MUSE_F32); }

MuseValue *muse_lower_act(MuseLowering *lw, MuseValue *x) {
  return muse_build_cast(&lw->b, x, lw->cfg->use_mixed_precision ? MUSE_BF16 : MUSE_F32);
}

MuseValue *muse_lower_heads(MuseLowering *lw, MuseValue *x) {
  int64_t H = lw->cfg->num_heads;
  return muse_build_reshape(&lw->b, x, 4, (int64_t[]){lw->B, lw->T, H, lw->cfg->d_model / H});
}

MuseValue *muse_lower_scale(MuseLowering *lw, MuseValue *x, double c) {
  return muse_build_binary(&lw->b, MUSE_OP_mul, x, muse_build_const(&lw->b, c));
}

// [H] -> [H,1], so that it broadcasts over [B,T,H,d] and [B,T,H,1].
static MuseValue *per_head(MuseLowering *lw, MuseValue *x) {
  return muse_build_reshape(&lw->b, x, 2, (int64_t[]){lw->cfg->num_heads, 1});
}

static MuseValue *rms(MuseLowering *lw, MuseValue *x, MuseValue *w) { return muse_build_rms_norm(&lw->b, x, w); }

// ---- linear layers (section 2) ----

// x in f32: a BitLinear rounds it to 8 bits, and rounding to 16 before that would only add noise.
MuseValue *muse_block_linear(MuseLowering *lw, MuseValue *x, int layer, const char *name) {
  const MuseConfig *c = lw->cfg;
  MuseValue *w = muse_lower_layer_param(lw, layer, name);
  if (!c->use_bitnet) return muse_build_matmul(&lw->b, muse_lower_act(lw, x), muse_lower_act(lw, w), false, true);
  static const char *const gradients[] = {"f32", "f32", "int8", "bf16"};
  MuseAttrList attrs = {0};
  muse_attr_set_text(lw->module, &attrs, "gradient", gradients[c->gradient_precision]);
  muse_attr_set_int(lw->module, &attrs, "rng_id", (int64_t)lw->next_rng++);
  return muse_build_op(&lw->b, MUSE_OP_bit_linear, 2, (MuseValue *[]){x, w}, &attrs)->results[0];
}

// ---- embedding and head (section 3) ----

typedef struct Cores { MuseValue *core1, *core2, *cosphase; } Cores;

static Cores cores(MuseLowering *lw) {
  Cores t = {muse_lower_arg(lw, "embed.core1"), muse_lower_arg(lw, "embed.core2"), muse_lower_arg(lw, "embed.phase")};
  if (lw->cfg->quantized_htt) {
    t.core1 = muse_build_unary(&lw->b, MUSE_OP_fake_quantize, t.core1);
    t.core2 = muse_build_unary(&lw->b, MUSE_OP_fake_quantize, t.core2);
  }
  t.core1 = muse_lower_act(lw, t.core1);
  t.core2 = muse_lower_act(lw, t.core2);
  t.cosphase = muse_build_unary(&lw->b, MUSE_OP_cos, t.cosphase);
  return t;
}

// The dense table, which embedding and head share.
static MuseValue *table(MuseLowering *lw) { return muse_lower_act(lw, muse_lower_arg(lw, "embed.weight")); }

MuseValue *muse_block_embed(MuseLowering *lw) {
  const MuseConfig *c = lw->cfg;
  MuseValue *x;
  if (c->use_htt_embedding) {
    muse_lower_at(lw, "use_htt_embedding", -1);
    Cores t = cores(lw);
    MuseAttrList attrs = {0};
    muse_attr_set_int(lw->module, &attrs, "dim", c->d_model);
    x = muse_build_op(&lw->b, MUSE_OP_tt_gather, 4, (MuseValue *[]){t.core1, t.core2, t.cosphase, lw->tokens}, &attrs)
            ->results[0];
  } else {
    muse_lower_at(lw, "vocab_size", -1);
    x = muse_build_op(&lw->b, MUSE_OP_gather_rows, 2, (MuseValue *[]){table(lw), lw->tokens}, NULL)->results[0];
  }
  return muse_build_reshape(&lw->b, x, 2, (int64_t[]){lw->B * lw->T, c->d_model});
}

MuseValue *muse_block_logits(MuseLowering *lw, MuseValue *x) {
  const MuseConfig *c = lw->cfg;
  muse_lower_at(lw, "vocab_size", -1);
  x = muse_lower_act(lw, rms(lw, muse_lower_f32(lw, x), muse_lower_arg(lw, "final_norm.weight")));
  if (!c->use_htt_embedding) return muse_build_matmul(&lw->b, x, table(lw), false, true);
  Cores t = cores(lw);
  MuseAttrList attrs = {0};
  muse_attr_set_int(lw->module, &attrs, "vocab", c->vocab_size);
  return muse_build_op(&lw->b, MUSE_OP_tt_matmul, 4, (MuseValue *[]){x, t.core1, t.core2, t.cosphase}, &attrs)
      ->results[0];
}

MuseValue *muse_block_loss(MuseLowering *lw, MuseValue *x) {
  const MuseConfig *c = lw->cfg;
  muse_lower_at(lw, "vocab_size", -1);
  x = muse_lower_act(lw, rms(lw, muse_lower_f32(lw, x), muse_lower_arg(lw, "final_norm.weight")));
  MuseValue *targets = muse_build_reshape(&lw->b, lw->targets, 1, (int64_t[]){lw->B * lw->T});
  if (!c->use_htt_embedding)
    return muse_build_op(&lw->b, MUSE_OP_cross_entropy, 3, (MuseValue *[]){x, table(lw), targets}, NULL)->results[0];
  Cores t = cores(lw);
  MuseAttrList attrs = {0};
  muse_attr_set_int(lw->module, &attrs, "vocab", c->vocab_size);
  return muse_build_op(&lw->b, MUSE_OP_tt_cross_entropy, 5, (MuseValue *[]){x, t.core1, t.core2, t.cosphase, targets},
                       &attrs)
      ->results[0];
}

// ---- feed-forward (section 4) ----

// tanh form of GELU: u/2 (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3)))  (Hendrycks and Gimpel, arXiv:1606.08415)
static MuseValue *gelu(MuseLowering *lw, MuseValue *u) {
  MuseBuilder *b = &lw->b;
  MuseValue *u3 = muse_build_binary(b, MUSE_OP_mul, muse_build_binary(b, MUSE_OP_mul, u, u), u);
  MuseValue *inner = muse_lower_scale(lw, muse_build_binary(b, MUSE_OP_add, u, muse_lower_scale(lw, u3, 0.044715)),
                                      0.7978845608028654);
  MuseValue *gate = muse_build_binary(b, MUSE_OP_add, muse_build_unary(b, MUSE_OP_tanh, inner), muse_build_const(b, 1));
  return muse_build_binary(b, MUSE_OP_mul, muse_lower_scale(lw, u, 0.5), gate);
}

static MuseValue *relu2(MuseLowering *lw, MuseValue *u) {
  MuseValue *r = muse_build_binary(&lw->b, MUSE_OP_max, u, muse_build_const(&lw->b, 0));
  return muse_build_binary(&lw->b, MUSE_OP_mul, r, r);
}

static MuseValue *residual(MuseLowering *lw, MuseValue *x, MuseValue *y) {
  return muse_lower_act(lw, muse_build_binary(&lw->b, MUSE_OP_add, muse_lower_f32(lw, x), y));
}

MuseValue *muse_block_ffn(MuseLowering *lw, MuseValue *x, int layer) {
  muse_lower_at(lw, "ffn_mult", layer);
  MuseValue *h = rms(lw, muse_lower_f32(lw, x), muse_lower_layer_param(lw, layer, "ffn_norm.weight"));
  MuseValue *u = muse_lower_act(lw, muse_block_linear(lw, h, layer, "ffn.up.weight"));
  muse_lower_at(lw, "ffn_activation", layer);
  MuseValue *act = lw->cfg->ffn_activation == MUSE_FFN_GELU ? gelu(lw, muse_lower_f32(lw, u))
                                                            : relu2(lw, muse_lower_f32(lw, u));
  MuseValue *mid = rms(lw, act, muse_lower_layer_param(lw, layer, "ffn.mid_norm.weight"));
  muse_lower_at(lw, "ffn_mult", layer);
  return residual(lw, x, muse_block_linear(lw, mid, layer, "ffn.down.weight"));
}

MuseValue *muse_block_mixer_out(MuseLowering *lw, MuseValue *x, MuseValue *mixed, int layer) {
  muse_lower_at(lw, "d_model", layer);
  MuseValue *flat = muse_build_reshape(&lw->b, muse_lower_act(lw, mixed), 2,
                                       (int64_t[]){lw->B * lw->T, lw->cfg->d_model});
  MuseValue *h = rms(lw, muse_lower_f32(lw, flat), muse_lower_layer_param(lw, layer, "mixer.out_norm.weight"));
  return residual(lw, x, muse_block_linear(lw, h, layer, "mixer.o.weight"));
}

// ---- mixers (section 4) ----

static void bk_inputs(MuseLowering *lw, MuseValue *h, int layer, MuseMixerInputs *in) {
  MuseBuilder *b = &lw->b;
  int64_t H = lw->cfg->num_heads, d = lw->cfg->d_model / H;
  muse_lower_at(lw, "use_birman_schwinger", layer);
  MuseValue *w = muse_lower_act(lw, muse_lower_layer_param(lw, layer, "mixer.potential.weight"));
  MuseValue *p = muse_build_matmul(b, muse_lower_act(lw, h), w, false, true);
  p = muse_build_binary(b, MUSE_OP_add, p, muse_lower_layer_param(lw, layer, "mixer.potential.bias"));
  in->kappa = muse_build_reshape(b, muse_build_unary(b, MUSE_OP_softplus, p), 3, (int64_t[]){lw->B, lw->T, H});
  in->eta = muse_build_unary(b, MUSE_OP_exp, muse_lower_layer_param(lw, layer, "mixer.log_eta"));
  in->q_hat = muse_lower_act(lw, rms(lw, muse_lower_f32(lw, in->q), NULL));
  MuseValue *k = rms(lw, muse_lower_f32(lw, in->k), NULL);
  in->k_hat = muse_lower_act(lw, muse_lower_scale(lw, k, 1 / sqrt((double)d)));
}

static MuseValue *norm_of_heads(MuseLowering *lw, MuseValue *x) { // max(|x|, 1e-4), [B,T,H,1]
  MuseBuilder *b = &lw->b;
  MuseValue *square = muse_build_reduce_last(b, MUSE_OP_reduce_sum, muse_build_binary(b, MUSE_OP_mul, x, x));
  // The square is bounded, not the root: the root has no derivative at 0.
  return muse_build_unary(b, MUSE_OP_sqrt, muse_build_binary(b, MUSE_OP_max, square, muse_build_const(b, 1e-8)));
}

// min(sqrt(c) e^s |x| / sqrt(d), 6): the distance of a token from the origin of the Lorentz model.
static MuseValue *radius(MuseLowering *lw, MuseValue *norm, MuseValue *root_c, MuseValue *log_scale) {
  MuseBuilder *b = &lw->b;
  int64_t H = lw->cfg->num_heads;
  MuseValue *factor = muse_build_binary(b, MUSE_OP_mul, root_c, muse_build_unary(b, MUSE_OP_exp, log_scale));
  factor = muse_lower_scale(lw, factor, 1 / sqrt((double)(lw->cfg->d_model / H)));
  MuseValue *r = muse_build_binary(b, MUSE_OP_mul, norm, per_head(lw, factor));
  r = muse_build_binary(b, MUSE_OP_min, r, muse_build_const(b, 6));
  return muse_build_reshape(b, r, 3, (int64_t[]){lw->B, lw->T, H});
}

static void window_inputs(MuseLowering *lw, int layer, MuseMixerInputs *in) {
  MuseBuilder *b = &lw->b;
  const MuseConfig *c = lw->cfg;
  muse_lower_at(lw, muse_config_mixer(c) == MUSE_MIXER_ATTENTION ? "use_hybrid_attention" : "local_score", layer);
  MuseValue *flat_q = muse_lower_f32(lw, in->q), *flat_k = muse_lower_f32(lw, in->k);
  MuseValue *q = muse_build_rope(b, flat_q, lw->rope, false), *k = muse_build_rope(b, flat_k, lw->rope, false);
  if (!muse_hyperbolic(c)) { // rotation keeps the norm, so rms may come after it
    q = muse_lower_scale(lw, rms(lw, q, NULL), 1 / sqrt((double)(c->d_model / c->num_heads)));
    in->q_score = muse_lower_act(lw, q);
    in->k_score = muse_lower_act(lw, rms(lw, k, NULL));
    return;
  }
  MuseValue *root_c = muse_build_unary(
      b, MUSE_OP_sqrt, muse_build_unary(b, MUSE_OP_softplus, muse_lower_layer_param(lw, layer, "mixer.raw_curvature")));
  MuseValue *nq = norm_of_heads(lw, flat_q), *nk = norm_of_heads(lw, flat_k);
  in->q_score = muse_lower_act(lw, muse_build_binary(b, MUSE_OP_div, q, nq));
  in->k_score = muse_lower_act(lw, muse_build_binary(b, MUSE_OP_div, k, nk));
  in->alpha = radius(lw, nq, root_c, muse_lower_layer_param(lw, layer, "mixer.q_log_scale"));
  in->beta = radius(lw, nk, root_c, muse_lower_layer_param(lw, layer, "mixer.k_log_scale"));
  in->scale = muse_build_binary(
      b, MUSE_OP_div, muse_build_unary(b, MUSE_OP_softplus, muse_lower_layer_param(lw, layer, "mixer.raw_beta")),
      root_c);
}

void muse_block_mixer_inputs(MuseLowering *lw, MuseValue *x, int layer, MuseMixerInputs *in) {
  memset(in, 0, sizeof *in);
  muse_lower_at(lw, "d_model", layer);
  MuseValue *h = rms(lw, muse_lower_f32(lw, x), muse_lower_layer_param(lw, layer, "mixer_norm.weight"));
  in->q = muse_lower_heads(lw, muse_lower_act(lw, muse_block_linear(lw, h, layer, "mixer.q.weight")));
  in->k = muse_lower_heads(lw, muse_lower_act(lw, muse_block_linear(lw, h, layer, "mixer.k.weight")));
  in->v = muse_lower_heads(lw, muse_lower_act(lw, muse_block_linear(lw, h, layer, "mixer.v.weight")));
  if (muse_has_bk(lw->cfg)) bk_inputs(lw, h, layer, in);
  if (muse_has_window(lw->cfg)) window_inputs(lw, layer, in);
}

MuseValue *muse_block_gate(MuseLowering *lw, int layer, MuseValue *global, MuseValue *local, MuseValue *g_im) {
  MuseBuilder *b = &lw->b;
  if (global) {
    muse_lower_at(lw, "use_birman_schwinger", layer);
    global = rms(lw, muse_lower_f32(lw, global), NULL);
  }
  if (!local) return global;
  if (!global) return local;
  muse_lower_at(lw, "use_hybrid_attention", layer);
  MuseValue *strength = muse_build_binary(b, MUSE_OP_min, muse_build_unary(b, MUSE_OP_abs, g_im),
                                          muse_build_const(b, 10));
  MuseValue *e = muse_build_binary(b, MUSE_OP_mul, strength, muse_lower_layer_param(lw, layer, "mixer.gate_scale"));
  e = muse_build_unary(b, MUSE_OP_sigmoid,
                       muse_build_binary(b, MUSE_OP_add, e, muse_lower_layer_param(lw, layer, "mixer.gate_bias")));
  e = muse_build_reshape(b, e, 4, (int64_t[]){lw->B, lw->T, lw->cfg->num_heads, 1});
  MuseValue *rest = muse_build_binary(b, MUSE_OP_sub, muse_build_const(b, 1), e);
  local = rms(lw, muse_lower_f32(lw, local), NULL);
  return muse_build_binary(b, MUSE_OP_add, muse_build_binary(b, MUSE_OP_mul, local, e),
                           muse_build_binary(b, MUSE_OP_mul, global, rest));
}
