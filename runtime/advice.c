// Stabilisation advice.
#include "runtime/advice.h"

#include <math.h>
#include <string.h>

void muse_advice_of(const MuseSession *s, const MuseTrainNumbers *numbers, MuseAdvice *out) {
  const MuseAttrList *attrs = &s->module->attrs;
  const char *config = muse_attr_text_or(attrs, "config", "");
  MuseStr value = {0};
  *out = (MuseAdvice){.learning_rate = numbers->learning_rate,
                      .warmup_steps = numbers->warmup_steps,
                      .accumulation = s->accumulation,
                      .clips = strcmp(muse_attr_text_or(attrs, "optimizer", ""), "adamw") == 0};
  if (muse_config_value(config, "max_grad_norm", &value) && !muse_parse_double(value.data, &out->max_grad_norm))
    out->max_grad_norm = 0;
  out->mixed_precision = muse_config_value(config, "use_mixed_precision", &value) && muse_str_eq(value.data, "true");
  muse_str_free(&value);
}

static void add_real(MuseStr *out, const char *key, double value, const char *times, double now) {
  muse_str_appendf(out, "%s%s: %.6g (%s%.6g)", out->len ? ", " : "", key, value, times, now);
}

static void add_rate(const MuseAdvice *a, MuseStr *out) {
  if (!(a->learning_rate > 0)) {
    muse_str_append(out, "learning_rate: 0.001 (it is 0, so nothing is learnt)");
    return;
  }
  add_real(out, "learning_rate", a->learning_rate / 2, "half of ", a->learning_rate);
  if (a->warmup_steps > 0)
    add_real(out, "warmup_steps", 2 * (double)a->warmup_steps, "twice ", (double)a->warmup_steps);
  else muse_str_append(out, ", warmup_steps: 500 (none now)");
}

void muse_advice_unstable(const MuseAdvice *a, bool bad_numbers, MuseStr *out) {
  MuseStr text = {0};
  add_rate(a, &text);
  if (a->clips && a->max_grad_norm > 0)
    add_real(&text, "max_grad_norm", a->max_grad_norm / 2, "half of ", a->max_grad_norm);
  else if (a->clips) muse_str_append(&text, ", max_grad_norm: 1 (no clipping now)");
  if (bad_numbers && a->learning_rate > 0)
    muse_str_appendf(&text, "; if that does not help, learning_rate: %.6g (a tenth, as from 1e-4 to 1e-5) and "
                            "use_mixed_precision: false%s",
                     a->learning_rate / 10, a->mixed_precision ? "" : ", which it is");
  muse_str_append(out, muse_str_text(&text));
  muse_str_free(&text);
}

void muse_advice_flat(const MuseAdvice *a, MuseStr *out) {
  MuseStr text = {0};
  add_rate(a, &text);
  if (a->learning_rate > 0)
    add_real(&text, "gradient_accumulation_steps", 2 * (double)a->accumulation, "twice ", (double)a->accumulation);
  muse_str_append(out, muse_str_text(&text));
  muse_str_free(&text);
}

bool muse_stall_update(MuseStall *s, uint64_t step, double loss, int64_t warmup_steps, int64_t patience) {
  if (!isfinite(loss)) return false;
  if (s->steps++ == 0 || loss < s->lowest * (1 - 1e-3)) {
    s->lowest = loss;
    s->lowest_step = step;
  }
  uint64_t since = s->lowest_step > s->told_step ? s->lowest_step : s->told_step;
  if (warmup_steps > 0 && since < (uint64_t)warmup_steps) since = (uint64_t)warmup_steps;
  if (patience <= 0 || step < since + (uint64_t)patience) return false;
  s->told_step = step;
  return true;
}
