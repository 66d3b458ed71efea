#ifndef MUSE_COMPILER_EMIT_CUDA_RESOLVENT_H
#define MUSE_COMPILER_EMIT_CUDA_RESOLVENT_H

#include "compiler/emit_cuda_kernel.h"

// The ways to compute resolvent_scan and resolvent_scan_grad on a GPU. The dtype of q, k, v and the shape decide.

// Token by token: every kernel.
MuseStatus muse_cuda_resolvent_walk(MuseCudaEmitter *e);
MuseStatus muse_cuda_resolvent_walk_grad(MuseCudaEmitter *e);

#endif
