#ifndef MUSE_TESTS_UNIT_RANDOM_MAP_H
#define MUSE_TESTS_UNIT_RANDOM_MAP_H

#include "ops/ops.h"

// A random map kernel: the same for the same seed. The module (with the function it comes from first) is the caller's.
MuseModule *muse_random_map(uint32_t seed, MuseOp **out_kernel);
// Is that error of a result (as muse_support_compare measures it, against eval with round_storage) within rounding?
bool muse_random_map_is_right(const MuseOp *kernel, int result, double error);

#endif
