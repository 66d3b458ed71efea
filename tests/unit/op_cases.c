// The descriptions of op_cases.h: the table, its reader, and the values.

#include "tests/unit/op_cases.h"

#include "ir/base/philox.h"
#include "ops/hooks.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Row {
  MuseOpKind kind;
  const char *operands, *attrs;
} Row;

#define CASE(name, operands, attrs) {MUSE_OP_##name, operands, attrs},
// Three odd shapes of a unary map op with values in a range.
#define UNARY(name, fill)                                                                                              \
  CASE(name, "f32[7] " fill, "") CASE(name, "f32[3,5,7] " fill, "") CASE(name, "f32[2,1,33] " fill, "")
// Full shapes, a row vector, a column and a scalar.
#define BINARY(name, first, second)                                                                                    \
  CASE(name, "f32[3,17] " first "; f32[3,17] " second, "")                                                             \
  CASE(name, "f32[2,3,5] " first "; f32[5] " second, "")                                                               \
  CASE(name, "f32[3,1] " first "; f32[1,7] " second, "")                                                               \
  CASE(name, "f32[] " first "; f32[5,3] " second, "")

static const Row rows[] = {
    // --- map ---
    CASE(const, "", "value=1.5")
    CASE(const, "", "value=-3, dtype=i32")
    CASE(const, "", "value=0.1, dtype=f64")
    CASE(cast, "f32[3,7] u(-3,3)", "to=f64")
    CASE(cast, "f32[5,3] u(-3,3)", "to=bf16")
    CASE(cast, "f32[67] u(-3,3)", "to=f16")
    CASE(cast, "bf16[2,3,5] u(-3,3)", "to=f32")
    CASE(cast, "f16[35] u(-3,3)", "to=f32")
    CASE(cast, "f32[3,37] u(-127,127)", "to=i8")
    CASE(cast, "f32[3,37] u(-1000,1000)", "to=i32")
    CASE(cast, "i8[3,37] i(-128,127)", "to=f32")
    CASE(cast, "i32[9] i(-100000,100000)", "to=f32")
    CASE(cast, "bool[19] i(0,1)", "to=f32")
    CASE(cast, "i8[35] i(-127,127)", "to=bf16")
    UNARY(neg, "u(-2,2)")
    UNARY(abs, "signed(0.1,2)")
    UNARY(exp, "u(-3,3)")
    UNARY(log, "u(0.2,5)")
    UNARY(sqrt, "u(0.2,5)")
    UNARY(rsqrt, "u(0.2,5)")
    UNARY(recip, "signed(0.3,3)")
    UNARY(tanh, "u(-3,3)")
    UNARY(sigmoid, "u(-4,4)")
    UNARY(softplus, "u(-4,4)")
    UNARY(sin, "u(-9,9)")
    UNARY(cos, "u(-9,9)")
    UNARY(round, "u(-9,9)")
    UNARY(floor, "u(-9,9)")
    BINARY(add, "u(-2,2)", "u(-2,2)")
    BINARY(sub, "u(-2,2)", "u(-2,2)")
    BINARY(mul, "u(-2,2)", "u(-2,2)")
    BINARY(div, "u(-2,2)", "signed(0.4,2)")
    BINARY(max, "apart(-2,2)", "apart(-1.97,2.03)")
    BINARY(min, "apart(-2,2)", "apart(-1.97,2.03)")
    BINARY(less, "u(-2,2)", "u(-2,2)")
    BINARY(equal, "i(0,2)", "i(0,2)")
    CASE(add, "i32[5,3] i(-9,9); i32[3] i(-9,9)", "")
    CASE(mul, "i32[5,3] i(-9,9); i32[3] i(-9,9)", "")
    CASE(max, "i32[17] i(-9,9); i32[17] i(-9,9)", "")
    CASE(less, "i32[17] i(-9,9); i32[17] i(-9,9)", "")
    CASE(equal, "i32[5,1] i(0,3); i32[1,7] i(0,3)", "")
    CASE(add, "f64[5,3] u(-2,2); f64[3] u(-2,2)", "")
    CASE(select, "bool[3,17] i(0,1); f32[3,17] u(-2,2); f32[3,17] u(-2,2)", "")
    CASE(select, "bool[5,1] i(0,1); f32[7] u(-2,2); f32[5,7] u(-2,2)", "")
    CASE(select, "bool[2,3,5] i(0,1); f32[] u(-2,2); f32[3,1] u(-2,2)", "")
    CASE(select, "bool[9] i(0,1); i32[9] i(-5,5); i32[] i(-5,5)", "")
    CASE(stochastic_round, "f32[37] u(-5,5); u32[2] i(0,999)", "rng_id=3")
    CASE(stochastic_round, "f32[3,21] u(-5,5); u32[2] i(0,999)", "rng_id=0")
    CASE(stochastic_round, "f32[2,3,5] u(-100,100); u32[2] i(0,999)", "rng_id=77")

    // --- reduce ---
    CASE(reduce_sum, "f32[37] u(-2,2)", "axes=0")
    CASE(reduce_sum, "f32[3,5,7] u(-2,2)", "axes=2")
    CASE(reduce_sum, "f32[3,5,7] u(-2,2)", "axes=0:2")
    CASE(reduce_sum, "f32[5,19] u(-2,2)", "axes=0")
    CASE(reduce_sum, "f32[5,19] u(-2,2)", "axes=0:1")
    CASE(reduce_max, "f32[37] apart(-2,2)", "axes=0")
    CASE(reduce_max, "f32[3,5,7] apart(-2,2)", "axes=2")
    CASE(reduce_max, "f32[5,19] apart(-2,2)", "axes=0")
    CASE(reduce_max, "f32[3,5,7] apart(-2,2)", "axes=0:1:2")

    // --- views ---
    CASE(reshape, "f32[6,5] u(-2,2)", "shape=3:10")
    CASE(reshape, "f32[1] u(-2,2)", "shape=")
    CASE(reshape, "bf16[2,3,7] u(-2,2)", "shape=42")
    CASE(broadcast, "f32[5] u(-2,2)", "shape=3:5")
    CASE(broadcast, "f32[] u(-2,2)", "shape=7")
    CASE(broadcast, "f32[3,1,5] u(-2,2)", "shape=2:3:4:5")
    CASE(broadcast, "bf16[1,5] u(-2,2)", "shape=3:5")
    CASE(transpose, "f32[3,17] u(-2,2)", "perm=1:0")
    CASE(transpose, "f32[2,5,3,7] u(-2,2)", "perm=0:2:1:3")
    CASE(transpose, "f32[5,3,7] u(-2,2)", "perm=2:0:1")
    CASE(transpose, "i8[33,65] i(-9,9)", "perm=1:0")

    // --- rotary position ---
    CASE(rope_table, "i64[] i(0,9)", "rows=5, half=3")
    CASE(rope_table, "i64[] i(0,0)", "rows=17, half=8")
    CASE(rope_table, "i64[] i(1000,9999)", "rows=1, half=16, base=500000")
    CASE(rope, "f32[2,5,3,6] u(-2,2); f32[5,6] u(-1,1)", "")
    CASE(rope, "f32[1,7,2,16] u(-2,2); f32[7,16] u(-1,1)", "inverse=true")
    CASE(rope, "f32[3,1,1,34] u(-2,2); f32[1,34] u(-1,1)", "")

    // --- matrix products ---
    CASE(matmul, "f32[3,5] u(-2,2); f32[5,7] u(-2,2)", "")
    CASE(matmul, "f32[17,9] u(-2,2); f32[3,9] u(-2,2)", "trans_b=true")
    CASE(matmul, "f32[9,5] u(-2,2); f32[9,33] u(-2,2)", "trans_a=true")
    CASE(matmul, "f32[3,67] u(-2,2); t2[5,67] i(-1,1)", "trans_b=true")
    CASE(matmul, "bf16[3,19] u(-2,2); bf16[19,5] u(-2,2)", "")
    CASE(ternary_matmul, "i8[3,67] i(-128,127); t2[5,67] i(-1,1)", "")
    CASE(ternary_matmul, "i8[1,300] i(-128,127); t2[17,300] i(-1,1)", "")
    CASE(ternary_matmul, "i8[7,513] i(-128,127); t5[9,513] i(-1,1)", "")
    CASE(int8_matmul, "i8[67,3] i(-127,127); i8[67,5] i(-128,127)", "")
    CASE(int8_matmul, "i8[1,17] i(-127,127); i8[1,9] i(-128,127)", "")
    CASE(int8_matmul, "i8[33,35] i(-127,127); i8[33,19] i(-128,127)", "")
    CASE(pack_trits, "f32[5,67] u(-2,2); f32[] u(0.5,1)", "")
    CASE(pack_trits, "f32[7,321] u(-2,2); f32[] u(0.5,1)", "dtype=t5")
    CASE(pack_trits, "f32[67,9] u(-2,2); f32[] u(0.5,1)", "transpose=true")
    CASE(pack_trits, "i8[5,67] i(-127,127); f32[] u(0.5,1); f32[] u(0.01,0.02)", "")
    CASE(pack_trits, "i8[67,9] i(-127,127); f32[] u(0.5,1); f32[] u(0.01,0.02)", "dtype=t5, transpose=true")
    CASE(unpack_trits, "t2[5,67] i(-1,1)", "")
    CASE(unpack_trits, "t2[1,513] i(-1,1)", "")
    CASE(unpack_trits, "t5[3,321] i(-1,1)", "")

    // --- BitNet ---
    CASE(quantize_rows, "f32[37] u(-2,2)", "")
    CASE(quantize_rows, "f32[3,5,7] u(-2,2)", "")
    CASE(quantize_rows, "bf16[5,33] u(-2,2)", "")
    CASE(quantize_rows, "f32[3,9] u(-1e-7,1e-7)", "")
    CASE(ternarize, "f32[5,7] u(-0.1,0.1)", "")
    CASE(ternarize, "f32[3,67] u(-2,2)", "transpose=true")
    CASE(ternarize, "bf16[1,33] u(-2,2)", "")
    CASE(ternarize, "f32[3,5] u(-1e-8,1e-8)", "")
    CASE(bit_linear, "f32[3,7] u(-2,2); f32[5,7] u(-0.1,0.1)", "")
    CASE(bit_linear, "bf16[5,33] u(-2,2); f32[3,33] u(-0.1,0.1)", "gradient=bf16")
    CASE(bit_linear, "f32[1,67] u(-2,2); f32[9,67] u(-0.1,0.1)", "gradient=int8, rng_id=4")
    CASE(bit_linear_dx, "f32[3,5] u(-2,2); f32[5,7] u(-0.1,0.1)", "")
    CASE(bit_linear_dx, "f32[5,3] u(-2,2); f32[3,33] u(-0.1,0.1)", "gradient=bf16")
    CASE(bit_linear_dx, "f32[7,9] u(-2,2); f32[9,67] u(-0.1,0.1); u32[2] i(0,999)", "gradient=int8, rng_id=4")
    CASE(bit_linear_dw, "f32[3,5] u(-2,2); f32[3,7] u(-2,2)", "")
    CASE(bit_linear_dw, "f32[5,3] u(-2,2); bf16[5,33] u(-2,2)", "gradient=bf16")
    CASE(bit_linear_dw, "f32[7,9] u(-2,2); f32[7,67] u(-2,2); u32[2] i(0,999)", "gradient=int8, rng_id=4")
    CASE(fake_quantize, "f32[3,5,7] u(-0.2,0.2)", "")
    CASE(fake_quantize, "f32[1,33,1] u(-2,2)", "")
    CASE(fake_quantize, "f32[5,2,9] u(0,0)", "")
    CASE(rms_norm, "f32[37] u(-2,2)", "")
    CASE(rms_norm, "f32[3,5,7] u(-2,2); f32[7] u(0.5,1.5)", "")
    CASE(rms_norm, "f32[5,33] u(-2,2); f32[33] u(0.5,1.5)", "eps=0.01")
    CASE(rms_norm, "bf16[2,9] u(-2,2); f32[9] u(0.5,1.5)", "")
    CASE(softmax, "f32[37] u(-3,3)", "")
    CASE(softmax, "f32[3,5,7] u(-3,3)", "")
    CASE(softmax, "bf16[5,1] u(-3,3)", "")

    // --- embedding and head ---
    CASE(gather_rows, "f32[7,5] u(-2,2); i32[2,3] i(0,6)", "")
    CASE(gather_rows, "f32[3,33] u(-2,2); i32[1,9] i(0,2)", "")
    CASE(gather_rows, "f32[19,1] u(-2,2); i32[5,1] i(0,18)", "")
    CASE(scatter_add_rows, "f32[2,3,5] u(-2,2); i32[2,3] i(0,6)", "rows=7")
    CASE(scatter_add_rows, "f32[1,9,33] u(-2,2); i32[1,9] i(0,2)", "rows=3")
    CASE(scatter_add_rows, "f32[5,1,1] u(-2,2); i32[5,1] i(0,18)", "rows=19")
    CASE(tt_gather, "f32[3,2,3] u(-1,1); f32[3,2,3] u(-1,1); f32[2] u(-1,1); i32[2,5] i(0,6)", "dim=7")
    CASE(tt_gather, "f32[5,3,4] u(-1,1); f32[4,3,5] u(-1,1); f32[3] u(-1,1); i32[1,3] i(0,18)", "dim=17")
    CASE(tt_gather, "f32[2,7,1] u(-1,1); f32[1,7,3] u(-1,1); f32[7] u(-1,1); i32[3,1] i(0,1)", "dim=3")
    CASE(tt_gather_grad,
         "f32[2,5,7] u(-1,1); f32[3,2,3] u(-1,1); f32[3,2,3] u(-1,1); f32[2] u(-1,1); i32[2,5] i(0,6)", "")
    CASE(tt_gather_grad,
         "f32[1,3,17] u(-1,1); f32[5,3,4] u(-1,1); f32[4,3,5] u(-1,1); f32[3] u(-1,1); i32[1,3] i(0,18)", "")
    CASE(tt_gather_grad,
         "f32[3,1,3] u(-1,1); f32[2,7,1] u(-1,1); f32[1,7,3] u(-1,1); f32[7] u(-1,1); i32[3,1] i(0,1)", "")
    CASE(tt_matmul, "f32[5,7] u(-1,1); f32[3,2,3] u(-1,1); f32[3,2,3] u(-1,1); f32[2] u(-1,1)", "vocab=8")
    CASE(tt_matmul, "f32[3,17] u(-1,1); f32[5,3,4] u(-1,1); f32[4,3,5] u(-1,1); f32[3] u(-1,1)", "vocab=19")
    CASE(tt_matmul, "f32[1,3] u(-1,1); f32[2,7,1] u(-1,1); f32[1,7,3] u(-1,1); f32[7] u(-1,1)", "vocab=2")
    CASE(cross_entropy, "f32[5,7] u(-1,1); f32[9,7] u(-1,1); i32[5] i(0,8)", "")
    CASE(cross_entropy, "f32[1,3] u(-1,1); f32[33,3] u(-1,1); i32[1] i(0,32)", "")
    CASE(cross_entropy, "f32[17,5] u(-2,2); f32[3,5] u(-2,2); i32[17] i(0,2)", "")
    CASE(cross_entropy_grad, "f32[5,7] u(-1,1); f32[9,7] u(-1,1); i32[5] i(0,8); f32[] u(0.5,2)", "")
    CASE(cross_entropy_grad, "f32[1,3] u(-1,1); f32[33,3] u(-1,1); i32[1] i(0,32); f32[] u(0.5,2)", "")
    CASE(cross_entropy_grad, "f32[17,5] u(-2,2); f32[3,5] u(-2,2); i32[17] i(0,2); f32[] u(0.5,2)", "")
#define TT_HEAD(kind, a, b, c)                                                                                         \
  CASE(kind, "f32[5,7] u(-1,1); f32[3,2,3] u(-1,1); f32[3,2,3] u(-1,1); f32[2] u(-1,1); i32[5] i(0,7)" a, "vocab=8")   \
  CASE(kind, "f32[3,17] u(-1,1); f32[5,3,4] u(-1,1); f32[4,3,5] u(-1,1); f32[3] u(-1,1); i32[3] i(0,18)" b,            \
       "vocab=19")                                                                                                     \
  CASE(kind, "f32[1,3] u(-1,1); f32[2,7,1] u(-1,1); f32[1,7,3] u(-1,1); f32[7] u(-1,1); i32[1] i(0,1)" c, "vocab=2")
    TT_HEAD(tt_cross_entropy, "", "", "")
    TT_HEAD(tt_cross_entropy_grad, "; f32[] u(0.5,2)", "; f32[] u(0.5,2)", "; f32[] u(0.5,2)")

    // --- sequence mixers ---
    CASE(doc_begin, "i32[2,9] i(0,3)", "eos=1")
    CASE(doc_begin, "i32[1,17] i(0,2)", "eos=0")
    CASE(doc_begin, "i32[3,5] i(0,9)", "")
    CASE(green_scan, "f32[2,7,3] u(0,1); f32[3] u(0.01,0.3); i32[2,7] doc", "")
    CASE(green_scan, "f32[1,33,1] u(0,0.3); f32[1] u(0.05,0.3); i32[1,33] doc", "")
    CASE(green_scan, "f32[3,1,5] u(0,1); f32[5] u(0.01,0.3); i32[3,1] doc", "")
#define GREEN_GRAD(shape, doc)                                                                                         \
  CASE(green_scan_grad,                                                                                                \
       "f32" shape " u(0.5,1.5); f32" shape " u(-0.5,0.5); i32" doc " doc; f32" shape " u(-1,1); "                     \
       "f32" shape " u(-1,1)", "")
    GREEN_GRAD("[2,7,3]", "[2,7]")
    GREEN_GRAD("[1,33,1]", "[1,33]")
    GREEN_GRAD("[3,1,5]", "[3,1]")
#define RESOLVENT(kind, x, g, doc, more)                                                                               \
  CASE(kind, "f32" x " u(-1,1); f32" x " u(-1,1); f32" x " u(-1,1); f32" g " u(0.4,1.6); "                            \
       "f32" g " u(-0.6,0.6); i32" doc " doc" more, "")
    RESOLVENT(resolvent_scan, "[2,7,3,4]", "[2,7,3]", "[2,7]", "")
    RESOLVENT(resolvent_scan, "[1,19,1,5]", "[1,19,1]", "[1,19]", "")
    RESOLVENT(resolvent_scan, "[3,1,2,3]", "[3,1,2]", "[3,1]", "")
    RESOLVENT(resolvent_scan_grad, "[2,7,3,4]", "[2,7,3]", "[2,7]", "; f32[2,7,3,4] u(-1,1)")
    RESOLVENT(resolvent_scan_grad, "[1,19,1,5]", "[1,19,1]", "[1,19]", "; f32[1,19,1,5] u(-1,1)")
    RESOLVENT(resolvent_scan_grad, "[3,1,2,3]", "[3,1,2]", "[3,1]", "; f32[3,1,2,3] u(-1,1)")
#define DOT(kind, x, doc, window, more)                                                                                \
  CASE(kind, "f32" x " u(-1,1); f32" x " u(-1,1); f32" x " u(-1,1); i32" doc " doc" more, "score=dot, window=" window)
#define HYPERBOLIC(kind, x, a, heads, doc, window, more)                                                               \
  CASE(kind,                                                                                                           \
       "f32" x " unit; f32" x " unit; f32" x " u(-1,1); i32" doc " doc; f32" a " u(0.3,2); f32" a " u(0.3,2); "        \
       "f32" heads                                                                                                     \
       " u(0.5,3)" more,                                                                                               \
       "score=hyperbolic, window=" window)
    DOT(window_attention, "[2,7,3,4]", "[2,7]", "3", "")
    DOT(window_attention, "[1,19,1,5]", "[1,19]", "32", "")
    HYPERBOLIC(window_attention, "[2,7,3,4]", "[2,7,3]", "[3]", "[2,7]", "4", "")
    HYPERBOLIC(window_attention, "[1,13,2,5]", "[1,13,2]", "[2]", "[1,13]", "64", "")
    DOT(window_attention_grad, "[2,7,3,4]", "[2,7]", "3", "; f32[2,7,3,4] u(-1,1)")
    HYPERBOLIC(window_attention_grad, "[2,7,3,4]", "[2,7,3]", "[3]", "[2,7]", "4", "; f32[2,7,3,4] u(-1,1)")
    HYPERBOLIC(window_attention_grad, "[1,13,2,5]", "[1,13,2]", "[2]", "[1,13]", "64", "; f32[1,13,2,5] u(-1,1)")
    CASE(ring_write, "f32[2,5,3] u(-1,1); f32[2,1,3] u(-1,1); i64[] i(0,99)", "axis=1")
    CASE(ring_write, "f32[7,3] u(-1,1); f32[1,3] u(-1,1); i64[] i(0,99)", "axis=0")
    CASE(ring_write, "bf16[3,2,5] u(-1,1); bf16[3,2,1] u(-1,1); i64[] i(0,4)", "axis=2")

    // --- optimizers ---
#define ADAMW(shape, attrs)                                                                                            \
  CASE(adamw,                                                                                                          \
       "f32" shape " u(-1,1); f32" shape " u(-1,1); f32" shape " u(-0.1,0.1); f32" shape " u(0,0.1); "                 \
       "f32[] u(0.001,0.01); f32[] u(0.3,1); f32[] u(0.1,0.9); f32[] u(0.05,0.9)",                                     \
       attrs)
    ADAMW("[7]", "")
    ADAMW("[3,17]", "weight_decay=0.1")
    ADAMW("[2,5,3]", "beta1=0.8, beta2=0.99, eps=1e-6")
    CASE(clip_factor, "f32[] u(2,9)", "max_norm=1")
    CASE(clip_factor, "f32[] u(0.1,0.2)", "max_norm=1")
    CASE(clip_factor, "f32[] u(2,9)", "max_norm=0")
    CASE(sum_squares, "f32[37] u(-2,2)", "")
    CASE(sum_squares, "f32[3,5,7] u(-2,2)", "")
    CASE(sum_squares, "bf16[5,9] u(-2,2)", "")
    CASE(sum_squares, "f32[] u(-2,2)", "")
#define ADAFACTOR(N, K, attrs)                                                                                         \
  CASE(adafactor8,                                                                                                     \
       "i8[" N "," K "] i(-127,127); f32[] u(0.001,0.01); f32[" N "," K "] u(-0.1,0.1); f32[" N "] u(0.001,0.01); "    \
       "f32[" K "] u(0.001,0.01); i8[" N "," K "] i(-127,127); f32[" N ",1] u(0.001,0.02); f32[] u(0.001,0.01); "      \
       "f32[] u(0,0.9); u32[2] i(0,999)",                                                                              \
       attrs)
    ADAFACTOR("3", "7", "rng_id=2")
    ADAFACTOR("5", "33", "rng_id=0, weight_decay=0.1")
    ADAFACTOR("17", "1", "rng_id=9, momentum=0.5")
};
#define N_ROWS ((int)(sizeof rows / sizeof rows[0]))

