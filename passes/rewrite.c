// Rewriting while walking, and turning groups of ops into kernels.
#include "passes/rewrite.h"

#include "ir/base/vec.h"
#include "passes/analysis.h"

#include <stdlib.h>
#include <string.h>

void muse_rewrite_begin(MuseRewriter *r, MuseArena *scratch, MuseFunc *fn) {
  r->fn = fn;
  r->n_ids = muse_func_number(fn);
  r->map = MUSE_NEW_ARRAY(scratch, MuseValue *, r->n_ids + 1);
  r->owner = MUSE_NEW_ARRAY(scratch, MuseValue *, r->n_ids + 1);
  for (int i = 0; i < fn->body.n_args; i++) r->owner[fn->body.args[i]->id] = fn->body.args[i];
  for (MuseOp *op = fn->body.first; op; op = op->next)
    for (int i = 0; i < op->n_results; i++) r->owner[op->results[i]->id] = op->results[i];
}

static bool known(const MuseRewriter *r, const MuseValue *v) {
  return v->id >= 0 && v->id < r->n_ids && r->owner[v->id] == v;
}

MuseValue *muse_rewrite_resolve(const MuseRewriter *r, MuseValue *v) {
  while (known(r, v) && r->map[v->id]) v = r->map[v->id];
  return v;
}

void muse_rewrite_operands(const MuseRewriter *r, MuseOp *op) {
  for (int i = 0; i < op->n_operands; i++) op->operands[i] = muse_rewrite_resolve(r, op->operands[i]);
}

void muse_rewrite_replace(MuseRewriter *r, MuseValue *from, MuseValue *to) {
  MUSE_ASSERT(known(r, from) && from != to);
  r->map[from->id] = to;
}

void muse_rewrite_replace_op(MuseRewriter *r, MuseOp *op, MuseValue *const *values) {
  for (int i = 0; i < op->n_results; i++) muse_rewrite_replace(r, op->results[i], values[i]);
  muse_op_unlink(op);
}

bool muse_decompose_where(MusePassCtx *cx, MuseFunc *fn, bool (*wanted)(const MuseOp *op)) {
  bool changed = false, again = true;
  while (again) { // a decomposition may hold composites: walk until none is left
    again = false;
    MuseRewriter r;
    muse_rewrite_begin(&r, cx->scratch, fn);
    for (MuseOp *op = fn->body.first, *next; op; op = next) {
      next = op->next;
      muse_rewrite_operands(&r, op);
      if (muse_op_info(op->kind)->class_ != MUSE_CLASS_COMPOSITE || !wanted(op)) continue;
      MuseBuilder b = muse_builder_before(cx->module, op);
      MuseValue *values[8];
      MUSE_ASSERT(op->n_results <= 8);
      muse_op_decompose(&b, op, values);
      muse_rewrite_replace_op(&r, op, values);
      changed = again = true;
    }
  }
  return changed;
}

// ---------------------------------------------------------------------------------------------------------------------

static void find_users(MuseGraph *g) {
  g->user_start = MUSE_NEW_ARRAY(g->scratch, int, g->n + 2);
  int total = 0;
  for (int i = 0; i < g->n; i++)
    for (int k = 0; k < g->op[i]->n_operands; k++) {
      int d = muse_graph_def(g, g->op[i]->operands[k]);
      if (d >= 0) g->user_start[d + 2]++, total++;
    }
  for (int i = 2; i <= g->n; i++) g->user_start[i] += g->user_start[i - 1];
  g->users = MUSE_NEW_ARRAY(g->scratch, int, total + 1);
  for (int i = 0; i < g->n; i++) // counting sort: start[d+1] runs up to the start of d+1's list
    for (int k = 0; k < g->op[i]->n_operands; k++) {
      int d = muse_graph_def(g, g->op[i]->operands[k]);
      if (d >= 0) g->users[g->user_start[d + 1]++] = i;
    }
}

