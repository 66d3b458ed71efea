// outline: every op that is not yet in a kernel (and is not a reshape, which is an alias) gets one of its own; a
// constant that a
// kernel reads from memory becomes a map kernel. Composites that are left (decompose was skipped) are decomposed first.
// The module's level becomes "kernel".
//   before: %o = resolvent_scan %q, ...      after: %o = kernel %q, ... {skeleton = "resolvent_scan"} { ... }
#include "passes/rewrite.h"

#include <string.h>

static bool any(const MuseOp *op) { return true; }

bool muse_pass_outline(MusePassCtx *cx, MuseFunc *fn) {
  const char *level = muse_attr_text_or(&cx->module->attrs, "level", "tensor");
  if (strcmp(level, "kernel") == 0 && fn == cx->module->first_func) return false;
  muse_decompose_where(cx, fn, any);
  MuseGraph g;
  muse_graph_build(&g, cx->scratch, fn);
  for (int i = 0; i < g.n; i++) {
    MuseOp *op = g.op[i];
    MuseOpClass c = muse_op_info(op->kind)->class_;
    if (c == MUSE_CLASS_CONTROL || op->kind == MUSE_OP_reshape) continue;
    MUSE_ASSERT(c != MUSE_CLASS_COMPOSITE);
    const char *skeleton = c == MUSE_CLASS_MAP || c == MUSE_CLASS_REDUCE || op->kind == MUSE_OP_broadcast
                               ? "map"
                               : muse_op_info(op->kind)->name;
    if (op->kind == MUSE_OP_const && g.user_start[i] == g.user_start[i + 1]) continue;
    muse_graph_join(&g, i, muse_graph_new_group(&g, skeleton));
  }
  bool changed = muse_graph_outline(&g);
  for (MuseOp *op = fn->body.first, *next; op; op = next) { // constants that only bodies used have been copied there
    next = op->next;
    if (op->kind == MUSE_OP_const) muse_op_unlink(op);
  }
  if (!fn->next) muse_attr_set_text(cx->module, &cx->module->attrs, "level", "kernel");
  return changed;
}
