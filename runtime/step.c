// One optimizer step.
#include "ir/base/vec.h"
#include "runtime/step.h"

#include "runtime/numerics.h"
#include "runtime/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const muse_step_functions[] = {"setup", "pack", "grad", "norms", "update", NULL};

MuseStatus muse_train_numbers(const MuseSession *s, MuseTrainNumbers *out, MuseDiag *diag) {
  MUSE_TRY(muse_session_real(s, "learning_rate", 0, 1e6, &out->learning_rate, diag));
  MUSE_TRY(muse_session_real(s, "min_lr_ratio", 0, 1, &out->min_lr_ratio, diag));
  MUSE_TRY(muse_session_real(s, "adam_beta1", 0, 1, &out->beta1, diag));
  MUSE_TRY(muse_session_real(s, "adam_beta2", 0, 1, &out->beta2, diag));
  MUSE_TRY(muse_session_int(s, "warmup_steps", 0, INT64_MAX, &out->warmup_steps, diag));
  return muse_session_int(s, "max_steps", 0, INT64_MAX, &out->max_steps, diag);
}

double muse_learning_rate(const MuseTrainNumbers *n, uint64_t step) {
  double i = (double)step, warmup = (double)n->warmup_steps, last = (double)n->max_steps;
  if (i < warmup) return n->learning_rate * (i + 1) / warmup;
  double progress = last > warmup ? fmin(1, (i - warmup) / (last - warmup)) : 1;
  return n->learning_rate * (n->min_lr_ratio + (1 - n->min_lr_ratio) * 0.5 * (1 + cos(M_PI * progress)));
}

static int layer_of(const MuseBuffer *buffer) {
  const MuseAttr *layer = muse_attr_find(&buffer->attrs, "layer");
  return layer && layer->kind == MUSE_ATTR_INT ? (int)layer->i : -1;
}

MuseStatus muse_stepper_create(MuseSession *s, uint32_t seed, MuseStepper *out, MuseDiag *diag) {
  *out = (MuseStepper){.session = s, .seed = seed};
  MUSE_TRY(muse_train_numbers(s, &out->numbers, diag));
  MuseType scalar = muse_scalar_type(MUSE_F32);
  MUSE_TRY(muse_session_buffer(s, "loss", &scalar, &out->loss, diag));
  out->losses = calloc((size_t)s->accumulation, sizeof *out->losses);
  if (!out->losses) muse_out_of_memory((size_t)s->accumulation * sizeof *out->losses);
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    if (strcmp(b->role, "param") != 0) continue;
    MuseStr name = {0};
    muse_str_appendf(&name, "norm2.%s", b->name);
    const MuseBuffer *norm2;
    MuseStatus status = muse_session_buffer(s, name.data, &scalar, &norm2, diag);
    muse_str_free(&name);
    MUSE_TRY(status);
    MuseStepParam param = {.name = b->name, .layer = layer_of(b), .norm2_buffer = norm2};
    muse_vec_push(&out->params, param);
  }
  return MUSE_OK;
}

void muse_stepper_destroy(MuseStepper *st) {
  muse_vec_free(&st->params);
  free(st->losses);
  muse_str_free(&st->reason);
}

static MuseStatus load_micro_batch(const MuseStepper *st, uint64_t step, int64_t micro, const int32_t *rows,
                                   MuseDiag *diag) {
  const MuseSession *s = st->session;
  MUSE_TRY(muse_session_set_rng(s, st->seed, step * (uint64_t)s->accumulation + (uint64_t)micro, diag));
  return muse_session_set_rows(s, rows + micro * s->batch * (s->n_seq + 1), diag);
}

// Runs the micro-batches; their losses are in st->losses after a wait.
static MuseStatus run_micro_batches(MuseStepper *st, uint64_t step, const int32_t *rows, MuseDiag *diag) {
  MuseSession *s = st->session;
  if (s->accumulation > 1) MUSE_TRY(muse_executor_zero(s->executor, "grad", diag)); // @grad adds to what is there
  for (int64_t micro = 0; micro < s->accumulation; micro++) {
    MUSE_TRY(load_micro_batch(st, step, micro, rows, diag));
    MUSE_TRY(muse_executor_run(s->executor, "grad", diag));
    MUSE_TRY(muse_executor_fetch(s->executor, st->loss, &st->losses[micro], sizeof *st->losses, diag));
  }
  return MUSE_OK;
}

static double mean_loss(const MuseStepper *st) {
  double sum = 0;
  for (int64_t micro = 0; micro < st->session->accumulation; micro++) sum += (double)st->losses[micro];
  return sum / (double)st->session->accumulation;
}

MuseStatus muse_stepper_gradients(MuseStepper *st, uint64_t step, const int32_t *rows, double *out_loss,
                                  MuseDiag *diag) {
  MUSE_TRY(run_micro_batches(st, step, rows, diag));
  MUSE_TRY(muse_executor_wait(st->session->executor, diag));
  *out_loss = mean_loss(st);
  return MUSE_OK;
}

