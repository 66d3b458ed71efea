// The small ops around the mixers: document begins, rotary tables, rings of decoding states.

#include "compiler/emit_llvm_builder.h"
#include "compiler/emit_llvm_math.h"
#include "compiler/emit_llvm_scan.h"
#include "compiler/skel_misc.h"
#include "compiler/skel_scan.h"

#include <math.h>

static LLVMValueRef operand(MuseLlvm *ll, const MuseOp *op, int index) {
  return muse_llvm_operand(ll, muse_kernel_operand_of(op, index));
}

bool muse_emit_llvm_doc_begin(MuseLlvm *ll, const MuseOp *kernel) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const int64_t T = op->operands[0]->type.dim[1], eos = muse_op_int(op, "eos");
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef from = operand(ll, op, 0), to = muse_llvm_result(ll, 0), never = LLVMConstInt(ll->i1, 0, false);
  MuseLlvmLoop row, token;
  muse_llvm_loop_begin(ll, &row, ll->begin, ll->end, 1);
  LLVMValueRef base = LLVMBuildNSWMul(ll->b, row.index, muse_llvm_i64(ll, T), "");
  muse_llvm_loop_begin(ll, &token, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, T), 1);
  LLVMValueRef begin = muse_llvm_loop_carry(ll, &token, muse_llvm_i32(ll, 0)),
               starts = muse_llvm_loop_carry(ll, &token, never);
  LLVMValueRef at = LLVMBuildNSWAdd(ll->b, base, token.index, ""), id = muse_llvm_load(ll, MUSE_I32, from, at, 1, NULL);
  begin = LLVMBuildSelect(ll->b, starts, LLVMBuildTrunc(ll->b, token.index, ll->i32, ""), begin, "");
  muse_llvm_store(ll, MUSE_I32, to, at, begin, 1, NULL);
  // An eos that is no i32 (or -1, none) is no token.
  bool possible = eos >= 0 && eos <= INT32_MAX;
  LLVMValueRef ends = possible ? LLVMBuildICmp(ll->b, LLVMIntEQ, id, muse_llvm_i32(ll, eos), "") : never;
  muse_llvm_loop_next(&token, 0, begin);
  muse_llvm_loop_next(&token, 1, ends);
  muse_llvm_loop_end(ll, &token);
  muse_llvm_loop_end(ll, &row);
  muse_llvm_stage_end(ll);
  return true;
}

// The frequencies base^(-j/half) as constants of the module, padded to whole vectors.
static LLVMValueRef frequencies(MuseLlvm *ll, int64_t half, double base, int lanes) {
  const int64_t n = (half + lanes - 1) / lanes * lanes;
  LLVMValueRef *values = MUSE_NEW_ARRAY(ll->arena, LLVMValueRef, n);
  for (int64_t j = 0; j < n; j++)
    values[j] = LLVMConstReal(ll->f64, j < half ? pow(base, -(double)j / (double)half) : 0);
  LLVMTypeRef type = LLVMArrayType2(ll->f64, (uint64_t)n);
  LLVMValueRef table = LLVMAddGlobal(ll->module, type, "frequencies");
  LLVMSetInitializer(table, LLVMConstArray2(ll->f64, values, (uint64_t)n));
  LLVMSetGlobalConstant(table, true);
  LLVMSetLinkage(table, LLVMPrivateLinkage);
  LLVMSetAlignment(table, 64);
  return table;
}

bool muse_emit_llvm_rope_table(MuseLlvm *ll, const MuseOp *kernel) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const int64_t rows = muse_op_int(op, "rows"), half = muse_op_int(op, "half"),
                per_task = muse_rope_rows_per_task(kernel);
  const int lanes = ll->lanes > 1 ? ll->lanes / 2 : 1; // f64
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef table = frequencies(ll, half, muse_op_real(op, "base"), lanes), to = muse_llvm_result(ll, 0);
  LLVMValueRef position = muse_llvm_load(ll, MUSE_I64, operand(ll, op, 0), muse_llvm_i64(ll, 0), 1, NULL);
  LLVMValueRef width = muse_llvm_i64(ll, per_task), first = LLVMBuildNSWMul(ll->b, ll->begin, width, "");
  LLVMValueRef past = muse_llvm_min(ll, LLVMBuildNSWMul(ll->b, ll->end, width, ""), muse_llvm_i64(ll, rows), false);
  MuseLlvmLoop row, column;
  muse_llvm_loop_begin(ll, &row, first, past, 1);
  LLVMValueRef t = LLVMBuildSIToFP(ll->b, LLVMBuildAdd(ll->b, position, row.index, ""), ll->f64, "");
  LLVMValueRef at = LLVMBuildNSWMul(ll->b, row.index, muse_llvm_i64(ll, 2 * half), "");
  muse_llvm_loop_begin(ll, &column, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, half), lanes);
  LLVMValueRef frequency = muse_llvm_load(ll, MUSE_F64, table, column.index, lanes, NULL), sine, cosine;
  muse_llvm_sincos(ll, LLVMBuildFMul(ll->b, muse_llvm_splat(ll, t, lanes), frequency, ""), &sine, &cosine);
  LLVMValueRef active = half % lanes == 0 ? NULL : LLVMBuildSub(ll->b, muse_llvm_i64(ll, half), column.index, "");
  LLVMValueRef left = LLVMBuildNSWAdd(ll->b, at, column.index, ""),
               right = LLVMBuildNSWAdd(ll->b, left, muse_llvm_i64(ll, half), "");
  muse_llvm_store(ll, MUSE_F32, to, left, muse_llvm_convert(ll, cosine, MUSE_F64, MUSE_F32), lanes, active);
  muse_llvm_store(ll, MUSE_F32, to, right, muse_llvm_convert(ll, sine, MUSE_F64, MUSE_F32), lanes, active);
  muse_llvm_loop_end(ll, &column);
  muse_llvm_loop_end(ll, &row);
  muse_llvm_stage_end(ll);
  return true;
}

