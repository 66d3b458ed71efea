// Windowed attention and its gradient on a GPU: skeletons "window_attention" and "window_attention_grad" (formulas:
// ops/window_attention.c; device functions: emit_cuda_window_prelude.c).
//
// A block of threads owns ROWS tokens of one head and walks the blocks of COLUMNS tokens that they meet: pairs of
// tokens are tiles [ROWS][COLUMNS], a warp has 16 M rows of them. Vectors lie in shared memory, those of the next block
// being copied while the present one is computed; scores, weights and their cotangents stay in registers between the
// products.
//
// Forward, one launch: the block owns queries and walks keys, with maximum and sum brought up to date (Milakov and
// Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135).
// Gradient: with p_ts = exp(x_ts) / sum_s exp(x_ts), delta_t = sum_s p_ts (do_t.v_s) and
// dx_ts = p_ts (do_t.v_s - delta_t)
//   0  radius, log of the sum and delta of each query, into the workspace
//   1  blocks own keys: dk, dbeta and dv; in f32 dk and dbeta, then dv
//   2  blocks own queries: dq, dalpha, shares of dscale; last, since dq may lie over q or do, which only their own
//      blocks read here
//   3  dscale from the shares, in order
// So nothing is added to by two blocks, and the bits depend on shapes and architecture only.
//
// Products: operands of 16 bits on the tensor cores (weights and cotangents are rounded to that type in front of the
// products that they enter), f32 as three products of tf32, added up in f32 (relative error below 1e-6). sm_75 has
// neither tf32 nor bf16: there f32, and bf16 as f32, go through the FMA units.
// A head of more than 128 elements is walked in chunks of 128 (f32: 64), a block writing one of them: the scores are
// computed again for each. Results that may lie over an operand then go through the workspace, since all chunks are
// read until the end.
#include "compiler/emit_cuda_window.h"

#include "compiler/emit_cuda_kernel.h"
#include "compiler/skel_scan.h"
#include "compiler/skel_window_attention.h"
#include "ir/base/checked.h"

#include <string.h>

typedef enum Part { FORWARD, STATISTICS, GRAD_KEYS_VALUES, GRAD_KEYS, GRAD_VALUES, GRAD_QUERIES } Part;

static bool walks_queries(Part p) { return p == GRAD_KEYS_VALUES || p == GRAD_KEYS || p == GRAD_VALUES; }
static int own_tiles(Part p) { return p == FORWARD || p == GRAD_VALUES ? 1 : 2; }

typedef struct Tiles { int rows, columns, m, min_blocks; } Tiles;

// The fastest of those tried on an H200 (40 heads of 128, rows of 512 tokens), but for keys and values together and for
// gradients in f32, which take 16 columns since with more too many registers spill. In f32 the sums of keys and of
// values do not fit together, so that they are two launches. What does not fit is cut smaller.
enum { GRAD_PARTS = 4 };
static const Tiles forward_tiles = {64, 32, 1, 4}, forward_tiles_f32 = {64, 32, 1, 0};
static const Tiles grad_tiles[GRAD_PARTS] = { // statistics; keys and values, or keys and then values; queries
    {64, 32, 1, 0}, {64, 16, 1, 0}, {0, 0, 0, 0}, {64, 32, 1, 3}};
static const Tiles grad_tiles_f32[GRAD_PARTS] = {{128, 16, 1, 0}, {128, 16, 1, 0}, {128, 16, 1, 0}, {128, 16, 1, 0}};

typedef struct Window {
  MuseCudaEmitter *e;
  const MuseOp *op;
  int64_t B, T, H, D, W;
  bool hyperbolic;
  MuseDtype stored, computed;
  int width, chunks;
  int64_t stride; // bytes of a row of a tile; 16 more than it holds, so that rows begin in different banks
} Window;

