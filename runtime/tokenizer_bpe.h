#ifndef MUSE_RUNTIME_TOKENIZER_BPE_H
#define MUSE_RUNTIME_TOKENIZER_BPE_H

#include "runtime/tokenizer_kinds.h"

// Byte-level BPE as a tokenizer.json describes it. Text passes through: added tokens that match the text as it is ->
// normalisation -> added tokens that match the normalised text -> pre-tokenisation -> merges within each word.

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MUSE_BPE_MAX_STEPS = 16, MUSE_BPE_MAX_FORMS = 4 };

// A step of the pre-tokenisation, applied to each piece that the step before made.
typedef struct MuseSplitStep {
  pcre2_code *code;     // NULL: only the blank
  bool matches, gaps;   // which parts become pieces: what matches, what lies between
  bool add_blank;       // before a piece that does not start with one
} MuseSplitStep;

typedef struct MuseBpePair {
  uint64_t key;         // left id << 32 | right id; UINT64_MAX: free
  uint32_t rank;        // lower ones merge first
  int32_t id;           // what they become
} MuseBpePair;

typedef struct MuseBpeWord {
  uint64_t hash;        // of the text; 0: free
  int32_t id;
} MuseBpeWord;

typedef struct MuseAddedToken {
  char *text;           // for a normalised one, after normalisation
  size_t length;
  int32_t id;
  bool before_blanks, after_blanks; // takes white space before or after it along (lstrip, rstrip)
} MuseAddedToken;

// Finds added tokens: leftmost first, of those the longest.
typedef struct MuseAddedSet {
  MUSE_VEC(MuseAddedToken) tokens; // by first byte, then longest first
  uint32_t first[257];             // of tokens that start with a byte
  size_t longest;
  bool takes_blanks;
} MuseAddedSet;

typedef enum MuseForm { MUSE_FORM_NFC, MUSE_FORM_NFD, MUSE_FORM_NFKC, MUSE_FORM_NFKD } MuseForm;

typedef struct MuseBpe {
  // Text of each id: bytes [text_start[id], text_start[id + 1]) of texts; none for ids without text.
  char *texts;
  uint64_t *text_start;
  int32_t n_ids;
  int32_t byte_ids[256];            // -1: cannot occur in UTF-8
  MuseBpePair *pairs;
  uint64_t pair_mask;
  MuseBpeWord *words;               // whole vocabulary by text, for ignore_merges; else NULL
  uint64_t word_mask;
  MuseAddedSet raw, normalized;
  MuseForm forms[MUSE_BPE_MAX_FORMS];
  int n_forms;
  MuseSplitStep steps[MUSE_BPE_MAX_STEPS];
  int n_steps;
} MuseBpe;

// tokenizer_bpe_read.c: fills the tables from JSON. muse_bpe_free takes what is there, also after an error.
MuseStatus muse_bpe_parse(const char *path, const char *bytes, size_t size, MuseBpe *out_bpe, uint64_t *out_hash,
                          int32_t *out_eos, MuseDiag *diag);
void muse_bpe_free(MuseBpe *bpe);

// tokenizer_split.c. A pattern that the reference's engine (Oniguruma, Ruby syntax) could read otherwise than PCRE2, or
// that matches the empty text, is refused.
MuseStatus muse_split_compile(const char *path, const char *pattern, bool literal, pcre2_code **out_code,
                              MuseDiag *diag);
// Working memory of matching.
typedef struct MuseSplitState {
  pcre2_match_data *data;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
  MuseStr view; // text with stand-ins for characters that PCRE2 and the reference class differently
} MuseSplitState;
void muse_split_state_init(MuseSplitState *state);
void muse_split_state_free(MuseSplitState *state);
// The text that patterns are to be matched against: of the same length, mostly the text itself.
const char *muse_split_view(MuseSplitState *state, const char *text, size_t length);
typedef enum MuseSplitResult { MUSE_SPLIT_MATCH, MUSE_SPLIT_NONE, MUSE_SPLIT_UNSURE, MUSE_SPLIT_ERROR } MuseSplitResult;
// The first match in [from, length) of the view. Unless `last`, UNSURE when text beyond the end could change it.
MuseSplitResult muse_split_find(MuseSplitState *state, const pcre2_code *code, const char *view, size_t length,
                                size_t from, bool last, size_t *out_start, size_t *out_end);

// tokenizer_normalize.c: appends the text in the given form.
void muse_text_normalize(const char *text, size_t length, MuseForm form, MuseStr *out);
// Largest n <= length such that [0, n) and the rest can be normalised apart.
size_t muse_text_normal_cut(const char *text, size_t length);

#endif
