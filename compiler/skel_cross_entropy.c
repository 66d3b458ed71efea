// How the head is cut: rounds, tiles, tasks, and what lies where in the workspace. See skel_cross_entropy.h.

#include "compiler/skel_cross_entropy.h"

#include "compiler/skel_panel.h"
#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

enum {
  TILE = 256,     // columns of a tile of logits: with a block of tokens it stays in the second-level cache
  ONE_TILE = 384, // vocabularies up to this are one tile
  ROW_BLOCK = 256,
  TASKS = 16,     // products are cut until they have so many tasks of each kind
  MAX_PANELS = 8, // columns of a task of the products, in panels
};
static const int64_t logits_bytes = 48 << 20, panel_bytes = 8 << 20, stats_bytes = 16 << 20;

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t take(int64_t *at, int64_t floats) {
  const int64_t place = *at;
  *at += muse_round_up(floats * 4, 64);
  return place;
}

static void cut_vocabulary(MuseHead *h) {
  h->tile = h->rows <= ONE_TILE ? muse_round_up(h->rows, MUSE_PANEL_WIDTH) : TILE;
  h->n_tiles = muse_ceil_div(h->rows, h->tile);
  h->ld = h->tile + 16;
}

// Equal chunks, multiples of 16 tokens, so that `bytes_per_token` stays within the limit.
static void cut_tokens(MuseHead *h, int64_t bytes_per_token, int64_t limit) {
  int64_t most = limit / bytes_per_token / 16 * 16;
  if (most < 16) most = 16;
  h->rounds = muse_ceil_div(h->N, most);
  h->chunk = muse_round_up(muse_ceil_div(h->N, h->rounds), 16);
  h->rounds = muse_ceil_div(h->N, h->chunk);
}

// Groups of i1: logits of all tokens, the table and its gradient within the limit.
static void cut_train(MuseHead *h) {
  const int64_t used = h->used = muse_ceil_div(h->V, h->v2), padded = muse_round_up(h->N, 16);
  const int64_t bytes_per_row = 4 * (h->grad ? padded * (TILE + 16) / TILE + 2 * h->ldt : h->ldt);
  int64_t most = logits_bytes / (bytes_per_row * h->v2);
  h->group = most < 1 ? 1 : min_i64(most, used);
  h->rounds = muse_ceil_div(used, h->group);
  h->group = muse_ceil_div(used, h->rounds);
  h->rounds = muse_ceil_div(used, h->group);
  h->rows = h->group * h->v2;
  h->chunk = padded;
  h->sweeps = h->grad && h->rounds > 1 ? 2 : 1;
  h->n_build_blocks = muse_ceil_div(h->v2, MUSE_HEAD_BUILD_ROWS);
  h->n_rho_blocks = muse_ceil_div(h->r, MUSE_HEAD_RHO_ROWS);
  h->build_scratch = muse_round_up(h->r * h->d1 * 4, 64);
}

static void cut_products(MuseHead *h) {
  const int64_t panels = muse_ceil_div(h->D, MUSE_PANEL_WIDTH);
  h->de_rows = min_i64(h->tile, h->rows);
  h->de_panels = h->dx_panels = min_i64(panels, MAX_PANELS);
  h->dx_rows = min_i64(h->chunk, ROW_BLOCK);
  for (;;) {
    h->n_de_rows = muse_ceil_div(min_i64(h->tile, h->rows), h->de_rows);
    h->n_de_columns = muse_ceil_div(panels, h->de_panels);
    h->n_de = h->n_tiles * h->n_de_rows * h->n_de_columns;
    if (h->n_de >= TASKS) break;
    if (h->de_panels > 1)
      h->de_panels = muse_ceil_div(h->de_panels, 2);
    else if (h->de_rows > 32)
      h->de_rows = muse_ceil_div(h->de_rows, 2);
    else
      break;
  }
  for (;;) {
    h->n_dx_rows = muse_ceil_div(h->chunk, h->dx_rows);
    h->n_dx_columns = muse_ceil_div(panels, h->dx_panels);
    h->n_dx = h->n_dx_rows * h->n_dx_columns;
    if (h->n_dx >= TASKS) break;
    if (h->dx_rows > 128)
      h->dx_rows = muse_ceil_div(h->dx_rows, 2);
    else if (h->dx_panels > 1)
      h->dx_panels = muse_ceil_div(h->dx_panels, 2);
    else if (h->dx_rows > 32)
      h->dx_rows = muse_ceil_div(h->dx_rows, 2);
    else
      break;
  }
  // What is not asked for is not computed.
  if (muse_kernel_result_of(h->op, 1) < 0) h->n_dx = 0;
  if (!h->train && muse_kernel_result_of(h->op, 2) < 0) h->n_de = 0;
}

