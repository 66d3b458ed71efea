#ifndef MUSE_COMPILER_EMIT_LLVM_MATH_H
#define MUSE_COMPILER_EMIT_LLVM_MATH_H

// Mathematical functions as straight vector code: no library calls, so results do not depend on the C library. f32
// within about 2 ulp, f64 within about 4 ulp (sincos: absolute), right at 0, infinities and NaN; scalars and vectors of
// any width.

#include "compiler/emit_llvm_builder.h"

LLVMValueRef muse_llvm_exp(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_log(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_log1p(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_tanh(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_sigmoid(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_softplus(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_rsqrt(MuseLlvm *ll, LLVMValueRef x); // 1/sqrt(x), full precision
// cosh(x) and sinh(x) with one exponential; either out may be NULL.
void muse_llvm_cosh_sinh(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef *out_cosh, LLVMValueRef *out_sinh);
LLVMValueRef muse_llvm_acosh_1p(MuseLlvm *ll, LLVMValueRef t); // acosh(1 + t), t >= 0, exact also for small t
// Sine and cosine for |x| < 2^20; f64 to about 1e-16, f32 through f64 arithmetic.
void muse_llvm_sincos(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef *out_sin, LLVMValueRef *out_cos);

// ---- Philox4x32-10 (see ir/base/philox.h) ----
// out: the four words of blocks `block`, `block`+1, ... (i64 value of any width) of operation op_id (i64) under key =
// seed, step (i32), each in the low half of an i64 lane; the high halves are undefined.
void muse_llvm_philox(MuseLlvm *ll, LLVMValueRef block, LLVMValueRef op_id, LLVMValueRef key[2], LLVMValueRef out[4]);
// Uniform f32 in [0,1) for elements first, first+1, ... (i64) of operation op_id (i64) under seed and step (i32).
// first_aligned: the caller knows that `first` is a multiple of 4, then a block is computed once for its four elements.
LLVMValueRef muse_llvm_random_uniform(MuseLlvm *ll, LLVMValueRef first, bool first_aligned, LLVMValueRef op_id,
                                      LLVMValueRef seed, LLVMValueRef step, int lanes);

#endif
