// Which rounding counts: a case of the model is trained in f64 by the oracle, kernel by kernel, with chosen results
// rounded or disturbed, or chosen kernels replaced by their machine code, and compared with the run in f64.
//
//   bench-rounding FOLDER [--set KEY=VALUE] [--mode MODE] [--others MODE] [--match TEXT] [--sweep] ...  (--help)
//
// FOLDER holds config.yaml, params.safetensors and the tokens in expected.safetensors (docs/comparing.md). A mode is
//   exact    f64
//   store    results rounded to the type that they are stored in
//   noise    a number uniform in half a unit of that type's last place, of either sign, added to the results: what
//            rounding does, by chance, --seeds times
//   ops      every op inside the kernel rounded, too
//   native   the kernel's machine code on operands as they are stored
// --match names the results that take --mode ("@grad 17.0", "forward&L0", "resolvent_scan|window", ...: pieces of the
// line that --sweep prints for them); the others take --others. Printed are the changes of each step's loss, those of
// the first step's gradients, and what Adam's first step makes of these. docs/performance.md tells what was found.
#include "compiler/model.h"
#include "compiler/pipeline.h"
#include "compiler/plan.h"
#include "ir/base/philox.h"
#include "ops/hooks.h"
#include "runtime/cpu_kernels.h"
#include "runtime/numerics.h"
#include "runtime/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum Mode { EXACT, STORE, NOISE, OPS, NATIVE } Mode;
static const char *const mode_names[] = {"exact", "store", "noise", "ops", "native"};

typedef struct Site { // one result of a call
  const MusePlanFunc *func;
  const MusePlanCall *call;
  int result;
  Mode mode;
  char *text;
} Site;

typedef struct Outcome {
  double *loss;  // [steps]
  double **grad; // of the first step, one a gradient buffer; NULL for other buffers
} Outcome;

static struct {
  const char *folder, *match, *level, *watch;
  MuseConfig config;
  MuseArena *arena, *scratch;
  MuseDiag *diag;
  MusePlan *plan;
  MuseCpuKernels *kernels;
  MusePool *pool;
  MuseSafetensors *params, *expected;
  double **buffer; // by index, f64
  Site *sites;
  int n_sites;
  uint32_t seed;
  int64_t steps, row, except, rows; // only this row of results of so many rows, or all but this one; -1: all
  int64_t first, last;              // steps that are disturbed: first..last
  const char *only;                 // the gradients that are; NULL: all
  const char *show;                 // results whose largest elements are printed
} run;

static void check(MuseStatus status) {
  if (status == MUSE_OK) return;
  exit(muse_program_end(status, run.diag));
}

// ---- one call ----

// "a|b&c": alternatives of pieces that must all be there; a leading ! means absent.
static bool matches(const char *text, const char *pattern) {
  char copy[1024], *save_or = NULL;
  snprintf(copy, sizeof copy, "%s", pattern);
  for (char *alt = strtok_r(copy, "|", &save_or); alt; alt = strtok_r(NULL, "|", &save_or)) {
    bool all = true;
    char *save_and = NULL;
    for (char *piece = strtok_r(alt, "&", &save_and); piece; piece = strtok_r(NULL, "&", &save_and))
      all &= *piece == '!' ? !strstr(text, piece + 1) : strstr(text, piece) != NULL;
    if (all) return true;
  }
  return false;
}

static int first_site(const MusePlanCall *call) {
  for (int i = 0; i < run.n_sites; i++)
    if (run.sites[i].call == call) return i;
  MUSE_ASSERT(!"a call has results");
}

static void *aligned(int64_t bytes) {
  void *p = aligned_alloc(64, ((size_t)bytes + 127) / 64 * 64);
  MUSE_ASSERT(p != NULL);
  return p;
}

