// The command `train`: options, data, run folder, parameters; then the loop.
#include "runtime/train.h"

#include "ir/base/io.h"
#include "runtime/check_eval.h"
#include "runtime/commands.h"
#include "runtime/signals.h"
#include "runtime/train_record.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNSET INT64_MIN // of a whole number that was not given; NAN of another

typedef struct Arguments {
  MuseSessionOptions session;
  const char *data, *tokens, *output, *init, *params, *check;
  bool resume, json;
  MuseTextList sets;
  int64_t steps, stop_after, seed;
  int64_t log_interval, eval_interval, eval_batches, save_interval, keep, sample_interval;
  double learning_rate, validation;
} Arguments;

// ---- what the plan says, and what an option overrides ----

static MuseStatus choose(const MuseSession *s, const char *attr, int64_t option, int64_t min, const char *flag,
                         int64_t *out, MuseDiag *diag) {
  if (option == UNSET) return muse_session_int(s, attr, 0, INT64_MAX, out, diag);
  if (option < min)
    return muse_error(diag, MUSE_ERR_INPUT, "--%s takes a number from %lld on, not %lld", flag, (long long)min,
                      (long long)option);
  *out = option;
  return MUSE_OK;
}

static MuseStatus read_habits(const MuseSession *s, const Arguments *a, MuseTrainHabits *h, MuseDiag *diag) {
  MUSE_TRY(choose(s, "log_interval", a->log_interval, 1, "log-interval", &h->log_interval, diag));
  MUSE_TRY(choose(s, "eval_interval", a->eval_interval, 0, "eval-interval", &h->eval_interval, diag));
  MUSE_TRY(choose(s, "eval_batches", a->eval_batches, 1, "eval-batches", &h->eval_batches, diag));
  MUSE_TRY(choose(s, "save_interval", a->save_interval, 0, "save-interval", &h->save_interval, diag));
  MUSE_TRY(choose(s, "keep_checkpoints", a->keep, 0, "keep", &h->keep_checkpoints, diag));
  MUSE_TRY(choose(s, "sample_interval", a->sample_interval, 0, "sample-interval", &h->sample_interval, diag));
  MUSE_TRY(muse_session_int(s, "sample_tokens", 0, INT64_MAX, &h->sample_tokens, diag));
  MUSE_TRY(muse_session_int(s, "patience_steps", 0, INT64_MAX, &h->patience, diag));
  MUSE_TRY(muse_session_real(s, "sample_temperature", 0, 100, &h->sample_temperature, diag));
  if (h->keep_checkpoints > INT32_MAX) h->keep_checkpoints = 0;
  return muse_session_text(s, "sample_prompt", &h->sample_prompt, diag);
}

static MuseStatus read_numbers(MuseTraining *t, const Arguments *a, MuseDiag *diag) {
  MuseSession *s = &t->session;
  if (a->seed != UNSET && (a->seed < 0 || a->seed > UINT32_MAX))
    return muse_error(diag, MUSE_ERR_INPUT, "--seed takes a number from 0 to 4294967295, not %lld", (long long)a->seed);
  if (a->seed != UNSET) s->seed = (uint32_t)a->seed;
  MUSE_TRY(muse_stepper_create(s, s->seed, &t->stepper, diag));
  MUSE_TRY(choose(s, "max_steps", a->steps, 0, "steps", &t->stepper.numbers.max_steps, diag));
  if (!isnan(a->learning_rate)) {
    if (!(a->learning_rate >= 0 && a->learning_rate <= 1e6))
      return muse_error(diag, MUSE_ERR_INPUT, "--learning-rate takes a number from 0 to 1e6, not %g", a->learning_rate);
    t->stepper.numbers.learning_rate = a->learning_rate;
  }
  if (a->stop_after != UNSET && a->stop_after < 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--stop-after takes a number from 0 on, not %lld",
                      (long long)a->stop_after);
  t->last_step = t->stepper.numbers.max_steps;
  return read_habits(s, a, &t->habits, diag);
}

// ---- data ----

