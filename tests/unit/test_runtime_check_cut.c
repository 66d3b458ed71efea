// Smaller forms of kernels: their shapes, what must stay, and what cannot be cut.
#include "ir/text.h"
#include "ops/ops.h"
#include "runtime/check_cut.h"

#include <criterion/criterion.h>
#include <string.h>

static bool is_small(const MuseOp *kernel) {
  double n = 0;
  for (int i = 0; i < kernel->n_operands; i++) n += (double)muse_type_elements(kernel->operands[i]->type);
  return n <= 20000;
}

// The one kernel of a function.
static MuseModule *parse(const char *text, const MuseOp **out_kernel) {
  MuseModule *module;
  MuseDiag *diag = muse_diag_create();
  MuseStatus status = muse_module_parse("test", text, strlen(text), &module, diag);
  if (status == MUSE_OK) status = muse_ops_verify(module, diag);
  if (status != MUSE_OK) muse_diag_print(diag, stderr);
  cr_assert_eq(status, MUSE_OK);
  muse_diag_destroy(diag);
  *out_kernel = module->first_func->body.first;
  return module;
}

static const char product[] = "module {level = \"kernel\"} source \"\"\n"
                              "func @f(%0 : f32[4096,320], %1 : f32[1000,320]) -> () {\n"
                              "  %2 = kernel %0, %1 {skeleton = \"matmul\"} : f32[4096,1000] {\n"
                              "  ^(%3 : f32[4096,320], %4 : f32[1000,320]):\n"
                              "    %5 = matmul %3, %4 {trans_b = true} : f32[4096,1000]\n"
                              "    yield %5\n"
                              "  }\n"
                              "  return\n"
                              "}\n";

Test(check_cut, product) {
  const MuseOp *kernel;
  MuseCutKernel cut;
  MuseModule *module = parse(product, &kernel);
  cr_assert(muse_kernel_cut(module, kernel, is_small, &cut));
  const MuseOp *small = cut.kernel;
  cr_assert(is_small(small));
  cr_assert_str_eq(muse_op_text(small, "skeleton"), "matmul");
  cr_assert_eq(small->operands[0]->type.dim[1], small->operands[1]->type.dim[1]); // the common dimension stayed common
  cr_assert_eq(small->operands[0]->type.dim[0], small->results[0]->type.dim[0]);
  cr_assert_eq(small->operands[0]->type.dim[0], 32); // the largest goes first
  cr_assert_eq(kernel->operands[0]->type.dim[0], 4096);
  muse_cut_free(&cut);
  muse_module_destroy(module);
}

// A random stream keeps its number, a shape follows the type.
static const char rounding[] = "module {level = \"kernel\"} source \"\"\n"
                               "func @f(%0 : f32[8,512,64], %1 : u32[2]) -> () {\n"
                               "  %2 = kernel %0, %1 {skeleton = \"map\", rng_ids = [77]} : f32[8,512,64] {\n"
                               "  ^(%3 : f32[8,512,64], %4 : u32[2]):\n"
                               "    %5 = stochastic_round %3, %4 {rng_id = 0} : f32[8,512,64]\n"
                               "    yield %5\n"
                               "  }\n"
                               "  return\n"
                               "}\n";

Test(check_cut, random_streams) {
  const MuseOp *kernel;
  MuseCutKernel cut;
  MuseModule *module = parse(rounding, &kernel);
  cr_assert(muse_kernel_cut(module, kernel, is_small, &cut));
  const MuseAttr *ids = muse_attr_find(&cut.kernel->attrs, "rng_ids");
  cr_assert(ids && ids->ints.len == 1 && ids->ints.data[0] == 77);
  cr_assert_eq(cut.kernel->results[0]->type.dim[0], 8); // too short to be cut
  cr_assert_lt(cut.kernel->results[0]->type.dim[1], 512);
  muse_cut_free(&cut);
  muse_module_destroy(module);
}

static bool nothing_is_small(const MuseOp *kernel) { return false; }

Test(check_cut, not_small_enough) {
  const MuseOp *kernel;
  MuseCutKernel cut;
  MuseModule *module = parse(product, &kernel);
  cr_assert(!muse_kernel_cut(module, kernel, nothing_is_small, &cut));
  cr_assert_null(cut.module);
  muse_module_destroy(module);
}
