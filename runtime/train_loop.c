// The loop of training: steps, and what happens between them.
#include "runtime/train.h"

#include "runtime/train_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  MAX_BAD_STEPS = 5,     // in a row
  SETTLED_STEPS = 100,   // after so many good ones a run is told to be on its way
};

MuseStatus muse_validate(MuseSession *s, MuseDataSource *data, int64_t batches, bool *out_any, double *out_loss,
                         MuseDiag *diag) {
  MuseType scalar = muse_scalar_type(MUSE_F32);
  int64_t held_out = muse_data_validation_rows(data) / s->batch;
  *out_any = muse_data_validation_rows(data) > 0 && muse_executor_has_function(s->executor, "loss");
  if (!*out_any) return MUSE_OK;
  if (batches > held_out) batches = held_out;
  if (batches < 1) batches = 1;
  const MuseBuffer *loss;
  float one = 0;
  MUSE_TRY(muse_session_buffer(s, "loss", &scalar, &loss, diag));
  int32_t *rows = calloc((size_t)(s->batch * (s->n_seq + 1)), sizeof *rows);
  if (!rows) muse_out_of_memory((size_t)(s->batch * (s->n_seq + 1)) * sizeof *rows);
  MuseDataCursor cursor = {0};
  MuseStatus status = MUSE_OK;
  double sum = 0;
  for (int64_t i = 0; i < batches && status == MUSE_OK; i++) {
    status = muse_data_validation_next(data, &cursor, s->batch, rows, diag);
    if (status == MUSE_OK) status = muse_session_set_rows(s, rows, diag);
    if (status == MUSE_OK) status = muse_executor_run(s->executor, "loss", diag);
    if (status == MUSE_OK) status = muse_executor_read(s->executor, loss, 0, &one, sizeof one, diag);
    sum += (double)one;
  }
  free(rows);
  *out_loss = sum / (double)batches;
  return status;
}

static bool is_due(int64_t interval, uint64_t step) { return interval > 0 && step % (uint64_t)interval == 0; }

// ---- what is written down ----

static void print_json(const MuseTraining *t, const MuseStepResult *r) {
  printf("{\"step\":%llu,\"loss\":", (unsigned long long)t->state.step);
  MuseStr line = {0};
  double numbers[3] = {r->loss, r->grad_norm, r->learning_rate};
  const char *const keys[3] = {"", ",\"grad_norm\":", ",\"learning_rate\":"};
  for (int i = 0; i < 3; i++) {
    muse_str_append(&line, keys[i]);
    if (isfinite(numbers[i])) muse_str_appendf(&line, "%.17g", numbers[i]);
    else muse_json_append_real(&line, numbers[i]);
  }
  printf("%s%s}\n", muse_str_text(&line), r->bad ? ",\"bad\":true" : "");
  fflush(stdout);
  muse_str_free(&line);
}

static MuseStatus record_step(MuseTraining *t, const MuseStepResult *r, double seconds, double tokens, MuseDiag *diag) {
  if (t->json) print_json(t, r);
  if (!t->metrics) return MUSE_OK;
  muse_metrics_begin(t->metrics, (int64_t)t->state.step, r->bad ? "bad" : "train");
  muse_metrics_real(t->metrics, "loss", r->loss);
  muse_metrics_real(t->metrics, "grad_norm", r->grad_norm);
  muse_metrics_real(t->metrics, "learning_rate", r->learning_rate);
  if (r->bad) {
    muse_metrics_text(t->metrics, "reason", muse_str_text(&t->stepper.reason));
  } else {
    muse_metrics_real(t->metrics, "smoothed_loss", t->state.smoothed_loss);
    muse_metrics_int(t->metrics, "tokens", (int64_t)t->state.tokens);
    muse_metrics_real(t->metrics, "tokens_per_second", seconds > 0 ? tokens / seconds : 0);
    if (t->state.step == 1 || is_due(t->habits.log_interval, t->state.step)) MUSE_TRY(muse_record_reports(t, diag));
  }
  return muse_metrics_end(t->metrics, NULL, diag);
}

static MuseStatus validate(MuseTraining *t, MuseDiag *diag) {
  bool any;
  double loss;
  MUSE_TRY(muse_validate(&t->session, t->data, t->habits.eval_batches, &any, &loss, diag));
  if (!any) return MUSE_OK;
  bool bytes = t->tokenizer && muse_str_eq(muse_tokenizer_name(t->tokenizer), "bytes");
  if (loss < t->state.best_validation_loss) t->state.best_validation_loss = loss;
  if (bytes)
    muse_progress_message(t->progress, "validation after step %llu: loss %.4f (%.3f bits a byte)",
                          (unsigned long long)t->state.step, loss, loss / M_LN2);
  else
    muse_progress_message(t->progress, "validation after step %llu: loss %.4f", (unsigned long long)t->state.step,
                          loss);
  if (!t->metrics) return MUSE_OK;
  muse_metrics_begin(t->metrics, (int64_t)t->state.step, "validation");
  muse_metrics_real(t->metrics, "loss", loss);
  if (bytes) muse_metrics_real(t->metrics, "bits_per_byte", loss / M_LN2);
  return muse_metrics_end(t->metrics, NULL, diag);
}

