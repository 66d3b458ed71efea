// Map ops as CUDA C (see the header).
#include "compiler/emit_cuda_body.h"

#include "ir/base/status.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void muse_cuda_line(MuseCudaBody *body, const char *format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  MUSE_ASSERT(n >= 0 && n < (int)sizeof text);
  if (text[0] != '#')
    for (int i = 0; i < body->depth; i++) muse_str_append(body->out, "  ");
  muse_str_append(body->out, text);
  muse_str_append(body->out, "\n");
}

const char *muse_cuda_type(MuseDtype dtype) {
  switch (dtype) {
    case MUSE_F32: return "float";
    case MUSE_BF16: return "bf16";
    case MUSE_F16: return "f16";
    case MUSE_F64: return "double";
    case MUSE_I8: return "signed char";
    case MUSE_U8: return "unsigned char";
    case MUSE_I32: return "int";
    case MUSE_U32: return "unsigned";
    case MUSE_I64: return "long long";
    case MUSE_BOOL: return "bool";
    default: return "unsigned char"; // trits, which no body reads element by element
  }
}

// ---- values ----

static bool is_row_value(MuseType type, MuseType domain) {
  // A flat domain has one row that holds all elements, whatever the shape of its tensors.
  if (muse_type_last_dim(domain) > 1 && muse_type_elements(type) == muse_type_elements(domain)) return false;
  return muse_type_last_dim(domain) == 1 || muse_type_last_dim(type) == 1;
}

// The type without the dimensions that the domain has dropped.
static MuseType place_type(const MuseCudaBody *body, MuseType type) {
  type.rank = type.rank > body->dropped ? type.rank - body->dropped : 0;
  return type;
}

static MuseCudaLevel level_of(const MuseCudaBody *body, MuseType type) {
  if (muse_type_elements(type) == 1) return MUSE_CUDA_EVERYWHERE;
  return is_row_value(place_type(body, type), body->domain) ? MUSE_CUDA_ROW : MUSE_CUDA_PLACE;
}

static void add_value(MuseCudaBody *body, const MuseValue *value, char letter, int number) {
  MuseCudaValue *v = &body->value[body->n++];
  *v = (MuseCudaValue){.value = value, .level = level_of(body, value->type)};
  snprintf(v->name, sizeof v->name, "%c%d", letter, number);
}

void muse_cuda_body_create(MuseCudaBody *body, const MuseOp *kernel, MuseType domain, int dropped, MuseStr *out,
                           MuseDiag *diag) {
  *body = (MuseCudaBody){.kernel = kernel, .domain = domain, .dropped = dropped, .vector = 1, .out = out, .diag = diag};
  int n = kernel->body->n_args, number = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) n += op->n_results;
  body->value = calloc((size_t)n + 1, sizeof *body->value);
  MUSE_ASSERT(body->value != NULL);
  for (int i = 0; i < kernel->body->n_args; i++) add_value(body, kernel->body->args[i], 'x', i);
  for (const MuseOp *op = kernel->body->first; op; op = op->next)
    for (int r = 0; r < op->n_results; r++) add_value(body, op->results[r], 'v', number++);
}

void muse_cuda_body_destroy(MuseCudaBody *body) { free(body->value); }

MuseCudaValue *muse_cuda_value(MuseCudaBody *body, const MuseValue *value) {
  for (int i = 0; i < body->n; i++)
    if (body->value[i].value == value) return &body->value[i];
  MUSE_ASSERT(!"value of another kernel");
  return NULL;
}

const char *muse_cuda_ref(MuseCudaBody *body, const MuseValue *value) {
  static _Thread_local char text[8][40];
  static _Thread_local int turn;
  MuseCudaValue *v = muse_cuda_value(body, value);
  char *out = text[turn++ % 8];
  const char *index = value->def || v->level != MUSE_CUDA_PLACE ? "" : v->kept && !v->packed ? "[k][l]" : "[l]";
  snprintf(out, sizeof text[0], "%s%s", v->name, index);
  return out;
}

bool muse_cuda_is_table(const MuseOp *op, int operand) {
  return (op->kind == MUSE_OP_rope || op->kind == MUSE_OP_stochastic_round) && operand == 1;
}

// ---- places ----

