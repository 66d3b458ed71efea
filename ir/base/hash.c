// XXH3 behind MUSE's own names, so that xxhash.h stays in this file.
#include "ir/base/hash.h"

#include "ir/base/status.h"

#include <stdio.h>
#include <xxhash.h>

uint64_t muse_hash64(const void *data, size_t bytes) { return XXH3_64bits(data, bytes); }

static MuseHash from_xxh(XXH128_hash_t hash) { return (MuseHash){.lo = hash.low64, .hi = hash.high64}; }

MuseHash muse_hash128(const void *data, size_t bytes) { return from_xxh(XXH3_128bits(data, bytes)); }

// High half first: the canonical order, as `xxhsum -H2` prints it.
void muse_hash_hex(MuseHash hash, char out_text[33]) {
  snprintf(out_text, 33, "%016llx%016llx", (unsigned long long)hash.hi, (unsigned long long)hash.lo);
}

// A MuseHasher is the library's state; the name only keeps the header free of xxhash.h.
MuseHasher *muse_hasher_create(void) {
  XXH3_state_t *state = XXH3_createState();
  if (!state) muse_out_of_memory(1024); // about that much: the library keeps the size to itself
  XXH3_128bits_reset(state);
  return (MuseHasher *)state;
}

void muse_hasher_update(MuseHasher *hasher, const void *data, size_t bytes) {
  if (bytes) XXH3_128bits_update((XXH3_state_t *)hasher, data, bytes);
}

MuseHash muse_hasher_digest(const MuseHasher *hasher) {
  return from_xxh(XXH3_128bits_digest((const XXH3_state_t *)hasher));
}

MuseHash muse_hasher_finish(MuseHasher *hasher) {
  XXH3_state_t *state = (XXH3_state_t *)hasher;
  MuseHash hash = from_xxh(XXH3_128bits_digest(state));
  XXH3_freeState(state);
  return hash;
}
