// Batches: rows over document borders, order, held-out windows, shares, resumption, tensors of batches, recipes.
#include "runtime/mixture.h"

#include "compiler/config_recipe.h"
#include "runtime/safetensors.h"
#include "runtime/tokens.h"
#include "runtime/windows.h"
#include "tests/unit/scratch.h"

#include <stdint.h>

TestSuite(mixture, .init = scratch_setup, .fini = scratch_teardown);

enum { EOS = 9999, VOCAB = 10000 };

// Documents of the given lengths; token number i of the set has the id (base + i) % 9000.
static void write_set(const char *name, const int *lengths, int n_documents, int base) {
  MuseTokensWriter *writer;
  assert_ok(muse_tokens_writer_open(scratch(name), "bytes", 42, VOCAB, &writer, diag));
  int32_t next = base;
  for (int d = 0; d < n_documents; d++) {
    for (int i = 0; i < lengths[d]; i++, next++) {
      int32_t id = next % 9000;
      assert_ok(muse_tokens_writer_append(writer, &id, 1, diag));
    }
    assert_ok(muse_tokens_writer_end_document(writer, diag));
  }
  assert_ok(muse_tokens_writer_finish(writer, NULL, diag));
}

static MuseDataOptions options(int64_t row_tokens) {
  return (MuseDataOptions){.row_tokens = row_tokens, .vocab_size = VOCAB, .eos = EOS, .seed = 7, .shuffle = true};
}

Test(mixture, permutation_is_one) {
  static const uint64_t sizes[] = {1, 2, 3, 5, 16, 17, 1000};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
      uint8_t seen[1000] = {0};
      for (uint64_t i = 0; i < sizes[s]; i++) {
        uint64_t p = muse_permute(i, sizes[s], 1, 2, epoch);
        cr_assert_lt(p, sizes[s]);
        cr_assert_eq(seen[p]++, 0);
      }
    }
  }
  int same = 0; // different keys give different orders
  for (uint64_t i = 0; i < 1000; i++) {
    same += muse_permute(i, 1000, 1, 0, 0) == muse_permute(i, 1000, 1, 0, 1);
    same += muse_permute(i, 1000, 1, 0, 0) == muse_permute(i, 1000, 2, 0, 0);
    same += muse_permute(i, 1000, 1, 0, 0) == muse_permute(i, 1000, 1, 1, 0);
    same += muse_permute(i, 1000, 1, 0, 0) == i;
  }
  cr_expect_lt(same, 30); // about one of a thousand by chance, four times
}

Test(mixture, rows_run_over_documents_with_eos_between) {
  write_set("a", (int[]){3, 0, 5, 1}, 4, 100);
  const int32_t stream[] = {100, 101, 102, EOS, EOS, 103, 104, 105, 106, 107, EOS, 108, EOS};
  MuseDataOptions o = options(4);
  o.shuffle = false;
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  int32_t out[3 * 5];
  assert_ok(muse_data_open(scratch("a"), &o, &source, diag));
  assert_ok(muse_data_next(source, &cursor, 3, out, diag));
  for (int row = 0; row < 3; row++)
    for (int i = 0; i < 5; i++) cr_expect_eq(out[row * 5 + i], stream[row * 4 + i], "row %d place %d", row, i);
  cr_expect_eq(cursor.rows, 3);
  muse_data_close(source);
  o.eos = -1; // without an eos the documents follow each other directly
  cursor = (MuseDataCursor){0};
  assert_ok(muse_data_open(scratch("a"), &o, &source, diag));
  assert_ok(muse_data_next(source, &cursor, 2, out, diag));
  for (int i = 0; i < 5; i++) cr_expect(out[i] == 100 + i && out[5 + i] == 104 + i);
  muse_data_close(source);
}

