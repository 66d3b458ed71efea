// The progress line of training.
#include "runtime/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR_CELLS = 20 };

struct MuseProgress {
  MuseProgressOptions options;
  bool terminal, colour;
  bool drawn;                   // a line without newline stands on the terminal
  MuseSmoothed seconds, tokens; // of a step
  double last_drawn;            // monotonic seconds
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t muse_process_memory(void) {
  FILE *f = fopen("/proc/self/statm", "r");
  if (!f) return 0;
  unsigned long long total, resident;
  int n = fscanf(f, "%llu %llu", &total, &resident);
  fclose(f);
  return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

MuseProgress *muse_progress_create(const MuseProgressOptions *options) {
  MuseProgress *p = calloc(1, sizeof *p);
  if (!p) muse_out_of_memory(sizeof *p);
  p->options = *options;
  if (p->options.every_steps < 1) p->options.every_steps = 1;
  const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
  p->terminal = !options->quiet && isatty(fileno(options->out)) && !(term && strcmp(term, "dumb") == 0);
  p->colour = p->terminal && !(no_color && *no_color);
  return p;
}

// "5s", "3m05s", "2h07m", "4d03h".
static void append_duration(MuseStr *out, double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) {
    muse_str_append(out, "?");
    return;
  }
  long long s = llround(seconds);
  if (s < 60) muse_str_appendf(out, "%llds", s);
  else if (s < 3600) muse_str_appendf(out, "%lldm%02llds", s / 60, s % 60);
  else if (s < 86400) muse_str_appendf(out, "%lldh%02lldm", s / 3600, s / 60 % 60);
  else muse_str_appendf(out, "%lldd%02lldh", s / 86400, s / 3600 % 24);
}

static void append_rate(MuseStr *out, double per_second) {
  if (per_second < 1000) muse_str_appendf(out, "%.0f tok/s", per_second);
  else if (per_second < 1e6) muse_str_appendf(out, "%.1fk tok/s", per_second / 1e3);
  else muse_str_appendf(out, "%.2fM tok/s", per_second / 1e6);
}

// The parts of the line, in their order on it.
typedef enum Part { BAR, STEP, LOSS, SMOOTHED, LEARNING_RATE, GRADIENT, RATE, MEMORY, ETA, N_PARTS } Part;

static void append_part(MuseStr *s, Part part, const MuseProgressOptions *options, const MuseProgressStep *step,
                        double tokens_per_second, double eta_seconds) {
  double done = options->n_steps > 0 ? (double)step->step / (double)options->n_steps : 0;
  int filled = (int)(done * BAR_CELLS);
  if (s->len) muse_str_append(s, part == SMOOTHED || s->data[s->len - 1] == '%' ? " " : "  ");
  switch (part) {
  case BAR:
    muse_str_append(s, "[");
    for (int i = 0; i < BAR_CELLS; i++) muse_str_append(s, i < filled ? "#" : "-");
    muse_str_appendf(s, "] %3d%%", (int)(100 * done));
    break;
  case STEP: muse_str_appendf(s, "step %lld/%lld", (long long)step->step, (long long)options->n_steps); break;
  case LOSS: muse_str_appendf(s, "loss %.4f", step->loss); break;
  case SMOOTHED: muse_str_appendf(s, "(%.4f)", step->smoothed_loss); break;
  case LEARNING_RATE: muse_str_appendf(s, "lr %.2e", step->learning_rate); break;
  case GRADIENT: muse_str_appendf(s, "grad %.3g", step->grad_norm); break;
  case RATE: append_rate(s, tokens_per_second); break;
  case MEMORY: muse_str_append_bytes(s, step->memory_bytes); break;
  case ETA:
    muse_str_append(s, "ETA ");
    append_duration(s, eta_seconds);
    break;
  case N_PARTS: break;
  }
}

void muse_progress_format(const MuseProgressOptions *options, const MuseProgressStep *step, double tokens_per_second,
                          double eta_seconds, bool bar, int width, MuseStr *out) {
  static const Part dispensable[] = {MEMORY, GRADIENT, LEARNING_RATE, SMOOTHED, BAR, RATE, ETA}; // the first one first
  bool shown[N_PARTS];
  for (int part = 0; part < N_PARTS; part++) shown[part] = true;
  shown[BAR] = bar;
  shown[MEMORY] = step->memory_bytes > 0;
  size_t n_dispensable = sizeof dispensable / sizeof *dispensable, room = width > 0 ? (size_t)width : 0;
  MuseStr s = {0};
  for (size_t dropped = 0; dropped <= n_dispensable; dropped++) {
    if (dropped) shown[dispensable[dropped - 1]] = false;
    muse_str_clear(&s);
    for (int part = 0; part < N_PARTS; part++)
      if (shown[part]) append_part(&s, (Part)part, options, step, tokens_per_second, eta_seconds);
    if (s.len <= room) break;
  }
  if (s.len > room) {
    muse_str_clear(&s);
    muse_str_appendf(&s, "step %lld/%lld loss %.2f", (long long)step->step, (long long)options->n_steps, step->loss);
  }
  muse_str_append_n(out, s.data, s.len < room ? s.len : room);
  muse_str_free(&s);
}

// The last column stays free: some terminals begin a new line when it is written. 79 where nobody says how wide it is.
static int terminal_width(FILE *f) {
  struct winsize size;
  if (ioctl(fileno(f), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 79;
  return size.ws_col > 1 ? size.ws_col - 1 : 1;
}

void muse_progress_update(MuseProgress *progress, const MuseProgressStep *step) {
  MuseProgress *p = progress;
  muse_smoothed_add(&p->seconds, step->seconds, 0.95);
  muse_smoothed_add(&p->tokens, step->tokens, 0.95);
  if (p->options.quiet) return;
  bool last = step->step >= p->options.n_steps, first = step->step == p->options.first_step + 1;
  double t = now();
  if (p->terminal ? !last && t - p->last_drawn < 0.1 : !last && !first && step->step % p->options.every_steps != 0)
    return;
  p->last_drawn = t;
  double rate = p->seconds.value > 0 ? p->tokens.value / p->seconds.value : 0;
  double eta = (double)(p->options.n_steps - step->step) * p->seconds.value;
  MuseStr line = {0};
  muse_progress_format(&p->options, step, rate, eta, p->terminal,
                       p->terminal ? terminal_width(p->options.out) : 1 << 16, &line);
  if (!p->terminal) {
    fprintf(p->options.out, "%s\n", muse_str_text(&line));
  } else if (p->colour && line.len > BAR_CELLS + 2 && line.data[0] == '[') {
    fprintf(p->options.out, "\r\033[K\033[32m%.*s\033[0m%s", BAR_CELLS + 2, line.data, line.data + BAR_CELLS + 2);
  } else {
    fprintf(p->options.out, "\r\033[K%s", muse_str_text(&line));
  }
  fflush(p->options.out);
  p->drawn = p->terminal;
  muse_str_free(&line);
}

static void end_line(MuseProgress *p, bool clear) {
  if (!p->drawn) return;
  fputs(clear ? "\r\033[K" : "\n", p->options.out);
  p->drawn = false;
}

void muse_progress_message(MuseProgress *progress, const char *format, ...) {
  if (progress->options.quiet) return;
  end_line(progress, true);
  va_list args;
  va_start(args, format);
  vfprintf(progress->options.out, format, args);
  va_end(args);
  fputc('\n', progress->options.out);
  fflush(progress->options.out);
  progress->last_drawn = 0; // the bar comes back with the next step
}

void muse_progress_destroy(MuseProgress *progress) {
  if (!progress) return;
  end_line(progress, false);
  fflush(progress->options.out);
  free(progress);
}
