// What a GPU reaches in plain loops: a copy of its memory, f32 multiply-adds from registers, and matrix products of
// half precision and of bytes on its matrix units, fed from registers (mma.sync) or shared memory (wgmma of sm_90a).
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

// A loop: one block does `work` operations an iteration.
typedef struct Loop { const char *name; int block, blocks_per_multiprocessor; double work; } Loop;

enum { ITERATIONS = 2048, REPEATS = 5 };

static const char head[] = "extern \"C\" __global__ void __launch_bounds__(%d) %s(float *out, int n) {\n"
                           "  unsigned seed = threadIdx.x * 2654435761u + blockIdx.x * 40503u;\n";

static void write_fma(MuseStr *s, const Loop *l) {
  muse_str_appendf(s, head, l->block, l->name);
  muse_str_append(s, "  float x[16], a = 1.0f + seed * 1e-12f, b = seed * 1e-12f;\n"
                     "#pragma unroll\n"
                     "  for (int i = 0; i < 16; i++) x[i] = i;\n"
                     "  for (int k = 0; k < n; k++)\n"
                     "#pragma unroll\n"
                     "    for (int i = 0; i < 16; i++) x[i] = __fmaf_rn(x[i], a, b);\n"
                     "  float sum = 0;\n"
                     "#pragma unroll\n"
                     "  for (int i = 0; i < 16; i++) sum += x[i];\n"
                     "  if (sum == 12345.678f) out[0] = sum;\n"
                     "}\n");
}

// Eight independent products m16n8 of a warp an iteration.
static void write_mma(MuseStr *s, const Loop *l, const char *form, const char *type, const char *letter, int n_a,
                      int n_b, int n_c) {
  muse_str_appendf(s, head, l->block, l->name);
  muse_str_appendf(s, "  unsigned a[%d], b[%d]; %s c[8][%d];\n", n_a, n_b, type, n_c);
  muse_str_appendf(s, "  for (int i = 0; i < %d; i++) a[i] = (seed + i * 77u) & 0x807f807fu | 0x3c003c00u;\n", n_a);
  muse_str_appendf(s, "  for (int i = 0; i < %d; i++) b[i] = (seed * 3 + i * 99u) & 0x807f807fu | 0x3c003c00u;\n", n_b);
  muse_str_appendf(s, "  for (int j = 0; j < 8; j++) for (int i = 0; i < %d; i++) c[j][i] = 0;\n", n_c);
  muse_str_append(s, "  for (int k = 0; k < n; k++)\n#pragma unroll\n    for (int j = 0; j < 8; j++)\n"
                     "      asm volatile(\"");
  muse_str_append(s, form);
  int at = 0;
  int counts[4] = {n_c, n_a, n_b, n_c};
  for (int g = 0; g < 4; g++) {
    if (g == 3) at = 0; // the sum is read where it is written
    muse_str_append(s, g ? ", {" : " {");
    for (int i = 0; i < counts[g]; i++) muse_str_appendf(s, "%s%%%d", i ? ", " : "", at++);
    muse_str_append(s, "}");
  }
  muse_str_append(s, ";\" : ");
  for (int i = 0; i < n_c; i++) muse_str_appendf(s, "%s\"+%s\"(c[j][%d])", i ? ", " : "", letter, i);
  muse_str_append(s, " : ");
  for (int i = 0; i < n_a; i++) muse_str_appendf(s, "\"r\"(a[%d]), ", i);
  for (int i = 0; i < n_b; i++) muse_str_appendf(s, "%s\"r\"(b[%d])", i ? ", " : "", i);
  muse_str_append(s, ");\n  float sum = 0;\n  for (int j = 0; j < 8; j++)\n");
  muse_str_appendf(s, "    for (int i = 0; i < %d; i++) sum += c[j][i];\n", n_c);
  muse_str_append(s, "  if (sum == 12345.678f) out[0] = sum;\n}\n");
}

