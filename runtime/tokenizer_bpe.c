// Byte-level BPE: text to words by patterns, words to ids by merges, text that comes in pieces.
#include "runtime/tokenizer_bpe.h"

#include "ir/base/hash.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
  CACHE_SLOTS = 1 << 14,
  CACHE_TEXT = 38,       // longer words are not kept
  CACHE_IDS = 8,
  SHORT_WORD = 48,       // bytes; longer ones are merged through a heap
  MAX_PENDING = 16 << 20 // of a text in pieces; also the longest word
};

typedef struct CachedWord {
  uint8_t length, n_ids; // 0: free
  char text[CACHE_TEXT];
  int32_t ids[CACHE_IDS];
} CachedWord;

typedef struct HeapItem {
  uint32_t rank, position;
  int32_t id;
} HeapItem;

typedef struct BpeState {
  const MuseBpe *bpe;
  // One a step, since a step is still busy while its pieces go through the next.
  MuseSplitState split[MUSE_BPE_MAX_STEPS];
  MuseStr blanked[MUSE_BPE_MAX_STEPS];
  CachedWord *cache;
  // A text in pieces: bytes that may be half a character, text that waits for what follows, the same normalised.
  MuseStr carry, raw, normal, forms[2];
  size_t raw_wait, normal_wait; // not worth looking again before that much is there
  bool at_start;                // of a stretch between added tokens
  // Long words.
  MUSE_VEC(int32_t) id, next, previous;
  MUSE_VEC(HeapItem) heap;
  MuseTokenIds *out;
  MuseStatus status;
  MuseDiag *diag;
} BpeState;

static void *bpe_create(const void *tables) {
  BpeState *s = calloc(1, sizeof *s);
  if (!s) muse_out_of_memory(sizeof *s);
  s->bpe = tables;
  for (int i = 0; i < s->bpe->n_steps; i++) muse_split_state_init(&s->split[i]);
  s->cache = calloc(CACHE_SLOTS, sizeof *s->cache);
  if (!s->cache) muse_out_of_memory(CACHE_SLOTS * sizeof *s->cache);
  s->at_start = true;
  return s;
}

static void bpe_destroy(void *state) {
  BpeState *s = state;
  for (int i = 0; i < MUSE_BPE_MAX_STEPS; i++) {
    if (i < s->bpe->n_steps) muse_split_state_free(&s->split[i]);
    muse_str_free(&s->blanked[i]);
  }
  free(s->cache);
  muse_str_free(&s->carry);
  muse_str_free(&s->raw);
  muse_str_free(&s->normal);
  muse_str_free(&s->forms[0]);
  muse_str_free(&s->forms[1]);
  muse_vec_free(&s->id);
  muse_vec_free(&s->next);
  muse_vec_free(&s->previous);
  muse_vec_free(&s->heap);
  free(s);
}

static void fail(BpeState *s, MuseStatus status, const char *sentence) {
  if (s->status == MUSE_OK) s->status = muse_error(s->diag, status, "%s", sentence);
}

// ---- merges: the pair of lowest rank first, of equal ones the leftmost

static const MuseBpePair *find_pair(const MuseBpe *bpe, int32_t left, int32_t right) {
  uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  uint64_t i = key * UINT64_C(0x9E3779B97F4A7C15) >> 20 & bpe->pair_mask;
  while (bpe->pairs[i].key != key) {
    if (bpe->pairs[i].key == UINT64_MAX) return NULL;
    i = (i + 1) & bpe->pair_mask;
  }
  return &bpe->pairs[i];
}

