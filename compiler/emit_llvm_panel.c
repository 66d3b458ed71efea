// Panel products: register blocks of rows x vectors of C, A broadcast from memory, B loaded by vectors.

#include "compiler/emit_llvm_panel.h"

#include "compiler/emit_llvm_gemm_tile.h"
#include "compiler/emit_llvm_product.h"
#include "ir/base/checked.h"

enum { MAX_ROWS = 12, MAX_VECTORS = 4 };

LLVMValueRef muse_llvm_times(MuseLlvm *ll, LLVMValueRef index, int64_t factor) {
  return LLVMBuildNSWMul(ll->b, index, muse_llvm_i64(ll, factor), "");
}
LLVMValueRef muse_llvm_plus(MuseLlvm *ll, LLVMValueRef index, int64_t addend) {
  return LLVMBuildNSWAdd(ll->b, index, muse_llvm_i64(ll, addend), "");
}
LLVMValueRef muse_llvm_at_most(MuseLlvm *ll, LLVMValueRef index, int64_t most) {
  return muse_llvm_min(ll, index, muse_llvm_i64(ll, most), false);
}

static LLVMValueRef element(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef index, int64_t stride) {
  return muse_llvm_address(ll, MUSE_F32, base, muse_llvm_times(ll, index, stride));
}

// A register block under construction: `rows` rows and `columns` columns of C; the last vector may be partial.
typedef struct Block {
  const MusePanel *panel;
  int rows, vectors;
  int64_t columns;
  LLVMValueRef k, a, b, c, accumulate; // a, c at the first row; b, c at the first column
} Block;

static LLVMValueRef active_of(MuseLlvm *ll, const Block *block, int vector) {
  const int64_t left = block->columns - (int64_t)vector * ll->lanes;
  return left >= ll->lanes ? NULL : muse_llvm_i64(ll, left);
}

static void emit_block(MuseLlvm *ll, const Block *block) {
  const MusePanel *panel = block->panel;
  LLVMValueRef old[MAX_ROWS][MAX_VECTORS], row[MAX_VECTORS];
  LLVMValueRef zero = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes));
  MuseLlvmIf add;
  muse_llvm_if_begin(ll, &add, block->accumulate);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) {
      LLVMValueRef at = muse_llvm_i64(ll, r * panel->ldc + (int64_t)v * ll->lanes);
      old[r][v] = muse_llvm_load(ll, MUSE_F32, block->c, at, ll->lanes, active_of(ll, block, v));
    }
  muse_llvm_if_end(ll, &add);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) old[r][v] = muse_llvm_if_merge(ll, &add, old[r][v], zero);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), block->k, 1);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) muse_llvm_loop_carry(ll, &loop, old[r][v]);
  LLVMValueRef a = element(ll, block->a, loop.index, panel->a_col), b = element(ll, block->b, loop.index, panel->ldb);
  for (int v = 0; v < block->vectors; v++)
    row[v] = muse_llvm_load(ll, MUSE_F32, b, muse_llvm_i64(ll, (int64_t)v * ll->lanes), ll->lanes,
                            panel->padded ? NULL : active_of(ll, block, v));
  for (int r = 0; r < block->rows; r++) {
    LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, a, muse_llvm_i64(ll, r * panel->a_row), 1, NULL);
    x = muse_llvm_splat(ll, x, ll->lanes);
    for (int v = 0; v < block->vectors; v++) {
      const int n = r * block->vectors + v;
      muse_llvm_loop_next(&loop, n, muse_llvm_fma(ll, x, row[v], loop.phi[n]));
    }
  }
  muse_llvm_loop_end(ll, &loop);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) {
      LLVMValueRef at = muse_llvm_i64(ll, r * panel->ldc + (int64_t)v * ll->lanes);
      muse_llvm_store(ll, MUSE_F32, block->c, at, loop.result[r * block->vectors + v], ll->lanes,
                      active_of(ll, block, v));
    }
}

// Rows [begin, end) in blocks of `rows`; returns the first row that is left.
static LLVMValueRef emit_rows(MuseLlvm *ll, Block block, int rows, LLVMValueRef begin, LLVMValueRef m) {
  LLVMValueRef count = LLVMBuildSub(ll->b, m, begin, ""), step = muse_llvm_i64(ll, rows);
  LLVMValueRef whole = LLVMBuildSub(ll->b, count, LLVMBuildSRem(ll->b, count, step, ""), "");
  LLVMValueRef end = LLVMBuildAdd(ll->b, begin, whole, "");
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, begin, end, rows);
  block.rows = rows;
  block.a = element(ll, block.a, loop.index, block.panel->a_row);
  block.c = element(ll, block.c, loop.index, block.panel->ldc);
  emit_block(ll, &block);
  muse_llvm_loop_end(ll, &loop);
  return end;
}

