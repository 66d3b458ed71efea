// Text to IR. Builds what the text says and refuses what it cannot build; whether the result makes sense is the
// verifier's business. Texts may come from anywhere: depth is bounded, and memory is bounded by a multiple of the
// text's length.
#include "ir/text.h"

#include "ir/base/checked.h"
#include "ir/lex.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 8    // of regions within regions
#define MAX_ATTRS 1024 // in one list
#define MAX_FUNCS 4096

// What a value number means in a function; entries of earlier functions count as empty.
typedef struct ValueSlot {
  MuseValue *value;
  const MuseFunc *func;
} ValueSlot;

typedef struct Parser {
  const char *name;
  const char *text;
  size_t length;
  MuseLexer lexer;
  MuseToken token; // the next one
  MuseModule *module;
  MuseFunc *func;
  ValueSlot *values; // by number
  size_t n_values;   // room in it
  int n_funcs;
  MuseDiag *diag;
  // Scratch stacks for lists of unknown length.
  MuseValue **operands;
  size_t n_operands, cap_operands;
  int64_t *ints; // ids, integers
  size_t n_ints, cap_ints;
} Parser;

#define FAIL(p, ...) return fail((p), &(p)->token, __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static MuseStatus fail(Parser *p, const MuseToken *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  muse_diag_set_source(p->diag, p->name, p->text, p->length);
  MuseLoc loc = {.file = p->name, .line = t->line, .col = t->col};
  muse_errorv(p->diag, MUSE_ERR_INPUT, loc, format, args);
  va_end(args);
  return MUSE_ERR_INPUT;
}

static MuseStatus expected(Parser *p, const char *what) {
  MuseToken *t = &p->token;
  if (t->kind == MUSE_TOKEN_BAD) FAIL(p, "%s", t->message);
  if (t->kind == MUSE_TOKEN_END) FAIL(p, "expected %s, but the text ends here", what);
  int shown = t->length > 40 ? 40 : (int)t->length;
  FAIL(p, "expected %s, but found '%.*s'", what, shown, t->begin);
}

static void advance(Parser *p) { muse_lexer_next(&p->lexer, &p->token); }

static bool at_punct(const Parser *p, char c) { return p->token.kind == MUSE_TOKEN_PUNCT && p->token.punct == c; }

static bool eat_punct(Parser *p, char c) {
  if (!at_punct(p, c)) return false;
  advance(p);
  return true;
}

static MuseStatus need_punct(Parser *p, char c, const char *after) {
  if (eat_punct(p, c)) return MUSE_OK;
  char what[96];
  snprintf(what, sizeof what, "'%c' %s", c, after);
  return expected(p, what);
}

static bool token_is(const MuseToken *t, const char *word) {
  return t->kind == MUSE_TOKEN_WORD && t->text_length == strlen(word) && memcmp(t->text, word, t->text_length) == 0;
}

static bool at_word(const Parser *p, const char *word) { return token_is(&p->token, word); }

static bool eat_word(Parser *p, const char *word) {
  if (!at_word(p, word)) return false;
  advance(p);
  return true;
}

// A word or a string, as text in the arena.
static MuseStatus need_text(Parser *p, const char *what, const char **out) {
  if (p->token.kind == MUSE_TOKEN_STRING) *out = p->token.text;
  else if (p->token.kind == MUSE_TOKEN_WORD)
    *out = muse_arena_strndup(p->module->arena, p->token.text, p->token.text_length);
  else return expected(p, what);
  advance(p);
  return MUSE_OK;
}

static void *grow(void *data, size_t *cap, size_t element) {
  *cap = *cap ? *cap * 2 : 64;
  data = realloc(data, *cap * element);
  MUSE_ASSERT(data && "out of memory");
  return data;
}

static void push_int(Parser *p, int64_t value) {
  if (p->n_ints == p->cap_ints) p->ints = grow(p->ints, &p->cap_ints, sizeof *p->ints);
  p->ints[p->n_ints++] = value;
}

