// Skeleton "map" (skel_map.h): rows in phases or a flat walk, vectorised over the columns.
//
// Accumulators of reductions are stack slots that mem2reg turns into registers, added up at the end of the row in a
// fixed order. A sum always has MAX_UNROLL vectors of the target's width: element c of a row goes to place c modulo
// that many lanes, whatever else the kernel computes. So its bits depend on shapes and vector width only, and the
// scale of a matrix's trits is the same from the optimizer that wrote it and from @pack after a resume.

#include "compiler/emit_llvm_body.h"
#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_math.h"
#include "compiler/skel_map.h"

#include <math.h>

enum { MAX_UNROLL = 4, MAX_REDUCTIONS = 64, STRAIGHT_VECTORS = 8 };

// One reduction under accumulation: of a row (slot: MAX_UNROLL vectors), or terminal.
typedef struct Accumulator {
  const MuseOp *op;
  int phase;                     // row reductions
  LLVMValueRef slot[MAX_UNROLL]; // vectors of `lanes`
  const MuseMapTerminal *terminal;
  bool in_memory;    // terminal with columns: added to the task's partial element by element
  bool per_row;      // terminal without columns but with kept leading dimensions: added once a row
  bool of_row_value; // terminal of a row-shape value: scalar slot[0]
} Accumulator;

typedef struct MapEmitter {
  MuseLlvm *ll;
  const MuseOp *kernel;
  MuseMapDomain domain;
  MuseLlvmBody *body;
  int lanes, unroll;
  int n_terminals, n_acc;
  MuseMapTerminal terminal[MUSE_MAP_MAX_TERMINALS];
  Accumulator acc[MAX_REDUCTIONS];
  LLVMValueRef task, row;
  LLVMValueRef *row_offset; // of the partial, by accumulator (in_memory, per_row)
} MapEmitter;

// ---- kinds of results ----

static bool is_terminal_value(const MuseValue *value) { return value->def && muse_map_is_terminal(value->def); }
static bool is_full(const MapEmitter *m, const MuseValue *value) {
  return !is_terminal_value(value) && muse_type_elements(value->type) == m->domain.rows * m->domain.columns;
}
// One element a row; a domain of one column has only such.
static bool is_row(const MapEmitter *m, const MuseValue *value) {
  return !is_terminal_value(value) && !m->domain.flat && muse_type_elements(value->type) == m->domain.rows &&
         (muse_type_last_dim(value->type) == 1 || m->domain.columns == 1);
}
static bool is_scalar(const MapEmitter *m, const MuseValue *value) {
  return !is_terminal_value(value) && muse_type_elements(value->type) == 1;
}

// ---- reductions ----

static bool is_max(const MuseOp *op) { return op->kind == MUSE_OP_reduce_max; }
static MuseDtype dtype_of(const Accumulator *a) { return a->op->results[0]->type.dtype; }

static LLVMValueRef neutral(MapEmitter *m, const MuseOp *op, int lanes) {
  MuseDtype dtype = op->results[0]->type.dtype;
  LLVMTypeRef type = muse_llvm_type(m->ll, dtype, lanes);
  if (!is_max(op)) return LLVMConstNull(type);
  if (muse_dtype_is_float(dtype)) return muse_llvm_const(type, -INFINITY);
  return muse_llvm_const_bits(type, dtype == MUSE_I32 ? 0x80000000u : 0x8000000000000000u);
}

// Magnitudes compare as their bits do, and a NaN is above them all: one integer instruction, where the float maximum
// must look for NaN. The start value, -inf, is negative as an integer too.
static bool is_max_of_magnitudes(const MuseOp *op) {
  const MuseOp *def = op->operands[0]->def;
  return is_max(op) && def && def->kind == MUSE_OP_abs && muse_dtype_is_float(op->results[0]->type.dtype);
}

static LLVMValueRef as_bits(MapEmitter *m, LLVMValueRef v, MuseDtype dtype) {
  LLVMTypeRef bits = dtype == MUSE_F64 ? m->ll->i64 : m->ll->i32;
  return LLVMBuildBitCast(m->ll->b, v, muse_llvm_vector(bits, muse_llvm_lanes_of(v)), "");
}

