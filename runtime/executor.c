// The executor on the CPU: resolves every operand of every call to a pointer once, then runs stages on the thread pool.
#include "runtime/executor.h"

#include "runtime/cpu_kernels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef struct Call {
  const MusePlanCall *plan;
  const MuseKernelFn *stage;
  void **pointers; // operands, results, workspace, rng ids: what the machine functions take
} Call;

typedef struct Function {
  const MusePlanFunc *plan;
  Call *calls; // NULL until prepared
} Function;

struct MuseExecutor {
  const MusePlan *plan;
  MusePool *pool;
  MuseCpuKernels *kernels;
  void **buffers;      // by buffer index
  void *buffer_memory; // all of them
  size_t buffer_bytes;
  void *slab;
  size_t slab_bytes;
  Function *functions;
  unsigned char *scratch; // n_threads pieces
  size_t scratch_bytes;   // of one piece
};

enum { ALIGN = 64 };

static size_t align_up(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

// Zeroed memory that is not touched before it is used; large pages where the system has them.
static MuseStatus take_memory(size_t bytes, const char *what, void **out_memory, MuseDiag *diag) {
  *out_memory = NULL;
  if (bytes == 0) return MUSE_OK;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    MuseStr size = {0};
    muse_str_append_bytes(&size, bytes);
    MuseStatus status = muse_error(
        diag, MUSE_ERR_NO_FIT, "%s of %s cannot be allocated (%s); use a smaller config, or use_gradient_checkpointing",
        what, muse_str_text(&size), strerror(errno));
    muse_str_free(&size);
    return status;
  }
  madvise(p, bytes, MADV_HUGEPAGE);
  *out_memory = p;
  return MUSE_OK;
}

static MuseStatus take_buffers(MuseExecutor *e, MuseDiag *diag) {
  const MuseModule *m = e->plan->module;
  for (int i = 0; i < m->n_buffers; i++) e->buffer_bytes += align_up((size_t)muse_type_bytes(m->buffers[i]->type));
  MUSE_TRY(take_memory(e->buffer_bytes, "memory for the tensors of the plan", &e->buffer_memory, diag));
  size_t at = 0;
  for (int i = 0; i < m->n_buffers; i++) {
    e->buffers[i] = (unsigned char *)e->buffer_memory + at;
    at += align_up((size_t)muse_type_bytes(m->buffers[i]->type));
  }
  return MUSE_OK;
}

MuseStatus muse_executor_create(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out_executor,
                                MuseDiag *diag) {
  static const MuseExecutorOptions defaults = {0};
  if (!options) options = &defaults;
  MuseExecutor *e = calloc(1, sizeof *e);
  MUSE_ASSERT(e != NULL);
  e->plan = plan;
  e->functions = calloc((size_t)plan->n_funcs + 1, sizeof *e->functions);
  e->buffers = calloc((size_t)plan->module->n_buffers + 1, sizeof *e->buffers);
  MUSE_ASSERT(e->functions && e->buffers);
  for (int i = 0; i < plan->n_funcs; i++) {
    e->functions[i].plan = &plan->funcs[i];
    if ((size_t)plan->funcs[i].slab_bytes > e->slab_bytes) e->slab_bytes = (size_t)plan->funcs[i].slab_bytes;
  }
  MuseCpuKernelsOptions kernels = {options->cpu_level, options->cache_dir, options->no_cache, options->quiet};
  MuseStatus status = muse_pool_create(options->threads, &e->pool, diag);
  if (status == MUSE_OK) status = muse_cpu_kernels_create(plan, &kernels, &e->kernels, diag);
  if (status == MUSE_OK) status = take_buffers(e, diag);
  if (status == MUSE_OK) status = take_memory(e->slab_bytes, "working memory", &e->slab, diag);
  if (status != MUSE_OK) {
    muse_executor_destroy(e);
    return status;
  }
  *out_executor = e;
  return MUSE_OK;
}

