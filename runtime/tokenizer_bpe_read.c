// Reads a tokenizer.json of the byte-level BPE family. Every key that would change ids is either followed or refused by
// name; none is passed over.
#include "ir/base/hash.h"
#include "runtime/tokenizer_bpe.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 1 << 22, MAX_TOKEN_BYTES = 1 << 16 };

typedef struct Reader {
  const char *path;
  MuseDiag *diag;
  MuseBpe *bpe;
  json_t *vocab;
  MuseHasher *hasher;  // of all that decides ids
} Reader;

#define REFUSE(r, ...) muse_error((r)->diag, MUSE_ERR_INPUT, __VA_ARGS__)

// ---- small helpers

static void hash_text(Reader *r, const void *text, size_t n) {
  uint64_t length = n;
  muse_hasher_update(r->hasher, &length, sizeof length);
  muse_hasher_update(r->hasher, text, n);
}
static void hash_number(Reader *r, int64_t number) { muse_hasher_update(r->hasher, &number, sizeof number); }

// A key of the object is one of the names, which end with NULL.
static MuseStatus check_keys(Reader *r, const char *where, json_t *object, const char *const *names) {
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    bool known = false;
    for (int i = 0; names[i]; i++) known = known || muse_str_eq(key, names[i]);
    if (!known)
      return REFUSE(r, "'%s': %s has the key '%.60s', which is not known here and may change ids", r->path, where, key);
  }
  return MUSE_OK;
}

// An absent key gives the default.
static MuseStatus get_bool(Reader *r, const char *where, json_t *object, const char *key, bool standard, bool *out) {
  json_t *value = json_object_get(object, key);
  *out = value ? json_is_true(value) : standard;
  if (value && !json_is_boolean(value))
    return REFUSE(r, "'%s': '%s' of %s is not true or false", r->path, key, where);
  return MUSE_OK;
}

