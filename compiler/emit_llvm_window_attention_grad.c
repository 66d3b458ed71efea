// The gradient of windowed attention, one head of one row a task, query block by query block (skel_window_attention.h).
//
//   p_ts = exp(x_ts - max_t) / sum_t     delta_t = sum_s p_ts (do_t.v_s)     dx_ts = p_ts (do_t.v_s - delta_t)
//   dV = P^T dO, dQ = D K, dK = D^T Q with D the cotangent of the products q_t.k_s: dx itself, or for the hyperbolic
//   score du = -scale dx / sqrt(u^2 - 1) (0 under the clamp)    D = -du sinh a sinh b (0 under the clip) dalpha = du
//   (sinh(a-b) + cosh a sinh b (1 - cos))     dbeta = du (sinh(b-a) + sinh a cosh b (1 - cos)) dscale = -sum dx acosh u

#include "compiler/emit_llvm_math.h"
#include "compiler/emit_llvm_scan.h"
#include "compiler/emit_llvm_window.h"
#include "compiler/skel_scan.h"

typedef enum Tile { PRODUCT, DISTANCE, VALUE } Tile; // q.k, acosh u (unused for the dot score), do.v

typedef struct Slot { LLVMValueRef tile[3]; } Slot;

static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(ll->b, x, muse_llvm_i64(ll, y), "");
}
static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildNSWAdd(ll->b, x, y, ""); }

static Slot slot_of(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef first_key) {
  const int64_t tile = cx->layout.chunk * cx->layout.chunk * 4;
  LLVMValueRef base = muse_window_tile(ll, cx->layout.scores);
  if (cx->layout.slots > 1)
    base = muse_llvm_byte_address(ll, base, mul(ll, LLVMBuildSub(ll->b, cx->key, first_key, ""), 3 * tile));
  Slot slot;
  for (int i = 0; i < 3; i++) slot.tile[i] = muse_llvm_byte_offset(ll, base, i * tile);
  return slot;
}

static LLVMValueRef load_pair(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef tile, LLVMValueRef key,
                              LLVMValueRef column) {
  return muse_llvm_load(ll, MUSE_F32, tile, add(ll, mul(ll, key, cx->layout.chunk), column), ll->lanes, NULL);
}

static void store_pair(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef tile, LLVMValueRef key, LLVMValueRef column,
                       LLVMValueRef x) {
  muse_llvm_store(ll, MUSE_F32, tile, add(ll, mul(ll, key, cx->layout.chunk), column), x, ll->lanes, NULL);
}

static void products(MuseLlvm *ll, const MuseWindow *cx, const Slot *slot) {
  const MuseWindowLayout *l = &cx->layout;
  const int64_t C = l->chunk;
  const MuseGemmTile tile = {C, C, l->d, cx->pd, 1, C, C, MUSE_GEMM_FULL, false};
  muse_llvm_gemm_tile(ll, &tile, muse_window_tile(ll, l->k), muse_window_tile(ll, l->qt), slot->tile[PRODUCT]);
  muse_llvm_gemm_tile(ll, &tile, muse_window_tile(ll, l->v), muse_window_tile(ll, l->doutt), slot->tile[VALUE]);
}

static LLVMValueRef score(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q,
                          LLVMValueRef distance_or_product) {
  if (!cx->hyperbolic) return distance_or_product;
  return LLVMBuildFNeg(ll->b, LLVMBuildFMul(ll->b, q->scale, distance_or_product, ""), "");
}