static LLVMValueRef combine(MapEmitter *m, const MuseOp *op, LLVMValueRef a, LLVMValueRef b) {
  MuseDtype dtype = op->results[0]->type.dtype;
  if (is_max_of_magnitudes(op)) {
    LLVMValueRef max = muse_llvm_max(m->ll, as_bits(m, a, dtype), as_bits(m, b, dtype), false);
    return LLVMBuildBitCast(m->ll->b, max, LLVMTypeOf(a), "");
  }
  if (is_max(op)) return muse_llvm_max(m->ll, b, a, false); // NaN is looked for in b, off the chain of the accumulator
  return muse_dtype_is_float(dtype) ? LLVMBuildFAdd(m->ll->b, a, b, "") : LLVMBuildAdd(m->ll->b, a, b, "");
}

static LLVMValueRef fold(MapEmitter *m, const MuseOp *op, LLVMValueRef v) {
  MuseDtype dtype = op->results[0]->type.dtype;
  if (is_max_of_magnitudes(op))
    return LLVMBuildBitCast(m->ll->b, muse_llvm_max_lanes(m->ll, as_bits(m, v, dtype), false),
                            muse_llvm_type(m->ll, dtype, 1), "");
  return is_max(op) ? muse_llvm_max_lanes(m->ll, v, false) : muse_llvm_sum_lanes(m->ll, v);
}

static void reset(MapEmitter *m, Accumulator *a) {
  int lanes = a->of_row_value ? 1 : m->lanes, slots = a->of_row_value ? 1 : m->unroll;
  for (int u = 0; u < slots; u++) LLVMBuildStore(m->ll->b, neutral(m, a->op, lanes), a->slot[u]);
}

static LLVMValueRef slot_value(MapEmitter *m, Accumulator *a, int u, int lanes) {
  return LLVMBuildLoad2(m->ll->b, muse_llvm_type(m->ll, dtype_of(a), lanes), a->slot[u], "");
}

// All slots and lanes as one scalar.
static LLVMValueRef finish(MapEmitter *m, Accumulator *a) {
  if (a->of_row_value) return slot_value(m, a, 0, 1);
  LLVMValueRef v[MAX_UNROLL];
  for (int u = 0; u < m->unroll; u++) v[u] = slot_value(m, a, u, m->lanes);
  for (int n = m->unroll; n > 1; n /= 2)
    for (int u = 0; u < n / 2; u++) v[u] = combine(m, a->op, v[u], v[u + n / 2]);
  return fold(m, a->op, v[0]);
}

static LLVMValueRef partial(MapEmitter *m, const Accumulator *a) {
  const MuseMapTerminal *t = a->terminal;
  LLVMValueRef base = muse_llvm_byte_offset(m->ll, m->ll->workspace, t->offset);
  LLVMValueRef index = LLVMBuildMul(m->ll->b, m->task, muse_llvm_i64(m->ll, t->stride), "");
  return muse_llvm_address(m->ll, dtype_of(a), base, index);
}

static void add_to_partial(MapEmitter *m, const Accumulator *a, LLVMValueRef index, LLVMValueRef value, int lanes,
                           LLVMValueRef active) {
  LLVMValueRef at = partial(m, a);
  LLVMValueRef old = muse_llvm_load(m->ll, dtype_of(a), at, index, lanes, active);
  muse_llvm_store(m->ll, dtype_of(a), at, index, combine(m, a->op, old, value), lanes, active);
}

static void clear_partial(MapEmitter *m, const Accumulator *a) {
  MuseLlvmLoop loop;
  LLVMValueRef at = partial(m, a);
  // The stride is a whole number of cache lines, so whole vectors are cleared.
  int lanes = 16;
  muse_llvm_loop_begin(m->ll, &loop, muse_llvm_i64(m->ll, 0), muse_llvm_i64(m->ll, a->terminal->stride),
                       64 / muse_dtype_bytes(dtype_of(a)));
  if (muse_dtype_bytes(dtype_of(a)) == 8) lanes = 8;
  muse_llvm_store(m->ll, dtype_of(a), at, loop.index, neutral(m, a->op, lanes), lanes, NULL);
  muse_llvm_loop_end(m->ll, &loop);
}

// ---- columns ----

typedef struct Segment {
  int64_t begin, end;
  int half;
} Segment;

