// IR text: print(parse(t)) == t, what the parser accepts beyond that, and what it refuses with which sentence.
#include "ir/text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static MuseModule *parse(const char *text) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = NULL;
  if (muse_module_parse("t.mir", text, strlen(text), &module, diag) != MUSE_OK) {
    cr_log_error("%s", muse_diag_message(diag, 0));
    module = NULL;
  }
  muse_diag_destroy(diag);
  cr_assert_not_null(module);
  return module;
}

static void check_print(const char *text, const char *want) {
  MuseModule *module = parse(text);
  MuseStr out = {0};
  muse_module_print(module, &out);
  cr_expect_str_eq(muse_str_text(&out), want);
  muse_str_free(&out);
  muse_module_destroy(module);
}

static const char
    *const whole = "module {level = \"tensor\", seed = 7} source \"muse-tiny.yaml\"\n"
                   "buffer @embed.weight : f32[256,128] role \"param\" {init = \"normal\", std = 0.02}\n"
                   "buffer @tokens : i32[8,256] role \"input\"\n"
                   "buffer @\"odd name\" : t2[4,300] role \"packed\"\n"
                   "\n"
                   "func @loss(%0 : f32[256,128] {buffer = \"embed.weight\"}, %1 : i32[8,256] {buffer = \"tokens\"}) "
                   "-> ({name = \"x\"}, {}) {part = 1} {\n"
                   "  %2 = gather_rows %0, %1 : f32[8,256,128] loc(3:1 d_model) layer(0) forward\n"
                   "  %3, %4 = quantize_rows %2 : i8[8,256,128], f32[8,256,1] loc(4:0) backward\n"
                   "  %5 = kernel %3, %4 {skeleton = \"map\", rng_ids = [3, 4]} : f32[8,256,128] layer(2) update {\n"
                   "  ^(%6 : i8[8,256,128], %7 : f32[8,256,1]):\n"
                   "    %8 = cast %6 {to = f32} : f32[8,256,128]\n"
                   "    %9 = mul %8, %7 : f32[8,256,128]\n"
                   "    yield %9\n"
                   "  }\n"
                   "  %10 = const {value = 1.0} : f32[]\n"
                   "  kernel {\n"
                   "  ^():\n"
                   "  }\n"
                   "  return %5, %10\n"
                   "}\n"
                   "\n"
                   "func @\"empty one\"() -> () {\n"
                   "  return\n"
                   "}\n";

Test(ir_text, print_of_parse_is_the_text) { check_print(whole, whole); }

Test(ir_text, every_kind_of_attribute) {
  const char *text =
      "module {i = -9223372036854775808, r = 1e-05, one = 1.0, big = 1e+300, inf = inf, ninf = -inf, nan = nan, "
      "neg0 = -0.0, t = true, f = false, s = \"a\\\"b\\\\c\\n\\t\\r\\x01\\x7f\xc3\xa9\", e = \"\", d = t5, "
      "l = [1, -2, 3], none = [], \"odd key\" = 1}\n";
  check_print(text, text);
  MuseModule *m = parse(text);
  cr_expect_eq(muse_attr_int(&m->attrs, "i"), INT64_MIN);
  cr_expect(isinf(muse_attr_real(&m->attrs, "inf")) && muse_attr_real(&m->attrs, "ninf") < 0);
  cr_expect(isnan(muse_attr_real(&m->attrs, "nan")));
  cr_expect(signbit(muse_attr_real(&m->attrs, "neg0")));
  cr_expect_str_eq(muse_attr_text_or(&m->attrs, "s", ""), "a\"b\\c\n\t\r\x01\x7f\xc3\xa9");
  cr_expect_eq(muse_attr_dtype(&m->attrs, "d"), MUSE_T5);
  cr_expect_eq(muse_attr_ints(&m->attrs, "l")->ints.data[1], -2);
  cr_expect_eq(muse_attr_ints(&m->attrs, "none")->ints.len, 0);
  muse_module_destroy(m);
}

