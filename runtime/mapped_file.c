// Read-only file mappings for the readers of tensors and tokens.
#include "runtime/mapped_file.h"

#include "ir/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t no_bytes[1];

MuseStatus muse_map_file(const char *path, MuseMappedFile *out_file, MuseDiag *diag) {
  *out_file = (MuseMappedFile){0};
  // O_NONBLOCK: opening a FIFO must not wait for a writer before it is refused.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    int error = errno;
    if (muse_is_shortage(error)) return muse_io_error(diag, "open", path, error);
    return muse_error(diag, error == ENOENT || error == ENOTDIR ? MUSE_ERR_INPUT : MUSE_ERR_FAILED,
                      "cannot open '%s': %s", path, strerror(error));
  }
  struct stat st;
  if (fstat(fd, &st) != 0) {
    int error = errno;
    close(fd);
    return muse_error(diag, MUSE_ERR_FAILED, "cannot read the size of '%s': %s", path, strerror(error));
  }
  if (!S_ISREG(st.st_mode)) {
    close(fd);
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is not a regular file", path);
  }
  if (st.st_size == 0) { // mmap refuses empty mappings
    close(fd);
    out_file->data = no_bytes;
    return MUSE_OK;
  }
  void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  int error = errno;
  close(fd);
  if (data == MAP_FAILED)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot map '%s' (%lld bytes): %s", path, (long long)st.st_size,
                      strerror(error));
  *out_file = (MuseMappedFile){data, (uint64_t)st.st_size};
  return MUSE_OK;
}

void muse_unmap_file(MuseMappedFile *file) {
  if (file->data && file->data != no_bytes) munmap((void *)file->data, file->size);
  *file = (MuseMappedFile){0};
}

void muse_release_mapped(const MuseMappedFile *file, uint64_t offset, uint64_t bytes) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), first = (offset + page - 1) / page * page;
  uint64_t last = (offset + bytes) / page * page;
  if (!file->data || file->data == no_bytes || last <= first) return;
  madvise((void *)(file->data + first), last - first, MADV_DONTNEED);
}
