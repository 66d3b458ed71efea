// The stages that widen 16-bit operands of a structured kernel in front of it, and round its results behind it
// (skel_widen.h).

#include "compiler/emit_llvm_widen.h"

// One tensor: its tasks are first..first+count-1 of the stage.
static void convert(MuseLlvm *ll, MuseType type, LLVMValueRef from, MuseDtype from_dtype, LLVMValueRef to,
                    MuseDtype to_dtype, int64_t first) {
  const int64_t n = muse_type_elements(type), last = first + (n + MUSE_WIDEN_ELEMENTS - 1) / MUSE_WIDEN_ELEMENTS;
  MuseLlvmLoop task, at;
  LLVMValueRef begin = muse_llvm_max(ll, ll->begin, muse_llvm_i64(ll, first), false),
               end = muse_llvm_min(ll, ll->end, muse_llvm_i64(ll, last), false);
  muse_llvm_loop_begin(ll, &task, begin, end, 1);
  LLVMValueRef number = LLVMBuildSub(ll->b, task.index, muse_llvm_i64(ll, first), "");
  LLVMValueRef start = LLVMBuildNSWMul(ll->b, number, muse_llvm_i64(ll, MUSE_WIDEN_ELEMENTS), "");
  LLVMValueRef stop = LLVMBuildNSWAdd(ll->b, start, muse_llvm_i64(ll, MUSE_WIDEN_ELEMENTS), "");
  stop = muse_llvm_min(ll, stop, muse_llvm_i64(ll, n), false);
  muse_llvm_loop_begin(ll, &at, start, stop, ll->lanes);
  LLVMValueRef left = n % ll->lanes ? LLVMBuildSub(ll->b, stop, at.index, "") : NULL;
  LLVMValueRef x = muse_llvm_load_f32(ll, from_dtype, from, at.index, ll->lanes, left);
  muse_llvm_store_f32(ll, to_dtype, to, at.index, x, ll->lanes, left);
  muse_llvm_loop_end(ll, &at);
  muse_llvm_loop_end(ll, &task);
}

static void emit_stage(MuseLlvm *ll, const MuseOp *kernel, const MuseWiden *w, int stage, bool results) {
  const int n_in = kernel->n_operands;
  muse_llvm_stage_begin(ll, kernel, stage);
  int64_t first = 0;
  for (int i = results ? n_in : 0; i < (results ? n_in + kernel->n_results : n_in); i++) {
    if (w->offset[i] < 0) continue;
    const MuseType type = results ? kernel->results[i - n_in]->type : kernel->operands[i]->type;
    LLVMValueRef wide = muse_llvm_byte_offset(ll, ll->workspace, w->offset[i]);
    if (results)
      convert(ll, type, wide, MUSE_F32, muse_llvm_result(ll, i - n_in), type.dtype, first);
    else
      convert(ll, type, muse_llvm_operand(ll, i), type.dtype, wide, MUSE_F32, first);
    first += (muse_type_elements(type) + MUSE_WIDEN_ELEMENTS - 1) / MUSE_WIDEN_ELEMENTS;
  }
  muse_llvm_stage_end(ll);
}

bool muse_emit_llvm_widened(MuseLlvm *ll, const MuseOp *kernel, MuseLlvmEmit emit) {
  const MuseSkeleton *skeleton = muse_skeleton(muse_op_text(kernel, "skeleton"));
  MuseWiden w;
  MuseKernelInfo own = {0};
  if (!skeleton || !skeleton->f32_only) return emit(ll, kernel);
  skeleton->info(kernel, &own);
  if (!muse_widen_layout(kernel, own.workspace_bytes, &w)) return emit(ll, kernel);
  emit_stage(ll, kernel, &w, 0, false);
  ll->widen = &w;
  const bool done = emit(ll, kernel);
  ll->widen = NULL;
  if (!done) return false;
  emit_stage(ll, kernel, &w, own.n_stages + 1, true);
  return true;
}
