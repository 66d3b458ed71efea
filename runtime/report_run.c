// The command `report`: one HTML page of a run, which needs nothing but itself.
#include "ir/base/io.h"
#include "ir/base/options.h"
#include "runtime/commands.h"
#include "runtime/report_history.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { N_COLOURS = 8, MAX_SAMPLES = 20, MAX_TEXTS = 20 };

// No script, and nothing that a page could load: what came from the run cannot become more than text.
static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n";

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--page:#f4f3f0;--card:#fff;--ink:#16161a;--soft:#5b5a55;--rule:#e4e2dc;"
    "--warn:#fdf0dc;\n"
    "--c0:#2a78d6;--c1:#d9541e;--c2:#12875c;--c3:#b57a00;--c4:#c8487a;--c5:#5b4bc4;--c6:#c93a3a;--c7:#3b7d2a}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#131312;--card:#1d1d1b;--ink:#f2f1ec;--soft:#b3b1a8;"
    "--rule:#383733;\n"
    "--warn:#3a2c12;--c0:#4d97ee;--c1:#ee7440;--c2:#2fb583;--c3:#dba32c;--c4:#e67ba4;--c5:#9b8df2;--c6:#ee7070;"
    "--c7:#77bb62}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);\n"
    "font:15px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif}\n"
    "main{max-width:1360px;margin:0 auto;padding:20px}h1{font-size:24px;margin:8px 0 2px;overflow-wrap:anywhere}\n"
    "h2{font-size:16px;margin:0 0 4px}.soft,.note{color:var(--soft)}.note{margin:0 0 4px;font-size:13px}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:10px;margin:14px 0}.tile{background:var(--card);border:1px solid "
    "var(--rule);\n"
    "border-radius:8px;padding:8px 14px}.tile b{display:block;font-size:20px;font-weight:600}\n"
    ".tile span{color:var(--soft);font-size:13px}\n"
    ".cards{display:grid;gap:14px;align-items:start;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr))}\n"
    ".card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:14px;min-width:0;"
    "overflow-x:auto}\n"
    ".wide{grid-column:1/-1}.warn{background:var(--warn);border-radius:8px;padding:10px 14px;margin:10px 0}\n"
    ".legend{margin:0 0 4px;font-size:13px;color:var(--soft)}.legend span{margin-right:14px;white-space:nowrap}\n"
    ".legend b{color:var(--ink);font-weight:600}.legend i{display:inline-block;width:12px;height:4px;"
    "border-radius:2px;\n"
    "margin-right:5px;vertical-align:middle}svg{display:block;width:100%;height:auto}\n"
    "svg text{fill:var(--soft);font-size:11px;font-variant-numeric:tabular-nums}.grid{stroke:var(--rule)}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.faint{opacity:.4}.line.faint{stroke-width:1}\n"
    ".dashed{stroke-dasharray:5 4}.band{opacity:.2}\n"
    "table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}\n"
    "th{text-align:left;color:var(--soft);font-weight:500}td,th{padding:3px 10px 3px 0;border-bottom:1px solid "
    "var(--rule);\n"
    "overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap;overflow-wrap:normal}"
    "th.w{overflow-wrap:normal}td.bar{width:35%}"
    "td:first-child:not(.n){min-width:9em}\n"
    ".stack{display:flex;height:12px;gap:2px}.stack i{display:block;border-radius:2px;min-width:1px}\n"
    ".neutral{background:var(--soft);opacity:.45}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 12px;padding:10px;background:var(--page);\n"
    "border-radius:6px;font:13px/1.45 ui-monospace,monospace;unicode-bidi:isolate}pre b{color:var(--soft);"
    "font-weight:400}\n";

static void append_style(MuseStr *out) {
  muse_str_append(out, style);
  for (int i = 0; i < N_COLOURS; i++)
    muse_str_appendf(out, ".s%d{stroke:var(--c%d)}.f%d{fill:var(--c%d)}.b%d{background:var(--c%d)}\n", i, i, i, i,
                     i, i);
  muse_str_append(out, "@media print{body{background:#fff}.card{break-inside:avoid}}\n</style>\n");
}

// ---- pieces ----

