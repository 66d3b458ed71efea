// exp, log and their relatives: range reduction and polynomials. Coefficients: Cephes (S. Moshier) for f32, fdlibm
// (Sun) for f64 logarithm, sine and cosine, Taylor for the f64 exponential.

#include "compiler/emit_llvm_math.h"

// ---- small shorthands ----
typedef struct Math {
  MuseLlvm *ll;
  LLVMTypeRef type, int_type; // of the argument; integers of the same size
  bool wide;                  // f64
  int lanes;
} Math;

static Math math_of(MuseLlvm *ll, LLVMValueRef x) {
  Math m = {.ll = ll, .type = LLVMTypeOf(x), .lanes = muse_llvm_lanes_of(x)};
  LLVMTypeRef element = LLVMGetTypeKind(m.type) == LLVMVectorTypeKind ? LLVMGetElementType(m.type) : m.type;
  m.wide = element == ll->f64;
  m.int_type = muse_llvm_vector(m.wide ? ll->i64 : ll->i32, m.lanes);
  return m;
}

static LLVMValueRef num(const Math *m, double c) { return muse_llvm_const(m->type, c); }
static LLVMValueRef whole(const Math *m, int64_t c) { return muse_llvm_const_bits(m->int_type, (uint64_t)c); }
static LLVMValueRef add(const Math *m, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildFAdd(m->ll->b, a, b, ""); }
static LLVMValueRef sub(const Math *m, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildFSub(m->ll->b, a, b, ""); }
static LLVMValueRef mul(const Math *m, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildFMul(m->ll->b, a, b, ""); }
static LLVMValueRef quotient(const Math *m, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildFDiv(m->ll->b, a, b, "");
}
static LLVMValueRef fused(const Math *m, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
  return muse_llvm_fma(m->ll, a, b, c);
}
static LLVMValueRef less(const Math *m, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildFCmp(m->ll->b, LLVMRealOLT, a, b, "");
}
static LLVMValueRef pick(const Math *m, LLVMValueRef c, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(m->ll->b, c, a, b, "");
}
static LLVMValueRef to_bits(const Math *m, LLVMValueRef x) { return LLVMBuildBitCast(m->ll->b, x, m->int_type, ""); }
static LLVMValueRef from_bits(const Math *m, LLVMValueRef x) { return LLVMBuildBitCast(m->ll->b, x, m->type, ""); }

// Coefficients from the highest power down.
static LLVMValueRef polynomial(const Math *m, LLVMValueRef x, const double *c, int n) {
  LLVMValueRef p = num(m, c[0]);
  for (int i = 1; i < n; i++) p = fused(m, p, x, num(m, c[i]));
  return p;
}

static int mantissa_bits(const Math *m) { return m->wide ? 52 : 23; }
static int exponent_bias(const Math *m) { return m->wide ? 1023 : 127; }

// 2^n for whole n in the normal range.
static LLVMValueRef power_of_two(const Math *m, LLVMValueRef n) {
  LLVMValueRef biased = LLVMBuildAdd(m->ll->b, n, whole(m, exponent_bias(m)), "");
  return from_bits(m, LLVMBuildShl(m->ll->b, biased, whole(m, mantissa_bits(m)), ""));
}