// Every target of the set is drawn once in an epoch, and none of them is held out.
Test(mixture, held_out_windows_are_never_trained_on) {
  static const double shares[] = {0, 0.01, 0.1, 0.3, 0.5, 0.9};
  write_set("a", (int[]){300, 7, 412}, 3, 0);
  for (size_t s = 0; s < sizeof shares / sizeof shares[0]; s++) {
    MuseDataOptions o = options(8);
    o.validation_share = shares[s];
    o.eos = -1;
    MuseDataSource *source;
    MuseDataCursor cursor = {0}, held = {0};
    assert_ok(muse_data_open(scratch("a"), &o, &source, diag));
    MuseDataSetReport r = muse_data_report(source, &cursor, 0);
    cr_assert_eq(r.n_windows + r.n_validation, (719 - 1) / 8);
    cr_expect_eq(r.n_validation, muse_data_validation_rows(source));
    cr_expect(shares[s] == 0 ? r.n_validation == 0 : r.n_validation > 0);
    uint8_t seen[720] = {0};
    int32_t row[9];
    for (int64_t i = 0; i < r.n_windows; i++) {
      assert_ok(muse_data_next(source, &cursor, 1, row, diag));
      for (int k = 1; k < 9; k++) seen[row[k]] += 1;
    }
    for (int64_t i = 0; i < r.n_validation; i++) {
      assert_ok(muse_data_validation_next(source, &held, 1, row, diag));
      for (int k = 1; k < 9; k++) seen[row[k]] += 16;
    }
    int n_trained = 0, n_held = 0;
    for (int i = 1; i <= r.n_windows * 8 + r.n_validation * 8; i++) {
      cr_assert(seen[i] == 1 || seen[i] == 16, "token %d was drawn %d times", i, seen[i]);
      n_trained += seen[i] == 1;
      n_held += seen[i] == 16;
    }
    cr_expect(n_trained == r.n_windows * 8 && n_held == r.n_validation * 8);
    cr_expect_eq(muse_data_report(source, &cursor, 0).epochs, 1.0);
    muse_data_close(source);
  }
}

Test(mixture, epochs_differ_and_repeat_exactly) {
  write_set("a", (int[]){401}, 1, 0);
  MuseDataOptions o = options(4);
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  o.eos = -1;
  assert_ok(muse_data_open(scratch("a"), &o, &source, diag));
  int32_t first[100 * 5], second[100 * 5], again[100 * 5];
  assert_ok(muse_data_next(source, &cursor, 100, first, diag));
  assert_ok(muse_data_next(source, &cursor, 100, second, diag));
  cr_expect_neq(memcmp(first, second, sizeof first), 0);
  cursor = (MuseDataCursor){0};
  for (int i = 0; i < 100; i += 20) assert_ok(muse_data_next(source, &cursor, 20, again + i * 5, diag));
  cr_expect_eq(memcmp(first, again, sizeof first), 0); // the size of the batches does not matter
  muse_data_close(source);
}

static void write_mixture(void) {
  write_set("a", (int[]){500, 300}, 2, 0);
  write_set("b", (int[]){90}, 1, 3000);
  write_set("c", (int[]){200}, 1, 6000);
  char text[1000];
  snprintf(text, sizeof text,
           "datasets:\n  first: {path: %s, weight: 7}\n  second: {path: %s, weight: 2}\n"
           "  third:\n    path: %s\n    weight: 1e0\n    license: CC0\nseed: 42\n",
           scratch("a"), scratch("b.bin"), scratch("c"));
  scratch_file("mix.yaml", text, strlen(text));
}

Test(mixture, shares_are_kept_at_every_moment) {
  write_mixture();
  MuseDataOptions o = options(16);
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  cr_assert_eq(muse_data_n_sets(source), 3);
  const double target[] = {0.7, 0.2, 0.1};
  int32_t row[17];
  for (int n = 1; n <= 1000; n++) {
    assert_ok(muse_data_next(source, &cursor, 1, row, diag));
    for (int i = 0; i < 3; i++) {
      double off = (double)cursor.drawn[i] - target[i] * n;
      cr_assert(off > -1.5 && off < 1.5, "set %d is %g rows off after %d", i, off, n);
    }
  }
  for (int i = 0; i < 3; i++) {
    MuseDataSetReport r = muse_data_report(source, &cursor, i);
    cr_expect_float_eq(r.target, target[i], 1e-9);
    cr_expect_float_eq(r.achieved, target[i], 1e-3);
  }
  MuseStr text = {0};
  muse_data_report_text(source, &cursor, &text);
  cr_expect_not_null(strstr(text.data, "second"));
  cr_expect_not_null(strstr(text.data, "20.00%"));
  muse_str_free(&text);
  muse_data_close(source);
}

