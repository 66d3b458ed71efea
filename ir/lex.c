// Tokens of IR text. The text may come from anywhere: every byte is checked, nothing is read past the end.
#include "ir/lex.h"

#include "ir/base/str.h"

#include <limits.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_name_char(char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '-'; }

bool muse_lex_is_name(const char *text) {
  if (!*text) return false;
  for (; *text; text++) {
    if (!is_name_char(*text)) return false;
  }
  return true;
}

bool muse_lex_is_word(const char *text) {
  return is_letter(*text) && muse_lex_is_name(text);
}

void muse_lexer_init(MuseLexer *lexer, const char *text, size_t length, MuseArena *arena) {
  *lexer =
      (MuseLexer){.at = text, .end = text + length, .line_begin = text, .line = 1, .fresh_line = true, .arena = arena};
}

static void skip_space(MuseLexer *lx) {
  while (lx->at < lx->end) {
    char c = *lx->at;
    if (c == '\n') {
      lx->at++;
      if (lx->line < INT_MAX) lx->line++;
      lx->line_begin = lx->at;
      lx->fresh_line = true;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      lx->at++;
    } else if (c == '/' && lx->end - lx->at > 1 && lx->at[1] == '/') {
      const char *stop = memchr(lx->at, '\n', (size_t)(lx->end - lx->at));
      lx->at = stop ? stop : lx->end;
    } else {
      return;
    }
  }
}

static void bad(MuseToken *t, const char *message) {
  t->kind = MUSE_TOKEN_BAD;
  t->message = message;
}

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// lx->at stands on the opening quote.
static void lex_string(MuseLexer *lx, MuseToken *t, MuseTokenKind kind) {
  const char *begin = ++lx->at, *stop = begin;
  while (stop < lx->end && *stop != '"' && *stop != '\n') stop += *stop == '\\' && lx->end - stop > 1 ? 2 : 1;
  if (stop >= lx->end || *stop != '"') {
    bad(t, "this string does not end on its line; close it with '\"'");
    return;
  }
  char *text = muse_arena_alloc(lx->arena, (size_t)(stop - begin) + 1);
  size_t n = 0;
  for (const char *p = begin; p < stop;) {
    unsigned char c = (unsigned char)*p++;
    if (c == '\\') {
      char e = *p++; // the scan above has seen it
      if (e == 'n') c = '\n';
      else if (e == 't') c = '\t';
      else if (e == 'r') c = '\r';
      else if (e == '"' || e == '\\') c = (unsigned char)e;
      else if (e == 'x' && stop - p >= 2 && hex_digit(p[0]) >= 0 && hex_digit(p[1]) >= 0) {
        c = (unsigned char)(hex_digit(p[0]) * 16 + hex_digit(p[1]));
        p += 2;
        if (c == 0) return bad(t, "a string may not hold \\x00");
      } else {
        return bad(
            t, "unknown escape in this string; there are \\\" \\\\ \\n \\t \\r and \\x with two lower-case hex digits");
      }
    } else if (c < 0x20 || c == 0x7f) {
      return bad(t, "a control character stands in this string; write it as \\x and two hex digits");
    }
    text[n++] = (char)c;
  }
  lx->at = stop + 1;
  t->kind = kind;
  t->text = text;
  t->text_length = n;
}

static void lex_number(MuseLexer *lx, MuseToken *t) {
  const char *p = lx->at;
  bool real = false;
  if (*p == '-') p++;
  if (p < lx->end && (*p == 'i' || *p == 'n')) { // -inf, -nan
    while (p < lx->end && is_letter(*p)) p++;
    real = true;
  } else {
    while (p < lx->end && (is_digit(*p) || *p == '.' || *p == 'e' || *p == 'E' ||
                           ((*p == '-' || *p == '+') && (p[-1] == 'e' || p[-1] == 'E')))) {
      if (!is_digit(*p)) real = true;
      p++;
    }
  }
  char text[64];
  size_t length = (size_t)(p - lx->at);
  if (length >= sizeof text) return bad(t, "this number is too long");
  memcpy(text, lx->at, length);
  text[length] = '\0';
  if (real ? !muse_parse_double(text, &t->real) : !muse_parse_i64(text, &t->integer)) {
    return bad(t, real ? "this is not a number" : "this is not an integer of 64 bits");
  }
  lx->at = p;
  t->kind = real ? MUSE_TOKEN_REAL : MUSE_TOKEN_INT;
}

static void lex_token(MuseLexer *lx, MuseToken *t) {
  char c = *lx->at;
  if (is_letter(c)) {
    const char *p = lx->at;
    while (p < lx->end && is_name_char(*p)) p++;
    t->kind = MUSE_TOKEN_WORD;
    t->text = lx->at;
    t->text_length = (size_t)(p - lx->at);
    lx->at = p;
    return;
  }
  if (c == '%') {
    const char *p = lx->at + 1;
    int64_t n = 0;
    while (p < lx->end && is_digit(*p)) {
      n = n * 10 + (*p++ - '0');
      if (n > INT_MAX) return bad(t, "the number of this value is too large");
    }
    if (p == lx->at + 1) return bad(t, "a number must follow '%'");
    t->kind = MUSE_TOKEN_VALUE;
    t->integer = n;
    lx->at = p;
    return;
  }
  if (c == '@') {
    lx->at++;
    if (lx->at < lx->end && *lx->at == '"') return lex_string(lx, t, MUSE_TOKEN_AT);
    const char *p = lx->at;
    while (p < lx->end && is_name_char(*p)) p++;
    if (p == lx->at)
      return bad(t, "a name must follow '@'; put other characters than letters, digits, '_', '.', '-' in quotes");
    t->kind = MUSE_TOKEN_AT;
    t->text = muse_arena_strndup(lx->arena, lx->at, (size_t)(p - lx->at));
    t->text_length = (size_t)(p - lx->at);
    lx->at = p;
    return;
  }
  if (c == '"') return lex_string(lx, t, MUSE_TOKEN_STRING);
  if (c == '-' && lx->end - lx->at > 1 && lx->at[1] == '>') {
    t->kind = MUSE_TOKEN_ARROW;
    lx->at += 2;
    return;
  }
  if (is_digit(c) || c == '-') return lex_number(lx, t);
  if (c && strchr("{}[](),:=^", c)) {
    t->kind = MUSE_TOKEN_PUNCT;
    t->punct = c;
    lx->at++;
    return;
  }
  bad(t, "this character has no meaning in IR text");
}

void muse_lexer_next(MuseLexer *lx, MuseToken *out_token) {
  skip_space(lx);
  *out_token = (MuseToken){.kind = MUSE_TOKEN_END, .first_on_line = lx->fresh_line, .line = lx->line, .begin = lx->at};
  int64_t col = lx->at - lx->line_begin + 1;
  out_token->col = col > INT_MAX ? INT_MAX : (int)col;
  lx->fresh_line = false;
  if (lx->at >= lx->end) return;
  lex_token(lx, out_token);
  out_token->length = (size_t)(lx->at - out_token->begin);
}
