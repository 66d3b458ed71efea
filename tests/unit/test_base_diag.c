// Messages: counting, places, carets, and text from hostile files.
#include "ir/base/diag.h"
#include "ir/base/str.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MuseDiag *diag;
static void set_up(void) { diag = muse_diag_create(); }
static void tear_down(void) { muse_diag_destroy(diag); }
TestSuite(base_diag, .init = set_up, .fini = tear_down);

static void expect_print(const char *expected) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  muse_diag_print(diag, out);
  fclose(out);
  cr_assert_str_eq(text, expected);
  free(text);
}

static void set_source(const char *file, const char *text) { muse_diag_set_source(diag, file, text, strlen(text)); }

Test(base_diag, returns_the_status_and_keeps_order) {
  cr_assert_eq(muse_error(diag, MUSE_ERR_DATA, "vocabulary %d", 7), MUSE_ERR_DATA);
  cr_assert_eq(muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){.file = "f", .line = 2}, "second"), MUSE_ERR_INPUT);
  muse_warning_at(diag, (MuseLoc){0}, "third");
  muse_note_at(diag, (MuseLoc){.key = "lr"}, "fourth");
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 2);
  cr_assert_eq(muse_diag_count(diag, MUSE_WARNING), 1);
  cr_assert_eq(muse_diag_count(diag, MUSE_NOTE), 1);
  cr_assert_str_eq(muse_diag_message(diag, 0), "vocabulary 7");
  cr_assert_str_eq(muse_diag_message(diag, 3), "fourth");
  cr_assert_null(muse_diag_message(diag, 4));
  cr_assert_eq(muse_diag_loc(diag, 1).line, 2);
  cr_assert_str_eq(muse_diag_loc(diag, 1).file, "f");
  cr_assert_str_eq(muse_diag_loc(diag, 3).key, "lr");
  cr_assert_null(muse_diag_loc(diag, 9).file);
  cr_assert_eq(muse_diag_severity(diag, 2), MUSE_WARNING);
  muse_diag_clear(diag);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 0);
  cr_assert_null(muse_diag_message(diag, 0));
  expect_print("");
}

Test(base_diag, texts_are_copied) {
  char file[] = "a.yaml", key[] = "d_model", source[] = "d_model: x\n";
  muse_diag_set_source(diag, file, source, strlen(source));
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){file, 1, 10, key}, "bad");
  memset(file, '#', 6), memset(key, '#', 7), memset(source, '#', 11);
  expect_print("a.yaml:1:10: error: bad (from key 'd_model')\n  d_model: x\n           ^\n");
}

Test(base_diag, null_diag_is_allowed) {
  cr_assert_eq(muse_error(NULL, MUSE_ERR_FAILED, "dropped"), MUSE_ERR_FAILED);
  muse_diag_set_source(NULL, "f", "", 0);
  muse_warning_at(NULL, (MuseLoc){0}, "dropped");
  cr_assert_eq(muse_diag_count(NULL, MUSE_ERROR), 0);
  muse_diag_print(NULL, stdout);
  muse_diag_clear(NULL);
  muse_diag_destroy(NULL);
}

Test(base_diag, caret_under_the_column) {
  set_source("c.yaml", "vocab_size: 256\nd_modle: 64\n\nlr: 1");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"c.yaml", 2, 1, "d_modle"}, "unknown key 'd_modle'");
  muse_warning_at(diag, (MuseLoc){"c.yaml", 4, 5, NULL}, "large");
  muse_note_at(diag, (MuseLoc){"c.yaml", 1, 13, NULL}, "here");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"c.yaml", 3, 1, NULL}, "empty");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"c.yaml", 4, 99, NULL}, "beyond the end");
  expect_print("c.yaml:2:1: error: unknown key 'd_modle'\n  d_modle: 64\n  ^\n"
               "c.yaml:4:5: warning: large\n  lr: 1\n      ^\n"
               "c.yaml:1:13: note: here\n  vocab_size: 256\n              ^\n"
               "c.yaml:3:1: error: empty\n  \n  ^\n"
               "c.yaml:4:99: error: beyond the end\n  lr: 1\n       ^\n");
}

Test(base_diag, places_that_are_known_in_part) {
  set_source("f", "one\ntwo\r\n");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"f", 0, 0, NULL}, "no line");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"f", 2, 0, NULL}, "no column");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"f", 9, 1, NULL}, "no such line");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"other", 2, 1, NULL}, "no source");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){NULL, 2, 1, NULL}, "no file");
  expect_print("f: error: no line\nf:2: error: no column\n  two\nf:9:1: error: no such line\n"
               "other:2:1: error: no source\nerror: no file\n");
}

Test(base_diag, setting_a_source_again_replaces_it) {
  set_source("f", "old\n");
  set_source("f", "new\n");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"f", 1, 1, NULL}, "x");
  expect_print("f:1:1: error: x\n  new\n  ^\n");
}

Test(base_diag, columns_count_characters) {
  set_source("u", "größe: €x\n\tkey: 1\n");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"u", 1, 9, NULL}, "x");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"u", 2, 2, NULL}, "k");
  expect_print("u:1:9: error: x\n  größe: €x\n          ^\nu:2:2: error: k\n   key: 1\n   ^\n");
}

