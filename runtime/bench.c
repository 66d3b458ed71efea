// The command `bench`: every kernel of a plan, measured on the values of a real step and held against what the plan
// says it costs and what the machine can do.
#include "ir/base/vec.h"
#include "ops/ops.h"
#include "runtime/check_eval.h"
#include "runtime/commands.h"
#include "runtime/metrics.h"
#include "runtime/numerics.h"
#include "runtime/peaks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Arguments {
  MuseSessionOptions session;
  MuseParamsOptions params;
  const char *function, *check;
  int64_t repeats, top;
  bool json;
} Arguments;

// A distinct kernel within a function: its calls together.
typedef struct Row {
  const char *function;
  const MuseOp *kernel; // of the first call
  int index, calls;
  MuseCost cost;        // of one call
  double seconds;       // of all calls, the fastest of each
} Row;

// A function as a whole.
typedef struct Total {
  const char *function;
  int calls;
  double sum, seconds; // of its kernels one by one, and of a run
} Total;

typedef struct Bench {
  MuseSession *session;
  MUSE_VEC(Row) rows;
  MUSE_VEC(Total) totals;
} Bench;

static void collect_row(Bench *b, const char *function, const MusePlanCall *call, double seconds) {
  Row *row = NULL;
  int index = call->kernel->index;
  for (size_t i = 0; i < b->rows.len; i++)
    if (b->rows.data[i].index == index && b->rows.data[i].function == function) row = &b->rows.data[i];
  if (!row) {
    Row fresh = {.function = function, .kernel = call->op, .index = index, .cost = muse_kernel_cost(call->op)};
    muse_vec_push(&b->rows, fresh);
    row = &muse_vec_last(&b->rows);
  }
  row->calls++;
  row->seconds += seconds;
}

static MuseStatus measure(Bench *b, const char *function, int64_t repeats, MuseDiag *diag) {
  const MusePlanFunc *f = muse_plan_func(b->session->plan, function);
  if (!f || f->n_calls == 0) return MUSE_OK;
  MuseExecutor *e = b->session->executor;
  double *fastest = calloc(2 * (size_t)f->n_calls, sizeof *fastest), *seconds = fastest + f->n_calls;
  Total total = {.function = function, .calls = f->n_calls, .seconds = INFINITY};
  if (!fastest) muse_out_of_memory(2 * (size_t)f->n_calls * sizeof *fastest);
  MuseStatus status = muse_executor_run(e, function, diag); // warm
  for (int64_t i = 0; i < repeats && status == MUSE_OK; i++) {
    status = muse_executor_time(e, function, seconds, diag);
    for (int c = 0; c < f->n_calls; c++)
      if (i == 0 || seconds[c] < fastest[c]) fastest[c] = seconds[c];
  }
  for (int64_t i = 0; i < repeats && status == MUSE_OK; i++) {
    double start = muse_seconds();
    status = muse_executor_run(e, function, diag);
    if (status == MUSE_OK) status = muse_executor_wait(e, diag);
    total.seconds = fmin(total.seconds, muse_seconds() - start);
  }
  for (int c = 0; c < f->n_calls && status == MUSE_OK; c++) {
    collect_row(b, f->name, &f->calls[c], fastest[c]);
    total.sum += fastest[c];
  }
  muse_vec_push(&b->totals, total);
  free(fastest);
  return status;
}

// Products of half precision have units of their own on a GPU.
static bool is_half_product(const MuseOp *kernel) {
  const char *skeleton = muse_op_text(kernel, "skeleton");
  if (strcmp(skeleton, "map") == 0) return false;
  for (int i = 0; i < kernel->n_operands; i++) {
    MuseDtype d = kernel->operands[i]->type.dtype;
    if (d == MUSE_BF16 || d == MUSE_F16) return true;
  }
  return false;
}

// Shares of the time that the machine's peaks would need at least, for the bytes and for the arithmetic: 1 is as fast
// as can be. Small kernels whose data stay in the caches may pass 1.
static double share_of_copy(const Row *r, const MusePeaks *p) {
  return r->cost.bytes / p->copy_bytes * r->calls / r->seconds;
}

static double share_of_arithmetic(const Row *r, const MusePeaks *p) {
  double flops = p->half_flops > 0 && is_half_product(r->kernel) ? p->half_flops : p->flops;
  double least = r->cost.flops / flops;
  if (p->int8_ops > 0) least = fmax(least, r->cost.int_ops / p->int8_ops);
  return least * r->calls / r->seconds;
}

static int slowest_first(const void *a, const void *b) {
  const Row *x = a, *y = b;
  return x->seconds > y->seconds ? -1 : x->seconds < y->seconds;
}

