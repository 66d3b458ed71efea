// Compressing parameters, a panel of rows at a time. A matrix of trits is gone through twice, since its scale comes
// first; where it fits the memory of a panel, as all matrices of a 10 B model do, its values are made only once.
#include "runtime/compressed.h"

#include "runtime/normals.h"
#include "runtime/numerics.h"
#include "runtime/param_grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 112 << 20 }; // values; 4 * 5120 * 5120 fit

struct MuseCompressor {
  MusePool *pool;
  float *values;     // of a panel
  int64_t n_values;
  uint8_t *bytes;    // of a panel
  int64_t n_bytes;
  float *scales;     // of the slices of a parameter
  int64_t n_scales;
  double *sums;      // one a task
  MuseCompressedError *errors; // one a row of a panel
  int64_t n_sums, n_errors;
};

MuseCompressor *muse_compressor_create(MusePool *pool) {
  MuseCompressor *c = calloc(1, sizeof *c);
  if (!c) muse_out_of_memory(sizeof *c);
  c->pool = pool;
  return c;
}

void muse_compressor_destroy(MuseCompressor *c) {
  if (!c) return;
  free(c->values);
  free(c->bytes);
  free(c->scales);
  free(c->sums);
  free(c->errors);
  free(c);
}

// Room for n elements; what was there is lost.
static void *room(void *old, int64_t *have, int64_t n, size_t size) {
  if (*have >= n) return old;
  free(old);
  void *p = malloc((size_t)n * size);
  if (!p) muse_out_of_memory((size_t)n * size);
  *have = n;
  return p;
}

static bool is_linear(const MuseBuffer *param) {
  const MuseAttr *a = muse_attr_find(&param->attrs, "decay");
  return a && a->kind == MUSE_ATTR_BOOL && a->b && param->type.rank == 2;
}

MuseCompressedForm muse_compressed_form(const MuseBuffer *param, bool bitnet) {
  if (is_linear(param)) return bitnet ? MUSE_FORM_TRITS : MUSE_FORM_SLICE;
  bool table = muse_str_starts_with(param->name, "embed.") && param->type.rank >= 2;
  return table ? MUSE_FORM_SLICE : MUSE_FORM_F32;
}

bool muse_compressed_tensors(const MuseBuffer *param, MuseCompressedForm form, MuseStr *name,
                             MuseStoredTensor *out_content, MuseStoredTensor *out_scales) {
  const MuseType *type = &param->type;
  int64_t packed[2] = {type->dim[0], form == MUSE_FORM_TRITS ? muse_trit_row_bytes(MUSE_T5, type->dim[1]) : 0};
  muse_str_clear(name);
  muse_str_appendf(name, "scale.%s", param->name);
  if (form == MUSE_FORM_TRITS) *out_content = muse_stored_tensor(param->name, MUSE_STORED_U8, 2, packed, NULL);
  else
    *out_content = muse_stored_tensor(param->name, form == MUSE_FORM_F32 ? MUSE_STORED_F32 : MUSE_STORED_I8,
                                      type->rank, type->dim, NULL);
  if (form == MUSE_FORM_F32) return false;
  *out_scales = muse_stored_tensor(name->data, MUSE_STORED_F32, form == MUSE_FORM_SLICE, type->dim, NULL);
  return true;
}

// ---- a panel ----

typedef struct Panel {
  const float *values;
  int64_t count, columns, row_bytes;
  float gamma;         // of trits
  uint8_t *bytes;
  float *scales;       // of slices: of the panel's first one on
  double *sums;        // of |w|, one a task of MUSE_PARAM_CHUNK values
  MuseCompressedError *errors; // one a row, or NULL
} Panel;

static void sum_chunks(void *context, int thread, int64_t begin, int64_t end) {
  const Panel *p = context;
  for (int64_t i = begin; i < end; i++) {
    int64_t first = i * MUSE_PARAM_CHUNK, left = p->count - first;
    p->sums[i] = muse_sum_magnitudes(p->values + first, left < MUSE_PARAM_CHUNK ? left : MUSE_PARAM_CHUNK);
  }
}

static double sum_of_squares(const float *w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)w[i] * (double)w[i];
  return sum;
}