// ---- reading descriptions ----

static _Noreturn void bad_case(const char *text, const char *why) {
  fprintf(stderr, "op case \"%s\": %s\n", text, why);
  abort();
}

static const char *skip_spaces(const char *p) {
  while (isspace((unsigned char)*p)) p++;
  return p;
}

static const char *read_type(const char *p, const char *text, MuseType *out) {
  size_t length = strcspn(p, "[");
  MuseDtype dtype;
  if (!muse_dtype_from_name(p, length, &dtype)) bad_case(text, "unknown element type");
  int64_t dim[MUSE_MAX_RANK];
  int rank = 0;
  p += length;
  while (*p == '[' || *p == ',') {
    if (*++p == ']') break;
    char *end;
    if (rank == MUSE_MAX_RANK) bad_case(text, "too many dimensions");
    dim[rank++] = strtoll(p, &end, 10);
    p = end;
  }
  if (*p != ']') bad_case(text, "a type ends with ']'");
  *out = muse_type(dtype, rank, dim);
  return p + 1;
}

static const char *read_fill(const char *p, const char *text, MuseFill *out, double *out_low, double *out_high) {
  static const char *const names[] = {"u", "i", "apart", "signed", "unit", "doc"};
  size_t length = strcspn(p, "(; ");
  int fill = 0;
  while (fill < 6 && !(strlen(names[fill]) == length && !strncmp(names[fill], p, length))) fill++;
  if (fill == 6) bad_case(text, "unknown fill");
  *out = (MuseFill)fill;
  p += length;
  if (*p != '(') return p;
  int used = 0;
  if (sscanf(p, "(%lf,%lf)%n", out_low, out_high, &used) != 2 || !used) bad_case(text, "a range is written (low,high)");
  return p + used;
}

