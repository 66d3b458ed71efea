// Map ops as LLVM values, and their places in a domain (see the header).

#include "compiler/emit_llvm_body.h"

#include "compiler/emit_llvm_math.h"

#include <string.h>

// ---- one op ----

static bool is_unsigned(MuseDtype d) { return d == MUSE_U8 || d == MUSE_U32 || d == MUSE_BOOL; }

static LLVMValueRef unary(MuseLlvm *ll, MuseOpKind kind, MuseDtype dtype, LLVMValueRef x) {
  bool is_float = muse_dtype_is_float(dtype);
  switch (kind) {
    case MUSE_OP_neg: return is_float ? LLVMBuildFNeg(ll->b, x, "") : LLVMBuildNeg(ll->b, x, "");
    case MUSE_OP_abs: return is_unsigned(dtype) ? x : muse_llvm_abs(ll, x);
    case MUSE_OP_exp: return muse_llvm_exp(ll, x);
    case MUSE_OP_log: return muse_llvm_log(ll, x);
    case MUSE_OP_sqrt: return muse_llvm_sqrt(ll, x);
    case MUSE_OP_rsqrt: return muse_llvm_rsqrt(ll, x);
    case MUSE_OP_recip: return LLVMBuildFDiv(ll->b, muse_llvm_const(LLVMTypeOf(x), 1), x, "");
    case MUSE_OP_sin:
    case MUSE_OP_cos: {
      LLVMValueRef sin, cos;
      muse_llvm_sincos(ll, x, &sin, &cos);
      return kind == MUSE_OP_sin ? sin : cos;
    }
    case MUSE_OP_tanh: return muse_llvm_tanh(ll, x);
    case MUSE_OP_sigmoid: return muse_llvm_sigmoid(ll, x);
    case MUSE_OP_softplus: return muse_llvm_softplus(ll, x);
    case MUSE_OP_round: return is_float ? muse_llvm_roundeven(ll, x) : x;
    case MUSE_OP_floor: return is_float ? muse_llvm_floor(ll, x) : x;
    default: return NULL;
  }
}

static LLVMValueRef binary(MuseLlvm *ll, MuseOpKind kind, MuseDtype dtype, LLVMValueRef x, LLVMValueRef y) {
  bool is_float = muse_dtype_is_float(dtype), uns = is_unsigned(dtype);
  switch (kind) {
    case MUSE_OP_add: return is_float ? LLVMBuildFAdd(ll->b, x, y, "") : LLVMBuildAdd(ll->b, x, y, "");
    case MUSE_OP_sub: return is_float ? LLVMBuildFSub(ll->b, x, y, "") : LLVMBuildSub(ll->b, x, y, "");
    case MUSE_OP_mul: return is_float ? LLVMBuildFMul(ll->b, x, y, "") : LLVMBuildMul(ll->b, x, y, "");
    case MUSE_OP_div:
      if (is_float) return LLVMBuildFDiv(ll->b, x, y, "");
      return uns ? LLVMBuildUDiv(ll->b, x, y, "") : LLVMBuildSDiv(ll->b, x, y, "");
    case MUSE_OP_max: return muse_llvm_max(ll, x, y, uns);
    case MUSE_OP_min: return muse_llvm_min(ll, x, y, uns);
    case MUSE_OP_less:
      if (is_float) return LLVMBuildFCmp(ll->b, LLVMRealOLT, x, y, "");
      return LLVMBuildICmp(ll->b, uns ? LLVMIntULT : LLVMIntSLT, x, y, "");
    case MUSE_OP_equal:
      return is_float ? LLVMBuildFCmp(ll->b, LLVMRealOEQ, x, y, "") : LLVMBuildICmp(ll->b, LLVMIntEQ, x, y, "");
    default: return NULL;
  }
}

