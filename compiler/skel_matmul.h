#ifndef MUSE_COMPILER_SKEL_MATMUL_H
#define MUSE_COMPILER_SKEL_MATMUL_H

#include "compiler/kernel_info.h"

// Skeletons "matmul", "ternary_matmul" and "int8_matmul": products C[M,N] = sum over K, cut into blocks of C.
//
// The body holds one product op (the anchor), or several ternary_matmul that share their left operand, and map ops on
// the anchor's result: the epilogue, computed where a tile of C is stored. Every yielded value follows from exactly one
// anchor. Operands of epilogue ops have shapes that broadcast to [M,N].
//
// A task is one block of C of one anchor: block_m x block_n elements, over the whole of K, so that no sum is ever split
// over threads. Tasks of an anchor are numbered n block by n block, m blocks inside.
//
// Scratch of a task, in 64-byte aligned parts: the packed right operand of a block of K, a packed tile of the left
// operand, row sums of that tile, and C (one tile, or the block when K takes several blocks). All of it is counted in
// units of 4 bytes: an f32, four int8 or two int16 along K.
enum {
  MUSE_MAX_ANCHORS = 8,
  MUSE_TILE_MAX_M = 32, // largest register tile of any target
  MUSE_TILE_MAX_N = 32,
  MUSE_BLOCK_UNIT = 96,     // blocks of M are multiples of it: a multiple of the tile heights of all targets
  MUSE_VECTOR_MAX_ROWS = 4, // up to so many rows the weights are streamed through, unpacked (matrix times few vectors)
  MUSE_LEFT_TILES = 4,    // tiles of a left operand [K,M] that are packed together, so that cache lines are used whole
  MUSE_TILE_ROW_PAD = 16, // units between the rows of a packed left tile, so that rows do not share cache sets
};

typedef struct MuseProduct {
  const MuseOp *anchor;
  int64_t M, N, K;
  int64_t block_m, block_n, block_k; // block_k: elements of K packed at once
  int64_t n_blocks_m, n_blocks_n;
  int64_t first_task;
  bool few_rows; // matrix times at most MUSE_VECTOR_MAX_ROWS vectors: block_n rows of the weights are streamed
} MuseProduct;

typedef struct MuseProductKernel {
  int n_anchors;
  MuseProduct anchor[MUSE_MAX_ANCHORS];
  int64_t n_tasks;
  // Byte offsets and size of the scratch of a call.
  int64_t packed_b, packed_a, row_sums, tile_c, scratch_bytes;
} MuseProductKernel;

void muse_product_kernel(const MuseOp *kernel, MuseProductKernel *out);

// May `op` stand in the epilogue of an anchor whose result has the shape [M,N] of `anchor_type`?
bool muse_product_op_fits(const MuseOp *op, MuseType anchor_type);
// Index of the anchor (in MuseProductKernel) that a value of the body follows from; -1: none (operands and maps of
// them).
int muse_product_anchor_of(const MuseProductKernel *product, const MuseValue *value);

void muse_product_info(const MuseOp *kernel, MuseKernelInfo *out_info);
// A result may replace an operand of the same type that is used by the epilogue only, element by element.
bool muse_product_allows_in_place(const MuseOp *kernel, int result, int operand);

#endif