// exp(x) * 2^shift; a NaN passes through all comparisons.
static LLVMValueRef exp_shifted(const Math *m, LLVMValueRef x, int shift) {
  static const double f32_c[] = {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
                                 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1};
  static const double f64_c[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                 1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
                                 1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        0.5};
  MuseLlvm *ll = m->ll;
  double high = m->wide ? 711.0 : 90.0, low = m->wide ? -746.0 : -104.5;
  LLVMValueRef y = pick(m, LLVMBuildFCmp(ll->b, LLVMRealOGT, x, num(m, high), ""), num(m, high), x);
  y = pick(m, less(m, y, num(m, low)), num(m, low), y);
  // Adding 1.5*2^mantissa rounds to a whole number that then stands in the low bits.
  LLVMValueRef magic = num(m, m->wide ? 0x1.8p52 : 0x1.8p23);
  LLVMValueRef shifted = add(m, mul(m, y, num(m, 1.4426950408889634)), magic);
  LLVMValueRef n = sub(m, shifted, magic);
  LLVMValueRef k = LLVMBuildSub(ll->b, to_bits(m, shifted), to_bits(m, magic), "");
  // ln 2 in two parts, the first with so few bits that n times it is exact.
  LLVMValueRef r = fused(m, n, num(m, m->wide ? -6.93147180369123816490e-01 : -0.693359375), y);
  r = fused(m, n, num(m, m->wide ? -1.90821492927058770002e-10 : 2.12194440e-4), r);
  LLVMValueRef p = m->wide ? polynomial(m, r, f64_c, 12) : polynomial(m, r, f32_c, 6);
  p = add(m, fused(m, mul(m, r, r), p, r), num(m, 1));
  // Two factors, so that results below the normal range and the last step before infinity are reached.
  k = shift ? LLVMBuildAdd(ll->b, k, whole(m, shift), "") : k;
  LLVMValueRef half = LLVMBuildAShr(ll->b, k, whole(m, 1), "");
  LLVMValueRef rest = LLVMBuildSub(ll->b, k, half, "");
  return mul(m, mul(m, p, power_of_two(m, half)), power_of_two(m, rest));
}

LLVMValueRef muse_llvm_exp(MuseLlvm *ll, LLVMValueRef x) {
  Math m = math_of(ll, x);
  return exp_shifted(&m, x, 0);
}

// log(u + c) for normal u > 0 and |c| <= ulp(u)/2 (or c NULL): u = 2^e * z, z in [2/3, 4/3) (f64: [0.707, 1.414)).
static LLVMValueRef log_of_normal(const Math *m, LLVMValueRef u, LLVMValueRef c, LLVMValueRef extra_exponent) {
  static const double f32_c[] = {7.0376836292e-2,  -1.1514610310e-1, 1.1676998740e-1,
                                 -1.2420140846e-1, 1.4249322787e-1,  -1.6668057665e-1,
                                 2.0000714765e-1,  -2.4999993993e-1, 3.3333331174e-1};
  static const double f64_c[] = {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                                 2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                                 6.666666666666735130e-01};
  MuseLlvm *ll = m->ll;
  LLVMValueRef bits = to_bits(m, u);
  LLVMValueRef start = whole(m, m->wide ? 0x3fe6a09e667f3bcd : 0x3f3504f3); // sqrt(1/2)
  LLVMValueRef e = LLVMBuildAShr(ll->b, LLVMBuildSub(ll->b, bits, start, ""), whole(m, mantissa_bits(m)), "");
  LLVMValueRef z = from_bits(m, LLVMBuildSub(ll->b, bits, LLVMBuildShl(ll->b, e, whole(m, mantissa_bits(m)), ""), ""));
  LLVMValueRef f = sub(m, z, num(m, 1));
  if (c) {
    // c in units of z. Beyond the exponent 64 it no longer counts, and 2^-e would leave the normal range.
    LLVMValueRef e_small = pick(m, LLVMBuildICmp(ll->b, LLVMIntSGT, e, whole(m, 64), ""), whole(m, 64), e);
    f = add(m, f, mul(m, c, power_of_two(m, LLVMBuildNeg(ll->b, e_small, ""))));
  }
  if (extra_exponent) e = LLVMBuildAdd(ll->b, e, extra_exponent, "");
  LLVMValueRef n = LLVMBuildSIToFP(ll->b, e, m->type, "");
  LLVMValueRef half_square = mul(m, num(m, 0.5), mul(m, f, f));
  if (!m->wide) {
    LLVMValueRef y = mul(m, mul(m, mul(m, f, f), f), polynomial(m, f, f32_c, 9));
    y = fused(m, n, num(m, -2.12194440e-4), y);
    return fused(m, n, num(m, 0.693359375), add(m, f, sub(m, y, half_square)));
  }
  // fdlibm: s = f/(2+f), log(1+f) = f - (f²/2 - s (f²/2 + R(s²))).
  LLVMValueRef s = quotient(m, f, add(m, num(m, 2), f)), w = mul(m, s, s);
  LLVMValueRef r = mul(m, w, polynomial(m, w, f64_c, 7));
  LLVMValueRef tail = fused(m, n, num(m, 1.90821492927058770002e-10), mul(m, s, add(m, half_square, r)));
  return fused(m, n, num(m, 6.93147180369123816490e-01), sub(m, f, sub(m, half_square, tail)));
}