LLVMValueRef muse_llvm_map_op(MuseLlvm *ll, const MuseOp *op, const LLVMValueRef *operands, int lanes,
                              const MuseLlvmRandom *random) {
  MuseDtype dtype = op->n_operands > 0 ? op->operands[0]->type.dtype : op->results[0]->type.dtype;
  // Storage floats take part in arithmetic as f32.
  bool storage = dtype == MUSE_BF16 || dtype == MUSE_F16;
  LLVMValueRef result = NULL;
  switch (op->kind) {
    case MUSE_OP_const: {
      MuseDtype to = op->results[0]->type.dtype;
      double value = muse_op_real(op, "value");
      if (to == MUSE_BF16 || to == MUSE_F16)
        return muse_llvm_convert(ll, muse_llvm_const(muse_llvm_type(ll, MUSE_F32, lanes), value), MUSE_F32, to);
      return muse_llvm_const(muse_llvm_type(ll, to, lanes), to == MUSE_BOOL ? value != 0 : value);
    }
    case MUSE_OP_cast: return muse_llvm_convert(ll, operands[0], dtype, op->results[0]->type.dtype);
    case MUSE_OP_broadcast: return operands[0];
    case MUSE_OP_select: return LLVMBuildSelect(ll->b, operands[0], operands[1], operands[2], "");
    case MUSE_OP_stochastic_round: {
      LLVMValueRef u = muse_llvm_random_uniform(ll, random->index, random->aligned, random->op_id, random->seed,
                                                random->step, lanes);
      LLVMValueRef x = storage ? muse_llvm_convert(ll, operands[0], dtype, MUSE_F32) : operands[0];
      if (dtype == MUSE_F64) u = muse_llvm_convert(ll, u, MUSE_F32, MUSE_F64);
      result = muse_llvm_floor(ll, LLVMBuildFAdd(ll->b, x, u, ""));
      return storage ? muse_llvm_convert(ll, result, MUSE_F32, dtype) : result;
    }
    default: break;
  }
  MuseDtype compute = storage ? MUSE_F32 : dtype;
  LLVMValueRef x = muse_llvm_convert(ll, operands[0], dtype, compute);
  if (op->n_operands == 1) {
    result = unary(ll, op->kind, compute, x);
  } else {
    result = binary(ll, op->kind, compute, x, muse_llvm_convert(ll, operands[1], dtype, compute));
    if (op->kind == MUSE_OP_less || op->kind == MUSE_OP_equal) storage = false;
  }
  if (!result) {
    muse_llvm_fail(ll, "op %s cannot stand in the body of a CPU kernel; it needs a kernel of its own",
                   muse_op_info(op->kind)->name);
    return LLVMGetUndef(muse_llvm_type(ll, op->results[0]->type.dtype, lanes));
  }
  return storage ? muse_llvm_convert(ll, result, MUSE_F32, dtype) : result;
}

// ---- places ----

// How long a value lives: the whole stage, one row, one step of columns.
typedef enum Level { LEVEL_STAGE, LEVEL_ROW, LEVEL_PLACE } Level;

typedef struct Entry {
  const MuseValue *value;
  LLVMValueRef scalar, wide; // scalar for levels STAGE and ROW; wide: lanes (for all levels, at the current place)
  LLVMValueRef base;         // kernel arguments: element number of the row's first column
  LLVMValueRef table_row;    // rope: element number of the row of the table
  Level level;
} Entry;

struct MuseLlvmBody {
  MuseLlvm *ll;
  const MuseOp *kernel;
  MuseType domain;
  int64_t columns;
  int dropped;
  LLVMValueRef row, column, active;
  bool aligned;
  int lanes, half;
  int n;
  Entry *entry; // kernel arguments, then results of the body's ops, in order
};

bool muse_llvm_is_row_value(MuseType type, MuseType domain) {
  // A flat domain has one row that holds all elements, whatever the shape of its tensors.
  if (muse_type_last_dim(domain) > 1 && muse_type_elements(type) == muse_type_elements(domain)) return false;
  return muse_type_last_dim(domain) == 1 || muse_type_last_dim(type) == 1;
}

// The type without the dimensions that the domain has dropped.
static MuseType place_type(const MuseLlvmBody *body, MuseType type) {
  type.rank = type.rank > body->dropped ? type.rank - body->dropped : 0;
  return type;
}

static Level level_of(const MuseLlvmBody *body, MuseType type) {
  if (muse_type_elements(type) == 1) return LEVEL_STAGE;
  return muse_llvm_is_row_value(type, body->domain) ? LEVEL_ROW : LEVEL_PLACE;
}

