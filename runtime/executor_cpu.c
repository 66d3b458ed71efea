// The executor on the processor: resolves every operand of every call to a pointer once, then runs stages on the
// thread pool.
#include "runtime/cpu_kernels.h"
#include "runtime/executor_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct Call {
  const MusePlanCall *plan;
  const MuseKernelFn *stage;
  void **pointers; // operands, results, workspace, rng ids: what the machine functions take
} Call;

typedef struct Function {
  const MusePlanFunc *plan;
  Call *calls; // NULL until prepared
} Function;

typedef struct CpuExecutor {
  MuseExecutor base;
  const MusePlan *plan;
  MusePool *pool;
  MuseCpuKernelsOptions options;
  MuseCpuKernels *kernels; // NULL until something is prepared: the code generator is not needed before
  void **buffers;      // by buffer index
  void *buffer_memory; // all of them
  size_t buffer_bytes;
  void *slab;
  size_t slab_bytes;
  Function *functions;
  unsigned char *scratch; // n_threads pieces
  size_t scratch_bytes;   // of one piece
} CpuExecutor;

static CpuExecutor *cpu(MuseExecutor *e) { return (CpuExecutor *)e; }
static const CpuExecutor *cpu_const(const MuseExecutor *e) { return (const CpuExecutor *)e; }

enum { ALIGN = 64 };

static size_t align_up(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

// Zeroed memory that is not touched before it is used; large pages where the system has them. NULL: there is none.
static void *map_memory(size_t bytes, bool sparse) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | (sparse ? MAP_NORESERVE : 0);
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) return NULL;
  madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

static MuseStatus take_memory(size_t bytes, bool sparse, const char *what, void **out_memory, MuseDiag *diag) {
  *out_memory = NULL;
  if (bytes == 0) return MUSE_OK;
  *out_memory = map_memory(bytes, sparse);
  if (!*out_memory) {
    MuseStr size = {0};
    muse_str_append_bytes(&size, bytes);
    MuseStatus status = muse_error(
        diag, MUSE_ERR_NO_FIT, "%s of %s cannot be allocated (%s); use a smaller config, or use_gradient_checkpointing",
        what, muse_str_text(&size), strerror(errno));
    muse_str_free(&size);
    return status;
  }
  return MUSE_OK;
}

static MuseStatus take_buffers(CpuExecutor *e, bool sparse, MuseDiag *diag) {
  const MuseModule *m = e->plan->module;
  for (int i = 0; i < m->n_buffers; i++) e->buffer_bytes += align_up((size_t)muse_type_bytes(m->buffers[i]->type));
  MUSE_TRY(take_memory(e->buffer_bytes, sparse, "memory for the tensors of the plan", &e->buffer_memory, diag));
  size_t at = 0;
  for (int i = 0; i < m->n_buffers; i++) {
    e->buffers[i] = (unsigned char *)e->buffer_memory + at;
    at += align_up((size_t)muse_type_bytes(m->buffers[i]->type));
  }
  return MUSE_OK;
}

static void destroy(MuseExecutor *base) {
  CpuExecutor *e = cpu(base);
  for (int f = 0; f < e->plan->n_funcs; f++) {
    if (!e->functions[f].calls) continue;
    for (int c = 0; c < e->functions[f].plan->n_calls; c++) free(e->functions[f].calls[c].pointers);
    free(e->functions[f].calls);
  }
  if (e->buffer_memory) munmap(e->buffer_memory, e->buffer_bytes);
  if (e->slab) munmap(e->slab, e->slab_bytes);
  muse_cpu_kernels_destroy(e->kernels);
  muse_pool_destroy(e->pool);
  if (e->scratch) munmap(e->scratch, e->scratch_bytes * (size_t)e->base.threads);
  free(e->buffers);
  free(e->functions);
  free(e);
}

static MuseExecutorStats stats(const MuseExecutor *base) {
  const CpuExecutor *e = cpu_const(base);
  MuseExecutorStats s = {.buffer_bytes = (int64_t)e->buffer_bytes, .slab_bytes = (int64_t)e->slab_bytes};
  if (e->kernels) muse_cpu_kernels_counts(e->kernels, &s.compiled, &s.cached, &s.compile_seconds);
  s.kernels = s.compiled + s.cached;
  return s;
}

static void describe(const MuseExecutor *base, MuseStr *out) {
  muse_str_appendf(out, "this machine, %d threads", base->threads);
}

// ---- buffers ----

static MuseStatus write_buffer(MuseExecutor *e, int buffer, int64_t offset, const void *data, size_t bytes,
                               MuseDiag *diag) {
  memcpy((unsigned char *)cpu(e)->buffers[buffer] + offset, data, bytes);
  return MUSE_OK;
}

static MuseStatus read_buffer(MuseExecutor *e, int buffer, int64_t offset, void *out, size_t bytes, MuseDiag *diag) {
  memcpy(out, (unsigned char *)cpu(e)->buffers[buffer] + offset, bytes);
  return MUSE_OK;
}