// Fills the slot's distances and brings MAX, SUM and DELTA (not yet divided by SUM) of the queries up to date.
static void first_sweep(MuseLlvm *ll, const MuseWindow *cx, const Slot *slot) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = muse_llvm_i64(ll, 0), nothing = LLVMConstNull(type),
               none = muse_llvm_const(type, MUSE_WINDOW_NO_SCORE);
  MuseLlvmLoop column, key;
  muse_llvm_loop_begin(ll, &column, zero, muse_llvm_i64(ll, cx->layout.chunk), ll->lanes);
  LLVMValueRef t = column.index, end = muse_window_key_end(ll, cx, t),
               before = muse_window_load(ll, cx, MUSE_WINDOW_MAX, t, ll->lanes);
  MuseWindowQueries q = muse_window_queries(ll, cx, t);
  LLVMValueRef source = slot->tile[cx->hyperbolic ? DISTANCE : PRODUCT];
  muse_llvm_loop_begin(ll, &key, zero, end, 1);
  LLVMValueRef most = muse_llvm_loop_carry(ll, &key, before), x = load_pair(ll, cx, slot->tile[PRODUCT], key.index, t);
  if (cx->hyperbolic) {
    MuseWindowPair pair = muse_window_pair(ll, cx, &q, key.index, x);
    x = muse_window_distance(ll, &pair);
    store_pair(ll, cx, slot->tile[DISTANCE], key.index, t, x);
  }
  x = LLVMBuildSelect(b, muse_window_visible(ll, cx, &q, key.index), score(ll, cx, &q, x), none, "");
  muse_llvm_loop_next(&key, 0, LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, x, most, ""), x, most, ""));
  muse_llvm_loop_end(ll, &key);
  most = key.result[0];

  muse_llvm_loop_begin(ll, &key, zero, end, 1);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &key, nothing), delta = muse_llvm_loop_carry(ll, &key, nothing);
  LLVMValueRef visible = muse_window_visible(ll, cx, &q, key.index);
  x = LLVMBuildSelect(b, visible, score(ll, cx, &q, load_pair(ll, cx, source, key.index, t)), none, "");
  LLVMValueRef weight = muse_llvm_exp(ll, LLVMBuildFSub(b, x, most, ""));
  LLVMValueRef value = LLVMBuildSelect(b, visible, load_pair(ll, cx, slot->tile[VALUE], key.index, t), nothing, "");
  muse_llvm_loop_next(&key, 0, LLVMBuildFAdd(b, sum, weight, ""));
  muse_llvm_loop_next(&key, 1, muse_llvm_fma(ll, weight, value, delta));
  muse_llvm_loop_end(ll, &key);
  LLVMValueRef rescale = muse_llvm_exp(ll, LLVMBuildFSub(b, before, most, ""));
  sum = muse_llvm_fma(ll, muse_window_load(ll, cx, MUSE_WINDOW_SUM, t, ll->lanes), rescale, key.result[0]);
  delta = muse_llvm_fma(ll, muse_window_load(ll, cx, MUSE_WINDOW_DELTA, t, ll->lanes), rescale, key.result[1]);
  muse_window_store(ll, cx, MUSE_WINDOW_MAX, t, most, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_SUM, t, sum, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_DELTA, t, delta, ll->lanes);
  muse_llvm_loop_end(ll, &column);
}

// The distances alone, where the first sweep's were not kept.
static void fill_distances(MuseLlvm *ll, const MuseWindow *cx, const Slot *slot) {
  MuseLlvmLoop column, key;
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->layout.chunk), ll->lanes);
  MuseWindowQueries q = muse_window_queries(ll, cx, column.index);
  muse_llvm_loop_begin(ll, &key, muse_llvm_i64(ll, 0), muse_window_key_end(ll, cx, column.index), 1);
  LLVMValueRef dot = load_pair(ll, cx, slot->tile[PRODUCT], key.index, column.index);
  MuseWindowPair pair = muse_window_pair(ll, cx, &q, key.index, dot);
  store_pair(ll, cx, slot->tile[DISTANCE], key.index, column.index, muse_window_distance(ll, &pair));
  muse_llvm_loop_end(ll, &key);
  muse_llvm_loop_end(ll, &column);
}