LLVMValueRef muse_llvm_log(MuseLlvm *ll, LLVMValueRef x) {
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef zero = LLVMConstNull(m->type), infinity = num(m, __builtin_inf());
  int lift = m->wide ? 54 : 25;
  LLVMValueRef tiny = less(m, x, num(m, m->wide ? 0x1p-1022 : 0x1p-126));
  LLVMValueRef u = pick(m, tiny, mul(m, x, num(m, m->wide ? 0x1p54 : 0x1p25)), x);
  LLVMValueRef result = log_of_normal(m, u, NULL, pick(m, tiny, whole(m, -lift), whole(m, 0)));
  result = pick(m, LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, zero, ""), num(m, -__builtin_inf()), result);
  LLVMValueRef invalid = LLVMBuildFCmp(ll->b, LLVMRealULT, x, zero, ""); // negative or NaN
  result = pick(m, invalid, num(m, __builtin_nan("")), result);
  return pick(m, LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, infinity, ""), x, result);
}

// log(1+x) for x in [0, inf]: u = 1+x rounded, c the part that the rounding lost.
static LLVMValueRef log1p_positive(const Math *m, LLVMValueRef x) {
  LLVMValueRef u = add(m, num(m, 1), x);
  // u - x - 1 is exact in this order for x >= 1, u - 1 - x for smaller x.
  LLVMValueRef large = LLVMBuildFCmp(m->ll->b, LLVMRealOGT, x, num(m, 1), "");
  LLVMValueRef c = pick(m, large, sub(m, num(m, 1), sub(m, u, x)), sub(m, x, sub(m, u, num(m, 1))));
  return log_of_normal(m, u, c, NULL);
}

LLVMValueRef muse_llvm_log1p(MuseLlvm *ll, LLVMValueRef x) {
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef result = log1p_positive(m, x), minus_one = num(m, -1);
  result = pick(m, LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, minus_one, ""), num(m, -__builtin_inf()), result);
  result = pick(m, LLVMBuildFCmp(ll->b, LLVMRealULT, x, minus_one, ""), num(m, __builtin_nan("")), result);
  // inf, and -0 (whose sign 1+x loses), are their own results.
  LLVMValueRef itself = LLVMBuildOr(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, num(m, __builtin_inf()), ""),
                                    LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, LLVMConstNull(m->type), ""), "");
  return pick(m, itself, x, result);
}

LLVMValueRef muse_llvm_softplus(MuseLlvm *ll, LLVMValueRef x) {
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef e = exp_shifted(m, LLVMBuildFNeg(ll->b, muse_llvm_abs(ll, x), ""), 0); // in [0, 1]
  LLVMValueRef positive = pick(m, less(m, x, LLVMConstNull(m->type)), LLVMConstNull(m->type), x);
  return add(m, positive, log1p_positive(m, e));
}

LLVMValueRef muse_llvm_sigmoid(MuseLlvm *ll, LLVMValueRef x) {
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef e = exp_shifted(m, LLVMBuildFNeg(ll->b, muse_llvm_abs(ll, x), ""), 0);
  LLVMValueRef numerator = pick(m, less(m, x, LLVMConstNull(m->type)), e, num(m, 1));
  return quotient(m, numerator, add(m, num(m, 1), e));
}

LLVMValueRef muse_llvm_rsqrt(MuseLlvm *ll, LLVMValueRef x) {
  Math m = math_of(ll, x);
  return quotient(&m, num(&m, 1), muse_llvm_sqrt(ll, x));
}

