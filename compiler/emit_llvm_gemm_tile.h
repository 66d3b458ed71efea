#ifndef MUSE_COMPILER_EMIT_LLVM_GEMM_TILE_H
#define MUSE_COMPILER_EMIT_LLVM_GEMM_TILE_H

// Generated f32 matrix products and layout changes on tiles that lie in scratch (or anywhere with these strides). Each
// distinct description becomes one internal function of the module, so calling the same product twice costs one call.
//
//   C[m,n] = A[m,k] B[k,n]   or, with `accumulate`, C += A B
//   A(i,p) = a[i*a_row + p*a_col]: any strides, so a transposed A is free (its elements are broadcast)
//   B(p,j) = b[p*ldb + j], C(i,j) = c[i*ldc + j]: rows contiguous
// All sizes are constants; strides count elements. Any n: the last vector of a row is masked. The order of the sum over
// k is ascending and depends on nothing but the description (see UPPER); C is added last.
//
// Block k yourself when B (k x 4 vectors) does not fit the first-level cache.

#include "compiler/emit_llvm_builder.h"

typedef enum MuseGemmShape {
  MUSE_GEMM_FULL,
  MUSE_GEMM_LOWER, // k = m: A is lower triangular; elements above the diagonal, and the rows of B they meet, are not
                   // touched
  MUSE_GEMM_UPPER, // k = m: A is upper triangular; the diagonal block of a row is summed first
  MUSE_GEMM_LOWER_OUT, // only C(i,j) with j <= i is needed; of the rest some is computed, some is left alone
} MuseGemmShape;

typedef struct MuseGemmTile {
  int64_t m, n, k;
  int64_t a_row, a_col, ldb, ldc;
  MuseGemmShape shape;
  bool accumulate;
} MuseGemmTile;

void muse_llvm_gemm_tile(MuseLlvm *ll, const MuseGemmTile *tile, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);

// The same product, which meanwhile asks memory for what comes next: `n` pieces, each `rows` rows of `bytes`, `stride`
// bytes apart (they need not exist: a prefetch never faults), spread evenly over the rows of C.
enum { MUSE_GEMM_MAX_PREFETCH = 8 };
typedef struct MusePrefetchPiece {
  LLVMValueRef from;
  int64_t rows, stride, bytes;
} MusePrefetchPiece;
typedef struct MuseGemmPrefetch {
  int n;
  MusePrefetchPiece of[MUSE_GEMM_MAX_PREFETCH];
} MuseGemmPrefetch;
void muse_llvm_gemm_tile_prefetching(MuseLlvm *ll, const MuseGemmTile *tile, const MuseGemmPrefetch *prefetch,
                                     LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);

// The number of columns rounded up to whole vectors of the target: row stride of padded tiles.
int64_t muse_llvm_pad(const MuseLlvm *ll, int64_t columns);

// Copies rows of `columns` f32, `stride` elements apart, into to[rows][pad(columns)]: rows from `valid` (i64) on and
// padding columns become zero.
void muse_llvm_pack_rows(MuseLlvm *ll, int64_t rows, int64_t columns, int64_t stride, LLVMValueRef from,
                         LLVMValueRef valid, LLVMValueRef to);
// The reverse: stores the first `valid` rows of from[rows][pad(columns)]; with `add`, from and add (same layout) are
// summed.
void muse_llvm_unpack_rows(MuseLlvm *ll, int64_t columns, int64_t stride, LLVMValueRef from, LLVMValueRef add_or_null,
                           LLVMValueRef valid, LLVMValueRef to);
// to[i*stride + j] += from[i][j] for the first `valid` rows.
void muse_llvm_accumulate_rows(MuseLlvm *ll, int64_t columns, int64_t stride, LLVMValueRef from, LLVMValueRef valid,
                               LLVMValueRef to);
// to[columns][rows] = from[rows][columns] transposed; rows and columns are multiples of the vector's lanes.
void muse_llvm_transpose_tile(MuseLlvm *ll, int64_t rows, int64_t columns, LLVMValueRef from, LLVMValueRef to);

// ---- internal functions of a module ----
// Looks a helper function up by name; when it is new, creates it (internal, with the attributes of the stage under
// construction, returning nothing) and moves the builder into it, and *out_new is true: emit the body, then call
// muse_llvm_helper_end. Arguments are LLVMGetParam of the result.
typedef struct MuseLlvmHelper {
  LLVMValueRef function;
  LLVMTypeRef type;
  LLVMValueRef outer_function;
  LLVMBasicBlockRef outer_entry, outer_block;
} MuseLlvmHelper;
bool muse_llvm_helper_begin(MuseLlvm *ll, const char *name, const LLVMTypeRef *params, int n_params,
                            MuseLlvmHelper *out);
void muse_llvm_helper_end(MuseLlvm *ll, MuseLlvmHelper *helper);
void muse_llvm_helper_call(MuseLlvm *ll, const MuseLlvmHelper *helper, LLVMValueRef *args, int n_args);

#endif
