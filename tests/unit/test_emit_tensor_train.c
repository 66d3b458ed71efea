// The tensor-train embedding and head at every level of the machine against the oracle.

#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>
#include <math.h>

typedef struct Train {
  int64_t v1, v2, r, d1, d2, D, V;
} Train;

static void fill(void *user, int index, MuseTensor *t) {
  const Train *tt = user;
  const int64_t n = muse_type_elements(t->type);
  if (t->type.dtype == MUSE_I32) { // tokens of which some repeat; the first and the last occur
    for (int64_t i = 0; i < n; i++) t->data[i] = (double)((i * 13 + 5) * (i + 2) % tt->V);
    t->data[0] = (double)(tt->V - 1);
    t->data[n - 1] = 0;
    return;
  }
  if (t->type.rank == 0)
    t->data[0] = 0.25;
  else if (t->type.rank == 1)
    for (int64_t i = 0; i < n; i++) t->data[i] = cos(t->data[i]);
  else // logits of a few units: a saturated softmax would only show the rounding of 1 - p
    for (int64_t i = 0; i < n; i++) t->data[i] *= t->type.rank == 3 ? 0.5 : 0.1;
}

typedef enum What { GATHER, GATHER_GRAD, MATMUL, HEAD, HEAD_GRAD } What;

// skip: bits of results that are not asked for.
static MuseModule *make(Train tt, int64_t N, What what, unsigned skip, MuseOp **out_kernel) {
  static const MuseOpKind kinds[] = {MUSE_OP_tt_gather, MUSE_OP_tt_gather_grad, MUSE_OP_tt_matmul,
                                     MUSE_OP_tt_cross_entropy, MUSE_OP_tt_cross_entropy_grad};
  MuseModule *module = muse_module_create("");
  MuseFunc *func = muse_func_create(module, "f");
  MuseType in[6];
  int n = 0;
  if (what == GATHER_GRAD) in[n++] = muse_type3(MUSE_F32, 1, N, tt.D);
  if (what >= MATMUL) in[n++] = muse_type2(MUSE_F32, N, tt.D);
  in[n++] = muse_type3(MUSE_F32, tt.v1, tt.r, tt.d1);
  in[n++] = muse_type3(MUSE_F32, tt.v2, tt.r, tt.d2);
  in[n++] = muse_type1(MUSE_F32, tt.r);
  if (what <= GATHER_GRAD) in[n++] = muse_type2(MUSE_I32, 1, N);
  if (what >= HEAD) in[n++] = muse_type1(MUSE_I32, N);
  if (what == HEAD_GRAD) in[n++] = muse_scalar_type(MUSE_F32);
  MuseValue *args[6];
  for (int i = 0; i < n; i++) args[i] = muse_region_add_arg(module, &func->body, in[i]);
  MuseAttrList attrs = {0};
  if (what == GATHER) muse_attr_set_int(module, &attrs, "dim", tt.D);
  if (what >= MATMUL) muse_attr_set_int(module, &attrs, "vocab", tt.V);
  MuseBuilder b = muse_builder_at_end(module, &func->body);
  MuseOp *op = muse_build_op(&b, kinds[what], n, args, &attrs);
  MuseValue *returned[5];
  int n_returned = 0;
  for (int i = 0; i < op->n_results; i++)
    if (!(skip >> i & 1)) returned[n_returned++] = op->results[i];
  muse_op_append(muse_op_create(module, MUSE_OP_return, n_returned, returned, 0, NULL), &func->body);
  *out_kernel = muse_harness_outline(module, func, muse_op_info(kinds[what])->name);
  return module;
}

static MuseHarnessReport run(Train tt, int64_t N, What what, unsigned skip, MuseHarness options) {
  MuseOp *kernel;
  MuseModule *module = make(tt, N, what, skip, &kernel);
  options.fill = fill;
  options.user = &tt;
  MuseHarnessReport report;
  muse_harness_run(module, kernel, &options, &report);
  muse_module_destroy(module);
  return report;
}

static void check(Train tt, int64_t N, What what) {
  MuseHarnessReport r = run(tt, N, what, 0, (MuseHarness){0});
  cr_assert_lt(r.worst, 2e-5, "N %d V %d D %d r %d: %g (%g %g %g %g %g)", (int)N, (int)tt.V, (int)tt.D, (int)tt.r,
               r.worst, r.error[0], r.error[1], r.error[2], r.error[3], r.error[4]);
}

