// Plans: what the runtime reads of them, round trips through files, and damaged plans with the sentence that refuses
// each.
#include "compiler/plan.h"

#include "ir/text.h"
#include "ops/ops.h"
#include "tests/unit/scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *const program = "module {level = \"kernel\"} source \"c.yaml\"\n"
                                   "buffer @w : f32[8,16] role \"param\"\n"
                                   "buffer @x : f32[8,16] role \"input\"\n"
                                   "func @step(%0 : f32[8,16] {buffer = \"w\"}, %1 : f32[8,16] {buffer = \"x\"}) -> "
                                   "({buffer = \"w\"}, {name = \"y\"}) {\n"
                                   "  %2 = kernel %1 {skeleton = \"map\"} : f32[8,16] {\n"
                                   "  ^(%3 : f32[8,16]):\n"
                                   "    %4 = exp %3 : f32[8,16]\n"
                                   "    yield %4\n"
                                   "  }\n"
                                   "  %5 = kernel %0 {skeleton = \"map\"} : f32[8,16] {\n"
                                   "  ^(%6 : f32[8,16]):\n"
                                   "    %7 = exp %6 : f32[8,16]\n"
                                   "    yield %7\n"
                                   "  }\n"
                                   "  %8 = reshape %2 {shape = [128]} : f32[128]\n"
                                   "  %9 = kernel %8 {skeleton = \"map\"} : f32[1] {\n"
                                   "  ^(%10 : f32[128]):\n"
                                   "    %11 = reduce_sum %10 {axes = [0]} : f32[1]\n"
                                   "    yield %11\n"
                                   "  }\n"
                                   "  return %5, %9\n"
                                   "}\n"
                                   "func @nothing() -> () {\n"
                                   "  return\n"
                                   "}\n";

// The program with its memory plan, as text.
static char *planned(void) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *m = NULL;
  cr_assert_eq(muse_module_parse("c.mir", program, strlen(program), &m, diag), MUSE_OK, "%s",
               muse_diag_message(diag, 0));
  cr_assert_eq(muse_memory_plan(m, diag), MUSE_OK);
  muse_attr_set_int(m, &m->attrs, "plan_version", MUSE_PLAN_VERSION);
  MuseStr text = {0};
  muse_module_print(m, &text);
  muse_module_destroy(m);
  muse_diag_destroy(diag);
  return text.data;
}

Test(compiler_plan, calls_kernels_and_places) {
  char *text = planned();
  MuseDiag *diag = muse_diag_create();
  MusePlan *plan = NULL;
  cr_assert_eq(muse_plan_parse("p.plan", text, strlen(text), &plan, diag), MUSE_OK, "%s", muse_diag_message(diag, 0));
  cr_expect_eq(plan->n_kernels, 2);
  cr_expect_eq(plan->n_funcs, 2);
  cr_expect_eq(plan->buffer_bytes, 1024);
  const MusePlanFunc *f = muse_plan_func(plan, "step");
  cr_assert_eq(f->n_calls, 3);
  cr_expect_eq(f->calls[0].kernel, f->calls[1].kernel); // equal text, equal code
  cr_expect_neq(f->calls[0].kernel, f->calls[2].kernel);
  cr_expect_eq(plan->kernels[0]->n_calls, 2);
  cr_expect_eq(plan->kernels[1]->index, 1);
  cr_expect_str_eq(plan->kernels[0]->text, "kernel {skeleton = \"map\"} : f32[8,16] {\n^(%0 : f32[8,16]):\n"
                                           "  %1 = exp %0 : f32[8,16]\n  yield %1\n}\n");
  MuseHash hash = muse_hash128(plan->kernels[0]->text, strlen(plan->kernels[0]->text));
  cr_expect(hash.lo == plan->kernels[0]->hash.lo && hash.hi == plan->kernels[0]->hash.hi);
  cr_expect(plan->kernels[0]->info.n_stages >= 1);
  const MusePlace *p = f->calls[0].places;
  cr_expect(p[0].kind == MUSE_PLACE_BUFFER && p[0].buffer == 1 && p[0].bytes == 512);
  cr_expect(p[1].kind == MUSE_PLACE_SLAB && p[1].offset % 64 == 0 && p[1].bytes == 512);
  cr_expect_eq(p[2].kind, MUSE_PLACE_NONE);
  p = f->calls[1].places;
  cr_expect(p[0].kind == MUSE_PLACE_BUFFER && p[0].buffer == 0 && p[1].kind == MUSE_PLACE_BUFFER && p[1].buffer == 0);
  cr_expect_eq(f->calls[2].places[0].offset, f->calls[0].places[1].offset); // through the reshape
  cr_expect(f->results[0].kind == MUSE_PLACE_BUFFER && f->results[0].buffer == 0);
  cr_expect(f->results[1].kind == MUSE_PLACE_SLAB && f->results[1].bytes == 4);
  cr_expect_eq(f->args[1].buffer, 1);
  cr_expect_eq(plan->slab_bytes, f->slab_bytes);
  cr_expect_eq(muse_plan_func(plan, "nothing")->n_calls, 0);
  cr_expect_null(muse_plan_func(plan, "else"));
  muse_plan_destroy(plan);
  muse_diag_destroy(diag);
  free(text);
}

