// CUDA C as C++ of the host: what generated kernels use of the language, its built-in functions and PTX. An instruction
// "a.b::c x, y;" of an asm statement has become a call ptx_a_b__c(x, y) (rewrite.c); one that is not defined here is a
// compile error. Nothing is included: kernels are many, and each is compiled by itself.
//
// Facts of the instructions: PTX ISA 8.x (NVIDIA).
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))

typedef decltype(sizeof 0) emu_size;
#define EMU inline __attribute__((unused))

static EMU EmuThread *emu_self() {
  emu_size sp;
#if defined __x86_64__
  asm("mov %%rsp, %0" : "=r"(sp));
#elif defined __aarch64__
  asm("mov %0, sp" : "=r"(sp));
#else
  sp = (emu_size)__builtin_frame_address(0);
#endif
  sp &= ~(emu_size)(EMU_STACK - 1);
  return (EmuThread *)EMU_THREAD_AT(sp);
}
#define threadIdx (emu_self()->index)
#define blockIdx (emu_self()->block->index)
#define blockDim (emu_self()->block->size)
#define gridDim (emu_self()->block->grid)
#define emu_host (emu_self()->host)

template <class T, class F> static EMU T emu_bits(F from) {
  static_assert(sizeof(T) == sizeof(F), "bits of another size");
  T to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// ---- vectors ----
#define EMU_VECTORS(T, NAME)                                                                                          \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                                                  \
  struct NAME##3 { T x, y, z; };                                                                                      \
  struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) NAME##4 { T x, y, z, w; };                                       \
  static EMU NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                                      \
  static EMU NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                                              \
  static EMU NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(char, char)
EMU_VECTORS(unsigned char, uchar)
EMU_VECTORS(short, short)
EMU_VECTORS(unsigned short, ushort)
EMU_VECTORS(int, int)
EMU_VECTORS(unsigned, uint)
EMU_VECTORS(float, float)
EMU_VECTORS(double, double)
EMU_VECTORS(long long, longlong)
EMU_VECTORS(unsigned long long, ulonglong)

// ---- arithmetic ----
#define EMU_MATH1(NAME)                                                                                               \
  extern "C" double NAME(double) noexcept;                                                                            \
  extern "C" float NAME##f(float) noexcept;                                                                           \
  static EMU float NAME(float x) { return NAME##f(x); }
#define EMU_MATH2(NAME)                                                                                               \
  extern "C" double NAME(double, double) noexcept;                                                                    \
  extern "C" float NAME##f(float, float) noexcept;                                                                    \
  static EMU float NAME(float x, float y) { return NAME##f(x, y); }
EMU_MATH1(exp) EMU_MATH1(exp2) EMU_MATH1(expm1) EMU_MATH1(log) EMU_MATH1(log2) EMU_MATH1(log1p) EMU_MATH1(log10)
EMU_MATH1(sqrt) EMU_MATH1(cbrt) EMU_MATH1(sin) EMU_MATH1(cos) EMU_MATH1(tan) EMU_MATH1(asin) EMU_MATH1(acos)
EMU_MATH1(atan) EMU_MATH1(sinh) EMU_MATH1(cosh) EMU_MATH1(tanh) EMU_MATH1(erf) EMU_MATH1(erfc) EMU_MATH1(floor)
EMU_MATH1(ceil) EMU_MATH1(trunc) EMU_MATH1(round) EMU_MATH1(rint) EMU_MATH1(nearbyint) EMU_MATH1(fabs)
EMU_MATH2(pow) EMU_MATH2(fmod) EMU_MATH2(fmax) EMU_MATH2(fmin) EMU_MATH2(atan2) EMU_MATH2(copysign)
extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
extern "C" void sincos(double, double *, double *) noexcept;
extern "C" void sincosf(float, float *, float *) noexcept;
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
extern "C" int abs(int) noexcept;
static EMU float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static EMU double rsqrt(double x) { return 1.0 / sqrt(x); }
template <class T> static EMU T emu_min(T x, T y) { return y < x ? y : x; }
template <class T> static EMU T emu_max(T x, T y) { return x < y ? y : x; }
#define EMU_MIN_MAX(T)                                                                                                \
  static EMU T min(T x, T y) { return emu_min(x, y); }                                                                \
  static EMU T max(T x, T y) { return emu_max(x, y); }
EMU_MIN_MAX(int) EMU_MIN_MAX(unsigned) EMU_MIN_MAX(long) EMU_MIN_MAX(unsigned long) EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
static EMU float min(float x, float y) { return fminf(x, y); }
static EMU float max(float x, float y) { return fmaxf(x, y); }
static EMU unsigned min(int x, unsigned y) { return emu_min((unsigned)x, y); }
static EMU unsigned min(unsigned x, int y) { return emu_min(x, (unsigned)y); }
static EMU unsigned max(int x, unsigned y) { return emu_max((unsigned)x, y); }
static EMU unsigned max(unsigned x, int y) { return emu_max(x, (unsigned)y); }

static EMU float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
static EMU float __int_as_float(int x) { return emu_bits<float>(x); }
static EMU unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
static EMU int __float_as_int(float x) { return emu_bits<int>(x); }
static EMU double __longlong_as_double(long long x) { return emu_bits<double>(x); }
static EMU long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
static EMU unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
static EMU int __popc(unsigned x) { return __builtin_popcount(x); }
static EMU int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static EMU int __ffs(int x) { return __builtin_ffs(x); }
static EMU float __frcp_rn(float x) { return 1.0f / x; }
static EMU float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static EMU float __fdividef(float x, float y) { return x / y; }
static EMU float __expf(float x) { return expf(x); }
static EMU float __logf(float x) { return logf(x); }
static EMU int __float2int_rn(float x) {
  return x != x ? 0 : x >= 0x1p31f ? 0x7fffffff : x < -0x1p31f ? (int)0x80000000u : (int)rintf(x);
}
static EMU unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long bytes = (unsigned long long)y << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> 4 * i & 15u, byte = (unsigned)(bytes >> 8 * (s & 7u)) & 255u;
    result |= (s & 8u ? (byte & 128u ? 255u : 0u) : byte) << 8 * i;
  }
  return result;
}
static EMU int __dp4a(int x, int y, int sum) {
  for (int i = 0; i < 32; i += 8) sum += (signed char)(x >> i) * (signed char)(y >> i);
  return sum;
}
static EMU unsigned __dp4a(unsigned x, unsigned y, unsigned sum) {
  for (int i = 0; i < 32; i += 8) sum += (x >> i & 255u) * (y >> i & 255u);
  return sum;
}

