// Skeleton "transpose": rows are copied in vectors; tiles are read in rows, turned in registers by log2(n) rounds of
// interleaving, and written in rows. Tiles at the edge go element by element.

#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_builder.h"
#include "compiler/skel_transpose.h"

typedef struct Transposer {
  MuseLlvm *ll;
  MuseTransposePlan plan;
  MuseDtype dtype; // bool is moved as bytes
  LLVMValueRef in, out;
} Transposer;

static LLVMValueRef c64(Transposer *t, int64_t v) { return muse_llvm_i64(t->ll, v); }
static LLVMValueRef plus(Transposer *t, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildAdd(t->ll->b, a, b, ""); }
static LLVMValueRef times(Transposer *t, LLVMValueRef a, int64_t b) { return LLVMBuildMul(t->ll->b, a, c64(t, b), ""); }

// Splits `index` over the result dimensions but those two (or one) that are walked; sums up both element offsets.
static void outer_offsets(Transposer *t, LLVMValueRef index, int skip, LLVMValueRef *out_in, LLVMValueRef *out_out) {
  const MuseTransposePlan *p = &t->plan;
  int64_t out_stride = p->out_dim[p->rank - 1];
  *out_in = *out_out = c64(t, 0);
  for (int i = p->rank - 2; i >= 0; i--) {
    if (i != skip) {
      LLVMValueRef coordinate = LLVMBuildURem(t->ll->b, index, c64(t, p->out_dim[i]), "");
      index = LLVMBuildUDiv(t->ll->b, index, c64(t, p->out_dim[i]), "");
      *out_in = plus(t, *out_in, times(t, coordinate, p->in_stride[i]));
      *out_out = plus(t, *out_out, times(t, coordinate, out_stride));
    }
    out_stride *= p->out_dim[i];
  }
}

static void emit_copy(Transposer *t, LLVMValueRef unit) {
  MuseLlvm *ll = t->ll;
  int64_t n = t->plan.out_dim[t->plan.rank - 1];
  int lanes = ll->lanes * 4 / (int)muse_dtype_bytes(t->dtype);
  if (lanes < 1) lanes = 1;
  LLVMValueRef from, to;
  outer_offsets(t, unit, -1, &from, &to);
  int64_t whole = n / lanes * lanes;
  if (whole > 0) {
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, c64(t, 0), c64(t, whole), lanes);
    LLVMValueRef v = muse_llvm_load(ll, t->dtype, t->in, plus(t, from, loop.index), lanes, NULL);
    muse_llvm_store(ll, t->dtype, t->out, plus(t, to, loop.index), v, lanes, NULL);
    muse_llvm_loop_end(ll, &loop);
  }
  if (whole < n) {
    LLVMValueRef active = c64(t, n - whole);
    LLVMValueRef v = muse_llvm_load(ll, t->dtype, t->in, plus(t, from, c64(t, whole)), lanes, active);
    muse_llvm_store(ll, t->dtype, t->out, plus(t, to, c64(t, whole)), v, lanes, active);
  }
}

// n x n elements at the offsets; rows of the operand are `in_step` apart, rows of the result `out_step`.
static void emit_square(Transposer *t, LLVMValueRef from, LLVMValueRef to, int n, int64_t in_step, int64_t out_step) {
  MuseLlvm *ll = t->ll;
  LLVMValueRef row[16], next[16];
  for (int i = 0; i < n; i++) row[i] = muse_llvm_load(ll, t->dtype, t->in, plus(t, from, c64(t, i * in_step)), n, NULL);
  // Round k interleaves row i with row i + n/2; after log2(n) rounds row j holds column j.
  for (int round = n; round > 1; round /= 2) {
    int low[16], high[16];
    for (int i = 0; i < n; i++) {
      low[i] = i / 2 + (i % 2) * n;
      high[i] = n / 2 + i / 2 + (i % 2) * n;
    }
    for (int i = 0; i < n / 2; i++) {
      next[2 * i] = muse_llvm_shuffle(ll, row[i], row[i + n / 2], low, n);
      next[2 * i + 1] = muse_llvm_shuffle(ll, row[i], row[i + n / 2], high, n);
    }
    for (int i = 0; i < n; i++) row[i] = next[i];
  }
  for (int i = 0; i < n; i++) muse_llvm_store(ll, t->dtype, t->out, plus(t, to, c64(t, i * out_step)), row[i], n, NULL);
}

