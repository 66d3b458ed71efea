// Tiled matrix products: choice of the register tile, dot products of each instruction set, the walk over a block of C.
//
// The loops of a task, outermost first (block of C, then see skel_matmul.h for the sizes):
//   blocks of K:  pack the right operand (block_k x block_n) into panels
//     tiles of M:  pack the tile of the left operand, sum its rows
//       panels of N:  register tile over all units; store; epilogue after the last block of K
// The order of every sum is fixed by the shapes, the lane-wise sums of f32 do not depend on the target's tile either:
// element (m,n) is always the sum over k in order, in one accumulator.

#include "compiler/emit_llvm_product.h"

#include "ir/base/checked.h"

#include <string.h>

// ---- instruction sets ----

MuseDotKind muse_llvm_dot_kind(const MuseLlvm *ll, MuseOpKind anchor) {
  if (anchor == MUSE_OP_matmul) return MUSE_DOT_F32;
  switch (ll->target->level) {
    case MUSE_CPU_AVX512_VNNI:
    case MUSE_CPU_AMX: return MUSE_DOT_VNNI;
    case MUSE_CPU_AVX2:
    case MUSE_CPU_AVX512: return anchor == MUSE_OP_ternary_matmul ? MUSE_DOT_MADDUBS : MUSE_DOT_I16;
    case MUSE_CPU_NEON: return MUSE_DOT_NEON_WIDE;
    case MUSE_CPU_NEON_DOT: return MUSE_DOT_NEON_SDOT;
    case MUSE_CPU_SCALAR: break;
  }
  return MUSE_DOT_SCALAR;
}

int muse_llvm_right_offset(MuseDotKind dot, MuseOpKind anchor) {
  if (dot != MUSE_DOT_VNNI && dot != MUSE_DOT_MADDUBS) return 0;
  return anchor == MUSE_OP_ternary_matmul ? 1 : 128;
}

LLVMTypeRef muse_llvm_unit_type(MuseLlvm *ll, MuseDotKind dot, int lanes) {
  return muse_llvm_vector(dot == MUSE_DOT_F32 ? ll->f32 : ll->i32, lanes);
}

static LLVMValueRef cast_to(MuseLlvm *ll, LLVMValueRef v, LLVMTypeRef element, int lanes) {
  return LLVMBuildBitCast(ll->b, v, LLVMVectorType(element, (unsigned)lanes), "");
}

static LLVMValueRef call(MuseLlvm *ll, const char *name, LLVMValueRef *args, int n) {
  return muse_llvm_intrinsic(ll, name, NULL, 0, args, n);
}

static LLVMValueRef dot_scalar(MuseLlvm *ll, LLVMValueRef acc, LLVMValueRef b, LLVMValueRef a) {
  for (int i = 0; i < 4; i++) {
    LLVMValueRef shift = muse_llvm_i32(ll, 24 - 8 * i), down = muse_llvm_i32(ll, 24);
    LLVMValueRef x = LLVMBuildAShr(ll->b, LLVMBuildShl(ll->b, a, shift, ""), down, "");
    LLVMValueRef y = LLVMBuildAShr(ll->b, LLVMBuildShl(ll->b, b, shift, ""), down, "");
    acc = LLVMBuildAdd(ll->b, acc, LLVMBuildMul(ll->b, x, y, ""), "");
  }
  return acc;
}

static LLVMValueRef dot_neon_wide(MuseLlvm *ll, LLVMValueRef acc, LLVMValueRef b, LLVMValueRef a) {
  LLVMTypeRef i16x8 = LLVMVectorType(ll->i16, 8), i32x4 = LLVMVectorType(ll->i32, 4);
  LLVMValueRef pairs[2], x = cast_to(ll, b, ll->i8, 16), y = cast_to(ll, a, ll->i8, 16);
  for (int h = 0; h < 2; h++) {
    int mask[8];
    for (int i = 0; i < 8; i++) mask[i] = 8 * h + i;
    LLVMValueRef halves[2] = {muse_llvm_shuffle(ll, x, NULL, mask, 8), muse_llvm_shuffle(ll, y, NULL, mask, 8)};
    LLVMValueRef product = muse_llvm_intrinsic(ll, "llvm.aarch64.neon.smull", (LLVMTypeRef[]){i16x8}, 1, halves, 2);
    pairs[h] = muse_llvm_intrinsic(ll, "llvm.aarch64.neon.saddlp", (LLVMTypeRef[]){i32x4, i16x8}, 2, &product, 1);
  }
  return LLVMBuildAdd(ll->b, acc,
                      muse_llvm_intrinsic(ll, "llvm.aarch64.neon.addp", (LLVMTypeRef[]){i32x4}, 1, pairs, 2), "");
}

