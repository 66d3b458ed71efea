#ifndef MUSE_COMPILER_SKEL_TRITS_H
#define MUSE_COMPILER_SKEL_TRITS_H

#include "compiler/kernel_info.h"

// Skeletons "pack_trits" and "unpack_trits": a body of one such op. A task makes some rows of the packed (or unpacked)
// matrix. Rows of a transposed packed matrix are columns of the latent one; a task takes a multiple of 16 of them, so
// that whole cache lines are read.
int64_t muse_trits_rows_per_task(const MuseOp *op);
const MuseOp *muse_trits_op(const MuseOp *kernel); // the op of the body
void muse_trits_info(const MuseOp *kernel, MuseKernelInfo *out_info);

#endif
