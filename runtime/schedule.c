// Streams for the calls of a function (see the header). One pass in the order of the plan: for each buffer, piece of
// the slab and workspace the last call that wrote it is known, and of each stream the last call that read it since.
#include "runtime/schedule.h"

#include "ir/base/status.h"
#include "ir/base/vec.h"

#include <stdlib.h>
#include <string.h>

// Who used a piece of memory last; -1: nobody.
typedef struct Users { int writer, reader[MUSE_MAX_STREAMS]; } Users;

typedef struct Piece { int64_t begin, end; Users users; } Piece;

typedef struct Slot { // of a call
  int stream;
  int wait[MUSE_MAX_STREAMS];  // by stream: the call to wait for, or -1
  int knows[MUSE_MAX_STREAMS]; // by stream: the last call that is done when this one is
  bool awaited;
} Slot;

struct MuseSchedule { int n_streams, n_calls; Slot *slots; };

typedef struct Builder {
  MuseSchedule *s;
  const MusePlanFunc *f;
  Users *buffers;             // by index in the module
  MUSE_VEC(Piece) slab;
  Users workspace[MUSE_MAX_STREAMS];
  int tail[MUSE_MAX_STREAMS]; // last call of each stream, or -1
  int needs[MUSE_MAX_STREAMS]; // of the running call, by stream: the last call that it depends on, or -1
} Builder;

static const Users nobody = {-1, {-1, -1, -1, -1, -1, -1, -1, -1}};

static void need(Builder *b, int call) {
  if (call < 0) return;
  int stream = b->s->slots[call].stream;
  if (call > b->needs[stream]) b->needs[stream] = call;
}

static void need_users(Builder *b, const Users *u, bool readers) {
  need(b, u->writer);
  for (int s = 0; readers && s < b->s->n_streams; s++) need(b, u->reader[s]);
}

static bool overlaps(const Piece *p, MusePlace place) {
  return p->begin < place.offset + place.bytes && place.offset < p->end;
}

// ---- what a call depends on ----

static void collect(Builder *b, MusePlace place, bool writes) {
  if (place.kind == MUSE_PLACE_BUFFER) need_users(b, &b->buffers[place.buffer], writes);
  if (place.kind != MUSE_PLACE_SLAB || place.bytes == 0) return;
  for (size_t i = 0; i < b->slab.len; i++)
    if (overlaps(&b->slab.data[i], place)) need_users(b, &b->slab.data[i].users, writes);
}

static void note_read(Builder *b, MusePlace place, int call, int stream) {
  if (place.kind == MUSE_PLACE_BUFFER) b->buffers[place.buffer].reader[stream] = call;
  if (place.kind != MUSE_PLACE_SLAB || place.bytes == 0) return;
  bool found = false;
  for (size_t i = 0; i < b->slab.len; i++) {
    if (!overlaps(&b->slab.data[i], place)) continue;
    b->slab.data[i].users.reader[stream] = call; // of all of the piece: too much is safe
    found |= b->slab.data[i].begin <= place.offset && place.offset + place.bytes <= b->slab.data[i].end;
  }
  if (found) return;
  Piece p = {place.offset, place.offset + place.bytes, nobody}; // also what nobody wrote in this run
  p.users.reader[stream] = call;
  muse_vec_push(&b->slab, p);
}

// Earlier users of the bytes are done when this call is, so pieces within it are forgotten; those that reach beyond
// stay whole, which is safe.
static void note_write(Builder *b, MusePlace place, int call) {
  Users writer = nobody;
  writer.writer = call;
  if (place.kind == MUSE_PLACE_BUFFER) b->buffers[place.buffer] = writer;
  if (place.kind != MUSE_PLACE_SLAB || place.bytes == 0) return;
  size_t kept = 0;
  for (size_t i = 0; i < b->slab.len; i++) {
    const Piece *p = &b->slab.data[i];
    if (p->begin >= place.offset && p->end <= place.offset + place.bytes) continue;
    b->slab.data[kept++] = *p;
  }
  b->slab.len = kept;
  Piece p = {place.offset, place.offset + place.bytes, writer};
  muse_vec_push(&b->slab, p);
}

// ---- streams ----

