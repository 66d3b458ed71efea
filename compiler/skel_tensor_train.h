#ifndef MUSE_COMPILER_SKEL_TENSOR_TRAIN_H
#define MUSE_COMPILER_SKEL_TENSOR_TRAIN_H

#include "compiler/kernel_info.h"

// Skeletons "tt_gather", "tt_gather_grad", "tt_matmul": the body is that one op. Row i1*v2+i2 of the table is the first
// D elements of the d1 x d2 matrix E = sum_rho cos_rho core1[i1,rho,:] (x) core2[i2,rho,:].
//
// tt_gather: a task computes tokens_per_task rows.
// tt_gather_grad: a first task sorts the tokens by i1 and by i2 (stable, so sums have the order of the tokens); then
// one
//   task for each i1 and each i2 sums  T[i1] = sum core2[i2] G^T,  U[i2] = sum core1[i1] G  over its tokens, where G is
//   the d1 x d2 gradient of the row; then one task a rho makes  dcos_rho = sum T core1,  dcore1 = cos_rho T,
//   dcore2 = cos_rho U.
// tt_matmul: in rounds of `chunk` tokens  Y[n,i1] = cos core1[i1] X_n  (r x d2); then the logits of all (n,i1) x i2 are
//   one product of Y [chunk*used, r*d2] and core2 [v2, r*d2]: the table is never built.
typedef struct MuseTrainKernel {
  const MuseOp *op;
  int cores; // operand number of core1; core2, cosphase follow
  int64_t v1, v2, r, d1, d2, D;
  int64_t tokens, tokens_per_task, n_tasks;        // tt_gather, tt_gather_grad
  int64_t V, used, chunk, rounds;                  // tt_matmul; used: i1 that occur
  int64_t row_block, n_row_blocks, n_panels;       // tt_matmul, product
  int64_t start1, start2, list1, list2, cursor, y; // bytes in the workspace
  int64_t d_core1, d_core2;                        // bytes in the workspace, where the result is not asked for; else -1
  int64_t scaled, row, packed, tile, scratch_bytes; // bytes in the scratch
  int64_t workspace_bytes;
} MuseTrainKernel;
void muse_train_layout(const MuseOp *kernel, MuseTrainKernel *out);
void muse_train_info(const MuseOp *kernel, MuseKernelInfo *out_info);

#endif
