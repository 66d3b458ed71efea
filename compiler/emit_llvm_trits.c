// Packed trits as LLVM code: reading them in the products, and the kernels that pack latent weights and unpack trits.
// Layouts: ir/type.h. All of it works on i32 lanes, one or four trits a lane, so that one description serves every
// vector width.

#include "compiler/emit_llvm_product.h"
#include "compiler/skel_trits.h"

#include "ir/base/checked.h"

static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildAdd(ll->b, x, y, ""); }
static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t factor) {
  return LLVMBuildMul(ll->b, x, muse_llvm_i64(ll, factor), "");
}
static LLVMValueRef udiv(MuseLlvm *ll, LLVMValueRef x, int64_t by) {
  return LLVMBuildUDiv(ll->b, x, muse_llvm_i64(ll, by), "");
}
static LLVMValueRef urem(MuseLlvm *ll, LLVMValueRef x, int64_t by) {
  return LLVMBuildURem(ll->b, x, muse_llvm_i64(ll, by), "");
}
static LLVMValueRef and_bits(MuseLlvm *ll, LLVMValueRef x, uint64_t bits) {
  return LLVMBuildAnd(ll->b, x, muse_llvm_const_bits(LLVMTypeOf(x), bits), "");
}

static int planes_of(MuseDtype dtype) { return dtype == MUSE_T2 ? 4 : 5; }

// ---- reading ----

// Bytes times a factor of at most 81, even and odd bytes apart in 16-bit fields; an i32 multiplication would do the
// same, but is slow where vectors have only a 16-bit one.
static LLVMValueRef times(MuseLlvm *ll, LLVMValueRef fields, LLVMValueRef factor) {
  int lanes = muse_llvm_lanes_of(fields);
  if (lanes == 1) return LLVMBuildMul(ll->b, fields, factor, "");
  LLVMTypeRef words = muse_llvm_vector(ll->i16, 2 * lanes), type = LLVMTypeOf(fields);
  LLVMValueRef splat = muse_llvm_splat(ll, LLVMBuildTrunc(ll->b, factor, ll->i16, ""), 2 * lanes);
  return LLVMBuildBitCast(ll->b, LLVMBuildMul(ll->b, LLVMBuildBitCast(ll->b, fields, words, ""), splat, ""), type, "");
}

LLVMValueRef muse_llvm_trit_codes(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef row, LLVMValueRef chunk, int lanes) {
  LLVMTypeRef type = muse_llvm_vector(ll->i32, lanes);
  int parts = 16 / lanes, planes = planes_of(dtype); // pieces of a block, trits of a byte
  LLVMValueRef in_block = urem(ll, chunk, parts * planes), plane = udiv(ll, in_block, parts);
  LLVMValueRef at = add(ll, mul(ll, udiv(ll, chunk, parts * planes), 64),
                        mul(ll, urem(ll, in_block, parts), 4 * lanes));
  LLVMValueRef v = muse_llvm_load_raw(ll, type, muse_llvm_byte_address(ll, row, at), 4);
  LLVMValueRef plane32 = LLVMBuildTrunc(ll->b, plane, ll->i32, "");
  if (dtype == MUSE_T2) {
    LLVMValueRef shift = LLVMBuildShl(ll->b, plane32, muse_llvm_i32(ll, 1), "");
    return and_bits(ll, LLVMBuildLShr(ll->b, v, muse_llvm_splat(ll, shift, lanes), ""), 0x03030303);
  }
  // 3^plane out of a packed table, then digit = (byte * 3^plane mod 256) * 3 >> 8.
  LLVMValueRef table = LLVMConstInt(ll->i64, 0x511b090301, false);
  LLVMValueRef power = LLVMBuildLShr(ll->b, table, LLVMBuildShl(ll->b, plane, muse_llvm_i64(ll, 3), ""), "");
  power = LLVMBuildAnd(ll->b, LLVMBuildTrunc(ll->b, power, ll->i32, ""), muse_llvm_i32(ll, 0xff), "");
  LLVMValueRef even = and_bits(ll, v, 0x00ff00ff),
               odd = and_bits(ll, LLVMBuildLShr(ll->b, v, muse_llvm_const(type, 8), ""), 0x00ff00ff);
  LLVMValueRef three = muse_llvm_i32(ll, 3);
  even = times(ll, and_bits(ll, times(ll, even, power), 0x00ff00ff), three);
  odd = times(ll, and_bits(ll, times(ll, odd, power), 0x00ff00ff), three);
  LLVMValueRef low = and_bits(ll, LLVMBuildLShr(ll->b, even, muse_llvm_const(type, 8), ""), 0x00030003);
  return LLVMBuildOr(ll->b, low, and_bits(ll, odd, 0x03000300), "");
}

