// The backward resolvent scan. With W = Re(A) o M, U = Re(A) o N, M_ts = q_t.k_s, N_ts = do_t.v_s, chunk by chunk from
// the end:
//   dV = W^T dO + [Re A_C o K | -Im A_C o K] [Re Gamma; Im Gamma]
//   dQ = U K + Re(P_t S do_t)             dK = U^T Q + Re(A_Cs Gamma v_s)
//   Gamma' = P_C Gamma + sum_t P_t q_t do_t^T
// and for dg, because every term of the loss is a product of g_t's over a range of t,
//   g_t lambda_t = P_C <Gamma, S> + sum_{t'>=t} y_t' + sum_{s<=t} z_s + sum_{t'>=t, s<=t} A_t's M_t's N_t's,
//   y_t = P_t <q_t do_t^T, S>,  z_s = A_Cs <Gamma, k_s v_s^T>;
// the rectangle sums differ from one t to the next by a row and a column of the chunk.

#include "compiler/emit_llvm_scan.h"
#include "compiler/emit_llvm_scan_chunk.h"

// Operands and results of the chunk before to prefetch, a bit each: one during each product, so that memory is asked
// evenly.
enum { Q = 1, K = 2, V = 4, TOKENS = 8 + 16 + 32, DO = 64, DQ = 1, DK = 2, DV = 4, DTOKENS = 8 + 16 };

static LLVMValueRef index_of(MuseLlvm *ll, LLVMValueRef row, int64_t width, LLVMValueRef column) {
  return LLVMBuildNSWAdd(ll->b, LLVMBuildNSWMul(ll->b, row, muse_llvm_i64(ll, width), ""), column, "");
}

// The state before a chunk is carried over it: to = S after the chunk.
static void step_state(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef from, LLVMValueRef to) {
  muse_scan_pack(ll, cx, 1, cx->layout.k);
  muse_scan_pack(ll, cx, 2, cx->layout.v);
  muse_scan_transpose(ll, cx, cx->layout.k, cx->layout.kt);
  muse_scan_last_row(ll, cx);
  // The state after this one, so that its stores do not wait for memory either.
  LLVMValueRef after = muse_llvm_byte_offset(ll, to, cx->layout.state_bytes);
  muse_scan_advance(ll, cx, from, to, (MuseScanAhead){1, K | V | TOKENS, 0, from == to ? NULL : after});
}

// Per token t (a lane each): with x = X^T (rows of d), e = E (Re above Im) and a the complex factor of the token,
//   E_i <- Re(a_t e_i), the part of the gradient that crosses the state;  sum_t = a_t sum_i x_i e_i;
//   scaled <- Re a_t x above (conjugate ? -Im : Im) a_t x.
static void mix_with_state(MuseLlvm *ll, const MuseScanChunk *cx, int64_t x_tile, int64_t e_tile, int64_t scaled,
                           MuseScanRow factor, MuseScanRow sum_row, bool conjugate) {
  const int64_t C = cx->layout.chunk, d = cx->layout.d;
  LLVMValueRef xs = muse_scan_tile(ll, x_tile), es = muse_scan_tile(ll, e_tile), to = muse_scan_tile(ll, scaled);
  LLVMValueRef zero = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)), imaginary = muse_llvm_i64(ll, d * C);
  MuseLlvmLoop column, row;
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, C), ll->lanes);
  MuseComplexValue a = muse_scan_load(ll, cx, factor, column.index, ll->lanes);
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, d), 1);
  MuseComplexValue sum = {muse_llvm_loop_carry(ll, &row, zero), NULL};
  sum.im = muse_llvm_loop_carry(ll, &row, zero);
  LLVMValueRef at = index_of(ll, row.index, C, column.index), at_im = LLVMBuildNSWAdd(ll->b, at, imaginary, "");
  LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, xs, at, ll->lanes, NULL);
  MuseComplexValue e = {muse_llvm_load(ll, MUSE_F32, es, at, ll->lanes, NULL),
                        muse_llvm_load(ll, MUSE_F32, es, at_im, ll->lanes, NULL)};
  muse_llvm_loop_next(&row, 0, muse_llvm_fma(ll, x, e.re, sum.re));
  muse_llvm_loop_next(&row, 1, muse_llvm_fma(ll, x, e.im, sum.im));
  LLVMValueRef imim = LLVMBuildFNeg(ll->b, LLVMBuildFMul(ll->b, a.im, e.im, ""), "");
  muse_llvm_store(ll, MUSE_F32, es, at, muse_llvm_fma(ll, a.re, e.re, imim), ll->lanes, NULL);
  LLVMValueRef im = conjugate ? LLVMBuildFNeg(ll->b, a.im, "") : a.im;
  muse_llvm_store(ll, MUSE_F32, to, at, LLVMBuildFMul(ll->b, a.re, x, ""), ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, to, at_im, LLVMBuildFMul(ll->b, im, x, ""), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &row);
  sum = muse_complex_mul(ll, a, (MuseComplexValue){row.result[0], row.result[1]});
  muse_scan_store(ll, cx, sum_row, column.index, sum, ll->lanes);
  muse_llvm_loop_end(ll, &column);
}

