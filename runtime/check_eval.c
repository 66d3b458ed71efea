// Every kernel against the oracle, on the values of a real step.
#include "runtime/check_eval.h"

#include "ops/ops.h"
#include "runtime/numerics.h"

#include <math.h>
#include <string.h>

// What the oracle can do in seconds: it computes one element at a time.
#define MAX_OPERATIONS 1e9
#define MAX_ELEMENTS 2e7

typedef struct Check {
  MuseSession *session;
  const char *function;
  MuseCheckReport *report;
  MuseArena *arena;      // of the running call
  MuseTensor *operands;  // NULL: the call is skipped
  MuseDiag *diag;
  bool failed;
} Check;

static double elements(MuseValue *const *values, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)muse_type_elements(values[i]->type);
  return sum;
}

static bool too_large(const MuseOp *k) {
  MuseCost cost = muse_kernel_cost(k);
  return cost.flops + cost.int_ops > MAX_OPERATIONS ||
         elements(k->operands, k->n_operands) + elements(k->results, k->n_results) > MAX_ELEMENTS;
}

static bool keep_operands(void *context, const MuseKernelVisit *visit) {
  Check *c = context;
  const MuseOp *k = visit->kernel;
  c->report->n_calls++;
  c->operands = NULL;
  if (too_large(k)) {
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

static void judge(Check *c, const MuseKernelVisit *visit, int result, double error) {
  MuseCheckReport *r = c->report;
  const MuseOp *k = visit->kernel;
  double bar = rounds(k) ? 2e-2 : 1e-3;
  bool worst = !(error <= r->worst), bad = !(error <= bar); // NaN is worst and bad
  if (!worst && !bad) return;
  MuseStr where = {0};
  muse_str_appendf(&where, "@%s call %d: ", c->function, visit->call);
  muse_kernel_describe(k, &where);
  muse_str_appendf(&where, ", result %d ", result);
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

static bool compare_results(void *context, const MuseKernelVisit *visit) {
  Check *c = context;
  const MuseOp *k = visit->kernel;
  if (!c->operands) return true;
  MuseTensor *want = MUSE_NEW_ARRAY(c->arena, MuseTensor, k->n_results + 1);
  MuseEval eval = {.arena = c->arena};
  muse_region_eval(&eval, k->body, c->operands, want);
  for (int i = 0; i < k->n_results; i++) {
    MuseTensor got = muse_tensor_create(c->arena, k->results[i]->type);
    muse_tensor_load(&got, muse_visit_result(visit, i));
    judge(c, visit, i, error_of(&got, &want[i]));
  }
  c->report->n_checked++;
  return true;
}

MuseStatus muse_check_eval(MuseSession *session, const char *function, MuseCheckReport *report, MuseDiag *diag) {
  Check c = {.session = session, .function = function, .report = report, .arena = muse_arena_create(), .diag = diag};
  MuseStatus status = muse_executor_trace(session->executor, function, keep_operands, compare_results, &c, diag);
  muse_arena_destroy(c.arena);
  return status == MUSE_OK && c.failed ? MUSE_ERR_FAILED : status;
}

void muse_check_report_print(const MuseCheckReport *r, FILE *out) {
  fprintf(out, "check: %d of %d kernel calls compared with their exact evaluation", r->n_checked, r->n_calls);
  if (r->n_too_large) fprintf(out, "; %d are too large for it and were not compared", r->n_too_large);
  if (r->n_checked)
    fprintf(out, "; the worst is off by %.2e%s%s", r->worst, r->worst > 0 ? ", " : "", muse_str_text(&r->worst_call));
  fputc('\n', out);
}

void muse_check_report_free(MuseCheckReport *report) { muse_str_free(&report->worst_call); }

MuseStatus muse_check_option(const char *value, bool *out_check, MuseDiag *diag) {
  *out_check = value != NULL;
  if (!value || muse_str_eq(value, "eval")) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "--check=%s: the only check is 'eval'", value);
}