void muse_graph_build(MuseGraph *g, MuseArena *scratch, MuseFunc *fn) {
  memset(g, 0, sizeof *g);
  g->fn = fn;
  g->scratch = scratch;
  for (MuseOp *op = fn->body.first; op; op = op->next) op->mark = g->n++;
  g->op = MUSE_NEW_ARRAY(scratch, MuseOp *, g->n);
  g->group = MUSE_NEW_ARRAY(scratch, int, g->n);
  g->next_member = MUSE_NEW_ARRAY(scratch, int, g->n);
  g->visited = MUSE_NEW_ARRAY(scratch, int, g->n);
  g->cap_groups = g->n;
  g->skeleton = MUSE_NEW_ARRAY(scratch, const char *, g->n);
  g->first_member = MUSE_NEW_ARRAY(scratch, int, g->n);
  g->last_member = MUSE_NEW_ARRAY(scratch, int, g->n);
  g->horizon = MUSE_NEW_ARRAY(scratch, int, g->n + 2);
  for (int i = 0; i < g->n + 2; i++) g->horizon[i] = g->n;
  g->head_member = MUSE_NEW_ARRAY(scratch, int, g->n);
  int i = 0;
  for (MuseOp *op = fn->body.first; op; op = op->next, i++) {
    g->op[i] = op;
    g->group[i] = g->next_member[i] = -1;
  }
  find_users(g);
}

// The smallest first member of the groups whose last member is at or behind `index`. Values of groups that have shrunk
// or moved stay in the tree: the answer may be too small, which costs time only.
static int horizon_of(const MuseGraph *g, int index) {
  int low = g->n;
  for (int k = g->n - index; k > 0; k -= k & -k)
    if (g->horizon[k] < low) low = g->horizon[k];
  return low;
}

static void extend_horizon(MuseGraph *g, int last, int first) {
  for (int k = g->n - last; k <= g->n; k += k & -k)
    if (first < g->horizon[k]) g->horizon[k] = first;
}

int muse_graph_new_group(MuseGraph *g, const char *skeleton) {
  MUSE_ASSERT(g->n_groups < g->cap_groups);
  g->skeleton[g->n_groups] = skeleton;
  g->first_member[g->n_groups] = g->n;
  g->last_member[g->n_groups] = -1;
  g->head_member[g->n_groups] = -1;
  return g->n_groups++;
}

void muse_graph_join(MuseGraph *g, int i, int group) {
  MUSE_ASSERT(g->group[i] < 0);
  g->group[i] = group;
  g->next_member[i] = g->head_member[group];
  g->head_member[group] = i;
  if (i < g->first_member[group]) g->first_member[group] = i;
  if (i > g->last_member[group]) g->last_member[group] = i;
  extend_horizon(g, g->last_member[group], g->first_member[group]);
}

void muse_graph_leave(MuseGraph *g, int i) {
  int group = g->group[i], *link = &g->head_member[group];
  while (*link != i) link = &g->next_member[*link];
  *link = g->next_member[i];
  g->group[i] = g->next_member[i] = -1;
  g->first_member[group] = g->n;
  for (int m = g->head_member[group]; m >= 0; m = g->next_member[m])
    if (m < g->first_member[group]) g->first_member[group] = m;
}

void muse_graph_merge(MuseGraph *g, int into, int from) {
  for (int i = g->head_member[from], next; i >= 0; i = next) {
    next = g->next_member[i];
    g->group[i] = -1;
    muse_graph_join(g, i, into);
  }
  g->head_member[from] = -1;
}

int muse_graph_def(const MuseGraph *g, const MuseValue *v) { return v->def ? (int)v->def->mark : -1; }

typedef MUSE_VEC(int) IntVec;
typedef MUSE_VEC(MuseValue *) ValueVec;