LLVMValueRef muse_llvm_tanh(MuseLlvm *ll, LLVMValueRef x) {
  static const double f32_c[] = {-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
                                 -3.33332819422e-1};
  // Taylor of tanh(x)/x - 1 over x², enough for |x| < 0.2 in f64.
  static const double f64_c[] = {-443861162.0 / 1856156927625.0,
                                 6404582.0 / 10854718875.0,
                                 -929569.0 / 638512875.0,
                                 21844.0 / 6081075.0,
                                 -1382.0 / 155925.0,
                                 62.0 / 2835.0,
                                 -17.0 / 315.0,
                                 2.0 / 15.0,
                                 -1.0 / 3.0};
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef magnitude = muse_llvm_abs(ll, x), square = mul(m, x, x);
  LLVMValueRef p = m->wide ? polynomial(m, square, f64_c, 9) : polynomial(m, square, f32_c, 5);
  LLVMValueRef small = fused(m, mul(m, p, square), x, x);
  LLVMValueRef e = exp_shifted(m, add(m, magnitude, magnitude), 0);
  LLVMValueRef large = sub(m, num(m, 1), quotient(m, num(m, 2), add(m, e, num(m, 1))));
  large = muse_llvm_call2(ll, "llvm.copysign", large, x);
  return pick(m, less(m, magnitude, num(m, m->wide ? 0.2 : 0.625)), small, large);
}

void muse_llvm_cosh_sinh(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef *out_cosh, LLVMValueRef *out_sinh) {
  static const double f32_c[] = {2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1};
  static const double f64_c[] = {1.0 / 355687428096000.0, 1.0 / 1307674368000.0, 1.0 / 6227020800.0, 1.0 / 39916800.0,
                                 1.0 / 362880.0,          1.0 / 5040.0,          1.0 / 120.0,        1.0 / 6.0};
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef half = exp_shifted(m, muse_llvm_abs(ll, x), -1); // e^|x| / 2
  LLVMValueRef rest = quotient(m, num(m, 0.25), half);          // e^-|x| / 2
  if (out_cosh) *out_cosh = add(m, half, rest);
  if (!out_sinh) return;
  LLVMValueRef square = mul(m, x, x);
  LLVMValueRef p = m->wide ? polynomial(m, square, f64_c, 8) : polynomial(m, square, f32_c, 3);
  LLVMValueRef small = fused(m, mul(m, p, square), x, x);
  LLVMValueRef large = muse_llvm_call2(ll, "llvm.copysign", sub(m, half, rest), x);
  *out_sinh = pick(m, less(m, muse_llvm_abs(ll, x), num(m, 1)), small, large);
}

// log1p(t + sqrt(t (t + 2))); where the square would overflow, log(2 t).
LLVMValueRef muse_llvm_acosh_1p(MuseLlvm *ll, LLVMValueRef t) {
  Math math = math_of(ll, t), *m = &math;
  LLVMValueRef far = LLVMBuildFCmp(ll->b, LLVMRealOGT, t, num(m, 1e9), "");
  LLVMValueRef root = muse_llvm_sqrt(ll, mul(m, t, add(m, t, num(m, 2))));
  LLVMValueRef result = log1p_positive(m, pick(m, far, t, add(m, t, root)));
  result = add(m, result, pick(m, far, num(m, 0.69314718055994531), LLVMConstNull(m->type)));
  return pick(m, LLVMBuildFCmp(ll->b, LLVMRealOEQ, t, num(m, __builtin_inf()), ""), t, result);
}

