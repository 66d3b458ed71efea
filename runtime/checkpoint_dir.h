#ifndef MUSE_RUNTIME_CHECKPOINT_DIR_H
#define MUSE_RUNTIME_CHECKPOINT_DIR_H

#include "ir/base/diag.h"
#include "ir/base/vec.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

// The folder of checkpoints, shared by writer and reader.

typedef MUSE_VEC(int64_t) MuseSteps;

int64_t muse_checkpoint_step_of(const char *name); // N of "step-N", or -1
// All step-N of a folder, newest first; the caller frees the vector.
MuseStatus muse_checkpoint_list(const char *dir, MuseSteps *out_steps, MuseDiag *diag);

#endif
