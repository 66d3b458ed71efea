// Skeleton "matmul": floating-point products with their epilogues. Products of few rows stream the weights; all others
// are cut into tiles (emit_cuda_gemm.h), and over K when there are few tiles: the parts of the sums then lie in the
// workspace, and a second launch adds them up in order.
#include "compiler/emit_cuda_matmul.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <string.h>

enum {
  FEW_ROWS = 8,
  FEWEST_ROWS = 2, // up to here FMA units keep up with memory
  LEAST_K = 256, // of a part
  MAX_PARTS = 32,
  SUM_BLOCK = 256,
  SUM_THREADS = 1024, // of a multiprocessor, at least, where there are places
  SHARED_PAD = 4, // floats behind a row of sums
};

typedef MuseCudaMatmul Matmul;

#define LINE(...) muse_cuda_line(&m->p->body, __VA_ARGS__)

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

void muse_cuda_matmul_open(Matmul *m, const char *text) {
  LINE("%s", text);
  m->p->body.depth++;
}
void muse_cuda_matmul_close(Matmul *m) {
  m->p->body.depth--;
  LINE("}");
}

int muse_cuda_matmul_vector(const Matmul *m) {
  return m->sums_parts ? muse_cuda_epilogue_vector(m->p, 4) : muse_cuda_epilogue_best_vector(m->p);
}

void muse_cuda_matmul_store(Matmul *m, int V) {
  if (m->sums_parts) {
    LINE("store((float *)(workspace + %lldll) + ((long long)part * %lld + row) * %lld + column, sums);",
         (long long)m->partials, (long long)m->p->M, (long long)m->pitch);
  } else {
    muse_cuda_epilogue_at_row(m->p);
    muse_cuda_epilogue_columns(m->p, V, "sums");
  }
}

void muse_cuda_matmul_prefetch(Matmul *m, int rows, int columns, const char *thread, int threads) {
  MuseCudaBody *body = &m->p->body;
  if (m->sums_parts) return;
  for (int i = 0; i < body->n; i++) {
    const MuseCudaValue *v = &body->value[i];
    if (v->value->def || v->ignored || v->level != MUSE_CUDA_PLACE || !muse_cuda_is_read_plainly(body, v->value) ||
        muse_type_elements(v->value->type) != m->p->M * m->p->N)
      continue;
    const int line = 128 / (int)muse_dtype_bytes(v->value->type.dtype), lines = (int)muse_ceil_div(columns, line);
    LINE("for (int n = %s; n < %d; n += %d) {", thread, rows * lines, threads);
    LINE("  const int row = m0 + n / %d, column = n0 + n %% %d * %d;", lines, lines, line);
    LINE("  if (row < %lld && column < %lld) gemm::prefetch(a%d + ((long long)row * %lld + column));",
         (long long)m->p->M, (long long)m->p->N, v->value->index, (long long)m->p->N);
    LINE("}");
  }
}

// ---- few rows ----

static bool is_few_rows(const MuseCudaProduct *p) {
  return p->M <= FEW_ROWS && !p->a_k_first && !p->b_k_first && !muse_dtype_is_trit(p->b_dtype);
}

// A team of warps has R rows of B; a block has 8 warps.
static void emit_few_rows(Matmul *m) {
  MuseCudaProduct *p = m->p;
  const int64_t warps = 8 * (int64_t)muse_cuda_common_sms(m->e->target);
  const int bytes = (int)muse_dtype_bytes(p->b_dtype), rows = p->N >= 8 * warps ? 4 : p->N >= 4 * warps ? 2 : 1;
  int V = 16 / bytes, team = p->N >= warps ? 1 : p->N >= warps / 2 ? 2 : p->N >= warps / 4 ? 4 : 8;
  while (p->K % V) V /= 2;
  while (team > 1 && 32 * V * team > p->K) team /= 2;
  const int columns = 8 / team * rows;
  muse_cuda_begin_launch(
      m->e, (MuseCudaLaunch){.grid_x = muse_ceil_div(p->N, columns), .grid_y = 1, .block = 256});
  LINE("__shared__ float of_team[%lld][%d][%d];", (long long)p->M, columns, team);
  LINE("const int warp = threadIdx.x / 32, n0 = (int)blockIdx.x * %d, first = warp / %d * %d;", columns, team, rows);
  muse_cuda_matmul_open(m, "{");
  LINE("const int rows = %lld - n0 - first;", (long long)p->N);
  LINE("float sum[%d][%lld];", rows, (long long)p->M);
  LINE("gemm::few_rows<%lld, %d, %d, %d>(sum, a%d, %lld, a%d + (long long)(rows > 0 ? n0 + first : 0) * %lld, %lld,",
       (long long)p->M, rows, team, V, p->a, (long long)p->a_pitch, p->b, (long long)p->b_pitch,
       (long long)p->b_pitch);
  LINE("               rows > 0 ? rows : 1, %lld);", (long long)p->K);
  LINE("if (threadIdx.x %% 32 == 0)");
  LINE("#pragma unroll");
  LINE("  for (int r = 0; r < %d; r++)", rows);
  LINE("#pragma unroll");
  LINE("    for (int i = 0; i < %lld; i++) of_team[i][first + r][warp %% %d] = sum[r][i];", (long long)p->M, team);
  muse_cuda_matmul_close(m);
  LINE("__syncthreads();");
  muse_cuda_epilogue_begin(p);
  LINE("const int row = threadIdx.x / %d, column = n0 + (int)threadIdx.x %% %d;", columns, columns);
  muse_cuda_matmul_open(m, "{");
  LINE("if (row >= %lld || column >= %lld) return;", (long long)p->M, (long long)p->N);
  LINE("float sums[1] = {of_team[row][threadIdx.x %% %d][0]};", columns);
  LINE("#pragma unroll");
  LINE("for (int w = 1; w < %d; w++) sums[0] += of_team[row][threadIdx.x %% %d][w];", team, columns);
  muse_cuda_epilogue_at_row(p);
  muse_cuda_epilogue_columns(p, 1, "sums");
  muse_cuda_matmul_close(m);
  muse_str_append(m->e->out, "}\n\n");
}

