// Reads metrics.jsonl for a report. The file may be of a run that is still going on, was killed, or was damaged since;
// so every line is taken for what it is worth.
#include "runtime/report_history.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TEXTS = 1000, MAX_KERNELS = 100 };
static const double MAX_STEP = 1e12;

// A number, which may stand as "nan", "inf" or "-inf"; NAN for anything else.
static double number_of(const json_t *value) {
  if (json_is_number(value)) return json_number_value(value);
  const char *text = json_string_value(value);
  if (text && muse_str_eq(text, "inf")) return INFINITY;
  if (text && muse_str_eq(text, "-inf")) return -INFINITY;
  return NAN;
}

static double number(const json_t *line, const char *key) { return number_of(json_object_get(line, key)); }

static int64_t count(const json_t *line, const char *key, int64_t fallback) {
  double x = number(line, key);
  return x >= 0 && x < 9e18 ? (int64_t)x : fallback;
}

static char *text(const json_t *line, const char *key) {
  const char *value = json_string_value(json_object_get(line, key));
  char *copy = strdup(value ? value : "");
  if (!copy) muse_out_of_memory(value ? strlen(value) : 1);
  return copy;
}

static void replace_text(char **target, const json_t *line, const char *key) {
  free(*target);
  *target = text(line, key);
}

static void add(MusePoints *points, double x, double y) {
  MusePoint p = {x, y};
  if (fabs(y) < 1e100) muse_vec_push(points, p); // neither NaN nor beyond what can be drawn
}

// ---- numbers of layers ----

typedef struct Extent { double least, greatest, sum; int64_t n; } Extent;

static void include(Extent *e, double x) {
  if (!isfinite(x)) return;
  e->least = e->n ? fmin(e->least, x) : x;
  e->greatest = e->n ? fmax(e->greatest, x) : x;
  e->sum += x;
  e->n++;
}

static void add_extent(MuseBand *band, double step, const Extent *e) {
  if (e->n == 0) return;
  add(&band->least, step, e->least);
  add(&band->mean, step, e->sum / (double)e->n);
  add(&band->greatest, step, e->greatest);
}

// The layer in "PREFIX.7"; NULL when the key is another or the number makes no sense.
static MuseReportLayer *layer_of(MuseHistory *h, const char *key, const char *prefix) {
  size_t n = strlen(prefix);
  int64_t layer;
  if (strncmp(key, prefix, n) != 0 || key[n] != '.' || !muse_parse_i64(key + n + 1, &layer)) return NULL;
  if (layer < 0 || layer >= MUSE_REPORT_MAX_LAYERS) return NULL;
  for (; h->n_layers <= layer; h->n_layers++)
    h->layers[h->n_layers] = (MuseReportLayer){.max_g = NAN, .min_eta = NAN, .kappa = NAN};
  return &h->layers[layer];
}

// A number or a list of them, by head; returns the mean.
static double include_all(Extent *e, const json_t *value) {
  Extent own = {0};
  if (!json_is_array(value)) include(&own, number_of(value));
  for (size_t i = 0; i < json_array_size(value); i++) include(&own, number_of(json_array_get(value, i)));
  if (own.n == 0) return NAN;
  include(e, own.least);
  include(e, own.greatest);
  return own.sum / (double)own.n;
}

static void read_heads(MuseHistory *h, double step, const json_t *line) {
  Extent g = {0}, eta = {0}, kappa = {0};
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)line, key, value) {
    MuseReportLayer *layer;
    if ((layer = layer_of(h, key, "lap.max_g"))) layer->max_g = include_all(&g, value);
    else if ((layer = layer_of(h, key, "lap.min_eta"))) layer->min_eta = include_all(&eta, value);
    else if ((layer = layer_of(h, key, "mourre.kappa"))) layer->kappa = include_all(&kappa, value);
  }
  add_extent(&h->max_g, step, &g);
  add_extent(&h->min_eta, step, &eta);
  add_extent(&h->kappa, step, &kappa);
}