MuseLlvmBody *muse_llvm_body_create(MuseLlvm *ll, const MuseOp *kernel, MuseType domain) {
  return muse_llvm_body_create_dropped(ll, kernel, domain, 0);
}

MuseLlvmBody *muse_llvm_body_create_dropped(MuseLlvm *ll, const MuseOp *kernel, MuseType domain, int dropped) {
  MuseLlvmBody *body = MUSE_NEW(ll->arena, MuseLlvmBody);
  *body = (MuseLlvmBody){.ll = ll,
                         .kernel = kernel,
                         .domain = domain,
                         .dropped = dropped,
                         .columns = muse_type_last_dim(domain),
                         .lanes = 1};
  int n = kernel->body->n_args;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) n += op->n_results;
  body->entry = MUSE_NEW_ARRAY(ll->arena, Entry, n);
  for (int i = 0; i < kernel->body->n_args; i++) body->entry[body->n++].value = kernel->body->args[i];
  for (const MuseOp *op = kernel->body->first; op; op = op->next)
    for (int r = 0; r < op->n_results; r++) body->entry[body->n++].value = op->results[r];
  for (int i = 0; i < n; i++) body->entry[i].level = level_of(body, place_type(body, body->entry[i].value->type));
  return body;
}

MuseLlvmBody *muse_llvm_body_clone(const MuseLlvmBody *body) {
  MuseLlvmBody *copy = MUSE_NEW(body->ll->arena, MuseLlvmBody);
  *copy = *body;
  copy->entry = MUSE_NEW_ARRAY(body->ll->arena, Entry, body->n);
  memcpy(copy->entry, body->entry, sizeof(Entry) * (size_t)body->n);
  return copy;
}

static Entry *find(MuseLlvmBody *body, const MuseValue *value) {
  for (int i = 0; i < body->n; i++)
    if (body->entry[i].value == value) return &body->entry[i];
  MUSE_ASSERT(!"value of another kernel");
  return NULL;
}

LLVMValueRef muse_llvm_row_offset(MuseLlvm *ll, MuseType type, MuseType domain, LLVMValueRef row) {
  // Leading dimensions, aligned at the right; neighbours that both stretch or both do not are taken together.
  if (muse_type_elements(type) == muse_type_elements(domain))
    return LLVMBuildMul(ll->b, row, muse_llvm_i64(ll, muse_type_last_dim(domain)), "");
  int n = domain.rank - 1, shift = domain.rank - type.rank;
  LLVMValueRef offset = muse_llvm_i64(ll, 0);
  int64_t after = 1,
          stride = muse_type_last_dim(type); // rows of the domain, elements of the tensor, per coordinate step
  for (int d = n - 1; d >= 0;) {
    bool present = d - shift >= 0 && type.dim[d - shift] != 1;
    int64_t group = 1;
    while (d >= 0 && (domain.dim[d] == 1 || (d - shift >= 0 && type.dim[d - shift] != 1) == present))
      group *= domain.dim[d--];
    if (present && group > 1) {
      LLVMValueRef coordinate = after == 1 ? row : LLVMBuildUDiv(ll->b, row, muse_llvm_i64(ll, after), "");
      if (d >= 0) coordinate = LLVMBuildURem(ll->b, coordinate, muse_llvm_i64(ll, group), "");
      offset = LLVMBuildAdd(ll->b, offset, LLVMBuildMul(ll->b, coordinate, muse_llvm_i64(ll, stride), ""), "");
      stride *= group;
    }
    after *= group;
  }
  return offset;
}

static LLVMValueRef evaluate(MuseLlvmBody *body, Entry *e, int lanes);

// Value of an entry at `lanes` lanes; entries of levels STAGE and ROW are kept as scalars and widened.
static LLVMValueRef value_of(MuseLlvmBody *body, const MuseValue *value, int lanes) {
  Entry *e = find(body, value);
  if (e->level != LEVEL_PLACE) {
    if (!e->scalar) e->scalar = evaluate(body, e, 1);
    if (lanes == 1) return e->scalar;
    if (!e->wide) e->wide = muse_llvm_splat(body->ll, e->scalar, lanes);
    return e->wide;
  }
  if (!e->wide) e->wide = evaluate(body, e, lanes);
  return e->wide;
}

