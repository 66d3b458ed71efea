// Skeletons "cross_entropy", "tt_cross_entropy" and their gradients. How the logits are held: emit_cuda_head_prelude.c.
//
// An iteration of the loop works on a chunk of tokens and a group of rows of the table; a dense table is one group, a
// tensor train is built group by group. The launches, of which some are idle in some iterations:
//   turn       (tensor train) the cores with rho last, core1 times the cosines; once
//   build      (tensor train) the rows of the group, one product core1 core2^T of all (i1, a) by all (i2, b)
//   logits     E and its statistics
//   normalise  once the logits of all groups are there: losses, E becomes the gradient of the logits
//   products   dx += E table, in parts of the rows; d_table = E^T x. With several groups this is a second sweep over
//              them. Of a tensor train the gradient is stored as [(i1, a)][(i2, b)]
//   contract   (tensor train) gradients of both cores, each one product over that matrix
//   collect    dx of the chunk from its parts
//   finish     the loss, gradients of the cores
#include "compiler/emit_cuda_head.h"

#include "compiler/emit_cuda_embed.h"
#include "compiler/emit_cuda_gemm.h"
#include "compiler/emit_cuda_hopper.h"
#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

#include <string.h>

enum { BLOCK = 256, MAX_PARTS = 16, LEAST_K = 1024 };
static const int64_t dense_bytes = 208 << 20, train_bytes = 128 << 20, table_bytes = 64 << 20, parts_bytes = 64 << 20;

static MuseCudaSide side(MuseDtype dtype, bool by_k, int64_t pitch) {
  return (MuseCudaSide){.dtype = dtype, .by_k = by_k, .pitch = pitch};
}

void muse_cuda_head_plan(MuseCudaEmitter *e, MuseCudaHead *h) {
  const MuseOp *op = muse_kernel_single_op(e->kernel);
  *h = (MuseCudaHead){.e = e, .op = op, .v1 = 1, .v2 = 1, .r = 1, .d1 = 1, .d2 = 1};
  h->grad = op->kind == MUSE_OP_cross_entropy_grad || op->kind == MUSE_OP_tt_cross_entropy_grad;
  h->train = op->kind == MUSE_OP_tt_cross_entropy || op->kind == MUSE_OP_tt_cross_entropy_grad;
  for (int i = 0; i < op->n_operands; i++) h->operand[i] = muse_kernel_operand_of(op, i);
  for (int i = 0; i < 5; i++) h->result[i] = i < op->n_results ? muse_kernel_result_of(op, i) : -1;
  const MuseType x = op->operands[0]->type;
  h->dtype = x.dtype, h->N = x.dim[0], h->D = x.dim[1];
  h->targets = h->operand[h->train ? 4 : 2];
  h->dx = h->grad && h->result[1] >= 0;
  const int64_t bytes = muse_dtype_bytes(h->dtype);
  if (h->train) {
    const MuseType core1 = op->operands[1]->type, core2 = op->operands[2]->type;
    h->v1 = core1.dim[0], h->v2 = core2.dim[0], h->r = core1.dim[1], h->d1 = core1.dim[2], h->d2 = core2.dim[2];
    h->V = muse_op_int(op, "vocab");
    h->used = muse_ceil_div(h->V, h->v2);
    h->pitch = h->d1 * h->d2;
    const int64_t most = table_bytes / (h->v2 * h->pitch * bytes);
    h->groups = muse_ceil_div(h->used, most < 1 ? 1 : most);
    h->group = muse_ceil_div(h->used, h->groups);
    h->groups = muse_ceil_div(h->used, h->group);
    h->d_table = h->grad && (h->result[2] >= 0 || h->result[3] >= 0 || h->result[4] >= 0);
  } else {
    h->V = op->operands[1]->type.dim[0];
    h->pitch = h->D, h->groups = h->group = 1;
    h->d_table = h->grad && h->result[2] >= 0;
  }
  h->group_rows = h->train ? h->group * h->v2 : h->V;
  h->sweeps = h->grad && h->groups > 1 && (h->dx || h->d_table) ? 2 : 1;
  // Tokens of a chunk: E within its limit, or without gradients the statistics.
  const int64_t columns = h->groups * muse_round_up(h->group_rows, 256);
  int64_t most =
      h->grad ? (h->train ? train_bytes : dense_bytes) / (columns * bytes) : train_bytes / (columns / 16 * 8);
  most = most < 128 ? 128 : most / 128 * 128;
  h->rounds = muse_ceil_div(h->N, most);
  h->chunk = muse_ceil_div(h->N, h->rounds);
  if (h->rounds > 1) h->chunk = muse_round_up(h->chunk, 128);
  h->rounds = muse_ceil_div(h->N, h->chunk);
}

