// ring_write: the ring of the last W keys or values of a decoding state, with the slot of position `pos` replaced.
#include "ops/hooks.h"

#include <string.h>

MuseStatus muse_infer_ring_write(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType ring = op->operands[0]->type, x = op->operands[1]->type, pos = op->operands[2]->type;
  const int64_t axis = muse_op_int(op, "axis");
  if (muse_dtype_is_trit(ring.dtype))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "ring_write: the ring must have whole-byte elements, not packed trits");
  if (axis < 0 || axis >= ring.rank)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "ring_write: axis %lld is not an axis of a ring of rank %d",
                         (long long)axis, ring.rank);
  MuseType slot = ring;
  slot.dim[axis] = 1;
  if (!muse_type_eq(x, slot))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "ring_write: the second operand (x) must have the type of the ring with 1 at axis %lld",
                         (long long)axis);
  if (pos.dtype != MUSE_I64 || pos.rank != 0)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "ring_write: the third operand (pos) must be i64[]");
  out[0] = ring;
  return MUSE_OK;
}

void muse_eval_ring_write(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  MuseType ring = in[0].type;
  const int64_t axis = muse_op_int(op, "axis"), W = ring.dim[axis];
  const int64_t slot = ((int64_t)in[2].data[0] % W + W) % W;
  int64_t outer = 1, inner = 1;
  for (int64_t i = 0; i < axis; i++) outer *= ring.dim[i];
  for (int i = (int)axis + 1; i < ring.rank; i++) inner *= ring.dim[i];
  if (out[0].data != in[0].data) memcpy(out[0].data, in[0].data, (size_t)(outer * W * inner) * sizeof(double));
  for (int64_t o = 0; o < outer; o++)
    memcpy(out[0].data + (o * W + slot) * inner, in[1].data + o * inner, (size_t)inner * sizeof(double));
}
