// Buffers as they were at one moment. Where the GPU has room, they are copied beside themselves in its memory, which
// takes the stream a few milliseconds, and read from there while kernels run; where it has not, they are copied to host
// memory first, and the stream waits for that.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 8 << 20, NO_TIMING = 2, NON_BLOCKING = 1, ALIGN = 256 };

typedef struct CudaSnapshot {
  MuseSnapshot base;
  MuseCudaExecutor *e;
  size_t *offset;     // by index, in memory or host
  CudaPointer memory; // on the GPU, or 0
  unsigned char *host;
  CudaEvent *taken;
  CudaStream *stream;
  void *pinned; // PIECE bytes
  bool waits;   // the stream waits for the event
} CudaSnapshot;

static void destroy(MuseSnapshot *base) {
  CudaSnapshot *s = (CudaSnapshot *)base;
  const MuseCuda *cuda = s->e->cuda;
  cuda->context_set(s->e->context);
  if (s->stream) cuda->stream_destroy(s->stream);
  if (s->taken) cuda->event_destroy(s->taken);
  if (s->memory) cuda->memory_free(s->memory);
  if (s->pinned) cuda->host_free(s->pinned);
  free(s->host);
  free(s->offset);
  free(s);
}

static MuseStatus read_piece(CudaSnapshot *s, CudaPointer from, void *out, size_t bytes, MuseDiag *diag) {
  const MuseCuda *cuda = s->e->cuda;
  for (size_t at = 0; at < bytes; at += PIECE) {
    size_t n = bytes - at < PIECE ? bytes - at : PIECE;
    int result = cuda->download(s->pinned, from + at, n, s->stream);
    if (result == 0) result = cuda->stream_synchronize(s->stream);
    MUSE_TRY(muse_cuda_check(cuda, result, "reading a checkpoint from the GPU", diag));
    memcpy((unsigned char *)out + at, s->pinned, n);
  }
  return MUSE_OK;
}

static MuseStatus read_snapshot(MuseSnapshot *base, int index, int64_t offset, void *out, size_t bytes,
                                MuseDiag *diag) {
  CudaSnapshot *s = (CudaSnapshot *)base;
  const MuseCuda *cuda = s->e->cuda;
  size_t at = s->offset[index] + (size_t)offset;
  if (s->host) {
    memcpy(out, s->host + at, bytes);
    return MUSE_OK;
  }
  MUSE_TRY(muse_cuda_check(cuda, cuda->context_set(s->e->context), "opening the GPU in a thread", diag));
  if (!s->waits) MUSE_TRY(muse_cuda_check(cuda, cuda->stream_wait(s->stream, s->taken, 0), "a checkpoint", diag));
  s->waits = true;
  return read_piece(s, s->memory + at, out, bytes, diag);
}

static MuseStatus copy_on_gpu(CudaSnapshot *s, const int *buffers, int n, MuseDiag *diag) {
  MuseCudaExecutor *e = s->e;
  for (int i = 0; i < n; i++) {
    size_t bytes = (size_t)muse_type_bytes(e->plan->module->buffers[buffers[i]]->type);
    CudaPointer from = muse_cuda_buffer(e, buffers[i]);
    if (!bytes || !from) continue;
    MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->copy_on_device(s->memory + s->offset[i], from, bytes, e->compute),
                             "copying parameters for a checkpoint", diag));
  }
  return muse_cuda_check(e->cuda, e->cuda->event_record(s->taken, e->compute), "a checkpoint", diag);
}

static MuseStatus copy_to_host(CudaSnapshot *s, const int *buffers, int n, size_t total, MuseDiag *diag) {
  MuseCudaExecutor *e = s->e;
  s->host = calloc(total ? total : 1, 1);
  if (!s->host) {
    MuseStr size = {0};
    muse_str_append_bytes(&size, total);
    MuseStatus status = muse_error(diag, MUSE_ERR_NO_FIT, "a checkpoint needs %s of free memory on the GPU or the host",
                                   muse_str_text(&size));
    muse_str_free(&size);
    return status;
  }
  for (int i = 0; i < n; i++) {
    size_t bytes = (size_t)muse_type_bytes(e->plan->module->buffers[buffers[i]]->type);
    CudaPointer from = muse_cuda_buffer(e, buffers[i]);
    if (bytes && from) MUSE_TRY(muse_cuda_transfer_read(e->transfer, s->host + s->offset[i], from, bytes, diag));
  }
  return MUSE_OK;
}

static MuseStatus take(CudaSnapshot *s, const int *buffers, int n, size_t total, MuseDiag *diag) {
  const MuseCuda *cuda = s->e->cuda;
  MUSE_TRY(muse_cuda_transfer_flush(s->e->transfer, diag));
  if (cuda->memory_allocate(&s->memory, total ? total : 1) != 0) {
    s->memory = 0;
    return copy_to_host(s, buffers, n, total, diag);
  }
  int result = cuda->event_create(&s->taken, NO_TIMING);
  if (result == 0) result = cuda->stream_create(&s->stream, NON_BLOCKING);
  if (result == 0) result = cuda->host_allocate(&s->pinned, PIECE, 0);
  MUSE_TRY(muse_cuda_check(cuda, result, "preparing a checkpoint", diag));
  return copy_on_gpu(s, buffers, n, diag);
}

MuseStatus muse_cuda_snapshot(MuseExecutor *base, const int *buffers, int n, MuseSnapshot **out, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  CudaSnapshot *s = calloc(1, sizeof *s);
  MUSE_ASSERT(s != NULL);
  s->base = (MuseSnapshot){.read = read_snapshot, .destroy = destroy};
  s->e = e;
  s->offset = calloc((size_t)n + 1, sizeof *s->offset);
  MUSE_ASSERT(s->offset != NULL);
  size_t total = 0;
  for (int i = 0; i < n; i++) {
    s->offset[i] = total;
    total += ((size_t)muse_type_bytes(e->plan->module->buffers[buffers[i]]->type) + ALIGN - 1) / ALIGN * ALIGN;
  }
  MuseStatus status = take(s, buffers, n, total, diag);
  if (status != MUSE_OK) destroy(&s->base);
  else *out = &s->base;
  return status;
}
