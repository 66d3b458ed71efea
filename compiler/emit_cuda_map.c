// Skeleton "map" (skel_map.h) as CUDA C, in three forms:
//
// points  no reduction: a thread computes V neighbouring elements of the domain, wherever their rows are.
// rows    a team of T threads owns a row and holds it in K pieces of V columns a thread; what is read in several phases
//         stays in registers. T is a power of two up to 32 with several teams a block, or a block. With terminal
//         reductions a block is a task and walks its rows; column sums without row reductions are cut
//         along the columns too.
// flat    a sum over everything of a flat domain: a block is a task.
//
// Tasks are those of skel_map.h or more of them (cut_tasks).
//
// Row reductions: the thread's columns in order, then a butterfly across lanes, then the warps in order. Terminal
// reductions leave one partial a task in the workspace, which the second launch adds in a fixed order. Those that keep
// only leading dimensions (a sum for each head) leave the number of each row instead, so that rows need not be walked.
// So bits depend on shapes only.

#include "compiler/emit_cuda_map.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <string.h>

enum {
  MAX_REDUCTIONS = MUSE_CUDA_MAP_REDUCTIONS,
  MAX_STORED = MUSE_CUDA_MAP_STORED,
  BLOCK = MUSE_CUDA_MAP_BLOCK,
  MAX_TASKS = 256,           // of a flat domain
  MULTIPROCESSORS = 128,     // about as many as large GPUs have
  LEAST_COLUMNS = 2048,      // of a task of a flat domain
  POINTS_ROWS = 4,           // a thread, where they share something
  MAX_VECTOR_BYTES = 32,
  REDUCED_VECTOR = 4,        // columns a thread takes at a time where there are reductions
  PIECES = 2,                // of a long row a thread, or more
  MAX_TEAM = 512,            // threads; more would leave too few registers
  MAX_REUSED = 16,           // columns a thread, up to which phases share what they compute
  MAX_UNROLL = 32,           // pieces
  EXCHANGE_BYTES = 32 << 10, // shared memory for sums of columns
  MAX_CHUNKS = 65535,
  STATIC_BYTES = 4 << 10,    // of shared memory, for reductions across warps
};

typedef MuseCudaReduction Reduction;
typedef MuseCudaMap Map;

static const MuseOp *yield_of(const Map *m) { return muse_cuda_map_yield(m); }
static const char *operation(const MuseOp *op) { return muse_cuda_map_operation(op); }
static const char *neutral(const MuseOp *op) { return muse_cuda_map_neutral(op); }
static MuseDtype dtype_of(const Reduction *r) { return muse_cuda_map_dtype(r); }

// ---- kinds of values ----

static bool is_terminal_value(const MuseValue *value) { return value->def && muse_map_is_terminal(value->def); }
static bool is_full(const Map *m, const MuseValue *value) {
  return !is_terminal_value(value) && muse_type_elements(value->type) == m->domain.rows * m->domain.columns;
}
static bool is_row(const Map *m, const MuseValue *value) {
  return !is_terminal_value(value) && !m->domain.flat && muse_type_elements(value->type) == m->domain.rows &&
         (muse_type_last_dim(value->type) == 1 || m->domain.columns == 1);
}
static bool is_stored_at_places(const Map *m, const MuseValue *value) {
  return is_full(m, value) && !is_row(m, value);
}
static bool is_lone_scalar(const Map *m, const MuseValue *value) {
  return !is_terminal_value(value) && muse_type_elements(value->type) == 1 && !is_full(m, value) && !is_row(m, value);
}

// ---- the cut ----

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

// 16 bytes of the narrowest type a thread, at most 32 of the widest, and every row must start at a multiple.
static int choose_vector(const Map *m) {
  int64_t narrow = 8, wide = 1;
  bool any = false, rope = false;
  for (int side = 0; side < 2; side++) {
    int n = side ? m->kernel->n_results : m->kernel->n_operands;
    for (int i = 0; i < n; i++) {
      const MuseValue *v = side ? m->kernel->results[i] : m->kernel->operands[i];
      bool of_rows = !m->domain.flat && muse_type_last_dim(v->type) == 1;
      if (muse_dtype_is_trit(v->type.dtype) || of_rows || muse_type_elements(v->type) <= 2) continue;
      int64_t bytes = muse_dtype_bytes(v->type.dtype);
      if (bytes < narrow) narrow = bytes;
      if (bytes > wide) wide = bytes;
      any = true;
    }
  }
  for (const MuseOp *op = m->kernel->body->first; op; op = op->next) rope |= op->kind == MUSE_OP_rope;
  int64_t v = any ? 16 / narrow : 4;
  while (v > 1 && v * wide > MAX_VECTOR_BYTES) v /= 2;
  // Sums of a row and of everything have the same bits whatever else the kernel computes, so their order may depend on
  // shapes alone: the scale of a matrix's trits is computed in more than one kernel.
  if (m->n_red) v = REDUCED_VECTOR;
  if (m->domain.flat && m->n_red) v = gcd(v, m->domain.columns_per_task);
  return (int)gcd(v, rope ? m->domain.columns / 2 : m->domain.columns);
}

