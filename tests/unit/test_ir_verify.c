// The verifier refuses damaged IR with the exact sentence: damage that a text can hold, and damage made in the
// structures.
#include "ir/text.h"
#include "ir/verify.h"

#include <criterion/criterion.h>
#include <string.h>

// Inference enough for these programs; the real one belongs to ops/.
static MuseStatus infer(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  for (int i = 0; i < op->n_results; i++) out[i] = op->results[i]->type;
  if (op->kind == MUSE_OP_neg) out[0] = op->operands[0]->type;
  if (op->kind == MUSE_OP_add && !muse_type_broadcast(op->operands[0]->type, op->operands[1]->type, &out[0])) {
    return muse_error(diag, MUSE_ERR_INPUT, "the shapes do not broadcast");
  }
  if (op->kind == MUSE_OP_broadcast) { // a size that the verifier must survive
    out[0].rank = 2;
    out[0].dim[0] = out[0].dim[1] = (int64_t)1 << 40;
  }
  return MUSE_OK;
}

static MuseModule *parse(const char *text) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = NULL;
  MuseStatus status = muse_module_parse("t.mir", text, strlen(text), &module, diag);
  cr_assert_eq(status, MUSE_OK, "%s\n%s", muse_diag_message(diag, 0), text);
  muse_diag_destroy(diag);
  return module;
}

static void check_refused(MuseModule *module, const char *name, const char *want) {
  MuseDiag *diag = muse_diag_create();
  MuseStatus status = muse_verify_module(module, infer, diag);
  cr_expect_eq(status, MUSE_ERR_INPUT, "%s: accepted", name);
  const char *message = muse_diag_message(diag, 0);
  cr_expect_str_eq(message ? message : "", want, "%s:\n got:  %s\n want: %s", name, message, want);
  muse_diag_destroy(diag);
}

#define F(body) "func @f(%0 : f32[4], %1 : f32[3]) -> ({}) {\n" body "}\n"
#define K(attrs, body) F("  %2 = kernel %0 " attrs " : f32[4] {\n  ^(%3 : f32[4]):\n" body "  }\n  return %2\n")
#define IN "in function @f: "
#define KERNEL ": in \"%2 = kernel %0 {skeleton = \"map\"} : f32[4]\""

