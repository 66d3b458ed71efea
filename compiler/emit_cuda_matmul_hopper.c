// Large floating-point products on sm_90a (HopperTile of emit_cuda_gemm_hopper.c): a persistent kernel on tensor maps.
// Operands that the copy engine cannot read as they lie (f32, trits, rows that are no multiple of 16 bytes) are first
// written to the workspace as bf16: f32 in one plane, or two, when the precision rule allows rounding, else in three.
#include "compiler/emit_cuda_hopper.h"
#include "compiler/emit_cuda_matmul.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <math.h>

enum {
  BM = 128,
  BK = 64,
  BLOCK = 384,
  CONVERT_BLOCK = 256,
  SOON = 512, // K
  SHARED_STAGES = 196608, // and the rest: sums, barriers, alignment
  SHARED_REST = 8 * 4096 + 256 + 1024,
};

typedef struct Hopper {
  MuseCudaMatmul *m;
  int bn, stages;
  int64_t clusters; // two blocks each
  bool in_workspace[2];
  int64_t at[2]; // byte offset in the workspace
} Hopper;

#define LINE(...) muse_cuda_line(&m->p->body, __VA_ARGS__)

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- the cut ----

static int products_of_planes(int a, int b) { return a * b == 9 ? 6 : a * b; } // of i and j, i + j < planes

// Microseconds on an H200, roughly: steps, epilogues, partial sums.
static double time_of(const MuseCudaMatmul *m, int64_t clusters, int bn, int64_t parts) {
  const MuseCudaProduct *p = m->p;
  const double step = (bn == 256 ? 0.62 : bn == 128 ? 0.36 : 0.3) * products_of_planes(m->a.planes, m->b.planes);
  const int64_t items = muse_ceil_div(p->M, 2 * BM) * muse_ceil_div(p->N, bn) * parts;
  const double waves = (double)muse_ceil_div(items, clusters);
  const double each = (double)muse_ceil_div(muse_ceil_div(p->K, parts), BK) * step + bn / 64.0;
  return waves * each + (parts > 1 ? 5 + (double)(parts * p->M * p->N) * 8 / 3.5e6 : 0);
}

static void cut(Hopper *h) {
  MuseCudaMatmul *m = h->m;
  const MuseCudaProduct *p = m->p;
  const bool planes = m->a.planes > 1 || m->b.planes > 1;
  double best = INFINITY;
  h->clusters = muse_cuda_common_sms(m->e->target) / 2;
  const int most = p->N <= 64 ? 64 : planes ? 128 : 256;
  for (int bn = most == 64 ? 64 : 128; bn <= most; bn *= 2)
    for (int64_t parts = 1; parts <= 8 && (parts == 1 || p->K / parts >= 512); parts++) {
      double time = time_of(m, h->clusters, bn, parts);
      if (time >= best) continue;
      best = time;
      h->bn = bn;
      m->parts = parts;
    }
  m->part_k = muse_round_up(muse_ceil_div(p->K, m->parts), BK);
  m->parts = muse_ceil_div(p->K, m->part_k);
  m->tiles_m = muse_ceil_div(p->M, 2 * BM);
  m->tiles_n = muse_ceil_div(p->N, h->bn);
  h->stages = SHARED_STAGES / ((m->a.planes * BM + m->b.planes * h->bn) * 128);
  h->clusters = min_i64(h->clusters, m->tiles_m * m->tiles_n * m->parts);
}

// ---- operands ----

static int64_t rows_of(const MuseCudaMatmul *m, int side) {
  const MuseCudaProduct *p = m->p;
  return side == 0 ? (p->a_k_first ? p->K : p->M) : (p->b_k_first ? p->K : p->N);
}
static int64_t columns_of(const MuseCudaMatmul *m, int side) {
  const MuseCudaProduct *p = m->p;
  return side == 0 ? (p->a_k_first ? p->M : p->K) : (p->b_k_first ? p->N : p->K);
}
static const MuseCudaSide *side_of(const MuseCudaMatmul *m, int side) { return side ? &m->b : &m->a; }

static void emit_conversion(Hopper *h, int side) {
  MuseCudaMatmul *m = h->m;
  const MuseCudaSide *s = side_of(m, side);
  const int64_t rows = rows_of(m, side), columns = columns_of(m, side), pitch = muse_round_up(columns, 8);
  char name[16];
  MuseStr text = {0};
  snprintf(name, sizeof name, "a%d", side ? m->p->b : m->p->a);
  muse_cuda_side_matrix(s, name, rows, columns, &text);
  muse_cuda_begin_launch(m->e, (MuseCudaLaunch){.grid_x = muse_ceil_div(rows * (pitch / 8), CONVERT_BLOCK),
                                                .grid_y = 1,
                                                .block = CONVERT_BLOCK});
  LINE("gemm::write_planes<%d, %d>(%s, (bf16 *)(workspace + %lldll), %lld,", s->planes, muse_cuda_side_vector(s),
       muse_str_text(&text), (long long)h->at[side], (long long)pitch);
  LINE("                         (long long)blockIdx.x * %d + threadIdx.x);", CONVERT_BLOCK);
  muse_str_append(m->e->out, "}\n\n");
  muse_str_free(&text);
}

