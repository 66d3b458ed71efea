// The passes keep the meaning of a model: for small configs of each kind, every function gives through the oracle, in
// f64, the same results after the whole pipeline as after autodiff alone. Random numbers are part of the meaning: the
// same op draws the same ones, however it is fused or repeated.
#include "compiler/kernel_info.h"
#include "compiler/model.h"
#include "compiler/pipeline.h"
#include "tests/unit/model_env.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

#define BASE                                                                                                         \
  "vocab_size: 13\nd_model: 12\nn_layers: 2\nn_seq: 7\nnum_heads: 3\nlocal_window: 4\nbatch_size: 2\neos_token_id: " \
  "3\nmax_steps: 5\nwarmup_steps: 1\n"
#define ATTENTION "use_birman_schwinger: false\nuse_hybrid_attention: false\n"
#define LOCAL "use_birman_schwinger: false\nuse_hybrid_attention: true\n"
#define BK "use_birman_schwinger: true\nuse_hybrid_attention: false\n"
#define HYBRID "use_birman_schwinger: true\nuse_hybrid_attention: true\n"
#define DENSE "use_bitnet: false\nuse_mixed_precision: false\n"
#define BIT_F32 "use_bitnet: true\nuse_mixed_precision: false\n"
#define BIT_INT8 "use_bitnet: true\nuse_mixed_precision: true\n"
#define REMAT "use_gradient_checkpointing: true\n"
#define QHTT "use_htt_embedding: true\nhtt_rank: 3\nquantized_htt: true\n"

static const char *const configs[] = {
    ATTENTION DENSE,
    ATTENTION BIT_INT8 REMAT,
    LOCAL DENSE REMAT,
    LOCAL BIT_INT8,
    LOCAL DENSE "local_score: euclidean\nffn_activation: gelu\n",
    LOCAL BIT_F32 "local_score: euclidean\n" REMAT,
    BK DENSE,
    BK DENSE REMAT "use_lap: true\nuse_mourre: true\n",
    BK BIT_F32,
    BK BIT_INT8 REMAT QHTT,
    HYBRID DENSE,
    HYBRID BIT_F32 "gradient_accumulation_steps: 3\n",
    HYBRID BIT_F32 REMAT,
    HYBRID BIT_INT8 "use_lap: true\nuse_mourre: true\n",
    HYBRID BIT_INT8 REMAT "gradient_accumulation_steps: 2\nffn_activation: gelu\n",
    HYBRID BIT_F32 QHTT,
    HYBRID DENSE "use_htt_embedding: true\nhtt_rank: 3\nquantized_htt: false\n",
    HYBRID BIT_INT8 "optimizer: adafactor8\n",
    HYBRID BIT_INT8 REMAT QHTT
    "optimizer: adafactor8\nuse_lap: true\nuse_mourre: true\ngradient_accumulation_steps: 2\n",
    HYBRID DENSE "optimizer: adafactor8\n",
    HYBRID "use_bitnet: true\nuse_mixed_precision: true\ngradient_precision: bf16\n",
    HYBRID "use_bitnet: false\nuse_mixed_precision: true\n",
    HYBRID "use_bitnet: true\nuse_mixed_precision: false\ngradient_precision: int8\n" REMAT
           "max_grad_norm: 0\nffn_mult: 2\n",
};

static MuseModule *build(const char *keys, const char *const *pipeline, int64_t *out_vocab) {
  MuseArena *arena = muse_arena_create();
  MuseDiag *diag = muse_diag_create();
  MuseConfig config;
  MuseStr text = {0};
  muse_str_append(&text, BASE);
  muse_str_append(&text, keys);
  MuseStatus status = muse_config_parse_text("test", text.data, text.len, NULL, arena, &config, diag);
  cr_assert_eq(status, MUSE_OK, "%s\n%s", muse_diag_message(diag, 0), keys);
  MuseModule *module = muse_model_build(&config, "test");
  status = muse_pipeline_run(pipeline, module, NULL, diag);
  cr_assert_eq(status, MUSE_OK, "%s\n%s", muse_diag_message(diag, 0), keys);
  *out_vocab = config.vocab_size;
  muse_str_free(&text);
  muse_diag_destroy(diag);
  muse_arena_destroy(arena);
  return module;
}

static void compare(const char *keys, const char *stage, const char *func, const ModelEnv *env,
                    const ModelEnv *reference, const MuseFunc *fn) {
  for (int i = 0; i < fn->n_results; i++) {
    const char *name = muse_func_result_buffer(fn, i);
    const MuseTensor *a = muse_map_get(env->results, name), *b = muse_map_get(reference->results, name);
    cr_assert(a && b, "@%s has lost its result %s %s, config\n%s", func, name, stage, keys);
    double distance = tensor_distance(a, b);
    cr_expect(distance <= 1e-9, "@%s: %s differs by %.3g %s, config\n%s", func, name, distance, stage, keys);
  }
}

// The trits that @update hands on are those of the parameters that it has written.
static void check_packed(const char *keys, ModelEnv *env, const MuseModule *module) {
  const MuseFunc *pack = muse_module_func(module, "pack");
  if (!pack) return;
  ModelEnv *written = model_env_create(env->seed, env->vocab);
  for (int i = 0; i < pack->n_results; i++) {
    const char *name = muse_func_result_buffer(pack, i);
    const MuseTensor *t = muse_map_get(env->results, name);
    cr_assert(t != NULL, "@update does not write %s, config\n%s", name, keys);
    *model_env_set(written, name, t->type) = *t;
  }
  model_env_run(env, module, "pack");
  for (int i = 0; i < pack->n_results; i++) {
    const char *name = muse_func_result_buffer(pack, i);
    double distance = tensor_distance(muse_map_get(written->buffers, name), muse_map_get(env->results, name));
    cr_expect(distance <= 1e-12, "@update: %s differs from @pack by %.3g, config\n%s", name, distance, keys);
  }
  model_env_destroy(written);
}