// ---- bad steps ----

// Names the tensors whose gradients are bad: the first, and how many more.
static void name_gradients(MuseStepper *st) {
  int n_bad = 0;
  for (size_t i = 0; i < st->params.len; i++) {
    const MuseStepParam *p = &st->params.data[i];
    if (isfinite(p->norm2) || n_bad++) continue;
    muse_str_appendf(&st->reason, "the gradient of '%s'", p->name);
    if (p->layer >= 0) muse_str_appendf(&st->reason, " (layer %d)", p->layer);
  }
  if (n_bad > 1) muse_str_appendf(&st->reason, " and of %d more tensors", n_bad - 1);
}

// Runs the micro-batches again, kernel by kernel, until one gives NaN or Inf.
static MuseStatus name_origin(MuseStepper *st, uint64_t step, const int32_t *rows, MuseDiag *diag) {
  MuseSession *s = st->session;
  MuseStr where = {0};
  bool found = false;
  MuseStatus status = MUSE_OK;
  if (s->accumulation > 1) MUSE_TRY(muse_executor_zero(s->executor, "grad", diag));
  for (int64_t micro = 0; micro < s->accumulation && !found && status == MUSE_OK; micro++) {
    status = load_micro_batch(st, step, micro, rows, diag);
    if (status == MUSE_OK) status = muse_find_first_bad_kernel(s, "grad", &where, &found, diag);
  }
  if (found) muse_str_appendf(&st->reason, "; it began in %s", muse_str_text(&where));
  else muse_str_append(&st->reason, "; every kernel of the step is finite, so only the sum of squares overflowed");
  muse_str_free(&where);
  return status;
}

static MuseStatus explain(MuseStepper *st, uint64_t step, const int32_t *rows, MuseStepResult *out, MuseDiag *diag) {
  muse_str_clear(&st->reason);
  const MuseBuffer *param;
  MUSE_TRY(muse_params_find_bad(st->session, &param, diag));
  if (param) {
    out->ruined = true;
    muse_str_appendf(&st->reason, "parameter '%s'", param->name);
    if (layer_of(param) >= 0) muse_str_appendf(&st->reason, " (layer %d)", layer_of(param));
    muse_str_append(&st->reason, " is NaN or Inf");
    return MUSE_OK;
  }
  bool bad_loss = !isfinite(out->loss), bad_gradient = !isfinite(out->grad_norm);
  if (bad_loss) muse_str_append(&st->reason, bad_gradient ? "the loss and " : "the loss");
  if (bad_gradient) name_gradients(st);
  muse_str_append(&st->reason, bad_loss && bad_gradient ? " are NaN or Inf" : " is NaN or Inf");
  return name_origin(st, step, rows, diag);
}

// ---- the step ----

static double gradient_norm(const MuseStepper *st) {
  double sum = 0;
  for (size_t i = 0; i < st->params.len; i++) sum += (double)st->params.data[i].norm2;
  return sqrt(sum);
}

// The one point of a step where the host waits for the device: the losses and the norms of all gradients, read at once.
static MuseStatus read_numbers(MuseStepper *st, MuseStepResult *out, MuseDiag *diag) {
  MuseExecutor *e = st->session->executor;
  for (size_t i = 0; i < st->params.len; i++) {
    MuseStepParam *p = &st->params.data[i];
    MUSE_TRY(muse_executor_fetch(e, p->norm2_buffer, &p->norm2, sizeof p->norm2, diag));
  }
  MUSE_TRY(muse_executor_wait(e, diag));
  out->loss = mean_loss(st);
  out->grad_norm = gradient_norm(st);
  return MUSE_OK;
}

MuseStatus muse_stepper_run(MuseStepper *st, uint64_t step, const int32_t *rows, MuseStepResult *out, MuseDiag *diag) {
  MuseSession *s = st->session;
  const MuseTrainNumbers *n = &st->numbers;
  *out = (MuseStepResult){.learning_rate = muse_learning_rate(n, step)};
  MUSE_TRY(run_micro_batches(st, step, rows, diag));
  MUSE_TRY(muse_executor_run(s->executor, "norms", diag));
  MUSE_TRY(read_numbers(st, out, diag));
  if (!isfinite(out->loss) || !isfinite(out->grad_norm)) {
    out->bad = true;
    return explain(st, step, rows, out, diag);
  }
  double t = (double)step + 1;
  MUSE_TRY(muse_session_set_scalar(s, "lr", out->learning_rate, diag));
  MUSE_TRY(muse_session_set_scalar(s, "bias1", 1 - pow(n->beta1, t), diag));
  MUSE_TRY(muse_session_set_scalar(s, "bias2", 1 - pow(n->beta2, t), diag));
  MUSE_TRY(muse_session_set_scalar(s, "factored_decay", 1 - pow(t, -0.8), diag));
  MUSE_TRY(muse_session_set_rng(s, st->seed, step, diag));
  return muse_executor_run(s->executor, "update", diag);
}
