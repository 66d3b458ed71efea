// The Green's function and resolvent scans against the oracle at odd shapes, with documents, and their causality to the
// bit.

#include "tests/unit/kernel_call.h"
#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <math.h>

// What an operand holds.
typedef enum Fill { UNIFORM, KAPPA, ETA, SMALL, DOC, RE_E, IM_G, EDGE } Fill;
typedef struct Fills { const Fill *of; bool documents; } Fills;

static double uniform(int64_t i, int stream) {
  const double x = sin((double)i * 12.9898 + (double)stream * 78.233 + 0.5) * 43758.5453;
  return x - floor(x);
}

// Documents of irregular length; one starts at token 64, the beginning of a chunk.
static double document(int64_t i, int64_t T) {
  const int64_t row = i / T, t = i % T;
  int64_t begin = 0;
  for (int64_t s = 1; s <= t; s++)
    if (s == 64 || (s * 7 + row) % 41 == 0) begin = s;
  return (double)begin;
}

static void fill(void *user, int index, MuseTensor *t) {
  const Fills *fills = user;
  const int64_t n = muse_type_elements(t->type);
  for (int64_t i = 0; i < n; i++) {
    const double u = uniform(i, index);
    switch (fills->of[index]) {
      case UNIFORM: t->data[i] = 2 * u - 1; break;
      case KAPPA: t->data[i] = 0.5 * u * u; break;
      case ETA: t->data[i] = 1e-3 + 0.2 * u; break;
      case SMALL: t->data[i] = 1e-4 * (1 + u); break;
      case DOC: t->data[i] = fills->documents ? document(i, t->type.dim[1]) : 0; break;
      case RE_E: t->data[i] = 0.6 - 0.5 * u; break; // 1 + Re g
      case IM_G: t->data[i] = 0.3 * u - 0.05; break;
      case EDGE: t->data[i] = 0.0123 + 1e-5 * u; break;
    }
  }
}

typedef struct Shape { int64_t B, T, H, d; } Shape;
static const Shape shapes[] = {{1, 1, 1, 4},   {2, 7, 3, 5},   {1, 80, 5, 20},  {2, 130, 2, 32},
                               {1, 130, 1, 128}, {1, 64, 17, 16}, {1, 200, 2, 64}, {3, 65, 4, 40}};

static void run(MuseOpKind kind, int n, const MuseType *types, const Fill *of, bool documents, double bar) {
  MuseModule *module = muse_module_create("");
  const MuseOp *kernel = muse_single_op_kernel(module, kind, n, types, NULL, 0);
  Fills fills = {of, documents};
  MuseHarness options = {.fill = fill, .user = &fills, .seed = 1, .no_cross = !documents};
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  MuseType q = types[0];
  for (int i = 0; i < kernel->n_results; i++) {
    // Of a single token dIm g is exactly 0, against which no relative error can be measured.
    if (kind == MUSE_OP_resolvent_scan_grad && i == 4 && q.dim[1] == 1) continue;
    cr_expect_lt(report.error[i], bar, "%s, B %d T %d, documents %d: result %d is off by %g", muse_op_info(kind)->name,
                 (int)q.dim[0], (int)q.dim[1], documents, i, report.error[i]);
  }
  muse_module_destroy(module);
}

Test(emit_scan, green) {
  static const Fill forward[] = {KAPPA, ETA, DOC}, backward[] = {RE_E, IM_G, DOC, UNIFORM, UNIFORM};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const Shape s = shapes[i];
    const MuseType g = muse_type3(MUSE_F32, s.B, s.T, s.H), doc = muse_type2(MUSE_I32, s.B, s.T);
    const MuseType in[] = {g, muse_type1(MUSE_F32, s.H), doc}, back[] = {g, g, doc, g, g};
    for (int documents = 0; documents < 2; documents++) {
      run(MUSE_OP_green_scan, 3, in, forward, documents, 1e-5);
      run(MUSE_OP_green_scan_grad, 5, back, backward, documents, 1e-5);
    }
  }
}

// kappa and eta as they are initialised for the slowest heads: g is near -1, and Im g small against it.
Test(emit_scan, green_near_the_band_edge) {
  static const Fill of[] = {SMALL, SMALL, DOC};
  const MuseType in[] = {muse_type3(MUSE_F32, 1, 700, 3), muse_type1(MUSE_F32, 3), muse_type2(MUSE_I32, 1, 700)};
  run(MUSE_OP_green_scan, 3, in, of, false, 5e-6);
}

