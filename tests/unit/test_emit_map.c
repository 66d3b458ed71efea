// Map and transpose kernels at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

static MuseHarnessReport run_text(const char *skeleton, const char *text, const MuseHarness *options) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(skeleton, text, &kernel);
  MuseHarnessReport report;
  muse_harness_run(module, kernel, options, &report);
  muse_module_destroy(module);
  return report;
}

Test(emit_map, add) {
  MuseHarnessReport r = run_text("map", "func @f(%0 : f32[3,5], %1 : f32[5]) -> ({}) {\n  %2 = add %0, %1 : f32[3,5]\n  return %2\n}", NULL);
  cr_assert_lt(r.worst, 1e-7, "%g", r.worst);
}

Test(emit_map, rms_norm_quantise) {
  MuseHarness h = {.round_storage = true, .time_repeats = 3};
  MuseHarnessReport r = run_text("map",
    "func @f(%0 : f32[37,123], %1 : f32[123]) -> ({}, {}) {\n"
    "  %2 = mul %0, %0 : f32[37,123]\n"
    "  %3 = reduce_sum %2 {axes = [1]} : f32[37,1]\n"
    "  %4 = const {value = 0.00813} : f32[]\n"
    "  %5 = mul %3, %4 : f32[37,1]\n"
    "  %6 = rsqrt %5 : f32[37,1]\n"
    "  %7 = mul %0, %6 : f32[37,123]\n"
    "  %8 = mul %7, %1 : f32[37,123]\n"
    "  %9 = abs %8 : f32[37,123]\n"
    "  %10 = reduce_max %9 {axes = [1]} : f32[37,1]\n"
    "  %11 = const {value = 127} : f32[]\n"
    "  %12 = div %11, %10 : f32[37,1]\n"
    "  %13 = mul %8, %12 : f32[37,123]\n"
    "  %14 = round %13 : f32[37,123]\n"
    "  %15 = cast %14 {to = i8} : i8[37,123]\n"
    "  return %15, %10\n}", &h);
  cr_assert_lt(r.worst, 1e-6, "%g", r.worst);
  cr_assert_leq(r.error[0], 1, "%g", r.error[0]);
  cr_assert_lt(r.differing[0], 1e-3);
}
