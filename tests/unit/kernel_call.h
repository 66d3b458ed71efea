#ifndef MUSE_TESTS_UNIT_KERNEL_CALL_H
#define MUSE_TESTS_UNIT_KERNEL_CALL_H

// One kernel compiled for the best level of this machine, to be called on buffers of the caller: for tests of
// properties that the oracle does not show (causality), and for benchmarks. Problems print the messages and abort.

#include "compiler/emit.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct MuseKernelCall {
  const MuseOp *kernel;
  MuseKernelInfo info;
  MuseKernelFn fn[MUSE_MAX_KERNEL_STAGES];
  void *buffer[64]; // operands, results, workspace, rng_ids
  void *scratch;
  const MuseCpuModule *cpu;
  MuseJit *jit;
} MuseKernelCall;

// A kernel of one op on new arguments, in a function of its own. score: NULL, or the attribute of windowed attention.
static inline MuseOp *muse_single_op_kernel(MuseModule *m, MuseOpKind kind, int n, const MuseType *types,
                                            const char *score, int64_t window) {
  MuseFunc *func = muse_func_create(m, muse_op_info(kind)->name);
  MuseValue *outer[16], *inner[16];
  for (int i = 0; i < n; i++) outer[i] = muse_region_add_arg(m, &func->body, types[i]);
  MuseOp *kernel = muse_op_create(m, MUSE_OP_kernel, n, outer, 0, NULL);
  muse_op_append(kernel, &func->body);
  MuseRegion *body = muse_op_create_body(m, kernel);
  for (int i = 0; i < n; i++) inner[i] = muse_region_add_arg(m, body, types[i]);
  MuseBuilder b = muse_builder_at_end(m, body);
  MuseAttrList attrs = {0};
  if (score) {
    muse_attr_set_text(m, &attrs, "score", score);
    muse_attr_set_int(m, &attrs, "window", window);
  }
  MuseOp *op = muse_build_op(&b, kind, n, inner, &attrs);
  muse_op_append(muse_op_create(m, MUSE_OP_yield, op->n_results, op->results, 0, NULL), body);
  for (int i = 0; i < op->n_results; i++) muse_op_add_result(m, kernel, op->results[i]->type);
  muse_attr_set_text(m, &kernel->attrs, "skeleton", muse_op_info(kind)->name);
  return kernel;
}

static inline void muse_kernel_call_check(MuseStatus status, MuseDiag *diag) {
  if (status == MUSE_OK) return;
  muse_diag_print(diag, stderr);
  abort();
}

// Zeroed; large buffers on large pages, as the runtime has them.
static inline void *muse_kernel_call_memory(int64_t bytes) {
  const size_t align = bytes >= (2 << 20) ? 2 << 20 : 64, size = ((size_t)bytes + 64 + align - 1) / align * align;
  void *p = aligned_alloc(align, size);
  if (!p) abort();
  if (align > 64) madvise(p, size, MADV_HUGEPAGE);
  memset(p, 0, size);
  return p;
}

static inline void muse_kernel_call_create(const MuseCpuModule *cpu, const MuseOp *kernel, MuseKernelCall *c) {
  MuseDiag *diag = muse_diag_create();
  MuseCpuTarget target;
  char *object;
  size_t bytes;
  int64_t scratch = 0;
  *c = (MuseKernelCall){.kernel = kernel, .cpu = cpu};
  muse_kernel_info(kernel, &c->info);
  if (!cpu->host_target(MUSE_CPU_NEON_DOT, false, &target)) abort();
  muse_kernel_call_check(cpu->emit(kernel, "kernel", &target, "object", &object, &bytes, diag), diag);
  muse_kernel_call_check(cpu->jit_create(&c->jit, diag), diag);
  muse_kernel_call_check(cpu->jit_add_object(c->jit, object, bytes, diag), diag);
  free(object);
  for (int s = 0; s < c->info.n_stages; s++) {
    char symbol[32];
    void *address;
    snprintf(symbol, sizeof symbol, "kernel_%d", s);
    muse_kernel_call_check(cpu->jit_lookup(c->jit, symbol, &address, diag), diag);
    c->fn[s] = (MuseKernelFn)address;
    if (c->info.stage[s].scratch_bytes > scratch) scratch = c->info.stage[s].scratch_bytes;
  }
  muse_diag_destroy(diag);
  const int n_in = kernel->n_operands, n_out = kernel->n_results;
  for (int i = 0; i < n_in; i++) c->buffer[i] = muse_kernel_call_memory(muse_type_bytes(kernel->operands[i]->type));
  for (int i = 0; i < n_out; i++)
    c->buffer[n_in + i] = muse_kernel_call_memory(muse_type_bytes(kernel->results[i]->type));
  if (c->info.workspace_bytes) c->buffer[n_in + n_out] = muse_kernel_call_memory(c->info.workspace_bytes);
  c->scratch = muse_kernel_call_memory(scratch);
}

static inline void muse_kernel_call_run(MuseKernelCall *c) {
  for (int s = 0; s < c->info.n_stages; s++) c->fn[s](c->buffer, 0, c->info.stage[s].n_tasks, c->scratch, 0);
}

static inline void muse_kernel_call_destroy(MuseKernelCall *c) {
  for (int i = 0; i <= c->kernel->n_operands + c->kernel->n_results; i++) free(c->buffer[i]);
  free(c->scratch);
  c->cpu->jit_destroy(c->jit);
}

#endif