void muse_cuda_row_offset(const MuseCudaBody *body, MuseType type, const char *row, MuseStr *out) {
  type = place_type(body, type);
  const MuseType domain = body->domain;
  if (muse_type_elements(type) == muse_type_elements(domain)) {
    muse_str_appendf(out, "(long long)%s * %lld", row, (long long)muse_type_last_dim(domain));
    return;
  }
  // Leading dimensions, aligned at the right; neighbours that both stretch or both do not are taken together.
  int n = domain.rank - 1, shift = domain.rank - type.rank;
  int64_t after = 1, stride = muse_type_last_dim(type);
  bool any = false;
  for (int d = n - 1; d >= 0;) {
    bool present = d - shift >= 0 && type.dim[d - shift] != 1;
    int64_t group = 1;
    while (d >= 0 && (domain.dim[d] == 1 || (d - shift >= 0 && type.dim[d - shift] != 1) == present))
      group *= domain.dim[d--];
    if (present && group > 1) {
      muse_str_appendf(out, "%s(long long)(%s", any ? " + " : "", row);
      if (after > 1) muse_str_appendf(out, " / %lldu", (long long)after);
      if (d >= 0) muse_str_appendf(out, " %% %lldu", (long long)group);
      muse_str_appendf(out, ") * %lld", (long long)stride);
      any = true;
      stride *= group;
    }
    after *= group;
  }
  if (!any) muse_str_append(out, "0");
}

// ---- one op ----

static void refuse(MuseCudaBody *body, const char *what) {
  if (body->status == MUSE_OK)
    body->status = muse_error(body->diag, MUSE_ERR_FAILED, "%s", what);
}

static void append_constant(MuseStr *out, double value, MuseDtype dtype) {
  if (dtype == MUSE_BOOL) muse_str_append(out, value != 0 ? "true" : "false");
  else if (muse_dtype_is_int(dtype)) muse_str_appendf(out, "(%s)%lldll", muse_cuda_type(dtype), (long long)value);
  else if (dtype == MUSE_F64 && isfinite(value)) muse_str_appendf(out, "%.17e", value);
  else if (dtype == MUSE_F64)
    muse_str_append(out, isnan(value) ? "__longlong_as_double(0x7ff8000000000000ll)"
                         : value < 0  ? "__longlong_as_double(0xfff0000000000000ll)"
                                      : "__longlong_as_double(0x7ff0000000000000ll)");
  else if (isfinite((float)value)) muse_str_appendf(out, "%.9ef", (double)(float)value);
  else
    muse_str_append(out, isnan(value) ? "__uint_as_float(0x7fc00000u)"
                         : value < 0  ? "__uint_as_float(0xff800000u)"
                                      : "__uint_as_float(0x7f800000u)");
}

// The text of a value converted between dtypes.
static void append_cast(MuseStr *out, const char *x, MuseDtype from, MuseDtype to) {
  bool from_storage = from == MUSE_BF16 || from == MUSE_F16, from_float = muse_dtype_is_float(from);
  if (from == to) {
    muse_str_append(out, x);
  } else if (to == MUSE_BF16 || to == MUSE_F16) {
    muse_str_appendf(out, from_storage ? "to_%s(to_f32(%s))" : "to_%s((float)%s)", muse_dtype_name(to), x);
  } else if (from_storage) {
    char wide[160];
    snprintf(wide, sizeof wide, "to_f32(%s)", x);
    append_cast(out, wide, MUSE_F32, to);
  } else if (to == MUSE_BOOL) {
    muse_str_appendf(out, "%s != 0", x);
  } else if (from_float && (to == MUSE_I8 || to == MUSE_U8)) {
    muse_str_appendf(out, "(%s)(int)%s", muse_cuda_type(to), x);
  } else {
    muse_str_appendf(out, "(%s)%s", muse_cuda_type(to), x);
  }
}

// NAME of a float function of one operand: C's name in f64, with an f in f32.
static const char *float_function(MuseOpKind kind) {
  switch (kind) {
    case MUSE_OP_exp: return "exp";
    case MUSE_OP_log: return "log";
    case MUSE_OP_sqrt: return "sqrt";
    case MUSE_OP_sin: return "sin";
    case MUSE_OP_cos: return "cos";
    case MUSE_OP_tanh: return "tanh";
    case MUSE_OP_round: return "rint";
    case MUSE_OP_floor: return "floor";
    case MUSE_OP_abs: return "fabs";
    default: return NULL;
  }
}

static const char *infix(MuseOpKind kind) {
  switch (kind) {
    case MUSE_OP_add: return "+";
    case MUSE_OP_sub: return "-";
    case MUSE_OP_mul: return "*";
    case MUSE_OP_div: return "/";
    case MUSE_OP_less: return "<";
    case MUSE_OP_equal: return "==";
    default: return NULL;
  }
}

