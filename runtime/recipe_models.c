// Which model suits this machine, and its config, made from one of configs/.
#include "runtime/recipe.h"

#include "ir/base/io.h"
#include "runtime/cuda_api.h"
#include "runtime/metrics.h"
#include "runtime/pool.h"
#include "runtime/text_files.h"
#include "runtime/tokenizer.h"
#include "runtime/tokens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

// bytes: the planned peak without a memory budget, by musec --estimate.
const MuseModelChoice muse_models[MUSE_N_MODELS] = {
    {"tiny", "muse-tiny.yaml", 0.18e9},
    {"300m", "phase8_300m.yaml", 6.5e9},
    {"1b", "phase8_1b.yaml", 27.2e9},
    {"10b", "phase8_10b_rtx3080.yaml", 64.3e9},
};

const MuseModelChoice *muse_recipe_model(const char *name) {
  for (int i = 0; i < MUSE_N_MODELS; i++)
    if (strcasecmp(name, muse_models[i].name) == 0) return &muse_models[i];
  return NULL;
}

// ---- the machine ----

// The number after `key` in a small file, times `unit`; 0 when there is none.
static uint64_t read_number(const char *path, const char *key, uint64_t unit) {
  FILE *f = fopen(path, "r");
  char line[256];
  uint64_t value = 0;
  while (f && value == 0 && fgets(line, sizeof line, f))
    if (muse_str_starts_with(line, key)) value = strtoull(line + strlen(key), NULL, 10) * unit;
  if (f) fclose(f);
  return value;
}

void muse_recipe_machine(MuseMachine *m) {
  *m = (MuseMachine){.cores = muse_available_cores()};
  m->memory = read_number("/proc/meminfo", "MemTotal:", 1024);
  uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "", 1); // of a container; "max" reads as 0
  if (limit > 0 && limit < m->memory) m->memory = limit;
  MuseDiag *quiet = muse_diag_create(); // that there is no GPU is no mistake
  const MuseCuda *cuda;
  int n = muse_cuda_open(&cuda, quiet) == MUSE_OK ? muse_cuda_device_count(cuda) : 0;
  for (int i = 0; i < n; i++) {
    MuseCudaDevice d;
    if (muse_cuda_device(cuda, i, &d, quiet) != MUSE_OK || d.memory_bytes <= m->gpu_memory) continue;
    m->gpu_memory = d.memory_bytes;
    snprintf(m->gpu, sizeof m->gpu, "%s", d.name);
  }
  muse_diag_destroy(quiet);
}

bool muse_recipe_fits(const MuseMachine *m, const MuseModelChoice *model) {
  double memory = m->gpu_memory ? (double)m->gpu_memory : (double)m->memory;
  return model->bytes <= 0.92 * memory; // the rest is the driver's, or the system's
}

const MuseModelChoice *muse_recipe_suits(const MuseMachine *m) {
  enum { MANY_CORES = 32 }; // fewer take weeks for 300 M parameters
  int largest = m->gpu_memory ? MUSE_N_MODELS - 1 : m->cores >= MANY_CORES ? 1 : 0;
  while (largest > 0 && !muse_recipe_fits(m, &muse_models[largest])) largest--;
  return &muse_models[largest];
}

// ---- configs ----

MuseStatus muse_template_read(const char *dir, const MuseModelChoice *model, MuseTemplate *out, MuseDiag *diag) {
  MuseStr path = {0};
  if (dir) muse_str_appendf(&path, "%s/%s", dir, model->file);
  else muse_find_config(model->file, &path);
  out->file = model->file;
  MuseStatus status = muse_read_file(path.data, 1 << 20, &out->text, diag);
  muse_str_free(&path);
  return status;
}

// The line of a key of the top level, and the start of its value; NULL: there is none.
static char *find_line(const MuseTemplate *t, const char *key, char **out_value) {
  size_t n = strlen(key);
  for (char *line = t->text.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
    if (strncmp(line, key, n) != 0 || line[n] != ':') continue;
    *out_value = line + n + 1 + strspn(line + n + 1, " ");
    return line;
  }
  return NULL;
}

double muse_template_number(const MuseTemplate *t, const char *key, double fallback) {
  char *value, *end;
  if (!find_line(t, key, &value)) return fallback;
  double number = strtod(value, &end);
  return end > value && isfinite(number) ? number : fallback;
}

void muse_template_set(MuseTemplate *t, const char *key, const char *value) {
  MuseStr text = {0};
  char *old, *line = find_line(t, key, &old);
  const char *rest = line ? strchr(line, '\n') : NULL;
  muse_str_append_n(&text, t->text.data, line ? (size_t)(line - t->text.data) : t->text.len);
  if (!line && text.len && text.data[text.len - 1] != '\n') muse_str_append(&text, "\n");
  muse_str_appendf(&text, "%s: %s\n", key, value);
  if (rest) muse_str_append(&text, rest + 1);
  muse_str_free(&t->text);
  t->text = text;
}

double muse_template_step_tokens(const MuseTemplate *t) {
  return muse_template_number(t, "n_seq", 1) * muse_template_number(t, "batch_size", 1) *
         muse_template_number(t, "gradient_accumulation_steps", 1);
}

