// libFuzzer: any bytes as a safetensors file. What is accepted must be readable to its last byte.
#include "runtime/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MuseSafetensors *file;
  if (muse_safetensors_parse("fuzz", bytes, size, &file, diag) == MUSE_OK) {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 0);
    for (size_t i = 0; i < muse_safetensors_count(file); i++) {
      const MuseStoredTensor *t = muse_safetensors_at(file, i);
      MUSE_ASSERT(t->bytes <= size && muse_safetensors_find(file, t->name) == t);
      float *out = malloc((size_t)t->count * 4 + 1);
      bool floating = t->type <= MUSE_STORED_BF16;
      if (floating) MUSE_ASSERT(muse_stored_read_f32(t, 0, t->count, out, diag) == MUSE_OK);
      else (void)muse_stored_read_i32(t, 0, t->count, (int32_t *)out, diag);
      free(out);
    }
    muse_safetensors_close(file);
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
  }
  muse_diag_destroy(diag);
  return 0;
}
