// Runs the kernels that have a CUDA emitter on a GPU and compares them with eval: red zones around all buffers,
// poisoned results and workspace, two runs with the same bits, and in place wherever that is allowed. Without a driver
// or NVRTC it says so and exits 77 (skipped).
//
//   cuda-device [--nvrtc=PATH] [--threads=N] [--only=TEXT] [--except=TEXT] [--variant=N] [--write-for=sm_86]
//     [cases[:FAMILY]] [random FIRST N] [CONFIG.yaml [KEY=VALUE...]] [bench[:FAMILY]]
#include "compiler/emit_cuda.h"
#include "compiler/nvrtc.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"
#include "ir/text.h"
#include "runtime/cuda_api.h"
#include "runtime/cuda_kernel.h"
#include "tests/unit/cuda_cases.h"
#include "tests/unit/kernel_support.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CASES = 4096, BATCH = 16, RED = 4096, MAX_BUFFERS = 64, MAX_IDS = 64 };

static MuseCudaCase cases[MAX_CASES];
static MuseCudaLaunches launches[MAX_CASES];
static MuseStr cubins[MAX_CASES / BATCH + 1];
static const MuseCuda *cuda;
static MuseNvrtc *nvrtc;
static MuseCudaTarget target, written_for; // compiled for, written for

static void must(int result, const char *what) {
  MuseDiag *diag = muse_diag_create();
  if (muse_cuda_check(cuda, result, what, diag) != MUSE_OK) {
    muse_diag_print(diag, stderr);
    exit(1);
  }
  muse_diag_destroy(diag);
}

// ---- compiling, in batches, on several threads ----

static _Atomic int next_batch, compile_failures;
static int n_cases;
static const char *only, *except; // cases whose name has, or has not, this in it

static int wanted_variant; // of kernels that have it; others take their last

static MuseStatus emit(int i, const char *name, MuseStr *source, MuseDiag *diag) {
  MuseStr first = {0};
  MuseStatus status = muse_cuda_emit(cases[i].kernel, name, written_for, 0, &first, &launches[i], diag);
  const int last = launches[i].n_variants - 1, variant = wanted_variant < last ? wanted_variant : last;
  if (status == MUSE_OK)
    status = muse_cuda_emit(cases[i].kernel, name, written_for, variant, source, &launches[i], diag);
  muse_str_free(&first);
  return status;
}

static void compile_batch(int batch) {
  MuseDiag *diag = muse_diag_create();
  MuseStr source = {0}, log = {0};
  MuseStatus status = MUSE_OK;
  muse_str_append(&source, muse_cuda_prelude());
  for (int i = batch * BATCH; i < n_cases && i < (batch + 1) * BATCH && status == MUSE_OK; i++) {
    char name[24];
    snprintf(name, sizeof name, "kernel%d", i);
    status = emit(i, name, &source, diag);
  }
  if (status == MUSE_OK)
    status = muse_nvrtc_compile(nvrtc, muse_str_text(&source), "batch", target, false, &cubins[batch], &log, diag);
  if (status != MUSE_OK) {
    muse_diag_print(diag, stderr);
    atomic_fetch_add(&compile_failures, 1);
  }
  muse_str_free(&source);
  muse_str_free(&log);
  muse_diag_destroy(diag);
}

static void *compile_batches(void *unused) {
  for (int b = atomic_fetch_add(&next_batch, 1); b * BATCH < n_cases; b = atomic_fetch_add(&next_batch, 1))
    compile_batch(b);
  return unused;
}

static void compile_all(int n_threads) {
  pthread_t thread[64];
  if (n_threads > 64) n_threads = 64;
  for (int i = 0; i < n_threads; i++) pthread_create(&thread[i], NULL, compile_batches, NULL);
  for (int i = 0; i < n_threads; i++) pthread_join(thread[i], NULL);
}

// ---- one kernel ----

