#ifndef MUSE_IR_VERIFY_H
#define MUSE_IR_VERIFY_H

#include "ir/op.h"

// Result types from operands and attributes; ops/ supplies it (muse_ops_infer).
typedef MuseStatus (*MuseInferFn)(const MuseOp *op, MuseType *out_types, MuseDiag *diag);

// Structure and types: operand counts, attribute schema, definitions before uses, links between ops, result types as
// inferred, region arguments, terminators, buffers bound once with equal types, levels (at level "kernel" a function
// body holds only kernel, reshape and return ops). Reports the first damage of each function with the op's text and
// place.
MuseStatus muse_verify_module(MuseModule *module, MuseInferFn infer, MuseDiag *diag);
MuseStatus muse_verify_func(MuseFunc *func, MuseInferFn infer, MuseDiag *diag);

#endif
