#ifndef MUSE_COMPILER_EMIT_LLVM_HEAD_H
#define MUSE_COMPILER_EMIT_LLVM_HEAD_H

#include "compiler/emit_llvm_builder.h"
#include "compiler/skel_cross_entropy.h"

// A stage of the head under construction: what is at hand in this round (skel_cross_entropy.h).
typedef struct MuseHeadStage {
  const MuseHead *h;
  LLVMValueRef first, count; // tokens of the round: first, number
  LLVMValueRef vocab, valid; // first row of the table at hand; how many of its rows are tokens (may be < rows)
  LLVMValueRef x, targets, table;
  LLVMValueRef measuring;   // i1: first of two sweeps; NULL when there is one
  LLVMValueRef first_round; // i1: of the sweep
} MuseHeadStage;

// Begins stage `stage` of the kernel; ends with muse_llvm_stage_end.
void muse_llvm_head_stage(MuseLlvm *ll, const MuseOp *kernel, const MuseHead *h, int stage,
                          void (*emit)(MuseLlvm *, const MuseHeadStage *));
LLVMValueRef muse_llvm_head_workspace(MuseLlvm *ll, int64_t bytes);

void muse_llvm_head_logits(MuseLlvm *ll, const MuseHeadStage *s);
void muse_llvm_head_normalise(MuseLlvm *ll, const MuseHeadStage *s);
void muse_llvm_head_products(MuseLlvm *ll, const MuseHeadStage *s);
void muse_llvm_head_loss(MuseLlvm *ll, const MuseHeadStage *s); // mean of the losses of the tokens
#endif