// Blocks of so many threads that a multiprocessor shall hold: one of them computes while others wait for their rows.
// Each thread still has 64 registers or more.
static int resident(int64_t threads) { return threads > 256 ? 2 : threads > 128 ? 4 : 8; }

// Shall the compiler be held to that? It spills a little then, which an H200 gains more than it loses by. For sm_120
// ptxas (13.0) spills three times as much.
static bool must_fit(const Map *m) { return m->walks && m->K * m->V <= MAX_REUSED && m->e->target.arch < 120; }

// The tasks of skel_map.h are cut for the cores of a CPU; here all multiprocessors shall have some, all of them at once
// (a few blocks left for a second turn take as long as the first), though no fewer rows than a block takes at a time.
// For sums of everything the cut depends on the shape alone.
static void cut_tasks(Map *m) {
  MuseMapDomain *d = &m->domain;
  if (d->flat) {
    const int64_t most = muse_round_up(muse_ceil_div(d->columns, MAX_TASKS), LEAST_COLUMNS);
    if (most < d->columns_per_task) d->columns_per_task = most;
    d->n_tasks = muse_ceil_div(d->columns, d->columns_per_task);
    return;
  }
  const int64_t at_a_time = m->T <= 32 ? BLOCK / m->T : 1, threads = m->T * at_a_time;
  const int64_t most = MULTIPROCESSORS * resident(threads);
  const int64_t some = muse_ceil_div(d->rows, most), rows = some > at_a_time ? some : at_a_time;
  if (rows < d->rows_per_task) d->rows_per_task = rows;
  d->n_tasks = muse_ceil_div(d->rows, d->rows_per_task);
}

// Shared memory in which the teams of a block add up their sums of columns.
static int64_t exchange_bytes(const Map *m) {
  int64_t bytes = 0;
  for (int i = 0; i < m->n_red; i++)
    if (m->red[i].terminal && m->red[i].has_columns && !m->red[i].in_memory && m->teams > 1) {
      int64_t b = (int64_t)m->T * m->teams * m->K * m->V * muse_dtype_bytes(dtype_of(&m->red[i]));
      if (b > bytes) bytes = b;
    }
  return bytes;
}

static void cut_rows(Map *m) {
  bool alone = false, splits = !m->has_rows && m->n_terminals > 0;
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    splits &= r->terminal != NULL;
    if (!r->terminal) continue;
    alone |= r->has_columns && r->moves;
    splits &= r->has_columns && !r->of_row_value && !r->moves;
  }
  int64_t groups = m->domain.columns / m->V;
  if (splits && groups > 32) { // column sums: chunks of 32 pieces, several teams a block
    m->T = 32;
    m->K = 1;
  } else if (groups <= 32) {
    m->T = 1;
    while (m->T < groups) m->T *= 2;
    m->K = 1;
  } else {
    int64_t least = muse_ceil_div(groups, MAX_TEAM);
    m->T = (int)muse_round_up(muse_ceil_div(groups, PIECES > least ? PIECES : least), 32);
    m->K = (int)muse_ceil_div(groups, m->T);
  }
  while (splits && muse_ceil_div(groups, (int64_t)m->T * m->K) > MAX_CHUNKS) m->K *= 2;
  m->chunks = splits ? muse_ceil_div(groups, (int64_t)m->T * m->K) : 1;
  m->teams = m->T <= 32 ? BLOCK / m->T : 1;
  if (!m->walks)
    while (m->teams > 1 && m->teams * m->T > 32 && m->teams / 2 >= m->domain.rows) m->teams /= 2;
  while (m->teams > 1 && exchange_bytes(m) > EXCHANGE_BYTES) m->teams /= 2;
  if (alone) m->teams = 1; // so that a place of a partial has one owner
  // Sums of columns stay in registers while they are few; they come together in shared memory when there are teams.
  int64_t words = 0;
  for (int i = 0; i < m->n_red; i++)
    if (m->red[i].terminal && m->red[i].has_columns)
      words += (int64_t)m->K * m->V * muse_dtype_bytes(dtype_of(&m->red[i])) / 4;
  for (int i = 0; i < m->n_red; i++) {
    Reduction *r = &m->red[i];
    if (r->has_columns) r->in_memory = r->moves || (words > 32 && m->teams == 1);
    // Every row reads and writes all of it: as often as not that is more than the rows themselves.
    const int64_t bytes = (int64_t)m->T * m->K * m->V * muse_dtype_bytes(dtype_of(r));
    if (!r->in_memory || r->moves || m->shared + bytes > muse_cuda_shared_limit(m->e->target) - STATIC_BYTES) continue;
    r->shared = m->shared;
    m->shared += bytes;
  }
}

