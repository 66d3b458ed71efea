// CUDA C and PTX of whole modules (musec --emit=cuda, --emit=ptx).
#include "compiler/emit_cuda.h"
#include "compiler/emit_text.h"
#include "compiler/nvrtc.h"
#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "ir/base/status.h"
#include "ir/text.h"

#include <string.h>

typedef struct Emission {
  MuseNvrtc *nvrtc; // PTX only
  MuseCudaTarget target;
  FILE *out;
  MuseMap *seen;
} Emission;

static MuseStatus write_ptx(Emission *e, const MuseStr *text, const char *name, MuseDiag *diag) {
  MuseStr source = {0}, ptx = {0}, log = {0};
  muse_str_append(&source, muse_cuda_prelude());
  muse_str_append_n(&source, text->data, text->len);
  MuseStatus status = muse_nvrtc_compile(e->nvrtc, muse_str_text(&source), name, e->target, true, &ptx, &log, diag);
  if (status == MUSE_OK) fwrite(ptx.data, 1, ptx.len, e->out);
  muse_str_free(&source);
  muse_str_free(&ptx);
  muse_str_free(&log);
  return status;
}

static MuseStatus emit_kernel(Emission *e, const MuseOp *kernel, const char *canonical, MuseDiag *diag) {
  char hex[33], name[40];
  muse_hash_hex(muse_hash128(canonical, strlen(canonical)), hex);
  snprintf(name, sizeof name, "k%.12s", hex);
  MuseStr text = {0};
  MuseCudaLaunches launches;
  MuseStatus status = muse_cuda_emit(kernel, name, e->target, 0, &text, &launches, diag);
  if (status == MUSE_OK) {
    fprintf(e->out, "// kernel %s, skeleton %s\n", name, muse_op_text(kernel, "skeleton"));
    for (int i = 0; i < launches.n; i++) {
      const MuseCudaLaunch *l = &launches.launch[i];
      fprintf(e->out, "// %s_%d: grid %lld x %lld, block %d\n", name, i, (long long)l->grid_x, (long long)l->grid_y,
              l->block);
    }
    if (e->nvrtc) status = write_ptx(e, &text, name, diag);
    else fwrite(text.data, 1, text.len, e->out);
  }
  muse_str_free(&text);
  return status;
}

static MuseStatus emit_all(Emission *e, MuseModule *module, MuseDiag *diag) {
  MuseStr text = {0};
  MuseStatus status = MUSE_OK;
  if (!e->nvrtc) fputs(muse_cuda_prelude(), e->out);
  for (MuseFunc *fn = module->first_func; fn && status == MUSE_OK; fn = fn->next)
    for (MuseOp *op = fn->body.first; op && status == MUSE_OK; op = op->next) {
      if (op->kind != MUSE_OP_kernel) continue;
      muse_str_clear(&text);
      muse_kernel_print_canonical(module, op, &text);
      if (muse_map_get(e->seen, muse_str_text(&text))) continue;
      muse_map_put(e->seen, muse_str_text(&text), e);
      status = emit_kernel(e, op, muse_str_text(&text), diag);
    }
  muse_str_free(&text);
  return status;
}

MuseStatus muse_emit_module_cuda(MuseModule *module, const char *form, const char *target, const char *nvrtc_path,
                                 const char *output, MuseDiag *diag) {
  Emission e = {.out = stdout};
  if (strcmp(muse_attr_text_or(&module->attrs, "level", ""), "kernel") != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--emit=%s needs kernels, but the pipeline stopped before the pass outline",
                      form);
  MUSE_TRY(muse_cuda_target_parse(muse_is_cuda_target(target) ? target : "cuda", &e.target, diag));
  if (strcmp(form, "ptx") == 0) MUSE_TRY(muse_nvrtc_open(nvrtc_path, &e.nvrtc, diag));
  MuseAtomicFile file = {0};
  MuseStatus status = output ? muse_atomic_open(output, &file, diag) : MUSE_OK;
  if (status != MUSE_OK) {
    muse_nvrtc_close(e.nvrtc);
    return status;
  }
  if (output) e.out = file.file;
  e.seen = muse_map_create();
  status = emit_all(&e, module, diag);
  if (output && status == MUSE_OK) status = muse_atomic_finish(&file, diag);
  else if (output) muse_atomic_abort(&file);
  muse_map_destroy(e.seen);
  muse_nvrtc_close(e.nvrtc);
  return status;
}