// <X, Y> = sum_ij X_ij Y_ij of two states, without conjugation.
static MuseComplexValue inner_product(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef x, LLVMValueRef y) {
  const int64_t half = cx->layout.d * cx->pd;
  LLVMValueRef zero = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)), offset = muse_llvm_i64(ll, half);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, half), ll->lanes);
  MuseComplexValue sum = {muse_llvm_loop_carry(ll, &loop, zero), NULL};
  sum.im = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef at_im = LLVMBuildNSWAdd(ll->b, loop.index, offset, "");
  MuseComplexValue a = {muse_llvm_load(ll, MUSE_F32, x, loop.index, ll->lanes, NULL),
                        muse_llvm_load(ll, MUSE_F32, x, at_im, ll->lanes, NULL)};
  MuseComplexValue c = {muse_llvm_load(ll, MUSE_F32, y, loop.index, ll->lanes, NULL),
                        muse_llvm_load(ll, MUSE_F32, y, at_im, ll->lanes, NULL)};
  sum = muse_complex_add(ll, sum, muse_complex_mul(ll, a, c));
  muse_llvm_loop_next(&loop, 0, sum.re);
  muse_llvm_loop_next(&loop, 1, sum.im);
  muse_llvm_loop_end(ll, &loop);
  return (MuseComplexValue){muse_llvm_sum_lanes(ll, loop.result[0]), muse_llvm_sum_lanes(ll, loop.result[1])};
}

static void store_token(MuseLlvm *ll, const MuseScanChunk *cx, int index, LLVMValueRef t, LLVMValueRef value) {
  const int result = muse_kernel_result_of(cx->op, index);
  if (result < 0) return;
  LLVMValueRef token = LLVMBuildNSWAdd(ll->b, cx->t0, t, "");
  LLVMValueRef at = index_of(ll, token, cx->layout.H, cx->tokens);
  muse_llvm_store(ll, MUSE_F32, muse_llvm_result(ll, result), at, value, 1, NULL);
}

