// Products of few rows with trits, as decoding does them: the weights stream through once, packed, and are the bound.
// The text is FewRows (emit_cuda_few_rows_prelude.c); here it is cut and its epilogue written.
#include "compiler/emit_cuda_int8.h"

#include "ir/base/checked.h"

enum {
  STAGED_BYTES = 44 << 10, // of x in shared memory at a time
  ENOUGH_WARPS = 900,
  MAX_WARPS = 8, // that share rows
  DEPTH = 4,
};

typedef struct Cut {
  int groups, warps, depth; // of FewRows
  int64_t blocks, staged;   // blocks of trits in a row of the weights, and how many of them x is staged for at a time
  int64_t stride;           // of x in shared memory, in bytes
} Cut;

static Cut cut_of(const MuseCudaProduct *p, int groups, int warps, int depth) {
  const int64_t trits = p->b_dtype == MUSE_T5 ? 320 : 256;
  Cut c = {.groups = groups, .warps = warps, .depth = depth, .blocks = p->b_pitch / 64};
  c.staged = STAGED_BYTES / (p->M * trits) / warps * warps;
  if (c.staged < warps) c.staged = warps;
  if (c.staged > c.blocks) c.staged = c.blocks;
  c.stride = c.staged * trits;
  if (c.stride % 128 == 0) c.stride += 64;
  return c;
}

// All warps are on the GPU at once and stream their part from its start to its end, DEPTH blocks ahead. Enough of them
// for the bandwidth: warps share rows where the matrix is small, evenly and in whole turns of DEPTH. Several groups of
// a block share x. (On an H200 more than four blocks ahead were slower: the first warps of a multiprocessor then take
// all of the bandwidth, and the others start late.)
static void choose(const MuseCudaProducts *ps, int *out_groups, int *out_warps, int *out_depth) {
  int64_t tiles = 0, blocks = 0;
  for (int i = 0; i < ps->n; i++) {
    tiles += muse_ceil_div(ps->product[i].N, 16);
    if (ps->product[i].b_pitch / 64 > blocks) blocks = ps->product[i].b_pitch / 64;
  }
  double least = 0;
  *out_warps = 0;
  for (int w = 1; w <= MAX_WARPS && w <= blocks; w++) {
    if (tiles * w < ENOUGH_WARPS && w < MAX_WARPS && w < blocks) continue;
    const int64_t turns = muse_ceil_div(blocks, w);
    const double cost = (double)(turns * w) / (double)blocks + (turns > DEPTH && turns % DEPTH ? 0.2 : 0) + 0.05 * w;
    if (*out_warps && cost >= least) continue;
    *out_warps = w;
    least = cost;
  }
  *out_groups = *out_warps > 1 ? 4 / *out_warps + (*out_warps > 4) : ps->product[0].M > 4 ? 8 : 4;
  const int64_t turns = muse_ceil_div(blocks, *out_warps);
  *out_depth = turns < DEPTH ? (int)turns : DEPTH;
}

static void emit_epilogue(MuseCudaProduct *p, const Cut *c, int depth) {
  MuseCudaBody *b = &p->body;
  b->depth = depth;
  muse_cuda_epilogue_begin(p);
  muse_cuda_line(b, "for (int i = threadIdx.x; i < %d; i += %d) {", 16 * c->groups * (int)p->M,
                 32 * c->groups * c->warps);
  b->depth++;
  muse_cuda_line(b, "const unsigned row = i / %d;", 16 * c->groups);
  muse_cuda_line(b, "const int n = i %% %d, column = n0 + n;", 16 * c->groups);
  muse_cuda_line(b, "if (column >= %lld) continue;", (long long)p->N);
  muse_cuda_epilogue_at_row(p);
  muse_cuda_line(b, "const int sums[1] = {Rows::total((const int *)shared, row_sums, n, row)};");
  muse_cuda_epilogue_columns(p, 1, "sums");
  b->depth--;
  muse_cuda_line(b, "}");
  b->depth = 0;
}

