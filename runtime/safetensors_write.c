// Writer of safetensors files: header first, then the tensors' bytes as they come, renamed into place at the end.
#include "ir/base/io.h"
#include "ir/base/str.h"
#include "runtime/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct MuseSafetensorsWriter {
  MuseAtomicFile file;
  MuseHasher *hasher;
  uint64_t expected, written; // bytes of tensor data
};

static MuseStatus put(MuseSafetensorsWriter *w, const void *data, size_t bytes, MuseDiag *diag) {
  if (bytes && fwrite(data, 1, bytes, w->file.file) != bytes)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", w->file.path, strerror(errno));
  muse_hasher_update(w->hasher, data, bytes);
  return MUSE_OK;
}

// The header as JSON, padded with blanks so that the data starts at a multiple of 64 bytes.
static MuseStatus header_text(const char *path, const MuseStoredTensor *tensors, size_t n_tensors,
                              const MuseMetadata *metadata, size_t n_metadata, MuseStr *out, MuseDiag *diag) {
  MuseStatus status = MUSE_OK;
  json_t *header = json_object();
  if (n_metadata) {
    json_t *texts = json_object();
    for (size_t i = 0; i < n_metadata; i++) {
      if (json_object_set_new(texts, metadata[i].key, json_string(metadata[i].value)) != 0)
        status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': metadata '%s' is not UTF-8", path,
                            metadata[i].key);
    }
    json_object_set_new(header, "__metadata__", texts);
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < n_tensors && status == MUSE_OK; i++) {
    const MuseStoredTensor *t = &tensors[i];
    if (json_object_get(header, t->name)) {
      status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': two tensors are called '%s'", path, t->name);
      break;
    }
    json_t *shape = json_array();
    for (int d = 0; d < t->rank; d++) json_array_append_new(shape, json_integer(t->shape[d]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", muse_stored_type_name(t->type), "shape", shape,
                              "data_offsets", (json_int_t)offset, (json_int_t)(offset + t->bytes));
    if (!entry || json_object_set_new(header, t->name, entry) != 0)
      status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': the tensor name '%s' is not UTF-8", path, t->name);
    offset += t->bytes;
  }
  char *text = status == MUSE_OK ? json_dumps(header, JSON_COMPACT) : NULL;
  json_decref(header);
  if (!text) return status;
  muse_str_append(out, text);
  free(text);
  while ((8 + out->len) % 64) muse_str_append(out, " ");
  return MUSE_OK;
}

MuseStatus muse_safetensors_writer_open(const char *path, const MuseStoredTensor *tensors, size_t n_tensors,
                                        const MuseMetadata *metadata, size_t n_metadata,
                                        MuseSafetensorsWriter **out_writer, MuseDiag *diag) {
  *out_writer = NULL;
  MuseStr header = {0};
  MuseStatus status = header_text(path, tensors, n_tensors, metadata, n_metadata, &header, diag);
  if (status != MUSE_OK) {
    muse_str_free(&header);
    return status;
  }
  MuseSafetensorsWriter *w = calloc(1, sizeof *w);
  MUSE_ASSERT(w);
  status = muse_atomic_open(path, &w->file, diag);
  if (status != MUSE_OK) {
    muse_str_free(&header);
    free(w);
    return status;
  }
  w->hasher = muse_hasher_create();
  for (size_t i = 0; i < n_tensors; i++) w->expected += tensors[i].bytes;
  uint64_t length = header.len;
  status = put(w, &length, 8, diag);
  if (status == MUSE_OK) status = put(w, header.data, header.len, diag);
  muse_str_free(&header);
  if (status != MUSE_OK) {
    muse_safetensors_writer_abort(w);
    return status;
  }
  *out_writer = w;
  return MUSE_OK;
}

MuseStatus muse_safetensors_writer_append(MuseSafetensorsWriter *writer, const void *data, uint64_t bytes,
                                          MuseDiag *diag) {
  MUSE_ASSERT(bytes <= writer->expected - writer->written);
  MUSE_TRY(put(writer, data, bytes, diag));
  writer->written += bytes;
  return MUSE_OK;
}

MuseHash muse_safetensors_writer_digest(const MuseSafetensorsWriter *writer) {
  return muse_hasher_digest(writer->hasher);
}

static void destroy(MuseSafetensorsWriter *w) {
  if (w->hasher) muse_hasher_finish(w->hasher);
  free(w);
}

MuseStatus muse_safetensors_writer_finish(MuseSafetensorsWriter *writer, MuseHash *out_hash, MuseDiag *diag) {
  MUSE_ASSERT(writer->written == writer->expected);
  MuseHash hash = muse_hasher_finish(writer->hasher);
  writer->hasher = NULL;
  if (out_hash) *out_hash = hash;
  MuseStatus status = muse_atomic_finish(&writer->file, diag);
  destroy(writer);
  return status;
}

void muse_safetensors_writer_abort(MuseSafetensorsWriter *writer) {
  if (!writer) return;
  muse_atomic_abort(&writer->file);
  destroy(writer);
}

MuseStatus muse_safetensors_write(const char *path, const MuseStoredTensor *tensors, size_t n_tensors,
                                  const MuseMetadata *metadata, size_t n_metadata, MuseHash *out_hash, MuseDiag *diag) {
  MuseSafetensorsWriter *writer;
  MUSE_TRY(muse_safetensors_writer_open(path, tensors, n_tensors, metadata, n_metadata, &writer, diag));
  for (size_t i = 0; i < n_tensors; i++) {
    MuseStatus status = muse_safetensors_writer_append(writer, tensors[i].data, tensors[i].bytes, diag);
    if (status != MUSE_OK) {
      muse_safetensors_writer_abort(writer);
      return status;
    }
  }
  return muse_safetensors_writer_finish(writer, out_hash, diag);
}
