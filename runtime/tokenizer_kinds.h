#ifndef MUSE_RUNTIME_TOKENIZER_KINDS_H
#define MUSE_RUNTIME_TOKENIZER_KINDS_H

#include "runtime/tokenizer.h"

#include <pthread.h>

// What a kind of tokenizer gives to runtime/tokenizer.c. `tables` is what it read, `state` the working memory of one
// encoder.
typedef struct MuseTokenizerKind {
  void *(*create_state)(const void *tables);
  void (*destroy_state)(void *state);
  MuseStatus (*feed)(void *state, const char *text, size_t length, bool last, MuseTokenIds *out_ids, MuseDiag *diag);
  void (*decode)(const void *tables, int32_t id, bool first, MuseStr *out_text);
  void (*close)(void *tables);
} MuseTokenizerKind;

enum { MUSE_TOKENIZER_NAME_BYTES = 32 };

struct MuseTokenizer {
  const MuseTokenizerKind *functions;
  void *tables;
  char name[MUSE_TOKENIZER_NAME_BYTES];
  const char *kind;
  char *path;
  int64_t vocab_size;
  int32_t eos;
  uint64_t hash, max_text;
  // States of encoders that nobody uses at the moment.
  pthread_mutex_t mutex;
  MUSE_VEC(void *) idle;
};

// Each fills functions, tables, kind, vocab_size, eos, hash and max_text. The bytes live only during the call.
MuseStatus muse_bpe_read(const char *path, const char *bytes, size_t size, MuseTokenizer *out, MuseDiag *diag);
MuseStatus muse_sentencepiece_read(const char *path, const char *bytes, size_t size, MuseTokenizer *out,
                                   MuseDiag *diag);

// A model of `vocab_size` pieces from lines of text: BPE with byte fallback. next gives one line, or NULL at the end.
typedef struct MuseSentencePieceTraining {
  int64_t vocab_size;
  double character_coverage;
  const char *normalization; // "nfkc", "identity"
  const char *(*next)(void *user, size_t *out_length);
  void *user;
} MuseSentencePieceTraining;
MuseStatus muse_sentencepiece_train(const MuseSentencePieceTraining *training, MuseStr *out_model, MuseDiag *diag);

#endif
