// pack_ternary: a parameter is ternarised once per update, not once per micro-batch. ternarize ops of parameters leave
// the functions of the step; their results become buffers (role "packed") that @pack fills when a model is loaded and
// @update refreshes right after it has written the parameter. So do casts of matrices to 16 bits, of tables and of the
// matrices that products read in mixed precision (bf16.w).
//   before: func @grad(%w {buffer = "w"}) { %t, %g = ternarize %w; ... }
//   after:  func @grad(%t {buffer = "trits.w"}, %g {buffer = "gamma.w"}) { ... }
//           func @pack(%w {buffer = "w"}) { %t, %g = ternarize %w; return %t, %g }     (the same in @update, on its new
//   w)
// Legal because a parameter changes only in @update.
#include "passes/rewrite.h"

#include <string.h>

// Buffers for the results of a ternarize, or of a cast (gamma is NULL).
typedef struct Packed { const char *content, *gamma; } Packed;

// Where a weight value comes from: a parameter argument, or the dequantised latent of one (mul(cast(w8), delta)).
static const char *parameter_of(MuseFunc *fn, const MuseValue *w) {
  if (w->def && w->def->kind == MUSE_OP_mul && w->def->operands[0]->def &&
      w->def->operands[0]->def->kind == MUSE_OP_cast)
    w = w->def->operands[0]->def->operands[0];
  if (w->def) return NULL;
  const char *name = muse_func_arg_buffer(fn, w->index);
  const MuseBuffer *buffer = name ? muse_module_buffer(fn->module, name) : NULL;
  return buffer && strcmp(buffer->role, "param") == 0 ? name : NULL;
}

// A function that packs, with the values that it returns by the buffers that they are bound to.
typedef struct Packer { MuseFunc *fn; MuseMap *bound; } Packer;

static void packer_begin(Packer *p, MuseFunc *fn) {
  *p = (Packer){.fn = fn, .bound = muse_map_create()};
  for (int i = 0; i < fn->n_results; i++) {
    const char *buffer = muse_func_result_buffer(fn, i);
    if (buffer) muse_map_put(p->bound, buffer, fn->body.last->operands[i]);
  }
}

static void append_result(Packer *p, MuseValue *v, const char *buffer) {
  muse_func_add_result(p->fn, v, buffer);
  muse_map_put(p->bound, buffer, v);
}

static void add_packing(MuseModule *m, Packer *packer, const MuseOp *packing, const MuseBuffer *param,
                        const Packed *p) {
  MuseFunc *fn = packer->fn;
  MuseBuilder b = muse_builder_before(m, fn->body.last);
  b.loc = packing->loc, b.layer = packing->layer, b.stage = MUSE_STAGE_UPDATE;
  MuseValue *w = muse_map_get(packer->bound, param->name); // after its update
  if (!w) w = muse_func_arg_for_buffer(fn, param);
  if (w->type.dtype == MUSE_I8) { // latents on a grid
    const MuseBuffer *delta = muse_module_buffer(m, muse_arena_printf(m->arena, "delta.%s", param->name));
    MUSE_ASSERT(delta != NULL);
    w = muse_build_binary(&b, MUSE_OP_mul, muse_build_cast(&b, w, MUSE_F32), muse_func_arg_for_buffer(fn, delta));
  }
  MuseOp *op = muse_build_op(&b, packing->kind, 1, &w, &packing->attrs);
  append_result(packer, op->results[0], p->content);
  if (p->gamma && !muse_map_get(packer->bound, p->gamma)) // both orientations share it
    append_result(packer, op->results[1], p->gamma);
}

static MuseFunc *pack_function(MuseModule *m) {
  MuseFunc *pack = muse_module_func(m, "pack");
  if (pack) return pack;
  pack = muse_func_create(m, "pack");
  MuseOp *ret = muse_op_create(m, MUSE_OP_return, 0, NULL, 0, NULL);
  ret->layer = -1;
  muse_op_append(ret, &pack->body);
  return pack;
}

static bool is_packing(const MuseOp *op) {
  if (op->kind == MUSE_OP_ternarize) return true;
  return op->kind == MUSE_OP_cast && op->operands[0]->type.rank == 2 &&
         (op->results[0]->type.dtype == MUSE_BF16 || op->results[0]->type.dtype == MUSE_F16);
}

static Packed names_of(MuseModule *m, const MuseOp *op, const char *param) {
  if (op->kind == MUSE_OP_cast)
    return (Packed){muse_arena_printf(m->arena, "%s.%s", muse_dtype_name(op->results[0]->type.dtype), param), NULL};
  const char *suffix = muse_op_bool(op, "transpose") ? ".transposed" : "";
  return (Packed){muse_arena_printf(m->arena, "trits%s.%s", suffix, param),
                  muse_arena_printf(m->arena, "gamma.%s", param)};
}

bool muse_pass_pack_ternary(MusePassCtx *cx, MuseFunc *fn) {
  if (strcmp(fn->name, "pack") == 0 || strcmp(fn->name, "update") == 0) return false;
  MuseModule *m = cx->module;
  bool changed = false;
  Packer packers[2] = {{0}}; // @pack, and @update where there is one
  MuseRewriter r;
  muse_rewrite_begin(&r, cx->scratch, fn);
  for (MuseOp *op = fn->body.first, *next; op; op = next) {
    next = op->next;
    muse_rewrite_operands(&r, op);
    if (!is_packing(op)) continue;
    const char *name = parameter_of(fn, op->operands[0]);
    if (!name) continue;
    const Packed p = names_of(m, op, name);
    MuseBuffer *content = muse_module_buffer(m, p.content), *gamma = p.gamma ? muse_module_buffer(m, p.gamma) : NULL;
    if (!content) {
      content = muse_module_add_buffer(m, p.content, op->results[0]->type, "packed");
      if (p.gamma && !gamma) gamma = muse_module_add_buffer(m, p.gamma, op->results[1]->type, "packed");
      const MuseBuffer *param = muse_module_buffer(m, name);
      MuseFunc *update = muse_module_func(m, "update");
      if (!packers[0].fn) packer_begin(&packers[0], pack_function(m));
      if (!packers[1].fn && update) packer_begin(&packers[1], update);
      for (int i = 0; i < 2 && packers[i].fn; i++) add_packing(m, &packers[i], op, param, &p);
    }
    MuseValue *values[2] = {muse_func_arg_for_buffer(fn, content), NULL};
    if (gamma) values[1] = muse_func_arg_for_buffer(fn, gamma);
    muse_rewrite_replace_op(&r, op, values);
    changed = true;
  }
  for (int i = 0; i < 2; i++) muse_map_destroy(packers[i].bound);
  return changed;
}
