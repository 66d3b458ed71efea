// Packing of blocks of the operands of a product into the order in which register tiles read them
// (emit_llvm_product.h).

#include "compiler/emit_llvm_product.h"

#include "ir/base/checked.h"

static bool has_byte_masks(const MuseLlvm *ll) {
  return ll->target->level >= MUSE_CPU_AVX512 && ll->target->level <= MUSE_CPU_AMX;
}

LLVMValueRef muse_llvm_load_partial(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                                    int active) {
  MUSE_ASSERT(active > 0 && active <= lanes);
  if (active == lanes) return muse_llvm_load(ll, dtype, ptr, index, lanes, NULL);
  bool masks = has_byte_masks(ll) || (ll->target->level == MUSE_CPU_AVX2 && muse_dtype_bytes(dtype) == 4);
  if (masks) return muse_llvm_load(ll, dtype, ptr, index, lanes, muse_llvm_i64(ll, active));
  // Pieces of 2^i elements, each put into its place.
  LLVMValueRef result = LLVMConstNull(muse_llvm_type(ll, dtype, lanes));
  int at = 0;
  for (int piece = lanes; piece > 0; piece /= 2) {
    if (!(active & piece)) continue;
    LLVMValueRef from = LLVMBuildAdd(ll->b, index, muse_llvm_i64(ll, at), "");
    LLVMValueRef part = muse_llvm_load(ll, dtype, ptr, from, piece, NULL);
    if (piece == 1) {
      result = LLVMBuildInsertElement(ll->b, result, part, muse_llvm_i64(ll, at), "");
    } else {
      int widen[256], merge[256];
      for (int i = 0; i < lanes; i++) {
        widen[i] = i < piece ? i : -1;
        merge[i] = i >= at && i < at + piece ? lanes + i - at : i;
      }
      result = muse_llvm_shuffle(ll, result, muse_llvm_shuffle(ll, part, NULL, widen, lanes), merge, lanes);
    }
    at += piece;
  }
  return result;
}

// Takes `count` pieces of `size` lanes out of two vectors; pieces[k] counts through both.
static LLVMValueRef take(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, int size, const int *pieces, int count) {
  int mask[64];
  for (int i = 0; i < count * size; i++) mask[i] = pieces[i / size] * size + i % size;
  return muse_llvm_shuffle(ll, a, b, mask, count * size);
}

// Interleaves pieces of two vectors within each 128 bits (4 lanes): the low halves, or the high ones.
static LLVMValueRef unpack(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, int n, int size, bool high) {
  int mask[64];
  for (int i = 0; i < n; i++) {
    int lane = i % 4, piece = lane / size;
    mask[i] = i / 4 * 4 + (high ? 2 : 0) + piece / 2 * size + lane % size + (piece % 2 ? n : 0);
  }
  return muse_llvm_shuffle(ll, a, b, mask, n);
}

// Squares of 4 x 4 are transposed within the 128-bit parts of the vectors, then the parts change places: each step is
// one instruction that every target has, where single steps over the whole width would need index vectors.
void muse_llvm_transpose(MuseLlvm *ll, LLVMValueRef *v, int n) {
  static const int even[4] = {0, 2, 4, 6}, odd[4] = {1, 3, 5, 7};
  LLVMValueRef u[16];
  if (n == 1) return;
  MUSE_ASSERT(n == 4 || n == 8 || n == 16);
  for (int k = 0; k < n; k += 4) {
    LLVMValueRef low01 = unpack(ll, v[k], v[k + 1], n, 1, false), high01 = unpack(ll, v[k], v[k + 1], n, 1, true);
    LLVMValueRef low23 = unpack(ll, v[k + 2], v[k + 3], n, 1, false),
                 high23 = unpack(ll, v[k + 2], v[k + 3], n, 1, true);
    u[k] = unpack(ll, low01, low23, n, 2, false);
    u[k + 1] = unpack(ll, low01, low23, n, 2, true);
    u[k + 2] = unpack(ll, high01, high23, n, 2, false);
    u[k + 3] = unpack(ll, high01, high23, n, 2, true);
  }
  for (int j = 0; j < 4; j++) { // u[4k+j] holds column 4p+j of rows 4k .. 4k+3 in part p
    if (n == 4) {
      v[j] = u[j];
    } else if (n == 8) {
      v[j] = take(ll, u[j], u[4 + j], 4, even, 2);
      v[4 + j] = take(ll, u[j], u[4 + j], 4, odd, 2);
    } else {
      LLVMValueRef even01 = take(ll, u[j], u[4 + j], 4, even, 4), even23 = take(ll, u[8 + j], u[12 + j], 4, even, 4);
      LLVMValueRef odd01 = take(ll, u[j], u[4 + j], 4, odd, 4), odd23 = take(ll, u[8 + j], u[12 + j], 4, odd, 4);
      v[j] = take(ll, even01, even23, 4, even, 4);
      v[8 + j] = take(ll, even01, even23, 4, odd, 4);
      v[4 + j] = take(ll, odd01, odd23, 4, even, 4);
      v[12 + j] = take(ll, odd01, odd23, 4, odd, 4);
    }
  }
}

