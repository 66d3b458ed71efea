// Shared pieces of the chunked resolvent scans.

#include "compiler/emit_llvm_scan_chunk.h"

#include "ir/base/checked.h"

// ---- tiles ----

static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(ll->b, x, muse_llvm_i64(ll, y), "");
}
static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildNSWAdd(ll->b, x, y, ""); }

MuseScanChunk muse_scan_chunk(MuseLlvm *ll, const MuseOp *kernel) {
  MuseScanChunk cx = {.op = muse_kernel_single_op(kernel)};
  muse_resolvent_layout(kernel, &cx.layout);
  cx.pd = muse_llvm_pad(ll, cx.layout.d);
  return cx;
}

void muse_scan_set_task(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef task) {
  LLVMValueRef H = muse_llvm_i64(ll, cx->layout.H);
  cx->row = LLVMBuildUDiv(ll->b, task, H, "");
  cx->head = LLVMBuildURem(ll->b, task, H, "");
  cx->tokens = add(ll, mul(ll, cx->row, cx->layout.T * cx->layout.H), cx->head);
  cx->vectors = mul(ll, cx->tokens, cx->layout.d);
}

void muse_scan_block_begin(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanBlock *out) {
  LLVMValueRef heads = muse_llvm_i64(ll, cx->layout.heads), begin = LLVMBuildUDiv(ll->b, ll->begin, heads, "");
  LLVMValueRef past = add(ll, ll->end, muse_llvm_i64(ll, cx->layout.heads - 1));
  muse_llvm_loop_begin(ll, &out->loop, begin, LLVMBuildUDiv(ll->b, past, heads, ""), 1);
  out->first = mul(ll, out->loop.index, cx->layout.heads);
  LLVMValueRef inside = LLVMBuildICmp(ll->b, LLVMIntSGT, ll->begin, out->first, "");
  out->begin = LLVMBuildSelect(ll->b, inside, ll->begin, out->first, "");
  out->end = muse_llvm_min(ll, add(ll, out->first, heads), ll->end, false);
}

void muse_scan_block_end(MuseLlvm *ll, MuseScanBlock *block) { muse_llvm_loop_end(ll, &block->loop); }

void muse_scan_tasks_begin(MuseLlvm *ll, MuseScanChunk *cx, const MuseScanBlock *block, MuseLlvmLoop *out) {
  muse_llvm_loop_begin(ll, out, block->begin, block->end, 1);
  muse_scan_set_task(ll, cx, out->index);
  cx->slot = LLVMBuildSub(ll->b, out->index, block->first, "");
}

LLVMValueRef muse_scan_state(MuseLlvm *ll, const MuseScanChunk *cx, int64_t tile, int64_t count, LLVMValueRef index) {
  LLVMValueRef at = add(ll, mul(ll, cx->slot, count), index);
  return muse_llvm_byte_address(ll, muse_scan_tile(ll, tile), mul(ll, at, cx->layout.state_bytes));
}

void muse_scan_set_chunk(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef chunk) {
  const int64_t C = cx->layout.chunk;
  cx->t0 = mul(ll, chunk, C);
  LLVMValueRef left = LLVMBuildSub(ll->b, muse_llvm_i64(ll, cx->layout.T), cx->t0, "");
  cx->valid = muse_llvm_min(ll, left, muse_llvm_i64(ll, C), false);
}

LLVMValueRef muse_scan_tile(MuseLlvm *ll, int64_t offset) { return muse_llvm_byte_offset(ll, ll->scratch, offset); }

LLVMValueRef muse_scan_row(MuseLlvm *ll, const MuseScanChunk *cx, int row) {
  return muse_scan_tile(ll, cx->layout.rows + row * cx->layout.chunk * 4);
}

static LLVMValueRef chunk_address(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef base) {
  LLVMValueRef at = add(ll, cx->vectors, mul(ll, cx->t0, cx->layout.H * cx->layout.d));
  return muse_llvm_address(ll, MUSE_F32, base, at);
}

