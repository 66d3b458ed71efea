#ifndef MUSE_RUNTIME_TOKENIZER_H
#define MUSE_RUNTIME_TOKENIZER_H

#include "ir/base/diag.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <stdint.h>

typedef MUSE_VEC(int32_t) MuseTokenIds;

// Text to token ids and back; docs/tokenizers.md. Kinds:
// - "bytes": ids 0..255 are the bytes of the text, 256 ends a text; vocabulary 257;
// - the path of a tokenizer.json of the byte-level BPE family (GPT-2, Llama 3, Qwen), or of a folder that holds one;
// - the path of a SentencePiece .model.
// A tokenizer never changes after it was opened; all functions may be called from several threads.
typedef struct MuseTokenizer MuseTokenizer;

// MUSE_ERR_INPUT when there is no such tokenizer, or when its file asks for something that changes ids and does not
// belong to the families above: docs/tokenizers.md lists what is taken, and the sentence names what is not.
MuseStatus muse_tokenizer_open(const char *name, MuseTokenizer **out_tokenizer, MuseDiag *diag);
// From the bytes of a tokenizer.json or .model; `path` stands in messages and gives the name.
MuseStatus muse_tokenizer_read(const char *path, const void *bytes, size_t size, MuseTokenizer **out_tokenizer,
                               MuseDiag *diag);
void muse_tokenizer_close(MuseTokenizer *tokenizer); // NULL is allowed

const char *muse_tokenizer_name(const MuseTokenizer *tokenizer); // at most 31 bytes: "bytes", "llama-3"
const char *muse_tokenizer_kind(const MuseTokenizer *tokenizer); // "bytes", "byte-level BPE", "SentencePiece BPE", ...
const char *muse_tokenizer_path(const MuseTokenizer *tokenizer); // of its file; NULL: it has none
int64_t muse_tokenizer_vocab_size(const MuseTokenizer *tokenizer); // ids are below it
int32_t muse_tokenizer_eos(const MuseTokenizer *tokenizer); // the id that ends a text, or -1
// Identifies the mapping from text to ids: token sets, checkpoints and compressed models carry it.
uint64_t muse_tokenizer_hash(const MuseTokenizer *tokenizer);
// Longest text that can be encoded, in bytes: a text that cannot be encoded in pieces has to fit memory.
uint64_t muse_tokenizer_max_text(const MuseTokenizer *tokenizer);

// Appends the ids of `length` bytes of text; no eos and no other special token is added, but added tokens that the text
// spells out become their ids, as in the reference implementation. Bytes that are no UTF-8 are lost to kinds other
// than "bytes": they become U+FFFD. MUSE_ERR_FAILED when a pattern of the tokenizer gives up on the text.
MuseStatus muse_tokenizer_encode(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids,
                                 MuseDiag *diag);

// The same for a text that comes in pieces, which may end anywhere; the ids do not depend on where. Memory stays small
// where the tokenizer's rules allow it. One thread at a time.
typedef struct MuseEncoder MuseEncoder;
MuseEncoder *muse_encoder_create(const MuseTokenizer *tokenizer);
// Appends the ids that are certain by now, with `last` all of them; then the next text may begin.
MuseStatus muse_encoder_feed(MuseEncoder *encoder, const char *text, size_t length, bool last, MuseTokenIds *out_ids,
                             MuseDiag *diag);
void muse_encoder_destroy(MuseEncoder *encoder); // NULL is allowed

// Appends the text of the ids of a whole text. Ids that have no text (eos and other special tokens, or beyond the
// vocabulary) add nothing.
void muse_tokenizer_decode(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text);
// The same for one id inside a text: the blank at its front stays. What is appended may end inside a character, which
// the next ids then complete.
void muse_tokenizer_decode_next(const MuseTokenizer *tokenizer, int32_t id, MuseStr *out_text);

// Appends bytes as text that is safe on a terminal: valid UTF-8 stays, other bytes become U+FFFD, control characters
// except newline and tab become \xNN.
void muse_text_append_printable(MuseStr *out, const char *bytes, size_t length);
// Length of the valid UTF-8 sequence that starts at `bytes` with `left` bytes to go, or 0.
int muse_utf8_length(const unsigned char *bytes, size_t left);
// Appends the text with each maximal broken part of a UTF-8 sequence replaced by one U+FFFD (Unicode 3.9, as Python's
// errors='replace' does). Unless `last`, a sequence that may go on at the end is left; returns the bytes taken.
size_t muse_utf8_repair(const char *bytes, size_t length, bool last, MuseStr *out);

#endif
