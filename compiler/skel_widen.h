#ifndef MUSE_COMPILER_SKEL_WIDEN_H
#define MUSE_COMPILER_SKEL_WIDEN_H

#include "compiler/kernel_info.h"

// Structured kernels on 16-bit floats, as the CPU computes them. The skeletons marked `f32_only` in kernel_info.c have
// CPU emitters that read and write f32. Where operands or results of such a kernel are bf16 or f16, it gets a stage in
// front that widens the operands into the workspace, and one behind that rounds the results from there; the stages
// between see f32 only. So sums over tokens (dK of windowed attention, dx of the head) are rounded once, at the end.
typedef struct MuseWiden {
  int64_t offset[64]; // by operand, then by result: of the f32 copy in the workspace, or -1: it has no copy
  int64_t operand_tasks, result_tasks; // of MUSE_WIDEN_ELEMENTS elements, tensor after tensor
  int64_t workspace_bytes;             // with the skeleton's own, which comes first
} MuseWiden;
enum { MUSE_WIDEN_ELEMENTS = 32768 };

// false: nothing to widen. own_bytes: workspace of the skeleton.
bool muse_widen_layout(const MuseOp *kernel, int64_t own_bytes, MuseWiden *out);
// Adds the two stages and the copies to what the skeleton has answered.
void muse_widen_info(const MuseOp *kernel, MuseKernelInfo *info);

#endif
