// metrics.jsonl and the progress line.
#include "runtime/metrics.h"

#include "tests/unit/scratch.h"

#include <jansson.h>
#include <math.h>
#include <pty.h>
#include <unistd.h>

TestSuite(metrics, .init = scratch_setup, .fini = scratch_teardown);

static void write_steps(int64_t resumed, int64_t first, int64_t last) {
  MuseMetrics *m;
  assert_ok(muse_metrics_open(scratch("m.jsonl"), resumed, &m, diag));
  for (int64_t s = first; s <= last; s++) {
    muse_metrics_begin(m, s, "train");
    muse_metrics_real(m, "loss", 1.0 / (double)s);
    assert_ok(muse_metrics_end(m, NULL, diag));
  }
  assert_ok(muse_metrics_close(m, diag));
}

static MuseStr contents(void) {
  MuseStr text = {0};
  assert_ok(muse_read_file(scratch("m.jsonl"), 1 << 20, &text, diag));
  return text;
}

Test(metrics, a_line_is_json_in_full_precision) {
  MuseMetrics *m;
  const char *line;
  double per_head[] = {0.1, -INFINITY, NAN};
  assert_ok(muse_metrics_open(scratch("m.jsonl"), -1, &m, diag));
  muse_metrics_begin(m, 12, "train");
  muse_metrics_real(m, "loss", 5.369204962423774);
  muse_metrics_int(m, "tokens", 1234567890123);
  muse_metrics_bool(m, "applied", true);
  muse_metrics_text(m, "sample", "a \"b\" \\ \n\x01 \xc3\xa9");
  muse_metrics_reals(m, "per_head", per_head, 3);
  assert_ok(muse_metrics_end(m, &line, diag));
  json_t *root = json_loads(line, 0, NULL);
  cr_assert_not_null(root, "not JSON: %s", line);
  cr_expect_eq(json_integer_value(json_object_get(root, "step")), 12);
  cr_expect_eq(json_real_value(json_object_get(root, "loss")), 5.369204962423774);
  cr_expect_eq(json_integer_value(json_object_get(root, "tokens")), 1234567890123);
  cr_expect(json_is_true(json_object_get(root, "applied")));
  cr_expect_str_eq(json_string_value(json_object_get(root, "sample")), "a \"b\" \\ \n\x01 \xc3\xa9");
  cr_expect_str_eq(json_string_value(json_array_get(json_object_get(root, "per_head"), 1)), "-inf");
  cr_expect_str_eq(json_string_value(json_array_get(json_object_get(root, "per_head"), 2)), "nan");
  json_decref(root);
  assert_ok(muse_metrics_close(m, diag));
}

Test(metrics, resume_continues_the_history) {
  write_steps(-1, 1, 10);
  MuseStr whole = contents();
  write_steps(6, 7, 10); // a resume from step 6 repeats 7..10
  MuseStr again = contents();
  cr_expect_str_eq(muse_str_text(&again), muse_str_text(&whole));
  muse_str_free(&again);
  // A line torn by a crash goes too.
  FILE *f = fopen(scratch("m.jsonl"), "a");
  fputs("{\"step\":3,\"kind\":\"tr", f);
  fclose(f);
  write_steps(10, 11, 10);
  again = contents();
  cr_expect_str_eq(muse_str_text(&again), muse_str_text(&whole));
  muse_str_free(&again);
  muse_str_free(&whole);
  write_steps(-1, 1, 1); // a fresh run starts empty
  again = contents();
  cr_expect_str_eq(muse_str_text(&again), "{\"step\":1,\"kind\":\"train\",\"loss\":1.0}\n");
  muse_str_free(&again);
}

Test(metrics, an_unwritable_file_is_a_sentence) {
  MuseMetrics *m;
  assert_fails(muse_metrics_open(scratch("no/such/folder"), -1, &m, diag), MUSE_ERR_FAILED, "no/such/folder");
  assert_ok(muse_metrics_open("/dev/full", -1, &m, diag));
  muse_metrics_begin(m, 1, "train");
  assert_fails(muse_metrics_end(m, NULL, diag), MUSE_ERR_FAILED, "cannot write '/dev/full'");
  assert_ok(muse_metrics_close(m, diag));
}

Test(metrics, smoothing_has_no_start_up_bias) {
  MuseSmoothed s = {0};
  muse_smoothed_add(&s, 4, 0.9);
  cr_expect_eq(s.value, 4);
  muse_smoothed_add(&s, NAN, 0.9); // left out
  muse_smoothed_add(&s, 2, 0.9);
  cr_expect_float_eq(s.value, (0.9 * 4 + 2) / 1.9, 1e-12);
  for (int i = 0; i < 1000; i++) muse_smoothed_add(&s, 7, 0.9);
  cr_expect_float_eq(s.value, 7, 1e-9);
}

