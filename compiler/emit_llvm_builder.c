// Functions, types, constants, control flow and arithmetic over the LLVM-C API. Memory access is in emit_llvm_memory.c.

#include "compiler/emit_llvm_builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool muse_llvm_fail(MuseLlvm *ll, const char *format, ...) {
  if (ll->status == MUSE_OK) {
    va_list args;
    va_start(args, format);
    MuseLoc loc = ll->kernel ? ll->kernel->loc : (MuseLoc){0};
    ll->status = muse_errorv(ll->diag, MUSE_ERR_FAILED, loc, format, args);
    va_end(args);
  }
  return false;
}

bool muse_llvm_has(const MuseLlvm *ll, const char *feature) {
  size_t length = strlen(feature);
  for (const char *p = ll->target->features; (p = strstr(p, feature)) != NULL; p += length)
    if (p > ll->target->features && p[-1] == '+' && (p[length] == ',' || p[length] == 0)) return true;
  static const char *const avx2[] = {"avx", "avx2", "fma", "f16c", "bmi2", "sse4.1"};
  static const char *const avx512[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"};
  MuseCpuLevel level = ll->target->level;
  if (level >= MUSE_CPU_AVX2 && level <= MUSE_CPU_AMX)
    for (size_t i = 0; i < sizeof avx2 / sizeof *avx2; i++)
      if (!strcmp(avx2[i], feature)) return true;
  if (level >= MUSE_CPU_AVX512 && level <= MUSE_CPU_AMX)
    for (size_t i = 0; i < sizeof avx512 / sizeof *avx512; i++)
      if (!strcmp(avx512[i], feature)) return true;
  return false;
}

// ---- stages ----

static void add_attribute(MuseLlvm *ll, LLVMValueRef fn, unsigned index, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  MUSE_ASSERT(kind != 0);
  LLVMAddAttributeAtIndex(fn, index, LLVMCreateEnumAttribute(ll->context, kind, value));
}

static void add_text_attribute(MuseLlvm *ll, LLVMValueRef fn, const char *name, const char *value) {
  LLVMAddAttributeAtIndex(
      fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
      LLVMCreateStringAttribute(ll->context, name, (unsigned)strlen(name), value, (unsigned)strlen(value)));
}

static void add_function_attributes(MuseLlvm *ll, LLVMValueRef fn) {
  char bits[16];
  snprintf(bits, sizeof bits, "%d", ll->lanes == 1 ? 128 : 32 * ll->lanes);
  if (ll->target->cpu[0]) add_text_attribute(ll, fn, "target-cpu", ll->target->cpu);
  if (ll->target->features[0]) add_text_attribute(ll, fn, "target-features", ll->target->features);
  add_text_attribute(ll, fn, "prefer-vector-width", bits);
  add_text_attribute(ll, fn, "min-legal-vector-width", bits);
  add_attribute(ll, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
}

static bool ever_in_place(const MuseOp *kernel, int result, int operand) {
  return muse_type_eq(kernel->results[result]->type, kernel->operands[operand]->type) &&
         muse_kernel_allows_in_place(kernel, result, operand);
}

void muse_llvm_stage_begin(MuseLlvm *ll, const MuseOp *kernel, int stage) {
  ll->kernel = kernel;
  if (ll->widen) stage++;
  int n_in = kernel->n_operands, n_out = kernel->n_results, n_buffers = n_in + n_out + 2; // + workspace, rng_ids
  LLVMTypeRef *params = MUSE_NEW_ARRAY(ll->arena, LLVMTypeRef, n_buffers + 4);
  LLVMValueRef *args = MUSE_NEW_ARRAY(ll->arena, LLVMValueRef, n_buffers + 4);
  for (int i = 0; i < n_buffers; i++) params[i] = ll->ptr;
  params[n_buffers] = params[n_buffers + 1] = ll->i64; // begin, end
  params[n_buffers + 2] = ll->ptr;                     // scratch
  params[n_buffers + 3] = ll->i64;                     // iteration
  LLVMTypeRef body_type = LLVMFunctionType(ll->void_type, params, (unsigned)n_buffers + 4, false);
  LLVMTypeRef outer_type = LLVMFunctionType(ll->void_type, (LLVMTypeRef[]){ll->ptr, ll->i64, ll->i64, ll->ptr, ll->i64},
                                            5, false);
  const char *outer_name = muse_arena_printf(ll->arena, "%s_%d", ll->name, stage);
  const char *body_name = muse_arena_printf(ll->arena, "%s_%d.body", ll->name, stage);
  LLVMValueRef outer = LLVMAddFunction(ll->module, outer_name, outer_type);
  LLVMValueRef body = LLVMAddFunction(ll->module, body_name, body_type);
  LLVMSetLinkage(body, LLVMInternalLinkage);
  add_function_attributes(ll, outer);
  add_function_attributes(ll, body);
  add_attribute(ll, body, (unsigned)LLVMAttributeFunctionIndex, "noinline", 0);

  // The outer function only unpacks the pointer array: as parameters the pointers can carry noalias and their
  // alignment.
  LLVMPositionBuilderAtEnd(ll->b, LLVMAppendBasicBlockInContext(ll->context, outer, "entry"));
  for (int i = 0; i < n_buffers; i++) {
    LLVMValueRef slot = LLVMBuildGEP2(ll->b, ll->ptr, LLVMGetParam(outer, 0), (LLVMValueRef[]){muse_llvm_i64(ll, i)}, 1,
                                      "");
    args[i] = LLVMBuildLoad2(ll->b, ll->ptr, slot, "");
  }
  for (int i = 0; i < 4; i++) args[n_buffers + i] = LLVMGetParam(outer, (unsigned)i + 1);
  LLVMBuildCall2(ll->b, body_type, body, args, (unsigned)n_buffers + 4, "");
  LLVMBuildRetVoid(ll->b);

  for (int i = 0; i < n_buffers + 3; i++) {
    if (i >= n_buffers && i < n_buffers + 2) continue;
    bool alias = false;
    for (int r = 0; r < n_out && i < n_in; r++) alias |= ever_in_place(kernel, r, i);
    for (int o = 0; o < n_in && i >= n_in && i < n_in + n_out; o++) alias |= ever_in_place(kernel, i - n_in, o);
    if (!alias) add_attribute(ll, body, (unsigned)i + 1, "noalias", 0);
    if (i < n_in || i == n_buffers - 1) add_attribute(ll, body, (unsigned)i + 1, "readonly", 0);
    add_attribute(ll, body, (unsigned)i + 1, "nocapture", 0);
    if (i != n_buffers - 1) add_attribute(ll, body, (unsigned)i + 1, "align", 64);
  }
  ll->function = body;
  ll->entry = LLVMAppendBasicBlockInContext(ll->context, body, "entry");
  LLVMPositionBuilderAtEnd(ll->b, ll->entry);
  ll->workspace = LLVMGetParam(body, (unsigned)(n_in + n_out));
  ll->rng_ids = LLVMGetParam(body, (unsigned)(n_in + n_out + 1));
  ll->begin = LLVMGetParam(body, (unsigned)n_buffers);
  ll->end = LLVMGetParam(body, (unsigned)n_buffers + 1);
  ll->scratch = LLVMGetParam(body, (unsigned)n_buffers + 2);
  ll->iteration = LLVMGetParam(body, (unsigned)n_buffers + 3);
}

void muse_llvm_stage_end(MuseLlvm *ll) { LLVMBuildRetVoid(ll->b); }

LLVMValueRef muse_llvm_operand(MuseLlvm *ll, int index) {
  MUSE_ASSERT(index >= 0 && index < ll->kernel->n_operands);
  if (ll->widen && ll->widen->offset[index] >= 0)
    return muse_llvm_byte_offset(ll, ll->workspace, ll->widen->offset[index]);
  return LLVMGetParam(ll->function, (unsigned)index);
}

LLVMValueRef muse_llvm_result(MuseLlvm *ll, int index) {
  MUSE_ASSERT(index >= 0 && index < ll->kernel->n_results);
  const int buffer = ll->kernel->n_operands + index;
  if (ll->widen && ll->widen->offset[buffer] >= 0)
    return muse_llvm_byte_offset(ll, ll->workspace, ll->widen->offset[buffer]);
  return LLVMGetParam(ll->function, (unsigned)buffer);
}

// ---- types and constants ----

LLVMTypeRef muse_llvm_vector(LLVMTypeRef element, int lanes) {
  return lanes == 1 ? element : LLVMVectorType(element, (unsigned)lanes);
}

static LLVMTypeRef element_type(MuseLlvm *ll, MuseDtype dtype) {
  switch (dtype) {
    case MUSE_F32: return ll->f32;
    case MUSE_F64: return ll->f64;
    case MUSE_BF16:
    case MUSE_F16: return ll->i16;
    case MUSE_I8:
    case MUSE_U8: return ll->i8;
    case MUSE_I32:
    case MUSE_U32: return ll->i32;
    case MUSE_I64: return ll->i64;
    case MUSE_BOOL: return ll->i1;
    default: break;
  }
  MUSE_ASSERT(!"trits have no element type");
  return NULL;
}

LLVMTypeRef muse_llvm_type(MuseLlvm *ll, MuseDtype dtype, int lanes) {
  return muse_llvm_vector(element_type(ll, dtype), lanes);
}

LLVMTypeRef muse_llvm_memory_type(MuseLlvm *ll, MuseDtype dtype, int lanes) {
  return dtype == MUSE_BOOL ? muse_llvm_vector(ll->i8, lanes) : muse_llvm_type(ll, dtype, lanes);
}

static bool is_vector(LLVMTypeRef type) { return LLVMGetTypeKind(type) == LLVMVectorTypeKind; }
static LLVMTypeRef scalar_of(LLVMTypeRef type) { return is_vector(type) ? LLVMGetElementType(type) : type; }
static bool is_float(LLVMTypeRef type) {
  LLVMTypeKind kind = LLVMGetTypeKind(scalar_of(type));
  return kind == LLVMFloatTypeKind || kind == LLVMDoubleTypeKind || kind == LLVMHalfTypeKind;
}

int muse_llvm_lanes_of(LLVMValueRef value) {
  LLVMTypeRef type = LLVMTypeOf(value);
  return is_vector(type) ? (int)LLVMGetVectorSize(type) : 1;
}

LLVMValueRef muse_llvm_i64(MuseLlvm *ll, int64_t value) { return LLVMConstInt(ll->i64, (uint64_t)value, true); }
LLVMValueRef muse_llvm_i32(MuseLlvm *ll, int64_t value) { return LLVMConstInt(ll->i32, (uint64_t)value, true); }
LLVMValueRef muse_llvm_f32(MuseLlvm *ll, double value) { return LLVMConstReal(ll->f32, value); }

static LLVMValueRef const_splat(LLVMTypeRef type, LLVMValueRef scalar) {
  if (!is_vector(type)) return scalar;
  LLVMValueRef lane[256];
  unsigned n = LLVMGetVectorSize(type);
  MUSE_ASSERT(n <= 256);
  for (unsigned i = 0; i < n; i++) lane[i] = scalar;
  return LLVMConstVector(lane, n);
}

LLVMValueRef muse_llvm_const(LLVMTypeRef type, double value) {
  LLVMTypeRef element = scalar_of(type);
  return const_splat(type, is_float(element) ? LLVMConstReal(element, value)
                                             : LLVMConstInt(element, (uint64_t)(int64_t)value, true));
}

LLVMValueRef muse_llvm_const_bits(LLVMTypeRef type, uint64_t bits) {
  return const_splat(type, LLVMConstInt(scalar_of(type), bits, false));
}

LLVMValueRef muse_llvm_splat(MuseLlvm *ll, LLVMValueRef scalar, int lanes) {
  LLVMTypeRef type = LLVMTypeOf(scalar);
  if (lanes == 1 || is_vector(type)) return scalar;
  if (LLVMIsConstant(scalar)) return const_splat(muse_llvm_vector(type, lanes), scalar);
  LLVMTypeRef vector = muse_llvm_vector(type, lanes);
  LLVMValueRef one = LLVMBuildInsertElement(ll->b, LLVMGetPoison(vector), scalar, muse_llvm_i64(ll, 0), "");
  return LLVMBuildShuffleVector(ll->b, one, LLVMGetPoison(vector), LLVMConstNull(muse_llvm_vector(ll->i32, lanes)), "");
}

LLVMValueRef muse_llvm_lane(MuseLlvm *ll, LLVMValueRef vector, int lane) {
  if (!is_vector(LLVMTypeOf(vector))) return vector;
  return LLVMBuildExtractElement(ll->b, vector, muse_llvm_i64(ll, lane), "");
}

LLVMValueRef muse_llvm_iota(MuseLlvm *ll, LLVMTypeRef element, int lanes) {
  if (lanes == 1) return LLVMConstNull(element);
  LLVMValueRef lane[256];
  MUSE_ASSERT(lanes <= 256);
  for (int i = 0; i < lanes; i++) lane[i] = muse_llvm_const(element, i);
  return LLVMConstVector(lane, (unsigned)lanes);
}

LLVMValueRef muse_llvm_shuffle(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, const int *mask, int n) {
  LLVMValueRef lane[256];
  MUSE_ASSERT(n <= 256);
  for (int i = 0; i < n; i++) lane[i] = mask[i] < 0 ? LLVMGetPoison(ll->i32) : muse_llvm_i32(ll, mask[i]);
  return LLVMBuildShuffleVector(ll->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)), LLVMConstVector(lane, (unsigned)n), "");
}

