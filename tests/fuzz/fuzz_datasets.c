// libFuzzer: any bytes as a file of data sets; what is accepted has names that are safe in paths and URLs.
#include "corpus/datasets.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MuseArena *arena = muse_arena_create();
  MuseDatasets sets;
  if (muse_datasets_parse("fuzz", (const char *)bytes, size, arena, &sets, diag) == MUSE_OK) {
    MUSE_ASSERT(sets.n_sets > 0);
    for (int i = 0; i < sets.n_sets; i++) {
      const MuseDataset *s = &sets.sets[i];
      MUSE_ASSERT(!strchr(s->name, '/') && s->name[0] != '.' && strchr(s->hub, '/') && !strstr(s->hub, ".."));
      MUSE_ASSERT(s->form.n_columns > 0 && s->form.n_parts > 0);
    }
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) > 0);
  }
  muse_arena_destroy(arena);
  muse_diag_destroy(diag);
  return 0;
}