// One map a plane; boxes of 64 columns by 64 rows, or as many rows as one load takes.
static void add_maps(Hopper *h, MuseCudaLaunch *launch, int side) {
  MuseCudaMatmul *m = h->m;
  const MuseCudaSide *s = side_of(m, side);
  const int64_t rows = rows_of(m, side), columns = columns_of(m, side);
  const int64_t pitch = h->in_workspace[side] ? muse_round_up(columns, 8) : s->pitch;
  const int buffer = h->in_workspace[side] ? m->e->kernel->n_operands + m->e->kernel->n_results
                                           : (side ? m->p->b : m->p->a);
  for (int p = 0; p < s->planes; p++)
    launch->map[launch->n_maps++] = (MuseCudaTensorMap){.buffer = buffer,
                                                        .offset = h->at[side] + p * rows * pitch * 2,
                                                        .dtype = MUSE_BF16,
                                                        .rows = rows,
                                                        .columns = columns,
                                                        .row_bytes = pitch * 2,
                                                        .box_rows = !s->by_k ? 64 : side ? h->bn / 2 : BM,
                                                        .box_columns = 64,
                                                        .swizzle = 128};
}

// ---- the kernel ----

static void write_place(Hopper *h, const char *item) {
  MuseCudaMatmul *m = h->m;
  LINE("int m0, n0;");
  LINE("gemm::tile_at((%s) / %lldu, %lldu, %lldu, m0, n0);", item, (long long)m->parts, (long long)m->tiles_m,
       (long long)m->tiles_n);
  LINE("m0 = (2 * m0 + (int)rank) * %d, n0 *= %d;", BM, h->bn);
}

static void write_item(Hopper *h) {
  MuseCudaMatmul *m = h->m;
  const long long parts = m->parts, K = m->p->K;
  write_place(h, "item");
  if (parts > 1) {
    LINE("const int part = (int)(item %% %lldu), begin = part * %lld, rest = %lld - begin;", parts,
         (long long)m->part_k, K);
    LINE("const int steps = ((rest < %lld ? rest : %lld) + %d) / %d;", (long long)m->part_k, (long long)m->part_k,
         BK - 1, BK);
  } else {
    LINE("const int begin = 0, steps = %lld;", (long long)muse_ceil_div(K, BK));
  }
}

// Operands of the epilogue come from memory while the product is computed, or, if that is over soon, the one before.
static void write_prefetch(Hopper *h, const char *item) {
  MuseCudaMatmul *m = h->m;
  LINE("if (%s < items) {", item);
  m->p->body.depth++;
  write_place(h, item);
  muse_cuda_matmul_prefetch(m, BM, h->bn, "(int)threadIdx.x - 128", 256);
  LINE("(void)m0, (void)n0;");
  muse_cuda_matmul_close(m);
}

static void write_consumer(Hopper *h) {
  MuseCudaMatmul *m = h->m;
  MuseCudaProduct *p = m->p;
  const bool soon = p->K <= SOON;
  const int V = muse_cuda_matmul_vector(m);
  LINE("float *const warp_sums = G::warp_sums();");
  if (!m->sums_parts) muse_cuda_epilogue_begin(p);
  if (soon) write_prefetch(h, "cluster");
  LINE("#pragma unroll 1");
  muse_cuda_matmul_open(m, "for (unsigned item = cluster; item < items; item += clusters) {");
  write_item(h);
  LINE("(void)begin;");
  write_prefetch(h, soon ? "item + clusters" : "item");
  LINE("float sum[%d];", h->bn / 2);
  LINE("g.multiply(sum, steps);");
  LINE("#pragma unroll 1");
  muse_cuda_matmul_open(m, "for (int chunk = 0; chunk < G::BN_CHUNKS; chunk++) {");
  LINE("if (n0 + chunk * 64 >= %lld) break;", (long long)p->N);
  LINE("g.stage_sums(sum, chunk, warp_sums);");
  LINE("#pragma unroll 2");
  LINE("for (int n = threadIdx.x %% 32; n < %d; n += 32) {", 16 * 64 / V);
  p->body.depth++;
  LINE("const int r = n / %d, c = n %% %d * %d;", 64 / V, 64 / V, V);
  LINE("const int row = m0 + ((int)threadIdx.x / 32 - 4) * 16 + r, column = n0 + chunk * 64 + c;");
  LINE("if (row >= %lld || column >= %lld) continue;", (long long)p->M, (long long)p->N);
  LINE("float sums[%d];", V);
  LINE("load(sums, warp_sums + G::place(r, c));");
  muse_cuda_matmul_store(m, V);
  muse_cuda_matmul_close(m);
  muse_cuda_matmul_close(m);
  muse_cuda_matmul_close(m);
}

