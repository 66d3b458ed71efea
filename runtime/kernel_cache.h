#ifndef MUSE_RUNTIME_KERNEL_CACHE_H
#define MUSE_RUNTIME_KERNEL_CACHE_H

#include "ir/base/diag.h"
#include "ir/base/hash.h"

// Compiled kernels on disk: <cache>/kernels/<key>.bin, one file a kernel, written atomically. A file holds its key and
// a checksum; one that does not check out is reported absent and written anew, never used.
typedef struct MuseKernelCache MuseKernelCache;

// dir NULL: muse_cache_dir(). A cache that cannot be used (no home, read-only disk) is a warning, and everything is
// compiled.
MuseKernelCache *muse_kernel_cache_open(const char *dir, MuseDiag *diag);
void muse_kernel_cache_close(MuseKernelCache *cache);
// malloc'ed bytes of the entry; false when absent or damaged. NULL cache: false. Safe from several threads.
bool muse_kernel_cache_get(MuseKernelCache *cache, MuseHash key, void **out_data, size_t *out_bytes);
// failures are silent: it is a cache
void muse_kernel_cache_put(MuseKernelCache *cache, MuseHash key, const void *data, size_t bytes);

#endif
