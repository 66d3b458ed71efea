// Which way a resolvent scan is computed on a GPU.
#include "compiler/emit_cuda_resolvent.h"

MuseStatus muse_emit_cuda_resolvent_scan(MuseCudaEmitter *e) {
  MuseCudaResolvent r;
  if (muse_cuda_resolvent_mma_plan(e->kernel, e->target, &r)) return muse_cuda_resolvent_mma(e, &r);
  return muse_cuda_resolvent_walk(e);
}

MuseStatus muse_emit_cuda_resolvent_scan_grad(MuseCudaEmitter *e) {
  MuseCudaResolvent r;
  if (muse_cuda_resolvent_mma_plan(e->kernel, e->target, &r)) return muse_cuda_resolvent_mma_grad(e, &r);
  return muse_cuda_resolvent_walk_grad(e);
}