// SUM becomes its inverse, DELTA is divided by it.
static void finish_softmax(MuseLlvm *ll, const MuseWindow *cx) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->layout.chunk), ll->lanes);
  LLVMValueRef sum = muse_window_load(ll, cx, MUSE_WINDOW_SUM, loop.index, ll->lanes);
  LLVMValueRef inverse = LLVMBuildFDiv(ll->b, muse_llvm_const(LLVMTypeOf(sum), 1), sum, "");
  LLVMValueRef delta = muse_window_load(ll, cx, MUSE_WINDOW_DELTA, loop.index, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_SUM, loop.index, inverse, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_DELTA, loop.index, LLVMBuildFMul(ll->b, delta, inverse, ""), ll->lanes);
  muse_llvm_loop_end(ll, &loop);
}

// From dx to the cotangent of the product; *dalpha and *dscale (sums over keys) are carried on, dbeta is added to the
// lanes of the key's row of the tile dbeta.
static LLVMValueRef through_distance(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q, LLVMValueRef key,
                                     LLVMValueRef dot, LLVMValueRef distance, LLVMValueRef dx, LLVMValueRef *dalpha,
                                     LLVMValueRef *dscale) {
  LLVMBuilderRef b = ll->b;
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(dx));
  MuseWindowPair p = muse_window_pair(ll, cx, q, key, dot);
  *dscale = muse_llvm_fma(ll, LLVMBuildFNeg(b, dx, ""), distance, *dscale);
  LLVMValueRef du = LLVMBuildFNeg(b, LLVMBuildFDiv(b, LLVMBuildFMul(b, q->scale, dx, ""), p.root, ""), "");
  // Unordered, so that a NaN is not taken for a clamped value.
  du = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealUEQ, p.clamped, p.excess, ""), du, zero, "");
  LLVMValueRef cosh_diff = muse_llvm_fma(ll, q->cosh_half, p.k_cosh_half,
                                         LLVMBuildFNeg(b, LLVMBuildFMul(b, q->sinh_half, p.k_sinh_half, ""), ""));
  LLVMValueRef sinh_diff = LLVMBuildFMul(b, LLVMBuildFAdd(b, p.half, p.half, ""), cosh_diff, "");
  LLVMValueRef by_alpha = LLVMBuildFMul(b, LLVMBuildFMul(b, q->cosh, p.k_sinh, ""), p.gap, "");
  LLVMValueRef by_beta = LLVMBuildFMul(b, LLVMBuildFMul(b, q->sinh, p.k_cosh, ""), p.gap, "");
  *dalpha = muse_llvm_fma(ll, du, LLVMBuildFAdd(b, by_alpha, sinh_diff, ""), *dalpha);
  LLVMValueRef to = muse_window_tile(ll, cx->layout.dbeta), at = mul(ll, key, 16);
  LLVMValueRef dbeta = muse_llvm_load(ll, MUSE_F32, to, at, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, to, at, muse_llvm_fma(ll, du, LLVMBuildFSub(b, by_beta, sinh_diff, ""), dbeta),
                  ll->lanes, NULL);
  LLVMValueRef d = LLVMBuildFNeg(b, LLVMBuildFMul(b, du, p.radii, ""), "");
  return LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealUEQ, p.cosine, dot, ""), d, zero, "");
}

