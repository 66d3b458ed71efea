// Reader of safetensors files. The header comes from outside: every number in it is checked before it is used.
#include "runtime/safetensors.h"

#include "ir/base/checked.h"
#include "ir/base/str.h"
#include "runtime/mapped_file.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little endian and are used as they lie");

// A header needs about 120 bytes a tensor; the limit bounds what the JSON parser can be made to allocate.
#define MAX_HEADER_BYTES (16u << 20)

static const struct {
  const char *name;
  int bytes;
} stored_types[MUSE_N_STORED_TYPES] = {
    [MUSE_STORED_F64] = {"F64", 8}, [MUSE_STORED_F32] = {"F32", 4}, [MUSE_STORED_F16] = {"F16", 2},
    [MUSE_STORED_BF16] = {"BF16", 2}, [MUSE_STORED_I64] = {"I64", 8}, [MUSE_STORED_I32] = {"I32", 4},
    [MUSE_STORED_I16] = {"I16", 2}, [MUSE_STORED_I8] = {"I8", 1}, [MUSE_STORED_U8] = {"U8", 1},
    [MUSE_STORED_BOOL] = {"BOOL", 1},
};

const char *muse_stored_type_name(MuseStoredType type) { return stored_types[type].name; }
int muse_stored_type_bytes(MuseStoredType type) { return stored_types[type].bytes; }

bool muse_stored_type_parse(const char *name, MuseStoredType *out_type) {
  for (int i = 0; i < MUSE_N_STORED_TYPES; i++) {
    if (strcmp(name, stored_types[i].name) == 0) {
      *out_type = (MuseStoredType)i;
      return true;
    }
  }
  return false;
}

// Sets count and bytes from type and shape; false when they overflow.
static bool set_size(MuseStoredTensor *t) {
  int64_t count = 1, bytes;
  for (int i = 0; i < t->rank; i++) {
    if (!muse_mul_size_i64(count, t->shape[i], &count)) return false;
  }
  if (!muse_mul_size_i64(count, stored_types[t->type].bytes, &bytes)) return false;
  t->count = count;
  t->bytes = (uint64_t)bytes;
  return true;
}

MuseStoredTensor muse_stored_tensor(const char *name, MuseStoredType type, int rank, const int64_t *shape,
                                    const void *data) {
  MuseStoredTensor t = {.name = name, .type = type, .rank = rank, .data = data};
  MUSE_ASSERT(rank >= 0 && rank <= MUSE_STORED_MAX_RANK);
  for (int i = 0; i < rank; i++) t.shape[i] = shape[i];
  MUSE_ASSERT(set_size(&t));
  return t;
}

void muse_stored_tensor_describe(const MuseStoredTensor *tensor, char *out_text, size_t size) {
  MuseStr s = {0};
  muse_str_appendf(&s, "%s [", muse_stored_type_name(tensor->type));
  for (int i = 0; i < tensor->rank; i++) muse_str_appendf(&s, "%s%lld", i ? "," : "", (long long)tensor->shape[i]);
  muse_str_append(&s, "]");
  snprintf(out_text, size, "%s", muse_str_text(&s));
  muse_str_free(&s);
}

struct MuseSafetensors {
  char *path;
  MuseMappedFile mapped; // zeroed when the bytes belong to the caller
  const uint8_t *bytes;
  uint64_t size;
  json_t *header;        // keeps the names and metadata alive
  MuseStoredTensor *tensors;
  size_t n_tensors;
  MuseMap *by_name;
};

void muse_safetensors_close(MuseSafetensors *file) {
  if (!file) return;
  muse_unmap_file(&file->mapped);
  json_decref(file->header);
  muse_map_destroy(file->by_name);
  free(file->tensors);
  free(file->path);
  free(file);
}

// A header entry's "shape" into the tensor. Names: `path` the file, t->name the tensor.
static MuseStatus parse_shape(const char *path, const json_t *shape, MuseStoredTensor *t, MuseDiag *diag) {
  if (!json_is_array(shape))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': tensor '%s' has no \"shape\" list", path, t->name);
  size_t rank = json_array_size(shape);
  if (rank > MUSE_STORED_MAX_RANK)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': tensor '%s' has %zu dimensions; at most %d are supported", path,
                      t->name, rank, MUSE_STORED_MAX_RANK);
  t->rank = (int)rank;
  for (size_t i = 0; i < rank; i++) {
    const json_t *extent = json_array_get(shape, i);
    if (!json_is_integer(extent) || json_integer_value(extent) < 0)
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': dimension %zu of tensor '%s' is not a whole number of at least 0",
                        path, i, t->name);
    t->shape[i] = json_integer_value(extent);
  }
  return MUSE_OK;
}

