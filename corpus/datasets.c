// The file of known data sets.
#include "corpus/datasets.h"

#include "compiler/config_yaml.h"
#include "ir/base/io.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 64 };

typedef struct Reader {
  MuseArena *arena;
  MuseDiag *diag;
} Reader;

static const char *const set_keys[] = {"hub",    "config",     "split",       "revision", "files", "text", "template",
                                       "starts", "starts_not", "description", "license"};
enum { N_SET_KEYS = sizeof set_keys / sizeof *set_keys };

// A name becomes a file name; a hub id and a revision become parts of a URL.
static bool is_word(const char *text, const char *more) {
  if (!*text || *text == '.' || *text == '-' || strlen(text) > 96) return false;
  for (const char *p = text; *p; p++)
    if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr(more, *p)))
      return false;
  return !strstr(text, "..");
}

static MuseStatus set_field(Reader *r, MuseDataset *set, const MuseYamlNode *node, int *io_n_forms) {
  const char *key = node->key->text, **field = NULL;
  MuseLoc loc = node->loc;
  loc.key = key;
  if (node->kind != MUSE_YAML_SCALAR || muse_yaml_is_null(node) || node->length == 0 ||
      memchr(node->text, 0, node->length))
    return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "'%s' takes a text", key);
  if (!strcmp(key, "text") || !strcmp(key, "template")) {
    ++*io_n_forms;
    set->form_text = node->text;
  }
  if (!strcmp(key, "text")) {
    muse_record_form_column(node->text, r->arena, &set->form);
    return MUSE_OK;
  }
  if (!strcmp(key, "template")) return muse_record_form_template(node->text, loc, r->arena, &set->form, r->diag);
  if (!strcmp(key, "hub")) field = &set->hub;
  else if (!strcmp(key, "config")) field = &set->config;
  else if (!strcmp(key, "split")) field = &set->split;
  else if (!strcmp(key, "revision")) field = &set->revision;
  else if (!strcmp(key, "files")) field = &set->files;
  else if (!strcmp(key, "starts")) field = &set->starts;
  else if (!strcmp(key, "starts_not")) field = &set->starts_not;
  else if (!strcmp(key, "description")) field = &set->description;
  else if (!strcmp(key, "license")) field = &set->license;
  if (!field) {
    const char *nearest = muse_str_nearest(key, set_keys, N_SET_KEYS);
    return muse_error_at(r->diag, MUSE_ERR_INPUT, node->key->loc, "unknown key '%s'%s%s%s",
                         muse_yaml_excerpt(r->arena, key, strlen(key)), nearest ? "; did you mean '" : "",
                         nearest ? nearest : "; the keys of a set are hub, config, split, revision, files, text, "
                                             "template, starts, starts_not, description, license",
                         nearest ? "'?" : "");
  }
  *field = node->text;
  return MUSE_OK;
}

static MuseStatus read_set(Reader *r, const MuseYamlNode *node, MuseDataset *set) {
  *set = (MuseDataset){.name = node->key->text, .config = "default", .split = "train", .revision = "main",
                       .loc = node->key->loc};
  if (!is_word(set->name, "_-.") || strlen(set->name) > MAX_NAME)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, set->loc,
                         "a set's name is made of letters, digits, '_', '-' and '.'");
  if (node->kind != MUSE_YAML_MAPPING)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, node->loc, "a set is a mapping with the keys hub and text");
  int n_forms = 0;
  MuseStatus status = MUSE_OK;
  for (const MuseYamlNode *value = node->first; value; value = value->next) {
    for (const MuseYamlNode *other = node->first; other != value; other = other->next)
      if (!strcmp(other->key->text, value->key->text))
        return muse_error_at(r->diag, MUSE_ERR_INPUT, value->key->loc, "'%s' stands here twice", value->key->text);
    MuseStatus of_field = set_field(r, set, value, &n_forms);
    if (of_field != MUSE_OK) status = of_field;
  }
  MUSE_TRY(status);
  if (!set->hub || !is_word(set->hub, "_-./") || !strchr(set->hub, '/') ||
      strchr(set->hub, '/') != strrchr(set->hub, '/'))
    return muse_error_at(r->diag, MUSE_ERR_INPUT, set->loc, "'%s' needs 'hub: OWNER/NAME', its id on the hub",
                         set->name);
  if (n_forms != 1)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, set->loc, "'%s' needs either 'text: COLUMN' or 'template: ...'",
                         set->name);
  if (!is_word(set->revision, "_-./") || !is_word(set->config, "_-.") || !is_word(set->split, "_-."))
    return muse_error_at(r->diag, MUSE_ERR_INPUT, set->loc,
                         "'%s': config, split and revision are made of letters, digits, '_', '-', '.'", set->name);
  if (set->starts_not && !set->starts)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, set->loc, "'%s' has 'starts_not' without 'starts'", set->name);
  return MUSE_OK;
}

