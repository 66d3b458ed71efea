// What no single key can tell: values that follow from others, and keys that contradict each other.
#include "compiler/config_internal.h"

#include <inttypes.h>
#include <stdlib.h>

static int row_of(const char *key) {
  int row = muse_config_find_key(key);
  MUSE_ASSERT(row >= 0);
  return row;
}

// True if the key's value can be relied on.
static bool good(const MuseConfigReader *r, const char *key) { return !r->failed[row_of(key)]; }
static bool given(const MuseConfigReader *r, const char *key) { return r->set_at[row_of(key)].line > 0; }

// Where to point: the first of the two keys that was written; the last resort is the place of the second, wherever it
// is.
static MuseLoc place(const MuseConfigReader *r, const char *key, const char *other) {
  return given(r, key) ? r->set_at[row_of(key)] : r->set_at[row_of(other)];
}

void muse_config_derive(MuseConfigReader *r) {
  MuseConfig *c = r->config;
  if (c->num_heads < 0 && good(r, "num_heads") && good(r, "d_model")) {
    static const int sizes[] = {128, 64, 32};
    for (int i = 0; i < 3 && c->num_heads < 0; i++)
      if (c->d_model % sizes[i] == 0) c->num_heads = c->d_model / sizes[i];
    if (c->num_heads < 0) {
      muse_config_refuse(r, r->set_at[row_of("d_model")],
                         "no head size of 128, 64 or 32 divides d_model %" PRId64
                         "; set num_heads, or make d_model a multiple of 32",
                         c->d_model);
      r->failed[row_of("num_heads")] = true;
    }
  }
  if (c->warmup_steps < 0 && good(r, "warmup_steps"))
    c->warmup_steps = c->max_steps / 20 < 2000 ? c->max_steps / 20 : 2000;
  if (c->gradient_precision == MUSE_GRADIENT_AUTO)
    c->gradient_precision = !c->use_mixed_precision ? MUSE_GRADIENT_F32
                            : c->use_bitnet         ? MUSE_GRADIENT_INT8
                                                    : MUSE_GRADIENT_BF16;
}

// The number of heads nearest to `heads` that divides D into heads of an even size; 0 if D is odd.
static int64_t nearest_heads(int64_t D, int64_t heads) {
  int64_t best = 0;
  for (int64_t h = 1; h <= D / 2; h++)
    if (D % h == 0 && (D / h) % 2 == 0 && (best == 0 || llabs(h - heads) < llabs(best - heads))) best = h;
  return best;
}

static void check_heads(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (!good(r, "d_model") || !good(r, "num_heads")) return;
  MuseLoc loc = place(r, "num_heads", "d_model");
  int64_t D = c->d_model, H = c->num_heads, way_out = nearest_heads(D, H);
  if (D % 2)
    muse_config_refuse(r, r->set_at[row_of("d_model")],
                       "d_model %" PRId64 " is odd, but rotary positions need heads of an even size; make it even", D);
  else if (D % H)
    muse_config_refuse(r, loc,
                       "d_model %" PRId64 " is not divisible by num_heads %" PRId64 "; num_heads: %" PRId64 " would do",
                       D, H, way_out);
  else if (D / H % 2)
    muse_config_refuse(r, loc,
                       "heads of the odd size %" PRId64 " (d_model %" PRId64 " / num_heads %" PRId64
                       ") cannot hold rotary positions; num_heads: %" PRId64 " would do",
                       D / H, D, H, way_out);
}

static void check_text(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (!good(r, "vocab_size")) return;
  if (good(r, "eos_token_id") && c->eos_token_id >= c->vocab_size)
    muse_config_refuse(r, r->set_at[row_of("eos_token_id")],
                       "eos_token_id %" PRId64 " is outside the vocabulary of %" PRId64 " ids (0 to %" PRId64
                       "); raise vocab_size to %" PRId64 ", or choose another id",
                       c->eos_token_id, c->vocab_size, c->vocab_size - 1, c->eos_token_id + 1);
  if (good(r, "tokenizer") && c->tokenizer && muse_str_eq(c->tokenizer, "bytes") && c->vocab_size < 256)
    muse_config_refuse(r, r->set_at[row_of("tokenizer")],
                       "the byte tokenizer has ids 0 to 255, but vocab_size is %" PRId64
                       "; raise vocab_size to 256, or to 257 with an end-of-text id",
                       c->vocab_size);
  if (good(r, "tokenizer") && c->tokenizer && !*c->tokenizer)
    muse_config_refuse(r, r->set_at[row_of("tokenizer")],
                       "'tokenizer' is empty; write bytes, the path of a tokenizer, or null");
}

static int64_t ceil_sqrt(int64_t n) {
  int64_t root = 0;
  while (root * root < n) root++;
  return root;
}

