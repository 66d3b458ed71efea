// Emission of whole modules for people and cross targets (musec --emit).
#include "compiler/emit_text.h"

#include "compiler/emit.h"
#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "ir/text.h"

#include <stdlib.h>
#include <string.h>

typedef struct Emission {
  MuseModule *module;
  const MuseCpuModule *cpu;
  MuseCpuTarget target;
  const char *form, *output;
  bool object;
  FILE *out;
  MuseStr index;
} Emission;

static MuseStatus emit_kernel(Emission *e, const MuseOp *kernel, const char *canonical, MuseDiag *diag) {
  char hex[33], name[40], *data = NULL;
  size_t bytes = 0;
  muse_hash_hex(muse_hash128(canonical, strlen(canonical)), hex);
  snprintf(name, sizeof name, "k%.12s", hex);
  MUSE_TRY(e->cpu->emit(kernel, name, &e->target, e->form, &data, &bytes, diag));
  MuseStatus status = MUSE_OK;
  if (e->object) {
    MuseStr path = {0};
    muse_str_appendf(&path, "%s/%s.o", e->output, name);
    status = muse_write_file_atomic(muse_str_text(&path), data, bytes, diag);
    muse_str_appendf(&e->index, "%s.o %s\n", name, muse_attr_text_or(&kernel->attrs, "skeleton", ""));
    muse_str_free(&path);
  } else {
    fprintf(e->out, "%s kernel %s, skeleton %s\n", strcmp(e->form, "llvm") == 0 ? ";" : "#", name,
            muse_attr_text_or(&kernel->attrs, "skeleton", ""));
    fwrite(data, 1, bytes, e->out);
    fputc('\n', e->out);
  }
  free(data);
  return status;
}

static MuseStatus emit_all(Emission *e, MuseDiag *diag) {
  MuseMap *seen = muse_map_create();
  MuseStr text = {0};
  MuseStatus status = MUSE_OK;
  for (MuseFunc *fn = e->module->first_func; fn && status == MUSE_OK; fn = fn->next)
    for (MuseOp *op = fn->body.first; op && status == MUSE_OK; op = op->next) {
      if (op->kind != MUSE_OP_kernel) continue;
      muse_str_clear(&text);
      muse_kernel_print_canonical(e->module, op, &text);
      if (muse_map_get(seen, muse_str_text(&text))) continue;
      muse_map_put(seen, muse_str_text(&text), e);
      status = emit_kernel(e, op, muse_str_text(&text), diag);
    }
  muse_map_destroy(seen);
  muse_str_free(&text);
  return status;
}

MuseStatus muse_emit_module_text(MuseModule *module, const char *form, const char *target, const char *output,
                                 MuseDiag *diag) {
  Emission e = {.module = module, .form = form, .output = output, .object = strcmp(form, "object") == 0, .out = stdout};
  if (strcmp(muse_attr_text_or(&module->attrs, "level", ""), "kernel") != 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--emit=%s needs kernels, but the pipeline stopped before the pass outline",
                      form);
  if (e.object && !output) return muse_error(diag, MUSE_ERR_INPUT, "--emit=object needs -o FOLDER");
  MUSE_TRY(muse_cpu_module_load(&e.cpu, diag));
  MUSE_TRY(e.cpu->parse_target(target, &e.target, diag));
  if (e.object) MUSE_TRY(muse_make_dirs(output, 0777, diag));
  MuseAtomicFile file = {0};
  if (!e.object && output) {
    MUSE_TRY(muse_atomic_open(output, &file, diag));
    e.out = file.file;
  }
  MuseStatus status = emit_all(&e, diag);
  if (file.file) {
    if (status == MUSE_OK) status = muse_atomic_finish(&file, diag);
    else muse_atomic_abort(&file);
  }
  if (e.object && status == MUSE_OK) {
    MuseStr path = {0};
    muse_str_appendf(&path, "%s/index.txt", output);
    status = muse_write_file_atomic(muse_str_text(&path), muse_str_text(&e.index), e.index.len, diag);
    muse_str_free(&path);
  }
  muse_str_free(&e.index);
  return status;
}
