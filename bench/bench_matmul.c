// Speed of the matrix products: build/bench-matmul [--threads N]. Random data; weights in so many copies that they come
// from memory. Peers are measured in the same run: a loop that only reads memory, and loops that only multiply in
// registers.

#include "compiler/emit.h"
#include "ir/base/checked.h"
#include "ir/base/options.h"
#include "ir/text.h"
#include "ops/ops.h"
#include "runtime/pool.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static MusePool *pool;
static int n_threads;

// ---- peers ----

typedef uint64_t Line __attribute__((vector_size(64)));
static volatile uint64_t sink;

typedef struct Area { const char *data; bool prefetch; } Area;

static void read_area(void *context, int thread, int64_t begin, int64_t end_task) { // tasks are megabytes
  const Area *area = context;
  const char *p = area->data + (begin << 20), *end = area->data + (end_task << 20);
  Line a = {0}, b = {0}, c = {0}, d = {0};
  for (; p < end; p += 256) {
    if (area->prefetch)
      for (int i = 0; i < 4; i++) __builtin_prefetch(p + 8192 + 64 * i);
    a ^= *(const Line *)p;
    b ^= *(const Line *)(p + 64);
    c ^= *(const Line *)(p + 128);
    d ^= *(const Line *)(p + 192);
  }
  a ^= b ^ c ^ d;
  sink = a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}

enum { PEAK_ROUNDS = 400000, PEAK_SUMS = 12 };

// One instruction again and again on 12 sums (registers 2 to 13) that never leave their registers, the loop included:
// compilers move them about. The factors, registers 0 and 1, are zero.
#if defined(__x86_64__)
#define PEAK_LOOP(instruction, reg)                                                                                    \
  long rounds = PEAK_ROUNDS;                                                                                           \
  __asm__ volatile(".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13\n vpxor %%xmm\\r, %%xmm\\r, %%xmm\\r\n .endr\n"             \
                   "1: .irp r,2,3,4,5,6,7,8,9,10,11,12,13\n " instruction " %%" reg "0, %%" reg "1, %%" reg            \
                   "\\r\n .endr\n"                                                                                     \
                   " dec %0\n jnz 1b\n"                                                                                \
                   : "+r"(rounds)                                                                                      \
                   :                                                                                                   \
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                     "xmm12", "xmm13", "cc")
static void fma_avx512(void *context, int thread, int64_t begin, int64_t end) { PEAK_LOOP("vfmadd231ps", "zmm"); }
static void fma_avx2(void *context, int thread, int64_t begin, int64_t end) { PEAK_LOOP("vfmadd231ps", "ymm"); }
static void vnni(void *context, int thread, int64_t begin, int64_t end) { PEAK_LOOP("vpdpbusd", "zmm"); }
#endif

static double best_of(int repeats, int64_t n_tasks, MuseTaskFn job, void *context) {
  double best = 1e9;
  for (int i = 0; i < repeats; i++) {
    double start = seconds_now();
    muse_pool_run(pool, n_tasks, job, context);
    double took = seconds_now() - start;
    if (took < best) best = took;
  }
  return best;
}

// Operations a second of all threads (a multiply-add is two); 0: no such loop for this machine.
static double peak_f32(MuseCpuLevel level) {
#if defined(__x86_64__)
  if (level >= MUSE_CPU_AVX512)
    return 2.0 * 16 * PEAK_SUMS * PEAK_ROUNDS * n_threads / best_of(100, n_threads, fma_avx512, NULL);
  if (level == MUSE_CPU_AVX2)
    return 2.0 * 8 * PEAK_SUMS * PEAK_ROUNDS * n_threads / best_of(100, n_threads, fma_avx2, NULL);
#endif
  return 0;
}
static double peak_int8(MuseCpuLevel level) {
#if defined(__x86_64__)
  if (level >= MUSE_CPU_AVX512_VNNI && level <= MUSE_CPU_AMX)
    return 2.0 * 64 * PEAK_SUMS * PEAK_ROUNDS * n_threads / best_of(100, n_threads, vnni, NULL);
#endif
  return 0;
}