// One step of a phase: `lanes` columns, accumulators of slot u.
static void emit_step(MapEmitter *m, int phase, LLVMValueRef column, int lanes, LLVMValueRef active, int u,
                      bool aligned) {
  MuseLlvm *ll = m->ll;
  bool last = phase == m->domain.n_phases - 1;
  muse_llvm_body_at_column(m->body, column, aligned, lanes, active);
  for (int i = 0; i < m->n_acc; i++) {
    Accumulator *a = &m->acc[i];
    if (a->of_row_value || (a->terminal ? !last : a->phase != phase)) continue;
    LLVMValueRef value = muse_llvm_body_value(m->body, a->op->operands[0]);
    if (a->in_memory) {
      add_to_partial(m, a, LLVMBuildAdd(ll->b, m->row_offset[i], column, ""), value, lanes, active);
      continue;
    }
    if (active && lanes > 1)
      value = LLVMBuildSelect(ll->b, muse_llvm_mask(ll, active, lanes), value, neutral(m, a->op, lanes), "");
    if (lanes == m->lanes) {
      LLVMBuildStore(ll->b, combine(m, a->op, slot_value(m, a, u, lanes), value), a->slot[u]);
    } else { // a single element at the end goes to lane 0
      LLVMValueRef old = slot_value(m, a, u, m->lanes);
      LLVMValueRef sum = combine(m, a->op, muse_llvm_lane(ll, old, 0), value);
      LLVMBuildStore(ll->b, LLVMBuildInsertElement(ll->b, old, sum, muse_llvm_i64(ll, 0), ""), a->slot[u]);
    }
  }
  if (!last) return;
  const MuseOp *yield = m->kernel->body->last;
  // All values first: a store may overwrite, in place, an operand that another result reads.
  for (int i = 0; i < yield->n_operands; i++)
    if (is_full(m, yield->operands[i]) && !is_row(m, yield->operands[i]))
      muse_llvm_body_value(m->body, yield->operands[i]);
  for (int i = 0; i < yield->n_operands; i++)
    if (is_full(m, yield->operands[i]) && !is_row(m, yield->operands[i])) muse_llvm_body_store(m->body, i);
}

// Is the element index at `column` (and after steps of whole vectors) a multiple of 4?
static bool step_aligned(const MapEmitter *m, int64_t column) {
  return m->lanes % 4 == 0 && column % 4 == 0 && (m->domain.flat || m->domain.columns % 4 == 0);
}

// Columns [begin, end), constants, in straight code; returns the slot after the last used one.
static int emit_straight(MapEmitter *m, int phase, int64_t begin, int64_t end, int u) {
  for (int64_t c = begin; c < end; c += m->lanes) {
    int64_t left = end - c;
    int lanes = left == 1 ? 1 : m->lanes;
    LLVMValueRef active = left < lanes ? muse_llvm_i64(m->ll, left) : NULL;
    emit_step(m, phase, muse_llvm_i64(m->ll, c), lanes, active, u++ % m->unroll, step_aligned(m, c));
  }
  return u;
}

// The loop over whole groups of unroll * lanes columns from `begin` to `end` (values), both multiples of the group from
// `origin`, which fixes the alignment.
static void emit_group_loop(MapEmitter *m, int phase, LLVMValueRef begin, LLVMValueRef end, int64_t origin) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(m->ll, &loop, begin, end, (int64_t)m->unroll * m->lanes);
  for (int u = 0; u < m->unroll; u++) {
    LLVMValueRef column = LLVMBuildNSWAdd(m->ll->b, loop.index, muse_llvm_i64(m->ll, u * m->lanes), "");
    emit_step(m, phase, column, m->lanes, NULL, u, step_aligned(m, origin));
  }
  muse_llvm_loop_end(m->ll, &loop);
}

static void emit_segment(MapEmitter *m, int phase, Segment s) {
  int64_t group = (int64_t)m->unroll * m->lanes, whole = s.begin + (s.end - s.begin) / group * group;
  muse_llvm_body_set_half(m->body, s.half);
  if ((s.end - s.begin) <= STRAIGHT_VECTORS * m->lanes && m->unroll > 1) whole = s.begin;
  if (whole - s.begin == group) whole = s.begin; // one round is no loop
  if (whole > s.begin) emit_group_loop(m, phase, muse_llvm_i64(m->ll, s.begin), muse_llvm_i64(m->ll, whole), s.begin);
  emit_straight(m, phase, whole, s.end, 0);
}

// ---- rows ----