// ---- threads together ----
static EMU void __syncthreads() { emu_host->barrier(0, 0); }
static EMU void __syncwarp(unsigned mask = 0xffffffffu) { emu_host->warp(EMU_WARP_SYNC, mask, nullptr); }
static EMU void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static EMU void __threadfence_block() {}
static EMU unsigned __ballot_sync(unsigned mask, int vote) {
  EmuBallot x = {vote != 0, 0};
  emu_host->warp(EMU_WARP_BALLOT, mask, &x);
  return x.result;
}
static EMU int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static EMU int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }
template <class T> static EMU T emu_shuffle(unsigned mask, T value, int from) {
  static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
  EmuShuffle x = {0, 0, from};
  __builtin_memcpy(&x.value, &value, sizeof value);
  emu_host->warp(EMU_WARP_SHUFFLE, mask, &x);
  __builtin_memcpy(&value, &x.result, sizeof value);
  return value;
}
// Lanes of a group of `width`; one beyond its end means the lane itself.
template <class T> static EMU T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
  const int lane = (int)emu_self()->lane;
  return emu_shuffle(mask, x, (lane & ~(width - 1)) + (from & (width - 1)));
}
template <class T> static EMU T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32) {
  const int lane = (int)emu_self()->lane, from = lane ^ bits;
  return emu_shuffle(mask, x, from < (lane & ~(width - 1)) + width ? from : lane);
}
template <class T> static EMU T __shfl_up_sync(unsigned mask, T x, int by, int width = 32) {
  const int lane = (int)emu_self()->lane;
  return emu_shuffle(mask, x, (lane & (width - 1)) >= by ? lane - by : lane);
}
template <class T> static EMU T __shfl_down_sync(unsigned mask, T x, int by, int width = 32) {
  const int lane = (int)emu_self()->lane;
  return emu_shuffle(mask, x, (lane & (width - 1)) + by < width ? lane + by : lane);
}
template <class T> static EMU T atomicAdd(T *p, T x) { return __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }

// ---- shared memory ----
static EMU void *emu_dynamic_shared() { return emu_self()->block->shared + EMU_SHARED_BEGIN; }
static EMU emu_size __cvta_generic_to_shared(const void *p) {
  const emu_size at = (emu_size)((const unsigned char *)p - emu_self()->block->shared);
  if (at >= EMU_SHARED_WINDOW) emu_host->fail("__cvta_generic_to_shared of an address that is not in shared memory");
  return at;
}
static EMU unsigned char *emu_shared_at(unsigned address, unsigned bytes) {
  if (address >= EMU_SHARED_WINDOW) emu_host->fail("an address outside of shared memory");
  if (address % bytes) emu_host->fail("an address in shared memory that is not aligned to what is read or written");
  return emu_self()->block->shared + address;
}
template <class T> static EMU T emu_load_shared(unsigned address) {
  T x;
  __builtin_memcpy(&x, emu_shared_at(address, sizeof x), sizeof x);
  return x;
}

