// Skeletons "ternary_matmul" and "int8_matmul" as CUDA C by mma.sync, for every architecture and shape. Where
// warpgroups do better (emit_cuda_wgmma.h) this is the last variant.
//
// Both are tiles of BytesTile (emit_cuda_int8_prelude.c). Trits of T2 are read as they are packed and taken apart in
// registers, in front of the matrix unit; those of T5 become T2 in a launch ahead. int8_matmul contracts over the
// leading dimensions, so a launch ahead transposes both operands. Operands whose rows do not start at multiples of 16
// bytes are copied ahead. Sums are exact, so the choice of tiles never shows in the bits.
#include "compiler/emit_cuda_int8.h"

#include "compiler/emit_cuda_wgmma.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <stdio.h>

typedef struct Tile {
  int bm, bn, wm, wn, stages;
  double cost; // of a multiplication, relative to the best
} Tile;

// Measured on an H200; the last of a list fits every architecture.
static const Tile trit_tiles[] = {
    {128, 256, 64, 64, 3, 1.03}, {128, 128, 64, 64, 2, 1.05}, {64, 128, 32, 64, 3, 1.25},
    {64, 64, 32, 32, 3, 1.6},    {64, 64, 32, 32, 2, 1.7},
};
static const Tile byte_tiles[] = {
    {128, 128, 64, 64, 3, 1.0}, {64, 128, 32, 64, 3, 1.0}, {64, 64, 32, 32, 3, 1.3}, {64, 64, 32, 32, 2, 1.4},
};

static int warps_of(const Tile *t) { return t->bm / t->wm * (t->bn / t->wn); }
static int stage_bytes(const Tile *t, bool trits) { return trits ? t->bm * 256 + t->bn * 64 : (t->bm + t->bn) * 128; }

static int strip_bytes(const Tile *t, int strips) { return warps_of(t) * 16 * strips * (t->wn + 8) * 4; }

// Multiprocessors of the largest GPU of an architecture: what the cut aims at, whatever GPU is there.
static int multiprocessors(MuseCudaTarget target) {
  switch (target.arch) {
    case 75: return 72;
    case 80: return 108;
    case 86: return 84;
    case 89: return 128;
    case 90: return 132;
    default: return 170;
  }
}

static int64_t n_tiles_of(const MuseCudaProduct *p, const Tile *t) {
  return muse_ceil_div(p->M, t->bm) * muse_ceil_div(p->N, t->bn);
}

// The tile whose waves over the multiprocessors take least.
static const Tile *choose(const MuseCudaProducts *ps, bool trits) {
  const Tile *list = trits ? trit_tiles : byte_tiles, *best = NULL;
  const int n = trits ? sizeof trit_tiles / sizeof *trit_tiles : sizeof byte_tiles / sizeof *byte_tiles;
  double least = 0;
  for (int i = 0; i < n; i++) {
    int64_t tiles = 0;
    if (list[i].stages * stage_bytes(&list[i], trits) > muse_cuda_shared_limit(ps->e->target)) continue;
    for (int k = 0; k < ps->n; k++) tiles += n_tiles_of(&ps->product[k], &list[i]);
    double cost = (double)muse_ceil_div(tiles, multiprocessors(ps->e->target)) * list[i].bm * list[i].bn * list[i].cost;
    if (best && cost >= least) continue;
    best = &list[i];
    least = cost;
  }
  MUSE_ASSERT(best != NULL);
  return best;
}

// ---- operands ----

typedef struct Side {
  char text[64]; // of a pointer to bytes
  int64_t pitch;
} Side;

typedef struct Sides {
  Side a, b[MUSE_MAX_ANCHORS];
  int64_t K; // with the zeros behind, a multiple of 16
} Sides;

typedef struct Plan {
  MuseCudaAhead ahead[2 * MUSE_MAX_ANCHORS];
  int n;
  int64_t bytes;
} Plan;

static void read_operand(Side *side, const char *type, int operand, int64_t pitch) {
  *side = (Side){.pitch = pitch};
  snprintf(side->text, sizeof side->text, "(const %s *)a%d", type, operand);
}

static void read_ahead(Plan *plan, Side *side, const char *type, MuseCudaAhead ahead) {
  ahead.offset = plan->bytes;
  plan->ahead[plan->n++] = ahead;
  plan->bytes += muse_cuda_ahead_bytes(&ahead);
  *side = (Side){.pitch = ahead.pitch};
  snprintf(side->text, sizeof side->text, "(const %s *)(workspace + %lld)", type, (long long)ahead.offset);
}

