// The head over a dense table: logits, log-sum-exp, loss, and both gradients, a chunk of tokens at a time.

#include "compiler/emit_llvm_embed.h"
#include "compiler/emit_llvm_head.h"
#include "compiler/emit_llvm_math.h"
#include "compiler/emit_llvm_panel.h"

#include <math.h>

LLVMValueRef muse_llvm_head_workspace(MuseLlvm *ll, int64_t bytes) {
  return muse_llvm_byte_offset(ll, ll->workspace, bytes);
}

static LLVMValueRef at2(MuseLlvm *ll, LLVMValueRef base, LLVMValueRef row, int64_t stride, LLVMValueRef column) {
  LLVMValueRef index = muse_llvm_times(ll, row, stride);
  return muse_llvm_address(ll, MUSE_F32, base, column ? LLVMBuildNSWAdd(ll->b, index, column, "") : index);
}

static LLVMValueRef compare(MuseLlvm *ll, LLVMIntPredicate predicate, LLVMValueRef a, int64_t b) {
  return LLVMBuildICmp(ll->b, predicate, a, muse_llvm_i64(ll, b), "");
}

static MuseHeadStage begin_stage(MuseLlvm *ll, const MuseOp *kernel, const MuseHead *h, int stage) {
  muse_llvm_stage_begin(ll, kernel, stage);
  MuseHeadStage s = {
      .h = h, .x = muse_llvm_op_operand(ll, h->op, 0), .targets = muse_llvm_op_operand(ll, h->op, h->targets)};
  LLVMValueRef zero = muse_llvm_i64(ll, 0), round = h->rounds * h->sweeps > 1 ? ll->iteration : zero;
  if (h->sweeps > 1) {
    s.measuring = compare(ll, LLVMIntSLT, round, h->rounds);
    round = LLVMBuildSRem(ll->b, round, muse_llvm_i64(ll, h->rounds), "");
  }
  s.first_round = compare(ll, LLVMIntEQ, round, 0);
  s.first = s.vocab = zero;
  s.count = muse_llvm_i64(ll, h->N);
  s.valid = muse_llvm_i64(ll, h->V);
  if (h->train) {
    s.table = muse_llvm_head_workspace(ll, h->table);
    s.vocab = muse_llvm_times(ll, round, h->rows);
    s.valid = muse_llvm_at_most(ll, LLVMBuildSub(ll->b, s.valid, s.vocab, ""), h->rows);
  } else {
    s.table = muse_llvm_op_operand(ll, h->op, 1);
    s.first = muse_llvm_times(ll, round, h->chunk);
    s.count = muse_llvm_at_most(ll, LLVMBuildSub(ll->b, s.count, s.first, ""), h->chunk);
  }
  return s;
}

// ---- logits ----

// One panel of columns of a tile: table rows v.. (of the table at hand), block by block of D.
static void logits_panel(MuseLlvm *ll, const MuseHeadStage *s, int64_t width, LLVMValueRef v, LLVMValueRef m,
                         LLVMValueRef x, LLVMValueRef out) {
  const MuseHead *h = s->h;
  const MusePanel panel = {
      .width = width, .a_row = h->D, .a_col = 1, .ldb = MUSE_PANEL_WIDTH, .ldc = h->ld, .padded = true};
  MuseLlvmLoop k;
  muse_llvm_loop_begin(ll, &k, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, h->D), MUSE_PANEL_TERMS);
  LLVMValueRef terms =
      muse_llvm_at_most(ll, LLVMBuildSub(ll->b, muse_llvm_i64(ll, h->D), k.index, ""), MUSE_PANEL_TERMS);
  muse_llvm_pack_transposed(ll, width, h->ldt, terms, at2(ll, s->table, v, h->ldt, k.index), ll->scratch);
  muse_llvm_panel_product(ll, &panel, m, terms, muse_llvm_address(ll, MUSE_F32, x, k.index), ll->scratch, out,
                          compare(ll, LLVMIntSGT, k.index, 0));
  muse_llvm_loop_end(ll, &k);
}

// The columns [begin, end) of a row of logits; columns from `valid` on count as -inf when masked.
typedef struct Columns {
  LLVMValueRef row, begin, end, valid;
  bool masked;
} Columns;

