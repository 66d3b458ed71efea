// Which tile computes a floating-point product, and its type in CUDA C (see the header).
#include "compiler/emit_cuda_gemm.h"

#include "ir/base/checked.h"
#include "ir/base/status.h"

static bool is_half(MuseDtype dtype) { return dtype == MUSE_BF16 || dtype == MUSE_F16; }

int muse_cuda_common_sms(MuseCudaTarget target) {
  if (target.arch >= 120) return 170;
  if (target.arch >= 100) return 148;
  if (target.arch >= 90) return 132;
  if (target.arch == 89) return 128;
  return target.arch == 80 ? 108 : 72;
}

// Do six bf16 products on the tensor cores take less time than one f32 product on the FMA units? Data centre GPUs.
static bool splits_pay(MuseCudaTarget target) {
  return target.arch == 80 || target.arch == 90 || target.arch == 100 || target.arch == 103;
}

static MuseDtype half_of(MuseCudaTarget target, MuseDtype a, MuseDtype b, bool *out_any) {
  *out_any = (is_half(a) || is_half(b)) && !(target.arch < 80 && (a == MUSE_BF16 || b == MUSE_BF16));
  return a == MUSE_F16 && b != MUSE_BF16 ? MUSE_F16 : b == MUSE_F16 && a != MUSE_BF16 ? MUSE_F16 : MUSE_BF16;
}

static int fma_size(int64_t n) { return n <= 32 ? 32 : n <= 64 ? 64 : 128; }

void muse_cuda_tile_choose(MuseCudaTarget target, MuseCudaSide a, MuseCudaSide b, int64_t M, int64_t N, bool exact,
                           MuseCudaTile *out) {
  bool half;
  const int sms = muse_cuda_common_sms(target);
  *out = (MuseCudaTile){.compute = half_of(target, a.dtype, b.dtype, &half), .a = a, .b = b};
  const bool mixed = half && (a.dtype == MUSE_F32 || b.dtype == MUSE_F32);
  const bool split = (half ? mixed && exact && out->compute == MUSE_BF16 : splits_pay(target));
  out->fma = !half && !split;
  out->a.planes = split && a.dtype == MUSE_F32 ? (half ? 2 : 3) : 1;
  out->b.planes = split && b.dtype == MUSE_F32 ? (half ? 2 : 3) : 1;
  const bool few = muse_ceil_div(M, 128) * muse_ceil_div(N, 128) < sms * 3 / 4;
  if (out->fma) {
    out->bm = fma_size(M), out->bn = fma_size(N), out->bk = 16, out->warps_m = 8, out->warps_n = 1, out->stages = 2;
    if (few && out->bm == 128) out->bm = 64;
    if (few && out->bn == 128) out->bn = 64;
    return;
  }
  out->bk = 32;
  out->stages = split || target.arch < 80 || !is_half(a.dtype) || !is_half(b.dtype) ? 2 : 4;
  if (N <= 64) {
    out->bn = (int)muse_round_up(N, 16), out->warps_n = 1;
    out->warps_m = M <= 16 ? 1 : M <= 32 ? 2 : M <= 64 ? 4 : 8;
    out->bm = 16 * out->warps_m;
  } else if (M <= 64) {
    out->bm = (int)muse_round_up(M, 16), out->warps_m = 1, out->warps_n = 8, out->bn = 128;
  } else if (few) {
    out->bm = 64, out->bn = 64, out->warps_m = 2, out->warps_n = 2;
  } else {
    out->bm = 128, out->bn = 128, out->warps_m = 2, out->warps_n = 4;
  }
}

static const char *type_of(MuseDtype dtype) {
  return dtype == MUSE_F32 ? "float" : dtype == MUSE_BF16 ? "bf16" : dtype == MUSE_F16 ? "f16" : "gemm::trits";
}

int muse_cuda_side_vector(const MuseCudaSide *side) {
  if (muse_dtype_is_trit(side->dtype)) return 8;
  int v = 16 / (int)muse_dtype_bytes(side->dtype);
  while (side->pitch % v) v /= 2;
  return v;
}

void muse_cuda_tile_type(const MuseCudaTile *t, MuseStr *out) {
  MUSE_ASSERT(t->a.dtype != MUSE_T2 && (t->b.dtype != MUSE_T2 || t->b.by_k));
  if (t->fma)
    muse_str_appendf(out, "gemm::FmaTile<%d, %d", t->bm, t->bn);
  else
    muse_str_appendf(out, "gemm::GemmTile<%s, %d, %d, %d, %d, %d", type_of(t->compute), t->bm, t->bn, t->bk, t->warps_m,
                     t->warps_n);
  for (int i = 0; i < 2; i++) {
    const MuseCudaSide *side = i ? &t->b : &t->a;
    muse_str_appendf(out, ", %s, %s, %d", type_of(side->dtype), side->by_k ? "true" : "false",
                     muse_cuda_side_vector(side));
    if (!t->fma) muse_str_appendf(out, ", %d", side->planes);
  }
  if (!t->fma) muse_str_appendf(out, ", %d", t->stages);
  muse_str_append(out, ">");
}

void muse_cuda_side_matrix(const MuseCudaSide *side, const char *name, int64_t rows, int64_t columns, MuseStr *out) {
  const char *type = type_of(side->dtype);
  muse_str_appendf(out, "gemm::Matrix<%s>{(const %s *)%s, %lld, %lld, %lld}", type, type, name, (long long)side->pitch,
                   (long long)rows, (long long)columns);
}

int muse_cuda_tile_threads(const MuseCudaTile *t) { return 32 * t->warps_m * t->warps_n; }

// As in the text: Part::BYTES.
static int part_bytes(const MuseCudaTile *t, const MuseCudaSide *side, int size) {
  int rows = side->by_k ? size : t->bk, pieces = (side->by_k ? t->bk : size) / 8;
  if (pieces & (pieces - 1)) pieces |= 1;
  return rows * pieces * 16;
}

int muse_cuda_tile_shared_bytes(const MuseCudaTile *t) {
  if (t->fma) return 2 * t->bk * (t->bm + 4 + t->bn + 4) * 4;
  return t->stages * (t->a.planes * part_bytes(t, &t->a, t->bm) + t->b.planes * part_bytes(t, &t->b, t->bn));
}
