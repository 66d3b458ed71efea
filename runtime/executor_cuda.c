// The executor on an NVIDIA GPU: buffers, slab and workspaces lie in its memory. At its first run the calls of a
// function follow each other on one stream in the order of the plan; from its second run on it is one CUDA graph, in
// which calls that do not depend on each other may run side by side. Numbers that change from run to run (learning
// rate, seeds, tokens) lie in buffers, so a graph never changes. See docs/cuda.md.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { CAPTURE_THIS_THREAD = 1, NON_BLOCKING = 1, NO_TIMING = 2 };

static void forget_graph(const MuseCudaExecutor *e, CudaGraphExec **graph) {
  if (*graph) e->cuda->graph_exec_destroy(*graph);
  *graph = NULL;
}

void muse_cuda_unbind(MuseCudaExecutor *e, MuseCudaFunction *f) {
  if (!f->calls) return;
  for (int c = 0; c < f->plan->n_calls; c++) muse_cuda_call_destroy(f->calls[c]);
  free(f->calls);
  f->calls = NULL;
  muse_schedule_destroy(f->schedule);
  f->schedule = NULL;
  f->runs = 0;
  forget_graph(e, &f->graph);
  forget_graph(e, &f->timed);
}

static void destroy_functions(MuseCudaExecutor *e) {
  for (int i = 0; e->functions && i < e->plan->n_funcs; i++) {
    MuseCudaFunction *f = &e->functions[i];
    muse_cuda_unbind(e, f);
    for (int c = 0; f->events && c <= f->plan->n_calls; c++)
      if (f->events[c]) e->cuda->event_destroy(f->events[c]);
    free(f->events);
  }
}

static void destroy(MuseExecutor *base) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  if (e->context) {
    e->cuda->context_set(e->context);
    e->cuda->context_synchronize();
    destroy_functions(e);
    muse_cuda_kernels_destroy(e->kernels);
    muse_cuda_transfer_destroy(e->transfer);
    for (int g = 0; g < MUSE_CUDA_GROUPS; g++)
      if (e->group[g].memory) e->cuda->memory_free(e->group[g].memory);
    if (e->slab) e->cuda->memory_free(e->slab);
    if (e->workspace) e->cuda->memory_free(e->workspace);
    for (int i = 0; i < MUSE_MAX_STREAMS; i++)
      if (e->side[i]) e->cuda->stream_destroy(e->side[i]);
    e->cuda->context_release(e->device.handle);
  }
  free(e->functions);
  free(e->group_of);
  free(e->offset_of);
  free(e->scratch);
  free(e);
}

static MuseExecutorStats stats(const MuseExecutor *base) {
  const MuseCudaExecutor *e = (const MuseCudaExecutor *)base;
  MuseExecutorStats s = {.slab_bytes = (int64_t)(e->slab_bytes + e->workspace_bytes * (size_t)e->n_workspaces)};
  for (int g = 0; g < MUSE_CUDA_GROUPS; g++)
    if (e->group[g].memory) s.buffer_bytes += (int64_t)e->group[g].bytes;
  muse_cuda_kernels_counts(e->kernels, &s.compiled, &s.cached, &s.compile_seconds);
  s.kernels = s.compiled + s.cached;
  return s;
}

static void describe(const MuseExecutor *base, MuseStr *out) {
  const MuseCudaExecutor *e = (const MuseCudaExecutor *)base;
  char arch[24];
  muse_cuda_target_name(muse_cuda_kernels_target(e->kernels), false, arch);
  muse_str_appendf(out, "%s, %s", e->device.name, arch);
}

// ---- buffers ----

CudaPointer muse_cuda_buffer(const MuseCudaExecutor *e, int buffer) {
  const MuseCudaGroup *g = &e->group[e->group_of[buffer]];
  return g->memory ? g->memory + e->offset_of[buffer] : 0;
}

// A buffer that no prepared function uses, but the host does, is taken now.
static MuseStatus place(MuseCudaExecutor *e, int buffer, CudaPointer *out, MuseDiag *diag) {
  if (!muse_cuda_buffer(e, buffer)) MUSE_TRY(muse_cuda_take_group(e, &e->group[e->group_of[buffer]], diag));
  *out = muse_cuda_buffer(e, buffer);
  return MUSE_OK;
}

static MuseStatus write_buffer(MuseExecutor *base, int buffer, int64_t offset, const void *data, size_t bytes,
                               MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  CudaPointer p;
  MUSE_TRY(place(e, buffer, &p, diag));
  return muse_cuda_transfer_write(e->transfer, p + (CudaPointer)offset, data, bytes, diag);
}

