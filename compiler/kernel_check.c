// Whether a kernel from a file has the form that its skeleton takes for granted. Kernels that the passes make have it.
#include "compiler/kernel_info.h"

#include "compiler/skel_map.h"
#include "compiler/skel_matmul.h"

#include <string.h>

// The skeletons look through bodies in ways that take long on large ones.
enum { MAX_BODY_OPS = 256, MAX_ROW_REDUCTIONS = 16 };

static bool is_reduction(const MuseOp *op) { return muse_op_info(op->kind)->class_ == MUSE_CLASS_REDUCE; }

// The broadcast shape of all values, without tables (second operand of rope and stochastic_round).
static bool map_shape(const MuseOp *kernel, MuseType *out) {
  *out = muse_scalar_type(MUSE_F32);
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    bool table = op->kind == MUSE_OP_rope || op->kind == MUSE_OP_stochastic_round;
    for (int i = 0; i < op->n_operands; i++) {
      if (!(table && i == 1) && !muse_type_broadcast(*out, op->operands[i]->type, out)) return false;
    }
    for (int i = 0; i < op->n_results; i++) {
      if (!muse_type_broadcast(*out, op->results[i]->type, out)) return false;
    }
  }
  out->dtype = MUSE_F32;
  return muse_type_valid(*out);
}

static const char *map_fault(const MuseOp *kernel) {
  MuseType shape;
  if (!map_shape(kernel, &shape)) return "its values have no common shape";
  int terminals = 0, rows = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) {
    if (!muse_map_op_fits(op, shape)) return "an op does not fit its shape";
    if (op->kind == MUSE_OP_rope && op->operands[0]->def) return "rope does not read a tensor in memory";
    for (int i = 0; i < op->n_operands && op->kind != MUSE_OP_yield; i++) {
      const MuseOp *def = op->operands[i]->def;
      if (def && is_reduction(def) && muse_map_is_terminal(def)) return "a sum over rows is used inside it";
    }
    if (is_reduction(op)) *(muse_map_is_terminal(op) ? &terminals : &rows) += 1;
  }
  if (terminals > MUSE_MAP_MAX_TERMINALS || rows > MAX_ROW_REDUCTIONS) return "it has too many reductions";
  return NULL;
}

static bool reads_only_arguments(const MuseOp *op) {
  for (int i = 0; i < op->n_operands; i++) {
    if (op->operands[i]->def) return false;
  }
  return true;
}

// Anchors that share the left operand, and maps of the shape of the anchor that depend on it; casts of operands that
// these read may stand among them.
static const char *product_fault(const MuseOp *kernel, MuseOpKind kind) {
  const MuseOp *first = NULL;
  int n_anchors = 0;
  for (MuseOp *op = kernel->body->first; op; op = op->next) {
    op->mark = 0; // whether it depends on an anchor
    if (op->kind == MUSE_OP_yield) continue;
    if (op->kind == kind) {
      op->mark = 1;
      if (!reads_only_arguments(op)) return "a product does not read tensors in memory";
      if (!first) first = op;
      if (op->operands[0] != first->operands[0]) return "its products do not share the left operand";
      if (++n_anchors > MUSE_MAX_ANCHORS) return "it has too many products";
      continue;
    }
    if (muse_op_info(op->kind)->class_ != MUSE_CLASS_MAP || op->kind == MUSE_OP_rope)
      return "an op cannot follow a product";
    if (op->kind == MUSE_OP_const || (op->kind == MUSE_OP_cast && !op->operands[0]->def)) continue;
    MuseType shape = {0};
    for (int i = 0; i < op->n_operands; i++) {
      const MuseOp *def = op->operands[i]->def;
      if (!def || !def->mark) continue;
      if (op->mark && !muse_type_same_shape(shape, def->results[0]->type))
        return "an op mixes products of different shapes";
      op->mark = 1;
      shape = def->results[0]->type;
    }
    if (!op->mark) return "an op does not depend on a product";
    if (!muse_type_same_shape(op->results[0]->type, shape)) return "an op does not have the shape of its product";
  }
  return first ? NULL : "it holds no such op";
}

// One op on the kernel's operands, its results yielded.
static const char *single_fault(const MuseOp *kernel, MuseOpKind kind) {
  const MuseOp *op = kernel->body->first, *yield = kernel->body->last;
  if (op->kind != kind) return "it holds no such op";
  if (op->next != yield) return "it holds more than that op";
  if (!reads_only_arguments(op)) return "its op does not read the operands";
  for (int i = 0; i < yield->n_operands; i++) {
    if (yield->operands[i]->def != op) return "it yields something else than results of its op";
    for (int j = 0; j < i; j++) {
      if (yield->operands[i] == yield->operands[j]) return "it yields a result twice";
    }
  }
  return NULL;
}

const char *muse_kernel_fault(const MuseOp *kernel) {
  const char *name = muse_op_text(kernel, "skeleton");
  MuseOpKind kind;
  if (!muse_skeleton(name)) return "there is no such skeleton";
  int n = 0;
  for (const MuseOp *op = kernel->body->first; op; op = op->next) n++;
  if (n > MAX_BODY_OPS) return "its body is too long";
  if (strcmp(name, "map") == 0) return map_fault(kernel);
  if (!muse_op_kind_from_name(name, strlen(name), &kind)) return "there is no op of its name";
  bool product = kind == MUSE_OP_matmul || kind == MUSE_OP_ternary_matmul || kind == MUSE_OP_int8_matmul;
  return product ? product_fault(kernel, kind) : single_fault(kernel, kind);
}
