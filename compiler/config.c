// Loads a configuration: YAML nodes become checked values of the key table, defaults and derived values are filled in,
// keys are checked against each other. Every problem of a file is reported before the loader gives up.
#include "compiler/config_internal.h"

#include "ir/base/io.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool muse_config_refuse(MuseConfigReader *r, MuseLoc loc, const char *format, ...) {
  // A file of nothing but mistakes would otherwise fill the terminal.
  if (r->n_errors == MUSE_YAML_MAX_ERRORS)
    muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "more than %d problems; the rest is not shown", MUSE_YAML_MAX_ERRORS);
  if (r->n_errors++ >= MUSE_YAML_MAX_ERRORS) return false;
  va_list args;
  va_start(args, format);
  muse_errorv(r->diag, MUSE_ERR_INPUT, loc, format, args);
  va_end(args);
  return false;
}

// ---- numbers ----

typedef enum NumberForm {
  NUMBER_NONE,       // not a number at all
  NUMBER_WHOLE,      // digits
  NUMBER_REAL,       // with a point or an exponent
  NUMBER_HEX,        // 0x10
  NUMBER_PREFIXED,   // 0o10, 0b11
  NUMBER_LEADING_0,  // 010
  NUMBER_UNDERSCORE, // 1_000
  NUMBER_NONFINITE,  // .inf, .nan
} NumberForm;

static NumberForm number_form(const char *text) {
  const char *p = text;
  if (*p == '+' || *p == '-') p++;
  static const char *const nonfinite[] = {".inf", ".nan", "inf", "nan", "infinity"};
  for (size_t i = 0; i < sizeof nonfinite / sizeof *nonfinite; i++)
    if (!strcasecmp(p, nonfinite[i])) return NUMBER_NONFINITE;
  if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && isxdigit((unsigned char)p[2])) return NUMBER_HEX;
  if (p[0] == '0' && strchr("oObB", p[1] ? p[1] : ' ') && isdigit((unsigned char)p[2])) return NUMBER_PREFIXED;
  bool underscore = false, leading_0 = p[0] == '0' && isdigit((unsigned char)p[1]), real = false;
  int digits = 0;
  for (; isdigit((unsigned char)*p) || (*p == '_' && digits > 0); p++)
    *p == '_' ? (void)(underscore = true) : (void)digits++;
  if (*p == '.') {
    real = true;
    for (p++; isdigit((unsigned char)*p); p++) digits++;
  }
  if (digits == 0) return NUMBER_NONE;
  if (*p == 'e' || *p == 'E') {
    real = true;
    p++;
    if (*p == '+' || *p == '-') p++;
    if (!isdigit((unsigned char)*p)) return NUMBER_NONE;
    while (isdigit((unsigned char)*p)) p++;
  }
  if (*p) return NUMBER_NONE;
  return underscore ? NUMBER_UNDERSCORE : leading_0 ? NUMBER_LEADING_0 : real ? NUMBER_REAL : NUMBER_WHOLE;
}

// "from 1 to 65536", with whole ends in full and others short, and the words that may stand for a number.
static const char *range_text(MuseArena *arena, const MuseConfigKey *key) {
  return muse_arena_printf(arena, key->type == MUSE_KEY_INT ? "from %.0f to %.0f%s" : "from %.7g to %.7g%s", key->min,
                           key->max,
                           key->automatic  ? ", or auto"
                           : key->nullable ? ", or null"
                                           : "");
}

// The value as it stands in the file, for sentences: 'big', "8" (quoted), a list, nothing.
static const char *shown(MuseConfigReader *r, const MuseYamlNode *v) {
  if (v->kind == MUSE_YAML_LIST) return "a list";
  if (v->kind == MUSE_YAML_MAPPING) return "a mapping";
  if (muse_yaml_is_null(v)) return v->length ? muse_arena_printf(r->arena, "'%s'", v->text) : "nothing";
  return muse_arena_printf(r->arena, v->quoted ? "the text \"%s\"" : "'%s'",
                           muse_yaml_excerpt(r->arena, v->text, v->length));
}

static const char *wanted_number(const MuseConfigKey *key) {
  return key->type == MUSE_KEY_REAL ? "a number" : "a whole number";
}

