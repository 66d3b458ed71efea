// Green's function and its adjoint on a GPU (formulas: ops/green_scan.c). The tokens of a row are cut into pieces that
// are walked side by side, a thread a head. What a piece does to the value carried through it is one map, Moebius
// forwards and affine backwards, which the first launch finds in f64; a second one composes the maps of the pieces in
// front, so that the third starts each piece with the right value. That one is the f32 recurrence of the CPU: rounding
// is that of the recurrence, whatever the maps would round.
#include "compiler/emit_cuda_kernel.h"

#include "compiler/skel_scan.h"
#include "ir/base/checked.h"

// The loops over the tokens of a piece, which load eight of them ahead of the first use.
#define EACH_TOKEN \
    "  for (int t0 = begin; t0 < begin + L && t0 < T; t0 += 8) {\n" \
    "    float k[8];\n" \
    "    int d[8];\n" \
    "#pragma unroll\n" \
    "    for (int i = 0; i < 8; i++) {\n" \
    "      const int t = t0 + i < T ? t0 + i : T - 1;\n" \
    "      k[i] = kappa[((long long)b * T + t) * H + h], d[i] = doc[(long long)b * T + t];\n" \
    "    }\n" \
    "#pragma unroll\n" \
    "    for (int i = 0; i < 8; i++) {\n" \
    "      if (t0 + i >= T) continue;\n"
#define EACH_TOKEN_BACKWARDS \
    "  for (int t1 = end; t1 > begin; t1 -= 8) {\n" \
    "    float x[8], y[8], lr[8], li[8];\n" \
    "    int d[8];\n" \
    "#pragma unroll\n" \
    "    for (int i = 0; i < 8; i++) {\n" \
    "      const int t = t1 - 1 - i > begin ? t1 - 1 - i : begin;\n" \
    "      const long long at = ((long long)b * T + t) * H + h;\n" \
    "      x[i] = e_re[at], y[i] = e_im[at], lr[i] = d_re[at], li[i] = d_im[at], d[i] = doc[(long long)b * T + t];\n" \
    "    }\n" \
    "#pragma unroll\n" \
    "    for (int i = 0; i < 8; i++) {\n" \
    "      const int t = t1 - 1 - i;\n" \
    "      if (t < begin) continue;\n"

