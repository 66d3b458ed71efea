// Tensors of the oracle: every element a double. Conversion from and to the storage bytes of a type.

#include "ops/hooks.h"

#include <math.h>
#include <string.h>

MuseTensor muse_tensor_create(MuseArena *arena, MuseType type) {
  return (MuseTensor){type, MUSE_NEW_ARRAY(arena, double, muse_type_elements(type))};
}

double muse_round_half_even(double value) {
  // The default rounding mode, which nothing in MUSE changes, rounds halves to even.
  return nearbyint(value);
}

// Nearest value with `bits` bits of significand and exponents down to `min_exponent` (denormals below), halves to even.
static double round_to_bits(double value, int bits, int min_exponent) {
  if (value == 0 || !isfinite(value)) return value;
  int exponent;
  frexp(value, &exponent); // value = m * 2^exponent, 0.5 <= |m| < 1
  if (exponent < min_exponent) exponent = min_exponent;
  return ldexp(nearbyint(ldexp(value, bits - exponent)), exponent - bits);
}

double muse_round_to_dtype(double value, MuseDtype dtype) {
  switch (dtype) {
  case MUSE_F32: return (double)(float)value;
  case MUSE_BF16: {
    double r = round_to_bits(value, 8, -125);
    return fabs(r) > 0x1.fep127 && isfinite(r) ? copysign(INFINITY, r) : r;
  }
  case MUSE_F16: {
    double r = round_to_bits(value, 11, -13);
    return fabs(r) > 65504 && isfinite(r) ? copysign(INFINITY, r) : r;
  }
  default: return value;
  }
}

static double load_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float f;
  memcpy(&f, &wide, sizeof f);
  return f;
}

static uint16_t store_bf16(double value) {
  if (isnan(value)) return 0x7fc0;
  float f = (float)muse_round_to_dtype(value, MUSE_BF16);
  uint32_t wide;
  memcpy(&wide, &f, sizeof wide);
  return (uint16_t)(wide >> 16);
}

static double load_f16(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                     : exponent == 0 ? ldexp(fraction, -24)
                                     : ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

static uint16_t store_f16(double value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  if (isnan(value)) return 0x7e00;
  double magnitude = fabs(muse_round_to_dtype(value, MUSE_F16));
  if (isinf(magnitude)) return sign | 0x7c00;
  if (magnitude < 0x1p-14) return sign | (uint16_t)ldexp(magnitude, 24);
  int exponent;
  double m = frexp(magnitude, &exponent);
  return sign | (uint16_t)((exponent + 14) << 10 | ((int)ldexp(m, 11) & 1023));
}

static void load_trit_row(MuseDtype dtype, const uint8_t *bytes, int64_t columns, double *out) {
  static const unsigned power3[5] = {1, 3, 9, 27, 81};
  const int block = dtype == MUSE_T2 ? 256 : 320;
  for (int64_t i = 0; i < columns; i++) {
    unsigned byte = bytes[i / block * 64 + i % 64], k = (unsigned)(i % block / 64);
    unsigned code = dtype == MUSE_T2 ? byte >> 2 * k & 3 : (byte * power3[k] & 255) * 3 >> 8;
    out[i] = (double)code - 1;
  }
}

static void store_trit_row(MuseDtype dtype, const double *values, int64_t columns, uint8_t *bytes) {
  const int block = dtype == MUSE_T2 ? 256 : 320, digits = block / 64;
  for (int64_t first = 0; first < columns; first += block, bytes += 64)
    for (int lane = 0; lane < 64; lane++) {
      unsigned v = 0, packed = 0;
      for (int k = 0; k < digits; k++) {
        int64_t i = first + k * 64 + lane;
        unsigned code = i < columns ? (unsigned)(values[i] + 1) : 1;
        MUSE_ASSERT(code <= 2);
        packed |= code << 2 * k;
        v = v * 3 + code;
      }
      bytes[lane] = (uint8_t)(dtype == MUSE_T2 ? packed : (v * 256 + 242) / 243);
    }
}

#define EACH(T, expr)               \
  do {                              \
    const T *p = bytes;             \
    for (int64_t i = 0; i < n; i++) \
      t->data[i] = (double)(expr);  \
  } while (0)

void muse_tensor_load(MuseTensor *t, const void *bytes) {
  const int64_t n = muse_type_elements(t->type), columns = muse_type_last_dim(t->type);
  switch (t->type.dtype) {
  case MUSE_F32: EACH(float, p[i]); break;
  case MUSE_F64: EACH(double, p[i]); break;
  case MUSE_BF16: EACH(uint16_t, load_bf16(p[i])); break;
  case MUSE_F16: EACH(uint16_t, load_f16(p[i])); break;
  case MUSE_I8: EACH(int8_t, p[i]); break;
  case MUSE_U8: EACH(uint8_t, p[i]); break;
  case MUSE_BOOL: EACH(uint8_t, p[i] != 0); break;
  case MUSE_I32: EACH(int32_t, p[i]); break;
  case MUSE_U32: EACH(uint32_t, p[i]); break;
  case MUSE_I64: EACH(int64_t, p[i]); break;
  case MUSE_T2:
  case MUSE_T5:
    for (int64_t row = 0; row < muse_type_rows(t->type); row++)
      load_trit_row(t->type.dtype, (const uint8_t *)bytes + row * muse_trit_row_bytes(t->type.dtype, columns), columns,
                    t->data + row * columns);
    break;
  case MUSE_N_DTYPES: MUSE_ASSERT(!"no element type");
  }
}
#undef EACH

#define EACH(T, expr)                 \
  do {                                \
    T *p = bytes;                     \
    for (int64_t i = 0; i < n; i++) { \
      double x = t->data[i];          \
      p[i] = (T)(expr);               \
    }                                 \
  } while (0)

void muse_tensor_store(const MuseTensor *t, void *bytes) {
  const int64_t n = muse_type_elements(t->type), columns = muse_type_last_dim(t->type);
  switch (t->type.dtype) {
  case MUSE_F32: EACH(float, x); break;
  case MUSE_F64: EACH(double, x); break;
  case MUSE_BF16: EACH(uint16_t, store_bf16(x)); break;
  case MUSE_F16: EACH(uint16_t, store_f16(x)); break;
  case MUSE_I8: EACH(int8_t, x); break;
  case MUSE_U8: EACH(uint8_t, x); break;
  case MUSE_BOOL: EACH(uint8_t, x != 0); break;
  case MUSE_I32: EACH(int32_t, x); break;
  case MUSE_U32: EACH(uint32_t, x); break;
  case MUSE_I64: EACH(int64_t, x); break;
  case MUSE_T2:
  case MUSE_T5:
    for (int64_t row = 0; row < muse_type_rows(t->type); row++)
      store_trit_row(t->type.dtype, t->data + row * columns, columns,
                     (uint8_t *)bytes + row * muse_trit_row_bytes(t->type.dtype, columns));
    break;
  case MUSE_N_DTYPES: MUSE_ASSERT(!"no element type");
  }
}
#undef EACH
