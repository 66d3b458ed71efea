// A loaded plan: opening, checked access to its attributes and buffers, parameters.
#include "runtime/session.h"

#include "ir/base/io.h"
#include "ir/text.h"
#include "runtime/compressed.h"
#include "runtime/memory.h"
#include "runtime/packing.h"
#include "runtime/params.h"
#include "runtime/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

double muse_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

MuseStatus muse_plan_operand(const MuseTextList *operands, const char *command, const char **out_path, MuseDiag *diag) {
  if (operands->len == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "name a plan: muse-run %s PLAN; musec CONFIG.yaml -o PLAN makes one",
                      command);
  if (operands->len > 1)
    return muse_error(diag, MUSE_ERR_INPUT, "muse-run %s takes one plan, but '%s' follows '%s'", command,
                      operands->data[1], operands->data[0]);
  *out_path = operands->data[0];
  return MUSE_OK;
}

// ---- attributes ----

static MuseStatus bad_attribute(const MuseSession *s, const char *name, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT,
                    "'%s': the plan's attribute '%s' is missing or cannot be; run musec again on its configuration",
                    s->path, name);
}

MuseStatus muse_session_int(const MuseSession *s, const char *name, int64_t min, int64_t max, int64_t *out,
                            MuseDiag *diag) {
  const MuseAttr *a = muse_attr_find(&s->module->attrs, name);
  if (!a || a->kind != MUSE_ATTR_INT || a->i < min || a->i > max) return bad_attribute(s, name, diag);
  *out = a->i;
  return MUSE_OK;
}

MuseStatus muse_session_real(const MuseSession *s, const char *name, double min, double max, double *out,
                             MuseDiag *diag) {
  const MuseAttr *a = muse_attr_find(&s->module->attrs, name);
  double value = a && a->kind == MUSE_ATTR_INT ? (double)a->i : a && a->kind == MUSE_ATTR_REAL ? a->real : min - 1;
  if (!(value >= min && value <= max)) return bad_attribute(s, name, diag);
  *out = value;
  return MUSE_OK;
}

MuseStatus muse_session_text(const MuseSession *s, const char *name, const char **out, MuseDiag *diag) {
  const MuseAttr *a = muse_attr_find(&s->module->attrs, name);
  if (!a || a->kind != MUSE_ATTR_TEXT) return bad_attribute(s, name, diag);
  *out = a->text;
  return MUSE_OK;
}

// ---- opening ----

static MuseStatus read_sizes(MuseSession *s, MuseDiag *diag) {
  int64_t eos, seed, most = (int64_t)1 << 40;
  MUSE_TRY(muse_session_int(s, "vocab_size", 1, INT32_MAX, &s->vocab_size, diag));
  MUSE_TRY(muse_session_int(s, "batch_size", 1, most, &s->batch, diag));
  MUSE_TRY(muse_session_int(s, "n_seq", 1, most, &s->n_seq, diag));
  MUSE_TRY(muse_session_int(s, "n_layers", 1, most, &s->n_layers, diag));
  MUSE_TRY(muse_session_int(s, "window", 1, most, &s->window, diag));
  MUSE_TRY(muse_session_int(s, "gradient_accumulation_steps", 1, most, &s->accumulation, diag));
  MUSE_TRY(muse_session_int(s, "eos_token_id", -1, INT32_MAX, &eos, diag));
  MUSE_TRY(muse_session_int(s, "seed", 0, UINT32_MAX, &seed, diag));
  MUSE_TRY(muse_session_text(s, "tokenizer", &s->tokenizer, diag));
  if (!*s->tokenizer) s->tokenizer = NULL;
  s->eos = (int32_t)eos;
  s->seed = (uint32_t)seed;
  return MUSE_OK;
}

bool muse_is_config(const char *path) {
  return muse_str_ends_with(path, ".yaml") || muse_str_ends_with(path, ".yml");
}

