#ifndef MUSE_IR_TEXT_H
#define MUSE_IR_TEXT_H

#include "ir/op.h"

#define MUSE_MAX_IR_TEXT ((size_t)1 << 28) // bytes of one text
// The text form of IR. print(parse(t)) == t for every t that print made.
//
//   module {level = "tensor"} source "muse-tiny.yaml"
//   buffer @embed.weight : f32[256,128] role "param" {init = "normal", std = 0.02}
//   func @loss(%0 : f32[256,128] {buffer = "embed.weight"}, %1 : i32[8,256]) -> ({name = "loss"}, {buffer = "x"}) {
//     %2 = gather_rows %0, %1 : f32[8,256,128] loc(3:1 d_model) layer(0) forward
//     %3, %4 = quantize_rows %2 {eps = 1e-05} : i8[8,256,128], f32[8,256,1]
//     %5 = kernel %3, %4 {skeleton = "map"} : f32[8,256,128] {
//     ^(%6 : i8[8,256,128], %7 : f32[8,256,1]):
//       ...
//       yield %9
//     }
//     return %5
//   }
// Names of buffers and functions may hold letters, digits, '_', '.', '-'; anything else is written @"quoted".
void muse_module_print(MuseModule *module, MuseStr *out);
void muse_func_print(MuseFunc *func, MuseStr *out);
// One op on one line, without its body and with the numbers its values have; for messages.
void muse_op_print(const MuseOp *op, MuseStr *out);
// The canonical text of one kernel op alone, its values numbered from 0, without loc, layer, stage, and without
// attributes that do not change the code (offset, rng_ids, name): equal text means equal code.
void muse_kernel_print_canonical(MuseModule *module, const MuseOp *kernel, MuseStr *out);

// White space and // comments are free, but an op's name, operands and the rest of it stand on one line; numbers of
// values need not be dense. An integer stands for a real where ops.def wants a real. The module line may be left out.
// Bounded in depth and size; every error names file:line:col. `name` is used in messages.
MuseStatus muse_module_parse(const char *name, const char *text, size_t length, MuseModule **out_module,
                             MuseDiag *diag);

#endif
