// The small ops around the mixers, "doc_begin", "rope_table", "ring_write", and "scatter_add_rows".
#include "compiler/emit_cuda_embed.h"

#include "compiler/skel_embed.h"
#include "compiler/skel_misc.h"
#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

// A row of tokens is one block's: the running maximum of the places behind eos tokens. Tokens are read before the
// documents of the same places are written, so the result may lie over the operand.
MuseStatus muse_emit_cuda_doc_begin(MuseCudaEmitter *e) {
  const MuseOp *op = muse_kernel_single_op(e->kernel);
  const int64_t B = op->operands[0]->type.dim[0], T = op->operands[0]->type.dim[1], eos = muse_op_int(op, "eos");
  int block = 32;
  while (block < 1024 && block * 4 < T) block *= 2;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = B, .grid_y = 1, .block = block});
  // An eos that is no i32 (or -1, none) is no token.
  const bool possible = eos >= 0 && eos <= INT32_MAX;
  muse_str_appendf(e->out,
                   "  constexpr int T = %lld, WARPS = %d;\n  const int *in = a0 + (long long)blockIdx.x * T;\n"
                   "  int *out = r0 + (long long)blockIdx.x * T, carry = 0;\n  __shared__ int of_warp[WARPS];\n"
                   "  const int lane = threadIdx.x %% 32, warp = threadIdx.x / 32;\n"
                   "  for (int first = 0; first < T; first += WARPS * 128) {\n"
                   "    const int t0 = first + threadIdx.x * 4;\n    int begin[4], last = 0;\n"
                   "    for (int l = 0; l < 4; l++) {\n      begin[l] = last;\n"
                   "      if (t0 + l < T && %s%lld) last = t0 + l + 1;\n    }\n",
                   (long long)T, block / 32, possible ? "in[t0 + l] == " : "0 != ", (long long)(possible ? eos : 0));
  muse_str_append(e->out,
                  "    int before = last;\n#pragma unroll\n    for (int step = 1; step < 32; step *= 2) {\n"
                  "      const int left = __shfl_up_sync(0xffffffffu, before, step);\n"
                  "      if (lane >= step) before = max_of(before, left);\n    }\n"
                  "    if (lane == 31) of_warp[warp] = before;\n"
                  "    before = __shfl_up_sync(0xffffffffu, before, 1);\n    if (lane == 0) before = 0;\n"
                  "    __syncthreads();\n    before = max_of(before, carry);\n"
                  "    for (int w = 0; w < WARPS; w++) {\n      if (w < warp) before = max_of(before, of_warp[w]);\n"
                  "      carry = max_of(carry, of_warp[w]);\n    }\n"
                  "    for (int l = 0; l < 4; l++)\n"
                  "      if (t0 + l < T) out[t0 + l] = max_of(begin[l], before);\n    __syncthreads();\n  }\n}\n\n");
  return MUSE_OK;
}

// Angles, sines and cosines in f64, rounded once.
MuseStatus muse_emit_cuda_rope_table(MuseCudaEmitter *e) {
  enum { BLOCK = 64 };
  const MuseOp *op = muse_kernel_single_op(e->kernel);
  const int64_t rows = muse_op_int(op, "rows"), half = muse_op_int(op, "half");
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(rows * half, BLOCK), .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out,
                   "  const long long i = (long long)blockIdx.x * %d + threadIdx.x, row = i / %lldll;\n"
                   "  const long long column = i %% %lldll;\n  if (i >= %lldll) return;\n"
                   "  const double angle = ((double)a0[0] + (double)row) * pow(%.17e, -(double)column / %lld.0);\n",
                   BLOCK, (long long)half, (long long)half, (long long)(rows * half), muse_op_real(op, "base"),
                   (long long)half);
  muse_str_appendf(e->out,
                   "  double s, c;\n  sincos(angle, &s, &c);\n  r0[row * %lldll + column] = (float)c;\n"
                   "  r0[row * %lldll + %lldll + column] = (float)s;\n}\n\n",
                   (long long)(2 * half), (long long)(2 * half), (long long)half);
  return MUSE_OK;
}

