// Decoding token by token, and the choice of the next one.
#include "runtime/sampler.h"

#include "ir/base/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const muse_decode_functions[] = {"setup", "pack", "decode", NULL};

// Scores of slots that hold nothing of the document; finite, so that a row of them alone would not become NaN.
#define MASKED (-1e30f)

MuseStatus muse_decoder_create(MuseSession *s, MuseDecoder *out, MuseDiag *diag) {
  *out = (MuseDecoder){.session = s};
  MuseType token = muse_type2(MUSE_I32, 1, 1), scalar = muse_scalar_type(MUSE_F32),
           position = muse_scalar_type(MUSE_I64);
  MuseType mask = muse_type1(MUSE_F32, s->window);
  if (!muse_executor_has_function(s->executor, "decode"))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has no function @decode; run musec again on its configuration",
                      s->path);
  const MuseBuffer *logits = muse_module_buffer(s->module, "next_logits");
  if (!logits || muse_type_elements(logits->type) != s->vocab_size ||
      (logits->type.dtype != MUSE_F32 && logits->type.dtype != MUSE_BF16))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': the plan has no buffer 'next_logits' of vocab_size numbers; run musec again", s->path);
  out->logits = logits;
  MUSE_TRY(muse_session_buffer(s, "token", &token, &out->token, diag));
  if (muse_module_buffer(s->module, "keep")) MUSE_TRY(muse_session_buffer(s, "keep", &scalar, &out->keep, diag));
  if (muse_module_buffer(s->module, "window_mask")) {
    MUSE_TRY(muse_session_buffer(s, "window_mask", &mask, &out->window_mask, diag));
    MUSE_TRY(muse_session_buffer(s, "position", &position, &out->position, diag));
  }
  return muse_decoder_reset(out, diag);
}

MuseStatus muse_decoder_reset(MuseDecoder *d, MuseDiag *diag) {
  d->n_tokens = d->document = 0;
  d->after_eos = false;
  return muse_executor_zero(d->session->executor, "state", diag);
}

// Slot j holds the newest position p <= now with p mod W = j.
static MuseStatus write_window(const MuseDecoder *d, int64_t now, MuseDiag *diag) {
  enum { PIECE = 256 };
  float piece[PIECE];
  int64_t W = d->session->window;
  MuseExecutor *e = d->session->executor;
  MUSE_TRY(muse_executor_write(e, d->position, 0, &now, sizeof now, diag));
  for (int64_t first = 0; first < W; first += PIECE) {
    int64_t n = W - first < PIECE ? W - first : PIECE;
    for (int64_t j = 0; j < n; j++) {
      int64_t age = (now - first - j) % W;
      if (age < 0) age += W;
      piece[j] = now - age >= d->document ? 0 : MASKED;
    }
    MUSE_TRY(muse_executor_write(e, d->window_mask, first * (int64_t)sizeof *piece, piece, (size_t)n * sizeof *piece,
                                 diag));
  }
  return MUSE_OK;
}

MuseStatus muse_decoder_feed(MuseDecoder *d, int32_t token, MuseDiag *diag) {
  const MuseSession *s = d->session;
  if (token < 0 || token >= s->vocab_size)
    return muse_error(diag, MUSE_ERR_DATA, "token %d is beyond the vocabulary of %lld", token,
                      (long long)s->vocab_size);
  bool starts = d->n_tokens == 0 || d->after_eos;
  if (starts) d->document = d->n_tokens;
  float keep = starts ? 0 : 1;
  MUSE_TRY(muse_executor_write(s->executor, d->token, 0, &token, sizeof token, diag));
  if (d->keep) MUSE_TRY(muse_executor_write(s->executor, d->keep, 0, &keep, sizeof keep, diag));
  if (d->window_mask) MUSE_TRY(write_window(d, d->n_tokens, diag));
  d->after_eos = s->eos >= 0 && token == s->eos;
  d->n_tokens++;
  return muse_executor_run(s->executor, "decode", diag);
}

MuseStatus muse_decoder_logits(const MuseDecoder *d, float *out, MuseDiag *diag) {
  size_t V = (size_t)d->session->vocab_size;
  if (d->logits->type.dtype == MUSE_F32)
    return muse_executor_read(d->session->executor, d->logits, 0, out, V * sizeof *out, diag);
  uint16_t *half = (uint16_t *)out + V; // in the upper half of the room; widened from the front
  MUSE_TRY(muse_executor_read(d->session->executor, d->logits, 0, half, V * sizeof *half, diag));
  for (size_t i = 0; i < V; i++) {
    uint32_t bits = (uint32_t)half[i] << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
  return MUSE_OK;
}

// ---- choosing ----

MuseStatus muse_sampler_check(const MuseSamplerOptions *o, MuseDiag *diag) {
  if (!(o->temperature >= 0 && o->temperature <= 100))
    return muse_error(diag, MUSE_ERR_INPUT, "the temperature goes from 0 (always the likeliest token) to 100, not %g",
                      o->temperature);
  if (o->top_k < 0)
    return muse_error(diag, MUSE_ERR_INPUT, "top-k is a number of tokens, or 0 for all, not %lld", (long long)o->top_k);
  if (!(o->top_p > 0 && o->top_p <= 1))
    return muse_error(diag, MUSE_ERR_INPUT, "top-p is a share above 0 and up to 1, not %g", o->top_p);
  return MUSE_OK;
}

typedef struct Candidate { double p; int32_t id; } Candidate;

static int likelier_first(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  if (x->p != y->p) return x->p > y->p ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

// Numbers of the draws under the seed; apart from those of training, which are small.
#define SAMPLE_OP 0x73616d706c65ull // "sample"

MuseStatus muse_sample(const MuseSamplerOptions *o, const float *logits, int64_t V, uint64_t index, int32_t *out_token,
                       MuseDiag *diag) {
  int64_t best = 0;
  for (int64_t i = 0; i < V; i++) {
    if (isnan(logits[i]) || (isinf(logits[i]) && logits[i] > 0))
      return muse_error(diag, MUSE_ERR_NUMERIC,
                        "the logit of token %lld is %g; the parameters are damaged or the model diverged", (long long)i,
                        (double)logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  *out_token = (int32_t)best;
  if (o->temperature == 0 || o->top_k == 1) return MUSE_OK;
  Candidate *list = calloc((size_t)V, sizeof *list);
  if (!list) muse_out_of_memory((size_t)V * sizeof *list);
  for (int64_t i = 0; i < V; i++)
    list[i] = (Candidate){exp(((double)logits[i] - (double)logits[best]) / o->temperature), (int32_t)i};
  int64_t n = V;
  if (o->top_k > 0 || o->top_p < 1) {
    qsort(list, (size_t)V, sizeof *list, likelier_first);
    if (o->top_k > 0 && o->top_k < n) n = o->top_k;
  }
  double sum = 0, part = 0;
  for (int64_t i = 0; i < n; i++) sum += list[i].p;
  if (o->top_p < 1) {
    int64_t kept = 0;
    while (kept < n && part < o->top_p * sum) part += list[kept++].p;
    n = kept;
    sum = part;
  }
  double at = muse_random_uniform(index, SAMPLE_OP, o->seed, 0) * sum;
  int64_t chosen = 0;
  for (double reached = list[0].p; chosen + 1 < n && reached <= at; reached += list[chosen].p) chosen++;
  *out_token = list[chosen].id;
  free(list);
  return MUSE_OK;
}