static bool collect(Map *m) {
  int next = 0;
  for (const MuseOp *op = m->kernel->body->first; op; op = op->next) {
    bool terminal = muse_map_is_terminal(op);
    if (!terminal && !muse_map_is_row_reduction(op)) continue;
    if (m->n_red == MAX_REDUCTIONS) return false;
    Reduction *r = &m->red[m->n_red++];
    *r = (Reduction){.op = op, .shared = -1, .phase = muse_map_phase_of(m->kernel, op)};
    if (!terminal) continue;
    r->terminal = &m->terminal[next++];
    MuseType y = op->results[0]->type;
    r->of_row_value = muse_type_elements(op->operands[0]->type) != m->domain.rows * m->domain.columns;
    r->has_columns = r->terminal->elements > 1 && muse_type_last_dim(y) > 1;
    r->by_row = r->terminal->elements > 1 && !r->has_columns;
    r->moves = r->terminal->elements > muse_type_last_dim(y);
    m->walks |= !r->by_row;
  }
  return true;
}

// Of what a step takes: a result is stored as soon as it can be computed. (skel_map.h has them all stored in the last
// walk; plan_stores sees to it that none is stored over an operand that is still to be read.)
static void find_phases(Map *m) {
  m->n_phases = 1;
  for (int i = 0; i < m->n_red; i++)
    if (!m->red[i].of_row_value && m->red[i].phase >= m->n_phases) m->n_phases = m->red[i].phase + 1;
  for (int i = 0; i < yield_of(m)->n_operands; i++) {
    const MuseValue *value = yield_of(m)->operands[i];
    m->store_phase[i] = is_stored_at_places(m, value) && value->def ? muse_map_phase_of(m->kernel, value->def) : 0;
    if (m->store_phase[i] >= m->n_phases) m->n_phases = m->store_phase[i] + 1;
  }
}

static bool takes(const Reduction *r, int phase) { return !r->of_row_value && r->phase == phase; }
static bool stores(const Map *m, int result, int phase) {
  return m->store_phase[result] == phase && is_stored_at_places(m, yield_of(m)->operands[result]);
}

static void need_of_phase(Map *m, int phase) {
  muse_cuda_step_forget(&m->body);
  for (int i = 0; i < m->n_red; i++)
    if (takes(&m->red[i], phase)) muse_cuda_step_need(&m->body, m->red[i].op->operands[0]);
  for (int i = 0; i < yield_of(m)->n_operands; i++)
    if (stores(m, i, phase)) muse_cuda_step_need(&m->body, yield_of(m)->operands[i]);
}

// Places in the workspace: the partials of all tasks, or one number a row. Returns its size.
static int64_t place_partials(Map *m) {
  int64_t offset = 0;
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal) continue;
    MuseMapTerminal *t = &m->terminal[r->terminal - m->terminal];
    t->offset = offset;
    int64_t n = r->by_row ? m->domain.rows : t->stride * m->domain.n_tasks;
    offset += muse_round_up(n * muse_dtype_bytes(dtype_of(r)), 64);
  }
  return offset;
}

// ---- pieces of text ----

#define LINE(...) muse_cuda_line(&m->body, __VA_ARGS__)

static void open_block(Map *m, const char *text) {
  LINE("%s", text);
  m->body.depth++;
}
static void close_block(Map *m) {
  m->body.depth--;
  LINE("}");
}

static void declare_partials(Map *m) {
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal) continue;
    char task[64];
    snprintf(task, sizeof task, " + (long long)blockIdx.x * %lld", (long long)r->terminal->stride);
    const char *type = muse_cuda_type(dtype_of(r));
    LINE("%s *%s_%d = (%s *)(workspace + %lld)%s;", type, r->shared >= 0 ? "task" : "part", i, type,
         (long long)r->terminal->offset, r->by_row ? "" : task);
    if (r->shared >= 0) LINE("%s *part_%d = (%s *)(columns_shared + %lld);", type, i, type, (long long)r->shared);
  }
}

