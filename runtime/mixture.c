// Training batches from token sets mixed by weight, or from a tensor. A row is a pure function of the cursor: the set
// comes from the counts of rows drawn, the window from the set's own count and the seed.
#include "runtime/mixture.h"

#include "compiler/config_recipe.h"
#include "ir/base/checked.h"
#include "ir/base/hash.h"
#include "runtime/safetensors.h"
#include "runtime/windows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct DataSet {
  char *name, *path;
  MuseWindows train;
  MuseWindows validation; // of a set that brings its own; else zeroed and train holds windows out
  uint64_t share;         // of 2^32
} DataSet;

struct MuseDataSource {
  MuseDataOptions options;
  DataSet sets[MUSE_DATA_MAX_SETS];
  int n_sets;
  MuseSafetensors *file;          // of a tensor source
  const MuseStoredTensor *tensor; // [steps, B, T+1]
  uint64_t fingerprint;
};

_Static_assert((int)MUSE_DATA_MAX_SETS == (int)MUSE_RECIPE_MAX_ENTRIES, "a recipe fits a source");


static int64_t n_validation(const DataSet *set) {
  return set->validation.tokens ? set->validation.n_train : set->train.n_validation;
}

// ---- opening

static MuseStatus check_tokenizer(const MuseDataOptions *options, const MuseTokens *tokens, MuseDiag *diag) {
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  if (info->version < 2 || options->tokenizer_hash == 0 || info->tokenizer_hash == options->tokenizer_hash)
    return MUSE_OK;
  return muse_error(
      diag, MUSE_ERR_DATA,
      "'%s' was made by another tokenizer ('%s', hash %016llx) than the model's (hash %016llx); tokenize the text "
      "again with the model's",
      info->idx_path, info->tokenizer, (unsigned long long)info->tokenizer_hash,
      (unsigned long long)options->tokenizer_hash);
}

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// A token set NAME, or a folder that holds `train` and perhaps `validation`.
static MuseStatus open_set(MuseDataSource *source, const char *name, const char *path, MuseDiag *diag) {
  DataSet *set = &source->sets[source->n_sets++];
  const MuseDataOptions *o = &source->options;
  set->name = strdup(name);
  set->path = strdup(path);
  MUSE_ASSERT(set->name && set->path);
  MuseStr train = {0}, validation = {0};
  MuseStatus status = MUSE_OK;
  muse_str_append(&train, path);
  if (!muse_tokens_exist(path) && is_folder(path)) {
    muse_str_append(&train, "/train");
    muse_str_appendf(&validation, "%s/validation", path);
    if (muse_tokens_exist(validation.data)) {
      status = muse_windows_open(validation.data, o->row_tokens, o->eos, 0, &set->validation, diag);
      if (status == MUSE_OK) status = check_tokenizer(o, set->validation.tokens, diag);
    }
  }
  if (status == MUSE_OK)
    status = muse_windows_open(train.data, o->row_tokens, o->eos, set->validation.tokens ? 0 : o->validation_share,
                               &set->train, diag);
  if (status == MUSE_OK) status = check_tokenizer(o, set->train.tokens, diag);
  muse_str_free(&train);
  muse_str_free(&validation);
  return status;
}

// Shares in whole 2^-32: the choice of sets is exact integer arithmetic, the same on every machine.
static void set_shares(MuseDataSource *source, const double *weights) {
  double sum = 0;
  uint64_t given = 0, one = (uint64_t)1 << 32;
  int heaviest = 0;
  for (int i = 0; i < source->n_sets; i++) {
    sum += weights[i];
    if (weights[i] > weights[heaviest]) heaviest = i;
  }
  for (int i = 0; i < source->n_sets; i++) {
    double share = weights[i] / sum * 4294967296.0;
    source->sets[i].share = share < 1 ? 1 : (uint64_t)share;
    given += source->sets[i].share;
  }
  source->sets[heaviest].share += one - given; // rounding, a few units; may wrap below and back
}

