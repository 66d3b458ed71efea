// Packing a parameter as soon as it is loaded. See packing.h.
#include "runtime/packing.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { SMALL = 1 << 16 }; // bytes that are not worth giving back

struct MusePacking {
  MuseSession *session;
  const MusePlanFunc *pack;
  bool *needed;  // by call: prepared functions read what it makes
  bool *used;    // by buffer: prepared functions other than @pack read or write it
  bool *missing; // by buffer: not loaded yet
  int *readers;  // by buffer: needed calls that have yet to read it
  int next;      // call
};

static void *zeroes(int n, size_t size) {
  void *p = calloc((size_t)n + 1, size);
  if (!p) muse_out_of_memory((size_t)n * size);
  return p;
}

static bool is_loaded_by_hand(const MuseBuffer *b) {
  return strcmp(b->role, "param") == 0 || strcmp(b->role, "scale") == 0;
}

static const MuseValue *root_of(const MuseValue *v) {
  while (v->def && v->def->kind == MUSE_OP_reshape) v = v->def->operands[0];
  return v;
}

// From the last call to the first: those that write a buffer in use, and those that they read.
static void find_needed(MusePacking *p) {
  MuseMap *read = muse_map_create(); // values of the slab, by their number in the function
  char key[32];
  for (int c = p->pack->n_calls - 1; c >= 0; c--) {
    const MusePlanCall *call = &p->pack->calls[c];
    for (int i = 0; i < call->n_results; i++) {
      const MusePlace *place = &call->places[call->n_operands + i];
      snprintf(key, sizeof key, "%d", call->op->results[i]->id);
      p->needed[c] |= muse_map_get(read, key) || (place->kind == MUSE_PLACE_BUFFER && p->used[place->buffer]);
    }
    for (int i = 0; i < call->n_operands && p->needed[c]; i++) {
      const MuseValue *v = root_of(call->op->operands[i]);
      if (!v->def) {
        p->readers[call->places[i].buffer]++;
        continue;
      }
      snprintf(key, sizeof key, "%d", v->id);
      muse_map_put(read, key, p);
    }
  }
  muse_map_destroy(read);
}

MusePacking *muse_packing_create(MuseSession *s) {
  const MusePlanFunc *pack = muse_plan_func(s->plan, "pack");
  if (!s->inference || !pack || !muse_executor_can_run_calls(s->executor)) return NULL;
  MusePacking *p = zeroes(1, sizeof *p);
  int n = s->module->n_buffers;
  *p = (MusePacking){.session = s,
                     .pack = pack,
                     .needed = zeroes(pack->n_calls, sizeof *p->needed),
                     .used = zeroes(n, sizeof *p->used),
                     .missing = zeroes(n, sizeof *p->missing),
                     .readers = zeroes(n, sizeof *p->readers)};
  for (int i = 0; i < n; i++) {
    p->missing[i] = is_loaded_by_hand(s->module->buffers[i]);
    p->used[i] = muse_executor_uses(s->executor, s->module->buffers[i], "pack");
  }
  find_needed(p);
  return p;
}

void muse_packing_destroy(MusePacking *p) {
  if (!p) return;
  free(p->needed), free(p->used), free(p->missing), free(p->readers);
  free(p);
}

static void release_if_done(MusePacking *p, int buffer) {
  const MuseBuffer *b = p->session->module->buffers[buffer];
  if (p->readers[buffer] > 0 || p->missing[buffer] || p->used[buffer] || !is_loaded_by_hand(b)) return;
  if (muse_type_bytes(b->type) >= SMALL) muse_executor_release(p->session->executor, b);
}

static bool can_run(const MusePacking *p, const MusePlanCall *call) {
  for (int i = 0; i < call->n_operands; i++)
    if (call->places[i].kind == MUSE_PLACE_BUFFER && p->missing[call->places[i].buffer]) return false;
  return true;
}

static MuseStatus advance(MusePacking *p, MuseDiag *diag) {
  for (; p->next < p->pack->n_calls; p->next++) {
    const MusePlanCall *call = &p->pack->calls[p->next];
    if (!p->needed[p->next]) continue;
    if (!can_run(p, call)) return MUSE_OK;
    MUSE_TRY(muse_executor_run_calls(p->session->executor, "pack", p->next, 1, diag));
    for (int i = 0; i < call->n_operands; i++) {
      if (root_of(call->op->operands[i])->def) continue;
      p->readers[call->places[i].buffer]--;
      release_if_done(p, call->places[i].buffer);
    }
  }
  return MUSE_OK;
}

MuseStatus muse_packing_loaded(MusePacking *p, const MuseBuffer *buffer, MuseDiag *diag) {
  p->missing[buffer->index] = false;
  release_if_done(p, buffer->index);
  return advance(p, diag);
}

MuseStatus muse_packing_finish(MusePacking *p, MuseDiag *diag) {
  memset(p->missing, 0, sizeof *p->missing * (size_t)p->session->module->n_buffers);
  return advance(p, diag);
}
