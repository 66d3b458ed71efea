#ifndef MUSE_OPS_TENSOR_TRAIN_H
#define MUSE_OPS_TENSOR_TRAIN_H

#include "ops/ops.h"

// A tensor-train table under evaluation: core1 [v1,r,d1], core2 [v2,r,d2], cosphase [r].
typedef struct MuseTrain {
  int64_t v1, v2, r, d1, d2;
  const double *core1, *core2, *cosphase;
} MuseTrain;

// Checks operands first..first+2 of an op; vocab 0: not checked.
MuseStatus muse_tt_check(const MuseOp *op, int first, int64_t vocab, int64_t dim, MuseDiag *diag);
MuseTrain muse_tt_of(const MuseTensor *in); // from three tensors
// Row `token` of the table, D elements.
void muse_tt_row(const MuseTrain *t, int64_t token, int64_t D, double *out_row);
// Adds to the gradients of the cores what the gradient of one row contributes.
void muse_tt_add_row_grad(const MuseTrain *t, int64_t token, int64_t D, const double *d_row, double *d_core1,
                          double *d_core2, double *d_cosphase);

#endif