static const struct {
  const char *name, *text, *message;
} texts[] = {
    {"level", "module {level = \"gpu\"}\n", "the module's level must be \"tensor\" or \"kernel\""},
    {"level kind", "module {level = 3}\n", "the module's level must be \"tensor\" or \"kernel\""},
    {"buffer role", "buffer @b : f32[4] role \"parm\"\n",
     "buffer 'b' has the unknown role 'parm'; did you mean 'param'?"},
    {"empty function", F(""), IN "the function does not end with return"},
    {"no return", F("  %2 = neg %0 : f32[4]\n"), IN "the function does not end with return"},
    {"op after return", F("  return %0\n  %2 = neg %0 : f32[4]\n"),
     IN "ops follow the end of the region: in \"return %0\""},
    {"yield in a function", F("  yield %0\n"), IN "a function ends with return: in \"yield %0\""},
    {"return in a kernel", K("{skeleton = \"map\"}", "  return %3\n"),
     IN "a kernel's region ends with yield: in \"return %3\""},
    {"kernel without yield", K("{skeleton = \"map\"}", "  %4 = neg %3 : f32[4]\n"),
     IN "the kernel's region does not end with yield" KERNEL},
    {"empty kernel", K("{skeleton = \"map\"}", ""), IN "the kernel's region does not end with yield" KERNEL},
    {"op after yield", K("{skeleton = \"map\"}", "  yield %3\n  %4 = neg %3 : f32[4]\n"),
     IN "ops follow the end of the region: in \"yield %3\""},
    {"kernel without region", F("  %2 = kernel %0 {skeleton = \"map\"} : f32[4]\n  return %2\n"),
     IN "op 'kernel': the kernel has no region"},
    {"kernel in kernel",
     K("{skeleton = \"map\"}", "  kernel {skeleton = \"map\"} {\n  ^():\n  yield\n  }\n  yield %3\n"),
     IN "a kernel stands in a kernel: in \"kernel {skeleton = \"map\"}\""},
    {"composite in kernel", K("{skeleton = \"map\"}", "  %4 = softmax %3 : f32[4]\n  yield %4\n"),
     IN "a composite op stands in a kernel: in \"%4 = softmax %3 : f32[4]\""},
    {"skeleton missing", K("", "  yield %3\n"), IN "attribute 'skeleton' is missing: in \"%2 = kernel %0 : f32[4]\""},
    {"capture", K("{skeleton = \"map\"}", "  %4 = neg %0 : f32[4]\n  yield %4\n"),
     IN "operand 0 comes from outside the kernel's region: in \"%4 = neg %0 : f32[4]\""},
    {"inner value used outside",
     F("  %2 = kernel %0 {skeleton = \"map\"} : f32[4] {\n  ^(%3 : f32[4]):\n  yield %3\n  }\n  return %3\n"),
     IN "operand 0 comes from inside a kernel's region: in \"return %3\""},
    {"region argument count",
     F("  %2 = kernel %0 {skeleton = \"map\"} : f32[4] {\n  ^():\n  yield\n  }\n  return %2\n"),
     IN "the kernel has 1 operands, but its region has 0 arguments" KERNEL},
    {"region argument type",
     F("  %2 = kernel %0 {skeleton = \"map\"} : f32[4] {\n  ^(%3 : f32[5]):\n  yield %3\n  }\n  return %2\n"),
     IN "operand 0 has type f32[4], but the argument of the region has type f32[5]" KERNEL},
    {"yield count", K("{skeleton = \"map\"}", "  yield %3, %3\n"),
     IN "the kernel has 1 results, but its region yields 2 values" KERNEL},
    {"yield type", K("{skeleton = \"map\"}", "  %4 = cast %3 {to = i8} : i8[4]\n  yield %4\n"),
     IN "result 0 has type f32[4], but the yielded value has type i8[4]" KERNEL},
    {"offset count", K("{skeleton = \"map\", offset = [0, 1]}", "  yield %3\n"),
     IN "offset has 2 entries for 1 results: in \"%2 = kernel %0 {skeleton = \"map\", offset = [0, 1]} : f32[4]\""},
    {"workspace count", K("{skeleton = \"map\", workspace = [0]}", "  yield %3\n"),
     IN "workspace has 1 entries, not 2: in \"%2 = kernel %0 {skeleton = \"map\", workspace = [0]} : f32[4]\""},
    {"negative rng id", K("{skeleton = \"map\", rng_ids = [-1]}", "  yield %3\n"),
     IN "rng_ids holds a negative number: in \"%2 = kernel %0 {skeleton = \"map\", rng_ids = [-1]} : f32[4]\""},
    {"rng id out of range",
     K("{skeleton = \"map\", rng_ids = [5]}", "  %4 = stochastic_round %3, %3 {rng_id = 1} : f32[4]\n  yield %4\n"),
     IN
     "rng_id is 1, but the kernel's rng_ids has 1 entries: in \"%4 = stochastic_round %3, %3 {rng_id = 1} : f32[4]\""},
    {"rng ids missing", K("{skeleton = \"map\"}", "  %4 = stochastic_round %3, %3 {rng_id = 0} : f32[4]\n  yield %4\n"),
     IN
     "rng_id is 0, but the kernel's rng_ids has 0 entries: in \"%4 = stochastic_round %3, %3 {rng_id = 0} : f32[4]\""},
    {"too few operands", F("  %2 = add %0 : f32[4]\n  return %2\n"),
     IN "the op has 1 operands, not 2: in \"%2 = add %0 : f32[4]\""},
    {"too many operands", F("  %2 = neg %0, %0 : f32[4]\n  return %2\n"),
     IN "the op has 2 operands, not 1: in \"%2 = neg %0, %0 : f32[4]\""},
    {"operands of a range", F("  %2 = rms_norm %0, %0, %0 : f32[4]\n  return %2\n"),
     IN "the op has 3 operands, not 1 to 2: in \"%2 = rms_norm %0, %0, %0 : f32[4]\""},
    {"too many results", F("  %2, %3 = neg %0 : f32[4], f32[4]\n  return %2\n"),
     IN "the op has 2 results, not 1: in \"%2, %3 = neg %0 : f32[4], f32[4]\""},
    {"result missing", F("  neg %0\n  return %0\n"), IN "the op has 0 results, not 1: in \"neg %0\""},
    {"attribute unknown", F("  %2 = neg %0 {axis = 1} : f32[4]\n  return %2\n"),
     IN "the op has no attribute 'axis': in \"%2 = neg %0 {axis = 1} : f32[4]\""},
    {"attribute missing", F("  %2 = reduce_sum %0 : f32[1]\n  return %2\n"),
     IN "attribute 'axes' is missing: in \"%2 = reduce_sum %0 : f32[1]\""},
    {"attribute kind", F("  %2 = reduce_sum %0 {axes = 0} : f32[1]\n  return %2\n"),
     IN "attribute 'axes' is of kind int, not ints: in \"%2 = reduce_sum %0 {axes = 0} : f32[1]\""},
    {"attribute kind with default", F("  %2 = rms_norm %0 {eps = \"x\"} : f32[4]\n  return %2\n"),
     IN "attribute 'eps' is of kind text, not real: in \"%2 = rms_norm %0 {eps = \"x\"} : f32[4]\""},
    {"result type", F("  %2 = neg %0 : f32[5]\n  return %2\n"),
     IN "result 0 has type f32[5], but its operands make it f32[4]: in \"%2 = neg %0 : f32[5]\""},
    {"result dtype", F("  %2 = neg %0 : bf16[4]\n  return %2\n"),
     IN "result 0 has type bf16[4], but its operands make it f32[4]: in \"%2 = neg %0 : bf16[4]\""},
    {"inferred too large", F("  %2 = broadcast %0 {shape = [4]} : f32[4]\n  return %2\n"),
     IN "result 0 has type f32[4], but its operands make it a tensor larger than any address space: in \"%2 = "
        "broadcast %0 {shape = [4]} : f32[4]\""},
    {"operand types", F("  %2 = add %0, %1 : f32[4]\n  return %2\n"),
     IN "the shapes do not broadcast: in \"%2 = add %0, %1 : f32[4]\""},
    {"operand types in kernel",
     F("  %2 = kernel %0, %1 {skeleton = \"map\"} : f32[4] {\n  ^(%3 : f32[4], %4 : f32[3]):\n  %5 = add %3, %4 : "
       "f32[4]\n  yield %5\n  }\n  return %2\n"),
     IN "the shapes do not broadcast: in \"%5 = add %3, %4 : f32[4]\""},
    {"return count", F("  return %0, %1\n"),
     IN "the function declares 1 results, but returns 2 values: in \"return %0, %1\""},
    {"return nothing", F("  return\n"), IN "the function declares 1 results, but returns 0 values: in \"return\""},
    {"level kernel, tensor op", "module {level = \"kernel\"}\n" F("  %2 = neg %0 : f32[4]\n  return %2\n"),
     IN "at level \"kernel\" a function holds only kernels, reshapes and return: in \"%2 = neg %0 : f32[4]\""},
    {"level kernel, transpose",
     "module {level = \"kernel\"}\n" F("  %2 = transpose %0 {perm = [0]} : f32[4]\n  return %2\n"),
     IN "at level \"kernel\" a function holds only kernels, reshapes and return: in \"%2 = transpose %0 {perm = [0]} : "
        "f32[4]\""},
    {"buffer undeclared", "func @f(%0 : f32[4] {buffer = \"b\"}) -> () {\n  return\n}\n",
     IN "argument 0 is bound to buffer 'b', which is not declared"},
    {"buffer type", "buffer @b : f32[5] role \"input\"\nfunc @f(%0 : f32[4] {buffer = \"b\"}) -> () {\n  return\n}\n",
     IN "argument 0 has type f32[4], but buffer 'b' has type f32[5]"},
    {"buffer of a result, type",
     "buffer @b : f32[5] role \"output\"\nfunc @f(%0 : f32[4]) -> ({buffer = \"b\"}) {\n  return %0\n}\n",
     IN "result 0 has type f32[4], but buffer 'b' has type f32[5]"},
    {"buffer bound twice",
     "buffer @b : f32[4] role \"input\"\nfunc @f(%0 : f32[4] {buffer = \"b\"}, %1 : f32[4] {buffer = \"b\"}) -> () {\n "
     " return\n}\n",
     IN "buffer 'b' is bound to two arguments"},
    {"buffer written twice",
     "buffer @b : f32[4] role \"output\"\nfunc @f(%0 : f32[4]) -> ({buffer = \"b\"}, {buffer = \"b\"}) {\n  return %0, "
     "%0\n}\n",
     IN "buffer 'b' is bound to two results"},
    {"buffer attribute kind", "func @f(%0 : f32[4] {buffer = 3}) -> () {\n  return\n}\n",
     IN "attribute 'buffer' of argument 0 is not text"},
};

