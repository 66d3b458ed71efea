// Reads a memory plan back from the attributes and checks it: the attributes may come from a file that was damaged or
// made up.
#include "compiler/memory_plan.h"

#include "compiler/memory_flow.h"
#include "ir/base/checked.h"

#include <stdarg.h>
#include <string.h>

#define MAX_SLAB ((int64_t)1 << 60)

// A piece of the slab in use; those of one time do not overlap and are kept sorted by offset.
typedef struct Active {
  int64_t offset, end_offset;
  int root; // -1: workspace
} Active;

typedef struct Mapper {
  MuseFunc *func;
  const MuseMemoryHooks *hooks;
  MuseArena *arena;
  MuseMemoryFlow flow;
  MuseMemoryMap *map;
  MuseDiag *diag;
  Active *active;
  int n_active;
  // Roots in the slab by the op after which they are dead, as linked lists: heads + 1 by op, links + 1 by root.
  int *first_ending, *next_ending;
} Mapper;

__attribute__((format(printf, 3, 4))) static MuseStatus fault(Mapper *m, const MuseOp *op, const char *format, ...) {
  char message[512];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  char where[64] = "";
  if (op && op->n_results > 0) snprintf(where, sizeof where, ", kernel of %%%d", op->results[0]->id);
  return muse_error(m->diag, MUSE_ERR_INPUT, "the memory plan of function @%s is damaged%s: %s; run musec again",
                    m->func->name, where, message);
}

static MuseStatus check_piece(Mapper *m, const MuseOp *op, const char *what, int64_t offset, int64_t bytes) {
  int64_t end;
  if (offset < 0 || offset % MUSE_MEMORY_ALIGN != 0) {
    return fault(m, op, "the offset %lld of %s is not a multiple of %d", (long long)offset, what, MUSE_MEMORY_ALIGN);
  }
  if (bytes < 0 || __builtin_add_overflow(offset, bytes, &end) || end > m->map->slab_bytes) {
    return fault(m, op, "%s ends outside the slab of %lld bytes", what, (long long)m->map->slab_bytes);
  }
  return MUSE_OK;
}

// --- places ---

static MuseStatus place_args(Mapper *m) {
  for (int i = 0; i < m->func->body.n_args; i++) {
    const MuseBuffer *b = muse_memory_arg_buffer(m->func, i);
    const MuseValue *value = m->func->body.args[i];
    if (!b) return fault(m, NULL, "argument %d is bound to no buffer", i);
    m->map->values[value->id] = (MusePlace){MUSE_PLACE_BUFFER, b->index, 0, muse_type_bytes(value->type)};
  }
  return MUSE_OK;
}

// A bound result is made in its buffer, where nobody needs the old value any more.
static MuseStatus place_bound_results(Mapper *m) {
  MuseFunc *func = m->func;
  const MuseOp *ret = func->body.last;
  int *arg_of = MUSE_NEW_ARRAY(m->arena, int, func->module->n_buffers); // by buffer: id of its argument + 1
  bool *written = MUSE_NEW_ARRAY(m->arena, bool, func->module->n_buffers);
  for (int i = 0; i < func->body.n_args; i++) {
    arg_of[m->map->values[func->body.args[i]->id].buffer] = func->body.args[i]->id + 1;
  }
  for (int i = 0; i < ret->n_operands; i++) {
    const MuseBuffer *b = muse_memory_result_buffer(func, i);
    if (!b) continue;
    int root = m->flow.root[ret->operands[i]->id], arg = arg_of[b->index] - 1, def = m->flow.def[root];
    if (root == arg) continue; // stays as it is
    MusePlace *place = &m->map->values[root];
    if (def < 0 || place->kind != MUSE_PLACE_NONE)
      return fault(m, NULL, "result %d is not made in buffer '%s'", i, b->name);
    const MuseValue *value = m->flow.values[root];
    *place = (MusePlace){MUSE_PLACE_BUFFER, b->index, 0, muse_type_bytes(value->type)};
    written[b->index] = true;
    if (arg < 0 || m->flow.last[arg] < def) continue;
    if (m->flow.last[arg] > def || !muse_memory_in_place(&m->flow, m->hooks, value->def, value->index, arg)) {
      return fault(m, value->def, "buffer '%s' is overwritten while its old value is needed", b->name);
    }
  }
  for (int i = 0; i < ret->n_operands; i++) {
    if (muse_memory_result_buffer(func, i)) continue;
    int root = m->flow.root[ret->operands[i]->id];
    if (m->flow.def[root] < 0 && written[m->map->values[root].buffer]) {
      return fault(m, NULL, "result %d is an argument whose buffer is overwritten", i);
    }
  }
  return MUSE_OK;
}

static MuseStatus place_kernel(Mapper *m, const MuseOp *op) {
  const MuseAttr *offset = muse_attr_find(&op->attrs, "offset"), *workspace = muse_attr_find(&op->attrs, "workspace");
  if (!offset) return fault(m, op, "the kernel has no offsets");
  for (int i = 0; i < op->n_results; i++) {
    MusePlace *place = &m->map->values[op->results[i]->id];
    int64_t at = offset->ints.data[i], bytes = muse_type_bytes(op->results[i]->type);
    if (place->kind == MUSE_PLACE_BUFFER) {
      if (at != -1) return fault(m, op, "result %d lives in a buffer, but has the offset %lld", i, (long long)at);
      continue;
    }
    MUSE_TRY(check_piece(m, op, "a result", at, bytes));
    *place = (MusePlace){MUSE_PLACE_SLAB, -1, at, bytes};
  }
  int64_t need = m->hooks->workspace_bytes(op), have = workspace ? workspace->ints.data[0] : 0;
  if (have != need) {
    return fault(m, op, "its workspace has %lld bytes, but the kernel needs %lld", (long long)have, (long long)need);
  }
  MusePlace *place = &m->map->workspaces[op->mark];
  *place = (MusePlace){.kind = MUSE_PLACE_NONE};
  if (need == 0) return MUSE_OK;
  MUSE_TRY(check_piece(m, op, "its workspace", workspace->ints.data[1], need));
  *place = (MusePlace){MUSE_PLACE_SLAB, -1, workspace->ints.data[1], need};
  return MUSE_OK;
}

