#ifndef MUSE_COMPILER_EMIT_CUDA_HEAD_H
#define MUSE_COMPILER_EMIT_CUDA_HEAD_H

#include "compiler/emit_cuda_kernel.h"

// The head (cross_entropy, tt_cross_entropy and their gradients) on a GPU: how it is cut. emit_cuda_head.c says what
// the launches do.
typedef struct MuseCudaHead {
  MuseCudaEmitter *e;
  const MuseOp *op;
  bool grad, train;
  bool dx, d_table;                    // are the gradients of x, and of the table or any core, asked for?
  MuseDtype dtype;                     // of x and the table or cores
  int operand[6], result[5], targets;  // parameters a%d, r%d by operands and results of the op; -1: not there
  int64_t N, D, V;
  int64_t v1, v2, r, d1, d2, used;             // tensor train; used: first indices that have tokens
  int64_t chunk, rounds;                       // tokens at a time
  int64_t group, groups, sweeps;               // first indices of a group of the table
  int64_t group_rows, group_columns, columns;  // rows of a group; columns of E of a group, of all
  int64_t pitch;                               // elements of a row of the table at hand
  int64_t width;                               // columns of a tile of logits
  int64_t parts, part_columns;                 // of the sums of dx
  int64_t core_parts, core_part_k;             // of the sums of the gradient of core1
  // Bytes in the workspace.
  int64_t maxima, sums, picked, losses, logits, dx_parts;
  int64_t turned1, turned2, table, gradient, sum1, sum2;
} MuseCudaHead;

void muse_cuda_head_plan(MuseCudaEmitter *e, MuseCudaHead *out);
// Types and variables that every function of the head declares.
void muse_cuda_head_constants(const MuseCudaHead *h, MuseStr *out);

// On sm_90a (emit_cuda_head_hopper.c): can these products run on warpgroups, in how many parts are sums of dx cut, and
// the launches. Tiles of logits are then 256 columns wide.
bool muse_cuda_head_suits_hopper(const MuseCudaHead *h);
int64_t muse_cuda_head_hopper_parts(const MuseCudaHead *h, int64_t most);
void muse_cuda_head_hopper_build(MuseCudaHead *h);
void muse_cuda_head_hopper_logits(MuseCudaHead *h);
void muse_cuda_head_hopper_products(MuseCudaHead *h);
void muse_cuda_head_hopper_contract(MuseCudaHead *h);
const char *muse_cuda_head_hopper_prelude(void);

#endif
