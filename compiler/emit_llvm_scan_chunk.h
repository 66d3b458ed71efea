#ifndef MUSE_COMPILER_EMIT_LLVM_SCAN_CHUNK_H
#define MUSE_COMPILER_EMIT_LLVM_SCAN_CHUNK_H

// What the forward and the backward resolvent scan share: the tiles of a chunk, complex values, the chunk's kernel A.
// Notation and tiles: skel_scan.h.

#include "compiler/emit_llvm_gemm_tile.h"
#include "compiler/skel_scan.h"

typedef struct MuseComplexValue { LLVMValueRef re, im; } MuseComplexValue;

// The per-token rows of the layout's `rows`; each is a pair Re, Im of `chunk` floats.
typedef enum MuseScanRow {
  MUSE_SCAN_A = 0,    // the row of A of the current token; after the last token A_C
  MUSE_SCAN_P = 2,    // P_t
  MUSE_SCAN_SUM = 4,  // gradient: sum over s of A_ts M_ts N_ts
  MUSE_SCAN_COL = 6,  // gradient: sum over t of A_ts M_ts N_ts
  MUSE_SCAN_Y = 8,    // gradient: P_t <q_t do_t^T, S>
  MUSE_SCAN_Z = 10,   // gradient: A_Cs <Gamma, k_s v_s^T>, later its running sum
} MuseScanRow;

typedef struct MuseScanChunk {
  const MuseOp *op;
  MuseResolventLayout layout;
  int64_t pd;                   // padded row of d floats on this target
  LLVMValueRef slot;            // gradient: of the task in its block
  LLVMValueRef row, head;       // of the task
  LLVMValueRef vectors, tokens; // element index of (row, 0, head) in [B,T,H,d] and in [B,T,H]
  LLVMValueRef t0, valid;       // first token of the chunk, and how many of its tokens exist
  MuseComplexValue p_end;       // P_C, set by muse_scan_rows and muse_scan_last_row
} MuseScanChunk;

MuseScanChunk muse_scan_chunk(MuseLlvm *ll, const MuseOp *kernel);
void muse_scan_set_task(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef task);

// Of the gradient: a loop over the blocks that tasks [ll->begin, ll->end) have a part in; inside, loops over these
// tasks of the block.
typedef struct MuseScanBlock {
  MuseLlvmLoop loop;
  LLVMValueRef first, begin, end; // the block's first task; the tasks to do
} MuseScanBlock;
void muse_scan_block_begin(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanBlock *out);
void muse_scan_block_end(MuseLlvm *ll, MuseScanBlock *block);
void muse_scan_tasks_begin(MuseLlvm *ll, MuseScanChunk *cx, const MuseScanBlock *block, MuseLlvmLoop *out);

// The state `index` of the `count` that the task has in a tile.
LLVMValueRef muse_scan_state(MuseLlvm *ll, const MuseScanChunk *cx, int64_t tile, int64_t count, LLVMValueRef index);
void muse_scan_set_chunk(MuseLlvm *ll, MuseScanChunk *cx, LLVMValueRef chunk);

LLVMValueRef muse_scan_tile(MuseLlvm *ll, int64_t offset);                               // pointer into the scratch
LLVMValueRef muse_scan_row(MuseLlvm *ll, const MuseScanChunk *cx, int row);              // row 0..MUSE_SCAN_ROWS-1
void muse_scan_pack(MuseLlvm *ll, const MuseScanChunk *cx, int operand,
                    int64_t tile); // [B,T,H,d] operand to [chunk][pd]
void muse_scan_transpose(MuseLlvm *ll, const MuseScanChunk *cx, int64_t from, int64_t to); // [chunk][pd] to [pd][chunk]
// Stores tile (+ add, unless negative) to result `index` of the op, if it is wanted.
void muse_scan_unpack(MuseLlvm *ll, const MuseScanChunk *cx, int index, int64_t tile, int64_t add);

// What a product prefetches meanwhile: of the chunk `chunks_ahead` further the operands and results (a bit each), and a
// state (or NULL). The heads of a token lie side by side, so one head reads short pieces far apart, which hardware
// prefetchers do not follow; and asked for all at once they would stall the core. The single numbers of a token (g,
// the document) count as much as the vectors: a recurrence waits for each.
typedef struct MuseScanAhead {
  int chunks_ahead;
  unsigned operands, results;
  LLVMValueRef state;
} MuseScanAhead;
void muse_scan_product(MuseLlvm *ll, const MuseScanChunk *cx, MuseGemmTile tile, LLVMValueRef a, LLVMValueRef b,
                       LLVMValueRef c, MuseScanAhead ahead);

MuseComplexValue muse_complex_mul(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y);
MuseComplexValue muse_complex_add(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y);
MuseComplexValue muse_complex_sub(MuseLlvm *ll, MuseComplexValue x, MuseComplexValue y);
MuseComplexValue muse_complex_splat(MuseLlvm *ll, MuseComplexValue x);
MuseComplexValue muse_complex_select(MuseLlvm *ll, LLVMValueRef zero_if, MuseComplexValue x); // 0 where zero_if
// Element (or vector) at `index` of a pair of rows.
MuseComplexValue muse_scan_load(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanRow row, LLVMValueRef index, int lanes);
void muse_scan_store(MuseLlvm *ll, const MuseScanChunk *cx, MuseScanRow row, LLVMValueRef index, MuseComplexValue x,
                     int lanes);

// e = 1 + g of token t of the chunk (1 past the end of the row), and whether a document begins there.
MuseComplexValue muse_scan_g_of_e(MuseLlvm *ll, MuseComplexValue e); // e - 1
MuseComplexValue muse_scan_e(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef t, LLVMValueRef *out_first);

// Walks the rows of A. On entry tile m holds M_ts = q_t.k_s (and tile n, for the gradient, N_ts = do_t.v_s) for s <= t;
// on exit m holds Re(A) o M (and n Re(A) o N) there; the rows A, P (and SUM, COL) are filled. `scale_queries`: tile
// left gets [Re P_t q_t | -Im P_t q_t], rows of 2 dp floats of which 2 d count.
void muse_scan_rows(MuseLlvm *ll, MuseScanChunk *cx, bool grad, bool scale_queries);
// Only row A_C and p_end, of a chunk whose tokens all exist.
void muse_scan_last_row(MuseLlvm *ll, MuseScanChunk *cx);

// to = p_end * from: states [2][d][pd] (pointers, may be equal).
void muse_scan_scale_state(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef from, LLVMValueRef to);
// Tile `left` [2 d][chunk] = Re A_C o K^T above Im A_C o K^T, then to = p_end * from + left V, while
// `ahead` is prefetched.
void muse_scan_advance(MuseLlvm *ll, const MuseScanChunk *cx, LLVMValueRef from, LLVMValueRef to, MuseScanAhead ahead);
void muse_scan_fill(MuseLlvm *ll, LLVMValueRef to, int64_t floats); // zeros; a multiple of 16 floats
void muse_scan_copy(MuseLlvm *ll, LLVMValueRef from, LLVMValueRef to, int64_t floats);

#endif
