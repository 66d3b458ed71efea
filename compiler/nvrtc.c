// NVRTC through dlopen (see the header). The few declarations needed are our own: no CUDA header is used at build time.
#include "compiler/nvrtc.h"

#include "ir/base/status.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Entry points used: result type, name, parameters. Results other than 0 are errors.
typedef struct NvrtcProgram NvrtcProgram;
#define NVRTC_FUNCTIONS(X)                                                                                            \
  X(int, nvrtcVersion, (int *major, int *minor))                                                                      \
  X(int, nvrtcGetNumSupportedArchs, (int *n))                                                                         \
  X(int, nvrtcGetSupportedArchs, (int *archs))                                                                        \
  X(const char *, nvrtcGetErrorString, (int result))                                                                  \
  X(int, nvrtcCreateProgram, (NvrtcProgram * *program, const char *source, const char *name, int n_headers,           \
                              const char *const *headers, const char *const *include_names))                         \
  X(int, nvrtcDestroyProgram, (NvrtcProgram * *program))                                                              \
  X(int, nvrtcCompileProgram, (NvrtcProgram * program, int n_options, const char *const *options))                    \
  X(int, nvrtcGetPTXSize, (NvrtcProgram * program, size_t *bytes))                                                    \
  X(int, nvrtcGetPTX, (NvrtcProgram * program, char *ptx))                                                            \
  X(int, nvrtcGetCUBINSize, (NvrtcProgram * program, size_t *bytes))                                                  \
  X(int, nvrtcGetCUBIN, (NvrtcProgram * program, char *cubin))                                                        \
  X(int, nvrtcGetProgramLogSize, (NvrtcProgram * program, size_t *bytes))                                             \
  X(int, nvrtcGetProgramLog, (NvrtcProgram * program, char *log))

enum { MAX_ARCHITECTURES = 64, OLDEST_MAJOR = 12 };

// No contraction: a body computes what the CPU and the oracle compute; where fused arithmetic is wanted, it is written.
// Nothing of --use_fast_math either. Unused variables and comparisons that are always true are no mistakes in generated
// code.
#define STANDARD "--std=c++17"
#define ARITHMETIC "--fmad=false"
#define QUIET "--diag-suppress=177,186"

const char *muse_nvrtc_options(void) { return STANDARD " " ARITHMETIC " " QUIET; }

struct MuseNvrtc {
  void *library;
  char *path;
  int major, minor;
  int n_architectures, architecture[MAX_ARCHITECTURES];
#define MEMBER(type, name, parameters) type(*name) parameters;
  NVRTC_FUNCTIONS(MEMBER)
#undef MEMBER
};

// ---- finding the library ----

static void *try_open(const char *path, char **out_path) {
  if (strchr(path, '/') && access(path, R_OK) != 0) return NULL;
  // Never unloaded: it keeps memory of its own, which would be a leak once nothing refers to it.
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library) *out_path = strdup(path);
  return library;
}

static int by_version(const void *a, const void *b) { return -strverscmp(*(char *const *)a, *(char *const *)b); }

static void *search(char **out_path) {
  static const char *const files[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
  static const char *const folders[] = {"/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64"};
  void *library = NULL;
  for (size_t f = 0; f < sizeof files / sizeof *files && !library; f++) {
    for (size_t d = 0; d < sizeof folders / sizeof *folders && !library; d++) {
      glob_t found = {0};
      MuseStr pattern = {0};
      muse_str_appendf(&pattern, "%s/%s", folders[d], files[f]);
      if (glob(muse_str_text(&pattern), 0, NULL, &found) == 0) {
        qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_version);
        for (size_t i = 0; i < found.gl_pathc && !library; i++) library = try_open(found.gl_pathv[i], out_path);
      }
      globfree(&found);
      muse_str_free(&pattern);
    }
    if (!library) library = try_open(files[f], out_path);
  }
  return library;
}