static void number_stages(MuseHead *h) {
  int n = 0;
  h->build = h->train ? n++ : -1;
  h->logits_stage = n++;
  h->normalise = n++;
  h->products = h->grad ? n++ : -1;
  h->contract1 = h->grad && h->train ? n++ : -1;
  h->contract2 = h->grad && h->train ? n++ : -1;
  h->finish = n++;
}

void muse_head_layout(const MuseOp *kernel, MuseHead *h) {
  const MuseOp *op = muse_kernel_single_op(kernel);
  *h = (MuseHead){.op = op, .sweeps = 1, .d_core1 = -1, .d_core2 = -1};
  h->grad = op->kind == MUSE_OP_cross_entropy_grad || op->kind == MUSE_OP_tt_cross_entropy_grad;
  h->train = op->kind == MUSE_OP_tt_cross_entropy || op->kind == MUSE_OP_tt_cross_entropy_grad;
  MuseType x = op->operands[0]->type;
  h->N = x.dim[0];
  h->D = x.dim[1];
  h->targets = h->train ? 4 : 2;
  h->dloss = h->targets + 1;
  if (h->train) {
    MuseType core1 = op->operands[1]->type, core2 = op->operands[2]->type;
    h->v1 = core1.dim[0], h->v2 = core2.dim[0], h->r = core1.dim[1], h->d1 = core1.dim[2], h->d2 = core2.dim[2];
    h->V = muse_op_int(op, "vocab");
    h->ldt = muse_round_up(h->d1 * h->d2, 16);
    cut_train(h);
    cut_vocabulary(h);
  } else {
    h->V = h->rows = op->operands[1]->type.dim[0];
    h->ldt = h->D;
    cut_vocabulary(h);
    if (h->grad)
      cut_tokens(h, h->n_tiles * h->ld * 4, logits_bytes);
    else
      cut_tokens(h, h->n_tiles * 8, stats_bytes);
  }
  h->row_block = min_i64(h->chunk, ROW_BLOCK);
  while (h->row_block > 32 && muse_ceil_div(h->chunk, h->row_block) * h->n_tiles < TASKS / 2)
    h->row_block = muse_round_up(h->row_block / 2, 16);
  h->n_row_blocks = muse_ceil_div(h->chunk, h->row_block);
  h->norm_rows = 16 * muse_ceil_div(h->chunk, 16 * 32);
  h->n_norm = muse_ceil_div(h->chunk, h->norm_rows);
  number_stages(h);

  int64_t at = 0;
  h->maxima = take(&at, h->n_tiles * h->chunk);
  h->sums = take(&at, h->n_tiles * h->chunk);
  h->picked = take(&at, h->chunk);
  h->losses = take(&at, h->train ? h->chunk : h->rounds * h->chunk);
  if (h->train) {
    h->run_max = take(&at, h->chunk);
    h->run_sum = take(&at, h->chunk);
    h->table = take(&at, h->rows * h->ldt);
  }
  h->logits_scratch = MUSE_PANEL_BYTES;
  if (h->grad) {
    h->logits = take(&at, h->n_tiles * h->chunk * h->ld);
    cut_products(h);
    h->packed_x = h->chunk * muse_round_up(h->D, MUSE_PANEL_WIDTH) * 4 <= panel_bytes;
    if (h->packed_x) h->panels = take(&at, h->chunk * muse_round_up(h->D, MUSE_PANEL_WIDTH));
    if (h->train) {
      h->d_table = take(&at, h->rows * h->ldt);
      if (muse_kernel_result_of(op, 2) < 0) h->d_core1 = take(&at, h->v1 * h->r * h->d1);
      if (muse_kernel_result_of(op, 3) < 0) h->d_core2 = take(&at, h->v2 * h->r * h->d2);
    }
  } else {
    h->logits_scratch += muse_round_up(h->row_block * h->ld * 4, 64);
  }
  h->workspace_bytes = at;
}

void muse_head_info(const MuseOp *kernel, MuseKernelInfo *info) {
  MuseHead h;
  muse_head_layout(kernel, &h);
  *info = (MuseKernelInfo){.n_stages = h.finish + 1, .workspace_bytes = h.workspace_bytes};
  info->loop_first = 0;
  info->loop_last = h.finish - 1;
  info->loop_count = h.rounds * h.sweeps;
  info->stage[h.logits_stage] = (MuseKernelStage){h.n_row_blocks * h.n_tiles, h.logits_scratch};
  info->stage[h.normalise].n_tasks = h.n_norm;
  if (h.grad) info->stage[h.products] = (MuseKernelStage){h.n_de + h.n_dx, MUSE_PANEL_BYTES};
  if (h.train) info->stage[h.build] = (MuseKernelStage){h.group * h.n_build_blocks, h.build_scratch};
  if (h.train && h.grad) {
    info->stage[h.contract1] = (MuseKernelStage){h.group * h.n_rho_blocks, MUSE_PANEL_BYTES};
    info->stage[h.contract2].n_tasks = h.v2;
  }
  info->stage[h.finish].n_tasks = h.train && h.grad ? h.r : 1;
}
