#ifndef MUSE_RUNTIME_PEAKS_H
#define MUSE_RUNTIME_PEAKS_H

#include "runtime/pool.h"

// What this machine reaches with plain loops, on all threads of a pool: what measured kernels are compared with.
typedef struct MusePeaks {
  double copy_bytes;  // a second, read and written, arrays beyond the caches
  double flops;       // f32 multiply-adds from registers, two operations each
  double int8_ops;    // 8-bit products summed in 32 bits, two operations each; 0: the machine has no instruction for it
  double half_flops;  // products of bf16 or f16 summed in f32, in units of their own; 0: the machine has none
  const char *flops_with, *int8_with, *half_with; // instructions that were used
} MusePeaks;

// Takes about half a second. Memory: 2 x 128 MiB for the copy.
MuseStatus muse_measure_peaks(MusePool *pool, MusePeaks *out, MuseDiag *diag);

#endif