Test(metrics, progress_line) {
  MuseProgressOptions o = {.n_steps = 200};
  MuseProgressStep step = {.step = 50,
                           .loss = 2.43125,
                           .smoothed_loss = 2.5,
                           .learning_rate = 0.0015,
                           .grad_norm = 1.25,
                           .memory_bytes = 1200000000};
  MuseStr s = {0};
  muse_progress_format(&o, &step, 12345, 185, false, 200, &s);
  cr_expect_str_eq(muse_str_text(&s),
                   "step 50/200  loss 2.4312 (2.5000)  lr 1.50e-03  grad 1.25  12.3k tok/s  1.2 GB  ETA 3m05s");
  muse_str_clear(&s);
  static const struct { int width; const char *line; } at[] = {
      {200, "[#####---------------]  25% step 50/200  loss 2.4312 (2.5000)  lr 1.50e-03  grad 1.25  12.3k tok/s  "
            "1.2 GB  ETA 3m05s"},
      {100, "[#####---------------]  25% step 50/200  loss 2.4312 (2.5000)  lr 1.50e-03  12.3k tok/s  ETA 3m05s"},
      {79, "[#####---------------]  25% step 50/200  loss 2.4312  12.3k tok/s  ETA 3m05s"},
      {60, "step 50/200  loss 2.4312  12.3k tok/s  ETA 3m05s"},
      {40, "step 50/200  loss 2.4312  ETA 3m05s"},
      {24, "step 50/200  loss 2.4312"},
      {23, "step 50/200 loss 2.43"},
      {20, "step 50/200 loss 2.4"},
      {10, "step 50/20"},
      {1, "s"},
      {0, ""},
  };
  for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
    muse_str_clear(&s);
    muse_progress_format(&o, &step, 12345, 185, true, at[i].width, &s);
    cr_expect_str_eq(muse_str_text(&s), at[i].line);
  }
  // Whatever the numbers are.
  step = (MuseProgressStep){.step = 150000000, .loss = 1e30, .smoothed_loss = -NAN, .learning_rate = INFINITY,
                            .grad_norm = -1e300, .memory_bytes = UINT64_MAX};
  o.n_steps = 1000000000;
  for (int width = 0; width < 300; width++) {
    muse_str_clear(&s);
    muse_progress_format(&o, &step, 1e18, 1e8, width % 2, width, &s);
    cr_expect_leq(s.len, (size_t)width);
  }
  muse_str_free(&s);
}

Test(metrics, plain_lines_without_a_terminal) {
  FILE *f = fopen(scratch("out"), "w+");
  MuseProgressOptions o = {.out = f, .n_steps = 10, .every_steps = 5};
  MuseProgress *p = muse_progress_create(&o);
  for (int64_t i = 1; i <= 10; i++) {
    muse_progress_update(p, &(MuseProgressStep){.step = i, .loss = 1, .tokens = 100, .seconds = 0.5});
    if (i == 7) muse_progress_message(p, "validation %d", 7);
  }
  muse_progress_destroy(p);
  fclose(f);
  MuseStr text = {0};
  assert_ok(muse_read_file(scratch("out"), 10000, &text, diag));
  cr_expect_not_null(strstr(text.data, "step 1/10"));
  cr_expect_not_null(
      strstr(text.data, "step 5/10  loss 1.0000 (0.0000)  lr 0.00e+00  grad 0  200 tok/s  ETA 3s\nvalidation 7\n"));
  cr_expect_not_null(strstr(text.data, "step 10/10"));
  cr_expect_null(strstr(text.data, "step 4/10"));
  cr_expect_null(strchr(text.data, '\r'));
  cr_expect_null(strchr(text.data, '\033'));
  cr_expect_gt(muse_process_memory(), 1000000);
  muse_str_free(&text);
}

// What a terminal of so many columns gets for two steps.
static void draw_on_terminal(const char *no_color, unsigned short columns, char *out, size_t size) {
  int master, slave, opened = openpty(&master, &slave, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = columns});
  if (opened != 0 && access("/dev/pts/ptmx", F_OK) != 0) cr_skip_test("there are no terminals: no devpts is mounted");
  cr_assert_eq(opened, 0);
  setenv("TERM", "xterm", 1);
  setenv("NO_COLOR", no_color, 1);
  FILE *f = fdopen(slave, "w");
  MuseProgress *p = muse_progress_create(&(MuseProgressOptions){.out = f, .n_steps = 2, .every_steps = 100});
  muse_progress_update(p, &(MuseProgressStep){.step = 1, .loss = 5.5, .tokens = 10, .seconds = 1});
  muse_progress_message(p, "note");
  muse_progress_update(p, &(MuseProgressStep){.step = 2, .loss = 4.5, .tokens = 10, .seconds = 1});
  muse_progress_destroy(p);
  fclose(f); // then reading ends with EIO, after as many pieces as the kernel chooses
  size_t length = 0;
  for (ssize_t n; (n = read(master, out + length, size - 1 - length)) > 0;) length += (size_t)n;
  out[length] = 0;
  close(master);
}

Test(metrics, a_bar_on_a_terminal) {
  char text[2000];
  draw_on_terminal("", 100, text, sizeof text);
  cr_expect_not_null(strstr(text, "\r\033[K\033[32m[##########----------]\033[0m  50% step 1/2  loss 5.5000"));
  cr_expect_not_null(strstr(text, "\r\033[Knote\r\n")); // the message takes the place of the bar
  cr_expect_not_null(strstr(text, "[####################]\033[0m 100% step 2/2"));
  cr_expect_eq(text[strlen(text) - 1], '\n');
  draw_on_terminal("1", 100, text, sizeof text);
  cr_expect_not_null(strstr(text, "\r\033[K[##########----------]  50% step 1/2"));
  cr_expect_null(strstr(text, "\033[32m"));
}

Test(metrics, no_line_is_wider_than_the_terminal) {
  for (unsigned short columns = 0; columns < 130; columns++) {
    char text[2000];
    draw_on_terminal("1", columns, text, sizeof text);
    size_t most = columns == 0 ? 79 : columns == 1 ? 1 : columns - 1, longest = 0;
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) {
      if (strncmp(line, "\033[K", 3) == 0) line += 3;
      if (strcmp(line, "note") != 0 && strlen(line) > longest) longest = strlen(line);
    }
    cr_expect(longest > 0 && longest <= most, "%d columns: %zu", columns, longest);
  }
  char text[2000];
  draw_on_terminal("", 20, text, sizeof text);
  cr_expect_not_null(strstr(text, "\r\033[Kstep 1/2 loss 5.50\r"));
}
