// The software GPU's driver: libcuda.so.1 as far as runtime/cuda_api.h asks for it. Device memory is memory of the
// host, a module is a shared library that the compiler beside it (nvrtc.c) made. Work is done when it is given, which
// is one of the orders that streams allow; a graph keeps what its capture was given, with what each piece waits for,
// and runs it in another order that is allowed: always the piece that was given last of those that may run.
//
// Environment: MUSE_EMULATOR_ARCH (compute capability, "8.0"), MUSE_EMULATOR_MEMORY (GiB, 4), MUSE_EMULATOR_THREADS.
#include "tests/emulator/execute.h"

#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
  VERSION = 12080,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_BINARY = 209,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNJOINED = 904,
  NOT_PERMITTED = 800
};
enum { MAX_PARAMETERS = 256, MAX_WAITS = 64, EXTERNAL = 1, GUARD = 256 };

typedef uint64_t Pointer;

typedef struct Module {
  void *library;
} Module;
typedef struct Function {
  const EmuKernel *kernel;
  unsigned max_dynamic;
  struct Function *next;
  char name[128];
  Module *module;
} Function;

typedef struct Graph Graph;
typedef struct Stream {
  Graph *capture;
  int last; // node of the capture, or -1
  int waits[MAX_WAITS], n_waits; // nodes that the next one waits for, beside the last
  struct Stream *next;
} Stream;
typedef struct Event {
  double seconds; // 0: never recorded
  Graph *capture;
  int node;
} Event;

typedef enum OpKind { OP_LAUNCH, OP_COPY, OP_FILL, OP_RECORD, OP_NOTHING } OpKind;
typedef struct Op {
  OpKind kind;
  Function *function;
  EmuIndex grid, size;
  unsigned dynamic_bytes;
  void **parameters; // copies
  void *to;
  const void *from;
  size_t bytes;
  unsigned char value;
  Event *event;
} Op;
typedef struct Node {
  Op op;
  int waits[MAX_WAITS + 1], n_waits;
} Node;
struct Graph {
  Node *node;
  int n, room, n_users; // users: the graph and its executables
  Stream *origin;
  bool invalid;
  int *order;
};

typedef struct Allocation {
  Pointer pointer;
  size_t bytes;
  struct Allocation *next;
} Allocation;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Allocation *allocations;
static size_t allocated;
static Function *functions;
static Stream default_stream = {.last = -1}, *streams;
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

static int locked(void) {
  pthread_mutex_lock(&lock);
  return sticky;
}

static int unlocked(int result) {
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
  return unlocked(locked());
}

// ---- memory ----

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
  const int result = locked();
  *total_bytes = memory_bytes();
  *free_bytes = *total_bytes - allocated;
  return unlocked(result);
}

EXPORT int cuMemAlloc_v2(Pointer *pointer, size_t bytes) {
  int result = locked();
  if (result) return unlocked(result);
  if (bytes == 0) return unlocked(INVALID_VALUE);
  if (allocated + bytes > memory_bytes()) return unlocked(OUT_OF_MEMORY);
  Allocation *a = malloc(sizeof *a);
  void *memory = aligned_alloc(512, (bytes + 511) / 512 * 512);
  if (!a || !memory) {
    free(a);
    free(memory);
    return unlocked(OUT_OF_MEMORY);
  }
  memset(memory, 0xCD, bytes); // nothing may count on zeros
  *a = (Allocation){(Pointer)(uintptr_t)memory, bytes, allocations};
  allocations = a;
  allocated += bytes;
  *pointer = a->pointer;
  return unlocked(0);
}

