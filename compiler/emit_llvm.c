// The table of emitters, and the way from an LLVM module to an object.

#include "compiler/emit_llvm.h"

#include "compiler/emit_llvm_builder.h"
#include "compiler/emit_llvm_embed.h"
#include "compiler/emit_llvm_scan.h"
#include "compiler/emit_llvm_target.h"
#include "compiler/emit_llvm_widen.h"

#include <llvm-c/Analysis.h>
#include <llvm/Config/llvm-config.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// Rows by skeleton name; emitters of structured ops stand in files of their own.
static const struct {
  const char *skeleton;
  MuseLlvmEmit emit;
} emitters[] = {
  {"cross_entropy", muse_emit_llvm_cross_entropy},
  {"cross_entropy_grad", muse_emit_llvm_cross_entropy},
  {"doc_begin", muse_emit_llvm_doc_begin},
  {"gather_rows", muse_emit_llvm_gather_rows},
  {"green_scan", muse_emit_llvm_green_scan},
  {"green_scan_grad", muse_emit_llvm_green_scan_grad},
  {"int8_matmul", muse_emit_llvm_product},
  {"map", muse_emit_llvm_map},
  {"matmul", muse_emit_llvm_product},
  {"pack_trits", muse_emit_llvm_pack_trits},
  {"resolvent_scan", muse_emit_llvm_resolvent_scan},
  {"resolvent_scan_grad", muse_emit_llvm_resolvent_scan_grad},
  {"ring_write", muse_emit_llvm_ring_write},
  {"rope_table", muse_emit_llvm_rope_table},
  {"scatter_add_rows", muse_emit_llvm_scatter_add_rows},
  {"ternary_matmul", muse_emit_llvm_product},
  {"transpose", muse_emit_llvm_transpose},
  {"tt_cross_entropy", muse_emit_llvm_tt_cross_entropy},
  {"tt_cross_entropy_grad", muse_emit_llvm_tt_cross_entropy},
  {"tt_gather", muse_emit_llvm_tt_gather},
  {"tt_gather_grad", muse_emit_llvm_tt_gather_grad},
  {"tt_matmul", muse_emit_llvm_tt_matmul},
  {"unpack_trits", muse_emit_llvm_unpack_trits},
  {"window_attention", muse_emit_llvm_window_attention},
  {"window_attention_grad", muse_emit_llvm_window_attention_grad},
};

// ---- version ----

static const char *version_text;
static pthread_once_t version_once = PTHREAD_ONCE_INIT;

// The linker's hash of everything in this library (build id): any change of an emitter or of a skeleton changes it.
static int find_build_id(struct dl_phdr_info *info, size_t size, void *out) {
  bool own = false;
  uintptr_t here = (uintptr_t)&find_build_id;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    own |= p->p_type == PT_LOAD && here - (info->dlpi_addr + p->p_vaddr) < p->p_memsz;
  }
  for (int i = 0; own && i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    if (p->p_type != PT_NOTE) continue;
    const char *at = (const char *)(info->dlpi_addr + p->p_vaddr), *end = at + p->p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
      const char *name = at + sizeof *note;
      const unsigned char *bytes = (const unsigned char *)name + (note->n_namesz + 3) / 4 * 4;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(name, "GNU", 4))
        for (unsigned k = 0; k < note->n_descsz; k++) muse_str_appendf(out, "%02x", bytes[k]);
      at = (const char *)bytes + (note->n_descsz + 3) / 4 * 4;
    }
  }
  return own;
}

static void find_version(void) {
  MuseStr text = {0}; // lives as long as the library
  muse_str_append(&text, "LLVM " LLVM_VERSION_STRING ", emitters ");
  dl_iterate_phdr(find_build_id, &text);
  version_text = muse_str_text(&text);
}

const char *muse_emit_llvm_version(void) {
  pthread_once(&version_once, find_version);
  return version_text;
}

// The emitters write loops as they should be: what is left is cleaning up. (No loop-idiom: it would call memset.)
static const char passes[] = "function(mem2reg,early-cse,instcombine<max-iterations=1;no-verify-fixpoint>,simplifycfg,"
                             "loop-mssa(licm),gvn<no-pre;no-load-pre>,loop(loop-reduce),instsimplify,adce,simplifycfg)";

