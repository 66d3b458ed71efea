// Plain, gzip and zstd files as one kind of stream.
#include "corpus/unpack.h"

#include "ir/base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { IN_BYTES = 1 << 17 };

struct MuseUnpack {
  gzFile gz;             // gzip and plain files, which zlib passes on as they are
  int fd;                // zstd
  ZSTD_DStream *zstd;
  ZSTD_inBuffer in;
  bool frame_open, ended;
  char buffer[IN_BYTES];
};

static bool is_zstd(int fd) {
  static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
  unsigned char first[4];
  return pread(fd, first, 4, 0) == 4 && memcmp(first, magic, 4) == 0;
}

MuseUnpack *muse_unpack_open(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  if (fd < 0) return NULL;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    errno = EINVAL;
    return NULL;
  }
  MuseUnpack *u = malloc(sizeof *u);
  if (!u) muse_out_of_memory(sizeof *u);
  u->gz = NULL;
  u->zstd = NULL;
  u->fd = fd;
  u->in = (ZSTD_inBuffer){u->buffer, 0, 0};
  u->frame_open = u->ended = false;
  if (is_zstd(fd)) u->zstd = ZSTD_createDStream();
  else u->gz = gzdopen(fd, "rb");
  if (!u->zstd && !u->gz) muse_out_of_memory(IN_BYTES);
  if (u->gz) gzbuffer(u->gz, IN_BYTES);
  return u;
}

static int64_t read_gz(MuseUnpack *u, void *out, size_t n) {
  errno = 0;
  int got = gzread(u->gz, out, n > 1 << 30 ? 1u << 30 : (unsigned)n), error;
  gzerror(u->gz, &error);
  if (error == Z_MEM_ERROR) errno = ENOMEM;
  if (error == Z_ERRNO || error == Z_MEM_ERROR) return MUSE_UNPACK_UNREADABLE;
  if (got < 0 || (error != Z_OK && error != Z_STREAM_END)) return MUSE_UNPACK_DAMAGED;
  return got;
}

static int64_t read_zstd(MuseUnpack *u, void *out, size_t n) {
  ZSTD_outBuffer o = {out, n, 0};
  while (o.pos == 0) {
    if (u->in.pos == u->in.size && !u->ended) {
      ssize_t got = read(u->fd, u->buffer, IN_BYTES);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return MUSE_UNPACK_UNREADABLE;
      u->in = (ZSTD_inBuffer){u->buffer, (size_t)got, 0};
      u->ended = got == 0;
    }
    if (u->ended && !u->frame_open) return 0;
    size_t before = u->in.pos, result = ZSTD_decompressStream(u->zstd, &o, &u->in);
    if (ZSTD_isError(result)) {
      if (ZSTD_getErrorCode(result) != ZSTD_error_memory_allocation) return MUSE_UNPACK_DAMAGED;
      errno = ENOMEM;
      return MUSE_UNPACK_UNREADABLE;
    }
    u->frame_open = result != 0;
    if (u->ended && u->frame_open && o.pos == 0 && u->in.pos == before) return MUSE_UNPACK_DAMAGED; // cut
  }
  return (int64_t)o.pos;
}

int64_t muse_unpack_read(MuseUnpack *u, void *out, size_t n) {
  return u->gz ? read_gz(u, out, n) : read_zstd(u, out, n);
}

void muse_unpack_close(MuseUnpack *u) {
  if (!u) return;
  if (u->gz) gzclose(u->gz);
  else close(u->fd);
  ZSTD_freeDStream(u->zstd);
  free(u);
}
