// Choosing among the ways to compute a kernel: each is timed on this GPU, on memory of its own, and the fastest is kept
// in the cache under the GPU's name, so that later runs take the same without measuring.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"
#include "runtime/signals.h"

#include <stdlib.h>
#include <string.h>

static void choice_name(const MuseCudaExecutor *e, MuseStr *out) {
  muse_str_appendf(out, "fastest on %s with %d multiprocessors", e->device.name, e->device.multiprocessors);
}

MuseStatus muse_cuda_recall_choices(MuseCudaExecutor *e, MusePool *pool, const int *indices, int n, int *out_open,
                                    int *out_n_open, MuseDiag *diag) {
  MuseStr name = {0};
  choice_name(e, &name);
  *out_n_open = 0;
  for (int i = 0; i < n && !e->options.no_tune; i++) {
    int variants = muse_cuda_kernels_variants(e->kernels, indices[i]), chosen;
    if (variants < 2) continue;
    bool known = muse_cuda_kernels_recall(e->kernels, e->plan->kernels[indices[i]], muse_str_text(&name), &chosen);
    if (known && chosen >= 0 && chosen < variants) muse_cuda_kernels_choose(e->kernels, indices[i], chosen);
    else if (!muse_cuda_kernels_is_overridden(e->kernels, indices[i])) out_open[(*out_n_open)++] = indices[i];
  }
  muse_str_free(&name);
  return muse_cuda_kernels_emit(e->kernels, pool, indices, n, -1, diag);
}

// ---- timing ----

enum { REPEATS = 7, MAX_VALUES = 128 };

// Memory for one kernel, apart from the plan's: kernels may change their operands in place.
typedef struct Bed {
  CudaPointer memory[MAX_VALUES];
  int n;
} Bed;

// Floats become small numbers, indices and flags zero: what any kernel can take.
static unsigned char filling(MuseDtype dtype) {
  switch (dtype) {
  case MUSE_F64:
  case MUSE_F32:
  case MUSE_BF16:
  case MUSE_F16:
  case MUSE_I8: return 0x3c;
  default: return 0;
  }
}

static void destroy_bed(const MuseCudaExecutor *e, Bed *bed) {
  for (int i = 0; i < bed->n; i++)
    if (bed->memory[i]) e->cuda->memory_free(bed->memory[i]);
}

static bool add_memory(const MuseCudaExecutor *e, Bed *bed, size_t bytes, unsigned char value) {
  bed->memory[bed->n] = 0;
  if (bytes == 0) bytes = 1;
  if (e->cuda->memory_allocate(&bed->memory[bed->n++], bytes) != 0) return bed->memory[bed->n - 1] = 0, false;
  return e->cuda->fill_bytes(bed->memory[bed->n - 1], value, bytes) == 0;
}

// False when the GPU has no room for it beside what is there.
static bool create_bed(const MuseCudaExecutor *e, const MuseOp *kernel, size_t workspace, Bed *bed) {
  *bed = (Bed){.n = 0};
  if (kernel->n_operands + kernel->n_results + 1 > MAX_VALUES) return false;
  for (int i = 0; i < kernel->n_operands; i++)
    if (!add_memory(e, bed, (size_t)muse_type_bytes(kernel->operands[i]->type),
                    filling(kernel->operands[i]->type.dtype)))
      return false;
  for (int i = 0; i < kernel->n_results; i++)
    if (!add_memory(e, bed, (size_t)muse_type_bytes(kernel->results[i]->type), 0)) return false;
  // Filling is on another stream than the launches.
  return add_memory(e, bed, workspace, 0) && e->cuda->context_synchronize() == 0;
}

static int ascending(const void *a, const void *b) { return *(const float *)a < *(const float *)b ? -1 : 1; }

