#ifndef MUSE_RUNTIME_CUDA_API_H
#define MUSE_RUNTIME_CUDA_API_H

#include "ir/base/diag.h"

#include <stddef.h>
#include <stdint.h>

// The driver API of CUDA (libcuda.so.1, which comes with NVIDIA's driver), loaded with dlopen. The declarations are our
// own; the names of versioned entry points are the ones that the library exports.
typedef struct CudaContext CudaContext;
typedef struct CudaModule CudaModule;
typedef struct CudaFunction CudaFunction;
typedef struct CudaStream CudaStream;
typedef struct CudaEvent CudaEvent;
typedef struct CudaGraph CudaGraph;
typedef struct CudaGraphExec CudaGraphExec;
typedef uint64_t CudaPointer;

// X(name of the member, exported name, parameters); all return 0 or an error number.
#define MUSE_CUDA_FUNCTIONS(X)                                                                                        \
  X(init, cuInit, (unsigned flags))                                                                                   \
  X(driver_version, cuDriverGetVersion, (int *version))                                                               \
  X(error_name, cuGetErrorName, (int error, const char **text))                                                       \
  X(error_text, cuGetErrorString, (int error, const char **text))                                                     \
  X(device_count, cuDeviceGetCount, (int *n))                                                                         \
  X(device_get, cuDeviceGet, (int *device, int index))                                                                \
  X(device_name, cuDeviceGetName, (char *name, int bytes, int device))                                                \
  X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, int device))                                  \
  X(device_memory, cuDeviceTotalMem_v2, (size_t * bytes, int device))                                                 \
  X(context_retain, cuDevicePrimaryCtxRetain, (CudaContext * *context, int device))                                   \
  X(context_release, cuDevicePrimaryCtxRelease_v2, (int device))                                                      \
  X(context_set, cuCtxSetCurrent, (CudaContext * context))                                                            \
  X(context_synchronize, cuCtxSynchronize, (void))                                                                    \
  X(memory_info, cuMemGetInfo_v2, (size_t * free_bytes, size_t *total_bytes))                                         \
  X(memory_allocate, cuMemAlloc_v2, (CudaPointer * pointer, size_t bytes))                                            \
  X(memory_free, cuMemFree_v2, (CudaPointer pointer))                                                                 \
  X(copy_to_device, cuMemcpyHtoD_v2, (CudaPointer to, const void *from, size_t bytes))                                \
  X(copy_from_device, cuMemcpyDtoH_v2, (void *to, CudaPointer from, size_t bytes))                                    \
  X(copy_on_device, cuMemcpyDtoDAsync_v2, (CudaPointer to, CudaPointer from, size_t bytes, CudaStream *stream))       \
  X(host_allocate, cuMemHostAlloc, (void **pointer, size_t bytes, unsigned flags))                                    \
  X(host_free, cuMemFreeHost, (void *pointer))                                                                        \
  X(upload, cuMemcpyHtoDAsync_v2, (CudaPointer to, const void *from, size_t bytes, CudaStream *stream))               \
  X(download, cuMemcpyDtoHAsync_v2, (void *to, CudaPointer from, size_t bytes, CudaStream *stream))                   \
  X(fill_later, cuMemsetD8Async, (CudaPointer to, unsigned char value, size_t bytes, CudaStream *stream))             \
  X(stream_create, cuStreamCreate, (CudaStream * *stream, unsigned flags))                                            \
  X(stream_destroy, cuStreamDestroy_v2, (CudaStream * stream))                                                        \
  X(stream_synchronize, cuStreamSynchronize, (CudaStream * stream))                                                   \
  X(stream_wait, cuStreamWaitEvent, (CudaStream * stream, CudaEvent * event, unsigned flags))                         \
  X(capture_begin, cuStreamBeginCapture_v2, (CudaStream * stream, int mode))                                          \
  X(capture_end, cuStreamEndCapture, (CudaStream * stream, CudaGraph * *graph))                                       \
  X(graph_instantiate, cuGraphInstantiateWithFlags, (CudaGraphExec * *executable, CudaGraph * graph, uint64_t flags)) \
  X(graph_launch, cuGraphLaunch, (CudaGraphExec * executable, CudaStream * stream))                                   \
  X(graph_destroy, cuGraphDestroy, (CudaGraph * graph))                                                               \
  X(graph_exec_destroy, cuGraphExecDestroy, (CudaGraphExec * executable))                                             \
  X(fill_bytes, cuMemsetD8_v2, (CudaPointer to, unsigned char value, size_t bytes))                                   \
  X(module_load, cuModuleLoadData, (CudaModule * *module, const void *image))                                         \
  X(module_unload, cuModuleUnload, (CudaModule * module))                                                             \
  X(module_function, cuModuleGetFunction, (CudaFunction * *function, CudaModule *module, const char *name))           \
  X(function_set, cuFuncSetAttribute, (CudaFunction * function, int attribute, int value))                            \
  X(launch, cuLaunchKernel, (CudaFunction * function, unsigned grid_x, unsigned grid_y, unsigned grid_z,              \
                             unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,             \
                             CudaStream *stream, void **parameters, void **extra))                                   \
  X(event_create, cuEventCreate, (CudaEvent * *event, unsigned flags))                                                \
  X(event_destroy, cuEventDestroy_v2, (CudaEvent * event))                                                            \
  X(event_record, cuEventRecord, (CudaEvent * event, CudaStream *stream))                                             \
  X(event_record_flags, cuEventRecordWithFlags, (CudaEvent * event, CudaStream * stream, unsigned flags))             \
  X(event_synchronize, cuEventSynchronize, (CudaEvent * event))                                                       \
  X(event_elapsed, cuEventElapsedTime, (float *milliseconds, CudaEvent *start, CudaEvent *end))

