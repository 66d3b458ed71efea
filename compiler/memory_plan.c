// The memory planner: results into their buffers, results over operands that die, and offsets in the slab for the rest
// by "greedy by size" packing of intervals (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
// Inference", 2020): largest first, each into the smallest gap that fits between tensors alive at the same time.
#include "compiler/memory_plan.h"

#include "compiler/memory_flow.h"
#include "ir/base/checked.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SLAB ((int64_t)1 << 60)

// A piece of the slab: one tensor, several that follow each other in place, or the workspace of a kernel.
typedef struct Piece {
  int64_t bytes, offset;
  int begin, end; // first and last op, both included
  int holder;     // the root that holds it now; -1 for a workspace
} Piece;

typedef struct Planner {
  MuseFunc *func;
  const MuseMemoryHooks *hooks;
  MuseArena *arena;
  MuseMemoryFlow flow;
  bool *bound;    // by root: lives in a buffer
  int *piece_of;  // by root: index of its piece; -1
  int *workspace; // by op: index of the piece of its workspace; -1
  Piece *pieces;
  int n_pieces;
} Planner;

// --- results into buffers ---

static MuseValue *insert_copy(MuseFunc *func, MuseValue *from) {
  MuseOp *copy = muse_op_create(func->module, MUSE_OP_kernel, 1, &from, 1, &from->type);
  muse_attr_set_text(func->module, &copy->attrs, "skeleton", "map");
  muse_attr_set_text(func->module, &copy->attrs, "name", "copy");
  MuseRegion *body = muse_op_create_body(func->module, copy);
  MuseValue *arg = muse_region_add_arg(func->module, body, from->type);
  muse_op_append(muse_op_create(func->module, MUSE_OP_yield, 1, &arg, 0, NULL), body);
  if (from->def) {
    copy->loc = from->def->loc;
    copy->layer = from->def->layer;
    copy->stage = from->def->stage;
  }
  muse_op_insert_before(copy, func->body.last);
  return copy->results[0];
}

// Gives every bound result a kernel result of its own: arguments and values that are returned twice are copied, all
// before any copy of the next step, so that they still see the old values of the buffers.
static void separate_results(Planner *pl) {
  MuseFunc *func = pl->func;
  MuseOp *ret = func->body.last;
  bool *taken = MUSE_NEW_ARRAY(pl->arena, bool, pl->flow.n_values);
  bool *written = MUSE_NEW_ARRAY(pl->arena, bool, func->module->n_buffers); // by index
  for (int i = 0; i < ret->n_operands; i++) {
    const MuseBuffer *b = muse_memory_result_buffer(func, i);
    if (b) written[b->index] = true;
  }
  for (int i = 0; i < ret->n_operands; i++) {
    const MuseBuffer *b = muse_memory_result_buffer(func, i);
    int root = pl->flow.root[ret->operands[i]->id];
    if (pl->flow.def[root] >= 0) {
      if (b && taken[root]) ret->operands[i] = insert_copy(func, ret->operands[i]);
      else if (b) taken[root] = true;
      continue;
    }
    const MuseBuffer *source = muse_memory_arg_buffer(func, pl->flow.values[root]->index);
    if (source == b) continue; // stays as it is
    if (b || written[source->index]) ret->operands[i] = insert_copy(func, ret->operands[i]);
  }
}

// Copies the results whose buffer is still needed when their kernel runs. Such a copy reads a kernel's result only, and
// stands behind all readers of arguments.
static void copy_late_results(Planner *pl) {
  MuseFunc *func = pl->func;
  MuseOp *ret = func->body.last;
  int *arg_of = MUSE_NEW_ARRAY(pl->arena, int, func->module->n_buffers); // by buffer: id of its argument + 1
  for (int i = 0; i < func->body.n_args; i++) {
    arg_of[muse_memory_arg_buffer(func, i)->index] = func->body.args[i]->id + 1;
  }
  for (int i = 0; i < ret->n_operands; i++) {
    const MuseBuffer *b = muse_memory_result_buffer(func, i);
    int root = pl->flow.root[ret->operands[i]->id], arg = b ? arg_of[b->index] - 1 : -1;
    if (arg < 0 || arg == root) continue;
    const MuseValue *value = pl->flow.values[root];
    int def = pl->flow.def[root], last = pl->flow.last[arg];
    if (last < def || (last == def && muse_memory_in_place(&pl->flow, pl->hooks, value->def, value->index, arg)))
      continue;
    ret->operands[i] = insert_copy(func, ret->operands[i]);
  }
}

