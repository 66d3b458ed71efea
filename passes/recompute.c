// recompute: a map value of the forward part that the backward part reads is computed again there, from values that are
// in memory anyway, instead of being stored for it. Fused into its readers it costs arithmetic only.
//   before: forward: %r = max %u, %0; %a = mul %r, %r ...   backward: %d = mul %g, %r
//   after:  backward: %r2 = max %u, %0; %d = mul %g, %r2     (only %u is kept)
// Legal because maps are pure; random ones draw the same numbers from their op id. What counts as "in memory anyway":
// arguments, results of ops that are not maps, row values, 16- and 8-bit values (a cast to these is where a value is
// stored), and the scaled result of an integer product (its int32 sum never leaves the registers). Transcendental
// maps over full-size values are kept rather than repeated.
#include "passes/analysis.h"
#include "passes/rewrite.h"

static bool is_row_or_less(MuseType type) { return muse_type_last_dim(type) == 1 || type.rank == 0; }

static bool is_narrow(const MuseValue *v) {
  return v->type.dtype == MUSE_BF16 || v->type.dtype == MUSE_F16 || v->type.dtype == MUSE_I8;
}

// rope reads from memory, so its operand must be there.
static bool is_cheap(const MuseOp *op) {
  return op->kind == MUSE_OP_rope ? is_narrow(op->operands[0]) : muse_is_cheap_map(op);
}

// cast and scaling of an exact product: cast(sum), mul(.., row or scalar), ...
static bool is_scaled_sum(const MuseValue *v) {
  while (v->def && (v->def->kind == MUSE_OP_cast || v->def->kind == MUSE_OP_mul)) {
    if (muse_is_widening(v->def)) return false;
    if (v->def->kind == MUSE_OP_mul && muse_type_same_shape(v->def->operands[1]->type, v->type) &&
        muse_type_same_shape(v->def->operands[0]->type, v->type))
      return false;
    v = muse_type_same_shape(v->def->operands[0]->type, v->type) ? v->def->operands[0] : v->def->operands[1];
  }
  return v->def && (v->def->kind == MUSE_OP_ternary_matmul || v->def->kind == MUSE_OP_int8_matmul);
}

static bool is_stored_anyway(const MuseValue *v) {
  if (!v->def) return true;
  const bool map = muse_is_plain_map(v->def) || v->def->kind == MUSE_OP_rope;
  return !map || !is_cheap(v->def) || is_row_or_less(v->type) || is_narrow(v) ||
         is_scaled_sum(v);
}

enum { MAX_DEPTH = 6 };

// A copy of v in front of `before`, or NULL when the expression is too deep. Copies are shared by the readers of one
// layer only: one that lived from layer to layer would be a stored value again.
static MuseValue *copy_of(MusePassCtx *cx, MuseValue **copies, MuseValue *v, MuseOp *before, int depth) {
  if (is_stored_anyway(v)) return v;
  if (copies[v->id] && copies[v->id]->def->layer == before->layer) return copies[v->id];
  if (depth == 0) return NULL;
  MuseOp *op = v->def;
  MuseValue *operands[4];
  for (int i = 0; i < op->n_operands; i++)
    if (!(operands[i] = copy_of(cx, copies, op->operands[i], before, depth - 1))) return NULL;
  MuseOp *copy = muse_op_create(cx->module, op->kind, op->n_operands, operands, 1, &v->type);
  muse_attr_copy(cx->module, &copy->attrs, &op->attrs);
  copy->loc = op->loc, copy->layer = before->layer, copy->stage = MUSE_STAGE_BACKWARD;
  muse_op_insert_before(copy, before);
  return copies[v->id] = copy->results[0];
}

bool muse_pass_recompute(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false;
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  MuseValue **copies = MUSE_NEW_ARRAY(cx->scratch, MuseValue *, r.n_ids + 1);
  for (MuseOp *op = fn->body.first; op; op = op->next) {
    if (op->stage != MUSE_STAGE_BACKWARD) continue;
    MuseOpClass c = muse_op_info(op->kind)->class_;
    if (c != MUSE_CLASS_MAP && c != MUSE_CLASS_REDUCE && op->kind != MUSE_OP_broadcast) continue;
    if (op->kind == MUSE_OP_rope) continue;
    for (int i = 0; i < op->n_operands; i++) {
      MuseValue *v = op->operands[i];
      if (!v->def || v->def->stage != MUSE_STAGE_FORWARD || v->id < 0 || v->id >= r.n_ids || r.owner[v->id] != v ||
          is_stored_anyway(v))
        continue;
      MuseValue *copy = copy_of(cx, copies, v, op, MAX_DEPTH);
      if (!copy) continue;
      op->operands[i] = copy;
      changed = true;
    }
  }
  return changed;
}
