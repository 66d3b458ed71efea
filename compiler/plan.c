// Plans: from text, through the verifier and the checks of the memory plan, to arrays of calls.
#include "compiler/plan.h"

#include "ir/base/checked.h"
#include "ir/base/io.h"
#include "ir/text.h"
#include "ops/ops.h"

#include <stdlib.h>
#include <string.h>

typedef struct Loader {
  MusePlan *plan;
  MuseModule *module;
  const char *name;
  MuseMap *by_text; // canonical text to MusePlanKernel
  int cap_kernels;
  MuseDiag *diag;
} Loader;

// --- what the module says about itself ---

static MuseStatus check_header(Loader *ld) {
  const MuseAttr *version = muse_attr_find(&ld->module->attrs, "plan_version");
  if (!version || version->kind != MUSE_ATTR_INT) {
    return muse_error(ld->diag, MUSE_ERR_INPUT, "'%s' is not a plan (it has no plan_version); make one with musec",
                      ld->name);
  }
  if (version->i != MUSE_PLAN_VERSION) {
    return muse_error(
        ld->diag, MUSE_ERR_INPUT,
        "'%s' is a plan of version %lld, but this program reads version %d; run musec again on its configuration",
        ld->name, (long long)version->i, MUSE_PLAN_VERSION);
  }
  const MuseAttr *level = muse_attr_find(&ld->module->attrs, "level");
  if (!level || level->kind != MUSE_ATTR_TEXT || !muse_str_eq(level->text, "kernel")) {
    return muse_error(ld->diag, MUSE_ERR_INPUT, "'%s' is not a plan (its level is not \"kernel\"); make one with musec",
                      ld->name);
  }
  return MUSE_OK;
}

// --- kernels ---

static MuseStatus check_skeleton(Loader *ld, const MuseOp *kernel) {
  const char *why = muse_kernel_fault(kernel);
  if (!why) return MUSE_OK;
  return muse_error(ld->diag, MUSE_ERR_INPUT, "'%s': a kernel of skeleton '%s' cannot be used: %s; run musec again",
                    ld->name, muse_op_text(kernel, "skeleton"), why);
}

static MusePlanKernel *add_kernel(Loader *ld, const MuseOp *op, const char *text, size_t length) {
  MusePlan *plan = ld->plan;
  MuseArena *arena = ld->module->arena;
  if (plan->n_kernels == ld->cap_kernels) {
    int cap = ld->cap_kernels ? ld->cap_kernels * 2 : 64;
    MusePlanKernel **kernels = MUSE_NEW_ARRAY(arena, MusePlanKernel *, cap);
    if (plan->n_kernels) memcpy(kernels, plan->kernels, sizeof *kernels * (size_t)plan->n_kernels);
    plan->kernels = kernels;
    ld->cap_kernels = cap;
  }
  MusePlanKernel *kernel = MUSE_NEW(arena, MusePlanKernel);
  kernel->text = muse_arena_strndup(arena, text, length);
  kernel->hash = muse_hash128(text, length);
  kernel->index = plan->n_kernels;
  kernel->op = op;
  muse_kernel_info(op, &kernel->info);
  plan->kernels[plan->n_kernels++] = kernel;
  muse_map_put(ld->by_text, kernel->text, kernel);
  return kernel;
}

// --- functions ---

static MuseStatus load_func(Loader *ld, MuseFunc *func, MusePlanFunc *out) {
  MuseArena *arena = ld->module->arena;
  int n = 0;
  for (const MuseOp *op = func->body.first; op; op = op->next) {
    if (op->kind != MUSE_OP_kernel) continue;
    MUSE_TRY(check_skeleton(ld, op));
    n++;
  }
  MuseMemoryMap map;
  MUSE_TRY(muse_memory_map(func, &muse_kernel_memory_hooks, arena, &map, ld->diag));
  *out = (MusePlanFunc){.name = func->name, .func = func, .slab_bytes = map.slab_bytes};
  out->calls = MUSE_NEW_ARRAY(arena, MusePlanCall, n);
  MuseStr text = {0};
  for (const MuseOp *op = func->body.first; op; op = op->next) {
    if (op->kind != MUSE_OP_kernel) continue;
    muse_str_clear(&text);
    muse_kernel_print_canonical(ld->module, op, &text);
    MusePlanKernel *kernel = muse_map_get(ld->by_text, text.data);
    if (!kernel) kernel = add_kernel(ld, op, text.data, text.len);
    kernel->n_calls++;
    MusePlace *places = MUSE_NEW_ARRAY(arena, MusePlace, op->n_operands + op->n_results + 1);
    for (int i = 0; i < op->n_operands; i++) places[i] = map.values[op->operands[i]->id];
    for (int i = 0; i < op->n_results; i++) places[op->n_operands + i] = map.values[op->results[i]->id];
    places[op->n_operands + op->n_results] = map.workspaces[op->mark];
    const MuseAttr *ids = muse_attr_find(&op->attrs, "rng_ids");
    out->calls[out->n_calls++] = (MusePlanCall){.kernel = kernel,
                                                .op = op,
                                                .n_operands = op->n_operands,
                                                .n_results = op->n_results,
                                                .places = places,
                                                .rng_ids = ids ? ids->ints.data : NULL,
                                                .n_rng_ids = ids ? ids->ints.len : 0};
  }
  muse_str_free(&text);
  MusePlace *args = MUSE_NEW_ARRAY(arena, MusePlace, func->body.n_args),
            *results = MUSE_NEW_ARRAY(arena, MusePlace, func->n_results);
  for (int i = 0; i < func->body.n_args; i++) args[i] = map.values[func->body.args[i]->id];
  for (int i = 0; i < func->n_results; i++) results[i] = map.values[func->body.last->operands[i]->id];
  out->args = args;
  out->results = results;
  return MUSE_OK;
}

