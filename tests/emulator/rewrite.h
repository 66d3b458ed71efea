#ifndef MUSE_TESTS_EMULATOR_REWRITE_H
#define MUSE_TESTS_EMULATOR_REWRITE_H

#include "ir/base/str.h"

// Preprocessed CUDA C becomes C++ that device.h gives a meaning to; lines keep their numbers. False: *out_problem is a
// line of the form "error: ...".
//   asm volatile("a.b::c %0, [%1], 16;" : "=r"(x) : "l"(p))    calls ptx_a_b__c(x, p, 16); labels, predicates, .reg too
//   __shared__ T name[N];                                      a reference into the shared memory of the block
//   extern __shared__ T name[];                                a pointer to its dynamic part
//   __global__ void name(..) {..}                              the function, and an EMU_KERNEL at the end
bool emu_rewrite(const char *source, MuseStr *out, MuseStr *out_problem);

#endif