// --- pieces ---

static int add_piece(Planner *pl, int64_t bytes, int begin, int end, int holder) {
  pl->pieces[pl->n_pieces] = (Piece){muse_round_up(bytes, MUSE_MEMORY_ALIGN), -1, begin, end, holder};
  return pl->n_pieces++;
}

// The piece of an operand that dies here and that this result may take over; -1.
static int dying_piece(Planner *pl, const MuseOp *kernel, int p, int result) {
  for (int i = 0; i < kernel->n_operands; i++) {
    int root = pl->flow.root[kernel->operands[i]->id], k = pl->piece_of[root];
    if (k < 0 || pl->flow.last[root] != p || pl->pieces[k].holder != root) continue;
    if (muse_memory_in_place(&pl->flow, pl->hooks, kernel, result, root)) return k;
  }
  return -1;
}

static MuseStatus make_pieces(Planner *pl, MuseDiag *diag) {
  int64_t sum = 0;
  for (int p = 0; p < pl->flow.n_ops; p++) {
    const MuseOp *op = pl->flow.ops[p];
    pl->workspace[p] = -1;
    if (op->kind != MUSE_OP_kernel) continue;
    int first = pl->n_pieces;
    for (int i = 0; i < op->n_results; i++) {
      int id = op->results[i]->id, last = pl->flow.last[id];
      if (pl->bound[id]) continue;
      int k = dying_piece(pl, op, p, i);
      if (k >= 0) {
        pl->pieces[k].end = last;
        pl->pieces[k].holder = id;
      } else {
        k = add_piece(pl, muse_type_bytes(op->results[i]->type), p, last, id);
      }
      pl->piece_of[id] = k;
    }
    int64_t bytes = pl->hooks->workspace_bytes(op);
    if (bytes > 0) pl->workspace[p] = add_piece(pl, bytes, p, p, -1);
    for (int k = first; k < pl->n_pieces; k++) {
      if (pl->pieces[k].bytes > MAX_SLAB || (sum += pl->pieces[k].bytes) > MAX_SLAB) {
        return muse_error_at(
            diag, MUSE_ERR_NO_FIT, op->loc,
            "the tensors of function @%s need more than 2^60 bytes; make the model or the batch smaller",
            pl->func->name);
      }
    }
  }
  return MUSE_OK;
}

// The most bytes alive at one time.
static int64_t most_alive(const Planner *pl) {
  int64_t *change = MUSE_NEW_ARRAY(pl->arena, int64_t, pl->flow.n_ops + 1);
  for (int k = 0; k < pl->n_pieces; k++) {
    change[pl->pieces[k].begin] += pl->pieces[k].bytes;
    change[pl->pieces[k].end + 1] -= pl->pieces[k].bytes;
  }
  int64_t now = 0, most = 0;
  for (int p = 0; p < pl->flow.n_ops; p++) {
    now += change[p];
    if (now > most) most = now;
  }
  return most;
}

// --- packing ---

// What has been placed, by offset. Lifetimes stand in arrays of their own, because nearly all time goes into comparing
// them.
typedef struct Placed {
  int *begin, *end, *piece;
  int *near; // scratch: positions of those alive with the one to be placed
  int n;
} Placed;

typedef struct Order {
  double weight;
  int begin, index;
} Order;

static int compare_order(const void *pa, const void *pb) {
  const Order *a = pa, *b = pb;
  if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  return a->index < b->index ? -1 : a->index > b->index;
}