LLVMValueRef muse_llvm_trit_signed(MuseLlvm *ll, LLVMValueRef codes) {
  // The set top bit of each byte stops the borrow of its neighbour.
  LLVMTypeRef type = LLVMTypeOf(codes);
  LLVMValueRef top = muse_llvm_const_bits(type, 0x80808080);
  LLVMValueRef less = LLVMBuildSub(ll->b, LLVMBuildOr(ll->b, codes, top, ""), muse_llvm_const_bits(type, 0x01010101),
                                   "");
  return LLVMBuildXor(ll->b, less, top, "");
}

LLVMValueRef muse_llvm_trits_f32(MuseLlvm *ll, LLVMValueRef row, LLVMValueRef first, int lanes) {
  LLVMTypeRef type = muse_llvm_vector(ll->i32, lanes);
  LLVMValueRef at = add(ll, mul(ll, udiv(ll, first, 256), 64), urem(ll, first, 64));
  LLVMValueRef shift = LLVMBuildTrunc(ll->b, mul(ll, udiv(ll, urem(ll, first, 256), 64), 2), ll->i32, "");
  LLVMValueRef bytes = LLVMBuildZExt(ll->b, muse_llvm_load(ll, MUSE_U8, row, at, lanes, NULL), type, "");
  LLVMValueRef codes = and_bits(ll, LLVMBuildLShr(ll->b, bytes, muse_llvm_splat(ll, shift, lanes), ""), 3);
  LLVMValueRef trits = LLVMBuildSub(ll->b, codes, muse_llvm_const(type, 1), "");
  return LLVMBuildSIToFP(ll->b, trits, muse_llvm_vector(ll->f32, lanes), "");
}

// ---- packing ----

typedef struct Pack {
  const MuseOp *op;
  MuseDtype dtype;
  int64_t N, K, row_bytes; // of the latent matrix; bytes of a packed row
  int planes;
  LLVMValueRef w, out, half; // half: gamma/2
  LLVMValueRef delta;        // width of the grid of weights of 8 bits; NULL: they are f32
} Pack;

// The code of a weight: 1 + (w > gamma/2) - (w < -gamma/2), as in the exact evaluation. NaN and 0 give 1.
static LLVMValueRef code_of(MuseLlvm *ll, const Pack *p, LLVMValueRef w) {
  int lanes = muse_llvm_lanes_of(w);
  LLVMTypeRef type = muse_llvm_vector(ll->i32, lanes);
  LLVMValueRef half = muse_llvm_splat(ll, p->half, lanes);
  LLVMValueRef above = LLVMBuildSExt(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOGT, w, half, ""), type, "");
  LLVMValueRef below = LLVMBuildSExt(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOLT, w, LLVMBuildFNeg(ll->b, half, ""), ""),
                                     type, "");
  return LLVMBuildSub(ll->b, LLVMBuildAdd(ll->b, below, muse_llvm_const(type, 1), ""), above, "");
}

// One more code into the bytes under construction (one a lane).
static LLVMValueRef join(MuseLlvm *ll, const Pack *p, LLVMValueRef bytes, LLVMValueRef code, int plane) {
  LLVMTypeRef type = LLVMTypeOf(code);
  if (plane == 0) return code;
  if (p->dtype == MUSE_T2)
    return LLVMBuildOr(ll->b, bytes, LLVMBuildShl(ll->b, code, muse_llvm_const(type, 2 * plane), ""), "");
  LLVMValueRef thrice = add(ll, bytes, add(ll, bytes, bytes));
  return add(ll, thrice, code);
}