// Reads a plain scalar as a number, in full for integers that a double cannot hold. *out_whole is set for whole numbers
// that fit an int64.
static bool read_number(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *v, double *out_value,
                        int64_t *out_whole, bool *out_is_whole) {
  bool plain = v->kind == MUSE_YAML_SCALAR && strlen(v->text) == v->length;
  NumberForm form = plain ? number_form(v->text) : NUMBER_NONE;
  if (plain && v->quoted && (form == NUMBER_WHOLE || form == NUMBER_REAL))
    return muse_config_refuse(r, v->loc, "'%s' needs %s, not text; remove the quotes around %s", key->name,
                              wanted_number(key), muse_yaml_excerpt(r->arena, v->text, v->length));
  if (v->quoted) form = NUMBER_NONE;
  switch (form) {
  case NUMBER_NONE:
    return muse_config_refuse(r, v->loc, "'%s' needs %s %s, not %s", key->name, wanted_number(key),
                              range_text(r->arena, key), shown(r, v));
  case NUMBER_HEX: {
    char *end = NULL;
    unsigned long long value = strtoull(v->text + (*v->text == '+' || *v->text == '-'), &end, 16);
    if (*end || value > INT64_MAX)
      return muse_config_refuse(r, v->loc, "'%s' needs %s, not %s", key->name, wanted_number(key), shown(r, v));
    return muse_config_refuse(r, v->loc, "'%s' is hexadecimal; write the number in decimal: %s%llu", v->text,
                              *v->text == '-' ? "-" : "", value);
  }
  case NUMBER_PREFIXED:
    return muse_config_refuse(r, v->loc, "%s is not decimal; write the number in decimal", shown(r, v));
  case NUMBER_LEADING_0:
    return muse_config_refuse(
        r, v->loc,
        "%s starts with 0, which YAML 1.1 reads as octal and YAML 1.2 as decimal; write '%s' in decimal "
        "without the zero",
        shown(r, v), key->name);
  case NUMBER_UNDERSCORE:
    return muse_config_refuse(
        r, v->loc, "%s has underscores, which not every YAML reader takes for a number; remove them", shown(r, v));
  case NUMBER_NONFINITE:
    return muse_config_refuse(r, v->loc, "'%s' needs a finite number, not %s", key->name, shown(r, v));
  case NUMBER_WHOLE:
  case NUMBER_REAL: break;
  }
  // strtod stops at no byte of these forms under the C locale, in which all programs of MUSE run.
  double value = strtod(v->text, NULL);
  if (!(value >= key->min && value <= key->max))
    return muse_config_refuse(r, v->loc, "'%s' is %s, but must be %s", key->name,
                              muse_yaml_excerpt(r->arena, v->text, v->length), range_text(r->arena, key));
  *out_value = value;
  *out_is_whole = value == floor(value) && fabs(value) < 9e15;
  *out_whole = *out_is_whole ? (int64_t)value : 0;
  return true;
}

// ---- values ----

static bool is_word(const MuseYamlNode *v, const char *word) {
  return v->kind == MUSE_YAML_SCALAR && !v->quoted && v->length == strlen(word) && !strcmp(v->text, word);
}

// YAML 1.1's booleans (type repository, tag:yaml.org,2002:bool): each word in lower, Title and UPPER case.
static bool read_bool(const MuseYamlNode *v, bool *out_value) {
  static const char *const words[2][4] = {{"false", "no", "off", "n"}, {"true", "yes", "on", "y"}};
  if (v->kind != MUSE_YAML_SCALAR || v->quoted || v->length == 0 || v->length > 5) return false;
  bool upper = true, rest_lower = true;
  for (size_t i = 0; i < v->length; i++) {
    upper &= isupper((unsigned char)v->text[i]) != 0;
    rest_lower &= i == 0 || islower((unsigned char)v->text[i]);
  }
  if (!upper && !rest_lower) return false;
  for (int value = 0; value < 2; value++)
    for (int i = 0; i < 4; i++)
      if (!strcasecmp(v->text, words[value][i])) return *out_value = value, true;
  return false;
}

static bool set_enum(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *v, void *field) {
  MuseStr list = {0};
  size_t n = 0;
  for (; key->choices[n]; n++) {
    if (v->kind == MUSE_YAML_SCALAR && v->length == strlen(key->choices[n]) && !strcmp(v->text, key->choices[n])) {
      // All enum fields have the size of int, which every compiler that MUSE builds with gives them.
      *(int *)field = (int)n;
      muse_str_free(&list);
      return true;
    }
    muse_str_appendf(&list, "%s%s", n == 0 ? "" : key->choices[n + 1] ? ", " : " or ", key->choices[n]);
  }
  const char *nearest =
      v->kind == MUSE_YAML_SCALAR && v->length < 64 ? muse_str_nearest(v->text, key->choices, n) : NULL;
  if (nearest)
    muse_config_refuse(r, v->loc, "'%s' must be %s, not %s; did you mean '%s'?", key->name, muse_str_text(&list),
                       shown(r, v), nearest);
  else muse_config_refuse(r, v->loc, "'%s' must be %s, not %s", key->name, muse_str_text(&list), shown(r, v));
  muse_str_free(&list);
  return false;
}

