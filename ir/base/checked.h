#ifndef MUSE_IR_BASE_CHECKED_H
#define MUSE_IR_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

// Arithmetic on sizes that come from files: false on overflow (and for i64 on a negative operand), *out untouched.
static inline bool muse_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool muse_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool muse_mul_size_i64(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline int64_t muse_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t muse_round_up(int64_t a, int64_t multiple) { return muse_ceil_div(a, multiple) * multiple; }

#endif
