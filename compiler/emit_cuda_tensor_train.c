// Skeletons "tt_gather", "tt_gather_grad", "tt_matmul": constants around the functions of emit_cuda_train_prelude.c.
#include "compiler/emit_cuda_embed.h"

#include "compiler/skel_scan.h"
#include "compiler/skel_tensor_train.h"
#include "ir/base/checked.h"

enum { Y_BYTES = 64 << 20, KEY_WARPS = 8, MAX_WINDOWS = 1024, SPLIT_BLOCKS = 256, SHORTEST_SPLIT = 256 };

static int side_of(int64_t length) {
  const int64_t n = muse_ceil_div(length, 128);
  return (int)muse_round_up(muse_ceil_div(length, n), 8);
}

MuseCudaTrainTile muse_cuda_train_tile(int64_t rows, int64_t columns) {
  MuseCudaTrainTile t = {side_of(rows), side_of(columns), 8, 0, 0};
  if (t.rows / 8 * (t.columns / 8) < 64) t.per_thread = 4;
  const int active = t.rows / t.per_thread * (t.columns / t.per_thread);
  t.threads = active <= 64 ? 64 : (int)muse_round_up(active, 32);
  t.n = muse_ceil_div(rows, t.rows) * muse_ceil_div(columns, t.columns);
  return t;
}

static void define_tile(MuseCudaEmitter *e, const char *name, MuseCudaTrainTile t) {
  muse_str_appendf(e->out, "  typedef Tile<%d, %d, %d> %s;\n", t.rows, t.columns, t.per_thread, name);
}

// "  typedef Train<..> S;"
static void define_train(MuseCudaEmitter *e, const MuseTrainKernel *t) {
  muse_str_appendf(e->out, "  typedef Train<%lld, %lld, %lld, %lld, %lld, %lld> S;\n", (long long)t->v1,
                   (long long)t->v2, (long long)t->r, (long long)t->d1, (long long)t->d2, (long long)t->D);
}

static void begin(MuseCudaEmitter *e, MuseTrainKernel *t) {
  muse_train_layout(e->kernel, t);
  muse_str_append(e->out, muse_cuda_embed_prelude());
  muse_str_append(e->out, muse_cuda_train_prelude());
}

// A block computes a tile of the row of a token.
MuseStatus muse_emit_cuda_tt_gather(MuseCudaEmitter *e) {
  MuseTrainKernel t;
  begin(e, &t);
  const MuseCudaTrainTile tile = muse_cuda_train_tile(t.d1, t.d2);
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = t.tokens, .grid_y = tile.n, .block = tile.threads});
  define_train(e, &t);
  define_tile(e, "B", tile);
  muse_str_appendf(
      e->out,
      "  train_row<S, B>(a%d, a%d, a%d, (unsigned)a%d[blockIdx.x], blockIdx.y, r0 + (long long)blockIdx.x * "
      "%lld);\n}\n\n",
      muse_kernel_operand_of(t.op, 0), muse_kernel_operand_of(t.op, 1), muse_kernel_operand_of(t.op, 2),
      muse_kernel_operand_of(t.op, 3), (long long)t.D);
  return MUSE_OK;
}

