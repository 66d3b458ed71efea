// The model as a whole against an independent program: parameters, tokens and results of its cases, in float64, are
// read from golden_dir (meson option), and the functions run through the oracle, with autodiff alone and after the
// whole pipeline: loss, gradients, logits, Green's functions; and after the pipeline also the steps of a training. No
// kernel is involved: what differs here is wrong in the lowering, an op or a pass.
#include "compiler/model.h"
#include "compiler/pipeline.h"
#include "tests/unit/model_env.h"
#include "runtime/safetensors.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const cases[] = {"attention-dense", "bk-dense",      "local-dense",        "local-euclidean-dense",
                                    "hybrid-dense",    "hybrid-bitnet", "hybrid-bitnet-gelu", "hybrid-bitnet-qhtt"};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct Case {
  MuseArena *arena;
  MuseDiag *diag;
  MuseConfig config;
  MuseSafetensors *params, *expected;
  json_t *json; // loss, train_losses, grad_norms
  const char *name;
} Case;

static const char *path_of(Case *c, const char *file) {
  return muse_arena_printf(c->arena, "%s/%s/%s", MUSE_GOLDEN_DIR, c->name, file);
}

static void open_case(Case *c, const char *name) {
  *c = (Case){.arena = muse_arena_create(), .diag = muse_diag_create(), .name = name};
  MuseStatus status = muse_config_load(path_of(c, "config.yaml"), NULL, c->arena, &c->config, c->diag);
  if (status == MUSE_OK) status = muse_safetensors_open(path_of(c, "params.safetensors"), &c->params, c->diag);
  if (status == MUSE_OK) status = muse_safetensors_open(path_of(c, "expected.safetensors"), &c->expected, c->diag);
  cr_assert_eq(status, MUSE_OK, "%s", muse_diag_message(c->diag, 0));
  c->json = json_load_file(path_of(c, "expected.json"), 0, NULL);
  cr_assert(c->json && json_is_number(json_object_get(c->json, "loss")), "%s: expected.json", name);
}

static void close_case(Case *c) {
  json_decref(c->json);
  muse_safetensors_close(c->params);
  muse_safetensors_close(c->expected);
  muse_diag_destroy(c->diag);
  muse_arena_destroy(c->arena);
}

static void read_reals(Case *c, const MuseStoredTensor *s, double *out) {
  float *x = muse_arena_alloc(c->arena, (size_t)s->count * sizeof *x);
  cr_assert_eq(muse_stored_read_f32(s, 0, s->count, x, c->diag), MUSE_OK, "%s", muse_diag_message(c->diag, 0));
  for (int64_t i = 0; i < s->count; i++) out[i] = (double)x[i];
}

// Step `step` of tokens [steps, B, T+1] -> the buffers tokens and targets [B,T].
static void set_tokens(Case *c, ModelEnv *env, int64_t step) {
  int64_t B = c->config.batch_size, T = c->config.n_seq, n = B * (T + 1);
  const MuseStoredTensor *s = muse_safetensors_find(c->expected, "tokens");
  cr_assert(s && s->count >= (step + 1) * n);
  int32_t *x = muse_arena_alloc(c->arena, (size_t)n * sizeof *x);
  cr_assert_eq(muse_stored_read_i32(s, step * n, n, x, c->diag), MUSE_OK);
  MuseTensor *tokens = model_env_set(env, "tokens", muse_type2(MUSE_I32, B, T)),
             *targets = model_env_set(env, "targets", tokens->type);
  for (int64_t b = 0; b < B; b++)
    for (int64_t t = 0; t < T; t++) {
      tokens->data[b * T + t] = x[b * (T + 1) + t];
      targets->data[b * T + t] = x[b * (T + 1) + t + 1];
    }
}

static void set_parameters(Case *c, ModelEnv *env, const MuseModule *module) {
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *b = module->buffers[i];
    if (strcmp(b->role, "param") != 0) continue;
    const MuseStoredTensor *s = muse_safetensors_find(c->params, b->name);
    cr_assert(s && s->count == muse_type_elements(b->type), "%s: %s is missing or has another size", c->name, b->name);
    read_reals(c, s, model_env_set(env, b->name, b->type)->data);
  }
}

