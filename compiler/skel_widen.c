// Where the f32 copies of 16-bit tensors lie (see the header).
#include "compiler/skel_widen.h"

#include "ir/base/checked.h"

static bool is_narrow(MuseType type) { return type.dtype == MUSE_BF16 || type.dtype == MUSE_F16; }

bool muse_widen_layout(const MuseOp *kernel, int64_t own_bytes, MuseWiden *out) {
  const int n_in = kernel->n_operands, n = n_in + kernel->n_results;
  bool any = false;
  MUSE_ASSERT(n <= (int)(sizeof out->offset / sizeof *out->offset));
  *out = (MuseWiden){.workspace_bytes = own_bytes};
  for (int i = 0; i < n; i++) {
    const MuseType type = i < n_in ? kernel->operands[i]->type : kernel->results[i - n_in]->type;
    out->offset[i] = -1;
    if (!is_narrow(type)) continue;
    any = true;
    out->workspace_bytes = muse_round_up(out->workspace_bytes, 64);
    out->offset[i] = out->workspace_bytes;
    out->workspace_bytes += muse_type_elements(type) * 4;
    *(i < n_in ? &out->operand_tasks : &out->result_tasks) +=
        muse_ceil_div(muse_type_elements(type), MUSE_WIDEN_ELEMENTS);
  }
  return any;
}

void muse_widen_info(const MuseOp *kernel, MuseKernelInfo *info) {
  MuseWiden w;
  if (!muse_widen_layout(kernel, info->workspace_bytes, &w)) return;
  MUSE_ASSERT(info->n_stages + 2 <= MUSE_MAX_KERNEL_STAGES);
  for (int s = info->n_stages; s > 0; s--) info->stage[s] = info->stage[s - 1];
  info->stage[0] = (MuseKernelStage){.n_tasks = w.operand_tasks};
  info->stage[info->n_stages + 1] = (MuseKernelStage){.n_tasks = w.result_tasks};
  info->n_stages += 2;
  info->loop_first++, info->loop_last++;
  info->workspace_bytes = w.workspace_bytes;
}
