#ifndef MUSE_COMPILER_EMIT_CUDA_EMBED_H
#define MUSE_COMPILER_EMIT_CUDA_EMBED_H

#include "compiler/emit_cuda_kernel.h"

// What the CUDA emitters of the embedding, the head and the small ops share.

// Functions for sorting tokens, summing rows and f32 products of tiles; guarded, so it may stand several times in a
// source.
const char *muse_cuda_embed_prelude(void);
// Functions of the tensor train; behind the other one.
const char *muse_cuda_train_prelude(void);
const char *muse_cuda_head_prelude(void);  // of the head; behind these and muse_cuda_gemm_prelude

// A tile of an f32 product (product_f32 of the prelude): rows x columns a block, per_thread x per_thread a thread;
// n: tiles of the whole.
typedef struct MuseCudaTrainTile {
  int rows, columns, per_thread, threads;
  int64_t n;
} MuseCudaTrainTile;
MuseCudaTrainTile muse_cuda_train_tile(int64_t rows, int64_t columns);

// Elements are moved as whole numbers of their size: the type of `bytes` bytes (1, 2, 4, 8, 16), and the largest power
// of two up to 16 that divides a row.
const char *muse_cuda_word(int64_t bytes);
int64_t muse_cuda_widest_word(int64_t row_bytes);

// The next place in a workspace, 256-byte aligned; *at moves behind it.
int64_t muse_cuda_take(int64_t *at, int64_t bytes);

#endif