static MuseStatus open_data(MuseTraining *t, const Arguments *a, MuseDiag *diag) {
  MuseSession *s = &t->session;
  if (!a->data == !a->tokens)
    return muse_error(
        diag, MUSE_ERR_INPUT,
        a->data
            ? "give either --data or --tokens, not both"
            : "name the text to train on with --data: a token set (muse-data tokenize makes one) or a recipe .yaml");
  if (a->tokens && !muse_str_ends_with(a->tokens, ".safetensors"))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--tokens takes a .safetensors file with a tensor 'tokens'; token sets go to --data");
  double validation = isnan(a->validation) ? 0.02 : a->validation;
  if (!(validation >= 0 && validation < 1))
    return muse_error(diag, MUSE_ERR_INPUT, "--validation takes a share from 0 to below 1, not %g", validation);
  if (!s->tokenizer && a->sample_interval > 0)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' names no tokenizer, so there are no samples of text; leave --sample-interval out, or set "
                      "tokenizer in the configuration",
                      s->path);
  if (s->tokenizer) MUSE_TRY(muse_session_tokenizer(s, NULL, &t->tokenizer, diag));
  MuseDataOptions o = {.row_tokens = s->n_seq,
                       .vocab_size = s->vocab_size,
                       .eos = s->eos,
                       .seed = s->seed,
                       .shuffle = true,
                       .validation_share = validation,
                       .tokenizer_hash = t->tokenizer ? muse_tokenizer_hash(t->tokenizer) : 0};
  MUSE_TRY(muse_data_open(a->data ? a->data : a->tokens, &o, &t->data, diag));
  int64_t ready = muse_data_n_steps(t->data);
  // the schedule stays the plan's
  if (ready >= 0 && ready / s->accumulation < t->last_step) t->last_step = ready / s->accumulation;
  size_t n = (size_t)(s->accumulation * s->batch * (s->n_seq + 1));
  t->rows = calloc(n, sizeof *t->rows);
  if (!t->rows) muse_out_of_memory(n * sizeof *t->rows);
  return MUSE_OK;
}

// ---- the run folder ----

static bool is_filled(const char *dir, const char *name) {
  MuseStr path = {0};
  struct stat st;
  muse_str_appendf(&path, "%s/%s", dir, name);
  bool filled = stat(path.data, &st) == 0 && st.st_size > 0;
  muse_str_free(&path);
  return filled;
}

// One run at a time in a folder; the lock goes with the process, however it ends.
static MuseStatus lock_run(MuseTraining *t, MuseDiag *diag) {
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/.lock", t->run_dir);
  t->lock = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  MuseStatus status = MUSE_OK;
  if (t->lock < 0)
    status = muse_error(diag, errno == EISDIR ? MUSE_ERR_INPUT : MUSE_ERR_FAILED,
                        "cannot open '%s': %s", path.data, strerror(errno));
  else if (flock(t->lock, LOCK_EX | LOCK_NB) != 0)
    status = muse_error(diag, MUSE_ERR_INPUT,
                        "another muse-run trains in '%s'; wait for it, or take another folder with -o", t->run_dir);
  muse_str_free(&path);
  return status;
}

