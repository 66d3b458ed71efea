// The products of the head on sm_90a, for bf16 and f16: a persistent grid whose blocks multiply by warpgroups, fed by
// the copy engine (emit_cuda_head_hopper_prelude.c). What the launches do, and where matrices lie: emit_cuda_head.c.
#include "compiler/emit_cuda_head.h"

#include "compiler/emit_cuda_gemm.h"
#include "compiler/emit_cuda_hopper.h"
#include "ir/base/checked.h"

#include <stdarg.h>
#include <string.h>

enum { BM = 128, BLOCK = 384, PLACES = 4, BOX = 64, BOX_BYTES = 8192, WIDE = 256 };

// One kind of product of a launch.
typedef struct Job {
  int64_t count;   // tiles
  bool ta, tb;     // see the prelude
  char tile[640];  // text: m0, n0, begin, end by `number`; "continue" leaves a tile out
  char a[96], b[96];
  char store[1024];  // what becomes of `sum`
} Job;

typedef struct Launch {
  MuseCudaHead *h;
  int columns;  // of a tile, BN
  int n_jobs;
  Job job[2];
  MuseCudaLaunch launch;
} Launch;

bool muse_cuda_head_suits_hopper(const MuseCudaHead *h) {
  const MuseCudaTarget target = h->e->target;
  if (target.arch != 90 || !target.specific || muse_dtype_bytes(h->dtype) != 2) return false;
  if (h->N <= 64 || h->V < WIDE || h->D % 8) return false;
  return !h->train || (h->r % 8 == 0 && h->d1 % 2 == 0 && h->d2 % 8 == 0);
}

// The width, a multiple of 8, that wastes least of `length`; narrow tiles read more for each product.
static int best_width(int64_t length) {
  int best = WIDE;
  for (int width = WIDE; width >= 128; width -= 8)
    if (muse_ceil_div(length, width) * (width + 24) < muse_ceil_div(length, best) * (best + 24)) best = width;
  return best;
}

// Parts of the sums of dx, so that the tiles fill the multiprocessors a whole number of times.
int64_t muse_cuda_head_hopper_parts(const MuseCudaHead *h, int64_t most) {
  const int64_t tiles = muse_ceil_div(h->chunk, BM) * muse_ceil_div(h->D, best_width(h->train ? h->pitch : h->D));
  const int sms = muse_cuda_common_sms(h->e->target);
  int64_t best = 1;
  double best_share = 0;
  for (int64_t parts = 1; parts <= most; parts++) {
    const int64_t n = tiles * parts;
    const double share = (double)n / (double)(muse_ceil_div(n, sms) * sms) - 0.004 * (double)parts;
    if (share > best_share) best = parts, best_share = share;
  }
  return best;
}

__attribute__((format(printf, 3, 4))) static void print(char *to, size_t size, const char *format, ...) {
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(to, size, format, args);
  va_end(args);
  MUSE_ASSERT(n >= 0 && n < (int)size);
}
#define PRINT(array, ...) print(array, sizeof(array), __VA_ARGS__)

// A matrix of the launch, read in boxes; its map gets the next number.
static void add_map(Launch *l, int buffer, int64_t offset, int64_t rows, int64_t columns) {
  MUSE_ASSERT(l->launch.n_maps < MUSE_CUDA_MAX_MAPS);
  l->launch.map[l->launch.n_maps++] = (MuseCudaTensorMap){.buffer = buffer,
                                                          .offset = offset,
                                                          .dtype = l->h->dtype,
                                                          .rows = rows,
                                                          .columns = columns,
                                                          .row_bytes = columns * 2,
                                                          .box_rows = BOX,
                                                          .box_columns = BOX,
                                                          .swizzle = 128};
}

static int workspace_of(const MuseCudaHead *h) { return h->e->kernel->n_operands + h->e->kernel->n_results; }

// The rows of the table at hand.
static void add_table(Launch *l) {
  const MuseCudaHead *h = l->h;
  if (h->train) add_map(l, workspace_of(h), h->table, h->group_rows, h->pitch);
  else add_map(l, h->operand[1], 0, h->V, h->D);
}

