// Windowed attention, a query block at a time, with the softmax kept online over the key blocks
// (skel_window_attention.h).

#include "compiler/emit_llvm_math.h"
#include "compiler/emit_llvm_scan.h"
#include "compiler/emit_llvm_window.h"
#include "compiler/skel_scan.h"

static LLVMValueRef score_address(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef key, LLVMValueRef column) {
  LLVMValueRef at = LLVMBuildNSWMul(ll->b, key, muse_llvm_i64(ll, cx->layout.chunk), "");
  return muse_llvm_address(ll, MUSE_F32, muse_window_tile(ll, cx->layout.scores),
                           LLVMBuildNSWAdd(ll->b, at, column, ""));
}

static LLVMValueRef larger(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOGT, a, b, ""), a, b, "");
}

// Products of the block become scores, then softmax numerators; MAX, SUM and RESCALE of the queries are brought up to
// date.
static void update_softmax(MuseLlvm *ll, const MuseWindow *cx) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = muse_llvm_i64(ll, 0);
  MuseLlvmLoop column, key;
  muse_llvm_loop_begin(ll, &column, zero, muse_llvm_i64(ll, cx->layout.chunk), ll->lanes);
  MuseWindowQueries q = muse_window_queries(ll, cx, column.index);
  LLVMValueRef end = muse_window_key_end(ll, cx, column.index),
               before = muse_window_load(ll, cx, MUSE_WINDOW_MAX, column.index, ll->lanes);
  muse_llvm_loop_begin(ll, &key, zero, end, 1);
  LLVMValueRef most = muse_llvm_loop_carry(ll, &key, before);
  LLVMValueRef at = score_address(ll, cx, key.index, column.index),
               score = muse_llvm_load(ll, MUSE_F32, at, zero, ll->lanes, NULL);
  if (cx->hyperbolic) {
    MuseWindowPair pair = muse_window_pair(ll, cx, &q, key.index, score);
    score = LLVMBuildFNeg(b, LLVMBuildFMul(b, q.scale, muse_window_distance(ll, &pair), ""), "");
  }
  score = LLVMBuildSelect(b, muse_window_visible(ll, cx, &q, key.index), score,
                          muse_llvm_const(type, MUSE_WINDOW_NO_SCORE), "");
  muse_llvm_store(ll, MUSE_F32, at, zero, score, ll->lanes, NULL);
  muse_llvm_loop_next(&key, 0, larger(ll, score, most));
  muse_llvm_loop_end(ll, &key);
  most = key.result[0];

  muse_llvm_loop_begin(ll, &key, zero, end, 1);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &key, LLVMConstNull(type));
  at = score_address(ll, cx, key.index, column.index);
  LLVMValueRef weight =
      muse_llvm_exp(ll, LLVMBuildFSub(b, muse_llvm_load(ll, MUSE_F32, at, zero, ll->lanes, NULL), most, ""));
  muse_llvm_store(ll, MUSE_F32, at, zero, weight, ll->lanes, NULL);
  muse_llvm_loop_next(&key, 0, LLVMBuildFAdd(b, sum, weight, ""));
  muse_llvm_loop_end(ll, &key);
  LLVMValueRef rescale = muse_llvm_exp(ll, LLVMBuildFSub(b, before, most, ""));
  LLVMValueRef total =
      muse_llvm_fma(ll, muse_window_load(ll, cx, MUSE_WINDOW_SUM, column.index, ll->lanes), rescale, key.result[0]);
  muse_window_store(ll, cx, MUSE_WINDOW_MAX, column.index, most, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_SUM, column.index, total, ll->lanes);
  muse_window_store(ll, cx, MUSE_WINDOW_RESCALE, column.index, rescale, ll->lanes);
  muse_llvm_loop_end(ll, &column);
}

