// schedule: at level "kernel", orders the ops of a function so that few bytes are alive at one time.
//   before: %a = kernel %w0 ...; %b = kernel %w1 ...; %x = kernel %a ...; %y = kernel %b ...
//   after:  %a = kernel %w0 ...; %x = kernel %a ...; %b = kernel %w1 ...; %y = kernel %b ...
// The order of the program is kept but for two rules, which look at bytes alone:
//   eager: an op that frees at least as much as it makes stands as early as its operands allow (the product of a
//          matrix' gradient, which is the last to read two activations, and writes to a buffer);
//   lazy:  an op that makes more than what it would keep alive by waiting stands where its result is first needed (a
//          weight of 8 bits that becomes one of 32).
// Both, each alone, and the order as it was are compared by the most bytes alive at one time, and the smallest wins; of
// equal ones the first of: as it was, eager, lazy, both. Legal because ops are pure: any topological order gives the
// same values. Arguments, and results that are bound to buffers, live outside and cost nothing; the workspaces of
// kernels, which do not depend on the order, are left out. Who reads an argument in front of the op that overwrites its
// buffer stays in front of it, so that nothing has to be copied.
#include "passes/rewrite.h"

#include "ir/base/status.h"

#include <string.h>

typedef struct Scheduler {
  MuseFunc *fn;
  MuseArena *arena;
  MuseOp **op; // in program order; op->mark is the index
  int n;
  // Roots: values that are not results of a reshape, which is an alias. By value id; 0 bytes for what lives outside.
  int *root;
  bool *is_arg;
  int64_t *bytes;
  int n_values;
  int *reader_start, *readers; // by root: the ops other than reshapes that read it or an alias, each once
  int *read_start, *reads;     // by op: the roots of its operands, each once (of a reshape: none)
  bool *lazy;                  // by op
  int *writer;                 // by root: the op whose result overwrites the buffer of this argument; -1
  int *written, *next_written; // by op, by root: the arguments that it overwrites as a list of roots; -1: end
  // The order that is being made.
  int *order, n_order;
  bool eager, *placed;
  int *missing;  // by op: operands that are not there yet, and readers of what it overwrites
  int *unread;   // by root: readers that are not placed yet
  int *heap, n_heap;
  bool *queued;
} Scheduler;

// ---- the function as arrays ----

static bool is_alias(const MuseOp *op) { return op->kind == MUSE_OP_reshape; }

static void find_roots(Scheduler *s) {
  s->n_values = muse_func_number(s->fn);
  s->root = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 1);
  s->bytes = MUSE_NEW_ARRAY(s->arena, int64_t, s->n_values + 1);
  s->is_arg = MUSE_NEW_ARRAY(s->arena, bool, s->n_values + 1);
  for (int i = 0; i < s->fn->body.n_args; i++) {
    const int id = s->fn->body.args[i]->id;
    s->root[id] = id;
    s->is_arg[id] = true;
  }
  for (int i = 0; i < s->n; i++)
    for (int k = 0; k < s->op[i]->n_results; k++) {
      const MuseValue *v = s->op[i]->results[k];
      s->root[v->id] = is_alias(s->op[i]) ? s->root[s->op[i]->operands[0]->id] : v->id;
      if (!is_alias(s->op[i])) s->bytes[v->id] = muse_type_bytes(v->type);
    }
  const MuseOp *ret = s->fn->body.last;
  for (int i = 0; i < ret->n_operands; i++)
    if (muse_func_result_buffer(s->fn, i)) s->bytes[s->root[ret->operands[i]->id]] = 0;
}

static void find_readers(Scheduler *s) {
  int *stamp = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 1), total = 0;
  s->read_start = MUSE_NEW_ARRAY(s->arena, int, s->n + 1);
  for (int i = 0; i < s->n; i++) total += s->op[i]->n_operands;
  s->reads = MUSE_NEW_ARRAY(s->arena, int, total + 1);
  s->readers = MUSE_NEW_ARRAY(s->arena, int, total + 1);
  s->reader_start = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 2);
  int n = 0;
  for (int i = 0; i < s->n; i++) {
    s->read_start[i] = n;
    for (int k = 0; k < s->op[i]->n_operands && !is_alias(s->op[i]); k++) {
      int root = s->root[s->op[i]->operands[k]->id];
      if (stamp[root] == i + 1) continue;
      stamp[root] = i + 1;
      s->reads[n++] = root;
      s->reader_start[root + 2]++;
    }
  }
  s->read_start[s->n] = n;
  for (int i = 2; i <= s->n_values; i++) s->reader_start[i] += s->reader_start[i - 1];
  for (int i = 0; i < s->n; i++)
    for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++)
      s->readers[s->reader_start[s->reads[e] + 1]++] = i;
}

static int n_readers(const Scheduler *s, int root) { return s->reader_start[root + 1] - s->reader_start[root]; }

