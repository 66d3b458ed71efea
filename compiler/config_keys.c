// The table of configuration keys, and what is generated from it: the list for a terminal and docs/configuration.md.
#include "compiler/config_internal.h"

#include <string.h>

static const char *const ffn_activations[] = {"relu2", "gelu", NULL};
static const char *const local_scores[] = {"hyperbolic", "euclidean", NULL};
static const char *const gradient_precisions[] = {"auto", "f32", "int8", "bf16", NULL};
static const char *const optimizers[] = {"adamw", "adafactor8", NULL};

#define FIELD(f) .name = #f, .offset = offsetof(MuseConfig, f)
#define BOOL(f, d, words) \
  { FIELD(f), .type = MUSE_KEY_BOOL, .default_text = d, .doc = words }
#define INT(f, d, lo, hi, words) \
  { FIELD(f), .type = MUSE_KEY_INT, .default_text = d, .min = lo, .max = hi, .doc = words }
#define REAL(f, d, lo, hi, words) \
  { FIELD(f), .type = MUSE_KEY_REAL, .default_text = d, .min = lo, .max = hi, .doc = words }
#define ENUM(f, d, names, words) \
  { FIELD(f), .type = MUSE_KEY_ENUM, .default_text = d, .choices = names, .doc = words }

// Upper ends are far beyond any machine; they exist so that products of sizes cannot overflow.
static const MuseConfigKey keys[] = {
    {.section = "Shape of the model",
     FIELD(vocab_size),
     .type = MUSE_KEY_INT,
     .min = 2,
     .max = 16777216,
     .doc = "Number of token ids, V."},
    INT(d_model, NULL, 2, 65536, "Width of the residual stream, D."),
    INT(n_layers, NULL, 1, 1024, "Number of layers, L."),
    INT(n_seq, NULL, 1, 1048576, "Tokens in a training row, T; decoding may go on for longer."),
    {FIELD(num_heads), .type = MUSE_KEY_INT, .default_text = "auto", .min = 1, .max = 4096, .automatic = true,
     .unset_words = "heads of 128, else 64, else 32, whichever divides d_model first",
     .doc = "Number of heads, H; it divides d_model, and a head's size d_model / num_heads is even."},
    INT(local_window, "256", 1, 1048576, "Tokens that local attention sees, itself included, W."),
    INT(ffn_mult, "4", 1, 64, "Width of the feed-forward layer in units of d_model."),
    ENUM(ffn_activation, "relu2", ffn_activations,
         "Activation of the feed-forward layer: relu(u)² or the tanh form of GELU."),
    BOOL(use_birman_schwinger, "true",
         "Mix tokens by the resolvent of a causal Schrödinger operator, in time linear in the text; with "
         "use_hybrid_attention the two are gated together, without either every layer is full softmax attention."),
    BOOL(use_hybrid_attention, "true", "Mix tokens by attention over the last local_window tokens."),
    ENUM(local_score, "hyperbolic", local_scores,
         "Score of local attention: hyperbolic distance, or the scaled dot product of normalised q and k."),

    {.section = "Compression",
     FIELD(use_bitnet),
     .type = MUSE_KEY_BOOL,
     .default_text = "true",
     .doc = "Ternary weights and 8-bit activations in every matrix of a layer (BitNet b1.58)."},
    BOOL(
        use_htt_embedding, "false",
        "Embedding and head as a tensor train of two cores instead of a dense table: far smaller, at a price in loss."),
    INT(htt_rank, "128", 1, 65536, "Rank of the tensor train, r."),
    BOOL(quantized_htt, "true", "Keep the cores of the tensor train as int8."),

    {.section = "Numbers and memory",
     FIELD(use_mixed_precision),
     .type = MUSE_KEY_BOOL,
     .default_text = "false",
     .doc = "Activations in 16 bits, with norms, scans, softmax and loss in f32; false: f32 throughout."},
    {FIELD(gradient_precision), .type = MUSE_KEY_ENUM, .default_text = "auto", .choices = gradient_precisions,
     .automatic = true,
     .unset_words = "f32 without use_mixed_precision; with it int8 where use_bitnet is true, else bf16",
     .doc = "Numbers of the backward matrix products; int8 is rounded stochastically."},
    BOOL(use_gradient_checkpointing, "false",
         "Keep only the inputs of layers and compute the rest again in the backward pass."),
    {FIELD(memory_budget), .type = MUSE_KEY_BYTES, .default_text = "0", .unset_words = "0: all there is",
     .doc = "Device memory that a step may use, such as 8GiB; the plan stays inside it or is refused."},
    {FIELD(host_budget), .type = MUSE_KEY_BYTES, .default_text = "0", .unset_words = "0: all there is",
     .doc = "Host memory that a step may use."},

    {.section = "Training",
     FIELD(batch_size),
     .type = MUSE_KEY_INT,
     .default_text = "1",
     .min = 1,
     .max = 65536,
     .doc = "Rows of a micro-batch, B."},
    INT(gradient_accumulation_steps, "1", 1, 65536, "Micro-batches of an optimizer step; their losses are averaged."),
    INT(max_steps, "10000", 1, 1000000000, "Optimizer steps of the whole run."),
    ENUM(optimizer, "adamw", optimizers,
         "AdamW, or adafactor8: factored second moment, int8 momentum and int8 latent weights, for little memory."),
    REAL(learning_rate, "1e-3", 0, 10,
         "Highest learning rate, reached after the warm-up; BitNet wants about twice the usual."),
    {FIELD(warmup_steps), .type = MUSE_KEY_INT, .default_text = "auto", .min = 0, .max = 1000000000, .automatic = true,
     .unset_words = "a twentieth of max_steps, at most 2000",
     .doc = "Steps over which the learning rate rises linearly; then it falls as a cosine."},
    REAL(min_lr_ratio, "0.05", 0, 1, "Learning rate at max_steps, as a share of learning_rate."),
    REAL(weight_decay, "0.1", 0, 10, "Decoupled weight decay, on the matrices of the layers only."),
    {FIELD(max_grad_norm), .type = MUSE_KEY_REAL, .default_text = "1.0", .min = 0, .max = 1e9,
     .unset_words = "0: no clipping",
     .doc = "Gradients are scaled down to this global norm; adafactor8 clips each tensor's update instead."},
    REAL(adam_beta1, "0.9", 0, 0.999999, "Decay of AdamW's first moment."),
    REAL(adam_beta2, "0.95", 0, 0.999999, "Decay of AdamW's second moment."),
    REAL(adam_eps, "1e-8", 0, 1, "Added to the root of AdamW's second moment."),
    INT(seed, "42", 0, 4294967295.0, "Seed of initial weights, data order, stochastic rounding and sampling."),

    {.section = "Text",
     FIELD(tokenizer),
     .type = MUSE_KEY_TEXT,
     .default_text = "null",
     .nullable = true,
     .unset_words = "the tokenizer that the token files name",
     .doc = "`bytes` (ids 0 to 255 are bytes), or the path of a tokenizer file."},
    {FIELD(eos_token_id), .type = MUSE_KEY_INT, .default_text = "null", .min = 0, .max = 16777215, .nullable = true,
     .unset_words = "no token does, a row is one document",
     .doc = "Token that ends a document; no mixer looks across it."},

    {.section = "Habits of a run",
     FIELD(log_interval),
     .type = MUSE_KEY_INT,
     .default_text = "10",
     .min = 1,
     .max = 1000000000,
     .doc = "Steps between lines of the log."},
    {FIELD(eval_interval), .type = MUSE_KEY_INT, .default_text = "500", .min = 0, .max = 1000000000,
     .unset_words = "0: never", .doc = "Steps between validations."},
    INT(eval_batches, "16", 1, 1000000, "Micro-batches of a validation."),
    {FIELD(save_interval), .type = MUSE_KEY_INT, .default_text = "500", .min = 0, .max = 1000000000,
     .unset_words = "0: only at the end", .doc = "Steps between checkpoints."},
    {FIELD(keep_checkpoints), .type = MUSE_KEY_INT, .default_text = "3", .min = 0, .max = 1000000,
     .unset_words = "0: all", .doc = "Checkpoints that are kept; older ones are removed."},
    {FIELD(sample_interval), .type = MUSE_KEY_INT, .default_text = "0", .min = 0, .max = 1000000000,
     .unset_words = "0: never", .doc = "Steps between samples of generated text."},
    {FIELD(sample_prompt), .type = MUSE_KEY_TEXT, .default_text = "\"\"", .doc = "Text that samples continue."},
    INT(sample_tokens, "128", 1, 1048576, "Tokens of a sample."),
    {FIELD(sample_temperature), .type = MUSE_KEY_REAL, .default_text = "0.8", .min = 0, .max = 100,
     .unset_words = "0: always the likeliest token", .doc = "Temperature of samples."},
    {FIELD(patience_steps), .type = MUSE_KEY_INT, .default_text = "500", .min = 0, .max = 1000000000,
     .unset_words = "0: never",
     .doc = "Steps after the warm-up without a lower loss after which the run says which keys to change."},

    {.section = "Reports",
     FIELD(use_mourre),
     .type = MUSE_KEY_BOOL,
     .default_text = "false",
     .doc = "Report each head's distance to the band edge (mean κ) in metrics.jsonl."},
    BOOL(use_lap, "false",
         "Report the largest magnitude of g and the smallest η of each layer (limiting absorption "
         "principle) in metrics.jsonl."),
    BOOL(tensorboard, "true", "Write event files that TensorBoard reads beside metrics.jsonl."),
};
_Static_assert(sizeof keys / sizeof *keys <= MUSE_CONFIG_MAX_KEYS, "MuseConfig.key_locs is too short");

