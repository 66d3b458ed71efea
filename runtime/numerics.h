#ifndef MUSE_RUNTIME_NUMERICS_H
#define MUSE_RUNTIME_NUMERICS_H

#include "runtime/session.h"

// NaN and Inf: where they are and where they come from.

// Index of the first element that is NaN or Inf, or -1; types other than floats have none.
int64_t muse_first_bad(const void *data, MuseDtype dtype, int64_t n);

// Runs a function kernel by kernel and describes the first one that gives NaN or Inf to `out`: its skeleton, key and
// layer. False when none does.
MuseStatus muse_find_first_bad_kernel(MuseSession *session, const char *function, MuseStr *out, bool *out_found,
                                      MuseDiag *diag);

// "layer 3, use_birman_schwinger, forward: map kernel" of a kernel call, for messages and tables.
void muse_kernel_describe(const MuseOp *kernel, MuseStr *out);

#endif
