// Text files, JSON lines and Parquet rows as one kind of sequence.
#include "corpus/documents.h"

#include "corpus/encoding.h"
#include "corpus/json_line.h"
#include "corpus/unpack.h"
#include "ir/base/io.h"
#include "ir/base/vec.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 16 };

struct MuseDocuments {
  char *path;
  MuseFileKind kind;
  const MuseDocumentForm *form;
  MuseParquet *parquet;
  MuseUnpack *stream;
  bool ended;
  int shortage;       // errno of a read that failed for a reason that is not the file's; 0: none
  MuseStr buffer;     // bytes that were read and not used, from `at` on
  size_t at;
  uint64_t line;      // number of the current one
  bool found_columns; // in a line of JSON
  MuseStr scratch;    // of its texts
};

const char *muse_document_verdict_name(MuseDocumentVerdict verdict) {
  static const char *const names[MUSE_N_DOCUMENT_VERDICTS] = {
      "text", "no text", "not UTF-8 text", "too large", "no JSON object", "damaged", "unreadable",
  };
  return names[verdict];
}

static bool ends_with(const char *name, size_t n, const char *ending) {
  size_t m = strlen(ending);
  return n > m && memcmp(name + n - m, ending, m) == 0;
}

MuseFileKind muse_file_kind(const char *name) {
  static const struct { const char *ending; MuseFileKind kind;
  } endings[] = {
      {".txt", MUSE_FILE_TEXT},      {".md", MUSE_FILE_TEXT},     {".text", MUSE_FILE_TEXT},
      {".markdown", MUSE_FILE_TEXT}, {".jsonl", MUSE_FILE_JSONL}, {".ndjson", MUSE_FILE_JSONL},
      {".json", MUSE_FILE_JSONL},
  };
  size_t n = strlen(name);
  if (ends_with(name, n, ".parquet")) return MUSE_FILE_PARQUET;
  if (ends_with(name, n, ".gz")) n -= 3;
  else if (ends_with(name, n, ".zst")) n -= 4;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (ends_with(name, n, endings[i].ending)) return endings[i].kind;
  return MUSE_FILE_OTHER;
}

MuseStatus muse_documents_open(const char *path, MuseFileKind kind, const MuseDocumentForm *form,
                               MuseDocuments **out_documents, MuseDiag *diag) {
  *out_documents = NULL;
  MuseDocuments *d = calloc(1, sizeof *d);
  char *copy = strdup(path);
  if (!d || !copy) muse_out_of_memory(sizeof *d);
  *d = (MuseDocuments){.path = copy, .kind = kind == MUSE_FILE_OTHER ? MUSE_FILE_TEXT : kind, .form = form};
  MuseStatus status = MUSE_OK;
  if (kind == MUSE_FILE_PARQUET) {
    status = muse_parquet_open(path, &d->parquet, diag);
    if (status == MUSE_OK)
      status = muse_parquet_select(d->parquet, form->record->columns, form->record->n_columns, diag);
  } else if (!(d->stream = muse_unpack_open(path))) {
    status = errno == EINVAL ? muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s': it is no regular file", path)
                             : muse_io_error(diag, "read", path, errno);
  }
  if (status == MUSE_OK) *out_documents = d;
  else muse_documents_close(d);
  return status;
}

void muse_documents_close(MuseDocuments *d) {
  if (!d) return;
  muse_parquet_close(d->parquet);
  muse_unpack_close(d->stream);
  muse_str_free(&d->buffer);
  muse_str_free(&d->scratch);
  free(d->path);
  free(d);
}

// OK, END at the end of the stream, or DAMAGED or UNREADABLE.
static MuseDocumentVerdict read_more(MuseDocuments *d) {
  char piece[READ_BYTES];
  int64_t n = muse_unpack_read(d->stream, piece, sizeof piece);
  if (n > 0) {
    muse_str_append_n(&d->buffer, piece, (size_t)n);
    return MUSE_DOCUMENT_OK;
  }
  d->ended = true;
  if (n == MUSE_UNPACK_UNREADABLE && muse_is_shortage(errno)) d->shortage = errno;
  return n == 0 ? MUSE_DOCUMENT_END : n == MUSE_UNPACK_DAMAGED ? MUSE_DOCUMENT_DAMAGED : MUSE_DOCUMENT_UNREADABLE;
}

// ---- a text file

static MuseDocumentVerdict next_text(MuseDocuments *d, MuseStr *out) {
  MuseDocumentVerdict verdict = MUSE_DOCUMENT_OK;
  while (verdict == MUSE_DOCUMENT_OK) {
    verdict = read_more(d);
    if (d->buffer.len > d->form->max_bytes) verdict = MUSE_DOCUMENT_TOO_LARGE;
  }
  d->ended = true;
  if (verdict != MUSE_DOCUMENT_END) return verdict;
  if (!muse_text_to_utf8(&d->buffer, d->form->encoding)) return MUSE_DOCUMENT_NOT_TEXT;
  if (d->buffer.len == 0) return MUSE_DOCUMENT_EMPTY;
  muse_str_free(out);
  *out = d->buffer;
  d->buffer = (MuseStr){0};
  return MUSE_DOCUMENT_OK;
}

// ---- JSON lines