MuseOpCase muse_op_case(MuseOpKind kind, const char *operands, const char *attrs) {
  MuseOpCase c = {.kind = kind, .text = operands, .attrs = attrs};
  for (const char *p = skip_spaces(operands); *p; p = skip_spaces(p)) {
    if (c.n_operands == MUSE_CASE_MAX_OPERANDS) bad_case(operands, "too many operands");
    int i = c.n_operands++;
    p = skip_spaces(read_type(p, operands, &c.operand[i].type));
    p = skip_spaces(read_fill(p, operands, &c.operand[i].fill, &c.operand[i].low, &c.operand[i].high));
    if (*p == ';') p++;
  }
  return c;
}

const MuseOpCase *muse_op_cases(int *out_n) {
  static MuseOpCase cases[N_ROWS];
  static bool read;
  for (int i = 0; !read && i < N_ROWS; i++) cases[i] = muse_op_case(rows[i].kind, rows[i].operands, rows[i].attrs);
  read = true;
  *out_n = N_ROWS;
  return cases;
}

// The kind of attribute `name` in the op's schema: the text behind "name:".
static const char *schema_kind(MuseOpKind kind, const char *name) {
  size_t length = strlen(name);
  for (const char *p = muse_op_info(kind)->attrs; (p = strstr(p, name)); p++)
    if (p[length] == ':' && (p == muse_op_info(kind)->attrs || p[-1] == ' ')) return p + length + 1;
  bad_case(name, "the op has no such attribute");
}

