// metrics.jsonl, and JSON text for results.
#include "runtime/metrics.h"

#include "runtime/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct MuseMetrics {
  char *path;
  int fd;       // append mode: each line is one write
  MuseStr line;
  MuseEvents *events; // NULL: no event file
  bool mirrored;      // the line goes there too
  MuseStr kind, tag, sample; // of the line, for the event file
};

void muse_json_append_text(MuseStr *out, const char *text, size_t length) {
  muse_str_append(out, "\"");
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '"' || c == '\\') muse_str_appendf(out, "\\%c", c);
    else if (c == '\n') muse_str_append(out, "\\n");
    else if (c < 0x20 || c == 0x7f) muse_str_appendf(out, "\\u%04x", c);
    else if (c < 0x80) muse_str_append_n(out, text + i, 1);
    else {
      int n = muse_utf8_length((const unsigned char *)text + i, length - i);
      if (n) muse_str_append_n(out, text + i, (size_t)n);
      else muse_str_append(out, "\xef\xbf\xbd"); // U+FFFD: JSON is UTF-8, and a model's bytes need not be
      if (n) i += (size_t)n - 1;
    }
  }
  muse_str_append(out, "\"");
}

void muse_json_append_real(MuseStr *out, double value) {
  if (isfinite(value)) muse_str_append_double(out, value);
  else muse_str_append(out, isnan(value) ? "\"nan\"" : value > 0 ? "\"inf\"" : "\"-inf\"");
}

// The step of one of our lines, which all start with it and end with "}"; -1 for anything else.
static int64_t step_of_line(const char *line, ssize_t length) {
  static const char prefix[] = "{\"step\":";
  char *end;
  if (length < (ssize_t)sizeof prefix || strncmp(line, prefix, sizeof prefix - 1) != 0) return -1;
  if (line[length - 1] != '\n' || line[length - 2] != '}') return -1;
  errno = 0;
  long long step = strtoll(line + sizeof prefix - 1, &end, 10);
  return errno == 0 && (*end == ',' || *end == '}') ? step : -1;
}

// Number of leading bytes that belong to steps up to resumed_step.
static off_t history_length(FILE *f, int64_t resumed_step) {
  char *line = NULL;
  size_t capacity = 0;
  off_t kept = 0;
  for (ssize_t n; (n = getline(&line, &capacity, f)) > 0; kept += n) {
    int64_t step = step_of_line(line, n);
    if (step < 0 || step > resumed_step) break;
  }
  free(line);
  return kept;
}

MuseStatus muse_metrics_open(const char *path, int64_t resumed_step, MuseMetrics **out_metrics, MuseDiag *diag) {
  *out_metrics = NULL;
  int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return muse_error(diag, MUSE_ERR_FAILED, "cannot open '%s': %s", path, strerror(errno));
  off_t kept = 0;
  int copy = resumed_step >= 0 ? dup(fd) : -1;
  FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
  if (f) {
    kept = history_length(f, resumed_step);
    fclose(f);
  }
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, kept) != 0) {
    int error = errno;
    close(fd);
    return muse_error(diag, MUSE_ERR_FAILED, "cannot shorten '%s' to the resumed step: %s", path, strerror(error));
  }
  MuseMetrics *m = calloc(1, sizeof *m);
  if (!m) muse_out_of_memory(sizeof *m);
  m->path = strdup(path);
  m->fd = fd;
  *out_metrics = m;
  return MUSE_OK;
}

