#ifndef MUSE_RUNTIME_CUDA_KERNELS_H
#define MUSE_RUNTIME_CUDA_KERNELS_H

#include "compiler/plan.h"
#include "runtime/cuda_kernel.h"
#include "runtime/pool.h"

// Machine code of a plan's kernels for GPUs: CUDA C by the emitters, made into cubins by NVRTC or read from the kernel
// cache (then NVRTC is not even loaded), and loaded on a GPU. Compiling needs no GPU.
typedef struct MuseCudaKernels MuseCudaKernels;

typedef struct MuseCudaKernelsOptions {
  MuseCudaTarget target;
  int driver_version;       // of CUDA that the driver supports; 0: there is none, and nothing will be loaded
  const char *nvrtc;        // the library; NULL: searched
  const char *cache_dir;    // NULL: the user's cache folder
  const char *dump_dir;     // NULL: none
  const char *override_dir; // NULL: none
  bool no_cache, quiet;
} MuseCudaKernelsOptions;

// The architecture whose code a GPU runs best: sm_90a for 90 (NVRTC may know only an older one of the family).
MuseCudaTarget muse_cuda_target_of(int arch);

MuseStatus muse_cuda_kernels_create(const MusePlan *plan, const MuseCudaKernelsOptions *options,
                                    MuseCudaKernels **out_kernels, MuseDiag *diag);
void muse_cuda_kernels_destroy(MuseCudaKernels *kernels); // NULL is allowed

// The steps to a kernel that can be launched, each for a list of distinct kernels of the plan; those that are already
// as far stay. Variant -1: the chosen one of each (0 unless muse_cuda_kernels_choose said another).
MuseStatus muse_cuda_kernels_emit(MuseCudaKernels *k, MusePool *pool, const int *indices, int n, int variant,
                                  MuseDiag *diag);
MuseStatus muse_cuda_kernels_compile(MuseCudaKernels *k, MusePool *pool, const int *indices, int n, int variant,
                                     MuseDiag *diag);
MuseStatus muse_cuda_kernels_load(MuseCudaKernels *k, const MuseCuda *cuda, const int *indices, int n, int variant,
                                  MuseDiag *diag);

int muse_cuda_kernels_variants(const MuseCudaKernels *k, int index);    // of an emitted kernel
bool muse_cuda_kernels_is_overridden(const MuseCudaKernels *k, int index); // by a source of override_dir
void muse_cuda_kernels_choose(MuseCudaKernels *k, int index, int variant);
int muse_cuda_kernels_chosen(const MuseCudaKernels *k, int index);
const MuseCudaLaunches *muse_cuda_kernels_launches(const MuseCudaKernels *k, int index, int variant); // emitted
const MuseCudaKernel *muse_cuda_kernels_loaded(const MuseCudaKernels *k, int index, int variant);     // loaded
void muse_cuda_kernel_name(const MusePlanKernel *kernel, char out_name[24]); // "k0123456789abcdef"

// A number kept in the cache under a text, for choices that were measured. False when there is none.
bool muse_cuda_kernels_recall(MuseCudaKernels *k, const MusePlanKernel *kernel, const char *what, int *out_value);
void muse_cuda_kernels_remember(MuseCudaKernels *k, const MusePlanKernel *kernel, const char *what, int value);

// Compiles a text that is not a kernel of the plan, through the cache too.
MuseStatus muse_cuda_kernels_compile_text(MuseCudaKernels *k, const char *name, const char *source, MuseStr *out_cubin,
                                          MuseDiag *diag);

MuseCudaTarget muse_cuda_kernels_target(const MuseCudaKernels *k);
void muse_cuda_kernels_counts(const MuseCudaKernels *k, int *out_compiled, int *out_cached, double *out_seconds);

#endif