Test(ir_text, space_comments_sparse_numbers_and_missing_module_line) {
  check_print("// a comment\nfunc @f ( %7:f32[ 4 ]) -> ({}){ // more\n\n %100=neg %7:f32[4]\n\treturn %100 }",
              "module\n\nfunc @f(%0 : f32[4]) -> ({}) {\n  %1 = neg %0 : f32[4]\n  return %1\n}\n");
}

Test(ir_text, an_integer_stands_for_a_real) {
  check_print("func @f() -> () {\n  %0 = const {value = 2} : f32[]\n  return\n}\n",
              "module\n\nfunc @f() -> () {\n  %0 = const {value = 2.0} : f32[]\n  return\n}\n");
}

Test(ir_text, places_are_kept) {
  MuseModule *m = parse(whole);
  MuseFunc *f = muse_module_func(m, "loss");
  const MuseOp *op = f->body.first;
  cr_expect_eq(op->loc.line, 3);
  cr_expect_eq(op->loc.col, 1);
  cr_expect_str_eq(op->loc.key, "d_model");
  cr_expect_str_eq(op->loc.file, "muse-tiny.yaml");
  cr_expect_eq(op->layer, 0);
  cr_expect_eq(op->stage, MUSE_STAGE_FORWARD);
  cr_expect_eq(op->next->layer, -1);
  cr_expect_str_eq(muse_func_arg_buffer(f, 1), "tokens");
  cr_expect_eq(muse_module_buffer(m, "odd name")->index, 2);
  cr_expect_null(muse_func_result_buffer(f, 0));
  muse_module_destroy(m);
}

Test(ir_text, canonical_text_ignores_place_and_numbers) {
  const char *text = "func @f(%0 : f32[4], %1 : u32[2]) -> ({}, {}) {\n"
                     "  %2 = kernel %0, %1 {name = \"a\", skeleton = \"map\", rng_ids = [9], offset = [0]} : f32[4] "
                     "loc(1:1 k) layer(3) {\n"
                     "  ^(%3 : f32[4], %4 : u32[2]):\n"
                     "    %5 = stochastic_round %3, %4 {rng_id = 0} : f32[4] layer(3)\n"
                     "    yield %5\n"
                     "  }\n"
                     "  %6 = kernel %2, %1 {skeleton = \"map\", workspace = [64, 0], rng_ids = [11]} : f32[4] {\n"
                     "  ^(%7 : f32[4], %8 : u32[2]):\n"
                     "    %9 = stochastic_round %7, %8 {rng_id = 0} : f32[4]\n"
                     "    yield %9\n"
                     "  }\n"
                     "  return %2, %6\n"
                     "}\n";
  MuseModule *m = parse(text);
  MuseOp *first = m->first_func->body.first, *second = first->next;
  muse_func_number(m->first_func);
  int id_before = second->body->args[0]->id;
  MuseStr a = {0}, b = {0};
  muse_kernel_print_canonical(m, first, &a);
  muse_kernel_print_canonical(m, second, &b);
  cr_expect_str_eq(muse_str_text(&a), "kernel {skeleton = \"map\"} : f32[4] {\n"
                                      "^(%0 : f32[4], %1 : u32[2]):\n"
                                      "  %2 = stochastic_round %0, %1 {rng_id = 0} : f32[4]\n"
                                      "  yield %2\n"
                                      "}\n");
  cr_expect_str_eq(muse_str_text(&a), muse_str_text(&b));
  cr_expect_eq(second->body->args[0]->id, id_before); // the numbers of the function stay
  muse_str_free(&a);
  muse_str_free(&b);
  muse_module_destroy(m);
}

// --- refusals ---

typedef struct Refusal { const char *text; int line, col; const char *message; } Refusal;

#define FUNC "func @f(%0 : f32[4]) -> ({}) {\n"

