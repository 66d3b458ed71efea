#ifndef MUSE_COMPILER_SKEL_TRANSPOSE_H
#define MUSE_COMPILER_SKEL_TRANSPOSE_H

#include "compiler/kernel_info.h"

// Skeleton "transpose": a body of one transpose op. Dimensions that stay neighbours are taken together first. When the
// last dimension stays last, rows are copied; otherwise the two dimensions that are last in the operand (contiguous
// reads) and last in the result (contiguous writes) are walked in square tiles, for every index of the others.
enum { MUSE_TRANSPOSE_TILE = 16 };
typedef struct MuseTransposePlan {
  int rank;
  int64_t out_dim[6];                     // result dimensions, merged
  int64_t in_stride[6];                   // elements of the operand that a step along each of them means
  bool copies_rows;                       // in_stride[rank-1] == 1
  int read_dim;                           // tiles: the result dimension along which the operand is contiguous
  int64_t row_tiles, column_tiles, outer; // tiles along read_dim and along the last; all other indices
  int64_t units, units_per_task, n_tasks; // unit: one row (copies_rows) or one row of tiles
} MuseTransposePlan;
void muse_transpose_plan(const MuseOp *kernel, MuseTransposePlan *out);
void muse_skel_transpose_info(const MuseOp *kernel, MuseKernelInfo *out_info);

#endif
