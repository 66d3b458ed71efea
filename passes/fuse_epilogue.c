// Growing the epilogue of a matrix product; shared by fuse_ternary and fuse_matmul.
#include "passes/fuse_epilogue.h"

#include "ir/base/vec.h"
#include "passes/analysis.h"

#include <stdlib.h>

enum { MAX_EPILOGUE_OPS = 32 };

// May `op` run on tiles of the anchor's result?
static bool fits(MuseGraph *g, const MuseOp *op, MuseType shape, const bool *member, int group) {
  if (!muse_is_plain_map(op) || !muse_type_same_shape(op->results[0]->type, shape)) return false;
  bool connected = false;
  for (int k = 0; k < op->n_operands; k++) {
    int d = muse_graph_def(g, op->operands[k]);
    if (d >= 0 && member[d]) connected = true;
    else if (d >= 0 && g->group[d] == group) return false; // a tile of another anchor of the kernel
    else if (!muse_type_broadcasts_to(op->operands[k]->type, shape)) return false;
  }
  return connected;
}

// Drops a member whose result leaves the epilogue only to maps (or nowhere), when its operands are in memory anyway.
static bool prune_one(MuseGraph *g, bool *member, const int *order, int n, int anchor) {
  for (int j = n - 1; j >= 0; j--) {
    int i = order[j];
    if (!member[i] || i == anchor) continue;
    bool escapes = false, inside = false, only_maps = true;
    for (int e = g->user_start[i]; e < g->user_start[i + 1]; e++) {
      const MuseOp *user = g->op[g->users[e]];
      if (member[g->users[e]]) inside = true;
      else {
        escapes = true;
        MuseOpClass c = muse_op_info(user->kind)->class_;
        if (!(c == MUSE_CLASS_MAP || c == MUSE_CLASS_REDUCE) || user->kind == MUSE_OP_rope || g->group[g->users[e]] >= 0) only_maps = false;
      }
    }
    if (inside || !escapes || !only_maps) continue;
    // All operands in memory: full-shape members among them must escape for another reason.
    bool stored = true;
    for (int k = 0; k < g->op[i]->n_operands && stored; k++) {
      int d = muse_graph_def(g, g->op[i]->operands[k]);
      if (d < 0 || !member[d]) continue;
      bool leaves = false;
      for (int e = g->user_start[d]; e < g->user_start[d + 1]; e++)
        if (!member[g->users[e]]) leaves = true;
      stored = leaves;
    }
    if (!stored) continue;
    member[i] = false;
    return true;
  }
  return false;
}

void muse_fuse_epilogue(MuseGraph *g, MuseOp *anchor, int group) {
  int a = (int)anchor->mark;
  MuseType shape = anchor->results[0]->type;
  bool *member = calloc((size_t)g->n, sizeof *member);
  int order[MAX_EPILOGUE_OPS], n = 0;
  member[a] = true;
  int *front = calloc((size_t)g->n, sizeof *front); // candidates: users of members, in program order by scanning
  MUSE_VEC(int) candidates = {0};
  for (int e = g->user_start[a]; e < g->user_start[a + 1]; e++) muse_vec_push(&candidates, g->users[e]);
  while (candidates.len && n < MAX_EPILOGUE_OPS) {
    size_t best = 0;
    for (size_t c = 1; c < candidates.len; c++)
      if (candidates.data[c] < candidates.data[best]) best = c;
    int i = candidates.data[best];
    candidates.data[best] = muse_vec_last(&candidates);
    candidates.len--;
    if (front[i] || g->group[i] >= 0) continue;
    front[i] = 1;
    if (!fits(g, g->op[i], shape, member, group)) continue;
    // Join provisionally to ask about dependences against the whole epilogue.
    if (muse_graph_depends(g, i, group, false)) continue;
    muse_graph_join(g, i, group);
    member[i] = true;
    order[n++] = i;
    for (int e = g->user_start[i]; e < g->user_start[i + 1]; e++) muse_vec_push(&candidates, g->users[e]);
  }
  while (prune_one(g, member, order, n, a)) {}
  for (int j = 0; j < n; j++)
    if (!member[order[j]]) muse_graph_leave(g, order[j]);
  muse_vec_free(&candidates);
  free(member);
  free(front);
}
