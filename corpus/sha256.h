#ifndef MUSE_CORPUS_SHA256_H
#define MUSE_CORPUS_SHA256_H

#include <stddef.h>
#include <stdint.h>

// SHA-256 (FIPS 180-4), the checksum that the hub gives for its large files.
typedef struct MuseSha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} MuseSha256;

void muse_sha256_start(MuseSha256 *s);
void muse_sha256_update(MuseSha256 *s, const void *data, size_t bytes);
void muse_sha256_hex(MuseSha256 *s, char out_text[65]); // ends the sum

#endif
