// What executors of all devices have in common: looking things up, and the way to the device.
#include "runtime/executor.h"

#include "runtime/executor_device.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

MuseStatus muse_device_parse(const char *text, bool *out_cuda, int *out_index, MuseDiag *diag) {
  *out_cuda = false;
  *out_index = 0;
  if (!text || strcmp(text, "cpu") == 0) return MUSE_OK;
  *out_cuda = true;
  if (strcmp(text, "cuda") == 0) return MUSE_OK;
  if (strncmp(text, "cuda:", 5) == 0 && isdigit((unsigned char)text[5]) && strlen(text + 5) <= 3) {
    char *end;
    *out_index = (int)strtol(text + 5, &end, 10);
    if (*end == 0) return MUSE_OK;
  }
  return muse_error(diag, MUSE_ERR_INPUT, "--device takes cpu, cuda or cuda:N (the GPU's number), not '%s'", text);
}

MuseStatus muse_executor_create(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out_executor,
                                MuseDiag *diag) {
  static const MuseExecutorOptions defaults = {0};
  bool cuda;
  int index;
  if (!options) options = &defaults;
  MUSE_TRY(muse_device_parse(options->device, &cuda, &index, diag));
  MUSE_TRY(cuda ? muse_executor_create_cuda(plan, options, index, out_executor, diag)
                : muse_executor_create_cpu(plan, options, out_executor, diag));
  MuseExecutor *e = *out_executor;
  e->plan = plan;
  e->prepared = calloc((size_t)plan->n_funcs + 1, sizeof *e->prepared);
  e->released = calloc((size_t)plan->module->n_buffers + 1, sizeof *e->released);
  MUSE_ASSERT(e->prepared && e->released);
  return MUSE_OK;
}

void muse_executor_destroy(MuseExecutor *e) {
  if (!e) return;
  free(e->prepared);
  free(e->released);
  e->device->destroy(e);
}

MuseExecutorStats muse_executor_stats(const MuseExecutor *e) { return e->device->stats(e); }
int muse_executor_threads(const MuseExecutor *e) { return e->threads; }
void muse_executor_describe(const MuseExecutor *e, MuseStr *out) { e->device->describe(e, out); }

// ---- functions ----

static int find(const MuseExecutor *e, const char *name) {
  for (int i = 0; i < e->plan->n_funcs; i++)
    if (strcmp(e->plan->funcs[i].name, name) == 0) return i;
  return -1;
}

bool muse_executor_has_function(const MuseExecutor *e, const char *function) { return find(e, function) >= 0; }

int muse_executor_kernels(const MusePlan *plan, const int *functions, int n, int *out) {
  bool *wanted = calloc((size_t)plan->n_kernels + 1, sizeof *wanted);
  int count = 0;
  MUSE_ASSERT(wanted != NULL);
  for (int i = 0; i < n; i++) {
    const MusePlanFunc *f = &plan->funcs[functions[i]];
    for (int c = 0; c < f->n_calls; c++) {
      int k = f->calls[c].kernel->index;
      if (!wanted[k]) out[count++] = k;
      wanted[k] = true;
    }
  }
  free(wanted);
  return count;
}

static bool binds(const MusePlanFunc *f, int buffer) {
  for (int i = 0; i < f->func->body.n_args; i++)
    if (f->args[i].kind == MUSE_PLACE_BUFFER && f->args[i].buffer == buffer) return true;
  for (int i = 0; i < f->func->n_results; i++)
    if (f->results[i].kind == MUSE_PLACE_BUFFER && f->results[i].buffer == buffer) return true;
  return false;
}

bool muse_executor_uses(const MuseExecutor *e, const MuseBuffer *buffer, const char *but) {
  for (int i = 0; i < e->plan->n_funcs; i++) {
    if (!e->prepared[i] || (but && strcmp(e->plan->funcs[i].name, but) == 0)) continue;
    if (binds(&e->plan->funcs[i], buffer->index)) return true;
  }
  return false;
}

static MuseStatus check_released(const MuseExecutor *e, int function, MuseDiag *diag) {
  for (int b = 0; b < e->plan->module->n_buffers; b++)
    if (e->released[b] && !e->prepared[function] && binds(&e->plan->funcs[function], b))
      return muse_error(diag, MUSE_ERR_FAILED, "function @%s needs '%s', whose memory has been given back",
                        e->plan->funcs[function].name, e->plan->module->buffers[b]->name);
  return MUSE_OK;
}

MuseStatus muse_executor_prepare(MuseExecutor *e, const char *const *functions, int n, MuseDiag *diag) {
  int *indices = calloc((size_t)n + 1, sizeof *indices);
  MUSE_ASSERT(indices != NULL);
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < n && status == MUSE_OK; i++) {
    indices[i] = find(e, functions[i]);
    if (indices[i] < 0)
      status = muse_error(diag, MUSE_ERR_INPUT, "the plan has no function @%s; compile it again with musec",
                          functions[i]);
    else status = check_released(e, indices[i], diag);
  }
  if (status == MUSE_OK) status = e->device->prepare(e, indices, n, diag);
  for (int i = 0; i < n && status == MUSE_OK; i++) e->prepared[indices[i]] = true;
  free(indices);
  return status;
}