static void run_stages(const MusePlanCall *call, void **pointers) {
  const MuseKernelInfo *info = &call->kernel->info;
  const MuseKernelFn *fn = muse_cpu_kernel_stages(run.kernels, call->kernel->index);
  for (int s = 0; s < info->n_stages; s++) {
    bool loop = info->loop_count > 1 && s == info->loop_first;
    int last = loop ? info->loop_last : s;
    for (int64_t i = 0; i < (loop ? info->loop_count : 1); i++)
      for (int k = s; k <= last; k++) {
        void *scratch = aligned(info->stage[k].scratch_bytes);
        fn[k](pointers, 0, info->stage[k].n_tasks, scratch, i);
        free(scratch);
      }
    s = last;
  }
}

static void run_native(const MusePlanCall *call, const MuseTensor *operands, MuseTensor *results) {
  const MuseOp *op = call->op;
  int n = op->n_operands + op->n_results;
  void **pointers = calloc((size_t)n + 2, sizeof *pointers);
  MUSE_ASSERT(pointers != NULL);
  for (int i = 0; i < op->n_operands; i++) {
    pointers[i] = aligned(muse_type_bytes(op->operands[i]->type));
    muse_tensor_store(&operands[i], pointers[i]);
  }
  for (int i = 0; i < op->n_results; i++) pointers[op->n_operands + i] = aligned(muse_type_bytes(op->results[i]->type));
  pointers[n] = aligned(call->kernel->info.workspace_bytes);
  pointers[n + 1] = (void *)call->rng_ids;
  run_stages(call, pointers);
  for (int i = 0; i < op->n_results; i++) {
    results[i] = muse_tensor_create(run.scratch, op->results[i]->type);
    muse_tensor_load(&results[i], pointers[op->n_operands + i]);
  }
  for (int i = 0; i <= n; i++) free(pointers[i]);
  free(pointers);
}

static void disturb(const Site *site, int index, MuseTensor *t) {
  MuseDtype dtype = t->type.dtype;
  if (dtype != MUSE_F32 && dtype != MUSE_BF16 && dtype != MUSE_F16) return;
  int digits = dtype == MUSE_F32 ? 24 : dtype == MUSE_BF16 ? 8 : 11;
  for (int64_t i = 0, n = muse_type_elements(t->type); i < n; i++) {
    if (run.row >= 0 && (n % run.rows != 0 || i / (n / run.rows) != run.row)) continue;
    if (run.except >= 0 && n % run.rows == 0 && i / (n / run.rows) == run.except) continue;
    double x = t->data[i];
    if (site->mode == STORE) {
      t->data[i] = muse_round_to_dtype(x, dtype);
    } else if (x != 0 && isfinite(x)) {
      double u = (double)muse_random_u32((uint64_t)i, (uint64_t)index, run.seed, 0) / 4294967296 * 2 - 1;
      t->data[i] += ldexp(u, ilogb(x) - digits);
    }
  }
}

// The largest elements, by absolute value.
static void show(const Site *site, const MuseTensor *t) {
  printf("# %s:", site->text);
  double below = INFINITY;
  for (int k = 0; k < 6; k++) {
    int64_t at = -1;
    for (int64_t i = 0, n = muse_type_elements(t->type); i < n; i++)
      if (fabs(t->data[i]) < below && (at < 0 || fabs(t->data[i]) > fabs(t->data[at]))) at = i;
    if (at < 0) break;
    below = fabs(t->data[at]);
    printf(" [%lld] %.4g", (long long)at, t->data[at]);
  }
  printf("\n");
}

static void run_call(const MusePlanCall *call, const MuseTensor *operands, MuseTensor *results) {
  int first = first_site(call);
  bool native = false, ops = false, exact = false;
  for (int r = 0; r < call->op->n_results; r++) {
    native |= run.sites[first + r].mode == NATIVE;
    ops |= run.sites[first + r].mode == OPS;
    exact |= run.sites[first + r].mode < OPS;
  }
  MuseTensor *other = MUSE_NEW_ARRAY(run.scratch, MuseTensor, call->op->n_results);
  MuseEval eval = {.arena = run.scratch, .round_storage = false};
  if (exact) muse_op_eval(&eval, call->op, operands, results);
  if (native) run_native(call, operands, other);
  eval.round_storage = true;
  if (ops) muse_op_eval(&eval, call->op, operands, other);
  for (int r = 0; r < call->op->n_results; r++) {
    const Site *site = &run.sites[first + r];
    if (site->mode == NATIVE || site->mode == OPS) results[r] = other[r];
    else if (site->mode != EXACT) disturb(site, first + r, &results[r]);
    if (run.show && matches(site->text, run.show)) show(site, &results[r]);
  }
}

