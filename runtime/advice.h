#ifndef MUSE_RUNTIME_ADVICE_H
#define MUSE_RUNTIME_ADVICE_H

#include "runtime/step.h"

// What to change when training does not go well: keys of the configuration with their new values (docs/training.md).

typedef struct MuseAdvice {
  double learning_rate, max_grad_norm; // now
  int64_t warmup_steps, accumulation;
  bool clips;           // max_grad_norm has an effect
  bool mixed_precision;
} MuseAdvice;

// From the plan and what its options replaced.
void muse_advice_of(const MuseSession *session, const MuseTrainNumbers *numbers, MuseAdvice *out);

// "learning_rate: 0.00015 (half of 0.0003), ...": after NaN or Inf, or when the loss rises.
void muse_advice_unstable(const MuseAdvice *advice, bool bad_numbers, MuseStr *out);
// The same when the loss stays where it is.
void muse_advice_flat(const MuseAdvice *advice, MuseStr *out);

// Watches the smoothed loss, across resumes: whether it has not fallen (by a thousandth) for `patience` steps, which
// begin after the warm-up and again after each time that this was said. patience 0: never.
bool muse_stall_update(MuseStall *stall, uint64_t step, double smoothed_loss, int64_t warmup_steps, int64_t patience);

#endif
