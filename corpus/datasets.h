#ifndef MUSE_CORPUS_DATASETS_H
#define MUSE_CORPUS_DATASETS_H

#include "corpus/record.h"

// The data sets that `muse-data fetch` knows: a YAML file of
//   datasets:
//     NAME:
//       hub: OWNER/NAME       the set's id on the hub
//       config: en            its configuration (default)
//       split: train          (train)
//       revision: REV         branch, tag or commit of the set (main)
//       files: data/*.parquet files of the set itself, a pattern; without it, the hub's Parquet conversion is used
//       text: COLUMN          or
//       template: "..."       how a record becomes text (corpus/record.h)
//       starts: " = "         rows are lines: a document starts with such a line
//       starts_not: " = = "   ... unless it starts like this
//       description, license: texts
typedef struct MuseDataset {
  const char *name, *hub, *config, *split, *revision;
  const char *files;              // NULL: the Parquet conversion
  const char *starts, *starts_not; // NULL: a row is a document
  const char *description, *license;
  const char *form_text;          // the column or template as it was written
  MuseRecordForm form;
  MuseLoc loc;
} MuseDataset;

typedef struct MuseDatasets {
  MuseDataset *sets;
  int n_sets;
} MuseDatasets;

MuseStatus muse_datasets_parse(const char *file, const char *text, size_t length, MuseArena *arena,
                               MuseDatasets *out_datasets, MuseDiag *diag);
MuseStatus muse_datasets_load(const char *path, MuseArena *arena, MuseDatasets *out_datasets, MuseDiag *diag);
// MUSE_ERR_INPUT names the nearest one.
MuseStatus muse_datasets_find(const MuseDatasets *datasets, const char *name, const MuseDataset **out_set,
                              MuseDiag *diag);

// A pattern of '*' (no '/') and other characters matches all of `text`.
bool muse_pattern_matches(const char *pattern, const char *text);

#endif