static void run_exact(const MusePlanCall *call, const MuseTensor *operands, MuseTensor *results) {
  MuseEval eval = {.arena = run.scratch, .round_storage = false};
  muse_op_eval(&eval, call->op, operands, results);
}

// ---- functions and steps ----

static void run_function(const char *name, bool disturbed) {
  const MusePlanFunc *f = muse_plan_func(run.plan, name);
  if (!f) return;
  muse_arena_reset(run.scratch);
  int n_values = muse_func_number(f->func);
  MuseTensor *values = MUSE_NEW_ARRAY(run.scratch, MuseTensor, n_values + 1);
  const MuseRegion *body = &f->func->body;
  for (int i = 0; i < body->n_args; i++) {
    MuseTensor t = muse_tensor_create(run.scratch, body->args[i]->type);
    const double *from = run.buffer[muse_module_buffer(run.plan->module, muse_func_arg_buffer(f->func, i))->index];
    memcpy(t.data, from, (size_t)muse_type_elements(t.type) * sizeof *from);
    values[body->args[i]->id] = t;
  }
  int call = 0;
  for (const MuseOp *op = body->first; op; op = op->next) {
    MuseTensor operands[128], results[128];
    MUSE_ASSERT(op->n_operands <= 128 && op->n_results <= 128);
    for (int i = 0; i < op->n_operands; i++) {
      if (op->kind == MUSE_OP_return) {
        const char *buffer = muse_func_result_buffer(f->func, i);
        MuseTensor t = values[op->operands[i]->id];
        if (buffer)
          memcpy(run.buffer[muse_module_buffer(run.plan->module, buffer)->index], t.data,
                 (size_t)muse_type_elements(t.type) * sizeof *t.data);
      } else {
        operands[i] = values[op->operands[i]->id];
      }
    }
    if (op->kind == MUSE_OP_return) break;
    if (op->kind == MUSE_OP_kernel) {
      MUSE_ASSERT(f->calls[call].op == op);
      (disturbed ? run_call : run_exact)(&f->calls[call], operands, results);
      call++;
    } else {
      MuseEval eval = {.arena = run.scratch, .round_storage = false};
      muse_op_eval(&eval, op, operands, results);
    }
    for (int i = 0; i < op->n_results; i++) values[op->results[i]->id] = results[i];
  }
}

static double *buffer_named(const char *name) {
  const MuseBuffer *b = muse_module_buffer(run.plan->module, name);
  return b ? run.buffer[b->index] : NULL;
}

static void set_scalar(const char *name, double value) {
  double *b = buffer_named(name);
  if (b) *b = value;
}

static void set_tokens(int64_t step) {
  int64_t B = run.config.batch_size, T = run.config.n_seq, n = B * (T + 1);
  int32_t *x = calloc((size_t)n, sizeof *x);
  const MuseStoredTensor *s;
  MUSE_ASSERT(x != NULL);
  check(muse_safetensors_get(run.expected, "tokens", &s, run.diag));
  check(muse_stored_read_i32(s, step * n, n, x, run.diag));
  for (int64_t b = 0; b < B; b++)
    for (int64_t t = 0; t < T; t++) {
      buffer_named("tokens")[b * T + t] = x[b * (T + 1) + t];
      buffer_named("targets")[b * T + t] = x[b * (T + 1) + t + 1];
    }
  free(x);
}

static void set_parameter(const MuseBuffer *b) {
  const MuseStoredTensor *s;
  check(muse_safetensors_get(run.params, b->name, &s, run.diag));
  float *x = calloc((size_t)s->count, sizeof *x);
  MUSE_ASSERT(x && s->count == muse_type_elements(b->type));
  check(muse_stored_read_f32(s, 0, s->count, x, run.diag));
  for (int64_t i = 0; i < s->count; i++) run.buffer[b->index][i] = (double)x[i];
  free(x);
}

