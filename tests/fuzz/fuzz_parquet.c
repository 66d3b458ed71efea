// libFuzzer: any bytes as a Parquet file. What is read must lie in memory to its
// last byte; at most 20,000 rows are, for a run of nulls is short in a file and long in time.
#include "corpus/parquet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct Bytes { const uint8_t *data; size_t size; } Bytes;

static bool read_bytes(void *user, uint64_t at, void *out, size_t n) {
  const Bytes *b = user;
  if (at > b->size || n > b->size - at) return false;
  memcpy(out, b->data + at, n);
  return true;
}

static void read_rows(MuseParquet *file, int n_columns, MuseDiag *diag) {
  MuseSlice values[2];
  bool more = true;
  uint64_t sum = 0;
  for (int i = 0; i < 20000 && more; i++) {
    if (muse_parquet_next(file, values, &more, diag) != MUSE_OK) {
      MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
      return;
    }
    for (int c = 0; more && c < n_columns; c++)
      for (size_t k = 0; k < values[c].length; k += k < 64 ? 1 : values[c].length / 16 + 1)
        sum += (uint8_t)values[c].text[k];
  }
  volatile uint64_t used = sum;
  (void)used;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *const columns[2] = {"text", "title"};
  Bytes b = {bytes, size};
  MuseParquetSource source = {size, read_bytes, &b};
  for (int n_columns = 1; n_columns <= 2; n_columns++) {
    MuseDiag *diag = muse_diag_create();
    MuseParquet *file;
    if (muse_parquet_open_source("fuzz", &source, &file, diag) == MUSE_OK) {
      if (muse_parquet_select(file, columns, n_columns, diag) == MUSE_OK) read_rows(file, n_columns, diag);
      muse_parquet_close(file);
    } else {
      MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
    }
    muse_diag_destroy(diag);
  }
  return 0;
}
