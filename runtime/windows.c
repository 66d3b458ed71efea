// Token sets cut into rows, and the order in which rows are drawn.
#include "runtime/windows.h"

#include "ir/base/philox.h"

#include <math.h>

// First position of document `i` in the stream: the tokens and the eos of all documents before it.
static int64_t stream_start(const MuseWindows *w, int64_t i) {
  int64_t first, length;
  muse_tokens_document(w->tokens, i, &first, &length);
  return w->eos >= 0 ? first + i : first;
}

// The document that holds a position of the stream (its eos included): the last one that starts at or before it.
static int64_t document_at(const MuseWindows *w, int64_t position) {
  int64_t low = 0, high = muse_tokens_info(w->tokens)->n_documents - 1;
  while (low < high) {
    int64_t middle = low + (high - low + 1) / 2;
    if (stream_start(w, middle) <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}

MuseStatus muse_windows_open(const char *name, int64_t row_tokens, int32_t eos, double validation_share,
                             MuseWindows *out_windows, MuseDiag *diag) {
  MUSE_ASSERT(row_tokens > 0 && validation_share >= 0 && validation_share < 1);
  MuseWindows w = {.row_tokens = row_tokens, .eos = eos};
  *out_windows = w;
  MUSE_TRY(muse_tokens_open(name, &w.tokens, diag));
  const MuseTokensInfo *info = muse_tokens_info(w.tokens);
  w.n_stream = info->n_tokens + (eos >= 0 ? info->n_documents : 0);
  int64_t n_windows = w.n_stream > 0 ? (w.n_stream - 1) / row_tokens : 0;
  if (n_windows == 0) {
    MuseStatus status = muse_error(
        diag, MUSE_ERR_INPUT,
        "'%s' has %lld tokens in %lld documents, too few for one row of n_seq + 1 = %lld; add text or "
        "lower n_seq",
        info->bin_path, (long long)info->n_tokens, (long long)info->n_documents, (long long)row_tokens + 1);
    muse_windows_close(&w);
    return status;
  }
  if (validation_share > 0 && n_windows >= 2) {
    double period = round(1 / validation_share);
    w.period = period < 2 ? 2 : period > (double)n_windows ? n_windows : (int64_t)period;
    w.n_validation = n_windows / w.period;
  }
  w.n_train = n_windows - w.n_validation;
  *out_windows = w;
  return MUSE_OK;
}

void muse_windows_close(MuseWindows *windows) {
  muse_tokens_close(windows->tokens);
  *windows = (MuseWindows){0};
}

// Tokens [position, position + T] of the stream.
static MuseStatus read_window(const MuseWindows *w, int64_t window, int64_t vocab_size, int32_t *out, MuseDiag *diag) {
  int64_t position = window * w->row_tokens, left = w->row_tokens + 1;
  if (w->eos < 0) return muse_tokens_read(w->tokens, position, left, vocab_size, out, diag);
  for (int64_t i = document_at(w, position); left > 0; i++) {
    int64_t first, length, done = position - stream_start(w, i);
    muse_tokens_document(w->tokens, i, &first, &length);
    int64_t take = length - done < left ? length - done : left;
    if (take > 0) MUSE_TRY(muse_tokens_read(w->tokens, first + done, take, vocab_size, out, diag));
    out += take, left -= take, position += take;
    if (left > 0) *out++ = w->eos, left--, position++;
  }
  return MUSE_OK;
}

MuseStatus muse_windows_read_train(const MuseWindows *windows, int64_t index, int64_t vocab_size, int32_t *out,
                                   MuseDiag *diag) {
  MUSE_ASSERT(index >= 0 && index < windows->n_train);
  int64_t window = windows->period ? index + index / (windows->period - 1) : index;
  return read_window(windows, window, vocab_size, out, diag);
}

MuseStatus muse_windows_read_validation(const MuseWindows *windows, int64_t index, int64_t vocab_size, int32_t *out,
                                        MuseDiag *diag) {
  MUSE_ASSERT(index >= 0 && index < windows->n_validation);
  return read_window(windows, (index + 1) * windows->period - 1, vocab_size, out, diag);
}

uint64_t muse_permute(uint64_t index, uint64_t n, uint32_t seed, uint32_t stream, uint64_t epoch) {
  MUSE_ASSERT(index < n && n <= (uint64_t)1 << 62);
  int half = 1;
  while ((uint64_t)1 << (2 * half) < n) half++;
  uint64_t mask = ((uint64_t)1 << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint32_t r = 0; r < 4; r++) {
      // Three of the counter's words carry the input; the round and the high half of the epoch share the last one.
      uint32_t counter[4] = {(uint32_t)right, r << 24 | (uint32_t)(epoch >> 32 & 0xffffff), (uint32_t)epoch, stream};
      uint32_t key[2] = {seed, 0x574e4457},
               word[4]; // a key of its own: the second word is never a step number in practice
      muse_philox4x32(counter, key, word);
      uint64_t next = left ^ (word[0] & mask);
      left = right;
      right = next;
    }
    index = left << half | right;
  } while (index >= n);
  return index;
}
