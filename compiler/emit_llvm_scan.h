#ifndef MUSE_COMPILER_EMIT_LLVM_SCAN_H
#define MUSE_COMPILER_EMIT_LLVM_SCAN_H

#include "compiler/emit_llvm_builder.h"

// Emitters of the scans, of windowed attention and of the small ops around them: all stages of one kernel.
bool muse_emit_llvm_green_scan(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_green_scan_grad(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_resolvent_scan(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_resolvent_scan_grad(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_window_attention(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_window_attention_grad(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_doc_begin(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_rope_table(MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_ring_write(MuseLlvm *ll, const MuseOp *kernel);

// to[j] = sum over i of partial[i][j], i ascending (f32).
void muse_llvm_emit_partial_sums(MuseLlvm *ll, int64_t rows, int64_t columns, LLVMValueRef partial, LLVMValueRef to);

#endif
