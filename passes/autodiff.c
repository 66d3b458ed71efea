// autodiff: reverse mode. A function marked `differentiate` returns its loss as result 0; the pass appends the backward
// program and one more result for each parameter that the loss depends on, bound to the buffer grad.NAME.
//   before: func @grad(%w {buffer = "w"}, ...) {differentiate = true} { ...; return %loss }
//   after:  ... backward ops (stage backward, layer of the op they belong to) ...; return %loss, %dw
// Cotangents of 16-bit values are rounded to their type, as the values are: each contribution, for it may cross memory,
// and their sum, which is made in f32. So are those of the f32 values that BitLinears take whose backward products are
// not f32 (attribute `gradient`). Where a value is computed from parameters alone (a table stored in bf16) they stay
// f32: they are on the way to gradients of parameters.
// The cotangent of the loss is 1/gradient_accumulation_steps. With more than one micro-batch a step the old content of
// grad.NAME is added, so that the caller only has to zero the buffers before the first one. A parameter kept as int8
// latents (argument attribute `latent`) enters as mul(cast(w8), delta): its gradient is that product's.
#include "passes/analysis.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Autodiff {
  MusePassCtx *cx;
  MuseFunc *fn;
  MuseValue **cotangent; // by value id of the forward program; f32 where the value is narrow and several were added
  MuseDtype *dtype;      // by value id: what its cotangent is rounded to
  MuseValue *rng;
} Autodiff;

static bool is_narrow(MuseType type) { return type.dtype == MUSE_BF16 || type.dtype == MUSE_F16; }

// The type of cotangents is that of values, with the exceptions that the head of this file names.
static void find_dtypes(Autodiff *a, int n_ids) {
  const MuseFunc *fn = a->fn;
  bool *of_parameters = MUSE_NEW_ARRAY(a->cx->scratch, bool, n_ids + 1); // and of their scales and constants alone
  for (int i = 0; i < fn->body.n_args; i++) {
    const char *name = muse_func_arg_buffer(fn, i);
    const MuseBuffer *buffer = name ? muse_module_buffer(a->cx->module, name) : NULL;
    const MuseValue *arg = fn->body.args[i];
    of_parameters[arg->id] = buffer && (strcmp(buffer->role, "param") == 0 || strcmp(buffer->role, "scale") == 0);
    a->dtype[arg->id] = is_narrow(arg->type) && of_parameters[arg->id] ? MUSE_F32 : arg->type.dtype;
  }
  for (MuseOp *op = fn->body.first; op; op = op->next) {
    bool all = true;
    for (int i = 0; i < op->n_operands; i++) all &= of_parameters[op->operands[i]->id];
    for (int i = 0; i < op->n_results; i++) {
      const MuseValue *v = op->results[i];
      of_parameters[v->id] = all;
      a->dtype[v->id] = is_narrow(v->type) && all ? MUSE_F32 : v->type.dtype;
    }
    if (op->kind == MUSE_OP_bit_linear && strcmp(muse_op_text(op, "gradient"), "f32") != 0 &&
        op->operands[0]->type.dtype == MUSE_F32 && !of_parameters[op->operands[0]->id])
      a->dtype[op->operands[0]->id] = MUSE_BF16;
  }
}

static bool wants_rng(const MuseFunc *fn) {
  for (const MuseOp *op = fn->body.first; op; op = op->next)
    if (op->kind == MUSE_OP_bit_linear && strcmp(muse_op_text(op, "gradient"), "int8") == 0) return true;
  return false;
}

static void accumulate(Autodiff *a, MuseBuilder *b, MuseValue *v, MuseValue *c) {
  MuseValue **slot = &a->cotangent[v->id];
  const MuseDtype wide = is_narrow(v->type) ? MUSE_F32 : v->type.dtype;
  c = muse_build_cast(b, c, a->dtype[v->id]);
  if (!*slot) {
    *slot = c;
    return;
  }
  *slot = muse_build_binary(b, MUSE_OP_add, muse_build_cast(b, *slot, wide), muse_build_cast(b, c, wide));
}

