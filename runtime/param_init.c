// Initial values of parameters.
#include "runtime/normals.h"
#include "runtime/param_grid.h"
#include "runtime/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  CHUNK = MUSE_PARAM_CHUNK,
  PIECE = 4096, // values on a thread's stack
};

typedef enum InitKind { INIT_NORMAL, INIT_CONSTANT, INIT_LOG, INIT_SOFTPLUS_INVERSE } InitKind;

typedef struct Init {
  InitKind kind;
  uint64_t op_id;
  uint32_t seed;
  int64_t n;           // elements of the parameter
  int64_t first, last; // those to be made
  double a, b;         // std; value; first and last
  float *values;       // where to
  int8_t *latent;
  double delta;
  double *sums;        // of |w|, one a chunk
} Init;

static double log_spaced(const Init *init, int64_t i) {
  double share = init->n > 1 ? (double)i / (double)(init->n - 1) : 0;
  return log(init->a) + share * (log(init->b) - log(init->a));
}

// Elements [first, first + count); `first` is a multiple of 4.
static void make_values(const Init *init, int64_t first, int64_t count, float *out) {
  if (init->kind == INIT_NORMAL) {
    muse_normals_fill(init->op_id, init->seed, init->a, first, count, out);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    double log_v = init->kind == INIT_CONSTANT ? 0 : log_spaced(init, first + i);
    out[i] = (float)(init->kind == INIT_CONSTANT ? init->a : init->kind == INIT_LOG ? log_v : log(expm1(exp(log_v))));
  }
}

static int64_t chunk_end(const Init *init, int64_t chunk) {
  return (chunk + 1) * CHUNK < init->last ? (chunk + 1) * CHUNK : init->last;
}

static void fill_values(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    int64_t first = init->first + chunk * CHUNK, last = first + CHUNK < init->last ? first + CHUNK : init->last;
    make_values(init, first, last - first, init->values + (first - init->first));
  }
}

static void sum_magnitudes(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  float piece[PIECE];
  for (int64_t chunk = begin; chunk < end; chunk++) {
    double sum = 0;
    for (int64_t at = chunk * CHUNK, last = chunk_end(init, chunk); at < last; at += PIECE) {
      int64_t n = last - at < PIECE ? last - at : PIECE;
      make_values(init, at, n, piece);
      for (int64_t i = 0; i < n; i++) sum += fabs((double)piece[i]);
    }
    init->sums[chunk] = sum;
  }
}

static void fill_latent(void *context, int thread, int64_t begin, int64_t end) {
  const Init *init = context;
  float piece[PIECE];
  for (int64_t at = begin * CHUNK, last = chunk_end(init, end - 1); at < last; at += PIECE) {
    int64_t n = last - at < PIECE ? last - at : PIECE;
    make_values(init, at, n, piece);
    muse_round_to_grid(piece, n, init->delta, init->latent + at);
  }
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
  int64_t n = muse_type_elements(param->type);
  *out = (Init){.op_id = muse_hash64(param->name, strlen(param->name)), .seed = seed, .n = n, .last = n};
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
  out->delta = muse_grid_width(init.sums, chunks, init.n);
  init.delta = (double)out->delta;
  init.latent = out->latent;
  muse_pool_run(pool, chunks, fill_latent, &init);
  free(init.sums);
  return MUSE_OK;
}

MuseStatus muse_param_values(const MuseBuffer *param, uint32_t seed, MusePool *pool, int64_t first, int64_t count,
                             float *out, MuseDiag *diag) {
  Init init;
  MUSE_ASSERT(first % 4 == 0);
  MUSE_TRY(read_init(param, seed, &init, diag));
  MUSE_ASSERT(first >= 0 && count >= 0 && count <= init.n - first);
  init.first = first;
  init.last = first + count;
  init.values = out;
  muse_pool_run(pool, (count + CHUNK - 1) / CHUNK, fill_values, &init);
  return MUSE_OK;
}
