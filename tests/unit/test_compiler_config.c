// Configurations that are accepted: values, defaults, derived keys, overrides, locations, notes, the printer, the files
// in configs/, the generated documentation, and the bounds on hostile input.
#include "compiler/config.h"

#include "ir/base/io.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NEEDED "vocab_size: 64\nd_model: 64\nn_layers: 2\nn_seq: 32\n"

typedef struct Loaded {
  MuseArena *arena;
  MuseDiag *diag;
  MuseConfig config;
  MuseStatus status;
} Loaded;

static Loaded parse_n(const char *text, size_t length, const MuseTextList *sets) {
  Loaded l = {.arena = muse_arena_create(), .diag = muse_diag_create()};
  l.status = muse_config_parse_text("c.yaml", text, length, sets, l.arena, &l.config, l.diag);
  return l;
}

static Loaded parse(const char *text) { return parse_n(text, strlen(text), NULL); }

static void unload(Loaded *l) {
  muse_diag_destroy(l->diag);
  muse_arena_destroy(l->arena);
}

static void expect_accepted(const Loaded *l, const char *what) {
  if (l->status != MUSE_OK) muse_diag_print(l->diag, stderr);
  cr_assert_eq(l->status, MUSE_OK, "%s", what);
  cr_assert_eq(muse_diag_count(l->diag, MUSE_ERROR), 0);
}

// print(parse(t)) parses to an equal config and prints the same text again.
static void expect_round_trip(const MuseConfig *config, const char *what) {
  MuseStr first = {0}, second = {0};
  muse_config_print(config, &first);
  Loaded again = parse(muse_str_text(&first));
  expect_accepted(&again, muse_str_text(&first));
  cr_expect(muse_config_equal(config, &again.config), "%s prints as\n%s", what, muse_str_text(&first));
  muse_config_print(&again.config, &second);
  cr_expect_str_eq(muse_str_text(&first), muse_str_text(&second));
  unload(&again);
  muse_str_free(&first);
  muse_str_free(&second);
}

Test(config, defaults) {
  Loaded l = parse(NEEDED);
  expect_accepted(&l, "the four required keys");
  const MuseConfig *c = &l.config;
  cr_expect(c->vocab_size == 64 && c->d_model == 64 && c->n_layers == 2 && c->n_seq == 32);
  cr_expect(c->num_heads == 1 && c->local_window == 256 && c->ffn_mult == 4 && c->ffn_activation == MUSE_FFN_RELU2);
  cr_expect(c->use_bitnet && c->use_birman_schwinger && c->use_hybrid_attention && !c->use_htt_embedding);
  cr_expect_eq(muse_config_mixer(c), MUSE_MIXER_HYBRID);
  cr_expect(c->local_score == MUSE_LOCAL_HYPERBOLIC && c->optimizer == MUSE_OPTIMIZER_ADAMW);
  cr_expect(!c->use_mixed_precision && c->gradient_precision == MUSE_GRADIENT_F32);
  cr_expect(c->min_lr_ratio == 0.05 && c->adam_beta1 == 0.9 && c->adam_beta2 == 0.95 && c->adam_eps == 1e-8);
  cr_expect(c->max_steps == 10000 && c->warmup_steps == 500);
  cr_expect(c->eos_token_id == -1 && c->tokenizer == NULL && c->memory_budget == 0);
  cr_expect_str_eq(c->sample_prompt, "");
  cr_expect_eq(muse_config_loc(c, "d_model").line, 2);
  cr_expect_eq(muse_config_loc(c, "d_model").col, 10);
  cr_expect_str_eq(muse_config_loc(c, "d_model").key, "d_model");
  cr_expect_eq(muse_config_loc(c, "seed").line, 0);
  expect_round_trip(c, "defaults");
  unload(&l);
}

// MODEL: D/128, else D/64, else D/32.
Test(config, heads_follow_from_the_width) {
  static const struct {
    int d_model, heads;
  } rows[] = {{128, 1}, {5120, 40}, {1600, 25}, {192, 3}, {96, 3}, {32, 1}, {1024, 8}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[200];
    snprintf(text, sizeof text, "vocab_size: 64\nd_model: %d\nn_layers: 2\nn_seq: 32\n", rows[i].d_model);
    Loaded l = parse(text);
    expect_accepted(&l, text);
    cr_expect_eq(l.config.num_heads, rows[i].heads, "d_model %d", rows[i].d_model);
    unload(&l);
  }
}

