// Random map kernels within the rules of skel_map.h: shapes, dtypes, broadcasts, reductions, phases, results.
//
// Rounding to whole numbers, comparisons and stochastic rounding are applied only to values that floats compute exactly
// as the oracle does (chains of + - * / sqrt max min over operands, rounded to f32 at each step), so that no result may
// jump.

#include "tests/unit/random_map.h"

#include "ir/base/philox.h"
#include "ir/base/status.h"
#include "tests/unit/kernel_support.h"

#include <stdio.h>

typedef struct Item {
  MuseValue *value;
  bool exact;
} Item;

typedef struct Generator {
  uint32_t seed, draws;
  MuseModule *module;
  MuseFunc *func;
  MuseBuilder b;
  MuseType domain;
  MuseValue *rng;
  Item item[128];
  int n;
} Generator;

static uint32_t draw(Generator *g, uint32_t bound) { return muse_random_u32(g->draws++, 1, g->seed, 0) % bound; }

static void push(Generator *g, MuseValue *value, bool exact) {
  MUSE_ASSERT(g->n < 128);
  g->item[g->n++] = (Item){value, exact};
}

static MuseType shape_of(Generator *g, MuseDtype dtype) {
  MuseType t = muse_type_with_dtype(g->domain, dtype);
  switch (draw(g, 6)) {
    case 0: return muse_scalar_type(dtype);
    case 1:
      if (t.rank) t.dim[t.rank - 1] = 1;
      return t;
    case 2: // some leading dimensions stretch, or are not there
      for (int i = 0; i + 1 < t.rank; i++)
        if (draw(g, 2)) t.dim[i] = 1;
      return t;
    case 3:
      if (t.rank > 1 && draw(g, 2)) return muse_type1(dtype, t.dim[t.rank - 1]);
      for (int i = 0; i < t.rank; i++)
        if (draw(g, 3) == 0) t.dim[i] = 1;
      return t;
    default: return t;
  }
}

static void add_operand(Generator *g, bool full) {
  static const MuseDtype dtypes[] = {MUSE_F32, MUSE_F32, MUSE_F32, MUSE_F32, MUSE_BF16,
                                     MUSE_F16, MUSE_I8,  MUSE_U8,  MUSE_I32, MUSE_F64};
  MuseDtype dtype = dtypes[full ? 0 : draw(g, 10)];
  MuseType type = full ? g->domain : shape_of(g, dtype);
  MuseValue *v = muse_region_add_arg(g->module, &g->func->body, type);
  push(g, dtype == MUSE_F32 || dtype == MUSE_F64 || dtype == MUSE_I32 ? v : muse_build_cast(&g->b, v, MUSE_F32), true);
}

static bool is_float(const MuseValue *v) { return v->type.dtype == MUSE_F32 || v->type.dtype == MUSE_F64; }
static bool is_full(Generator *g, const MuseValue *v) { return muse_type_same_shape(v->type, g->domain); }

static Item *pick(Generator *g, bool want_float, bool want_exact, bool want_full) {
  for (int tries = 0; tries < 40; tries++) {
    Item *it = &g->item[draw(g, (uint32_t)g->n)];
    if (it->value->type.dtype == MUSE_BOOL) continue;
    if (want_float && !is_float(it->value)) continue;
    if (want_exact && !it->exact) continue;
    if (want_full && !is_full(g, it->value)) continue;
    return it;
  }
  return &g->item[0]; // the full f32 operand: all of it
}

// Something of the same dtype, x itself if nothing else is found.
static Item *partner(Generator *g, Item *x, bool exact) {
  for (int tries = 0; tries < 40; tries++) {
    Item *it = &g->item[draw(g, (uint32_t)g->n)];
    if (it->value->type.dtype == x->value->type.dtype && (!exact || it->exact)) return it;
  }
  return x;
}

static MuseValue *constant(Generator *g, double c, MuseDtype dtype) { return muse_build_const_typed(&g->b, c, dtype); }

// Keeps values in [-8, 8], so that nothing overflows and no error grows without bound.
static MuseValue *tame(Generator *g, MuseValue *v) {
  MuseDtype d = v->type.dtype;
  v = muse_build_binary(&g->b, MUSE_OP_min, v, constant(g, 8, d));
  return muse_build_binary(&g->b, MUSE_OP_max, v, constant(g, -8, d));
}

static MuseValue *above(Generator *g, MuseValue *v, double least) {
  v = muse_build_unary(&g->b, MUSE_OP_abs, v);
  return muse_build_binary(&g->b, MUSE_OP_add, v, constant(g, least, v->type.dtype));
}

