// Speed of the cross-entropy head on one core: build/bench/bench-head. Each stage against the f32 FMA peak measured in
// the same run (multiply-adds in registers only), in processor time of the thread. Counted are the three products of
// the gradient: 6 N V D operations; a tensor train builds the table and contracts its gradient besides. Stages:
// compiler/skel_cross_entropy.h.

#include "compiler/emit.h"
#include "ir/base/checked.h"
#include "ops/ops.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); // other work on the machine does not count
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- the peak ----

enum { ROUNDS = 200000 };
static volatile float sink;
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double peak_avx512(void) {
  enum { SUMS = 20 };
  __m512 s[SUMS], x = _mm512_set1_ps(1), y = _mm512_set1_ps(1e-9f);
  for (int i = 0; i < SUMS; i++) s[i] = _mm512_set1_ps((float)i);
  for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 20
    for (int i = 0; i < SUMS; i++) s[i] = _mm512_fmadd_ps(x, y, s[i]);
    __asm__ volatile("" : "+v"(x), "+v"(y));
  }
  for (int i = 1; i < SUMS; i++) s[0] = _mm512_add_ps(s[0], s[i]);
  sink = _mm512_reduce_add_ps(s[0]);
  return 32.0 * SUMS * ROUNDS;
}
__attribute__((target("avx2,fma"))) static double peak_avx2(void) {
  enum { SUMS = 12 };
  __m256 s[SUMS], x = _mm256_set1_ps(1), y = _mm256_set1_ps(1e-9f);
  for (int i = 0; i < SUMS; i++) s[i] = _mm256_set1_ps((float)i);
  for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) s[i] = _mm256_fmadd_ps(x, y, s[i]);
    __asm__ volatile("" : "+x"(x), "+x"(y));
  }
  for (int i = 1; i < SUMS; i++) s[0] = _mm256_add_ps(s[0], s[i]);
  sink = _mm256_cvtss_f32(s[0]);
  return 16.0 * SUMS * ROUNDS;
}
#endif

// Operations a second; 0 where there is no loop for the machine.
static double measure_peak(MuseCpuLevel level) {
  double best = 0;
#if defined(__x86_64__)
  if (level < MUSE_CPU_AVX2 || level > MUSE_CPU_AMX) return 0;
  for (int i = 0; i < 10; i++) {
    double start = seconds_now(), flops = level >= MUSE_CPU_AVX512 ? peak_avx512() : peak_avx2();
    double rate = flops / (seconds_now() - start);
    if (rate > best) best = rate;
  }
#endif
  return best;
}

// ---- kernels ----

static void need(MuseStatus status, MuseDiag *diag) {
  if (status == MUSE_OK) return;
  muse_diag_print(diag, stderr);
  exit(1);
}

// r = 0: dense table, else a tensor train of that rank.
typedef struct Size {
  int64_t N, V, D, r;
} Size;
enum { MAX_IN = 6, MAX_OUT = 5 };

static int64_t root_up(int64_t n) {
  int64_t root = 1;
  while (root * root < n) root++;
  return root;
}

static MuseOp *head_kernel(MuseModule *module, Size z) {
  const int64_t v1 = root_up(z.V), d1 = root_up(z.D);
  MuseType in[MAX_IN] = {muse_type2(MUSE_F32, z.N, z.D)}, out[MAX_OUT] = {muse_scalar_type(MUSE_F32)};
  int n = 1;
  if (z.r) {
    in[n++] = muse_type3(MUSE_F32, v1, z.r, d1);
    in[n++] = muse_type3(MUSE_F32, muse_ceil_div(z.V, v1), z.r, muse_ceil_div(z.D, d1));
    in[n++] = muse_type1(MUSE_F32, z.r);
  } else {
    in[n++] = muse_type2(MUSE_F32, z.V, z.D);
  }
  const int n_out = n + 1;
  for (int i = 0; i < n; i++) out[1 + i] = in[i];
  in[n++] = muse_type1(MUSE_I32, z.N);
  in[n++] = muse_scalar_type(MUSE_F32);
  MuseFunc *func = muse_func_create(module, "head");
  MuseValue *args[MAX_IN];
  for (int i = 0; i < n; i++) args[i] = muse_region_add_arg(module, &func->body, in[i]);
  MuseOp *kernel = muse_op_create(module, MUSE_OP_kernel, n, args, n_out, out);
  const MuseOpKind kind = z.r ? MUSE_OP_tt_cross_entropy_grad : MUSE_OP_cross_entropy_grad;
  muse_attr_set_text(module, &kernel->attrs, "skeleton", muse_op_info(kind)->name);
  muse_op_append(kernel, &func->body);
  MuseRegion *body = muse_op_create_body(module, kernel);
  for (int i = 0; i < n; i++) args[i] = muse_region_add_arg(module, body, in[i]);
  MuseAttrList attrs = {0};
  if (z.r) muse_attr_set_int(module, &attrs, "vocab", z.V);
  MuseBuilder b = muse_builder_at_end(module, body);
  MuseOp *op = muse_build_op(&b, kind, n, args, &attrs);
  muse_op_append(muse_op_create(module, MUSE_OP_yield, n_out, op->results, 0, NULL), body);
  return kernel;
}

