// Mathematical functions that no op of its own uses (attention and tables call them), targets, and refusals of the
// emitter.

#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_builder.h"
#include "compiler/emit_llvm_math.h"
#include "compiler/emit_llvm_target.h"
#include "ops/ops.h"
#include "runtime/cpu_jit.h"
#include "tests/unit/foreign_cpu.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 20000 };

typedef struct Function {
  const char *name;
  LLVMValueRef (*build)(MuseLlvm *ll, LLVMValueRef x);
  double (*reference)(double);
  double low, high;
  bool logarithmic, absolute; // errors in ulp, or absolute in units of 2^-24 (f64: 2^-53)
  double bound_f32, bound_f64;
} Function;

static LLVMValueRef build_cosh(MuseLlvm *ll, LLVMValueRef x) {
  LLVMValueRef c;
  muse_llvm_cosh_sinh(ll, x, &c, NULL);
  return c;
}
static LLVMValueRef build_sinh(MuseLlvm *ll, LLVMValueRef x) {
  LLVMValueRef s;
  muse_llvm_cosh_sinh(ll, x, NULL, &s);
  return s;
}
static LLVMValueRef build_sin(MuseLlvm *ll, LLVMValueRef x) {
  LLVMValueRef s;
  muse_llvm_sincos(ll, x, &s, NULL);
  return s;
}
static LLVMValueRef build_cos(MuseLlvm *ll, LLVMValueRef x) {
  LLVMValueRef c;
  muse_llvm_sincos(ll, x, NULL, &c);
  return c;
}
static double acosh_1p(double t) { return log1p(t + sqrt(t * (t + 2))); }

static const Function functions[] = {
    {"log1p", muse_llvm_log1p, log1p, 1e-30, 1e30, true, false, 2, 3},
    {"log1p near 0", muse_llvm_log1p, log1p, -0.9, 3, false, false, 2, 3},
    {"cosh", build_cosh, cosh, -89, 89, false, false, 2.5, 4},
    {"sinh", build_sinh, sinh, -89, 89, false, false, 2.5, 4},
    {"sinh near 0", build_sinh, sinh, 1e-20, 2, true, false, 2.5, 4},
    {"acosh(1 + t)", muse_llvm_acosh_1p, acosh_1p, 1e-12, 1e17, true, false, 3, 5},
    {"sin", build_sin, sin, -1000, 1000, false, true, 1.1, 2},
    {"cos", build_cos, cos, -70000, 70000, false, true, 1.1, 4},
};

// The emitter under test, of the function that `chosen` names.
static const Function *chosen;

static bool emit_function(MuseLlvm *ll, const MuseOp *kernel) {
  MuseDtype dtype = kernel->results[0]->type.dtype;
  muse_llvm_stage_begin(ll, kernel, 0);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, N), ll->lanes);
  LLVMValueRef left = LLVMBuildSub(ll->b, muse_llvm_i64(ll, N), loop.index, "");
  LLVMValueRef x = muse_llvm_load(ll, dtype, muse_llvm_operand(ll, 0), loop.index, ll->lanes, left);
  muse_llvm_store(ll, dtype, muse_llvm_result(ll, 0), loop.index, chosen->build(ll, x), ll->lanes, left);
  muse_llvm_loop_end(ll, &loop);
  muse_llvm_stage_end(ll);
  return true;
}

static MuseOp *create_kernel(MuseModule *module, const char *skeleton, MuseType type) {
  MuseFunc *func = muse_func_create(module, "f");
  MuseValue *x = muse_region_add_arg(module, &func->body, type);
  MuseOp *kernel = muse_op_create(module, MUSE_OP_kernel, 1, &x, 1, &type);
  muse_attr_set_text(module, &kernel->attrs, "skeleton", skeleton);
  muse_op_append(kernel, &func->body);
  MuseRegion *body = muse_op_create_body(module, kernel);
  MuseValue *arg = muse_region_add_arg(module, body, type);
  muse_op_append(muse_op_create(module, MUSE_OP_yield, 1, &arg, 0, NULL), body);
  return kernel;
}

static void expect_ok(MuseStatus status, MuseDiag *diag) {
  if (status != MUSE_OK) muse_diag_print(diag, stderr);
  cr_assert_eq(status, MUSE_OK);
}

static double unit_in_last_place(double x, bool wide) {
  int exponent;
  frexp(x, &exponent);
  int least = wide ? -1021 : -125;
  return ldexp(1, (exponent < least ? least : exponent) - (wide ? 53 : 24));
}