void muse_executor_destroy(MuseExecutor *e) {
  if (!e) return;
  for (int f = 0; f < e->plan->n_funcs; f++) {
    if (!e->functions[f].calls) continue;
    for (int c = 0; c < e->functions[f].plan->n_calls; c++) free(e->functions[f].calls[c].pointers);
    free(e->functions[f].calls);
  }
  if (e->buffer_memory) munmap(e->buffer_memory, e->buffer_bytes);
  if (e->slab) munmap(e->slab, e->slab_bytes);
  muse_cpu_kernels_destroy(e->kernels);
  muse_pool_destroy(e->pool);
  free(e->scratch);
  free(e->buffers);
  free(e->functions);
  free(e);
}

MuseExecutorStats muse_executor_stats(const MuseExecutor *e) {
  MuseExecutorStats s = {.buffer_bytes = (int64_t)e->buffer_bytes, .slab_bytes = (int64_t)e->slab_bytes};
  muse_cpu_kernels_counts(e->kernels, &s.compiled, &s.cached, &s.compile_seconds);
  s.kernels = s.compiled + s.cached;
  return s;
}

int muse_executor_threads(const MuseExecutor *e) { return muse_pool_threads(e->pool); }

void *muse_executor_buffer(MuseExecutor *e, const char *name) {
  const MuseBuffer *buffer = muse_module_buffer(e->plan->module, name);
  return buffer ? e->buffers[buffer->index] : NULL;
}

static Function *find(const MuseExecutor *e, const char *name) {
  for (int i = 0; i < e->plan->n_funcs; i++)
    if (strcmp(e->plan->funcs[i].name, name) == 0) return &e->functions[i];
  return NULL;
}

bool muse_executor_has_function(const MuseExecutor *e, const char *function) { return find(e, function) != NULL; }

// ---- preparing ----

static void *pointer_of(const MuseExecutor *e, MusePlace place) {
  if (place.kind == MUSE_PLACE_BUFFER) return e->buffers[place.buffer];
  if (place.kind == MUSE_PLACE_SLAB) return (unsigned char *)e->slab + place.offset;
  return NULL;
}

static void bind_call(const MuseExecutor *e, const MusePlanCall *plan, Call *call) {
  int n = plan->op->n_operands + plan->op->n_results;
  call->plan = plan;
  call->pointers = calloc((size_t)n + 2, sizeof *call->pointers);
  MUSE_ASSERT(call->pointers != NULL);
  for (int i = 0; i < n; i++) call->pointers[i] = pointer_of(e, plan->places[i]);
  call->pointers[n] = pointer_of(e, plan->places[n]);
  call->pointers[n + 1] = (void *)plan->rng_ids;
  call->stage = muse_cpu_kernel_stages(e->kernels, plan->kernel->index);
}

static MuseStatus grow_scratch(MuseExecutor *e, const Function *f, MuseDiag *diag) {
  size_t need = e->scratch_bytes;
  for (int c = 0; c < f->plan->n_calls; c++) {
    const MuseKernelInfo *info = &f->plan->calls[c].kernel->info;
    for (int s = 0; s < info->n_stages; s++)
      if (align_up((size_t)info->stage[s].scratch_bytes) > need) need = align_up((size_t)info->stage[s].scratch_bytes);
  }
  if (need == e->scratch_bytes) return MUSE_OK;
  free(e->scratch);
  e->scratch_bytes = need;
  e->scratch = aligned_alloc(ALIGN, need * (size_t)muse_pool_threads(e->pool));
  if (!e->scratch)
    return muse_error(diag, MUSE_ERR_NO_FIT,
                      "scratch memory for %d threads cannot be allocated; use fewer with --threads",
                      muse_pool_threads(e->pool));
  return MUSE_OK;
}

