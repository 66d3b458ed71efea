// Gradients of all ops against central differences of the oracle in f64: relative error at most 1e-6 at every shape of
// op_cases.

#include "ops/hooks.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>

#define MAX_RESULTS 8

typedef struct Grad {
  const MuseOpCase *c;
  MuseModule *module;
  MuseArena *arena;
  MuseFunc *forward, *backward;
  MuseOp *op;                            // of the forward function
  bool has_cotangent[MAX_RESULTS];       // which results the loss depends on
  int operand_of[MUSE_CASE_MAX_OPERANDS]; // operand that result i of `backward` is the gradient of
  int n_gradients;
} Grad;

// backward(operands, cotangents of the used results) -> cotangents of the operands that have one.
static void build_backward(Grad *g) {
  MuseFunc *func = g->backward = muse_func_create(g->module, "backward");
  MuseBuilder b = muse_builder_at_end(g->module, &func->body);
  MuseValue *args[MUSE_CASE_MAX_OPERANDS], *d_results[MAX_RESULTS] = {0}, *d_operands[MUSE_CASE_MAX_OPERANDS];
  MuseValue *out[MUSE_CASE_MAX_OPERANDS];
  for (int i = 0; i < g->c->n_operands; i++)
    args[i] = muse_region_add_arg(g->module, &func->body, g->c->operand[i].type);
  for (int i = 0; i < g->op->n_results; i++)
    if (g->has_cotangent[i]) d_results[i] = muse_region_add_arg(g->module, &func->body, g->op->results[i]->type);
  MuseAttrList attrs = muse_op_case_attrs(g->c, g->module);
  MuseOp *op = muse_build_op(&b, g->c->kind, g->c->n_operands, args, &attrs);
  muse_op_grad(&(MuseGrad){.b = &b, .op = op, .d_results = d_results, .d_operands = d_operands});
  g->n_gradients = 0;
  for (int i = 0; i < op->n_operands; i++)
    if (d_operands[i]) {
      cr_assert(muse_dtype_is_float(args[i]->type.dtype), "%s: operand %d is no float but has a gradient",
                muse_op_info(g->c->kind)->name, i);
      g->operand_of[g->n_gradients] = i;
      out[g->n_gradients++] = d_operands[i];
    }
  muse_build_op(&b, MUSE_OP_return, g->n_gradients, out, NULL);
}

// sum over used results of cotangent * result
static double loss(Grad *g, const MuseTensor *operands, const MuseTensor *cotangents) {
  MuseArena *arena = muse_arena_create();
  MuseTensor results[MAX_RESULTS];
  muse_region_eval(&(MuseEval){arena, false}, &g->forward->body, operands, results);
  double sum = 0;
  for (int r = 0, used = 0; r < g->op->n_results; r++) {
    if (!g->has_cotangent[r]) continue;
    for (int64_t i = 0; i < muse_type_elements(results[r].type); i++)
      sum += results[r].data[i] * cotangents[used].data[i];
    used++;
  }
  muse_arena_destroy(arena);
  return sum;
}

// Fourth-order central difference: truncation h^4 and rounding 1e-16/h are both far below 1e-6.
static double difference(Grad *g, MuseTensor *operands, const MuseTensor *cotangents, double *x) {
  double at = *x, h = 2e-4, value[4];
  const double step[4] = {-2, -1, 1, 2};
  for (int i = 0; i < 4; i++) {
    *x = at + step[i] * h;
    value[i] = loss(g, operands, cotangents);
  }
  *x = at;
  return (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * h);
}

// Operands that are tables by definition: their cotangent stops (a rope_table has no gradient).
static bool is_table(MuseOpKind kind, int operand) { return kind == MUSE_OP_rope && operand == 1; }