static const char prelude[] =
    "#ifndef MUSE_GREEN_SCAN\n"
    "#define MUSE_GREEN_SCAN\n"
    "struct GreenComplex { double re, im; };\n"
    "FN GreenComplex c_add(GreenComplex x, GreenComplex y) { return {x.re + y.re, x.im + y.im}; }\n"
    "FN GreenComplex c_mul(GreenComplex x, GreenComplex y) {\n"
    "  return {fma(x.re, y.re, -(x.im * y.im)), fma(x.re, y.im, x.im * y.re)};\n"
    "}\n"
    "FN GreenComplex c_fma(GreenComplex x, GreenComplex y, GreenComplex z) {\n"
    "  return {fma(x.re, y.re, fma(-x.im, y.im, z.re)), fma(x.re, y.im, fma(x.im, y.re, z.im))};\n"
    "}\n"
    "FN GreenComplex c_div(GreenComplex x, GreenComplex y) {\n"
    "  const double inverse = 1.0 / fma(y.re, y.re, y.im * y.im);\n"
    "  const GreenComplex z = c_mul(x, {y.re, -y.im});\n"
    "  return {z.re * inverse, z.im * inverse};\n"
    "}\n"
    "FN GreenComplex c_shuffle_up(GreenComplex x, int by) {\n"
    "  return {__shfl_up_sync(0xffffffffu, x.re, by), __shfl_up_sync(0xffffffffu, x.im, by)};\n"
    "}\n"
    "\n"
    "// e -> (a e + b) / (c e + d), up to a common factor.\n"
    "struct GreenMobius { GreenComplex a, b, c, d; };\n"
    "FN GreenMobius green_shuffle_up(const GreenMobius &m, int by) {\n"
    "  return {c_shuffle_up(m.a, by), c_shuffle_up(m.b, by), c_shuffle_up(m.c, by), c_shuffle_up(m.d, by)};\n"
    "}\n"
    "FN double green_largest(GreenComplex x) { return fmax(fabs(x.re), fabs(x.im)); }\n"
    "FN void green_normalise(GreenMobius &m) {\n"
    "  const double s =\n"
    "      1.0 / fmax(fmax(green_largest(m.a), green_largest(m.b)), fmax(green_largest(m.c), green_largest(m.d)));\n"
    "  m.a.re *= s, m.a.im *= s, m.b.re *= s, m.b.im *= s, m.c.re *= s, m.c.im *= s, m.d.re *= s, m.d.im *= s;\n"
    "}\n"
    "FN GreenMobius green_after(const GreenMobius &m, const GreenMobius &before) {\n"
    "  GreenMobius r = {c_fma(m.a, before.a, c_mul(m.b, before.c)), c_fma(m.a, before.b, c_mul(m.b, before.d)),\n"
    "              c_fma(m.c, before.a, c_mul(m.d, before.c)), c_fma(m.c, before.b, c_mul(m.d, before.d))};\n"
    "  green_normalise(r);\n"
    "  return r;\n"
    "}\n"
    "\n"
    "// The map of each piece of L tokens, [B][pieces][H].\n"
    "template <int T, int H, int L, int PIECES>\n"
    "FN void green_maps(int number, const float *kappa, const float *eta, const int *doc, GreenMobius *maps) {\n"
    "  const int h = number % H, piece = number / H % PIECES, b = number / (H * PIECES), begin = piece * L;\n"
    "  GreenMobius m = {{1, 0}, {0, 0}, {0, 0}, {1, 0}};\n"
    "  const double shift = eta[h];\n"
    EACH_TOKEN
    "      const GreenComplex c = {k[i], shift};\n"
    "      if (d[i] == t0 + i) {\n"
    "        m = {{0, 0}, {1 + c.re, c.im}, {0, 0}, {2 + c.re, c.im}};\n"
    "      } else { // [[1, c], [1, 1 + c]] m\n"
    "        m.a = c_fma(c, m.c, m.a), m.b = c_fma(c, m.d, m.b);\n"
    "        m.c = c_add(m.a, m.c), m.d = c_add(m.b, m.d);\n"
    "      }\n"
    "    }\n"
    "    green_normalise(m);\n"
    "  }\n"
    "  maps[number] = m;\n"
    "}\n"
    "\n"
    "// A warp for each row of the batch and head: e in front of every piece.\n"
    "template <int H, int PIECES> FN void green_starts(int number, const GreenMobius *maps, float2 *starts) {\n"
    "  const int lane = threadIdx.x % 32, h = number % H, b = number / H;\n"
    "  constexpr int each = (PIECES + 31) / 32;\n"
    "  const long long at = (long long)b * PIECES * H + h;\n"
    "  GreenMobius m = {{1, 0}, {0, 0}, {0, 0}, {1, 0}};\n"
    "  for (int i = lane * each; i < (lane + 1) * each && i < PIECES; i++) m = green_after(maps[at + (long long)i * "
    "H], m);\n"
    "  for (int by = 1; by < 32; by *= 2) {\n"
    "    const GreenMobius before = green_shuffle_up(m, by);\n"
    "    if (lane >= by) m = green_after(m, before);\n"
    "  }\n"
    "  m = green_shuffle_up(m, 1);\n"
    "  GreenComplex e = {1, 0};\n"
    "  if (lane > 0) e = c_div(c_add(m.a, m.b), c_add(m.c, m.d)); // of e = 1\n"
    "  for (int i = lane * each; i < (lane + 1) * each && i < PIECES; i++) {\n"
    "    starts[at + (long long)i * H] = make_float2((float)e.re, (float)e.im);\n"
    "    m = maps[at + (long long)i * H];\n"
    "    e = c_div(c_fma(m.a, e, m.b), c_fma(m.c, e, m.d));\n"
    "  }\n"
    "}\n"
    "\n"
    "template <int T, int H, int L, int PIECES>\n"
    "FN void green_walk(int number, const float *kappa, const float *eta, const int *doc, const float2 *starts,\n"
    "                   float *out_re, float *out_im) {\n"
    "  const int h = number % H, piece = number / H % PIECES, b = number / (H * PIECES), begin = piece * L;\n"
    "  float re = 1, im = 0;\n"
    "  if (PIECES > 1) re = starts[number].x, im = starts[number].y;\n"
    "  const float shift = eta[h];\n"
    EACH_TOKEN
    "      const bool first = d[i] == t0 + i;\n"
    "      const float ur = k[i] + (first ? 1.0f : re), ui = shift + (first ? 0.0f : im);\n"
    "      const float ui2 = ui * ui, below = 1.0f + ur;\n"
    "      const float inverse = __frcp_rn(fmaf(below, below, ui2));\n"
    "      re = fmaf(ur, below, ui2) * inverse, im = ui * inverse;\n"
    "      const long long at = ((long long)b * T + t0 + i) * H + h;\n"
    "      if (out_re) out_re[at] = re;\n"
    "      if (out_im) out_im[at] = im;\n"
    "    }\n"
    "  }\n"
    "}\n"
    "\n"
    "// The adjoint: w_t = g_t^2 (lambda_t + w_{t+1}), walked backwards; in front of a piece it is a w + b of w "
    "behind it.\n"
    "struct GreenAffine { GreenComplex a, b; };\n"
    "FN GreenComplex square_of_g(float x, float y) { // x + i y = 1 + g\n"
    "  const double r = (double)x - 1.0, i = y;\n"
    "  return {fma(r, r, -(i * i)), 2 * r * i};\n"
    "}\n"
    "\n"
    "template <int T, int H, int L, int PIECES>\n"
    "FN void green_grad_maps(int number, const float *e_re, const float *e_im, const int *doc, const float *d_re,\n"
    "                        const float *d_im, GreenAffine *maps) {\n"
    "  const int h = number % H, piece = number / H % PIECES, b = number / (H * PIECES), begin = piece * L;\n"
    "  GreenAffine m = {{1, 0}, {0, 0}};\n"
    "  const int end = begin + L < T ? begin + L : T;\n"
    EACH_TOKEN_BACKWARDS
    "      const GreenComplex g2 = square_of_g(x[i], y[i]);\n"
    "      m.b.re += lr[i], m.b.im -= li[i];\n"
    "      m.b = c_mul(g2, m.b), m.a = c_mul(g2, m.a);\n"
    "      if (d[i] == t) m = {{0, 0}, {0, 0}};\n"
    "    }\n"
    "  }\n"
    "  maps[number] = m;\n"
    "}\n"
    "\n"
    "template <int H, int PIECES> FN void green_grad_starts(int number, const GreenAffine *maps, float2 *starts) {\n"
    "  const int lane = threadIdx.x % 32, h = number % H, b = number / H;\n"
    "  constexpr int each = (PIECES + 31) / 32;\n"
    "  const long long last = ((long long)b * PIECES + PIECES - 1) * H + h;\n"
    "  GreenAffine m = {{1, 0}, {0, 0}};\n"
    "  for (int i = lane * each; i < (lane + 1) * each && i < PIECES; i++) {\n"
    "    const GreenAffine x = maps[last - (long long)i * H];\n"
    "    m = {c_mul(x.a, m.a), c_fma(x.a, m.b, x.b)};\n"
    "  }\n"
    "  for (int by = 1; by < 32; by *= 2) {\n"
    "    GreenAffine before = {c_shuffle_up(m.a, by), c_shuffle_up(m.b, by)};\n"
    "    if (lane >= by) m = {c_mul(m.a, before.a), c_fma(m.a, before.b, m.b)};\n"
    "  }\n"
    "  GreenComplex w = c_shuffle_up(m.b, 1); // of w = 0\n"
    "  if (lane == 0) w = {0, 0};\n"
    "  for (int i = lane * each; i < (lane + 1) * each && i < PIECES; i++) {\n"
    "    starts[last - (long long)i * H] = make_float2((float)w.re, (float)w.im);\n"
    "    const GreenAffine x = maps[last - (long long)i * H];\n"
    "    w = c_fma(x.a, w, x.b);\n"
    "  }\n"
    "}\n"
    "\n"
    "// g^2 lambda with e = x + i y as lambda - (2e - e^2) lambda: the correction is small where g is near -1.\n"
    "template <int T, int H, int L, int PIECES>\n"
    "FN void green_grad_walk(int number, const float *e_re, const float *e_im, const int *doc, const float *d_re,\n"
    "                        const float *d_im, const float2 *starts, float *out, float *partial) {\n"
    "  const int h = number % H, piece = number / H % PIECES, b = number / (H * PIECES), begin = piece * L;\n"
    "  const int end = begin + L < T ? begin + L : T;\n"
    "  float wr = 0, wi = 0, deta = 0;\n"
    "  if (PIECES > 1) wr = starts[number].x, wi = starts[number].y;\n"
    EACH_TOKEN_BACKWARDS
    "      const float r = lr[i] + wr, c = wi - li[i];\n"
    "      const float sr = fmaf(x[i], 2.0f - x[i], y[i] * y[i]), si = (y[i] + y[i]) * (1.0f - x[i]);\n"
    "      wr = r - fmaf(sr, r, -(si * c)), wi = c - fmaf(sr, c, si * r);\n"
    "      if (out) out[((long long)b * T + t) * H + h] = wr;\n"
    "      deta -= wi;\n"
    "      if (d[i] == t) wr = wi = 0;\n"
    "    }\n"
    "  }\n"
    "  partial[number] = deta;\n"
    "}\n"
    "\n"
    "// A warp for each head adds the partial sums of its pieces: lane by lane, then across lanes.\n"
    "template <int B, int H, int PIECES> FN void green_grad_eta(int h, const float *partial, float *out) {\n"
    "  double sum = 0;\n"
    "  for (int i = threadIdx.x % 32; i < B * PIECES; i += 32) sum += partial[(long long)i * H + h];\n"
    "  sum = across_lanes<Sum, 32>(sum);\n"
    "  if (threadIdx.x % 32 == 0) out[h] = (float)sum;\n"
    "}\n"
    "#endif\n"
    "\n";

