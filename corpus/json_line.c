// A scanner of one JSON object.
#include "corpus/json_line.h"

#include <string.h>

typedef struct Scanner {
  const unsigned char *at, *end;
  MuseStr *scratch;
} Scanner;

// A string's content: in the line where it has no escapes, else in the scratch, which moves as it grows.
typedef struct Content {
  bool escaped;
  size_t start, length; // from the scratch's start, or
  const char *text;     // in the line
} Content;

static void skip_space(Scanner *s) {
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

static bool take(Scanner *s, char c) {
  if (s->at == s->end || *s->at != (unsigned char)c) return false;
  s->at++;
  return true;
}

static bool read_hex(Scanner *s, uint32_t *out) {
  if (s->end - s->at < 4) return false;
  *out = 0;
  for (int i = 0; i < 4; i++) {
    unsigned char c = *s->at++;
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return false;
    *out = *out << 4 | (uint32_t)digit;
  }
  return true;
}

static void append_code(MuseStr *out, uint32_t c) {
  char b[4];
  if (c < 0x80) {
    b[0] = (char)c;
    muse_str_append_n(out, b, 1);
  } else if (c < 0x800) {
    b[0] = (char)(0xC0 | c >> 6), b[1] = (char)(0x80 | (c & 63));
    muse_str_append_n(out, b, 2);
  } else if (c < 0x10000) {
    b[0] = (char)(0xE0 | c >> 12), b[1] = (char)(0x80 | (c >> 6 & 63)), b[2] = (char)(0x80 | (c & 63));
    muse_str_append_n(out, b, 3);
  } else {
    b[0] = (char)(0xF0 | c >> 18), b[1] = (char)(0x80 | (c >> 12 & 63)), b[2] = (char)(0x80 | (c >> 6 & 63));
    b[3] = (char)(0x80 | (c & 63));
    muse_str_append_n(out, b, 4);
  }
}

// Behind the backslash.
static bool read_escape(Scanner *s) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (s->at == s->end) return false;
  char c = (char)*s->at++;
  const char *known = c ? strchr(from, c) : NULL;
  if (known) {
    muse_str_append_n(s->scratch, &to[known - from], 1);
    return true;
  }
  uint32_t code, low;
  if (c != 'u' || !read_hex(s, &code)) return false;
  if (code >= 0xD800 && code < 0xE000) { // half of a pair
    if (code >= 0xDC00 || !take(s, '\\') || !take(s, 'u') || !read_hex(s, &low) || low < 0xDC00 || low > 0xDFFF)
      return false;
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  append_code(s->scratch, code);
  return true;
}

static bool is_plain(unsigned char c) { return c >= 0x20 && c != '"' && c != '\\'; }

// True where one of the eight bytes is a quote, a backslash or a control character (or, now and then, none is).
static bool has_special(const unsigned char *p) {
  uint64_t v, ones = 0x0101010101010101u, high = 0x8080808080808080u;
  memcpy(&v, p, 8);
  uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
  return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - ones * 0x20) & ~v)) & high;
}

// Behind the opening quote.
static bool read_string(Scanner *s, Content *out) {
  *out = (Content){.start = s->scratch->len, .text = (const char *)s->at};
  for (;;) {
    const unsigned char *run = s->at;
    while (s->end - s->at >= 8 && !has_special(s->at)) s->at += 8;
    while (s->at < s->end && is_plain(*s->at)) s->at++;
    size_t n = (size_t)(s->at - run);
    if (s->at == s->end || (*s->at != '"' && *s->at != '\\')) return false;
    bool ends = *s->at == '"';
    if (out->escaped || !ends) muse_str_append_n(s->scratch, (const char *)run, n);
    s->at++;
    if (ends) {
      out->length = out->escaped ? s->scratch->len - out->start : n;
      return true;
    }
    out->escaped = true;
    if (!read_escape(s)) return false;
  }
}

static bool skip_digits(Scanner *s) {
  const unsigned char *start = s->at;
  while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
  return s->at > start;
}

