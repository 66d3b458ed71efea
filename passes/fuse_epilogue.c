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

// How a member's result leaves the epilogue.
typedef enum Escape { STAYS, TO_MAPS, MUST_BE_STORED } Escape;

static Escape escape_of(const MuseGraph *g, int i, const bool *member) {
  Escape escape = STAYS;
  for (int e = g->user_start[i]; e < g->user_start[i + 1]; e++) {
    int user = g->users[e];
    if (member[user]) continue;
    MuseOpClass c = muse_op_info(g->op[user]->kind)->class_;
    bool map = (c == MUSE_CLASS_MAP || c == MUSE_CLASS_REDUCE || g->op[user]->kind == MUSE_OP_broadcast) &&
               g->op[user]->kind != MUSE_OP_rope;
    if (!map || g->group[user] >= 0) return MUST_BE_STORED;
    escape = TO_MAPS;
  }
  return escape;
}

// Marks what has to be computed for member i.
static void mark_needed(const MuseGraph *g, int i, const bool *member, bool *needed) {
  if (needed[i]) return;
  needed[i] = true;
  for (int k = 0; k < g->op[i]->n_operands; k++) {
    int d = muse_graph_def(g, g->op[i]->operands[k]);
    if (d >= 0 && member[d]) mark_needed(g, d, member, needed);
  }
}

// Whether every way from the anchor to a member that escapes to maps goes through `cut` (so that those maps can compute
// it from cut's value): walks back from i and must not meet the anchor without meeting cut.
static bool only_through(const MuseGraph *g, int i, int cut, int anchor, const bool *member) {
  if (i == cut) return true;
  if (i == anchor) return false;
  for (int k = 0; k < g->op[i]->n_operands; k++) {
    int d = muse_graph_def(g, g->op[i]->operands[k]);
    if (d >= 0 && member[d] && !only_through(g, d, cut, anchor, member)) return false;
  }
  return true;
}

// Of the values that would be stored for maps alone, the maps can compute all from one: of the values that all of them
// come from the one of the smallest type, and the latest of these. Storing it alone instead of several saves memory
// traffic; what is then not needed leaves the epilogue.
static void prune(MuseGraph *g, bool *member, const int *order, int n, int anchor) {
  int escaping = 0;
  for (int j = 0; j < n; j++) escaping += escape_of(g, order[j], member) == TO_MAPS;
  escaping += escape_of(g, anchor, member) == TO_MAPS;
  if (escaping == 0) return;
  int cut = anchor, bytes = 8;
  for (int j = 0; j < n; j++) { // program order: a later one replaces an earlier one
    const MuseType type = g->op[order[j]]->results[0]->type;
    if (muse_dtype_bytes(type.dtype) > bytes) continue;
    bool dominates = escape_of(g, anchor, member) != TO_MAPS;
    for (int k = 0; k < n && dominates; k++)
      if (escape_of(g, order[k], member) == TO_MAPS) dominates = only_through(g, order[k], order[j], anchor, member);
    if (dominates) cut = order[j], bytes = (int)muse_dtype_bytes(type.dtype);
  }
  bool *needed = calloc((size_t)g->n, sizeof *needed);
  mark_needed(g, cut, member, needed);
  needed[anchor] = true;
  for (int j = 0; j < n; j++)
    if (escape_of(g, order[j], member) == MUST_BE_STORED) mark_needed(g, order[j], member, needed);
  for (int j = 0; j < n; j++) member[order[j]] = needed[order[j]];
  free(needed);
}

static int by_index(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

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
    if (g->op[i]->stage != anchor->stage || !fits(g, g->op[i], shape, member, group)) continue;
    // Join provisionally to ask about dependences against the whole epilogue.
    if (muse_graph_depends(g, i, group, false)) continue;
    muse_graph_join(g, i, group);
    member[i] = true;
    order[n++] = i;
    for (int e = g->user_start[i]; e < g->user_start[i + 1]; e++) muse_vec_push(&candidates, g->users[e]);
  }
  qsort(order, (size_t)n, sizeof *order, by_index);
  prune(g, member, order, n, a);
  for (int j = n - 1; j >= 0; j--) { // a cast from 16 bits is done where its result is used
    bool used = !muse_is_widening(g->op[order[j]]);
    for (int e = g->user_start[order[j]]; e < g->user_start[order[j] + 1]; e++) used |= member[g->users[e]];
    if (!used) member[order[j]] = false;
  }
  for (int j = 0; j < n; j++)
    if (!member[order[j]]) muse_graph_leave(g, order[j]);
  muse_vec_free(&candidates);
  free(member);
  free(front);
}