// ---- kernels ----

static const MuseCpuModule *cpu;
static MuseCpuTarget target;
static MuseDiag *diag;

static void check(MuseStatus status) {
  if (status == MUSE_OK) return;
  muse_diag_print(diag, stderr);
  exit(1);
}

enum { MAX_THREADS = 256 };
typedef struct Kernel {
  MuseModule *module;
  const MuseOp *op;
  MuseKernelInfo info;
  MuseKernelFn fn[MUSE_MAX_KERNEL_STAGES];
  void *buffers[16];
  void *scratch[MAX_THREADS];
  int stage;
} Kernel;

static void *memory(int64_t bytes) {
  void *p = aligned_alloc(4096, (size_t)muse_round_up(bytes + 64, 4096));
  MUSE_ASSERT(p != NULL);
  return p;
}

static void fill(void *data, MuseType type) {
  static uint64_t state = 1;
  int64_t bytes = muse_type_bytes(type);
  uint8_t *p = data;
  for (int64_t i = 0; i < bytes; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint8_t r = (uint8_t)(state >> 56);
    if (type.dtype == MUSE_T2) r = (uint8_t)(r % 3 | r / 3 % 3 << 2 | r / 9 % 3 << 4 | r / 27 % 3 << 6);
    if (type.dtype == MUSE_T5) r = (uint8_t)((r % 243 * 256 + 242) / 243);
    p[i] = r;
  }
  if (type.dtype == MUSE_F32)
    for (int64_t i = 0; i < bytes / 4; i++) ((float *)data)[i] = (float)(p[4 * i + 1] - 128) / 64;
}

// `text` is the kernel op, its operands are the arguments of a function.
static Kernel kernel_create(const char *arguments, const char *text) {
  static int serial;
  Kernel k = {0};
  MuseStr whole = {0};
  muse_str_appendf(&whole, "module {level = \"kernel\"} source \"\"\nfunc @f(%s) -> ({}) {\n%s\n}\n", arguments, text);
  check(muse_module_parse("bench", whole.data, whole.len, &k.module, diag));
  check(muse_ops_verify(k.module, diag));
  muse_str_free(&whole);
  k.op = k.module->first_func->body.first;
  muse_kernel_info(k.op, &k.info);
  char name[32], symbol[48], *object;
  size_t bytes;
  MuseJit *jit; // lives as long as the program
  snprintf(name, sizeof name, "bench%d", serial++);
  check(cpu->emit(k.op, name, &target, "object", &object, &bytes, diag));
  check(cpu->jit_create(&jit, diag));
  check(cpu->jit_add_object(jit, object, bytes, diag));
  free(object);
  int64_t scratch = 64;
  for (int s = 0; s < k.info.n_stages; s++) {
    void *address;
    snprintf(symbol, sizeof symbol, "%s_%d", name, s);
    check(cpu->jit_lookup(jit, symbol, &address, diag));
    k.fn[s] = (MuseKernelFn)address;
    if (k.info.stage[s].scratch_bytes > scratch) scratch = k.info.stage[s].scratch_bytes;
  }
  for (int i = 0; i < n_threads; i++) k.scratch[i] = memory(scratch);
  for (int i = 0; i < k.op->n_operands; i++) {
    k.buffers[i] = memory(muse_type_bytes(k.op->operands[i]->type));
    fill(k.buffers[i], k.op->operands[i]->type);
  }
  for (int i = 0; i < k.op->n_results; i++)
    k.buffers[k.op->n_operands + i] = memory(muse_type_bytes(k.op->results[i]->type));
  k.buffers[k.op->n_operands + k.op->n_results] = k.info.workspace_bytes ? memory(k.info.workspace_bytes) : NULL;
  return k;
}