static MuseStatus read_buffer(MuseExecutor *base, int buffer, int64_t offset, void *out, size_t bytes,
                              MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  CudaPointer p;
  MUSE_TRY(place(e, buffer, &p, diag));
  return muse_cuda_transfer_read(e->transfer, out, p + (CudaPointer)offset, bytes, diag);
}

static MuseStatus fetch(MuseExecutor *base, int buffer, void *out, size_t bytes, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  CudaPointer p;
  MUSE_TRY(place(e, buffer, &p, diag));
  return muse_cuda_transfer_fetch(e->transfer, out, p, bytes, diag);
}

static MuseStatus wait_for_all(MuseExecutor *base, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  MUSE_TRY(muse_cuda_transfer_flush(e->transfer, diag));
  return muse_cuda_transfer_wait(e->transfer, diag);
}

// Neighbours together: buffers of one role lie one behind the other.
static MuseStatus zero(MuseExecutor *base, const char *role, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  MUSE_TRY(muse_cuda_transfer_flush(e->transfer, diag));
  CudaPointer start = 0, end = 0;
  for (int i = 0; i <= e->plan->module->n_buffers; i++) {
    const MuseBuffer *b = i < e->plan->module->n_buffers ? e->plan->module->buffers[i] : NULL;
    if (b && strcmp(b->role, role) != 0) continue;
    CudaPointer p = b ? muse_cuda_buffer(e, i) : 0;
    if (b && !p) continue; // never taken, so nothing reads it
    if (end && (!b || p < end || p > end + 64)) {
      MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->fill_later(start, 0, (size_t)(end - start), e->compute),
                               "clearing buffers", diag));
      end = 0;
    }
    if (!b) break;
    if (!end) start = p;
    end = p + (CudaPointer)muse_type_bytes(b->type);
  }
  return MUSE_OK;
}

// One after another.
MuseStatus muse_cuda_launch_calls(const MuseCudaExecutor *e, const MuseCudaFunction *f, MuseDiag *diag) {
  for (int c = 0; c < f->plan->n_calls; c++) MUSE_TRY(muse_cuda_call_launch(f->calls[c], c > 0, e->compute, diag));
  return MUSE_OK;
}

// ---- graphs ----

// While a graph is recorded, streams and events only say what depends on what.
typedef struct Recording {
  MuseCudaExecutor *e;
  MuseCudaFunction *f;
  CudaEvent **done; // by call; NULL where nobody waits
  CudaEvent *fork;
} Recording;

static MuseStatus check(const Recording *r, int result, MuseDiag *diag) {
  return muse_cuda_check(r->e->cuda, result, "recording a graph", diag);
}

static MuseStatus record_call(Recording *r, int c, MuseDiag *diag) {
  const MuseCuda *cuda = r->e->cuda;
  const MuseSchedule *schedule = r->f->schedule;
  CudaStream *stream = r->e->side[muse_schedule_stream(schedule, c)];
  int waits[MUSE_MAX_STREAMS], n = muse_schedule_waits(schedule, c, waits);
  for (int i = 0; i < n; i++) MUSE_TRY(check(r, cuda->stream_wait(stream, r->done[waits[i]], 0), diag));
  MUSE_TRY(muse_cuda_call_launch(r->f->calls[c], r->e->n_streams == 1 && c > 0, stream, diag));
  if (!muse_schedule_is_awaited(schedule, c)) return MUSE_OK;
  MUSE_TRY(check(r, cuda->event_create(&r->done[c], NO_TIMING), diag));
  return check(r, cuda->event_record(r->done[c], stream), diag);
}

static MuseStatus record_calls(Recording *r, MuseDiag *diag) {
  MuseCudaExecutor *e = r->e;
  const MuseCuda *cuda = e->cuda;
  MUSE_TRY(check(r, cuda->event_create(&r->fork, NO_TIMING), diag));
  MUSE_TRY(check(r, cuda->event_record(r->fork, e->compute), diag));
  for (int s = 1; s < e->n_streams; s++) MUSE_TRY(check(r, cuda->stream_wait(e->side[s], r->fork, 0), diag));
  for (int c = 0; c < r->f->plan->n_calls; c++) MUSE_TRY(record_call(r, c, diag));
  for (int s = 1; s < e->n_streams; s++) { // all come together again
    MUSE_TRY(check(r, cuda->event_record(r->fork, e->side[s]), diag));
    MUSE_TRY(check(r, cuda->stream_wait(e->compute, r->fork, 0), diag));
  }
  return MUSE_OK;
}

