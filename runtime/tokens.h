#ifndef MUSE_RUNTIME_TOKENS_H
#define MUSE_RUNTIME_TOKENS_H

#include "ir/base/diag.h"
#include "ir/base/hash.h"
#include "ir/base/str.h"

#include <stdbool.h>
#include <stdint.h>

// A token set: NAME.bin holds the token ids of all documents one after the other (u16 or u32, little endian), NAME.idx
// the offset and length of each document, counted in tokens. docs/files.md gives the bytes. Documents hold no
// end-of-text token; whoever reads them puts one between.

#define MUSE_TOKENS_NAME_BYTES 32

typedef struct MuseTokensInfo {
  const char *name;     // as given to open, without ".bin" or ".idx"
  const char *bin_path, *idx_path;
  int version;          // 1 or 2
  int token_bytes;      // 2 or 4
  int64_t n_documents;
  int64_t n_tokens;
  // Version 2 only; 0 and "" in version 1.
  int64_t vocab_size;   // ids are below it
  uint64_t tokenizer_hash;
  char tokenizer[MUSE_TOKENS_NAME_BYTES]; // "bytes"
} MuseTokensInfo;

typedef struct MuseTokens MuseTokens;

// `name` is NAME, NAME.bin or NAME.idx. Maps both files and checks them against each other: sizes, magic, version, and
// that the documents lie one behind the other and cover NAME.bin. MUSE_ERR_INPUT names the file and what is wrong.
MuseStatus muse_tokens_open(const char *name, MuseTokens **out_tokens, MuseDiag *diag);
void muse_tokens_close(MuseTokens *tokens); // NULL is allowed
// True when NAME.bin and NAME.idx are there.
bool muse_tokens_exist(const char *name);

const MuseTokensInfo *muse_tokens_info(const MuseTokens *tokens);
// Document `index` < n_documents: its first token and its number of tokens.
void muse_tokens_document(const MuseTokens *tokens, int64_t index, int64_t *out_first, int64_t *out_length);
// Copies tokens [first, first+count). An id at or beyond vocab_size (> 0) is MUSE_ERR_DATA and names file and offset.
MuseStatus muse_tokens_read(const MuseTokens *tokens, int64_t first, int64_t count, int64_t vocab_size, int32_t *out,
                            MuseDiag *diag);

// NAME.tokenizer.json or NAME.tokenizer.model: where muse-data tokenize keeps a copy of the tokenizer's file.
void muse_tokens_tokenizer_path(const char *name, bool json, MuseStr *out_path);

// Index check alone, over bytes in memory: what open does with NAME.idx for a NAME.bin of bin_bytes. For tests and
// fuzzing.
MuseStatus muse_tokens_check_index(const char *path, const void *bytes, uint64_t size, uint64_t bin_bytes,
                                   MuseTokensInfo *out_info, MuseDiag *diag);

// Streaming writer of version 2. Memory use does not depend on the amount of text. The files appear under their names
// only when finish succeeds.
typedef struct MuseTokensWriter MuseTokensWriter;
MuseStatus muse_tokens_writer_open(const char *name, const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size,
                                   MuseTokensWriter **out_writer, MuseDiag *diag);
// The whole documents that a writer has put on the disk, with hashes of what they are there.
typedef struct MuseTokensMark {
  int64_t n_documents, n_tokens;
  MuseHash bin, idx;
} MuseTokensMark;

// A writer whose files grow as `bin` and `idx` in `folder`, on the file system of NAME, and outlive the process. With
// `mark` it goes on from there; MUSE_ERR_DATA when the folder does not hold what the mark says. NULL: from the start.
MuseStatus muse_tokens_writer_open_kept(const char *name, const char *folder, const MuseTokensMark *mark,
                                        const char *tokenizer, uint64_t tokenizer_hash, int64_t vocab_size,
                                        MuseTokensWriter **out_writer, MuseDiag *diag);
// Brings all whole documents to the disk. What the current one has so far does not count.
MuseStatus muse_tokens_writer_mark(MuseTokensWriter *writer, MuseTokensMark *out_mark, MuseDiag *diag);

// Appends to the current document; ids must be below vocab_size.
MuseStatus muse_tokens_writer_append(MuseTokensWriter *writer, const int32_t *ids, int64_t count, MuseDiag *diag);
MuseStatus muse_tokens_writer_end_document(MuseTokensWriter *writer, MuseDiag *diag);
// Syncs and renames both files; destroys the writer in every case. out_info may be NULL; its paths are not set.
MuseStatus muse_tokens_writer_finish(MuseTokensWriter *writer, MuseTokensInfo *out_info, MuseDiag *diag);
// Removes the files, unless they are kept; NULL is allowed.
void muse_tokens_writer_abort(MuseTokensWriter *writer);

#endif
