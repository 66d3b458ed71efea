#ifndef MUSE_COMPILER_EMIT_CUDA_MATMUL_H
#define MUSE_COMPILER_EMIT_CUDA_MATMUL_H

#include "compiler/emit_cuda_gemm.h"
#include "compiler/emit_cuda_product.h"

// What the emitters of floating-point products share.
typedef struct MuseCudaMatmul {
  MuseCudaEmitter *e;
  MuseCudaProduct *p;
  MuseCudaSide a, b;
  bool exact; // f32 operands beside 16-bit ones keep 17 bits
  MuseCudaTile tile;
  int64_t tiles_m, tiles_n;
  // Parts of K. sums_parts: their sums lie at `partials` of the workspace, rows `pitch` apart, to be added up.
  int64_t parts, part_k, partials, pitch;
  bool sums_parts;
} MuseCudaMatmul;

void muse_cuda_matmul_open(MuseCudaMatmul *m, const char *text);
void muse_cuda_matmul_close(MuseCudaMatmul *m);
// The sums of V neighbouring columns, array `sums` at `row` and `column`: the epilogue, or a store to the part `part`.
void muse_cuda_matmul_store(MuseCudaMatmul *m, int V);
// Operands of the epilogue of `rows` x `columns` from m0, n0 on are read to the L2 cache by `threads` threads, of which
// `thread` is the text of the own number: so that they are near when the product is done.
void muse_cuda_matmul_prefetch(MuseCudaMatmul *m, int rows, int columns, const char *thread, int threads);
// Columns a thread stores at once.
int muse_cuda_matmul_vector(const MuseCudaMatmul *m);

// For sm_90a: false when the product does not suit; else its launches are written, but for the sum of the parts.
bool muse_cuda_matmul_hopper(MuseCudaMatmul *m);

// Where one side has at most 64 rows: likewise.
bool muse_cuda_matmul_stream(MuseCudaMatmul *m);

#endif
