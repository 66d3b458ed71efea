#ifndef MUSE_COMPILER_CONFIG_RECIPE_H
#define MUSE_COMPILER_CONFIG_RECIPE_H

// A recipe of training data (configs/dataset_mixing.yaml): token sets and their shares of the tokens. It lives here
// because this folder alone reads YAML; runtime/mixture.c receives the plain structure.

#include "ir/base/arena.h"
#include "ir/base/diag.h"

typedef struct MuseRecipeEntry {
  const char *name;
  const char *path;  // of a token set, relative to the working directory
  double weight;     // finite and > 0; shares are weights divided by their sum
  MuseLoc loc;
} MuseRecipeEntry;

enum { MUSE_RECIPE_MAX_ENTRIES = 64 };

typedef struct MuseRecipe {
  const char *file;
  MuseRecipeEntry entries[MUSE_RECIPE_MAX_ENTRIES];
  int n_entries; // at least 1
} MuseRecipe;

// Everything is allocated in `arena`. All errors of a file are reported at once, with line and column: MUSE_ERR_INPUT.
MuseStatus muse_recipe_load(const char *path, MuseArena *arena, MuseRecipe *out_recipe, MuseDiag *diag);
MuseStatus muse_recipe_parse(const char *file, const char *text, size_t length, MuseArena *arena,
                             MuseRecipe *out_recipe, MuseDiag *diag);

#endif
