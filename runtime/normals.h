#ifndef MUSE_RUNTIME_NORMALS_H
#define MUSE_RUNTIME_NORMALS_H

#include <stdint.h>

// Normal parameters and what is done with them over whole matrices, at the speed of the vector units.

// out[i] = (float)(std * muse_random_normal(first + i, op_id, seed, 0)), the same bits; `first` and `count` are
// multiples of 4 or `count` ends the parameter.
void muse_normals_fill(uint64_t op_id, uint32_t seed, double std, int64_t first, int64_t count, float *out);

// Sum of |w| in a fixed order (of 16 partial sums).
double muse_sum_magnitudes(const float *w, int64_t count);

// out[i] = clip(round(w[i]/delta), -127, 127) in f64, halves to even: latents on their grid.
void muse_round_to_grid(const float *w, int64_t count, double delta, int8_t *out);

// One row of `columns` weights as trits clip(round(w/gamma), -1, 1) in the layout T5 of ir/type.h,
// muse_trit_row_bytes(MUSE_T5, columns) bytes. Adds to *out_nonzero how many trits are not 0, and to *out_error the sum
// of (w - gamma*t)² (either may be NULL).
void muse_pack_row_t5(const float *w, int64_t columns, float gamma, uint8_t *out_bytes, int64_t *out_nonzero,
                      double *out_error);

#endif