void muse_llvm_sincos(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef *out_sin, LLVMValueRef *out_cos) {
  static const double sin_c[] = {1.58969099521155010221e-10,  -2.50507602534068634195e-08, 2.75573137070700676789e-06,
                                 -1.98412698298579493134e-04, 8.33333333332248946124e-03,  -1.66666666666666324348e-01};
  static const double cos_c[] = {-1.13596475577881948265e-11, 2.08757232129817482790e-09,  -2.75573143513906633035e-07,
                                 2.48015872894767294178e-05,  -1.38888888888741095749e-03, 4.16666666666666019037e-02};
  Math outer = math_of(ll, x);
  if (!outer.wide) x = LLVMBuildFPExt(ll->b, x, muse_llvm_vector(ll->f64, outer.lanes), "");
  Math math = math_of(ll, x), *m = &math;
  LLVMValueRef magic = num(m, 0x1.8p52);
  LLVMValueRef shifted = add(m, mul(m, x, num(m, 0.63661977236758134308)), magic);
  LLVMValueRef n = sub(m, shifted, magic);
  LLVMValueRef quadrant = LLVMBuildSub(ll->b, to_bits(m, shifted), to_bits(m, magic), "");
  // pi/2 in three parts of 33 bits: the products with n are exact for |n| < 2^20.
  LLVMValueRef r = sub(m, x, mul(m, n, num(m, 1.57079632673412561417e+00)));
  r = sub(m, r, mul(m, n, num(m, 6.07710050630396597660e-11)));
  r = sub(m, r, mul(m, n, num(m, 2.02226624879595063154e-21)));
  LLVMValueRef z = mul(m, r, r);
  LLVMValueRef s = fused(m, mul(m, polynomial(m, z, sin_c, 6), z), r, r);
  LLVMValueRef c = fused(m, mul(m, polynomial(m, z, cos_c, 6), z), z, sub(m, num(m, 1), mul(m, num(m, 0.5), z)));
  LLVMValueRef odd = LLVMBuildICmp(ll->b, LLVMIntNE, LLVMBuildAnd(ll->b, quadrant, whole(m, 1), ""), whole(m, 0), "");
  LLVMValueRef sin_value = pick(m, odd, c, s), cos_value = pick(m, odd, s, c);
  LLVMValueRef next = LLVMBuildAdd(ll->b, quadrant, whole(m, 1), "");
  LLVMValueRef sin_negative = LLVMBuildICmp(ll->b, LLVMIntNE, LLVMBuildAnd(ll->b, quadrant, whole(m, 2), ""),
                                            whole(m, 0), "");
  LLVMValueRef cos_negative = LLVMBuildICmp(ll->b, LLVMIntNE, LLVMBuildAnd(ll->b, next, whole(m, 2), ""), whole(m, 0),
                                            "");
  sin_value = pick(m, sin_negative, LLVMBuildFNeg(ll->b, sin_value, ""), sin_value);
  cos_value = pick(m, cos_negative, LLVMBuildFNeg(ll->b, cos_value, ""), cos_value);
  if (!outer.wide) {
    sin_value = LLVMBuildFPTrunc(ll->b, sin_value, outer.type, "");
    cos_value = LLVMBuildFPTrunc(ll->b, cos_value, outer.type, "");
  }
  if (out_sin) *out_sin = sin_value;
  if (out_cos) *out_cos = cos_value;
}

// ---- Philox ----

static LLVMValueRef low_half(MuseLlvm *ll, LLVMValueRef x) {
  return LLVMBuildAnd(ll->b, x, muse_llvm_const_bits(LLVMTypeOf(x), 0xffffffffu), "");
}
static LLVMValueRef high_half(MuseLlvm *ll, LLVMValueRef x) {
  return LLVMBuildLShr(ll->b, x, muse_llvm_const_bits(LLVMTypeOf(x), 32), "");
}

