// Tokenizers: bytes, byte-level BPE (its ids against the reference: tests/e2e/test_tokenizers.py), text that is safe
// to show.
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

// What Python's bytes.decode('utf-8', 'replace') gives.
Test(tokenizer, repaired_text) {
  static const struct { const char *bytes, *expected; } cases[] = {
      {"abc", "abc"},
      {"a\xff" "b", "a\xef\xbf\xbd" "b"},
      {"\xe2\x82" "x", "\xef\xbf\xbdx"},                    // one broken part
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // a surrogate: each byte by itself
      {"\xf0\x9f\x98", "\xef\xbf\xbd"},
      {"\xf0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xc3\xa9\xc3", "\xc3\xa9\xef\xbf\xbd"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    MuseStr s = {0};
    size_t n = strlen(cases[i].bytes);
    cr_expect_eq(muse_utf8_repair(cases[i].bytes, n, true, &s), n);
    cr_expect_str_eq(muse_str_text(&s), cases[i].expected, "case %zu", i);
    muse_str_free(&s);
  }
  MuseStr s = {0};
  cr_expect_eq(muse_utf8_repair("a\xe3\x81", 3, false, &s), 1); // may go on
  cr_expect_str_eq(muse_str_text(&s), "a");
  muse_str_free(&s);
}

static MuseTokenizer *open_test(const char *name) {
  char path[100];
  MuseTokenizer *t;
  snprintf(path, sizeof path, "tests/tokenizers/%s", name);
  assert_ok(muse_tokenizer_open(path, &t, diag));
  return t;
}

// A text in pieces of any length has the ids of the whole text.
Test(tokenizer, pieces) {
  static const char text[] = "  Learning it's\r\n\n\t 12345 "
                             "\xE7\x8C\xAB\xE3\x81\x8B\xE3\x82\x99 e\xCC\x81\xCC\xA3 <mask>  "
                             "<|endoftext|> <|endoftext|>\xF0\x9F\x91\xA8\xE2\x80\x8D\xFF\xE2\x82 Quick   \xE3\x80\x80";
  static const char *const names[] = {"gpt2.json", "llama3.json", "qwen.json", "mixed.json"};
  for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
    MuseTokenizer *t = open_test(names[k]);
    MuseTokenIds whole = {0};
    assert_ok(muse_tokenizer_encode(t, text, sizeof text - 1, &whole, diag));
    cr_expect_gt(whole.len, 20);
    MuseEncoder *e = muse_encoder_create(t); // the same one for all texts
    for (size_t step = 1; step < sizeof text; step++) {
      MuseTokenIds ids = {0};
      for (size_t at = 0; at < sizeof text - 1; at += step) {
        size_t n = sizeof text - 1 - at < step ? sizeof text - 1 - at : step;
        assert_ok(muse_encoder_feed(e, text + at, n, false, &ids, diag));
      }
      assert_ok(muse_encoder_feed(e, NULL, 0, true, &ids, diag));
      cr_assert_eq(ids.len, whole.len, "%s in pieces of %zu", names[k], step);
      cr_assert_eq(memcmp(ids.data, whole.data, ids.len * sizeof *ids.data), 0, "%s in pieces of %zu", names[k], step);
      muse_vec_free(&ids);
    }
    muse_encoder_destroy(e);
    muse_vec_free(&whole);
    muse_tokenizer_close(t);
  }
}

// Token by token a character may come in parts; together they are the text.
Test(tokenizer, decoding_token_by_token) {
  static const char text[] = "Hi \xF0\x9F\xA6\x89 \xE9\xBE\x98\n";
  MuseTokenizer *t = open_test("llama3.json");
  MuseTokenIds ids = {0};
  MuseStr back = {0};
  assert_ok(muse_tokenizer_encode(t, text, sizeof text - 1, &ids, diag));
  bool parted = false;
  for (size_t i = 0; i < ids.len; i++) {
    muse_tokenizer_decode_next(t, ids.data[i], &back);
    unsigned char next = (unsigned char)text[back.len];
    parted = parted || (next & 0xC0) == 0x80;
  }
  cr_expect(parted, "the text should have a character that is more than one token");
  cr_expect_str_eq(muse_str_text(&back), text);
  cr_expect_eq(muse_tokenizer_eos(t), 2001); // <|end_of_text|>, special: no text
  size_t length = back.len;
  muse_tokenizer_decode_next(t, 2001, &back);
  muse_tokenizer_decode_next(t, 1 << 20, &back);
  cr_expect_eq(back.len, length);
  muse_str_free(&back);
  muse_vec_free(&ids);
  muse_tokenizer_close(t);
}

// The hash is of the mapping: checkpoints and token sets carry it, so that it must never change.
Test(tokenizer, hash_of_a_file) {
  MuseTokenizer *t = open_test("gpt2.json");
  cr_expect_eq(muse_tokenizer_hash(t), UINT64_C(0xcd569fbf566eec8f));
  cr_expect_str_eq(muse_tokenizer_name(t), "gpt2");
  muse_tokenizer_close(t);
}