static LLVMValueRef logits_at(MuseLlvm *ll, const Columns *c, LLVMValueRef column) {
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef value = muse_llvm_load(ll, MUSE_F32, c->row, column, ll->lanes, NULL);
  if (!c->masked) return value;
  LLVMValueRef left = LLVMBuildTrunc(ll->b, LLVMBuildSub(ll->b, c->valid, column, ""), ll->i32, "");
  LLVMValueRef inside = LLVMBuildICmp(ll->b, LLVMIntSLT, muse_llvm_iota(ll, ll->i32, ll->lanes),
                                      muse_llvm_splat(ll, left, ll->lanes), "");
  return muse_llvm_select(ll, inside, value, muse_llvm_const(type, -INFINITY));
}

static LLVMValueRef max_of(MuseLlvm *ll, const Columns *c, LLVMValueRef max) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, c->begin, c->end, ll->lanes);
  LLVMValueRef so_far = muse_llvm_loop_carry(ll, &loop, max);
  muse_llvm_loop_next(&loop, 0, muse_llvm_max(ll, so_far, logits_at(ll, c, loop.index), false));
  muse_llvm_loop_end(ll, &loop);
  return loop.result[0];
}

// Sum of exp(logit - max), added to sum; with `store` the exponentials replace the logits.
static LLVMValueRef exponentials_of(MuseLlvm *ll, const Columns *c, LLVMValueRef max, LLVMValueRef sum, bool store) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, c->begin, c->end, ll->lanes);
  LLVMValueRef so_far = muse_llvm_loop_carry(ll, &loop, sum);
  LLVMValueRef e = muse_llvm_exp(ll, LLVMBuildFSub(ll->b, logits_at(ll, c, loop.index), max, ""));
  if (store) muse_llvm_store(ll, MUSE_F32, c->row, loop.index, e, ll->lanes, NULL);
  muse_llvm_loop_next(&loop, 0, LLVMBuildFAdd(ll->b, so_far, e, ""));
  muse_llvm_loop_end(ll, &loop);
  return loop.result[0];
}

// Token i of the round against the tile that begins at row v of the table at hand; `row`: its logits.
static void measure_row(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef tile, LLVMValueRef v, LLVMValueRef i,
                        LLVMValueRef row) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  const bool masked = h->train || h->V % ll->lanes != 0;
  LLVMValueRef zero = muse_llvm_i64(ll, 0);
  LLVMValueRef end = muse_llvm_at_most(ll, LLVMBuildSub(b, muse_llvm_i64(ll, h->rows), v, ""), h->tile);
  LLVMValueRef valid = muse_llvm_at_most(ll, LLVMBuildSub(b, s->valid, v, ""), h->tile);
  valid = muse_llvm_max(ll, valid, zero, false);
  LLVMValueRef whole = LLVMBuildSub(b, valid, LLVMBuildSRem(b, valid, muse_llvm_i64(ll, ll->lanes), ""), "");
  const Columns inside = {row, zero, whole, valid, false}, rest = {row, whole, end, valid, true};

  LLVMValueRef target = muse_llvm_token(ll, s->targets, LLVMBuildAdd(b, s->first, i, ""), h->V);
  target = LLVMBuildSub(b, LLVMBuildSub(b, target, s->vocab, ""), v, "");
  MuseLlvmIf here;
  muse_llvm_if_begin(ll, &here, LLVMBuildICmp(b, LLVMIntULT, target, valid, ""));
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->picked), i,
                  muse_llvm_load(ll, MUSE_F32, row, target, 1, NULL), 1, NULL);
  muse_llvm_if_end(ll, &here);

  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  LLVMValueRef max = max_of(ll, &inside, muse_llvm_const(type, -INFINITY));
  if (masked) max = max_of(ll, &rest, max);
  max = muse_llvm_max_lanes(ll, max, false);
  LLVMValueRef none = LLVMBuildFCmp(b, LLVMRealOEQ, max, muse_llvm_f32(ll, -INFINITY), "");
  LLVMValueRef shift = muse_llvm_splat(ll, muse_llvm_select(ll, none, muse_llvm_f32(ll, 0), max), ll->lanes);
  LLVMValueRef sum = exponentials_of(ll, &inside, shift, LLVMConstNull(type), h->grad);
  if (masked) sum = exponentials_of(ll, &rest, shift, sum, h->grad);
  LLVMValueRef place = LLVMBuildAdd(b, muse_llvm_times(ll, tile, h->chunk), i, "");
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->maxima), place, max, 1, NULL);
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->sums), place, muse_llvm_sum_lanes(ll, sum), 1, NULL);
}