// Text of m0 and n0 by `number` in a grid of tiles_m x tiles_n.
static void place_tile(Launch *l, Job *job, int64_t tiles_m, int64_t tiles_n, const char *number, const char *rest) {
  PRINT(job->tile,
        "int m, n;\n      gemm::tile_at(%s, %lld, %lld, m, n);\n      const int m0 = m * %d, n0 = n * %d;\n      %s\n",
        number, (long long)tiles_m, (long long)tiles_n, BM, l->columns, rest);
}

static void emit(Launch *l, const char *when) {
  MuseCudaHead *h = l->h;
  MuseStr *out = h->e->out;
  const char *dtype = muse_dtype_name(h->dtype);
  const int bn = l->columns, boxes = (bn + BOX - 1) / BOX;
  int64_t total = 0;
  for (int i = 0; i < l->n_jobs; i++) total += l->job[i].count;
  muse_cuda_write_wgmma(out, h->dtype, bn);
  muse_str_appendf(out,
                   "#ifndef MUSE_MMA_%s_%d\n#define MUSE_MMA_%s_%d\nstruct Mma_%s_%d {\n"
                   "  template <int TA, int TB> FN void run(float (&d)[%d], u64 a, u64 b, int add) {\n"
                   "    wgmma_%s_%d<TA, TB>(d, a, b, add);\n  }\n};\n#endif\n",
                   dtype, bn, dtype, bn, dtype, bn, bn / 2, dtype, bn);
  const int64_t sms = muse_cuda_common_sms(h->e->target);
  l->launch.grid_x = total < sms ? total : sms;
  l->launch.grid_y = 1;
  l->launch.block = BLOCK;
  l->launch.min_blocks = 1;
  l->launch.shared_bytes = PLACES * (2 + boxes) * BOX_BYTES + 2 * PLACES * 8;
  muse_cuda_begin_launch(h->e, l->launch);
  muse_cuda_head_constants(h, out);
  muse_str_appendf(out, "  if (!(%s)) return;\n  Ring<%d> ring;\n  ring.start();\n", when, bn);
  for (int side = 0; side < 2; side++) {
    if (side == 0)
      muse_str_append(out,
                      "  if (threadIdx.x < 128) {\n    fewer_registers<40>();\n    if (threadIdx.x > 0) return;\n");
    else muse_str_appendf(out, "  } else {\n    more_registers<232>();\n    float sum[%d];\n", bn / 2);
    muse_str_appendf(out, "#pragma unroll 1\n    for (int t = blockIdx.x; t < %lld; t += gridDim.x) {\n",
                     (long long)total);
    int64_t first = 0;
    for (int i = 0; i < l->n_jobs; i++) {
      const Job *job = &l->job[i];
      const char *kind = job->ta ? job->tb ? "true, true" : "true, false" : job->tb ? "false, true" : "false, false";
      muse_str_appendf(out, "      if (t >= %lld && t < %lld) {\n      const int number = t - %lld;\n      %s",
                       (long long)first, (long long)(first + job->count), (long long)first, job->tile);
      if (side == 0)
        muse_str_appendf(out, "      ring.load<%s>(Source{%s}, Source{%s}, m0, n0, begin, end);\n", kind, job->a,
                         job->b);
      else
        muse_str_appendf(out, "      ring.multiply<Mma_%s_%d, %s>(sum, begin, end);\n      %s\n", dtype, bn, kind,
                         job->store);
      muse_str_append(out, "      }\n");
      first += job->count;
    }
    muse_str_append(out, "    }\n");
  }
  muse_str_append(out, "  }\n}\n\n");
}

