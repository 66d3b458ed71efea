// gather_rows and scatter_add_rows: rows of the dense embedding, and the sum of their gradients.

#include "compiler/emit_llvm_embed.h"
#include "compiler/skel_embed.h"
#include "compiler/skel_scan.h"

LLVMValueRef muse_llvm_op_operand(MuseLlvm *ll, const MuseOp *op, int index) {
  return muse_llvm_operand(ll, muse_kernel_operand_of(op, index));
}

LLVMValueRef muse_llvm_op_result(MuseLlvm *ll, const MuseOp *op, int index) {
  const int result = muse_kernel_result_of(op, index);
  return result < 0 ? NULL : muse_llvm_result(ll, result);
}

LLVMValueRef muse_llvm_token(MuseLlvm *ll, LLVMValueRef tokens, LLVMValueRef index, int64_t rows) {
  LLVMValueRef token = LLVMBuildZExt(ll->b, muse_llvm_load(ll, MUSE_I32, tokens, index, 1, NULL), ll->i64, "");
  return muse_llvm_min(ll, token, muse_llvm_i64(ll, rows - 1), true);
}

static LLVMValueRef times(MuseLlvm *ll, LLVMValueRef index, int64_t factor) {
  return LLVMBuildNSWMul(ll->b, index, muse_llvm_i64(ll, factor), "");
}

bool muse_emit_llvm_gather_rows(MuseLlvm *ll, const MuseOp *kernel) {
  MuseGather g;
  muse_gather_layout(kernel, &g);
  muse_llvm_stage_begin(ll, kernel, 0);
  const MuseDtype dtype = g.op->operands[0]->type.dtype;
  const int lanes = ll->lanes == 1 ? 1 : (int)(ll->lanes * 4 / muse_dtype_bytes(dtype));
  LLVMValueRef table = muse_llvm_op_operand(ll, g.op, 0), tokens = muse_llvm_op_operand(ll, g.op, 1);
  LLVMValueRef out = muse_llvm_op_result(ll, g.op, 0);
  LLVMValueRef first = times(ll, ll->begin, g.tokens_per_task);
  LLVMValueRef end = muse_llvm_min(ll, times(ll, ll->end, g.tokens_per_task), muse_llvm_i64(ll, g.tokens), false);
  MuseLlvmLoop token, column;
  muse_llvm_loop_begin(ll, &token, first, end, 1);
  LLVMValueRef row = times(ll, muse_llvm_token(ll, tokens, token.index, g.V), g.D);
  LLVMValueRef from = muse_llvm_address(ll, dtype, table, row);
  LLVMValueRef to = muse_llvm_address(ll, dtype, out, times(ll, token.index, g.D));
  const int64_t whole = g.D / lanes * lanes;
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), lanes);
  muse_llvm_store(ll, dtype, to, column.index, muse_llvm_load(ll, dtype, from, column.index, lanes, NULL), lanes, NULL);
  muse_llvm_loop_end(ll, &column);
  if (whole < g.D) {
    muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, whole), muse_llvm_i64(ll, g.D), 1);
    muse_llvm_store(ll, dtype, to, column.index, muse_llvm_load(ll, dtype, from, column.index, 1, NULL), 1, NULL);
    muse_llvm_loop_end(ll, &column);
  }
  muse_llvm_loop_end(ll, &token);
  muse_llvm_stage_end(ll);
  return true;
}

// Adds columns [begin, end) of a row, or clears them where there is nothing to add.
static void add_columns(MuseLlvm *ll, LLVMValueRef out, LLVMValueRef add, LLVMValueRef begin, LLVMValueRef end,
                        bool partial) {
  MuseLlvmLoop column;
  muse_llvm_loop_begin(ll, &column, begin, end, ll->lanes);
  LLVMValueRef active = partial ? LLVMBuildSub(ll->b, end, column.index, "") : NULL;
  LLVMValueRef value = LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes));
  if (add) {
    value = muse_llvm_load(ll, MUSE_F32, add, column.index, ll->lanes, active);
    value = LLVMBuildFAdd(ll->b, muse_llvm_load(ll, MUSE_F32, out, column.index, ll->lanes, active), value, "");
  }
  muse_llvm_store(ll, MUSE_F32, out, column.index, value, ll->lanes, active);
  muse_llvm_loop_end(ll, &column);
}

bool muse_emit_llvm_scatter_add_rows(MuseLlvm *ll, const MuseOp *kernel) {
  MuseGather g;
  muse_gather_layout(kernel, &g);
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef grad = muse_llvm_op_operand(ll, g.op, 0), tokens = muse_llvm_op_operand(ll, g.op, 1);
  LLVMValueRef out = muse_llvm_op_result(ll, g.op, 0);
  const bool partial = g.D % ll->lanes != 0;
  MuseLlvmLoop task, row;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef begin = times(ll, task.index, g.columns_per_task);
  LLVMValueRef end = LLVMBuildAdd(ll->b, begin, muse_llvm_i64(ll, g.columns_per_task), "");
  end = muse_llvm_min(ll, end, muse_llvm_i64(ll, g.D), false);
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, g.V), 1);
  add_columns(ll, muse_llvm_address(ll, MUSE_F32, out, times(ll, row.index, g.D)), NULL, begin, end, partial);
  muse_llvm_loop_end(ll, &row);
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, g.tokens), 1);
  LLVMValueRef target = times(ll, muse_llvm_token(ll, tokens, row.index, g.V), g.D);
  LLVMValueRef from = muse_llvm_address(ll, MUSE_F32, grad, times(ll, row.index, g.D));
  add_columns(ll, muse_llvm_address(ll, MUSE_F32, out, target), from, begin, end, partial);
  muse_llvm_loop_end(ll, &row);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return true;
}
