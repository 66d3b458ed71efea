#ifndef MUSE_COMPILER_EMIT_LLVM_BUILDER_H
#define MUSE_COMPILER_EMIT_LLVM_BUILDER_H

// The layer over the LLVM-C API that all CPU emitters use: functions of kernel stages, loops, memory access with
// conversion, vector arithmetic. Mathematical functions and Philox are in emit_llvm_math.h, values of body ops in
// emit_llvm_body.h.
//
// Values are `lanes` elements wide; 1 lane means a scalar LLVM type, never <1 x T>. In registers an element of
//   f32, f64 is float, double;  bf16, f16 is i16 (its bits);  i8, u8 is i8;  i32, u32 is i32;  i64 is i64;  bool is i1.

#include "compiler/emit.h"
#include "compiler/skel_widen.h"
#include "ir/base/arena.h"

#include <llvm-c/Core.h>

typedef struct MuseLlvm {
  LLVMContextRef context;
  LLVMModuleRef module;
  LLVMBuilderRef b;
  const MuseCpuTarget *target;
  int lanes; // f32 elements of a vector register: 1, 4, 8, 16
  bool is_x86;
  bool has_fma;
  const char *name; // of the kernel: stage s is the function NAME_s
  MuseArena *arena;
  MuseDiag *diag;
  MuseStatus status; // first failure of an emitter

  LLVMTypeRef void_type, i1, i8, i16, i32, i64, f16, f32, f64, ptr;

  // The stage under construction.
  const MuseOp *kernel;
  LLVMValueRef function;
  LLVMBasicBlockRef entry;
  LLVMValueRef workspace, rng_ids;    // pointers
  LLVMValueRef begin, end, iteration; // i64
  LLVMValueRef scratch;               // pointer
  const MuseWiden *widen;             // NULL, or the f32 copies of operands and results; stages count from 1 then
} MuseLlvm;

