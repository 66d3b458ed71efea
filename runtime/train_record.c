// What a run writes down of itself, for `muse-run report` and TensorBoard.
#include "runtime/train_record.h"

#include "runtime/numerics.h"
#include "runtime/trit_counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_KERNELS = 30 }; // that are written down

static bool is_due(int64_t interval, uint64_t step) { return interval > 0 && step % (uint64_t)interval == 0; }

MuseStatus muse_record_start(MuseTraining *t, MuseDiag *diag) {
  if (!t->metrics || (t->state.step > 0 && (int64_t)t->state.step >= t->last_step)) return MUSE_OK; // nothing to do
  const MuseSession *s = &t->session;
  if (muse_attr_bool_or(&s->module->attrs, "tensorboard", false)) {
    MuseEvents *events;
    MUSE_TRY(muse_events_open(t->run_dir, t->state.step ? (int64_t)t->state.step : -1, &events, diag));
    muse_metrics_mirror(t->metrics, events);
  }
  MuseExecutorStats stats = muse_executor_stats(s->executor);
  MuseStr device = {0};
  muse_executor_describe(s->executor, &device);
  muse_metrics_begin(t->metrics, (int64_t)t->state.step, "start");
  muse_metrics_text(t->metrics, "device", muse_str_text(&device));
  muse_metrics_text(t->metrics, "version", MUSE_VERSION);
  muse_metrics_text(t->metrics, "plan", s->path);
  muse_metrics_int(t->metrics, "parameters", muse_attr_int_or(&s->module->attrs, "parameters", 0));
  muse_metrics_int(t->metrics, "last_step", t->last_step);
  muse_metrics_int(t->metrics, "tokens_per_step", s->accumulation * s->batch * s->n_seq);
  muse_metrics_int(t->metrics, "planned_bytes", stats.buffer_bytes + stats.slab_bytes);
  muse_metrics_text(t->metrics, "config", t->state.config_text ? t->state.config_text : "");
  muse_str_free(&device);
  return muse_metrics_end(t->metrics, NULL, diag);
}

MuseStatus muse_record_reports(MuseTraining *t, MuseDiag *diag) {
  const MuseSession *s = &t->session;
  float data[1024];
  double values[1024];
  muse_metrics_int(t->metrics, "memory_bytes", (int64_t)muse_process_memory());
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    bool max_g2 = muse_str_starts_with(b->name, "lap.max_g2.");
    if (b->type.dtype != MUSE_F32 ||
        !(max_g2 || muse_str_starts_with(b->name, "lap.min_eta.") || muse_str_starts_with(b->name, "mourre.kappa.")))
      continue;
    int64_t n = muse_type_elements(b->type);
    if (n > 1024) n = 1024;
    MUSE_TRY(muse_executor_read(s->executor, b, 0, data, (size_t)n * sizeof *data, diag));
    MuseStr key = {0};
    if (max_g2) muse_str_appendf(&key, "lap.max_g.%s", b->name + strlen("lap.max_g2."));
    else muse_str_append(&key, b->name);
    for (int64_t j = 0; j < n; j++) values[j] = max_g2 ? sqrt((double)data[j]) : (double)data[j];
    if (b->type.rank == 0) muse_metrics_real(t->metrics, key.data, values[0]);
    else muse_metrics_reals(t->metrics, key.data, values, n);
    muse_str_free(&key);
  }
  return MUSE_OK;
}

// Shares asked for and reached so far, and how often each set has been gone through.
static MuseStatus record_mixture(MuseTraining *t, MuseDiag *diag) {
  int n = muse_data_n_sets(t->data);
  if (n == 0) return MUSE_OK; // ready batches
  muse_metrics_begin(t->metrics, (int64_t)t->state.step, "mixture");
  for (int i = 0; i < n; i++) {
    static const char *const fields[] = {"target", "share", "epochs"};
    MuseDataSetReport r = muse_data_report(t->data, &t->state.cursor, i);
    double values[] = {r.target, r.achieved, r.epochs};
    for (int f = 0; f < 3; f++) {
      MuseStr key = {0};
      muse_str_appendf(&key, "%s.%s", fields[f], r.name);
      muse_metrics_real(t->metrics, key.data, values[f]);
      muse_str_free(&key);
    }
  }
  return muse_metrics_end(t->metrics, NULL, diag);
}

