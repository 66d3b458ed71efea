#ifndef MUSE_COMPILER_PIPELINE_H
#define MUSE_COMPILER_PIPELINE_H

#include "compiler/config.h"
#include "passes/manager.h"

// The passes from tensor-level IR to kernels, in order; NULL ends.
extern const char *const muse_pipeline[];

typedef struct MuseCompileOptions {
  MusePassOptions passes;
  const char *const *pipeline; // NULL: muse_pipeline
} MuseCompileOptions;

// Runs the pipeline on a module and, when it has reached level "kernel", plans its memory. A module that went some of
// the way already (a dump) goes the rest.
MuseStatus muse_compile(MuseModule *module, const MuseCompileOptions *options, MuseDiag *diag);

// Config to plan: lowering, pipeline, memory plan, the config text and sizes as module attributes. Refuses with
// MUSE_ERR_NO_FIT when the plan needs more than the config's memory_budget, naming changes that would make it fit.
MuseStatus muse_compile_config(const MuseConfig *config, const char *source, const char *target,
                               const MuseCompileOptions *options, MuseModule **out_module, MuseDiag *diag);

// What a plan costs, from its text alone.
typedef struct MuseEstimate {
  int64_t parameters;         // exact
  double role_bytes[10];      // by role, in the order of muse_estimate_roles
  double slab_bytes;          // largest over the functions
  double total_bytes;         // buffers + slab: the planned peak
  // What @loss, and @decode, read and write with their working memory: what stays in memory of a program that does not
  // train, on the processor. While it loads, the parameters of one layer come on top.
  double evaluate_bytes, generate_bytes;
  double step_flops, step_int_ops, step_bytes; // one optimizer step, all micro-batches
  double decode_flops, decode_bytes;           // one token
  int n_kernels, n_calls;     // distinct kernels; calls of all functions
} MuseEstimate;
extern const char *const muse_estimate_roles[10];
void muse_estimate(MuseModule *module, MuseEstimate *out);

#endif
