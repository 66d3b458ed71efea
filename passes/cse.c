// cse: of ops that compute the same from the same operands, the first stays.
//   before: %2, %3 = quantize_rows %1 ...      after: one of them
//           %7, %8 = quantize_rows %1 ...
// Legal because ops have no side effects; random ops are equal only with equal rng_id, and then draw equal numbers.
// In a function with recomputation (attribute `remat`) ops of different stages are not merged: the backward part must
// not reach back to a forward value that remat has just recomputed.
#include "passes/analysis.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Table { MuseOp **slot; size_t mask; } Table;

static MuseOp *find_or_add(Table *t, MuseOp *op, bool by_stage) {
  for (size_t i = muse_op_hash(op) & t->mask;; i = (i + 1) & t->mask) {
    MuseOp *other = t->slot[i];
    if (!other) {
      t->slot[i] = op;
      return NULL;
    }
    if (muse_same_op(op, other) && (!by_stage || op->stage == other->stage)) return other;
  }
}

bool muse_pass_cse(MusePassCtx *cx, MuseFunc *fn) {
  bool changed = false, by_stage = muse_attr_bool_or(&fn->attrs, "remat", false);
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  size_t n = 0, cap = 64;
  for (MuseOp *op = fn->body.first; op; op = op->next) n++;
  while (cap < 2 * n + 2) cap *= 2;
  Table t = {MUSE_NEW_ARRAY(cx->scratch, MuseOp *, cap), cap - 1};
  for (MuseOp *op = fn->body.first, *next; op; op = next) {
    next = op->next;
    muse_rewrite_operands(&r, op);
    if (op->body || op->n_results == 0) continue;
    MuseOp *other = find_or_add(&t, op, by_stage);
    if (!other) continue;
    muse_rewrite_replace_op(&r, op, other->results);
    changed = true;
  }
  return changed;
}