static void copy_bytes(MuseLlvm *ll, LLVMValueRef from, LLVMValueRef to, int64_t bytes) {
  const int vector = ll->lanes * 4;
  const int64_t whole = bytes / vector * vector;
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), vector);
  LLVMValueRef x = muse_llvm_load(ll, MUSE_U8, from, loop.index, vector, NULL);
  muse_llvm_store(ll, MUSE_U8, to, loop.index, x, vector, NULL);
  muse_llvm_loop_end(ll, &loop);
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, whole), muse_llvm_i64(ll, bytes), 1);
  muse_llvm_store(ll, MUSE_U8, to, loop.index, muse_llvm_load(ll, MUSE_U8, from, loop.index, 1, NULL), 1, NULL);
  muse_llvm_loop_end(ll, &loop);
}

bool muse_emit_llvm_ring_write(MuseLlvm *ll, const MuseOp *kernel) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  const MuseRingShape shape = muse_ring_shape(kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef ring = operand(ll, op, 0), x = operand(ll, op, 1), to = muse_llvm_result(ll, 0),
               slots = muse_llvm_i64(ll, shape.slots);
  LLVMValueRef inner = muse_llvm_i64(ll, shape.inner_bytes), per_task = muse_llvm_i64(ll, shape.rows_per_task);
  LLVMValueRef position = muse_llvm_load(ll, MUSE_I64, operand(ll, op, 2), muse_llvm_i64(ll, 0), 1, NULL);
  LLVMValueRef slot = LLVMBuildSRem(ll->b, position, slots, "");
  LLVMValueRef negative = LLVMBuildICmp(ll->b, LLVMIntSLT, slot, muse_llvm_i64(ll, 0), "");
  slot = LLVMBuildSelect(ll->b, negative, LLVMBuildAdd(ll->b, slot, slots, ""), slot, "");
  LLVMValueRef elsewhere = LLVMBuildICmp(ll->b, LLVMIntNE, ring, to, "");
  LLVMValueRef past = LLVMBuildNSWMul(ll->b, ll->end, per_task, "");
  past = muse_llvm_min(ll, past, muse_llvm_i64(ll, shape.outer * shape.slots), false);
  MuseLlvmLoop row;
  muse_llvm_loop_begin(ll, &row, LLVMBuildNSWMul(ll->b, ll->begin, per_task, ""), past, 1);
  LLVMValueRef is_new = LLVMBuildICmp(ll->b, LLVMIntEQ, LLVMBuildURem(ll->b, row.index, slots, ""), slot, "");
  LLVMValueRef bytes = LLVMBuildNSWMul(ll->b, row.index, inner, ""), outer = LLVMBuildUDiv(ll->b, row.index, slots, "");
  LLVMValueRef fresh = muse_llvm_byte_address(ll, x, LLVMBuildNSWMul(ll->b, outer, inner, ""));
  LLVMValueRef from = LLVMBuildSelect(ll->b, is_new, fresh, muse_llvm_byte_address(ll, ring, bytes), "");
  MuseLlvmIf needed;
  muse_llvm_if_begin(ll, &needed, LLVMBuildOr(ll->b, is_new, elsewhere, ""));
  copy_bytes(ll, from, muse_llvm_byte_address(ll, to, bytes), shape.inner_bytes);
  muse_llvm_if_end(ll, &needed);
  muse_llvm_loop_end(ll, &row);
  muse_llvm_stage_end(ll);
  return true;
}
