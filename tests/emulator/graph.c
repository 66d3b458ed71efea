// The software GPU's streams, events and graphs. Work is done when it is given, which is one of the orders that streams
// allow. A graph keeps what its capture was given, with what each piece waits for, and runs it in another order that is
// allowed: always the piece that was given last of those that may run. So a dependency that a capture lacks is seen.
#include "tests/emulator/driver.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_WAITS = 64, EXTERNAL = 1 };

typedef struct Graph Graph;
struct Stream {
  Graph *capture;
  int last; // node of the capture, or -1
  int waits[MAX_WAITS], n_waits; // nodes that the next one waits for, beside the last
  struct Stream *next;
};
typedef struct Node {
  Op op;
  int waits[MAX_WAITS + 1], n_waits;
} Node;
struct Graph {
  Node *node;
  int n, room, n_users; // users: the graph and its executables
  Stream *origin;
  int *order;
};

static Stream default_stream = {.last = -1}, *streams;

static int add_node(Stream *s, const Op *op) {
  Graph *g = s->capture;
  if (g->n == g->room) {
    g->room = g->room ? 2 * g->room : 64;
    g->node = realloc(g->node, (size_t)g->room * sizeof *g->node);
    if (!g->node) abort();
  }
  Node *node = &g->node[g->n];
  *node = (Node){.op = *op};
  if (s->last >= 0) node->waits[node->n_waits++] = s->last;
  for (int i = 0; i < s->n_waits; i++) node->waits[node->n_waits++] = s->waits[i];
  s->n_waits = 0;
  s->last = g->n++;
  return 0;
}

int emu_give(Stream *stream, Op *op) {
  Stream *s = stream ? stream : &default_stream;
  if (s->capture) return add_node(s, op);
  const int result = emu_perform(op);
  emu_op_free(op);
  return result;
}

// ---- streams and events ----

EXPORT int cuStreamCreate(Stream **stream, unsigned flags) {
  const int result = emu_lock();
  Stream *s = calloc(1, sizeof *s);
  if (result || !s) return emu_unlock(result ? result : OUT_OF_MEMORY);
  s->last = -1, s->next = streams;
  *stream = streams = s;
  return emu_unlock(0);
}

EXPORT int cuStreamDestroy_v2(Stream *stream) {
  const int result = emu_lock();
  for (Stream **s = &streams; *s; s = &(*s)->next) {
    if (*s != stream) continue;
    *s = stream->next;
    free(stream);
    break;
  }
  return emu_unlock(result);
}

EXPORT int cuStreamSynchronize(Stream *stream) {
  const int result = emu_lock();
  if (stream && stream->capture) return emu_unlock(CAPTURE_UNSUPPORTED);
  return emu_unlock(result);
}

// Was it recorded in a capture that goes on?
static bool is_captured(const Event *event) {
  bool is = false;
  for (const Stream *s = streams; s; s = s->next) is |= s->capture && s->capture == event->capture;
  return is;
}

EXPORT int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
  const int result = emu_lock();
  Stream *s = stream ? stream : &default_stream;
  if (result || !is_captured(event)) return emu_unlock(result);
  if (s->capture != event->capture) { // the stream joins
    if (s->capture) return emu_unlock(CAPTURE_INVALIDATED);
    s->capture = event->capture, s->last = -1, s->n_waits = 0;
  }
  if (event->node >= 0) {
    if (s->n_waits == MAX_WAITS) { // a node that stands for all of them
      const Op nothing = {.kind = OP_NOTHING};
      add_node(s, &nothing);
    }
    s->waits[s->n_waits++] = event->node;
  }
  return emu_unlock(0);
}

EXPORT int cuEventCreate(Event **event, unsigned flags) {
  *event = calloc(1, sizeof **event);
  return *event ? 0 : OUT_OF_MEMORY;
}

EXPORT int cuEventDestroy_v2(Event *event) {
  free(event);
  return 0;
}

EXPORT int cuEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) {
  const int result = emu_lock();
  Stream *s = stream ? stream : &default_stream;
  if (result) return emu_unlock(result);
  Op op = {.kind = OP_RECORD, .event = event};
  if (!s->capture) {
    event->capture = NULL;
    return emu_unlock(emu_give(s, &op));
  }
  if (flags & EXTERNAL) return emu_unlock(emu_give(s, &op));
  if (s->n_waits) { // who waits for the event waits for what the stream waits for
    const Op nothing = {.kind = OP_NOTHING};
    add_node(s, &nothing);
  }
  event->capture = s->capture, event->node = s->last;
  return emu_unlock(0);
}