static void push_operand(Parser *p, MuseValue *value) {
  if (p->n_operands == p->cap_operands) p->operands = grow(p->operands, &p->cap_operands, sizeof *p->operands);
  p->operands[p->n_operands++] = value;
}

// --- types and attributes ---

static MuseStatus parse_type(Parser *p, MuseType *out) {
  MuseType type = {0};
  MuseToken begin = p->token;
  if (begin.kind != MUSE_TOKEN_WORD || !muse_dtype_from_name(begin.text, begin.text_length, &type.dtype)) {
    return expected(p, "a type such as f32[8,128]");
  }
  advance(p);
  MUSE_TRY(need_punct(p, '[', "after the element type"));
  while (!at_punct(p, ']')) {
    if (type.rank > 0) MUSE_TRY(need_punct(p, ',', "or ']' after a dimension"));
    if (p->token.kind != MUSE_TOKEN_INT) return expected(p, "a dimension");
    if (p->token.integer < 1) FAIL(p, "a dimension must be at least 1");
    if (type.rank == MUSE_MAX_RANK) FAIL(p, "a type has at most %d dimensions", MUSE_MAX_RANK);
    type.dim[type.rank++] = p->token.integer;
    advance(p);
  }
  advance(p);
  if (muse_dtype_is_trit(type.dtype) && type.rank != 2)
    return fail(p, &begin, "a type of trits has exactly 2 dimensions");
  if (!muse_type_valid(type)) return fail(p, &begin, "this tensor is larger than any address space");
  *out = type;
  return MUSE_OK;
}

static MuseStatus parse_ints(Parser *p, MuseAttr *a) {
  a->kind = MUSE_ATTR_INTS;
  p->n_ints = 0;
  advance(p);
  while (!at_punct(p, ']')) {
    if (p->n_ints > 0) MUSE_TRY(need_punct(p, ',', "or ']' after an integer of a list"));
    if (p->token.kind != MUSE_TOKEN_INT) return expected(p, "an integer");
    push_int(p, p->token.integer);
    advance(p);
  }
  advance(p);
  if (p->n_ints > INT_MAX) FAIL(p, "this list is too long");
  int64_t *data = MUSE_NEW_ARRAY(p->module->arena, int64_t, p->n_ints);
  if (p->n_ints) memcpy(data, p->ints, sizeof *data * p->n_ints);
  a->ints.data = data;
  a->ints.len = (int)p->n_ints;
  return MUSE_OK;
}

static MuseStatus parse_attr_value(Parser *p, MuseAttr *a) {
  const MuseToken *t = &p->token;
  if (at_punct(p, '[')) return parse_ints(p, a);
  if (t->kind == MUSE_TOKEN_INT) {
    a->kind = MUSE_ATTR_INT;
    a->i = t->integer;
  } else if (t->kind == MUSE_TOKEN_REAL) {
    a->kind = MUSE_ATTR_REAL;
    a->real = t->real;
  } else if (t->kind == MUSE_TOKEN_STRING) {
    a->kind = MUSE_ATTR_TEXT;
    a->text = t->text;
  } else if (token_is(t, "true") || token_is(t, "false")) {
    a->kind = MUSE_ATTR_BOOL;
    a->b = token_is(t, "true");
  } else if (token_is(t, "inf") || token_is(t, "nan")) {
    a->kind = MUSE_ATTR_REAL;
    a->real = token_is(t, "inf") ? __builtin_inf() : __builtin_nan("");
  } else if (t->kind == MUSE_TOKEN_WORD && muse_dtype_from_name(t->text, t->text_length, &a->dtype)) {
    a->kind = MUSE_ATTR_DTYPE;
  } else {
    return expected(p, "the value of an attribute (a number, true, false, \"text\", [integers], or an element type)");
  }
  advance(p);
  return MUSE_OK;
}