static void read_trits(MuseHistory *h, double step, const json_t *line) {
  Extent zeros = {0};
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)line, key, value) {
    MuseReportLayer *layer = layer_of(h, key, "trits");
    if (!layer || json_array_size(value) != 3) continue;
    double all = 0, counts[3];
    for (size_t i = 0; i < 3; i++) all += counts[i] = number_of(json_array_get(value, i));
    if (!(all > 0 && all < 9e15 && fmin(fmin(counts[0], counts[1]), counts[2]) >= 0)) continue;
    for (int i = 0; i < 3; i++) layer->trits[i] = (int64_t)counts[i];
    include(&zeros, counts[1] / all);
  }
  add_extent(&h->zeros, step, &zeros);
}

// ---- lines ----

static MuseReportSet *set_of(MuseHistory *h, const char *name) {
  for (size_t i = 0; i < h->sets.len; i++)
    if (muse_str_eq(h->sets.data[i].name, name)) return &h->sets.data[i];
  if (h->sets.len == MUSE_REPORT_MAX_SETS) return NULL;
  MuseReportSet fresh = {.name = strdup(name), .target = NAN, .epochs = NAN};
  if (!fresh.name) muse_out_of_memory(strlen(name));
  muse_vec_push(&h->sets, fresh);
  return &muse_vec_last(&h->sets);
}

static void read_mixture(MuseHistory *h, double step, const json_t *line) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)line, key, value) {
    const char *dot = strchr(key, '.');
    MuseReportSet *set = dot ? set_of(h, dot + 1) : NULL;
    if (!set) continue;
    if (muse_str_starts_with(key, "share.")) add(&set->share, step, number_of(value));
    else if (muse_str_starts_with(key, "target.")) set->target = number_of(value);
    else if (muse_str_starts_with(key, "epochs.")) set->epochs = number_of(value);
  }
}

static void read_train(MuseHistory *h, double step, const json_t *line) {
  add(&h->loss, step, number(line, "loss"));
  add(&h->smoothed, step, number(line, "smoothed_loss"));
  add(&h->learning_rate, step, number(line, "learning_rate"));
  add(&h->grad_norm, step, number(line, "grad_norm"));
  add(&h->speed, step, number(line, "tokens_per_second"));
  add(&h->memory, step, number(line, "memory_bytes"));
  h->tokens = count(line, "tokens", h->tokens);
  read_heads(h, step, line);
}

static void read_start(MuseHistory *h, const json_t *line) {
  h->starts++;
  h->last_step = count(line, "last_step", -1);
  h->parameters = count(line, "parameters", 0);
  h->planned_bytes = count(line, "planned_bytes", 0);
  replace_text(&h->device, line, "device");
  replace_text(&h->config, line, "config");
  replace_text(&h->version, line, "version");
  replace_text(&h->plan, line, "plan");
}

static void read_validation(MuseHistory *h, double step, const json_t *line) {
  double loss = number(line, "loss");
  add(&h->validation, step, loss);
  add(&h->bits, step, number(line, "bits_per_byte"));
  if (loss < h->best_validation) h->best_validation = loss;
}

static void free_text(MuseReportText *t) {
  free(t->prompt);
  free(t->text);
}

// Keeps the latest.
static void add_text(MuseReportTexts *texts, double step, const json_t *line, const char *key) {
  if (texts->len == MAX_TEXTS) {
    free_text(&texts->data[0]);
    memmove(texts->data, texts->data + 1, --texts->len * sizeof *texts->data);
  }
  MuseReportText t = {(int64_t)step, text(line, "prompt"), text(line, key)};
  muse_vec_push(texts, t);
}

