// Functions on a GPU kernel by kernel: with values that the host can read, or with times.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { CAPTURE_THIS_THREAD = 1, RECORD_EXTERNAL = 1 };

// ---- values ----

typedef struct Visitor {
  MuseCudaExecutor *e;
  const MusePlanCall *call;
  MuseDiag *diag;
  MuseStatus status; // of reading
} Visitor;

static CudaPointer place_pointer(const MuseCudaExecutor *e, MusePlace place) {
  if (place.kind == MUSE_PLACE_BUFFER) return muse_cuda_buffer(e, place.buffer);
  return place.kind == MUSE_PLACE_SLAB ? e->slab + (CudaPointer)place.offset : 0;
}

// Copies a value to the host; zeros when that fails, which the trace then reports.
static const void *value(const MuseKernelVisit *visit, int index) {
  Visitor *v = visit->device;
  MuseCudaExecutor *e = v->e;
  const MuseOp *k = visit->kernel;
  MuseType type = index < k->n_operands ? k->operands[index]->type : k->results[index - k->n_operands]->type;
  size_t bytes = (size_t)muse_type_bytes(type);
  if (bytes > e->scratch_bytes) {
    free(e->scratch);
    e->scratch_bytes = bytes;
    e->scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!e->scratch) muse_out_of_memory(bytes);
  }
  CudaPointer from = place_pointer(e, v->call->places[index]);
  MuseStatus status =
      from || bytes == 0 ? muse_cuda_transfer_read(e->transfer, e->scratch, from, bytes, v->diag) : MUSE_ERR_FAILED;
  if (status != MUSE_OK) {
    v->status = status;
    memset(e->scratch, 0, bytes);
  }
  return e->scratch;
}

MuseStatus muse_cuda_trace(MuseExecutor *base, int function, MuseKernelVisitFn before, MuseKernelVisitFn after,
                           void *context, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  const MuseCudaFunction *f = &e->functions[function];
  MUSE_TRY(muse_cuda_transfer_flush(e->transfer, diag));
  for (int c = 0; c < f->plan->n_calls; c++) {
    const MusePlanCall *call = &f->plan->calls[c];
    Visitor v = {.e = e, .call = call, .diag = diag};
    MuseKernelVisit visit = {.kernel = call->op,
                             .info = &call->kernel->info,
                             .call = c,
                             .kernel_index = call->kernel->index,
                             .value = value,
                             .device = &v};
    if (before && !before(context, &visit)) return v.status;
    MUSE_TRY(v.status);
    MUSE_TRY(muse_cuda_call_launch(f->calls[c], false, e->compute, diag));
    MuseStatus status = muse_cuda_transfer_wait(e->transfer, diag);
    if (status != MUSE_OK) {
      char name[24];
      muse_cuda_kernel_name(call->kernel, name);
      return muse_error(diag, status, "call %d of @%s, kernel %s (%s), failed on the GPU; --dump-kernels=DIR writes it",
                        c, f->plan->name, name, muse_op_text(call->op, "skeleton"));
    }
    if (after && !after(context, &visit)) return v.status;
    MUSE_TRY(v.status);
  }
  return MUSE_OK;
}

// ---- times ----

// Events between the calls are nodes of a graph, so the host's launching does not stretch small kernels.
static MuseStatus capture_timed(MuseCudaExecutor *e, MuseCudaFunction *f, MuseDiag *diag) {
  const MuseCuda *cuda = e->cuda;
  CudaGraph *graph = NULL;
  int n = f->plan->n_calls;
  MUSE_TRY(muse_cuda_check(cuda, cuda->capture_begin(e->compute, CAPTURE_THIS_THREAD), "recording a graph", diag));
  int result = cuda->event_record_flags(f->events[0], e->compute, RECORD_EXTERNAL);
  MuseStatus status = MUSE_OK;
  for (int c = 0; c < n && status == MUSE_OK && result == 0; c++) {
    status = muse_cuda_call_launch(f->calls[c], false, e->compute, diag);
    result = cuda->event_record_flags(f->events[c + 1], e->compute, RECORD_EXTERNAL);
  }
  int ended = cuda->capture_end(e->compute, &graph);
  if (status == MUSE_OK) status = muse_cuda_check(cuda, result ? result : ended, "recording a graph", diag);
  if (status == MUSE_OK)
    status = muse_cuda_check(cuda, cuda->graph_instantiate(&f->timed, graph, 0), "making a graph", diag);
  if (graph) cuda->graph_destroy(graph);
  return status;
}

static MuseStatus create_events(MuseCudaExecutor *e, MuseCudaFunction *f, MuseDiag *diag) {
  if (f->events) return MUSE_OK;
  f->events = calloc((size_t)f->plan->n_calls + 1, sizeof *f->events);
  MUSE_ASSERT(f->events != NULL);
  for (int c = 0; c <= f->plan->n_calls; c++)
    MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->event_create(&f->events[c], 0), "making events", diag));
  return MUSE_OK;
}

MuseStatus muse_cuda_time(MuseExecutor *base, int function, double *out_seconds, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  MuseCudaFunction *f = &e->functions[function];
  MUSE_TRY(create_events(e, f, diag));
  MUSE_TRY(muse_cuda_transfer_flush(e->transfer, diag));
  if (!f->timed) MUSE_TRY(capture_timed(e, f, diag));
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->graph_launch(f->timed, e->compute), "launching a graph", diag));
  MUSE_TRY(muse_cuda_transfer_wait(e->transfer, diag));
  for (int c = 0; c < f->plan->n_calls; c++) {
    float ms;
    MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->event_elapsed(&ms, f->events[c], f->events[c + 1]), "timing", diag));
    out_seconds[c] = 1e-3 * (double)ms;
  }
  return MUSE_OK;
}
