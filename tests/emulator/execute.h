#ifndef MUSE_TESTS_EMULATOR_EXECUTE_H
#define MUSE_TESTS_EMULATOR_EXECUTE_H

#include "tests/emulator/abi.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct EmuLaunch {
  const EmuKernel *kernel;
  const char *name;
  void **parameters;
  EmuIndex grid, size;
  unsigned dynamic_bytes, shared_limit; // shared memory asked for; what a block may have, static memory included
} EmuLaunch;

// Runs all blocks, on all cores. False: out_problem says what went wrong (a thread that waits for ever, a bad address).
bool emu_execute(const EmuLaunch *launch, char *out_problem, size_t problem_bytes);

// What the lanes in `mask` do together: operands[lane] of each; `shared` is the byte at address 0 of their block.
void emu_warp(unsigned kind, unsigned mask, void *const *operands, unsigned char *shared);

#endif
