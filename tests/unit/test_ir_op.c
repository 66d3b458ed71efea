// Types, the op table, attributes, lists of ops, numbering, replacement, clones.
#include "ir/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static MuseModule *parse(const char *text) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = NULL;
  MuseStatus status = muse_module_parse("t.mir", text, strlen(text), &module, diag);
  cr_assert_eq(status, MUSE_OK, "%s", muse_diag_message(diag, 0));
  muse_diag_destroy(diag);
  return module;
}

static char *printed(MuseModule *m) {
  MuseStr s = {0};
  muse_module_print(m, &s);
  return s.data;
}

static const char *const text =
    "module {level = \"tensor\"} source \"a.yaml\"\n"
    "buffer @x : f32[4] role \"input\"\n"
    "\n"
    "func @f(%0 : f32[4] {buffer = \"x\"}, %1 : f32[4]) -> ({name = \"r\"}) {k = 2} {\n"
    "  %2 = add %0, %1 : f32[4] loc(2:3 d_model) layer(1) backward\n"
    "  %3 = kernel %2, %2 {skeleton = \"map\"} : f32[4] {\n"
    "  ^(%4 : f32[4], %5 : f32[4]):\n"
    "    %6 = mul %4, %4 : f32[4]\n"
    "    yield %6\n"
    "  }\n"
    "  return %3\n"
    "}\n";

Test(ir_type, bytes_and_broadcasting) {
  cr_expect_eq(muse_type_bytes(muse_type3(MUSE_BF16, 2, 3, 5)), 60);
  cr_expect_eq(muse_type_bytes(muse_scalar_type(MUSE_F64)), 8);
  cr_expect_eq(muse_type_bytes(muse_type2(MUSE_T2, 3, 256)), 3 * 64);
  cr_expect_eq(muse_type_bytes(muse_type2(MUSE_T2, 3, 257)), 3 * 128);
  cr_expect_eq(muse_type_bytes(muse_type2(MUSE_T5, 3, 320)), 3 * 64);
  cr_expect_eq(muse_type_bytes(muse_type2(MUSE_T5, 3, 321)), 3 * 128);
  cr_expect_eq(muse_type_rows(muse_type3(MUSE_F32, 2, 3, 5)), 6);
  MuseType out;
  cr_expect(muse_type_broadcast(muse_type3(MUSE_F32, 2, 1, 5), muse_type2(MUSE_F32, 3, 1), &out));
  cr_expect(muse_type_eq(out, muse_type3(MUSE_F32, 2, 3, 5)));
  cr_expect_not(muse_type_broadcast(muse_type1(MUSE_F32, 2), muse_type1(MUSE_F32, 3), &out));
  cr_expect(muse_type_broadcasts_to(muse_type1(MUSE_F32, 1), muse_type2(MUSE_F32, 3, 4)));
  cr_expect_not(muse_type_broadcasts_to(muse_type2(MUSE_F32, 3, 4), muse_type1(MUSE_F32, 4)));
  cr_expect(muse_type_valid(muse_type2(MUSE_F32, 1 << 20, 1 << 20)));
  cr_expect_not(muse_type_valid(muse_type1(MUSE_F32, 0)));
  cr_expect_not(muse_type_valid(muse_type2(MUSE_I8, (int64_t)1 << 40, (int64_t)1 << 40)));
  for (int d = 0; d < MUSE_N_DTYPES; d++) {
    const char *name = muse_dtype_name((MuseDtype)d);
    MuseDtype back;
    cr_expect(muse_dtype_from_name(name, strlen(name), &back) && back == (MuseDtype)d);
  }
}

Test(ir_op, every_name_is_found) {
  MuseOpKind kind;
  for (int k = 0; k < MUSE_N_OPS; k++) {
    const char *name = muse_op_info((MuseOpKind)k)->name;
    cr_expect(muse_op_kind_from_name(name, strlen(name), &kind) && kind == (MuseOpKind)k, "%s", name);
  }
  cr_expect_not(muse_op_kind_from_name("ad", 2, &kind));
  cr_expect_not(muse_op_kind_from_name("addd", 4, &kind));
  cr_expect_not(muse_op_kind_from_name("", 0, &kind));
}

