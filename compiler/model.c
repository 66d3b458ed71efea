// From a configuration to IR: parameters, and the functions over whole rows of text.
#include "compiler/model.h"

#include "compiler/blocks.h"

#include <stdlib.h>
#include <string.h>

// ---- parameters: names, shapes and initial values (section 5 of docs/model.md) ----

typedef struct Declaration { const MuseConfig *cfg; MuseModule *module; int layer; } Declaration;

static MuseBuffer *declare(Declaration *d, const char *name, MuseType type, const char *init) {
  char full[128];
  if (d->layer >= 0) snprintf(full, sizeof full, "layers.%d.%s", d->layer, name);
  else snprintf(full, sizeof full, "%s", name);
  MuseBuffer *buffer = muse_module_add_buffer(d->module, full, type, "param");
  muse_attr_set_text(d->module, &buffer->attrs, "init", init);
  if (d->layer >= 0) muse_attr_set_int(d->module, &buffer->attrs, "layer", d->layer);
  return buffer;
}

static void declare_normal(Declaration *d, const char *name, MuseType type, double std) {
  muse_attr_set_real(d->module, &declare(d, name, type, "normal")->attrs, "std", std);
}

static void declare_constant(Declaration *d, const char *name, int64_t n, double value) {
  muse_attr_set_real(d->module, &declare(d, name, muse_type1(MUSE_F32, n), "constant")->attrs, "value", value);
}

// f of n values spaced evenly in the logarithm from first to last; init names f: "log" or "softplus_inverse".
static void declare_spaced(Declaration *d, const char *name, int64_t n, const char *f, double first, double last) {
  MuseBuffer *buffer = declare(d, name, muse_type1(MUSE_F32, n), f);
  muse_attr_set_real(d->module, &buffer->attrs, "first", first);
  muse_attr_set_real(d->module, &buffer->attrs, "last", last);
}

// A matrix of a linear layer: weight decay, and with adafactor8 int8 latents on a grid of delta.NAME.
static void declare_matrix(Declaration *d, const char *name, int64_t out, int64_t in, double std) {
  bool latent = d->cfg->optimizer == MUSE_OPTIMIZER_ADAFACTOR8;
  MuseBuffer *w = declare(d, name, muse_type2(latent ? MUSE_I8 : MUSE_F32, out, in), "normal");
  muse_attr_set_real(d->module, &w->attrs, "std", std);
  muse_attr_set_bool(d->module, &w->attrs, "decay", true);
  if (!latent) return;
  muse_attr_set_bool(d->module, &w->attrs, "latent", true);
  char delta[160];
  snprintf(delta, sizeof delta, "delta.%s", w->name);
  muse_module_add_buffer(d->module, delta, muse_scalar_type(MUSE_F32), "scale");
}

static void declare_embedding(Declaration *d) {
  const MuseConfig *c = d->cfg;
  int64_t V = c->vocab_size, D = c->d_model, r = c->htt_rank;
  if (!c->use_htt_embedding) {
    declare_normal(d, "embed.weight", muse_type2(MUSE_F32, V, D), 0.02);
    return;
  }
  int64_t v1 = (int64_t)ceil(sqrt((double)V)), d1 = (int64_t)ceil(sqrt((double)D));
  int64_t v2 = (V + v1 - 1) / v1, d2 = (D + d1 - 1) / d1;
  double std = sqrt(0.02 / sqrt((double)r));
  declare_normal(d, "embed.core1", muse_type3(MUSE_F32, v1, r, d1), std);
  declare_normal(d, "embed.core2", muse_type3(MUSE_F32, v2, r, d2), std);
  declare_normal(d, "embed.phase", muse_type1(MUSE_F32, r), 0.1);
}

static void declare_mixer(Declaration *d) {
  const MuseConfig *c = d->cfg;
  int64_t D = c->d_model, H = c->num_heads;
  declare_constant(d, "mixer_norm.weight", D, 1);
  declare_matrix(d, "mixer.q.weight", D, D, 0.02);
  declare_matrix(d, "mixer.k.weight", D, D, 0.02);
  declare_matrix(d, "mixer.v.weight", D, D, 0.02);
  declare_matrix(d, "mixer.o.weight", D, D, 0.02 / sqrt(2.0 * (double)c->n_layers));
  if (muse_has_bk(c)) {
    declare_normal(d, "mixer.potential.weight", muse_type2(MUSE_F32, H, D), 0.01);
    declare_spaced(d, "mixer.potential.bias", H, "softplus_inverse", 1e-4, 0.5);
    declare_spaced(d, "mixer.log_eta", H, "log", 1e-4, 0.1);
  }
  if (muse_has_window(c) && muse_hyperbolic(c)) {
    declare_constant(d, "mixer.raw_curvature", H, 0);
    declare_constant(d, "mixer.raw_beta", H, 5);
    declare_constant(d, "mixer.q_log_scale", H, log(3.0));
    declare_constant(d, "mixer.k_log_scale", H, log(3.0));
  }
  if (muse_config_mixer(c) == MUSE_MIXER_HYBRID) {
    declare_constant(d, "mixer.gate_scale", H, 0);
    declare_constant(d, "mixer.gate_bias", H, 0);
  }
  declare_constant(d, "mixer.out_norm.weight", D, 1);
}

