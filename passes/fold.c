// fold: a map op whose operands are constants becomes a constant.
//   before: %0 = const {value = 2.0} : f32[]      after: %2 = const {value = 6.0} : f32[]
//           %1 = const {value = 3.0} : f32[]
//           %2 = mul %0, %1 : f32[]
// Legal because eval rounds to the storage type as the kernels do. Random ops are left alone.
#include "passes/analysis.h"
#include "passes/rewrite.h"

#include <math.h>

static bool foldable(const MuseOp *op) {
  const MuseOpInfo *info = muse_op_info(op->kind);
  if (info->class_ != MUSE_CLASS_MAP || op->kind == MUSE_OP_const || op->kind == MUSE_OP_rope ||
      (info->traits & MUSE_TRAIT_RANDOM))
    return false;
  if (op->results[0]->type.rank != 0 || op->results[0]->type.dtype == MUSE_BOOL) return false;
  for (int i = 0; i < op->n_operands; i++)
    if (!muse_is_const(op->operands[i], NULL)) return false;
  return true;
}

bool muse_pass_fold(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false;
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  for (MuseOp *op = fn->body.first, *next; op; op = next) {
    next = op->next;
    muse_rewrite_operands(&r, op);
    if (!foldable(op)) continue;
    MuseTensor in[3], out;
    double value[3];
    for (int i = 0; i < op->n_operands; i++) {
      muse_is_const(op->operands[i], &value[i]);
      in[i] = (MuseTensor){op->operands[i]->type, &value[i]};
    }
    MuseEval eval = {.arena = cx->scratch, .round_storage = true};
    out = muse_tensor_create(cx->scratch, op->results[0]->type);
    muse_op_eval(&eval, op, in, &out);
    if (!isfinite(out.data[0])) continue; // stays visible in the program
    MuseBuilder b = muse_builder_before(cx->module, op);
    MuseValue *c = muse_build_const_typed(&b, out.data[0], op->results[0]->type.dtype);
    muse_rewrite_replace_op(&r, op, &c);
    changed = true;
  }
  return changed;
}
