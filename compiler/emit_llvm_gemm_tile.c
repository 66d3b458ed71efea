// Generated f32 products of tiles: register blocks of mr rows by nv vectors, A broadcast from memory, B loaded by
// vectors.

#include "compiler/emit_llvm_gemm_tile.h"

#include <string.h>

// ---- internal functions ----

bool muse_llvm_helper_begin(MuseLlvm *ll, const char *name, const LLVMTypeRef *params, int n_params,
                            MuseLlvmHelper *out) {
  LLVMTypeRef types[16];
  MUSE_ASSERT(n_params <= 16);
  for (int i = 0; i < n_params; i++) types[i] = params[i];
  out->type = LLVMFunctionType(ll->void_type, types, (unsigned)n_params, false);
  out->function = LLVMGetNamedFunction(ll->module, name);
  if (out->function) return false;
  out->function = LLVMAddFunction(ll->module, name, out->type);
  LLVMSetLinkage(out->function, LLVMInternalLinkage);
  const LLVMAttributeIndex at = (LLVMAttributeIndex)LLVMAttributeFunctionIndex;
  unsigned n = LLVMGetAttributeCountAtIndex(ll->function, at);
  LLVMAttributeRef *attributes = MUSE_NEW_ARRAY(ll->arena, LLVMAttributeRef, n + 1);
  LLVMGetAttributesAtIndex(ll->function, at, attributes);
  for (unsigned i = 0; i < n; i++) LLVMAddAttributeAtIndex(out->function, at, attributes[i]);
  out->outer_function = ll->function;
  out->outer_entry = ll->entry;
  out->outer_block = LLVMGetInsertBlock(ll->b);
  ll->function = out->function;
  ll->entry = LLVMAppendBasicBlockInContext(ll->context, out->function, "entry");
  LLVMPositionBuilderAtEnd(ll->b, ll->entry);
  return true;
}

void muse_llvm_helper_end(MuseLlvm *ll, MuseLlvmHelper *helper) {
  LLVMBuildRetVoid(ll->b);
  ll->function = helper->outer_function;
  ll->entry = helper->outer_entry;
  LLVMPositionBuilderAtEnd(ll->b, helper->outer_block);
}

void muse_llvm_helper_call(MuseLlvm *ll, const MuseLlvmHelper *helper, LLVMValueRef *args, int n_args) {
  LLVMBuildCall2(ll->b, helper->type, helper->function, args, (unsigned)n_args, "");
}

int64_t muse_llvm_pad(const MuseLlvm *ll, int64_t columns) { return (columns + ll->lanes - 1) / ll->lanes * ll->lanes; }

// ---- products ----

enum { MAX_ROWS = 12, MAX_VECTORS = 4 };

// One register block under construction: rows i.., columns j.. of C.
typedef struct Block {
  const MuseGemmTile *tile;
  const MuseGemmPrefetch *prefetch; // addresses are those inside the function
  LLVMValueRef a, b, c; // a and c at row i, b and c at column j
  int rows, vectors;
  int64_t columns;      // <= vectors * lanes; the last vector may be partial
} Block;

typedef LLVMValueRef Accumulators[MAX_ROWS][MAX_VECTORS];

static LLVMValueRef active_columns(MuseLlvm *ll, const Block *block, int vector) {
  int64_t left = block->columns - (int64_t)vector * ll->lanes;
  return left >= ll->lanes ? NULL : muse_llvm_i64(ll, left);
}

// Adds A(i + first_row.., p) B(p, j..) for the rows first_row <= r < end_row; p is given by the byte addresses of A(i,
// p), B(p, j).
static void multiply_add(MuseLlvm *ll, const Block *block, LLVMValueRef a, LLVMValueRef b, int first_row, int end_row,
                         Accumulators acc) {
  LLVMValueRef row[MAX_VECTORS];
  for (int v = 0; v < block->vectors; v++)
    row[v] = muse_llvm_load(ll, MUSE_F32, b, muse_llvm_i64(ll, (int64_t)v * ll->lanes), ll->lanes,
                            active_columns(ll, block, v));
  for (int r = first_row; r < end_row; r++) {
    LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, a, muse_llvm_i64(ll, r * block->tile->a_row), 1, NULL);
    x = muse_llvm_splat(ll, x, ll->lanes);
    for (int v = 0; v < block->vectors; v++) acc[r][v] = muse_llvm_fma(ll, x, row[v], acc[r][v]);
  }
}

