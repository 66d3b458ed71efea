// Loading the CPU module, for programs that generate or run CPU kernels.
#include "compiler/emit.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

static void *open_beside_program(const char *relative) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n <= 0) return NULL;
  path[n] = 0;
  char *slash = strrchr(path, '/');
  if (!slash || (size_t)(slash - path) + strlen(relative) + 2 > sizeof path) return NULL;
  strcpy(slash + 1, relative);
  return access(path, R_OK) == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

MuseStatus muse_cpu_module_load(const MuseCpuModule **out_module, MuseDiag *diag) {
  void *handle = open_beside_program("libmuse-cpu.so");
  if (!handle) handle = open_beside_program("../libmuse-cpu.so"); // a program in a folder of the build tree
  if (!handle) handle = open_beside_program(MUSE_LIBDIR_FROM_BINDIR "/libmuse-cpu.so"); // installed, and moved
  if (!handle) handle = dlopen(MUSE_LIBDIR "/libmuse-cpu.so", RTLD_NOW | RTLD_LOCAL);
  if (!handle) handle = dlopen("libmuse-cpu.so", RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *why = dlerror();
    return muse_error(diag, MUSE_ERR_FAILED,
                      "the CPU code generator libmuse-cpu.so cannot be loaded (%s); install LLVM 19 (Debian: "
                      "libllvm19) or build MUSE again",
                      why ? why : "not found");
  }
  const MuseCpuModule *(*get)(void) = NULL;
  *(void **)&get = dlsym(handle, "muse_cpu_module");
  const MuseCpuModule *module = get ? get() : NULL;
  if (!module || module->abi != MUSE_CPU_MODULE_ABI)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "libmuse-cpu.so is of another version of MUSE; install or build both together");
  *out_module = module;
  return MUSE_OK;
}
