// The resolvent scans token by token: every shape, every type, f32 arithmetic, the order of the recurrence itself. A
// warp carries a few columns of the state of one head in its registers through all tokens (formulas:
// ops/resolvent_scan.c).
//
// The gradient is made of the same walk. With R_t = g_t Lambda_t, R_t = g_t (q_t do_t^T - R_{t+1}):
//   dq_t = Re(S_t) do_t     the walk with (q, k, v) = (do, v, k)
//   dk_t = Re(R_t) v_t      backwards, with (v, do, q)
//   dv_t = Re(R_t)^T k_t    backwards, with (k, q, do)
// and the derivative by g is X_t / g_t with X_t = <Lambda_t, S_t>. With y_t = q_t^T S_t do_t, z_t = k_t^T R_t v_t and
// H_t = -<R_t, S_{t-1}>
//   X_t = z_t + H_t = y_t + H_{t+1},  H = 0 where a document begins
// so H_t is a sum of z - y over the tokens before, or of y - z from t on. The states are rounded, and what was lost in
// one token is missing in all tokens after it: such sums drift. Therefore the forward walk leaves its state every
// `chunk` tokens, the backward walk takes the product with its own, and in between (and within documents) the two sums
// are weighted by distance. (Sums over a whole document had errors up to ten times as large, and in their sum over
// the tokens, which a bias gets, up to a hundred times.)
// Results are made in the workspace and copied in the end: they may be placed over operands.
#include "compiler/emit_cuda_resolvent.h"

#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

