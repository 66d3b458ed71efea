// Shared pieces of windowed attention.

#include "compiler/emit_llvm_window.h"

#include "compiler/emit_llvm_math.h"
#include "compiler/skel_scan.h"

static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(ll->b, x, muse_llvm_i64(ll, y), "");
}
static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildNSWAdd(ll->b, x, y, ""); }

MuseWindow muse_window(MuseLlvm *ll, const MuseOp *kernel) {
  MuseWindow cx = {.op = muse_kernel_single_op(kernel)};
  muse_window_layout(kernel, &cx.layout);
  cx.pd = muse_llvm_pad(ll, cx.layout.d);
  cx.hyperbolic = muse_str_eq(muse_op_text(cx.op, "score"), "hyperbolic");
  return cx;
}

LLVMValueRef muse_window_tile(MuseLlvm *ll, int64_t offset) { return muse_llvm_byte_offset(ll, ll->scratch, offset); }

LLVMValueRef muse_window_operand(MuseLlvm *ll, const MuseWindow *cx, int index) {
  return muse_llvm_operand(ll, muse_kernel_operand_of(cx->op, index));
}

LLVMValueRef muse_window_row(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row) {
  return muse_window_tile(ll, cx->layout.rows + (int64_t)row * cx->layout.chunk * 4);
}

LLVMValueRef muse_window_load(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row, LLVMValueRef index, int lanes) {
  return muse_llvm_load(ll, MUSE_F32, muse_window_row(ll, cx, row), index, lanes, NULL);
}

void muse_window_store(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row, LLVMValueRef index, LLVMValueRef value,
                       int lanes) {
  muse_llvm_store(ll, MUSE_F32, muse_window_row(ll, cx, row), index, value, lanes, NULL);
}

void muse_window_set_head(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef row_and_head) {
  LLVMValueRef H = muse_llvm_i64(ll, cx->layout.H);
  cx->row = LLVMBuildUDiv(ll->b, row_and_head, H, "");
  cx->head = LLVMBuildURem(ll->b, row_and_head, H, "");
  cx->tokens = add(ll, mul(ll, cx->row, cx->layout.T * cx->layout.H), cx->head);
  cx->vectors = mul(ll, cx->tokens, cx->layout.d);
  if (cx->hyperbolic) cx->scale = muse_llvm_load(ll, MUSE_F32, muse_window_operand(ll, cx, 6), cx->head, 1, NULL);
}

LLVMValueRef muse_window_vectors_at(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef base, LLVMValueRef token) {
  return muse_llvm_address(ll, MUSE_F32, base, add(ll, cx->vectors, mul(ll, token, cx->layout.H * cx->layout.d)));
}

static LLVMValueRef existing(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef first_token) {
  LLVMValueRef left = LLVMBuildSub(ll->b, muse_llvm_i64(ll, cx->layout.T), first_token, "");
  return muse_llvm_min(ll, left, muse_llvm_i64(ll, cx->layout.chunk), false);
}

static void pack(MuseLlvm *ll, const MuseWindow *cx, int operand, LLVMValueRef first, LLVMValueRef valid,
                 int64_t tile) {
  LLVMValueRef from = muse_window_vectors_at(ll, cx, muse_window_operand(ll, cx, operand), first);
  muse_llvm_pack_rows(ll, cx->layout.chunk, cx->layout.d, cx->layout.H * cx->layout.d, from, valid,
                      muse_window_tile(ll, tile));
}

