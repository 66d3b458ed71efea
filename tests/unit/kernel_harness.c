#include "tests/unit/kernel_harness.h"

#include "ir/base/checked.h"
#include "ir/text.h"
#include "tests/unit/foreign_cpu.h"
#include "tests/unit/tile_emulator.h"

#include <criterion/criterion.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

// ---- the module ----

const MuseCpuModule *muse_harness_module(void) {
  static const MuseCpuModule *module;
  if (module) return module;
  void *library = dlopen(MUSE_CPU_MODULE_PATH, RTLD_NOW | RTLD_LOCAL);
  if (!library) cr_assert_fail("cannot load %s: %s", MUSE_CPU_MODULE_PATH, dlerror());
  const MuseCpuModule *(*entry)(void) = (const MuseCpuModule *(*)(void))dlsym(library, "muse_cpu_module");
  cr_assert_not_null(entry);
  module = entry();
  cr_assert_eq(module->abi, MUSE_CPU_MODULE_ABI);
  return module;
}

static void check(MuseStatus status, MuseDiag *diag, const char *what) {
  if (status == MUSE_OK) return;
  muse_diag_print(diag, stderr);
  cr_assert_fail("%s: %s", what, muse_diag_count(diag, MUSE_ERROR) ? muse_diag_message(diag, 0) : "failed");
}

// ---- kernels from text ----

MuseModule *muse_harness_kernel(const char *skeleton, const char *text, MuseOp **out_kernel) {
  MuseDiag *diag = muse_diag_create();
  MuseStr whole = {0};
  muse_str_appendf(&whole, "module {level = \"tensor\"} source \"\"\n%s\n", text);
  MuseModule *module = NULL;
  check(muse_module_parse("kernel", muse_str_text(&whole), whole.len, &module, diag), diag, "text of a kernel");
  check(muse_ops_verify(module, diag), diag, "text of a kernel");
  muse_str_free(&whole);
  muse_diag_destroy(diag);
  *out_kernel = muse_harness_outline(module, module->first_func, skeleton);
  return module;
}

// ---- guarded buffers ----

enum { RED = 4096, PAGE = 4096 };
typedef struct Guarded {
  uint8_t *map, *data;
  size_t map_bytes, bytes;
} Guarded;

static uint8_t red_byte(size_t i) { return (uint8_t)(0xA5 ^ (i * 7)); }

static bool is_foreign; // kernels run on another processor, which shares the buffers

// 64-byte aligned, a red zone before, and a page without access close behind.
static Guarded guard_create(int64_t bytes, uint8_t poison) {
  Guarded g = {.bytes = (size_t)bytes};
  size_t padded = (size_t)muse_round_up(bytes > 0 ? bytes : 1, 64),
         span = (size_t)muse_round_up((int64_t)padded + RED, PAGE);
  g.map_bytes = span + PAGE;
  if (is_foreign) {
    g.map = muse_foreign_map(span);
  } else {
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(g.map != MAP_FAILED);
    cr_assert_eq(mprotect(g.map + span, PAGE, PROT_NONE), 0);
  }
  g.data = g.map + span - padded;
  for (size_t i = 0; i < span; i++) g.map[i] = red_byte(i);
  memset(g.data, poison, (size_t)bytes);
  return g;
}

static void guard_check(const Guarded *g, const char *what, int index, const char *level) {
  size_t begin = (size_t)(g->data - g->map), end = begin + g->bytes, span = g->map_bytes - PAGE;
  for (size_t i = 0; i < span; i++) {
    if (i == begin) i = end;
    if (i < span && g->map[i] != red_byte(i))
      cr_assert_fail("%s: the kernel wrote %ld bytes %s %s %d", level,
                     i < begin ? (long)(begin - i) : (long)(i - end + 1), i < begin ? "before" : "behind", what, index);
  }
}

static void guard_destroy(Guarded *g) {
  if (is_foreign) muse_foreign_unmap(g->map, g->map_bytes - PAGE);
  else munmap(g->map, g->map_bytes);
}