// Does an operand change from row to row at the same column?
static bool changes_by_row(const MuseCudaBody *body, const MuseValue *operand) {
  MuseStr offset = {0};
  muse_cuda_row_offset(body, operand->type, "row", &offset);
  const bool changes = strstr(muse_str_text(&offset), "row") && muse_type_rows(body->domain) > 1;
  muse_str_free(&offset);
  return changes;
}

// Is a value the same in all rows at the same column?
static bool is_column_value(MuseCudaBody *body, const MuseValue *value) {
  bool *varies = calloc((size_t)body->n, 1);
  if (!varies) muse_out_of_memory((size_t)body->n);
  for (int i = 0; i < body->n; i++) { // operands stand before what is computed of them
    const MuseOp *op = body->value[i].value->def;
    varies[i] = op ? op->kind == MUSE_OP_stochastic_round || op->kind == MUSE_OP_rope
                   : changes_by_row(body, body->value[i].value);
    for (int o = 0; op && o < op->n_operands; o++)
      varies[i] |= varies[muse_cuda_value(body, op->operands[o]) - body->value];
  }
  const bool same = !varies[muse_cuda_value(body, value) - body->value];
  free(varies);
  return same;
}

// A division of many numbers by one: the reciprocal is taken once.
static bool shares_divisor(MuseCudaBody *body, const MuseOp *op) {
  if (op->kind != MUSE_OP_div || op->operands[0]->type.dtype != MUSE_F32) return false;
  if (muse_cuda_value(body, op->results[0])->level != MUSE_CUDA_PLACE) return false;
  const MuseValue *divisor = op->operands[1];
  return muse_cuda_value(body, divisor)->level != MUSE_CUDA_PLACE || is_column_value(body, divisor);
}

bool muse_cuda_body_divides_by_columns(MuseCudaBody *body) {
  for (const MuseOp *op = body->kernel->body->first; op; op = op->next)
    if (shares_divisor(body, op) && muse_cuda_value(body, op->operands[1])->level == MUSE_CUDA_PLACE) return true;
  return false;
}

// The operands of arithmetic are f32, f64, i32 or i64 (ops/map.c sees to it); storage types meet cast alone.
static void append_op(MuseCudaBody *body, const MuseOp *op, MuseStr *out) {
  MuseDtype dtype = op->n_operands ? op->operands[0]->type.dtype : op->results[0]->type.dtype;
  const char *x = op->n_operands > 0 ? muse_cuda_ref(body, op->operands[0]) : NULL;
  const char *y = op->n_operands > 1 && !muse_cuda_is_table(op, 1) ? muse_cuda_ref(body, op->operands[1]) : NULL;
  const char *suffix = dtype == MUSE_F64 ? "" : "f", *one = dtype == MUSE_F64 ? "1.0" : "1.0f";
  switch (op->kind) {
    case MUSE_OP_const: append_constant(out, muse_op_real(op, "value"), op->results[0]->type.dtype); return;
    case MUSE_OP_cast: append_cast(out, x, dtype, op->results[0]->type.dtype); return;
    case MUSE_OP_broadcast: muse_str_append(out, x); return;
    case MUSE_OP_select: muse_str_appendf(out, "%s ? %s : %s", x, y, muse_cuda_ref(body, op->operands[2])); return;
    case MUSE_OP_neg: muse_str_appendf(out, "-%s", x); return;
    case MUSE_OP_rsqrt: muse_str_appendf(out, "%s / sqrt%s(%s)", one, suffix, x); return;
    case MUSE_OP_recip: muse_str_appendf(out, "%s / %s", one, x); return;
    case MUSE_OP_sigmoid:
    case MUSE_OP_softplus: muse_str_appendf(out, "%s_of(%s)", muse_op_info(op->kind)->name, x); return;
    case MUSE_OP_max:
    case MUSE_OP_min: muse_str_appendf(out, "%s_of(%s, %s)", muse_op_info(op->kind)->name, x, y); return;
    case MUSE_OP_stochastic_round: {
      const char *u = muse_cuda_value(body, op->results[0])->name;
      bool lanes = muse_cuda_value(body, op->results[0])->level == MUSE_CUDA_PLACE;
      muse_str_appendf(out, "floor%s(%s + (%s)u_%s[%s])", suffix, x, muse_cuda_type(dtype), u, lanes ? "l" : "0");
      return;
    }
    case MUSE_OP_rope: {
      const char *v = muse_cuda_value(body, op->results[0])->name;
      const char *wide = dtype == MUSE_BF16 || dtype == MUSE_F16 ? "to_f32" : "";
      const char *sign = muse_op_bool(op, "inverse") ? "-" : "";
      muse_str_appendf(out, "%s(%s) * c_%s[l] + (second ? %s(o_%s[l]) : -%s(o_%s[l])) * %ss_%s[l]", wide, x, v, wide, v,
                       wide, v, sign, v);
      return;
    }
    default: break;
  }
  if (shares_divisor(body, op)) {
    muse_str_appendf(out, "divide_by(%s, %s)", x, y);
  } else if (infix(op->kind) && y) {
    muse_str_appendf(out, "%s %s %s", x, infix(op->kind), y);
  } else if (float_function(op->kind)) {
    muse_str_appendf(out, "%s%s(%s)", float_function(op->kind), suffix, x);
  } else {
    char sentence[160];
    snprintf(sentence, sizeof sentence, "op %s cannot stand in the body of a CUDA kernel; it needs a kernel of its own",
             muse_op_info(op->kind)->name);
    refuse(body, sentence);
  }
}

