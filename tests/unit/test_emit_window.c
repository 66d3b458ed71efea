// Windowed attention against the oracle at odd shapes, with documents and any window, and its causality to the bit.

#include "tests/unit/kernel_call.h"
#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <math.h>

typedef enum Fill { UNIFORM, UNIT, DOC, RADIUS, SCALE } Fill;

static double uniform(int64_t i, int stream) {
  const double x = sin((double)i * 12.9898 + (double)stream * 78.233 + 0.5) * 43758.5453;
  return x - floor(x);
}

static double document(int64_t i, int64_t T) {
  const int64_t row = i / T, t = i % T;
  int64_t begin = 0;
  for (int64_t s = 1; s <= t; s++)
    if (s == 64 || (s * 7 + row) % 41 == 0) begin = s;
  return (double)begin;
}

typedef struct Fills { const Fill *of; bool documents; } Fills;

static void fill(void *user, int index, MuseTensor *t) {
  const Fills *fills = user;
  const int64_t n = muse_type_elements(t->type), d = muse_type_last_dim(t->type);
  for (int64_t i = 0; i < n; i++) {
    const double u = uniform(i, index);
    switch (fills->of[index]) {
      case UNIFORM: case UNIT: t->data[i] = 2 * u - 1; break;
      case DOC: t->data[i] = fills->documents ? document(i, t->type.dim[1]) : 0; break;
      case RADIUS: t->data[i] = 0.05 + 3 * u; break;
      case SCALE: t->data[i] = 0.5 + 4 * u; break;
    }
  }
  if (fills->of[index] != UNIT) return;
  for (int64_t row = 0; row < n; row += d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += t->data[row + j] * t->data[row + j];
    for (int64_t j = 0; j < d; j++) t->data[row + j] /= sqrt(sum);
  }
}

static const Fill dot_fills[] = {UNIFORM, UNIFORM, UNIFORM, DOC, UNIFORM};
static const Fill hyperbolic_fills[] = {UNIT, UNIT, UNIFORM, DOC, RADIUS, RADIUS, SCALE, UNIFORM};

typedef struct Shape { int64_t B, T, H, d; } Shape;

static int operand_types(Shape s, bool hyperbolic, bool grad, MuseType *out) {
  const MuseType x = muse_type4(MUSE_F32, s.B, s.T, s.H, s.d), a = muse_type3(MUSE_F32, s.B, s.T, s.H);
  int n = 0;
  out[n++] = x, out[n++] = x, out[n++] = x, out[n++] = muse_type2(MUSE_I32, s.B, s.T);
  if (hyperbolic) out[n++] = a, out[n++] = a, out[n++] = muse_type1(MUSE_F32, s.H);
  if (grad) out[n++] = x;
  return n;
}

static void run(Shape s, int64_t window, bool hyperbolic, bool grad, bool documents) {
  MuseModule *module = muse_module_create("");
  MuseType types[8];
  const int n = operand_types(s, hyperbolic, grad, types);
  const char *score = hyperbolic ? "hyperbolic" : "dot";
  const MuseOpKind kind = grad ? MUSE_OP_window_attention_grad : MUSE_OP_window_attention;
  const MuseOp *kernel = muse_single_op_kernel(module, kind, n, types, score, window);
  Fills fills = {hyperbolic ? hyperbolic_fills : dot_fills, documents};
  MuseHarness options = {.fill = fill, .user = &fills, .seed = 1, .no_cross = window != 5};
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  for (int i = 0; i < kernel->n_results; i++)
    cr_expect_lt(report.error[i], grad ? 5e-5 : 1e-5,
                 "%s, %s, B %d T %d H %d d %d window %d, documents %d: result %d is off by %g",
                 muse_op_info(kind)->name, score, (int)s.B, (int)s.T, (int)s.H, (int)s.d, (int)window, documents, i,
                 report.error[i]);
  muse_module_destroy(module);
}

static void all_windows(Shape s, bool hyperbolic, bool grad) {
  static const int64_t windows[] = {64, 5000, 1, 5, 100}; // the large shapes take the first two: eval is slow
  const int n = s.B * s.T * s.d > 4096 ? 2 : 5;
  for (int w = 0; w < n; w++) run(s, windows[w], hyperbolic, grad, w % 2 == 0 || s.T < 64);
}

static const Shape shapes[] = {{1, 1, 1, 4}, {2, 7, 3, 5}, {1, 80, 3, 20}, {2, 130, 2, 32}, {1, 130, 1, 128}};