// Two warpgroups a block, each 64 x 256 sums in registers; both operands in shared memory, rows of 128 bytes in the
// layout of 128-byte swizzling (PTX ISA, "Asynchronous warpgroup level matrix instructions"). Eight products an
// iteration.
static void write_wgmma(MuseStr *s, const Loop *l, const char *form, const char *type, const char *letter,
                        bool is_float) {
  muse_str_appendf(s, head, l->block, l->name);
  muse_str_append(s, "  __shared__ __align__(1024) unsigned tile[12288];\n");
  muse_str_append(s, "  for (int i = threadIdx.x; i < 12288; i += blockDim.x)\n"
                     "    tile[i] = (seed + i * 2654435761u) & 0x807f807fu | 0x3c003c00u;\n");
  muse_str_appendf(s, "  %s c[128];\n#pragma unroll\n  for (int i = 0; i < 128; i++) c[i] = 0;\n", type);
  muse_str_append(s, "  __syncthreads();\n"
                     "  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n"
                     "  unsigned base = (unsigned)__cvta_generic_to_shared(tile);\n"
                     "  unsigned long long layout = 1ull << 62 | 64ull << 32 | 1ull << 16;\n"
                     "  unsigned long long a = layout | (base + threadIdx.x / 128 * 8192) >> 4;\n"
                     "  unsigned long long b = layout | (base + 16384) >> 4;\n"
                     "  for (int k = 0; k < n; k++) {\n"
                     "    asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
                     "#pragma unroll\n"
                     "    for (int j = 0; j < 8; j++)\n      asm volatile(\"");
  muse_str_append(s, form);
  muse_str_append(s, " {");
  for (int i = 0; i < 128; i++) muse_str_appendf(s, "%s%%%d", i ? ", " : "", i);
  muse_str_append(s, is_float ? "}, %128, %129, 1, 1, 1, 0, 0;\" : " : "}, %128, %129, 1;\" : ");
  for (int i = 0; i < 128; i++) muse_str_appendf(s, "%s\"+%s\"(c[%d])", i ? ", " : "", letter, i);
  muse_str_append(s, " : \"l\"(a + j % 4 * 2), \"l\"(b + j % 4 * 2));\n"
                     "    asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");\n"
                     "    asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
                     "  }\n"
                     "  float sum = 0;\n#pragma unroll\n  for (int i = 0; i < 128; i++) sum += c[i];\n"
                     "  if (sum == 12345.678f) out[0] = sum;\n}\n");
}

// Operations of the eight products of all warps of a block.
static double mma_work(int warps, double m, double n, double k) { return 8.0 * warps * 2 * m * n * k; }

