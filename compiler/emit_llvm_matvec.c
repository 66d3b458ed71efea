// Products with few rows (generation of text): the weights are streamed from memory once, decoded in registers if they
// are packed trits, and multiplied with all rows of x, which stay in the first-level cache.

#include "compiler/emit_llvm_product.h"

#include "ir/base/checked.h"

#include <string.h>

enum {
  GROUP = 32,            // channels between two epilogues
  PREFETCH_BYTES = 8192, // of all channels together
  PAD = 1280,            // x is padded with zeros to a multiple of the trits of a block of T2 (256) and T5 (320)
};

static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildAdd(ll->b, x, y, ""); }
static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t factor) {
  return LLVMBuildMul(ll->b, x, muse_llvm_i64(ll, factor), "");
}
static LLVMValueRef and_bits(MuseLlvm *ll, LLVMValueRef x, uint64_t bits) {
  return LLVMBuildAnd(ll->b, x, muse_llvm_const_bits(LLVMTypeOf(x), bits), "");
}
static LLVMValueRef shift_right(MuseLlvm *ll, LLVMValueRef x, int bits) {
  return bits == 0 ? x : LLVMBuildLShr(ll->b, x, muse_llvm_const(LLVMTypeOf(x), bits), "");
}

static MuseTiling rows_tiling(const MuseLlvm *ll, const MuseProduct *p) {
  MuseTiling t = {.dot = muse_llvm_dot_kind(ll, p->anchor->kind), .lanes = ll->lanes, .group = 4};
  t.offset = muse_llvm_right_offset(t.dot, p->anchor->kind);
  t.a_stride = muse_round_up(p->K, PAD) / 4;
  if (t.dot == MUSE_DOT_F32) t.group = 1, t.a_stride = muse_round_up(p->K, 16);
  return t;
}

MuseLeftRows muse_llvm_few_rows_prepare(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p) {
  MuseTiling t = rows_tiling(ll, p);
  MuseLeftRows left = {.packed = muse_llvm_byte_offset(ll, ll->scratch, pk->packed_a),
                       .row_sums = muse_llvm_byte_offset(ll, ll->scratch, pk->row_sums)};
  LLVMValueRef zero = muse_llvm_i64(ll, 0), K = muse_llvm_i64(ll, p->K);
  MuseBlock block = {.m0 = zero, .n0 = zero, .k0 = zero, .len = K, .is_last_k = LLVMConstInt(ll->i1, 1, false)};
  int64_t filled = muse_round_up(p->K, 4 * t.lanes) / 4; // the last vector of pack_left brings zeros
  MuseLlvmLoop row, pad;
  muse_llvm_pack_left(ll, p, &t, &block, zero, (int)p->M, left.packed);
  if (t.dot == MUSE_DOT_F32) return left;
  muse_llvm_loop_begin(ll, &row, zero, muse_llvm_i64(ll, p->M), 1);
  LLVMValueRef at = mul(ll, row.index, t.a_stride);
  muse_llvm_loop_begin(ll, &pad, muse_llvm_i64(ll, filled), muse_llvm_i64(ll, t.a_stride), 1);
  muse_llvm_store(ll, MUSE_I32, left.packed, add(ll, at, pad.index), muse_llvm_i32(ll, 0), 1, NULL);
  muse_llvm_loop_end(ll, &pad);
  muse_llvm_loop_end(ll, &row);
  if (t.offset != 0) muse_llvm_row_sums(ll, &t, (int)p->M, left.packed, muse_llvm_i64(ll, filled), left.row_sums);
  return left;
}

// ---- T5: a byte is b = ceil(v*256/243); with b_0 = b, b_(j+1) = 3 b_j mod 256 digit j is d_j = (3 b_j - b_(j+1)) /
// 256