// Section 6 of docs/model.md.
static double learning_rate(const MuseConfig *c, int64_t step) {
  if (step < c->warmup_steps) return c->learning_rate * (double)(step + 1) / (double)c->warmup_steps;
  double done = (double)(step - c->warmup_steps) / (double)(c->max_steps - c->warmup_steps);
  return c->learning_rate * (c->min_lr_ratio + (1 - c->min_lr_ratio) * 0.5 * (1 + cos(acos(-1) * done)));
}

// Exact gradients, but those that match run.only.
static void mixed_gradients(void) {
  const MuseModule *m = run.plan->module;
  run_function("grad", true);
  double **kept = calloc((size_t)m->n_buffers, sizeof *kept);
  MUSE_ASSERT(kept != NULL);
  for (int i = 0; i < m->n_buffers; i++) {
    if (strncmp(m->buffers[i]->name, "grad.", 5) != 0 || !strstr(m->buffers[i]->name, run.only)) continue;
    size_t bytes = (size_t)muse_type_elements(m->buffers[i]->type) * sizeof **kept;
    kept[i] = malloc(bytes);
    MUSE_ASSERT(kept[i] != NULL);
    memcpy(kept[i], run.buffer[i], bytes);
  }
  run_function("grad", false);
  for (int i = 0; i < m->n_buffers; i++) {
    if (kept[i]) memcpy(run.buffer[i], kept[i], (size_t)muse_type_elements(m->buffers[i]->type) * sizeof **kept);
    free(kept[i]);
  }
  free(kept);
}

static Outcome train(void) {
  const MuseModule *m = run.plan->module;
  Outcome out = {calloc((size_t)run.steps, sizeof *out.loss), calloc((size_t)m->n_buffers, sizeof *out.grad)};
  for (int i = 0; i < m->n_buffers; i++) {
    memset(run.buffer[i], 0, (size_t)muse_type_elements(m->buffers[i]->type) * sizeof **run.buffer);
    if (strcmp(m->buffers[i]->role, "param") == 0) set_parameter(m->buffers[i]);
  }
  run_function("setup", true);
  run_function("pack", true);
  for (int64_t step = 0; step < run.steps; step++) {
    set_tokens(step);
    set_scalar("lr", learning_rate(&run.config, step));
    set_scalar("bias1", 1 - pow(run.config.adam_beta1, (double)step + 1));
    set_scalar("bias2", 1 - pow(run.config.adam_beta2, (double)step + 1));
    bool disturbed = step >= run.first && step <= run.last;
    if (run.only && disturbed) mixed_gradients();
    else run_function("grad", disturbed);
    out.loss[step] = *buffer_named("loss");
    for (int i = 0; i < m->n_buffers && step == 0; i++) {
      if (strncmp(m->buffers[i]->name, "grad.", 5) != 0) continue;
      size_t bytes = (size_t)muse_type_elements(m->buffers[i]->type) * sizeof **out.grad;
      out.grad[i] = malloc(bytes);
      MUSE_ASSERT(out.grad[i] != NULL);
      memcpy(out.grad[i], run.buffer[i], bytes);
    }
    if (run.steps == 1) break;
    run_function("norms", disturbed && !run.only);
    run_function("update", disturbed && !run.only);
  }
  return out;
}

// ---- reports ----

typedef struct Difference {
  double error, cosine;
} Difference;

static Difference difference(const double *a, const double *b, int64_t n, double sums[4]) {
  double off = 0, aa = 0, bb = 0, ab = 0;
  for (int64_t i = 0; i < n; i++)
    off += (a[i] - b[i]) * (a[i] - b[i]), aa += a[i] * a[i], bb += b[i] * b[i], ab += a[i] * b[i];
  sums[0] += off, sums[1] += aa, sums[2] += bb, sums[3] += ab;
  return (Difference){sqrt(off / bb), ab / sqrt(aa * bb)};
}