static void declare_parameters(const MuseConfig *c, MuseModule *module) {
  Declaration d = {c, module, -1};
  int64_t D = c->d_model, F = c->ffn_mult * D;
  declare_embedding(&d);
  declare_constant(&d, "final_norm.weight", D, 1);
  for (d.layer = 0; d.layer < c->n_layers; d.layer++) {
    declare_mixer(&d);
    declare_constant(&d, "ffn_norm.weight", D, 1);
    declare_matrix(&d, "ffn.up.weight", F, D, 0.02);
    declare_constant(&d, "ffn.mid_norm.weight", F, 1);
    declare_matrix(&d, "ffn.down.weight", D, F, 0.02 / sqrt(2.0 * (double)c->n_layers));
  }
}

int64_t muse_model_parameters(const MuseModule *module) {
  int64_t n = 0;
  for (int i = 0; i < module->n_buffers; i++)
    if (strcmp(module->buffers[i]->role, "param") == 0) n += muse_type_elements(module->buffers[i]->type);
  return n;
}

// ---- functions over rows ----

// What a layer shows of itself besides its result.
typedef struct LayerReport { MuseValue *e_re, *g_im, *kappa, *eta; } LayerReport; // e = 1 + g

// Re g of 1 + Re g.
static MuseValue *re_of_g(MuseLowering *lw, const LayerReport *r) {
  return muse_build_binary(&lw->b, MUSE_OP_sub, r->e_re, muse_build_const(&lw->b, 1));
}

static MuseValue *resolvent(MuseLowering *lw, const MuseMixerInputs *in, int layer, LayerReport *report) {
  muse_lower_at(lw, "use_birman_schwinger", layer);
  MuseOp *green = muse_build_op(&lw->b, MUSE_OP_green_scan, 3, (MuseValue *[]){in->kappa, in->eta, lw->doc}, NULL);
  *report = (LayerReport){green->results[0], green->results[1], in->kappa, in->eta};
  MuseValue *operands[] = {in->q_hat, in->k_hat, in->v, report->e_re, report->g_im, lw->doc};
  return muse_build_op(&lw->b, MUSE_OP_resolvent_scan, 6, operands, NULL)->results[0];
}

static MuseValue *window(MuseLowering *lw, const MuseMixerInputs *in, int layer) {
  muse_lower_at(lw, "local_window", layer);
  MuseAttrList attrs = {0};
  muse_attr_set_int(lw->module, &attrs, "window", muse_window(lw->cfg));
  muse_attr_set_text(lw->module, &attrs, "score", in->alpha ? "hyperbolic" : "dot");
  MuseValue *operands[] = {in->q_score, in->k_score, in->v, lw->doc, in->alpha, in->beta, in->scale};
  return muse_build_op(&lw->b, MUSE_OP_window_attention, in->alpha ? 7 : 4, operands, &attrs)->results[0];
}

static MuseValue *layer(MuseLowering *lw, MuseValue *x, int index, LayerReport *report) {
  MuseMixerInputs in;
  *report = (LayerReport){0};
  muse_block_mixer_inputs(lw, x, index, &in);
  MuseValue *global = muse_has_bk(lw->cfg) ? resolvent(lw, &in, index, report) : NULL;
  MuseValue *local = muse_has_window(lw->cfg) ? window(lw, &in, index) : NULL;
  x = muse_block_mixer_out(lw, x, muse_block_gate(lw, index, global, local, report->g_im), index);
  return muse_block_ffn(lw, x, index);
}

static void begin_rows(MuseLowering *lw, const MuseConfig *c, MuseModule *module, const char *name) {
  muse_lower_begin(lw, c, module, name, c->batch_size, c->n_seq);
  muse_lower_at(lw, "n_seq", -1);
  lw->tokens = muse_lower_input(lw, "tokens", muse_type2(MUSE_I32, lw->B, lw->T), "input");
  lw->targets = muse_lower_input(lw, "targets", muse_type2(MUSE_I32, lw->B, lw->T), "input");
  if (muse_has_window(c))
    lw->rope = muse_lower_input(lw, "rope", muse_type2(MUSE_F32, c->n_seq, c->d_model / c->num_heads), "const");
  muse_lower_at(lw, "eos_token_id", -1);
  MuseAttrList attrs = {0};
  muse_attr_set_int(module, &attrs, "eos", c->eos_token_id);
  lw->doc = muse_build_op(&lw->b, MUSE_OP_doc_begin, 1, &lw->tokens, &attrs)->results[0];
}

static MuseValue *max_all(MuseLowering *lw, MuseValue *x) {
  return muse_build_reduce_all(&lw->b, MUSE_OP_reduce_max, x);
}

