// From kernels of a plan to functions in memory, through the cache. See the header.
#include "runtime/cpu_kernels.h"

#include "runtime/signals.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct Loaded { MuseKernelFn stage[MUSE_MAX_KERNEL_STAGES]; bool ready; } Loaded;

struct MuseCpuKernels {
  const MusePlan *plan;
  const MuseCpuModule *module;
  MuseCpuTarget target;
  MuseJit *jit;
  MuseKernelCache *cache;
  Loaded *loaded; // by index of the distinct kernel
  bool quiet;
  int compiled, cached;
  double seconds;
};

static MuseStatus choose_target(MuseCpuKernels *k, const char *level, MuseDiag *diag) {
  if (!level) {
    if (k->module->host_target(MUSE_CPU_NEON_DOT, false, &k->target)) return MUSE_OK;
    return muse_error(diag, MUSE_ERR_FAILED,
                      "this processor is not one that MUSE generates code for (x86-64 or aarch64)");
  }
  for (int l = MUSE_CPU_SCALAR; l <= MUSE_CPU_NEON_DOT; l++)
    if (strcmp(muse_cpu_level_name((MuseCpuLevel)l), level) == 0) {
      if (k->module->host_target((MuseCpuLevel)l, true, &k->target)) return MUSE_OK;
      return muse_error(diag, MUSE_ERR_INPUT,
                        "this processor cannot run '%s'; leave --cpu-level out to take the best it can", level);
    }
  return muse_error(diag, MUSE_ERR_INPUT,
                    "there is no CPU level '%s'; use scalar, avx2, avx512, avx512-vnni, amx, neon or neon-dot", level);
}

MuseStatus muse_cpu_kernels_create(const MusePlan *plan, const MuseCpuKernelsOptions *options,
                                   MuseCpuKernels **out_kernels, MuseDiag *diag) {
  MuseCpuKernels *k = calloc(1, sizeof *k);
  MUSE_ASSERT(k != NULL);
  k->plan = plan;
  k->quiet = options->quiet;
  k->loaded = calloc((size_t)plan->n_kernels + 1, sizeof *k->loaded);
  MUSE_ASSERT(k->loaded != NULL);
  MuseStatus status = muse_cpu_module_load(&k->module, diag);
  if (status == MUSE_OK) status = choose_target(k, options->level, diag);
  if (status == MUSE_OK) status = k->module->jit_create(&k->jit, diag);
  if (status != MUSE_OK) {
    muse_cpu_kernels_destroy(k);
    return status;
  }
  if (!options->no_cache) k->cache = muse_kernel_cache_open(options->cache_dir, diag);
  *out_kernels = k;
  return MUSE_OK;
}

void muse_cpu_kernels_destroy(MuseCpuKernels *k) {
  if (!k) return;
  if (k->jit) k->module->jit_destroy(k->jit);
  muse_kernel_cache_close(k->cache);
  free(k->loaded);
  free(k);
}

// ---- compiling ----

typedef struct Job { int kernel; void *object; size_t bytes; bool from_cache; MuseStatus status; MuseDiag *diag; } Job;

typedef struct Batch {
  MuseCpuKernels *k;
  Job *jobs;
  int n;
  _Atomic int done;
  bool show;
} Batch;

static void kernel_name(const MusePlanKernel *kernel, char name[24]) {
  snprintf(name, 24, "k%016llx", (unsigned long long)kernel->hash.lo);
}

// Everything that can change the code: the kernel's text (its hash), the generator's version, the target.
static MuseHash cache_key(const MuseCpuKernels *k, const MusePlanKernel *kernel) {
  MuseStr text = {0};
  muse_str_appendf(&text, "%016llx%016llx|%s|%s|%s|%s|%s|%d", (unsigned long long)kernel->hash.hi,
                   (unsigned long long)kernel->hash.lo, k->module->version, muse_cpu_level_name(k->target.level),
                   k->target.triple, k->target.cpu, k->target.features, k->target.vector_bytes);
  MuseHash key = muse_hash128(text.data, text.len);
  muse_str_free(&text);
  return key;
}

