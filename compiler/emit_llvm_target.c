// Which instruction sets there are, and what the machine at hand can run.

#include "compiler/emit_llvm_target.h"

#include "ir/base/str.h"

#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static pthread_once_t init_once = PTHREAD_ONCE_INIT;

static void init(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeX86AsmParser();
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
  LLVMInitializeAArch64AsmParser();
}

void muse_llvm_init(void) { pthread_once(&init_once, init); }

static const char x86_triple[] = "x86_64-unknown-linux-gnu", arm_triple[] = "aarch64-unknown-linux-gnu";

// Feature sets by name; extensions of VNNI that a host has are listed so that every combination is a constant string.
static const MuseCpuTarget targets[] = {
  {MUSE_CPU_SCALAR, x86_triple, "x86-64", "", 4},
  {MUSE_CPU_AVX2, x86_triple, "x86-64-v3", "", 32},
  {MUSE_CPU_AVX512, x86_triple, "x86-64-v4", "", 64},
  {MUSE_CPU_AVX512_VNNI, x86_triple, "x86-64-v4", "+avx512vnni", 64},
  {MUSE_CPU_AMX, x86_triple, "x86-64-v4", "+avx512vnni,+avx512vbmi,+avx512bf16,+amx-tile,+amx-int8", 64},
  {MUSE_CPU_NEON, arm_triple, "generic", "+neon", 16},
  {MUSE_CPU_NEON_DOT, arm_triple, "generic", "+neon,+dotprod", 16},
};
static const MuseCpuTarget vnni_vbmi = {MUSE_CPU_AVX512_VNNI, x86_triple, "x86-64-v4", "+avx512vnni,+avx512vbmi", 64};
static const MuseCpuTarget vnni_vbmi_bf16 = {MUSE_CPU_AVX512_VNNI, x86_triple, "x86-64-v4",
                                             "+avx512vnni,+avx512vbmi,+avx512bf16", 64};
static const MuseCpuTarget arm_scalar = {MUSE_CPU_SCALAR, arm_triple, "generic", "", 4};

// ---- the host ----

typedef struct Host {
  bool is_arm;
  char *features; // LLVM's list, "+avx2,-sse4a,..."
  bool amx;       // and the system lets us use the tiles
} Host;
static Host host;
static pthread_once_t host_once = PTHREAD_ONCE_INIT;

static bool host_has(const char *feature) {
  char pattern[64];
  snprintf(pattern, sizeof pattern, "+%s", feature);
  size_t length = strlen(pattern);
  for (const char *p = host.features; (p = strstr(p, pattern)) != NULL; p += length)
    if (p[length] == ',' || p[length] == 0) return true;
  return false;
}

static void detect(void) {
  muse_llvm_init();
  host.features = LLVMGetHostCPUFeatures();
  char *triple = LLVMGetDefaultTargetTriple();
  host.is_arm = muse_str_starts_with(triple, "aarch64") || muse_str_starts_with(triple, "arm64");
  LLVMDisposeMessage(triple);
#if defined(__linux__) && defined(__x86_64__)
  // Tile registers are state that Linux hands out on request only: ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA.
  if (host_has("amx-tile") && host_has("amx-int8")) host.amx = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#endif
}

static bool host_runs(MuseCpuLevel level) {
  switch (level) {
    case MUSE_CPU_SCALAR: return true;
    case MUSE_CPU_AVX2:
      return !host.is_arm && host_has("avx2") && host_has("fma") && host_has("f16c") && host_has("bmi2") &&
             host_has("lzcnt") && host_has("movbe");
    case MUSE_CPU_AVX512:
      return host_runs(MUSE_CPU_AVX2) && host_has("avx512f") && host_has("avx512bw") && host_has("avx512dq") &&
             host_has("avx512vl") && host_has("avx512cd");
    case MUSE_CPU_AVX512_VNNI: return host_runs(MUSE_CPU_AVX512) && host_has("avx512vnni");
    case MUSE_CPU_AMX:
      return host_runs(MUSE_CPU_AVX512_VNNI) && host_has("avx512vbmi") && host_has("avx512bf16") && host.amx;
    case MUSE_CPU_NEON: return host.is_arm;
    case MUSE_CPU_NEON_DOT: return host.is_arm && host_has("dotprod");
  }
  return false;
}

static const MuseCpuTarget *host_form(MuseCpuLevel level) {
  if (level == MUSE_CPU_SCALAR && host.is_arm) return &arm_scalar;
  if (level == MUSE_CPU_AVX512_VNNI && host_has("avx512vbmi"))
    return host_has("avx512bf16") ? &vnni_vbmi_bf16 : &vnni_vbmi;
  return &targets[level];
}

bool muse_llvm_host_target(MuseCpuLevel limit, bool exact, MuseCpuTarget *out_target) {
  pthread_once(&host_once, detect);
  // The two families are ordered separately: a limit of one family does not bound the other.
  for (int level = (int)limit; level >= MUSE_CPU_SCALAR; level--) {
    if (!host_runs((MuseCpuLevel)level)) {
      if (exact) return false;
      continue;
    }
    *out_target = *host_form((MuseCpuLevel)level);
    return true;
  }
  return false;
}

MuseStatus muse_llvm_parse_target(const char *text, MuseCpuTarget *out_target, MuseDiag *diag) {
  muse_llvm_init();
  if (!strcmp(text, "cpu") || !strcmp(text, "cpu:host")) {
    MUSE_ASSERT(muse_llvm_host_target(MUSE_CPU_NEON_DOT, false, out_target));
    return MUSE_OK;
  }
  static const struct { const char *name; const MuseCpuTarget *target; } names[] = {
    {"cpu:scalar", &targets[MUSE_CPU_SCALAR]},       {"cpu:x86-64", &targets[MUSE_CPU_SCALAR]},
    {"cpu:avx2", &targets[MUSE_CPU_AVX2]},           {"cpu:x86-64-v3", &targets[MUSE_CPU_AVX2]},
    {"cpu:avx512", &targets[MUSE_CPU_AVX512]},       {"cpu:x86-64-v4", &targets[MUSE_CPU_AVX512]},
    {"cpu:avx512-vnni", &targets[MUSE_CPU_AVX512_VNNI]}, {"cpu:amx", &targets[MUSE_CPU_AMX]},
    {"cpu:neon", &targets[MUSE_CPU_NEON]},           {"cpu:aarch64", &targets[MUSE_CPU_NEON]},
    {"cpu:neon-dot", &targets[MUSE_CPU_NEON_DOT]},   {"cpu:aarch64-scalar", &arm_scalar},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i].name, text) != 0) continue;
    *out_target = *names[i].target;
    return MUSE_OK;
  }
  MuseStr known = {0};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) muse_str_appendf(&known, " %s", names[i].name);
  MuseStatus status = muse_error(diag, MUSE_ERR_INPUT, "unknown CPU target '%s'; known are cpu, cpu:host,%s", text,
                                 muse_str_text(&known));
  muse_str_free(&known);
  return status;
}