// Places in the workspace; `width` is that of a tile of logits.
static void place(MuseCudaHead *h, int64_t width, bool hopper) {
  const int64_t bytes = muse_dtype_bytes(h->dtype);
  h->width = width;
  h->group_columns = muse_round_up(h->group_rows, width);
  h->columns = h->groups * h->group_columns;
  const int64_t tiles = h->columns / width;
  int64_t at = 0;
  h->maxima = muse_cuda_take(&at, h->chunk * tiles * 4);
  h->sums = muse_cuda_take(&at, h->chunk * tiles * 4);
  h->picked = muse_cuda_take(&at, h->chunk * 4);
  h->losses = muse_cuda_take(&at, h->N * 4);
  if (h->grad) h->logits = muse_cuda_take(&at, h->chunk * h->columns * bytes);
  h->parts = 1;
  const int64_t tiles_dx = muse_ceil_div(h->chunk, 128) * muse_ceil_div(h->D, 128);
  int64_t most = 1;
  while (most < MAX_PARTS && h->group_columns / (most + 1) >= LEAST_K &&
         (most + 1) * h->chunk * h->D * 4 <= parts_bytes)
    most++;
  while (h->parts < most && tiles_dx * h->parts < 4 * muse_cuda_common_sms(h->e->target)) h->parts++;
  if (hopper) h->parts = muse_cuda_head_hopper_parts(h, most);
  h->part_columns = muse_round_up(muse_ceil_div(h->group_columns, h->parts), 64);
  h->parts = muse_ceil_div(h->group_columns, h->part_columns);
  if (h->dx) h->dx_parts = muse_cuda_take(&at, h->parts * h->chunk * h->D * 4);
  if (h->train) {
    h->turned1 = muse_cuda_take(&at, h->used * h->d1 * h->r * bytes);
    h->turned2 = muse_cuda_take(&at, h->v2 * h->d2 * h->r * bytes);
    h->table = muse_cuda_take(&at, h->group_rows * h->pitch * bytes);
  }
  if (h->train && h->d_table) {
    h->gradient = muse_cuda_take(&at, h->group_rows * h->pitch * bytes);
    h->core_parts = 1;
    while (h->core_parts < 8 && muse_ceil_div(h->group * h->d1, 128) * h->core_parts < 96 &&
           h->v2 * h->d2 / (h->core_parts * 2) >= LEAST_K)
      h->core_parts *= 2;
    h->core_part_k = muse_round_up(muse_ceil_div(h->v2 * h->d2, h->core_parts), 64);
    h->core_parts = muse_ceil_div(h->v2 * h->d2, h->core_part_k);
    h->sum1 = muse_cuda_take(&at, h->core_parts * h->r * h->used * h->d1 * 4);
    h->sum2 = muse_cuda_take(&at, h->r * h->v2 * h->d2 * 4);
  }
  h->e->launches->workspace_bytes = at;
}

// ---- text ----

static const char *type_of(const MuseCudaHead *h) { return muse_cuda_type(h->dtype); }

// "(TYPE *)(workspace + AT)"
static const char *in_workspace(char *text, size_t size, const char *type, int64_t at) {
  snprintf(text, size, "((%s *)(workspace + %lldll))", type, (long long)at);
  return text;
}

static void begin_launch(MuseCudaHead *h, int64_t grid_x, int64_t grid_y, int block, int shared) {
  MuseStr *out = h->e->out;
  muse_cuda_begin_launch(h->e,
                         (MuseCudaLaunch){.grid_x = grid_x, .grid_y = grid_y, .block = block, .shared_bytes = shared});
  muse_cuda_head_constants(h, out);
}