void muse_llvm_head_logits(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  MuseLlvmLoop task, v, row;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef blocks = muse_llvm_i64(ll, h->n_row_blocks);
  LLVMValueRef tile = LLVMBuildSDiv(b, task.index, blocks, ""),
               row0 = muse_llvm_times(ll, LLVMBuildSRem(b, task.index, blocks, ""), h->row_block);
  LLVMValueRef m = muse_llvm_at_most(ll, LLVMBuildSub(b, s->count, row0, ""), h->row_block);
  LLVMValueRef x = at2(ll, s->x, LLVMBuildAdd(b, s->first, row0, ""), h->D, NULL), out;
  if (h->grad) {
    LLVMValueRef index = LLVMBuildAdd(b, muse_llvm_times(ll, tile, h->chunk), row0, "");
    out = at2(ll, muse_llvm_head_workspace(ll, h->logits), index, h->ld, NULL);
  } else {
    out = muse_llvm_byte_offset(ll, ll->scratch, MUSE_PANEL_BYTES);
  }
  const int64_t whole = h->rows / MUSE_PANEL_WIDTH * MUSE_PANEL_WIDTH, tail = h->rows - whole;
  LLVMValueRef v0 = muse_llvm_times(ll, tile, h->tile),
               end = muse_llvm_at_most(ll, muse_llvm_plus(ll, v0, h->tile), whole);
  if (whole > 0) {
    muse_llvm_loop_begin(ll, &v, v0, end, MUSE_PANEL_WIDTH);
    logits_panel(ll, s, MUSE_PANEL_WIDTH, v.index, m, x,
                 muse_llvm_address(ll, MUSE_F32, out, LLVMBuildSub(b, v.index, v0, "")));
    muse_llvm_loop_end(ll, &v);
  }
  if (tail > 0) {
    MuseLlvmIf last;
    muse_llvm_if_begin(ll, &last, compare(ll, LLVMIntEQ, tile, h->n_tiles - 1));
    LLVMValueRef at = muse_llvm_i64(ll, whole);
    logits_panel(ll, s, tail, at, m, x, muse_llvm_address(ll, MUSE_F32, out, LLVMBuildSub(b, at, v0, "")));
    muse_llvm_if_end(ll, &last);
  }
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), m, 1);
  measure_row(ll, s, tile, v0, LLVMBuildAdd(b, row0, row.index, ""), at2(ll, out, row.index, h->ld, NULL));
  muse_llvm_loop_end(ll, &row);
  muse_llvm_loop_end(ll, &task);
}

// ---- log-sum-exp ----

static LLVMValueRef load_stat(MuseLlvm *ll, const MuseHead *h, int64_t what, LLVMValueRef tile, LLVMValueRef i) {
  LLVMValueRef place = LLVMBuildAdd(ll->b, muse_llvm_times(ll, tile, h->chunk), i, "");
  return muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, what), place, ll->lanes, NULL);
}

typedef struct Softmax {
  LLVMValueRef max, sum;
} Softmax;

