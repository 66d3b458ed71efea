#ifndef MUSE_COMPILER_EMIT_LLVM_BODY_H
#define MUSE_COMPILER_EMIT_LLVM_BODY_H

// Values of the map ops of a kernel's region at one place of a domain: the bodies of map kernels and the epilogues of
// all others.
//
// The domain is a shape [d0.., C]; a place is a row (row-major number of the leading coordinates) and `lanes` columns.
// Use:  create; begin (once, in the entry of the stage); at_row for each row; at_column for each step; value / store.
// Whatever does not depend on the column (last dimension 1) is computed as a scalar once a row, by at_row; whatever
// does not depend on the place at all, once by begin. The anchor of an epilogue is given by muse_llvm_body_bind after
// at_column:
//
//   MuseLlvmBody *body = muse_llvm_body_create(ll, kernel, domain);
//   muse_llvm_body_begin(body);
//   ... loop over rows:    muse_llvm_body_at_row(body, row);
//   ... loop over columns: muse_llvm_body_at_column(body, column, false, lanes, active);
//                          muse_llvm_body_bind(body, anchor->results[0], accumulator);
//                          muse_llvm_body_store_results(body, anchor);
// Several rows alive at a time (register tiles): one body each, made by muse_llvm_body_clone after begin.

#include "compiler/emit_llvm_builder.h"

// Where a random op draws: element index of lane 0 (i64), and the stream.
typedef struct MuseLlvmRandom {
  LLVMValueRef index;      // i64
  bool aligned;            // index is a multiple of 4
  LLVMValueRef op_id;      // i64
  LLVMValueRef seed, step; // i32
} MuseLlvmRandom;

// The value of one MAP op (but const, rope) from operand values of `lanes` lanes in register form. random: for
// stochastic_round only, else NULL.
LLVMValueRef muse_llvm_map_op(MuseLlvm *ll, const MuseOp *op, const LLVMValueRef *operands, int lanes,
                              const MuseLlvmRandom *random);

typedef struct MuseLlvmBody MuseLlvmBody;

MuseLlvmBody *muse_llvm_body_create(MuseLlvm *ll, const MuseOp *kernel, MuseType domain);
// The same for a domain that lacks the last `dropped` dimensions of its tensors, all of them 1.
MuseLlvmBody *muse_llvm_body_create_dropped(MuseLlvm *ll, const MuseOp *kernel, MuseType domain, int dropped);
MuseLlvmBody *muse_llvm_body_clone(const MuseLlvmBody *body); // with what is bound so far
void muse_llvm_body_begin(MuseLlvmBody *body);
void muse_llvm_body_at_row(MuseLlvmBody *body, LLVMValueRef row); // i64
// column: i64 of lane 0. aligned: row*C + column is a multiple of 4. active: see muse_llvm_load.
void muse_llvm_body_at_column(MuseLlvmBody *body, LLVMValueRef column, bool aligned, int lanes, LLVMValueRef active);
// Gives the value of an op result that the body cannot compute itself: lanes wide, or a scalar for a value of last
// dimension 1; then also computes what became computable once a row.
void muse_llvm_body_bind(MuseLlvmBody *body, const MuseValue *value, LLVMValueRef v);
// The value at the place, `lanes` wide (a scalar is splat). body_scalar: of a value with last dimension 1, not widened.
LLVMValueRef muse_llvm_body_value(MuseLlvmBody *body, const MuseValue *value);
LLVMValueRef muse_llvm_body_scalar(MuseLlvmBody *body, const MuseValue *value);
// Stores the value of kernel result `index` at the place. A result of last dimension 1 in a domain with C > 1 belongs
// to the row: muse_llvm_body_store_row stores it.
void muse_llvm_body_store(MuseLlvmBody *body, int index);
void muse_llvm_body_store_row(MuseLlvmBody *body, int index);
// All results whose value depends on `anchor` (NULL: all): full-width ones at the place.
void muse_llvm_body_store_results(MuseLlvmBody *body, const MuseOp *anchor);
bool muse_llvm_depends_on(const MuseValue *value, const MuseOp *anchor);
// Row-major element number of the first column of `row` in a tensor of `type` that broadcasts to the domain.
LLVMValueRef muse_llvm_row_offset(MuseLlvm *ll, MuseType type, MuseType domain, LLVMValueRef row);
// The value is uniform along the columns of the domain (its last dimension is 1 and C > 1, or C is 1).
bool muse_llvm_is_row_value(MuseType type, MuseType domain);
// rope in a domain [B,T,H,d]: the columns of one step lie in one half of d; which, the emitter says before at_column.
void muse_llvm_body_set_half(MuseLlvmBody *body, int half); // 0 or 1

#endif
