// The values of one column chunk of a Parquet file, page by page:
//   [dictionary page] data page ... : header (Thrift) | levels (which values are null) | values, or indices of entries
#include "corpus/parquet_column.h"

#include "corpus/thrift.h"
#include "ir/base/vec.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { DATA_PAGE = 0, INDEX_PAGE = 1, DICTIONARY_PAGE = 2, DATA_PAGE_V2 = 3 };
enum { PLAIN = 0, PLAIN_DICTIONARY = 2, RLE = 3, DELTA_LENGTH = 6, RLE_DICTIONARY = 8 };
enum { FIRST_HEADER = 4096, MAX_HEADER = 16 << 20 };

typedef struct PageHeader {
  int64_t type, unpacked, packed, crc;
  bool has_crc;
  int64_t n_values, encoding, level_encoding;
  int64_t definition_bytes, repetition_bytes; // v2
  bool compressed;                            // v2
} PageHeader;

static MuseStatus damaged(const MuseParquetColumn *c, const char *what, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT,
                    "'%s' is no sound Parquet file: %s in the column '%s'; fetch or write it again", c->file, what,
                    c->name);
}

static const char *encoding_name(int64_t encoding) {
  static const char *const names[] = {"PLAIN", "1", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED",
                                      "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY",
                                      "BYTE_STREAM_SPLIT"};
  return encoding >= 0 && encoding < 10 ? names[encoding] : "unknown";
}

// ---- headers

static void read_page_facts(MuseThrift *t, PageHeader *h) {
  int id = 0;
  for (MuseThriftType type; muse_thrift_field(t, &id, &type);) {
    bool v2 = h->type == DATA_PAGE_V2;
    if (id == 1) h->n_values = muse_thrift_int(t, type);
    else if (id == (v2 ? 4 : 2)) h->encoding = muse_thrift_int(t, type);
    else if (!v2 && h->type == DATA_PAGE && id == 3) h->level_encoding = muse_thrift_int(t, type);
    else if (v2 && id == 5) h->definition_bytes = muse_thrift_int(t, type);
    else if (v2 && id == 6) h->repetition_bytes = muse_thrift_int(t, type);
    else if (v2 && id == 7) h->compressed = muse_thrift_bool(t, type);
    else muse_thrift_skip(t, type);
  }
}

static void read_header(MuseThrift *t, PageHeader *h) {
  *h =
      (PageHeader){.type = -1, .unpacked = -1, .packed = -1, .n_values = -1, .compressed = true, .level_encoding = RLE};
  int id = 0;
  for (MuseThriftType type; muse_thrift_field(t, &id, &type);) {
    if (id == 1) h->type = muse_thrift_int(t, type);
    else if (id == 2) h->unpacked = muse_thrift_int(t, type);
    else if (id == 3) h->packed = muse_thrift_int(t, type);
    else if (id == 4) h->crc = muse_thrift_int(t, type), h->has_crc = true;
    else if (type == MUSE_THRIFT_STRUCT && ((id == 5 && h->type == DATA_PAGE) ||
                                            (id == 7 && h->type == DICTIONARY_PAGE) ||
                                            (id == 8 && h->type == DATA_PAGE_V2)))
      read_page_facts(t, h);
    else muse_thrift_skip(t, type);
  }
}

// Reads the header at c->at and moves behind it. Statistics make headers of any length, so it tries with more and more.
static MuseStatus next_header(MuseParquetColumn *c, PageHeader *out, MuseDiag *diag) {
  for (size_t want = FIRST_HEADER;; want *= 8) {
    size_t n = want < c->end - c->at ? want : (size_t)(c->end - c->at);
    if (n == 0) return damaged(c, "the pages end too early", diag);
    muse_parquet_buffer_reserve(&c->raw, n);
    if (!c->source->read(c->source->user, c->at, c->raw.data, n)) return damaged(c, "unreadable bytes", diag);
    MuseThrift t = {c->raw.data, c->raw.data + n, false, false};
    read_header(&t, out);
    if (!t.bad) {
      c->at += (uint64_t)(t.at - c->raw.data);
      break;
    }
    if (!t.short_of_bytes || n < want || want >= MAX_HEADER) return damaged(c, "a wrong page header", diag);
  }
  if (out->packed < 0 || out->unpacked < 0 || out->packed > MUSE_PARQUET_MAX_PAGE ||
      out->unpacked > MUSE_PARQUET_MAX_PAGE)
    return damaged(c, "a page of a size that no writer makes", diag);
  if ((uint64_t)out->packed > c->end - c->at) return damaged(c, "a page that reaches beyond its chunk", diag);
  return MUSE_OK;
}