// MODEL: v1 = ceil sqrt V, v2 = ceil V/v1, d1 = ceil sqrt D, d2 = ceil D/d1. The train unfolds to a (v1·d1) × (v2·d2)
// matrix, whose rank is at most the smaller side: a higher htt_rank only costs.
static void check_tensor_train(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (!c->use_htt_embedding) {
    if (given(r, "htt_rank") && good(r, "htt_rank") && good(r, "use_htt_embedding"))
      muse_note_at(r->diag, r->set_at[row_of("htt_rank")], "htt_rank has no effect without use_htt_embedding: true");
    if (given(r, "quantized_htt") && c->quantized_htt && good(r, "use_htt_embedding"))
      muse_note_at(r->diag, r->set_at[row_of("quantized_htt")],
                   "quantized_htt has no effect without use_htt_embedding: true");
    return;
  }
  if (!good(r, "vocab_size") || !good(r, "d_model") || !good(r, "htt_rank")) return;
  int64_t v1 = ceil_sqrt(c->vocab_size), d1 = ceil_sqrt(c->d_model);
  int64_t v2 = (c->vocab_size + v1 - 1) / v1, d2 = (c->d_model + d1 - 1) / d1;
  int64_t full = v1 * d1 < v2 * d2 ? v1 * d1 : v2 * d2;
  if (c->htt_rank > full)
    muse_config_refuse(r, place(r, "htt_rank", "use_htt_embedding"),
                       "htt_rank %" PRId64 " is more than the full rank %" PRId64
                       " of this embedding; set htt_rank to at most that, or use_htt_embedding: false",
                       c->htt_rank, full);
}

static void check_numbers(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (!good(r, "gradient_precision") || !good(r, "use_bitnet") || !good(r, "use_mixed_precision")) return;
  MuseLoc loc = place(r, "gradient_precision", "use_bitnet");
  if (c->gradient_precision == MUSE_GRADIENT_INT8 && !c->use_bitnet)
    muse_config_refuse(r, loc,
                       "gradient_precision int8 needs use_bitnet: true, whose matrices it multiplies; "
                       "write gradient_precision: auto");
  if (c->gradient_precision == MUSE_GRADIENT_BF16 && !c->use_mixed_precision)
    muse_config_refuse(r, loc,
                       "gradient_precision bf16 needs use_mixed_precision: true; without it everything is f32, "
                       "write gradient_precision: f32");
}

static void check_training(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (good(r, "warmup_steps") && good(r, "max_steps") && c->warmup_steps > c->max_steps)
    muse_config_refuse(r, place(r, "warmup_steps", "max_steps"),
                       "warmup_steps %" PRId64 " is more than max_steps %" PRId64
                       "; lower it to at most max_steps, or write warmup_steps: auto",
                       c->warmup_steps, c->max_steps);
  if (good(r, "batch_size") && good(r, "n_seq") && c->batch_size * c->n_seq > INT32_MAX)
    muse_config_refuse(r, place(r, "batch_size", "n_seq"),
                       "batch_size %" PRId64 " times n_seq %" PRId64
                       " is more than 2147483647 tokens in a micro-batch; lower batch_size and raise "
                       "gradient_accumulation_steps",
                       c->batch_size, c->n_seq);
  if (c->optimizer != MUSE_OPTIMIZER_ADAFACTOR8 || !good(r, "optimizer")) return;
  static const char *const adamw_only[] = {"max_grad_norm", "adam_beta1", "adam_beta2", "adam_eps"};
  for (size_t i = 0; i < sizeof adamw_only / sizeof *adamw_only; i++)
    if (given(r, adamw_only[i]))
      muse_note_at(r->diag, r->set_at[row_of(adamw_only[i])], "%s has no effect with optimizer: adafactor8",
                   adamw_only[i]);
}

// Keys that another key switches off. Only a value that asks for something is worth a note.
static void check_mixer(MuseConfigReader *r) {
  const MuseConfig *c = r->config;
  if (!good(r, "use_birman_schwinger") || !good(r, "use_hybrid_attention")) return;
  if (!c->use_birman_schwinger && c->use_mourre)
    muse_note_at(r->diag, r->set_at[row_of("use_mourre")],
                 "use_mourre has nothing to report without use_birman_schwinger: true");
  if (!c->use_birman_schwinger && c->use_lap)
    muse_note_at(r->diag, r->set_at[row_of("use_lap")],
                 "use_lap has nothing to report without use_birman_schwinger: true");
  if (!c->use_hybrid_attention && given(r, "local_score"))
    muse_note_at(r->diag, r->set_at[row_of("local_score")],
                 "local_score has no effect without use_hybrid_attention: true");
}

void muse_config_check(MuseConfigReader *r) {
  check_heads(r);
  check_text(r);
  check_tensor_train(r);
  check_numbers(r);
  check_training(r);
  check_mixer(r);
}
