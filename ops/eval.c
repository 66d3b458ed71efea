// Evaluation of a region: op after op, values found by address, so that regions need no numbering and stay untouched.

#include "ops/hooks.h"

typedef struct Slot {
  const MuseValue *value;
  MuseTensor tensor;
} Slot;

// Open addressing, at most half full; made for the number of values of the region.
typedef struct Env {
  Slot *slots;
  size_t mask;
} Env;

static Slot *find_slot(const Env *env, const MuseValue *value) {
  size_t i = ((uintptr_t)value >> 4) * 0x9e3779b97f4a7c15u >> 20;
  while (env->slots[i & env->mask].value && env->slots[i & env->mask].value != value) i++;
  return &env->slots[i & env->mask];
}

static void bind(Env *env, const MuseValue *value, MuseTensor tensor) {
  MUSE_ASSERT(muse_type_eq(value->type, tensor.type));
  *find_slot(env, value) = (Slot){value, tensor};
}

static MuseTensor lookup(const Env *env, const MuseValue *value) {
  Slot *slot = find_slot(env, value);
  MUSE_ASSERT(slot->value);
  return slot->tensor;
}

void muse_region_eval(const MuseEval *eval, const MuseRegion *region, const MuseTensor *args, MuseTensor *out) {
  size_t n_values = (size_t)region->n_args, capacity = 16;
  int widest = 1;
  for (const MuseOp *op = region->first; op; op = op->next) {
    n_values += (size_t)op->n_results;
    if (op->n_operands > widest) widest = op->n_operands;
    if (op->n_results > widest) widest = op->n_results;
  }
  while (capacity < 2 * n_values) capacity *= 2;
  Env env = {MUSE_NEW_ARRAY(eval->arena, Slot, capacity), capacity - 1};
  MuseTensor *operands = MUSE_NEW_ARRAY(eval->arena, MuseTensor, widest);
  MuseTensor *results = MUSE_NEW_ARRAY(eval->arena, MuseTensor, widest);

  for (int i = 0; i < region->n_args; i++) bind(&env, region->args[i], args[i]);
  for (const MuseOp *op = region->first; op; op = op->next) {
    bool last = muse_op_info(op->kind)->traits & MUSE_TRAIT_TERMINATOR;
    for (int i = 0; i < op->n_operands; i++) (last ? out : operands)[i] = lookup(&env, op->operands[i]);
    if (last) return;
    muse_op_eval(eval, op, operands, results);
    for (int i = 0; i < op->n_results; i++) bind(&env, op->results[i], results[i]);
  }
  MUSE_ASSERT(!"a region ends with yield or return");
}
