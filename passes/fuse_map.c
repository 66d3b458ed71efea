// fuse_map: maps, broadcasts and reductions over one domain become one kernel, so that a tensor crosses memory once for
// all of them. What a body may hold is said in compiler/skel_map.h: values of the full shape S = [d0..dn-1, C] or of
// the row shape [d0..dn-1, 1]; reductions over the last axis stay inside; reductions over leading axes ("terminal")
// only leave the kernel.
//   before: %2 = mul %x, %x; %3 = reduce_sum %2 {axes = [1]}; %4 = rsqrt %3; %5 = mul %x, %4; %6 = mul %5, %w
//   after:  %6 = kernel %x, %w {skeleton = "map"} { ... }
// Kernels of a layer that compute few elements each over the same domain, and not from one another, become one as well:
// the maps of values a head or a channel, and what is added to gradients of vectors. A launch costs more than they do.
// Legal because rows are independent: an element of a result depends on its own row only (terminal results on all rows,
// and nothing in the kernel reads them), and an op joins only where no path leaves the group and comes back.
#include "ir/base/vec.h"
#include "passes/analysis.h"
#include "passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_OPS = 64, MAX_EXTERNALS = 24, FEW_ELEMENTS = 32768, LAST_SMALL = 8 };

typedef struct MapGroup {
  MuseType domain; // S, dtype irrelevant
  bool all_rows; // every member so far has the shape S with C = 1 (or is a reduction of such): S may still grow a last
                 // dimension
  int n_ops, n_externals;
  MuseStage stage;
} MapGroup;

typedef struct Fuser {
  MuseGraph g;
  MapGroup *group;
} Fuser;

static bool is_terminal(const MuseOp *op) {
  return muse_op_info(op->kind)->class_ == MUSE_CLASS_REDUCE && !muse_is_row_reduce(op);
}

static bool is_candidate(const MuseOp *op) {
  MuseOpClass c = muse_op_info(op->kind)->class_;
  if (op->kind == MUSE_OP_const) return false;
  // In a domain of more columns a reduction over one column would be one over the wrong dimension.
  if (muse_is_row_reduce(op) && muse_type_last_dim(op->operands[0]->type) == 1) return false;
  return c == MUSE_CLASS_MAP || c == MUSE_CLASS_REDUCE || op->kind == MUSE_OP_broadcast;
}

// The shape an op is computed over: of its operand for a reduction, of its result otherwise.
static MuseType shape_of(const MuseOp *op) {
  bool reduce = muse_op_info(op->kind)->class_ == MUSE_CLASS_REDUCE;
  return reduce ? op->operands[0]->type : op->results[0]->type;
}

// The domain of the group after `op` has joined; false when they do not go together.
static bool joint_domain(const MapGroup *group, const MuseOp *op, MuseType *out_domain) {
  MuseType s = shape_of(op);
  *out_domain = group->domain;
  if (muse_type_same_shape(s, group->domain)) return true;
  if (muse_type_same_shape(s, muse_row_shape(group->domain))) return true; // a row value
  if (group->all_rows && muse_type_same_shape(group->domain, muse_row_shape(s))) {
    *out_domain = s;
    return true;
  }
  return false;
}

// Tables have shapes of their own: [T, d] of rope, and the seed u32[2] of random ops.
static bool is_table(const MuseOp *op, int operand) {
  return (op->kind == MUSE_OP_rope || op->kind == MUSE_OP_stochastic_round) && operand == 1;
}

// Operands that come from outside must broadcast to the domain; results of terminal reductions and rope's operand must
// not be members.
static bool operands_fit(const Fuser *f, int index, int group, MuseType domain) {
  const MuseOp *op = f->g.op[index];
  for (int k = 0; k < op->n_operands; k++) {
    int d = muse_graph_def(&f->g, op->operands[k]);
    bool member = d >= 0 && f->g.group[d] == group;
    if (member && (is_terminal(f->g.op[d]) || op->kind == MUSE_OP_rope)) return false;
    if (is_table(op, k)) continue;
    if (!member && !muse_type_broadcasts_to(op->operands[k]->type, domain)) return false;
  }
  return true;
}