Test(mixture, resume_from_a_saved_cursor) {
  write_mixture();
  MuseDataOptions o = options(16);
  o.validation_share = 0.1;
  MuseDataSource *source;
  MuseDataCursor cursor = {0}, saved = {0};
  int32_t whole[20][4 * 17], again[4 * 17];
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  for (int s = 0; s < 20; s++) {
    if (s == 11) saved = cursor;
    assert_ok(muse_data_next(source, &cursor, 4, whole[s], diag));
  }
  muse_data_close(source);
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  for (int s = 11; s < 20; s++) {
    assert_ok(muse_data_next(source, &saved, 4, again, diag));
    cr_assert_eq(memcmp(again, whole[s], sizeof again), 0);
  }
  muse_data_close(source);
  o.seed = 8; // a cursor of other options is refused
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  assert_fails(muse_data_next(source, &saved, 4, again, diag), MUSE_ERR_DATA, "belongs to other data or options");
  muse_data_close(source);
}

Test(mixture, validation_is_the_same_every_time) {
  write_mixture();
  MuseDataOptions o = options(16);
  o.validation_share = 0.2;
  MuseDataSource *source;
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  int32_t first[8 * 17], second[8 * 17];
  MuseDataCursor a = {0}, b = {0};
  assert_ok(muse_data_validation_next(source, &a, 8, first, diag));
  for (int i = 0; i < 8; i++) assert_ok(muse_data_validation_next(source, &b, 1, second + i * 17, diag));
  cr_expect_eq(memcmp(first, second, sizeof first), 0);
  muse_data_close(source);
  o.validation_share = 0;
  assert_ok(muse_data_open(scratch("mix.yaml"), &o, &source, diag));
  a = (MuseDataCursor){0};
  cr_expect_eq(muse_data_validation_rows(source), 0);
  assert_fails(muse_data_validation_next(source, &a, 1, first, diag), MUSE_ERR_INPUT, "no text is held out");
  muse_data_close(source);
}

Test(mixture, a_folder_with_its_own_validation_set) {
  cr_assert_eq(muse_make_dirs(scratch("folder"), 0777, diag), MUSE_OK);
  write_set("folder/train", (int[]){100}, 1, 0);
  write_set("folder/validation", (int[]){50}, 1, 5000);
  MuseDataOptions o = options(8);
  o.validation_share = 0.5; // not needed: nothing of train is held out
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  int32_t row[9];
  assert_ok(muse_data_open(scratch("folder"), &o, &source, diag));
  MuseDataSetReport r = muse_data_report(source, &cursor, 0);
  cr_expect(r.n_windows == 12 && r.n_validation == 6);
  assert_ok(muse_data_validation_next(source, &cursor, 1, row, diag));
  cr_expect_geq(row[0], 5000);
  muse_data_close(source);
}

