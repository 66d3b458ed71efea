// canonicalize: one form for what can be written in several, so that cse and the fusion passes see equal things as
// equal.
//   before: %1 = reshape %0 {shape = [4,6]}      after: %2 = reshape %0 {shape = [24]}
//           %2 = reshape %1 {shape = [24]}
//   before: %1 = cast %0 {to = f32}; %2 = mul %1, %row; %3 = rope %2, %t     (%0 : bf16, %row one value a head)
//   after:  %1 = rope %0, %t; %2 = mul %1, %row                              (rope reads memory, so this is one kernel)
//   before: %2 = add %0, %1; %3 = reshape %2          (%0 and %1 from memory, %2 not used otherwise)
//   after:  %2 = reshape %0; %3 = reshape %1; %4 = add %2, %3         (which can join the reader's kernel)
//   before: %1 = cast %0 {to = f32}; %2 = mul %1, %delta; %3 = pack_trits %2, %gamma        (%0 : i8, %delta : f32[])
//   after:  %3 = pack_trits %0, %gamma, %delta                               (the f32 matrix need not be in memory)
// Legal because a view of a view is a view, and x+0, x*1, cast to its own type, double negation and a reduction over
// dimensions of 1 are x (x+0 only turns -0 into 0, which no consumer can tell apart except 1/x; it is applied to the
// constant +0 alone). A rotation is linear, so it may stand before a scaling of the row: done for 16-bit tensors only,
// so that programs in f32 keep their bits, and after autodiff, since each operand of 16 bits rounds its share of a
// cotangent.
#include "passes/analysis.h"
#include "passes/rewrite.h"

enum { MAX_MAPS = 6 }; // behind which a reshape moves

static bool is_view(const MuseValue *v, MuseOpKind kind) { return v->def && v->def->kind == kind; }

// The value that an op is the same as, or NULL. May retarget the op's operand to skip a chain.
static MuseValue *same_as(MusePassCtx *cx, MuseOp *op, bool *changed) {
  MuseValue *x = op->n_operands ? op->operands[0] : NULL;
  double c;
  switch (op->kind) {
    case MUSE_OP_reshape:
      while (is_view(x, MUSE_OP_reshape)) op->operands[0] = x = x->def->operands[0], *changed = true;
      return muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    case MUSE_OP_broadcast:
      while (is_view(x, MUSE_OP_broadcast)) op->operands[0] = x = x->def->operands[0], *changed = true;
      return muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    case MUSE_OP_cast:
      if (is_view(x, MUSE_OP_cast) && muse_is_widening(x->def) &&
          muse_type_eq(x->def->operands[0]->type, op->results[0]->type))
        return x->def->operands[0];
      return muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    case MUSE_OP_reduce_sum:
    case MUSE_OP_reduce_max: return muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    case MUSE_OP_neg: return is_view(x, MUSE_OP_neg) ? x->def->operands[0] : NULL;
    case MUSE_OP_mul:
    case MUSE_OP_div:
      return muse_is_const(op->operands[1], &c) && c == 1 && muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    case MUSE_OP_add:
    case MUSE_OP_sub:
      return muse_is_const(op->operands[1], &c) && c == 0 && muse_type_eq(x->type, op->results[0]->type) ? x : NULL;
    default: return NULL;
  }
  (void)cx;
}

// Whether v is made by cheap maps of its shape, each for one use, from values in memory.
static bool is_private_map(const MuseRewriter *r, const int *uses, const MuseValue *v, int depth) {
  const MuseOp *op = v->def;
  if (!op) return true;
  if (op->kind == MUSE_OP_reshape) return is_private_map(r, uses, op->operands[0], 0);
  if (op->kind == MUSE_OP_matmul || op->kind == MUSE_OP_ternary_matmul || op->kind == MUSE_OP_int8_matmul)
    return false; // whose epilogue the maps may be
  if (muse_op_info(op->kind)->class_ == MUSE_CLASS_STRUCTURED) return true;
  const bool known = v->id >= 0 && v->id < r->n_ids && r->owner[v->id] == v;
  if (depth == 0 || !known || uses[v->id] != 1 || !muse_is_cheap_map(op) || op->kind == MUSE_OP_broadcast) return false;
  for (int i = 0; i < op->n_operands; i++) {
    const MuseValue *x = op->operands[i];
    if (muse_is_const(x, NULL) && x->type.rank == 0) continue;
    if (!muse_type_same_shape(x->type, v->type) || !is_private_map(r, uses, x, depth - 1)) return false;
  }
  return true;
}