static bool is_absent(json_t *value) { return !value || json_is_null(value); }
static bool is_blank(json_t *value) {
  return is_absent(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static const char *type_of(json_t *object) {
  const char *type = json_string_value(json_object_get(object, "type"));
  return type ? type : "";
}

// ---- the byte-level alphabet

// GPT-2 writes each byte as a printable character: those of Latin-1 as they are, the others from U+0100 on.
// (bytes_to_unicode in the source of GPT-2.)
static int character_of_byte(int byte) {
  bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  if (printable) return byte;
  return 256 + (byte <= 0x20 ? byte : byte == 0xAD ? 67 : byte - 0x7F + 33);
}

static int byte_of_character(uint32_t c) {
  static const unsigned char upper[68] = {
      0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,   16,
      17,   18,   19,   20,   21,   22,   23,   24,   25,   26,   27,   28,   29,   30,   31,   32,   0x7F,
      0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90,
      0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xAD};
  if (c < 256) return character_of_byte((int)c) == (int)c ? (int)c : -1;
  return c < 256 + 68 ? upper[c - 256] : -1;
}

// The bytes that a text of the alphabet stands for; false when it has other characters.
static bool bytes_of_text(const char *text, size_t length, MuseStr *out) {
  muse_str_clear(out);
  for (size_t i = 0; i < length;) {
    unsigned char a = (unsigned char)text[i];
    uint32_t c = a;
    if (a >= 0x80) {
      if (a < 0xC2 || a > 0xDF || i + 1 >= length) return false; // the alphabet ends at U+0143
      c = (uint32_t)(a & 31) << 6 | (text[i + 1] & 63);
    }
    int byte = byte_of_character(c);
    if (byte < 0) return false;
    char b = (char)byte;
    muse_str_append_n(out, &b, 1);
    i += a >= 0x80 ? 2 : 1;
  }
  return true;
}

// ---- vocabulary

static MuseStatus read_vocab(Reader *r, json_t *vocab, const char ***out_by_id, int32_t *out_n) {
  const char *key;
  json_t *value;
  json_int_t largest = -1;
  if (!json_is_object(vocab) || json_object_size(vocab) == 0)
    return REFUSE(r, "'%s': 'vocab' of the model is not an object of tokens and ids", r->path);
  json_object_foreach(vocab, key, value) {
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= MAX_IDS)
      return REFUSE(r, "'%s': the id of the token '%.40s' is not a number from 0 to %d", r->path, key, MAX_IDS - 1);
    if (strlen(key) > MAX_TOKEN_BYTES)
      return REFUSE(r, "'%s': a token is longer than %d bytes", r->path, MAX_TOKEN_BYTES);
    if (id > largest) largest = id;
  }
  const char **by_id = calloc((size_t)largest + 1, sizeof *by_id);
  if (!by_id) muse_out_of_memory(((size_t)largest + 1) * sizeof *by_id);
  *out_by_id = by_id;
  *out_n = (int32_t)(largest + 1);
  json_object_foreach(vocab, key, value) {
    json_int_t id = json_integer_value(value);
    if (by_id[id])
      return REFUSE(r, "'%s': the tokens '%.40s' and '%.40s' have the same id %lld", r->path, by_id[id], key,
                    (long long)id);
    by_id[id] = key;
  }
  return MUSE_OK;
}

static void put_word(MuseBpe *bpe, const char *text, size_t n, int32_t id) {
  uint64_t hash = muse_hash64(text, n);
  hash += hash == 0;
  uint64_t i = hash & bpe->word_mask;
  while (bpe->words[i].hash) i = (i + 1) & bpe->word_mask;
  bpe->words[i] = (MuseBpeWord){hash, id};
}

static uint64_t table_size(size_t n) {
  uint64_t size = 64;
  while (size < 2 * (uint64_t)n + 1) size *= 2;
  return size;
}

// Texts of all ids, those of single bytes, and with ignore_merges the table of whole words. Added tokens come last.
static MuseStatus build_texts(Reader *r, const char **by_id, int32_t n, bool whole_words) {
  MuseBpe *bpe = r->bpe;
  MuseStr all = {0}, bytes = {0};
  for (int i = 0; i < 256; i++) bpe->byte_ids[i] = -1;
  if (whole_words) {
    uint64_t size = table_size((size_t)n);
    bpe->words = calloc(size, sizeof *bpe->words);
    if (!bpe->words) muse_out_of_memory(size * sizeof *bpe->words);
    bpe->word_mask = size - 1;
  }
  bpe->text_start = calloc((size_t)bpe->n_ids + 1, sizeof *bpe->text_start);
  if (!bpe->text_start) muse_out_of_memory(((size_t)bpe->n_ids + 1) * sizeof *bpe->text_start);
  for (int32_t id = 0; id < bpe->n_ids; id++) {
    bpe->text_start[id] = all.len;
    if (id >= n || !by_id[id]) continue;
    size_t length = strlen(by_id[id]);
    hash_number(r, id);
    hash_text(r, by_id[id], length);
    if (length && bytes_of_text(by_id[id], length, &bytes)) {
      if (bytes.len == 1) bpe->byte_ids[(unsigned char)bytes.data[0]] = id;
      if (whole_words) put_word(bpe, bytes.data, bytes.len, id);
      muse_str_append_n(&all, bytes.data, bytes.len);
    } else {
      muse_str_append_n(&all, by_id[id], length); // never made from text; shown as it stands
    }
  }
  bpe->text_start[bpe->n_ids] = all.len;
  bpe->texts = all.data;
  muse_str_free(&bytes);
  for (int b = 0; b < 256; b++) {
    bool occurs = b < 0xC0 || (b >= 0xC2 && b <= 0xF4); // in UTF-8
    if (occurs && bpe->byte_ids[b] < 0)
      return REFUSE(r, "'%s': the vocabulary has no token for the byte 0x%02X; only byte-level BPE is supported",
                    r->path, b);
  }
  return MUSE_OK;
}

// ---- merges

static int32_t vocab_id(const Reader *r, const char *token) {
  json_t *value = json_object_get(r->vocab, token);
  return value ? (int32_t)json_integer_value(value) : -1;
}

// Both forms: "a b" and ["a", "b"].
static MuseStatus merge_parts(Reader *r, json_t *merge, size_t rank, MuseStr *left, MuseStr *right) {
  muse_str_clear(left);
  muse_str_clear(right);
  if (json_is_string(merge)) {
    const char *text = json_string_value(merge), *blank = strchr(text, ' ');
    if (blank && !strchr(blank + 1, ' ')) {
      muse_str_append_n(left, text, (size_t)(blank - text));
      muse_str_append(right, blank + 1);
    }
  } else if (json_is_array(merge) && json_array_size(merge) == 2) {
    const char *a = json_string_value(json_array_get(merge, 0)), *b = json_string_value(json_array_get(merge, 1));
    if (a && b) muse_str_append(left, a), muse_str_append(right, b);
  }
  if (left->len == 0 || right->len == 0)
    return REFUSE(r, "'%s': merge %zu is not a pair of tokens", r->path, rank);
  return MUSE_OK;
}

static void put_pair(MuseBpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id) {
  uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  uint64_t i = key * UINT64_C(0x9E3779B97F4A7C15) >> 20 & bpe->pair_mask;
  while (bpe->pairs[i].key != UINT64_MAX && bpe->pairs[i].key != key) i = (i + 1) & bpe->pair_mask;
  bpe->pairs[i] = (MuseBpePair){key, rank, id}; // a pair that is there twice has its last rank, as in the reference
}

static MuseStatus read_merges(Reader *r, json_t *merges) {
  MuseBpe *bpe = r->bpe;
  if (!json_is_array(merges) || json_array_size(merges) > MAX_IDS)
    return REFUSE(r, "'%s': 'merges' of the model is not a list of at most %d pairs", r->path, MAX_IDS);
  size_t n = json_array_size(merges);
  uint64_t size = table_size(n);
  bpe->pairs = malloc(size * sizeof *bpe->pairs);
  if (!bpe->pairs) muse_out_of_memory(size * sizeof *bpe->pairs);
  for (uint64_t i = 0; i < size; i++) bpe->pairs[i].key = UINT64_MAX;
  bpe->pair_mask = size - 1;
  MuseStr left = {0}, right = {0};
  MuseStatus status = MUSE_OK;
  for (size_t rank = 0; rank < n && status == MUSE_OK; rank++) {
    status = merge_parts(r, json_array_get(merges, rank), rank, &left, &right);
    if (status != MUSE_OK) break;
    int32_t a = vocab_id(r, left.data), b = vocab_id(r, right.data);
    muse_str_append(&left, right.data);
    int32_t id = vocab_id(r, left.data);
    if (a < 0 || b < 0 || id < 0) {
      status = REFUSE(r, "'%s': merge %zu makes '%.40s', but %s is not in the vocabulary", r->path, rank, left.data,
                      id < 0 ? "that" : "one of its parts");
    } else {
      hash_number(r, (int64_t)a << 32 | b);
      put_pair(bpe, a, b, (uint32_t)rank, id);
    }
  }
  muse_str_free(&left);
  muse_str_free(&right);
  return status;
}

// ---- normalisation and pre-tokenisation

static MuseStatus read_normalizer(Reader *r, json_t *object, int depth) {
  static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
  static const char *const plain_keys[] = {"type", NULL}, *const sequence_keys[] = {"type", "normalizers", NULL};
  if (is_absent(object)) return MUSE_OK;
  const char *type = type_of(object);
  if (muse_str_eq(type, "Sequence") && depth < 4) {
    json_t *list = json_object_get(object, "normalizers");
    MUSE_TRY(check_keys(r, "the normalizer", object, sequence_keys));
    for (size_t i = 0; i < json_array_size(list); i++) MUSE_TRY(read_normalizer(r, json_array_get(list, i), depth + 1));
    return json_is_array(list) ? MUSE_OK : REFUSE(r, "'%s': the normalizers of a Sequence are not a list", r->path);
  }
  for (int i = 0; i < 4; i++) {
    if (!muse_str_eq(type, forms[i])) continue;
    if (r->bpe->n_forms == MUSE_BPE_MAX_FORMS) return REFUSE(r, "'%s': too many normalizers", r->path);
    r->bpe->forms[r->bpe->n_forms++] = (MuseForm)i;
    hash_text(r, forms[i], strlen(forms[i]));
    return check_keys(r, "the normalizer", object, plain_keys);
  }
  return REFUSE(r, "'%s': the normalizer '%.40s' is not supported (NFC, NFD, NFKC, NFKD and Sequences of them are)",
                r->path, type);
}

static MuseStatus add_step(Reader *r, const char *pattern, bool literal, MuseSplitStep step) {
  if (r->bpe->n_steps == MUSE_BPE_MAX_STEPS)
    return REFUSE(r, "'%s': more than %d steps of pre-tokenisation", r->path, MUSE_BPE_MAX_STEPS);
  if (pattern) MUSE_TRY(muse_split_compile(r->path, pattern, literal, &step.code, r->diag));
  r->bpe->steps[r->bpe->n_steps++] = step;
  hash_text(r, pattern ? pattern : "", pattern ? strlen(pattern) : 0);
  hash_number(r, literal | step.matches << 1 | step.gaps << 2 | step.add_blank << 3 | !pattern << 4);
  return MUSE_OK;
}

static MuseStatus read_split(Reader *r, json_t *object) {
  static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
  static const char *const pattern_keys[] = {"Regex", "String", NULL};
  bool invert;
  MUSE_TRY(check_keys(r, "the pre-tokenizer Split", object, keys));
  MUSE_TRY(get_bool(r, "the pre-tokenizer Split", object, "invert", false, &invert));
  json_t *pattern = json_object_get(object, "pattern");
  MUSE_TRY(check_keys(r, "the pattern of a Split", pattern, pattern_keys));
  const char *regex = json_string_value(json_object_get(pattern, "Regex"));
  const char *literal = json_string_value(json_object_get(pattern, "String"));
  if (!regex == !literal) return REFUSE(r, "'%s': a Split has no pattern, or two", r->path);
  const char *behavior = json_string_value(json_object_get(object, "behavior"));
  MuseSplitStep step = {.matches = true, .gaps = true};
  if (behavior && muse_str_eq(behavior, "Removed")) step.matches = invert, step.gaps = !invert;
  else if (!behavior || !muse_str_eq(behavior, "Isolated"))
    return REFUSE(r, "'%s': a Split with the behavior '%.40s' is not supported (Isolated and Removed are)", r->path,
                  behavior ? behavior : "");
  return add_step(r, regex ? regex : literal, literal != NULL, step);
}

static MuseStatus read_byte_level(Reader *r, json_t *object, bool *out_byte_level) {
  static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
  static const char pattern[] =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"; // GPT-2's
  bool add_blank, use_regex;
  MUSE_TRY(check_keys(r, "the pre-tokenizer ByteLevel", object, keys));
  MUSE_TRY(get_bool(r, "the pre-tokenizer ByteLevel", object, "add_prefix_space", true, &add_blank));
  MUSE_TRY(get_bool(r, "the pre-tokenizer ByteLevel", object, "use_regex", true, &use_regex));
  *out_byte_level = true;
  if (!add_blank && !use_regex) return MUSE_OK;
  MuseSplitStep step = {.matches = true, .gaps = true, .add_blank = add_blank};
  return add_step(r, use_regex ? pattern : NULL, false, step);
}

static MuseStatus read_digits(Reader *r, json_t *object) {
  static const char *const keys[] = {"type", "individual_digits", NULL};
  bool each;
  MUSE_TRY(check_keys(r, "the pre-tokenizer Digits", object, keys));
  MUSE_TRY(get_bool(r, "the pre-tokenizer Digits", object, "individual_digits", false, &each));
  return add_step(r, each ? "\\p{N}" : "\\p{N}+", false, (MuseSplitStep){.matches = true, .gaps = true});
}

static MuseStatus read_pre_tokenizer(Reader *r, json_t *object, int depth, bool *out_byte_level) {
  static const char *const keys[] = {"type", "pretokenizers", NULL};
  const char *type = type_of(object);
  if (*out_byte_level)
    return REFUSE(r, "'%s': the pre-tokenizer '%.40s' stands after ByteLevel, which is not supported", r->path, type);
  if (muse_str_eq(type, "ByteLevel")) return read_byte_level(r, object, out_byte_level);
  if (muse_str_eq(type, "Split")) return read_split(r, object);
  if (muse_str_eq(type, "Digits")) return read_digits(r, object);
  if (!muse_str_eq(type, "Sequence") || depth >= 4)
    return REFUSE(
        r, "'%s': the pre-tokenizer '%.40s' is not supported (ByteLevel, Split, Digits and Sequences of them are)",
        r->path, type);
  json_t *list = json_object_get(object, "pretokenizers");
  MUSE_TRY(check_keys(r, "the pre-tokenizer Sequence", object, keys));
  if (!json_is_array(list)) return REFUSE(r, "'%s': the pretokenizers of a Sequence are not a list", r->path);
  for (size_t i = 0; i < json_array_size(list); i++)
    MUSE_TRY(read_pre_tokenizer(r, json_array_get(list, i), depth + 1, out_byte_level));
  return MUSE_OK;
}

// ---- added tokens

static int by_first_then_longest(const void *a, const void *b) {
  const MuseAddedToken *x = a, *y = b;
  unsigned char p = (unsigned char)x->text[0], q = (unsigned char)y->text[0];
  if (p != q) return p < q ? -1 : 1;
  if (x->length != y->length) return x->length > y->length ? -1 : 1;
  return memcmp(x->text, y->text, x->length);
}

static MuseStatus finish_added(Reader *r, MuseAddedSet *set) {
  if (set->tokens.len) qsort(set->tokens.data, set->tokens.len, sizeof *set->tokens.data, by_first_then_longest);
  for (size_t i = 0, byte = 0; byte <= 256; byte++) {
    while (i < set->tokens.len && (unsigned char)set->tokens.data[i].text[0] < byte) i++;
    set->first[byte] = (uint32_t)i;
  }
  for (size_t i = 0; i < set->tokens.len; i++) {
    const MuseAddedToken *t = &set->tokens.data[i], *before = i ? t - 1 : NULL;
    if (before && before->length == t->length && memcmp(before->text, t->text, t->length) == 0)
      return REFUSE(r, "'%s': the added token '%.40s' is there twice", r->path, t->text);
    if (t->length > set->longest) set->longest = t->length;
    set->takes_blanks |= t->before_blanks || t->after_blanks;
  }
  return MUSE_OK;
}

// The text that an added token that is matched after normalisation is matched by.
static void normalize_added(const MuseBpe *bpe, MuseStr *text) {
  for (int i = 0; i < bpe->n_forms; i++) {
    MuseStr next = {0};
    muse_text_normalize(muse_str_text(text), text->len, bpe->forms[i], &next);
    muse_str_free(text);
    *text = next;
  }
}

typedef struct AddedInfo {
  const char *content;
  int32_t id;
  bool special;
} AddedInfo;

static MuseStatus read_added(Reader *r, json_t *object, json_int_t *next_id, AddedInfo *out) {
  static const char *const keys[] = {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", NULL};
  bool single_word, lstrip, rstrip, normalized, special;
  MUSE_TRY(check_keys(r, "an added token", object, keys));
  const char *content = json_string_value(json_object_get(object, "content"));
  json_t *id_value = json_object_get(object, "id");
  json_int_t id = json_is_integer(id_value) ? json_integer_value(id_value) : -1;
  if (!content || !*content || strlen(content) > MAX_TOKEN_BYTES || id < 0 || id >= MAX_IDS)
    return REFUSE(r, "'%s': an added token has no content or no id from 0 to %d", r->path, MAX_IDS - 1);
  MUSE_TRY(get_bool(r, "an added token", object, "special", false, &special));
  MUSE_TRY(get_bool(r, "an added token", object, "single_word", false, &single_word));
  MUSE_TRY(get_bool(r, "an added token", object, "lstrip", false, &lstrip));
  MUSE_TRY(get_bool(r, "an added token", object, "rstrip", false, &rstrip));
  MUSE_TRY(get_bool(r, "an added token", object, "normalized", !special, &normalized));
  if (single_word)
    return REFUSE(r, "'%s': the added token '%.40s' has single_word, which is not supported", r->path, content);
  // The reference gives ids itself: the vocabulary's, else the next free one.
  int32_t own = vocab_id(r, content);
  json_int_t right = own >= 0 ? own : *next_id;
  if (id != right)
    return REFUSE(r, "'%s': the added token '%.40s' has the id %lld, where the reference implementation gives it %lld",
                  r->path, content, (long long)id, (long long)right);
  json_int_t size = (json_int_t)json_object_size(r->vocab);
  if (id >= *next_id || id >= size) *next_id = id + 1 > size ? id + 1 : size;
  *out = (AddedInfo){content, (int32_t)id, special};
  MuseStr text = {0};
  muse_str_append(&text, content);
  if (normalized) normalize_added(r->bpe, &text);
  MuseAddedToken token = {text.data, text.len, (int32_t)id, lstrip, rstrip};
  MuseAddedSet *set = normalized ? &r->bpe->normalized : &r->bpe->raw;
  muse_vec_push(&set->tokens, token);
  if (text.len == 0) return REFUSE(r, "'%s': the added token '%.40s' is empty", r->path, content);
  hash_number(r, id << 8 | lstrip | rstrip << 1 | normalized << 2);
  hash_text(r, content, strlen(content));
  return MUSE_OK;
}

// Texts of added tokens replace those of the vocabulary; special ones have none.
static void set_added_texts(MuseBpe *bpe, const AddedInfo *added, size_t n) {
  const AddedInfo **of_id = calloc((size_t)bpe->n_ids, sizeof *of_id);
  if (!of_id) muse_out_of_memory((size_t)bpe->n_ids * sizeof *of_id);
  for (size_t i = 0; i < n; i++) of_id[added[i].id] = &added[i];
  MuseStr all = {0};
  muse_str_append(&all, "");
  for (int32_t id = 0; id < bpe->n_ids; id++) {
    uint64_t start = bpe->text_start[id], end = bpe->text_start[id + 1];
    bpe->text_start[id] = all.len;
    if (!of_id[id]) muse_str_append_n(&all, bpe->texts + start, end - start);
    else if (!of_id[id]->special) muse_str_append(&all, of_id[id]->content);
  }
  bpe->text_start[bpe->n_ids] = all.len;
  free(bpe->texts);
  free(of_id);
  bpe->texts = all.data;
}

// The file does not say which token ends a text; these names are in use.
static int32_t find_eos(const AddedInfo *added, size_t n) {
  static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "<eos>", "[EOS]",
                                      "<\xEF\xBD\x9C\x65nd\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};
  for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
    for (size_t i = 0; i < n; i++)
      if (muse_str_eq(added[i].content, names[k])) return added[i].id;
  return -1;
}

// ---- the whole file

static MuseStatus check_model(Reader *r, json_t *model) {
  static const char *const keys[] = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                     "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", NULL};
  json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
  if (!json_is_object(model)) return REFUSE(r, "'%s': there is no 'model'", r->path);
  if (type && !muse_str_eq(type_of(model), "BPE"))
    return REFUSE(r, "'%s': the model is '%.40s', only byte-level BPE is supported%s", r->path, type_of(model),
                  muse_str_eq(type_of(model), "Unigram") ? "; if there is a SentencePiece .model, use that" : "");
  MUSE_TRY(check_keys(r, "the model", model, keys));
  if (!is_absent(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
    return REFUSE(r, "'%s': 'dropout' makes ids random, which is not supported; set it to null", r->path);
  static const char *const blank[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  for (int i = 0; i < 2; i++)
    if (!is_blank(json_object_get(model, blank[i])))
      return REFUSE(r, "'%s': '%s' of the model is not supported", r->path, blank[i]);
  return MUSE_OK;
}

static MuseStatus check_rest(Reader *r, json_t *root) {
  static const char *const keys[] = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                                     "post_processor", "decoder", "model", NULL};
  static const char *const absent[] = {"truncation", "padding"};
  MUSE_TRY(check_keys(r, "the file", root, keys));
  for (int i = 0; i < 2; i++)
    if (!is_absent(json_object_get(root, absent[i])))
      return REFUSE(r, "'%s': '%s' would change ids and is not supported; set it to null", r->path, absent[i]);
  // post_processor only adds special tokens around a text, which documents here do not have.
  json_t *decoder = json_object_get(root, "decoder");
  if (!is_absent(decoder) && !muse_str_eq(type_of(decoder), "ByteLevel"))
    return REFUSE(r, "'%s': the decoder '%.40s' is not supported (ByteLevel is)", r->path, type_of(decoder));
  return MUSE_OK;
}

static MuseStatus read_all_added(Reader *r, json_t *list, AddedInfo *added) {
  json_int_t next_id = (json_int_t)json_object_size(r->vocab);
  for (size_t i = 0; i < json_array_size(list); i++) {
    MUSE_TRY(read_added(r, json_array_get(list, i), &next_id, &added[i]));
    if (added[i].id >= r->bpe->n_ids) r->bpe->n_ids = added[i].id + 1;
  }
  MUSE_TRY(finish_added(r, &r->bpe->raw));
  return finish_added(r, &r->bpe->normalized);
}

static MuseStatus read_root(Reader *r, json_t *root, const char ***out_by_id, AddedInfo **out_added, int32_t *out_eos) {
  json_t *model = json_object_get(root, "model"), *list = json_object_get(root, "added_tokens");
  bool ignore_merges, byte_level = false;
  int32_t n = 0;
  if (!json_is_object(root)) return REFUSE(r, "'%s' holds no JSON object", r->path);
  MUSE_TRY(check_rest(r, root));
  MUSE_TRY(check_model(r, model));
  MUSE_TRY(get_bool(r, "the model", model, "ignore_merges", false, &ignore_merges));
  hash_number(r, ignore_merges);
  r->vocab = json_object_get(model, "vocab");
  MUSE_TRY(read_vocab(r, r->vocab, out_by_id, &n));
  r->bpe->n_ids = n;
  MUSE_TRY(read_normalizer(r, json_object_get(root, "normalizer"), 0));
  json_t *pre = json_object_get(root, "pre_tokenizer");
  if (!is_absent(pre)) MUSE_TRY(read_pre_tokenizer(r, pre, 0, &byte_level));
  if (!byte_level)
    return REFUSE(r, "'%s': there is no ByteLevel pre-tokenizer; only byte-level BPE is supported", r->path);
  size_t n_added = json_array_size(list);
  *out_added = calloc(n_added + 1, sizeof **out_added);
  if (!*out_added) muse_out_of_memory(n_added * sizeof **out_added);
  if (!is_absent(list) && !json_is_array(list)) return REFUSE(r, "'%s': 'added_tokens' is not a list", r->path);
  MUSE_TRY(read_all_added(r, list, *out_added));
  MUSE_TRY(build_texts(r, *out_by_id, n, ignore_merges));
  MUSE_TRY(read_merges(r, json_object_get(model, "merges")));
  set_added_texts(r->bpe, *out_added, n_added);
  *out_eos = find_eos(*out_added, n_added);
  return MUSE_OK;
}

MuseStatus muse_bpe_parse(const char *path, const char *bytes, size_t size, MuseBpe *out_bpe, uint64_t *out_hash,
                          int32_t *out_eos, MuseDiag *diag) {
  json_error_t error;
  json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
  if (!root)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is no JSON, at line %d: %s", path, error.line, error.text);
  Reader r = {.path = path, .diag = diag, .bpe = out_bpe, .hasher = muse_hasher_create()};
  const char **by_id = NULL;
  AddedInfo *added = NULL;
  static const char version[] = "muse tokenizer byte-level BPE 1";
  muse_hasher_update(r.hasher, version, sizeof version);
  MuseStatus status = read_root(&r, root, &by_id, &added, out_eos);
  *out_hash = muse_hasher_finish(r.hasher).lo;
  free(by_id);
  free(added);
  json_decref(root);
  return status;
}

void muse_bpe_free(MuseBpe *bpe) {
  MuseAddedSet *sets[] = {&bpe->raw, &bpe->normalized};
  for (int s = 0; s < 2; s++) {
    for (size_t i = 0; i < sets[s]->tokens.len; i++) free(sets[s]->tokens.data[i].text);
    muse_vec_free(&sets[s]->tokens);
  }
  for (int i = 0; i < bpe->n_steps; i++) pcre2_code_free(bpe->steps[i].code);
  free(bpe->texts);
  free(bpe->text_start);
  free(bpe->pairs);
  free(bpe->words);
}
