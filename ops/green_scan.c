// green_scan: the left Green's function of H = tridiag(1, -(2+kappa), 1) at z = i eta, as a scan over the tokens of a
// row.
//
//   m_t = -(2 + kappa_t) - i eta        g_t = 1 / (m_t - g_{t-1}),  g_{t-1} = 0 where a document begins
//
// Results are e = 1 + g as 1 + Re g and Im g: near the band edge (kappa and eta small) g is near -1, and what the scans
// multiply over many tokens is -g = 1 - e. Rounded as g, e would keep few of its digits, and the errors of all tokens
// would be nearly the same and so add up. The recurrence is
//   e_t = u / (1 + u),  u = kappa_t + i eta + e_{t-1},  e_{t-1} = 1 where a document begins
//
// Complex values travel as two real tensors; the cotangents are the real ones, dRe = dL/dRe g and dIm = dL/dIm g (e has
// the same). With
// lambda = dRe - i dIm the differential is dL = Re(lambda dg), so that holomorphic rules apply:
//   dg_t = g_t^2 (dg_{t-1} - dm_t),  dm_t = -dkappa_t - i deta
//   w_t = g_t^2 lambda_t,  lambda_{t-1} += w_t (not across a document start),  dkappa_t = Re w_t,  deta = -sum_t Im w_t
#include "ops/hooks.h"

#include <complex.h>

static bool is_doc_of(MuseType doc, MuseType x) {
  return doc.dtype == MUSE_I32 && doc.rank == 2 && doc.dim[0] == x.dim[0] && doc.dim[1] == x.dim[1];
}

MuseStatus muse_infer_green_scan(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType kappa = op->operands[0]->type, eta = op->operands[1]->type, doc = op->operands[2]->type;
  if (kappa.dtype != MUSE_F32 || kappa.rank != 3)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "green_scan: the first operand (kappa) must be f32[B,T,H]");
  if (eta.dtype != MUSE_F32 || eta.rank != 1 || eta.dim[0] != kappa.dim[2])
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "green_scan: the second operand (eta) must be f32[H] with the H of kappa");
  if (!is_doc_of(doc, kappa))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "green_scan: the third operand (doc) must be i32[B,T] with the B and T of kappa");
  out[0] = out[1] = kappa;
  return MUSE_OK;
}

void muse_eval_green_scan(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t B = in[0].type.dim[0], T = in[0].type.dim[1], H = in[0].type.dim[2];
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < H; h++) {
      double complex e = 1;
      for (int64_t t = 0; t < T; t++) {
        const int64_t i = (b * T + t) * H + h;
        const bool first = (int64_t)in[2].data[b * T + t] == t;
        const double complex u = in[0].data[i] + I * in[1].data[h] + (first ? 1 : e);
        e = u / (1 + u);
        out[0].data[i] = creal(e);
        out[1].data[i] = cimag(e);
      }
    }
}

void muse_grad_green_scan(MuseGrad *g) {
  MuseOp *op = g->op;
  MuseValue *d[2];
  for (int i = 0; i < 2; i++)
    d[i] =
        g->d_results[i] ? g->d_results[i] : muse_build_broadcast(g->b, muse_build_const(g->b, 0), op->results[i]->type);
  MuseValue *operands[5] = {op->results[0], op->results[1], op->operands[2], d[0], d[1]};
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_green_scan_grad, 5, operands, NULL);
  g->d_operands[0] = grad->results[0];
  g->d_operands[1] = grad->results[1];
  g->d_operands[2] = NULL;
}

MuseStatus muse_infer_green_scan_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MuseType g = op->operands[0]->type;
  if (g.dtype != MUSE_F32 || g.rank != 3)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "green_scan_grad: the first operand (1 + Re g) must be f32[B,T,H]");
  static const char *const names[5] = {"1 + Re g", "Im g", "doc", "dRe", "dIm"};
  for (int i = 0; i < 5; i++)
    if (i != 2 && !muse_type_eq(op->operands[i]->type, g))
      return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                           "green_scan_grad: operand %d (%s) must have the type of operand 1", i + 1, names[i]);
  if (!is_doc_of(op->operands[2]->type, g))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "green_scan_grad: the third operand (doc) must be i32[B,T] with the B and T of operand 1");
  out[0] = g;
  out[1] = muse_type1(MUSE_F32, g.dim[2]);
  return MUSE_OK;
}

void muse_eval_green_scan_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t B = in[0].type.dim[0], T = in[0].type.dim[1], H = in[0].type.dim[2];
  for (int64_t h = 0; h < H; h++) {
    double deta = 0;
    for (int64_t b = 0; b < B; b++) {
      double complex from_next = 0; // g_{t+1}^2 lambda_{t+1}
      for (int64_t t = T - 1; t >= 0; t--) {
        const int64_t i = (b * T + t) * H + h;
        const double complex g = in[0].data[i] - 1 + I * in[1].data[i];
        const double complex w = g * g * (in[3].data[i] - I * in[4].data[i] + from_next);
        out[0].data[i] = creal(w);
        deta -= cimag(w);
        from_next = (int64_t)in[2].data[b * T + t] == t ? 0 : w;
      }
    }
    out[1].data[h] = deta;
  }
}