Test(ir_verify, damage_in_texts) {
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    MuseModule *m = parse(texts[i].text);
    check_refused(m, texts[i].name, texts[i].message);
    muse_module_destroy(m);
  }
}

Test(ir_verify, the_place_in_the_configuration_is_kept) {
  MuseModule *m = parse("module source \"c.yaml\"\n" F("  %2 = neg %0 : f32[5] loc(7:9 d_model)\n  return %2\n"));
  MuseDiag *diag = muse_diag_create();
  cr_expect_eq(muse_verify_module(m, infer, diag), MUSE_ERR_INPUT);
  MuseLoc loc = muse_diag_loc(diag, 0);
  cr_expect(loc.line == 7 && loc.col == 9);
  cr_expect_str_eq(loc.file, "c.yaml");
  muse_diag_destroy(diag);
  muse_module_destroy(m);
}

Test(ir_verify, first_damage_of_each_function_is_reported) {
  MuseModule *m = parse(
      "func @f() -> () {\n}\nfunc @g() -> () {\n  return\n}\nfunc @h() -> () {\n  yield\n  yield\n}\n");
  MuseDiag *diag = muse_diag_create();
  cr_expect_eq(muse_verify_module(m, infer, diag), MUSE_ERR_INPUT);
  cr_expect_eq(muse_diag_count(diag, MUSE_ERROR), 2);
  cr_expect_str_eq(muse_diag_message(diag, 1), "in function @h: a function ends with return: in \"yield\"");
  muse_diag_destroy(diag);
  muse_module_destroy(m);
}