static void compare(Grad *g, uint32_t seed) {
  MuseTensor in[MUSE_CASE_MAX_OPERANDS + MAX_RESULTS], out[MUSE_CASE_MAX_OPERANDS];
  int n = g->c->n_operands, n_in = n;
  const char *name = muse_op_info(g->c->kind)->name;
  muse_op_case_fill(g->c, g->arena, seed, false, in);
  for (int r = 0; r < g->op->n_results; r++)
    if (g->has_cotangent[r])
      in[n_in++] =
          muse_fill_tensor(g->arena, g->op->results[r]->type, MUSE_FILL_UNIFORM, -1, 1, seed, 100 + (uint32_t)r, false);
  muse_region_eval(&(MuseEval){g->arena, false}, &g->backward->body, in, out);

  bool has_gradient[MUSE_CASE_MAX_OPERANDS] = {0};
  for (int k = 0; k < g->n_gradients; k++) has_gradient[g->operand_of[k]] = true;
  for (int i = 0, k = 0; i < n; i++) {
    if (is_table(g->c->kind, i)) cr_expect(!has_gradient[i]);
    if (!muse_dtype_is_float(g->c->operand[i].type.dtype) || is_table(g->c->kind, i)) continue;
    int64_t elements = muse_type_elements(in[i].type), step = elements / 40 + 1;
    double worst = 0, largest = 0;
    for (int64_t e = 0; e < elements; e += step) {
      double want = difference(g, in, in + n, &in[i].data[e]), got = has_gradient[i] ? out[k].data[e] : 0;
      cr_assert(isfinite(got), "%s (%s): gradient of operand %d is not finite", name, g->c->text, i);
      worst = fmax(worst, fabs(got - want));
      largest = fmax(largest, fabs(want));
    }
    cr_expect(worst <= 1e-6 * fmax(largest, 1e-3), "%s (%s) {%s}: gradient of operand %d is off by %g of %g", name,
              g->c->text, g->c->attrs, i, worst, largest);
    k += has_gradient[i];
  }
}

static void check_case(const MuseOpCase *c) {
  Grad g = {.c = c, .module = muse_module_create(""), .arena = muse_arena_create()};
  g.op = muse_op_case_build(c, g.module, "forward", &g.forward);
  int n = g.op->n_results;
  // All results together, and where there are several each of them alone: the others then have no cotangent.
  for (int alone = -1; alone < (n > 1 ? n : 0); alone++) {
    bool any_float = false;
    for (int r = 0; r < n; r++) {
      g.has_cotangent[r] = (alone < 0 || alone == r) && muse_dtype_is_float(g.op->results[r]->type.dtype);
      any_float |= g.has_cotangent[r];
    }
    if (!any_float) continue;
    build_backward(&g);
    compare(&g, 11 + (uint32_t)alone + 1);
    muse_module_remove_func(g.module, g.backward);
  }
  muse_arena_destroy(g.arena);
  muse_module_destroy(g.module);
}

static bool is_differentiable(MuseOpKind kind) {
  return muse_op_has_grad(kind) && !(muse_op_info(kind)->traits & MUSE_TRAIT_STRAIGHT_THROUGH);
}

// One test an op kind.
ParameterizedTestParameters(ops_grad, equals_finite_differences) {
  static int kinds[MUSE_N_OPS];
  size_t n = 0;
  for (int kind = 0; kind < MUSE_N_OPS; kind++)
    if (is_differentiable((MuseOpKind)kind)) kinds[n++] = kind;
  return cr_make_param_array(int, kinds, n);
}
ParameterizedTest(int *kind, ops_grad, equals_finite_differences) {
  int n, checked = 0;
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++)
    if (cases[i].kind == (MuseOpKind)*kind) check_case(&cases[i]), checked++;
  cr_expect(checked >= 3, "%s has only %d cases", muse_op_info((MuseOpKind)*kind)->name, checked);
}

// Equal operands share the gradient of a maximum, a maximum over an axis shares it among all its equals, abs has none
// at 0.
Test(ops_grad, ties_share) {
  const struct {
    MuseOpKind kind;
    const char *operands, *attrs;
    double want;
  } cases[] = {{MUSE_OP_max, "f32[3] u(1,1); f32[3] u(1,1)", "", 0.5},
               {MUSE_OP_min, "f32[3] u(1,1); f32[3] u(1,1)", "", 0.5},
               {MUSE_OP_reduce_max, "f32[5,4] u(2,2)", "axes=1", 0.25},
               {MUSE_OP_abs, "f32[3] u(0,0)", "", 0}};
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
    MuseOpCase c = muse_op_case(cases[k].kind, cases[k].operands, cases[k].attrs);
    Grad g = {.c = &c, .module = muse_module_create(""), .arena = muse_arena_create(), .has_cotangent = {true}};
    MuseTensor in[3], out[2];
    g.op = muse_op_case_build(&c, g.module, "forward", &g.forward);
    build_backward(&g);
    muse_op_case_fill(&c, g.arena, 1, false, in);
    in[c.n_operands] = muse_fill_tensor(g.arena, g.op->results[0]->type, MUSE_FILL_UNIFORM, 1, 1, 1, 1, false);
    muse_region_eval(&(MuseEval){g.arena, false}, &g.backward->body, in, out);
    for (int r = 0; r < g.n_gradients; r++)
      for (int64_t i = 0; i < muse_type_elements(out[r].type); i++) cr_expect_eq(out[r].data[i], cases[k].want);
    muse_arena_destroy(g.arena);
    muse_module_destroy(g.module);
  }
}
