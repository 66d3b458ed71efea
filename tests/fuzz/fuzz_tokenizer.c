// libFuzzer: any bytes as a tokenizer.json or a SentencePiece .model. One that is accepted must encode text, whole and
// in pieces with the same ids, and give ids of its vocabulary, whose texts can be shown.
#include "runtime/tokenizer.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char text[] = "Hello  world, it's 2024!\n\n\xE7\x8C\xAB\xE3\x81\xAF\xF0\x9F\x98\x80 "
                           "e\xCC\x81<|endoftext|>\xE2\x82 \xE3\x82\xAB\xE3\x82\x99\t  aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa </s> 12345\xFF";

static void use(const MuseTokenizer *t) {
  MuseTokenIds whole = {0}, pieces = {0};
  MuseStr back = {0};
  MuseDiag *diag = muse_diag_create();
  MuseEncoder *encoder = muse_encoder_create(t);
  bool good = muse_tokenizer_encode(t, text, sizeof text - 1, &whole, diag) == MUSE_OK, same = good;
  for (size_t at = 0; at < sizeof text - 1 && same; at += 7) {
    size_t n = sizeof text - 1 - at < 7 ? sizeof text - 1 - at : 7;
    same = muse_encoder_feed(encoder, text + at, n, at + 7 >= sizeof text - 1, &pieces, diag) == MUSE_OK;
  }
  if (same) {
    MUSE_ASSERT(whole.len == pieces.len);
    MUSE_ASSERT(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len * sizeof *whole.data) == 0);
  }
  for (size_t i = 0; i < whole.len; i++)
    MUSE_ASSERT(whole.data[i] >= 0 && whole.data[i] < muse_tokenizer_vocab_size(t));
  muse_tokenizer_decode(t, whole.data, whole.len, &back);
  for (int32_t id = -2; id < 300; id++) muse_tokenizer_decode_next(t, id, &back);
  MUSE_ASSERT(good || muse_diag_count(diag, MUSE_ERROR) > 0);
  muse_encoder_destroy(encoder);
  muse_diag_destroy(diag);
  muse_str_free(&back);
  muse_vec_free(&whole);
  muse_vec_free(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MuseTokenizer *t;
  if (muse_tokenizer_read("fuzz", bytes, size, &t, diag) == MUSE_OK) {
    MUSE_ASSERT(t && muse_diag_count(diag, MUSE_ERROR) == 0 && muse_tokenizer_vocab_size(t) > 0);
    use(t);
    muse_tokenizer_close(t);
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
  }
  muse_diag_destroy(diag);
  return 0;
}