static bool set_bytes(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *v, void *field) {
  uint64_t bytes;
  bool plain = v->kind == MUSE_YAML_SCALAR && strlen(v->text) == v->length;
  if (!plain || !muse_parse_bytes(v->text, &bytes))
    return muse_config_refuse(r, v->loc, "'%s' needs a size such as 8GiB or 512MiB, or a number of bytes, not %s",
                              key->name, shown(r, v));
  if (bytes > INT64_MAX)
    return muse_config_refuse(r, v->loc, "'%s' is %s, beyond any memory; write a size such as 8GiB", key->name,
                              shown(r, v));
  *(uint64_t *)field = bytes;
  return true;
}

static bool set_text(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *v, void *field) {
  if (v->kind != MUSE_YAML_SCALAR)
    return muse_config_refuse(r, v->loc, "'%s' needs text, not %s; put text with special characters in quotes",
                              key->name, shown(r, v));
  if (strlen(v->text) != v->length)
    return muse_config_refuse(r, v->loc, "'%s' contains a NUL character, which text here cannot hold", key->name);
  *(const char **)field = v->text;
  return true;
}

bool muse_config_set_value(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *v) {
  void *field = muse_config_field(r->config, key);
  if (muse_yaml_is_null(v)) {
    if (key->nullable) {
      if (key->type == MUSE_KEY_TEXT) *(const char **)field = NULL;
      else *(int64_t *)field = -1;
      return true;
    }
    if (key->default_text)
      return muse_config_refuse(r, v->loc, "'%s' has no value; give it one, or remove the line for the default, %s",
                                key->name, key->default_text);
    return muse_config_refuse(r, v->loc, "'%s' has no value; give it one, %s", key->name, range_text(r->arena, key));
  }
  double value;
  int64_t whole;
  bool is_whole;
  switch (key->type) {
  case MUSE_KEY_BOOL:
    if (read_bool(v, field)) return true;
    return muse_config_refuse(r, v->loc, "'%s' must be true or false, not %s", key->name, shown(r, v));
  case MUSE_KEY_INT:
    if (key->automatic && is_word(v, "auto")) return *(int64_t *)field = -1, true;
    if (!read_number(r, key, v, &value, &whole, &is_whole)) return false;
    if (!is_whole)
      return muse_config_refuse(r, v->loc, "'%s' needs %s %s, not %s", key->name, wanted_number(key),
                                range_text(r->arena, key), shown(r, v));
    *(int64_t *)field = whole;
    return true;
  case MUSE_KEY_REAL:
    if (!read_number(r, key, v, &value, &whole, &is_whole)) return false;
    *(double *)field = value;
    return true;
  case MUSE_KEY_BYTES: return set_bytes(r, key, v, field);
  case MUSE_KEY_TEXT: return set_text(r, key, v, field);
  case MUSE_KEY_ENUM: return set_enum(r, key, v, field);
  }
  return false;
}

// ---- keys ----

static void refuse_unknown_key(MuseConfigReader *r, MuseLoc loc, const char *name, size_t length) {
  const char *shown_name = muse_yaml_excerpt(r->arena, name, length);
  if (!strcmp(shown_name, "<<")) {
    muse_config_refuse(r, loc, "merge keys '<<' are not used in configs; write the keys out");
    return;
  }
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  const char *names[MUSE_CONFIG_MAX_KEYS];
  for (size_t i = 0; i < n; i++) names[i] = keys[i].name;
  // A long word is near nothing, and distances cost its length.
  const char *nearest = length < 64 && strlen(name) == length ? muse_str_nearest(name, names, n) : NULL;
  if (nearest) {
    // The misspelt key was meant to be given: it is not reported as missing as well.
    r->failed[muse_config_find_key(nearest)] = true;
    muse_config_refuse(r, loc, "unknown key '%s'; did you mean '%s'?", shown_name, nearest);
  } else {
    muse_config_refuse(r, loc, "unknown key '%s'; musec --list-keys prints the keys there are", shown_name);
  }
}