static void pack_rows(void *context, int thread, int64_t begin, int64_t end) {
  const Panel *p = context;
  for (int64_t r = begin; r < end; r++) {
    const float *w = p->values + r * p->columns;
    MuseCompressedError *e = p->errors ? &p->errors[r] : NULL;
    if (e) *e = (MuseCompressedError){0, sum_of_squares(w, p->columns)};
    muse_pack_row_t5(w, p->columns, p->gamma, p->bytes + r * p->row_bytes, NULL, e ? &e->squares : NULL);
  }
}

// Symmetric int8 with halves to even, as the QHTT cores of the model (section 3 of docs/model.md).
static void round_slices(void *context, int thread, int64_t begin, int64_t end) {
  const Panel *p = context;
  for (int64_t r = begin; r < end; r++) {
    const float *w = p->values + r * p->columns;
    int8_t *q = (int8_t *)p->bytes + r * p->columns;
    float most = 0;
    for (int64_t i = 0; i < p->columns; i++) most = fabsf(w[i]) > most || isnan(w[i]) ? fabsf(w[i]) : most;
    float scale = most / 127;
    if (scale == 0) scale = 1; // a slice of zeros, or so small that their scale is none
    p->scales[r] = scale;
    for (int64_t i = 0; i < p->columns; i++) {
      float x = nearbyintf(w[i] / scale);
      q[i] = (int8_t)(x > 127 ? 127 : x < -127 ? -127 : isnan(x) ? 0 : x);
    }
    if (!p->errors) continue;
    MuseCompressedError e = {0, sum_of_squares(w, p->columns)};
    for (int64_t i = 0; i < p->columns; i++) {
      double lost = (double)w[i] - (double)scale * q[i];
      e.squares += lost * lost;
    }
    p->errors[r] = e;
  }
}

// ---- a parameter ----

typedef struct Job {
  MuseCompressor *c;
  const MuseBuffer *param;
  MuseParamReadFn read;
  MuseCompressedFn put;
  void *read_context, *put_context;
  MuseCompressedError *error;
  int64_t rows, columns, panel_rows;
  int64_t held; // first row of the panel in memory, -1: none
} Job;

static int64_t rows_at(const Job *j, int64_t row) {
  return j->rows - row < j->panel_rows ? j->rows - row : j->panel_rows;
}

// Values of the panel that begins at this row, unless they are there already.
static MuseStatus hold(Job *j, int64_t row, MuseDiag *diag) {
  if (j->held == row) return MUSE_OK;
  j->held = -1;
  MUSE_TRY(j->read(j->read_context, j->param, row * j->columns, rows_at(j, row) * j->columns, j->c->values, diag));
  j->held = row;
  return MUSE_OK;
}

static MuseStatus not_finite(const MuseBuffer *param, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "parameter '%s' holds NaN or Inf, so there is nothing to compress; take an "
                    "earlier checkpoint", param->name);
}

static Panel panel_at(const Job *j, int64_t row) {
  return (Panel){.values = j->c->values,
                 .count = rows_at(j, row) * j->columns,
                 .columns = j->columns,
                 .bytes = j->c->bytes,
                 .sums = j->c->sums,
                 .errors = j->error ? j->c->errors : NULL};
}

static void add_errors(const Job *j, int64_t rows) {
  for (int64_t r = 0; j->error && r < rows; r++) {
    j->error->squares += j->c->errors[r].squares;
    j->error->weights += j->c->errors[r].weights;
  }
}

static MuseStatus mean_magnitude(Job *j, float *out_gamma, MuseDiag *diag) {
  double sum = 0;
  for (int64_t row = 0; row < j->rows; row += j->panel_rows) {
    MUSE_TRY(hold(j, row, diag));
    Panel p = panel_at(j, row);
    int64_t tasks = (p.count + MUSE_PARAM_CHUNK - 1) / MUSE_PARAM_CHUNK;
    muse_pool_run(j->c->pool, tasks, sum_chunks, &p);
    for (int64_t i = 0; i < tasks; i++) sum += p.sums[i];
  }
  *out_gamma = fmaxf((float)(sum / ((double)j->rows * (double)j->columns)), 1e-6f); // section 2 of docs/model.md
  return isfinite(sum) ? MUSE_OK : not_finite(j->param, diag);
}