// lambda_t of the chunk from the rows SUM, COL, Y, Z and `across` = P_C <Gamma, S>.
static void store_green_gradient(MuseLlvm *ll, const MuseScanChunk *cx, MuseComplexValue across) {
  LLVMBuilderRef b = ll->b;
  LLVMValueRef zero = muse_llvm_f32(ll, 0), begin = muse_llvm_i64(ll, 0), first;
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, begin, cx->valid, 1);
  MuseComplexValue before = {muse_llvm_loop_carry(ll, &loop, zero), NULL};
  before.im = muse_llvm_loop_carry(ll, &loop, zero);
  before = muse_complex_add(ll, before, muse_scan_load(ll, cx, MUSE_SCAN_Z, loop.index, 1));
  muse_scan_store(ll, cx, MUSE_SCAN_Z, loop.index, before, 1);
  muse_llvm_loop_next(&loop, 0, before.re);
  muse_llvm_loop_next(&loop, 1, before.im);
  muse_llvm_loop_end(ll, &loop);

  muse_llvm_loop_begin(ll, &loop, begin, cx->valid, 1);
  MuseComplexValue after,
      rectangle; // sum of y from t on; the rectangle sum less the column that token t-1 does not have
  after.re = muse_llvm_loop_carry(ll, &loop, zero);
  after.im = muse_llvm_loop_carry(ll, &loop, zero);
  rectangle.re = muse_llvm_loop_carry(ll, &loop, zero);
  rectangle.im = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef t = LLVMBuildSub(b, LLVMBuildSub(b, cx->valid, muse_llvm_i64(ll, 1), ""), loop.index, "");
  after = muse_complex_add(ll, after, muse_scan_load(ll, cx, MUSE_SCAN_Y, t, 1));
  rectangle = muse_complex_add(ll, rectangle, muse_scan_load(ll, cx, MUSE_SCAN_SUM, t, 1));
  MuseComplexValue z = muse_scan_load(ll, cx, MUSE_SCAN_Z, t, 1);
  MuseComplexValue total =
      muse_complex_add(ll, muse_complex_add(ll, across, rectangle), muse_complex_add(ll, after, z));
  // lambda = total / g = total conj(g) / |g|^2
  MuseComplexValue g = muse_scan_g_of_e(ll, muse_scan_e(ll, cx, t, &first));
  LLVMValueRef norm = muse_llvm_fma(ll, g.re, g.re, LLVMBuildFMul(b, g.im, g.im, ""));
  MuseComplexValue lambda = muse_complex_mul(ll, total, (MuseComplexValue){g.re, LLVMBuildFNeg(b, g.im, "")});
  store_token(ll, cx, 3, t, LLVMBuildFDiv(b, lambda.re, norm, ""));
  store_token(ll, cx, 4, t, LLVMBuildFDiv(b, LLVMBuildFNeg(b, lambda.im, ""), norm, ""));
  rectangle = muse_complex_sub(ll, rectangle, muse_scan_load(ll, cx, MUSE_SCAN_COL, t, 1));
  muse_llvm_loop_next(&loop, 0, after.re);
  muse_llvm_loop_next(&loop, 1, after.im);
  muse_llvm_loop_next(&loop, 2, rectangle.re);
  muse_llvm_loop_next(&loop, 3, rectangle.im);
  muse_llvm_loop_end(ll, &loop);
}

static void product(MuseLlvm *ll, const MuseScanChunk *cx, MuseGemmTile tile, int64_t a, int64_t b, int64_t c,
                    unsigned operands, unsigned results) {
  muse_scan_product(ll, cx, tile, muse_scan_tile(ll, a), muse_scan_tile(ll, b), muse_scan_tile(ll, c),
                    (MuseScanAhead){-1, operands, results, NULL});
}

static LLVMValueRef gamma_of(MuseLlvm *ll, const MuseScanChunk *cx) {
  return muse_scan_state(ll, cx, cx->layout.gamma, 1, muse_llvm_i64(ll, 0));
}