void muse_cuda_head_constants(const MuseCudaHead *h, MuseStr *out) {
  muse_str_appendf(out,
                   "  typedef %s T;\n  typedef Head<%lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld> H;\n",
                   type_of(h), (long long)h->N, (long long)h->D, (long long)h->V, (long long)h->columns,
                   (long long)h->width, (long long)h->group_rows, (long long)h->group_columns, (long long)h->chunk,
                   (long long)h->groups, (long long)h->sweeps);
  if (h->train)
    muse_str_appendf(out, "  typedef Train<%lld, %lld, %lld, %lld, %lld, %lld> S;\n", (long long)h->v1,
                     (long long)h->v2, (long long)h->r, (long long)h->d1, (long long)h->d2, (long long)h->D);
  muse_str_appendf(out, "  const H h = H::at(%s);\n", h->e->launches->loop_count > 1 ? "iteration" : "0");
  muse_str_appendf(out,
                   "  const HeadStats stats = {(float *)(workspace + %lldll), (float *)(workspace + %lldll),\n"
                   "                           (float *)(workspace + %lldll), (float *)(workspace + %lldll)};\n",
                   (long long)h->maxima, (long long)h->sums, (long long)h->picked, (long long)h->losses);
  if (h->grad) {
    muse_str_appendf(out, "  T *const logits = (T *)(workspace + %lldll);\n", (long long)h->logits);
    if (h->dx || h->d_table)
      muse_str_appendf(out, "  const float d = a%d[0] / (float)H::N;\n", h->operand[h->train ? 5 : 3]);
  }
  if (h->train) {
    muse_str_appendf(out, "  T *const table = (T *)(workspace + %lldll);\n", (long long)h->table);
    // First indices of the group.
    muse_str_appendf(out, "  const int i1 = h.group * %lld, n1 = min(%lld, %lld - i1);\n", (long long)h->group,
                     (long long)h->group, (long long)h->used);
  } else {
    muse_str_appendf(out, "  const T *const table = a%d;\n", h->operand[1]);
  }
}

static void define_tile(MuseStr *out, const char *name, const MuseCudaTile *tile) {
  muse_str_append(out, "  typedef ");
  muse_cuda_tile_type(tile, out);
  muse_str_appendf(out, " %s;\n", name);
}

static int larger(int a, int b) { return a > b ? a : b; }

// Number and place of a tile of a grid of tiles_m x tiles_n, as variables m0, n0.
static void place_tile(MuseStr *out, const char *number, const char *tile, int64_t tiles_m, int64_t tiles_n) {
  muse_str_appendf(
      out, "  int m, n;\n  gemm::tile_at(%s, %lld, %lld, m, n);\n  const int m0 = m * %s::BM, n0 = n * %s::BN;\n",
      number, (long long)tiles_m, (long long)tiles_n, tile, tile);
}

static void emit_turn(MuseCudaHead *h) {
  begin_launch(h, 1024, 1, BLOCK, 0);
  char to1[64], to2[64];
  muse_str_appendf(h->e->out,
                   "  head_turn<S::R, S::D1>(a%d, a%d, %lldll, %s);\n"
                   "  head_turn<S::R, S::D2>(a%d, (const float *)0, %lldll, %s);\n}\n\n",
                   h->operand[1], h->operand[3], (long long)(h->used * h->d1 * h->r),
                   in_workspace(to1, sizeof to1, "T", h->turned1), h->operand[2], (long long)(h->v2 * h->d2 * h->r),
                   in_workspace(to2, sizeof to2, "T", h->turned2));
}