static void resolvent(Shape s, bool documents) {
  static const Fill of[] = {UNIFORM, UNIFORM, UNIFORM, RE_E, IM_G, DOC, UNIFORM};
  const MuseType x = muse_type4(MUSE_F32, s.B, s.T, s.H, s.d), g = muse_type3(MUSE_F32, s.B, s.T, s.H);
  const MuseType types[] = {x, x, x, g, g, muse_type2(MUSE_I32, s.B, s.T), x};
  run(MUSE_OP_resolvent_scan, 6, types, of, documents, 1e-5);
  run(MUSE_OP_resolvent_scan_grad, 7, types, of, documents, 2e-5);
}

Test(emit_scan, resolvent_with_documents) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) resolvent(shapes[i], true);
}

Test(emit_scan, resolvent_of_one_document) {
  for (size_t i = 0; i < 5; i++) resolvent(shapes[i], false);
}

// A slow head: g is near -1 and nearly the same for all tokens, so that errors of 1 + g would add up over the text.
Test(emit_scan, resolvent_near_the_band_edge) {
  static const Fill of[] = {UNIFORM, UNIFORM, UNIFORM, EDGE, EDGE, DOC, UNIFORM};
  const MuseType x = muse_type4(MUSE_F32, 1, 200, 2, 16), g = muse_type3(MUSE_F32, 1, 200, 2);
  const MuseType types[] = {x, x, x, g, g, muse_type2(MUSE_I32, 1, 200), x};
  run(MUSE_OP_resolvent_scan, 6, types, of, false, 1e-6);
  run(MUSE_OP_resolvent_scan_grad, 7, types, of, false, 2e-6);
}

// So many states that only those before groups of chunks are stored.
Test(emit_scan, resolvent_gradient_in_groups) {
  static const Fill of[] = {UNIFORM, UNIFORM, UNIFORM, RE_E, IM_G, DOC, UNIFORM};
  const int64_t T = 64 * 270 + 5, d = 256;
  MuseModule *module = muse_module_create("");
  const MuseType x = muse_type4(MUSE_F32, 1, T, 1, d), g = muse_type3(MUSE_F32, 1, T, 1);
  const MuseType types[] = {x, x, x, g, g, muse_type2(MUSE_I32, 1, T), x};
  MuseKernelCall whole, tail;
  muse_kernel_call_create(muse_harness_module(),
                          muse_single_op_kernel(module, MUSE_OP_resolvent_scan_grad, 7, types, NULL, 0), &whole);
  // The same text, whose last tokens are a document of their own, against these tokens alone.
  const int64_t begin = 64 * 200 + 17, length = T - begin;
  const MuseType y = muse_type4(MUSE_F32, 1, length, 1, d), h = muse_type3(MUSE_F32, 1, length, 1);
  const MuseType short_types[] = {y, y, y, h, h, muse_type2(MUSE_I32, 1, length), y};
  MuseModule *other = muse_module_create("");
  muse_kernel_call_create(muse_harness_module(),
                          muse_single_op_kernel(other, MUSE_OP_resolvent_scan_grad, 7, short_types, NULL, 0), &tail);
  for (int i = 0; i < 7; i++) {
    const int64_t width = i == 5 || i == 3 || i == 4 ? 1 : d;
    for (int64_t k = 0; k < T * width; k++) {
      const double u = uniform(k, i);
      if (of[i] == DOC) ((int32_t *)whole.buffer[i])[k] = k >= begin ? (int32_t)begin : 0;
      else
        ((float *)whole.buffer[i])[k] = (float)(of[i] == RE_E   ? 0.6 - 0.5 * u
                                                : of[i] == IM_G ? 0.3 * u - 0.05
                                                                : 2 * u - 1);
    }
    if (of[i] != DOC) memcpy(tail.buffer[i], (float *)whole.buffer[i] + begin * width, (size_t)(length * width) * 4);
  }
  muse_kernel_call_run(&whole);
  muse_kernel_call_run(&tail);
  for (int r = 0; r < 5; r++) {
    const int64_t width = r < 3 ? d : 1;
    const float *a = (const float *)whole.buffer[7 + r] + begin * width, *b = tail.buffer[7 + r];
    double error = 0, norm = 0;
    for (int64_t k = 0; k < length * width; k++) error += pow((double)a[k] - b[k], 2), norm += (double)b[k] * b[k];
    cr_expect_lt(sqrt(error), 1e-5 * sqrt(norm), "result %d differs by %g", r, sqrt(error / norm));
  }
  muse_kernel_call_destroy(&whole);
  muse_kernel_call_destroy(&tail);
  muse_module_destroy(module);
  muse_module_destroy(other);
}

