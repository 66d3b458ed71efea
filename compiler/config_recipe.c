// Parser of data recipes over libyaml's events:
//   datasets:
//     NAME: {path: data/NAME, weight: 0.45, description: "...", license: "..."}
// Nothing is built that the recipe does not need, so neither aliases nor nesting can make it grow.
#include "compiler/config_recipe.h"

#include "ir/base/io.h"
#include "ir/base/str.h"

#include <string.h>
#include <yaml.h>

#define MAX_RECIPE_BYTES (1u << 20)
#define MAX_DEPTH 16 // libyaml's time grows with the square of the depth

typedef struct Parser {
  yaml_parser_t yaml;
  yaml_event_t event; // the current one
  bool has_event;
  const char *file;
  MuseArena *arena;
  MuseRecipe *recipe;
  MuseDiag *diag;
} Parser;

static const char *const top_keys[] = {"datasets", "block_size", "shuffle", "seed"};
static const char *const entry_keys[] = {"path", "weight", "description", "license"};

static MuseLoc here(const Parser *p) {
  return (MuseLoc){
      .file = p->file, .line = (int)p->event.start_mark.line + 1, .col = (int)p->event.start_mark.column + 1};
}

// Moves to the next event. A syntax error ends the parse; everything else goes on, to report all errors at once.
static MuseStatus next(Parser *p) {
  if (p->has_event) yaml_event_delete(&p->event);
  p->has_event = yaml_parser_parse(&p->yaml, &p->event);
  if (p->has_event) return MUSE_OK;
  MuseLoc loc = {
      .file = p->file, .line = (int)p->yaml.problem_mark.line + 1, .col = (int)p->yaml.problem_mark.column + 1};
  return muse_error_at(p->diag, MUSE_ERR_INPUT, loc, "this is not valid YAML: %s",
                       p->yaml.problem ? p->yaml.problem : "unreadable text");
}

// Leaves the current node behind: after it, the current event is its last one.
static MuseStatus skip(Parser *p) {
  for (int depth = 0;;) {
    yaml_event_type_t type = p->event.type;
    if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT) depth++;
    if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT) depth--;
    if (depth == 0) return MUSE_OK;
    if (depth > MAX_DEPTH)
      return muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "nested deeper than %d levels; a recipe needs three",
                           MAX_DEPTH);
    MUSE_TRY(next(p));
  }
}

// The text of the current scalar, NULL (and an error) when it is none or holds a NUL.
static const char *scalar(Parser *p, const char *what) {
  if (p->event.type == YAML_ALIAS_EVENT) {
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "a recipe has no use for aliases; write the value out");
    return NULL;
  }
  if (p->event.type != YAML_SCALAR_EVENT) {
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "%s must be a plain value", what);
    return NULL;
  }
  const char *text = (const char *)p->event.data.scalar.value;
  if (strlen(text) != p->event.data.scalar.length) {
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "%s contains a NUL character", what);
    return NULL;
  }
  return muse_arena_strdup(p->arena, text);
}

// Index of a key in a table of known ones; an unknown or repeated one is reported and gives -1.
static int known_key(Parser *p, const char *key, const char *const *keys, int n_keys, unsigned *seen) {
  for (int i = 0; i < n_keys; i++) {
    if (!muse_str_eq(key, keys[i])) continue;
    if (*seen & 1u << i) {
      muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "the key '%s' appears twice; remove one", key);
      return -1;
    }
    *seen |= 1u << i;
    return i;
  }
  const char *near = muse_str_nearest(key, keys, (size_t)n_keys);
  muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "unknown key '%s'%s%s%s", key, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
  return -1;
}

static void read_entry_value(Parser *p, int key, MuseRecipeEntry *entry) {
  if (key == 0) {
    entry->path = scalar(p, "'path'");
    if (entry->path && !*entry->path) muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "'path' is empty");
  }
  if (key == 1) {
    const char *text = scalar(p, "'weight'");
    if (text && (!muse_parse_double(text, &entry->weight) || !(entry->weight > 0 && entry->weight <= 1e9)))
      muse_error_at(p->diag, MUSE_ERR_INPUT, here(p),
                    "the weight '%s' is not a number above 0 and up to 1e9; to leave a set out, remove it", text);
  }
}

// NAME has been read and is in entry; the current event is its value's first.
static MuseStatus parse_entry(Parser *p, MuseRecipeEntry *entry) {
  if (p->event.type != YAML_MAPPING_START_EVENT) {
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "dataset '%s' must be a mapping with 'path' and 'weight'",
                  entry->name);
    return skip(p);
  }
  unsigned seen = 0;
  for (;;) {
    MUSE_TRY(next(p));
    if (p->event.type == YAML_MAPPING_END_EVENT) break;
    const char *name = scalar(p, "a key");
    int key = name ? known_key(p, name, entry_keys, 4, &seen) : -1;
    if (!name) MUSE_TRY(skip(p));
    MUSE_TRY(next(p));
    read_entry_value(p, key, entry);
    MUSE_TRY(skip(p));
  }
  for (int i = 0; i < 2; i++) {
    if (!(seen & 1u << i))
      muse_error_at(p->diag, MUSE_ERR_INPUT, entry->loc, "dataset '%s' has no '%s'", entry->name, entry_keys[i]);
  }
  return MUSE_OK;
}

