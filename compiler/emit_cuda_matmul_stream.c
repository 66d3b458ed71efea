// Products with one side of at most 64 rows (the potential and its gradients) on sm_80 and newer: memory holds them up,
// so the large side is streamed past the small one (StreamTile of emit_cuda_gemm_stream.c). K is cut into parts, to
// which the small side fits, and a second launch adds them up.
#include "compiler/emit_cuda_matmul.h"
#include "ir/base/checked.h"

enum { ROWS = 32, LEAST_K = 128, LEAST_ROWS = 512, MOST_SMALL = 64 };

#define LINE(...) muse_cuda_line(&m->p->body, __VA_ARGS__)

static bool streams(const MuseCudaSide *s, int64_t rows) {
  return (s->dtype == MUSE_F32 || s->dtype == MUSE_BF16) && rows >= LEAST_ROWS &&
         s->pitch * muse_dtype_bytes(s->dtype) % 16 == 0;
}

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

bool muse_cuda_matmul_stream(MuseCudaMatmul *m) {
  const MuseCudaProduct *p = m->p;
  const bool turned = p->N > p->M; // the large side is B
  MuseCudaSide *s = turned ? &m->b : &m->a, *r = turned ? &m->a : &m->b;
  const int64_t rows = turned ? p->N : p->M, small = turned ? p->M : p->N, K = p->K;
  if (m->e->target.arch < 80 || small > MOST_SMALL || K < 256 || !streams(s, rows) ||
      (r->dtype != MUSE_F32 && r->dtype != MUSE_BF16))
    return false;
  const int planes = r->dtype != MUSE_F32 ? 1 : s->dtype == MUSE_BF16 ? 2 : 3, ni = (int)muse_ceil_div(small, 8);
  // Blocks of 16 warps fill a multiprocessor where shared memory is large; else of 8.
  const int64_t limit = muse_cuda_shared_limit(m->e->target), pad = s->dtype == MUSE_F32 ? 32 : 64;
  const int threads = limit > 128 * 1024 ? 512 : 256, depth = limit > 200 * 1024 ? 4 : 3;
  const int64_t blocks = muse_ceil_div(rows, threads / 32 * ROWS), ring = (int64_t)depth * threads * 64;
  const int64_t most = ((limit - ring) / (planes * ni * 8) - pad) / 2 / 64 * 64;
  // Parts for one wave of blocks.
  const int64_t want = max_i64(1, muse_cuda_common_sms(m->e->target) / blocks);
  if (most < 64) return false;
  m->part_k = min_i64(max_i64(muse_round_up(muse_ceil_div(K, want), 64), LEAST_K), most);
  m->parts = muse_ceil_div(K, m->part_k);
  m->pitch = turned ? muse_round_up(p->N, 8) : 8 * ni;
  m->e->launches->workspace_bytes = m->parts * p->M * m->pitch * 4;
  muse_str_append(m->e->out, muse_cuda_gemm_stream_prelude());
  muse_cuda_begin_launch(m->e, (MuseCudaLaunch){.grid_x = blocks * m->parts,
                                                .grid_y = 1,
                                                .block = threads,
                                                .min_blocks = 1,
                                                .shared_bytes =
                                                    (int)(planes * ni * 8 * (m->part_k * 2 + pad) + ring)});
  const char *types[2] = {s->dtype == MUSE_F32 ? "float" : "bf16", r->dtype == MUSE_F32 ? "float" : "bf16"};
  LINE("typedef gemm::StreamTile<%s, %s, %s, %s, %d, %d, %d, %lld, %d, %d> G;", types[0], s->by_k ? "true" : "false",
       types[1], r->by_k ? "true" : "false", muse_cuda_side_vector(r), planes, ni, (long long)m->part_k, threads,
       depth);
  LINE("const int part = (int)(blockIdx.x %% %lldu), begin = part * %lld, rest = %lld - begin;", (long long)m->parts,
       (long long)m->part_k, (long long)K);
  LINE("const int end = begin + (rest < %lld ? rest : %lld);", (long long)m->part_k, (long long)m->part_k);
  LINE("const int row = ((int)(blockIdx.x / %lldu) * %d + (int)threadIdx.x / 32) * G::ROWS;", (long long)m->parts,
       threads / 32);
  char name[2][16];
  MuseStr text[2] = {{0}, {0}};
  snprintf(name[0], sizeof name[0], "a%d", turned ? p->b : p->a);
  snprintf(name[1], sizeof name[1], "a%d", turned ? p->a : p->b);
  muse_cuda_side_matrix(s, name[0], s->by_k ? rows : K, s->by_k ? K : rows, &text[0]);
  muse_cuda_side_matrix(r, name[1], r->by_k ? small : K, r->by_k ? K : small, &text[1]);
  LINE("G g;");
  LINE("g.multiply(%s, row, %s, begin, end);", muse_str_text(&text[0]), muse_str_text(&text[1]));
  LINE("g.put<%s>((float *)workspace + (long long)part * %lld, %lld, row, %lld, %lld);", turned ? "true" : "false",
       (long long)(p->M * m->pitch), (long long)m->pitch, (long long)rows, (long long)small);
  muse_str_append(m->e->out, "}\n\n");
  muse_str_free(&text[0]);
  muse_str_free(&text[1]);
  m->partials = 0;
  m->sums_parts = true;
  return true;
}
