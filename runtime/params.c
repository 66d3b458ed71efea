// Initial values and loading of parameters.
#include "runtime/params.h"

#include "ir/base/philox.h"
#include "runtime/numerics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16 }; // elements of a task: sums are cut by it, so it is part of the values of latents

static bool is_role(const MuseBuffer *b, const char *role) { return strcmp(b->role, role) == 0; }

// ---- initial values ----

typedef enum InitKind { INIT_NORMAL, INIT_CONSTANT, INIT_LOG, INIT_SOFTPLUS_INVERSE } InitKind;

typedef struct Init {
  InitKind kind;
  uint64_t op_id;
  uint32_t seed;
  int64_t n;
  double a, b;      // std; value; first and last
  float *values;    // where to
  int8_t *latent;
  double delta;
  double *sums;     // of |w|, one a chunk
} Init;

static double initial_value(const Init *init, int64_t i) {
  if (init->kind == INIT_NORMAL) return init->a * muse_random_normal((uint64_t)i, init->op_id, init->seed, 0);
  if (init->kind == INIT_CONSTANT) return init->a;
  double share = init->n > 1 ? (double)i / (double)(init->n - 1) : 0;
  double log_v = log(init->a) + share * (log(init->b) - log(init->a));
  return init->kind == INIT_LOG ? log_v : log(expm1(exp(log_v)));
}

static void fill_values(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  int64_t last = end * CHUNK < init->n ? end * CHUNK : init->n;
  for (int64_t i = begin * CHUNK; i < last; i++) init->values[i] = (float)initial_value(init, i);
}

static void sum_magnitudes(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    int64_t last = (chunk + 1) * CHUNK < init->n ? (chunk + 1) * CHUNK : init->n;
    double sum = 0;
    for (int64_t i = chunk * CHUNK; i < last; i++) sum += fabs((double)(float)initial_value(init, i));
    init->sums[chunk] = sum;
  }
}

static int8_t on_grid(double w, double delta) { return (int8_t)fmax(-127, fmin(127, nearbyint(w / delta))); }

static void fill_latent(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  int64_t last = end * CHUNK < init->n ? end * CHUNK : init->n;
  for (int64_t i = begin * CHUNK; i < last; i++)
    init->latent[i] = on_grid((double)(float)initial_value(init, i), init->delta);
}

// The width of the grid from sums of |w|; a parameter of zeros gets a grid of any width.
static float grid_width(const double *sums, int64_t n_sums, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n_sums; i++) sum += sums[i];
  float delta = (float)(3.2 * (sum / (double)n) / 127);
  return delta > 0 ? delta : 1;
}

static bool get_real(const MuseBuffer *param, const char *name, double *out) {
  const MuseAttr *a = muse_attr_find(&param->attrs, name);
  if (a && a->kind == MUSE_ATTR_INT) *out = (double)a->i;
  else if (a && a->kind == MUSE_ATTR_REAL) *out = a->real;
  else return false;
  return isfinite(*out);
}

static MuseStatus read_init(const MuseBuffer *param, uint32_t seed, Init *out, MuseDiag *diag) {
  const MuseAttr *a = muse_attr_find(&param->attrs, "init");
  const char *kind = a && a->kind == MUSE_ATTR_TEXT ? a->text : "";
  bool ok = false;
  *out = (Init){
      .op_id = muse_hash64(param->name, strlen(param->name)), .seed = seed, .n = muse_type_elements(param->type)};
  if (muse_str_eq(kind, "normal")) {
    out->kind = INIT_NORMAL;
    ok = get_real(param, "std", &out->a);
  } else if (muse_str_eq(kind, "constant")) {
    out->kind = INIT_CONSTANT;
    ok = get_real(param, "value", &out->a);
  } else if (muse_str_eq(kind, "log") || muse_str_eq(kind, "softplus_inverse")) {
    out->kind = muse_str_eq(kind, "log") ? INIT_LOG : INIT_SOFTPLUS_INVERSE;
    ok = get_real(param, "first", &out->a) && get_real(param, "last", &out->b) && out->a > 0 && out->b > 0;
  }
  if (ok) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT,
                    "the plan does not say how parameter '%s' starts (init '%s'); run musec again on its configuration",
                    param->name, kind);
}

