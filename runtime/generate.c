// Text generation, and the command `generate`.
#include "runtime/generate.h"

#include "runtime/commands.h"
#include "runtime/metrics.h"
#include "runtime/signals.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t muse_utf8_whole(const char *text, size_t length) {
  const unsigned char *p = (const unsigned char *)text;
  // Only the last three bytes can begin a sequence that is not whole.
  for (size_t back = 1; back <= 3 && back <= length; back++) {
    unsigned char c = p[length - back];
    if ((c & 0xC0) == 0x80) continue;
    size_t need = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 1;
    return need > back ? length - back : length;
  }
  return length;
}

MuseStatus muse_session_tokenizer(MuseSession *s, const char *name, MuseTokenizer **out, MuseDiag *diag) {
  *out = NULL;
  if (!name) name = s->tokenizer;
  if (!name)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' names no tokenizer; give one with --tokenizer, or set tokenizer in its configuration",
                      s->path);
  MUSE_TRY(muse_tokenizer_open(name, out, diag));
  s->tokenizer_hash = muse_tokenizer_hash(*out);
  if (muse_tokenizer_vocab_size(*out) <= s->vocab_size) return MUSE_OK;
  long long ids = (long long)muse_tokenizer_vocab_size(*out);
  muse_tokenizer_close(*out);
  *out = NULL;
  return muse_error(diag, MUSE_ERR_DATA, "the tokenizer '%s' has %lld ids, the model's vocab_size is %lld", name, ids,
                    (long long)s->vocab_size);
}

// Hands the whole characters of `pending` on and keeps the rest.
static void flush_text(MuseStr *pending, bool all, bool raw, MuseTextFn fn, void *context) {
  size_t n = all || raw ? pending->len : muse_utf8_whole(muse_str_text(pending), pending->len);
  if (n == 0) return;
  if (raw) {
    fn(context, pending->data, n);
  } else {
    MuseStr text = {0};
    muse_text_append_printable(&text, pending->data, n);
    fn(context, muse_str_text(&text), text.len);
    muse_str_free(&text);
  }
  memmove(pending->data, pending->data + n, pending->len - n + 1);
  pending->len -= n;
}

static MuseStatus feed_prompt(MuseDecoder *d, const MuseTokenizer *tokenizer, const char *prompt,
                              MuseGenerateResult *out, MuseDiag *diag) {
  MuseTokenIds ids = {0};
  MuseStatus status = muse_tokenizer_encode(tokenizer, prompt, strlen(prompt), &ids, diag);
  if (status == MUSE_OK && ids.len == 0 && d->session->eos < 0)
    status = muse_error(diag, MUSE_ERR_INPUT, "the model has no eos_token_id that could start a text; give a --prompt");
  if (status == MUSE_OK && ids.len == 0) muse_vec_push(&ids, d->session->eos);
  for (size_t i = 0; i < ids.len && status == MUSE_OK; i++) status = muse_decoder_feed(d, ids.data[i], diag);
  out->n_prompt = (int64_t)ids.len;
  muse_vec_free(&ids);
  return status;
}

MuseStatus muse_generate(MuseDecoder *d, const MuseTokenizer *tokenizer, const MuseGenerateOptions *o, MuseTextFn fn,
                         void *context, MuseGenerateResult *out, MuseDiag *diag) {
  *out = (MuseGenerateResult){0};
  double start = muse_seconds();
  MUSE_TRY(muse_decoder_reset(d, diag));
  MUSE_TRY(feed_prompt(d, tokenizer, o->prompt, out, diag));
  out->prompt_seconds = muse_seconds() - start;
  int64_t V = d->session->vocab_size;
  float *logits = calloc((size_t)V, sizeof *logits);
  if (!logits) muse_out_of_memory((size_t)V * sizeof *logits);
  MuseStr pending = {0};
  MuseStatus status = MUSE_OK;
  start = muse_seconds();
  while (out->n_tokens < o->max_tokens && !(o->stop && *o->stop)) {
    int32_t token;
    status = muse_decoder_logits(d, logits, diag);
    if (status == MUSE_OK)
      status = muse_sample(&o->sampler, logits, V, (uint64_t)out->n_tokens, &token, diag);
    if (status != MUSE_OK) break;
    out->n_tokens++;
    if (token == d->session->eos) {
      out->ended = true;
      break;
    }
    // Without a prompt the text begins here, and some tokenizers put a blank before a text.
    if (out->n_tokens == 1 && !*o->prompt) muse_tokenizer_decode(tokenizer, &token, 1, &pending);
    else muse_tokenizer_decode_next(tokenizer, token, &pending);
    flush_text(&pending, false, o->raw, fn, context);
    if (out->n_tokens < o->max_tokens) status = muse_decoder_feed(d, token, diag);
    if (status != MUSE_OK) break;
  }
  flush_text(&pending, true, o->raw, fn, context);
  out->seconds = muse_seconds() - start;
  muse_str_free(&pending);
  free(logits);
  return status;
}

// ---- the command ----

typedef struct Arguments {
  MuseSessionOptions session;
  MuseParamsOptions params;
  MuseGenerateOptions text;
  const char *tokenizer;
  int64_t seed;
  bool no_prompt, json;
} Arguments;

static void print_piece(void *context, const char *text, size_t length) {
  MuseStr *collected = context;
  if (collected) {
    muse_str_append_n(collected, text, length);
    return;
  }
  fwrite(text, 1, length, stdout);
  fflush(stdout);
}