EXPORT int cuMemFree_v2(Pointer pointer) {
  const int result = locked();
  for (Allocation **a = &allocations; *a; a = &(*a)->next) {
    if ((*a)->pointer != pointer) continue;
    Allocation *gone = *a;
    *a = gone->next;
    allocated -= gone->bytes;
    memset((void *)(uintptr_t)pointer, 0xDD, gone->bytes);
    free((void *)(uintptr_t)pointer);
    free(gone);
    return unlocked(result);
  }
  return unlocked(INVALID_VALUE);
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

static int perform(const Op *op) {
  char problem[640];
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

static void op_free(Op *op) {
  if (!op->parameters) return;
  for (int i = 0; i < op->function->kernel->n_parameters; i++) free(op->parameters[i]);
  free(op->parameters);
}

static int add_node(Stream *s, const Op *op) {
  Graph *g = s->capture;
  if (g->n == g->room) {
    g->room = g->room ? 2 * g->room : 64;
    g->node = realloc(g->node, (size_t)g->room * sizeof *g->node);
    if (!g->node) abort();
  }
  Node *node = &g->node[g->n];
  *node = (Node){.op = *op};
  if (s->last >= 0) node->waits[node->n_waits++] = s->last;
  for (int i = 0; i < s->n_waits; i++) node->waits[node->n_waits++] = s->waits[i];
  s->n_waits = 0;
  s->last = g->n++;
  return 0;
}

// Takes the op: it is done, or kept by the capture of the stream.
static int give(Stream *stream, Op *op) {
  Stream *s = stream ? stream : &default_stream;
  if (s->capture) return add_node(s, op);
  const int result = sticky ? sticky : perform(op);
  op_free(op);
  return result;
}

static int copy(void *to, const void *from, size_t bytes, Stream *stream) {
  Op op = {.kind = OP_COPY, .to = to, .from = from, .bytes = bytes};
  return give(stream, &op);
}

EXPORT int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, Stream *stream) {
  const int result = locked();
  if (result || !is_device(to, bytes)) return unlocked(result ? result : INVALID_VALUE);
  return unlocked(copy((void *)(uintptr_t)to, from, bytes, stream));
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, Stream *stream) {
  const int result = locked();
  if (result || !is_device(from, bytes)) return unlocked(result ? result : INVALID_VALUE);
  return unlocked(copy(to, (const void *)(uintptr_t)from, bytes, stream));
}

EXPORT int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream *stream) {
  const int result = locked();
  if (result || !is_device(from, bytes) || !is_device(to, bytes)) return unlocked(result ? result : INVALID_VALUE);
  return unlocked(copy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, stream));
}

EXPORT int cuMemcpyHtoD_v2(Pointer to, const void *from, size_t bytes) {
  return cuMemcpyHtoDAsync_v2(to, from, bytes, NULL);
}
EXPORT int cuMemcpyDtoH_v2(void *to, Pointer from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, NULL); }

EXPORT int cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Stream *stream) {
  const int result = locked();
  if (result || !is_device(to, bytes)) return unlocked(result ? result : INVALID_VALUE);
  Op op = {.kind = OP_FILL, .to = (void *)(uintptr_t)to, .value = value, .bytes = bytes};
  return unlocked(give(stream, &op));
}
EXPORT int cuMemsetD8_v2(Pointer to, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(to, value, bytes, NULL);
}

// ---- streams and events ----

EXPORT int cuStreamCreate(Stream **stream, unsigned flags) {
  const int result = locked();
  Stream *s = calloc(1, sizeof *s);
  if (result || !s) return unlocked(result ? result : OUT_OF_MEMORY);
  s->last = -1, s->next = streams;
  *stream = streams = s;
  return unlocked(0);
}

EXPORT int cuStreamDestroy_v2(Stream *stream) {
  const int result = locked();
  for (Stream **s = &streams; *s; s = &(*s)->next) {
    if (*s != stream) continue;
    *s = stream->next;
    free(stream);
    break;
  }
  return unlocked(result);
}

EXPORT int cuStreamSynchronize(Stream *stream) {
  const int result = locked();
  if (stream && stream->capture) return unlocked(CAPTURE_UNSUPPORTED);
  return unlocked(result);
}

EXPORT int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
  const int result = locked();
  Stream *s = stream ? stream : &default_stream;
  if (result || !event->capture) return unlocked(result);
  if (s->capture != event->capture) { // the stream joins
    if (s->capture) return unlocked(CAPTURE_INVALIDATED);
    s->capture = event->capture, s->last = -1, s->n_waits = 0;
  }
  if (event->node >= 0) {
    if (s->n_waits == MAX_WAITS) { // a node that stands for all of them
      const Op nothing = {.kind = OP_NOTHING};
      add_node(s, &nothing);
    }
    s->waits[s->n_waits++] = event->node;
  }
  return unlocked(0);
}

EXPORT int cuEventCreate(Event **event, unsigned flags) {
  *event = calloc(1, sizeof **event);
  return *event ? 0 : OUT_OF_MEMORY;
}

EXPORT int cuEventDestroy_v2(Event *event) {
  free(event);
  return 0;
}

