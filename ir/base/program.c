// Programs of several commands, and the choice of the form in which help is printed.
#include "ir/base/options_forms.h"

#include "ir/base/status.h"
#include "ir/base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static MuseHelpForm form = MUSE_HELP_TEXT; // of this process; set once, while the command line is read
static const MuseProgram *open_program;    // while the parts of its commands are printed

MuseHelpForm muse_help_form(void) { return form; }

bool muse_help_form_choose(const char *argument) {
  static const char *const names[] = {"", "man", "bash", "zsh", "fish"};
  if (!muse_str_starts_with(argument, "--help=")) return false;
  for (int i = MUSE_HELP_MAN; i <= MUSE_HELP_FISH; i++)
    if (muse_str_eq(argument + strlen("--help="), names[i])) {
      form = (MuseHelpForm)i;
      return true;
    }
  return false;
}

static const MuseHelpWriter *writer(void) {
  static const MuseHelpWriter *const writers[] = {NULL, &muse_help_man, &muse_help_bash, &muse_help_zsh,
                                                  &muse_help_fish};
  MUSE_ASSERT(form != MUSE_HELP_TEXT);
  return writers[form];
}

bool muse_help_has_letter(const MuseOption *table) {
  for (; table->name; table++)
    if (table->letter == 'h') return false;
  return true;
}

// The word of `usage` that starts at *at; *at moves behind it.
static void next_word(const char **at, char *out_word, size_t size) {
  size_t length = strcspn(*at, " ");
  MUSE_ASSERT(length > 0 && length < size);
  memcpy(out_word, *at, length);
  out_word[length] = 0;
  *at += length + strspn(*at + length, " ");
}

void muse_help_print_form(const MuseOption *table, const char *usage, const char *summary, FILE *out) {
  char name[64], command[64];
  const char *at = usage;
  next_word(&at, name, sizeof name);
  if (open_program) {
    next_word(&at, command, sizeof command);
    writer()->part(command, table, usage, summary, out);
    return;
  }
  MuseProgram program = {.name = name, .summary = summary};
  writer()->begin(&program, out);
  writer()->part(NULL, table, usage, summary, out);
  writer()->end(&program, out);
}

static void print_usage(const MuseProgram *program, FILE *out) {
  fprintf(out, "usage: %s COMMAND [options]\n\n%s\n\nCommands:\n", program->name, program->summary);
  for (const MuseCommand *c = program->commands; c->name; c++) fprintf(out, "  %-10s %s\n", c->name, c->help);
  fprintf(out, "\n'%s COMMAND --help' lists the options of a command, '%s --version' prints the version.\n",
          program->name, program->name);
}

// Each command prints its part when it is asked for help, because it alone has its table.
static MuseStatus print_forms(const MuseProgram *program, char *argument, MuseDiag *diag) {
  open_program = program;
  writer()->begin(program, stdout);
  for (const MuseCommand *c = program->commands; c->name; c++)
    MUSE_TRY(c->run(2, (char *[]){(char *)c->name, argument, NULL}, diag));
  writer()->end(program, stdout);
  open_program = NULL;
  return MUSE_OK;
}

void muse_program_start(void) {
  signal(SIGXFSZ, SIG_IGN); // a file that grows beyond a limit is a failed write, with its sentence
  for (int fd = 0; fd <= 2; fd++) // opened the wrong way round: reading or writing fails, as it does when closed
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) _exit(MUSE_ERR_FAILED);
}

int muse_program_end(MuseStatus status, MuseDiag *diag) {
  bool lost = fflush(stdout) != 0 || ferror(stdout);
  if (lost && status == MUSE_OK)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write the results: the output is closed or its disk is full");
  muse_diag_print(diag, stderr);
  muse_diag_destroy(diag);
  return (int)status;
}

MuseStatus muse_program_run(const MuseProgram *program, int argc, char **argv, MuseDiag *diag) {
  if (argc < 2) {
    print_usage(program, stderr);
    return MUSE_ERR_INPUT;
  }
  if (muse_str_eq(argv[1], "--help") || muse_str_eq(argv[1], "-h")) {
    print_usage(program, stdout);
    return MUSE_OK;
  }
  if (argc == 2 && muse_help_form_choose(argv[1])) return print_forms(program, argv[1], diag);
  if (muse_str_eq(argv[1], "--version")) {
    printf("%s %s\n", program->name, MUSE_VERSION);
    return MUSE_OK;
  }
  enum { MAX_COMMANDS = 32 };
  const char *names[MAX_COMMANDS];
  size_t n = 0;
  for (const MuseCommand *c = program->commands; c->name; c++) {
    if (muse_str_eq(argv[1], c->name)) return c->run(argc - 1, argv + 1, diag);
    MUSE_ASSERT(n < MAX_COMMANDS);
    names[n++] = c->name;
  }
  const char *near = muse_str_nearest(argv[1], names, n);
  if (near)
    return muse_error(diag, MUSE_ERR_INPUT, "there is no command '%s'; did you mean '%s'?", argv[1], near);
  return muse_error(diag, MUSE_ERR_INPUT, "there is no command '%s'; see %s --help", argv[1], program->name);
}
