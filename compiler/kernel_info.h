#ifndef MUSE_COMPILER_KERNEL_INFO_H
#define MUSE_COMPILER_KERNEL_INFO_H

#include "ir/op.h"

// How a kernel op is cut into work. It depends on shapes only (never on the device or on the number of threads), so the
// memory plan and the results are the same everywhere; kernel_info.c asks the file of the skeleton (skel_*.c).
//
// A kernel is one or more stages that run one after another with a barrier between. A stage has n_tasks independent
// tasks, numbered from 0; a call computes the tasks [begin, end). Tasks write disjoint places, so any split over
// threads gives the same bits. Stages loop_first..loop_last are repeated loop_count times (loop_count 0 or 1: no loop),
// with the iteration number as an argument.
#define MUSE_MAX_KERNEL_STAGES 16

typedef struct MuseKernelStage {
  int64_t n_tasks;
  int64_t scratch_bytes; // thread-private memory a call needs, 64-byte aligned, contents undefined
} MuseKernelStage;

typedef struct MuseKernelInfo {
  int n_stages;
  MuseKernelStage stage[MUSE_MAX_KERNEL_STAGES];
  int loop_first, loop_last;
  int64_t loop_count;
  int64_t workspace_bytes; // shared by the stages of one call; part of the memory plan; contents undefined at the start
} MuseKernelInfo;

// The machine function of stage s of a kernel named N has the symbol "N_s" (N_0, N_1, ...) and this type.
// buffers: the operands of the kernel op, its results, the workspace (NULL when 0 bytes), then const uint64_t *rng_ids.
// All pointers are 64-byte aligned. A result may be the same memory as an operand of the same type (in place), see
// skel_map.h.
typedef void (*MuseKernelFn)(void *const *buffers, int64_t begin, int64_t end, void *scratch, int64_t iteration);

void muse_kernel_info(const MuseOp *kernel, MuseKernelInfo *out_info);

// What keeps a kernel, which comes from a file and has been verified, from having the form that its skeleton takes for
// granted (so that none of the functions here and no emitter may see it); NULL when it has that form. Changes marks of
// the body.
const char *muse_kernel_fault(const MuseOp *kernel);

// Result `result` of the kernel may be written over operand `operand` (same type): every element of the operand is read
// before, or by the same task and index as, the element of the result is written.
bool muse_kernel_allows_in_place(const MuseOp *kernel, int result, int operand);

// One skeleton: a row of the table in kernel_info.c, looked up by the kernel's `skeleton` attribute.
typedef struct MuseSkeleton {
  const char *name; // "map" "matmul" "ternary_matmul" "green_scan" ...
  void (*info)(const MuseOp *kernel, MuseKernelInfo *out_info);
  bool (*allows_in_place)(const MuseOp *kernel, int result, int operand); // NULL: never
  bool f32_only; // the CPU's emitter reads and writes floats as f32: see skel_widen.h for 16-bit ones
} MuseSkeleton;
const MuseSkeleton *muse_skeleton(const char *name); // NULL when unknown

#endif
