// How many trits are -1, 0 and 1: counted in the packed buffers, without unpacking them.
#include "runtime/trit_counts.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 << 20 }; // of a buffer that is read at a time

// T2: two bits a trit with the code trit + 1, so the high bit says 1 and the low bit 0. Padding counts as 0 here.
static void count_t2(const unsigned char *p, int64_t bytes, int64_t counts[3]) {
  int64_t plus = 0, zero = 0;
  for (int64_t i = 0; i < bytes; i += 8) { // rows are whole blocks of 64 bytes
    uint64_t word;
    memcpy(&word, p + i, 8);
    plus += __builtin_popcountll(word & 0xaaaaaaaaaaaaaaaau);
    zero += __builtin_popcountll(word & 0x5555555555555555u);
  }
  counts[2] += plus;
  counts[1] += zero;
  counts[0] += 4 * bytes - plus - zero;
}

// T5: five a byte; byte = ceil(v * 256 / 243), so v = byte * 243 / 256, rounded down.
static void count_t5(const unsigned char *p, int64_t bytes, int64_t counts[3]) {
  int64_t seen[256] = {0};
  for (int64_t i = 0; i < bytes; i++) seen[p[i]]++;
  for (int byte = 0; byte < 256; byte++) {
    for (int digit = 0, v = byte * 243 / 256; digit < 5; digit++, v /= 3) counts[v % 3] += seen[byte];
  }
}

void muse_count_trits(MuseDtype dtype, const void *packed, int64_t rows, int64_t columns, int64_t counts[3]) {
  int64_t bytes = rows * muse_trit_row_bytes(dtype, columns);
  if (dtype == MUSE_T5) count_t5(packed, bytes, counts);
  else count_t2(packed, bytes, counts);
  counts[1] -= bytes * (dtype == MUSE_T5 ? 5 : 4) - rows * columns; // the padding, which is 0
}

// The layer in "trits.layers.7.ffn.up.weight"; -1: none, as of a matrix that is kept transposed as well.
static int64_t layer_of(const MuseBuffer *b) {
  static const char prefix[] = "trits.layers.";
  return muse_str_starts_with(b->name, prefix) ? strtoll(b->name + sizeof prefix - 1, NULL, 10) : -1;
}

MuseStatus muse_session_count_trits(const MuseSession *s, int64_t (*out_counts)[3], bool *out_any, MuseDiag *diag) {
  *out_any = false;
  memset(out_counts, 0, (size_t)s->n_layers * sizeof *out_counts);
  unsigned char *piece = NULL;
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < s->module->n_buffers && status == MUSE_OK; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    int64_t layer = layer_of(b);
    if (!muse_dtype_is_trit(b->type.dtype) || !muse_str_eq(b->role, "packed") || layer < 0 || layer >= s->n_layers)
      continue;
    if (!piece && !(piece = malloc(PIECE_BYTES))) muse_out_of_memory(PIECE_BYTES);
    int64_t columns = b->type.dim[1], row_bytes = muse_trit_row_bytes(b->type.dtype, columns);
    int64_t rows_at_once = row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 0;
    MUSE_ASSERT(rows_at_once > 0); // a dimension has at most 2^24 elements, 4 MiB as trits
    for (int64_t row = 0; row < b->type.dim[0] && status == MUSE_OK; row += rows_at_once) {
      int64_t rows = b->type.dim[0] - row < rows_at_once ? b->type.dim[0] - row : rows_at_once;
      status = muse_executor_read(s->executor, b, row * row_bytes, piece, (size_t)(rows * row_bytes), diag);
      if (status == MUSE_OK) muse_count_trits(b->type.dtype, piece, rows, columns, out_counts[layer]);
    }
    *out_any = true;
  }
  free(piece);
  return status;
}
