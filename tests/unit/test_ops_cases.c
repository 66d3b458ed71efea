// The descriptions of the ops themselves: every op has three shapes, every case builds, verifies, prints and parses
// back, and its values fit their types.

#include "ir/text.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

Test(ops_cases, every_op_has_three_shapes) {
  int n, count[MUSE_N_OPS] = {0};
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++) count[cases[i].kind]++;
  for (int kind = 0; kind < MUSE_N_OPS; kind++) {
    const MuseOpInfo *info = muse_op_info((MuseOpKind)kind);
    if (info->class_ != MUSE_CLASS_CONTROL) cr_expect(count[kind] >= 3, "%s has %d cases", info->name, count[kind]);
  }
}

// ops/README.md names every op (tests run in the root of the sources).
Test(ops_cases, every_op_is_documented) {
  FILE *file = fopen("ops/README.md", "rb");
  cr_assert(file, "ops/README.md cannot be opened; run the test in the root of the sources");
  static char text[1 << 16];
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  for (int kind = 0; kind < MUSE_N_OPS; kind++) {
    char name[64];
    snprintf(name, sizeof name, "`%s`", muse_op_info((MuseOpKind)kind)->name);
    cr_expect(strstr(text, name), "ops/README.md does not name %s", name);
  }
}

Test(ops_cases, every_case_verifies_and_reads_back) {
  int n;
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++) {
    const char *name = muse_op_info(cases[i].kind)->name;
    MuseModule *module = muse_module_create(""), *again = NULL;
    MuseDiag *diag = muse_diag_create();
    MuseFunc *func;
    MuseStr first = {0}, second = {0};
    muse_attr_set_text(module, &module->attrs, "level", "tensor");
    muse_op_case_build(&cases[i], module, "case", &func);
    MuseStatus status = muse_ops_verify(module, diag);
    cr_expect(status == MUSE_OK, "%s (%s): %s", name, cases[i].text,
              status == MUSE_OK ? "" : muse_diag_message(diag, 0));
    muse_module_print(module, &first);
    status = muse_module_parse("case", first.data, first.len, &again, diag);
    cr_assert(status == MUSE_OK, "%s (%s): %s", name, cases[i].text, muse_diag_message(diag, 0));
    cr_expect(muse_ops_verify(again, diag) == MUSE_OK);
    muse_module_print(again, &second);
    cr_expect_str_eq(first.data, second.data);
    muse_str_free(&first);
    muse_str_free(&second);
    muse_diag_destroy(diag);
    muse_module_destroy(again);
    muse_module_destroy(module);
  }
}

static void expect_legal_values(const char *name, const MuseTensor *t) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    double x = t->data[i];
    bool ok = isfinite(x);
    if (muse_dtype_is_int(t->type.dtype)) ok &= x == trunc(x);
    if (t->type.dtype == MUSE_I8) ok &= x >= -128 && x <= 127;
    if (t->type.dtype == MUSE_BOOL) ok &= x == 0 || x == 1;
    if (muse_dtype_is_trit(t->type.dtype)) ok &= x == -1 || x == 0 || x == 1;
    cr_assert(ok, "%s: value %g in a tensor of %s", name, x, muse_dtype_name(t->type.dtype));
  }
}

// Operands and results are finite and legal in their type, and every value survives its storage when rounded to it.
Test(ops_cases, values_fit_their_types) {
  int n;
  const MuseOpCase *cases = muse_op_cases(&n);
  for (int i = 0; i < n; i++) {
    const char *name = muse_op_info(cases[i].kind)->name;
    MuseModule *module = muse_module_create("");
    MuseArena *arena = muse_arena_create();
    MuseFunc *func;
    MuseTensor operands[MUSE_CASE_MAX_OPERANDS], results[8];
    MuseOp *op = muse_op_case_build(&cases[i], module, "case", &func);
    muse_op_case_fill(&cases[i], arena, 7, true, operands);
    muse_region_eval(&(MuseEval){arena, true}, &func->body, operands, results);
    for (int k = 0; k < cases[i].n_operands; k++) expect_legal_values(name, &operands[k]);
    for (int k = 0; k < op->n_results; k++) {
      expect_legal_values(name, &results[k]);
      MuseTensor back = muse_tensor_create(arena, results[k].type);
      void *bytes = muse_arena_alloc(arena, (size_t)muse_type_bytes(results[k].type));
      muse_tensor_store(&results[k], bytes);
      muse_tensor_load(&back, bytes);
      for (int64_t e = 0; e < muse_type_elements(back.type); e++)
        cr_assert(back.data[e] == results[k].data[e], "%s (%s) result %d: %a is not exact in its type", name,
                  cases[i].text, k, results[k].data[e]);
    }
    muse_arena_destroy(arena);
    muse_module_destroy(module);
  }
}
