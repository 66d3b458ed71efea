// The command `eval`: the loss on text.
#include "runtime/check_eval.h"
#include "runtime/commands.h"
#include "runtime/generate.h"
#include "runtime/metrics.h"
#include "runtime/mixture.h"
#include "runtime/train.h"

#include <math.h>
#include <stdlib.h>

typedef struct Arguments {
  MuseSessionOptions session;
  MuseParamsOptions params;
  const char *data, *tokens;
  int64_t batches;
  double validation;
  bool json;
} Arguments;

// All batches of a tensor; no text is held out there.
static MuseStatus evaluate_tensor(MuseSession *s, MuseDataSource *data, int64_t batches, double *out_loss,
                                  MuseDiag *diag) {
  MuseType scalar = muse_scalar_type(MUSE_F32);
  MuseDataCursor cursor = {0};
  const MuseBuffer *loss;
  float one = 0;
  double sum = 0;
  MUSE_TRY(muse_session_buffer(s, "loss", &scalar, &loss, diag));
  int32_t *rows = calloc((size_t)(s->batch * (s->n_seq + 1)), sizeof *rows);
  if (!rows) muse_out_of_memory((size_t)(s->batch * (s->n_seq + 1)) * sizeof *rows);
  MuseStatus status = MUSE_OK;
  for (int64_t i = 0; i < batches && status == MUSE_OK; i++) {
    status = muse_data_next(data, &cursor, s->batch, rows, diag);
    if (status == MUSE_OK) status = muse_session_set_rows(s, rows, diag);
    if (status == MUSE_OK) status = muse_executor_run(s->executor, "loss", diag);
    if (status == MUSE_OK) status = muse_executor_read(s->executor, loss, 0, &one, sizeof one, diag);
    sum += (double)one;
  }
  free(rows);
  *out_loss = sum / (double)batches;
  return status;
}

static void print_result(const Arguments *a, uint64_t step, int64_t batches, int64_t tokens, double loss, bool bytes) {
  if (!a->json) {
    printf("loss %.6f nats a token", loss);
    if (bytes) printf(", %.4f bits a byte", loss / M_LN2);
    else printf(", perplexity %.3f", exp(loss));
    printf(", over %lld tokens\n", (long long)tokens);
    return;
  }
  MuseStr line = {0};
  muse_str_appendf(&line, "{\"step\":%llu,\"loss\":", (unsigned long long)step);
  muse_json_append_real(&line, loss);
  muse_str_append(&line, ",\"perplexity\":");
  muse_json_append_real(&line, exp(loss));
  if (bytes) {
    muse_str_append(&line, ",\"bits_per_byte\":");
    muse_json_append_real(&line, loss / M_LN2);
  }
  muse_str_appendf(&line, ",\"batches\":%lld,\"tokens\":%lld}", (long long)batches, (long long)tokens);
  puts(muse_str_text(&line));
  muse_str_free(&line);
}

static MuseStatus evaluate(const char *plan, const Arguments *a, MuseSession *s, MuseTokenizer **tokenizer,
                           MuseDataSource **data, MuseDiag *diag) {
  static const char *const functions[] = {"setup", "pack", "loss", NULL};
  uint64_t step;
  double loss = 0;
  bool any = true;
  if (!a->data == !a->tokens)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "name the text by --data (a token set or a recipe) or by --tokens, one of the two");
  if (a->batches < 0) return muse_error(diag, MUSE_ERR_INPUT, "--batches takes a number from 0 on");
  if (a->tokens && !isnan(a->validation))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--validation is for --data; all batches of --tokens are used, so leave it out");
  double validation = isnan(a->validation) ? 0.02 : a->validation;
  if (!(validation > 0 && validation < 1))
    return muse_error(diag, MUSE_ERR_INPUT, "--validation takes a share above 0 and below 1");
  MUSE_TRY(muse_params_options_check(&a->params, diag));
  MUSE_TRY(muse_session_open(plan, &a->session, s, diag));
  MUSE_TRY(muse_params_options_fit(s, &a->params, diag));
  if (!muse_executor_has_function(s->executor, "loss"))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has no function @loss; run musec again", plan);
  if (s->tokenizer) MUSE_TRY(muse_session_tokenizer(s, NULL, tokenizer, diag));
  MuseDataOptions o = {.row_tokens = s->n_seq,
                       .vocab_size = s->vocab_size,
                       .eos = s->eos,
                       .seed = s->seed,
                       .shuffle = true,
                       .validation_share = validation,
                       .tokenizer_hash = *tokenizer ? muse_tokenizer_hash(*tokenizer) : 0};
  MUSE_TRY(muse_data_open(a->data ? a->data : a->tokens, &o, data, diag));
  MUSE_TRY(muse_session_prepare(s, functions, diag));
  MUSE_TRY(muse_session_load(s, &a->params, &step, diag));
  muse_params_note_untrained(s, &a->params);
  int64_t ready = muse_data_n_steps(*data), all = ready >= 0 ? ready : muse_data_validation_rows(*data) / s->batch;
  int64_t batches = a->batches == 0 || a->batches > all ? all : a->batches;
  if (batches < 1) batches = 1;
  if (ready >= 0) MUSE_TRY(evaluate_tensor(s, *data, batches, &loss, diag));
  else MUSE_TRY(muse_validate(s, *data, batches, &any, &loss, diag));
  if (!any)
    return muse_error(diag, MUSE_ERR_INPUT, "no text is held out for validation; add text or raise --validation");
  print_result(a, step, batches, batches * s->batch * s->n_seq, loss,
               *tokenizer && muse_str_eq(muse_tokenizer_name(*tokenizer), "bytes"));
  if (!isfinite(loss))
    return muse_error(diag, MUSE_ERR_NUMERIC, "the loss is %g; the parameters are damaged or the model diverged", loss);
  return MUSE_OK;
}

MuseStatus muse_command_eval(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.session = {.inference = true}, .validation = NAN};
  const MuseOption table[] = {
      MUSE_PARAMS_OPTION_ROWS(a.params),
      {"data", 'd', MUSE_OPT_TEXT, "SPEC",
       "Held-out rows of a token set NAME or of a recipe .yaml, the same as in training.", &a.data},
      {"tokens", 0, MUSE_OPT_TEXT, "FILE",
       "All batches of the tensor 'tokens' [steps, B, n_seq + 1] of a safetensors file.", &a.tokens},
      {"batches", 'n', MUSE_OPT_INT, "N", "Use N micro-batches (0: all there are).", &a.batches},
      {"validation", 0, MUSE_OPT_REAL, "SHARE", "Share of the text that is held out (0.02), as in training.",
       &a.validation},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object.", &a.json},
      MUSE_SESSION_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseSession session = {0};
  MuseTokenizer *tokenizer = NULL;
  MuseDataSource *data = NULL;
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run eval [options] PLAN --data SPEC --checkpoint DIR",
                      "Measures the mean loss on held-out text.", stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "eval", &plan, diag);
    if (status == MUSE_OK) status = evaluate(plan, &a, &session, &tokenizer, &data, diag);
  }
  muse_data_close(data);
  muse_tokenizer_close(tokenizer);
  muse_session_close(&session);
  muse_text_list_free(&operands);
  return status;
}
