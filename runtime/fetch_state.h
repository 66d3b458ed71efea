#ifndef MUSE_RUNTIME_FETCH_STATE_H
#define MUSE_RUNTIME_FETCH_STATE_H

#include "corpus/datasets.h"
#include "ir/base/vec.h"

#include <stdint.h>

// What a folder of fetched text holds: .fetch.json in it. It pins the commit for a run that goes on, and says where the
// text came from.
typedef struct MuseFetchedShard {
  char *source;          // the file it was made of; "" for rows of the viewer
  uint64_t n_documents, n_bytes, n_left_out;
} MuseFetchedShard;

typedef struct MuseFetchState {
  char *request;         // what was asked for, as text: another request is another set
  char *commit;          // "" before it is known
  bool complete;
  MUSE_VEC(MuseFetchedShard) shards;
} MuseFetchState;

void muse_fetch_state_free(MuseFetchState *state);
// A missing file gives an empty state (request NULL).
MuseStatus muse_fetch_state_load(const char *folder, MuseFetchState *out_state, MuseDiag *diag);
MuseStatus muse_fetch_state_save(const char *folder, const MuseFetchState *state, const MuseDataset *set,
                                 MuseDiag *diag);
// The request as text: everything that decides what the documents are.
void muse_fetch_request(const MuseDataset *set, int64_t max_samples, bool rows, MuseStr *out);
void muse_fetch_state_add(MuseFetchState *state, const char *source, uint64_t n_documents, uint64_t n_bytes,
                          uint64_t n_left_out);
void muse_fetch_state_set(char **field, const char *value);

#endif