// {name = value, ...}. With a schema (of an op), names are shared with it, and integers become reals where it wants
// reals.
static MuseStatus parse_attrs(Parser *p, const MuseAttrSchema *schema, int n_schema, MuseAttrList *list) {
  MUSE_TRY(need_punct(p, '{', "before attributes"));
  while (!at_punct(p, '}')) {
    if (list->len > 0) MUSE_TRY(need_punct(p, ',', "or '}' after an attribute"));
    MuseToken name_token = p->token;
    if (name_token.kind != MUSE_TOKEN_WORD && name_token.kind != MUSE_TOKEN_STRING) {
      return expected(p, "the name of an attribute");
    }
    MuseAttr attr = {0};
    const MuseAttrSchema *row = NULL;
    for (int i = 0; i < n_schema && !row; i++) {
      const char *name = schema[i].value.name;
      if (strlen(name) == name_token.text_length && memcmp(name, name_token.text, name_token.text_length) == 0)
        row = &schema[i];
    }
    if (row) {
      attr.name = row->value.name;
      advance(p);
    } else {
      MUSE_TRY(need_text(p, "the name of an attribute", &attr.name));
    }
    if (muse_attr_find(list, attr.name)) return fail(p, &name_token, "attribute '%s' is given twice", attr.name);
    if (list->len == MAX_ATTRS) return fail(p, &name_token, "there are more than %d attributes here", MAX_ATTRS);
    MUSE_TRY(need_punct(p, '=', "after the name of an attribute"));
    MUSE_TRY(parse_attr_value(p, &attr));
    if (row && row->kind == MUSE_ATTR_REAL && attr.kind == MUSE_ATTR_INT) {
      double real = (double)attr.i;
      attr = (MuseAttr){.name = attr.name, .kind = MUSE_ATTR_REAL, .real = real};
    }
    if (list->len == list->cap) {
      int cap = list->cap ? list->cap * 2 : 4;
      MuseAttr *data = MUSE_NEW_ARRAY(p->module->arena, MuseAttr, cap);
      if (list->len) memcpy(data, list->data, sizeof *data * (size_t)list->len);
      list->data = data;
      list->cap = cap;
    }
    list->data[list->len++] = attr;
  }
  advance(p);
  return MUSE_OK;
}

static MuseStatus parse_attrs_if_any(Parser *p, const MuseAttrSchema *schema, int n_schema, MuseAttrList *list) {
  return at_punct(p, '{') ? parse_attrs(p, schema, n_schema, list) : MUSE_OK;
}

// The two tokens after the next one, to tell "{name = ..." from the body of a function or kernel.
static bool attrs_follow(const Parser *p) {
  if (!at_punct(p, '{')) return false;
  MuseLexer ahead = p->lexer;
  MuseToken first, second;
  muse_lexer_next(&ahead, &first);
  if (first.kind != MUSE_TOKEN_WORD && first.kind != MUSE_TOKEN_STRING) return false;
  muse_lexer_next(&ahead, &second);
  return second.kind == MUSE_TOKEN_PUNCT && second.punct == '=';
}

// --- values and ops ---

static MuseStatus define_value(Parser *p, const MuseToken *t, int64_t number, MuseValue *value) {
  // Numbers beyond the length of the text would only make the table large.
  if ((size_t)number >= p->length + 1024)
    return fail(p, t, "the number of value %%%lld is too large", (long long)number);
  if ((size_t)number >= p->n_values) {
    size_t room = p->n_values ? p->n_values : 256;
    while (room <= (size_t)number) room *= 2;
    p->values = realloc(p->values, room * sizeof *p->values);
    MUSE_ASSERT(p->values && "out of memory");
    memset(p->values + p->n_values, 0, (room - p->n_values) * sizeof *p->values);
    p->n_values = room;
  }
  ValueSlot *slot = &p->values[number];
  if (slot->func == p->func) return fail(p, t, "value %%%lld is defined twice", (long long)number);
  *slot = (ValueSlot){value, p->func};
  value->id = (int)number;
  return MUSE_OK;
}

