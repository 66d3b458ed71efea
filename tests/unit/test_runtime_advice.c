// What to change when training does not go well, and when that is said.
#include "runtime/advice.h"

#include "tests/unit/scratch.h"

#include <math.h>

TestSuite(advice, .init = scratch_setup, .fini = scratch_teardown);

static const char *text_of(const MuseAdvice *a, int kind) { // 0 flat, 1 rising, 2 bad numbers
  static char text[400];
  MuseStr s = {0};
  if (kind == 0) muse_advice_flat(a, &s);
  else muse_advice_unstable(a, kind == 2, &s);
  snprintf(text, sizeof text, "%s", muse_str_text(&s));
  muse_str_free(&s);
  return text;
}

Test(advice, names_keys_and_values) {
  MuseAdvice a = {.learning_rate = 3e-4, .max_grad_norm = 1, .warmup_steps = 2000, .accumulation = 16, .clips = true,
                  .mixed_precision = true};
  cr_assert_str_eq(text_of(&a, 2), "learning_rate: 0.00015 (half of 0.0003), warmup_steps: 4000 (twice 2000), "
                                   "max_grad_norm: 0.5 (half of 1); if that does not help, learning_rate: 3e-05 (a "
                                   "tenth, as from 1e-4 to 1e-5) and use_mixed_precision: false");
  cr_assert_str_eq(text_of(&a, 1), "learning_rate: 0.00015 (half of 0.0003), warmup_steps: 4000 (twice 2000), "
                                   "max_grad_norm: 0.5 (half of 1)");
  cr_assert_str_eq(text_of(&a, 0), "learning_rate: 0.00015 (half of 0.0003), warmup_steps: 4000 (twice 2000), "
                                   "gradient_accumulation_steps: 32 (twice 16)");
}

Test(advice, keys_that_do_nothing_are_not_named) {
  MuseAdvice a = {.learning_rate = 1e-3, .accumulation = 1, .clips = true};
  cr_assert_str_eq(text_of(&a, 1), "learning_rate: 0.0005 (half of 0.001), warmup_steps: 500 (none now), "
                                   "max_grad_norm: 1 (no clipping now)");
  a.clips = false; // adafactor8
  cr_assert_str_eq(text_of(&a, 1), "learning_rate: 0.0005 (half of 0.001), warmup_steps: 500 (none now)");
  cr_assert(strstr(text_of(&a, 2), "use_mixed_precision: false, which it is"));
  a.learning_rate = 0;
  cr_assert_str_eq(text_of(&a, 0), "learning_rate: 0.001 (it is 0, so nothing is learnt)");
}

// Feeds losses from step 1 on; the steps at which something was said, as text.
static const char *told(double (*loss)(uint64_t step), int64_t warmup, int64_t patience, uint64_t steps) {
  static char text[400];
  MuseStall s = {0};
  text[0] = 0;
  for (uint64_t i = 1; i <= steps; i++)
    if (muse_stall_update(&s, i, loss(i), warmup, patience))
      snprintf(text + strlen(text), sizeof text - strlen(text), "%llu ", (unsigned long long)i);
  return text;
}

static double falling(uint64_t step) { return 5.0 / (1 + 0.01 * (double)step); }
static double level(uint64_t step) { return step < 30 ? 5.0 - 0.1 * (double)step : 2; }
static double creeping(uint64_t step) { return 3 - 1e-6 * (double)step; }
static double bad_at_times(uint64_t step) { return step % 2 ? NAN : falling(step); }

Test(advice, a_loss_that_falls_is_left_alone) {
  cr_assert_str_eq(told(falling, 10, 50, 400), "");
  cr_assert_str_eq(told(bad_at_times, 10, 50, 400), "");
}

Test(advice, a_loss_that_stays_is_told_each_time_the_patience_ends) {
  cr_assert_str_eq(told(level, 10, 50, 200), "80 130 180 ");
  cr_assert_str_eq(told(creeping, 0, 50, 120), "51 101 ");
  cr_assert_str_eq(told(level, 100, 50, 200), "150 200 "); // the warm-up does not count
  cr_assert_str_eq(told(level, 10, 0, 1000), "");
}