static MuseStatus capture(MuseCudaExecutor *e, MuseCudaFunction *f, MuseDiag *diag) {
  const MuseCuda *cuda = e->cuda;
  CudaGraph *graph = NULL;
  Recording r = {.e = e, .f = f, .done = calloc((size_t)f->plan->n_calls + 1, sizeof(CudaEvent *))};
  MUSE_ASSERT(r.done != NULL);
  MuseStatus status = check(&r, cuda->capture_begin(e->compute, CAPTURE_THIS_THREAD), diag);
  if (status == MUSE_OK) {
    status = record_calls(&r, diag);
    int result = cuda->capture_end(e->compute, &graph);
    if (status == MUSE_OK) status = check(&r, result, diag);
  }
  if (status == MUSE_OK)
    status = muse_cuda_check(cuda, cuda->graph_instantiate(&f->graph, graph, 0), "making a graph", diag);
  if (graph) cuda->graph_destroy(graph);
  for (int c = 0; c < f->plan->n_calls; c++)
    if (r.done[c]) cuda->event_destroy(r.done[c]);
  if (r.fork) cuda->event_destroy(r.fork);
  free(r.done);
  return status;
}

// ---- running ----

static MuseStatus run(MuseExecutor *base, int function, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  MuseCudaFunction *f = &e->functions[function];
  MUSE_TRY(muse_cuda_transfer_flush(e->transfer, diag));
  if (f->runs++ == 0 || f->plan->n_calls < 2) return muse_cuda_launch_calls(e, f, diag);
  if (!f->graph) MUSE_TRY(capture(e, f, diag));
  return muse_cuda_check(e->cuda, e->cuda->graph_launch(f->graph, e->compute), "launching a graph", diag);
}

// ---- creation ----

static const MuseDeviceFunctions functions = {.destroy = destroy,
                                              .stats = stats,
                                              .describe = describe,
                                              .prepare = muse_cuda_prepare,
                                              .run = run,
                                              .write = write_buffer,
                                              .read = read_buffer,
                                              .fetch = fetch,
                                              .wait = wait_for_all,
                                              .zero = zero,
                                              .snapshot = muse_cuda_snapshot,
                                              .trace = muse_cuda_trace,
                                              .try_kernel = muse_cuda_try,
                                              .time = muse_cuda_time,
                                              .peaks = muse_cuda_peaks};

static MuseStatus start_gpu(MuseCudaExecutor *e, int index, MuseDiag *diag) {
  MUSE_TRY(muse_cuda_open(&e->cuda, diag));
  MUSE_TRY(muse_cuda_device(e->cuda, index, &e->device, diag));
  if (e->device.arch < 75)
    return muse_error(diag, MUSE_ERR_FAILED, "GPU %d (%s) is of architecture sm_%d; MUSE needs sm_75 or newer", index,
                      e->device.name, e->device.arch);
  MuseCudaKernelsOptions ko = {.target = muse_cuda_target_of(e->device.arch),
                               .driver_version = e->cuda->version,
                               .nvrtc = e->options.nvrtc,
                               .cache_dir = e->options.cache_dir,
                               .dump_dir = e->options.dump_dir,
                               .override_dir = e->options.override_dir,
                               .no_cache = e->options.no_cache,
                               .quiet = e->options.quiet};
  MUSE_TRY(muse_cuda_kernels_create(e->plan, &ko, &e->kernels, diag));
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->context_retain(&e->context, e->device.handle), "opening the GPU", diag));
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->context_set(e->context), "opening the GPU", diag));
  for (int i = 0; i < e->n_streams; i++)
    MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->stream_create(&e->side[i], NON_BLOCKING), "opening the GPU", diag));
  e->compute = e->side[0];
  return muse_cuda_transfer_create(e->cuda, e->compute, &e->transfer, diag);
}

MuseStatus muse_executor_create_cuda(const MusePlan *plan, const MuseExecutorOptions *options, int index,
                                     MuseExecutor **out, MuseDiag *diag) {
  MuseCudaExecutor *e = calloc(1, sizeof *e);
  MUSE_ASSERT(e != NULL);
  e->base.device = &functions;
  e->base.threads = options->threads ? options->threads : muse_available_cores();
  e->plan = plan;
  e->options = *options;
  e->n_streams = options->streams ? options->streams : MUSE_DEFAULT_STREAMS;
  e->functions = calloc((size_t)plan->n_funcs + 1, sizeof *e->functions);
  MUSE_ASSERT(e->functions != NULL);
  for (int i = 0; i < plan->n_funcs; i++) e->functions[i].plan = &plan->funcs[i];
  muse_cuda_lay_out(e);
  MuseStatus status = start_gpu(e, index, diag);
  if (status != MUSE_OK) {
    if (!e->context) muse_cuda_kernels_destroy(e->kernels);
    destroy(&e->base);
    return status;
  }
  *out = &e->base;
  return MUSE_OK;
}