static const char prelude[] =
    "#ifndef MUSE_RESOLVENT_WALK\n"
    "#define MUSE_RESOLVENT_WALK\n"
    "FN float scan_value(float x) { return x; }\n"
    "FN float scan_value(bf16 x) { return to_f32(x); }\n"
    "FN float scan_value(f16 x) { return to_f32(x); }\n"
    "FN void scan_put(float *p, float x) { *p = x; }\n"
    "FN void scan_put(bf16 *p, float x) { *p = to_bf16(x); }\n"
    "FN void scan_put(f16 *p, float x) { *p = to_f16(x); }\n"
    "\n"
    "// Sums of N values over the lanes of a warp, N a power of two: value n is left in the lanes whose upper bits "
    "are n.\n"
    "template <int N> FN float sum_transposed(float (&x)[N], int lane) {\n"
    "  int step = 16;\n"
    "#pragma unroll\n"
    "  for (int n = N / 2; n > 0; n /= 2, step /= 2) {\n"
    "#pragma unroll\n"
    "    for (int i = 0; i < n; i++) {\n"
    "      const bool upper = lane & step;\n"
    "      const float give = upper ? x[i] : x[i + n], keep = upper ? x[i + n] : x[i];\n"
    "      x[i] = keep + __shfl_xor_sync(0xffffffffu, give, step);\n"
    "    }\n"
    "  }\n"
    "#pragma unroll\n"
    "  for (; step > 0; step /= 2) x[0] += __shfl_xor_sync(0xffffffffu, x[0], step);\n"
    "  return x[0];\n"
    "}\n"
    "\n"
    "// What a warp needs of one token: its rows of query and key, its columns of value.\n"
    "template <int R, int J> struct ScanToken {\n"
    "  float q[R], k[R], v[J], er, ei;\n"
    "  bool first;\n"
    "};\n"
    "\n"
    "// S_t = g_t (key_t value_t^T - S_{t-1}), out_t = Re(S_t^T query_t), or with t+1 in place of t-1 (REVERSE). A "
    "warp has J\n"
    "// columns of S, its lanes the rows lane, lane + 32, ...; S stays in registers for all tokens. SUMS: of out_t, "
    "also the\n"
    "// imaginary part, times weight_t, summed over the J columns, at sums[column / J][token]; and before the tokens "
    "C, 2 C, ...\n"
    "// S goes to states[b, h][n], or (REVERSE) its product with the S there to products[column / J][b, h][n].\n"
    "template <class X, int B, int T, int H, int D, int J, int P, bool REVERSE, bool SUMS, int C>\n"
    "FN void resolvent_walk(int number, const X *query, const X *key, const X *value, const float *e_re, const float "
    "*e_im,\n"
    "                       const int *doc, X *out, const X *weight, float2 *sums, float *states, float2 *products) "
    "{\n"
    "  static_assert(C % P == 0, \"states are left between groups of tokens\");\n"
    "  constexpr int R = (D + 31) / 32, G = (D + J - 1) / J, UNROLL = R <= 32 ? R : 4;\n"
    "  constexpr int PADDED = (T + P - 1) / P * P, STATES = (T - 1) / C;\n"
    "  const int lane = threadIdx.x % 32, column = number % G * J, bh = number / G, h = bh % H, b = bh / H;\n"
    "  float re[R][J], im[R][J];\n"
    "#pragma unroll UNROLL\n"
    "  for (int r = 0; r < R; r++)\n"
    "#pragma unroll\n"
    "    for (int j = 0; j < J; j++) re[r][j] = im[r][j] = 0;\n"
    "  ScanToken<R, J> token[P] = {}; // backwards, tokens of zeros come first, so that states meet those of the other "
    "walk\n"
    "  auto fetch = [&](ScanToken<R, J> &x, int i) {\n"
    "    const int t = REVERSE ? PADDED - 1 - i : i;\n"
    "    if (t < 0 || t >= T) return;\n"
    "    const long long at = ((long long)b * T + t) * H + h;\n"
    "#pragma unroll UNROLL\n"
    "    for (int r = 0; r < R; r++) {\n"
    "      const int row = lane + 32 * r;\n"
    "      const bool there = D % 32 == 0 || row < D;\n"
    "      x.q[r] = there ? scan_value(query[at * D + row]) : 0.0f, x.k[r] = there ? scan_value(key[at * D + row]) : "
    "0.0f;\n"
    "    }\n"
    "#pragma unroll\n"
    "    for (int j = 0; j < J; j++)\n"
    "      x.v[j] = D % J == 0 || column + j < D ? scan_value(value[at * D + column + j]) : 0.0f;\n"
    "    x.er = e_re[at], x.ei = e_im[at], x.first = doc[(long long)b * T + t] == t;\n"
    "  };\n"
    "#pragma unroll\n"
    "  for (int p = 0; p < P; p++) fetch(token[p], p);\n"
    "  for (int i0 = 0; i0 < PADDED; i0 += P) {\n"
    "    if constexpr (SUMS && STATES > 0) {\n"
    "      const int t = REVERSE ? PADDED - i0 : i0;\n"
    "      if (t % C == 0 && t > 0 && t < T) {\n"
    "        const long long n = (long long)bh * STATES + t / C - 1;\n"
    "        float *state = states + n * (2 * D * D) + column * D + lane;\n"
    "        float2 sum = make_float2(0.0f, 0.0f);\n"
    "#pragma unroll UNROLL\n"
    "        for (int r = 0; r < R; r++)\n"
    "#pragma unroll\n"
    "          for (int j = 0; j < J; j++) {\n"
    "            if ((D % 32 != 0 && lane + 32 * r >= D) || (D % J != 0 && column + j >= D)) continue;\n"
    "            float *x = state + j * D + 32 * r;\n"
    "            if constexpr (REVERSE) {\n"
    "              const float a = x[0], c = x[D * D];\n"
    "              sum.x = fmaf(-c, im[r][j], fmaf(a, re[r][j], sum.x));\n"
    "              sum.y = fmaf(c, re[r][j], fmaf(a, im[r][j], sum.y));\n"
    "            } else {\n"
    "              x[0] = re[r][j], x[D * D] = im[r][j];\n"
    "            }\n"
    "          }\n"
    "        if constexpr (REVERSE) {\n"
    "#pragma unroll\n"
    "          for (int step = 16; step > 0; step /= 2) {\n"
    "            sum.x += __shfl_xor_sync(0xffffffffu, sum.x, step);\n"
    "            sum.y += __shfl_xor_sync(0xffffffffu, sum.y, step);\n"
    "          }\n"
    "          if (lane == 0) products[(long long)(number % G) * (B * H * STATES) + n] = sum;\n"
    "        }\n"
    "      }\n"
    "    }\n"
    "#pragma unroll\n"
    "    for (int p = 0; p < P; p++) {\n"
    "      const int t = REVERSE ? PADDED - 1 - i0 - p : i0 + p;\n"
    "      if (!REVERSE && t >= T) break;\n"
    "      const bool real = T % P == 0 || t < T;\n"
    "      const long long at = ((long long)b * T + t) * H + h;\n"
    "      ScanToken<R, J> &x = token[p];\n"
    "      constexpr int N = SUMS ? 2 * J : J;\n"
    "      float o[N];\n"
    "#pragma unroll\n"
    "      for (int n = 0; n < N; n++) o[n] = 0;\n"
    "      const bool clear = !REVERSE && x.first;\n"
    "#pragma unroll UNROLL\n"
    "      for (int r = 0; r < R; r++)\n"
    "#pragma unroll\n"
    "        for (int j = 0; j < J; j++) { // g y as e y - y\n"
    "          const float yr = fmaf(x.k[r], x.v[j], clear ? 0.0f : -re[r][j]), yi = clear ? 0.0f : -im[r][j];\n"
    "          re[r][j] = fmaf(-x.ei, yi, fmaf(x.er, yr, -yr)), im[r][j] = fmaf(x.ei, yr, fmaf(x.er, yi, -yi));\n"
    "          if constexpr (SUMS) {\n"
    "            o[2 * j] = fmaf(x.q[r], re[r][j], o[2 * j]), o[2 * j + 1] = fmaf(x.q[r], im[r][j], o[2 * j + 1]);\n"
    "          } else {\n"
    "            o[j] = fmaf(x.q[r], re[r][j], o[j]);\n"
    "          }\n"
    "        }\n"
    "      const float sum = sum_transposed(o, lane);\n"
    "      const int n = lane / (32 / N), j = SUMS ? n / 2 : n;\n"
    "      const bool there = real && column + j < D;\n"
    "      if (lane % (32 / N) == 0 && there && (!SUMS || n % 2 == 0)) scan_put(&out[at * D + column + j], sum);\n"
    "      if constexpr (SUMS) {\n"
    "        float y = there ? sum * scan_value(weight[at * D + column + j]) : 0.0f;\n"
    "#pragma unroll\n"
    "        for (int step = 16; step > 16 / J; step /= 2) y += __shfl_xor_sync(0xffffffffu, y, step);\n"
    "        float *to = (float *)(sums + (long long)(number % G) * B * T * H + at);\n"
    "        if (real && n < 2 && lane % (32 / N) == 0) to[n] = y;\n"
    "      }\n"
    "      if (REVERSE && x.first) {\n"
    "#pragma unroll UNROLL\n"
    "        for (int r = 0; r < R; r++)\n"
    "#pragma unroll\n"
    "          for (int c = 0; c < J; c++) re[r][c] = im[r][c] = 0;\n"
    "      }\n"
    "      fetch(x, i0 + p + P);\n"
    "    }\n"
    "  }\n"
    "}\n"
    "\n"
    "// The N sums of each token, in order.\n"
    "template <int N> FN void add_sums(long long token, long long tokens, const float2 *sums, double2 *out) {\n"
    "  double2 x = make_double2(0, 0);\n"
    "  for (int n = 0; n < N; n++) x.x += sums[token + n * tokens].x, x.y += sums[token + n * tokens].y;\n"
    "  out[token] = x;\n"
    "}\n"
    "\n"
    "// H before token (n + 1) C, from the products of N groups of columns; by a warp, in all lanes.\n"
    "template <int N> FN double2 scan_crossing(long long n, long long count, const float2 *products) {\n"
    "  double2 x = make_double2(0, 0);\n"
    "  for (int i = threadIdx.x % 32; i < N; i += 32) x.x -= products[i * count + n].x, x.y -= products[i * count + "
    "n].y;\n"
    "  for (int by = 16; by > 0; by /= 2) {\n"
    "    x.x += __shfl_xor_sync(0xffffffffu, x.x, by), x.y += __shfl_xor_sync(0xffffffffu, x.y, by);\n"
    "  }\n"
    "  return x;\n"
    "}\n"
    "\n"
    "// The derivative by g: g_t lambda_t = z_t + H_t. A warp for C tokens of a head, a lane for a stretch of them.\n"
    "template <int T, int H, int C, int N, int BH>\n"
    "FN void resolvent_green(int number, const double2 *y, const double2 *z, const float2 *products, const float "
    "*e_re,\n"
    "                        const float *e_im, const int *doc, float *out_re, float *out_im) {\n"
    "  constexpr int EACH = (C + 31) / 32, CHUNKS = (T + C - 1) / C, STATES = (T - 1) / C;\n"
    "  const int lane = threadIdx.x % 32, chunk = number % CHUNKS, bh = number / CHUNKS, h = bh % H, b = bh / H;\n"
    "  const int from = chunk * C, to = from + C < T ? from + C : T;\n"
    "  const int begin = from + lane * EACH < to ? from + lane * EACH : to, end = begin + EACH < to ? begin + EACH : "
    "to;\n"
    "  auto place = [&](int t) { return ((long long)b * T + t) * H + h; };\n"
    "  auto first = [&](int t) { return t == 0 || doc[(long long)b * T + t] == t; };\n"
    "  double2 before = make_double2(0, 0), after = before; // H at both ends of the chunk\n"
    "  const long long n = (long long)bh * STATES + chunk;\n"
    "  if (chunk > 0) before = scan_crossing<N>(n - 1, (long long)BH * STATES, products);\n"
    "  if (chunk < STATES) after = scan_crossing<N>(n, (long long)BH * STATES, products);\n"
    "  // What goes on to the left: y - z before the first document that starts here, to the right: z - y from the "
    "last on.\n"
    "  double2 left = make_double2(0, 0), right = left;\n"
    "  int starts = to, started = from;\n"
    "  bool cut = false;\n"
    "  for (int t = begin; t < end; t++) {\n"
    "    if (first(t)) {\n"
    "      if (!cut) starts = t;\n"
    "      right = make_double2(0, 0), started = t, cut = true;\n"
    "    }\n"
    "    const long long at = place(t);\n"
    "    const double re = y[at].x - z[at].x, im = y[at].y - z[at].y;\n"
    "    if (!cut) left.x += re, left.y += im;\n"
    "    right.x -= re, right.y -= im;\n"
    "  }\n"
    "  if (lane == 31 && !cut) left.x += after.x, left.y += after.y;\n"
    "  if (lane == 0 && !cut) right.x += before.x, right.y += before.y;\n"
    "  int cut_left = cut, cut_right = cut;\n"
    "  auto up = [](double x, int by) { return __shfl_up_sync(0xffffffffu, x, by); };\n"
    "  auto down = [](double x, int by) { return __shfl_down_sync(0xffffffffu, x, by); };\n"
    "  for (int by = 1; by < 32; by *= 2) {\n"
    "    const double lr = down(left.x, by), li = down(left.y, by), rr = up(right.x, by), ri = up(right.y, by);\n"
    "    const int cl = __shfl_down_sync(0xffffffffu, cut_left, by), cr = __shfl_up_sync(0xffffffffu, cut_right, by);\n"
    "    const int s = __shfl_down_sync(0xffffffffu, starts, by), d = __shfl_up_sync(0xffffffffu, started, by);\n"
    "    if (lane + by < 32) {\n"
    "      if (!cut_left) left.x += lr, left.y += li, cut_left = cl;\n"
    "      if (s < starts) starts = s;\n"
    "    }\n"
    "    if (lane >= by) {\n"
    "      if (!cut_right) right.x += rr, right.y += ri, cut_right = cr;\n"
    "      if (d > started) started = d;\n"
    "    }\n"
    "  }\n"
    "  left.x = down(left.x, 1), left.y = down(left.y, 1), right.x = up(right.x, 1), right.y = up(right.y, 1);\n"
    "  starts = __shfl_down_sync(0xffffffffu, starts, 1), started = __shfl_up_sync(0xffffffffu, started, 1);\n"
    "  if (lane == 31) left = after, starts = to;\n"
    "  if (lane == 0) right = before, started = from;\n"
    "  for (int t = begin, next; t < end; t = next) { // a document, or what of it is in the stretch\n"
    "    if (first(t)) right = make_double2(0, 0), started = t;\n"
    "    double2 drift = right; // H at the end as a sum from the left, less what it is there\n"
    "    next = t;\n"
    "    do {\n"
    "      const long long at = place(next++);\n"
    "      drift.x += z[at].x - y[at].x, drift.y += z[at].y - y[at].y;\n"
    "    } while (next < end && !first(next));\n"
    "    const bool inside = next < end;\n"
    "    if (!inside) drift.x -= left.x, drift.y -= left.y;\n"
    "    const float step = 1.0f / (float)((inside ? next : starts) - started);\n"
    "#pragma unroll 1\n"
    "    for (int i = t; i < next; i++) {\n"
    "      const long long at = place(i);\n"
    "      const float part = ((float)(i - started) + 0.5f) * step;\n"
    "      const double re = right.x + z[at].x - drift.x * part, im = right.y + z[at].y - drift.y * part;\n"
    "      const double gr = (double)e_re[at] - 1, gi = e_im[at], norm = fma(gr, gr, gi * gi);\n"
    "      double inverse = 1.0f / (float)norm; // and a step of Newton's: a division of doubles is long\n"
    "      inverse = fma(inverse, fma(-norm, inverse, 1.0), inverse);\n"
    "      if (out_re) out_re[at] = (float)(fma(re, gr, im * gi) * inverse);\n"
    "      if (out_im) out_im[at] = (float)(fma(re, gi, -(im * gr)) * inverse);\n"
    "      right.x += z[at].x - y[at].x, right.y += z[at].y - y[at].y;\n"
    "    }\n"
    "  }\n"
    "}\n"
    "#endif\n"
    "\n";

