// How windowed attention is cut into tasks, and where its tiles lie in the scratch.

#include "compiler/skel_window_attention.h"

#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

static int64_t take(int64_t *at, int64_t floats) {
  const int64_t place = *at;
  *at += muse_round_up(floats * 4, 64);
  return place;
}

void muse_window_layout(const MuseOp *kernel, MuseWindowLayout *out) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const bool grad = op->kind == MUSE_OP_window_attention_grad;
  MuseType q = op->operands[0]->type;
  *out =
      (MuseWindowLayout){.B = q.dim[0], .T = q.dim[1], .H = q.dim[2], .d = q.dim[3], .dp = muse_round_up(q.dim[3], 16)};
  const int64_t window = muse_op_int(op, "window"), C = out->T < 64 ? muse_round_up(out->T, 16) : 64;
  out->window = window < out->T ? window : out->T;
  out->chunk = C;
  out->n_blocks = muse_ceil_div(out->T, C);
  int64_t at = 0;
  out->q = take(&at, C * out->dp);
  out->k = take(&at, C * out->dp);
  out->v = take(&at, C * out->dp);
  out->qt = take(&at, C * out->dp);
  out->rows = take(&at, MUSE_WINDOW_ROWS * C);
  out->out = take(&at, C * out->dp);
  if (grad) {
    // The first key of a block's first query lies window - 1 tokens back, the last key in the block itself.
    int64_t span = muse_ceil_div(out->window - 1, C) + 1;
    if (span > out->n_blocks) span = out->n_blocks;
    out->kept = span <= MUSE_WINDOW_KEEP;
    out->slots = out->kept ? span : 1;
    out->dout = take(&at, C * out->dp);
    out->doutt = take(&at, C * out->dp);
    out->tmp = take(&at, C * out->dp);
    out->dbeta = take(&at, C * 16);
    out->scores = take(&at, out->slots * 3 * C * C);
  } else {
    out->scores = take(&at, C * C);
  }
  out->bytes = at;
}

void muse_window_attention_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseWindowLayout layout;
  muse_window_layout(kernel, &layout);
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0] =
      (MuseKernelStage){.n_tasks = layout.B * layout.H * layout.n_blocks, .scratch_bytes = layout.bytes};
}

void muse_window_attention_grad_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseWindowLayout layout;
  muse_window_layout(kernel, &layout);
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0] = (MuseKernelStage){.n_tasks = layout.B * layout.H, .scratch_bytes = layout.bytes};
  if (muse_kernel_single_op(kernel)->n_results == 6) {
    out_info->n_stages = 2;
    out_info->stage[1].n_tasks = 1;
    out_info->workspace_bytes = muse_round_up(layout.B * layout.H * 4, 64); // [B][H] partial sums of dscale
  }
}

// Operand and result of the op that the kernel's are; false where one of them is another one's.
static bool pair_is(const MuseOp *kernel, int result, int operand, int op_result, int op_operand) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  if (muse_kernel_result_of(op, op_result) != result || muse_kernel_operand_of(op, op_operand) != operand) return false;
  for (int i = 0; i < op->n_operands; i++) // the same tensor as two operands is read in two ways
    if (i != op_operand && muse_kernel_operand_of(op, i) == operand) return false;
  return true;
}

// A query block is read by its own task only, and before its output is stored.
bool muse_window_attention_allows_in_place(const MuseOp *kernel, int result, int operand) {
  return pair_is(kernel, result, operand, 0, 0);
}

bool muse_window_attention_grad_allows_in_place(const MuseOp *kernel, int result, int operand) {
  const int last = muse_kernel_single_op(kernel)->n_operands - 1;
  return pair_is(kernel, result, operand, 0, 0) || pair_is(kernel, result, operand, 0, last);
}
