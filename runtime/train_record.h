#ifndef MUSE_RUNTIME_TRAIN_RECORD_H
#define MUSE_RUNTIME_TRAIN_RECORD_H

#include "runtime/train.h"

// What a run writes down of itself beside the numbers of each step. All are silent without metrics, and none changes
// what is computed. docs/files.md lists the lines.

// Line "start": device, memory, number of parameters, config; opens the event file when the plan asks for one.
MuseStatus muse_record_start(MuseTraining *training, MuseDiag *diag);
// Fields of the line "train" that is being made: use_lap, use_mourre (of the last micro-batch), memory.
MuseStatus muse_record_reports(MuseTraining *training, MuseDiag *diag);
// After a step, where they are due: the lines "mixture" (at log_interval) and "trits" (at eval_interval, and at the
// first and last step).
MuseStatus muse_record_state(MuseTraining *training, bool last, MuseDiag *diag);
// Lines "kernel": the slowest kernels of a step. Runs the step's functions once more, so only for a run that is at its
// end and saved.
MuseStatus muse_record_kernels(MuseTraining *training, MuseDiag *diag);

#endif