// Long rows, whose heads take turns where they are called together: however the tasks are cut, the bits are the same.
Test(emit_scan, resolvent_gradient_of_heads_that_take_turns) {
  static const Fill of[] = {UNIFORM, UNIFORM, UNIFORM, RE_E, IM_G, DOC, UNIFORM};
  static const int64_t cuts[][5] = {{0, 1, 2, 3, 4}, {0, 2, 4, 6, 8}, {0, 1, 4, 7, 8}, {0, 3, 5, 6, 8}};
  const int64_t B = 2, T = 2200, H = 4, d = 32;
  MuseModule *module = muse_module_create("");
  const MuseType x = muse_type4(MUSE_F32, B, T, H, d), g = muse_type3(MUSE_F32, B, T, H);
  const MuseType types[] = {x, x, x, g, g, muse_type2(MUSE_I32, B, T), x};
  MuseKernelCall call;
  muse_kernel_call_create(muse_harness_module(),
                          muse_single_op_kernel(module, MUSE_OP_resolvent_scan_grad, 7, types, NULL, 0), &call);
  MuseArena *arena = muse_arena_create();
  Fills fills = {of, true};
  for (int i = 0; i < 7; i++) {
    MuseTensor in = muse_tensor_create(arena, types[i]);
    fill(&fills, i, &in);
    muse_tensor_store(&in, call.buffer[i]);
  }
  muse_kernel_call_run(&call);
  void *whole[5];
  size_t bytes[5];
  for (int r = 0; r < 5; r++) {
    bytes[r] = (size_t)muse_type_bytes(call.kernel->results[r]->type);
    whole[r] = memcpy(muse_arena_alloc(arena, bytes[r]), call.buffer[7 + r], bytes[r]);
  }
  for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
    for (int r = 0; r < 5; r++) memset(call.buffer[7 + r], 0xff, bytes[r]);
    for (int i = 0; i < 4; i++) call.fn[0](call.buffer, cuts[c][i], cuts[c][i + 1], call.scratch, 0);
    if (cuts[c][4] < B * H) call.fn[0](call.buffer, cuts[c][4], B * H, call.scratch, 0);
    for (int r = 0; r < 5; r++)
      cr_expect_eq(memcmp(whole[r], call.buffer[7 + r], bytes[r]), 0, "result %d, cut %d", r, (int)c);
  }
  muse_kernel_call_destroy(&call);
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}

// Outputs before token t do not change in one bit when inputs from t on do, not even to NaN.
Test(emit_scan, causality) {
  static const Fill of[] = {UNIFORM, UNIFORM, UNIFORM, RE_E, IM_G, DOC};
  const int64_t T = 200, H = 2, d = 24, changes[] = {1, 63, 64, 100, 130, 199};
  MuseModule *module = muse_module_create("");
  const MuseType x = muse_type4(MUSE_F32, 1, T, H, d), g = muse_type3(MUSE_F32, 1, T, H);
  const MuseType types[] = {x, x, x, g, g, muse_type2(MUSE_I32, 1, T)};
  const MuseOp *kernel = muse_single_op_kernel(module, MUSE_OP_resolvent_scan, 6, types, NULL, 0);
  MuseKernelCall call;
  muse_kernel_call_create(muse_harness_module(), kernel, &call);
  MuseArena *arena = muse_arena_create();
  Fills fills = {of, true};
  MuseTensor in[6];
  for (int i = 0; i < 6; i++) {
    in[i] = muse_tensor_create(arena, types[i]);
    fill(&fills, i, &in[i]);
    muse_tensor_store(&in[i], call.buffer[i]);
  }
  muse_kernel_call_run(&call);
  float *before = muse_arena_alloc(arena, (size_t)muse_type_bytes(x));
  memcpy(before, call.buffer[6], (size_t)muse_type_bytes(x));
  for (size_t c = 0; c < sizeof changes / sizeof *changes; c++)
    for (int bad = 0; bad < 2; bad++) {
      for (int i = 0; i < 6; i++) muse_tensor_store(&in[i], call.buffer[i]);
      const int64_t t = changes[c];
      for (int i = 0; i < 3; i++)
        for (int64_t k = t * H * d; k < T * H * d; k++)
          ((float *)call.buffer[i])[k] = bad ? NAN : (float)uniform(k, 9 + i);
      for (int i = 3; i < 5; i++)
        for (int64_t k = t * H; k < T * H; k++)
          ((float *)call.buffer[i])[k] = bad ? NAN : (float)(0.5 * uniform(k, 9 + i));
      for (int64_t k = t; k < T; k++) ((int32_t *)call.buffer[5])[k] = (int32_t)t;
      muse_kernel_call_run(&call);
      cr_expect_eq(memcmp(before, call.buffer[6], (size_t)(t * H * d) * 4), 0, "token %d reaches back (%s)", (int)t,
                   bad ? "NaN" : "numbers");
      cr_expect_neq(memcmp(before, call.buffer[6], (size_t)muse_type_bytes(x)), 0);
    }
  muse_kernel_call_destroy(&call);
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}