typedef struct Buffer {
  CudaPointer base; // red zone, data, red zone
  size_t bytes;
} Buffer;

typedef struct Run {
  MuseCudaCase *c;
  const MuseOp *kernel;
  const MuseCudaLaunches *launches;
  MuseCudaKernel loaded;
  Buffer operand[MAX_BUFFERS], result[MAX_BUFFERS], workspace;
  uint8_t *operand_bytes[MAX_BUFFERS], *first_bits[MAX_BUFFERS];
  uint64_t ids[MAX_IDS];
  int n_ids;
  bool failed;
} Run;

static size_t padded(size_t bytes) { return (size_t)muse_round_up((int64_t)bytes, 64); }

static Buffer buffer_create(size_t bytes) {
  Buffer b = {.bytes = bytes};
  must(cuda->memory_allocate(&b.base, padded(bytes) + 2 * RED), "memory of a buffer");
  must(cuda->fill_bytes(b.base, 0xA5, padded(bytes) + 2 * RED), "red zone");
  return b;
}

static void complain(Run *r, const char *format, const char *what, int index) {
  fprintf(stderr, "%s: ", r->c->name);
  fprintf(stderr, format, what, index);
  fputc('\n', stderr);
  r->failed = true;
}

static void check_red(Run *r, const Buffer *b, const char *what, int index) {
  static uint8_t zone[2 * RED];
  size_t behind = padded(b->bytes) - b->bytes + RED;
  must(cuda->copy_from_device(zone, b->base, RED), "reading a red zone");
  for (size_t i = 0; i < RED; i++)
    if (zone[i] != 0xA5) return complain(r, "the kernel wrote in front of %s %d", what, index);
  must(cuda->copy_from_device(zone, b->base + RED + b->bytes, behind), "reading a red zone");
  for (size_t i = 0; i < behind; i++)
    if (zone[i] != 0xA5) return complain(r, "the kernel wrote behind %s %d", what, index);
}

static void must_be_ok(MuseStatus status, MuseDiag *diag) {
  if (status == MUSE_OK) return;
  muse_diag_print(diag, stderr);
  exit(1);
}

// The call, with results over the operands that `place` names.
static MuseCudaCall *call_of(Run *r, const int *place) {
  const MuseOp *k = r->kernel;
  CudaPointer pointer[2 * MAX_BUFFERS + 1];
  int n = 0;
  for (int i = 0; i < k->n_operands; i++) pointer[n++] = r->operand[i].base + RED;
  for (int o = 0; o < k->n_results; o++)
    pointer[n++] = place && place[o] >= 0 ? r->operand[place[o]].base + RED : r->result[o].base + RED;
  pointer[n++] = r->workspace.base + RED;
  MuseDiag *diag = muse_diag_create();
  MuseCudaCall *call;
  must_be_ok(muse_cuda_call_create(&r->loaded, pointer, n, r->ids, r->n_ids, &call, diag), diag);
  muse_diag_destroy(diag);
  return call;
}

static void launch(const MuseCudaCall *call, bool behind_call) {
  MuseDiag *diag = muse_diag_create();
  must_be_ok(muse_cuda_call_launch(call, behind_call, NULL, diag), diag);
  muse_diag_destroy(diag);
}

// Runs once from fresh operands; results are left in the buffers, or over operands.
static void execute(Run *r, const int *place, uint8_t poison) {
  const MuseOp *k = r->kernel;
  for (int i = 0; i < k->n_operands; i++)
    must(cuda->copy_to_device(r->operand[i].base + RED, r->operand_bytes[i], r->operand[i].bytes), "operand");
  for (int o = 0; o < k->n_results; o++)
    must(cuda->fill_bytes(r->result[o].base + RED, poison, r->result[o].bytes), "result");
  if (r->workspace.bytes) must(cuda->fill_bytes(r->workspace.base + RED, poison, r->workspace.bytes), "workspace");
  MuseCudaCall *call = call_of(r, place);
  launch(call, false);
  must(cuda->context_synchronize(), r->c->name);
  muse_cuda_call_destroy(call);
  for (int i = 0; i < k->n_operands; i++) check_red(r, &r->operand[i], "operand", i);
  for (int o = 0; o < k->n_results; o++) check_red(r, &r->result[o], "result", o);
  check_red(r, &r->workspace, "workspace", 0);
}