Test(config, gradient_precision_follows_from_the_numbers) {
  static const struct {
    const char *text;
    MuseGradientPrecision expected;
  } rows[] = {
      {"use_mixed_precision: false\n", MUSE_GRADIENT_F32},
      {"use_mixed_precision: true\n", MUSE_GRADIENT_INT8},
      {"use_mixed_precision: true\nuse_bitnet: false\n", MUSE_GRADIENT_BF16},
      {"use_mixed_precision: true\ngradient_precision: bf16\n", MUSE_GRADIENT_BF16},
      {"use_mixed_precision: true\ngradient_precision: f32\n", MUSE_GRADIENT_F32},
      {"gradient_precision: int8\n", MUSE_GRADIENT_INT8},
      {"gradient_precision: auto\n", MUSE_GRADIENT_F32},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[400];
    snprintf(text, sizeof text, "%s%s", NEEDED, rows[i].text);
    Loaded l = parse(text);
    expect_accepted(&l, text);
    cr_expect_eq(l.config.gradient_precision, rows[i].expected, "%s", rows[i].text);
    expect_round_trip(&l.config, rows[i].text);
    unload(&l);
  }
}

Test(config, numbers_in_every_spelling) {
  Loaded l = parse(NEEDED "learning_rate: 1e-4\nadam_eps: 1E-6\nmin_lr_ratio: .5\nweight_decay: 1.\nmax_grad_norm: +2\n"
                          "max_steps: 1e5\nbatch_size: 8.0\nseed: 4294967295\nwarmup_steps: 0\nadam_beta1: 0.0\n");
  expect_accepted(&l, "numbers");
  const MuseConfig *c = &l.config;
  cr_expect(c->learning_rate == 1e-4 && c->adam_eps == 1e-6 && c->min_lr_ratio == 0.5 && c->weight_decay == 1.0);
  cr_expect(c->max_grad_norm == 2.0 && c->adam_beta1 == 0.0);
  cr_expect(c->max_steps == 100000 && c->batch_size == 8 && c->seed == 4294967295 && c->warmup_steps == 0);
  expect_round_trip(c, "numbers");
  unload(&l);
}

Test(config, yaml_1_1_booleans) {
  static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
  static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"};
  for (size_t i = 0; i < 2 * sizeof yes / sizeof *yes; i++) {
    char text[200];
    snprintf(text, sizeof text, "%suse_lap: %s\nuse_bitnet: %s\n", NEEDED, i % 2 ? no[i / 2] : yes[i / 2],
             i % 2 ? no[i / 2] : yes[i / 2]);
    Loaded l = parse(text);
    expect_accepted(&l, text);
    cr_expect_eq(l.config.use_lap, i % 2 == 0, "%s", text);
    cr_expect_eq(l.config.use_bitnet, i % 2 == 0, "%s", text);
    unload(&l);
  }
}

// `no` is false only where true or false is wanted.
Test(config, text_and_null) {
  Loaded l = parse(NEEDED "sample_prompt: no\ntokenizer: null\neos_token_id: ~\n");
  expect_accepted(&l, "text");
  cr_expect_str_eq(l.config.sample_prompt, "no");
  cr_expect(l.config.tokenizer == NULL && l.config.eos_token_id == -1);
  unload(&l);
  l = parse(
      NEEDED
      "sample_prompt: \"a\\tb\\u2028\\x85\\e\\\"\\\\ \xC3\xA4\\uFEFF\\uFFFE\"\ntokenizer: 'null'\neos_token_id: 0\n");
  expect_accepted(&l, "escapes");
  cr_expect_str_eq(l.config.sample_prompt, "a\tb\xE2\x80\xA8\xC2\x85\x1B\"\\ \xC3\xA4\xEF\xBB\xBF\xEF\xBF\xBE");
  cr_expect_str_eq(l.config.tokenizer, "null");
  cr_expect_eq(l.config.eos_token_id, 0);
  expect_round_trip(&l.config, "escapes");
  unload(&l);
  l = parse(NEEDED "sample_prompt: |\n  two\n  lines\n");
  expect_accepted(&l, "a block");
  cr_expect_str_eq(l.config.sample_prompt, "two\nlines\n");
  expect_round_trip(&l.config, "a block");
  unload(&l);
}

Test(config, memory_sizes) {
  Loaded l = parse(NEEDED "memory_budget: 8GiB\nhost_budget: 1000000\n");
  expect_accepted(&l, "sizes");
  cr_expect_eq(l.config.memory_budget, 8ull << 30);
  cr_expect_eq(l.config.host_budget, 1000000);
  expect_round_trip(&l.config, "sizes");
  unload(&l);
}

