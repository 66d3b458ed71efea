// muse-run: runs plans.
#include "ir/base/str.h"
#include "runtime/commands.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  MuseStatus (*run)(int argc, char **argv, MuseDiag *diag);
  const char *help;
} commands[] = {
    {"train", muse_command_train, "trains the model of a plan"},
    {"eval", muse_command_eval, "measures the loss on held-out text"},
    {"generate", muse_command_generate, "writes text"},
    {"init", muse_command_init, "writes the initial parameters, or one of them"},
    {"tensors", muse_command_tensors, "writes logits, loss and gradients to a file, to compare with other programs"},
    {"bench", muse_command_bench, "measures every kernel of a plan"},
    {"doctor", muse_command_doctor, "shows what this machine offers"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
  fputs("usage: muse-run COMMAND [options]\n\n", out);
  for (int i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
  fputs("\n'muse-run COMMAND --help' lists the options of a command; 'muse-run --version' prints the version.\n", out);
}

static MuseStatus run(int argc, char **argv, MuseDiag *diag) {
  if (argc < 2) {
    print_usage(stderr);
    return MUSE_ERR_INPUT;
  }
  if (muse_str_eq(argv[1], "--help") || muse_str_eq(argv[1], "-h")) {
    print_usage(stdout);
    return MUSE_OK;
  }
  if (muse_str_eq(argv[1], "--version")) {
    puts("muse-run " MUSE_VERSION);
    return MUSE_OK;
  }
  const char *names[N_COMMANDS];
  for (int i = 0; i < N_COMMANDS; i++) {
    if (muse_str_eq(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1, diag);
    names[i] = commands[i].name;
  }
  const char *near = muse_str_nearest(argv[1], names, N_COMMANDS);
  return muse_error(diag, MUSE_ERR_INPUT, "there is no command '%s'%s%s%s", argv[1], near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "; see muse-run --help");
}

int main(int argc, char **argv) {
  MuseDiag *diag = muse_diag_create();
  MuseStatus status = run(argc, argv, diag);
  if (fflush(stdout) != 0 && status == MUSE_OK) status = muse_error(diag, MUSE_ERR_FAILED, "cannot write the results: the output is closed or its disk is full");
  muse_diag_print(diag, stderr);
  muse_diag_destroy(diag);
  return (int)status;
}
