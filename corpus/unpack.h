#ifndef MUSE_CORPUS_UNPACK_H
#define MUSE_CORPUS_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The bytes of a regular file, gzip- or zstd-compressed or not, which its first bytes say, not its name. Memory is
// bounded (zstd: windows of at most 128 MiB).
typedef struct MuseUnpack MuseUnpack;

enum { MUSE_UNPACK_UNREADABLE = -1, MUSE_UNPACK_DAMAGED = -2 }; // UNREADABLE: errno says why

MuseUnpack *muse_unpack_open(const char *path); // NULL: unreadable or no regular file, errno says why
// Number of bytes, at least 1; 0 at the end; or one of the negative values.
int64_t muse_unpack_read(MuseUnpack *u, void *out, size_t n);
void muse_unpack_close(MuseUnpack *u); // NULL is allowed

#endif
