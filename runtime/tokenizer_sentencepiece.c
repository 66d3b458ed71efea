// SentencePiece models. The library encodes; its model file is checked here first, since the library trusts it (an
// index out of range in the normalisation table is read without a look), and ids become text here, byte by byte, so
// that generation can show text as it comes.
#include "ir/base/hash.h"
#include "runtime/tokenizer_kinds.h"
#include "runtime/tokenizer_sentencepiece_shim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 1 << 22, MAX_PIECE_BYTES = 4096, MAX_TEXT = 8 << 20 };

enum { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED, PIECE_BYTE }; // types

typedef struct Piece {
  uint64_t start; // of its text in texts
  uint16_t length;
  uint8_t type;
} Piece;

typedef struct SpTables {
  MuseSpModel *model;
  MuseStr texts, unknown;  // unknown: what id of the unknown piece is shown as
  MUSE_VEC(Piece) pieces;
  uint32_t model_type;     // 1 unigram, 2 BPE
  bool dummy_prefix, extra_blanks, suffix;
} SpTables;

// ---- protocol buffers: the fields of sentencepiece_model.proto that matter here

typedef struct Message {
  const unsigned char *at, *end;
} Message;

typedef struct Field {
  uint32_t number, wire;
  uint64_t value;        // wire types 0, 1, 5
  Message bytes;         // wire type 2
} Field;