// Words live in 64-bit lanes whose high halves may hold anything: the multiplier (pmuludq) reads low halves only, so a
// product is at once the next low word and, shifted, the high word.
void muse_llvm_philox(MuseLlvm *ll, LLVMValueRef block, LLVMValueRef op_id, LLVMValueRef key[2], LLVMValueRef out[4]) {
  int n = muse_llvm_lanes_of(block);
  LLVMTypeRef i64 = LLVMTypeOf(block);
  LLVMValueRef c0 = block, c1 = high_half(ll, block), c2 = muse_llvm_splat(ll, op_id, n),
               c3 = muse_llvm_splat(ll, high_half(ll, op_id), n);
  LLVMValueRef k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    LLVMValueRef p0 = LLVMBuildMul(ll->b, low_half(ll, c0), muse_llvm_const_bits(i64, 0xD2511F53u), "");
    LLVMValueRef p1 = LLVMBuildMul(ll->b, low_half(ll, c2), muse_llvm_const_bits(i64, 0xCD9E8D57u), "");
    LLVMValueRef s0 = muse_llvm_splat(ll, LLVMBuildZExt(ll->b, k0, ll->i64, ""), n);
    LLVMValueRef s1 = muse_llvm_splat(ll, LLVMBuildZExt(ll->b, k1, ll->i64, ""), n);
    c0 = LLVMBuildXor(ll->b, LLVMBuildXor(ll->b, high_half(ll, p1), c1, ""), s0, "");
    c2 = LLVMBuildXor(ll->b, LLVMBuildXor(ll->b, high_half(ll, p0), c3, ""), s1, "");
    c1 = p1;
    c3 = p0;
    k0 = LLVMBuildAdd(ll->b, k0, muse_llvm_const_bits(ll->i32, 0x9E3779B9u), "");
    k1 = LLVMBuildAdd(ll->b, k1, muse_llvm_const_bits(ll->i32, 0xBB67AE85u), "");
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// Words of block j to lanes 4j..4j+3 of an i32 vector.
static LLVMValueRef words_in_order(MuseLlvm *ll, LLVMValueRef word[4], int n) {
  LLVMTypeRef i64 = muse_llvm_vector(ll->i64, n), i32 = muse_llvm_vector(ll->i32, 4 * n);
  LLVMValueRef pair[2];
  for (int i = 0; i < 2; i++) {
    LLVMValueRef upper = LLVMBuildShl(ll->b, word[2 * i + 1], muse_llvm_const_bits(i64, 32), "");
    pair[i] = LLVMBuildOr(ll->b, low_half(ll, word[2 * i]), upper, "");
  }
  if (n == 1) {
    LLVMValueRef both = LLVMGetPoison(LLVMVectorType(ll->i64, 2));
    for (int i = 0; i < 2; i++) both = LLVMBuildInsertElement(ll->b, both, pair[i], muse_llvm_i64(ll, i), "");
    return LLVMBuildBitCast(ll->b, both, i32, "");
  }
  int order[256];
  for (int i = 0; i < 2 * n; i++) order[i] = i / 2 + (i % 2) * n;
  return LLVMBuildBitCast(ll->b, muse_llvm_shuffle(ll, pair[0], pair[1], order, 2 * n), i32, "");
}

LLVMValueRef muse_llvm_random_uniform(MuseLlvm *ll, LLVMValueRef first, bool first_aligned, LLVMValueRef op_id,
                                      LLVMValueRef seed, LLVMValueRef step, int lanes) {
  LLVMValueRef key[2] = {seed, step}, word[4], chosen;
  LLVMTypeRef i32 = muse_llvm_vector(ll->i32, lanes);
  if (first_aligned && lanes % 4 == 0) {
    int n = lanes / 4;
    LLVMValueRef block = muse_llvm_splat(ll, LLVMBuildLShr(ll->b, first, muse_llvm_i64(ll, 2), ""), n);
    if (n > 1) block = LLVMBuildAdd(ll->b, block, muse_llvm_iota(ll, ll->i64, n), "");
    muse_llvm_philox(ll, block, op_id, key, word);
    chosen = words_in_order(ll, word, n);
  } else {
    // Each lane computes its own block and takes its word.
    LLVMTypeRef i64 = muse_llvm_vector(ll->i64, lanes);
    LLVMValueRef index = muse_llvm_splat(ll, first, lanes);
    if (lanes > 1) index = LLVMBuildAdd(ll->b, index, muse_llvm_iota(ll, ll->i64, lanes), "");
    muse_llvm_philox(ll, LLVMBuildLShr(ll->b, index, muse_llvm_const_bits(i64, 2), ""), op_id, key, word);
    LLVMValueRef zero = LLVMConstNull(i64);
    LLVMValueRef odd = LLVMBuildICmp(ll->b, LLVMIntNE, LLVMBuildAnd(ll->b, index, muse_llvm_const_bits(i64, 1), ""),
                                     zero, "");
    LLVMValueRef upper = LLVMBuildICmp(ll->b, LLVMIntNE, LLVMBuildAnd(ll->b, index, muse_llvm_const_bits(i64, 2), ""),
                                       zero, "");
    chosen = LLVMBuildSelect(ll->b, upper, LLVMBuildSelect(ll->b, odd, word[3], word[2], ""),
                             LLVMBuildSelect(ll->b, odd, word[1], word[0], ""), "");
    chosen = LLVMBuildTrunc(ll->b, chosen, i32, "");
  }
  LLVMValueRef top = LLVMBuildLShr(ll->b, chosen, muse_llvm_const(i32, 8), "");
  LLVMTypeRef f32 = muse_llvm_vector(ll->f32, lanes);
  return LLVMBuildFMul(ll->b, LLVMBuildSIToFP(ll->b, top, f32, ""), muse_llvm_const(f32, 0x1p-24), "");
}
