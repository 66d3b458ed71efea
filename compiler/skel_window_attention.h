#ifndef MUSE_COMPILER_SKEL_WINDOW_ATTENTION_H
#define MUSE_COMPILER_SKEL_WINDOW_ATTENTION_H

#include "compiler/kernel_info.h"

// Skeletons "window_attention" and "window_attention_grad": one structured op is the whole body.
//
// Queries and keys are walked in blocks of C tokens; a query block i meets the key blocks from that of its first
// visible key to i itself (the diagonal). Scores of a pair of blocks stand transposed, [key][query], so that what
// belongs to a query is a lane, and its maximum and sum need no horizontal steps; maximum and sum are kept online from
// block to block.
//
// Forward: a task is one query block of one head of one row.
// Gradient: a task is one head of one row. First sweep over the key blocks of a query block: maximum, sum and
// delta_t = sum_s p_ts (do_t.v_s); second sweep: dS, and from it dQ (kept for the query block), dK and dV (added to the
// results; the diagonal pair, the first that meets a key block, stores). Where the window spans few blocks the products
// of the first sweep are kept for the second, else they are computed again. dscale is left per row and head in the
// workspace; a second stage adds the rows in order.
#define MUSE_WINDOW_KEEP 12 // largest number of key blocks whose products are kept
#define MUSE_WINDOW_ROWS 18

// Sizes and places (bytes from the start of the scratch); rows of d floats are padded to dp.
typedef struct MuseWindowLayout {
  int64_t B, T, H, d, dp;
  int64_t window;               // at most T
  int64_t chunk, n_blocks;      // chunk: a multiple of 16
  bool kept;                    // gradient: the products of the first sweep serve the second
  int64_t slots;                // gradient: key blocks whose tiles exist at a time
  int64_t q, k, v, dout;        // [chunk][dp]
  int64_t qt, doutt;            // [dp][chunk]
  int64_t rows;                 // [MUSE_WINDOW_ROWS][chunk]
  int64_t out, tmp;             // [chunk][dp]
  int64_t dbeta;                // [chunk][16], gradient
  int64_t scores;               // [slots][3][chunk][chunk]: products, distances, do.v; forward: one [chunk][chunk]
  int64_t bytes;
} MuseWindowLayout;
void muse_window_layout(const MuseOp *kernel, MuseWindowLayout *out);

void muse_window_attention_info(const MuseOp *kernel, MuseKernelInfo *out_info);
void muse_window_attention_grad_info(const MuseOp *kernel, MuseKernelInfo *out_info);
bool muse_window_attention_allows_in_place(const MuseOp *kernel, int result, int operand); // o over q
bool muse_window_attention_grad_allows_in_place(const MuseOp *kernel, int result, int operand); // dq over q or do

#endif
