#ifndef MUSE_RUNTIME_RECIPE_H
#define MUSE_RUNTIME_RECIPE_H

#include "ir/base/diag.h"
#include "ir/base/options.h"
#include "ir/base/str.h"
#include "runtime/mixture.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

// What the wizard of recipes knows: the token sets of a folder, ready-made mixtures, models by the memory they need.

// ---- token sets ----

typedef enum MuseSetKind {
  MUSE_KIND_TEXTBOOK,
  MUSE_KIND_CODE,
  MUSE_KIND_JAPANESE,
  MUSE_KIND_ENGLISH,
  MUSE_KIND_OTHER,
  MUSE_N_KINDS
} MuseSetKind;

typedef struct MuseFoundSet {
  char *name, *path;
  int64_t n_tokens, n_documents, vocab_size;
  uint64_t tokenizer_hash;
  char tokenizer[40]; // "" when the set does not say
  MuseSetKind kind;
  double weight;      // share of the mixture; 0: left out
} MuseFoundSet;

typedef struct MuseFoundSets {
  MuseFoundSet sets[MUSE_DATA_MAX_SETS];
  int n;
} MuseFoundSets;

// Token sets NAME.bin/.idx in `dir` and one folder deeper, and folders with train.bin/.idx, in byte order of the names.
// Sets that are damaged or tiny, have another tokenizer than most of the tokens, or are too many, are left out, each
// with a line in `out_left_out`. None at all is MUSE_ERR_INPUT.
MuseStatus muse_recipe_find_sets(const char *dir, MuseFoundSets *out_sets, MuseStr *out_left_out, MuseDiag *diag);
void muse_recipe_free_sets(MuseFoundSets *sets);
MuseSetKind muse_recipe_kind(const char *name); // by the words in it
const MuseFoundSet *muse_recipe_set(const MuseFoundSets *sets, const char *name); // NULL: none has it

// ---- mixtures ----

typedef struct MusePreset {
  const char *name, *english, *japanese; // english, japanese: one line that describes it
  MuseSetKind lead;                      // the kind that must be there; MUSE_N_KINDS: any
  double weights[MUSE_N_KINDS];
} MusePreset;
enum { MUSE_N_PRESETS = 4 };
extern const MusePreset muse_presets[MUSE_N_PRESETS];

const MusePreset *muse_recipe_preset(const char *name); // NULL: unknown
bool muse_recipe_has_kind(const MuseFoundSets *sets, MuseSetKind kind); // MUSE_N_KINDS: true
// Sets the weights: those of the kinds that are there, within a kind in proportion to the tokens.
void muse_recipe_apply(const MusePreset *preset, MuseFoundSets *sets);
// "NAME=WEIGHT[,NAME=WEIGHT...]", any number of them; sets that are not named get 0.
MuseStatus muse_recipe_weights(const MuseTextList *texts, MuseFoundSets *sets, MuseDiag *diag);
// Divides by the sum. MUSE_ERR_INPUT when it is 0.
MuseStatus muse_recipe_normalise(MuseFoundSets *sets, MuseDiag *diag);
// How often a set is gone through; more than MUSE_MAX_EPOCHS times teach little more (Muennighoff et al. 2023, "Scaling
// Data-Constrained Language Models", arXiv:2305.16264).
double muse_recipe_epochs(const MuseFoundSet *set, double tokens);
#define MUSE_MAX_EPOCHS 4.0

// Appends the recipe as YAML.
void muse_recipe_print(const MuseFoundSets *sets, const char *preset, double tokens, MuseStr *out);

// ---- models ----

typedef struct MuseModelChoice {
  const char *name, *file; // "1b", "phase8_1b.yaml"
  double bytes;            // that a step needs; tests hold it against musec --estimate
} MuseModelChoice;
enum { MUSE_N_MODELS = 4 };
extern const MuseModelChoice muse_models[MUSE_N_MODELS]; // from small to large
const MuseModelChoice *muse_recipe_model(const char *name); // NULL: unknown

typedef struct MuseMachine {
  uint64_t memory;     // of the host, of that what this process may have
  uint64_t gpu_memory; // of the largest GPU; 0: none
  char gpu[128];
  int cores;
} MuseMachine;
void muse_recipe_machine(MuseMachine *out_machine);
// The largest that fits the GPU; without one, what a processor trains in bearable time.
const MuseModelChoice *muse_recipe_suits(const MuseMachine *machine);
bool muse_recipe_fits(const MuseMachine *machine, const MuseModelChoice *model);

// A config that is one of `configs/` with other values.
typedef struct MuseTemplate {
  MuseStr text;
  const char *file; // of configs/, that it was read from
} MuseTemplate;
// dir: of the templates; NULL: configs/ here, or those that were installed with the program.
MuseStatus muse_template_read(const char *dir, const MuseModelChoice *model, MuseTemplate *out, MuseDiag *diag);
// The value of a key as a number, or `fallback`.
double muse_template_number(const MuseTemplate *t, const char *key, double fallback);
// Replaces a key's line, comment and all, or appends one.
void muse_template_set(MuseTemplate *t, const char *key, const char *value);
double muse_template_step_tokens(const MuseTemplate *t); // of an optimizer step
// Fits the template to the sets' tokenizer (of a file that is named, or that lies beside a set), to the number of
// tokens, and to memory as there is.
MuseStatus muse_template_fit(MuseTemplate *t, const MuseFoundSets *sets, const char *tokenizer, double tokens,
                             MuseDiag *diag);
void muse_template_free(MuseTemplate *t);

// "2e9", "300M", "1.5B", "10k". False on anything else, or on nothing.
bool muse_recipe_parse_tokens(const char *text, double *out);
// The same backwards, with four digits.
#define MUSE_COUNT_TEXT 32
void muse_recipe_count_text(double n, char out[MUSE_COUNT_TEXT]);

// ---- the command ----

typedef struct MuseRecipeOptions {
  const char *data, *output, *configs;       // folders and file
  const char *preset;                        // NULL: asked for
  MuseTextList weights;
  const char *tokens, *model, *model_output; // NULL: asked for
  const char *tokenizer;                     // a path for the config, or NULL
  uint64_t memory;                           // of the device; 0: looked up
  const char *language;                      // "en", "ja", NULL: of the locale
  bool yes, force;
  volatile sig_atomic_t *stop;               // set by a signal
} MuseRecipeOptions;

// Asks for what the options leave open, then writes. Nothing is written before everything is answered.
MuseStatus muse_data_recipe(const MuseRecipeOptions *options, MuseDiag *diag);

#endif
