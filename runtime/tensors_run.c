// The command `tensors`: what the model computes on given parameters and tokens, in a file that other programs read.
#include "ir/base/io.h"
#include "ir/base/vec.h"
#include "runtime/check_eval.h"
#include "runtime/commands.h"
#include "runtime/mixture.h"
#include "runtime/params.h"
#include "runtime/sampler.h"
#include "runtime/step.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Arguments {
  MuseSessionOptions session;
  MuseParamsOptions params;
  const char *tokens, *output, *check;
  int64_t step;
  bool decode;
} Arguments;

// The tensors of the file; names and data that were made for it are in the arena.
typedef struct Output {
  MuseArena *arena;
  MUSE_VEC(MuseStoredTensor) tensors;
} Output;

static void add(Output *out, const char *name, MuseDtype dtype, int rank, const int64_t *shape, const void *data) {
  muse_vec_push(&out->tensors, muse_stored_tensor(name, muse_stored_type_of(dtype), rank, shape, data));
}

// A copy of a buffer in the arena.
static MuseStatus content(const MuseSession *s, const MuseBuffer *b, Output *out, const void **out_data,
                          MuseDiag *diag) {
  size_t bytes = (size_t)muse_type_bytes(b->type);
  void *data = muse_arena_alloc(out->arena, bytes);
  *out_data = data;
  return muse_executor_read(s->executor, b, 0, data, bytes, diag);
}

static MuseStatus add_buffer(const MuseSession *s, const MuseBuffer *b, int rank, const int64_t *shape, Output *out,
                             MuseDiag *diag) {
  const void *data;
  MUSE_TRY(content(s, b, out, &data, diag));
  add(out, b->name, b->type.dtype, rank, shape, data);
  return MUSE_OK;
}

// layers.N.green [B,H,T,2] from green.N.re and green.N.im [B,T,H].
static MuseStatus add_green(const MuseSession *s, int64_t layer, Output *out, MuseDiag *diag) {
  char name[64];
  snprintf(name, sizeof name, "green.%lld.re", (long long)layer);
  const MuseBuffer *re = muse_module_buffer(s->module, name);
  snprintf(name, sizeof name, "green.%lld.im", (long long)layer);
  const MuseBuffer *im = muse_module_buffer(s->module, name);
  if (!re || !im || re->type.rank != 3 || re->type.dtype != MUSE_F32 || !muse_type_eq(re->type, im->type))
    return MUSE_OK;
  int64_t B = re->type.dim[0], T = re->type.dim[1], H = re->type.dim[2];
  const float *x, *y;
  MUSE_TRY(content(s, re, out, (const void **)&x, diag));
  MUSE_TRY(content(s, im, out, (const void **)&y, diag));
  float *g = MUSE_NEW_ARRAY(out->arena, float, 2 * B * T * H);
  for (int64_t b = 0; b < B; b++)
    for (int64_t t = 0; t < T; t++)
      for (int64_t h = 0; h < H; h++) {
        int64_t from = (b * T + t) * H + h, to = ((b * H + h) * T + t) * 2;
        g[to] = x[from];
        g[to + 1] = y[from];
      }
  const int64_t shape[4] = {B, H, T, 2};
  add(out, muse_arena_printf(out->arena, "layers.%lld.green", (long long)layer), MUSE_F32, 4, shape, g);
  return MUSE_OK;
}

// Gradients of the loss of this one micro-batch: those of a step are divided by the number of micro-batches.
static MuseStatus add_gradients(const MuseSession *s, Output *out, MuseDiag *diag) {
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    if (strcmp(b->role, "grad") != 0) continue;
    const void *data;
    MUSE_TRY(content(s, b, out, &data, diag));
    if (b->type.dtype == MUSE_F32 && s->accumulation > 1)
      for (int64_t j = 0, n = muse_type_elements(b->type); j < n; j++) ((float *)data)[j] *= (float)s->accumulation;
    add(out, b->name, b->type.dtype, b->type.rank, b->type.dim, data);
  }
  return MUSE_OK;
}

