#ifndef MUSE_IR_TYPE_H
#define MUSE_IR_TYPE_H

#include "ir/base/str.h"

#include <stdbool.h>
#include <stdint.h>

// Element types. T2 and T5 hold trits {-1,0,1}: T2 two bits each, T5 five trits a byte. Their matrices are packed by
// rows (last dimension), see muse_type_bytes; a trit matrix always has rank 2.
typedef enum MuseDtype {
  MUSE_F32, MUSE_BF16, MUSE_F16, MUSE_F64,
  MUSE_I8, MUSE_U8, MUSE_I32, MUSE_U32, MUSE_I64,
  MUSE_BOOL, // one byte, 0 or 1
  MUSE_T2, MUSE_T5,
  MUSE_N_DTYPES
} MuseDtype;

#define MUSE_MAX_RANK 6

// A tensor type by value. Rank 0 is a scalar. Every dimension is >= 1; element count and bytes fit int64 (checked on
// parse).
typedef struct MuseType {
  MuseDtype dtype;
  int rank;
  int64_t dim[MUSE_MAX_RANK];
} MuseType;

const char *muse_dtype_name(MuseDtype dtype); // "f32", "t2", ...
bool muse_dtype_from_name(const char *name, size_t length, MuseDtype *out);
bool muse_dtype_is_float(MuseDtype dtype);
bool muse_dtype_is_int(MuseDtype dtype);  // i8 u8 i32 u32 i64
bool muse_dtype_is_trit(MuseDtype dtype);
int64_t muse_dtype_bytes(MuseDtype dtype); // of one element; not for trits

MuseType muse_type(MuseDtype dtype, int rank, const int64_t *dim);
MuseType muse_scalar_type(MuseDtype dtype);
MuseType muse_type1(MuseDtype dtype, int64_t d0);
MuseType muse_type2(MuseDtype dtype, int64_t d0, int64_t d1);
MuseType muse_type3(MuseDtype dtype, int64_t d0, int64_t d1, int64_t d2);
MuseType muse_type4(MuseDtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
MuseType muse_type_with_dtype(MuseType type, MuseDtype dtype);

// Known dtype, rank, every dimension >= 1, trits of rank 2, sizes far from overflow. The other functions take it for
// granted.
bool muse_type_valid(MuseType type);
bool muse_type_eq(MuseType a, MuseType b);
bool muse_type_same_shape(MuseType a, MuseType b);
int64_t muse_type_elements(MuseType type);
int64_t muse_type_last_dim(MuseType type); // 1 for a scalar
int64_t muse_type_rows(MuseType type);     // product of all dimensions but the last

// Storage bytes. Dense row-major, except trit matrices [N,K]: N rows of muse_trit_row_bytes(dtype, K).
//   T2: blocks of 256 trits in 64 bytes: trit k of a block is bits 2*(k/64) .. +1 of byte k%64; the code is trit+1;
//       a short last block is padded with code 1 (trit 0). One load, three shifts and four masks give 4 x 64 codes
//       in order.
//   T5: blocks of 320 trits in 64 bytes: trit k of a block is digit k/64 of byte k%64; byte = ceil(v*256/243),
//       v = d0*81 + d1*27 + d2*9 + d3*3 + d4, digit = trit+1; so digit j is ((byte * 3^j mod 256) * 3) >> 8. Padded
//       with trit 0.
int64_t muse_type_bytes(MuseType type);
int64_t muse_trit_row_bytes(MuseDtype dtype, int64_t columns);

// NumPy broadcasting of two shapes (aligned at the last dimension; 1 stretches). False when they do not match.
bool muse_type_broadcast(MuseType a, MuseType b, MuseType *out_shape);
// Whether `from` broadcasts to exactly the shape of `to`.
bool muse_type_broadcasts_to(MuseType from, MuseType to);

void muse_type_print(MuseType type, MuseStr *out); // f32[8,128], scalar: f32[]

#endif
