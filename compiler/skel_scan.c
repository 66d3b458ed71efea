// How the scans are cut into tasks, and where their tiles lie in the scratch.

#include "compiler/skel_scan.h"

#include "ir/base/checked.h"

const MuseOp *muse_kernel_single_op(const MuseOp *kernel) {
  const MuseOp *op = kernel->body->first;
  MUSE_ASSERT(op != NULL && op->next != NULL && op->next->kind == MUSE_OP_yield);
  return op;
}

int muse_kernel_operand_of(const MuseOp *op, int index) {
  MUSE_ASSERT(index < op->n_operands && op->operands[index]->def == NULL);
  return op->operands[index]->index;
}

int muse_kernel_result_of(const MuseOp *op, int index) {
  const MuseOp *yield = op->region->last;
  for (int i = 0; i < yield->n_operands; i++)
    if (yield->operands[i] == op->results[index]) return i;
  return -1;
}

void muse_green_scan_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseType g = muse_kernel_single_op(kernel)->operands[0]->type;
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0].n_tasks = g.dim[0] * muse_ceil_div(g.dim[2], MUSE_GREEN_HEADS);
}

void muse_green_scan_grad_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseType g = muse_kernel_single_op(kernel)->operands[0]->type;
  muse_green_scan_info(kernel, out_info);
  out_info->n_stages = 2;
  out_info->stage[1].n_tasks = 1;
  out_info->workspace_bytes = muse_round_up(g.dim[0] * g.dim[2] * 4, 64); // [B][H] partial sums of deta
}

// Takes `floats` elements of scratch, 64-byte aligned.
static int64_t take(int64_t *at, int64_t floats) {
  const int64_t place = *at;
  *at += muse_round_up(floats * 4, 64);
  return place;
}

static int64_t sqrt_up(int64_t n) {
  int64_t r = 1;
  while (r * r < n) r++;
  return r;
}

void muse_resolvent_layout(const MuseOp *kernel, MuseResolventLayout *out) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const bool grad = op->kind == MUSE_OP_resolvent_scan_grad;
  MuseType q = op->operands[0]->type;
  *out = (MuseResolventLayout){
      .B = q.dim[0], .T = q.dim[1], .H = q.dim[2], .d = q.dim[3], .dp = muse_round_up(q.dim[3], 16)};
  const int64_t d = out->d, dp = out->dp, C = out->T < 64 ? muse_round_up(out->T, 16) : 64;
  int64_t at = 0;
  out->chunk = C;
  out->n_chunks = muse_ceil_div(out->T, C);
  out->k = take(&at, C * dp);
  out->v = take(&at, C * dp);
  out->kt = take(&at, C * dp);
  out->q = take(&at, C * dp);
  out->m = take(&at, C * C);
  out->rows = take(&at, MUSE_SCAN_ROWS * C);
  out->left = take(&at, 2 * C * dp);
  out->out = take(&at, C * dp);
  out->state_bytes = 2 * d * dp * 4;
  if (!grad) out->state = take(&at, 2 * d * dp);
  if (grad) {
    out->dout = take(&at, C * dp);
    out->qt = take(&at, C * dp);
    out->vt = take(&at, C * dp);
    out->doutt = take(&at, C * dp);
    out->n = take(&at, C * C);
    out->right = take(&at, 2 * C * dp);
    out->e = take(&at, 2 * C * dp);
    out->g = take(&at, 2 * C * dp);
    out->out2 = take(&at, C * dp);
    out->heads = 1;
    for (int64_t n = 2; out->T * d * 4 > MUSE_SCAN_NEAR_BYTES && n <= out->H && n * d * 4 <= MUSE_SCAN_ROW_BYTES; n++)
      if (out->H % n == 0) out->heads = n;
    const bool all = out->heads * out->n_chunks * out->state_bytes <= MUSE_SCAN_STATE_BYTES;
    out->group = all ? out->n_chunks : sqrt_up(out->n_chunks);
    out->n_groups = muse_ceil_div(out->n_chunks, out->group);
    out->gamma = take(&at, out->heads * 2 * d * dp);
    out->states = take(&at, out->heads * out->group * 2 * d * dp);
    out->saved = take(&at, out->heads * out->n_groups * 2 * d * dp);
  }
  out->bytes = at;
}

void muse_resolvent_scan_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseResolventLayout layout;
  muse_resolvent_layout(kernel, &layout);
  *out_info = (MuseKernelInfo){.n_stages = 1};
  out_info->stage[0] = (MuseKernelStage){.n_tasks = layout.B * layout.H, .scratch_bytes = layout.bytes};
}

// Each task reads all operands of a chunk (of a token) before it writes any result there, and never comes back; the
// tasks share nothing but doc and eta. The gradient's second stage writes only deta.
bool muse_scan_allows_in_place(const MuseOp *kernel, int result, int operand) {
  MuseType type = kernel->results[result]->type;
  return type.rank >= 3 && muse_type_eq(type, kernel->operands[operand]->type);
}
