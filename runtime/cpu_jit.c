// Machine code in memory: ORC LLJIT takes the emitted objects, links them and gives addresses. Also the function table
// by which programs use this module (the only one that links LLVM).

#include "runtime/cpu_jit.h"

#include "compiler/emit_llvm.h"
#include "compiler/emit_llvm_target.h"

#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>

#include <stdlib.h>

struct MuseJit {
  LLVMOrcLLJITRef lljit;
};

static MuseStatus failed(MuseDiag *diag, LLVMErrorRef error, const char *what, const char *name) {
  char *message = LLVMGetErrorMessage(error);
  MuseStatus status = muse_error(diag, MUSE_ERR_FAILED, "the LLVM JIT could not %s%s: %s", what, name, message);
  LLVMDisposeErrorMessage(message);
  return status;
}

MuseStatus muse_cpu_jit_create(MuseJit **out_jit, MuseDiag *diag) {
  muse_llvm_init();
  *out_jit = NULL;
  LLVMOrcLLJITRef lljit;
  LLVMErrorRef error = LLVMOrcCreateLLJIT(&lljit, NULL);
  if (error) return failed(diag, error, "start", "");
  MuseJit *jit = calloc(1, sizeof *jit);
  MUSE_ASSERT(jit != NULL);
  jit->lljit = lljit;
  *out_jit = jit;
  return MUSE_OK;
}

MuseStatus muse_cpu_jit_add_object(MuseJit *jit, const void *object, size_t bytes, MuseDiag *diag) {
  LLVMMemoryBufferRef buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(object, bytes, "kernel");
  LLVMErrorRef error = LLVMOrcLLJITAddObjectFile(jit->lljit, LLVMOrcLLJITGetMainJITDylib(jit->lljit),
                                                 buffer); // takes the buffer
  return error ? failed(diag, error, "take an object", "") : MUSE_OK;
}

MuseStatus muse_cpu_jit_lookup(MuseJit *jit, const char *symbol, void **out_address, MuseDiag *diag) {
  LLVMOrcExecutorAddress address = 0;
  LLVMErrorRef error = LLVMOrcLLJITLookup(jit->lljit, &address, symbol);
  if (error) return failed(diag, error, "find ", symbol);
  *out_address = (void *)(uintptr_t)address;
  return MUSE_OK;
}

void muse_cpu_jit_destroy(MuseJit *jit) {
  if (!jit) return;
  LLVMErrorRef error = LLVMOrcDisposeLLJIT(jit->lljit);
  if (error) LLVMConsumeError(error);
  free(jit);
}

const MuseCpuModule *muse_cpu_module(void) {
  static MuseCpuModule module = {
      .abi = MUSE_CPU_MODULE_ABI,
      .host_target = muse_llvm_host_target,
      .parse_target = muse_llvm_parse_target,
      .emit = muse_emit_llvm_kernel,
      .jit_create = muse_cpu_jit_create,
      .jit_add_object = muse_cpu_jit_add_object,
      .jit_lookup = muse_cpu_jit_lookup,
      .jit_destroy = muse_cpu_jit_destroy,
  };
  module.version = muse_emit_llvm_version();
  return &module;
}
