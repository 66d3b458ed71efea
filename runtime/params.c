// Parameters of a session: initial values in their places, loading, checkpoints.
#include "runtime/params.h"

#include "runtime/compressed.h"
#include "runtime/numerics.h"
#include "runtime/packing.h"
#include "runtime/param_grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = MUSE_PARAM_CHUNK };

static bool is_role(const MuseBuffer *b, const char *role) { return strcmp(b->role, role) == 0; }

// Where the values of a parameter of the session are made: its own memory, or host memory that is then copied.
typedef struct Place {
  MuseParamValues values;
  const MuseBuffer *buffer, *delta; // delta: of a latent, else NULL
  void *copy;                       // NULL: the buffer's own memory
} Place;

static MuseStatus place_of(const MuseSession *s, const MuseBuffer *param, Place *out, MuseDiag *diag) {
  *out = (Place){.buffer = param};
  if (param->type.dtype != MUSE_F32 && param->type.dtype != MUSE_I8)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': parameter '%s' is %s; parameters are f32 or i8", s->path,
                      param->name, muse_dtype_name(param->type.dtype));
  if (param->type.dtype == MUSE_I8) {
    MuseStr name = {0};
    MuseType scalar = muse_scalar_type(MUSE_F32);
    muse_str_appendf(&name, "delta.%s", param->name);
    MuseStatus status = muse_session_buffer(s, name.data, &scalar, &out->delta, diag);
    muse_str_free(&name);
    MUSE_TRY(status);
  }
  void *data = muse_executor_host(s->executor, param);
  if (!data) {
    data = out->copy = malloc((size_t)muse_type_bytes(param->type));
    if (!data) muse_out_of_memory((size_t)muse_type_bytes(param->type));
  }
  if (out->delta) out->values.latent = data;
  else out->values.values = data;
  return MUSE_OK;
}

// Takes over what was made there, if that went well.
static MuseStatus finish_place(const MuseSession *s, Place *p, MuseStatus made, MuseDiag *diag) {
  MuseStatus status = made;
  if (status == MUSE_OK && p->copy)
    status = muse_executor_write(s->executor, p->buffer, 0, p->copy, (size_t)muse_type_bytes(p->buffer->type), diag);
  if (status == MUSE_OK && p->delta)
    status = muse_executor_write(s->executor, p->delta, 0, &p->values.delta, sizeof p->values.delta, diag);
  free(p->copy);
  return status;
}

MuseStatus muse_params_fill(MuseSession *s, MuseParamFn make, void *context, MuseDiag *diag) {
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    Place place;
    if (!is_role(b, "param")) continue;
    MUSE_TRY(place_of(s, b, &place, diag));
    MUSE_TRY(finish_place(s, &place, make(context, b, &place.values, diag), diag));
    if (s->packing && place.delta) MUSE_TRY(muse_packing_loaded(s->packing, place.delta, diag));
    if (s->packing) MUSE_TRY(muse_packing_loaded(s->packing, b, diag));
  }
  return muse_executor_zero(s->executor, "moment", diag);
}

typedef struct Initial { const MuseModule *module; uint32_t seed; MusePool *pool; } Initial;

static MuseStatus make_initial(void *context, const MuseBuffer *b, MuseParamValues *values, MuseDiag *diag) {
  const Initial *i = context;
  return muse_param_init(i->module, b, i->seed, i->pool, values, diag);
}

MuseStatus muse_params_init(MuseSession *s, uint32_t seed, MuseDiag *diag) {
  Initial initial = {.module = s->module, .seed = seed};
  MUSE_TRY(muse_pool_create(muse_executor_threads(s->executor), &initial.pool, diag));
  MuseStatus status = muse_params_fill(s, make_initial, &initial, diag);
  muse_pool_destroy(initial.pool);
  return status;
}

// ---- loading ----

static bool same_shape(const MuseStoredTensor *t, MuseType type) {
  if (t->rank != type.rank) return false;
  for (int i = 0; i < t->rank; i++)
    if (t->shape[i] != type.dim[i]) return false;
  return true;
}

