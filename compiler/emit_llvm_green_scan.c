// Green's function and its adjoint, token by token, vectorised over the heads (formulas: ops/green_scan.c).

#include "compiler/emit_llvm_gemm_tile.h"
#include "compiler/emit_llvm_scan.h"
#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

typedef struct Green {
  const MuseOp *op;
  int64_t B, T, H;
  LLVMValueRef row, head; // of the task: b, and the first of its vector's heads
  LLVMValueRef active;    // heads of the vector; NULL: all lanes
  LLVMValueRef doc;       // row of doc
} Green;

static LLVMValueRef operand(MuseLlvm *ll, const MuseOp *op, int i) {
  return muse_llvm_operand(ll, muse_kernel_operand_of(op, i));
}

// Loops over the tasks of the call and the vectors of a task, which `body` fills in.
static void for_heads(MuseLlvm *ll, Green *cx, void (*body)(MuseLlvm *, const Green *)) {
  const int64_t groups = muse_ceil_div(cx->H, MUSE_GREEN_HEADS);
  MuseLlvmLoop task, vector;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef n = muse_llvm_i64(ll, groups);
  cx->row = LLVMBuildUDiv(ll->b, task.index, n, "row");
  LLVMValueRef first =
      LLVMBuildMul(ll->b, LLVMBuildURem(ll->b, task.index, n, ""), muse_llvm_i64(ll, MUSE_GREEN_HEADS), "");
  LLVMValueRef past = LLVMBuildAdd(ll->b, first, muse_llvm_i64(ll, MUSE_GREEN_HEADS), "");
  LLVMValueRef end = muse_llvm_min(ll, past, muse_llvm_i64(ll, cx->H), false);
  LLVMValueRef doc = operand(ll, cx->op, 2);
  cx->doc = muse_llvm_address(ll, MUSE_I32, doc, LLVMBuildMul(ll->b, cx->row, muse_llvm_i64(ll, cx->T), ""));
  muse_llvm_loop_begin(ll, &vector, first, end, ll->lanes);
  cx->head = vector.index;
  cx->active = cx->H % ll->lanes == 0 ? NULL : LLVMBuildSub(ll->b, end, vector.index, "");
  if (cx->active) cx->active = muse_llvm_min(ll, cx->active, muse_llvm_i64(ll, ll->lanes), false);
  body(ll, cx);
  muse_llvm_loop_end(ll, &vector);
  muse_llvm_loop_end(ll, &task);
}

// Index of (row, t, head) in [B,T,H].
static LLVMValueRef place(MuseLlvm *ll, const Green *cx, LLVMValueRef t) {
  LLVMValueRef token = LLVMBuildAdd(ll->b, LLVMBuildMul(ll->b, cx->row, muse_llvm_i64(ll, cx->T), ""), t, "");
  return LLVMBuildAdd(ll->b, LLVMBuildMul(ll->b, token, muse_llvm_i64(ll, cx->H), ""), cx->head, "");
}

static LLVMValueRef starts_document(MuseLlvm *ll, const Green *cx, LLVMValueRef t) {
  LLVMValueRef doc = muse_llvm_load(ll, MUSE_I32, cx->doc, t, 1, NULL);
  return LLVMBuildICmp(ll->b, LLVMIntEQ, doc, LLVMBuildTrunc(ll->b, t, ll->i32, ""), "");
}

static LLVMValueRef load_at(MuseLlvm *ll, const Green *cx, int index, LLVMValueRef at) {
  return muse_llvm_load(ll, MUSE_F32, operand(ll, cx->op, index), at, ll->lanes, cx->active);
}

static void store_at(MuseLlvm *ll, const Green *cx, int index, LLVMValueRef at, LLVMValueRef value) {
  const int result = muse_kernel_result_of(cx->op, index);
  if (result >= 0) muse_llvm_store(ll, MUSE_F32, muse_llvm_result(ll, result), at, value, ll->lanes, cx->active);
}

// e_t = u/(1 + u), u = kappa_t + i eta + e_{t-1} (e = 1 before a document), which keeps what small kappa and eta have
// in digits: 2 + kappa would round them away. u/(1 + u) = (u + |u|^2)/|1 + u|^2, and |1 + u| >= 1.
static void forward_heads(MuseLlvm *ll, const Green *cx) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = LLVMConstNull(type), one = muse_llvm_const(type, 1), eta = load_at(ll, cx, 1, cx->head);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->T), 1);
  LLVMValueRef re = muse_llvm_loop_carry(ll, &loop, one), im = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef at = place(ll, cx, loop.index), first = starts_document(ll, cx, loop.index);
  LLVMValueRef ur = LLVMBuildFAdd(b, load_at(ll, cx, 0, at), LLVMBuildSelect(b, first, one, re, ""), "");
  LLVMValueRef ui = LLVMBuildFAdd(b, eta, LLVMBuildSelect(b, first, zero, im, ""), "");
  LLVMValueRef ui2 = LLVMBuildFMul(b, ui, ui, ""), below = LLVMBuildFAdd(b, one, ur, "");
  LLVMValueRef inverse = LLVMBuildFDiv(b, one, muse_llvm_fma(ll, below, below, ui2), "");
  re = LLVMBuildFMul(b, muse_llvm_fma(ll, ur, below, ui2), inverse, "");
  im = LLVMBuildFMul(b, ui, inverse, "");
  store_at(ll, cx, 0, at, re);
  store_at(ll, cx, 1, at, im);
  muse_llvm_loop_next(&loop, 0, re);
  muse_llvm_loop_next(&loop, 1, im);
  muse_llvm_loop_end(ll, &loop);
}

