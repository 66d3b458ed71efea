// Fewest bytes and the operations of an op or kernel: what estimates print and what measured times are compared with.
// flops counts float additions and multiplications (a fused one is two), int_ops the integer ones of the trit and int8
// products. A transcendental counts as many operations as its usual polynomial has, so that "map" kernels are not
// called free.

#include "ops/hooks.h"

#include <math.h>

#define TRANSCENDENTAL 12
#define DIVISION 4
#define PHILOX 10 // a quarter of a block of ten rounds, in float operations of the same time

static double elements(const MuseValue *v) { return (double)muse_type_elements(v->type); }
static double dim(const MuseOp *op, int operand, int d) { return (double)op->operands[operand]->type.dim[d]; }

static double value_bytes(MuseValue *const *values, int n) {
  double bytes = 0;
  for (int i = 0; i < n; i++) bytes += (double)muse_type_bytes(values[i]->type);
  return bytes;
}

// Flops of one element of a map op.
static double map_flops(MuseOpKind kind) {
  switch (kind) {
  case MUSE_OP_const:
  case MUSE_OP_cast: return 0;
  case MUSE_OP_exp:
  case MUSE_OP_log:
  case MUSE_OP_sin:
  case MUSE_OP_cos:
  case MUSE_OP_tanh:
  case MUSE_OP_sigmoid: return TRANSCENDENTAL;
  case MUSE_OP_softplus: return 2 * TRANSCENDENTAL;
  case MUSE_OP_sqrt:
  case MUSE_OP_rsqrt:
  case MUSE_OP_recip:
  case MUSE_OP_div: return DIVISION;
  case MUSE_OP_rope: return 3;
  case MUSE_OP_stochastic_round: return 2 + PHILOX;
  default: return 1;
  }
}

// Tokens times the keys each of them sees.
static double window_pairs(const MuseOp *op) {
  double tokens = dim(op, 0, 1), window = (double)muse_op_int(op, "window");
  if (window > tokens) window = tokens;
  return dim(op, 0, 0) * dim(op, 0, 2) * (tokens * window - window * (window - 1) / 2);
}

// Logits of N rows against a tensor-train table: contraction of x with core2 for every i2, then with core1; or the
// table's rows made once and used by all. Whichever is less.
static double tt_logits_flops(const MuseOp *op, double vocab) {
  double N = dim(op, 0, 0), D = dim(op, 0, 1), r = dim(op, 1, 1), d1 = dim(op, 1, 2), v2 = dim(op, 2, 0);
  double factored = N * (2 * v2 * r * D + 2 * vocab * r * d1), table = 2 * vocab * r * D + 2 * N * vocab * D;
  return fmin(factored, table);
}

// Chunked resolvent scan, C tokens a chunk: scores and values inside a chunk, state in and out, all with complex
// weights.
static double resolvent_flops(const MuseOp *op) {
  double tokens = elements(op->operands[0]), d = dim(op, 0, 3), C = fmin(64, dim(op, 0, 1));
  return tokens * (2 * C + 4 * C + 8 * d);
}

static void structured_cost(const MuseOp *op, MuseCost *cost) {
  double scale = 1;
  switch (op->kind) {
  case MUSE_OP_matmul: cost->flops = 2 * elements(op->results[0]) * dim(op, 0, !muse_op_bool(op, "trans_a")); break;
  case MUSE_OP_ternary_matmul: cost->int_ops = 2 * elements(op->results[0]) * dim(op, 0, 1); break;
  case MUSE_OP_int8_matmul: cost->int_ops = 2 * elements(op->results[0]) * dim(op, 0, 0); break;
  case MUSE_OP_pack_trits: cost->flops = 4 * elements(op->operands[0]); break;
  case MUSE_OP_rope_table: cost->flops = TRANSCENDENTAL * elements(op->results[0]); break;
  case MUSE_OP_scatter_add_rows: cost->flops = elements(op->operands[0]); break;
  case MUSE_OP_tt_gather: cost->flops = 2 * elements(op->results[0]) * dim(op, 0, 1); break;
  case MUSE_OP_tt_gather_grad: cost->flops = 6 * elements(op->operands[0]) * dim(op, 1, 1); break;
  case MUSE_OP_tt_matmul: cost->flops = tt_logits_flops(op, (double)muse_op_int(op, "vocab")); break;
  case MUSE_OP_cross_entropy_grad: scale = 3; // logits, dx, dtable
    // fallthrough
  case MUSE_OP_cross_entropy:
    cost->flops = dim(op, 0, 0) * dim(op, 1, 0) * (scale * 2 * dim(op, 0, 1) + TRANSCENDENTAL);
    break;
  case MUSE_OP_tt_cross_entropy_grad: scale = 3;
    // fallthrough
  case MUSE_OP_tt_cross_entropy: {
    double vocab = (double)muse_op_int(op, "vocab");
    cost->flops = scale * tt_logits_flops(op, vocab) + dim(op, 0, 0) * vocab * TRANSCENDENTAL;
    break;
  }
  case MUSE_OP_green_scan: cost->flops = 12 * elements(op->operands[0]); break;
  case MUSE_OP_green_scan_grad: cost->flops = 16 * elements(op->operands[0]); break;
  case MUSE_OP_resolvent_scan: cost->flops = resolvent_flops(op); break;
  case MUSE_OP_resolvent_scan_grad: cost->flops = 3 * resolvent_flops(op); break;
  case MUSE_OP_window_attention: cost->flops = window_pairs(op) * (4 * dim(op, 0, 3) + 2 * TRANSCENDENTAL); break;
  case MUSE_OP_window_attention_grad: cost->flops = window_pairs(op) * (10 * dim(op, 0, 3) + 3 * TRANSCENDENTAL); break;
  default: break; // copies: gather_rows, unpack_trits, doc_begin, ring_write
  }
}

