// Collection and printing of messages. What is printed may hold text from hostile files, so everything is shown with
// control characters, broken UTF-8 and bidirectional overrides escaped.
#include "ir/base/diag.h"

#include "ir/base/arena.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_PER_SEVERITY = 1000, MESSAGE_BYTES = 4000 };
// A place further right than the last excerpt column gets no excerpt: a thousand messages in one endless line would
// otherwise scan it a thousand times.
enum { SHOWN_BEFORE_CARET = 70, SHOWN_CHARACTERS = 110, LAST_EXCERPT_COLUMN = 100000 };

typedef struct Message {
  MuseSeverity severity;
  MuseLoc loc;
  const char *text;
} Message;

// line/offset remember the last lookup, since messages mostly come in the order of the file.
typedef struct Source {
  const char *file, *text;
  size_t length;
  int line;
  size_t offset;
} Source;

struct MuseDiag {
  MuseArena *arena; // texts of messages, places and sources
  MUSE_VEC(Message) messages;
  MUSE_VEC(Source) sources;
  size_t counts[MUSE_ERROR + 1];
};

MuseDiag *muse_diag_create(void) {
  MuseDiag *diag = calloc(1, sizeof *diag);
  if (!diag) muse_out_of_memory(sizeof *diag);
  diag->arena = muse_arena_create();
  return diag;
}

void muse_diag_destroy(MuseDiag *diag) {
  if (!diag) return;
  muse_arena_destroy(diag->arena);
  muse_vec_free(&diag->messages);
  muse_vec_free(&diag->sources);
  free(diag);
}

void muse_diag_clear(MuseDiag *diag) {
  if (!diag) return;
  muse_arena_reset(diag->arena);
  muse_vec_clear(&diag->messages);
  muse_vec_clear(&diag->sources);
  memset(diag->counts, 0, sizeof diag->counts);
}

static Source *find_source(const MuseDiag *diag, const char *file) {
  for (size_t i = 0; file && i < diag->sources.len; i++)
    if (muse_str_eq(diag->sources.data[i].file, file)) return &diag->sources.data[i];
  return NULL;
}

void muse_diag_set_source(MuseDiag *diag, const char *file, const char *text, size_t length) {
  if (!diag) return;
  Source source = {.file = muse_arena_strdup(diag->arena, file),
                   .text = muse_arena_strndup(diag->arena, text, length),
                   .length = length,
                   .line = 1};
  Source *old = find_source(diag, file);
  if (old) *old = source;
  else muse_vec_push(&diag->sources, source);
}

static const char *copy_or_null(MuseArena *arena, const char *text) {
  return text ? muse_arena_strdup(arena, text) : NULL;
}

static void add_message(MuseDiag *diag, MuseSeverity severity, MuseLoc loc, const char *format, va_list args) {
  if (!diag || diag->counts[severity]++ >= KEPT_PER_SEVERITY) return;
  char text[MESSAGE_BYTES + 1];
  int length = vsnprintf(text, sizeof text, format, args);
  MUSE_ASSERT(length >= 0);
  const char *ending = length > MESSAGE_BYTES ? " [...]" : "";
  loc.file = copy_or_null(diag->arena, loc.file);
  loc.key = copy_or_null(diag->arena, loc.key);
  muse_vec_push(&diag->messages, ((Message){severity, loc, muse_arena_printf(diag->arena, "%s%s", text, ending)}));
}

MuseStatus muse_errorv(MuseDiag *diag, MuseStatus status, MuseLoc loc, const char *format, va_list args) {
  add_message(diag, MUSE_ERROR, loc, format, args);
  return status;
}

MuseStatus muse_error(MuseDiag *diag, MuseStatus status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  add_message(diag, MUSE_ERROR, (MuseLoc){0}, format, args);
  va_end(args);
  return status;
}

