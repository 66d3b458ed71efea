#ifndef MUSE_RUNTIME_TRIT_COUNTS_H
#define MUSE_RUNTIME_TRIT_COUNTS_H

#include "runtime/session.h"

// Adds to counts how many of the trits in `rows` packed rows (layouts T2 and T5 of ir/type.h) are -1, 0 and 1.
void muse_count_trits(MuseDtype dtype, const void *packed, int64_t rows, int64_t columns, int64_t counts[3]);

// The packed trits of a plan, per layer: out_counts [n_layers][3], as the device holds them after what was run so far.
// Reads every packed buffer once, in pieces of a few MB. out_any: false when the plan packs none.
MuseStatus muse_session_count_trits(const MuseSession *session, int64_t (*out_counts)[3], bool *out_any,
                                    MuseDiag *diag);

#endif