static MuseStatus open_recipe(MuseDataSource *source, const char *path, MuseDiag *diag) {
  MuseArena *arena = muse_arena_create();
  MuseRecipe *recipe = MUSE_NEW(arena, MuseRecipe);
  double weights[MUSE_DATA_MAX_SETS];
  MuseStatus status = muse_recipe_load(path, arena, recipe, diag);
  for (int i = 0; status == MUSE_OK && i < recipe->n_entries; i++) {
    weights[i] = recipe->entries[i].weight;
    status = open_set(source, recipe->entries[i].name, recipe->entries[i].path, diag);
  }
  if (status == MUSE_OK) set_shares(source, weights);
  muse_arena_destroy(arena);
  return status;
}

static MuseStatus open_tensor(MuseDataSource *source, const char *path, MuseDiag *diag) {
  MUSE_TRY(muse_safetensors_open(path, &source->file, diag));
  MUSE_TRY(muse_safetensors_get(source->file, "tokens", &source->tensor, diag));
  const MuseStoredTensor *t = source->tensor;
  char text[256];
  muse_stored_tensor_describe(t, text, sizeof text);
  if (t->rank != 3 || t->count == 0 || t->shape[2] != source->options.row_tokens + 1)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the tensor 'tokens' is %s; it must be [steps, B, n_seq + 1 = %lld]",
                      path, text, (long long)source->options.row_tokens + 1);
  if (t->type == MUSE_STORED_BOOL || t->type <= MUSE_STORED_BF16)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the tensor 'tokens' is %s; token ids must be whole numbers", path,
                      text);
  return MUSE_OK;
}

static void hash_windows(MuseHasher *hasher, const MuseWindows *w) {
  const MuseTokensInfo *info = muse_tokens_info(w->tokens);
  int64_t numbers[4] = {info->n_tokens, info->n_documents, info->token_bytes, (int64_t)info->tokenizer_hash};
  int32_t sample[1024];
  int64_t count = info->n_tokens < 1024 ? info->n_tokens : 1024;
  muse_hasher_update(hasher, numbers, sizeof numbers);
  // A sample of the text tells sets of equal size apart. Ids beyond 31 bits are an error only when they are drawn.
  MuseDiag *unused = muse_diag_create();
  if (muse_tokens_read(w->tokens, 0, count, 0, sample, unused) == MUSE_OK)
    muse_hasher_update(hasher, sample, (size_t)count * 4);
  muse_diag_destroy(unused);
}

// Identifies what the rows of a cursor are: contents, shares and options, but not where the files lie.
static uint64_t fingerprint(const MuseDataSource *source) {
  const MuseDataOptions *o = &source->options;
  MuseHasher *hasher = muse_hasher_create();
  int64_t numbers[6] = {1, o->row_tokens, o->eos, o->seed, o->shuffle, source->n_sets};
  muse_hasher_update(hasher, numbers, sizeof numbers);
  muse_hasher_update(hasher, &o->validation_share, sizeof o->validation_share);
  for (int i = 0; i < source->n_sets; i++) {
    muse_hasher_update(hasher, &source->sets[i].share, sizeof source->sets[i].share);
    hash_windows(hasher, &source->sets[i].train);
    if (source->sets[i].validation.tokens) hash_windows(hasher, &source->sets[i].validation);
  }
  if (source->tensor) muse_hasher_update(hasher, source->tensor->data, source->tensor->bytes);
  uint64_t hash = muse_hasher_finish(hasher).lo;
  return hash ? hash : 1;
}

MuseStatus muse_data_open(const char *spec, const MuseDataOptions *options, MuseDataSource **out_source,
                          MuseDiag *diag) {
  *out_source = NULL;
  MuseDataSource *source = calloc(1, sizeof *source);
  if (!source) muse_out_of_memory(sizeof *source);
  source->options = *options;
  MuseStatus status;
  if (muse_str_ends_with(spec, ".yaml") || muse_str_ends_with(spec, ".yml")) {
    status = open_recipe(source, spec, diag);
  } else if (muse_str_ends_with(spec, ".safetensors")) {
    status = open_tensor(source, spec, diag);
  } else {
    const char *slash = strrchr(spec, '/');
    status = open_set(source, slash && slash[1] ? slash + 1 : spec, spec, diag);
    if (status == MUSE_OK) set_shares(source, (double[]){1});
  }
  if (status != MUSE_OK) {
    muse_data_close(source);
    return status;
  }
  source->fingerprint = fingerprint(source);
  *out_source = source;
  return MUSE_OK;
}