static void emit_build(MuseCudaHead *h) {
  MuseCudaTile g;
  const int64_t M = h->group * h->d1, N = h->v2 * h->d2;
  muse_cuda_tile_choose(h->e->target, side(h->dtype, true, h->r), side(h->dtype, true, h->r), M, N, true, &g);
  const int64_t tm = muse_ceil_div(M, g.bm), tn = muse_ceil_div(N, g.bn);
  begin_launch(h, tm * tn, 1, muse_cuda_tile_threads(&g), muse_cuda_tile_shared_bytes(&g));
  MuseStr *out = h->e->out;
  define_tile(out, "G", &g);
  place_tile(out, "blockIdx.x", "G", tm, tn);
  muse_str_appendf(out,
                   "  if (m0 >= n1 * S::D1) return;\n"
                   "  const gemm::Matrix<T> c1 = {(const T *)(workspace + %lldll) + (long long)i1 * (S::D1 * S::R), "
                   "S::R,\n                              n1 * S::D1, S::R};\n"
                   "  const gemm::Matrix<T> c2 = {(const T *)(workspace + %lldll), S::R, S::V2 * S::D2, S::R};\n"
                   "  head_scatter<G>(c1, c2, m0, n0, 0, S::R, n1 * S::D1, S::V2 * S::D2, [&](int row, int column, "
                   "float x) {\n"
                   "    const long long v = row / S::D1 * S::V2 + column / S::D2;\n"
                   "    table[v * (S::D1 * S::D2) + row %% S::D1 * S::D2 + column %% S::D2] = of_f32<T>::of(x);\n"
                   "  });\n}\n\n",
                   (long long)h->turned1, (long long)h->turned2);
}

static void emit_logits(MuseCudaHead *h, const MuseCudaTile *g) {
  const int64_t tm = muse_ceil_div(h->chunk, g->bm), tn = h->group_columns / g->bn;
  const int ld = g->bn + 4, part = g->bm * ld > 10000 && g->bm % 32 == 0 ? g->bm / 2 : g->bm;
  begin_launch(h, tm * tn, 1, muse_cuda_tile_threads(g), larger(muse_cuda_tile_shared_bytes(g), part * ld * 4));
  MuseStr *out = h->e->out;
  define_tile(out, "G", g);
  place_tile(out, "blockIdx.x", "G", tm, tn);
  muse_str_appendf(out,
                   "  if (!h.makes_logits() || m0 >= h.rows) return;\n"
                   "  const gemm::Matrix<T> x = {a%d + (long long)h.first * H::D, H::D, h.rows, H::D};\n"
                   "  const gemm::Matrix<T> e = {table, %lld, h.table_rows(), H::D};\n"
                   "  head_logits<H, G, %s>(h, x, e, m0, n0, a%d, %s, stats);\n}\n\n",
                   h->operand[0], (long long)h->pitch, h->grad ? "true" : "false", h->targets,
                   h->grad ? "logits" : "(T *)0");
}

static void emit_normalise(MuseCudaHead *h) {
  begin_launch(h, h->chunk, 1, BLOCK, 0);
  const bool apply = h->dx || h->d_table;
  muse_str_appendf(h->e->out,
                   "  if (!h.has_all_logits()) return;\n"
                   "  head_normalise<H, %s>(h, a%d, %s, stats);\n}\n\n",
                   apply ? "true" : "false", h->targets, apply ? "logits" : "(T *)0");
}

