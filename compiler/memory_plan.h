#ifndef MUSE_COMPILER_MEMORY_PLAN_H
#define MUSE_COMPILER_MEMORY_PLAN_H

#include "compiler/kernel_info.h"
#include "ir/base/diag.h"

// Where every tensor of a function at kernel level lives. Arguments are bound to buffers; results bound to a buffer are
// produced there; everything else lives in one slab per function, at offsets that are multiples of 64 bytes:
//
//   kernel attributes    offset = [one a result: bytes from the start of the slab; -1: it lives in a buffer]
//                        workspace = [bytes, offset] (absent when the kernel needs none)
//   function attributes  slab   bytes of the slab: the highest end of any tensor in it
//                        live   the most bytes that are alive at one time, a lower bound of any slab
//                        peak   bytes of all buffers of the module and this slab: what running the function needs
//
// A reshape is an alias of its operand. A tensor is alive from the kernel that makes it to the last kernel that reads
// it (through aliases too), both included; an unbound result of the function is alive to the end.
#define MUSE_MEMORY_ALIGN 64

// What the plan asks about kernels; tests bring their own.
typedef struct MuseMemoryHooks {
  int64_t (*workspace_bytes)(const MuseOp *kernel);
  bool (*allows_in_place)(const MuseOp *kernel, int result, int operand);
} MuseMemoryHooks;

// Plans all functions with muse_kernel_info and muse_kernel_allows_in_place. Inserts "map" kernels that copy where a
// result bound to a buffer cannot be produced there (its buffer's old value is still read, or it is an argument or
// another result). MUSE_ERR_INPUT when an argument is bound to no buffer; sizes beyond 2^60 bytes are MUSE_ERR_NO_FIT.
MuseStatus muse_memory_plan(MuseModule *module, MuseDiag *diag);
MuseStatus muse_memory_plan_func(MuseFunc *func, const MuseMemoryHooks *hooks, MuseDiag *diag);

// Where one value lives.
typedef enum MusePlaceKind { MUSE_PLACE_NONE, MUSE_PLACE_BUFFER, MUSE_PLACE_SLAB } MusePlaceKind;
typedef struct MusePlace {
  MusePlaceKind kind;
  int buffer;     // BUFFER: index in the module
  int64_t offset; // SLAB: bytes from its start
  int64_t bytes;
} MusePlace;

// Reads the attributes back: the place of each value of the function's own region by id (the function is numbered by
// this), and of each kernel's workspace by mark (MuseOp.mark counts the kernels from 0). Checks everything, since the
// attributes may come from a file: bounds, alignment, bindings, and that tensors which are alive together do not
// overlap. Arrays in `arena`. MUSE_ERR_INPUT with a sentence for the first fault.
typedef struct MuseMemoryMap {
  MusePlace *values;
  int n_values;
  MusePlace *workspaces;
  int n_kernels;
  int64_t slab_bytes;
} MuseMemoryMap;
MuseStatus muse_memory_map(MuseFunc *func, const MuseMemoryHooks *hooks, MuseArena *arena, MuseMemoryMap *out_map,
                           MuseDiag *diag);
extern const MuseMemoryHooks muse_kernel_memory_hooks;

#endif
