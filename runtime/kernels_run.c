// The command `kernels`: compiles the kernels of a plan for a GPU, into the cache or to be looked at. Needs NVRTC, but
// neither a GPU nor memory for the plan.
#include "runtime/commands.h"
#include "runtime/cuda_kernels.h"
#include "runtime/executor_device.h"

#include "ir/base/options.h"
#include "runtime/session.h"

#include <stdlib.h>
#include <string.h>

typedef struct Arguments {
  const char *target, *function, *nvrtc, *cache_dir, *dump_dir, *override_dir;
  int64_t threads;
  bool no_cache, quiet;
} Arguments;

// --target, or the first GPU's. A target that was given says nothing of the driver.
static MuseStatus choose_target(const Arguments *a, MuseCudaKernelsOptions *out, MuseDiag *diag) {
  const MuseCuda *cuda;
  MuseCudaDevice device;
  if (a->target) return muse_cuda_target_parse(a->target, &out->target, diag);
  MuseStatus status = muse_cuda_open(&cuda, diag);
  if (status == MUSE_OK) status = muse_cuda_device(cuda, 0, &device, diag);
  if (status != MUSE_OK) {
    muse_note_at(diag, (MuseLoc){0}, "--target cuda:sm_90a compiles for a GPU that is not there");
    return status;
  }
  out->target = muse_cuda_target_of(device.arch);
  out->driver_version = cuda->version;
  return MUSE_OK;
}

static MuseStatus find_functions(const MusePlan *plan, const char *path, const char *name, int *out, int *out_n,
                                 MuseDiag *diag) {
  *out_n = 0;
  for (int i = 0; i < plan->n_funcs; i++)
    if (!name || strcmp(plan->funcs[i].name, name) == 0) out[(*out_n)++] = i;
  if (*out_n || !name) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' has no function @%s", path, name);
}

static MuseStatus compile(const MusePlan *plan, const char *path, const Arguments *a, MuseDiag *diag) {
  MuseCudaKernelsOptions o = {.nvrtc = a->nvrtc,
                              .cache_dir = a->cache_dir,
                              .dump_dir = a->dump_dir,
                              .override_dir = a->override_dir,
                              .no_cache = a->no_cache,
                              .quiet = a->quiet};
  int *functions = calloc((size_t)plan->n_funcs + 1, sizeof *functions);
  int *kernels = calloc((size_t)plan->n_kernels + 1, sizeof *kernels), n = 0, compiled = 0, cached = 0;
  MuseCudaKernels *k = NULL;
  MusePool *pool = NULL;
  double seconds = 0;
  char arch[24];
  MUSE_ASSERT(functions && kernels);
  MuseStatus status = find_functions(plan, path, a->function, functions, &n, diag);
  if (status == MUSE_OK) status = choose_target(a, &o, diag);
  if (status == MUSE_OK) status = muse_cuda_kernels_create(plan, &o, &k, diag);
  if (status == MUSE_OK) status = muse_pool_create((int)a->threads, &pool, diag);
  if (status == MUSE_OK) {
    n = muse_executor_kernels(plan, functions, n, kernels);
    status = muse_cuda_kernels_emit(k, pool, kernels, n, 0, diag);
  }
  for (int v = 0, more = 1; more && status == MUSE_OK; v++) { // all variants, of which a GPU will take the fastest
    more = 0;
    for (int i = 0; i < n; i++) more |= muse_cuda_kernels_variants(k, kernels[i]) > v + 1;
    status = muse_cuda_kernels_emit(k, pool, kernels, n, v, diag);
    if (status == MUSE_OK) status = muse_cuda_kernels_compile(k, pool, kernels, n, v, diag);
  }
  if (status == MUSE_OK) {
    muse_cuda_kernels_counts(k, &compiled, &cached, &seconds);
    muse_cuda_target_name(muse_cuda_kernels_target(k), false, arch);
    printf("%d kernels for %s: %d compiled and %d from the cache in %.2f s\n", n, arch, compiled, cached, seconds);
  }
  muse_pool_destroy(pool);
  muse_cuda_kernels_destroy(k);
  free(functions);
  free(kernels);
  return status;
}

MuseStatus muse_command_kernels(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {0};
  const MuseOption table[] = {
      {"target", 0, MUSE_OPT_TEXT, "TARGET",
       "Compile for cuda:sm_75, sm_80, sm_86, sm_89, sm_90a, sm_120, ... (the GPU of this machine).", &a.target},
      {"function", 'f', MUSE_OPT_TEXT, "NAME", "The kernels of this function only.", &a.function},
      {"dump-kernels", 0, MUSE_OPT_TEXT, "DIR",
       "Write IR, source, PTX, compiler log and launches of each kernel there.", &a.dump_dir},
      {"kernel-override", 0, MUSE_OPT_TEXT, "DIR",
       "Compile DIR/KERNEL.cu, an edited source of a dump, in place of the generated one.", &a.override_dir},
      {"nvrtc", 0, MUSE_OPT_TEXT, "PATH", "The library NVRTC, when it is not found by itself.", &a.nvrtc},
      {"threads", 'j', MUSE_OPT_INT, "N", "Compile N kernels at a time (one a core).", &a.threads},
      {"cache-dir", 0, MUSE_OPT_TEXT, "DIR", "Keep compiled kernels there (the user's cache folder).", &a.cache_dir},
      {"no-cache", 0, MUSE_OPT_FLAG, NULL, "Compile all kernels again and keep none.", &a.no_cache},
      {"quiet", 'q', MUSE_OPT_FLAG, NULL, "Say nothing but errors and the result.", &a.quiet},
      {0},
  };
  MuseTextList operands = {0};
  const char *path = NULL;
  bool help = false;
  MusePlan *plan = NULL;
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run kernels [options] PLAN",
                      "Compiles the kernels of a plan with NVRTC, into the cache; no GPU is needed.", stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "kernels", &path, diag);
    if (status == MUSE_OK && (a.threads < 0 || a.threads > 4096))
      status = muse_error(diag, MUSE_ERR_INPUT, "--threads takes a number from 1 to 4096 (or 0 for all cores)");
    if (status == MUSE_OK) status = muse_plan_load(path, &plan, diag);
    if (status == MUSE_OK) status = compile(plan, path, &a, diag);
  }
  muse_plan_destroy(plan);
  muse_text_list_free(&operands);
  return status;
}