static LLVMValueRef load_arg(MuseLlvmBody *body, Entry *e, int lanes) {
  MuseLlvm *ll = body->ll;
  MuseType type = e->value->type;
  LLVMValueRef ptr = muse_llvm_operand(ll, e->value->index);
  if (muse_dtype_is_trit(type.dtype)) {
    muse_llvm_fail(ll, "a packed trit matrix cannot be read element by element in a fused body; unpack it first");
    return LLVMGetUndef(muse_llvm_vector(ll->f32, lanes));
  }
  if (e->level == LEVEL_STAGE) return muse_llvm_load(ll, type.dtype, ptr, muse_llvm_i64(ll, 0), 1, NULL);
  if (!e->base) e->base = muse_llvm_row_offset(ll, place_type(body, type), body->domain, body->row);
  if (e->level == LEVEL_ROW) return muse_llvm_load(ll, type.dtype, ptr, e->base, 1, NULL);
  LLVMValueRef index = LLVMBuildAdd(ll->b, e->base, body->column, "");
  return muse_llvm_load(ll, type.dtype, ptr, index, lanes, body->active);
}

static MuseLlvmRandom random_of(MuseLlvmBody *body, const MuseOp *op, Level level) {
  MuseLlvm *ll = body->ll;
  MuseType type = op->results[0]->type;
  MuseLlvmRandom random = {.index = muse_llvm_i64(ll, 0)};
  if (level != LEVEL_STAGE) random.index = muse_llvm_row_offset(ll, place_type(body, type), body->domain, body->row);
  if (level == LEVEL_PLACE) {
    random.index = LLVMBuildAdd(ll->b, random.index, body->column, "");
    random.aligned = body->aligned && body->lanes % 4 == 0 &&
                     (body->columns % 4 == 0 || muse_type_elements(type) == muse_type_elements(body->domain));
  }
  LLVMValueRef rng = muse_llvm_operand(ll, op->operands[1]->index);
  random.seed = muse_llvm_load(ll, MUSE_U32, rng, muse_llvm_i64(ll, 0), 1, NULL);
  random.step = muse_llvm_load(ll, MUSE_U32, rng, muse_llvm_i64(ll, 1), 1, NULL);
  random.op_id = muse_llvm_load(ll, MUSE_I64, ll->rng_ids, muse_llvm_i64(ll, muse_op_int(op, "rng_id")), 1, NULL);
  return random;
}

// x [.., T, H, d], table [T, d] = cos | sin: in the first half x1 cos - x2 sin, in the second x2 cos + x1 sin.
static LLVMValueRef rope(MuseLlvmBody *body, Entry *e, int lanes) {
  MuseLlvm *ll = body->ll;
  const MuseOp *op = e->value->def;
  const MuseValue *x = op->operands[0], *table = op->operands[1];
  MUSE_ASSERT(!x->def && !table->def && body->domain.rank == 4);
  int64_t d = body->columns, half = d / 2, heads = body->domain.dim[2], steps = body->domain.dim[1];
  LLVMValueRef other = LLVMBuildAdd(ll->b, body->column, muse_llvm_i64(ll, body->half ? -half : half), "");
  LLVMValueRef angle = body->half ? other : body->column;
  Entry *argument = find(body, x);
  LLVMValueRef own = value_of(body, x, lanes);
  LLVMValueRef partner = muse_llvm_load(ll, x->type.dtype, muse_llvm_operand(ll, x->index),
                                        LLVMBuildAdd(ll->b, argument->base, other, ""), lanes, body->active);
  LLVMValueRef t = LLVMBuildURem(ll->b, LLVMBuildUDiv(ll->b, body->row, muse_llvm_i64(ll, heads), ""),
                                 muse_llvm_i64(ll, steps), "");
  LLVMValueRef at = LLVMBuildAdd(ll->b, LLVMBuildMul(ll->b, t, muse_llvm_i64(ll, d), ""), angle, "");
  LLVMValueRef pointer = muse_llvm_operand(ll, table->index);
  LLVMValueRef c = muse_llvm_load_f32(ll, table->type.dtype, pointer, at, lanes, body->active);
  LLVMValueRef s = muse_llvm_load_f32(ll, table->type.dtype, pointer,
                                      LLVMBuildAdd(ll->b, at, muse_llvm_i64(ll, half), ""), lanes, body->active);
  MuseDtype dtype = x->type.dtype;
  LLVMValueRef a = LLVMBuildFMul(ll->b, muse_llvm_convert(ll, own, dtype, MUSE_F32), c, "");
  LLVMValueRef b = LLVMBuildFMul(ll->b, muse_llvm_convert(ll, partner, dtype, MUSE_F32), s, "");
  bool minus = (body->half == 0) != muse_op_bool(op, "inverse");
  LLVMValueRef sum = minus ? LLVMBuildFSub(ll->b, a, b, "") : LLVMBuildFAdd(ll->b, a, b, "");
  return muse_llvm_convert(ll, sum, MUSE_F32, op->results[0]->type.dtype);
}

