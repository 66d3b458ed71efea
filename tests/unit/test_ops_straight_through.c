// The straight-through gradients against docs/model.md section 2, written out here once more: gradients are defined,
// not derived, so finite differences say nothing about them.

#include "ir/base/philox.h"
#include "ops/ops.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <math.h>

enum { M = 7, K = 19, N = 5, RNG_ID = 6, SEED = 123, STEP = 45 };

typedef struct Linear {
  double x[M][K], w[N][K], dy[M][N], y[M][N], dx[M][K], dw[N][K];
} Linear;

static double limit(double x, double low, double high) { return fmin(fmax(x, low), high); }

// Quantities of the forward pass.
static double gamma_of(const Linear *l) {
  double sum = 0;
  for (int n = 0; n < N; n++)
    for (int k = 0; k < K; k++) sum += fabs(l->w[n][k]);
  return fmax(sum / (N * K), 1e-6);
}
static double t_of(const Linear *l, int n, int k) { return limit(rint(l->w[n][k] / gamma_of(l)), -1, 1); }
static double a_of(const Linear *l, int m) {
  double top = 0;
  for (int k = 0; k < K; k++) top = fmax(top, fabs(l->x[m][k]));
  return fmax(top, 1e-5);
}
static double q_of(const Linear *l, int m, int k) { return limit(rint(l->x[m][k] * (127 / a_of(l, m))), -128, 127); }

// Runs bit_linear and its gradient through the oracle.
static void run(Linear *l, const char *gradient) {
  MuseModule *module = muse_module_create("");
  MuseArena *arena = muse_arena_create();
  MuseFunc *func = muse_func_create(module, "f");
  MuseBuilder b = muse_builder_at_end(module, &func->body);
  MuseType types[4] = {muse_type2(MUSE_F32, M, K), muse_type2(MUSE_F32, N, K), muse_type2(MUSE_F32, M, N),
                       muse_type1(MUSE_U32, 2)};
  MuseValue *args[4], *d_operands[2];
  for (int i = 0; i < 4; i++) args[i] = muse_region_add_arg(module, &func->body, types[i]);
  MuseAttrList attrs = {0};
  muse_attr_set_text(module, &attrs, "gradient", gradient);
  muse_attr_set_int(module, &attrs, "rng_id", RNG_ID);
  MuseOp *op = muse_build_op(&b, MUSE_OP_bit_linear, 2, args, &attrs);
  muse_op_grad(&(MuseGrad){.b = &b, .op = op, .d_results = &args[2], .d_operands = d_operands, .rng = args[3]});
  muse_build_op(&b, MUSE_OP_return, 3, (MuseValue *[]){op->results[0], d_operands[0], d_operands[1]}, NULL);

  double rng[2] = {SEED, STEP};
  MuseTensor in[4] = {{types[0], &l->x[0][0]}, {types[1], &l->w[0][0]}, {types[2], &l->dy[0][0]}, {types[3], rng}},
             out[3];
  for (int i = 0; i < 3; i++) {
    MuseTensor t = muse_fill_tensor(arena, types[i], MUSE_FILL_UNIFORM, -2, 2, 3, (uint32_t)i, false);
    for (int64_t e = 0; e < muse_type_elements(types[i]); e++) in[i].data[e] = t.data[e];
  }
  muse_region_eval(&(MuseEval){arena, false}, &func->body, in, out);
  for (int i = 0; i < M * N; i++) (&l->y[0][0])[i] = out[0].data[i];
  for (int i = 0; i < M * K; i++) (&l->dx[0][0])[i] = out[1].data[i];
  for (int i = 0; i < N * K; i++) (&l->dw[0][0])[i] = out[2].data[i];
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}

static void expect_near(double got, double want, const char *what) {
  cr_assert(fabs(got - want) <= 1e-11 * fmax(1, fabs(want)), "%s: %.17g instead of %.17g", what, got, want);
}

Test(ops_straight_through, forward_is_the_quantised_product) {
  Linear l;
  run(&l, "f32");
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      double sum = 0;
      for (int k = 0; k < K; k++) sum += q_of(&l, m, k) * t_of(&l, n, k);
      expect_near(l.y[m][n], sum * gamma_of(&l) * a_of(&l, m) / 127, "y");
    }
}