void muse_scan_pack(MuseLlvm *ll, const MuseScanChunk *cx, int operand, int64_t tile) {
  LLVMValueRef base = muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, operand));
  muse_llvm_pack_rows(ll, cx->layout.chunk, cx->layout.d, cx->layout.H * cx->layout.d, chunk_address(ll, cx, base),
                      cx->valid, muse_scan_tile(ll, tile));
}

void muse_scan_transpose(MuseLlvm *ll, const MuseScanChunk *cx, int64_t from, int64_t to) {
  muse_llvm_transpose_tile(ll, cx->layout.chunk, cx->pd, muse_scan_tile(ll, from), muse_scan_tile(ll, to));
}

void muse_scan_unpack(MuseLlvm *ll, const MuseScanChunk *cx, int index, int64_t tile, int64_t added) {
  const int result = muse_kernel_result_of(cx->op, index);
  if (result < 0) return;
  muse_llvm_unpack_rows(ll, cx->layout.d, cx->layout.H * cx->layout.d, muse_scan_tile(ll, tile),
                        added < 0 ? NULL : muse_scan_tile(ll, added), cx->valid,
                        chunk_address(ll, cx, muse_llvm_result(ll, result)));
}

// Appends the rows of one chunk of `base`, a tensor [B,T,H,d], [B,T,H] or [B,T]. What all heads of a few tokens have in
// one line is asked for by lines.
static void add_chunk(MuseLlvm *ll, const MuseScanChunk *cx, MuseType type, LLVMValueRef base, LLVMValueRef t0,
                      MuseGemmPrefetch *out) {
  const MuseResolventLayout *l = &cx->layout;
  const int64_t width = (type.rank == 4 ? l->d : 1) * 4, stride = (type.rank > 2 ? l->H : 1) * width;
  const bool lines = width < 64 && stride < 64;
  LLVMValueRef at = mul(ll, add(ll, mul(ll, cx->row, l->T), t0), stride);
  if (!lines) at = add(ll, at, mul(ll, cx->head, width));
  MUSE_ASSERT(out->n < MUSE_GEMM_MAX_PREFETCH);
  // No inbounds: before the first chunk and after the last the addresses are those of nothing.
  LLVMValueRef from = muse_llvm_byte_address(ll, base, at);
  out->of[out->n++] = lines ? (MusePrefetchPiece){from, muse_ceil_div(l->chunk * stride, 64), 64, 64}
                            : (MusePrefetchPiece){from, l->chunk, stride, width};
}

void muse_scan_product(MuseLlvm *ll, const MuseScanChunk *cx, MuseGemmTile tile, LLVMValueRef a, LLVMValueRef b,
                       LLVMValueRef c, MuseScanAhead ahead) {
  const MuseResolventLayout *l = &cx->layout;
  LLVMValueRef t0 = add(ll, cx->t0, muse_llvm_i64(ll, ahead.chunks_ahead * l->chunk));
  MuseGemmPrefetch prefetch = {0};
  for (int i = 0; i < cx->op->n_operands; i++) {
    if (!(ahead.operands >> i & 1)) continue;
    LLVMValueRef base = muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, i));
    add_chunk(ll, cx, cx->op->operands[i]->type, base, t0, &prefetch);
  }
  for (int i = 0; i < cx->op->n_results; i++) {
    const int result = ahead.results >> i & 1 ? muse_kernel_result_of(cx->op, i) : -1;
    if (result >= 0) add_chunk(ll, cx, cx->op->results[i]->type, muse_llvm_result(ll, result), t0, &prefetch);
  }
  if (ahead.state)
    prefetch.of[prefetch.n++] = (MusePrefetchPiece){ahead.state, muse_ceil_div(2 * l->d * cx->pd * 4, 64), 64, 64};
  muse_llvm_gemm_tile_prefetching(ll, &tile, l->n_chunks > 1 ? &prefetch : NULL, a, b, c);
}