// Checks every tensor that both know under this name; counts them.
static int compare(Case *c, const ModelEnv *env, const MuseFunc *fn, const char *stage, double bound) {
  int compared = 0;
  for (int i = 0; i < fn->n_results; i++) {
    const char *name = muse_func_result_buffer(fn, i);
    const MuseStoredTensor *s = muse_safetensors_find(c->expected, name);
    if (!s) continue;
    const MuseTensor *got = muse_map_get(env->results, name);
    MuseTensor want = muse_tensor_create(c->arena, got->type);
    cr_assert_eq(s->count, muse_type_elements(got->type), "%s: %s has %lld elements", c->name, name,
                 (long long)s->count);
    read_reals(c, s, want.data);
    double distance = tensor_distance(got, &want);
    cr_expect(distance <= bound, "%s: %s differs by %.3g %s", c->name, name, distance, stage);
    compared++;
  }
  return compared;
}

static double value_of(const ModelEnv *env, const char *name) {
  const MuseTensor *t = muse_map_get(env->buffers, name);
  cr_assert(t != NULL, "%s", name);
  return t->data[0];
}

static void expect_near(Case *c, const char *what, const char *stage, double got, double want) {
  cr_expect(fabs(got - want) <= 1e-5 * fabs(want), "%s: %s is %.9g, not %.9g, %s", c->name, what, got, want, stage);
}

// green.N.re and .im [B,T,H] of @inspect against layers.N.green [B,H,T,2].
static int compare_green(Case *c, const ModelEnv *env, const char *stage) {
  int64_t B = c->config.batch_size, T = c->config.n_seq, H = c->config.num_heads;
  int compared = 0;
  for (int layer = 0; layer < c->config.n_layers; layer++) {
    const MuseStoredTensor *s = muse_safetensors_find(c->expected,
                                                      muse_arena_printf(c->arena, "layers.%d.green", layer));
    const MuseTensor *re = muse_map_get(env->results, muse_arena_printf(c->arena, "green.%d.re", layer));
    const MuseTensor *im = muse_map_get(env->results, muse_arena_printf(c->arena, "green.%d.im", layer));
    cr_assert_eq(s != NULL, re != NULL, "%s: green of layer %d", c->name, layer);
    if (!s) continue;
    MuseTensor want = muse_tensor_create(c->arena, muse_type4(MUSE_F32, B, H, T, 2)),
               got = muse_tensor_create(c->arena, want.type);
    cr_assert_eq(s->count, muse_type_elements(want.type));
    read_reals(c, s, want.data);
    for (int64_t b = 0; b < B; b++)
      for (int64_t h = 0; h < H; h++)
        for (int64_t t = 0; t < T; t++) {
          double *to = got.data + 2 * ((b * H + h) * T + t);
          to[0] = re->data[(b * T + t) * H + h];
          to[1] = im->data[(b * T + t) * H + h];
        }
    double distance = tensor_distance(&got, &want);
    cr_expect(distance <= 1e-5, "%s: green of layer %d differs by %.3g %s", c->name, layer, distance, stage);
    compared++;
  }
  return compared;
}

static ModelEnv *start(Case *c, const MuseModule *module) {
  ModelEnv *env = model_env_create(1, c->config.vocab_size);
  set_tokens(c, env, 0);
  set_parameters(c, env, module);
  model_env_run(env, module, "setup");
  model_env_run(env, module, "pack");
  return env;
}

