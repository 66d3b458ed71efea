// Every kernel against the oracle, on the values of a real step.
#include "runtime/check_eval.h"

#include "ops/ops.h"
#include "runtime/check_cut.h"
#include "runtime/numerics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// What the oracle can do in seconds: it computes one element at a time. Of what takes it longer than an instant, one
// call of a kernel is enough; what takes it longer than a second or two is cut to less where that can be.
#define MAX_OPERATIONS 1e9
#define MAX_ELEMENTS 2e7
#define INSTANT 1e-2
#define SECONDS 1e-1
#define CUT 3e-2

typedef struct Check {
  MuseSession *session;
  const char *function;
  MuseCheckReport *report;
  MuseArena *arena;      // of the running call
  MuseTensor *operands;  // NULL: the call is skipped
  MuseDiag *diag;
  bool failed;
  bool *known;           // by distinct kernel of the plan
} Check;

static double elements(MuseValue *const *values, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)muse_type_elements(values[i]->type);
  return sum;
}

// What the oracle has to do, as a share of what it can do.
static double effort(const MuseOp *k) {
  MuseCost cost = muse_kernel_cost(k);
  return fmax((cost.flops + cost.int_ops) / MAX_OPERATIONS,
              (elements(k->operands, k->n_operands) + elements(k->results, k->n_results)) / MAX_ELEMENTS);
}

static bool is_small(const MuseOp *k) { return effort(k) <= CUT; }

static double error_of(const MuseTensor *got, const MuseTensor *want) {
  double off = 0, norm = 0;
  for (int64_t i = 0, n = muse_type_elements(want->type); i < n; i++) {
    if (got->data[i] == want->data[i]) { // also equal infinities
      if (isfinite(want->data[i])) norm += want->data[i] * want->data[i];
      continue;
    }
    off += (got->data[i] - want->data[i]) * (got->data[i] - want->data[i]);
    norm += want->data[i] * want->data[i];
  }
  if (off == 0) return 0;
  // Sums that cancel to nearly nothing are compared with one unit of the f32 grid around 1e-6.
  return sqrt(off) / fmax(sqrt(norm), 1e-12);
}

static bool rounds(const MuseOp *k) {
  for (int i = 0; i < k->n_operands; i++)
    if (k->operands[i]->type.dtype != MUSE_F32) return true;
  for (const MuseOp *op = k->body->first; op; op = op->next)
    for (int i = 0; i < op->n_results; i++)
      if (op->results[i]->type.dtype != MUSE_F32 || op->kind == MUSE_OP_stochastic_round || op->kind == MUSE_OP_round)
        return true;
  return false;
}

static void judge(Check *c, const MuseKernelVisit *visit, const MuseOp *k, int result, double error) {
  MuseCheckReport *r = c->report;
  double bar = rounds(k) ? 2e-2 : 1e-3;
  bool worst = !(error <= r->worst), bad = !(error <= bar); // NaN is worst and bad
  if (!worst && !bad) return;
  MuseStr where = {0};
  muse_str_appendf(&where, "@%s call %d: ", c->function, visit->call);
  muse_kernel_describe(visit->kernel, &where);
  muse_str_appendf(&where, ", %sresult %d ", k == visit->kernel ? "" : "cut down, ", result);
  muse_type_print(k->results[result]->type, &where);
  if (bad) {
    muse_error(c->diag, MUSE_ERR_FAILED, "%s differs from its exact evaluation by %.2e (bar %.0e)",
               muse_str_text(&where), error, bar);
    c->failed = true;
  }
  if (worst) {
    r->worst = error;
    muse_str_free(&r->worst_call);
    r->worst_call = where;
  } else {
    muse_str_free(&where);
  }
}

// ---- kernels that are too large ----

// The smallest dimension of matrices: what indices of a cut kernel must stay below.
static int64_t smallest_dim(const MuseOp *k) {
  int64_t least = INT64_MAX;
  for (int i = 0; i < k->n_operands; i++)
    for (int d = 0; d < k->operands[i]->type.rank && k->operands[i]->type.rank > 1; d++)
      if (k->operands[i]->type.dim[d] > 1 && k->operands[i]->type.dim[d] < least) least = k->operands[i]->type.dim[d];
  return least;
}

// The first elements of the large kernel's operands are the operands of the small one.
static void *piece_of(Check *c, const MuseKernelVisit *visit, const MuseOp *small, int operand) {
  MuseType type = small->operands[operand]->type;
  void *piece = muse_arena_alloc(c->arena, (size_t)muse_type_bytes(type) + 64);
  piece = (void *)(((uintptr_t)piece + 63) / 64 * 64);
  memcpy(piece, muse_visit_operand(visit, operand), (size_t)muse_type_bytes(type));
  if (type.dtype != MUSE_I32) return piece;
  int64_t least = smallest_dim(small);
  for (int64_t i = 0, n = muse_type_elements(type); i < n; i++) {
    int32_t *x = (int32_t *)piece + i;
    if (*x >= least) *x = (int32_t)(*x % least);
  }
  return piece;
}

