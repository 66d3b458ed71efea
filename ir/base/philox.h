#ifndef MUSE_IR_BASE_PHILOX_H
#define MUSE_IR_BASE_PHILOX_H

#include <stdint.h>

// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
void muse_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// The stream MUSE uses everywhere. Element `index` of operation `op_id` under (seed, step) takes word index%4 of the
// block with counter = (index/4 low, index/4 high, op_id low, op_id high) and key = (seed, step).
uint32_t muse_random_u32(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step);
// u in [0,1): the top 24 bits of the word, times 2^-24 (exact in f32).
double muse_random_uniform(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step);
// Standard normal by Box-Muller from u(2j) and u(2j+1), j = index/2: sqrt(-2 ln(1 - u(2j))) times the cosine (even
// index) or sine (odd index) of 2 pi u(2j+1). 1 - u lies in (0,1], so the logarithm is finite.
double muse_random_normal(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step);

#endif
