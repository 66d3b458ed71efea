#ifndef MUSE_COMPILER_EMIT_CUDA_KERNEL_H
#define MUSE_COMPILER_EMIT_CUDA_KERNEL_H

#include "compiler/emit_cuda_body.h"

// What the CUDA emitters share; one emitter a skeleton, listed in emit_cuda.c.
typedef struct MuseCudaEmitter {
  const MuseOp *kernel;
  const char *name;
  MuseCudaTarget target;
  int variant; // below the number that the emitter sets in launches->n_variants
  MuseStr *out;
  MuseCudaLaunches *launches;
  MuseDiag *diag;
} MuseCudaEmitter;

// Appends the head of the next launch's function up to its opening brace, with all parameters (a0.. operands, r0..
// results, workspace, ids, map0.., iteration), and notes the launch. An emitter whose launches loop sets
// launches->loop_* before the first.
void muse_cuda_begin_launch(MuseCudaEmitter *e, MuseCudaLaunch launch);

MuseStatus muse_emit_cuda_map(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_matmul(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_transpose(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_gather_rows(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_green_scan(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_green_scan_grad(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_cross_entropy(MuseCudaEmitter *e); // of all four skeletons of the head
MuseStatus muse_emit_cuda_doc_begin(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_ring_write(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_rope_table(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_scatter_add_rows(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_tt_gather(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_tt_gather_grad(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_tt_matmul(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_resolvent_scan(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_resolvent_scan_grad(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_ternary_matmul(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_int8_matmul(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_pack_trits(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_unpack_trits(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_window_attention(MuseCudaEmitter *e);
MuseStatus muse_emit_cuda_window_attention_grad(MuseCudaEmitter *e);

#endif