static void tile(MuseStr *out, const char *label, double value, MuseChartUnit unit) {
  if (!isfinite(value)) return;
  muse_str_append(out, "<div class=\"tile\"><b>");
  muse_number_append(value, unit, out);
  muse_str_appendf(out, "</b><span>%s</span></div>\n", label);
}

static double last_of(const MusePoints *p) { return p->len ? muse_vec_last(p).y : NAN; }

static double mean_of(const MusePoints *p) {
  double sum = 0;
  for (size_t i = 0; i < p->len; i++) sum += p->data[i].y;
  return p->len ? sum / (double)p->len : NAN;
}

static void append_tiles(const MuseHistory *h, MuseStr *out) {
  muse_str_append(out, "<div class=\"tiles\">\n");
  tile(out, "steps", (double)h->step, MUSE_UNIT_NUMBER);
  tile(out, "loss, smoothed", last_of(&h->smoothed), MUSE_UNIT_NUMBER);
  tile(out, "best validation loss", h->best_validation, MUSE_UNIT_NUMBER);
  tile(out, "bits a byte", last_of(&h->bits), MUSE_UNIT_NUMBER);
  tile(out, "tokens", h->tokens ? (double)h->tokens : NAN, MUSE_UNIT_NUMBER);
  tile(out, "tokens/s, mean", mean_of(&h->speed), MUSE_UNIT_NUMBER);
  tile(out, "parameters", h->parameters ? (double)h->parameters : NAN, MUSE_UNIT_NUMBER);
  tile(out, "memory of the plan", h->planned_bytes ? (double)h->planned_bytes : NAN, MUSE_UNIT_BYTES);
  muse_str_append(out, "</div>\n");
}

static void append_state(const MuseHistory *h, MuseStr *out) {
  muse_str_append(out, "<p class=\"soft\">");
  if (h->step == 0) muse_str_append(out, "No step is done yet.");
  else if (h->last_step > h->step)
    muse_str_appendf(out, "Step %lld of %lld: the run goes on, or was stopped.", (long long)h->step,
                     (long long)h->last_step);
  else if (h->last_step >= 0) muse_str_appendf(out, "All %lld steps are done.", (long long)h->step);
  else muse_str_appendf(out, "Step %lld; how many were planned is not known.", (long long)h->step);
  if (h->starts > 1) muse_str_appendf(out, " Started %lld times.", (long long)h->starts);
  if (*h->device) {
    muse_str_append(out, " On ");
    muse_html_append(out, h->device);
    muse_str_append(out, ".");
  }
  muse_str_append(out, "</p>\n");
  if (h->damaged)
    muse_str_appendf(out, "<p class=\"warn\">%lld of %lld lines of metrics.jsonl could not be read and were "
                          "left out.</p>\n",
                     (long long)h->damaged, (long long)h->lines);
}

static void append_texts(const MuseReportTexts *texts, const char *heading, MuseStr *out) {
  if (texts->len == 0) return;
  muse_str_appendf(out, "<div class=\"warn\"><b>%s</b>", heading);
  for (size_t i = texts->len > MAX_TEXTS ? texts->len - MAX_TEXTS : 0; i < texts->len; i++) {
    muse_str_appendf(out, "<br>step %lld: ", (long long)texts->data[i].step);
    muse_html_append(out, texts->data[i].text);
  }
  muse_str_append(out, "</div>\n");
}

static void append_warnings(const MuseHistory *h, MuseStr *out) {
  char heading[100];
  snprintf(heading, sizeof heading, "%zu step%s left out, because the numbers went bad", h->bad.len,
           h->bad.len == 1 ? " was" : "s were");
  append_texts(&h->bad, heading, out);
  append_texts(&h->advice, "Advice of the run", out);
}

// ---- charts ----

static MuseChart single(const char *title, const char *note, const MusePoints *points, int colour) {
  return (MuseChart){.title = title, .note = note, .lines = {{NULL, points, NULL, MUSE_LINE, colour}}, .n_lines = 1};
}

static void append_band(const char *title, const char *note, const MuseBand *band, bool logarithmic, MuseChartUnit unit,
                        int colour, MuseStr *out) {
  MuseChart c = {.title = title,
                 .note = note,
                 .lines = {{"range", &band->least, &band->greatest, MUSE_LINE, colour},
                           {"mean", &band->mean, NULL, MUSE_LINE, colour},
                           {"least", &band->least, NULL, MUSE_LINE_FAINT, colour},
                           {"greatest", &band->greatest, NULL, MUSE_LINE_FAINT, colour}},
                 .n_lines = 4,
                 .logarithmic = logarithmic,
                 .unit = unit};
  muse_chart_append(&c, out);
}