Test(ir_op, schema_defaults) {
  MuseModule *m = muse_module_create("");
  MuseOp *op = muse_op_create(m, MUSE_OP_adamw, 0, NULL, 0, NULL);
  cr_expect_eq(muse_op_real(op, "beta2"), 0.95);
  muse_attr_set_real(m, &op->attrs, "beta2", 0.5);
  cr_expect_eq(muse_op_real(op, "beta2"), 0.5);
  MuseOp *linear = muse_op_create(m, MUSE_OP_bit_linear, 0, NULL, 0, NULL);
  cr_expect_str_eq(muse_op_text(linear, "gradient"), "f32");
  cr_expect_eq(muse_op_int(linear, "rng_id"), 0);
  MuseOp *pack = muse_op_create(m, MUSE_OP_pack_trits, 0, NULL, 0, NULL);
  cr_expect_eq(muse_op_dtype(pack, "dtype"), MUSE_T2);
  cr_expect_not(muse_op_bool(pack, "transpose"));
  int n;
  const MuseAttrSchema *schema = muse_op_schema(MUSE_OP_kernel, &n);
  cr_assert_eq(n, 5);
  cr_expect_str_eq(schema[0].value.name, "skeleton");
  cr_expect(schema[0].required && !schema[1].required && !schema[1].has_default);
  muse_module_destroy(m);
}

Test(ir_attr, set_replace_remove_copy) {
  MuseModule *m = muse_module_create("");
  MuseAttrList a = {0}, b = {0};
  for (int i = 0; i < 20; i++) {
    char name[8];
    snprintf(name, sizeof name, "k%d", i);
    muse_attr_set_int(m, &a, name, i);
  }
  muse_attr_set_text(m, &a, "k3", "three"); // another kind in the same place
  cr_expect_eq(a.len, 20);
  cr_expect_str_eq(muse_attr_text_or(&a, "k3", ""), "three");
  cr_expect_str_eq(a.data[3].name, "k3");
  muse_attr_set_text(m, &a, "k3", muse_attr_text_or(&a, "k3", "")); // its own text
  cr_expect_str_eq(muse_attr_text_or(&a, "k3", ""), "three");
  muse_attr_remove(&a, "k0");
  muse_attr_remove(&a, "absent");
  cr_expect_eq(a.len, 19);
  cr_expect_null(muse_attr_find(&a, "k0"));
  cr_expect_eq(muse_attr_int(&a, "k19"), 19);
  cr_expect_eq(muse_attr_int_or(&a, "absent", -5), -5);
  muse_attr_set_ints(m, &b, "k1", (int64_t[]){1, 2}, 2);
  muse_attr_copy(m, &b, &a);
  cr_expect_eq(b.len, 19);
  cr_expect_eq(muse_attr_int(&b, "k1"), 1);
  for (int i = 0; i < a.len; i++) cr_expect(muse_attr_eq(&a.data[i], muse_attr_find(&b, a.data[i].name)));
  muse_attr_set_real(m, &b, "k1", 1);
  cr_expect_not(muse_attr_eq(muse_attr_find(&a, "k1"), muse_attr_find(&b, "k1")));
  muse_module_destroy(m);
}

Test(ir_func, numbering_and_use_counts) {
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func;
  cr_expect_eq(muse_func_number(f), 7);
  MuseArena *arena = muse_arena_create();
  int *counts = muse_func_use_counts(f, arena, 7);
  int want[] = {1, 1, 2, 1, 2, 0, 1};
  for (int i = 0; i < 7; i++) cr_expect_eq(counts[i], want[i], "value %d: %d", i, counts[i]);
  // An op in front moves all numbers behind it.
  MuseType type = muse_type1(MUSE_F32, 4);
  MuseOp *neg = muse_op_create(m, MUSE_OP_neg, 1, &f->body.args[0], 1, &type);
  cr_expect_eq(neg->results[0]->id, -1);
  muse_op_insert_before(neg, f->body.first);
  cr_expect_eq(muse_func_number(f), 8);
  cr_expect_eq(neg->results[0]->id, 2);
  cr_expect_eq(neg->next->results[0]->id, 3);
  muse_arena_destroy(arena);
  muse_module_destroy(m);
}