// Puts float values on the grid of a latent, whose width they determine.
static MuseStatus quantise_latent(const MuseStoredTensor *t, int8_t *out, float *out_delta, MuseDiag *diag) {
  int64_t n = t->count, chunks = (n + CHUNK - 1) / CHUNK;
  float *piece = calloc(CHUNK, sizeof *piece);
  double *sums = calloc((size_t)chunks + 1, sizeof *sums);
  if (!piece || !sums) muse_out_of_memory(CHUNK * sizeof *piece);
  MuseStatus status = MUSE_OK;
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t c = 0; c < chunks && status == MUSE_OK; c++) {
      int64_t first = c * CHUNK, count = n - first < CHUNK ? n - first : CHUNK;
      status = muse_stored_read_f32(t, first, count, piece, diag);
      if (status == MUSE_OK && pass == 0)
        for (int64_t i = 0; i < count; i++) sums[c] += fabs((double)piece[i]);
      if (status == MUSE_OK && pass == 1)
        for (int64_t i = 0; i < count; i++) out[first + i] = muse_on_grid((double)piece[i], (double)*out_delta);
    }
    if (pass == 0) *out_delta = muse_grid_width(sums, chunks, n);
  }
  free(piece);
  free(sums);
  return status;
}

static MuseStatus load_latent(const MuseSafetensors *file, const MuseStoredTensor *t, const char *name, int8_t *out,
                              float *out_delta, MuseDiag *diag) {
  if (t->type != MUSE_STORED_I8) {
    MUSE_TRY(quantise_latent(t, out, out_delta, diag));
  } else {
    MuseStr scale = {0};
    const MuseStoredTensor *delta = NULL;
    muse_str_appendf(&scale, "delta.%s", name);
    MuseStatus status = muse_safetensors_get(file, scale.data, &delta, diag);
    muse_str_free(&scale);
    MUSE_TRY(status);
    if (delta->count != 1)
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': 'delta.%s' must be one number", muse_safetensors_path(file), name);
    MUSE_TRY(muse_stored_read_f32(delta, 0, 1, out_delta, diag));
    memcpy(out, t->data, t->bytes);
  }
  if (isfinite(*out_delta) && *out_delta > 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s': the grid of '%s' is %g wide; the file holds NaN or Inf",
                    muse_safetensors_path(file), name, (double)*out_delta);
}

static MuseStatus load_values(void *context, const MuseBuffer *b, MuseParamValues *values, MuseDiag *diag) {
  const MuseSafetensors *file = context;
  const MuseStoredTensor *t = muse_safetensors_find(file, b->name);
  if (values->latent) return load_latent(file, t, b->name, values->latent, &values->delta, diag);
  MUSE_TRY(muse_stored_read_f32(t, 0, t->count, values->values, diag));
  int64_t bad = muse_first_bad(values->values, MUSE_F32, t->count);
  if (bad < 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s': element %lld of tensor '%s' is %g; parameters must be finite",
                    muse_safetensors_path(file), (long long)bad, b->name, (double)values->values[bad]);
}

MuseStatus muse_params_check(const MuseModule *module, const MuseSafetensors *file, MuseDiag *diag) {
  MuseStr first = {0};
  int64_t misfits = 0;
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *b = module->buffers[i];
    const MuseStoredTensor *t = muse_safetensors_find(file, b->name);
    if (!is_role(b, "param") || (t && same_shape(t, b->type)) || misfits++ > 0) continue;
    MuseStr wanted = {0};
    muse_type_print(b->type, &wanted);
    if (t) {
      char found[160];
      muse_stored_tensor_describe(t, found, sizeof found);
      muse_str_appendf(&first, ": tensor '%s' is %s, the plan needs %s", b->name, found, muse_str_text(&wanted));
    } else {
      muse_str_appendf(&first, " has no tensor '%s' (%s), which the plan needs", b->name, muse_str_text(&wanted));
    }
    muse_str_free(&wanted);
  }
  for (size_t i = 0; i < muse_safetensors_count(file); i++) {
    const MuseStoredTensor *t = muse_safetensors_at(file, i);
    const MuseBuffer *b = muse_module_buffer(module, t->name);
    if ((b && (is_role(b, "param") || is_role(b, "scale"))) || misfits++ > 0) continue;
    muse_str_appendf(&first, " holds a tensor '%s', which is no parameter of the plan", t->name);
  }
  MuseStatus status = MUSE_OK;
  if (misfits > 1) muse_str_appendf(&first, ", and %lld more do not fit", (long long)misfits - 1);
  if (misfits > 0)
    status = muse_error(diag, MUSE_ERR_DATA, "'%s'%s; it belongs to another configuration", muse_safetensors_path(file),
                        muse_str_text(&first));
  muse_str_free(&first);
  return status;
}

