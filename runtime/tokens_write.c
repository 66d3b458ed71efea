// Writer of token sets. Both files grow under temporary names; the header of NAME.idx, which needs the totals, is
// written last, and the old index goes before the new .bin comes, so that a crash never pairs files of different runs.
#include "ir/base/io.h"
#include "runtime/tokens.h"
#include "runtime/tokens_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct MuseTokensWriter {
  MuseTokensInfo info;
  MuseAtomicFile bin, idx;
  int64_t document_first; // first token of the current document
};

static MuseStatus put(const MuseAtomicFile *f, const void *data, size_t size, size_t count, MuseDiag *diag) {
  if (fwrite(data, size, count, f->file) != count)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", f->path, strerror(errno));
  return MUSE_OK;
}

static MuseStatus write_header(MuseTokensWriter *w, MuseDiag *diag) {
  uint8_t header[MUSE_IDX_V2_HEADER] = "MUSE";
  uint32_t version = 2, token_bytes = (uint32_t)w->info.token_bytes, vocab_size = (uint32_t)w->info.vocab_size;
  uint64_t n_documents = (uint64_t)w->info.n_documents, n_tokens = (uint64_t)w->info.n_tokens;
  memcpy(header + 4, &version, 4);
  memcpy(header + MUSE_IDX_TOKEN_BYTES, &token_bytes, 4);
  memcpy(header + MUSE_IDX_VOCAB_SIZE, &vocab_size, 4);
  memcpy(header + MUSE_IDX_TOKENIZER_HASH, &w->info.tokenizer_hash, 8);
  memcpy(header + MUSE_IDX_N_DOCUMENTS, &n_documents, 8);
  memcpy(header + MUSE_IDX_N_TOKENS, &n_tokens, 8);
  memcpy(header + MUSE_IDX_TOKENIZER, w->info.tokenizer, MUSE_TOKENS_NAME_BYTES);
  return put(&w->idx, header, 1, sizeof header, diag);
}

MuseStatus muse_tokens_writer_open(const char *name, const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size,
                                   MuseTokensWriter **out_writer, MuseDiag *diag) {
  *out_writer = NULL;
  MUSE_ASSERT(vocab_size > 0 && vocab_size <= INT32_MAX && strlen(tokenizer) < MUSE_TOKENS_NAME_BYTES);
  MuseTokensWriter *w = calloc(1, sizeof *w);
  MUSE_ASSERT(w);
  w->info = (MuseTokensInfo){.version = 2, .token_bytes = vocab_size <= 65536 ? 2 : 4, .vocab_size = vocab_size,
                             .tokenizer_hash = tokenizer_hash};
  snprintf(w->info.tokenizer, sizeof w->info.tokenizer, "%s", tokenizer);
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  MuseStatus status = muse_atomic_open(bin, &w->bin, diag);
  if (status == MUSE_OK) {
    status = muse_atomic_open(idx, &w->idx, diag);
    if (status == MUSE_OK) {
      status = write_header(w, diag);
      if (status != MUSE_OK) muse_atomic_abort(&w->idx);
    }
    if (status != MUSE_OK) muse_atomic_abort(&w->bin);
  }
  free(base), free(bin), free(idx);
  if (status != MUSE_OK) {
    free(w);
    return status;
  }
  *out_writer = w;
  return MUSE_OK;
}

MuseStatus muse_tokens_writer_append(MuseTokensWriter *writer, const int32_t *ids, int64_t count, MuseDiag *diag) {
  uint16_t narrow[4096];
  for (int64_t i = 0; i < count; i++) MUSE_ASSERT(ids[i] >= 0 && ids[i] < writer->info.vocab_size);
  if (writer->info.token_bytes == 4) MUSE_TRY(put(&writer->bin, ids, 4, (size_t)count, diag));
  for (int64_t done = 0; writer->info.token_bytes == 2 && done < count;) {
    int64_t n = count - done < 4096 ? count - done : 4096;
    for (int64_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[done + i];
    MUSE_TRY(put(&writer->bin, narrow, 2, (size_t)n, diag));
    done += n;
  }
  writer->info.n_tokens += count;
  return MUSE_OK;
}

MuseStatus muse_tokens_writer_end_document(MuseTokensWriter *writer, MuseDiag *diag) {
  uint64_t entry[2] = {(uint64_t)writer->document_first, (uint64_t)(writer->info.n_tokens - writer->document_first)};
  MUSE_TRY(put(&writer->idx, entry, 16, 1, diag));
  writer->document_first = writer->info.n_tokens;
  writer->info.n_documents++;
  return MUSE_OK;
}

MuseStatus muse_tokens_writer_finish(MuseTokensWriter *writer, MuseTokensInfo *out_info, MuseDiag *diag) {
  MUSE_ASSERT(writer->document_first == writer->info.n_tokens);
  MuseStatus status = MUSE_OK;
  if (fflush(writer->idx.file) != 0 || fseeko(writer->idx.file, 0, SEEK_SET) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", writer->idx.path, strerror(errno));
  if (status == MUSE_OK) status = write_header(writer, diag);
  if (status == MUSE_OK && unlink(writer->idx.path) != 0 && errno != ENOENT)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot replace '%s': %s", writer->idx.path, strerror(errno));
  if (status != MUSE_OK) {
    muse_tokens_writer_abort(writer);
    return status;
  }
  status = muse_atomic_finish(&writer->bin, diag);
  if (status == MUSE_OK) status = muse_atomic_finish(&writer->idx, diag);
  else muse_atomic_abort(&writer->idx);
  if (out_info) *out_info = writer->info;
  free(writer);
  return status;
}

void muse_tokens_writer_abort(MuseTokensWriter *writer) {
  if (!writer) return;
  muse_atomic_abort(&writer->bin);
  muse_atomic_abort(&writer->idx);
  free(writer);
}
