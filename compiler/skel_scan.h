#ifndef MUSE_COMPILER_SKEL_SCAN_H
#define MUSE_COMPILER_SKEL_SCAN_H

#include "compiler/kernel_info.h"

// Skeletons "green_scan", "green_scan_grad", "resolvent_scan", "resolvent_scan_grad": one structured op is the whole
// body.
//
// green_scan: a task is one row of the batch and a group of MUSE_GREEN_HEADS heads (the lanes of the vectors); the
// tokens are walked one by one. The gradient leaves one partial deta per row in the workspace; a second stage adds them
// in row order.
//
// resolvent_scan: a task is one head of one row, walked in chunks of C tokens. With f_u = -g_u = 1 - e_u (0 where
// a document begins)
//   A_ts = g_s f_{s+1} ... f_t (s <= t in the chunk)        P_t = f_{t0} ... f_t
//   o_t = sum_s Re(A_ts) (q_t.k_s) v_s + Re(P_t q_t^T S)    S' = P_C S + sum_s A_Cs k_s v_s^T
// so that all but a recurrence over rows of A is products of tiles. The work per token does not depend on T.
//
// resolvent_scan_grad walks the chunks backwards with Gamma, the adjoint of S (dL = Re<Gamma, dS>). It needs S before
// each chunk: one sweep forward stores it, d^2/8 bytes a token (q: 4 d). Where that is more for a block than
// MUSE_SCAN_STATE_BYTES, only the states before groups of about sqrt(number of chunks) chunks are stored, and the
// states inside a group are computed again.
// The heads of a token lie side by side in memory. Where one head has more than MUSE_SCAN_NEAR_BYTES an operand, so
// that its two passes would not meet in the caches anyway, as many neighbouring heads as fill MUSE_SCAN_ROW_BYTES of a
// token make a block: those of its tasks that are called together take turns, chunk by chunk, and use a page and what
// was fetched of it together. A task computes the same whichever others it takes turns with.
#define MUSE_GREEN_HEADS 16
#define MUSE_SCAN_STATE_BYTES (128 << 20)
#define MUSE_SCAN_ROW_BYTES 512
#define MUSE_SCAN_NEAR_BYTES (256 << 10)
#define MUSE_SCAN_ROWS 12

// Sizes and places (bytes from the start of the scratch) of a resolvent kernel. Rows of d floats are padded to dp; the
// emitter may use any smaller padding.
typedef struct MuseResolventLayout {
  int64_t B, T, H, d, dp;
  int64_t heads;                       // gradient: of a block, a divisor of H
  int64_t chunk, n_chunks;             // chunk: a multiple of 16
  int64_t group, n_groups;             // gradient: chunks of a group
  int64_t q, k, v, dout;               // [chunk][dp]
  int64_t qt, kt, vt, doutt;           // [dp][chunk]
  int64_t m, n;                        // [chunk][chunk]
  int64_t rows;                        // [MUSE_SCAN_ROWS][chunk]: per-token values
  int64_t left;                        // [chunk][2 dp], or [2 d][chunk]: scaled left factors
  int64_t right;                       // [2 d][chunk], gradient only
  int64_t e, g;                        // [2 d][chunk]: S times do, Gamma times v, gradient only
  int64_t out, out2;                   // [chunk][dp]
  int64_t state;                       // [2][d][dp]: S, not of the gradient
  int64_t gamma;                       // [heads][2][d][dp]: Gamma, gradient only
  int64_t states;                      // [heads][group][2][d][dp], gradient only
  int64_t saved;                       // [heads][n_groups][2][d][dp], gradient only
  int64_t state_bytes;
  int64_t bytes;
} MuseResolventLayout;
void muse_resolvent_layout(const MuseOp *kernel, MuseResolventLayout *out);

void muse_green_scan_info(const MuseOp *kernel, MuseKernelInfo *out_info);
void muse_green_scan_grad_info(const MuseOp *kernel, MuseKernelInfo *out_info);
void muse_resolvent_scan_info(const MuseOp *kernel, MuseKernelInfo *out_info); // also of the gradient
bool muse_scan_allows_in_place(const MuseOp *kernel, int result, int operand);

// ---- kernels whose body is one structured op ----
const MuseOp *muse_kernel_single_op(const MuseOp *kernel);
// Index of the kernel operand that operand `index` of the op is.
int muse_kernel_operand_of(const MuseOp *op, int index);
// Index of the kernel result that result `index` of the op is yielded as, -1 when it is not yielded.
int muse_kernel_result_of(const MuseOp *op, int index);

#endif