Test(compiler_plan, saved_and_loaded_is_the_same_text, .init = scratch_setup, .fini = scratch_teardown) {
  char *text = planned();
  MuseModule *m = NULL;
  cr_assert_eq(muse_module_parse("p.plan", text, strlen(text), &m, diag), MUSE_OK);
  muse_attr_remove(&m->attrs, "plan_version"); // save sets it
  const char *path = scratch("a.plan");
  cr_assert_eq(muse_plan_save(m, path, diag), MUSE_OK);
  MusePlan *plan = NULL;
  cr_assert_eq(muse_plan_load(path, &plan, diag), MUSE_OK, "%s", muse_diag_message(diag, 0));
  MuseStr again = {0};
  muse_module_print(plan->module, &again);
  cr_expect_str_eq(again.data, text);
  muse_str_free(&again);
  muse_plan_destroy(plan);
  muse_module_destroy(m);
  free(text);
}

// --- kernels of a form that no emitter knows ---

#define KERNEL(skeleton, operands, args, results, body)                                          \
  "func @f(%0 : f32[4,4], %1 : f32[4,4], %2 : f32[3]) -> () {\n  " results " = kernel " operands \
  " {skeleton = \"" skeleton "\"} : f32[4,4] {\n  ^(" args "):\n" body "  }\n  return\n}\n"
#define TWO "%4 : f32[4,4], %5 : f32[4,4]"

static const struct { const char *name, *text, *fault;
} forms[] = {
    {"map", KERNEL("map", "%0, %1", TWO, "%3", "%6 = add %4, %5 : f32[4,4]\nyield %6\n"), NULL},
    {"shapes", KERNEL("map", "%0, %2", "%4 : f32[4,4], %5 : f32[3]", "%3", "%6 = neg %5 : f32[3]\nyield %4\n"),
     "its values have no common shape"},
    {"matmul in map", KERNEL("map", "%0, %1", TWO, "%3", "%6 = matmul %4, %5 : f32[4,4]\nyield %6\n"),
     "an op does not fit its shape"},
    {"terminal used inside",
     KERNEL("map", "%0, %1", TWO, "%3",
            "%6 = reduce_sum %4 {axes = [0]} : f32[1,4]\n%7 = mul %5, %6 : f32[4,4]\nyield %7\n"),
     "a sum over rows is used inside it"},
    {"matmul",
     KERNEL("matmul", "%0, %1", TWO, "%3", "%6 = matmul %4, %5 : f32[4,4]\n%7 = neg %6 : f32[4,4]\nyield %7\n"), NULL},
    {"two products",
     KERNEL("matmul", "%0, %1", TWO, "%3", "%6 = matmul %4, %5 : f32[4,4]\n%7 = matmul %5, %4 : f32[4,4]\nyield %7\n"),
     "its products do not share the left operand"},
    {"chained products",
     KERNEL("matmul", "%0, %1", TWO, "%3", "%6 = matmul %4, %5 : f32[4,4]\n%7 = matmul %6, %4 : f32[4,4]\nyield %7\n"),
     "a product does not read tensors in memory"},
    {"no product", KERNEL("matmul", "%0, %1", TWO, "%3", "yield %4\n"), "it holds no such op"},
    {"prologue",
     KERNEL("matmul", "%0, %1", TWO, "%3", "%6 = neg %4 : f32[4,4]\n%7 = matmul %4, %5 : f32[4,4]\nyield %7\n"),
     "an op does not depend on a product"},
    {"reduction after a product",
     KERNEL("matmul", "%0, %1", TWO, "%3",
            "%6 = matmul %4, %5 : f32[4,4]\n%7 = reduce_sum %6 {axes = [1]} : f32[4,1]\nyield %6\n"),
     "an op cannot follow a product"},
    {"transpose",
     KERNEL("transpose", "%0", "%4 : f32[4,4]", "%3", "%6 = transpose %4 {perm = [1, 0]} : f32[4,4]\nyield %6\n"),
     NULL},
    {"two ops",
     KERNEL("transpose", "%0", "%4 : f32[4,4]", "%3",
            "%6 = transpose %4 {perm = [1, 0]} : f32[4,4]\n%7 = neg %6 : f32[4,4]\nyield %7\n"),
     "it holds more than that op"},
    {"yields an operand",
     KERNEL("transpose", "%0", "%4 : f32[4,4]", "%3", "%6 = transpose %4 {perm = [1, 0]} : f32[4,4]\nyield %4\n"),
     "it yields something else than results of its op"},
    {"unknown", KERNEL("spiral", "%0", "%4 : f32[4,4]", "%3", "yield %4\n"), "there is no such skeleton"},
};