// Every kernel has the form that its skeleton takes for granted.
static void check_kernels(const char *keys, const char *stage, const MuseModule *module) {
  for (const MuseFunc *fn = module->first_func; fn; fn = fn->next)
    for (const MuseOp *op = fn->body.first; op; op = op->next) {
      const char *fault = op->kind == MUSE_OP_kernel ? muse_kernel_fault(op) : NULL;
      cr_expect_null(fault, "@%s: a kernel that cannot be emitted %s: %s, config\n%s", fn->name, stage, fault, keys);
    }
}

static const char *const functions[] = {"loss", "grad", "inspect", "decode", "norms", "update"};

static void check(const char *keys, const char *const *pipeline, const char *stage) {
  static const char *const only_autodiff[] = {"autodiff", NULL};
  int64_t vocab;
  MuseModule *plain = build(keys, only_autodiff, &vocab), *compiled = build(keys, pipeline, &vocab);
  ModelEnv *reference = model_env_create(17, vocab), *env = model_env_create(17, vocab);
  check_kernels(keys, stage, compiled);
  model_env_run(reference, plain, "setup");
  model_env_run(env, compiled, "setup");
  model_env_run(env, compiled, "pack");
  for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
    model_env_run(reference, plain, functions[f]);
    cr_assert(model_env_run(env, compiled, functions[f]), "@%s is gone %s", functions[f], stage);
    compare(keys, stage, functions[f], env, reference, muse_module_func(plain, functions[f]));
  }
  if (muse_module_func(compiled, "pack")) check_packed(keys, env, compiled);
  model_env_destroy(reference);
  model_env_destroy(env);
  muse_module_destroy(plain);
  muse_module_destroy(compiled);
}

// Parameters travel to another process, so they are indices, not pointers.
ParameterizedTestParameters(compiler_semantics, pipeline_keeps_results) {
  enum { N = sizeof configs / sizeof *configs };
  static int index[N];
  for (int i = 0; i < N; i++) index[i] = i;
  return cr_make_param_array(int, index, N);
}
ParameterizedTest(const int *index, compiler_semantics, pipeline_keeps_results) {
  check(configs[*index], muse_pipeline, "after the pipeline");
}

// One config with most of what passes act on.
#define RICH                                                                                                         \
  HYBRID BIT_INT8 REMAT QHTT "optimizer: adafactor8\nuse_lap: true\nuse_mourre: true\ngradient_accumulation_steps: " \
                             "2\n"

enum { MAX_PASSES = 64 };

static int pipeline_length(void) {
  int n = 0;
  while (muse_pipeline[n]) n++;
  cr_assert_lt(n, MAX_PASSES - 1);
  return n;
}

static bool wants_autodiff(const char *const *pipeline) {
  for (int i = 0; pipeline[i]; i++)
    if (strcmp(pipeline[i], "autodiff") == 0) return true;
  return false;
}

Test(compiler_semantics, every_prefix_of_the_pipeline_keeps_results) {
  const char *prefix[MAX_PASSES];
  char stage[64];
  for (int n = 1; n <= pipeline_length(); n++) {
    memcpy(prefix, muse_pipeline, sizeof *prefix * (size_t)n);
    prefix[n] = NULL;
    snprintf(stage, sizeof stage, "after the first %d passes", n);
    if (wants_autodiff(prefix)) check(RICH, prefix, stage);
  }
}

// No pass may need another one, except that all need autodiff for gradients.
Test(compiler_semantics, any_pass_can_be_left_out) {
  const char *rest[MAX_PASSES];
  char stage[64];
  for (const MusePass *pass = muse_passes; pass->name; pass++) {
    int n = 0;
    for (int i = 0; muse_pipeline[i]; i++)
      if (strcmp(muse_pipeline[i], pass->name) != 0) rest[n++] = muse_pipeline[i];
    rest[n] = NULL;
    snprintf(stage, sizeof stage, "without %s", pass->name);
    if (wants_autodiff(rest)) check(RICH, rest, stage);
  }
}

// The measure of this test: other values must give other results.
Test(compiler_semantics, distance_sees_a_difference) {
  static const char *const only_autodiff[] = {"autodiff", NULL};
  int64_t vocab;
  MuseModule *module = build(HYBRID BIT_INT8, only_autodiff, &vocab);
  ModelEnv *one = model_env_create(17, vocab), *other = model_env_create(17, vocab),
           *third = model_env_create(17, vocab);
  model_env_buffer(other, module, "rng")->data[1] += 1;
  model_env_buffer(third, module, "layers.1.mixer.gate_bias")->data[0] += 1e-6;
  ModelEnv *all[] = {one, other, third};
  for (int i = 0; i < 3; i++) {
    model_env_run(all[i], module, "setup");
    model_env_run(all[i], module, "grad");
  }
  const char *dw = "grad.layers.0.mixer.q.weight";
  cr_expect_gt(tensor_distance(muse_map_get(other->results, dw), muse_map_get(one->results, dw)), 1e-4);
  cr_expect_eq(tensor_distance(muse_map_get(other->results, "loss"), muse_map_get(one->results, "loss")), 0);
  cr_expect_gt(tensor_distance(muse_map_get(third->results, "loss"), muse_map_get(one->results, "loss")), 1e-9);
  for (int i = 0; i < 3; i++) model_env_destroy(all[i]);
  muse_module_destroy(module);
}
