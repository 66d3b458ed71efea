// muse-opt: reads IR text, runs passes, verifies, prints. For the golden tests and for looking at one pass; not
// installed.
#include "ir/base/io.h"
#include "ir/base/options.h"
#include "ir/base/philox.h"
#include "ir/text.h"
#include "ops/ops.h"
#include "passes/manager.h"

#include <stdlib.h>
#include <string.h>

static MuseStatus read_input(const char *path, MuseStr *out, MuseDiag *diag) {
  if (!muse_str_eq(path, "-")) return muse_read_file(path, MUSE_MAX_IR_TEXT, out, diag);
  char piece[1 << 16];
  for (size_t n; (n = fread(piece, 1, sizeof piece, stdin)) > 0;) {
    muse_str_append_n(out, piece, n);
    if (out->len > MUSE_MAX_IR_TEXT) return muse_error(diag, MUSE_ERR_INPUT, "the text on standard input is too long");
  }
  if (ferror(stdin)) return muse_error(diag, MUSE_ERR_FAILED, "cannot read standard input");
  return MUSE_OK;
}

static MuseStatus run_passes(MuseModule *module, const MuseTextList *passes, MuseDiag *diag) {
  for (int i = 0; i < passes->len; i++) {
    const MusePass *pass = muse_pass_find(passes->data[i]);
    if (!pass) {
      const char *names[128];
      size_t n = 0;
      while (n < 128 && muse_passes[n].name) names[n] = muse_passes[n].name, n++;
      const char *near = muse_str_nearest(passes->data[i], names, n);
      if (near)
        return muse_error(diag, MUSE_ERR_INPUT, "there is no pass '%s'; did you mean '%s'?", passes->data[i], near);
      return muse_error(diag, MUSE_ERR_INPUT, "there is no pass '%s'; --list-passes names all", passes->data[i]);
    }
    MUSE_TRY(muse_pass_run(pass, module, diag));
  }
  return MUSE_OK;
}

// --- evaluation ---

// Values of an argument: standard normal for floats; small integers from 0 (valid as tokens of most programs) for the
// others.
static void fill_argument(MuseTensor *t, int index, int64_t seed) {
  for (int64_t i = 0; i < muse_type_elements(t->type); i++) {
    uint64_t at = (uint64_t)i, op = (uint64_t)index;
    if (muse_dtype_is_float(t->type.dtype)) t->data[i] = muse_random_normal(at, op, (uint32_t)seed, 0);
    else {
      uint32_t r = muse_random_u32(at, op, (uint32_t)seed, 0);
      if (t->type.dtype == MUSE_BOOL) t->data[i] = r % 2;
      else if (muse_dtype_is_trit(t->type.dtype)) t->data[i] = (double)(r % 3) - 1;
      else t->data[i] = r % 4;
    }
  }
}

static void print_tensor(const MuseTensor *t, int index) {
  MuseStr text = {0};
  muse_str_appendf(&text, "result %d : ", index);
  muse_type_print(t->type, &text);
  int64_t n = muse_type_elements(t->type), shown = n < 64 ? n : 64;
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += t->data[i];
  muse_str_append(&text, " =");
  for (int64_t i = 0; i < shown; i++) muse_str_appendf(&text, " %.6g", t->data[i]);
  if (shown < n) muse_str_append(&text, " ...");
  muse_str_appendf(&text, "; sum %.6g\n", sum);
  fputs(muse_str_text(&text), stdout);
  muse_str_free(&text);
}

