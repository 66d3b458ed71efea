// Domain, phases and task cutting of map kernels (see the header).

#include "compiler/skel_map.h"

#include "ir/base/checked.h"

enum {
  TARGET_ELEMENTS = 32768, // of one task: large enough to hide the call, small enough to share out evenly
  SUM_TASKS = 256,
};

static bool is_reduce(const MuseOp *op) { return op->kind == MUSE_OP_reduce_sum || op->kind == MUSE_OP_reduce_max; }

// A reduction over the last axis alone.
static bool reduces_row(const MuseOp *op) {
  const MuseAttr *axes = muse_attr_ints(&op->attrs, "axes");
  return axes->ints.len == 1 && axes->ints.data[0] == op->operands[0]->type.rank - 1;
}

// One long row whose reduction is only yielded is better shared out over tasks.
static bool is_lone_row(const MuseOp *op) {
  MuseType x = op->operands[0]->type;
  if (muse_type_elements(x) != muse_type_last_dim(x) || muse_type_last_dim(x) < 2 * TARGET_ELEMENTS) return false;
  for (const MuseOp *user = op->next; user; user = user->next)
    for (int i = 0; i < user->n_operands; i++)
      if (user->operands[i] == op->results[0] && user->kind != MUSE_OP_yield) return false;
  return true;
}

bool muse_map_is_row_reduction(const MuseOp *op) { return is_reduce(op) && reduces_row(op) && !is_lone_row(op); }
bool muse_map_is_terminal(const MuseOp *op) { return is_reduce(op) && (!reduces_row(op) || is_lone_row(op)); }

bool muse_map_op_fits(const MuseOp *op, MuseType domain) {
  if (op->kind == MUSE_OP_yield) return true;
  if (is_reduce(op)) {
    MuseType x = op->operands[0]->type, row = domain;
    if (muse_type_same_shape(x, domain)) return true;
    if (row.rank > 0) row.dim[row.rank - 1] = 1;
    return muse_type_same_shape(x, row) && !reduces_row(op);
  }
  if (op->kind == MUSE_OP_broadcast || op->kind == MUSE_OP_rope || muse_op_info(op->kind)->class_ == MUSE_CLASS_MAP) {
    for (int r = 0; r < op->n_results; r++)
      if (!muse_type_broadcasts_to(op->results[r]->type, domain)) return false;
    if (op->kind == MUSE_OP_rope) return domain.rank == 4 && muse_type_same_shape(op->results[0]->type, domain);
    return true;
  }
  return false;
}

static bool scalar_or_full(MuseType type, MuseType domain) {
  return muse_type_elements(type) == 1 || muse_type_elements(type) == muse_type_elements(domain);
}

int muse_map_phase_of(const MuseOp *kernel, const MuseOp *reduction) {
  // Phase of a reduction: one more than that of every row reduction it depends on.
  int phase = 0;
  for (const MuseOp *op = kernel->body->first; op != reduction; op = op->next)
    if (muse_map_is_row_reduction(op) && muse_map_depends_on(reduction, op->results[0])) {
      int p = muse_map_phase_of(kernel, op) + 1;
      if (p > phase) phase = p;
    }
  return phase;
}

bool muse_map_depends_on(const MuseOp *op, const MuseValue *value) {
  enum { MAX_REACHED = 512 };
  const MuseValue *reached[MAX_REACHED];
  int n = 0;
  reached[n++] = value;
  for (const MuseOp *o = value->def ? value->def->next : op->region->first; o; o = o->next) {
    bool hit = false;
    for (int i = 0; i < o->n_operands && !hit; i++)
      for (int k = 0; k < n && !hit; k++) hit = o->operands[i] == reached[k];
    if (o == op) return hit;
    for (int r = 0; r < o->n_results && hit; r++) {
      MUSE_ASSERT(n < MAX_REACHED);
      reached[n++] = o->results[r];
    }
  }
  return false;
}

static bool is_table(const MuseOp *op, int operand) {
  return (op->kind == MUSE_OP_rope || op->kind == MUSE_OP_stochastic_round) && operand == 1;
}

// The broadcast shape of everything the body touches; tables of rope and seeds are addressed otherwise and do not
// count.
static MuseType domain_shape(const MuseOp *kernel) {
  MuseType shape = muse_scalar_type(MUSE_F32), wider;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    for (int i = 0; i < op->n_operands; i++) {
      if (is_table(op, i)) continue;
      MUSE_ASSERT(muse_type_broadcast(shape, op->operands[i]->type, &wider));
      shape = wider;
    }
    for (int r = 0; r < op->n_results; r++) {
      MUSE_ASSERT(muse_type_broadcast(shape, op->results[r]->type, &wider));
      shape = wider;
    }
  }
  shape.dtype = MUSE_F32;
  return shape;
}