MuseStatus muse_params_load(MuseSession *s, const char *path, MuseDiag *diag) {
  MuseSafetensors *file;
  MUSE_TRY(muse_safetensors_open(path, &file, diag));
  MuseStatus status = MUSE_OK;
  if (muse_is_compressed(file)) {
    status = muse_compressed_load(s, file, diag);
  } else {
    status = muse_params_check(s->module, file, diag);
    if (status == MUSE_OK) status = muse_params_fill(s, load_values, file, diag);
  }
  muse_safetensors_close(file);
  return status;
}

// ---- checkpoints ----

MuseStoredType muse_stored_type_of(MuseDtype dtype) {
  switch (dtype) {
  case MUSE_F64: return MUSE_STORED_F64;
  case MUSE_F32: return MUSE_STORED_F32;
  case MUSE_F16: return MUSE_STORED_F16;
  case MUSE_BF16: return MUSE_STORED_BF16;
  case MUSE_I64: return MUSE_STORED_I64;
  case MUSE_I32:
  case MUSE_U32: return MUSE_STORED_I32; // safetensors has no name for U32 that old readers know
  case MUSE_I8: return MUSE_STORED_I8;
  case MUSE_U8: return MUSE_STORED_U8;
  case MUSE_BOOL: return MUSE_STORED_BOOL;
  default: MUSE_ASSERT(!"trits are packed buffers, which no file of a run holds");
  }
}

void muse_params_tensors(const MuseSession *s, bool model_only, MuseTensorList *out) {
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    bool model = is_role(b, "param") || is_role(b, "scale");
    if (!model && (model_only || !is_role(b, "moment"))) continue;
    MuseCheckpointTensor t = {.name = b->name,
                              .type = muse_stored_type_of(b->type.dtype),
                              .rank = b->type.rank,
                              .data = muse_executor_host(s->executor, b),
                              .group = model ? MUSE_GROUP_MODEL : MUSE_GROUP_TRAIN};
    for (int d = 0; d < b->type.rank; d++) t.shape[d] = b->type.dim[d];
    muse_vec_push(out, t);
  }
}

MuseStatus muse_params_restore(MuseSession *s, const MuseCheckpoint *checkpoint, const MuseTensorList *tensors,
                               MuseDiag *diag) {
  for (size_t i = 0; i < tensors->len; i++) {
    const MuseStoredTensor *found;
    MUSE_TRY(muse_checkpoint_find(checkpoint, &tensors->data[i], &found, diag));
    const MuseBuffer *buffer = muse_module_buffer(s->module, tensors->data[i].name);
    if (found->bytes) MUSE_TRY(muse_executor_write(s->executor, buffer, 0, found->data, found->bytes, diag));
    if (s->packing) MUSE_TRY(muse_packing_loaded(s->packing, buffer, diag));
  }
  return MUSE_OK;
}

MuseStatus muse_params_find_bad(const MuseSession *s, const MuseBuffer **out_buffer, MuseDiag *diag) {
  *out_buffer = NULL;
  for (int i = 0; i < s->module->n_buffers && !*out_buffer; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    size_t bytes = (size_t)muse_type_bytes(b->type);
    if (!is_role(b, "param") && !is_role(b, "scale")) continue;
    const void *data = muse_executor_host(s->executor, b);
    void *copy = data ? NULL : malloc(bytes);
    if (!data && !copy) muse_out_of_memory(bytes);
    MuseStatus status = copy ? muse_executor_read(s->executor, b, 0, copy, bytes, diag) : MUSE_OK;
    if (status == MUSE_OK && muse_first_bad(data ? data : copy, b->type.dtype, muse_type_elements(b->type)) >= 0)
      *out_buffer = b;
    free(copy);
    MUSE_TRY(status);
  }
  return MUSE_OK;
}