static MuseStatus load_module(Loader *ld) {
  MuseModule *module = ld->module;
  MusePlan *plan = ld->plan;
  MUSE_TRY(check_header(ld));
  MUSE_TRY(muse_ops_verify(module, ld->diag));
  for (int i = 0; i < module->n_buffers; i++) {
    int64_t bytes = muse_round_up(muse_type_bytes(module->buffers[i]->type), MUSE_MEMORY_ALIGN);
    if (bytes > (int64_t)1 << 60 || (plan->buffer_bytes += bytes) > (int64_t)1 << 60) {
      return muse_error(ld->diag, MUSE_ERR_INPUT, "'%s': the buffers need more than 2^60 bytes", ld->name);
    }
  }
  for (MuseFunc *f = module->first_func; f; f = f->next) plan->n_funcs++;
  plan->funcs = MUSE_NEW_ARRAY(module->arena, MusePlanFunc, plan->n_funcs);
  MusePlanFunc *out = plan->funcs;
  for (MuseFunc *f = module->first_func; f; f = f->next, out++) {
    MUSE_TRY(load_func(ld, f, out));
    if (out->slab_bytes > plan->slab_bytes) plan->slab_bytes = out->slab_bytes;
  }
  return MUSE_OK;
}

MuseStatus muse_plan_create(MuseModule *module, const char *name, MusePlan **out_plan, MuseDiag *diag) {
  MusePlan *plan = MUSE_NEW(module->arena, MusePlan);
  plan->module = module;
  Loader ld = {.plan = plan, .module = module, .name = name, .by_text = muse_map_create(), .diag = diag};
  MuseStatus status = load_module(&ld);
  muse_map_destroy(ld.by_text);
  if (status != MUSE_OK) {
    muse_module_destroy(module);
    return status;
  }
  *out_plan = plan;
  return MUSE_OK;
}

MuseStatus muse_plan_parse(const char *name, const char *text, size_t length, MusePlan **out_plan, MuseDiag *diag) {
  MuseModule *module;
  MUSE_TRY(muse_module_parse(name, text, length, &module, diag));
  return muse_plan_create(module, name, out_plan, diag);
}

MuseStatus muse_plan_load(const char *path, MusePlan **out_plan, MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = muse_read_file(path, MUSE_MAX_IR_TEXT, &text, diag);
  if (status == MUSE_OK) status = muse_plan_parse(path, muse_str_text(&text), text.len, out_plan, diag);
  muse_str_free(&text);
  return status;
}

void muse_plan_destroy(MusePlan *plan) {
  if (plan) muse_module_destroy(plan->module); // the plan lives in its arena
}

const MusePlanFunc *muse_plan_func(const MusePlan *plan, const char *name) {
  for (int i = 0; i < plan->n_funcs; i++) {
    if (muse_str_eq(plan->funcs[i].name, name)) return &plan->funcs[i];
  }
  return NULL;
}

static bool is_named(const char *const *functions, const char *name) {
  if (!functions) return true;
  for (; *functions; functions++)
    if (strcmp(*functions, name) == 0) return true;
  return false;
}

static uint64_t buffer_bytes(const MusePlan *plan, int buffer) {
  return (uint64_t)(muse_type_bytes(plan->module->buffers[buffer]->type) + 63) & ~(uint64_t)63;
}

uint64_t muse_plan_buffer_memory(const MusePlan *plan, const char *const *functions) {
  if (!functions) return (uint64_t)plan->buffer_bytes;
  uint64_t bytes = 0;
  bool *used = calloc((size_t)plan->module->n_buffers + 1, sizeof *used);
  if (!used) muse_out_of_memory((size_t)plan->module->n_buffers);
  for (int f = 0; f < plan->n_funcs; f++) {
    const MusePlanFunc *fn = &plan->funcs[f];
    if (!is_named(functions, fn->name)) continue;
    for (int c = 0; c < fn->n_calls; c++)
      for (int i = 0; i < fn->calls[c].n_operands + fn->calls[c].n_results; i++)
        if (fn->calls[c].places[i].kind == MUSE_PLACE_BUFFER) used[fn->calls[c].places[i].buffer] = true;
  }
  uint64_t largest = 0; // parameter that is packed when it is loaded, and no longer needed then
  for (int i = 0; i < plan->module->n_buffers; i++) {
    if (used[i]) bytes += buffer_bytes(plan, i);
    else if (strcmp(plan->module->buffers[i]->role, "param") == 0 && buffer_bytes(plan, i) > largest)
      largest = buffer_bytes(plan, i);
  }
  free(used);
  return bytes + (is_named(functions, "pack") ? 0 : largest);
}

uint64_t muse_plan_memory(const MusePlan *plan, const char *const *functions) {
  int64_t slab = 0;
  for (int f = 0; f < plan->n_funcs; f++)
    if (is_named(functions, plan->funcs[f].name) && plan->funcs[f].slab_bytes > slab) slab = plan->funcs[f].slab_bytes;
  return muse_plan_buffer_memory(plan, functions) + (uint64_t)slab;
}

MuseStatus muse_plan_save(MuseModule *module, const char *path, MuseDiag *diag) {
  muse_attr_set_int(module, &module->attrs, "plan_version", MUSE_PLAN_VERSION);
  MuseStr text = {0};
  muse_module_print(module, &text);
  MuseStatus status = muse_write_file_atomic(path, text.data, text.len, diag);
  muse_str_free(&text);
  return status;
}