Test(compiler_plan, kernels_of_a_strange_form_are_found) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    MuseDiag *diag = muse_diag_create();
    MuseModule *m = NULL;
    cr_assert_eq(muse_module_parse("t.mir", forms[i].text, strlen(forms[i].text), &m, diag), MUSE_OK, "%s",
                 muse_diag_message(diag, 0));
    cr_assert_eq(muse_ops_verify(m, diag), MUSE_OK, "%s: %s", forms[i].name, muse_diag_message(diag, 0));
    const char *fault = muse_kernel_fault(m->first_func->body.first);
    cr_expect_str_eq(fault ? fault : "", forms[i].fault ? forms[i].fault : "", "%s: %s", forms[i].name, fault);
    muse_module_destroy(m);
    muse_diag_destroy(diag);
  }
}

// --- damaged plans ---

typedef struct Damage { const char *name, *from, *to, *message; } Damage;

#define STEP "the memory plan of function @step is damaged"
#define AGAIN "; run musec again"

static const Damage damages[] = {
    {"no version", ", plan_version = 1", "", "'p.plan' is not a plan (it has no plan_version); make one with musec"},
    {"other version", "plan_version = 1", "plan_version = 2",
     "'p.plan' is a plan of version 2, but this program reads version 1; run musec again on its configuration"},
    {"level", "level = \"kernel\"", "level = \"tensor\"",
     "'p.plan' is not a plan (its level is not \"kernel\"); make one with musec"},
    {"skeleton", "skeleton = \"map\"", "skeleton = \"mop\"",
     "'p.plan': a kernel of skeleton 'mop' cannot be used: there is no such skeleton; run musec again"},
    {"skeleton of another op", "skeleton = \"map\"", "skeleton = \"transpose\"",
     "'p.plan': a kernel of skeleton 'transpose' cannot be used: it holds no such op; run musec again"},
    {"body", "exp %3 : f32[8,16]", "transpose %3 {perm = [0, 1]} : f32[8,16]",
     "'p.plan': a kernel of skeleton 'map' cannot be used: an op does not fit its shape; run musec again"},
    {"no slab", "slab = ", "slap = ", STEP ": the function has no slab size" AGAIN},
    {"negative slab", "slab = ", "slab = -", STEP ": a slab of -576 bytes cannot be" AGAIN},
    {"enormous slab", "slab = ", "slab = 9000000000000000",
     STEP ": a slab of 9000000000000000576 bytes cannot be" AGAIN},
    {"small slab", "slab = 5", "slab = 3", STEP ", kernel of %2: a result ends outside the slab of 376 bytes" AGAIN},
    {"offset far away", "offset = [0]", "offset = [9223372036854775744]",
     STEP ", kernel of %2: a result ends outside the slab of 576 bytes" AGAIN},
    {"offset not aligned", "offset = [0]", "offset = [32]",
     STEP ", kernel of %2: the offset 32 of a result is not a multiple of 64" AGAIN},
    {"offset negative", "offset = [0]", "offset = [-64]",
     STEP ", kernel of %2: the offset -64 of a result is not a multiple of 64" AGAIN},
    {"offset of nothing", "offset = [0]", "offset = [-1]",
     STEP ", kernel of %2: the offset -1 of a result is not a multiple of 64" AGAIN},
    {"offset of a buffer", "offset = [-1]", "offset = [0]",
     STEP ", kernel of %5: result 0 lives in a buffer, but has the offset 0" AGAIN},
    {"offset missing", ", offset = [0]", "", STEP ", kernel of %2: the kernel has no offsets" AGAIN},
    {"overlap", "offset = [512]", "offset = [0]",
     STEP ", kernel of %9: result 0 overlaps a tensor that is in use" AGAIN},
    {"workspace unasked", "offset = [0]", "offset = [0], workspace = [64, 0]",
     STEP ", kernel of %2: its workspace has 64 bytes, but the kernel needs 0" AGAIN},
    {"unbound argument", "(%0 : f32[8,16] {buffer = \"w\"}", "(%0 : f32[8,16]",
     STEP ": argument 0 is bound to no buffer" AGAIN},
    {"argument for result", "return %5, %9", "return %1, %9", STEP ": result 0 is not made in buffer 'w'" AGAIN},
    {"result twice", "-> ({buffer = \"w\"}, {name = \"y\"})", "-> ({buffer = \"w\"}, {buffer = \"x\"})",
     "in function @step: result 1 has type f32[1], but buffer 'x' has type f32[8,16]"},
    {"buffer needed", "  %5 = kernel %0 ", "  %5 = kernel %1 ", NULL}, // legal: w is written from x
    {"old value read later", "  %8 = reshape %2 ", "  %8 = reshape %0 ",
     STEP ", kernel of %5: buffer 'w' is overwritten while its old value is needed" AGAIN},
    {"type", "exp %3 : f32[8,16]", "exp %3 : f32[8,17]",
     "in function @step: result 0 has type f32[8,17], but its operands make it f32[8,16]: in \"%4 = exp %3 : "
     "f32[8,17]\""},
};

