#ifndef MUSE_RUNTIME_SESSION_H
#define MUSE_RUNTIME_SESSION_H

#include "ir/base/options.h"
#include "runtime/checkpoint.h"
#include "runtime/executor.h"

// A plan that is loaded and ready to run on a device, with the numbers that all commands of muse-run need of it.

typedef struct MuseSessionOptions {
  int64_t threads; // 0: one a core
  int64_t streams; // 0: the default
  const char *device, *cpu_level, *cache_dir, *nvrtc, *dump_dir, *override_dir;
  bool no_cache, no_tune, quiet;
  // Of training alone: a configuration is compiled, with the overrides `sets`, and all of the plan's memory has to be
  // there before anything else; other commands need what their functions use.
  bool train;
  // Of generating and evaluating: only functions that are prepared before the parameters are loaded will run, so that
  // memory is taken for what they read alone (packing.h).
  bool inference;
  const MuseTextList *sets;
  uint64_t host_memory; // bytes that count as available; 0: what the system says
} MuseSessionOptions;

// Rows of an option table for a MuseSessionOptions `o`: of every command that opens a session, and of those that run
// kernels, too.
#define MUSE_HOST_OPTION_ROWS(o) \
  {"device", 0, MUSE_OPT_TEXT, "DEVICE", "Run on cpu, cuda (the first GPU) or cuda:N (cpu).", &(o).device}, \
  {"threads", 'j', MUSE_OPT_INT, "N", "Worker threads (all cores); results are the same for any number.", \
   &(o).threads}, \
  {"quiet", 'q', MUSE_OPT_FLAG, NULL, "Say nothing but errors.", &(o).quiet}
#define MUSE_SESSION_OPTION_ROWS(o) \
  MUSE_HOST_OPTION_ROWS(o), \
  {"cpu-level", 0, MUSE_OPT_TEXT, "LEVEL", \
   "CPU: generate code for scalar, avx2, avx512, avx512-vnni, amx, neon or neon-dot (the best of this machine).", \
   &(o).cpu_level}, \
  {"cache-dir", 0, MUSE_OPT_TEXT, "DIR", "Keep compiled kernels there (the user's cache folder).", &(o).cache_dir}, \
  {"nvrtc", 0, MUSE_OPT_TEXT, "PATH", "GPU: the library NVRTC, when it is not found by itself.", &(o).nvrtc}, \
  {"no-tune", 0, MUSE_OPT_FLAG, NULL, "GPU: take the default form of every kernel instead of the fastest measured.", \
   &(o).no_tune}, \
  {"streams", 0, MUSE_OPT_INT, "N", \
   "GPU: let up to N independent kernels run beside each other, 1 to 8 (1); results are the same.", &(o).streams}, \
  {"dump-kernels", 0, MUSE_OPT_TEXT, "DIR", \
   "GPU: write IR, source, PTX, compiler log and launches of each kernel there.", &(o).dump_dir}, \
  {"kernel-override", 0, MUSE_OPT_TEXT, "DIR", \
   "GPU: run DIR/KERNEL.cu, an edited source of a dump, in place of the generated one.", &(o).override_dir}, \
  {"host-memory", 0, MUSE_OPT_BYTES, "SIZE", \
   "CPU: memory that may be taken on this machine (what is available); what needs more is refused.", \
   &(o).host_memory}, \
  {"no-cache", 0, MUSE_OPT_FLAG, NULL, "Compile all kernels again and keep none.", &(o).no_cache}

typedef struct MuseSession {
  MusePlan *plan;
  const MuseModule *module;
  MuseExecutor *executor;
  char *path;
  MuseHash plan_hash;       // of the plan's text
  bool quiet, set_up, on_gpu, inference;
  struct MusePacking *packing; // while parameters are loaded; NULL: @pack runs as a whole, afterwards
  bool checked;             // the memory for all functions is there
  uint64_t host_memory;     // bytes that count as available; 0: what the system says
  int64_t vocab_size, batch, n_seq, n_layers, window; // V, B, T, L, W
  int64_t accumulation;     // micro-batches of a step
  int32_t eos;              // -1: none
  uint32_t seed;
  const char *tokenizer;    // NULL: the plan names none
  uint64_t tokenizer_hash;  // of the tokenizer in use; 0: none is open
} MuseSession;

// Loads the plan and takes the memory; no kernel is compiled yet. A file that is no plan, and an option that means
// nothing on this device, is MUSE_ERR_INPUT.
MuseStatus muse_session_open(const char *path, const MuseSessionOptions *options, MuseSession *out_session,
                             MuseDiag *diag);