EXPORT int cuEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) {
  const int result = locked();
  Stream *s = stream ? stream : &default_stream;
  if (result) return unlocked(result);
  Op op = {.kind = OP_RECORD, .event = event};
  if (!s->capture) {
    event->capture = NULL;
    return unlocked(give(s, &op));
  }
  if (flags & EXTERNAL) return unlocked(give(s, &op));
  if (s->n_waits) { // who waits for the event waits for what the stream waits for
    const Op nothing = {.kind = OP_NOTHING};
    add_node(s, &nothing);
  }
  event->capture = s->capture, event->node = s->last;
  return unlocked(0);
}

EXPORT int cuEventRecord(Event *event, Stream *stream) { return cuEventRecordWithFlags(event, stream, 0); }

EXPORT int cuEventSynchronize(Event *event) {
  const int result = locked();
  return unlocked(result ? result : event->capture ? CAPTURE_UNSUPPORTED : 0);
}

EXPORT int cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
  const int result = locked();
  if (!result && (start->seconds == 0 || end->seconds == 0)) return unlocked(NOT_READY);
  *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
  return unlocked(result);
}

// ---- graphs ----

EXPORT int cuStreamBeginCapture_v2(Stream *stream, int mode) {
  const int result = locked();
  if (result || !stream || stream->capture) return unlocked(result ? result : CAPTURE_UNSUPPORTED);
  Graph *g = calloc(1, sizeof *g);
  if (!g) return unlocked(OUT_OF_MEMORY);
  g->origin = stream, g->n_users = 1;
  stream->capture = g, stream->last = -1, stream->n_waits = 0;
  return unlocked(0);
}

static void graph_release(Graph *g) {
  if (!g || --g->n_users > 0) return;
  for (int i = 0; i < g->n; i++) op_free(&g->node[i].op);
  free(g->node);
  free(g->order);
  free(g);
}

// Is every node waited for, in the end, by the last of the stream that the capture began at?
static bool is_joined(const Graph *g, const Stream *origin) {
  bool *reached = calloc((size_t)g->n + 1, sizeof *reached);
  bool all = true;
  if (!reached) return false;
  if (origin->last >= 0) reached[origin->last] = true;
  for (int i = 0; i < origin->n_waits; i++) reached[origin->waits[i]] = true;
  for (int i = g->n - 1; i >= 0; i--) {
    for (int k = 0; k < g->node[i].n_waits && reached[i]; k++) reached[g->node[i].waits[k]] = true;
    all &= reached[i];
  }
  free(reached);
  return all;
}

EXPORT int cuStreamEndCapture(Stream *stream, Graph **graph) {
  const int result = locked();
  Graph *g = stream->capture;
  *graph = NULL;
  if (!g || g->origin != stream) return unlocked(result ? result : CAPTURE_INVALIDATED);
  const bool joined = is_joined(g, stream);
  for (Stream *s = streams; s; s = s->next)
    if (s->capture == g) s->capture = NULL, s->last = -1, s->n_waits = 0; // also those that joined
  if (!joined) {
    graph_release(g);
    return unlocked(CAPTURE_UNJOINED);
  }
  *graph = g;
  return unlocked(result);
}

// The order of a replay: of the nodes that may run, the one that was given last.
static bool find_order(Graph *g) {
  bool *done = calloc((size_t)g->n + 1, sizeof *done);
  g->order = malloc(((size_t)g->n + 1) * sizeof *g->order);
  if (!done || !g->order) return false;
  for (int n = 0; n < g->n; n++) {
    int next = -1;
    for (int i = g->n - 1; i >= 0 && next < 0; i--) {
      bool may = !done[i];
      for (int k = 0; k < g->node[i].n_waits; k++) may &= done[g->node[i].waits[k]];
      if (may) next = i;
    }
    done[next] = true;
    g->order[n] = next;
  }
  free(done);
  return true;
}

EXPORT int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, uint64_t flags) {
  const int result = locked();
  if (!graph->order && !find_order(graph)) return unlocked(OUT_OF_MEMORY);
  graph->n_users++;
  *executable = graph;
  return unlocked(result);
}

EXPORT int cuGraphLaunch(Graph *executable, Stream *stream) {
  int result = locked();
  if (!result && stream && stream->capture) result = CAPTURE_UNSUPPORTED;
  for (int i = 0; i < executable->n && !result; i++) result = perform(&executable->node[executable->order[i]].op);
  return unlocked(result);
}