// The start of the smallest gap of at least the piece's size between pieces alive with it; behind them when there is
// none.
static int64_t best_gap(const Planner *pl, const int64_t *offsets, const Placed *placed, const Piece *piece) {
  int n_near = 0;
  for (int i = 0; i < placed->n; i++) {
    placed->near[n_near] = i;
    n_near += (placed->begin[i] <= piece->end) & (placed->end[i] >= piece->begin);
  }
  int64_t top = 0, best = -1, best_bytes = INT64_MAX;
  for (int i = 0; i < n_near; i++) {
    int other = placed->piece[placed->near[i]];
    int64_t gap = offsets[other] - top, end = offsets[other] + pl->pieces[other].bytes;
    if (gap >= piece->bytes && gap < best_bytes) {
      best = top;
      best_bytes = gap;
    }
    if (end > top) top = end;
  }
  return best >= 0 ? best : top;
}

static void insert_int(int *data, int n, int at, int value) {
  memmove(data + at + 1, data + at, sizeof *data * (size_t)(n - at));
  data[at] = value;
}

// Places the pieces in the order given; the slab's size.
static int64_t pack(const Planner *pl, const Order *order, Placed *placed, int64_t *out_offsets) {
  int64_t slab = 0;
  for (placed->n = 0; placed->n < pl->n_pieces; placed->n++) {
    int n = placed->n, index = order[n].index;
    const Piece *piece = &pl->pieces[index];
    int64_t offset = best_gap(pl, out_offsets, placed, piece);
    int low = 0, high = n;
    while (low < high) {
      int middle = (low + high) / 2;
      if (out_offsets[placed->piece[middle]] < offset) low = middle + 1;
      else high = middle;
    }
    insert_int(placed->begin, n, low, piece->begin);
    insert_int(placed->end, n, low, piece->end);
    insert_int(placed->piece, n, low, index);
    out_offsets[index] = offset;
    if (offset + piece->bytes > slab) slab = offset + piece->bytes;
  }
  return slab;
}

// Largest first; where that wastes more than a hundredth, largest area (bytes times lifetime) first too, and the better
// is kept.
static int64_t place_pieces(Planner *pl, int64_t live) {
  Order *order = MUSE_NEW_ARRAY(pl->arena, Order, pl->n_pieces);
  int64_t *best = MUSE_NEW_ARRAY(pl->arena, int64_t, pl->n_pieces),
          *other = MUSE_NEW_ARRAY(pl->arena, int64_t, pl->n_pieces);
  Placed placed = {.begin = MUSE_NEW_ARRAY(pl->arena, int, pl->n_pieces + 1),
                   .end = MUSE_NEW_ARRAY(pl->arena, int, pl->n_pieces + 1),
                   .piece = MUSE_NEW_ARRAY(pl->arena, int, pl->n_pieces + 1),
                   .near = MUSE_NEW_ARRAY(pl->arena, int, pl->n_pieces + 1)};
  int64_t slab = INT64_MAX;
  for (int attempt = 0; attempt < 2 && slab > live + live / 100; attempt++) {
    for (int k = 0; k < pl->n_pieces; k++) {
      const Piece *piece = &pl->pieces[k];
      order[k] = (Order){(double)piece->bytes, piece->begin, k};
      if (attempt == 1) order[k].weight *= piece->end - piece->begin + 1;
    }
    qsort(order, (size_t)pl->n_pieces, sizeof *order, compare_order);
    int64_t bytes = pack(pl, order, &placed, other);
    if (bytes < slab) {
      int64_t *swap = best;
      best = other;
      other = swap;
      slab = bytes;
    }
  }
  for (int k = 0; k < pl->n_pieces; k++) pl->pieces[k].offset = best[k];
  return slab;
}