void muse_cuda_head_hopper_build(MuseCudaHead *h) {
  Launch l = {.h = h, .columns = WIDE, .n_jobs = 1};
  Job *job = &l.job[0];
  const int64_t tm = muse_ceil_div(h->group * h->d1, BM), tn = muse_ceil_div(h->v2 * h->d2, WIDE);
  add_map(&l, workspace_of(h), h->turned1, h->used * h->d1, h->r);
  add_map(&l, workspace_of(h), h->turned2, h->v2 * h->d2, h->r);
  job->count = tm * tn;
  place_tile(&l, job, tm, tn, "number", "const int begin = 0, end = S::R;\n      if (m0 >= n1 * S::D1) continue;");
  PRINT(job->a, "&map0, 0, i1 * S::D1");
  PRINT(job->b, "&map1, 0, 0");
  PRINT(job->store,
        "store_eights<T, %d>(sum, m0, n0, n1 * S::D1, S::V2 * S::D2, [&](int row, int column, uint4 p) {\n"
        "        const long long v = row / S::D1 * S::V2 + column / S::D2;\n"
        "        *(uint4 *)(table + v * (S::D1 * S::D2) + row %% S::D1 * S::D2 + column %% S::D2) = p;\n      });",
        WIDE);
  emit(&l, "true");
}

void muse_cuda_head_hopper_logits(MuseCudaHead *h) {
  Launch l = {.h = h, .columns = WIDE, .n_jobs = 1};
  Job *job = &l.job[0];
  const int64_t tm = muse_ceil_div(h->chunk, BM), tn = h->group_columns / WIDE;
  add_map(&l, h->operand[0], 0, h->N, h->D);
  add_table(&l);
  job->count = tm * tn;
  place_tile(&l, job, tm, tn, "number", "const int begin = 0, end = H::D;\n      if (m0 >= h.rows) continue;");
  PRINT(job->a, "&map0, 0, h.first");
  PRINT(job->b, "&map1, 0, 0");
  PRINT(job->store, "store_logits<H, T, %s, %d>(h, sum, m0, n0, a%d, %s, stats);", h->grad ? "true" : "false", WIDE,
        h->targets, h->grad ? "logits" : "(T *)0");
  emit(&l, "h.makes_logits()");
}

static void dx_job(MuseCudaHead *h, Launch *l) {
  Job *job = &l->job[l->n_jobs++];
  const int64_t tm = muse_ceil_div(h->chunk, BM), tn = muse_ceil_div(h->D, l->columns);
  char number[48], rest[320];
  job->count = tm * tn * h->parts;
  job->tb = true;
  PRINT(number, "number %% %lld", (long long)(tm * tn));
  PRINT(rest,
        "const int part = number / %lld, begin = part * %lld, end = min(begin + %lld, H::GP);\n"
        "      if (m0 >= h.rows) continue;",
        (long long)(tm * tn), (long long)h->part_columns, (long long)h->part_columns);
  place_tile(l, job, tm, tn, number, rest);
  PRINT(job->a, "&map0, h.group * H::GP, 0");
  PRINT(job->b, "&map1, 0, 0");
  PRINT(job->store,
        "float *to = (float *)(workspace + %lldll) + (long long)part * (H::CHUNK * (long long)H::D);\n"
        "      store_pairs<%d>(sum, m0, n0, h.rows, H::D, [&](int row, int column, float x, float y) {\n"
        "        put_pair(to + (long long)row * H::D + column, x, y, h.group > 0);\n      });",
        (long long)h->dx_parts, l->columns);
}

static void table_job(MuseCudaHead *h, Launch *l) {
  Job *job = &l->job[l->n_jobs++];
  const int64_t tm = muse_ceil_div(h->group_rows, BM), tn = muse_ceil_div(h->train ? h->pitch : h->D, l->columns);
  job->count = tm * tn;
  job->ta = job->tb = true;
  place_tile(l, job, tm, tn, "number",
             h->train ? "const int begin = 0, end = h.rows;\n      if (m0 >= n1 * S::V2) continue;"
                      : "const int begin = 0, end = h.rows;");
  PRINT(job->a, "&map0, h.group * H::GP, 0");
  PRINT(job->b, "&map2, 0, h.first");
  if (h->train)
    PRINT(job->store,
          "T *to = (T *)(workspace + %lldll);\n"
          "      store_eights<T, %d>(sum, m0, n0, n1 * S::V2, S::D1 * S::D2, [&](int row, int column, uint4 p) {\n"
          "        const long long at = row / S::V2 * S::D1 + column / S::D2;\n"
          "        *(uint4 *)(to + at * (S::V2 * S::D2) + row %% S::V2 * S::D2 + column %% S::D2) = p;\n      });",
          (long long)h->gradient, l->columns);
  else
    PRINT(job->store,
          "store_pairs<%d>(sum, m0, n0, H::V, H::D, [&](int row, int column, float x, float y) {\n"
          "        put_pair(r%d + (long long)row * H::D + column, d * x, d * y, !h.start);\n      });",
          l->columns, h->result[2]);
}

