// Staged copies (see the header).
#include "runtime/cuda_transfer.h"

#include "ir/base/status.h"
#include "ir/base/vec.h"

#include <stdlib.h>
#include <string.h>

enum { N_SLOTS = 4, SLOT_BYTES = 4 << 20, FETCH_BYTES = 1 << 20, MAX_GAP = 4096, NO_TIMING = 2, NON_BLOCKING = 1 };

// Something written: bytes of the slot and where they belong.
typedef struct Piece { CudaPointer to; size_t offset, bytes; } Piece;

// Room for writes, on both sides; free again when `done` has passed.
typedef struct Slot {
  unsigned char *host;
  CudaPointer device;
  CudaEvent *arrived, *done;
  bool used;
} Slot;

typedef struct Fetch { void *out; CudaPointer from; size_t bytes, offset; } Fetch;

struct MuseCudaTransfer {
  const MuseCuda *cuda;
  CudaStream *compute, *copy;
  Slot slot[N_SLOTS];
  int current;
  size_t filled; // of the current slot
  MUSE_VEC(Piece) pieces;
  unsigned char *fetched;
  size_t fetched_bytes;
  MUSE_VEC(Fetch) fetches; // those before n_issued are on the stream
  size_t n_issued;
};

static MuseStatus check(const MuseCudaTransfer *t, int result, MuseDiag *diag) {
  return muse_cuda_check(t->cuda, result, "copying between host and GPU", diag);
}

MuseStatus muse_cuda_transfer_create(const MuseCuda *cuda, CudaStream *compute, MuseCudaTransfer **out,
                                     MuseDiag *diag) {
  MuseCudaTransfer *t = calloc(1, sizeof *t);
  MUSE_ASSERT(t != NULL);
  t->cuda = cuda;
  t->compute = compute;
  int result = cuda->stream_create(&t->copy, NON_BLOCKING);
  if (result == 0) result = cuda->host_allocate((void **)&t->fetched, FETCH_BYTES, 0);
  for (int i = 0; i < N_SLOTS && result == 0; i++) {
    Slot *s = &t->slot[i];
    result = cuda->host_allocate((void **)&s->host, SLOT_BYTES, 0);
    if (result == 0) result = cuda->memory_allocate(&s->device, SLOT_BYTES);
    if (result == 0) result = cuda->event_create(&s->arrived, NO_TIMING);
    if (result == 0) result = cuda->event_create(&s->done, NO_TIMING);
  }
  MuseStatus status = muse_cuda_check(cuda, result, "taking memory for copies to the GPU", diag);
  if (status == MUSE_OK) *out = t;
  else muse_cuda_transfer_destroy(t);
  return status;
}

void muse_cuda_transfer_destroy(MuseCudaTransfer *t) {
  if (!t) return;
  if (t->copy) t->cuda->stream_destroy(t->copy);
  if (t->fetched) t->cuda->host_free(t->fetched);
  for (int i = 0; i < N_SLOTS; i++) {
    Slot *s = &t->slot[i];
    if (s->host) t->cuda->host_free(s->host);
    if (s->device) t->cuda->memory_free(s->device);
    if (s->arrived) t->cuda->event_destroy(s->arrived);
    if (s->done) t->cuda->event_destroy(s->done);
  }
  muse_vec_free(&t->pieces);
  muse_vec_free(&t->fetches);
  free(t);
}

// ---- fetching ----

// Puts copies of what is asked for on the stream: one for each run of neighbours.
static MuseStatus issue_fetches(MuseCudaTransfer *t, MuseDiag *diag) {
  while (t->n_issued < t->fetches.len) {
    Fetch *first = &t->fetches.data[t->n_issued];
    CudaPointer end = first->from + first->bytes;
    size_t n = 1;
    for (; t->n_issued + n < t->fetches.len; n++) {
      const Fetch *f = &first[n];
      if (f->from < end || f->from > end + MAX_GAP || f->from + f->bytes - first->from > FETCH_BYTES / 2) break;
      end = f->from + f->bytes;
    }
    size_t bytes = (size_t)(end - first->from);
    if (t->fetched_bytes + bytes > FETCH_BYTES) return muse_cuda_transfer_wait(t, diag);
    MUSE_TRY(check(t, t->cuda->download(t->fetched + t->fetched_bytes, first->from, bytes, t->compute), diag));
    for (size_t i = 0; i < n; i++) first[i].offset = t->fetched_bytes + (size_t)(first[i].from - first->from);
    t->fetched_bytes += (bytes + 15) & ~(size_t)15;
    t->n_issued += n;
  }
  return MUSE_OK;
}

// After the stream was waited for.
static void deliver(MuseCudaTransfer *t) {
  for (size_t i = 0; i < t->n_issued; i++) {
    const Fetch *f = &t->fetches.data[i];
    memcpy(f->out, t->fetched + f->offset, f->bytes);
  }
  size_t left = t->fetches.len - t->n_issued;
  if (left) memmove(t->fetches.data, t->fetches.data + t->n_issued, left * sizeof *t->fetches.data);
  t->fetches.len = left;
  t->n_issued = t->fetched_bytes = 0;
}