// Finds the row that a written key stands for: our name, or another trainer's name for it. -1: nothing more to do.
static int resolve_key(MuseConfigReader *r, MuseLoc loc, const char *name, size_t length, MuseStr *ignored,
                       MuseLoc *ignored_at) {
  int row = strlen(name) == length ? muse_config_find_key(name) : -1;
  if (row >= 0) return row;
  const MuseConfigForeignKey *foreign = strlen(name) == length ? muse_config_find_foreign(name) : NULL;
  if (!foreign) {
    refuse_unknown_key(r, loc, name, length);
    return -1;
  }
  if (foreign->ours) {
    muse_note_at(r->diag, loc, "'%s' is read as '%s'", name, foreign->ours);
    return muse_config_find_key(foreign->ours);
  }
  if (!strstr(muse_str_text(ignored), muse_arena_printf(r->arena, "'%s'", name)))
    muse_str_appendf(ignored, "%s'%s'", ignored->len ? ", " : "", name);
  if (!ignored_at->line) *ignored_at = loc;
  return -1;
}

static void set_from_mapping(MuseConfigReader *r, const MuseYamlNode *root) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  MuseStr ignored = {0};
  MuseLoc ignored_at = {0};
  for (const MuseYamlNode *v = root->first; v && r->n_errors <= MUSE_YAML_MAX_ERRORS; v = v->next) {
    int row = resolve_key(r, v->key->loc, v->key->text, v->key->length, &ignored, &ignored_at);
    if (row < 0) continue;
    if (r->set_at[row].line) {
      muse_config_refuse(r, v->key->loc, "'%s' is given twice, first in line %d; remove one", keys[row].name,
                         r->set_at[row].line);
      continue;
    }
    r->set_at[row] = v->loc;
    r->set_at[row].key = keys[row].name;
    if (!muse_config_set_value(r, &keys[row], v)) r->failed[row] = true;
  }
  if (ignored.len) muse_note_at(r->diag, ignored_at, "accepted, but without effect here: %s", muse_str_text(&ignored));
  muse_str_free(&ignored);
}

// One "key=value" of the command line. The value is YAML of its own, so that quotes and words mean what they do in a
// file.
static void set_override(MuseConfigReader *r, const char *text, int number) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  MuseLoc at = {.file = "--set", .line = number, .col = 1};
  const char *equals = strchr(text, '=');
  if (!equals || equals == text) {
    muse_config_refuse(r, at, "'%s' is not an override; write --set key=value",
                       muse_yaml_excerpt(r->arena, text, strlen(text)));
    return;
  }
  const char *name = muse_arena_strndup(r->arena, text, (size_t)(equals - text));
  MuseStr ignored = {0};
  MuseLoc ignored_at = {0};
  int row = resolve_key(r, at, name, strlen(name), &ignored, &ignored_at);
  if (ignored.len) muse_note_at(r->diag, ignored_at, "accepted, but without effect here: %s", muse_str_text(&ignored));
  muse_str_free(&ignored);
  if (row < 0) return;

  MuseLoc value_at = {.file = "--set", .line = number, .col = (int)strlen(name) + 2, .key = keys[row].name};
  r->set_at[row] = value_at;
  r->failed[row] = true;
  const char *value = equals + 1;
  if (strlen(value) > MUSE_YAML_MAX_BYTES || strchr(value, '\n')) {
    muse_config_refuse(r, value_at, "the value of an override is one line of at most 1 MiB");
    return;
  }
  // Problems inside the value are located by the column of the whole override: it is read with the key blanked out.
  char *padded = muse_arena_alloc(r->arena, strlen(text) + 1);
  memset(padded, ' ', (size_t)(value - text));
  strcpy(padded + (value - text), value);
  MuseDiag *inner = muse_diag_create();
  MuseYamlNode *root;
  MuseStatus status = muse_yaml_parse("--set", padded, strlen(padded), r->arena, &root, inner);
  if (status != MUSE_OK) {
    MuseLoc loc = muse_diag_loc(inner, 0);
    loc.line = number;
    loc.file = "--set";
    muse_config_refuse(r, loc, "%s", muse_diag_message(inner, 0));
  }
  muse_diag_destroy(inner);
  if (status != MUSE_OK) return;
  MuseYamlNode empty = {.kind = MUSE_YAML_SCALAR, .text = ""};
  if (!root) root = &empty;
  root->loc = value_at;
  r->failed[row] = !muse_config_set_value(r, &keys[row], root);
}