static MuseStatus evaluate(MuseModule *module, const char *name, int64_t seed, MuseDiag *diag) {
  MuseFunc *func = muse_module_func(module, *name == '@' ? name + 1 : name);
  if (!func) return muse_error(diag, MUSE_ERR_INPUT, "there is no function '%s' in this module", name);
  MuseEval eval = {.arena = muse_arena_create(), .round_storage = true};
  MuseTensor *args = MUSE_NEW_ARRAY(eval.arena, MuseTensor, func->body.n_args);
  for (int i = 0; i < func->body.n_args; i++) {
    args[i] = muse_tensor_create(eval.arena, func->body.args[i]->type);
    fill_argument(&args[i], i, seed);
  }
  MuseTensor *results = MUSE_NEW_ARRAY(eval.arena, MuseTensor, func->n_results);
  muse_region_eval(&eval, &func->body, args, results);
  for (int i = 0; i < func->n_results; i++) print_tensor(&results[i], i);
  muse_arena_destroy(eval.arena);
  return MUSE_OK;
}

static void list_passes(void) {
  for (const MusePass *p = muse_passes; p->name; p++) printf("%-16s %s\n", p->name, p->help);
}

enum { SEED = 1 };

typedef struct Options {
  bool verify_only, list;
  const char *eval;
  int64_t seed;
  MuseTextList passes;
} Options;

static MuseStatus process(const char *path, const Options *o, MuseDiag *diag) {
  MuseStr text = {0}, out = {0};
  MuseModule *module = NULL;
  MuseStatus status = read_input(path, &text, diag);
  const char *name = muse_str_eq(path, "-") ? "<stdin>" : path;
  if (status == MUSE_OK) status = muse_module_parse(name, muse_str_text(&text), text.len, &module, diag);
  if (status == MUSE_OK) status = muse_ops_verify(module, diag);
  if (status == MUSE_OK) status = run_passes(module, &o->passes, diag);
  if (status == MUSE_OK) status = muse_ops_verify(module, diag);
  if (status == MUSE_OK && o->eval) status = evaluate(module, o->eval, o->seed, diag);
  else if (status == MUSE_OK && !o->verify_only) {
    muse_module_print(module, &out);
    fwrite(out.data, 1, out.len, stdout);
  }
  muse_module_destroy(module);
  muse_str_free(&text);
  muse_str_free(&out);
  return status;
}

int main(int argc, char **argv) {
  Options o = {.seed = SEED};
  const MuseOption table[] = {
      {"pass", 'p', MUSE_OPT_LIST, "NAME", "Run this pass; may be given several times.", &o.passes},
      {"verify-only", 0, MUSE_OPT_FLAG, NULL, "Print nothing; the exit code tells.", &o.verify_only},
      {"eval", 0, MUSE_OPT_TEXT, "FUNC", "Evaluate this function on pseudo-random arguments and print its results.",
       &o.eval},
      {"seed", 0, MUSE_OPT_INT, "N", "Seed of the arguments (default 1).", &o.seed},
      {"list-passes", 0, MUSE_OPT_FLAG, NULL, "Print the names of all passes.", &o.list},
      {NULL, 0, MUSE_OPT_FLAG, NULL, NULL, NULL},
  };
  MuseDiag *diag = muse_diag_create();
  MuseTextList files = {0};
  bool help = false;
  MuseStatus status = muse_options_parse(argc, argv, table, &files, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-opt [options] [FILE]", "Runs passes on IR text from a file or standard input.",
                      stdout);
  } else if (status == MUSE_OK && o.list) {
    list_passes();
  } else if (status == MUSE_OK && files.len > 1) {
    status = muse_error(diag, MUSE_ERR_INPUT, "muse-opt reads one file; %d are given", files.len);
  } else if (status == MUSE_OK && o.seed != SEED && !o.eval) {
    status = muse_error(diag, MUSE_ERR_INPUT, "--seed is of the arguments of --eval; add that, or leave it out");
  } else if (status == MUSE_OK && o.verify_only && o.eval) {
    status = muse_error(diag, MUSE_ERR_INPUT, "--verify-only prints nothing, --eval results; leave out one");
  } else if (status == MUSE_OK) {
    status = process(files.len ? files.data[0] : "-", &o, diag);
  }
  muse_diag_print(diag, stderr);
  muse_text_list_free(&files);
  muse_text_list_free(&o.passes);
  muse_diag_destroy(diag);
  return status;
}
