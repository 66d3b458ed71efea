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
#include "compiler/skel_window_attention.h"

#include <string.h>

// Rows by name, as the `skeleton` attribute of a kernel says it.
static const MuseSkeleton skeletons[] = {
  {"cross_entropy", muse_head_info, NULL},
  {"cross_entropy_grad", muse_head_info, NULL},
  {"doc_begin", muse_doc_begin_info, muse_doc_begin_allows_in_place},
  {"gather_rows", muse_gather_info, NULL},
  {"green_scan", muse_green_scan_info, muse_scan_allows_in_place},
  {"green_scan_grad", muse_green_scan_grad_info, muse_scan_allows_in_place},
  {"int8_matmul", muse_product_info, muse_product_allows_in_place},
  {"map", muse_skel_map_info, muse_skel_map_in_place},
  {"matmul", muse_product_info, muse_product_allows_in_place},
  {"pack_trits", muse_trits_info, NULL},
  {"resolvent_scan", muse_resolvent_scan_info, muse_scan_allows_in_place},
  {"resolvent_scan_grad", muse_resolvent_scan_info, muse_scan_allows_in_place},
  {"ring_write", muse_ring_write_info, muse_ring_write_allows_in_place},
  {"rope_table", muse_rope_table_info, NULL},
  {"scatter_add_rows", muse_gather_info, NULL},
  {"ternary_matmul", muse_product_info, muse_product_allows_in_place},
  {"transpose", muse_skel_transpose_info, NULL},
  {"tt_cross_entropy", muse_head_info, NULL},
  {"tt_cross_entropy_grad", muse_head_info, NULL},
  {"tt_gather", muse_train_info, NULL},
  {"tt_gather_grad", muse_train_info, NULL},
  {"tt_matmul", muse_train_info, NULL},
  {"unpack_trits", muse_trits_info, NULL},
  {"window_attention", muse_window_attention_info, muse_window_attention_allows_in_place},
  {"window_attention_grad", muse_window_attention_grad_info, muse_window_attention_grad_allows_in_place},
  {NULL, NULL, NULL}, // end
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
  MUSE_ASSERT(out_info->n_stages >= 1 && out_info->n_stages <= MUSE_MAX_KERNEL_STAGES);
}

bool muse_kernel_allows_in_place(const MuseOp *kernel, int result, int operand) {
  if (!muse_type_eq(kernel->results[result]->type, kernel->operands[operand]->type)) return false;
  const MuseSkeleton *skeleton = muse_skeleton(muse_op_text(kernel, "skeleton"));
  return skeleton && skeleton->allows_in_place && skeleton->allows_in_place(kernel, result, operand);
}
