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
void muse_unmap_file(MuseMappedFile *file); // a zeroed one is fine

#endif
