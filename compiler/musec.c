// musec: compiles a config (YAML) or an IR dump to a plan.
#include "compiler/config.h"
#include "compiler/cuda_target.h"
#include "compiler/emit_text.h"
#include "compiler/memory_report.h"
#include "compiler/model.h"
#include "compiler/pipeline.h"
#include "compiler/plan.h"
#include "ir/base/io.h"
#include "ir/base/options.h"
#include "ir/text.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL_PASSES INT64_MIN // of --bisect, which was not given

typedef struct Arguments {
  const char *output, *target, *emit, *dump_dir, *passes, *stop_after, *verify, *nvrtc;
  MuseTextList operands, sets, dump_ir, skip;
  uint64_t memory_budget;
  int64_t bisect;
  bool check, estimate, peak, json, time_passes, list_passes, list_ops, list_keys, version;
} Arguments;

static const char *const emit_forms[] = {"mir", "plan", "llvm", "asm", "object", "cuda", "ptx", NULL};

static bool is_cuda_form(const char *text) { return strcmp(text, "cuda") == 0 || strcmp(text, "ptx") == 0; }

static bool is_emit_form(const char *text) {
  for (int i = 0; emit_forms[i]; i++)
    if (strcmp(text, emit_forms[i]) == 0) return true;
  return false;
}

static void print_lists(const Arguments *a) {
  if (a->list_passes)
    for (const MusePass *p = muse_passes; p->name; p++) printf("%-14s %s\n", p->name, p->help);
  if (a->list_ops)
    for (int k = 0; k < MUSE_N_OPS; k++) {
      static const char *const classes[] = {"map", "reduce", "view", "structured", "composite", "control"};
      const MuseOpInfo *info = muse_op_info((MuseOpKind)k);
      printf("%-22s %-11s %s\n", info->name, classes[info->class_], info->attrs);
    }
  if (a->list_keys) {
    MuseStr text = {0};
    muse_config_list_keys(&text);
    fputs(muse_str_text(&text), stdout);
    muse_str_free(&text);
  }
}

static void print_bytes(const char *label, double bytes) {
  MuseStr s = {0};
  muse_str_append_bytes(&s, (uint64_t)bytes);
  printf("  %-28s %12s\n", label, muse_str_text(&s));
  muse_str_free(&s);
}

static void print_estimate(MuseModule *module, bool json) {
  static const char *const labels[10] = {"parameters",   "latent scales", "optimizer moments", "gradients",
                                         "packed trits", "tables",        "decoding state",    "inputs",
                                         "step scalars", "outputs"};
  MuseEstimate e;
  muse_estimate(module, &e);
  long long nominal = (long long)muse_attr_int_or(&module->attrs, "nominal_parameters", 0);
  if (json) {
    printf("{\"parameters\": %lld, \"nominal_parameters\": %lld, \"buffers\": {", (long long)e.parameters, nominal);
    for (int r = 0; r < 10; r++) printf("%s\"%s\": %.0f", r ? ", " : "", muse_estimate_roles[r], e.role_bytes[r]);
    printf("}, \"slab_bytes\": %.0f, \"total_bytes\": %.0f, \"step_flops\": %.0f, \"step_int_ops\": %.0f, "
           "\"step_bytes\": %.0f, "
           "\"decode_flops\": %.0f, \"decode_bytes\": %.0f, \"kernels\": %d, \"calls\": %d, "
           "\"evaluate_bytes\": %.0f, \"generate_bytes\": %.0f}\n",
           e.slab_bytes, e.total_bytes, e.step_flops, e.step_int_ops, e.step_bytes, e.decode_flops, e.decode_bytes,
           e.n_kernels, e.n_calls, e.evaluate_bytes, e.generate_bytes);
    return;
  }
  printf("parameters  %lld (nominal 12*D*D*L + V*D: %lld)\n", (long long)e.parameters, nominal);
  printf("planned memory on %s\n", muse_attr_text_or(&module->attrs, "target", "cpu"));
  for (int r = 0; r < 10; r++)
    if (e.role_bytes[r] > 0) print_bytes(labels[r], e.role_bytes[r]);
  print_bytes("activations and workspace", e.slab_bytes);
  print_bytes("planned peak", e.total_bytes);
  print_bytes("of it to evaluate", e.evaluate_bytes);
  print_bytes("of it to generate", e.generate_bytes);
  printf("one step    %.3g flop, %.3g int8 op, %.3g bytes moved\n", e.step_flops, e.step_int_ops, e.step_bytes);
  printf("one token   %.3g flop, %.3g bytes moved\n", e.decode_flops, e.decode_bytes);
  printf("kernels     %d distinct, %d calls in all functions\n", e.n_kernels, e.n_calls);
}