static MuseStatus fetch(MuseExecutor *e, int buffer, void *out, size_t bytes, MuseDiag *diag) {
  memcpy(out, cpu(e)->buffers[buffer], bytes);
  return MUSE_OK;
}

static MuseStatus wait_nothing(MuseExecutor *e, MuseDiag *diag) { return MUSE_OK; }

// Zeroes that take no memory: whole pages go back to the system, which gives zeroed ones when they are touched.
static void give_back(unsigned char *from, size_t bytes) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)from, end = begin + bytes;
  uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first >= last || madvise((void *)first, last - first, MADV_DONTNEED) != 0) {
    memset(from, 0, bytes);
    return;
  }
  memset(from, 0, first - begin);
  memset((void *)last, 0, end - last);
}

static void release(MuseExecutor *base, int buffer) {
  const CpuExecutor *e = cpu(base);
  give_back(e->buffers[buffer], (size_t)muse_type_bytes(e->plan->module->buffers[buffer]->type));
}

// Buffers that no prepared function uses, such as the moments where nothing is trained, take no memory; neighbours are
// given back as one.
static MuseStatus zero(MuseExecutor *base, const char *role, MuseDiag *diag) {
  CpuExecutor *e = cpu(base);
  const MuseModule *m = e->plan->module;
  unsigned char *unused = NULL, *end = NULL;
  for (int i = 0; i < m->n_buffers; i++) {
    const MuseBuffer *b = m->buffers[i];
    size_t bytes = (size_t)muse_type_bytes(b->type);
    if (strcmp(b->role, role) != 0) continue;
    if (muse_executor_uses(base, b, NULL)) {
      memset(e->buffers[i], 0, bytes);
      continue;
    }
    if (unused && end != e->buffers[i]) give_back(unused, (size_t)(end - unused)), unused = NULL;
    if (!unused) unused = e->buffers[i];
    end = (unsigned char *)e->buffers[i] + align_up(bytes);
  }
  if (unused) give_back(unused, (size_t)(end - unused));
  return MUSE_OK;
}

static void *host(MuseExecutor *e, int buffer) { return cpu(e)->buffers[buffer]; }

// ---- preparing ----

static void *pointer_of(const CpuExecutor *e, MusePlace place) {
  if (place.kind == MUSE_PLACE_BUFFER) return e->buffers[place.buffer];
  if (place.kind == MUSE_PLACE_SLAB) return (unsigned char *)e->slab + place.offset;
  return NULL;
}

static void bind_call(const CpuExecutor *e, const MusePlanCall *plan, Call *call) {
  int n = plan->op->n_operands + plan->op->n_results;
  call->plan = plan;
  call->pointers = calloc((size_t)n + 2, sizeof *call->pointers);
  MUSE_ASSERT(call->pointers != NULL);
  for (int i = 0; i < n; i++) call->pointers[i] = pointer_of(e, plan->places[i]);
  call->pointers[n] = pointer_of(e, plan->places[n]);
  call->pointers[n + 1] = (void *)plan->rng_ids;
  call->stage = muse_cpu_kernel_stages(e->kernels, plan->kernel->index);
}

static MuseStatus grow_scratch(CpuExecutor *e, const Function *f, MuseDiag *diag) {
  size_t need = e->scratch_bytes;
  for (int c = 0; c < f->plan->n_calls; c++) {
    const MuseKernelInfo *info = &f->plan->calls[c].kernel->info;
    for (int s = 0; s < info->n_stages; s++)
      if (align_up((size_t)info->stage[s].scratch_bytes) > need) need = align_up((size_t)info->stage[s].scratch_bytes);
  }
  if (need == e->scratch_bytes) return MUSE_OK;
  if (e->scratch) munmap(e->scratch, e->scratch_bytes * (size_t)e->base.threads);
  e->scratch_bytes = need;
  e->scratch = map_memory(need * (size_t)e->base.threads, false);
  if (!e->scratch)
    return muse_error(diag, MUSE_ERR_NO_FIT,
                      "scratch memory for %d threads cannot be allocated; use fewer with --threads",
                      e->base.threads);
  return MUSE_OK;
}

static MuseStatus prepare(MuseExecutor *base, const int *functions, int n, MuseDiag *diag) {
  CpuExecutor *e = cpu(base);
  if (!e->kernels) MUSE_TRY(muse_cpu_kernels_create(e->plan, &e->options, &e->kernels, diag));
  int *indices = calloc((size_t)e->plan->n_kernels + 1, sizeof *indices);
  MUSE_ASSERT(indices != NULL);
  int count = muse_executor_kernels(e->plan, functions, n, indices);
  MuseStatus status = muse_cpu_kernels_prepare(e->kernels, e->pool, indices, count, diag);
  for (int i = 0; i < n && status == MUSE_OK; i++) {
    Function *f = &e->functions[functions[i]];
    status = grow_scratch(e, f, diag);
    if (status != MUSE_OK || f->calls) continue;
    f->calls = calloc((size_t)f->plan->n_calls + 1, sizeof *f->calls);
    MUSE_ASSERT(f->calls != NULL);
    for (int c = 0; c < f->plan->n_calls; c++) bind_call(e, &f->plan->calls[c], &f->calls[c]);
  }
  free(indices);
  return status;
}

