// Loads, stores and conversions between storage and register forms.

#include "compiler/emit_llvm_builder.h"

#include <string.h>

LLVMValueRef muse_llvm_alloca(MuseLlvm *ll, LLVMTypeRef type, int64_t count, int align) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(ll->b);
  LLVMValueRef first = LLVMGetFirstInstruction(ll->entry);
  if (first)
    LLVMPositionBuilderBefore(ll->b, first);
  else
    LLVMPositionBuilderAtEnd(ll->b, ll->entry);
  LLVMValueRef place = LLVMBuildArrayAlloca(ll->b, type, muse_llvm_i64(ll, count), "");
  if (align > 0) LLVMSetAlignment(place, (unsigned)align);
  LLVMPositionBuilderAtEnd(ll->b, here);
  return place;
}

LLVMValueRef muse_llvm_byte_address(MuseLlvm *ll, LLVMValueRef ptr, LLVMValueRef bytes) {
  return LLVMBuildGEP2(ll->b, ll->i8, ptr, &bytes, 1, "");
}

LLVMValueRef muse_llvm_byte_offset(MuseLlvm *ll, LLVMValueRef ptr, int64_t bytes) {
  return bytes == 0 ? ptr : muse_llvm_byte_address(ll, ptr, muse_llvm_i64(ll, bytes));
}

LLVMValueRef muse_llvm_address(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index) {
  return LLVMBuildGEP2(ll->b, muse_llvm_memory_type(ll, dtype, 1), ptr, &index, 1, "");
}

LLVMValueRef muse_llvm_load_raw(MuseLlvm *ll, LLVMTypeRef type, LLVMValueRef ptr, int align) {
  LLVMValueRef value = LLVMBuildLoad2(ll->b, type, ptr, "");
  LLVMSetAlignment(value, align > 0 ? (unsigned)align : 1);
  return value;
}

void muse_llvm_store_raw(MuseLlvm *ll, LLVMValueRef ptr, LLVMValueRef value, int align) {
  LLVMSetAlignment(LLVMBuildStore(ll->b, value, ptr), align > 0 ? (unsigned)align : 1);
}

void muse_llvm_prefetch(MuseLlvm *ll, LLVMValueRef ptr) {
  muse_llvm_intrinsic(ll, "llvm.prefetch", (LLVMTypeRef[]){ll->ptr}, 1,
                      (LLVMValueRef[]){ptr, muse_llvm_i32(ll, 0), muse_llvm_i32(ll, 3), muse_llvm_i32(ll, 1)}, 4);
}

LLVMValueRef muse_llvm_mask(MuseLlvm *ll, LLVMValueRef active, int lanes) {
  LLVMValueRef count = LLVMTypeOf(active) == ll->i32 ? active : LLVMBuildTrunc(ll->b, active, ll->i32, "");
  return LLVMBuildICmp(ll->b, LLVMIntULT, muse_llvm_iota(ll, ll->i32, lanes), muse_llvm_splat(ll, count, lanes), "");
}

static bool covers_all(LLVMValueRef active, int lanes) {
  return lanes == 1 || !active || (LLVMIsAConstantInt(active) && LLVMConstIntGetSExtValue(active) >= lanes);
}

LLVMValueRef muse_llvm_load(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                            LLVMValueRef active) {
  LLVMTypeRef type = muse_llvm_memory_type(ll, dtype, lanes);
  LLVMValueRef at = muse_llvm_address(ll, dtype, ptr, index), value;
  unsigned align = (unsigned)muse_dtype_bytes(dtype);
  if (covers_all(active, lanes)) {
    value = LLVMBuildLoad2(ll->b, type, at, "");
    LLVMSetAlignment(value, align);
  } else {
    LLVMValueRef args[] = {at, muse_llvm_i32(ll, align), muse_llvm_mask(ll, active, lanes), LLVMConstNull(type)};
    value = muse_llvm_intrinsic(ll, "llvm.masked.load", (LLVMTypeRef[]){type, ll->ptr}, 2, args, 4);
  }
  return dtype == MUSE_BOOL ? LLVMBuildICmp(ll->b, LLVMIntNE, value, LLVMConstNull(type), "") : value;
}

void muse_llvm_store(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, LLVMValueRef value, int lanes,
                     LLVMValueRef active) {
  LLVMTypeRef type = muse_llvm_memory_type(ll, dtype, lanes);
  if (dtype == MUSE_BOOL) value = LLVMBuildZExt(ll->b, value, type, "");
  LLVMValueRef at = muse_llvm_address(ll, dtype, ptr, index);
  unsigned align = (unsigned)muse_dtype_bytes(dtype);
  if (covers_all(active, lanes)) {
    LLVMSetAlignment(LLVMBuildStore(ll->b, value, at), align);
  } else {
    LLVMValueRef args[] = {value, at, muse_llvm_i32(ll, align), muse_llvm_mask(ll, active, lanes)};
    muse_llvm_intrinsic(ll, "llvm.masked.store", (LLVMTypeRef[]){type, ll->ptr}, 2, args, 4);
  }
}

