#ifndef MUSE_CORPUS_HUB_H
#define MUSE_CORPUS_HUB_H

#include "corpus/datasets.h"
#include "corpus/http.h"
#include "ir/base/vec.h"

// The hub of data sets, in the terms of huggingface.co: repositories with revisions, files in them, a viewer that
// answers with rows, and a cache on this machine laid out as its own tools lay it out:
//   CACHE/datasets--OWNER--NAME/refs/REVISION                 the commit that a branch was at
//   CACHE/datasets--OWNER--NAME/blobs/HASH(.incomplete)       files, by the hash that the hub gives for them
//   CACHE/datasets--OWNER--NAME/snapshots/COMMIT/PATH         links to them
typedef struct MuseHub {
  MuseHttp *http;
  const char *endpoint, *viewer; // without a final '/'
  const char *cache;
  bool offline;                  // only the cache
} MuseHub;

typedef struct MuseHubFile {
  char *path;                    // in the repository
  char *hash;                    // SHA-256 of a large file, else the id of its Git blob
  bool is_sha256;
  uint64_t size;
} MuseHubFile;
typedef MUSE_VEC(MuseHubFile) MuseHubFiles;
void muse_hub_files_free(MuseHubFiles *files);

// Where a set's files come from: its own revision with a pattern, or the Parquet conversion.
const char *muse_hub_revision(const MuseDataset *set);
// The commit that a revision is at now; offline, the one it was at when the cache saw it.
MuseStatus muse_hub_commit(const MuseHub *hub, const MuseDataset *set, MuseStr *out_commit, MuseDiag *diag);
// The files of a set at a commit, sorted by path; at least one. Offline, those in the cache.
MuseStatus muse_hub_list(const MuseHub *hub, const MuseDataset *set, const char *commit, MuseHubFiles *out_files,
                         MuseDiag *diag);
// Makes sure that a file is in the cache, whole and with the right hash. out_path: where.
// MUSE_ERR_DATA: the hub sends another file than it announces, twice.
MuseStatus muse_hub_file(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file,
                         MuseStr *out_path, MuseDiag *diag);
// Takes it out of the cache.
void muse_hub_drop_file(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file);

typedef enum MuseRowsVerdict { MUSE_ROWS_OK, MUSE_ROWS_END, MUSE_ROWS_UNAVAILABLE } MuseRowsVerdict;
// A page of at most 100 rows from the viewer: `row` gets the text of each (empty: none, or cut by the viewer).
// io_revision: empty at first, then the revision that all pages must have. UNAVAILABLE: the viewer does not serve it.
MuseStatus muse_hub_rows(const MuseHub *hub, const MuseDataset *set, int64_t first, int64_t n, MuseStr *io_revision,
                         MuseStatus (*row)(void *user, const char *text, size_t length, bool is_cut, MuseDiag *diag),
                         void *user, int64_t *out_n_rows, MuseRowsVerdict *out_verdict, MuseDiag *diag);

#endif