static MuseStatus read_rows(const MuseSession *s, const Arguments *a, MuseDiag *diag) {
  MuseDataOptions o = {.row_tokens = s->n_seq, .vocab_size = s->vocab_size, .eos = s->eos, .seed = s->seed};
  MuseDataSource *data = NULL;
  int64_t n = s->batch * (s->n_seq + 1);
  int32_t *rows = calloc((size_t)n, sizeof *rows);
  if (!rows) muse_out_of_memory((size_t)n * sizeof *rows);
  MuseDataCursor cursor = {0};
  MuseStatus status = muse_data_open(a->tokens, &o, &data, diag);
  if (status == MUSE_OK && a->step >= muse_data_n_steps(data))
    status = muse_error(diag, MUSE_ERR_INPUT, "'%s' holds %lld steps; --step goes from 0 to %lld", a->tokens,
                        (long long)muse_data_n_steps(data), (long long)muse_data_n_steps(data) - 1);
  for (int64_t i = 0; i <= a->step && status == MUSE_OK; i++)
    status = muse_data_next(data, &cursor, s->batch, rows, diag);
  if (status == MUSE_OK) status = muse_session_set_rows(s, rows, diag);
  muse_data_close(data);
  free(rows);
  return status;
}

// decode.logits [B,T,V]: the same rows token by token, by the function that generation uses.
static MuseStatus add_decoded(MuseSession *s, Output *out, MuseDiag *diag) {
  MuseDecoder decoder;
  MUSE_TRY(muse_decoder_create(s, &decoder, diag));
  int64_t B = s->batch, T = s->n_seq, V = s->vocab_size;
  const int32_t *tokens;
  const MuseBuffer *buffer;
  MuseType rows = muse_type2(MUSE_I32, B, T);
  MUSE_TRY(muse_session_buffer(s, "tokens", &rows, &buffer, diag));
  MUSE_TRY(content(s, buffer, out, (const void **)&tokens, diag));
  float *logits = MUSE_NEW_ARRAY(out->arena, float, B * T * V);
  for (int64_t b = 0; b < B; b++) {
    MUSE_TRY(muse_decoder_reset(&decoder, diag));
    for (int64_t t = 0; t < T; t++) {
      MUSE_TRY(muse_decoder_feed(&decoder, tokens[b * T + t], diag));
      MUSE_TRY(muse_decoder_logits(&decoder, logits + (b * T + t) * V, diag));
    }
  }
  const int64_t shape[3] = {B, T, V};
  add(out, "decode.logits", MUSE_F32, 3, shape, logits);
  return MUSE_OK;
}

// Runs a function, or checks it kernel by kernel, which runs it too.
static MuseStatus run_function(MuseSession *s, const char *name, bool check, MuseCheckReport *report, MuseDiag *diag) {
  if (!muse_executor_has_function(s->executor, name)) return MUSE_OK;
  return check ? muse_check_eval(s, name, report, diag) : muse_executor_run(s->executor, name, diag);
}

static MuseStatus collect(MuseSession *s, bool check, Output *out, MuseDiag *diag) {
  MuseCheckReport report = {0};
  MuseStatus status = check ? run_function(s, "pack", true, &report, diag) : MUSE_OK, one;
  MUSE_TRY(muse_executor_zero(s->executor, "grad", diag));
  MUSE_TRY(muse_session_set_rng(s, s->seed, 0, diag));
  static const char *const functions[] = {"inspect",
                                          "grad"}; // grad last: its loss is the one that belongs to the gradients
  for (int i = 0; i < 2; i++)
    if ((one = run_function(s, functions[i], check, &report, diag)) != MUSE_OK) status = one;
  if (check) muse_check_report_print(&report, stderr);
  muse_check_report_free(&report);
  MUSE_TRY(status);
  const MuseBuffer *loss = muse_module_buffer(s->module, "loss"), *logits = muse_module_buffer(s->module, "logits");
  if (loss) MUSE_TRY(add_buffer(s, loss, loss->type.rank, loss->type.dim, out, diag));
  const int64_t shape[3] = {s->batch, s->n_seq, s->vocab_size};
  if (logits && muse_type_elements(logits->type) == shape[0] * shape[1] * shape[2])
    MUSE_TRY(add_buffer(s, logits, 3, shape, out, diag));
  for (int64_t layer = 0; layer < s->n_layers; layer++) MUSE_TRY(add_green(s, layer, out, diag));
  return add_gradients(s, out, diag);
}