static void emit_product(Hopper *h) {
  MuseCudaMatmul *m = h->m;
  MuseCudaLaunch launch = {
      .grid_x = 2 * h->clusters,
      .grid_y = 1,
      .block = BLOCK,
      .min_blocks = 1,
      .cluster = 2,
      .shared_bytes = h->stages * (m->a.planes * BM + m->b.planes * h->bn) * 128 + SHARED_REST,
  };
  add_maps(h, &launch, 0);
  add_maps(h, &launch, 1);
  muse_cuda_begin_launch(m->e, launch);
  LINE("typedef gemm::HopperTile<%d, %s, %s, %d, %d, %d> G;", h->bn, m->a.by_k ? "true" : "false",
       m->b.by_k ? "true" : "false", m->a.planes, m->b.planes, h->stages);
  LINE("G g;");
  LINE("g.start();");
  LINE("const unsigned rank = cluster_rank(), cluster = blockIdx.x / 2, clusters = %lld, items = %lldu;",
       (long long)h->clusters, (long long)(m->tiles_m * m->tiles_n * m->parts));
  muse_cuda_matmul_open(m, "if (threadIdx.x < 128) {");
  LINE("fewer_registers<40>();");
  muse_cuda_matmul_open(m, "if (threadIdx.x == 0) {");
  for (int side = 0, map = 0; side < 2; side++) {
    MuseStr list = {0};
    for (int p = 0; p < side_of(m, side)->planes; p++) muse_str_appendf(&list, "%s&map%d", p ? ", " : "", map++);
    LINE("const TensorMap *const of_%c[] = {%s};", side ? 'b' : 'a', muse_str_text(&list));
    muse_str_free(&list);
  }
  LINE("#pragma unroll 1");
  muse_cuda_matmul_open(m, "for (unsigned item = cluster; item < items; item += clusters) {");
  write_item(h);
  LINE("g.load(of_a, of_b, m0, n0, begin, steps);");
  muse_cuda_matmul_close(m);
  muse_cuda_matmul_close(m);
  m->p->body.depth--;
  muse_cuda_matmul_open(m, "} else {");
  LINE("more_registers<232>();");
  write_consumer(h);
  muse_cuda_matmul_close(m);
  LINE("g.finish();");
  muse_str_append(m->e->out, "}\n\n");
}

static void write_preludes(Hopper *h) {
  MuseStr *out = h->m->e->out;
  muse_str_append(out, muse_cuda_hopper_prelude());
  muse_cuda_write_wgmma(out, MUSE_BF16, h->bn);
  muse_str_append(out, muse_cuda_gemm_hopper_prelude());
  muse_str_appendf(out,
                   "#ifndef MUSE_GEMM_WGMMA_%d\n#define MUSE_GEMM_WGMMA_%d\n"
                   "template <> struct gemm::Wgmma<%d> {\n"
                   "  template <int A, int B> static METHOD void add(float (&d)[%d], u64 a, u64 b, int more) {\n"
                   "    wgmma_bf16_%d<A, B>(d, a, b, more);\n  }\n};\n#endif\n",
                   h->bn, h->bn, h->bn, h->bn / 2, h->bn);
}

bool muse_cuda_matmul_hopper(MuseCudaMatmul *m) {
  const MuseCudaProduct *p = m->p;
  // Few columns: memory holds that up, and the engine reads the rows of bf16 faster than threads do.
  const bool narrow = p->N <= 64 && p->M >= 1024 && m->a.dtype == MUSE_BF16 && m->a.by_k && m->b.by_k &&
                      !muse_dtype_is_trit(m->b.dtype) && m->a.pitch % 8 == 0;
  if (m->e->target.arch != 90 || !m->e->target.specific || p->M <= 64 || (p->N <= 64 && !narrow) ||
      (double)p->M * (double)p->N * (double)p->K < 1 << 27)
    return false;
  Hopper hopper = {.m = m}, *h = &hopper;
  const bool half = m->a.dtype == MUSE_BF16 || m->b.dtype == MUSE_BF16;
  m->a.planes = m->a.dtype == MUSE_F32 && (!half || m->exact) ? (half ? 2 : 3) : 1;
  m->b.planes = m->b.dtype == MUSE_F32 && (!half || m->exact) ? (half ? 2 : 3) : 1;
  cut(h);
  int64_t bytes = 0;
  for (int side = 0; side < 2; side++) {
    const MuseCudaSide *s = side_of(m, side);
    h->in_workspace[side] = s->dtype != MUSE_BF16 || s->pitch % 8 != 0;
    if (!h->in_workspace[side]) continue;
    h->at[side] = bytes;
    bytes += muse_round_up(s->planes * rows_of(m, side) * muse_round_up(columns_of(m, side), 8) * 2, 256);
  }
  m->partials = bytes;
  m->pitch = p->N;
  m->sums_parts = m->parts > 1;
  if (m->sums_parts) bytes += m->parts * p->M * p->N * 4;
  m->e->launches->workspace_bytes = bytes;
  write_preludes(h);
  for (int side = 0; side < 2; side++)
    if (h->in_workspace[side]) emit_conversion(h, side);
  emit_product(h);
  return true;
}