static MuseStatus print_peak(MuseModule *module, MuseDiag *diag) {
  if (strcmp(muse_attr_text_or(&module->attrs, "level", ""), "kernel") != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--peak needs the whole pipeline: memory is planned for kernels");
  MuseStr text = {0};
  MuseStatus status = muse_memory_report(module, 12, &text, diag);
  fputs(muse_str_text(&text), stdout);
  muse_str_free(&text);
  return status;
}

// "a,b,c" to a NULL-terminated list in the arena.
static const char *const *split_names(MuseArena *arena, const char *text) {
  int n = 1;
  for (const char *p = text; *p; p++) n += *p == ',';
  const char **list = MUSE_NEW_ARRAY(arena, const char *, n + 1);
  char *copy = muse_arena_strdup(arena, text);
  int i = 0;
  for (char *save = NULL, *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) list[i++] = name;
  return list;
}

static bool is_ir(const char *path) { return muse_str_ends_with(path, ".mir") || muse_str_ends_with(path, ".plan"); }

// Options that would be passed over in silence beside the others.
static MuseStatus check_options(const Arguments *a, MuseDiag *diag) {
  const char *input = a->operands.data[0];
  if (a->json && !a->estimate)
    return muse_error(diag, MUSE_ERR_INPUT, "--json is the form of the estimate; add --estimate, or leave it out");
  if (a->json && a->peak)
    return muse_error(diag, MUSE_ERR_INPUT, "--peak prints a table and no JSON; leave out --peak or --json");
  if (a->dump_dir && !a->dump_ir.len)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "--dump-dir is where dumps go; say with --dump-ir which, such as changed, or leave it out");
  if (a->nvrtc && (!a->emit || strcmp(a->emit, "ptx") != 0))
    return muse_error(diag, MUSE_ERR_INPUT, "--nvrtc is for --emit=ptx; add that, or leave it out");
  if (a->check && (a->output || a->emit))
    return muse_error(diag, MUSE_ERR_INPUT, "--check writes nothing; leave it out, or %s",
                      a->output ? "-o" : "--emit");
  if (is_ir(input) && (a->sets.len || a->memory_budget))
    return muse_error(diag, MUSE_ERR_INPUT, "%s is for a configuration, and '%s' is none; leave it out",
                      a->sets.len ? "--set" : "--memory-budget", input);
  return MUSE_OK;
}

static MuseStatus load(const char *path, const Arguments *a, MuseArena *arena, const MuseCompileOptions *options,
                       MuseModule **out_module, MuseDiag *diag) {
  if (is_ir(path)) {
    MuseStr text = {0};
    MuseStatus status = muse_read_file(path, (uint64_t)1 << 30, &text, diag);
    if (status == MUSE_OK) {
      muse_diag_set_source(diag, path, text.data ? text.data : "", text.len);
      status = muse_module_parse(path, muse_str_text(&text), text.len, out_module, diag);
    }
    muse_str_free(&text);
    if (status == MUSE_OK) status = muse_compile(*out_module, options, diag);
    return status;
  }
  MuseConfig config;
  MUSE_TRY(muse_config_load(path, &a->sets, arena, &config, diag));
  if (a->memory_budget) config.memory_budget = a->memory_budget;
  // What has a CUDA target is text of kernels; the plan that they come from is the same for every device.
  const char *target = muse_is_cuda_target(a->target) ? "cpu" : a->target;
  return muse_compile_config(&config, path, target, options, out_module, diag);
}