static void print_table(const Bench *b, const MusePeaks *p, int64_t top) {
  double total = 0;
  MuseStr machine = {0};
  for (size_t i = 0; i < b->rows.len; i++) total += b->rows.data[i].seconds;
  muse_executor_describe(b->session->executor, &machine);
  printf("%s: copy %.1f GB/s, %.1f GFLOP/s (%s), ", muse_str_text(&machine), p->copy_bytes / 1e9, p->flops / 1e9,
         p->flops_with);
  if (p->half_flops > 0) printf("%.1f GFLOP/s half precision (%s), ", p->half_flops / 1e9, p->half_with);
  printf("%.1f GOP/s int8 (%s)\n", p->int8_ops / 1e9, p->int8_with);
  muse_str_free(&machine);
  printf("%9s %6s %5s %10s %9s %9s %9s %9s %6s %6s  %s\n", "ms", "share", "calls", "MB", "MFLOP", "GB/s", "GFLOP/s",
         "GOP/s", "copy", "arith", "kernel");
  for (size_t i = 0; i < b->rows.len && (top == 0 || (int64_t)i < top); i++) {
    const Row *r = &b->rows.data[i];
    double n = r->calls, s = r->seconds > 0 ? r->seconds : 1e-9;
    MuseStr what = {0};
    muse_kernel_describe(r->kernel, &what);
    printf("%9.3f %5.1f%% %5d %10.2f %9.2f %9.2f %9.2f %9.2f %5.1f%% %5.1f%%  @%s %s\n", 1e3 * s, 100 * s / total,
           r->calls, n * r->cost.bytes / 1e6, n * r->cost.flops / 1e6, n * r->cost.bytes / s / 1e9,
           n * r->cost.flops / s / 1e9, n * r->cost.int_ops / s / 1e9, 100 * share_of_copy(r, p),
           100 * share_of_arithmetic(r, p), r->function, muse_str_text(&what));
    muse_str_free(&what);
  }
  printf("%9.3f ms in all\n", 1e3 * total);
  for (size_t i = 0; i < b->totals.len; i++) {
    const Total *t = &b->totals.data[i];
    printf("%9.3f ms @%s: %d calls one by one; %.3f ms as a whole\n", 1e3 * t->sum, t->function, t->calls,
           1e3 * t->seconds);
  }
}

static void json_field(MuseStr *out, const char *key, double value) {
  muse_str_appendf(out, ",\"%s\":", key);
  muse_json_append_real(out, value);
}

static void print_json(const Bench *b, const MusePeaks *p, int64_t top) {
  MuseStr out = {0};
  muse_str_appendf(&out, "{\"threads\":%d", muse_executor_threads(b->session->executor));
  json_field(&out, "copy_bytes_per_second", p->copy_bytes);
  json_field(&out, "flops_per_second", p->flops);
  json_field(&out, "half_flops_per_second", p->half_flops);
  json_field(&out, "int8_ops_per_second", p->int8_ops);
  muse_str_append(&out, ",\"functions\":[");
  for (size_t i = 0; i < b->totals.len; i++) {
    const Total *t = &b->totals.data[i];
    muse_str_appendf(&out, "%s\n{\"function\":\"%s\",\"calls\":%d", i ? "," : "", t->function, t->calls);
    json_field(&out, "kernel_seconds", t->sum);
    json_field(&out, "seconds", t->seconds);
    muse_str_append(&out, "}");
  }
  muse_str_append(&out, "],\"kernels\":[");
  for (size_t i = 0; i < b->rows.len && (top == 0 || (int64_t)i < top); i++) {
    const Row *r = &b->rows.data[i];
    MuseStr what = {0};
    muse_kernel_describe(r->kernel, &what);
    muse_str_appendf(&out, "%s\n{\"function\":\"%s\",\"kernel\":", i ? "," : "", r->function);
    muse_json_append_text(&out, muse_str_text(&what), what.len);
    muse_str_appendf(&out, ",\"index\":%d,\"calls\":%d", r->index, r->calls);
    json_field(&out, "bytes", r->cost.bytes);
    json_field(&out, "flops", r->cost.flops);
    json_field(&out, "int_ops", r->cost.int_ops);
    json_field(&out, "seconds", r->seconds);
    double copy = r->seconds > 0 ? share_of_copy(r, p) : 0, arithmetic = r->seconds > 0 ? share_of_arithmetic(r, p) : 0;
    json_field(&out, "share_of_copy", copy);
    json_field(&out, "share_of_arithmetic", arithmetic);
    json_field(&out, "share_of_peak", fmax(copy, arithmetic));
    muse_str_append(&out, "}");
    muse_str_free(&what);
  }
  muse_str_append(&out, "]}");
  puts(muse_str_text(&out));
  muse_str_free(&out);
}