Test(config, a_byte_order_mark_and_windows_line_ends_are_fine) {
  Loaded l = parse("\xEF\xBB\xBFvocab_size: 64\r\nd_model: 64\r\nn_layers: 2\r\nn_seq: 32\r\nseed: 7\r\n");
  expect_accepted(&l, "CRLF");
  cr_expect(l.config.vocab_size == 64 && l.config.seed == 7);
  cr_expect_eq(muse_config_loc(&l.config, "seed").line, 5);
  unload(&l);
}

Test(config, overrides_replace_values) {
  const char *texts[] = {"learning_rate=1e-5", "use_mixed_precision=no",
                         "learning_rate=2e-5", "sample_prompt=\"a: b\"",
                         "tokenizer=",         "d_model=128"};
  MuseTextList sets = {texts, 6, 6};
  Loaded l = parse_n(NEEDED "learning_rate: 1e-3\ntokenizer: x.json\n",
                     strlen(NEEDED "learning_rate: 1e-3\ntokenizer: x.json\n"), &sets);
  expect_accepted(&l, "overrides");
  cr_expect_eq(l.config.learning_rate, 2e-5);
  cr_expect_str_eq(l.config.sample_prompt, "a: b");
  cr_expect_null(l.config.tokenizer);
  cr_expect_eq(l.config.num_heads, 1);
  MuseLoc loc = muse_config_loc(&l.config, "learning_rate");
  cr_expect_str_eq(loc.file, "--set");
  cr_expect(loc.line == 3 && loc.col == 15);
  unload(&l);
}

// An override can supply what the file lacks.
Test(config, overrides_supply_required_keys) {
  const char *texts[] = {"d_model=64"};
  MuseTextList sets = {texts, 1, 1};
  const char *text = "vocab_size: 64\nn_layers: 2\nn_seq: 32\n";
  Loaded l = parse_n(text, strlen(text), &sets);
  expect_accepted(&l, "overrides");
  cr_expect_eq(l.config.d_model, 64);
  unload(&l);
}

static void expect_notes(const char *text, const char *expected) {
  Loaded l = parse(text);
  expect_accepted(&l, text);
  MuseStr notes = {0};
  for (size_t i = 0; muse_diag_message(l.diag, i); i++) {
    cr_expect_eq(muse_diag_severity(l.diag, i), MUSE_NOTE);
    muse_str_appendf(&notes, "%s%d: %s", i ? "\n" : "", muse_diag_loc(l.diag, i).line, muse_diag_message(l.diag, i));
  }
  cr_expect_str_eq(muse_str_text(&notes), expected, "%s\ngot: %s", text, muse_str_text(&notes));
  muse_str_free(&notes);
  unload(&l);
}

Test(config, keys_of_other_trainers_get_one_note) {
  expect_notes(NEEDED "num_workers: 8\npin_memory: [what, ever]\nsave_dir: x\nnum_workers: 9\n",
               "5: accepted, but without effect here: 'num_workers', 'pin_memory', 'save_dir'");
  expect_notes(NEEDED "hyperbolic_window_size: 64\nbeta1: 0.8\n",
               "5: 'hyperbolic_window_size' is read as 'local_window'\n6: 'beta1' is read as 'adam_beta1'");
}

Test(config, keys_that_another_key_switches_off_get_a_note) {
  expect_notes(NEEDED "htt_rank: 8\nquantized_htt: true\n",
               "5: htt_rank has no effect without use_htt_embedding: true\n"
               "6: quantized_htt has no effect without use_htt_embedding: true");
  expect_notes(NEEDED "quantized_htt: false\nuse_mourre: true\nuse_lap: true\n", "");
  expect_notes(NEEDED "use_birman_schwinger: false\nuse_mourre: true\nuse_lap: true\n",
               "6: use_mourre has nothing to report without use_birman_schwinger: true\n"
               "7: use_lap has nothing to report without use_birman_schwinger: true");
  expect_notes(NEEDED "use_hybrid_attention: false\nlocal_score: euclidean\n",
               "6: local_score has no effect without use_hybrid_attention: true");
  expect_notes(NEEDED "optimizer: adafactor8\nmax_grad_norm: 1.0\nadam_eps: 1e-6\n",
               "6: max_grad_norm has no effect with optimizer: adafactor8\n"
               "7: adam_eps has no effect with optimizer: adafactor8");
}