// runs/NAME of NAME.plan.
static void default_run_dir(const char *plan, MuseStr *out) {
  const char *slash = strrchr(plan, '/'), *name = slash ? slash + 1 : plan, *dot = strrchr(name, '.');
  muse_str_append(out, "runs/");
  muse_str_append_n(out, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

static MuseStatus open_run_dir(MuseTraining *t, const Arguments *a, MuseDiag *diag) {
  MUSE_TRY(muse_make_dirs(t->run_dir, 0777, diag));
  MUSE_TRY(lock_run(t, diag));
  if (!a->resume && (muse_checkpoint_exists(t->run_dir) || is_filled(t->run_dir, "metrics.jsonl")))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' holds a run already; go on with it by --resume, or take another folder with -o",
                      t->run_dir);
  return MUSE_OK;
}

// A configuration's plan stays with its run, for eval and generate.
static MuseStatus keep_plan(const MuseTraining *t, MuseDiag *diag) {
  MuseStr path = {0};
  if (!t->run_dir || !muse_is_config(t->session.path)) return MUSE_OK;
  muse_str_appendf(&path, "%s/model.plan", t->run_dir);
  MuseStatus status = muse_plan_save(t->session.plan->module, path.data, diag);
  muse_str_free(&path);
  return status;
}

// ---- parameters ----

static MuseStatus resume(MuseTraining *t, MuseDiag *diag) {
  MuseCheckpoint *checkpoint;
  MUSE_TRY(muse_checkpoint_open(t->run_dir, &checkpoint, diag));
  const char *config = t->state.config_text;
  MuseHash plan = t->state.plan_hash;
  uint64_t tokenizer = t->state.tokenizer_hash;
  t->state = *muse_checkpoint_state(checkpoint);
  bool other_plan = t->state.plan_hash.lo != plan.lo || t->state.plan_hash.hi != plan.hi;
  MuseStatus status = MUSE_OK;
  if (t->state.seed != t->session.seed)
    status = muse_error(diag, MUSE_ERR_DATA, "the run in '%s' has the seed %u, the plan has %u; give --seed %u",
                        t->run_dir, t->state.seed, t->session.seed, t->state.seed);
  if (status == MUSE_OK)
    status = muse_session_check_tokenizer(&t->session, muse_checkpoint_path(checkpoint), t->state.tokenizer_hash, diag);
  if (status == MUSE_OK) status = muse_params_restore(&t->session, checkpoint, &t->tensors, diag);
  if (status == MUSE_OK && !t->session.quiet)
    fprintf(stderr, "resumed '%s' after step %llu%s\n", muse_checkpoint_path(checkpoint),
            (unsigned long long)t->state.step,
            other_plan ? "; the plan is another one than the checkpoint's, and counts from here on" : "");
  muse_checkpoint_close(checkpoint);
  t->state.config_text = config;
  t->state.plan_hash = plan;
  if (tokenizer) t->state.tokenizer_hash = tokenizer;
  t->saved_step = other_plan ? -1 : (int64_t)t->state.step;
  return status;
}

// Where the parameters of a run that starts come from.
static MuseParamsOptions start_of(const Arguments *a) {
  MuseStr file = {0};
  bool is_file = a->init && muse_compressed_path(a->init, &file);
  muse_str_free(&file);
  return (MuseParamsOptions){.checkpoint = is_file ? NULL : a->init, .params = is_file ? a->init : a->params};
}

static MuseStatus load_parameters(MuseTraining *t, const Arguments *a, MuseDiag *diag) {
  MuseSession *s = &t->session;
  t->state = (MuseRunState){.seed = s->seed, .best_validation_loss = INFINITY, .plan_hash = s->plan_hash,
                            .tokenizer_hash = s->tokenizer_hash};
  MUSE_TRY(muse_session_text(s, "config", &t->state.config_text, diag));
  if (a->resume && muse_checkpoint_exists(t->run_dir)) {
    MUSE_TRY(resume(t, diag));
    return muse_session_refresh(s, diag);
  }
  if (a->resume && !s->quiet)
    fprintf(stderr, "'%s' holds no checkpoint yet; the run starts from the beginning\n", t->run_dir);
  MuseParamsOptions from = start_of(a);
  MUSE_TRY(muse_executor_zero(s->executor, "moment", diag));
  return muse_session_load(s, &from, NULL, diag);
}

// --check=eval: one step on the first batch, kernel by kernel. What it changes is loaded again afterwards.
static MuseStatus check_step(MuseTraining *t, MuseDiag *diag) {
  static const char *const functions[] = {"setup", "pack", "loss", "grad", "norms", "update"};
  MuseSession *s = &t->session;
  MuseDataCursor cursor = t->state.cursor;
  MuseCheckReport report = {0};
  MuseStepResult ignored;
  MuseStatus status = MUSE_OK;
  int64_t micro_rows = s->batch * (s->n_seq + 1);
  for (int64_t i = 0; i < s->accumulation; i++)
    MUSE_TRY(muse_data_next(t->data, &cursor, s->batch, t->rows + i * micro_rows, diag));
  MUSE_TRY(muse_stepper_run(&t->stepper, t->state.step, t->rows, &ignored, diag)); // fills the scalars of a step
  for (int i = 0; i < 6; i++) {
    if (!muse_executor_has_function(s->executor, functions[i])) continue;
    MuseStatus one = muse_check_eval(s, functions[i], &report, diag);
    if (one != MUSE_OK) status = one;
  }
  muse_check_report_print(&report, stderr);
  muse_check_report_free(&report);
  return status;
}

// ---- the run ----

// Options that would be passed over in silence beside the others.
static MuseStatus check_options(const MuseTraining *t, const Arguments *a, MuseDiag *diag) {
  const char *of_data = !isnan(a->validation)     ? "validation"
                        : a->eval_interval > 0    ? "eval-interval"
                        : a->eval_batches > UNSET ? "eval-batches"
                                                  : NULL;
  if (a->tokens && !a->data && of_data)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--%s is for text of --data; of --tokens nothing is held out, so leave it out", of_data);
  if (!t->run_dir && (a->save_interval > 0 || a->keep > 0))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--%s is for checkpoints; name their folder with -o RUN_DIR, or leave it out",
                      a->save_interval > 0 ? "save-interval" : "keep");
  return MUSE_OK;
}