enum { BLOCK = 128 };

typedef struct Green {
  const MuseOp *op;
  long long B, T, H, length, pieces;
  int64_t starts, partial; // places in the workspace, behind the maps
} Green;

static Green green_of(MuseCudaEmitter *e, int64_t map_bytes) {
  Green g = {.op = muse_kernel_single_op(e->kernel)};
  MuseType type = g.op->operands[0]->type;
  g.B = type.dim[0], g.T = type.dim[1], g.H = type.dim[2];
  g.length = g.T <= 4096 ? 32 : 64;
  g.pieces = muse_ceil_div(g.T, g.length);
  const int64_t n = g.B * g.pieces * g.H;
  if (g.pieces > 1) g.starts = muse_round_up(n * map_bytes, 256), g.partial = g.starts + muse_round_up(n * 8, 256);
  e->launches->workspace_bytes = g.partial + muse_round_up(n * 4, 256);
  muse_str_append(e->out, prelude);
  return g;
}

// Begins a launch of `count` threads, or warps, numbered by `number`.
static void begin(MuseCudaEmitter *e, int64_t count, bool warps) {
  const int each = warps ? BLOCK / 32 : BLOCK;
  muse_cuda_begin_launch(e, (MuseCudaLaunch){.grid_x = muse_ceil_div(count, each), .grid_y = 1, .block = BLOCK});
  muse_str_appendf(e->out, "  const int number = blockIdx.x * %d + threadIdx.x%s;\n  if (number >= %lld) return;\n",
                   each, warps ? " / 32" : "", (long long)count);
}