EXPORT int cuGraphDestroy(Graph *graph) {
  locked();
  graph_release(graph);
  return unlocked(0);
}

EXPORT int cuGraphExecDestroy(Graph *executable) { return cuGraphDestroy(executable); }

// ---- modules ----

// A shared library ends behind the table of its sections.
static size_t image_bytes(const unsigned char *image) {
  Elf64_Ehdr header;
  if (memcmp(image, ELFMAG, SELFMAG) != 0) return 0;
  memcpy(&header, image, sizeof header);
  return header.e_shoff + (size_t)header.e_shnum * header.e_shentsize;
}

EXPORT int cuModuleLoadData(Module **module, const void *image) {
  const int result = locked();
  const size_t bytes = image_bytes(image);
  const char *tmp = getenv("TMPDIR");
  char path[128]; // a new one each time: the loader takes a name that it knows for what it has loaded
  if (result || !bytes) return unlocked(result ? result : NO_BINARY);
  snprintf(path, sizeof path, "%.80s/muse-emulator-module-XXXXXX", tmp ? tmp : "/tmp");
  const int file = mkstemp(path);
  const bool written = file >= 0 && write(file, image, bytes) == (ssize_t)bytes;
  void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) fprintf(stderr, "MUSE software GPU: a module cannot be loaded: %s\n", written ? dlerror() : path);
  if (file >= 0) close(file), unlink(path);
  *module = library ? calloc(1, sizeof **module) : NULL;
  if (!*module) return unlocked(NO_BINARY);
  (*module)->library = library;
  return unlocked(0);
}

EXPORT int cuModuleUnload(Module *module) {
  const int result = locked();
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
  return unlocked(result);
}

EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
  const int result = locked();
  char symbol[160];
  snprintf(symbol, sizeof symbol, "emu_kernel_%s", name);
  const EmuKernel *kernel = dlsym(module->library, symbol);
  if (result || !kernel) return unlocked(result ? result : NOT_FOUND);
  if (kernel->arch != capability()) return unlocked(NO_BINARY);
  for (Function *f = functions; f; f = f->next)
    if (f->kernel == kernel) return *function = f, unlocked(0);
  Function *f = calloc(1, sizeof *f);
  if (!f) return unlocked(OUT_OF_MEMORY);
  f->kernel = kernel, f->module = module, f->next = functions, f->max_dynamic = 48 << 10;
  snprintf(f->name, sizeof f->name, "%s", name);
  *function = functions = f;
  return unlocked(0);
}

EXPORT int cuFuncSetAttribute(Function *function, int attribute, int value) {
  const int result = locked(), dynamic_shared = 8;
  if (result) return unlocked(result);
  if (attribute != dynamic_shared || value < 0 || (unsigned)value > shared_limit()) return unlocked(INVALID_VALUE);
  function->max_dynamic = (unsigned)value;
  return unlocked(0);
}

EXPORT int cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream *stream, void **parameters,
                          void **extra) {
  const int result = locked();
  const EmuKernel *k = function->kernel;
  const uint64_t threads = (uint64_t)block_x * block_y * block_z, blocks = (uint64_t)grid_x * grid_y * grid_z;
  if (result) return unlocked(result);
  if (threads == 0 || threads > (unsigned)k->max_threads || blocks == 0 || grid_y > 65535 || grid_z > 65535 ||
      shared_bytes > function->max_dynamic || extra)
    return unlocked(INVALID_VALUE);
  Op op = {.kind = OP_LAUNCH,
           .function = function,
           .grid = {grid_x, grid_y, grid_z},
           .size = {block_x, block_y, block_z},
           .dynamic_bytes = shared_bytes};
  op.parameters = calloc((size_t)k->n_parameters + 1, sizeof *op.parameters);
  for (int i = 0; i < k->n_parameters && op.parameters; i++) {
    op.parameters[i] = aligned_alloc(64, (k->parameter_bytes[i] + 63) / 64 * 64);
    if (!op.parameters[i]) return unlocked(OUT_OF_MEMORY);
    memcpy(op.parameters[i], parameters[i], k->parameter_bytes[i]);
  }
  return unlocked(op.parameters ? give(stream, &op) : OUT_OF_MEMORY);
}
