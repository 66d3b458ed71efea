// The table of CUDA emitters, and what is around their text.
#include "compiler/emit_cuda.h"

#include "compiler/emit_cuda_kernel.h"
#include "ir/base/status.h"

#include <string.h>

static const struct {
  const char *skeleton;
  MuseStatus (*emit)(MuseCudaEmitter *e);
} emitters[] = {
    {"cross_entropy", muse_emit_cuda_cross_entropy},
    {"cross_entropy_grad", muse_emit_cuda_cross_entropy},
    {"doc_begin", muse_emit_cuda_doc_begin},
    {"gather_rows", muse_emit_cuda_gather_rows},
    {"green_scan", muse_emit_cuda_green_scan},
    {"green_scan_grad", muse_emit_cuda_green_scan_grad},
    {"int8_matmul", muse_emit_cuda_int8_matmul},
    {"map", muse_emit_cuda_map},
    {"matmul", muse_emit_cuda_matmul},
    {"pack_trits", muse_emit_cuda_pack_trits},
    {"resolvent_scan", muse_emit_cuda_resolvent_scan},
    {"resolvent_scan_grad", muse_emit_cuda_resolvent_scan_grad},
    {"ring_write", muse_emit_cuda_ring_write},
    {"rope_table", muse_emit_cuda_rope_table},
    {"scatter_add_rows", muse_emit_cuda_scatter_add_rows},
    {"ternary_matmul", muse_emit_cuda_ternary_matmul},
    {"transpose", muse_emit_cuda_transpose},
    {"tt_cross_entropy", muse_emit_cuda_cross_entropy},
    {"tt_cross_entropy_grad", muse_emit_cuda_cross_entropy},
    {"tt_gather", muse_emit_cuda_tt_gather},
    {"tt_gather_grad", muse_emit_cuda_tt_gather_grad},
    {"tt_matmul", muse_emit_cuda_tt_matmul},
    {"unpack_trits", muse_emit_cuda_unpack_trits},
    {"window_attention", muse_emit_cuda_window_attention},
    {"window_attention_grad", muse_emit_cuda_window_attention_grad},
};

static MuseStatus (*find(const char *skeleton))(MuseCudaEmitter *e) {
  for (size_t i = 0; i < sizeof emitters / sizeof *emitters; i++)
    if (strcmp(emitters[i].skeleton, skeleton) == 0) return emitters[i].emit;
  return NULL;
}

static int n_ids_of(const MuseOp *kernel) {
  const MuseAttr *ids = muse_attr_find(&kernel->attrs, "rng_ids");
  return ids ? ids->ints.len : 0;
}

// An operand that no result may be written over is never changed while the kernel runs.
static bool is_read_only(const MuseOp *kernel, int operand) {
  for (int r = 0; r < kernel->n_results; r++)
    if (muse_kernel_allows_in_place(kernel, r, operand)) return false;
  return true;
}

// Lets the next launch start at once? The blocks of that one would only be in the way of many, or of large ones (a step
// of a large model takes a tenth longer), while those of a decoding step, which are few and small, leave them room.
static bool starts_next(const MuseCudaLaunch *launch) {
  return !launch->waits_itself && launch->grid_x * launch->grid_y <= 128 && launch->shared_bytes <= 32 << 10;
}

void muse_cuda_begin_launch(MuseCudaEmitter *e, MuseCudaLaunch launch) {
  const MuseOp *kernel = e->kernel;
  MUSE_ASSERT(e->launches->n < MUSE_CUDA_MAX_LAUNCHES);
  MUSE_ASSERT(launch.grid_x >= 1 && launch.grid_x < (int64_t)1 << 31 && launch.grid_y >= 1 && launch.grid_y < 65536);
  MUSE_ASSERT(launch.n_maps == 0 || e->target.arch >= 90);
  muse_str_append(e->out, "extern \"C\" __global__ void ");
  if (launch.cluster > 1) {
    MUSE_ASSERT(e->target.arch >= 90 && launch.grid_x % launch.cluster == 0);
    muse_str_appendf(e->out, "__cluster_dims__(%d, 1, 1) ", launch.cluster);
  }
  muse_str_appendf(e->out, "__launch_bounds__(%d", launch.block);
  if (launch.min_blocks) muse_str_appendf(e->out, ", %d", launch.min_blocks);
  muse_str_appendf(e->out, ") %s_%d(", e->name, e->launches->n);
  for (int i = 0; i < kernel->n_operands; i++)
    muse_str_appendf(e->out, "const %s *%sa%d, ", muse_cuda_type(kernel->operands[i]->type.dtype),
                     is_read_only(kernel, i) ? "__restrict__ " : "", i);
  for (int r = 0; r < kernel->n_results; r++)
    muse_str_appendf(e->out, "%s *r%d, ", muse_cuda_type(kernel->results[r]->type.dtype), r);
  muse_str_append(e->out, "unsigned char *workspace");
  if (n_ids_of(kernel)) muse_str_appendf(e->out, ", const Ids_%s ids", e->name);
  for (int m = 0; m < launch.n_maps; m++) muse_str_appendf(e->out, ", const __grid_constant__ TensorMap map%d", m);
  if (e->launches->loop_count > 1) muse_str_append(e->out, ", const int iteration");
  muse_str_append(e->out, ") {\n");
  if (e->launches->overlaps) {
    if (starts_next(&launch)) muse_str_append(e->out, "  grid_start_next();\n");
    if (!launch.waits_itself) muse_str_append(e->out, "  grid_wait();\n");
  }
  e->launches->launch[e->launches->n++] = launch;
}

MuseStatus muse_cuda_emit(const MuseOp *kernel, const char *name, MuseCudaTarget target, int variant,
                          MuseStr *out_source, MuseCudaLaunches *out_launches, MuseDiag *diag) {
  const char *skeleton = muse_op_text(kernel, "skeleton");
  MuseStatus (*emit)(MuseCudaEmitter *) = find(skeleton);
  if (!emit)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "there is no CUDA emitter for the skeleton %s yet; run the plan on the CPU", skeleton);
  *out_launches = (MuseCudaLaunches){.n_variants = 1, .overlaps = target.arch >= 90};
  if (n_ids_of(kernel)) muse_str_appendf(out_source, "struct Ids_%s { u64 id[%d]; };\n\n", name, n_ids_of(kernel));
  MuseCudaEmitter e = {.kernel = kernel,
                       .name = name,
                       .target = target,
                       .variant = variant,
                       .out = out_source,
                       .launches = out_launches,
                       .diag = diag};
  MUSE_TRY(emit(&e));
  MUSE_ASSERT(variant < out_launches->n_variants);
  return MUSE_OK;
}
