#ifndef MUSE_COMPILER_EMIT_TEXT_H
#define MUSE_COMPILER_EMIT_TEXT_H

#include "ir/op.h"

// Emits every distinct kernel of a module for a target ("cpu", "cpu:aarch64", ...) as `form`: "llvm" or "asm" text to
// `output` (NULL: stdout), or "object": one file a kernel into the folder `output`, with an index. Loads the CPU module
// with dlopen.
MuseStatus muse_emit_module_text(MuseModule *module, const char *form, const char *target, const char *output,
                                 MuseDiag *diag);

#endif
