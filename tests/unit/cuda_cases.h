#ifndef MUSE_TESTS_UNIT_CUDA_CASES_H
#define MUSE_TESTS_UNIT_CUDA_CASES_H

#include "ops/ops.h"

// Kernels for the CUDA emitters: those that are compiled everywhere and, where there is a GPU, compared with eval.
typedef struct MuseCudaCase {
  char name[64];
  MuseModule *module;
  MuseOp *kernel;
  double bound; // of the error of float results; others may differ by one in one of 500 elements when that is 0 too
  bool shaky;   // whole numbers may fall to the other side of a half
  double frobenius; // unless 0, float results are bounded by this in the Frobenius norm, ||got - want|| / ||want||
  void (*fill)(int operand, MuseTensor *t); // what the operands hold; NULL: muse_support_fill
  bool cold; // timed by turns on as many sets of buffers as no cache holds, as weights are in decoding
} MuseCudaCase;

// A family of emitters and its written cases, each a shape that an emitter treats in its own way, and large ones to be
// timed (either may be NULL). A family has a file of its own, cuda_cases_NAME.c, and a row in the table of
// cuda_cases.c.
typedef struct MuseCudaFamily {
  const char *name;
  int (*cases)(MuseCudaCase *out, int capacity);
  int (*bench)(MuseCudaCase *out, int capacity);
} MuseCudaFamily;

// The cases of a family as they are collected.
typedef struct MuseCudaCaseList {
  MuseCudaCase *item;
  int n, capacity;
} MuseCudaCaseList;

// Adds the kernel in the text of a function (frees it, in the second form), and returns it to be changed.
MuseCudaCase *muse_cuda_add_text(MuseCudaCaseList *list, const char *skeleton, const char *name, double bound,
                                 const char *text);
MuseCudaCase *muse_cuda_add_case(MuseCudaCaseList *list, const char *skeleton, const char *name, double bound,
                                 MuseStr *text);
// Begins of documents of irregular length; one starts at token 64, the beginning of a chunk.
void muse_cuda_fill_documents(MuseTensor *t);

int muse_cuda_matmul_cases(MuseCudaCase *out, int capacity);
int muse_cuda_matmul_bench_cases(MuseCudaCase *out, int capacity);
int muse_cuda_head_cases(MuseCudaCase *out, int capacity);
int muse_cuda_head_bench_cases(MuseCudaCase *out, int capacity);
int muse_cuda_product_cases(MuseCudaCase *out, int capacity);
int muse_cuda_product_bench_cases(MuseCudaCase *out, int capacity);
int muse_cuda_scan_cases(MuseCudaCase *out, int capacity);
int muse_cuda_scan_bench_cases(MuseCudaCase *out, int capacity);
int muse_cuda_wgmma_cases(MuseCudaCase *out, int capacity);
int muse_cuda_wgmma_bench_cases(MuseCudaCase *out, int capacity);
int muse_cuda_window_cases(MuseCudaCase *out, int capacity);
int muse_cuda_window_bench_cases(MuseCudaCase *out, int capacity);
// Values and bounds of a kernel of windowed attention: directions of unit length, radii, documents.
void muse_cuda_window_values(MuseCudaCase *c, bool documents);
// The same for a kernel that is a scan, with documents; others are left alone.
void muse_cuda_scan_values(MuseCudaCase *c);

// The cases of the argument "cases" or "bench" (all families), "cases:NAME" or "bench:NAME" (one); -1 when `argument`
// is none of these. The modules live until the process ends.
int muse_cuda_named_cases(const char *argument, MuseCudaCase *out, int capacity);
// Parses the text of a function as one kernel.
MuseCudaCase muse_cuda_case_of_text(const char *name, const char *skeleton, double bound, const char *text);
// Random maps (random_map.h) of seeds first..first+n-1.
int muse_cuda_random_cases(uint32_t first, int n, MuseCudaCase *out);
// All distinct kernels of a config, with overrides. Returns -1 after printing why.
int muse_cuda_config_cases(const char *config, const char **overrides, MuseCudaCase *out, int capacity);

#endif