static void append_mixture_chart(const MuseHistory *h, MuseStr *out) {
  MuseChart c = {.title = "Shares of the mixture",
                 .note = "Share of the rows drawn so far, by token set.",
                 .from_zero = true,
                 .unit = MUSE_UNIT_SHARE};
  for (size_t i = 0; i < h->sets.len; i++) {
    const MuseReportSet *s = &h->sets.data[i];
    c.lines[c.n_lines++] = (MuseChartLine){s->name, &s->share, NULL, i < N_COLOURS ? MUSE_LINE : MUSE_LINE_DASHED,
                                           (int)i % N_COLOURS};
  }
  if (c.n_lines > 1) muse_chart_append(&c, out);
}

static void append_charts(const MuseHistory *h, MuseStr *out) {
  MuseChart loss = {.title = "Loss",
                    .note = "Nats a token.",
                    .lines = {{"each step", &h->loss, NULL, MUSE_LINE_FAINT, 0},
                              {"smoothed", &h->smoothed, NULL, MUSE_LINE, 0},
                              {"validation", &h->validation, NULL, MUSE_LINE_DOTS, 1}},
                    .n_lines = 3,
                    .cut_spikes = true};
  muse_chart_append(&loss, out);
  MuseChart norm = single("Gradient norm", "Before clipping, on a logarithmic axis.", &h->grad_norm, 1);
  norm.logarithmic = true;
  muse_chart_append(&norm, out);
  MuseChart rate = single("Learning rate", NULL, &h->learning_rate, 2);
  rate.from_zero = true;
  muse_chart_append(&rate, out);
  MuseChart speed = single("Tokens a second", NULL, &h->speed, 3);
  speed.from_zero = speed.cut_spikes = true;
  muse_chart_append(&speed, out);
  append_mixture_chart(h, out);
  append_band("Trits that are 0", "Share of the packed weights, by layer.", &h->zeros, false, MUSE_UNIT_SHARE, 2,
              out);
  append_band("BK heads: max |g|", "The limiting absorption principle keeps it at most 1; over all layers.",
              &h->max_g, false, MUSE_UNIT_NUMBER, 0, out);
  append_band("BK heads: min η", "Over all layers, on a logarithmic axis; at 0 the resolvent has no bound.",
              &h->min_eta, true, MUSE_UNIT_NUMBER, 4, out);
  append_band("BK heads: mean κ", "Distance to the band edge (Mourre); over all layers and heads.", &h->kappa, false,
              MUSE_UNIT_NUMBER, 5, out);
  MuseChart memory = single("Memory of the process", NULL, &h->memory, 5);
  memory.unit = MUSE_UNIT_BYTES;
  memory.from_zero = true;
  muse_chart_append(&memory, out);
}

// ---- tables ----

static void cell(MuseStr *out, double value, MuseChartUnit unit) {
  muse_str_append(out, "<td class=\"n\">");
  muse_number_append(value, unit, out);
  muse_str_append(out, "</td>");
}

static void bar(MuseStr *out, double share, int colour) {
  share = share >= 0 && share <= 1 ? share : 0;
  muse_str_appendf(out, "<td class=\"bar\"><div class=\"stack\"><i class=\"b%d\" style=\"width:%.2f%%\"></i>"
                        "</div></td>",
                   colour, 100 * share);
}

static void append_mixture_table(const MuseHistory *h, MuseStr *out) {
  if (h->sets.len == 0) return;
  muse_str_append(out, "<section class=\"card\"><h2>Data</h2><table><tr><th>set</th><th></th><th class=\"n\">"
                       "share</th>"
                       "<th class=\"n\">asked for</th><th class=\"n\">epochs</th></tr>\n");
  for (size_t i = 0; i < h->sets.len; i++) {
    const MuseReportSet *s = &h->sets.data[i];
    muse_str_append(out, "<tr><td>");
    muse_html_append(out, s->name);
    muse_str_append(out, "</td>");
    bar(out, last_of(&s->share), (int)i % N_COLOURS);
    cell(out, last_of(&s->share), MUSE_UNIT_SHARE);
    cell(out, s->target, MUSE_UNIT_SHARE);
    cell(out, s->epochs, MUSE_UNIT_NUMBER);
    muse_str_append(out, "</tr>\n");
  }
  muse_str_append(out, "</table></section>\n");
}

