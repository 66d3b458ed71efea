// state.json: everything of a run that is not a tensor.
#include "runtime/run_state.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Reals with 17 digits read back to the same bits; sorted keys make the text, and so its checksum, canonical.
#define DUMP_FLAGS (JSON_SORT_KEYS | JSON_REAL_PRECISION(17))

// JSON has no infinities: they are null here, which reads back as infinity.
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *whole(uint64_t x) {
  MUSE_ASSERT(x <= (uint64_t)INT64_MAX);
  return json_integer((json_int_t)x);
}

static json_t *hash_text(MuseHash hash) {
  char text[33];
  muse_hash_hex(hash, text);
  return json_string(text);
}

static json_t *cursor_json(const MuseDataCursor *cursor) {
  char fingerprint[17];
  snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, cursor->fingerprint);
  int n = MUSE_DATA_MAX_SETS;
  while (n > 0 && cursor->drawn[n - 1] == 0) n--;
  json_t *drawn = json_array();
  for (int i = 0; i < n; i++) json_array_append_new(drawn, whole(cursor->drawn[i]));
  return json_pack("{s:s, s:o, s:o}", "fingerprint", fingerprint, "rows", whole(cursor->rows), "drawn", drawn);
}

static json_t *seal_json(const MuseFileSeal *seal) {
  return json_pack("{s:o, s:o}", "bytes", whole(seal->bytes), "xxh3_128", hash_text(seal->hash));
}

static MuseHash checksum(const json_t *root) {
  char *text = json_dumps(root, JSON_COMPACT | DUMP_FLAGS);
  if (!text) muse_out_of_memory(0);
  MuseHash hash = muse_hash128(text, strlen(text));
  free(text);
  return hash;
}

MuseStatus muse_run_state_print(const MuseRunState *state, const MuseStateSeals *seals, MuseStr *out, MuseDiag *diag) {
  json_t *config = json_string(state->config_text ? state->config_text : "");
  if (!config) return muse_error(diag, MUSE_ERR_FAILED, "cannot save the state: the configuration is not UTF-8 text");
  json_t *root = json_object();
  json_object_set_new(root, "format", json_string("muse checkpoint"));
  json_object_set_new(root, "version", json_integer(1));
  json_object_set_new(root, "step", whole(state->step));
  json_object_set_new(root, "rng",
                      json_pack("{s:s, s:o, s:o}", "generator", "Philox4x32-10", "seed", whole(state->seed), "step",
                                whole(state->step)));
  json_object_set_new(root, "tokens", whole(state->tokens));
  json_object_set_new(root, "data", cursor_json(&state->cursor));
  json_object_set_new(root, "smoothed_loss", real(state->smoothed_loss));
  json_object_set_new(root, "smoothed_weight", real(state->smoothed_weight));
  json_object_set_new(root, "best_validation_loss", real(state->best_validation_loss));
  json_object_set_new(root, "seconds", real(state->seconds));
  json_object_set_new(root, "bad_steps", whole((uint64_t)state->bad_steps));
  if (state->stall.steps)
    json_object_set_new(root, "stall",
                        json_pack("{s:o, s:o, s:o, s:o}", "lowest", real(state->stall.lowest), "lowest_step",
                                  whole(state->stall.lowest_step), "told_step", whole(state->stall.told_step), "steps",
                                  whole(state->stall.steps)));
  json_object_set_new(root, "plan_hash", hash_text(state->plan_hash));
  if (state->tokenizer_hash) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, state->tokenizer_hash);
    json_object_set_new(root, "tokenizer_hash", json_string(hash));
  }
  json_object_set_new(root, "config", config);
  json_object_set_new(root, "files",
                      json_pack("{s:o, s:o}", "model.safetensors", seal_json(&seals->model), "train.safetensors",
                                seal_json(&seals->train)));
  json_object_set_new(root, "checksum", hash_text(checksum(root)));
  char *text = json_dumps(root, JSON_INDENT(1) | DUMP_FLAGS);
  if (!text) muse_out_of_memory(0);
  muse_str_append(out, text);
  muse_str_append(out, "\n");
  free(text);
  json_decref(root);
  return MUSE_OK;
}

// Typed access to a parsed state; `ok` turns false at the first field that is missing or of another type.
typedef struct Fields { bool ok; } Fields;

static uint64_t get_whole(Fields *f, const json_t *object, const char *key, uint64_t largest) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > largest) {
    f->ok = false;
    return 0;
  }
  return (uint64_t)json_integer_value(value);
}

static double get_real(Fields *f, const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  if (json_is_null(value)) return INFINITY;
  f->ok = f->ok && json_is_real(value);
  return json_real_value(value);
}

static bool parse_hex(const char *text, size_t length, uint64_t *out) {
  *out = 0;
  for (size_t i = 0; i < length; i++) {
    const char *digits = "0123456789abcdef", *digit = text[i] ? strchr(digits, text[i]) : NULL;
    if (!digit) return false;
    *out = *out << 4 | (uint64_t)(digit - digits);
  }
  return true;
}