// ---- PTX ----
// A function that is never called may hold an instruction that the architecture lacks.
static EMU void emu_needs(int arch) {
  if (__CUDA_ARCH__ < arch) emu_host->fail("an instruction that this architecture does not have");
}
template <class D, class S> static EMU void emu_set(D &to, S from) { to = emu_bits<D>(from); }

static EMU float emu_from_f16(unsigned short bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
  return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}
static EMU unsigned short emu_to_f16(float x) { // half to even
  const unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000u, size = u & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7fff;
  if (size >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);
  if (size < 0x38800000u) // adding a half moves the last bit that is kept to the end
    return (unsigned short)(sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u));
  return (unsigned short)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13);
}
static EMU float emu_from_bf16(unsigned bits) { return __uint_as_float(bits << 16); }
static EMU unsigned short emu_to_bf16(float x) {
  const unsigned u = __float_as_uint(x);
  return (unsigned short)(x != x ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
#define PTX0(NAME) static EMU void ptx_##NAME()
#define PTX1(NAME, ...) template <class D> static EMU void ptx_##NAME(D &d, __VA_ARGS__)

PTX1(cvt_f32_f16, unsigned short x) { emu_set(d, emu_from_f16(x)); }
PTX1(cvt_rn_f16_f32, float x) { emu_set(d, emu_to_f16(x)); }
PTX1(cvt_rn_bf16_f32, float x) { emu_needs(800), emu_set(d, emu_to_bf16(x)); }
PTX1(cvt_rn_f16x2_f32, float high, float low) {
  emu_needs(800);
  emu_set(d, (unsigned)emu_to_f16(high) << 16 | emu_to_f16(low));
}
PTX1(cvt_rn_bf16x2_f32, float high, float low) {
  emu_needs(800);
  emu_set(d, (unsigned)emu_to_bf16(high) << 16 | emu_to_bf16(low));
}
PTX1(fma_rn_bf16x2, unsigned x, unsigned y, unsigned z) {
  emu_needs(800);
  unsigned result = 0; // the sum is exact in double, or too far from a half for the second rounding to matter
  for (int i = 0; i < 32; i += 16)
    result |= (unsigned)emu_to_bf16((float)((double)emu_from_bf16(x >> i) * emu_from_bf16(y >> i) +
                                            emu_from_bf16(z >> i))) << i;
  emu_set(d, result);
}
PTX1(mul_rn_f16x2, unsigned x, unsigned y) {
  unsigned result = 0;
  for (int i = 0; i < 32; i += 16)
    result |= (unsigned)emu_to_f16(emu_from_f16((unsigned short)(x >> i)) * emu_from_f16((unsigned short)(y >> i)))
              << i;
  emu_set(d, result);
}
PTX1(max_NaN_f32, float x, float y) {
  emu_needs(800);
  emu_set(d, x != x || y != y ? 0x7fffffffu : __float_as_uint(x > y || (x == y && !__builtin_signbit(x)) ? x : y));
}
PTX1(min_NaN_f32, float x, float y) {
  emu_needs(800);
  emu_set(d, x != x || y != y ? 0x7fffffffu : __float_as_uint(x < y || (x == y && __builtin_signbit(x)) ? x : y));
}
// Zero in place of denormals. (The GPU's error is up to 2 units in the last place.)
static EMU float emu_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
PTX1(ex2_approx_ftz_f32, float x) { emu_set(d, emu_flush(exp2f(emu_flush(x)))); }
PTX1(lg2_approx_ftz_f32, float x) { emu_set(d, emu_flush(log2f(emu_flush(x)))); }
PTX1(rsqrt_approx_ftz_f32, float x) { emu_set(d, emu_flush(rsqrtf(emu_flush(x)))); }
PTX1(mov_u32, unsigned x) { emu_set(d, x); }
static EMU unsigned emu_special_ctaid_x() { return blockIdx.x; }
static EMU unsigned emu_special_tid_x() { return threadIdx.x; }

// Memory
static EMU void ptx_prefetch_global_L2(const void *) {}
template <class T> static EMU void ptx_ld_global_nc_L1__no_allocate_v4_u32(T &x, T &y, T &z, T &w, const void *p) {
  const uint4 v = *(const uint4 *)p;
  emu_set(x, v.x), emu_set(y, v.y), emu_set(z, v.z), emu_set(w, v.w);
}
PTX1(ld_shared_u32, unsigned address) { emu_set(d, emu_load_shared<unsigned>(address)); }
PTX1(ld_shared_f32, unsigned address) { emu_set(d, emu_load_shared<float>(address)); }
template <class T> static EMU void ptx_ld_shared_v4_u32(T &x, T &y, T &z, T &w, unsigned address) {
  const uint4 v = emu_load_shared<uint4>(address);
  emu_set(x, v.x), emu_set(y, v.y), emu_set(z, v.z), emu_set(w, v.w);
}
template <class T> static EMU void ptx_st_shared_u32(unsigned address, T x) {
  __builtin_memcpy(emu_shared_at(address, 4), &x, 4);
}
template <class T> static EMU void ptx_st_shared_b32(unsigned address, T x) { ptx_st_shared_u32(address, x); }
template <class T> static EMU void ptx_st_shared_v4_u32(unsigned address, T x, T y, T z, T w) {
  const T v[4] = {x, y, z, w};
  __builtin_memcpy(emu_shared_at(address, 16), v, 16);
}
static EMU void ptx_cp_async_cg_shared_global(unsigned to, const void *from, unsigned bytes, unsigned from_bytes) {
  emu_needs(800);
  if ((emu_size)from % 16 && from_bytes) emu_host->fail("cp.async from an address that is not aligned to 16 bytes");
  emu_host->copy_later(emu_shared_at(to, 16), from, bytes, from_bytes);
}
static EMU void ptx_cp_async_ca_shared_global(unsigned to, const void *from, unsigned bytes, unsigned from_bytes) {
  emu_needs(800);
  if ((emu_size)from % bytes && from_bytes) emu_host->fail("cp.async from an address that is not aligned to its size");
  emu_host->copy_later(emu_shared_at(to, bytes), from, bytes, from_bytes);
}
PTX0(cp_async_commit_group) { emu_needs(800), emu_host->copy_commit(); }
static EMU void ptx_cp_async_wait_group(unsigned pending) { emu_needs(800), emu_host->copy_wait(pending); }
PTX0(cp_async_wait_all) { emu_host->copy_commit(), emu_host->copy_wait(0); }

// Barriers
static EMU void ptx_bar_sync(unsigned id, unsigned threads) { emu_host->barrier(id, threads); }

// Matrices
template <int KIND, class T> static EMU void emu_ldmatrix(T &x, T &y, T &z, T &w, unsigned address) {
  EmuLdmatrix m = {address, {0}};
  emu_shared_at(address, 16);
  emu_host->warp(KIND, 0xffffffffu, &m);
  emu_set(x, m.result[0]), emu_set(y, m.result[1]), emu_set(z, m.result[2]), emu_set(w, m.result[3]);
}
template <class T>
static EMU void ptx_ldmatrix_sync_aligned_m8n8_x4_shared_b16(T &x, T &y, T &z, T &w, unsigned address) {
  emu_ldmatrix<EMU_WARP_LDMATRIX>(x, y, z, w, address);
}
template <class T>
static EMU void ptx_ldmatrix_sync_aligned_m8n8_x4_trans_shared_b16(T &x, T &y, T &z, T &w, unsigned address) {
  emu_ldmatrix<EMU_WARP_LDMATRIX_TRANS>(x, y, z, w, address);
}
// Four sums, N_A and N_B operands of 32 bits
#define EMU_MMA_4(NAME, KIND, SIGNED_A, SIGNED_B)                                                                     \
  template <class D, class A, class B, class C>                                                                       \
  static EMU void ptx_mma_sync_aligned_##NAME(D &d0, D &d1, D &d2, D &d3, A a0, A a1, A a2, A a3, B b0, B b1, C c0,   \
                                              C c1, C c2, C c3) {                                                     \
    EmuMma m = {{emu_bits<unsigned>(a0), emu_bits<unsigned>(a1), emu_bits<unsigned>(a2), emu_bits<unsigned>(a3)},     \
                {emu_bits<unsigned>(b0), emu_bits<unsigned>(b1)},                                                     \
                {emu_bits<unsigned>(c0), emu_bits<unsigned>(c1), emu_bits<unsigned>(c2), emu_bits<unsigned>(c3)},     \
                {0}, SIGNED_A, SIGNED_B};                                                                             \
    emu_needs(800);                                                                                                   \
    emu_host->warp(EMU_WARP_MMA + KIND, 0xffffffffu, &m);                                                             \
    emu_set(d0, m.d[0]), emu_set(d1, m.d[1]), emu_set(d2, m.d[2]), emu_set(d3, m.d[3]);                               \
  }
EMU_MMA_4(m16n8k16_row_col_f32_bf16_bf16_f32, EMU_MMA_BF16_K16, 0, 0)
EMU_MMA_4(m16n8k16_row_col_f32_f16_f16_f32, EMU_MMA_F16_K16, 0, 0)
EMU_MMA_4(m16n8k8_row_col_f32_tf32_tf32_f32, EMU_MMA_TF32_K8, 0, 0)
EMU_MMA_4(m16n8k32_row_col_s32_s8_s8_s32, EMU_MMA_BYTES_K32, 1, 1)
EMU_MMA_4(m16n8k32_row_col_s32_u8_s8_s32, EMU_MMA_BYTES_K32, 0, 1)
EMU_MMA_4(m16n8k32_row_col_s32_s8_u8_s32, EMU_MMA_BYTES_K32, 1, 0)
EMU_MMA_4(m16n8k32_row_col_s32_u8_u8_s32, EMU_MMA_BYTES_K32, 0, 0)
template <class D, class A, class B, class C>
static EMU void ptx_mma_sync_aligned_m16n8k8_row_col_f32_f16_f16_f32(D &d0, D &d1, D &d2, D &d3, A a0, A a1, B b0, C c0,
                                                                     C c1, C c2, C c3) {
  EmuMma m = {{emu_bits<unsigned>(a0), emu_bits<unsigned>(a1)},
              {emu_bits<unsigned>(b0)},
              {emu_bits<unsigned>(c0), emu_bits<unsigned>(c1), emu_bits<unsigned>(c2), emu_bits<unsigned>(c3)},
              {0}, 0, 0};
  emu_host->warp(EMU_WARP_MMA + EMU_MMA_F16_K8, 0xffffffffu, &m);
  emu_set(d0, m.d[0]), emu_set(d1, m.d[1]), emu_set(d2, m.d[2]), emu_set(d3, m.d[3]);
}
#define EMU_MMA_M8(A_TYPE, B_TYPE, SIGNED_A, SIGNED_B)                                                                \
  template <class D, class A, class B, class C>                                                                       \
  static EMU void ptx_mma_sync_aligned_m8n8k16_row_col_s32_##A_TYPE##_##B_TYPE##_s32(D &d0, D &d1, A a0, B b0, C c0,  \
                                                                                     C c1) {                          \
    EmuMma m = {{emu_bits<unsigned>(a0)}, {emu_bits<unsigned>(b0)}, {emu_bits<unsigned>(c0), emu_bits<unsigned>(c1)}, \
                {0}, SIGNED_A, SIGNED_B};                                                                             \
    emu_host->warp(EMU_WARP_MMA + EMU_MMA_BYTES_M8, 0xffffffffu, &m);                                                 \
    emu_set(d0, m.d[0]), emu_set(d1, m.d[1]);                                                                         \
  }