static LLVMValueRef element(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef index, int64_t stride) {
  return muse_llvm_address(ll, MUSE_F32, base, LLVMBuildNSWMul(ll->b, index, muse_llvm_i64(ll, stride), ""));
}

// The sum over p in [begin, end).
static void accumulate_range(MuseLlvm *ll, const Block *block, LLVMValueRef begin, LLVMValueRef end, Accumulators acc) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, begin, end, 1);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) acc[r][v] = muse_llvm_loop_carry(ll, &loop, acc[r][v]);
  LLVMValueRef a = element(ll, block->a, loop.index, block->tile->a_col),
               b = element(ll, block->b, loop.index, block->tile->ldb);
  multiply_add(ll, block, a, b, 0, block->rows, acc);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) muse_llvm_loop_next(&loop, r * block->vectors + v, acc[r][v]);
  muse_llvm_loop_end(ll, &loop);
  for (int r = 0; r < block->rows; r++)
    for (int v = 0; v < block->vectors; v++) acc[r][v] = loop.result[r * block->vectors + v];
}

// The triangle of A on the diagonal, p = i .. i+rows-1: row r meets p <= i+r (lower) or p >= i+r (upper).
static void accumulate_diagonal(MuseLlvm *ll, const Block *block, LLVMValueRef i, bool lower, Accumulators acc) {
  for (int p = 0; p < block->rows; p++) {
    LLVMValueRef at = LLVMBuildAdd(ll->b, i, muse_llvm_i64(ll, p), "");
    LLVMValueRef a = element(ll, block->a, at, block->tile->a_col), b = element(ll, block->b, at, block->tile->ldb);
    multiply_add(ll, block, a, b, lower ? p : 0, lower ? block->rows : p + 1, acc);
  }
}

// The share of the piece's rows that belongs to the block's rows of C.
static void emit_prefetch(MuseLlvm *ll, const Block *block, const MusePrefetchPiece *p, LLVMValueRef i) {
  LLVMValueRef scale = muse_llvm_i64(ll, p->rows), m = muse_llvm_i64(ll, block->tile->m);
  LLVMValueRef past = LLVMBuildNSWAdd(ll->b, i, muse_llvm_i64(ll, block->rows), "");
  LLVMValueRef begin = LLVMBuildUDiv(ll->b, LLVMBuildNSWMul(ll->b, i, scale, ""), m, "");
  LLVMValueRef end = LLVMBuildUDiv(ll->b, LLVMBuildNSWMul(ll->b, past, scale, ""), m, "");
  MuseLlvmLoop row;
  muse_llvm_loop_begin(ll, &row, begin, end, 1);
  LLVMValueRef offset = LLVMBuildNSWMul(ll->b, row.index, muse_llvm_i64(ll, p->stride), "");
  LLVMValueRef from = muse_llvm_byte_address(ll, p->from, offset);
  for (int64_t byte = 0; byte < p->bytes; byte += 64) muse_llvm_prefetch(ll, muse_llvm_byte_offset(ll, from, byte));
  muse_llvm_loop_end(ll, &row);
}

static void emit_block(MuseLlvm *ll, Block block, LLVMValueRef i) {
  const MuseGemmTile *tile = block.tile;
  for (int k = 0; block.prefetch && k < block.prefetch->n; k++) emit_prefetch(ll, &block, &block.prefetch->of[k], i);
  Accumulators acc;
  block.a = element(ll, block.a, i, tile->a_row);
  block.c = element(ll, block.c, i, tile->ldc);
  LLVMValueRef zero = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes));
  for (int r = 0; r < block.rows; r++)
    for (int v = 0; v < block.vectors; v++) acc[r][v] = zero;
  LLVMValueRef begin = muse_llvm_i64(ll, 0), end = muse_llvm_i64(ll, tile->k);
  if (tile->shape == MUSE_GEMM_LOWER) end = i;
  if (tile->shape == MUSE_GEMM_UPPER) {
    accumulate_diagonal(ll, &block, i, false, acc);
    begin = LLVMBuildAdd(ll->b, i, muse_llvm_i64(ll, block.rows), "");
  }
  accumulate_range(ll, &block, begin, end, acc);
  if (tile->shape == MUSE_GEMM_LOWER) accumulate_diagonal(ll, &block, i, true, acc);
  for (int r = 0; r < block.rows; r++)
    for (int v = 0; v < block.vectors; v++) {
      LLVMValueRef at = muse_llvm_i64(ll, r * tile->ldc + (int64_t)v * ll->lanes),
                   active = active_columns(ll, &block, v);
      LLVMValueRef value = acc[r][v];
      if (tile->accumulate)
        value = LLVMBuildFAdd(ll->b, muse_llvm_load(ll, MUSE_F32, block.c, at, ll->lanes, active), value, "");
      muse_llvm_store(ll, MUSE_F32, block.c, at, value, ll->lanes, active);
    }
}