// The slot's tiles become: DISTANCE (or PRODUCT) P^T, VALUE D^T. DALPHA and DSCALE are carried on.
static void second_sweep(MuseLlvm *ll, const MuseWindow *cx, const Slot *slot) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = muse_llvm_i64(ll, 0), nothing = LLVMConstNull(type),
               none = muse_llvm_const(type, MUSE_WINDOW_NO_SCORE);
  LLVMValueRef source = slot->tile[cx->hyperbolic ? DISTANCE : PRODUCT];
  MuseLlvmLoop column, key;
  muse_llvm_loop_begin(ll, &column, zero, muse_llvm_i64(ll, cx->layout.chunk), ll->lanes);
  LLVMValueRef t = column.index, end = muse_window_key_end(ll, cx, t);
  MuseWindowQueries q = muse_window_queries(ll, cx, t);
  LLVMValueRef most = muse_window_load(ll, cx, MUSE_WINDOW_MAX, t, ll->lanes),
               inverse = muse_window_load(ll, cx, MUSE_WINDOW_SUM, t, ll->lanes);
  LLVMValueRef delta = muse_window_load(ll, cx, MUSE_WINDOW_DELTA, t, ll->lanes), dalpha = NULL, dscale = NULL;
  LLVMValueRef dalpha0 = muse_window_load(ll, cx, MUSE_WINDOW_DALPHA, t, ll->lanes);
  LLVMValueRef dscale0 = muse_window_load(ll, cx, MUSE_WINDOW_DSCALE, zero, ll->lanes);
  muse_llvm_loop_begin(ll, &key, zero, end, 1);
  if (cx->hyperbolic) {
    dalpha = muse_llvm_loop_carry(ll, &key, dalpha0);
    dscale = muse_llvm_loop_carry(ll, &key, dscale0);
  }
  LLVMValueRef visible = muse_window_visible(ll, cx, &q, key.index), x = load_pair(ll, cx, source, key.index, t);
  LLVMValueRef shifted = LLVMBuildFSub(b, LLVMBuildSelect(b, visible, score(ll, cx, &q, x), none, ""), most, "");
  LLVMValueRef p = LLVMBuildFMul(b, muse_llvm_exp(ll, shifted), inverse, "");
  LLVMValueRef value = load_pair(ll, cx, slot->tile[VALUE], key.index, t);
  LLVMValueRef dx = LLVMBuildFMul(b, p, LLVMBuildFSub(b, value, delta, ""), "");
  dx = LLVMBuildSelect(b, visible, dx, nothing, "");
  if (cx->hyperbolic) {
    // What is not visible must not reach a sum: 0 times NaN is NaN.
    LLVMValueRef dot = LLVMBuildSelect(b, visible, load_pair(ll, cx, slot->tile[PRODUCT], key.index, t), nothing, "");
    x = LLVMBuildSelect(b, visible, x, nothing, "");
    dx = through_distance(ll, cx, &q, key.index, dot, x, dx, &dalpha, &dscale);
    muse_llvm_loop_next(&key, 0, dalpha);
    muse_llvm_loop_next(&key, 1, dscale);
  }
  store_pair(ll, cx, source, key.index, t, p);
  store_pair(ll, cx, slot->tile[VALUE], key.index, t, dx);
  muse_llvm_loop_end(ll, &key);
  if (cx->hyperbolic) {
    muse_window_store(ll, cx, MUSE_WINDOW_DALPHA, t, key.result[0], ll->lanes);
    muse_window_store(ll, cx, MUSE_WINDOW_DSCALE, zero, key.result[1], ll->lanes);
  }
  muse_llvm_loop_end(ll, &column);
}

// tmp = weights^T-tile times right; stored or added to the key block of result `index`.
static void give_to_keys(MuseLlvm *ll, const MuseWindow *cx, int index, LLVMValueRef weights, int64_t right) {
  const int result = muse_kernel_result_of(cx->op, index);
  if (result < 0) return;
  const MuseWindowLayout *l = &cx->layout;
  const int64_t C = l->chunk, stride = l->H * l->d;
  LLVMValueRef tmp = muse_window_tile(ll, l->tmp), b = muse_window_tile(ll, right);
  LLVMValueRef to = muse_window_vectors_at(ll, cx, muse_llvm_result(ll, result), cx->k0);
  MuseGemmTile tile = {C, cx->pd, C, C, 1, cx->pd, cx->pd, MUSE_GEMM_UPPER, false};
  MuseLlvmIf diagonal;
  muse_llvm_if_begin(ll, &diagonal, cx->is_diagonal);
  muse_llvm_gemm_tile(ll, &tile, weights, b, tmp);
  muse_llvm_unpack_rows(ll, l->d, stride, tmp, NULL, cx->k_valid, to);
  muse_llvm_else(ll, &diagonal);
  tile.shape = MUSE_GEMM_FULL;
  muse_llvm_gemm_tile(ll, &tile, weights, b, tmp);
  muse_llvm_accumulate_rows(ll, l->d, stride, tmp, cx->k_valid, to);
  muse_llvm_if_end(ll, &diagonal);
}

