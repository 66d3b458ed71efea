// Functions and calls of generated kernels (see the header).
#include "runtime/cuda_kernel.h"

#include "compiler/cubin.h"
#include "ir/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTE_DYNAMIC_SHARED = 8, PLAIN_SHARED = 48 * 1024 };

MuseStatus muse_cuda_kernel_load(const MuseCuda *cuda, CudaModule *module, const MuseStr *cubin, const char *name,
                                 const MuseCudaLaunches *launches, MuseCudaKernel *out_kernel, MuseDiag *diag) {
  *out_kernel = (MuseCudaKernel){.cuda = cuda, .launches = launches};
  for (int s = 0; s < launches->n; s++) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "%s_%d", name, s);
    CudaFunction **f = &out_kernel->function[s];
    MUSE_TRY(muse_cuda_check(cuda, cuda->module_function(f, module, symbol), symbol, diag));
    out_kernel->overlaps[s] =
        launches->overlaps && cuda->launch_with && muse_cubin_waits_first(cubin->data, (size_t)cubin->len, symbol);
    int bytes = launches->launch[s].shared_bytes;
    if (bytes > PLAIN_SHARED)
      MUSE_TRY(muse_cuda_check(cuda, cuda->function_set(*f, ATTRIBUTE_DYNAMIC_SHARED, bytes), symbol, diag));
  }
  return MUSE_OK;
}

// ---- calls ----

typedef struct TensorMap {
  _Alignas(64) uint64_t opaque[16]; // CUtensorMap
} TensorMap;

struct MuseCudaCall {
  TensorMap map[MUSE_CUDA_MAX_LAUNCHES][MUSE_CUDA_MAX_MAPS];
  const MuseCudaKernel *kernel;
  CudaPointer *pointer;
  uint64_t *ids;
  void **parameter[MUSE_CUDA_MAX_LAUNCHES];
  int *iteration; // the number that launches of a loop read; copied when they are launched
};

// Numbers of CUtensorMapDataType, CUtensorMapSwizzle and CUtensorMapL2promotion.
static int tensor_type(MuseDtype dtype) {
  switch (dtype) {
  case MUSE_F16: return 6;
  case MUSE_F32: return 7;
  case MUSE_BF16: return 9;
  default: return 0; // bytes
  }
}

static MuseStatus encode(const MuseCuda *cuda, const MuseCudaTensorMap *m, CudaPointer base, TensorMap *out,
                         MuseDiag *diag) {
  uint64_t sizes[2] = {(uint64_t)m->columns, (uint64_t)m->rows}, strides[1] = {(uint64_t)m->row_bytes};
  uint32_t box[2] = {(uint32_t)m->box_columns, (uint32_t)m->box_rows}, steps[2] = {1, 1};
  int swizzle = m->swizzle == 128 ? 3 : m->swizzle == 64 ? 2 : m->swizzle == 32 ? 1 : 0, promote_256_bytes = 3;
  if (!cuda->tensor_map)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "the NVIDIA driver has no tensor maps, which kernels for this GPU need; install a newer one");
  return muse_cuda_check(cuda,
                         cuda->tensor_map(out, tensor_type(m->dtype), 2, base + (CudaPointer)m->offset, sizes, strides,
                                          box, steps, 0, swizzle, promote_256_bytes, 0),
                         "describing a matrix to the copy engine", diag);
}

static MuseStatus encode_maps(MuseCudaCall *call, MuseDiag *diag) {
  const MuseCudaLaunches *l = call->kernel->launches;
  for (int s = 0; s < l->n; s++)
    for (int m = 0; m < l->launch[s].n_maps; m++)
      MUSE_TRY(encode(call->kernel->cuda, &l->launch[s].map[m], call->pointer[l->launch[s].map[m].buffer],
                      &call->map[s][m], diag));
  return MUSE_OK;
}