static void write_loops(MuseStr *s, MuseCudaTarget target, Loop loops[3], MusePeaks *out) {
  loops[0] = (Loop){"fma_loop", 256, 4, 256.0 * 16 * 2};
  write_fma(s, &loops[0]);
  out->flops_with = "f32 multiply-adds";
  if (target.arch == 90 && target.specific) {
    loops[1] = (Loop){"half_loop", 256, 1, mma_work(2, 64, 256, 16)};
    loops[2] = (Loop){"byte_loop", 256, 1, mma_work(2, 64, 256, 32)};
    write_wgmma(s, &loops[1], "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16", "float", "f", true);
    write_wgmma(s, &loops[2], "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8", "int", "r", false);
    out->half_with = "bf16, wgmma";
    out->int8_with = "wgmma";
    return;
  }
  bool bf16 = target.arch >= 80;
  loops[1] = (Loop){"half_loop", 256, 2, mma_work(8, 16, 8, bf16 ? 16 : 8)};
  loops[2] = (Loop){"byte_loop", 256, 2, bf16 ? mma_work(8, 16, 8, 32) : mma_work(8, 8, 8, 16)};
  if (bf16) {
    write_mma(s, &loops[1], "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "float", "f", 4, 2, 4);
    write_mma(s, &loops[2], "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "int", "r", 4, 2, 4);
  } else {
    write_mma(s, &loops[1], "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", "float", "f", 2, 1, 4);
    write_mma(s, &loops[2], "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32", "int", "r", 1, 1, 2);
  }
  out->half_with = bf16 ? "bf16, mma.sync" : "f16, mma.sync";
  out->int8_with = "mma.sync";
}

// ---- measuring ----

typedef struct Clock { const MuseCuda *cuda; CudaStream *stream; CudaEvent *start, *end; } Clock;

static MuseStatus seconds_between(Clock *c, double *best, MuseDiag *diag) {
  float ms = 0;
  int result = c->cuda->event_record(c->end, c->stream);
  if (result == 0) result = c->cuda->event_synchronize(c->end);
  if (result == 0) result = c->cuda->event_elapsed(&ms, c->start, c->end);
  if (1e-3 * (double)ms < *best) *best = 1e-3 * (double)ms;
  return muse_cuda_check(c->cuda, result, "measuring the GPU", diag);
}

static MuseStatus measure_copy(MuseCudaExecutor *e, Clock *c, MusePeaks *out, MuseDiag *diag) {
  CudaPointer from = 0, to = 0;
  size_t bytes = (size_t)1 << 30;
  double best = 1e9;
  MuseStatus status = MUSE_OK;
  while (bytes > 1 << 20) { // what is free may be less
    if (e->cuda->memory_allocate(&from, bytes) == 0) {
      if (e->cuda->memory_allocate(&to, bytes) == 0) break;
      e->cuda->memory_free(from);
    }
    from = to = 0;
    bytes /= 2;
  }
  for (int i = 0; i <= REPEATS && status == MUSE_OK && to; i++) {
    int result = e->cuda->event_record(c->start, c->stream);
    if (result == 0) result = e->cuda->copy_on_device(to, from, bytes, c->stream);
    status = muse_cuda_check(e->cuda, result, "measuring the GPU", diag);
    double warm = 1e9;
    if (status == MUSE_OK) status = seconds_between(c, i ? &best : &warm, diag);
  }
  if (from) e->cuda->memory_free(from);
  if (to) e->cuda->memory_free(to);
  out->copy_bytes = 2.0 * (double)bytes / best;
  return status;
}

static MuseStatus measure_loop(MuseCudaExecutor *e, CudaModule *module, const Loop *l, Clock *c, double *out_rate,
                               MuseDiag *diag) {
  CudaFunction *f;
  CudaPointer unused = e->workspace ? e->workspace : e->slab;
  int n = ITERATIONS;
  void *parameters[] = {&unused, &n};
  unsigned blocks = (unsigned)(e->device.multiprocessors * l->blocks_per_multiprocessor);
  double best = 1e9, warm = 1e9;
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->module_function(&f, module, l->name), l->name, diag));
  for (int i = 0; i <= REPEATS; i++) {
    int result = e->cuda->event_record(c->start, c->stream);
    if (result == 0)
      result = e->cuda->launch(f, blocks, 1, 1, (unsigned)l->block, 1, 1, 0, c->stream, parameters, NULL);
    MUSE_TRY(muse_cuda_check(e->cuda, result, "measuring the GPU", diag));
    MUSE_TRY(seconds_between(c, i ? &best : &warm, diag));
  }
  *out_rate = l->work * ITERATIONS * blocks / best;
  return MUSE_OK;
}

static MuseStatus measure(MuseCudaExecutor *e, Clock *c, MusePeaks *out, MuseDiag *diag) {
  MuseStr source = {0}, cubin = {0};
  Loop loops[3];
  CudaModule *module = NULL;
  write_loops(&source, muse_cuda_kernels_target(e->kernels), loops, out);
  MuseStatus status = muse_cuda_kernels_compile_text(e->kernels, "peaks", muse_str_text(&source), &cubin, diag);
  if (status == MUSE_OK)
    status = muse_cuda_check(e->cuda, e->cuda->module_load(&module, cubin.data), "loading measuring loops", diag);
  double *rates[3] = {&out->flops, &out->half_flops, &out->int8_ops};
  for (int i = 0; i < 3 && status == MUSE_OK; i++) status = measure_loop(e, module, &loops[i], c, rates[i], diag);
  if (module) e->cuda->module_unload(module);
  muse_str_free(&source);
  muse_str_free(&cubin);
  return status == MUSE_OK ? measure_copy(e, c, out, diag) : status;
}

MuseStatus muse_cuda_peaks(MuseExecutor *base, MusePeaks *out, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  *out = (MusePeaks){.flops_with = "", .int8_with = "", .half_with = ""};
  Clock c = {.cuda = e->cuda, .stream = e->compute};
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->event_create(&c.start, 0), "an event", diag));
  int result = e->cuda->event_create(&c.end, 0);
  MuseStatus status = muse_cuda_check(e->cuda, result, "an event", diag);
  if (status == MUSE_OK) status = measure(e, &c, out, diag);
  e->cuda->event_destroy(c.start);
  if (c.end) e->cuda->event_destroy(c.end);
  return status;
}