// One step: V columns from `column` on (piece k).
static void emit_step(Map *m, int phase) {
  MuseCudaBody *b = &m->body;
  const MuseOp *yield = yield_of(m);
  need_of_phase(m, phase);
  muse_cuda_step_load(b);
  for (int i = 0; i < m->n_red; i++) { // V places of a partial at once
    const Reduction *r = &m->red[i];
    if (!takes(r, phase) || !r->in_memory) continue;
    LINE("%s sum_%d[%d];", muse_cuda_type(dtype_of(r)), i, m->V);
    LINE("load(sum_%d, part_%d + at_%d + column);", i, i, i);
  }
  for (int i = 0; i < yield->n_operands; i++)
    if (stores(m, i, phase))
      LINE("%s y%d[%d];", muse_cuda_type(yield->operands[i]->type.dtype), i, m->V);
  LINE("#pragma unroll");
  char text[64];
  snprintf(text, sizeof text, "for (int l = 0; l < %d; l++) {", m->V);
  open_block(m, text);
  muse_cuda_step_compute(b);
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!takes(r, phase)) continue;
    const char *x = muse_cuda_ref(b, r->op->operands[0]), *of = operation(r->op);
    if (r->in_memory) LINE("sum_%d[l] = %s::of(sum_%d[l], %s);", i, of, i, x);
    else if (r->has_columns) LINE("acc_%d[k][l] = %s::of(acc_%d[k][l], %s);", i, of, i, x);
    else LINE("acc_%d = %s::of(acc_%d, %s);", i, of, i, x);
  }
  for (int i = 0; i < yield->n_operands; i++)
    if (stores(m, i, phase)) LINE("y%d[l] = %s;", i, muse_cuda_ref(b, yield->operands[i]));
  close_block(m);
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (takes(r, phase) && r->in_memory)
      LINE("store(part_%d + at_%d + column, sum_%d);", i, i, i);
  }
  // All values first: a store may overwrite, in place, an operand that another result reads.
  for (int i = 0; i < yield->n_operands; i++)
    if (stores(m, i, phase))
      LINE("store(r%d + (long long)row * %lld + column, y%d);", i, (long long)m->domain.columns, i);
}

static void store_lone_scalars(Map *m) {
  const MuseOp *yield = yield_of(m);
  bool any = false;
  for (int i = 0; i < yield->n_operands; i++) any |= is_lone_scalar(m, yield->operands[i]);
  if (!any) return;
  open_block(m, "if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {");
  for (int i = 0; i < yield->n_operands; i++)
    if (is_lone_scalar(m, yield->operands[i])) LINE("r%d[0] = %s;", i, muse_cuda_ref(&m->body, yield->operands[i]));
  close_block(m);
}

// ---- points ----

static void emit_points(Map *m) {
  const int64_t per_row = m->domain.columns / m->V;
  const int rows = m->domain.rows >= 64 && muse_cuda_body_divides_by_columns(&m->body) ? POINTS_ROWS : 1;
  const int64_t groups = muse_ceil_div(m->domain.rows, rows) * per_row;
  bool wide = groups >= (int64_t)1 << 31;
  muse_cuda_begin_launch(m->e,
                          (MuseCudaLaunch){
                                    .grid_x = muse_ceil_div(groups, BLOCK), .grid_y = 1, .block = BLOCK});
  m->body.depth = 1;
  const char *type = wide ? "u64" : "unsigned";
  LINE("const %s group = (%s)blockIdx.x * %du + threadIdx.x;", type, type, BLOCK);
  LINE("if (group >= %lldu) return;", (long long)groups);
  muse_cuda_body_begin(&m->body);
  store_lone_scalars(m);
  if (m->domain.flat || m->domain.rows == 1) {
    LINE("const unsigned row = 0;");
    LINE("const %s column = (%s)group * %d;", m->domain.columns >= (int64_t)1 << 31 ? "long long" : "int",
         m->domain.columns >= (int64_t)1 << 31 ? "long long" : "int", m->V);
  } else {
    LINE("const %s %s = group / %lldu;", type, rows > 1 ? "rows" : "row", (long long)per_row);
    LINE("const int column = (int)(group %% %lldu) * %d;", (long long)per_row, m->V);
  }
  if (rows > 1) {
    char text[64];
    LINE("#pragma unroll");
    snprintf(text, sizeof text, "for (int i = 0; i < %d; i++) {", rows);
    open_block(m, text);
    LINE("const %s row = rows * %d + i;", type, rows);
    if (m->domain.rows % rows) LINE("if (row >= %lldu) return;", (long long)m->domain.rows);
  }
  muse_cuda_body_at_row(&m->body);
  emit_step(m, 0);
  if (rows > 1) close_block(m);
  m->body.depth = 0;
  LINE("}\n");
}

// ---- flat with sums over everything ----

static void declare_thread_sums(Map *m) {
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal || r->in_memory || r->by_row) continue;
    const char *type = muse_cuda_type(dtype_of(r));
    if (!r->has_columns) {
      LINE("%s acc_%d = %s;", type, i, neutral(r->op));
      continue;
    }
    LINE("%s acc_%d[%d][%d];", type, i, m->K, m->V);
    LINE("#pragma unroll");
    LINE("for (int k = 0; k < %d; k++)", m->K);
    LINE("#pragma unroll");
    LINE("  for (int l = 0; l < %d; l++) acc_%d[k][l] = %s;", m->V, i, neutral(r->op));
  }
}

