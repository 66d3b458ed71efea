// fuse_ternary: a kernel for each exact product of trits (ternary_matmul) with the maps that follow it: int32 sums
// never reach memory. Products of one quantised input (Q, K, V) share a kernel, so the input is read once.
//   before: %s = ternary_matmul %q, %t; %f = cast %s; %y = mul %f, %scale; %z = add %x, %y
//   after:  %z = kernel %q, %t, %scale, %x {skeleton = "ternary_matmul"} { ... }
// Legal because every op moved is elementwise over the product's shape, and no path leaves the group and comes back.
#include "passes/fuse_epilogue.h"

// Products with the same left operand that do not depend on each other, nor their epilogues.
static void add_siblings(MuseGraph *g, MuseOp *anchor, int group) {
  for (int i = (int)anchor->mark + 1; i < g->n; i++) {
    MuseOp *op = g->op[i];
    if (op->kind != MUSE_OP_ternary_matmul || op->operands[0] != anchor->operands[0] || g->group[i] >= 0 ||
        op->stage != anchor->stage)
      continue;
    if (op->operands[1]->type.dtype != anchor->operands[1]->type.dtype || muse_graph_depends(g, i, group, true) ||
        muse_graph_group_needs(g, group, i))
      continue;
    muse_graph_join(g, i, group);
    muse_fuse_epilogue(g, op, group);
  }
}

bool muse_pass_fuse_ternary(MusePassCtx *cx, MuseFunc *fn) {
  MuseGraph g;
  muse_graph_build(&g, cx->scratch, fn);
  for (int i = 0; i < g.n; i++) {
    if (g.op[i]->kind != MUSE_OP_ternary_matmul || g.group[i] >= 0) continue;
    int group = muse_graph_new_group(&g, "ternary_matmul");
    muse_graph_join(&g, i, group);
    muse_fuse_epilogue(&g, g.op[i], group);
    add_siblings(&g, g.op[i], group);
  }
  return muse_graph_outline(&g);
}