// Returns the cosine of all gradients.
static double report(const Outcome *got, const Outcome *want, bool print) {
  const MuseModule *m = run.plan->module;
  for (int64_t i = 0; i < run.steps && print; i++) printf(" %9.1e", got->loss[i] - want->loss[i]);
  double sums[4] = {0}, worst = -1, least = 2;
  const char *name = "", *least_name = "";
  for (int i = 0; i < m->n_buffers; i++) {
    if (!want->grad[i]) continue;
    Difference d = difference(got->grad[i], want->grad[i], muse_type_elements(m->buffers[i]->type), sums);
    if (d.error > worst) worst = d.error, name = m->buffers[i]->name + 5;
    if (d.cosine < least) least = d.cosine, least_name = m->buffers[i]->name + 5;
    if (print && run.watch && strstr(m->buffers[i]->name, run.watch))
      printf(" [%s %.1e %.4f]", m->buffers[i]->name + 5, d.error, d.cosine);
  }
  if (print)
    printf("  all %.1e cos %.5f, worst %.1e (%s), least cos %.5f (%s)", sqrt(sums[0] / sums[2]),
           sums[3] / sqrt(sums[1] * sums[2]), worst, name, least, least_name);
  return sums[3] / sqrt(sums[1] * sums[2]);
}

// What Adam's first step, g / (|g| + eps), makes of the gradients' errors: in units of the learning rate, together and
// the largest.
static void report_first_step(const Outcome *got, const Outcome *want) {
  const MuseModule *m = run.plan->module;
  double sum = 0, worst = 0, g = 0, wrong = 0;
  const char *name = "";
  int64_t at = 0;
  for (int i = 0; i < m->n_buffers; i++)
    for (int64_t k = 0; want->grad[i] && (!run.watch || strstr(m->buffers[i]->name, run.watch)) &&
                        k < muse_type_elements(m->buffers[i]->type);
         k++) {
      double a = got->grad[i][k], b = want->grad[i][k], d = a / (fabs(a) + 1e-8) - b / (fabs(b) + 1e-8);
      sum += d * d;
      if (fabs(d) > fabs(worst)) worst = d, g = b, wrong = a - b, name = m->buffers[i]->name + 5, at = k;
    }
  printf("; first step moved by %.1e, most %+.1e: %s[%lld], gradient %.2e off by %.1e", sqrt(sum), worst, name,
         (long long)at, g, wrong);
}

static void forget(Outcome *o) {
  for (int i = 0; i < run.plan->module->n_buffers; i++) free(o->grad[i]);
  free(o->grad);
  free(o->loss);
}

static bool noisy(void) {
  for (int i = 0; i < run.n_sites; i++)
    if (run.sites[i].mode == NOISE) return true;
  return false;
}

// All seeds of one choice of modes; the last line has the root mean square of the losses' changes.
static void measure(const Outcome *want, int64_t seeds, const char *what) {
  double *square = calloc((size_t)run.steps, sizeof *square);
  MUSE_ASSERT(square != NULL);
  double mean = 0, lowest = 2;
  if (!noisy()) seeds = 1;
  for (int64_t s = 0; s < seeds; s++) {
    run.seed = (uint32_t)s + 1;
    Outcome got = train();
    for (int64_t i = 0; i < run.steps; i++) square[i] += pow(got.loss[i] - want->loss[i], 2) / (double)seeds;
    double cosine = report(&got, want, false);
    mean += cosine / (double)seeds, lowest = fmin(lowest, cosine);
    if (s + 1 == seeds) {
      if (seeds > 1) {
        printf("rms");
        for (int64_t i = 0; i < run.steps; i++) printf(" %9.1e", sqrt(square[i]));
        printf("; cosines %.5f on average, %.5f at least; last", mean, lowest);
      }
      report(&got, want, true);
      report_first_step(&got, want);
      printf("  %s\n", what);
      fflush(stdout);
    }
    forget(&got);
  }
  free(square);
}

// ---- set up ----

