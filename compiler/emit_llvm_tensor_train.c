// tt_gather, tt_gather_grad and tt_matmul: rows of the tensor-train embedding, their gradient, and products with the
// whole table.

#include "compiler/emit_llvm_embed.h"
#include "compiler/emit_llvm_panel.h"
#include "compiler/emit_llvm_train.h"
#include "compiler/skel_tensor_train.h"

static MuseTrainShape shape_of(const MuseTrainKernel *t) { return (MuseTrainShape){t->r, t->d1, t->d2}; }
static LLVMValueRef core(MuseLlvm *ll, const MuseTrainKernel *t, int which) {
  return muse_llvm_op_operand(ll, t->op, t->cores + which);
}
static LLVMValueRef scratch_at(MuseLlvm *ll, int64_t bytes) { return muse_llvm_byte_offset(ll, ll->scratch, bytes); }
static LLVMValueRef workspace_at(MuseLlvm *ll, int64_t bytes) {
  return muse_llvm_byte_offset(ll, ll->workspace, bytes);
}

typedef struct Indices {
  LLVMValueRef i1, i2;
} Indices;

// Token `n` of tokens, held inside of the table.
static Indices indices_of(MuseLlvm *ll, const MuseTrainKernel *t, LLVMValueRef tokens, LLVMValueRef n) {
  LLVMValueRef token = muse_llvm_token(ll, tokens, n, t->v1 * t->v2), v2 = muse_llvm_i64(ll, t->v2);
  return (Indices){LLVMBuildUDiv(ll->b, token, v2, ""), LLVMBuildURem(ll->b, token, v2, "")};
}

bool muse_emit_llvm_tt_gather(MuseLlvm *ll, const MuseOp *kernel) {
  MuseTrainKernel t;
  muse_train_layout(kernel, &t);
  const MuseTrainShape s = shape_of(&t);
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef out = muse_llvm_op_result(ll, t.op, 0), scaled = scratch_at(ll, t.scaled), row = scratch_at(ll, t.row);
  LLVMValueRef end = muse_llvm_at_most(ll, muse_llvm_times(ll, ll->end, t.tokens_per_task), t.tokens);
  MuseLlvmLoop n;
  muse_llvm_loop_begin(ll, &n, muse_llvm_times(ll, ll->begin, t.tokens_per_task), end, 1);
  Indices i = indices_of(ll, &t, muse_llvm_op_operand(ll, t.op, 3), n.index);
  muse_llvm_train_scale(ll, s, muse_llvm_slice(ll, core(ll, &t, 0), i.i1, t.r * t.d1), core(ll, &t, 2), scaled);
  muse_llvm_train_row(ll, s, scaled, muse_llvm_slice(ll, core(ll, &t, 1), i.i2, t.r * t.d2), row);
  muse_llvm_copy_rows(ll, t.D, t.D, t.D, muse_llvm_i64(ll, 1), row, muse_llvm_slice(ll, out, n.index, t.D));
  muse_llvm_loop_end(ll, &n);
  muse_llvm_stage_end(ll);
  return true;
}

// ---- the gradient of the rows ----

static LLVMValueRef load_int(MuseLlvm *ll, LLVMValueRef array, LLVMValueRef index) {
  return LLVMBuildSExt(ll->b, muse_llvm_load(ll, MUSE_I32, array, index, 1, NULL), ll->i64, "");
}
static void store_int(MuseLlvm *ll, LLVMValueRef array, LLVMValueRef index, LLVMValueRef value) {
  muse_llvm_store(ll, MUSE_I32, array, index, LLVMBuildTrunc(ll->b, value, ll->i32, ""), 1, NULL);
}

