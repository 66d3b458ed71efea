#ifndef MUSE_OPS_OPS_H
#define MUSE_OPS_OPS_H

#include "ir/op.h"
#include "ir/verify.h"

// ---- building: every builder infers the result type and asserts that it can (the lowering hands in legal operands)
typedef struct MuseBuilder {
  MuseModule *module;
  MuseRegion *region;
  MuseOp *before; // insertion point; NULL: end of region
  MuseLoc loc;
  int layer;
  MuseStage stage;
} MuseBuilder;

MuseBuilder muse_builder_at_end(MuseModule *module, MuseRegion *region);
MuseBuilder muse_builder_before(MuseModule *module, MuseOp *op); // takes loc, layer and stage from op

// Creates, infers, inserts. `attrs` may be NULL; attributes are copied.
MuseOp *muse_build_op(MuseBuilder *b, MuseOpKind kind, int n_operands, MuseValue *const *operands,
                      const MuseAttrList *attrs);
// The same with a status instead of an abort (the parser of texts from outside uses inference through the verifier).

MuseValue *muse_build_unary(MuseBuilder *b, MuseOpKind kind, MuseValue *x);
MuseValue *muse_build_binary(MuseBuilder *b, MuseOpKind kind, MuseValue *x, MuseValue *y);
MuseValue *muse_build_const(MuseBuilder *b, double value);                       // f32[]
MuseValue *muse_build_const_typed(MuseBuilder *b, double value, MuseDtype dtype);
MuseValue *muse_build_cast(MuseBuilder *b, MuseValue *x, MuseDtype to);          // x itself when it has that type
MuseValue *muse_build_select(MuseBuilder *b, MuseValue *cond, MuseValue *yes, MuseValue *no);
MuseValue *muse_build_reduce(MuseBuilder *b, MuseOpKind kind, MuseValue *x, const int64_t *axes, int n_axes);
MuseValue *muse_build_reduce_last(MuseBuilder *b, MuseOpKind kind, MuseValue *x);
MuseValue *muse_build_reduce_all(MuseBuilder *b, MuseOpKind kind, MuseValue *x); // all axes, reshaped to a scalar
MuseValue *muse_build_reshape(MuseBuilder *b, MuseValue *x, int rank, const int64_t *shape); // x itself when equal
MuseValue *muse_build_broadcast(MuseBuilder *b, MuseValue *x, MuseType shape_of);
// adjoint of broadcasting: sums and reshapes to the shape
MuseValue *muse_build_sum_to(MuseBuilder *b, MuseValue *x, MuseType shape_of);
MuseValue *muse_build_transpose(MuseBuilder *b, MuseValue *x, int rank, const int64_t *perm);
MuseValue *muse_build_matmul(MuseBuilder *b, MuseValue *a, MuseValue *c, bool trans_a, bool trans_b);
MuseValue *muse_build_rope(MuseBuilder *b, MuseValue *x, MuseValue *table, bool inverse);
MuseValue *muse_build_rms_norm(MuseBuilder *b, MuseValue *x, MuseValue *w_or_null);

// ---- hooks (tables made from ops.def) ----
MuseStatus muse_ops_infer(const MuseOp *op, MuseType *out_types, MuseDiag *diag); // out_types: room for op->n_results

// Reverse mode: for an op of the forward program with cotangents of its results (NULL: zero), builds the cotangents of
// its operands (NULL: none) into out_cotangents. `rng` is u32[2] or NULL.
typedef struct MuseGrad {
  MuseBuilder *b;
  MuseOp *op;
  MuseValue *const *d_results;
  MuseValue **d_operands; // out
  MuseValue *rng;         // bound to bit_linear_dx/dw with int8 gradients
} MuseGrad;
bool muse_op_has_grad(MuseOpKind kind);
void muse_op_grad(MuseGrad *g);

// Replaces a composite by its decomposition in front of it; writes the values that stand for its results.
void muse_op_decompose(MuseBuilder *b, MuseOp *op, MuseValue **out_results);

// ---- the slow exact oracle ----
// All elements as doubles, row-major (trits as -1,0,1; ints exact up to 2^53). `round_storage` in MuseEval rounds every
// result to its storage type (f32 to float, bf16...), otherwise float types keep f64 precision.
typedef struct MuseTensor { MuseType type; double *data; } MuseTensor;

typedef struct MuseEval {
  MuseArena *arena;   // results are allocated here
  bool round_storage;
} MuseEval;

void muse_op_eval(const MuseEval *eval, const MuseOp *op, const MuseTensor *operands, MuseTensor *out_results);
// Evaluates a function or a kernel body on given arguments; out has one tensor for each return/yield operand.
void muse_region_eval(const MuseEval *eval, const MuseRegion *region, const MuseTensor *args, MuseTensor *out);
MuseTensor muse_tensor_create(MuseArena *arena, MuseType type);
// Between storage bytes of a type and doubles (both directions know bf16, f16, trits).
void muse_tensor_load(MuseTensor *t, const void *bytes);
void muse_tensor_store(const MuseTensor *t, void *bytes);

// ---- cost: fewest bytes and the operations of an op or kernel body, for estimates and bench ----
typedef struct MuseCost { double bytes, flops, int_ops; } MuseCost;
MuseCost muse_op_cost(const MuseOp *op);         // bytes: operands + results once
MuseCost muse_kernel_cost(const MuseOp *kernel); // bytes: kernel operands + results once; ops of the body summed

static inline MuseStatus muse_ops_verify(MuseModule *module, MuseDiag *diag) {
  return muse_verify_module(module, muse_ops_infer, diag);
}

#endif
