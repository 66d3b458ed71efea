// Writing documents as JSON lines.
#include "corpus/shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void muse_json_text(MuseStr *out, const char *text, size_t length) {
  size_t start = 0;
  muse_str_append_n(out, "\"", 1);
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
    muse_str_append_n(out, text + start, i - start);
    start = i + 1;
    if (c == '\n') muse_str_append_n(out, "\\n", 2);
    else if (c == '\t') muse_str_append_n(out, "\\t", 2);
    else if (c == '"' || c == '\\') muse_str_append_n(out, (char[]){'\\', (char)c}, 2);
    else muse_str_appendf(out, "\\u%04x", c);
  }
  muse_str_append_n(out, text + start, length - start);
  muse_str_append_n(out, "\"", 1);
}

MuseStatus muse_shard_open(const char *path, MuseShard *out_shard, MuseDiag *diag) {
  *out_shard = (MuseShard){0};
  MUSE_TRY(muse_atomic_open(path, &out_shard->file, diag));
  out_shard->path = strdup(path);
  if (!out_shard->path) muse_out_of_memory(strlen(path));
  return MUSE_OK;
}

MuseStatus muse_shard_add(MuseShard *s, const char *text, size_t length, MuseDiag *diag) {
  muse_str_clear(&s->line);
  muse_str_append(&s->line, "{\"text\":");
  muse_json_text(&s->line, text, length);
  muse_str_append(&s->line, "}\n");
  if (fwrite(s->line.data, 1, s->line.len, s->file.file) != s->line.len)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", s->path, strerror(errno));
  s->n_documents++;
  s->n_bytes += length;
  return MUSE_OK;
}

MuseStatus muse_shard_finish(MuseShard *s, MuseDiag *diag) {
  MuseStatus status = muse_atomic_finish(&s->file, diag);
  muse_str_free(&s->line);
  free(s->path);
  s->path = NULL;
  return status;
}

void muse_shard_abort(MuseShard *s) {
  muse_atomic_abort(&s->file);
  muse_str_free(&s->line);
  free(s->path);
  *s = (MuseShard){0};
}