// Records a failure (the first one counts) and returns false, for `return muse_llvm_fail(...)` in emitters.
bool muse_llvm_fail(MuseLlvm *ll, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Is the feature (LLVM name, "avx512vnni") part of the target's feature string or implied by its level?
bool muse_llvm_has(const MuseLlvm *ll, const char *feature);

// ---- stages ----
// Starts the function of stage `stage` of `kernel`: NAME_s loads the buffer pointers and calls the body, in which the
// builder then stands. Pointers are 64-byte aligned, and noalias where the kernel never works in place.
void muse_llvm_stage_begin(MuseLlvm *ll, const MuseOp *kernel, int stage);
void muse_llvm_stage_end(MuseLlvm *ll);                  // return
LLVMValueRef muse_llvm_operand(MuseLlvm *ll, int index); // pointer of operand `index` of the kernel
LLVMValueRef muse_llvm_result(MuseLlvm *ll, int index);
// Loop over the tasks [begin, end) of the call is an ordinary muse_llvm_loop_begin(ll, &loop, ll->begin, ll->end, 1).

// ---- types and constants ----
LLVMTypeRef muse_llvm_vector(LLVMTypeRef element, int lanes);                // the element itself for 1 lane
LLVMTypeRef muse_llvm_type(MuseLlvm *ll, MuseDtype dtype, int lanes);        // in registers
LLVMTypeRef muse_llvm_memory_type(MuseLlvm *ll, MuseDtype dtype, int lanes); // bool is i8
int muse_llvm_lanes_of(LLVMValueRef value);
LLVMValueRef muse_llvm_i64(MuseLlvm *ll, int64_t value);
LLVMValueRef muse_llvm_i32(MuseLlvm *ll, int64_t value);
LLVMValueRef muse_llvm_f32(MuseLlvm *ll, double value);
LLVMValueRef muse_llvm_const(LLVMTypeRef type, double value);       // float or int, scalar or vector (splat)
LLVMValueRef muse_llvm_const_bits(LLVMTypeRef type, uint64_t bits); // integer types, exact
LLVMValueRef muse_llvm_splat(MuseLlvm *ll, LLVMValueRef scalar, int lanes);
LLVMValueRef muse_llvm_lane(MuseLlvm *ll, LLVMValueRef vector, int lane);
LLVMValueRef muse_llvm_iota(MuseLlvm *ll, LLVMTypeRef element, int lanes);                            // <0, 1, 2, ...>
LLVMValueRef muse_llvm_shuffle(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, const int *mask, int n); // b may be NULL

// ---- control flow ----
// Loop in guarded do-while form: for (index = begin; index < end; index += step). Values carried from one round to the
// next are declared directly after muse_llvm_loop_begin; each needs its next value before muse_llvm_loop_end, which
// leaves the builder behind the loop, where result[k] holds the final values.
enum { MUSE_LLVM_MAX_CARRIED = 64 };
typedef struct MuseLlvmLoop {
  LLVMBasicBlockRef before, body, after;
  LLVMValueRef index, begin, end;
  int64_t step;
  bool guarded;
  int n_carried;
  LLVMValueRef init[MUSE_LLVM_MAX_CARRIED], phi[MUSE_LLVM_MAX_CARRIED], next[MUSE_LLVM_MAX_CARRIED],
      result[MUSE_LLVM_MAX_CARRIED];
} MuseLlvmLoop;
void muse_llvm_loop_begin(MuseLlvm *ll, MuseLlvmLoop *loop, LLVMValueRef begin, LLVMValueRef end, int64_t step);
LLVMValueRef muse_llvm_loop_carry(MuseLlvm *ll, MuseLlvmLoop *loop, LLVMValueRef init); // number: loop->n_carried - 1
void muse_llvm_loop_next(MuseLlvmLoop *loop, int carried, LLVMValueRef value);
void muse_llvm_loop_end(MuseLlvm *ll, MuseLlvmLoop *loop);

// if (cond) { ... } [else { ... }]; muse_llvm_if_merge after the end gives the value of the side that ran.
typedef struct MuseLlvmIf {
  LLVMBasicBlockRef then_end, else_begin, else_end, after;
  bool has_else;
} MuseLlvmIf;
void muse_llvm_if_begin(MuseLlvm *ll, MuseLlvmIf *branch, LLVMValueRef cond);
void muse_llvm_else(MuseLlvm *ll, MuseLlvmIf *branch);
void muse_llvm_if_end(MuseLlvm *ll, MuseLlvmIf *branch);
LLVMValueRef muse_llvm_if_merge(MuseLlvm *ll, const MuseLlvmIf *branch, LLVMValueRef then_value,
                                LLVMValueRef else_value);

// ---- memory ----
LLVMValueRef muse_llvm_alloca(MuseLlvm *ll, LLVMTypeRef type, int64_t count, int align); // in the entry block
LLVMValueRef muse_llvm_byte_offset(MuseLlvm *ll, LLVMValueRef ptr, int64_t bytes);       // constant offset
LLVMValueRef muse_llvm_byte_address(MuseLlvm *ll, LLVMValueRef ptr, LLVMValueRef bytes);
LLVMValueRef muse_llvm_address(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr,
                               LLVMValueRef index); // index i64, in elements
// `lanes` consecutive elements at ptr[index]. active: NULL for all lanes, or i64: only the first `active` lanes are
// touched, the other lanes of a load are zero. Alignment is that of one element.
LLVMValueRef muse_llvm_load(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                            LLVMValueRef active);
void muse_llvm_store(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, LLVMValueRef value, int lanes,
                     LLVMValueRef active);
// The same with conversion from and to f32 (of any dtype but trits).
LLVMValueRef muse_llvm_load_f32(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, int lanes,
                                LLVMValueRef active);
void muse_llvm_store_f32(MuseLlvm *ll, MuseDtype dtype, LLVMValueRef ptr, LLVMValueRef index, LLVMValueRef value,
                         int lanes, LLVMValueRef active);
LLVMValueRef muse_llvm_mask(MuseLlvm *ll, LLVMValueRef active, int lanes); // <lanes x i1>: lane < active
// Raw LLVM types, for tiles and bytes: element-aligned unless `align` > 0.
LLVMValueRef muse_llvm_load_raw(MuseLlvm *ll, LLVMTypeRef type, LLVMValueRef ptr, int align);
void muse_llvm_store_raw(MuseLlvm *ll, LLVMValueRef ptr, LLVMValueRef value, int align);
void muse_llvm_prefetch(MuseLlvm *ll, LLVMValueRef ptr); // for reading, into all caches

// ---- values ----
// Value of register form `from` as `to`: ints wrap, floats to ints truncate, f32 to bf16/f16 rounds half to even.
LLVMValueRef muse_llvm_convert(MuseLlvm *ll, LLVMValueRef value, MuseDtype from, MuseDtype to);
LLVMValueRef muse_llvm_intrinsic(MuseLlvm *ll, const char *name, LLVMTypeRef *overloads, int n_overloads,
                                 LLVMValueRef *args, int n_args);
// One-overload intrinsics on the type of the first argument ("llvm.sqrt", "llvm.fabs", "llvm.smax").
LLVMValueRef muse_llvm_call1(MuseLlvm *ll, const char *name, LLVMValueRef x);
LLVMValueRef muse_llvm_call2(MuseLlvm *ll, const char *name, LLVMValueRef x, LLVMValueRef y);
// a*b+c; rounded once where the target has fused multiply-add, else twice (never a library call).
LLVMValueRef muse_llvm_fma(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);
// Floats: NaN if one operand is NaN. Ints: signed, or unsigned where asked.
LLVMValueRef muse_llvm_max(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool is_unsigned);
LLVMValueRef muse_llvm_min(MuseLlvm *ll, LLVMValueRef a, LLVMValueRef b, bool is_unsigned);
LLVMValueRef muse_llvm_abs(MuseLlvm *ll, LLVMValueRef x); // float or int
LLVMValueRef muse_llvm_roundeven(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_floor(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_sqrt(MuseLlvm *ll, LLVMValueRef x);
LLVMValueRef muse_llvm_select(MuseLlvm *ll, LLVMValueRef cond, LLVMValueRef yes, LLVMValueRef no);
// All lanes combined by halving: (0 + n/2), ..., a fixed order. Floats and ints.
LLVMValueRef muse_llvm_sum_lanes(MuseLlvm *ll, LLVMValueRef v);
LLVMValueRef muse_llvm_max_lanes(MuseLlvm *ll, LLVMValueRef v, bool is_unsigned);

#endif