LLVMValueRef muse_llvm_dot(MuseLlvm *ll, MuseDotKind kind, LLVMValueRef acc, LLVMValueRef b, LLVMValueRef a) {
  int lanes = muse_llvm_lanes_of(acc);
  bool wide = lanes == 16; // 512 bits
  switch (kind) {
    case MUSE_DOT_F32: return muse_llvm_fma(ll, b, a, acc);
    case MUSE_DOT_VNNI: return call(ll, "llvm.x86.avx512.vpdpbusd.512", (LLVMValueRef[]){acc, b, a}, 3);
    case MUSE_DOT_MADDUBS: {
      LLVMValueRef bytes[2] = {cast_to(ll, b, ll->i8, 4 * lanes), cast_to(ll, a, ll->i8, 4 * lanes)};
      LLVMValueRef pairs = call(ll, wide ? "llvm.x86.avx512.pmaddubs.w.512" : "llvm.x86.avx2.pmadd.ub.sw", bytes, 2);
      LLVMValueRef sums[2] = {pairs, muse_llvm_const(LLVMTypeOf(pairs), 1)};
      return LLVMBuildAdd(ll->b, acc,
                          call(ll, wide ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd", sums, 2), "");
    }
    case MUSE_DOT_I16: {
      LLVMValueRef words[2] = {cast_to(ll, b, ll->i16, 2 * lanes), cast_to(ll, a, ll->i16, 2 * lanes)};
      return LLVMBuildAdd(ll->b, acc,
                          call(ll, wide ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd", words, 2), "");
    }
    case MUSE_DOT_NEON_SDOT: {
      LLVMValueRef args[3] = {acc, cast_to(ll, b, ll->i8, 16), cast_to(ll, a, ll->i8, 16)};
      LLVMTypeRef overloads[2] = {LLVMTypeOf(acc), LLVMTypeOf(args[1])};
      return muse_llvm_intrinsic(ll, "llvm.aarch64.neon.sdot", overloads, 2, args, 3);
    }
    case MUSE_DOT_NEON_WIDE: return dot_neon_wide(ll, acc, b, a);
    case MUSE_DOT_SCALAR: break;
  }
  return dot_scalar(ll, acc, b, a);
}

// Register tiles: as many sums as leave room for one vector column of the right operand and a broadcast. The latency of
// a multiply-add (4 to 5 cycles, two a cycle) needs at least 10 independent sums.
void muse_llvm_tiling(const MuseLlvm *ll, const MuseProduct *p, MuseTiling *out) {
  MuseOpKind kind = p->anchor->kind;
  MuseTiling t = {.dot = muse_llvm_dot_kind(ll, kind), .lanes = ll->lanes};
  t.amx = ll->target->level == MUSE_CPU_AMX && t.dot == MUSE_DOT_VNNI;
  t.group = t.dot == MUSE_DOT_F32 ? 1 : t.dot == MUSE_DOT_I16 ? 2 : 4;
  t.offset = muse_llvm_right_offset(t.dot, kind);
  t.a_by_k = (kind == MUSE_OP_int8_matmul && !t.amx) || (kind == MUSE_OP_matmul && muse_op_bool(p->anchor, "trans_a"));
  switch (ll->lanes) {
    case 16: t.tile_m = t.dot == MUSE_DOT_MADDUBS || t.dot == MUSE_DOT_I16 ? 8 : 12, t.vectors_n = 2; break;
    case 8: t.tile_m = t.dot == MUSE_DOT_F32 ? 6 : 4, t.vectors_n = 2; break;
    case 4: t.tile_m = t.dot == MUSE_DOT_NEON_WIDE ? 4 : 6, t.vectors_n = t.dot == MUSE_DOT_NEON_WIDE ? 2 : 4; break;
    default: t.tile_m = 4, t.vectors_n = 2; break;
  }
  if (t.vectors_n == 2 && p->N <= t.lanes) t.vectors_n = 1, t.tile_m *= 2;
  if (t.amx) t.tile_m = 32, t.vectors_n = 2;
  if (p->M < t.tile_m) t.tile_m = (int)p->M;
  int64_t units = muse_round_up(muse_ceil_div(p->block_k, t.group), 16);
  t.b_units = units;
  t.a_stride = t.a_by_k ? muse_round_up(t.tile_m, t.lanes) : units + MUSE_TILE_ROW_PAD;
  t.a_tile_bytes = 4 * t.a_stride * units;
  *out = t;
}

LLVMValueRef muse_llvm_minimum(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(ll->b, LLVMBuildICmp(ll->b, LLVMIntSLT, a, b, ""), a, b, "");
}

// ---- register tile ----

typedef struct Tile {
  const MuseTiling *t;
  int rows, vectors;
  LLVMValueRef a, b, c, row_sums; // pointers
  LLVMValueRef units;             // i64
  LLVMValueRef first;             // i1: start from zero; NULL: surely
} Tile;

static LLVMValueRef row_start(MuseLlvm *ll, const Tile *tile, int m) {
  LLVMTypeRef type = muse_llvm_unit_type(ll, tile->t->dot, tile->t->lanes);
  if (tile->t->offset == 0) return LLVMConstNull(type);
  LLVMValueRef sum = muse_llvm_load(ll, MUSE_I32, tile->row_sums, muse_llvm_i64(ll, m), 1, NULL);
  return muse_llvm_splat(ll, sum, tile->t->lanes);
}

static LLVMValueRef c_place(MuseLlvm *ll, const Tile *tile, int m, int v) {
  int64_t width = (int64_t)tile->t->lanes * tile->t->vectors_n;
  return muse_llvm_byte_offset(ll, tile->c, 4 * (m * width + (int64_t)v * tile->t->lanes));
}

static LLVMValueRef tile_add(MuseLlvm *ll, const Tile *tile, LLVMValueRef x, LLVMValueRef y) {
  return tile->t->dot == MUSE_DOT_F32 ? LLVMBuildFAdd(ll->b, x, y, "") : LLVMBuildAdd(ll->b, x, y, "");
}

// Sums to start from: what earlier blocks of K left, and the correction of this block's offset.
static void tile_start(MuseLlvm *ll, const Tile *tile, LLVMValueRef *acc) {
  LLVMTypeRef type = muse_llvm_unit_type(ll, tile->t->dot, tile->t->lanes);
  MuseLlvmIf branch;
  LLVMValueRef fresh[MUSE_LLVM_MAX_CARRIED];
  int n = 0;
  for (int m = 0; m < tile->rows; m++) {
    LLVMValueRef start = row_start(ll, tile, m);
    for (int v = 0; v < tile->vectors; v++) fresh[n++] = start;
  }
  if (tile->first == NULL) {
    memcpy(acc, fresh, sizeof *acc * (size_t)n);
    return;
  }
  muse_llvm_if_begin(ll, &branch, tile->first);
  muse_llvm_else(ll, &branch);
  for (int i = 0; i < n; i++) {
    acc[i] = muse_llvm_load_raw(ll, type, c_place(ll, tile, i / tile->vectors, i % tile->vectors), 4);
    if (tile->t->offset != 0) acc[i] = tile_add(ll, tile, acc[i], fresh[i]);
  }
  muse_llvm_if_end(ll, &branch);
  for (int i = 0; i < n; i++) acc[i] = muse_llvm_if_merge(ll, &branch, fresh[i], acc[i]);
}

static void vector_tile(MuseLlvm *ll, const Tile *tile) {
  const MuseTiling *t = tile->t;
  LLVMTypeRef scalar = muse_llvm_unit_type(ll, t->dot, 1), vector = muse_llvm_unit_type(ll, t->dot, t->lanes);
  LLVMValueRef acc[MUSE_LLVM_MAX_CARRIED], b[8];
  int n = tile->rows * tile->vectors, align = t->lanes * 4;
  tile_start(ll, tile, acc);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), tile->units, 1);
  for (int i = 0; i < n; i++) acc[i] = muse_llvm_loop_carry(ll, &loop, acc[i]);
  int64_t b_step = 4LL * t->lanes * t->vectors_n, a_step = t->a_by_k ? 4 * t->a_stride : 4;
  LLVMValueRef at_b = muse_llvm_byte_address(ll, tile->b,
                                             LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, b_step), ""));
  LLVMValueRef at_a = muse_llvm_byte_address(ll, tile->a,
                                             LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, a_step), ""));
  for (int v = 0; v < tile->vectors; v++)
    b[v] = muse_llvm_load_raw(ll, vector, muse_llvm_byte_offset(ll, at_b, 4LL * v * t->lanes), align);
  for (int m = 0; m < tile->rows; m++) {
    LLVMValueRef unit = muse_llvm_load_raw(
        ll, scalar, muse_llvm_byte_offset(ll, at_a, t->a_by_k ? 4LL * m : 4 * m * t->a_stride), 4);
    LLVMValueRef a = muse_llvm_splat(ll, unit, t->lanes);
    for (int v = 0; v < tile->vectors; v++) {
      int i = m * tile->vectors + v;
      muse_llvm_loop_next(&loop, i, muse_llvm_dot(ll, t->dot, acc[i], b[v], a));
    }
  }
  muse_llvm_loop_end(ll, &loop);
  for (int i = 0; i < n; i++)
    muse_llvm_store_raw(ll, c_place(ll, tile, i / tile->vectors, i % tile->vectors), loop.result[i], 4);
}