// ---- running ----

typedef enum Split { SPLIT_ONE_CALL, SPLIT_EACH, SPLIT_REVERSED, SPLIT_ODD, N_SPLITS } Split;

typedef struct Run {
  const MuseOp *kernel;
  MuseKernelInfo info;
  void *fn[MUSE_MAX_KERNEL_STAGES]; // addresses of the processor that runs them
  uint64_t *rng_ids;
  const char *level;
} Run;

static void call(const Run *r, int stage, void **buffers, int64_t begin, int64_t end, Guarded *scratch,
                 int64_t iteration) {
  if (scratch->bytes) memset(scratch->data, 0x80 + (int)(begin % 100), scratch->bytes);
  if (is_foreign) muse_foreign_call(r->level, (uint64_t)r->fn[stage], buffers, begin, end, scratch->data, iteration);
  else ((MuseKernelFn)r->fn[stage])(buffers, begin, end, scratch->data, iteration);
  guard_check(scratch, "scratch of stage", stage, r->level);
}

static void run_stage(const Run *r, int stage, void **buffers, Split split, int64_t iteration) {
  int64_t n = r->info.stage[stage].n_tasks;
  Guarded scratch = guard_create(r->info.stage[stage].scratch_bytes, 0xC3);
  switch (split) {
    case SPLIT_ONE_CALL: call(r, stage, buffers, 0, n, &scratch, iteration); break;
    case SPLIT_EACH:
      for (int64_t i = 0; i < n; i++) call(r, stage, buffers, i, i + 1, &scratch, iteration);
      break;
    case SPLIT_REVERSED:
      for (int64_t i = n - 1; i >= 0; i--) call(r, stage, buffers, i, i + 1, &scratch, iteration);
      break;
    default:
      for (int64_t i = 0, step = 1; i < n; i += step, step = step % 5 + 2)
        call(r, stage, buffers, i, i + step < n ? i + step : n, &scratch, iteration);
      call(r, stage, buffers, n, n, &scratch, iteration); // no task at all
  }
  guard_destroy(&scratch);
}