// --- damage that no text can hold ---

static const char *const sound =
    "module {level = \"tensor\"}\n"
    "buffer @b : f32[4] role \"input\"\n"
    "func @f(%0 : f32[4] {buffer = \"b\"}) -> ({name = \"r\"}) {part = \"x\"} {\n"
    "  %1 = neg %0 : f32[4]\n"
    "  %2 = kernel %1 {skeleton = \"map\", rng_ids = [1]} : f32[4] {\n"
    "  ^(%3 : f32[4]):\n"
    "    %4 = cast %3 {to = f32} : f32[4]\n"
    "    yield %4\n"
    "  }\n"
    "  return %2\n"
    "}\n"
    "func @g(%0 : f32[4]) -> ({}) {\n"
    "  return %0\n"
    "}\n";

#define MUTATION(name_, code)                                                                                      \
  static void mutate_##name_(MuseModule *m, MuseFunc *f, MuseOp *neg, MuseOp *kernel, MuseOp *cast, MuseOp *ret) { \
    code;                                                                                                          \
  }
#define MUTATIONS(X)                                                                                                   \
  X(operand_null, neg->operands[0] = NULL, "op 'neg': operand 0 is missing")                                           \
  X(operands_null, neg->operands = NULL, "op 'neg': the operand list is damaged")                                      \
  X(operands_negative, neg->n_operands = -1, "op 'neg': the operand list is damaged")                                  \
  X(result_null, neg->results[0] = NULL, "op 'neg': result 0 is missing")                                              \
  X(results_negative, neg->n_results = -1, "op 'neg': the result list is damaged")                                     \
  X(result_def, neg->results[0]->def = kernel, "op 'neg': result 0 does not name this op as its definition")           \
  X(result_index, neg->results[0]->index = 1, "op 'neg': result 0 has the index 1")                                    \
  X(result_region, neg->results[0]->region = kernel->body, "op 'neg': result 0 names another region than its op")      \
  X(result_type, neg->results[0]->type.dim[0] = 0, "op 'neg': result 0 has no legal type")                             \
  X(result_rank, neg->results[0]->type.rank = 9, "op 'neg': result 0 has no legal type")                               \
  X(result_dtype, neg->results[0]->type.dtype = (MuseDtype)99, "op 'neg': result 0 has no legal type")                 \
  X(op_prev, kernel->prev = NULL, "op 'kernel': the op before it is not the one it names")                             \
  X(op_cycle, ret->next = neg, "op 'neg': the op before it is not the one it names")                                   \
  X(op_region, neg->region = kernel->body, "op 'neg': it names another region than the one it stands in")              \
  X(op_kind, neg->kind = (MuseOpKind)9999, "an op is of no known kind")                                                \
  X(op_layer, neg->layer = -2, "op 'neg': the layer is -2")                                                            \
  X(op_stage, neg->stage = (MuseStage)7, "op 'neg': the stage is unknown")                                             \
  X(region_last, f->body.last = neg, "the last op is not the end of the list")                                         \
  X(region_last_in_kernel, kernel->body->last = cast, "op 'kernel': the last op is not the end of the list")           \
  X(region_owner, kernel->body->owner = neg, "op 'kernel': a region does not name the op it belongs to")               \
  X(region_owner_of_function, f->body.owner = neg, "a region does not name the op it belongs to")                      \
  X(region_cycle, cast->kind = MUSE_OP_kernel;                                                                         \
    cast->body = kernel->body, "op 'kernel': a region does not name the op it belongs to")                             \
  X(region_args_negative, f->body.n_args = -1, "the argument list is damaged")                                         \
  X(arg_null, f->body.args[0] = NULL, "argument 0 is missing")                                                         \
  X(arg_def, f->body.args[0]->def = neg, "argument 0 names an op as its definition")                                   \
  X(arg_index, f->body.args[0]->index = 3, "argument 0 has the index 3")                                               \
  X(arg_region, kernel->body->args[0]->region = &f->body, "op 'kernel': argument 0 names another region than its own") \
  X(arg_type, f->body.args[0]->type.dim[0] = -4, "argument 0 has no legal type")                                       \
  X(arg_attrs_missing, f->body.arg_attrs = NULL, "the arguments have no attribute lists")                              \
  X(arg_attrs_in_kernel, kernel->body->arg_attrs = f->body.arg_attrs,                                                  \
    "op 'kernel': arguments of a kernel's region have attributes")                                                     \
  X(region_of_another_op, neg->body = kernel->body, "op 'neg': only a kernel has a region")                            \
  X(attr_list, kernel->attrs.len = 1000, "op 'kernel': the attribute list is damaged")                                 \
  X(attr_unnamed, kernel->attrs.data[0].name = NULL, "op 'kernel': an attribute has no name")                          \
  X(attr_kind, kernel->attrs.data[0].kind = (MuseAttrKind)77, "op 'kernel': attribute 'skeleton' is of no known kind") \
  X(attr_text, kernel->attrs.data[0].text = NULL, "op 'kernel': attribute 'skeleton' has no text")                     \
  X(attr_ints, kernel->attrs.data[1].ints.data = NULL, "op 'kernel': attribute 'rng_ids' has no integers")             \
  X(attr_dtype, cast->attrs.data[0].dtype = (MuseDtype)50, "op 'cast': attribute 'to' holds no element type")          \
  X(attr_twice, kernel->attrs.data[1].name = "skeleton", "op 'kernel': attribute 'skeleton' is given twice")           \
  X(func_name, f->name = NULL, "the function has no name")                                                             \
  X(func_result_attrs, f->result_attrs = NULL, "the results have no attribute lists")                                  \
  X(func_n_results, f->n_results = 0, "the function declares 0 results, but returns 1 values: in \"return %2\"")       \
  X(foreign_value, neg->operands[0] = f->next->body.args[0],                                                           \
    "operand 0 is no value of this function: in \"%1 = neg %0 : f32[4]\"")                                             \
  X(unlinked_value, muse_op_unlink(neg);                                                                               \
    kernel->prev = NULL,                                                                                               \
    "operand 0 is no value of this function: in \"%1 = kernel %1 {skeleton = \"map\", rng_ids = [1]} : f32[4]\"")      \
  X(use_before_definition, muse_op_unlink(neg);                                                                        \
    muse_op_insert_before(neg, ret),                                                                                   \
    "operand 0 is used before it is defined: in \"%1 = kernel %4 {skeleton = \"map\", rng_ids = [1]} : f32[4]\"")      \
  X(own_result, neg->operands[0] = neg->results[0],                                                                    \
    "operand 0 is used before it is defined: in \"%1 = neg %1 : f32[4]\"")
