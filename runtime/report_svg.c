// Charts as inline SVG.
#include "runtime/report_svg.h"

#include "runtime/tokenizer.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 250, LEFT = 62, RIGHT = 14, TOP = 10, BOTTOM = 28 };
enum { PLOT_WIDTH = WIDTH - LEFT - RIGHT, PLOT_HEIGHT = HEIGHT - TOP - BOTTOM };

// What the axes show.
typedef struct Axes {
  double x0, x1, y0, y1; // y as log10 on a logarithmic axis
  bool logarithmic;
} Axes;

void muse_html_append(MuseStr *out, const char *text) {
  MuseStr safe = {0};
  muse_text_append_printable(&safe, text, strlen(text));
  for (const char *p = muse_str_text(&safe); *p; p++) {
    switch (*p) {
    case '&': muse_str_append(out, "&amp;"); break;
    case '<': muse_str_append(out, "&lt;"); break;
    case '>': muse_str_append(out, "&gt;"); break;
    case '"': muse_str_append(out, "&quot;"); break;
    case '\'': muse_str_append(out, "&#39;"); break;
    default: muse_str_append_n(out, p, 1);
    }
  }
  muse_str_free(&safe);
}

void muse_number_append(double value, MuseChartUnit unit, MuseStr *out) {
  double size = fabs(value);
  if (!isfinite(value)) muse_str_append(out, "–");
  else if (unit == MUSE_UNIT_SHARE) muse_str_appendf(out, "%.4g %%", 100 * value);
  else if (unit == MUSE_UNIT_BYTES && value >= 0 && value < 1e19) muse_str_append_bytes(out, (uint64_t)value);
  else if (size >= 1e15 || (size > 0 && size < 1e-3)) muse_str_appendf(out, "%.3g", value);
  else if (size >= 1e12) muse_str_appendf(out, "%.4gT", value / 1e12);
  else if (size >= 1e9) muse_str_appendf(out, "%.4gG", value / 1e9);
  else if (size >= 1e6) muse_str_appendf(out, "%.4gM", value / 1e6);
  else if (size >= 1e4) muse_str_appendf(out, "%.4gk", value / 1e3);
  else muse_str_appendf(out, "%.4g", value);
}

// ---- axes ----

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

// The value that 99.5 % of the points of all lines do not pass, and what the last tenth of them reaches.
static double without_spikes(const MuseChart *c, double greatest) {
  MUSE_VEC(double) all = {0};
  for (int i = 0; i < c->n_lines; i++)
    for (size_t j = 0; j < c->lines[i].points->len; j++) muse_vec_push(&all, c->lines[i].points->data[j].y);
  double end = greatest;
  if (all.len >= 200) {
    qsort(all.data, all.len, sizeof *all.data, by_value);
    end = all.data[(size_t)(0.995 * (double)(all.len - 1))];
  }
  muse_vec_free(&all);
  return end;
}

static Axes find_axes(const MuseChart *c) {
  Axes a = {INFINITY, -INFINITY, INFINITY, -INFINITY, c->logarithmic};
  for (int i = 0; i < c->n_lines; i++) {
    const MusePoints *both[2] = {c->lines[i].points, c->lines[i].until};
    for (int side = 0; side < 2 && both[side]; side++) {
      for (size_t j = 0; j < both[side]->len; j++) {
        MusePoint p = both[side]->data[j];
        a.x0 = fmin(a.x0, p.x), a.x1 = fmax(a.x1, p.x), a.y0 = fmin(a.y0, p.y), a.y1 = fmax(a.y1, p.y);
      }
    }
  }
  if (a.y0 <= 0) a.logarithmic = false;
  if (c->cut_spikes && a.y1 > a.y0) a.y1 = fmax(without_spikes(c, a.y1), a.y0);
  if (a.logarithmic) a.y0 = log10(a.y0), a.y1 = log10(a.y1);
  else if (c->from_zero) a.y0 = fmin(a.y0, 0);
  double gap = (a.y1 - a.y0) * 0.04;
  if (!(gap > 0)) gap = fmax(fabs(a.y1) * 0.05, a.logarithmic ? 0.1 : 1e-9);
  if (!(c->from_zero && a.y0 == 0)) a.y0 -= gap;
  a.y1 += gap;
  if (!(a.x1 > a.x0)) a.x0 -= 0.5, a.x1 += 0.5;
  return a;
}

