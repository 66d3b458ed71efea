// quantize: BitNet's products become what is computed: rows quantised to int8, ternarised weights, exact integer
// products, scales.
//   before: %y = bit_linear %x, %w
//   after:  %q, %a = quantize_rows %x;  %t, %g = ternarize %w;  %s = ternary_matmul %q, %t;  %y = scale of %s by %a and
//   %g
// The pieces stay composites (quantize_rows, ternarize), so that cse can share one quantisation among the products of
// an input and pack_ternary can move ternarisation out of the step.
#include "passes/rewrite.h"

static bool is_bit_linear(const MuseOp *op) {
  return op->kind == MUSE_OP_bit_linear || op->kind == MUSE_OP_bit_linear_dx || op->kind == MUSE_OP_bit_linear_dw;
}

bool muse_pass_quantize(MusePassCtx *cx, MuseFunc *fn) { return muse_decompose_where(cx, fn, is_bit_linear); }
