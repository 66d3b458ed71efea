// How products are cut into tasks, and what belongs to their epilogues. See skel_matmul.h.

#include "compiler/skel_matmul.h"

#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <string.h>

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

static bool is_anchor(const MuseOp *op) {
  return op->kind == MUSE_OP_matmul || op->kind == MUSE_OP_ternary_matmul || op->kind == MUSE_OP_int8_matmul;
}

bool muse_product_op_fits(const MuseOp *op, MuseType anchor_type) {
  MuseOpClass class_ = muse_op_info(op->kind)->class_;
  if ((class_ != MUSE_CLASS_MAP && op->kind != MUSE_OP_broadcast) || op->kind == MUSE_OP_rope) return false;
  for (int i = 0; i < op->n_results; i++)
    if (!muse_type_broadcasts_to(op->results[i]->type, anchor_type)) return false;
  for (int i = 0; i < op->n_operands; i++)
    if (!muse_type_broadcasts_to(op->operands[i]->type, anchor_type)) return false;
  return true;
}

int muse_product_anchor_of(const MuseProductKernel *product, const MuseValue *value) {
  if (value->def == NULL) return -1;
  for (int i = 0; i < product->n_anchors; i++)
    if (value->def == product->anchor[i].anchor) return i;
  for (int i = 0; i < value->def->n_operands; i++) {
    int anchor = muse_product_anchor_of(product, value->def->operands[i]);
    if (anchor >= 0) return anchor;
  }
  return -1;
}

// Blocks of C for the tiled form. The block of the right operand (block_k x block_n) is read again by every tile of the
// block and should stay in the second-level cache (1 MB on common servers); a block of C is up to 512 high so that
// packing that block is paid back by many tiles. Small products are cut finer, first in M: narrow blocks pack the left
// operand for few panels.
static void cut_tiles(MuseProduct *p, bool bytes) {
  int64_t max_m = 512, max_n = bytes ? 128 : 256, count_m = muse_ceil_div(p->M, max_m);
  const double worth_a_task = 6e6; // products
  // bytes: a multiple of the 256 trits and of the 320 trits of a packed block
  p->block_k = min_i64(p->K, bytes ? 2560 : 512);
  p->block_n = min_i64(muse_round_up(p->N, MUSE_TILE_MAX_N), max_n);
  for (;;) {
    p->block_m = count_m == 1 ? p->M : muse_round_up(muse_ceil_div(p->M, count_m), MUSE_BLOCK_UNIT);
    p->n_blocks_m = muse_ceil_div(p->M, p->block_m);
    p->n_blocks_n = muse_ceil_div(p->N, p->block_n);
    int64_t tasks = p->n_blocks_m * p->n_blocks_n;
    if ((double)p->block_m * (double)p->block_n * (double)p->K <= worth_a_task) return;
    if (tasks < 8 && p->block_m > MUSE_BLOCK_UNIT) count_m++;
    else if (tasks < 4 && p->block_n > MUSE_TILE_MAX_N) p->block_n = muse_round_up(p->block_n / 2, MUSE_TILE_MAX_N);
    else return;
  }
}

// Few rows: a task streams block_n rows of weights, about 128 KB, in at most 64 tasks for large matrices.
static void cut_rows(MuseProduct *p) {
  MuseDtype dtype = p->anchor->operands[1]->type.dtype;
  int64_t row_bytes = muse_dtype_is_trit(dtype) ? muse_trit_row_bytes(dtype, p->K) : p->K * muse_dtype_bytes(dtype);
  int64_t rows = max_i64(muse_ceil_div(p->N, 64), muse_ceil_div(128 * 1024, row_bytes));
  p->block_m = p->M;
  p->block_k = p->K;
  p->block_n = min_i64(muse_round_up(rows, MUSE_TILE_MAX_N), muse_round_up(p->N, MUSE_TILE_MAX_N));
  p->n_blocks_m = 1;
  p->n_blocks_n = muse_ceil_div(p->N, p->block_n);
}

static bool k_is_first(const MuseOp *anchor) { // of the left operand
  return anchor->kind == MUSE_OP_int8_matmul || (anchor->kind == MUSE_OP_matmul && muse_op_bool(anchor, "trans_a"));
}

// Each channel's weights stand one after another in memory, as the form for few rows streams them.
static bool weights_by_rows(const MuseOp *anchor) {
  if (anchor->kind == MUSE_OP_ternary_matmul) return true;
  return anchor->kind == MUSE_OP_matmul && !muse_op_bool(anchor, "trans_a") && muse_op_bool(anchor, "trans_b") &&
         !muse_dtype_is_trit(anchor->operands[1]->type.dtype);
}