// Sums over everything: all threads of the block to one partial of the task.
static void store_block_sums(Map *m, int block) {
  int warps = (int)muse_ceil_div(block, 32);
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal || r->terminal->elements > 1) continue;
    const char *type = muse_cuda_type(dtype_of(r)), *of = operation(r->op);
    LINE("acc_%d = across_lanes<%s, %d>(acc_%d);", i, of, block < 32 ? block : 32, i);
    if (warps > 1) {
      LINE("__shared__ %s all_%d[%d];", type, i, warps);
      LINE("if (threadIdx.x %% 32 == 0) all_%d[threadIdx.x / 32] = acc_%d;", i, i);
      LINE("__syncthreads();");
      LINE("if (threadIdx.x == 0) part_%d[0] = across_warps<%s, %d>(all_%d);", i, of, warps, i);
    } else {
      LINE("if (threadIdx.x == 0) part_%d[0] = acc_%d;", i, i);
    }
  }
}

static void emit_flat(Map *m) {
  char text[160];
  muse_cuda_begin_launch(m->e, (MuseCudaLaunch){.grid_x = m->domain.n_tasks, .grid_y = 1, .block = BLOCK});
  m->body.depth = 1;
  m->K = 1;
  declare_partials(m);
  muse_cuda_body_begin(&m->body);
  store_lone_scalars(m);
  LINE("const unsigned row = 0;");
  muse_cuda_body_at_row(&m->body);
  declare_thread_sums(m);
  LINE("const long long first = (long long)blockIdx.x * %lld;", (long long)m->domain.columns_per_task);
  LINE("const long long end = first + %lld < %lldll ? first + %lld : %lldll;", (long long)m->domain.columns_per_task,
       (long long)m->domain.columns, (long long)m->domain.columns_per_task, (long long)m->domain.columns);
  LINE("#pragma unroll 4");
  snprintf(text, sizeof text, "for (long long column = first + threadIdx.x * %d; column < end; column += %d) {", m->V,
           BLOCK * m->V);
  open_block(m, text);
  emit_step(m, 0);
  close_block(m);
  for (int i = 0; i < m->n_red; i++)
    if (m->red[i].of_row_value)
      LINE("if (blockIdx.x == 0 && threadIdx.x == 0) acc_%d = %s::of(acc_%d, %s);", i, operation(m->red[i].op), i,
           muse_cuda_ref(&m->body, m->red[i].op->operands[0]));
  store_block_sums(m, BLOCK);
  m->body.depth = 0;
  LINE("}\n");
}

// ---- rows ----

static bool covers_exactly(const Map *m) { return m->chunks * m->T * m->K * m->V == m->domain.columns; }

// for the pieces of the thread: { const int column = ...;
static void open_pieces(Map *m) {
  char text[96];
  LINE(m->K <= MAX_UNROLL ? "#pragma unroll" : "#pragma unroll 1");
  snprintf(text, sizeof text, "for (int k = 0; k < %d; k++) {", m->K);
  open_block(m, text);
  MuseStr chunk = {0};
  if (m->chunks > 1) muse_str_appendf(&chunk, "(int)blockIdx.y * %d + ", m->T * m->K * m->V);
  LINE("const int column = %s(k * %d + (int)lane) * %d;", muse_str_text(&chunk), m->T, m->V);
  muse_str_free(&chunk);
  if (!covers_exactly(m)) LINE("if (column >= %lld) continue;", (long long)m->domain.columns);
}

// Operands that are read in several phases are loaded once, if they fit.
static void keep_operands(Map *m) {
  MuseCudaBody *b = &m->body;
  int reads[256] = {0}, n = m->kernel->body->n_args;
  for (int i = 0; i < n; i++) b->value[i].kept = b->value[i].packed = false;
  if (m->n_phases < 2 || n > 256) return;
  for (int phase = 0; phase < m->n_phases; phase++) {
    need_of_phase(m, phase);
    for (int i = 0; i < n; i++) reads[i] += b->value[i].needed;
  }
  int64_t budget = m->T * m->teams > 256 ? 48 : 64; // words of registers
  for (int i = 0; i < n; i++) {
    const int64_t bytes = muse_dtype_bytes(b->value[i].value->type.dtype);
    const bool packed = bytes < 4 && m->V * bytes >= 4 && m->V * bytes <= 16;
    int64_t words = (int64_t)m->K * m->V * (packed || bytes > 4 ? bytes : 4) / 4;
    if (reads[i] < 2 || words > budget) continue;
    budget -= words;
    b->value[i].kept = true;
    b->value[i].packed = packed;
  }
}

// Is some operand that the result may be written over read from memory after the result is stored?
static bool overwrites(Map *m, int result) {
  const MuseDtype dtype = yield_of(m)->operands[result]->type.dtype;
  for (int phase = m->store_phase[result] + 1; phase < m->n_phases; phase++) {
    need_of_phase(m, phase);
    for (int i = 0; i < m->kernel->body->n_args; i++) {
      const MuseCudaValue *v = &m->body.value[i];
      if (v->needed && !v->kept && v->value->type.dtype == dtype && is_full(m, v->value)) return true;
    }
  }
  return false;
}