static int64_t made_by(const Scheduler *s, const MuseOp *op) {
  int64_t sum = 0;
  for (int i = 0; i < op->n_results && !is_alias(op); i++) sum += s->bytes[op->results[i]->id];
  return sum;
}

static void find_lazy(Scheduler *s) {
  s->lazy = MUSE_NEW_ARRAY(s->arena, bool, s->n);
  for (int i = 0; i < s->n; i++) {
    int64_t kept = 0;
    for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++) kept += s->bytes[s->reads[e]];
    s->lazy[i] = is_alias(s->op[i]) || made_by(s, s->op[i]) > kept;
  }
}

// Whether `reader` has to stand in front of the op that overwrites the argument `root`.
static bool comes_before_writer(const Scheduler *s, int root, int reader) { return reader < s->writer[root]; }

static const MuseBuffer *buffer_named(const MuseFunc *fn, const char *name) {
  return name ? muse_module_buffer(fn->module, name) : NULL;
}

static void find_writers(Scheduler *s) {
  const MuseOp *ret = s->fn->body.last;
  s->writer = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 1);
  s->next_written = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 1);
  s->written = MUSE_NEW_ARRAY(s->arena, int, s->n);
  for (int i = 0; i <= s->n_values; i++) s->writer[i] = -1;
  for (int i = 0; i < s->n; i++) s->written[i] = -1;
  int *arg_of = MUSE_NEW_ARRAY(s->arena, int, s->fn->module->n_buffers); // by buffer: id of its argument + 1
  for (int k = 0; k < s->fn->body.n_args; k++) {
    const MuseBuffer *b = buffer_named(s->fn, muse_func_arg_buffer(s->fn, k));
    if (b) arg_of[b->index] = s->fn->body.args[k]->id + 1;
  }
  for (int i = 0; i < ret->n_operands; i++) {
    const MuseBuffer *b = buffer_named(s->fn, muse_func_result_buffer(s->fn, i));
    const MuseOp *def = ret->operands[i]->def;
    while (def && is_alias(def)) def = def->operands[0]->def;
    if (!b || !def || !arg_of[b->index]) continue;
    const int root = arg_of[b->index] - 1, op = (int)def->mark;
    if (s->writer[root] >= 0) continue;
    s->writer[root] = op;
    s->next_written[root] = s->written[op];
    s->written[op] = root;
  }
}

// ---- the most bytes alive ----

static int64_t most_alive(const Scheduler *s, const int *order) {
  int *left = MUSE_NEW_ARRAY(s->arena, int, s->n_values + 1);
  for (int v = 0; v < s->n_values; v++) left[v] = n_readers(s, v);
  int64_t now = 0, most = 0;
  for (int p = 0; p < s->n; p++) {
    const int i = order[p];
    const MuseOp *op = s->op[i];
    if (is_alias(op)) continue;
    now += made_by(s, op);
    if (now > most) most = now;
    for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++)
      if (--left[s->reads[e]] == 0) now -= s->bytes[s->reads[e]];
    for (int k = 0; k < op->n_results; k++)
      if (n_readers(s, op->results[k]->id) == 0) now -= s->bytes[op->results[k]->id];
  }
  return most;
}

// ---- an order ----

// Whether the op, if it were next, would free as much as it makes (nothing against nothing counts, when it reads
// something that others can free then).
static bool is_eager(const Scheduler *s, int i) {
  int64_t freed = 0, read = 0;
  for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++) {
    read += s->bytes[s->reads[e]];
    if (s->unread[s->reads[e]] == 1) freed += s->bytes[s->reads[e]];
  }
  return read > 0 && freed >= made_by(s, s->op[i]);
}

// Ops that may be eager, smallest index first: they are few at a time, and nearly always one.
static void queue(Scheduler *s, int i) {
  if (!s->eager || s->placed[i] || s->queued[i] || s->missing[i] > 0 || s->op[i] == s->fn->body.last) return;
  s->queued[i] = true;
  int at = s->n_heap++;
  for (; at > 0 && s->heap[at - 1] < i; at--) s->heap[at] = s->heap[at - 1];
  s->heap[at] = i;
}

// Places op i, whose operands are there; queues the ops for which that changes something.
static void place_op(Scheduler *s, int i) {
  const MuseOp *op = s->op[i];
  s->placed[i] = true;
  s->order[s->n_order++] = i;
  for (int k = 0; k < op->n_results; k++) {
    const int root = s->root[op->results[k]->id];
    if (is_alias(op)) continue;
    for (int e = s->reader_start[root]; e < s->reader_start[root + 1]; e++)
      if (--s->missing[s->readers[e]] == 0) queue(s, s->readers[e]);
  }
  for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++) {
    const int root = s->reads[e];
    if (comes_before_writer(s, root, i) && --s->missing[s->writer[root]] == 0) queue(s, s->writer[root]);
    if (--s->unread[root] != 1) continue;
    for (int r = s->reader_start[root]; r < s->reader_start[root + 1]; r++) queue(s, s->readers[r]);
  }
}

