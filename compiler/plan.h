#ifndef MUSE_COMPILER_PLAN_H
#define MUSE_COMPILER_PLAN_H

#include "compiler/kernel_info.h"
#include "compiler/memory_plan.h"
#include "ir/base/diag.h"
#include "ir/base/hash.h"
#include "ir/base/options.h"
#include "ir/op.h"

// A plan: IR text at kernel level with a memory plan in its attributes, read back and made ready to run. The text may
// come from anywhere: everything in it is checked here, so that the runtime needs no checks of its own.
#define MUSE_PLAN_VERSION 1 // module attribute plan_version; goes up when old plans would be misread

// A distinct kernel: equal text, equal code. Compiled once.
typedef struct MusePlanKernel {
  const char *text; // canonical, muse_kernel_print_canonical
  MuseHash hash;    // of the text
  int index;        // in MusePlan.kernels
  const MuseOp *op; // the first that has this text: what the emitters read
  MuseKernelInfo info;
  int64_t n_calls;
} MusePlanKernel;

typedef struct MusePlanCall {
  const MusePlanKernel *kernel;
  const MuseOp *op;
  // n_operands + n_results places in the order of MuseKernelFn's buffers, then that of the workspace (kind NONE: NULL).
  int n_operands, n_results;
  const MusePlace *places;
  const int64_t *rng_ids;
  int n_rng_ids;
} MusePlanCall;

typedef struct MusePlanFunc {
  const char *name;
  MuseFunc *func;
  MusePlanCall *calls; // in program order
  int n_calls;
  int64_t slab_bytes;
  const MusePlace *args;    // one an argument
  const MusePlace *results; // one a result: its buffer, or a place in the slab that holds until the next call
} MusePlanFunc;

typedef struct MusePlan {
  MuseModule *module; // buffers: module->buffers[place.buffer]
  MusePlanFunc *funcs;
  int n_funcs;
  MusePlanKernel **kernels;
  int n_kernels;
  int64_t slab_bytes;   // the largest of the functions
  int64_t buffer_bytes; // of all buffers, each rounded up to 64
} MusePlan;

// Makes a plan of a module at kernel level that muse_memory_plan has been run on. Takes the module over, also on
// failure. `name` is the file's name in messages. Faults are MUSE_ERR_INPUT.
MuseStatus muse_plan_create(MuseModule *module, const char *name, MusePlan **out_plan, MuseDiag *diag);
MuseStatus muse_plan_parse(const char *name, const char *text, size_t length, MusePlan **out_plan, MuseDiag *diag);
MuseStatus muse_plan_load(const char *path, MusePlan **out_plan, MuseDiag *diag);
void muse_plan_destroy(MusePlan *plan); // NULL is allowed

const MusePlanFunc *muse_plan_func(const MusePlan *plan, const char *name); // NULL when absent

// What musec makes of a config with overrides "key=value" (NULL: none): the text of the plan, or, in an instant, only
// the model before any pass, with the plan's attributes and parameters (texts of its locations live in `arena`).
// Refusals are those of musec.
MuseStatus muse_plan_text_of_config(const char *path, const MuseTextList *sets, MuseStr *out_text, MuseDiag *diag);
MuseStatus muse_module_of_config(const char *path, const MuseTextList *sets, MuseArena *arena, MuseModule **out_module,
                                 MuseDiag *diag);

// Bytes that running some functions takes (names, then NULL; those that the plan does not have take none): the buffers
// that they use, and the working memory of the largest. Where "pack" is not among them, parameters that none of these
// reads are packed one by one as they are loaded (runtime/packing.h), so that the largest counts. NULL: all of the
// plan.
uint64_t muse_plan_memory(const MusePlan *plan, const char *const *functions);
uint64_t muse_plan_buffer_memory(const MusePlan *plan, const char *const *functions); // of these the buffers

// Returns MUSE_ERR_NO_FIT with one sentence: plan `name` needs so much for running `functions` (as above), `where`
// ("this machine") has so much available, and what of its configuration to change so that it would fit (measured, not
// guessed).
MuseStatus muse_plan_refuse_memory(const MusePlan *plan, const char *name, const char *const *functions,
                                   uint64_t available, const char *where, MuseDiag *diag);

// Writes the text of a module that muse_memory_plan has been run on, atomically; sets its plan_version.
MuseStatus muse_plan_save(MuseModule *module, const char *path, MuseDiag *diag);

#endif
