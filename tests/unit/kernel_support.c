// See the header.
#include "tests/unit/kernel_support.h"

#include "ir/base/philox.h"
#include "ir/base/status.h"

#include <math.h>

// ---- kernels from functions ----

MuseOp *muse_harness_outline(MuseModule *module, MuseFunc *func, const char *skeleton) {
  int n = muse_func_number(func), n_args = func->body.n_args;
  const MuseOp *last = func->body.last;
  MuseFunc *holder = muse_func_create(module, muse_arena_printf(module->arena, "%s.kernel", func->name));
  MuseValue **operands = MUSE_NEW_ARRAY(module->arena, MuseValue *, n_args + 1);
  MuseType *types = MUSE_NEW_ARRAY(module->arena, MuseType, last->n_operands + 1);
  for (int i = 0; i < n_args; i++) operands[i] = muse_region_add_arg(module, &holder->body, func->body.args[i]->type);
  for (int i = 0; i < last->n_operands; i++) types[i] = last->operands[i]->type;
  MuseOp *kernel = muse_op_create(module, MUSE_OP_kernel, n_args, operands, last->n_operands, types);
  muse_attr_set_text(module, &kernel->attrs, "skeleton", skeleton);
  muse_op_append(kernel, &holder->body);
  MuseRegion *body = muse_op_create_body(module, kernel);
  MuseValue **map = MUSE_NEW_ARRAY(module->arena, MuseValue *, n + 1);
  int64_t ids[64];
  int n_ids = 0;
  for (int i = 0; i < n_args; i++)
    map[func->body.args[i]->id] = muse_region_add_arg(module, body, func->body.args[i]->type);
  for (const MuseOp *op = func->body.first; op != last; op = op->next) {
    MuseOp *copy = muse_op_clone(module, op, map, body, NULL);
    if (op->kind != MUSE_OP_stochastic_round) continue;
    MUSE_ASSERT(n_ids < 64);
    ids[n_ids] = muse_op_int(op, "rng_id");
    muse_attr_set_int(module, &copy->attrs, "rng_id", n_ids++);
  }
  if (n_ids) muse_attr_set_ints(module, &kernel->attrs, "rng_ids", ids, n_ids);
  MuseValue **yielded = MUSE_NEW_ARRAY(module->arena, MuseValue *, last->n_operands + 1);
  for (int i = 0; i < last->n_operands; i++) yielded[i] = map[last->operands[i]->id];
  muse_op_append(muse_op_create(module, MUSE_OP_yield, last->n_operands, yielded, 0, NULL), body);
  muse_op_append(muse_op_create(module, MUSE_OP_return, kernel->n_results, kernel->results, 0, NULL), &holder->body);
  return kernel;
}

// ---- values ----

void muse_support_fill(MuseTensor *t, int operand, uint64_t seed) {
  int64_t n = muse_type_elements(t->type);
  for (int64_t i = 0; i < n; i++) {
    double u = muse_random_uniform((uint64_t)i, (uint64_t)operand, (uint32_t)seed, 77);
    switch (t->type.dtype) {
      case MUSE_I8: t->data[i] = floor(u * 255) - 127; break;
      case MUSE_U8: t->data[i] = floor(u * 256); break;
      case MUSE_I32:
      case MUSE_U32:
      case MUSE_I64: t->data[i] = floor(u * 16); break;
      case MUSE_BOOL: t->data[i] = u < 0.5; break;
      case MUSE_T2:
      case MUSE_T5: t->data[i] = floor(u * 3) - 1; break;
      default: t->data[i] = 4 * u - 2;
    }
  }
}

static double ulp_of(double x, MuseDtype dtype) {
  int exponent;
  frexp(x, &exponent);
  int bits = dtype == MUSE_F64 ? 53 : 24, least = dtype == MUSE_F64 ? -1021 : -125;
  return ldexp(1, (exponent < least ? least : exponent) - bits);
}

void muse_support_compare(const MuseTensor *got, const MuseTensor *want, double *out_error, double *out_ulps,
                          double *out_differing) {
  int64_t n = muse_type_elements(want->type), differing = 0;
  double square = 0, worst = 0;
  int64_t finite = 0;
  for (int64_t i = 0; i < n; i++)
    if (isfinite(want->data[i])) square += want->data[i] * want->data[i], finite++;
  double rms = finite ? sqrt(square / (double)finite) : 0;
  for (int64_t i = 0; i < n; i++) {
    double x = got->data[i], r = want->data[i];
    if (got->type.dtype == MUSE_F32 && isinf((float)r)) r = (float)r; // beyond the range of the type
    if (x == r || (isnan(x) && isnan(r))) continue;
    differing++;
    double e = fabs(x - r), ulps = isfinite(r) ? e / ulp_of(r, want->type.dtype) : INFINITY;
    if (!(ulps <= *out_ulps)) *out_ulps = isnan(ulps) ? INFINITY : ulps;
    if (muse_dtype_is_float(want->type.dtype)) e /= fabs(r) + rms + 1e-300;
    if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
  }
  if (worst > *out_error) *out_error = worst;
  double share = (double)differing / (double)n;
  if (share > *out_differing) *out_differing = share;
}