// A thread copies one word of up to SLOTS slots. Over the ring only the new slot is written.
MuseStatus muse_emit_cuda_ring_write(MuseCudaEmitter *e) {
  enum { BLOCK = 256, SLOTS = 8 };
  const MuseOp *op = muse_kernel_single_op(e->kernel);
  const MuseRingShape s = muse_ring_shape(e->kernel);
  const int ring = muse_kernel_operand_of(op, 0), x = muse_kernel_operand_of(op, 1);
  const int64_t wide = muse_cuda_widest_word(s.inner_bytes), per_slot = s.inner_bytes / wide;
  const int64_t words = s.outer * per_slot;
  int64_t slots = SLOTS;
  while (muse_ceil_div(s.slots, slots) > 65535) slots *= 2;
  muse_cuda_begin_launch(
      e,
      (MuseCudaLaunch){.grid_x = muse_ceil_div(words, BLOCK), .grid_y = muse_ceil_div(s.slots, slots), .block = BLOCK});
  const char *w = muse_cuda_word(wide);
  muse_str_appendf(e->out,
                   "  constexpr long long W = %lld, N = %lld, WORDS = %lld;\n"
                   "  const long long i = (long long)blockIdx.x * %d + threadIdx.x, first = (long long)blockIdx.y * "
                   "%lld;\n"
                   "  const long long slot = (a%d[0] %% W + W) %% W;\n  if (i >= WORDS) return;\n",
                   (long long)s.slots, (long long)per_slot, (long long)words, BLOCK, (long long)slots,
                   muse_kernel_operand_of(op, 2));
  muse_str_appendf(e->out,
                   "  const %s *from = (const %s *)a%d + i / N * (W * N) + i %% N;\n"
                   "  %s *to = (%s *)r0 + i / N * (W * N) + i %% N;\n"
                   "  if (slot >= first && slot < first + %lld) to[slot * N] = ((const %s *)a%d)[i];\n"
                   "  if ((const void *)r0 == (const void *)a%d) return;\n"
                   "  for (long long k = first; k < first + %lld && k < W; k++)\n"
                   "    if (k != slot) to[k * N] = from[k * N];\n}\n\n",
                   w, w, ring, w, w, (long long)slots, w, x, ring, (long long)slots);
  return MUSE_OK;
}

// Tokens sorted by row (emit_cuda_embed_prelude.c), then each row is written once.
MuseStatus muse_emit_cuda_scatter_add_rows(MuseCudaEmitter *e) {
  enum { BLOCK = 256, ROWS = 16, WINDOW = 32 };
  MuseGather g;
  muse_gather_layout(e->kernel, &g);
  const int grad = muse_kernel_operand_of(g.op, 0), tokens = muse_kernel_operand_of(g.op, 1);
  int64_t at = 0;
  const int64_t keys = muse_cuda_take(&at, g.tokens * 4), list = muse_cuda_take(&at, g.tokens * 4);
  const int64_t windows = g.tokens / WINDOW, sums = muse_cuda_take(&at, windows * g.D * 4);
  const int64_t wide = muse_cuda_widest_word(g.D * 4) / 4;
  e->launches->workspace_bytes = at;
  muse_str_append(e->out, muse_cuda_embed_prelude());
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(g.tokens, 32), .grid_y = 1, .block = 256});
  muse_str_appendf(e->out,
                   "  sort_tokens<%lld>((int *)(workspace + %lldll), (int *)(workspace + %lldll),\n"
                   "      [&](int t) { return (int)min((unsigned)a%d[t], %lldu); });\n}\n\n",
                   (long long)g.tokens, (long long)keys, (long long)list, tokens, (long long)g.V - 1);
  if (windows) {
    muse_cuda_begin_launch(
        e, (MuseCudaLaunch){.grid_x = windows, .grid_y = muse_ceil_div(g.D / wide, BLOCK), .block = BLOCK});
    muse_str_appendf(e->out,
                     "  sum_window<%lld, %lld, %lld, %d>(a%d, (const int *)(workspace + %lldll),\n"
                     "      (const int *)(workspace + %lldll), blockIdx.x, blockIdx.y * %d + threadIdx.x,\n"
                     "      (float *)(workspace + %lldll));\n}\n\n",
                     (long long)g.tokens, (long long)g.D, (long long)wide, WINDOW, grad, (long long)keys,
                     (long long)list, BLOCK, (long long)sums);
  }
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(g.V, ROWS), .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out,
                   "  scatter_rows<%lld, %lld, %lld, %lld, %d, %d>(a%d, (const int *)(workspace + %lldll),\n"
                   "      (const int *)(workspace + %lldll), (const float *)(workspace + %lldll), r%d);\n}\n\n",
                   (long long)g.V, (long long)g.tokens, (long long)g.D, (long long)wide, ROWS, WINDOW, grad,
                   (long long)keys, (long long)list, (long long)sums, muse_kernel_result_of(g.op, 0));
  return MUSE_OK;
}