// AMX: up to 2x2 tiles of 16x16 sums. Tile registers 0..3 hold C, 4 and 5 the left, 6 and 7 the right operand.
static void amx_tile(MuseLlvm *ll, const Tile *tile) {
  const MuseTiling *t = tile->t;
  LLVMTypeRef vector = muse_llvm_unit_type(ll, t->dot, t->lanes);
  for (int m = 0; m < tile->rows; m++) { // C starts in memory
    LLVMValueRef start = row_start(ll, tile, m);
    for (int v = 0; v < tile->vectors; v++) {
      LLVMValueRef place = c_place(ll, tile, m, v), value = start;
      if (tile->first != NULL) {
        LLVMValueRef old = LLVMBuildAdd(ll->b, muse_llvm_load_raw(ll, vector, place, 4), start, "");
        value = LLVMBuildSelect(ll->b, tile->first, start, old, "");
      }
      muse_llvm_store_raw(ll, place, value, 4);
    }
  }
  int tiles_m = (tile->rows + 15) / 16;
  LLVMValueRef c_stride = muse_llvm_i64(ll, 4LL * t->lanes * t->vectors_n),
               a_stride = muse_llvm_i64(ll, 4 * t->a_stride);
#define REG(n) LLVMConstInt(ll->i8, (unsigned long long)(n), false)
  for (int i = 0; i < tiles_m; i++)
    for (int v = 0; v < tile->vectors; v++)
      call(ll, "llvm.x86.tileloadd64", (LLVMValueRef[]){REG(2 * i + v), c_place(ll, tile, 16 * i, v), c_stride}, 3);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), tile->units, 16);
  LLVMValueRef at_b = muse_llvm_byte_address(ll, tile->b, LLVMBuildMul(ll->b, loop.index, c_stride, ""));
  LLVMValueRef at_a = muse_llvm_byte_address(ll, tile->a, LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, 4), ""));
  for (int v = 0; v < tile->vectors; v++)
    call(ll, "llvm.x86.tileloadd64", (LLVMValueRef[]){REG(6 + v), muse_llvm_byte_offset(ll, at_b, 64LL * v), c_stride},
         3);
  for (int i = 0; i < tiles_m; i++) {
    call(ll, "llvm.x86.tileloadd64",
         (LLVMValueRef[]){REG(4 + i), muse_llvm_byte_offset(ll, at_a, 64 * i * t->a_stride), a_stride}, 3);
    for (int v = 0; v < tile->vectors; v++) // signed left times unsigned right operand
      call(ll, "llvm.x86.tdpbsud", (LLVMValueRef[]){REG(2 * i + v), REG(4 + i), REG(6 + v)}, 3);
  }
  muse_llvm_loop_end(ll, &loop);
  for (int i = 0; i < tiles_m; i++)
    for (int v = 0; v < tile->vectors; v++)
      call(ll, "llvm.x86.tilestored64", (LLVMValueRef[]){REG(2 * i + v), c_place(ll, tile, 16 * i, v), c_stride}, 3);