static MuseStatus read_sets(Reader *r, const MuseYamlNode *root, MuseDatasets *out) {
  const MuseYamlNode *list = NULL;
  for (const MuseYamlNode *n = root && root->kind == MUSE_YAML_MAPPING ? root->first : NULL; n; n = n->next) {
    if (!strcmp(n->key->text, "datasets") && !list) list = n;
    else return muse_error_at(r->diag, MUSE_ERR_INPUT, n->key->loc, "the only key here is 'datasets', once");
  }
  if (!list || list->kind != MUSE_YAML_MAPPING || !list->first)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, root ? root->loc : (MuseLoc){0},
                         "a file of data sets is 'datasets:' with a mapping of names");
  int n = 0;
  for (const MuseYamlNode *node = list->first; node; node = node->next) n++;
  out->sets = MUSE_NEW_ARRAY(r->arena, MuseDataset, n);
  MuseStatus status = MUSE_OK;
  for (const MuseYamlNode *node = list->first; node; node = node->next) {
    for (int i = 0; i < out->n_sets; i++)
      if (muse_str_eq(out->sets[i].name, node->key->text))
        status = muse_error_at(r->diag, MUSE_ERR_INPUT, node->key->loc, "'%s' stands here twice", node->key->text);
    MuseStatus of_set = read_set(r, node, &out->sets[out->n_sets++]);
    if (of_set != MUSE_OK) status = of_set;
  }
  return status;
}

MuseStatus muse_datasets_parse(const char *file, const char *text, size_t length, MuseArena *arena,
                               MuseDatasets *out_datasets, MuseDiag *diag) {
  MuseYamlNode *root;
  Reader r = {arena, diag};
  *out_datasets = (MuseDatasets){0};
  muse_diag_set_source(diag, file, text, length);
  MUSE_TRY(muse_yaml_parse(file, text, length, arena, &root, diag));
  if (!root) return muse_error(diag, MUSE_ERR_INPUT, "'%s' is empty; it should hold 'datasets:'", file);
  return read_sets(&r, root, out_datasets);
}

MuseStatus muse_datasets_load(const char *path, MuseArena *arena, MuseDatasets *out_datasets, MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = muse_read_file(path, MUSE_YAML_MAX_BYTES, &text, diag);
  if (status == MUSE_OK) status = muse_datasets_parse(path, muse_str_text(&text), text.len, arena, out_datasets, diag);
  muse_str_free(&text);
  return status;
}

MuseStatus muse_datasets_find(const MuseDatasets *d, const char *name, const MuseDataset **out_set, MuseDiag *diag) {
  const char **names = calloc((size_t)d->n_sets + 1, sizeof *names);
  if (!names) muse_out_of_memory(sizeof *names);
  MuseStr all = {0};
  *out_set = NULL;
  for (int i = 0; i < d->n_sets; i++) {
    names[i] = d->sets[i].name;
    muse_str_appendf(&all, "%s%s", i ? ", " : "", names[i]);
    if (muse_str_eq(names[i], name)) *out_set = &d->sets[i];
  }
  MuseStatus status = MUSE_OK;
  if (!*out_set) {
    const char *nearest = muse_str_nearest(name, names, (size_t)d->n_sets);
    if (nearest)
      status = muse_error(diag, MUSE_ERR_INPUT, "no data set '%s' is known; did you mean '%s'?", name, nearest);
    else
      status =
          muse_error(diag, MUSE_ERR_INPUT,
                     "no data set '%s' is known; known are %s (configs/datasets.yaml declares them)", name, all.data);
  }
  muse_str_free(&all);
  free(names);
  return status;
}

bool muse_pattern_matches(const char *pattern, const char *text) {
  const char *star = NULL, *resume = NULL;
  while (*text) {
    if (*pattern == '*') star = pattern++, resume = text;
    else if (*pattern == *text) pattern++, text++;
    else if (star && *resume != '/') pattern = star + 1, text = ++resume;
    else return false;
  }
  while (*pattern == '*') pattern++;
  return !*pattern;
}