static void collect_text(void *context, const char *text, size_t length) { muse_str_append_n(context, text, length); }

static MuseStatus sample(MuseTraining *t, MuseDiag *diag) {
  MuseGenerateOptions o = {
      .prompt = t->habits.sample_prompt,
      .max_tokens = t->habits.sample_tokens,
      .stop = t->stop,
      .sampler = {.temperature = t->habits.sample_temperature, .top_p = 1, .seed = (uint32_t)t->state.step}};
  MuseGenerateResult result;
  MuseStr text = {0};
  MuseStatus status = muse_generate(&t->decoder, t->tokenizer, &o, collect_text, &text, &result, diag);
  if (status == MUSE_OK) {
    muse_progress_message(t->progress, "sample after step %llu: %s%s", (unsigned long long)t->state.step, o.prompt,
                          muse_str_text(&text));
    if (t->metrics) {
      muse_metrics_begin(t->metrics, (int64_t)t->state.step, "sample");
      muse_metrics_text(t->metrics, "prompt", o.prompt);
      muse_metrics_text(t->metrics, "text", muse_str_text(&text));
      status = muse_metrics_end(t->metrics, NULL, diag);
    }
  }
  muse_str_free(&text);
  return status;
}

static MuseStatus save(MuseTraining *t, MuseDiag *diag) {
  if (!t->run_dir || t->saved_step == (int64_t)t->state.step) return MUSE_OK;
  MUSE_TRY(muse_params_save(&t->session, t->run_dir, &t->state, &t->tensors, (int)t->habits.keep_checkpoints,
                            &t->saving, diag));
  t->saved_step = (int64_t)t->state.step;
  return MUSE_OK;
}

// ---- a step ----

static MuseStatus record_advice(MuseTraining *t, const char *text, MuseDiag *diag) {
  if (!t->metrics) return MUSE_OK;
  muse_metrics_begin(t->metrics, (int64_t)t->state.step, "advice");
  muse_metrics_text(t->metrics, "text", text);
  return muse_metrics_end(t->metrics, NULL, diag);
}

// A step whose numbers went bad: it was not applied. Ends the run when that will not pass by itself.
static MuseStatus tell_bad_step(MuseTraining *t, const MuseStepResult *r, MuseDiag *diag) {
  unsigned long long step = t->state.step;
  MuseAdvice advice;
  MuseStr text = {0}, kept = {0};
  muse_advice_of(&t->session, &t->stepper.numbers, &advice);
  muse_advice_unstable(&advice, true, &text);
  t->good_steps = INT64_MIN;
  t->state.bad_steps++;
  if (!r->ruined && t->state.bad_steps < MAX_BAD_STEPS) {
    muse_progress_message(t->progress, "step %llu was left out: %s%s%s", step, muse_str_text(&t->stepper.reason),
                          t->state.bad_steps == 1 ? "; if this goes on, set " : "",
                          t->state.bad_steps == 1 ? muse_str_text(&text) : "");
    muse_str_free(&text);
    return MUSE_OK;
  }
  if (t->saved_step >= 0)
    muse_str_appendf(&kept, "; the checkpoint of step %lld in '%s' is good", (long long)t->saved_step, t->run_dir);
  muse_error(diag, MUSE_ERR_NUMERIC,
             "the numbers went bad in %d step%s in a row and nothing of them was applied; in step %llu %s%s. Set %s, "
             "and go on with --resume",
             t->state.bad_steps, t->state.bad_steps == 1 ? "" : "s", step, muse_str_text(&t->stepper.reason),
             muse_str_text(&kept), muse_str_text(&text));
  muse_str_free(&kept);
  muse_str_free(&text);
  return MUSE_ERR_NUMERIC;
}