static void init_types(MuseLlvm *ll) {
  LLVMContextRef c = ll->context;
  ll->void_type = LLVMVoidTypeInContext(c);
  ll->i1 = LLVMInt1TypeInContext(c);
  ll->i8 = LLVMInt8TypeInContext(c);
  ll->i16 = LLVMInt16TypeInContext(c);
  ll->i32 = LLVMInt32TypeInContext(c);
  ll->i64 = LLVMInt64TypeInContext(c);
  ll->f16 = LLVMHalfTypeInContext(c);
  ll->f32 = LLVMFloatTypeInContext(c);
  ll->f64 = LLVMDoubleTypeInContext(c);
  ll->ptr = LLVMPointerTypeInContext(c, 0);
}

static LLVMTargetMachineRef create_machine(const MuseCpuTarget *target, MuseDiag *diag) {
  muse_llvm_init();
  LLVMTargetRef backend;
  char *message = NULL;
  if (LLVMGetTargetFromTriple(target->triple, &backend, &message)) {
    muse_error(diag, MUSE_ERR_FAILED, "LLVM has no back end for '%s': %s", target->triple, message ? message : "");
    LLVMDisposeMessage(message);
    return NULL;
  }
  // Position-independent, so that the JIT may put the code anywhere and constants stay with it.
  return LLVMCreateTargetMachine(backend, target->triple, target->cpu, target->features, LLVMCodeGenLevelDefault,
                                 LLVMRelocPIC, LLVMCodeModelSmall);
}

static MuseStatus build_module(MuseLlvm *ll, MuseLlvmEmit emit, const MuseOp *kernel, LLVMTargetMachineRef machine) {
  const char *skeleton = muse_op_text(kernel, "skeleton");
  LLVMSetTarget(ll->module, ll->target->triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
  LLVMSetModuleDataLayout(ll->module, layout);
  LLVMDisposeTargetData(layout);
  ll->kernel = kernel;
  const bool emitted = muse_emit_llvm_widened(ll, kernel, emit);
  if (!emitted || ll->status != MUSE_OK) return ll->status != MUSE_OK ? ll->status : MUSE_ERR_FAILED;
  char *message = NULL;
  if (LLVMVerifyModule(ll->module, LLVMReturnStatusAction, &message)) {
    MuseStatus status = muse_error_at(
        ll->diag, MUSE_ERR_FAILED, kernel->loc,
        "the code made for kernel %s (skeleton '%s', %s) is not valid LLVM IR, a bug of MUSE: %s", ll->name, skeleton,
        muse_cpu_level_name(ll->target->level), message);
    LLVMDisposeMessage(message);
    return status;
  }
  LLVMDisposeMessage(message);
  return MUSE_OK;
}

static MuseStatus optimise(MuseLlvm *ll, LLVMTargetMachineRef machine) {
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(ll->module, passes, machine, options);
  LLVMDisposePassBuilderOptions(options);
  if (!error) return MUSE_OK;
  char *message = LLVMGetErrorMessage(error);
  MuseStatus status = muse_error(ll->diag, MUSE_ERR_FAILED, "LLVM could not optimise kernel %s: %s", ll->name, message);
  LLVMDisposeErrorMessage(message);
  return status;
}

static char *copy_out(const char *data, size_t bytes) {
  char *copy = malloc(bytes + 1);
  MUSE_ASSERT(copy != NULL);
  memcpy(copy, data, bytes);
  copy[bytes] = 0;
  return copy;
}

// A kernel must not call anything outside itself (memset, expf, ...): results would depend on that library, and the JIT
// might not find it. Returns the name of an undefined symbol of an ELF64 object, or NULL.
static const char *undefined_symbol(const char *object, size_t bytes) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)object;
  if (bytes < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return NULL;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(object + header->e_shoff);
  for (int i = 0; i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym *symbols = (const Elf64_Sym *)(object + sections[i].sh_offset);
    const char *names = object + sections[sections[i].sh_link].sh_offset;
    for (size_t k = 1; k < sections[i].sh_size / sizeof *symbols; k++)
      if (symbols[k].st_shndx == SHN_UNDEF) return names + symbols[k].st_name;
  }
  return NULL;
}

