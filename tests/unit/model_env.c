#include "tests/unit/model_env.h"

#include "ir/base/hash.h"
#include "ir/base/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ModelEnv *model_env_create(uint32_t seed, int64_t vocab) {
  ModelEnv *env = calloc(1, sizeof *env);
  MUSE_ASSERT(env != NULL);
  env->arena = muse_arena_create();
  env->buffers = muse_map_create();
  env->results = muse_map_create();
  env->seed = seed;
  env->vocab = vocab;
  return env;
}

void model_env_destroy(ModelEnv *env) {
  muse_map_destroy(env->results);
  muse_map_destroy(env->buffers);
  muse_arena_destroy(env->arena);
  free(env);
}

MuseTensor *model_env_set(ModelEnv *env, const char *name, MuseType type) {
  MuseTensor *t = muse_arena_alloc(env->arena, sizeof *t);
  *t = muse_tensor_create(env->arena, type);
  muse_map_put(env->buffers, name, t);
  return t;
}

typedef struct Fill { const char *prefix; double mean, spread; bool positive, whole; } Fill;

// By the start of the name (after "layers.N." is dropped); the first that fits.
static const Fill fills[] = {
    {"lr", 0.01, 0, false, false},      {"clip", 0.7, 0, false, false},       {"bias1", 0.19, 0, false, false},
    {"bias2", 0.1, 0, false, false},    {"factored_decay", 0.4, 0, false, false},
    {"keep", 1, 0, false, false},       {"position", 5, 0, false, true},      {"rng", 9, 3, true, true},
    {"delta.", 0.01, 0.002, true, false}, {"m8.", 0, 40, false, true},        {"mscale.", 0.001, 0.0005, true, false},
    {"v.", 0, 0.1, true, false},        {"r.", 0, 0.1, true, false},          {"c.", 0, 0.1, true, false},
    {"grad.", 0, 0.1, false, false},    {"m.", 0, 0.1, false, false},         {"state.", 0, 0.4, false, false},
    {"window_mask", 0, 0, false, false},
    {"mixer.log_eta", -2, 0.5, false, false}, {"mixer.raw_beta", 1, 0.3, false, false},
    {"mixer.q_log_scale", 0.5, 0.2, false, false}, {"mixer.k_log_scale", 0.5, 0.2, false, false},
    {"mixer.gate_scale", 0.5, 0.5, false, false},  {"embed.", 0, 0.5, false, false},
    {"", 0, 0.3, false, false},
};

static const char *local_name(const char *name) {
  int used = 0, layer;
  return sscanf(name, "layers.%d.%n", &layer, &used) == 1 && used ? name + used : name;
}

static void fill(const ModelEnv *env, const char *name, MuseTensor *t) {
  uint64_t id = muse_hash64(name, strlen(name));
  const char *local = local_name(name);
  int64_t n = muse_type_elements(t->type);
  const Fill *f = fills;
  while (!muse_str_starts_with(local, f->prefix)) f++;
  Fill chosen = *f;
  if (muse_str_ends_with(local, "norm.weight")) chosen = (Fill){"", 1, 0.2, false, false};
  for (int64_t i = 0; i < n; i++) {
    double x = chosen.mean + chosen.spread * muse_random_normal((uint64_t)i, id, env->seed, 0);
    if (t->type.dtype == MUSE_I32) x = (double)(muse_random_u32((uint64_t)i, id, env->seed, 0) % (uint32_t)env->vocab);
    else if (t->type.dtype == MUSE_I8)
      x = round(fmin(fmax(40 * x / (chosen.spread > 0 ? chosen.spread : 1), -127), 127));
    if (muse_str_eq(name, "window_mask") && i % 3 == 2) x = -1e30; // slots that hold nothing
    if (chosen.positive) x = fabs(x) + 1e-4;
    t->data[i] = chosen.whole ? round(x) : x;
  }
}

MuseTensor *model_env_buffer(ModelEnv *env, const MuseModule *module, const char *name) {
  MuseTensor *t = muse_map_get(env->buffers, name);
  if (t) return t;
  const MuseBuffer *buffer = muse_module_buffer(module, name);
  MUSE_ASSERT(buffer && strcmp(buffer->role, "packed") != 0 &&
              strcmp(buffer->role, "const") != 0); // those are computed
  t = model_env_set(env, name, buffer->type);
  fill(env, name, t);
  return t;
}

bool model_env_run(ModelEnv *env, const MuseModule *module, const char *name) {
  MuseFunc *fn = muse_module_func(module, name);
  if (!fn) return false;
  int n_args = fn->body.n_args, n_results = fn->n_results;
  MuseTensor *args = MUSE_NEW_ARRAY(env->arena, MuseTensor, n_args + 1),
             *out = MUSE_NEW_ARRAY(env->arena, MuseTensor, n_results + 1);
  for (int i = 0; i < n_args; i++) args[i] = *model_env_buffer(env, module, muse_func_arg_buffer(fn, i));
  MuseEval eval = {.arena = env->arena, .round_storage = false};
  muse_region_eval(&eval, &fn->body, args, out);
  muse_map_destroy(env->results);
  env->results = muse_map_create();
  for (int i = 0; i < n_results; i++) {
    MuseTensor *t = muse_arena_alloc(env->arena, sizeof *t);
    *t = out[i];
    const char *buffer = muse_func_result_buffer(fn, i);
    MUSE_ASSERT(buffer != NULL);
    muse_map_put(env->buffers, buffer, t);
    muse_map_put(env->results, buffer, t);
  }
  return true;
}

double tensor_distance(const MuseTensor *a, const MuseTensor *b) {
  double error = 0, norm = 0;
  int64_t n = muse_type_elements(b->type);
  if (!muse_type_same_shape(a->type, b->type)) return INFINITY;
  for (int64_t i = 0; i < n; i++) {
    double e = a->data[i] - b->data[i];
    error += e * e;
    norm += b->data[i] * b->data[i];
  }
  return sqrt(norm > 0 ? error / norm : error);
}
