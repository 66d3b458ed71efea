#ifndef MUSE_RUNTIME_SAFETENSORS_H
#define MUSE_RUNTIME_SAFETENSORS_H

#include "ir/base/diag.h"
#include "ir/base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Safetensors files: u64 header length, JSON header, raw little-endian tensors
// (https://github.com/huggingface/safetensors). The reader trusts nothing: a damaged file is refused with one sentence
// that names the file and the tensor.

typedef enum MuseStoredType {
  MUSE_STORED_F64,
  MUSE_STORED_F32,
  MUSE_STORED_F16,
  MUSE_STORED_BF16,
  MUSE_STORED_I64,
  MUSE_STORED_I32,
  MUSE_STORED_I16,
  MUSE_STORED_I8,
  MUSE_STORED_U8,
  MUSE_STORED_BOOL,
  MUSE_N_STORED_TYPES
} MuseStoredType;

const char *muse_stored_type_name(MuseStoredType type); // "F32"
int muse_stored_type_bytes(MuseStoredType type);
bool muse_stored_type_parse(const char *name, MuseStoredType *out_type);

#define MUSE_STORED_MAX_RANK 8

// One tensor of a file, or one to be written. `data` may be unaligned when it points into a file.
typedef struct MuseStoredTensor {
  const char *name;
  MuseStoredType type;
  int rank;
  int64_t shape[MUSE_STORED_MAX_RANK];
  int64_t count;    // product of shape
  uint64_t bytes;   // count * size of an element
  const void *data; // row-major, little endian
} MuseStoredTensor;

// Fills count and bytes from name, type, rank and shape; data is set to `data`. Aborts on an overflowing shape.
MuseStoredTensor muse_stored_tensor(const char *name, MuseStoredType type, int rank, const int64_t *shape,
                                    const void *data);
// "F32 [4,8]" into a buffer, for messages.
void muse_stored_tensor_describe(const MuseStoredTensor *tensor, char *out_text, size_t size);

typedef struct MuseSafetensors MuseSafetensors;

// Maps the file read-only and checks its whole header. MUSE_ERR_INPUT for a bad file, MUSE_ERR_FAILED for I/O errors.
MuseStatus muse_safetensors_open(const char *path, MuseSafetensors **out_file, MuseDiag *diag);
// The same over bytes in memory that stay alive until close; `path` is used in messages only.
MuseStatus muse_safetensors_parse(const char *path, const void *bytes, uint64_t size, MuseSafetensors **out_file,
                                  MuseDiag *diag);
void muse_safetensors_close(MuseSafetensors *file); // NULL is allowed; views die with the file

size_t muse_safetensors_count(const MuseSafetensors *file);
const MuseStoredTensor *muse_safetensors_at(const MuseSafetensors *file, size_t index); // in the order of their bytes
const MuseStoredTensor *muse_safetensors_find(const MuseSafetensors *file, const char *name); // NULL when absent
// find, or MUSE_ERR_INPUT with the nearest name of the file.
MuseStatus muse_safetensors_get(const MuseSafetensors *file, const char *name, const MuseStoredTensor **out_tensor,
                                MuseDiag *diag);
const char *muse_safetensors_metadata(const MuseSafetensors *file, const char *key); // NULL when absent
const char *muse_safetensors_path(const MuseSafetensors *file);
// XXH3-128 of all bytes of the file; of its first bytes, up to where this tensor lies.
MuseHash muse_safetensors_hash(const MuseSafetensors *file);
MuseHash muse_safetensors_hash_before(const MuseSafetensors *file, const MuseStoredTensor *tensor);
// A tensor of a mapped file that is not needed soon: its memory is given back, its data stays readable.
void muse_safetensors_release(const MuseSafetensors *file, const MuseStoredTensor *tensor);

// Copies `count` elements from element `first` on, as f32: F64 (rounded), F32, F16, BF16. Others: MUSE_ERR_INPUT.
MuseStatus muse_stored_read_f32(const MuseStoredTensor *tensor, int64_t first, int64_t count, float *out,
                                MuseDiag *diag);
// The same as i32: I64 (must fit), I32, I16, I8, U8, BOOL. Others, and values that do not fit: MUSE_ERR_INPUT.
MuseStatus muse_stored_read_i32(const MuseStoredTensor *tensor, int64_t first, int64_t count, int32_t *out,
                                MuseDiag *diag);

typedef struct MuseMetadata { const char *key, *value; } MuseMetadata;

// Streaming writer: all tensors are declared at open (their `data` is not looked at), then their bytes follow in the
// declared order, in pieces of any size. The file appears under its name only when finish succeeds.
typedef struct MuseSafetensorsWriter MuseSafetensorsWriter;
MuseStatus muse_safetensors_writer_open(const char *path, const MuseStoredTensor *tensors, size_t n_tensors,
                                        const MuseMetadata *metadata, size_t n_metadata,
                                        MuseSafetensorsWriter **out_writer, MuseDiag *diag);
MuseStatus muse_safetensors_writer_append(MuseSafetensorsWriter *writer, const void *data, uint64_t bytes,
                                          MuseDiag *diag);
// XXH3-128 of everything written so far, header included.
MuseHash muse_safetensors_writer_digest(const MuseSafetensorsWriter *writer);
// Syncs and renames; destroys the writer in every case. Exactly the declared bytes must have been appended.
// out_hash (may be NULL): XXH3-128 of the whole file.
MuseStatus muse_safetensors_writer_finish(MuseSafetensorsWriter *writer, MuseHash *out_hash, MuseDiag *diag);
void muse_safetensors_writer_abort(MuseSafetensorsWriter *writer);

// All at once, from the tensors' data.
MuseStatus muse_safetensors_write(const char *path, const MuseStoredTensor *tensors, size_t n_tensors,
                                  const MuseMetadata *metadata, size_t n_metadata, MuseHash *out_hash, MuseDiag *diag);

#endif