// Blocks of dx, then those of d_table.
static void emit_products(MuseCudaHead *h) {
  MuseCudaTile gx, gt;
  const int64_t width = h->train ? h->pitch : h->D, rows = h->group_rows;
  const MuseCudaTarget target = h->e->target;
  muse_cuda_tile_choose(target, side(h->dtype, true, h->columns), side(h->dtype, false, h->pitch), h->chunk, h->D, true,
                        &gx);
  muse_cuda_tile_choose(target, side(h->dtype, false, h->columns), side(h->dtype, false, h->D), rows, width, true, &gt);
  // Of one number of threads.
  if (muse_cuda_tile_threads(&gx) != muse_cuda_tile_threads(&gt))
    muse_cuda_tile_choose(target, gt.a, gt.b, h->chunk, h->D, true, &gt);
  const int64_t xm = muse_ceil_div(h->chunk, gx.bm), xn = muse_ceil_div(h->D, gx.bn);
  const int64_t em = muse_ceil_div(rows, gt.bm), en = muse_ceil_div(width, gt.bn);
  const int64_t n_dx = h->dx ? xm * xn * h->parts : 0, n_de = h->d_table ? em * en : 0;
  begin_launch(h, n_dx + n_de, 1, muse_cuda_tile_threads(&gx),
               larger(h->dx ? muse_cuda_tile_shared_bytes(&gx) : 0, h->d_table ? muse_cuda_tile_shared_bytes(&gt) : 0));
  MuseStr *out = h->e->out;
  muse_str_append(out, "  if (!h.makes_products()) return;\n");
  if (h->dx) {
    muse_str_appendf(out, "  if (blockIdx.x < %lldu) {\n", (long long)n_dx);
    define_tile(out, "G", &gx);
    muse_str_appendf(out, "  const int part = blockIdx.x / %lldu, begin = part * %lld;\n", (long long)(xm * xn),
                     (long long)h->part_columns);
    char number[48];
    snprintf(number, sizeof number, "blockIdx.x %% %lldu", (long long)(xm * xn));
    place_tile(out, number, "G", xm, xn);
    muse_str_appendf(out,
                     "  if (m0 >= h.rows) return;\n  const int end = max(begin, min(begin + %lld, h.table_rows()));\n"
                     "  const gemm::Matrix<T> e = {logits + h.group * H::GP, H::L, h.rows, H::GP};\n"
                     "  const gemm::Matrix<T> t = {table, %lld, h.table_rows(), H::D};\n"
                     "  float *to = (float *)(workspace + %lldll) + (long long)part * (H::CHUNK * (long long)H::D);\n"
                     "  head_product<G>(e, t, m0, n0, begin, end, h.rows, H::D,\n"
                     "      [&](int row, int column, float x, float y, bool both) {\n"
                     "        head_put(to + (long long)row * H::D + column, x, y, both, h.group > 0);\n"
                     "      });\n  return;\n  }\n",
                     (long long)h->part_columns, (long long)h->pitch, (long long)h->dx_parts);
  }
  if (h->d_table) {
    define_tile(out, "G", &gt);
    char number[48];
    snprintf(number, sizeof number, "blockIdx.x - %lldu", (long long)n_dx);
    place_tile(out, number, "G", em, en);
    muse_str_appendf(out,
                     "  const gemm::Matrix<T> e = {logits + h.group * H::GP, H::L, h.rows, H::GP};\n"
                     "  const gemm::Matrix<T> x = {a%d + (long long)h.first * H::D, H::D, h.rows, H::D};\n",
                     h->operand[0]);
    if (h->train)
      muse_str_appendf(out,
                       "  T *to = (T *)(workspace + %lldll);\n"
                       "  head_scatter<G>(e, x, m0, n0, 0, h.rows, n1 * S::V2, S::D1 * S::D2, [&](int row, int column, "
                       "float x) {\n"
                       "    const long long at = row / S::V2 * S::D1 + column / S::D2;\n"
                       "    to[at * (S::V2 * S::D2) + row %% S::V2 * S::D2 + column %% S::D2] = of_f32<T>::of(x);\n"
                       "  });\n",
                       (long long)h->gradient);
    else
      muse_str_appendf(
          out,
          "  head_product<G>(e, x, m0, n0, 0, h.rows, H::V, H::D,\n"
          "      [&](int row, int column, float x, float y, bool both) {\n"
          "        head_put(r%d + (long long)row * H::D + column, d * x, d * y, both, !h.start);\n      });\n",
          h->result[2]);
  }
  muse_str_append(out, "}\n\n");
}

