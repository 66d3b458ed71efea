// muse-run: runs plans.
#include "ir/base/options.h"
#include "runtime/commands.h"

#include <stdio.h>

static const MuseCommand commands[] = {
    {"train", muse_command_train, "trains the model of a plan"},
    {"eval", muse_command_eval, "measures the loss on held-out text"},
    {"generate", muse_command_generate, "writes text"},
    {"init", muse_command_init, "writes the initial parameters, or one of them"},
    {"compress", muse_command_compress, "makes a compressed model: trits, five a byte, and an int8 embedding"},
    {"tensors", muse_command_tensors, "writes logits, loss and gradients to a file, to compare with other programs"},
    {"report", muse_command_report, "makes a page of a run, to look at in a browser"},
    {"bench", muse_command_bench, "measures every kernel of a plan"},
    {"kernels", muse_command_kernels, "compiles the kernels of a plan for a GPU, which need not be there"},
    {"doctor", muse_command_doctor, "shows what this machine offers"},
    {0},
};
static const MuseProgram program = {"muse-run", "Runs plans: trains, measures and uses the models they describe.",
                                     commands};

int main(int argc, char **argv) {
  muse_program_start();
  MuseDiag *diag = muse_diag_create();
  return muse_program_end(muse_program_run(&program, argc, argv, diag), diag);
}
