// Costs: products count two operations for each multiply-add, views of the same bytes cost nothing, kernels pay for
// their operands and results only, every op of op_cases has a finite cost.

#include "ops/ops.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <math.h>

static MuseCost cost_of(MuseOpKind kind, const char *operands, const char *attrs) {
  MuseOpCase c = muse_op_case(kind, operands, attrs);
  MuseModule *module = muse_module_create("");
  MuseFunc *func;
  MuseCost cost = muse_op_cost(muse_op_case_build(&c, module, "f", &func));
  muse_module_destroy(module);
  return cost;
}

Test(ops_cost, products) {
  cr_expect_eq(cost_of(MUSE_OP_matmul, "f32[3,5] u(0,1); f32[5,7] u(0,1)", "").flops, 2 * 3 * 5 * 7);
  cr_expect_eq(cost_of(MUSE_OP_matmul, "f32[5,3] u(0,1); f32[5,7] u(0,1)", "trans_a=true").flops, 2 * 3 * 5 * 7);
  cr_expect_eq(cost_of(MUSE_OP_ternary_matmul, "i8[3,300] i(0,1); t2[7,300] i(0,1)", "").int_ops, 2 * 3 * 300 * 7);
  cr_expect_eq(cost_of(MUSE_OP_int8_matmul, "i8[9,3] i(0,1); i8[9,7] i(0,1)", "").int_ops, 2 * 9 * 3 * 7);
}

Test(ops_cost, bytes) {
  cr_expect_eq(cost_of(MUSE_OP_add, "f32[3,5] u(0,1); f32[5] u(0,1)", "").bytes, 4 * (15 + 5 + 15));
  cr_expect_eq(cost_of(MUSE_OP_reshape, "f32[3,5] u(0,1)", "shape=15").bytes, 0);
  cr_expect_eq(cost_of(MUSE_OP_transpose, "f32[3,5] u(0,1)", "perm=1:0").bytes, 4 * 30);
  cr_expect_eq(cost_of(MUSE_OP_ternary_matmul, "i8[3,300] i(0,1); t2[7,300] i(0,1)", "").bytes, 900 + 7 * 128 + 4 * 21);
  // Two rows of a table of a thousand: read, written, and the tokens.
  cr_expect_eq(cost_of(MUSE_OP_gather_rows, "f32[1000,5] u(0,1); i32[1,2] i(0,9)", "").bytes, 2 * 4 * 10 + 8);
}

Test(ops_cost, attention_pairs_are_those_of_the_window) {
  double whole =
      cost_of(MUSE_OP_window_attention,
              "f32[1,64,1,8] u(0,1); f32[1,64,1,8] u(0,1); f32[1,64,1,8] u(0,1); i32[1,64] doc", "window=64, score=dot")
          .flops;
  double one =
      cost_of(MUSE_OP_window_attention,
              "f32[1,64,1,8] u(0,1); f32[1,64,1,8] u(0,1); f32[1,64,1,8] u(0,1); i32[1,64] doc", "window=1, score=dot")
          .flops;
  cr_expect_eq(whole / one, 65.0 / 2);
}

Test(ops_cost, kernels_pay_for_their_ends) {
  MuseModule *module = muse_module_create("");
  MuseFunc *func = muse_func_create(module, "f");
  MuseType type = muse_type1(MUSE_F32, 100);
  MuseValue *x = muse_region_add_arg(module, &func->body, type);
  MuseOp *kernel = muse_op_create(module, MUSE_OP_kernel, 1, &x, 1, &type);
  muse_op_append(kernel, &func->body);
  MuseRegion *body = muse_op_create_body(module, kernel);
  MuseValue *inside = muse_region_add_arg(module, body, type);
  MuseBuilder b = muse_builder_at_end(module, body);
  MuseValue *y = muse_build_binary(&b, MUSE_OP_add, muse_build_unary(&b, MUSE_OP_neg, inside), inside);
  muse_build_op(&b, MUSE_OP_yield, 1, &y, NULL);
  MuseCost cost = muse_op_cost(kernel);
  cr_expect_eq(cost.bytes, 800);
  cr_expect_eq(cost.flops, 200);
  muse_module_destroy(module);
}

Test(ops_cost, all_are_finite) {
  int n;
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++) {
    MuseModule *module = muse_module_create("");
    MuseFunc *func;
    MuseCost cost = muse_op_cost(muse_op_case_build(&cases[i], module, "f", &func));
    cr_expect(isfinite(cost.bytes) && isfinite(cost.flops) && isfinite(cost.int_ops) && cost.bytes >= 0 &&
                  cost.flops >= 0,
              "%s", muse_op_info(cases[i].kind)->name);
    muse_module_destroy(module);
  }
}
