#ifndef MUSE_RUNTIME_SAMPLER_H
#define MUSE_RUNTIME_SAMPLER_H

#include "ir/base/vec.h"
#include "runtime/session.h"

// Token by token through @decode (section 7 of docs/model.md). Memory is the state of the layers: constant in the
// length.

typedef struct MuseDecoder {
  MuseSession *session;
  const MuseBuffer *token;
  const MuseBuffer *keep;        // NULL: the mixer has no state but the window
  const MuseBuffer *position;    // NULL: the mixer has no window
  const MuseBuffer *window_mask; // [W], with position
  const MuseBuffer *logits;      // [1,V], f32 or bf16
  int64_t n_tokens;     // since the start
  int64_t document;     // position of the first token of the running document
  bool after_eos;       // the next token starts a document
} MuseDecoder;

extern const char *const muse_decode_functions[]; // for muse_session_prepare

// The plan must have @decode. Parameters are loaded and refreshed beforehand.
MuseStatus muse_decoder_create(MuseSession *session, MuseDecoder *out_decoder, MuseDiag *diag);
MuseStatus muse_decoder_reset(MuseDecoder *decoder, MuseDiag *diag); // to the start of a text
// Takes one more token; its logits can then be read.
MuseStatus muse_decoder_feed(MuseDecoder *decoder, int32_t token, MuseDiag *diag);
MuseStatus muse_decoder_logits(const MuseDecoder *decoder, float *out_logits, MuseDiag *diag); // [V]

// How the next token is chosen.
typedef struct MuseSamplerOptions {
  double temperature; // 0: the likeliest, the lowest id of equals
  int64_t top_k;      // only the k likeliest; 0: all
  double top_p;       // only the fewest of them that hold this share of the probability; 1: all
  uint32_t seed;
} MuseSamplerOptions;
MuseStatus muse_sampler_check(const MuseSamplerOptions *options, MuseDiag *diag); // MUSE_ERR_INPUT with one sentence
// Chooses from logits [V]; `index` numbers the draws, so that a seed gives the same text everywhere. MUSE_ERR_NUMERIC
// when a logit is NaN or +Inf.
MuseStatus muse_sample(const MuseSamplerOptions *options, const float *logits, int64_t vocab_size, uint64_t index,
                       int32_t *out_token, MuseDiag *diag);

#endif
