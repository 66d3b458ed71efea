#ifndef MUSE_RUNTIME_REPORT_SVG_H
#define MUSE_RUNTIME_REPORT_SVG_H

#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <stdbool.h>

// Charts as inline SVG. Colours are the classes s0, s1, ... of the page's style sheet, so that a chart suits both light
// and dark.

typedef struct MusePoint { double x, y; } MusePoint;
typedef MUSE_VEC(MusePoint) MusePoints;

typedef enum MuseLineStyle { MUSE_LINE, MUSE_LINE_FAINT, MUSE_LINE_DASHED, MUSE_LINE_DOTS } MuseLineStyle;

typedef struct MuseChartLine {
  const char *name; // for the legend; NULL: none
  const MusePoints *points;
  const MusePoints *until; // a filled band between `points` and these, of the same steps; NULL: a line
  MuseLineStyle style;
  int colour;
} MuseChartLine;

typedef enum MuseChartUnit { MUSE_UNIT_NUMBER, MUSE_UNIT_BYTES, MUSE_UNIT_SHARE } MuseChartUnit;

typedef struct MuseChart {
  const char *title;
  const char *note;        // one sentence below the title, or NULL
  MuseChartLine lines[72];
  int n_lines;
  bool logarithmic;        // when all values are positive
  bool from_zero;          // the axis begins at 0
  bool cut_spikes;         // the axis ends above 99.5 % of the values; higher ones touch its end
  MuseChartUnit unit;
} MuseChart;

// Appends a card with the chart; nothing when no line has a point.
void muse_chart_append(const MuseChart *chart, MuseStr *out);

// "12.3k", "4.56e-05", "1.2 GB", "34.5 %".
void muse_number_append(double value, MuseChartUnit unit, MuseStr *out);
// Text for HTML: escaped, valid UTF-8, control characters made visible.
void muse_html_append(MuseStr *out, const char *text);

#endif
