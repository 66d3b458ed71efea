#ifndef MUSE_RUNTIME_PARAM_GRID_H
#define MUSE_RUNTIME_PARAM_GRID_H

#include <math.h>
#include <stdint.h>

// The int8 grid of latents: delta = 3.2 * mean|w| / 127 (section 6 of docs/model.md). For the makers of parameters
// alone.

// Elements of a task. Sums of |w| are cut by it, so it is part of the values of latents.
enum { MUSE_PARAM_CHUNK = 1 << 16 };

static inline int8_t muse_on_grid(double w, double delta) {
  return (int8_t)fmax(-127, fmin(127, nearbyint(w / delta)));
}

// The width of the grid from sums of |w|; a parameter of zeros gets a grid of any width.
static inline float muse_grid_width(const double *sums, int64_t n_sums, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n_sums; i++) sum += sums[i];
  float delta = (float)(3.2 * (sum / (double)n) / 127);
  return delta > 0 ? delta : 1;
}

#endif
