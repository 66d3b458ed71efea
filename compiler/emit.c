// Names of CPU levels, for programs that do not load the CPU module.

#include "compiler/emit.h"

const char *muse_cpu_level_name(MuseCpuLevel level) {
  static const char *const names[] = {"scalar", "avx2", "avx512", "avx512-vnni", "amx", "neon", "neon-dot"};
  return names[level];
}
