// Token sets: round trip, version 1, damaged files, ids beyond the vocabulary.
#include "runtime/tokens.h"

#include "tests/unit/scratch.h"

#include <stdint.h>
#include <unistd.h>

TestSuite(tokens, .init = scratch_setup, .fini = scratch_teardown);

static void write_set(const char *name, int64_t vocab_size, int n_documents) {
  MuseTokensWriter *writer;
  assert_ok(muse_tokens_writer_open(name, "bytes", 0x1122334455667788, vocab_size, &writer, diag));
  int32_t id = 0;
  for (int d = 0; d < n_documents; d++) {
    for (int i = 0; i < d; i++, id = (id + 1) % (int32_t)vocab_size)
      assert_ok(muse_tokens_writer_append(writer, &id, 1, diag));
    assert_ok(muse_tokens_writer_end_document(writer, diag));
  }
  MuseTokensInfo info;
  assert_ok(muse_tokens_writer_finish(writer, &info, diag));
  cr_expect_eq(info.n_documents, n_documents);
}

static void check_round_trip(int64_t vocab_size, int token_bytes) {
  write_set(scratch("set"), vocab_size, 50);
  MuseTokens *tokens;
  assert_ok(muse_tokens_open(scratch("set.bin"), &tokens, diag)); // any of the three names
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  cr_expect_eq(info->token_bytes, token_bytes);
  cr_expect_eq(info->version, 2);
  cr_expect_eq(info->vocab_size, vocab_size);
  cr_expect_eq(info->tokenizer_hash, 0x1122334455667788);
  cr_expect_str_eq(info->tokenizer, "bytes");
  cr_expect_eq(info->n_tokens, 49 * 50 / 2);
  int32_t ids[49 * 50 / 2];
  assert_ok(muse_tokens_read(tokens, 0, info->n_tokens, vocab_size, ids, diag));
  for (int i = 0; i < info->n_tokens; i++) cr_assert_eq(ids[i], i % vocab_size);
  int64_t first, length;
  muse_tokens_document(tokens, 10, &first, &length);
  cr_expect(first == 45 && length == 10);
  muse_tokens_close(tokens);
}

Test(tokens, round_trip_u16) { check_round_trip(257, 2); }
Test(tokens, round_trip_u32) { check_round_trip(100000, 4); }

Test(tokens, a_large_append_is_split) {
  static int32_t ids[20001];
  for (int i = 0; i < 20001; i++) ids[i] = i % 257;
  MuseTokensWriter *writer;
  assert_ok(muse_tokens_writer_open(scratch("big"), "bytes", 1, 257, &writer, diag));
  assert_ok(muse_tokens_writer_append(writer, ids, 20001, diag));
  assert_ok(muse_tokens_writer_end_document(writer, diag));
  assert_ok(muse_tokens_writer_finish(writer, NULL, diag));
  MuseTokens *tokens;
  static int32_t back[20001];
  assert_ok(muse_tokens_open(scratch("big"), &tokens, diag));
  assert_ok(muse_tokens_read(tokens, 0, 20001, 257, back, diag));
  cr_expect_eq(memcmp(ids, back, sizeof ids), 0);
  muse_tokens_close(tokens);
}

// Version 1 as the prototype writes it: magic, version, pairs; the width follows from the size of the .bin.
static void write_v1(const char *name, int token_bytes) {
  uint8_t idx[40] = "MUSE\1\0\0\0", bin[20] = {0};
  uint64_t documents[4] = {0, 2, 2, 3};
  memcpy(idx + 8, documents, 32);
  for (int i = 0; i < 5; i++) bin[i * token_bytes] = (uint8_t)(10 + i);
  char path[80];
  snprintf(path, sizeof path, "%s.idx", name);
  scratch_file(path, idx, 40);
  snprintf(path, sizeof path, "%s.bin", name);
  scratch_file(path, bin, 5 * (size_t)token_bytes);
}

Test(tokens, version_1) {
  for (int token_bytes = 2; token_bytes <= 4; token_bytes += 2) {
    write_v1("old", token_bytes);
    MuseTokens *tokens;
    assert_ok(muse_tokens_open(scratch("old"), &tokens, diag));
    cr_expect_eq(muse_tokens_info(tokens)->token_bytes, token_bytes);
    cr_expect_eq(muse_tokens_info(tokens)->n_documents, 2);
    int32_t ids[5];
    assert_ok(muse_tokens_read(tokens, 0, 5, 0, ids, diag));
    cr_expect(ids[0] == 10 && ids[4] == 14);
    muse_tokens_close(tokens);
  }
}

