#ifndef MUSE_PASSES_MANAGER_H
#define MUSE_PASSES_MANAGER_H

#include "ir/op.h"
#include "ops/ops.h"

// What a pass gets. It reads and rewrites one function; it never prints, times or verifies: the manager does that for
// all.
typedef struct MusePassCtx {
  MuseModule *module;
  MuseArena *scratch; // reset before each function
} MusePassCtx;

// Returns whether the function (or the module through it) was changed.
typedef bool (*MusePassFn)(MusePassCtx *cx, MuseFunc *fn);

typedef struct MusePass {
  const char *name;
  MusePassFn run;
  const char *help; // one sentence
} MusePass;

extern const MusePass muse_passes[]; // from passes.def; ends with a NULL name
const MusePass *muse_pass_find(const char *name); // NULL when unknown

// Control of a pipeline run, straight from the command line of musec. All lists hold pass names.
typedef struct MusePassOptions {
  const char *const *dump; // "after:NAME" "before:NAME" "changed" "all"
  int n_dump;
  const char *dump_dir;      // NULL: stderr; else one file a dump: NNN-name-after.mir (created when missing)
  const char *const *skip;
  int n_skip;
  const char *stop_after;    // NULL: run all
  int64_t bisect;            // run only the first N passes of the pipeline; -1: all
  bool resume; // the module's attribute `passes_done` says how many passes of the pipeline have run: they are left
               // out, and it is kept up to date, so that a dump goes on where it was written
  bool time;                 // a table of times and op counts on stderr at the end
} MusePassOptions;

// Runs one pass over every function, then verifies the module. A verifier failure names the pass.
MuseStatus muse_pass_run(const MusePass *pass, MuseModule *module, MuseDiag *diag);
// Runs a pipeline: names in order, "" ends. Unknown names in options or pipeline are refused with the nearest known
// one.
MuseStatus muse_pipeline_run(const char *const *names, MuseModule *module, const MusePassOptions *options,
                             MuseDiag *diag);

#endif