// Counting sort of the tokens by i1 (which 0) or i2 (1): tokens of index i are list[start[i]] .. list[start[i+1]-1], in
// order.
static void sort_tokens(MuseLlvm *ll, const MuseTrainKernel *t, int which) {
  const int64_t size = which ? t->v2 : t->v1;
  LLVMValueRef tokens = muse_llvm_op_operand(ll, t->op, 4), zero = muse_llvm_i64(ll, 0),
               all = muse_llvm_i64(ll, t->tokens);
  LLVMValueRef start = workspace_at(ll, which ? t->start2 : t->start1),
               list = workspace_at(ll, which ? t->list2 : t->list1);
  LLVMValueRef cursor = workspace_at(ll, t->cursor), sizes = muse_llvm_i64(ll, size);
  MuseLlvmLoop i;
  muse_llvm_loop_begin(ll, &i, zero, sizes, 1);
  store_int(ll, cursor, i.index, zero);
  muse_llvm_loop_end(ll, &i);
  muse_llvm_loop_begin(ll, &i, zero, all, 1);
  Indices at = indices_of(ll, t, tokens, i.index);
  LLVMValueRef key = which ? at.i2 : at.i1;
  store_int(ll, cursor, key, muse_llvm_plus(ll, load_int(ll, cursor, key), 1));
  muse_llvm_loop_end(ll, &i);
  store_int(ll, start, zero, zero);
  muse_llvm_loop_begin(ll, &i, zero, sizes, 1); // counts become first places
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &i, zero),
               next = LLVMBuildAdd(ll->b, sum, load_int(ll, cursor, i.index), "");
  store_int(ll, cursor, i.index, sum);
  store_int(ll, start, muse_llvm_plus(ll, i.index, 1), next);
  muse_llvm_loop_next(&i, 0, next);
  muse_llvm_loop_end(ll, &i);
  muse_llvm_loop_begin(ll, &i, zero, all, 1);
  at = indices_of(ll, t, tokens, i.index);
  key = which ? at.i2 : at.i1;
  LLVMValueRef place = load_int(ll, cursor, key);
  store_int(ll, list, place, i.index);
  store_int(ll, cursor, key, muse_llvm_plus(ll, place, 1));
  muse_llvm_loop_end(ll, &i);
}

// T of the i1 (which 0), or U of the i2 (1), that `index` is.
static void sum_tokens(MuseLlvm *ll, const MuseTrainKernel *t, int which, LLVMValueRef index, LLVMValueRef d_core) {
  const MuseTrainShape s = shape_of(t);
  const int64_t slice1 = t->r * t->d1, slice2 = t->r * t->d2;
  LLVMValueRef start = workspace_at(ll, which ? t->start2 : t->start1),
               list = workspace_at(ll, which ? t->list2 : t->list1);
  LLVMValueRef grad = muse_llvm_op_operand(ll, t->op, 0), tokens = muse_llvm_op_operand(ll, t->op, 4),
               row = scratch_at(ll, t->row);
  LLVMValueRef more = LLVMConstInt(ll->i1, 1, false), out = muse_llvm_slice(ll, d_core, index, which ? slice2 : slice1);
  muse_llvm_clear(ll, out, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, which ? slice2 : slice1));
  MuseLlvmLoop k;
  muse_llvm_loop_begin(ll, &k, load_int(ll, start, index), load_int(ll, start, muse_llvm_plus(ll, index, 1)), 1);
  LLVMValueRef n = load_int(ll, list, k.index);
  Indices i = indices_of(ll, t, tokens, n);
  muse_llvm_train_pad(ll, s, t->D, muse_llvm_slice(ll, grad, n, t->D), row);
  if (which)
    muse_llvm_train_right(ll, s, muse_llvm_slice(ll, core(ll, t, 0), i.i1, slice1), row, out, more);
  else
    muse_llvm_train_left(ll, s, muse_llvm_i64(ll, t->r), muse_llvm_slice(ll, core(ll, t, 1), i.i2, slice2), row,
                         scratch_at(ll, t->packed), out, more);
  muse_llvm_loop_end(ll, &k);
}

static LLVMValueRef d_core_place(MuseLlvm *ll, const MuseTrainKernel *t, int which) {
  const int64_t bytes = which ? t->d_core2 : t->d_core1;
  return bytes >= 0 ? workspace_at(ll, bytes) : muse_llvm_op_result(ll, t->op, which);
}

