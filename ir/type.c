// Tensor types: names, sizes, broadcasting, printing.
#include "ir/type.h"

#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <string.h>

typedef struct DtypeRow {
  const char *name;
  int bytes; // of one element; 0 for trits
} DtypeRow;

static const DtypeRow dtype_rows[MUSE_N_DTYPES] = {
    [MUSE_F32] = {"f32", 4}, [MUSE_BF16] = {"bf16", 2}, [MUSE_F16] = {"f16", 2}, [MUSE_F64] = {"f64", 8},
    [MUSE_I8] = {"i8", 1},   [MUSE_U8] = {"u8", 1},     [MUSE_I32] = {"i32", 4}, [MUSE_U32] = {"u32", 4},
    [MUSE_I64] = {"i64", 8}, [MUSE_BOOL] = {"bool", 1}, [MUSE_T2] = {"t2", 0},   [MUSE_T5] = {"t5", 0},
};

const char *muse_dtype_name(MuseDtype dtype) {
  MUSE_ASSERT((unsigned)dtype < MUSE_N_DTYPES);
  return dtype_rows[dtype].name;
}

bool muse_dtype_from_name(const char *name, size_t length, MuseDtype *out) {
  for (int d = 0; d < MUSE_N_DTYPES; d++) {
    if (strlen(dtype_rows[d].name) == length && memcmp(dtype_rows[d].name, name, length) == 0) {
      *out = (MuseDtype)d;
      return true;
    }
  }
  return false;
}

bool muse_dtype_is_float(MuseDtype dtype) {
  return dtype == MUSE_F32 || dtype == MUSE_BF16 || dtype == MUSE_F16 || dtype == MUSE_F64;
}

bool muse_dtype_is_int(MuseDtype dtype) {
  return dtype == MUSE_I8 || dtype == MUSE_U8 || dtype == MUSE_I32 || dtype == MUSE_U32 || dtype == MUSE_I64;
}

bool muse_dtype_is_trit(MuseDtype dtype) { return dtype == MUSE_T2 || dtype == MUSE_T5; }

int64_t muse_dtype_bytes(MuseDtype dtype) {
  MUSE_ASSERT((unsigned)dtype < MUSE_N_DTYPES && !muse_dtype_is_trit(dtype));
  return dtype_rows[dtype].bytes;
}

MuseType muse_type(MuseDtype dtype, int rank, const int64_t *dim) {
  MUSE_ASSERT(rank >= 0 && rank <= MUSE_MAX_RANK);
  MuseType type = {.dtype = dtype, .rank = rank};
  for (int i = 0; i < rank; i++) type.dim[i] = dim[i];
  return type;
}

MuseType muse_scalar_type(MuseDtype dtype) { return muse_type(dtype, 0, NULL); }
MuseType muse_type1(MuseDtype dtype, int64_t d0) { return muse_type(dtype, 1, (int64_t[]){d0}); }
MuseType muse_type2(MuseDtype dtype, int64_t d0, int64_t d1) { return muse_type(dtype, 2, (int64_t[]){d0, d1}); }
MuseType muse_type3(MuseDtype dtype, int64_t d0, int64_t d1, int64_t d2) {
  return muse_type(dtype, 3, (int64_t[]){d0, d1, d2});
}
MuseType muse_type4(MuseDtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
  return muse_type(dtype, 4, (int64_t[]){d0, d1, d2, d3});
}

MuseType muse_type_with_dtype(MuseType type, MuseDtype dtype) {
  type.dtype = dtype;
  return type;
}

bool muse_type_same_shape(MuseType a, MuseType b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; i++) {
    if (a.dim[i] != b.dim[i]) return false;
  }
  return true;
}

bool muse_type_eq(MuseType a, MuseType b) { return a.dtype == b.dtype && muse_type_same_shape(a, b); }

bool muse_type_valid(MuseType type) {
  if ((unsigned)type.dtype >= MUSE_N_DTYPES || type.rank < 0 || type.rank > MUSE_MAX_RANK) return false;
  if (muse_dtype_is_trit(type.dtype) && type.rank != 2) return false;
  // 64 bytes an element is more than any storage (a padded trit row of one column) and leaves room for alignment.
  int64_t bytes = 64;
  for (int i = 0; i < type.rank; i++) {
    if (type.dim[i] < 1 || !muse_mul_size_i64(bytes, type.dim[i], &bytes)) return false;
  }
  return true;
}

int64_t muse_type_elements(MuseType type) {
  int64_t n = 1;
  for (int i = 0; i < type.rank; i++) n *= type.dim[i];
  return n;
}

int64_t muse_type_last_dim(MuseType type) { return type.rank > 0 ? type.dim[type.rank - 1] : 1; }

int64_t muse_type_rows(MuseType type) {
  int64_t n = 1;
  for (int i = 0; i + 1 < type.rank; i++) n *= type.dim[i];
  return n;
}

int64_t muse_trit_row_bytes(MuseDtype dtype, int64_t columns) {
  MUSE_ASSERT(muse_dtype_is_trit(dtype));
  return muse_ceil_div(columns, dtype == MUSE_T2 ? 256 : 320) * 64;
}

int64_t muse_type_bytes(MuseType type) {
  if (muse_dtype_is_trit(type.dtype))
    return muse_type_rows(type) * muse_trit_row_bytes(type.dtype, muse_type_last_dim(type));
  return muse_type_elements(type) * muse_dtype_bytes(type.dtype);
}

bool muse_type_broadcast(MuseType a, MuseType b, MuseType *out_shape) {
  MuseType r = {.dtype = a.dtype, .rank = a.rank > b.rank ? a.rank : b.rank};
  for (int i = 0; i < r.rank; i++) {
    int ia = i - (r.rank - a.rank), ib = i - (r.rank - b.rank);
    int64_t da = ia >= 0 ? a.dim[ia] : 1, db = ib >= 0 ? b.dim[ib] : 1;
    if (da != db && da != 1 && db != 1) return false;
    r.dim[i] = da != 1 ? da : db;
  }
  *out_shape = r;
  return true;
}

bool muse_type_broadcasts_to(MuseType from, MuseType to) {
  if (from.rank > to.rank) return false;
  for (int i = 0; i < from.rank; i++) {
    int64_t d = to.dim[to.rank - from.rank + i];
    if (from.dim[i] != d && from.dim[i] != 1) return false;
  }
  return true;
}

void muse_type_print(MuseType type, MuseStr *out) {
  char text[32 + MUSE_MAX_RANK * 24];
  char *p = text;
  for (const char *name = muse_dtype_name(type.dtype); *name; name++) *p++ = *name;
  *p++ = '[';
  for (int i = 0; i < type.rank; i++) {
    if (i) *p++ = ',';
    char digits[24];
    int n = 0;
    uint64_t u = type.dim[i] < 0 ? 0 - (uint64_t)type.dim[i] : (uint64_t)type.dim[i];
    if (type.dim[i] < 0) *p++ = '-'; // only in messages about damaged IR
    do digits[n++] = (char)('0' + u % 10);
    while (u /= 10);
    while (n) *p++ = digits[--n];
  }
  *p++ = ']';
  muse_str_append_n(out, text, (size_t)(p - text));
}
