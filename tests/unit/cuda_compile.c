// Compiles the kernels that have a CUDA emitter with NVRTC, for every architecture that it knows of those MUSE names,
// and reads registers, stack and spills from the log. Needs no GPU. Without NVRTC it says so and exits 77 (skipped).
// With --emit the texts are written and not compiled, which needs no NVRTC; --digest prints a hash of each, to see
// which of them a change of the emitters changes.
//
//   cuda-compile [--nvrtc=PATH] [--arch=sm_90a] [--emit] [--digest] [--show=NUMBER]
//                cases[:FAMILY] | random FIRST N | bench[:FAMILY] | CONFIG.yaml...

#include "compiler/cubin.h"
#include "compiler/nvrtc.h"
#include "compiler/emit_cuda.h"
#include "ir/base/hash.h"
#include "ir/text.h"
#include "tests/unit/cuda_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What a function may spill and reload, in bytes (ptxas of 13.0): the update of adafactor8 on rows of 20,480, which
// keeps a row of gradients and its random numbers in registers, needs 292 on sm_90a (where it is no slower than the
// same on short rows, which spill nothing); maps of which two blocks shall fit a multiprocessor (emit_cuda_map.c) need
// up to 240; on sm_90a and sm_120 others need up to 64.
enum { MAX_CASES = 4096, BATCH = 48, ALLOWED_SPILL = 352 };
static const char *const architectures[] = {"cuda:sm_75", "cuda:sm_80",  "cuda:sm_86",
                                            "cuda:sm_89", "cuda:sm_90a", "cuda:sm_120"};

static MuseCudaCase cases[MAX_CASES];

// Functions of ptxas' log that spill.
static void print_spills(const char *log) {
  char function[256] = "";
  for (const char *p = log; *p; p += strcspn(p, "\n"), p += *p == '\n') {
    int length = (int)strcspn(p, "\n");
    const char *name = strstr(p, "entry function '");
    if (name && name < p + length) snprintf(function, sizeof function, "%.*s", (int)strcspn(name + 16, "'"), name + 16);
    const char *spill = strstr(p, "bytes spill stores");
    if (spill && spill < p + length && strncmp(spill - 2, "0 ", 2) == 0 && spill[-3] == ' ') continue;
    if (spill && spill < p + length) printf("  %s: %.*s\n", function, length, p);
  }
}

// A function that does not wait for the launch before it before all else is launched behind that one, which is slower;
// there shall be none. `launches` counts those of kernel `index`.
static bool all_wait_first(const MuseStr *cubin, int index, int launches) {
  bool good = true;
  for (int s = 0; s < launches; s++) {
    char name[32];
    snprintf(name, sizeof name, "kernel%d_%d", index, s);
    if (muse_cubin_waits_first(cubin->data, (size_t)cubin->len, name)) continue;
    fprintf(stderr, "%s, launch %d: does something else before it waits for the launch before it\n", cases[index].name,
            s);
    good = false;
  }
  return good;
}