static void plan_stores(Map *m) {
  bool moved = true;
  while (moved) {
    moved = false;
    keep_operands(m);
    for (int i = 0; i < yield_of(m)->n_operands && !moved; i++) {
      if (!stores(m, i, m->store_phase[i]) || !overwrites(m, i)) continue;
      m->store_phase[i] = m->n_phases - 1;
      moved = true;
    }
  }
}

static void load_kept(Map *m) {
  MuseCudaBody *b = &m->body;
  bool any = false;
  for (int i = 0; i < b->n; i++) {
    const char *type = muse_cuda_type(b->value[i].value->type.dtype);
    if (!b->value[i].kept) continue;
    if (b->value[i].packed) LINE("packed<%d, %s> packed_%s[%d];", m->V, type, b->value[i].name, m->K);
    else LINE("%s %s[%d][%d];", type, b->value[i].name, m->K, m->V);
    any = true;
  }
  if (!any) return;
  open_pieces(m);
  for (int i = 0; i < b->n; i++)
    if (b->value[i].kept)
      LINE("load(%s%s[k], p%d + column);", b->value[i].packed ? "packed_" : "", b->value[i].name,
           b->value[i].value->index);
  close_block(m);
}

// The row reductions of a phase, from sums of threads to values of the row.
static void finish_phase(Map *m, int phase) {
  int warps = m->T / 32;
  bool walks = m->walks;
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (r->terminal || r->phase != phase) continue;
    LINE("acc_%d = across_lanes<%s, %d>(acc_%d);", i, operation(r->op), m->T, i);
  }
  if (m->T > 32) {
    // A block that walks rows uses two places by turns: a thread may be a row ahead of another.
    const char *turn = walks ? "turn" : "0";
    for (int i = 0; i < m->n_red; i++) {
      const Reduction *r = &m->red[i];
      if (r->terminal || r->phase != phase) continue;
      LINE("__shared__ %s red_%d[%d][%d];", muse_cuda_type(dtype_of(r)), i, walks ? 2 : 1, warps);
      LINE("if (lane %% 32 == 0) red_%d[%s][lane / 32] = acc_%d;", i, turn, i);
    }
    LINE("__syncthreads();");
    for (int i = 0; i < m->n_red; i++) {
      const Reduction *r = &m->red[i];
      if (!r->terminal && r->phase == phase)
        LINE("acc_%d = across_warps<%s, %d>(red_%d[%s]);", i, operation(r->op), warps, i, turn);
    }
  }
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    char name[16];
    snprintf(name, sizeof name, "acc_%d", i);
    if (!r->terminal && r->phase == phase) muse_cuda_body_bind(&m->body, r->op->results[0], name);
  }
}

static bool has_row_reduction(const Map *m, int phase) {
  for (int i = 0; i < m->n_red; i++)
    if (!m->red[i].terminal && m->red[i].phase == phase) return true;
  return false;
}

static bool has_step(const Map *m, int phase) {
  for (int i = 0; i < m->n_red; i++)
    if (takes(&m->red[i], phase)) return true;
  for (int i = 0; i < yield_of(m)->n_operands; i++)
    if (stores(m, i, phase)) return true;
  return false;
}

// Row terminals: what the leader of the team adds, or leaves for the second launch, once a row.
static void add_row_sums(Map *m) {
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    const char *of = operation(r->op);
    if (!r->terminal) continue;
    if (r->of_row_value) {
      const char *x = muse_cuda_ref(&m->body, r->op->operands[0]);
      if (r->by_row) LINE("if (lane == 0) part_%d[row] = %s;", i, x);
      else LINE("if (lane == 0) acc_%d = %s::of(acc_%d, %s);", i, of, i, x);
    } else if (r->by_row) {
      const char *type = muse_cuda_type(dtype_of(r)), *turn = m->walks ? "turn" : "0";
      LINE("acc_%d = across_lanes<%s, %d>(acc_%d);", i, of, m->T, i);
      if (m->T > 32) {
        LINE("__shared__ %s row_%d[%d][%d];", type, i, m->walks ? 2 : 1, m->T / 32);
        LINE("if (lane %% 32 == 0) row_%d[%s][lane / 32] = acc_%d;", i, turn, i);
        LINE("__syncthreads();");
        LINE("acc_%d = across_warps<%s, %d>(row_%d[%s]);", i, of, m->T / 32, i, turn);
      }
      LINE("if (lane == 0) part_%d[row] = acc_%d;", i, i);
    }
  }
}