static double place_x(const Axes *a, double x) { return LEFT + PLOT_WIDTH * (x - a->x0) / (a->x1 - a->x0); }

static double place_y(const Axes *a, double y) {
  double value = a->logarithmic ? log10(y) : y, share = (value - a->y0) / (a->y1 - a->y0);
  return TOP + PLOT_HEIGHT * (1 - fmin(fmax(share, 0), 1));
}

// 1, 2 or 5 times a power of ten, so that at most `n` steps cover the range.
static double round_step(double range, int n) {
  double power = pow(10, floor(log10(range / n)));
  static const double factors[] = {1, 2, 5, 10};
  for (int i = 0; i < 4; i++)
    if (range / (factors[i] * power) <= n) return factors[i] * power;
  return 10 * power;
}

static void append_tick(double y, const char *label, MuseStr *out) {
  muse_str_appendf(out,
                   "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                   "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                   LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 3.5, label);
}

static void append_value_tick(const MuseChart *c, const Axes *a, double value, MuseStr *out) {
  MuseStr label = {0};
  muse_number_append(value, c->unit, &label);
  append_tick(place_y(a, value), muse_str_text(&label), out);
  muse_str_free(&label);
}

// Over less than three decades 1, 2 and 5 of each, over more the powers of ten.
static void append_log_ticks(const MuseChart *c, const Axes *a, MuseStr *out) {
  double decades = a->y1 - a->y0, step = fmax(1, ceil(decades / 5));
  for (double t = decades < 3 ? floor(a->y0) : ceil(a->y0); t <= a->y1; t += step) {
    for (int i = 0; i < (decades < 3 ? 3 : 1); i++) {
      double value = pow(10, t) * (i == 0 ? 1 : i == 1 ? 2 : 5), place = log10(value);
      if (place >= a->y0 && place <= a->y1) append_value_tick(c, a, value, out);
    }
  }
}

static void append_linear_ticks(const MuseChart *c, const Axes *a, MuseStr *out) {
  double low = a->logarithmic ? pow(10, a->y0) : a->y0, high = a->logarithmic ? pow(10, a->y1) : a->y1;
  double step = round_step(high - low, 5);
  for (double t = ceil(low / step) * step; t <= high + step * 1e-6; t += step) {
    append_value_tick(c, a, fabs(t) < step * 1e-6 ? 0 : t, out);
    if (t + step == t) break; // a range too narrow for its size
  }
}

static void append_ticks(const MuseChart *c, const Axes *a, MuseStr *out) {
  if (a->logarithmic && a->y1 - a->y0 >= 0.7) append_log_ticks(c, a, out);
  else append_linear_ticks(c, a, out);
  double step = fmax(1, round_step(a->x1 - a->x0, 6));
  for (double t = ceil(a->x0 / step) * step; t <= a->x1; t += step) {
    MuseStr label = {0};
    muse_number_append(t, MUSE_UNIT_NUMBER, &label);
    muse_str_appendf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", place_x(a, t), HEIGHT - 10,
                     muse_str_text(&label));
    muse_str_free(&label);
    if (t + step == t) break;
  }
}

// ---- lines ----