static LLVMValueRef evaluate(MuseLlvmBody *body, Entry *e, int lanes) {
  const MuseOp *op = e->value->def;
  if (!op) return load_arg(body, e, lanes);
  if (op->kind == MUSE_OP_rope) return rope(body, e, lanes);
  MUSE_ASSERT(muse_op_info(op->kind)->class_ == MUSE_CLASS_MAP || op->kind == MUSE_OP_broadcast);
  LLVMValueRef operands[8];
  MUSE_ASSERT(op->n_operands <= 8);
  MuseLlvmRandom random;
  bool is_random = op->kind == MUSE_OP_stochastic_round;
  if (is_random) random = random_of(body, op, e->level);
  for (int i = 0; i < op->n_operands; i++)
    operands[i] = is_random && i == 1 ? NULL : value_of(body, op->operands[i], lanes);
  return muse_llvm_map_op(body->ll, op, operands, lanes, is_random ? &random : NULL);
}

// Can the scalar be had now: an argument, or a map op of such values? (Row reductions and anchors are bound from
// outside.)
static bool is_ready(MuseLlvmBody *body, const Entry *e) {
  const MuseOp *op = e->value->def;
  if (!op) return !muse_dtype_is_trit(e->value->type.dtype);
  if (op->kind == MUSE_OP_rope || (muse_op_info(op->kind)->class_ != MUSE_CLASS_MAP && op->kind != MUSE_OP_broadcast))
    return false;
  for (int i = 0; i < op->n_operands; i++) {
    if (op->kind == MUSE_OP_stochastic_round && i == 1) continue;
    Entry *operand = find(body, op->operands[i]);
    if (operand->level == LEVEL_PLACE || !operand->scalar) return false;
  }
  return true;
}

// Arguments that only random ops or rope read are not scalars of the row.
static bool is_plain_use(const MuseLlvmBody *body, const MuseValue *value) {
  for (const MuseOp *op = body->kernel->body->first; op; op = op->next) {
    if (muse_op_info(op->kind)->class_ != MUSE_CLASS_MAP && op->kind != MUSE_OP_broadcast &&
        op->kind != MUSE_OP_yield && muse_op_info(op->kind)->class_ != MUSE_CLASS_REDUCE)
      continue;
    for (int i = 0; i < op->n_operands; i++)
      if (op->operands[i] == value && !(op->kind == MUSE_OP_stochastic_round && i == 1) && op->kind != MUSE_OP_rope)
        return true;
  }
  return false;
}

static void compute_scalars(MuseLlvmBody *body, Level level) {
  for (int i = 0; i < body->n; i++) {
    Entry *e = &body->entry[i];
    if (e->level > level || e->scalar || !is_ready(body, e)) continue;
    if (!e->value->def && !is_plain_use(body, e->value)) continue;
    e->scalar = evaluate(body, e, 1);
  }
}

void muse_llvm_body_begin(MuseLlvmBody *body) {
  for (int i = 0; i < body->n; i++) body->entry[i].scalar = body->entry[i].wide = body->entry[i].base = NULL;
  compute_scalars(body, LEVEL_STAGE);
}

