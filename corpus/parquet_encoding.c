// Numbers in Parquet pages: runs of equal numbers and packed bits (levels, dictionary indices), and deltas (lengths).
#include "corpus/parquet_column.h"

#include "ir/base/vec.h"

#include <string.h>

void muse_parquet_buffer_reserve(MuseParquetBuffer *b, size_t n) {
  if (n > b->cap) b->data = muse_vec_grow(b->data, &b->cap, n, 1);
}

static bool read_varint(const uint8_t **io_at, const uint8_t *end, uint64_t *out) {
  *out = 0;
  for (int shift = 0; shift < 64 && *io_at < end; shift += 7) {
    uint8_t b = *(*io_at)++;
    *out |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) return true;
  }
  return false;
}

// `width` <= 64 bits from bit number `bit` on; the caller has made sure that they are there.
static uint64_t read_bits(const uint8_t *data, uint64_t bit, int width) {
  uint64_t value = 0;
  for (int done = 0; done < width;) {
    int shift = (int)((bit + (uint64_t)done) & 7), take = 8 - shift < width - done ? 8 - shift : width - done;
    uint64_t part = (uint64_t)(data[(bit + (uint64_t)done) >> 3] >> shift) & ((1u << take) - 1);
    value |= part << done;
    done += take;
  }
  return value;
}

void muse_run_start(MuseRunReader *r, const uint8_t *at, const uint8_t *end, int width) {
  *r = (MuseRunReader){.at = at, .end = end, .width = width};
}

static bool next_run(MuseRunReader *r) {
  if (r->packed) r->at += r->bit / 8; // the packed run has been read to its last group of eight
  r->packed = false;
  r->bit = 0;
  uint64_t head;
  if (!read_varint(&r->at, r->end, &head) || head >> 1 == 0) return false;
  uint64_t there = (uint64_t)(r->end - r->at);
  if (head & 1) {
    uint64_t groups = head >> 1; // of eight numbers, `width` bytes each
    if (r->width && groups > there / (uint64_t)r->width) {
      // The last group may be cut where its numbers are no longer needed (so do some old writers).
      groups = there / (uint64_t)r->width;
      if (groups == 0) return false;
    }
    if (groups > UINT64_MAX / 64) return false;
    r->packed = true;
    r->left = groups * 8;
    return true;
  }
  int bytes = (r->width + 7) / 8;
  if ((uint64_t)bytes > there) return false;
  r->value = 0;
  for (int i = 0; i < bytes; i++) r->value |= (uint32_t)*r->at++ << (8 * i);
  r->left = head >> 1;
  return true;
}

bool muse_run_next(MuseRunReader *r, uint32_t *out_value) {
  if (r->left == 0 && !next_run(r)) return false;
  r->left--;
  if (r->packed) {
    *out_value = (uint32_t)read_bits(r->at, r->bit, r->width);
    r->bit += (uint64_t)r->width;
  } else {
    *out_value = r->value;
  }
  return true;
}

// https://parquet.apache.org/docs/file-format/data-pages/encodings/#delta-encoding-delta_binary_packed--5
bool muse_delta_lengths(const uint8_t **io_at, const uint8_t *end, size_t n, MuseParquetBuffer *out) {
  uint64_t block, minis, total, raw;
  if (!read_varint(io_at, end, &block) || !read_varint(io_at, end, &minis) || !read_varint(io_at, end, &total) ||
      !read_varint(io_at, end, &raw))
    return false;
  if (total != n || minis == 0 || minis > 512 || block % minis || block / minis % 32 || block / minis == 0 ||
      block > 1 << 20)
    return false;
  uint64_t value = (raw >> 1) ^ -(raw & 1), per_mini = block / minis; // wraps, as the format says
  out->len = 0;
  for (size_t done = 0; done < n;) {
    if (done == 0) {
      muse_parquet_buffer_reserve(out, 4);
      memcpy(out->data, &(int32_t){(int32_t)value}, 4);
      done = 1;
      if (n == 1) break;
    }
    if (!read_varint(io_at, end, &raw)) return false;
    uint64_t smallest = (raw >> 1) ^ -(raw & 1);
    if ((uint64_t)(end - *io_at) < minis) return false;
    const uint8_t *widths = *io_at;
    *io_at += minis;
    for (uint64_t m = 0; m < minis && done < n; m++) {
      uint64_t bytes = per_mini / 8 * widths[m];
      if (widths[m] > 64 || bytes > (uint64_t)(end - *io_at)) return false;
      muse_parquet_buffer_reserve(out, (done + per_mini) * 4);
      for (uint64_t i = 0; i < per_mini && done < n; i++, done++) {
        value += smallest + read_bits(*io_at, i * widths[m], widths[m]);
        memcpy(out->data + done * 4, &(int32_t){(int32_t)value}, 4);
      }
      *io_at += bytes;
    }
  }
  out->len = n * 4;
  return true;
}