static void run_stage(void *context, int thread, int64_t begin, int64_t end) {
  Kernel *k = context;
  k->fn[k->stage](k->buffers, begin, end, k->scratch[thread], 0);
}

static void run_kernel(Kernel *k) {
  for (k->stage = 0; k->stage < k->info.n_stages; k->stage++)
    muse_pool_run(pool, k->info.stage[k->stage].n_tasks, run_stage, k);
}

static void kernel_destroy(Kernel *k) {
  for (int i = 0; i < n_threads; i++) free(k->scratch[i]);
  for (int i = 0; i <= k->op->n_operands + k->op->n_results; i++) free(k->buffers[i]);
  muse_module_destroy(k->module);
}

// ---- measurements ----

enum { ROUNDS = 7 };
static double least_seconds = 1; // for one number; more where other programs disturb

typedef struct Peaks { double read, f32, int8; } Peaks;

static void row(const char *name, double seconds, double rate, const char *unit, double peak) {
  printf("%-44s %10.1f us %9.1f %-6s", name, seconds * 1e6, rate / 1e9, unit);
  if (peak > 0) printf(" %5.1f %% of %.1f", 100 * rate / peak, peak / 1e9);
  printf("\n");
  fflush(stdout);
}

// quantize_rows of x f32 [M,K], written as the map kernel that the compiler makes of it.
static Kernel quantise_kernel(int M, int K) {
  char arguments[64], text[2048];
  snprintf(arguments, sizeof arguments, "%%0 : f32[%d,%d]", M, K);
  snprintf(text, sizeof text,
           "%%1, %%2 = kernel %%0 {skeleton = \"map\"} : i8[%d,%d], f32[%d,1] {\n^(%%3 : f32[%d,%d]):\n"
           "%%4 = abs %%3 : f32[%d,%d]\n%%5 = reduce_max %%4 {axes = [1]} : f32[%d,1]\n"
           "%%6 = const {value = 1e-05} : f32[]\n%%7 = max %%5, %%6 : f32[%d,1]\n"
           "%%8 = const {value = 127} : f32[]\n%%9 = div %%8, %%7 : f32[%d,1]\n%%10 = mul %%3, %%9 : f32[%d,%d]\n"
           "%%11 = round %%10 : f32[%d,%d]\n%%12 = min %%11, %%8 : f32[%d,%d]\n%%13 = const {value = -128} : f32[]\n"
           "%%14 = max %%12, %%13 : f32[%d,%d]\n%%15 = cast %%14 {to = i8} : i8[%d,%d]\nyield %%15, %%7\n}\nreturn %%1",
           M, K, M, M, K, M, K, M, M, M, M, K, M, K, M, K, M, K, M, K);
  return kernel_create(arguments, text);
}

static Kernel ternary_kernel(int M, int N, int K, const char *trits) {
  char arguments[128], text[1024];
  snprintf(arguments, sizeof arguments, "%%0 : i8[%d,%d], %%1 : %s[%d,%d], %%2 : f32[%d,1], %%3 : f32[]", M, K, trits,
           N, K, M);
  snprintf(text, sizeof text,
           "%%4 = kernel %%0, %%1, %%2, %%3 {skeleton = \"ternary_matmul\"} : f32[%d,%d] {\n"
           "^(%%5 : i8[%d,%d], %%6 : %s[%d,%d], %%7 : f32[%d,1], %%8 : f32[]):\n"
           "%%9 = ternary_matmul %%5, %%6 : i32[%d,%d]\n%%10 = cast %%9 {to = f32} : f32[%d,%d]\n"
           "%%11 = mul %%7, %%8 : f32[%d,1]\n%%12 = mul %%10, %%11 : f32[%d,%d]\nyield %%12\n}\nreturn %%4",
           M, N, M, K, trits, N, K, M, M, N, M, N, M, M, N);
  return kernel_create(arguments, text);
}