static Window window_of(MuseCudaEmitter *e) {
  Window w = {.e = e, .op = muse_kernel_single_op(e->kernel)};
  MuseType q = w.op->operands[0]->type;
  w.B = q.dim[0], w.T = q.dim[1], w.H = q.dim[2], w.D = q.dim[3];
  w.W = muse_op_int(w.op, "window");
  if (w.W > w.T) w.W = w.T;
  w.hyperbolic = strcmp(muse_op_text(w.op, "score"), "hyperbolic") == 0;
  w.stored = w.computed = q.dtype;
  if (w.stored == MUSE_BF16 && e->target.arch < 80) w.computed = MUSE_F32;
  w.width = w.D > 128 ? (w.computed == MUSE_F32 ? 64 : 128) : (int)muse_round_up(w.D, 16);
  w.chunks = (int)muse_ceil_div(w.D, w.width);
  w.stride = w.width * muse_dtype_bytes(w.computed) + 16;
  return w;
}

static int64_t shared_bytes(const Window *w, Part part, Tiles t) {
  const int own = own_tiles(part), walked = w->chunks == 1 ? 4 : 2;
  return (own * t.rows + walked * t.columns) * w->stride + (w->hyperbolic ? 32 * t.columns : 0) +
         (walks_queries(part) ? 32 * t.columns : 0) + t.rows / (16 * t.m) * 4;
}

// Tiles no larger than the row, that fit. A block has at least as many threads as it walks columns.
static Tiles fit(const Window *w, Part part, Tiles t) {
  while (t.rows > 16 * t.m && t.rows / 2 >= w->T) t.rows /= 2;
  while (t.columns > 16 && (t.columns / 2 >= w->T || t.columns > t.rows / (16 * t.m) * 32)) t.columns /= 2;
  const int64_t limit = muse_cuda_shared_limit(w->e->target);
  if (t.m > 1 && shared_bytes(w, part, t) > limit) t.m = 1;
  while (shared_bytes(w, part, t) > limit) {
    if (t.columns > 16 && t.columns >= t.rows / 2) t.columns /= 2;
    else t.rows /= 2;
    MUSE_ASSERT(t.rows >= 16);
  }
  // Blocks side by side are asked for (which limits the registers) where shared memory has room for them.
  if (w->chunks > 1 || w->width < 128 || t.min_blocks * (shared_bytes(w, part, t) + 1024) > limit) t.min_blocks = 0;
  return t;
}

// Queries of the workspace: whole blocks of them are written and read.
static int64_t padded(const Window *w) { return muse_round_up(w->T, 128); }

// Begins the launch of a part: the sizes as a type in front of it, then the head of the function.
static void begin(const Window *w, Part part, Tiles t, char out_shape[64]) {
  static const char *const types[] = {[MUSE_F32] = "float", [MUSE_BF16] = "bf16", [MUSE_F16] = "f16"};
  MuseCudaEmitter *e = w->e;
  t = fit(w, part, t);
  const int threads = t.rows / (16 * t.m) * 32, outputs = part == STATISTICS ? 1 : w->chunks;
  const int64_t blocks = muse_ceil_div(w->T, t.rows);
  snprintf(out_shape, 64, "Sizes_%s_%d", e->name, e->launches->n);
  muse_str_appendf(e->out, "struct %s {\n  typedef %s E;\n", out_shape, types[w->computed]);
  muse_str_appendf(e->out, "  static constexpr int B = %lld, T = %lld, H = %lld, D = %lld, W = %lld;\n",
                   (long long)w->B, (long long)w->T, (long long)w->H, (long long)w->D,
                   (long long)w->W);
  muse_str_appendf(e->out,
                   "  static constexpr int WIDTH = %d, CHUNKS = %d, OUTPUTS = %d, STRIDE = %lld, PADDED = %lld;\n",
                   w->width, w->chunks, outputs, (long long)w->stride, (long long)padded(w));
  muse_str_appendf(e->out, "  static constexpr int M = %d, ROWS = %d, COLUMNS = %d, THREADS = %d, BLOCKS = %lld;\n",
                   t.m, t.rows, t.columns, threads, (long long)blocks);
  muse_str_appendf(e->out, "  static constexpr int OWN = %d;\n"
                   "  static constexpr bool HYPERBOLIC = %s, BY_KEYS = %s, TENSOR = %s;\n};\n",
                   own_tiles(part), w->hyperbolic ? "true" : "false", walks_queries(part) ? "true" : "false",
                   w->computed == MUSE_F32 && e->target.arch < 80 ? "false" : "true");
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = w->B * w->H * blocks * outputs,
                                             .grid_y = 1,
                                             .block = threads,
                                             .min_blocks = t.min_blocks,
                                             .shared_bytes = (int)shared_bytes(w, part, t)});
}

