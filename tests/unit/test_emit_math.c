// Accuracy of the vectorised mathematical functions, in units of the last place, over their whole range.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>

typedef struct Range {
  double low, high;
  bool logarithmic, specials;
} Range;

static void fill_range(void *user, int index, MuseTensor *t) {
  const Range *r = user;
  static const double special[] = {0,     -0.0,  INFINITY, -INFINITY, NAN,      1,     -1,     1e-45,     -1e-45,
                                   1e-39, 3e38,  -3e38,    88.7,      88.8,     -87.4, -103.9, -104.1,    0.5,
                                   2,     1e-10, -1e-10,   0.625,     0.624999, 9.0,   -9.0,   1.0000001, 0.9999999};
  int64_t n = muse_type_elements(t->type), n_special = r->specials ? (int64_t)(sizeof special / sizeof *special) : 0;
  for (int64_t i = 0; i < n; i++) {
    double u = (double)i / (double)n;
    t->data[i] = i < n_special    ? special[i]
                 : r->logarithmic ? exp(log(r->low) + u * (log(r->high) - log(r->low)))
                                  : r->low + u * (r->high - r->low);
    if (r->logarithmic && i % 2 && r->specials) t->data[i] = -t->data[i];
  }
}

static void check_op(const char *op, const char *dtype, Range range, double bound) {
  char text[400];
  snprintf(text, sizeof text, "func @f(%%0 : %s[40003]) -> ({}) {\n  %%1 = %s %%0 : %s[40003]\n  return %%1\n}", dtype,
           op, dtype);
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel("map", text, &kernel);
  MuseHarness h = {.fill = fill_range, .user = &range};
  MuseHarnessReport r;
  muse_harness_run(module, kernel, &h, &r);
  muse_module_destroy(module);
  printf("%-10s %s [%g, %g]%s: %.2f ulp\n", op, dtype, range.low, range.high, range.specials ? " with specials" : "",
         r.ulps[0]);
  fflush(stdout);
  cr_expect_lt(r.ulps[0], bound, "%s of %s in [%g, %g]: %g ulp", op, dtype, range.low, range.high, r.ulps[0]);
}

static const Range wide = {-110, 100, false, true}, small = {1e-12, 30, true, true},
                   positive = {1e-44, 3e38, true, false}, near_one = {0.5, 2, false, false},
                   unit = {-1.5, 1.5, false, true};

Test(emit_math, exp) {
  check_op("exp", "f32", wide, 1.5);
  check_op("exp", "f32", unit, 1.5);
  check_op("exp", "f64", wide, 2);
}

Test(emit_math, log) {
  check_op("log", "f32", positive, 1.5);
  check_op("log", "f32", near_one, 1.5);
  check_op("log", "f32", wide, 1.5);
  check_op("log", "f64", positive, 2);
  check_op("log", "f64", near_one, 2);
}

Test(emit_math, tanh) {
  check_op("tanh", "f32", wide, 2);
  check_op("tanh", "f32", small, 2);
  check_op("tanh", "f64", wide, 8);
  check_op("tanh", "f64", small, 8);
}

Test(emit_math, sigmoid) {
  check_op("sigmoid", "f32", wide, 2.5);
  check_op("sigmoid", "f32", unit, 2.5);
  check_op("sigmoid", "f64", wide, 3);
}

Test(emit_math, softplus) {
  check_op("softplus", "f32", wide, 2.5);
  check_op("softplus", "f32", small, 2.5);
  check_op("softplus", "f64", wide, 3);
}

Test(emit_math, roots) {
  check_op("rsqrt", "f32", positive, 1.5);
  check_op("sqrt", "f32", positive, 0.51);
  check_op("recip", "f32", wide, 0.51);
  check_op("rsqrt", "f64", positive, 1.6);
}

Test(emit_math, rounding) {
  check_op("round", "f32", wide, 1e-9);
  check_op("round", "f32", (Range){-4, 4, false, true}, 1e-9);
  check_op("floor", "f32", wide, 1e-9);
  check_op("floor", "f64", small, 1e-9);
  check_op("round", "f64", positive, 1e-9);
}