static const Refusal refusals[] = {
    {"modul", 1, 1, "expected 'buffer' or 'func', but found 'modul'"},
    {"func f", 1, 6, "expected the name of a function such as @loss, but found 'f'"},
    {"func @", 1, 6, "a name must follow '@'; put other characters than letters, digits, '_', '.', '-' in quotes"},
    {"func @f", 1, 8, "expected '(' before arguments, but the text ends here"},
    {"func @f(%0 f32[4])", 1, 12, "expected ':' before the type of an argument, but found 'f32'"},
    {"func @f(%0 : f33[4])", 1, 14, "expected a type such as f32[8,128], but found 'f33'"},
    {"func @f(%0 : f32[0])", 1, 18, "a dimension must be at least 1"},
    {"func @f(%0 : f32[-3])", 1, 18, "a dimension must be at least 1"},
    {"func @f(%0 : f32[1,2,3,4,5,6,7])", 1, 30, "a type has at most 6 dimensions"},
    {"func @f(%0 : f32[4 4])", 1, 20, "expected ',' or ']' after a dimension, but found '4'"},
    {"func @f(%0 : f32[x])", 1, 18, "expected a dimension, but found 'x'"},
    {"func @f(%0 : f32[99999999999999999999])", 1, 18, "this is not an integer of 64 bits"},
    {"func @f(%0 : f32[4000000000,4000000000])", 1, 14, "this tensor is larger than any address space"},
    {"func @f(%0 : t2[4])", 1, 14, "a type of trits has exactly 2 dimensions"},
    {"func @f(%0 : f32[4], %0 : f32[4])", 1, 22, "value %0 is defined twice"},
    {"func @f(%99999999 : f32[4])", 1, 9, "the number of value %99999999 is too large"},
    {"func @f(%99999999999999 : f32[4])", 1, 9, "the number of this value is too large"},
    {"func @f(% : f32[4])", 1, 9, "a number must follow '%'"},
    {"func @f() (", 1, 11, "expected '->' after the arguments of a function, but found '('"},
    {"func @f() -> ({} {})", 1, 18, "expected ',' or ')' after the attributes of a result, but found '{'"},
    {"func @f() -> () {a = 1} return", 1, 25, "expected '{' before the body of a function, but found 'return'"},
    {"func @f() -> () {a = 1, a = 2} {", 1, 25, "attribute 'a' is given twice"},
    {"func @f() -> () {a = } {", 1, 22,
     "expected the value of an attribute (a number, true, false, \"text\", [integers], or an element type), but found "
     "'}'"},
    {"func @f() -> () {a = 1 b = 2} {", 1, 24, "expected ',' or '}' after an attribute, but found 'b'"},
    {"func @f() -> () {a = [1, x]} {", 1, 26, "expected an integer, but found 'x'"},
    {"func @f() -> () {a = \"x} {", 1, 22, "this string does not end on its line; close it with '\"'"},
    {"func @f() -> () {a = \"\\q\"} {", 1, 22,
     "unknown escape in this string; there are \\\" \\\\ \\n \\t \\r and \\x with two lower-case hex digits"},
    {"func @f() -> () {a = \"\\x00\"} {", 1, 22, "a string may not hold \\x00"},
    {"func @f() -> () {a = \"\x02\"} {", 1, 22,
     "a control character stands in this string; write it as \\x and two hex digits"},
    {"func @f() -> () {a = 1.2.3} {", 1, 22, "this is not a number"},
    {"func @f() -> () {a = 1e999} {", 1, 22, "this is not a number"},
    {"func @f() -> () {\n", 2, 1, "expected an op or '}', but the text ends here"},
    {"func @f() -> () {\n  return\n}\nfunc @f() -> () {", 4, 6, "function @f is defined twice"},
    {"buffer @b : f32[4] role \"param\"\nbuffer @b", 2, 8, "buffer @b is declared twice"},
    {"buffer @b : f32[4] {", 1, 20, "expected 'role' after the type of a buffer, but found '{'"},
    {FUNC "  %1 = ad %0 : f32[4]", 2, 8, "there is no op 'ad'; did you mean 'add'?"},
    {FUNC "  %1 = xyzzyxyzzy %0 : f32[4]", 2, 8, "there is no op 'xyzzyxyzzy'"},
    {FUNC "  %1 neg %0 : f32[4]", 2, 6, "expected '=' or ',' after a result, but found 'neg'"},
    {FUNC "  %1 = neg %2 : f32[4]", 2, 12, "value %2 is used before it is defined"},
    {FUNC "  %1 = neg %1 : f32[4]", 2, 12, "value %1 is used before it is defined"},
    {FUNC "  %1 = neg %0,\n : f32[4]", 3, 2, "expected another operand on this line, but found ':'"},
    {FUNC "  %1 = neg %0 f32[4]", 2, 15, "expected ':' before the types of the results, but found 'f32'"},
    {FUNC "  %1, %2 = quantize_rows %0 : i8[4]\n", 3, 1,
     "expected ',' and a type for each result, but the text ends here"},
    {FUNC "  %0 = neg %0 : f32[4]\n", 2, 3, "value %0 is defined twice"},
    {FUNC "  %1 = neg %0 : f32[4] loc(1)\n", 2, 29, "expected ':' after the line number, but found ')'"},
    {FUNC "  %1 = neg %0 : f32[4] loc(-1:2)\n", 2, 28, "expected a line number from 0 to 2147483647"},
    {FUNC "  %1 = neg %0 : f32[4] layer(x)\n", 2, 30, "expected a layer number, but found 'x'"},
    {FUNC "  %1 = neg %0 : f32[4] sideways\n", 2, 24, "expected the end of the line, but found 'sideways'"},
    {FUNC "  %1 = neg %0 : f32[4] {\n", 2, 24, "only a kernel has a region"},
    {FUNC "  kernel %0 {\n return\n", 3, 2, "expected '^' at the start of a region, but found 'return'"},
    {FUNC "  $", 2, 3, "this character has no meaning in IR text"},
};