bool muse_emit_llvm_tt_gather_grad(MuseLlvm *ll, const MuseOp *kernel) {
  MuseTrainKernel t;
  muse_train_layout(kernel, &t);
  muse_llvm_stage_begin(ll, kernel, 0);
  MuseLlvmIf once; // one task
  muse_llvm_if_begin(ll, &once, LLVMBuildICmp(ll->b, LLVMIntSLT, ll->begin, ll->end, ""));
  sort_tokens(ll, &t, 0);
  sort_tokens(ll, &t, 1);
  muse_llvm_if_end(ll, &once);
  muse_llvm_stage_end(ll);

  muse_llvm_stage_begin(ll, kernel, 1);
  MuseLlvmLoop task;
  muse_llvm_loop_begin(ll, &task, ll->begin, muse_llvm_at_most(ll, ll->end, t.v1), 1);
  sum_tokens(ll, &t, 0, task.index, d_core_place(ll, &t, 0));
  muse_llvm_loop_end(ll, &task);
  muse_llvm_loop_begin(ll, &task, muse_llvm_max(ll, ll->begin, muse_llvm_i64(ll, t.v1), false), ll->end, 1);
  sum_tokens(ll, &t, 1, muse_llvm_plus(ll, task.index, -t.v1), d_core_place(ll, &t, 1));
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);

  muse_llvm_stage_begin(ll, kernel, 2);
  const MuseTrainFinish finish = {.shape = shape_of(&t),
                                  .v1 = t.v1,
                                  .v2 = t.v2,
                                  .used = t.v1,
                                  .core1 = core(ll, &t, 0),
                                  .cosphase = core(ll, &t, 2),
                                  .t = d_core_place(ll, &t, 0),
                                  .u = d_core_place(ll, &t, 1),
                                  .d_cosphase = muse_llvm_op_result(ll, t.op, 2)};
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  muse_llvm_train_finish(ll, &finish, task.index);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return true;
}

// ---- products with the table ----

// Tokens of the round: first and number.
static void tokens_of_round(MuseLlvm *ll, const MuseTrainKernel *t, LLVMValueRef *out_first, LLVMValueRef *out_count) {
  *out_first = t->rounds > 1 ? muse_llvm_times(ll, ll->iteration, t->chunk) : muse_llvm_i64(ll, 0);
  *out_count = muse_llvm_at_most(ll, LLVMBuildSub(ll->b, muse_llvm_i64(ll, t->tokens), *out_first, ""), t->chunk);
}

// One block of rows (n,i1) of Y times one panel of i2, and its way into the logits.
static void logits_block(MuseLlvm *ll, const MuseTrainKernel *t, LLVMValueRef row0, LLVMValueRef i2, int64_t width) {
  LLVMBuilderRef b = ll->b;
  const int64_t K = t->r * t->d2;
  const MusePanel panel = {
      .width = width, .a_row = K, .a_col = 1, .ldb = MUSE_PANEL_WIDTH, .ldc = MUSE_PANEL_WIDTH, .padded = true};
  LLVMValueRef first, count, zero = muse_llvm_i64(ll, 0), tile = scratch_at(ll, t->tile),
                             packed = scratch_at(ll, t->packed);
  tokens_of_round(ll, t, &first, &count);
  LLVMValueRef rows = LLVMBuildSub(b, muse_llvm_times(ll, count, t->used), row0, "");
  rows = muse_llvm_at_most(ll, rows, t->row_block);
  LLVMValueRef y = muse_llvm_slice(ll, workspace_at(ll, t->y), row0, K),
               core2 = muse_llvm_slice(ll, core(ll, t, 1), i2, K);
  MuseLlvmLoop k, row, column;
  muse_llvm_loop_begin(ll, &k, zero, muse_llvm_i64(ll, K), MUSE_PANEL_TERMS);
  LLVMValueRef terms = muse_llvm_at_most(ll, LLVMBuildSub(b, muse_llvm_i64(ll, K), k.index, ""), MUSE_PANEL_TERMS);
  muse_llvm_pack_transposed(ll, width, K, terms, muse_llvm_address(ll, MUSE_F32, core2, k.index), packed);
  muse_llvm_panel_product(ll, &panel, rows, terms, muse_llvm_address(ll, MUSE_F32, y, k.index), packed, tile,
                          LLVMBuildICmp(b, LLVMIntSGT, k.index, zero, ""));
  muse_llvm_loop_end(ll, &k);
  muse_llvm_loop_begin(ll, &row, zero, rows, 1);
  LLVMValueRef pair = LLVMBuildAdd(b, row0, row.index, ""), used = muse_llvm_i64(ll, t->used);
  LLVMValueRef n = LLVMBuildAdd(b, first, LLVMBuildSDiv(b, pair, used, ""), "");
  LLVMValueRef v = LLVMBuildAdd(b, muse_llvm_times(ll, LLVMBuildSRem(b, pair, used, ""), t->v2), i2, "");
  LLVMValueRef end = muse_llvm_at_most(ll, LLVMBuildSub(b, muse_llvm_i64(ll, t->V), v, ""), width);
  LLVMValueRef out = muse_llvm_slice(ll, muse_llvm_op_result(ll, t->op, 0), n, t->V);
  out = muse_llvm_address(ll, MUSE_F32, out, v);
  muse_llvm_loop_begin(ll, &column, zero, end, ll->lanes); // tiles have whole panels, so loads may pass the end
  LLVMValueRef value = muse_llvm_load(ll, MUSE_F32, muse_llvm_slice(ll, tile, row.index, MUSE_PANEL_WIDTH),
                                      column.index, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, out, column.index, value, ll->lanes, LLVMBuildSub(b, end, column.index, ""));
  muse_llvm_loop_end(ll, &column);
  muse_llvm_loop_end(ll, &row);
}

