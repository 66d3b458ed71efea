// A composite op evaluates to what its decomposition evaluates to: the formula written in C against the same formula in
// ops.

#include "ops/hooks.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>

// Replaces composites until none is left.
static int decompose_all(MuseModule *module, MuseFunc *func) {
  int replaced = 0;
  for (MuseOp *op = func->body.first, *next; op; op = next) {
    next = op->next;
    if (muse_op_info(op->kind)->class_ != MUSE_CLASS_COMPOSITE) continue;
    MuseBuilder b = muse_builder_before(module, op);
    MuseOp *before = op->prev;
    MuseValue *out[8];
    muse_op_decompose(&b, op, out);
    for (int i = 0; i < op->n_results; i++) muse_replace_uses(&func->body, op->results[i], out[i]);
    muse_op_unlink(op);
    replaced++;
    next = before ? before->next : func->body.first; // a decomposition may hold composites
  }
  return replaced;
}

static void check_case(const MuseOpCase *c, bool round_storage) {
  MuseModule *module = muse_module_create("");
  MuseArena *arena = muse_arena_create();
  MuseDiag *diag = muse_diag_create();
  const char *name = muse_op_info(c->kind)->name;
  MuseFunc *whole, *parts;
  MuseTensor in[MUSE_CASE_MAX_OPERANDS], want[8], got[8];
  muse_attr_set_text(module, &module->attrs, "level", "tensor");
  MuseOp *op = muse_op_case_build(c, module, "whole", &whole);
  muse_op_case_build(c, module, "parts", &parts);
  cr_assert(decompose_all(module, parts) >= 1);
  MuseStatus status = muse_ops_verify(module, diag);
  cr_assert(status == MUSE_OK, "%s: %s", name, status == MUSE_OK ? "" : muse_diag_message(diag, 0));
  muse_op_case_fill(c, arena, 5, true, in);
  MuseEval eval = {arena, round_storage};
  muse_region_eval(&eval, &whole->body, in, want);
  muse_region_eval(&eval, &parts->body, in, got);
  for (int r = 0; r < op->n_results; r++) {
    double worst = 0, largest = 0;
    bool exact = muse_dtype_is_int(want[r].type.dtype) || muse_dtype_is_trit(want[r].type.dtype);
    for (int64_t i = 0; i < muse_type_elements(want[r].type); i++) {
      worst = fmax(worst, fabs(want[r].data[i] - got[r].data[i]));
      largest = fmax(largest, fabs(want[r].data[i]));
      cr_assert(isfinite(got[r].data[i]), "%s (%s): result %d is not finite", name, c->text, r);
    }
    // With every step rounded to f32 a value at the edge of a rounding may fall to the other side; that is one step of
    // a result.
    double bound = round_storage ? (exact ? 1 : 2e-2 * largest) : exact ? 0 : 1e-12 * largest;
    cr_expect(worst <= bound, "%s (%s) {%s}: result %d is off by %g of %g", name, c->text, c->attrs, r, worst, largest);
  }
  muse_diag_destroy(diag);
  muse_arena_destroy(arena);
  muse_module_destroy(module);
}

ParameterizedTestParameters(ops_composite, equals_its_decomposition) {
  static int kinds[MUSE_N_OPS];
  size_t n = 0;
  for (int kind = 0; kind < MUSE_N_OPS; kind++)
    if (muse_op_info((MuseOpKind)kind)->class_ == MUSE_CLASS_COMPOSITE) kinds[n++] = kind;
  return cr_make_param_array(int, kinds, n);
}
ParameterizedTest(int *kind, ops_composite, equals_its_decomposition) {
  int n, checked = 0;
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++) {
    if (cases[i].kind != (MuseOpKind)*kind) continue;
    check_case(&cases[i], false);
    check_case(&cases[i], true);
    checked++;
  }
  cr_expect(checked >= 3);
}