// Keys of PyTorch training configs. A key that would change what is computed and that MUSE lacks (dropout,
// label_smoothing,
// ...) is not here: it is refused as unknown, because ignoring it would train something else than was asked for.
static const MuseConfigForeignKey foreign_keys[] = {
    {"hyperbolic_window_size", "local_window", NULL},
    {"n_heads", "num_heads", NULL},
    {"grad_clip", "max_grad_norm", NULL},
    {"beta1", "adam_beta1", NULL},
    {"beta2", "adam_beta2", NULL},
    {"eps", "adam_eps", NULL},
    {"num_workers", NULL, "token files are mapped into memory, no loader processes are needed"},
    {"pin_memory", NULL, "the plan decides which host memory is pinned"},
    {"prefetch_factor", NULL, "token files are mapped into memory"},
    {"persistent_workers", NULL, "there are no loader processes"},
    {"log_dir", NULL, "the output folder of a run is an option of muse-run"},
    {"save_dir", NULL, "the output folder of a run is an option of muse-run"},
    {"device", NULL, "the target is an option of musec and muse-run"},
    {"compile", NULL, "everything is compiled"},
    {"use_torch_compile", NULL, "everything is compiled"},
    {"compile_mode", NULL, "everything is compiled"},
    {"compile_fullgraph", NULL, "everything is compiled"},
    {"use_fused_kernels", NULL, "kernels are always fused"},
    {"use_triton_kernel", NULL, "kernels are generated"},
    {"triton_kernel_version", NULL, "kernels are generated"},
    {"triton_use_safe_ops", NULL, "kernels are generated"},
    {"use_flash_attention_2", NULL, "attention scores are never stored"},
    {"mixed_precision_dtype", NULL, "bf16 where the device has it, else f16"},
    {"gradient_checkpointing_segments", NULL, "the plan decides what is kept"},
    {"effective_batch_size", NULL, "it is batch_size × gradient_accumulation_steps"},
    {"enable_numerical_guards", NULL, "NaN and Inf are always caught"},
};