bool muse_config_value(const char *config, const char *key, MuseStr *out) {
  MuseStr start = {0};
  muse_str_clear(out);
  muse_str_appendf(&start, "\n%s: ", key);
  const char *line = strstr(config, start.data);
  if (line) muse_str_append_n(out, line + start.len, strcspn(line + start.len, "\n"));
  muse_str_free(&start);
  return line;
}

// The text of the plan, which a configuration is compiled to.
static MuseStatus read_plan(const MuseSession *s, const MuseSessionOptions *o, MuseStr *out, MuseDiag *diag) {
  bool config = muse_is_config(s->path);
  if (config && o->train) {
    if (!s->quiet) fprintf(stderr, "compiling '%s'\n", s->path);
    return muse_plan_text_of_config(s->path, o->sets, out, diag);
  }
  if (o->sets && o->sets->len)
    return muse_error(diag, MUSE_ERR_INPUT, "--set changes a configuration; '%s' is a plan", s->path);
  MUSE_TRY(muse_read_file(s->path, MUSE_MAX_IR_TEXT, out, diag));
  if (!config) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' is a configuration; compile it with musec %s -o NAME.plan first",
                    s->path, s->path);
}

// Whether this machine has the memory that these functions take (NULL: all, as training does).
static MuseStatus check_memory(const MuseSession *s, const char *const *functions, MuseDiag *diag) {
  uint64_t available = s->host_memory ? s->host_memory : muse_available_memory();
  const char *those[16] = {NULL}; // without @pack, which runs in parts
  for (int n = 0; s->inference && functions && *functions && n < 15; functions++)
    if (!muse_str_eq(*functions, "pack")) those[n++] = *functions;
  if (s->inference) functions = those;
  if (s->on_gpu || muse_plan_memory(s->plan, functions) <= available) return MUSE_OK;
  return muse_plan_refuse_memory(s->plan, s->path, functions, available,
                                 s->host_memory ? "--host-memory" : "this machine", diag);
}

static MuseStatus open_plan(MuseSession *s, const MuseSessionOptions *options, MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = read_plan(s, options, &text, diag);
  if (status == MUSE_OK) {
    s->plan_hash = muse_hash128(muse_str_text(&text), text.len);
    muse_diag_set_source(diag, s->path, muse_str_text(&text), text.len);
    status = muse_plan_parse(s->path, muse_str_text(&text), text.len, &s->plan, diag);
  }
  muse_str_free(&text);
  MUSE_TRY(status);
  s->module = s->plan->module;
  return read_sizes(s, diag);
}

// An option that the device has no use for would be passed over in silence.
static MuseStatus check_device_options(const MuseSessionOptions *o, bool on_gpu, MuseDiag *diag) {
  const struct { const char *name; bool given, of_gpu; } options[] = {
      {"nvrtc", o->nvrtc != NULL, true},
      {"no-tune", o->no_tune, true},
      {"streams", o->streams != 0, true},
      {"dump-kernels", o->dump_dir != NULL, true},
      {"kernel-override", o->override_dir != NULL, true},
      {"cpu-level", o->cpu_level != NULL, false},
      {"host-memory", o->host_memory != 0, false},
  };
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    const char *name = options[i].name;
    if (!options[i].given || options[i].of_gpu == on_gpu) continue;
    if (!on_gpu)
      return muse_error(diag, MUSE_ERR_INPUT, "--%s is for a GPU; add --device cuda, or leave it out", name);
    return muse_error(diag, MUSE_ERR_INPUT, "--%s is for the CPU; leave it out, or --device %s", name, o->device);
  }
  return MUSE_OK;
}