static void emit_row(MapEmitter *m, LLVMValueRef row, bool has_rope) {
  MuseLlvm *ll = m->ll;
  m->row = row;
  muse_llvm_body_at_row(m->body, row);
  for (int i = 0; i < m->n_acc; i++)
    if (m->acc[i].in_memory || m->acc[i].per_row)
      m->row_offset[i] = muse_llvm_row_offset(ll, m->acc[i].op->results[0]->type, m->domain.shape, row);
  for (int phase = 0; phase < m->domain.n_phases; phase++) {
    bool last = phase == m->domain.n_phases - 1;
    for (int i = 0; i < m->n_acc; i++) {
      Accumulator *a = &m->acc[i];
      if (a->terminal ? last && a->per_row && !a->of_row_value : a->phase == phase) reset(m, a);
    }
    int64_t C = m->domain.columns;
    if (has_rope) {
      emit_segment(m, phase, (Segment){0, C / 2, 0});
      emit_segment(m, phase, (Segment){C / 2, C, 1});
    } else {
      emit_segment(m, phase, (Segment){0, C, 0});
    }
    for (int i = 0; i < m->n_acc; i++)
      if (!m->acc[i].terminal && m->acc[i].phase == phase)
        muse_llvm_body_bind(m->body, m->acc[i].op->results[0], finish(m, &m->acc[i]));
  }
  for (int i = 0; i < m->n_acc; i++) {
    Accumulator *a = &m->acc[i];
    if (a->of_row_value) {
      LLVMValueRef value = muse_llvm_body_scalar(m->body, a->op->operands[0]);
      if (a->per_row)
        add_to_partial(m, a, m->row_offset[i], value, 1, NULL);
      else
        LLVMBuildStore(ll->b, combine(m, a->op, slot_value(m, a, 0, 1), value), a->slot[0]);
    } else if (a->per_row) {
      add_to_partial(m, a, m->row_offset[i], finish(m, a), 1, NULL);
    }
  }
  const MuseOp *yield = m->kernel->body->last;
  for (int i = 0; i < yield->n_operands; i++)
    if (is_row(m, yield->operands[i])) muse_llvm_body_store_row(m->body, i);
}

static void emit_rows(MapEmitter *m, bool has_rope) {
  MuseLlvm *ll = m->ll;
  MuseLlvmLoop loop;
  LLVMValueRef first = LLVMBuildMul(ll->b, m->task, muse_llvm_i64(ll, m->domain.rows_per_task), "");
  LLVMValueRef end = LLVMBuildAdd(ll->b, first, muse_llvm_i64(ll, m->domain.rows_per_task), "");
  end = muse_llvm_min(ll, end, muse_llvm_i64(ll, m->domain.rows), false);
  muse_llvm_loop_begin(ll, &loop, first, end, 1);
  emit_row(m, loop.index, has_rope);
  muse_llvm_loop_end(ll, &loop);
}

static void emit_flat(MapEmitter *m) {
  MuseLlvm *ll = m->ll;
  int64_t N = m->domain.columns, group = (int64_t)m->unroll * m->lanes, whole = N / group * group;
  muse_llvm_body_at_row(m->body, muse_llvm_i64(ll, 0));
  if (whole > 0) {
    LLVMValueRef first = LLVMBuildMul(ll->b, m->task, muse_llvm_i64(ll, m->domain.columns_per_task), "");
    LLVMValueRef end = LLVMBuildAdd(ll->b, first, muse_llvm_i64(ll, m->domain.columns_per_task), "");
    emit_group_loop(m, 0, first, muse_llvm_min(ll, end, muse_llvm_i64(ll, whole), false), 0);
  }
  if (whole == N) return;
  MuseLlvmIf branch;
  LLVMValueRef is_last = LLVMBuildICmp(ll->b, LLVMIntEQ, m->task, muse_llvm_i64(ll, m->domain.n_tasks - 1), "");
  muse_llvm_if_begin(ll, &branch, is_last);
  emit_straight(m, 0, whole, N, 0);
  muse_llvm_if_end(ll, &branch);
}

// ---- stages ----

// A rough count of instructions of one step decides how often it is repeated in the loop; sums fix it.
static int choose_unroll(const MuseOp *kernel, int n_acc, int unroll_of_sums) {
  int weight = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    switch (op->kind) {
      case MUSE_OP_exp:
      case MUSE_OP_log:
      case MUSE_OP_tanh:
      case MUSE_OP_sigmoid: weight += 16; break;
      case MUSE_OP_softplus: weight += 32; break;
      case MUSE_OP_stochastic_round: weight += 60; break;
      case MUSE_OP_reduce_sum: return unroll_of_sums;
      case MUSE_OP_const:
      case MUSE_OP_broadcast: break;
      default: weight++;
    }
  }
  if (weight > 40) return 1;
  return n_acc > 0 && weight <= 24 ? 4 : 2;
}

