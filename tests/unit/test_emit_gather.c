// gather_rows and scatter_add_rows at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

// Tokens of a few values, so that rows are hit several times and some never; the largest is there.
typedef struct Tokens {
  int operand;
  int64_t rows;
} Tokens;
static void fill_tokens(void *user, int index, MuseTensor *t) {
  const Tokens *tokens = user;
  if (index != tokens->operand) return;
  const int64_t n = muse_type_elements(t->type);
  for (int64_t i = 0; i < n; i++) t->data[i] = (double)((i * 7 + 3) * (i + 1) % tokens->rows);
  t->data[n - 1] = (double)(tokens->rows - 1);
}

static void run(const char *skeleton, int64_t rows, const char *text) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(skeleton, text, &kernel);
  Tokens tokens = {.operand = 1, .rows = rows};
  MuseHarness options = {.fill = fill_tokens, .user = &tokens};
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  cr_assert_lt(report.worst, skeleton[0] == 'g' ? 1e-300 : 1e-6, "%s: %g", text, report.worst);
  muse_module_destroy(module);
}

static void gather(const char *dtype, int64_t V, int64_t B, int64_t T, int64_t D) {
  char text[512];
  snprintf(text, sizeof text,
           "func @f(%%0 : %s[%d,%d], %%1 : i32[%d,%d]) -> ({}) {\n  %%2 = gather_rows %%0, %%1 : %s[%d,%d,%d]\n  "
           "return %%2\n}",
           dtype, (int)V, (int)D, (int)B, (int)T, dtype, (int)B, (int)T, (int)D);
  run("gather_rows", V, text);
}

static void scatter(int64_t V, int64_t B, int64_t T, int64_t D) {
  char text[512];
  snprintf(text, sizeof text,
           "func @f(%%0 : f32[%d,%d,%d], %%1 : i32[%d,%d]) -> ({}) {\n"
           "  %%2 = scatter_add_rows %%0, %%1 {rows = %d} : f32[%d,%d]\n  return %%2\n}",
           (int)B, (int)T, (int)D, (int)B, (int)T, (int)V, (int)V, (int)D);
  run("scatter_add_rows", V, text);
}

Test(emit_gather, rows) {
  gather("f32", 5, 1, 1, 1);
  gather("f32", 17, 3, 5, 7);
  gather("f32", 257, 2, 129, 128);
  gather("bf16", 31, 2, 9, 77);
}

Test(emit_gather, scatter) {
  scatter(5, 1, 1, 1);
  scatter(17, 3, 5, 7);
  scatter(257, 2, 129, 128);
  scatter(11, 1, 40, 301);
}

// The oracle refuses tokens beyond the table, so the kernel runs by itself: they are held inside.
Test(emit_gather, tokens_outside_read_nothing_outside) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(
      "gather_rows",
      "func @f(%0 : f32[4,16], %1 : i32[1,2]) -> ({}) {\n  %2 = gather_rows %0, %1 : f32[1,2,16]\n  return %2\n}",
      &kernel);
  const MuseCpuModule *cpu = muse_harness_module();
  MuseCpuTarget target;
  cr_assert(cpu->host_target(MUSE_CPU_NEON_DOT, false, &target));
  MuseDiag *diag = muse_diag_create();
  char *object;
  size_t bytes;
  MuseJit *jit;
  void *address;
  cr_assert_eq(cpu->emit(kernel, "wild", &target, "object", &object, &bytes, diag), MUSE_OK);
  cr_assert_eq(cpu->jit_create(&jit, diag), MUSE_OK);
  cr_assert_eq(cpu->jit_add_object(jit, object, bytes, diag), MUSE_OK);
  cr_assert_eq(cpu->jit_lookup(jit, "wild_0", &address, diag), MUSE_OK);
  _Alignas(64) float table[4][16], out[2][16];
  _Alignas(64) int32_t tokens[2] = {-5, 2147483647};
  for (int i = 0; i < 64; i++) table[i / 16][i % 16] = (float)i;
  void *buffers[5] = {table, tokens, out, NULL, NULL};
  ((MuseKernelFn)address)(buffers, 0, 1, NULL, 0);
  for (int i = 0; i < 32; i++) cr_assert_eq(out[i / 16][i % 16], table[3][i % 16]);
  cpu->jit_destroy(jit);
  free(object);
  muse_diag_destroy(diag);
  muse_module_destroy(module);
}