static double ternary_seconds(int M, int N, int K, const char *trits, double copies_bytes) {
  Kernel quantise = quantise_kernel(M, K), product = ternary_kernel(M, N, K, trits);
  int64_t bytes = muse_type_bytes(product.op->operands[1]->type);
  int copies = (int)(copies_bytes / (double)bytes) + 1;
  void **weights = malloc(sizeof *weights * (size_t)copies);
  MUSE_ASSERT(weights != NULL);
  for (int i = 0; i < copies; i++) {
    weights[i] = memory(bytes);
    fill(weights[i], product.op->operands[1]->type);
  }
  void *own[3] = {product.buffers[0], product.buffers[1], product.buffers[2]};
  product.buffers[0] = quantise.buffers[1];
  product.buffers[2] = quantise.buffers[2];
  double best = 1e9, begin = seconds_now();
  // The best of single products, each on weights that the copies between have pushed out of the caches.
  for (int round = 0; round < ROUNDS || seconds_now() - begin < least_seconds; round++)
    for (int i = 0; i < copies; i++) {
      double start = seconds_now();
      product.buffers[1] = weights[i];
      run_kernel(&quantise);
      run_kernel(&product);
      double took = seconds_now() - start;
      if (took < best && round > 0) best = took;
    }
  for (int i = 0; i < 3; i++) product.buffers[i] = own[i];
  for (int i = 0; i < copies; i++) free(weights[i]);
  free(weights);
  kernel_destroy(&quantise);
  kernel_destroy(&product);
  return best;
}