// Sorts tokens by i1 and by i2, sums runs of tokens (both kinds of keys in one launch each), then the runs of each key.
MuseStatus muse_emit_cuda_tt_gather_grad(MuseCudaEmitter *e) {
  MuseTrainKernel t;
  begin(e, &t);
  int operand[5], result[3];
  for (int i = 0; i < 5; i++) operand[i] = muse_kernel_operand_of(t.op, i);
  for (int i = 0; i < 3; i++) result[i] = muse_kernel_result_of(t.op, i);
  int64_t segment = 16, at = 0;
  while (muse_ceil_div(t.tokens, segment) > MAX_WINDOWS) segment *= 2;
  const int64_t windows = muse_ceil_div(t.tokens, segment), v[2] = {t.v1, t.v2}, width[2] = {t.d1, t.d2};
  const MuseCudaTrainTile tile[2] = {muse_cuda_train_tile(t.r, t.d1), muse_cuda_train_tile(t.r, t.d2)};
  const bool wanted[2] = {result[0] >= 0 || result[2] >= 0, result[1] >= 0};
  int64_t keys[2], list[2], partial[2], d_cos;
  for (int k = 0; k < 2; k++) {
    keys[k] = muse_cuda_take(&at, t.tokens * 4);
    list[k] = muse_cuda_take(&at, t.tokens * 4);
    partial[k] = muse_cuda_take(&at, wanted[k] ? (v[k] + windows) * t.r * width[k] * 4 : 0);
  }
  d_cos = muse_cuda_take(&at, t.v1 * t.r * 4);
  e->launches->workspace_bytes = at;

  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(t.tokens, 32), .grid_y = 2, .block = 256});
  muse_str_appendf(e->out, "  constexpr unsigned last = %lld;\n", (long long)(t.v1 * t.v2 - 1));
  for (int k = 0; k < 2; k++)
    muse_str_appendf(e->out,
                     "  if (blockIdx.y == %d)\n    sort_tokens<%lld>((int *)(workspace + %lldll), (int *)(workspace + "
                     "%lldll),\n        [&](int i) { return (int)(min((unsigned)a%d[i], last) %s %lldu); });\n",
                     k, (long long)t.tokens, (long long)keys[k], (long long)list[k], operand[4], k ? "%" : "/",
                     (long long)t.v2);
  muse_str_append(e->out, "}\n\n");

  for (int k = 0; k < 2; k++) {
    if (!wanted[k]) continue;
    muse_cuda_begin_launch(e,
                           (MuseCudaLaunch){.grid_x = v[k] + windows, .grid_y = tile[k].n, .block = tile[k].threads});
    define_train(e, &t);
    define_tile(e, "B", tile[k]);
    muse_str_appendf(e->out,
                     "  train_run<S, B, %lld, %lld, %s>(a%d, a%d, a%d, (const int *)(workspace + %lldll),\n"
                     "      (const int *)(workspace + %lldll), blockIdx.x, blockIdx.y, (float *)(workspace + "
                     "%lldll));\n}\n\n",
                     (long long)t.tokens, (long long)segment, k ? "false" : "true", operand[k ? 1 : 2], operand[0],
                     operand[4], (long long)keys[k], (long long)list[k], (long long)partial[k]);
    muse_cuda_begin_launch(
        e, (MuseCudaLaunch){.grid_x = v[k], .grid_y = muse_ceil_div(t.r, KEY_WARPS), .block = 32 * KEY_WARPS});
    define_train(e, &t);
    char d_core[16] = "(float *)0", cosines[48] = "(float *)0";
    if (result[k] >= 0) snprintf(d_core, sizeof d_core, "r%d", result[k]);
    if (k == 0 && result[2] >= 0) snprintf(cosines, sizeof cosines, "(float *)(workspace + %lldll)", (long long)d_cos);
    muse_str_appendf(e->out,
                     "  const int rho = blockIdx.y * %d + threadIdx.x / 32;\n  if (rho >= %lld) return;\n"
                     "  train_key<S, %lld, %lld, %s>(a%d, a%d, (const int *)(workspace + %lldll),\n"
                     "      (const float *)(workspace + %lldll), blockIdx.x, rho, %s, %s);\n}\n\n",
                     KEY_WARPS, (long long)t.r, (long long)t.tokens, (long long)segment, k ? "false" : "true",
                     operand[k ? 2 : 1], operand[3], (long long)keys[k], (long long)partial[k], d_core, cosines);
  }
  if (result[2] < 0) return MUSE_OK;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = t.r, .grid_y = 1, .block = 32});
  muse_str_appendf(e->out,
                   "  const float *d = (const float *)(workspace + %lldll) + blockIdx.x;\n  float sum = 0;\n"
                   "  for (int i = threadIdx.x; i < %lld; i += 32) sum += d[i * %lld];\n"
                   "  sum = across_lanes<Sum, 32>(sum);\n  if (threadIdx.x == 0) r%d[blockIdx.x] = sum;\n}\n\n",
                   (long long)d_cos, (long long)t.v1, (long long)t.r, result[2]);
  return MUSE_OK;
}