MuseStatus muse_cuda_call_create(const MuseCudaKernel *kernel, const CudaPointer *pointers, int n_pointers,
                                 const uint64_t *ids, int n_ids, MuseCudaCall **out_call, MuseDiag *diag) {
  MuseCudaCall *call = aligned_alloc(64, (sizeof *call + 63) / 64 * 64);
  MUSE_ASSERT(call != NULL);
  memset(call, 0, sizeof *call);
  call->kernel = kernel;
  call->pointer = malloc((size_t)n_pointers * sizeof *call->pointer);
  call->ids = malloc((size_t)n_ids * sizeof *call->ids + 1);
  call->iteration = calloc(1, sizeof *call->iteration);
  MUSE_ASSERT(call->pointer && call->ids && call->iteration);
  memcpy(call->pointer, pointers, (size_t)n_pointers * sizeof *pointers);
  if (n_ids) memcpy(call->ids, ids, (size_t)n_ids * sizeof *ids);
  for (int s = 0; s < kernel->launches->n; s++) {
    const MuseCudaLaunch *l = &kernel->launches->launch[s];
    void **p = call->parameter[s] = malloc(sizeof *p * (size_t)(n_pointers + l->n_maps + 2));
    MUSE_ASSERT(p != NULL);
    for (int i = 0; i < n_pointers; i++) *p++ = &call->pointer[i];
    if (n_ids) *p++ = call->ids;
    for (int m = 0; m < l->n_maps; m++) *p++ = &call->map[s][m];
    *p = call->iteration;
  }
  MuseStatus status = encode_maps(call, diag);
  if (status == MUSE_OK) *out_call = call;
  else muse_cuda_call_destroy(call);
  return status;
}

void muse_cuda_call_destroy(MuseCudaCall *call) {
  if (!call) return;
  for (int s = 0; s < MUSE_CUDA_MAX_LAUNCHES; s++) free(call->parameter[s]);
  free(call->pointer);
  free(call->ids);
  free(call->iteration);
  free(call);
}

// CUlaunchAttribute and CUlaunchConfig.
typedef struct LaunchAttribute {
  int id;
  char pad[4];
  union {
    int value;
    char room[64];
  };
} LaunchAttribute;
typedef struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  CudaStream *stream;
  LaunchAttribute *attributes;
  unsigned n_attributes;
} LaunchConfig;
enum { PROGRAMMATIC_STREAM_SERIALIZATION = 6 };

static int launch_one(const MuseCudaCall *call, int s, int64_t iteration, bool behind_call, CudaStream *stream) {
  const MuseCudaKernel *k = call->kernel;
  const MuseCudaLaunch *l = &k->launches->launch[s];
  *call->iteration = (int)iteration;
  if (!behind_call || !k->overlaps[s])
    return k->cuda->launch(k->function[s], (unsigned)l->grid_x, (unsigned)l->grid_y, 1, (unsigned)l->block, 1, 1,
                           (unsigned)l->shared_bytes, stream, call->parameter[s], NULL);
  LaunchAttribute overlap = {.id = PROGRAMMATIC_STREAM_SERIALIZATION, .value = 1};
  LaunchConfig config = {.grid = {(unsigned)l->grid_x, (unsigned)l->grid_y, 1},
                         .block = {(unsigned)l->block, 1, 1},
                         .shared_bytes = (unsigned)l->shared_bytes,
                         .stream = stream,
                         .attributes = &overlap,
                         .n_attributes = 1};
  return k->cuda->launch_with(&config, k->function[s], call->parameter[s], NULL);
}

// Launch s, or all launches of the loop that begins there; *out_last is the last of them.
static int launch_from(const MuseCudaCall *call, int s, bool behind_call, CudaStream *stream, int *out_last) {
  const MuseCudaLaunches *l = call->kernel->launches;
  const bool loops = l->loop_count > 1 && s == l->loop_first;
  const int64_t count = loops ? l->loop_count : 1;
  *out_last = loops ? l->loop_last : s;
  int result = 0;
  for (int64_t i = 0; i < count; i++)
    for (int k = s; k <= *out_last && result == 0; k++) {
      result = launch_one(call, k, i, behind_call, stream);
      behind_call = true;
    }
  return result;
}

MuseStatus muse_cuda_call_launch(const MuseCudaCall *call, bool behind_call, CudaStream *stream, MuseDiag *diag) {
  const MuseCudaKernel *k = call->kernel;
  int result = 0;
  for (int s = 0, last; s < k->launches->n && result == 0; s = last + 1)
    result = launch_from(call, s, behind_call || s > 0, stream, &last);
  return muse_cuda_check(k->cuda, result, "launching a kernel", diag);
}
