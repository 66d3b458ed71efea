// Finds the token sets of a folder, and mixes them.
#include "runtime/recipe.h"

#include "ir/base/io.h"
#include "runtime/metrics.h"
#include "runtime/tokens.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MIN_TOKENS = 1024 }; // the configs' rows have 256 and 512

const MusePreset muse_presets[MUSE_N_PRESETS] = {
    // weights: textbook, code, Japanese, English, other
    {"balanced", "a bit of everything", "全体をバランスよく", MUSE_N_KINDS, {30, 20, 25, 15, 10}},
    {"code", "mostly code", "コード中心", MUSE_KIND_CODE, {20, 60, 5, 10, 5}},
    {"japanese", "mostly Japanese", "日本語中心", MUSE_KIND_JAPANESE, {10, 5, 75, 5, 5}},
    {"textbook", "mostly textbooks (cosmopedia)", "教科書中心 (cosmopedia)", MUSE_KIND_TEXTBOOK, {80, 5, 5, 7, 3}},
};

const MusePreset *muse_recipe_preset(const char *name) {
  for (int i = 0; i < MUSE_N_PRESETS; i++)
    if (strcasecmp(name, muse_presets[i].name) == 0) return &muse_presets[i];
  return NULL;
}

// ---- finding ----

// Is `word` in `name`, not as a part of a longer word? Digits, "_", "-" and "." part words.
static bool has_word(const char *name, const char *word) {
  size_t n = strlen(word);
  for (const char *p = name; (p = strcasestr(p, word)); p++) {
    bool begins = p == name || !isalpha((unsigned char)p[-1]);
    if (begins && !isalpha((unsigned char)p[n])) return true;
  }
  return false;
}

MuseSetKind muse_recipe_kind(const char *name) {
  static const struct { MuseSetKind kind; bool whole; const char *word; } words[] = {
      {MUSE_KIND_JAPANESE, false, "japan"},   {MUSE_KIND_JAPANESE, true, "ja"},
      {MUSE_KIND_JAPANESE, true, "jp"},       {MUSE_KIND_JAPANESE, true, "jpn"},
      {MUSE_KIND_CODE, false, "code"},        {MUSE_KIND_CODE, false, "github"},
      {MUSE_KIND_CODE, true, "stack"},        {MUSE_KIND_CODE, false, "evol_instruct"},
      {MUSE_KIND_TEXTBOOK, false, "cosmopedia"}, {MUSE_KIND_TEXTBOOK, false, "textbook"},
      {MUSE_KIND_ENGLISH, false, "wiki"},     {MUSE_KIND_ENGLISH, false, "arxiv"},
      {MUSE_KIND_ENGLISH, false, "factuality"}, {MUSE_KIND_ENGLISH, true, "c4"},
      {MUSE_KIND_ENGLISH, false, "fineweb"},  {MUSE_KIND_ENGLISH, false, "gutenberg"},
      {MUSE_KIND_ENGLISH, true, "en"},        {MUSE_KIND_ENGLISH, false, "english"},
  };
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (words[i].whole ? has_word(name, words[i].word) : strcasestr(name, words[i].word) != NULL) return words[i].kind;
  return MUSE_KIND_OTHER;
}

// Names go into YAML and onto the terminal; those with control characters are nobody's.
static bool is_plain(const char *name) {
  for (const char *p = name; *p; p++)
    if (iscntrl((unsigned char)*p)) return false;
  return *name && *name != '.';
}

static void leave_out(MuseStr *out, const char *path, const char *why) {
  muse_str_appendf(out, "%s: %s\n", path, why);
}