// All rows of one panel of columns that starts at column j.
static void emit_panel(MuseLlvm *ll, Block block, int mr, LLVMValueRef j) {
  const MuseGemmTile *tile = block.tile;
  block.b = muse_llvm_address(ll, MUSE_F32, block.b, j);
  block.c = muse_llvm_address(ll, MUSE_F32, block.c, j);
  LLVMValueRef first = muse_llvm_i64(ll, 0);
  if (tile->shape == MUSE_GEMM_LOWER_OUT) { // rows above the first block that reaches column j are not needed
    LLVMValueRef step = muse_llvm_i64(ll, mr);
    first = LLVMBuildMul(ll->b, LLVMBuildUDiv(ll->b, j, step, ""), step, "");
  }
  const int64_t whole = tile->m / mr * mr;
  if (whole > 0) {
    MuseLlvmLoop rows;
    block.rows = mr;
    muse_llvm_loop_begin(ll, &rows, first, muse_llvm_i64(ll, whole), mr);
    emit_block(ll, block, rows.index);
    muse_llvm_loop_end(ll, &rows);
  }
  if (whole < tile->m) {
    block.rows = (int)(tile->m - whole);
    emit_block(ll, block, muse_llvm_i64(ll, whole));
  }
}

// Rows and vectors of a register block: accumulators, one row of B and a broadcast must fit the register file.
static void choose_block(const MuseLlvm *ll, const MuseGemmTile *tile, int *out_rows, int *out_vectors) {
  const bool many = !ll->is_x86 || ll->lanes == 16; // 32 vector registers, else 16
  const int64_t vectors = (tile->n + ll->lanes - 1) / ll->lanes;
  static const int rows_of_32[MAX_VECTORS + 1] = {0, 12, 12, 8, 6};
  static const int rows_of_16[MAX_VECTORS + 1] = {0, 10, 6, 4, 3};
  const int most = many ? 4 : ll->lanes == 1 ? 4 : 2;
  *out_vectors = vectors < most ? (int)vectors : most;
  const int rows = many ? rows_of_32[*out_vectors] : rows_of_16[*out_vectors];
  *out_rows = tile->m < rows ? (int)tile->m : rows;
}

static void emit_gemm(MuseLlvm *ll, LLVMValueRef function, const MuseGemmTile *tile, const MuseGemmPrefetch *prefetch) {
  int mr, nv;
  choose_block(ll, tile, &mr, &nv);
  const int64_t width = (int64_t)nv * ll->lanes, whole = tile->n / width * width;
  Block block = {.tile = tile,
                 .prefetch = prefetch,
                 .a = LLVMGetParam(function, 0),
                 .b = LLVMGetParam(function, 1),
                 .c = LLVMGetParam(function, 2)};
  if (whole > 0) {
    MuseLlvmLoop panels;
    block.vectors = nv;
    block.columns = width;
    muse_llvm_loop_begin(ll, &panels, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), width);
    emit_panel(ll, block, mr, panels.index);
    muse_llvm_loop_end(ll, &panels);
  }
  if (whole < tile->n) {
    block.columns = tile->n - whole;
    block.vectors = (int)((block.columns + ll->lanes - 1) / ll->lanes);
    emit_panel(ll, block, mr, muse_llvm_i64(ll, whole));
  }
}