// Kernels [begin, end) as one program. Returns false after saying what is wrong.
static bool compile_batch(const MuseNvrtc *nvrtc, const char *target_text, int begin, int end,
                          MuseCudaResources *worst) {
  MuseDiag *diag = muse_diag_create();
  MuseStr source = {0}, code = {0}, log = {0};
  MuseCudaTarget target;
  MuseCudaLaunches launches;
  MuseStatus status = muse_cuda_target_parse(target_text, &target, diag);
  int functions = 0, overlapping[BATCH] = {0};
  muse_str_append(&source, muse_cuda_prelude());
  for (int i = begin; i < end && status == MUSE_OK; i++) {
    char name[24];
    snprintf(name, sizeof name, "kernel%d", i);
    status = muse_cuda_emit(cases[i].kernel, name, target, 0, &source, &launches, diag);
    functions += launches.n;
    if (launches.overlaps) overlapping[i - begin] = launches.n;
  }
  if (status == MUSE_OK)
    status = muse_nvrtc_compile(nvrtc, muse_str_text(&source), "batch", target, false, &code, &log, diag);
  bool good = status == MUSE_OK;
  if (!good) {
    muse_diag_print(diag, stderr);
    fprintf(stderr, "%.4000s\n", muse_str_text(&log));
    for (int i = begin; i < end; i++) fprintf(stderr, "kernel%d: %s\n", i, cases[i].name);
    if (end - begin == 1) fprintf(stderr, "%s\n", muse_str_text(&source) + strlen(muse_cuda_prelude()));
  } else {
    MuseCudaResources r;
    muse_nvrtc_resources(muse_str_text(&log), &r);
    if (r.n_kernels != functions || memcmp(code.data, "\177ELF", 4) != 0) {
      fprintf(stderr, "%s: %d functions were written, the log names %d\n", target_text, functions, r.n_kernels);
      good = false;
    }
    if (r.spill_bytes) {
      printf("%s: registers are spilled:\n", target_text);
      print_spills(muse_str_text(&log));
      good &= r.spill_bytes <= ALLOWED_SPILL;
    }
    for (int i = begin; i < end; i++) good &= all_wait_first(&code, i, overlapping[i - begin]);
    worst->n_kernels += r.n_kernels;
    if (r.registers > worst->registers) worst->registers = r.registers;
    if (r.stack_bytes > worst->stack_bytes) worst->stack_bytes = r.stack_bytes;
    if (r.spill_bytes > worst->spill_bytes) worst->spill_bytes = r.spill_bytes;
    if (r.shared_bytes > worst->shared_bytes) worst->shared_bytes = r.shared_bytes;
  }
  muse_str_free(&source);
  muse_str_free(&code);
  muse_str_free(&log);
  muse_diag_destroy(diag);
  return good;
}

