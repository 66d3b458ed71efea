#ifndef MUSE_IR_BASE_HASH_H
#define MUSE_IR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

// XXH3 (libxxhash): not cryptographic, used as cache key and file checksum.
typedef struct MuseHash { uint64_t lo, hi; } MuseHash;

uint64_t muse_hash64(const void *data, size_t bytes);
MuseHash muse_hash128(const void *data, size_t bytes);
void muse_hash_hex(MuseHash hash, char out_text[33]);

// Incremental form, for streams.
typedef struct MuseHasher MuseHasher;
MuseHasher *muse_hasher_create(void);
void muse_hasher_update(MuseHasher *hasher, const void *data, size_t bytes);
MuseHash muse_hasher_digest(const MuseHasher *hasher); // of what came so far; more may follow
MuseHash muse_hasher_finish(MuseHasher *hasher); // 128-bit; equals muse_hash128 of all bytes; destroys the hasher

#endif