LLVMValueRef muse_llvm_load_f32(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                                LLVMValueRef active) {
  return muse_llvm_convert(ll, muse_llvm_load(ll, dtype, ptr, index, lanes, active), dtype, MUSE_F32);
}

void muse_llvm_store_f32(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, LLVMValueRef value,
                         int lanes, LLVMValueRef active) {
  muse_llvm_store(ll, dtype, ptr, index, muse_llvm_convert(ll, value, MUSE_F32, dtype), lanes, active);
}

// ---- conversions ----

static LLVMValueRef bits_of(MuseLlvm *ll, LLVMValueRef x, int n) {
  return LLVMBuildBitCast(ll->b, x, muse_llvm_vector(ll->i32, n), "");
}
static LLVMValueRef float_of(MuseLlvm *ll, LLVMValueRef bits, int n) {
  return LLVMBuildBitCast(ll->b, bits, muse_llvm_vector(ll->f32, n), "");
}

static LLVMValueRef bf16_to_f32(MuseLlvm *ll, LLVMValueRef x, int n) {
  LLVMTypeRef i32 = muse_llvm_vector(ll->i32, n);
  return float_of(ll, LLVMBuildShl(ll->b, LLVMBuildZExt(ll->b, x, i32, ""), muse_llvm_const(i32, 16), ""), n);
}

// Half to even: add 0x7fff and the lowest kept bit; a NaN keeps its sign and becomes quiet.
static LLVMValueRef f32_to_bf16(MuseLlvm *ll, LLVMValueRef x, int n) {
  LLVMTypeRef i32 = muse_llvm_vector(ll->i32, n);
  LLVMValueRef bits = bits_of(ll, x, n);
  LLVMValueRef lowest = LLVMBuildAnd(ll->b, LLVMBuildLShr(ll->b, bits, muse_llvm_const(i32, 16), ""),
                                     muse_llvm_const(i32, 1), "");
  LLVMValueRef rounded = LLVMBuildAdd(ll->b, bits, LLVMBuildAdd(ll->b, lowest, muse_llvm_const(i32, 0x7fff), ""), "");
  LLVMValueRef quiet = LLVMBuildOr(ll->b, bits, muse_llvm_const_bits(i32, 0x400000), "");
  LLVMValueRef chosen = LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, LLVMRealUNO, x, x, ""), quiet, rounded, "");
  return LLVMBuildTrunc(ll->b, LLVMBuildLShr(ll->b, chosen, muse_llvm_const(i32, 16), ""), muse_llvm_vector(ll->i16, n),
                        "");
}

static bool has_f16(const MuseLlvm *ll) { return !ll->is_x86 || ll->target->level >= MUSE_CPU_AVX2; }

// Without F16C: exponent and mantissa moved into place, 2^112 corrects the bias (subnormals included).
static LLVMValueRef f16_to_f32(MuseLlvm *ll, LLVMValueRef x, int n) {
  if (has_f16(ll)) {
    LLVMValueRef half = LLVMBuildBitCast(ll->b, x, muse_llvm_vector(ll->f16, n), "");
    return LLVMBuildFPExt(ll->b, half, muse_llvm_vector(ll->f32, n), "");
  }
  LLVMTypeRef i32 = muse_llvm_vector(ll->i32, n), f32 = muse_llvm_vector(ll->f32, n);
  LLVMValueRef wide = LLVMBuildZExt(ll->b, x, i32, "");
  LLVMValueRef magnitude = LLVMBuildAnd(ll->b, wide, muse_llvm_const(i32, 0x7fff), "");
  LLVMValueRef sign = LLVMBuildShl(ll->b, LLVMBuildAnd(ll->b, wide, muse_llvm_const(i32, 0x8000), ""),
                                   muse_llvm_const(i32, 16), "");
  LLVMValueRef moved = LLVMBuildShl(ll->b, magnitude, muse_llvm_const(i32, 13), "");
  LLVMValueRef finite = bits_of(ll, LLVMBuildFMul(ll->b, float_of(ll, moved, n), muse_llvm_const(f32, 0x1p112), ""), n);
  LLVMValueRef special = LLVMBuildOr(ll->b, moved, muse_llvm_const_bits(i32, 0x7f800000), "");
  LLVMValueRef is_special = LLVMBuildICmp(ll->b, LLVMIntUGE, magnitude, muse_llvm_const(i32, 0x7c00), "");
  return float_of(ll, LLVMBuildOr(ll->b, sign, LLVMBuildSelect(ll->b, is_special, special, finite, ""), ""), n);
}

