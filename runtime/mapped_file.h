#ifndef MUSE_RUNTIME_MAPPED_FILE_H
#define MUSE_RUNTIME_MAPPED_FILE_H

#include "ir/base/diag.h"

#include <stdint.h>

// A regular file mapped read-only. The files MUSE maps are replaced by renaming, never changed in place.
typedef struct MuseMappedFile {
  const uint8_t *data; // never NULL while open
  uint64_t size;
} MuseMappedFile;

MuseStatus muse_map_file(const char *path, MuseMappedFile *out_file, MuseDiag *diag);
// Gives the memory of [offset, offset + bytes) back: it is read from the file again when it is used again.
void muse_release_mapped(const MuseMappedFile *file, uint64_t offset, uint64_t bytes);
void muse_unmap_file(MuseMappedFile *file); // a zeroed one is fine

#endif