static bool is_same_file(const char *a, const char *b) {
  struct stat x, y;
  return b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static MuseStatus tensors(const char *plan, const Arguments *a, MuseSession *s, Output *out, MuseDiag *diag) {
  const char *const functions[] = {"setup", "pack", "inspect", "grad", a->decode ? "decode" : NULL, NULL};
  bool check;
  if (!a->tokens || !a->output)
    return muse_error(diag, MUSE_ERR_INPUT, "muse-run tensors needs --tokens FILE and --out FILE");
  if (!muse_str_ends_with(a->tokens, ".safetensors"))
    return muse_error(diag, MUSE_ERR_INPUT, "--tokens takes a .safetensors file with a tensor 'tokens'");
  if (a->step < 0) return muse_error(diag, MUSE_ERR_INPUT, "--step takes a number from 0 on");
  if (is_same_file(a->output, a->tokens) || is_same_file(a->output, a->params.params))
    return muse_error(diag, MUSE_ERR_INPUT, "--out would overwrite '%s', which is read; give another name", a->output);
  MUSE_TRY(muse_check_option(a->check, &check, diag));
  MUSE_TRY(muse_params_options_check(&a->params, diag));
  MUSE_TRY(muse_session_open(plan, &a->session, s, diag));
  MUSE_TRY(muse_params_options_fit(s, &a->params, diag));
  MUSE_TRY(read_rows(s, a, diag));
  MUSE_TRY(muse_make_parent_dirs(a->output, diag)); // before the work, not after it
  MUSE_TRY(muse_session_prepare(s, functions, diag));
  MUSE_TRY(muse_session_load(s, &a->params, NULL, diag));
  MUSE_TRY(collect(s, check, out, diag));
  if (a->decode) MUSE_TRY(add_decoded(s, out, diag));
  MUSE_TRY(muse_safetensors_write(a->output, out->tensors.data, out->tensors.len, NULL, 0, NULL, diag));
  printf("%s: %zu tensors\n", a->output, out->tensors.len);
  return MUSE_OK;
}

MuseStatus muse_command_tensors(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {0};
  const MuseOption table[] = {
      MUSE_PARAMS_OPTION_ROWS(a.params),
      {"tokens", 0, MUSE_OPT_TEXT, "FILE", "Safetensors file with the tensor 'tokens' [steps, B, n_seq + 1].",
       &a.tokens},
      {"out", 'o', MUSE_OPT_TEXT, "FILE", "Write logits, loss, grad.NAME and layers.N.green there, as safetensors.",
       &a.output},
      {"step", 0, MUSE_OPT_INT, "I", "Use this step of 'tokens' (0).", &a.step},
      {"decode", 0, MUSE_OPT_FLAG, NULL, "Write decode.logits too, made token by token as generation does.", &a.decode},
      MUSE_CHECK_OPTION_ROW(a.check),
      MUSE_SESSION_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseSession session = {0};
  Output out = {.arena = muse_arena_create()};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(
        table, "muse-run tensors [options] PLAN --params FILE --tokens FILE --out FILE",
        "Writes what the model computes, under the names of docs/model.md, to compare it with another program.",
        stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "tensors", &plan, diag);
    if (status == MUSE_OK) status = tensors(plan, &a, &session, &out, diag);
  }
  muse_vec_free(&out.tensors);
  muse_arena_destroy(out.arena);
  muse_session_close(&session);
  muse_text_list_free(&operands);
  return status;
}