static void declare(MuseCudaBody *body, const MuseOp *op) {
  MuseStr text = {0};
  append_op(body, op, &text);
  muse_cuda_line(body, "const %s %s = %s;", muse_cuda_type(op->results[0]->type.dtype),
                 muse_cuda_value(body, op->results[0])->name, muse_str_text(&text));
  muse_str_free(&text);
}

// float u_NAME[V]: random numbers of the elements of the op's result from this place on.
static void draw(MuseCudaBody *body, const MuseOp *op, const MuseCudaValue *v) {
  MuseStr index = {0};
  const int lanes = v->level == MUSE_CUDA_PLACE ? body->vector : 1, rng = op->operands[1]->index;
  if (v->level != MUSE_CUDA_EVERYWHERE) muse_cuda_row_offset(body, v->value->type, "row", &index);
  if (v->level == MUSE_CUDA_PLACE) muse_str_append(&index, " + column");
  muse_cuda_line(body, "float u_%s[%d];", v->name, lanes);
  muse_cuda_line(body, "random<%d>(u_%s, (u64)(%s), ids.id[%lld], a%d[0], a%d[1]);", lanes, v->name,
                 index.len ? muse_str_text(&index) : "0", (long long)muse_op_int(op, "rng_id"), rng, rng);
  muse_str_free(&index);
}

// ---- levels everywhere and row ----

bool muse_cuda_is_read_plainly(const MuseCudaBody *body, const MuseValue *value) {
  for (const MuseOp *op = body->kernel->body->first; op; op = op->next) {
    if (muse_op_info(op->kind)->class_ == MUSE_CLASS_STRUCTURED) continue; // reads in its own way
    for (int i = 0; i < op->n_operands; i++)
      if (op->operands[i] == value && !muse_cuda_is_table(op, i)) return true;
  }
  return false;
}

static bool is_map(const MuseOp *op) {
  return op->kind == MUSE_OP_broadcast ||
         (muse_op_info(op->kind)->class_ == MUSE_CLASS_MAP && op->kind != MUSE_OP_rope);
}

static bool operands_ready(MuseCudaBody *body, const MuseOp *op) {
  for (int i = 0; i < op->n_operands; i++) {
    if (muse_cuda_is_table(op, i)) continue;
    const MuseCudaValue *v = muse_cuda_value(body, op->operands[i]);
    if (v->level == MUSE_CUDA_PLACE || !v->ready) return false;
  }
  return true;
}

static void compute_uniform(MuseCudaBody *body, MuseCudaLevel level) {
  for (int i = 0; i < body->n; i++) {
    MuseCudaValue *v = &body->value[i];
    const MuseOp *op = v->value->def;
    if (v->level > level || v->ready || v->ignored) continue;
    if (!op) {
      if (!muse_cuda_is_read_plainly(body, v->value) || muse_dtype_is_trit(v->value->type.dtype)) continue;
      const char *type = muse_cuda_type(v->value->type.dtype);
      if (v->level == MUSE_CUDA_EVERYWHERE)
        muse_cuda_line(body, "const %s %s = a%d[0];", type, v->name, v->value->index);
      else muse_cuda_line(body, "const %s %s = p%d[0];", type, v->name, v->value->index);
    } else {
      if (!is_map(op) || !operands_ready(body, op)) continue;
      if (op->kind == MUSE_OP_stochastic_round) draw(body, op, v);
      declare(body, op);
    }
    v->ready = true;
  }
}

void muse_cuda_body_reset(MuseCudaBody *body, MuseCudaLevel level) {
  for (int i = 0; i < body->n; i++)
    if (body->value[i].level >= level) body->value[i].ready = false;
}

void muse_cuda_body_begin(MuseCudaBody *body) { compute_uniform(body, MUSE_CUDA_EVERYWHERE); }

