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
  out->logits = muse_executor_buffer(s->executor, "next_logits");
  out->logits_dtype = logits->type.dtype;
  MUSE_TRY(muse_session_buffer(s, "token", &token, (void **)&out->token, diag));
  if (muse_module_buffer(s->module, "keep"))
    MUSE_TRY(muse_session_buffer(s, "keep", &scalar, (void **)&out->keep, diag));
  if (muse_module_buffer(s->module, "window_mask")) {
    MUSE_TRY(muse_session_buffer(s, "window_mask", &mask, (void **)&out->window_mask, diag));
    MUSE_TRY(muse_session_buffer(s, "position", &position, (void **)&out->position, diag));
  }
  muse_decoder_reset(out);
  return MUSE_OK;
}

void muse_decoder_reset(MuseDecoder *d) {
  const MuseSession *s = d->session;
  for (int i = 0; i < s->module->n_buffers; i++) {
    const MuseBuffer *b = s->module->buffers[i];
    if (strcmp(b->role, "state") == 0)
      memset(muse_executor_buffer(s->executor, b->name), 0, (size_t)muse_type_bytes(b->type));
  }
  d->n_tokens = d->document = 0;
  d->after_eos = false;
}

MuseStatus muse_decoder_feed(MuseDecoder *d, int32_t token, MuseDiag *diag) {
  const MuseSession *s = d->session;
  if (token < 0 || token >= s->vocab_size)
    return muse_error(diag, MUSE_ERR_DATA, "token %d is beyond the vocabulary of %lld", token,
                      (long long)s->vocab_size);
  bool starts = d->n_tokens == 0 || d->after_eos;
  if (starts) d->document = d->n_tokens;
  *d->token = token;
  if (d->keep) *d->keep = starts ? 0 : 1;
  if (d->window_mask) {
    // Slot j holds the newest position p <= now with p mod W = j.
    int64_t W = s->window, now = d->n_tokens;
    *d->position = now;
    for (int64_t j = 0; j < W; j++) {
      int64_t age = (now - j) % W;
      if (age < 0) age += W;
      d->window_mask[j] = now - age >= d->document ? 0 : MASKED;
    }
  }
  d->after_eos = s->eos >= 0 && token == s->eos;
  d->n_tokens++;
  return muse_executor_run(s->executor, "decode", diag);
}

void muse_decoder_logits(const MuseDecoder *d, float *out) {
  int64_t V = d->session->vocab_size;
  if (d->logits_dtype == MUSE_F32) {
    memcpy(out, d->logits, (size_t)V * sizeof *out);
    return;
  }
  for (int64_t i = 0; i < V; i++) {
    uint32_t bits = (uint32_t)((const uint16_t *)d->logits)[i] << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
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