// ---- tiles ----

// Parts of K, so that about two blocks a multiprocessor are at work.
static void cut(Matmul *m) {
  const MuseCudaProduct *p = m->p;
  m->tiles_m = muse_ceil_div(p->M, m->tile.bm);
  m->tiles_n = muse_ceil_div(p->N, m->tile.bn);
  const int64_t tiles = m->tiles_m * m->tiles_n, blocks = 2 * (int64_t)muse_cuda_common_sms(m->e->target);
  int64_t parts = tiles >= blocks / 2 ? 1 : min_i64(blocks / tiles, p->K / LEAST_K);
  parts = max_i64(1, min_i64(parts, MAX_PARTS));
  m->part_k = muse_round_up(muse_ceil_div(p->K, parts), m->tile.bk);
  m->parts = muse_ceil_div(p->K, m->part_k);
  m->pitch = p->N;
  m->sums_parts = m->parts > 1;
  if (m->sums_parts) m->e->launches->workspace_bytes = m->parts * p->M * p->N * 4;
}

static void write_matrices(Matmul *m, MuseStr *text) {
  const MuseCudaProduct *p = m->p;
  char name[2][16];
  snprintf(name[0], sizeof name[0], "a%d", p->a);
  snprintf(name[1], sizeof name[1], "a%d", p->b);
  muse_cuda_side_matrix(&m->tile.a, name[0], p->a_k_first ? p->K : p->M, p->a_k_first ? p->M : p->K, text);
  muse_str_append(text, ", ");
  muse_cuda_side_matrix(&m->tile.b, name[1], p->b_k_first ? p->K : p->N, p->b_k_first ? p->N : p->K, text);
}

// Sums of the tile through shared memory, `band` rows at a time, V columns a thread.
static void write_epilogue(Matmul *m, int band, int V) {
  MuseCudaProduct *p = m->p;
  const int threads = muse_cuda_tile_threads(&m->tile), pitch = m->tile.bn + SHARED_PAD;
  LINE("float *const tile = (float *)gemm_shared;");
  if (!m->sums_parts) muse_cuda_epilogue_begin(p);
  if (band < m->tile.bm) {
    LINE("#pragma unroll 1");
    LINE("for (int band = 0; band < %d; band += %d) {", m->tile.bm, band);
  } else {
    LINE("{");
    LINE("  const int band = 0;");
  }
  p->body.depth++;
  LINE("__syncthreads();");
  LINE("g.each([&](int r, int c, float &x, float &y) {");
  if (band < m->tile.bm) LINE("  if (r >= band && r < band + %d)", band);
  LINE("  *(float2 *)(tile + (r - band) * %d + c) = make_float2(x, y);", pitch);
  LINE("});");
  LINE("__syncthreads();");
  LINE("#pragma unroll 2");
  LINE("for (int n = threadIdx.x; n < %d; n += %d) {", band * (m->tile.bn / V), threads);
  p->body.depth++;
  LINE("const int row = m0 + band + n / %d, column = n0 + n %% %d * %d;", m->tile.bn / V, m->tile.bn / V, V);
  LINE("if (row >= %lld || column >= %lld) continue;", (long long)p->M, (long long)p->N);
  LINE("float sums[%d];", V);
  LINE("load(sums, tile + n / %d * %d + n %% %d * %d);", m->tile.bn / V, pitch, m->tile.bn / V, V);
  muse_cuda_matmul_store(m, V);
  muse_cuda_matmul_close(m);
  muse_cuda_matmul_close(m);
}