static MuseStatus parse_typed_args(Parser *p, MuseRegion *region) {
  MUSE_TRY(need_punct(p, '(', "before arguments"));
  while (!at_punct(p, ')')) {
    if (region->n_args > 0) MUSE_TRY(need_punct(p, ',', "or ')' after an argument"));
    MuseToken t = p->token;
    if (t.kind != MUSE_TOKEN_VALUE) return expected(p, "an argument such as %0 : f32[8]");
    advance(p);
    MUSE_TRY(need_punct(p, ':', "before the type of an argument"));
    MuseType type;
    MUSE_TRY(parse_type(p, &type));
    MuseValue *value = muse_region_add_arg(p->module, region, type);
    MUSE_TRY(define_value(p, &t, t.integer, value));
    if (region->arg_attrs) MUSE_TRY(parse_attrs_if_any(p, NULL, 0, &region->arg_attrs[value->index]));
  }
  advance(p);
  return MUSE_OK;
}

static MuseStatus parse_operands(Parser *p) {
  p->n_operands = 0;
  while (p->token.kind == MUSE_TOKEN_VALUE && !p->token.first_on_line) {
    int64_t n = p->token.integer;
    if ((size_t)n >= p->n_values || p->values[n].func != p->func) {
      FAIL(p, "value %%%lld is used before it is defined", (long long)n);
    }
    push_operand(p, p->values[n].value);
    advance(p);
    if (!eat_punct(p, ',')) break;
    if (p->token.kind != MUSE_TOKEN_VALUE || p->token.first_on_line) return expected(p, "another operand on this line");
  }
  return MUSE_OK;
}

static MuseStatus parse_small_int(Parser *p, const char *what, int *out) {
  if (p->token.kind != MUSE_TOKEN_INT) return expected(p, what);
  if (p->token.integer < 0 || p->token.integer > INT_MAX) FAIL(p, "expected %s from 0 to %d", what, INT_MAX);
  *out = (int)p->token.integer;
  advance(p);
  return MUSE_OK;
}

// loc(line:col key) layer(n) forward|backward|update, each optional, in this order.
static MuseStatus parse_place(Parser *p, MuseOp *op) {
  if (at_word(p, "loc") && !p->token.first_on_line) {
    advance(p);
    op->loc.file = p->module->source;
    MUSE_TRY(need_punct(p, '(', "after 'loc'"));
    MUSE_TRY(parse_small_int(p, "a line number", &op->loc.line));
    MUSE_TRY(need_punct(p, ':', "after the line number"));
    MUSE_TRY(parse_small_int(p, "a column number", &op->loc.col));
    if (!at_punct(p, ')')) MUSE_TRY(need_text(p, "a configuration key or ')'", &op->loc.key));
    MUSE_TRY(need_punct(p, ')', "at the end of a location"));
  }
  if (at_word(p, "layer") && !p->token.first_on_line) {
    advance(p);
    MUSE_TRY(need_punct(p, '(', "after 'layer'"));
    MUSE_TRY(parse_small_int(p, "a layer number", &op->layer));
    MUSE_TRY(need_punct(p, ')', "after the layer number"));
  }
  if (p->token.first_on_line) return MUSE_OK;
  if (eat_word(p, "forward")) op->stage = MUSE_STAGE_FORWARD;
  else if (eat_word(p, "backward")) op->stage = MUSE_STAGE_BACKWARD;
  else if (eat_word(p, "update")) op->stage = MUSE_STAGE_UPDATE;
  return MUSE_OK;
}

static MuseStatus parse_ops(Parser *p, MuseRegion *region, int depth);

static MuseStatus parse_body(Parser *p, MuseOp *op, int depth) {
  if (depth >= MAX_DEPTH) FAIL(p, "regions stand more than %d deep in each other", MAX_DEPTH);
  advance(p);
  MUSE_TRY(need_punct(p, '^', "at the start of a region"));
  MuseRegion *body = muse_op_create_body(p->module, op);
  MUSE_TRY(parse_typed_args(p, body));
  MUSE_TRY(need_punct(p, ':', "after the arguments of a region"));
  MUSE_TRY(parse_ops(p, body, depth + 1));
  return need_punct(p, '}', "at the end of a region");
}