// use_lap: the largest |g|^2 and the smallest eta of a layer; use_mourre: the mean kappa of each head.
static void report_layer(MuseLowering *lw, MuseResultList *results, const LayerReport *r, int index) {
  MuseBuilder *b = &lw->b;
  const MuseConfig *c = lw->cfg;
  char name[64];
  if (!r->e_re) return;
  if (c->use_lap) {
    muse_lower_at(lw, "use_lap", index);
    MuseValue *g_re = re_of_g(lw, r);
    MuseValue *square = muse_build_binary(b, MUSE_OP_add, muse_build_binary(b, MUSE_OP_mul, g_re, g_re),
                                          muse_build_binary(b, MUSE_OP_mul, r->g_im, r->g_im));
    snprintf(name, sizeof name, "lap.max_g2.%d", index);
    muse_lower_result(lw, results, max_all(lw, square), name);
    snprintf(name, sizeof name, "lap.min_eta.%d", index);
    muse_lower_result(lw, results,
                      muse_build_unary(b, MUSE_OP_neg, max_all(lw, muse_build_unary(b, MUSE_OP_neg, r->eta))), name);
  }
  if (c->use_mourre) {
    muse_lower_at(lw, "use_mourre", index);
    MuseValue *sum = muse_build_reduce(b, MUSE_OP_reduce_sum, r->kappa, (int64_t[]){0, 1}, 2);
    snprintf(name, sizeof name, "mourre.kappa.%d", index);
    MuseValue *mean = muse_lower_scale(lw, muse_build_reshape(b, sum, 1, &c->num_heads), 1.0 / (double)(lw->B * lw->T));
    muse_lower_result(lw, results, mean, name);
  }
}

static void lower_loss(const MuseConfig *c, MuseModule *module, const char *name) {
  MuseLowering lw;
  MuseResultList *results = calloc(1, sizeof *results);
  LayerReport *reports = calloc((size_t)c->n_layers, sizeof *reports);
  MUSE_ASSERT(results && reports);
  begin_rows(&lw, c, module, name);
  MuseValue *x = muse_block_embed(&lw);
  for (int i = 0; i < c->n_layers; i++) x = layer(&lw, x, i, &reports[i]);
  muse_lower_result(&lw, results, muse_block_loss(&lw, x), "loss");
  for (int i = 0; i < c->n_layers; i++) report_layer(&lw, results, &reports[i], i);
  muse_lower_return(&lw, results);
  free(reports);
  free(results);
}

static void lower_inspect(const MuseConfig *c, MuseModule *module) {
  MuseLowering lw;
  MuseResultList *results = calloc(1, sizeof *results);
  MUSE_ASSERT(results != NULL);
  begin_rows(&lw, c, module, "inspect");
  MuseValue *x = muse_block_embed(&lw);
  for (int i = 0; i < c->n_layers; i++) {
    LayerReport r;
    char name[64];
    x = layer(&lw, x, i, &r);
    if (!r.e_re) continue;
    snprintf(name, sizeof name, "green.%d.re", i);
    muse_lower_result(&lw, results, re_of_g(&lw, &r), name);
    snprintf(name, sizeof name, "green.%d.im", i);
    muse_lower_result(&lw, results, r.g_im, name);
  }
  muse_lower_result(&lw, results, muse_block_loss(&lw, x), "loss");
  muse_lower_result(&lw, results, muse_block_logits(&lw, x), "logits");
  muse_lower_return(&lw, results);
  free(results);
}

static void lower_setup(const MuseConfig *c, MuseModule *module) {
  MuseLowering lw;
  MuseResultList *results = calloc(1, sizeof *results);
  MUSE_ASSERT(results != NULL);
  muse_lower_begin(&lw, c, module, "setup", 1, 1);
  if (muse_has_window(c)) {
    muse_lower_at(&lw, "n_seq", -1);
    MuseAttrList attrs = {0};
    muse_attr_set_int(module, &attrs, "rows", c->n_seq);
    muse_attr_set_int(module, &attrs, "half", c->d_model / c->num_heads / 2);
    MuseValue *zero = muse_build_const_typed(&lw.b, 0, MUSE_I64);
    muse_lower_result(&lw, results, muse_build_op(&lw.b, MUSE_OP_rope_table, 1, &zero, &attrs)->results[0], "rope");
  }
  muse_lower_return(&lw, results);
  free(results);
}

MuseModule *muse_model_build(const MuseConfig *c, const char *source) {
  MuseModule *module = muse_module_create(source);
  muse_attr_set_text(module, &module->attrs, "level", "tensor");
  muse_attr_set_int(module, &module->attrs, "gradient_accumulation_steps", c->gradient_accumulation_steps);
  muse_module_add_buffer(module, "rng", muse_type1(MUSE_U32, 2), "hyper");
  declare_parameters(c, module);
  lower_loss(c, module, "loss");
  lower_loss(c, module, "grad");
  MuseFunc *grad = muse_module_func(module, "grad");
  muse_attr_set_bool(module, &grad->attrs, "differentiate", true);
  if (c->use_gradient_checkpointing) muse_attr_set_bool(module, &grad->attrs, "remat", true);
  muse_model_update(c, module);
  lower_inspect(c, module);
  muse_model_decode(c, module);
  lower_setup(c, module);
  return module;
}
