// Reader of token sets. NAME.idx comes from outside, so open checks every document against NAME.bin once; after that a
// read only needs to check the ids.
#include "runtime/tokens.h"

#include "ir/base/checked.h"
#include "ir/base/str.h"
#include "runtime/mapped_file.h"
#include "runtime/tokens_format.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little endian and are used as they lie");

struct MuseTokens {
  MuseTokensInfo info;
  MuseMappedFile bin, idx;
  const uint8_t *documents; // pairs of u64, perhaps unaligned
};

static uint32_t load_u32(const uint8_t *p) {
  uint32_t x;
  memcpy(&x, p, 4);
  return x;
}

static uint64_t load_u64(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, 8);
  return x;
}

// The fields that only version 2 has.
static MuseStatus check_header_v2(const char *path, const uint8_t *p, uint64_t size, MuseTokensInfo *info,
                                  MuseDiag *diag) {
  if (size < MUSE_IDX_V2_HEADER)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' ends inside its header; make the token set again", path);
  uint32_t width = load_u32(p + MUSE_IDX_TOKEN_BYTES), vocab = load_u32(p + MUSE_IDX_VOCAB_SIZE);
  if (width != 2 && width != 4)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' says that a token has %u bytes; only 2 and 4 are known", path, width);
  if (vocab == 0 || vocab > (uint32_t)INT32_MAX || (width == 2 && vocab > 65536))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has the impossible vocabulary size %u for tokens of %u bytes", path,
                      vocab, width);
  info->token_bytes = (int)width;
  info->vocab_size = vocab;
  info->tokenizer_hash = load_u64(p + MUSE_IDX_TOKENIZER_HASH);
  memcpy(info->tokenizer, p + MUSE_IDX_TOKENIZER, MUSE_TOKENS_NAME_BYTES);
  if (info->tokenizer[MUSE_TOKENS_NAME_BYTES - 1] != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the name of the tokenizer does not end within %d bytes", path,
                      MUSE_TOKENS_NAME_BYTES);
  return MUSE_OK;
}

// Documents must lie one behind the other from token 0 on. Sets info->n_tokens to where the last one ends.
static MuseStatus check_documents(const char *path, const uint8_t *documents, MuseTokensInfo *info, MuseDiag *diag) {
  uint64_t end = 0;
  for (int64_t i = 0; i < info->n_documents; i++) {
    uint64_t first = load_u64(documents + 16 * i), length = load_u64(documents + 16 * i + 8);
    if (first != end)
      return muse_error(
          diag, MUSE_ERR_INPUT,
          "'%s': document %lld starts at token %llu, but the one before ends at %llu; make the token set again", path,
          (long long)i, (unsigned long long)first, (unsigned long long)end);
    if (!muse_add_u64(end, length, &end) || end > (uint64_t)INT64_MAX / 8)
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': document %lld has the impossible length %llu", path, (long long)i,
                        (unsigned long long)length);
  }
  info->n_tokens = (int64_t)end;
  return MUSE_OK;
}

MuseStatus muse_tokens_check_index(const char *path, const void *bytes, uint64_t size, uint64_t bin_bytes,
                                   MuseTokensInfo *out_info, MuseDiag *diag) {
  const uint8_t *p = bytes;
  *out_info = (MuseTokensInfo){0};
  if (size < MUSE_IDX_V1_HEADER || memcmp(p, "MUSE", 4) != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is not the index of a token set: it does not start with 'MUSE'",
                      path);
  uint32_t version = load_u32(p + 4);
  if (version != 1 && version != 2)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has version %u of the index format; known are 1 and 2", path,
                      version);
  out_info->version = (int)version;
  if (version == 2) MUSE_TRY(check_header_v2(path, p, size, out_info, diag));
  uint64_t header = version == 2 ? MUSE_IDX_V2_HEADER : MUSE_IDX_V1_HEADER;
  if ((size - header) % 16 != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' ends inside the entry of document %llu; it was probably cut short",
                      path, (unsigned long long)((size - header) / 16));
  out_info->n_documents = (int64_t)((size - header) / 16);
  if (version == 2 && load_u64(p + MUSE_IDX_N_DOCUMENTS) != (uint64_t)out_info->n_documents)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' announces %llu documents but lists %lld; it was probably cut short",
                      path, (unsigned long long)load_u64(p + MUSE_IDX_N_DOCUMENTS), (long long)out_info->n_documents);
  MUSE_TRY(check_documents(path, p + header, out_info, diag));
  uint64_t n = (uint64_t)out_info->n_tokens;
  if (version == 2 && load_u64(p + MUSE_IDX_N_TOKENS) != n)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' announces %llu tokens but its documents have %llu", path,
                      (unsigned long long)load_u64(p + MUSE_IDX_N_TOKENS), (unsigned long long)n);
  // Version 1 does not say how wide a token is; the size of NAME.bin does.
  if (version == 1) out_info->token_bytes = n > 0 && bin_bytes == 2 * n ? 2 : 4;
  if (bin_bytes != n * (uint64_t)out_info->token_bytes)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' lists %llu tokens, but its .bin file has %llu bytes instead of %llu",
                      path, (unsigned long long)n, (unsigned long long)bin_bytes,
                      (unsigned long long)(n * (uint64_t)out_info->token_bytes));
  return MUSE_OK;
}

