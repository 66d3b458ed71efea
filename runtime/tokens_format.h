#ifndef MUSE_RUNTIME_TOKENS_FORMAT_H
#define MUSE_RUNTIME_TOKENS_FORMAT_H

// Byte offsets in NAME.idx (docs/files.md), shared by reader and writer. After the header: u64 first token and u64
// length of each document.
enum {
  MUSE_IDX_V1_HEADER = 8,       // "MUSE", u32 version
  MUSE_IDX_TOKEN_BYTES = 8,     // u32: 2 or 4
  MUSE_IDX_VOCAB_SIZE = 12,     // u32
  MUSE_IDX_TOKENIZER_HASH = 16, // u64
  MUSE_IDX_N_DOCUMENTS = 24,    // u64
  MUSE_IDX_N_TOKENS = 32,       // u64
  MUSE_IDX_TOKENIZER = 40,      // char[32], NUL-terminated
  MUSE_IDX_V2_HEADER = 72,
};

// NAME, NAME.bin and NAME.idx of a name with or without one of the endings; the caller frees them.
void muse_tokens_paths(const char *name, char **out_name, char **out_bin, char **out_idx);

#endif
