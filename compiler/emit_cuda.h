#ifndef MUSE_COMPILER_EMIT_CUDA_H
#define MUSE_COMPILER_EMIT_CUDA_H

#include "compiler/cuda_target.h"
#include "compiler/kernel_info.h"
#include "ir/base/str.h"

// A kernel as CUDA C, and how it is launched. The text depends on the kernel, the architecture and the variant only,
// never on the GPU or the process, so it is the key of the cache.
//
// Launch s of a kernel named N is the function "N_s"; launches follow each other on one stream. Parameters, in this
// order: the device pointers of the operands of the kernel op, of its results, of the workspace; when the kernel has
// `rng_ids`, the ids as one struct of uint64_t by value; the tensor maps of the launch (CUtensorMap by value, named
// map0..); and, when the launches loop, the iteration number as an int. All pointers are 64-byte aligned, that of the
// workspace 256-byte aligned. A result may be the same memory as an operand where muse_kernel_allows_in_place says so.
//
// The workspace of a GPU is its own (MuseCudaLaunches.workspace_bytes), not that of the memory plan, which is cut for
// the CPU: a stream runs one kernel after another, so a device needs one workspace, as large as the largest.
enum { MUSE_CUDA_MAX_LAUNCHES = 8, MUSE_CUDA_MAX_MAPS = 6 };

// A matrix as the bulk tensor copy engine of sm_90 and newer sees it (cuTensorMapEncodeTiled; PTX ISA, "Tensors"):
// `rows` of `columns` elements, row_bytes apart (a multiple of 16), copied in boxes. Outside of it zeros are read.
typedef struct MuseCudaTensorMap {
  int buffer;       // operands first, then results, then the workspace
  int64_t offset;   // in bytes, a multiple of 16
  MuseDtype dtype;  // I8, U8, BF16, F16 or F32
  int64_t rows, columns, row_bytes;
  int box_rows, box_columns; // at most 256 each
  int swizzle;      // 0, 32, 64 or 128 bytes
} MuseCudaTensorMap;

typedef struct MuseCudaLaunch {
  int64_t grid_x, grid_y; // blocks: below 2^31 and 65536
  int block;              // threads
  int shared_bytes;       // dynamic shared memory; above 48 KiB the limit of the function is raised when it is loaded
  int cluster;            // blocks of a cluster, along x (sm_90 and newer); 0 or 1: none
  bool waits_itself;      // the emitter writes grid_wait(), and may write grid_start_next(); otherwise they come first
  int min_blocks;         // that shall fit a multiprocessor, as __launch_bounds__ says; 0: not said. setmaxnreg needs 1
  int n_maps;
  MuseCudaTensorMap map[MUSE_CUDA_MAX_MAPS];
} MuseCudaLaunch;

typedef struct MuseCudaLaunches {
  int n;
  MuseCudaLaunch launch[MUSE_CUDA_MAX_LAUNCHES];
  int64_t workspace_bytes; // contents undefined at the start
  // Launches loop_first..loop_last are repeated loop_count times, in order (loop_count 0 or 1: no loop). In a kernel
  // that loops every function takes the iteration number, which is 0 outside the loop.
  int loop_first, loop_last;
  int64_t loop_count;
  // The functions wait themselves for the launches before them (sm_90 and newer), so they may be started while those
  // run, with the launch attribute "programmatic stream serialization"; muse_cubin_waits_first says which of them.
  bool overlaps;
  int n_variants; // ways to compute the same that may be tried for speed, variant 0 being the default; at least 1
} MuseCudaLaunches;

// Appends the functions of one kernel to *out_source; muse_cuda_prelude stands once in front of them. A skeleton
// without an emitter, and a body that the emitter cannot take, are MUSE_ERR_FAILED with a sentence.
// `variant` below n_variants of the kernel on this target (variant 0 tells how many there are).
MuseStatus muse_cuda_emit(const MuseOp *kernel, const char *name, MuseCudaTarget target, int variant,
                          MuseStr *out_source, MuseCudaLaunches *out_launches, MuseDiag *diag);
// What the functions of all kernels call. Needs no include folder.
const char *muse_cuda_prelude(void);

#endif