static void write_attrs(Planner *pl, int64_t slab, int64_t live) {
  MuseModule *module = pl->func->module;
  for (int p = 0; p < pl->flow.n_ops; p++) {
    MuseOp *op = pl->flow.ops[p];
    if (op->kind != MUSE_OP_kernel) continue;
    int64_t few[16], *offsets = op->n_results <= 16 ? few : MUSE_NEW_ARRAY(pl->arena, int64_t, op->n_results);
    for (int i = 0; i < op->n_results; i++) {
      int k = pl->piece_of[op->results[i]->id];
      offsets[i] = k >= 0 ? pl->pieces[k].offset : -1;
    }
    muse_attr_set_ints(module, &op->attrs, "offset", offsets, op->n_results);
    muse_attr_remove(&op->attrs, "workspace");
    if (pl->workspace[p] >= 0) {
      int64_t workspace[2] = {pl->hooks->workspace_bytes(op), pl->pieces[pl->workspace[p]].offset};
      muse_attr_set_ints(module, &op->attrs, "workspace", workspace, 2);
    }
  }
  int64_t buffers = 0;
  for (int i = 0; i < module->n_buffers; i++) {
    buffers += muse_round_up(muse_type_bytes(module->buffers[i]->type), MUSE_MEMORY_ALIGN);
  }
  muse_attr_set_int(module, &pl->func->attrs, "slab", slab);
  muse_attr_set_int(module, &pl->func->attrs, "live", live);
  muse_attr_set_int(module, &pl->func->attrs, "peak", buffers + slab);
}

static MuseStatus check_sizes(const MuseFunc *func, MuseDiag *diag) {
  int64_t sum = 0;
  for (int i = 0; i < func->module->n_buffers; i++) {
    int64_t bytes = muse_type_bytes(func->module->buffers[i]->type);
    if (bytes > MAX_SLAB || (sum += bytes) > MAX_SLAB) {
      return muse_error(diag, MUSE_ERR_NO_FIT, "the buffers need more than 2^60 bytes; make the model smaller");
    }
  }
  for (int i = 0; i < func->body.n_args; i++) {
    if (!muse_memory_arg_buffer(func, i)) {
      return muse_error(diag, MUSE_ERR_INPUT,
                        "argument %d of function @%s is bound to no buffer; a function that is to run "
                        "needs {buffer = \"name\"} on every argument",
                        i, func->name);
    }
  }
  return MUSE_OK;
}

static MuseStatus plan_func(Planner *pl, MuseDiag *diag) {
  MuseFunc *func = pl->func;
  MUSE_TRY(check_sizes(func, diag));
  pl->flow = muse_memory_flow(func, pl->arena);
  separate_results(pl);
  pl->flow = muse_memory_flow(func, pl->arena);
  copy_late_results(pl);
  pl->flow = muse_memory_flow(func, pl->arena);

  pl->bound = MUSE_NEW_ARRAY(pl->arena, bool, pl->flow.n_values);
  for (int i = 0; i < func->n_results; i++) {
    if (muse_memory_result_buffer(func, i)) pl->bound[pl->flow.root[func->body.last->operands[i]->id]] = true;
  }
  pl->piece_of = MUSE_NEW_ARRAY(pl->arena, int, pl->flow.n_values);
  for (int i = 0; i < pl->flow.n_values; i++) pl->piece_of[i] = -1;
  pl->workspace = MUSE_NEW_ARRAY(pl->arena, int, pl->flow.n_ops);
  pl->pieces = MUSE_NEW_ARRAY(pl->arena, Piece, pl->flow.n_values + pl->flow.n_ops);
  MUSE_TRY(make_pieces(pl, diag));
  int64_t live = most_alive(pl);
  write_attrs(pl, place_pieces(pl, live), live);
  return MUSE_OK;
}

MuseStatus muse_memory_plan_func(MuseFunc *func, const MuseMemoryHooks *hooks, MuseDiag *diag) {
  Planner planner = {.func = func, .hooks = hooks, .arena = muse_arena_create()};
  MuseStatus status = plan_func(&planner, diag);
  muse_arena_destroy(planner.arena);
  return status;
}

static int64_t kernel_workspace(const MuseOp *kernel) {
  MuseKernelInfo info;
  muse_kernel_info(kernel, &info);
  return info.workspace_bytes;
}

const MuseMemoryHooks muse_kernel_memory_hooks = {kernel_workspace, muse_kernel_allows_in_place};

MuseStatus muse_memory_plan(MuseModule *module, MuseDiag *diag) {
  for (MuseFunc *f = module->first_func; f; f = f->next)
    MUSE_TRY(muse_memory_plan_func(f, &muse_kernel_memory_hooks, diag));
  return MUSE_OK;
}