void muse_llvm_body_at_row(MuseLlvmBody *body, LLVMValueRef row) {
  body->row = row;
  for (int i = 0; i < body->n; i++) {
    Entry *e = &body->entry[i];
    e->wide = NULL;
    if (e->level != LEVEL_STAGE) e->scalar = e->base = NULL;
    // Offsets of the row are needed in every step: computed here, where they dominate all of them.
    if (!e->value->def && e->level == LEVEL_PLACE && !muse_dtype_is_trit(e->value->type.dtype) &&
        (muse_type_broadcasts_to(place_type(body, e->value->type), body->domain) ||
         muse_type_elements(e->value->type) == muse_type_elements(body->domain)))
      e->base = muse_llvm_row_offset(body->ll, place_type(body, e->value->type), body->domain, row);
  }
  compute_scalars(body, LEVEL_ROW);
}

void muse_llvm_body_at_column(MuseLlvmBody *body, LLVMValueRef column, bool aligned, int lanes, LLVMValueRef active) {
  body->column = column;
  body->aligned = aligned;
  body->lanes = lanes;
  body->active = active;
  for (int i = 0; i < body->n; i++) body->entry[i].wide = NULL;
}

void muse_llvm_body_bind(MuseLlvmBody *body, const MuseValue *value, LLVMValueRef v) {
  Entry *e = find(body, value);
  if (e->level == LEVEL_PLACE || muse_llvm_lanes_of(v) > 1) {
    e->wide = v;
    return;
  }
  e->scalar = v;
  e->wide = NULL;
  compute_scalars(body, LEVEL_ROW);
}

LLVMValueRef muse_llvm_body_value(MuseLlvmBody *body, const MuseValue *value) {
  return value_of(body, value, body->lanes);
}

LLVMValueRef muse_llvm_body_scalar(MuseLlvmBody *body, const MuseValue *value) {
  MUSE_ASSERT(find(body, value)->level != LEVEL_PLACE);
  return value_of(body, value, 1);
}

void muse_llvm_body_set_half(MuseLlvmBody *body, int half) { body->half = half; }

// ---- results ----

static const MuseValue *yielded(const MuseLlvmBody *body, int index) {
  return body->kernel->body->last->operands[index];
}

void muse_llvm_body_store(MuseLlvmBody *body, int index) {
  MuseLlvm *ll = body->ll;
  const MuseValue *value = yielded(body, index);
  LLVMValueRef offset = muse_llvm_row_offset(ll, place_type(body, value->type), body->domain, body->row);
  LLVMValueRef at = LLVMBuildAdd(ll->b, offset, body->column, "");
  muse_llvm_store(ll, value->type.dtype, muse_llvm_result(ll, index), at, muse_llvm_body_value(body, value),
                  body->lanes, body->active);
}

void muse_llvm_body_store_row(MuseLlvmBody *body, int index) {
  MuseLlvm *ll = body->ll;
  const MuseValue *value = yielded(body, index);
  LLVMValueRef at = muse_llvm_row_offset(ll, place_type(body, value->type), body->domain, body->row);
  muse_llvm_store(ll, value->type.dtype, muse_llvm_result(ll, index), at, muse_llvm_body_scalar(body, value), 1, NULL);
}

// One walk in order, so that a value used many times is not followed many times.
bool muse_llvm_depends_on(const MuseValue *value, const MuseOp *anchor) {
  enum { MAX_REACHED = 512 };
  const MuseValue *reached[MAX_REACHED];
  int n = 0;
  for (const MuseOp *op = anchor; op; op = op->next) {
    bool hit = op == anchor;
    for (int i = 0; i < op->n_operands && !hit; i++)
      for (int k = 0; k < n && !hit; k++) hit = op->operands[i] == reached[k];
    for (int r = 0; r < op->n_results && hit; r++) {
      if (op->results[r] == value) return true;
      MUSE_ASSERT(n < MAX_REACHED);
      reached[n++] = op->results[r];
    }
  }
  return false;
}

void muse_llvm_body_store_results(MuseLlvmBody *body, const MuseOp *anchor) {
  const MuseOp *yield = body->kernel->body->last;
  // All values first: a store may overwrite, in place, an operand that another result reads.
  for (int i = 0; i < yield->n_operands; i++)
    if (!anchor || muse_llvm_depends_on(yield->operands[i], anchor)) muse_llvm_body_value(body, yield->operands[i]);
  for (int i = 0; i < yield->n_operands; i++)
    if (!anchor || muse_llvm_depends_on(yield->operands[i], anchor)) muse_llvm_body_store(body, i);
}
