// libFuzzer: any bytes as the index of a token set. The first eight are the size of its .bin, so that sizes can agree.
#include "runtime/tokens.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  uint64_t bin_bytes = 0;
  if (size < 8) return 0;
  memcpy(&bin_bytes, bytes, 8);
  MuseDiag *diag = muse_diag_create();
  MuseTokensInfo info;
  if (muse_tokens_check_index("fuzz", bytes + 8, size - 8, bin_bytes, &info, diag) == MUSE_OK) {
    MUSE_ASSERT((info.token_bytes == 2 || info.token_bytes == 4) && info.n_documents >= 0 && info.n_tokens >= 0);
    MUSE_ASSERT((uint64_t)info.n_tokens * (uint64_t)info.token_bytes == bin_bytes);
    MUSE_ASSERT((uint64_t)info.n_documents * 16 <= size);
    MUSE_ASSERT(memchr(info.tokenizer, 0, sizeof info.tokenizer));
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
  }
  muse_diag_destroy(diag);
  return 0;
}
