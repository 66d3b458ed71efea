#ifndef MUSE_RUNTIME_COMMANDS_H
#define MUSE_RUNTIME_COMMANDS_H

#include "ir/base/diag.h"

// The commands of muse-run. argv[0] is the command's name. Results go to stdout, everything else to stderr; the status
// is the exit code of the program.
MuseStatus muse_command_init(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_train(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_eval(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_generate(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_compress(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_tensors(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_report(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_bench(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_kernels(int argc, char **argv, MuseDiag *diag);
MuseStatus muse_command_doctor(int argc, char **argv, MuseDiag *diag);

#endif