static void set_number(MuseTemplate *t, const char *key, double value) {
  char text[32];
  snprintf(text, sizeof text, "%.0f", value);
  muse_template_set(t, key, text);
}

// Where muse-data tokenize keeps the tokenizer of a set; false: nowhere.
static bool kept_tokenizer(const MuseFoundSet *set, MuseStr *out_path) {
  MuseStr base = {0};
  muse_str_append(&base, set->path);
  if (!muse_tokens_exist(set->path)) muse_str_append(&base, "/train");
  bool found = false;
  for (int json = 1; json >= 0 && !found; json--) {
    muse_str_clear(out_path);
    muse_tokens_tokenizer_path(base.data, json, out_path);
    found = access(out_path->data, R_OK) == 0;
  }
  muse_str_free(&base);
  return found;
}

// vocab_size, tokenizer and eos_token_id of the tokenizer's file.
static MuseStatus use_tokenizer(MuseTemplate *t, const MuseFoundSet *set, const char *path, MuseDiag *diag) {
  MuseTokenizer *tokenizer;
  MUSE_TRY(muse_tokenizer_open(path, &tokenizer, diag));
  MuseStatus status = MUSE_OK;
  if (set->tokenizer_hash && muse_tokenizer_hash(tokenizer) != set->tokenizer_hash)
    status = muse_error(diag, MUSE_ERR_DATA, "'%s' is not the tokenizer that made '%s'; name that one with --tokenizer",
                        path, set->path);
  if (status == MUSE_OK) {
    MuseStr quoted = {0};
    muse_json_append_text(&quoted, path, strlen(path));
    muse_template_set(t, "tokenizer", quoted.data);
    muse_str_free(&quoted);
    set_number(t, "vocab_size", (double)muse_tokenizer_vocab_size(tokenizer));
    if (muse_tokenizer_eos(tokenizer) >= 0) set_number(t, "eos_token_id", (double)muse_tokenizer_eos(tokenizer));
    else muse_template_set(t, "eos_token_id", "null");
  }
  muse_tokenizer_close(tokenizer);
  return status;
}

// The head of a template describes the template; what it became says where it comes from.
static void set_head(MuseTemplate *t, const char *file, double tokens) {
  char count[MUSE_COUNT_TEXT];
  MuseStr text = {0};
  const char *rest = t->text.data;
  while (*rest == '#') rest = strchr(rest, '\n') ? strchr(rest, '\n') + 1 : rest + strlen(rest);
  muse_recipe_count_text(tokens, count);
  muse_str_appendf(&text, "# Made by muse-data recipe from %s, for %s tokens.\n", file, count);
  muse_str_append(&text, rest);
  muse_str_free(&t->text);
  t->text = text;
}

MuseStatus muse_template_fit(MuseTemplate *t, const MuseFoundSets *found, const char *tokenizer, double tokens,
                             MuseDiag *diag) {
  const MuseFoundSet *set = &found->sets[0]; // all have the same tokenizer
  MuseStr kept = {0};
  MuseStatus status = MUSE_OK;
  if (tokenizer) status = use_tokenizer(t, set, tokenizer, diag);
  else if (muse_str_eq(set->tokenizer, "bytes")) status = use_tokenizer(t, set, "bytes", diag);
  else if (kept_tokenizer(set, &kept)) status = use_tokenizer(t, set, kept.data, diag);
  else { // the sets do not say more than their vocabulary
    muse_template_set(t, "tokenizer", "null");
    if (set->vocab_size > 0 && muse_template_number(t, "vocab_size", 0) != (double)set->vocab_size) {
      set_number(t, "vocab_size", (double)set->vocab_size);
      muse_template_set(t, "eos_token_id", "null"); // the template's was of another vocabulary
    }
  }
  muse_str_free(&kept);
  double steps = fmin(fmax(ceil(tokens / muse_template_step_tokens(t)), 1), 1e9);
  set_number(t, "max_steps", steps);
  if (muse_template_number(t, "warmup_steps", 0) > steps / 4) muse_template_set(t, "warmup_steps", "auto");
  if (muse_template_number(t, "memory_budget", 0) > 0) muse_template_set(t, "memory_budget", "0");
  set_head(t, t->file, tokens);
  return status;
}

void muse_template_free(MuseTemplate *t) { muse_str_free(&t->text); }

void muse_recipe_count_text(double n, char out[MUSE_COUNT_TEXT]) {
  static const char *const suffixes[] = {"", "k", "M", "G", "T"};
  int i = 0;
  while (n >= 999.95 && i < 4) n /= 1e3, i++;
  snprintf(out, MUSE_COUNT_TEXT, "%.4g%s", n, suffixes[i]);
}

bool muse_recipe_parse_tokens(const char *text, double *out) {
  static const struct { const char *suffix; double factor; } suffixes[] = {
      {"", 1}, {"k", 1e3}, {"m", 1e6}, {"b", 1e9}, {"g", 1e9}, {"t", 1e12}};
  char *end;
  double value = strtod(text, &end);
  if (end == text || !(value > 0 && value <= 1e15)) return false;
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
    if (strcasecmp(end, suffixes[i].suffix) != 0) continue;
    *out = value * suffixes[i].factor;
    return *out >= 1 && *out <= 1e15;
  }
  return false;
}