static void list_sites(void) {
  int n = 0;
  for (int f = 0; f < run.plan->n_funcs; f++)
    for (int c = 0; c < run.plan->funcs[f].n_calls; c++) n += run.plan->funcs[f].calls[c].op->n_results;
  run.sites = MUSE_NEW_ARRAY(run.arena, Site, n + 1);
  for (int f = 0; f < run.plan->n_funcs; f++)
    for (int c = 0; c < run.plan->funcs[f].n_calls; c++) {
      const MusePlanCall *call = &run.plan->funcs[f].calls[c];
      const MuseOp *op = call->op, *last = op->body ? op->body->last : NULL;
      for (int r = 0; r < op->n_results; r++) {
        MuseStr text = {0};
        const MuseOp *made = last ? last->operands[r]->def : NULL;
        muse_str_appendf(&text, "@%s %d.%d L%d %s %s ", run.plan->funcs[f].name, c, r, op->layer,
                         op->stage == MUSE_STAGE_FORWARD    ? "forward"
                         : op->stage == MUSE_STAGE_BACKWARD ? "backward"
                                                            : "-",
                         muse_attr_text_or(&op->attrs, "skeleton", "?"));
        muse_type_print(op->results[r]->type, &text);
        muse_str_appendf(&text, " %s", made ? muse_op_info(made->kind)->name : "-");
        if (made && made->loc.key) muse_str_appendf(&text, " key=%s", made->loc.key);
        run.sites[run.n_sites++] =
            (Site){&run.plan->funcs[f], call, r, EXACT, muse_arena_strdup(run.arena, muse_str_text(&text))};
        muse_str_free(&text);
      }
    }
}

// The gradients of the file in place of those of the run in f64.
static void read_reference(Outcome *want) {
  const MuseModule *m = run.plan->module;
  for (int i = 0; i < m->n_buffers; i++) {
    if (!want->grad[i]) continue;
    const MuseStoredTensor *s;
    check(muse_safetensors_get(run.expected, m->buffers[i]->name, &s, run.diag));
    float *x = calloc((size_t)s->count, sizeof *x);
    MUSE_ASSERT(x && s->count == muse_type_elements(m->buffers[i]->type));
    check(muse_stored_read_f32(s, 0, s->count, x, run.diag));
    for (int64_t k = 0; k < s->count; k++) want->grad[i][k] = (double)x[k];
    free(x);
  }
}

static Mode parse_mode(const char *text) {
  for (int i = 0; i < 5; i++)
    if (strcmp(text, mode_names[i]) == 0) return (Mode)i;
  check(muse_error(run.diag, MUSE_ERR_INPUT, "'%s' is no mode; take exact, store, noise, ops or native", text));
  return EXACT;
}

static void open_case(const MuseTextList *sets) {
  check(muse_config_load(muse_arena_printf(run.arena, "%s/config.yaml", run.folder), sets, run.arena, &run.config,
                         run.diag));
  check(
      muse_safetensors_open(muse_arena_printf(run.arena, "%s/params.safetensors", run.folder), &run.params, run.diag));
  check(muse_safetensors_open(muse_arena_printf(run.arena, "%s/expected.safetensors", run.folder), &run.expected,
                              run.diag));
  MuseModule *module;
  check(muse_compile_config(&run.config, run.folder, "cpu", NULL, &module, run.diag));
  muse_attr_set_int(module, &module->attrs, "plan_version", MUSE_PLAN_VERSION);
  check(muse_plan_create(module, run.folder, &run.plan, run.diag));
  module = run.plan->module;
  run.buffer = MUSE_NEW_ARRAY(run.arena, double *, module->n_buffers);
  for (int i = 0; i < module->n_buffers; i++)
    run.buffer[i] = MUSE_NEW_ARRAY(run.arena, double, muse_type_elements(module->buffers[i]->type));
  list_sites();
}

static void prepare_kernels(void) {
  check(muse_pool_create(2, &run.pool, run.diag));
  MuseCpuKernelsOptions options = {.level = run.level, .quiet = true};
  check(muse_cpu_kernels_create(run.plan, &options, &run.kernels, run.diag));
  int *all = MUSE_NEW_ARRAY(run.arena, int, run.plan->n_kernels);
  for (int i = 0; i < run.plan->n_kernels; i++) all[i] = i;
  check(muse_cpu_kernels_prepare(run.kernels, run.pool, all, run.plan->n_kernels, run.diag));
}