// T5: ceil(v*256/243) for v < 243. v*69042/65536 exceeds v*256/243 by less than 0.0023, and a fraction that is not 0 is
// at least 1/243 = 0.0041, so adding 1 - 0.0031 before the cut rounds up exactly.
static LLVMValueRef finish(MuseLlvm *ll, const Pack *p, LLVMValueRef v) {
  int lanes = muse_llvm_lanes_of(v);
  LLVMTypeRef type = LLVMTypeOf(v);
  if (p->dtype == MUSE_T5) {
    v = add(ll, LLVMBuildMul(ll->b, v, muse_llvm_const(type, 69042), ""), muse_llvm_const(type, 65536 - 200));
    v = LLVMBuildLShr(ll->b, v, muse_llvm_const(type, 16), "");
  }
  return LLVMBuildTrunc(ll->b, v, muse_llvm_vector(ll->i8, lanes), "");
}

static LLVMValueRef load_some(MuseLlvm *ll, const Pack *p, LLVMValueRef index, int lanes, LLVMValueRef active) {
  if (!p->delta) return muse_llvm_load(ll, MUSE_F32, p->w, index, lanes, active);
  LLVMValueRef v = muse_llvm_load(ll, MUSE_I8, p->w, index, lanes, active);
  return LLVMBuildFMul(ll->b, muse_llvm_convert(ll, v, MUSE_I8, MUSE_F32), muse_llvm_splat(ll, p->delta, lanes), "");
}

// Weights [index, +lanes); column: of lane 0; those from K on are zero.
static LLVMValueRef load_weights(MuseLlvm *ll, const Pack *p, LLVMValueRef row, LLVMValueRef column, bool whole,
                                 int lanes) {
  LLVMValueRef base = mul(ll, row, p->K), limit = muse_llvm_i64(ll, p->K), zero = muse_llvm_i64(ll, 0);
  if (whole) return load_some(ll, p, add(ll, base, column), lanes, NULL);
  if (lanes == 1) {
    LLVMValueRef inside = LLVMBuildICmp(ll->b, LLVMIntSLT, column, limit, "");
    LLVMValueRef w = load_some(ll, p, add(ll, base, LLVMBuildSelect(ll->b, inside, column, zero, "")), 1, NULL);
    return LLVMBuildSelect(ll->b, inside, w, muse_llvm_f32(ll, 0), "");
  }
  LLVMValueRef active = LLVMBuildSub(ll->b, limit, column, "");
  active = LLVMBuildSelect(ll->b, LLVMBuildICmp(ll->b, LLVMIntSGT, active, zero, ""), active, zero, "");
  active = muse_llvm_minimum(ll, active, muse_llvm_i64(ll, lanes));
  return load_some(ll, p, add(ll, base, column), lanes, active);
}

static void pack_block(MuseLlvm *ll, const Pack *p, LLVMValueRef row, LLVMValueRef block, bool whole) {
  int lanes = ll->lanes;
  MuseLlvmLoop piece;
  muse_llvm_loop_begin(ll, &piece, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, 64), lanes);
  LLVMValueRef first = add(ll, mul(ll, block, 64 * p->planes), piece.index), bytes = NULL;
  for (int j = 0; j < p->planes; j++) {
    LLVMValueRef w = load_weights(ll, p, row, add(ll, first, muse_llvm_i64(ll, 64 * j)), whole, lanes);
    bytes = join(ll, p, bytes, code_of(ll, p, w), j);
  }
  LLVMValueRef at = add(ll, mul(ll, row, p->row_bytes), add(ll, mul(ll, block, 64), piece.index));
  muse_llvm_store(ll, MUSE_U8, p->out, at, finish(ll, p, bytes), lanes, NULL);
  muse_llvm_loop_end(ll, &piece);
}

static void pack_plain(MuseLlvm *ll, const Pack *p, LLVMValueRef first, LLVMValueRef last) {
  int64_t full = p->K / (64 * p->planes);
  MuseLlvmLoop row, block;
  muse_llvm_loop_begin(ll, &row, first, last, 1);
  if (full > 0) {
    muse_llvm_loop_begin(ll, &block, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, full), 1);
    pack_block(ll, p, row.index, block.index, true);
    muse_llvm_loop_end(ll, &block);
  }
  if (p->K % (64 * p->planes) != 0) pack_block(ll, p, row.index, muse_llvm_i64(ll, full), false);
  muse_llvm_loop_end(ll, &row);
}

