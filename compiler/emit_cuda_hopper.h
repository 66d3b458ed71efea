#ifndef MUSE_COMPILER_EMIT_CUDA_HOPPER_H
#define MUSE_COMPILER_EMIT_CUDA_HOPPER_H

#include "ir/base/str.h"
#include "ir/type.h"

// Texts for sm_90a (targets with arch 90 and `specific`), to be put in front of the functions that use them; each is
// compiled once, however often it stands in a program.

// Barriers in shared memory, the bulk tensor copy engine with multicast, clusters, named barriers, descriptors, fences
// and waits of wgmma, setmaxnreg. (PTX ISA, "mbarrier", "cp.async.bulk.tensor", "wgmma".)
const char *muse_cuda_hopper_prelude(void);

// Wrappers of wgmma m64nNk32 (s8 x s8 -> s32; dtype I8) or m64nNk16 (bf16 or f16 -> f32), N = columns, a multiple of 8
// (s8: of 16 above 32) up to 256:
//   wgmma_s8_N(int (&d)[N / 2], u64 a, u64 b, int add)    d = a b^T, or d += where `add` is not 0
//   wgmma_s8_N_r(d, const unsigned (&a)[4], u64 b, int add)    A in registers
//   wgmma_bf16_N<TRANS_A, TRANS_B>(float (&d)[N / 2], a, b, add), wgmma_bf16_N_r<TRANS_B>(...), wgmma_f16_N..
// TRANS 0: rows run along the summed dimension; 1: the other way. Thread t of the warpgroup holds of row
// 16 * (t / 32) + t % 32 / 4 + 8 * h the columns 8 * g + 2 * (t % 4) + c, in d[4 * g + 2 * h + c].
void muse_cuda_write_wgmma(MuseStr *out, MuseDtype dtype, int columns);

#endif