static void append_trit_bar(const MuseReportLayer *l, double all, MuseStr *out) {
  static const char *const classes[] = {"b1", "neutral", "b0"};
  muse_str_append(out, "<td class=\"bar\"><div class=\"stack\">");
  for (int i = 0; i < 3; i++)
    muse_str_appendf(out, "<i class=\"%s\" style=\"width:%.2f%%\"></i>", classes[i], 100 * (double)l->trits[i] / all);
  muse_str_append(out, "</div></td>");
}

static void append_layers(const MuseHistory *h, MuseStr *out) {
  bool trits = h->zeros.mean.len > 0, heads = h->max_g.mean.len + h->min_eta.mean.len + h->kappa.mean.len > 0;
  if (!trits && !heads) return;
  muse_str_append(out, "<section class=\"card\"><h2>Layers</h2><p class=\"note\">As last written down");
  if (trits)
    muse_str_append(out, "; trits: <i class=\"b1\">&nbsp;&nbsp;</i> −1, <i class=\"neutral\">&nbsp;&nbsp;</i> 0, "
                         "<i class=\"b0\">&nbsp;&nbsp;</i> 1");
  muse_str_append(out, ".</p><table class=\"layers\"><tr><th class=\"n\">layer</th>");
  if (trits)
    muse_str_append(out, "<th>trits</th><th class=\"n\">−1</th><th class=\"n\">0</th><th class=\"n\">1</th>");
  if (heads) muse_str_append(out, "<th class=\"n\">max |g|</th><th class=\"n\">min η</th><th class=\"n\">mean "
                                  "κ</th>");
  muse_str_append(out, "</tr>\n");
  for (int i = 0; i < h->n_layers; i++) {
    const MuseReportLayer *l = &h->layers[i];
    double all = (double)l->trits[0] + (double)l->trits[1] + (double)l->trits[2];
    muse_str_appendf(out, "<tr><td class=\"n\">%d</td>", i);
    if (trits && all > 0) {
      append_trit_bar(l, all, out);
      for (int t = 0; t < 3; t++) cell(out, round(1e4 * (double)l->trits[t] / all) / 1e4, MUSE_UNIT_SHARE);
    } else if (trits) muse_str_append(out, "<td></td><td></td><td></td><td></td>");
    if (heads) {
      cell(out, l->max_g, MUSE_UNIT_NUMBER);
      cell(out, l->min_eta, MUSE_UNIT_NUMBER);
      cell(out, l->kappa, MUSE_UNIT_NUMBER);
    }
    muse_str_append(out, "</tr>\n");
  }
  muse_str_append(out, "</table></section>\n");
}

static void append_kernels(const MuseHistory *h, MuseStr *out) {
  double all = 0, most = 0;
  for (size_t i = 0; i < h->kernels.len; i++) {
    double s = h->kernels.data[i].seconds;
    if (isfinite(s) && s > 0) all += s, most = fmax(most, s);
  }
  muse_str_append(out, "<section class=\"card wide\"><h2>Kernels</h2><p class=\"note\">");
  if (all == 0) {
    muse_str_append(out, "Times are written down at the end of a run; muse-run bench PLAN measures them at any time."
                         "</p></section>\n");
    return;
  }
  muse_str_append(out, "The slowest of a step, each call measured by itself.</p><table><tr><th>kernel</th><th></th>"
                       "<th class=\"w\">function</th><th class=\"n\">calls</th><th class=\"n\">ms</th><th class=\"n\">"
                       "share</th></tr>\n");
  for (size_t i = 0; i < h->kernels.len; i++) {
    const MuseReportKernel *k = &h->kernels.data[i];
    muse_str_append(out, "<tr><td>");
    muse_html_append(out, k->name);
    muse_str_append(out, "</td>");
    bar(out, k->seconds / most, 0);
    muse_str_append(out, "<td>");
    muse_html_append(out, k->function);
    muse_str_append(out, "</td>");
    cell(out, (double)k->calls, MUSE_UNIT_NUMBER);
    muse_str_appendf(out, "<td class=\"n\">%.3f</td><td class=\"n\">%.1f %%</td></tr>\n", 1e3 * k->seconds,
                     100 * k->seconds / all);
  }
  muse_str_append(out, "</table></section>\n");
}