// Ids that are spread over the vocabulary, so that gathers do not hit one row.
static MuseStatus fill_tokens(MuseSession *s, MuseDiag *diag) {
  int64_t n = s->batch * (s->n_seq + 1);
  int32_t *rows = calloc((size_t)n, sizeof *rows);
  if (!rows) muse_out_of_memory((size_t)n * sizeof *rows);
  for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)((uint64_t)i * 2654435761u % (uint64_t)s->vocab_size);
  MuseStatus status = muse_session_set_rows(s, rows, diag);
  free(rows);
  return status;
}

static MuseStatus check_all(MuseSession *s, const char *const *functions, MuseDiag *diag) {
  MuseCheckReport report = {0};
  MuseStatus status = MUSE_OK;
  for (; *functions; functions++) {
    if (!muse_executor_has_function(s->executor, *functions)) continue;
    MuseStatus one = muse_check_eval(s, *functions, &report, diag);
    if (one != MUSE_OK) status = one;
  }
  muse_check_report_print(&report, stderr);
  muse_check_report_free(&report);
  return status;
}

static MuseStatus bench(const char *plan, const Arguments *a, MuseSession *s, MuseDiag *diag) {
  const char *functions[] = {"grad", "norms", "update", "decode", NULL};
  const char *prepared[] = {"setup", "pack", NULL, NULL, NULL, NULL, NULL};
  bool check;
  MUSE_TRY(muse_check_option(a->check, &check, diag));
  if (a->repeats < 1 || a->top < 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--repeats takes a number from 1 on, --top one from 0 on");
  MUSE_TRY(muse_params_options_check(&a->params, diag));
  MUSE_TRY(muse_session_open(plan, &a->session, s, diag));
  MUSE_TRY(muse_params_options_fit(s, &a->params, diag));
  if (a->function) {
    if (!muse_executor_has_function(s->executor, a->function))
      return muse_error(diag, MUSE_ERR_INPUT, "'%s' has no function @%s", plan, a->function);
    functions[0] = a->function, functions[1] = NULL;
  }
  // What @norms and @update read is a step's: zeros would take other time than numbers do.
  const char *const before[] = {"grad", "norms"};
  const int n_before = check || !a->function                    ? 0
                       : strcmp(a->function, "update") == 0 ? 2
                       : strcmp(a->function, "norms") == 0  ? 1
                                                            : 0;
  int n_prepared = 2;
  for (int i = 0; i < n_before; i++) prepared[n_prepared++] = before[i];
  for (int i = 0; functions[i]; i++) prepared[n_prepared++] = functions[i];
  MUSE_TRY(muse_session_prepare(s, prepared, diag));
  MUSE_TRY(muse_session_load(s, &a->params, NULL, diag));
  MUSE_TRY(fill_tokens(s, diag));
  MUSE_TRY(muse_session_set_rng(s, s->seed, 0, diag));
  // the learning rate stays 0, so @update changes nothing
  MUSE_TRY(muse_session_set_scalar(s, "bias1", 1, diag));
  MUSE_TRY(muse_session_set_scalar(s, "bias2", 1, diag));
  MUSE_TRY(muse_session_set_scalar(s, "keep", 1, diag));
  if (check) MUSE_TRY(check_all(s, functions, diag));
  for (int i = 0; i < n_before; i++)
    if (muse_executor_has_function(s->executor, before[i])) MUSE_TRY(muse_executor_run(s->executor, before[i], diag));
  Bench b = {.session = s};
  MusePeaks peaks;
  MuseStatus status = muse_executor_peaks(s->executor, &peaks, diag);
  for (int i = 0; functions[i] && status == MUSE_OK; i++) status = measure(&b, functions[i], a->repeats, diag);
  if (status == MUSE_OK) {
    if (b.rows.len) qsort(b.rows.data, b.rows.len, sizeof *b.rows.data, slowest_first);
    if (a->json) print_json(&b, &peaks, a->top);
    else print_table(&b, &peaks, a->top);
  }
  muse_vec_free(&b.rows);
  muse_vec_free(&b.totals);
  return status;
}

MuseStatus muse_command_bench(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.repeats = 5};
  const MuseOption table[] = {
      {"function", 'f', MUSE_OPT_TEXT, "NAME", "Measure this function only (grad, norms, update and decode).",
       &a.function},
      {"repeats", 'n', MUSE_OPT_INT, "N", "Run each function N times and take the fastest of each kernel (5).",
       &a.repeats},
      {"top", 0, MUSE_OPT_INT, "N", "Show the N slowest kernels only (0: all).", &a.top},
      MUSE_PARAMS_OPTION_ROWS(a.params),
      MUSE_CHECK_OPTION_ROW(a.check),
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object.", &a.json},
      MUSE_SESSION_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseSession session = {0};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run bench [options] PLAN",
                      "Measures each kernel: planned bytes and operations, time, and the share of what this machine "
                      "reaches in plain loops.",
                      stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "bench", &plan, diag);
    if (status == MUSE_OK) status = bench(plan, &a, &session, diag);
  }
  muse_session_close(&session);
  muse_text_list_free(&operands);
  return status;
}