static bool read_varint(Message *m, uint64_t *out) {
  *out = 0;
  for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
    uint64_t byte = *m->at++;
    *out |= (byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// False at the end and on damage; *out_good tells which.
static bool next_field(Message *m, Field *out, bool *out_good) {
  uint64_t tag, length;
  *out_good = true;
  if (m->at == m->end) return false;
  *out_good = false;
  if (!read_varint(m, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) return false;
  *out = (Field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
  size_t left = (size_t)(m->end - m->at), fixed = out->wire == 1 ? 8 : 4;
  if (out->wire == 0) return *out_good = read_varint(m, &out->value);
  if (out->wire == 2) {
    if (!read_varint(m, &length) || length > (size_t)(m->end - m->at)) return false;
    out->bytes = (Message){m->at, m->at + length};
    m->at += length;
    return *out_good = true;
  }
  if ((out->wire != 1 && out->wire != 5) || left < fixed) return false;
  memcpy(&out->value, m->at, fixed);
  m->at += fixed;
  return *out_good = true;
}

// ---- the normalisation table: u32 size of a double array in bytes, the array, NUL-ended texts

static uint32_t unit_at(const unsigned char *units, uint32_t i) {
  uint32_t unit;
  memcpy(&unit, units + 4 * (size_t)i, 4);
  return unit;
}
static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

// Every place that a lookup can reach lies inside (Darts-clone: the child of a node for byte c is at base ^ c).
static bool is_sound_table(Message table) {
  uint32_t bytes;
  if (table.at == table.end) return true;
  if (table.end - table.at < 8) return false;
  memcpy(&bytes, table.at, 4);
  const unsigned char *units = table.at + 4;
  size_t left = (size_t)(table.end - units);
  if (bytes % 4 || bytes < 1024 || bytes >= left || table.end[-1] != 0) return false;
  uint32_t n = bytes / 4;
  size_t n_text = left - bytes;
  unsigned char *seen = calloc(n, 1);
  MUSE_VEC(uint32_t) open = {0};
  if (!seen) muse_out_of_memory(n);
  uint32_t root = unit_offset(unit_at(units, 0));
  bool sound = (root | 255) < n;
  if (sound) muse_vec_push(&open, root);
  while (sound && open.len) {
    uint32_t base = muse_vec_pop(&open);
    if (seen[base]) continue;
    seen[base] = 1;
    for (uint32_t c = 0; c < 256 && sound; c++) {
      uint32_t unit = unit_at(units, base ^ c);
      if ((unit & 0x800000FFu) != c) continue;
      uint32_t child = (base ^ c) ^ unit_offset(unit);
      sound = (child | 255) < n;
      if (sound && (unit >> 8 & 1)) sound = (unit_at(units, child) & 0x7FFFFFFF) < n_text;
      if (sound) muse_vec_push(&open, child);
    }
  }
  muse_vec_free(&open);
  free(seen);
  return sound;
}

// ---- reading and checking

typedef struct SpReader {
  const char *path;
  MuseDiag *diag;
  SpTables *tables;
} SpReader;

#define REFUSE(r, ...) muse_error((r)->diag, MUSE_ERR_INPUT, __VA_ARGS__)

static MuseStatus damaged(SpReader *r) {
  return REFUSE(r, "'%s' is neither a tokenizer.json nor a whole SentencePiece model", r->path);
}

static MuseStatus read_piece(SpReader *r, Message m) {
  Field f;
  bool good;
  Message text = {0};
  uint64_t type = PIECE_NORMAL;
  float score = 0;
  while (next_field(&m, &f, &good)) {
    if (f.number == 1 && f.wire == 2) text = f.bytes;
    if (f.number == 2 && f.wire == 5) memcpy(&score, &f.value, 4);
    if (f.number == 3 && f.wire == 0) type = f.value;
  }
  if (!good) return damaged(r);
  SpTables *t = r->tables;
  size_t n = (size_t)(text.end - text.at), index = t->pieces.len;
  if (index >= MAX_PIECES || n == 0 || n > MAX_PIECE_BYTES || type < PIECE_NORMAL || type > PIECE_BYTE ||
      !isfinite(score))
    return REFUSE(r, "'%s': piece %zu is damaged", r->path, index);
  for (size_t i = 0; i < n;) {
    int step = muse_utf8_length(text.at + i, n - i);
    if (step == 0 || text.at[i] == 0) return REFUSE(r, "'%s': piece %zu is no UTF-8 text", r->path, index);
    i += (size_t)step;
  }
  Piece piece = {t->texts.len, (uint16_t)n, (uint8_t)type};
  if (type == PIECE_BYTE) {
    static const char digits[] = "0123456789ABCDEF";
    const char *high = n == 6 ? strchr(digits, text.at[3]) : NULL, *low = n == 6 ? strchr(digits, text.at[4]) : NULL;
    if (!high || !low || memcmp(text.at, "<0x", 3) != 0 || text.at[5] != '>')
      return REFUSE(r, "'%s': piece %zu stands for a byte, but is not written <0xNN>", r->path, index);
    char byte = (char)((high - digits) << 4 | (low - digits));
    muse_str_append_n(&t->texts, &byte, 1);
    piece.length = 1;
  } else if (type == PIECE_NORMAL || type == PIECE_USER || type == PIECE_UNUSED) {
    for (size_t i = 0; i < n; i++) { // U+2581 stands for a blank
      bool blank = n - i >= 3 && memcmp(text.at + i, "\xE2\x96\x81", 3) == 0;
      muse_str_append_n(&t->texts, blank ? " " : (const char *)text.at + i, 1);
      if (blank) i += 2, piece.length -= 2;
    }
  } else {
    piece.length = 0;
  }
  muse_vec_push(&t->pieces, piece);
  return MUSE_OK;
}

static MuseStatus read_trainer(SpReader *r, Message m) {
  Field f;
  bool good;
  while (next_field(&m, &f, &good)) {
    if (f.number == 3 && f.wire == 0) r->tables->model_type = (uint32_t)f.value;
    if (f.number == 24 && f.wire == 0) r->tables->suffix = f.value != 0;
    if (f.number == 44 && f.wire == 2) {
      muse_str_clear(&r->tables->unknown);
      muse_str_append_n(&r->tables->unknown, (const char *)f.bytes.at, (size_t)(f.bytes.end - f.bytes.at));
    }
  }
  return good ? MUSE_OK : damaged(r);
}

static MuseStatus read_normalizer(SpReader *r, Message m, bool back) {
  Field f;
  bool good;
  while (next_field(&m, &f, &good)) {
    if (f.number == 2 && f.wire == 2 && !is_sound_table(f.bytes))
      return REFUSE(r, "'%s': its normalisation table is damaged", r->path);
    if (f.number == 2 && f.wire == 2 && back && f.bytes.at < f.bytes.end)
      return REFUSE(r, "'%s': it changes text on the way back (denormalizer), which is not supported", r->path);
    if (back) continue;
    if (f.number == 3 && f.wire == 0) r->tables->dummy_prefix = f.value != 0;
    if (f.number == 4 && f.wire == 0) r->tables->extra_blanks = f.value == 0;
  }
  return good ? MUSE_OK : damaged(r);
}

static MuseStatus read_model(SpReader *r, Message m) {
  Field f;
  bool good;
  r->tables->model_type = 1;
  r->tables->dummy_prefix = true;
  muse_str_append(&r->tables->unknown, " \xE2\x81\x87 "); // the library's " ⁇ "
  while (next_field(&m, &f, &good)) {
    if (f.wire != 2) continue;
    if (f.number == 1) MUSE_TRY(read_piece(r, f.bytes));
    if (f.number == 2) MUSE_TRY(read_trainer(r, f.bytes));
    if (f.number == 3 || f.number == 5) MUSE_TRY(read_normalizer(r, f.bytes, f.number == 5));
  }
  if (!good || r->tables->pieces.len == 0) return damaged(r);
  if (r->tables->model_type != 1 && r->tables->model_type != 2)
    return REFUSE(r, "'%s': it is a model of whole words or characters; unigram and BPE models are supported", r->path);
  return MUSE_OK;
}

// ---- encoding and decoding

typedef struct SpState {
  const SpTables *tables;
  MuseStr pending;
} SpState;

static void *sp_create(const void *tables) {
  SpState *s = calloc(1, sizeof *s);
  if (!s) muse_out_of_memory(sizeof *s);
  s->tables = tables;
  return s;
}

static void sp_destroy(void *state) {
  SpState *s = state;
  muse_str_free(&s->pending);
  free(s);
}

static void take_ids(void *user, const int *ids, size_t n) {
  MuseTokenIds *out = user;
  muse_vec_reserve(out, out->len + n);
  for (size_t i = 0; i < n; i++) out->data[out->len++] = ids[i];
}

// The library normalises a text as a whole (blanks at its ends, the blank before it), so pieces are put together.
static MuseStatus sp_feed(void *state, const char *text, size_t length, bool last, MuseTokenIds *out_ids,
                          MuseDiag *diag) {
  SpState *s = state;
  char error[MUSE_SP_ERROR_BYTES];
  bool together = s->pending.len > 0 || !last;
  if (s->pending.len + length > MAX_TEXT) {
    muse_str_clear(&s->pending);
    return muse_error(diag, MUSE_ERR_NO_FIT,
                      "a text is longer than the %d MiB that SentencePiece can take at once; leave it out with a "
                      "smaller --max-document",
                      MAX_TEXT >> 20);
  }
  if (together) muse_str_append_n(&s->pending, text, length);
  if (!last) return MUSE_OK;
  const char *whole = together ? s->pending.data : text;
  int done = muse_sp_encode(s->tables->model, whole, together ? s->pending.len : length, take_ids, out_ids, error);
  muse_str_clear(&s->pending);
  return done ? MUSE_OK : muse_error(diag, MUSE_ERR_FAILED, "SentencePiece cannot encode a text: %s", error);
}

static void sp_decode(const void *tables, int32_t id, bool first, MuseStr *out_text) {
  const SpTables *t = tables;
  if (id < 0 || (size_t)id >= t->pieces.len) return;
  const Piece *piece = &t->pieces.data[id];
  if (piece->type == PIECE_UNKNOWN) {
    muse_str_append_n(out_text, muse_str_text(&t->unknown), t->unknown.len);
    return;
  }
  const char *text = t->texts.data ? t->texts.data + piece->start : "";
  // The blank that stands before a text belongs to the encoding.
  size_t skip = first && t->dummy_prefix && !t->suffix && piece->type != PIECE_BYTE && piece->length && *text == ' ';
  muse_str_append_n(out_text, text + skip, piece->length - skip);
}

static void sp_close(void *tables) {
  SpTables *t = tables;
  muse_sp_free(t->model);
  muse_str_free(&t->texts);
  muse_str_free(&t->unknown);
  muse_vec_free(&t->pieces);
  free(t);
}

MuseStatus muse_sentencepiece_read(const char *path, const char *bytes, size_t size, MuseTokenizer *out,
                                   MuseDiag *diag) {
  static const MuseTokenizerKind functions = {sp_create, sp_destroy, sp_feed, sp_decode, sp_close};
  SpTables *t = calloc(1, sizeof *t);
  if (!t) muse_out_of_memory(sizeof *t);
  out->functions = &functions;
  out->tables = t; // closed by the caller, also after an error
  SpReader r = {path, diag, t};
  char error[MUSE_SP_ERROR_BYTES];
  const unsigned char *begin = (const unsigned char *)bytes;
  MUSE_TRY(read_model(&r, (Message){begin, begin + size}));
  t->model = muse_sp_load(bytes, size, error);
  if (!t->model) return muse_error(diag, MUSE_ERR_INPUT, "'%s': SentencePiece refuses it: %s", path, error);
  out->kind = t->model_type == 2 ? "SentencePiece BPE" : "SentencePiece unigram";
  out->vocab_size = (int64_t)t->pieces.len;
  int eos = muse_sp_eos(t->model);
  out->eos = eos >= 0 && (size_t)eos < t->pieces.len ? eos : -1;
  out->hash = muse_hash64(bytes, size);
  out->max_text = MAX_TEXT;
  return MUSE_OK;
}

// ---- training

static void take_model(void *user, const char *bytes, size_t n) { muse_str_append_n(user, bytes, n); }

MuseStatus muse_sentencepiece_train(const MuseSentencePieceTraining *training, MuseStr *out_model, MuseDiag *diag) {
  char error[MUSE_SP_ERROR_BYTES], size[32], coverage[32];
  snprintf(size, sizeof size, "%lld", (long long)training->vocab_size);
  snprintf(coverage, sizeof coverage, "%.9g", training->character_coverage);
  // One thread and no shuffling: the same lines always give the same model.
  const char *options[] = {"model_type", "bpe", "vocab_size", size, "character_coverage", coverage,
                           "byte_fallback", "true", "normalization_rule_name", training->normalization,
                           "remove_extra_whitespaces", "false", "split_digits", "true",
                           "allow_whitespace_only_pieces", "true", "max_sentence_length", "1000000",
                           "input_sentence_size", "0", "shuffle_input_sentence", "false", "num_threads", "1",
                           "minloglevel", "3", "unk_id", "0", "bos_id", "-1", "eos_id", "1", "pad_id", "-1", NULL};
  if (!muse_sp_train(options, training->next, training->user, take_model, out_model, error))
    return muse_error(diag, MUSE_ERR_INPUT, "SentencePiece cannot train a model: %s", error);
  return MUSE_OK;
}