void muse_llvm_gemm_tile_prefetching(MuseLlvm *ll, const MuseGemmTile *tile, const MuseGemmPrefetch *prefetch,
                                     LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
  const bool triangle = tile->shape == MUSE_GEMM_LOWER || tile->shape == MUSE_GEMM_UPPER;
  MUSE_ASSERT(tile->m > 0 && tile->n > 0 && tile->k > 0 && (!triangle || tile->m == tile->k));
  const char *name =
      muse_arena_printf(ll->arena, "gemm_%lldx%lldx%lld_a%lld_%lld_b%lld_c%lld_%d%s", (long long)tile->m,
                        (long long)tile->n, (long long)tile->k, (long long)tile->a_row, (long long)tile->a_col,
                        (long long)tile->ldb, (long long)tile->ldc, (int)tile->shape, tile->accumulate ? "_add" : "");
  const int n = prefetch ? prefetch->n : 0;
  for (int i = 0; i < n; i++)
    name = muse_arena_printf(ll->arena, "%s_p%lld_%lld_%lld", name, (long long)prefetch->of[i].rows,
                             (long long)prefetch->of[i].stride, (long long)prefetch->of[i].bytes);
  LLVMTypeRef params[3 + MUSE_GEMM_MAX_PREFETCH];
  LLVMValueRef args[3 + MUSE_GEMM_MAX_PREFETCH] = {a, b, c};
  MUSE_ASSERT(n <= MUSE_GEMM_MAX_PREFETCH);
  for (int i = 0; i < 3 + n; i++) params[i] = ll->ptr;
  for (int i = 0; i < n; i++) args[3 + i] = prefetch->of[i].from;
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, params, 3 + n, &helper)) {
    MuseGemmPrefetch inside = prefetch ? *prefetch : (MuseGemmPrefetch){0};
    for (int i = 0; i < n; i++) inside.of[i].from = LLVMGetParam(helper.function, (unsigned)(3 + i));
    emit_gemm(ll, helper.function, tile, prefetch ? &inside : NULL);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, args, 3 + n);
}

void muse_llvm_gemm_tile(MuseLlvm *ll, const MuseGemmTile *tile, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
  muse_llvm_gemm_tile_prefetching(ll, tile, NULL, a, b, c);
}

// ---- layouts ----

void muse_llvm_pack_rows(MuseLlvm *ll, int64_t rows, int64_t columns, int64_t stride, LLVMValueRef from,
                         LLVMValueRef valid, LLVMValueRef to) {
  const char *name =
      muse_arena_printf(ll->arena, "pack_%lldx%lld_%lld", (long long)rows, (long long)columns, (long long)stride);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->ptr, ll->i64, ll->ptr}, 3, &helper)) {
    LLVMValueRef source = LLVMGetParam(helper.function, 0), count = LLVMGetParam(helper.function, 1);
    LLVMValueRef target = LLVMGetParam(helper.function, 2);
    const int64_t padded = muse_llvm_pad(ll, columns);
    MuseLlvmLoop row, column;
    muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), count, 1);
    LLVMValueRef out = element(ll, target, row.index, padded), in = element(ll, source, row.index, stride);
    const int64_t whole = columns / ll->lanes * ll->lanes;
    muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), ll->lanes);
    muse_llvm_store(ll, MUSE_F32, out, column.index, muse_llvm_load(ll, MUSE_F32, in, column.index, ll->lanes, NULL),
                    ll->lanes, NULL);
    muse_llvm_loop_end(ll, &column);
    if (whole < columns) {
      LLVMValueRef at = muse_llvm_i64(ll, whole), active = muse_llvm_i64(ll, columns - whole);
      muse_llvm_store(ll, MUSE_F32, out, at, muse_llvm_load(ll, MUSE_F32, in, at, ll->lanes, active), ll->lanes, NULL);
    }
    muse_llvm_loop_end(ll, &row);
    // The rows that are not there.
    LLVMValueRef width = muse_llvm_i64(ll, padded), zero = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes));
    muse_llvm_loop_begin(ll, &row, LLVMBuildMul(ll->b, count, width, ""), muse_llvm_i64(ll, rows * padded), ll->lanes);
    muse_llvm_store(ll, MUSE_F32, target, row.index, zero, ll->lanes, NULL);
    muse_llvm_loop_end(ll, &row);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){from, valid, to}, 3);
}

typedef enum UnpackMode { UNPACK_STORE, UNPACK_SUM, UNPACK_ACCUMULATE } UnpackMode;

