#ifndef MUSE_RUNTIME_REPORT_HISTORY_H
#define MUSE_RUNTIME_REPORT_HISTORY_H

#include "ir/base/diag.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"
#include "runtime/report_svg.h"

#include <stdint.h>

// What metrics.jsonl tells of a run, ordered for a report.

// Least, mean and greatest of a number over all layers and heads.
typedef struct MuseBand { MusePoints least, mean, greatest; } MuseBand;

typedef struct MuseReportSet {
  char *name;
  MusePoints share;
  double target, epochs; // the last ones
} MuseReportSet;

typedef struct MuseReportLayer {
  int64_t trits[3];              // the last counts of -1, 0 and 1; zeros: none
  double max_g, min_eta, kappa;  // the last ones, of kappa the mean; NAN: none
} MuseReportLayer;

typedef struct MuseReportText { int64_t step; char *prompt, *text; } MuseReportText;
typedef MUSE_VEC(MuseReportText) MuseReportTexts;

typedef struct MuseReportKernel { char *function, *name; int64_t calls; double seconds; } MuseReportKernel;

enum { MUSE_REPORT_MAX_LAYERS = 1024, MUSE_REPORT_MAX_SETS = 64 };

typedef struct MuseHistory {
  MusePoints loss, smoothed, validation, bits, learning_rate, grad_norm, speed, memory;
  MuseBand max_g, min_eta, kappa, zeros; // zeros: the share of trits that are 0, by layer
  MUSE_VEC(MuseReportSet) sets;
  MuseReportLayer *layers; // [MUSE_REPORT_MAX_LAYERS]
  int n_layers;
  MuseReportTexts samples;
  MuseReportTexts advice;   // of the run to its user
  MuseReportTexts bad;      // steps that were left out; `text` is the reason
  MUSE_VEC(MuseReportKernel) kernels;
  int64_t step, last_step;  // reached; planned (-1: unknown)
  int64_t starts, tokens, parameters, planned_bytes;
  char *device, *config, *version, *plan; // "" when unknown
  double best_validation;   // INFINITY: none
  int64_t lines, damaged;   // of the file; lines that say nothing sensible were left out
} MuseHistory;

// A file that cannot be opened is MUSE_ERR_INPUT; one that is empty, torn or damaged is read as far as it makes sense.
MuseStatus muse_history_read(const char *path, MuseHistory *out_history, MuseDiag *diag);
void muse_history_free(MuseHistory *history);

// The HTML page of it (runtime/report_run.c); `run` is its title.
void muse_report_page(const MuseHistory *history, const char *run, MuseStr *out);

#endif
