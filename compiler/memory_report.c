// What occupies the slab of a function where it is fullest: for people who wonder where the memory goes.
#include "compiler/memory_report.h"

#include "compiler/memory_flow.h"
#include "ir/base/status.h"

#include <stdlib.h>

// A tensor of the slab, or a workspace (value NULL), while it occupies memory of its own: one that takes over the
// memory of an operand that dies begins behind that.
typedef struct Tenant {
  const MuseValue *value;
  const MuseOp *kernel;
  int64_t bytes;
  int begin, end, index;
} Tenant;

typedef struct Reporter {
  MuseMemoryFlow flow;
  MuseMemoryMap map;
  Tenant *tenants;
  int n;
} Reporter;

static void find_tenants(Reporter *r, MuseArena *arena) {
  r->tenants = MUSE_NEW_ARRAY(arena, Tenant, r->flow.n_values + r->flow.n_ops);
  for (int p = 0; p < r->flow.n_ops; p++) {
    const MuseOp *op = r->flow.ops[p];
    if (op->kind != MUSE_OP_kernel) continue;
    for (int i = 0; i < op->n_results; i++) {
      const MuseValue *v = op->results[i];
      const MusePlace *place = &r->map.values[v->id];
      if (place->kind != MUSE_PLACE_SLAB) continue;
      int begin = p;
      for (int k = 0; k < op->n_operands; k++) {
        int root = r->flow.root[op->operands[k]->id];
        const MusePlace *old = &r->map.values[root];
        if (r->flow.last[root] == p && old->kind == MUSE_PLACE_SLAB && old->offset == place->offset) begin = p + 1;
      }
      r->tenants[r->n] = (Tenant){v, op, place->bytes, begin, r->flow.last[v->id], r->n};
      r->n++;
    }
    const MusePlace *workspace = &r->map.workspaces[op->mark];
    if (workspace->kind != MUSE_PLACE_SLAB) continue;
    r->tenants[r->n] = (Tenant){NULL, op, workspace->bytes, p, p, r->n};
    r->n++;
  }
}

// The first time at which the most bytes are alive.
static int fullest(const Reporter *r, MuseArena *arena, int64_t *out_bytes) {
  int64_t *change = MUSE_NEW_ARRAY(arena, int64_t, r->flow.n_ops + 2), now = 0;
  for (int i = 0; i < r->n; i++) {
    change[r->tenants[i].begin] += r->tenants[i].bytes;
    if (r->tenants[i].end >= r->tenants[i].begin) change[r->tenants[i].end + 1] -= r->tenants[i].bytes;
    else change[r->tenants[i].begin] -= r->tenants[i].bytes; // taken over and read by nobody
  }
  int at = 0;
  *out_bytes = 0;
  for (int p = 0; p < r->flow.n_ops; p++) {
    now += change[p];
    if (now <= *out_bytes) continue;
    *out_bytes = now;
    at = p;
  }
  return at;
}

static int compare_tenants(const void *pa, const void *pb) {
  const Tenant *a = pa, *b = pb;
  if (a->bytes != b->bytes) return a->bytes > b->bytes ? -1 : 1;
  return a->index - b->index;
}

static void describe_kernel(const MuseOp *op, MuseStr *out) {
  static const char *const stages[] = {[MUSE_STAGE_FORWARD] = " forward", [MUSE_STAGE_BACKWARD] = " backward",
                                       [MUSE_STAGE_UPDATE] = " update"};
  muse_str_append(out, muse_attr_text_or(&op->attrs, "skeleton", "kernel"));
  if (op->layer >= 0) muse_str_appendf(out, ", layer %d", op->layer);
  muse_str_append(out, op->stage < sizeof stages / sizeof *stages && stages[op->stage] ? stages[op->stage] : "");
  if (op->loc.key) muse_str_appendf(out, " (%s)", op->loc.key);
}

static void append_bytes(MuseStr *out, int64_t bytes) {
  MuseStr size = {0};
  muse_str_append_bytes(&size, (uint64_t)bytes);
  muse_str_appendf(out, "  %12s  ", muse_str_text(&size));
  muse_str_free(&size);
}

static void report(Reporter *r, int most, MuseArena *arena, MuseStr *out) {
  int64_t bytes, rest = 0;
  int at = fullest(r, arena, &bytes), n = 0, shown = 0;
  muse_str_appendf(out, "@%s: ", r->flow.func->name);
  muse_str_append_bytes(out, (uint64_t)bytes);
  if (bytes == 0) {
    muse_str_append(out, "\n");
    return;
  }
  muse_str_appendf(out, " at op %d of %d, ", at, r->flow.n_ops);
  describe_kernel(r->flow.ops[at], out);
  muse_str_append(out, "\n");
  Tenant *there = MUSE_NEW_ARRAY(arena, Tenant, r->n);
  for (int i = 0; i < r->n; i++)
    if (r->tenants[i].begin <= at && r->tenants[i].end >= at) there[n++] = r->tenants[i];
  qsort(there, (size_t)n, sizeof *there, compare_tenants);
  for (; shown < n && shown < most; shown++) {
    const Tenant *t = &there[shown];
    append_bytes(out, t->bytes);
    if (t->value) {
      muse_str_appendf(out, "%%%d ", t->value->id);
      muse_type_print(t->value->type, out);
      muse_str_appendf(out, ", ops %d to %d, of ", r->flow.def[t->value->id], t->end);
    } else {
      muse_str_append(out, "workspace of ");
    }
    describe_kernel(t->kernel, out);
    muse_str_append(out, "\n");
  }
  for (int i = shown; i < n; i++) rest += there[i].bytes;
  if (n == shown) return;
  append_bytes(out, rest);
  muse_str_appendf(out, "in %d more\n", n - shown);
}

MuseStatus muse_memory_report(MuseModule *module, int most, MuseStr *out, MuseDiag *diag) {
  MuseStatus status = MUSE_OK;
  for (MuseFunc *f = module->first_func; f && status == MUSE_OK; f = f->next) {
    MuseArena *arena = muse_arena_create();
    Reporter r = {0};
    status = muse_memory_map(f, &muse_kernel_memory_hooks, arena, &r.map, diag);
    if (status == MUSE_OK) {
      r.flow = muse_memory_flow(f, arena);
      find_tenants(&r, arena);
      report(&r, most, arena, out);
    }
    muse_arena_destroy(arena);
  }
  return status;
}