// Gradients of the cores from that of the rows, [(i1, a)][(i2, b)].
static void emit_contract(MuseCudaHead *h) {
  MuseCudaTile g1, g2;
  const int64_t k1 = h->v2 * h->d2, wide1 = h->group * h->d1, wide2 = h->v2 * h->d2;
  const MuseCudaTarget target = h->e->target;
  const bool first = h->result[2] >= 0 || h->result[4] >= 0, second = h->result[3] >= 0;
  muse_cuda_tile_choose(target, side(h->dtype, false, h->r), side(h->dtype, true, k1), h->r, wide1, true, &g1);
  muse_cuda_tile_choose(target, side(h->dtype, false, h->r), side(h->dtype, false, wide2), h->r, wide2, true, &g2);
  if (muse_cuda_tile_threads(&g1) != muse_cuda_tile_threads(&g2))
    muse_cuda_tile_choose(target, g2.a, g2.b, h->r, wide1, true, &g2);
  const int64_t m1 = muse_ceil_div(h->r, g1.bm), w1 = muse_ceil_div(wide1, g1.bn);
  const int64_t m2 = muse_ceil_div(h->r, g2.bm), w2 = muse_ceil_div(wide2, g2.bn);
  const int64_t blocks1 = first ? m1 * w1 * h->core_parts : 0, blocks2 = second ? m2 * w2 : 0;
  begin_launch(h, blocks1 + blocks2, 1, muse_cuda_tile_threads(&g1),
               larger(first ? muse_cuda_tile_shared_bytes(&g1) : 0, second ? muse_cuda_tile_shared_bytes(&g2) : 0));
  MuseStr *out = h->e->out;
  muse_str_appendf(out, "  if (!h.makes_products()) return;\n  const T *gradient = (const T *)(workspace + %lldll);\n",
                   (long long)h->gradient);
  if (first) {
    muse_str_appendf(out, "  if (blockIdx.x < %lldu) {\n", (long long)blocks1);
    define_tile(out, "G", &g1);
    char number[48];
    snprintf(number, sizeof number, "blockIdx.x %% %lldu", (long long)(m1 * w1));
    place_tile(out, number, "G", m1, w1);
    muse_str_appendf(out,
                     "  const int part = blockIdx.x / %lldu, begin = part * %lld, end = min(begin + %lld, %lld);\n"
                     "  const gemm::Matrix<T> c2 = {(const T *)(workspace + %lldll), S::R, %lld, S::R};\n"
                     "  const gemm::Matrix<T> g = {gradient, %lld, n1 * S::D1, %lld};\n"
                     "  float *to = (float *)(workspace + %lldll) + (long long)part * (S::R * %lldll) + i1 * S::D1;\n"
                     "  head_product<G>(c2, g, m0, n0, begin, end, S::R, n1 * S::D1,\n"
                     "      [&](int row, int column, float x, float y, bool both) {\n"
                     "        head_put(to + row * %lldll + column, x, y, both, !h.start);\n      });\n  return;\n  }\n",
                     (long long)(m1 * w1), (long long)h->core_part_k, (long long)h->core_part_k, (long long)k1,
                     (long long)h->turned2, (long long)k1, (long long)k1, (long long)k1, (long long)h->sum1,
                     (long long)(h->used * h->d1), (long long)(h->used * h->d1));
  }
  if (second) {
    define_tile(out, "G", &g2);
    char number[48];
    snprintf(number, sizeof number, "blockIdx.x - %lldu", (long long)blocks1);
    place_tile(out, number, "G", m2, w2);
    muse_str_appendf(out,
                     "  const gemm::Matrix<T> c1 = {(const T *)(workspace + %lldll) + (long long)i1 * (S::D1 * S::R), "
                     "S::R,\n                              n1 * S::D1, S::R};\n"
                     "  const gemm::Matrix<T> g = {gradient, %lld, n1 * S::D1, %lld};\n"
                     "  float *to = (float *)(workspace + %lldll);\n"
                     "  head_product<G>(c1, g, m0, n0, 0, n1 * S::D1, S::R, %lld,\n"
                     "      [&](int row, int column, float x, float y, bool both) {\n"
                     "        head_put(to + row * %lldll + column, x, y, both, !h.start || h.group > 0);\n      });\n",
                     (long long)h->turned1, (long long)wide2, (long long)wide2, (long long)h->sum2, (long long)wide2,
                     (long long)wide2);
  }
  muse_str_append(out, "}\n\n");
}

