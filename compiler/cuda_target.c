// Names of CUDA architectures.
#include "compiler/cuda_target.h"

#include "ir/base/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool muse_is_cuda_target(const char *text) { return strcmp(text, "cuda") == 0 || strncmp(text, "cuda:", 5) == 0; }

MuseStatus muse_cuda_target_parse(const char *text, MuseCudaTarget *out_target, MuseDiag *diag) {
  *out_target = (MuseCudaTarget){.arch = 80};
  if (strcmp(text, "cuda") == 0) return MUSE_OK;
  if (strncmp(text, "cuda:sm_", 8) == 0 && isdigit((unsigned char)text[8])) {
    char *end;
    long arch = strtol(text + 8, &end, 10);
    bool specific = *end == 'a';
    if (end[specific ? 1 : 0] == 0 && arch < 1000) {
      if (arch < 75)
        return muse_error(diag, MUSE_ERR_INPUT,
                          "target %s: the oldest architecture that MUSE generates code for is sm_75", text);
      *out_target = (MuseCudaTarget){.arch = (int)arch, .specific = specific};
      return MUSE_OK;
    }
  }
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' is no CUDA target; use cuda or cuda:sm_75, sm_80, sm_86, sm_89, sm_90, "
                    "sm_90a, sm_120, ...", text);
}

int64_t muse_cuda_shared_limit(MuseCudaTarget target) {
  switch (target.arch) {
    case 75: return 64 << 10;
    case 80:
    case 87: return 163 << 10;
    default: return target.arch >= 90 && target.arch < 120 ? 227 << 10 : 99 << 10;
  }
}

void muse_cuda_target_name(MuseCudaTarget target, bool ptx, char out_name[24]) {
  snprintf(out_name, 24, "%s_%d%s", ptx ? "compute" : "sm", target.arch, target.specific ? "a" : "");
}