static MuseStatus prepared(MuseExecutor *e, const char *function, int *out_function, MuseDiag *diag) {
  *out_function = find(e, function);
  if (*out_function >= 0 && e->prepared[*out_function]) return MUSE_OK;
  return muse_executor_prepare(e, &function, 1, diag);
}

MuseStatus muse_executor_run(MuseExecutor *e, const char *function, MuseDiag *diag) {
  int f;
  MUSE_TRY(prepared(e, function, &f, diag));
  return e->device->run(e, f, diag);
}

bool muse_executor_can_run_calls(const MuseExecutor *e) { return e->device->run_calls != NULL; }

MuseStatus muse_executor_run_calls(MuseExecutor *e, const char *function, int first, int n, MuseDiag *diag) {
  int f;
  MUSE_TRY(prepared(e, function, &f, diag));
  MUSE_ASSERT(first >= 0 && n >= 0 && first + n <= e->plan->funcs[f].n_calls);
  return e->device->run_calls(e, f, first, n, diag);
}

// ---- buffers ----

static void check_bounds(const MuseBuffer *buffer, int64_t offset, size_t bytes) {
  int64_t size = muse_type_bytes(buffer->type);
  MUSE_ASSERT(offset >= 0 && offset <= size && bytes <= (size_t)(size - offset));
}

MuseStatus muse_executor_write(MuseExecutor *e, const MuseBuffer *buffer, int64_t offset, const void *data,
                               size_t bytes, MuseDiag *diag) {
  check_bounds(buffer, offset, bytes);
  return e->device->write(e, buffer->index, offset, data, bytes, diag);
}

MuseStatus muse_executor_read(MuseExecutor *e, const MuseBuffer *buffer, int64_t offset, void *out, size_t bytes,
                              MuseDiag *diag) {
  check_bounds(buffer, offset, bytes);
  return e->device->read(e, buffer->index, offset, out, bytes, diag);
}

MuseStatus muse_executor_fetch(MuseExecutor *e, const MuseBuffer *buffer, void *out, size_t bytes, MuseDiag *diag) {
  check_bounds(buffer, 0, bytes);
  MUSE_ASSERT(bytes <= 4096);
  return e->device->fetch(e, buffer->index, out, bytes, diag);
}

MuseStatus muse_executor_wait(MuseExecutor *e, MuseDiag *diag) { return e->device->wait(e, diag); }

void muse_executor_release(MuseExecutor *e, const MuseBuffer *buffer) {
  e->released[buffer->index] = true;
  if (e->device->release) e->device->release(e, buffer->index);
}

MuseStatus muse_executor_zero(MuseExecutor *e, const char *role, MuseDiag *diag) {
  return e->device->zero(e, role, diag);
}

void *muse_executor_host(MuseExecutor *e, const MuseBuffer *buffer) {
  return e->device->host ? e->device->host(e, buffer->index) : NULL;
}

MuseStatus muse_executor_snapshot(MuseExecutor *e, const MuseBuffer *const *buffers, int n, MuseSnapshot **out,
                                  MuseDiag *diag) {
  MUSE_ASSERT(e->device->snapshot != NULL);
  int *indices = calloc((size_t)n + 1, sizeof *indices);
  MUSE_ASSERT(indices != NULL);
  for (int i = 0; i < n; i++) indices[i] = buffers[i]->index;
  MuseStatus status = e->device->snapshot(e, indices, n, out, diag);
  free(indices);
  return status;
}

MuseStatus muse_snapshot_read(MuseSnapshot *s, int index, int64_t offset, void *out, size_t bytes, MuseDiag *diag) {
  return s->read(s, index, offset, out, bytes, diag);
}

void muse_snapshot_destroy(MuseSnapshot *s) {
  if (s) s->destroy(s);
}

// ---- kernel by kernel ----

MuseStatus muse_executor_trace(MuseExecutor *e, const char *function, MuseKernelVisitFn before, MuseKernelVisitFn after,
                               void *context, MuseDiag *diag) {
  int f;
  MUSE_TRY(prepared(e, function, &f, diag));
  return e->device->trace(e, f, before, after, context, diag);
}

const void *muse_visit_operand(const MuseKernelVisit *visit, int operand) { return visit->value(visit, operand); }

const void *muse_visit_result(const MuseKernelVisit *visit, int result) {
  return visit->value(visit, visit->kernel->n_operands + result);
}

bool muse_executor_can_try(const MuseExecutor *e) { return e->device->try_kernel != NULL; }

MuseStatus muse_executor_try(MuseExecutor *e, const MuseOp *kernel, const void *const *operands, void *const *results,
                             MuseDiag *diag) {
  return e->device->try_kernel(e, kernel, operands, results, diag);
}

MuseStatus muse_executor_time(MuseExecutor *e, const char *function, double *out_seconds, MuseDiag *diag) {
  int f;
  MUSE_TRY(prepared(e, function, &f, diag));
  return e->device->time(e, f, out_seconds, diag);
}

MuseStatus muse_executor_peaks(MuseExecutor *e, MusePeaks *out, MuseDiag *diag) {
  return e->device->peaks(e, out, diag);
}