static MuseStatus parse_tensor(const char *path, const json_t *entry, const uint8_t *data, uint64_t data_bytes,
                               MuseStoredTensor *t, MuseDiag *diag) {
  if (!json_is_object(entry))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the entry of tensor '%s' is not an object", path, t->name);
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  if (!dtype) return muse_error(diag, MUSE_ERR_INPUT, "'%s': tensor '%s' has no \"dtype\" text", path, t->name);
  if (!muse_stored_type_parse(dtype, &t->type))
    return muse_error(
        diag, MUSE_ERR_INPUT,
        "'%s': tensor '%s' has the unsupported dtype '%s'; supported are F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL", path,
        t->name, dtype);
  MUSE_TRY(parse_shape(path, json_object_get(entry, "shape"), t, diag));
  if (!set_size(t))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the size of tensor '%s' overflows 64 bits", path, t->name);
  const json_t *offsets = json_object_get(entry, "data_offsets");
  const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': tensor '%s' has no \"data_offsets\" pair of whole numbers", path,
                      t->name);
  int64_t begin = json_integer_value(first), end = json_integer_value(last);
  if (begin < 0 || end < begin)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the data_offsets [%lld, %lld] of tensor '%s' are out of order", path,
                      (long long)begin, (long long)end, t->name);
  if ((uint64_t)end > data_bytes)
    return muse_error(
        diag, MUSE_ERR_INPUT,
        "'%s': tensor '%s' ends at byte %lld but the file holds %llu bytes of data; it was probably cut short", path,
        t->name, (long long)end, (unsigned long long)data_bytes);
  if ((uint64_t)(end - begin) != t->bytes) {
    char text[256];
    muse_stored_tensor_describe(t, text, sizeof text);
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': tensor '%s' is %s, %llu bytes, but its data_offsets span %lld", path,
                      t->name, text, (unsigned long long)t->bytes, (long long)(end - begin));
  }
  t->data = data + begin;
  return MUSE_OK;
}

static int by_place(const void *a, const void *b) {
  const MuseStoredTensor *x = a, *y = b;
  if (x->data != y->data) return x->data < y->data ? -1 : 1;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
  return strcmp(x->name, y->name);
}

// After sorting: the tensors must lie one behind the other and cover the data, as the format demands.
static MuseStatus check_cover(const MuseSafetensors *file, const uint8_t *data, uint64_t data_bytes, MuseDiag *diag) {
  uint64_t end = 0;
  for (size_t i = 0; i < file->n_tensors; i++) {
    const MuseStoredTensor *t = &file->tensors[i];
    uint64_t begin = (uint64_t)((const uint8_t *)t->data - data);
    if (begin < end)
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': the bytes of tensors '%s' and '%s' overlap", file->path,
                        file->tensors[i - 1].name, t->name);
    if (begin > end)
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': %llu bytes before tensor '%s' belong to no tensor", file->path,
                        (unsigned long long)(begin - end), t->name);
    end = begin + t->bytes;
  }
  if (end != data_bytes)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': %llu bytes after the last tensor belong to no tensor", file->path,
                      (unsigned long long)(data_bytes - end));
  return MUSE_OK;
}

static MuseStatus check_metadata(const char *path, const json_t *metadata, MuseDiag *diag) {
  if (!json_is_object(metadata)) return muse_error(diag, MUSE_ERR_INPUT, "'%s': __metadata__ is not an object", path);
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)metadata, key, value) {
    if (!json_is_string(value))
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': the value of '%s' in __metadata__ is not text", path, key);
  }
  return MUSE_OK;
}

