// fuse_loss: the gradient op of the head computes the loss on its way; where both stand, the forward op goes.
//   before: %l = cross_entropy %x, %e, %t                   after: %m, %dx, %de = cross_entropy_grad %x, %e, %t, %d
//           %_, %dx, %de = cross_entropy_grad %x, %e, %t, %d        (uses of %l use %m)
// Legal because both compute the same loss from the same operands; where the cotangent %d is neither an argument nor a
// constant nor there before %l, it may depend on %l, and both stay.
#include "passes/rewrite.h"

static bool pairs(const MuseOp *forward, const MuseOp *grad) {
  if (!((forward->kind == MUSE_OP_cross_entropy && grad->kind == MUSE_OP_cross_entropy_grad) ||
        (forward->kind == MUSE_OP_tt_cross_entropy && grad->kind == MUSE_OP_tt_cross_entropy_grad)))
    return false;
  for (int i = 0; i < forward->n_operands; i++)
    if (forward->operands[i] != grad->operands[i]) return false;
  return forward->kind == MUSE_OP_cross_entropy || muse_op_int(forward, "vocab") == muse_op_int(grad, "vocab");
}

static bool stands_between(const MuseOp *op, const MuseOp *first, const MuseOp *last) {
  for (const MuseOp *o = first->next; o != last; o = o->next)
    if (o == op) return true;
  return false;
}

// Whether the cotangent can be had in front of the loss.
static bool cotangent_is_free(const MuseOp *forward, const MuseOp *grad) {
  const MuseOp *d = grad->operands[grad->n_operands - 1]->def;
  return !d || d->n_operands == 0 || !stands_between(d, forward, grad);
}

bool muse_pass_fuse_loss(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false;
  for (MuseOp *op = fn->body.first; op; op = op->next) {
    if (op->kind != MUSE_OP_cross_entropy && op->kind != MUSE_OP_tt_cross_entropy) continue;
    for (MuseOp *grad = op->next; grad; grad = grad->next) {
      if (!pairs(op, grad) || !cotangent_is_free(op, grad)) continue;
      MuseOp *prev = op->prev;
      // Uses between the two (reports of the loss) come after the gradient op.
      MuseOp *d = grad->operands[grad->n_operands - 1]->def;
      if (d && stands_between(d, op, grad)) { // the constant cotangent
        muse_op_unlink(d);
        muse_op_insert_before(d, op);
      }
      muse_op_unlink(grad);
      muse_op_insert_before(grad, op);
      muse_replace_uses(&fn->body, op->results[0], grad->results[0]);
      muse_op_unlink(op);
      op = prev ? prev : fn->body.first;
      changed = true;
      break;
    }
  }
  return changed;
}
