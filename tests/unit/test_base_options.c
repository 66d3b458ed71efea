// Option tables: every kind, errors with the way out, and the help text.
#include "ir/base/options.h"
#include "ir/base/str.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef struct Parsed {
  bool verbose, help;
  const char *output;
  int64_t threads;
  double rate;
  uint64_t budget;
  MuseTextList sets, operands;
  MuseStatus status;
  MuseDiag *diag;
} Parsed;

static Parsed parsed; // the table points into it

static const MuseOption table[] = {
    {"output", 'o', MUSE_OPT_TEXT, "PLAN", "Write the plan to this file.", &parsed.output},
    {"verbose", 'v', MUSE_OPT_FLAG, NULL, "Say more.", &parsed.verbose},
    {"threads", 't', MUSE_OPT_INT, "N", "Worker threads.", &parsed.threads},
    {"learning-rate", 0, MUSE_OPT_REAL, "X", "Step size.", &parsed.rate},
    {"memory-budget", 0, MUSE_OPT_BYTES, "BYTES",
     "The most memory that the plan may use on the device, as a number with a unit such as 8GiB; refused when it "
     "cannot be kept.",
     &parsed.budget},
    {"set", 0, MUSE_OPT_LIST, "KEY=VALUE", "Override a key of the configuration.", &parsed.sets},
    {"dump-ir", 0, MUSE_OPT_TEXT, NULL, "Print the IR.", &parsed.output},
    {"dump-dir", 0, MUSE_OPT_TEXT, "DIR", "Put dumps there.", &parsed.output},
    {0},
};

#define PARSE(...) parse((const char *[]){"musec", __VA_ARGS__, NULL})

static Parsed *parse(const char **argv) {
  int argc = 0;
  while (argv[argc]) argc++;
  muse_text_list_free(&parsed.sets);
  muse_text_list_free(&parsed.operands);
  muse_diag_destroy(parsed.diag);
  parsed = (Parsed){.diag = muse_diag_create()};
  parsed.status = muse_options_parse(argc, (char **)argv, table, &parsed.operands, &parsed.help, parsed.diag);
  return &parsed;
}

static void expect_error(const Parsed *p, const char *sentence) {
  cr_assert_eq(p->status, MUSE_ERR_INPUT);
  cr_assert_eq(muse_diag_count(p->diag, MUSE_ERROR), 1);
  cr_assert_str_eq(muse_diag_message(p->diag, 0), sentence);
}

static void finish(void) {
  muse_text_list_free(&parsed.sets);
  muse_text_list_free(&parsed.operands);
  muse_diag_destroy(parsed.diag);
}

TestSuite(base_options, .fini = finish);

Test(base_options, every_kind_and_operands_between) {
  Parsed *p = PARSE("a.yaml", "--output", "x.plan", "-v", "b.yaml", "-t4", "--learning-rate=1e-4", "--memory-budget",
                    "8GiB", "--set", "lr=1", "--set=d=2", "--", "-c");
  cr_assert_eq(p->status, MUSE_OK);
  cr_assert_not(p->help);
  cr_assert(p->verbose);
  cr_assert_str_eq(p->output, "x.plan");
  cr_assert_eq(p->threads, 4);
  cr_assert_eq(p->rate, 1e-4);
  cr_assert_eq(p->budget, 8ull << 30);
  cr_assert_eq(p->sets.len, 2);
  cr_assert_str_eq(p->sets.data[0], "lr=1");
  cr_assert_str_eq(p->sets.data[1], "d=2");
  cr_assert_eq(p->operands.len, 3);
  cr_assert_str_eq(p->operands.data[0], "a.yaml");
  cr_assert_str_eq(p->operands.data[1], "b.yaml");
  cr_assert_str_eq(p->operands.data[2], "-c");
}

Test(base_options, last_value_wins_and_parsing_starts_afresh) {
  cr_assert_str_eq(PARSE("-o", "a", "-o", "b")->output, "b");
  Parsed *p = PARSE("x");
  cr_assert_null(p->output);
  cr_assert_eq(p->operands.len, 1);
  cr_assert_eq(parse((const char *[]){"musec", NULL})->operands.len, 0);
}

Test(base_options, help_stops) {
  Parsed *p = PARSE("-v", "--help", "--nonsense");
  cr_assert_eq(p->status, MUSE_OK);
  cr_assert(p->help && p->verbose);
  cr_assert(PARSE("-h")->help);
}

Test(base_options, errors_name_the_way_out) {
  expect_error(PARSE("--ouptut", "x"), "unknown option '--ouptut'; did you mean '--output'?");
  expect_error(PARSE("--ouptut=x"), "unknown option '--ouptut'; did you mean '--output'?");
  expect_error(PARSE("--quantum"), "unknown option '--quantum'; --help lists all options");
  expect_error(PARSE("--dump", "x"), "option '--dump' is ambiguous; write it in full (--help lists all options)");
  expect_error(PARSE("-x"), "unknown option '-x'; --help lists all options");
  expect_error(PARSE("-vx"), "unknown option '-x'; --help lists all options");
  expect_error(PARSE("--verbose=yes"), "--verbose takes no argument");
  expect_error(PARSE("--help=yes"),
               "--help takes no argument, or, standing alone, man, bash, zsh or fish");
  expect_error(PARSE("--output"), "--output needs an argument (PLAN); --help explains it");
  expect_error(PARSE("-o"), "--output needs an argument (PLAN); --help explains it");
  expect_error(PARSE("-t", "four"), "--threads needs a whole number such as 12, not 'four'");
  expect_error(PARSE("-t", "1e3"), "--threads needs a whole number such as 12, not '1e3'");
  expect_error(PARSE("-t", "99999999999999999999"),
               "--threads needs a number below 2^63, not '99999999999999999999'");
  expect_error(PARSE("--learning-rate", "fast"), "--learning-rate needs a number such as 0.5 or 1e-4, not 'fast'");
  expect_error(PARSE("--memory-budget", "8 GB"), "--memory-budget needs a size such as 8GiB or 512MB, not '8 GB'");
}

Test(base_options, help_text_lists_all_wrapped) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  muse_options_help(table, "musec [options] CONFIG", "Compiles a configuration to a training plan.", out);
  fclose(out);
  cr_assert(muse_str_starts_with(text, "usage: musec [options] CONFIG\n\nCompiles a configuration to a training plan.\n"
                                       "\nOptions:\n  -o, --output PLAN         Write the plan to this file.\n"
                                       "  -v, --verbose             Say more.\n"));
  cr_assert_not_null(strstr(text, "      --memory-budget BYTES\n                            The most memory"));
  cr_assert_not_null(strstr(text, "      --dump-ir VALUE "));
  cr_assert(muse_str_ends_with(text, "  -h, --help                Show this text and exit.\n"));
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) cr_assert_leq(strlen(line), 80, "%s", line);
  free(text);
}