// Median milliseconds of a call; negative when it cannot be launched.
static float time_call(const MuseCudaExecutor *e, const MuseCudaCall *call, CudaEvent *start, CudaEvent *end) {
  const MuseCuda *cuda = e->cuda;
  float ms[REPEATS];
  for (int i = -2; i < REPEATS; i++) { // two to warm up
    if (cuda->event_record(start, e->compute) != 0 || muse_cuda_call_launch(call, false, e->compute, NULL) != MUSE_OK ||
        cuda->event_record(end, e->compute) != 0 || cuda->event_synchronize(end) != 0)
      return -1;
    if (i >= 0 && cuda->event_elapsed(&ms[i], start, end) != 0) return -1;
  }
  qsort(ms, REPEATS, sizeof *ms, ascending);
  return ms[REPEATS / 2];
}

static float time_variant(MuseCudaExecutor *e, int index, int variant, const Bed *bed, CudaEvent *start,
                          CudaEvent *end) {
  const MuseAttr *ids = muse_attr_find(&e->plan->kernels[index]->op->attrs, "rng_ids");
  int n_ids = ids ? ids->ints.len : 0;
  uint64_t *numbers = calloc((size_t)n_ids + 1, sizeof *numbers);
  MUSE_ASSERT(numbers != NULL);
  MuseCudaCall *call = NULL;
  float ms = -1;
  if (muse_cuda_call_create(muse_cuda_kernels_loaded(e->kernels, index, variant), bed->memory, bed->n, numbers, n_ids,
                            &call, NULL) == MUSE_OK)
    ms = time_call(e, call, start, end);
  muse_cuda_call_destroy(call);
  free(numbers);
  return ms;
}

// A later variant must be faster by more than measurements scatter.
static void choose_fastest(MuseCudaExecutor *e, int index, const char *name, CudaEvent *start, CudaEvent *end) {
  const MusePlanKernel *kernel = e->plan->kernels[index];
  int n = muse_cuda_kernels_variants(e->kernels, index), best = 0;
  size_t workspace = 0;
  for (int v = 0; v < n; v++) {
    size_t bytes = (size_t)muse_cuda_kernels_launches(e->kernels, index, v)->workspace_bytes;
    if (bytes > workspace) workspace = bytes;
  }
  Bed bed;
  float least = -1;
  if (create_bed(e, kernel->op, workspace, &bed)) {
    for (int v = 0; v < n; v++) {
      float ms = time_variant(e, index, v, &bed, start, end);
      if (ms >= 0 && (least < 0 || ms < 0.98f * least)) best = v, least = ms;
    }
  }
  destroy_bed(e, &bed);
  if (least < 0) return; // no room: the default, and nothing is kept
  muse_cuda_kernels_choose(e->kernels, index, best);
  muse_cuda_kernels_remember(e->kernels, kernel, name, best);
}

MuseStatus muse_cuda_tune(MuseCudaExecutor *e, MusePool *pool, const int *indices, int n, MuseDiag *diag) {
  int most = 0;
  if (n == 0) return MUSE_OK;
  for (int i = 0; i < n; i++) {
    int variants = muse_cuda_kernels_variants(e->kernels, indices[i]);
    if (variants > most) most = variants;
  }
  for (int v = 0; v < most; v++) {
    MUSE_TRY(muse_cuda_kernels_emit(e->kernels, pool, indices, n, v, diag));
    MUSE_TRY(muse_cuda_kernels_compile(e->kernels, pool, indices, n, v, diag));
    MUSE_TRY(muse_cuda_kernels_load(e->kernels, e->cuda, indices, n, v, diag));
  }
  MuseStr name = {0};
  CudaEvent *start = NULL, *end = NULL;
  choice_name(e, &name);
  int result = e->cuda->event_create(&start, 0);
  if (result == 0) result = e->cuda->event_create(&end, 0);
  for (int i = 0; i < n && result == 0 && !muse_stop_is_set(); i++)
    choose_fastest(e, indices[i], muse_str_text(&name), start, end);
  if (result == 0) result = e->cuda->stream_synchronize(e->compute);
  if (start) e->cuda->event_destroy(start);
  if (end) e->cuda->event_destroy(end);
  muse_str_free(&name);
  if (result == 0 && muse_stop_is_set()) return muse_stopped_preparing(diag);
  return muse_cuda_check(e->cuda, result, "timing kernels", diag);
}
