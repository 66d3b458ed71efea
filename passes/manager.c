// The pass manager: looks passes up, runs them over all functions, verifies after each (in release builds too), dumps
// and times.
#include "passes/manager.h"

#include "ir/base/io.h"
#include "ir/text.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MUSE_PASS(name, help) bool muse_pass_##name(MusePassCtx *cx, MuseFunc *fn);
#include "passes/passes.def"
#undef MUSE_PASS

const MusePass muse_passes[] = {
#define MUSE_PASS(name, help) {#name, muse_pass_##name, help},
#include "passes/passes.def"
#undef MUSE_PASS
    {NULL, NULL, NULL},
};

const MusePass *muse_pass_find(const char *name) {
  for (const MusePass *p = muse_passes; p->name; p++)
    if (strcmp(p->name, name) == 0) return p;
  return NULL;
}

static bool run_over_functions(const MusePass *pass, MuseModule *module) {
  bool changed = false;
  MuseArena *scratch = muse_arena_create();
  MusePassCtx cx = {.module = module, .scratch = scratch};
  for (MuseFunc *fn = module->first_func; fn; fn = fn->next) {
    muse_arena_reset(scratch);
    changed |= pass->run(&cx, fn);
  }
  muse_arena_destroy(scratch);
  return changed;
}

static MuseStatus run_and_verify(const MusePass *pass, MuseModule *module, bool *out_changed, MuseDiag *diag) {
  *out_changed = run_over_functions(pass, module);
  MuseStatus status = muse_ops_verify(module, diag);
  if (status != MUSE_OK)
    return muse_error(diag, status,
                      "the module is damaged after pass '%s'; this is a bug of MUSE: report it with the output of "
                      "--dump-ir=before:%s",
                      pass->name, pass->name);
  return MUSE_OK;
}

MuseStatus muse_pass_run(const MusePass *pass, MuseModule *module, MuseDiag *diag) {
  bool changed;
  return run_and_verify(pass, module, &changed, diag);
}

static MuseStatus unknown_pass(const char *name, MuseDiag *diag) {
  const char *names[64];
  size_t n = 0;
  for (const MusePass *p = muse_passes; p->name && n < 64; p++) names[n++] = p->name;
  const char *nearest = muse_str_nearest(name, names, n);
  if (nearest) return muse_error(diag, MUSE_ERR_INPUT, "there is no pass '%s'; did you mean '%s'?", name, nearest);
  return muse_error(diag, MUSE_ERR_INPUT, "there is no pass '%s'; --list-passes names all", name);
}

static bool listed(const char *const *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i], name) == 0) return true;
  return false;
}

static MuseStatus check_options(const char *const *names, const MusePassOptions *o, MuseDiag *diag) {
  for (int i = 0; names[i] && names[i][0]; i++)
    if (!muse_pass_find(names[i])) return unknown_pass(names[i], diag);
  for (int i = 0; i < o->n_skip; i++)
    if (!muse_pass_find(o->skip[i])) return unknown_pass(o->skip[i], diag);
  if (o->stop_after && !muse_pass_find(o->stop_after)) return unknown_pass(o->stop_after, diag);
  for (int i = 0; i < o->n_dump; i++) {
    const char *d = o->dump[i], *name = NULL;
    if (muse_str_starts_with(d, "after:")) name = d + 6;
    else if (muse_str_starts_with(d, "before:")) name = d + 7;
    else if (strcmp(d, "changed") != 0 && strcmp(d, "all") != 0)
      return muse_error(diag, MUSE_ERR_INPUT, "--dump-ir=%s: use after:NAME, before:NAME, changed or all", d);
    if (name && !muse_pass_find(name)) return unknown_pass(name, diag);
  }
  return MUSE_OK;
}

static bool wants_dump(const MusePassOptions *o, const char *when, const char *name, bool changed) {
  for (int i = 0; i < o->n_dump; i++) {
    const char *d = o->dump[i];
    if (strcmp(d, "all") == 0 && strcmp(when, "after") == 0) return true;
    if (strcmp(d, "changed") == 0 && strcmp(when, "after") == 0 && changed) return true;
    size_t n = strlen(when);
    if (strncmp(d, when, n) == 0 && d[n] == ':' && strcmp(d + n + 1, name) == 0) return true;
  }
  return false;
}

static MuseStatus dump(MuseModule *module, const MusePassOptions *o, int index, const char *name, const char *when,
                       MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = MUSE_OK;
  if (o->dump_dir) {
    MuseStr path = {0};
    muse_module_print(module, &text);
    muse_str_appendf(&path, "%s/%03d-%s-%s.mir", o->dump_dir, index, name, when);
    status = muse_make_dirs(o->dump_dir, 0777, diag);
    if (status == MUSE_OK) status = muse_write_file_atomic(muse_str_text(&path), text.data, text.len, diag);
    muse_str_free(&path);
  } else {
    muse_str_appendf(&text, "// %s %s\n", when, name);
    muse_module_print(module, &text);
    fwrite(text.data, 1, text.len, stderr);
  }
  muse_str_free(&text);
  return status;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int64_t count_ops(const MuseModule *module) {
  int64_t n = 0;
  for (const MuseFunc *fn = module->first_func; fn; fn = fn->next)
    for (const MuseOp *op = fn->body.first; op; op = op->next) n++;
  return n;
}

MuseStatus muse_pipeline_run(const char *const *names, MuseModule *module, const MusePassOptions *options,
                             MuseDiag *diag) {
  static const MusePassOptions defaults = {.bisect = -1};
  if (!options) options = &defaults;
  MUSE_TRY(check_options(names, options, diag));
  double total = 0;
  int64_t done = options->resume ? muse_attr_int_or(&module->attrs, "passes_done", 0) : 0;
  for (int i = 0; names[i] && names[i][0]; i++) {
    const MusePass *pass = muse_pass_find(names[i]);
    if (i < done) continue;
    if (options->bisect >= 0 && i >= options->bisect) break;
    if (listed(options->skip, options->n_skip, pass->name)) continue;
    if (wants_dump(options, "before", pass->name, false))
      MUSE_TRY(dump(module, options, i, pass->name, "before", diag));
    bool changed;
    double start = now_ms();
    MUSE_TRY(run_and_verify(pass, module, &changed, diag));
    double elapsed = now_ms() - start;
    if (options->resume) muse_attr_set_int(module, &module->attrs, "passes_done", i + 1);
    total += elapsed;
    if (options->time)
      fprintf(stderr, "%3d  %-14s %8.2f ms  %6lld ops%s\n", i, pass->name, elapsed, (long long)count_ops(module),
              changed ? "" : "  unchanged");
    if (wants_dump(options, "after", pass->name, changed))
      MUSE_TRY(dump(module, options, i, pass->name, "after", diag));
    if (options->stop_after && strcmp(options->stop_after, pass->name) == 0) break;
  }
  if (options->time) fprintf(stderr, "     %-14s %8.2f ms\n", "all passes", total);
  return MUSE_OK;
}