Test(emit_window, dot) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_windows(shapes[i], false, false);
}
Test(emit_window, dot_gradient) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_windows(shapes[i], false, true);
}
Test(emit_window, hyperbolic) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_windows(shapes[i], true, false);
}
Test(emit_window, hyperbolic_gradient) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_windows(shapes[i], true, true);
}

// More key blocks than are kept between the two sweeps of the gradient.
Test(emit_window, long_rows) {
  const Shape s = {1, 64 * 14 + 3, 1, 8};
  for (int hyperbolic = 0; hyperbolic < 2; hyperbolic++)
    for (int grad = 0; grad < 2; grad++) {
      run(s, 5000, hyperbolic, grad, false);
      run(s, 300, hyperbolic, grad, false);
    }
}

// Equal points: the distance is clamped and passes no gradient.
static void fill_equal(void *user, int index, MuseTensor *t) {
  fill(user, index, t);
  const Fill of = hyperbolic_fills[index];
  const int64_t n = muse_type_elements(t->type), d = muse_type_last_dim(t->type);
  for (int64_t i = 0; i < n; i++) {
    if (of == UNIT) t->data[i] = i % d == 0 ? 1 : 0;
    if (of == RADIUS) t->data[i] = 0.7;
  }
}

Test(emit_window, clamped_distance) {
  MuseModule *module = muse_module_create("");
  MuseType types[8];
  const int n = operand_types((Shape){1, 40, 2, 8}, true, true, types);
  const MuseOp *kernel = muse_single_op_kernel(module, MUSE_OP_window_attention_grad, n, types, "hyperbolic", 16);
  Fills fills = {hyperbolic_fills, true};
  MuseHarness options = {.fill = fill_equal, .user = &fills, .no_cross = true};
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  // Where all scores are equal the reference gradient of q, k, alpha and beta is 0 to the bit, and so must be ours.
  cr_expect_eq(report.error[0], 0);
  cr_expect_eq(report.error[1], 0);
  cr_expect_lt(report.error[2], 1e-5);
  cr_expect_eq(report.error[3], 0);
  cr_expect_eq(report.error[4], 0);
  muse_module_destroy(module);
}

static void check_causality(bool hyperbolic, int64_t window) {
  const Shape s = {1, 200, 2, 24};
  const int64_t changes[] = {1, 63, 64, 100, 199};
  MuseModule *module = muse_module_create("");
  MuseType types[8];
  const int n = operand_types(s, hyperbolic, false, types);
  const Fill *of = hyperbolic ? hyperbolic_fills : dot_fills;
  MuseKernelCall call;
  muse_kernel_call_create(
      muse_harness_module(),
      muse_single_op_kernel(module, MUSE_OP_window_attention, n, types, hyperbolic ? "hyperbolic" : "dot", window),
      &call);
  MuseArena *arena = muse_arena_create();
  Fills fills = {of, true};
  MuseTensor in[8];
  for (int i = 0; i < n; i++) {
    in[i] = muse_tensor_create(arena, types[i]);
    fill(&fills, i, &in[i]);
    muse_tensor_store(&in[i], call.buffer[i]);
  }
  muse_kernel_call_run(&call);
  const size_t bytes = (size_t)muse_type_bytes(types[0]);
  void *before = muse_arena_alloc(arena, bytes);
  memcpy(before, call.buffer[n], bytes);
  for (size_t c = 0; c < sizeof changes / sizeof *changes; c++)
    for (int bad = 0; bad < 2; bad++) {
      const int64_t t = changes[c];
      for (int i = 0; i < n; i++) {
        muse_tensor_store(&in[i], call.buffer[i]);
        const int64_t width = of[i] == RADIUS ? s.H : s.H * s.d;
        if (of[i] == SCALE) continue;
        if (of[i] == DOC)
          for (int64_t k = t; k < s.T; k++) ((int32_t *)call.buffer[i])[k] = (int32_t)t;
        else
          for (int64_t k = t * width; k < s.T * width; k++)
            ((float *)call.buffer[i])[k] = bad ? NAN : (float)(0.2 * uniform(k, 9 + i));
      }
      muse_kernel_call_run(&call);
      cr_expect_eq(memcmp(before, call.buffer[n], (size_t)(t * s.H * s.d) * 4), 0, "token %d reaches back (%s)", (int)t,
                   bad ? "NaN" : "numbers");
      cr_expect_neq(memcmp(before, call.buffer[n], bytes), 0);
    }
  muse_kernel_call_destroy(&call);
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}

Test(emit_window, causality) {
  for (int hyperbolic = 0; hyperbolic < 2; hyperbolic++) {
    check_causality(hyperbolic, 50);
    check_causality(hyperbolic, 1000);
  }
}