// ---- control flow ----

static LLVMBasicBlockRef new_block(MuseLlvm *ll, const char *name) {
  return LLVMAppendBasicBlockInContext(ll->context, ll->function, name);
}

void muse_llvm_loop_begin(MuseLlvm *ll, MuseLlvmLoop *loop, LLVMValueRef begin, LLVMValueRef end, int64_t step) {
  MUSE_ASSERT(step > 0);
  loop->step = step;
  loop->begin = begin;
  loop->end = end;
  loop->n_carried = 0;
  loop->before = LLVMGetInsertBlock(ll->b);
  loop->body = new_block(ll, "loop");
  loop->after = new_block(ll, "after");
  // A loop that surely runs needs no guard.
  loop->guarded = !(LLVMIsAConstantInt(begin) && LLVMIsAConstantInt(end) &&
                    LLVMConstIntGetSExtValue(begin) < LLVMConstIntGetSExtValue(end));
  if (loop->guarded) {
    LLVMBuildCondBr(ll->b, LLVMBuildICmp(ll->b, LLVMIntSLT, begin, end, ""), loop->body, loop->after);
  } else {
    LLVMBuildBr(ll->b, loop->body);
  }
  LLVMPositionBuilderAtEnd(ll->b, loop->body);
  loop->index = LLVMBuildPhi(ll->b, LLVMTypeOf(begin), "i");
  LLVMAddIncoming(loop->index, &begin, &loop->before, 1);
}