static bool is_read_by(const Fuser *f, const MuseValue *v, int group) {
  const int d = muse_graph_def(&f->g, v);
  if (d >= 0) {
    for (int e = f->g.user_start[d]; e < f->g.user_start[d + 1]; e++)
      if (f->g.group[f->g.users[e]] == group)
        for (int k = 0; k < f->g.op[f->g.users[e]]->n_operands; k++)
          if (f->g.op[f->g.users[e]]->operands[k] == v) return true;
    return false;
  }
  for (int i = f->g.head_member[group]; i >= 0; i = f->g.next_member[i]) // an argument
    for (int k = 0; k < f->g.op[i]->n_operands; k++)
      if (f->g.op[i]->operands[k] == v) return true;
  return false;
}

// Values that the group does not read yet; constants are copied into bodies.
static int externals_of(const Fuser *f, int index, int group) {
  int n = 0;
  for (int k = 0; k < f->g.op[index]->n_operands; k++) {
    const MuseValue *v = f->g.op[index]->operands[k];
    const int d = muse_graph_def(&f->g, v);
    if (muse_is_const(v, NULL) || (d >= 0 && f->g.group[d] == group) || is_read_by(f, v, group)) continue;
    n++;
  }
  return n;
}

static bool may_join(Fuser *f, int index, int group) {
  MapGroup *m = &f->group[group];
  const MuseOp *op = f->g.op[index];
  MuseType domain;
  if (m->stage != op->stage || m->n_ops >= MAX_OPS) return false;
  if (!joint_domain(m, op, &domain) || !operands_fit(f, index, group, domain)) return false;
  if (m->n_externals + externals_of(f, index, group) > MAX_EXTERNALS) return false;
  return !muse_graph_depends(&f->g, index, group, false);
}

static void join(Fuser *f, int index, int group) {
  MapGroup *m = &f->group[group];
  const MuseOp *op = f->g.op[index];
  MuseType domain = m->domain;
  if (m->n_ops) joint_domain(m, op, &domain);
  else domain = shape_of(op), m->stage = op->stage, m->all_rows = true;
  m->n_externals += externals_of(f, index, group);
  m->domain = domain;
  m->n_ops++;
  m->all_rows = m->all_rows && muse_type_last_dim(shape_of(op)) == 1 && domain.rank > 0;
  muse_graph_join(&f->g, index, group);
}

static bool may_merge(Fuser *f, int a, int b) {
  MapGroup *x = &f->group[a], *y = &f->group[b];
  if (a == b || x->stage != y->stage || x->n_ops + y->n_ops > MAX_OPS ||
      x->n_externals + y->n_externals > MAX_EXTERNALS)
    return false;
  bool compatible = muse_type_same_shape(x->domain, y->domain) ||
                    (y->all_rows && muse_type_same_shape(y->domain, muse_row_shape(x->domain))) ||
                    (x->all_rows && muse_type_same_shape(x->domain, muse_row_shape(y->domain)));
  if (!compatible || muse_graph_group_depends(&f->g, a, b) || muse_graph_group_depends(&f->g, b, a)) return false;
  // No member may read a terminal result or rope a value of the other group.
  for (int side = 0; side < 2; side++) {
    int group = side ? a : b, other = side ? b : a;
    MuseType domain = muse_type_last_dim(x->domain) >= muse_type_last_dim(y->domain) ? x->domain : y->domain;
    for (int i = f->g.head_member[group]; i >= 0; i = f->g.next_member[i])
      for (int k = 0; k < f->g.op[i]->n_operands; k++) {
        int d = muse_graph_def(&f->g, f->g.op[i]->operands[k]);
        if (d >= 0 && f->g.group[d] == other && (is_terminal(f->g.op[d]) || f->g.op[i]->kind == MUSE_OP_rope))
          return false;
        if ((d < 0 || f->g.group[d] != group) && !is_table(f->g.op[i], k) &&
            !muse_type_broadcasts_to(f->g.op[i]->operands[k]->type, domain))
          return false;
      }
  }
  return true;
}

