#ifndef MUSE_RUNTIME_DATA_COMMANDS_H
#define MUSE_RUNTIME_DATA_COMMANDS_H

#include "ir/base/diag.h"
#include "ir/base/options.h"

#include <signal.h>
#include <stdio.h>

// The commands of muse-data.

typedef struct MuseTokenizeOptions {
  MuseTextList inputs, endings;
  const char *tokenizer, *output;
  int64_t threads;         // 0: all cores
  int64_t max_tokens;      // 0: no limit; the document that passes it is the last
  uint64_t max_document;   // bytes; longer documents are left out
  bool keep_duplicates;    // else a document that equals an earlier one is left out
  bool json, quiet;
  volatile sig_atomic_t *stop; // set by a signal
} MuseTokenizeOptions;

// Makes NAME.bin and NAME.idx, and prints what went in to `out`. The result does not depend on the number of threads.
// MUSE_ERR_STOPPED when *stop was set: nothing has been written then.
MuseStatus muse_data_tokenize(const MuseTokenizeOptions *options, FILE *out, MuseDiag *diag);

typedef struct MuseInspectOptions {
  const char *name;
  const char *tokenizer;   // for sets that do not name theirs; NULL: show ids
  int64_t n_documents;     // random ones to show
  int64_t document;        // or this one; negative: random ones
  int64_t max_tokens;      // of a document to show
  int64_t seed;
  bool scan;               // read all ids: largest id, entropy; an id beyond the vocabulary is MUSE_ERR_DATA
  bool json;
} MuseInspectOptions;

MuseStatus muse_data_inspect(const MuseInspectOptions *options, FILE *out, MuseDiag *diag);

// muse-data tokenizer: reads its own options.
MuseStatus muse_data_tokenizer(int argc, char **argv, MuseDiag *diag);

#endif
