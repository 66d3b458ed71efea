// Manual pages in man(7) from option tables.
#include "ir/base/options_forms.h"

#include <ctype.h>
#include <string.h>

// roff gives '\\', '-' and other characters a meaning of their own.
static void print_escaped_n(const char *text, size_t length, FILE *out) {
  for (; length--; text++) {
    if (*text == '\\') fputs("\\e", out);
    else if (*text == '-') fputs("\\-", out);
    else if (*text == '\'') fputs("\\(aq", out);
    else if (*text == '^') fputs("\\(ha", out);
    else if (*text == '~') fputs("\\(ti", out);
    else fputc(*text, out);
  }
}

static void print_escaped(const char *text, FILE *out) { print_escaped_n(text, strlen(text), out); }

// Text as lines of at most 80 characters of source (before escapes).
static void print_line(const char *text, FILE *out) {
  size_t column = 0;
  while (*text) {
    size_t length = strcspn(text, " ");
    if (column > 0 && column + 1 + length > 78) {
      fputc('\n', out);
      column = 0;
    }
    if (column > 0) fputc(' ', out);
    else if (*text == '.') fputs("\\&", out); // at the start of a line it would be a request
    print_escaped_n(text, length, out);
    column += length + 1;
    text += length;
    text += strspn(text, " ");
  }
  fputc('\n', out);
}

// NAME wants "name - summary" without the capital and the full stop of a sentence.
static void print_name(const MuseProgram *program, FILE *out) {
  fputs(".SH NAME\n", out);
  print_escaped(program->name, out);
  fputs(" \\- ", out);
  size_t n = strlen(program->summary);
  fputc(tolower((unsigned char)program->summary[0]), out);
  for (size_t i = 1; i < n; i++)
    if (i + 1 < n || program->summary[i] != '.') fputc(program->summary[i], out);
  fputc('\n', out);
}

// No date: the same sources give the same page.
static void begin(const MuseProgram *program, FILE *out) {
  fputs(".TH \"", out);
  for (const char *p = program->name; *p; p++) fputc(toupper((unsigned char)*p), out);
  fputs("\" 1 \"\" \"MUSE " MUSE_VERSION "\" \"MUSE\"\n", out);
  print_name(program, out);
  if (!program->commands) return;
  fputs(".SH SYNOPSIS\n.B ", out);
  print_escaped(program->name, out);
  fputs("\n.I COMMAND\n[\\fIoptions\\fR]\n.SH DESCRIPTION\n", out);
  print_line(program->summary, out);
  for (const MuseCommand *c = program->commands; c->name; c++) {
    fputs(".TP\n.B ", out);
    print_line(c->name, out);
    print_line(c->help, out);
  }
  fputs(".SH COMMANDS\n", out);
}

static void print_option(const char *name, char letter, const char *argument, const char *help, FILE *out) {
  fputs(".TP\n", out);
  if (letter) fprintf(out, "\\fB\\-%c\\fR, ", letter);
  fputs("\\fB\\-\\-", out);
  print_escaped(name, out);
  fputs("\\fR", out);
  if (argument) {
    fputs(" \\fI", out);
    print_escaped(argument, out);
    fputs("\\fR", out);
  }
  fputc('\n', out);
  print_line(help, out);
}

static void print_synopsis(const char *usage, FILE *out) {
  size_t name = strcspn(usage, " ");
  fprintf(out, "\\fB%.*s\\fR", (int)name, usage); // hyphens of a name may be printed as such
  print_escaped(usage + name, out);
  fputc('\n', out);
}

static void part(const char *command, const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  if (command) {
    fputs(".SS ", out);
    print_line(command, out);
    print_synopsis(usage, out);
    fputs(".PP\n", out);
    print_line(summary, out);
  } else {
    fputs(".SH SYNOPSIS\n", out);
    print_synopsis(usage, out);
    fputs(".SH DESCRIPTION\n", out);
    print_line(summary, out);
    fputs(".SH OPTIONS\n", out);
  }
  for (const MuseOption *o = table; o->name; o++)
    print_option(o->name, o->letter, muse_option_argument(o), o->help, out);
  print_option("help", muse_help_has_letter(table) ? 'h' : 0, NULL, MUSE_HELP_SENTENCE, out);
}

static void end(const MuseProgram *program, FILE *out) {
  if (program->commands) {
    fputs(".SH OPTIONS\n", out);
    print_option("help", 'h', NULL, "List the commands and exit.", out);
    print_option("version", 0, NULL, MUSE_VERSION_SENTENCE, out);
  }
  static const struct { int code; const char *meaning; } codes[] = {
      {MUSE_OK, "Success."},
      {MUSE_ERR_FAILED, "The run failed, for example because a file could not be written."},
      {MUSE_ERR_INPUT, "Wrong usage or bad input."},
      {MUSE_ERR_NO_FIT, "The work does not fit the memory."},
      {MUSE_ERR_NUMERIC, "Numbers were not finite, repeatedly."},
      {MUSE_ERR_DATA, "Files contradict each other."},
      {MUSE_ERR_STOPPED, "Stopped by a signal, with the state saved."},
  };
  fputs(".SH \"EXIT STATUS\"\n", out);
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    fprintf(out, ".TP\n.B %d\n%s\n", codes[i].code, codes[i].meaning);
  fputs(".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nIf set, messages carry no colors.\n"
        ".TP\n.B MUSE_CACHE_DIR\nWhere compiled kernels are kept, instead of the user's cache folder.\n"
        ".SH \"SEE ALSO\"\n", out);
  static const char *const programs[] = {"musec", "muse-data", "muse-run"};
  const char *separator = "";
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
    if (strcmp(programs[i], program->name) != 0) {
      fprintf(out, "%s.BR %s (1)", separator, programs[i]);
      separator = ",\n";
    }
  fputc('\n', out);
}

const MuseHelpWriter muse_help_man = {begin, part, end};