static LLVMValueRef mul(MuseLlvm *ll, LLVMValueRef x, int64_t factor) {
  return factor == 1 ? x : LLVMBuildMul(ll->b, x, muse_llvm_i64(ll, factor), "");
}
static LLVMValueRef add(MuseLlvm *ll, LLVMValueRef x, LLVMValueRef y) { return LLVMBuildAdd(ll->b, x, y, ""); }

// ---- rows of the left operand, K contiguous ----

// A vector of units from `first` (element number) on; active: elements that exist, or the whole vector.
static LLVMValueRef row_units(MuseLlvm *ll, const MuseTiling *t, MuseDtype dtype, LLVMValueRef src, LLVMValueRef first,
                              int active) {
  int elements = t->lanes * t->group;
  LLVMValueRef v = muse_llvm_load_partial(ll, dtype, src, first, elements, active);
  if (t->dot == MUSE_DOT_F32) return muse_llvm_convert(ll, v, dtype, MUSE_F32);
  return LLVMBuildBitCast(ll->b, v, muse_llvm_unit_type(ll, t->dot, t->lanes), "");
}

static void pack_rows(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block, LLVMValueRef m,
                      int rows, LLVMValueRef dst) {
  MuseDtype dtype = p->anchor->operands[0]->type.dtype;
  LLVMValueRef src = muse_llvm_operand(ll, p->anchor->operands[0]->index);
  int elements = t->lanes * t->group, rest = (int)(p->K % elements);
  MUSE_ASSERT(t->group != 2);
  MuseLlvmLoop row, chunk;
  muse_llvm_loop_begin(ll, &row, muse_llvm_i64(ll, 0), muse_llvm_i64(ll, rows), 1);
  LLVMValueRef at = mul(ll, add(ll, add(ll, block->m0, m), row.index), p->K);
  at = add(ll, at, block->k0);
  LLVMValueRef to = muse_llvm_byte_address(ll, dst, mul(ll, row.index, 4 * t->a_stride));
  LLVMValueRef full = LLVMBuildUDiv(ll->b, block->len, muse_llvm_i64(ll, elements), "");
  muse_llvm_loop_begin(ll, &chunk, muse_llvm_i64(ll, 0), full, 1);
  LLVMValueRef v = row_units(ll, t, dtype, src, add(ll, at, mul(ll, chunk.index, elements)), elements);
  muse_llvm_store_raw(ll, muse_llvm_byte_address(ll, to, mul(ll, chunk.index, 4 * t->lanes)), v, 4);
  muse_llvm_loop_end(ll, &chunk);
  if (rest != 0) {
    MuseLlvmIf last;
    muse_llvm_if_begin(ll, &last, block->is_last_k);
    v = row_units(ll, t, dtype, src, add(ll, at, mul(ll, full, elements)), rest);
    muse_llvm_store_raw(ll, muse_llvm_byte_address(ll, to, mul(ll, full, 4 * t->lanes)), v, 4);
    muse_llvm_if_end(ll, &last);
  }
  muse_llvm_loop_end(ll, &row);
}

// ---- operands with K as the first dimension: [K, columns] ----

typedef struct ByK {
  const MuseTiling *t;
  MuseDtype dtype;
  LLVMValueRef src, dst;  // dst: of the vector's lanes in unit 0
  int64_t columns;        // of the operand
  int64_t unit_stride;    // units from one packed unit to the next
  bool make_unsigned;
} ByK;

