// cross_entropy and its gradient over a dense table, at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

typedef struct Inputs {
  int64_t V;
  double spread;
} Inputs;
static void fill(void *user, int index, MuseTensor *t) {
  const Inputs *in = user;
  const int64_t n = muse_type_elements(t->type);
  if (index == 2) { // targets; the first and the last token occur
    for (int64_t i = 0; i < n; i++) t->data[i] = (double)((i * 13 + 5) * (i + 2) % in->V);
    t->data[0] = (double)(in->V - 1);
    t->data[n - 1] = 0;
  } else if (index == 3) {
    t->data[0] = 0.25;
  } else {
    for (int64_t i = 0; i < n; i++) t->data[i] *= index == 0 ? in->spread : 0.3;
  }
}

static MuseHarnessReport run(int64_t N, int64_t V, int64_t D, bool grad, MuseHarness options, double spread) {
  char text[1024];
  const int n = (int)N, v = (int)V, d = (int)D;
  if (grad)
    snprintf(text, sizeof text,
             "func @f(%%0 : f32[%d,%d], %%1 : f32[%d,%d], %%2 : i32[%d], %%3 : f32[]) -> ({}, {}, {}) {\n"
             "  %%4, %%5, %%6 = cross_entropy_grad %%0, %%1, %%2, %%3 : f32[], f32[%d,%d], f32[%d,%d]\n  return %%4, "
             "%%5, %%6\n}",
             n, d, v, d, n, n, d, v, d);
  else
    snprintf(text, sizeof text,
             "func @f(%%0 : f32[%d,%d], %%1 : f32[%d,%d], %%2 : i32[%d]) -> ({}) {\n"
             "  %%3 = cross_entropy %%0, %%1, %%2 : f32[]\n  return %%3\n}",
             n, d, v, d, n);
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(grad ? "cross_entropy_grad" : "cross_entropy", text, &kernel);
  Inputs in = {V, spread};
  options.fill = fill;
  options.user = &in;
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  muse_module_destroy(module);
  return report;
}

static void check(int64_t N, int64_t V, int64_t D) {
  for (int grad = 0; grad < 2; grad++) {
    MuseHarnessReport r = run(N, V, D, grad, (MuseHarness){0}, 0.5);
    cr_assert_lt(r.error[0], 2e-7, "loss, N %d V %d D %d: %g", (int)N, (int)V, (int)D, r.error[0]);
    cr_assert_lt(r.worst, 2e-5, "N %d V %d D %d: %g %g", (int)N, (int)V, (int)D, r.error[1], r.error[2]);
  }
}

Test(emit_cross_entropy, one_of_each) { check(1, 1, 1); }
Test(emit_cross_entropy, odd) { check(7, 11, 5); }
Test(emit_cross_entropy, one_tile) { check(37, 257, 33); }
Test(emit_cross_entropy, tiles) { check(50, 391, 70); }
Test(emit_cross_entropy, blocks_of_everything) { check(301, 520, 150); }

// Logits of hundreds: exp must not overflow, and the loss is large.
Test(emit_cross_entropy, large_logits) {
  MuseHarnessReport r = run(19, 300, 40, true, (MuseHarness){0}, 300);
  cr_assert_lt(r.error[0], 1e-5, "%g", r.error[0]);
  cr_assert_lt(r.worst, 1e-2, "%g", r.worst);
}

static void plan(int64_t N, int64_t V, int64_t D, MuseKernelInfo *out) {
  MuseModule *module = muse_module_create("");
  MuseFunc *func = muse_func_create(module, "f");
  MuseType types[] = {muse_type2(MUSE_F32, N, D), muse_type2(MUSE_F32, V, D), muse_type1(MUSE_I32, N),
                      muse_scalar_type(MUSE_F32)};
  MuseValue *args[4];
  for (int i = 0; i < 4; i++) args[i] = muse_region_add_arg(module, &func->body, types[i]);
  MuseBuilder b = muse_builder_at_end(module, &func->body);
  MuseOp *op = muse_build_op(&b, MUSE_OP_cross_entropy_grad, 4, args, NULL);
  muse_op_append(muse_op_create(module, MUSE_OP_return, 3, op->results, 0, NULL), &func->body);
  MuseOp *kernel = muse_harness_outline(module, func, "cross_entropy_grad");
  muse_kernel_info(kernel, out);
  muse_module_destroy(module);
}

Test(emit_cross_entropy, workspace_is_bounded) {
  MuseKernelInfo info;
  plan(4096, 50257, 5120, &info);
  cr_assert_leq(info.workspace_bytes, 64 << 20);
  cr_assert_gt(info.loop_count, 1);
  plan(2048, 257, 128, &info);
  cr_assert_leq(info.loop_count, 1);
}

// A frozen table, or a gradient of the table alone: what nobody asks for is not among the results.
Test(emit_cross_entropy, some_results) {
  static const char *const returns[] = {"({}) {\n%s  return %%5\n}", "({}) {\n%s  return %%6\n}",
                                        "({}, {}) {\n%s  return %%5, %%4\n}"};
  for (size_t i = 0; i < sizeof returns / sizeof *returns; i++) {
    char tail[512], text[1024];
    snprintf(tail, sizeof tail, returns[i],
             "  %4, %5, %6 = cross_entropy_grad %0, %1, %2, %3 : f32[], f32[21,9], f32[70,9]\n");
    snprintf(text, sizeof text, "func @f(%%0 : f32[21,9], %%1 : f32[70,9], %%2 : i32[21], %%3 : f32[]) -> %s", tail);
    MuseOp *kernel;
    MuseModule *module = muse_harness_kernel("cross_entropy_grad", text, &kernel);
    Inputs in = {70, 0.5};
    MuseHarness options = {.fill = fill, .user = &in, .only_best = true, .no_cross = true};
    MuseHarnessReport report;
    muse_harness_run(module, kernel, &options, &report);
    cr_assert_lt(report.worst, 2e-5, "%g", report.worst);
    muse_module_destroy(module);
  }
}

// More tokens than one round takes: the sums over rounds, and a short last round.
Test(emit_cross_entropy, rounds) {
  MuseKernelInfo info;
  plan(420, 40000, 3, &info);
  cr_assert_gt(info.loop_count, 1);
  MuseHarnessReport r = run(420, 40000, 3, true, (MuseHarness){.only_best = true, .no_cross = true}, 0.5);
  cr_assert_lt(r.error[0], 2e-7, "%g", r.error[0]);
  cr_assert_lt(r.worst, 2e-5, "%g %g", r.error[1], r.error[2]);
}
