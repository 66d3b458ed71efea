#ifndef MUSE_COMPILER_EMIT_CUDA_WGMMA_H
#define MUSE_COMPILER_EMIT_CUDA_WGMMA_H

#include "compiler/emit_cuda_product.h"

// Products of int8 by warpgroups of sm_90a: ternary_matmul and int8_matmul from about a hundred rows on (with fewer,
// writing trits as int8 takes as long as the whole product by mma.sync, which takes them apart in registers).
//
// A first launch brings the operands into a form that the copy engine can feed to wgmma: trits become int8, [N,K], one
// anchor below the other; the operands of int8_matmul, [K,M] and [K,N], are turned. The second is a persistent product
// (emit_cuda_wgmma_prelude.c) of blocks of 128 x BN. A single result of two bytes leaves through shared memory and the
// copy engine; others are computed and stored by 8 neighbouring columns. BN comes from a cost of whole waves of blocks
// over the 132 multiprocessors of an H100 or H200; variants take the next best. (Pairs of blocks that share B through
// multicast were a third slower: the two wait for each other.)

enum { MUSE_CUDA_WGMMA_VARIANTS = 4 };

// Whether the kernel suits: target sm_90a, M >= 128 (64 without trits), and rows of all operands and results of whole
// 16 bytes (K % 16 == 0 and N % 8 == 0 for trits, M % 16 == 0 and N % 16 == 0 for int8_matmul).
bool muse_cuda_wgmma_takes(const MuseCudaProducts *products);
void muse_cuda_wgmma_emit(MuseCudaProducts *products);

// Of emit_cuda_wgmma_prelude.c; needs muse_cuda_hopper_prelude in front.
const char *muse_cuda_wgmma_prelude(void);

#endif