MuseStatus muse_param_init(const MuseModule *module, const MuseBuffer *param, uint32_t seed, MusePool *pool,
                           MuseParamValues *out, MuseDiag *diag) {
  Init init;
  MUSE_TRY(read_init(param, seed, &init, diag));
  int64_t chunks = (init.n + CHUNK - 1) / CHUNK;
  if (param->type.dtype != MUSE_I8) {
    init.values = out->values;
    muse_pool_run(pool, chunks, fill_values, &init);
    return MUSE_OK;
  }
  init.sums = calloc((size_t)chunks, sizeof *init.sums);
  if (!init.sums) muse_out_of_memory((size_t)chunks * sizeof *init.sums);
  muse_pool_run(pool, chunks, sum_magnitudes, &init);
  out->delta = grid_width(init.sums, chunks, init.n);
  init.delta = (double)out->delta;
  init.latent = out->latent;
  muse_pool_run(pool, chunks, fill_latent, &init);
  free(init.sums);
  return MUSE_OK;
}

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

MuseStatus muse_params_init(MuseSession *s, uint32_t seed, MuseDiag *diag) {
  MusePool *pool;
  MUSE_TRY(muse_pool_create(muse_executor_threads(s->executor), &pool, diag));
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < s->module->n_buffers && status == MUSE_OK; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    Place place;
    if (!is_role(b, "param")) continue;
    status = place_of(s, b, &place, diag);
    if (status != MUSE_OK) break;
    status = finish_place(s, &place, muse_param_init(s->module, b, seed, pool, &place.values, diag), diag);
  }
  muse_pool_destroy(pool);
  return status == MUSE_OK ? muse_executor_zero(s->executor, "moment", diag) : status;
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
        for (int64_t i = 0; i < count; i++) out[first + i] = on_grid((double)piece[i], (double)*out_delta);
    }
    if (pass == 0) *out_delta = grid_width(sums, chunks, n);
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

static MuseStatus load_values(const MuseSafetensors *file, const MuseBuffer *b, MuseParamValues *values,
                              MuseDiag *diag) {
  const MuseStoredTensor *t = muse_safetensors_find(file, b->name);
  if (values->latent) return load_latent(file, t, b->name, values->latent, &values->delta, diag);
  MUSE_TRY(muse_stored_read_f32(t, 0, t->count, values->values, diag));
  int64_t bad = muse_first_bad(values->values, MUSE_F32, t->count);
  if (bad < 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s': element %lld of tensor '%s' is %g; parameters must be finite",
                    muse_safetensors_path(file), (long long)bad, b->name, (double)values->values[bad]);
}

static MuseStatus load_one(MuseSession *s, const MuseSafetensors *file, const MuseBuffer *b, MuseDiag *diag) {
  Place place;
  MUSE_TRY(place_of(s, b, &place, diag));
  return finish_place(s, &place, load_values(file, b, &place.values, diag), diag);
}

// Whether the file holds the parameters of the plan, no less and no more. One sentence: the first tensor that does not
// fit, and how many more.
static MuseStatus check_tensors(const MuseSession *s, const MuseSafetensors *file, MuseDiag *diag) {
  MuseStr first = {0};
  int64_t misfits = 0;
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
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
    const MuseBuffer *b = muse_module_buffer(s->module, t->name);
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
  MuseStatus status = check_tensors(s, file, diag);
  for (int i = 0; i < s->module->n_buffers && status == MUSE_OK; i++)
    if (is_role(s->module->buffers[i], "param")) status = load_one(s, file, s->module->buffers[i], diag);
  muse_safetensors_close(file);
  return status == MUSE_OK ? muse_executor_zero(s->executor, "moment", diag) : status;
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