// Adds the tiles of the round to a softmax, for the tokens i, i+1, ... of the lanes.
static Softmax add_tiles(MuseLlvm *ll, const MuseHead *h, LLVMValueRef i, Softmax before) {
  LLVMBuilderRef b = ll->b;
  MuseLlvmLoop tile;
  LLVMValueRef zero = muse_llvm_i64(ll, 0), tiles = muse_llvm_i64(ll, h->n_tiles);
  muse_llvm_loop_begin(ll, &tile, zero, tiles, 1);
  LLVMValueRef so_far = muse_llvm_loop_carry(ll, &tile, before.max);
  muse_llvm_loop_next(&tile, 0, muse_llvm_max(ll, so_far, load_stat(ll, h, h->maxima, tile.index, i), false));
  muse_llvm_loop_end(ll, &tile);
  LLVMValueRef max = tile.result[0];
  LLVMValueRef sum = LLVMBuildFMul(b, before.sum, muse_llvm_exp(ll, LLVMBuildFSub(b, before.max, max, "")), "");
  muse_llvm_loop_begin(ll, &tile, zero, tiles, 1);
  so_far = muse_llvm_loop_carry(ll, &tile, sum);
  LLVMValueRef scale = muse_llvm_exp(ll, LLVMBuildFSub(b, load_stat(ll, h, h->maxima, tile.index, i), max, ""));
  muse_llvm_loop_next(&tile, 0, muse_llvm_fma(ll, load_stat(ll, h, h->sums, tile.index, i), scale, so_far));
  muse_llvm_loop_end(ll, &tile);
  return (Softmax){max, tile.result[0]};
}

static Softmax load_softmax(MuseLlvm *ll, const MuseHead *h, LLVMValueRef i) {
  return (Softmax){muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->run_max), i, ll->lanes, NULL),
                   muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->run_sum), i, ll->lanes, NULL)};
}

// The softmax over all that is known in this round; over several rounds of a sweep it is kept in the workspace.
static Softmax softmax_of(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef i) {
  const MuseHead *h = s->h;
  LLVMTypeRef type = muse_llvm_vector(ll->f32, ll->lanes);
  const Softmax empty = {muse_llvm_const(type, -INFINITY), LLVMConstNull(type)};
  if (!h->train || h->rounds == 1) return add_tiles(ll, h, i, empty);
  MuseLlvmIf measuring;
  if (s->measuring) muse_llvm_if_begin(ll, &measuring, s->measuring);
  Softmax known = load_softmax(ll, h, i);
  known.max = muse_llvm_select(ll, s->first_round, empty.max, known.max);
  known.sum = muse_llvm_select(ll, s->first_round, empty.sum, known.sum);
  known = add_tiles(ll, h, i, known);
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->run_max), i, known.max, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->run_sum), i, known.sum, ll->lanes, NULL);
  if (s->measuring) muse_llvm_if_end(ll, &measuring);
  return load_softmax(ll, h, i);
}

// dloss / N as a scalar.
static LLVMValueRef loss_scale(MuseLlvm *ll, const MuseHead *h) {
  LLVMValueRef dloss =
      muse_llvm_load(ll, MUSE_F32, muse_llvm_op_operand(ll, h->op, h->dloss), muse_llvm_i64(ll, 0), 1, NULL);
  return LLVMBuildFDiv(ll->b, dloss, muse_llvm_f32(ll, (double)h->N), "");
}

// The maxima of the tiles become the factors that turn exponentials into softmax times dloss/N.
static void make_factors(MuseLlvm *ll, const MuseHead *h, LLVMValueRef i, Softmax softmax, LLVMValueRef scale) {
  LLVMBuilderRef b = ll->b;
  LLVMValueRef over = LLVMBuildFDiv(b, muse_llvm_splat(ll, scale, ll->lanes), softmax.sum, "");
  MuseLlvmLoop tile;
  muse_llvm_loop_begin(ll, &tile, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, h->n_tiles), 1);
  LLVMValueRef place = LLVMBuildAdd(b, muse_llvm_times(ll, tile.index, h->chunk), i, "");
  LLVMValueRef maxima = muse_llvm_head_workspace(ll, h->maxima),
               max = muse_llvm_load(ll, MUSE_F32, maxima, place, ll->lanes, NULL);
  LLVMValueRef factor = LLVMBuildFMul(b, muse_llvm_exp(ll, LLVMBuildFSub(b, max, softmax.max, "")), over, "");
  muse_llvm_store(ll, MUSE_F32, maxima, place, factor, ll->lanes, NULL);
  muse_llvm_loop_end(ll, &tile);
}

