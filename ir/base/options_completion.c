// Completion scripts for bash, zsh and fish from option tables.
#include "ir/base/options_forms.h"

#include <string.h>

// Names of functions in shells: letters, digits and '_' (muse-run -> muse_run).
static void print_identifier(const char *name, FILE *out) {
  for (; *name; name++) fputc(*name == '-' ? '_' : *name, out);
}

// `text` inside '...' of bash and zsh, with a backslash before each of `special`.
static void print_quoted(const char *text, const char *special, FILE *out) {
  for (; *text; text++) {
    if (*text == '\'') {
      fputs("'\\''", out);
      continue;
    }
    if (strchr(special, *text)) fputc('\\', out);
    fputc(*text, out);
  }
}

// ---- bash: per command the words that are options, and those of them that take an argument

static void bash_begin(const MuseProgram *program, FILE *out) {
  fprintf(out, "# Completion of %s for bash.\n_", program->name);
  print_identifier(program->name, out);
  fputs("() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} options='' valued=''\n"
        "  COMPREPLY=()\n", out);
  if (!program->commands) return;
  fputs("  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '", out);
  for (const MuseCommand *c = program->commands; c->name; c++) fprintf(out, "%s ", c->name);
  fputs("--help --version' -- \"$cur\"))\n    return\n  fi\n  case ${COMP_WORDS[1]} in\n", out);
}

static void bash_words(const MuseOption *table, bool valued_only, FILE *out) {
  for (const MuseOption *o = table; o->name; o++) {
    if (valued_only && !muse_option_has_argument(o)) continue;
    if (o->letter) fprintf(out, "-%c ", o->letter);
    fprintf(out, "--%s ", o->name);
  }
  if (!valued_only) fputs(muse_help_has_letter(table) ? "-h --help" : "--help", out);
}

static void bash_part(const char *command, const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  if (command) fprintf(out, "  %s)\n", command);
  const char *indent = command ? "    " : "  ";
  fprintf(out, "%soptions='", indent);
  bash_words(table, false, out);
  fprintf(out, "'\n%svalued='", indent);
  bash_words(table, true, out);
  fputs("'\n", out);
  if (command) fputs("    ;;\n", out);
}

static void bash_end(const MuseProgram *program, FILE *out) {
  if (program->commands) fputs("  esac\n", out);
  // Without words of ours, "-o default" below completes names of files.
  fputs("  case \" $valued \" in *\" $prev \"*) return ;; esac\n"
        "  case $cur in -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;; esac\n}\ncomplete -o default -F _",
        out);
  print_identifier(program->name, out);
  fprintf(out, " %s\n", program->name);
}

const MuseHelpWriter muse_help_bash = {bash_begin, bash_part, bash_end};

// ---- zsh: specifications of _arguments

static void zsh_begin(const MuseProgram *program, FILE *out) {
  fprintf(out, "#compdef %s\n", program->name);
  if (!program->commands) return;
  fputs("local context state state_descr line\ntypeset -A opt_args\nlocal -a commands\ncommands=(\n", out);
  for (const MuseCommand *c = program->commands; c->name; c++) {
    fprintf(out, "  '%s:", c->name);
    print_quoted(c->help, "\\", out);
    fputs("'\n", out);
  }
  fputs(")\n_arguments -C '(- *)'{-h,--help}'[List the commands and exit.]' '(- *)--version[" MUSE_VERSION_SENTENCE
        "]' '1: :->command' '*:: :->arguments' && return\ncase $state in\ncommand) _describe command commands ;;\n"
        "arguments)\n  case $words[1] in\n", out);
}

static void zsh_option(const char *name, char letter, const char *argument, bool repeats, const char *help, FILE *out) {
  // '(-o --output)'{-o+,--output=}'[help]:PLAN:_files'
  fputs(" \\\n    ", out);
  if (letter && repeats) fprintf(out, "'*'");
  else if (letter) fprintf(out, "'(-%c --%s)'", letter, name);
  if (letter) fprintf(out, argument ? "{-%c+,--%s=}'" : "{-%c,--%s}'", letter, name);
  else fprintf(out, "'%s--%s%s", repeats ? "*" : "", name, argument ? "=" : "");
  fputc('[', out);
  print_quoted(help, "[]\\", out);
  fputc(']', out);
  if (argument) {
    fputc(':', out);
    print_quoted(argument, ":\\", out);
    fputs(":_files", out);
  }
  fputc('\'', out);
}

static void zsh_part(const char *command, const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  fprintf(out, command ? "  %s)\n  _arguments" : "_arguments", command);
  for (const MuseOption *o = table; o->name; o++)
    zsh_option(o->name, o->letter, muse_option_argument(o), o->kind == MUSE_OPT_LIST, o->help, out);
  zsh_option("help", muse_help_has_letter(table) ? 'h' : 0, NULL, false, MUSE_HELP_SENTENCE, out);
  fputs(" \\\n    '*:file:_files'\n", out);
  if (command) fputs("  ;;\n", out);
}

static void zsh_end(const MuseProgram *program, FILE *out) {
  if (program->commands) fputs("  esac\n  ;;\nesac\n", out);
}

const MuseHelpWriter muse_help_zsh = {zsh_begin, zsh_part, zsh_end};

// ---- fish: one "complete" a line; the condition says in which command

static const MuseProgram *fish_program; // the parts need its name

static void fish_quoted(const char *text, FILE *out) {
  fputc('\'', out);
  for (; *text; text++) {
    if (*text == '\'' || *text == '\\') fputc('\\', out);
    fputc(*text, out);
  }
  fputc('\'', out);
}

static void fish_option(const char *condition, const char *name, char letter, bool has_argument, const char *help,
                        FILE *out) {
  fprintf(out, "complete -c %s", fish_program->name);
  if (condition) fprintf(out, " -n '%s'", condition);
  fprintf(out, " -l %s", name);
  if (letter) fprintf(out, " -s %c", letter);
  if (has_argument) fputs(" -r", out);
  fputs(" -d ", out);
  fish_quoted(help, out);
  fputc('\n', out);
}

static void fish_begin(const MuseProgram *program, FILE *out) {
  fish_program = program;
  fprintf(out, "# Completion of %s for fish.\n", program->name);
  if (!program->commands) return;
  for (const MuseCommand *c = program->commands; c->name; c++) {
    fprintf(out, "complete -c %s -f -n __fish_use_subcommand -a %s -d ", program->name, c->name);
    fish_quoted(c->help, out);
    fputc('\n', out);
  }
  fish_option("__fish_use_subcommand", "help", 'h', false, "List the commands and exit.", out);
  fish_option("__fish_use_subcommand", "version", 0, false, MUSE_VERSION_SENTENCE, out);
}

static void fish_part(const char *command, const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  char condition[128];
  if (command) snprintf(condition, sizeof condition, "__fish_seen_subcommand_from %s", command);
  for (const MuseOption *o = table; o->name; o++)
    fish_option(command ? condition : NULL, o->name, o->letter, muse_option_has_argument(o), o->help, out);
  fish_option(command ? condition : NULL, "help", muse_help_has_letter(table) ? 'h' : 0, false, MUSE_HELP_SENTENCE,
              out);
}

static void fish_end(const MuseProgram *program, FILE *out) { fish_program = NULL; }

const MuseHelpWriter muse_help_fish = {fish_begin, fish_part, fish_end};
