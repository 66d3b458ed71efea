#ifndef MUSE_COMPILER_EMIT_LLVM_WIDEN_H
#define MUSE_COMPILER_EMIT_LLVM_WIDEN_H

#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_builder.h"

// Emits a kernel, with the stages of skel_widen.h around it where it needs them. Between these two muse_llvm_operand
// and muse_llvm_result give the f32 copies, and stages are numbered from 1.
bool muse_emit_llvm_widened(MuseLlvm *ll, const MuseOp *kernel, MuseLlvmEmit emit);

#endif