static MuseStatus unknown_op(Parser *p) {
  char word[64];
  snprintf(word, sizeof word, "%.*s", p->token.text_length > 60 ? 60 : (int)p->token.text_length, p->token.text);
  const char *names[MUSE_N_OPS];
  for (int k = 0; k < MUSE_N_OPS; k++) names[k] = muse_op_info((MuseOpKind)k)->name;
  const char *near = muse_str_nearest(word, names, MUSE_N_OPS);
  if (near) FAIL(p, "there is no op '%s'; did you mean '%s'?", word, near);
  FAIL(p, "there is no op '%s'", word);
}

static MuseStatus parse_op(Parser *p, MuseRegion *region, int depth) {
  MuseToken first = p->token;
  p->n_ints = 0;
  while (p->token.kind == MUSE_TOKEN_VALUE) {
    push_int(p, p->token.integer);
    advance(p);
    if (!eat_punct(p, ',')) break;
  }
  size_t n_results = p->n_ints;
  // Attributes may use p->ints for lists of their own, so the numbers move to the arena.
  int64_t *numbers = MUSE_NEW_ARRAY(p->module->arena, int64_t, n_results);
  if (n_results) {
    memcpy(numbers, p->ints, n_results * sizeof *numbers);
    MUSE_TRY(need_punct(p, '=', "or ',' after a result"));
  }
  MuseOpKind kind;
  if (p->token.kind != MUSE_TOKEN_WORD) return expected(p, "an op");
  if (!muse_op_kind_from_name(p->token.text, p->token.text_length, &kind)) return unknown_op(p);
  advance(p);
  MUSE_TRY(parse_operands(p));
  MuseOp *op = muse_op_create(p->module, kind, (int)p->n_operands, p->operands, 0, NULL);
  int n_schema;
  const MuseAttrSchema *schema = muse_op_schema(kind, &n_schema);
  if (!p->token.first_on_line && at_punct(p, '{') && (kind != MUSE_OP_kernel || attrs_follow(p))) {
    MUSE_TRY(parse_attrs(p, schema, n_schema, &op->attrs));
  }
  if (n_results) {
    MUSE_TRY(need_punct(p, ':', "before the types of the results"));
    op->results = MUSE_NEW_ARRAY(p->module->arena, MuseValue *, n_results);
    for (size_t i = 0; i < n_results; i++) {
      if (i > 0) MUSE_TRY(need_punct(p, ',', "and a type for each result"));
      MuseType type;
      MUSE_TRY(parse_type(p, &type));
      op->results[i] = MUSE_NEW(p->module->arena, MuseValue);
      *op->results[i] = (MuseValue){.type = type, .def = op, .index = (int)i, .id = -1};
      op->n_results = (int)i + 1;
    }
  }
  MUSE_TRY(parse_place(p, op));
  if (!p->token.first_on_line && at_punct(p, '{')) {
    if (kind != MUSE_OP_kernel) FAIL(p, "only a kernel has a region");
    MUSE_TRY(parse_body(p, op, depth));
  }
  if (!p->token.first_on_line && !at_punct(p, '}') && p->token.kind != MUSE_TOKEN_END)
    return expected(p, "the end of the line");
  muse_op_append(op, region);
  for (size_t i = 0; i < n_results; i++) MUSE_TRY(define_value(p, &first, numbers[i], op->results[i]));
  return MUSE_OK;
}

static MuseStatus parse_ops(Parser *p, MuseRegion *region, int depth) {
  while (!at_punct(p, '}')) {
    if (p->token.kind == MUSE_TOKEN_END) return expected(p, "an op or '}'");
    MUSE_TRY(parse_op(p, region, depth));
  }
  return MUSE_OK;
}

// --- top level ---

