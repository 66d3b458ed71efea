#ifndef MUSE_COMPILER_MEMORY_REPORT_H
#define MUSE_COMPILER_MEMORY_REPORT_H

#include "compiler/memory_plan.h"

// For each function of a module that muse_memory_plan has been run on: how many bytes of its slab are in use where that
// is most, at which kernel, and the `most` largest tensors and workspaces there with the kernels that made them.
// Positions count the ops of the function from 0. A faulty plan is MUSE_ERR_INPUT.
MuseStatus muse_memory_report(MuseModule *module, int most, MuseStr *out, MuseDiag *diag);

#endif