static void emit_tiles(Matmul *m) {
  MuseCudaProduct *p = m->p;
  MuseStr text = {0};
  const int threads = muse_cuda_tile_threads(&m->tile);
  const bool split = m->parts > 1;
  const int V = muse_cuda_matmul_vector(m);
  const int band = m->tile.bm > 64 && m->e->target.arch != 80 && m->e->target.arch != 90 ? 64 : m->tile.bm;
  const int64_t epilogue = (int64_t)band * (m->tile.bn + SHARED_PAD) * 4;
  muse_cuda_begin_launch(
      m->e, (MuseCudaLaunch){.grid_x = m->tiles_m * m->tiles_n * m->parts,
                             .grid_y = 1,
                             .block = threads,
                             .shared_bytes = (int)max_i64(muse_cuda_tile_shared_bytes(&m->tile), epilogue)});
  muse_cuda_tile_type(&m->tile, &text);
  LINE("typedef %s G;", muse_str_text(&text));
  muse_str_clear(&text);
  if (split) {
    LINE("const int part = (int)(blockIdx.x %% %lldu);", (long long)m->parts);
    LINE("const int begin = part * %lld, end = begin + %lld < %lld ? begin + %lld : %lld;", (long long)m->part_k,
         (long long)m->part_k, (long long)p->K, (long long)m->part_k, (long long)p->K);
  } else {
    LINE("const int begin = 0, end = %lld;", (long long)p->K);
  }
  LINE("int m0, n0;");
  LINE("gemm::tile_at(blockIdx.x / %lldu, %lldu, %lldu, m0, n0);", (long long)m->parts, (long long)m->tiles_m,
       (long long)m->tiles_n);
  LINE("m0 *= %d, n0 *= %d;", m->tile.bm, m->tile.bn);
  muse_cuda_matmul_prefetch(m, m->tile.bm, m->tile.bn, "threadIdx.x", threads);
  LINE("G g;");
  LINE("g.clear();");
  write_matrices(m, &text);
  LINE("g.multiply(%s, m0, n0, begin, end, gemm_shared);", muse_str_text(&text));
  write_epilogue(m, band, V);
  muse_str_append(m->e->out, "}\n\n");
  muse_str_free(&text);
}

// Adds up the parts of the sums, V columns a thread.
static void emit_sum(Matmul *m) {
  MuseCudaProduct *p = m->p;
  int V = muse_cuda_epilogue_vector(p, 4);
  while (V > 1 && p->M * p->N / V < (int64_t)SUM_THREADS * muse_cuda_common_sms(m->e->target)) V /= 2;
  const int64_t groups = p->M * (p->N / V);
  muse_cuda_begin_launch(m->e,
                         (MuseCudaLaunch){.grid_x = muse_ceil_div(groups, SUM_BLOCK), .grid_y = 1, .block = SUM_BLOCK});
  LINE("const unsigned n = blockIdx.x * %du + threadIdx.x;", SUM_BLOCK);
  LINE("if (n >= %lldu) return;", (long long)groups);
  LINE("const int row = (int)(n / %lldu), column = (int)(n %% %lldu) * %d;", (long long)(p->N / V),
       (long long)(p->N / V), V);
  LINE("const float *from = (const float *)(workspace + %lldll) + (long long)row * %lld + column;",
       (long long)m->partials, (long long)m->pitch);
  LINE("float sums[%d];", V);
  LINE("load(sums, from);");
  LINE("#pragma unroll 8");
  LINE("for (int part = 1; part < %lld; part++) {", (long long)m->parts);
  p->body.depth++;
  LINE("float more[%d];", V);
  LINE("load(more, from + part * %lldll);", (long long)(p->M * m->pitch));
  LINE("#pragma unroll");
  LINE("for (int l = 0; l < %d; l++) sums[l] += more[l];", V);
  muse_cuda_matmul_close(m);
  muse_cuda_epilogue_begin(p);
  muse_cuda_epilogue_at_row(p);
  muse_cuda_epilogue_columns(p, V, "sums");
  muse_str_append(m->e->out, "}\n\n");
}

MuseStatus muse_emit_cuda_matmul(MuseCudaEmitter *e) {
  MuseCudaProducts products;
  muse_cuda_products_create(&products, e);
  MUSE_ASSERT(products.n == 1);
  MuseCudaProduct *p = &products.product[0];
  Matmul matmul = {.e = e, .p = p}, *m = &matmul;
  p->body.depth = 1;
  muse_str_append(e->out, muse_cuda_gemm_prelude());
  m->a = (MuseCudaSide){.dtype = p->a_dtype, .by_k = !p->a_k_first, .pitch = p->a_pitch};
  m->b = (MuseCudaSide){.dtype = p->b_dtype, .by_k = !p->b_k_first, .pitch = p->b_pitch};
  // Products that memory holds up keep 17 bits of an f32 operand beside a 16-bit one: it costs little.
  m->exact = p->M <= 64 || p->N <= 64;
  if (p->M <= FEWEST_ROWS && is_few_rows(p)) emit_few_rows(m);
  else if (muse_cuda_matmul_hopper(m) || muse_cuda_matmul_stream(m)) {
  } else if (is_few_rows(p)) emit_few_rows(m);
  else {
    muse_cuda_tile_choose(e->target, m->a, m->b, p->M, p->N, m->exact, &m->tile);
    cut(m);
    emit_tiles(m);
  }
  if (m->sums_parts) emit_sum(m);
  return muse_cuda_products_destroy(&products);
}