Test(config, mixers) {
  static const struct {
    const char *bk, *local;
    MuseMixerKind kind;
  } rows[] = {
      {"true", "true", MUSE_MIXER_HYBRID},
      {"true", "false", MUSE_MIXER_BK},
      {"false", "true", MUSE_MIXER_LOCAL},
      {"false", "false", MUSE_MIXER_ATTENTION},
  };
  for (int i = 0; i < 4; i++) {
    char text[300];
    snprintf(text, sizeof text, "%suse_birman_schwinger: %s\nuse_hybrid_attention: %s\n", NEEDED, rows[i].bk,
             rows[i].local);
    Loaded l = parse(text);
    expect_accepted(&l, text);
    cr_expect_eq(muse_config_mixer(&l.config), rows[i].kind);
    unload(&l);
  }
}

// Every key at another value than its default survives printing and parsing.
Test(config, every_key_round_trips) {
  MuseStr text = {0};
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    const MuseConfigKey *key = &keys[i];
    muse_str_appendf(&text, "%s: ", key->name);
    if (!strcmp(key->name, "vocab_size") || !strcmp(key->name, "d_model")) muse_str_append(&text, "4096");
    else if (!strcmp(key->name, "num_heads")) muse_str_append(&text, "16");
    else if (key->type == MUSE_KEY_BOOL) muse_str_append(&text, !strcmp(key->default_text, "true") ? "false" : "true");
    else if (key->type == MUSE_KEY_INT) muse_str_append(&text, "3");
    else if (key->type == MUSE_KEY_REAL) muse_str_append_double(&text, key->max / 7);
    else if (key->type == MUSE_KEY_BYTES) muse_str_append(&text, "3MB");
    else if (key->type == MUSE_KEY_TEXT) muse_str_append(&text, "'it''s'");
    else muse_str_append(&text, !strcmp(key->name, "gradient_precision") ? "bf16" : key->choices[1]);
    muse_str_append(&text, "\n");
  }
  Loaded l = parse(muse_str_text(&text)), defaults = parse(NEEDED);
  expect_accepted(&l, muse_str_text(&text));
  expect_round_trip(&l.config, "all keys");
  cr_expect_str_eq(l.config.sample_prompt, "it's");
  cr_expect_eq(l.config.learning_rate, 10.0 / 7);
  cr_expect_not(muse_config_equal(&l.config, &defaults.config));
  for (size_t i = 0; i < n; i++)
    cr_expect_eq(muse_config_loc(&l.config, keys[i].name).line, (int)i + 1, "%s", keys[i].name);
  unload(&l);
  unload(&defaults);
  muse_str_free(&text);
}

static size_t expect_files_load(const char *pattern) {
  glob_t found;
  if (glob(pattern, 0, NULL, &found) != 0) return 0;
  size_t n = 0;
  for (size_t i = 0; i < found.gl_pathc; i++) {
    const char *path = found.gl_pathv[i];
    // These two hold data, not models.
    if (muse_str_ends_with(path, "dataset_mixing.yaml") || muse_str_ends_with(path, "datasets.yaml")) continue;
    Loaded l = {.arena = muse_arena_create(), .diag = muse_diag_create()};
    l.status = muse_config_load(path, NULL, l.arena, &l.config, l.diag);
    expect_accepted(&l, path);
    cr_expect_eq(muse_diag_count(l.diag, MUSE_NOTE), 0, "%s has notes", path);
    expect_round_trip(&l.config, path);
    unload(&l);
    n++;
  }
  globfree(&found);
  return n;
}

Test(config, all_config_files_load) {
  cr_expect_geq(expect_files_load("configs/*.yaml"), 5);
  expect_files_load("tests/golden/*/config.yaml");
  expect_files_load("tests/golden/*/*/config.yaml");
}