static MuseValue *reshaped(MuseBuilder *b, MuseValue *v, MuseType shape) {
  MuseOp *op = v->def;
  if (muse_is_const(v, NULL) && v->type.rank == 0) return v;
  if (!op || !muse_is_cheap_map(op)) return muse_build_reshape(b, v, shape.rank, shape.dim);
  MuseValue *operands[4];
  MuseType type = muse_type_with_dtype(shape, v->type.dtype);
  MUSE_ASSERT(op->n_operands <= 4);
  for (int i = 0; i < op->n_operands; i++) operands[i] = reshaped(b, op->operands[i], shape);
  MuseOp *copy = muse_op_create(b->module, op->kind, op->n_operands, operands, 1, &type);
  muse_attr_copy(b->module, &copy->attrs, &op->attrs);
  copy->loc = op->loc, copy->layer = op->layer, copy->stage = op->stage;
  muse_op_insert_before(copy, b->before);
  return copy->results[0];
}

// rope of a widened tensor, or of one scaled by a value a row, reads the 16-bit tensor.
static bool narrow_rope(MusePassCtx *cx, MuseRewriter *r, MuseOp *op) {
  MuseOp *def = op->operands[0]->def;
  if (!def) return false;
  if (muse_is_widening(def)) {
    op->operands[0] = def->operands[0];
    return true;
  }
  if (def->kind != MUSE_OP_mul && def->kind != MUSE_OP_div) return false;
  MuseValue *x = def->operands[0], *row = def->operands[1];
  if (def->kind == MUSE_OP_mul && !(x->def && muse_is_widening(x->def))) x = def->operands[1], row = def->operands[0];
  if (!x->def || !muse_is_widening(x->def) || muse_type_last_dim(row->type) != 1) return false;
  MuseBuilder b = muse_builder_before(cx->module, op);
  MuseValue *turned = muse_build_rope(&b, x->def->operands[0], op->operands[1], muse_op_bool(op, "inverse"));
  MuseValue *scaled = muse_build_binary(&b, def->kind, turned, row);
  muse_rewrite_replace_op(r, op, &scaled);
  return true;
}

// A matrix of 8 bits on a grid is packed as it is.
static bool narrow_pack(MusePassCtx *cx, MuseOp *op) {
  const MuseOp *def = op->operands[0]->def;
  if (op->n_operands != 2 || !def || def->kind != MUSE_OP_mul) return false;
  for (int side = 0; side < 2; side++) {
    const MuseOp *cast = def->operands[side]->def;
    MuseValue *delta = def->operands[!side];
    if (!cast || cast->kind != MUSE_OP_cast || cast->operands[0]->type.dtype != MUSE_I8 || delta->type.rank != 0)
      continue;
    muse_op_set_operands(cx->module, op, 3, (MuseValue *[]){cast->operands[0], op->operands[1], delta});
    return true;
  }
  return false;
}

bool muse_pass_canonicalize(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false, forward_only = muse_attr_bool_or(&fn->attrs, "differentiate", false);
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  int *uses = MUSE_NEW_ARRAY(cx->scratch, int, r.n_ids + 1);
  for (MuseOp *op = fn->body.first; op; op = op->next)
    for (int i = 0; i < op->n_operands; i++) uses[op->operands[i]->id]++;
  for (MuseOp *op = fn->body.first, *next; op; op = next) {
    next = op->next;
    muse_rewrite_operands(&r, op);
    if (muse_op_info(op->kind)->traits & MUSE_TRAIT_COMMUTATIVE && muse_is_const(op->operands[0], NULL) &&
        !muse_is_const(op->operands[1], NULL)) {
      MuseValue *t = op->operands[0];
      op->operands[0] = op->operands[1];
      op->operands[1] = t;
      changed = true;
    }
    if (op->kind == MUSE_OP_rope && !forward_only && narrow_rope(cx, &r, op)) {
      changed = true;
      continue;
    }
    if (op->kind == MUSE_OP_pack_trits && narrow_pack(cx, op)) changed = true;
    if (op->kind == MUSE_OP_reshape && !forward_only && op->operands[0]->def &&
        muse_is_cheap_map(op->operands[0]->def) && is_private_map(&r, uses, op->operands[0], MAX_MAPS)) {
      MuseBuilder b = muse_builder_before(cx->module, op);
      MuseValue *view = reshaped(&b, op->operands[0], op->results[0]->type);
      muse_rewrite_replace_op(&r, op, &view);
      changed = true;
      continue;
    }
    MuseValue *same = same_as(cx, op, &changed);
    if (!same) continue;
    muse_rewrite_replace_op(&r, op, &same);
    changed = true;
  }
  return changed;
}
