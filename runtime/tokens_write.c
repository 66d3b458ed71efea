// Writer of token sets. Both files grow under temporary names; the header of NAME.idx, which needs the totals, is
// written last, and the old index goes before the new .bin comes, so that a crash never pairs files of different runs.
#include "ir/base/hash.h"
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
  int64_t document_first;  // first token of the current document
  bool kept;               // the files outlive the process: their content is hashed
  MuseHasher *bin_hasher, *idx_hasher;
  MuseHash bin_hash, idx_hash; // of the whole documents
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

static void destroy(MuseTokensWriter *w) {
  if (w->bin_hasher) muse_hasher_finish(w->bin_hasher);
  if (w->idx_hasher) muse_hasher_finish(w->idx_hasher);
  free(w);
}

static MuseTokensWriter *create(const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size) {
  MUSE_ASSERT(vocab_size > 0 && vocab_size <= INT32_MAX && strlen(tokenizer) < MUSE_TOKENS_NAME_BYTES);
  MuseTokensWriter *w = calloc(1, sizeof *w);
  if (!w) muse_out_of_memory(sizeof *w);
  w->info = (MuseTokensInfo){.version = 2, .token_bytes = vocab_size <= 65536 ? 2 : 4, .vocab_size = vocab_size,
                             .tokenizer_hash = tokenizer_hash};
  snprintf(w->info.tokenizer, sizeof w->info.tokenizer, "%s", tokenizer);
  return w;
}

MuseStatus muse_tokens_writer_open(const char *name, const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size,
                                   MuseTokensWriter **out_writer, MuseDiag *diag) {
  *out_writer = NULL;
  MuseTokensWriter *w = create(tokenizer, tokenizer_hash, vocab_size);
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  MuseStatus status = muse_atomic_open(bin, &w->bin, diag);
  if (status == MUSE_OK) status = muse_atomic_open(idx, &w->idx, diag);
  if (status == MUSE_OK) status = write_header(w, diag);
  free(base), free(bin), free(idx);
  if (status == MUSE_OK) *out_writer = w;
  else muse_tokens_writer_abort(w);
  return status;
}

// ---- files that outlive the process

// Hashes `bytes` of a file from where it stands; false when it has fewer.
static bool hash_next(FILE *file, uint64_t bytes, MuseHasher *hasher) {
  char piece[65536];
  while (bytes) {
    size_t n = fread(piece, 1, bytes < sizeof piece ? (size_t)bytes : sizeof piece, file);
    if (n == 0) return false;
    muse_hasher_update(hasher, piece, n);
    bytes -= n;
  }
  return true;
}

// Holds a file against its mark, drops what is beyond, and leaves it at its end.
static bool continue_at(const MuseAtomicFile *f, uint64_t first, uint64_t bytes, MuseHasher *hasher,
                        MuseHash expected) {
  if (fseeko(f->file, (off_t)first, SEEK_SET) != 0 || !hash_next(f->file, bytes, hasher)) return false;
  MuseHash found = muse_hasher_digest(hasher);
  return found.lo == expected.lo && found.hi == expected.hi &&
         ftruncate(fileno(f->file), (off_t)(first + bytes)) == 0 && fseeko(f->file, 0, SEEK_END) == 0;
}

// A run that ended between the two renames of muse_tokens_writer_finish left NAME.bin in place, without an index. It
// goes back, when it is what the mark says.
static void take_back(const char *bin, const char *idx, const char *temporary, uint64_t bytes, MuseHash expected) {
  if (access(temporary, F_OK) == 0 || access(idx, F_OK) == 0) return;
  FILE *file = fopen(bin, "rb");
  if (!file) return;
  MuseHasher *hasher = muse_hasher_create();
  bool whole = hash_next(file, bytes, hasher) && fgetc(file) == EOF;
  MuseHash found = muse_hasher_finish(hasher);
  fclose(file);
  if (whole && found.lo == expected.lo && found.hi == expected.hi && rename(bin, temporary) != 0)
    return; // then the file is missing, which the caller says
}

