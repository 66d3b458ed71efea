#ifndef MUSE_COMPILER_EMIT_LLVM_TRAIN_H
#define MUSE_COMPILER_EMIT_LLVM_TRAIN_H

#include "compiler/emit_llvm_builder.h"

// Products of a tensor train that several kernels need. Pointers are to one slice each: core1[i1] [r,d1], core2[i2]
// [r,d2], and rows of the table (or of its gradient) as d1 x d2 matrices without gaps.
typedef struct MuseTrainShape {
  int64_t r, d1, d2;
} MuseTrainShape;

LLVMValueRef muse_llvm_slice(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef index, int64_t elements);
// scaled[rho,:] = cos_rho core1[rho,:]
void muse_llvm_train_scale(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef core1, LLVMValueRef cosphase,
                           LLVMValueRef scaled);
// row = scaled^T core2
void muse_llvm_train_row(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef scaled, LLVMValueRef core2, LLVMValueRef row);
// out[rho,b] (+)= sum over a of left[rho,a] row[a,b], all rho
void muse_llvm_train_right(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef left, LLVMValueRef row, LLVMValueRef out,
                           LLVMValueRef more);
// out[rho,a] (+)= sum over b of core2[rho,b] row[a,b] for `count` (i64) values of rho, at which core2 and out point;
// packed: scratch
void muse_llvm_train_left(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef count, LLVMValueRef core2, LLVMValueRef row,
                          LLVMValueRef packed, LLVMValueRef out, LLVMValueRef more);
// row = the first `D` elements of `from`, then zeros.
void muse_llvm_train_pad(MuseLlvm *ll, MuseTrainShape s, int64_t D, LLVMValueRef from, LLVMValueRef row);
// Element index `first` to `end` of `to` become zero.
void muse_llvm_clear(MuseLlvm *ll, LLVMValueRef to, LLVMValueRef first, LLVMValueRef end);

// The last step of the gradients for one rho: t [used,r,d1] and u [v2,r,d2] are sums without cosphase; in place they
// become the gradients (slices of t from `used` on: zero); d_cosphase may be NULL.
typedef struct MuseTrainFinish {
  MuseTrainShape shape;
  int64_t v1, v2, used;
  LLVMValueRef core1, cosphase, t, u, d_cosphase;
} MuseTrainFinish;
void muse_llvm_train_finish(MuseLlvm *ll, const MuseTrainFinish *f, LLVMValueRef rho);

#endif