Test(compiler_plan, damaged_plans_are_refused) {
  char *text = planned();
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    const Damage *d = &damages[i];
    char *at = strstr(text, d->from);
    cr_assert_not_null(at, "%s: no '%s' in\n%s", d->name, d->from, text);
    MuseStr changed = {0};
    muse_str_append_n(&changed, text, (size_t)(at - text));
    muse_str_append(&changed, d->to);
    muse_str_append(&changed, at + strlen(d->from));
    MuseDiag *diag = muse_diag_create();
    MusePlan *plan = NULL;
    MuseStatus status = muse_plan_parse("p.plan", changed.data, changed.len, &plan, diag);
    cr_expect_eq(status, d->message ? MUSE_ERR_INPUT : MUSE_OK, "%s: status %d", d->name, (int)status);
    const char *message = muse_diag_message(diag, 0);
    cr_expect_str_eq(message ? message : "", d->message ? d->message : "", "%s:\n got:  %s\n want: %s", d->name,
                     message, d->message);
    if (status == MUSE_OK) muse_plan_destroy(plan);
    muse_diag_destroy(diag);
    muse_str_free(&changed);
  }
  free(text);
}

Test(compiler_plan, every_changed_byte_is_safe) {
  char *text = planned();
  size_t length = strlen(text);
  for (size_t i = 0; i < length; i++) {
    char old = text[i];
    text[i] = "0-9}%7"[i % 6];
    MuseDiag *diag = muse_diag_create();
    MusePlan *plan = NULL;
    MuseStatus status = muse_plan_parse("p.plan", text, length, &plan, diag);
    cr_expect_eq(status == MUSE_OK, plan != NULL);
    cr_expect_eq(status != MUSE_OK, muse_diag_count(diag, MUSE_ERROR) > 0, "byte %zu", i);
    muse_plan_destroy(plan);
    muse_diag_destroy(diag);
    text[i] = old;
  }
  free(text);
}

Test(compiler_plan, a_missing_file_is_named) {
  MuseDiag *diag = muse_diag_create();
  MusePlan *plan = NULL;
  cr_expect_neq(muse_plan_load("/nonexistent/x.plan", &plan, diag), MUSE_OK);
  cr_expect_not_null(strstr(muse_diag_message(diag, 0), "/nonexistent/x.plan"));
  muse_diag_destroy(diag);
}
