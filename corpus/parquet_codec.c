// Unpacking the pages of Parquet files: snappy, gzip, zstd.
#include "corpus/parquet_column.h"

#include <snappy-c.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { UNCOMPRESSED = 0, SNAPPY = 1, GZIP = 2, ZSTD = 6, N_CODECS = 8 };

const char *muse_parquet_codec_problem(int codec) {
  static const char *const names[N_CODECS] = {NULL, NULL, NULL, "LZO", "Brotli", "LZ4", NULL, "LZ4"};
  return codec >= 0 && codec < N_CODECS ? names[codec] : "an unknown method";
}

static bool gunzip(const uint8_t *data, size_t bytes, uint8_t *out, size_t out_bytes) {
  z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)bytes, .next_out = out, .avail_out = (uInt)out_bytes};
  uint8_t nothing; // zlib wants a place even where nothing is to come
  if (out_bytes == 0) z.next_out = &nothing;
  if (inflateInit2(&z, 15 + 32) != Z_OK) return false; // gzip or zlib, by the header
  int result;
  // Some writers put several gzip members behind each other.
  while ((result = inflate(&z, Z_FINISH)) == Z_STREAM_END && z.avail_in > 0)
    if (inflateReset(&z) != Z_OK) break;
  bool ok = result == Z_STREAM_END && z.avail_in == 0 && z.avail_out == 0;
  inflateEnd(&z);
  return ok;
}

bool muse_parquet_unpack(int codec, const uint8_t *data, size_t bytes, uint8_t *out, size_t out_bytes) {
  size_t length = 0;
  switch (codec) {
  case UNCOMPRESSED:
    if (bytes != out_bytes) return false;
    memcpy(out, data, bytes);
    return true;
  case SNAPPY:
    if (snappy_uncompressed_length((const char *)data, bytes, &length) != SNAPPY_OK || length != out_bytes)
      return false;
    return snappy_uncompress((const char *)data, bytes, (char *)out, &length) == SNAPPY_OK && length == out_bytes;
  case GZIP: return gunzip(data, bytes, out, out_bytes);
  case ZSTD: length = ZSTD_decompress(out, out_bytes, data, bytes); return !ZSTD_isError(length) && length == out_bytes;
  default: return false;
  }
}