// Walks backwards from the nodes on the stack; true when a member of `target` is met. A node in front of the target's
// first member depends on it only through a group that reaches behind that member, or into such a group, and so on: the
// walk ends in front of the place that no group reaches over (the horizon).
static bool reaches(MuseGraph *g, IntVec *stack, int target) {
  int end = g->first_member[target];
  for (int low; (low = horizon_of(g, end)) < end;) end = low;
  while (stack->len) {
    int i = muse_vec_pop(stack);
    if (g->group[i] == target) return true;
    if (g->visited[i] == g->stamp) continue;
    g->visited[i] = g->stamp;
    int group = g->group[i];
    if (group < 0) {
      if (i < end) continue;
      for (int k = 0; k < g->op[i]->n_operands; k++) {
        int d = muse_graph_def(g, g->op[i]->operands[k]);
        if (d >= 0 && g->visited[d] != g->stamp) muse_vec_push(stack, d);
      }
      continue;
    }
    if (g->last_member[group] < end) continue;
    for (int m = g->head_member[group]; m >= 0; m = g->next_member[m]) {
      g->visited[m] = g->stamp;
      for (int k = 0; k < g->op[m]->n_operands; k++) {
        int d = muse_graph_def(g, g->op[m]->operands[k]);
        if (d >= 0 && g->group[d] != group && g->visited[d] != g->stamp) muse_vec_push(stack, d);
      }
    }
  }
  return false;
}

bool muse_graph_depends(MuseGraph *g, int index, int group, bool through_direct) {
  IntVec stack = {0};
  g->stamp++;
  bool found = false;
  for (int k = 0; k < g->op[index]->n_operands && !found; k++) {
    int d = muse_graph_def(g, g->op[index]->operands[k]);
    if (d < 0) continue;
    if (g->group[d] == group) found = through_direct;
    else muse_vec_push(&stack, d);
  }
  found = found || reaches(g, &stack, group);
  muse_vec_free(&stack);
  return found;
}

bool muse_graph_group_depends(MuseGraph *g, int a, int b) {
  IntVec stack = {0};
  g->stamp++;
  for (int m = g->head_member[a]; m >= 0; m = g->next_member[m])
    for (int k = 0; k < g->op[m]->n_operands; k++) {
      int d = muse_graph_def(g, g->op[m]->operands[k]);
      if (d >= 0 && g->group[d] != a && g->group[d] != b) muse_vec_push(&stack, d);
    }
  bool found = reaches(g, &stack, b);
  muse_vec_free(&stack);
  return found;
}

bool muse_graph_group_needs(MuseGraph *g, int group, int index) {
  MUSE_ASSERT(g->group[index] < 0);
  bool found = false;
  for (int m = g->head_member[group]; m >= 0 && !found; m = g->next_member[m])
    for (int k = 0; k < g->op[m]->n_operands; k++) found |= muse_graph_def(g, g->op[m]->operands[k]) == index;
  if (found) return true;
  int probe = muse_graph_new_group(g, ""); // the op alone, so that a walk can look for it
  muse_graph_join(g, index, probe);
  found = muse_graph_group_depends(g, group, probe);
  muse_graph_leave(g, index);
  g->n_groups--;
  return found;
}

// ---- outlining ----

enum { DROPPED = -2 }; // group of an op that is in no group and will not be placed
enum { MAX_COPIED = 12 };

// Some values are computed again in every kernel that uses them, instead of being stored by one:
//   - what a few maps compute from one 16-bit tensor of their shape and from smaller values: reading 16 bits and some
//     arithmetic instead of storing and reading 32 (or a mask, whose reader may well read the tensor too); from an
//     argument that the function does not change, too, which is in memory anyway (the gradient of a matrix, divided by
//     factors of its row and column for a sum of squares, and for the update once that is known);
//   - what cheap ones compute from scalars of the function's arguments alone, which would be a kernel for one number.
typedef struct Copies {
  MuseGraph *g;
  MuseValue ***operands; // by op: the operands of such an op, as they were before anything was placed; NULL: not one
  int *size;             // by op: ops that are copied with it
  bool *stays;           // by argument: the function leaves its buffer as it is
} Copies;

static bool is_narrow(MuseType type) { return type.dtype == MUSE_BF16 || type.dtype == MUSE_F16; }

// Whether copies may read this tensor.
static bool is_source(const Copies *c, const MuseValue *v) {
  return is_narrow(v->type) || (!v->def && v->type.dtype == MUSE_F32 && c->stays[v->index]);
}

// The tensor of its shape that a copy of op `i` reads.
static MuseValue *source_of(const Copies *c, int i) {
  MuseType shape = c->g->op[i]->results[0]->type;
  for (int k = 0; k < c->g->op[i]->n_operands; k++) {
    MuseValue *v = c->operands[i][k];
    if (!muse_type_same_shape(v->type, shape)) continue;
    if (is_source(c, v)) return v;
    const int d = muse_graph_def(c->g, v);
    if (d >= 0 && c->operands[d]) return source_of(c, d);
  }
  return NULL;
}

