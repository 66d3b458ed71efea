// The head over a tensor train: a group of the table is built in front of a round, and its gradient contracted behind
// it.

#include "compiler/emit_llvm_embed.h"
#include "compiler/emit_llvm_head.h"
#include "compiler/emit_llvm_panel.h"
#include "compiler/emit_llvm_train.h"

static MuseTrainShape shape_of(const MuseHead *h) { return (MuseTrainShape){h->r, h->d1, h->d2}; }
static LLVMValueRef core(MuseLlvm *ll, const MuseHead *h, int which) {
  return muse_llvm_op_operand(ll, h->op, 1 + which);
}

static LLVMValueRef d_core_place(MuseLlvm *ll, const MuseHead *h, int which) {
  const int64_t bytes = which ? h->d_core2 : h->d_core1;
  return bytes >= 0 ? muse_llvm_head_workspace(ll, bytes) : muse_llvm_op_result(ll, h->op, 2 + which);
}

// Row (i1 of the group, i2) of the table at hand or of its gradient.
static LLVMValueRef table_row(MuseLlvm *ll, const MuseHead *h, int64_t bytes, LLVMValueRef i1, LLVMValueRef i2) {
  LLVMValueRef row = LLVMBuildAdd(ll->b, muse_llvm_times(ll, i1, h->v2), i2, "");
  return muse_llvm_slice(ll, muse_llvm_head_workspace(ll, bytes), row, h->ldt);
}

// The first i1 of the round.
static LLVMValueRef first_of_round(MuseLlvm *ll, const MuseHeadStage *s) {
  return LLVMBuildSDiv(ll->b, s->vocab, muse_llvm_i64(ll, s->h->v2), "");
}

// Whether i1 (counted from the round's first) has tokens.
static LLVMValueRef is_used(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef i1) {
  return LLVMBuildICmp(ll->b, LLVMIntSLT, muse_llvm_times(ll, i1, s->h->v2), s->valid, "");
}

// A task: MUSE_HEAD_BUILD_ROWS rows of one i1.
static void emit_build(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  const MuseTrainShape shape = shape_of(h);
  MuseLlvmLoop task, i2;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef blocks = muse_llvm_i64(ll, h->n_build_blocks), i1 = LLVMBuildSDiv(b, task.index, blocks, "");
  LLVMValueRef begin = muse_llvm_times(ll, LLVMBuildSRem(b, task.index, blocks, ""), MUSE_HEAD_BUILD_ROWS);
  LLVMValueRef end = muse_llvm_at_most(ll, muse_llvm_plus(ll, begin, MUSE_HEAD_BUILD_ROWS), h->v2),
               zero = muse_llvm_i64(ll, 0);
  MuseLlvmIf used;
  muse_llvm_if_begin(ll, &used, is_used(ll, s, i1));
  LLVMValueRef core1 =
      muse_llvm_slice(ll, core(ll, h, 0), LLVMBuildAdd(b, first_of_round(ll, s), i1, ""), h->r * h->d1);
  muse_llvm_train_scale(ll, shape, core1, core(ll, h, 2), ll->scratch);
  muse_llvm_loop_begin(ll, &i2, begin, end, 1);
  muse_llvm_train_row(ll, shape, ll->scratch, muse_llvm_slice(ll, core(ll, h, 1), i2.index, h->r * h->d2),
                      table_row(ll, h, h->table, i1, i2.index));
  muse_llvm_loop_end(ll, &i2);
  muse_llvm_else(ll, &used); // behind the last token: products meet these rows with p = 0
  muse_llvm_loop_begin(ll, &i2, begin, end, 1);
  muse_llvm_clear(ll, table_row(ll, h, h->table, i1, i2.index), zero, muse_llvm_i64(ll, h->D));
  muse_llvm_loop_end(ll, &i2);
  muse_llvm_if_end(ll, &used);
  if (h->grad && h->D < h->d1 * h->d2) { // the gradient has no elements there
    muse_llvm_loop_begin(ll, &i2, begin, end, 1);
    muse_llvm_clear(ll, table_row(ll, h, h->d_table, i1, i2.index), muse_llvm_i64(ll, h->D),
                    muse_llvm_i64(ll, h->d1 * h->d2));
    muse_llvm_loop_end(ll, &i2);
  }
  muse_llvm_loop_end(ll, &task);
}

