// The bytes tokenizer, and text that is safe to show.
#include "runtime/tokenizer.h"

#include "tests/unit/scratch.h"

TestSuite(tokenizer, .init = scratch_setup, .fini = scratch_teardown);

Test(tokenizer, bytes_round_trip) {
  MuseTokenizer *t;
  assert_ok(muse_tokenizer_open("bytes", &t, diag));
  cr_expect_eq(muse_tokenizer_vocab_size(t), 257);
  cr_expect_eq(muse_tokenizer_eos(t), 256);
  char text[256];
  for (int i = 0; i < 256; i++) text[i] = (char)i;
  MuseTokenIds ids = {0};
  assert_ok(muse_tokenizer_encode(t, text, 256, &ids, diag));
  cr_assert_eq(ids.len, 256);
  cr_expect(ids.data[0] == 0 && ids.data[200] == 200);
  muse_vec_push(&ids, 256); // has no text
  muse_vec_push(&ids, -1);
  MuseStr back = {0};
  muse_tokenizer_decode(t, ids.data, ids.len, &back);
  cr_assert_eq(back.len, 256);
  cr_expect_eq(memcmp(back.data, text, 256), 0);
  muse_str_free(&back);
  muse_vec_free(&ids);
  muse_tokenizer_close(t);
}

Test(tokenizer, hash_is_stable) {
  MuseTokenizer *a, *b;
  assert_ok(muse_tokenizer_open("bytes", &a, diag));
  assert_ok(muse_tokenizer_open("bytes", &b, diag));
  cr_expect_eq(muse_tokenizer_hash(a), muse_tokenizer_hash(b));
  // token sets on disk carry it: it must never change
  cr_expect_eq(muse_tokenizer_hash(a), UINT64_C(0xdd066e27da69227c));
  muse_tokenizer_close(a);
  muse_tokenizer_close(b);
}

Test(tokenizer, unknown_name) {
  MuseTokenizer *t;
  assert_fails(muse_tokenizer_open("bpe", &t, diag), MUSE_ERR_INPUT, "no tokenizer 'bpe'; known are: bytes");
}

static void shows(const char *bytes, size_t length, const char *expected) {
  MuseStr s = {0};
  muse_text_append_printable(&s, bytes, length);
  cr_expect_str_eq(muse_str_text(&s), expected);
  muse_str_free(&s);
}

Test(tokenizer, printable_text) {
  shows("h\xc3\xa9llo\n\t", 8, "h\xc3\xa9llo\n\t");
  shows("\x1b[31m", 5, "\\x1B[31m");
  shows("a\xff" "b", 3, "a\xef\xbf\xbd" "b");
  shows("\xc2\x9b", 2, "\\x9B");                                       // C1 control sequence introducer
  shows("\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");    // a surrogate
  shows("\xc0\xaf", 2, "\xef\xbf\xbd\xef\xbf\xbd");                    // overlong
  shows("\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); // beyond U+10FFFF
  shows("\xe2\x82", 2, "\xef\xbf\xbd\xef\xbf\xbd");                    // cut short
}