MuseStatus muse_session_open(const char *path, const MuseSessionOptions *options, MuseSession *out, MuseDiag *diag) {
  *out = (MuseSession){.path = strdup(path), .quiet = options->quiet, .inference = options->inference,
                       .host_memory = options->host_memory};
  MUSE_ASSERT(out->path);
  if (options->threads < 0 || options->threads > 4096)
    return muse_error(diag, MUSE_ERR_INPUT, "--threads takes a number from 1 to 4096 (or 0 for all cores), not %lld",
                      (long long)options->threads);
  if (options->streams < 0 || options->streams > 8)
    return muse_error(diag, MUSE_ERR_INPUT, "--streams takes a number from 1 to 8, not %lld",
                      (long long)options->streams);
  if (options->cache_dir && !*options->cache_dir)
    return muse_error(diag, MUSE_ERR_INPUT, "--cache-dir takes a folder; --no-cache keeps no kernels");
  int index;
  MUSE_TRY(muse_device_parse(options->device, &out->on_gpu, &index, diag));
  MUSE_TRY(check_device_options(options, out->on_gpu, diag));
  MUSE_TRY(open_plan(out, options, diag));
  if (options->train) MUSE_TRY(check_memory(out, NULL, diag));
  out->checked = options->train;
  MuseExecutorOptions eo = {.device = options->device,
                            .threads = (int)options->threads,
                            .cpu_level = options->cpu_level,
                            .cache_dir = options->cache_dir,
                            .no_cache = options->no_cache,
                            .nvrtc = options->nvrtc,
                            .dump_dir = options->dump_dir,
                            .override_dir = options->override_dir,
                            .no_tune = options->no_tune,
                            .streams = (int)options->streams,
                            .quiet = options->quiet,
                            .sparse = options->inference};
  return muse_executor_create(out->plan, &eo, &out->executor, diag);
}

void muse_session_close(MuseSession *s) {
  muse_executor_destroy(s->executor);
  muse_plan_destroy(s->plan);
  free(s->path);
  *s = (MuseSession){0};
}

static void tell_memory(const MuseSession *s, MuseExecutorStats stats) {
  MuseStr line = {0};
  muse_executor_describe(s->executor, &line);
  muse_str_append(&line, ": ");
  muse_str_append_bytes(&line, (uint64_t)stats.buffer_bytes);
  muse_str_append(&line, " of tensors, ");
  muse_str_append_bytes(&line, (uint64_t)stats.slab_bytes);
  fprintf(stderr, "%s of working memory\n", muse_str_text(&line));
  muse_str_free(&line);
}

MuseStatus muse_session_prepare(MuseSession *s, const char *const *functions, MuseDiag *diag) {
  const char *present[16];
  int n = 0;
  if (!s->checked) MUSE_TRY(check_memory(s, functions, diag));
  for (; *functions; functions++)
    if (muse_executor_has_function(s->executor, *functions) && n < 16) present[n++] = *functions;
  bool mine = !muse_stop_is_caught(); // a command that does not catch signals by itself
  if (mine) muse_catch_stop(NULL);
  MuseStatus status = muse_executor_prepare(s->executor, present, n, diag);
  if (mine) muse_release_stop();
  if (status == MUSE_OK && mine && muse_stop_is_set()) status = muse_stopped_preparing(diag);
  MUSE_TRY(status);
  MuseExecutorStats stats = muse_executor_stats(s->executor);
  if (!s->quiet)
    fprintf(stderr, "kernels: %d, of which %d compiled now (%.1f s) and %d from the cache\n", stats.kernels,
            stats.compiled, stats.compile_seconds, stats.cached);
  if (!s->quiet && s->on_gpu) tell_memory(s, stats);
  return MUSE_OK;
}

// ---- buffers ----

MuseStatus muse_session_buffer(const MuseSession *s, const char *name, const MuseType *type,
                               const MuseBuffer **out_buffer, MuseDiag *diag) {
  const MuseBuffer *buffer = muse_module_buffer(s->module, name);
  if (!buffer || (type && !muse_type_eq(buffer->type, *type)))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': the plan has no buffer '%s' of the right type; run musec again on its configuration",
                      s->path, name);
  *out_buffer = buffer;
  return MUSE_OK;
}

MuseStatus muse_session_set_scalar(const MuseSession *s, const char *name, double value, MuseDiag *diag) {
  const MuseBuffer *buffer = muse_module_buffer(s->module, name);
  float narrow = (float)value;
  if (!buffer || !muse_type_eq(buffer->type, muse_scalar_type(MUSE_F32))) return MUSE_OK;
  return muse_executor_write(s->executor, buffer, 0, &narrow, sizeof narrow, diag);
}