// `path` as training takes it; `train` is the set in it whose tokens are counted.
static MuseStatus add_set(MuseFoundSets *found, const char *path, const char *train, MuseStr *left_out,
                          MuseDiag *diag) {
  MuseDiag *quiet = muse_diag_create();
  MuseTokens *tokens;
  MuseStatus status = MUSE_OK;
  errno = 0;
  if (muse_tokens_open(train, &tokens, quiet) != MUSE_OK) {
    bool shortage = muse_is_shortage(errno);
    const char *why = muse_diag_message(quiet, 0);
    if (shortage) status = muse_error(diag, MUSE_ERR_FAILED, "%s", why ? why : "there are too few files or memory");
    else leave_out(left_out, path, why ? why : "unreadable");
  } else {
    const MuseTokensInfo *info = muse_tokens_info(tokens);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (info->n_tokens < MIN_TOKENS) leave_out(left_out, path, "fewer than 1024 tokens, not a row to train on");
    else if (muse_recipe_set(found, name)) leave_out(left_out, path, "another set has this name");
    else if (found->n == MUSE_DATA_MAX_SETS) leave_out(left_out, path, "a recipe holds at most 64 sets");
    else {
      MuseFoundSet *s = &found->sets[found->n++];
      *s = (MuseFoundSet){.name = strdup(name),
                          .path = strdup(path),
                          .n_tokens = info->n_tokens,
                          .n_documents = info->n_documents,
                          .vocab_size = info->vocab_size,
                          .tokenizer_hash = info->tokenizer_hash,
                          .kind = muse_recipe_kind(name)};
      if (!s->name || !s->path) muse_out_of_memory(strlen(path));
      snprintf(s->tokenizer, sizeof s->tokenizer, "%s", info->tokenizer);
    }
    muse_tokens_close(tokens);
  }
  muse_diag_destroy(quiet);
  return status;
}

// A folder that cannot be read is passed over, but for a reason that is not the folder's.
static MuseStatus walk(MuseFoundSets *found, const char *dir, bool inner, MuseStr *left_out, MuseDiag *diag) {
  struct dirent **entries;
  int n = scandir(dir, &entries, NULL, alphasort);
  if (n < 0 && muse_is_shortage(errno)) return muse_io_error(diag, "read", dir, errno);
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < n; i++) {
    const char *name = entries[i]->d_name;
    MuseStr path = {0}, train = {0};
    struct stat st;
    muse_str_appendf(&path, "%s/%s", dir, name);
    muse_str_appendf(&train, "%s/train", path.data);
    if (status != MUSE_OK || !is_plain(name) || stat(path.data, &st) != 0) {
      // nobody's
    } else if (S_ISDIR(st.st_mode)) {
      if (muse_tokens_exist(train.data)) status = add_set(found, path.data, train.data, left_out, diag);
      else if (!inner) status = walk(found, path.data, true, left_out, diag);
    } else if (muse_str_ends_with(name, ".idx")) {
      path.data[path.len - 4] = 0;
      if (muse_tokens_exist(path.data)) status = add_set(found, path.data, path.data, left_out, diag);
      else leave_out(left_out, path.data, "its .bin is missing");
    }
    muse_str_free(&path);
    muse_str_free(&train);
    free(entries[i]);
  }
  if (n >= 0) free(entries);
  return status;
}

static void free_set(MuseFoundSet *s) {
  free(s->name);
  free(s->path);
}

// A model has one tokenizer: that of the most tokens stays.
static void keep_one_tokenizer(MuseFoundSets *found, MuseStr *left_out) {
  int64_t most = -1;
  uint64_t kept = 0;
  for (int i = 0; i < found->n; i++) {
    int64_t tokens = 0;
    for (int j = 0; j < found->n; j++)
      if (found->sets[j].tokenizer_hash == found->sets[i].tokenizer_hash) tokens += found->sets[j].n_tokens;
    if (tokens > most) most = tokens, kept = found->sets[i].tokenizer_hash;
  }
  int n = 0;
  for (int i = 0; i < found->n; i++) {
    MuseFoundSet *s = &found->sets[i];
    if (s->tokenizer_hash == kept) {
      found->sets[n++] = *s;
      continue;
    }
    leave_out(left_out, s->path, "another tokenizer than that of most tokens here; tokenize its text again");
    free_set(s);
  }
  found->n = n;
}

MuseStatus muse_recipe_find_sets(const char *dir, MuseFoundSets *found, MuseStr *left_out, MuseDiag *diag) {
  *found = (MuseFoundSets){0};
  struct stat st;
  if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "there is no folder '%s'; make token sets with 'make data-lite' or muse-data tokenize, or name "
                      "another folder with --data",
                      dir);
  MUSE_TRY(walk(found, dir, false, left_out, diag));
  keep_one_tokenizer(found, left_out);
  if (found->n > 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT,
                    "'%s' holds no token set to train on; make one with 'make data-lite' or muse-data tokenize%s%s",
                    dir, left_out->len ? ". Left out: " : "", muse_str_text(left_out));
}

void muse_recipe_free_sets(MuseFoundSets *found) {
  for (int i = 0; i < found->n; i++) free_set(&found->sets[i]);
  found->n = 0;
}

const MuseFoundSet *muse_recipe_set(const MuseFoundSets *found, const char *name) {
  for (int i = 0; i < found->n; i++)
    if (muse_str_eq(found->sets[i].name, name)) return &found->sets[i];
  return NULL;
}

