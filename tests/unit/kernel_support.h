#ifndef MUSE_TESTS_UNIT_KERNEL_SUPPORT_H
#define MUSE_TESTS_UNIT_KERNEL_SUPPORT_H

// What tests of kernels on every device share: kernels from functions, values, comparison. Needs no Criterion.

#include "ops/ops.h"

// A function made with the builder as one kernel op, in a function of its own: the arguments become the kernel's
// operands, the returns its results, and rng_id attributes indices of its list.
MuseOp *muse_harness_outline(MuseModule *module, MuseFunc *func, const char *skeleton);

// Random values of operand `operand`: floats in [-2, 2], i8 in [-127, 127], u8 in [0, 255], other ints in [0, 15],
// bools and trits evenly.
void muse_support_fill(MuseTensor *t, int operand, uint64_t seed);

// Raises *out_error to the worst |got - want|, for floats over |want| + rms(want), *out_ulps to the worst in units of
// the last place of want, *out_differing to the share of elements that differ.
void muse_support_compare(const MuseTensor *got, const MuseTensor *want, double *out_error, double *out_ulps,
                          double *out_differing);

#endif
