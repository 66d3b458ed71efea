#ifndef MUSE_COMPILER_EMIT_H
#define MUSE_COMPILER_EMIT_H

#include "compiler/kernel_info.h"
#include "ir/base/diag.h"

// What the CPU module (libmuse-cpu.so) gives to programs that load it with dlopen; it alone links LLVM.

// Instruction sets the emitters choose between. Higher levels of a family include the lower ones.
typedef enum MuseCpuLevel {
  MUSE_CPU_SCALAR,      // no vector instructions asked for (x86-64 or aarch64 baseline, one element at a time)
  MUSE_CPU_AVX2,        // x86-64-v3: AVX2, FMA, F16C
  MUSE_CPU_AVX512,      // F BW DQ VL CD
  MUSE_CPU_AVX512_VNNI, // + VNNI (and VBMI, BF16 where the host has them)
  MUSE_CPU_AMX,         // + AMX-TILE, AMX-INT8
  MUSE_CPU_NEON,        // aarch64 baseline
  MUSE_CPU_NEON_DOT,    // + dotprod
} MuseCpuLevel;

typedef struct MuseCpuTarget {
  MuseCpuLevel level;
  const char *triple;   // LLVM triple
  const char *cpu;      // LLVM cpu name ("" generic)
  const char *features; // LLVM feature string
  int vector_bytes;     // 4 (scalar: one f32), 32, 64, 16
} MuseCpuTarget;

const char *muse_cpu_level_name(MuseCpuLevel level); // "scalar" "avx2" "avx512" "avx512-vnni" "amx" "neon" "neon-dot"

// Function table exported by the module as `const MuseCpuModule *muse_cpu_module(void)`.
typedef struct MuseJit MuseJit;
typedef struct MuseCpuModule {
  unsigned abi; // MUSE_CPU_MODULE_ABI
  const char *version; // LLVM version and emitter version: part of the cache key
  // The best target of this machine, at most `limit` (for tests and --cpu-level); false when the machine cannot run
  // `limit`.
  bool (*host_target)(MuseCpuLevel limit, bool exact, MuseCpuTarget *out_target);
  // "cpu", "cpu:host", "cpu:aarch64", "cpu:x86-64-v3", "cpu:avx512-vnni", ... to a target (for emission of objects and
  // texts).
  MuseStatus (*parse_target)(const char *text, MuseCpuTarget *out_target, MuseDiag *diag);
  // LLVM IR text ("llvm"), assembly ("asm") or object bytes ("object") of one kernel; malloc'ed, the caller frees.
  MuseStatus (*emit)(const MuseOp *kernel, const char *name, const MuseCpuTarget *target, const char *form,
                     char **out_data, size_t *out_bytes, MuseDiag *diag);
  // JIT: objects are added, then functions looked up.
  MuseStatus (*jit_create)(MuseJit **out_jit, MuseDiag *diag);
  MuseStatus (*jit_add_object)(MuseJit *jit, const void *object, size_t bytes, MuseDiag *diag); // copies
  MuseStatus (*jit_lookup)(MuseJit *jit, const char *symbol, void **out_address, MuseDiag *diag);
  void (*jit_destroy)(MuseJit *jit);
} MuseCpuModule;
#define MUSE_CPU_MODULE_ABI 1u

// Loads libmuse-cpu.so: beside the program, then the installed library folder, then the loader's paths. Stays loaded.
MuseStatus muse_cpu_module_load(const MuseCpuModule **out_module, MuseDiag *diag);

#endif