// The points as "x,y x,y ...": where several fall on one column of the plot, the least and the greatest of them.
static void append_points(const Axes *a, const MusePoints *points, bool backwards, MuseStr *out) {
  size_t n = points->len;
  for (size_t i = 0; i < n;) {
    const MusePoint *p = &points->data[backwards ? n - 1 - i : i];
    double x = place_x(a, p->x), first = place_y(a, p->y), low = first, high = first, last = first;
    size_t j = i + 1;
    for (; j < n; j++) {
      const MusePoint *q = &points->data[backwards ? n - 1 - j : j];
      if (fabs(place_x(a, q->x) - x) >= 0.5) break;
      last = place_y(a, q->y);
      low = fmin(low, last), high = fmax(high, last);
    }
    muse_str_appendf(out, "%.1f,%.1f ", x, first);
    if (high > first + 0.05) muse_str_appendf(out, "%.1f,%.1f ", x, high);
    if (low < first - 0.05) muse_str_appendf(out, "%.1f,%.1f ", x, low);
    if (j > i + 1) muse_str_appendf(out, "%.1f,%.1f ", x, last);
    i = j;
  }
}

static void append_dot(const MuseChart *c, const MuseChartLine *line, const Axes *a, MusePoint p, MuseStr *out) {
  MuseStr value = {0};
  muse_number_append(p.y, c->unit, &value);
  muse_str_appendf(out, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>", line->colour,
                   place_x(a, p.x), place_y(a, p.y));
  if (line->name) muse_html_append(out, line->name);
  muse_str_appendf(out, "%sstep %.0f: %s</title></circle>", line->name ? ", " : "", p.x, muse_str_text(&value));
  muse_str_free(&value);
}

static void append_line(const MuseChart *c, const MuseChartLine *line, const Axes *a, MuseStr *out) {
  const MusePoints *p = line->points;
  if (p->len == 0) return;
  if (line->until) {
    muse_str_appendf(out, "<polygon class=\"band f%d\" points=\"", line->colour);
    append_points(a, p, false, out);
    append_points(a, line->until, true, out);
    muse_str_append(out, "\"/>");
    return;
  }
  if (line->style == MUSE_LINE_DOTS || p->len == 1) {
    size_t skip = p->len / 200 + 1; // more dots than that hide each other
    for (size_t i = 0; i < p->len; i += skip) append_dot(c, line, a, p->data[i], out);
    if (p->len == 1) return;
  }
  muse_str_appendf(out, "<polyline class=\"line s%d%s\" points=\"", line->colour,
                   line->style == MUSE_LINE_FAINT    ? " faint"
                   : line->style == MUSE_LINE_DASHED ? " dashed"
                                                     : "");
  append_points(a, p, false, out);
  muse_str_append(out, "\"/>");
}

static void append_legend(const MuseChart *c, MuseStr *out) {
  muse_str_append(out, "<p class=\"legend\">");
  for (int i = 0; i < c->n_lines; i++) {
    const MuseChartLine *line = &c->lines[i];
    if (!line->name || line->points->len == 0) continue;
    MuseStr value = {0};
    muse_number_append(muse_vec_last(line->points).y, c->unit, &value);
    muse_str_appendf(out, "<span><i class=\"b%d%s\"></i>", line->colour,
                     line->until || line->style == MUSE_LINE_FAINT ? " faint" : "");
    muse_html_append(out, line->name);
    if (!line->until) muse_str_appendf(out, " <b>%s</b>", muse_str_text(&value));
    muse_str_append(out, "</span> ");
    muse_str_free(&value);
  }
  muse_str_append(out, "</p>");
}

void muse_chart_append(const MuseChart *c, MuseStr *out) {
  bool any = false;
  for (int i = 0; i < c->n_lines; i++) any = any || c->lines[i].points->len > 0;
  if (!any) return;
  Axes a = find_axes(c);
  muse_str_append(out, "<section class=\"card chart\"><h2>");
  muse_html_append(out, c->title);
  muse_str_append(out, "</h2>");
  if (c->note) {
    muse_str_append(out, "<p class=\"note\">");
    muse_html_append(out, c->note);
    muse_str_append(out, "</p>");
  }
  append_legend(c, out);
  muse_str_appendf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
  muse_html_append(out, c->title);
  muse_str_append(out, "\">");
  append_ticks(c, &a, out);
  for (int i = 0; i < c->n_lines; i++) append_line(c, &c->lines[i], &a, out);
  muse_str_append(out, "</svg></section>\n");
}