// W columns of the latent matrix from k on become W packed rows, W bytes at a time: the bytes of each of W latent rows
// (of each plane) are joined lane by lane, then the W x W bytes (as i32) are transposed. `rows` of the packed rows
// exist.
static void pack_columns(MuseLlvm *ll, const Pack *p, LLVMValueRef k, LLVMValueRef square, int rows) {
  int lanes = ll->lanes;
  LLVMTypeRef type = muse_llvm_vector(ll->i32, lanes);
  LLVMValueRef v[16];
  MuseLlvmLoop byte, r;
  muse_llvm_loop_begin(ll, &byte, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, p->row_bytes), lanes);
  LLVMValueRef n0 = add(ll, mul(ll, udiv(ll, byte.index, 64), 64 * p->planes), urem(ll, byte.index, 64));
  muse_llvm_loop_begin(ll, &r, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, lanes), 1);
  LLVMValueRef bytes = NULL;
  for (int j = 0; j < p->planes; j++) {
    LLVMValueRef n = add(ll, add(ll, n0, r.index), muse_llvm_i64(ll, 64 * j));
    LLVMValueRef inside = LLVMBuildICmp(ll->b, LLVMIntSLT, n, muse_llvm_i64(ll, p->N), "");
    LLVMValueRef w = load_weights(ll, p, LLVMBuildSelect(ll->b, inside, n, muse_llvm_i64(ll, 0), ""), k, rows == lanes,
                                  lanes);
    LLVMValueRef code = LLVMBuildSelect(ll->b, inside, code_of(ll, p, w), muse_llvm_const(type, 1), "");
    bytes = join(ll, p, bytes, code, j);
  }
  muse_llvm_store_raw(ll, muse_llvm_byte_address(ll, square, mul(ll, r.index, 4 * lanes)), bytes, 4 * lanes);
  muse_llvm_loop_end(ll, &r);
  for (int i = 0; i < lanes; i++)
    v[i] = muse_llvm_load_raw(ll, type, muse_llvm_byte_offset(ll, square, 4LL * i * lanes), 4 * lanes);
  muse_llvm_transpose(ll, v, lanes);
  for (int i = 0; i < rows; i++) {
    LLVMValueRef at = add(ll, mul(ll, add(ll, k, muse_llvm_i64(ll, i)), p->row_bytes), byte.index);
    muse_llvm_store(ll, MUSE_U8, p->out, at, finish(ll, p, v[i]), lanes, NULL);
  }
  muse_llvm_loop_end(ll, &byte);
}

static void pack_transposed(MuseLlvm *ll, const Pack *p, LLVMValueRef first, LLVMValueRef last) {
  int lanes = ll->lanes, rest = (int)(p->K % lanes);
  LLVMValueRef square = muse_llvm_alloca(ll, ll->i32, (int64_t)lanes * lanes, 64);
  LLVMValueRef whole = LLVMBuildSub(ll->b, last, urem(ll, LLVMBuildSub(ll->b, last, first, ""), lanes), "");
  MuseLlvmLoop k;
  muse_llvm_loop_begin(ll, &k, first, whole, lanes);
  pack_columns(ll, p, k.index, square, lanes);
  muse_llvm_loop_end(ll, &k);
  if (rest == 0) return;
  MuseLlvmIf tail;
  muse_llvm_if_begin(ll, &tail, LLVMBuildICmp(ll->b, LLVMIntSLT, whole, last, ""));
  pack_columns(ll, p, whole, square, rest);
  muse_llvm_if_end(ll, &tail);
}

// Rows [first, last) of each task of the call.
static void task_rows(MuseLlvm *ll, const MuseOp *op, MuseLlvmLoop *task, LLVMValueRef *out_first,
                      LLVMValueRef *out_last) {
  int64_t per_task = muse_trits_rows_per_task(op);
  muse_llvm_loop_begin(ll, task, ll->begin, ll->end, 1);
  *out_first = mul(ll, task->index, per_task);
  *out_last = muse_llvm_minimum(ll, add(ll, *out_first, muse_llvm_i64(ll, per_task)),
                                muse_llvm_i64(ll, op->results[0]->type.dim[0]));
}