static bool read_line(MuseHistory *h, const json_t *line) {
  double step = number(line, "step");
  const char *kind = json_string_value(json_object_get(line, "kind"));
  if (!(step >= 0 && step <= MAX_STEP) || !kind) return false;
  if (step > (double)h->step) h->step = (int64_t)step;
  if (muse_str_eq(kind, "train")) read_train(h, step, line);
  else if (muse_str_eq(kind, "validation")) read_validation(h, step, line);
  else if (muse_str_eq(kind, "mixture")) read_mixture(h, step, line);
  else if (muse_str_eq(kind, "trits")) read_trits(h, step, line);
  else if (muse_str_eq(kind, "start")) read_start(h, line);
  else if (muse_str_eq(kind, "sample")) add_text(&h->samples, step, line, "text");
  else if (muse_str_eq(kind, "advice")) add_text(&h->advice, step, line, "text");
  else if (muse_str_eq(kind, "bad")) add_text(&h->bad, step, line, "reason");
  else if (muse_str_eq(kind, "kernel") && h->kernels.len < MAX_KERNELS) {
    MuseReportKernel k = {text(line, "function"), text(line, "kernel"), count(line, "calls", 0),
                          number(line, "seconds")};
    muse_vec_push(&h->kernels, k);
  }
  return true;
}

MuseStatus muse_history_read(const char *path, MuseHistory *h, MuseDiag *diag) {
  *h = (MuseHistory){.last_step = -1, .best_validation = INFINITY};
  struct stat st;
  FILE *f = fopen(path, "r");
  if (!f || fstat(fileno(f), &st) != 0 || S_ISDIR(st.st_mode)) {
    int error = f ? EISDIR : errno;
    if (f) fclose(f);
    return muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s': %s; name the folder of a run (muse-run train -o RUN)",
                      path, strerror(error));
  }
  h->layers = calloc(MUSE_REPORT_MAX_LAYERS, sizeof *h->layers);
  if (!h->layers) muse_out_of_memory(MUSE_REPORT_MAX_LAYERS * sizeof *h->layers);
  char **texts[] = {&h->device, &h->config, &h->version, &h->plan};
  for (int i = 0; i < 4; i++) replace_text(texts[i], NULL, "");
  char *line = NULL;
  size_t capacity = 0;
  for (ssize_t n; (n = getline(&line, &capacity, f)) > 0;) {
    json_t *object = json_loadb(line, (size_t)n, 0, NULL);
    h->lines++;
    if (!json_is_object(object) || !read_line(h, object)) h->damaged++;
    json_decref(object);
  }
  free(line);
  bool failed = ferror(f);
  fclose(f);
  return failed ? muse_error(diag, MUSE_ERR_FAILED, "cannot read '%s' to its end", path) : MUSE_OK;
}

static void free_band(MuseBand *band) {
  muse_vec_free(&band->least);
  muse_vec_free(&band->mean);
  muse_vec_free(&band->greatest);
}

void muse_history_free(MuseHistory *h) {
  MusePoints *points[] = {&h->loss,      &h->smoothed, &h->validation, &h->bits, &h->learning_rate,
                          &h->grad_norm, &h->speed,    &h->memory};
  for (size_t i = 0; i < sizeof points / sizeof *points; i++) muse_vec_free(points[i]);
  MuseBand *bands[] = {&h->max_g, &h->min_eta, &h->kappa, &h->zeros};
  for (size_t i = 0; i < 4; i++) free_band(bands[i]);
  for (size_t i = 0; i < h->sets.len; i++) {
    free(h->sets.data[i].name);
    muse_vec_free(&h->sets.data[i].share);
  }
  for (size_t i = 0; i < h->samples.len; i++) free_text(&h->samples.data[i]);
  for (size_t i = 0; i < h->bad.len; i++) free_text(&h->bad.data[i]);
  for (size_t i = 0; i < h->advice.len; i++) free_text(&h->advice.data[i]);
  muse_vec_free(&h->advice);
  for (size_t i = 0; i < h->kernels.len; i++) {
    free(h->kernels.data[i].function);
    free(h->kernels.data[i].name);
  }
  muse_vec_free(&h->sets);
  muse_vec_free(&h->samples);
  muse_vec_free(&h->bad);
  muse_vec_free(&h->kernels);
  free(h->layers);
  free(h->device);
  free(h->config);
  free(h->version);
  free(h->plan);
  *h = (MuseHistory){0};
}
