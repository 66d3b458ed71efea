// From kernels of a plan to cubins and functions on a GPU (see the header).
#include "runtime/cuda_kernels.h"

#include "compiler/nvrtc.h"
#include "ir/base/io.h"
#include "ir/base/vec.h"
#include "runtime/cuda_dump.h"
#include "runtime/kernel_cache.h"
#include "runtime/signals.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// One way to compute a kernel.
typedef struct Variant {
  MuseCudaLaunches launches;
  MuseStr source;     // the whole program
  MuseHash hash;      // of it
  MuseStr cubin;      // until it is loaded
  MuseCudaKernel kernel;
  bool emitted, compiled, loaded, overridden;
} Variant;

typedef struct Entry {
  Variant *variants; // n_variants, once variant 0 is emitted
  int n_variants, chosen;
} Entry;

struct MuseCudaKernels {
  const MusePlan *plan;
  MuseCudaKernelsOptions options;
  MuseCudaTarget target;
  char arch[24];
  MuseNvrtc *nvrtc;        // NULL until something must be compiled
  int nvrtc_version;       // 1000 * major + minor of what makes or made the code; 0: not known yet
  MuseKernelCache *cache;
  const MuseCuda *cuda;    // modules are loaded with it
  MUSE_VEC(CudaModule *) modules;
  Entry *entries;          // by distinct kernel of the plan
  int compiled, cached;
  double seconds;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

MuseCudaTarget muse_cuda_target_of(int arch) { return (MuseCudaTarget){.arch = arch, .specific = arch == 90}; }

void muse_cuda_kernel_name(const MusePlanKernel *kernel, char name[24]) {
  snprintf(name, 24, "k%016llx", (unsigned long long)kernel->hash.lo);
}

// ---- which NVRTC ----
// Its version is part of every key of the cache, but a warm start must not load it: what was found is kept in the cache
// too, with the file it came from, and is believed as long as that file is unchanged, or gone.

typedef struct Remembered {
  int32_t version, n_architectures, architecture[64];
  int64_t modified, bytes;
  char path[1024];
} Remembered;

static MuseHash remembered_key(const MuseCudaKernels *k) {
  MuseStr text = {0};
  muse_str_appendf(&text, "nvrtc|%d|%s", k->options.driver_version, k->options.nvrtc ? k->options.nvrtc : "");
  MuseHash key = muse_hash128(text.data, text.len);
  muse_str_free(&text);
  return key;
}

// Code of a family runs on its later members: where NVRTC does not know this chip, the nearest older one of the family.
static MuseStatus choose_target(MuseCudaKernels *k, const int *known, int n, MuseDiag *diag) {
  MuseCudaTarget t = k->options.target;
  int best = 0;
  for (int i = 0; i < n; i++)
    if (known[i] / 10 == t.arch / 10 && known[i] <= t.arch && known[i] > best) best = known[i];
  if (best == 0) {
    muse_cuda_target_name(t, false, k->arch);
    return muse_error(diag, MUSE_ERR_FAILED,
                      "NVRTC %d.%d makes no code for this GPU (%s); install a newer NVRTC, or say where one is with "
                      "--nvrtc PATH", k->nvrtc_version / 1000, k->nvrtc_version % 1000, k->arch);
  }
  k->target = (MuseCudaTarget){.arch = best, .specific = t.specific && best == t.arch};
  muse_cuda_target_name(k->target, false, k->arch);
  return MUSE_OK;
}

static bool recall_nvrtc(MuseCudaKernels *k, Remembered *out) {
  void *data;
  size_t bytes;
  struct stat st;
  if (!muse_kernel_cache_get(k->cache, remembered_key(k), &data, &bytes)) return false;
  bool good = bytes == sizeof *out;
  if (good) memcpy(out, data, sizeof *out);
  free(data);
  good = good && memchr(out->path, 0, sizeof out->path) && out->n_architectures >= 0 && out->n_architectures <= 64;
  if (!good || (strchr(out->path, '/') && stat(out->path, &st) == 0 &&
                (st.st_mtime != out->modified || st.st_size != out->bytes)))
    return false;
  return true;
}

// Loads NVRTC; the version may turn out to be another than the remembered one.
static MuseStatus open_nvrtc(MuseCudaKernels *k, MuseDiag *diag) {
  if (k->nvrtc) return MUSE_OK;
  int major, minor, n;
  struct stat st;
  MUSE_TRY(muse_nvrtc_open(k->options.nvrtc, &k->nvrtc, diag));
  muse_nvrtc_version(k->nvrtc, &major, &minor);
  k->nvrtc_version = 1000 * major + minor;
  if (k->options.driver_version && k->options.driver_version / 1000 < major) {
    MuseCuda driver = {.version = k->options.driver_version};
    return muse_cuda_suits_nvrtc(&driver, major, diag);
  }
  const int *known = muse_nvrtc_architectures(k->nvrtc, &n);
  Remembered r = {.version = k->nvrtc_version, .n_architectures = n < 64 ? n : 64};
  for (int i = 0; i < r.n_architectures; i++) r.architecture[i] = known[i];
  snprintf(r.path, sizeof r.path, "%s", muse_nvrtc_path(k->nvrtc));
  if (stat(r.path, &st) == 0) r.modified = st.st_mtime, r.bytes = st.st_size;
  muse_kernel_cache_put(k->cache, remembered_key(k), &r, sizeof r);
  return choose_target(k, known, n, diag);
}

static MuseStatus know_nvrtc(MuseCudaKernels *k, MuseDiag *diag) {
  Remembered r;
  if (k->nvrtc_version) return MUSE_OK;
  if (!recall_nvrtc(k, &r)) return open_nvrtc(k, diag);
  k->nvrtc_version = r.version;
  return choose_target(k, r.architecture, r.n_architectures, diag);
}

// ---- creation ----

MuseStatus muse_cuda_kernels_create(const MusePlan *plan, const MuseCudaKernelsOptions *options,
                                    MuseCudaKernels **out_kernels, MuseDiag *diag) {
  MuseCudaKernels *k = calloc(1, sizeof *k);
  MUSE_ASSERT(k != NULL);
  k->plan = plan;
  k->options = *options;
  k->target = options->target;
  k->entries = calloc((size_t)plan->n_kernels + 1, sizeof *k->entries);
  MUSE_ASSERT(k->entries != NULL);
  if (!options->no_cache) k->cache = muse_kernel_cache_open(options->cache_dir, diag);
  MuseStatus status = options->dump_dir ? muse_make_dirs(options->dump_dir, 0777, diag) : MUSE_OK;
  if (status == MUSE_OK && options->override_dir && access(options->override_dir, R_OK | X_OK) != 0)
    status = muse_error(diag, MUSE_ERR_INPUT, "--kernel-override: the folder '%s' cannot be read",
                        options->override_dir);
  if (status == MUSE_OK) status = know_nvrtc(k, diag);
  if (status != MUSE_OK) {
    muse_cuda_kernels_destroy(k);
    return status;
  }
  *out_kernels = k;
  return MUSE_OK;
}

void muse_cuda_kernels_destroy(MuseCudaKernels *k) {
  if (!k) return;
  for (size_t i = 0; i < k->modules.len; i++) k->cuda->module_unload(k->modules.data[i]);
  muse_vec_free(&k->modules);
  for (int i = 0; i < k->plan->n_kernels; i++) {
    for (int v = 0; v < k->entries[i].n_variants; v++) {
      muse_str_free(&k->entries[i].variants[v].source);
      muse_str_free(&k->entries[i].variants[v].cubin);
    }
    free(k->entries[i].variants);
  }
  muse_kernel_cache_close(k->cache);
  muse_nvrtc_close(k->nvrtc);
  free(k->entries);
  free(k);
}

// ---- jobs on all threads ----

typedef struct Job { int kernel, variant; bool from_cache; MuseStatus status; MuseDiag *diag; } Job;

typedef struct Batch {
  MuseCudaKernels *k;
  MuseStatus (*work)(MuseCudaKernels *k, Job *job);
  Job *jobs;
  int n, progress_of; // progress_of: 0 shows none
  _Atomic int done;
} Batch;

static void run_tasks(void *context, int thread, int64_t begin, int64_t end) {
  Batch *b = context;
  for (int64_t i = begin; i < end; i++) {
    if (muse_stop_is_set()) continue; // what follows sees it, too
    b->jobs[i].status = b->work(b->k, &b->jobs[i]);
    int done = atomic_fetch_add(&b->done, 1) + 1;
    if (!b->progress_of) continue;
    fprintf(stderr, "\rpreparing kernels %d/%d", done, b->progress_of);
    fflush(stderr);
  }
}

static void add_job(Batch *b, int kernel, int variant) {
  b->jobs[b->n++] = (Job){.kernel = kernel, .variant = variant, .diag = muse_diag_create()};
}

// Runs the jobs; the messages of the first that failed, and how many more there are.
static MuseStatus run_batch(Batch *b, MusePool *pool, MuseDiag *diag) {
  muse_pool_run(pool, b->n, run_tasks, b);
  if (b->progress_of) fprintf(stderr, "\r\033[K");
  MuseStatus status = MUSE_OK;
  int failed = 0;
  for (int i = 0; i < b->n; i++) {
    Job *job = &b->jobs[i];
    if (job->status != MUSE_OK && failed++ == 0) {
      status = job->status;
      for (size_t m = 0; muse_diag_message(job->diag, m); m++) {
        const char *text = muse_diag_message(job->diag, m);
        if (muse_diag_severity(job->diag, m) == MUSE_ERROR) muse_error(diag, status, "%s", text);
        else muse_note_at(diag, (MuseLoc){0}, "%s", text);
      }
    }
    muse_diag_destroy(job->diag);
  }
  if (status == MUSE_OK && b->n && muse_stop_is_set()) status = muse_stopped_preparing(diag);
  if (failed > 1) muse_note_at(diag, (MuseLoc){0}, "%d more kernels failed", failed - 1);
  free(b->jobs);
  return status;
}

static Variant *variant_of(const MuseCudaKernels *k, int index, int variant) {
  const Entry *e = &k->entries[index];
  if (variant < 0) variant = e->chosen;
  return variant < e->n_variants ? &e->variants[variant] : NULL;
}

// ---- emitting ----

// DIR/NAME.cu in place of what the emitter wrote; its launches stay the emitter's.
static MuseStatus take_override(MuseCudaKernels *k, const char *name, Variant *v, MuseDiag *diag) {
  MuseStr path = {0};
  MuseStatus status = MUSE_OK;
  muse_str_appendf(&path, "%s/%s.cu", k->options.override_dir, name);
  if (access(path.data, F_OK) == 0) {
    status = muse_read_file(path.data, 64 << 20, &v->source, diag);
    v->overridden = true;
  }
  muse_str_free(&path);
  return status;
}

static MuseStatus emit_variant(MuseCudaKernels *k, int index, int variant, Variant *out, MuseDiag *diag) {
  const MusePlanKernel *kernel = k->plan->kernels[index];
  char name[24];
  muse_cuda_kernel_name(kernel, name);
  muse_str_append(&out->source, muse_cuda_prelude());
  MUSE_TRY(muse_cuda_emit(kernel->op, name, k->target, variant, &out->source, &out->launches, diag));
  if (k->options.override_dir) MUSE_TRY(take_override(k, name, out, diag));
  out->hash = muse_hash128(out->source.data, out->source.len);
  out->emitted = true;
  return MUSE_OK;
}

static MuseStatus emit_job(MuseCudaKernels *k, Job *job) {
  Entry *e = &k->entries[job->kernel];
  if (e->n_variants) return emit_variant(k, job->kernel, job->variant, &e->variants[job->variant], job->diag);
  Variant first = {0}; // says how many there are
  MuseStatus status = emit_variant(k, job->kernel, 0, &first, job->diag);
  if (status != MUSE_OK) {
    muse_str_free(&first.source);
    return status;
  }
  int n = first.launches.n_variants > 1 ? first.launches.n_variants : 1;
  e->variants = calloc((size_t)n, sizeof *e->variants);
  MUSE_ASSERT(e->variants != NULL);
  e->variants[0] = first;
  e->n_variants = n;
  return MUSE_OK;
}

MuseStatus muse_cuda_kernels_emit(MuseCudaKernels *k, MusePool *pool, const int *indices, int n, int variant,
                                  MuseDiag *diag) {
  double start = now();
  Batch b = {.k = k, .work = emit_job, .jobs = calloc((size_t)n + 1, sizeof(Job))};
  MUSE_ASSERT(b.jobs != NULL);
  for (int i = 0; i < n; i++) {
    const Entry *e = &k->entries[indices[i]];
    int v = variant < 0 ? e->chosen : variant;
    if (e->n_variants == 0 ? v == 0 : v < e->n_variants && !e->variants[v].emitted) add_job(&b, indices[i], v);
  }
  MuseStatus status = run_batch(&b, pool, diag);
  k->seconds += now() - start;
  return status;
}

// ---- compiling ----

// Everything that can change the code.
static MuseHash cache_key(const MuseCudaKernels *k, MuseHash kernel, MuseHash source) {
  MuseStr text = {0};
  muse_str_appendf(&text, "cuda|%016llx%016llx|%016llx%016llx|%s|%d|%s", (unsigned long long)kernel.hi,
                   (unsigned long long)kernel.lo, (unsigned long long)source.hi, (unsigned long long)source.lo, k->arch,
                   k->nvrtc_version, muse_nvrtc_options());
  MuseHash key = muse_hash128(text.data, text.len);
  muse_str_free(&text);
  return key;
}

static bool from_cache(MuseCudaKernels *k, MuseHash key, MuseStr *out) {
  void *data;
  size_t bytes;
  if (!muse_kernel_cache_get(k->cache, key, &data, &bytes)) return false;
  muse_str_clear(out);
  muse_str_append_n(out, data, bytes);
  free(data);
  return true;
}

static MuseStatus compile_job(MuseCudaKernels *k, Job *job) {
  const MusePlanKernel *kernel = k->plan->kernels[job->kernel];
  Variant *v = variant_of(k, job->kernel, job->variant);
  MuseStr log = {0};
  char name[24];
  muse_cuda_kernel_name(kernel, name);
  MuseStatus status =
      muse_nvrtc_compile(k->nvrtc, muse_str_text(&v->source), name, k->target, false, &v->cubin, &log, job->diag);
  if (status == MUSE_OK)
    muse_kernel_cache_put(k->cache, cache_key(k, kernel->hash, v->hash), v->cubin.data, v->cubin.len);
  else muse_cuda_explain(kernel, muse_str_text(&v->source), muse_str_text(&log), job->diag);
  v->compiled = status == MUSE_OK;
  muse_str_free(&log);
  return status;
}

static MuseStatus read_job(MuseCudaKernels *k, Job *job) {
  Variant *v = variant_of(k, job->kernel, job->variant);
  const MusePlanKernel *kernel = k->plan->kernels[job->kernel];
  v->compiled = job->from_cache = from_cache(k, cache_key(k, kernel->hash, v->hash), &v->cubin);
  return MUSE_OK;
}

static MuseStatus dump_job(MuseCudaKernels *k, Job *job) {
  const Variant *v = variant_of(k, job->kernel, job->variant);
  MuseCudaDump d = {.dir = k->options.dump_dir,
                    .kernel = k->plan->kernels[job->kernel],
                    .variant = job->variant,
                    .launches = &v->launches,
                    .source = muse_str_text(&v->source),
                    .nvrtc = k->nvrtc,
                    .target = k->target};
  return muse_cuda_dump(&d, job->diag);
}

// Jobs for those that are still to be done.
static void collect(Batch *b, const int *indices, int n, int variant, bool (*wanted)(const Variant *v)) {
  b->jobs = calloc((size_t)n + 1, sizeof(Job));
  MUSE_ASSERT(b->jobs != NULL);
  for (int i = 0; i < n; i++) {
    const Variant *v = variant_of(b->k, indices[i], variant);
    if (v && wanted(v)) add_job(b, indices[i], variant < 0 ? b->k->entries[indices[i]].chosen : variant);
  }
}

static bool wants_code(const Variant *v) { return v->emitted && !v->compiled; }
static bool is_emitted(const Variant *v) { return v->emitted; }

static int count_compiled(const MuseCudaKernels *k, const int *indices, int n, int variant) {
  int count = 0;
  for (int i = 0; i < n; i++) {
    const Variant *v = variant_of(k, indices[i], variant);
    count += v && v->compiled;
  }
  return count;
}

static MuseStatus read_all(MuseCudaKernels *k, MusePool *pool, const int *indices, int n, int variant, MuseDiag *diag) {
  Batch b = {.k = k, .work = read_job};
  collect(&b, indices, n, variant, wants_code);
  int before = count_compiled(k, indices, n, variant);
  MUSE_TRY(run_batch(&b, pool, diag));
  k->cached += count_compiled(k, indices, n, variant) - before;
  return MUSE_OK;
}

MuseStatus muse_cuda_kernels_compile(MuseCudaKernels *k, MusePool *pool, const int *indices, int n, int variant,
                                     MuseDiag *diag) {
  double start = now();
  MUSE_TRY(read_all(k, pool, indices, n, variant, diag));
  Batch b = {.k = k, .work = compile_job};
  collect(&b, indices, n, variant, wants_code);
  if (b.n || (k->options.dump_dir && variant <= 0)) {
    int version = k->nvrtc_version;
    MuseCudaTarget target = k->target;
    MuseStatus status = open_nvrtc(k, diag);
    if (status == MUSE_OK && (target.arch != k->target.arch || target.specific != k->target.specific))
      status = muse_error(diag, MUSE_ERR_FAILED,
                          "the NVRTC that is installed now knows other architectures than the one that filled the "
                          "kernel cache; start again");
    if (status != MUSE_OK || version != k->nvrtc_version) { // another one was installed: its code may be there already
      for (int i = 0; i < b.n; i++) muse_diag_destroy(b.jobs[i].diag);
      free(b.jobs);
      return status != MUSE_OK ? status : muse_cuda_kernels_compile(k, pool, indices, n, variant, diag);
    }
  }
  int n_jobs = b.n;
  b.progress_of = !k->options.quiet && isatty(STDERR_FILENO) ? n_jobs : 0;
  MuseStatus status = run_batch(&b, pool, diag);
  if (status == MUSE_OK) k->compiled += n_jobs;
  if (status == MUSE_OK && k->options.dump_dir && variant <= 0) { // the default, then the one that is taken
    Batch dump = {.k = k, .work = dump_job};
    collect(&dump, indices, n, variant, is_emitted);
    status = run_batch(&dump, pool, diag);
  }
  k->seconds += now() - start;
  return status;
}

MuseStatus muse_cuda_kernels_compile_text(MuseCudaKernels *k, const char *name, const char *source, MuseStr *out_cubin,
                                          MuseDiag *diag) {
  MuseHash key = cache_key(k, muse_hash128(name, strlen(name)), muse_hash128(source, strlen(source)));
  if (from_cache(k, key, out_cubin)) return MUSE_OK;
  MuseStr log = {0};
  MUSE_TRY(open_nvrtc(k, diag));
  MuseStatus status = muse_nvrtc_compile(k->nvrtc, source, name, k->target, false, out_cubin, &log, diag);
  muse_str_free(&log);
  if (status == MUSE_OK) muse_kernel_cache_put(k->cache, key, out_cubin->data, out_cubin->len);
  return status;
}

// ---- loading ----

static MuseStatus load_variant(MuseCudaKernels *k, const MuseCuda *cuda, int index, Variant *v, MuseDiag *diag) {
  char name[24];
  CudaModule *module;
  muse_cuda_kernel_name(k->plan->kernels[index], name);
  MUSE_TRY(muse_cuda_check(cuda, cuda->module_load(&module, v->cubin.data), name, diag));
  k->cuda = cuda;
  muse_vec_push(&k->modules, module);
  MUSE_TRY(muse_cuda_kernel_load(cuda, module, &v->cubin, name, &v->launches, &v->kernel, diag));
  v->loaded = true;
  muse_str_free(&v->cubin);
  return MUSE_OK;
}

MuseStatus muse_cuda_kernels_load(MuseCudaKernels *k, const MuseCuda *cuda, const int *indices, int n, int variant,
                                  MuseDiag *diag) {
  double start = now();
  for (int i = 0; i < n; i++) {
    Variant *v = variant_of(k, indices[i], variant);
    if (v && v->compiled && !v->loaded) MUSE_TRY(load_variant(k, cuda, indices[i], v, diag));
  }
  k->seconds += now() - start;
  return MUSE_OK;
}

// ---- questions ----

int muse_cuda_kernels_variants(const MuseCudaKernels *k, int index) { return k->entries[index].n_variants; }
bool muse_cuda_kernels_is_overridden(const MuseCudaKernels *k, int index) {
  return k->entries[index].variants[0].overridden;
}
void muse_cuda_kernels_choose(MuseCudaKernels *k, int index, int variant) { k->entries[index].chosen = variant; }
int muse_cuda_kernels_chosen(const MuseCudaKernels *k, int index) { return k->entries[index].chosen; }

const MuseCudaLaunches *muse_cuda_kernels_launches(const MuseCudaKernels *k, int index, int variant) {
  const Variant *v = variant_of(k, index, variant);
  MUSE_ASSERT(v && v->emitted);
  return &v->launches;
}

const MuseCudaKernel *muse_cuda_kernels_loaded(const MuseCudaKernels *k, int index, int variant) {
  const Variant *v = variant_of(k, index, variant);
  MUSE_ASSERT(v && v->loaded);
  return &v->kernel;
}

static MuseHash choice_key(const MuseCudaKernels *k, const MusePlanKernel *kernel, const char *what) {
  return cache_key(k, kernel->hash, muse_hash128(what, strlen(what)));
}

bool muse_cuda_kernels_recall(MuseCudaKernels *k, const MusePlanKernel *kernel, const char *what, int *out_value) {
  void *data;
  size_t bytes;
  if (!muse_kernel_cache_get(k->cache, choice_key(k, kernel, what), &data, &bytes)) return false;
  bool good = bytes == sizeof *out_value;
  if (good) memcpy(out_value, data, sizeof *out_value);
  free(data);
  return good;
}

void muse_cuda_kernels_remember(MuseCudaKernels *k, const MusePlanKernel *kernel, const char *what, int value) {
  muse_kernel_cache_put(k->cache, choice_key(k, kernel, what), &value, sizeof value);
}

MuseCudaTarget muse_cuda_kernels_target(const MuseCudaKernels *k) { return k->target; }

void muse_cuda_kernels_counts(const MuseCudaKernels *k, int *out_compiled, int *out_cached, double *out_seconds) {
  *out_compiled = k->compiled;
  *out_cached = k->cached;
  *out_seconds = k->seconds;
}