static MuseStatus look_up(MuseNvrtc *n, MuseDiag *diag) {
#define LOOK_UP(type, name, parameters)                                                                               \
  *(void **)&n->name = dlsym(n->library, #name);                                                                      \
  if (!n->name)                                                                                                       \
    return muse_error(diag, MUSE_ERR_FAILED, "%s has no function %s; MUSE needs NVRTC 12 or 13", n->path, #name);
  NVRTC_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
  if (n->nvrtcVersion(&n->major, &n->minor) != 0 || n->major < OLDEST_MAJOR)
    return muse_error(diag, MUSE_ERR_FAILED, "%s is NVRTC %d.%d; MUSE needs version 12 or 13", n->path, n->major,
                      n->minor);
  int count = 0;
  if (n->nvrtcGetNumSupportedArchs(&count) != 0 || count < 1 || count > MAX_ARCHITECTURES ||
      n->nvrtcGetSupportedArchs(n->architecture) != 0)
    return muse_error(diag, MUSE_ERR_FAILED, "%s does not say which architectures it knows; install it again", n->path);
  n->n_architectures = count;
  return MUSE_OK;
}

MuseStatus muse_nvrtc_open(const char *path, MuseNvrtc **out_nvrtc, MuseDiag *diag) {
  MuseNvrtc *n = calloc(1, sizeof *n);
  MUSE_ASSERT(n != NULL);
  n->library = path ? try_open(path, &n->path) : search(&n->path);
  MuseStatus status = MUSE_OK;
  if (!n->library && path) {
    const char *why = access(path, R_OK) == 0 ? dlerror() : "there is no such file";
    status = muse_error(diag, MUSE_ERR_FAILED, "--nvrtc %s cannot be loaded: %s", path, why ? why : "not a library");
  } else if (!n->library) {
    status = muse_error(
        diag, MUSE_ERR_FAILED,
        "NVRTC, the run-time compiler of CUDA, was not found; install it (libnvrtc.so.12 or .13, in CUDA's "
        "package cuda-nvrtc) or say where it is with --nvrtc PATH");
  } else {
    status = look_up(n, diag);
  }
  if (status != MUSE_OK) {
    muse_nvrtc_close(n);
    return status;
  }
  *out_nvrtc = n;
  return MUSE_OK;
}

void muse_nvrtc_close(MuseNvrtc *n) {
  if (!n) return;
  if (n->library) dlclose(n->library);
  free(n->path);
  free(n);
}

const char *muse_nvrtc_path(const MuseNvrtc *n) { return n->path; }

void muse_nvrtc_version(const MuseNvrtc *n, int *out_major, int *out_minor) {
  *out_major = n->major;
  *out_minor = n->minor;
}

const int *muse_nvrtc_architectures(const MuseNvrtc *n, int *out_n) {
  *out_n = n->n_architectures;
  return n->architecture;
}

bool muse_nvrtc_knows(const MuseNvrtc *n, MuseCudaTarget target) {
  if (target.specific && target.arch < 90) return false;
  for (int i = 0; i < n->n_architectures; i++)
    if (n->architecture[i] == target.arch) return true;
  return false;
}

// ---- compiling ----

// "name(12): error: ..." or "error: ...": the first line that says error.
static void first_error(const char *log, MuseStr *out) {
  const char *at = strstr(log, "error");
  if (!at) at = log;
  while (at > log && at[-1] != '\n') at--;
  muse_str_append_n(out, at, strcspn(at, "\n"));
}

static void take_log(const MuseNvrtc *n, NvrtcProgram *program, MuseStr *out) {
  size_t bytes = 0;
  muse_str_clear(out);
  if (n->nvrtcGetProgramLogSize(program, &bytes) != 0 || bytes < 2) return;
  char *log = calloc(bytes + 1, 1);
  MUSE_ASSERT(log != NULL);
  if (n->nvrtcGetProgramLog(program, log) == 0) muse_str_append(out, log);
  free(log);
}

static MuseStatus take_code(const MuseNvrtc *n, NvrtcProgram *program, bool ptx, MuseStr *out, MuseDiag *diag) {
  size_t bytes = 0;
  muse_str_clear(out);
  int result = ptx ? n->nvrtcGetPTXSize(program, &bytes) : n->nvrtcGetCUBINSize(program, &bytes);
  char *code = calloc(bytes + 1, 1);
  MUSE_ASSERT(code != NULL);
  if (result == 0) result = ptx ? n->nvrtcGetPTX(program, code) : n->nvrtcGetCUBIN(program, code);
  if (result == 0) muse_str_append_n(out, code, ptx ? strlen(code) : bytes);
  free(code);
  if (result != 0 || out->len == 0)
    return muse_error(diag, MUSE_ERR_FAILED, "NVRTC %d.%d gave no %s: %s", n->major, n->minor, ptx ? "PTX" : "cubin",
                      n->nvrtcGetErrorString(result));
  return MUSE_OK;
}

MuseStatus muse_nvrtc_compile(const MuseNvrtc *n, const char *source, const char *name, MuseCudaTarget target, bool ptx,
                              MuseStr *out_code, MuseStr *out_log, MuseDiag *diag) {
  char arch[24], option[64];
  muse_cuda_target_name(target, ptx, arch);
  if (!muse_nvrtc_knows(n, target))
    return muse_error(diag, MUSE_ERR_INPUT, "NVRTC %d.%d (%s) does not know %s", n->major, n->minor, n->path, arch);
  snprintf(option, sizeof option, "--gpu-architecture=%s", arch);
  // NVRTC 13 keeps machine code itself, and then has no log of it.
  const char *options[7] = {option, STANDARD, ARITHMETIC, QUIET};
  int n_options = 4;
  if (!ptx) options[n_options++] = "--ptxas-options=-v";
  if (n->major >= 13) options[n_options++] = "--no-cache";
  NvrtcProgram *program = NULL;
  int result = n->nvrtcCreateProgram(&program, source, name, 0, NULL, NULL);
  if (result != 0)
    return muse_error(diag, MUSE_ERR_FAILED, "NVRTC cannot take kernel %s: %s", name, n->nvrtcGetErrorString(result));
  result = n->nvrtcCompileProgram(program, n_options, options);
  take_log(n, program, out_log);
  MuseStatus status = MUSE_OK;
  if (result != 0) {
    MuseStr line = {0};
    first_error(muse_str_text(out_log), &line);
    status = muse_error(diag, MUSE_ERR_FAILED, "kernel %s cannot be compiled for %s: %s: %s", name, arch,
                        n->nvrtcGetErrorString(result), muse_str_text(&line));
    muse_str_free(&line);
  } else {
    status = take_code(n, program, ptx, out_code, diag);
  }
  n->nvrtcDestroyProgram(&program);
  return status;
}

// "12 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads", "Used 40 registers, ..., 2048 bytes smem"
static int number_before(const char *line, const char *what) {
  const char *at = strstr(line, what);
  if (!at) return 0;
  while (at > line && at[-1] == ' ') at--;
  const char *digits = at;
  while (digits > line && digits[-1] >= '0' && digits[-1] <= '9') digits--;
  return digits < at ? atoi(digits) : 0;
}

static void raise_to(int *worst, int value) {
  if (value > *worst) *worst = value;
}

void muse_nvrtc_resources(const char *log, MuseCudaResources *out) {
  *out = (MuseCudaResources){0};
  for (const char *p = log; *p; p += strcspn(p, "\n"), p += *p == '\n') {
    char line[512];
    snprintf(line, sizeof line, "%.*s", (int)(strcspn(p, "\n") < 500 ? strcspn(p, "\n") : 500), p);
    raise_to(&out->stack_bytes, number_before(line, "bytes stack frame"));
    raise_to(&out->spill_bytes, number_before(line, "bytes spill stores") + number_before(line, "bytes spill loads"));
    if (!strstr(line, "Used ")) continue;
    out->n_kernels++;
    raise_to(&out->registers, number_before(line, "registers"));
    raise_to(&out->shared_bytes, number_before(line, "bytes smem"));
  }
}