// ", a3, a4, a5": operands of the op.
static void operands(MuseCudaEmitter *e, const Green *g) {
  for (int i = 0; i < g->op->n_operands; i++)
    muse_str_appendf(e->out, "%sa%d", i ? ", " : "", muse_kernel_operand_of(g->op, i));
}

static void result(MuseCudaEmitter *e, const Green *g, int index) {
  const int r = muse_kernel_result_of(g->op, index);
  if (r < 0) muse_str_append(e->out, ", (float *)0");
  else muse_str_appendf(e->out, ", r%d", r);
}

// The first two launches, which are there only when there is more than one piece.
static void emit_starts(MuseCudaEmitter *e, const Green *g, const char *name, const char *map) {
  if (g->pieces == 1) return;
  begin(e, g->B * g->pieces * g->H, false);
  muse_str_appendf(e->out, "  %s_maps<%lld, %lld, %lld, %lld>(number, ", name, g->T, g->H, g->length, g->pieces);
  operands(e, g);
  muse_str_appendf(e->out, ", (%s *)workspace);\n}\n\n", map);
  begin(e, g->B * g->H, true);
  muse_str_appendf(e->out,
                   "  %s_starts<%lld, %lld>(number, (const %s *)workspace, (float2 *)(workspace + %lld));\n}\n\n", name,
                   g->H, g->pieces, map, (long long)g->starts);
}

static void begin_walk(MuseCudaEmitter *e, const Green *g, const char *name) {
  begin(e, g->B * g->pieces * g->H, false);
  muse_str_appendf(e->out, "  %s_walk<%lld, %lld, %lld, %lld>(number, ", name, g->T, g->H, g->length, g->pieces);
  operands(e, g);
  muse_str_appendf(e->out, ", (const float2 *)(workspace + %lld)", (long long)g->starts);
}

MuseStatus muse_emit_cuda_green_scan(MuseCudaEmitter *e) {
  const Green g = green_of(e, 64);
  emit_starts(e, &g, "green", "GreenMobius");
  begin_walk(e, &g, "green");
  result(e, &g, 0);
  result(e, &g, 1);
  muse_str_append(e->out, ");\n}\n\n");
  return MUSE_OK;
}

MuseStatus muse_emit_cuda_green_scan_grad(MuseCudaEmitter *e) {
  const Green g = green_of(e, 32);
  emit_starts(e, &g, "green_grad", "GreenAffine");
  begin_walk(e, &g, "green_grad");
  result(e, &g, 0);
  muse_str_appendf(e->out, ", (float *)(workspace + %lld));\n}\n\n", (long long)g.partial);
  if (muse_kernel_result_of(g.op, 1) < 0) return MUSE_OK;
  begin(e, g.H, true);
  muse_str_appendf(e->out, "  green_grad_eta<%lld, %lld, %lld>(number, (const float *)(workspace + %lld)", g.B, g.H,
                   g.pieces, (long long)g.partial);
  result(e, &g, 1);
  muse_str_append(e->out, ");\n}\n\n");
  return MUSE_OK;
}
