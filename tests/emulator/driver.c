// The software GPU's driver: libcuda.so.1 as far as runtime/cuda_api.h asks for it. Device memory is memory of the
// host, a module is a shared library that the compiler beside it (nvrtc.c) made. graph.c has streams and graphs.
//
// Environment: MUSE_EMULATOR_ARCH (compute capability, "8.0"), MUSE_EMULATOR_MEMORY (GiB, 4), MUSE_EMULATOR_THREADS.
#include "tests/emulator/driver.h"

#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 12080 };

typedef uint64_t Pointer;
typedef struct Module {
  void *library;
} Module;
typedef struct Allocation {
  Pointer pointer;
  size_t bytes;
  struct Allocation *next;
} Allocation;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Allocation *allocations;
static size_t allocated;
static Function *functions;
static int sticky; // the error of a launch, which every later call reports

// ---- errors ----

static const struct {
  int number;
  const char *name, *text;
} errors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image for the software GPU"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "a kernel failed on the software GPU"},
    {NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not permitted while a stream is captured"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "the capture failed before"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "the capture was not joined to the stream it began at"},
};

EXPORT int cuGetErrorName(int error, const char **text) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].number == error) return *text = errors[i].name, 0;
  return INVALID_VALUE;
}

EXPORT int cuGetErrorString(int error, const char **text) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].number == error) return *text = errors[i].text, 0;
  return INVALID_VALUE;
}

int emu_lock(void) {
  pthread_mutex_lock(&lock);
  return sticky;
}

int emu_unlock(int result) {
  pthread_mutex_unlock(&lock);
  return result;
}

// ---- the device ----

static int capability(void) { // 80 for "8.0"
  const char *text = getenv("MUSE_EMULATOR_ARCH");
  char *dot;
  if (!text || !*text) return 80;
  const long major = strtol(text, &dot, 10);
  return (int)(10 * major + (*dot == '.' ? strtol(dot + 1, NULL, 10) : 0));
}

static size_t memory_bytes(void) {
  const char *text = getenv("MUSE_EMULATOR_MEMORY");
  return (size_t)(text ? atoi(text) : 4) << 30;
}

static unsigned shared_limit(void) { // of a block that asks for it, in bytes
  switch (capability()) {
  case 75: return 64 << 10;
  case 80: case 87: return 163 << 10;
  case 90: case 100: case 103: return 227 << 10;
  default: return 99 << 10;
  }
}

EXPORT int cuInit(unsigned flags) { return flags ? INVALID_VALUE : 0; }

EXPORT int cuDriverGetVersion(int *version) {
  *version = VERSION;
  return 0;
}

EXPORT int cuDeviceGetCount(int *n) {
  *n = 1;
  return 0;
}

EXPORT int cuDeviceGet(int *device, int index) {
  *device = 0;
  return index == 0 ? 0 : INVALID_VALUE;
}

EXPORT int cuDeviceGetName(char *name, int bytes, int device) {
  snprintf(name, (size_t)bytes, "MUSE software GPU (an emulator for tests, no GPU)");
  return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
  case 16: *value = 1; return 0; // multiprocessors
  case 75: *value = capability() / 10; return 0;
  case 76: *value = capability() % 10; return 0;
  case 97: *value = (int)shared_limit(); return 0;
  default: return INVALID_VALUE;
  }
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  *bytes = memory_bytes();
  return 0;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  static int the_context;
  *context = &the_context;
  return 0;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
EXPORT int cuCtxSetCurrent(void *context) { return 0; }

EXPORT int cuCtxSynchronize(void) {
  return emu_unlock(emu_lock());
}

// ---- memory ----

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
  const int result = emu_lock();
  *total_bytes = memory_bytes();
  *free_bytes = *total_bytes - allocated;
  return emu_unlock(result);
}

EXPORT int cuMemAlloc_v2(Pointer *pointer, size_t bytes) {
  int result = emu_lock();
  if (result) return emu_unlock(result);
  if (bytes == 0) return emu_unlock(INVALID_VALUE);
  if (allocated + bytes > memory_bytes()) return emu_unlock(OUT_OF_MEMORY);
  Allocation *a = malloc(sizeof *a);
  void *memory = aligned_alloc(512, (bytes + 511) / 512 * 512);
  if (!a || !memory) {
    free(a);
    free(memory);
    return emu_unlock(OUT_OF_MEMORY);
  }
  memset(memory, 0xCD, bytes); // nothing may count on zeros
  *a = (Allocation){(Pointer)(uintptr_t)memory, bytes, allocations};
  allocations = a;
  allocated += bytes;
  *pointer = a->pointer;
  return emu_unlock(0);
}

