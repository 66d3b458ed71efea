// Inference refuses wrong operands and attributes with one sentence that names the op and what is wrong.

#include "ops/ops.h"
#include "tests/unit/op_cases.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct Refused {
  MuseOpKind kind;
  const char *operands, *attrs, *part; // part of the sentence
} Refused;

#define REFUSED(name, operands, attrs, part) {MUSE_OP_##name, operands, attrs, part},
static const Refused refused[] = {
    REFUSED(const, "", "value=1, dtype=t2", "cannot be a trit") REFUSED(
        cast, "f32[2,3] u(0,1)", "to=t2",
        "pack_trits") REFUSED(cast, "t2[2,3] i(0,1)", "to=f32",
                              "unpack_trits") REFUSED(neg, "i32[3] i(0,1)", "",
                                                      "must be f32 or f64") REFUSED(exp, "bf16[3] u(0,1)", "",
                                                                                    "cast it first")
        REFUSED(log, "bool[3] i(0,1)", "", "must be f32 or f64") REFUSED(
            add, "f32[3] u(0,1); f64[3] u(0,1)", "",
            "different types f32[3] and f64[3]") REFUSED(add, "f32[3] u(0,1); f32[4] u(0,1)", "", "do not broadcast")
            REFUSED(mul, "i8[3] i(0,1); i8[3] i(0,1)", "", "operand 1 is i8[3]") REFUSED(
                div,
                "i32[3] i(1,2); i32[3] i(1,2)",
                "",
                "must be f32 or f64") REFUSED(less, "f32[2,3] u(0,1); f32[2] u(0,1)", "",
                                              "do not broadcast") REFUSED(select,
                                                                          "f32[3] u(0,1); f32[3] u(0,1); f32[3] u(0,1)",
                                                                          "", "condition")
                REFUSED(select, "bool[3] i(0,1); f32[3] u(0,1); i32[3] i(0,1)", "", "different types") REFUSED(
                    select,
                    "bool[2] i(0,1); f32[3] u(0,1); f32[3] u(0,1)", "",
                    "do not broadcast") REFUSED(stochastic_round, "f32[3] u(0,1); u32[3] i(0,1)", "rng_id=0", "u32[2]")
                    REFUSED(stochastic_round, "f32[3] u(0,1); u32[2] i(0,1)", "rng_id=-1", "negative") REFUSED(
                        reduce_sum,
                        "f32[3,4] u(0,1)", "axes=2",
                        "axis 2 is not an axis") REFUSED(reduce_sum, "f32[3,4] u(0,1)", "axes=", "empty")
                        REFUSED(reduce_max, "f32[3,4] u(0,1)", "axes=1:0", "ascending") REFUSED(
                            reduce_max,
                            "f32[3,4] u(0,1)", "axes=1:1",
                            "once") REFUSED(reduce_max, "bf16[3,4] u(0,1)", "axes=1", "cast it first")
                            REFUSED(reshape, "f32[3,4] u(0,1)", "shape=5", "different numbers of elements") REFUSED(
                                reshape,
                                "f32[3,4] u(0,1)", "shape=-3:-4",
                                "positive") REFUSED(reshape, "f32[1] u(0,1)", "shape=1:1:1:1:1:1:1", "at most 6")
                                REFUSED(reshape, "t2[2,4] i(0,1)", "shape=4:2", "packed by rows")
                                    REFUSED(broadcast, "f32[3] u(0,1)", "shape=3:4", "does not broadcast") REFUSED(
                                        broadcast, "f32[3] u(0,1)",
                                        "shape=4000000000:4000000000:3",
                                        "63 bits") REFUSED(transpose, "f32[3,4] u(0,1)", "perm=0", "has 2 dimensions")
                                        REFUSED(transpose, "f32[3,4] u(0,1)", "perm=1:1", "once") REFUSED(
                                            transpose,
                                            "t2[3,4] i(0,1)", "perm=1:0", "transposed matrix")
                                            REFUSED(quantize_rows, "i8[3,4] i(0,1)", "", "must be f32, bf16 or f16")
                                                REFUSED(ternarize, "f32[12] u(0,1)", "", "must be a matrix") REFUSED(
                                                    bit_linear,
                                                    "f32[3,4] u(0,1); f32[5,6] u(0,1)", "",
                                                    "same last dimension") REFUSED(bit_linear,
                                                                                   "f32[3,4] u(0,1); f32[5,4] u(0,1)",
                                                                                   "gradient=int4", "\"int8\"")
                                                    REFUSED(bit_linear, "f32[2,3,4] u(0,1); f32[5,4] u(0,1)", "",
                                                            "must be a matrix") REFUSED(bit_linear_dx,
                                                                                        "f32[3,5] u(0,1); f32[4,6] "
                                                                                        "u(0,1)",
                                                                                        "", "rows of w")
                                                        REFUSED(
                                                            bit_linear_dx, "f32[3,5] u(0,1); f32[5,6] u(0,1)",
                                                            "gradient=int8", "third operand")
                                                            REFUSED(
                                                                bit_linear_dw, "f32[3,5] u(0,1); f32[4,6] u(0,1)", "",
                                                                "number of rows")
                                                                REFUSED(
                                                                    bit_linear_dw,
                                                                    "f32[3,5] u(0,1); f32[3,6] u(0,1); i32[2] i(0,1)",
                                                                    "gradient=int8",
                                                                    "u32[2]") REFUSED(fake_quantize, "f32[3,4] u(0,1)",
                                                                                      "",
                                                                                      "three dimensions")
                                                                    REFUSED(
                                                                        rms_norm, "f32[3,4] u(0,1); f32[3] u(0,1)", "",
                                                                        "length 4")
                                                                        REFUSED(
                                                                            rms_norm, "f32[] u(0,1)", "",
                                                                            "at least one dimension")
                                                                            REFUSED(
                                                                                rms_norm, "f32[4] u(0,1)", "eps=0",
                                                                                "eps") REFUSED(softmax,
                                                                                               "i32[3,4] i(0,1)", "",
                                                                                               "float tensor")
                                                                                REFUSED(
                                                                                    adamw,
                                                                                    "f32[3] u(0,1); f32[4] u(0,1); "
                                                                                    "f32[3] u(0,1); f32[3] u(0,1); "
                                                                                    "f32[] u(0,1); f32[] u(0,1); f32[] "
                                                                                    "u(0,1); f32[] u(0,1)",
                                                                                    "",
                                                                                    "operand 2 (g) is f32[4] but must "
                                                                                    "be f32[3]")
                                                                                    REFUSED(
                                                                                        adamw,
                                                                                        "f32[3] u(0,1); f32[3] u(0,1); "
                                                                                        "f32[3] u(0,1); f32[3] u(0,1); "
                                                                                        "f32[1] u(0,1); f32[] u(0,1); "
                                                                                        "f32[] u(0,1); f32[] u(0,1)",
                                                                                        "",
                                                                                        "(lr)") REFUSED(clip_factor,
                                                                                                        "f32[1] u(0,1)",
                                                                                                        "max_norm=1",
                                                                                                        "must be f32[]")
                                                                                        REFUSED(
                                                                                            clip_factor, "f32[] u(0,1)",
                                                                                            "max_norm=-1", "max_norm")
                                                                                            REFUSED(sum_squares,
                                                                                                    "i32[3] i(0,1)", "",
                                                                                                    "must be f32, bf16 "
                                                                                                    "or f16")
                                                                                                REFUSED(
                                                                                                    adafactor8,
                                                                                                    "i8[3,4] i(0,1); "
                                                                                                    "f32[] u(0,1); "
                                                                                                    "f32[3,4] u(0,1); "
                                                                                                    "f32[4] u(0,1); "
                                                                                                    "f32[4] u(0,1); "
                                                                                                    "i8[3,4] i(0,1); "
                                                                                                    "f32[3,1] u(0,1); "
                                                                                                    "f32[] u(0,1); "
                                                                                                    "f32[] u(0,1); "
                                                                                                    "u32[2] i(0,1)",
                                                                                                    "rng_id=0",
                                                                                                    "operand 4 (r) is "
                                                                                                    "f32[4] but must "
                                                                                                    "be f32[3]")
    // The structured ops
    REFUSED(matmul, "f32[3,4] u(0,1); f32[5,6] u(0,1)", "",
            "matmul") REFUSED(matmul, "f32[3,4] u(0,1); t2[4,6] i(0,1)", "",
                              "matmul") REFUSED(ternary_matmul, "f32[3,4] u(0,1); t2[5,4] i(0,1)", "", "ternary_matmul")
        REFUSED(ternary_matmul, "i8[3,4] i(0,1); t2[5,3] i(0,1)", "", "ternary_matmul") REFUSED(
            int8_matmul, "i8[3,4] i(0,1); i8[4,5] i(0,1)", "",
            "int8_matmul") REFUSED(pack_trits, "f32[3,4] u(0,1); f32[1] u(1,1)", "",
                                   "pack_trits") REFUSED(pack_trits, "i8[3,4] i(0,1); f32[] u(1,1)", "",
                                                         "first operand is i8")
            REFUSED(pack_trits, "f32[3,4] u(0,1); f32[] u(1,1); f32[] u(1,1)", "", "first operand is f32")
                REFUSED(pack_trits, "i8[3,4] i(0,1); f32[] u(1,1); f32[1] u(1,1)", "", "grid width")
        REFUSED(unpack_trits, "i8[3,4] i(0,1)", "", "unpack_trits")
            REFUSED(rope_table, "f32[] u(0,1)", "rows=3, half=2",
                    "rope_table") REFUSED(rope, "f32[2,5,3,6] u(0,1); f32[5,4] u(0,1)", "",
                                          "rope") REFUSED(gather_rows, "f32[5,6] u(0,1); f32[2,3] u(0,1)", "",
                                                          "gather_rows")
                REFUSED(scatter_add_rows, "f32[2,3,5] u(0,1); i32[2,4] i(0,1)", "rows=7", "scatter_add_rows") REFUSED(
                    tt_gather, "f32[3,2,3] u(0,1); f32[3,4,3] u(0,1); f32[2] u(0,1); i32[2,5] i(0,6)", "dim=7",
                    "tt_gather") REFUSED(tt_matmul,
                                         "f32[5,10] u(0,1); f32[3,2,3] u(0,1); f32[3,2,3] u(0,1); f32[2] u(0,1)",
                                         "vocab=8", "tt_matmul")
                    REFUSED(cross_entropy, "f32[5,7] u(0,1); f32[9,6] u(0,1); i32[5] i(0,8)", "", "cross_entropy")
                        REFUSED(cross_entropy_grad, "f32[5,7] u(0,1); f32[9,7] u(0,1); i32[5] i(0,8); f32[1] u(0,1)",
                                "", "cross_entropy_grad") REFUSED(doc_begin, "f32[2,3] u(0,1)", "", "doc_begin")
                            REFUSED(green_scan, "f32[2,7,3] u(0,1); f32[4] u(0,1); i32[2,7] doc", "",
                                    "green_scan") REFUSED(resolvent_scan,
                                                          "f32[1,2,3,4] u(0,1); f32[1,2,3,4] u(0,1); f32[1,2,3,5] "
                                                          "u(0,1); f32[1,2,3] u(0,1); f32[1,2,3] u(0,1); i32[1,2] doc",
                                                          "", "resolvent_scan")
                                REFUSED(window_attention,
                                        "f32[1,2,3,4] u(0,1); f32[1,2,3,4] u(0,1); f32[1,2,3,4] u(0,1); i32[1,2] doc",
                                        "window=0, score=dot", "window_attention")
                                    REFUSED(
                                        window_attention,
                                        "f32[1,2,3,4] u(0,1); f32[1,2,3,4] u(0,1); f32[1,2,3,4] u(0,1); i32[1,2] doc",
                                        "window=2, score=cosine", "window_attention")
                                        REFUSED(ring_write, "f32[2,5,3] u(0,1); f32[2,2,3] u(0,1); i64[] i(0,9)",
                                                "axis=1", "ring_write")};

