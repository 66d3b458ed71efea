#ifndef MUSE_OPS_HOOKS_H
#define MUSE_OPS_HOOKS_H

// The hooks of the ops, for the files of this folder: prototypes made from ops.def, and what the hooks share.
// File of a hook: the op's family (map.c, reduce.c, ...) or the structured op itself (matmul.c, green_scan.c, ...).

#include "ops/ops.h"

// muse_infer_NAME    result types; operand count and attribute kinds have been checked, everything else it must check
//   itself
// muse_eval_NAME     fills out_results (already created with the op's result types, zeroed); rounding to storage is
//   done by the caller
// muse_grad_NAME     writes g->d_operands (all NULL before the call); at least one of g->d_results is not NULL
// muse_decompose_NAME builds the replacement at b and writes one value for each result
#define MUSE_OP(name, class_, min_operands, max_operands, results, traits, attrs)                                     \
  MuseStatus muse_infer_##name(const MuseOp *op, MuseType *out_types, MuseDiag *diag);                                \
  void muse_eval_##name(const MuseEval *eval, const MuseOp *op, const MuseTensor *operands, MuseTensor *out_results); \
  void muse_grad_##name(MuseGrad *g);                                                                                 \
  void muse_decompose_##name(MuseBuilder *b, MuseOp *op, MuseValue **out_results);
#include "ops/ops.def"
#undef MUSE_OP

// Refuses the op with MUSE_ERR_INPUT; the sentence is put behind "NAME: " and carries the op's place.
MuseStatus muse_op_refuse(const MuseOp *op, MuseDiag *diag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// "f32[2,3]" in one of a few static buffers, for the arguments of one message.
const char *muse_type_text(MuseType type);

static inline MuseType muse_operand_type(const MuseOp *op, int index) { return op->operands[index]->type; }
// Storage types a composite takes for an activation or weight: f32, bf16, f16.
static inline bool muse_dtype_is_storage_float(MuseDtype d) { return d == MUSE_F32 || d == MUSE_BF16 || d == MUSE_F16; }
static inline bool muse_dtype_is_compute_float(MuseDtype d) { return d == MUSE_F32 || d == MUSE_F64; }

// Cotangent of an operand: `value` has the broadcast shape; it is summed to the operand's shape and cast to its dtype.
// Leaves NULL when the operand is not a float.
void muse_grad_give(MuseGrad *g, int operand, MuseValue *value);

// Element offsets (in elements, 0 where the operand is stretched) to walk `from` along the dimensions of `shape`.
void muse_broadcast_strides(MuseType from, MuseType shape, int64_t out_strides[MUSE_MAX_RANK]);

// Rounds to the nearest value of the type (halves to even); the identity for f64, integers and trits.
double muse_round_to_dtype(double value, MuseDtype dtype);
double muse_round_half_even(double value);

// Small pieces of decompositions and gradients; the dtype of constants follows x.
MuseValue *muse_build_scale(MuseBuilder *b, MuseValue *x, double factor);
MuseValue *muse_build_offset(MuseBuilder *b, MuseValue *x, double addend);
MuseValue *muse_build_clip(MuseBuilder *b, MuseValue *x, double low, double high);
MuseValue *muse_build_stochastic_round(MuseBuilder *b, MuseValue *x, MuseValue *rng, int64_t rng_id);
// Sum of all elements as a scalar, over the last dimension first and then over the rows: each f32 accumulation stays
// short, so the error grows with sqrt of both lengths instead of their product.
MuseValue *muse_build_sum_by_rows(MuseBuilder *b, MuseValue *x);

#endif