// The part of the block's work that belongs to one anchor.
static void emit_anchor(MuseCudaProducts *ps, int index, const Cut *c) {
  MuseCudaProduct *p = &ps->product[index];
  MuseStr *out = ps->e->out;
  const int trits = p->b_dtype == MUSE_T5 ? 320 : 256;
  muse_str_appendf(out,
                   "    typedef FewRows<%d, %d, %d, %s> Rows;\n    const int n0 = (int)block * %d;\n"
                   "    Rows::Sums acc = {};\n    Rows::Trits trits;\n    Rows::Pointers from;\n"
                   "    Rows::begin(from, (const unsigned char *)a%d + (long long)n0 * %lld, %lld - n0, %lld);\n",
                   c->groups, c->warps, c->depth, p->b_dtype == MUSE_T5 ? "true" : "false", 16 * c->groups, p->b,
                   (long long)p->b_pitch, (long long)p->N, (long long)p->b_pitch);
  const bool once = c->staged == c->blocks;
  if (once)
    muse_str_appendf(out, "    {\n      const int first = 0, n = %lld;\n", (long long)c->blocks);
  else
    muse_str_appendf(out,
                     "#pragma unroll 1\n    for (int first = 0; first < %lld; first += %lld) {\n"
                     "      const int n = min(%lld, %lld - first);\n",
                     (long long)c->blocks, (long long)c->staged, (long long)c->staged, (long long)c->blocks);
  muse_str_append(out, "      Rows::ahead(trits, from, first, n);\n");
  if (!once) muse_str_append(out, "      __syncthreads();\n");
  muse_str_appendf(out,
                   "      Rows::stage<%s>(shared, a%d, %lld, %lld, first * %d, n * %d, %lld);\n"
                   "      copy_wait<0>();\n      __syncthreads();\n"
                   "      Rows::add_rows(row_sums, shared, %lld, n * %d, %lld);\n"
                   "      Rows::run(acc, trits, from, first, n, shared, %lld, %lld);\n    }\n%s"
                   "    __syncthreads();\n    Rows::put((int *)shared, acc);\n",
                   p->K % 16 == 0 ? "true" : "false", p->a, (long long)p->M, (long long)p->K, trits, trits,
                   (long long)c->stride, (long long)p->M, trits, (long long)c->stride, (long long)p->M,
                   (long long)c->stride, ps->e->launches->overlaps ? "    grid_start_next();\n" : "");
  emit_epilogue(p, c, 2);
}

// While the kernel that makes x may still run, the first trits of the block are brought near; then it waits. The next
// launch is let in behind the sums only: on an H200 its blocks, when there were many, slowed these down by a third.
static void emit_prefetch(const MuseCudaProducts *ps, const Cut *cut) {
  MuseStr *out = ps->e->out;
  const MuseCudaProduct *p = ps->product;
  muse_str_appendf(out,
                   "  {\n    const unsigned char *b = (const unsigned char *)a%d;\n"
                   "    int rows = %lld, pitch = %lld, n = %lld;\n",
                   p->b, (long long)p->N, (long long)p->b_pitch, (long long)cut->staged);
  for (int i = 1; i < ps->n; i++)
    muse_str_appendf(out, "    if (which == %d) b = (const unsigned char *)a%d, rows = %lld, pitch = %lld, n = %lld;\n",
                     i, p[i].b, (long long)p[i].N, (long long)p[i].b_pitch, (long long)cut[i].staged);
  muse_str_appendf(out,
                   "    FewRows<%d, %d, %d, %s>::prefetch(b, (int)block * %d, rows, pitch, n);\n  }\n  grid_wait();\n",
                   cut->groups, cut->warps, cut->depth, p->b_dtype == MUSE_T5 ? "true" : "false", 16 * cut->groups);
}

void muse_cuda_emit_few_rows(MuseCudaProducts *ps) {
  MuseCudaEmitter *e = ps->e;
  Cut cut[MUSE_MAX_ANCHORS];
  int groups, warps, depth;
  choose(ps, &groups, &warps, &depth);
  int64_t n_blocks[MUSE_MAX_ANCHORS], sum = 0, shared = 0;
  for (int i = 0; i < ps->n; i++) {
    const MuseCudaProduct *p = &ps->product[i];
    cut[i] = cut_of(p, groups, warps, depth);
    sum += n_blocks[i] = muse_ceil_div(p->N, 16 * cut[i].groups);
    int64_t bytes = p->M * cut[i].stride, sums = cut[i].warps * cut[i].groups * 512;
    if (bytes > shared) shared = bytes;
    if (sums > shared) shared = sums;
  }
  muse_str_append(e->out, muse_cuda_few_rows_prelude());
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = sum,
                                             .grid_y = 1,
                                             .block = 32 * groups * warps,
                                             .shared_bytes = (int)shared,
                                             .waits_itself = true});
  muse_str_append(e->out,
                  "  extern __shared__ __align__(128) unsigned char shared[];\n  __shared__ int row_sums[8];\n");
  muse_cuda_emit_which(e->out, n_blocks, ps->n);
  if (e->launches->overlaps) emit_prefetch(ps, cut);
  muse_str_append(e->out, "  if (threadIdx.x < 8) row_sums[threadIdx.x] = 0;\n");
  for (int i = 0; i < ps->n; i++) {
    if (ps->n > 1) muse_str_appendf(e->out, "  if (which == %d) {\n", i);
    else muse_str_append(e->out, "  {\n");
    emit_anchor(ps, i, &cut[i]);
    muse_str_append(e->out, "  }\n");
  }
  muse_str_append(e->out, "}\n\n");
}