// ---- complex values ----

MuseComplexValue muse_complex_mul(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y) {
  LLVMValueRef imim = LLVMBuildFNeg(ll->b, LLVMBuildFMul(ll->b, x.im, y.im, ""), "");
  return (MuseComplexValue){muse_llvm_fma(ll, x.re, y.re, imim),
                            muse_llvm_fma(ll, x.re, y.im, LLVMBuildFMul(ll->b, x.im, y.re, ""))};
}

MuseComplexValue muse_complex_add(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y) {
  return (MuseComplexValue){LLVMBuildFAdd(ll->b, x.re, y.re, ""), LLVMBuildFAdd(ll->b, x.im, y.im, "")};
}

MuseComplexValue muse_complex_sub(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y) {
  return (MuseComplexValue){LLVMBuildFSub(ll->b, x.re, y.re, ""), LLVMBuildFSub(ll->b, x.im, y.im, "")};
}

MuseComplexValue muse_complex_splat(MuseLlvm *ll, MuseComplexValue x) {
  return (MuseComplexValue){muse_llvm_splat(ll, x.re, ll->lanes), muse_llvm_splat(ll, x.im, ll->lanes)};
}

MuseComplexValue muse_complex_select(MuseLlvm *ll, LLVMValueRef zero_if, MuseComplexValue x) {
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(x.re));
  return (MuseComplexValue){LLVMBuildSelect(ll->b, zero_if, zero, x.re, ""),
                            LLVMBuildSelect(ll->b, zero_if, zero, x.im, "")};
}

MuseComplexValue muse_scan_load(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanRow row, LLVMValueRef index, int lanes) {
  return (MuseComplexValue){muse_llvm_load(ll, MUSE_F32, muse_scan_row(ll, cx, row), index, lanes, NULL),
                            muse_llvm_load(ll, MUSE_F32, muse_scan_row(ll, cx, row + 1), index, lanes, NULL)};
}

void muse_scan_store(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanRow row, LLVMValueRef index, MuseComplexValue x,
                     int lanes) {
  muse_llvm_store(ll, MUSE_F32, muse_scan_row(ll, cx, row), index, x.re, lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, muse_scan_row(ll, cx, row + 1), index, x.im, lanes, NULL);
}

// ---- the kernel of a chunk ----

MuseComplexValue muse_scan_e(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef t, LLVMValueRef *out_first) {
  LLVMValueRef last = LLVMBuildSub(ll->b, cx->valid, muse_llvm_i64(ll, 1), "");
  LLVMValueRef token = add(ll, cx->t0, muse_llvm_min(ll, t, last, false));
  LLVMValueRef at = add(ll, cx->tokens, mul(ll, token, cx->layout.H));
  LLVMValueRef missing = LLVMBuildICmp(ll->b, LLVMIntSGE, t, cx->valid, "");
  MuseComplexValue e;
  e.re = muse_llvm_load(ll, MUSE_F32, muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, 3)), at, 1, NULL);
  e.im = muse_llvm_load(ll, MUSE_F32, muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, 4)), at, 1, NULL);
  LLVMValueRef doc = muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, 5));
  LLVMValueRef begin = muse_llvm_load(ll, MUSE_I32, doc, add(ll, mul(ll, cx->row, cx->layout.T), token), 1, NULL);
  *out_first = LLVMBuildICmp(ll->b, LLVMIntEQ, begin, LLVMBuildTrunc(ll->b, token, ll->i32, ""), "");
  e.re = LLVMBuildSelect(ll->b, missing, muse_llvm_f32(ll, 1), e.re, "");
  e.im = LLVMBuildSelect(ll->b, missing, muse_llvm_f32(ll, 0), e.im, "");
  return e;
}

static MuseComplexValue negate(MuseLlvm *ll, MuseComplexValue x) {
  return (MuseComplexValue){LLVMBuildFNeg(ll->b, x.re, ""), LLVMBuildFNeg(ll->b, x.im, "")};
}

