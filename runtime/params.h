#ifndef MUSE_RUNTIME_PARAMS_H
#define MUSE_RUNTIME_PARAMS_H

#include "ir/base/vec.h"
#include "runtime/session.h"

// Parameters of a session: initial values, loading, and the list of tensors that a checkpoint holds.

// Initial values follow section 5 of docs/model.md. Element i of a normal parameter NAME is std * muse_random_normal(i,
// op_id, seed, 0) with op_id = muse_hash64 of NAME's bytes: any element of any parameter can be made alone, on any
// machine. Parameters kept as int8 latents: delta = 3.2 * mean|W0| / 127, w8 = clip(round(W0/delta), -127, 127), halves
// to even.

// One parameter. Exactly one of the two is written: `values` (f32), or for a latent `latent` and *out_delta.
typedef struct MuseParamValues {
  float *values;
  int8_t *latent;
  float delta;
} MuseParamValues;
MuseStatus muse_param_init(const MuseModule *module, const MuseBuffer *param, uint32_t seed, MusePool *pool,
                           MuseParamValues *out, MuseDiag *diag);

// Elements [first, first + count) of the initial values as f32, also of a parameter that is kept as a latent; `first`
// is a multiple of 4.
MuseStatus muse_param_values(const MuseBuffer *param, uint32_t seed, MusePool *pool, int64_t first, int64_t count,
                             float *out, MuseDiag *diag);

// Makes every parameter of the session by `make`, in the order of the plan; moments become zero.
typedef MuseStatus (*MuseParamFn)(void *context, const MuseBuffer *param, MuseParamValues *out, MuseDiag *diag);
MuseStatus muse_params_fill(MuseSession *session, MuseParamFn make, void *context, MuseDiag *diag);

// All parameters of the session; moments become zero. The result does not depend on the number of threads.
MuseStatus muse_params_init(MuseSession *session, uint32_t seed, MuseDiag *diag);

// All parameters from a safetensors file under the names of docs/model.md, or from a compressed model (compressed.h);
// moments become zero. A latent comes as I8 with delta.NAME, or as floats, which are put on its grid. Missing, unknown
// or misshapen tensors and values that are not finite are MUSE_ERR_INPUT, one sentence each.
MuseStatus muse_params_load(MuseSession *session, const char *path, MuseDiag *diag);

// Whether the file holds the parameters of the plan, no less and no more: else MUSE_ERR_DATA with the first tensor that
// does not fit, and how many more.
MuseStatus muse_params_check(const MuseModule *module, const MuseSafetensors *file, MuseDiag *diag);

typedef MUSE_VEC(MuseCheckpointTensor) MuseTensorList;
// Tensors of a checkpoint: parameters and scales, and unless `model_only` the moments. Names and data stay the
// session's; on a device that is not the host the data is NULL.
void muse_params_tensors(const MuseSession *session, bool model_only, MuseTensorList *out_tensors);
MuseStoredType muse_stored_type_of(MuseDtype dtype);
// Fills them from a checkpoint (muse_checkpoint_restore, on any device).
MuseStatus muse_params_restore(MuseSession *session, const MuseCheckpoint *checkpoint, const MuseTensorList *tensors,
                               MuseDiag *diag);
// A checkpoint of the session as it is now. On a device that is not the host a background thread writes it while the
// session goes on, until muse_params_save_finish, which says how it went; a save waits for the one before.
typedef struct MuseSaving MuseSaving;
MuseStatus muse_params_save(MuseSession *session, const char *dir, const MuseRunState *state,
                            const MuseTensorList *tensors, int keep, MuseSaving **saving, MuseDiag *diag);
MuseStatus muse_params_save_finish(MuseSaving **saving, MuseDiag *diag); // *saving may be NULL, and is afterwards

// The first parameter that holds NaN or Inf, or NULL.
MuseStatus muse_params_find_bad(const MuseSession *session, const MuseBuffer **out_buffer, MuseDiag *diag);

#endif
