#ifndef MUSE_RUNTIME_SCHEDULE_H
#define MUSE_RUNTIME_SCHEDULE_H

#include "compiler/plan.h"

// Which calls of a function may run beside each other: calls are spread over streams, and a call waits for the calls of
// other streams that it depends on. Two calls depend on each other when one writes a byte that the other reads or
// writes; such calls keep the order of the plan, so results are those of running them one after another.
typedef struct MuseSchedule MuseSchedule;
enum { MUSE_MAX_STREAMS = 8 };

// workspaces: by call, is the device's workspace used? A call of stream s uses workspace s % n_workspaces, and calls
// that share one do not run beside each other. n_streams >= 1.
MuseSchedule *muse_schedule_create(const MusePlanFunc *function, const bool *workspaces, int n_workspaces,
                                   int n_streams);
void muse_schedule_destroy(MuseSchedule *schedule); // NULL is allowed

int muse_schedule_stream(const MuseSchedule *schedule, int call);
// Calls of other streams that must be done before this one starts, beyond what the stream has already waited for.
int muse_schedule_waits(const MuseSchedule *schedule, int call, int out_calls[MUSE_MAX_STREAMS]);
bool muse_schedule_is_awaited(const MuseSchedule *schedule, int call);

#endif