static void same_bits(Run *r, const int *place, const char *what) {
  for (int o = 0; o < r->kernel->n_results; o++) {
    uint8_t *bits = malloc(r->result[o].bytes);
    const Buffer *b = place && place[o] >= 0 ? &r->operand[place[o]] : &r->result[o];
    must(cuda->copy_from_device(bits, b->base + RED, r->result[o].bytes), "result");
    if (memcmp(bits, r->first_bits[o], r->result[o].bytes) != 0) complain(r, "other bits %s in result %d", what, o);
    free(bits);
  }
  for (int i = 0; i < r->kernel->n_operands; i++) {
    bool replaced = false;
    for (int o = 0; place && o < r->kernel->n_results; o++) replaced |= place[o] == i;
    if (replaced) continue;
    uint8_t *bits = malloc(r->operand[i].bytes);
    must(cuda->copy_from_device(bits, r->operand[i].base + RED, r->operand[i].bytes), "operand");
    if (memcmp(bits, r->operand_bytes[i], r->operand[i].bytes) != 0) complain(r, "%s: operand %d was changed", what, i);
    free(bits);
  }
}

static void run_in_place(Run *r) {
  const MuseOp *k = r->kernel;
  int place[MAX_BUFFERS], taken[MAX_BUFFERS] = {0}, any = 0;
  for (int o = 0; o < k->n_results; o++) {
    place[o] = -1;
    for (int i = 0; i < k->n_operands && place[o] < 0; i++)
      if (!taken[i] && muse_kernel_allows_in_place(k, o, i)) place[o] = i, taken[i] = 1, any = 1;
  }
  if (!any) return;
  execute(r, place, 0x7F);
  same_bits(r, place, "in place");
}

static void open_run(Run *r, int index, CudaModule *module) {
  *r = (Run){.c = &cases[index], .kernel = cases[index].kernel, .launches = &launches[index]};
  const MuseOp *k = r->kernel;
  MUSE_ASSERT(k->n_operands <= MAX_BUFFERS && k->n_results <= MAX_BUFFERS);
  char name[24];
  snprintf(name, sizeof name, "kernel%d", index);
  MuseDiag *diag = muse_diag_create();
  must_be_ok(muse_cuda_kernel_load(cuda, module, &cubins[index / BATCH], name, r->launches, &r->loaded, diag), diag);
  muse_diag_destroy(diag);
  const MuseAttr *ids = muse_attr_find(&k->attrs, "rng_ids");
  for (int i = 0; ids && i < ids->ints.len && i < MAX_IDS; i++) r->ids[r->n_ids++] = (uint64_t)ids->ints.data[i];
  for (int i = 0; i < k->n_operands; i++) r->operand[i] = buffer_create((size_t)muse_type_bytes(k->operands[i]->type));
  for (int o = 0; o < k->n_results; o++) r->result[o] = buffer_create((size_t)muse_type_bytes(k->results[o]->type));
  r->workspace = buffer_create((size_t)r->launches->workspace_bytes);
}

static void close_run(Run *r) {
  for (int i = 0; i < r->kernel->n_operands; i++) cuda->memory_free(r->operand[i].base), free(r->operand_bytes[i]);
  for (int o = 0; o < r->kernel->n_results; o++) cuda->memory_free(r->result[o].base), free(r->first_bits[o]);
  cuda->memory_free(r->workspace.base);
}

