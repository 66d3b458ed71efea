// Emission of int8 products for warpgroups (see the header).
#include "compiler/emit_cuda_wgmma.h"

#include "compiler/emit_cuda_hopper.h"
#include "ir/base/checked.h"
#include "ir/base/status.h"

enum {
  BLOCK_M = 128,
  STEP = 128, // columns of A and B a stage: the 128 bytes that are swizzled
  STAGED_COLUMNS = 32, // of a box of staged results
  THREADS = 384,
  HIGH = 16, // blocks of C that are neighbours in time: so many rows of blocks
  MULTIPROCESSORS = 132,
  MAX_STAGES = 8,
  PLAN_SHARED = 226 * 1024, // of 227 KiB
  UNPACK_THREADS = 256,
  KEPT_WORDS = 40, // registers of a thread for operands of an epilogue that are read ahead
  MAX_PLANS = 8,
};

// How the product is cut: variant i takes the i-th cheapest.
typedef struct Plan {
  int block_n, stages, staging; // staging: bytes of a warpgroup for results on their way
  int64_t tiles_m, tiles_n, k_blocks;
  double cost;
} Plan;

typedef struct Wgmma {
  MuseCudaProducts *products;
  MuseCudaEmitter *e;
  bool turned;  // int8_matmul
  int n_staged; // anchors whose result is stored by the copy engine; they have map2..
  int64_t M, K; // shared by all anchors
  Plan plan;
  int64_t first_row[MUSE_MAX_ANCHORS + 1]; // of an anchor in the stacked right operand: multiples of block_n
  int64_t pitch;                           // bytes from row to row of what the first launch writes
  int64_t b_offset;                        // of the right operand in the workspace
} Wgmma;

bool muse_cuda_wgmma_takes(const MuseCudaProducts *products) {
  const MuseCudaTarget target = products->e->target;
  if (target.arch != 90 || !target.specific) return false;
  for (int i = 0; i < products->n; i++) {
    const MuseCudaProduct *p = &products->product[i];
    bool turned = p->anchor->kind == MUSE_OP_int8_matmul;
    if (!turned && p->anchor->kind != MUSE_OP_ternary_matmul) return false;
    if (p->M < (turned ? 64 : 128) || p->M >= 1 << 30 || p->N >= 1 << 27 || p->K >= 1 << 30) return false;
    if (turned ? products->n > 1 || p->M % 16 || p->N % 16 : p->K % 16 || p->N % 8) return false;
  }
  return true;
}

// ---- cutting ----

static int64_t rows_of_all(const Wgmma *w, int block_n) { // of the stacked right operand
  int64_t rows = 0;
  for (int i = 0; i < w->products->n; i++) rows += muse_round_up(w->products->product[i].N, block_n);
  return rows;
}

// In clocks of a multiprocessor, as measured on an H200: bringing and multiplying a stage, storing a block.
static Plan plan_of(const Wgmma *w, int block_n) {
  Plan p = {.block_n = block_n, .staging = w->n_staged ? BLOCK_M / 2 * block_n * 2 : 0};
  p.stages = (PLAN_SHARED - 1024 - 2 * p.staging) / ((BLOCK_M + block_n) * STEP + 16);
  if (p.stages > MAX_STAGES) p.stages = MAX_STAGES;
  p.tiles_m = muse_ceil_div(w->M, BLOCK_M);
  p.tiles_n = rows_of_all(w, block_n) / block_n;
  p.k_blocks = muse_ceil_div(w->K, STEP);
  double store = w->n_staged ? 3600 : 20.0 * block_n + (block_n % 64 ? 700 : 300); // rows of whole 256 bytes are better
  p.cost = (double)muse_ceil_div(p.tiles_m * p.tiles_n, MULTIPROCESSORS) *
           ((double)p.k_blocks * (3.4 * block_n + 190) + store);
  return p;
}

static Plan choose_plan(const Wgmma *w, int variant) {
  Plan plan[MAX_PLANS];
  int n = 0;
  for (int block_n = 256; block_n >= 64; block_n -= 32) {
    Plan p = plan_of(w, block_n);
    int at = n++;
    for (; at > 0 && plan[at - 1].cost > p.cost; at--) plan[at] = plan[at - 1];
    plan[at] = p;
  }
  MUSE_ASSERT(n <= MAX_PLANS && variant < n);
  return plan[variant];
}

