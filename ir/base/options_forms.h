#ifndef MUSE_IR_BASE_OPTIONS_FORMS_H
#define MUSE_IR_BASE_OPTIONS_FORMS_H

#include "ir/base/options.h"

// The forms that help can take besides plain text. They are made from the option tables, so that manual pages and
// completions say what the programs do. "--help=FORM" chooses one for the rest of the process; the build writes its
// output into the files that are installed.
typedef enum MuseHelpForm {
  MUSE_HELP_TEXT,
  MUSE_HELP_MAN,  // man(7)
  MUSE_HELP_BASH, // completion scripts
  MUSE_HELP_ZSH,
  MUSE_HELP_FISH,
} MuseHelpForm;

#define MUSE_HELP_SENTENCE "Show this text and exit."
#define MUSE_VERSION_SENTENCE "Print the version and exit."

MuseHelpForm muse_help_form(void);
// Takes "--help=man" and so on; false for anything else.
bool muse_help_form_choose(const char *argument);

static inline bool muse_option_has_argument(const MuseOption *option) { return option->kind != MUSE_OPT_FLAG; }
// The name of the argument in help texts; NULL for a flag.
static inline const char *muse_option_argument(const MuseOption *option) {
  return !muse_option_has_argument(option) ? NULL : option->argument ? option->argument : "VALUE";
}

// What muse_options_help does in the chosen form: the whole page or script of a program without commands, or the part
// of one command while muse_program_run prints all of them.
void muse_help_print_form(const MuseOption *table, const char *usage, const char *summary, FILE *out);

// One form: begin (program->commands is NULL for a program without), one part a command or one in all, end.
typedef struct MuseHelpWriter {
  void (*begin)(const MuseProgram *program, FILE *out);
  void (*part)(const char *command, const MuseOption *table, const char *usage, const char *summary, FILE *out);
  void (*end)(const MuseProgram *program, FILE *out);
} MuseHelpWriter;

extern const MuseHelpWriter muse_help_man, muse_help_bash, muse_help_zsh, muse_help_fish;

// -h means help unless the table gives it another meaning.
bool muse_help_has_letter(const MuseOption *table);

#endif