static void give_dbeta(MuseLlvm *ll, const MuseWindow *cx) {
  const int result = muse_kernel_result_of(cx->op, 4);
  if (result < 0) return;
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), cx->k_valid, 1);
  LLVMValueRef lanes =
      muse_llvm_load(ll, MUSE_F32, muse_window_tile(ll, cx->layout.dbeta), mul(ll, loop.index, 16), ll->lanes, NULL);
  LLVMValueRef at = add(ll, cx->tokens, mul(ll, add(ll, cx->k0, loop.index), cx->layout.H)),
               to = muse_llvm_result(ll, result);
  LLVMValueRef sum = muse_llvm_sum_lanes(ll, lanes);
  MuseLlvmIf earlier;
  muse_llvm_if_begin(ll, &earlier, LLVMBuildNot(ll->b, cx->is_diagonal, ""));
  LLVMValueRef total = LLVMBuildFAdd(ll->b, muse_llvm_load(ll, MUSE_F32, to, at, 1, NULL), sum, "");
  muse_llvm_if_end(ll, &earlier);
  muse_llvm_store(ll, MUSE_F32, to, at, muse_llvm_if_merge(ll, &earlier, total, sum), 1, NULL);
  muse_llvm_loop_end(ll, &loop);
}

static void fill(MuseLlvm *ll, LLVMValueRef to, int64_t floats) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, floats), ll->lanes);
  muse_llvm_store(ll, MUSE_F32, to, loop.index, LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &loop);
}

static void second_pair(MuseLlvm *ll, const MuseWindow *cx, const Slot *slot) {
  const MuseWindowLayout *l = &cx->layout;
  const int64_t C = l->chunk;
  if (cx->hyperbolic) fill(ll, muse_window_tile(ll, l->dbeta), 16 * C);
  second_sweep(ll, cx, slot);
  give_to_keys(ll, cx, 2, slot->tile[cx->hyperbolic ? DISTANCE : PRODUCT], l->dout);
  give_to_keys(ll, cx, 1, slot->tile[VALUE], l->q);
  if (cx->hyperbolic) give_dbeta(ll, cx);
  LLVMValueRef k = muse_window_tile(ll, l->k), out = muse_window_tile(ll, l->out);
  MuseGemmTile tile = {C, cx->pd, C, 1, C, cx->pd, cx->pd, MUSE_GEMM_LOWER, true};
  MuseLlvmIf diagonal;
  muse_llvm_if_begin(ll, &diagonal, cx->is_diagonal);
  muse_llvm_gemm_tile(ll, &tile, slot->tile[VALUE], k, out);
  muse_llvm_else(ll, &diagonal);
  tile.shape = MUSE_GEMM_FULL;
  muse_llvm_gemm_tile(ll, &tile, slot->tile[VALUE], k, out);
  muse_llvm_if_end(ll, &diagonal);
}

static void store_query_results(MuseLlvm *ll, const MuseWindow *cx) {
  const MuseWindowLayout *l = &cx->layout;
  int result = muse_kernel_result_of(cx->op, 0);
  if (result >= 0) {
    LLVMValueRef to = muse_window_vectors_at(ll, cx, muse_llvm_result(ll, result), cx->q0);
    muse_llvm_unpack_rows(ll, l->d, l->H * l->d, muse_window_tile(ll, l->out), NULL, cx->q_valid, to);
  }
  if (!cx->hyperbolic || (result = muse_kernel_result_of(cx->op, 3)) < 0) return;
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), cx->q_valid, 1);
  LLVMValueRef at = add(ll, cx->tokens, mul(ll, add(ll, cx->q0, loop.index), l->H));
  muse_llvm_store(ll, MUSE_F32, muse_llvm_result(ll, result), at,
                  muse_window_load(ll, cx, MUSE_WINDOW_DALPHA, loop.index, 1), 1, NULL);
  muse_llvm_loop_end(ll, &loop);
}