// ---- the first launch ----

#define LINE(...) muse_str_appendf(w->e->out, __VA_ARGS__)

static int64_t unpack_blocks(const MuseCudaProduct *p) { return muse_ceil_div(p->N * p->b_pitch / 16, UNPACK_THREADS); }

static void emit_unpack(const Wgmma *w) {
  int64_t blocks = 0, first = 0;
  for (int i = 0; i < w->products->n; i++) blocks += unpack_blocks(&w->products->product[i]);
  muse_cuda_begin_launch(w->e, (MuseCudaLaunch){.grid_x = blocks, .grid_y = 1, .block = UNPACK_THREADS});
  for (int i = 0; i < w->products->n; i++) {
    const MuseCudaProduct *p = &w->products->product[i];
    const int64_t pieces = p->b_pitch / 16, end = first + unpack_blocks(p);
    LINE("  if (blockIdx.x < %lldu%s) {\n", (long long)end, i ? "" : " /* anchor by anchor */");
    LINE("    const unsigned i = (blockIdx.x - %lldu) * %du + threadIdx.x;\n", (long long)first, UNPACK_THREADS);
    LINE("    if (i < %lldu)\n", (long long)(p->N * pieces));
    LINE("      unpack_%s<%lld>(((const uint4 *)a%d)[i], i %% %lldu,\n", muse_dtype_name(p->b_dtype), (long long)p->K,
         p->b, (long long)pieces);
    LINE("                (signed char *)workspace + %lldll + (long long)(i / %lldu) * %lld);\n",
         (long long)(w->b_offset + w->first_row[i] * w->pitch), (long long)pieces, (long long)w->pitch);
    LINE("    return;\n  }\n");
    first = end;
  }
  LINE("}\n\n");
}

static int64_t squares_of(int64_t K, int64_t columns) {
  return muse_ceil_div(K, BLOCK_M) * muse_ceil_div(columns, BLOCK_M);
}

static void emit_turn(const Wgmma *w) {
  const MuseCudaProduct *p = &w->products->product[0];
  const int64_t of_a = squares_of(p->K, p->M), of_b = squares_of(p->K, p->N);
  muse_cuda_begin_launch(w->e, (MuseCudaLaunch){.grid_x = of_a + of_b, .grid_y = 1, .block = 256});
  LINE("  if (blockIdx.x < %lldu)\n", (long long)of_a);
  LINE("    turn_bytes<%lld, %lld, %lld>(a%d, (signed char *)workspace, blockIdx.x);\n", (long long)p->K,
       (long long)p->M, (long long)w->pitch, p->a);
  LINE("  else\n    turn_bytes<%lld, %lld, %lld>(a%d, (signed char *)workspace + %lldll, blockIdx.x - %lldu);\n",
       (long long)p->K, (long long)p->N, (long long)w->pitch, p->b, (long long)w->b_offset, (long long)of_a);
  LINE("}\n\n");
}

// ---- the product ----

// An operand of the epilogue as large as C.
static bool is_matrix(const MuseCudaProduct *p, const MuseCudaValue *v) {
  return !v->value->def && !v->ignored && muse_type_elements(v->value->type) == p->M * p->N;
}

// One result of two bytes can go through shared memory, from where the copy engine stores it while the next block is
// computed.
static bool is_staged(const MuseCudaProduct *p) {
  if (p->n_results != 1) return false;
  for (int i = 0; i < p->body.n; i++) // matrices are read and written by whole 16 bytes
    if (is_matrix(p, &p->body.value[i])) return false;
  MuseType type = p->body.kernel->results[p->result[0]]->type;
  return muse_type_elements(type) == p->M * p->N && (type.dtype == MUSE_BF16 || type.dtype == MUSE_F16);
}

// Operands of the epilogue as large as C are read into registers some columns ahead (the compiler could not do so: a
// result may lie over them). Returns how many groups of 8 columns at once; 0: there are none.
static int keep_matrices(MuseCudaProduct *p, int n_groups) {
  int64_t words = 0;
  for (int i = 0; i < p->body.n; i++) {
    MuseCudaValue *v = &p->body.value[i];
    v->kept = is_matrix(p, v);
    if (v->kept) words += 8 * muse_dtype_bytes(v->value->type.dtype) / 4;
  }
  if (words == 0) return 0;
  int64_t groups = words > KEPT_WORDS ? 1 : KEPT_WORDS / words;
  return groups > n_groups ? n_groups : (int)groups;
}