// Few parts: the best pair is looked for each time. rank[i] and made[i] belong to the pair of parts i and i + 1.
static size_t merge_short(const MuseBpe *bpe, const unsigned char *text, size_t n, int32_t *id) {
  uint32_t rank[SHORT_WORD];
  int32_t made[SHORT_WORD];
  for (size_t i = 0; i < n; i++) id[i] = bpe->byte_ids[text[i]];
  for (size_t i = 0; i + 1 < n; i++) {
    const MuseBpePair *pair = find_pair(bpe, id[i], id[i + 1]);
    rank[i] = pair ? pair->rank : UINT32_MAX;
    made[i] = pair ? pair->id : -1;
  }
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; i++)
      if (rank[i] < rank[best]) best = i;
    if (rank[best] == UINT32_MAX) break;
    id[best] = made[best];
    n--;
    memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
    if (best + 1 < n) { // rank[best + 1] belongs to the pair that begins with the removed part
      memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
      memmove(made + best, made + best + 1, (n - best - 1) * sizeof *made);
    }
    for (size_t k = best ? best - 1 : 0; k <= best && k + 1 < n; k++) {
      const MuseBpePair *pair = find_pair(bpe, id[k], id[k + 1]);
      rank[k] = pair ? pair->rank : UINT32_MAX;
      made[k] = pair ? pair->id : -1;
    }
  }
  return n;
}

