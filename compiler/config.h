#ifndef MUSE_COMPILER_CONFIG_H
#define MUSE_COMPILER_CONFIG_H

// The configuration of a model and of its training: one YAML mapping, checked and resolved. Every key is a row of the
// table in config_keys.c (type, default, range, one sentence), from which the parser, the canonical printer,
// `--list-keys` and docs/configuration.md all work.

#include "ir/base/arena.h"
#include "ir/base/diag.h"
#include "ir/base/options.h"
#include "ir/base/str.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum MuseFfnActivation { MUSE_FFN_RELU2, MUSE_FFN_GELU } MuseFfnActivation;
typedef enum MuseLocalScore { MUSE_LOCAL_HYPERBOLIC, MUSE_LOCAL_EUCLIDEAN } MuseLocalScore;
// AUTO exists only in files: a loaded config holds F32, INT8 or BF16.
typedef enum MuseGradientPrecision {
  MUSE_GRADIENT_AUTO,
  MUSE_GRADIENT_F32,
  MUSE_GRADIENT_INT8,
  MUSE_GRADIENT_BF16,
} MuseGradientPrecision;
typedef enum MuseOptimizerKind { MUSE_OPTIMIZER_ADAMW, MUSE_OPTIMIZER_ADAFACTOR8 } MuseOptimizerKind;

enum { MUSE_CONFIG_MAX_KEYS = 64 };

// One field per key, under the key's own name, with defaults and derived values filled in.
typedef struct MuseConfig {
  // Shape of the model.
  int64_t vocab_size;   // V
  int64_t d_model;      // D
  int64_t n_layers;     // L
  int64_t n_seq;        // T
  int64_t num_heads;    // H; H divides D, D/H is even
  int64_t local_window; // W
  int64_t ffn_mult;     // F = ffn_mult * D
  MuseFfnActivation ffn_activation;
  MuseLocalScore local_score;
  bool use_birman_schwinger;
  bool use_hybrid_attention;
  // Compression.
  bool use_bitnet;
  bool use_htt_embedding;
  int64_t htt_rank;   // r; meaningful with use_htt_embedding
  bool quantized_htt; // meaningful with use_htt_embedding
  // Reports.
  bool use_mourre;
  bool use_lap;
  bool tensorboard; // event files beside metrics.jsonl
  // Numbers and memory.
  bool use_mixed_precision;
  MuseGradientPrecision gradient_precision; // never AUTO here
  bool use_gradient_checkpointing;
  uint64_t memory_budget; // bytes of device memory; 0: all there is
  uint64_t host_budget;   // bytes of host memory; 0: all there is
  // Training.
  int64_t batch_size; // B, rows of a micro-batch
  int64_t gradient_accumulation_steps;
  int64_t max_steps;
  MuseOptimizerKind optimizer;
  double learning_rate;
  int64_t warmup_steps; // <= max_steps
  double min_lr_ratio;
  double weight_decay;
  double max_grad_norm; // 0: no clipping
  double adam_beta1;
  double adam_beta2;
  double adam_eps;
  int64_t seed; // fits u32, the first key word of Philox
  // Text.
  const char *tokenizer; // "bytes" or a tokenizer file; NULL: the one that the token files name
  int64_t eos_token_id;  // -1: none, a row is one document
  // Habits of a run; none of them changes what is computed.
  int64_t log_interval;      // steps
  int64_t eval_interval;     // steps; 0: never
  int64_t eval_batches;      // micro-batches of a validation
  int64_t save_interval;     // steps; 0: only at the end
  int64_t keep_checkpoints;  // 0: all
  int64_t sample_interval;   // steps; 0: never
  const char *sample_prompt; // never NULL
  int64_t sample_tokens;
  double sample_temperature; // 0: greedy
  int64_t patience_steps;    // 0: never

  // Where each key was set, by row of the key table; line 0 where the default holds.
  MuseLoc key_locs[MUSE_CONFIG_MAX_KEYS];
} MuseConfig;

// Which mixer the two keys use_birman_schwinger and use_hybrid_attention choose.
typedef enum MuseMixerKind { MUSE_MIXER_ATTENTION, MUSE_MIXER_LOCAL, MUSE_MIXER_BK, MUSE_MIXER_HYBRID } MuseMixerKind;
static inline MuseMixerKind muse_config_mixer(const MuseConfig *c) {
  return (c->use_birman_schwinger ? 2 : 0) + (c->use_hybrid_attention ? 1 : 0);
}

// Reads a config file (at most 1 MiB), then the overrides "key=value" of `sets` (NULL: none; a later one wins). All
// problems of file and overrides are reported at once; the status is MUSE_ERR_INPUT if there is any. Text values and
// locations live in `arena`, which must outlive the config. A missing or unreadable file keeps the status of
// muse_read_file.
MuseStatus muse_config_load(const char *path, const MuseTextList *sets, MuseArena *arena, MuseConfig *out_config,
                            MuseDiag *diag);
// The same from text; `name` is what messages call the file.
MuseStatus muse_config_parse_text(const char *name, const char *text, size_t length, const MuseTextList *sets,
                                  MuseArena *arena, MuseConfig *out_config, MuseDiag *diag);

// Appends the config as canonical YAML: all keys in table order, resolved. Parsing it gives an equal config.
void muse_config_print(const MuseConfig *config, MuseStr *out_text);
bool muse_config_equal(const MuseConfig *a, const MuseConfig *b); // values only, not locations

// Where `key` was set: file:line:col of its value with .key filled in, or line 0 where the default holds. The file of
// an override is "--set", its line the number of the override (from 1), its column that of the value in "key=value".
// Asserts that the key exists.
MuseLoc muse_config_loc(const MuseConfig *config, const char *key);

// Parameters by the rule of thumb of the published configs, 12·D²·L + V·D: the attention and feed-forward matrices with
// ffn_mult 4 and a dense tied embedding, norms and small vectors left out.
int64_t muse_config_nominal_parameters(const MuseConfig *config);

// ---- the key table ----
typedef enum MuseKeyType {
  MUSE_KEY_BOOL,
  MUSE_KEY_INT,
  MUSE_KEY_REAL,
  MUSE_KEY_BYTES,
  MUSE_KEY_TEXT,
  MUSE_KEY_ENUM
} MuseKeyType;

typedef struct MuseConfigKey {
  const char *name;
  MuseKeyType type;
  size_t offset;              // of the field in MuseConfig
  const char *section;        // heading in the documentation
  const char *default_text;   // as written in YAML; NULL: the key is required. "auto" is derived from other keys
  const char *unset_words;    // what "null" or "auto" or 0 comes to, for the documentation; NULL: nothing to explain
  double min, max;            // inclusive, for INT and REAL
  const char *const *choices; // NULL-terminated, for ENUM; the index is the enum value
  bool nullable;              // "null" is a value: -1 in an INT, NULL in a TEXT
  bool automatic;             // "auto" is a value, resolved by the loader
  const char *doc;            // one sentence
} MuseConfigKey;

const MuseConfigKey *muse_config_keys(size_t *out_count);
void muse_config_list_keys(MuseStr *out_text);     // for a terminal: one line a key
void muse_config_keys_markdown(MuseStr *out_text); // docs/configuration.md, whole

#endif
