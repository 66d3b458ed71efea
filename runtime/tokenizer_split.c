// Patterns of the pre-tokenisation, written for Oniguruma (Ruby syntax) and run by PCRE2 with Unicode properties.
#include "runtime/tokenizer_bpe.h"

#include <ctype.h>
#include <string.h>

// ---- what both engines read alike

// General categories; scripts and other properties differ (PCRE2 takes script extensions).
static bool is_category(const char *name, size_t n) {
  static const char *const known[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
                                      "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
                                      "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf"};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strlen(known[i]) == n && memcmp(known[i], name, n) == 0) return true;
  return false;
}

// Length of the escape sequence at p[0] == '\\' when both engines mean the same by it, else 0.
static size_t escape_length(const char *p) {
  if (p[1] == 0) return 0;
  if (p[1] == 'p' || p[1] == 'P') {
    const char *close = p[2] == '{' ? strchr(p, '}') : NULL;
    return close && is_category(p + 3, (size_t)(close - p - 3)) ? (size_t)(close - p + 1) : 0;
  }
  if (isalnum((unsigned char)p[1])) return strchr("sSdDrntfv", p[1]) && p[1] != 'v' ? 2 : 0;
  return (unsigned char)p[1] < 0x80 ? 2 : 0; // an escaped sign stands for itself
}

// The first part of the pattern that is not known to mean the same, or NULL.
static const char *find_unlike(const char *pattern) {
  bool in_class = false;
  const char *class_begin = NULL;
  for (const char *p = pattern; *p;) {
    if (*p == '\\') {
      size_t n = escape_length(p);
      if (n == 0) return p;
      p += n;
    } else if (in_class) {
      if (*p == '[' || (p[0] == '&' && p[1] == '&')) return p; // sets in sets, intersections
      if (*p == ']') {
        if (p == class_begin) return p;
        in_class = false;
      }
      p++;
    } else if (*p == '[') {
      in_class = true;
      p += p[1] == '^' ? 2 : 1;
      class_begin = p;
    } else if (*p == '^' || *p == '$') {
      return p; // of a line there, of the text here
    } else if (p[0] == '(' && p[1] == '?') {
      static const char *const known[] = {"(?:", "(?=", "(?!", "(?i:", "(?>"};
      size_t n = 0;
      for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (muse_str_starts_with(p, known[i])) n = strlen(known[i]);
      if (n == 0) return p;
      p += n;
    } else if (p[0] == '(' && p[1] == '*') {
      return p; // PCRE2's verbs
    } else if ((p[0] == '}' && p[1] == '+') || (p[0] == '{' && p[1] == ',')) {
      return p; // possessive here, repeated there; the sign itself here, from 0 times there
    } else {
      p++;
    }
  }
  return NULL;
}

MuseStatus muse_split_compile(const char *path, const char *pattern, bool literal, pcre2_code **out_code,
                              MuseDiag *diag) {
  *out_code = NULL;
  size_t length = strlen(pattern);
  if (length > 20000)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': a pattern has %zu bytes, 20000 are allowed", path, length);
  const char *unlike = literal ? NULL : find_unlike(pattern);
  if (unlike)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': the pattern '%s' has '%.12s' in it, which may mean something else here than in the "
                      "reference implementation, so this tokenizer cannot be used",
                      path, pattern, unlike);
  int error;
  PCRE2_SIZE offset;
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (!context) muse_out_of_memory(256);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF); // for '.'
  pcre2_set_parens_nest_limit(context, 100);
  uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
  pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, length, options, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code) {
    PCRE2_UCHAR why[256];
    pcre2_get_error_message(error, why, sizeof why);
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the pattern '%s' is wrong at byte %zu: %s", path, pattern, offset,
                      (const char *)why);
  }
  uint32_t empty = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &empty);
  if (empty) {
    pcre2_code_free(code);
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the pattern '%s' matches the empty text, which does not split", path,
                      pattern);
  }
  // Where the machine has no JIT the interpreter runs, with the same result.
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
  *out_code = code;
  return MUSE_OK;
}

// ---- matching

void muse_split_state_init(MuseSplitState *state) {
  *state = (MuseSplitState){.data = pcre2_match_data_create(1, NULL), .context = pcre2_match_context_create(NULL),
                            .stack = pcre2_jit_stack_create(64 << 10, 16 << 20, NULL)};
  if (!state->data || !state->context) muse_out_of_memory(1024);
  if (state->stack) pcre2_jit_stack_assign(state->context, NULL, state->stack);
}

void muse_split_state_free(MuseSplitState *state) {
  pcre2_match_data_free(state->data);
  pcre2_match_context_free(state->context);
  pcre2_jit_stack_free(state->stack);
  muse_str_free(&state->view);
}

// PCRE2 takes U+180E (E1 A0 8E) for white space; Unicode has not since 6.3, and the reference follows it. U+200B
// (E2 80 8B), of the same category and length, stands in for it.
const char *muse_split_view(MuseSplitState *state, const char *text, size_t length) {
  const char *end = text + length, *found = length ? memmem(text, length, "\xE1\xA0\x8E", 3) : NULL;
  if (!found) return text;
  muse_str_clear(&state->view);
  muse_str_append_n(&state->view, text, length);
  for (; found; found = memmem(found + 3, (size_t)(end - found - 3), "\xE1\xA0\x8E", 3))
    memcpy(state->view.data + (found - text), "\xE2\x80\x8B", 3);
  return state->view.data;
}

MuseSplitResult muse_split_find(MuseSplitState *state, const pcre2_code *code, const char *view, size_t length,
                                size_t from, bool last, size_t *out_start, size_t *out_end) {
  int n = pcre2_match(code, (PCRE2_SPTR)view, length, from, PCRE2_NO_UTF_CHECK | (last ? 0 : PCRE2_PARTIAL_HARD),
                      state->data, state->context);
  if (n == PCRE2_ERROR_NOMATCH) return MUSE_SPLIT_NONE;
  if (n == PCRE2_ERROR_PARTIAL) return MUSE_SPLIT_UNSURE;
  if (n < 0) return MUSE_SPLIT_ERROR;
  const PCRE2_SIZE *at = pcre2_get_ovector_pointer(state->data);
  *out_start = at[0];
  *out_end = at[1];
  return MUSE_SPLIT_MATCH;
}
