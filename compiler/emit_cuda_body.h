#ifndef MUSE_COMPILER_EMIT_CUDA_BODY_H
#define MUSE_COMPILER_EMIT_CUDA_BODY_H

#include "compiler/emit_cuda.h"

// Values of the ops of a kernel's region as CUDA C at one place of a domain: bodies of map kernels, and later the
// epilogues of the others. The domain is a shape [d0.., C]; a place is a `row` (row-major number of the leading
// coordinates) and V columns from `column` on, of which lane `l` is computed.
//
// A value has one of three levels: the same everywhere (computed once a thread: muse_cuda_body_begin), the same in a
// row (muse_cuda_body_at_row), or its own at each place. Names in the text: a0.. parameters, x0.. values of operands,
// v0.. values of ops, p0.. pointers to the row of an operand, r0.. results.
typedef enum MuseCudaLevel { MUSE_CUDA_EVERYWHERE, MUSE_CUDA_ROW, MUSE_CUDA_PLACE } MuseCudaLevel;

typedef struct MuseCudaValue {
  const MuseValue *value;
  MuseCudaLevel level;
  char name[16];
  bool ready;  // its name can be used
  bool needed; // by the step that is written
  bool kept;   // operand: all columns of the thread lie in registers, name[k][l]
  bool packed; // kept as words, packed_name[k], that a step takes apart: elements of less than 32 bits would fill one
               // each
  bool ignored; // belongs to another part of the kernel: never read nor computed
} MuseCudaValue;

typedef struct MuseCudaBody {
  const MuseOp *kernel;
  MuseType domain;
  int dropped; // trailing dimensions of 1 that the domain does without
  int vector;  // V
  int n;
  MuseCudaValue *value; // operands, then results of the ops, in order
  MuseStr *out;
  int depth; // of indentation
  MuseStatus status;
  MuseDiag *diag;
} MuseCudaBody;

void muse_cuda_body_create(MuseCudaBody *body, const MuseOp *kernel, MuseType domain, int dropped, MuseStr *out,
                           MuseDiag *diag);
void muse_cuda_body_destroy(MuseCudaBody *body);

// Is there a division by something that is the same in all rows? Then several rows a thread share its reciprocals.
bool muse_cuda_body_divides_by_columns(MuseCudaBody *body);

// One line of text, indented.
void muse_cuda_line(MuseCudaBody *body, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *muse_cuda_type(MuseDtype dtype); // "float" "bf16" "signed char" ...
// Row-major element number of the first column of row `row` (a C variable) in a tensor that broadcasts to the domain.
void muse_cuda_row_offset(const MuseCudaBody *body, MuseType type, const char *row, MuseStr *out);

MuseCudaValue *muse_cuda_value(MuseCudaBody *body, const MuseValue *value);
bool muse_cuda_is_table(const MuseOp *op, int operand); // of rope, and the seed of a random op: read otherwise
// Operands that are tables alone are no values, and have no row pointers.
bool muse_cuda_is_read_plainly(const MuseCudaBody *body, const MuseValue *value);

void muse_cuda_body_begin(MuseCudaBody *body);
// Forgets what was computed at this level and below, for text in a new scope.
void muse_cuda_body_reset(MuseCudaBody *body, MuseCudaLevel level);
void muse_cuda_body_at_row(MuseCudaBody *body); // declares row pointers; `row` is a variable of the text
// Gives the value of an op that the text has computed under that name (a reduction; of a place: an array's element of
// lane l, as "sums[l]"); computes what can be then.
void muse_cuda_body_bind(MuseCudaBody *body, const MuseValue *value, const char *name);
// A step: forget; need each value that is wanted; load (operands and random numbers, in front of the lanes); then,
// inside the loop over `l`, compute. After that muse_cuda_ref is the value's text.
void muse_cuda_step_forget(MuseCudaBody *body);
void muse_cuda_step_need(MuseCudaBody *body, const MuseValue *value);
void muse_cuda_step_load(MuseCudaBody *body);
void muse_cuda_step_compute(MuseCudaBody *body);
const char *muse_cuda_ref(MuseCudaBody *body, const MuseValue *value);

#endif
