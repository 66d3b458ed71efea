#ifndef MUSE_PASSES_FUSE_EPILOGUE_H
#define MUSE_PASSES_FUSE_EPILOGUE_H

#include "passes/rewrite.h"

// Joins to `group` the map ops that can run where the [M,N] result of `anchor` (already a member) is stored: ops of
// that shape whose operands are members or broadcast to the shape. Ops that the readers of the group's results can as
// well compute themselves, without reading more, are left to them.
void muse_fuse_epilogue(MuseGraph *g, MuseOp *anchor, int group);

#endif