// Unit u (i64, counted from k0) of `active` columns: rows k0 + group*u ...; `present` of them exist.
static LLVMValueRef by_k_value(MuseLlvm *ll, const ByK *s, LLVMValueRef k0, LLVMValueRef u, LLVMValueRef column,
                               int present, int active) {
  const MuseTiling *t = s->t;
  LLVMTypeRef type = muse_llvm_unit_type(ll, t->dot, t->lanes);
  LLVMValueRef unit = NULL, row = add(ll, k0, mul(ll, u, t->group));
  for (int i = 0; i < present; i++) {
    LLVMValueRef index = add(ll, mul(ll, add(ll, row, muse_llvm_i64(ll, i)), s->columns), column);
    LLVMValueRef v = muse_llvm_load_partial(ll, s->dtype, s->src, index, t->lanes, active);
    if (t->dot == MUSE_DOT_F32) {
      unit = muse_llvm_convert(ll, v, s->dtype, MUSE_F32);
      continue;
    }
    if (t->group == 2) { // sign-extended halves
      v = LLVMBuildSExt(ll->b, v, type, "");
      if (i == 0) v = LLVMBuildAnd(ll->b, v, muse_llvm_const_bits(type, 0xffff), "");
    } else {
      v = LLVMBuildZExt(ll->b, v, type, "");
    }
    if (i > 0) v = LLVMBuildShl(ll->b, v, muse_llvm_const(type, 32.0 / t->group * i), "");
    unit = unit ? LLVMBuildOr(ll->b, unit, v, "") : v;
  }
  return s->make_unsigned ? LLVMBuildXor(ll->b, unit, muse_llvm_const_bits(type, 0x80808080), "") : unit;
}

static void by_k_unit(MuseLlvm *ll, const ByK *s, LLVMValueRef k0, LLVMValueRef u, LLVMValueRef column,
                      LLVMValueRef dst, int present, int active) {
  LLVMValueRef unit = by_k_value(ll, s, k0, u, column, present, active);
  muse_llvm_store_raw(ll, muse_llvm_byte_address(ll, dst, mul(ll, u, 4 * s->unit_stride)), unit, 4);
}

// The columns of a packed block: groups (tiles of the left operand, panels of the right one) that stand apart in the
// packed form. Units are the outer loop, so that a row of the operand is read in one go.
typedef struct ByKColumns {
  LLVMValueRef first;     // column of lane 0 of group 0
  LLVMValueRef groups;    // whole ones, i64
  int64_t group_columns, group_bytes;
  int tail;               // columns of the group behind them
  LLVMValueRef has_tail;  // i1
} ByKColumns;

static void by_k_group(MuseLlvm *ll, const ByK *s, const ByKColumns *c, LLVMValueRef k0, LLVMValueRef u,
                       LLVMValueRef group, int present, int columns) {
  LLVMValueRef column = add(ll, c->first, mul(ll, group, c->group_columns));
  LLVMValueRef dst = muse_llvm_byte_address(ll, s->dst, mul(ll, group, c->group_bytes));
  for (int v = 0; v < columns; v += s->t->lanes) {
    int active = columns - v < s->t->lanes ? columns - v : s->t->lanes;
    by_k_unit(ll, s, k0, u, add(ll, column, muse_llvm_i64(ll, v)), muse_llvm_byte_offset(ll, dst, 4LL * v), present,
              active);
  }
}

static void by_k_units(MuseLlvm *ll, const ByK *s, const ByKColumns *c, LLVMValueRef k0, LLVMValueRef u, int present) {
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), c->groups, 1);
  by_k_group(ll, s, c, k0, u, loop.index, present, (int)c->group_columns);
  muse_llvm_loop_end(ll, &loop);
  if (c->tail == 0) return;
  MuseLlvmIf tail;
  muse_llvm_if_begin(ll, &tail, c->has_tail);
  by_k_group(ll, s, c, k0, u, c->groups, present, c->tail);
  muse_llvm_if_end(ll, &tail);
}

static void pack_by_k(MuseLlvm *ll, const MuseProduct *p, const ByK *s, const ByKColumns *c, const MuseBlock *block) {
  int group = s->t->group, rest = (int)(p->K % group);
  LLVMValueRef full = LLVMBuildUDiv(ll->b, block->len, muse_llvm_i64(ll, group), "");
  MuseLlvmLoop loop;
  muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), full, 1);
  by_k_units(ll, s, c, block->k0, loop.index, group);
  muse_llvm_loop_end(ll, &loop);
  if (rest == 0) return;
  MuseLlvmIf last;
  muse_llvm_if_begin(ll, &last, block->is_last_k);
  by_k_units(ll, s, c, block->k0, full, rest);
  muse_llvm_if_end(ll, &last);
}