static void *filled(int64_t bytes, double scale) {
  void *data = aligned_alloc(64, (size_t)muse_round_up(bytes, 64));
  MUSE_ASSERT(data != NULL);
  memset(data, 0, (size_t)bytes);
  for (int64_t i = 0; i < bytes / 4 && scale != 0; i++)
    ((float *)data)[i] = (float)(scale * (double)(i * 7919 % 1009 - 504) / 504);
  return data;
}

static void *operand(MuseType type, int64_t V) {
  if (type.dtype != MUSE_I32) return filled(muse_type_bytes(type), type.rank ? 0.3 : 0);
  int32_t *targets = filled(muse_type_bytes(type), 0);
  for (int64_t i = 0; i < type.dim[0]; i++) targets[i] = (int32_t)(i * 31 % V);
  return targets;
}

static void bench(const MuseCpuModule *cpu, const MuseCpuTarget *target, Size z) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = muse_module_create("");
  MuseOp *kernel = head_kernel(module, z);
  MuseKernelInfo info;
  muse_kernel_info(kernel, &info);
  char *object;
  size_t bytes;
  MuseJit *jit;
  double start = seconds_now();
  need(cpu->emit(kernel, "head", target, "object", &object, &bytes, diag), diag);
  const double compile = seconds_now() - start;
  need(cpu->jit_create(&jit, diag), diag);
  need(cpu->jit_add_object(jit, object, bytes, diag), diag);
  MuseKernelFn fn[MUSE_MAX_KERNEL_STAGES];
  int64_t most = 64;
  for (int s = 0; s < info.n_stages; s++) {
    char symbol[32];
    void *address;
    snprintf(symbol, sizeof symbol, "head_%d", s);
    need(cpu->jit_lookup(jit, symbol, &address, diag), diag);
    fn[s] = (MuseKernelFn)address;
    if (info.stage[s].scratch_bytes > most) most = info.stage[s].scratch_bytes;
  }
  void *buffers[MAX_IN + MAX_OUT + 2];
  int n = 0;
  for (int i = 0; i < kernel->n_operands; i++) buffers[n++] = operand(kernel->operands[i]->type, z.V);
  for (int i = 0; i < kernel->n_results; i++) buffers[n++] = filled(muse_type_bytes(kernel->results[i]->type), 0);
  buffers[n++] = filled(info.workspace_bytes, 0);
  buffers[n] = NULL;
  void *scratch = filled(most, 0);
  double best = 1e9, stage[MUSE_MAX_KERNEL_STAGES] = {0};
  for (int repeat = 0; repeat < 5; repeat++) {
    double took[MUSE_MAX_KERNEL_STAGES] = {0}, sum = 0;
    for (int64_t it = 0; it < (info.loop_count > 1 ? info.loop_count : 1); it++)
      for (int s = 0; s < info.n_stages; s++) {
        if (it > 0 && s > info.loop_last) continue;
        double t = seconds_now();
        fn[s](buffers, 0, info.stage[s].n_tasks, scratch, it);
        took[s] += seconds_now() - t;
      }
    for (int s = 0; s < info.n_stages; s++) sum += took[s];
    if (sum < best) best = sum, memcpy(stage, took, sizeof took);
  }
  const double flops = 6.0 * (double)z.N * (double)z.V * (double)z.D, peak = measure_peak(target->level);
  printf(
      "N %5lld V %6lld D %5lld rank %3lld: %8.2f ms, %6.1f GFLOP/s, %4.1f %% of %.1f; workspace %.1f MB, code %zu "
      "bytes in %.0f ms\n",
      (long long)z.N, (long long)z.V, (long long)z.D, (long long)z.r, best * 1e3, flops / best * 1e-9,
      peak > 0 ? 100 * flops / best / peak : 0, peak * 1e-9, (double)info.workspace_bytes * 1e-6, bytes, compile * 1e3);
  printf("    stages, ms:");
  for (int s = 0; s < info.n_stages; s++) printf(" %.2f", stage[s] * 1e3);
  printf("\n");
  for (int i = 0; i < n; i++) free(buffers[i]);
  free(scratch);
  free(object);
  cpu->jit_destroy(jit);
  muse_module_destroy(module);
  muse_diag_destroy(diag);
}

int main(int argc, char **argv) {
  void *library = dlopen(MUSE_CPU_MODULE_PATH, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "cannot load the CPU module: %s\n", dlerror());
    return 1;
  }
  const MuseCpuModule *(*entry)(void) = (const MuseCpuModule *(*)(void))dlsym(library, "muse_cpu_module");
  const MuseCpuModule *cpu = entry();
  for (int level = MUSE_CPU_NEON_DOT; level > MUSE_CPU_SCALAR; level--) {
    MuseCpuTarget target;
    if (level == MUSE_CPU_AVX512_VNNI || level == MUSE_CPU_AMX || level == MUSE_CPU_NEON_DOT)
      continue; // the same f32 code
    if (!cpu->host_target((MuseCpuLevel)level, true, &target)) continue;
    printf("%s\n", muse_cpu_level_name(target.level));
    bench(cpu, &target, (Size){2048, 257, 128, 0});
    bench(cpu, &target, (Size){1024, 8192, 512, 0});
    bench(cpu, &target, (Size){2048, 257, 128, 16});
    bench(cpu, &target, (Size){1024, 8192, 512, 128});
  }
  return 0;
}