MuseStatus muse_error_at(MuseDiag *diag, MuseStatus status, MuseLoc loc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  add_message(diag, MUSE_ERROR, loc, format, args);
  va_end(args);
  return status;
}

void muse_warning_at(MuseDiag *diag, MuseLoc loc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  add_message(diag, MUSE_WARNING, loc, format, args);
  va_end(args);
}

void muse_note_at(MuseDiag *diag, MuseLoc loc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  add_message(diag, MUSE_NOTE, loc, format, args);
  va_end(args);
}

size_t muse_diag_count(const MuseDiag *diag, MuseSeverity severity) { return diag ? diag->counts[severity] : 0; }

const char *muse_diag_message(const MuseDiag *diag, size_t index) {
  return diag && index < diag->messages.len ? diag->messages.data[index].text : NULL;
}

MuseLoc muse_diag_loc(const MuseDiag *diag, size_t index) {
  return diag && index < diag->messages.len ? diag->messages.data[index].loc : (MuseLoc){0};
}

MuseSeverity muse_diag_severity(const MuseDiag *diag, size_t index) {
  return diag && index < diag->messages.len ? diag->messages.data[index].severity : MUSE_NOTE;
}

// Decodes one character of `text`. Returns its length in bytes; *out_code is -1 for a byte that is not UTF-8.
static size_t decode_utf8(const char *text, size_t length, int32_t *out_code) {
  const unsigned char *p = (const unsigned char *)text;
  static const int32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xF0 && p[0] < 0xF8 ? 4 : p[0] >= 0xE0 ? 3 : p[0] >= 0xC0 ? 2 : 0;
  if (p[0] >= 0xF8) n = 0;
  int32_t code = n == 1 ? p[0] : n ? p[0] & (0x7F >> n) : -1;
  *out_code = -1;
  if (n == 0 || n > length) return 1;
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 1;
    code = code << 6 | (p[i] & 0x3F);
  }
  if (code < smallest[n] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return 1;
  *out_code = code;
  return n;
}

// Control characters of both blocks, line separators, and the characters that reorder or hide text.
static bool is_unprintable(int32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x2069) || code == 0xFEFF ||
         (code >= 0xE0000 && code <= 0xE007F);
}

// Appends one character as it may be shown and returns the columns it takes (wide characters are counted as one).
static size_t append_shown(MuseStr *s, const char *text, size_t n_bytes, int32_t code) {
  size_t before = s->len;
  if (code == '\t') muse_str_append(s, " ");
  else if (code == '\n') muse_str_append(s, "\\n");
  else if (code == '\r') muse_str_append(s, "\\r");
  else if (code < 0) muse_str_appendf(s, "\\x%02x", (unsigned char)text[0]);
  else if (code < 0x80 && is_unprintable(code)) muse_str_appendf(s, "\\x%02x", (unsigned)code);
  else if (is_unprintable(code)) muse_str_appendf(s, "\\u{%x}", (unsigned)code);
  else {
    muse_str_append_n(s, text, n_bytes);
    return 1;
  }
  return s->len - before;
}

static void append_escaped(MuseStr *s, const char *text) {
  size_t length = strlen(text);
  for (size_t i = 0; i < length;) {
    int32_t code;
    size_t n = decode_utf8(text + i, length - i, &code);
    append_shown(s, text + i, n, code);
    i += n;
  }
}

// Finds line `line` of the source; false when the text has fewer lines.
static bool find_line(Source *source, int line, const char **out_text, size_t *out_length) {
  if (line < source->line) source->line = 1, source->offset = 0;
  while (source->line < line) {
    const char *newline = memchr(source->text + source->offset, '\n', source->length - source->offset);
    if (!newline) return false;
    source->offset = (size_t)(newline + 1 - source->text);
    source->line++;
  }
  const char *start = source->text + source->offset;
  size_t rest = source->length - source->offset;
  const char *newline = memchr(start, '\n', rest);
  *out_text = start;
  *out_length = newline ? (size_t)(newline - start) : rest;
  if (*out_length && start[*out_length - 1] == '\r') (*out_length)--;
  return true;
}

