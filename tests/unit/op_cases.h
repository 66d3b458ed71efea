#ifndef MUSE_TESTS_OP_CASES_H
#define MUSE_TESTS_OP_CASES_H

// One description per op, at three odd shapes or more, drives every test of it: gradient against finite differences,
// composite against its decomposition, emitted kernels against eval, benchmarks. Rows are in op_cases.c.

#include "ops/ops.h"

typedef enum MuseFill {
  MUSE_FILL_UNIFORM,  // u(lo,hi)       reals
  MUSE_FILL_INTEGERS, // i(lo,hi)       integers, both ends included
  MUSE_FILL_APART, // apart(lo,hi)   a shuffle of equally spaced values: no two are near each other, so a maximum has no
                   // tie
  MUSE_FILL_SIGNED, // signed(lo,hi)  magnitude in [lo,hi], either sign: keeps away from 0
  MUSE_FILL_UNIT,   // unit           rows (last dimension) of length 1
  MUSE_FILL_DOC, // doc            i32[B,T]: index of the first token of the document of each token, a few documents a
                 // row
} MuseFill;

#define MUSE_CASE_MAX_OPERANDS 10

typedef struct MuseOpCase {
  MuseOpKind kind;
  const char *text;  // operands as written in the table, for messages
  const char *attrs; // as written: "axes=0:2, eps=1e-05"
  int n_operands;
  struct {
    MuseType type;
    MuseFill fill;
    double low, high;
  } operand[MUSE_CASE_MAX_OPERANDS];
} MuseOpCase;

// All cases, those of one op together. Built once, lives until the process ends.
const MuseOpCase *muse_op_cases(int *out_n);
// Parses one description (also used for refused ones): operands "f32[3,5] u(-2,2); i32[4] i(0,9)", attributes
// "name=value, ..."; lists are written 0:2:1. Aborts on a description that cannot be read.
MuseOpCase muse_op_case(MuseOpKind kind, const char *operands, const char *attrs);

// The case's attributes in the module's arena.
MuseAttrList muse_op_case_attrs(const MuseOpCase *c, MuseModule *module);
// A function of the operands that runs the op alone and returns all its results; returns the op.
MuseOp *muse_op_case_build(const MuseOpCase *c, MuseModule *module, const char *func_name, MuseFunc **out_func);
// Operand values, the same for the same seed; exact in the operand's storage type when round_storage.
void muse_op_case_fill(const MuseOpCase *c, MuseArena *arena, uint32_t seed, bool round_storage,
                       MuseTensor *out_operands);
// One tensor by the same rules.
MuseTensor muse_fill_tensor(MuseArena *arena, MuseType type, MuseFill fill, double low, double high, uint32_t seed,
                            uint32_t stream, bool round_storage);

#endif