// ||got - want|| / ||want||
static double frobenius_distance(const MuseTensor *got, const MuseTensor *want) {
  double difference = 0, square = 0;
  for (int64_t i = 0; i < muse_type_elements(want->type); i++) {
    const double e = got->data[i] - want->data[i];
    difference += e * e, square += want->data[i] * want->data[i];
  }
  return sqrt(difference / (square + 1e-300));
}

static bool is_good(const MuseCudaCase *c, int result, double error, double differing, double distance) {
  bool is_float = muse_dtype_is_float(c->kernel->results[result]->type.dtype);
  if (c->frobenius > 0 && muse_dtype_is_float(c->kernel->results[result]->type.dtype)) return distance <= c->frobenius;
  if (c->bound < 0) // a random map
    return error <= (!is_float ? 0 : muse_dtype_bytes(c->kernel->results[result]->type.dtype) >= 4 ? 1e-4 : 1e-2);
  if (is_float) return error <= (muse_dtype_bytes(c->kernel->results[result]->type.dtype) < 4 ? 1e-2 : c->bound);
  return c->shaky ? error <= 1 && differing < 2e-3 : error == 0;
}

// Rows of the table that operand `operand` counts, 0 where it holds no tokens.
static int64_t token_limit(const MuseOp *kernel, int operand) {
  const MuseOp *op = kernel->body->first;
  switch (op->kind) {
    case MUSE_OP_gather_rows: return operand == 1 ? op->operands[0]->type.dim[0] : 0;
    case MUSE_OP_scatter_add_rows: return operand == 1 ? muse_op_int(op, "rows") : 0;
    case MUSE_OP_tt_gather: return operand == 3 ? op->operands[0]->type.dim[0] * op->operands[1]->type.dim[0] : 0;
    case MUSE_OP_tt_gather_grad: return operand == 4 ? op->operands[1]->type.dim[0] * op->operands[2]->type.dim[0] : 0;
    case MUSE_OP_cross_entropy:
    case MUSE_OP_cross_entropy_grad: return operand == 2 ? op->operands[1]->type.dim[0] : 0;
    case MUSE_OP_tt_cross_entropy:
    case MUSE_OP_tt_cross_entropy_grad: return operand == 4 ? muse_op_int(op, "vocab") : 0;
    default: return 0;
  }
}

// Tokens lie within their table; a third of them are the same.
static void fix_tokens(const MuseOp *kernel, int operand, MuseTensor *t) {
  const int64_t n = muse_type_elements(t->type), V = token_limit(kernel, operand);
  if (!V) return;
  for (int64_t i = 0; i < n; i++) t->data[i] = (double)(i % 3 == 1 ? V / 3 : (i * 7919 + 3) * (i + 1) % V);
  t->data[n - 1] = (double)(V - 1);
}