static MuseStatus parse_file(MuseSafetensors *file, MuseDiag *diag) {
  uint64_t length;
  if (file->size < 8)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has %llu bytes, too few for a safetensors file", file->path,
                      (unsigned long long)file->size);
  memcpy(&length, file->bytes, 8);
  if (length > MAX_HEADER_BYTES || length > file->size - 8)
    return muse_error(
        diag, MUSE_ERR_INPUT,
        "'%s' is not a safetensors file: its header would have %llu bytes (the file has %llu, the limit is %u)",
        file->path, (unsigned long long)length, (unsigned long long)file->size, MAX_HEADER_BYTES);
  json_error_t error;
  file->header = json_loadb((const char *)file->bytes + 8, length, JSON_REJECT_DUPLICATES, &error);
  if (!file->header)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the header is not valid JSON: %s, at its byte %d", file->path,
                      error.text, error.position);
  if (!json_is_object(file->header))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s': the header is not a JSON object", file->path);

  const uint8_t *data = file->bytes + 8 + length;
  uint64_t data_bytes = file->size - 8 - length;
  size_t n = json_object_size(file->header);
  file->tensors = calloc(n ? n : 1, sizeof *file->tensors);
  MUSE_ASSERT(file->tensors);
  const char *name;
  json_t *entry;
  json_object_foreach(file->header, name, entry) {
    if (strcmp(name, "__metadata__") == 0) {
      MUSE_TRY(check_metadata(file->path, entry, diag));
      continue;
    }
    MuseStoredTensor *t = &file->tensors[file->n_tensors++];
    t->name = name;
    MUSE_TRY(parse_tensor(file->path, entry, data, data_bytes, t, diag));
  }
  qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_place);
  MUSE_TRY(check_cover(file, data, data_bytes, diag));
  file->by_name = muse_map_create();
  for (size_t i = 0; i < file->n_tensors; i++) muse_map_put(file->by_name, file->tensors[i].name, &file->tensors[i]);
  return MUSE_OK;
}

static MuseSafetensors *new_file(const char *path) {
  MuseSafetensors *file = calloc(1, sizeof *file);
  MUSE_ASSERT(file);
  file->path = strdup(path);
  return file;
}

static MuseStatus finish_open(MuseSafetensors *file, MuseSafetensors **out_file, MuseDiag *diag) {
  MuseStatus status = parse_file(file, diag);
  if (status != MUSE_OK) {
    muse_safetensors_close(file);
    return status;
  }
  *out_file = file;
  return MUSE_OK;
}

MuseStatus muse_safetensors_open(const char *path, MuseSafetensors **out_file, MuseDiag *diag) {
  *out_file = NULL;
  MuseMappedFile mapped;
  MUSE_TRY(muse_map_file(path, &mapped, diag));
  MuseSafetensors *file = new_file(path);
  file->mapped = mapped;
  file->bytes = mapped.data;
  file->size = mapped.size;
  return finish_open(file, out_file, diag);
}

MuseStatus muse_safetensors_parse(const char *path, const void *bytes, uint64_t size, MuseSafetensors **out_file,
                                  MuseDiag *diag) {
  *out_file = NULL;
  MuseSafetensors *file = new_file(path);
  file->bytes = bytes;
  file->size = size;
  return finish_open(file, out_file, diag);
}

size_t muse_safetensors_count(const MuseSafetensors *file) { return file->n_tensors; }

const MuseStoredTensor *muse_safetensors_at(const MuseSafetensors *file, size_t index) {
  MUSE_ASSERT(index < file->n_tensors);
  return &file->tensors[index];
}

const MuseStoredTensor *muse_safetensors_find(const MuseSafetensors *file, const char *name) {
  return muse_map_get(file->by_name, name);
}

MuseStatus muse_safetensors_get(const MuseSafetensors *file, const char *name, const MuseStoredTensor **out_tensor,
                                MuseDiag *diag) {
  *out_tensor = muse_safetensors_find(file, name);
  if (*out_tensor) return MUSE_OK;
  const char **names = calloc(file->n_tensors + 1, sizeof *names);
  MUSE_ASSERT(names);
  for (size_t i = 0; i < file->n_tensors; i++) names[i] = file->tensors[i].name;
  const char *near = muse_str_nearest(name, names, file->n_tensors);
  MuseStatus status = near ? muse_error(diag, MUSE_ERR_INPUT, "'%s' has no tensor '%s'; the nearest name is '%s'",
                                        file->path, name, near)
                           : muse_error(diag, MUSE_ERR_INPUT, "'%s' has no tensor '%s' (it holds %zu others)",
                                        file->path, name, file->n_tensors);
  free(names);
  return status;
}

