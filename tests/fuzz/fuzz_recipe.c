// libFuzzer: any bytes as a data recipe.
#include "compiler/config_recipe.h"

#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MuseArena *arena = muse_arena_create();
  MuseRecipe recipe;
  if (muse_recipe_parse("fuzz", (const char *)bytes, size, arena, &recipe, diag) == MUSE_OK) {
    MUSE_ASSERT(recipe.n_entries > 0);
    for (int i = 0; i < recipe.n_entries; i++)
      MUSE_ASSERT(recipe.entries[i].path && recipe.entries[i].weight > 0 && isfinite(recipe.entries[i].weight));
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) > 0);
  }
  muse_arena_destroy(arena);
  muse_diag_destroy(diag);
  return 0;
}