static void add_unary(Generator *g) {
  Item *x = pick(g, true, false, false);
  MuseValue *v = x->value;
  switch (draw(g, 10)) {
    case 0: push(g, muse_build_unary(&g->b, MUSE_OP_neg, v), x->exact); break;
    case 1: push(g, muse_build_unary(&g->b, MUSE_OP_abs, v), x->exact); break;
    case 2: push(g, tame(g, muse_build_unary(&g->b, MUSE_OP_exp, v)), false); break;
    case 3: push(g, muse_build_unary(&g->b, MUSE_OP_log, above(g, v, 0.5)), false); break;
    case 4: push(g, muse_build_unary(&g->b, MUSE_OP_sqrt, above(g, v, 0.25)), x->exact); break;
    case 5: push(g, muse_build_unary(&g->b, MUSE_OP_rsqrt, above(g, v, 0.5)), false); break;
    case 6: push(g, muse_build_unary(&g->b, MUSE_OP_recip, above(g, v, 0.5)), x->exact); break;
    case 7: push(g, muse_build_unary(&g->b, MUSE_OP_tanh, v), false); break;
    case 8: push(g, muse_build_unary(&g->b, MUSE_OP_sigmoid, v), false); break;
    default: push(g, muse_build_unary(&g->b, MUSE_OP_softplus, v), false);
  }
}

static void add_binary(Generator *g) {
  static const MuseOpKind kinds[] = {MUSE_OP_add, MUSE_OP_sub, MUSE_OP_mul, MUSE_OP_max, MUSE_OP_min, MUSE_OP_div};
  Item *x = pick(g, false, false, false), *y = partner(g, x, false);
  MuseOpKind kind = kinds[draw(g, is_float(x->value) ? 6 : 5)];
  MuseValue *b = kind == MUSE_OP_div ? above(g, y->value, 0.5) : y->value;
  push(g, tame(g, muse_build_binary(&g->b, kind, x->value, b)), x->exact && y->exact);
}

static void add_choice(Generator *g) {
  Item *x = pick(g, false, true, false), *y = partner(g, x, true);
  MuseValue *cond = muse_build_binary(&g->b, draw(g, 2) ? MUSE_OP_less : MUSE_OP_equal, x->value, y->value);
  Item *a = pick(g, true, false, false), *b = partner(g, a, false);
  push(g, muse_build_select(&g->b, cond, a->value, b->value), a->exact && b->exact);
  push(g, cond, true);
}

static void add_rounding(Generator *g) {
  Item *x = pick(g, true, true, false);
  MuseValue *v = x->value;
  switch (draw(g, 4)) {
    case 0: push(g, muse_build_unary(&g->b, MUSE_OP_round, v), true); break;
    case 1: push(g, muse_build_unary(&g->b, MUSE_OP_floor, v), true); break;
    case 2:
      push(g, muse_build_cast(&g->b, muse_build_cast(&g->b, tame(g, v), draw(g, 2) ? MUSE_I8 : MUSE_I32), MUSE_F32),
           true);
      break;
    default: {
      if (v->type.dtype != MUSE_F32) return;
      MuseAttrList attrs = {0};
      muse_attr_set_int(g->module, &attrs, "rng_id", 1000 + draw(g, 100000));
      push(g, muse_build_op(&g->b, MUSE_OP_stochastic_round, 2, (MuseValue *[]){v, g->rng}, &attrs)->results[0], true);
    }
  }
}

static void add_cast(Generator *g) {
  Item *x = pick(g, true, true, false);
  switch (draw(g, 4)) {
    case 0: push(g, muse_build_cast(&g->b, x->value, MUSE_F64), x->exact); break;
    case 1: push(g, muse_build_cast(&g->b, x->value, MUSE_F32), x->exact); break;
    case 2: push(g, muse_build_cast(&g->b, muse_build_cast(&g->b, x->value, MUSE_BF16), MUSE_F32), true); break;
    default: push(g, muse_build_cast(&g->b, muse_build_cast(&g->b, x->value, MUSE_F16), MUSE_F32), true);
  }
}

// Sums are taken of magnitudes: with both signs they may cancel, and then no f32 sum is near the exact one.
static MuseValue *summand(Generator *g, MuseValue *v, bool max) {
  return max || !is_float(v) ? v : muse_build_unary(&g->b, MUSE_OP_abs, v);
}

static void add_row_reduction(Generator *g) {
  Item *x = pick(g, false, false, true);
  bool max = draw(g, 2);
  if (g->domain.rank == 0) return;
  MuseValue *v = muse_build_reduce_last(&g->b, max ? MUSE_OP_reduce_max : MUSE_OP_reduce_sum,
                                        summand(g, x->value, max));
  if (!max && is_float(v))
    v = muse_build_binary(&g->b, MUSE_OP_mul, v,
                          constant(g, 1.0 / (double)muse_type_last_dim(g->domain), v->type.dtype));
  push(g, is_float(v) ? v : tame(g, v), x->exact && (max || !is_float(v)));
}

