#ifndef MUSE_RUNTIME_CHECK_EVAL_H
#define MUSE_RUNTIME_CHECK_EVAL_H

#include "runtime/session.h"

// --check=eval: runs functions of a plan kernel by kernel and holds each result against the exact evaluation of the
// kernel's body on the same operands, in doubles. Slow; meant for small configurations and for finding a wrong kernel.
// A kernel that takes the oracle long is compared once. One that it cannot do in minutes is run at smaller shapes on
// pieces of its operands where the device can do that (a GPU), and is otherwise left out.

typedef struct MuseCheckReport {
  int n_calls, n_checked, n_too_large;
  int n_cut;         // kernels too large for the oracle that were compared at smaller shapes
  int n_known;       // large calls of kernels that had been compared before
  double worst;       // largest error of the checked calls: |x - exact| / |exact| over a result (Euclidean norms)
  MuseStr worst_call; // where
} MuseCheckReport;

// Adds to the report (zeroed at first). MUSE_ERR_FAILED when a kernel is further off than rounding explains (1e-3; 2e-2
// where it rounds to integers, bf16 or f16 itself), after all have been checked; each such kernel is one sentence in
// diag.
MuseStatus muse_check_eval(MuseSession *session, const char *function, MuseCheckReport *report, MuseDiag *diag);
void muse_check_report_print(const MuseCheckReport *report, FILE *out);
void muse_check_report_free(MuseCheckReport *report);
// The value of the option --check; MUSE_ERR_INPUT for anything but "eval". NULL: no check.
MuseStatus muse_check_option(const char *value, bool *out_check, MuseDiag *diag);
#define MUSE_CHECK_OPTION_ROW(o) \
  {"check", 0, MUSE_OPT_TEXT, "eval", "Compare every kernel with its exact evaluation; slow.", &(o)}

#endif