static void compile_one(Batch *batch, Job *job) {
  MuseCpuKernels *k = batch->k;
  const MusePlanKernel *kernel = k->plan->kernels[job->kernel];
  if (muse_stop_is_set()) return; // what follows sees it, too
  MuseHash key = cache_key(k, kernel);
  job->from_cache = muse_kernel_cache_get(k->cache, key, &job->object, &job->bytes);
  if (!job->from_cache) {
    char name[24], *object = NULL;
    kernel_name(kernel, name);
    job->status = k->module->emit(kernel->op, name, &k->target, "object", &object, &job->bytes, job->diag);
    job->object = object;
    if (job->status == MUSE_OK) muse_kernel_cache_put(k->cache, key, job->object, job->bytes);
  }
  int done = atomic_fetch_add(&batch->done, 1) + 1;
  if (batch->show) {
    fprintf(stderr, "\rpreparing kernels %d/%d", done, batch->n);
    fflush(stderr);
  }
}

static void compile_tasks(void *context, int thread, int64_t begin, int64_t end) {
  Batch *batch = context;
  for (int64_t i = begin; i < end; i++) compile_one(batch, &batch->jobs[i]);
}

static MuseStatus link_job(MuseCpuKernels *k, Job *job, MuseDiag *diag) {
  if (job->status != MUSE_OK) {
    const char *why = muse_diag_message(job->diag, 0);
    return muse_error(diag, job->status, "%s", why ? why : "a kernel could not be compiled");
  }
  MUSE_TRY(k->module->jit_add_object(k->jit, job->object, job->bytes, diag));
  if (job->from_cache) k->cached++;
  else k->compiled++;
  return MUSE_OK;
}

static MuseStatus look_up(MuseCpuKernels *k, int index, MuseDiag *diag) {
  const MusePlanKernel *kernel = k->plan->kernels[index];
  char name[24], symbol[40];
  kernel_name(kernel, name);
  for (int s = 0; s < kernel->info.n_stages; s++) {
    void *address = NULL;
    snprintf(symbol, sizeof symbol, "%s_%d", name, s);
    MUSE_TRY(k->module->jit_lookup(k->jit, symbol, &address, diag));
    *(void **)&k->loaded[index].stage[s] = address;
  }
  k->loaded[index].ready = true;
  return MUSE_OK;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

MuseStatus muse_cpu_kernels_prepare(MuseCpuKernels *k, MusePool *pool, const int *indices, int n, MuseDiag *diag) {
  Batch batch = {.k = k, .jobs = calloc((size_t)n + 1, sizeof(Job)), .show = !k->quiet && isatty(STDERR_FILENO)};
  MUSE_ASSERT(batch.jobs != NULL);
  double start = now();
  for (int i = 0; i < n; i++)
    if (!k->loaded[indices[i]].ready) batch.jobs[batch.n++] = (Job){.kernel = indices[i], .diag = muse_diag_create()};
  muse_pool_run(pool, batch.n, compile_tasks, &batch);
  if (batch.show && batch.n) fprintf(stderr, "\r\033[K");
  MuseStatus status = batch.n && muse_stop_is_set() ? muse_stopped_preparing(diag) : MUSE_OK;
  for (int i = 0; i < batch.n && status == MUSE_OK; i++) status = link_job(k, &batch.jobs[i], diag);
  for (int i = 0; i < batch.n && status == MUSE_OK; i++) status = look_up(k, batch.jobs[i].kernel, diag);
  for (int i = 0; i < batch.n; i++) {
    free(batch.jobs[i].object);
    muse_diag_destroy(batch.jobs[i].diag);
  }
  free(batch.jobs);
  k->seconds += now() - start;
  return status;
}

const MuseKernelFn *muse_cpu_kernel_stages(const MuseCpuKernels *k, int index) {
  MUSE_ASSERT(k->loaded[index].ready);
  return k->loaded[index].stage;
}

const MuseCpuTarget *muse_cpu_kernels_target(const MuseCpuKernels *k) { return &k->target; }
const char *muse_cpu_kernels_version(const MuseCpuKernels *k) { return k->module->version; }

void muse_cpu_kernels_counts(const MuseCpuKernels *k, int *out_compiled, int *out_cached, double *out_seconds) {
  *out_compiled = k->compiled;
  *out_cached = k->cached;
  *out_seconds = k->seconds;
}
