#ifndef MUSE_COMPILER_EMIT_CUDA_GEMM_H
#define MUSE_COMPILER_EMIT_CUDA_GEMM_H

// Tiles of floating-point matrix products as CUDA C, for every emitter that multiplies: the text of
// muse_cuda_gemm_prelude (append it in front of the kernel's first function; it guards itself) has, in namespace gemm,
//
//   Matrix<T>{p, stride, rows, columns}   a matrix in memory; reads outside of it are zeros
//   GemmTile<...>, FmaTile<...>           a block's tile of C[m][n] = sum over k of A(m,k) B(n,k), in its registers
//   few_rows<...>                         at most 8 rows of A, whose B is streamed
//   tile_at(number, tiles_m, tiles_n, m, n)
//
// A kernel uses a tile (type G of muse_cuda_tile_type, blocks of muse_cuda_tile_threads, muse_cuda_tile_shared_bytes of
// dynamic shared memory, which is called gemm_shared) so:
//
//   G g; g.clear();
//   g.multiply(gemm::Matrix<TA>{a, stride, rows, columns}, gemm::Matrix<TB>{b, ..}, m0, n0, k_begin, k_end,
//              gemm_shared);
//   g.each([&](int row, int column, float &x, float &y) { .. });  // C(m0+row, n0+column) and the column after it
//
// multiply adds to the sums, so it may be called several times; between calls, and before gemm_shared is used for
// something else, stands a __syncthreads(). k_begin is a multiple of 8, k_end too unless it is K. Rows and columns of
// the tile beyond the matrices are zero.
//
// Precision: a side whose dtype is that of `compute` is taken as it is; f32 in one plane is rounded to `compute`; f32
// in two planes of bf16 keeps 17 bits; in three it keeps all, and sums are as exact as with f32 arithmetic. trits are
// exact.
#include "compiler/cuda_target.h"
#include "ir/base/str.h"
#include "ir/type.h"

typedef struct MuseCudaSide { // an operand of a product
  MuseDtype dtype;            // F32, BF16, F16, T2 (by_k)
  bool by_k;                  // stored as [M,K] or [N,K]; else as [K,M] or [K,N]
  int64_t pitch;              // from one stored row to the next, in elements (of trits in bytes)
  int planes;                 // filled by muse_cuda_tile_choose: 1; of f32 also 2 or 3
} MuseCudaSide;

typedef struct MuseCudaTile {
  bool fma; // on the FMA units, in f32
  MuseDtype compute;
  int bm, bn, bk, warps_m, warps_n, stages;
  MuseCudaSide a, b;
} MuseCudaTile;

// A tile that suits a product of [M,N] over K. exact: f32 operands beside 16-bit ones keep 17 bits.
void muse_cuda_tile_choose(MuseCudaTarget target, MuseCudaSide a, MuseCudaSide b, int64_t M, int64_t N, bool exact,
                           MuseCudaTile *out);
// Of that size (bm, bn multiples of 16 per warp row and 16 per warp column; FMA tiles: 32, 64 or 128 and 8 warps).
void muse_cuda_tile_type(const MuseCudaTile *tile, MuseStr *out);
// "gemm::Matrix<T>{(const T *)name, pitch, rows, columns}", columns being those that lie together in memory.
void muse_cuda_side_matrix(const MuseCudaSide *side, const char *name, int64_t rows, int64_t columns, MuseStr *out);
// Elements of a row that can be read at once, at most 16 bytes.
int muse_cuda_side_vector(const MuseCudaSide *side);
int muse_cuda_tile_threads(const MuseCudaTile *tile);
int muse_cuda_tile_shared_bytes(const MuseCudaTile *tile);
// Multiprocessors of a common GPU of an architecture: how much work is cut, which must not depend on the GPU at hand.
int muse_cuda_common_sms(MuseCudaTarget target);
const char *muse_cuda_gemm_prelude(void);
// Behind it: gemm::StreamTile (used by emit_cuda_matmul_stream.c).
const char *muse_cuda_gemm_stream_prelude(void);
// For sm_90a, behind muse_cuda_gemm_prelude, muse_cuda_hopper_prelude and muse_cuda_write_wgmma: gemm::HopperTile, and
// gemm::write_planes, which converts an operand for it (used by emit_cuda_matmul_hopper.c).
const char *muse_cuda_gemm_hopper_prelude(void);

#endif