MuseStatus muse_session_set_rng(const MuseSession *s, uint32_t seed, uint64_t step, MuseDiag *diag) {
  const MuseBuffer *buffer = muse_module_buffer(s->module, "rng");
  uint32_t rng[2] = {seed, (uint32_t)step};
  if (!buffer || !muse_type_eq(buffer->type, muse_type1(MUSE_U32, 2))) return MUSE_OK;
  return muse_executor_write(s->executor, buffer, 0, rng, sizeof rng, diag);
}

MuseStatus muse_session_set_rows(const MuseSession *s, const int32_t *rows, MuseDiag *diag) {
  MuseType type = muse_type2(MUSE_I32, s->batch, s->n_seq);
  const MuseBuffer *tokens, *targets;
  MUSE_TRY(muse_session_buffer(s, "tokens", &type, &tokens, diag));
  MUSE_TRY(muse_session_buffer(s, "targets", &type, &targets, diag));
  size_t bytes = (size_t)s->n_seq * sizeof(int32_t);
  for (int64_t b = 0; b < s->batch; b++) {
    const int32_t *row = rows + b * (s->n_seq + 1);
    MUSE_TRY(muse_executor_write(s->executor, tokens, b * (int64_t)bytes, row, bytes, diag));
    MUSE_TRY(muse_executor_write(s->executor, targets, b * (int64_t)bytes, row + 1, bytes, diag));
  }
  return MUSE_OK;
}

// ---- parameters ----

static MuseStatus set_up(MuseSession *s, MuseDiag *diag) {
  if (!s->set_up && muse_executor_has_function(s->executor, "setup"))
    MUSE_TRY(muse_executor_run(s->executor, "setup", diag));
  s->set_up = true;
  return MUSE_OK;
}

MuseStatus muse_session_refresh(MuseSession *s, MuseDiag *diag) {
  MUSE_TRY(set_up(s, diag));
  if (muse_executor_has_function(s->executor, "pack")) MUSE_TRY(muse_executor_run(s->executor, "pack", diag));
  return MUSE_OK;
}

static MuseStatus load_checkpoint(MuseSession *s, const char *path, uint64_t *out_step, MuseDiag *diag) {
  MuseCheckpoint *checkpoint;
  MUSE_TRY(muse_checkpoint_open(path, &checkpoint, diag));
  MuseTensorList tensors = {0};
  muse_params_tensors(s, true, &tensors);
  MuseStatus status = muse_session_check_tokenizer(s, muse_checkpoint_path(checkpoint),
                                                   muse_checkpoint_state(checkpoint)->tokenizer_hash, diag);
  if (status == MUSE_OK) status = muse_params_restore(s, checkpoint, &tensors, diag);
  if (out_step) *out_step = muse_checkpoint_state(checkpoint)->step;
  muse_vec_free(&tensors);
  muse_checkpoint_close(checkpoint);
  return status;
}

void muse_params_note_untrained(const MuseSession *s, const MuseParamsOptions *options) {
  if (!options->checkpoint && !options->params && !s->quiet)
    fputs("note: the model is untrained; --checkpoint RUN_DIR takes the parameters of a run\n", stderr);
}

MuseStatus muse_session_check_tokenizer(const MuseSession *s, const char *path, uint64_t trained_hash, MuseDiag *diag) {
  if (!trained_hash || !s->tokenizer_hash || trained_hash == s->tokenizer_hash) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_DATA,
                    "'%s' was trained with another tokenizer (hash %016llx) than '%s' (hash %016llx), so ids would "
                    "mean other texts; use the one it was trained with",
                    path, (unsigned long long)trained_hash, s->tokenizer ? s->tokenizer : "the one given",
                    (unsigned long long)s->tokenizer_hash);
}