static double worst_error(const Function *f, MuseDtype dtype, const MuseCpuTarget *target, MuseDiag *diag) {
  static _Alignas(64) double here[2 * N];
  bool foreign = muse_foreign_wanted();
  size_t span = (sizeof here + 2 * 64 + 4095) / 4096 * 4096; // the arguments stand behind the values
  double *in = foreign ? muse_foreign_map(span) : here, *out = in + N;
  bool wide = dtype == MUSE_F64;
  float *in32 = (float *)in, *out32 = (float *)out;
  for (int i = 0; i < N; i++) {
    double u = (double)i / (N - 1);
    double x = f->logarithmic ? exp(log(f->low) + u * (log(f->high) - log(f->low))) : f->low + u * (f->high - f->low);
    if (wide)
      in[i] = x;
    else
      in32[i] = (float)x;
  }
  MuseModule *module = muse_module_create("");
  MuseOp *kernel = create_kernel(module, "map", muse_type1(dtype, N));
  char *object;
  size_t bytes;
  chosen = f;
  expect_ok(muse_emit_llvm_with(emit_function, kernel, "k", target, "object", &object, &bytes, diag), diag);
  MuseJit *jit = NULL;
  void *address, *buffers[] = {in, out, NULL, NULL};
  if (foreign) {
    muse_foreign_choose(target->level == MUSE_CPU_NEON_DOT);
    muse_foreign_load(object, bytes);
    memcpy(out + N, buffers, sizeof buffers);
    muse_foreign_call(f->name, muse_foreign_lookup("k_0"), (void **)(out + N), 0, 1, NULL, 0);
  } else {
    expect_ok(muse_cpu_jit_create(&jit, diag), diag);
    expect_ok(muse_cpu_jit_add_object(jit, object, bytes, diag), diag);
    expect_ok(muse_cpu_jit_lookup(jit, "k_0", &address, diag), diag);
    ((MuseKernelFn)address)(buffers, 0, 1, NULL, 0);
  }
  double worst = 0;
  for (int i = 0; i < N; i++) {
    double want = f->reference(wide ? in[i] : (double)in32[i]), got = wide ? out[i] : (double)out32[i];
    double unit = f->absolute ? (wide ? 0x1p-53 : 0x1p-24) : unit_in_last_place(want, wide);
    double e = fabs(got - want) / unit;
    if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
  }
  if (foreign) muse_foreign_unmap(in, span);
  else muse_cpu_jit_destroy(jit);
  free(object);
  muse_module_destroy(module);
  return worst;
}

static void check_accuracy(const MuseCpuTarget *target, MuseDiag *diag) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    double e32 = worst_error(&functions[i], MUSE_F32, target, diag);
    double e64 = worst_error(&functions[i], MUSE_F64, target, diag);
    printf("%-8s %-14s f32 %.2f  f64 %.2f\n", muse_cpu_level_name(target->level), functions[i].name, e32, e64);
    cr_expect_lt(e32, functions[i].bound_f32, "%s f32: %g", functions[i].name, e32);
    cr_expect_lt(e64, functions[i].bound_f64, "%s f64: %g", functions[i].name, e64);
  }
}

Test(emit_functions, accuracy) {
  static const char *const foreign[] = {"cpu:aarch64-scalar", "cpu:neon", "cpu:neon-dot"};
  MuseDiag *diag = muse_diag_create();
  MuseCpuTarget target;
  for (int i = 0; i < 3 && muse_foreign_wanted(); i++) {
    expect_ok(muse_llvm_parse_target(foreign[i], &target, diag), diag);
    check_accuracy(&target, diag);
  }
  for (int level = MUSE_CPU_SCALAR; level <= MUSE_CPU_NEON_DOT && !muse_foreign_wanted(); level++)
    if (muse_llvm_host_target((MuseCpuLevel)level, true, &target)) check_accuracy(&target, diag);
  muse_diag_destroy(diag);
}

// ---- targets ----

Test(emit_targets, names) {
  static const struct {
    const char *text;
    MuseCpuLevel level;
  } names[] = {
      {"cpu:scalar", MUSE_CPU_SCALAR},   {"cpu:x86-64-v3", MUSE_CPU_AVX2}, {"cpu:avx512-vnni", MUSE_CPU_AVX512_VNNI},
      {"cpu:aarch64", MUSE_CPU_NEON},    {"cpu:amx", MUSE_CPU_AMX},        {"cpu:neon-dot", MUSE_CPU_NEON_DOT},
      {"cpu:x86-64-v4", MUSE_CPU_AVX512}};
  MuseDiag *diag = muse_diag_create();
  MuseCpuTarget target;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    expect_ok(muse_llvm_parse_target(names[i].text, &target, diag), diag);
    cr_expect_eq(target.level, names[i].level, "%s", names[i].text);
  }
  expect_ok(muse_llvm_parse_target("cpu", &target, diag), diag);
  MuseCpuTarget best;
  cr_assert(muse_llvm_host_target(MUSE_CPU_NEON_DOT, false, &best));
  cr_expect_eq(best.level, target.level);
  cr_expect_eq(muse_llvm_parse_target("cpu:z80", &target, diag), MUSE_ERR_INPUT);
  cr_expect_not_null(strstr(muse_diag_message(diag, 0), "unknown CPU target 'cpu:z80'; known are cpu, cpu:host,"));
  muse_diag_destroy(diag);
}

