// Fusion over random programs: maps, reductions over rows and columns, products, in two stages and any order. Whatever
// is fused, the results stay, every kernel has the form that its skeleton takes for granted, and no kernels wait for
// each other.
#include "compiler/kernel_info.h"
#include "tests/unit/model_env.h"

#include "ir/base/philox.h"
#include "ir/text.h"
#include "passes/manager.h"

#include <criterion/criterion.h>
#include <string.h>

// Large enough for fuse_map to join readers of one value (1024 elements).
enum { ROWS = 33, COLUMNS = 32, MAX_VALUES = 200 };

typedef struct Program {
  MuseModule *module;
  MuseFunc *fn;
  MuseBuilder b;
  MuseValue *values[MAX_VALUES]; // f32 of the shapes [ROWS,COLUMNS], [ROWS,1], [1,COLUMNS], [COLUMNS,COLUMNS], []
  int n, n_args;
  MuseValue *q, *trits, *rng;
  uint32_t state, seed;
} Program;

static int below(Program *p, int n) { return (int)(muse_random_u32(p->state++, 3, p->seed, 0) % (uint32_t)n); }

static MuseValue *argument(Program *p, MuseType type) {
  char name[16];
  snprintf(name, sizeof name, "a%d", p->n_args++);
  return muse_func_arg_for_buffer(p->fn, muse_module_add_buffer(p->module, name, type, "input"));
}

// A value, rather a late one, so that programs are deep.
static MuseValue *pick(Program *p) {
  int back = below(p, 3) ? below(p, 6) : below(p, p->n);
  return p->values[p->n - 1 - (back < p->n ? back : p->n - 1)];
}

static MuseValue *pick_shape(Program *p, int64_t rows, int64_t columns) {
  for (int tries = 0; tries < 50; tries++) {
    MuseValue *v = pick(p);
    if (v->type.rank == 2 && v->type.dim[0] == rows && v->type.dim[1] == columns) return v;
  }
  return p->values[columns == rows ? 1 : 0]; // arguments
}

static bool broadcasts(MuseType a, MuseType b) {
  return muse_type_broadcasts_to(a, b) || muse_type_broadcasts_to(b, a);
}

static MuseValue *quantised_product(Program *p) {
  MuseValue *operands[] = {p->q, p->trits};
  MuseValue *sum = muse_build_op(&p->b, MUSE_OP_ternary_matmul, 2, operands, NULL)->results[0];
  MuseValue *scale = muse_build_const(&p->b, below(p, 2) ? 0.01 : 0.02);
  return muse_build_binary(&p->b, MUSE_OP_mul, muse_build_cast(&p->b, sum, MUSE_F32), scale);
}

static MuseValue *random_op(Program *p) {
  static const MuseOpKind unary[] = {MUSE_OP_tanh, MUSE_OP_neg, MUSE_OP_abs, MUSE_OP_sigmoid, MUSE_OP_cos};
  static const MuseOpKind binary[] = {MUSE_OP_add, MUSE_OP_sub, MUSE_OP_mul, MUSE_OP_max};
  MuseValue *x = pick(p), *y = pick(p);
  switch (below(p, 12)) {
    case 0: case 1: case 2: return muse_build_unary(&p->b, unary[below(p, 5)], x);
    case 3: case 4: {
      MuseOpKind kind = below(p, 2) ? MUSE_OP_reduce_sum : MUSE_OP_reduce_max;
      return x->type.rank == 2 ? muse_build_reduce(&p->b, kind, x, (int64_t[]){below(p, 2)}, 1) : NULL;
    }
    case 5: {
      MuseValue *square = pick_shape(p, COLUMNS, COLUMNS);
      return muse_build_matmul(&p->b, pick_shape(p, ROWS, COLUMNS), square, false, below(p, 2));
    }
    case 6: return muse_build_matmul(&p->b, pick_shape(p, ROWS, COLUMNS), pick_shape(p, ROWS, COLUMNS), true, false);
    case 7: return quantised_product(p);
    case 8: {
      MuseAttrList attrs = {0};
      muse_attr_set_int(p->module, &attrs, "rng_id", p->n);
      MuseValue *r = muse_build_op(&p->b, MUSE_OP_stochastic_round, 2, (MuseValue *[]){x, p->rng}, &attrs)->results[0];
      return muse_build_unary(&p->b, MUSE_OP_tanh, r);
    }
    default: return broadcasts(x->type, y->type) ? muse_build_binary(&p->b, binary[below(p, 4)], x, y) : NULL;
  }
}

