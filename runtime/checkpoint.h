#ifndef MUSE_RUNTIME_CHECKPOINT_H
#define MUSE_RUNTIME_CHECKPOINT_H

#include "ir/base/hash.h"
#include "runtime/mixture.h"
#include "runtime/safetensors.h"

// Checkpoints of a run: DIR/step-N/ holds model.safetensors, train.safetensors and state.json. It is written beside its
// place, synced and renamed, so a step-N that exists is whole; DIR/latest names the newest.

typedef enum MuseTensorGroup {
  MUSE_GROUP_MODEL, // what eval and generate need: parameters
  MUSE_GROUP_TRAIN, // what only training needs: moments, latents
} MuseTensorGroup;

// Reads a piece of a tensor that is not in host memory.
typedef MuseStatus (*MuseTensorReadFn)(void *context, int index, int64_t offset, void *out, size_t bytes,
                                       MuseDiag *diag);

// A tensor of the running program: read by save, written by restore.
typedef struct MuseCheckpointTensor {
  const char *name;
  MuseStoredType type;
  int rank;
  int64_t shape[MUSE_STORED_MAX_RANK];
  void *data; // row-major; NULL: `read` gives it
  MuseTensorGroup group;
  MuseTensorReadFn read;
  void *context;
  int index;  // of the tensor, for `read`
} MuseCheckpointTensor;

// Everything but tensors that a resumed run needs. Random numbers are a function of (seed, step), so these two are
// their whole state.
// When the smoothed loss was lowest, and when it was last told that it does not fall (advice.h).
typedef struct MuseStall {
  double lowest;        // with 0 steps: nothing was seen yet
  uint64_t lowest_step, told_step, steps;
} MuseStall;

typedef struct MuseRunState {
  uint64_t step;             // steps completed
  uint32_t seed;
  uint64_t tokens;           // trained on so far
  MuseDataCursor cursor;     // training data
  double smoothed_loss, smoothed_weight; // of the progress line
  double best_validation_loss; // infinity: none yet
  double seconds;            // of training, over all resumes
  int bad_steps;             // steps with NaN or Inf in a row
  MuseStall stall;
  MuseHash plan_hash;
  uint64_t tokenizer_hash;   // of the tokenizer trained with; 0: unknown
  const char *config_text;   // the configuration as it was compiled
} MuseRunState;

// Writes DIR/step-N (an existing one is replaced atomically), moves DIR/latest, then removes all but the newest `keep`
// checkpoints (keep <= 0: all stay). A kill at any moment leaves DIR loadable.
MuseStatus muse_checkpoint_save(const char *dir, const MuseRunState *state, const MuseCheckpointTensor *tensors,
                                size_t n_tensors, int keep, MuseDiag *diag);

typedef struct MuseCheckpoint MuseCheckpoint;

// `path` is a DIR of checkpoints or one step-N. Takes the newest one whose checksums hold; each damaged one that was
// passed over leaves a warning in diag that says what is wrong with it. MUSE_ERR_INPUT when there is none.
MuseStatus muse_checkpoint_open(const char *path, MuseCheckpoint **out_checkpoint, MuseDiag *diag);
void muse_checkpoint_close(MuseCheckpoint *checkpoint); // NULL is allowed
// Refuses, without reading it, a `path` that is no checkpoint and holds none.
MuseStatus muse_checkpoint_check(const char *path, MuseDiag *diag);
// Appends the path of the parameters' file in the newest checkpoint there; false when there is none.
bool muse_checkpoint_newest_model(const char *path, MuseStr *out_file);
bool muse_checkpoint_exists(const char *dir); // at least one step-N is there

const char *muse_checkpoint_path(const MuseCheckpoint *checkpoint); // DIR/step-N
const MuseRunState *muse_checkpoint_state(const MuseCheckpoint *checkpoint); // texts live as long as the checkpoint
const MuseSafetensors *muse_checkpoint_file(const MuseCheckpoint *checkpoint, MuseTensorGroup group);
// The stored tensor of that name, type and shape; MUSE_ERR_DATA when it is not there.
MuseStatus muse_checkpoint_find(const MuseCheckpoint *checkpoint, const MuseCheckpointTensor *tensor,
                                const MuseStoredTensor **out_stored, MuseDiag *diag);
// Fills the tensors, all of which have data. Every one must be there with the same type and shape: else MUSE_ERR_DATA
// naming it.
MuseStatus muse_checkpoint_restore(const MuseCheckpoint *checkpoint, const MuseCheckpointTensor *tensors,
                                   size_t n_tensors, MuseDiag *diag);

// Called with the name of the point between any two steps of a save when not NULL; tests kill the process there.
extern void (*muse_checkpoint_test_hook)(const char *point);

#endif
