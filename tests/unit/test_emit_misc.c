// doc_begin, rope_table and ring_write at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

typedef struct Position { int operand; double value; } Position;
static void fill_position(void *user, int index, MuseTensor *t) {
  const Position *p = user;
  if (index == p->operand) t->data[0] = p->value;
}

static double worst_of(const char *skeleton, const char *text, Position position) {
  MuseOp *kernel;
  MuseModule *module = muse_harness_kernel(skeleton, text, &kernel);
  MuseHarness options = {.fill = fill_position, .user = &position};
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  muse_module_destroy(module);
  return report.error[0];
}

Test(emit_misc, doc_begin) {
  static const int shapes[][2] = {{1, 1}, {3, 17}, {2, 300}};
  static const int eos[] = {-1, 0, 3, 99};
  for (int s = 0; s < 3; s++)
    for (int e = 0; e < 4; e++) {
      char text[256];
      const int B = shapes[s][0], T = shapes[s][1];
      snprintf(text, sizeof text,
               "func @f(%%0 : i32[%d,%d]) -> ({}) {\n  %%1 = doc_begin %%0 {eos = %d} : i32[%d,%d]\n  return %%1\n}", B,
               T, eos[e], B, T);
      cr_assert_eq(worst_of("doc_begin", text, (Position){-1, 0}), 0, "%s", text);
    }
}

Test(emit_misc, rope_table) {
  static const int shapes[][2] = {{1, 1}, {5, 3}, {130, 16}, {70, 64}, {3, 33}};
  static const double positions[] = {0, 777, 65535, 3000000};
  for (int s = 0; s < 5; s++)
    for (int p = 0; p < 4; p++) {
      char text[256];
      const int rows = shapes[s][0], half = shapes[s][1];
      snprintf(
          text, sizeof text,
          "func @f(%%0 : i64[]) -> ({}) {\n  %%1 = rope_table %%0 {rows = %d, half = %d} : f32[%d,%d]\n  return %%1\n}",
          rows, half, rows, 2 * half);
      const double worst = worst_of("rope_table", text, (Position){0, positions[p]});
      cr_assert_lt(worst, 2e-7, "%s at %g: %g", text, positions[p], worst);
    }
}

static void ring(const char *ring_type, const char *x_type, int axis) {
  static const double positions[] = {0, 1, 12345};
  for (int p = 0; p < 3; p++) {
    char text[256];
    snprintf(text, sizeof text,
             "func @f(%%0 : %s, %%1 : %s, %%2 : i64[]) -> ({}) {\n  %%3 = ring_write %%0, %%1, %%2 {axis = %d} : %s\n  "
             "return %%3\n}",
             ring_type, x_type, axis, ring_type);
    cr_assert_eq(worst_of("ring_write", text, (Position){2, positions[p]}), 0, "%s", text);
  }
}

Test(emit_misc, ring_write) {
  ring("f32[2,7,3,5]", "f32[2,1,3,5]", 1);
  ring("f32[64,4,32]", "f32[1,4,32]", 0);
  ring("bf16[3,2,5]", "bf16[3,2,1]", 2);
  ring("f32[1,1,8]", "f32[1,1,8]", 1);
  ring("i8[2,300,513]", "i8[2,1,513]", 1);
}