// The operands of the op, those that the dot score lacks as null pointers.
static void arguments(const Window *w) {
  for (int i = 0; i < 7; i++) {
    if (i < 4 || w->hyperbolic)
      muse_str_appendf(w->e->out, "%sa%d", i ? ", " : "", muse_kernel_operand_of(w->op, i));
    else muse_str_append(w->e->out, ", (const float *)0");
  }
}

// Result `index` of the op as an argument; one that the kernel does not have is written to `spare` of the workspace.
static void result(const Window *w, int index, const char *type, int64_t spare) {
  const int r = muse_kernel_result_of(w->op, index);
  if (r >= 0) muse_str_appendf(w->e->out, ", r%d", r);
  else muse_str_appendf(w->e->out, ", (%s *)(workspace + %lld)", type, (long long)spare);
}

static int64_t take(int64_t *at, int64_t bytes) {
  const int64_t place = *at;
  *at += muse_round_up(bytes, 256);
  return place;
}

// Copies the [B,T,H,D] tensor at `offset` of the workspace to a result.
static void copy_result(const Window *w, int64_t offset, int r) {
  const int64_t elements = w->B * w->T * w->H * w->D;
  const char *type = muse_cuda_type(w->stored);
  muse_cuda_begin_launch(w->e, (MuseCudaLaunch){.grid_x = muse_ceil_div(elements, 1024), .grid_y = 1, .block = 256});
  muse_str_appendf(w->e->out,
                   "  const %s *from = (const %s *)(workspace + %lld);\n"
                   "  for (int i = 0; i < 4; i++) {\n"
                   "    const long long at = (long long)blockIdx.x * 1024 + i * 256 + threadIdx.x;\n"
                   "    if (at < %lldll) r%d[at] = from[at];\n  }\n}\n\n",
                   type, type, (long long)offset, (long long)elements, r);
}

static MuseStatus check(const Window *w) {
  const MuseOp *op = w->op;
  if (w->T >= (int64_t)1 << 30 || w->H * w->D >= (int64_t)1 << 30 || w->B * w->H * w->T >= (int64_t)1 << 31)
    return muse_error_at(w->e->diag, MUSE_ERR_FAILED, op->loc,
                         "windowed attention over %lld x %lld tokens of %lld heads is larger than its CUDA kernels "
                         "count; use a smaller batch_size",
                         (long long)w->B, (long long)w->T, (long long)w->H);
  return MUSE_OK;
}

MuseStatus muse_emit_cuda_window_attention(MuseCudaEmitter *e) {
  Window w = window_of(e);
  char shape[64];
  const int r = muse_kernel_result_of(w.op, 0);
  MUSE_TRY(check(&w));
  int64_t at = 0;
  const bool copied = w.chunks > 1;
  const int64_t spare = copied ? take(&at, w.B * w.T * w.H * w.D * muse_dtype_bytes(w.stored)) : 0;
  e->launches->workspace_bytes = at;
  muse_str_append(e->out, muse_cuda_window_prelude());
  begin(&w, FORWARD, w.computed == MUSE_F32 ? forward_tiles_f32 : forward_tiles, shape);
  muse_str_appendf(e->out, "  window::window_forward<%s>(", shape);
  arguments(&w);
  if (copied) muse_str_appendf(e->out, ", (%s *)(workspace + %lld)", muse_cuda_type(w.stored), (long long)spare);
  else muse_str_appendf(e->out, ", r%d", r);
  muse_str_append(e->out, ");\n}\n\n");
  if (copied) copy_result(&w, spare, r);
  return MUSE_OK;
}