enum { BLOCK = 128 };

typedef struct Walk {
  const MuseOp *op;
  const char *type; // of q, k, v
  long long B, T, H, D, tokens, bytes;
  int columns, ahead;     // columns of the state a warp has; tokens that are read ahead
  int64_t chunk, states;  // of the gradient: tokens from a state that is kept to the next; their number
  int64_t groups, result; // warps a head; bytes of a result in the workspace
} Walk;

static Walk walk_of(MuseCudaEmitter *e) {
  Walk w = {.op = muse_kernel_single_op(e->kernel)};
  MuseType q = w.op->operands[0]->type;
  w.type = muse_cuda_type(q.dtype);
  w.B = q.dim[0], w.T = q.dim[1], w.H = q.dim[2], w.D = q.dim[3], w.tokens = w.B * w.T * w.H;
  w.bytes = w.tokens * w.D * muse_dtype_bytes(q.dtype);
  w.columns = w.D <= 2 ? 1 : w.D <= 256 ? 4 : w.D <= 512 ? 2 : 1;
  w.ahead = w.D <= 128 ? 4 : w.D <= 256 ? 2 : 1;
  w.groups = muse_ceil_div(w.D, w.columns);
  w.result = muse_round_up(w.bytes, 256);
  // So that the states, 8 D^2 bytes each, take no more than a result.
  w.chunk = muse_round_up(8 * w.D / muse_dtype_bytes(q.dtype), 32);
  w.states = (w.T - 1) / w.chunk;
  muse_str_append(e->out, prelude);
  return w;
}

