// Writing checkpoints:
//   DIR/.step-N.tmp/{model,train}.safetensors, state.json   written and synced
//   DIR/step-N                                              the folder renamed: from here on the checkpoint exists
//   DIR/latest                                              then points to it, and old checkpoints go
// Everything that is being made or taken apart has a name with a leading dot, which no reader looks at; so a kill
// between any two steps leaves either the old or the new state, both whole.
#include "runtime/checkpoint.h"

#include "ir/base/io.h"
#include "runtime/checkpoint_dir.h"
#include "runtime/run_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void (*muse_checkpoint_test_hook)(const char *point);

static void reached(const char *point) {
  if (muse_checkpoint_test_hook) muse_checkpoint_test_hook(point);
}

// N of "step-N" (digits only, no leading zero), or -1.
int64_t muse_checkpoint_step_of(const char *name) {
  int64_t step;
  if (!muse_str_starts_with(name, "step-")) return -1;
  const char *digits = name + 5;
  if (!*digits || strspn(digits, "0123456789") != strlen(digits) || (digits[0] == '0' && digits[1])) return -1;
  return muse_parse_i64(digits, &step) ? step : -1;
}

static int descending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? 1 : x > y ? -1 : 0;
}

MuseStatus muse_checkpoint_list(const char *dir, MuseSteps *out_steps, MuseDiag *diag) {
  *out_steps = (MuseSteps){0};
  DIR *d = opendir(dir);
  if (!d)
    return muse_error(diag, MUSE_ERR_INPUT, "cannot open the checkpoint folder '%s': %s%s", dir, strerror(errno),
                      errno == ENOTDIR ? "; a .safetensors file goes to --params" : "");
  for (struct dirent *e; (e = readdir(d));) {
    int64_t step = muse_checkpoint_step_of(e->d_name);
    if (step >= 0) muse_vec_push(out_steps, step);
  }
  closedir(d);
  if (out_steps->len) qsort(out_steps->data, out_steps->len, sizeof *out_steps->data, descending);
  return MUSE_OK;
}

// What an interrupted save or removal left behind.
static MuseStatus remove_leftovers(const char *dir, MuseDiag *diag) {
  DIR *d = opendir(dir);
  if (!d) return muse_error(diag, MUSE_ERR_FAILED, "cannot open the checkpoint folder '%s': %s", dir, strerror(errno));
  MuseStatus status = MUSE_OK;
  for (struct dirent *e; status == MUSE_OK && (e = readdir(d));) {
    if (!muse_str_starts_with(e->d_name, ".step-")) continue;
    MuseStr path = {0};
    muse_str_appendf(&path, "%s/%s", dir, e->d_name);
    status = muse_remove_tree(path.data, diag);
    muse_str_free(&path);
  }
  closedir(d);
  return status;
}

// A tensor's bytes, piece by piece where they are elsewhere.
static MuseStatus append_tensor(MuseSafetensorsWriter *writer, const MuseCheckpointTensor *t, uint64_t bytes,
                                MuseDiag *diag) {
  enum { PIECE = 16 << 20 };
  if (t->data || bytes == 0) return muse_safetensors_writer_append(writer, t->data, bytes, diag);
  void *piece = malloc(PIECE);
  if (!piece) muse_out_of_memory(PIECE);
  MuseStatus status = MUSE_OK;
  for (uint64_t at = 0; at < bytes && status == MUSE_OK; at += PIECE) {
    size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
    status = t->read(t->context, t->index, (int64_t)at, piece, n, diag);
    if (status == MUSE_OK) status = muse_safetensors_writer_append(writer, piece, n, diag);
  }
  free(piece);
  return status;
}

