#ifndef MUSE_COMPILER_EMIT_CUDA_RESOLVENT_H
#define MUSE_COMPILER_EMIT_CUDA_RESOLVENT_H

#include "compiler/emit_cuda_kernel.h"

// The ways to compute resolvent_scan and resolvent_scan_grad on a GPU. The dtype of q, k, v, the shape and the
// architecture decide.

// Token by token: every kernel.
MuseStatus muse_cuda_resolvent_walk(MuseCudaEmitter *e);
MuseStatus muse_cuda_resolvent_walk_grad(MuseCudaEmitter *e);

// In chunks on tensor cores: 16-bit operands, D a multiple of 16 up to 128, sm_80 and newer.
typedef struct MuseCudaResolvent {
  const MuseOp *op;
  const char *type; // of q, k, v
  long long B, T, H, D;
  long long C, chunks, items; // tokens of a chunk; chunks of a row; chunks of all heads and rows
  int buffers;                // 2: both parts of a state lie in shared memory at once
  int64_t shared, blocks; // of the launch that computes the chunks, of C / 16 warps
  int64_t state_bytes, factor_bytes;
} MuseCudaResolvent;

// False when the kernel is not of that kind.
bool muse_cuda_resolvent_mma_plan(const MuseOp *kernel, MuseCudaTarget target, MuseCudaResolvent *out);
MuseStatus muse_cuda_resolvent_mma(MuseCudaEmitter *e, const MuseCudaResolvent *r);
MuseStatus muse_cuda_resolvent_mma_grad(MuseCudaEmitter *e, const MuseCudaResolvent *r);

// Launches and text that both share; places are bytes in the workspace, `left` and `right` operands of the op.
void muse_cuda_resolvent_mma_prelude(MuseCudaEmitter *e);
void muse_cuda_resolvent_factors(MuseCudaEmitter *e, const MuseCudaResolvent *r, int64_t from_begin, int64_t to_end,
                                 int64_t ends);
typedef struct MuseCudaStates {
  bool reverse;
  int left, right;
  int64_t factor, ends, states;
} MuseCudaStates;
// One walk over the chunks, or two that do not need each other.
void muse_cuda_resolvent_states(MuseCudaEmitter *e, const MuseCudaResolvent *r, int n, const MuseCudaStates *s);

#endif