static void set_attr(MuseModule *m, MuseAttrList *list, MuseOpKind op, const char *name, const char *value) {
  const char *kind = schema_kind(op, name);
  MuseDtype dtype;
  if (muse_str_starts_with(kind, "ints")) {
    int64_t ints[16];
    int n = 0;
    for (char *end; *value && n < 16; value = *end ? end + 1 : end) ints[n++] = strtoll(value, &end, 10);
    muse_attr_set_ints(m, list, name, ints, n);
  } else if (muse_str_starts_with(kind, "int")) {
    muse_attr_set_int(m, list, name, strtoll(value, NULL, 10));
  } else if (muse_str_starts_with(kind, "real")) {
    muse_attr_set_real(m, list, name, strtod(value, NULL));
  } else if (muse_str_starts_with(kind, "bool")) {
    muse_attr_set_bool(m, list, name, muse_str_eq(value, "true"));
  } else if (muse_str_starts_with(kind, "dtype")) {
    if (!muse_dtype_from_name(value, strlen(value), &dtype)) bad_case(value, "unknown element type");
    muse_attr_set_dtype(m, list, name, dtype);
  } else {
    muse_attr_set_text(m, list, name, value);
  }
}

MuseAttrList muse_op_case_attrs(const MuseOpCase *c, MuseModule *module) {
  MuseAttrList list = {0};
  char text[256], *save = NULL;
  MUSE_ASSERT(strlen(c->attrs) < sizeof text);
  strcpy(text, c->attrs);
  for (char *item = strtok_r(text, ", ", &save); item; item = strtok_r(NULL, ", ", &save)) {
    char *equals = strchr(item, '=');
    if (!equals) bad_case(c->attrs, "an attribute is written name=value");
    *equals = 0;
    set_attr(module, &list, c->kind, item, equals + 1);
  }
  return list;
}

