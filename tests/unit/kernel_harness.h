#ifndef MUSE_TESTS_UNIT_KERNEL_HARNESS_H
#define MUSE_TESTS_UNIT_KERNEL_HARNESS_H

// One kernel against the oracle: the body is evaluated in f64 (muse_region_eval), the emitted code runs at every level
// that this machine has, with guard pages and red zones around all buffers, poisoned results, workspace and scratch,
// with the tasks in one call, one call a task, in reversed order and in odd pieces (all must give the same bits), and
// in place wherever that is allowed. Level amx runs with emulated tiles where nothing but they is missing. Objects for
// aarch64 and x86-64-v3 are made besides. Anything wrong but numbers fails the Criterion test with a sentence.

#include "compiler/emit.h"
#include "tests/unit/kernel_support.h"

// Overwrites the random values of operand `index` (t->data, then rounded to the storage type). The default: floats in
// [-2, 2], i8 in [-127, 127], u8 in [0, 255], other ints in [0, 15], bools and trits evenly.
typedef void (*MuseHarnessFill)(void *user, int index, MuseTensor *t);

typedef struct MuseHarness {
  MuseHarnessFill fill; // NULL: default values
  void *user;
  uint64_t seed;
  bool round_storage; // eval rounds every value to its type (for bodies that quantise)
  bool no_cross;      // do not compile for other targets (when a case is repeated with other values)
  bool only_best;     // only the best level of the machine
  int time_repeats;   // > 0: measure the best level, one thread, this many repeats
} MuseHarness;

enum { MUSE_HARNESS_MAX_RESULTS = 32 };
typedef struct MuseHarnessReport {
  double worst;                               // of all float results at all levels
  double error[MUSE_HARNESS_MAX_RESULTS];     // floats: max |x - ref| / (|ref| + rms(ref)); others: max |x - ref|
  double ulps[MUSE_HARNESS_MAX_RESULTS];      // f32 and f64: max |x - ref| in units of the last place of ref
  double differing[MUSE_HARNESS_MAX_RESULTS]; // share of elements that differ from the reference (int results)
  double compile_seconds;                     // of the last level
  double seconds;                             // best time of a run (time_repeats)
  size_t object_bytes;                        // of the last level
  int64_t emulated_tiles;                     // instructions of AMX that were emulated
} MuseHarnessReport;

void muse_harness_run(MuseModule *module, const MuseOp *kernel, const MuseHarness *options,
                      MuseHarnessReport *out_report);

// Text of tensor-level ops to one kernel op (appended to a function of its own in the returned module):
//   muse_harness_kernel("map", "func @f(%0 : f32[3,5]) -> ({}) {\n %1 = exp %0 : f32[3,5]\n return %1\n}", &kernel)
// The function's arguments become the kernel's operands, its returns the results. rng_id attributes become list
// indices.
MuseModule *muse_harness_kernel(const char *skeleton, const char *text, MuseOp **out_kernel);

const MuseCpuModule *muse_harness_module(void); // the loaded libmuse-cpu.so

// Level amx on a machine that has all of it but the tiles, whose instructions are emulated then (tile_emulator.h).
bool muse_harness_emulates_tiles(MuseCpuTarget *out_target);

#endif
