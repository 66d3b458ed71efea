// fuse_matmul: a kernel for each floating-point or int8 product with the maps that follow it (bias, activation, scales,
// the addition of gradients), as fuse_ternary does for trits.
//   before: %y = matmul %a, %b; %z = add %y, %bias; %k = softplus %z
//   after:  %k = kernel %a, %b, %bias {skeleton = "matmul"} { ... }
#include "passes/fuse_epilogue.h"

bool muse_pass_fuse_matmul(MusePassCtx *cx, MuseFunc *fn) {
  MuseGraph g;
  muse_graph_build(&g, cx->scratch, fn);
  for (int i = 0; i < g.n; i++) {
    MuseOpKind kind = g.op[i]->kind;
    if (kind != MUSE_OP_matmul && kind != MUSE_OP_int8_matmul) continue;
    int group = muse_graph_new_group(&g, muse_op_info(kind)->name);
    muse_graph_join(&g, i, group);
    muse_fuse_epilogue(&g, g.op[i], group);
  }
  return muse_graph_outline(&g);
}
