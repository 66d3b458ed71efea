#ifndef MUSE_RUNTIME_CUDA_DUMP_H
#define MUSE_RUNTIME_CUDA_DUMP_H

#include "compiler/nvrtc.h"
#include "compiler/plan.h"
#include "runtime/cuda_kernel.h"

// What people want to see of a generated kernel: files of --dump-kernels, and what is said when one does not compile.

typedef struct MuseCudaDump {
  const char *dir;
  const MusePlanKernel *kernel;
  int variant;
  const MuseCudaLaunches *launches;
  const char *source; // the whole program
  const MuseNvrtc *nvrtc;
  MuseCudaTarget target;
} MuseCudaDump;

// Writes DIR/NAME.mir (the kernel's IR), .cu (its source, ready to be edited for --kernel-override), .ptx, .log (of the
// compiler, with registers and spills) and .launch (grids, blocks, shared memory, workspace).
MuseStatus muse_cuda_dump(const MuseCudaDump *dump, MuseDiag *diag);

// Notes for a kernel that was not compiled: its IR, the line of the source that the first error names, the log.
void muse_cuda_explain(const MusePlanKernel *kernel, const char *source, const char *log, MuseDiag *diag);

#endif
