#ifndef MUSE_COMPILER_EMIT_LLVM_EMBED_H
#define MUSE_COMPILER_EMIT_LLVM_EMBED_H

#include "compiler/emit_llvm_builder.h"

// Emitters of the embedding and the head: all stages of one kernel.
bool muse_emit_llvm_gather_rows(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_scatter_add_rows(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_tt_gather(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_tt_gather_grad(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_tt_matmul(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_cross_entropy(MuseLlvm *ll, const MuseOp *kernel);    // also the gradient
bool muse_emit_llvm_tt_cross_entropy(MuseLlvm *ll, const MuseOp *kernel); // also the gradient

// Pointer of operand `index`, and of result `index` (NULL when it is not yielded), of the kernel's only op.
LLVMValueRef muse_llvm_op_operand(MuseLlvm *ll, const MuseOp *op, int index);
LLVMValueRef muse_llvm_op_result(MuseLlvm *ll, const MuseOp *op, int index);
// tokens[index] (i32) as i64, held inside [0, rows): damaged input must not lead outside of the table.
LLVMValueRef muse_llvm_token(MuseLlvm *ll, LLVMValueRef tokens, LLVMValueRef index, int64_t rows);

#endif
