#ifndef MUSE_RUNTIME_TRAIN_H
#define MUSE_RUNTIME_TRAIN_H

#include "runtime/advice.h"
#include "runtime/generate.h"
#include "runtime/metrics.h"
#include "runtime/mixture.h"
#include "runtime/params.h"
#include "runtime/step.h"

// A training run: what train.c prepares and train_loop.c goes through.

// The habits of the run: from the plan, or an option. None changes what a step computes.
typedef struct MuseTrainHabits {
  int64_t log_interval, eval_interval, eval_batches, save_interval, keep_checkpoints, sample_interval, sample_tokens;
  int64_t patience;
  double sample_temperature;
  const char *sample_prompt;
} MuseTrainHabits;

typedef struct MuseTraining {
  MuseSession session;
  MuseStepper stepper;
  MuseTrainHabits habits;
  MuseDataSource *data;
  MuseTokenizer *tokenizer;  // NULL: no samples, no bits per byte
  MuseDecoder decoder;       // with samples
  MuseRunState state;
  const char *run_dir;       // NULL: nothing is kept
  int lock;                  // file descriptor, -1: none
  MuseMetrics *metrics;      // NULL without run_dir
  MuseProgress *progress;
  MuseTensorList tensors;    // of a checkpoint
  int64_t started_at;        // step where this call began
  int64_t last_step;         // the run ends there
  int64_t stop_step;         // this call ends there
  int64_t saved_step;        // -1: nothing saved yet
  MuseSaving *saving;        // a checkpoint that is being written, or NULL
  bool json;
  int64_t good_steps;        // of this call, while none was bad
  double first_loss;         // of them
  int32_t *rows;             // [accumulation, B, T+1]
  volatile sig_atomic_t *stop;
} MuseTraining;

// Steps until the end or a signal (MUSE_ERR_STOPPED, saved).
MuseStatus muse_training_loop(MuseTraining *training, MuseDiag *diag);

// Mean loss in nats of held-out rows in `batches` micro-batches, from the first on; false when nothing is held out.
MuseStatus muse_validate(MuseSession *session, MuseDataSource *data, int64_t batches, bool *out_any, double *out_loss,
                         MuseDiag *diag);

#endif
