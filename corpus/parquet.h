#ifndef MUSE_CORPUS_PARQUET_H
#define MUSE_CORPUS_PARQUET_H

#include "ir/base/diag.h"

#include <stdint.h>

// Reads columns of text from a Parquet file (https://parquet.apache.org/docs/file-format/), row by row. What data sets
// use is read: top-level BYTE_ARRAY columns, required or optional; the encodings PLAIN, dictionary and
// DELTA_LENGTH_BYTE_ARRAY; data pages v1 and v2; snappy, gzip, zstd and no compression. Everything else is refused by
// name. Memory is bounded by a page and a dictionary for each chosen column, whatever the size of the file; other
// columns are never read. Nothing in the file is trusted: every length is held against what is there.

enum { MUSE_PARQUET_MAX_PAGE = 256 << 20, MUSE_PARQUET_MAX_FOOTER = 64 << 20 };

typedef struct MuseParquet MuseParquet;

// Where the bytes come from. `read` fills all of `n` bytes from `at` on, or returns false.
typedef struct MuseParquetSource {
  uint64_t size;
  bool (*read)(void *user, uint64_t at, void *out, size_t n);
  void *user;
} MuseParquetSource;

typedef struct MuseSlice { const char *text; size_t length; } MuseSlice; // text NULL: a null

// MUSE_ERR_INPUT for a file that cannot be read or that is no sound Parquet file; `name` is for messages.
MuseStatus muse_parquet_open(const char *path, MuseParquet **out_file, MuseDiag *diag);
MuseStatus muse_parquet_open_source(const char *name, const MuseParquetSource *source, MuseParquet **out_file,
                                    MuseDiag *diag);
void muse_parquet_close(MuseParquet *file); // NULL is allowed
int64_t muse_parquet_rows(const MuseParquet *file);
// Chooses the columns that rows are made of, once, before the first row.
MuseStatus muse_parquet_select(MuseParquet *file, const char *const *names, int n_names, MuseDiag *diag);
// The next row: one slice a chosen column, valid until the next call. *out_more is false after the last row.
MuseStatus muse_parquet_next(MuseParquet *file, MuseSlice *out_values, bool *out_more, MuseDiag *diag);

#endif