static bool check_case(int index, CudaModule *module) {
  Run run, *r = &run;
  open_run(r, index, module);
  const MuseOp *k = r->kernel;
  MuseArena *arena = muse_arena_create();
  MuseTensor args[MAX_BUFFERS], want[MAX_BUFFERS];
  for (int i = 0; i < k->n_operands; i++) {
    args[i] = muse_tensor_create(arena, k->operands[i]->type);
    if (r->c->fill) r->c->fill(i, &args[i]);
    else muse_support_fill(&args[i], i, (uint64_t)index);
    fix_tokens(k, i, &args[i]);
    r->operand_bytes[i] = malloc(r->operand[i].bytes);
    muse_tensor_store(&args[i], r->operand_bytes[i]);
    muse_tensor_load(&args[i], r->operand_bytes[i]); // what the type can hold
  }
  MuseEval eval = {.arena = arena, .round_storage = true};
  muse_region_eval(&eval, k->body, args, want);
  execute(r, NULL, 0xFB);
  for (int o = 0; o < k->n_results; o++) {
    double error = 0, ulps = 0, differing = 0;
    MuseTensor got = muse_tensor_create(arena, k->results[o]->type);
    r->first_bits[o] = malloc(r->result[o].bytes);
    must(cuda->copy_from_device(r->first_bits[o], r->result[o].base + RED, r->result[o].bytes), "result");
    muse_tensor_load(&got, r->first_bits[o]);
    muse_support_compare(&got, &want[o], &error, &ulps, &differing);
    const double distance = frobenius_distance(&got, &want[o]);
    if (getenv("MUSE_CUDA_ERRORS"))
      printf("%s: result %d: error %.2g, Frobenius %.2g\n", r->c->name, o, error, distance);
    if (is_good(r->c, o, error, differing, distance)) continue;
    fprintf(stderr, "%s: result %d: error %g, %g of the elements differ, Frobenius %g\n", r->c->name, o, error,
            differing, distance);
    r->failed = true;
  }
  execute(r, NULL, 0xFF);
  same_bits(r, NULL, "when run again");
  run_in_place(r);
  if (r->failed) {
    MuseStr text = {0};
    muse_kernel_print_canonical(r->c->module, k, &text);
    fprintf(stderr, "%.3000s\n", muse_str_text(&text));
    muse_str_free(&text);
  }
  close_run(r);
  muse_arena_destroy(arena);
  return !r->failed;
}

// ---- timing ----

static int by_value(const void *a, const void *b) { return *(const float *)a < *(const float *)b ? -1 : 1; }

static double time_of(void (*call)(void *), void *context) {
  enum { REPEATS = 31 };
  float ms[REPEATS];
  CudaEvent *start, *end;
  must(cuda->event_create(&start, 0), "event");
  must(cuda->event_create(&end, 0), "event");
  for (int i = 0; i < 3; i++) call(context);
  for (int i = 0; i < REPEATS; i++) {
    must(cuda->event_record(start, NULL), "event");
    call(context);
    must(cuda->event_record(end, NULL), "event");
    must(cuda->event_synchronize(end), "event");
    must(cuda->event_elapsed(&ms[i], start, end), "event");
  }
  cuda->event_destroy(start);
  cuda->event_destroy(end);
  qsort(ms, REPEATS, sizeof *ms, by_value);
  return ms[REPEATS / 2] * 1e-3;
}

static void call_launch(void *context) { launch(context, false); }
typedef struct Copy {
  CudaPointer to, from;
  size_t bytes;
} Copy;
static void call_copy(void *context) {
  const Copy *c = context;
  must(cuda->copy_on_device(c->to, c->from, c->bytes, NULL), "copy");
}

static double copy_bandwidth(void) {
  Copy c = {.bytes = (size_t)1 << 30};
  must(cuda->memory_allocate(&c.to, c.bytes), "memory");
  must(cuda->memory_allocate(&c.from, c.bytes), "memory");
  must(cuda->fill_bytes(c.from, 0x3C, c.bytes), "fill");
  double s = time_of(call_copy, &c);
  cuda->memory_free(c.to);
  cuda->memory_free(c.from);
  return 2.0 * (double)c.bytes / s;
}

// One after another on sets of buffers that no cache holds together; the time of one, launch and all.
typedef struct Turns {
  MuseCudaCall *call[64];
  int n;
} Turns;

static void call_in_turn(void *context) {
  const Turns *turns = context;
  for (int i = 0; i < turns->n; i++) launch(turns->call[i], i > 0);
}