static void begin(MuseCudaEmitter *e, int64_t count, bool warps) {
  const int each = warps ? BLOCK / 32 : BLOCK;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(count, each), .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out, "  const long long number = blockIdx.x * %dll + threadIdx.x%s;\n", each,
                   warps ? " / 32" : "");
  muse_str_appendf(e->out, "  if (number >= %lld) return;\n", (long long)count);
}

// One walk: which operands of the op are query, key, value and weight (-1: no sums), and where its results go.
static void emit_walk(MuseCudaEmitter *e, const Walk *w, bool reverse, int query, int key, int value, int weight,
                      int64_t out, int64_t sums, int64_t states, int64_t products) {
  begin(e, w->B * w->H * w->groups, true);
  muse_str_appendf(e->out,
                   "  resolvent_walk<%s, %lld, %lld, %lld, %lld, %d, %d, %s, %s, %lld>((int)number, a%d, a%d, a%d, "
                   "a%d, a%d, a%d, (%s *)(workspace + %lld), ",
                   w->type, w->B, w->T, w->H, w->D, w->columns, w->ahead, reverse ? "true" : "false",
                   weight >= 0 ? "true" : "false", (long long)w->chunk, muse_kernel_operand_of(w->op, query),
                   muse_kernel_operand_of(w->op, key), muse_kernel_operand_of(w->op, value),
                   muse_kernel_operand_of(w->op, 3), muse_kernel_operand_of(w->op, 4), muse_kernel_operand_of(w->op, 5),
                   w->type, (long long)out);
  if (weight < 0) muse_str_appendf(e->out, "(const %s *)0, (float2 *)0, (float *)0, (float2 *)0);\n}\n\n", w->type);
  else
    muse_str_appendf(e->out,
                     "a%d, (float2 *)(workspace + %lld), (float *)(workspace + %lld), (float2 *)(workspace + %lld));\n"
                     "}\n\n",
                     muse_kernel_operand_of(w->op, weight), (long long)sums, (long long)states, (long long)products);
}