// All variants of kernels [begin, end) as texts. Returns false after saying what is wrong.
static bool emit_batch(const char *target_text, int begin, int end, bool digest, MuseCudaResources *worst) {
  MuseDiag *diag = muse_diag_create();
  MuseStr source = {0}, again = {0};
  MuseCudaTarget target;
  MuseCudaLaunches launches = {.n_variants = 1}, same;
  bool good = muse_cuda_target_parse(target_text, &target, diag) == MUSE_OK;
  for (int i = begin; i < end && good; i++)
    for (int variant = 0; variant < launches.n_variants && good; variant++) {
      muse_str_clear(&source);
      muse_str_clear(&again);
      good = muse_cuda_emit(cases[i].kernel, "kernel", target, variant, &source, &launches, diag) == MUSE_OK &&
             muse_cuda_emit(cases[i].kernel, "kernel", target, variant, &again, &same, diag) == MUSE_OK;
      if (!good) muse_diag_print(diag, stderr);
      else if (launches.n < 1 || !strstr(muse_str_text(&source), "__global__") || source.len != again.len ||
               memcmp(source.data, again.data, (size_t)source.len) != 0)
        good = false;
      if (!good) fprintf(stderr, "%s, variant %d: no text, or another one the second time\n", cases[i].name, variant);
      worst->n_kernels += launches.n;
      if (good && digest) {
        char hex[33];
        muse_hash_hex(muse_hash128(source.data, source.len), hex);
        printf("%s %s %d %s\n", hex, target_text, variant, cases[i].name);
      }
    }
  muse_str_free(&source);
  muse_str_free(&again);
  muse_diag_destroy(diag);
  return good;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int collect(int argc, char **argv) {
  const char *sets[] = {"memory_budget=1TiB", NULL}; // nothing runs, so everything fits
  int n = 0;
  for (int i = 0; i < argc && n >= 0; i++) {
    const int named = muse_cuda_named_cases(argv[i], cases + n, MAX_CASES - n);
    if (named >= 0) {
      n += named;
    } else if (strcmp(argv[i], "random") == 0 && i + 2 < argc) {
      n += muse_cuda_random_cases((uint32_t)atoi(argv[i + 1]), atoi(argv[i + 2]), cases + n);
      i += 2;
    } else {
      int more = muse_cuda_config_cases(argv[i], sets, cases + n, MAX_CASES - n);
      if (more < 0) return -1;
      n += more;
    }
  }
  return n;
}

// Cases that differ in the values of their operands alone are compiled once; the others go behind them.
static int leave_out_twins(int n) {
  MuseMap *seen = muse_map_create();
  MuseStr text = {0};
  int kept = 0;
  for (int i = 0; i < n; i++) {
    muse_str_clear(&text);
    muse_kernel_print_canonical(cases[i].module, cases[i].kernel, &text);
    if (muse_map_get(seen, muse_str_text(&text))) continue;
    muse_map_put(seen, muse_str_text(&text), cases[i].kernel);
    const MuseCudaCase fresh = cases[i];
    cases[i] = cases[kept];
    cases[kept++] = fresh;
  }
  muse_str_free(&text);
  muse_map_destroy(seen);
  return kept;
}

int main(int argc, char **argv) {
  const char *path = NULL, *only = NULL;
  int show = -1, first = 1, passed = 0, failed = 0;
  bool emit = false, digest = false;
  for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
    if (strncmp(argv[first], "--nvrtc=", 8) == 0) path = argv[first] + 8;
    else if (strncmp(argv[first], "--arch=", 7) == 0) only = argv[first] + 7;
    else if (strncmp(argv[first], "--show=", 7) == 0) show = atoi(argv[first] + 7);
    else if (strcmp(argv[first], "--emit") == 0) emit = true;
    else if (strcmp(argv[first], "--digest") == 0) emit = digest = true;
  }
  MuseDiag *diag = muse_diag_create();
  MuseNvrtc *nvrtc = NULL;
  if (!emit && muse_nvrtc_open(path, &nvrtc, diag) != MUSE_OK) {
    printf("SKIP: %s\n", muse_diag_message(diag, 0));
    muse_diag_destroy(diag);
    return 77;
  }
  int n = collect(argc - first, argv + first);
  if (n < 1) return 2;
  n = leave_out_twins(n);
  if (show >= 0 && show < n) {
    MuseStr text = {0};
    MuseCudaLaunches launches;
    MuseCudaTarget target;
    MuseStr name = {0};
    muse_str_appendf(&name, "cuda:%s", only ? only : "sm_80");
    if (muse_cuda_target_parse(muse_str_text(&name), &target, diag) != MUSE_OK) return 2;
    muse_str_free(&name);
    muse_cuda_emit(cases[show].kernel, "kernel", target, 0, &text, &launches, diag);
    printf("%s\n", muse_str_text(&text));
    muse_str_free(&text);
    return 0;
  }
  printf("%d kernels\n", n);
  for (size_t a = 0; a < sizeof architectures / sizeof *architectures; a++) {
    MuseCudaTarget target;
    MuseCudaResources worst = {0};
    if (only && strcmp(architectures[a] + 5, only) != 0) continue;
    if (muse_cuda_target_parse(architectures[a], &target, diag) != MUSE_OK) return 2;
    if (!emit && !muse_nvrtc_knows(nvrtc, target)) {
      printf("%s: this NVRTC does not know it\n", architectures[a]);
      continue;
    }
    double start = seconds();
    for (int i = 0; i < n; i += BATCH) {
      int end = i + BATCH < n ? i + BATCH : n;
      if (emit ? emit_batch(architectures[a], i, end, digest, &worst)
               : compile_batch(nvrtc, architectures[a], i, end, &worst))
        passed += end - i;
      else failed += end - i;
    }
    if (emit) printf("%s: %d functions; %.1f s\n", architectures[a], worst.n_kernels, seconds() - start);
    else printf("%s: %d functions, at most %d registers, %d bytes of stack, %d spilled, %d of shared memory; %.1f s\n",
           architectures[a], worst.n_kernels, worst.registers, worst.stack_bytes, worst.spill_bytes, worst.shared_bytes,
           seconds() - start);
    fflush(stdout);
  }
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  muse_nvrtc_close(nvrtc);
  muse_diag_destroy(diag);
  return failed ? 1 : 0;
}