// Rows sinh_half.. (four of them) from the radii of the block's tokens; past the end of the row the last token stands
// in.
static void fill_radii(MuseLlvm *ll, const MuseWindow *cx, int operand, LLVMValueRef first, LLVMValueRef valid,
                       MuseWindowRow sinh_half) {
  LLVMValueRef zero = muse_llvm_i64(ll, 0), C = muse_llvm_i64(ll, cx->layout.chunk);
  LLVMValueRef last = LLVMBuildSub(ll->b, valid, muse_llvm_i64(ll, 1), "");
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, zero, C, 1);
  LLVMValueRef token = add(ll, first, muse_llvm_min(ll, loop.index, last, false));
  LLVMValueRef at = add(ll, cx->tokens, mul(ll, token, cx->layout.H));
  muse_window_store(ll, cx, sinh_half, loop.index,
                    muse_llvm_load(ll, MUSE_F32, muse_window_operand(ll, cx, operand), at, 1, NULL), 1);
  muse_llvm_loop_end(ll, &loop);
  muse_llvm_loop_begin(ll, &loop, zero, C, ll->lanes);
  LLVMValueRef radius = muse_window_load(ll, cx, sinh_half, loop.index, ll->lanes), ch, sh;
  muse_llvm_cosh_sinh(ll, LLVMBuildFMul(ll->b, radius, muse_llvm_const(LLVMTypeOf(radius), 0.5), ""), &ch, &sh);
  LLVMValueRef product = LLVMBuildFMul(ll->b, sh, ch, ""), square = LLVMBuildFMul(ll->b, sh, sh, "");
  LLVMValueRef one = muse_llvm_const(LLVMTypeOf(radius), 1);
  muse_window_store(ll, cx, sinh_half, loop.index, sh, ll->lanes);
  muse_window_store(ll, cx, sinh_half + 1, loop.index, ch, ll->lanes);
  muse_window_store(ll, cx, sinh_half + 2, loop.index, LLVMBuildFAdd(ll->b, product, product, ""), ll->lanes);
  muse_window_store(ll, cx, sinh_half + 3, loop.index,
                    LLVMBuildFAdd(ll->b, LLVMBuildFAdd(ll->b, square, square, ""), one, ""), ll->lanes);
  muse_llvm_loop_end(ll, &loop);
}

// max(doc, token - window + 1)
static LLVMValueRef first_visible(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef token) {
  LLVMValueRef at = add(ll, mul(ll, cx->row, cx->layout.T), token);
  LLVMValueRef doc = muse_llvm_load(ll, MUSE_I32, muse_window_operand(ll, cx, 3), at, 1, NULL);
  LLVMValueRef begin = LLVMBuildSub(ll->b, token, muse_llvm_i64(ll, cx->layout.window - 1), "");
  return muse_llvm_max(ll, LLVMBuildSExt(ll->b, doc, ll->i64, ""), begin, false);
}

void muse_window_set_query(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef block) {
  const MuseWindowLayout *l = &cx->layout;
  cx->query = block;
  cx->q0 = mul(ll, block, l->chunk);
  cx->q_valid = existing(ll, cx, cx->q0);
  pack(ll, cx, 0, cx->q0, cx->q_valid, l->q);
  muse_llvm_transpose_tile(ll, l->chunk, cx->pd, muse_window_tile(ll, l->q), muse_window_tile(ll, l->qt));
  if (cx->hyperbolic) fill_radii(ll, cx, 4, cx->q0, cx->q_valid, MUSE_WINDOW_Q_SINH_HALF);
  LLVMValueRef last = LLVMBuildSub(ll->b, cx->q_valid, muse_llvm_i64(ll, 1), "");
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, l->chunk), 1);
  LLVMValueRef token = add(ll, cx->q0, muse_llvm_min(ll, loop.index, last, false));
  LLVMValueRef first = LLVMBuildTrunc(ll->b, first_visible(ll, cx, token), ll->i32, "");
  muse_llvm_store(ll, MUSE_I32, muse_window_row(ll, cx, MUSE_WINDOW_FIRST), loop.index, first, 1, NULL);
  muse_window_store(ll, cx, MUSE_WINDOW_MAX, loop.index, muse_llvm_f32(ll, MUSE_WINDOW_LEAST), 1);
  muse_window_store(ll, cx, MUSE_WINDOW_SUM, loop.index, muse_llvm_f32(ll, 0), 1);
  muse_llvm_loop_end(ll, &loop);
}

// Documents begin in order, so no later query of the block sees an earlier key than its first query.
LLVMValueRef muse_window_first_key(MuseLlvm *ll, const MuseWindow *cx) {
  return LLVMBuildUDiv(ll->b, first_visible(ll, cx, cx->q0), muse_llvm_i64(ll, cx->layout.chunk), "");
}

void muse_window_set_key(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef block) {
  cx->key = block;
  cx->k0 = mul(ll, block, cx->layout.chunk);
  cx->k_valid = existing(ll, cx, cx->k0);
  cx->is_diagonal = LLVMBuildICmp(ll->b, LLVMIntEQ, block, cx->query, "");
}

void muse_window_pack_keys(MuseLlvm *ll, const MuseWindow *cx, bool with_values) {
  pack(ll, cx, 1, cx->k0, cx->k_valid, cx->layout.k);
  if (with_values) pack(ll, cx, 2, cx->k0, cx->k_valid, cx->layout.v);
  if (cx->hyperbolic) fill_radii(ll, cx, 5, cx->k0, cx->k_valid, MUSE_WINDOW_K_SINH_HALF);
}