// Copies the first n results, which stand in the workspace one behind the other.
static void emit_copies(MuseCudaEmitter *e, const Walk *w, int n) {
  begin(e, muse_ceil_div(w->bytes, 16), false);
  for (int i = 0; i < n; i++) {
    const int r = muse_kernel_result_of(w->op, i);
    if (r < 0) continue;
    const long long from = (long long)i * w->result;
    if (w->bytes % 16) {
      muse_str_appendf(e->out,
                       "  for (long long i = number * 16; i < number * 16 + 16 && i < %lld; i++)\n"
                       "    ((unsigned char *)r%d)[i] = workspace[%lld + i];\n",
                       w->bytes, r, from);
    } else {
      muse_str_appendf(e->out, "  ((uint4 *)r%d)[number] = ((const uint4 *)(workspace + %lld))[number];\n", r, from);
    }
  }
  muse_str_append(e->out, "}\n\n");
}

static const char *result_name(const Walk *w, int index, char text[24]) {
  const int r = muse_kernel_result_of(w->op, index);
  if (r < 0) snprintf(text, 24, "(float *)0");
  else snprintf(text, 24, "r%d", r);
  return text;
}

MuseStatus muse_cuda_resolvent_walk(MuseCudaEmitter *e) {
  const Walk w = walk_of(e);
  e->launches->workspace_bytes = w.result;
  emit_walk(e, &w, false, 0, 1, 2, -1, 0, 0, 0, 0);
  emit_copies(e, &w, 1);
  return MUSE_OK;
}