// The stream whose last call is the latest that this one depends on; when all those have gone on, the stream whose last
// call lies furthest back.
static int choose_stream(const Builder *b) {
  int best = -1, idle = 0;
  for (int s = 0; s < b->s->n_streams; s++) {
    if (b->needs[s] >= 0 && b->needs[s] == b->tail[s] && (best < 0 || b->needs[s] > b->needs[best])) best = s;
    if (b->tail[s] < b->tail[idle]) idle = s;
  }
  return best >= 0 ? best : idle;
}

// Only what the stream does not know of already.
static void set_waits(Builder *b, int call) {
  MuseSchedule *s = b->s;
  Slot *slot = &s->slots[call];
  int last = b->tail[slot->stream];
  for (int t = 0; t < MUSE_MAX_STREAMS; t++) {
    slot->wait[t] = -1;
    slot->knows[t] = last >= 0 ? s->slots[last].knows[t] : -1;
  }
  // The latest first: what it knows may make the others needless.
  for (;;) {
    int next = -1;
    for (int t = 0; t < s->n_streams; t++)
      if (t != slot->stream && b->needs[t] > slot->knows[t] && (next < 0 || b->needs[t] > b->needs[next])) next = t;
    if (next < 0) break;
    int awaited = slot->wait[next] = b->needs[next];
    s->slots[awaited].awaited = true;
    for (int t = 0; t < s->n_streams; t++)
      if (s->slots[awaited].knows[t] > slot->knows[t]) slot->knows[t] = s->slots[awaited].knows[t];
  }
  slot->knows[slot->stream] = call;
}

static void add_call(Builder *b, int call, bool workspace, int n_workspaces) {
  const MusePlanCall *c = &b->f->calls[call];
  int n = c->n_operands + c->n_results;
  for (int t = 0; t < MUSE_MAX_STREAMS; t++) b->needs[t] = -1;
  for (int i = 0; i < n; i++) collect(b, c->places[i], i >= c->n_operands);
  int stream = b->s->slots[call].stream = choose_stream(b);
  Users *used = &b->workspace[stream % n_workspaces];
  if (workspace) need_users(b, used, true);
  set_waits(b, call);
  b->tail[stream] = call;
  if (workspace) used->writer = call;
  for (int i = 0; i < c->n_operands; i++) note_read(b, c->places[i], call, stream);
  for (int i = c->n_operands; i < n; i++) note_write(b, c->places[i], call);
}

MuseSchedule *muse_schedule_create(const MusePlanFunc *f, const bool *workspaces, int n_workspaces, int n_streams) {
  MUSE_ASSERT(n_streams >= 1 && n_streams <= MUSE_MAX_STREAMS && n_workspaces >= 1);
  int n_buffers = 0;
  for (int c = 0; c < f->n_calls; c++)
    for (int i = 0; i < f->calls[c].n_operands + f->calls[c].n_results; i++)
      if (f->calls[c].places[i].kind == MUSE_PLACE_BUFFER && f->calls[c].places[i].buffer >= n_buffers)
        n_buffers = f->calls[c].places[i].buffer + 1;
  MuseSchedule *s = calloc(1, sizeof *s);
  Builder b = {.s = s, .f = f, .buffers = calloc((size_t)n_buffers + 1, sizeof *b.buffers)};
  MUSE_ASSERT(s && b.buffers);
  s->n_streams = n_streams;
  s->n_calls = f->n_calls;
  s->slots = calloc((size_t)f->n_calls + 1, sizeof *s->slots);
  MUSE_ASSERT(s->slots != NULL);
  for (int i = 0; i < n_buffers; i++) b.buffers[i] = nobody;
  for (int t = 0; t < MUSE_MAX_STREAMS; t++) b.workspace[t] = nobody, b.tail[t] = -1;
  for (int c = 0; c < f->n_calls; c++) add_call(&b, c, workspaces[c], n_workspaces);
  muse_vec_free(&b.slab);
  free(b.buffers);
  return s;
}

void muse_schedule_destroy(MuseSchedule *s) {
  if (!s) return;
  free(s->slots);
  free(s);
}

int muse_schedule_stream(const MuseSchedule *s, int call) { return s->slots[call].stream; }
bool muse_schedule_is_awaited(const MuseSchedule *s, int call) { return s->slots[call].awaited; }

int muse_schedule_waits(const MuseSchedule *s, int call, int out_calls[MUSE_MAX_STREAMS]) {
  int n = 0;
  for (int t = 0; t < s->n_streams; t++)
    if (s->slots[call].wait[t] >= 0) out_calls[n++] = s->slots[call].wait[t];
  return n;
}