static void cut_flat(MuseMapDomain *d) {
  int64_t elements = muse_type_elements(d->shape);
  d->shape = muse_type1(MUSE_F32, elements);
  d->rows = d->rows_per_task = 1;
  d->columns = elements;
  d->dropped = 0;
  d->columns_per_task = TARGET_ELEMENTS;
  d->n_tasks = muse_ceil_div(elements, d->columns_per_task);
}

void muse_map_domain(const MuseOp *kernel, MuseMapDomain *out) {
  *out = (MuseMapDomain){.shape = domain_shape(kernel), .flat = true, .n_phases = 1};
  bool reduces = false;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    if (op->kind == MUSE_OP_rope) out->flat = false;
    if (muse_map_is_row_reduction(op)) {
      out->flat = false;
      reduces = true;
      int phases = muse_map_phase_of(kernel, op) + 2;
      if (phases > out->n_phases) out->n_phases = phases;
    }
    if (muse_map_is_terminal(op)) {
      out->has_terminal = reduces = true;
      // Only a sum over everything can be taken from a flat walk.
      if (muse_type_elements(op->results[0]->type) != 1) out->flat = false;
    }
    for (int i = 0; i < op->n_operands; i++)
      if (!is_table(op, i) && !scalar_or_full(op->operands[i]->type, out->shape)) out->flat = false;
    for (int r = 0; r < op->n_results; r++)
      if (!scalar_or_full(op->results[r]->type, out->shape)) out->flat = false;
  }
  if (out->flat) {
    cut_flat(out);
    return;
  }
  while (!reduces && out->shape.rank > 1 && out->shape.dim[out->shape.rank - 1] == 1) out->shape.rank--, out->dropped++;
  out->rows = muse_type_rows(out->shape);
  out->columns = muse_type_last_dim(out->shape);
  out->rows_per_task = TARGET_ELEMENTS / out->columns;
  // Every task keeps partial results as large as the terminal results, so tasks are few and long, but enough for every
  // multiprocessor of a GPU. The cut does not depend on what else the kernel computes, so that a sum has the same bits
  // everywhere: the scale of a matrix's trits is the same from the optimizer and from @pack.
  if (out->has_terminal && out->rows_per_task < muse_ceil_div(out->rows, SUM_TASKS))
    out->rows_per_task = muse_ceil_div(out->rows, SUM_TASKS);
  if (out->rows_per_task < 1) out->rows_per_task = 1;
  if (out->rows_per_task > out->rows) out->rows_per_task = out->rows;
  out->n_tasks = muse_ceil_div(out->rows, out->rows_per_task);
}

int muse_map_terminals(const MuseOp *kernel, const MuseMapDomain *domain, MuseMapTerminal *out,
                       int64_t *out_workspace) {
  int n = 0;
  int64_t offset = 0, task = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    if (!muse_map_is_terminal(op)) continue;
    MUSE_ASSERT(n < MUSE_MAP_MAX_TERMINALS);
    int64_t bytes = muse_dtype_bytes(op->results[0]->type.dtype);
    MuseMapTerminal t = {
        .op = op, .elements = muse_type_elements(op->results[0]->type), .offset = offset, .first_task = task};
    t.stride = muse_round_up(t.elements, 64 / bytes); // partials of two tasks share no cache line
    t.n_tasks = muse_ceil_div(t.elements, MUSE_MAP_COMBINE);
    offset += t.stride * bytes * domain->n_tasks;
    task += t.n_tasks;
    out[n++] = t;
  }
  *out_workspace = offset;
  return n;
}

void muse_skel_map_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseMapDomain domain;
  MuseMapTerminal terminal[MUSE_MAP_MAX_TERMINALS];
  muse_map_domain(kernel, &domain);
  int n = muse_map_terminals(kernel, &domain, terminal, &out_info->workspace_bytes);
  out_info->n_stages = 1;
  out_info->stage[0].n_tasks = domain.n_tasks;
  if (n > 0) {
    out_info->n_stages = 2;
    out_info->stage[1].n_tasks = terminal[n - 1].first_task + terminal[n - 1].n_tasks;
  }
}

// Full-shape results are stored in the last phase, each element after the operand's element of the same index was read;
// row-shape results after the row. Operands that are read at other places (broadcast, rope, seeds) must stay.
bool muse_skel_map_in_place(const MuseOp *kernel, int result, int operand) {
  MuseMapDomain domain;
  muse_map_domain(kernel, &domain);
  const MuseValue *value = kernel->body->last->operands[result], *arg = kernel->body->args[operand];
  if (value->def && muse_map_is_terminal(value->def)) return false;
  int64_t elements = muse_type_elements(value->type);
  if (elements != domain.rows * domain.columns && (domain.flat || elements != domain.rows)) return false;
  for (const MuseOp *op = kernel->body->first; op; op = op->next)
    for (int i = 0; i < op->n_operands; i++)
      if (op->operands[i] == arg && (op->kind == MUSE_OP_rope || is_table(op, i))) return false;
  return true;
}
