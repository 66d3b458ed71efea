#ifndef MUSE_CORPUS_SEEN_H
#define MUSE_CORPUS_SEEN_H

#include "ir/base/hash.h"

#include <stdbool.h>
#include <stdint.h>

// The hashes of the documents that were seen: 32 to 64 bytes of memory a document, up to `max` of them.
#define MUSE_SEEN_MAX ((uint64_t)1 << 26)

typedef struct MuseSeen {
  MuseHash *slots; // open addressing, {0,0} is free
  uint64_t n, cap;
  uint64_t max;    // 0: MUSE_SEEN_MAX
  bool full;       // a document came after `max` others, and was not remembered
} MuseSeen;

bool muse_seen_add(MuseSeen *seen, MuseHash hash); // true: it is new
void muse_seen_free(MuseSeen *seen);

#endif