Test(tokens, an_id_beyond_the_vocabulary_names_its_place) {
  write_v1("old", 4);
  MuseTokens *tokens;
  int32_t ids[5];
  assert_ok(muse_tokens_open(scratch("old"), &tokens, diag));
  assert_fails(muse_tokens_read(tokens, 1, 4, 13, ids, diag), MUSE_ERR_DATA,
               "old.bin': token 3 (byte 12) has the id 13, but the vocabulary ends at 13");
  muse_tokens_close(tokens);
  scratch_file("old.bin", "\377\377\377\377\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  assert_ok(muse_tokens_open(scratch("old"), &tokens, diag));
  assert_fails(muse_tokens_read(tokens, 0, 5, 0, ids, diag), MUSE_ERR_DATA, "token 0 (byte 0) has the id 4294967295");
  muse_tokens_close(tokens);
}

Test(tokens, an_unfinished_writer_leaves_the_old_set) {
  write_set(scratch("set"), 257, 5);
  MuseTokensWriter *writer;
  assert_ok(muse_tokens_writer_open(scratch("set"), "bytes", 1, 257, &writer, diag));
  int32_t id = 3;
  assert_ok(muse_tokens_writer_append(writer, &id, 1, diag));
  muse_tokens_writer_abort(writer);
  MuseTokens *tokens;
  assert_ok(muse_tokens_open(scratch("set"), &tokens, diag));
  cr_expect_eq(muse_tokens_info(tokens)->n_documents, 5);
  muse_tokens_close(tokens);
}

static MuseTokensWriter *open_kept(const MuseTokensMark *mark, MuseStatus expected) {
  MuseTokensWriter *writer;
  MuseDiag *own = muse_diag_create();
  MuseStatus status = muse_tokens_writer_open_kept(scratch("set"), scratch("part"), mark, "bytes", 1, 257, &writer,
                                                   own);
  cr_assert_eq(status, expected);
  muse_diag_destroy(own);
  return writer;
}

static void put_document(MuseTokensWriter *writer, int32_t id, int n) {
  for (int i = 0; i < n; i++) assert_ok(muse_tokens_writer_append(writer, &id, 1, diag));
  assert_ok(muse_tokens_writer_end_document(writer, diag));
}

Test(tokens, a_kept_writer_goes_on_at_its_mark) {
  assert_ok(muse_make_dirs(scratch("part"), 0777, diag));
  MuseTokensWriter *writer = open_kept(NULL, MUSE_OK);
  MuseTokensMark mark, again;
  put_document(writer, 7, 3);
  put_document(writer, 8, 5000);
  int32_t id = 9;
  assert_ok(muse_tokens_writer_append(writer, &id, 1, diag)); // of a document that does not end
  assert_ok(muse_tokens_writer_mark(writer, &mark, diag));
  cr_expect(mark.n_documents == 2 && mark.n_tokens == 5003);
  put_document(writer, 9, 10); // beyond the mark
  muse_tokens_writer_abort(writer);

  writer = open_kept(&mark, MUSE_OK);
  put_document(writer, 10, 4);
  assert_ok(muse_tokens_writer_mark(writer, &mark, diag));
  muse_tokens_writer_abort(writer);
  // As a crash between the two renames of finish leaves it: the .bin goes back.
  cr_assert_eq(rename(scratch("part/bin"), scratch("set.bin")), 0);
  writer = open_kept(&mark, MUSE_OK);
  cr_expect_neq(access(scratch("set.bin"), F_OK), 0);
  assert_ok(muse_tokens_writer_mark(writer, &again, diag));
  cr_expect(again.bin.lo == mark.bin.lo && again.idx.hi == mark.idx.hi);
  assert_ok(muse_tokens_writer_finish(writer, NULL, diag));

  MuseTokens *tokens;
  int32_t ids[6];
  assert_ok(muse_tokens_open(scratch("set"), &tokens, diag));
  cr_expect(muse_tokens_info(tokens)->n_documents == 3 && muse_tokens_info(tokens)->n_tokens == 5007);
  assert_ok(muse_tokens_read(tokens, 5001, 6, 257, ids, diag));
  cr_expect(ids[1] == 8 && ids[2] == 10 && ids[5] == 10);
  muse_tokens_close(tokens);
}

Test(tokens, a_kept_writer_refuses_other_files) {
  assert_ok(muse_make_dirs(scratch("part"), 0777, diag));
  MuseTokensWriter *writer = open_kept(NULL, MUSE_OK);
  MuseTokensMark mark;
  put_document(writer, 7, 3);
  assert_ok(muse_tokens_writer_mark(writer, &mark, diag));
  muse_tokens_writer_abort(writer);
  scratch_file("part/bin", "\7\0\7\0\6\0", 6);
  open_kept(&mark, MUSE_ERR_DATA);
  scratch_file("part/bin", "\7\0", 2); // too short
  open_kept(&mark, MUSE_ERR_DATA);
  // A user's own file at the name of the .bin is not taken for the rest of a run.
  cr_assert_eq(unlink(scratch("part/bin")), 0);
  scratch_file("set.bin", "\1\0\1\0\1\0", 6);
  open_kept(&mark, MUSE_ERR_DATA);
  cr_expect_eq(access(scratch("set.bin"), F_OK), 0);
}

// A good version 2 index of two documents (3 + 4 tokens of 2 bytes), to be damaged.
static const struct { int place, bytes; uint64_t value; const char *sentence; } damages[] = {
    {0, 1, 'N', "does not start with 'MUSE'"},
    {4, 4, 3, "has version 3"},
    {8, 4, 3, "a token has 3 bytes"},
    {12, 4, 0, "impossible vocabulary size 0"},
    {12, 4, 70000, "impossible vocabulary size 70000"},
    {12, 4, 0xffffffff, "impossible vocabulary size"},
    {24, 8, 3, "announces 3 documents but lists 2"},
    {32, 8, 8, "announces 8 tokens but its documents have 7"},
    {71, 1, 'x', "name of the tokenizer does not end"},
    {72, 8, 1, "document 0 starts at token 1"},
    {88, 8, 2, "document 1 starts at token 2, but the one before ends at 3"},
    {88, 8, 4, "document 1 starts at token 4"},
    {96, 8, UINT64_MAX, "document 1 has the impossible length"},
    {96, 8, (uint64_t)1 << 62, "document 1 has the impossible length"},
};

Test(tokens, damaged_indexes) {
  MuseTokensWriter *writer;
  assert_ok(muse_tokens_writer_open(scratch("set"), "bytes", 1, 257, &writer, diag));
  int32_t ids[4] = {1, 2, 3, 4};
  assert_ok(muse_tokens_writer_append(writer, ids, 3, diag));
  assert_ok(muse_tokens_writer_end_document(writer, diag));
  assert_ok(muse_tokens_writer_append(writer, ids, 4, diag));
  assert_ok(muse_tokens_writer_end_document(writer, diag));
  assert_ok(muse_tokens_writer_finish(writer, NULL, diag));
  MuseStr good = {0};
  assert_ok(muse_read_file(scratch("set.idx"), 1000, &good, diag));
  cr_assert_eq(good.len, 72 + 32);
  MuseTokensInfo info;
  assert_ok(muse_tokens_check_index("x", good.data, good.len, 14, &info, diag));
  for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
    uint8_t bad[104];
    memcpy(bad, good.data, 104);
    memcpy(bad + damages[i].place, &damages[i].value, (size_t)damages[i].bytes);
    assert_fails(muse_tokens_check_index("x", bad, 104, 14, &info, diag), MUSE_ERR_INPUT, damages[i].sentence);
  }
  // Every shorter file, and every other size of the .bin.
  for (size_t n = 0; n < 104; n++) {
    MuseDiag *d = muse_diag_create();
    cr_expect_eq(muse_tokens_check_index("x", good.data, n, 14, &info, d), MUSE_ERR_INPUT);
    cr_expect_eq(muse_diag_count(d, MUSE_ERROR), 1);
    muse_diag_destroy(d);
  }
  assert_fails(muse_tokens_check_index("x", good.data, 104, 13, &info, diag), MUSE_ERR_INPUT,
               "has 13 bytes instead of 14");
  muse_str_free(&good);
}

Test(tokens, missing_files) {
  MuseTokens *tokens;
  assert_fails(muse_tokens_open(scratch("none"), &tokens, diag), MUSE_ERR_INPUT, "muse-data tokenize");
  cr_expect_not(muse_tokens_exist(scratch("none")));
  scratch_file("half.bin", "ab", 2);
  cr_expect_not(muse_tokens_exist(scratch("half")));
  assert_fails(muse_tokens_open(scratch("half"), &tokens, diag), MUSE_ERR_INPUT, "half.bin' and its .idx");
}