// The eight reference cases of the model are configured by these keys.
Test(config, reference_cases_load) {
  static const struct {
    const char *name, *keys;
    MuseMixerKind mixer;
  } rows[] = {
      {"attention-dense", "use_bitnet: false\nuse_birman_schwinger: false\nuse_hybrid_attention: false\n",
       MUSE_MIXER_ATTENTION},
      {"bk-dense", "use_bitnet: false\nuse_birman_schwinger: true\nuse_hybrid_attention: false\n", MUSE_MIXER_BK},
      {"local-dense", "use_bitnet: false\nuse_birman_schwinger: false\nuse_hybrid_attention: true\n", MUSE_MIXER_LOCAL},
      {"local-euclidean-dense",
       "use_bitnet: false\nuse_birman_schwinger: false\nuse_hybrid_attention: true\nlocal_score: euclidean\n",
       MUSE_MIXER_LOCAL},
      {"hybrid-dense", "use_bitnet: false\nuse_birman_schwinger: true\nuse_hybrid_attention: true\n",
       MUSE_MIXER_HYBRID},
      {"hybrid-bitnet", "use_bitnet: true\nuse_htt_embedding: false\nquantized_htt: false\n", MUSE_MIXER_HYBRID},
      {"hybrid-bitnet-gelu", "use_bitnet: true\nffn_activation: gelu\n", MUSE_MIXER_HYBRID},
      {"hybrid-bitnet-qhtt", "use_bitnet: true\nuse_htt_embedding: true\nquantized_htt: true\nhtt_rank: 12\n",
       MUSE_MIXER_HYBRID},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[700];
    snprintf(
        text, sizeof text,
        "vocab_size: 211\nd_model: 96\nn_layers: 2\nnum_heads: 3\nn_seq: 80\nlocal_window: 16\nuse_mixed_precision: "
        "false\nbatch_size: 2\ngradient_accumulation_steps: 1\neos_token_id: 7\nlearning_rate: 0.002\nwarmup_steps: "
        "2\nmax_steps: 6\nweight_decay: 0.1\nmax_grad_norm: 1.0\n%s",
        rows[i].keys);
    Loaded l = parse(text);
    expect_accepted(&l, rows[i].name);
    cr_expect_eq(muse_diag_count(l.diag, MUSE_NOTE), 0, "%s has notes", rows[i].name);
    cr_expect_eq(muse_config_mixer(&l.config), rows[i].mixer, "%s", rows[i].name);
    cr_expect(l.config.num_heads == 3 && l.config.eos_token_id == 7 && l.config.learning_rate == 0.002);
    expect_round_trip(&l.config, rows[i].name);
    unload(&l);
  }
}

Test(config, nominal_parameters) {
  static const struct {
    const char *path;
    int64_t expected;
    int heads;
  } rows[] = {
      {"configs/phase8_10b.yaml", 10009072640, 40}, {"configs/phase8_10b_rtx3080.yaml", 10009072640, 40},
      {"configs/phase8_1b.yaml", 1554971200, 25},   {"configs/phase8_300m.yaml", 335544320, 16},
      {"configs/muse-tiny.yaml", 1212544, 4},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Loaded l = {.arena = muse_arena_create(), .diag = muse_diag_create()};
    l.status = muse_config_load(rows[i].path, NULL, l.arena, &l.config, l.diag);
    expect_accepted(&l, rows[i].path);
    cr_expect_eq(muse_config_nominal_parameters(&l.config), rows[i].expected, "%s", rows[i].path);
    cr_expect_eq(l.config.num_heads, rows[i].heads);
    unload(&l);
  }
}

static void expect_unreadable(const char *path, const char *expected) {
  Loaded l = {.arena = muse_arena_create(), .diag = muse_diag_create()};
  l.status = muse_config_load(path, NULL, l.arena, &l.config, l.diag);
  cr_expect_eq(l.status, MUSE_ERR_INPUT);
  cr_assert_eq(muse_diag_count(l.diag, MUSE_ERROR), 1);
  cr_expect(strstr(muse_diag_message(l.diag, 0), expected) != NULL, "%s", muse_diag_message(l.diag, 0));
  unload(&l);
}

Test(config, unreadable_paths_get_a_sentence) {
  expect_unreadable("configs", "'configs': it is a directory");
  expect_unreadable("configs/no-such.yaml", "'configs/no-such.yaml': No such file");
  expect_unreadable("", "''");
  expect_unreadable("/dev/zero", "'/dev/zero': it is no regular file");
  char path[] = "/tmp/muse-config-XXXXXX";
  int fd = mkstemp(path);
  cr_assert_geq(fd, 0);
  cr_assert_eq(ftruncate(fd, 10 << 20), 0);
  close(fd);
  expect_unreadable(path, "larger than the 1048576 bytes");
  unlink(path);
}

// Hostile texts of the largest size: refused within a second and a few dozen megabytes.
static void expect_bounded(const char *what, const char *text, size_t length) {
  struct timespec start, end;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
  Loaded l = parse_n(text, length, NULL);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
  double seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
  cr_expect_eq(l.status, MUSE_ERR_INPUT, "%s", what);
  cr_expect_leq(muse_diag_count(l.diag, MUSE_ERROR), 52, "%s", what);
  cr_expect_leq(muse_arena_bytes(l.arena), (size_t)64 << 20, "%s: %zu", what, muse_arena_bytes(l.arena));
  cr_expect_lt(seconds, 5, "%s: %g s", what, seconds);
  unload(&l);
}