static void run_all(const Run *r, void **buffers, Split split) {
  const MuseKernelInfo *info = &r->info;
  for (int s = 0; s < info->n_stages; s++) {
    if (info->loop_count <= 1 || s != info->loop_first) {
      run_stage(r, s, buffers, split, 0);
      continue;
    }
    for (int64_t k = 0; k < info->loop_count; k++)
      for (int t = info->loop_first; t <= info->loop_last; t++) run_stage(r, t, buffers, split, k);
    s = info->loop_last;
  }
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct Case {
  const MuseHarness *options;
  const MuseOp *kernel;
  MuseArena *arena;
  Guarded operand[64], result[64], buffers, rng_ids;
  uint8_t *operand_copy[64], *first_bits[64];
  MuseTensor want[64];
} Case;

// place[r]: operand that result r is written over, or -1. Results go to c->result[].
static void execute(Case *c, const Run *r, Split split, const int *place) {
  const MuseOp *k = c->kernel;
  void **buffers = (void **)c->buffers.data;
  for (int i = 0; i < k->n_operands; i++) {
    memcpy(c->operand[i].data, c->operand_copy[i], c->operand[i].bytes);
    buffers[i] = c->operand[i].data;
  }
  for (int i = 0; i < k->n_results; i++) {
    memset(c->result[i].data, split == SPLIT_EACH ? 0xFF : 0xFB, c->result[i].bytes);
    buffers[k->n_operands + i] = place && place[i] >= 0 ? c->operand[place[i]].data : c->result[i].data;
  }
  Guarded workspace = guard_create(r->info.workspace_bytes, split == SPLIT_EACH ? 0x7F : 0xFF);
  buffers[k->n_operands + k->n_results] = r->info.workspace_bytes ? workspace.data : NULL;
  buffers[k->n_operands + k->n_results + 1] = r->rng_ids;
  run_all(r, buffers, split);
  guard_check(&workspace, "workspace", 0, r->level);
  guard_destroy(&workspace);
  for (int i = 0; i < k->n_operands; i++) {
    guard_check(&c->operand[i], "operand", i, r->level);
    bool replaced = false;
    for (int o = 0; place && o < k->n_results; o++) replaced |= place[o] == i;
    if (!replaced && memcmp(c->operand[i].data, c->operand_copy[i], c->operand[i].bytes) != 0)
      cr_assert_fail("%s: the kernel changed operand %d", r->level, i);
  }
  for (int o = 0; o < k->n_results; o++) {
    guard_check(&c->result[o], "result", o, r->level);
    if (place && place[o] >= 0) memcpy(c->result[o].data, c->operand[place[o]].data, c->result[o].bytes);
  }
}

static void same_bits(const Case *c, const Run *r, const char *what) {
  for (int o = 0; o < c->kernel->n_results; o++)
    if (memcmp(c->result[o].data, c->first_bits[o], c->result[o].bytes) != 0)
      cr_assert_fail("%s: result %d has other bits %s", r->level, o, what);
}

static void run_in_place(Case *c, const Run *r) {
  const MuseOp *k = c->kernel;
  int place[64], taken[64] = {0}, any = 0;
  for (int o = 0; o < k->n_results; o++) {
    place[o] = -1;
    for (int i = 0; i < k->n_operands && place[o] < 0; i++)
      if (!taken[i] && muse_kernel_allows_in_place(k, o, i)) place[o] = i, taken[i] = 1, any = 1;
  }
  if (!any) return;
  execute(c, r, SPLIT_ONE_CALL, place);
  same_bits(c, r, "in place");
  if (is_foreign) return;
  execute(c, r, SPLIT_REVERSED, place);
  same_bits(c, r, "in place, tasks reversed");
  for (int o = 0; o < k->n_results; o++)
    for (int i = 0; i < k->n_operands; i++) {
      if (!muse_kernel_allows_in_place(k, o, i)) continue;
      for (int p = 0; p < k->n_results; p++) place[p] = p == o ? i : -1;
      execute(c, r, SPLIT_ODD, place);
      same_bits(c, r, "in place, one result");
    }
}

// One run in one thread, tasks in order.
static void measure(Case *c, const Run *r, MuseHarnessReport *report) {
  const MuseOp *k = c->kernel;
  const MuseKernelInfo *info = &r->info;
  void *buffers[132];
  int64_t most = 0;
  for (int s = 0; s < info->n_stages; s++)
    if (info->stage[s].scratch_bytes > most) most = info->stage[s].scratch_bytes;
  Guarded workspace = guard_create(info->workspace_bytes, 0), scratch = guard_create(most, 0);
  for (int o = 0; o < k->n_operands; o++) buffers[o] = c->operand[o].data;
  for (int o = 0; o < k->n_results; o++) buffers[k->n_operands + o] = c->result[o].data;
  buffers[k->n_operands + k->n_results] = workspace.data;
  buffers[k->n_operands + k->n_results + 1] = r->rng_ids;
  double start = seconds_now();
  for (int s = 0; s < info->n_stages; s++) {
    int64_t rounds = info->loop_count > 1 && s == info->loop_first ? info->loop_count : 1;
    int to = rounds > 1 ? info->loop_last : s;
    for (int64_t it = 0; it < rounds; it++)
      for (int t = s; t <= to; t++)
        ((MuseKernelFn)r->fn[t])(buffers, 0, info->stage[t].n_tasks, scratch.data, it);
    s = to;
  }
  double took = seconds_now() - start;
  if (report->seconds == 0 || took < report->seconds) report->seconds = took;
  guard_destroy(&workspace);
  guard_destroy(&scratch);
}

static void run_level(Case *c, const MuseCpuTarget *target, MuseHarnessReport *report) {
  static int serial;
  const MuseCpuModule *cpu = muse_harness_module();
  MuseDiag *diag = muse_diag_create();
  char name[64];
  snprintf(name, sizeof name, "kernel%d", serial++);
  const MuseOp *k = c->kernel;
  Run run = {.kernel = k, .level = muse_cpu_level_name(target->level)};
  muse_kernel_info(k, &run.info);
  const MuseAttr *ids = muse_attr_find(&k->attrs, "rng_ids");
  int n_ids = ids ? ids->ints.len : 0;
  c->rng_ids = guard_create(8 * (n_ids + 1), 0);
  run.rng_ids = (uint64_t *)c->rng_ids.data;
  for (int i = 0; i < n_ids; i++) run.rng_ids[i] = (uint64_t)ids->ints.data[i];

  char *object;
  MuseJit *jit = NULL;
  double start = seconds_now();
  check(cpu->emit(k, name, target, "object", &object, &report->object_bytes, diag), diag, run.level);
  report->compile_seconds = seconds_now() - start;
  if (is_foreign) {
    muse_foreign_choose(target->level == MUSE_CPU_NEON_DOT);
    muse_foreign_load(object, report->object_bytes);
  } else {
    check(cpu->jit_create(&jit, diag), diag, run.level);
    check(cpu->jit_add_object(jit, object, report->object_bytes, diag), diag, run.level);
  }
  free(object);
  for (int s = 0; s < run.info.n_stages; s++) {
    char symbol[80];
    snprintf(symbol, sizeof symbol, "%s_%d", name, s);
    if (is_foreign) run.fn[s] = (void *)muse_foreign_lookup(symbol);
    else check(cpu->jit_lookup(jit, symbol, &run.fn[s], diag), diag, run.level);
  }
  for (int split = 0; split < N_SPLITS; split++) {
    if (is_foreign && split != SPLIT_ONE_CALL && split != SPLIT_ODD) continue; // emulation is slow
    execute(c, &run, (Split)split, NULL);
    if (split > 0) {
      same_bits(c, &run, "when the tasks are split otherwise");
      continue;
    }
    for (int o = 0; o < k->n_results; o++) {
      memcpy(c->first_bits[o], c->result[o].data, c->result[o].bytes);
      MuseTensor got = muse_tensor_create(c->arena, k->results[o]->type);
      muse_tensor_load(&got, c->result[o].data);
      muse_support_compare(&got, &c->want[o], &report->error[o], &report->ulps[o], &report->differing[o]);
      if (muse_dtype_is_float(got.type.dtype) && report->error[o] > report->worst) report->worst = report->error[o];
    }
  }
  run_in_place(c, &run);
  for (int i = 0; i < c->options->time_repeats && !is_foreign; i++) measure(c, &run, report);
  guard_destroy(&c->rng_ids);
  if (jit) cpu->jit_destroy(jit);
  muse_diag_destroy(diag);
}

static void cross_compile(const MuseOp *kernel) {
  static const char *const names[] = {"cpu:aarch64", "cpu:x86-64-v3"};
  const MuseCpuModule *cpu = muse_harness_module();
  MuseDiag *diag = muse_diag_create();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    MuseCpuTarget target;
    char *object;
    size_t bytes;
    check(cpu->parse_target(names[i], &target, diag), diag, names[i]);
    check(cpu->emit(kernel, "kernel", &target, "object", &object, &bytes, diag), diag, names[i]);
    cr_assert_gt(bytes, 64);
    free(object);
  }
  muse_diag_destroy(diag);
}

