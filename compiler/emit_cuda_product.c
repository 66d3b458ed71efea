// Analysis of product kernels and their epilogues (see the header).
#include "compiler/emit_cuda_product.h"

#include "compiler/skel_scan.h"
#include "ir/base/status.h"

#include <stdio.h>

// Values that lead from the anchor to its results; others are another anchor's.
static void keep(MuseCudaProduct *p, const MuseValue *value) {
  MuseCudaValue *v = muse_cuda_value(&p->body, value);
  if (!v->ignored) return;
  v->ignored = false;
  if (!value->def || value->def == p->anchor) return;
  for (int i = 0; i < value->def->n_operands; i++)
    if (!muse_cuda_is_table(value->def, i)) keep(p, value->def->operands[i]);
}

static void fill(MuseCudaProduct *p, const MuseProductKernel *pk, int index, MuseCudaEmitter *e) {
  const MuseOp *op = pk->anchor[index].anchor, *yield = e->kernel->body->last;
  MuseType a = op->operands[0]->type, b = op->operands[1]->type;
  *p = (MuseCudaProduct){.anchor = op, .M = pk->anchor[index].M, .N = pk->anchor[index].N, .K = pk->anchor[index].K};
  p->a = muse_kernel_operand_of(op, 0);
  p->b = muse_kernel_operand_of(op, 1);
  p->a_dtype = a.dtype;
  p->b_dtype = b.dtype;
  p->sum = op->results[0]->type.dtype;
  p->a_k_first = op->kind == MUSE_OP_int8_matmul || (op->kind == MUSE_OP_matmul && muse_op_bool(op, "trans_a"));
  p->b_k_first = op->kind == MUSE_OP_int8_matmul || (op->kind == MUSE_OP_matmul && !muse_op_bool(op, "trans_b"));
  p->a_pitch = a.dim[1];
  p->b_pitch = muse_dtype_is_trit(b.dtype) ? muse_trit_row_bytes(b.dtype, b.dim[1]) : b.dim[1];
  muse_cuda_body_create(&p->body, e->kernel, op->results[0]->type, 0, e->out, e->diag);
  for (int i = 0; i < p->body.n; i++) p->body.value[i].ignored = true;
  for (int i = 0; i < yield->n_operands; i++) {
    if (muse_product_anchor_of(pk, yield->operands[i]) != index) continue;
    MUSE_ASSERT(p->n_results < MUSE_CUDA_MAX_PRODUCT_RESULTS);
    p->result[p->n_results++] = i;
    keep(p, yield->operands[i]);
  }
}

void muse_cuda_products_create(MuseCudaProducts *out, MuseCudaEmitter *e) {
  MuseProductKernel pk;
  muse_product_kernel(e->kernel, &pk);
  out->e = e;
  out->n = pk.n_anchors;
  for (int i = 0; i < pk.n_anchors; i++) fill(&out->product[i], &pk, i, e);
}

MuseStatus muse_cuda_products_destroy(MuseCudaProducts *products) {
  MuseStatus status = MUSE_OK;
  for (int i = 0; i < products->n; i++) {
    if (status == MUSE_OK) status = products->product[i].body.status;
    muse_cuda_body_destroy(&products->product[i].body);
  }
  return status;
}

int muse_cuda_epilogue_vector(const MuseCudaProduct *p, int most) {
  int v = 1;
  while (2 * v <= most && p->N % (2 * v) == 0) v *= 2;
  return v;
}

int muse_cuda_epilogue_best_vector(const MuseCudaProduct *p) {
  int64_t narrow = 4;
  for (int i = 0; i < p->n_results; i++) {
    int64_t bytes = muse_dtype_bytes(p->body.kernel->results[p->result[i]]->type.dtype);
    if (bytes < narrow) narrow = bytes;
  }
  return muse_cuda_epilogue_vector(p, narrow < 4 ? 8 : 4);
}

void muse_cuda_epilogue_begin(MuseCudaProduct *p) {
  muse_cuda_body_reset(&p->body, MUSE_CUDA_EVERYWHERE);
  muse_cuda_body_begin(&p->body);
}

void muse_cuda_epilogue_at_row(MuseCudaProduct *p) {
  muse_cuda_body_reset(&p->body, MUSE_CUDA_ROW);
  muse_cuda_body_at_row(&p->body);
}

void muse_cuda_epilogue_values(MuseCudaProduct *p, int V, const char *sums) {
  MuseCudaBody *b = &p->body;
  const MuseOp *yield = b->kernel->body->last;
  const MuseValue *c = p->anchor->results[0];
  const bool places = muse_cuda_value(b, c)->level == MUSE_CUDA_PLACE; // else one column: everything is a row's
  MUSE_ASSERT(p->N % V == 0);
  char text[64];
  snprintf(text, sizeof text, "%s[%s]", sums, places ? "l" : "0");
  b->vector = V;
  muse_cuda_body_bind(b, c, text);
  muse_cuda_step_forget(b);
  for (int i = 0; i < p->n_results; i++) muse_cuda_step_need(b, yield->operands[p->result[i]]);
  muse_cuda_step_load(b);
  for (int i = 0; i < p->n_results; i++)
    muse_cuda_line(b, "%s y%d[%d];", muse_cuda_type(yield->operands[p->result[i]]->type.dtype), p->result[i], V);
  if (places) {
    muse_cuda_line(b, "#pragma unroll");
    muse_cuda_line(b, "for (int l = 0; l < %d; l++) {", V);
    b->depth++;
    muse_cuda_step_compute(b);
  }
  for (int i = 0; i < p->n_results; i++)
    muse_cuda_line(b, "y%d[%s] = %s;", p->result[i], places ? "l" : "0",
                   muse_cuda_ref(b, yield->operands[p->result[i]]));
  if (places) {
    b->depth--;
    muse_cuda_line(b, "}");
  }
}

void muse_cuda_epilogue_store(MuseCudaProduct *p) {
  MuseCudaBody *b = &p->body;
  // All values first: a store may overwrite, in place, an operand that another result reads.
  for (int i = 0; i < p->n_results; i++)
    muse_cuda_line(b, "store(r%d + ((long long)row * %lld + column), y%d);", p->result[i], (long long)p->N,
                   p->result[i]);
}

void muse_cuda_epilogue_columns(MuseCudaProduct *p, int V, const char *sums) {
  muse_cuda_epilogue_values(p, V, sums);
  muse_cuda_epilogue_store(p);
}