Test(ir_func, lists_of_ops) {
  MuseModule *m = muse_module_create("");
  MuseFunc *f = muse_func_create(m, "f");
  MuseType type = muse_scalar_type(MUSE_F32);
  MuseOp *ops[4];
  for (int i = 0; i < 4; i++) ops[i] = muse_op_create(m, MUSE_OP_const, 0, NULL, 1, &type);
  muse_op_append(ops[1], &f->body);
  muse_op_append(ops[3], &f->body);
  muse_op_insert_before(ops[0], ops[1]);
  muse_op_insert_before(ops[2], ops[3]);
  MuseOp *op = f->body.first;
  for (int i = 0; i < 4; i++, op = op->next) {
    cr_expect_eq(op, ops[i]);
    cr_expect_eq(op->prev, i ? ops[i - 1] : NULL);
    cr_expect_eq(op->results[0]->region, &f->body);
  }
  cr_expect_null(op);
  muse_op_unlink(ops[0]);
  muse_op_unlink(ops[3]);
  muse_op_unlink(ops[1]);
  cr_expect(f->body.first == ops[2] && f->body.last == ops[2] && !ops[2]->prev && !ops[2]->next);
  cr_expect_null(ops[3]->results[0]->region);
  muse_op_unlink(ops[2]);
  cr_expect(!f->body.first && !f->body.last);
  muse_module_destroy(m);
}

Test(ir_func, results_follow_return) {
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func;
  MuseOp *ret = f->body.last;
  MuseValue *operands[] = {ret->operands[0], f->body.args[0]};
  muse_op_set_operands(m, ret, 2, operands);
  cr_expect_eq(f->n_results, 2);
  cr_expect_null(muse_func_result_buffer(f, 1));
  muse_func_set_result_buffer(f, 1, "x");
  cr_expect_str_eq(muse_func_result_buffer(f, 1), "x");
  cr_expect_str_eq(muse_attr_text_or(&f->result_attrs[0], "name", ""), "r");
  MuseBuffer *y = muse_module_add_buffer(m, "y", muse_scalar_type(MUSE_F32), "hyper");
  MuseValue *arg = muse_func_arg_for_buffer(f, y);
  cr_expect_eq(muse_func_arg_for_buffer(f, y), arg);
  cr_expect_eq(muse_func_arg_for_buffer(f, muse_module_buffer(m, "x")), f->body.args[0]);
  cr_expect_str_eq(muse_func_arg_buffer(f, arg->index), "y");
  muse_module_destroy(m);
}

// More arguments than the table that finds them has room for at first, and some of them removed as dce does it.
Test(ir_func, arguments_by_buffer) {
  enum { N = 300 };
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func;
  int before = f->body.n_args;
  MuseBuffer *buffers[2 * N];
  for (int i = 0; i < 2 * N; i++) {
    char name[32];
    snprintf(name, sizeof name, "layers.%d.weight", i);
    buffers[i] = muse_module_add_buffer(m, name, muse_type1(MUSE_F32, 1 + i), "param");
  }
  for (int i = 0; i < N; i++) cr_expect_eq(muse_func_arg_for_buffer(f, buffers[i])->index, before + i);
  for (int i = 0; i < N; i++) cr_expect_eq(muse_func_arg_for_buffer(f, buffers[i]), f->body.args[before + i]);
  // Every other one goes.
  MuseRegion *body = &f->body;
  int kept = before;
  for (int i = 0; i < N; i += 2, kept++) {
    body->args[kept] = body->args[before + i];
    body->arg_attrs[kept] = body->arg_attrs[before + i];
    body->args[kept]->index = kept;
  }
  body->n_args = kept;
  for (int i = 0; i < N; i += 2)
    cr_expect_eq(muse_func_arg_for_buffer(f, buffers[i]), body->args[before + i / 2], "buffer %d", i);
  cr_expect_eq(body->n_args, kept, "an argument is there twice");
  // As many new ones as went before anyone asks again.
  body->n_args = before;
  for (int i = N; i < 2 * N; i++) {
    MuseValue *value = muse_region_add_arg(m, body, buffers[i]->type);
    muse_attr_set_text(m, &body->arg_attrs[value->index], "buffer", buffers[i]->name);
  }
  for (int i = N; i < 2 * N; i++) cr_expect_eq(muse_func_arg_for_buffer(f, buffers[i])->index, before + i - N);
  cr_expect_eq(muse_func_arg_for_buffer(f, buffers[0])->index, before + N);
  muse_module_destroy(m);
}

