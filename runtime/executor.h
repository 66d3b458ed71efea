#ifndef MUSE_RUNTIME_EXECUTOR_H
#define MUSE_RUNTIME_EXECUTOR_H

#include "compiler/emit.h"
#include "compiler/plan.h"
#include "runtime/pool.h"

// Runs the functions of a plan on a device. All memory is taken at creation (buffers) and when functions are prepared
// (one slab, as large as the largest of them); a run allocates nothing.
typedef struct MuseExecutor MuseExecutor;

typedef struct MuseExecutorOptions {
  int threads;             // 0: one a core
  const char *
      cpu_level; // NULL: the best of the host; "scalar", "avx2", ...: at most this one (refused when the host lacks it)
  const char *cache_dir;   // NULL: the user's cache folder
  bool no_cache;
  bool quiet;              // no progress while kernels compile
} MuseExecutorOptions;

typedef struct MuseExecutorStats {
  // distinct kernels of the prepared functions; how many were compiled, how many came from the cache
  int kernels, compiled, cached;
  double compile_seconds;
  int64_t buffer_bytes, slab_bytes;
} MuseExecutorStats;

// The plan must outlive the executor. Buffers are zero at first.
MuseStatus muse_executor_create(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out_executor,
                                MuseDiag *diag);
void muse_executor_destroy(MuseExecutor *executor); // NULL is allowed
MuseExecutorStats muse_executor_stats(const MuseExecutor *executor);
int muse_executor_threads(const MuseExecutor *executor);

// Compiles (or loads) the kernels of these functions, in parallel; unknown functions are MUSE_ERR_INPUT. run prepares
// what is missing, but then compiles while it should run.
MuseStatus muse_executor_prepare(MuseExecutor *executor, const char *const *functions, int n, MuseDiag *diag);
MuseStatus muse_executor_run(MuseExecutor *executor, const char *function, MuseDiag *diag);

// Host memory of a buffer of the plan (64-byte aligned, muse_type_bytes long); NULL when the plan has no such buffer.
void *muse_executor_buffer(MuseExecutor *executor, const char *name);
bool muse_executor_has_function(const MuseExecutor *executor, const char *function);

// Runs a function kernel by kernel and calls `visit` after each (bench, --check=eval, the search for the first NaN).
// The values are those of the kernel's operands and results, readable until the visit returns; `before` runs in front
// of the kernel, when operands that the kernel overwrites in place still hold their old content. Either may be NULL.
// visit returns false to stop.
typedef struct MuseKernelVisit {
  const MuseOp *kernel;
  const MuseKernelInfo *info;
  int call, kernel_index;         // index of the call in the function, of the distinct kernel in the plan
  void *const *operands;          // kernel->n_operands
  void *const *results;           // kernel->n_results
  double seconds;                 // of this call; 0 in `before`
} MuseKernelVisit;
typedef bool (*MuseKernelVisitFn)(void *context, const MuseKernelVisit *visit);
MuseStatus muse_executor_trace(MuseExecutor *executor, const char *function, MuseKernelVisitFn before,
                               MuseKernelVisitFn after, void *context, MuseDiag *diag);

#endif