static void place_aliases_of(Scheduler *s, int i) {
  for (int k = 0; k < s->op[i]->n_operands; k++) {
    MuseOp *def = s->op[i]->operands[k]->def;
    if (!def || !is_alias(def) || s->placed[def->mark]) continue;
    place_aliases_of(s, (int)def->mark);
    place_op(s, (int)def->mark);
  }
}

static void place_eager(Scheduler *s) {
  while (s->n_heap) {
    const int i = s->heap[--s->n_heap];
    s->queued[i] = false;
    if (s->placed[i] || !is_eager(s, i)) continue;
    place_aliases_of(s, i);
    place_op(s, i);
  }
}

// Places op i with all that it needs, in the order of the program.
static void place_with_operands(Scheduler *s, int i) {
  // Depth first by an explicit stack: chains of lazy ops may be long.
  int *stack = s->heap + s->n, n = 0;
  stack[n++] = i;
  while (n) {
    const int top = stack[n - 1];
    int first = -1;
    for (int k = 0; k < s->op[top]->n_operands; k++) {
      const MuseOp *def = s->op[top]->operands[k]->def;
      if (def && !s->placed[def->mark] && (first < 0 || def->mark < first)) first = (int)def->mark;
    }
    for (int root = s->written[top]; root >= 0; root = s->next_written[root])
      for (int e = s->reader_start[root]; e < s->reader_start[root + 1]; e++) {
        const int reader = s->readers[e];
        if (comes_before_writer(s, root, reader) && !s->placed[reader] && (first < 0 || reader < first)) first = reader;
      }
    if (first >= 0) {
      stack[n++] = first;
      continue;
    }
    n--;
    if (!s->placed[top]) place_op(s, top);
    place_eager(s);
  }
}

static int *make_order(Scheduler *s, bool eager, bool lazy) {
  s->order = MUSE_NEW_ARRAY(s->arena, int, s->n);
  s->n_order = s->n_heap = 0;
  s->eager = eager;
  memset(s->placed, 0, sizeof *s->placed * (size_t)s->n);
  memset(s->queued, 0, sizeof *s->queued * (size_t)s->n);
  memset(s->missing, 0, sizeof *s->missing * (size_t)s->n);
  for (int v = 0; v < s->n_values; v++) s->unread[v] = n_readers(s, v);
  for (int i = 0; i < s->n; i++)
    for (int e = s->read_start[i]; e < s->read_start[i + 1]; e++) {
      const int root = s->reads[e];
      if (!s->is_arg[root]) s->missing[i]++;
      if (comes_before_writer(s, root, i)) s->missing[s->writer[root]]++;
    }
  for (int i = 0; i < s->n - 1; i++)
    if (!s->placed[i] && !(lazy && s->lazy[i])) place_with_operands(s, i);
  for (int i = 0; i < s->n; i++) // what only return reads, or nothing
    if (!s->placed[i]) place_with_operands(s, i);
  MUSE_ASSERT(s->n_order == s->n);
  return s->order;
}

bool muse_pass_schedule(MusePassCtx *cx, MuseFunc *fn) {
  if (strcmp(muse_attr_text_or(&cx->module->attrs, "level", "tensor"), "kernel") != 0) return false;
  Scheduler s = {.fn = fn, .arena = cx->scratch};
  for (MuseOp *op = fn->body.first; op; op = op->next) op->mark = s.n++;
  s.op = MUSE_NEW_ARRAY(s.arena, MuseOp *, s.n);
  for (MuseOp *op = fn->body.first; op; op = op->next) s.op[op->mark] = op;
  find_roots(&s);
  find_readers(&s);
  find_lazy(&s);
  find_writers(&s);
  s.placed = MUSE_NEW_ARRAY(s.arena, bool, s.n);
  s.queued = MUSE_NEW_ARRAY(s.arena, bool, s.n);
  s.missing = MUSE_NEW_ARRAY(s.arena, int, s.n);
  s.unread = MUSE_NEW_ARRAY(s.arena, int, s.n_values + 1);
  s.heap = MUSE_NEW_ARRAY(s.arena, int, 2 * s.n + 1); // the second half is a stack
  int *best = NULL, *program = MUSE_NEW_ARRAY(s.arena, int, s.n);
  for (int i = 0; i < s.n; i++) program[i] = i;
  int64_t least = most_alive(&s, program);
  for (int form = 1; form < 4; form++) {
    int *order = make_order(&s, form & 1, form & 2);
    int64_t bytes = most_alive(&s, order);
    if (bytes < least) least = bytes, best = order;
  }
  if (!best) return false;
  for (int i = 0; i < s.n; i++) muse_op_unlink(s.op[i]);
  for (int i = 0; i < s.n; i++) muse_op_append(s.op[best[i]], &fn->body);
  return true;
}