void muse_cuda_head_hopper_products(MuseCudaHead *h) {
  Launch l = {.h = h, .columns = best_width(h->train ? h->pitch : h->D)};
  add_map(&l, workspace_of(h), h->logits, h->chunk, h->columns);
  add_table(&l);
  add_map(&l, h->operand[0], 0, h->N, h->D);
  if (h->dx) dx_job(h, &l);
  if (h->d_table) table_job(h, &l);
  emit(&l, "h.makes_products()");
}

void muse_cuda_head_hopper_contract(MuseCudaHead *h) {
  Launch l = {.h = h, .columns = WIDE};
  const int64_t k1 = h->v2 * h->d2, wide1 = h->group * h->d1, wide2 = h->v2 * h->d2, tm = muse_ceil_div(h->r, BM);
  char number[48], rest[320];
  add_map(&l, workspace_of(h), h->turned2, h->v2 * h->d2, h->r);
  add_map(&l, workspace_of(h), h->turned1, h->used * h->d1, h->r);
  add_map(&l, workspace_of(h), h->gradient, wide1, wide2);
  if (h->result[2] >= 0 || h->result[4] >= 0) {
    Job *job = &l.job[l.n_jobs++];
    const int64_t tn = muse_ceil_div(wide1, WIDE);
    job->count = tm * tn * h->core_parts;
    job->ta = true;
    PRINT(number, "number %% %lld", (long long)(tm * tn));
    PRINT(rest,
          "const int part = number / %lld, begin = part * %lld, end = min(begin + %lld, %lld);\n"
          "      if (n0 >= n1 * S::D1) continue;",
          (long long)(tm * tn), (long long)h->core_part_k, (long long)h->core_part_k, (long long)k1);
    place_tile(&l, job, tm, tn, number, rest);
    PRINT(job->a, "&map0, 0, 0");
    PRINT(job->b, "&map2, 0, 0");
    PRINT(job->store,
          "float *to = (float *)(workspace + %lldll) + (long long)part * (S::R * %lldll) + i1 * S::D1;\n"
          "      store_pairs<%d>(sum, m0, n0, S::R, n1 * S::D1, [&](int row, int column, float x, float y) {\n"
          "        put_pair(to + row * %lldll + column, x, y, !h.start);\n      });",
          (long long)h->sum1, (long long)(h->used * h->d1), WIDE, (long long)(h->used * h->d1));
  }
  if (h->result[3] >= 0) {
    Job *job = &l.job[l.n_jobs++];
    const int64_t tn = muse_ceil_div(wide2, WIDE);
    job->count = tm * tn;
    job->ta = job->tb = true;
    place_tile(&l, job, tm, tn, "number", "const int begin = 0, end = n1 * S::D1;");
    PRINT(job->a, "&map1, 0, i1 * S::D1");
    PRINT(job->b, "&map2, 0, 0");
    PRINT(job->store,
          "float *to = (float *)(workspace + %lldll);\n"
          "      store_pairs<%d>(sum, m0, n0, S::R, %lld, [&](int row, int column, float x, float y) {\n"
          "        put_pair(to + row * %lldll + column, x, y, !h.start || h.group > 0);\n      });",
          (long long)h->sum2, WIDE, (long long)wide2, (long long)wide2);
  }
  emit(&l, "h.makes_products()");
}