EXPORT int cuEventRecord(Event *event, Stream *stream) { return cuEventRecordWithFlags(event, stream, 0); }

EXPORT int cuEventSynchronize(Event *event) {
  const int result = emu_lock();
  return emu_unlock(result ? result : is_captured(event) ? CAPTURE_UNSUPPORTED : 0);
}

EXPORT int cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
  const int result = emu_lock();
  if (!result && (start->seconds == 0 || end->seconds == 0)) return emu_unlock(NOT_READY);
  *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
  return emu_unlock(result);
}

// ---- graphs ----

EXPORT int cuStreamBeginCapture_v2(Stream *stream, int mode) {
  const int result = emu_lock();
  if (result || !stream || stream->capture) return emu_unlock(result ? result : CAPTURE_UNSUPPORTED);
  Graph *g = calloc(1, sizeof *g);
  if (!g) return emu_unlock(OUT_OF_MEMORY);
  g->origin = stream, g->n_users = 1;
  stream->capture = g, stream->last = -1, stream->n_waits = 0;
  return emu_unlock(0);
}

static void graph_release(Graph *g) {
  if (!g || --g->n_users > 0) return;
  for (int i = 0; i < g->n; i++) emu_op_free(&g->node[i].op);
  free(g->node);
  free(g->order);
  free(g);
}

// Is every node waited for, in the end, by the last of the stream that the capture began at?
static bool is_joined(const Graph *g, const Stream *origin) {
  bool *reached = calloc((size_t)g->n + 1, sizeof *reached);
  bool all = true;
  if (!reached) return false;
  if (origin->last >= 0) reached[origin->last] = true;
  for (int i = 0; i < origin->n_waits; i++) reached[origin->waits[i]] = true;
  for (int i = g->n - 1; i >= 0; i--) {
    for (int k = 0; k < g->node[i].n_waits && reached[i]; k++) reached[g->node[i].waits[k]] = true;
    all &= reached[i];
  }
  free(reached);
  return all;
}

EXPORT int cuStreamEndCapture(Stream *stream, Graph **graph) {
  const int result = emu_lock();
  Graph *g = stream->capture;
  *graph = NULL;
  if (!g || g->origin != stream) return emu_unlock(result ? result : CAPTURE_INVALIDATED);
  const bool joined = is_joined(g, stream);
  for (Stream *s = streams; s; s = s->next)
    if (s->capture == g) s->capture = NULL, s->last = -1, s->n_waits = 0; // also those that joined
  if (!joined) {
    graph_release(g);
    return emu_unlock(CAPTURE_UNJOINED);
  }
  *graph = g;
  return emu_unlock(result);
}

// The order of a replay: of the nodes that may run, the one that was given last.
static bool find_order(Graph *g) {
  bool *done = calloc((size_t)g->n + 1, sizeof *done);
  g->order = malloc(((size_t)g->n + 1) * sizeof *g->order);
  if (!done || !g->order) return false;
  for (int n = 0; n < g->n; n++) {
    int next = -1;
    for (int i = g->n - 1; i >= 0 && next < 0; i--) {
      bool may = !done[i];
      for (int k = 0; k < g->node[i].n_waits; k++) may &= done[g->node[i].waits[k]];
      if (may) next = i;
    }
    done[next] = true;
    g->order[n] = next;
  }
  free(done);
  return true;
}

EXPORT int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, uint64_t flags) {
  const int result = emu_lock();
  if (!graph->order && !find_order(graph)) return emu_unlock(OUT_OF_MEMORY);
  graph->n_users++;
  *executable = graph;
  return emu_unlock(result);
}

EXPORT int cuGraphLaunch(Graph *executable, Stream *stream) {
  int result = emu_lock();
  if (!result && stream && stream->capture) result = CAPTURE_UNSUPPORTED;
  for (int i = 0; i < executable->n && !result; i++) result = emu_perform(&executable->node[executable->order[i]].op);
  return emu_unlock(result);
}

EXPORT int cuGraphDestroy(Graph *graph) {
  emu_lock();
  graph_release(graph);
  return emu_unlock(0);
}

EXPORT int cuGraphExecDestroy(Graph *executable) { return cuGraphDestroy(executable); }
