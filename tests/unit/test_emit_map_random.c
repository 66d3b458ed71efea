// Random map kernels (random_map.c) on the CPU at every level of the machine.

#include "ir/text.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/random_map.h"

#include <criterion/criterion.h>

#include <stdio.h>

static void run_random(uint32_t seed) {
  MuseOp *kernel;
  MuseModule *module = muse_random_map(seed, &kernel);
  MuseHarness h = {.round_storage = true, .seed = seed, .no_cross = seed % 4 != 0};
  MuseHarnessReport r;
  muse_harness_run(module, kernel, &h, &r);
  bool bad = false;
  for (int o = 0; o < kernel->n_results; o++) bad |= !muse_random_map_is_right(kernel, o, r.error[o]);
  if (bad) {
    MuseStr text = {0};
    muse_func_print(module->first_func, &text);
    fprintf(stderr, "%s\n", muse_str_text(&text));
    for (int o = 0; o < kernel->n_results; o++)
      fprintf(stderr, "result %d: error %g, %g of the elements differ\n", o, r.error[o], r.differing[o]);
    muse_str_free(&text);
    cr_assert_fail("seed %u: worst error %g", seed, r.worst);
  }
  muse_module_destroy(module);
}

#ifndef RANDOM_KERNELS
#define RANDOM_KERNELS 30
#endif
Test(emit_map_random, first) {
  for (uint32_t s = 0; s < RANDOM_KERNELS; s++) run_random(s);
}
Test(emit_map_random, second) {
  for (uint32_t s = 1000; s < 1000 + RANDOM_KERNELS; s++) run_random(s);
}
