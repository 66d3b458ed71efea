#ifndef MUSE_RUNTIME_WINDOWS_H
#define MUSE_RUNTIME_WINDOWS_H

#include "runtime/tokens.h"

// A token set seen as rows for training. All documents follow each other, each one (with eos >= 0) with an eos behind
// it; window w is the T + 1 tokens from w*T on, so each token is a target once. Every period-th window is held out: its
// targets are in no training window.
typedef struct MuseWindows {
  MuseTokens *tokens;
  int64_t row_tokens;   // T
  int32_t eos;          // -1: none
  int64_t n_stream;     // tokens with the eos between
  int64_t n_train, n_validation;
  int64_t period;       // window w is held out when w % period == period - 1; 0: none is
} MuseWindows;

// MUSE_ERR_INPUT when there are not even T + 1 tokens. validation_share 0 holds out nothing; else at least one window
// is held out and at least one kept, when there are two.
MuseStatus muse_windows_open(const char *name, int64_t row_tokens, int32_t eos, double validation_share,
                             MuseWindows *out_windows, MuseDiag *diag);
void muse_windows_close(MuseWindows *windows); // a zeroed one is fine

// Training window index < n_train, or held-out window index < n_validation, to out [T+1].
MuseStatus muse_windows_read_train(const MuseWindows *windows, int64_t index, int64_t vocab_size, int32_t *out,
                                   MuseDiag *diag);
MuseStatus muse_windows_read_validation(const MuseWindows *windows, int64_t index, int64_t vocab_size, int32_t *out,
                                        MuseDiag *diag);

// A permutation of 0..n-1 that needs no table: a 4-round Feistel network over the smallest even number of bits that
// holds n, with Philox as round function, walked along its cycle until the value is below n. Keyed by seed, stream and
// epoch.
uint64_t muse_permute(uint64_t index, uint64_t n, uint32_t seed, uint32_t stream, uint64_t epoch);

#endif