MuseWindowQueries muse_window_queries(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef column) {
  MuseWindowQueries q = {.column = column};
  q.first = muse_llvm_load(ll, MUSE_I32, muse_window_row(ll, cx, MUSE_WINDOW_FIRST), column, ll->lanes, NULL);
  LLVMValueRef position = LLVMBuildTrunc(ll->b, add(ll, cx->q0, column), ll->i32, "");
  q.position =
      LLVMBuildAdd(ll->b, muse_llvm_splat(ll, position, ll->lanes), muse_llvm_iota(ll, ll->i32, ll->lanes), "");
  if (cx->hyperbolic) {
    q.sinh_half = muse_window_load(ll, cx, MUSE_WINDOW_Q_SINH_HALF, column, ll->lanes);
    q.cosh_half = muse_window_load(ll, cx, MUSE_WINDOW_Q_COSH_HALF, column, ll->lanes);
    q.sinh = muse_window_load(ll, cx, MUSE_WINDOW_Q_SINH, column, ll->lanes);
    q.cosh = muse_window_load(ll, cx, MUSE_WINDOW_Q_COSH, column, ll->lanes);
    q.scale = muse_llvm_splat(ll, cx->scale, ll->lanes);
  }
  return q;
}

LLVMValueRef muse_window_key_end(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef column) {
  LLVMValueRef past = add(ll, column, muse_llvm_i64(ll, ll->lanes));
  return LLVMBuildSelect(ll->b, cx->is_diagonal, past, muse_llvm_i64(ll, cx->layout.chunk), "");
}

LLVMValueRef muse_window_visible(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q, LLVMValueRef key) {
  LLVMValueRef s = muse_llvm_splat(ll, LLVMBuildTrunc(ll->b, add(ll, cx->k0, key), ll->i32, ""), ll->lanes);
  LLVMValueRef late = LLVMBuildICmp(ll->b, LLVMIntSGE, s, q->first, ""),
               past = LLVMBuildICmp(ll->b, LLVMIntSLE, s, q->position, "");
  return LLVMBuildAnd(ll->b, late, past, "");
}

static LLVMValueRef key_value(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row, LLVMValueRef key) {
  return muse_llvm_splat(ll, muse_window_load(ll, cx, row, key, 1), ll->lanes);
}

// cosh a cosh b - sinh a sinh b cos = 1 + 2 sinh^2((a-b)/2) + sinh a sinh b (1 - cos): no cancellation near 1.
MuseWindowPair muse_window_pair(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q, LLVMValueRef key,
                                LLVMValueRef dot) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = LLVMTypeOf(dot);
  LLVMValueRef one = muse_llvm_const(type, 1), minus_one = muse_llvm_const(type, -1),
               least = muse_llvm_const(type, 1e-5);
  MuseWindowPair p = {.k_sinh_half = key_value(ll, cx, MUSE_WINDOW_K_SINH_HALF, key),
                      .k_cosh_half = key_value(ll, cx, MUSE_WINDOW_K_COSH_HALF, key),
                      .k_sinh = key_value(ll, cx, MUSE_WINDOW_K_SINH, key),
                      .k_cosh = key_value(ll, cx, MUSE_WINDOW_K_COSH, key)};
  LLVMValueRef other = LLVMBuildFMul(b, q->cosh_half, p.k_sinh_half, "");
  p.half = muse_llvm_fma(ll, q->sinh_half, p.k_cosh_half, LLVMBuildFNeg(b, other, ""));
  // The comparisons are false for NaN, which so stays visible.
  LLVMValueRef low = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, dot, minus_one, ""), minus_one, dot, "");
  p.cosine = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, low, one, ""), one, low, "");
  p.gap = LLVMBuildFSub(b, one, p.cosine, "");
  p.radii = LLVMBuildFMul(b, q->sinh, p.k_sinh, "");
  LLVMValueRef twice = LLVMBuildFAdd(b, p.half, p.half, "");
  p.excess = muse_llvm_fma(ll, p.radii, p.gap, LLVMBuildFMul(b, twice, p.half, ""));
  p.clamped = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, p.excess, least, ""), least, p.excess, "");
  p.root =
      muse_llvm_sqrt(ll, LLVMBuildFMul(b, p.clamped, LLVMBuildFAdd(b, p.clamped, muse_llvm_const(type, 2), ""), ""));
  return p;
}

LLVMValueRef muse_window_distance(MuseLlvm *ll, const MuseWindowPair *pair) {
  return muse_llvm_log1p(ll, LLVMBuildFAdd(ll->b, pair->clamped, pair->root, ""));
}