static bool skip_number(Scanner *s) {
  take(s, '-');
  if (!take(s, '0') && !skip_digits(s)) return false;
  if (take(s, '.') && !skip_digits(s)) return false;
  if (take(s, 'e') || take(s, 'E')) {
    if (!take(s, '+')) take(s, '-');
    return skip_digits(s);
  }
  return true;
}

static bool take_word(Scanner *s, const char *word) {
  size_t n = strlen(word);
  if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0) return false;
  s->at += n;
  return true;
}

static bool skip_value(Scanner *s, int depth);

static bool skip_list(Scanner *s, bool is_object, int depth) {
  char close = is_object ? '}' : ']';
  Content key;
  skip_space(s);
  if (take(s, close)) return true;
  for (;;) {
    if (is_object) {
      skip_space(s);
      if (!take(s, '"') || !read_string(s, &key)) return false;
      skip_space(s);
      if (!take(s, ':')) return false;
    }
    if (!skip_value(s, depth + 1)) return false;
    skip_space(s);
    if (take(s, close)) return true;
    if (!take(s, ',')) return false;
  }
}

static bool skip_value(Scanner *s, int depth) {
  Content content;
  skip_space(s);
  if (s->at == s->end || depth > MUSE_JSON_MAX_DEPTH) return false;
  size_t used = s->scratch->len;
  bool ok;
  switch (*s->at) {
  case '"': s->at++, ok = read_string(s, &content); break;
  case '{': s->at++, ok = skip_list(s, true, depth); break;
  case '[': s->at++, ok = skip_list(s, false, depth); break;
  case 't': ok = take_word(s, "true"); break;
  case 'f': ok = take_word(s, "false"); break;
  case 'n': ok = take_word(s, "null"); break;
  default: ok = skip_number(s); break;
  }
  if (s->scratch->data) s->scratch->data[s->scratch->len = used] = 0;
  return ok;
}

static const char *content_text(const Scanner *s, const Content *c) {
  return c->escaped ? s->scratch->data + c->start : c->text;
}

static int find_name(const char *const *names, int n_names, const char *text, size_t length) {
  for (int i = 0; i < n_names; i++)
    if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0) return i;
  return -1;
}

static bool read_member(Scanner *s, const char *const *names, int n_names, Content *contents, MuseJsonKind *kinds) {
  Content key;
  skip_space(s);
  if (!take(s, '"') || !read_string(s, &key)) return false;
  int i = find_name(names, n_names, key.length ? content_text(s, &key) : "", key.length);
  skip_space(s);
  if (!take(s, ':')) return false;
  skip_space(s);
  if (i < 0) return skip_value(s, 1);
  bool is_null = s->at < s->end && *s->at == 'n';
  if (take(s, '"')) {
    kinds[i] = MUSE_JSON_STRING;
    return read_string(s, &contents[i]);
  }
  kinds[i] = is_null ? MUSE_JSON_NULL : MUSE_JSON_OTHER;
  return skip_value(s, 1);
}

bool muse_json_line(const char *text, size_t length, const char *const *names, int n_names, MuseStr *scratch,
                    MuseSlice *out_values, MuseJsonKind *out_kinds) {
  Scanner s = {(const unsigned char *)text, (const unsigned char *)text + length, scratch};
  Content contents[n_names];
  muse_str_clear(scratch);
  for (int i = 0; i < n_names; i++) out_kinds[i] = MUSE_JSON_ABSENT, out_values[i] = (MuseSlice){NULL, 0};
  skip_space(&s);
  if (!take(&s, '{')) return false;
  skip_space(&s);
  bool more = !take(&s, '}');
  while (more) {
    if (!read_member(&s, names, n_names, contents, out_kinds)) return false;
    skip_space(&s);
    more = !take(&s, '}');
    if (more && !take(&s, ',')) return false;
  }
  skip_space(&s);
  if (s.at != s.end) return false;
  for (int i = 0; i < n_names; i++)
    if (out_kinds[i] == MUSE_JSON_STRING)
      out_values[i] = (MuseSlice){contents[i].length ? content_text(&s, &contents[i]) : "", contents[i].length};
  return true;
}
