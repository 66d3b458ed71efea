// Products of tensor-train slices, shared by the embedding and the head.

#include "compiler/emit_llvm_train.h"

#include "compiler/emit_llvm_gemm_tile.h"
#include "compiler/emit_llvm_panel.h"

static LLVMValueRef element(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef index) {
  return muse_llvm_address(ll, MUSE_F32, base, index);
}

LLVMValueRef muse_llvm_slice(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef index, int64_t elements) {
  return element(ll, base, muse_llvm_times(ll, index, elements));
}

// to[j] = factor from[j] for `count` (constant) elements; returns the sum of from[j]*with[j] by lanes added to `sum` if
// with.
static LLVMValueRef scale_row(MuseLlvm *ll, int64_t count, LLVMValueRef factor, LLVMValueRef from, LLVMValueRef to,
                              LLVMValueRef with, LLVMValueRef sum) {
  const int64_t whole = count / ll->lanes * ll->lanes;
  LLVMValueRef wide = muse_llvm_splat(ll, factor, ll->lanes);
  for (int part = 0; part < 2; part++) { // whole vectors, then the rest
    LLVMValueRef begin = muse_llvm_i64(ll, part ? whole : 0), end = muse_llvm_i64(ll, part ? count : whole);
    LLVMValueRef active = part ? muse_llvm_i64(ll, count - whole) : NULL;
    if (part ? whole == count : whole == 0) continue;
    MuseLlvmLoop j;
    muse_llvm_loop_begin(ll, &j, begin, end, ll->lanes);
    LLVMValueRef so_far = with ? muse_llvm_loop_carry(ll, &j, sum) : NULL;
    LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, from, j.index, ll->lanes, active);
    muse_llvm_store(ll, MUSE_F32, to, j.index, LLVMBuildFMul(ll->b, x, wide, ""), ll->lanes, active);
    if (with)
      muse_llvm_loop_next(&j, 0,
                          muse_llvm_fma(ll, x, muse_llvm_load(ll, MUSE_F32, with, j.index, ll->lanes, active), so_far));
    muse_llvm_loop_end(ll, &j);
    if (with) sum = j.result[0];
  }
  return sum;
}

void muse_llvm_train_scale(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef core1, LLVMValueRef cosphase,
                           LLVMValueRef scaled) {
  MuseLlvmLoop rho;
  muse_llvm_loop_begin(ll, &rho, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, s.r), 1);
  LLVMValueRef factor = muse_llvm_load(ll, MUSE_F32, cosphase, rho.index, 1, NULL);
  scale_row(ll, s.d1, factor, muse_llvm_slice(ll, core1, rho.index, s.d1), muse_llvm_slice(ll, scaled, rho.index, s.d1),
            NULL, NULL);
  muse_llvm_loop_end(ll, &rho);
}

void muse_llvm_train_row(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef scaled, LLVMValueRef core2, LLVMValueRef row) {
  const MusePanel panel = {.a_row = 1, .a_col = s.d1, .ldb = s.d2, .ldc = s.d2};
  muse_llvm_panel_products(ll, &panel, s.d2, muse_llvm_i64(ll, s.d1), muse_llvm_i64(ll, s.r), scaled, core2, row,
                           LLVMConstNull(ll->i1));
}

void muse_llvm_train_right(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef left, LLVMValueRef row, LLVMValueRef out,
                           LLVMValueRef more) {
  const MusePanel panel = {.a_row = s.d1, .a_col = 1, .ldb = s.d2, .ldc = s.d2};
  muse_llvm_panel_products(ll, &panel, s.d2, muse_llvm_i64(ll, s.r), muse_llvm_i64(ll, s.d1), left, row, out, more);
}

// Columns a.. of T, `width` of them.
static void left_panel(MuseLlvm *ll, MuseTrainShape s, int64_t width, LLVMValueRef a, LLVMValueRef *args) {
  LLVMValueRef count = args[0], core2 = args[1], row = args[2], packed = args[3], out = args[4], more = args[5];
  const MusePanel panel = {
      .width = width, .a_row = s.d2, .a_col = 1, .ldb = MUSE_PANEL_WIDTH, .ldc = s.d1, .padded = true};
  MuseLlvmLoop k;
  muse_llvm_loop_begin(ll, &k, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, s.d2), MUSE_PANEL_TERMS);
  LLVMValueRef terms =
      muse_llvm_at_most(ll, LLVMBuildSub(ll->b, muse_llvm_i64(ll, s.d2), k.index, ""), MUSE_PANEL_TERMS);
  muse_llvm_pack_transposed(ll, width, s.d2, terms, element(ll, muse_llvm_slice(ll, row, a, s.d2), k.index), packed);
  LLVMValueRef later = LLVMBuildICmp(ll->b, LLVMIntSGT, k.index, muse_llvm_i64(ll, 0), "");
  muse_llvm_panel_product(ll, &panel, count, terms, element(ll, core2, k.index), packed, element(ll, out, a),
                          LLVMBuildOr(ll->b, later, more, ""));
  muse_llvm_loop_end(ll, &k);
}