static void bench_ternary(const Peaks *peaks, bool few_tokens) {
  static const int shape[][2] = {{20480, 5120}, {5120, 5120}, {5120, 20480}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
    for (int M = few_tokens ? 1 : 512; M <= (few_tokens ? 4 : 512); M += 3)
      for (int five = 0; five < 2; five++) {
        const char *trits = five ? "t5" : "t2";
        int N = shape[i][0], K = shape[i][1];
        char name[64];
        double took = ternary_seconds(M, N, K, trits, M > 4 ? 1 : 120e6);
        snprintf(name, sizeof name, "trits %s, out x in %dx%d, %d token%s", trits, N, K, M, M > 1 ? "s" : "");
        if (M <= 4)
          row(name, took, (double)muse_type_bytes(muse_type2(five ? MUSE_T5 : MUSE_T2, N, K)) / took, "GB/s",
              peaks->read);
        else row(name, took, 2.0 * M * N * K / took, "GOP/s", peaks->int8);
      }
}

static double kernel_seconds(Kernel *k) {
  double best = 1e9, start = seconds_now();
  for (int round = 0; round < ROUNDS || seconds_now() - start < least_seconds; round++) {
    double before = seconds_now();
    run_kernel(k);
    double took = seconds_now() - before;
    if (took < best) best = took;
  }
  return best;
}

static void bench_f32(const Peaks *peaks, int M, int N, int K, bool ta, bool tb, const char *what) {
  char arguments[128], text[512], name[64];
  snprintf(arguments, sizeof arguments, "%%0 : f32[%d,%d], %%1 : f32[%d,%d]", ta ? K : M, ta ? M : K, tb ? N : K,
           tb ? K : N);
  snprintf(text, sizeof text,
           "%%2 = kernel %%0, %%1 {skeleton = \"matmul\"} : f32[%d,%d] {\n^(%%3 : f32[%d,%d], %%4 : f32[%d,%d]):\n"
           "%%5 = matmul %%3, %%4 {trans_a = %s, trans_b = %s} : f32[%d,%d]\nyield %%5\n}\nreturn %%2",
           M, N, ta ? K : M, ta ? M : K, tb ? N : K, tb ? K : N, ta ? "true" : "false", tb ? "true" : "false", M, N);
  Kernel k = kernel_create(arguments, text);
  double took = kernel_seconds(&k);
  snprintf(name, sizeof name, "f32 %s%dx%dx%d %s%s", what, M, N, K, ta ? "T" : "N", tb ? "T" : "N");
  row(name, took, 2.0 * M * N * K / took, "GFLOP/s", peaks->f32);
  kernel_destroy(&k);
}

static void bench_small_ternary(const Peaks *peaks, int M, int N, int K) {
  char name[64];
  Kernel k = ternary_kernel(M, N, K, "t2");
  double took = kernel_seconds(&k);
  snprintf(name, sizeof name, "trits t2, %dx%dx%d", M, N, K);
  row(name, took, 2.0 * M * N * K / took, "GOP/s", peaks->int8);
  kernel_destroy(&k);
}

static void bench_int8(const Peaks *peaks, int M, int N, int K) {
  char arguments[128], text[512], name[64];
  snprintf(arguments, sizeof arguments, "%%0 : i8[%d,%d], %%1 : i8[%d,%d]", K, M, K, N);
  snprintf(text, sizeof text,
           "%%2 = kernel %%0, %%1 {skeleton = \"int8_matmul\"} : i32[%d,%d] {\n^(%%3 : i8[%d,%d], %%4 : i8[%d,%d]):\n"
           "%%5 = int8_matmul %%3, %%4 : i32[%d,%d]\nyield %%5\n}\nreturn %%2",
           M, N, K, M, K, N, M, N);
  Kernel k = kernel_create(arguments, text);
  double took = kernel_seconds(&k);
  snprintf(name, sizeof name, "int8 [%d,%d]^T [%d,%d]", K, M, K, N);
  row(name, took, 2.0 * M * N * K / took, "GOP/s", peaks->int8);
  kernel_destroy(&k);
}

static void bench_pack(const Peaks *peaks, int N, int K, const char *trits, bool transpose) {
  char arguments[128], text[512], name[64];
  int rows = transpose ? K : N, columns = transpose ? N : K;
  snprintf(arguments, sizeof arguments, "%%0 : f32[%d,%d], %%1 : f32[]", N, K);
  snprintf(text, sizeof text,
           "%%2 = kernel %%0, %%1 {skeleton = \"pack_trits\"} : %s[%d,%d] {\n^(%%3 : f32[%d,%d], %%4 : f32[]):\n"
           "%%5 = pack_trits %%3, %%4 {dtype = %s, transpose = %s} : %s[%d,%d]\nyield %%5\n}\nreturn %%2",
           trits, rows, columns, N, K, trits, transpose ? "true" : "false", trits, rows, columns);
  Kernel k = kernel_create(arguments, text);
  double took = kernel_seconds(&k);
  snprintf(name, sizeof name, "pack %s %dx%d%s", trits, N, K, transpose ? " transposed" : "");
  row(name, took, 4.0 * N * K / took, "GB/s", peaks->read);
  kernel_destroy(&k);
}

static Peaks measure_peaks(void) {
  enum { MEGABYTES = 256, PIECE = 16 };
  Area area = {.data = memory((int64_t)MEGABYTES << 20)};
  memset((void *)(uintptr_t)area.data, 1, (size_t)MEGABYTES << 20);
  Peaks p = {0};
  for (int prefetch = 0; prefetch < 2; prefetch++) {
    area.prefetch = prefetch;
    double begin = seconds_now(), best = 1e9;
    const char *data = area.data;
    // a piece is as large as a matrix
    for (int i = 0; i < 2 * MEGABYTES / PIECE || seconds_now() - begin < least_seconds; i++) {
      area.data = data + ((int64_t)(i * PIECE % MEGABYTES) << 20);
      double took = best_of(1, PIECE, read_area, &area);
      if (took < best && i >= MEGABYTES / PIECE) best = took;
    }
    area.data = data;
    double rate = (double)((int64_t)PIECE << 20) / best;
    printf("%-44s %33.1f GB/s\n", prefetch ? "streaming read, with software prefetch" : "streaming read", rate / 1e9);
    if (rate > p.read) p.read = rate;
  }
  free((void *)(uintptr_t)area.data);
  p.f32 = peak_f32(target.level);
  p.int8 = peak_int8(target.level);
  printf("%-44s %33.1f GFLOP/s\n%-44s %33.1f GOP/s\n", "multiply-adds in registers, f32", p.f32 / 1e9,
         "vpdpbusd in registers", p.int8 / 1e9);
  return p;
}

int main(int argc, char **argv) {
  int64_t threads = 0;
  const char *part = "all", *level = NULL;
  bool help = false;
  MuseTextList operands = {0};
  const MuseOption options[] = {
      {"threads", 't', MUSE_OPT_INT, "N", "threads (default: all cores)", &threads},
      {"part", 'p', MUSE_OPT_TEXT, "NAME", "only f32, training, pack, generation or prompt", &part},
      {"seconds", 's', MUSE_OPT_REAL, "S", "least time for one number (default 1)", &least_seconds},
      {"target", 0, MUSE_OPT_TEXT, "TARGET", "cpu:x86-64-v3, cpu:avx512, ... (default: the best of this machine)",
       &level},
      {0},
  };
  diag = muse_diag_create();
  check(muse_options_parse(argc, argv, options, &operands, &help, diag));
  if (help) {
    muse_options_help(options, "bench-matmul [options]", "Measures the matrix products against peaks of the same run.",
                      stdout);
    return 0;
  }
  check(muse_pool_create((int)threads, &pool, diag));
  n_threads = muse_pool_threads(pool);
  MUSE_ASSERT(n_threads <= MAX_THREADS);
  void *library = dlopen(MUSE_CPU_MODULE_PATH, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "cannot load %s: %s\n", MUSE_CPU_MODULE_PATH, dlerror());
    return 1;
  }
  cpu = ((const MuseCpuModule *(*)(void))dlsym(library, "muse_cpu_module"))();
  if (level != NULL) check(cpu->parse_target(level, &target, diag));
  else MUSE_ASSERT(cpu->host_target(MUSE_CPU_NEON_DOT, false, &target));
  printf("%s, %d threads\n", muse_cpu_level_name(target.level), n_threads);
  Peaks peaks = measure_peaks();
  bool all = !strcmp(part, "all");
  if (all || !strcmp(part, "f32")) {
    for (int t = 0; t < 4; t++) bench_f32(&peaks, 1024, 1024, 1024, t & 1, t & 2, "");
    bench_f32(&peaks, 2048, 512, 128, false, true, "");
    bench_f32(&peaks, 512, 128, 2048, true, false, "");
    bench_f32(&peaks, 2048, 4, 128, false, true, "potential ");
    bench_f32(&peaks, 2048, 40, 512, false, true, "potential ");
    bench_f32(&peaks, 4, 128, 2048, true, false, "potential dW ");
    bench_f32(&peaks, 2048, 257, 128, false, true, "vocabulary ");
    bench_f32(&peaks, 1, 20480, 1024, false, true, "one row ");
  }
  if (all || !strcmp(part, "training")) {
    bench_small_ternary(&peaks, 2048, 128, 128);
    bench_small_ternary(&peaks, 2048, 512, 128);
    bench_small_ternary(&peaks, 2048, 128, 512);
    bench_small_ternary(&peaks, 2048, 2048, 2048);
    bench_int8(&peaks, 128, 128, 2048);
    bench_int8(&peaks, 512, 128, 2048);
    bench_int8(&peaks, 2048, 512, 2048);
  }
  if (all || !strcmp(part, "pack"))
    for (int form = 0; form < 4; form++) bench_pack(&peaks, 2048, 2048, form & 1 ? "t5" : "t2", form & 2);
  if (all || !strcmp(part, "generation")) bench_ternary(&peaks, true);
  if (all || !strcmp(part, "prompt")) bench_ternary(&peaks, false);
  muse_pool_destroy(pool);
  muse_diag_destroy(diag);
  return 0;
}