static void fill_product(MuseProduct *p, const MuseOp *anchor) {
  MuseType c = anchor->results[0]->type, a = anchor->operands[0]->type;
  p->anchor = anchor;
  p->M = c.dim[0];
  p->N = c.dim[1];
  p->K = a.dim[k_is_first(anchor) ? 0 : 1];
  p->few_rows = p->M <= MUSE_VECTOR_MAX_ROWS && weights_by_rows(anchor);
  if (p->few_rows) cut_rows(p);
  else cut_tiles(p, anchor->kind != MUSE_OP_matmul);
}

// Sizes hold for every target: int8 products may be packed as int16 (two bytes a byte), tiles may be of any height.
static void fill_scratch(MuseProductKernel *out) {
  int64_t b_bytes = 0, a_bytes = 0, c_bytes = 0;
  for (int i = 0; i < out->n_anchors; i++) {
    const MuseProduct *p = &out->anchor[i];
    bool bytes = p->anchor->kind != MUSE_OP_matmul;
    if (p->few_rows) {
      a_bytes = max_i64(a_bytes, p->M * (bytes ? p->K + 1344 : 4 * (p->K + 64)));
      c_bytes = max_i64(c_bytes, MUSE_VECTOR_MAX_ROWS * MUSE_TILE_MAX_N * 4);
      continue;
    }
    int64_t k = muse_round_up(p->block_k, 320) + 64, element = bytes ? 2 : 4;
    int64_t tiles_m = muse_ceil_div(p->block_m, 4) * 4 + MUSE_TILE_MAX_M;
    b_bytes = max_i64(b_bytes, k * element * muse_round_up(p->block_n, MUSE_TILE_MAX_N));
    a_bytes = max_i64(a_bytes, (k * element + 4 * MUSE_TILE_ROW_PAD) * (MUSE_TILE_MAX_M + 16));
    if (k_is_first(p->anchor)) a_bytes = max_i64(a_bytes, MUSE_LEFT_TILES * MUSE_TILE_MAX_M * k * element);
    c_bytes = max_i64(c_bytes,
                      4 * muse_round_up(p->block_n, MUSE_TILE_MAX_N) * (p->block_k < p->K ? tiles_m : MUSE_TILE_MAX_M));
  }
  out->packed_b = 0;
  out->packed_a = muse_round_up(b_bytes, 64);
  out->row_sums = out->packed_a + muse_round_up(a_bytes, 64);
  out->tile_c = out->row_sums + 4 * (MUSE_TILE_MAX_M + 32);
  out->scratch_bytes = out->tile_c + muse_round_up(c_bytes, 64) + 64;
}

void muse_product_kernel(const MuseOp *kernel, MuseProductKernel *out) {
  memset(out, 0, sizeof *out);
  for (const MuseOp *op = kernel->body->first; op != NULL; op = op->next) {
    if (!is_anchor(op)) continue;
    MUSE_ASSERT(out->n_anchors < MUSE_MAX_ANCHORS);
    MuseProduct *p = &out->anchor[out->n_anchors++];
    fill_product(p, op);
    p->first_task = out->n_tasks;
    out->n_tasks += p->n_blocks_m * p->n_blocks_n;
    MUSE_ASSERT(op->operands[0] == out->anchor[0].anchor->operands[0]);
  }
  MUSE_ASSERT(out->n_anchors >= 1);
  fill_scratch(out);
}

void muse_product_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  MuseProductKernel product;
  muse_product_kernel(kernel, &product);
  memset(out_info, 0, sizeof *out_info);
  out_info->n_stages = 1;
  out_info->stage[0] = (MuseKernelStage){.n_tasks = product.n_tasks, .scratch_bytes = product.scratch_bytes};
}

bool muse_product_allows_in_place(const MuseOp *kernel, int result, int operand) {
  MuseProductKernel product;
  muse_product_kernel(kernel, &product);
  const MuseValue *arg = kernel->body->args[operand], *yielded = kernel->body->last->operands[result];
  for (int i = 0; i < kernel->n_operands; i++) // the same tensor may come in twice
    if (i != operand && kernel->operands[i] == kernel->operands[operand]) return false;
  int anchor = muse_product_anchor_of(&product, yielded);
  if (anchor < 0 || !muse_type_eq(arg->type, yielded->type) ||
      !muse_type_same_shape(arg->type, product.anchor[anchor].anchor->results[0]->type))
    return false;
  for (const MuseOp *op = kernel->body->first; op != NULL; op = op->next)
    for (int i = 0; i < op->n_operands; i++) {
      if (op->operands[i] != arg) continue;
      // Other anchors work on other tasks: they may read the operand when it has been overwritten.
      if (is_anchor(op) || op->kind == MUSE_OP_yield) return false;
      if (product.n_anchors > 1 && muse_product_anchor_of(&product, op->results[0]) != anchor) return false;
    }
  return true;
}