static void differentiate_op(Autodiff *a, MuseOp *op, MuseOp *before) {
  MuseValue *d_results[8] = {0}, *d_operands[16] = {0};
  bool any = false;
  MUSE_ASSERT(op->n_results <= 8 && op->n_operands <= 16);
  for (int i = 0; i < op->n_results; i++) any |= (d_results[i] = a->cotangent[op->results[i]->id]) != NULL;
  if (!any || !muse_op_has_grad(op->kind)) return;
  MuseBuilder b = muse_builder_before(a->cx->module, before);
  b.loc = op->loc, b.layer = op->layer, b.stage = MUSE_STAGE_BACKWARD;
  for (int i = 0; i < op->n_results; i++) {
    const MuseValue *v = op->results[i];
    if (!d_results[i]) continue;
    d_results[i] = muse_build_cast(&b, d_results[i], a->dtype[v->id]);
    if (v->type.dtype == MUSE_F32) d_results[i] = muse_build_cast(&b, d_results[i], MUSE_F32);
  }
  MuseGrad g = {.b = &b, .op = op, .d_results = d_results, .d_operands = d_operands, .rng = a->rng};
  muse_op_grad(&g);
  for (int i = 0; i < op->n_operands; i++)
    if (d_operands[i]) accumulate(a, &b, op->operands[i], d_operands[i]);
}

// The value whose cotangent is the gradient of argument `index`: the argument, or the dequantised latent.
static MuseValue *gradient_point(MuseFunc *fn, int index) {
  MuseValue *arg = fn->body.args[index];
  if (!fn->body.arg_attrs || !muse_attr_bool_or(&fn->body.arg_attrs[index], "latent", false))
    return muse_dtype_is_float(arg->type.dtype) ? arg : NULL;
  for (MuseOp *op = fn->body.first; op; op = op->next)
    if (op->kind == MUSE_OP_mul && op->operands[0]->def && op->operands[0]->def->kind == MUSE_OP_cast &&
        op->operands[0]->def->operands[0] == arg)
      return op->results[0];
  return NULL;
}

static void append_results(Autodiff *a, MuseOp *ret, int n_args, int64_t micro_batches) {
  MuseModule *m = a->cx->module;
  MuseFunc *fn = a->fn;
  for (int i = 0; i < n_args; i++) {
    const char *name = muse_func_arg_buffer(fn, i);
    const MuseBuffer *buffer = name ? muse_module_buffer(m, name) : NULL;
    MuseValue *point = buffer && strcmp(buffer->role, "param") == 0 ? gradient_point(fn, i) : NULL;
    MuseValue *g = point && point->id >= 0 ? a->cotangent[point->id] : NULL;
    if (!g) continue;
    char *grad_name = muse_arena_printf(m->arena, "grad.%s", name);
    MuseBuffer *grad = muse_module_buffer(m, grad_name);
    if (!grad) grad = muse_module_add_buffer(m, grad_name, g->type, "grad");
    if (micro_batches > 1) {
      MuseBuilder b = muse_builder_before(m, ret);
      MuseOp *def = g->def;
      if (def) b.loc = def->loc, b.layer = def->layer;
      b.stage = MUSE_STAGE_BACKWARD;
      g = muse_build_binary(&b, MUSE_OP_add, muse_func_arg_for_buffer(fn, grad), g);
    }
    muse_func_add_result(fn, g, grad_name);
  }
}

bool muse_pass_autodiff(MusePassCtx *cx, MuseFunc *fn) {
  if (!muse_attr_bool_or(&fn->attrs, "differentiate", false)) return false;
  muse_attr_remove(&fn->attrs, "differentiate");
  MuseOp *ret = fn->body.last;
  MUSE_ASSERT(ret && ret->kind == MUSE_OP_return && ret->n_operands >= 1);
  Autodiff a = {.cx = cx, .fn = fn};
  int n_args = fn->body.n_args;
  if (wants_rng(fn)) {
    MuseBuffer *rng = muse_module_buffer(cx->module, "rng");
    if (!rng) rng = muse_module_add_buffer(cx->module, "rng", muse_type1(MUSE_U32, 2), "hyper");
    a.rng = muse_func_arg_for_buffer(fn, rng);
  }
  int n_ids = muse_func_number(fn);
  a.cotangent = MUSE_NEW_ARRAY(cx->scratch, MuseValue *, n_ids + 1);
  a.dtype = MUSE_NEW_ARRAY(cx->scratch, MuseDtype, n_ids + 1);
  find_dtypes(&a, n_ids);
  int64_t micro_batches = muse_attr_int_or(&cx->module->attrs, "gradient_accumulation_steps", 1);
  MuseBuilder b = muse_builder_before(cx->module, ret);
  b.layer = -1, b.stage = MUSE_STAGE_BACKWARD;
  MuseValue *loss = ret->operands[0];
  a.cotangent[loss->id] = muse_build_const(&b, 1.0 / (double)micro_batches);
  MuseOp *last_forward = a.cotangent[loss->id]->def->prev;
  for (MuseOp *op = last_forward; op; op = op->prev) differentiate_op(&a, op, ret);
  append_results(&a, ret, n_args, micro_batches);
  return true;
}
