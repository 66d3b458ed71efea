// doc_begin: for each token the index of the first token of its document. A document starts at the first token of a row
// and after each eos token; the eos token itself ends its document.
#include "ops/hooks.h"

MuseStatus muse_infer_doc_begin(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType tokens = op->operands[0]->type;
  if (tokens.dtype != MUSE_I32 || tokens.rank != 2)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "doc_begin: the operand (tokens) must be i32[B,T]");
  out[0] = tokens;
  return MUSE_OK;
}

void muse_eval_doc_begin(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t B = in[0].type.dim[0], T = in[0].type.dim[1], eos = muse_op_int(op, "eos");
  for (int64_t b = 0; b < B; b++) {
    int64_t begin = 0;
    for (int64_t t = 0; t < T; t++) {
      if (t > 0 && eos >= 0 && (int64_t)in[0].data[b * T + t - 1] == eos) begin = t;
      out[0].data[b * T + t] = (double)begin;
    }
  }
}