static MuseStatus parse_datasets(Parser *p) {
  if (p->event.type != YAML_MAPPING_START_EVENT) {
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "'datasets' must be a mapping of names to {path, weight}");
    return skip(p);
  }
  MuseRecipe *recipe = p->recipe;
  for (;;) {
    MUSE_TRY(next(p));
    if (p->event.type == YAML_MAPPING_END_EVENT) return MUSE_OK;
    const char *name = scalar(p, "the name of a dataset");
    MuseRecipeEntry entry = {.name = name, .loc = here(p)};
    if (!name) MUSE_TRY(skip(p));
    for (int i = 0; name && i < recipe->n_entries; i++) {
      if (muse_str_eq(recipe->entries[i].name, name))
        muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "dataset '%s' appears twice; remove one", name);
    }
    if (recipe->n_entries == MUSE_RECIPE_MAX_ENTRIES)
      return muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "a recipe may have at most %d datasets",
                           MUSE_RECIPE_MAX_ENTRIES);
    MUSE_TRY(next(p));
    if (!name) MUSE_TRY(skip(p));
    else MUSE_TRY(parse_entry(p, &entry));
    if (name) recipe->entries[recipe->n_entries++] = entry;
  }
}

static MuseStatus parse_document(Parser *p) {
  do MUSE_TRY(next(p));
  while (p->event.type == YAML_STREAM_START_EVENT || p->event.type == YAML_DOCUMENT_START_EVENT);
  if (p->event.type != YAML_MAPPING_START_EVENT)
    return muse_error_at(p->diag, MUSE_ERR_INPUT, here(p),
                         "a recipe is a mapping with the key 'datasets'; this is none");
  unsigned seen = 0;
  for (;;) {
    MUSE_TRY(next(p));
    if (p->event.type == YAML_MAPPING_END_EVENT) break;
    const char *name = scalar(p, "a key");
    int key = name ? known_key(p, name, top_keys, 4, &seen) : -1;
    if (!name) MUSE_TRY(skip(p));
    if (key > 0)
      muse_note_at(p->diag, here(p),
                   "'%s' changes nothing here: row length, order and seed come from the model's config", name);
    MUSE_TRY(next(p));
    if (key == 0) MUSE_TRY(parse_datasets(p));
    else MUSE_TRY(skip(p));
  }
  MUSE_TRY(next(p));
  do MUSE_TRY(next(p));
  while (p->event.type == YAML_DOCUMENT_END_EVENT);
  if (p->event.type != YAML_STREAM_END_EVENT)
    muse_error_at(p->diag, MUSE_ERR_INPUT, here(p), "a second YAML document follows; a recipe is one document");
  if (p->recipe->n_entries == 0)
    muse_error_at(p->diag, MUSE_ERR_INPUT, (MuseLoc){.file = p->file, .line = 1, .col = 1},
                  "the recipe names no datasets");
  return MUSE_OK;
}

MuseStatus muse_recipe_parse(const char *file, const char *text, size_t length, MuseArena *arena,
                             MuseRecipe *out_recipe, MuseDiag *diag) {
  *out_recipe = (MuseRecipe){.file = muse_arena_strdup(arena, file)};
  Parser p = {.file = out_recipe->file, .arena = arena, .recipe = out_recipe, .diag = diag};
  size_t errors_before = muse_diag_count(diag, MUSE_ERROR);
  muse_diag_set_source(diag, out_recipe->file, text, length);
  if (!yaml_parser_initialize(&p.yaml)) return muse_error(diag, MUSE_ERR_FAILED, "out of memory for the YAML parser");
  yaml_parser_set_input_string(&p.yaml, (const unsigned char *)text, length);
  MuseStatus status = parse_document(&p);
  if (p.has_event) yaml_event_delete(&p.event);
  yaml_parser_delete(&p.yaml);
  if (status == MUSE_OK && muse_diag_count(diag, MUSE_ERROR) > errors_before) status = MUSE_ERR_INPUT;
  return status;
}

MuseStatus muse_recipe_load(const char *path, MuseArena *arena, MuseRecipe *out_recipe, MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = muse_read_file(path, MAX_RECIPE_BYTES, &text, diag);
  if (status == MUSE_OK) status = muse_recipe_parse(path, muse_str_text(&text), text.len, arena, out_recipe, diag);
  muse_str_free(&text);
  return status;
}