Test(mixture, sets_that_cannot_be_used) {
  MuseDataOptions o = options(8);
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  int32_t row[9];
  write_set("empty", NULL, 0, 0);
  assert_fails(muse_data_open(scratch("empty"), &o, &source, diag), MUSE_ERR_INPUT,
               "empty.bin' has 0 tokens in 0 documents");
  write_set("short", (int[]){7}, 1, 0);
  assert_fails(muse_data_open(scratch("short"), &o, &source, diag), MUSE_ERR_INPUT,
               "too few for one row of n_seq + 1 = 9");
  write_set("ok", (int[]){8}, 1, 0); // with the eos just enough
  assert_ok(muse_data_open(scratch("ok"), &o, &source, diag));
  muse_data_close(source);
  o.tokenizer_hash = 43;
  assert_fails(muse_data_open(scratch("ok"), &o, &source, diag), MUSE_ERR_DATA, "another tokenizer ('bytes'");
  o.tokenizer_hash = 42;
  o.vocab_size = 5;
  assert_ok(muse_data_open(scratch("ok"), &o, &source, diag));
  assert_fails(muse_data_next(source, &cursor, 1, row, diag), MUSE_ERR_DATA, "token 5 (byte 10) has the id 5");
  cr_expect_eq(cursor.rows, 0); // a failed draw moves nothing
  muse_data_close(source);
  assert_fails(muse_data_open(scratch("absent"), &o, &source, diag), MUSE_ERR_INPUT, "no token set");
}

Test(mixture, batches_from_a_tensor) {
  int64_t ids[3][2][5];
  for (int i = 0; i < 30; i++) ids[i / 10][i / 5 % 2][i % 5] = i;
  MuseStoredTensor t = muse_stored_tensor("tokens", MUSE_STORED_I64, 3, (int64_t[]){3, 2, 5}, ids);
  assert_ok(muse_safetensors_write(scratch("g.safetensors"), &t, 1, NULL, 0, NULL, diag));
  MuseDataOptions o = options(4);
  MuseDataSource *source;
  MuseDataCursor cursor = {0};
  int32_t out[10];
  assert_ok(muse_data_open(scratch("g.safetensors"), &o, &source, diag));
  cr_expect(muse_data_n_steps(source) == 3 && muse_data_batch(source) == 2 && muse_data_n_sets(source) == 0);
  assert_fails(muse_data_next(source, &cursor, 3, out, diag), MUSE_ERR_INPUT, "batches of 2 rows");
  for (int s = 0; s < 3; s++) {
    assert_ok(muse_data_next(source, &cursor, 2, out, diag));
    for (int i = 0; i < 10; i++) cr_assert_eq(out[i], s * 10 + i);
  }
  assert_fails(muse_data_next(source, &cursor, 2, out, diag), MUSE_ERR_INPUT, "all 3 steps of 'tokens' are used up");
  muse_data_close(source);
  o.vocab_size = 29;
  cursor = (MuseDataCursor){0};
  assert_ok(muse_data_open(scratch("g.safetensors"), &o, &source, diag));
  assert_ok(muse_data_next(source, &cursor, 2, out, diag));
  assert_ok(muse_data_next(source, &cursor, 2, out, diag));
  assert_fails(muse_data_next(source, &cursor, 2, out, diag), MUSE_ERR_DATA, "element 29 of 'tokens' is 29");
  muse_data_close(source);
  o.row_tokens = 8;
  assert_fails(muse_data_open(scratch("g.safetensors"), &o, &source, diag), MUSE_ERR_INPUT,
               "must be [steps, B, n_seq + 1 = 9]");
}

static MuseStatus parse_recipe(const char *text, MuseRecipe *recipe) {
  static MuseArena *arena;
  if (!arena) arena = muse_arena_create();
  return muse_recipe_parse("mix.yaml", text, strlen(text), arena, recipe, diag);
}