static bool is_function(MuseOpKind kind) {
  return kind == MUSE_OP_exp || kind == MUSE_OP_log || kind == MUSE_OP_tanh || kind == MUSE_OP_sigmoid ||
         kind == MUSE_OP_softplus || kind == MUSE_OP_sin || kind == MUSE_OP_cos;
}

static bool is_copied(Copies *c, int i) {
  const MuseOp *op = c->g->op[i];
  const MuseType type = op->n_results == 1 ? op->results[0]->type : (MuseType){0};
  const bool rope = op->kind == MUSE_OP_rope && is_narrow(op->operands[0]->type);
  if ((!muse_is_cheap_map(op) && !rope && (type.rank == 0 || !is_function(op->kind))) ||
      (type.dtype != MUSE_F32 && type.dtype != MUSE_BOOL))
    return false;
  MuseValue *source = NULL;
  int size = 1;
  if (type.rank == 0) {
    for (int k = 0; k < op->n_operands; k++) {
      const int d = muse_graph_def(c->g, op->operands[k]);
      if (d >= 0 && !c->operands[d] && op->operands[k]->def->kind != MUSE_OP_const) return false;
      if (d >= 0) size += c->size[d];
    }
    c->size[i] = size;
    return size <= MAX_COPIED;
  }
  if (muse_type_last_dim(type) == 1) return false;
  for (int k = 0; k < op->n_operands; k++) {
    MuseValue *v = op->operands[k], *from = NULL;
    if (muse_type_elements(v->type) < muse_type_elements(op->results[0]->type)) continue;
    const int d = muse_graph_def(c->g, v);
    if (is_source(c, v)) from = v;
    else if (d >= 0 && c->operands[d]) from = source_of(c, d), size += c->size[d];
    if (!from || (source && source != from)) return false;
    source = from;
  }
  c->size[i] = size;
  // Reading 32 bits in place of 32 pays for arithmetic, not for functions.
  if (source && !is_narrow(source->type) && is_function(op->kind)) return false;
  return source && size <= MAX_COPIED;
}

static bool *arguments_that_stay(const MuseFunc *fn, MuseArena *scratch) {
  bool *changed = MUSE_NEW_ARRAY(scratch, bool, fn->module->n_buffers);
  bool *stays = MUSE_NEW_ARRAY(scratch, bool, fn->body.n_args);
  for (int i = 0; i < fn->n_results; i++) {
    const char *name = muse_func_result_buffer(fn, i);
    const MuseBuffer *buffer = name ? muse_module_buffer(fn->module, name) : NULL;
    if (buffer) changed[buffer->index] = true;
  }
  for (int i = 0; i < fn->body.n_args; i++) {
    const char *name = muse_func_arg_buffer(fn, i);
    const MuseBuffer *buffer = name ? muse_module_buffer(fn->module, name) : NULL;
    stays[i] = buffer && !changed[buffer->index];
  }
  return stays;
}

static void find_copies(Copies *c, MuseGraph *g) {
  *c = (Copies){.g = g,
                .operands = MUSE_NEW_ARRAY(g->scratch, MuseValue **, g->n),
                .stays = arguments_that_stay(g->fn, g->scratch),
                .size = MUSE_NEW_ARRAY(g->scratch, int, g->n)};
  for (int i = 0; i < g->n; i++) {
    MuseOp *op = g->op[i];
    if (!is_copied(c, i)) continue;
    c->operands[i] = MUSE_NEW_ARRAY(g->scratch, MuseValue *, op->n_operands);
    for (int k = 0; k < op->n_operands; k++) c->operands[i][k] = op->operands[k];
  }
}