static LLVMValueRef f32_to_f16(MuseLlvm *ll, LLVMValueRef x, int n) {
  LLVMTypeRef i16 = muse_llvm_vector(ll->i16, n);
  if (has_f16(ll))
    return LLVMBuildBitCast(ll->b, LLVMBuildFPTrunc(ll->b, x, muse_llvm_vector(ll->f16, n), ""), i16, "");
  LLVMTypeRef i32 = muse_llvm_vector(ll->i32, n), f32 = muse_llvm_vector(ll->f32, n);
  LLVMValueRef bits = bits_of(ll, x, n);
  LLVMValueRef magnitude = LLVMBuildAnd(ll->b, bits, muse_llvm_const_bits(i32, 0x7fffffff), "");
  LLVMValueRef sign = LLVMBuildAnd(ll->b, LLVMBuildLShr(ll->b, bits, muse_llvm_const(i32, 16), ""),
                                   muse_llvm_const(i32, 0x8000), "");
  // Below 2^-14 adding 0.5 puts the subnormal mantissa, rounded, into the lowest bits.
  LLVMValueRef shifted = LLVMBuildFAdd(ll->b, float_of(ll, magnitude, n), muse_llvm_const(f32, 0.5), "");
  LLVMValueRef small = LLVMBuildSub(ll->b, bits_of(ll, shifted, n), muse_llvm_const_bits(i32, 0x3f000000), "");
  LLVMValueRef odd = LLVMBuildAnd(ll->b, LLVMBuildLShr(ll->b, magnitude, muse_llvm_const(i32, 13), ""),
                                  muse_llvm_const(i32, 1), "");
  LLVMValueRef sum = LLVMBuildAdd(ll->b, LLVMBuildAdd(ll->b, magnitude, muse_llvm_const_bits(i32, 0xc8000fff), ""), odd,
                                  "");
  LLVMValueRef normal = LLVMBuildLShr(ll->b, sum, muse_llvm_const(i32, 13), "");
  LLVMValueRef is_nan = LLVMBuildICmp(ll->b, LLVMIntUGT, magnitude, muse_llvm_const_bits(i32, 0x7f800000), "");
  LLVMValueRef large = LLVMBuildSelect(ll->b, is_nan, muse_llvm_const(i32, 0x7e00), muse_llvm_const(i32, 0x7c00), "");
  LLVMValueRef is_small = LLVMBuildICmp(ll->b, LLVMIntULT, magnitude, muse_llvm_const_bits(i32, 0x38800000), "");
  LLVMValueRef is_large = LLVMBuildICmp(ll->b, LLVMIntUGE, magnitude, muse_llvm_const_bits(i32, 0x477ff000), "");
  LLVMValueRef chosen = LLVMBuildSelect(ll->b, is_large, large, LLVMBuildSelect(ll->b, is_small, small, normal, ""),
                                        "");
  return LLVMBuildTrunc(ll->b, LLVMBuildOr(ll->b, sign, chosen, ""), i16, "");
}

static bool is_unsigned_dtype(MuseDtype d) { return d == MUSE_U8 || d == MUSE_U32 || d == MUSE_BOOL; }

LLVMValueRef muse_llvm_convert(MuseLlvm *ll, LLVMValueRef value, MuseDtype from, MuseDtype to) {
  if (from == to) return value;
  int n = muse_llvm_lanes_of(value);
  if (from == MUSE_BF16 || from == MUSE_F16) {
    value = from == MUSE_BF16 ? bf16_to_f32(ll, value, n) : f16_to_f32(ll, value, n);
    return muse_llvm_convert(ll, value, MUSE_F32, to);
  }
  if (to == MUSE_BF16 || to == MUSE_F16) {
    value = muse_llvm_convert(ll, value, from, MUSE_F32);
    return to == MUSE_BF16 ? f32_to_bf16(ll, value, n) : f32_to_f16(ll, value, n);
  }
  LLVMTypeRef type = muse_llvm_type(ll, to, n);
  bool from_float = muse_dtype_is_float(from), to_float = muse_dtype_is_float(to);
  if (to == MUSE_BOOL) {
    LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(value));
    return from_float ? LLVMBuildFCmp(ll->b, LLVMRealUNE, value, zero, "")
                      : LLVMBuildICmp(ll->b, LLVMIntNE, value, zero, "");
  }
  if (from_float && to_float)
    return to == MUSE_F64 ? LLVMBuildFPExt(ll->b, value, type, "") : LLVMBuildFPTrunc(ll->b, value, type, "");
  if (from_float) {
    // Bytes go through i32, the form that vector units convert to. A value out of range (NaN) must not become poison.
    bool narrow = to == MUSE_I8 || to == MUSE_U8;
    LLVMTypeRef wide = narrow ? muse_llvm_vector(ll->i32, n) : type;
    value = to == MUSE_U32 ? LLVMBuildFPToUI(ll->b, value, wide, "") : LLVMBuildFPToSI(ll->b, value, wide, "");
    value = LLVMBuildFreeze(ll->b, value, "");
    return narrow ? LLVMBuildTrunc(ll->b, value, type, "") : value;
  }
  if (to_float)
    return is_unsigned_dtype(from) ? LLVMBuildUIToFP(ll->b, value, type, "") : LLVMBuildSIToFP(ll->b, value, type, "");
  return LLVMBuildIntCast2(ll->b, value, type, !is_unsigned_dtype(from), "");
}
