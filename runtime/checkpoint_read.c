// Reading checkpoints: the newest one whose checksums hold.
#include "ir/base/io.h"
#include "runtime/checkpoint.h"
#include "runtime/checkpoint_dir.h"
#include "runtime/run_state.h"

#include <string.h>

#define MAX_STATE_BYTES (16u << 20)

struct MuseCheckpoint {
  char *path;
  MuseRunState state;
  MuseSafetensors *model, *train;
};

void muse_checkpoint_close(MuseCheckpoint *checkpoint) {
  if (!checkpoint) return;
  muse_safetensors_close(checkpoint->model);
  muse_safetensors_close(checkpoint->train);
  free((char *)checkpoint->state.config_text);
  free(checkpoint->path);
  free(checkpoint);
}

// Opens a tensor file and holds it against its size and hash in state.json.
static MuseStatus open_sealed(const char *folder, const char *name, const MuseFileSeal *seal,
                              MuseSafetensors **out_file, MuseDiag *diag) {
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/%s", folder, name);
  MuseStatus status = muse_safetensors_open(path.data, out_file, diag);
  if (status == MUSE_OK) {
    MuseHash hash = muse_safetensors_hash(*out_file);
    if (hash.lo != seal->hash.lo || hash.hi != seal->hash.hi)
      status = muse_error(diag, MUSE_ERR_INPUT, "'%s' is damaged: its checksum is not the one in state.json",
                          path.data);
  }
  muse_str_free(&path);
  return status;
}

static MuseStatus open_parts(MuseCheckpoint *c, MuseDiag *diag) {
  MuseStr path = {0}, text = {0};
  MuseStateSeals seals;
  muse_str_appendf(&path, "%s/state.json", c->path);
  MuseStatus status = muse_read_file(path.data, MAX_STATE_BYTES, &text, diag);
  if (status == MUSE_OK)
    status = muse_run_state_parse(path.data, muse_str_text(&text), text.len, &c->state, &seals, diag);
  muse_str_free(&path);
  muse_str_free(&text);
  MUSE_TRY(status);
  MUSE_TRY(open_sealed(c->path, "model.safetensors", &seals.model, &c->model, diag));
  return open_sealed(c->path, "train.safetensors", &seals.train, &c->train, diag);
}

static MuseStatus open_one(const char *path, MuseCheckpoint **out_checkpoint, MuseDiag *diag) {
  MuseCheckpoint *c = calloc(1, sizeof *c);
  if (!c) muse_out_of_memory(sizeof *c);
  c->path = strdup(path);
  MuseStatus status = open_parts(c, diag);
  if (status != MUSE_OK) {
    muse_checkpoint_close(c);
    return status;
  }
  *out_checkpoint = c;
  return MUSE_OK;
}

bool muse_checkpoint_exists(const char *dir) {
  MuseDiag *unused = muse_diag_create();
  MuseSteps steps = {0};
  bool exists = muse_checkpoint_list(dir, &steps, unused) == MUSE_OK && steps.len > 0;
  muse_vec_free(&steps);
  muse_diag_destroy(unused);
  return exists;
}

// A path that is a checkpoint itself: its state.json is there, or its name says so.
static bool is_checkpoint(const char *path) {
  MuseStr state = {0};
  muse_str_appendf(&state, "%s/state.json", path);
  bool is = access(state.data, F_OK) == 0;
  muse_str_free(&state);
  return is;
}

static MuseStatus no_checkpoint(const char *path, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' holds no checkpoint (no folder step-N)", path);
}

MuseStatus muse_checkpoint_check(const char *path, MuseDiag *diag) {
  if (is_checkpoint(path)) return MUSE_OK;
  MuseSteps steps;
  MUSE_TRY(muse_checkpoint_list(path, &steps, diag));
  bool empty = steps.len == 0;
  muse_vec_free(&steps);
  return empty ? no_checkpoint(path, diag) : MUSE_OK;
}

