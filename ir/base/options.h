#ifndef MUSE_IR_BASE_OPTIONS_H
#define MUSE_IR_BASE_OPTIONS_H

#include "ir/base/diag.h"

#include <stdint.h>

// Command-line options as a table, parsed with getopt_long; --help is made from the same table.
typedef enum MuseOptionKind {
  MUSE_OPT_FLAG,   // bool *
  MUSE_OPT_TEXT,   // const char ** (the last one wins)
  MUSE_OPT_INT,    // int64_t *
  MUSE_OPT_REAL,   // double *
  MUSE_OPT_BYTES,  // uint64_t *, "8GiB"
  MUSE_OPT_LIST,   // MuseTextList *, may be repeated
} MuseOptionKind;

typedef struct MuseTextList { const char **data; int len, cap; } MuseTextList;

typedef struct MuseOption {
  const char *name;     // long name, without dashes
  char letter;          // short name, or 0
  MuseOptionKind kind;
  const char *argument; // "PLAN" in the help text; NULL for a flag
  const char *help;     // one sentence
  void *target;
} MuseOption;

// Parses argv (argv[0] is skipped; the array is reordered); operands (non-options) are appended to out_operands in
// order. "--help" and "-h" set *out_help and stop. Unknown options name the nearest known one. Tables end with a row
// whose name is NULL. "--help=man|bash|zsh|fish", alone, is help in another form: a manual page or a completion script.
MuseStatus muse_options_parse(int argc, char **argv, const MuseOption *table, MuseTextList *out_operands,
                              bool *out_help, MuseDiag *diag);
// Prints help: "usage: <usage>", the summary, and one entry an option, wrapped at 80 columns; or, where the command
// line said so, the same in another form. `usage` starts with the name of the program (and of its command).
void muse_options_help(const MuseOption *table, const char *usage, const char *summary, FILE *out);

// A program of several commands, each with options of its own.
typedef struct MuseCommand {
  const char *name;
  MuseStatus (*run)(int argc, char **argv, MuseDiag *diag); // argv[0] is the command's name
  const char *help;                                         // "makes a token set from folders and files"
} MuseCommand;

typedef struct MuseProgram {
  const char *name;
  const char *summary;         // one sentence
  const MuseCommand *commands; // ends with a row whose name is NULL
} MuseProgram;

// First and last in every main. The start gives standard streams that are closed a file that no other open() can get
// in their place; the end flushes stdout, prints the messages, frees `diag` and returns the exit code: a result that
// could not be written is a failure.
void muse_program_start(void);
int muse_program_end(MuseStatus status, MuseDiag *diag);
// Runs the command that argv[1] names, or prints help or the version.
MuseStatus muse_program_run(const MuseProgram *program, int argc, char **argv, MuseDiag *diag);
void muse_text_list_free(MuseTextList *list);

#endif