static void composite_cost(const MuseOp *op, MuseCost *cost) {
  double n = elements(op->operands[0]), product = op->kind == MUSE_OP_bit_linear ? 2 * n * dim(op, 1, 0) : 0;
  switch (op->kind) {
  case MUSE_OP_bit_linear: cost->int_ops = product; cost->flops = 6 * n + 5 * elements(op->operands[1]); break;
  case MUSE_OP_bit_linear_dx:
  case MUSE_OP_bit_linear_dw: {
    double ops = op->kind == MUSE_OP_bit_linear_dx ? 2 * elements(op->results[0]) * dim(op, 0, 1)
                                                   : 2 * elements(op->results[0]) * dim(op, 0, 0);
    bool int8 = muse_str_eq(muse_op_text(op, "gradient"), "int8");
    *(int8 ? &cost->int_ops : &cost->flops) = ops;
    if (int8) cost->flops = (8 + PHILOX) * n;
    break;
  }
  case MUSE_OP_quantize_rows: cost->flops = 6 * n; break;
  case MUSE_OP_ternarize: cost->flops = 6 * n; break;
  case MUSE_OP_fake_quantize: cost->flops = 8 * n; break;
  case MUSE_OP_rms_norm: cost->flops = 4 * n; break;
  case MUSE_OP_softmax: cost->flops = (3 + TRANSCENDENTAL) * n; break;
  case MUSE_OP_adamw: cost->flops = (12 + 2 * DIVISION) * n; break;
  case MUSE_OP_sum_squares: cost->flops = 2 * n; break;
  case MUSE_OP_adafactor8: cost->flops = (24 + 2 * PHILOX + 2 * DIVISION) * n; break;
  default: break; // clip_factor: a few scalars
  }
}

MuseCost muse_op_cost(const MuseOp *op) {
  if (op->kind == MUSE_OP_kernel) return muse_kernel_cost(op);
  MuseCost cost = {.bytes = value_bytes(op->operands, op->n_operands) + value_bytes(op->results, op->n_results)};
  switch (muse_op_info(op->kind)->class_) {
  case MUSE_CLASS_MAP: cost.flops = map_flops(op->kind) * elements(op->results[0]); break;
  case MUSE_CLASS_REDUCE: cost.flops = elements(op->operands[0]); break;
  case MUSE_CLASS_STRUCTURED: structured_cost(op, &cost); break;
  case MUSE_CLASS_COMPOSITE: composite_cost(op, &cost); break;
  case MUSE_CLASS_VIEW:
    if (op->kind == MUSE_OP_reshape) cost.bytes = 0; // the same memory
    break;
  case MUSE_CLASS_CONTROL: cost.bytes = 0; break;
  }
  // A gather reads the rows it names, not the table.
  if (op->kind == MUSE_OP_gather_rows)
    cost.bytes = 2 * value_bytes(op->results, 1) + (double)muse_type_bytes(op->operands[1]->type);
  return cost;
}

MuseCost muse_kernel_cost(const MuseOp *kernel) {
  MuseCost cost = {.bytes = value_bytes(kernel->operands, kernel->n_operands) +
                            value_bytes(kernel->results, kernel->n_results)};
  int n = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next, n++) {
    MuseCost one = muse_op_cost(op);
    cost.flops += one.flops;
    cost.int_ops += one.int_ops;
    // Of a gather (alone with its yield) only the named rows cross the memory.
    if (op->kind == MUSE_OP_gather_rows && n == 0 && op->next && op->next == kernel->body->last) cost.bytes = one.bytes;
  }
  return cost;
}