Test(mixture, recipes) {
  MuseRecipe r;
  assert_ok(parse_recipe(
      "datasets:\n  a: {path: 'x y', weight: 0.45, description: d, license: [any, thing]}\nblock_size: 2048\n", &r));
  cr_expect(r.n_entries == 1 && r.entries[0].weight == 0.45);
  cr_expect_str_eq(r.entries[0].path, "x y");
  cr_expect_eq(muse_diag_count(diag, MUSE_NOTE), 1);
  cr_expect(scratch_said("'block_size' changes nothing here"));
  // All errors at once, with their places.
  muse_diag_clear(diag);
  cr_expect_eq(
      parse_recipe("datasets:\n  a: {path: x, wieght: 1}\n  b: {path: [], weight: no}\n  a: {path: y, weight: -1}\n",
                   &r),
      MUSE_ERR_INPUT);
  cr_expect(scratch_said("unknown key 'wieght'; did you mean 'weight'?"));
  cr_expect(scratch_said("dataset 'a' has no 'weight'"));
  cr_expect(scratch_said("'path' must be a plain value"));
  cr_expect(scratch_said("the weight 'no' is not a number above 0"));
  cr_expect(scratch_said("dataset 'a' appears twice"));
  cr_expect(scratch_said("the weight '-1' is not a number above 0"));
  cr_expect_eq(muse_diag_count(diag, MUSE_ERROR), 6);
  cr_expect_eq(muse_diag_loc(diag, 0).line, 2);
  cr_expect_eq(muse_diag_loc(diag, 0).col, 16);
  // The sum of weights is finite.
  muse_diag_clear(diag);
  cr_expect_eq(parse_recipe("datasets:\n  a: {path: x, weight: 1e308}\n  b: {path: y, weight: inf}\n", &r),
               MUSE_ERR_INPUT);
  cr_expect(scratch_said("the weight '1e308' is not a number above 0 and up to 1e9"));
  cr_expect(scratch_said("the weight 'inf' is not a number"));
}

Test(mixture, hostile_recipes) {
  MuseRecipe r;
  assert_fails(parse_recipe("", &r), MUSE_ERR_INPUT, "a recipe is a mapping");
  assert_fails(parse_recipe("[1, 2]", &r), MUSE_ERR_INPUT, "a recipe is a mapping");
  assert_fails(parse_recipe("datasets: 7", &r), MUSE_ERR_INPUT, "'datasets' must be a mapping");
  assert_fails(parse_recipe("datasets: {}", &r), MUSE_ERR_INPUT, "names no datasets");
  assert_fails(parse_recipe("datasets: {a: 7}", &r), MUSE_ERR_INPUT, "'a' must be a mapping");
  assert_fails(parse_recipe("datasets: {a: {path: x, weight: .inf}}", &r), MUSE_ERR_INPUT, "'.inf' is not a number");
  assert_fails(parse_recipe("datasets: {a: {path: \"\", weight: 1}}", &r), MUSE_ERR_INPUT, "'path' is empty");
  assert_fails(parse_recipe("datasets: {a: {path: \"x\\0y\", weight: 1}}", &r), MUSE_ERR_INPUT, "NUL character");
  assert_fails(parse_recipe("datasets: {? [x] : {path: x, weight: 1}}", &r), MUSE_ERR_INPUT,
               "name of a dataset must be a plain");
  assert_fails(parse_recipe("datasets: {a: &b {path: x, weight: 1}, c: *b}", &r), MUSE_ERR_INPUT,
               "'c' must be a mapping");
  assert_fails(parse_recipe("datasets: {a: {path: x, weight: 1}", &r), MUSE_ERR_INPUT, "not valid YAML");
  assert_fails(parse_recipe("datasets: {a: {path: x, weight: 1}}\n---\nb: 1\n", &r), MUSE_ERR_INPUT,
               "second YAML document");
  assert_fails(parse_recipe("datasets: {a: {path: x, path: y, weight: 1}}", &r), MUSE_ERR_INPUT,
               "'path' appears twice");
  assert_fails(parse_recipe("a: 1", &r), MUSE_ERR_INPUT, "unknown key 'a'");
  static char deep[900000]; // bounded time and memory
  memset(deep, '[', sizeof deep - 1);
  memcpy(deep, "datasets: ", 10);
  assert_fails(parse_recipe(deep, &r), MUSE_ERR_INPUT, "nested deeper than 16 levels");
  MuseStr many = {0};
  muse_str_append(&many, "datasets:\n");
  for (int i = 0; i < 65; i++) muse_str_appendf(&many, "  s%d: {path: x, weight: 1}\n", i);
  assert_fails(parse_recipe(many.data, &r), MUSE_ERR_INPUT, "at most 64 datasets");
  muse_str_free(&many);
}