LLVMValueRef muse_llvm_loop_carry(MuseLlvm *ll, MuseLlvmLoop *loop, LLVMValueRef init) {
  int k = loop->n_carried++;
  MUSE_ASSERT(k < MUSE_LLVM_MAX_CARRIED);
  loop->init[k] = init;
  loop->next[k] = NULL;
  loop->phi[k] = LLVMBuildPhi(ll->b, LLVMTypeOf(init), "");
  LLVMAddIncoming(loop->phi[k], &init, &loop->before, 1);
  return loop->phi[k];
}

void muse_llvm_loop_next(MuseLlvmLoop *loop, int carried, LLVMValueRef value) {
  MUSE_ASSERT(carried >= 0 && carried < loop->n_carried);
  loop->next[carried] = value;
}

void muse_llvm_loop_end(MuseLlvm *ll, MuseLlvmLoop *loop) {
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(ll->b);
  LLVMValueRef next = LLVMBuildNSWAdd(ll->b, loop->index,
                                      LLVMConstInt(LLVMTypeOf(loop->index), (uint64_t)loop->step, true), "");
  LLVMAddIncoming(loop->index, &next, &latch, 1);
  LLVMBuildCondBr(ll->b, LLVMBuildICmp(ll->b, LLVMIntSLT, next, loop->end, ""), loop->body, loop->after);
  LLVMPositionBuilderAtEnd(ll->b, loop->after);
  for (int k = 0; k < loop->n_carried; k++) {
    MUSE_ASSERT(loop->next[k] != NULL);
    LLVMAddIncoming(loop->phi[k], &loop->next[k], &latch, 1);
    loop->result[k] = LLVMBuildPhi(ll->b, LLVMTypeOf(loop->init[k]), "");
    if (loop->guarded) LLVMAddIncoming(loop->result[k], &loop->init[k], &loop->before, 1);
    LLVMAddIncoming(loop->result[k], &loop->next[k], &latch, 1);
  }
}

