// A set of hashes that grows.
#include "corpus/seen.h"

#include "ir/base/status.h"

#include <stdlib.h>

// The slot where the hash is or would be.
static MuseHash *find(MuseHash *slots, uint64_t cap, MuseHash h) {
  uint64_t i = h.lo & (cap - 1);
  while ((slots[i].lo | slots[i].hi) && !(slots[i].lo == h.lo && slots[i].hi == h.hi)) i = (i + 1) & (cap - 1);
  return &slots[i];
}

static void grow(MuseSeen *s) {
  uint64_t cap = s->cap ? s->cap * 2 : 1024;
  MuseHash *slots = calloc(cap, sizeof *slots);
  if (!slots) muse_out_of_memory(cap * sizeof *slots);
  for (uint64_t i = 0; i < s->cap; i++)
    if (s->slots[i].lo | s->slots[i].hi) *find(slots, cap, s->slots[i]) = s->slots[i];
  free(s->slots);
  s->slots = slots;
  s->cap = cap;
}

bool muse_seen_add(MuseSeen *s, MuseHash hash) {
  uint64_t max = s->max ? s->max : MUSE_SEEN_MAX;
  if (!(hash.lo | hash.hi)) hash.hi = 1;
  if (s->cap == 0 || (s->n * 2 >= s->cap && s->n < max)) grow(s);
  MuseHash *slot = find(s->slots, s->cap, hash);
  if (slot->lo | slot->hi) return false;
  if (s->n >= max) s->full = true;
  else *slot = hash, s->n++;
  return true;
}

void muse_seen_free(MuseSeen *s) {
  free(s->slots);
  *s = (MuseSeen){0};
}