// AMX wants rows of the left operand even where memory has columns: squares of 16 x 16 units are transposed.
static void pack_rows_by_k(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                           LLVMValueRef m, int rows, LLVMValueRef dst) {
  const MuseValue *a = p->anchor->operands[0];
  ByK s = {.t = t, .dtype = a->type.dtype, .src = muse_llvm_operand(ll, a->index), .columns = p->M};
  int W = t->lanes, elements = W * t->group, rest = (int)(p->K % elements);
  LLVMValueRef v[16], full = LLVMBuildUDiv(ll->b, block->len, muse_llvm_i64(ll, elements), "");
  for (int part = 0; part < (rest ? 2 : 1); part++) { // whole squares, then what is left of K
    MuseLlvmLoop loop;
    MuseLlvmIf last;
    LLVMValueRef square = full;
    if (part == 0) {
      muse_llvm_loop_begin(ll, &loop, muse_llvm_i64(ll, 0), full, 1);
      square = loop.index;
    } else {
      muse_llvm_if_begin(ll, &last, block->is_last_k);
    }
    for (int first = 0; first < rows; first += W) {
      int count = rows - first < W ? rows - first : W;
      LLVMValueRef column = add(ll, add(ll, block->m0, m), muse_llvm_i64(ll, first));
      for (int i = 0; i < W; i++) {
        int left = part == 0 ? t->group : rest - i * t->group, present = left < t->group ? left : t->group;
        LLVMValueRef u = add(ll, mul(ll, square, W), muse_llvm_i64(ll, i));
        v[i] = present > 0 ? by_k_value(ll, &s, block->k0, u, column, present, count)
                           : LLVMConstNull(muse_llvm_unit_type(ll, t->dot, W));
      }
      muse_llvm_transpose(ll, v, W);
      LLVMValueRef to = muse_llvm_byte_address(ll, dst, mul(ll, square, 4 * W));
      for (int r = 0; r < count; r++)
        muse_llvm_store_raw(ll, muse_llvm_byte_offset(ll, to, 4 * t->a_stride * (first + r)), v[r], 4);
    }
    if (part == 0) muse_llvm_loop_end(ll, &loop);
    else muse_llvm_if_end(ll, &last);
  }
}

void muse_llvm_pack_left(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                         LLVMValueRef m, int rows, LLVMValueRef dst) {
  if (p->anchor->kind == MUSE_OP_int8_matmul) pack_rows_by_k(ll, p, t, block, m, rows, dst);
  else pack_rows(ll, p, t, block, m, rows, dst);
}

void muse_llvm_pack_left_tiles(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                               LLVMValueRef m, LLVMValueRef dst) {
  const MuseValue *a = p->anchor->operands[0];
  ByK s = {.t = t,
           .dtype = a->type.dtype,
           .src = muse_llvm_operand(ll, a->index),
           .dst = dst,
           .columns = p->M,
           .unit_stride = t->a_stride};
  ByKColumns c = {.first = add(ll, block->m0, m),
                  .group_columns = t->tile_m,
                  .group_bytes = t->a_tile_bytes,
                  .tail = (int)(p->M % t->tile_m)};
  LLVMValueRef left = LLVMBuildSub(ll->b, block->rows, m, ""), height = muse_llvm_i64(ll, t->tile_m);
  c.groups = muse_llvm_minimum(ll, LLVMBuildUDiv(ll->b, left, height, ""), muse_llvm_i64(ll, MUSE_LEFT_TILES));
  LLVMValueRef end = muse_llvm_minimum(ll, left, muse_llvm_i64(ll, (int64_t)MUSE_LEFT_TILES * t->tile_m));
  c.has_tail = LLVMBuildICmp(ll->b, LLVMIntSLT, LLVMBuildMul(ll->b, c.groups, height, ""), end, "");
  pack_by_k(ll, p, &s, &c, block);
}

// ---- right operands with K as the last dimension: rows of W columns of C are transposed, W units at a time ----

