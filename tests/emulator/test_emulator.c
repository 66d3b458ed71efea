// What the software GPU must find: small kernels, right and wrong ones, each in a process of its own, since a failed
// launch stays.
#include "compiler/nvrtc.h"
#include "ir/base/status.h"
#include "runtime/cuda_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 64, LAUNCH_FAILED = 719 };

typedef struct Case {
  const char *name, *body; // of a kernel with the parameter `unsigned *out`
  int shared_bytes, expected; // error number of the launch; -1: it must not compile
  unsigned first, last; // of 64 words, after a good launch of 64 threads
} Case;

static const Case cases[] = {
    {"shuffles and barriers",
     "extern __shared__ unsigned s[];\n"
     "s[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1); __syncthreads();\n"
     "out[threadIdx.x] = s[63 - threadIdx.x];", 256, 0, 62, 1},
    {"a shuffle of half a warp",
     "out[threadIdx.x] = threadIdx.x & 16 ? __shfl_down_sync(0xffff0000u, threadIdx.x, 1) : 7;", 0, 0, 7, 63},
    {"an asm statement in a macro",
     "#define MOVE(TYPE, x) asm volatile(\"mov.\" TYPE \" %0, %%tid.x;\" : \"=r\"(x))\n"
     "unsigned x; MOVE(\"u32\", x); out[threadIdx.x] = x + 5;", 0, 0, 5, 68},
    {"a copy is there when it is waited for",
     "__shared__ uint4 s; unsigned at = (unsigned)__cvta_generic_to_shared(&s); out[threadIdx.x] = 3;\n"
     "__syncthreads();\n"
     "asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16, %2;\" :: \"r\"(at), \"l\"(out), \"r\"(16));\n"
     "asm volatile(\"cp.async.commit_group;\"); unsigned before = s.x;\n"
     "asm volatile(\"cp.async.wait_group %0;\" :: \"n\"(0)); __syncthreads(); out[threadIdx.x] = s.x + (before == 3);",
     0, 0, 4, 3}, // the thread that comes last to a barrier goes on first, and finds nothing; the others find its copy
    {"no barrier, other values", // lane 0 reads what nobody has written yet
     "__shared__ unsigned s[64]; s[threadIdx.x] = 1; out[threadIdx.x] = s[63 - threadIdx.x];", 0, 0, ~0u, 1},
    {"a barrier that half of the threads pass", "if (threadIdx.x < 32) __syncthreads(); out[threadIdx.x] = 1;", 0,
     LAUNCH_FAILED, 0, 0},
    {"lanes that do not come", "if (threadIdx.x) __syncwarp(); out[threadIdx.x] = 1;", 0, LAUNCH_FAILED, 0, 0},
    {"a write behind shared memory", "extern __shared__ unsigned s[]; s[threadIdx.x + 1] = 1; out[0] = s[0];", 256,
     LAUNCH_FAILED, 0, 0},
    {"an address that is not aligned",
     "__shared__ unsigned s[4]; unsigned x, at = (unsigned)__cvta_generic_to_shared(s) + 2;\n"
     "asm volatile(\"ld.shared.u32 %0, [%1];\" : \"=r\"(x) : \"r\"(at)); out[0] = x;", 0, LAUNCH_FAILED, 0, 0},
    {"too much static shared memory", "__shared__ unsigned s[20000]; s[threadIdx.x] = 1; out[0] = s[1];", 0,
     LAUNCH_FAILED, 0, 0},
    {"too many bytes for one launch", "out[0] = 1;", 200 << 10, 1, 0, 0},
    {"an instruction that is not known",
     "unsigned x; asm(\"popc.nothing.b32 %0, %1;\" : \"=r\"(x) : \"r\"(*out)); *out = x;", 0, -1, 0, 0},
    {"text that is no CUDA", "this is no CUDA", 0, -1, 0, 0},
};

// Compiles and launches; the error number, with the first and the last word.
static int attempt(const Case *c, const char *nvrtc_path, unsigned out[WORDS], MuseDiag *diag) {
  MuseNvrtc *nvrtc;
  const MuseCuda *cuda;
  MuseCudaDevice device;
  MuseStr source = {0}, code = {0}, log = {0};
  CudaContext *context;
  CudaModule *module;
  CudaFunction *function;
  CudaPointer memory;
  if (muse_cuda_open(&cuda, diag) != MUSE_OK || muse_nvrtc_open(nvrtc_path, &nvrtc, diag) != MUSE_OK ||
      muse_cuda_device(cuda, 0, &device, diag) != MUSE_OK || !strstr(device.name, "software GPU")) {
    muse_diag_print(diag, stderr);
    fprintf(stderr, "the software GPU is not what was found\n");
    exit(2);
  }
  muse_str_append(&source, "extern \"C\" __global__ void __launch_bounds__(64) kernel(unsigned *out) {\n");
  muse_str_appendf(&source, "%s\n}\n", c->body);
  const MuseCudaTarget target = {.arch = device.arch};
  const char *text = muse_str_text(&source);
  if (muse_nvrtc_compile(nvrtc, text, "kernel", target, false, &code, &log, diag) != MUSE_OK) return -1;
  void *parameters[] = {&memory};
  cuda->context_retain(&context, device.handle);
  cuda->context_set(context);
  if (cuda->memory_allocate(&memory, sizeof *out * WORDS) || cuda->module_load(&module, code.data) ||
      cuda->module_function(&function, module, "kernel"))
    return 1000;
  int result = cuda->launch(function, 1, 1, 1, WORDS, 1, 1, (unsigned)c->shared_bytes, NULL, parameters, NULL);
  if (result == 0) result = cuda->context_synchronize();
  if (result == 0) result = cuda->copy_from_device(out, memory, sizeof *out * WORDS);
  return result;
}

static int run_case(const Case *c, const char *nvrtc_path) {
  unsigned out[WORDS] = {0};
  MuseDiag *diag = muse_diag_create();
  const int result = attempt(c, nvrtc_path, out, diag);
  bool good = result == c->expected;
  if (c->expected == -1) good &= strstr(muse_diag_message(diag, 0), "error") != NULL;
  if (good && result == 0) good = out[0] == c->first && out[WORDS - 1] == c->last;
  if (good) return 0;
  printf("%s: error %d, expected %d; words %u .. %u, expected %u .. %u\n", c->name, result, c->expected, out[0],
         out[WORDS - 1], c->first, c->last);
  muse_diag_print(diag, stdout);
  fflush(stdout);
  return 1;
}

int main(int argc, char **argv) {
  int failed = 0;
  if (argc != 2) return 2;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const pid_t child = fork();
    int status = 1;
    if (child == 0) _exit(run_case(&cases[i], argv[1]));
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) failed++;
  }
  printf("%d cases, %d failed\n", (int)(sizeof cases / sizeof *cases), failed);
  return failed != 0;
}
