#ifndef MUSE_TESTS_UNIT_CUDA_CASES_H
#define MUSE_TESTS_UNIT_CUDA_CASES_H

#include "ops/ops.h"

// Kernels for the CUDA emitters: those that are compiled everywhere and, where there is a GPU, compared with eval.
typedef struct MuseCudaCase {
  char name[64];
  MuseModule *module;
  MuseOp *kernel;
  double bound; // of the error of float results; others may differ by one in one of 500 elements when that is 0 too
  bool shaky;   // whole numbers may fall to the other side of a half
} MuseCudaCase;

// Written cases, each a shape that an emitter treats in its own way. The modules live until the process ends.
int muse_cuda_cases(MuseCudaCase *out, int capacity);
// Large ones, to be timed.
int muse_cuda_bench_cases(MuseCudaCase *out, int capacity);
// Random maps (random_map.h) of seeds first..first+n-1.
int muse_cuda_random_cases(uint32_t first, int n, MuseCudaCase *out);
// All distinct kernels of a config, with overrides, whose skeleton has a CUDA emitter; *out_left_out counts the others.
// Returns -1 after printing why.
int muse_cuda_config_cases(const char *config, const char **overrides, MuseCudaCase *out, int capacity,
                           int *out_left_out);

#endif