static LLVMValueRef average(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { // of bytes, rounded up
  LLVMTypeRef bytes = LLVMVectorType(ll->i8, (unsigned)(4 * ll->lanes)), type = LLVMTypeOf(x);
  LLVMValueRef args[2] = {LLVMBuildBitCast(ll->b, x, bytes, ""), LLVMBuildBitCast(ll->b, y, bytes, "")};
  const char *name = ll->lanes == 16 ? "llvm.x86.avx512.pavg.b.512" : "llvm.x86.avx2.pavg.b";
  return LLVMBuildBitCast(ll->b, muse_llvm_intrinsic(ll, name, NULL, 0, args, 2), type, "");
}

static LLVMValueRef byte_add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef bytes = LLVMVectorType(ll->i8, (unsigned)(4 * ll->lanes)), type = LLVMTypeOf(x);
  LLVMValueRef sum = add(ll, LLVMBuildBitCast(ll->b, x, bytes, ""), LLVMBuildBitCast(ll->b, y, bytes, ""));
  return LLVMBuildBitCast(ll->b, sum, type, "");
}

// 3b mod 256, byte by byte. The empty asm keeps LLVM from seeing 3*3*b: it would multiply bytes by 9, which costs three
// instructions on the units of the dot products instead of two additions anywhere.
static LLVMValueRef next_power(MuseLlvm *ll, LLVMValueRef b) {
  LLVMValueRef thrice = byte_add(ll, b, byte_add(ll, b, b));
  const char *constraints = ll->lanes == 16 ? "=v,0" : "=x,0";
  LLVMTypeRef type = LLVMTypeOf(thrice), function = LLVMFunctionType(type, &type, 1, false);
  LLVMValueRef nothing = LLVMGetInlineAsm(function, "", 0, constraints, strlen(constraints), false, false,
                                          LLVMInlineAsmDialectATT, false);
  return LLVMBuildCall2(ll->b, function, nothing, &thrice, 1, "");
}

static bool scaled_digits(const MuseLlvm *ll) { return ll->is_x86 && ll->lanes >= 8; }

// Digit of each byte of *b, which moves on to the next one. With scaled_digits it stands in the two top bits of the
// byte (times 64): floor(3b/4) has it there, and since averages of bytes round up, they are taken of the complements.
// Products of such bytes (0, 64, 128) with int8 do not saturate vpmaddubsw either: 2 * 128 * -128 = -32768.
static LLVMValueRef next_digit(MuseLlvm *ll, LLVMValueRef *b, bool more) {
  if (scaled_digits(ll)) {
    LLVMTypeRef type = LLVMTypeOf(*b);
    LLVMValueRef c = LLVMBuildNot(ll->b, *b, ""), ones = LLVMConstAllOnes(type);
    LLVMValueRef three_quarters = LLVMBuildNot(ll->b, average(ll, c, average(ll, c, ones)), "");
    if (more) *b = next_power(ll, *b);
    return and_bits(ll, three_quarters, 0xc0c0c0c0);
  }
  // Even and odd bytes in 16-bit fields.
  LLVMValueRef even = and_bits(ll, *b, 0x00ff00ff), odd = and_bits(ll, shift_right(ll, *b, 8), 0x00ff00ff);
  even = add(ll, even, add(ll, even, even));
  odd = add(ll, odd, add(ll, odd, odd));
  LLVMValueRef eight = muse_llvm_const(LLVMTypeOf(*b), 8);
  LLVMValueRef digit = LLVMBuildOr(ll->b, and_bits(ll, shift_right(ll, even, 8), 0x00030003),
                                   and_bits(ll, odd, 0x03000300), "");
  if (more)
    *b = LLVMBuildOr(ll->b, and_bits(ll, even, 0x00ff00ff),
                     LLVMBuildShl(ll->b, and_bits(ll, odd, 0x00ff00ff), eight, ""), "");
  return digit;
}

// Asks for the bytes that will be read PREFETCH_BYTES from now, when `channels` rows are read side by side: further on
// in the same row, or in the row that this channel reads after it.
static void prefetch_ahead(MuseLlvm *ll, LLVMValueRef at, LLVMValueRef offset, int64_t row_bytes, int channels) {
  int64_t ahead = PREFETCH_BYTES / channels, rows = ahead / row_bytes, jump = (channels - 1) * row_bytes;
  LLVMValueRef same = muse_llvm_i64(ll, ahead + rows * jump), next = muse_llvm_i64(ll, ahead + (rows + 1) * jump);
  LLVMValueRef beyond = LLVMBuildICmp(ll->b, LLVMIntSGE, offset, muse_llvm_i64(ll, row_bytes - ahead % row_bytes), "");
  muse_llvm_prefetch(ll, muse_llvm_byte_address(ll, at, LLVMBuildSelect(ll->b, beyond, next, same, "")));
}