MuseOp *muse_op_case_build(const MuseOpCase *c, MuseModule *module, const char *func_name, MuseFunc **out_func) {
  MuseFunc *func = muse_func_create(module, func_name);
  MuseValue *args[MUSE_CASE_MAX_OPERANDS];
  for (int i = 0; i < c->n_operands; i++) args[i] = muse_region_add_arg(module, &func->body, c->operand[i].type);
  MuseBuilder b = muse_builder_at_end(module, &func->body);
  MuseAttrList attrs = muse_op_case_attrs(c, module);
  MuseOp *op = muse_build_op(&b, c->kind, c->n_operands, args, &attrs);
  muse_build_op(&b, MUSE_OP_return, op->n_results, op->results, NULL);
  func->n_results = op->n_results;
  func->result_attrs = MUSE_NEW_ARRAY(module->arena, MuseAttrList, op->n_results);
  *out_func = func;
  return op;
}

// ---- values ----

static void fill_doc(MuseTensor *t, uint32_t seed, uint32_t stream) {
  int64_t T = t->type.dim[1], n = muse_type_elements(t->type);
  for (int64_t i = 0, begin = 0; i < n; i++) {
    int64_t token = i % T;
    if (token == 0 || muse_random_uniform((uint64_t)i, stream, seed, 0) < 0.2) begin = token;
    t->data[i] = (double)begin;
  }
}

