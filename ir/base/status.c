// The two ways in which MUSE gives up on the spot: a broken invariant and an exhausted memory.
#include "ir/base/status.h"

#include <stdio.h>
#include <stdlib.h>

void muse_assert_failed(const char *expr, const char *file, int line) {
  fprintf(stderr, "muse: internal error: %s does not hold at %s:%d; please report it with the command that led here\n",
          expr, file, line);
  abort();
}

void muse_out_of_memory(size_t bytes) {
  fprintf(stderr, "muse: out of memory: %zu bytes are not available; free memory or use a smaller configuration\n",
          bytes);
  abort();
}