static MuseStatus put_trits(Job *j, MuseDiag *diag) {
  float gamma;
  int64_t row_bytes = muse_trit_row_bytes(MUSE_T5, j->columns);
  MUSE_TRY(mean_magnitude(j, &gamma, diag));
  for (int64_t row = 0; row < j->rows; row += j->panel_rows) {
    MUSE_TRY(hold(j, row, diag));
    Panel p = panel_at(j, row);
    p.gamma = gamma;
    p.row_bytes = row_bytes;
    muse_pool_run(j->c->pool, rows_at(j, row), pack_rows, &p);
    add_errors(j, rows_at(j, row));
    MUSE_TRY(j->put(j->put_context, p.bytes, (size_t)(rows_at(j, row) * row_bytes), diag));
  }
  return j->put(j->put_context, &gamma, sizeof gamma, diag);
}

static MuseStatus put_slices(Job *j, MuseDiag *diag) {
  for (int64_t row = 0; row < j->rows; row += j->panel_rows) {
    MUSE_TRY(hold(j, row, diag));
    Panel p = panel_at(j, row);
    p.scales = j->c->scales + row;
    muse_pool_run(j->c->pool, rows_at(j, row), round_slices, &p);
    add_errors(j, rows_at(j, row));
    MUSE_TRY(j->put(j->put_context, p.bytes, (size_t)p.count, diag));
  }
  if (muse_first_bad(j->c->scales, MUSE_F32, j->rows) >= 0) return not_finite(j->param, diag);
  return j->put(j->put_context, j->c->scales, (size_t)j->rows * sizeof(float), diag);
}

static MuseStatus put_floats(Job *j, MuseDiag *diag) {
  for (int64_t row = 0; row < j->rows; row += j->panel_rows) {
    MUSE_TRY(hold(j, row, diag));
    int64_t n = rows_at(j, row);
    if (muse_first_bad(j->c->values, MUSE_F32, n) >= 0) return not_finite(j->param, diag);
    if (j->error) j->error->weights += sum_of_squares(j->c->values, n);
    MUSE_TRY(j->put(j->put_context, j->c->values, (size_t)n * sizeof(float), diag));
  }
  return MUSE_OK;
}

MuseStatus muse_compress_param(MuseCompressor *c, const MuseBuffer *param, MuseCompressedForm form,
                               MuseParamReadFn read, void *read_context, MuseCompressedFn put, void *put_context,
                               MuseCompressedError *error, MuseDiag *diag) {
  Job j = {.c = c, .param = param, .read = read, .put = put, .read_context = read_context, .put_context = put_context,
           .error = error, .rows = muse_type_elements(param->type), .columns = 1, .held = -1};
  if (form != MUSE_FORM_F32) {
    j.columns = j.rows / param->type.dim[0];
    j.rows = param->type.dim[0];
  }
  j.panel_rows = PANEL / j.columns / 4 * 4; // so that a panel begins at a multiple of 4
  if (j.panel_rows < 4) j.panel_rows = 4;
  if (j.panel_rows > j.rows) j.panel_rows = j.rows;
  int64_t values = j.panel_rows * j.columns;
  int64_t bytes = form == MUSE_FORM_TRITS ? j.panel_rows * muse_trit_row_bytes(MUSE_T5, j.columns) : values;
  c->values = room(c->values, &c->n_values, values, sizeof *c->values);
  if (form != MUSE_FORM_F32) c->bytes = room(c->bytes, &c->n_bytes, bytes, 1);
  if (form == MUSE_FORM_SLICE) c->scales = room(c->scales, &c->n_scales, j.rows, sizeof *c->scales);
  c->sums = room(c->sums, &c->n_sums, values / MUSE_PARAM_CHUNK + 1, sizeof *c->sums);
  if (form != MUSE_FORM_F32 && error) c->errors = room(c->errors, &c->n_errors, j.panel_rows, sizeof *c->errors);
  return form == MUSE_FORM_TRITS ? put_trits(&j, diag) : form == MUSE_FORM_SLICE ? put_slices(&j, diag)
                                                                                 : put_floats(&j, diag);
}