// -g x = (1 - e) x as x - e x: 1 - e is never rounded, whose errors would be alike for all tokens of a slow head.
static MuseComplexValue times_minus_g(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue e) {
  return muse_complex_sub(ll, x, muse_complex_mul(ll, e, x));
}

MuseComplexValue muse_scan_g_of_e(MuseLlvm *ll, MuseComplexValue e) {
  return (MuseComplexValue){LLVMBuildFSub(ll->b, e.re, muse_llvm_const(LLVMTypeOf(e.re), 1), ""), e.im};
}

// One vector of row t of A: the row before times f_t, and g_t at s = t.
static MuseComplexValue next_row(MuseLlvm *ll, MuseComplexValue before, MuseComplexValue e, MuseComplexValue g,
                                 LLVMValueRef first, LLVMValueRef is_diagonal) {
  MuseComplexValue row = muse_complex_select(ll, first, times_minus_g(ll, before, e));
  row.re = LLVMBuildSelect(ll->b, is_diagonal, g.re, row.re, "");
  row.im = LLVMBuildSelect(ll->b, is_diagonal, g.im, row.im, "");
  return row;
}

// Row t of the tiles m and n, columns from `column` on; returns the terms A_ts M_ts N_ts (gradient only).
static MuseComplexValue apply_row(MuseLlvm *ll, const MuseScanChunk *cx, bool grad, MuseComplexValue a, LLVMValueRef t,
                                  LLVMValueRef column, LLVMValueRef is_future) {
  LLVMValueRef at = add(ll, mul(ll, t, cx->layout.chunk), column);
  LLVMValueRef m_tile = muse_scan_tile(ll, cx->layout.m), m = muse_llvm_load(ll, MUSE_F32, m_tile, at, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, m_tile, at, LLVMBuildFMul(ll->b, a.re, m, ""), ll->lanes, NULL);
  if (!grad) return (MuseComplexValue){0};
  LLVMValueRef n_tile = muse_scan_tile(ll, cx->layout.n), n = muse_llvm_load(ll, MUSE_F32, n_tile, at, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, n_tile, at, LLVMBuildFMul(ll->b, a.re, n, ""), ll->lanes, NULL);
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(m));
  LLVMValueRef mn = LLVMBuildSelect(ll->b, is_future, zero, LLVMBuildFMul(ll->b, m, n, ""), "");
  return (MuseComplexValue){LLVMBuildFMul(ll->b, a.re, mn, ""), LLVMBuildFMul(ll->b, a.im, mn, "")};
}

static void scale_query(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef t, MuseComplexValue p) {
  LLVMValueRef q = muse_llvm_address(ll, MUSE_F32, muse_scan_tile(ll, cx->layout.q), mul(ll, t, cx->pd));
  LLVMValueRef to = muse_llvm_address(ll, MUSE_F32, muse_scan_tile(ll, cx->layout.left), mul(ll, t, 2 * cx->layout.dp));
  LLVMValueRef factor[2] = {muse_llvm_splat(ll, p.re, ll->lanes),
                            muse_llvm_splat(ll, LLVMBuildFNeg(ll->b, p.im, ""), ll->lanes)};
  // The second half begins right after d elements of the first, over its padding.
  for (int half = 0; half < 2; half++) {
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->layout.d), ll->lanes);
    LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, q, loop.index, ll->lanes, NULL);
    LLVMValueRef at = add(ll, loop.index, muse_llvm_i64(ll, half * cx->layout.d));
    muse_llvm_store(ll, MUSE_F32, to, at, LLVMBuildFMul(ll->b, x, factor[half], ""), ll->lanes, NULL);
    muse_llvm_loop_end(ll, &loop);
  }
}

