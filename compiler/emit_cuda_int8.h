#ifndef MUSE_COMPILER_EMIT_CUDA_INT8_H
#define MUSE_COMPILER_EMIT_CUDA_INT8_H

// What the CUDA emitters of int8 products share: texts, and the launch that brings operands into the form that the
// products read.

#include "compiler/emit_cuda_product.h"

const char *muse_cuda_int8_prelude(void);     // BytesTile; wants muse_cuda_product_prelude in front of it
const char *muse_cuda_few_rows_prelude(void); // FewRows; likewise
const char *muse_cuda_trits_prelude(void);    // packing, unpacking, transposing

// An operand that is brought ahead into the workspace at `offset` (a multiple of 256).
typedef enum MuseCudaAheadKind {
  MUSE_CUDA_PAD_ROWS,  // bytes [rows, columns]: rows `pitch` apart, zeros behind them
  MUSE_CUDA_TRANSPOSE, // bytes [rows, columns] as [columns, rows], rows `pitch` apart, zeros behind them
  MUSE_CUDA_AS_T2,     // trits [rows, columns] of T5 in the layout T2
  MUSE_CUDA_AS_BYTES,  // trits [rows, columns] as signed bytes, rows `pitch` apart, zeros behind them
} MuseCudaAheadKind;

typedef struct MuseCudaAhead {
  MuseCudaAheadKind kind;
  int operand;       // the parameter a%d
  MuseDtype dtype;   // of trits
  int64_t rows, columns, pitch; // pitch: a multiple of 16
  int64_t offset;
} MuseCudaAhead;

int64_t muse_cuda_ahead_bytes(const MuseCudaAhead *ahead);
// One launch that does them all; wants muse_cuda_trits_prelude in front.
void muse_cuda_emit_ahead(MuseCudaEmitter *e, const MuseCudaAhead *ahead, int n);

// Where blocks of a launch that serves several anchors find theirs: declares `which`, `block` (counted from the
// anchor's first) and, as text says, what differs between them. n_blocks of each.
void muse_cuda_emit_which(MuseStr *out, const int64_t *n_blocks, int n);

// Products of up to MUSE_CUDA_FEW_ROWS rows with trits, streamed as they are packed.
enum { MUSE_CUDA_FEW_ROWS = 8 };
void muse_cuda_emit_few_rows(MuseCudaProducts *products);

#endif
