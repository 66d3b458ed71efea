#ifndef MUSE_RUNTIME_CHECK_CUT_H
#define MUSE_RUNTIME_CHECK_CUT_H

#include "ir/base/diag.h"
#include "ir/op.h"

// A smaller form of a kernel, for the exact evaluation: the same body with shorter dimensions. A dimension (each number
// that stands in types of the kernel, wherever it stands) is halved until the oracle can do the kernel, the largest
// first; a dimension that the others depend on (the kernel would not verify) stays as it is.
typedef struct MuseCutKernel {
  MuseModule *module;
  MuseOp *kernel;
} MuseCutKernel;

// `small_enough` judges a kernel. False when no cut is small enough or the kernel cannot be cut.
bool muse_kernel_cut(MuseModule *module, const MuseOp *kernel, bool (*small_enough)(const MuseOp *kernel),
                     MuseCutKernel *out_cut);
void muse_cut_free(MuseCutKernel *cut);

#endif
