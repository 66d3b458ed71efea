// Skeletons that only move elements: "transpose" and "gather_rows".
#include "compiler/emit_cuda_embed.h"

#include "compiler/skel_embed.h"
#include "compiler/skel_scan.h"
#include "compiler/skel_transpose.h"
#include "ir/base/checked.h"

enum { BLOCK = 256, TILE_ROWS = 8 };

int64_t muse_cuda_take(int64_t *at, int64_t bytes) {
  const int64_t place = *at;
  *at += muse_round_up(bytes, 256);
  return place;
}

const char *muse_cuda_word(int64_t bytes) {
  switch (bytes) {
    case 1: return "unsigned char";
    case 2: return "unsigned short";
    case 4: return "unsigned";
    case 8: return "uint2";
    default: return "uint4";
  }
}

int64_t muse_cuda_widest_word(int64_t row_bytes) {
  int64_t bytes = 16;
  while (row_bytes % bytes) bytes /= 2;
  return bytes;
}

// Splits `index` over the result dimensions but `skip` and the last one; adds up the offsets of both sides, in
// elements.
static void outer_offsets(MuseStr *out, const MuseTransposePlan *p, int skip) {
  int64_t out_stride = p->out_dim[p->rank - 1];
  for (int i = p->rank - 2; i >= 0; i--) {
    if (i != skip) {
      muse_str_appendf(out, "  from += (long long)(index %% %lldu) * %lld, to += (long long)(index %% %lldu) * %lld;\n",
                       (long long)p->out_dim[i], (long long)p->in_stride[i], (long long)p->out_dim[i],
                       (long long)out_stride);
      muse_str_appendf(out, "  index /= %lldu;\n", (long long)p->out_dim[i]);
    }
    out_stride *= p->out_dim[i];
  }
}

// Whole rows: a thread copies one word.
static void emit_rows(MuseCudaEmitter *e, const MuseTransposePlan *p, int64_t bytes) {
  int64_t row = p->out_dim[p->rank - 1], wide = muse_cuda_widest_word(row * bytes);
  for (int i = 0; i < p->rank - 1; i++)
    while (p->in_stride[i] * bytes % wide) wide /= 2;
  int64_t per_row = row * bytes / wide, words = p->units * per_row;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(words, BLOCK), .grid_y = 1, .block = BLOCK});
  const char *type = words >= (int64_t)1 << 31 ? "u64" : "unsigned";
  muse_str_appendf(e->out, "  const %s number = (%s)blockIdx.x * %du + threadIdx.x;\n", type, type, BLOCK);
  muse_str_appendf(e->out, "  if (number >= %lldu) return;\n", (long long)words);
  muse_str_appendf(e->out, "  %s index = number / %lldu;\n", type, (long long)per_row);
  muse_str_append(e->out, "  long long from = 0, to = 0;\n");
  outer_offsets(e->out, p, -1);
  muse_str_appendf(e->out, "  const unsigned place = (unsigned)(number %% %lldu);\n", (long long)per_row);
  const char *w = muse_cuda_word(wide);
  muse_str_appendf(e->out, "  ((%s *)(r0 + to))[place] = ((const %s *)(a0 + from))[place];\n}\n\n", w, w);
}