static void normalise_rows(MuseTensor *t) {
  int64_t d = muse_type_last_dim(t->type);
  for (int64_t row = 0; row < muse_type_rows(t->type); row++) {
    double *x = t->data + row * d, sum = 0;
    for (int64_t i = 0; i < d; i++) sum += x[i] * x[i];
    for (int64_t i = 0; i < d; i++) x[i] /= sqrt(sum);
  }
}

MuseTensor muse_fill_tensor(MuseArena *arena, MuseType type, MuseFill fill, double low, double high, uint32_t seed,
                            uint32_t stream, bool round_storage) {
  MuseTensor t = muse_tensor_create(arena, type);
  int64_t n = muse_type_elements(type);
  for (int64_t i = 0; i < n; i++) {
    double u = muse_random_uniform((uint64_t)i, stream, seed, 1),
           sign = muse_random_uniform((uint64_t)i, stream, seed, 2);
    switch (fill) {
    case MUSE_FILL_UNIFORM: t.data[i] = low + (high - low) * u; break;
    case MUSE_FILL_INTEGERS: t.data[i] = low + floor((high - low + 1) * u); break;
    case MUSE_FILL_APART: t.data[i] = low + (high - low) * ((double)i + 0.5) / (double)n; break;
    case MUSE_FILL_SIGNED: t.data[i] = (low + (high - low) * u) * (sign < 0.5 ? -1 : 1); break;
    case MUSE_FILL_UNIT: t.data[i] = 2 * u - 1; break;
    case MUSE_FILL_DOC: break;
    }
  }
  if (fill == MUSE_FILL_DOC) fill_doc(&t, seed, stream);
  if (fill == MUSE_FILL_UNIT) normalise_rows(&t);
  for (int64_t i = n - 1; fill == MUSE_FILL_APART && i > 0; i--) {
    int64_t j = (int64_t)(muse_random_uniform((uint64_t)i, stream, seed, 3) * (double)(i + 1));
    double swap = t.data[i];
    t.data[i] = t.data[j];
    t.data[j] = swap;
  }
  for (int64_t i = 0; round_storage && i < n; i++) t.data[i] = muse_round_to_dtype(t.data[i], type.dtype);
  return t;
}

void muse_op_case_fill(const MuseOpCase *c, MuseArena *arena, uint32_t seed, bool round_storage,
                       MuseTensor *out_operands) {
  for (int i = 0; i < c->n_operands; i++)
    out_operands[i] = muse_fill_tensor(arena, c->operand[i].type, c->operand[i].fill, c->operand[i].low,
                                       c->operand[i].high, seed, (uint32_t)i, round_storage);
}