static MuseStatus compare_cut(Check *c, const MuseKernelVisit *visit, const MuseOp *small) {
  muse_arena_reset(c->arena);
  void **operands = MUSE_NEW_ARRAY(c->arena, void *, small->n_operands + 1);
  void **results = MUSE_NEW_ARRAY(c->arena, void *, small->n_results + 1);
  MuseTensor *args = MUSE_NEW_ARRAY(c->arena, MuseTensor, small->n_operands + 1);
  MuseTensor *want = MUSE_NEW_ARRAY(c->arena, MuseTensor, small->n_results + 1);
  for (int i = 0; i < small->n_operands; i++) {
    operands[i] = piece_of(c, visit, small, i);
    args[i] = muse_tensor_create(c->arena, small->operands[i]->type);
    muse_tensor_load(&args[i], operands[i]);
  }
  for (int i = 0; i < small->n_results; i++)
    results[i] = muse_arena_alloc(c->arena, (size_t)muse_type_bytes(small->results[i]->type));
  MUSE_TRY(muse_executor_try(c->session->executor, small, (const void *const *)operands, results, c->diag));
  MuseEval eval = {.arena = c->arena};
  muse_region_eval(&eval, small->body, args, want);
  for (int i = 0; i < small->n_results; i++) {
    MuseTensor got = muse_tensor_create(c->arena, small->results[i]->type);
    muse_tensor_load(&got, results[i]);
    judge(c, visit, small, i, error_of(&got, &want[i]));
  }
  return MUSE_OK;
}

// False when that cannot be.
static bool check_cut(Check *c, const MuseKernelVisit *visit) {
  MuseCutKernel cut = {0};
  if (!muse_executor_can_try(c->session->executor) ||
      !muse_kernel_cut(c->session->plan->module, visit->kernel, is_small, &cut))
    return false;
  if (compare_cut(c, visit, cut.kernel) == MUSE_OK) c->report->n_cut++;
  else c->failed = true;
  c->known[visit->kernel_index] = true;
  muse_cut_free(&cut);
  return true;
}

// ---- visits ----

static bool keep_operands(void *context, const MuseKernelVisit *visit) {
  Check *c = context;
  const MuseOp *k = visit->kernel;
  double share = effort(k);
  c->report->n_calls++;
  c->operands = NULL;
  if (share > INSTANT && c->known[visit->kernel_index]) {
    c->report->n_known++;
    return true;
  }
  if (share > SECONDS && check_cut(c, visit)) return true;
  if (share > 1) {
    c->report->n_too_large++;
    return true;
  }
  muse_arena_reset(c->arena);
  c->operands = MUSE_NEW_ARRAY(c->arena, MuseTensor, k->n_operands + 1);
  for (int i = 0; i < k->n_operands; i++) {
    c->operands[i] = muse_tensor_create(c->arena, k->operands[i]->type);
    muse_tensor_load(&c->operands[i], muse_visit_operand(visit, i));
  }
  return true;
}

static bool compare_results(void *context, const MuseKernelVisit *visit) {
  Check *c = context;
  const MuseOp *k = visit->kernel;
  if (!c->operands) return true;
  c->known[visit->kernel_index] = true;
  MuseTensor *want = MUSE_NEW_ARRAY(c->arena, MuseTensor, k->n_results + 1);
  MuseEval eval = {.arena = c->arena};
  muse_region_eval(&eval, k->body, c->operands, want);
  for (int i = 0; i < k->n_results; i++) {
    MuseTensor got = muse_tensor_create(c->arena, k->results[i]->type);
    muse_tensor_load(&got, muse_visit_result(visit, i));
    judge(c, visit, k, i, error_of(&got, &want[i]));
  }
  c->report->n_checked++;
  return true;
}

MuseStatus muse_check_eval(MuseSession *session, const char *function, MuseCheckReport *report, MuseDiag *diag) {
  Check c = {.session = session, .function = function, .report = report, .arena = muse_arena_create(), .diag = diag};
  c.known = calloc((size_t)session->plan->n_kernels + 1, sizeof *c.known);
  MUSE_ASSERT(c.known != NULL);
  MuseStatus status = muse_executor_trace(session->executor, function, keep_operands, compare_results, &c, diag);
  muse_arena_destroy(c.arena);
  free(c.known);
  return status == MUSE_OK && c.failed ? MUSE_ERR_FAILED : status;
}

void muse_check_report_print(const MuseCheckReport *r, FILE *out) {
  fprintf(out, "check: %d of %d kernel calls compared with their exact evaluation", r->n_checked, r->n_calls);
  if (r->n_cut) fprintf(out, "; %d kernels too large for it were compared at smaller shapes", r->n_cut);
  if (r->n_known) fprintf(out, "; %d large calls are of kernels compared before", r->n_known);
  if (r->n_too_large) fprintf(out, "; %d are too large for it and were not compared", r->n_too_large);
  if (r->n_checked || r->n_cut)
    fprintf(out, "; the worst is off by %.2e%s%s", r->worst, r->worst > 0 ? ", " : "", muse_str_text(&r->worst_call));
  fputc('\n', out);
}

void muse_check_report_free(MuseCheckReport *report) { muse_str_free(&report->worst_call); }

MuseStatus muse_check_option(const char *value, bool *out_check, MuseDiag *diag) {
  *out_check = value != NULL;
  if (!value || muse_str_eq(value, "eval")) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "--check=%s: the only check is 'eval'", value);
}
