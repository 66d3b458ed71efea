#ifndef MUSE_PASSES_ANALYSIS_H
#define MUSE_PASSES_ANALYSIS_H

#include "ir/op.h"

bool muse_is_const(const MuseValue *v, double *out_value); // a scalar constant
// Map ops that fusion may put into any body (rope needs its operand in memory and is left to fuse_map).
bool muse_is_plain_map(const MuseOp *op);
// Reduction over the last axis only.
// A cast that only converts at load: bf16 or f16 to f32. It is copied to where its result is used, never stored.
bool muse_is_widening(const MuseOp *op);
// A map of one operation or so an element, without random numbers: computing it again costs less than memory.
bool muse_is_cheap_map(const MuseOp *op);
bool muse_is_row_reduce(const MuseOp *op);
// The shape with the last dimension 1.
MuseType muse_row_shape(MuseType type);
// Whether two ops of equal operands compute the same (kind, attributes, result types).
bool muse_same_op(const MuseOp *a, const MuseOp *b);
uint64_t muse_op_hash(const MuseOp *op); // equal for same ops with equal operands

#endif