void muse_data_close(MuseDataSource *source) {
  if (!source) return;
  for (int i = 0; i < source->n_sets; i++) {
    muse_windows_close(&source->sets[i].train);
    muse_windows_close(&source->sets[i].validation);
    free(source->sets[i].name);
    free(source->sets[i].path);
  }
  muse_safetensors_close(source->file);
  free(source);
}

// ---- drawing

MuseStatus muse_data_check_cursor(const MuseDataSource *source, MuseDataCursor *cursor, MuseDiag *diag) {
  if (cursor->fingerprint == 0) cursor->fingerprint = source->fingerprint;
  if (cursor->fingerprint == source->fingerprint) return MUSE_OK;
  return muse_error(
      diag, MUSE_ERR_DATA,
      "the saved position belongs to other data or options (fingerprint %016llx, now %016llx); resume with the "
      "data, validation share, n_seq and seed of the run, or start a new run from its parameters",
      (unsigned long long)cursor->fingerprint, (unsigned long long)source->fingerprint);
}

// The set whose count lags furthest behind its share, the first of equals: after n rows every set has its share of n to
// within one row or so (the deficit rule of apportionment).
static int choose_set(const MuseDataSource *source, const MuseDataCursor *cursor, bool validation) {
  int best = -1;
  __int128 best_deficit = 0;
  for (int i = 0; i < source->n_sets; i++) {
    if (validation && n_validation(&source->sets[i]) == 0) continue;
    __int128 deficit = (__int128)source->sets[i].share * (cursor->rows + 1) - ((__int128)cursor->drawn[i] << 32);
    if (best < 0 || deficit > best_deficit) best = i, best_deficit = deficit;
  }
  return best;
}

static MuseStatus draw_row(const MuseDataSource *source, MuseDataCursor *cursor, bool validation, int32_t *out,
                           MuseDiag *diag) {
  int i = choose_set(source, cursor, validation);
  const DataSet *set = &source->sets[i];
  uint64_t n = (uint64_t)(validation ? n_validation(set) : set->train.n_train);
  uint64_t index = cursor->drawn[i] % n, epoch = cursor->drawn[i] / n;
  uint32_t stream = (uint32_t)i * 2 + validation;
  if (source->options.shuffle) index = muse_permute(index, n, source->options.seed, stream, epoch);
  int64_t vocab_size = source->options.vocab_size;
  if (validation && !set->validation.tokens)
    MUSE_TRY(muse_windows_read_validation(&set->train, (int64_t)index, vocab_size, out, diag));
  else
    MUSE_TRY(
        muse_windows_read_train(validation ? &set->validation : &set->train, (int64_t)index, vocab_size, out, diag));
  cursor->drawn[i]++;
  cursor->rows++;
  return MUSE_OK;
}

static MuseStatus draw_tensor(const MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, int32_t *out,
                              MuseDiag *diag) {
  const MuseStoredTensor *t = source->tensor;
  const char *path = muse_safetensors_path(source->file);
  if (batch != t->shape[1])
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': 'tokens' holds batches of %lld rows, the plan was compiled for %lld",
                      path, (long long)t->shape[1], (long long)batch);
  uint64_t step = cursor->rows / (uint64_t)batch;
  if (step >= (uint64_t)t->shape[0])
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': all %lld steps of 'tokens' are used up; lower max_steps or add steps", path,
                      (long long)t->shape[0]);
  int64_t count = batch * t->shape[2];
  MUSE_TRY(muse_stored_read_i32(t, (int64_t)step * count, count, out, diag));
  for (int64_t i = 0; i < count; i++) {
    if (out[i] < 0 || out[i] >= source->options.vocab_size)
      return muse_error(diag, MUSE_ERR_DATA,
                        "'%s': element %lld of 'tokens' is %d, but ids go from 0 to vocab_size - 1 = %lld", path,
                        (long long)((int64_t)step * count + i), out[i], (long long)source->options.vocab_size - 1);
  }
  cursor->rows += (uint64_t)batch;
  return MUSE_OK;
}

