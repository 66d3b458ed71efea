#ifndef MUSE_RUNTIME_METRICS_H
#define MUSE_RUNTIME_METRICS_H

#include "ir/base/diag.h"
#include "ir/base/str.h"
#include "runtime/events.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// metrics.jsonl: one JSON object a line, numbers in full precision (they read back to the same bits), written out line
// by line.
typedef struct MuseMetrics MuseMetrics;

// Opens for appending and cuts off everything from the first line on whose "step" is beyond `resumed_step` or that is
// not whole, so a resumed run continues its own history. A fresh run passes -1: the file starts empty.
MuseStatus muse_metrics_open(const char *path, int64_t resumed_step, MuseMetrics **out_metrics, MuseDiag *diag);
MuseStatus muse_metrics_close(MuseMetrics *metrics, MuseDiag *diag); // NULL is allowed; reports a failed write
// From here on numbers, samples and counts of trits go to the event file too, which the metrics then own.
void muse_metrics_mirror(MuseMetrics *metrics, MuseEvents *events);

// A line: {"step":N,"kind":"train", ...}. Non-finite numbers become the texts "nan", "inf", "-inf".
void muse_metrics_begin(MuseMetrics *metrics, int64_t step, const char *kind);
void muse_metrics_real(MuseMetrics *metrics, const char *key, double value);
void muse_metrics_int(MuseMetrics *metrics, const char *key, int64_t value);
void muse_metrics_bool(MuseMetrics *metrics, const char *key, bool value);
void muse_metrics_text(MuseMetrics *metrics, const char *key, const char *value);
void muse_metrics_reals(MuseMetrics *metrics, const char *key, const double *values, int64_t count);
void muse_metrics_trits(MuseMetrics *metrics, const char *key, const int64_t counts[3]); // of -1, 0 and 1
// Writes the line. out_line (may be NULL) points to its text without the newline until the next begin: for --json.
MuseStatus muse_metrics_end(MuseMetrics *metrics, const char **out_line, MuseDiag *diag);

// JSON text of a string with quotes, and of a number; for results on stdout.
void muse_json_append_text(MuseStr *out, const char *text, size_t length);
void muse_json_append_real(MuseStr *out, double value);

// Exponentially smoothed value without start-up bias: s = Σ a^(n-i) x_i / Σ a^(n-i). Both numbers are part of a
// checkpoint.
typedef struct MuseSmoothed { double value, weight; } MuseSmoothed;
void muse_smoothed_add(MuseSmoothed *s, double x, double decay); // non-finite x is left out

// Progress on the terminal (stderr): one line that is redrawn with a bar on a TTY, else a plain line now and then.
typedef struct MuseProgressOptions {
  FILE *out;
  int64_t first_step, n_steps; // steps done before this run, and the number at its end
  int64_t every_steps;         // plain lines: one each so many steps, and at the end
  bool quiet;
} MuseProgressOptions;

typedef struct MuseProgressStep {
  int64_t step;                // completed
  double loss, smoothed_loss, learning_rate, grad_norm;
  double tokens;               // of this step
  double seconds;              // of this step
  uint64_t memory_bytes;       // in use
} MuseProgressStep;

typedef struct MuseProgress MuseProgress;
MuseProgress *muse_progress_create(const MuseProgressOptions *options);
void muse_progress_update(MuseProgress *progress, const MuseProgressStep *step);
// Prints a line of text above the bar.
void muse_progress_message(MuseProgress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void muse_progress_destroy(MuseProgress *progress); // finishes the line; NULL is allowed
// The text of the line, at most `width` columns: what does not fit is left out, the least important parts first; step
// and loss stay, cut where even they are too long. For tests and for update itself.
void muse_progress_format(const MuseProgressOptions *options, const MuseProgressStep *step, double tokens_per_second,
                          double eta_seconds, bool bar, int width, MuseStr *out);
uint64_t muse_process_memory(void); // resident bytes of this process; 0 when unknown

#endif
