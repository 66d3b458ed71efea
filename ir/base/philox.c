// Philox4x32-10: a counter-based generator, so that any element of any random tensor can be made alone and in any
// order, with the same bits on every device. Constants: Salmon et al., SC 2011, section 3.3.
#include "ir/base/philox.h"

#include <math.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u // 2^32 / golden ratio
#define PHILOX_W1 0xBB67AE85u // 2^32 * (sqrt(3) - 1)

void muse_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += PHILOX_W0;
    k1 += PHILOX_W1;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

static void random_block(uint64_t block, uint64_t op_id, uint32_t seed, uint32_t step, uint32_t out[4]) {
  const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)op_id, (uint32_t)(op_id >> 32)};
  const uint32_t key[2] = {seed, step};
  muse_philox4x32(counter, key, out);
}

static double to_uniform(uint32_t word) { return (double)(word >> 8) * 0x1p-24; }

uint32_t muse_random_u32(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step) {
  uint32_t words[4];
  random_block(index / 4, op_id, seed, step, words);
  return words[index % 4];
}

double muse_random_uniform(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step) {
  return to_uniform(muse_random_u32(index, op_id, seed, step));
}

double muse_random_normal(uint64_t index, uint64_t op_id, uint32_t seed, uint32_t step) {
  uint32_t words[4];
  random_block(index / 4, op_id, seed, step, words);
  const uint32_t *pair = words + (index % 4 / 2) * 2; // words 2j and 2j+1 always lie in one block
  double radius = sqrt(-2.0 * log(1.0 - to_uniform(pair[0])));
  double angle = 2.0 * M_PI * to_uniform(pair[1]);
  return radius * (index % 2 ? sin(angle) : cos(angle));
}
