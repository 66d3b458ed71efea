#ifndef MUSE_COMPILER_EMIT_LLVM_PRODUCT_H
#define MUSE_COMPILER_EMIT_LLVM_PRODUCT_H

// What the emitters of matrix products share. A product is computed in units of 4 bytes along K: one f32, four int8, or
// two int16. The right operand is packed as panels [unit][tile_n] and a tile of the left operand so that one unit can
// be
// broadcast; a register tile of tile_m x tile_n sums is then  acc[m][n] += dot(b[unit][n], a[m][unit]).

#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_body.h"
#include "compiler/skel_matmul.h"

typedef enum MuseDotKind {
  MUSE_DOT_F32,       // fused multiply-add
  MUSE_DOT_VNNI,      // vpdpbusd: unsigned right operand, signed left operand
  MUSE_DOT_MADDUBS,   // vpmaddubsw + vpmaddwd; trit codes only (0..2: the 16-bit sums cannot saturate)
  MUSE_DOT_I16,       // vpmaddwd on int16
  MUSE_DOT_NEON_SDOT,
  MUSE_DOT_NEON_WIDE, // smull, saddlp, addp
  MUSE_DOT_SCALAR,    // byte by byte in 32-bit integers
} MuseDotKind;

typedef struct MuseTiling {
  MuseDotKind dot;
  bool amx;      // tiles of 16x16 sums instead of vector registers
  int lanes;     // units of a vector
  int tile_m, vectors_n;
  int group;     // elements of K in a unit
  int offset; // added to the right operand when it is packed, to make it unsigned; row sums of the left operand correct
              // it
  bool a_by_k;   // packed left tile is [unit][a_stride], else [row][a_stride]
  int64_t a_stride, b_units; // in units; b_units: units of a packed panel
  int64_t a_tile_bytes;      // a_by_k: from one packed tile to the next
} MuseTiling;

// Unit type as a vector of `lanes`: float or i32.
LLVMTypeRef muse_llvm_unit_type(MuseLlvm *ll, MuseDotKind dot, int lanes);
MuseDotKind muse_llvm_dot_kind(const MuseLlvm *ll, MuseOpKind anchor);
void muse_llvm_tiling(const MuseLlvm *ll, const MuseProduct *p, MuseTiling *out);
LLVMValueRef muse_llvm_dot(MuseLlvm *ll, MuseDotKind kind, LLVMValueRef acc, LLVMValueRef b, LLVMValueRef a);
int muse_llvm_right_offset(MuseDotKind dot, MuseOpKind anchor); // MuseTiling.offset

// The block of a product under construction; all i64.
typedef struct MuseBlock {
  LLVMValueRef m0, n0, rows, cols; // of C
  LLVMValueRef k0, len, units;     // of K
  LLVMValueRef is_last_k;          // i1: k0 + len == K
} MuseBlock;

// Packing (emit_llvm_pack.c). Columns and rows beyond the operand's edge hold anything, elements of K beyond K are zero
// in the left operand.
void muse_llvm_pack_left(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                         LLVMValueRef m, int rows, LLVMValueRef dst);
// a_by_k: the tile at row m and the MUSE_LEFT_TILES - 1 tiles behind it, as far as there are rows.
void muse_llvm_pack_left_tiles(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                               LLVMValueRef m, LLVMValueRef dst);
void muse_llvm_pack_right(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                          LLVMValueRef dst);

// -offset times the sum over K of each row of a packed left tile, into row_sums (i32).
void muse_llvm_row_sums(MuseLlvm *ll, const MuseTiling *t, int rows, LLVMValueRef packed, LLVMValueRef units,
                        LLVMValueRef row_sums);

// The epilogue of `rows` (static) x `vectors` vectors of C at (row, column), whose sums stand at `sums` with `stride`
// units a row. tail: valid lanes of the last vector, 0: all. `body` is a fresh clone.
void muse_llvm_epilogue(MuseLlvm *ll, const MuseProduct *p, MuseLlvmBody *body, int rows, int vectors, int tail,
                        LLVMValueRef row, LLVMValueRef column, LLVMValueRef sums, int64_t stride);

// One task (i64, counted from the anchor's first) of the tiled form, and of the form for few rows.
void muse_llvm_product_block(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p, const MuseLlvmBody *body,
                             LLVMValueRef task);
typedef struct MuseLeftRows { LLVMValueRef packed, row_sums; } MuseLeftRows;
MuseLeftRows muse_llvm_few_rows_prepare(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p); // once a call
void muse_llvm_few_rows_block(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p, const MuseLlvmBody *body,
                              LLVMValueRef task, const MuseLeftRows *left);

// ---- trits (emit_llvm_trits.c) ----
// Codes 0..2 of trits [chunk*4*lanes, +4*lanes) of a packed row as bytes in `lanes` i32 (chunk: i64).
LLVMValueRef muse_llvm_trit_codes(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef row, LLVMValueRef chunk, int lanes);
// The same minus 1, as signed bytes.
LLVMValueRef muse_llvm_trit_signed(MuseLlvm *ll, LLVMValueRef codes);
// Trits [first, first+lanes) of a packed T2 row as f32; first is a multiple of lanes.
LLVMValueRef muse_llvm_trits_f32(MuseLlvm *ll, LLVMValueRef row, LLVMValueRef first, int lanes);

// Square transposition of n vectors of n lanes.
void muse_llvm_transpose(MuseLlvm *ll, LLVMValueRef *v, int n);
// Loads the first `active` elements of a vector; the others are zero. Never reads behind them, and fast, on any target.
LLVMValueRef muse_llvm_load_partial(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                                    int active);
LLVMValueRef muse_llvm_minimum(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b); // i64, signed

#endif
