// Products of few rows with trits, as decoding does them: the weights stream through once, packed, and are the bound.
// The text is FewRows (emit_cuda_few_rows_prelude.c); here it is cut and its epilogue written.
#include "compiler/emit_cuda_int8.h"

#include "ir/base/checked.h"

enum {
  STAGED_BYTES = 44 << 10, // of x in shared memory at a time
  ENOUGH_WARPS = 1200,
  MAX_DEPTH = 10, // what fits into registers
  MAX_DEPTH_T5 = 4,
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

// All warps are on the GPU at once and stream their part from its start to its end. Enough of them for the bandwidth:
// warps share rows where the matrix is small. Several groups of a block share x.
static void choose(const MuseCudaProducts *ps, int *out_groups, int *out_warps, int *out_depth) {
  int64_t tiles = 0, blocks = 0;
  int most = MAX_DEPTH;
  for (int i = 0; i < ps->n; i++) {
    tiles += muse_ceil_div(ps->product[i].N, 16);
    if (ps->product[i].b_pitch / 64 > blocks) blocks = ps->product[i].b_pitch / 64;
    if (ps->product[i].b_dtype == MUSE_T5) most = MAX_DEPTH_T5;
  }
  int warps = 1;
  while (warps < 8 && tiles * warps < ENOUGH_WARPS && warps < blocks) warps *= 2;
  *out_warps = warps;
  *out_groups = warps < 4 ? 4 / warps : 1;
  *out_depth = 1;
  while (*out_depth < most && *out_depth * warps < blocks) ++*out_depth;
}

// Opens the loop over the elements of the block.
static void begin_elements(MuseCudaProduct *p, const Cut *c, int depth) {
  MuseCudaBody *b = &p->body;
  b->depth = depth;
  muse_cuda_line(b, "for (int i = threadIdx.x; i < %d; i += %d) {", 16 * c->groups * (int)p->M,
                 32 * c->groups * c->warps);
  b->depth++;
  muse_cuda_line(b, "const unsigned row = i / %d;", 16 * c->groups);
  muse_cuda_line(b, "const int n = i %% %d, column = n0 + n;", 16 * c->groups);
  muse_cuda_line(b, "if (column >= %lld) continue;", (long long)p->N);
}

static void end_elements(MuseCudaProduct *p) {
  p->body.depth--;
  muse_cuda_line(&p->body, "}");
  p->body.depth = 0;
}

static void emit_epilogue(MuseCudaProduct *p, const Cut *c, int depth) {
  p->body.depth = depth;
  muse_cuda_epilogue_begin(p);
  begin_elements(p, c, depth);
  muse_cuda_epilogue_at_row(p);
  muse_cuda_line(&p->body, "const int sums[1] = {Rows::total((const int *)shared, row_sums, n, row)};");
  muse_cuda_epilogue_columns(p, 1, "sums");
  end_elements(p);
}

static bool is_of(const MuseCudaProduct *p, MuseDtype dtype) { return p->b_dtype == dtype; }

// The work of blocks whose anchor has trits of this dtype: which anchor shows in pointers and in the epilogue alone.
static void emit_rows(MuseCudaProducts *ps, MuseDtype dtype, const Cut *c) {
  MuseStr *out = ps->e->out;
  const MuseCudaProduct *p = NULL;
  const int trits = dtype == MUSE_T5 ? 320 : 256;
  for (int i = ps->n - 1; i >= 0; i--)
    if (is_of(&ps->product[i], dtype)) p = &ps->product[i];
  muse_str_appendf(out,
                   "    typedef FewRows<%d, %d, %d, %s, %s> Rows;\n    const int n0 = (int)block * %d;\n"
                   "    const unsigned char *b = (const unsigned char *)a%d;\n    int N = %lld;\n",
                   c->groups, c->warps, c->depth, dtype == MUSE_T5 ? "true" : "false",
                   p->M == 1 && dtype == MUSE_T2 ? "true" : "false", 16 * c->groups, p->b, (long long)p->N);
  for (int i = 0; i < ps->n; i++)
    if (is_of(&ps->product[i], dtype) && &ps->product[i] != p)
      muse_str_appendf(out, "    if (which == %d) b = (const unsigned char *)a%d, N = %lld;\n", i, ps->product[i].b,
                       (long long)ps->product[i].N);
  muse_str_appendf(out,
                   "    Rows::Sums acc = {};\n    Rows::Trits trits;\n    Rows::Pointers from;\n"
                   "    Rows::begin(from, b + (long long)n0 * %lld, N - n0, %lld);\n",
                   (long long)p->b_pitch, (long long)p->b_pitch);
  for (int i = 0; i < ps->n; i++) {
    if (!is_of(&ps->product[i], dtype)) continue;
    if (ps->n > 1) muse_str_appendf(out, "    if (which == %d)\n", i);
    begin_elements(&ps->product[i], c, 2);
    muse_cuda_epilogue_touch(&ps->product[i]);
    end_elements(&ps->product[i]);
  }
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
                   "      Rows::run(acc, trits, from, first, n, shared, %lld, %lld);\n    }\n"
                   "    __syncthreads();\n    Rows::put((int *)shared, acc);\n",
                   p->K % 16 == 0 ? "true" : "false", p->a, (long long)p->M, (long long)p->K, trits, trits,
                   (long long)c->stride, (long long)p->M, trits, (long long)c->stride, (long long)p->M,
                   (long long)c->stride);
  for (int i = 0; i < ps->n; i++) {
    if (!is_of(&ps->product[i], dtype)) continue;
    if (ps->n > 1) muse_str_appendf(out, "    if (which == %d) {\n", i);
    emit_epilogue(&ps->product[i], c, ps->n > 1 ? 3 : 2);
    if (ps->n > 1) muse_str_append(out, "    }\n");
  }
}

