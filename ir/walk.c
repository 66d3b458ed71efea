// Walks over all ops of a region, nested regions in place: numbering, uses, replacement.
#include "ir/op.h"

#include "ir/base/status.h"

static int number_region(MuseRegion *region, int id) {
  for (int i = 0; i < region->n_args; i++) region->args[i]->id = id++;
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_results; i++) op->results[i]->id = id++;
    if (op->body) id = number_region(op->body, id);
  }
  return id;
}

int muse_func_number(MuseFunc *func) { return number_region(&func->body, 0); }

static void count_uses(const MuseRegion *region, int *counts, int n_ids) {
  for (const MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_operands; i++) {
      int id = op->operands[i]->id;
      MUSE_ASSERT(id >= 0 && id < n_ids);
      counts[id]++;
    }
    if (op->body) count_uses(op->body, counts, n_ids);
  }
}

int *muse_func_use_counts(MuseFunc *func, MuseArena *arena, int n_ids) {
  int *counts = MUSE_NEW_ARRAY(arena, int, n_ids);
  count_uses(&func->body, counts, n_ids);
  return counts;
}

void muse_replace_uses(MuseRegion *region, MuseValue *from, MuseValue *to) {
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_operands; i++) {
      if (op->operands[i] == from) op->operands[i] = to;
    }
    if (op->body) muse_replace_uses(op->body, from, to);
  }
}

void muse_replace_uses_by_id(MuseRegion *region, MuseValue *const *map, int n_ids) {
  for (MuseOp *op = region->first; op; op = op->next) {
    for (int i = 0; i < op->n_operands; i++) {
      int id = op->operands[i]->id; // values made since the numbering have -1
      if (id >= 0 && id < n_ids && map[id]) op->operands[i] = map[id];
    }
    if (op->body) muse_replace_uses_by_id(op->body, map, n_ids);
  }
}
