#ifndef MUSE_COMPILER_EMIT_LLVM_TARGET_H
#define MUSE_COMPILER_EMIT_LLVM_TARGET_H

#include "compiler/emit.h"

// Targets of the CPU emitters: levels that this machine can run, and names given by users. Strings are static.
bool muse_llvm_host_target(MuseCpuLevel limit, bool exact, MuseCpuTarget *out_target);
MuseStatus muse_llvm_parse_target(const char *text, MuseCpuTarget *out_target, MuseDiag *diag);
void muse_llvm_init(void); // registers LLVM's x86 and AArch64 back ends; any number of times, from any thread

#endif