#undef REG
}

void muse_llvm_row_sums(MuseLlvm *ll, const MuseTiling *t, int rows, LLVMValueRef a, LLVMValueRef units,
                        LLVMValueRef row_sums) {
  LLVMTypeRef vector = muse_llvm_unit_type(ll, t->dot, t->lanes);
  LLVMValueRef ones = muse_llvm_const_bits(vector, 0x01010101), factor = muse_llvm_const(vector, -t->offset),
               zero = LLVMConstNull(vector);
  MuseLlvmLoop loop;
  if (t->a_by_k) { // lanes are rows; four units at a time, because one sum would wait for itself
    int n = (rows + t->lanes - 1) / t->lanes;
    LLVMValueRef sum[4 * 32], four = muse_llvm_i64(ll, 4);
    LLVMValueRef whole = LLVMBuildMul(ll->b, LLVMBuildUDiv(ll->b, units, four, ""), four, "");
    MUSE_ASSERT(n <= 16);
    for (int i = 0; i < 4 * n; i++) sum[i] = zero;
    for (int part = 4; part >= 1; part -= 3) { // then one by one
      int count = part * n;
      muse_llvm_loop_begin(ll, &loop, part == 4 ? muse_llvm_i64(ll, 0) : whole, part == 4 ? whole : units, part);
      for (int i = 0; i < count; i++) muse_llvm_loop_carry(ll, &loop, sum[i]);
      LLVMValueRef at = muse_llvm_byte_address(ll, a,
                                               LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, 4 * t->a_stride), ""));
      for (int i = 0; i < count; i++) {
        int64_t place = 4 * ((int64_t)(i / n) * t->a_stride + (int64_t)(i % n) * t->lanes);
        LLVMValueRef x = muse_llvm_load_raw(ll, vector, muse_llvm_byte_offset(ll, at, place), 4);
        muse_llvm_loop_next(&loop, i, muse_llvm_dot(ll, t->dot, loop.phi[i], ones, x));
      }
      muse_llvm_loop_end(ll, &loop);
      for (int i = 0; i < count; i++) sum[i] = loop.result[i];
    }
    for (int v = 0; v < n; v++) {
      LLVMValueRef total = sum[v];
      for (int i = 1; i < 4; i++) total = LLVMBuildAdd(ll->b, total, sum[i * n + v], "");
      muse_llvm_store_raw(ll, muse_llvm_byte_offset(ll, row_sums, 4LL * v * t->lanes),
                          LLVMBuildMul(ll->b, total, factor, ""), 4);
    }
    return;
  }
  MuseLlvmLoop row;
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, rows), 1);
  LLVMValueRef at = muse_llvm_byte_address(ll, a,
                                           LLVMBuildMul(ll->b, row.index, muse_llvm_i64(ll, 4 * t->a_stride), ""));
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), units, t->lanes);
  LLVMValueRef sum = muse_llvm_loop_carry(ll, &loop, zero);
  LLVMValueRef x = muse_llvm_load_raw(ll, vector, muse_llvm_address(ll, MUSE_I32, at, loop.index), 4);
  muse_llvm_loop_next(&loop, 0, muse_llvm_dot(ll, t->dot, sum, ones, x));
  muse_llvm_loop_end(ll, &loop);
  LLVMValueRef total = LLVMBuildMul(ll->b, muse_llvm_sum_lanes(ll, loop.result[0]), muse_llvm_i32(ll, -t->offset), "");
  muse_llvm_store(ll, MUSE_I32, row_sums, row.index, total, 1, NULL);
  muse_llvm_loop_end(ll, &row);
}

