// resolvent_scan: the causal output of the resolvent, as a linear recurrence of a complex d x d state per head.
//
//   S_t = g_t (k_t v_t^T - S_{t-1}),  S_{t-1} = 0 where a document begins        o_t = Re(q_t^T S_t)
//
// q, k, v are real; g comes as 1 + Re g and Im g (green_scan.c says why). q, k, v, o and their gradients are stored in
// one type, f32, bf16 or f16; g and its gradient are f32.
// The derivative by 1 + Re g is that by Re g. With dL = Re(<Lambda_t, dS_t>) (see green_scan.c for the
// convention) the adjoint recurrence is
//   Lambda_t = q_t do_t^T - g_{t+1} Lambda_{t+1} (0 across a document start)
//   dq_t = Re(S_t) do_t,  dk_t = Re(g_t Lambda_t) v_t,  dv_t = Re(g_t Lambda_t)^T k_t
//   dRe g_t - i dIm g_t = <Lambda_t, k_t v_t^T - S_{t-1}>
#include "ops/hooks.h"

#include <complex.h>
#include <string.h>

// Operands q, k, v, 1 + Re g, Im g, doc, which both ops share.
static MuseStatus check_operands(const MuseOp *op, const char *name, MuseDiag *diag) {
  MuseType q = op->operands[0]->type;
  if (!muse_dtype_is_storage_float(q.dtype) || q.rank != 4)
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                         "%s: the first operand (q) must be [B,T,H,d] of f32, bf16 or f16", name);
  for (int i = 1; i < 3; i++)
    if (!muse_type_eq(op->operands[i]->type, q))
      return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: operand %d (%s) must have the type of q", name, i + 1,
                           i == 1 ? "k" : "v");
  for (int i = 3; i < 5; i++)
    if (!muse_type_eq(op->operands[i]->type, muse_type3(MUSE_F32, q.dim[0], q.dim[1], q.dim[2])))
      return muse_error_at(diag, MUSE_ERR_INPUT, op->loc,
                           "%s: operand %d (%s g) must be f32[B,T,H] with the sizes of q", name, i + 1,
                           i == 3 ? "1 + Re" : "Im");
  if (!muse_type_eq(op->operands[5]->type, muse_type2(MUSE_I32, q.dim[0], q.dim[1])))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "%s: operand 6 (doc) must be i32[B,T] with the B and T of q",
                         name);
  return MUSE_OK;
}

MuseStatus muse_infer_resolvent_scan(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(check_operands(op, "resolvent_scan", diag));
  out[0] = op->operands[0]->type;
  return MUSE_OK;
}

MuseStatus muse_infer_resolvent_scan_grad(const MuseOp *op, MuseType *out, MuseDiag *diag) {
  MUSE_TRY(check_operands(op, "resolvent_scan_grad", diag));
  MuseType q = op->operands[0]->type;
  if (!muse_type_eq(op->operands[6]->type, q))
    return muse_error_at(diag, MUSE_ERR_INPUT, op->loc, "resolvent_scan_grad: operand 7 (do) must have the type of q");
  out[0] = out[1] = out[2] = q;
  out[3] = out[4] = op->operands[3]->type;
  return MUSE_OK;
}

// S = g (k v^T - S); the state before a document start is zero.
static void step_state(int64_t d, double complex g, const double *k, const double *v, bool first, double complex *s) {
  for (int64_t i = 0; i < d; i++)
    for (int64_t j = 0; j < d; j++) s[i * d + j] = g * (k[i] * v[j] - (first ? 0 : s[i * d + j]));
}

void muse_eval_resolvent_scan(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t B = in[0].type.dim[0], T = in[0].type.dim[1], H = in[0].type.dim[2], d = in[0].type.dim[3];
  double complex *s = MUSE_NEW_ARRAY(eval->arena, double complex, d * d);
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < H; h++)
      for (int64_t t = 0; t < T; t++) {
        const int64_t i = (b * T + t) * H + h;
        const double *q = in[0].data + i * d;
        step_state(d, in[3].data[i] - 1 + I * in[4].data[i], in[1].data + i * d, in[2].data + i * d,
                   (int64_t)in[5].data[b * T + t] == t, s);
        for (int64_t j = 0; j < d; j++) {
          double o = 0;
          for (int64_t c = 0; c < d; c++) o += q[c] * creal(s[c * d + j]);
          out[0].data[i * d + j] = o;
        }
      }
}

void muse_grad_resolvent_scan(MuseGrad *g) {
  MuseValue *operands[7];
  for (int i = 0; i < 6; i++) operands[i] = g->op->operands[i];
  operands[6] = g->d_results[0];
  MuseOp *grad = muse_build_op(g->b, MUSE_OP_resolvent_scan_grad, 7, operands, NULL);
  for (int i = 0; i < 5; i++) g->d_operands[i] = grad->results[i];
  g->d_operands[5] = NULL;
}

// One head of one row: `at` is the index of token 0 in [B,T,H], tokens are H apart.
static void eval_grad_head(MuseArena *arena, int64_t T, int64_t H, int64_t d, int64_t at, const double *doc,
                           const MuseTensor *in, MuseTensor *out) {
  // S_{t-1} at slot t, so that slot 0 is the zero state.
  double complex *states = MUSE_NEW_ARRAY(arena, double complex, (T + 1) * d * d);
  double complex *lambda = MUSE_NEW_ARRAY(arena, double complex, d * d);
  for (int64_t t = 0; t < T; t++) {
    const int64_t i = at + t * H;
    double complex *s = states + (t + 1) * d * d;
    memcpy(s, s - d * d, (size_t)(d * d) * sizeof *s);
    step_state(d, in[3].data[i] - 1 + I * in[4].data[i], in[1].data + i * d, in[2].data + i * d,
               (int64_t)doc[t] == t, s);
  }
  for (int64_t t = T - 1; t >= 0; t--) {
    const int64_t i = at + t * H;
    const double *q = in[0].data + i * d, *k = in[1].data + i * d, *v = in[2].data + i * d, *dout = in[6].data + i * d;
    const double complex g = in[3].data[i] - 1 + I * in[4].data[i];
    const double complex *before = states + t * d * d, *s = before + d * d;
    const bool first = (int64_t)doc[t] == t;
    double complex dg = 0;
    for (int64_t r = 0; r < d; r++)
      for (int64_t c = 0; c < d; c++) {
        lambda[r * d + c] += q[r] * dout[c];
        const double complex l = lambda[r * d + c];
        out[0].data[i * d + r] += creal(s[r * d + c]) * dout[c];
        out[1].data[i * d + r] += creal(g * l) * v[c];
        out[2].data[i * d + c] += creal(g * l) * k[r];
        dg += l * (k[r] * v[c] - (first ? 0 : before[r * d + c]));
        lambda[r * d + c] = first ? 0 : -g * l;
      }
    out[3].data[i] = creal(dg);
    out[4].data[i] = -cimag(dg);
  }
}

void muse_eval_resolvent_scan_grad(const MuseEval *eval, const MuseOp *op, const MuseTensor *in, MuseTensor *out) {
  const int64_t B = in[0].type.dim[0], T = in[0].type.dim[1], H = in[0].type.dim[2], d = in[0].type.dim[3];
  for (int i = 0; i < 3; i++) memset(out[i].data, 0, (size_t)(B * T * H * d) * sizeof(double));
  MuseArena *scratch = muse_arena_create();
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < H; h++) {
      eval_grad_head(scratch, T, H, d, b * T * H + h, in[5].data + b * T, in, out);
      muse_arena_reset(scratch);
    }
  muse_arena_destroy(scratch);
}
