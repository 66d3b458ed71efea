#ifndef MUSE_RUNTIME_GENERATE_H
#define MUSE_RUNTIME_GENERATE_H

#include "runtime/sampler.h"
#include "runtime/tokenizer.h"

#include <signal.h>

// Text from a model, piece by piece.
typedef struct MuseGenerateOptions {
  const char *prompt;     // "" starts a document, which needs an eos_token_id
  int64_t max_tokens;     // after the prompt
  MuseSamplerOptions sampler;
  bool raw; // pieces are the tokens' bytes; else only whole UTF-8 characters, and nothing that steers a terminal
  volatile sig_atomic_t *stop; // NULL, or set by a signal: end after the token
} MuseGenerateOptions;

typedef struct MuseGenerateResult {
  int64_t n_prompt, n_tokens;      // tokens taken in, and made
  bool ended;                      // the model ended the text
  double prompt_seconds, seconds;
} MuseGenerateResult;

// Called with each piece of text that is whole; an incomplete UTF-8 sequence is held back until the next token.
typedef void (*MuseTextFn)(void *context, const char *text, size_t length);

MuseStatus muse_generate(MuseDecoder *decoder, const MuseTokenizer *tokenizer, const MuseGenerateOptions *options,
                         MuseTextFn fn, void *context, MuseGenerateResult *out, MuseDiag *diag);

// Opens the tokenizer that the plan (or `name`, when not NULL) names and holds it against the vocabulary.
MuseStatus muse_session_tokenizer(MuseSession *session, const char *name, MuseTokenizer **out_tokenizer,
                                  MuseDiag *diag);

// Leading bytes of `text` that more bytes will not change: all but a UTF-8 sequence that is only begun.
size_t muse_utf8_whole(const char *text, size_t length);

#endif