// ---- running ----

typedef struct StageRun { const CpuExecutor *e; MuseKernelFn fn; void *const *pointers; int64_t iteration; } StageRun;

static void run_tasks(void *context, int thread, int64_t begin, int64_t end) {
  const StageRun *r = context;
  r->fn(r->pointers, begin, end, r->e->scratch + r->e->scratch_bytes * (size_t)thread, r->iteration);
}

static void run_stage(const CpuExecutor *e, const Call *call, const MuseKernelInfo *info, int stage,
                      int64_t iteration) {
  StageRun r = {e, call->stage[stage], call->pointers, iteration};
  muse_pool_run(e->pool, info->stage[stage].n_tasks, run_tasks, &r);
}

static void run_call(const CpuExecutor *e, const Call *call) {
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

static MuseStatus run_calls(MuseExecutor *base, int function, int first, int n, MuseDiag *diag) {
  const CpuExecutor *e = cpu(base);
  const Function *f = &e->functions[function];
  for (int c = first; c < first + n; c++) run_call(e, &f->calls[c]);
  return MUSE_OK;
}

static MuseStatus run(MuseExecutor *base, int function, MuseDiag *diag) {
  return run_calls(base, function, 0, cpu(base)->functions[function].plan->n_calls, diag);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const void *value(const MuseKernelVisit *visit, int index) { return ((Call *)visit->device)->pointers[index]; }

static MuseStatus trace(MuseExecutor *base, int function, MuseKernelVisitFn before, MuseKernelVisitFn after,
                        void *context, MuseDiag *diag) {
  const CpuExecutor *e = cpu(base);
  const Function *f = &e->functions[function];
  for (int c = 0; c < f->plan->n_calls; c++) {
    Call *call = &f->calls[c];
    MuseKernelVisit visit = {.kernel = call->plan->op,
                             .info = &call->plan->kernel->info,
                             .call = c,
                             .kernel_index = call->plan->kernel->index,
                             .value = value,
                             .device = call};
    if (before && !before(context, &visit)) return MUSE_OK;
    run_call(e, call);
    if (after && !after(context, &visit)) return MUSE_OK;
  }
  return MUSE_OK;
}

static MuseStatus time_calls(MuseExecutor *base, int function, double *out_seconds, MuseDiag *diag) {
  const CpuExecutor *e = cpu(base);
  const Function *f = &e->functions[function];
  for (int c = 0; c < f->plan->n_calls; c++) {
    double start = now();
    run_call(e, &f->calls[c]);
    out_seconds[c] = now() - start;
  }
  return MUSE_OK;
}

static MuseStatus peaks(MuseExecutor *e, MusePeaks *out, MuseDiag *diag) {
  return muse_measure_peaks(cpu(e)->pool, out, diag);
}

// ---- creation ----

static const MuseDeviceFunctions functions = {.destroy = destroy,
                                              .stats = stats,
                                              .describe = describe,
                                              .prepare = prepare,
                                              .run = run,
                                              .run_calls = run_calls,
                                              .release = release,
                                              .write = write_buffer,
                                              .read = read_buffer,
                                              .fetch = fetch,
                                              .wait = wait_nothing,
                                              .zero = zero,
                                              .host = host,
                                              .trace = trace,
                                              .time = time_calls,
                                              .peaks = peaks};

MuseStatus muse_executor_create_cpu(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out,
                                    MuseDiag *diag) {
  CpuExecutor *e = calloc(1, sizeof *e);
  MUSE_ASSERT(e != NULL);
  e->base.device = &functions;
  e->plan = plan;
  e->options =
      (MuseCpuKernelsOptions){options->cpu_level, options->cache_dir, options->no_cache, options->quiet};
  e->functions = calloc((size_t)plan->n_funcs + 1, sizeof *e->functions);
  e->buffers = calloc((size_t)plan->module->n_buffers + 1, sizeof *e->buffers);
  MUSE_ASSERT(e->functions && e->buffers);
  for (int i = 0; i < plan->n_funcs; i++) {
    e->functions[i].plan = &plan->funcs[i];
    if ((size_t)plan->funcs[i].slab_bytes > e->slab_bytes) e->slab_bytes = (size_t)plan->funcs[i].slab_bytes;
  }
  MuseStatus status = muse_pool_create(options->threads, &e->pool, diag);
  if (status == MUSE_OK && options->cpu_level) // a wrong one is refused at once
    status = muse_cpu_kernels_create(plan, &e->options, &e->kernels, diag);
  if (status == MUSE_OK) status = take_buffers(e, options->sparse, diag);
  if (status == MUSE_OK) status = take_memory(e->slab_bytes, options->sparse, "working memory", &e->slab, diag);
  if (status != MUSE_OK) {
    destroy(&e->base);
    return status;
  }
  e->base.threads = muse_pool_threads(e->pool);
  *out = &e->base;
  return MUSE_OK;
}