// Reads the page's bytes into c->raw and moves behind them.
static MuseStatus read_packed(MuseParquetColumn *c, const PageHeader *h, MuseDiag *diag) {
  size_t n = (size_t)h->packed;
  muse_parquet_buffer_reserve(&c->raw, n + 1);
  if (!c->source->read(c->source->user, c->at, c->raw.data, n)) return damaged(c, "unreadable bytes", diag);
  c->raw.len = n;
  c->at += n;
  if (h->has_crc && (uint32_t)crc32(0, c->raw.data, (uInt)n) != (uint32_t)h->crc)
    return damaged(c, "a page whose checksum is wrong", diag);
  return MUSE_OK;
}

// ---- dictionary

static MuseStatus read_dictionary(MuseParquetColumn *c, const PageHeader *h, MuseDiag *diag) {
  if (c->has_dictionary) return damaged(c, "a second dictionary", diag);
  if (h->encoding != PLAIN && h->encoding != PLAIN_DICTIONARY)
    return damaged(c, "a dictionary that is not PLAIN", diag);
  MUSE_TRY(read_packed(c, h, diag));
  size_t n = (size_t)h->unpacked;
  muse_parquet_buffer_reserve(&c->dictionary, n + 1);
  if (!muse_parquet_unpack(c->codec, c->raw.data, c->raw.len, c->dictionary.data, n))
    return damaged(c, "a dictionary that does not unpack", diag);
  if (h->n_values < 0 || (uint64_t)h->n_values > n / 4) return damaged(c, "a dictionary of a wrong length", diag);
  c->n_entries = (size_t)h->n_values;
  free(c->offsets);
  c->offsets = malloc((c->n_entries + 1) * sizeof *c->offsets);
  if (!c->offsets) muse_out_of_memory((c->n_entries + 1) * sizeof *c->offsets);
  size_t at = 0;
  for (size_t i = 0; i < c->n_entries; i++) {
    uint32_t length;
    if (n - at < 4) return damaged(c, "a dictionary that ends too early", diag);
    memcpy(&length, c->dictionary.data + at, 4);
    at += 4;
    if (length > n - at) return damaged(c, "a dictionary that ends too early", diag);
    c->offsets[i] = (uint32_t)at;
    at += length;
  }
  c->offsets[c->n_entries] = (uint32_t)at + 4;
  c->has_dictionary = true;
  return MUSE_OK;
}

// ---- data pages

// Sets up the levels and values of the page in [at, end); definition bytes < 0: v1, where they carry their length.
static MuseStatus start_values(MuseParquetColumn *c, const PageHeader *h, const uint8_t *at, const uint8_t *end,
                               MuseDiag *diag) {
  if (c->has_levels && h->type == DATA_PAGE) {
    uint32_t bytes;
    if (h->level_encoding != RLE) return damaged(c, "levels that are not RLE", diag);
    if (end - at < 4) return damaged(c, "a page that is too short", diag);
    memcpy(&bytes, at, 4);
    at += 4;
    if (bytes > (size_t)(end - at)) return damaged(c, "levels that reach beyond their page", diag);
    muse_run_start(&c->levels, at, at + bytes, 1);
    at += bytes;
  }
  c->values = at;
  c->values_end = end;
  c->encoding = (int)h->encoding;
  c->page_left = h->n_values;
  switch (h->encoding) {
  case PLAIN: return MUSE_OK;
  case PLAIN_DICTIONARY:
  case RLE_DICTIONARY:
    if (!c->has_dictionary) return damaged(c, "indices without a dictionary", diag);
    // A page of nulls alone may be without the byte that gives the width.
    muse_run_start(&c->indices, at < end ? at + 1 : at, end, at < end ? *at : 0);
    return c->indices.width <= 32 ? MUSE_OK : damaged(c, "indices of more than 32 bits", diag);
  case DELTA_LENGTH: {
    size_t n = 0; // values that are not null: one length each
    MuseRunReader levels = c->levels;
    for (int64_t i = 0; i < h->n_values; i++) {
      uint32_t level = 1;
      if (c->has_levels && !muse_run_next(&levels, &level)) return damaged(c, "levels that end too early", diag);
      n += level == 1;
    }
    c->next_length = 0;
    if (!muse_delta_lengths(&c->values, end, n, &c->lengths)) return damaged(c, "wrong lengths", diag);
    return MUSE_OK;
  }
  default:
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': the column '%s' has the encoding %s, which MUSE does not read; write it as PLAIN or "
                      "dictionary",
                      c->file, c->name, encoding_name(h->encoding));
  }
}

