#ifndef MUSE_TESTS_UNIT_FOREIGN_CPU_H
#define MUSE_TESTS_UNIT_FOREIGN_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Kernels on an emulated processor: qemu-aarch64 runs tests/aarch64/runner.c, which loads the objects and calls their
// functions; buffers stand in memory shared with it, at the same addresses. Anything that goes wrong fails the
// Criterion test with a sentence.

// Is it wanted? MUSE_TEST_CPU=aarch64 in the environment makes the harness run all kernels so, and only so. Where the
// emulator or the compiler for the runner was missing when the tests were built, this skips the test.
bool muse_foreign_wanted(void);

// The processor for what follows: one with no more than the baseline, or one with the dot products of int8.
void muse_foreign_choose(bool dot_products);

// Whole pages, shared with both processors; the page behind them is theirs to fault on.
void *muse_foreign_map(size_t bytes);
void muse_foreign_unmap(void *memory, size_t bytes);

// An object on the chosen processor, in place of the one before; its functions; a call.
void muse_foreign_load(const void *object, size_t bytes);
uint64_t muse_foreign_lookup(const char *name);
void muse_foreign_call(const char *level, uint64_t function, void **buffers, int64_t begin, int64_t end, void *scratch,
                       int64_t iteration);

#endif
