#ifndef MUSE_COMPILER_EMIT_LLVM_WINDOW_H
#define MUSE_COMPILER_EMIT_LLVM_WINDOW_H

// What windowed attention and its gradient share: tiles of query and key blocks, visibility, scores.
// Notation and tiles: skel_window_attention.h; formulas: ops/window_attention.c.

#include "compiler/emit_llvm_gemm_tile.h"
#include "compiler/skel_window_attention.h"

// Per-token rows of `chunk` floats. With r the radius of a token, *_HALF are sinh and cosh of r/2.
typedef enum MuseWindowRow {
  MUSE_WINDOW_FIRST, // i32: first visible token of the query
  MUSE_WINDOW_MAX, MUSE_WINDOW_SUM, MUSE_WINDOW_RESCALE,
  MUSE_WINDOW_Q_SINH_HALF, MUSE_WINDOW_Q_COSH_HALF, MUSE_WINDOW_Q_SINH, MUSE_WINDOW_Q_COSH,
  MUSE_WINDOW_K_SINH_HALF, MUSE_WINDOW_K_COSH_HALF, MUSE_WINDOW_K_SINH, MUSE_WINDOW_K_COSH,
  MUSE_WINDOW_DELTA, MUSE_WINDOW_DALPHA,
  MUSE_WINDOW_DSCALE, // first vector only: lanes of the sum
} MuseWindowRow;

typedef struct MuseWindow {
  const MuseOp *op;
  MuseWindowLayout layout;
  int64_t pd;                                // padded row of d floats on this target
  bool hyperbolic;
  LLVMValueRef row, head, vectors, tokens;   // of the task; element index of (row, 0, head) in [B,T,H,d] and [B,T,H]
  LLVMValueRef scale;                        // f32
  LLVMValueRef query, q0, q_valid;           // query block, its first token, how many of its tokens exist
  LLVMValueRef key, k0, k_valid, is_diagonal;
} MuseWindow;

MuseWindow muse_window(MuseLlvm *ll, const MuseOp *kernel);
void muse_window_set_head(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef row_and_head); // row * H + head
// Packs the query block: tiles q, qt, the rows FIRST and Q_*; MAX and SUM get their initial values.
void muse_window_set_query(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef block);
// The first key block that the query block sees.
LLVMValueRef muse_window_first_key(MuseLlvm *ll, const MuseWindow *cx);
void muse_window_set_key(MuseLlvm *ll, MuseWindow *cx, LLVMValueRef block);
void muse_window_pack_keys(MuseLlvm *ll, const MuseWindow *cx, bool with_values); // tiles k (, v), the rows K_*

LLVMValueRef muse_window_tile(MuseLlvm *ll, int64_t offset);
LLVMValueRef muse_window_operand(MuseLlvm *ll, const MuseWindow *cx, int index);
LLVMValueRef muse_window_vectors_at(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef base,
                                    LLVMValueRef token); // address of a token's d floats
LLVMValueRef muse_window_row(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row);
LLVMValueRef muse_window_load(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row, LLVMValueRef index, int lanes);
void muse_window_store(MuseLlvm *ll, const MuseWindow *cx, MuseWindowRow row, LLVMValueRef index, LLVMValueRef value,
                       int lanes);

// A vector of queries (columns `column`.. of the block) in front of the loop over keys.
typedef struct MuseWindowQueries {
  LLVMValueRef column, first, position;                // first visible and own token, i32 vectors
  LLVMValueRef sinh_half, cosh_half, sinh, cosh, scale; // hyperbolic
} MuseWindowQueries;
MuseWindowQueries muse_window_queries(MuseLlvm *ll, const MuseWindow *cx, LLVMValueRef column);
LLVMValueRef muse_window_key_end(MuseLlvm *ll, const MuseWindow *cx,
                                 LLVMValueRef column); // keys past it are in the future
LLVMValueRef muse_window_visible(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q, LLVMValueRef key);

// One key against a vector of queries (hyperbolic).
typedef struct MuseWindowPair {
  LLVMValueRef half;            // sinh((a-b)/2)
  LLVMValueRef cosine, gap;     // clipped product, 1 - cosine
  LLVMValueRef radii;           // sinh a sinh b
  LLVMValueRef excess, clamped; // u - 1 before and after the clamp
  LLVMValueRef root;            // sqrt(u^2 - 1)
  LLVMValueRef k_sinh_half, k_cosh_half, k_sinh, k_cosh;
} MuseWindowPair;
MuseWindowPair muse_window_pair(MuseLlvm *ll, const MuseWindow *cx, const MuseWindowQueries *q, LLVMValueRef key,
                                LLVMValueRef dot);
LLVMValueRef muse_window_distance(MuseLlvm *ll, const MuseWindowPair *pair); // acosh u

#define MUSE_WINDOW_NO_SCORE (-3e38) // of a key that is not visible; the running maximum starts at MUSE_WINDOW_LEAST
#define MUSE_WINDOW_LEAST (-1e30)

#endif