bool muse_compressed_path(const char *path, MuseStr *out) {
  struct stat st;
  if (stat(path, &st) != 0) return false;
  if (S_ISREG(st.st_mode)) {
    muse_str_append(out, path);
    return true;
  }
  MuseStr state = {0};
  muse_str_appendf(&state, "%s/state.json", path); // a checkpoint's folder has it
  muse_str_appendf(out, "%s/model.safetensors", path);
  bool is = S_ISDIR(st.st_mode) && access(state.data, F_OK) != 0 && access(out->data, F_OK) == 0;
  if (!is) muse_str_clear(out);
  muse_str_free(&state);
  return is;
}

static MuseStatus load_file(MuseSession *s, const char *path, MuseDiag *diag) {
  MuseStr file = {0};
  bool found = muse_compressed_path(path, &file);
  MuseStatus status = muse_params_load(s, found ? file.data : path, diag);
  muse_str_free(&file);
  return status;
}

// A folder of checkpoints, or that of a compressed model.
static MuseStatus load_folder(MuseSession *s, const char *path, uint64_t *out_step, MuseDiag *diag) {
  MuseStr file = {0};
  struct stat st;
  bool compressed = stat(path, &st) == 0 && S_ISDIR(st.st_mode) && muse_compressed_path(path, &file);
  MuseStatus status = compressed ? muse_params_load(s, file.data, diag) : load_checkpoint(s, path, out_step, diag);
  muse_str_free(&file);
  return status;
}

static MuseStatus load(MuseSession *s, const MuseParamsOptions *options, uint64_t *out_step, MuseDiag *diag) {
  if (options->checkpoint) return load_folder(s, options->checkpoint, out_step, diag);
  if (options->params) return load_file(s, options->params, diag);
  return muse_params_init(s, s->seed, diag);
}

MuseStatus muse_params_options_check(const MuseParamsOptions *options, MuseDiag *diag) {
  if (options->checkpoint && options->params)
    return muse_error(diag, MUSE_ERR_INPUT, "give the parameters either by --checkpoint or by --params, not both");
  const char *path = options->checkpoint ? options->checkpoint : options->params;
  if (!path) return MUSE_OK;
  if (access(path, F_OK) != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s', which --%s names: %s", path,
                      options->checkpoint ? "checkpoint" : "params", strerror(errno));
  if (options->params) return MUSE_OK;
  MuseStr file = {0};
  struct stat st;
  bool compressed = stat(path, &st) == 0 && S_ISDIR(st.st_mode) && muse_compressed_path(path, &file);
  muse_str_free(&file);
  return compressed ? MUSE_OK : muse_checkpoint_check(path, diag);
}

MuseStatus muse_params_options_fit(const MuseSession *s, const MuseParamsOptions *options, MuseDiag *diag) {
  const char *path = options->checkpoint ? options->checkpoint : options->params;
  MuseStr name = {0};
  MuseSafetensors *file = NULL;
  if (!path) return MUSE_OK;
  bool only = muse_compressed_path(path, &name);
  bool found = only || (options->checkpoint && muse_checkpoint_newest_model(path, &name));
  MuseDiag *unsaid = muse_diag_create(); // a checkpoint that cannot be read is passed over for an older one
  MuseStatus status = found ? muse_safetensors_open(name.data, &file, only ? diag : unsaid) : MUSE_OK;
  if (file && muse_is_compressed(file)) status = muse_compressed_fits(s->module, file, diag);
  else if (file) status = muse_params_check(s->module, file, diag);
  else if (!only) status = MUSE_OK;
  muse_diag_destroy(unsaid);
  muse_safetensors_close(file);
  muse_str_free(&name);
  return status;
}

MuseStatus muse_session_load(MuseSession *s, const MuseParamsOptions *options, uint64_t *out_step, MuseDiag *diag) {
  if (out_step) *out_step = 0;
  MUSE_TRY(muse_params_options_check(options, diag));
  MUSE_TRY(set_up(s, diag));
  s->packing = muse_packing_create(s);
  MuseStatus status = load(s, options, out_step, diag);
  bool packs = s->packing != NULL;
  if (status == MUSE_OK && packs) status = muse_packing_finish(s->packing, diag);
  muse_packing_destroy(s->packing);
  s->packing = NULL;
  return status != MUSE_OK || packs ? status : muse_session_refresh(s, diag);
}
