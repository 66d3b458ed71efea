// Tokenizers: opening by name or path, encoders and their idle states, and text that is safe to show. The kinds
// themselves are in tokenizer_bpe*.c and tokenizer_sentencepiece*.c; "bytes" needs no files and is here.
#include "runtime/tokenizer.h"

#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "runtime/tokenizer_kinds.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FILE_BYTES ((uint64_t)256 << 20)

struct MuseEncoder {
  const MuseTokenizer *tokenizer;
  void *state;
};

// ---- bytes

static MuseStatus bytes_feed(void *state, const char *text, size_t length, bool last, MuseTokenIds *out_ids,
                             MuseDiag *diag) {
  muse_vec_reserve(out_ids, out_ids->len + length);
  int32_t *to = out_ids->data + out_ids->len;
  for (size_t i = 0; i < length; i++) to[i] = (uint8_t)text[i];
  out_ids->len += length;
  return MUSE_OK;
}

static void bytes_decode(const void *tables, int32_t id, bool first, MuseStr *out_text) {
  char byte = (char)id;
  if (id >= 0 && id < 256) muse_str_append_n(out_text, &byte, 1);
}

static const MuseTokenizerKind bytes_functions = {.feed = bytes_feed, .decode = bytes_decode};

static void open_bytes(MuseTokenizer *out) {
  out->functions = &bytes_functions;
  out->kind = "bytes";
  strcpy(out->name, "bytes");
  out->vocab_size = 257;
  out->eos = 256;
  out->max_text = UINT64_MAX;
  // The bytes tokenizer has no tables, so its name and version are its whole mapping.
  MuseStr identity = {0};
  muse_str_appendf(&identity, "muse tokenizer %s 1 vocab %lld eos %d", out->name, (long long)out->vocab_size, out->eos);
  out->hash = muse_hash64(identity.data, identity.len);
  muse_str_free(&identity);
}

// ---- opening

static MuseTokenizer *create(void) {
  MuseTokenizer *t = calloc(1, sizeof *t);
  if (!t) muse_out_of_memory(sizeof *t);
  pthread_mutex_init(&t->mutex, NULL);
  return t;
}

// "gpt2" of models/gpt2/tokenizer.json, "rinna" of rinna.model; cut to whole characters that fit an index.
static void set_name(MuseTokenizer *t, const char *path) {
  const char *end = path + strlen(path), *slash = strrchr(path, '/');
  const char *file = slash ? slash + 1 : path;
  bool telling = true;
  static const char *const usual[] = {"tokenizer.json", "tokenizer.model", "spiece.model"};
  for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) telling = telling && !muse_str_eq(file, usual[i]);
  if (!telling && slash && slash > path) { // the folder says more
    const char *folder = slash;
    while (folder > path && folder[-1] != '/') folder--;
    if (folder < slash && *folder != '.') file = folder, end = slash, telling = true;
  }
  if (end > file + 5 && muse_str_eq(end - 5, ".json")) end -= 5;
  else if (end > file + 6 && muse_str_eq(end - 6, ".model")) end -= 6;
  if (end > file + 10 && memcmp(end - 10, ".tokenizer", 10) == 0) end -= 10;
  size_t n = 0, length = (size_t)(end - file);
  while (n < length) {
    int step = muse_utf8_length((const unsigned char *)file + n, length - n);
    if (step == 0 || n + (size_t)step >= sizeof t->name) break;
    n += (size_t)step;
  }
  memcpy(t->name, file, n);
  t->name[n] = 0;
  if (n == 0 || muse_str_eq(t->name, "bytes")) strcpy(t->name, "tokenizer");
}