// ---- rows of weights ----

typedef struct Stream {
  const MuseProduct *p;
  MuseTiling t;
  MuseDtype dtype;
  int planes, channels; // channels at a time
  bool telescoped;      // T5 without digits, see stream_step
  int scale_bits;       // sums are so many bits too high
  int64_t row_bytes;
  const MuseLeftRows *left;
} Stream;

static LLVMValueRef x_vector(MuseLlvm *ll, const Stream *s, int m, LLVMValueRef first, int plane) {
  LLVMValueRef at = add(ll, first, muse_llvm_i64(ll, (int64_t)m * s->t.a_stride * 4 + 64 * plane));
  return muse_llvm_load_raw(ll, muse_llvm_unit_type(ll, s->t.dot, s->t.lanes),
                            muse_llvm_byte_address(ll, s->left->packed, at), 4);
}

// Adds one vector of packed bytes of each channel. Each channel and row of x has a pair of sums, which the planes take
// in turn to halve the chain of dependent additions. Where the digits telescope, the pair stands for sum of d_j x_j =
// (3 sum of b_j x_j - sum of b_(j+1) x_j) / 256, which needs no digits at all.
static void stream_step(MuseLlvm *ll, const Stream *s, LLVMValueRef *b, LLVMValueRef first, LLVMValueRef *sum) {
  int M = (int)s->p->M;
  LLVMValueRef x[MUSE_VECTOR_MAX_ROWS];
  for (int j = 0; j < s->planes; j++) {
    for (int m = 0; m < M; m++) x[m] = x_vector(ll, s, m, first, j);
    for (int r = 0; r < s->channels; r++) {
      if (s->telescoped) {
        sum[2 * r] = muse_llvm_dot(ll, s->t.dot, sum[2 * r], b[r], x[0]);
        b[r] = next_power(ll, b[r]);
        sum[2 * r + 1] = muse_llvm_dot(ll, s->t.dot, sum[2 * r + 1], b[r], x[0]);
        continue;
      }
      LLVMValueRef codes = s->dtype == MUSE_T2 ? and_bits(ll, shift_right(ll, b[r], 2 * j), 0x03030303)
                                               : next_digit(ll, &b[r], j + 1 < s->planes);
      if (s->t.offset == 0) codes = muse_llvm_trit_signed(ll, codes);
      for (int m = 0; m < M; m++) {
        int i = 2 * (r * M + m) + j % 2;
        sum[i] = muse_llvm_dot(ll, s->t.dot, sum[i], codes, x[m]);
      }
    }
  }
}