MuseStatus muse_cuda_resolvent_walk_grad(MuseCudaEmitter *e) {
  enum { Q, K, V, E_RE, E_IM, DOC, DO };
  const Walk w = walk_of(e);
  const int64_t pair = muse_round_up(w.tokens * 16, 256), sums = muse_round_up(w.groups * w.tokens * 8, 256);
  const int64_t y = 3 * w.result, z = y + sums, y_sum = z + sums, z_sum = y_sum + pair;
  const int64_t states = 2 * w.result; // until the third walk puts dv there
  const int64_t products = z_sum + pair;
  e->launches->workspace_bytes = products + muse_round_up(w.groups * w.B * w.H * w.states * 8, 256);
  emit_walk(e, &w, false, DO, V, K, Q, 0, y, states, products);
  emit_walk(e, &w, true, V, DO, Q, K, w.result, z, states, products);
  emit_walk(e, &w, true, K, Q, DO, -1, 2 * w.result, 0, 0, 0);
  emit_copies(e, &w, 3);
  begin(e, w.tokens, false);
  for (int i = 0; i < 2; i++)
    muse_str_appendf(
        e->out, "  add_sums<%lld>(number, %lld, (const float2 *)(workspace + %lld), (double2 *)(workspace + %lld));\n",
        (long long)w.groups, w.tokens, (long long)(i ? z : y), (long long)(i ? z_sum : y_sum));
  muse_str_append(e->out, "}\n\n");
  begin(e, w.B * w.H * muse_ceil_div(w.T, w.chunk), true);
  char re[24], im[24];
  muse_str_appendf(e->out,
                   "  resolvent_green<%lld, %lld, %lld, %lld, %lld>((int)number, (const double2 *)(workspace + %lld), "
                   "(const double2 *)(workspace + %lld), (const float2 *)(workspace + %lld), a%d, a%d, a%d, %s, %s);\n"
                   "}\n\n",
                   w.T, w.H, (long long)w.chunk, (long long)w.groups, w.B * w.H, (long long)y_sum, (long long)z_sum,
                   (long long)products, muse_kernel_operand_of(w.op, E_RE), muse_kernel_operand_of(w.op, E_IM),
                   muse_kernel_operand_of(w.op, DOC), result_name(&w, 3, re), result_name(&w, 4, im));
  return MUSE_OK;
}
