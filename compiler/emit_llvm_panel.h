#ifndef MUSE_COMPILER_EMIT_LLVM_PANEL_H
#define MUSE_COMPILER_EMIT_LLVM_PANEL_H

// Generated f32 products of panels: narrow in the columns of C, any run-time number of rows and terms. (For tiles whose
// sizes are all constants see emit_llvm_gemm_tile.h.) Each distinct description becomes one internal function of the
// module.
//
//   C[m,width] = (C +) sum over p of A(i,p) B(p,j),   p ascending
//   A(i,p) = a[i*a_row + p*a_col]; B(p,j) = b[p*ldb + j]; C(i,j) = c[i*ldc + j]
// Strides count elements and are constants.
// Columns of C from `width` on are not touched; of B they are not read unless `padded`.
// A block of B (k x MUSE_PANEL_WIDTH) should fit the first-level cache: MUSE_PANEL_TERMS rows do.

#include "compiler/emit_llvm_builder.h"
#include "compiler/skel_panel.h"

typedef struct MusePanel {
  int64_t width; // 1..MUSE_PANEL_WIDTH
  int64_t a_row, a_col, ldb, ldc;
  bool padded; // rows of B have MUSE_PANEL_WIDTH readable elements
} MusePanel;

// m, k: i64. accumulate: i1, whether C is added.
void muse_llvm_panel_product(MuseLlvm *ll, const MusePanel *panel, LLVMValueRef m, LLVMValueRef k, LLVMValueRef a,
                             LLVMValueRef b, LLVMValueRef c, LLVMValueRef accumulate);
// The same for any constant number of columns: panel by panel (panel->width is ignored).
void muse_llvm_panel_products(MuseLlvm *ll, const MusePanel *panel, int64_t columns, LLVMValueRef m, LLVMValueRef k,
                              LLVMValueRef a, LLVMValueRef b, LLVMValueRef c, LLVMValueRef accumulate);

// Copies `rows` (i64) rows of `columns` (constant) f32 from a matrix with the given row strides to another.
void muse_llvm_copy_rows(MuseLlvm *ll, int64_t columns, int64_t from_stride, int64_t to_stride, LLVMValueRef rows,
                         LLVMValueRef from, LLVMValueRef to);
// to[p][i] = from[i*stride + p] for i < width (constant, <= MUSE_PANEL_WIDTH) and p < k (i64): rows of `to` have
// MUSE_PANEL_WIDTH elements, of which those from `width` to the next multiple of the lanes become zero. Up to
// MUSE_PANEL_LANES rows of `to` behind the last are overwritten.
void muse_llvm_pack_transposed(MuseLlvm *ll, int64_t width, int64_t stride, LLVMValueRef k, LLVMValueRef from,
                               LLVMValueRef to);

// Small arithmetic on indices.
LLVMValueRef muse_llvm_times(MuseLlvm *ll, LLVMValueRef index, int64_t factor);
LLVMValueRef muse_llvm_plus(MuseLlvm *ll, LLVMValueRef index, int64_t addend);
LLVMValueRef muse_llvm_at_most(MuseLlvm *ll, LLVMValueRef index, int64_t most); // signed

#endif