static MuseStatus draw(const MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, bool validation,
                       int32_t *out, MuseDiag *diag) {
  MUSE_ASSERT(batch > 0);
  MUSE_TRY(muse_data_check_cursor(source, cursor, diag));
  MuseDataCursor moved = *cursor; // a failed draw leaves the cursor where it was
  if (source->tensor) MUSE_TRY(draw_tensor(source, &moved, batch, out, diag));
  else
    for (int64_t b = 0; b < batch; b++)
      MUSE_TRY(draw_row(source, &moved, validation, out + b * (source->options.row_tokens + 1), diag));
  *cursor = moved;
  return MUSE_OK;
}

MuseStatus muse_data_next(MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, int32_t *out, MuseDiag *diag) {
  return draw(source, cursor, batch, false, out, diag);
}

MuseStatus muse_data_validation_next(MuseDataSource *source, MuseDataCursor *cursor, int64_t batch, int32_t *out,
                                     MuseDiag *diag) {
  if (muse_data_validation_rows(source) == 0)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "no text is held out for validation; add text or raise the validation share");
  return draw(source, cursor, batch, true, out, diag);
}

// ---- reports

int64_t muse_data_validation_rows(const MuseDataSource *source) {
  int64_t rows = 0;
  for (int i = 0; i < source->n_sets; i++) rows += n_validation(&source->sets[i]);
  return rows;
}

int64_t muse_data_n_steps(const MuseDataSource *source) { return source->tensor ? source->tensor->shape[0] : -1; }
int64_t muse_data_batch(const MuseDataSource *source) { return source->tensor ? source->tensor->shape[1] : -1; }
int muse_data_n_sets(const MuseDataSource *source) { return source->n_sets; }

MuseDataSetReport muse_data_report(const MuseDataSource *source, const MuseDataCursor *cursor, int set) {
  MUSE_ASSERT(set >= 0 && set < source->n_sets);
  const DataSet *s = &source->sets[set];
  const MuseTokensInfo *info = muse_tokens_info(s->train.tokens);
  return (MuseDataSetReport){
      .name = s->name,
      .path = s->path,
      .target = (double)s->share / 4294967296.0,
      .achieved = cursor->rows ? (double)cursor->drawn[set] / (double)cursor->rows : 0,
      .n_tokens = info->n_tokens,
      .n_documents = info->n_documents,
      .n_windows = s->train.n_train,
      .n_validation = n_validation(s),
      .epochs = (double)cursor->drawn[set] / (double)s->train.n_train,
  };
}

void muse_data_report_text(const MuseDataSource *source, const MuseDataCursor *cursor, MuseStr *out) {
  if (source->tensor) {
    muse_str_appendf(out, "batches from '%s': %lld steps of %lld rows, %llu rows used\n",
                     muse_safetensors_path(source->file), (long long)source->tensor->shape[0],
                     (long long)source->tensor->shape[1], (unsigned long long)cursor->rows);
    return;
  }
  muse_str_appendf(out, "%-24s %8s %9s %14s %10s %11s %8s\n", "data", "target", "achieved", "tokens", "documents",
                   "validation", "epochs");
  for (int i = 0; i < source->n_sets; i++) {
    MuseDataSetReport r = muse_data_report(source, cursor, i);
    muse_str_appendf(out, "%-24s %7.2f%% %8.2f%% %14lld %10lld %6lld rows %8.2f\n", r.name, 100 * r.target,
                     100 * r.achieved, (long long)r.n_tokens, (long long)r.n_documents, (long long)r.n_validation,
                     r.epochs);
  }
}
