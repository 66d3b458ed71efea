// Command-line parsing from a table, and the help text from the same table.
#include "ir/base/options.h"

#include "ir/base/options_forms.h"
#include "ir/base/status.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_BASE = 1000, HELP_VALUE = 999 }; // getopt_long values, beyond every letter

static int table_length(const MuseOption *table) {
  int n = 0;
  while (table[n].name) n++;
  return n;
}

static void push_text(MuseTextList *list, const char *text) {
  if (list->len == list->cap) {
    size_t cap = (size_t)list->cap;
    list->data = muse_vec_grow(list->data, &cap, cap + 1, sizeof *list->data);
    list->cap = (int)cap;
  }
  list->data[list->len++] = text;
}

void muse_text_list_free(MuseTextList *list) {
  free(list->data);
  *list = (MuseTextList){0};
}

static MuseStatus store_value(const MuseOption *option, const char *text, MuseDiag *diag) {
  switch (option->kind) {
  case MUSE_OPT_FLAG: *(bool *)option->target = true; return MUSE_OK;
  case MUSE_OPT_TEXT: *(const char **)option->target = text; return MUSE_OK;
  case MUSE_OPT_LIST: push_text(option->target, text); return MUSE_OK;
  case MUSE_OPT_INT:
    if (muse_parse_i64(text, option->target)) return MUSE_OK;
    if (*text && !text[strspn(text, "0123456789")])
      return muse_error(diag, MUSE_ERR_INPUT, "--%s needs a number below 2^63, not '%s'", option->name, text);
    return muse_error(diag, MUSE_ERR_INPUT, "--%s needs a whole number such as 12, not '%s'", option->name, text);
  case MUSE_OPT_REAL:
    if (muse_parse_double(text, option->target) && isfinite(*(double *)option->target)) return MUSE_OK;
    return muse_error(diag, MUSE_ERR_INPUT, "--%s needs a number such as 0.5 or 1e-4, not '%s'", option->name, text);
  case MUSE_OPT_BYTES:
    if (muse_parse_bytes(text, option->target)) return MUSE_OK;
    return muse_error(diag, MUSE_ERR_INPUT, "--%s needs a size such as 8GiB or 512MB, not '%s'", option->name, text);
  }
  MUSE_ASSERT(!"the table holds a kind that does not exist");
}

static MuseStatus unknown_option(const char *argument, const MuseOption *table, int n_options, MuseDiag *diag) {
  const char **names = calloc((size_t)n_options + 1, sizeof *names);
  if (!names) muse_out_of_memory(((size_t)n_options + 1) * sizeof *names);
  for (int i = 0; i < n_options; i++) names[i] = table[i].name;
  names[n_options] = "help";
  const char *word = argument + strspn(argument, "-");
  size_t length = strcspn(word, "=");
  MuseStr name = {0};
  muse_str_append_n(&name, word, length);
  int n_prefixed = 0;
  for (int i = 0; i <= n_options; i++) n_prefixed += muse_str_starts_with(names[i], muse_str_text(&name));
  const char *nearest = muse_str_nearest(muse_str_text(&name), names, (size_t)n_options + 1);
  if (n_prefixed > 1)
    muse_error(diag, MUSE_ERR_INPUT, "option '--%s' is ambiguous; write it in full (--help lists all options)",
               muse_str_text(&name));
  else if (nearest)
    muse_error(diag, MUSE_ERR_INPUT, "unknown option '--%s'; did you mean '--%s'?", muse_str_text(&name), nearest);
  else
    muse_error(diag, MUSE_ERR_INPUT, "unknown option '--%s'; --help lists all options", muse_str_text(&name));
  muse_str_free(&name);
  free(names);
  return MUSE_ERR_INPUT;
}

// The row that a value of getopt_long stands for (a letter, or OPTION_BASE + row), or NULL.
static const MuseOption *find_option(const MuseOption *table, int n_options, int value) {
  if (value >= OPTION_BASE && value < OPTION_BASE + n_options) return table + (value - OPTION_BASE);
  for (int i = 0; i < n_options; i++)
    if (value && table[i].letter == value) return table + i;
  return NULL;
}