// Token i: its exponentials become (softmax - onehot) * dloss/N.
static void scale_row(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef i, LLVMValueRef scale) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  LLVMValueRef logits = muse_llvm_head_workspace(ll, h->logits), zero = muse_llvm_i64(ll, 0);
  MuseLlvmLoop tile, column;
  muse_llvm_loop_begin(ll, &tile, zero, muse_llvm_i64(ll, h->n_tiles), 1);
  LLVMValueRef place = LLVMBuildAdd(b, muse_llvm_times(ll, tile.index, h->chunk), i, "");
  LLVMValueRef factor = muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->maxima), place, 1, NULL);
  factor = muse_llvm_splat(ll, factor, ll->lanes);
  LLVMValueRef row = at2(ll, logits, place, h->ld, NULL);
  LLVMValueRef left = LLVMBuildSub(b, muse_llvm_i64(ll, h->rows), muse_llvm_times(ll, tile.index, h->tile), "");
  muse_llvm_loop_begin(ll, &column, zero, muse_llvm_at_most(ll, left, h->tile), ll->lanes);
  LLVMValueRef e = muse_llvm_load(ll, MUSE_F32, row, column.index, ll->lanes, NULL);
  muse_llvm_store(ll, MUSE_F32, row, column.index, LLVMBuildFMul(b, e, factor, ""), ll->lanes, NULL);
  muse_llvm_loop_end(ll, &column);
  muse_llvm_loop_end(ll, &tile);
  LLVMValueRef target = muse_llvm_token(ll, s->targets, LLVMBuildAdd(b, s->first, i, ""), h->V);
  target = LLVMBuildSub(b, target, s->vocab, "");
  MuseLlvmIf here;
  muse_llvm_if_begin(ll, &here, LLVMBuildICmp(b, LLVMIntULT, target, muse_llvm_i64(ll, h->rows), ""));
  LLVMValueRef width = muse_llvm_i64(ll, h->tile), its_tile = LLVMBuildUDiv(b, target, width, "");
  place = LLVMBuildAdd(b, muse_llvm_times(ll, its_tile, h->chunk), i, "");
  row = at2(ll, logits, place, h->ld, LLVMBuildURem(b, target, width, ""));
  LLVMValueRef p = LLVMBuildFSub(b, muse_llvm_load(ll, MUSE_F32, row, zero, 1, NULL), scale, "");
  muse_llvm_store(ll, MUSE_F32, row, zero, p, 1, NULL);
  muse_llvm_if_end(ll, &here);
}

// Rows [begin, begin+count) of x, panel by panel.
static void pack_x(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef begin, LLVMValueRef count) {
  const MuseHead *h = s->h;
  LLVMValueRef from = at2(ll, s->x, LLVMBuildAdd(ll->b, s->first, begin, ""), h->D, NULL);
  LLVMValueRef to = at2(ll, muse_llvm_head_workspace(ll, h->panels), begin, MUSE_PANEL_WIDTH, NULL);
  const int64_t whole = h->D / MUSE_PANEL_WIDTH, tail = h->D % MUSE_PANEL_WIDTH;
  if (whole > 0) {
    MuseLlvmLoop p;
    muse_llvm_loop_begin(ll, &p, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, whole), 1);
    muse_llvm_copy_rows(ll, MUSE_PANEL_WIDTH, h->D, MUSE_PANEL_WIDTH, count,
                        at2(ll, from, p.index, MUSE_PANEL_WIDTH, NULL),
                        at2(ll, to, p.index, h->chunk * MUSE_PANEL_WIDTH, NULL));
    muse_llvm_loop_end(ll, &p);
  }
  if (tail > 0) {
    LLVMValueRef p = muse_llvm_i64(ll, whole);
    muse_llvm_copy_rows(ll, tail, h->D, MUSE_PANEL_WIDTH, count, at2(ll, from, p, MUSE_PANEL_WIDTH, NULL),
                        at2(ll, to, p, h->chunk * MUSE_PANEL_WIDTH, NULL));
  }
}