// Sums of channels n .. n+channels-1 (clamped to the last one) with all rows into sums[m][place + r].
static void stream_channels(MuseLlvm *ll, const Stream *s, LLVMValueRef n, LLVMValueRef place, LLVMValueRef sums) {
  int M = (int)s->p->M, bytes = 4 * s->t.lanes, n_sums = 2 * s->channels * M;
  LLVMTypeRef type = muse_llvm_unit_type(ll, s->t.dot, s->t.lanes);
  LLVMValueRef w = muse_llvm_operand(ll, s->p->anchor->operands[1]->index), row[8], b[8], sum[64];
  for (int r = 0; r < s->channels; r++) {
    LLVMValueRef channel = add(ll, n, muse_llvm_i64(ll, r));
    if (s->p->N % s->channels != 0) channel = muse_llvm_minimum(ll, channel, muse_llvm_i64(ll, s->p->N - 1));
    row[r] = muse_llvm_byte_address(ll, w, mul(ll, channel, s->row_bytes));
  }
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, s->row_bytes), bytes);
  for (int i = 0; i < n_sums; i++) sum[i] = muse_llvm_loop_carry(ll, &loop, LLVMConstNull(type));
  for (int r = 0; r < s->channels; r++) {
    LLVMValueRef at = muse_llvm_byte_address(ll, row[r], loop.index);
    prefetch_ahead(ll, at, loop.index, s->row_bytes, s->channels);
    b[r] = muse_llvm_load_raw(ll, type, at, bytes);
  }
  LLVMValueRef block = LLVMBuildUDiv(ll->b, loop.index, muse_llvm_i64(ll, 64), "");
  LLVMValueRef inside = LLVMBuildURem(ll->b, loop.index, muse_llvm_i64(ll, 64), "");
  stream_step(ll, s, b, add(ll, mul(ll, block, 64 * s->planes), inside), sum);
  for (int i = 0; i < n_sums; i++) muse_llvm_loop_next(&loop, i, sum[i]);
  muse_llvm_loop_end(ll, &loop);
  for (int r = 0; r < s->channels; r++)
    for (int m = 0; m < M; m++) {
      int i = 2 * (r * M + m);
      LLVMValueRef v = loop.result[i];
      if (s->telescoped) v = LLVMBuildSub(ll->b, add(ll, v, add(ll, v, v)), loop.result[i + 1], "");
      else v = add(ll, v, loop.result[i + 1]);
      LLVMValueRef total = muse_llvm_sum_lanes(ll, v);
      if (s->scale_bits > 0) total = LLVMBuildAShr(ll->b, total, muse_llvm_i32(ll, s->scale_bits), "");
      if (s->t.offset != 0)
        total = add(ll, total, muse_llvm_load(ll, MUSE_I32, s->left->row_sums, muse_llvm_i64(ll, m), 1, NULL));
      muse_llvm_store(ll, MUSE_I32, sums, add(ll, place, muse_llvm_i64(ll, (int64_t)m * GROUP + r)), total, 1, NULL);
    }
}

// The same with f32 or bf16 weights. The sum of a channel is that of its lanes, each over every lanes-th element in
// order.
static void stream_floats(MuseLlvm *ll, const Stream *s, LLVMValueRef n, LLVMValueRef place, LLVMValueRef sums) {
  int M = (int)s->p->M, lanes = ll->lanes, rest = (int)(s->p->K % lanes), n_sums = s->channels * M;
  LLVMTypeRef type = muse_llvm_unit_type(ll, s->t.dot, lanes);
  LLVMValueRef w = muse_llvm_operand(ll, s->p->anchor->operands[1]->index), start[8], sum[32], x[MUSE_VECTOR_MAX_ROWS];
  LLVMValueRef whole = muse_llvm_i64(ll, s->p->K - rest);
  MuseLlvmLoop loop;
  for (int r = 0; r < s->channels; r++) {
    LLVMValueRef channel = add(ll, n, muse_llvm_i64(ll, r));
    if (s->p->N % s->channels != 0) channel = muse_llvm_minimum(ll, channel, muse_llvm_i64(ll, s->p->N - 1));
    start[r] = mul(ll, channel, s->p->K);
  }
  for (int i = 0; i < n_sums; i++) sum[i] = LLVMConstNull(type);
  for (int part = 0; part < (rest ? 2 : 1); part++) {
    LLVMValueRef k = whole;
    if (part == 0) {
      muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), whole, lanes);
      for (int i = 0; i < n_sums; i++) sum[i] = muse_llvm_loop_carry(ll, &loop, sum[i]);
      k = loop.index;
    }
    for (int m = 0; m < M; m++) { // zero behind K
      LLVMValueRef at = muse_llvm_address(ll, MUSE_F32, s->left->packed,
                                          add(ll, k, muse_llvm_i64(ll, m * s->t.a_stride)));
      x[m] = muse_llvm_load_raw(ll, type, at, 4);
    }
    for (int r = 0; r < s->channels; r++) {
      LLVMValueRef at = add(ll, start[r], k);
      if (part == 0) {
        int64_t bytes = muse_dtype_bytes(s->dtype);
        prefetch_ahead(ll, muse_llvm_address(ll, s->dtype, w, at), mul(ll, k, bytes), s->p->K * bytes, s->channels);
      }
      LLVMValueRef v = muse_llvm_load_partial(ll, s->dtype, w, at, lanes, part ? rest : lanes);
      v = muse_llvm_convert(ll, v, s->dtype, MUSE_F32);
      for (int m = 0; m < M; m++) sum[r * M + m] = muse_llvm_dot(ll, s->t.dot, sum[r * M + m], v, x[m]);
    }
    if (part == 0) {
      for (int i = 0; i < n_sums; i++) muse_llvm_loop_next(&loop, i, sum[i]);
      muse_llvm_loop_end(ll, &loop);
      for (int i = 0; i < n_sums; i++) sum[i] = loop.result[i];
    }
  }
  for (int i = 0; i < n_sums; i++) {
    LLVMValueRef at = add(ll, place, muse_llvm_i64(ll, (int64_t)(i % M) * GROUP + i / M));
    muse_llvm_store(ll, MUSE_F32, sums, at, muse_llvm_sum_lanes(ll, sum[i]), 1, NULL);
  }
}