// --- overlap ---

// Index of the first active piece that ends behind `offset`.
static int first_behind(const Mapper *m, int64_t offset) {
  int low = 0, high = m->n_active;
  while (low < high) {
    int middle = (low + high) / 2;
    if (m->active[middle].end_offset <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void remove_active(Mapper *m, int64_t offset, int root) {
  int i = first_behind(m, offset);
  if (i == m->n_active || m->active[i].root != root) return; // taken over in place before
  memmove(m->active + i, m->active + i + 1, sizeof *m->active * (size_t)(m->n_active - i - 1));
  m->n_active--;
}

// `result` of the kernel, or its workspace (-1), comes into use at time p.
static MuseStatus add_active(Mapper *m, const MuseOp *op, int p, int result, const MusePlace *place) {
  int root = result >= 0 ? op->results[result]->id : -1;
  Active piece = {place->offset, place->offset + place->bytes, root};
  int i = first_behind(m, piece.offset);
  Active *other = &m->active[i];
  if (i < m->n_active && other->offset < piece.end_offset) {
    bool in_place = result >= 0 && other->root >= 0 && other->offset == piece.offset &&
                    other->end_offset == piece.end_offset && m->flow.last[other->root] == p &&
                    m->flow.def[other->root] < p && muse_memory_in_place(&m->flow, m->hooks, op, result, other->root);
    if (!in_place) {
      if (result < 0) return fault(m, op, "its workspace overlaps a tensor that is in use");
      return fault(m, op, "result %d overlaps a tensor that is in use", result);
    }
    *other = piece;
    return MUSE_OK;
  }
  memmove(other + 1, other, sizeof *other * (size_t)(m->n_active - i));
  *other = piece;
  m->n_active++;
  return MUSE_OK;
}

static MuseStatus check_overlap(Mapper *m) {
  m->active = MUSE_NEW_ARRAY(m->arena, Active, m->flow.n_values + m->flow.n_ops + 1);
  m->first_ending = MUSE_NEW_ARRAY(m->arena, int, m->flow.n_ops);
  m->next_ending = MUSE_NEW_ARRAY(m->arena, int, m->flow.n_values);
  for (int p = 0; p < m->flow.n_ops; p++) {
    const MuseOp *op = m->flow.ops[p];
    if (op->kind != MUSE_OP_kernel) continue;
    for (int i = 0; i < op->n_results; i++) {
      int id = op->results[i]->id, last = m->flow.last[id];
      const MusePlace *place = &m->map->values[id];
      if (place->kind != MUSE_PLACE_SLAB) continue;
      MUSE_TRY(add_active(m, op, p, i, place));
      m->next_ending[id] = m->first_ending[last];
      m->first_ending[last] = id + 1;
    }
    const MusePlace *workspace = &m->map->workspaces[op->mark];
    if (workspace->kind == MUSE_PLACE_SLAB) {
      MUSE_TRY(add_active(m, op, p, -1, workspace));
      remove_active(m, workspace->offset, -1);
    }
    for (int e = m->first_ending[p]; e; e = m->next_ending[e - 1])
      remove_active(m, m->map->values[e - 1].offset, e - 1);
  }
  return MUSE_OK;
}

static MuseStatus map_func(Mapper *m) {
  const MuseAttr *slab = muse_attr_find(&m->func->attrs, "slab");
  if (!slab || slab->kind != MUSE_ATTR_INT) return fault(m, NULL, "the function has no slab size");
  if (slab->i < 0 || slab->i > MAX_SLAB) return fault(m, NULL, "a slab of %lld bytes cannot be", (long long)slab->i);
  m->flow = muse_memory_flow(m->func, m->arena);
  int n_kernels = 0;
  for (int p = 0; p < m->flow.n_ops; p++) {
    if (m->flow.ops[p]->kind == MUSE_OP_kernel) m->flow.ops[p]->mark = n_kernels++;
  }
  *m->map = (MuseMemoryMap){.n_values = m->flow.n_values, .n_kernels = n_kernels, .slab_bytes = slab->i};
  m->map->values = MUSE_NEW_ARRAY(m->arena, MusePlace, m->flow.n_values);
  m->map->workspaces = MUSE_NEW_ARRAY(m->arena, MusePlace, n_kernels);
  MUSE_TRY(place_args(m));
  MUSE_TRY(place_bound_results(m));
  for (int p = 0; p < m->flow.n_ops; p++) {
    const MuseOp *op = m->flow.ops[p];
    if (op->kind == MUSE_OP_kernel) MUSE_TRY(place_kernel(m, op));
    if (op->kind == MUSE_OP_reshape) m->map->values[op->results[0]->id] = m->map->values[op->operands[0]->id];
  }
  return check_overlap(m);
}

MuseStatus muse_memory_map(MuseFunc *func, const MuseMemoryHooks *hooks, MuseArena *arena, MuseMemoryMap *out_map,
                           MuseDiag *diag) {
  Mapper m = {.func = func, .hooks = hooks, .arena = arena, .map = out_map, .diag = diag};
  return map_func(&m);
}
