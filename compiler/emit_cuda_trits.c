// Skeletons "pack_trits" and "unpack_trits" as CUDA C, and the launch that products have in front of them. All of it
// moves memory: a thread reads and writes pieces of up to 16 bytes, and what is transposed goes through shared memory.
#include "compiler/emit_cuda_int8.h"

#include "compiler/skel_scan.h"
#include "compiler/skel_trits.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

enum { BLOCK = 256 };

static int64_t blocks_of_row(MuseDtype dtype, int64_t columns) { return muse_trit_row_bytes(dtype, columns) / 64; }

MuseStatus muse_emit_cuda_pack_trits(MuseCudaEmitter *e) {
  const MuseOp *op = muse_trits_op(e->kernel);
  const MuseType w = op->operands[0]->type, t = op->results[0]->type;
  const bool transposed = muse_op_bool(op, "transpose"), aligned = w.dim[1] % 4 == 0;
  int64_t blocks = transposed ? blocks_of_row(t.dtype, w.dim[0]) * muse_ceil_div(w.dim[1], 128)
                              : muse_ceil_div(w.dim[0] * blocks_of_row(t.dtype, w.dim[1]) * 16, BLOCK);
  muse_str_append(e->out, muse_cuda_trits_prelude());
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = blocks, .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out, "  pack_%s<%s, %s>(blockIdx.x, a%d, a%d[0], ", transposed ? "transposed" : "trits",
                   t.dtype == MUSE_T5 ? "true" : "false", aligned ? "true" : "false", muse_kernel_operand_of(op, 0),
                   muse_kernel_operand_of(op, 1));
  if (op->n_operands == 3) muse_str_appendf(e->out, "a%d[0], ", muse_kernel_operand_of(op, 2));
  else muse_str_append(e->out, "0.0f, ");
  muse_str_appendf(e->out, "r%d, %lld, %lld);\n}\n\n", muse_kernel_result_of(op, 0), (long long)w.dim[0],
                   (long long)w.dim[1]);
  return MUSE_OK;
}

// Bytes that rows of this pitch may be stored in at once.
static int store_width(int64_t pitch) { return pitch % 16 == 0 ? 16 : pitch % 4 == 0 ? 4 : 1; }

MuseStatus muse_emit_cuda_unpack_trits(MuseCudaEmitter *e) {
  const MuseOp *op = muse_trits_op(e->kernel);
  const MuseType t = op->operands[0]->type;
  const int64_t K = t.dim[1], pieces = t.dim[0] * blocks_of_row(t.dtype, K) * 4;
  muse_str_append(e->out, muse_cuda_trits_prelude());
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(pieces, BLOCK), .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out, "  unpack_trits<%s, %d>(blockIdx.x, a%d, r%d, %lld, %lld, %lld);\n}\n\n",
                   t.dtype == MUSE_T5 ? "true" : "false", store_width(K), muse_kernel_operand_of(op, 0),
                   muse_kernel_result_of(op, 0), (long long)t.dim[0], (long long)K, (long long)K);
  return MUSE_OK;
}

// ---- ahead of products ----

int64_t muse_cuda_ahead_bytes(const MuseCudaAhead *a) {
  int64_t bytes = a->kind == MUSE_CUDA_AS_T2       ? a->rows * muse_trit_row_bytes(MUSE_T2, a->columns)
                  : a->kind == MUSE_CUDA_TRANSPOSE ? a->columns * a->pitch
                                                   : a->rows * a->pitch;
  return muse_round_up(bytes, 256);
}

static int64_t n_blocks_of(const MuseCudaAhead *a) {
  switch (a->kind) {
    case MUSE_CUDA_PAD_ROWS: return muse_ceil_div(a->rows * (a->pitch / 16), BLOCK);
    case MUSE_CUDA_TRANSPOSE: return muse_ceil_div(a->rows, 128) * muse_ceil_div(a->columns, 128);
    case MUSE_CUDA_AS_T2:
      return muse_ceil_div(a->rows * muse_ceil_div(blocks_of_row(MUSE_T5, a->columns), 4) * 16, BLOCK);
    case MUSE_CUDA_AS_BYTES: return muse_ceil_div(a->rows * blocks_of_row(a->dtype, a->columns) * 4, BLOCK);
  }
  return 0;
}

static void emit_ahead(MuseStr *out, const MuseCudaAhead *a) {
  const long long rows = a->rows, columns = a->columns, pitch = a->pitch, offset = a->offset;
  switch (a->kind) {
    case MUSE_CUDA_PAD_ROWS:
      muse_str_appendf(out, "pad_rows(block, a%d, (signed char *)(workspace + %lld), %lld, %lld, %lld);\n", a->operand,
                       offset, rows, columns, pitch);
      return;
    case MUSE_CUDA_TRANSPOSE:
      muse_str_appendf(out, "transpose_matrix<%s>(block, a%d, (signed char *)(workspace + %lld), %lld, %lld, %lld);\n",
                       columns % 16 == 0 ? "true" : "false", a->operand, offset, rows, columns, pitch);
      return;
    case MUSE_CUDA_AS_T2:
      muse_str_appendf(out, "five_to_two(block, a%d, workspace + %lld, %lld, %lld);\n", a->operand, offset, rows,
                       columns);
      return;
    case MUSE_CUDA_AS_BYTES:
      muse_str_appendf(out, "unpack_trits<%s, 16>(block, a%d, (signed char *)(workspace + %lld), %lld, %lld, %lld);\n",
                       a->dtype == MUSE_T5 ? "true" : "false", a->operand, offset, rows, columns, pitch);
      return;
  }
}

void muse_cuda_emit_which(MuseStr *out, const int64_t *n_blocks, int n) {
  muse_str_append(out, "  unsigned block = blockIdx.x;\n");
  if (n > 1) muse_str_append(out, "  int which = 0;\n");
  int64_t first = 0;
  for (int i = 1; i < n; i++) {
    first += n_blocks[i - 1];
    muse_str_appendf(out, "  if (blockIdx.x >= %lldu) which = %d, block = blockIdx.x - %lldu;\n", (long long)first, i,
                     (long long)first);
  }
}

void muse_cuda_emit_ahead(MuseCudaEmitter *e, const MuseCudaAhead *ahead, int n) {
  enum { MAX = 2 * MUSE_MAX_ANCHORS };
  int64_t blocks[MAX], sum = 0;
  MUSE_ASSERT(n >= 1 && n <= MAX);
  for (int i = 0; i < n; i++) sum += blocks[i] = n_blocks_of(&ahead[i]);
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = sum, .grid_y = 1, .block = BLOCK});
  muse_cuda_emit_which(e->out, blocks, n);
  for (int i = 0; i < n; i++) {
    if (n > 1) muse_str_appendf(e->out, "  if (which == %d) ", i);
    else muse_str_append(e->out, "  ");
    emit_ahead(e->out, &ahead[i]);
  }
  muse_str_append(e->out, "}\n\n");
}
