#ifndef MUSE_COMPILER_SKEL_MAP_H
#define MUSE_COMPILER_SKEL_MAP_H

#include "compiler/kernel_info.h"

// Skeleton "map": any number of fused map ops, reductions over the last dimension, and terminal reductions, over one
// domain.
//
// The domain is the broadcast shape S = [d0..dn-1, C] of all body ops. Every value of the body has either the full
// shape S, or the row shape [d0..dn-1, 1], or (operands of the kernel, consts, and maps of only those) any shape that
// broadcasts to S. Rows are independent: R = d0*...*dn-1 rows of C columns.
//
// Body ops: MAP class (rope only on a kernel operand), broadcast, and
//   - row reductions: reduce_sum / reduce_max over the last axis only of a full-shape value -> a row-shape value,
//     usable by later ops of the body;
//   - terminal reductions: reduce_sum / reduce_max of a full-shape or row-shape value over axes that include a leading
//     axis; the result may only be yielded. The first stage accumulates into per-task partials in the workspace, a
//     second stage adds them in task order, in parallel over their elements.
// A yielded value has the full shape, the row shape, one element, or is a terminal reduction.
// Computation of a row goes in phases: phase 0 computes what needs no row reduction, phase p+1 may use the row
// reductions that were finished in phase p. A value needed in a later phase is computed again from the operands. Every
// full-shape result is stored in the LAST phase, so that a result may be written in place over an operand of the same
// type that is only read elementwise at full shape S. A domain without row reductions, terminal reductions over single
// axes, rope or partial broadcasting is walked flat.
typedef struct MuseMapDomain {
  MuseType shape; // S (dtype irrelevant), without `dropped` trailing dimensions of 1; [elements] when flat
  int64_t rows, columns;
  bool flat;   // one row: elementwise, only full-shape values and scalars
  int dropped; // trailing dimensions of 1 that a domain without reductions does not need
  int n_phases;
  int64_t rows_per_task, n_tasks; // flat: columns_per_task instead of rows_per_task
  int64_t columns_per_task;
  bool has_terminal; // there is a second stage
} MuseMapDomain;

void muse_map_domain(const MuseOp *kernel, MuseMapDomain *out);
bool muse_map_op_fits(const MuseOp *op, MuseType domain_shape); // may this op stand in a body with that domain?

bool muse_map_is_row_reduction(const MuseOp *op);
bool muse_map_is_terminal(const MuseOp *op);
int muse_map_phase_of(const MuseOp *kernel, const MuseOp *row_reduction); // the phase whose column loop computes it
bool muse_map_depends_on(const MuseOp *op, const MuseValue *value);

// Partials of terminal reductions: elements [n_tasks][stride] of the reduction's dtype at `offset` of the workspace;
// the second stage cuts the elements of all of them into tasks of MUSE_MAP_COMBINE elements, reduction after reduction.
enum { MUSE_MAP_MAX_TERMINALS = 32, MUSE_MAP_COMBINE = 1024 };
typedef struct MuseMapTerminal {
  const MuseOp *op;
  int64_t elements, stride, offset, first_task, n_tasks;
} MuseMapTerminal;
int muse_map_terminals(const MuseOp *kernel, const MuseMapDomain *domain, MuseMapTerminal *out, int64_t *out_workspace);

void muse_skel_map_info(const MuseOp *kernel, MuseKernelInfo *out_info);
bool muse_skel_map_in_place(const MuseOp *kernel, int result, int operand);

#endif
