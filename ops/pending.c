// TEMPORARY, to be deleted when the files of all structured ops are there: stands in for their hooks at link time and
// refuses to run.

#include "ops/hooks.h"

#define WEAK __attribute__((weak))
#define PENDING(name)                                                                                                         \
  WEAK MuseStatus muse_infer_##name(const MuseOp *op, MuseType *out_types, MuseDiag *diag) {                                  \
    return muse_op_refuse(op, diag, "is not built into this version");                                                        \
  }                                                                                                                           \
  WEAK void muse_eval_##name(const MuseEval *eval, const MuseOp *op, const MuseTensor *operands, MuseTensor *out_results) {   \
    MUSE_ASSERT(!"eval of this op is not built in");                                                                          \
  }                                                                                                                           \
  WEAK void muse_grad_##name(MuseGrad *g) { MUSE_ASSERT(!"gradient of this op is not built in"); }

PENDING(matmul)
PENDING(ternary_matmul)
PENDING(int8_matmul)
PENDING(pack_trits)
PENDING(unpack_trits)
PENDING(rope_table)
PENDING(rope)
PENDING(gather_rows)
PENDING(scatter_add_rows)
PENDING(tt_gather)
PENDING(tt_gather_grad)
PENDING(tt_matmul)
PENDING(cross_entropy)
PENDING(cross_entropy_grad)
PENDING(tt_cross_entropy)
PENDING(tt_cross_entropy_grad)
PENDING(doc_begin)
PENDING(green_scan)
PENDING(green_scan_grad)
PENDING(resolvent_scan)
PENDING(resolvent_scan_grad)
PENDING(window_attention)
PENDING(window_attention_grad)
PENDING(ring_write)