MuseStatus muse_cuda_transfer_fetch(MuseCudaTransfer *t, void *out, CudaPointer from, size_t bytes, MuseDiag *diag) {
  if (t->pieces.len) MUSE_TRY(muse_cuda_transfer_flush(t, diag));
  Fetch f = {.out = out, .from = from, .bytes = bytes};
  muse_vec_push(&t->fetches, f);
  return MUSE_OK;
}

MuseStatus muse_cuda_transfer_wait(MuseCudaTransfer *t, MuseDiag *diag) {
  do {
    // When the room is full this waits for itself, and the rest follows.
    if (t->n_issued == 0) MUSE_TRY(issue_fetches(t, diag));
    MUSE_TRY(muse_cuda_check(t->cuda, t->cuda->stream_synchronize(t->compute), "running kernels on the GPU", diag));
    deliver(t);
  } while (t->fetches.len);
  return MUSE_OK;
}

// ---- writing ----

static MuseStatus flush_writes(MuseCudaTransfer *t, MuseDiag *diag) {
  if (t->pieces.len == 0) return MUSE_OK;
  Slot *s = &t->slot[t->current];
  MUSE_TRY(check(t, t->cuda->upload(s->device, s->host, t->filled, t->copy), diag));
  MUSE_TRY(check(t, t->cuda->event_record(s->arrived, t->copy), diag));
  MUSE_TRY(check(t, t->cuda->stream_wait(t->compute, s->arrived, 0), diag));
  for (size_t i = 0; i < t->pieces.len; i++) {
    const Piece *p = &t->pieces.data[i];
    MUSE_TRY(check(t, t->cuda->copy_on_device(p->to, s->device + p->offset, p->bytes, t->compute), diag));
  }
  MUSE_TRY(check(t, t->cuda->event_record(s->done, t->compute), diag));
  s->used = true;
  t->pieces.len = 0;
  t->filled = 0;
  t->current = (t->current + 1) % N_SLOTS;
  return MUSE_OK;
}

MuseStatus muse_cuda_transfer_flush(MuseCudaTransfer *t, MuseDiag *diag) {
  MUSE_TRY(issue_fetches(t, diag)); // of what was there before the writes
  return flush_writes(t, diag);
}

MuseStatus muse_cuda_transfer_write(MuseCudaTransfer *t, CudaPointer to, const void *data, size_t bytes,
                                    MuseDiag *diag) {
  if (t->fetches.len > t->n_issued) MUSE_TRY(issue_fetches(t, diag));
  while (bytes) {
    if (t->filled == SLOT_BYTES) MUSE_TRY(flush_writes(t, diag));
    Slot *s = &t->slot[t->current];
    if (t->filled == 0 && s->used) MUSE_TRY(check(t, t->cuda->event_synchronize(s->done), diag));
    size_t n = bytes < SLOT_BYTES - t->filled ? bytes : SLOT_BYTES - t->filled;
    Piece *last = t->pieces.len ? &muse_vec_last(&t->pieces) : NULL;
    memcpy(s->host + t->filled, data, n);
    if (last && last->to + last->bytes == to && last->offset + last->bytes == t->filled) {
      last->bytes += n;
    } else {
      Piece p = {.to = to, .offset = t->filled, .bytes = n};
      muse_vec_push(&t->pieces, p);
    }
    t->filled += n;
    to += n;
    data = (const unsigned char *)data + n;
    bytes -= n;
  }
  return MUSE_OK;
}

// ---- reading ----

// Two pieces in turn in the room of the next slots: one travels while the other is copied away.
MuseStatus muse_cuda_transfer_read(MuseCudaTransfer *t, void *out, CudaPointer from, size_t bytes, MuseDiag *diag) {
  MUSE_TRY(muse_cuda_transfer_flush(t, diag));
  size_t asked[2] = {0, 0}, sent = 0, taken = 0;
  Slot *s[2] = {&t->slot[t->current], &t->slot[(t->current + 1) % N_SLOTS]};
  for (int i = 0; i < 2; i++)
    if (s[i]->used) MUSE_TRY(check(t, t->cuda->event_synchronize(s[i]->done), diag));
  for (int i = 0; taken < bytes; i ^= 1) {
    if (asked[i]) {
      MUSE_TRY(check(t, t->cuda->event_synchronize(s[i]->done), diag));
      memcpy((unsigned char *)out + taken, s[i]->host, asked[i]);
      taken += asked[i];
      asked[i] = 0;
    }
    if (sent == bytes) continue;
    asked[i] = bytes - sent < SLOT_BYTES ? bytes - sent : SLOT_BYTES;
    MUSE_TRY(check(t, t->cuda->download(s[i]->host, from + sent, asked[i], t->compute), diag));
    MUSE_TRY(check(t, t->cuda->event_record(s[i]->done, t->compute), diag));
    s[i]->used = true;
    sent += asked[i];
  }
  return MUSE_OK;
}
