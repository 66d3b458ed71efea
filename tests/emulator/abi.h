// What compiled kernels (C++, by device.h) and the software GPU that runs them (C) know of each other. Only built-in
// types, since kernels are compiled without any header.
#ifndef MUSE_TESTS_EMULATOR_ABI_H
#define MUSE_TESTS_EMULATOR_ABI_H

enum {
  EMU_STACK = 1 << 18, // bytes of a thread's stack, and what it is aligned to
  EMU_SHARED_BEGIN = 1024, // address in shared memory of the first byte that a block has
  EMU_SHARED_WINDOW = 1 << 19 // shared memory of the blocks of a cluster lies so far apart
};

typedef struct EmuIndex {
  unsigned x, y, z;
} EmuIndex;

// What lanes of a warp do together. The structs hold operands and results of one lane.
enum {
  EMU_WARP_SYNC,
  EMU_WARP_SHUFFLE,
  EMU_WARP_BALLOT,
  EMU_WARP_LDMATRIX,
  EMU_WARP_LDMATRIX_TRANS,
  EMU_WARP_MMA // + type and shape
};
enum { EMU_MMA_BF16_K16, EMU_MMA_F16_K16, EMU_MMA_F16_K8, EMU_MMA_TF32_K8, EMU_MMA_BYTES_K32, EMU_MMA_BYTES_M8 };

typedef struct EmuShuffle {
  unsigned long long value, result;
  int from; // lane; one that is not there leaves the value
} EmuShuffle;
typedef struct EmuBallot {
  unsigned vote, result;
} EmuBallot;
typedef struct EmuLdmatrix {
  unsigned address, result[4];
} EmuLdmatrix;
typedef struct EmuMma {
  unsigned a[4], b[2], c[4], d[4]; // bits
  unsigned char a_is_signed, b_is_signed;
} EmuMma;

// EmuThread lies in the first page of the stack; not at one place of all pages, which would share a set of the cache.
#define EMU_THREAD_AT(STACK) ((STACK) + ((STACK) / EMU_STACK % 32 * 128))

typedef struct EmuHost {
  void (*barrier)(unsigned id, unsigned threads); // 0 threads: the whole block
  void (*warp)(unsigned kind, unsigned mask, void *operands);
  void *(*static_shared)(const void *key, unsigned bytes, unsigned alignment);
  void (*copy_later)(void *to, const void *from, unsigned bytes, unsigned from_bytes); // cp.async; the rest is zeros
  void (*copy_commit)(void);
  void (*copy_wait)(unsigned pending); // until at most so many groups are to be copied
  void (*yield)(void);
  void (*fail)(const char *what); // ends the launch; does not return
} EmuHost;

typedef struct EmuBlock {
  EmuIndex index, grid, size;
  unsigned char *shared; // its byte at address 0
  unsigned dynamic_bytes, cluster_rank, cluster_blocks;
} EmuBlock;

typedef struct EmuThread {
  EmuIndex index;
  unsigned lane;
  EmuBlock *block;
  const EmuHost *host;
} EmuThread;

// A kernel as its module exports it, under the name "emu_kernel_NAME".
typedef struct EmuKernel {
  void (*call)(void **parameters);
  const unsigned *parameter_bytes;
  int n_parameters, cluster_blocks, max_threads, arch;
} EmuKernel;

#endif
