// Small questions about ops that several passes ask.
#include "passes/analysis.h"

#include "ir/base/hash.h"

#include <string.h>

bool muse_is_const(const MuseValue *v, double *out_value) {
  if (!v->def || v->def->kind != MUSE_OP_const) return false;
  if (out_value) *out_value = muse_op_real(v->def, "value");
  return true;
}

bool muse_is_plain_map(const MuseOp *op) {
  if (op->kind == MUSE_OP_broadcast) return true;
  return muse_op_info(op->kind)->class_ == MUSE_CLASS_MAP && op->kind != MUSE_OP_rope && op->kind != MUSE_OP_const;
}

bool muse_is_widening(const MuseOp *op) {
  if (op->kind != MUSE_OP_cast || op->results[0]->type.dtype != MUSE_F32) return false;
  const MuseDtype from = op->operands[0]->type.dtype;
  return from == MUSE_BF16 || from == MUSE_F16;
}

bool muse_is_cheap_map(const MuseOp *op) {
  switch (op->kind) {
  case MUSE_OP_add:
  case MUSE_OP_sub:
  case MUSE_OP_mul:
  case MUSE_OP_div:
  case MUSE_OP_max:
  case MUSE_OP_min:
  case MUSE_OP_neg:
  case MUSE_OP_abs:
  case MUSE_OP_less:
  case MUSE_OP_equal:
  case MUSE_OP_select:
  case MUSE_OP_round:
  case MUSE_OP_cast:
  case MUSE_OP_broadcast:
  case MUSE_OP_recip:
  case MUSE_OP_rsqrt:
  case MUSE_OP_sqrt: return true;
  default: return false;
  }
}

bool muse_is_row_reduce(const MuseOp *op) {
  if (muse_op_info(op->kind)->class_ != MUSE_CLASS_REDUCE) return false;
  const MuseAttr *axes = muse_attr_ints(&op->attrs, "axes");
  return axes->ints.len == 1 && axes->ints.data[0] == op->operands[0]->type.rank - 1;
}

MuseType muse_row_shape(MuseType type) {
  if (type.rank > 0) type.dim[type.rank - 1] = 1;
  return type;
}

bool muse_same_op(const MuseOp *a, const MuseOp *b) {
  if (a->kind != b->kind || a->n_operands != b->n_operands || a->n_results != b->n_results ||
      a->attrs.len != b->attrs.len)
    return false;
  for (int i = 0; i < a->n_operands; i++)
    if (a->operands[i] != b->operands[i]) return false;
  for (int i = 0; i < a->n_results; i++)
    if (!muse_type_eq(a->results[i]->type, b->results[i]->type)) return false;
  for (int i = 0; i < a->attrs.len; i++) {
    const MuseAttr *other = muse_attr_find(&b->attrs, a->attrs.data[i].name);
    if (!other || !muse_attr_eq(&a->attrs.data[i], other)) return false;
  }
  return true;
}

uint64_t muse_op_hash(const MuseOp *op) {
  uint64_t words[16] = {(uint64_t)op->kind, (uint64_t)op->n_operands};
  int n = 2;
  for (int i = 0; i < op->n_operands && n < 14; i++) words[n++] = (uint64_t)(uintptr_t)op->operands[i];
  for (int i = 0; i < op->attrs.len && n < 16; i++)
    if (op->attrs.data[i].kind == MUSE_ATTR_REAL) memcpy(&words[n++], &op->attrs.data[i].real, 8);
    else if (op->attrs.data[i].kind == MUSE_ATTR_INT) words[n++] = (uint64_t)op->attrs.data[i].i;
  return muse_hash64(words, sizeof words[0] * (size_t)n);
}