Test(base_diag, control_characters_are_escaped_everywhere) {
  set_source("h\033[2J", "a\033]0;owned\007: \x7f\nb\n");
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"h\033[2J", 1, 14, "k\rk"}, "bad key 'x\ny\033[31m'");
  expect_print("h\\x1b[2J:1:14: error: bad key 'x\\ny\\x1b[31m' (from key 'k\\rk')\n"
               "  a\\x1b]0;owned\\x07: \\x7f\n"
               "                     ^\n");
}

Test(base_diag, broken_utf8_and_reordering_characters_are_escaped) {
  // A lone continuation byte, an overlong slash, a surrogate, a C1 control, a bidirectional override, a zero-width
  // space, an abacus (which is shown), a character cut short.
  const char *text =
      "\x80 \xc0\xaf \xed\xa0\x80 \xc2\x9b \xe2\x80\xae \xe2\x80\x8b \xf0\x9f\xa7\xae \xe2\x82";
  muse_error(diag, MUSE_ERR_INPUT, "%s", text);
  expect_print("error: \\x80 \\xc0\\xaf \\xed\\xa0\\x80 \\u{9b} \\u{202e} \\u{200b} \xf0\x9f\xa7\xae \\xe2\\x82\n");
}

Test(base_diag, nul_bytes_in_the_source_are_shown) {
  muse_diag_set_source(diag, "n", "a\0b\n", 4);
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"n", 1, 3, NULL}, "NUL");
  expect_print("n:1:3: error: NUL\n  a\\x00b\n       ^\n");
}

Test(base_diag, long_lines_are_shown_around_the_caret) {
  enum { N = 100000 };
  char *line = malloc(N);
  memset(line, 'x', N);
  line[49999] = 'Y';
  muse_diag_set_source(diag, "l", line, N);
  free(line);
  muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"l", 1, 50000, NULL}, "here");
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  muse_diag_print(diag, out);
  fclose(out);
  cr_assert_lt(length, 400);
  char *excerpt = strchr(text, '\n') + 1, *caret_line = strchr(excerpt, '\n') + 1;
  cr_assert_eq(strchr(excerpt, 'Y') - excerpt, strchr(caret_line, '^') - caret_line);
  cr_assert(muse_str_starts_with(excerpt, "  ...xxx"));
  free(text);
}

Test(base_diag, thousand_messages_in_one_endless_line_are_quick, .timeout = 5) {
  enum { N = 10000000 };
  char *line = malloc(N);
  memset(line, '[', N);
  muse_diag_set_source(diag, "nest", line, N);
  free(line);
  for (int i = 0; i < 1000; i++) muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"nest", 1, N - i, NULL}, "too deep");
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  muse_diag_print(diag, out);
  fclose(out);
  cr_assert(muse_str_starts_with(text, "nest:1:10000000: error: too deep\nnest:1:9999999: error: too deep\n"));
  free(text);
}

Test(base_diag, messages_are_bounded_in_number_and_length) {
  char *word = malloc(1000001);
  memset(word, 'w', 1000000);
  word[1000000] = 0;
  muse_error(diag, MUSE_ERR_INPUT, "%s", word);
  free(word);
  cr_assert_lt(strlen(muse_diag_message(diag, 0)), 4100);
  cr_assert(muse_str_ends_with(muse_diag_message(diag, 0), "[...]"));
  for (int i = 0; i < 5000; i++) muse_warning_at(diag, (MuseLoc){0}, "again");
  muse_error(diag, MUSE_ERR_INPUT, "late");
  cr_assert_eq(muse_diag_count(diag, MUSE_WARNING), 5000);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 2);
  cr_assert_str_eq(muse_diag_message(diag, 1001), "late", "many warnings do not displace an error");
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  muse_diag_print(diag, out);
  fclose(out);
  cr_assert(muse_str_ends_with(text, "error: late\n4000 more warnings are not shown\n"));
  free(text);
}

Test(base_diag, many_places_in_a_large_source_are_quick, .timeout = 5) {
  MuseStr source = {0};
  for (int i = 0; i < 1000000; i++) muse_str_append(&source, "key: 1\n");
  muse_diag_set_source(diag, "big", source.data, source.len);
  muse_str_free(&source);
  for (int i = 0; i < 1000; i++)
    muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){"big", (i + 1) * 1000, 1, NULL}, "duplicate");
  FILE *out = fopen("/dev/null", "w");
  muse_diag_print(diag, out);
  fclose(out);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 1000);
}

// Reads what diag prints on a pseudo-terminal.
static void print_on_terminal(char *out_text, size_t size) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) cr_skip_test("no pseudo-terminal here");
  int slave = open(ptsname(master), O_WRONLY | O_NOCTTY);
  FILE *out = fdopen(slave, "w");
  muse_diag_print(diag, out);
  fflush(out);
  ssize_t n = read(master, out_text, size - 1);
  out_text[n > 0 ? n : 0] = 0;
  fclose(out);
  close(master);
}

Test(base_diag, colour_on_a_terminal_unless_no_color) {
  char text[256];
  muse_error(diag, MUSE_ERR_INPUT, "red");
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  print_on_terminal(text, sizeof text);
  cr_assert_str_eq(text, "\033[1;31merror:\033[0m red\r\n");
  setenv("NO_COLOR", "1", 1);
  print_on_terminal(text, sizeof text);
  cr_assert_str_eq(text, "error: red\r\n");
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  print_on_terminal(text, sizeof text);
  cr_assert_str_eq(text, "error: red\r\n");
}
