// Normal parameters, made many at a time. Bits are those of muse_random_normal: the vectors compute in f64 with another
// rounding than libm's, so a value that lies so close to the border between two f32 numbers that this could matter
// (about one in a million) is made again by muse_random_normal itself.
#include "runtime/normals.h"

#include "ir/base/philox.h"

#include <math.h>
#include <string.h>

enum {
  BLOCKS = 128,         // Philox blocks of a batch
  PAIRS = 2 * BLOCKS,   // normals come in pairs
  VALUES = 4 * BLOCKS,
};

// Far more than the errors of the polynomials below (measured: under 4e-16), far less than the distance of f32 numbers.
#define MARGIN 0x1p-46

#define INLINE static inline __attribute__((always_inline))

// Words of BLOCKS blocks from `block` on (see ir/base/philox.c), by word: words[j*BLOCKS + i] is word j of block i.
INLINE void philox_blocks(uint64_t block, uint64_t op_id, uint32_t seed, uint32_t *words) {
  for (int i = 0; i < BLOCKS; i++) {
    uint64_t b = block + (uint64_t)i;
    uint32_t c0 = (uint32_t)b, c1 = (uint32_t)(b >> 32), c2 = (uint32_t)op_id, c3 = (uint32_t)(op_id >> 32);
    uint32_t k0 = seed, k1 = 0;
    for (int round = 0; round < 10; round++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
      c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
      c1 = (uint32_t)p1;
      c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
      c3 = (uint32_t)p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    words[i] = c0;
    words[BLOCKS + i] = c1;
    words[2 * BLOCKS + i] = c2;
    words[3 * BLOCKS + i] = c3;
  }
}

// -ln(k * 2^-24), k = 1 .. 2^24: k = m * 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m-1)/(m+1)).
INLINE double minus_log(uint32_t k) {
  double x = (double)(int32_t)k;
  uint64_t bits;
  memcpy(&bits, &x, 8);
  uint64_t shifted = bits - 0x3FE6A09E667F3BCDu; // of sqrt(1/2)
  int32_t e = (int32_t)((int64_t)shifted >> 52);
  bits -= shifted & 0xFFF0000000000000u;
  double m;
  memcpy(&m, &bits, 8);
  double s = (m - 1) / (m + 1), z = s * s;
  double p = 1.0 / 23;
  p = p * z + 1.0 / 21;
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  double log_m = 2 * s + 2 * s * (z * p);
  return (24 - e) * 0x1.62e42fefa39efp-1 - log_m;
}

// Sine and cosine of the f64 number that 2 pi j 2^-24 is rounded to, j not a multiple of 2^22 (there the result hangs
// on that rounding alone). Reduction to [-pi/4, pi/4] in three parts of pi/2 and polynomials as in Sun's fdlibm.
INLINE void sine_cosine(uint32_t j, double *out_sine, double *out_cosine) {
  double angle = 2.0 * M_PI * ((double)(int32_t)j * 0x1p-24);
  int32_t quarter = (int32_t)((j + (1u << 21)) >> 22); // nearest, 0..4
  double n = (double)quarter;
  double x = angle - n * 1.57079632673412561417e+00;
  x = x - n * 6.07710050630396597660e-11;
  x = x - n * 2.02226624879595063154e-21;
  double z = x * x;
  double sine = x + x * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 + z *
                (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 + z *
                (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  double cosine = 1 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z *
                  (2.48015872894767294178e-05 + z * (-2.75573143513906633035e-07 + z *
                  (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  double s = quarter & 1 ? cosine : sine, c = quarter & 1 ? sine : cosine;
  *out_sine = quarter & 2 ? -s : s;
  *out_cosine = (quarter + 1) & 2 ? -c : c;
}

// VALUES normals from `block` on; unsure[p] is set where the pair p has to be made again.
INLINE void batch(uint64_t block, uint64_t op_id, uint32_t seed, double std, float *out, uint32_t *unsure) {
  uint32_t words[VALUES];
  double even[PAIRS], odd[PAIRS];
  philox_blocks(block, op_id, seed, words);
  for (int half = 0; half < 2; half++) {
    const uint32_t *first = words + 2 * half * BLOCKS, *second = first + BLOCKS;
    for (int i = 0; i < BLOCKS; i++) {
      uint32_t k = (1u << 24) - (first[i] >> 8), j = second[i] >> 8;
      double radius = sqrt(2 * minus_log(k)), s, c;
      sine_cosine(j, &s, &c);
      double x = std * (radius * c), y = std * (radius * s);
      even[half * BLOCKS + i] = x;
      odd[half * BLOCKS + i] = y;
      float x0 = (float)(x * (1 - MARGIN)), x1 = (float)(x * (1 + MARGIN));
      float y0 = (float)(y * (1 - MARGIN)), y1 = (float)(y * (1 + MARGIN));
      unsure[half * BLOCKS + i] = (uint32_t)(x0 != x1) | (uint32_t)(y0 != y1) | (uint32_t)(k == 1u << 24) |
                                  (uint32_t)((j & ((1u << 22) - 1)) == 0);
    }
  }
  for (int i = 0; i < BLOCKS; i++) {
    out[4 * i] = (float)even[i];
    out[4 * i + 1] = (float)odd[i];
    out[4 * i + 2] = (float)even[BLOCKS + i];
    out[4 * i + 3] = (float)odd[BLOCKS + i];
  }
}

INLINE double sum_body(const float *w, int64_t count) {
  double sums[16] = {0}, sum = 0;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int j = 0; j < 16; j++) sums[j] += (double)fabsf(w[i + j]);
  for (; i < count; i++) sums[i % 16] += (double)fabsf(w[i]);
  for (int j = 0; j < 16; j++) sum += sums[j];
  return sum;
}

INLINE void grid_body(const float *w, int64_t count, double delta, int8_t *out) {
  for (int64_t i = 0; i < count; i++) {
    double x = nearbyint((double)w[i] / delta);
    x = x > 127 ? 127 : x;
    out[i] = (int8_t)(int32_t)(x < -127 ? -127 : x);
  }
}

// ceil(v * 256/243) for v < 243.
INLINE int t5_byte(int v) { return v + ((13 * v + 242) * 270 >> 16); }

INLINE int trit_code(float w, float half) { return 1 + (w > half) - (w < -half); }

INLINE void pack_body(const float *w, int64_t columns, float gamma, uint8_t *out, int64_t *out_nonzero,
                      double *out_error) {
  float half = 0.5f * gamma; // |w|/gamma rounds to 1 above one half; at one half, to the even 0
  int64_t blocks = columns / 320, left = columns % 320;
  int nonzero = 0;
  double errors[16] = {0};
  for (int64_t b = 0; b < blocks; b++, w += 320, out += 64) {
    for (int i = 0; i < 64; i++) {
      int v = 0;
      for (int digit = 0; digit < 5; digit++) v = 3 * v + trit_code(w[64 * digit + i], half);
      out[i] = (uint8_t)t5_byte(v);
    }
    for (int i = 0; i < 320; i++) nonzero += (w[i] > half) | (w[i] < -half);
    if (!out_error) continue;
    for (int i = 0; i < 320; i += 16)
      for (int j = 0; j < 16; j++) {
        double e = (double)w[i + j] - (double)gamma * (trit_code(w[i + j], half) - 1);
        errors[j] += e * e;
      }
  }
  for (int i = 0; left && i < 64; i++) {
    int v = 0;
    for (int digit = 0; digit < 5; digit++) {
      int at = 64 * digit + i, code = at < left ? trit_code(w[at], half) : 1;
      v = 3 * v + code;
      nonzero += code != 1;
      double e = at < left ? (double)w[at] - (double)gamma * (code - 1) : 0;
      errors[digit] += e * e;
    }
    out[i] = (uint8_t)t5_byte(v);
  }
  if (out_nonzero) *out_nonzero += nonzero;
  for (int j = 0; out_error && j < 16; j++) *out_error += errors[j];
}

// ---- one version for each width of vectors ----

typedef struct Versions {
  void (*batch)(uint64_t block, uint64_t op_id, uint32_t seed, double std, float *out, uint32_t *unsure);
  double (*sum)(const float *w, int64_t count);
  void (*grid)(const float *w, int64_t count, double delta, int8_t *out);
  void (*pack)(const float *w, int64_t columns, float gamma, uint8_t *out, int64_t *out_nonzero, double *out_error);
} Versions;

#define VERSION(suffix, attribute)                                                                               \
  attribute static void batch_##suffix(uint64_t block, uint64_t op_id, uint32_t seed, double std, float *out,    \
                                       uint32_t *unsure) {                                                       \
    batch(block, op_id, seed, std, out, unsure);                                                                 \
  }                                                                                                              \
  attribute static double sum_##suffix(const float *w, int64_t count) { return sum_body(w, count); }             \
  attribute static void grid_##suffix(const float *w, int64_t count, double delta, int8_t *out) {                \
    grid_body(w, count, delta, out);                                                                             \
  }                                                                                                              \
  attribute static void pack_##suffix(const float *w, int64_t columns, float gamma, uint8_t *out, int64_t *nonzero, \
                                      double *error) {                                                           \
    pack_body(w, columns, gamma, out, nonzero, error);                                                           \
  }                                                                                                              \
  static const Versions version_##suffix = {batch_##suffix, sum_##suffix, grid_##suffix, pack_##suffix};

VERSION(plain, )
#ifdef __x86_64__
VERSION(avx2, __attribute__((target("avx2"))))
VERSION(avx512, __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))))
#endif

