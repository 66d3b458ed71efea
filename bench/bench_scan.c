// Time per token of the scans and of windowed attention on one core, over the length of the text, the size of a head
// and the window. The recurrences are O(T): the first table ends with the growth of the time per token from the
// shortest to the longest.
//
//   bench-scan [LIBRARY]     (default: libmuse-cpu.so beside the program)

#include "tests/unit/kernel_call.h"

#include <dlfcn.h>
#include <time.h>

// Time of this thread alone: a long run on a busy machine is interrupted, a short one is not.
static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const MuseCpuModule *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const MuseCpuModule *(*entry)(void) =
      library ? (const MuseCpuModule *(*)(void))dlsym(library, "muse_cpu_module") : NULL;
  if (!entry) {
    fprintf(stderr, "bench-scan: cannot load %s: %s\n", path, dlerror());
    exit(1);
  }
  return entry();
}

// Floats of small size, g-like where it matters (any |g| <= 1 takes the same time), one document a row.
static void fill(const MuseKernelCall *c) {
  uint32_t state = 1;
  for (int i = 0; i < c->kernel->n_operands; i++) {
    MuseType type = c->kernel->operands[i]->type;
    if (type.dtype != MUSE_F32) continue; // doc stays 0
    const int64_t n = muse_type_elements(type);
    for (int64_t k = 0; k < n; k++) {
      state = state * 1664525u + 1013904223u;
      ((float *)c->buffer[i])[k] = (float)(state >> 8) * 0x1p-24f * 0.5f - (type.rank == 4 ? 0.25f : -0.1f);
    }
  }
}

// Nanoseconds per token and head: the best of several runs.
static double measure(const MuseCpuModule *cpu, MuseOpKind kind, int64_t B, int64_t T, int64_t H, int64_t d,
                      const char *score, int64_t window) {
  const MuseType x = muse_type4(MUSE_F32, B, T, H, d), a = muse_type3(MUSE_F32, B, T, H),
                 doc = muse_type2(MUSE_I32, B, T);
  const MuseType eta = muse_type1(MUSE_F32, H);
  MuseType types[8];
  int n = 0;
  switch (kind) {
    case MUSE_OP_green_scan: types[n++] = a, types[n++] = eta, types[n++] = doc; break;
    case MUSE_OP_green_scan_grad:
      types[n++] = a, types[n++] = a, types[n++] = doc, types[n++] = a, types[n++] = a;
      break;
    case MUSE_OP_resolvent_scan: case MUSE_OP_resolvent_scan_grad:
      types[n++] = x, types[n++] = x, types[n++] = x, types[n++] = a, types[n++] = a, types[n++] = doc;
      if (kind == MUSE_OP_resolvent_scan_grad) types[n++] = x;
      break;
    default:
      types[n++] = x, types[n++] = x, types[n++] = x, types[n++] = doc;
      if (!strcmp(score, "hyperbolic")) types[n++] = a, types[n++] = a, types[n++] = eta;
      if (kind == MUSE_OP_window_attention_grad) types[n++] = x;
  }
  MuseModule *module = muse_module_create("");
  MuseKernelCall call;
  muse_kernel_call_create(cpu, muse_single_op_kernel(module, kind, n, types, score, window), &call);
  fill(&call);
  double best = 1e30, spent = 0;
  for (int i = 0; i < 3 || (spent < 0.3 && i < 200); i++) {
    const double start = seconds_now();
    muse_kernel_call_run(&call);
    const double took = seconds_now() - start;
    spent += took;
    if (took < best) best = took;
  }
  muse_kernel_call_destroy(&call);
  muse_module_destroy(module);
  return best * 1e9 / (double)(B * T * H);
}

// `tokens` 0: one row of each length, which leaves the caches as it grows. Else as many rows as make that many tokens,
// so that the lengths move the same memory and what is left of the growth is the algorithm's.
static void lengths(const MuseCpuModule *cpu, int64_t H, int64_t d, int64_t tokens) {
  static const int64_t lengths[] = {512, 2048, 8192, 65536};
  static const MuseOpKind kinds[] = {MUSE_OP_green_scan, MUSE_OP_green_scan_grad, MUSE_OP_resolvent_scan,
                                     MUSE_OP_resolvent_scan_grad};
  double first[2] = {0}, last[2] = {0};
  printf("\nns per token and head, H %d, d %d, %s\n%8s %11s %11s %11s %11s\n", (int)H, (int)d,
         tokens ? "65536 tokens in rows of T" : "one row", "T", "green", "green'",
         "resolvent", "resolvent'");
  for (size_t t = 0; t < sizeof lengths / sizeof *lengths; t++) {
    double ns[4];
    const int64_t B = tokens ? tokens / lengths[t] : 1;
    for (int k = 0; k < 4; k++) ns[k] = measure(cpu, kinds[k], B, lengths[t], H, d, NULL, 0);
    printf("%8d %11.2f %11.2f %11.1f %11.1f\n", (int)lengths[t], ns[0], ns[1], ns[2], ns[3]);
    for (int k = 0; k < 2; k++) {
      last[k] = ns[k] + ns[k + 2];
      if (t == 0) first[k] = last[k];
    }
  }
  printf("growth of both scans from the first line to the last: forward %+.1f %%, backward %+.1f %% (bar: < 20 %%)\n",
         100 * (last[0] / first[0] - 1), 100 * (last[1] / first[1] - 1));
}

int main(int argc, char **argv) {
  const MuseCpuModule *cpu = load(argc > 1 ? argv[1] : MUSE_CPU_MODULE_PATH);
  MuseCpuTarget target;
  if (!cpu->host_target(MUSE_CPU_NEON_DOT, false, &target)) return 1;
  printf("one core, %s\n", muse_cpu_level_name(target.level));
  static const int64_t heads[][2] = {{4, 32}, {8, 64}, {4, 128}};
  for (int i = 0; i < 3; i++) lengths(cpu, heads[i][0], heads[i][1], 65536);
  for (int i = 0; i < 3; i++) lengths(cpu, heads[i][0], heads[i][1], 0);
  printf("\nwindowed attention, T 2048, H 4: ns per token and head (forward / backward)\n%8s %6s %24s %24s\n", "d", "W",
         "dot", "hyperbolic");
  static const int64_t sizes[][2] = {{32, 64}, {32, 256}, {64, 64}, {64, 256}, {64, 512}, {128, 512}, {64, 2048}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    const int64_t d = sizes[i][0], W = sizes[i][1];
    printf("%8d %6d", (int)d, (int)W);
    for (int h = 0; h < 2; h++)
      printf("    %9.0f / %9.0f", measure(cpu, MUSE_OP_window_attention, 1, 2048, 4, d, h ? "hyperbolic" : "dot", W),
             measure(cpu, MUSE_OP_window_attention_grad, 1, 2048, 4, d, h ? "hyperbolic" : "dot", W));
    printf("\n");
  }
  return 0;
}