static MuseModule *random_program(uint32_t seed) {
  Program p = {.module = muse_module_create(""), .seed = seed};
  p.fn = muse_func_create(p.module, "f");
  p.b = muse_builder_at_end(p.module, &p.fn->body);
  const MuseType types[] = {muse_type2(MUSE_F32, ROWS, COLUMNS), muse_type2(MUSE_F32, COLUMNS, COLUMNS),
                            muse_type2(MUSE_F32, ROWS, 1), muse_type2(MUSE_F32, 1, COLUMNS),
                            muse_scalar_type(MUSE_F32)};
  for (int i = 0; i < 5; i++) p.values[p.n++] = argument(&p, types[i]);
  p.q = argument(&p, muse_type2(MUSE_I8, ROWS, COLUMNS));
  p.trits = argument(&p, muse_type2(MUSE_T2, COLUMNS, COLUMNS));
  p.rng = muse_func_arg_for_buffer(p.fn, muse_module_add_buffer(p.module, "rng", muse_type1(MUSE_U32, 2), "hyper"));
  int length = 15 + below(&p, 90), forward = length * 2 / 3;
  for (int i = 0; i < length; i++) {
    p.b.stage = i < forward ? MUSE_STAGE_FORWARD : MUSE_STAGE_BACKWARD;
    p.b.layer = i * 3 / length;
    MuseValue *v = random_op(&p);
    if (v) p.values[p.n++] = v;
  }
  MuseValue *results[8];
  int n_results = 1 + below(&p, 7);
  for (int i = 0; i < n_results; i++) results[i] = p.values[p.n - 1 - below(&p, i == 0 ? 1 : p.n - 8)];
  MuseOp *ret = muse_op_create(p.module, MUSE_OP_return, n_results, results, 0, NULL);
  ret->layer = -1;
  muse_op_append(ret, &p.fn->body);
  char name[16];
  for (int i = 0; i < n_results; i++) {
    snprintf(name, sizeof name, "r%d", i);
    muse_module_add_buffer(p.module, name, results[i]->type, "output");
    muse_func_set_result_buffer(p.fn, i, name);
  }
  return p.module;
}

static void set_packed(ModelEnv *env, const MuseModule *module) { // trits and int8 values, which no fill makes
  for (int i = 0; i < module->n_buffers; i++) {
    const MuseBuffer *b = module->buffers[i];
    if (b->type.dtype != MUSE_T2 && b->type.dtype != MUSE_I8) continue;
    MuseTensor *t = model_env_set(env, b->name, b->type);
    int64_t range = b->type.dtype == MUSE_T2 ? 3 : 255;
    for (int64_t k = 0; k < muse_type_elements(b->type); k++)
      t->data[k] = (double)(muse_random_u32((uint64_t)k, (uint64_t)i, env->seed, 0) % range - range / 2);
  }
}

static void check_kernels(MuseModule *module, uint32_t seed) {
  for (const MuseOp *op = module->first_func->body.first; op; op = op->next) {
    if (op->kind != MUSE_OP_kernel) continue;
    const char *fault = muse_kernel_fault(op);
    if (!fault) continue;
    MuseStr text = {0};
    muse_kernel_print_canonical(module, op, &text);
    cr_expect(false, "program %u: a kernel that cannot be emitted: %s\n%s", seed, fault, muse_str_text(&text));
    muse_str_free(&text);
  }
}

static void check(uint32_t seed, const char *const *pipeline) {
  MuseModule *plain = random_program(seed), *fused = random_program(seed);
  MuseDiag *diag = muse_diag_create();
  cr_assert_eq(muse_ops_verify(plain, diag), MUSE_OK, "program %u: %s", seed, muse_diag_message(diag, 0));
  cr_assert_eq(muse_pipeline_run(pipeline, fused, NULL, diag), MUSE_OK, "program %u: %s", seed,
               muse_diag_message(diag, 0));
  check_kernels(fused, seed);
  ModelEnv *reference = model_env_create(seed, 2), *env = model_env_create(seed, 2);
  set_packed(reference, plain);
  set_packed(env, plain);
  cr_assert(model_env_run(reference, plain, "f") && model_env_run(env, fused, "f"));
  for (int i = 0; i < plain->first_func->n_results; i++) {
    const char *name = muse_func_result_buffer(plain->first_func, i);
    double distance = tensor_distance(muse_map_get(env->results, name), muse_map_get(reference->results, name));
    cr_expect(distance <= 1e-12, "program %u: result %d differs by %.3g", seed, i, distance);
  }
  model_env_destroy(reference);
  model_env_destroy(env);
  muse_diag_destroy(diag);
  muse_module_destroy(plain);
  muse_module_destroy(fused);
}

Test(compiler_fusion, random_programs_as_in_the_pipeline) {
  static const char *const passes[] = {"canonicalize", "fold", "cse", "recompute", "dce", "fuse_ternary", "fuse_matmul",
                                       "fuse_map", "outline", "dce", NULL};
  for (uint32_t seed = 0; seed < 600; seed++) check(seed, passes);
}

Test(compiler_fusion, random_programs_in_another_order) {
  static const char *const passes[] = {"cse", "fuse_map", "fuse_matmul", "fuse_ternary", "outline", "dce", NULL};
  for (uint32_t seed = 10000; seed < 10300; seed++) check(seed, passes);
}