int main(int argc, char **argv) {
  muse_program_start();
  run.diag = muse_diag_create();
  run.arena = muse_arena_create();
  run.scratch = muse_arena_create();
  const char *mode_text = "noise", *others_text = "exact";
  int64_t seeds = 8;
  bool sweep = false, help = false, calls = false, file = false;
  MuseTextList sets = {0}, operands = {0};
  run.match = "@";
  run.steps = 6;
  run.row = run.except = -1;
  run.last = INT64_MAX;
  const MuseOption table[] = {
      {"set", 0, MUSE_OPT_LIST, "KEY=VALUE", "Change a key of the configuration.", &sets},
      {"mode", 0, MUSE_OPT_TEXT, "MODE", "Of the calls that match: exact, store, noise, ops, native (noise).",
       &mode_text},
      {"others", 0, MUSE_OPT_TEXT, "MODE", "Of the other calls (exact).", &others_text},
      {"match", 0, MUSE_OPT_TEXT, "TEXT", "Pieces of a result's line: a|b&c&!d (all).", &run.match},
      {"level", 0, MUSE_OPT_TEXT, "LEVEL", "Instruction set of native kernels (the best).", &run.level},
      {"watch", 0, MUSE_OPT_TEXT, "NAME", "Print these gradients, too.", &run.watch},
      {"seeds", 0, MUSE_OPT_INT, "N", "Runs with other noise (8).", &seeds},
      {"steps", 0, MUSE_OPT_INT, "N", "Training steps (6).", &run.steps},
      {"first", 0, MUSE_OPT_INT, "STEP", "Steps before this one are exact (0).", &run.first},
      {"last", 0, MUSE_OPT_INT, "STEP", "Steps after this one are exact.", &run.last},
      {"only", 0, MUSE_OPT_TEXT, "NAME", "Only the gradients with this in their name are wrong.", &run.only},
      {"except", 0, MUSE_OPT_INT, "TOKEN", "Disturb all tokens but this one.", &run.except},
      {"show", 0, MUSE_OPT_TEXT, "TEXT", "Print the largest elements of results that match.", &run.show},
      {"row", 0, MUSE_OPT_INT, "TOKEN", "Disturb only this token of all B T.", &run.row},
      {"file", 0, MUSE_OPT_FLAG, NULL, "Compare gradients with those of expected.safetensors.", &file},
      {"sweep", 0, MUSE_OPT_FLAG, NULL, "One result after another.", &sweep},
      {"calls", 0, MUSE_OPT_FLAG, NULL, "With --sweep: one call after another, all its results.", &calls},
      {0}};
  check(muse_options_parse(argc, argv, table, &operands, &help, run.diag));
  if (help || operands.len != 1) {
    muse_options_help(table, "bench-rounding [OPTION...] FOLDER", "Finds the results whose rounding counts.", stdout);
    return help ? 0 : 2;
  }
  run.folder = operands.data[0];
  Mode mode = parse_mode(mode_text), others = parse_mode(others_text);
  open_case(&sets);
  run.rows = run.config.batch_size * run.config.n_seq;
  if (mode == NATIVE || others == NATIVE) prepare_kernels();
  Outcome want = train(); // all sites are exact
  if (file) read_reference(&want);
  printf("f64:");
  for (int64_t i = 0; i < run.steps; i++) printf(" %.9f", want.loss[i]);
  printf("\n");
  for (int i = 0; i < run.n_sites; i++) run.sites[i].mode = others;
  printf("# from here on disturbed\n");
  if (!sweep) {
    for (int i = 0; i < run.n_sites; i++)
      if (matches(run.sites[i].text, run.match)) run.sites[i].mode = mode;
    measure(&want, seeds, run.match);
  }
  for (int i = 0; i < run.n_sites && sweep; i++) {
    if (!matches(run.sites[i].text, run.match) || (calls && run.sites[i].result)) continue;
    int n = calls ? run.sites[i].call->op->n_results : 1;
    for (int k = 0; k < n; k++) run.sites[i + k].mode = mode;
    measure(&want, seeds, run.sites[i].text);
    for (int k = 0; k < n; k++) run.sites[i + k].mode = others;
  }
  forget(&want);
  return muse_program_end(MUSE_OK, run.diag);
}