// T[i1] for MUSE_HEAD_RHO_ROWS values of rho: complete, as all tokens are in the round.
static void emit_contract1(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  MuseLlvmLoop task, i2;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef blocks = muse_llvm_i64(ll, h->n_rho_blocks), i1 = LLVMBuildSDiv(b, task.index, blocks, "");
  LLVMValueRef rho = muse_llvm_times(ll, LLVMBuildSRem(b, task.index, blocks, ""), MUSE_HEAD_RHO_ROWS);
  LLVMValueRef count = muse_llvm_at_most(ll, LLVMBuildSub(b, muse_llvm_i64(ll, h->r), rho, ""), MUSE_HEAD_RHO_ROWS);
  MuseLlvmIf used;
  muse_llvm_if_begin(ll, &used, is_used(ll, s, i1));
  LLVMValueRef row =
      LLVMBuildAdd(b, muse_llvm_times(ll, LLVMBuildAdd(b, first_of_round(ll, s), i1, ""), h->r), rho, "");
  LLVMValueRef out = muse_llvm_slice(ll, d_core_place(ll, h, 0), row, h->d1);
  muse_llvm_loop_begin(ll, &i2, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, h->v2), 1);
  row = LLVMBuildAdd(b, muse_llvm_times(ll, i2.index, h->r), rho, "");
  muse_llvm_train_left(ll, shape_of(h), count, muse_llvm_slice(ll, core(ll, h, 1), row, h->d2),
                       table_row(ll, h, h->d_table, i1, i2.index), ll->scratch, out,
                       LLVMBuildICmp(b, LLVMIntSGT, i2.index, muse_llvm_i64(ll, 0), ""));
  muse_llvm_loop_end(ll, &i2);
  muse_llvm_if_end(ll, &used);
  muse_llvm_loop_end(ll, &task);
}

// U[i2], added over the i1 of the round and over the rounds.
static void emit_contract2(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  MuseLlvmLoop i2, i1;
  muse_llvm_loop_begin(ll, &i2, ll->begin, ll->end, 1);
  LLVMValueRef out = muse_llvm_slice(ll, d_core_place(ll, h, 1), i2.index, h->r * h->d2), v2 = muse_llvm_i64(ll, h->v2);
  LLVMValueRef used = LLVMBuildSDiv(b, muse_llvm_plus(ll, s->valid, h->v2 - 1), v2, "");
  muse_llvm_loop_begin(ll, &i1, muse_llvm_i64(ll, 0), used, 1);
  LLVMValueRef core1 =
      muse_llvm_slice(ll, core(ll, h, 0), LLVMBuildAdd(b, first_of_round(ll, s), i1.index, ""), h->r * h->d1);
  LLVMValueRef more = LLVMBuildICmp(b, LLVMIntSGT, i1.index, muse_llvm_i64(ll, 0), "");
  more = LLVMBuildOr(b, more, LLVMBuildNot(b, s->first_round, ""), "");
  muse_llvm_train_right(ll, shape_of(h), core1, table_row(ll, h, h->d_table, i1.index, i2.index), out, more);
  muse_llvm_loop_end(ll, &i1);
  muse_llvm_loop_end(ll, &i2);
}

// The loss with task 0; gradients of the cores a rho a task.
static void emit_finish(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  MuseLlvmIf first;
  muse_llvm_if_begin(ll, &first,
                     LLVMBuildAnd(ll->b, LLVMBuildICmp(ll->b, LLVMIntEQ, ll->begin, muse_llvm_i64(ll, 0), ""),
                                  LLVMBuildICmp(ll->b, LLVMIntSLT, ll->begin, ll->end, ""), ""));
  muse_llvm_head_loss(ll, s);
  muse_llvm_if_end(ll, &first);
  if (!h->grad) return;
  const MuseTrainFinish finish = {.shape = shape_of(h),
                                  .v1 = h->v1,
                                  .v2 = h->v2,
                                  .used = h->used,
                                  .core1 = core(ll, h, 0),
                                  .cosphase = core(ll, h, 2),
                                  .t = d_core_place(ll, h, 0),
                                  .u = d_core_place(ll, h, 1),
                                  .d_cosphase = muse_llvm_op_result(ll, h->op, 4)};
  MuseLlvmLoop rho;
  muse_llvm_loop_begin(ll, &rho, ll->begin, ll->end, 1);
  muse_llvm_train_finish(ll, &finish, rho.index);
  muse_llvm_loop_end(ll, &rho);
}

// In the first of two sweeps only the log-sum-exp is looked for.
static void unless_measuring(MuseLlvm *ll, const MuseHeadStage *s, void (*emit)(MuseLlvm *, const MuseHeadStage *)) {
  MuseLlvmIf use;
  if (s->measuring) muse_llvm_if_begin(ll, &use, LLVMBuildNot(ll->b, s->measuring, ""));
  emit(ll, s);
  if (s->measuring) muse_llvm_if_end(ll, &use);
}

static void emit_contract1_once(MuseLlvm *ll, const MuseHeadStage *s) { unless_measuring(ll, s, emit_contract1); }
static void emit_contract2_once(MuseLlvm *ll, const MuseHeadStage *s) { unless_measuring(ll, s, emit_contract2); }

bool muse_emit_llvm_tt_cross_entropy(MuseLlvm *ll, const MuseOp *kernel) {
  MuseHead h;
  muse_head_layout(kernel, &h);
  muse_llvm_head_stage(ll, kernel, &h, h.build, emit_build);
  muse_llvm_head_stage(ll, kernel, &h, h.logits_stage, muse_llvm_head_logits);
  muse_llvm_head_stage(ll, kernel, &h, h.normalise, muse_llvm_head_normalise);
  if (h.grad) {
    muse_llvm_head_stage(ll, kernel, &h, h.products, muse_llvm_head_products);
    muse_llvm_head_stage(ll, kernel, &h, h.contract1, emit_contract1_once);
    muse_llvm_head_stage(ll, kernel, &h, h.contract2, emit_contract2_once);
  }
  muse_llvm_head_stage(ll, kernel, &h, h.finish, emit_finish);
  return true;
}