// Whether a use of the result of op `d` by op `user` becomes a copy of `d` in the kernel of the user. Epilogues of
// products take casts alone (compiler/kernel_check.c).
static bool copied_there(const Copies *c, int d, int user) {
  const MuseGraph *g = c->g;
  if (!c->operands[d] || g->group[user] < 0 || g->group[d] == g->group[user]) return false;
  const MuseOp *op = g->op[user];
  const MuseOpClass class_ = muse_op_info(op->kind)->class_;
  if (strcmp(g->skeleton[g->group[user]], "map") != 0 && !muse_is_widening(g->op[d])) return false;
  return (class_ == MUSE_CLASS_MAP && op->kind != MUSE_OP_rope) || class_ == MUSE_CLASS_REDUCE ||
         op->kind == MUSE_OP_broadcast;
}

// Calls `leaf` for each value that `user` needs from elsewhere because of its operand v: v, or what copies read.
typedef void (*LeafFn)(void *context, MuseValue *v, int user);
static void each_leaf(const Copies *c, MuseValue *v, int user, LeafFn leaf, void *context) {
  const int d = muse_graph_def(c->g, v);
  if (d < 0 || !copied_there(c, d, user)) {
    leaf(context, v, user);
    return;
  }
  for (int k = 0; k < c->g->op[d]->n_operands; k++) each_leaf(c, c->operands[d][k], user, leaf, context);
}

typedef struct Outliner {
  MuseGraph *g;
  MuseModule *module;
  MuseValue **outside; // by value id: what stands for it at the top level (kernel results)
  MuseValue **inside;  // by value id: what stands for it in the body that is being made
  Copies copies;
  IntVec touched;      // ids set in `inside`
  int n_ids;
  int *pending;        // by node: number of unplaced defining nodes
  IntVec *users;       // by node: nodes that use it
  int *heap;           // ready nodes, smallest priority first
  int heap_len;
  int *priority;       // by node
} Outliner;

// Nodes: groups are n_ops + group, single ops their index.
static int node_of(const MuseGraph *g, int op) { return g->group[op] >= 0 ? g->n + g->group[op] : op; }

static void heap_push(Outliner *o, int node) {
  int i = o->heap_len++;
  while (i > 0 && o->priority[o->heap[(i - 1) / 2]] > o->priority[node])
    o->heap[i] = o->heap[(i - 1) / 2], i = (i - 1) / 2;
  o->heap[i] = node;
}

static int heap_pop(Outliner *o) {
  int top = o->heap[0], last = o->heap[--o->heap_len], i = 0;
  for (;;) {
    int c = 2 * i + 1;
    if (c >= o->heap_len) break;
    if (c + 1 < o->heap_len && o->priority[o->heap[c + 1]] < o->priority[o->heap[c]]) c++;
    if (o->priority[o->heap[c]] >= o->priority[last]) break;
    o->heap[i] = o->heap[c];
    i = c;
  }
  o->heap[i] = last;
  return top;
}

