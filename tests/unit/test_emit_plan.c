// All kernels of a whole model: objects for other machines, several threads emitting at a time; map and transpose
// kernels as the passes make them against the oracle.

#include "compiler/pipeline.h"
#include "ir/text.h"
#include "tests/unit/kernel_harness.h"

#include <criterion/criterion.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// Distinct kernels of the plan of configs/muse-tiny.yaml with overrides ("key=value", NULL-terminated).
typedef struct Kernels {
  MuseArena *arena;
  MuseModule *module;
  MuseOp **op;
  int n;
} Kernels;

static void expect_ok(MuseStatus status, MuseDiag *diag) {
  if (status != MUSE_OK) muse_diag_print(diag, stderr);
  cr_assert_eq(status, MUSE_OK);
}

static Kernels compile(const char **overrides) {
  Kernels k = {.arena = muse_arena_create()};
  MuseDiag *diag = muse_diag_create();
  MuseTextList sets = {.data = overrides};
  while (overrides && overrides[sets.len]) sets.len++;
  MuseConfig config;
  MuseCompileOptions options = {.passes = {.bisect = -1}};
  expect_ok(muse_config_load("configs/muse-tiny.yaml", &sets, k.arena, &config, diag), diag);
  expect_ok(muse_compile_config(&config, "configs/muse-tiny.yaml", "cpu", &options, &k.module, diag), diag);
  MuseMap *seen = muse_map_create();
  k.op = MUSE_NEW_ARRAY(k.arena, MuseOp *, 4096);
  for (MuseFunc *f = k.module->first_func; f; f = f->next)
    for (MuseOp *op = f->body.first; op; op = op->next) {
      if (op->kind != MUSE_OP_kernel) continue;
      MuseStr text = {0};
      muse_kernel_print_canonical(k.module, op, &text);
      if (!muse_map_get(seen, muse_str_text(&text))) {
        cr_assert_lt(k.n, 4096);
        muse_map_put(seen, muse_str_text(&text), op);
        k.op[k.n++] = op;
      }
      muse_str_free(&text);
    }
  muse_map_destroy(seen);
  muse_diag_destroy(diag);
  cr_assert_gt(k.n, 50);
  return k;
}

static void release(Kernels *k) {
  muse_module_destroy(k->module);
  muse_arena_destroy(k->arena);
}

// ---- objects for other machines, by two threads ----

typedef struct Emission {
  const Kernels *kernels;
  const char *target;
  int first, failed;
  size_t bytes;
} Emission;

static void *emit_every_second(void *argument) {
  Emission *e = argument;
  const MuseCpuModule *cpu = muse_harness_module();
  MuseDiag *diag = muse_diag_create();
  MuseCpuTarget target;
  if (cpu->parse_target(e->target, &target, diag) != MUSE_OK) e->failed++;
  for (int i = e->first; i < e->kernels->n && !e->failed; i += 2) {
    char *object;
    size_t bytes;
    if (cpu->emit(e->kernels->op[i], "k", &target, "object", &object, &bytes, diag) != MUSE_OK) {
      e->failed++;
      muse_diag_print(diag, stderr);
      continue;
    }
    e->bytes += bytes;
    free(object);
  }
  muse_diag_destroy(diag);
  return NULL;
}

static void emit_all(const char *target) {
  Kernels k = compile(NULL);
  muse_harness_module(); // loaded by one thread
  Emission half[2] = {{&k, target, 0, 0, 0}, {&k, target, 1, 0, 0}};
  pthread_t thread;
  cr_assert_eq(pthread_create(&thread, NULL, emit_every_second, &half[1]), 0);
  emit_every_second(&half[0]);
  pthread_join(thread, NULL);
  cr_expect_eq(half[0].failed + half[1].failed, 0);
  cr_expect_gt(half[0].bytes + half[1].bytes, 50000);
  release(&k);
}

Test(emit_plan, aarch64) { emit_all("cpu:aarch64"); }
Test(emit_plan, x86_64_v3) { emit_all("cpu:x86-64-v3"); }

// Two emissions of the same kernel are the same bytes: the kernel cache and bit-equal runs rest on it.
Test(emit_plan, same_bytes) {
  Kernels k = compile(NULL);
  const MuseCpuModule *cpu = muse_harness_module();
  MuseDiag *diag = muse_diag_create();
  MuseCpuTarget target;
  expect_ok(cpu->parse_target("cpu:host", &target, diag), diag);
  for (int i = 0; i < k.n; i += 7) {
    char *object[2];
    size_t bytes[2];
    for (int j = 0; j < 2; j++)
      expect_ok(cpu->emit(k.op[i], "k", &target, "object", &object[j], &bytes[j], diag), diag);
    cr_expect(bytes[0] == bytes[1] && memcmp(object[0], object[1], bytes[0]) == 0, "kernel %d", i);
    free(object[0]);
    free(object[1]);
  }
  muse_diag_destroy(diag);
  release(&k);
}

// ---- results ----

static void check_maps(const char **overrides) {
  Kernels k = compile(overrides);
  int n_maps = 0;
  for (int i = 0; i < k.n; i++) {
    const char *skeleton = muse_op_text(k.op[i], "skeleton");
    if (strcmp(skeleton, "map") != 0 && strcmp(skeleton, "transpose") != 0) continue;
    n_maps++;
    MuseHarness h = {.round_storage = true, .no_cross = true, .seed = (uint64_t)i};
    MuseHarnessReport r;
    muse_harness_run(k.module, k.op[i], &h, &r);
    for (int o = 0; o < k.op[i]->n_results; o++) {
      bool is_float = muse_dtype_is_float(k.op[i]->results[o]->type.dtype);
      // Quantised values may fall to the other side of a half, rarely and by one.
      bool good = is_float ? r.error[o] < 2e-5 : r.error[o] <= 1 && r.differing[o] < 2e-3;
      if (good) continue;
      MuseStr text = {0};
      muse_kernel_print_canonical(k.module, k.op[i], &text);
      cr_expect_fail("result %d: error %g, %g differ\n%s", o, r.error[o], r.differing[o], muse_str_text(&text));
      muse_str_free(&text);
    }
  }
  cr_expect_gt(n_maps, 30);
  release(&k);
}

Test(emit_plan, map_kernels) {
  check_maps(
      (const char *[]){"n_seq=33", "d_model=96", "num_heads=3", "batch_size=2", "n_layers=2", "local_window=16", NULL});
}
Test(emit_plan, map_kernels_of_compact_training) {
  check_maps((const char *[]){"n_seq=16", "d_model=64", "num_heads=2", "batch_size=3", "n_layers=2", "local_window=8",
                              "optimizer=adafactor8", "use_htt_embedding=true", "htt_rank=8", "quantized_htt=true",
                              NULL});
}