// Square tiles through shared memory: read along read_dim, which is contiguous in the operand, written along the last.
static void emit_tiles(MuseCudaEmitter *e, const MuseTransposePlan *p, int64_t bytes) {
  const int last = p->rank - 1, tile = bytes <= 4 ? 64 : 32;
  const int64_t rows = p->out_dim[p->read_dim], columns = p->out_dim[last], in_step = p->in_stride[last];
  int64_t out_step = columns;
  for (int i = last - 1; i > p->read_dim; i--) out_step *= p->out_dim[i];
  const int64_t row_tiles = muse_ceil_div(rows, tile), column_tiles = muse_ceil_div(columns, tile);
  muse_cuda_begin_launch(e,
                          (MuseCudaLaunch){
                                 .grid_x = p->outer * row_tiles * column_tiles, .grid_y = 1, .block = 32 * TILE_ROWS});
  // One word of padding: a column of the tile then lies in different banks.
  muse_str_appendf(e->out, "  __shared__ %s tile[%d][%d];\n", muse_cuda_word(bytes), tile,
                   (int)(tile + (bytes < 4 ? 4 / bytes : 1)));
  muse_str_appendf(e->out, "  unsigned index = blockIdx.x / %lldu;\n", (long long)(row_tiles * column_tiles));
  muse_str_append(e->out, "  long long from = 0, to = 0;\n");
  outer_offsets(e->out, p, p->read_dim);
  muse_str_appendf(e->out, "  const int row = (int)(blockIdx.x / %lldu %% %lldu) * %d;\n", (long long)column_tiles,
                   (long long)row_tiles, tile);
  muse_str_appendf(e->out, "  const int column = (int)(blockIdx.x %% %lldu) * %d;\n", (long long)column_tiles, tile);
  muse_str_append(e->out, "  const int x = threadIdx.x % 32, y = threadIdx.x / 32;\n");
  const char *w = muse_cuda_word(bytes);
  muse_str_appendf(e->out, "  const %s *in = (const %s *)a0 + from;\n  %s *out = (%s *)r0 + to;\n", w, w, w, w);
  muse_str_appendf(e->out,
                   "#pragma unroll\n  for (int c = y; c < %d; c += %d)\n#pragma unroll\n"
                   "    for (int r = x; r < %d; r += 32)\n"
                   "      if (row + r < %lld && column + c < %lld)\n"
                   "        tile[c][r] = in[row + r + (long long)(column + c) * %lld];\n  __syncthreads();\n",
                   tile, TILE_ROWS, tile, (long long)rows, (long long)columns, (long long)in_step);
  muse_str_appendf(e->out,
                   "#pragma unroll\n  for (int r = y; r < %d; r += %d)\n#pragma unroll\n"
                   "    for (int c = x; c < %d; c += 32)\n"
                   "      if (row + r < %lld && column + c < %lld)\n"
                   "        out[(long long)(row + r) * %lld + column + c] = tile[c][r];\n}\n\n",
                   tile, TILE_ROWS, tile, (long long)rows, (long long)columns, (long long)out_step);
}

MuseStatus muse_emit_cuda_transpose(MuseCudaEmitter *e) {
  MuseTransposePlan plan;
  muse_transpose_plan(e->kernel, &plan);
  const int64_t bytes = muse_dtype_bytes(e->kernel->results[0]->type.dtype);
  if (plan.copies_rows) emit_rows(e, &plan, bytes);
  else emit_tiles(e, &plan, bytes);
  return MUSE_OK;
}

// A thread copies one word of one token's row.
MuseStatus muse_emit_cuda_gather_rows(MuseCudaEmitter *e) {
  MuseGather g;
  muse_gather_layout(e->kernel, &g);
  const int64_t row_bytes = g.D * muse_dtype_bytes(g.op->operands[0]->type.dtype);
  const int64_t wide = muse_cuda_widest_word(row_bytes);
  const int64_t per_row = row_bytes / wide, words = g.tokens * per_row;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(words, BLOCK), .grid_y = 1, .block = BLOCK});
  const char *type = words >= (int64_t)1 << 31 ? "u64" : "unsigned", *w = muse_cuda_word(wide);
  muse_str_appendf(e->out, "  const %s number = (%s)blockIdx.x * %du + threadIdx.x;\n", type, type, BLOCK);
  muse_str_appendf(e->out, "  if (number >= %lldu) return;\n", (long long)words);
  // Like the CPU: a token outside the table (also a negative one) reads its last row.
  muse_str_appendf(e->out, "  unsigned token = (unsigned)a%d[number / %lldu];\n", muse_kernel_operand_of(g.op, 1),
                   (long long)per_row);
  muse_str_appendf(e->out, "  if (token >= %lldu) token = %lldu;\n", (long long)g.V, (long long)g.V - 1);
  muse_str_appendf(
      e->out, "  ((%s *)r%d)[number] = ((const %s *)a%d)[(long long)token * %lld + number %% %lldu];\n}\n\n", w,
      muse_kernel_result_of(g.op, 0), w, muse_kernel_operand_of(g.op, 0), (long long)per_row, (long long)per_row);
  return MUSE_OK;
}