void muse_session_close(MuseSession *session); // a zeroed one is fine

// Refuses (MUSE_ERR_NO_FIT) when this machine has not the memory that these functions use; then compiles (or loads)
// their kernels and says on stderr how many were compiled. Ends with NULL;
// functions that the plan does not have are passed over.
MuseStatus muse_session_prepare(MuseSession *session, const char *const *functions, MuseDiag *diag);

// To be called after parameters have been written: runs @setup (the first time) and @pack.
MuseStatus muse_session_refresh(MuseSession *session, MuseDiag *diag);

// A buffer that must be there with this type; NULL type: any.
MuseStatus muse_session_buffer(const MuseSession *session, const char *name, const MuseType *type,
                               const MuseBuffer **out_buffer, MuseDiag *diag);
// MUSE_ERR_DATA when a checkpoint was trained with another tokenizer than the one in use.
MuseStatus muse_session_check_tokenizer(const MuseSession *session, const char *path, uint64_t trained_hash,
                                        MuseDiag *diag);
// Writes an f32[] buffer when the plan has it.
MuseStatus muse_session_set_scalar(const MuseSession *session, const char *name, double value, MuseDiag *diag);

// Copies rows [B,T+1] to the buffers tokens and targets.
MuseStatus muse_session_set_rows(const MuseSession *session, const int32_t *rows, MuseDiag *diag);

// Attributes of the plan; MUSE_ERR_INPUT when absent, of another kind, or out of range.
MuseStatus muse_session_int(const MuseSession *session, const char *name, int64_t min, int64_t max, int64_t *out,
                            MuseDiag *diag);
MuseStatus muse_session_real(const MuseSession *session, const char *name, double min, double max, double *out,
                             MuseDiag *diag);
MuseStatus muse_session_text(const MuseSession *session, const char *name, const char **out, MuseDiag *diag);

// The value of a key in the text of a configuration as plans hold it; false, and "", without.
bool muse_config_value(const char *config, const char *key, MuseStr *out);

// Random numbers of a step: key (seed, step). Micro-batches of one step differ, so that their rounding errors average
// out:
// @grad uses step * accumulation + micro_batch.
MuseStatus muse_session_set_rng(const MuseSession *session, uint32_t seed, uint64_t step, MuseDiag *diag);

// Where the parameters come from.
typedef struct MuseParamsOptions {
  const char *checkpoint; // folder of checkpoints, one step-N, or the folder of a compressed model
  const char *params;     // safetensors file, or the folder of a compressed model
} MuseParamsOptions;
#define MUSE_PARAMS_OPTION_ROWS(o)                                                                    \
  {"checkpoint",                                                                                      \
   'c',                                                                                               \
   MUSE_OPT_TEXT,                                                                                     \
   "DIR",                                                                                             \
   "Take the parameters from the newest checkpoint of a run, from one step-N, or of a compressed model.", \
   &(o).checkpoint},                                                                                  \
  {                                                                                                   \
    "params", 'p', MUSE_OPT_TEXT, "FILE", "Take the parameters from a safetensors file.", &(o).params \
  }

// Whether `path` is a file, or a folder with model.safetensors that is no checkpoint: appends the file's path.
bool muse_compressed_path(const char *path, MuseStr *out_file);

// Says on stderr, unless quiet, that the parameters are the initial ones when neither a checkpoint nor a file is given.
void muse_params_note_untrained(const MuseSession *session, const MuseParamsOptions *options);

// Refuses, before any work, parameters that are named twice or are not there. muse_session_load asks this, too.
MuseStatus muse_params_options_check(const MuseParamsOptions *options, MuseDiag *diag);

// Refuses, before kernels are compiled and reading no content, parameters of another configuration than the plan's.
MuseStatus muse_params_options_fit(const MuseSession *session, const MuseParamsOptions *options, MuseDiag *diag);

// Loads the parameters (from neither: initial values of the plan's seed) and refreshes. out_step (may be NULL): of the
// checkpoint.
MuseStatus muse_session_load(MuseSession *session, const MuseParamsOptions *options, uint64_t *out_step,
                             MuseDiag *diag);

// Whether the operand is a configuration (.yaml, .yml) and no plan.
bool muse_is_config(const char *path);

// The command's only operand, the plan.
MuseStatus muse_plan_operand(const MuseTextList *operands, const char *command, const char **out_path, MuseDiag *diag);

// Wall-clock seconds from an arbitrary start.
double muse_seconds(void);

#endif