static void print_json(const Arguments *a, const MuseStr *text, const MuseGenerateResult *r) {
  MuseStr line = {0};
  muse_str_append(&line, "{");
  if (!a->no_prompt) {
    muse_str_append(&line, "\"prompt\":");
    muse_json_append_text(&line, a->text.prompt, strlen(a->text.prompt));
    muse_str_append(&line, ",");
  }
  muse_str_append(&line, "\"text\":");
  muse_json_append_text(&line, muse_str_text(text), text->len);
  muse_str_appendf(&line, ",\"tokens\":%lld,\"ended\":%s,\"seconds\":", (long long)r->n_tokens,
                   r->ended ? "true" : "false");
  muse_json_append_real(&line, r->seconds);
  muse_str_append(&line, "}");
  puts(muse_str_text(&line));
  muse_str_free(&line);
}

static MuseStatus generate(const char *plan, Arguments *a, MuseSession *s, MuseTokenizer **tokenizer, MuseDiag *diag) {
  MuseDecoder decoder;
  MuseGenerateResult result;
  MUSE_TRY(muse_params_options_check(&a->params, diag));
  MUSE_TRY(muse_session_open(plan, &a->session, s, diag));
  MUSE_TRY(muse_params_options_fit(s, &a->params, diag));
  MUSE_TRY(muse_session_tokenizer(s, a->tokenizer, tokenizer, diag));
  MUSE_TRY(muse_decoder_create(s, &decoder, diag));
  MUSE_TRY(muse_session_prepare(s, muse_decode_functions, diag));
  MUSE_TRY(muse_session_load(s, &a->params, NULL, diag));
  muse_params_note_untrained(s, &a->params);
  if (!a->no_prompt && !a->json) {
    MuseStr shown = {0};
    if (a->text.raw) muse_str_append(&shown, a->text.prompt);
    else muse_text_append_printable(&shown, a->text.prompt, strlen(a->text.prompt));
    print_piece(NULL, muse_str_text(&shown), shown.len);
    muse_str_free(&shown);
  }
  MuseStr text = {0};
  a->text.stop = muse_catch_stop(NULL);
  MuseStatus status = muse_generate(&decoder, *tokenizer, &a->text, print_piece, a->json ? &text : NULL, &result, diag);
  if (status == MUSE_OK && a->json) print_json(a, &text, &result);
  else if (!a->text.raw && !a->json) putchar('\n');
  fflush(stdout); // before the line on stderr, where both go to one terminal
  muse_str_free(&text);
  MUSE_TRY(status);
  if (!s->quiet)
    fprintf(stderr, "%lld tokens in %.2f s (%.0f a second) after a prompt of %lld in %.2f s%s\n",
            (long long)result.n_tokens, result.seconds,
            result.seconds > 0 ? (double)result.n_tokens / result.seconds : 0, (long long)result.n_prompt,
            result.prompt_seconds, result.ended ? "; the model ended the text" : "");
  return MUSE_OK;
}

MuseStatus muse_command_generate(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.session = {.inference = true},
                 .text = {.prompt = "", .max_tokens = 256, .sampler = {.temperature = 0.8, .top_p = 1}}};
  const MuseOption table[] = {
      MUSE_PARAMS_OPTION_ROWS(a.params),
      {"prompt", 0, MUSE_OPT_TEXT, "TEXT", "Text to go on from; without one, a new document.", &a.text.prompt},
      {"max-tokens", 'n', MUSE_OPT_INT, "N", "Write at most N tokens (256).", &a.text.max_tokens},
      {"temperature", 't', MUSE_OPT_REAL, "X", "0 takes the likeliest token, higher is wilder (0.8).",
       &a.text.sampler.temperature},
      {"top-k", 0, MUSE_OPT_INT, "K", "Choose among the K likeliest tokens only (0: all).", &a.text.sampler.top_k},
      {"top-p", 0, MUSE_OPT_REAL, "P",
       "Choose among the fewest tokens that hold this share of the probability (1: all).", &a.text.sampler.top_p},
      {"seed", 0, MUSE_OPT_INT, "S", "Another seed gives another text (0).", &a.seed},
      {"tokenizer", 0, MUSE_OPT_TEXT, "NAME", "Use this tokenizer (the plan's).", &a.tokenizer},
      {"raw", 0, MUSE_OPT_FLAG, NULL, "Write the bytes as they come, also those that are no text.", &a.text.raw},
      {"no-prompt", 0, MUSE_OPT_FLAG, NULL, "Do not repeat the prompt.", &a.no_prompt},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object.", &a.json},
      MUSE_SESSION_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseSession session = {0};
  MuseTokenizer *tokenizer = NULL;
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run generate [options] PLAN",
                      "Writes text with the model, token by token, in constant memory.", stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "generate", &plan, diag);
    if (status == MUSE_OK) status = muse_sampler_check(&a.text.sampler, diag);
    if (status == MUSE_OK && (a.text.max_tokens < 0 || a.seed < 0 || a.seed > UINT32_MAX))
      status = muse_error(diag, MUSE_ERR_INPUT,
                          "--max-tokens takes a number from 0 on, --seed one from 0 to 4294967295");
    a.text.sampler.seed = (uint32_t)a.seed;
    if (status == MUSE_OK) status = generate(plan, &a, &session, &tokenizer, diag);
  }
  muse_tokenizer_close(tokenizer);
  muse_session_close(&session);
  muse_text_list_free(&operands);
  return status;
}