static void backward_block(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef block) {
  const MuseWindowLayout *l = &cx->layout;
  const int64_t C = l->chunk;
  muse_window_set_query(ll, cx, block);
  LLVMValueRef dout = muse_window_tile(ll, l->dout);
  LLVMValueRef from = muse_window_vectors_at(ll, cx, muse_window_operand(ll, cx, cx->op->n_operands - 1), cx->q0);
  muse_llvm_pack_rows(ll, C, l->d, l->H * l->d, from, cx->q_valid, dout);
  muse_llvm_transpose_tile(ll, C, cx->pd, dout, muse_window_tile(ll, l->doutt));
  fill(ll, muse_window_tile(ll, l->out), C * cx->pd);
  fill(ll, muse_window_row(ll, cx, MUSE_WINDOW_DELTA), 2 * C); // and DALPHA
  LLVMValueRef first = muse_window_first_key(ll, cx), past = add(ll, block, muse_llvm_i64(ll, 1));
  MuseLlvmLoop key;
  muse_llvm_loop_begin(ll, &key, first, past, 1);
  muse_window_set_key(ll, cx, key.index);
  muse_window_pack_keys(ll, cx, true);
  Slot slot = slot_of(ll, cx, first);
  products(ll, cx, &slot);
  first_sweep(ll, cx, &slot);
  muse_llvm_loop_end(ll, &key);
  finish_softmax(ll, cx);

  muse_llvm_loop_begin(ll, &key, first, past, 1);
  muse_window_set_key(ll, cx, key.index);
  slot = slot_of(ll, cx, first);
  muse_window_pack_keys(ll, cx, !l->kept);
  if (!l->kept) {
    products(ll, cx, &slot);
    if (cx->hyperbolic) fill_distances(ll, cx, &slot);
  }
  second_pair(ll, cx, &slot);
  muse_llvm_loop_end(ll, &key);
  store_query_results(ll, cx);
}

bool muse_emit_llvm_window_attention_grad(MuseLlvm *ll, const MuseOp *kernel) {
  MuseWindow cx = muse_window(ll, kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  MuseLlvmLoop task, query;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  muse_window_set_head(ll, &cx, task.index);
  LLVMValueRef zero = muse_llvm_i64(ll, 0), dscale = muse_window_row(ll, &cx, MUSE_WINDOW_DSCALE);
  fill(ll, dscale, 16);
  muse_llvm_loop_begin(ll, &query, zero, muse_llvm_i64(ll, cx.layout.n_blocks), 1);
  backward_block(ll, &cx, query.index);
  muse_llvm_loop_end(ll, &query);
  if (cx.hyperbolic) {
    LLVMValueRef sum = muse_llvm_sum_lanes(ll, muse_window_load(ll, &cx, MUSE_WINDOW_DSCALE, zero, ll->lanes));
    muse_llvm_store(ll, MUSE_F32, ll->workspace, task.index, sum, 1, NULL);
  }
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  if (!cx.hyperbolic) return true;
  muse_llvm_stage_begin(ll, kernel, 1);
  const int result = muse_kernel_result_of(cx.op, 5);
  if (result >= 0) {
    MuseLlvmIf once; // the stage has one task
    muse_llvm_if_begin(ll, &once, LLVMBuildICmp(ll->b, LLVMIntSLT, ll->begin, ll->end, ""));
    muse_llvm_emit_partial_sums(ll, cx.layout.B, cx.layout.H, ll->workspace, muse_llvm_result(ll, result));
    muse_llvm_if_end(ll, &once);
  }
  muse_llvm_stage_end(ll);
  return true;
}