static MuseStatus open_kept(MuseTokensWriter *w, const char *bin, const char *idx, const char *folder,
                            const MuseTokensMark *mark, MuseDiag *diag) {
  MuseStr kept_bin = {0}, kept_idx = {0};
  muse_str_appendf(&kept_bin, "%s/bin", folder);
  muse_str_appendf(&kept_idx, "%s/idx", folder);
  uint64_t bin_bytes = mark ? (uint64_t)mark->n_tokens * (uint64_t)w->info.token_bytes : 0;
  if (mark) take_back(bin, idx, kept_bin.data, bin_bytes, mark->bin);
  MuseStatus status = muse_atomic_open_kept(bin, kept_bin.data, &w->bin, diag);
  if (status == MUSE_OK) status = muse_atomic_open_kept(idx, kept_idx.data, &w->idx, diag);
  muse_str_free(&kept_bin);
  muse_str_free(&kept_idx);
  MUSE_TRY(status);
  if (!mark) {
    if (ftruncate(fileno(w->bin.file), 0) != 0 || ftruncate(fileno(w->idx.file), 0) != 0)
      return muse_error(diag, MUSE_ERR_FAILED, "cannot write in '%s': %s", folder, strerror(errno));
    return write_header(w, diag);
  }
  if (!continue_at(&w->bin, 0, bin_bytes, w->bin_hasher, mark->bin) ||
      !continue_at(&w->idx, MUSE_IDX_V2_HEADER, (uint64_t)mark->n_documents * 16, w->idx_hasher, mark->idx))
    return muse_error(diag, MUSE_ERR_DATA, "the files in '%s' are not those that were written there", folder);
  w->info.n_tokens = w->document_first = mark->n_tokens;
  w->info.n_documents = mark->n_documents;
  return MUSE_OK;
}

MuseStatus muse_tokens_writer_open_kept(const char *name, const char *folder, const MuseTokensMark *mark,
                                        const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size,
                                        MuseTokensWriter **out_writer, MuseDiag *diag) {
  *out_writer = NULL;
  MuseTokensWriter *w = create(tokenizer, tokenizer_hash, vocab_size);
  w->kept = true;
  w->bin_hasher = muse_hasher_create();
  w->idx_hasher = muse_hasher_create();
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  MuseStatus status = open_kept(w, bin, idx, folder, mark, diag);
  free(base), free(bin), free(idx);
  w->bin_hash = muse_hasher_digest(w->bin_hasher);
  w->idx_hash = muse_hasher_digest(w->idx_hasher);
  if (status == MUSE_OK) *out_writer = w;
  else muse_tokens_writer_abort(w);
  return status;
}

MuseStatus muse_tokens_writer_mark(MuseTokensWriter *writer, MuseTokensMark *out_mark, MuseDiag *diag) {
  MUSE_ASSERT(writer->kept);
  const MuseAtomicFile *files[] = {&writer->bin, &writer->idx};
  for (int i = 0; i < 2; i++)
    if (fflush(files[i]->file) != 0 || fsync(fileno(files[i]->file)) != 0)
      return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", files[i]->path, strerror(errno));
  *out_mark = (MuseTokensMark){writer->info.n_documents, writer->document_first, writer->bin_hash, writer->idx_hash};
  return MUSE_OK;
}

// ---- writing

static MuseStatus put_tokens(MuseTokensWriter *w, const void *tokens, int64_t count, MuseDiag *diag) {
  if (w->kept) muse_hasher_update(w->bin_hasher, tokens, (size_t)(count * w->info.token_bytes));
  return put(&w->bin, tokens, (size_t)w->info.token_bytes, (size_t)count, diag);
}

MuseStatus muse_tokens_writer_append(MuseTokensWriter *writer, const int32_t *ids, int64_t count, MuseDiag *diag) {
  uint16_t narrow[4096];
  for (int64_t i = 0; i < count; i++) MUSE_ASSERT(ids[i] >= 0 && ids[i] < writer->info.vocab_size);
  if (writer->info.token_bytes == 4) MUSE_TRY(put_tokens(writer, ids, count, diag));
  for (int64_t done = 0; writer->info.token_bytes == 2 && done < count;) {
    int64_t n = count - done < 4096 ? count - done : 4096;
    for (int64_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[done + i];
    MUSE_TRY(put_tokens(writer, narrow, n, diag));
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
  if (!writer->kept) return MUSE_OK;
  muse_hasher_update(writer->idx_hasher, entry, sizeof entry);
  writer->bin_hash = muse_hasher_digest(writer->bin_hasher);
  writer->idx_hash = muse_hasher_digest(writer->idx_hasher);
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
  if (status == MUSE_OK) status = muse_atomic_finish(&writer->bin, diag);
  if (status == MUSE_OK) status = muse_atomic_finish(&writer->idx, diag);
  if (out_info) *out_info = writer->info;
  muse_tokens_writer_abort(writer);
  return status;
}

void muse_tokens_writer_abort(MuseTokensWriter *writer) {
  if (!writer) return;
  muse_atomic_abort(&writer->bin);
  muse_atomic_abort(&writer->idx);
  destroy(writer);
}
