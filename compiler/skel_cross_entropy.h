#ifndef MUSE_COMPILER_SKEL_CROSS_ENTROPY_H
#define MUSE_COMPILER_SKEL_CROSS_ENTROPY_H

#include "compiler/kernel_info.h"

// Skeletons "cross_entropy", "cross_entropy_grad", "tt_cross_entropy", "tt_cross_entropy_grad", each of that one op.
//
// The logits exist for `chunk` tokens and `rows` rows of the table at a time, as tiles [n_tiles][chunk][ld] of `tile`
// columns. A round of stages is one iteration of the kernel's loop:
//   logits     a task: row_block tokens x one tile. Leaves exp(logit - m), where m is the token's largest logit in the
//              tile, m itself, the sum of the exponentials, and the logit of the target.
//   normalise  a task: norm_rows tokens. log-sum-exp over the tiles, the loss of each token; then the tiles become
//              p = (softmax - onehot) * dloss/N. One exponential a logit is all that is needed.
//   products   d_table = p^T x in blocks of (table rows x columns), dx = p table in blocks of (tokens x columns).
// Without gradients the tiles live in the scratch of the tasks.
//
// Dense table: rows = V, and the rounds go over chunks of tokens; d_table is summed over the rounds in order.
// Tensor train: all tokens at once, and the rounds go over groups of `group` first indices i1; a group of the table is
// built in the workspace in front of the round and its gradient contracted with the cores behind it. With several
// groups a first sweep of rounds finds the log-sum-exp, and the second computes the logits again.
enum { MUSE_HEAD_BUILD_ROWS = 32, MUSE_HEAD_RHO_ROWS = 32 }; // rows of the table, values of rho of a task

typedef struct MuseHead {
  const MuseOp *op;
  bool grad, train;
  int64_t N, D, V;
  int targets, dloss;                     // operand numbers of the op; table or cores: operand 1..
  int64_t v1, v2, r, d1, d2, used, group; // tensor train; used: i1 that have tokens
  int64_t n_build_blocks, n_rho_blocks;   // tasks of one i1 in the stages that build and contract
  int64_t rows;                           // rows of the table at hand
  int64_t ldt;                            // row stride of the table at hand (D, or d1*d2 rounded up)
  int64_t chunk, rounds, sweeps;          // rounds of one sweep
  int64_t tile, n_tiles, ld;              // ld: row stride of tiles, chosen against cache conflicts
  int64_t row_block, n_row_blocks;
  int64_t norm_rows, n_norm;
  int64_t de_rows, n_de_rows, dx_rows, n_dx_rows;           // blocks of table rows inside a tile; blocks of tokens
  int64_t de_panels, n_de_columns, dx_panels, n_dx_columns; // blocks of columns, counted in panels
  int64_t n_de, n_dx;                                       // tasks of the products
  bool packed_x;                                            // x of the chunk lies packed in panels in the workspace
  // Bytes from the start of the workspace.
  int64_t logits, maxima, sums, picked, losses, panels; // picked: logit of the target
  int64_t run_max, run_sum, table, d_table, workspace_bytes;
  int64_t d_core1, d_core2;              // where the result is not asked for; else -1
  int64_t build_scratch, logits_scratch; // bytes; the stages of products take MUSE_PANEL_BYTES
  // Numbers of the stages; -1 where there is none.
  int build, logits_stage, normalise, products, contract1, contract2, finish;
} MuseHead;

void muse_head_layout(const MuseOp *kernel, MuseHead *out);
void muse_head_info(const MuseOp *kernel, MuseKernelInfo *out_info);

#endif