static void unpack(MuseLlvm *ll, UnpackMode mode, int64_t columns, int64_t stride, LLVMValueRef from, LLVMValueRef add,
                   LLVMValueRef valid, LLVMValueRef to) {
  const char *name =
      muse_arena_printf(ll->arena, "unpack_%lld_%lld_%d", (long long)columns, (long long)stride, (int)mode);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->ptr, ll->ptr, ll->i64, ll->ptr}, 4, &helper)) {
    const int64_t padded = muse_llvm_pad(ll, columns);
    MuseLlvmLoop row;
    muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), LLVMGetParam(helper.function, 2), 1);
    LLVMValueRef in = element(ll, LLVMGetParam(helper.function, 0), row.index, padded);
    LLVMValueRef more = element(ll, LLVMGetParam(helper.function, 1), row.index, padded);
    LLVMValueRef out = element(ll, LLVMGetParam(helper.function, 3), row.index, stride);
    for (int64_t j = 0; j < columns; j += ll->lanes) {
      LLVMValueRef active = columns - j < ll->lanes ? muse_llvm_i64(ll, columns - j) : NULL, at = muse_llvm_i64(ll, j);
      LLVMValueRef value = muse_llvm_load(ll, MUSE_F32, in, at, ll->lanes, NULL), other = NULL;
      if (mode == UNPACK_SUM) other = muse_llvm_load(ll, MUSE_F32, more, at, ll->lanes, NULL);
      if (mode == UNPACK_ACCUMULATE) other = muse_llvm_load(ll, MUSE_F32, out, at, ll->lanes, active);
      if (other) value = LLVMBuildFAdd(ll->b, value, other, "");
      muse_llvm_store(ll, MUSE_F32, out, at, value, ll->lanes, active);
    }
    muse_llvm_loop_end(ll, &row);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){from, add, valid, to}, 4);
}

void muse_llvm_unpack_rows(MuseLlvm *ll, int64_t columns, int64_t stride, LLVMValueRef from, LLVMValueRef add,
                           LLVMValueRef valid, LLVMValueRef to) {
  unpack(ll, add ? UNPACK_SUM : UNPACK_STORE, columns, stride, from, add ? add : from, valid, to);
}

void muse_llvm_accumulate_rows(MuseLlvm *ll, int64_t columns, int64_t stride, LLVMValueRef from, LLVMValueRef valid,
                               LLVMValueRef to) {
  unpack(ll, UNPACK_ACCUMULATE, columns, stride, from, from, valid, to);
}

// A square block of lanes x lanes in registers: log2(lanes) rounds, each exchanging halves of pairs of rows.
static void transpose_block(MuseLlvm *ll, LLVMValueRef *row) {
  const int n = ll->lanes;
  int keep[64], move[64];
  MUSE_ASSERT(n <= 32);
  for (int s = 1; s < n; s *= 2) {
    for (int lane = 0; lane < n; lane++) {
      keep[lane] = lane & s ? n + lane - s : lane;
      move[lane] = lane & s ? n + lane : lane + s;
    }
    for (int r = 0; r < n; r++) {
      if (r & s) continue;
      LLVMValueRef low = row[r], high = row[r | s];
      row[r] = muse_llvm_shuffle(ll, low, high, keep, n);
      row[r | s] = muse_llvm_shuffle(ll, low, high, move, n);
    }
  }
}

void muse_llvm_transpose_tile(MuseLlvm *ll, int64_t rows, int64_t columns, LLVMValueRef from, LLVMValueRef to) {
  const int n = ll->lanes;
  MUSE_ASSERT(rows % n == 0 && columns % n == 0);
  const char *name = muse_arena_printf(ll->arena, "transpose_%lldx%lld", (long long)rows, (long long)columns);
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, name, (LLVMTypeRef[]){ll->ptr, ll->ptr}, 2, &helper)) {
    MuseLlvmLoop i, j;
    LLVMValueRef block[64];
    muse_llvm_loop_begin(ll, &i, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, rows), n);
    muse_llvm_loop_begin(ll, &j, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, columns), n);
    LLVMValueRef in =
        muse_llvm_address(ll, MUSE_F32, element(ll, LLVMGetParam(helper.function, 0), i.index, columns), j.index);
    LLVMValueRef out =
        muse_llvm_address(ll, MUSE_F32, element(ll, LLVMGetParam(helper.function, 1), j.index, rows), i.index);
    for (int r = 0; r < n; r++) block[r] = muse_llvm_load(ll, MUSE_F32, in, muse_llvm_i64(ll, r * columns), n, NULL);
    transpose_block(ll, block);
    for (int r = 0; r < n; r++) muse_llvm_store(ll, MUSE_F32, out, muse_llvm_i64(ll, r * rows), block[r], n, NULL);
    muse_llvm_loop_end(ll, &j);
    muse_llvm_loop_end(ll, &i);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){from, to}, 2);
}
