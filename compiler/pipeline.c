// The pipeline from a config to a plan, readable from top to bottom, and what a plan costs.
#include "compiler/pipeline.h"

#include "compiler/memory_plan.h"
#include "compiler/model.h"
#include "compiler/plan.h"
#include "ir/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const muse_pipeline[] = {
    "canonicalize", // the lowering writes plainly; make equal things equal
    "cse",
    "autodiff",     // @grad: the backward program and one result a parameter
    "canonicalize",
    "dce",
    "remat",        // use_gradient_checkpointing: forward values again instead of stored
    "quantize",     // BitLinear -> quantize_rows, ternarize, exact products, scales
    "cse",          // one quantisation for the products of one input, forward and backward
    "pack_ternary", // ternarize leaves the step: @pack, @update
    "decompose",    // composites -> maps and reductions
    "canonicalize",
    "fold",
    "cse",
    "fuse_loss",    // one sweep over the head for loss and gradients
    "recompute",    // cheap maps that the backward part reads are not stored for it
    "dce",
    "fuse_ternary", // products first: they take the maps that can run on their tiles
    "fuse_matmul",
    "fuse_map",     // then what is left, by domain
    "outline",      // everything else is a kernel of its own
    "dce",
    "schedule",     // an order that needs little memory
    NULL,
};

MuseStatus muse_compile(MuseModule *module, const MuseCompileOptions *options, MuseDiag *diag) {
  MUSE_TRY(muse_ops_verify(module, diag));
  MusePassOptions passes = options ? options->passes : (MusePassOptions){.bisect = -1};
  bool own = options && options->pipeline;
  passes.resume = !own;
  MUSE_TRY(muse_pipeline_run(own ? options->pipeline : muse_pipeline, module, &passes, diag));
  if (strcmp(muse_attr_text_or(&module->attrs, "level", "tensor"), "kernel") != 0) return MUSE_OK;
  if (!own) muse_attr_remove(&module->attrs, "passes_done");
  MUSE_TRY(muse_memory_plan(module, diag));
  return muse_ops_verify(module, diag);
}

// ---- estimate ----

const char *const muse_estimate_roles[10] = {"param", "scale", "moment", "grad",  "packed",
                                             "const", "state", "input",  "hyper", "output"};

static void function_cost(const MuseFunc *fn, double times, double *flops, double *int_ops, double *bytes) {
  for (const MuseOp *op = fn->body.first; op; op = op->next) {
    if (op->kind != MUSE_OP_kernel) continue;
    MuseCost cost = muse_kernel_cost(op);
    *flops += times * cost.flops;
    *int_ops += times * cost.int_ops;
    *bytes += times * cost.bytes;
  }
}

// Bytes of the buffers that a function binds, and of its slab.
static double function_bytes(const MuseModule *module, const char *name) {
  const MuseFunc *fn = muse_module_func(module, name);
  if (!fn) return 0;
  double bytes = (double)muse_attr_int_or(&fn->attrs, "slab", 0);
  bool *bound = calloc((size_t)module->n_buffers + 1, sizeof *bound);
  if (!bound) muse_out_of_memory((size_t)module->n_buffers);
  for (int i = 0; i < fn->body.n_args + fn->n_results; i++) {
    const char *buffer =
        i < fn->body.n_args ? muse_func_arg_buffer(fn, i) : muse_func_result_buffer(fn, i - fn->body.n_args);
    const MuseBuffer *b = buffer ? muse_module_buffer(module, buffer) : NULL;
    if (!b || bound[b->index]) continue;
    bound[b->index] = true;
    bytes += (double)muse_type_bytes(b->type);
  }
  free(bound);
  return bytes;
}