void muse_tokens_paths(const char *name, char **out_name, char **out_bin, char **out_idx) {
  size_t length = strlen(name);
  if (muse_str_ends_with(name, ".bin") || muse_str_ends_with(name, ".idx")) length -= 4;
  *out_name = strndup(name, length);
  if (asprintf(out_bin, "%s.bin", *out_name) < 0 || asprintf(out_idx, "%s.idx", *out_name) < 0) MUSE_ASSERT(!"memory");
}

void muse_tokens_tokenizer_path(const char *name, bool json, MuseStr *out_path) {
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  muse_str_appendf(out_path, "%s.tokenizer.%s", base, json ? "json" : "model");
  free(base), free(bin), free(idx);
}

bool muse_tokens_exist(const char *name) {
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  bool exist = access(bin, F_OK) == 0 && access(idx, F_OK) == 0;
  free(base), free(bin), free(idx);
  return exist;
}

static MuseStatus open_files(MuseTokens *tokens, const char *bin, const char *idx, MuseDiag *diag) {
  if (access(bin, F_OK) != 0 || access(idx, F_OK) != 0)
    return muse_error(
        diag, MUSE_ERR_INPUT,
        "there is no token set '%.*s' (it would be '%s' and its .idx); make one with 'muse-data tokenize'",
        (int)(strlen(bin) - 4), bin, bin);
  MUSE_TRY(muse_map_file(bin, &tokens->bin, diag));
  MUSE_TRY(muse_map_file(idx, &tokens->idx, diag));
  return muse_tokens_check_index(idx, tokens->idx.data, tokens->idx.size, tokens->bin.size, &tokens->info, diag);
}

MuseStatus muse_tokens_open(const char *name, MuseTokens **out_tokens, MuseDiag *diag) {
  *out_tokens = NULL;
  MuseTokens *tokens = calloc(1, sizeof *tokens);
  MUSE_ASSERT(tokens);
  char *base, *bin, *idx;
  muse_tokens_paths(name, &base, &bin, &idx);
  MuseStatus status = open_files(tokens, bin, idx, diag);
  tokens->info.name = base;
  tokens->info.bin_path = bin;
  tokens->info.idx_path = idx;
  if (status != MUSE_OK) {
    muse_tokens_close(tokens);
    return status;
  }
  tokens->documents = tokens->idx.data + (tokens->info.version == 2 ? MUSE_IDX_V2_HEADER : MUSE_IDX_V1_HEADER);
  *out_tokens = tokens;
  return MUSE_OK;
}

void muse_tokens_close(MuseTokens *tokens) {
  if (!tokens) return;
  muse_unmap_file(&tokens->bin);
  muse_unmap_file(&tokens->idx);
  free((char *)tokens->info.name);
  free((char *)tokens->info.bin_path);
  free((char *)tokens->info.idx_path);
  free(tokens);
}

const MuseTokensInfo *muse_tokens_info(const MuseTokens *tokens) { return &tokens->info; }

void muse_tokens_document(const MuseTokens *tokens, int64_t index, int64_t *out_first, int64_t *out_length) {
  MUSE_ASSERT(index >= 0 && index < tokens->info.n_documents);
  *out_first = (int64_t)load_u64(tokens->documents + 16 * index);
  *out_length = (int64_t)load_u64(tokens->documents + 16 * index + 8);
}

MuseStatus muse_tokens_read(const MuseTokens *tokens, int64_t first, int64_t count, int64_t vocab_size, int32_t *out,
                            MuseDiag *diag) {
  const MuseTokensInfo *info = &tokens->info;
  MUSE_ASSERT(first >= 0 && count >= 0 && first <= info->n_tokens && count <= info->n_tokens - first);
  uint32_t limit = vocab_size > 0 && vocab_size < INT32_MAX ? (uint32_t)vocab_size : (uint32_t)INT32_MAX;
  uint32_t largest = 0;
  if (info->token_bytes == 2) {
    const uint8_t *p = tokens->bin.data + 2 * first;
    for (int64_t i = 0; i < count; i++) {
      uint16_t id;
      memcpy(&id, p + 2 * i, 2);
      largest = id > largest ? id : largest;
      out[i] = id;
    }
  } else {
    const uint8_t *p = tokens->bin.data + 4 * first;
    for (int64_t i = 0; i < count; i++) {
      uint32_t id = load_u32(p + 4 * i);
      largest = id > largest ? id : largest;
      out[i] = (int32_t)id;
    }
  }
  if (largest < limit) return MUSE_OK;
  int64_t bad = 0;
  while ((uint32_t)out[bad] < limit) bad++;
  return muse_error(
      diag, MUSE_ERR_DATA,
      "'%s': token %lld (byte %lld) has the id %u, but the vocabulary ends at %u; train with the vocab_size of the "
      "tokenizer that made the file",
      info->bin_path, (long long)(first + bad), (long long)((first + bad) * info->token_bytes), (uint32_t)out[bad],
      limit);
}