// Opens the loop over groups of columns, in batches; `column` is declared in its body.
static void open_columns(const Wgmma *w, const MuseCudaProduct *p, int V, int batch, const char *indent) {
  const int groups = w->plan.block_n / (4 * V);
  LINE("#pragma unroll\n%sfor (int k = 0; k < %d; k++) {\n", indent, batch);
  if (groups % batch) LINE("%s  if (g + k >= %d) break;\n", indent, groups);
  LINE("%s  const int column = first + %d * (g + k) + %d * (int)(threadIdx.x %% 4);\n", indent, 4 * V, V);
  if (p->N % w->plan.block_n) LINE("%s  const bool here = inside && column < %lld;\n", indent, (long long)p->N);
  else LINE("%s  const bool here = inside;\n", indent);
}

// What becomes of the sums of a block of one anchor; map: of its result when that is staged, else -1.
static void emit_store(const Wgmma *w, MuseCudaProduct *p, int64_t first_row, int map) {
  const int bn = w->plan.block_n, kept = keep_matrices(p, bn / 32), V = map >= 0 ? 2 : 8;
  const int batch = kept ? kept : 1;
  LINE("    const int first = column0 - %lld;\n", (long long)first_row);
  if (map >= 0) LINE("    staging_begin();\n");
  p->body.depth = 2;
  muse_cuda_epilogue_begin(p);
  LINE("#pragma unroll\n    for (int h = 0; h < 2; h++) {\n");
  // Threads below the last row take part in exchanges.
  LINE("      const bool inside = row0 + 8 * h < %lld;\n", (long long)p->M);
  LINE("      const int row = inside ? row0 + 8 * h : %lld;\n", (long long)p->M - 1);
  p->body.depth = 3;
  muse_cuda_epilogue_at_row(p);
  LINE("#pragma unroll\n      for (int g = 0; g < %d; g += %d) {\n", bn / (4 * V), batch);
  if (kept) {
    for (int i = 0; i < p->body.n; i++) {
      const MuseCudaValue *v = &p->body.value[i];
      if (v->kept) LINE("        %s %s[%d][8];\n", muse_cuda_type(v->value->type.dtype), v->name, batch);
    }
    open_columns(w, p, V, batch, "        ");
    for (int i = 0; i < p->body.n; i++) {
      const MuseCudaValue *v = &p->body.value[i];
      if (v->kept) LINE("          if (here) load(%s[k], p%d + column);\n", v->name, v->value->index);
    }
    LINE("        }\n");
  }
  open_columns(w, p, V, batch, "        ");
  LINE("          int c[%d];\n#pragma unroll\n", V);
  LINE("          for (int l = 0; l < %d; l++) c[l] = sum[%d * (g + k) + l / 2 * 4 + 2 * h + l %% 2];\n", V, 2 * V);
  if (V == 8) LINE("          gather_8(c);\n");
  LINE("          if (here) {\n");
  p->body.depth = 6;
  muse_cuda_epilogue_values(p, V, "c");
  if (map < 0) muse_cuda_epilogue_store(p);
  else LINE("            stage_two(staged_at(staging, row0 + 8 * h, g + k), y%d);\n", p->result[0]);
  LINE("          }\n        }\n      }\n    }\n");
  if (map >= 0)
    LINE("    staging_end<%lld, %lld, %d>(&map%d, row0, first, staging);\n", (long long)p->M, (long long)p->N, bn, map);
}

static MuseCudaTensorMap map_of(int buffer, int64_t offset, int64_t rows, int64_t columns, int64_t pitch,
                                int box_rows) {
  return (MuseCudaTensorMap){.buffer = buffer, .offset = offset, .dtype = MUSE_I8, .rows = rows, .columns = columns,
                             .row_bytes = pitch, .box_rows = box_rows, .box_columns = STEP, .swizzle = 128};
}

// A matrix that the copy engine stores from staging.
static MuseCudaTensorMap map_of_matrix(const MuseCudaProduct *p, int buffer, MuseDtype dtype, int box_rows,
                                       int box_columns, int swizzle) {
  return (MuseCudaTensorMap){.buffer = buffer, .dtype = dtype, .rows = p->M, .columns = p->N,
                             .row_bytes = p->N * muse_dtype_bytes(dtype), .box_rows = box_rows,
                             .box_columns = box_columns, .swizzle = swizzle};
}