void muse_llvm_if_begin(MuseLlvm *ll, MuseLlvmIf *branch, LLVMValueRef cond) {
  LLVMBasicBlockRef then_begin = new_block(ll, "then");
  branch->else_begin = new_block(ll, "else");
  branch->after = new_block(ll, "endif");
  branch->has_else = false;
  LLVMBuildCondBr(ll->b, cond, then_begin, branch->else_begin);
  LLVMPositionBuilderAtEnd(ll->b, then_begin);
}

void muse_llvm_else(MuseLlvm *ll, MuseLlvmIf *branch) {
  branch->then_end = LLVMGetInsertBlock(ll->b);
  LLVMBuildBr(ll->b, branch->after);
  LLVMPositionBuilderAtEnd(ll->b, branch->else_begin);
  branch->has_else = true;
}

void muse_llvm_if_end(MuseLlvm *ll, MuseLlvmIf *branch) {
  if (!branch->has_else) muse_llvm_else(ll, branch);
  branch->else_end = LLVMGetInsertBlock(ll->b);
  LLVMBuildBr(ll->b, branch->after);
  LLVMPositionBuilderAtEnd(ll->b, branch->after);
}

LLVMValueRef muse_llvm_if_merge(MuseLlvm *ll, const MuseLlvmIf *branch, LLVMValueRef then_value,
                                LLVMValueRef else_value) {
  LLVMValueRef phi = LLVMBuildPhi(ll->b, LLVMTypeOf(then_value), "");
  LLVMAddIncoming(phi, (LLVMValueRef[]){then_value, else_value},
                  (LLVMBasicBlockRef[]){branch->then_end, branch->else_end}, 2);
  return phi;
}

