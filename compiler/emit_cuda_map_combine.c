// The second launch of map kernels with terminal reductions: partials are added in a fixed order (emit_cuda_map.h).

#include "compiler/emit_cuda_map.h"
#include "ir/base/checked.h"

typedef MuseCudaReduction Reduction;
typedef MuseCudaMap Map;

#define LINE(...) muse_cuda_line(&m->body, __VA_ARGS__)

const MuseOp *muse_cuda_map_yield(const Map *m) { return m->kernel->body->last; }

const char *muse_cuda_map_operation(const MuseOp *op) { return op->kind == MUSE_OP_reduce_max ? "Max" : "Sum"; }
MuseDtype muse_cuda_map_dtype(const Reduction *r) { return r->op->results[0]->type.dtype; }

const char *muse_cuda_map_neutral(const MuseOp *op) {
  if (op->kind != MUSE_OP_reduce_max) return "0";
  switch (op->results[0]->type.dtype) {
    case MUSE_F32: return "__uint_as_float(0xff800000u)";
    case MUSE_F64: return "__longlong_as_double(0xfff0000000000000ll)";
    case MUSE_I64: return "(long long)0x8000000000000000ull";
    default: return "(int)0x80000000u";
  }
}

static const Reduction *reduction_of(const Map *m, const MuseMapTerminal *t) {
  const Reduction *r = m->red;
  while (r->terminal != t) r++;
  return r;
}

// How many partials make an element.
static int64_t parts_of(const Map *m, const MuseMapTerminal *t) {
  return reduction_of(m, t)->by_row ? m->domain.rows / t->elements : m->domain.n_tasks;
}

// Few elements with many partials: a block an element. Else a block takes COLUMNS elements, and each of its warps every
// WARPS-th of their partials.
enum { COLUMNS = 32, WARPS = MUSE_CUDA_MAP_BLOCK / COLUMNS };
static bool is_deep(const Map *m, const MuseMapTerminal *t) { return parts_of(m, t) > 64 && t->elements < 1024; }
static int64_t blocks_of(const Map *m, const MuseMapTerminal *t) {
  return is_deep(m, t) ? t->elements : muse_ceil_div(t->elements, COLUMNS);
}

// The row-major number of a row from `element`, which counts its kept coordinates, or from `task`, which counts the
// others; neighbouring dimensions of one kind are taken together.
static void append_row_number(const Map *m, MuseType kept, const char *counter, bool of_kept, MuseStr *out) {
  const MuseType domain = m->domain.shape;
  int64_t stride = 1, after = 1;
  const size_t start = out->len;
  for (int d = domain.rank - 2; d >= 0;) {
    const bool is_kept = kept.dim[d] != 1;
    int64_t group = 1;
    while (d >= 0 && (domain.dim[d] == 1 || (kept.dim[d] != 1) == is_kept)) group *= domain.dim[d--];
    if (is_kept == of_kept && group > 1) {
      muse_str_appendf(out, "%s%s", out->len > start ? " + " : "", counter);
      if (after > 1) muse_str_appendf(out, " / %lld", (long long)after);
      if (d >= 0) muse_str_appendf(out, " %% %lld", (long long)group);
      muse_str_appendf(out, " * %lld", (long long)stride);
      after *= group;
    }
    stride *= group;
  }
  if (out->len == start) muse_str_append(out, "0");
}

// "part[...]" of the partial `task` of `element`; what depends on the element alone becomes `from`.
static void declare_partial_access(Map *m, const MuseMapTerminal *t, MuseStr *out_access) {
  if (!reduction_of(m, t)->by_row) {
    LINE("const long long from = element;");
    muse_str_appendf(out_access, "part[from + (long long)task * %lld]", (long long)t->stride);
    return;
  }
  MuseStr from = {0};
  append_row_number(m, t->op->results[0]->type, "element", true, &from);
  LINE("const long long from = %s;", muse_str_text(&from));
  muse_str_free(&from);
  muse_str_append(out_access, "part[from + ");
  append_row_number(m, t->op->results[0]->type, "(long long)task", false, out_access);
  muse_str_append(out_access, "]");
}

void muse_cuda_map_combine(Map *m) {
  int64_t blocks = 0;
  for (int i = 0; i < m->n_terminals; i++) blocks += blocks_of(m, &m->terminal[i]);
  muse_cuda_begin_launch(m->e, (MuseCudaLaunch){.grid_x = blocks, .grid_y = 1, .block = MUSE_CUDA_MAP_BLOCK});
  m->body.depth = 1;
  int64_t first = 0;
  char text[96];
  for (int i = 0; i < m->n_terminals; i++) {
    const MuseMapTerminal *t = &m->terminal[i];
    const char *type = muse_cuda_type(t->op->results[0]->type.dtype), *of = muse_cuda_map_operation(t->op);
    const bool deep = is_deep(m, t);
    const int64_t count = blocks_of(m, t);
    snprintf(text, sizeof text, "if (blockIdx.x >= %lldu && blockIdx.x < %lldu) {", (long long)first,
             (long long)(first + count));
    LINE("%s", text);
    m->body.depth++;
    LINE("const %s *part = (const %s *)(workspace + %lld);", type, type, (long long)t->offset);
    LINE("%s sum = %s;", type, muse_cuda_map_neutral(t->op));
    if (deep) {
      LINE("const long long element = blockIdx.x - %lldu;", (long long)first);
    } else {
      LINE("const long long element = (long long)(blockIdx.x - %lldu) * %d + threadIdx.x %% %d;", (long long)first,
           COLUMNS, COLUMNS);
      LINE("const bool is_there = element < %lld;", (long long)t->elements);
    }
    MuseStr access = {0};
    declare_partial_access(m, t, &access);
    LINE("#pragma unroll 8");
    if (deep)
      LINE("for (int task = threadIdx.x; task < %lld; task += %d) sum = %s::of(sum, %s);", (long long)parts_of(m, t),
           MUSE_CUDA_MAP_BLOCK, of, muse_str_text(&access));
    else
      LINE("for (int task = threadIdx.x / %d; is_there && task < %lld; task += %d) sum = %s::of(sum, %s);", COLUMNS,
           (long long)parts_of(m, t), WARPS, of, muse_str_text(&access));
    muse_str_free(&access);
    if (deep) {
      LINE("sum = across_lanes<%s, 32>(sum);", of);
      LINE("__shared__ %s all[%d];", type, MUSE_CUDA_MAP_BLOCK / 32);
      LINE("if (threadIdx.x %% 32 == 0) all[threadIdx.x / 32] = sum;");
      LINE("__syncthreads();");
      LINE("if (threadIdx.x > 0) return;");
      LINE("sum = across_warps<%s, %d>(all);", of, MUSE_CUDA_MAP_BLOCK / 32);
    } else {
      LINE("__shared__ %s all[%d][%d];", type, WARPS, COLUMNS);
      LINE("all[threadIdx.x / %d][threadIdx.x %% %d] = sum;", COLUMNS, COLUMNS);
      LINE("__syncthreads();");
      LINE("if (threadIdx.x >= %d || !is_there) return;", COLUMNS);
      LINE("for (int warp = 1; warp < %d; warp++) sum = %s::of(sum, all[warp][threadIdx.x]);", WARPS, of);
    }
    for (int o = 0; o < muse_cuda_map_yield(m)->n_operands; o++)
      if (muse_cuda_map_yield(m)->operands[o] == t->op->results[0]) LINE("r%d[element] = sum;", o);
    m->body.depth--;
    LINE("}");
    first += count;
  }
  m->body.depth = 0;
  LINE("}\n");
}

