#ifndef MUSE_CORPUS_SHARD_H
#define MUSE_CORPUS_SHARD_H

#include "ir/base/io.h"

// A JSONL file of documents, one {"text":"..."} a line, that appears when it is finished.
typedef struct MuseShard {
  MuseAtomicFile file;
  char *path;
  MuseStr line;
  uint64_t n_documents, n_bytes; // of text
} MuseShard;

MuseStatus muse_shard_open(const char *path, MuseShard *out_shard, MuseDiag *diag);
MuseStatus muse_shard_add(MuseShard *shard, const char *text, size_t length, MuseDiag *diag); // valid UTF-8
MuseStatus muse_shard_finish(MuseShard *shard, MuseDiag *diag);
void muse_shard_abort(MuseShard *shard); // a zeroed or finished one is fine

// Appends a text in quotes, with JSON's escapes.
void muse_json_text(MuseStr *out, const char *text, size_t length);

#endif