static MuseHash get_hash(Fields *f, const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  MuseHash hash = {0};
  if (!text || strlen(text) != 32 || !parse_hex(text, 16, &hash.hi) || !parse_hex(text + 16, 16, &hash.lo))
    f->ok = false;
  return hash;
}

static MuseFileSeal get_seal(Fields *f, const json_t *files, const char *name) {
  const json_t *seal = json_object_get(files, name);
  return (MuseFileSeal){get_whole(f, seal, "bytes", INT64_MAX), get_hash(f, seal, "xxh3_128")};
}

static MuseDataCursor get_cursor(Fields *f, const json_t *object) {
  MuseDataCursor cursor = {.rows = get_whole(f, object, "rows", INT64_MAX)};
  const char *fingerprint = json_string_value(json_object_get(object, "fingerprint"));
  if (!fingerprint || strlen(fingerprint) != 16 || !parse_hex(fingerprint, 16, &cursor.fingerprint)) f->ok = false;
  const json_t *drawn = json_object_get(object, "drawn");
  if (!json_is_array(drawn) || json_array_size(drawn) > MUSE_DATA_MAX_SETS) {
    f->ok = false;
    return cursor;
  }
  for (size_t i = 0; i < json_array_size(drawn); i++) {
    const json_t *count = json_array_get(drawn, i);
    if (!json_is_integer(count) || json_integer_value(count) < 0) f->ok = false;
    cursor.drawn[i] = (uint64_t)json_integer_value(count);
  }
  return cursor;
}

// Older states have none, which is nothing seen yet.
static MuseStall get_stall(Fields *f, const json_t *object) {
  if (!object) return (MuseStall){0};
  return (MuseStall){get_real(f, object, "lowest"), get_whole(f, object, "lowest_step", INT64_MAX),
                     get_whole(f, object, "told_step", INT64_MAX), get_whole(f, object, "steps", INT64_MAX)};
}

static MuseStatus parse_fields(const char *path, const json_t *root, MuseRunState *out_state, MuseStateSeals *out_seals,
                               MuseDiag *diag) {
  Fields f = {.ok = true};
  const json_t *files = json_object_get(root, "files"), *rng = json_object_get(root, "rng");
  const char *config = json_string_value(json_object_get(root, "config"));
  *out_state = (MuseRunState){
      .step = get_whole(&f, root, "step", INT64_MAX),
      .seed = (uint32_t)get_whole(&f, rng, "seed", UINT32_MAX),
      .tokens = get_whole(&f, root, "tokens", INT64_MAX),
      .cursor = get_cursor(&f, json_object_get(root, "data")),
      .smoothed_loss = get_real(&f, root, "smoothed_loss"),
      .smoothed_weight = get_real(&f, root, "smoothed_weight"),
      .best_validation_loss = get_real(&f, root, "best_validation_loss"),
      .seconds = get_real(&f, root, "seconds"),
      .bad_steps = (int)get_whole(&f, root, "bad_steps", INT32_MAX),
      .stall = get_stall(&f, json_object_get(root, "stall")),
      .plan_hash = get_hash(&f, root, "plan_hash"),
  };
  const json_t *tokenizer = json_object_get(root, "tokenizer_hash"); // older states have none
  const char *hash = json_string_value(tokenizer);
  if (tokenizer && !(hash && strlen(hash) == 16 && parse_hex(hash, 16, &out_state->tokenizer_hash))) f.ok = false;
  *out_seals = (MuseStateSeals){get_seal(&f, files, "model.safetensors"), get_seal(&f, files, "train.safetensors")};
  if (!f.ok || !config || get_whole(&f, rng, "step", INT64_MAX) != out_state->step)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': a field is missing or of the wrong kind", path);
  out_state->config_text = strdup(config);
  if (!out_state->config_text) muse_out_of_memory(strlen(config) + 1);
  return MUSE_OK;
}

static MuseStatus parse_root(const char *path, json_t *root, MuseRunState *out_state, MuseStateSeals *out_seals,
                             MuseDiag *diag) {
  const char *format = json_string_value(json_object_get(root, "format"));
  if (!format || strcmp(format, "muse checkpoint") != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is not the state of a checkpoint", path);
  if (json_integer_value(json_object_get(root, "version")) != 1)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' was written by a newer MUSE; update MUSE to read it", path);
  Fields f = {.ok = true};
  MuseHash written = get_hash(&f, root, "checksum");
  json_object_del(root, "checksum");
  MuseHash now = checksum(root);
  if (!f.ok || written.lo != now.lo || written.hi != now.hi)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is damaged: its checksum does not hold", path);
  return parse_fields(path, root, out_state, out_seals, diag);
}

MuseStatus muse_run_state_parse(const char *path, const char *text, size_t length, MuseRunState *out_state,
                                MuseStateSeals *out_seals, MuseDiag *diag) {
  *out_state = (MuseRunState){0};
  json_error_t error;
  json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
  if (!root)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is damaged: %s, in its line %d", path, error.text, error.line);
  MuseStatus status = parse_root(path, root, out_state, out_seals, diag);
  json_decref(root);
  return status;
}
