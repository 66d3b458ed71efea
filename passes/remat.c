// remat: in a function marked `remat` the backward part of a layer recomputes the layer's forward values from its
// input, so that between the two sweeps only the inputs of the layers are kept.
//   before: forward of layer 3 ... backward of layer 3 uses its %h, %q, %u
//   after:  ... the forward ops of layer 3 that these need are cloned in front of its first backward op
// Legal because ops are pure, and random ones are keyed by their op id, so the clones give the same bits.
#include "passes/rewrite.h"

typedef struct Layer {
  MuseOp *first_backward;
} Layer;

static MuseValue *clone_value(MusePassCtx *cx, MuseRewriter *r, MuseValue **clone, MuseValue *v, int layer,
                              MuseOp *before) {
  // the layer's input, an argument, a constant
  if (!v->def || v->def->layer != layer || v->def->stage != MUSE_STAGE_FORWARD) return v;
  if (clone[v->id]) return clone[v->id];
  MuseOp *op = v->def;
  MuseValue *operands[16];
  MuseType types[8];
  MUSE_ASSERT(op->n_operands <= 16 && op->n_results <= 8);
  for (int i = 0; i < op->n_operands; i++) operands[i] = clone_value(cx, r, clone, op->operands[i], layer, before);
  for (int i = 0; i < op->n_results; i++) types[i] = op->results[i]->type;
  MuseOp *copy = muse_op_create(cx->module, op->kind, op->n_operands, operands, op->n_results, types);
  muse_attr_copy(cx->module, &copy->attrs, &op->attrs);
  copy->loc = op->loc, copy->layer = layer, copy->stage = MUSE_STAGE_BACKWARD;
  muse_op_insert_before(copy, before);
  for (int i = 0; i < op->n_results; i++) clone[op->results[i]->id] = copy->results[i];
  return clone[v->id];
}

bool muse_pass_remat(MusePassCtx *cx, MuseFunc *fn) {
  if (!muse_attr_bool_or(&fn->attrs, "remat", false)) return false;
  bool changed = false;
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  int n_layers = 0;
  for (MuseOp *op = fn->body.first; op; op = op->next)
    if (op->layer >= n_layers) n_layers = op->layer + 1;
  Layer *layers = MUSE_NEW_ARRAY(cx->scratch, Layer, n_layers + 1);
  for (MuseOp *op = fn->body.first; op; op = op->next)
    if (op->stage == MUSE_STAGE_BACKWARD && op->layer >= 0 && !layers[op->layer].first_backward)
      layers[op->layer].first_backward = op;
  MuseValue **clone = MUSE_NEW_ARRAY(cx->scratch, MuseValue *, r.n_ids + 1);
  for (MuseOp *op = fn->body.first; op; op = op->next) {
    if (op->stage != MUSE_STAGE_BACKWARD || op->layer < 0) continue;
    for (int i = 0; i < op->n_operands; i++) {
      MuseValue *v = op->operands[i];
      if (!v->def || v->def->stage != MUSE_STAGE_FORWARD || v->def->layer != op->layer) continue;
      if (v->id < 0 || v->id >= r.n_ids || r.owner[v->id] != v) continue;
      // A clone has to stand in front of the first backward op of the layer, which is also in front of this op.
      op->operands[i] = clone_value(cx, &r, clone, v, op->layer, layers[op->layer].first_backward);
      changed = true;
    }
  }
  return changed;
}
