#ifndef MUSE_RUNTIME_EXECUTOR_CUDA_H
#define MUSE_RUNTIME_EXECUTOR_CUDA_H

#include "runtime/cuda_kernels.h"
#include "runtime/cuda_transfer.h"
#include "runtime/executor_device.h"
#include "runtime/schedule.h"

// What the files of the executor on a GPU share.

// Buffers of a kind, in one allocation that is made when a function needs them.
typedef struct MuseCudaGroup {
  const char *role;    // NULL: all that belong to no other group
  const char *what;    // in messages
  CudaPointer memory;  // 0: not taken yet
  size_t bytes;
  bool needed;         // by the functions that are prepared
} MuseCudaGroup;
enum { MUSE_CUDA_GROUPS = 3 };

typedef struct MuseCudaFunction {
  const MusePlanFunc *plan;
  MuseCudaCall **calls;   // NULL until prepared
  MuseSchedule *schedule; // of the calls on streams
  int64_t runs;
  CudaGraphExec *graph;   // of all calls, from the second run on
  CudaGraphExec *timed;   // the same with events between the calls
  CudaEvent **events;     // n_calls + 1
} MuseCudaFunction;

typedef struct MuseCudaExecutor {
  MuseExecutor base;
  const MusePlan *plan;
  MuseExecutorOptions options;
  const MuseCuda *cuda;
  MuseCudaDevice device;
  CudaContext *context;
  CudaStream *compute;              // everything in order, but for graphs
  CudaStream *side[MUSE_MAX_STREAMS]; // [0] is compute; where graphs are recorded
  int n_streams;
  MuseCudaTransfer *transfer;
  MuseCudaKernels *kernels;
  MuseCudaGroup group[MUSE_CUDA_GROUPS];
  int *group_of;          // by buffer
  size_t *offset_of;      // by buffer, in its group
  CudaPointer slab, workspace;
  size_t slab_bytes;
  size_t workspace_bytes; // of one of them
  int n_workspaces;       // of streams in turn
  MuseCudaFunction *functions;
  void *scratch;          // host memory for values of traced kernels
  size_t scratch_bytes;
  MuseStatus trace_status; // of reading values while tracing
  MuseDiag *trace_diag;
} MuseCudaExecutor;

static inline MuseCudaExecutor *muse_cuda_executor(MuseExecutor *e) { return (MuseCudaExecutor *)e; }

// executor_cuda.c
CudaPointer muse_cuda_buffer(const MuseCudaExecutor *e, int buffer); // 0: not taken
MuseStatus muse_cuda_launch_calls(const MuseCudaExecutor *e, const MuseCudaFunction *f, MuseDiag *diag);
void muse_cuda_unbind(MuseCudaExecutor *e, MuseCudaFunction *f); // calls and graphs, which hold addresses

// cuda_prepare.c: from functions to calls.
void muse_cuda_lay_out(MuseCudaExecutor *e); // buffers in groups
MuseStatus muse_cuda_take_group(MuseCudaExecutor *e, MuseCudaGroup *group, MuseDiag *diag);
MuseStatus muse_cuda_prepare(MuseExecutor *e, const int *functions, int n, MuseDiag *diag);

// cuda_tune.c: times the variants of kernels that have several and takes the fastest; the choice is kept in the cache.
MuseStatus muse_cuda_recall_choices(MuseCudaExecutor *e, MusePool *pool, const int *indices, int n, int *out_open,
                                    int *out_n_open, MuseDiag *diag);
MuseStatus muse_cuda_tune(MuseCudaExecutor *e, MusePool *pool, const int *indices, int n, MuseDiag *diag);

// cuda_snapshot.c
MuseStatus muse_cuda_snapshot(MuseExecutor *e, const int *buffers, int n, MuseSnapshot **out, MuseDiag *diag);

// cuda_trace.c: kernel by kernel.
MuseStatus muse_cuda_trace(MuseExecutor *e, int function, MuseKernelVisitFn before, MuseKernelVisitFn after,
                           void *context, MuseDiag *diag);
MuseStatus muse_cuda_time(MuseExecutor *e, int function, double *out_seconds, MuseDiag *diag);

// cuda_try.c: a kernel by itself.
MuseStatus muse_cuda_try(MuseExecutor *e, const MuseOp *kernel, const void *const *operands, void *const *results,
                         MuseDiag *diag);

// cuda_peaks.c
MuseStatus muse_cuda_peaks(MuseExecutor *e, MusePeaks *out, MuseDiag *diag);

#endif