static void plan_trits(const MuseCudaProducts *ps, Plan *plan, Sides *out) {
  const MuseCudaProduct *p = &ps->product[0];
  out->K = muse_round_up(p->K, 16);
  if (p->K % 16 == 0) {
    read_operand(&out->a, "signed char", p->a, p->K);
  } else {
    read_ahead(plan, &out->a, "signed char",
               (MuseCudaAhead){.kind = MUSE_CUDA_PAD_ROWS, .operand = p->a, .rows = p->M, .columns = p->K,
                               .pitch = out->K});
  }
  for (int i = 0; i < ps->n; i++) {
    const MuseCudaProduct *q = &ps->product[i];
    if (q->b_dtype == MUSE_T2) {
      read_operand(&out->b[i], "unsigned char", q->b, q->b_pitch);
      continue;
    }
    read_ahead(plan, &out->b[i], "unsigned char",
               (MuseCudaAhead){.kind = MUSE_CUDA_AS_T2, .operand = q->b, .dtype = q->b_dtype, .rows = q->N,
                               .columns = q->K, .pitch = muse_trit_row_bytes(MUSE_T2, q->K)});
  }
}

static void plan_bytes(const MuseCudaProducts *ps, Plan *plan, Sides *out) {
  const MuseCudaProduct *p = &ps->product[0];
  MuseCudaAhead ahead = {.kind = MUSE_CUDA_TRANSPOSE, .operand = p->a, .rows = p->K, .columns = p->M};
  out->K = ahead.pitch = muse_round_up(p->K, 16);
  read_ahead(plan, &out->a, "signed char", ahead);
  for (int i = 0; i < ps->n; i++) {
    ahead.operand = ps->product[i].b;
    ahead.columns = ps->product[i].N;
    read_ahead(plan, &out->b[i], "unsigned char", ahead);
  }
}

// ---- text ----

enum { GROUP = 16 }; // tiles of M that follow each other along N, so that both operands stay in the second-level cache

static void emit_epilogue(MuseCudaProduct *p, const Tile *t, int strips, int depth) {
  MuseCudaBody *b = &p->body;
  const int V = muse_cuda_epilogue_best_vector(p), per_row = t->wn / V;
  b->depth = depth;
  muse_cuda_epilogue_begin(p);
  muse_cuda_line(b, "for (int q = lane; q < %d; q += 32) {", 16 * strips * per_row);
  b->depth++;
  muse_cuda_line(b, "const unsigned row = row0 + 16 * s + q / %d;", per_row);
  muse_cuda_line(b, "const int column = column0 + q %% %d * %d;", per_row, V);
  muse_cuda_line(b, "if (row >= %lldu || column >= %lld) continue;", (long long)p->M, (long long)p->N);
  muse_cuda_epilogue_at_row(p);
  muse_cuda_line(b, "int sums[%d];", V);
  muse_cuda_line(b, "load(sums, strip + q / %d * %d + q %% %d * %d);", per_row, t->wn + 8, per_row, V);
  muse_cuda_epilogue_columns(p, V, "sums");
  b->depth--;
  muse_cuda_line(b, "}");
  b->depth = 0;
}

