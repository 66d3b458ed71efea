// Checkpoints of a session: at once where the device is the host, else from a snapshot, by a thread of its own.
#include "runtime/params.h"

#include "ir/base/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct MuseSaving {
  pthread_t thread;
  char *dir;
  MuseRunState state;
  MuseTensorList tensors;
  MuseSnapshot *snapshot;
  int keep;
  MuseStatus status;
  MuseDiag *diag;
};

static MuseStatus read_snapshot(void *context, int index, int64_t offset, void *out, size_t bytes, MuseDiag *diag) {
  return muse_snapshot_read(context, index, offset, out, bytes, diag);
}

static void *write_files(void *context) {
  MuseSaving *s = context;
  s->status = muse_checkpoint_save(s->dir, &s->state, s->tensors.data, s->tensors.len, s->keep, s->diag);
  return NULL;
}

static void destroy(MuseSaving *s) {
  muse_snapshot_destroy(s->snapshot);
  muse_vec_free(&s->tensors);
  muse_diag_destroy(s->diag);
  free(s->dir);
  free(s);
}

MuseStatus muse_params_save_finish(MuseSaving **saving, MuseDiag *diag) {
  MuseSaving *s = *saving;
  if (!s) return MUSE_OK;
  *saving = NULL;
  pthread_join(s->thread, NULL);
  MuseStatus status = s->status;
  for (size_t i = 0; muse_diag_message(s->diag, i); i++) {
    if (muse_diag_severity(s->diag, i) == MUSE_ERROR) muse_error(diag, status, "%s", muse_diag_message(s->diag, i));
    else muse_note_at(diag, (MuseLoc){0}, "%s", muse_diag_message(s->diag, i));
  }
  destroy(s);
  return status;
}

// The snapshot's buffers are the tensors, in their order.
static MuseStatus take_snapshot(MuseSession *session, MuseSaving *s, MuseDiag *diag) {
  const MuseBuffer **buffers = calloc(s->tensors.len + 1, sizeof *buffers);
  if (!buffers) muse_out_of_memory(s->tensors.len * sizeof *buffers);
  for (size_t i = 0; i < s->tensors.len; i++)
    buffers[i] = muse_module_buffer(session->module, s->tensors.data[i].name);
  MuseStatus status =
      muse_executor_snapshot(session->executor, buffers, (int)s->tensors.len, &s->snapshot, diag);
  free(buffers);
  for (size_t i = 0; i < s->tensors.len; i++) {
    s->tensors.data[i].read = read_snapshot;
    s->tensors.data[i].context = s->snapshot;
    s->tensors.data[i].index = (int)i;
  }
  return status;
}

MuseStatus muse_params_save(MuseSession *session, const char *dir, const MuseRunState *state,
                            const MuseTensorList *tensors, int keep, MuseSaving **saving, MuseDiag *diag) {
  MUSE_TRY(muse_params_save_finish(saving, diag));
  if (tensors->len == 0 || tensors->data[0].data)
    return muse_checkpoint_save(dir, state, tensors->data, tensors->len, keep, diag);
  MuseSaving *s = calloc(1, sizeof *s);
  if (!s) muse_out_of_memory(sizeof *s);
  s->state = *state;
  s->keep = keep;
  s->dir = strdup(dir);
  s->diag = muse_diag_create();
  MUSE_ASSERT(s->dir != NULL);
  for (size_t i = 0; i < tensors->len; i++) muse_vec_push(&s->tensors, tensors->data[i]);
  MuseStatus status = take_snapshot(session, s, diag);
  if (status == MUSE_OK && pthread_create(&s->thread, NULL, write_files, s) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "a thread for the checkpoint cannot be started");
  if (status != MUSE_OK) {
    destroy(s);
    return status;
  }
  *saving = s;
  return MUSE_OK;
}
