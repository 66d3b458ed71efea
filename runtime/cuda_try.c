// One kernel by itself, on memory of its own: for the comparison with the oracle at smaller shapes.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 128 };

typedef struct Trial {
  MuseCudaExecutor *e;
  const MuseOp *kernel;
  MuseCudaLaunches launches;
  CudaModule *module;
  MuseCudaKernel loaded;
  CudaPointer memory[MAX_VALUES];
  int n;
} Trial;

static MuseStatus add(Trial *t, size_t bytes, const void *data, MuseDiag *diag) {
  const MuseCuda *cuda = t->e->cuda;
  CudaPointer *p = &t->memory[t->n];
  int result = cuda->memory_allocate(p, bytes ? bytes : 1);
  if (result == 0) t->n++;
  if (result == 0 && data && bytes) result = cuda->copy_to_device(*p, data, bytes);
  if (result == 0 && !data) result = cuda->fill_bytes(*p, 0xFB, bytes ? bytes : 1); // what is not written is seen
  return muse_cuda_check(cuda, result, "memory to try a kernel", diag);
}

static MuseStatus load(Trial *t, MuseDiag *diag) {
  MuseCudaExecutor *e = t->e;
  MuseStr source = {0}, cubin = {0};
  muse_str_append(&source, muse_cuda_prelude());
  MuseStatus status = muse_cuda_emit(t->kernel, "trial", muse_cuda_kernels_target(e->kernels), 0, &source,
                                     &t->launches, diag);
  if (status == MUSE_OK)
    status = muse_cuda_kernels_compile_text(e->kernels, "trial", muse_str_text(&source), &cubin, diag);
  if (status == MUSE_OK)
    status = muse_cuda_check(e->cuda, e->cuda->module_load(&t->module, cubin.data), "loading a kernel", diag);
  if (status == MUSE_OK)
    status = muse_cuda_kernel_load(e->cuda, t->module, &cubin, "trial", &t->launches, &t->loaded, diag);
  muse_str_free(&source);
  muse_str_free(&cubin);
  return status;
}

static MuseStatus launch(Trial *t, MuseDiag *diag) {
  const MuseAttr *attr = muse_attr_find(&t->kernel->attrs, "rng_ids");
  int n_ids = attr ? attr->ints.len : 0;
  uint64_t *ids = calloc((size_t)n_ids + 1, sizeof *ids);
  MUSE_ASSERT(ids != NULL);
  for (int i = 0; i < n_ids; i++) ids[i] = (uint64_t)attr->ints.data[i];
  MuseCudaCall *call = NULL;
  MuseStatus status = muse_cuda_call_create(&t->loaded, t->memory, t->n, ids, n_ids, &call, diag);
  if (status == MUSE_OK) status = muse_cuda_call_launch(call, false, t->e->compute, diag);
  if (status == MUSE_OK)
    status = muse_cuda_check(t->e->cuda, t->e->cuda->stream_synchronize(t->e->compute), "trying a kernel", diag);
  muse_cuda_call_destroy(call);
  free(ids);
  return status;
}

static MuseStatus run(Trial *t, const void *const *operands, void *const *results, MuseDiag *diag) {
  const MuseOp *k = t->kernel;
  MUSE_TRY(load(t, diag));
  for (int i = 0; i < k->n_operands; i++)
    MUSE_TRY(add(t, (size_t)muse_type_bytes(k->operands[i]->type), operands[i], diag));
  for (int i = 0; i < k->n_results; i++)
    MUSE_TRY(add(t, (size_t)muse_type_bytes(k->results[i]->type), NULL, diag));
  MUSE_TRY(add(t, (size_t)t->launches.workspace_bytes, NULL, diag));
  // What was filled and copied is on another stream than the launch.
  MUSE_TRY(muse_cuda_check(t->e->cuda, t->e->cuda->context_synchronize(), "trying a kernel", diag));
  MUSE_TRY(launch(t, diag));
  for (int i = 0; i < k->n_results; i++) {
    size_t bytes = (size_t)muse_type_bytes(k->results[i]->type);
    if (!bytes) continue;
    MUSE_TRY(muse_cuda_check(t->e->cuda,
                             t->e->cuda->copy_from_device(results[i], t->memory[k->n_operands + i], bytes),
                             "reading a kernel's results", diag));
  }
  return MUSE_OK;
}

MuseStatus muse_cuda_try(MuseExecutor *base, const MuseOp *kernel, const void *const *operands, void *const *results,
                         MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  Trial t = {.e = e, .kernel = kernel};
  MUSE_ASSERT(kernel->n_operands + kernel->n_results + 1 <= MAX_VALUES);
  MuseStatus status = run(&t, operands, results, diag);
  for (int i = 0; i < t.n; i++) e->cuda->memory_free(t.memory[i]);
  if (t.module) e->cuda->module_unload(t.module);
  return status;
}