static MuseStatus write_output(MuseModule *module, const Arguments *a, MuseDiag *diag) {
  const char *form = a->emit ? a->emit : "plan";
  bool kernels = strcmp(muse_attr_text_or(&module->attrs, "level", ""), "kernel") == 0;
  if (strcmp(form, "mir") == 0 || (strcmp(form, "plan") == 0 && !kernels)) {
    if (strcmp(form, "plan") == 0 && a->output && !a->emit)
      return muse_error(diag, MUSE_ERR_INPUT,
                        "the pipeline stopped before kernels were made, so there is no plan to write; add --emit=mir");
    MuseStr text = {0};
    muse_module_print(module, &text);
    MuseStatus status = MUSE_OK;
    if (a->output) status = muse_write_file_atomic(a->output, text.data, text.len, diag);
    else fwrite(text.data, 1, text.len, stdout);
    muse_str_free(&text);
    return status;
  }
  if (strcmp(form, "plan") == 0) {
    if (a->output) return muse_plan_save(module, a->output, diag);
    MuseStr text = {0};
    muse_attr_set_int(module, &module->attrs, "plan_version", MUSE_PLAN_VERSION);
    muse_module_print(module, &text);
    fwrite(text.data, 1, text.len, stdout);
    muse_str_free(&text);
    return MUSE_OK;
  }
  if (is_cuda_form(form)) return muse_emit_module_cuda(module, form, a->target, a->nvrtc, a->output, diag);
  return muse_emit_module_text(module, form, a->target, a->output, diag);
}