// dX = dY (gamma t), dW = dY^T (q a / 127) for a dY given for each of the two.
static void expect_products(const Linear *l, double for_dx[M][N], double for_dw[M][N]) {
  for (int m = 0; m < M; m++)
    for (int k = 0; k < K; k++) {
      double sum = 0;
      for (int n = 0; n < N; n++) sum += for_dx[m][n] * gamma_of(l) * t_of(l, n, k);
      expect_near(l->dx[m][k], sum, "dx");
    }
  for (int n = 0; n < N; n++)
    for (int k = 0; k < K; k++) {
      double sum = 0;
      for (int m = 0; m < M; m++) sum += for_dw[m][n] * q_of(l, m, k);
      expect_near(l->dw[n][k], sum, "dw");
    }
}

static void f32_products(const char *gradient) {
  Linear l;
  double z[M][N];
  run(&l, gradient);
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) z[m][n] = l.dy[m][n] * a_of(&l, m) / 127;
  expect_products(&l, l.dy, z);
}
Test(ops_straight_through, f32_gradients) { f32_products("f32"); }
// Without storage rounding the bf16 products are the f32 ones.
Test(ops_straight_through, bf16_gradients) { f32_products("bf16"); }

// floor(x + u), u from the stream of this product, element index row-major in [M,N]
static double rounded(double x, int m, int n, int stream) {
  double u = muse_random_uniform((uint64_t)(m * N + n), 2 * RNG_ID + (uint64_t)stream, SEED, STEP);
  return limit(floor(x + u), -127, 127);
}

Test(ops_straight_through, int8_gradients) {
  Linear l;
  double for_dx[M][N], z[M][N], for_dw[M][N];
  run(&l, "int8");
  for (int m = 0; m < M; m++) { // one scale per token
    double top = 0;
    for (int n = 0; n < N; n++) top = fmax(top, fabs(l.dy[m][n]));
    for (int n = 0; n < N; n++) for_dx[m][n] = rounded(l.dy[m][n] / (top / 127), m, n, 0) * (top / 127);
  }
  for (int n = 0; n < N; n++) { // one scale per output channel
    double top = 0;
    for (int m = 0; m < M; m++) top = fmax(top, fabs(z[m][n] = l.dy[m][n] * a_of(&l, m) / 127));
    for (int m = 0; m < M; m++) for_dw[m][n] = rounded(z[m][n] / (top / 127), m, n, 1) * (top / 127);
  }
  expect_products(&l, for_dx, for_dw);
}

// Stochastic rounding has the right mean: the two streams differ, and averages over steps approach the value.
Test(ops_straight_through, rounding_is_unbiased) {
  double sum = 0;
  int n = 20000, differ = 0;
  for (int i = 0; i < n; i++) {
    sum += floor(0.3 + muse_random_uniform((uint64_t)i, 12, 1, 2));
    differ += muse_random_u32((uint64_t)i, 12, 1, 2) != muse_random_u32((uint64_t)i, 13, 1, 2);
  }
  cr_expect(fabs(sum / n - 0.3) < 4 * sqrt(0.21 / n), "mean %g", sum / n);
  cr_expect(differ > n - 5);
}

Test(ops_straight_through, fake_quantize_passes_gradients_through) {
  MuseModule *module = muse_module_create("");
  MuseArena *arena = muse_arena_create();
  MuseFunc *func = muse_func_create(module, "f");
  MuseBuilder b = muse_builder_at_end(module, &func->body);
  MuseType type = muse_type3(MUSE_F32, 3, 2, 5);
  MuseValue *core = muse_region_add_arg(module, &func->body, type),
            *dy = muse_region_add_arg(module, &func->body, type), *dx;
  MuseOp *op = muse_build_op(&b, MUSE_OP_fake_quantize, 1, &core, NULL);
  muse_op_grad(&(MuseGrad){.b = &b, .op = op, .d_results = &dy, .d_operands = &dx});
  muse_build_op(&b, MUSE_OP_return, 2, (MuseValue *[]){op->results[0], dx}, NULL);
  MuseTensor in[2], out[2];
  for (int i = 0; i < 2; i++) in[i] = muse_fill_tensor(arena, type, MUSE_FILL_UNIFORM, -1, 1, 4, (uint32_t)i, false);
  muse_region_eval(&(MuseEval){arena, false}, &func->body, in, out);
  for (int i = 0; i < 30; i++) {
    double top = 0;
    for (int k = i / 10 * 10; k < i / 10 * 10 + 10; k++) top = fmax(top, fabs(in[0].data[k]));
    expect_near(out[0].data[i], rint(in[0].data[i] * 127 / top) * top / 127, "quantised core");
    cr_expect_eq(out[1].data[i], in[1].data[i]);
  }
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}