// Warnings and notes so far are of the start, so they are shown before the long part.
static void show_notes(MuseDiag *diag) {
  muse_diag_print(diag, stderr);
  muse_diag_clear(diag);
}

static MuseStatus prepare_kernels(MuseTraining *t, MuseDiag *diag) {
  const char *functions[16];
  int n = 0;
  for (; muse_step_functions[n]; n++) functions[n] = muse_step_functions[n];
  if (t->habits.eval_interval > 0) functions[n++] = "loss";
  if (t->habits.sample_interval > 0 && t->tokenizer) {
    functions[n++] = "decode";
    MUSE_TRY(muse_decoder_create(&t->session, &t->decoder, diag));
  }
  functions[n] = NULL;
  return muse_session_prepare(&t->session, functions, diag);
}

static MuseStatus open_metrics(MuseTraining *t, MuseDiag *diag) {
  if (!t->run_dir) return MUSE_OK;
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/metrics.jsonl", t->run_dir);
  MuseStatus status = muse_metrics_open(path.data, t->state.step ? (int64_t)t->state.step : -1, &t->metrics, diag);
  muse_str_free(&path);
  return status == MUSE_OK ? muse_record_start(t, diag) : status;
}

static void print_end(const MuseTraining *t) {
  if (t->session.quiet || t->json) return;
  MuseStr shares = {0};
  muse_data_report_text(t->data, &t->state.cursor, &shares);
  fputs(muse_str_text(&shares), stderr);
  muse_str_free(&shares);
  printf("step %llu", (unsigned long long)t->state.step);
  if (t->state.tokens) printf(": loss %.4f", t->state.smoothed_loss);
  if (isfinite(t->state.best_validation_loss)) printf(", best validation loss %.4f", t->state.best_validation_loss);
  printf(", %llu tokens in %.1f s", (unsigned long long)t->state.tokens, t->state.seconds);
  if (t->run_dir) printf(", saved in %s", t->run_dir);
  putchar('\n');
}