const char *muse_safetensors_metadata(const MuseSafetensors *file, const char *key) {
  return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

const char *muse_safetensors_path(const MuseSafetensors *file) { return file->path; }

// Piece by piece, so that a file that is larger than the memory does not fill it.
static MuseHash hash_first(const MuseSafetensors *file, uint64_t bytes) {
  const uint64_t piece = 64u << 20;
  MuseHasher *hasher = muse_hasher_create();
  for (uint64_t at = 0; at < bytes; at += piece) {
    uint64_t n = bytes - at < piece ? bytes - at : piece;
    muse_hasher_update(hasher, file->bytes + at, n);
    if (bytes > 4 * piece) muse_release_mapped(&file->mapped, at, n);
  }
  return muse_hasher_finish(hasher);
}

MuseHash muse_safetensors_hash(const MuseSafetensors *file) { return hash_first(file, file->size); }

MuseHash muse_safetensors_hash_before(const MuseSafetensors *file, const MuseStoredTensor *tensor) {
  return hash_first(file, (uint64_t)((const uint8_t *)tensor->data - file->bytes));
}

void muse_safetensors_release(const MuseSafetensors *file, const MuseStoredTensor *tensor) {
  muse_release_mapped(&file->mapped, (uint64_t)((const uint8_t *)tensor->data - file->bytes), tensor->bytes);
}

// IEEE binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
static float f16_to_f32(uint16_t h) {
  int exponent = h >> 10 & 31, fraction = h & 1023;
  float x;
  if (exponent == 31) {
    uint32_t bits = 0x7f800000u | (uint32_t)fraction << 13;
    memcpy(&x, &bits, 4);
  } else {
    x = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
  }
  return h & 0x8000 ? -x : x;
}

// bfloat16 is the upper half of a binary32.
static float bf16_to_f32(uint16_t b) {
  uint32_t bits = (uint32_t)b << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

MuseStatus muse_stored_read_f32(const MuseStoredTensor *tensor, int64_t first, int64_t count, float *out,
                                MuseDiag *diag) {
  MUSE_ASSERT(first >= 0 && count >= 0 && first <= tensor->count && count <= tensor->count - first);
  const uint8_t *p = (const uint8_t *)tensor->data + first * stored_types[tensor->type].bytes;
  uint16_t half;
  double wide;
  switch (tensor->type) {
  case MUSE_STORED_F32: memcpy(out, p, (size_t)count * 4); return MUSE_OK;
  case MUSE_STORED_F64:
    for (int64_t i = 0; i < count; i++) memcpy(&wide, p + 8 * i, 8), out[i] = (float)wide;
    return MUSE_OK;
  case MUSE_STORED_F16:
    for (int64_t i = 0; i < count; i++) memcpy(&half, p + 2 * i, 2), out[i] = f16_to_f32(half);
    return MUSE_OK;
  case MUSE_STORED_BF16:
    for (int64_t i = 0; i < count; i++) memcpy(&half, p + 2 * i, 2), out[i] = bf16_to_f32(half);
    return MUSE_OK;
  default: break;
  }
  return muse_error(diag, MUSE_ERR_INPUT,
                    "tensor '%s' is %s where floating point numbers (F64, F32, F16, BF16) are needed", tensor->name,
                    muse_stored_type_name(tensor->type));
}

MuseStatus muse_stored_read_i32(const MuseStoredTensor *tensor, int64_t first, int64_t count, int32_t *out,
                                MuseDiag *diag) {
  MUSE_ASSERT(first >= 0 && count >= 0 && first <= tensor->count && count <= tensor->count - first);
  const uint8_t *p = (const uint8_t *)tensor->data + first * stored_types[tensor->type].bytes;
  int16_t narrow;
  int64_t wide;
  switch (tensor->type) {
  case MUSE_STORED_I32: memcpy(out, p, (size_t)count * 4); return MUSE_OK;
  case MUSE_STORED_I64:
    for (int64_t i = 0; i < count; i++) {
      memcpy(&wide, p + 8 * i, 8);
      if (wide < INT32_MIN || wide > INT32_MAX)
        return muse_error(diag, MUSE_ERR_INPUT, "element %lld of tensor '%s' is %lld, which is no token id",
                          (long long)(first + i), tensor->name, (long long)wide);
      out[i] = (int32_t)wide;
    }
    return MUSE_OK;
  case MUSE_STORED_I16:
    for (int64_t i = 0; i < count; i++) memcpy(&narrow, p + 2 * i, 2), out[i] = narrow;
    return MUSE_OK;
  case MUSE_STORED_I8:
    for (int64_t i = 0; i < count; i++) out[i] = (int8_t)p[i];
    return MUSE_OK;
  case MUSE_STORED_U8:
  case MUSE_STORED_BOOL:
    for (int64_t i = 0; i < count; i++) out[i] = p[i];
    return MUSE_OK;
  default: break;
  }
  return muse_error(diag, MUSE_ERR_INPUT, "tensor '%s' is %s where whole numbers (I64, I32, I16, I8, U8) are needed",
                    tensor->name, muse_stored_type_name(tensor->type));
}