const MuseConfigKey *muse_config_keys(size_t *out_count) {
  *out_count = sizeof keys / sizeof *keys;
  return keys;
}

const MuseConfigForeignKey *muse_config_foreign_keys(size_t *out_count) {
  *out_count = sizeof foreign_keys / sizeof *foreign_keys;
  return foreign_keys;
}

int muse_config_find_key(const char *name) {
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (!strcmp(keys[i].name, name)) return (int)i;
  return -1;
}

const MuseConfigForeignKey *muse_config_find_foreign(const char *name) {
  for (size_t i = 0; i < sizeof foreign_keys / sizeof *foreign_keys; i++)
    if (!strcmp(foreign_keys[i].name, name)) return &foreign_keys[i];
  return NULL;
}

void *muse_config_field(const MuseConfig *config, const MuseConfigKey *key) { return (char *)config + key->offset; }

// "true or false", "1 to 65536", "relu2 | gelu": what may stand after the colon.
static void append_values(const MuseConfigKey *key, MuseStr *out) {
  switch (key->type) {
  case MUSE_KEY_BOOL: muse_str_append(out, "true or false"); break;
  case MUSE_KEY_TEXT: muse_str_append(out, "text"); break;
  case MUSE_KEY_BYTES: muse_str_append(out, "bytes, such as 512MiB or 8GiB"); break;
  case MUSE_KEY_ENUM:
    for (int i = 0; key->choices[i]; i++) muse_str_appendf(out, "%s%s", i ? ", " : "", key->choices[i]);
    break;
  case MUSE_KEY_INT: muse_str_appendf(out, "%.0f to %.0f", key->min, key->max); break;
  case MUSE_KEY_REAL: muse_str_appendf(out, "number, %.7g to %.7g", key->min, key->max); break;
  }
  if (key->automatic && key->type != MUSE_KEY_ENUM) muse_str_append(out, ", or auto");
  if (key->nullable) muse_str_append(out, ", or null");
}