// Rows of the tile `out` times the row's RESCALE, or divided by its SUM.
static void scale_output(MuseLlvm *ll, const MuseWindow *cx, bool finish) {
  MuseLlvmLoop row, column;
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->layout.chunk), 1);
  LLVMValueRef factor = muse_window_load(ll, cx, finish ? MUSE_WINDOW_SUM : MUSE_WINDOW_RESCALE, row.index, 1);
  if (finish) factor = LLVMBuildFDiv(ll->b, muse_llvm_f32(ll, 1), factor, "");
  factor = muse_llvm_splat(ll, factor, ll->lanes);
  LLVMValueRef at = LLVMBuildNSWMul(ll->b, row.index, muse_llvm_i64(ll, cx->pd), "");
  LLVMValueRef to = muse_llvm_address(ll, MUSE_F32, muse_window_tile(ll, cx->layout.out), at);
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->pd), ll->lanes);
  LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, to, column.index, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, to, column.index, LLVMBuildFMul(ll->b, x, factor, ""), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &column);
  muse_llvm_loop_end(ll, &row);
}

static void forward_pair(MuseLlvm *ll, const MuseWindow *cx) {
  const MuseWindowLayout *l = &cx->layout;
  const int64_t C = l->chunk, pd = cx->pd;
  LLVMValueRef scores = muse_window_tile(ll, l->scores), out = muse_window_tile(ll, l->out),
               v = muse_window_tile(ll, l->v);
  muse_window_pack_keys(ll, cx, true);
  const MuseGemmTile products = {C, C, l->d, pd, 1, C, C, MUSE_GEMM_FULL, false};
  muse_llvm_gemm_tile(ll, &products, muse_window_tile(ll, l->k), muse_window_tile(ll, l->qt), scores);
  update_softmax(ll, cx);
  scale_output(ll, cx, false);
  MuseGemmTile mix = {C, pd, C, 1, C, pd, pd, MUSE_GEMM_LOWER, true};
  MuseLlvmIf diagonal;
  muse_llvm_if_begin(ll, &diagonal, cx->is_diagonal);
  muse_llvm_gemm_tile(ll, &mix, scores, v, out);
  muse_llvm_else(ll, &diagonal);
  mix.shape = MUSE_GEMM_FULL;
  muse_llvm_gemm_tile(ll, &mix, scores, v, out);
  muse_llvm_if_end(ll, &diagonal);
}

bool muse_emit_llvm_window_attention(MuseLlvm *ll, const MuseOp *kernel) {
  MuseWindow cx = muse_window(ll, kernel);
  const MuseWindowLayout *l = &cx.layout;
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef zero = muse_llvm_i64(ll, 0), blocks = muse_llvm_i64(ll, l->n_blocks);
  MuseLlvmLoop task, key, fill;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  muse_window_set_head(ll, &cx, LLVMBuildUDiv(ll->b, task.index, blocks, ""));
  muse_window_set_query(ll, &cx, LLVMBuildURem(ll->b, task.index, blocks, ""));
  muse_llvm_loop_begin(ll, &fill, zero, muse_llvm_i64(ll, l->chunk * cx.pd), ll->lanes);
  muse_llvm_store(ll, MUSE_F32, muse_window_tile(ll, l->out), fill.index,
                  LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &fill);
  LLVMValueRef past = LLVMBuildNSWAdd(ll->b, cx.query, muse_llvm_i64(ll, 1), "");
  muse_llvm_loop_begin(ll, &key, muse_window_first_key(ll, &cx), past, 1);
  muse_window_set_key(ll, &cx, key.index);
  forward_pair(ll, &cx);
  muse_llvm_loop_end(ll, &key);
  scale_output(ll, &cx, true);
  LLVMValueRef to = muse_window_vectors_at(ll, &cx, muse_llvm_result(ll, muse_kernel_result_of(cx.op, 0)), cx.q0);
  muse_llvm_unpack_rows(ll, l->d, l->H * l->d, muse_window_tile(ll, l->out), NULL, cx.q_valid, to);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return true;
}
