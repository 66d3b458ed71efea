// Bandwidth and arithmetic peaks, measured.
#include "runtime/peaks.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { COPY_BYTES = 128 << 20, COPY_TASKS = 128, ROUNDS = 1 << 18, CHAINS = 12 }; // chains hide the latency of the unit

typedef void (*Loop)(float seed, float *out);

typedef struct Peak { char *from, *to; Loop loop; float *sink; } Peak;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void copy_tasks(void *context, int thread, int64_t begin, int64_t end) {
  Peak *p = context;
  size_t piece = COPY_BYTES / COPY_TASKS;
  memcpy(p->to + (size_t)begin * piece, p->from + (size_t)begin * piece, (size_t)(end - begin) * piece);
}

static void loop_tasks(void *context, int thread, int64_t begin, int64_t end) {
  Peak *p = context;
  for (int64_t i = begin; i < end; i++) p->loop((float)i, p->sink + i * 16);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void fma_avx512(float seed, float *out) {
  __m512 x[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(seed);
  for (int c = 0; c < CHAINS; c++) x[c] = _mm512_set1_ps(seed + (float)c);
  for (int r = 0; r < ROUNDS; r++)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) x[c] = _mm512_fmadd_ps(x[c], a, b);
  for (int c = 1; c < CHAINS; c++) x[0] = _mm512_add_ps(x[0], x[c]);
  _mm512_storeu_ps(out, x[0]);
}

__attribute__((target("avx2,fma"))) static void fma_avx2(float seed, float *out) {
  __m256 x[CHAINS], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(seed);
  for (int c = 0; c < CHAINS; c++) x[c] = _mm256_set1_ps(seed + (float)c);
  for (int r = 0; r < ROUNDS; r++)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) x[c] = _mm256_fmadd_ps(x[c], a, b);
  for (int c = 1; c < CHAINS; c++) x[0] = _mm256_add_ps(x[0], x[c]);
  _mm256_storeu_ps(out, x[0]);
}

__attribute__((target("avx512f,avx512vnni"))) static void int8_vnni(float seed, float *out) {
  __m512i x[CHAINS], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8((char)seed);
  for (int c = 0; c < CHAINS; c++) x[c] = _mm512_set1_epi32(c);
  for (int r = 0; r < ROUNDS; r++)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) x[c] = _mm512_dpbusd_epi32(x[c], a, b);
  for (int c = 1; c < CHAINS; c++) x[0] = _mm512_add_epi32(x[0], x[c]);
  _mm512_storeu_si512(out, x[0]);
}

__attribute__((target("avx2"))) static void int8_avx2(float seed, float *out) {
  __m256i x[CHAINS], a = _mm256_set1_epi8(1), b = _mm256_set1_epi8((char)seed), one = _mm256_set1_epi16(1);
  for (int c = 0; c < CHAINS; c++) x[c] = _mm256_set1_epi32(c);
  for (int r = 0; r < ROUNDS; r++)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
      // The product of the bytes must be made anew in each round, so its operand depends on the sum.
      __m256i pairs = _mm256_maddubs_epi16(_mm256_or_si256(a, _mm256_setzero_si256()), _mm256_xor_si256(b, x[c]));
      x[c] = _mm256_add_epi32(x[c], _mm256_madd_epi16(pairs, one));
    }
  for (int c = 1; c < CHAINS; c++) x[0] = _mm256_add_epi32(x[0], x[c]);
  _mm256_storeu_si256((__m256i *)out, x[0]);
}
#endif

typedef float Vector4 __attribute__((vector_size(16)));

static void fma_plain(float seed, float *out) {
  Vector4 x[CHAINS], a = {0.999f, 0.999f, 0.999f, 0.999f}, b = {seed, seed, seed, seed};
  for (int c = 0; c < CHAINS; c++) x[c] = b + (float)c;
  for (int r = 0; r < ROUNDS; r++)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) x[c] = x[c] * a + b;
  for (int c = 1; c < CHAINS; c++) x[0] += x[c];
  memcpy(out, &x[0], sizeof x[0]);
}

// Operations a second of a loop of CHAINS instructions with `lanes` multiply-adds each: the best of a few tries.
static double rate(MusePool *pool, Peak *p, Loop loop, int lanes) {
  int n_tasks = 4 * muse_pool_threads(pool);
  double best = 0;
  p->loop = loop;
  for (int i = 0; i < 5; i++) {
    double start = now();
    muse_pool_run(pool, n_tasks, loop_tasks, p);
    double r = 2.0 * lanes * CHAINS * (double)ROUNDS * n_tasks / (now() - start);
    if (r > best) best = r;
  }
  return best;
}

static void measure_arithmetic(MusePool *pool, Peak *p, MusePeaks *out) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni"))
    out->int8_with = "AVX-512 VNNI", out->int8_ops = rate(pool, p, int8_vnni, 64);
  else if (__builtin_cpu_supports("avx2")) out->int8_with = "AVX2", out->int8_ops = rate(pool, p, int8_avx2, 32);
  if (__builtin_cpu_supports("avx512f")) {
    out->flops_with = "AVX-512", out->flops = rate(pool, p, fma_avx512, 16);
    return;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    out->flops_with = "AVX2", out->flops = rate(pool, p, fma_avx2, 8);
    return;
  }
#endif
  out->flops_with = "128-bit vectors", out->flops = rate(pool, p, fma_plain, 4);
}

MuseStatus muse_measure_peaks(MusePool *pool, MusePeaks *out, MuseDiag *diag) {
  *out = (MusePeaks){.flops_with = "", .int8_with = "", .half_with = ""};
  Peak p = {.from = malloc(COPY_BYTES),
            .to = malloc(COPY_BYTES),
            .sink = calloc((size_t)muse_pool_threads(pool) * 4, 16 * sizeof(float))};
  MuseStatus status = MUSE_OK;
  if (!p.from || !p.to || !p.sink) {
    status = muse_error(diag, MUSE_ERR_NO_FIT, "no 256 MiB of memory are free to measure the bandwidth");
  } else {
    memset(p.from, 1, COPY_BYTES);
    memset(p.to, 2, COPY_BYTES);
    for (int i = 0; i < 5; i++) {
      double start = now();
      muse_pool_run(pool, COPY_TASKS, copy_tasks, &p);
      double r = 2.0 * COPY_BYTES / (now() - start);
      if (r > out->copy_bytes) out->copy_bytes = r;
    }
    measure_arithmetic(pool, &p, out);
  }
  free(p.from);
  free(p.to);
  free(p.sink);
  return status;
}