void muse_estimate(MuseModule *module, MuseEstimate *e) {
  memset(e, 0, sizeof *e);
  e->parameters = muse_model_parameters(module);
  for (int i = 0; i < module->n_buffers; i++) {
    double bytes = (double)muse_type_bytes(module->buffers[i]->type);
    e->total_bytes += bytes;
    for (int r = 0; r < 10; r++)
      if (strcmp(module->buffers[i]->role, muse_estimate_roles[r]) == 0) e->role_bytes[r] += bytes;
  }
  MuseMap *distinct = muse_map_create();
  MuseStr text = {0};
  double micro_batches = (double)muse_attr_int_or(&module->attrs, "gradient_accumulation_steps", 1), unused = 0;
  for (MuseFunc *fn = module->first_func; fn; fn = fn->next) {
    double slab = (double)muse_attr_int_or(&fn->attrs, "slab", 0);
    if (slab > e->slab_bytes) e->slab_bytes = slab;
    for (const MuseOp *op = fn->body.first; op; op = op->next) {
      if (op->kind != MUSE_OP_kernel) continue;
      e->n_calls++;
      muse_str_clear(&text);
      muse_kernel_print_canonical(module, op, &text);
      muse_map_put(distinct, muse_str_text(&text), module);
    }
    if (strcmp(fn->name, "grad") == 0)
      function_cost(fn, micro_batches, &e->step_flops, &e->step_int_ops, &e->step_bytes);
    if (strcmp(fn->name, "norms") == 0 || strcmp(fn->name, "update") == 0)
      function_cost(fn, 1, &e->step_flops, &e->step_int_ops, &e->step_bytes);
    if (strcmp(fn->name, "decode") == 0) function_cost(fn, 1, &e->decode_flops, &unused, &e->decode_bytes);
  }
  e->total_bytes += e->slab_bytes;
  e->evaluate_bytes = function_bytes(module, "loss");
  e->generate_bytes = function_bytes(module, "decode");
  e->n_kernels = (int)muse_map_size(distinct);
  muse_map_destroy(distinct);
  muse_str_free(&text);
}

// ---- config to plan ----

static void set_options(const MuseConfig *c, const char *target, MuseModule *module) {
  MuseStr yaml = {0};
  muse_config_print(c, &yaml);
  MuseAttrList *a = &module->attrs;
  muse_attr_set_text(module, a, "config", muse_str_text(&yaml));
  muse_str_free(&yaml);
  muse_attr_set_text(module, a, "target", target);
  muse_attr_set_int(module, a, "nominal_parameters", muse_config_nominal_parameters(c));
  muse_attr_set_int(module, a, "parameters", muse_model_parameters(module));
  // What the executor needs of the config (the text is for people and for `muse-run train --config`).
  muse_attr_set_int(module, a, "vocab_size", c->vocab_size);
  muse_attr_set_int(module, a, "batch_size", c->batch_size);
  muse_attr_set_int(module, a, "n_seq", c->n_seq);
  muse_attr_set_int(module, a, "n_layers", c->n_layers);
  muse_attr_set_int(module, a, "num_heads", c->num_heads);
  muse_attr_set_int(module, a, "window", c->use_hybrid_attention ? c->local_window : c->n_seq);
  muse_attr_set_int(module, a, "eos_token_id", c->eos_token_id);
  muse_attr_set_text(module, a, "tokenizer", c->tokenizer ? c->tokenizer : "");
  muse_attr_set_int(module, a, "seed", c->seed);
  muse_attr_set_bool(module, a, "use_bitnet", c->use_bitnet);
  muse_attr_set_text(module, a, "optimizer", c->optimizer == MUSE_OPTIMIZER_ADAMW ? "adamw" : "adafactor8");
  muse_attr_set_real(module, a, "learning_rate", c->learning_rate);
  muse_attr_set_real(module, a, "min_lr_ratio", c->min_lr_ratio);
  muse_attr_set_int(module, a, "warmup_steps", c->warmup_steps);
  muse_attr_set_int(module, a, "max_steps", c->max_steps);
  muse_attr_set_real(module, a, "adam_beta1", c->adam_beta1);
  muse_attr_set_real(module, a, "adam_beta2", c->adam_beta2);
  muse_attr_set_int(module, a, "log_interval", c->log_interval);
  muse_attr_set_int(module, a, "eval_interval", c->eval_interval);
  muse_attr_set_int(module, a, "eval_batches", c->eval_batches);
  muse_attr_set_int(module, a, "save_interval", c->save_interval);
  muse_attr_set_int(module, a, "keep_checkpoints", c->keep_checkpoints);
  muse_attr_set_int(module, a, "sample_interval", c->sample_interval);
  muse_attr_set_text(module, a, "sample_prompt", c->sample_prompt);
  muse_attr_set_int(module, a, "sample_tokens", c->sample_tokens);
  muse_attr_set_real(module, a, "sample_temperature", c->sample_temperature);
  muse_attr_set_bool(module, a, "tensorboard", c->tensorboard);
  muse_attr_set_int(module, a, "patience_steps", c->patience_steps);
}