// state: S before the chunk.
static void backward_chunk(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef state) {
  const MuseResolventLayout *l = &cx->layout;
  const int64_t C = l->chunk, d = l->d, pd = cx->pd;
  const int64_t packed[4] = {l->q, l->k, l->v, l->dout}, transposed[4] = {l->qt, l->kt, l->vt, l->doutt};
  LLVMValueRef gamma = gamma_of(ll, cx), vt = muse_scan_tile(ll, l->vt);
  for (int i = 0; i < 4; i++) {
    muse_scan_pack(ll, cx, i < 3 ? i : 6, packed[i]);
    muse_scan_transpose(ll, cx, packed[i], transposed[i]);
  }
  const MuseGemmTile scores = {C, C, d, pd, 1, C, C, MUSE_GEMM_LOWER_OUT, false};
  product(ll, cx, scores, l->q, l->kt, l->m, Q, 0);
  product(ll, cx, scores, l->dout, l->vt, l->n, K, 0);
  const MuseGemmTile with_state = {2 * d, C, d, pd, 1, C, C, MUSE_GEMM_FULL, false};
  LLVMValueRef doutt = muse_scan_tile(ll, l->doutt), e = muse_scan_tile(ll, l->e);
  muse_scan_product(ll, cx, with_state, state, doutt, e, (MuseScanAhead){-1, V, 0, NULL});
  muse_scan_product(ll, cx, with_state, gamma, vt, muse_scan_tile(ll, l->g), (MuseScanAhead){-1, DO, 0, NULL});
  muse_scan_rows(ll, cx, true, false);
  mix_with_state(ll, cx, l->qt, l->e, l->right, MUSE_SCAN_P, MUSE_SCAN_Y, false);
  mix_with_state(ll, cx, l->kt, l->g, l->left, MUSE_SCAN_A, MUSE_SCAN_Z, true);

  const MuseGemmTile upper = {C, pd, C, 1, C, pd, pd, MUSE_GEMM_UPPER, false};
  product(ll, cx, upper, l->m, l->dout, l->out, 0, DQ);
  const MuseGemmTile through_state = {C, pd, 2 * d, 1, C, pd, pd, MUSE_GEMM_FULL, true};
  LLVMValueRef left = muse_scan_tile(ll, l->left), out = muse_scan_tile(ll, l->out);
  muse_scan_product(ll, cx, through_state, left, gamma, out, (MuseScanAhead){-1, 0, DK, NULL});
  muse_scan_unpack(ll, cx, 2, l->out, -1);
  product(ll, cx, (MuseGemmTile){C, pd, C, C, 1, pd, pd, MUSE_GEMM_LOWER, false}, l->n, l->k, l->out, 0, DV);
  muse_llvm_transpose_tile(ll, pd, C, muse_scan_tile(ll, l->e), muse_scan_tile(ll, l->out2));
  muse_scan_unpack(ll, cx, 0, l->out, l->out2);
  product(ll, cx, upper, l->n, l->q, l->out, TOKENS, DTOKENS);
  muse_llvm_transpose_tile(ll, pd, C, muse_scan_tile(ll, l->g), muse_scan_tile(ll, l->out2));
  muse_scan_unpack(ll, cx, 1, l->out, l->out2);

  MuseComplexValue across = muse_complex_mul(ll, cx->p_end, inner_product(ll, cx, gamma, state));
  store_green_gradient(ll, cx, across);
  muse_scan_scale_state(ll, cx, gamma, gamma);
  // Meanwhile the state before the chunk before is asked for (of the first chunk of a group nothing that exists).
  const MuseGemmTile update = {2 * d, pd, C, C, 1, pd, pd, MUSE_GEMM_FULL, true};
  LLVMValueRef before = muse_llvm_byte_offset(ll, state, -l->state_bytes);
  LLVMValueRef right = muse_scan_tile(ll, l->right), dout = muse_scan_tile(ll, l->dout);
  muse_scan_product(ll, cx, update, right, dout, gamma, (MuseScanAhead){-1, 0, 0, before});
}

// S of the task before a chunk of the group under way.
static LLVMValueRef state_at(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef index) {
  return muse_scan_state(ll, cx, cx->layout.states, cx->layout.group, index);
}

// S of the task before a group.
static LLVMValueRef saved_at(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef index) {
  return muse_scan_state(ll, cx, cx->layout.saved, cx->layout.n_groups, index);
}

