#ifndef MUSE_TESTS_FUZZ_FILE_H
#define MUSE_TESTS_FUZZ_FILE_H

#include "ir/base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

// Files and folders for readers that want a path.

// The bytes as a file in memory, whose path is good until the next call with the same *io_fd (-1 before the first).
static inline void fuzz_file(int *io_fd, const void *bytes, size_t size, char out_path[64]) {
  if (*io_fd < 0) *io_fd = memfd_create("fuzz", MFD_CLOEXEC);
  MUSE_ASSERT(*io_fd >= 0 && ftruncate(*io_fd, 0) == 0 && pwrite(*io_fd, bytes, size, 0) == (ssize_t)size);
  snprintf(out_path, 64, "/proc/self/fd/%d", *io_fd);
}

// A new folder below TMPDIR, which the caller of the fuzzer removes.
static inline const char *fuzz_folder(void) {
  static char path[4096];
  const char *parent = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/fuzz-XXXXXX", parent ? parent : "/tmp");
  MUSE_ASSERT(mkdtemp(path));
  return path;
}

#endif