static MuseStatus write_form(MuseLlvm *ll, LLVMTargetMachineRef machine, const char *form, char **out_data,
                             size_t *out_bytes) {
  if (!strcmp(form, "llvm")) {
    char *text = LLVMPrintModuleToString(ll->module);
    *out_bytes = strlen(text);
    *out_data = copy_out(text, *out_bytes);
    LLVMDisposeMessage(text);
    return MUSE_OK;
  }
  LLVMCodeGenFileType type = LLVMObjectFile;
  if (!strcmp(form, "asm"))
    type = LLVMAssemblyFile;
  else if (strcmp(form, "object") != 0)
    return muse_error(ll->diag, MUSE_ERR_INPUT, "kernels can be written as llvm, asm or object, not as '%s'", form);
  LLVMMemoryBufferRef buffer = NULL;
  char *message = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(machine, ll->module, type, &message, &buffer)) {
    MuseStatus status = muse_error(ll->diag, MUSE_ERR_FAILED, "LLVM could not compile kernel %s: %s", ll->name,
                                   message);
    LLVMDisposeMessage(message);
    return status;
  }
  *out_bytes = LLVMGetBufferSize(buffer);
  *out_data = copy_out(LLVMGetBufferStart(buffer), *out_bytes);
  LLVMDisposeMemoryBuffer(buffer);
  const char *outside = type == LLVMObjectFile ? undefined_symbol(*out_data, *out_bytes) : NULL;
  if (!outside) return MUSE_OK;
  MuseStatus status = muse_error_at(
      ll->diag, MUSE_ERR_FAILED, ll->kernel->loc,
      "the code of kernel %s (skeleton '%s', %s) needs the outside function '%s', a bug of MUSE", ll->name,
      muse_op_text(ll->kernel, "skeleton"), muse_cpu_level_name(ll->target->level), outside);
  free(*out_data);
  *out_data = NULL;
  *out_bytes = 0;
  return status;
}

MuseStatus muse_emit_llvm_kernel(const MuseOp *kernel, const char *name, const MuseCpuTarget *target, const char *form,
                                 char **out_data, size_t *out_bytes, MuseDiag *diag) {
  const char *skeleton = muse_op_text(kernel, "skeleton");
  for (size_t i = 0; i < sizeof emitters / sizeof *emitters; i++)
    if (!strcmp(emitters[i].skeleton, skeleton))
      return muse_emit_llvm_with(emitters[i].emit, kernel, name, target, form, out_data, out_bytes, diag);
  return muse_error_at(diag, MUSE_ERR_INPUT, kernel->loc,
                       "kernel %s has the skeleton '%s', which the CPU emitter does not know", name, skeleton);
}

MuseStatus muse_emit_llvm_with(MuseLlvmEmit emit, const MuseOp *kernel, const char *name, const MuseCpuTarget *target,
                               const char *form, char **out_data, size_t *out_bytes, MuseDiag *diag) {
  *out_data = NULL;
  *out_bytes = 0;
  LLVMTargetMachineRef machine = create_machine(target, diag);
  if (!machine) return MUSE_ERR_FAILED;
  MuseLlvm ll = {
      .target = target, .name = name, .diag = diag, .arena = muse_arena_create(), .context = LLVMContextCreate()};
  ll.module = LLVMModuleCreateWithNameInContext(name, ll.context);
  ll.b = LLVMCreateBuilderInContext(ll.context);
  ll.lanes = target->vector_bytes / 4;
  ll.is_x86 = !strncmp(target->triple, "x86_64", 6);
  ll.has_fma = !ll.is_x86 || target->level >= MUSE_CPU_AVX2;
  init_types(&ll);
  MuseStatus status = build_module(&ll, emit, kernel, machine);
  if (status == MUSE_OK) status = optimise(&ll, machine);
  if (status == MUSE_OK) status = write_form(&ll, machine, form, out_data, out_bytes);
  LLVMDisposeBuilder(ll.b);
  LLVMDisposeModule(ll.module);
  LLVMContextDispose(ll.context);
  LLVMDisposeTargetMachine(machine);
  muse_arena_destroy(ll.arena);
  return status;
}