// Stores S before each group of chunks; Gamma begins with 0.
static void save_states(MuseLlvm *ll, MuseScanChunk *cx, const MuseScanBlock *block) {
  const MuseResolventLayout *l = &cx->layout;
  const int64_t floats = 2 * l->d * cx->pd;
  LLVMValueRef zero = muse_llvm_i64(ll, 0);
  MuseLlvmLoop group, chunk, task;
  muse_scan_tasks_begin(ll, cx, block, &task);
  muse_scan_fill(ll, gamma_of(ll, cx), floats);
  muse_scan_fill(ll, saved_at(ll, cx, zero), floats);
  muse_scan_fill(ll, state_at(ll, cx, zero), floats);
  muse_llvm_loop_end(ll, &task);
  if (l->n_groups == 1) return;
  muse_llvm_loop_begin(ll, &group, zero, muse_llvm_i64(ll, l->n_groups - 1), 1);
  muse_llvm_loop_begin(ll, &chunk, zero, muse_llvm_i64(ll, l->group), 1);
  muse_scan_tasks_begin(ll, cx, block, &task);
  LLVMValueRef state = state_at(ll, cx, zero);
  muse_scan_set_chunk(ll, cx, index_of(ll, group.index, l->group, chunk.index));
  step_state(ll, cx, state, state);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_loop_end(ll, &chunk);
  LLVMValueRef next = LLVMBuildNSWAdd(ll->b, group.index, muse_llvm_i64(ll, 1), "");
  muse_scan_tasks_begin(ll, cx, block, &task);
  muse_scan_copy(ll, state_at(ll, cx, zero), saved_at(ll, cx, next), floats);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_loop_end(ll, &group);
}

static void backward_block(MuseLlvm *ll, MuseScanChunk *cx, const MuseScanBlock *block) {
  const MuseResolventLayout *l = &cx->layout;
  LLVMValueRef zero = muse_llvm_i64(ll, 0), one = muse_llvm_i64(ll, 1);
  save_states(ll, cx, block);
  MuseLlvmLoop group, chunk, task;
  muse_llvm_loop_begin(ll, &group, zero, muse_llvm_i64(ll, l->n_groups), 1);
  LLVMValueRef number = LLVMBuildSub(ll->b, muse_llvm_i64(ll, l->n_groups - 1), group.index, "");
  LLVMValueRef first = LLVMBuildNSWMul(ll->b, number, muse_llvm_i64(ll, l->group), "");
  LLVMValueRef left = LLVMBuildSub(ll->b, muse_llvm_i64(ll, l->n_chunks), first, "");
  LLVMValueRef count = muse_llvm_min(ll, left, muse_llvm_i64(ll, l->group), false),
               last = LLVMBuildSub(ll->b, count, one, "");
  muse_scan_tasks_begin(ll, cx, block, &task);
  muse_scan_copy(ll, saved_at(ll, cx, number), state_at(ll, cx, zero), 2 * l->d * cx->pd);
  muse_llvm_loop_end(ll, &task);

  muse_llvm_loop_begin(ll, &chunk, zero, last, 1);
  muse_scan_tasks_begin(ll, cx, block, &task);
  muse_scan_set_chunk(ll, cx, LLVMBuildNSWAdd(ll->b, first, chunk.index, ""));
  LLVMValueRef next = LLVMBuildNSWAdd(ll->b, chunk.index, one, "");
  step_state(ll, cx, state_at(ll, cx, chunk.index), state_at(ll, cx, next));
  muse_llvm_loop_end(ll, &task);
  muse_llvm_loop_end(ll, &chunk);

  muse_llvm_loop_begin(ll, &chunk, zero, count, 1);
  muse_scan_tasks_begin(ll, cx, block, &task);
  LLVMValueRef inside = LLVMBuildSub(ll->b, last, chunk.index, "");
  muse_scan_set_chunk(ll, cx, LLVMBuildNSWAdd(ll->b, first, inside, ""));
  backward_chunk(ll, cx, state_at(ll, cx, inside));
  muse_llvm_loop_end(ll, &task);
  muse_llvm_loop_end(ll, &chunk);
  muse_llvm_loop_end(ll, &group);
}

bool muse_emit_llvm_resolvent_scan_grad(MuseLlvm *ll, const MuseOp *kernel) {
  MuseScanChunk cx = muse_scan_chunk(ll, kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  MuseScanBlock block;
  muse_scan_block_begin(ll, &cx, &block);
  backward_block(ll, &cx, &block);
  muse_scan_block_end(ll, &block);
  muse_llvm_stage_end(ll);
  return true;
}
