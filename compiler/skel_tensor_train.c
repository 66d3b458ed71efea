// How the kernels of the tensor-train embedding are cut into tasks.

#include "compiler/skel_tensor_train.h"

#include "compiler/skel_panel.h"
#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

enum { Y_BYTES = 32 << 20, TOKENS_PER_TASK = 8, ROW_BLOCK = 128 };

static int64_t take(int64_t *at, int64_t elements) { // of 4 bytes
  const int64_t place = *at;
  *at += muse_round_up(elements * 4, 64);
  return place;
}

void muse_train_layout(const MuseOp *kernel, MuseTrainKernel *t) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  *t = (MuseTrainKernel){.op = op, .cores = op->kind == MUSE_OP_tt_gather ? 0 : 1, .d_core1 = -1, .d_core2 = -1};
  MuseType core1 = op->operands[t->cores]->type, core2 = op->operands[t->cores + 1]->type;
  t->v1 = core1.dim[0], t->v2 = core2.dim[0], t->r = core1.dim[1], t->d1 = core1.dim[2], t->d2 = core2.dim[2];
  int64_t work = 0, scratch = 0;
  t->scaled = take(&scratch, t->r * t->d1);
  t->row = take(&scratch, t->d1 * t->d2);
  t->packed = scratch;
  scratch += MUSE_PANEL_BYTES;
  t->tile = scratch;
  if (op->kind == MUSE_OP_tt_matmul) {
    MuseType x = op->operands[0]->type;
    t->tokens = x.dim[0];
    t->D = x.dim[1];
    t->V = muse_op_int(op, "vocab");
    t->used = muse_ceil_div(t->V, t->v2);
    const int64_t bytes = t->used * t->r * t->d2 * 4, most = Y_BYTES / bytes < 1 ? 1 : Y_BYTES / bytes;
    t->rounds = muse_ceil_div(t->tokens, most);
    t->chunk = muse_ceil_div(t->tokens, t->rounds);
    t->rounds = muse_ceil_div(t->tokens, t->chunk);
    t->y = take(&work, t->chunk * t->used * t->r * t->d2);
    t->row_block = ROW_BLOCK;
    t->n_row_blocks = muse_ceil_div(t->chunk * t->used, t->row_block);
    t->n_panels = muse_ceil_div(t->v2, MUSE_PANEL_WIDTH);
    take(&scratch, t->row_block * MUSE_PANEL_WIDTH);
  } else {
    t->tokens = muse_type_elements(op->operands[op->kind == MUSE_OP_tt_gather ? 3 : 4]->type);
    t->D = op->kind == MUSE_OP_tt_gather ? op->results[0]->type.dim[2] : op->operands[0]->type.dim[2];
    t->tokens_per_task = TOKENS_PER_TASK;
    t->n_tasks = muse_ceil_div(t->tokens, t->tokens_per_task);
  }
  if (op->kind == MUSE_OP_tt_gather_grad) {
    t->start1 = take(&work, t->v1 + 1);
    t->start2 = take(&work, t->v2 + 1);
    t->list1 = take(&work, t->tokens);
    t->list2 = take(&work, t->tokens);
    t->cursor = take(&work, t->v1 > t->v2 ? t->v1 : t->v2);
    if (muse_kernel_result_of(op, 0) < 0) t->d_core1 = take(&work, muse_type_elements(core1));
    if (muse_kernel_result_of(op, 1) < 0) t->d_core2 = take(&work, muse_type_elements(core2));
  }
  t->scratch_bytes = scratch;
  t->workspace_bytes = work;
}

void muse_train_info(const MuseOp *kernel, MuseKernelInfo *info) {
  MuseTrainKernel t;
  muse_train_layout(kernel, &t);
  *info = (MuseKernelInfo){.n_stages = 1, .workspace_bytes = t.workspace_bytes};
  switch (t.op->kind) {
    case MUSE_OP_tt_gather: info->stage[0] = (MuseKernelStage){t.n_tasks, t.scratch_bytes}; break;
    case MUSE_OP_tt_gather_grad:
      info->n_stages = 3;
      info->stage[0].n_tasks = 1;
      info->stage[1] = (MuseKernelStage){t.v1 + t.v2, t.scratch_bytes};
      info->stage[2].n_tasks = t.r;
      break;
    default:
      info->n_stages = 2;
      info->stage[0] = (MuseKernelStage){t.used, t.scratch_bytes};
      info->stage[1] = (MuseKernelStage){t.n_row_blocks * t.n_panels, t.scratch_bytes};
      info->loop_last = 1;
      info->loop_count = t.rounds;
  }
}