static bool collect_accumulators(MapEmitter *m) {
  int next_terminal = 0;
  for (const MuseOp *op = m->kernel->body->first; op; op = op->next) {
    bool terminal = muse_map_is_terminal(op);
    if (!terminal && !muse_map_is_row_reduction(op)) continue;
    if (m->n_acc == MAX_REDUCTIONS)
      return muse_llvm_fail(m->ll, "kernel %s has more than %d reductions", m->ll->name, MAX_REDUCTIONS);
    Accumulator *a = &m->acc[m->n_acc++];
    *a = (Accumulator){.op = op};
    if (!terminal) {
      a->phase = muse_map_phase_of(m->kernel, op);
      continue;
    }
    a->terminal = &m->terminal[next_terminal++];
    MuseType x = op->operands[0]->type, y = op->results[0]->type;
    bool kept = a->terminal->elements > 1;
    a->of_row_value = muse_type_elements(x) != m->domain.rows * m->domain.columns;
    a->in_memory = kept && muse_type_last_dim(y) > 1;
    a->per_row = kept && !a->in_memory;
  }
  return true;
}

static void create_slots(MapEmitter *m) {
  for (int i = 0; i < m->n_acc; i++) {
    Accumulator *a = &m->acc[i];
    int lanes = a->of_row_value ? 1 : m->lanes;
    for (int u = 0; u < m->unroll; u++)
      a->slot[u] = muse_llvm_alloca(m->ll, muse_llvm_type(m->ll, dtype_of(a), lanes), 1, 0);
  }
}

// Results of one element that are no reductions: every task has them, the first one stores them.
static void store_scalars(MapEmitter *m) {
  MuseLlvm *ll = m->ll;
  const MuseOp *yield = m->kernel->body->last;
  for (int i = 0; i < yield->n_operands; i++) {
    const MuseValue *value = yield->operands[i];
    if (!is_scalar(m, value) || is_full(m, value) || is_row(m, value)) continue;
    MuseLlvmIf branch;
    muse_llvm_if_begin(ll, &branch, LLVMBuildICmp(ll->b, LLVMIntEQ, m->task, muse_llvm_i64(ll, 0), ""));
    muse_llvm_store(ll, value->type.dtype, muse_llvm_result(ll, i), muse_llvm_i64(ll, 0),
                    muse_llvm_body_scalar(m->body, value), 1, NULL);
    muse_llvm_if_end(ll, &branch);
  }
}

static void emit_first_stage(MapEmitter *m, bool has_rope) {
  MuseLlvm *ll = m->ll;
  muse_llvm_stage_begin(ll, m->kernel, 0);
  m->body = muse_llvm_body_create_dropped(ll, m->kernel, m->domain.shape, m->domain.dropped);
  muse_llvm_body_begin(m->body);
  create_slots(m);
  MuseLlvmLoop tasks;
  muse_llvm_loop_begin(ll, &tasks, ll->begin, ll->end, 1);
  m->task = tasks.index;
  for (int i = 0; i < m->n_acc; i++) {
    Accumulator *a = &m->acc[i];
    if (!a->terminal) continue;
    if (a->in_memory || a->per_row)
      clear_partial(m, a);
    else
      reset(m, a);
  }
  store_scalars(m);
  if (m->domain.flat)
    emit_flat(m);
  else
    emit_rows(m, has_rope);
  for (int i = 0; i < m->n_acc; i++) {
    Accumulator *a = &m->acc[i];
    if (!a->terminal || a->in_memory || a->per_row) continue;
    muse_llvm_store(ll, dtype_of(a), partial(m, a), muse_llvm_i64(ll, 0), finish(m, a), 1, NULL);
  }
  muse_llvm_loop_end(ll, &tasks);
  muse_llvm_stage_end(ll);
}