static double cold_time(Run *r) {
  Turns turns = {0};
  Buffer first[MAX_BUFFERS], set[64][MAX_BUFFERS];
  size_t bytes = 0;
  const int n_operands = r->kernel->n_operands;
  for (int i = 0; i < n_operands; i++) bytes += r->operand[i].bytes;
  memcpy(first, r->operand, sizeof first);
  for (turns.n = 0; turns.n < 2 || (turns.n < 64 && (size_t)turns.n * bytes < (size_t)400 << 20); turns.n++) {
    for (int i = 0; i < n_operands; i++) {
      r->operand[i] = set[turns.n][i] = buffer_create(first[i].bytes);
      must(cuda->copy_on_device(r->operand[i].base, first[i].base, first[i].bytes + RED, NULL), "operand");
    }
    turns.call[turns.n] = call_of(r, NULL);
  }
  const double s = time_of(call_in_turn, &turns) / turns.n;
  for (int t = 0; t < turns.n; t++) {
    muse_cuda_call_destroy(turns.call[t]);
    for (int i = 0; i < n_operands; i++) cuda->memory_free(set[t][i].base);
  }
  memcpy(r->operand, first, sizeof first);
  return s;
}

static void bench_case(int index, CudaModule *module, double peak) {
  Run run, *r = &run;
  open_run(r, index, module);
  for (int i = 0; i < r->kernel->n_operands; i++) {
    // Random bytes, of which the upper half is made harmless: small floats, tokens within a table.
    size_t n = r->operand[i].bytes;
    r->operand_bytes[i] = malloc(n);
    for (size_t b = 0; b < n; b++) r->operand_bytes[i][b] = (uint8_t)((b * 2654435761u >> 13) ^ b);
    MuseDtype d = r->kernel->operands[i]->type.dtype;
    if (d == MUSE_F32)
      for (size_t b = 3; b < n; b += 4) r->operand_bytes[i][b] = 0x3e | (r->operand_bytes[i][b] & 0x80);
    if (d == MUSE_BF16)
      for (size_t b = 1; b < n; b += 2) r->operand_bytes[i][b] = 0x3e | (r->operand_bytes[i][b] & 0x80);
    if (d == MUSE_T2) // no code 3
      for (size_t b = 0; b < n; b++) r->operand_bytes[i][b] &= (uint8_t)~(r->operand_bytes[i][b] >> 1 & 0x55);
    if (d == MUSE_I32) for (size_t b = 0; b < n; b += 4) r->operand_bytes[i][b + 2] = r->operand_bytes[i][b + 3] = 0;
    if ((r->c->fill || token_limit(r->kernel, i)) && n <= (size_t)32 << 20) { // more take too long
      MuseArena *arena = muse_arena_create();
      MuseTensor t = muse_tensor_create(arena, r->kernel->operands[i]->type);
      if (r->c->fill) r->c->fill(i, &t);
      fix_tokens(r->kernel, i, &t);
      muse_tensor_store(&t, r->operand_bytes[i]);
      muse_arena_destroy(arena);
    }
    must(cuda->copy_to_device(r->operand[i].base + RED, r->operand_bytes[i], n), "operand");
  }
  MuseCudaCall *call = call_of(r, NULL);
  double s = r->c->cold ? cold_time(r) : time_of(call_launch, call), bytes = muse_kernel_cost(r->kernel).bytes;
  if (r->kernel->body->first->kind == MUSE_OP_gather_rows) // rows that are read, not the table
    bytes = 2.0 * (double)r->result[0].bytes + (double)r->operand[1].bytes;
  printf("  %-44s %8.1f us %7.0f GB/s %5.1f %% of copy", r->c->name, s * 1e6, bytes / s * 1e-9,
         100 * bytes / s / peak);
  const MuseCost cost = muse_kernel_cost(r->kernel);
  const double operations = cost.flops + cost.int_ops;
  if (operations / s > 1e13) printf(" %7.0f TOP/s", operations / s * 1e-12);
  printf("\n");
  muse_cuda_call_destroy(call);
  close_run(r);
}

// ---- the program ----

static int skip(MuseDiag *diag) {
  printf("SKIP: %s\n", muse_diag_message(diag, 0));
  muse_nvrtc_close(nvrtc);
  muse_diag_destroy(diag);
  return 77;
}