// ---- epilogue ----

void muse_llvm_epilogue(MuseLlvm *ll, const MuseProduct *p, MuseLlvmBody *body, int rows, int vectors, int tail,
                        LLVMValueRef row, LLVMValueRef column, LLVMValueRef sums, int64_t stride) {
  const MuseOp *yield = ll->kernel->body->last;
  MuseDtype dtype = p->anchor->results[0]->type.dtype;
  int lanes = p->N == 1 ? 1 : ll->lanes; // one column: all values belong to the row
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, rows), 1);
  muse_llvm_body_at_row(body, LLVMBuildAdd(ll->b, row, loop.index, ""));
  LLVMValueRef from = LLVMBuildMul(ll->b, loop.index, muse_llvm_i64(ll, stride), "");
  for (int v = 0; v < vectors; v++) {
    LLVMValueRef shift = muse_llvm_i64(ll, (int64_t)v * lanes);
    LLVMValueRef active = v == vectors - 1 && tail > 0 && lanes > 1 ? muse_llvm_i64(ll, tail) : NULL;
    LLVMValueRef sum = muse_llvm_load(ll, dtype, sums, LLVMBuildAdd(ll->b, from, shift, ""), lanes, NULL);
    muse_llvm_body_at_column(body, LLVMBuildAdd(ll->b, column, shift, ""), p->N % 4 == 0, lanes, active);
    muse_llvm_body_bind(body, p->anchor->results[0], sum);
    // A result may be written over an operand of another one: all values first.
    for (int i = 0; i < yield->n_operands; i++)
      if (muse_llvm_depends_on(yield->operands[i], p->anchor)) muse_llvm_body_value(body, yield->operands[i]);
    muse_llvm_body_store_results(body, p->anchor);
  }
  muse_llvm_loop_end(ll, &loop);
}

