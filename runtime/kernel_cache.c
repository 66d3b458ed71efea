// The kernel cache on disk.
#include "runtime/kernel_cache.h"

#include "ir/base/io.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct MuseKernelCache { char *dir; };

// In front of the payload. All fields little endian as the machine has them; the key holds the machine's properties.
typedef struct EntryHeader {
  char magic[8];
  MuseHash key, checksum;
  uint64_t bytes;
} EntryHeader;

static const char magic[8] = "MUSEKRN1";
enum { MAX_ENTRY_BYTES = 64 << 20 };

MuseKernelCache *muse_kernel_cache_open(const char *dir, MuseDiag *diag) {
  MuseStr path = {0};
  MuseDiag *quiet = muse_diag_create();
  MuseStatus status = MUSE_OK;
  if (dir) muse_str_append(&path, dir);
  else status = muse_cache_dir(&path, quiet);
  muse_str_append(&path, "/kernels");
  if (status == MUSE_OK) status = muse_make_dirs(muse_str_text(&path), 0700, quiet);
  MuseKernelCache *cache = NULL;
  if (status != MUSE_OK || access(muse_str_text(&path), W_OK) != 0) {
    const char *why = muse_diag_message(quiet, 0);
    muse_warning_at(diag, (MuseLoc){0}, "kernels are not kept on disk: %s",
                    why ? why : "the cache folder cannot be written; set MUSE_CACHE_DIR");
  } else {
    cache = calloc(1, sizeof *cache);
    MUSE_ASSERT(cache != NULL);
    cache->dir = strdup(muse_str_text(&path));
  }
  muse_diag_destroy(quiet);
  muse_str_free(&path);
  return cache;
}

void muse_kernel_cache_close(MuseKernelCache *cache) {
  if (!cache) return;
  free(cache->dir);
  free(cache);
}

static void entry_path(const MuseKernelCache *cache, MuseHash key, MuseStr *out) {
  char hex[33];
  muse_hash_hex(key, hex);
  muse_str_appendf(out, "%s/%s.bin", cache->dir, hex);
}

bool muse_kernel_cache_get(MuseKernelCache *cache, MuseHash key, void **out_data, size_t *out_bytes) {
  if (!cache) return false;
  MuseStr path = {0}, file = {0};
  MuseDiag *quiet = muse_diag_create();
  entry_path(cache, key, &path);
  bool good = access(muse_str_text(&path), R_OK) == 0 &&
              muse_read_file(muse_str_text(&path), MAX_ENTRY_BYTES, &file, quiet) == MUSE_OK;
  EntryHeader h;
  if (good && file.len >= sizeof h) {
    memcpy(&h, file.data, sizeof h);
    MuseHash sum = muse_hash128(file.data + sizeof h, file.len - sizeof h);
    good = memcmp(h.magic, magic, sizeof magic) == 0 && h.bytes == file.len - sizeof h && h.key.lo == key.lo &&
           h.key.hi == key.hi && h.checksum.lo == sum.lo && h.checksum.hi == sum.hi;
  } else {
    good = false;
  }
  if (good) {
    *out_bytes = file.len - sizeof h;
    *out_data = malloc(*out_bytes ? *out_bytes : 1);
    MUSE_ASSERT(*out_data != NULL);
    memcpy(*out_data, file.data + sizeof h, *out_bytes);
  }
  muse_str_free(&path);
  muse_str_free(&file);
  muse_diag_destroy(quiet);
  return good;
}

void muse_kernel_cache_put(MuseKernelCache *cache, MuseHash key, const void *data, size_t bytes) {
  if (!cache || bytes > MAX_ENTRY_BYTES - sizeof(EntryHeader)) return;
  EntryHeader h = {.key = key, .checksum = muse_hash128(data, bytes), .bytes = bytes};
  memcpy(h.magic, magic, sizeof magic);
  MuseStr path = {0}, file = {0};
  MuseDiag *quiet = muse_diag_create();
  entry_path(cache, key, &path);
  muse_str_append_n(&file, (const char *)&h, sizeof h);
  muse_str_append_n(&file, data, bytes);
  (void)muse_write_file_atomic(muse_str_text(&path), file.data, file.len, quiet);
  muse_str_free(&path);
  muse_str_free(&file);
  muse_diag_destroy(quiet);
}