static MuseStatus record_trits(MuseTraining *t, MuseDiag *diag) {
  const MuseSession *s = &t->session;
  bool any;
  int64_t(*counts)[3] = calloc((size_t)s->n_layers, sizeof *counts);
  if (!counts) muse_out_of_memory((size_t)s->n_layers * sizeof *counts);
  MuseStatus status = muse_session_count_trits(s, counts, &any, diag);
  if (status == MUSE_OK && any) {
    muse_metrics_begin(t->metrics, (int64_t)t->state.step, "trits");
    for (int64_t layer = 0; layer < s->n_layers; layer++) {
      char key[32];
      snprintf(key, sizeof key, "trits.%lld", (long long)layer);
      muse_metrics_trits(t->metrics, key, counts[layer]);
    }
    status = muse_metrics_end(t->metrics, NULL, diag);
  }
  free(counts);
  return status;
}

MuseStatus muse_record_state(MuseTraining *t, bool last, MuseDiag *diag) {
  const MuseTrainHabits *h = &t->habits;
  uint64_t step = t->state.step;
  if (!t->metrics) return MUSE_OK;
  if (step == 1 || last || is_due(h->log_interval, step)) MUSE_TRY(record_mixture(t, diag));
  int64_t interval = h->eval_interval > 0 ? h->eval_interval : h->save_interval;
  return step == 1 || last || is_due(interval, step) ? record_trits(t, diag) : MUSE_OK;
}

// ---- kernels ----

typedef struct Kernel {
  const char *function;
  const MuseOp *op; // of its first call
  int index, calls;
  double seconds;   // of all its calls in a step
} Kernel;

static int slowest_first(const void *a, const void *b) {
  const Kernel *x = a, *y = b;
  return x->seconds > y->seconds ? -1 : x->seconds < y->seconds;
}

// Adds the kernels of a function, which a step runs `times` times.
static MuseStatus time_function(MuseTraining *t, const char *function, int64_t times, Kernel **kernels, size_t *n,
                                MuseDiag *diag) {
  const MusePlanFunc *f = muse_plan_func(t->session.plan, function);
  if (!f || f->n_calls == 0) return MUSE_OK;
  double *seconds = calloc((size_t)f->n_calls, sizeof *seconds);
  Kernel *all = realloc(*kernels, (*n + (size_t)f->n_calls) * sizeof *all);
  if (!seconds || !all) muse_out_of_memory((size_t)f->n_calls * sizeof *all);
  *kernels = all;
  MuseStatus status = muse_executor_time(t->session.executor, function, seconds, diag);
  size_t first = *n;
  for (int c = 0; c < f->n_calls && status == MUSE_OK; c++) {
    size_t k = first;
    while (k < *n && all[k].index != f->calls[c].kernel->index) k++;
    if (k == *n)
      all[(*n)++] = (Kernel){.function = f->name, .op = f->calls[c].op, .index = f->calls[c].kernel->index};
    all[k].calls += (int)times;
    all[k].seconds += (double)times * seconds[c];
  }
  free(seconds);
  return status;
}

MuseStatus muse_record_kernels(MuseTraining *t, MuseDiag *diag) {
  bool at_end = (int64_t)t->state.step >= t->last_step && (int64_t)t->state.step > t->started_at;
  if (!t->metrics || !at_end) return MUSE_OK;
  Kernel *kernels = NULL;
  size_t n = 0;
  MuseStatus status = MUSE_OK;
  for (int i = 0; muse_step_functions[i] && status == MUSE_OK; i++) {
    const char *function = muse_step_functions[i];
    if (muse_str_eq(function, "setup") || muse_str_eq(function, "pack")) continue; // not of a step
    int64_t times = muse_str_eq(function, "grad") ? t->session.accumulation : 1;
    status = time_function(t, function, times, &kernels, &n, diag);
  }
  if (n) qsort(kernels, n, sizeof *kernels, slowest_first);
  for (size_t i = 0; i < n && i < N_KERNELS && status == MUSE_OK; i++) {
    MuseStr what = {0};
    muse_kernel_describe(kernels[i].op, &what);
    const char *comma = strchr(muse_str_text(&what), ','); // "layer 5, ...": the layer of one call is not that of all
    bool of_layers = kernels[i].calls > 1 && comma && muse_str_starts_with(what.data, "layer ");
    muse_metrics_begin(t->metrics, (int64_t)t->state.step, "kernel");
    muse_metrics_text(t->metrics, "function", kernels[i].function);
    muse_metrics_text(t->metrics, "kernel", of_layers ? comma + 2 : muse_str_text(&what));
    muse_metrics_int(t->metrics, "calls", kernels[i].calls);
    muse_metrics_real(t->metrics, "seconds", kernels[i].seconds);
    status = muse_metrics_end(t->metrics, NULL, diag);
    muse_str_free(&what);
  }
  free(kernels);
  return status;
}