typedef struct MuseCuda {
#define MUSE_CUDA_MEMBER(member, name, parameters) int(*member) parameters;
  MUSE_CUDA_FUNCTIONS(MUSE_CUDA_MEMBER)
#undef MUSE_CUDA_MEMBER
  // cuTensorMapEncodeTiled: interleave, swizzle, promotion and fill are its enumerations. NULL: the driver has none.
  int (*tensor_map)(void *map, int type, uint32_t rank, CudaPointer base, const uint64_t *sizes,
                    const uint64_t *row_bytes, const uint32_t *box, const uint32_t *steps, int interleave, int swizzle,
                    int promotion, int fill);
  // cuLaunchKernelEx: a CUlaunchConfig. NULL: the driver has none, or is older than 12.3 and its graphs cannot say that
  // launches overlap.
  int (*launch_with)(const void *config, CudaFunction *function, void **parameters, void **extra);
  int version; // of CUDA that the driver supports: 12040 is 12.4
} MuseCuda;

// Loads the driver's library and starts it. The sentence of a failure says what is missing and what would be enough.
MuseStatus muse_cuda_open(const MuseCuda **out_cuda, MuseDiag *diag); // stays loaded; one for the process
// MUSE_OK for 0, else a sentence: "cuMemAlloc_v2 for the slab: out of memory (CUDA_ERROR_OUT_OF_MEMORY)".
MuseStatus muse_cuda_check(const MuseCuda *cuda, int result, const char *what, MuseDiag *diag);

typedef struct MuseCudaDevice {
  int index, handle, arch; // arch: 90 for compute capability 9.0
  int multiprocessors;
  char name[128];
  size_t memory_bytes;
} MuseCudaDevice;
int muse_cuda_device_count(const MuseCuda *cuda);
MuseStatus muse_cuda_device(const MuseCuda *cuda, int index, MuseCudaDevice *out_device, MuseDiag *diag);
// Can this driver load what NVRTC of that major version makes? Otherwise a sentence.
MuseStatus muse_cuda_suits_nvrtc(const MuseCuda *cuda, int nvrtc_major, MuseDiag *diag);

#endif
