#ifndef MUSE_PASSES_REWRITE_H
#define MUSE_PASSES_REWRITE_H

#include "passes/manager.h"

// Replacing values while walking a function once, front to back: resolve the operands of each op before looking at it,
// replace results as decided. Works over values that exist at begin; ops that are created later refer to resolved
// values already.
typedef struct MuseRewriter {
  MuseFunc *fn;
  MuseValue **owner; // by id: which value had it at begin
  MuseValue **map;   // by id: its replacement, or NULL
  int n_ids;
} MuseRewriter;

void muse_rewrite_begin(MuseRewriter *r, MuseArena *scratch, MuseFunc *fn);
MuseValue *muse_rewrite_resolve(const MuseRewriter *r, MuseValue *v);
void muse_rewrite_operands(const MuseRewriter *r, MuseOp *op); // resolves all operands of one op
void muse_rewrite_replace(MuseRewriter *r, MuseValue *from, MuseValue *to);
// Replaces an op that has results by values and unlinks it.
void muse_rewrite_replace_op(MuseRewriter *r, MuseOp *op, MuseValue *const *values);

// Replaces each top-level op for which `wanted` holds by its decomposition, also those that decompositions bring in.
bool muse_decompose_where(MusePassCtx *cx, MuseFunc *fn, bool (*wanted)(const MuseOp *op));

// --- grouping: the base of all fusion passes ---
// The top-level ops of a function as an array (op->mark is the index), with users and a node for each op: its group, or
// itself.
typedef struct MuseGraph {
  MuseFunc *fn;
  MuseArena *scratch;
  MuseOp **op;
  int n;
  int *group;               // by op index: group number, -1: none
  const char **skeleton;    // by group number
  int n_groups, cap_groups;
  int *first_member;        // by group number: smallest op index
  int *last_member;         // by group number: largest op index so far
  int *horizon;             // Fenwick tree over last members: smallest first member of the groups that reach an index
  int *next_member;         // by op index: next member of its group, -1: end (in no special order)
  int *head_member;         // by group number
  int *user_start, *users;  // users of the results of op i: users[user_start[i] .. user_start[i+1]-1], op indices
  int *visited;             // stamps of depends_on
  int stamp;
} MuseGraph;

void muse_graph_build(MuseGraph *g, MuseArena *scratch, MuseFunc *fn);
int muse_graph_new_group(MuseGraph *g, const char *skeleton);
void muse_graph_join(MuseGraph *g, int op_index, int group);
void muse_graph_leave(MuseGraph *g, int op_index); // undoes a join
void muse_graph_merge(MuseGraph *g, int into, int from);
// The op index that defines v, or -1 for a function argument.
int muse_graph_def(const MuseGraph *g, const MuseValue *v);
// Whether op `index` depends on a member of `group` along a path that leaves the group (index itself not in the group).
// With through_direct false, operands of `index` that are members are no dependence (the op wants to join).
bool muse_graph_depends(MuseGraph *g, int index, int group, bool through_direct);
// Whether group `a` depends on group `b` through an op of neither.
bool muse_graph_group_depends(MuseGraph *g, int a, int b);
// Whether `group` depends on op `index`, which is in no group, directly or through others.
bool muse_graph_group_needs(MuseGraph *g, int group, int index);
// Replaces every group by a kernel op, and orders the function topologically, as close to program order as that allows.
// Constants from outside are copied into bodies where a map op uses them.
bool muse_graph_outline(MuseGraph *g);

#endif
