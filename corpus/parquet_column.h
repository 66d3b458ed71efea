#ifndef MUSE_CORPUS_PARQUET_COLUMN_H
#define MUSE_CORPUS_PARQUET_COLUMN_H

#include "corpus/parquet.h"

// Inside the Parquet reader: the pages of one column chunk as a sequence of values.

typedef struct MuseParquetBuffer { uint8_t *data; size_t len, cap; } MuseParquetBuffer;

// Runs of equal numbers and of packed bits, mixed (the encoding "RLE").
typedef struct MuseRunReader {
  const uint8_t *at, *end;
  int width;                    // bits of a number, 0..32
  uint64_t left;                // numbers of the current run
  bool packed;
  uint32_t value;               // of a run of equal numbers
  uint64_t bit;                 // of packed ones: the next bit from `at` on
} MuseRunReader;

typedef struct MuseParquetColumn {
  const char *file, *name;      // for messages
  const MuseParquetSource *source;
  bool optional;
  // The chunk.
  int codec;
  uint64_t at, end;             // bytes of the file that are still to read
  int64_t values_left;          // of the chunk, beyond the current page
  // The dictionary: text of entry i is dictionary[offsets[i]] .. dictionary[offsets[i + 1] - 4].
  MuseParquetBuffer dictionary;
  uint32_t *offsets;
  size_t n_entries;
  bool has_dictionary;
  // The page.
  MuseParquetBuffer raw, page;
  int encoding;
  int64_t page_left;            // values, with nulls
  bool has_levels;
  MuseRunReader levels, indices;
  const uint8_t *values, *values_end;
  MuseParquetBuffer lengths;    // of DELTA_LENGTH_BYTE_ARRAY: i32 each
  size_t next_length;
} MuseParquetColumn;

// Starts at a chunk: bytes [at, at + bytes) of the file, all of them inside it.
void muse_parquet_column_start(MuseParquetColumn *c, int codec, uint64_t at, uint64_t bytes, int64_t n_values);
MuseStatus muse_parquet_column_next(MuseParquetColumn *c, MuseSlice *out_value, MuseDiag *diag);
void muse_parquet_column_free(MuseParquetColumn *c);

// parquet_codec.c: unpacks `bytes` into exactly out_bytes; false when they are damaged. NULL when the codec is read.
const char *muse_parquet_codec_problem(int codec);
bool muse_parquet_unpack(int codec, const uint8_t *data, size_t bytes, uint8_t *out, size_t out_bytes);

// parquet_encoding.c
void muse_run_start(MuseRunReader *r, const uint8_t *at, const uint8_t *end, int width);
bool muse_run_next(MuseRunReader *r, uint32_t *out_value);
// Lengths of a DELTA_BINARY_PACKED block of exactly n numbers into out (i32 each), *io_at behind it. False when
// damaged.
bool muse_delta_lengths(const uint8_t **io_at, const uint8_t *end, size_t n, MuseParquetBuffer *out);
void muse_parquet_buffer_reserve(MuseParquetBuffer *b, size_t n);

#endif