static const Versions *version(void) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return &version_avx512;
  if (__builtin_cpu_supports("avx2")) return &version_avx2;
#endif
  return &version_plain;
}

void muse_normals_fill(uint64_t op_id, uint32_t seed, double std, int64_t first, int64_t count, float *out) {
  const Versions *v = version();
  float values[VALUES];
  uint32_t unsure[PAIRS];
  for (int64_t at = 0; at < count; at += VALUES) {
    int64_t n = count - at < VALUES ? count - at : VALUES, begin = first + at;
    v->batch((uint64_t)begin / 4, op_id, seed, std, n == VALUES ? out + at : values, unsure);
    float *made = n == VALUES ? out + at : values;
    for (int p = 0; p < PAIRS; p++) {
      if (!unsure[p]) continue;
      int64_t i = p < BLOCKS ? 4 * p : 4 * (p - BLOCKS) + 2; // the pairs of a block lie BLOCKS apart
      for (int64_t j = i; j < i + 2; j++)
        made[j] = (float)(std * muse_random_normal((uint64_t)(begin + j), op_id, seed, 0));
    }
    if (n < VALUES) memcpy(out + at, values, (size_t)n * sizeof *values);
  }
}

double muse_sum_magnitudes(const float *w, int64_t count) { return version()->sum(w, count); }

void muse_round_to_grid(const float *w, int64_t count, double delta, int8_t *out) {
  version()->grid(w, count, delta, out);
}

void muse_pack_row_t5(const float *w, int64_t columns, float gamma, uint8_t *out, int64_t *out_nonzero,
                      double *out_error) {
  version()->pack(w, columns, gamma, out, out_nonzero, out_error);
}