// A column past the end (a missing character, an end of file) is moved to right behind the text.
static size_t column_in_line(const char *line, size_t length, size_t col) {
  size_t character = 1;
  for (size_t i = 0; i < length && character < col && character <= LAST_EXCERPT_COLUMN; character++) {
    int32_t code;
    i += decode_utf8(line + i, length - i, &code);
  }
  return character;
}

// The source line and, below it, a caret at `col`. A long line is shown in part, around the caret.
static void append_excerpt(MuseStr *s, Source *source, MuseLoc loc) {
  const char *line;
  size_t length;
  if (!find_line(source, loc.line, &line, &length)) return;
  size_t col = loc.col > 0 ? column_in_line(line, length, (size_t)loc.col) : 0;
  if (col > LAST_EXCERPT_COLUMN) return;
  size_t first = col > SHOWN_BEFORE_CARET ? col - SHOWN_BEFORE_CARET : 1; // first character shown, from 1
  size_t width = 2, caret = 0, character = 1, i = 0;
  muse_str_append(s, "  ");
  if (first > 1) muse_str_append(s, "..."), width += 3;
  for (; i < length && character < first + SHOWN_CHARACTERS; character++) {
    int32_t code;
    size_t n = decode_utf8(line + i, length - i, &code);
    if (character == col) caret = width;
    if (character >= first) width += append_shown(s, line + i, n, code);
    i += n;
  }
  if (i < length) muse_str_append(s, "...");
  if (col && !caret) caret = width;
  muse_str_append(s, "\n");
  if (col) muse_str_appendf(s, "%*s^\n", (int)caret, "");
}

static const char *colour_of(MuseSeverity severity) {
  return severity == MUSE_ERROR ? "\033[1;31m" : severity == MUSE_WARNING ? "\033[1;35m" : "\033[1;36m";
}

static bool wants_colour(FILE *out) {
  const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
  return isatty(fileno(out)) && !(no_color && *no_color) && !(term && muse_str_eq(term, "dumb"));
}

static const char *const severity_names[] = {"note", "warning", "error"};

static void append_message(MuseStr *s, const MuseDiag *diag, const Message *m, bool colour) {
  if (m->loc.file) {
    append_escaped(s, m->loc.file);
    if (m->loc.line > 0) muse_str_appendf(s, ":%d", m->loc.line);
    if (m->loc.line > 0 && m->loc.col > 0) muse_str_appendf(s, ":%d", m->loc.col);
    muse_str_append(s, ": ");
  }
  muse_str_appendf(s, "%s%s:%s ", colour ? colour_of(m->severity) : "", severity_names[m->severity],
                   colour ? "\033[0m" : "");
  append_escaped(s, m->text);
  if (m->loc.key && !strstr(m->text, m->loc.key)) {
    muse_str_append(s, " (from key '");
    append_escaped(s, m->loc.key);
    muse_str_append(s, "')");
  }
  muse_str_append(s, "\n");
  Source *source = find_source(diag, m->loc.file);
  if (source && m->loc.line > 0) append_excerpt(s, source, m->loc);
}

void muse_diag_print(const MuseDiag *diag, FILE *out) {
  if (!diag) return;
  bool colour = wants_colour(out);
  MuseStr text = {0};
  for (size_t i = 0; i < diag->messages.len; i++) append_message(&text, diag, &diag->messages.data[i], colour);
  for (int severity = MUSE_ERROR; severity >= MUSE_NOTE; severity--)
    if (diag->counts[severity] > KEPT_PER_SEVERITY)
      muse_str_appendf(&text, "%zu more %ss are not shown\n", diag->counts[severity] - KEPT_PER_SEVERITY,
                       severity_names[severity]);
  fwrite(muse_str_text(&text), 1, text.len, out);
  muse_str_free(&text);
}