static MuseStatus rejected_option(int value, char **argv, const MuseOption *table, int n_options, MuseDiag *diag) {
  if (value == 0) return unknown_option(argv[optind - 1], table, n_options, diag);
  const MuseOption *option = find_option(table, n_options, value);
  if (option) return muse_error(diag, MUSE_ERR_INPUT, "--%s takes no argument", option->name);
  if (value == HELP_VALUE)
    return muse_error(diag, MUSE_ERR_INPUT, "--help takes no argument, or, standing alone, man, bash, zsh or fish");
  return muse_error(diag, MUSE_ERR_INPUT, "unknown option '-%c'; --help lists all options", value);
}

MuseStatus muse_options_parse(int argc, char **argv, const MuseOption *table, MuseTextList *out_operands,
                              bool *out_help, MuseDiag *diag) {
  if (argc == 2 && muse_help_form_choose(argv[1])) {
    *out_help = true;
    return MUSE_OK;
  }
  int n_options = table_length(table);
  struct option *longs = calloc((size_t)n_options + 2, sizeof *longs);
  if (!longs) muse_out_of_memory(((size_t)n_options + 2) * sizeof *longs);
  MuseStr letters = {0};
  muse_str_append(&letters, ":h"); // ':' tells a missing argument from an unknown option
  for (int i = 0; i < n_options; i++) {
    longs[i] = (struct option){table[i].name, muse_option_has_argument(table + i) ? required_argument : no_argument,
                               NULL, OPTION_BASE + i};
    if (table[i].letter)
      muse_str_appendf(&letters, "%c%s", table[i].letter, muse_option_has_argument(table + i) ? ":" : "");
  }
  longs[n_options] = (struct option){"help", no_argument, NULL, HELP_VALUE};

  MuseStatus status = MUSE_OK;
  *out_help = false;
  opterr = 0;
  optind = 0; // glibc: start afresh, whatever was parsed before
  while (status == MUSE_OK) {
    int value = getopt_long(argc, argv, letters.data, longs, NULL);
    if (value == -1) break;
    const MuseOption *option = find_option(table, n_options, value == ':' ? optopt : value);
    if (value == ':') {
      status = muse_error(diag, MUSE_ERR_INPUT, "--%s needs an argument (%s); --help explains it", option->name,
                          muse_option_argument(option));
    } else if (value == '?') {
      status = rejected_option(optopt, argv, table, n_options, diag);
    } else if (option) {
      status = store_value(option, optarg, diag);
    } else { // -h or --help, unless the table gives the letter another meaning
      *out_help = true;
      break;
    }
  }
  if (status == MUSE_OK && !*out_help)
    for (int i = optind < 1 ? 1 : optind; i < argc; i++) push_text(out_operands, argv[i]);
  muse_str_free(&letters);
  free(longs);
  return status;
}

// Prints words from column `column` on, broken at 80 columns with the following lines indented by `indent`.
static void print_wrapped(const char *text, int column, int indent, FILE *out) {
  bool first = true;
  while (*text) {
    int length = (int)strcspn(text, " ");
    if (!first && column + 1 + length > 80) {
      fprintf(out, "\n%*s", indent, "");
      column = indent;
      first = true;
    }
    fprintf(out, "%s%.*s", first ? "" : " ", length, text);
    column += length + !first;
    first = false;
    text += length;
    text += strspn(text, " ");
  }
  fputc('\n', out);
}

enum { HELP_INDENT = 28 };

static void print_option(const char *name, char letter, const char *argument, const char *help, FILE *out) {
  MuseStr head = {0};
  if (letter) muse_str_appendf(&head, "  -%c, --%s", letter, name);
  else muse_str_appendf(&head, "      --%s", name);
  if (argument) muse_str_appendf(&head, " %s", argument);
  fputs(head.data, out);
  if (head.len + 2 > HELP_INDENT) fprintf(out, "\n%*s", HELP_INDENT, "");
  else fprintf(out, "%*s", HELP_INDENT - (int)head.len, "");
  print_wrapped(help, HELP_INDENT, HELP_INDENT, out);
  muse_str_free(&head);
}

void muse_options_help(const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  if (muse_help_form() != MUSE_HELP_TEXT) {
    muse_help_print_form(table, usage, summary, out);
    return;
  }
  fprintf(out, "usage: %s\n\n", usage);
  print_wrapped(summary, 0, 0, out);
  fputs("\nOptions:\n", out);
  bool help_letter_taken = false;
  for (const MuseOption *option = table; option->name; option++) {
    print_option(option->name, option->letter, muse_option_argument(option), option->help, out);
    help_letter_taken |= option->letter == 'h';
  }
  print_option("help", help_letter_taken ? 0 : 'h', NULL, MUSE_HELP_SENTENCE, out);
}