bool muse_emit_llvm_tt_matmul(MuseLlvm *ll, const MuseOp *kernel) {
  MuseTrainKernel t;
  muse_train_layout(kernel, &t);
  const MuseTrainShape s = shape_of(&t);
  LLVMValueRef first, count;
  MuseLlvmLoop task, n;
  muse_llvm_stage_begin(ll, kernel, 0); // Y of one i1, all tokens of the round
  tokens_of_round(ll, &t, &first, &count);
  LLVMValueRef scaled = scratch_at(ll, t.scaled), row = scratch_at(ll, t.row);
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  muse_llvm_train_scale(ll, s, muse_llvm_slice(ll, core(ll, &t, 0), task.index, t.r * t.d1), core(ll, &t, 2), scaled);
  muse_llvm_loop_begin(ll, &n, muse_llvm_i64(ll, 0), count, 1);
  LLVMValueRef x = muse_llvm_slice(ll, muse_llvm_op_operand(ll, t.op, 0), LLVMBuildAdd(ll->b, first, n.index, ""), t.D);
  muse_llvm_train_pad(ll, s, t.D, x, row);
  LLVMValueRef pair = LLVMBuildAdd(ll->b, muse_llvm_times(ll, n.index, t.used), task.index, "");
  muse_llvm_train_right(ll, s, scaled, row, muse_llvm_slice(ll, workspace_at(ll, t.y), pair, t.r * t.d2),
                        LLVMConstNull(ll->i1));
  muse_llvm_loop_end(ll, &n);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);

  muse_llvm_stage_begin(ll, kernel, 1);
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef panels = muse_llvm_i64(ll, t.n_panels), p = LLVMBuildSRem(ll->b, task.index, panels, "");
  LLVMValueRef row0 = muse_llvm_times(ll, LLVMBuildSDiv(ll->b, task.index, panels, ""), t.row_block);
  LLVMValueRef i2 = muse_llvm_times(ll, p, MUSE_PANEL_WIDTH);
  const int64_t whole = t.v2 / MUSE_PANEL_WIDTH;
  MuseLlvmIf full;
  muse_llvm_if_begin(ll, &full, LLVMBuildICmp(ll->b, LLVMIntSLT, p, muse_llvm_i64(ll, whole), ""));
  if (whole > 0) logits_block(ll, &t, row0, i2, MUSE_PANEL_WIDTH);
  muse_llvm_else(ll, &full);
  if (t.v2 % MUSE_PANEL_WIDTH) logits_block(ll, &t, row0, i2, t.v2 % MUSE_PANEL_WIDTH);
  muse_llvm_if_end(ll, &full);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return true;
}
