#ifndef MUSE_RUNTIME_EXECUTOR_DEVICE_H
#define MUSE_RUNTIME_EXECUTOR_DEVICE_H

#include "runtime/executor.h"

// What a kind of device does for the executor; its structure begins with a MuseExecutor. The functions are those of
// executor.h, which has already checked functions, buffers and bounds.
typedef struct MuseDeviceFunctions {
  void (*destroy)(MuseExecutor *e);
  MuseExecutorStats (*stats)(const MuseExecutor *e);
  void (*describe)(const MuseExecutor *e, MuseStr *out);
  // `functions` are indices in the plan.
  MuseStatus (*prepare)(MuseExecutor *e, const int *functions, int n, MuseDiag *diag);
  MuseStatus (*run)(MuseExecutor *e, int function, MuseDiag *diag); // is prepared
  MuseStatus (*run_calls)(MuseExecutor *e, int function, int first, int n, MuseDiag *diag); // NULL: no
  void (*release)(MuseExecutor *e, int buffer);                                            // NULL: nothing to give back
  MuseStatus (*write)(MuseExecutor *e, int buffer, int64_t offset, const void *data, size_t bytes, MuseDiag *diag);
  MuseStatus (*read)(MuseExecutor *e, int buffer, int64_t offset, void *out, size_t bytes, MuseDiag *diag);
  MuseStatus (*fetch)(MuseExecutor *e, int buffer, void *out, size_t bytes, MuseDiag *diag);
  MuseStatus (*wait)(MuseExecutor *e, MuseDiag *diag);
  MuseStatus (*zero)(MuseExecutor *e, const char *role, MuseDiag *diag);
  void *(*host)(MuseExecutor *e, int buffer);                        // NULL: none has host memory
  MuseStatus (*snapshot)(MuseExecutor *e, const int *buffers, int n, MuseSnapshot **out, MuseDiag *diag); // NULL: no
  MuseStatus (*trace)(MuseExecutor *e, int function, MuseKernelVisitFn before, MuseKernelVisitFn after, void *context,
                      MuseDiag *diag);
  // NULL: no
  MuseStatus (*try_kernel)(MuseExecutor *e, const MuseOp *kernel, const void *const *operands, void *const *results,
                           MuseDiag *diag);
  MuseStatus (*time)(MuseExecutor *e, int function, double *out_seconds, MuseDiag *diag);
  MuseStatus (*peaks)(MuseExecutor *e, MusePeaks *out, MuseDiag *diag);
} MuseDeviceFunctions;

struct MuseExecutor {
  const MuseDeviceFunctions *device;
  const MusePlan *plan;
  bool *prepared; // by function of the plan
  bool *released; // by buffer
  int threads;
};

struct MuseSnapshot {
  MuseStatus (*read)(MuseSnapshot *snapshot, int index, int64_t offset, void *out, size_t bytes, MuseDiag *diag);
  void (*destroy)(MuseSnapshot *snapshot);
};

// Distinct kernels of functions, as indices in the plan: out has room for all of the plan.
int muse_executor_kernels(const MusePlan *plan, const int *functions, int n, int *out);

MuseStatus muse_executor_create_cpu(const MusePlan *plan, const MuseExecutorOptions *options, MuseExecutor **out,
                                    MuseDiag *diag);
MuseStatus muse_executor_create_cuda(const MusePlan *plan, const MuseExecutorOptions *options, int index,
                                     MuseExecutor **out, MuseDiag *diag);

#endif