MuseStatus muse_executor_prepare(MuseExecutor *e, const char *const *functions, int n, MuseDiag *diag) {
  int *indices = calloc((size_t)e->plan->n_kernels + 1, sizeof *indices), count = 0;
  bool *wanted = calloc((size_t)e->plan->n_kernels + 1, sizeof *wanted);
  MUSE_ASSERT(indices && wanted);
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < n && status == MUSE_OK; i++) {
    const Function *f = find(e, functions[i]);
    if (!f) {
      status = muse_error(diag, MUSE_ERR_INPUT, "the plan has no function @%s; compile it again with musec",
                          functions[i]);
      break;
    }
    for (int c = 0; c < f->plan->n_calls; c++) {
      int k = f->plan->calls[c].kernel->index;
      if (!wanted[k]) indices[count++] = k;
      wanted[k] = true;
    }
  }
  if (status == MUSE_OK) status = muse_cpu_kernels_prepare(e->kernels, e->pool, indices, count, diag);
  for (int i = 0; i < n && status == MUSE_OK; i++) {
    Function *f = find(e, functions[i]);
    status = grow_scratch(e, f, diag);
    if (status != MUSE_OK || f->calls) continue;
    f->calls = calloc((size_t)f->plan->n_calls + 1, sizeof *f->calls);
    MUSE_ASSERT(f->calls != NULL);
    for (int c = 0; c < f->plan->n_calls; c++) bind_call(e, &f->plan->calls[c], &f->calls[c]);
  }
  free(indices);
  free(wanted);
  return status;
}

// ---- running ----

typedef struct StageRun { const MuseExecutor *e; MuseKernelFn fn; void *const *pointers; int64_t iteration; } StageRun;

static void run_tasks(void *context, int thread, int64_t begin, int64_t end) {
  const StageRun *r = context;
  r->fn(r->pointers, begin, end, r->e->scratch + r->e->scratch_bytes * (size_t)thread, r->iteration);
}

static void run_stage(const MuseExecutor *e, const Call *call, const MuseKernelInfo *info, int stage,
                      int64_t iteration) {
  StageRun r = {e, call->stage[stage], call->pointers, iteration};
  muse_pool_run(e->pool, info->stage[stage].n_tasks, run_tasks, &r);
}

static void run_call(const MuseExecutor *e, const Call *call) {
  const MuseKernelInfo *info = &call->plan->kernel->info;
  bool loops = info->loop_count > 1;
  for (int s = 0; s < info->n_stages; s++) {
    if (!loops || s != info->loop_first) {
      run_stage(e, call, info, s, 0);
      continue;
    }
    for (int64_t i = 0; i < info->loop_count; i++)
      for (int k = info->loop_first; k <= info->loop_last; k++) run_stage(e, call, info, k, i);
    s = info->loop_last;
  }
}

static MuseStatus prepared(MuseExecutor *e, const char *function, Function **out_function, MuseDiag *diag) {
  *out_function = find(e, function);
  if (!*out_function || !(*out_function)->calls) MUSE_TRY(muse_executor_prepare(e, &function, 1, diag));
  return MUSE_OK;
}

MuseStatus muse_executor_run(MuseExecutor *e, const char *function, MuseDiag *diag) {
  Function *f;
  MUSE_TRY(prepared(e, function, &f, diag));
  for (int c = 0; c < f->plan->n_calls; c++) run_call(e, &f->calls[c]);
  return MUSE_OK;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

MuseStatus muse_executor_trace(MuseExecutor *e, const char *function, MuseKernelVisitFn before, MuseKernelVisitFn after,
                               void *context, MuseDiag *diag) {
  Function *f;
  MUSE_TRY(prepared(e, function, &f, diag));
  for (int c = 0; c < f->plan->n_calls; c++) {
    const Call *call = &f->calls[c];
    const MuseOp *op = call->plan->op;
    MuseKernelVisit visit = {.kernel = op,
                             .info = &call->plan->kernel->info,
                             .call = c,
                             .kernel_index = call->plan->kernel->index,
                             .operands = call->pointers,
                             .results = call->pointers + op->n_operands};
    if (before && !before(context, &visit)) return MUSE_OK;
    double start = now();
    run_call(e, call);
    visit.seconds = now() - start;
    if (after && !after(context, &visit)) return MUSE_OK;
  }
  return MUSE_OK;
}