static void append_samples(const MuseHistory *h, MuseStr *out) {
  if (h->samples.len == 0) return;
  muse_str_append(out, "<section class=\"card wide\"><h2>Samples</h2>\n");
  for (size_t i = 0; i < h->samples.len && i < MAX_SAMPLES; i++) {
    const MuseReportText *t = &h->samples.data[h->samples.len - 1 - i];
    muse_str_appendf(out, "<details%s><summary>after step %lld</summary><pre dir=\"auto\"><b>", i == 0 ? " open" : "",
                     (long long)t->step);
    muse_html_append(out, t->prompt);
    muse_str_append(out, "</b>");
    muse_html_append(out, t->text);
    muse_str_append(out, "</pre></details>\n");
  }
  if (h->samples.len > MAX_SAMPLES)
    muse_str_appendf(out, "<p class=\"note\">The latest %d of %zu.</p>", MAX_SAMPLES, h->samples.len);
  muse_str_append(out, "</section>\n");
}

static void append_config(const MuseHistory *h, MuseStr *out) {
  if (!*h->config) return;
  muse_str_append(out, "<section class=\"card wide\"><h2>Configuration</h2><p class=\"note\">plan ");
  muse_html_append(out, h->plan);
  muse_str_append(out, ", MUSE ");
  muse_html_append(out, h->version);
  muse_str_append(out, "</p><details><summary>all keys</summary><pre>");
  muse_html_append(out, h->config);
  muse_str_append(out, "</pre></details></section>\n");
}

void muse_report_page(const MuseHistory *h, const char *run, MuseStr *out) {
  muse_str_append(out, head);
  muse_str_append(out, "<title>");
  muse_html_append(out, run);
  muse_str_append(out, " – MUSE</title>\n");
  append_style(out);
  muse_str_append(out, "</head>\n<body>\n<main>\n<h1>");
  muse_html_append(out, run);
  muse_str_append(out, "</h1>\n");
  append_state(h, out);
  append_warnings(h, out);
  append_tiles(h, out);
  muse_str_append(out, "<div class=\"cards\">\n");
  append_charts(h, out);
  append_mixture_table(h, out);
  append_layers(h, out);
  append_samples(h, out);
  append_kernels(h, out);
  append_config(h, out);
  muse_str_append(out, "</div>\n</main>\n</body>\n</html>\n");
}

MuseStatus muse_command_report(int argc, char **argv, MuseDiag *diag) {
  const char *output = NULL;
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "FILE", "Write the page there (RUN/report.html).", &output},
      {0},
  };
  MuseTextList operands = {0};
  MuseStr metrics = {0}, path = {0}, page = {0};
  MuseHistory history = {0};
  bool help = false;
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run report [options] RUN",
                      "Makes one HTML page of a run, also while it goes on: curves, data, layers, samples.", stdout);
  } else if (status == MUSE_OK) {
    if (operands.len != 1)
      status = muse_error(diag, MUSE_ERR_INPUT, "name one run: the folder that muse-run train -o wrote");
    if (status == MUSE_OK) {
      muse_str_appendf(&metrics, "%s/metrics.jsonl", operands.data[0]);
      muse_str_append(&path, output ? output : operands.data[0]);
      if (!output) muse_str_append(&path, "/report.html");
      status = muse_history_read(metrics.data, &history, diag);
    }
    if (status == MUSE_OK) {
      muse_report_page(&history, operands.data[0], &page);
      status = muse_write_file_atomic(path.data, page.data, page.len, diag);
    }
    if (status == MUSE_OK && !muse_str_starts_with(path.data, "/dev/")) printf("%s\n", path.data);
  }
  muse_history_free(&history);
  muse_str_free(&metrics);
  muse_str_free(&path);
  muse_str_free(&page);
  muse_text_list_free(&operands);
  return status;
}