EXPORT int cuMemFree_v2(Pointer pointer) {
  const int result = emu_lock();
  for (Allocation **a = &allocations; *a; a = &(*a)->next) {
    if ((*a)->pointer != pointer) continue;
    Allocation *gone = *a;
    *a = gone->next;
    allocated -= gone->bytes;
    memset((void *)(uintptr_t)pointer, 0xDD, gone->bytes);
    free((void *)(uintptr_t)pointer);
    free(gone);
    return emu_unlock(result);
  }
  return emu_unlock(INVALID_VALUE);
}

EXPORT int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
  *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *pointer ? 0 : OUT_OF_MEMORY;
}

EXPORT int cuMemFreeHost(void *pointer) {
  free(pointer);
  return 0;
}

// Does [pointer, + bytes) lie in one allocation?
static bool is_device(Pointer pointer, size_t bytes) {
  for (const Allocation *a = allocations; a; a = a->next)
    if (pointer >= a->pointer && pointer - a->pointer <= a->bytes && bytes <= a->bytes - (pointer - a->pointer))
      return true;
  return false;
}

// ---- work ----

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int emu_perform(const Op *op) {
  char problem[640];
  if (sticky) return sticky;
  switch (op->kind) {
  case OP_COPY: memmove(op->to, op->from, op->bytes); break;
  case OP_FILL: memset(op->to, op->value, op->bytes); break;
  case OP_RECORD: op->event->seconds = now(); break;
  case OP_NOTHING: break;
  case OP_LAUNCH: {
    const EmuLaunch l = {op->function->kernel, op->function->name, op->parameters, op->grid, op->size,
                         op->dynamic_bytes, op->dynamic_bytes > 48 << 10 ? shared_limit() : 48 << 10};
    if (emu_execute(&l, problem, sizeof problem)) break;
    fprintf(stderr, "MUSE software GPU: %s\n", problem);
    return sticky = LAUNCH_FAILED;
  }
  }
  return 0;
}

void emu_op_free(Op *op) {
  if (!op->parameters) return;
  for (int i = 0; i < op->function->kernel->n_parameters; i++) free(op->parameters[i]);
  free(op->parameters);
}

static int copy(void *to, const void *from, size_t bytes, Stream *stream) {
  Op op = {.kind = OP_COPY, .to = to, .from = from, .bytes = bytes};
  return emu_give(stream, &op);
}

EXPORT int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, Stream *stream) {
  const int result = emu_lock();
  if (result || !is_device(to, bytes)) return emu_unlock(result ? result : INVALID_VALUE);
  return emu_unlock(copy((void *)(uintptr_t)to, from, bytes, stream));
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, Stream *stream) {
  const int result = emu_lock();
  if (result || !is_device(from, bytes)) return emu_unlock(result ? result : INVALID_VALUE);
  return emu_unlock(copy(to, (const void *)(uintptr_t)from, bytes, stream));
}

EXPORT int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream *stream) {
  const int result = emu_lock();
  if (result || !is_device(from, bytes) || !is_device(to, bytes)) return emu_unlock(result ? result : INVALID_VALUE);
  return emu_unlock(copy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, stream));
}

EXPORT int cuMemcpyHtoD_v2(Pointer to, const void *from, size_t bytes) {
  return cuMemcpyHtoDAsync_v2(to, from, bytes, NULL);
}
EXPORT int cuMemcpyDtoH_v2(void *to, Pointer from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, NULL); }

EXPORT int cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Stream *stream) {
  const int result = emu_lock();
  if (result || !is_device(to, bytes)) return emu_unlock(result ? result : INVALID_VALUE);
  Op op = {.kind = OP_FILL, .to = (void *)(uintptr_t)to, .value = value, .bytes = bytes};
  return emu_unlock(emu_give(stream, &op));
}
EXPORT int cuMemsetD8_v2(Pointer to, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(to, value, bytes, NULL);
}

// ---- modules ----