static const char *default_of(const MuseConfigKey *key) { return key->default_text ? key->default_text : "required"; }

static void append_unset_words(const MuseConfigKey *key, MuseStr *out) {
  if (!key->unset_words) return;
  if (key->automatic) muse_str_appendf(out, " (auto: %s)", key->unset_words);
  else if (key->nullable) muse_str_appendf(out, " (null: %s)", key->unset_words);
  else muse_str_appendf(out, " (%s)", key->unset_words);
}

void muse_config_list_keys(MuseStr *out) {
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const MuseConfigKey *key = &keys[i];
    if (key->section) muse_str_appendf(out, "%s%s\n", i ? "\n" : "", key->section);
    muse_str_appendf(out, "  %-28s %-10s  ", key->name, default_of(key));
    append_values(key, out);
    muse_str_appendf(out, "\n      %s", key->doc);
    append_unset_words(key, out);
    muse_str_append(out, "\n");
  }
}

static const char intro[] =
    "# Configuration\n"
    "\n"
    "<!-- Generated from compiler/config_keys.c: MUSE_UPDATE=1 meson test -C build test_compiler_config -->\n"
    "\n"
    "A config is one YAML mapping from the keys below to values. `musec CONFIG -o PLAN` compiles it;\n"
    "`--set key=value` replaces a value for one run and may be repeated. `configs/` holds examples.\n"
    "\n"
    "## How values are read\n"
    "\n"
    "* A key is given once, and only keys of this page are known. All mistakes of a file are reported together, each "
    "with its\n"
    "  place and, for a misspelt word, the nearest known one.\n"
    "* Numbers are decimal: `512`, `0.003`, `1e-4`. A whole number may be written `1e5`. A leading zero (`010`), "
    "`0x10` and\n"
    "  `1_000` are refused, because YAML 1.1 and 1.2 disagree about them.\n"
    "* `yes`, `no`, `on`, `off`, `y` and `n` (any of YAML 1.1's spellings) are `true` and `false` where a key wants "
    "true or\n"
    "  false; everywhere else they are text.\n"
    "* `null`, `~` or nothing after the colon means \"not set\", for the keys that say so.\n"
    "* Sizes of memory are bytes or carry a unit: `512MiB`, `8GiB`, `24GB`.\n"
    "* A value in quotes is text; numbers, true and false stand without quotes.\n"
    "* Anchors, aliases, tags, a second document, files over 1 MiB and nesting over 16 levels are refused.\n";

static const char foreign_intro[] =
    "\n## Keys of other trainers\n"
    "\n"
    "Configs written for PyTorch trainers hold keys that change nothing here. These are accepted, with one note; all "
    "other\n"
    "unknown keys are refused, because ignoring one such as `dropout` would train something else than was asked for.\n"
    "\n"
    "| key | meaning here |\n"
    "|---|---|\n";

void muse_config_keys_markdown(MuseStr *out) {
  muse_str_append(out, intro);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const MuseConfigKey *key = &keys[i];
    if (key->section)
      muse_str_appendf(out, "\n## %s\n\n| key | default | values | meaning |\n|---|---|---|---|\n", key->section);
    muse_str_appendf(out, "| `%s` | %s%s%s | ", key->name, key->default_text ? "`" : "", default_of(key),
                     key->default_text ? "`" : "");
    append_values(key, out);
    muse_str_appendf(out, " | %s", key->doc);
    append_unset_words(key, out);
    muse_str_append(out, " |\n");
  }
  muse_str_append(out, foreign_intro);
  for (size_t i = 0; i < sizeof foreign_keys / sizeof *foreign_keys; i++) {
    const MuseConfigForeignKey *f = &foreign_keys[i];
    if (f->ours) muse_str_appendf(out, "| `%s` | another name of `%s` |\n", f->name, f->ours);
    else muse_str_appendf(out, "| `%s` | none: %s |\n", f->name, f->why);
  }
}