// ---- mixing ----

bool muse_recipe_has_kind(const MuseFoundSets *found, MuseSetKind kind) {
  for (int i = 0; i < found->n; i++)
    if (found->sets[i].kind == kind) return true;
  return kind == MUSE_N_KINDS;
}

void muse_recipe_apply(const MusePreset *preset, MuseFoundSets *found) {
  double tokens[MUSE_N_KINDS] = {0}, sum = 0;
  for (int i = 0; i < found->n; i++) tokens[found->sets[i].kind] += (double)found->sets[i].n_tokens;
  for (int k = 0; k < MUSE_N_KINDS; k++) sum += tokens[k] > 0 ? preset->weights[k] : 0;
  for (int i = 0; i < found->n; i++) {
    MuseFoundSet *s = &found->sets[i];
    s->weight = preset->weights[s->kind] / sum * (double)s->n_tokens / tokens[s->kind];
  }
}

static MuseStatus set_weight(char *pair, MuseFoundSets *found, MuseDiag *diag) {
  char *equals = strrchr(pair, '='); // a name may hold one
  double weight;
  if (!equals) return muse_error(diag, MUSE_ERR_INPUT, "--weights takes NAME=WEIGHT, not '%s'", pair);
  *equals = 0;
  const MuseFoundSet *set = muse_recipe_set(found, pair);
  if (!set) {
    const char *names[MUSE_DATA_MAX_SETS];
    for (int i = 0; i < found->n; i++) names[i] = found->sets[i].name;
    const char *near = muse_str_nearest(pair, names, (size_t)found->n);
    return muse_error(diag, MUSE_ERR_INPUT, "there is no token set '%s'%s%s%s", pair, near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
  }
  if (!muse_parse_double(equals + 1, &weight) || !(weight >= 0 && weight <= 1e9))
    return muse_error(diag, MUSE_ERR_INPUT, "the weight of '%s' must be a number from 0 to 1e9, not '%s'", pair,
                      equals + 1);
  found->sets[set - found->sets].weight = weight;
  return MUSE_OK;
}

MuseStatus muse_recipe_weights(const MuseTextList *texts, MuseFoundSets *found, MuseDiag *diag) {
  for (int i = 0; i < found->n; i++) found->sets[i].weight = 0;
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < texts->len && status == MUSE_OK; i++) {
    char *copy = strdup(texts->data[i]), *rest = copy;
    if (!copy) muse_out_of_memory(strlen(texts->data[i]));
    for (char *pair; status == MUSE_OK && (pair = strsep(&rest, ","));)
      if (*pair) status = set_weight(pair, found, diag);
    free(copy);
  }
  return status;
}

MuseStatus muse_recipe_normalise(MuseFoundSets *found, MuseDiag *diag) {
  double sum = 0;
  for (int i = 0; i < found->n; i++) sum += found->sets[i].weight;
  if (!(sum > 0))
    return muse_error(diag, MUSE_ERR_INPUT, "all weights are 0; give at least one token set a share of the mixture");
  for (int i = 0; i < found->n; i++) found->sets[i].weight /= sum;
  return MUSE_OK;
}

double muse_recipe_epochs(const MuseFoundSet *set, double tokens) {
  return tokens * set->weight / (double)set->n_tokens;
}

void muse_recipe_print(const MuseFoundSets *found, const char *preset, double tokens, MuseStr *out) {
  char count[MUSE_COUNT_TEXT];
  muse_recipe_count_text(tokens, count);
  muse_str_appendf(out,
                   "# Made by muse-data recipe: %s, for %s tokens. weight is a share of the tokens; a set that is\n"
                   "# smaller than its share is repeated, each time in a new order. Paths are relative to the working\n"
                   "# directory. Train with: muse-run train CONFIG.yaml --data THIS_FILE\n"
                   "datasets:\n",
                   preset, count);
  for (int i = 0; i < found->n; i++) {
    const MuseFoundSet *s = &found->sets[i];
    if (s->weight <= 0) continue;
    muse_str_append(out, "  "); // text in double quotes is read alike by JSON and YAML
    muse_json_append_text(out, s->name, strlen(s->name));
    muse_str_append(out, ":\n    path: ");
    muse_json_append_text(out, s->path, strlen(s->path));
    muse_str_appendf(out, "\n    weight: %.6g\n    description: \"%lld tokens, repeated %.2f times\"\n", s->weight,
                     (long long)s->n_tokens, muse_recipe_epochs(s, tokens));
  }
}