static MuseStatus write_tensors(const char *path, const MuseCheckpointTensor *tensors, size_t n_tensors,
                                MuseTensorGroup group, const MuseStoredTensor *stored, size_t n_stored,
                                const MuseMetadata *metadata, size_t n_metadata, MuseHash *out_hash, MuseDiag *diag) {
  MuseSafetensorsWriter *writer;
  MUSE_TRY(muse_safetensors_writer_open(path, stored, n_stored, metadata, n_metadata, &writer, diag));
  for (size_t i = 0; i < n_tensors; i++) {
    if (tensors[i].group != group) continue;
    MuseStatus status = append_tensor(writer, &tensors[i], (stored++)->bytes, diag);
    if (status == MUSE_OK) continue;
    muse_safetensors_writer_abort(writer);
    return status;
  }
  return muse_safetensors_writer_finish(writer, out_hash, diag);
}

// One of the two tensor files, with its hash and size.
static MuseStatus write_group(const char *folder, const char *file, const MuseCheckpointTensor *tensors,
                              size_t n_tensors, MuseTensorGroup group, const MuseRunState *state,
                              MuseFileSeal *out_seal, MuseDiag *diag) {
  MuseStoredTensor *stored = calloc(n_tensors + 1, sizeof *stored);
  if (!stored) muse_out_of_memory(n_tensors * sizeof *stored);
  size_t n = 0;
  for (size_t i = 0; i < n_tensors; i++) {
    const MuseCheckpointTensor *t = &tensors[i];
    if (t->group == group) stored[n++] = muse_stored_tensor(t->name, t->type, t->rank, t->shape, t->data);
  }
  char step[32], plan[33];
  snprintf(step, sizeof step, "%llu", (unsigned long long)state->step);
  muse_hash_hex(state->plan_hash, plan);
  MuseMetadata metadata[] = {{"format", "muse"}, {"step", step}, {"plan_hash", plan}};
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/%s", folder, file);
  MuseStatus status =
      write_tensors(path.data, tensors, n_tensors, group, stored, n, metadata, 3, &out_seal->hash, diag);
  struct stat st;
  if (status == MUSE_OK && stat(path.data, &st) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot read the size of '%s': %s", path.data, strerror(errno));
  if (status == MUSE_OK) out_seal->bytes = (uint64_t)st.st_size;
  muse_str_free(&path);
  free(stored);
  return status;
}

static MuseStatus write_state(const char *folder, const MuseRunState *state, const MuseStateSeals *seals,
                              MuseDiag *diag) {
  MuseStr text = {0}, path = {0};
  muse_str_appendf(&path, "%s/state.json", folder);
  MuseStatus status = muse_run_state_print(state, seals, &text, diag);
  if (status == MUSE_OK) status = muse_write_file_atomic(path.data, text.data, text.len, diag);
  muse_str_free(&text);
  muse_str_free(&path);
  return status;
}

static MuseStatus fill_folder(const char *folder, const MuseRunState *state, const MuseCheckpointTensor *tensors,
                              size_t n_tensors, MuseDiag *diag) {
  MuseStateSeals seals;
  MUSE_TRY(muse_make_dirs(folder, 0777, diag));
  reached("folder made");
  MUSE_TRY(write_group(folder, "model.safetensors", tensors, n_tensors, MUSE_GROUP_MODEL, state, &seals.model, diag));
  reached("model written");
  MUSE_TRY(write_group(folder, "train.safetensors", tensors, n_tensors, MUSE_GROUP_TRAIN, state, &seals.train, diag));
  reached("train written");
  MUSE_TRY(write_state(folder, state, &seals, diag));
  reached("state written");
  MUSE_TRY(muse_sync_dir(folder, diag));
  reached("folder synced");
  return MUSE_OK;
}

static MuseStatus rename_or_fail(const char *from, const char *to, MuseDiag *diag) {
  if (rename(from, to) == 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_FAILED, "cannot rename '%s' to '%s': %s", from, to, strerror(errno));
}

// Moves the finished folder to its name. A checkpoint of the same step is swapped out in one move where the file system
// can do that, so that the name is never without a checkpoint.
static MuseStatus put_in_place(const char *dir, uint64_t step, const char *temporary, const char *final,
                               MuseDiag *diag) {
  if (access(final, F_OK) != 0) {
    MUSE_TRY(rename_or_fail(temporary, final, diag));
    reached("renamed");
    return MUSE_OK;
  }
  if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
    reached("exchanged");
    return muse_remove_tree(temporary, diag);
  }
  MuseStr old = {0};
  muse_str_appendf(&old, "%s/.step-%llu.old", dir, (unsigned long long)step);
  MuseStatus status = rename_or_fail(final, old.data, diag);
  if (status == MUSE_OK) status = rename_or_fail(temporary, final, diag);
  if (status == MUSE_OK) status = muse_remove_tree(old.data, diag);
  muse_str_free(&old);
  return status;
}