bool muse_harness_emulates_tiles(MuseCpuTarget *out_target) {
  const MuseCpuModule *cpu = muse_harness_module();
  MuseCpuTarget host;
  if (is_foreign) return false;
  if (cpu->host_target(MUSE_CPU_AMX, true, &host) || !cpu->host_target(MUSE_CPU_AVX512_VNNI, true, &host)) return false;
  if (!strstr(host.features, "avx512vbmi") || !strstr(host.features, "avx512bf16")) return false;
  MuseDiag *diag = muse_diag_create();
  check(cpu->parse_target("cpu:amx", out_target, diag), diag, "cpu:amx");
  muse_diag_destroy(diag);
  return muse_tile_emulator_start();
}

static void run_host_levels(Case *c, MuseHarnessReport *report) {
  const MuseCpuModule *cpu = muse_harness_module();
  for (int level = MUSE_CPU_SCALAR; level <= MUSE_CPU_NEON_DOT; level++) {
    MuseCpuTarget target, best;
    if (!cpu->host_target((MuseCpuLevel)level, true, &target)) continue;
    cr_assert(cpu->host_target(MUSE_CPU_NEON_DOT, false, &best));
    if (c->options->only_best && target.level != best.level) continue;
    report->seconds = 0;
    run_level(c, &target, report);
  }
  // Other kernels are at level amx what they are at avx512-vnni with the same extensions.
  const char *skeleton = muse_op_text(c->kernel, "skeleton");
  bool has_tiles = !strcmp(skeleton, "ternary_matmul") || !strcmp(skeleton, "int8_matmul");
  MuseCpuTarget amx;
  if (has_tiles && !c->options->only_best && muse_harness_emulates_tiles(&amx)) {
    int64_t before = muse_tile_emulator_count();
    run_level(c, &amx, report);
    report->emulated_tiles = muse_tile_emulator_count() - before;
  }
}

