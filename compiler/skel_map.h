#ifndef MUSE_COMPILER_SKEL_MAP_H
#define MUSE_COMPILER_SKEL_MAP_H

#include "compiler/kernel_info.h"

// Skeleton "map": any number of fused map ops, reductions over the last dimension, and terminal reductions, over one domain.
//
// The domain is the broadcast shape S = [d0..dn-1, C] of all body ops. Every value of the body has either the full shape S, or
// the row shape [d0..dn-1, 1], or (operands of the kernel, consts, and maps of only those) any shape that broadcasts to S.
// Rows are independent: R = d0*...*dn-1 rows of C columns.
//
// Body ops: MAP class (rope only on a kernel operand), broadcast, and
//   - row reductions: reduce_sum / reduce_max over the last axis only of a full-shape value -> a row-shape value, usable by
//     later ops of the body;
//   - terminal reductions: reduce_sum / reduce_max over axes that include a leading axis; the result may only be yielded. The
//     first stage accumulates into per-task partials in the workspace, a second stage adds them in task order.
// Computation of a row goes in phases: phase 0 computes what needs no row reduction, phase p+1 may use the row reductions that
// were finished in phase p. A value needed in a later phase is computed again from the operands. Every full-shape result is
// stored in the LAST phase, so that a result may be written in place over an operand of the same type that is only read
// elementwise at full shape S.
// A domain without row reductions, terminal reductions over single axes, rope or partial broadcasting is walked flat.
typedef struct MuseMapDomain {
  MuseType shape;     // S (dtype irrelevant)
  int64_t rows, columns;
  bool flat;          // elementwise over rows*columns: only full-shape values and scalars
  int n_phases;
  int64_t rows_per_task, n_tasks;
  bool has_terminal;  // there is a second stage
} MuseMapDomain;

void muse_map_domain(const MuseOp *kernel, MuseMapDomain *out);
bool muse_map_op_fits(const MuseOp *op, MuseType domain_shape); // may this op stand in a body with that domain?

#endif