int main(int argc, char **argv) {
  const char *path = NULL, *other = NULL;
  int first = 1, n_threads = 2, passed = 0, failed = 0, first_bench = -1;
  for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
    if (strncmp(argv[first], "--nvrtc=", 8) == 0) path = argv[first] + 8;
    if (strncmp(argv[first], "--only=", 7) == 0) only = argv[first] + 7;
    if (strncmp(argv[first], "--except=", 9) == 0) except = argv[first] + 9;
    if (strncmp(argv[first], "--write-for=", 12) == 0) other = argv[first] + 12;
    if (strncmp(argv[first], "--threads=", 10) == 0) n_threads = atoi(argv[first] + 10);
    if (strncmp(argv[first], "--variant=", 10) == 0) wanted_variant = atoi(argv[first] + 10);
  }
  MuseDiag *diag = muse_diag_create();
  MuseCudaDevice device;
  CudaContext *context;
  int major, minor;
  if (muse_cuda_open(&cuda, diag) != MUSE_OK || muse_nvrtc_open(path, &nvrtc, diag) != MUSE_OK) return skip(diag);
  muse_nvrtc_version(nvrtc, &major, &minor);
  if (muse_cuda_suits_nvrtc(cuda, major, diag) != MUSE_OK || muse_cuda_device(cuda, 0, &device, diag) != MUSE_OK)
    return skip(diag);
  written_for = target = (MuseCudaTarget){.arch = device.arch, .specific = device.arch == 90};
  if (other) { // the text for another architecture, compiled for this one: its paths can be tested here
    char text[32];
    snprintf(text, sizeof text, "cuda:%s", other);
    if (muse_cuda_target_parse(text, &written_for, diag) != MUSE_OK) return 2;
  }
  printf("%s, sm_%d, NVRTC %d.%d\n", device.name, device.arch, major, minor);
  must(cuda->context_retain(&context, device.handle), "context");
  must(cuda->context_set(context), "context");
  for (int i = first; i < argc; i++) {
    const int named = muse_cuda_named_cases(argv[i], cases + n_cases, MAX_CASES - n_cases);
    if (named >= 0) {
      if (strncmp(argv[i], "bench", 5) == 0) first_bench = n_cases; // timed from here on
      n_cases += named;
    } else if (strcmp(argv[i], "random") == 0 && i + 2 < argc) {
      n_cases += muse_cuda_random_cases((uint32_t)atoi(argv[i + 1]), atoi(argv[i + 2]), cases + n_cases);
      i += 2;
    } else {
      const char *overrides[32] = {NULL}, *config = argv[i];
      for (int n = 0; i + 1 < argc && strchr(argv[i + 1], '=') && n < 31; i++) overrides[n++] = argv[i + 1];
      int more = muse_cuda_config_cases(config, overrides, cases + n_cases, MAX_CASES - n_cases);
      if (more < 0) return 2;
      n_cases += more;
    }
  }
  compile_all(n_threads);
  if (compile_failures) return 1;
  printf("%d kernels compiled\n", n_cases);
  fflush(stdout);
  double peak = first_bench >= 0 ? copy_bandwidth() : 0;
  if (first_bench >= 0) printf("copy on the device: %.0f GB/s\n", peak * 1e-9);
  for (int b = 0; b * BATCH < n_cases; b++) {
    CudaModule *module;
    must(cuda->module_load(&module, cubins[b].data), "loading a cubin");
    for (int i = b * BATCH; i < n_cases && i < (b + 1) * BATCH; i++) {
      if ((only && !strstr(cases[i].name, only)) || (except && strstr(cases[i].name, except))) continue;
      if (first_bench >= 0 && i >= first_bench) bench_case(i, module, peak);
      else if (check_case(i, module)) passed++;
      else failed++;
    }
    cuda->module_unload(module);
  }
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  muse_nvrtc_close(nvrtc);
  muse_diag_destroy(diag);
  return failed ? 1 : 0;
}