static void check_gradients(Case *c, const MuseModule *module, const char *stage) {
  ModelEnv *env = start(c, module);
  int n_params = 0;
  for (int i = 0; i < module->n_buffers; i++) n_params += strcmp(module->buffers[i]->role, "param") == 0;
  cr_assert(model_env_run(env, module, "grad"));
  expect_near(c, "the loss of @grad", stage, value_of(env, "loss"),
              json_number_value(json_object_get(c->json, "loss")));
  int compared = compare(c, env, muse_module_func(module, "grad"), stage, 1e-5);
  cr_expect_eq(compared, n_params, "%s: %d of %d gradients compared", c->name, compared, n_params);
  cr_assert(model_env_run(env, module, "inspect"));
  expect_near(c, "the loss of @inspect", stage, value_of(env, "loss"),
              json_number_value(json_object_get(c->json, "loss")));
  cr_expect_eq(compare(c, env, muse_module_func(module, "inspect"), stage, 1e-5), 1); // logits
  cr_expect_eq(compare_green(c, env, stage), muse_config_mixer(&c->config) >= MUSE_MIXER_BK ? c->config.n_layers : 0);
  model_env_destroy(env);
}

static void set_scalar(ModelEnv *env, const char *name, double value) {
  model_env_set(env, name, muse_scalar_type(MUSE_F32))->data[0] = value;
}

// Section 6 of docs/model.md.
static double learning_rate(const MuseConfig *c, int64_t step) {
  if (step < c->warmup_steps) return c->learning_rate * (double)(step + 1) / (double)c->warmup_steps;
  double done = (double)(step - c->warmup_steps) / (double)(c->max_steps - c->warmup_steps);
  return c->learning_rate * (c->min_lr_ratio + (1 - c->min_lr_ratio) * 0.5 * (1 + cos(acos(-1) * done)));
}

static void zero_moments(ModelEnv *env, const MuseModule *module) {
  for (int i = 0; i < module->n_buffers; i++)
    if (strcmp(module->buffers[i]->role, "moment") == 0)
      model_env_set(env, module->buffers[i]->name, module->buffers[i]->type);
}

static void check_training(Case *c, const MuseModule *module, const char *stage) {
  const json_t *losses = json_object_get(c->json, "train_losses"), *norms = json_object_get(c->json, "grad_norms");
  cr_assert_eq(json_array_size(losses), (size_t)c->config.max_steps);
  ModelEnv *env = start(c, module);
  zero_moments(env, module);
  for (int64_t step = 0; step < c->config.max_steps; step++) {
    set_tokens(c, env, step);
    set_scalar(env, "lr", learning_rate(&c->config, step));
    set_scalar(env, "bias1", 1 - pow(c->config.adam_beta1, (double)step + 1));
    set_scalar(env, "bias2", 1 - pow(c->config.adam_beta2, (double)step + 1));
    cr_assert(model_env_run(env, module, "grad") && model_env_run(env, module, "norms"));
    expect_near(c, "the loss of a step", stage, value_of(env, "loss"),
                json_number_value(json_array_get(losses, (size_t)step)));
    expect_near(c, "the gradient norm of a step", stage, sqrt(value_of(env, "grad_norm2")),
                json_number_value(json_array_get(norms, (size_t)step)));
    cr_assert(model_env_run(env, module, "update"));
  }
  model_env_destroy(env);
}

static void check(Case *c, const char *const *pipeline, bool train, const char *stage) {
  MuseModule *module = muse_model_build(&c->config, c->name);
  cr_assert_eq(muse_pipeline_run(pipeline, module, NULL, c->diag), MUSE_OK, "%s", muse_diag_message(c->diag, 0));
  check_gradients(c, module, stage);
  if (train) check_training(c, module, stage);
  muse_module_destroy(module);
}

ParameterizedTestParameters(runtime_golden, oracle_agrees) {
  static int index[N_CASES];
  for (int i = 0; i < N_CASES; i++) index[i] = i;
  return cr_make_param_array(int, index, N_CASES);
}
ParameterizedTest(const int *index, runtime_golden, oracle_agrees) {
  static const char *const only_autodiff[] = {"autodiff", NULL};
  if (access(MUSE_GOLDEN_DIR, R_OK) != 0)
    cr_skip_test("SKIP: there is no folder %s; set the meson option golden_dir to the reference cases",
                 MUSE_GOLDEN_DIR);
  Case c;
  open_case(&c, cases[*index]);
  check(&c, only_autodiff, false, "with autodiff alone");
  check(&c, muse_pipeline, true, "after the pipeline");
  close_case(&c);
}
