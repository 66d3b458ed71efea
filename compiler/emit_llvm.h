#ifndef MUSE_COMPILER_EMIT_LLVM_H
#define MUSE_COMPILER_EMIT_LLVM_H

#include "compiler/emit.h"

// Kernel -> LLVM IR -> "llvm" text, "asm" text or "object" bytes. One LLVM context a call: any number of threads may
// emit at the same time. malloc'ed result of *out_bytes bytes (texts are NUL-terminated besides).
MuseStatus muse_emit_llvm_kernel(const MuseOp *kernel, const char *name, const MuseCpuTarget *target, const char *form,
                                 char **out_data, size_t *out_bytes, MuseDiag *diag);

// Part of the cache key: changes whenever the same kernel may become other code.
const char *muse_emit_llvm_version(void);

// An emitter writes all stages of one kernel: functions NAME_0, NAME_1, ... (muse_llvm_stage_begin ... _end).
struct MuseLlvm;
typedef bool (*MuseLlvmEmit)(struct MuseLlvm *ll, const MuseOp *kernel);
// The same with a given emitter.
MuseStatus muse_emit_llvm_with(MuseLlvmEmit emit, const MuseOp *kernel, const char *name, const MuseCpuTarget *target,
                               const char *form, char **out_data, size_t *out_bytes, MuseDiag *diag);

bool muse_emit_llvm_map(struct MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_transpose(struct MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_product(struct MuseLlvm *ll, const MuseOp *kernel); // matmul, ternary_matmul, int8_matmul
bool muse_emit_llvm_pack_trits(struct MuseLlvm *ll, const MuseOp *kernel);
bool muse_emit_llvm_unpack_trits(struct MuseLlvm *ll, const MuseOp *kernel);

#endif