void muse_scan_rows(MuseLlvm *ll, MuseScanChunk *cx, bool grad, bool scale_queries) {
  const int64_t C = cx->layout.chunk;
  LLVMTypeRef vector = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = LLVMConstNull(vector), zero64 = muse_llvm_i64(ll, 0);
  muse_scan_fill(ll, muse_scan_row(ll, cx, MUSE_SCAN_A), 2 * C);
  if (grad) muse_scan_fill(ll, muse_scan_row(ll, cx, MUSE_SCAN_COL), 2 * C);
  MuseLlvmLoop token, column;
  muse_llvm_loop_begin(ll, &token, zero64, muse_llvm_i64(ll, C), 1);
  MuseComplexValue p = {muse_llvm_loop_carry(ll, &token, muse_llvm_f32(ll, 1)), NULL};
  p.im = muse_llvm_loop_carry(ll, &token, muse_llvm_f32(ll, 0));
  LLVMValueRef t = token.index, first;
  MuseComplexValue e = muse_scan_e(ll, cx, t, &first), g = muse_scan_g_of_e(ll, e);
  p = muse_complex_select(ll, first, times_minus_g(ll, p, e));
  muse_scan_store(ll, cx, MUSE_SCAN_P, t, p, 1);
  MuseComplexValue gs = muse_complex_splat(ll, g), es = muse_complex_splat(ll, e);

  LLVMValueRef lane = muse_llvm_iota(ll, ll->i32, ll->lanes);
  LLVMValueRef t32 = muse_llvm_splat(ll, LLVMBuildTrunc(ll->b, t, ll->i32, ""), ll->lanes);
  muse_llvm_loop_begin(ll, &column, zero64, add(ll, t, muse_llvm_i64(ll, 1)), ll->lanes);
  MuseComplexValue sum = {0};
  if (grad) {
    sum.re = muse_llvm_loop_carry(ll, &column, zero);
    sum.im = muse_llvm_loop_carry(ll, &column, zero);
  }
  LLVMValueRef s0 = LLVMBuildTrunc(ll->b, column.index, ll->i32, "");
  LLVMValueRef s = LLVMBuildAdd(ll->b, lane, muse_llvm_splat(ll, s0, ll->lanes), "");
  MuseComplexValue a = muse_scan_load(ll, cx, MUSE_SCAN_A, column.index, ll->lanes);
  a = next_row(ll, a, es, gs, first, LLVMBuildICmp(ll->b, LLVMIntEQ, s, t32, ""));
  muse_scan_store(ll, cx, MUSE_SCAN_A, column.index, a, ll->lanes);
  MuseComplexValue x = apply_row(ll, cx, grad, a, t, column.index, LLVMBuildICmp(ll->b, LLVMIntSGT, s, t32, ""));
  if (grad) {
    MuseComplexValue of_column = muse_scan_load(ll, cx, MUSE_SCAN_COL, column.index, ll->lanes);
    muse_scan_store(ll, cx, MUSE_SCAN_COL, column.index, muse_complex_add(ll, of_column, x), ll->lanes);
    sum = muse_complex_add(ll, sum, x);
    muse_llvm_loop_next(&column, 0, sum.re);
    muse_llvm_loop_next(&column, 1, sum.im);
  }
  muse_llvm_loop_end(ll, &column);
  if (grad) {
    sum = (MuseComplexValue){muse_llvm_sum_lanes(ll, column.result[0]), muse_llvm_sum_lanes(ll, column.result[1])};
    muse_scan_store(ll, cx, MUSE_SCAN_SUM, t, sum, 1);
  }
  if (scale_queries) scale_query(ll, cx, t, p);
  muse_llvm_loop_next(&token, 0, p.re);
  muse_llvm_loop_next(&token, 1, p.im);
  muse_llvm_loop_end(ll, &token);
  cx->p_end = (MuseComplexValue){token.result[0], token.result[1]};
}