// All but the newest `keep` go. Checkpoints beyond this step belong to a history that the run has left (it was resumed
// from an earlier one): a later resume must not take them, but they are the user's, so they are renamed and not
// removed.
static MuseStatus prune(const char *dir, uint64_t step, int keep, MuseDiag *diag) {
  MuseSteps steps;
  MUSE_TRY(muse_checkpoint_list(dir, &steps, diag));
  MuseStatus status = MUSE_OK;
  int kept = 0;
  for (size_t i = 0; i < steps.len && status == MUSE_OK; i++) {
    MuseStr from = {0}, to = {0};
    muse_str_appendf(&from, "%s/step-%lld", dir, (long long)steps.data[i]);
    if ((uint64_t)steps.data[i] > step) {
      muse_str_appendf(&to, "%s/left-step-%lld", dir, (long long)steps.data[i]);
      status = muse_remove_tree(to.data, diag);
      if (status == MUSE_OK) status = rename_or_fail(from.data, to.data, diag);
      if (status == MUSE_OK)
        muse_note_at(diag, (MuseLoc){0}, "'%s' lies beyond step %llu, from which the run goes on; it is now '%s'",
                     from.data, (unsigned long long)step, to.data);
    } else if (keep > 0 && ++kept > keep) {
      muse_str_appendf(&to, "%s/.step-%lld.old", dir, (long long)steps.data[i]);
      status = rename_or_fail(from.data, to.data, diag);
      reached("old renamed");
      if (status == MUSE_OK) status = muse_remove_tree(to.data, diag);
    }
    muse_str_free(&from);
    muse_str_free(&to);
  }
  muse_vec_free(&steps);
  return status;
}

static MuseStatus point_latest(const char *dir, uint64_t step, MuseDiag *diag) {
  MuseStr path = {0};
  char text[40];
  int length = snprintf(text, sizeof text, "step-%llu\n", (unsigned long long)step);
  muse_str_appendf(&path, "%s/latest", dir);
  MuseStatus status = muse_write_file_atomic(path.data, text, (size_t)length, diag);
  muse_str_free(&path);
  return status;
}

MuseStatus muse_checkpoint_save(const char *dir, const MuseRunState *state, const MuseCheckpointTensor *tensors,
                                size_t n_tensors, int keep, MuseDiag *diag) {
  MUSE_TRY(muse_make_dirs(dir, 0777, diag));
  MUSE_TRY(remove_leftovers(dir, diag));
  reached("leftovers removed");
  MuseStr temporary = {0}, final = {0};
  muse_str_appendf(&temporary, "%s/.step-%llu.tmp", dir, (unsigned long long)state->step);
  muse_str_appendf(&final, "%s/step-%llu", dir, (unsigned long long)state->step);
  MuseStatus status = fill_folder(temporary.data, state, tensors, n_tensors, diag);
  if (status == MUSE_OK) {
    status = put_in_place(dir, state->step, temporary.data, final.data, diag);
  } else {
    // The disk may be full: give back what the half-made folder took. The first error is the one to report.
    MuseDiag *unused = muse_diag_create();
    muse_remove_tree(temporary.data, unused);
    muse_diag_destroy(unused);
  }
  muse_str_free(&temporary);
  muse_str_free(&final);
  MUSE_TRY(status);
  MUSE_TRY(muse_sync_dir(dir, diag));
  reached("directory synced");
  MUSE_TRY(point_latest(dir, state->step, diag));
  reached("latest moved");
  MUSE_TRY(prune(dir, state->step, keep, diag));
  reached("pruned");
  return MUSE_OK;
}
