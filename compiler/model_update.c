// The functions @norms and @update: clipping by the global norm, and one step of the optimizer (section 6 of
// docs/model.md).
#include "compiler/blocks.h"

#include <stdlib.h>
#include <string.h>

static bool is_param(const MuseBuffer *b) { return strcmp(b->role, "param") == 0; }
static bool is_latent(const MuseBuffer *b) { return muse_attr_bool_or(&b->attrs, "latent", false); }

static MuseValue *gradient(MuseLowering *lw, const MuseBuffer *param) {
  char name[256];
  snprintf(name, sizeof name, "grad.%s", param->name);
  return muse_lower_input(lw, name, muse_type_with_dtype(param->type, MUSE_F32), "grad");
}

static void at_param(MuseLowering *lw, const MuseBuffer *param) {
  muse_lower_at(lw, "optimizer", (int)muse_attr_int_or(&param->attrs, "layer", -1));
  lw->b.stage = MUSE_STAGE_UPDATE;
}

static void lower_norms(const MuseConfig *c, MuseModule *module, MuseBuffer *const *params, int n) {
  MuseLowering lw;
  MuseResultList *results = calloc(1, sizeof *results);
  MUSE_ASSERT(results != NULL);
  muse_lower_begin(&lw, c, module, "norms", 1, 1);
  MuseValue *total = NULL;
  for (int i = 0; i < n; i++) {
    at_param(&lw, params[i]);
    char name[256];
    snprintf(name, sizeof name, "norm2.%s", params[i]->name);
    MuseValue *square = muse_build_unary(&lw.b, MUSE_OP_sum_squares, gradient(&lw, params[i]));
    muse_lower_result(&lw, results, square, name);
    total = total ? muse_build_binary(&lw.b, MUSE_OP_add, total, square) : square;
  }
  muse_lower_at(&lw, "max_grad_norm", -1);
  muse_lower_result(&lw, results, total, "grad_norm2");
  MuseAttrList attrs = {0};
  muse_attr_set_real(module, &attrs, "max_norm", c->max_grad_norm);
  muse_lower_result(&lw, results, muse_build_op(&lw.b, MUSE_OP_clip_factor, 1, &total, &attrs)->results[0], "clip");
  muse_lower_return(&lw, results);
  free(results);
}

static MuseValue *moment(MuseLowering *lw, const char *kind, const MuseBuffer *param, MuseType type, char name[256]) {
  snprintf(name, 256, "%s.%s", kind, param->name);
  return muse_lower_input(lw, name, type, "moment");
}

static void adamw(MuseLowering *lw, MuseResultList *results, const MuseBuffer *p) {
  const MuseConfig *c = lw->cfg;
  MuseType scalar = muse_scalar_type(MUSE_F32);
  char m[256], v[256];
  MuseValue *operands[8] = {
      muse_lower_arg(lw, "%s", p->name),
      gradient(lw, p),
      moment(lw, "m", p, p->type, m),
      moment(lw, "v", p, p->type, v),
      muse_lower_input(lw, "lr", scalar, "hyper"),
      muse_lower_input(lw, "clip", scalar, "hyper"),
      muse_lower_input(lw, "bias1", scalar, "hyper"),
      muse_lower_input(lw, "bias2", scalar, "hyper"),
  };
  MuseAttrList attrs = {0};
  muse_attr_set_real(lw->module, &attrs, "beta1", c->adam_beta1);
  muse_attr_set_real(lw->module, &attrs, "beta2", c->adam_beta2);
  muse_attr_set_real(lw->module, &attrs, "eps", c->adam_eps);
  muse_attr_set_real(lw->module, &attrs, "weight_decay",
                     muse_attr_bool_or(&p->attrs, "decay", false) ? c->weight_decay : 0);
  MuseOp *op = muse_build_op(&lw->b, MUSE_OP_adamw, 8, operands, &attrs);
  muse_lower_result(lw, results, op->results[0], p->name);
  muse_lower_result(lw, results, op->results[1], m);
  muse_lower_result(lw, results, op->results[2], v);
}

static void adafactor8(MuseLowering *lw, MuseResultList *results, const MuseBuffer *p) {
  const MuseConfig *c = lw->cfg;
  MuseType scalar = muse_scalar_type(MUSE_F32);
  int64_t N = p->type.dim[0], K = p->type.dim[1];
  char r[256], col[256], m8[256], mscale[256];
  MuseValue *operands[10] = {
      muse_lower_arg(lw, "%s", p->name),
      muse_lower_arg(lw, "delta.%s", p->name),
      gradient(lw, p),
      moment(lw, "r", p, muse_type1(MUSE_F32, N), r),
      moment(lw, "c", p, muse_type1(MUSE_F32, K), col),
      moment(lw, "m8", p, p->type, m8),
      moment(lw, "mscale", p, muse_type2(MUSE_F32, N, 1), mscale),
      muse_lower_input(lw, "lr", scalar, "hyper"),
      muse_lower_input(lw, "factored_decay", scalar, "hyper"), // 1 - t^-0.8
      muse_lower_arg(lw, "rng"),
  };
  MuseAttrList attrs = {0};
  muse_attr_set_real(lw->module, &attrs, "weight_decay", c->weight_decay);
  muse_attr_set_int(lw->module, &attrs, "rng_id",
                    (int64_t)((1u << 20) + lw->next_rng++)); // apart from the ids of @grad
  MuseOp *op = muse_build_op(&lw->b, MUSE_OP_adafactor8, 10, operands, &attrs);
  const char *names[5] = {p->name, r, col, m8, mscale};
  for (int i = 0; i < 5; i++) muse_lower_result(lw, results, op->results[i], names[i]);
}

static void lower_update(const MuseConfig *c, MuseModule *module, MuseBuffer *const *params, int n) {
  MuseLowering lw;
  MuseResultList *results = calloc(1, sizeof *results);
  MUSE_ASSERT(results != NULL);
  muse_lower_begin(&lw, c, module, "update", 1, 1);
  for (int i = 0; i < n; i++) {
    at_param(&lw, params[i]);
    if (is_latent(params[i])) adafactor8(&lw, results, params[i]);
    else adamw(&lw, results, params[i]);
  }
  muse_lower_return(&lw, results);
  free(results);
}

void muse_model_update(const MuseConfig *c, MuseModule *module) {
  int n = 0;
  MuseBuffer **params = calloc((size_t)module->n_buffers, sizeof *params);
  MUSE_ASSERT(params != NULL);
  for (int i = 0; i < module->n_buffers; i++)
    if (is_param(module->buffers[i])) params[n++] = module->buffers[i];
  lower_norms(c, module, params, n);
  lower_update(c, module, params, n);
  free(params);
}
