// Structured kernels on bf16 and f16 tensors (compiler/skel_widen.h) against the oracle, which rounds results to their
// type: what is left is the difference of f32 and f64 sums, and now and then one unit of the 16-bit type.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

// What an operand is for its values' sake.
static void fill(void *user, int index, MuseTensor *t) {
  const char *kind = user; // a letter an operand: x values, u rows of small vectors, d documents, t tokens, e, g, r, s
  const int64_t n = muse_type_elements(t->type);
  for (int64_t i = 0; i < n; i++) {
    const double v = (double)(((i + 1) * 2654435761u + (unsigned)index * 40503u) % 65536) / 65536;
    switch (kind[index]) {
      case 'u': t->data[i] = 0.3 * (2 * v - 1); break;
      case 'd': t->data[i] = i % t->type.dim[1] < 20 ? 0 : 20; break;
      case 't': t->data[i] = (double)((i * 13 + 5) * (i + 2) % 11); break;
      case 'e': t->data[i] = 0.6 - 0.5 * v; break; // 1 + Re g
      case 'g': t->data[i] = 0.3 * v - 0.05; break; // Im g
      case 'r': t->data[i] = 0.05 + 3 * v; break;   // radius
      case 's': t->data[i] = 0.5 + 4 * v; break;
      default: t->data[i] = 2 * v - 1;
    }
  }
}

// `text` with N for each 16-bit type; results in f32 are held to a narrower bar.
static void check(const char *skeleton, const char *fills, const char *text) {
  static const char *const types[] = {"bf16", "f16"};
  for (int k = 0; k < 2; k++) {
    char out[2048];
    size_t at = 0;
    for (const char *p = text; *p; p++) {
      cr_assert_lt(at + 8, sizeof out);
      if (*p == 'N') at += (size_t)snprintf(out + at, sizeof out - at, "%s", types[k]);
      else out[at++] = *p;
    }
    out[at] = 0;
    MuseOp *kernel;
    MuseModule *module = muse_harness_kernel(skeleton, out, &kernel);
    MuseHarness options = {.fill = fill, .user = (void *)fills, .seed = 1, .round_storage = true};
    MuseHarnessReport report;
    muse_harness_run(module, kernel, &options, &report);
    for (int i = 0; i < kernel->n_results; i++) {
      const MuseDtype dtype = kernel->results[i]->type.dtype;
      const double bar = dtype == MUSE_F32 ? 5e-5 : dtype == MUSE_F16 ? 1e-3 : 8e-3; // one unit
      cr_expect_lt(report.error[i], bar, "%s of %s: result %d is off by %g", skeleton, types[k], i, report.error[i]);
    }
    muse_module_destroy(module);
  }
}

Test(emit_widen, resolvent) {
  check("resolvent_scan", "xxxegd",
        "func @f(%0 : N[2,70,3,20], %1 : N[2,70,3,20], %2 : N[2,70,3,20], %3 : f32[2,70,3], %4 : f32[2,70,3], %5 : "
        "i32[2,70]) -> ({}) {\n"
        "  %6 = resolvent_scan %0, %1, %2, %3, %4, %5 : N[2,70,3,20]\n  return %6\n}");
}

Test(emit_widen, resolvent_gradient) {
  check("resolvent_scan_grad", "xxxegdx",
        "func @f(%0 : N[2,70,3,20], %1 : N[2,70,3,20], %2 : N[2,70,3,20], %3 : f32[2,70,3], %4 : f32[2,70,3], %5 : "
        "i32[2,70], %6 : N[2,70,3,20]) -> ({}, {}, {}, {}, {}) {\n"
        "  %7, %8, %9, %10, %11 = resolvent_scan_grad %0, %1, %2, %3, %4, %5, %6 : N[2,70,3,20], N[2,70,3,20], "
        "N[2,70,3,20], f32[2,70,3], f32[2,70,3]\n  return %7, %8, %9, %10, %11\n}");
}

Test(emit_widen, window) {
  check("window_attention", "xxxd",
        "func @f(%0 : N[2,70,2,20], %1 : N[2,70,2,20], %2 : N[2,70,2,20], %3 : i32[2,70]) -> ({}) {\n"
        "  %4 = window_attention %0, %1, %2, %3 {window = 40, score = \"dot\"} : N[2,70,2,20]\n  return %4\n}");
}

Test(emit_widen, window_gradient) {
  check("window_attention_grad", "uuxdrrsx",
        "func @f(%0 : N[1,150,2,8], %1 : N[1,150,2,8], %2 : N[1,150,2,8], %3 : i32[1,150], %4 : f32[1,150,2], %5 : "
        "f32[1,150,2], %6 : f32[2], %7 : N[1,150,2,8]) -> ({}, {}, {}, {}, {}, {}) {\n"
        "  %8, %9, %10, %11, %12, %13 = window_attention_grad %0, %1, %2, %3, %4, %5, %6, %7 {window = 200, score = "
        "\"hyperbolic\"} : N[1,150,2,8], N[1,150,2,8], N[1,150,2,8], f32[1,150,2], f32[1,150,2], f32[2]\n"
        "  return %8, %9, %10, %11, %12, %13\n}");
}

