// decompose: every composite op becomes primitive ops, so that the fusion passes see through it.
//   before: %1 = rms_norm %0, %w        after: mul, reduce_sum, mul, add, rsqrt, mul, mul
// Legal by the definition of a composite; tests compare each with its decomposition.
#include "passes/rewrite.h"

static bool any(const MuseOp *op) { return true; }

bool muse_pass_decompose(MusePassCtx *cx, MuseFunc *fn) { return muse_decompose_where(cx, fn, any); }