static MuseStatus read_data(MuseParquetColumn *c, const PageHeader *h, MuseDiag *diag) {
  if (h->n_values < 0 || h->n_values > c->values_left) return damaged(c, "a page of too many values", diag);
  MUSE_TRY(read_packed(c, h, diag));
  size_t n = (size_t)h->unpacked, levels = 0;
  c->has_levels = c->optional;
  if (h->type == DATA_PAGE_V2) { // its levels stand before the packed values
    if (h->repetition_bytes != 0 || h->definition_bytes < 0 || (uint64_t)h->definition_bytes > c->raw.len ||
        (uint64_t)h->definition_bytes > n)
      return damaged(c, "levels of a wrong length", diag);
    levels = (size_t)h->definition_bytes;
  }
  muse_parquet_buffer_reserve(&c->page, n + 1);
  memcpy(c->page.data, c->raw.data, levels);
  bool packed = h->type == DATA_PAGE || h->compressed;
  // Writers leave out the packed form of nothing.
  if (n > levels && !muse_parquet_unpack(packed ? c->codec : 0, c->raw.data + levels, c->raw.len - levels,
                                         c->page.data + levels, n - levels))
    return damaged(c, "a page that does not unpack", diag);
  if (h->type == DATA_PAGE_V2) muse_run_start(&c->levels, c->page.data, c->page.data + levels, 1);
  c->values_left -= h->n_values;
  return start_values(c, h, c->page.data + levels, c->page.data + n, diag);
}

static MuseStatus next_page(MuseParquetColumn *c, MuseDiag *diag) {
  PageHeader h;
  MUSE_TRY(next_header(c, &h, diag));
  switch (h.type) {
  case DATA_PAGE:
  case DATA_PAGE_V2: return read_data(c, &h, diag);
  case DICTIONARY_PAGE: return read_dictionary(c, &h, diag);
  default: c->at += (uint64_t)h.packed; return MUSE_OK; // an index, or what a later version adds
  }
}

// ---- values

void muse_parquet_column_start(MuseParquetColumn *c, int codec, uint64_t at, uint64_t bytes, int64_t n_values) {
  c->codec = codec;
  c->at = at;
  c->end = at + bytes;
  c->values_left = n_values;
  c->page_left = 0;
  c->has_dictionary = false;
}

static MuseStatus next_plain(MuseParquetColumn *c, MuseSlice *out, MuseDiag *diag) {
  uint32_t length;
  if (c->values_end - c->values < 4) return damaged(c, "values that end too early", diag);
  memcpy(&length, c->values, 4);
  c->values += 4;
  if (length > (size_t)(c->values_end - c->values)) return damaged(c, "a value that reaches beyond its page", diag);
  *out = (MuseSlice){(const char *)c->values, length};
  c->values += length;
  return MUSE_OK;
}

static MuseStatus next_delta(MuseParquetColumn *c, MuseSlice *out, MuseDiag *diag) {
  int32_t length;
  if ((c->next_length + 1) * 4 > c->lengths.len) return damaged(c, "values that end too early", diag);
  memcpy(&length, c->lengths.data + 4 * c->next_length++, 4);
  if (length < 0 || length > c->values_end - c->values) return damaged(c, "a value that reaches beyond its page", diag);
  *out = (MuseSlice){(const char *)c->values, (size_t)length};
  c->values += length;
  return MUSE_OK;
}

MuseStatus muse_parquet_column_next(MuseParquetColumn *c, MuseSlice *out_value, MuseDiag *diag) {
  while (c->page_left == 0) MUSE_TRY(next_page(c, diag));
  c->page_left--;
  *out_value = (MuseSlice){NULL, 0};
  uint32_t level = 1, index;
  if (c->has_levels && !muse_run_next(&c->levels, &level)) return damaged(c, "levels that end too early", diag);
  if (level > 1) return damaged(c, "a level beyond 1", diag);
  if (level == 0) return MUSE_OK;
  if (c->encoding == PLAIN) return next_plain(c, out_value, diag);
  if (c->encoding == DELTA_LENGTH) return next_delta(c, out_value, diag);
  if (!muse_run_next(&c->indices, &index)) return damaged(c, "indices that end too early", diag);
  if (index >= c->n_entries) return damaged(c, "an index beyond the dictionary", diag);
  *out_value = (MuseSlice){(const char *)c->dictionary.data + c->offsets[index],
                           c->offsets[index + 1] - 4 - c->offsets[index]};
  return MUSE_OK;
}

void muse_parquet_column_free(MuseParquetColumn *c) {
  free(c->dictionary.data);
  free(c->offsets);
  free(c->raw.data);
  free(c->page.data);
  free(c->lengths.data);
  *c = (MuseParquetColumn){0};
}