EMU_MMA_M8(s8, s8, 1, 1)
EMU_MMA_M8(u8, s8, 0, 1)
EMU_MMA_M8(s8, u8, 1, 0)
EMU_MMA_M8(u8, u8, 0, 0)

// ---- kernels ----
template <class T> struct emu_plain { typedef T type; };
template <class T> struct emu_plain<const T> { typedef T type; };
template <int... I> struct emu_numbers {};
template <int N, int... I> struct emu_count : emu_count<N - 1, N - 1, I...> {};
template <int... I> struct emu_count<0, I...> { typedef emu_numbers<I...> type; };
template <class... A, int... I>
static EMU void emu_call_with(void (*kernel)(A...), void **p, emu_numbers<I...>) {
  kernel(*(typename emu_plain<A>::type *)p[I]...);
}
template <class... A> static EMU void emu_call(void (*kernel)(A...), void **p) {
  emu_call_with(kernel, p, typename emu_count<sizeof...(A)>::type());
}
template <class F> struct emu_parameters;
template <class... A> struct emu_parameters<void(A...)> {
  static constexpr int n = sizeof...(A);
  static constexpr unsigned bytes[sizeof...(A) + 1] = {(unsigned)sizeof(A)..., 0};
};
#define EMU_KERNEL(NAME, CLUSTER, THREADS)                                                                            \
  static void emu_entry_##NAME(void **p) { emu_call(NAME, p); }                                                       \
  extern "C" __attribute__((visibility("default"))) const EmuKernel emu_kernel_##NAME = {                             \
      emu_entry_##NAME, emu_parameters<decltype(NAME)>::bytes, emu_parameters<decltype(NAME)>::n, CLUSTER, THREADS,   \
      __CUDA_ARCH__ / 10};