void muse_cuda_emit_few_rows(MuseCudaProducts *ps) {
  static const MuseDtype dtypes[2] = {MUSE_T2, MUSE_T5};
  MuseCudaEmitter *e = ps->e;
  int64_t n_blocks[MUSE_MAX_ANCHORS], sum = 0, shared = 0;
  unsigned mask[2] = {0, 0};
  int groups, warps, depth;
  choose(ps, &groups, &warps, &depth);
  for (int i = 0; i < ps->n; i++) {
    const MuseCudaProduct *p = &ps->product[i];
    const Cut cut = cut_of(p, groups, warps, depth);
    sum += n_blocks[i] = muse_ceil_div(p->N, 16 * groups);
    mask[p->b_dtype == MUSE_T5] |= 1u << i;
    if (p->M * cut.stride > shared) shared = p->M * cut.stride;
    if (warps * groups * 512 > shared) shared = warps * groups * 512;
  }
  muse_str_append(e->out, muse_cuda_few_rows_prelude());
  muse_cuda_begin_launch(
      e, (MuseCudaLaunch){.grid_x = sum, .grid_y = 1, .block = 32 * groups * warps, .shared_bytes = (int)shared});
  muse_str_append(e->out, "  extern __shared__ __align__(128) unsigned char shared[];\n  __shared__ int row_sums[8];\n");
  muse_cuda_emit_which(e->out, n_blocks, ps->n);
  muse_str_append(e->out, "  if (threadIdx.x < 8) row_sums[threadIdx.x] = 0;\n");
  for (int d = 0; d < 2; d++) {
    if (!mask[d]) continue;
    if (mask[1 - d]) muse_str_appendf(e->out, "  if (%uu >> which & 1u) {\n", mask[d]);
    else muse_str_append(e->out, "  {\n");
    for (int i = 0; i < ps->n; i++)
      if (mask[d] >> i & 1) {
        const Cut cut = cut_of(&ps->product[i], groups, warps, depth);
        emit_rows(ps, dtypes[d], &cut);
        break;
      }
    muse_str_append(e->out, "  }\n");
  }
  muse_str_append(e->out, "}\n\n");
}