// Random places of the values that are returned; at least one of full shape.
static void add_results(Generator *g) {
  MuseValue *out[12];
  int n = 0;
  Item *full = pick(g, true, false, true);
  out[n++] = full->value;
  for (int i = 0; i < 3; i++) {
    Item *it = &g->item[draw(g, (uint32_t)g->n)];
    MuseType row = g->domain;
    if (row.rank) row.dim[row.rank - 1] = 1;
    bool fits = is_full(g, it->value) || muse_type_same_shape(it->value->type, row) ||
                muse_type_elements(it->value->type) == 1;
    if (fits) out[n++] = it->value;
  }
  Item *narrow = pick(g, true, true, true);
  if (draw(g, 2)) out[n++] = muse_build_cast(&g->b, tame(g, narrow->value), MUSE_I8);
  if (draw(g, 2)) out[n++] = muse_build_cast(&g->b, narrow->value, MUSE_BF16);
  // Terminal reductions of full or row values.
  for (int i = 0; i < 2 && g->domain.rank > 1; i++) {
    if (draw(g, 3)) continue;
    Item *x = pick(g, true, false, true);
    int64_t axes[MUSE_MAX_RANK];
    int n_axes = 0;
    for (int a = 0; a < g->domain.rank; a++)
      if (draw(g, 2)) axes[n_axes++] = a;
    if (n_axes == 0 || axes[0] == g->domain.rank - 1) axes[0] = 0, n_axes = 1;
    bool max = draw(g, 2);
    MuseValue *v = muse_build_reduce(&g->b, max ? MUSE_OP_reduce_max : MUSE_OP_reduce_sum, summand(g, x->value, max),
                                     axes, n_axes);
    out[n++] = v;
  }
  muse_build_op(&g->b, MUSE_OP_return, n, out, NULL);
  g->func->n_results = n;
  g->func->result_attrs = MUSE_NEW_ARRAY(g->module->arena, MuseAttrList, n);
}

MuseModule *muse_random_map(uint32_t seed, MuseOp **out_kernel) {
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 65, 130};
  Generator g = {.seed = seed, .module = muse_module_create("")};
  g.func = muse_func_create(g.module, "f");
  g.b = muse_builder_at_end(g.module, &g.func->body);
  int rank = 1 + (int)draw(&g, 4);
  int64_t dim[MUSE_MAX_RANK];
  for (int i = 0; i < rank; i++) dim[i] = i == rank - 1 ? sizes[draw(&g, 14)] : sizes[draw(&g, rank > 2 ? 4 : 9)];
  if (rank == 1 && draw(&g, 2)) dim[0] = 32768 * (1 + (int64_t)draw(&g, 2)) + sizes[draw(&g, 14)];
  g.domain = muse_type(MUSE_F32, rank, dim);
  bool rope = rank == 4 && dim[3] % 2 == 0 && draw(&g, 2);
  add_operand(&g, true);
  g.rng = muse_region_add_arg(g.module, &g.func->body, muse_type1(MUSE_U32, 2));
  int more = 1 + (int)draw(&g, 5);
  for (int i = 0; i < more; i++) add_operand(&g, false);
  if (rope) {
    MuseValue *table = muse_region_add_arg(g.module, &g.func->body, muse_type2(MUSE_F32, dim[1], dim[3]));
    push(&g, muse_build_rope(&g.b, g.item[0].value, table, draw(&g, 2)), true);
  }
  int steps = 3 + (int)draw(&g, 14);
  for (int i = 0; i < steps && g.n < 100; i++) {
    switch (draw(&g, 12)) {
      case 0:
      case 1:
      case 2: add_unary(&g); break;
      case 3:
      case 4:
      case 5:
      case 6: add_binary(&g); break;
      case 7: add_choice(&g); break;
      case 8: add_rounding(&g); break;
      case 9: add_cast(&g); break;
      default: add_row_reduction(&g);
    }
  }
  add_results(&g);
  MuseDiag *diag = muse_diag_create();
  if (muse_ops_verify(g.module, diag) != MUSE_OK) {
    muse_diag_print(diag, stderr);
    MUSE_ASSERT(!"the generator made invalid IR");
  }
  muse_diag_destroy(diag);
  *out_kernel = muse_harness_outline(g.module, g.func, "map");
  return g.module;
}

bool muse_random_map_is_right(const MuseOp *kernel, int result, double error) {
  // Whole numbers come from exact values only; bf16 may round to the other side.
  MuseDtype d = kernel->results[result]->type.dtype;
  return error <= (!muse_dtype_is_float(d) ? 0 : d == MUSE_F32 || d == MUSE_F64 ? 1e-4 : 1e-2);
}