// ---- block ----

typedef struct Walk {
  const MuseProductKernel *pk;
  const MuseProduct *p;
  const MuseLlvmBody *body;
  MuseTiling t;
  MuseBlock block;
} Walk;

static void emit_panel(MuseLlvm *ll, Walk *w, LLVMValueRef a, LLVMValueRef m, int rows, LLVMValueRef panel, int vectors,
                       int tail) {
  const MuseProduct *p = w->p;
  const MuseTiling *t = &w->t;
  int64_t width = (int64_t)t->lanes * t->vectors_n;
  bool one_block = p->block_k >= p->K;
  LLVMValueRef place = muse_llvm_i64(ll, 0);
  if (!one_block) { // C of the whole block is kept, tile by tile; AMX stores whole tile registers of 16 rows
    int64_t slot_rows = t->amx ? muse_round_up(t->tile_m, 16) : t->tile_m;
    LLVMValueRef tile_row = LLVMBuildUDiv(ll->b, m, muse_llvm_i64(ll, t->tile_m), "");
    place = LLVMBuildMul(ll->b, tile_row, muse_llvm_i64(ll, muse_ceil_div(p->block_n, width)), "");
    place = LLVMBuildMul(ll->b, LLVMBuildAdd(ll->b, place, panel, ""), muse_llvm_i64(ll, 4 * slot_rows * width), "");
  }
  Tile tile = {.t = t, .rows = rows, .vectors = vectors, .units = w->block.units};
  tile.a = a;
  tile.b = muse_llvm_byte_address(ll, muse_llvm_byte_offset(ll, ll->scratch, w->pk->packed_b),
                                  LLVMBuildMul(ll->b, panel, muse_llvm_i64(ll, 4 * width * t->b_units), ""));
  tile.c = muse_llvm_byte_address(ll, muse_llvm_byte_offset(ll, ll->scratch, w->pk->tile_c), place);
  tile.row_sums = muse_llvm_byte_offset(ll, ll->scratch, w->pk->row_sums);
  if (!one_block) tile.first = LLVMBuildICmp(ll->b, LLVMIntEQ, w->block.k0, muse_llvm_i64(ll, 0), "");
  if (t->amx) amx_tile(ll, &tile);
  else vector_tile(ll, &tile);
  MuseLlvmIf last;
  if (!one_block) muse_llvm_if_begin(ll, &last, w->block.is_last_k);
  LLVMValueRef column = LLVMBuildAdd(ll->b, w->block.n0, LLVMBuildMul(ll->b, panel, muse_llvm_i64(ll, width), ""), "");
  muse_llvm_epilogue(ll, p, muse_llvm_body_clone(w->body), rows, vectors, tail, LLVMBuildAdd(ll->b, w->block.m0, m, ""),
                     column, tile.c, width);
  if (!one_block) muse_llvm_if_end(ll, &last);
}

