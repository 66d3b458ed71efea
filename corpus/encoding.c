// Encodings through iconv, normalisation through utf8proc.
#include "corpus/encoding.h"

#include "ir/base/vec.h"

#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

bool muse_text_is_utf8(const char *text, size_t length, bool *out_ascii) {
  const unsigned char *p = (const unsigned char *)text, *end = p + length;
  bool ascii = true;
  while (p < end) {
    uint64_t eight;
    if (end - p >= 8) {
      memcpy(&eight, p, 8);
      // No byte beyond 0x7f and none that is 0.
      if (!(eight & 0x8080808080808080u) && !((eight - 0x0101010101010101u) & ~eight & 0x8080808080808080u)) {
        p += 8;
        continue;
      }
    }
    if (*p == 0) return false;
    if (*p < 0x80) {
      p++;
      continue;
    }
    utf8proc_int32_t code;
    ascii = false;
    utf8proc_ssize_t n = utf8proc_iterate(p, end - p, &code);
    if (n <= 0 || code < 0) return false;
    p += n;
  }
  if (out_ascii) *out_ascii = ascii;
  return true;
}

// The names that people use. Windows' form of Shift_JIS is what files are in: iconv's own has a yen sign for '\'.
static const char *iconv_name(const char *encoding) {
  static const char *const shift_jis[] = {"shift_jis", "shift-jis", "shiftjis", "sjis", "ms932", "windows-31j"};
  for (size_t i = 0; i < sizeof shift_jis / sizeof *shift_jis; i++)
    if (strcasecmp(encoding, shift_jis[i]) == 0) return "CP932";
  return strcasecmp(encoding, "eucjp") == 0 ? "EUC-JP" : encoding;
}

MuseStatus muse_encoding_check(const char *encoding, MuseDiag *diag) {
  if (!encoding) return MUSE_OK;
  iconv_t converter = *encoding && !strchr(encoding, '/') ? iconv_open("UTF-8", iconv_name(encoding)) : (iconv_t)-1;
  if (converter == (iconv_t)-1)
    return muse_error(diag, MUSE_ERR_INPUT, "no encoding '%s' is known here; 'iconv -l' lists those of this machine",
                      encoding);
  iconv_close(converter);
  return MUSE_OK;
}

static bool convert(MuseStr *text, size_t skip, const char *from) {
  iconv_t converter = iconv_open("UTF-8", from);
  if (converter == (iconv_t)-1) return false;
  char *in = text->data + skip, piece[16384];
  size_t in_left = text->len - skip;
  MuseStr out = {0};
  bool ok = true, flushed = false;
  while (ok && !flushed) {
    char *o = piece;
    size_t room = sizeof piece;
    flushed = in_left == 0; // the last call ends a state, of ISO-2022-JP for example
    size_t result = flushed ? iconv(converter, NULL, NULL, &o, &room) : iconv(converter, &in, &in_left, &o, &room);
    if (result == (size_t)-1) ok = errno == E2BIG, flushed = false;
    muse_str_append_n(&out, piece, (size_t)(o - piece));
  }
  iconv_close(converter);
  ok = ok && muse_text_is_utf8(muse_str_text(&out), out.len, NULL);
  if (ok) {
    muse_str_free(text);
    *text = out;
  } else {
    muse_str_free(&out);
  }
  return ok;
}

bool muse_text_to_utf8(MuseStr *text, const char *encoding) {
  static const struct { const char *mark; size_t n; const char *encoding; } marks[] = {
      {"\xEF\xBB\xBF", 3, NULL},       {"\xFF\xFE\0\0", 4, "UTF-32LE"}, {"\0\0\xFE\xFF", 4, "UTF-32BE"},
      {"\xFF\xFE", 2, "UTF-16LE"},     {"\xFE\xFF", 2, "UTF-16BE"},
  };
  for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
    size_t n = marks[i].n;
    if (text->len < n || memcmp(text->data, marks[i].mark, n) != 0) continue;
    if (marks[i].encoding) return convert(text, n, marks[i].encoding);
    memmove(text->data, text->data + n, text->len - n + 1);
    text->len -= n;
    return muse_text_is_utf8(text->data, text->len, NULL);
  }
  if (text->len == 0) return true;
  bool ascii, utf8 = muse_text_is_utf8(text->data, text->len, &ascii);
  if (utf8 && (!ascii || !encoding)) return true;
  return encoding && convert(text, 0, iconv_name(encoding));
}

// Lines are normalised one by one, for nothing composes across a line's end: memory stays that of the longest line.
void muse_text_nfkc(MuseStr *text) {
  bool ascii;
  if (text->len == 0 || (muse_text_is_utf8(text->data, text->len, &ascii) && ascii)) return;
  MuseStr out = {0};
  for (size_t at = 0; at < text->len;) {
    const char *newline = memchr(text->data + at, '\n', text->len - at);
    size_t n = newline ? (size_t)(newline - text->data) + 1 - at : text->len - at;
    utf8proc_uint8_t *line = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text->data + at, (utf8proc_ssize_t)n, &line,
                                           UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    if (length == UTF8PROC_ERROR_NOMEM) muse_out_of_memory(n);
    // Nothing else can be wrong with valid UTF-8.
    if (length >= 0) muse_str_append_n(&out, (const char *)line, (size_t)length);
    else muse_str_append_n(&out, text->data + at, n);
    free(line);
    at += n;
  }
  muse_str_free(text);
  *text = out;
}