static const Train smallest = {1, 1, 1, 1, 1, 1, 1};
static const Train small = {4, 3, 2, 3, 5, 13, 11};
static const Train full = {3, 5, 7, 4, 8, 32, 15};   // nothing left over
static const Train unused = {6, 4, 3, 5, 3, 14, 10}; // i1 without tokens
static const Train bytes = {17, 16, 9, 12, 11, 128, 257};
static const Train wide = {2, 70, 35, 66, 9, 590, 131};

static void check_all(Train tt, What what) {
  if (tt.V < 12) check(tt, 1, what);
  check(tt, 37, what);
}

Test(emit_tensor_train, gather) {
  check_all(smallest, GATHER);
  check_all(small, GATHER);
  check_all(full, GATHER);
  check_all(bytes, GATHER);
  check_all(wide, GATHER);
}
Test(emit_tensor_train, gather_grad) {
  check_all(smallest, GATHER_GRAD);
  check_all(small, GATHER_GRAD);
  check_all(unused, GATHER_GRAD);
  check_all(bytes, GATHER_GRAD);
  check_all(wide, GATHER_GRAD);
}
Test(emit_tensor_train, matmul) {
  check_all(smallest, MATMUL);
  check_all(small, MATMUL);
  check_all(unused, MATMUL);
  check_all(bytes, MATMUL);
  check_all(wide, MATMUL);
}
Test(emit_tensor_train, head) {
  check_all(smallest, HEAD);
  check_all(small, HEAD);
  check_all(unused, HEAD);
  check_all(bytes, HEAD);
}
Test(emit_tensor_train, head_grad) {
  check_all(smallest, HEAD_GRAD);
  check_all(small, HEAD_GRAD);
  check_all(unused, HEAD_GRAD);
  check_all(bytes, HEAD_GRAD);
  check_all(wide, HEAD_GRAD);
}

// Several rounds: groups of i1 and two sweeps for the head, chunks of tokens for the product.
static const Train many = {60, 50, 2, 2, 3, 5, 2977};

Test(emit_tensor_train, rounds) {
  const MuseHarness quick = {.only_best = true, .no_cross = true};
  MuseOp *kernel;
  MuseKernelInfo info;
  MuseModule *module = make(many, 5000, HEAD_GRAD, 0, &kernel);
  muse_kernel_info(kernel, &info);
  cr_assert_gt(info.loop_count, 2);
  muse_module_destroy(module);
  MuseHarnessReport r = run(many, 5000, HEAD_GRAD, 0, quick);
  cr_assert_lt(r.worst, 2e-5, "%g %g %g %g %g", r.error[0], r.error[1], r.error[2], r.error[3], r.error[4]);
  r = run((Train){90, 3, 50, 4, 20, 77, 269}, 60, MATMUL, 0, quick);
  cr_assert_lt(r.worst, 2e-5, "%g", r.worst);
}

Test(emit_tensor_train, some_results) {
  const MuseHarness quick = {.only_best = true, .no_cross = true};
  for (unsigned skip = 1; skip < 7; skip++) {
    MuseHarnessReport r = run(small, 9, GATHER_GRAD, skip, quick);
    cr_assert_lt(r.worst, 2e-5, "%u: %g", skip, r.worst);
  }
  for (unsigned skip = 1; skip < 31; skip += 3) {
    MuseHarnessReport r = run(small, 9, HEAD_GRAD, skip, quick);
    cr_assert_lt(r.worst, 2e-5, "%u: %g", skip, r.worst);
  }
}

Test(emit_tensor_train, workspace_is_bounded) {
  const Train large = {225, 224, 128, 72, 72, 5120, 50257};
  for (int what = GATHER; what <= HEAD_GRAD; what++) {
    MuseOp *kernel;
    MuseKernelInfo info;
    MuseModule *module = make(large, 4096, (What)what, 0, &kernel);
    muse_kernel_info(kernel, &info);
    cr_assert_leq(info.workspace_bytes, 64 << 20, "%d: %ld", what, (long)info.workspace_bytes);
    muse_module_destroy(module);
  }
}
