// Tokenizers behind a table of functions. "bytes" needs no files and loses nothing.
#include "runtime/tokenizer.h"

#include "ir/base/hash.h"

#include <stdlib.h>
#include <string.h>

typedef struct TokenizerKind {
  const char *name;
  int64_t vocab_size;
  int32_t eos;
  void (*encode)(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids);
  void (*decode)(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text);
} TokenizerKind;

struct MuseTokenizer {
  const TokenizerKind *kind;
  uint64_t hash;
};

static void bytes_encode(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids) {
  muse_vec_reserve(out_ids, out_ids->len + length);
  for (size_t i = 0; i < length; i++) out_ids->data[out_ids->len++] = (uint8_t)text[i];
}

static void bytes_decode(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text) {
  for (size_t i = 0; i < n_ids; i++) {
    char byte = (char)ids[i];
    if (ids[i] >= 0 && ids[i] < 256) muse_str_append_n(out_text, &byte, 1);
  }
}

static const TokenizerKind kinds[] = {
    {.name = "bytes", .vocab_size = 257, .eos = 256, .encode = bytes_encode, .decode = bytes_decode},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

MuseStatus muse_tokenizer_open(const char *name, MuseTokenizer **out_tokenizer, MuseDiag *diag) {
  *out_tokenizer = NULL;
  const TokenizerKind *kind = NULL;
  MuseStr known = {0};
  for (int i = 0; i < N_KINDS; i++) {
    if (muse_str_eq(name, kinds[i].name)) kind = &kinds[i];
    muse_str_appendf(&known, "%s%s", i ? ", " : "", kinds[i].name);
  }
  if (!kind) {
    muse_error(diag, MUSE_ERR_INPUT, "there is no tokenizer '%s'; known are: %s", name, muse_str_text(&known));
    muse_str_free(&known);
    return MUSE_ERR_INPUT;
  }
  muse_str_free(&known);
  MuseTokenizer *tokenizer = calloc(1, sizeof *tokenizer);
  MUSE_ASSERT(tokenizer);
  tokenizer->kind = kind;
  // The bytes tokenizer has no tables, so its name and version are its whole mapping.
  MuseStr identity = {0};
  muse_str_appendf(&identity, "muse tokenizer %s 1 vocab %lld eos %d", kind->name, (long long)kind->vocab_size,
                   kind->eos);
  tokenizer->hash = muse_hash64(identity.data, identity.len);
  muse_str_free(&identity);
  *out_tokenizer = tokenizer;
  return MUSE_OK;
}

void muse_tokenizer_close(MuseTokenizer *tokenizer) { free(tokenizer); }
const char *muse_tokenizer_name(const MuseTokenizer *tokenizer) { return tokenizer->kind->name; }
int64_t muse_tokenizer_vocab_size(const MuseTokenizer *tokenizer) { return tokenizer->kind->vocab_size; }
int32_t muse_tokenizer_eos(const MuseTokenizer *tokenizer) { return tokenizer->kind->eos; }
uint64_t muse_tokenizer_hash(const MuseTokenizer *tokenizer) { return tokenizer->hash; }

void muse_tokenizer_encode(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids) {
  tokenizer->kind->encode(tokenizer, text, length, out_ids);
}

void muse_tokenizer_decode(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text) {
  tokenizer->kind->decode(tokenizer, ids, n_ids, out_text);
}

// Length of the valid UTF-8 sequence at `p` (RFC 3629: shortest form, no surrogates, at most U+10FFFF), or 0.
int muse_utf8_length(const unsigned char *p, size_t left) {
  if (left == 0) return 0;
  if (p[0] < 0x80) return 1;
  int n = p[0] >= 0xC2 && p[0] <= 0xDF ? 2 : (p[0] & 0xF0) == 0xE0 ? 3 : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4 : 0;
  if (n == 0 || (size_t)n > left) return 0;
  for (int i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
  }
  if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
  if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
  return n;
}

void muse_text_append_printable(MuseStr *out, const char *bytes, size_t length) {
  const unsigned char *p = (const unsigned char *)bytes;
  for (size_t i = 0; i < length;) {
    int n = muse_utf8_length(p + i, length - i);
    bool control = n == 1 && ((p[i] < 0x20 && p[i] != '\n' && p[i] != '\t') || p[i] == 0x7F);
    bool control_c1 = n == 2 && p[i] == 0xC2 && p[i + 1] < 0xA0; // U+0080..U+009F steer terminals too
    if (n == 0) {
      muse_str_append(out, "\xEF\xBF\xBD");
    } else if (control || control_c1) {
      muse_str_appendf(out, "\\x%02X", n == 1 ? p[i] : p[i + 1]);
    } else {
      muse_str_append_n(out, bytes + i, (size_t)n);
    }
    i += n ? (size_t)n : 1;
  }
}