Test(ir_func, results_one_by_one) {
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func;
  const char *first = muse_func_result_buffer(f, 0);
  int before = f->n_results;
  for (int i = 0; i < 100; i++) muse_func_add_result(f, f->body.args[i % 2], i % 3 ? "x" : "y");
  cr_expect_eq(f->n_results, before + 100);
  cr_expect_eq(f->body.last->n_operands, before + 100);
  cr_expect_eq(muse_func_result_buffer(f, 0), first);
  for (int i = 0; i < 100; i++) {
    cr_expect_eq(f->body.last->operands[before + i], f->body.args[i % 2]);
    cr_expect_str_eq(muse_func_result_buffer(f, before + i), i % 3 ? "x" : "y");
  }
  // New operands in between are not written over.
  MuseValue *one[] = {f->body.args[1]};
  muse_op_set_operands(m, f->body.last, 1, one);
  muse_func_add_result(f, f->body.args[0], "z");
  cr_expect(f->n_results == 2 && f->body.last->operands[0] == f->body.args[1]);
  cr_expect_str_eq(muse_func_result_buffer(f, 1), "z");
  muse_module_destroy(m);
}

Test(ir_func, replacement) {
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func;
  MuseOp *add = f->body.first, *kernel = add->next;
  muse_replace_uses(&f->body, add->results[0], f->body.args[1]);
  cr_expect(kernel->operands[0] == f->body.args[1] && kernel->operands[1] == f->body.args[1]);
  // Two values change places at once, inside the kernel too.
  int n = muse_func_number(f);
  MuseValue **map = calloc((size_t)n, sizeof *map);
  map[0] = f->body.args[1];
  map[1] = f->body.args[0];
  map[kernel->body->args[0]->id] = kernel->body->args[1];
  muse_replace_uses_by_id(&f->body, map, n);
  cr_expect(add->operands[0] == f->body.args[1] && add->operands[1] == f->body.args[0]);
  cr_expect_eq(kernel->operands[0], f->body.args[0]);
  cr_expect_eq(kernel->body->first->operands[1], kernel->body->args[1]);
  free(map);
  muse_module_destroy(m);
}

Test(ir_clone, module_is_equal_and_independent) {
  MuseModule *m = parse(text);
  MuseModule *copy = muse_module_clone(m);
  char *a = printed(m), *b = printed(copy);
  cr_expect_str_eq(a, b);
  cr_expect_str_eq(a, text);
  free(b);
  muse_attr_set_int(m, &m->first_func->attrs, "k", 3);
  m->first_func->body.first->operands[0] = m->first_func->body.args[1];
  muse_module_destroy(m); // the copy needs nothing of it
  b = printed(copy);
  cr_expect_str_eq(a, b);
  cr_expect_str_eq(copy->first_func->body.first->loc.file, "a.yaml");
  free(a);
  free(b);
  muse_module_destroy(copy);
}

Test(ir_clone, func_and_op) {
  MuseModule *m = parse(text);
  MuseFunc *f = m->first_func, *g = muse_func_clone(m, f, "g");
  cr_expect_eq(muse_module_func(m, "g"), g);
  cr_expect_neq(g->body.first->operands[0], f->body.first->operands[0]);
  cr_expect_eq(g->body.first->operands[0], g->body.args[0]);
  MuseStr a = {0}, b = {0};
  muse_func_print(f, &a);
  muse_func_print(g, &b);
  cr_expect_str_eq(strchr(a.data, '('), strchr(b.data, '('));
  // One op with its body in front of the return, one operand mapped.
  int n = muse_func_number(g);
  MuseValue **map = calloc((size_t)n, sizeof *map);
  MuseOp *kernel = g->body.first->next;
  map[kernel->operands[0]->id] = g->body.args[1];
  MuseOp *copy = muse_op_clone(m, kernel, map, &g->body, g->body.last);
  cr_expect_eq(copy->next, g->body.last);
  cr_expect_eq(copy->operands[1], g->body.args[1]);
  cr_expect_eq(map[kernel->results[0]->id], copy->results[0]);
  cr_expect_eq(copy->body->owner, copy);
  cr_expect_eq(copy->body->last->operands[0], copy->body->first->results[0]);
  free(map);
  muse_module_remove_func(m, g);
  cr_expect_null(muse_module_func(m, "g"));
  cr_expect(m->last_func == f && !f->next);
  muse_str_free(&a);
  muse_str_free(&b);
  muse_module_destroy(m);
}