static void emit_collect(MuseCudaHead *h) {
  begin_launch(h, muse_ceil_div(h->chunk * h->D, BLOCK * 4), 1, BLOCK, 0);
  muse_str_appendf(h->e->out,
                   "  if (!h.makes_products() || h.group != H::GROUPS - 1) return;\n"
                   "  const float *from = (const float *)(workspace + %lldll);\n"
                   "  const long long count = (long long)h.rows * H::D, step = (long long)H::CHUNK * H::D;\n"
                   "#pragma unroll\n  for (int l = 0; l < 4; l++) {\n"
                   "    const long long i = ((long long)blockIdx.x * 4 + l) * %d + threadIdx.x;\n"
                   "    if (i >= count) return;\n    float sum = 0;\n#pragma unroll\n"
                   "    for (int p = 0; p < %lld; p++) sum += from[p * step + i];\n"
                   "    r%d[(long long)h.first * H::D + i] = of_f32<T>::of(d * sum);\n  }\n}\n\n",
                   (long long)h->dx_parts, BLOCK, (long long)h->parts, h->result[1]);
}

static void emit_finish(MuseCudaHead *h) {
  const bool cores = h->train && h->d_table;
  begin_launch(h, cores ? h->r : 1, 1, BLOCK, 0);
  MuseStr *out = h->e->out;
  if (h->result[0] >= 0)
    muse_str_appendf(out, "  if (blockIdx.x == 0) head_loss<H::N>(stats.losses, r%d);\n", h->result[0]);
  if (cores) {
    char d[3][24];
    for (int i = 0; i < 3; i++) {
      snprintf(d[i], sizeof d[i], "(float *)0");
      if (h->result[2 + i] >= 0) snprintf(d[i], sizeof d[i], "r%d", h->result[2 + i]);
    }
    muse_str_appendf(out,
                     "  head_cores<S, %lld, %lld>((const float *)(workspace + %lldll), (const float *)(workspace + "
                     "%lldll), a%d, a%d,\n      d, %s, %s, %s);\n",
                     (long long)h->used, (long long)h->core_parts, (long long)h->sum1, (long long)h->sum2,
                     h->operand[1], h->operand[3], d[0], d[1], d[2]);
  }
  muse_str_append(out, "}\n\n");
}

MuseStatus muse_emit_cuda_cross_entropy(MuseCudaEmitter *e) {
  MuseCudaHead h;
  MuseCudaTile g;
  muse_cuda_head_plan(e, &h);
  muse_str_append(e->out, muse_cuda_gemm_prelude());
  muse_str_append(e->out, muse_cuda_embed_prelude());
  muse_str_append(e->out, muse_cuda_train_prelude());
  muse_str_append(e->out, muse_cuda_head_prelude());
  const bool hopper = muse_cuda_head_suits_hopper(&h), products = h.dx || h.d_table;
  if (hopper) {
    muse_str_append(e->out, muse_cuda_hopper_prelude());
    muse_str_append(e->out, muse_cuda_head_hopper_prelude());
  }
  muse_cuda_tile_choose(e->target, side(h.dtype, true, h.D), side(h.dtype, true, h.pitch), h.chunk, h.group_rows, true,
                        &g);
  place(&h, hopper ? 256 : g.bn, hopper);
  MuseCudaLaunches *l = e->launches;
  l->loop_first = h.train ? 1 : 0;
  l->loop_last = l->loop_first + 1 + h.train + products + (h.train && h.d_table) + h.dx;
  l->loop_count = h.rounds * h.groups * h.sweeps;
  if (h.train) emit_turn(&h);
  if (h.train && hopper) muse_cuda_head_hopper_build(&h);
  else if (h.train) emit_build(&h);
  if (hopper) muse_cuda_head_hopper_logits(&h);
  else emit_logits(&h, &g);
  emit_normalise(&h);
  if (products && hopper) muse_cuda_head_hopper_products(&h);
  else if (products) emit_products(&h);
  if (h.train && h.d_table && hopper) muse_cuda_head_hopper_contract(&h);
  else if (h.train && h.d_table) emit_contract(&h);
  if (h.dx) emit_collect(&h);
  MUSE_ASSERT(l->n == l->loop_last + 1);
  emit_finish(&h);
  return MUSE_OK;
}