// An op that no builder would make, with operands of the given types.
static MuseStatus infer(const Refused *r, MuseDiag *diag) {
  MuseOpCase c = muse_op_case(r->kind, r->operands, r->attrs);
  MuseModule *module = muse_module_create("");
  MuseFunc *func = muse_func_create(module, "f");
  MuseValue *args[MUSE_CASE_MAX_OPERANDS];
  MuseType types[8] = {0}, out[8];
  for (int i = 0; i < 8; i++) types[i] = muse_scalar_type(MUSE_F32);
  for (int i = 0; i < c.n_operands; i++) args[i] = muse_region_add_arg(module, &func->body, c.operand[i].type);
  int n_results = muse_op_info(r->kind)->results;
  MuseOp *op = muse_op_create(module, r->kind, c.n_operands, args, n_results < 0 ? 3 : n_results, types);
  op->attrs = muse_op_case_attrs(&c, module);
  MuseStatus status = muse_ops_infer(op, out, diag);
  muse_module_destroy(module);
  return status;
}

Test(ops_infer, refuses_with_a_sentence) {
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    const Refused *r = &refused[i];
    const char *name = muse_op_info(r->kind)->name;
    MuseDiag *diag = muse_diag_create();
    MuseStatus status = infer(r, diag);
    cr_expect(status == MUSE_ERR_INPUT, "%s (%s) {%s} was not refused", name, r->operands, r->attrs);
    if (status != MUSE_OK) {
      const char *sentence = muse_diag_message(diag, 0);
      cr_expect(muse_diag_count(diag, MUSE_ERROR) == 1);
      cr_expect(strstr(sentence, name) != NULL, "%s", sentence);
      cr_expect(strstr(sentence, r->part) != NULL, "\"%s\" does not say \"%s\"", sentence, r->part);
      cr_expect(strlen(sentence) > strlen(name) + 15 && !strchr(sentence, '\n'), "%s", sentence);
    }
    muse_diag_destroy(diag);
  }
}