// Rows and vectors of a register block: accumulators, a row of B and a broadcast must fit the register file.
static void choose_block(const MuseLlvm *ll, int64_t width, int *out_rows, int *out_vectors) {
  const bool many = !ll->is_x86 || ll->lanes == 16; // 32 vector registers, else 16
  const int64_t vectors = muse_ceil_div(width, ll->lanes);
  static const int rows_of_32[MAX_VECTORS + 1] = {0, 12, 12, 8, 6}, rows_of_16[MAX_VECTORS + 1] = {0, 10, 6, 4, 3};
  const int most = many || ll->lanes == 1 ? 4 : 2;
  *out_vectors = vectors < most ? (int)vectors : most;
  *out_rows = many ? rows_of_32[*out_vectors] : rows_of_16[*out_vectors];
}

// All rows of some vectors that start at column j.
static void emit_columns(MuseLlvm *ll, Block block, LLVMValueRef m, LLVMValueRef j) {
  int rows, vectors;
  choose_block(ll, block.columns, &rows, &vectors);
  block.vectors = vectors;
  block.b = muse_llvm_address(ll, MUSE_F32, block.b, j);
  block.c = muse_llvm_address(ll, MUSE_F32, block.c, j);
  LLVMValueRef left = emit_rows(ll, block, rows, muse_llvm_i64(ll, 0), m);
  if (rows >= 6) left = emit_rows(ll, block, rows / 3, left, m);
  emit_rows(ll, block, 1, left, m);
}

static void emit_panel(MuseLlvm *ll, LLVMValueRef function, const MusePanel *panel) {
  LLVMValueRef m = LLVMGetParam(function, 0);
  Block block = {.panel = panel,
                 .k = LLVMGetParam(function, 1),
                 .a = LLVMGetParam(function, 2),
                 .b = LLVMGetParam(function, 3),
                 .c = LLVMGetParam(function, 4),
                 .accumulate = LLVMGetParam(function, 5)};
  int rows, vectors;
  choose_block(ll, panel->width, &rows, &vectors);
  const int64_t step = (int64_t)vectors * ll->lanes, whole = panel->width / step * step;
  if (whole > 0) {
    MuseLlvmLoop columns;
    muse_llvm_loop_begin(ll, &columns, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), step);
    block.columns = step;
    emit_columns(ll, block, m, columns.index);
    muse_llvm_loop_end(ll, &columns);
  }
  if (whole < panel->width) {
    block.columns = panel->width - whole;
    emit_columns(ll, block, m, muse_llvm_i64(ll, whole));
  }
}

void muse_llvm_panel_product(MuseLlvm *ll, const MusePanel *panel, LLVMValueRef m, LLVMValueRef k, LLVMValueRef a,
                             LLVMValueRef b, LLVMValueRef c, LLVMValueRef accumulate) {
  MUSE_ASSERT(panel->width >= 1 && panel->width <= MUSE_PANEL_WIDTH);
  const char *name = muse_arena_printf(ll->arena, "panel_%lld_a%lld_%lld_b%lld%s_c%lld", (long long)panel->width,
                                       (long long)panel->a_row, (long long)panel->a_col, (long long)panel->ldb,
                                       panel->padded ? "p" : "", (long long)panel->ldc);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->i64, ll->i64, ll->ptr, ll->ptr, ll->ptr, ll->i1}, 6,
                             &helper)) {
    emit_panel(ll, helper.function, panel);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){m, k, a, b, c, accumulate}, 6);
}

void muse_llvm_panel_products(MuseLlvm *ll, const MusePanel *panel, int64_t columns, LLVMValueRef m, LLVMValueRef k,
                              LLVMValueRef a, LLVMValueRef b, LLVMValueRef c, LLVMValueRef accumulate) {
  MusePanel one = *panel;
  const int64_t whole = columns / MUSE_PANEL_WIDTH * MUSE_PANEL_WIDTH;
  if (whole > 0) {
    MuseLlvmLoop loop;
    one.width = MUSE_PANEL_WIDTH;
    muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), MUSE_PANEL_WIDTH);
    muse_llvm_panel_product(ll, &one, m, k, a, muse_llvm_address(ll, MUSE_F32, b, loop.index),
                            muse_llvm_address(ll, MUSE_F32, c, loop.index), accumulate);
    muse_llvm_loop_end(ll, &loop);
  }
  if (whole == columns) return;
  one.width = columns - whole;
  LLVMValueRef at = muse_llvm_i64(ll, whole);
  muse_llvm_panel_product(ll, &one, m, k, a, muse_llvm_address(ll, MUSE_F32, b, at),
                          muse_llvm_address(ll, MUSE_F32, c, at), accumulate);
}