static void pack_by_n(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                      LLVMValueRef dst) {
  const MuseValue *b = p->anchor->operands[1];
  MuseDtype dtype = b->type.dtype;
  bool trits = muse_dtype_is_trit(dtype), numbers = t->dot == MUSE_DOT_F32; // numbers: f32 also from trits
  int W = t->lanes, elements = W * t->group, rest = trits ? 0 : (int)(p->K % W);
  int64_t row_bytes = trits ? muse_trit_row_bytes(dtype, p->K) : p->K * muse_dtype_bytes(dtype),
          width = (int64_t)W * t->vectors_n;
  LLVMValueRef src = muse_llvm_operand(ll, b->index), row[16], v[16];
  MuseLlvmLoop vector, chunk;
  LLVMValueRef n_vectors = LLVMBuildUDiv(ll->b, add(ll, block->cols, muse_llvm_i64(ll, W - 1)), muse_llvm_i64(ll, W),
                                         "");
  muse_llvm_loop_begin(ll, &vector, muse_llvm_i64(ll, 0), n_vectors, 1);
  LLVMValueRef n = add(ll, block->n0, mul(ll, vector.index, W));
  for (int i = 0; i < W; i++) { // rows behind the edge repeat the last one: their sums are never stored
    LLVMValueRef at = add(ll, n, muse_llvm_i64(ll, i));
    if (p->N % W != 0) at = muse_llvm_minimum(ll, at, muse_llvm_i64(ll, p->N - 1));
    row[i] = muse_llvm_byte_address(ll, src, mul(ll, at, row_bytes));
  }
  LLVMValueRef per_panel = muse_llvm_i64(ll, t->vectors_n);
  LLVMValueRef place = add(ll, mul(ll, LLVMBuildUDiv(ll->b, vector.index, per_panel, ""), 4 * width * t->b_units),
                           mul(ll, LLVMBuildURem(ll->b, vector.index, per_panel, ""), 4 * W));
  LLVMValueRef to = muse_llvm_byte_address(ll, dst, place);
  LLVMValueRef round = trits ? add(ll, block->len, muse_llvm_i64(ll, elements - 1)) : block->len;
  LLVMValueRef n_chunks = LLVMBuildUDiv(ll->b, round, muse_llvm_i64(ll, elements), "");
  for (int part = 0; part < (rest ? 2 : 1); part++) { // whole vectors, then what is left of K
    MuseLlvmIf last;
    LLVMValueRef index = n_chunks;
    if (part == 0) {
      muse_llvm_loop_begin(ll, &chunk, muse_llvm_i64(ll, 0), n_chunks, 1);
      index = chunk.index;
    } else {
      muse_llvm_if_begin(ll, &last, block->is_last_k);
    }
    LLVMValueRef k = add(ll, block->k0, mul(ll, index, elements));
    for (int i = 0; i < W; i++) {
      if (!trits) {
        v[i] = muse_llvm_convert(ll, muse_llvm_load_partial(ll, dtype, row[i], k, W, part ? rest : W), dtype, MUSE_F32);
      } else if (numbers) {
        v[i] = muse_llvm_trits_f32(ll, row[i], k, W);
      } else {
        v[i] = muse_llvm_trit_codes(ll, dtype, row[i], LLVMBuildUDiv(ll->b, k, muse_llvm_i64(ll, elements), ""), W);
        if (t->offset == 0) v[i] = muse_llvm_trit_signed(ll, v[i]);
      }
    }
    muse_llvm_transpose(ll, v, W);
    LLVMValueRef at = muse_llvm_byte_address(ll, to, mul(ll, index, 4 * width * W));
    for (int u = 0; u < (part ? rest : W); u++)
      muse_llvm_store_raw(ll, muse_llvm_byte_offset(ll, at, 4 * width * u), v[u], 4);
    if (part == 0) muse_llvm_loop_end(ll, &chunk);
    else muse_llvm_if_end(ll, &last);
  }
  muse_llvm_loop_end(ll, &vector);
}

void muse_llvm_pack_right(MuseLlvm *ll, const MuseProduct *p, const MuseTiling *t, const MuseBlock *block,
                          LLVMValueRef dst) {
  MuseOpKind kind = p->anchor->kind;
  if (kind == MUSE_OP_ternary_matmul || (kind == MUSE_OP_matmul && muse_op_bool(p->anchor, "trans_b"))) {
    pack_by_n(ll, p, t, block, dst);
    return;
  }
  const MuseValue *b = p->anchor->operands[1];
  ByK s = {.t = t, .dtype = b->type.dtype, .src = muse_llvm_operand(ll, b->index), .dst = dst, .columns = p->N,
           .unit_stride = (int64_t)t->lanes * t->vectors_n, .make_unsigned = t->offset != 0};
  int64_t width = (int64_t)t->lanes * t->vectors_n;
  ByKColumns c = {
      .first = block->n0, .group_columns = width, .group_bytes = 4 * width * t->b_units, .tail = (int)(p->N % width)};
  c.groups = LLVMBuildUDiv(ll->b, block->cols, muse_llvm_i64(ll, width), "");
  c.has_tail = LLVMBuildICmp(ll->b, LLVMIntSLT, mul(ll, c.groups, width), block->cols, "");
  pack_by_k(ll, p, &s, &c, block);
}