#define X_FUNCTION(name, code, message) MUTATION(name, code)
MUTATIONS(X_FUNCTION)

Test(ir_verify, damage_in_structures) {
  static const struct {
    const char *name;
    void (*mutate)(MuseModule *, MuseFunc *, MuseOp *, MuseOp *, MuseOp *, MuseOp *);
    const char *message;
  } rows[] = {
#define X_ROW(name, code, message) {#name, mutate_##name, message},
      MUTATIONS(X_ROW)};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    MuseModule *m = parse(sound);
    MuseDiag *diag = muse_diag_create();
    cr_assert_eq(muse_verify_module(m, infer, diag), MUSE_OK, "%s", muse_diag_message(diag, 0));
    muse_diag_destroy(diag);
    MuseFunc *f = m->first_func;
    MuseOp *neg = f->body.first, *kernel = neg->next;
    rows[i].mutate(m, f, neg, kernel, kernel->body->first, f->body.last);
    char want[512];
    snprintf(want, sizeof want, "in function @%s: %s", f->name ? f->name : "", rows[i].message);
    check_refused(m, rows[i].name, want);
    muse_module_destroy(m);
  }
}

Test(ir_verify, damage_of_the_module) {
  MuseModule *m = parse(sound);
  m->first_func->next->name = "f";
  check_refused(m, "function twice", "function @f is defined twice");
  muse_module_destroy(m);

  m = parse(sound);
  m->last_func = m->first_func;
  check_refused(m, "last function", "the module's last function is not the end of its list");
  muse_module_destroy(m);

  m = parse(sound);
  m->first_func->module = NULL;
  check_refused(m, "module of a function", "function @f names another module than its own");
  muse_module_destroy(m);

  m = parse(sound);
  m->buffers[0]->name = "c";
  check_refused(m, "buffer name", "buffer 'c' is not the one found under its name");
  muse_module_destroy(m);

  m = parse(sound);
  m->buffers[0]->type.dim[0] = 0;
  check_refused(m, "buffer type", "buffer 'b' has no legal type");
  muse_module_destroy(m);
}
