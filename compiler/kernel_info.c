// The table of skeletons: how kernels are cut into stages and tasks.

#include "compiler/kernel_info.h"

#include "compiler/skel_cross_entropy.h"
#include "compiler/skel_embed.h"
#include "compiler/skel_map.h"
#include "compiler/skel_matmul.h"
#include "compiler/skel_misc.h"
#include "compiler/skel_scan.h"
#include "compiler/skel_tensor_train.h"
#include "compiler/skel_transpose.h"
#include "compiler/skel_trits.h"
#include "compiler/skel_widen.h"
#include "compiler/skel_window_attention.h"

#include <string.h>

// Rows by name, as the `skeleton` attribute of a kernel says it.
static const MuseSkeleton skeletons[] = {
  {"cross_entropy", muse_head_info, NULL, true},
  {"cross_entropy_grad", muse_head_info, NULL, true},
  {"doc_begin", muse_doc_begin_info, muse_doc_begin_allows_in_place, false},
  {"gather_rows", muse_gather_info, NULL, false},
  {"green_scan", muse_green_scan_info, muse_scan_allows_in_place, false},
  {"green_scan_grad", muse_green_scan_grad_info, muse_scan_allows_in_place, false},
  {"int8_matmul", muse_product_info, muse_product_allows_in_place, false},
  {"map", muse_skel_map_info, muse_skel_map_in_place, false},
  {"matmul", muse_product_info, muse_product_allows_in_place, false},
  {"pack_trits", muse_trits_info, NULL, false},
  {"resolvent_scan", muse_resolvent_scan_info, muse_scan_allows_in_place, true},
  {"resolvent_scan_grad", muse_resolvent_scan_info, muse_scan_allows_in_place, true},
  {"ring_write", muse_ring_write_info, muse_ring_write_allows_in_place, false},
  {"rope_table", muse_rope_table_info, NULL, false},
  {"scatter_add_rows", muse_gather_info, NULL, true},
  {"ternary_matmul", muse_product_info, muse_product_allows_in_place, false},
  {"transpose", muse_skel_transpose_info, NULL, false},
  {"tt_cross_entropy", muse_head_info, NULL, true},
  {"tt_cross_entropy_grad", muse_head_info, NULL, true},
  {"tt_gather", muse_train_info, NULL, true},
  {"tt_gather_grad", muse_train_info, NULL, true},
  {"tt_matmul", muse_train_info, NULL, true},
  {"unpack_trits", muse_trits_info, NULL, false},
  {"window_attention", muse_window_attention_info, muse_window_attention_allows_in_place, true},
  {"window_attention_grad", muse_window_attention_grad_info, muse_window_attention_grad_allows_in_place, true},
  {NULL, NULL, NULL, false}, // end
};

const MuseSkeleton *muse_skeleton(const char *name) {
  for (const MuseSkeleton *s = skeletons; s->name; s++)
    if (!strcmp(s->name, name)) return s;
  return NULL;
}

void muse_kernel_info(const MuseOp *kernel, MuseKernelInfo *out_info) {
  const MuseSkeleton *skeleton = muse_skeleton(muse_op_text(kernel, "skeleton"));
  MUSE_ASSERT(skeleton != NULL);
  *out_info = (MuseKernelInfo){0};
  skeleton->info(kernel, out_info);
  if (skeleton->f32_only) muse_widen_info(kernel, out_info);
  MUSE_ASSERT(out_info->n_stages >= 1 && out_info->n_stages <= MUSE_MAX_KERNEL_STAGES);
}

bool muse_kernel_allows_in_place(const MuseOp *kernel, int result, int operand) {
  if (!muse_type_eq(kernel->results[result]->type, kernel->operands[operand]->type)) return false;
  const MuseSkeleton *skeleton = muse_skeleton(muse_op_text(kernel, "skeleton"));
  return skeleton && skeleton->allows_in_place && skeleton->allows_in_place(kernel, result, operand);
}
