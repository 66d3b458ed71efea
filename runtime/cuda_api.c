// The driver API through dlopen (see the header).
#include "runtime/cuda_api.h"

#include "ir/base/status.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_VERSION = 12000, GRAPHS_OVERLAP = 12030 };
enum { ATTRIBUTE_MAJOR = 75, ATTRIBUTE_MINOR = 76, ATTRIBUTE_MULTIPROCESSORS = 16 };

static MuseCuda cuda_api;
static bool is_open;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

MuseStatus muse_cuda_check(const MuseCuda *cuda, int result, const char *what, MuseDiag *diag) {
  if (result == 0) return MUSE_OK;
  const char *name = NULL, *text = NULL;
  if (cuda->error_name(result, &name) != 0 || !name) name = "unknown";
  if (cuda->error_text(result, &text) != 0 || !text) text = "error of the CUDA driver";
  return muse_error(diag, MUSE_ERR_FAILED, "%s: %s (%s, %d)", what, text, name, result);
}

static MuseStatus load(MuseCuda *cuda, MuseDiag *diag) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen("/usr/lib/wsl/lib/libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "there is no NVIDIA driver (libcuda.so.1 was not found); install one that supports CUDA 12.0 or "
                      "newer (525 or newer)");
#define LOOK_UP(member, name, parameters)                                                                             \
  *(void **)&cuda->member = dlsym(library, #name);                                                                    \
  if (!cuda->member)                                                                                                  \
    return muse_error(diag, MUSE_ERR_FAILED,                                                                          \
                      "the NVIDIA driver is too old (it has no %s); install one that supports CUDA 12.0 or newer "    \
                      "(525 or newer)", #name);
  MUSE_CUDA_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
  *(void **)&cuda->tensor_map = dlsym(library, "cuTensorMapEncodeTiled");
  *(void **)&cuda->launch_with = dlsym(library, "cuLaunchKernelEx");
  int result = cuda->init(0);
  if (result == 100) return muse_error(diag, MUSE_ERR_FAILED, "the NVIDIA driver is there but finds no GPU");
  if (result == 803 || result == 999)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "the NVIDIA driver's library and kernel module do not work together (error %d); load the module "
                      "of the same version, or restart", result);
  MUSE_TRY(muse_cuda_check(cuda, result, "starting the CUDA driver", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->driver_version(&cuda->version), "asking the driver's version", diag));
  if (cuda->version < OLDEST_VERSION)
    return muse_error(
        diag, MUSE_ERR_FAILED,
        "the NVIDIA driver supports CUDA %d.%d only; install one that supports 12.0 or newer (525 or newer)",
        cuda->version / 1000, cuda->version % 1000 / 10);
  if (cuda->version < GRAPHS_OVERLAP) cuda->launch_with = NULL;
  return MUSE_OK;
}

MuseStatus muse_cuda_open(const MuseCuda **out_cuda, MuseDiag *diag) {
  pthread_mutex_lock(&lock);
  MuseStatus status = is_open ? MUSE_OK : load(&cuda_api, diag);
  is_open = status == MUSE_OK;
  pthread_mutex_unlock(&lock);
  if (status == MUSE_OK) *out_cuda = &cuda_api;
  return status;
}

int muse_cuda_device_count(const MuseCuda *cuda) {
  int n = 0;
  return cuda->device_count(&n) == 0 ? n : 0;
}

MuseStatus muse_cuda_device(const MuseCuda *cuda, int index, MuseCudaDevice *out_device, MuseDiag *diag) {
  MuseCudaDevice d = {.index = index};
  int n = muse_cuda_device_count(cuda), major = 0, minor = 0;
  if (index < 0 || index >= n)
    return muse_error(diag, MUSE_ERR_INPUT, "there is no GPU %d; this machine has %d", index, n);
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_get(&d.handle, index), "asking for a GPU", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_name(d.name, sizeof d.name, d.handle), "asking a GPU's name", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_memory(&d.memory_bytes, d.handle), "asking a GPU's memory", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_attribute(&major, ATTRIBUTE_MAJOR, d.handle), "asking a GPU", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_attribute(&minor, ATTRIBUTE_MINOR, d.handle), "asking a GPU", diag));
  MUSE_TRY(muse_cuda_check(cuda, cuda->device_attribute(&d.multiprocessors, ATTRIBUTE_MULTIPROCESSORS, d.handle),
                           "asking a GPU", diag));
  d.arch = 10 * major + minor;
  *out_device = d;
  return MUSE_OK;
}

MuseStatus muse_cuda_suits_nvrtc(const MuseCuda *cuda, int nvrtc_major, MuseDiag *diag) {
  if (cuda->version / 1000 >= nvrtc_major) return MUSE_OK;
  return muse_error(
      diag, MUSE_ERR_FAILED,
      "the NVIDIA driver supports CUDA %d.%d, but NVRTC %d makes code for newer ones; install a driver that "
      "supports CUDA %d (%d or newer), or NVRTC %d and say where it is with --nvrtc PATH",
      cuda->version / 1000, cuda->version % 1000 / 10, nvrtc_major, nvrtc_major, nvrtc_major == 12 ? 525 : 580,
      cuda->version / 1000);
}
