#ifndef MUSE_COMPILER_CUDA_TARGET_H
#define MUSE_COMPILER_CUDA_TARGET_H

#include "ir/base/diag.h"

#include <stdint.h>

// A CUDA architecture: compute capability times ten, with the instructions of that one chip (sm_90a: wgmma) or without.
typedef struct MuseCudaTarget {
  int arch; // 75, 80, 86, 89, 90, 120, ...
  bool specific;
} MuseCudaTarget;

// Is the text "cuda" or "cuda:..."?
bool muse_is_cuda_target(const char *text);
// "cuda:sm_86", "cuda:sm_90a"; "cuda" alone is sm_80, the oldest architecture with bf16. sm_75 is the oldest at all.
MuseStatus muse_cuda_target_parse(const char *text, MuseCudaTarget *out_target, MuseDiag *diag);
// Shared memory that a block may have, in bytes (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability": 64, 99, 163 or 227 KiB).
int64_t muse_cuda_shared_limit(MuseCudaTarget target);
// "sm_90a", or "compute_90a" for PTX.
void muse_cuda_target_name(MuseCudaTarget target, bool ptx, char out_name[24]);

#endif
