#ifndef MUSE_RUNTIME_MIXTURE_H
#define MUSE_RUNTIME_MIXTURE_H

#include "ir/base/diag.h"
#include "ir/base/str.h"

#include <stdbool.h>
#include <stdint.h>

// Where training batches come from: one token set, several mixed by weight, or a tensor of ready batches. What a batch
// holds depends only on the source, the options and the cursor, never on timing; so a run resumes exactly from a saved
// cursor.

#define MUSE_DATA_MAX_SETS 64

typedef struct MuseDataOptions {
  int64_t row_tokens;       // T; a row of a batch holds T + 1 ids, since targets are shifted by one
  int64_t vocab_size;       // an id at or beyond it is MUSE_ERR_DATA with file and offset
  int32_t eos;              // stands after each document, or -1: documents follow each other directly
  uint32_t seed;            // of the order of windows
  bool shuffle;             // false: windows in the order of the files
  double validation_share;  // of the windows, held out and never trained on; 0: none
  uint64_t tokenizer_hash;  // MUSE_ERR_DATA when a set carries another one; 0: not compared
} MuseDataOptions;

// All that a source needs to go on: plain numbers, saved in a checkpoint. Starts as {0}.
typedef struct MuseDataCursor {
  uint64_t fingerprint; // of source and options; 0: fresh. A cursor of something else is MUSE_ERR_DATA.
  uint64_t rows;        // rows drawn so far, all sets together
  uint64_t drawn[MUSE_DATA_MAX_SETS]; // of each set
} MuseDataCursor;

typedef struct MuseDataSetReport {
  const char *name, *path;
  double target;        // share of the rows (and so of the tokens) asked for
  double achieved;      // share of the rows drawn so far; 0 before the first
  int64_t n_tokens, n_documents;
  int64_t n_windows;    // training windows of T + 1 tokens in an epoch
  int64_t n_validation; // windows held out
  double epochs;        // how often the training windows have been gone through
} MuseDataSetReport;

typedef struct MuseDataSource MuseDataSource;

// spec: a token set NAME (NAME.bin + NAME.idx, or a folder NAME with train.bin/.idx and perhaps validation.bin/.idx), a
// recipe *.yaml, or *.safetensors with an integer tensor `tokens [steps, B, T+1]`. Paths in a recipe are relative to
// the working directory. MUSE_ERR_INPUT for a set without a single window of T + 1 tokens.
MuseStatus muse_data_open(const char *spec, const MuseDataOptions *options, MuseDataSource **out_source,
                          MuseDiag *diag);
void muse_data_close(MuseDataSource *source); // NULL is allowed

// Refuses a position of other data or options; one that was never used ({0}) is of this source from here on.
MuseStatus muse_data_check_cursor(const MuseDataSource *source, MuseDataCursor *cursor, MuseDiag *diag);
// The next `batch` rows into out [batch, T+1] and the cursor moved on. The windows of a set come in a new order each
// epoch. A tensor source: `batch` must be its B; after its last step MUSE_ERR_INPUT.
MuseStatus muse_data_next(MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, int32_t *out, MuseDiag *diag);
// The same from the held-out windows, with a cursor of its own: from {0} on always the same rows, for any call pattern.
MuseStatus muse_data_validation_next(MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, int32_t *out,
                                     MuseDiag *diag);
int64_t muse_data_validation_rows(const MuseDataSource *source); // held-out windows, all sets together; 0: none
int64_t muse_data_n_steps(const MuseDataSource *source);         // of a tensor source; -1: without end
int64_t muse_data_batch(const MuseDataSource *source);           // B of a tensor source; -1: any

int muse_data_n_sets(const MuseDataSource *source);
MuseDataSetReport muse_data_report(const MuseDataSource *source, const MuseDataCursor *cursor, int set);
// A table of all sets: name, target and achieved share, tokens, epochs.
void muse_data_report_text(const MuseDataSource *source, const MuseDataCursor *cursor, MuseStr *out);

#endif
