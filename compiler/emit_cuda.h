#ifndef MUSE_COMPILER_EMIT_CUDA_H
#define MUSE_COMPILER_EMIT_CUDA_H

#include "compiler/cuda_target.h"
#include "compiler/kernel_info.h"
#include "ir/base/str.h"

// A kernel as CUDA C, and how it is launched. The text depends on the kernel and the architecture only, never on the
// GPU or the process, so it is the key of the cache.
//
// Launch s of a kernel named N is the function "N_s"; launches follow each other on one stream. Parameters, in this
// order: the device pointers of the operands of the kernel op, of its results, of the workspace (as many bytes as
// MuseKernelInfo.workspace_bytes says: plans are the same for CPU and GPU), and, when the kernel has `rng_ids`, the ids
// as one struct of uint64_t by value. All pointers are 64-byte aligned. A result may be the same memory as an operand
// where muse_kernel_allows_in_place says so.
enum { MUSE_CUDA_MAX_LAUNCHES = 4 };

typedef struct MuseCudaLaunch {
  int64_t grid_x, grid_y; // blocks: below 2^31 and 65536
  int block;              // threads
  int shared_bytes;       // dynamic shared memory
} MuseCudaLaunch;

typedef struct MuseCudaLaunches {
  int n;
  MuseCudaLaunch launch[MUSE_CUDA_MAX_LAUNCHES];
} MuseCudaLaunches;

// Is there a CUDA emitter for this skeleton?
bool muse_cuda_has_emitter(const char *skeleton);
// Appends the functions of one kernel to *out_source; muse_cuda_prelude stands once in front of them. A skeleton
// without an emitter, and a body that the emitter cannot take, are MUSE_ERR_FAILED with a sentence.
MuseStatus muse_cuda_emit(const MuseOp *kernel, const char *name, MuseCudaTarget target, MuseStr *out_source,
                          MuseCudaLaunches *out_launches, MuseDiag *diag);
// What the functions of all kernels call. Needs no include folder.
const char *muse_cuda_prelude(void);

#endif