static MuseStatus parse_func(Parser *p) {
  MuseToken name = p->token;
  if (name.kind != MUSE_TOKEN_AT) return expected(p, "the name of a function such as @loss");
  if (muse_module_func(p->module, name.text)) FAIL(p, "function @%s is defined twice", name.text);
  if (p->n_funcs++ == MAX_FUNCS) FAIL(p, "there are more than %d functions in this module", MAX_FUNCS);
  advance(p);
  MuseFunc *func = p->func = muse_func_create(p->module, name.text);
  MUSE_TRY(parse_typed_args(p, &func->body));
  if (p->token.kind != MUSE_TOKEN_ARROW) return expected(p, "'->' after the arguments of a function");
  advance(p);
  MUSE_TRY(need_punct(p, '(', "after '->'"));
  MuseAttrList *lists = NULL;
  size_t n = 0, cap = 0;
  MuseStatus status = MUSE_OK;
  while (status == MUSE_OK && !at_punct(p, ')')) {
    if (n > 0 && (status = need_punct(p, ',', "or ')' after the attributes of a result")) != MUSE_OK) break;
    if (n == cap) lists = grow(lists, &cap, sizeof *lists);
    lists[n] = (MuseAttrList){0};
    status = parse_attrs(p, NULL, 0, &lists[n++]);
  }
  MuseAttrList *result_attrs = MUSE_NEW_ARRAY(p->module->arena, MuseAttrList, n);
  if (n) memcpy(result_attrs, lists, n * sizeof *lists);
  free(lists);
  MUSE_TRY(status);
  advance(p);
  if (attrs_follow(p)) MUSE_TRY(parse_attrs(p, NULL, 0, &func->attrs));
  MUSE_TRY(need_punct(p, '{', "before the body of a function"));
  MUSE_TRY(parse_ops(p, &func->body, 1));
  advance(p);
  func->result_attrs = result_attrs;
  func->n_results = (int)n;
  return MUSE_OK;
}

static MuseStatus parse_buffer(Parser *p) {
  MuseToken name = p->token;
  if (name.kind != MUSE_TOKEN_AT) return expected(p, "the name of a buffer such as @tokens");
  if (muse_module_buffer(p->module, name.text)) FAIL(p, "buffer @%s is declared twice", name.text);
  advance(p);
  MUSE_TRY(need_punct(p, ':', "before the type of a buffer"));
  MuseType type;
  MUSE_TRY(parse_type(p, &type));
  if (!eat_word(p, "role")) return expected(p, "'role' after the type of a buffer");
  const char *role;
  MUSE_TRY(need_text(p, "the role of the buffer", &role));
  MuseBuffer *buffer = muse_module_add_buffer(p->module, name.text, type, role);
  return parse_attrs_if_any(p, NULL, 0, &buffer->attrs);
}

static MuseStatus parse_module(Parser *p) {
  if (eat_word(p, "module")) {
    MUSE_TRY(parse_attrs_if_any(p, NULL, 0, &p->module->attrs));
    if (eat_word(p, "source")) MUSE_TRY(need_text(p, "the name of the source file", &p->module->source));
  }
  while (p->token.kind != MUSE_TOKEN_END) {
    if (eat_word(p, "buffer")) MUSE_TRY(parse_buffer(p));
    else if (eat_word(p, "func")) MUSE_TRY(parse_func(p));
    else return expected(p, "'buffer' or 'func'");
  }
  return MUSE_OK;
}

MuseStatus muse_module_parse(const char *name, const char *text, size_t length, MuseModule **out_module,
                             MuseDiag *diag) {
  if (length > MUSE_MAX_IR_TEXT) {
    return muse_error_at(diag, MUSE_ERR_INPUT, (MuseLoc){.file = name, .line = 1, .col = 1},
                         "this text has %zu bytes; IR text may have at most %zu", length, MUSE_MAX_IR_TEXT);
  }
  Parser p = {.name = name, .text = text, .length = length, .diag = diag};
  p.module = muse_module_create("");
  muse_lexer_init(&p.lexer, text, length, p.module->arena);
  advance(&p);
  MuseStatus status = parse_module(&p);
  free(p.values);
  free(p.operands);
  free(p.ints);
  if (status != MUSE_OK) {
    muse_module_destroy(p.module);
    return status;
  }
  *out_module = p.module;
  return MUSE_OK;
}