static void emit_tile_row(MuseLlvm *ll, Walk *w, LLVMValueRef m, int rows) {
  const MuseTiling *t = &w->t;
  int64_t width = (int64_t)t->lanes * t->vectors_n;
  LLVMValueRef a = muse_llvm_byte_offset(ll, ll->scratch, w->pk->packed_a);
  if (t->a_by_k) {
    LLVMValueRef in_group = LLVMBuildURem(ll->b, LLVMBuildUDiv(ll->b, m, muse_llvm_i64(ll, t->tile_m), ""),
                                          muse_llvm_i64(ll, MUSE_LEFT_TILES), "");
    MuseLlvmIf first;
    muse_llvm_if_begin(ll, &first, LLVMBuildICmp(ll->b, LLVMIntEQ, in_group, muse_llvm_i64(ll, 0), ""));
    muse_llvm_pack_left_tiles(ll, w->p, t, &w->block, m, a);
    muse_llvm_if_end(ll, &first);
    a = muse_llvm_byte_address(ll, a, LLVMBuildMul(ll->b, in_group, muse_llvm_i64(ll, t->a_tile_bytes), ""));
  } else {
    muse_llvm_pack_left(ll, w->p, t, &w->block, m, rows, a);
  }
  if (t->offset != 0)
    muse_llvm_row_sums(ll, t, rows, a, w->block.units, muse_llvm_byte_offset(ll, ll->scratch, w->pk->row_sums));
  LLVMValueRef full = LLVMBuildUDiv(ll->b, w->block.cols, muse_llvm_i64(ll, width), "");
  if (w->p->N >= width) {
    MuseLlvmLoop loop;
    muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), full, 1);
    emit_panel(ll, w, a, m, rows, loop.index, t->vectors_n, 0);
    muse_llvm_loop_end(ll, &loop);
  }
  int rest = (int)(w->p->N % width);
  if (rest == 0) return;
  MuseLlvmIf tail;
  LLVMValueRef covered = LLVMBuildMul(ll->b, full, muse_llvm_i64(ll, width), "");
  muse_llvm_if_begin(ll, &tail, LLVMBuildICmp(ll->b, LLVMIntULT, covered, w->block.cols, ""));
  emit_panel(ll, w, a, m, rows, full, (rest + t->lanes - 1) / t->lanes, rest % t->lanes);
  muse_llvm_if_end(ll, &tail);
}

void muse_llvm_product_block(MuseLlvm *ll, const MuseProductKernel *pk, const MuseProduct *p, const MuseLlvmBody *body,
                             LLVMValueRef task) {
  Walk w = {.pk = pk, .p = p, .body = body};
  muse_llvm_tiling(ll, p, &w.t);
  MuseBlock *block = &w.block;
  LLVMValueRef n_m = muse_llvm_i64(ll, p->n_blocks_m);
  block->n0 = LLVMBuildMul(ll->b, LLVMBuildUDiv(ll->b, task, n_m, ""), muse_llvm_i64(ll, p->block_n), "");
  block->m0 = LLVMBuildMul(ll->b, LLVMBuildURem(ll->b, task, n_m, ""), muse_llvm_i64(ll, p->block_m), "");
  block->rows = muse_llvm_minimum(ll, muse_llvm_i64(ll, p->block_m),
                                  LLVMBuildSub(ll->b, muse_llvm_i64(ll, p->M), block->m0, ""));
  block->cols = muse_llvm_minimum(ll, muse_llvm_i64(ll, p->block_n),
                                  LLVMBuildSub(ll->b, muse_llvm_i64(ll, p->N), block->n0, ""));
  MuseLlvmLoop k, m;
  LLVMValueRef K = muse_llvm_i64(ll, p->K), step = muse_llvm_i64(ll, p->block_k);
  muse_llvm_loop_begin(ll, &k, muse_llvm_i64(ll, 0), K, p->block_k);
  block->k0 = k.index;
  block->len = p->block_k >= p->K ? K : muse_llvm_minimum(ll, step, LLVMBuildSub(ll->b, K, k.index, ""));
  block->is_last_k = p->block_k >= p->K
                         ? LLVMConstInt(ll->i1, 1, false)
                         : LLVMBuildICmp(ll->b, LLVMIntEQ, LLVMBuildAdd(ll->b, k.index, block->len, ""), K, "");
  LLVMValueRef up = LLVMBuildAdd(ll->b, block->len, muse_llvm_i64(ll, w.t.group - 1), "");
  block->units = LLVMBuildUDiv(ll->b, up, muse_llvm_i64(ll, w.t.group), "");
  muse_llvm_pack_right(ll, p, &w.t, block, muse_llvm_byte_offset(ll, ll->scratch, pk->packed_b));
  LLVMValueRef height = muse_llvm_i64(ll, w.t.tile_m);
  LLVMValueRef full = LLVMBuildMul(ll->b, LLVMBuildUDiv(ll->b, block->rows, height, ""), height, "");
  muse_llvm_loop_begin(ll, &m, muse_llvm_i64(ll, 0), full, w.t.tile_m);
  emit_tile_row(ll, &w, m.index, w.t.tile_m);
  muse_llvm_loop_end(ll, &m);
  if (p->M % w.t.tile_m != 0) {
    MuseLlvmIf tail;
    muse_llvm_if_begin(ll, &tail, LLVMBuildICmp(ll->b, LLVMIntULT, full, block->rows, ""));
    emit_tile_row(ll, &w, full, (int)(p->M % w.t.tile_m));
    muse_llvm_if_end(ll, &tail);
  }
  muse_llvm_loop_end(ll, &k);
}

