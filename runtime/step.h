#ifndef MUSE_RUNTIME_STEP_H
#define MUSE_RUNTIME_STEP_H

#include "ir/base/vec.h"
#include "runtime/session.h"

// One optimizer step of a plan: micro-batches through @grad, @norms, checks, @update.

// Schedule and decay rates (section 6 of docs/model.md).
typedef struct MuseTrainNumbers {
  double learning_rate, min_lr_ratio, beta1, beta2;
  int64_t warmup_steps, max_steps;
} MuseTrainNumbers;
MuseStatus muse_train_numbers(const MuseSession *session, MuseTrainNumbers *out, MuseDiag *diag);

// Learning rate of step i, counted from 0: peak * (i+1)/warmup for i < warmup, then along a cosine that would reach
// peak * min_lr_ratio at i = max_steps, and stays there.
double muse_learning_rate(const MuseTrainNumbers *numbers, uint64_t step);

// A parameter as the step sees it.
typedef struct MuseStepParam {
  const char *name;
  int layer;                      // -1: none
  const MuseBuffer *norm2_buffer; // square of its gradient's norm, by @norms
  float norm2;                    // of the step that ran last
} MuseStepParam;

typedef struct MuseStepper {
  MuseSession *session;
  MuseTrainNumbers numbers;
  uint32_t seed;
  const MuseBuffer *loss;
  float *losses;       // of the micro-batches
  MUSE_VEC(MuseStepParam) params;
  MuseStr reason;      // of the last bad step
} MuseStepper;

typedef struct MuseStepResult {
  double loss;         // mean over the micro-batches
  double grad_norm;    // before clipping
  double learning_rate;
  bool bad;            // NaN or Inf: nothing was updated; the stepper's `reason` says where
  bool ruined;         // a parameter itself holds NaN or Inf, so no further step can be good
} MuseStepResult;

MuseStatus muse_stepper_create(MuseSession *session, uint32_t seed, MuseStepper *out_stepper, MuseDiag *diag);
void muse_stepper_destroy(MuseStepper *stepper);

// Functions that a step runs, for muse_session_prepare.
extern const char *const muse_step_functions[];

// Sums of the gradients of `rows` [accumulation, B, T+1] into the buffers grad.*; the mean loss. step counts from 0.
MuseStatus muse_stepper_gradients(MuseStepper *stepper, uint64_t step, const int32_t *rows, double *out_loss,
                                  MuseDiag *diag);
// The whole step.
MuseStatus muse_stepper_run(MuseStepper *stepper, uint64_t step, const int32_t *rows, MuseStepResult *out,
                            MuseDiag *diag);

#endif
