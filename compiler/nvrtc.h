#ifndef MUSE_COMPILER_NVRTC_H
#define MUSE_COMPILER_NVRTC_H

#include "compiler/cuda_target.h"
#include "ir/base/str.h"

// NVIDIA's run-time compiler of CUDA C (libnvrtc, version 12 or 13), loaded with dlopen. It needs no GPU and no driver.
typedef struct MuseNvrtc MuseNvrtc;

// path: the library itself; NULL: /usr/local/cuda/lib64, /usr/local/cuda-*/lib64 (newest first), /opt/cuda/lib64, then
// the paths of the dynamic loader, and everywhere version 13 before 12. The sentence of a failure says what would be
// enough.
MuseStatus muse_nvrtc_open(const char *path, MuseNvrtc **out_nvrtc, MuseDiag *diag);
void muse_nvrtc_close(MuseNvrtc *nvrtc); // NULL is allowed

// The options that every program is compiled with; what is kept of compiled code is kept under them too.
const char *muse_nvrtc_options(void);
const char *muse_nvrtc_path(const MuseNvrtc *nvrtc);
void muse_nvrtc_version(const MuseNvrtc *nvrtc, int *out_major, int *out_minor);
const int *muse_nvrtc_architectures(const MuseNvrtc *nvrtc, int *out_n); // ascending: 75, 80, ...
bool muse_nvrtc_knows(const MuseNvrtc *nvrtc, MuseCudaTarget target);

// Compiles one source text, named `name` in messages, to a cubin, or to PTX text. *out_log is the compiler's log; it
// ends with the resources of each kernel (ptxas -v) when a cubin was asked for. A compile error is MUSE_ERR_FAILED with
// the first error in the sentence and everything in the log. May be called from many threads.
MuseStatus muse_nvrtc_compile(const MuseNvrtc *nvrtc, const char *source, const char *name, MuseCudaTarget target,
                              bool ptx, MuseStr *out_code, MuseStr *out_log, MuseDiag *diag);

// What ptxas says in the log of a kernel, worst of all kernels in it.
typedef struct MuseCudaResources {
  int n_kernels, registers, stack_bytes, spill_bytes, shared_bytes;
} MuseCudaResources;
void muse_nvrtc_resources(const char *log, MuseCudaResources *out);

#endif
