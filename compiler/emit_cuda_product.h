#ifndef MUSE_COMPILER_EMIT_CUDA_PRODUCT_H
#define MUSE_COMPILER_EMIT_CUDA_PRODUCT_H

// What the CUDA emitters of matrix products share: what a kernel of the skeletons matmul, ternary_matmul and
// int8_matmul computes (skel_matmul.h), and its epilogues as CUDA C.

#include "compiler/emit_cuda_kernel.h"
#include "compiler/skel_matmul.h"

enum { MUSE_CUDA_MAX_PRODUCT_RESULTS = 64 };

// One anchor C[M,N] = sum over K, and the results that follow from it.
typedef struct MuseCudaProduct {
  const MuseOp *anchor;
  int64_t M, N, K;
  int a, b;                         // the parameters a%d that hold the left and the right operand
  MuseDtype a_dtype, b_dtype, sum;  // sum: of C, F32 or I32
  bool a_k_first, b_k_first;        // stored as [K,M], [K,N]; else as [M,K], [N,K]
  int64_t a_pitch, b_pitch;         // from one stored row to the next, in elements; of trits in bytes
  int n_results;
  int result[MUSE_CUDA_MAX_PRODUCT_RESULTS]; // the results r%d
  MuseCudaBody body;                // of the epilogue; its domain is [M,N]
} MuseCudaProduct;

typedef struct MuseCudaProducts {
  MuseCudaEmitter *e;
  int n;
  MuseCudaProduct product[MUSE_MAX_ANCHORS];
} MuseCudaProducts;

// copy_async, copy_commit, copy_wait<N>, shared_address, load_fragments (ldmatrix), mma_bytes<A_CODES, B_CODES>: a text
// to be put in front of the functions that use it; it is compiled once, however often it stands in a program.
const char *muse_cuda_product_prelude(void);

void muse_cuda_products_create(MuseCudaProducts *out, MuseCudaEmitter *e);
// The first thing that an epilogue could not be written for, with its sentence in e->diag; frees the bodies.
MuseStatus muse_cuda_products_destroy(MuseCudaProducts *products);

// The most columns, a power of two up to `most`, that neighbouring loads and stores of an epilogue may take at once:
// rows of N elements start at multiples of them.
int muse_cuda_epilogue_vector(const MuseCudaProduct *p, int most);
// Columns after which what a thread reads and writes of one row comes to 16 bytes of the narrowest tensor, at most 8.
int muse_cuda_epilogue_best_vector(const MuseCudaProduct *p);

// The epilogue in three steps, each in the scope of the one before; all may be written again in other scopes and
// functions. Indentation is p->body.depth. Callers keep rows and columns within [M,N].
//   begin:   declares what is the same everywhere (once a thread)
//   at_row:  reads the text's variable `row` (unsigned or int); declares what is the same in the row
//   columns: reads `row`, `column` (int, a multiple of V) and the array `sums` of V sums (float or int) of the columns
//            from there on; computes all results of the anchor and then stores them. V divides N, or N is 1 and V is 1.
//            Declares names of its own: to be put in braces. It is `values`, which leaves the results r%d in arrays y%d
//            of V, and then `store`.
// Two threads never work on the same place, since a result may stand in place of an operand.
void muse_cuda_epilogue_begin(MuseCudaProduct *p);
void muse_cuda_epilogue_at_row(MuseCudaProduct *p);
void muse_cuda_epilogue_values(MuseCudaProduct *p, int V, const char *sums);
void muse_cuda_epilogue_store(MuseCudaProduct *p);
void muse_cuda_epilogue_columns(MuseCudaProduct *p, int V, const char *sums);

#endif