// Adds the partials of `lanes` elements from `index` on in task order.
static LLVMValueRef sum_of_tasks(MapEmitter *m, const MuseMapTerminal *t, LLVMValueRef index, int lanes,
                                 LLVMValueRef active) {
  MuseLlvm *ll = m->ll;
  MuseDtype dtype = t->op->results[0]->type.dtype;
  LLVMValueRef base = muse_llvm_byte_offset(ll, ll->workspace, t->offset);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, m->domain.n_tasks), 1);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &loop, neutral(m, t->op, lanes));
  LLVMValueRef at = LLVMBuildAdd(ll->b, LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, t->stride), ""), index, "");
  muse_llvm_loop_next(&loop, 0, combine(m, t->op, sum, muse_llvm_load(ll, dtype, base, at, lanes, active)));
  muse_llvm_loop_end(ll, &loop);
  return loop.result[0];
}

static void emit_second_stage(MapEmitter *m) {
  MuseLlvm *ll = m->ll;
  const MuseOp *yield = m->kernel->body->last;
  muse_llvm_stage_begin(ll, m->kernel, 1);
  MuseLlvmLoop tasks;
  muse_llvm_loop_begin(ll, &tasks, ll->begin, ll->end, 1);
  for (int k = 0; k < m->n_terminals; k++) {
    const MuseMapTerminal *t = &m->terminal[k];
    LLVMValueRef local = LLVMBuildSub(ll->b, tasks.index, muse_llvm_i64(ll, t->first_task), "");
    LLVMValueRef mine = LLVMBuildICmp(ll->b, LLVMIntULT, local, muse_llvm_i64(ll, t->n_tasks), "");
    MuseLlvmIf branch;
    muse_llvm_if_begin(ll, &branch, mine);
    LLVMValueRef first = LLVMBuildMul(ll->b, local, muse_llvm_i64(ll, MUSE_MAP_COMBINE), "");
    LLVMValueRef end = LLVMBuildAdd(ll->b, first, muse_llvm_i64(ll, MUSE_MAP_COMBINE), "");
    end = muse_llvm_min(ll, end, muse_llvm_i64(ll, t->elements), false);
    int lanes = t->elements == 1 ? 1 : m->lanes;
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, first, end, lanes);
    LLVMValueRef left = LLVMBuildSub(ll->b, end, loop.index, "");
    LLVMValueRef sum = sum_of_tasks(m, t, loop.index, lanes, left);
    for (int i = 0; i < yield->n_operands; i++)
      if (yield->operands[i] == t->op->results[0])
        muse_llvm_store(ll, t->op->results[0]->type.dtype, muse_llvm_result(ll, i), loop.index, sum, lanes, left);
    muse_llvm_loop_end(ll, &loop);
    muse_llvm_if_end(ll, &branch);
  }
  muse_llvm_loop_end(ll, &tasks);
  muse_llvm_stage_end(ll);
}

// Every result must be one of the kinds that are stored somewhere.
static bool check_results(MapEmitter *m) {
  const MuseOp *yield = m->kernel->body->last;
  for (int i = 0; i < yield->n_operands; i++) {
    const MuseValue *value = yield->operands[i];
    if (is_terminal_value(value) || is_full(m, value) || is_row(m, value) || is_scalar(m, value)) continue;
    return muse_llvm_fail(
        m->ll,
        "result %d of map kernel %s has neither the shape of the domain nor of its rows; give it a kernel of its own",
        i, m->ll->name);
  }
  return true;
}

bool muse_emit_llvm_map(MuseLlvm *ll, const MuseOp *kernel) {
  MapEmitter emitter = {.ll = ll, .kernel = kernel, .lanes = ll->lanes}, *m = &emitter;
  // Philox gives four elements a 64-bit lane: two vectors of elements fill one register of blocks.
  for (const MuseOp *op = kernel->body->first; op; op = op->next)
    if (op->kind == MUSE_OP_stochastic_round && ll->lanes > 1) m->lanes = 2 * ll->lanes;
  muse_map_domain(kernel, &m->domain);
  int64_t workspace;
  m->n_terminals = muse_map_terminals(kernel, &m->domain, m->terminal, &workspace);
  bool has_rope = false;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) has_rope |= op->kind == MUSE_OP_rope;
  if (!collect_accumulators(m) || !check_results(m)) return false;
  m->unroll = choose_unroll(kernel, m->n_acc, MAX_UNROLL * ll->lanes / m->lanes);
  m->row_offset = MUSE_NEW_ARRAY(ll->arena, LLVMValueRef, m->n_acc + 1);
  emit_first_stage(m, has_rope);
  if (m->n_terminals > 0) emit_second_stage(m);
  return ll->status == MUSE_OK;
}