// ---- values ----

LLVMValueRef muse_llvm_intrinsic(MuseLlvm *ll, const char *name, LLVMTypeRef *overloads, int n_overloads,
                                 LLVMValueRef *args, int n_args) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  MUSE_ASSERT(id != 0);
  LLVMValueRef fn = LLVMGetIntrinsicDeclaration(ll->module, id, overloads, (size_t)n_overloads);
  return LLVMBuildCall2(ll->b, LLVMGlobalGetValueType(fn), fn, args, (unsigned)n_args, "");
}

LLVMValueRef muse_llvm_call1(MuseLlvm *ll, const char *name, LLVMValueRef x) {
  return muse_llvm_intrinsic(ll, name, (LLVMTypeRef[]){LLVMTypeOf(x)}, 1, &x, 1);
}

LLVMValueRef muse_llvm_call2(MuseLlvm *ll, const char *name, LLVMValueRef x, LLVMValueRef y) {
  return muse_llvm_intrinsic(ll, name, (LLVMTypeRef[]){LLVMTypeOf(x)}, 1, (LLVMValueRef[]){x, y}, 2);
}

LLVMValueRef muse_llvm_fma(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
  if (!ll->has_fma) return LLVMBuildFAdd(ll->b, LLVMBuildFMul(ll->b, a, b, ""), c, "");
  return muse_llvm_intrinsic(ll, "llvm.fma", (LLVMTypeRef[]){LLVMTypeOf(a)}, 1, (LLVMValueRef[]){a, b, c}, 3);
}

