// libFuzzer target: any text is loaded as a plan. It is refused with a sentence, or every place of every call lies in
// memory.
#include "compiler/plan.h"
#include "ir/base/status.h"

static void check_place(const MusePlan *plan, const MusePlanFunc *f, const MusePlace *p, int64_t bytes) {
  if (p->kind == MUSE_PLACE_BUFFER) {
    MUSE_ASSERT(p->buffer >= 0 && p->buffer < plan->module->n_buffers);
    MUSE_ASSERT(muse_type_bytes(plan->module->buffers[p->buffer]->type) >= bytes);
  } else {
    MUSE_ASSERT(p->kind == MUSE_PLACE_SLAB && p->offset >= 0 && p->offset % 64 == 0);
    MUSE_ASSERT(p->offset + bytes <= f->slab_bytes && f->slab_bytes <= plan->slab_bytes);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MusePlan *plan = NULL;
  if (muse_plan_parse("fuzz", (const char *)data, size, &plan, diag) == MUSE_OK) {
    for (int i = 0; i < plan->n_funcs; i++) {
      const MusePlanFunc *f = &plan->funcs[i];
      for (int c = 0; c < f->n_calls; c++) {
        const MusePlanCall *call = &f->calls[c];
        for (int k = 0; k < call->n_operands; k++) {
          check_place(plan, f, &call->places[k], muse_type_bytes(call->op->operands[k]->type));
        }
        for (int k = 0; k < call->n_results; k++) {
          check_place(plan, f, &call->places[call->n_operands + k], muse_type_bytes(call->op->results[k]->type));
        }
        if (call->kernel->info.workspace_bytes) {
          check_place(plan, f, &call->places[call->n_operands + call->n_results], call->kernel->info.workspace_bytes);
        }
      }
    }
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) >= 1);
  }
  muse_plan_destroy(plan);
  muse_diag_destroy(diag);
  return 0;
}