MuseStatus muse_metrics_close(MuseMetrics *metrics, MuseDiag *diag) {
  if (!metrics) return MUSE_OK;
  MuseStatus status = MUSE_OK;
  if (close(metrics->fd) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", metrics->path, strerror(errno));
  MuseStatus events = muse_events_close(metrics->events, diag);
  if (status == MUSE_OK) status = events;
  muse_str_free(&metrics->line);
  muse_str_free(&metrics->kind);
  muse_str_free(&metrics->tag);
  muse_str_free(&metrics->sample);
  free(metrics->path);
  free(metrics);
  return status;
}

void muse_metrics_mirror(MuseMetrics *metrics, MuseEvents *events) {
  MUSE_ASSERT(!metrics->events);
  metrics->events = events;
}

void muse_metrics_begin(MuseMetrics *metrics, int64_t step, const char *kind) {
  muse_str_clear(&metrics->line);
  muse_str_clear(&metrics->kind);
  muse_str_append(&metrics->kind, kind);
  // What is said once is no curve.
  metrics->mirrored = metrics->events && !muse_str_eq(kind, "start") && !muse_str_eq(kind, "kernel");
  if (metrics->mirrored) muse_events_begin(metrics->events, step);
  muse_str_appendf(&metrics->line, "{\"step\":%lld", (long long)step);
  muse_metrics_text(metrics, "kind", kind);
}

// TensorBoard groups by what stands before the first slash: "train/loss", "lap.max_g/3".
static const char *tag_of(MuseMetrics *metrics, const char *key) {
  const char *dot = strrchr(key, '.');
  muse_str_clear(&metrics->tag);
  if (dot) muse_str_append_n(&metrics->tag, key, (size_t)(dot - key));
  else muse_str_append(&metrics->tag, metrics->kind.data);
  muse_str_appendf(&metrics->tag, "/%s", dot ? dot + 1 : key);
  return metrics->tag.data;
}

static void mirror_scalar(MuseMetrics *metrics, const char *key, double value) {
  if (metrics->mirrored) muse_events_scalar(metrics->events, tag_of(metrics, key), value);
}

static void add_key(MuseMetrics *metrics, const char *key) {
  MUSE_ASSERT(metrics->line.len > 0); // between begin and end
  muse_str_append(&metrics->line, ",");
  muse_json_append_text(&metrics->line, key, strlen(key));
  muse_str_append(&metrics->line, ":");
}

void muse_metrics_real(MuseMetrics *metrics, const char *key, double value) {
  add_key(metrics, key);
  muse_json_append_real(&metrics->line, value);
  mirror_scalar(metrics, key, value);
}

void muse_metrics_int(MuseMetrics *metrics, const char *key, int64_t value) {
  add_key(metrics, key);
  muse_str_appendf(&metrics->line, "%lld", (long long)value);
  mirror_scalar(metrics, key, (double)value);
}

void muse_metrics_bool(MuseMetrics *metrics, const char *key, bool value) {
  add_key(metrics, key);
  muse_str_append(&metrics->line, value ? "true" : "false");
}

void muse_metrics_text(MuseMetrics *metrics, const char *key, const char *value) {
  add_key(metrics, key);
  muse_json_append_text(&metrics->line, value, strlen(value));
  if (metrics->mirrored && muse_str_eq(metrics->kind.data, "sample") && !muse_str_eq(key, "kind"))
    muse_str_append(&metrics->sample, value); // the prompt, and the text that follows it
}

void muse_metrics_trits(MuseMetrics *metrics, const char *key, const int64_t counts[3]) {
  add_key(metrics, key);
  muse_str_appendf(&metrics->line, "[%lld,%lld,%lld]", (long long)counts[0], (long long)counts[1],
                   (long long)counts[2]);
  if (metrics->mirrored) muse_events_trits(metrics->events, tag_of(metrics, key), counts);
}

void muse_metrics_reals(MuseMetrics *metrics, const char *key, const double *values, int64_t count) {
  double sum = 0;
  add_key(metrics, key);
  muse_str_append(&metrics->line, "[");
  for (int64_t i = 0; i < count; i++) {
    if (i) muse_str_append(&metrics->line, ",");
    muse_json_append_real(&metrics->line, values[i]);
    sum += values[i];
  }
  muse_str_append(&metrics->line, "]");
  if (count > 0) mirror_scalar(metrics, key, sum / (double)count); // one curve a layer is enough to look at
}

static MuseStatus end_event(MuseMetrics *metrics, MuseDiag *diag) {
  if (metrics->sample.len > 0)
    muse_events_text(metrics->events, "sample", metrics->sample.data, metrics->sample.len);
  muse_str_clear(&metrics->sample);
  return muse_events_end(metrics->events, diag);
}

MuseStatus muse_metrics_end(MuseMetrics *metrics, const char **out_line, MuseDiag *diag) {
  MUSE_ASSERT(metrics->line.len > 0);
  muse_str_append(&metrics->line, "}\n");
  size_t done = 0;
  while (done < metrics->line.len) {
    ssize_t n = write(metrics->fd, metrics->line.data + done, metrics->line.len - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", metrics->path, strerror(errno));
    done += (size_t)n;
  }
  metrics->line.data[--metrics->line.len] = 0; // the newline
  if (out_line) *out_line = metrics->line.data;
  return metrics->mirrored ? end_event(metrics, diag) : MUSE_OK;
}

void muse_smoothed_add(MuseSmoothed *s, double x, double decay) {
  if (!isfinite(x)) return;
  s->weight = decay * s->weight + 1;
  s->value += (x - s->value) / s->weight;
}