// g^2 lambda with g = e - 1, e = x + i y, as lambda - (2e - e^2) lambda, 2e - e^2 = x (2 - x) + y^2 + 2i y (1 - x): the
// correction is small where g is near -1, and so are its errors.
static void backward_heads(MuseLlvm *ll, const Green *cx) {
  LLVMBuilderRef b = ll->b;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef zero = LLVMConstNull(type), last = muse_llvm_i64(ll, cx->T - 1);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, cx->T), 1);
  LLVMValueRef next_re = muse_llvm_loop_carry(ll, &loop, zero), next_im = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef deta = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef t = LLVMBuildSub(b, last, loop.index, ""), at = place(ll, cx, t);
  LLVMValueRef x = load_at(ll, cx, 0, at), y = load_at(ll, cx, 1, at);
  LLVMValueRef lr = LLVMBuildFAdd(b, load_at(ll, cx, 3, at), next_re, "");
  LLVMValueRef li = LLVMBuildFSub(b, next_im, load_at(ll, cx, 4, at), "");
  LLVMValueRef one = muse_llvm_const(type, 1), two = muse_llvm_const(type, 2);
  LLVMValueRef sr = muse_llvm_fma(ll, x, LLVMBuildFSub(b, two, x, ""), LLVMBuildFMul(b, y, y, ""));
  LLVMValueRef si = LLVMBuildFMul(b, LLVMBuildFAdd(b, y, y, ""), LLVMBuildFSub(b, one, x, ""), "");
  LLVMValueRef sili = LLVMBuildFNeg(b, LLVMBuildFMul(b, si, li, ""), "");
  LLVMValueRef wr = LLVMBuildFSub(b, lr, muse_llvm_fma(ll, sr, lr, sili), "");
  LLVMValueRef wi = LLVMBuildFSub(b, li, muse_llvm_fma(ll, sr, li, LLVMBuildFMul(b, si, lr, "")), "");
  store_at(ll, cx, 0, at, wr);
  LLVMValueRef first = starts_document(ll, cx, t);
  muse_llvm_loop_next(&loop, 0, LLVMBuildSelect(b, first, zero, wr, ""));
  muse_llvm_loop_next(&loop, 1, LLVMBuildSelect(b, first, zero, wi, ""));
  muse_llvm_loop_next(&loop, 2, LLVMBuildFSub(b, deta, wi, ""));
  muse_llvm_loop_end(ll, &loop);
  LLVMValueRef partial = LLVMBuildAdd(b, LLVMBuildMul(b, cx->row, muse_llvm_i64(ll, cx->H), ""), cx->head, "");
  muse_llvm_store(ll, MUSE_F32, ll->workspace, partial, loop.result[2], ll->lanes, cx->active);
}

static Green context_of(const MuseOp *kernel) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  MuseType type = op->operands[0]->type;
  return (Green){.op = op, .B = type.dim[0], .T = type.dim[1], .H = type.dim[2]};
}

bool muse_emit_llvm_green_scan(MuseLlvm *ll, const MuseOp *kernel) {
  Green cx = context_of(kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  for_heads(ll, &cx, forward_heads);
  muse_llvm_stage_end(ll);
  return true;
}

// to[j] = sum over i of partial[i][j], i ascending.
void muse_llvm_emit_partial_sums(MuseLlvm *ll, int64_t rows, int64_t columns, LLVMValueRef partial, LLVMValueRef to) {
  for (int64_t j = 0; j < columns; j += ll->lanes) {
    LLVMValueRef active = columns - j < ll->lanes ? muse_llvm_i64(ll, columns - j) : NULL, at = muse_llvm_i64(ll, j);
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, rows), 1);
    LLVMValueRef sum = muse_llvm_loop_carry(ll, &loop, LLVMConstNull(muse_llvm_vector(ll->f32, ll->lanes)));
    LLVMValueRef place_of =
        LLVMBuildAdd(ll->b, LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, columns), ""), at, "");
    LLVMValueRef x = muse_llvm_load(ll, MUSE_F32, partial, place_of, ll->lanes, active);
    muse_llvm_loop_next(&loop, 0, LLVMBuildFAdd(ll->b, sum, x, ""));
    muse_llvm_loop_end(ll, &loop);
    muse_llvm_store(ll, MUSE_F32, to, at, loop.result[0], ll->lanes, active);
  }
}

bool muse_emit_llvm_green_scan_grad(MuseLlvm *ll, const MuseOp *kernel) {
  Green cx = context_of(kernel);
  muse_llvm_stage_begin(ll, kernel, 0);
  for_heads(ll, &cx, backward_heads);
  muse_llvm_stage_end(ll);
  muse_llvm_stage_begin(ll, kernel, 1);
  const int result = muse_kernel_result_of(cx.op, 1);
  if (result >= 0) {
    MuseLlvmIf once; // the stage has one task
    muse_llvm_if_begin(ll, &once, LLVMBuildICmp(ll->b, LLVMIntSLT, ll->begin, ll->end, ""));
    muse_llvm_emit_partial_sums(ll, cx.B, cx.H, ll->workspace, muse_llvm_result(ll, result));
    muse_llvm_if_end(ll, &once);
  }
  muse_llvm_stage_end(ll);
  return true;
}