Test(ir_text, refusals_name_place_and_reason) {
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    const Refusal *r = &refusals[i];
    MuseDiag *diag = muse_diag_create();
    MuseModule *module = NULL;
    MuseStatus status = muse_module_parse("t.mir", r->text, strlen(r->text), &module, diag);
    cr_expect_eq(status, MUSE_ERR_INPUT, "accepted: %s", r->text);
    cr_expect_null(module);
    if (status == MUSE_OK) muse_module_destroy(module);
    const char *message = muse_diag_message(diag, 0);
    MuseLoc loc = muse_diag_loc(diag, 0);
    cr_expect_str_eq(message ? message : "", r->message, "for: %s\n got: %s", r->text, message);
    cr_expect(loc.line == r->line && loc.col == r->col, "for: %s\n at %d:%d", r->text, loc.line, loc.col);
    muse_diag_destroy(diag);
  }
}

Test(ir_text, depth_is_bounded) {
  MuseStr text = {0};
  muse_str_append(&text, "func @f() -> () {\n");
  for (int i = 0; i < 100000; i++) muse_str_append(&text, "kernel {\n^():\n");
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = NULL;
  cr_expect_eq(muse_module_parse("t.mir", text.data, text.len, &module, diag), MUSE_ERR_INPUT);
  cr_expect_str_eq(muse_diag_message(diag, 0), "regions stand more than 8 deep in each other");
  muse_diag_destroy(diag);
  muse_str_free(&text);
}

Test(ir_text, every_prefix_and_every_changed_byte_is_safe) {
  size_t length = strlen(whole);
  for (size_t i = 0; i < length * 2; i++) {
    char *text = malloc(length); // no byte to spare: reads past the end are seen by the sanitizers
    memcpy(text, whole, length);
    size_t n = i < length ? i : length;
    if (i >= length) text[i - length] = "}{%@\"-\0^"[i % 8];
    MuseDiag *diag = muse_diag_create();
    MuseModule *module = NULL;
    MuseStatus status = muse_module_parse("t.mir", text, n, &module, diag);
    cr_expect_eq(status == MUSE_OK, module != NULL);
    cr_expect_eq(status != MUSE_OK, muse_diag_count(diag, MUSE_ERROR) == 1);
    muse_module_destroy(module);
    muse_diag_destroy(diag);
    free(text);
  }
}