static void emit_product(const Wgmma *w) {
  MuseCudaProducts *ps = w->products;
  const Plan *plan = &w->plan;
  const MuseOp *kernel = w->e->kernel;
  const int workspace = kernel->n_operands + kernel->n_results, bn = plan->block_n;
  const int64_t tiles = plan->tiles_m * plan->tiles_n, last = w->K - (plan->k_blocks - 1) * STEP;
  MuseCudaLaunch launch = {.grid_x = tiles < MULTIPROCESSORS ? tiles : MULTIPROCESSORS,
                           .grid_y = 1,
                           .block = THREADS,
                           .shared_bytes = 1024 + plan->stages * ((BLOCK_M + bn) * STEP + 16) + 2 * plan->staging,
                           .min_blocks = 1,
                           .n_maps = 2};
  launch.map[0] = w->turned ? map_of(workspace, 0, w->M, w->K, w->pitch, BLOCK_M)
                            : map_of(ps->product[0].a, 0, w->M, w->K, w->K, BLOCK_M);
  launch.map[1] = map_of(workspace, w->b_offset, w->first_row[ps->n], w->K, w->pitch, bn);
  for (int i = 0; w->n_staged && i < ps->n; i++) {
    const MuseCudaProduct *p = &ps->product[i];
    if (!is_staged(p)) continue;
    const MuseDtype dtype = kernel->results[p->result[0]]->type.dtype;
    launch.map[launch.n_maps++] =
        map_of_matrix(p, kernel->n_operands + p->result[0], dtype, BLOCK_M / 2, STAGED_COLUMNS, 2 * STAGED_COLUMNS);
  }
  muse_cuda_begin_launch(w->e, launch);
  LINE("  const auto multiply = [](int(&sum)[%d], u64 a, u64 b, int add) { wgmma_s8_%d(sum, a, b, add); };\n", bn / 2,
       bn);
  LINE("  const auto finish = [&](const int(&sum)[%d], int row0, int column0, unsigned staging) {\n", bn / 2);
  for (int i = 0, map = 2; i < ps->n; i++) {
    const bool staged = w->n_staged && is_staged(&ps->product[i]);
    if (i + 1 < ps->n) LINE("    if (column0 < %lld) {\n", (long long)w->first_row[i + 1]);
    else LINE("    {\n");
    emit_store(w, &ps->product[i], w->first_row[i], staged ? map++ : -1);
    LINE("    %s\n", i + 1 < ps->n ? "return;\n    }" : "}");
  }
  LINE("  };\n");
  LINE("  wgmma_product<int, %d, %d, %d, %d, %lld, %lld, %d, %lld, %lld>(&map0, &map1, multiply, finish);\n}\n\n",
       STEP, bn, plan->stages, plan->staging, (long long)plan->tiles_m, (long long)plan->tiles_n, HIGH,
       (long long)plan->k_blocks, (long long)muse_ceil_div(last, STEP / 4));
}

void muse_cuda_wgmma_emit(MuseCudaProducts *products) {
  const MuseCudaProduct *p = &products->product[0];
  Wgmma wgmma = {.products = products, .e = products->e, .turned = p->anchor->kind == MUSE_OP_int8_matmul, .M = p->M,
                 .K = p->K}, *w = &wgmma;
  for (int i = 0; i < products->n; i++) w->n_staged += is_staged(&products->product[i]);
  if (2 + w->n_staged > MUSE_CUDA_MAX_MAPS) w->n_staged = 0;
  w->plan = choose_plan(w, w->e->variant);
  for (int i = 0; i < products->n; i++)
    w->first_row[i + 1] = w->first_row[i] + muse_round_up(products->product[i].N, w->plan.block_n);
  w->pitch = muse_round_up(w->K, 16);
  w->b_offset = w->turned ? muse_round_up(w->M * w->pitch, 256) : 0;
  w->e->launches->workspace_bytes = w->b_offset + w->first_row[products->n] * w->pitch;
  muse_str_append(w->e->out, muse_cuda_hopper_prelude());
  muse_cuda_write_wgmma(w->e->out, MUSE_I8, w->plan.block_n);
  muse_str_append(w->e->out, muse_cuda_wgmma_prelude());
  if (w->turned) emit_turn(w);
  else emit_unpack(w);
  emit_product(w);
}