// What n layers need, from plans of two and of three: every layer adds the same to the buffers, and to the working
// memory of each function, whose largest counts. Quick, so that many changes can be tried.
enum { MAX_FUNCTIONS = 16 };
typedef struct LayerCost {
  double buffers[2], slab[MAX_FUNCTIONS][2]; // of two layers; what one more adds
  int n_functions;
} LayerCost;

static bool compile_layers(MuseConfig c, const char *const *functions, int64_t n_layers, double *out_buffers,
                           double out_slab[], int *out_n) {
  c.n_layers = n_layers;
  MuseModule *module = muse_model_build(&c, "");
  MuseDiag *quiet = muse_diag_create();
  MusePlan *plan = NULL;
  bool ok = muse_compile(module, NULL, quiet) == MUSE_OK;
  if (ok) {
    muse_attr_set_int(module, &module->attrs, "plan_version", MUSE_PLAN_VERSION);
    ok = muse_plan_create(module, "", &plan, quiet) == MUSE_OK;
  } else {
    muse_module_destroy(module);
  }
  *out_buffers = ok ? (double)muse_plan_buffer_memory(plan, functions) : 0;
  *out_n = 0;
  for (int f = 0; ok && f < plan->n_funcs && *out_n < MAX_FUNCTIONS; f++) {
    const char *one[] = {plan->funcs[f].name, NULL};
    bool counts = !functions;
    for (int i = 0; functions && functions[i]; i++) counts |= strcmp(functions[i], one[0]) == 0;
    out_slab[(*out_n)++] = counts ? (double)plan->funcs[f].slab_bytes : 0;
  }
  muse_plan_destroy(plan);
  muse_diag_destroy(quiet);
  return ok;
}

static LayerCost cost_of(const MuseConfig *c, const char *const *functions) {
  LayerCost cost = {0};
  double buffers, slab[MAX_FUNCTIONS], base[MAX_FUNCTIONS];
  int n;
  if (!compile_layers(*c, functions, 2, &cost.buffers[0], base, &cost.n_functions) ||
      !compile_layers(*c, functions, 3, &buffers, slab, &n) || n != cost.n_functions) {
    cost.buffers[0] = INFINITY;
    return cost;
  }
  cost.buffers[1] = buffers - cost.buffers[0];
  for (int f = 0; f < n; f++) {
    cost.slab[f][0] = base[f];
    cost.slab[f][1] = slab[f] > base[f] ? slab[f] - base[f] : 0;
  }
  return cost;
}

static double bytes_of_layers(const LayerCost *cost, int64_t n_layers) {
  double more = (double)(n_layers - 2), largest = 0;
  for (int f = 0; f < cost->n_functions; f++)
    largest = fmax(largest, cost->slab[f][0] + more * cost->slab[f][1]);
  return cost->buffers[0] + more * cost->buffers[1] + largest;
}