void muse_llvm_head_normalise(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  LLVMValueRef scale = h->grad ? loss_scale(ll, h) : NULL;
  MuseLlvmLoop task, i;
  muse_llvm_loop_begin(ll, &task, ll->begin, ll->end, 1);
  LLVMValueRef begin = muse_llvm_times(ll, task.index, h->norm_rows), end = muse_llvm_plus(ll, begin, h->norm_rows);
  end = muse_llvm_min(ll, end, s->count, false);
  muse_llvm_loop_begin(ll, &i, begin, end, ll->lanes); // arrays are multiples of 16 tokens
  Softmax softmax = softmax_of(ll, s, i.index);
  LLVMValueRef picked = muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->picked), i.index, ll->lanes, NULL);
  // The difference first: it is exact where both are large.
  LLVMValueRef loss = LLVMBuildFAdd(b, LLVMBuildFSub(b, softmax.max, picked, ""), muse_llvm_log(ll, softmax.sum), "");
  muse_llvm_store(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->losses), LLVMBuildAdd(b, s->first, i.index, ""), loss,
                  ll->lanes, NULL);
  if (h->grad) make_factors(ll, h, i.index, softmax, scale);
  muse_llvm_loop_end(ll, &i);
  if (h->grad) {
    MuseLlvmIf use;
    if (s->measuring) muse_llvm_if_begin(ll, &use, LLVMBuildNot(b, s->measuring, ""));
    muse_llvm_loop_begin(ll, &i, begin, end, 1);
    scale_row(ll, s, i.index, scale);
    muse_llvm_loop_end(ll, &i);
    if (h->packed_x) pack_x(ll, s, begin, LLVMBuildSub(b, end, begin, ""));
    if (s->measuring) muse_llvm_if_end(ll, &use);
  }
  muse_llvm_loop_end(ll, &task);
}

// ---- gradients ----

// A task of the products: `block` rows of its result from row `row0`, in tile `tile` of the table (d_table only).
typedef struct Product {
  const MuseHeadStage *s;
  LLVMValueRef tile, row0, rows;
} Product;

// Columns of panel p (`width` of them) of d_table: sums over the tokens.
static void d_table_panel(MuseLlvm *ll, const Product *t, LLVMValueRef p, int64_t width) {
  const MuseHead *h = t->s->h;
  LLVMBuilderRef b = ll->b;
  const MusePanel panel = {
      .width = width, .a_row = 1, .a_col = h->ld, .ldb = MUSE_PANEL_WIDTH, .ldc = h->ldt, .padded = true};
  LLVMValueRef logits = muse_llvm_head_workspace(ll, h->logits), column = muse_llvm_times(ll, p, MUSE_PANEL_WIDTH);
  LLVMValueRef table_row = LLVMBuildAdd(b, muse_llvm_times(ll, t->tile, h->tile), t->row0, "");
  LLVMValueRef out = h->train ? muse_llvm_head_workspace(ll, h->d_table) : muse_llvm_op_result(ll, h->op, 2);
  out = at2(ll, out, table_row, h->ldt, column);
  MuseLlvmLoop k;
  muse_llvm_loop_begin(ll, &k, muse_llvm_i64(ll, 0), t->s->count, MUSE_PANEL_TERMS);
  LLVMValueRef terms = muse_llvm_at_most(ll, LLVMBuildSub(b, t->s->count, k.index, ""), MUSE_PANEL_TERMS),
               from = ll->scratch;
  if (h->packed_x) {
    LLVMValueRef index = LLVMBuildAdd(b, muse_llvm_times(ll, p, h->chunk), k.index, "");
    from = at2(ll, muse_llvm_head_workspace(ll, h->panels), index, MUSE_PANEL_WIDTH, NULL);
  } else {
    LLVMValueRef x = at2(ll, t->s->x, LLVMBuildAdd(b, t->s->first, k.index, ""), h->D, column);
    muse_llvm_copy_rows(ll, width, h->D, MUSE_PANEL_WIDTH, terms, x, from);
  }
  LLVMValueRef index = LLVMBuildAdd(b, muse_llvm_times(ll, t->tile, h->chunk), k.index, "");
  LLVMValueRef more = compare(ll, LLVMIntSGT, k.index, 0);
  if (!h->train) more = LLVMBuildOr(b, more, LLVMBuildNot(b, t->s->first_round, ""), "");
  muse_llvm_panel_product(ll, &panel, t->rows, terms, at2(ll, logits, index, h->ld, t->row0), from, out, more);
  muse_llvm_loop_end(ll, &k);
}

