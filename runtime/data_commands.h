#ifndef MUSE_RUNTIME_DATA_COMMANDS_H
#define MUSE_RUNTIME_DATA_COMMANDS_H

#include "ir/base/diag.h"
#include "ir/base/options.h"

#include <signal.h>
#include <stdio.h>

// The commands of muse-data.

#define MUSE_TOKENIZE_SAVE_SECONDS 10 // the default of save_seconds

typedef struct MuseTokenizeOptions {
  MuseTextList inputs, endings;
  const char *tokenizer, *output;
  int64_t threads;         // 0: all cores
  int64_t max_tokens;      // 0: no limit; the document that passes it is the last
  uint64_t max_document;   // bytes; longer documents are left out
  double save_seconds;     // how often what is done is made sure of
  bool keep_duplicates;    // else a document that equals an earlier one is left out
  bool json, quiet;
  volatile sig_atomic_t *stop; // set by a signal
} MuseTokenizeOptions;

// Makes NAME.bin and NAME.idx, and prints what went in to `out`. The result does not depend on the number of threads.
// A call that was stopped (MUSE_ERR_STOPPED: *stop was set) or killed leaves what was there before; the next one with
// the same options and inputs goes on where that one was saved last, and ends with the same bytes.
MuseStatus muse_data_tokenize(const MuseTokenizeOptions *options, FILE *out, MuseDiag *diag);

typedef struct MuseImportOptions {
  MuseTextList inputs;
  const char *output;          // a folder; gets train/ and, with a held-out share, validation/
  const char *column, *form;   // of JSONL and Parquet; form: a template instead of a column, or NULL
  const char *encoding;        // of text files that are not UTF-8, or NULL
  const char *label;           // written beside the result: where it comes from; NULL: nothing
  double validation;           // share of the documents that is set aside, 0 <= share < 1
  uint64_t max_document;       // bytes; longer documents are left out
  int64_t max_documents;       // 0: no limit
  bool nfkc, keep_duplicates;
  bool any_name;               // in folders too, a file with an unknown ending is text
  bool replace;                // an output that is there
  bool json, quiet;
  volatile sig_atomic_t *stop;
} MuseImportOptions;

// Makes JSONL files of documents from files and folders, all or nothing: MUSE_ERR_STOPPED and every failure leave the
// output as it was. The same inputs in the same order give the same bytes.
MuseStatus muse_data_import(const MuseImportOptions *options, FILE *out, MuseDiag *diag);

typedef struct MuseFetchOptions {
  MuseTextList names;
  const char *datasets;        // the file that declares them; NULL: configs/datasets.yaml
  const char *output;          // a folder; gets text/NAME/, and NAME.bin and .idx with `tokenizer`
  const char *tokenizer;       // NULL: no token sets
  const char *viewer;          // of the hub; NULL: from its name
  const char *via;             // rows, files or auto
  MuseTextList else_from;      // where to take text from when the hub cannot be reached
  int64_t max_samples;         // documents of each set; 0: all
  double retry_seconds;
  bool discard;                // downloaded files are removed once their text is out
  bool replace, list, json, quiet;
  volatile sig_atomic_t *stop;
} MuseFetchOptions;

// Fetches data sets from the hub. What a stopped or failed run has finished is kept, and the same command goes on.
MuseStatus muse_data_fetch(const MuseFetchOptions *options, FILE *out, MuseDiag *diag);

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
