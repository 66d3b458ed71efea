#ifndef MUSE_TESTS_UNIT_MODEL_ENV_H
#define MUSE_TESTS_UNIT_MODEL_ENV_H

// Runs the functions of a model's module through the oracle: buffers by name, filled by role when they are read first,
// so that two modules of one config start from equal values whatever the passes have done to them.

#include "compiler/config.h"
#include "ops/ops.h"

typedef struct ModelEnv {
  MuseArena *arena;
  MuseMap *buffers; // name -> MuseTensor *
  MuseMap *results; // name -> MuseTensor *, of the last run
  int64_t vocab;
  uint32_t seed;
} ModelEnv;

ModelEnv *model_env_create(uint32_t seed, int64_t vocab);
void model_env_destroy(ModelEnv *env);
// A zeroed buffer that is set by hand.
MuseTensor *model_env_set(ModelEnv *env, const char *name, MuseType type);
// The buffer's tensor, made from seed and name on first use.
MuseTensor *model_env_buffer(ModelEnv *env, const MuseModule *module, const char *name);
// Evaluates the function; results are written to their buffers, and are in env->results by buffer name. False: no such
// function.
bool model_env_run(ModelEnv *env, const MuseModule *module, const char *func);

// |a-b| / |b|, or |a| when b is 0.
double tensor_distance(const MuseTensor *a, const MuseTensor *b);

#endif