static bool comes_before(HeapItem a, HeapItem b) {
  return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void heap_push(BpeState *s, HeapItem item) {
  muse_vec_push(&s->heap, item);
  size_t i = s->heap.len - 1;
  while (i > 0 && comes_before(item, s->heap.data[(i - 1) / 2])) {
    s->heap.data[i] = s->heap.data[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  s->heap.data[i] = item;
}

static HeapItem heap_pop(BpeState *s) {
  HeapItem top = s->heap.data[0], item = muse_vec_pop(&s->heap);
  size_t n = s->heap.len, i = 0;
  for (size_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && comes_before(s->heap.data[child + 1], s->heap.data[child])) child++;
    if (!comes_before(s->heap.data[child], item)) break;
    s->heap.data[i] = s->heap.data[child];
  }
  if (n) s->heap.data[i] = item;
  return top;
}

static void push_pair(BpeState *s, int32_t left, int32_t right) {
  const MuseBpePair *pair = find_pair(s->bpe, s->id.data[left], s->id.data[right]);
  if (pair) heap_push(s, (HeapItem){pair->rank, (uint32_t)left, pair->id});
}

// Many parts: a linked list, and a heap of pairs, of which those that changed since are passed over.
static void merge_long(BpeState *s, const unsigned char *text, size_t n) {
  muse_vec_reserve(&s->id, n);
  muse_vec_reserve(&s->next, n);
  muse_vec_reserve(&s->previous, n);
  muse_vec_clear(&s->heap);
  int32_t *id = s->id.data, *next = s->next.data, *previous = s->previous.data;
  for (size_t i = 0; i < n; i++) {
    id[i] = s->bpe->byte_ids[text[i]];
    next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    previous[i] = (int32_t)i - 1;
  }
  for (size_t i = 0; i + 1 < n; i++) push_pair(s, (int32_t)i, (int32_t)i + 1);
  while (s->heap.len) {
    HeapItem top = heap_pop(s);
    int32_t left = (int32_t)top.position, right = id[left] < 0 ? -1 : next[left];
    if (right < 0) continue;
    const MuseBpePair *pair = find_pair(s->bpe, id[left], id[right]);
    if (!pair || pair->id != top.id || pair->rank != top.rank) continue;
    id[left] = top.id;
    id[right] = -1; // gone
    next[left] = next[right];
    if (next[left] >= 0) previous[next[left]] = left;
    if (previous[left] >= 0) push_pair(s, previous[left], left);
    if (next[left] >= 0) push_pair(s, left, next[left]);
  }
  for (int32_t i = 0; i >= 0; i = next[i]) muse_vec_push(s->out, id[i]);
}

static int32_t find_word(const MuseBpe *bpe, uint64_t hash) {
  hash += hash == 0;
  uint64_t i = hash & bpe->word_mask;
  while (bpe->words[i].hash && bpe->words[i].hash != hash) i = (i + 1) & bpe->word_mask;
  return bpe->words[i].hash ? bpe->words[i].id : -1;
}

static void add_word(BpeState *s, const char *text, size_t n) {
  const MuseBpe *bpe = s->bpe;
  if (n == 1) {
    muse_vec_push(s->out, bpe->byte_ids[(unsigned char)text[0]]);
    return;
  }
  uint64_t hash = n <= CACHE_TEXT || bpe->words ? muse_hash64(text, n) : 0;
  CachedWord *slot = n <= CACHE_TEXT ? &s->cache[hash % CACHE_SLOTS] : NULL;
  if (slot && slot->length == n && memcmp(slot->text, text, n) == 0) {
    muse_vec_reserve(s->out, s->out->len + CACHE_IDS);
    memcpy(s->out->data + s->out->len, slot->ids, sizeof slot->ids);
    s->out->len += slot->n_ids;
    return;
  }
  size_t before = s->out->len;
  int32_t whole = bpe->words ? find_word(bpe, hash) : -1;
  if (whole >= 0) {
    muse_vec_push(s->out, whole);
  } else if (n <= SHORT_WORD) {
    muse_vec_reserve(s->out, before + SHORT_WORD);
    s->out->len += merge_short(bpe, (const unsigned char *)text, n, s->out->data + before);
  } else if (n > MAX_PENDING) {
    fail(s, MUSE_ERR_NO_FIT,
         "a word of the text is longer than 16 MiB; leave the text out with a smaller --max-document");
  } else {
    merge_long(s, (const unsigned char *)text, n);
  }
  size_t n_ids = s->out->len - before;
  if (!slot || n_ids > CACHE_IDS) return;
  slot->length = (uint8_t)n;
  slot->n_ids = (uint8_t)n_ids;
  memcpy(slot->text, text, n);
  memcpy(slot->ids, s->out->data + before, n_ids * sizeof *slot->ids);
}

// ---- words

static size_t run_step(BpeState *s, int k, const char *text, size_t n, bool last, bool may_add_blank);

static void pass_piece(BpeState *s, int k, const char *text, size_t n) {
  if (k == s->bpe->n_steps) add_word(s, text, n);
  else if (n) run_step(s, k, text, n, true, true);
}

static size_t match_step(BpeState *s, int k, const char *text, size_t n, bool last) {
  const MuseSplitStep *step = &s->bpe->steps[k];
  MuseSplitState *state = &s->split[k];
  const char *view = muse_split_view(state, text, n);
  size_t at = 0, start, end;
  while (at < n && s->status == MUSE_OK) {
    MuseSplitResult result = muse_split_find(state, step->code, view, n, at, last, &start, &end);
    if (result == MUSE_SPLIT_ERROR)
      fail(s, MUSE_ERR_FAILED, "a pattern of the tokenizer gave up on a text; leave the text out");
    if (result == MUSE_SPLIT_NONE && last) start = end = n;
    else if (result != MUSE_SPLIT_MATCH) break;
    if (start > at && step->gaps) pass_piece(s, k + 1, text + at, start - at);
    if (end > start && step->matches) pass_piece(s, k + 1, text + start, end - start);
    at = end;
  }
  return at;
}

// Step k on a piece of text; returns how much of it is done, all of it when it is the `last`.
static size_t run_step(BpeState *s, int k, const char *text, size_t n, bool last, bool may_add_blank) {
  const MuseSplitStep *step = &s->bpe->steps[k];
  bool blank = may_add_blank && step->add_blank && text[0] != ' ';
  if (blank) {
    muse_str_clear(&s->blanked[k]);
    muse_str_append_n(&s->blanked[k], " ", 1);
    muse_str_append_n(&s->blanked[k], text, n);
    text = s->blanked[k].data, n++;
  }
  size_t done = 0;
  if (step->code) done = match_step(s, k, text, n, last);
  else if (last) pass_piece(s, k + 1, text, n), done = n;
  if (k == 0 && done > 0) s->at_start = false;
  return blank && done > 0 ? done - 1 : done;
}

// A stretch between added tokens, or its beginning; returns how much is done.
static size_t add_words(BpeState *s, const char *text, size_t n, bool end) {
  size_t done = n;
  if (n > 0 && s->bpe->n_steps > 0) done = run_step(s, 0, text, n, end, s->at_start);
  else if (n > 0 && end) add_word(s, text, n);
  else if (n > 0) done = 0;
  if (end) s->at_start = true;
  return done;
}

// ---- added tokens

// White space of Unicode that ends before / starts at `at`.
static size_t blank_length(const unsigned char *p, size_t left) {
  if (left >= 1 && (p[0] == ' ' || (p[0] >= 9 && p[0] <= 13))) return 1;
  if (left >= 2 && p[0] == 0xC2 && (p[1] == 0x85 || p[1] == 0xA0)) return 2;
  if (left < 3) return 0;
  bool three = (p[0] == 0xE1 && p[1] == 0x9A && p[2] == 0x80) || (p[0] == 0xE3 && p[1] == 0x80 && p[2] == 0x80) ||
               (p[0] == 0xE2 && p[1] == 0x80 && (p[2] <= 0x8A || p[2] == 0xA8 || p[2] == 0xA9 || p[2] == 0xAF)) ||
               (p[0] == 0xE2 && p[1] == 0x81 && p[2] == 0x9F);
  return three ? 3 : 0;
}

static size_t skip_blanks(const char *text, size_t at, size_t length) {
  for (size_t n; (n = blank_length((const unsigned char *)text + at, length - at)) > 0;) at += n;
  return at;
}

static size_t skip_blanks_back(const char *text, size_t begin, size_t at) {
  for (;;) {
    size_t back = 0;
    for (size_t n = 1; n <= 3 && at - begin >= n && !back; n++)
      if (blank_length((const unsigned char *)text + at - n, n) == n) back = n;
    if (!back) return at;
    at -= back;
  }
}

// The first added token that starts in [from, limit).
static const MuseAddedToken *find_added(const MuseAddedSet *set, const char *text, size_t length, size_t from,
                                        size_t limit, size_t *out_start) {
  for (size_t i = from; i < limit; i++) {
    unsigned char c = (unsigned char)text[i];
    for (uint32_t t = set->first[c]; t < set->first[c + 1]; t++) {
      const MuseAddedToken *token = &set->tokens.data[t];
      if (token->length <= length - i && memcmp(token->text, text + i, token->length) == 0) {
        *out_start = i;
        return token;
      }
    }
  }
  return NULL;
}

typedef size_t (*StretchFn)(BpeState *s, const char *text, size_t n, bool end);

// Hands what lies between added tokens to `stretch` and appends the ids of the tokens; returns how much is done.
static size_t split_added(BpeState *s, const MuseAddedSet *set, StretchFn stretch, const char *text, size_t n,
                          bool end) {
  size_t at = 0, limit = n, start;
  if (set->tokens.len == 0) return stretch(s, text, n, end);
  if (!end) limit = set->takes_blanks || n < set->longest ? 0 : n - set->longest + 1;
  size_t search = 0; // a match's own end; `at` may lie beyond it by the white space it took
  for (const MuseAddedToken *token; (token = find_added(set, text, n, search, limit, &start));) {
    search = start + token->length;
    size_t token_end = search;
    if (token->before_blanks) start = skip_blanks_back(text, at < start ? at : start, start);
    if (token->after_blanks) token_end = skip_blanks(text, token_end, n);
    stretch(s, text + at, start > at ? start - at : 0, true);
    muse_vec_push(s->out, token->id);
    at = token_end;
  }
  if (end) {
    stretch(s, text + at, n - at, true);
    return n;
  }
  while (limit > at && limit < n && ((unsigned char)text[limit] & 0xC0) == 0x80) limit--;
  return limit > at ? at + stretch(s, text + at, limit - at, false) : at;
}

// ---- normalisation

static size_t split_normalized(BpeState *s, const char *text, size_t n, bool end) {
  return split_added(s, &s->bpe->normalized, add_words, text, n, end);
}

static void drop_front(MuseStr *s, size_t n) {
  if (n == 0) return;
  memmove(s->data, s->data + n, s->len - n + 1);
  s->len -= n;
}

static size_t normalize(BpeState *s, const char *text, size_t n, bool end) {
  const MuseBpe *bpe = s->bpe;
  if (bpe->n_forms == 0) return split_normalized(s, text, n, end);
  if (!end) n = muse_text_normal_cut(text, n);
  const char *from = text;
  size_t length = n;
  for (int i = 0; i < bpe->n_forms; i++) {
    bool to_normal = i == bpe->n_forms - 1;
    MuseStr *to = to_normal ? &s->normal : &s->forms[i % 2];
    if (!to_normal) muse_str_clear(to);
    muse_text_normalize(from, length, bpe->forms[i], to);
    from = to->data, length = to->len;
  }
  if (end || s->normal.len >= s->normal_wait) {
    drop_front(&s->normal, split_normalized(s, muse_str_text(&s->normal), s->normal.len, end));
    s->normal_wait = end ? 0 : 2 * s->normal.len;
  }
  return n;
}

// ---- whole texts and pieces

static bool is_valid(const char *text, size_t n) {
  for (size_t i = 0; i < n;) {
    int step = (unsigned char)text[i] < 0x80 ? 1 : muse_utf8_length((const unsigned char *)text + i, n - i);
    if (step == 0) return false;
    i += (size_t)step;
  }
  return true;
}

static void forget_text(BpeState *s) {
  muse_str_clear(&s->carry);
  muse_str_clear(&s->raw);
  muse_str_clear(&s->normal);
  s->raw_wait = s->normal_wait = 0;
  s->at_start = true;
}

static MuseStatus bpe_feed(void *state, const char *text, size_t length, bool last, MuseTokenIds *out_ids,
                           MuseDiag *diag) {
  BpeState *s = state;
  s->out = out_ids;
  s->status = MUSE_OK;
  s->diag = diag;
  if (last && s->carry.len + s->raw.len + s->normal.len == 0 && s->at_start && is_valid(text, length)) {
    split_added(s, &s->bpe->raw, normalize, text, length, true); // a whole text, where it stands
  } else {
    if (s->carry.len) {
      muse_str_append_n(&s->carry, text, length);
      size_t taken = muse_utf8_repair(s->carry.data, s->carry.len, last, &s->raw);
      drop_front(&s->carry, taken);
    } else {
      size_t taken = muse_utf8_repair(text, length, last, &s->raw);
      muse_str_append_n(&s->carry, text + taken, length - taken);
    }
    if (last || s->raw.len >= s->raw_wait) {
      size_t done = split_added(s, &s->bpe->raw, normalize, muse_str_text(&s->raw), s->raw.len, last);
      drop_front(&s->raw, done);
      s->raw_wait = 2 * s->raw.len;
    }
    if (s->raw.len > MAX_PENDING || s->normal.len > MAX_PENDING)
      fail(s, MUSE_ERR_NO_FIT,
           "16 MiB of a text in one piece cannot be split into words; leave it out with a smaller --max-document");
  }
  if (last || s->status != MUSE_OK) forget_text(s);
  return s->status;
}

// ---- ids to text, opening

static void bpe_decode(const void *tables, int32_t id, bool first, MuseStr *out_text) {
  const MuseBpe *bpe = tables;
  if (id < 0 || id >= bpe->n_ids) return;
  muse_str_append_n(out_text, bpe->texts + bpe->text_start[id], bpe->text_start[id + 1] - bpe->text_start[id]);
}

static void bpe_close(void *tables) {
  muse_bpe_free(tables);
  free(tables);
}

MuseStatus muse_bpe_read(const char *path, const char *bytes, size_t size, MuseTokenizer *out, MuseDiag *diag) {
  static const MuseTokenizerKind functions = {bpe_create, bpe_destroy, bpe_feed, bpe_decode, bpe_close};
  MuseBpe *bpe = calloc(1, sizeof *bpe);
  if (!bpe) muse_out_of_memory(sizeof *bpe);
  out->functions = &functions;
  out->tables = bpe; // closed by the caller, also after an error
  MUSE_TRY(muse_bpe_parse(path, bytes, size, bpe, &out->hash, &out->eos, diag));
  out->kind = "byte-level BPE";
  out->vocab_size = bpe->n_ids;
  out->max_text = UINT64_MAX;
  return MUSE_OK;
}