static bool is_plain_constant(LLVMValueRef v) {
  if (LLVMIsAConstantDataVector(v) || LLVMIsAConstantVector(v)) v = LLVMGetAggregateElement(v, 0);
  if (!v || !LLVMIsAConstantFP(v)) return LLVMIsAConstantAggregateZero(v) != NULL;
  LLVMBool lost;
  double c = LLVMConstRealGetDouble(v, &lost);
  return c == c;
}

// maxps and minps give the second operand when either is NaN. LLVM would take a select of a compare apart when a second
// select follows, hence the intrinsics of the exact instruction where a vector fills a register.
static LLVMValueRef register_extreme(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool max) {
  LLVMTypeRef type = LLVMTypeOf(a);
  bool wide = scalar_of(type) == ll->f64;
  int bytes = muse_llvm_lanes_of(a) * (wide ? 8 : 4);
  if (!ll->is_x86 || bytes > ll->target->vector_bytes || (bytes != 32 && bytes != 64)) return NULL;
  char name[64];
  snprintf(name, sizeof name, "llvm.x86.%s.%s.%s.%d", bytes == 64 ? "avx512" : "avx", max ? "max" : "min",
           wide ? "pd" : "ps", bytes * 8);
  LLVMValueRef args[] = {a, b, muse_llvm_i32(ll, 4)}; // 4: current rounding direction
  return muse_llvm_intrinsic(ll, name, NULL, 0, args, bytes == 64 ? 3 : 2);
}

static LLVMValueRef float_extreme(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool max) {
  if (is_plain_constant(b)) {
    LLVMValueRef c = a;
    a = b;
    b = c;
  }
  LLVMRealPredicate pick_a = max ? LLVMRealOGT : LLVMRealOLT;
  // The compare gives b when either is NaN; a NaN in a, unless a is a constant, is put back.
  if (is_plain_constant(a)) return LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, pick_a, a, b, ""), a, b, "");
  LLVMValueRef chosen = register_extreme(ll, a, b, max);
  if (!chosen) chosen = LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, pick_a, a, b, ""), a, b, "");
  return LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, LLVMRealUNO, a, a, ""), a, chosen, "");
}

LLVMValueRef muse_llvm_max(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool is_unsigned) {
  if (is_float(LLVMTypeOf(a))) return float_extreme(ll, a, b, true);
  return LLVMBuildSelect(ll->b, LLVMBuildICmp(ll->b, is_unsigned ? LLVMIntUGT : LLVMIntSGT, a, b, ""), a, b, "");
}

LLVMValueRef muse_llvm_min(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool is_unsigned) {
  if (is_float(LLVMTypeOf(a))) return float_extreme(ll, a, b, false);
  return LLVMBuildSelect(ll->b, LLVMBuildICmp(ll->b, is_unsigned ? LLVMIntULT : LLVMIntSLT, a, b, ""), a, b, "");
}

LLVMValueRef muse_llvm_abs(MuseLlvm *ll, LLVMValueRef x) {
  if (is_float(LLVMTypeOf(x))) return muse_llvm_call1(ll, "llvm.fabs", x);
  LLVMValueRef negative = LLVMBuildICmp(ll->b, LLVMIntSLT, x, LLVMConstNull(LLVMTypeOf(x)), "");
  return LLVMBuildSelect(ll->b, negative, LLVMBuildNeg(ll->b, x, ""), x, "");
}

