#ifndef MUSE_COMPILER_EMIT_TEXT_H
#define MUSE_COMPILER_EMIT_TEXT_H

#include "ir/op.h"

// Emits every distinct kernel of a module for a target ("cpu", "cpu:aarch64", ...) as `form`: "llvm" or "asm" text to
// `output` (NULL: stdout), or "object": one file a kernel into the folder `output`, with an index. Loads the CPU module
// with dlopen.
MuseStatus muse_emit_module_text(MuseModule *module, const char *form, const char *target, const char *output,
                                 MuseDiag *diag);
// The same for CUDA ("cuda", "cuda:sm_86"): form "cuda" is one CUDA C text of all kernels, "ptx" needs NVRTC
// (nvrtc_path: NULL searches for it). Kernels whose skeleton has no CUDA emitter are left out; after the text is
// written that is MUSE_ERR_FAILED with their names.
MuseStatus muse_emit_module_cuda(MuseModule *module, const char *form, const char *target, const char *nvrtc_path,
                                 const char *output, MuseDiag *diag);

#endif
