#ifndef MUSE_RUNTIME_TOKENIZER_H
#define MUSE_RUNTIME_TOKENIZER_H

#include "ir/base/diag.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <stdint.h>

typedef MUSE_VEC(int32_t) MuseTokenIds;

// Text to token ids and back. A tokenizer is a table of functions, so another kind needs no change in its users.
// "bytes": ids 0..255 are the bytes of the text, 256 ends a text; vocabulary 257.
typedef struct MuseTokenizer MuseTokenizer;

MuseStatus muse_tokenizer_open(const char *name, MuseTokenizer **out_tokenizer, MuseDiag *diag);
void muse_tokenizer_close(MuseTokenizer *tokenizer); // NULL is allowed

const char *muse_tokenizer_name(const MuseTokenizer *tokenizer);
int64_t muse_tokenizer_vocab_size(const MuseTokenizer *tokenizer);
int32_t muse_tokenizer_eos(const MuseTokenizer *tokenizer); // the id that ends a text, or -1
// Identifies the mapping from text to ids: token sets and compressed models carry it.
uint64_t muse_tokenizer_hash(const MuseTokenizer *tokenizer);

// Appends the ids of `length` bytes of text; no eos is added. Safe to call from several threads.
void muse_tokenizer_encode(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids);
// Appends the text of the ids. Ids that have no text (eos, or beyond the vocabulary) add nothing.
void muse_tokenizer_decode(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text);
// Appends bytes as text that is safe on a terminal: valid UTF-8 stays, other bytes become U+FFFD, control characters
// except newline and tab become \xNN.
void muse_text_append_printable(MuseStr *out, const char *bytes, size_t length);
// Length of the valid UTF-8 sequence that starts at `bytes` with `left` bytes to go, or 0.
int muse_utf8_length(const unsigned char *bytes, size_t left);

#endif