// ---- loading ----

static void set_defaults(MuseConfigReader *r) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    if (!keys[i].default_text) continue;
    MuseYamlNode v = {.kind = MUSE_YAML_SCALAR, .text = keys[i].default_text, .length = strlen(keys[i].default_text)};
    if (!strcmp(v.text, "\"\"")) v = (MuseYamlNode){.kind = MUSE_YAML_SCALAR, .text = "", .quoted = true};
    MUSE_ASSERT(muse_config_set_value(r, &keys[i], &v));
  }
}

static void check_required(MuseConfigReader *r, const char *name) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    if (keys[i].default_text || r->set_at[i].line || r->failed[i]) continue;
    r->failed[i] = true;
    muse_config_refuse(r, (MuseLoc){.file = name, .line = 1, .col = 1}, "the key '%s' is missing; add '%s: ...' (%s)",
                       keys[i].name, keys[i].name, range_text(r->arena, &keys[i]));
  }
}

static bool read_root(MuseConfigReader *r, const char *name, const MuseYamlNode *root) {
  MuseLoc start = {.file = name, .line = 1, .col = 1};
  if (!root || muse_yaml_is_null(root))
    return muse_config_refuse(r, root ? root->loc : start,
                              "the config is empty; it needs at least vocab_size, d_model, n_layers and n_seq");
  if (root->kind != MUSE_YAML_MAPPING)
    return muse_config_refuse(r, root->loc, "a config is a mapping with a line 'key: value' for each setting, not %s",
                              root->kind == MUSE_YAML_LIST ? "a list" : "one value");
  set_from_mapping(r, root);
  return true;
}

MuseStatus muse_config_parse_text(const char *name, const char *text, size_t length, const MuseTextList *sets,
                                  MuseArena *arena, MuseConfig *out_config, MuseDiag *diag) {
  memset(out_config, 0, sizeof *out_config);
  MuseConfigReader *r = MUSE_NEW(arena, MuseConfigReader);
  *r = (MuseConfigReader){.arena = arena, .diag = diag, .config = out_config};
  name = muse_arena_strdup(arena, name);
  set_defaults(r);

  muse_diag_set_source(diag, name, text, length);
  if (length > MUSE_YAML_MAX_BYTES)
    return muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){.file = name, .line = 1, .col = 1},
                         "the config has %zu bytes, more than the %d that are read; a config is a few dozen lines",
                         length, MUSE_YAML_MAX_BYTES);
  MuseYamlNode *root;
  MuseStatus syntax = muse_yaml_parse(name, text, length, arena, &root, diag);
  // After a syntax error the keys before it are still worth checking, what is missing is not.
  bool readable = syntax == MUSE_OK ? read_root(r, name, root) : false;
  if (syntax != MUSE_OK && root && root->kind == MUSE_YAML_MAPPING) set_from_mapping(r, root);

  if (sets && sets->len > 0) {
    MuseStr source = {0};
    for (int i = 0; i < sets->len; i++) muse_str_appendf(&source, "%s\n", sets->data[i]);
    muse_diag_set_source(diag, "--set", muse_str_text(&source), source.len);
    muse_str_free(&source);
    for (int i = 0; i < sets->len; i++) set_override(r, sets->data[i], i + 1);
  }
  if (readable) {
    check_required(r, name);
    muse_config_derive(r);
    muse_config_check(r);
  }
  memcpy(out_config->key_locs, r->set_at, sizeof r->set_at);
  return syntax != MUSE_OK ? syntax : r->n_errors ? MUSE_ERR_INPUT : MUSE_OK;
}

MuseStatus muse_config_load(const char *path, const MuseTextList *sets, MuseArena *arena, MuseConfig *out_config,
                            MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = muse_read_file(path, MUSE_YAML_MAX_BYTES, &text, diag);
  if (status == MUSE_OK)
    status = muse_config_parse_text(path, muse_str_text(&text), text.len, sets, arena, out_config, diag);
  muse_str_free(&text);
  return status;
}

MuseLoc muse_config_loc(const MuseConfig *config, const char *key) {
  int row = muse_config_find_key(key);
  MUSE_ASSERT(row >= 0);
  MuseLoc loc = config->key_locs[row];
  size_t n;
  loc.key = muse_config_keys(&n)[row].name;
  return loc;
}

int64_t muse_config_nominal_parameters(const MuseConfig *c) {
  return 12 * c->d_model * c->d_model * c->n_layers + c->vocab_size * c->d_model;
}
