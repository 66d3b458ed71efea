#ifndef MUSE_RUNTIME_CUDA_KERNEL_H
#define MUSE_RUNTIME_CUDA_KERNEL_H

#include "compiler/emit_cuda.h"
#include "runtime/cuda_api.h"

// The functions of a kernel on a GPU, and calls of it: what every program that launches generated kernels shares.

typedef struct MuseCudaKernel {
  const MuseCuda *cuda;
  const MuseCudaLaunches *launches; // must outlive the kernel
  CudaFunction *function[MUSE_CUDA_MAX_LAUNCHES];
  bool overlaps[MUSE_CUDA_MAX_LAUNCHES]; // may be started while the launch before it still runs
} MuseCudaKernel;

// Looks the functions "NAME_0".. up in the module that was made of `cubin`, and raises their limits of shared memory.
MuseStatus muse_cuda_kernel_load(const MuseCuda *cuda, CudaModule *module, const MuseStr *cubin, const char *name,
                                 const MuseCudaLaunches *launches, MuseCudaKernel *out_kernel, MuseDiag *diag);

// A call: a kernel and the memory it works on. Everything that the launches are given lies here, so a call can be
// launched any number of times, also into a graph.
typedef struct MuseCudaCall MuseCudaCall;

// pointers: n_pointers of them, operands, results, workspace. ids may be NULL when n_ids is 0.
MuseStatus muse_cuda_call_create(const MuseCudaKernel *kernel, const CudaPointer *pointers, int n_pointers,
                                 const uint64_t *ids, int n_ids, MuseCudaCall **out_call, MuseDiag *diag);
void muse_cuda_call_destroy(MuseCudaCall *call); // NULL is allowed
// behind_call: the last thing that the stream was given is a launch of such a call, so this one may start while that
// one ends, if the kernel and the driver can.
MuseStatus muse_cuda_call_launch(const MuseCudaCall *call, bool behind_call, CudaStream *stream, MuseDiag *diag);

#endif