static MuseStatus run(int argc, char **argv, Arguments *a, MuseArena *arena, MuseDiag *diag) {
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "PLAN", "Write the plan (or what --emit asks for) to this file.", &a->output},
      {"set", 0, MUSE_OPT_LIST, "KEY=VALUE", "Override a key of the config; may be repeated.", &a->sets},
      {"target", 0, MUSE_OPT_TEXT, "TARGET",
       "cpu (default), cpu:x86-64-v3, cpu:aarch64, cpu:avx512-vnni, ...: for --emit and reports; a plan runs on any "
       "device of its backend. cuda:sm_86, cuda:sm_90a, ...: for --emit=cuda and --emit=ptx.",
       &a->target},
      {"memory-budget", 0, MUSE_OPT_BYTES, "SIZE", "Refuse a plan that needs more memory, such as 8GiB.",
       &a->memory_budget},
      {"check", 0, MUSE_OPT_FLAG, NULL, "Check the config and compile, but write nothing.", &a->check},
      {"estimate", 0, MUSE_OPT_FLAG, NULL, "Print parameters, bytes, operations and planned memory.", &a->estimate},
      {"peak", 0, MUSE_OPT_FLAG, NULL,
       "Print, for each function, the largest tensors that are in memory where it needs most.", &a->peak},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print the estimate of --estimate as JSON.", &a->json},
      {"emit", 0, MUSE_OPT_TEXT, "FORM",
       "mir, plan, llvm, asm, object (needs -o: a folder), or, for an NVIDIA GPU, cuda or ptx "
       "(needs NVRTC).",
       &a->emit},
      {"nvrtc", 0, MUSE_OPT_TEXT, "PATH", "The library NVRTC for --emit=ptx, when it is not found by itself.",
       &a->nvrtc},
      {"dump-ir", 0, MUSE_OPT_LIST, "WHEN",
       "after:PASS, before:PASS, changed or all; may be repeated. Dumps are valid input.", &a->dump_ir},
      {"dump-dir", 0, MUSE_OPT_TEXT, "DIR", "Write the dumps of --dump-ir there, one file each, instead of to stderr.",
       &a->dump_dir},
      {"passes", 0, MUSE_OPT_TEXT, "A,B,C", "Run these passes instead of the pipeline.", &a->passes},
      {"stop-after", 0, MUSE_OPT_TEXT, "PASS", "Stop the pipeline after this pass.", &a->stop_after},
      {"skip-pass", 0, MUSE_OPT_LIST, "PASS", "Leave this pass out; may be repeated.", &a->skip},
      {"bisect", 0, MUSE_OPT_INT, "N", "Run only the first N passes.", &a->bisect},
      {"verify", 0, MUSE_OPT_TEXT, "each", "The IR is verified after each pass; 'each' is the only mode.", &a->verify},
      {"time-passes", 0, MUSE_OPT_FLAG, NULL, "Print the time of each pass.", &a->time_passes},
      {"list-passes", 0, MUSE_OPT_FLAG, NULL, "List the passes and exit.", &a->list_passes},
      {"list-ops", 0, MUSE_OPT_FLAG, NULL, "List the ops with their attributes and exit.", &a->list_ops},
      {"list-keys", 0, MUSE_OPT_FLAG, NULL, "List the configuration keys and exit.", &a->list_keys},
      {"version", 0, MUSE_OPT_FLAG, NULL, "Print the version and exit.", &a->version},
      {0},
  };
  bool help = false;
  MUSE_TRY(muse_options_parse(argc, argv, table, &a->operands, &help, diag));
  if (help) {
    muse_options_help(table, "musec [options] CONFIG.yaml | DUMP.mir",
                      "Compiles a model configuration to a training plan.", stdout);
    return MUSE_OK;
  }
  if (a->version) {
    puts("musec " MUSE_VERSION);
    return MUSE_OK;
  }
  if (a->list_passes || a->list_ops || a->list_keys) {
    print_lists(a);
    return MUSE_OK;
  }
  if (a->operands.len != 1)
    return muse_error(diag, MUSE_ERR_INPUT, "musec takes one config or dump, not %d; see musec --help",
                      a->operands.len);
  if (a->emit && !is_emit_form(a->emit))
    return muse_error(diag, MUSE_ERR_INPUT, "--emit=%s: use mir, plan, llvm, asm, object, cuda or ptx", a->emit);
  if (a->verify && strcmp(a->verify, "each") != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--verify=%s: the only mode is 'each'", a->verify);
  MuseCompileOptions options = {.passes = {.dump = a->dump_ir.data,
                                           .n_dump = a->dump_ir.len,
                                           .dump_dir = a->dump_dir,
                                           .skip = a->skip.data,
                                           .n_skip = a->skip.len,
                                           .stop_after = a->stop_after,
                                           .bisect = a->bisect == ALL_PASSES ? -1 : a->bisect,
                                           .time = a->time_passes}};
  if (a->bisect < 0 && a->bisect != ALL_PASSES)
    return muse_error(diag, MUSE_ERR_INPUT, "--bisect takes a number of passes from 0 on, not %lld",
                      (long long)a->bisect);
  if (!muse_str_eq(a->target, "cpu") && !muse_str_starts_with(a->target, "cpu:")) {
    MuseCudaTarget ignored;
    if (!muse_is_cuda_target(a->target))
      return muse_error(diag, MUSE_ERR_INPUT, "there is no target '%s'; use cpu, cpu:LEVEL, cuda or cuda:sm_NN",
                        a->target);
    MUSE_TRY(muse_cuda_target_parse(a->target, &ignored, diag));
  }
  MUSE_TRY(check_options(a, diag));
  if (a->passes) options.pipeline = split_names(arena, a->passes);
  MuseModule *module = NULL;
  MuseStatus status = load(a->operands.data[0], a, arena, &options, &module, diag);
  if (status == MUSE_OK && a->estimate) print_estimate(module, a->json);
  if (status == MUSE_OK && a->peak) status = print_peak(module, diag);
  if (status == MUSE_OK && !a->check && (a->output || a->emit || !(a->estimate || a->peak)))
    status = write_output(module, a, diag);
  if (status == MUSE_OK && a->output && !a->check && !a->json)
    fprintf(stderr, "musec: wrote %s: %lld parameters\n", a->output, (long long)muse_model_parameters(module));
  muse_module_destroy(module);
  return status;
}

int main(int argc, char **argv) {
  muse_program_start();
  // Passes make and drop megabytes of IR; memory that went back to the system would be faulted in and zeroed again.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_TOP_PAD, 8 << 20);
  MuseArena *arena = muse_arena_create();
  MuseDiag *diag = muse_diag_create();
  Arguments a = {.target = "cpu", .bisect = ALL_PASSES};
  MuseStatus status = run(argc, argv, &a, arena, diag);
  muse_text_list_free(&a.operands);
  muse_text_list_free(&a.sets);
  muse_text_list_free(&a.dump_ir);
  muse_text_list_free(&a.skip);
  int code = muse_program_end(status, diag);
  muse_arena_destroy(arena);
  return code;
}