bool muse_checkpoint_newest_model(const char *path, MuseStr *out) {
  MuseDiag *unused = muse_diag_create();
  MuseSteps steps = {0};
  bool itself = is_checkpoint(path);
  bool found = itself || (muse_checkpoint_list(path, &steps, unused) == MUSE_OK && steps.len > 0);
  if (itself) muse_str_appendf(out, "%s/model.safetensors", path);
  else if (found) muse_str_appendf(out, "%s/step-%lld/model.safetensors", path, (long long)steps.data[0]);
  muse_vec_free(&steps);
  muse_diag_destroy(unused);
  return found;
}

MuseStatus muse_checkpoint_open(const char *path, MuseCheckpoint **out_checkpoint, MuseDiag *diag) {
  *out_checkpoint = NULL;
  if (is_checkpoint(path)) return open_one(path, out_checkpoint, diag);
  MuseSteps steps;
  MUSE_TRY(muse_checkpoint_list(path, &steps, diag));
  size_t n_steps = steps.len;
  for (size_t i = 0; i < n_steps && !*out_checkpoint; i++) {
    MuseStr folder = {0};
    muse_str_appendf(&folder, "%s/step-%lld", path, (long long)steps.data[i]);
    MuseDiag *attempt = muse_diag_create();
    if (open_one(folder.data, out_checkpoint, attempt) != MUSE_OK)
      muse_warning_at(diag, (MuseLoc){0}, "the checkpoint '%s' cannot be used and is passed over: %s", folder.data,
                      muse_diag_message(attempt, 0));
    muse_diag_destroy(attempt);
    muse_str_free(&folder);
  }
  muse_vec_free(&steps);
  if (*out_checkpoint) return MUSE_OK;
  if (n_steps == 0) return no_checkpoint(path, diag);
  return muse_error(diag, MUSE_ERR_INPUT, "none of the %zu checkpoints in '%s' can be used; the warnings say why",
                    n_steps, path);
}

const char *muse_checkpoint_path(const MuseCheckpoint *checkpoint) { return checkpoint->path; }
const MuseRunState *muse_checkpoint_state(const MuseCheckpoint *checkpoint) { return &checkpoint->state; }

const MuseSafetensors *muse_checkpoint_file(const MuseCheckpoint *checkpoint, MuseTensorGroup group) {
  return group == MUSE_GROUP_MODEL ? checkpoint->model : checkpoint->train;
}

MuseStatus muse_checkpoint_find(const MuseCheckpoint *checkpoint, const MuseCheckpointTensor *tensor,
                                const MuseStoredTensor **out_stored, MuseDiag *diag) {
  const MuseSafetensors *file = muse_checkpoint_file(checkpoint, tensor->group);
  const MuseStoredTensor *found = muse_safetensors_find(file, tensor->name);
  MuseStoredTensor wanted = muse_stored_tensor(tensor->name, tensor->type, tensor->rank, tensor->shape, NULL);
  char wanted_text[200], found_text[200];
  muse_stored_tensor_describe(&wanted, wanted_text, sizeof wanted_text);
  if (!found)
    return muse_error(diag, MUSE_ERR_DATA, "'%s' has no tensor '%s' (%s); it was made by another plan",
                      muse_safetensors_path(file), tensor->name, wanted_text);
  muse_stored_tensor_describe(found, found_text, sizeof found_text);
  if (strcmp(wanted_text, found_text) != 0)
    return muse_error(diag, MUSE_ERR_DATA, "'%s': tensor '%s' is %s, the plan needs %s; it was made by another plan",
                      muse_safetensors_path(file), tensor->name, found_text, wanted_text);
  *out_stored = found;
  return MUSE_OK;
}

MuseStatus muse_checkpoint_restore(const MuseCheckpoint *checkpoint, const MuseCheckpointTensor *tensors,
                                   size_t n_tensors, MuseDiag *diag) {
  for (size_t i = 0; i < n_tensors; i++) {
    const MuseStoredTensor *found;
    MUSE_TRY(muse_checkpoint_find(checkpoint, &tensors[i], &found, diag));
    if (found->bytes) memcpy(tensors[i].data, found->data, found->bytes);
  }
  return MUSE_OK;
}