// ---- layouts ----

void muse_llvm_copy_rows(MuseLlvm *ll, int64_t columns, int64_t from_stride, int64_t to_stride, LLVMValueRef rows,
                         LLVMValueRef from, LLVMValueRef to) {
  const char *name = muse_arena_printf(ll->arena, "copy_%lld_%lld_%lld", (long long)columns, (long long)from_stride,
                                       (long long)to_stride);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->i64, ll->ptr, ll->ptr}, 3, &helper)) {
    MuseLlvmLoop row, column;
    muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), LLVMGetParam(helper.function, 0), 1);
    LLVMValueRef in = element(ll, LLVMGetParam(helper.function, 1), row.index, from_stride);
    LLVMValueRef out = element(ll, LLVMGetParam(helper.function, 2), row.index, to_stride);
    const int64_t whole = columns / ll->lanes * ll->lanes;
    muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), ll->lanes);
    muse_llvm_store(ll, MUSE_F32, out, column.index, muse_llvm_load(ll, MUSE_F32, in, column.index, ll->lanes, NULL),
                    ll->lanes, NULL);
    muse_llvm_loop_end(ll, &column);
    if (whole < columns) {
      LLVMValueRef at = muse_llvm_i64(ll, whole), active = muse_llvm_i64(ll, columns - whole);
      muse_llvm_store(ll, MUSE_F32, out, at, muse_llvm_load(ll, MUSE_F32, in, at, ll->lanes, active), ll->lanes,
                      active);
    }
    muse_llvm_loop_end(ll, &row);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){rows, from, to}, 3);
}

// Columns p..p+lanes of all rows; active: as for loads.
static void pack_square(MuseLlvm *ll, int64_t width, int64_t stride, LLVMValueRef from, LLVMValueRef to, LLVMValueRef p,
                        LLVMValueRef active) {
  const int n = ll->lanes;
  LLVMValueRef row[MUSE_PANEL_LANES];
  LLVMValueRef in = muse_llvm_address(ll, MUSE_F32, from, p), out = element(ll, to, p, MUSE_PANEL_WIDTH);
  for (int64_t first = 0; first < width; first += n) {
    for (int r = 0; r < n; r++)
      row[r] = first + r < width ? muse_llvm_load(ll, MUSE_F32, in, muse_llvm_i64(ll, (first + r) * stride), n, active)
                                 : LLVMConstNull(muse_llvm_vector(ll->f32, n));
    muse_llvm_transpose(ll, row, n);
    for (int r = 0; r < n; r++)
      muse_llvm_store(ll, MUSE_F32, out, muse_llvm_i64(ll, r * (int64_t)MUSE_PANEL_WIDTH + first), row[r], n, NULL);
  }
}

void muse_llvm_pack_transposed(MuseLlvm *ll, int64_t width, int64_t stride, LLVMValueRef k, LLVMValueRef from,
                               LLVMValueRef to) {
  const char *name = muse_arena_printf(ll->arena, "pack_transposed_%lld_%lld", (long long)width, (long long)stride);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->i64, ll->ptr, ll->ptr}, 3, &helper)) {
    LLVMValueRef count = LLVMGetParam(helper.function, 0), source = LLVMGetParam(helper.function, 1);
    LLVMValueRef target = LLVMGetParam(helper.function, 2),
                 left = LLVMBuildSRem(ll->b, count, muse_llvm_i64(ll, ll->lanes), "");
    LLVMValueRef whole = LLVMBuildSub(ll->b, count, left, "");
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), whole, ll->lanes);
    pack_square(ll, width, stride, source, target, loop.index, NULL);
    muse_llvm_loop_end(ll, &loop);
    if (ll->lanes > 1) {
      MuseLlvmIf tail;
      muse_llvm_if_begin(ll, &tail, LLVMBuildICmp(ll->b, LLVMIntSGT, left, muse_llvm_i64(ll, 0), ""));
      pack_square(ll, width, stride, source, target, whole, left);
      muse_llvm_if_end(ll, &tail);
    }
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){k, from, to}, 3);
}
