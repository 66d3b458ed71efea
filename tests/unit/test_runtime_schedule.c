// Streams for calls: every two calls that touch the same bytes, one of them writing, must be ordered as in the plan.
#include "ir/base/philox.h"
#include "runtime/schedule.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS = 120, MOST = 4 };

typedef struct Random { uint32_t seed; uint64_t n; } Random;
static int below(Random *r, int n) { return (int)(muse_random_uniform(r->n++, 1, r->seed, 0) * n); }

static MusePlace random_place(Random *r) {
  if (below(r, 3) == 0) return (MusePlace){.kind = MUSE_PLACE_BUFFER, .buffer = below(r, 8), .bytes = 64};
  return (MusePlace){.kind = MUSE_PLACE_SLAB, .offset = 64 * below(r, 40), .bytes = 64 * (1 + below(r, 6))};
}

static bool conflict(MusePlace a, MusePlace b) {
  if (a.kind != b.kind) return false;
  if (a.kind == MUSE_PLACE_BUFFER) return a.buffer == b.buffer;
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

static bool depends(const MusePlanCall *x, const MusePlanCall *y) {
  for (int i = 0; i < x->n_operands + x->n_results; i++)
    for (int j = 0; j < y->n_operands + y->n_results; j++)
      if ((i >= x->n_operands || j >= y->n_operands) && conflict(x->places[i], y->places[j])) return true;
  return false;
}

// before[j][i]: is call i done when call j starts, by streams and waits alone?
static bool before[CALLS][CALLS];

static void close_order(const MuseSchedule *s) {
  int waits[MUSE_MAX_STREAMS + 1]; // at most one a stream, and the stream's own
  memset(before, 0, sizeof before);
  for (int j = 0; j < CALLS; j++) {
    int n = muse_schedule_waits(s, j, waits);
    for (int i = j - 1; i >= 0; i--)
      if (muse_schedule_stream(s, i) == muse_schedule_stream(s, j)) {
        waits[n++] = i;
        break;
      }
    for (int w = 0; w < n; w++) {
      cr_assert(waits[w] < j);
      if (muse_schedule_stream(s, waits[w]) != muse_schedule_stream(s, j))
        cr_assert(muse_schedule_is_awaited(s, waits[w]));
      before[j][waits[w]] = true;
      for (int i = 0; i < CALLS; i++) before[j][i] |= before[waits[w]][i];
    }
  }
}

static int run(uint32_t seed, int n_streams, int n_workspaces) {
  Random r = {seed, 0};
  static MusePlace places[CALLS][MOST * 2];
  static MusePlanCall calls[CALLS];
  bool workspaces[CALLS];
  for (int c = 0; c < CALLS; c++) {
    calls[c] = (MusePlanCall){.n_operands = below(&r, MOST), .n_results = 1 + below(&r, 2), .places = places[c]};
    for (int i = 0; i < calls[c].n_operands + calls[c].n_results; i++) places[c][i] = random_place(&r);
    workspaces[c] = below(&r, 4) == 0;
  }
  MusePlanFunc f = {.name = "f", .calls = calls, .n_calls = CALLS};
  MuseSchedule *s = muse_schedule_create(&f, workspaces, n_workspaces, n_streams);
  close_order(s);
  int used = 0, beside = 0;
  for (int j = 0; j < CALLS; j++) {
    used |= 1 << muse_schedule_stream(s, j);
    cr_assert_lt(muse_schedule_stream(s, j), n_streams);
    for (int i = 0; i < j; i++) {
      bool shared = workspaces[i] && workspaces[j] &&
                    muse_schedule_stream(s, i) % n_workspaces == muse_schedule_stream(s, j) % n_workspaces;
      if (shared || depends(&calls[i], &calls[j])) cr_assert(before[j][i], "seed %u: %d before %d", seed, i, j);
      beside += !before[j][i];
    }
  }
  if (n_streams == 1) cr_assert_eq(used, 1);
  muse_schedule_destroy(s);
  return beside;
}

Test(schedule, dependent_calls_keep_their_order) {
  int beside = 0;
  for (uint32_t seed = 0; seed < 40; seed++)
    beside += run(seed, 1 + (int)(seed % MUSE_MAX_STREAMS), 1 + (int)(seed % 3));
  cr_assert_gt(beside, 1000); // and others need not
}

Test(schedule, one_stream_is_a_chain) { cr_assert_eq(run(7, 1, 1), 0); }

Test(schedule, independent_calls_spread) {
  static MusePlace places[4][2];
  static MusePlanCall calls[4];
  bool workspaces[4] = {0};
  for (int c = 0; c < 4; c++) {
    places[c][0] = (MusePlace){.kind = MUSE_PLACE_BUFFER, .buffer = 2 * c, .bytes = 64};
    places[c][1] = (MusePlace){.kind = MUSE_PLACE_BUFFER, .buffer = 2 * c + 1, .bytes = 64};
    calls[c] = (MusePlanCall){.n_operands = 1, .n_results = 1, .places = places[c]};
  }
  MusePlanFunc f = {.name = "f", .calls = calls, .n_calls = 4};
  MuseSchedule *s = muse_schedule_create(&f, workspaces, 1, 4);
  int used = 0, waits[MUSE_MAX_STREAMS];
  for (int c = 0; c < 4; c++) {
    used |= 1 << muse_schedule_stream(s, c);
    cr_assert_eq(muse_schedule_waits(s, c, waits), 0);
  }
  cr_assert_eq(used, 15);
  muse_schedule_destroy(s);
}