void muse_scan_last_row(MuseLlvm *ll, MuseScanChunk *cx) {
  MuseLlvmLoop loop;
  LLVMValueRef last = muse_llvm_i64(ll, cx->layout.chunk - 1), first;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->layout.chunk), 1);
  MuseComplexValue after = {muse_llvm_loop_carry(ll, &loop, muse_llvm_f32(ll, 1)), NULL}; // f of the later tokens
  after.im = muse_llvm_loop_carry(ll, &loop, muse_llvm_f32(ll, 0));
  LLVMValueRef t = LLVMBuildSub(ll->b, last, loop.index, "");
  after = times_minus_g(ll, after, muse_scan_e(ll, cx, t, &first));
  muse_scan_store(ll, cx, MUSE_SCAN_A, t, negate(ll, after), 1);
  after = muse_complex_select(ll, first, after);
  muse_llvm_loop_next(&loop, 0, after.re);
  muse_llvm_loop_next(&loop, 1, after.im);
  muse_llvm_loop_end(ll, &loop);
  cx->p_end = (MuseComplexValue){loop.result[0], loop.result[1]};
}

// ---- states ----

void muse_scan_fill(MuseLlvm *ll, LLVMValueRef to, int64_t floats) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, floats), ll->lanes);
  muse_llvm_store(ll, MUSE_F32, to, loop.index, LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &loop);
}

void muse_scan_copy(MuseLlvm *ll, LLVMValueRef from, LLVMValueRef to, int64_t floats) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, floats), ll->lanes);
  muse_llvm_store(ll, MUSE_F32, to, loop.index, muse_llvm_load(ll, MUSE_F32, from, loop.index, ll->lanes, NULL),
                  ll->lanes, NULL);
  muse_llvm_loop_end(ll, &loop);
}

void muse_scan_scale_state(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef from, LLVMValueRef to) {
  const int64_t half = cx->layout.d * cx->pd;
  MuseComplexValue p = muse_complex_splat(ll, cx->p_end);
  LLVMValueRef from_im = muse_llvm_byte_offset(ll, from, half * 4), to_im = muse_llvm_byte_offset(ll, to, half * 4);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, half), ll->lanes);
  MuseComplexValue s = {muse_llvm_load(ll, MUSE_F32, from, loop.index, ll->lanes, NULL),
                        muse_llvm_load(ll, MUSE_F32, from_im, loop.index, ll->lanes, NULL)};
  s = muse_complex_mul(ll, s, p);
  muse_llvm_store(ll, MUSE_F32, to, loop.index, s.re, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, to_im, loop.index, s.im, ll->lanes, NULL);
  muse_llvm_loop_end(ll, &loop);
}

void muse_scan_advance(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef from, LLVMValueRef to,
                       MuseScanAhead ahead) {
  const int64_t C = cx->layout.chunk, d = cx->layout.d;
  LLVMValueRef left = muse_scan_tile(ll, cx->layout.left), kt = muse_scan_tile(ll, cx->layout.kt);
  MuseLlvmLoop row, column;
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, d), 1);
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, C), ll->lanes);
  MuseComplexValue a = muse_scan_load(ll, cx, MUSE_SCAN_A, column.index, ll->lanes);
  LLVMValueRef at = add(ll, mul(ll, row.index, C), column.index),
               k = muse_llvm_load(ll, MUSE_F32, kt, at, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, left, at, LLVMBuildFMul(ll->b, a.re, k, ""), ll->lanes, NULL);
  at = add(ll, at, muse_llvm_i64(ll, d * C));
  muse_llvm_store(ll, MUSE_F32, left, at, LLVMBuildFMul(ll->b, a.im, k, ""), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &column);
  muse_llvm_loop_end(ll, &row);
  muse_scan_scale_state(ll, cx, from, to);
  MuseGemmTile tile = {
      .m = 2 * d, .n = cx->pd, .k = C, .a_row = C, .a_col = 1, .ldb = cx->pd, .ldc = cx->pd, .accumulate = true};
  LLVMValueRef v = muse_scan_tile(ll, cx->layout.v);
  muse_scan_product(ll, cx, tile, left, v, to, ahead);
}