// A long row: what a phase computes would fill the registers if the next one used it again.
static void forget_earlier_phase(Map *m) {
  MuseCudaBody *b = &m->body;
  if (m->K * m->V <= MAX_REUSED || m->K == 1) return;
  for (int i = 0; i < m->kernel->body->n_args; i++) {
    const MuseCudaValue *v = &b->value[i];
    if (v->level != MUSE_CUDA_PLACE || !muse_cuda_is_read_plainly(b, v->value)) continue;
    if (!v->kept) {
      LINE("forget(p%d);", i);
      continue;
    }
    LINE("#pragma unroll");
    LINE("for (int k = 0; k < %d; k++)", m->K);
    if (v->packed) {
      LINE("  forget(packed_%s[k]);", v->name);
      continue;
    }
    LINE("#pragma unroll");
    LINE("  for (int l = 0; l < %d; l++) forget(%s[k][l]);", m->V, v->name);
  }
}

static void emit_row(Map *m) {
  MuseCudaBody *b = &m->body;
  muse_cuda_body_at_row(b);
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (r->terminal && r->in_memory) {
      MuseStr offset = {0};
      muse_cuda_row_offset(b, r->op->results[0]->type, "row", &offset);
      LINE("const long long at_%d = %s;", i, muse_str_text(&offset));
      muse_str_free(&offset);
    }
    if (!r->terminal || (r->by_row && !r->of_row_value))
      LINE("%s acc_%d = %s;", muse_cuda_type(dtype_of(r)), i, neutral(r->op));
  }
  load_kept(m);
  for (int phase = 0; phase < m->n_phases; phase++) {
    if (phase > 0) forget_earlier_phase(m);
    if (has_step(m, phase)) {
      open_pieces(m);
      emit_step(m, phase);
      close_block(m);
    }
    if (has_row_reduction(m, phase)) finish_phase(m, phase);
  }
  add_row_sums(m);
  if (m->has_rows) {
    // A result of the rows may lie over an operand that other threads of the team still read.
    if (m->T > 32) LINE("__syncthreads();");
    else if (m->T > 1) LINE("__syncwarp(team_mask);");
    open_block(m, "if (lane == 0) {");
    for (int i = 0; i < yield_of(m)->n_operands; i++)
      if (is_row(m, yield_of(m)->operands[i]))
        LINE("r%d[row] = %s;", i, muse_cuda_ref(b, yield_of(m)->operands[i]));
    close_block(m);
  }
}

static void clear_partials(Map *m, int block) {
  bool any = false;
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal || !r->in_memory) continue;
    LINE("for (long long i = threadIdx.x; i < %lld; i += %d) part_%d[i] = %s;", (long long)r->terminal->elements, block,
         i, neutral(r->op));
    any = true;
  }
  if (any) LINE("__syncthreads();");
}

// Sums of columns that are in shared memory or registers: of the one team, or of all teams in their order.
static void store_column_sums(Map *m) {
  int block = m->T * m->teams, columns = m->T * m->K * m->V;
  for (int i = 0; i < m->n_red; i++) {
    const Reduction *r = &m->red[i];
    if (!r->terminal || !r->has_columns || (r->in_memory && r->shared < 0)) continue;
    const char *type = muse_cuda_type(dtype_of(r));
    if (r->shared >= 0) {
      open_pieces(m);
      LINE("%s sum_%d[%d];", type, i, m->V);
      LINE("load(sum_%d, part_%d + column);", i, i);
      LINE("store(task_%d + column, sum_%d);", i, i);
      close_block(m);
      continue;
    }
    if (m->teams == 1) {
      open_pieces(m);
      LINE("store(part_%d + column, acc_%d[k]);", i, i);
      close_block(m);
      continue;
    }
    // One thread's V numbers lie `block` apart, so that neighbours meet no common bank.
    LINE("__syncthreads();");
    LINE("#pragma unroll");
    LINE("for (int n = 0; n < %d; n++) ((%s *)exchange)[n * %d + threadIdx.x] = acc_%d[n / %d][n %% %d];", m->K * m->V,
         type, block, i, m->V, m->V);
    LINE("__syncthreads();");
    char text[96];
    snprintf(text, sizeof text, "for (int c = threadIdx.x; c < %d; c += %d) {", columns, block);
    open_block(m, text);
    LINE("const int from = (c / %d / %d * %d + c %% %d) * %d + c / %d %% %d;", m->V, m->T, m->V, m->V, block, m->V,
         m->T);
    LINE("%s sum = ((const %s *)exchange)[from];", type, type);
    LINE("for (int t = 1; t < %d; t++) sum = %s::of(sum, ((const %s *)exchange)[from + t * %d]);", m->teams,
         operation(r->op), type, m->T);
    if (m->chunks > 1) LINE("const int column = (int)blockIdx.y * %d + c;", columns);
    else LINE("const int column = c;");
    LINE("if (column < %lld) part_%d[column] = sum;", (long long)m->domain.columns, i);
    close_block(m);
  }
}

