#ifndef MUSE_RUNTIME_RUN_STATE_H
#define MUSE_RUNTIME_RUN_STATE_H

#include "runtime/checkpoint.h"

// state.json of a checkpoint: the run's state, and size and hash of the files beside it. The text carries a checksum of
// itself, so a damaged state is as visible as a damaged tensor file.

typedef struct MuseFileSeal {
  uint64_t bytes;
  MuseHash hash; // XXH3-128
} MuseFileSeal;

typedef struct MuseStateSeals { MuseFileSeal model, train; } MuseStateSeals;

// JSON text of a state. MUSE_ERR_FAILED when config_text is not UTF-8.
MuseStatus muse_run_state_print(const MuseRunState *state, const MuseStateSeals *seals, MuseStr *out, MuseDiag *diag);
// Reads it back, to the same bits. out_state->config_text is on the heap, the caller frees it (also NULL after an
// error).
MuseStatus muse_run_state_parse(const char *path, const char *text, size_t length, MuseRunState *out_state,
                                MuseStateSeals *out_seals, MuseDiag *diag);

#endif