Test(emit_targets, host_levels) {
  MuseCpuTarget target;
  cr_expect(muse_llvm_host_target(MUSE_CPU_SCALAR, true, &target));
  cr_expect_eq(target.vector_bytes, 4);
  // Below a limit the best level is taken, and never one above it.
  for (int limit = MUSE_CPU_SCALAR; limit <= MUSE_CPU_NEON_DOT; limit++) {
    cr_assert(muse_llvm_host_target((MuseCpuLevel)limit, false, &target));
    cr_expect_leq((int)target.level, limit);
    MuseCpuTarget exact;
    if (muse_llvm_host_target((MuseCpuLevel)limit, true, &exact)) cr_expect_eq(exact.level, target.level);
  }
}

Test(emit_targets, version_names_the_build) {
  // 160 bits of build id: what the kernel cache keys on.
  const char *id = strstr(muse_emit_llvm_version(), ", emitters ");
  cr_assert_not_null(id);
  cr_expect_eq(strspn(id + 11, "0123456789abcdef"), 40, "%s", id);
}

// ---- refusals ----

static bool emit_outside_call(MuseLlvm *ll, const MuseOp *kernel) {
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMTypeRef type = LLVMFunctionType(ll->void_type, NULL, 0, false);
  LLVMBuildCall2(ll->b, type, LLVMAddFunction(ll->module, "somebody_else", type), NULL, 0, "");
  muse_llvm_stage_end(ll);
  return true;
}

static bool emit_invalid(MuseLlvm *ll, const MuseOp *kernel) {
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMBuildAdd(ll->b, ll->begin, ll->scratch, ""); // an integer and a pointer; and no return
  return true;
}

static bool emit_failing(MuseLlvm *ll, const MuseOp *kernel) {
  return muse_llvm_fail(ll, "the shape is %d too odd", 3);
}

static void expect_refusal(MuseStatus status, MuseStatus want, char *data, MuseDiag *diag, const char *text) {
  cr_expect_eq(status, want);
  cr_expect_null(data);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 1);
  cr_expect_not_null(strstr(muse_diag_message(diag, 0), text), "%s", muse_diag_message(diag, 0));
  muse_diag_clear(diag);
}

Test(emit_functions, refusals) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = muse_module_create("");
  MuseOp *kernel = create_kernel(module, "no_such_form", muse_type1(MUSE_F32, 8));
  MuseCpuTarget t;
  expect_ok(muse_llvm_parse_target("cpu:scalar", &t, diag), diag);
  char *data = NULL;
  size_t n;
  MuseStatus s = muse_emit_llvm_kernel(kernel, "k", &t, "object", &data, &n, diag);
  expect_refusal(s, MUSE_ERR_INPUT, data, diag, "skeleton 'no_such_form', which the CPU emitter does not know");
  muse_attr_set_text(module, &kernel->attrs, "skeleton", "map");
  s = muse_emit_llvm_kernel(kernel, "k", &t, "punched cards", &data, &n, diag);
  expect_refusal(s, MUSE_ERR_INPUT, data, diag, "not as 'punched cards'");
  s = muse_emit_llvm_with(emit_outside_call, kernel, "k", &t, "object", &data, &n, diag);
  expect_refusal(s, MUSE_ERR_FAILED, data, diag, "needs the outside function 'somebody_else'");
  s = muse_emit_llvm_with(emit_invalid, kernel, "k", &t, "object", &data, &n, diag);
  expect_refusal(s, MUSE_ERR_FAILED, data, diag, "is not valid LLVM IR");
  s = muse_emit_llvm_with(emit_failing, kernel, "k", &t, "object", &data, &n, diag);
  expect_refusal(s, MUSE_ERR_FAILED, data, diag, "the shape is 3 too odd");
  expect_ok(muse_emit_llvm_kernel(kernel, "k", &t, "llvm", &data, &n, diag), diag);
  cr_expect_not_null(strstr(data, "define void @k_0"));
  free(data);
  expect_ok(muse_emit_llvm_kernel(kernel, "k", &t, "asm", &data, &n, diag), diag);
  cr_expect_not_null(strstr(data, "k_0:"));
  free(data);
  MuseJit *jit;
  void *address;
  expect_ok(muse_cpu_jit_create(&jit, diag), diag);
  cr_expect(muse_cpu_jit_add_object(jit, "nonsense", 8, diag) != MUSE_OK ||
                    muse_cpu_jit_lookup(jit, "nothing", &address, diag) != MUSE_OK);
  cr_expect_geq(muse_diag_count(diag, MUSE_ERROR), 1);
  muse_cpu_jit_destroy(jit);
  muse_module_destroy(module);
  muse_diag_destroy(diag);
}