static void emit_rows(Map *m) {
  const bool walks = m->walks;
  int block = m->T * m->teams;
  char text[160];
  int64_t blocks = walks ? m->domain.n_tasks : muse_ceil_div(m->domain.rows, m->teams);
  muse_cuda_begin_launch(m->e, (MuseCudaLaunch){.grid_x = blocks,
                                                .grid_y = m->chunks,
                                                .block = block,
                                                .min_blocks = must_fit(m) ? resident(block) : 0,
                                                .shared_bytes = (int)m->shared});
  m->body.depth = 1;
  if (m->shared) LINE("extern __shared__ __align__(128) unsigned char columns_shared[];");
  const char *type = m->domain.rows >= (int64_t)1 << 31 ? "u64" : "unsigned";
  if (m->T == block) LINE("const unsigned lane = threadIdx.x, team = 0;");
  else LINE("const unsigned lane = threadIdx.x %% %du, team = threadIdx.x / %du;", m->T, m->T);
  if (m->has_rows && m->T > 1 && m->T <= 32)
    LINE("const unsigned team_mask = %#xu << (threadIdx.x & %du);", m->T == 32 ? 0xffffffffu : (1u << m->T) - 1u,
         31 & ~(m->T - 1));
  declare_partials(m);
  if (exchange_bytes(m))
    LINE("__shared__ __align__(16) unsigned char exchange[%lld];", (long long)exchange_bytes(m));
  muse_cuda_body_begin(&m->body);
  store_lone_scalars(m);
  plan_stores(m);
  if (walks) {
    declare_thread_sums(m);
    clear_partials(m, block);
    LINE("const %s first = blockIdx.x * (%s)%lld;", type, type, (long long)m->domain.rows_per_task);
    LINE("const %s end = first + %lldu < %lldu ? first + %lldu : %lldu;", type, (long long)m->domain.rows_per_task,
         (long long)m->domain.rows, (long long)m->domain.rows_per_task, (long long)m->domain.rows);
    if (m->T > 32) LINE("unsigned turn = 0;");
    snprintf(text, sizeof text, "for (%s row = first + team; row < end; row += %d) {", type, m->teams);
    open_block(m, text);
    emit_row(m);
    if (m->T > 32) LINE("turn ^= 1;");
    close_block(m);
    store_block_sums(m, block);
    store_column_sums(m);
  } else {
    LINE("const %s row = (%s)blockIdx.x * %du + team;", type, type, m->teams);
    LINE("if (row >= %lldu) return;", (long long)m->domain.rows);
    emit_row(m);
  }
  m->body.depth = 0;
  LINE("}\n");
}

// ---- the whole ----

static MuseStatus check_results(Map *m) {
  for (int i = 0; i < yield_of(m)->n_operands; i++) {
    const MuseValue *value = yield_of(m)->operands[i];
    if (is_terminal_value(value) || is_full(m, value) || is_row(m, value) || muse_type_elements(value->type) == 1)
      continue;
    return muse_error(
        m->e->diag, MUSE_ERR_FAILED,
        "result %d of map kernel %s has neither the shape of the domain nor of its rows; give it a kernel of "
        "its own",
        i, m->e->name);
  }
  return MUSE_OK;
}

MuseStatus muse_emit_cuda_map(MuseCudaEmitter *e) {
  Map map = {.e = e, .kernel = e->kernel, .T = 1, .teams = 1, .K = 1, .chunks = 1}, *m = &map;
  int64_t workspace;
  muse_map_domain(e->kernel, &m->domain);
  m->n_terminals = muse_map_terminals(e->kernel, &m->domain, m->terminal, &workspace);
  if (!collect(m))
    return muse_error(e->diag, MUSE_ERR_FAILED, "kernel %s has more than %d reductions", e->name, MAX_REDUCTIONS);
  if (yield_of(m)->n_operands > MAX_STORED)
    return muse_error(e->diag, MUSE_ERR_FAILED, "kernel %s has more than %d results", e->name, MAX_STORED);
  MUSE_TRY(check_results(m));
  for (int i = 0; i < yield_of(m)->n_operands; i++) m->has_rows |= is_row(m, yield_of(m)->operands[i]);
  find_phases(m);
  muse_cuda_body_create(&m->body, e->kernel, m->domain.shape, m->domain.dropped, e->out, e->diag);
  m->V = m->body.vector = choose_vector(m);
  if (m->domain.flat && m->n_terminals) {
    cut_tasks(m);
    e->launches->workspace_bytes = place_partials(m);
    emit_flat(m);
  } else if (m->n_red == 0 && !m->has_rows) {
    emit_points(m);
  } else {
    cut_rows(m);
    cut_tasks(m);
    e->launches->workspace_bytes = place_partials(m);
    emit_rows(m);
  }
  if (m->n_terminals) muse_cuda_map_combine(m);
  muse_cuda_body_destroy(&m->body);
  return m->body.status;
}