static MuseStatus train(MuseTraining *t, const char *plan, const Arguments *a, MuseDiag *diag) {
  MuseSession *s = &t->session;
  bool check;
  MUSE_TRY(muse_check_option(a->check, &check, diag));
  if (a->init && a->params)
    return muse_error(diag, MUSE_ERR_INPUT, "start either from --init or from --params, not from both");
  if (a->resume && (a->init || a->params) && t->run_dir && muse_checkpoint_exists(t->run_dir))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--resume takes the parameters of the run in '%s'; leave --init and --params out, or start "
                      "another run with -o",
                      t->run_dir);
  if (a->init && access(a->init, F_OK) != 0)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "there is no '%s' to start from; muse-run compress makes a compressed model, muse-run train a "
                      "checkpoint",
                      a->init);
  if (a->output && !*a->output)
    return muse_error(diag, MUSE_ERR_INPUT, "-o takes the folder of the run, not an empty name");
  if (a->resume && !t->run_dir)
    return muse_error(diag, MUSE_ERR_INPUT, "--resume needs the folder of the run: -o RUN_DIR");
  MUSE_TRY(check_options(t, a, diag));
  MUSE_TRY(muse_session_open(plan, &a->session, s, diag));
  MuseParamsOptions start = start_of(a);
  if (a->resume && muse_checkpoint_exists(t->run_dir)) start = (MuseParamsOptions){.checkpoint = t->run_dir};
  else MUSE_TRY(muse_params_options_check(&start, diag));
  MUSE_TRY(muse_params_options_fit(s, &start, diag));
  MUSE_TRY(read_numbers(t, a, diag));
  MUSE_TRY(open_data(t, a, diag));
  if (t->run_dir) MUSE_TRY(open_run_dir(t, a, diag));
  MUSE_TRY(prepare_kernels(t, diag));
  muse_params_tensors(s, false, &t->tensors);
  MUSE_TRY(load_parameters(t, a, diag));
  MUSE_TRY(muse_data_check_cursor(t->data, &t->state.cursor, diag)); // a refused run stays as it was
  MUSE_TRY(keep_plan(t, diag));
  if (check) {
    MUSE_TRY(check_step(t, diag));
    MUSE_TRY(load_parameters(t, a, diag));
  }
  MUSE_TRY(open_metrics(t, diag));
  if (t->run_dir && !s->quiet)
    fprintf(stderr, "training to step %lld; checkpoints and metrics.jsonl in '%s'\n", (long long)t->last_step,
            t->run_dir);
  t->stop_step = a->stop_after == UNSET ? INT64_MAX : (int64_t)t->state.step + a->stop_after;
  if ((int64_t)t->state.step >= t->last_step && t->state.step > 0 && !s->quiet)
    fprintf(stderr, "nothing is left to do: the run is at step %llu; --steps N goes further\n",
            (unsigned long long)t->state.step);
  show_notes(diag);
  if (!s->quiet) muse_catch_stop("\nstopping: this step is finished and saved first; once more stops at once\n");
  MuseProgressOptions po = {.out = stderr,
                            .first_step = (int64_t)t->state.step,
                            .n_steps = t->last_step,
                            .every_steps = t->habits.log_interval,
                            .quiet = s->quiet};
  t->progress = muse_progress_create(&po);
  t->started_at = (int64_t)t->state.step;
  MuseStatus status = muse_training_loop(t, diag);
  muse_progress_destroy(t->progress);
  t->progress = NULL;
  MuseStatus saved = muse_params_save_finish(&t->saving, diag);
  if (saved != MUSE_OK && (status == MUSE_OK || status == MUSE_ERR_STOPPED)) status = saved;
  if (status == MUSE_OK) status = muse_record_kernels(t, diag);
  if (status == MUSE_OK) print_end(t);
  return status;
}

static void release(MuseTraining *t) {
  muse_params_save_finish(&t->saving, NULL); // waits; a run that ended well has none any more
  muse_progress_destroy(t->progress);
  muse_vec_free(&t->tensors);
  muse_stepper_destroy(&t->stepper);
  muse_data_close(t->data);
  muse_tokenizer_close(t->tokenizer);
  muse_session_close(&t->session);
  free(t->rows);
  if (t->lock >= 0) close(t->lock);
}