// Baseline x86-64 has no rounding instruction (LLVM would call the C library): |x| + 2^23 - 2^23 rounds half to even,
// and numbers from 2^23 on are whole (2^52 for doubles).
static LLVMValueRef roundeven_by_adding(MuseLlvm *ll, LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef big = muse_llvm_const(type, scalar_of(type) == ll->f64 ? 0x1p52 : 0x1p23);
  LLVMValueRef magnitude = muse_llvm_abs(ll, x);
  LLVMValueRef rounded = LLVMBuildFSub(ll->b, LLVMBuildFAdd(ll->b, magnitude, big, ""), big, "");
  LLVMValueRef with_sign = muse_llvm_call2(ll, "llvm.copysign", rounded, x);
  return LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOLT, magnitude, big, ""), with_sign, x, "");
}

static bool has_rounding(const MuseLlvm *ll) { return !ll->is_x86 || ll->target->level >= MUSE_CPU_AVX2; }

LLVMValueRef muse_llvm_roundeven(MuseLlvm *ll, LLVMValueRef x) {
  return has_rounding(ll) ? muse_llvm_call1(ll, "llvm.roundeven", x) : roundeven_by_adding(ll, x);
}

LLVMValueRef muse_llvm_floor(MuseLlvm *ll, LLVMValueRef x) {
  if (has_rounding(ll)) return muse_llvm_call1(ll, "llvm.floor", x);
  LLVMValueRef near = roundeven_by_adding(ll, x);
  LLVMValueRef below = LLVMBuildFSub(ll->b, near, muse_llvm_const(LLVMTypeOf(x), 1), "");
  return LLVMBuildSelect(ll->b, LLVMBuildFCmp(ll->b, LLVMRealOGT, near, x, ""), below, near, "");
}

LLVMValueRef muse_llvm_sqrt(MuseLlvm *ll, LLVMValueRef x) { return muse_llvm_call1(ll, "llvm.sqrt", x); }

LLVMValueRef muse_llvm_select(MuseLlvm *ll, LLVMValueRef cond, LLVMValueRef yes, LLVMValueRef no) {
  return LLVMBuildSelect(ll->b, cond, yes, no, "");
}

typedef enum LaneFold { FOLD_SUM, FOLD_MAX, FOLD_UMAX } LaneFold;

static LLVMValueRef fold_lanes(MuseLlvm *ll, LLVMValueRef v, LaneFold fold) {
  for (int n = muse_llvm_lanes_of(v); n > 1; n /= 2) {
    MUSE_ASSERT(n % 2 == 0);
    LLVMValueRef low, high;
    if (n == 2) {
      low = muse_llvm_lane(ll, v, 0);
      high = muse_llvm_lane(ll, v, 1);
    } else {
      int mask[256];
      for (int i = 0; i < n; i++) mask[i] = i;
      low = muse_llvm_shuffle(ll, v, NULL, mask, n / 2);
      high = muse_llvm_shuffle(ll, v, NULL, mask + n / 2, n / 2);
    }
    if (fold != FOLD_SUM) {
      v = muse_llvm_max(ll, low, high, fold == FOLD_UMAX);
    } else {
      v = is_float(LLVMTypeOf(v)) ? LLVMBuildFAdd(ll->b, low, high, "") : LLVMBuildAdd(ll->b, low, high, "");
    }
  }
  return v;
}

LLVMValueRef muse_llvm_sum_lanes(MuseLlvm *ll, LLVMValueRef v) { return fold_lanes(ll, v, FOLD_SUM); }
LLVMValueRef muse_llvm_max_lanes(MuseLlvm *ll, LLVMValueRef v, bool is_unsigned) {
  return fold_lanes(ll, v, is_unsigned ? FOLD_UMAX : FOLD_MAX);
}