static int compare_int(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void map_operands(Outliner *o, MuseOp *op) {
  for (int k = 0; k < op->n_operands; k++) {
    MuseValue *to = o->outside[op->operands[k]->id];
    if (to) op->operands[k] = to;
  }
}

// The body value for an operand that comes from outside the group: a copy of a constant, or an argument.
static MuseValue *body_operand(Outliner *o, MuseRegion *body, MuseOp *member, MuseValue *v, ValueVec *operands) {
  if (o->inside[v->id]) return o->inside[v->id];
  muse_vec_push(&o->touched, v->id);
  if (v->def && v->def->kind == MUSE_OP_const && muse_op_info(member->kind)->class_ == MUSE_CLASS_MAP) {
    MuseOp *copy = muse_op_create(o->module, MUSE_OP_const, 0, NULL, 1, &v->type);
    muse_attr_copy(o->module, &copy->attrs, &v->def->attrs);
    copy->loc = v->def->loc, copy->layer = v->def->layer, copy->stage = v->def->stage;
    muse_op_append(copy, body);
    return o->inside[v->id] = copy->results[0];
  }
  if (v->def && copied_there(&o->copies, (int)v->def->mark, (int)member->mark)) {
    MuseValue *inner[4];
    const int d = (int)v->def->mark, n = v->def->n_operands;
    MUSE_ASSERT(n <= 4);
    for (int k = 0; k < n; k++) {
      MuseValue *from = o->copies.operands[d][k];
      const int def = muse_graph_def(o->g, from);
      const bool member_too = def >= 0 && o->g->group[def] == o->g->group[member->mark];
      inner[k] = member_too ? from : body_operand(o, body, member, from, operands);
    }
    MuseOp *copy = muse_op_create(o->module, v->def->kind, n, inner, 1, &v->type);
    muse_attr_copy(o->module, &copy->attrs, &v->def->attrs);
    copy->loc = v->def->loc, copy->layer = member->layer, copy->stage = member->stage;
    muse_op_append(copy, body);
    return o->inside[v->id] = copy->results[0];
  }
  MuseValue *arg = muse_region_add_arg(o->module, body, v->type);
  muse_vec_push(operands, o->outside[v->id] ? o->outside[v->id] : v);
  return o->inside[v->id] = arg;
}

// The random ops of a body are numbered 0, 1, ...; their op ids move to the kernel's rng_ids, so that kernels that
// differ only in op ids are the same code.
static void number_random_ops(MuseModule *m, MuseOp *kernel) {
  int64_t ids[64];
  int n = 0;
  for (MuseOp *op = kernel->body->first; op; op = op->next) {
    if (!(muse_op_info(op->kind)->traits & MUSE_TRAIT_RANDOM)) continue;
    MUSE_ASSERT(n < 64);
    ids[n] = muse_op_int(op, "rng_id");
    muse_attr_set_int(m, &op->attrs, "rng_id", n++);
  }
  if (n) muse_attr_set_ints(m, &kernel->attrs, "rng_ids", ids, n);
}

static void place_group(Outliner *o, int group) {
  MuseGraph *g = o->g;
  IntVec members = {0};
  for (int m = g->head_member[group]; m >= 0; m = g->next_member[m]) muse_vec_push(&members, m);
  qsort(members.data, members.len, sizeof(int), compare_int);
  MuseOp *lead = g->op[members.data[0]];
  MuseOp *kernel = muse_op_create(o->module, MUSE_OP_kernel, 0, NULL, 0, NULL);
  muse_attr_set_text(o->module, &kernel->attrs, "skeleton", g->skeleton[group]);
  kernel->loc = lead->loc, kernel->layer = lead->layer, kernel->stage = lead->stage;
  MuseRegion *body = muse_op_create_body(o->module, kernel);
  ValueVec operands = {0}, yields = {0};
  for (size_t i = 0; i < members.len; i++) {
    MuseOp *op = g->op[members.data[i]];
    for (int k = 0; k < op->n_operands; k++) {
      MuseValue *v = op->operands[k];
      int d = muse_graph_def(g, v);
      if (d >= 0 && g->group[d] == group) continue;
      op->operands[k] = body_operand(o, body, op, v, &operands);
    }
    muse_op_append(op, body);
    for (int k = 0; k < op->n_results; k++) op->results[k]->region = body;
  }
  // Results: member values with a use outside.
  for (size_t i = 0; i < members.len; i++) {
    MuseOp *op = g->op[members.data[i]];
    for (int k = 0; k < op->n_results; k++)
      if (o->outside[op->results[k]->id] == op->results[k]) { // marked by mark_escaping
        muse_vec_push(&yields, op->results[k]);
        muse_op_add_result(o->module, kernel, op->results[k]->type);
        o->outside[op->results[k]->id] = kernel->results[kernel->n_results - 1];
      }
  }
  muse_op_set_operands(o->module, kernel, (int)operands.len, operands.data);
  MuseOp *yield = muse_op_create(o->module, MUSE_OP_yield, (int)yields.len, yields.data, 0, NULL);
  yield->layer = -1;
  muse_op_append(yield, body);
  number_random_ops(o->module, kernel);
  muse_op_append(kernel, &g->fn->body);
  for (int k = 0; k < kernel->n_results; k++) kernel->results[k]->region = &g->fn->body;
  muse_vec_free(&members);
  muse_vec_free(&operands);
  muse_vec_free(&yields);
  for (size_t i = 0; i < o->touched.len; i++) o->inside[o->touched.data[i]] = NULL;
  muse_vec_clear(&o->touched);
}

static void mark_leaf(void *context, MuseValue *v, int user) {
  Outliner *o = context;
  const int d = muse_graph_def(o->g, v);
  if (d >= 0 && o->g->group[d] >= 0 && o->g->group[d] != o->g->group[user]) o->outside[v->id] = v;
}

// outside[id] = the value itself where a use stands in another node than its definition.
static void mark_escaping(Outliner *o) {
  MuseGraph *g = o->g;
  for (int i = 0; i < g->n; i++)
    for (int k = 0; k < g->op[i]->n_operands && g->group[i] != DROPPED; k++)
      each_leaf(&o->copies, g->op[i]->operands[k], i, mark_leaf, o);
}

static void count_leaf(void *context, MuseValue *v, int user) {
  Outliner *o = context;
  const int d = muse_graph_def(o->g, v), node = node_of(o->g, user);
  if (d < 0 || node_of(o->g, d) == node) return;
  muse_vec_push(&o->users[node_of(o->g, d)], node);
  o->pending[node]++;
}

static void count_edges(Outliner *o) {
  MuseGraph *g = o->g;
  for (int i = 0; i < g->n; i++) {
    if (g->group[i] == DROPPED) continue;
    int user = node_of(g, i);
    if (i > o->priority[user] || g->group[i] < 0) o->priority[user] = i;
    for (int k = 0; k < g->op[i]->n_operands; k++) each_leaf(&o->copies, g->op[i]->operands[k], i, count_leaf, o);
  }
}

// Ops of which every use gets a copy are no longer needed themselves.
static void drop_copied(const Copies *c) {
  MuseGraph *g = c->g;
  for (int i = g->n - 1; i >= 0; i--) {
    if (!c->operands[i]) continue;
    bool copied = g->user_start[i] < g->user_start[i + 1];
    for (int e = g->user_start[i]; e < g->user_start[i + 1]; e++)
      copied &= g->group[g->users[e]] == DROPPED || copied_there(c, i, g->users[e]);
    if (!copied) continue;
    if (g->group[i] >= 0) muse_graph_leave(g, i);
    g->group[i] = DROPPED;
  }
}

bool muse_graph_outline(MuseGraph *g) {
  if (g->n_groups == 0) return false;
  Outliner o = {.g = g, .module = g->fn->module};
  o.n_ids = muse_func_number(g->fn);
  int n_nodes = g->n + g->n_groups;
  o.outside = calloc((size_t)o.n_ids + 1, sizeof *o.outside);
  o.inside = calloc((size_t)o.n_ids + 1, sizeof *o.inside);
  o.pending = calloc((size_t)n_nodes, sizeof *o.pending);
  o.users = calloc((size_t)n_nodes, sizeof *o.users);
  o.heap = calloc((size_t)n_nodes, sizeof *o.heap);
  o.priority = calloc((size_t)n_nodes, sizeof *o.priority);
  find_copies(&o.copies, g);
  drop_copied(&o.copies);
  mark_escaping(&o);
  count_edges(&o);
  for (int i = 0; i < g->n; i++) muse_op_unlink(g->op[i]);
  for (int i = 0; i < n_nodes; i++) {
    bool exists = i < g->n ? g->group[i] == -1 : g->head_member[i - g->n] >= 0;
    if (exists && o.pending[i] == 0) heap_push(&o, i);
  }
  int placed = 0, dropped = 0;
  for (int i = 0; i < g->n; i++) dropped += g->group[i] == DROPPED;
  while (o.heap_len) {
    int node = heap_pop(&o);
    if (node < g->n) {
      map_operands(&o, g->op[node]);
      muse_op_append(g->op[node], &g->fn->body);
      placed++;
    } else {
      for (int m = g->head_member[node - g->n]; m >= 0; m = g->next_member[m]) placed++;
      place_group(&o, node - g->n);
    }
    for (size_t k = 0; k < o.users[node].len; k++)
      if (--o.pending[o.users[node].data[k]] == 0) heap_push(&o, o.users[node].data[k]);
  }
  MUSE_ASSERT(placed + dropped == g->n); // otherwise the groups have a cycle
  for (int i = 0; i < n_nodes; i++) muse_vec_free(&o.users[i]);
  muse_vec_free(&o.touched);
  free(o.inside), free(o.users), free(o.pending), free(o.outside), free(o.heap), free(o.priority);
  return true;
}