Test(emit_widen, head) {
  check("cross_entropy", "xut",
        "func @f(%0 : N[37,33], %1 : N[11,33], %2 : i32[37]) -> ({}) {\n"
        "  %3 = cross_entropy %0, %1, %2 : f32[]\n  return %3\n}");
  check("cross_entropy_grad", "xuts",
        "func @f(%0 : N[37,33], %1 : N[11,33], %2 : i32[37], %3 : f32[]) -> ({}, {}, {}) {\n"
        "  %4, %5, %6 = cross_entropy_grad %0, %1, %2, %3 : f32[], N[37,33], f32[11,33]\n  return %4, %5, %6\n}");
}

// Many rounds of tokens: the loop of stages stands between the conversions.
Test(emit_widen, head_in_rounds) {
  check("cross_entropy_grad", "xuts",
        "func @f(%0 : N[420,3], %1 : N[40000,3], %2 : i32[420], %3 : f32[]) -> ({}, {}) {\n"
        "  %4, %5, %6 = cross_entropy_grad %0, %1, %2, %3 : f32[], N[420,3], f32[40000,3]\n  return %4, %5\n}");
}

Test(emit_widen, tensor_train) {
  check("tt_gather", "xxxt",
        "func @f(%0 : N[4,2,3], %1 : N[3,2,5], %2 : f32[2], %3 : i32[2,9]) -> ({}) {\n"
        "  %4 = tt_gather %0, %1, %2, %3 {dim = 13} : N[2,9,13]\n  return %4\n}");
  check("tt_gather_grad", "xxxxt",
        "func @f(%0 : N[2,9,13], %1 : N[4,2,3], %2 : N[3,2,5], %3 : f32[2], %4 : i32[2,9]) -> ({}, {}, {}) {\n"
        "  %5, %6, %7 = tt_gather_grad %0, %1, %2, %3, %4 : f32[4,2,3], f32[3,2,5], f32[2]\n  return %5, %6, %7\n}");
  check("tt_matmul", "xxxx",
        "func @f(%0 : N[9,13], %1 : N[4,2,3], %2 : N[3,2,5], %3 : f32[2]) -> ({}) {\n"
        "  %4 = tt_matmul %0, %1, %2, %3 {vocab = 11} : f32[9,11]\n  return %4\n}");
  check("tt_cross_entropy_grad", "uxxxts",
        "func @f(%0 : N[9,13], %1 : N[4,2,3], %2 : N[3,2,5], %3 : f32[2], %4 : i32[9], %5 : f32[]) -> ({}, {}, {}, {}, "
        "{}) {\n  %6, %7, %8, %9, %10 = tt_cross_entropy_grad %0, %1, %2, %3, %4, %5 {vocab = 11} : f32[], N[9,13], "
        "f32[4,2,3], f32[3,2,5], f32[2]\n  return %6, %7, %8, %9, %10\n}");
}

Test(emit_widen, scatter) {
  check("scatter_add_rows", "xt",
        "func @f(%0 : N[2,9,33], %1 : i32[2,9]) -> ({}) {\n"
        "  %2 = scatter_add_rows %0, %1 {rows = 11} : f32[11,33]\n  return %2\n}");
}

// A 16-bit residual is widened in the epilogue that adds it; rope reads its row and the other half from 16 bits.
Test(emit_widen, operands_of_maps) {
  check("ternary_matmul", "xxxx",
        "func @f(%0 : i8[9,40], %1 : t2[21,40], %2 : f32[9,1], %3 : N[9,21]) -> ({}) {\n"
        "  %4 = ternary_matmul %0, %1 : i32[9,21]\n  %5 = cast %4 {to = f32} : f32[9,21]\n"
        "  %6 = mul %5, %2 : f32[9,21]\n  %7 = cast %3 {to = f32} : f32[9,21]\n  %8 = add %7, %6 : f32[9,21]\n"
        "  %9 = cast %8 {to = N} : N[9,21]\n  return %9\n}");
  check("map", "xxx",
        "func @f(%0 : N[2,5,3,22], %1 : f32[5,22], %2 : f32[2,5,3,1]) -> ({}, {}) {\n"
        "  %3 = rope %0, %1 : f32[2,5,3,22]\n  %4 = div %3, %2 : f32[2,5,3,22]\n"
        "  %5 = cast %4 {to = N} : N[2,5,3,22]\n  %6 = cast %0 {to = f32} : f32[2,5,3,22]\n"
        "  %7 = mul %6, %6 : f32[2,5,3,22]\n  %8 = reduce_sum %7 {axes = [3]} : f32[2,5,3,1]\n  return %5, %8\n}");
}
