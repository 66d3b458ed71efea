// The tables that lead from an op kind to its hooks, made from ops.def. A hook that is missing is an error of the
// linker.

#include "ops/hooks.h"

#include <stdarg.h>

typedef MuseStatus (*InferFn)(const MuseOp *op, MuseType *out_types, MuseDiag *diag);
typedef void (*EvalFn)(const MuseEval *eval, const MuseOp *op, const MuseTensor *operands, MuseTensor *out_results);
typedef void (*GradFn)(MuseGrad *g);
typedef void (*DecomposeFn)(MuseBuilder *b, MuseOp *op, MuseValue **out_results);

typedef struct Hooks {
  InferFn infer;
  EvalFn eval;
  GradFn grad;
  DecomposeFn decompose;
} Hooks;

#define GRAD(name, traits) (((traits) & MUSE_TRAIT_NO_GRAD) ? NULL : muse_grad_##name)
#define HOOKS(name, traits) {muse_infer_##name, muse_eval_##name, GRAD(name, traits), NULL}
#define HOOKS_MUSE_CLASS_MAP(name, traits) HOOKS(name, traits)
#define HOOKS_MUSE_CLASS_REDUCE(name, traits) HOOKS(name, traits)
#define HOOKS_MUSE_CLASS_VIEW(name, traits) HOOKS(name, traits)
#define HOOKS_MUSE_CLASS_STRUCTURED(name, traits) HOOKS(name, traits)
#define HOOKS_MUSE_CLASS_COMPOSITE(name, traits) \
  { muse_infer_##name, muse_eval_##name, GRAD(name, traits), muse_decompose_##name }
#define HOOKS_MUSE_CLASS_CONTROL(name, traits) {NULL, NULL, NULL, NULL}

static const Hooks hooks[MUSE_N_OPS] = {
#define MUSE_OP(name, class_, min_operands, max_operands, results, traits, attrs) \
  [MUSE_OP_##name] = HOOKS_##class_(name, traits),
#include "ops/ops.def"
#undef MUSE_OP
};

const char *muse_type_text(MuseType type) {
  static _Thread_local char text[8][160];
  static _Thread_local int next;
  char *out = text[next++ % 8];
  int at = snprintf(out, sizeof text[0], "%s[", muse_dtype_name(type.dtype));
  for (int i = 0; i < type.rank; i++)
    at += snprintf(out + at, sizeof text[0] - (size_t)at, i ? ",%lld" : "%lld", (long long)type.dim[i]);
  snprintf(out + at, sizeof text[0] - (size_t)at, "]");
  return out;
}

MuseStatus muse_op_refuse(const MuseOp *op, MuseDiag *diag, const char *format, ...) {
  char sentence[768];
  va_list args;
  va_start(args, format);
  vsnprintf(sentence, sizeof sentence, format, args);
  va_end(args);
  return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: %s", muse_op_info(op->kind)->name, sentence);
}

MuseStatus muse_ops_infer(const MuseOp *op, MuseType *out_types, MuseDiag *diag) {
  MUSE_ASSERT(op->kind < MUSE_N_OPS);
  InferFn infer = hooks[op->kind].infer;
  if (!infer) return muse_op_refuse(op, diag, "has no types of its own; a region's yield decides them");
  return infer(op, out_types, diag);
}

bool muse_op_has_grad(MuseOpKind kind) { return hooks[kind].grad != NULL; }

void muse_op_grad(MuseGrad *g) {
  const MuseOp *op = g->op;
  MUSE_ASSERT(muse_op_has_grad(op->kind));
  for (int i = 0; i < op->n_operands; i++) g->d_operands[i] = NULL;
  bool any = false;
  for (int i = 0; i < op->n_results; i++) any |= g->d_results[i] != NULL;
  if (!any) return;
  hooks[op->kind].grad(g);
  for (int i = 0; i < op->n_operands; i++) // of a storage type: that type, or f32
    MUSE_ASSERT(!g->d_operands[i] || muse_type_eq(g->d_operands[i]->type, op->operands[i]->type) ||
                (muse_dtype_is_storage_float(op->operands[i]->type.dtype) &&
                 muse_type_eq(g->d_operands[i]->type, muse_type_with_dtype(op->operands[i]->type, MUSE_F32))));
}

void muse_op_decompose(MuseBuilder *b, MuseOp *op, MuseValue **out_results) {
  MUSE_ASSERT(hooks[op->kind].decompose);
  hooks[op->kind].decompose(b, op, out_results);
  for (int i = 0; i < op->n_results; i++) MUSE_ASSERT(muse_type_eq(out_results[i]->type, op->results[i]->type));
}

void muse_op_eval(const MuseEval *eval, const MuseOp *op, const MuseTensor *operands, MuseTensor *out_results) {
  if (op->kind == MUSE_OP_kernel) {
    muse_region_eval(eval, op->body, operands, out_results);
    return;
  }
  MUSE_ASSERT(hooks[op->kind].eval);
  for (int i = 0; i < op->n_results; i++) out_results[i] = muse_tensor_create(eval->arena, op->results[i]->type);
  hooks[op->kind].eval(eval, op, operands, out_results);
  if (!eval->round_storage) return;
  for (int i = 0; i < op->n_results; i++) {
    MuseDtype dtype = out_results[i].type.dtype;
    if (dtype != MUSE_F32 && dtype != MUSE_BF16 && dtype != MUSE_F16) continue;
    int64_t n = muse_type_elements(out_results[i].type);
    for (int64_t k = 0; k < n; k++) out_results[i].data[k] = muse_round_to_dtype(out_results[i].data[k], dtype);
  }
}