// The working memory grows a little faster than by the same for every layer (by 1.3 % over 40 layers, measured).
static bool fits(double bytes, const MuseConfig *c) { return bytes * 1.03 <= (double)c->memory_budget; }

static double bytes_of(const MuseConfig *c, const char *const *functions) {
  LayerCost cost = cost_of(c, functions);
  return bytes_of_layers(&cost, c->n_layers);
}

static int64_t layers_that_fit(const MuseConfig *c, const char *const *functions) {
  LayerCost cost = cost_of(c, functions);
  int64_t n = c->n_layers;
  while (n > 0 && !fits(bytes_of_layers(&cost, n), c)) n--;
  return n;
}

static void add_way(MuseStr *ways, const MuseConfig *c, const char *const *functions, const char *change) {
  MuseStr size = {0};
  muse_str_append_bytes(&size, (uint64_t)bytes_of(c, functions));
  muse_str_appendf(ways, "%s%s (%s)", ways->len ? "; or " : "", change, muse_str_text(&size));
  muse_str_free(&size);
}

// Everything that saves memory without making the model smaller.
static MuseConfig thriftier(MuseConfig c, bool trains, MuseStr *change) {
  if (!trains) { // only how much is computed at a time
    if (c.batch_size > 1) muse_str_append(change, "batch_size: 1, ");
    c.batch_size = 1;
    return c;
  }
  if (!c.use_gradient_checkpointing) muse_str_append(change, "use_gradient_checkpointing: true, ");
  if (c.optimizer != MUSE_OPTIMIZER_ADAFACTOR8) muse_str_append(change, "optimizer: adafactor8, ");
  if (c.batch_size > 1) muse_str_append(change, "batch_size: 1, ");
  c.use_gradient_checkpointing = true;
  c.optimizer = MUSE_OPTIMIZER_ADAFACTOR8;
  c.batch_size = 1;
  return c;
}

// Three ways out, each of which fits by itself: thrift, fewer layers, a narrower model. `functions` are those that are
// to run; NULL: all, which is training.
static void ways_to_fit(const MuseConfig *c, const char *const *functions, MuseStr *ways) {
  MuseStr change = {0};
  MuseConfig thrifty = thriftier(*c, !functions, &change), narrow = *c, fewer = *c;
  int64_t layers = layers_that_fit(&thrifty, functions);
  bool helps = !functions || (change.len && bytes_of(&thrifty, functions) < bytes_of(c, functions));
  if (helps && change.len && layers > 0) {
    if (layers < c->n_layers) muse_str_appendf(&change, "n_layers: %lld, ", (long long)(thrifty.n_layers = layers));
    change.data[change.len - 2] = 0; // the last comma
    add_way(ways, &thrifty, functions, change.data);
  }
  fewer.n_layers = layers_that_fit(c, functions);
  muse_str_clear(&change);
  muse_str_appendf(&change, "n_layers: %lld", (long long)fewer.n_layers);
  if (fewer.n_layers > 0) add_way(ways, &fewer, functions, change.data);
  int64_t head = c->d_model / c->num_heads;
  while (narrow.num_heads > 1 && !fits(bytes_of(&narrow, functions), c)) {
    narrow.num_heads /= 2;
    narrow.d_model = narrow.num_heads * head;
  }
  muse_str_clear(&change);
  muse_str_appendf(&change, "d_model: %lld with num_heads: %lld", (long long)narrow.d_model,
                   (long long)narrow.num_heads);
  if (fits(bytes_of(&narrow, functions), c)) add_way(ways, &narrow, functions, change.data);
  muse_str_free(&change);
}