// A shared library ends behind the table of its sections.
static size_t image_bytes(const unsigned char *image) {
  Elf64_Ehdr header;
  if (memcmp(image, ELFMAG, SELFMAG) != 0) return 0;
  memcpy(&header, image, sizeof header);
  return header.e_shoff + (size_t)header.e_shnum * header.e_shentsize;
}

EXPORT int cuModuleLoadData(Module **module, const void *image) {
  const int result = emu_lock();
  const size_t bytes = image_bytes(image);
  const char *tmp = getenv("TMPDIR");
  char path[128]; // a new one each time: the loader takes a name that it knows for what it has loaded
  if (result || !bytes) return emu_unlock(result ? result : NO_BINARY);
  snprintf(path, sizeof path, "%.80s/muse-emulator-module-XXXXXX", tmp ? tmp : "/tmp");
  const int file = mkstemp(path);
  const bool written = file >= 0 && write(file, image, bytes) == (ssize_t)bytes;
  void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) fprintf(stderr, "MUSE software GPU: a module cannot be loaded: %s\n", written ? dlerror() : path);
  if (file >= 0) close(file), unlink(path);
  *module = library ? calloc(1, sizeof **module) : NULL;
  if (!*module) return emu_unlock(NO_BINARY);
  (*module)->library = library;
  return emu_unlock(0);
}

EXPORT int cuModuleUnload(Module *module) {
  const int result = emu_lock();
  for (Function **f = &functions; *f;) {
    if ((*f)->module == module) {
      Function *gone = *f;
      *f = gone->next;
      free(gone);
    } else {
      f = &(*f)->next;
    }
  }
  dlclose(module->library);
  free(module);
  return emu_unlock(result);
}

EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
  const int result = emu_lock();
  char symbol[160];
  snprintf(symbol, sizeof symbol, "emu_kernel_%s", name);
  const EmuKernel *kernel = dlsym(module->library, symbol);
  if (result || !kernel) return emu_unlock(result ? result : NOT_FOUND);
  if (kernel->arch != capability()) return emu_unlock(NO_BINARY);
  for (Function *f = functions; f; f = f->next)
    if (f->kernel == kernel) return *function = f, emu_unlock(0);
  Function *f = calloc(1, sizeof *f);
  if (!f) return emu_unlock(OUT_OF_MEMORY);
  f->kernel = kernel, f->module = module, f->next = functions, f->max_dynamic = 48 << 10;
  snprintf(f->name, sizeof f->name, "%s", name);
  *function = functions = f;
  return emu_unlock(0);
}

EXPORT int cuFuncSetAttribute(Function *function, int attribute, int value) {
  const int result = emu_lock(), dynamic_shared = 8;
  if (result) return emu_unlock(result);
  if (attribute != dynamic_shared || value < 0 || (unsigned)value > shared_limit()) return emu_unlock(INVALID_VALUE);
  function->max_dynamic = (unsigned)value;
  return emu_unlock(0);
}

EXPORT int cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream *stream, void **parameters,
                          void **extra) {
  const int result = emu_lock();
  const EmuKernel *k = function->kernel;
  const uint64_t threads = (uint64_t)block_x * block_y * block_z, blocks = (uint64_t)grid_x * grid_y * grid_z;
  if (result) return emu_unlock(result);
  if (threads == 0 || threads > (unsigned)k->max_threads || blocks == 0 || grid_y > 65535 || grid_z > 65535 ||
      shared_bytes > function->max_dynamic || extra)
    return emu_unlock(INVALID_VALUE);
  Op op = {.kind = OP_LAUNCH,
           .function = function,
           .grid = {grid_x, grid_y, grid_z},
           .size = {block_x, block_y, block_z},
           .dynamic_bytes = shared_bytes};
  op.parameters = calloc((size_t)k->n_parameters + 1, sizeof *op.parameters);
  for (int i = 0; i < k->n_parameters && op.parameters; i++) {
    op.parameters[i] = aligned_alloc(64, (k->parameter_bytes[i] + 63) / 64 * 64);
    if (!op.parameters[i]) return emu_unlock(OUT_OF_MEMORY);
    memcpy(op.parameters[i], parameters[i], k->parameter_bytes[i]);
  }
  return emu_unlock(op.parameters ? emu_give(stream, &op) : OUT_OF_MEMORY);
}
