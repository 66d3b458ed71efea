// Finding NaN and Inf.
#include "runtime/numerics.h"

#include <math.h>
#include <string.h>

int64_t muse_first_bad(const void *data, MuseDtype dtype, int64_t n) {
  switch (dtype) {
  case MUSE_F32:
    for (int64_t i = 0; i < n; i++)
      if (!isfinite(((const float *)data)[i])) return i;
    return -1;
  case MUSE_F64:
    for (int64_t i = 0; i < n; i++)
      if (!isfinite(((const double *)data)[i])) return i;
    return -1;
  case MUSE_BF16:
    for (int64_t i = 0; i < n; i++)
      if ((((const uint16_t *)data)[i] & 0x7f80) == 0x7f80) return i;
    return -1;
  case MUSE_F16:
    for (int64_t i = 0; i < n; i++)
      if ((((const uint16_t *)data)[i] & 0x7c00) == 0x7c00) return i;
    return -1;
  default: return -1;
  }
}

void muse_kernel_describe(const MuseOp *kernel, MuseStr *out) {
  static const char *const stages[] = {"", "forward", "backward", "update"};
  if (kernel->layer >= 0) muse_str_appendf(out, "layer %d, ", kernel->layer);
  if (kernel->loc.key) muse_str_appendf(out, "%s, ", kernel->loc.key);
  if (kernel->stage != MUSE_STAGE_NONE) muse_str_appendf(out, "%s, ", stages[kernel->stage]);
  const MuseAttr *skeleton = muse_attr_find(&kernel->attrs, "skeleton");
  muse_str_appendf(out, "kernel '%s'", skeleton && skeleton->kind == MUSE_ATTR_TEXT ? skeleton->text : "?");
}

typedef struct Search { MuseStr *out; bool found; } Search;

static bool look_at_results(void *context, const MuseKernelVisit *visit) {
  Search *s = context;
  const MuseOp *k = visit->kernel;
  for (int i = 0; i < k->n_results; i++) {
    MuseType type = k->results[i]->type;
    int64_t bad = muse_first_bad(muse_visit_result(visit, i), type.dtype, muse_type_elements(type));
    if (bad < 0) continue;
    s->found = true;
    muse_kernel_describe(k, s->out);
    muse_str_appendf(s->out, ", result %d ", i);
    muse_type_print(k->results[i]->type, s->out);
    muse_str_appendf(s->out, " at element %lld", (long long)bad);
    return false;
  }
  return true;
}

MuseStatus muse_find_first_bad_kernel(MuseSession *session, const char *function, MuseStr *out, bool *out_found,
                                      MuseDiag *diag) {
  Search s = {.out = out};
  MuseStatus status = muse_executor_trace(session->executor, function, NULL, look_at_results, &s, diag);
  *out_found = s.found;
  return status;
}