// Columns of panel p of dx: sums over the rows of the table at hand.
static void dx_panel(MuseLlvm *ll, const Product *t, LLVMValueRef p, int64_t width) {
  const MuseHead *h = t->s->h;
  LLVMBuilderRef b = ll->b;
  const MusePanel panel = {
      .width = width, .a_row = h->ld, .a_col = 1, .ldb = MUSE_PANEL_WIDTH, .ldc = h->D, .padded = true};
  LLVMValueRef logits = muse_llvm_head_workspace(ll, h->logits), column = muse_llvm_times(ll, p, MUSE_PANEL_WIDTH);
  LLVMValueRef out =
      at2(ll, muse_llvm_op_result(ll, h->op, 1), LLVMBuildAdd(b, t->s->first, t->row0, ""), h->D, column);
  MuseLlvmLoop tile, k;
  muse_llvm_loop_begin(ll, &tile, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, h->n_tiles), 1);
  LLVMValueRef v0 = muse_llvm_times(ll, tile.index, h->tile);
  LLVMValueRef end = muse_llvm_at_most(ll, LLVMBuildSub(b, muse_llvm_i64(ll, h->rows), v0, ""), h->tile);
  muse_llvm_loop_begin(ll, &k, muse_llvm_i64(ll, 0), end, MUSE_PANEL_TERMS);
  LLVMValueRef terms = muse_llvm_at_most(ll, LLVMBuildSub(b, end, k.index, ""), MUSE_PANEL_TERMS);
  LLVMValueRef v = LLVMBuildAdd(b, v0, k.index, "");
  muse_llvm_copy_rows(ll, width, h->ldt, MUSE_PANEL_WIDTH, terms, at2(ll, t->s->table, v, h->ldt, column), ll->scratch);
  LLVMValueRef index = LLVMBuildAdd(b, muse_llvm_times(ll, tile.index, h->chunk), t->row0, "");
  LLVMValueRef more = compare(ll, LLVMIntSGT, v, 0);
  if (h->train) more = LLVMBuildOr(b, more, LLVMBuildNot(b, t->s->first_round, ""), "");
  muse_llvm_panel_product(ll, &panel, t->rows, terms, at2(ll, logits, index, h->ld, k.index), ll->scratch, out, more);
  muse_llvm_loop_end(ll, &k);
  muse_llvm_loop_end(ll, &tile);
}

// Block `block` of `panels` panels of the columns of D.
static void for_panels(MuseLlvm *ll, const Product *t, LLVMValueRef block, int64_t panels,
                       void (*emit)(MuseLlvm *, const Product *, LLVMValueRef, int64_t)) {
  const int64_t D = t->s->h->D, whole = D / MUSE_PANEL_WIDTH, tail = D % MUSE_PANEL_WIDTH;
  LLVMValueRef begin = muse_llvm_times(ll, block, panels), end = muse_llvm_plus(ll, begin, panels);
  if (whole > 0) {
    MuseLlvmLoop p;
    muse_llvm_loop_begin(ll, &p, begin, muse_llvm_at_most(ll, end, whole), 1);
    emit(ll, t, p.index, MUSE_PANEL_WIDTH);
    muse_llvm_loop_end(ll, &p);
  }
  if (tail > 0) {
    MuseLlvmIf last;
    muse_llvm_if_begin(ll, &last, compare(ll, LLVMIntSGT, end, whole));
    emit(ll, t, muse_llvm_i64(ll, whole), tail);
    muse_llvm_if_end(ll, &last);
  }
}

static void d_table_task(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef task) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  LLVMValueRef columns = muse_llvm_i64(ll, h->n_de_columns), blocks = muse_llvm_i64(ll, h->n_de_rows);
  LLVMValueRef rest = LLVMBuildSDiv(b, task, columns, "");
  Product t = {.s = s, .tile = LLVMBuildSDiv(b, rest, blocks, "")};
  t.row0 = muse_llvm_times(ll, LLVMBuildSRem(b, rest, blocks, ""), h->de_rows);
  LLVMValueRef left = LLVMBuildSub(b, muse_llvm_i64(ll, h->rows), muse_llvm_times(ll, t.tile, h->tile), "");
  left = LLVMBuildSub(b, muse_llvm_at_most(ll, left, h->tile), t.row0, "");
  t.rows = muse_llvm_at_most(ll, left, h->de_rows);
  for_panels(ll, &t, LLVMBuildSRem(b, task, columns, ""), h->de_panels, d_table_panel);
}