static void merge(Fuser *f, int into, int from) {
  MapGroup *x = &f->group[into], *y = &f->group[from];
  if (muse_type_last_dim(y->domain) > muse_type_last_dim(x->domain)) x->domain = y->domain;
  x->all_rows = x->all_rows && y->all_rows;
  x->n_ops += y->n_ops;
  x->n_externals += y->n_externals;
  muse_graph_merge(&f->g, into, from);
}

// Groups an op could join: those of its operands, then those that read one of its full-size operands.
static void candidate_groups(Fuser *f, int index, int *list, int *n, int max) {
  const MuseOp *op = f->g.op[index];
  *n = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int k = 0; k < op->n_operands; k++) {
      int d = muse_graph_def(&f->g, op->operands[k]);
      if (pass == 0) {
        if (d >= 0 && f->g.group[d] >= 0) {
          bool seen = false;
          for (int i = 0; i < *n; i++) seen |= list[i] == f->g.group[d];
          if (!seen && *n < max) list[(*n)++] = f->g.group[d];
        }
        continue;
      }
      if (d < 0 || !muse_type_same_shape(op->operands[k]->type, shape_of(op)) ||
          muse_type_elements(op->operands[k]->type) < 1024)
        continue;
      for (int e = f->g.user_start[d]; e < f->g.user_start[d + 1] && *n < max; e++) {
        const MuseOp *user = f->g.op[f->g.users[e]];
        int user_group = f->g.group[f->g.users[e]];
        bool same_value = false; // and not another result of the op
        for (int j = 0; j < user->n_operands; j++) same_value |= user->operands[j] == op->operands[k];
        bool seen = user_group < 0 || !same_value;
        for (int i = 0; i < *n; i++) seen |= list[i] == user_group;
        if (!seen) list[(*n)++] = user_group;
      }
    }
}

static void place(Fuser *f, int index) {
  int list[16], n;
  candidate_groups(f, index, list, &n, 16);
  int home = -1;
  for (int i = 0; i < n && home < 0; i++)
    if (may_join(f, index, list[i])) home = list[i];
  if (home < 0) {
    home = muse_graph_new_group(&f->g, "map");
    f->group[home] = (MapGroup){0};
  }
  join(f, index, home);
  for (int i = 0; i < n; i++)
    if (f->g.head_member[list[i]] >= 0 && may_merge(f, home, list[i])) merge(f, home, list[i]);
}

// Of small groups, in the order of their first ops, each joins the first of the last few with which it may.
static void merge_small(Fuser *f) {
  int last[LAST_SMALL], n = 0;
  for (int i = 0; i < f->g.n; i++) {
    const int group = f->g.group[i];
    if (group < 0 || f->g.first_member[group] != i) continue;
    if (muse_type_elements(f->group[group].domain) > FEW_ELEMENTS) continue;
    bool merged = false;
    for (int k = 0; k < n && !merged; k++) {
      const int into = last[k];
      if (f->g.head_member[into] < 0 || !muse_type_same_shape(f->group[into].domain, f->group[group].domain) ||
          f->g.op[f->g.first_member[into]]->layer != f->g.op[i]->layer || !may_merge(f, into, group))
        continue;
      merge(f, into, group);
      merged = true;
    }
    if (merged) continue;
    if (n == LAST_SMALL) memmove(last, last + 1, sizeof last - sizeof *last), n--;
    last[n++] = group;
  }
}

bool muse_pass_fuse_map(MusePassCtx *cx, MuseFunc *fn) {
  Fuser f;
  muse_graph_build(&f.g, cx->scratch, fn);
  f.group = MUSE_NEW_ARRAY(cx->scratch, MapGroup, f.g.n + 1);
  for (int i = 0; i < f.g.n; i++)
    if (is_candidate(f.g.op[i])) place(&f, i);
  merge_small(&f);
  return muse_graph_outline(&f.g);
}