void muse_cuda_body_at_row(MuseCudaBody *body) {
  for (int i = 0; i < body->n; i++) {
    MuseCudaValue *v = &body->value[i];
    if (v->value->def || v->ignored || v->level == MUSE_CUDA_EVERYWHERE) continue;
    if (!muse_cuda_is_read_plainly(body, v->value)) continue;
    if (muse_dtype_is_trit(v->value->type.dtype)) {
      refuse(body, "a packed trit matrix cannot be read element by element in a fused body; unpack it first");
      continue;
    }
    MuseStr offset = {0};
    muse_cuda_row_offset(body, v->value->type, "row", &offset);
    muse_cuda_line(body, "const %s *p%d = a%d + (%s);", muse_cuda_type(v->value->type.dtype), v->value->index,
                   v->value->index, muse_str_text(&offset));
    muse_str_free(&offset);
  }
  compute_uniform(body, MUSE_CUDA_ROW);
}

void muse_cuda_body_bind(MuseCudaBody *body, const MuseValue *value, const char *name) {
  MuseCudaValue *v = muse_cuda_value(body, value);
  snprintf(v->name, sizeof v->name, "%s", name);
  v->ready = true;
  compute_uniform(body, MUSE_CUDA_ROW);
}

// ---- steps ----

void muse_cuda_step_forget(MuseCudaBody *body) {
  for (int i = 0; i < body->n; i++) body->value[i].needed = false;
}

void muse_cuda_step_need(MuseCudaBody *body, const MuseValue *value) {
  MuseCudaValue *v = muse_cuda_value(body, value);
  if (v->level != MUSE_CUDA_PLACE || v->needed || v->ready) return;
  v->needed = true;
  for (int i = 0; value->def && i < value->def->n_operands; i++)
    if (!muse_cuda_is_table(value->def, i)) muse_cuda_step_need(body, value->def->operands[i]);
}

// The other half of the row, cosines and sines of `column`; a step lies in one half.
static void load_rope(MuseCudaBody *body, const MuseOp *op, const MuseCudaValue *v) {
  const MuseType domain = body->domain;
  const long long d = domain.dim[3], half = d / 2;
  const int x = op->operands[0]->index, table = op->operands[1]->index, V = body->vector;
  const char *type = muse_cuda_type(op->operands[1]->type.dtype);
  muse_cuda_line(body, "%s o_%s[%d];", muse_cuda_type(op->operands[0]->type.dtype), v->name, V);
  muse_cuda_line(body, "%s c_%s[%d], s_%s[%d];", type, v->name, V, v->name, V);
  muse_cuda_line(body, "load(o_%s, p%d + (column < %lld ? column + %lld : column - %lld));", v->name, x, half, half,
                 half);
  muse_cuda_line(body, "const %s *t_%s = a%d + (long long)(row / %lldu %% %lldu) * %lld + column %% %lld;", type,
                 v->name, table, (long long)domain.dim[2], (long long)domain.dim[1], d, half);
  muse_cuda_line(body, "load(c_%s, t_%s);", v->name, v->name);
  muse_cuda_line(body, "load(s_%s, t_%s + %lld);", v->name, v->name, half);
}

void muse_cuda_step_load(MuseCudaBody *body) {
  bool rope = false;
  for (int i = 0; i < body->n; i++) {
    MuseCudaValue *v = &body->value[i];
    const MuseOp *op = v->value->def;
    if (!v->needed) continue;
    if (!op && v->packed) {
      muse_cuda_line(body, "%s %s[%d];", muse_cuda_type(v->value->type.dtype), v->name, body->vector);
      muse_cuda_line(body, "unpack(%s, packed_%s[k]);", v->name, v->name);
    } else if (!op && !v->kept) {
      muse_cuda_line(body, "%s %s[%d];", muse_cuda_type(v->value->type.dtype), v->name, body->vector);
      muse_cuda_line(body, "load(%s, p%d + column);", v->name, v->value->index);
    } else if (op && op->kind == MUSE_OP_stochastic_round) {
      draw(body, op, v);
    } else if (op && op->kind == MUSE_OP_rope) {
      if (!rope) muse_cuda_line(body, "const bool second = column >= %lld;", (long long)body->domain.dim[3] / 2);
      rope = true;
      load_rope(body, op, v);
    }
  }
}

void muse_cuda_step_compute(MuseCudaBody *body) {
  for (int i = 0; i < body->n; i++) {
    MuseCudaValue *v = &body->value[i];
    if (v->needed && v->value->def) declare(body, v->value->def);
  }
}