bool muse_emit_llvm_pack_trits(MuseLlvm *ll, const MuseOp *kernel) {
  const MuseOp *op = muse_trits_op(kernel);
  MuseType w = op->operands[0]->type, out = op->results[0]->type;
  Pack p = {.op = op, .dtype = out.dtype, .N = w.dim[0], .K = w.dim[1], .planes = planes_of(out.dtype)};
  p.row_bytes = muse_trit_row_bytes(out.dtype, out.dim[1]);
  MuseLlvmLoop task;
  LLVMValueRef first, last;
  muse_llvm_stage_begin(ll, kernel, 0);
  p.w = muse_llvm_operand(ll, op->operands[0]->index);
  p.out = muse_llvm_result(ll, 0);
  LLVMValueRef gamma = muse_llvm_load(ll, MUSE_F32, muse_llvm_operand(ll, op->operands[1]->index), muse_llvm_i64(ll, 0),
                                      1, NULL);
  if (op->n_operands == 3) {
    LLVMValueRef delta = muse_llvm_operand(ll, op->operands[2]->index);
    p.delta = muse_llvm_load(ll, MUSE_F32, delta, muse_llvm_i64(ll, 0), 1, NULL);
  }
  p.half = LLVMBuildFMul(ll->b, gamma, muse_llvm_f32(ll, 0.5), "");
  task_rows(ll, op, &task, &first, &last);
  if (muse_op_bool(op, "transpose")) pack_transposed(ll, &p, first, last);
  else pack_plain(ll, &p, first, last);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return ll->status == MUSE_OK;
}

// ---- unpacking ----

// The first `count` bytes of a vector of i32, in pieces of 2^i bytes.
static void store_bytes(MuseLlvm *ll, LLVMValueRef ptr, LLVMValueRef index, LLVMValueRef v, int count) {
  int lanes = 4 * muse_llvm_lanes_of(v), at = 0;
  v = LLVMBuildBitCast(ll->b, v, LLVMVectorType(ll->i8, (unsigned)lanes), "");
  for (int piece = lanes; piece > 0; piece /= 2) {
    if (!(count & piece)) continue;
    int mask[64];
    for (int i = 0; i < piece; i++) mask[i] = at + i;
    LLVMValueRef part = piece == 1 ? muse_llvm_lane(ll, v, at) : muse_llvm_shuffle(ll, v, NULL, mask, piece);
    muse_llvm_store(ll, MUSE_I8, ptr, add(ll, index, muse_llvm_i64(ll, at)), part, piece, NULL);
    at += piece;
  }
}

bool muse_emit_llvm_unpack_trits(MuseLlvm *ll, const MuseOp *kernel) {
  const MuseOp *op = muse_trits_op(kernel);
  MuseType packed = op->operands[0]->type;
  int64_t K = packed.dim[1], row_bytes = muse_trit_row_bytes(packed.dtype, K);
  int bytes = 4 * ll->lanes;
  MuseLlvmLoop task, row, chunk;
  LLVMValueRef first, last;
  muse_llvm_stage_begin(ll, kernel, 0);
  LLVMValueRef in = muse_llvm_operand(ll, op->operands[0]->index), out = muse_llvm_result(ll, 0);
  task_rows(ll, op, &task, &first, &last);
  muse_llvm_loop_begin(ll, &row, first, last, 1);
  LLVMValueRef from = muse_llvm_byte_address(ll, in, mul(ll, row.index, row_bytes)), to = mul(ll, row.index, K);
  muse_llvm_loop_begin(ll, &chunk, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, K / bytes), 1);
  LLVMValueRef v = muse_llvm_trit_signed(ll, muse_llvm_trit_codes(ll, packed.dtype, from, chunk.index, ll->lanes));
  store_bytes(ll, out, add(ll, to, mul(ll, chunk.index, bytes)), v, bytes);
  muse_llvm_loop_end(ll, &chunk);
  if (K % bytes != 0) {
    v = muse_llvm_trit_signed(ll,
                              muse_llvm_trit_codes(ll, packed.dtype, from, muse_llvm_i64(ll, K / bytes), ll->lanes));
    store_bytes(ll, out, add(ll, to, muse_llvm_i64(ll, K / bytes * bytes)), v, (int)(K % bytes));
  }
  muse_llvm_loop_end(ll, &row);
  muse_llvm_loop_end(ll, &task);
  muse_llvm_stage_end(ll);
  return ll->status == MUSE_OK;
}
