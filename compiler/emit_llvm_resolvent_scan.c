// The resolvent scan: chunk by chunk, all but the recurrence over the rows of A as products of tiles (skel_scan.h).

#include "compiler/emit_llvm_scan.h"
#include "compiler/emit_llvm_scan_chunk.h"

// Operands and result of the next chunk to prefetch, a bit each: one during each product, so that memory is asked
// evenly.
enum { Q = 1, K = 2, V = 4, TOKENS = 8 + 16 + 32, O = 1 };

static void product(MuseLlvm *ll, const MuseScanChunk *cx, MuseGemmTile tile, int64_t a, int64_t b, int64_t c,
                    unsigned operands, unsigned results) {
  muse_scan_product(ll, cx, tile, muse_scan_tile(ll, a), muse_scan_tile(ll, b), muse_scan_tile(ll, c),
                    (MuseScanAhead){1, operands, results, NULL});
}

static void forward_chunk(MuseLlvm *ll, MuseScanChunk *cx) {
  const MuseResolventLayout *l = &cx->layout;
  const int64_t C = l->chunk, d = l->d, pd = cx->pd;
  const bool has_state = l->n_chunks > 1;
  muse_scan_pack(ll, cx, 0, l->q);
  muse_scan_pack(ll, cx, 1, l->k);
  muse_scan_pack(ll, cx, 2, l->v);
  muse_scan_transpose(ll, cx, l->k, l->kt);
  product(ll, cx, (MuseGemmTile){C, C, d, pd, 1, C, C, MUSE_GEMM_LOWER_OUT, false}, l->q, l->kt, l->m, Q, 0);
  muse_scan_rows(ll, cx, false, has_state);
  product(ll, cx, (MuseGemmTile){C, pd, C, C, 1, pd, pd, MUSE_GEMM_LOWER, false}, l->m, l->v, l->out, 0, O);
  const MuseGemmTile through_state = {C, pd, 2 * d, 2 * l->dp, 1, pd, pd, MUSE_GEMM_FULL, true};
  if (has_state) product(ll, cx, through_state, l->left, l->state, l->out, K, 0);
  muse_scan_unpack(ll, cx, 0, l->out, -1);
  LLVMValueRef state = muse_scan_tile(ll, l->state);
  if (has_state) muse_scan_advance(ll, cx, state, state, (MuseScanAhead){1, V | TOKENS, 0, NULL});
}

bool muse_emit_llvm_resolvent_scan(MuseLlvm *ll, const MuseOp *kernel) {
  MuseScanChunk cx = muse_scan_chunk(ll, kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  MuseLlvmLoop task, chunk;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  muse_scan_set_task(ll, &cx, task.index);
  muse_scan_fill(ll, muse_scan_tile(ll, cx.layout.state), 2 * cx.layout.d * cx.pd);
  muse_llvm_loop_begin(ll, &chunk, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx.layout.n_chunks), 1);
  muse_scan_set_chunk(ll, &cx, chunk.index);
  forward_chunk(ll, &cx);
  muse_llvm_loop_end(ll, &chunk);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return true;
}