static void expect_bounded_repeat(const char *unit, size_t limit) {
  MuseStr text = {0};
  size_t n = strlen(unit);
  while (text.len + n <= limit) muse_str_append_n(&text, unit, n);
  expect_bounded(unit, text.data, text.len);
  muse_str_free(&text);
}

Test(config, hostile_texts_are_bounded, .timeout = 120) {
  static const char *const units[] = {"[",
                                      "{",
                                      "- ",
                                      "? ",
                                      "a: ",
                                      "{a: ",
                                      "[a, ",
                                      "a: b\n",
                                      "- a\n",
                                      "\"",
                                      "&a ",
                                      "!a ",
                                      "a",
                                      "#",
                                      "\n",
                                      " ",
                                      "|\n",
                                      "--- a\n",
                                      "a: [\n",
                                      "use_lap: maybe\n",
                                      "[[]],",
                                      "'':\n",
                                      "num_workers: 1\n"};
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) expect_bounded_repeat(units[i], 1 << 20);
  expect_bounded_repeat("[", 10 << 20); // over the size of a file, when it comes as text
  // A mapping grows by a different key each line.
  MuseStr text = {0};
  for (int i = 0; text.len < (1 << 20) - 32; i++) muse_str_appendf(&text, "key_%d: %d\n", i, i);
  expect_bounded("unknown keys", text.data, text.len);
  muse_str_clear(&text);
  muse_str_append(&text, "a: &a [x, x, x, x, x, x, x, x, x]\n");
  for (int i = 'b'; i < 'k'; i++) {
    muse_str_appendf(&text, "%c: &%c [", i, i);
    for (int j = 0; j < 9; j++) muse_str_appendf(&text, "%s*%c", j ? ", " : "", i - 1);
    muse_str_append(&text, "]\n");
  }
  expect_bounded("a billion laughs", text.data, text.len);
  muse_str_free(&text);
}

Test(config, many_problems_are_cut_short) {
  MuseStr text = {0};
  for (int i = 0; i < 200; i++) muse_str_appendf(&text, "zzz%d: 1\n", i);
  Loaded l = parse(muse_str_text(&text));
  cr_expect_eq(l.status, MUSE_ERR_INPUT);
  cr_assert_eq(muse_diag_count(l.diag, MUSE_ERROR), 51);
  cr_expect_str_eq(muse_diag_message(l.diag, 50), "more than 50 problems; the rest is not shown");
  unload(&l);
  muse_str_free(&text);
}

// Fields of the struct and rows of the table belong to each other.
Test(config, the_key_table_is_sound) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    cr_expect_not_null(keys[i].doc);
    cr_expect(muse_str_ends_with(keys[i].doc, "."), "%s", keys[i].name);
    cr_expect_lt(keys[i].offset, offsetof(MuseConfig, key_locs));
    cr_expect_eq(keys[i].type == MUSE_KEY_ENUM, keys[i].choices != NULL, "%s", keys[i].name);
    for (size_t j = 0; j < i; j++) {
      cr_expect_str_neq(keys[i].name, keys[j].name);
      cr_expect_neq(keys[i].offset, keys[j].offset);
    }
  }
  cr_expect_not_null(keys[0].section);
  MuseStr list = {0};
  muse_config_list_keys(&list);
  for (size_t i = 0; i < n; i++) cr_expect_not_null(strstr(muse_str_text(&list), keys[i].name));
  muse_str_free(&list);
}

Test(config, documentation_is_current) {
  MuseStr expected = {0}, found = {0};
  muse_config_keys_markdown(&expected);
  MuseDiag *diag = muse_diag_create();
  if (getenv("MUSE_UPDATE"))
    cr_assert_eq(muse_write_file_atomic("docs/configuration.md", expected.data, expected.len, diag), MUSE_OK);
  cr_assert_eq(muse_read_file("docs/configuration.md", 1 << 20, &found, diag), MUSE_OK);
  cr_expect(muse_str_eq(muse_str_text(&expected), muse_str_text(&found)),
            "docs/configuration.md differs from the key table; run this test with MUSE_UPDATE=1 to write it anew");
  muse_diag_destroy(diag);
  muse_str_free(&expected);
  muse_str_free(&found);
}