void muse_llvm_train_left(MuseLlvm *ll, MuseTrainShape s, LLVMValueRef count, LLVMValueRef core2, LLVMValueRef row,
                          LLVMValueRef packed, LLVMValueRef out, LLVMValueRef more) {
  MuseLlvmHelper helper;
  if (muse_llvm_helper_begin(ll, "train_left", (LLVMTypeRef[]){ll->i64, ll->ptr, ll->ptr, ll->ptr, ll->ptr, ll->i1}, 6,
                             &helper)) {
    LLVMValueRef args[6];
    for (unsigned i = 0; i < 6; i++) args[i] = LLVMGetParam(helper.function, i);
    const int64_t whole = s.d1 / MUSE_PANEL_WIDTH * MUSE_PANEL_WIDTH;
    if (whole > 0) {
      MuseLlvmLoop a;
      muse_llvm_loop_begin(ll, &a, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), MUSE_PANEL_WIDTH);
      left_panel(ll, s, MUSE_PANEL_WIDTH, a.index, args);
      muse_llvm_loop_end(ll, &a);
    }
    if (whole < s.d1) left_panel(ll, s, s.d1 - whole, muse_llvm_i64(ll, whole), args);
    muse_llvm_helper_end(ll, &helper);
  }
  muse_llvm_helper_call(ll, &helper, (LLVMValueRef[]){count, core2, row, packed, out, more}, 6);
}

void muse_llvm_clear(MuseLlvm *ll, LLVMValueRef to, LLVMValueRef first, LLVMValueRef end) {
  MuseLlvmLoop j;
  muse_llvm_loop_begin(ll, &j, first, end, 1);
  muse_llvm_store(ll, MUSE_F32, to, j.index, muse_llvm_f32(ll, 0), 1, NULL);
  muse_llvm_loop_end(ll, &j);
}

void muse_llvm_train_pad(MuseLlvm *ll, MuseTrainShape s, int64_t D, LLVMValueRef from, LLVMValueRef row) {
  muse_llvm_copy_rows(ll, D, D, D, muse_llvm_i64(ll, 1), from, row);
  if (D < s.d1 * s.d2) muse_llvm_clear(ll, row, muse_llvm_i64(ll, D), muse_llvm_i64(ll, s.d1 * s.d2));
}

void muse_llvm_train_finish(MuseLlvm *ll, const MuseTrainFinish *f, LLVMValueRef rho) {
  const MuseTrainShape s = f->shape;
  LLVMBuilderRef b = ll->b;
  LLVMValueRef zero = muse_llvm_i64(ll, 0), factor = muse_llvm_load(ll, MUSE_F32, f->cosphase, rho, 1, NULL);
  MuseLlvmLoop i;
  muse_llvm_loop_begin(ll, &i, zero, muse_llvm_i64(ll, f->used), 1);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &i, LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)));
  LLVMValueRef at = LLVMBuildAdd(b, muse_llvm_times(ll, i.index, s.r), rho, "");
  LLVMValueRef row = muse_llvm_slice(ll, f->t, at, s.d1);
  muse_llvm_loop_next(&i, 0, scale_row(ll, s.d1, factor, row, row, muse_llvm_slice(ll, f->core1, at, s.d1), sum));
  muse_llvm_loop_end(ll, &i);
  if (f->d_cosphase) muse_llvm_store(ll, MUSE_F32, f->d_cosphase, rho, muse_llvm_sum_lanes(ll, i.result[0]), 1, NULL);
  if (f->used < f->v1) {
    muse_llvm_loop_begin(ll, &i, muse_llvm_i64(ll, f->used), muse_llvm_i64(ll, f->v1), 1);
    at = LLVMBuildAdd(b, muse_llvm_times(ll, i.index, s.r), rho, "");
    muse_llvm_clear(ll, muse_llvm_slice(ll, f->t, at, s.d1), zero, muse_llvm_i64(ll, s.d1));
    muse_llvm_loop_end(ll, &i);
  }
  muse_llvm_loop_begin(ll, &i, zero, muse_llvm_i64(ll, f->v2), 1);
  at = LLVMBuildAdd(b, muse_llvm_times(ll, i.index, s.r), rho, "");
  row = muse_llvm_slice(ll, f->u, at, s.d2);
  scale_row(ll, s.d2, factor, row, row, NULL, NULL);
  muse_llvm_loop_end(ll, &i);
}