MuseStatus muse_command_train(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.steps = UNSET,
                 .stop_after = UNSET,
                 .seed = UNSET,
                 .log_interval = UNSET,
                 .eval_interval = UNSET,
                 .eval_batches = UNSET,
                 .save_interval = UNSET,
                 .keep = UNSET,
                 .sample_interval = UNSET,
                 .learning_rate = NAN,
                 .validation = NAN};
  const MuseOption table[] = {
      {"data", 'd', MUSE_OPT_TEXT, "SPEC",
       "Train on a token set NAME (muse-data tokenize makes one) or on a recipe .yaml that mixes several.", &a.data},
      {"output", 'o', MUSE_OPT_TEXT, "RUN_DIR",
       "Folder for checkpoints and metrics.jsonl (runs/NAME of NAME.plan; none with --tokens).", &a.output},
      {"resume", 'r', MUSE_OPT_FLAG, NULL, "Go on with the run in RUN_DIR, exactly as if it had not been interrupted.",
       &a.resume},
      {"init", 0, MUSE_OPT_TEXT, "DIR",
       "Start with the parameters of a checkpoint, or of a compressed model (its folder or its file).", &a.init},
      {"params", 'p', MUSE_OPT_TEXT, "FILE", "Start with the parameters of a safetensors file.", &a.params},
      {"tokens", 0, MUSE_OPT_TEXT, "FILE",
       "Take the batches from the tensor 'tokens' [steps, B, n_seq + 1] of a safetensors file.", &a.tokens},
      {"steps", 'n', MUSE_OPT_INT, "N", "Train to step N instead of max_steps; the learning rate follows.", &a.steps},
      {"stop-after", 0, MUSE_OPT_INT, "N", "End this call after N steps, saved; --resume goes on.", &a.stop_after},
      {"learning-rate", 0, MUSE_OPT_REAL, "X", "Peak learning rate (learning_rate).", &a.learning_rate},
      {"seed", 0, MUSE_OPT_INT, "S", "Seed of parameters, rounding and order of the text (seed).", &a.seed},
      {"validation", 0, MUSE_OPT_REAL, "SHARE", "Hold out this share of the text for validation (0.02).",
       &a.validation},
      {"eval-interval", 0, MUSE_OPT_INT, "N", "Steps between validations (eval_interval); 0: never.", &a.eval_interval},
      {"eval-batches", 0, MUSE_OPT_INT, "N", "Micro-batches of a validation (eval_batches).", &a.eval_batches},
      {"save-interval", 0, MUSE_OPT_INT, "N", "Steps between checkpoints (save_interval); 0: only at the end.",
       &a.save_interval},
      {"keep", 0, MUSE_OPT_INT, "N", "Keep the newest N checkpoints (keep_checkpoints); 0: all.", &a.keep},
      {"sample-interval", 0, MUSE_OPT_INT, "N", "Steps between samples of text (sample_interval); 0: never.",
       &a.sample_interval},
      {"log-interval", 0, MUSE_OPT_INT, "N",
       "Steps between lines of progress where there is no terminal (log_interval).", &a.log_interval},
      {"set", 0, MUSE_OPT_LIST, "KEY=VALUE", "Override a key of the configuration; may be repeated.", &a.sets},
      MUSE_CHECK_OPTION_ROW(a.check),
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object a step with loss and gradient norm in full precision.",
       &a.json},
      MUSE_SESSION_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseStr run_dir = {0};
  MuseTraining t = {.lock = -1, .saved_step = -1, .json = false};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run train [options] CONFIG.yaml|PLAN --data SPEC",
                      "Trains the model of a configuration or plan. Ctrl-C finishes the step, saves and stops.",
                      stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "train", &plan, diag);
    if (status == MUSE_OK) {
      if (a.output) muse_str_append(&run_dir, a.output);
      else if (!a.tokens) default_run_dir(plan, &run_dir);
      t.run_dir = run_dir.len ? run_dir.data : NULL;
      t.json = a.json;
      a.session.train = true;
      a.session.sets = &a.sets;
      signal(SIGPIPE, SIG_IGN); // a reader that went away is no reason to lose steps; the loop sees the failed write
      t.stop = muse_catch_stop(NULL);
      status = train(&t, plan, &a, diag);
      MuseStatus closed = muse_metrics_close(t.metrics, diag);
      if (status == MUSE_OK) status = closed;
    }
  }
  release(&t);
  muse_text_list_free(&a.sets);
  muse_str_free(&run_dir);
  muse_text_list_free(&operands);
  return status;
}