// ---- kernel ----

// Palette 1: eight tiles of 16 rows of 64 bytes.
static LLVMValueRef amx_config(MuseLlvm *ll) {
  LLVMValueRef bytes[64];
  for (int i = 0; i < 64; i++) {
    int value = i == 0 ? 1 : i >= 16 && i < 32 && i % 2 == 0 ? 64 : i >= 48 && i < 56 ? 16 : 0;
    bytes[i] = LLVMConstInt(ll->i8, (unsigned long long)value, false);
  }
  LLVMValueRef data = LLVMConstArray2(ll->i8, bytes, 64);
  LLVMValueRef global = LLVMAddGlobal(ll->module, LLVMTypeOf(data), "tiles");
  LLVMSetLinkage(global, LLVMPrivateLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetInitializer(global, data);
  LLVMSetAlignment(global, 64);
  return global;
}

bool muse_emit_llvm_product(MuseLlvm *ll, const MuseOp *kernel) {
  MuseProductKernel pk;
  muse_product_kernel(kernel, &pk);
  MuseLlvmBody *body[MUSE_MAX_ANCHORS];
  bool amx = false;
  muse_llvm_stage_begin(ll, kernel, 0);
  for (int i = 0; i < pk.n_anchors; i++) {
    MuseTiling t;
    muse_llvm_tiling(ll, &pk.anchor[i], &t);
    amx |= t.amx && !pk.anchor[i].few_rows;
    body[i] = muse_llvm_body_create(ll, kernel, pk.anchor[i].anchor->results[0]->type);
    muse_llvm_body_begin(body[i]);
  }
  if (amx) {
    LLVMValueRef config = amx_config(ll);
    call(ll, "llvm.x86.ldtilecfg", &config, 1);
  }
  MuseLeftRows left = {0};
  if (pk.anchor[0].few_rows) left = muse_llvm_few_rows_prepare(ll, &pk, &pk.anchor[0]);
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, ll->begin, ll->end, 1);
  for (int i = 0; i < pk.n_anchors; i++) {
    const MuseProduct *p = &pk.anchor[i];
    int64_t end = p->first_task + p->n_blocks_m * p->n_blocks_n;
    LLVMValueRef task = LLVMBuildSub(ll->b, loop.index, muse_llvm_i64(ll, p->first_task), "");
    MuseLlvmIf mine;
    if (pk.n_anchors > 1)
      muse_llvm_if_begin(ll, &mine, LLVMBuildICmp(ll->b, LLVMIntULT, task, muse_llvm_i64(ll, end - p->first_task), ""));
    if (p->few_rows) muse_llvm_few_rows_block(ll, &pk, p, body[i], task, &left);
    else muse_llvm_product_block(ll, &pk, p, body[i], task);
    if (pk.n_anchors > 1) muse_llvm_if_end(ll, &mine);
  }
  muse_llvm_loop_end(ll, &loop);
  if (amx) call(ll, "llvm.x86.tilerelease", NULL, 0);
  muse_llvm_stage_end(ll);
  return ll->status == MUSE_OK;
}
