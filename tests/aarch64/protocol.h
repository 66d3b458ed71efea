#ifndef MUSE_TESTS_AARCH64_PROTOCOL_H
#define MUSE_TESTS_AARCH64_PROTOCOL_H

#include <stdint.h>

// What the harness of the kernels and the program that runs them (runner.c, on an emulated aarch64 processor) say to
// each other: one request and one reply at a time, over pipes. Buffers stand in memory that both share, a file at
// descriptor MUSE_FOREIGN_FILE, and at the same address for both: offset + MUSE_FOREIGN_BASE. The runner maps only
// what it is told to, so that what stands between buffers raises a fault.

enum { MUSE_FOREIGN_FILE = 3 };
#define MUSE_FOREIGN_BASE UINT64_C(0x200000000000)

typedef enum MuseForeignRequestKind {
  MUSE_FOREIGN_MAP,    // address, bytes: whole pages of the file
  MUSE_FOREIGN_UNMAP,  // address, bytes
  MUSE_FOREIGN_LOAD,   // address, bytes: an object file there (ELF, relocatable); replaces the one loaded before
  MUSE_FOREIGN_LOOKUP, // name -> value: the address of the function
  MUSE_FOREIGN_CALL,   // address of a function; buffers, begin, end, scratch, iteration: what a MuseKernelFn takes
} MuseForeignRequestKind;

typedef struct MuseForeignRequest {
  uint64_t kind, address, bytes;
  uint64_t buffers, scratch;
  int64_t begin, end, iteration;
  char name[96];
} MuseForeignRequest;

typedef struct MuseForeignReply {
  uint64_t value;
  char problem[152]; // empty: none
} MuseForeignReply;

#endif
