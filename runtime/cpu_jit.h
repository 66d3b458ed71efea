#ifndef MUSE_RUNTIME_CPU_JIT_H
#define MUSE_RUNTIME_CPU_JIT_H

#include "compiler/emit.h"

// The JIT of the CPU module over ORC LLJIT. Objects may be added and looked up from any thread.
MuseStatus muse_cpu_jit_create(MuseJit **out_jit, MuseDiag *diag);
MuseStatus muse_cpu_jit_add_object(MuseJit *jit, const void *object, size_t bytes, MuseDiag *diag); // copies
MuseStatus muse_cpu_jit_lookup(MuseJit *jit, const char *symbol, void **out_address, MuseDiag *diag);
void muse_cpu_jit_destroy(MuseJit *jit); // NULL is allowed; all code is gone

// What libmuse-cpu.so exports.
const MuseCpuModule *muse_cpu_module(void);

#endif