// What a good step says of the run as a whole: that it is on its way, or that its loss does not fall.
static MuseStatus tell_course(MuseTraining *t, const MuseStepResult *r, MuseDiag *diag) {
  if (t->good_steps == 0) t->first_loss = r->loss;
  if (++t->good_steps == SETTLED_STEPS)
    muse_progress_message(t->progress, "%d steps without an error, loss from %.4f to %.4f", SETTLED_STEPS,
                          t->first_loss, r->loss);
  if (!muse_stall_update(&t->state.stall, t->state.step, t->state.smoothed_loss, t->stepper.numbers.warmup_steps,
                         t->habits.patience))
    return MUSE_OK;
  const MuseStall *stall = &t->state.stall;
  bool rises = t->state.smoothed_loss > 1.02 * stall->lowest;
  MuseAdvice advice;
  MuseStr text = {0}, line = {0};
  muse_advice_of(&t->session, &t->stepper.numbers, &advice);
  if (rises) muse_advice_unstable(&advice, false, &text);
  else muse_advice_flat(&advice, &text);
  muse_str_appendf(&line, "the loss %s %lld steps (it is %.4f, the lowest was %.4f at step %llu): set %s",
                   rises ? "has been rising for" : "has not fallen for",
                   (long long)(t->state.step - stall->lowest_step), t->state.smoothed_loss, stall->lowest,
                   (unsigned long long)stall->lowest_step, muse_str_text(&text));
  muse_progress_message(t->progress, "%s, and go on with --resume", muse_str_text(&line));
  MuseStatus status = record_advice(t, muse_str_text(&line), diag);
  muse_str_free(&text);
  muse_str_free(&line);
  return status;
}

static MuseStatus one_step(MuseTraining *t, MuseDiag *diag) {
  MuseSession *s = &t->session;
  MuseDataCursor before = t->state.cursor;
  MuseStepResult r;
  int64_t micro_rows = s->batch * (s->n_seq + 1);
  double start = muse_seconds(), tokens = (double)(s->accumulation * s->batch * s->n_seq);
  for (int64_t a = 0; a < s->accumulation; a++) {
    MuseStatus status = muse_data_next(t->data, &t->state.cursor, s->batch, t->rows + a * micro_rows, diag);
    if (status == MUSE_OK) continue;
    t->state.cursor = before; // the steps so far are good, and are kept
    return save(t, diag) == MUSE_OK ? status : MUSE_ERR_FAILED;
  }
  MUSE_TRY(muse_stepper_run(&t->stepper, t->state.step, t->rows, &r, diag));
  double seconds = muse_seconds() - start;
  t->state.step++;
  t->state.tokens += (uint64_t)tokens;
  t->state.seconds += seconds;
  if (!r.bad) {
    MuseSmoothed smoothed = {t->state.smoothed_loss, t->state.smoothed_weight};
    muse_smoothed_add(&smoothed, r.loss, 0.95);
    t->state.smoothed_loss = smoothed.value;
    t->state.smoothed_weight = smoothed.weight;
    t->state.bad_steps = 0;
  }
  MUSE_TRY(record_step(t, &r, seconds, tokens, diag));
  if (r.bad) return tell_bad_step(t, &r, diag);
  MuseProgressStep p = {.step = (int64_t)t->state.step,
                        .loss = r.loss,
                        .smoothed_loss = t->state.smoothed_loss,
                        .learning_rate = r.learning_rate,
                        .grad_norm = r.grad_norm,
                        .tokens = tokens,
                        .seconds = seconds,
                        .memory_bytes = muse_process_memory()};
  muse_progress_update(t->progress, &p);
  return tell_course(t, &r, diag);
}

MuseStatus muse_training_loop(MuseTraining *t, MuseDiag *diag) {
  const MuseTrainHabits *h = &t->habits;
  while ((int64_t)t->state.step < t->last_step && (int64_t)t->state.step < t->stop_step && !*t->stop) {
    MUSE_TRY(one_step(t, diag));
    bool last = (int64_t)t->state.step >= t->last_step;
    if (t->json && ferror(stdout)) break;
    if (*t->stop) break; // a step takes as long as it takes; a validation would keep the user waiting
    MUSE_TRY(muse_record_state(t, last, diag));
    if (h->eval_interval > 0 && (last || is_due(h->eval_interval, t->state.step))) MUSE_TRY(validate(t, diag));
    if (h->sample_interval > 0 && t->tokenizer && (last || is_due(h->sample_interval, t->state.step)))
      MUSE_TRY(sample(t, diag));
    if (is_due(h->save_interval, t->state.step)) MUSE_TRY(save(t, diag));
  }
  MUSE_TRY(save(t, diag));
  if (t->json && ferror(stdout))
    return muse_error(diag, MUSE_ERR_FAILED, "stopped after step %llu%s%s: the output is closed or its disk is full",
                      (unsigned long long)t->state.step, t->run_dir ? ", which is saved in " : "",
                      t->run_dir ? t->run_dir : "");
  if ((int64_t)t->state.step >= t->last_step || !*t->stop) return MUSE_OK;
  if (t->run_dir)
    return muse_error(diag, MUSE_ERR_STOPPED, "stopped after step %llu, which is saved in '%s'; go on with --resume",
                      (unsigned long long)t->state.step, t->run_dir);
  return muse_error(diag, MUSE_ERR_STOPPED,
                    "stopped after step %llu; nothing was saved, since no run folder was given with -o",
                    (unsigned long long)t->state.step);
}