static void run_foreign_levels(Case *c, MuseHarnessReport *report) {
  static const char *const names[] = {"cpu:aarch64-scalar", "cpu:neon", "cpu:neon-dot"};
  MuseDiag *diag = muse_diag_create();
  for (int i = c->options->only_best ? 2 : 0; i < 3; i++) {
    MuseCpuTarget target;
    check(muse_harness_module()->parse_target(names[i], &target, diag), diag, names[i]);
    run_level(c, &target, report);
  }
  muse_diag_destroy(diag);
}

void muse_harness_run(MuseModule *module, const MuseOp *kernel, const MuseHarness *options,
                      MuseHarnessReport *out_report) {
  MuseHarness none = {0};
  Case c = {.options = options ? options : &none, .kernel = kernel, .arena = muse_arena_create()};
  *out_report = (MuseHarnessReport){0};
  cr_assert(kernel->n_operands <= 64 && kernel->n_results <= MUSE_HARNESS_MAX_RESULTS);
  is_foreign = muse_foreign_wanted();
  c.buffers = guard_create(132 * sizeof(void *), 0);
  MuseTensor args[64];
  for (int i = 0; i < kernel->n_operands; i++) {
    MuseType type = kernel->operands[i]->type;
    args[i] = muse_tensor_create(c.arena, type);
    muse_support_fill(&args[i], i, c.options->seed);
    if (c.options->fill) c.options->fill(c.options->user, i, &args[i]);
    c.operand[i] = guard_create(muse_type_bytes(type), 0);
    muse_tensor_store(&args[i], c.operand[i].data);
    muse_tensor_load(&args[i], c.operand[i].data); // what the type can hold
    c.operand_copy[i] = muse_arena_alloc(c.arena, c.operand[i].bytes);
    memcpy(c.operand_copy[i], c.operand[i].data, c.operand[i].bytes);
  }
  for (int o = 0; o < kernel->n_results; o++) {
    c.result[o] = guard_create(muse_type_bytes(kernel->results[o]->type), 0xFB);
    c.first_bits[o] = muse_arena_alloc(c.arena, c.result[o].bytes);
  }
  MuseEval eval = {.arena = c.arena, .round_storage = c.options->round_storage};
  muse_region_eval(&eval, kernel->body, args, c.want);

  if (is_foreign) run_foreign_levels(&c, out_report);
  else run_host_levels(&c, out_report);
  if (!c.options->no_cross && !is_foreign) cross_compile(kernel);
  guard_destroy(&c.buffers);
  for (int i = 0; i < kernel->n_operands; i++) guard_destroy(&c.operand[i]);
  for (int o = 0; o < kernel->n_results; o++) guard_destroy(&c.result[o]);
  muse_arena_destroy(c.arena);
}
