#ifndef MUSE_RUNTIME_EXECUTOR_H
#define MUSE_RUNTIME_EXECUTOR_H

#include "compiler/emit.h"
#include "compiler/plan.h"
#include "runtime/peaks.h"
#include "runtime/pool.h"

// Runs the functions of a plan on a device: the processor, or a GPU. Memory is taken at creation or when functions are
// prepared; a run allocates nothing. On a GPU a run returns when its work is queued; what is read waits for it.
typedef struct MuseExecutor MuseExecutor;

typedef struct MuseExecutorOptions {
  const char *device;      // NULL or "cpu"; "cuda" or "cuda:N"
  int threads;             // 0: one a core
  const char *cpu_level;   // NULL: the best of the host; "scalar", "avx2", ...: this one (refused when it lacks it)
  const char *cache_dir;   // NULL: the user's cache folder
  bool no_cache;
  bool quiet;              // no progress while kernels compile
  bool sparse;             // most buffers will not be touched: memory for all of them need not be there
  // GPU only
  const char *nvrtc;       // the library; NULL: searched
  const char *dump_dir;    // writes what is known of each kernel there
  const char *override_dir; // sources that run in place of the generated ones
  bool no_tune;            // the default variant of every kernel
  int streams;             // kernels that may run beside each other; 0: MUSE_DEFAULT_STREAMS
} MuseExecutorOptions;

enum { MUSE_DEFAULT_STREAMS = 1 };

typedef struct MuseExecutorStats {
  // distinct kernels of the prepared functions; how many were compiled, how many came from the cache
  int kernels, compiled, cached;
  double compile_seconds;
  int64_t buffer_bytes, slab_bytes; // taken so far
} MuseExecutorStats;

// Is the text a device (NULL, "cpu", "cuda", "cuda:N")? Otherwise MUSE_ERR_INPUT.
MuseStatus muse_device_parse(const char *text, bool *out_cuda, int *out_index, MuseDiag *diag);

// The plan must outlive the executor. Buffers are zero at first.
MuseStatus muse_executor_create(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out_executor,
                                MuseDiag *diag);
void muse_executor_destroy(MuseExecutor *executor); // NULL is allowed
MuseExecutorStats muse_executor_stats(const MuseExecutor *executor);
int muse_executor_threads(const MuseExecutor *executor); // of the host
// "this machine, 16 threads", "NVIDIA H200 (sm_90a)", for tables.
void muse_executor_describe(const MuseExecutor *executor, MuseStr *out);

// Compiles (or loads) the kernels of these functions, in parallel; unknown functions are MUSE_ERR_INPUT. run prepares
// what is missing, but then compiles while it should run. MUSE_ERR_NO_FIT, before anything is compiled, when a GPU has
// too little memory.
MuseStatus muse_executor_prepare(MuseExecutor *executor, const char *const *functions, int n, MuseDiag *diag);
MuseStatus muse_executor_run(MuseExecutor *executor, const char *function, MuseDiag *diag);
// Calls [first, first + n) of a prepared function, in the plan's order, where the device can.
bool muse_executor_can_run_calls(const MuseExecutor *executor);
MuseStatus muse_executor_run_calls(MuseExecutor *executor, const char *function, int first, int n, MuseDiag *diag);
// Whether a prepared function reads or writes the buffer; `but` (may be NULL) does not count.
bool muse_executor_uses(const MuseExecutor *executor, const MuseBuffer *buffer, const char *but);
bool muse_executor_has_function(const MuseExecutor *executor, const char *function);

// ---- content of buffers ----
// A write is seen by what is run after it, and `data` is free when it returns; a read sees what was run before it.
MuseStatus muse_executor_write(MuseExecutor *executor, const MuseBuffer *buffer, int64_t offset, const void *data,
                               size_t bytes, MuseDiag *diag);
MuseStatus muse_executor_read(MuseExecutor *executor, const MuseBuffer *buffer, int64_t offset, void *out, size_t bytes,
                              MuseDiag *diag);
// A read of at most 4096 bytes that does not wait: `out` holds the content of now after the next muse_executor_wait.
MuseStatus muse_executor_fetch(MuseExecutor *executor, const MuseBuffer *buffer, void *out, size_t bytes,
                               MuseDiag *diag);
// Until all that was run is done; MUSE_ERR_FAILED when it failed.
MuseStatus muse_executor_wait(MuseExecutor *executor, MuseDiag *diag);
// The buffer's content is not needed any more: it may become zero, and memory is given back where the device is the
// host. No function that uses it may be prepared later (MUSE_ERR_FAILED).
void muse_executor_release(MuseExecutor *executor, const MuseBuffer *buffer);
// All buffers of a role become zero.
MuseStatus muse_executor_zero(MuseExecutor *executor, const char *role, MuseDiag *diag);
// The buffer's memory itself where the device is the host (64-byte aligned, muse_type_bytes long); else NULL.
void *muse_executor_host(MuseExecutor *executor, const MuseBuffer *buffer);

// The content of buffers as it is after what was run so far, to be read while more is run, also by another thread (one
// at a time). Not for devices that are the host.
typedef struct MuseSnapshot MuseSnapshot;
MuseStatus muse_executor_snapshot(MuseExecutor *executor, const MuseBuffer *const *buffers, int n,
                                  MuseSnapshot **out_snapshot, MuseDiag *diag);
// Piece of buffer `index` of the list.
MuseStatus muse_snapshot_read(MuseSnapshot *snapshot, int index, int64_t offset, void *out, size_t bytes,
                              MuseDiag *diag);
void muse_snapshot_destroy(MuseSnapshot *snapshot); // NULL is allowed; before the executor

// ---- kernel by kernel ----

// Runs a function kernel by kernel and calls `visit` after each (--check=eval, the search for the first NaN); `before`
// runs in front of the kernel, when operands that the kernel overwrites in place still hold their old content. Either
// may be NULL. visit returns false to stop.
typedef struct MuseKernelVisit {
  const MuseOp *kernel;
  const MuseKernelInfo *info;
  int call, kernel_index;         // index of the call in the function, of the distinct kernel in the plan
  const void *(*value)(const struct MuseKernelVisit *visit, int index); // see the functions below
  void *device;                   // the device's own
} MuseKernelVisit;
typedef bool (*MuseKernelVisitFn)(void *context, const MuseKernelVisit *visit);
MuseStatus muse_executor_trace(MuseExecutor *executor, const char *function, MuseKernelVisitFn before,
                               MuseKernelVisitFn after, void *context, MuseDiag *diag);
// Content of an operand or result, in host memory: good until the next question.
const void *muse_visit_operand(const MuseKernelVisit *visit, int operand);
const void *muse_visit_result(const MuseKernelVisit *visit, int result);

// Runs one kernel, which need not be of the plan, on host memory; for devices where muse_executor_can_try.
bool muse_executor_can_try(const MuseExecutor *executor);
MuseStatus muse_executor_try(MuseExecutor *executor, const MuseOp *kernel, const void *const *operands,
                             void *const *results, MuseDiag *diag);

// Runs a function and measures each call: out_seconds [calls of the function].
MuseStatus muse_executor_time(MuseExecutor *executor, const char *function, double *out_seconds, MuseDiag *diag);
// What the device reaches in plain loops.
MuseStatus muse_executor_peaks(MuseExecutor *executor, MusePeaks *out_peaks, MuseDiag *diag);

#endif