static void emit_tiles(MuseCudaProducts *ps, const Tile *t, const Sides *sides, bool trits) {
  MuseStr *out = ps->e->out;
  int64_t n_tiles[MUSE_MAX_ANCHORS], sum = 0;
  for (int i = 0; i < ps->n; i++) sum += n_tiles[i] = n_tiles_of(&ps->product[i], t);
  const int limit = (int)muse_cuda_shared_limit(ps->e->target), threads = 32 * warps_of(t);
  int strips = t->wm / 16, shared = t->stages * stage_bytes(t, trits);
  while (strip_bytes(t, strips) > limit) strips /= 2;
  if (strip_bytes(t, strips) > shared) shared = strip_bytes(t, strips);
  const MuseCudaProduct *p = &ps->product[0];
  muse_cuda_begin_launch(ps->e, (MuseCudaLaunch){.grid_x = sum, .grid_y = 1, .block = threads, .shared_bytes = shared});
  muse_str_appendf(out, "  typedef BytesTile<%d, %d, %d, %d, %d, %s> Tile;\n", t->bm, t->bn, t->wm, t->wn, t->stages,
                   trits ? "true" : "false");
  muse_str_append(out, "  extern __shared__ __align__(128) unsigned char shared[];\n");
  muse_cuda_emit_which(out, n_tiles, ps->n);
  muse_str_appendf(out, "  int N = %lld;\n  const unsigned char *b = %s;\n", (long long)p->N, sides->b[0].text);
  for (int i = 1; i < ps->n; i++)
    muse_str_appendf(out, "  if (which == %d) N = %lld, b = %s;\n", i, (long long)ps->product[i].N, sides->b[i].text);
  const long long tiles_m = muse_ceil_div(p->M, t->bm);
  muse_str_appendf(
      out,
      "  const unsigned across = (N + %d) / %d, group = block / (%d * across), in = block %% (%d * across);\n"
      "  const unsigned height = min(%du, %lldu - group * %d);\n"
      "  const int m0 = (int)(group * %d + in %% height) * %d, n0 = (int)(in / height) * %d;\n",
      t->bn - 1, t->bn, GROUP, GROUP, GROUP, tiles_m, GROUP, GROUP, t->bm, t->bn);
  muse_str_appendf(
      out,
      "  int acc[Tile::MT][Tile::NT][4];\n"
      "  Tile::run(acc, %s + (long long)m0 * %lld, b + (long long)n0 * %lld, %lld - m0, N - n0, %lld, %lld, "
      "%lld, shared);\n",
      sides->a.text, (long long)sides->a.pitch, (long long)sides->b[0].pitch, (long long)p->M, (long long)sides->K,
      (long long)sides->a.pitch, (long long)sides->b[0].pitch);
  muse_str_appendf(out,
                   "  const int warp = threadIdx.x / 32, lane = threadIdx.x %% 32;\n"
                   "  const unsigned row0 = m0 + warp / Tile::WARPS_N * %d;\n"
                   "  const int column0 = n0 + warp %% Tile::WARPS_N * %d;\n"
                   "  int *strip = (int *)shared + warp * %d;\n"
                   "#pragma unroll\n  for (int s = 0; s < Tile::MT; s += %d) {\n"
                   "    Tile::put<%d>(strip, acc, s);\n    __syncwarp();\n",
                   t->wm, t->wn, 16 * strips * (t->wn + 8), strips, strips);
  for (int i = 0; i < ps->n; i++) {
    if (ps->n > 1) muse_str_appendf(out, "    if (which == %d) {\n", i);
    emit_epilogue(&ps->product[i], t, strips, ps->n > 1 ? 3 : 2);
    if (ps->n > 1) muse_str_append(out, "    }\n");
  }
  muse_str_append(out, "    __syncwarp();\n  }\n}\n\n");
}

static void emit_product(MuseCudaProducts *ps, bool trits) {
  MuseCudaEmitter *e = ps->e;
  Plan plan = {0};
  Sides sides = {0};
  if (trits) plan_trits(ps, &plan, &sides);
  else plan_bytes(ps, &plan, &sides);
  e->launches->workspace_bytes = plan.bytes;
  if (plan.n) {
    muse_str_append(e->out, muse_cuda_trits_prelude());
    muse_cuda_emit_ahead(e, plan.ahead, plan.n);
  }
  emit_tiles(ps, choose(ps, trits), &sides, trits);
}

static MuseStatus emit(MuseCudaEmitter *e, bool trits) {
  MuseCudaProducts products;
  muse_cuda_products_create(&products, e);
  const bool takes = muse_cuda_wgmma_takes(&products);
  if (takes && e->variant < MUSE_CUDA_WGMMA_VARIANTS) {
    muse_cuda_wgmma_emit(&products);
  } else {
    muse_str_append(e->out, muse_cuda_product_prelude());
    if (trits && products.product[0].M <= MUSE_CUDA_FEW_ROWS) {
      muse_cuda_emit_few_rows(&products);
    } else {
      muse_str_append(e->out, muse_cuda_int8_prelude());
      emit_product(&products, trits);
    }
  }
  if (takes) e->launches->n_variants = MUSE_CUDA_WGMMA_VARIANTS + 1;
  return muse_cuda_products_destroy(&products);
}

MuseStatus muse_emit_cuda_ternary_matmul(MuseCudaEmitter *e) { return emit(e, true); }
MuseStatus muse_emit_cuda_int8_matmul(MuseCudaEmitter *e) { return emit(e, false); }