static Stream stream_of(MuseLlvm *ll, const MuseProduct *p, const MuseLeftRows *left) {
  Stream s = {.p = p, .t = rows_tiling(ll, p), .dtype = p->anchor->operands[1]->type.dtype, .left = left};
  if (s.t.dot == MUSE_DOT_F32) {
    s.channels = 4;
    return s;
  }
  s.planes = s.dtype == MUSE_T2 ? 4 : 5;
  s.row_bytes = muse_trit_row_bytes(s.dtype, p->K);
  s.telescoped = s.dtype == MUSE_T5 && s.t.dot == MUSE_DOT_VNNI && p->M == 1 && 256 * 2 * 128 * p->K <= INT32_MAX;
  s.scale_bits = s.telescoped ? 8 : s.dtype == MUSE_T5 && scaled_digits(ll) ? 6 : 0;
  // One channel streams best in order, and T2 with one row is bound by memory; everything else has work that several
  // channels overlap (and they share the loads of x).
  s.channels = ll->lanes == 1 ? 1 : s.dtype == MUSE_T5 && p->M <= 2 ? 4 : p->M > 1 ? 2 : 1;
  return s;
}

void muse_llvm_few_rows_block(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p, const MuseLlvmBody *body,
                              LLVMValueRef task, const MuseLeftRows *left) {
  Stream s = stream_of(ll, p, left);
  LLVMValueRef sums = muse_llvm_byte_offset(ll, ll->scratch, pk->tile_c);
  LLVMValueRef n0 = mul(ll, task, p->block_n), zero = muse_llvm_i64(ll, 0);
  LLVMValueRef n1 = muse_llvm_minimum(ll, add(ll, n0, muse_llvm_i64(ll, p->block_n)), muse_llvm_i64(ll, p->N));
  LLVMValueRef whole = LLVMBuildSub(
      ll->b, n1, LLVMBuildURem(ll->b, LLVMBuildSub(ll->b, n1, n0, ""), muse_llvm_i64(ll, GROUP), ""), "");
  int rest = (int)(p->N % GROUP), lanes = ll->lanes;
  for (int part = 0; part < (rest ? 2 : 1); part++) { // groups of channels, then those that are left
    MuseLlvmLoop group, r;
    MuseLlvmIf tail;
    LLVMValueRef n = whole;
    int count = part == 0 ? GROUP : rest;
    if (part == 0) {
      muse_llvm_loop_begin(ll, &group, n0, whole, GROUP);
      n = group.index;
    } else {
      muse_llvm_if_begin(ll, &tail, LLVMBuildICmp(ll->b, LLVMIntSLT, whole, n1, ""));
    }
    muse_llvm_loop_begin(ll, &r, zero, muse_llvm_i64(ll, count), s.channels);
    if (s.t.dot == MUSE_DOT_F32) stream_floats(ll, &s, add(ll, n, r.index), r.index, sums);
    else stream_channels(ll, &s, add(ll, n, r.index), r.index, sums);
    muse_llvm_loop_end(ll, &r);
    muse_llvm_epilogue(ll, p, muse_llvm_body_clone(body), (int)p->M, (count + lanes - 1) / lanes, count % lanes, zero,
                       n, sums, GROUP);
    if (part == 0) muse_llvm_loop_end(ll, &group);
    else muse_llvm_if_end(ll, &tail);
  }
}