MuseStatus muse_emit_cuda_window_attention_grad(MuseCudaEmitter *e) {
  Window w = window_of(e);
  char shape[64];
  const char *type = muse_cuda_type(w.stored);
  MUSE_TRY(check(&w));
  const Tiles *tiles = w.computed == MUSE_F32 ? grad_tiles_f32 : grad_tiles, queries = fit(&w, GRAD_QUERIES, tiles[3]);
  const int64_t tokens = w.B * w.H * w.T, blocks = muse_ceil_div(w.T, queries.rows);
  const bool together = tiles[2].rows == 0;
  const int written = fit(&w, STATISTICS, tiles[0]).rows;
  MUSE_ASSERT(written % fit(&w, together ? GRAD_KEYS_VALUES : GRAD_KEYS, tiles[1]).columns == 0);
  MUSE_ASSERT(together || written % fit(&w, GRAD_VALUES, tiles[2]).columns == 0);
  const int64_t vectors = tokens * w.D * muse_dtype_bytes(w.stored);
  int64_t at = 0;
  const int64_t of_queries = take(&at, w.B * w.H * padded(&w) * 32);
  const int64_t partial = w.hyperbolic ? take(&at, w.B * w.H * blocks * 4) : 0;
  const bool copied = w.chunks > 1;
  bool lacks = false;
  for (int i = 0; i < w.op->n_results; i++) lacks |= muse_kernel_result_of(w.op, i) < 0;
  const int64_t spare = lacks ? take(&at, vectors > tokens * 4 ? vectors : tokens * 4) : 0;
  const int64_t queries_result = copied ? take(&at, vectors) : 0;
  e->launches->workspace_bytes = at;
  const int dout = muse_kernel_operand_of(w.op, w.op->n_operands - 1);
  muse_str_append(e->out, muse_cuda_window_prelude());
  muse_str_append(e->out, muse_cuda_window_grad_prelude());

  begin(&w, STATISTICS, tiles[0], shape);
  muse_str_appendf(e->out, "  window::window_statistics<%s>(", shape);
  arguments(&w);
  muse_str_appendf(e->out, ", a%d, (float4 *)(workspace + %lld));\n}\n\n", dout, (long long)of_queries);

  for (int part = 0; part < (together ? 1 : 2); part++) {
    begin(&w, together ? GRAD_KEYS_VALUES : part ? GRAD_VALUES : GRAD_KEYS, tiles[1 + part], shape);
    muse_str_appendf(e->out, "  window::window_grad_keys<%s, %s, %s>(", shape, part ? "false" : "true",
                     part || together ? "true" : "false");
    arguments(&w);
    muse_str_appendf(e->out, ", a%d, (const float4 *)(workspace + %lld)", dout, (long long)of_queries);
    result(&w, 1, type, spare);
    result(&w, 2, type, spare);
    if (w.hyperbolic) result(&w, 4, "float", spare);
    else muse_str_append(e->out, ", (float *)0");
    muse_str_append(e->out, ");\n}\n\n");
  }

  begin(&w, GRAD_QUERIES, tiles[3], shape);
  muse_str_appendf(e->out, "  window::window_grad_queries<%s>(", shape);
  arguments(&w);
  muse_str_appendf(e->out, ", a%d, (const float4 *)(workspace + %lld)", dout, (long long)of_queries);
  if (copied) muse_str_appendf(e->out, ", (%s *)(workspace + %lld)", type, (long long)queries_result);
  else result(&w, 0, type, spare);
  if (w.hyperbolic) result(&w, 3, "float", spare);
  else muse_str_append(e->out, ", (float *)0");
  muse_str_appendf(e->out, ", (float *)(workspace + %lld));\n}\n\n", (long long)partial);

  const int dq = muse_kernel_result_of(w.op, 0), dscale = w.hyperbolic ? muse_kernel_result_of(w.op, 5) : -1;
  if (copied && dq >= 0) copy_result(&w, queries_result, dq);
  if (dscale < 0) return MUSE_OK;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = w.H, .grid_y = 1, .block = 32});
  muse_str_appendf(e->out, "  window::window_scale_sum<%lld>((const float *)(workspace + %lld), r%d);\n}\n\n",
                   (long long)(w.B * blocks), (long long)partial, dscale);
  return MUSE_OK;
}