MuseStatus muse_tokenizer_read(const char *path, const void *bytes, size_t size, MuseTokenizer **out_tokenizer,
                               MuseDiag *diag) {
  *out_tokenizer = NULL;
  MuseTokenizer *t = create();
  const char *text = bytes;
  size_t i = 0;
  while (i < size && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n')) i++;
  // A .model is a protocol buffer, which begins with the tag 0x0A (a newline) and lengths, never with a brace.
  bool json = i < size && text[i] == '{' && (i == 0 || text[0] != '\n' || muse_str_ends_with(path, ".json"));
  MuseStatus status = (json ? muse_bpe_read : muse_sentencepiece_read)(path, text, size, t, diag);
  if (status != MUSE_OK) {
    muse_tokenizer_close(t);
    return status;
  }
  set_name(t, path);
  t->path = strdup(path);
  if (!t->path) muse_out_of_memory(strlen(path));
  *out_tokenizer = t;
  return MUSE_OK;
}

static bool is_kind(const char *path, mode_t kind) {
  struct stat st;
  return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

// The tokenizer's file inside a folder, under the names that models are published with.
static bool find_in_folder(const char *folder, MuseStr *out_path) {
  static const char *const names[] = {"tokenizer.json", "tokenizer.model", "spiece.model"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    muse_str_clear(out_path);
    muse_str_appendf(out_path, "%s%s%s", folder, muse_str_ends_with(folder, "/") ? "" : "/", names[i]);
    if (is_kind(out_path->data, S_IFREG)) return true;
  }
  return false;
}

static MuseStatus open_file(const char *name, MuseTokenizer **out_tokenizer, MuseDiag *diag) {
  MuseStr path = {0}, text = {0};
  MuseStatus status = MUSE_OK;
  muse_str_append(&path, name);
  if (is_kind(name, S_IFDIR)) {
    if (!find_in_folder(name, &path))
      status = muse_error(diag, MUSE_ERR_INPUT,
                          "the folder '%s' holds no tokenizer.json, tokenizer.model or spiece.model", name);
  } else if (!is_kind(name, S_IFREG)) {
    status = muse_error(
        diag, MUSE_ERR_INPUT,
        "there is no tokenizer '%s'; known are: bytes, and the path of a tokenizer.json or of a SentencePiece .model",
        name);
  }
  if (status == MUSE_OK) status = muse_read_file(path.data, MAX_FILE_BYTES, &text, diag);
  if (status == MUSE_OK) status = muse_tokenizer_read(path.data, muse_str_text(&text), text.len, out_tokenizer, diag);
  muse_str_free(&path);
  muse_str_free(&text);
  return status;
}

MuseStatus muse_tokenizer_open(const char *name, MuseTokenizer **out_tokenizer, MuseDiag *diag) {
  *out_tokenizer = NULL;
  if (!muse_str_eq(name, "bytes")) return open_file(name, out_tokenizer, diag);
  *out_tokenizer = create();
  open_bytes(*out_tokenizer);
  return MUSE_OK;
}

void muse_tokenizer_close(MuseTokenizer *tokenizer) {
  if (!tokenizer) return;
  for (size_t i = 0; i < tokenizer->idle.len; i++) tokenizer->functions->destroy_state(tokenizer->idle.data[i]);
  muse_vec_free(&tokenizer->idle);
  if (tokenizer->functions && tokenizer->functions->close) tokenizer->functions->close(tokenizer->tables);
  pthread_mutex_destroy(&tokenizer->mutex);
  free(tokenizer->path);
  free(tokenizer);
}

const char *muse_tokenizer_name(const MuseTokenizer *tokenizer) { return tokenizer->name; }
const char *muse_tokenizer_kind(const MuseTokenizer *tokenizer) { return tokenizer->kind; }
const char *muse_tokenizer_path(const MuseTokenizer *tokenizer) { return tokenizer->path; }
int64_t muse_tokenizer_vocab_size(const MuseTokenizer *tokenizer) { return tokenizer->vocab_size; }
int32_t muse_tokenizer_eos(const MuseTokenizer *tokenizer) { return tokenizer->eos; }
uint64_t muse_tokenizer_hash(const MuseTokenizer *tokenizer) { return tokenizer->hash; }
uint64_t muse_tokenizer_max_text(const MuseTokenizer *tokenizer) { return tokenizer->max_text; }

// ---- encoding and decoding

// The idle states are a cache behind the interface, so a const tokenizer lends and takes them back.
static void *take_state(const MuseTokenizer *tokenizer) {
  MuseTokenizer *t = (MuseTokenizer *)tokenizer;
  void *state = NULL;
  if (!t->functions->create_state) return NULL;
  pthread_mutex_lock(&t->mutex);
  if (t->idle.len) state = muse_vec_pop(&t->idle);
  pthread_mutex_unlock(&t->mutex);
  return state ? state : t->functions->create_state(t->tables);
}

static void give_state(const MuseTokenizer *tokenizer, void *state) {
  MuseTokenizer *t = (MuseTokenizer *)tokenizer;
  if (!state) return;
  pthread_mutex_lock(&t->mutex);
  muse_vec_push(&t->idle, state);
  pthread_mutex_unlock(&t->mutex);
}

MuseEncoder *muse_encoder_create(const MuseTokenizer *tokenizer) {
  MuseEncoder *e = malloc(sizeof *e);
  if (!e) muse_out_of_memory(sizeof *e);
  *e = (MuseEncoder){tokenizer, take_state(tokenizer)};
  return e;
}

MuseStatus muse_encoder_feed(MuseEncoder *encoder, const char *text, size_t length, bool last, MuseTokenIds *out_ids,
                             MuseDiag *diag) {
  return encoder->tokenizer->functions->feed(encoder->state, text, length, last, out_ids, diag);
}

void muse_encoder_destroy(MuseEncoder *encoder) {
  if (!encoder) return;
  // What an unfinished text left inside must not reach the next one.
  if (encoder->state) encoder->tokenizer->functions->destroy_state(encoder->state);
  free(encoder);
}

MuseStatus muse_tokenizer_encode(const MuseTokenizer *tokenizer, const char *text, size_t length, MuseTokenIds *out_ids,
                                 MuseDiag *diag) {
  void *state = take_state(tokenizer);
  MuseStatus status = tokenizer->functions->feed(state, text, length, true, out_ids, diag);
  if (status == MUSE_OK) give_state(tokenizer, state);
  else if (state) tokenizer->functions->destroy_state(state);
  return status;
}

void muse_tokenizer_decode(const MuseTokenizer *tokenizer, const int32_t *ids, size_t n_ids, MuseStr *out_text) {
  size_t before = out_text->len;
  for (size_t i = 0; i < n_ids; i++)
    tokenizer->functions->decode(tokenizer->tables, ids[i], out_text->len == before, out_text);
}

void muse_tokenizer_decode_next(const MuseTokenizer *tokenizer, int32_t id, MuseStr *out_text) {
  tokenizer->functions->decode(tokenizer->tables, id, false, out_text);
}

// ---- UTF-8

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

// Bytes at the front of `p` that a decoder takes as one broken part: the longest that could have begun a sequence, at
// least one. *out_open: they are all there is, so more bytes could still complete them.
static size_t broken_part(const unsigned char *p, size_t left, bool *out_open) {
  size_t n = 1, need = 1;
  if (p[0] >= 0xC2 && p[0] <= 0xF4) need = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
  unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
  unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
  while (n < need && n < left && p[n] >= low && p[n] <= high) n++, low = 0x80, high = 0xBF;
  *out_open = n < need && n == left;
  return n;
}

size_t muse_utf8_repair(const char *bytes, size_t length, bool last, MuseStr *out) {
  const unsigned char *p = (const unsigned char *)bytes;
  size_t i = 0, whole = 0; // [whole, i) is valid and not yet appended
  while (i < length) {
    if (p[i] < 0x80) {
      i++;
      continue;
    }
    int n = muse_utf8_length(p + i, length - i);
    if (n > 0) {
      i += (size_t)n;
      continue;
    }
    bool open;
    size_t part = broken_part(p + i, length - i, &open);
    if (open && !last) break;
    muse_str_append_n(out, bytes + whole, i - whole);
    muse_str_append(out, "\xEF\xBF\xBD");
    whole = i += part;
  }
  muse_str_append_n(out, bytes + whole, i - whole);
  return i;
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