// In rounds of `chunk` tokens: Y, then one product with core2 in parts of the sums, then their sum. f32 inside.
MuseStatus muse_emit_cuda_tt_matmul(MuseCudaEmitter *e) {
  MuseTrainKernel t;
  begin(e, &t);
  const int64_t depth = t.r * t.d2, bytes = t.used * depth * 4;
  int64_t chunk = muse_ceil_div(t.tokens, muse_ceil_div(t.tokens * bytes, Y_BYTES)), at = 0;
  const int64_t rounds = muse_ceil_div(t.tokens, chunk), rows = chunk * t.used;
  const int side = rows <= 1024 ? 64 : 128;
  const MuseCudaTrainTile contract = muse_cuda_train_tile(t.r, t.d2), product = {side, side, side / 16, 256, 0};
  const int64_t tiles = muse_ceil_div(rows, side) * muse_ceil_div(t.v2, side);
  int64_t splits = 1;
  while (tiles * splits < SPLIT_BLOCKS && depth / (splits * 2) >= SHORTEST_SPLIT) splits *= 2;
  const int64_t y = muse_cuda_take(&at, chunk * bytes), partial = muse_cuda_take(&at, splits * rows * t.v2 * 4);
  const int x = muse_kernel_operand_of(t.op, 0), core1 = muse_kernel_operand_of(t.op, 1);
  e->launches->workspace_bytes = at;
  e->launches->loop_first = 0;
  e->launches->loop_last = 2;
  e->launches->loop_count = rounds;
  const char *round = rounds > 1 ? "iteration" : "0";

  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = rows, .grid_y = contract.n, .block = contract.threads});
  define_train(e, &t);
  define_tile(e, "B", contract);
  muse_str_appendf(
      e->out,
      "  const int n = %s * %lld + blockIdx.x / %lldu, i1 = blockIdx.x %% %lldu;\n  if (n >= %lld) return;\n"
      "  train_contract<S, B>(a%d, a%d, a%d + (long long)n * %lld, i1, blockIdx.y,\n"
      "      (float *)(workspace + %lldll) + (long long)blockIdx.x * %lld);\n}\n\n",
      round, (long long)chunk, (long long)t.used, (long long)t.used, (long long)t.tokens, core1,
      muse_kernel_operand_of(t.op, 3), x, (long long)t.D, (long long)y, (long long)depth);

  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = tiles, .grid_y = splits, .block = product.threads});
  define_tile(e, "B", product);
  muse_str_appendf(e->out,
                   "  const int rows = min(%lld, %lld - %s * %lld);\n"
                   "  train_product<B, %lld, %lld, %lld, %lld>((const float *)(workspace + %lldll), a%d, blockIdx.x,\n"
                   "      blockIdx.y, rows, (float *)(workspace + %lldll));\n}\n\n",
                   (long long)rows, (long long)(t.tokens * t.used), round, (long long)rows, (long long)rows,
                   (long long)t.v2, (long long)depth, (long long)splits, (long long)y, muse_kernel_operand_of(t.op, 2),
                   (long long)partial);

  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(t.V, 256), .grid_y = chunk, .block = 256});
  muse_str_appendf(
      e->out,
      "  const int n = %s * %lld + blockIdx.y, v = blockIdx.x * 256 + threadIdx.x;\n"
      "  if (n >= %lld || v >= %lld) return;\n"
      "  const float *p = (const float *)(workspace + %lldll) + (long long)blockIdx.y * %lld + v;\n"
      "  float sum = 0;\n#pragma unroll\n"
      "  for (int s = 0; s < %lld; s++) sum += p[s * %lldll];\n  r0[(long long)n * %lld + v] = sum;\n}\n\n",
      round, (long long)chunk, (long long)t.tokens, (long long)t.V, (long long)partial, (long long)(t.used * t.v2),
      (long long)splits, (long long)(rows * t.v2), (long long)t.V);
  return MUSE_OK;
}