// The next line without its end in [*out_line, + *out_length), valid until the next call.
static MuseDocumentVerdict next_line(MuseDocuments *d, const char **out_line, size_t *out_length) {
  uint64_t limit = d->form->max_bytes * 2 + 65536; // JSON's escapes, and other columns
  size_t searched = 0;
  bool too_large = false;
  d->line++;
  for (;;) {
    size_t left = d->buffer.len - d->at;
    const char *start = muse_str_text(&d->buffer) + d->at;
    const char *newline = left > searched ? memchr(start + searched, '\n', left - searched) : NULL;
    if (newline || d->ended) {
      *out_line = start;
      *out_length = newline ? (size_t)(newline - start) : left;
      d->at += *out_length + (newline != NULL);
      if (!newline && left == 0) return too_large ? MUSE_DOCUMENT_TOO_LARGE : MUSE_DOCUMENT_END;
      return too_large || *out_length > limit ? MUSE_DOCUMENT_TOO_LARGE : MUSE_DOCUMENT_OK;
    }
    if (d->at) { // keep what is left alone
      memmove(d->buffer.data, d->buffer.data + d->at, left);
      d->buffer.len = left;
      d->at = 0;
    }
    if (too_large && d->form->stop && *d->form->stop) {
      d->ended = true;
      return MUSE_DOCUMENT_TOO_LARGE;
    }
    if (left > limit) too_large = true, muse_str_clear(&d->buffer), left = 0;
    searched = left;
    MuseDocumentVerdict more = read_more(d);
    if (more == MUSE_DOCUMENT_DAMAGED || more == MUSE_DOCUMENT_UNREADABLE) {
      muse_str_clear(&d->buffer); // half a line is none
      return more;
    }
  }
}

static MuseStatus no_column(const MuseDocuments *d, const char *line, size_t n, const char *column, MuseDiag *diag) {
  json_t *object = json_loadb(line, n, JSON_ALLOW_NUL, NULL); // to name what is there
  MuseStr all = {0};
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    if (json_is_string(value) && all.len < 300) muse_str_appendf(&all, "%s%.60s", all.len ? ", " : "", key);
  }
  MuseStatus status = muse_error(diag, MUSE_ERR_INPUT, "'%s', line %llu: there is no text '%s'; its texts are: %s",
                                 d->path, (unsigned long long)d->line, column, all.len ? all.data : "none");
  muse_str_free(&all);
  json_decref(object);
  return status;
}

static MuseStatus append_line(MuseDocuments *d, const char *line, size_t n, MuseStr *out,
                              MuseDocumentVerdict *out_verdict, MuseDiag *diag) {
  const MuseRecordForm *form = d->form->record;
  MuseSlice values[MUSE_RECORD_MAX_COLUMNS];
  MuseJsonKind kinds[MUSE_RECORD_MAX_COLUMNS];
  if (!muse_json_line(line, n, form->columns, form->n_columns, &d->scratch, values, kinds)) {
    *out_verdict = MUSE_DOCUMENT_NO_JSON;
    return MUSE_OK;
  }
  for (int i = 0; i < form->n_columns && !d->found_columns; i++)
    if (form->required[i] && kinds[i] != MUSE_JSON_STRING && kinds[i] != MUSE_JSON_NULL)
      return no_column(d, line, n, form->columns[i], diag);
  d->found_columns = true;
  muse_record_append(form, values, out);
  return MUSE_OK;
}

static MuseStatus next_json(MuseDocuments *d, MuseStr *out, MuseDocumentVerdict *out_verdict, MuseDiag *diag) {
  const char *line;
  size_t n;
  do {
    *out_verdict = next_line(d, &line, &n);
    if (*out_verdict != MUSE_DOCUMENT_OK) return MUSE_OK;
    if (d->line == 1 && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) line += 3, n -= 3; // byte order mark
    while (n && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r')) n--;
  } while (n == 0);
  return append_line(d, line, n, out, out_verdict, diag);
}

// ---- all of them

static MuseStatus next_row(MuseDocuments *d, MuseStr *out, MuseDocumentVerdict *out_verdict, MuseDiag *diag) {
  MuseSlice values[MUSE_RECORD_MAX_COLUMNS];
  bool more;
  MUSE_TRY(muse_parquet_next(d->parquet, values, &more, diag));
  *out_verdict = more ? MUSE_DOCUMENT_OK : MUSE_DOCUMENT_END;
  if (more) muse_record_append(d->form->record, values, out);
  return MUSE_OK;
}

MuseStatus muse_documents_next(MuseDocuments *d, MuseStr *out_text, MuseDocumentVerdict *out_verdict, MuseDiag *diag) {
  *out_verdict = MUSE_DOCUMENT_END;
  muse_str_clear(out_text);
  if (d->stream && d->ended && d->at >= d->buffer.len) return MUSE_OK;
  if (d->kind == MUSE_FILE_TEXT) {
    *out_verdict = next_text(d, out_text);
    if (*out_verdict != MUSE_DOCUMENT_OK) muse_str_clear(&d->buffer);
    return d->shortage ? muse_io_error(diag, "read", d->path, d->shortage) : MUSE_OK;
  }
  if (d->kind == MUSE_FILE_JSONL) MUSE_TRY(next_json(d, out_text, out_verdict, diag));
  else MUSE_TRY(next_row(d, out_text, out_verdict, diag));
  if (d->shortage) return muse_io_error(diag, "read", d->path, d->shortage);
  if (*out_verdict != MUSE_DOCUMENT_OK) return MUSE_OK;
  if (out_text->len == 0) *out_verdict = MUSE_DOCUMENT_EMPTY;
  else if (out_text->len > d->form->max_bytes) *out_verdict = MUSE_DOCUMENT_TOO_LARGE;
  else if (!muse_text_is_utf8(out_text->data, out_text->len, NULL)) *out_verdict = MUSE_DOCUMENT_NOT_TEXT;
  return MUSE_OK;
}