// One row of tiles: MUSE_TRANSPOSE_TILE indices of read_dim, all columns of the result.
static void emit_tiles(Transposer *t, LLVMValueRef unit) {
  MuseLlvm *ll = t->ll;
  const MuseTransposePlan *p = &t->plan;
  int last = p->rank - 1, n = ll->lanes < 4 ? 4 : ll->lanes;
  if (muse_dtype_bytes(t->dtype) == 8 && n > 8) n = 8;
  int64_t rows = p->out_dim[p->read_dim], columns = p->out_dim[last], in_step = p->in_stride[last], out_step = columns;
  for (int i = last - 1; i > p->read_dim; i--) out_step *= p->out_dim[i];
  LLVMValueRef from, to, outer = LLVMBuildUDiv(ll->b, unit, c64(t, p->row_tiles), "");
  outer_offsets(t, outer, p->read_dim, &from, &to);
  LLVMValueRef row = times(t, LLVMBuildURem(ll->b, unit, c64(t, p->row_tiles), ""), MUSE_TRANSPOSE_TILE);
  LLVMValueRef row_end = muse_llvm_min(ll, plus(t, row, c64(t, MUSE_TRANSPOSE_TILE)), c64(t, rows), false);
  MuseLlvmLoop tiles;
  muse_llvm_loop_begin(ll, &tiles, c64(t, 0), c64(t, columns), MUSE_TRANSPOSE_TILE);
  LLVMValueRef column = tiles.index;
  LLVMValueRef column_end = muse_llvm_min(ll, plus(t, column, c64(t, MUSE_TRANSPOSE_TILE)), c64(t, columns), false);
  MuseLlvmIf whole;
  LLVMValueRef full_rows = LLVMBuildICmp(ll->b, LLVMIntEQ, plus(t, row, c64(t, MUSE_TRANSPOSE_TILE)), row_end, "");
  LLVMValueRef full_columns = LLVMBuildICmp(ll->b, LLVMIntEQ, plus(t, column, c64(t, MUSE_TRANSPOSE_TILE)), column_end,
                                            "");
  muse_llvm_if_begin(ll, &whole, LLVMBuildAnd(ll->b, full_rows, full_columns, ""));
  LLVMValueRef in_base = plus(t, plus(t, from, row), times(t, column, in_step));
  LLVMValueRef out_base = plus(t, plus(t, to, times(t, row, out_step)), column);
  for (int r = 0; r < MUSE_TRANSPOSE_TILE; r += n)
    for (int c = 0; c < MUSE_TRANSPOSE_TILE; c += n)
      emit_square(t, plus(t, in_base, c64(t, r + c * in_step)), plus(t, out_base, c64(t, r * out_step + c)), n, in_step,
                  out_step);
  muse_llvm_else(ll, &whole);
  MuseLlvmLoop r, c;
  muse_llvm_loop_begin(ll, &r, row, row_end, 1);
  muse_llvm_loop_begin(ll, &c, column, column_end, 1);
  LLVMValueRef v = muse_llvm_load(ll, t->dtype, t->in, plus(t, plus(t, from, r.index), times(t, c.index, in_step)), 1,
                                  NULL);
  muse_llvm_store(ll, t->dtype, t->out, plus(t, plus(t, to, times(t, r.index, out_step)), c.index), v, 1, NULL);
  muse_llvm_loop_end(ll, &c);
  muse_llvm_loop_end(ll, &r);
  muse_llvm_if_end(ll, &whole);
  muse_llvm_loop_end(ll, &tiles);
}

bool muse_emit_llvm_transpose(MuseLlvm *ll, const MuseOp *kernel) {
  Transposer transposer = {.ll = ll, .dtype = kernel->results[0]->type.dtype}, *t = &transposer;
  if (t->dtype == MUSE_BOOL) t->dtype = MUSE_U8;
  muse_transpose_plan(kernel, &t->plan);
  muse_llvm_stage_begin(ll, kernel, 0);
  t->in = muse_llvm_operand(ll, 0);
  t->out = muse_llvm_result(ll, 0);
  MuseLlvmLoop units;
  LLVMValueRef first = times(t, ll->begin, t->plan.units_per_task);
  LLVMValueRef end = muse_llvm_min(ll, times(t, ll->end, t->plan.units_per_task), c64(t, t->plan.units), false);
  muse_llvm_loop_begin(ll, &units, first, end, 1);
  if (t->plan.copies_rows)
    emit_copy(t, units.index);
  else
    emit_tiles(t, units.index);
  muse_llvm_loop_end(ll, &units);
  muse_llvm_stage_end(ll);
  return ll->status == MUSE_OK;
}