static void dx_task(MuseLlvm *ll, const MuseHeadStage *s, LLVMValueRef task) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  LLVMValueRef columns = muse_llvm_i64(ll, h->n_dx_columns);
  Product t = {.s = s, .row0 = muse_llvm_times(ll, LLVMBuildSDiv(b, task, columns, ""), h->dx_rows)};
  t.rows = muse_llvm_at_most(ll, LLVMBuildSub(b, s->count, t.row0, ""), h->dx_rows);
  for_panels(ll, &t, LLVMBuildSRem(b, task, columns, ""), h->dx_panels, dx_panel);
}

void muse_llvm_head_products(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMBuilderRef b = ll->b;
  MuseLlvmIf use;
  if (s->measuring) muse_llvm_if_begin(ll, &use, LLVMBuildNot(b, s->measuring, ""));
  MuseLlvmLoop task;
  if (h->n_de > 0) {
    muse_llvm_loop_begin(ll, &task, ll->begin, muse_llvm_at_most(ll, ll->end, h->n_de), 1);
    d_table_task(ll, s, task.index);
    muse_llvm_loop_end(ll, &task);
  }
  if (h->n_dx > 0) {
    LLVMValueRef begin = muse_llvm_max(ll, ll->begin, muse_llvm_i64(ll, h->n_de), false);
    muse_llvm_loop_begin(ll, &task, begin, ll->end, 1);
    dx_task(ll, s, muse_llvm_plus(ll, task.index, -h->n_de));
    muse_llvm_loop_end(ll, &task);
  }
  if (s->measuring) muse_llvm_if_end(ll, &use);
}

// ---- the loss ----

// f64, in the order of the tokens.
void muse_llvm_head_loss(MuseLlvm *ll, const MuseHeadStage *s) {
  const MuseHead *h = s->h;
  LLVMValueRef out = muse_llvm_op_result(ll, h->op, 0);
  if (!out) return;
  MuseLlvmLoop i;
  muse_llvm_loop_begin(ll, &i, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, h->N), 1);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &i, muse_llvm_const(ll->f64, 0));
  LLVMValueRef loss = muse_llvm_load(ll, MUSE_F32, muse_llvm_head_workspace(ll, h->losses), i.index, 1, NULL);
  muse_llvm_loop_next(&i, 0, LLVMBuildFAdd(ll->b, sum, LLVMBuildFPExt(ll->b, loss, ll->f64, ""), ""));
  muse_llvm_loop_end(ll, &i);
  LLVMValueRef mean = LLVMBuildFDiv(ll->b, i.result[0], muse_llvm_const(ll->f64, (double)h->N), "");
  muse_llvm_store(ll, MUSE_F32, out, muse_llvm_i64(ll, 0), LLVMBuildFPTrunc(ll->b, mean, ll->f32, ""), 1, NULL);
}

void muse_llvm_head_stage(MuseLlvm *ll, const MuseOp *kernel, const MuseHead *h, int stage,
                          void (*emit)(MuseLlvm *, const MuseHeadStage *)) {
  MuseHeadStage s = begin_stage(ll, kernel, h, stage);
  emit(ll, &s);
  muse_llvm_stage_end(ll);
}

static void emit_loss_once(MuseLlvm *ll, const MuseHeadStage *s) {
  MuseLlvmIf once; // one task
  muse_llvm_if_begin(ll, &once, LLVMBuildICmp(ll->b, LLVMIntSLT, ll->begin, ll->end, ""));
  muse_llvm_head_loss(ll, s);
  muse_llvm_if_end(ll, &once);
}

bool muse_emit_llvm_cross_entropy(MuseLlvm *ll, const MuseOp *kernel) {
  MuseHead h;
  muse_head_layout(kernel, &h);
  muse_llvm_head_stage(ll, kernel, &h, h.logits_stage, muse_llvm_head_logits);
  muse_llvm_head_stage(ll, kernel, &h, h.normalise, muse_llvm_head_normalise);
  if (h.grad) muse_llvm_head_stage(ll, kernel, &h, h.products, muse_llvm_head_products);
  muse_llvm_head_stage(ll, kernel, &h, h.finish, emit_loss_once);
  return true;
}