static MuseStatus refuse_budget(const MuseConfig *c, double needed, MuseDiag *diag) {
  MuseStr ways = {0}, need = {0}, budget = {0};
  ways_to_fit(c, NULL, &ways);
  muse_str_append_bytes(&need, (uint64_t)needed);
  muse_str_append_bytes(&budget, c->memory_budget);
  MuseStatus status = muse_error_at(
      diag, MUSE_ERR_NO_FIT, muse_config_loc(c, "memory_budget"),
      ways.len
          ? "the plan needs %s, the memory budget is %s; this fits: %s"
          : "the plan needs %s, the memory budget is %s, and no smaller form of this model fits%s; raise memory_budget",
      muse_str_text(&need), muse_str_text(&budget), muse_str_text(&ways));
  muse_str_free(&ways), muse_str_free(&need), muse_str_free(&budget);
  return status;
}

MuseStatus muse_plan_refuse_memory(const MusePlan *plan, const char *name, const char *const *functions,
                                   uint64_t available, const char *where, MuseDiag *diag) {
  MuseArena *arena = muse_arena_create();
  MuseStr ways = {0}, need = {0}, there = {0};
  const char *text = muse_attr_text_or(&plan->module->attrs, "config", "");
  MuseConfig config;
  if (muse_config_parse_text(name, text, strlen(text), NULL, arena, &config, NULL) == MUSE_OK) {
    config.memory_budget = available;
    ways_to_fit(&config, functions, &ways);
  }
  muse_str_append_bytes(&need, muse_plan_memory(plan, functions));
  muse_str_append_bytes(&there, available);
  MuseStatus status = muse_error(
      diag, MUSE_ERR_NO_FIT,
      "'%s' needs %s to %s, and %s has %s available; %s%s%sa smaller config, another device with more memory "
      "(--device cuda) or another machine",
      name, muse_str_text(&need), functions ? "run" : "train", where, muse_str_text(&there),
      ways.len ? "this fits: " : "take ", muse_str_text(&ways), ways.len ? "; or take " : "");
  muse_str_free(&ways), muse_str_free(&need), muse_str_free(&there);
  muse_arena_destroy(arena);
  return status;
}

MuseStatus muse_compile_config(const MuseConfig *config, const char *source, const char *target,
                               const MuseCompileOptions *options, MuseModule **out_module, MuseDiag *diag) {
  MuseModule *module = muse_model_build(config, source);
  set_options(config, target, module);
  MuseStatus status = muse_compile(module, options, diag);
  if (status == MUSE_OK && config->memory_budget &&
      strcmp(muse_attr_text_or(&module->attrs, "level", ""), "kernel") == 0) {
    MuseEstimate e;
    muse_estimate(module, &e);
    if (e.total_bytes > (double)config->memory_budget) status = refuse_budget(config, e.total_bytes, diag);
  }
  if (status != MUSE_OK) {
    muse_module_destroy(module);
    return status;
  }
  *out_module = module;
  return MUSE_OK;
}

// ---- for the runtime ----

MuseStatus muse_module_of_config(const char *path, const MuseTextList *sets, MuseArena *arena, MuseModule **out_module,
                                 MuseDiag *diag) {
  MuseConfig config;
  MUSE_TRY(muse_config_load(path, sets, arena, &config, diag));
  *out_module = muse_model_build(&config, path);
  set_options(&config, "cpu", *out_module);
  return MUSE_OK;
}

MuseStatus muse_plan_text_of_config(const char *path, const MuseTextList *sets, MuseStr *out_text, MuseDiag *diag) {
  MuseArena *arena = muse_arena_create(); // locations in the module point into it
  MuseConfig config;
  MuseModule *module = NULL;
  MuseStatus status = muse_config_load(path, sets, arena, &config, diag);
  if (status == MUSE_OK) status = muse_compile_config(&config, path, "cpu", NULL, &module, diag);
  if (status == MUSE_OK) {
    muse_attr_set_int(module, &module->attrs, "plan_version", MUSE_PLAN_VERSION);
    muse_module_print(module, out_text);
  }
  muse_module_destroy(module);
  muse_arena_destroy(arena);
  return status;
}
