// Files and messages about generated kernels (see the header).
#include "runtime/cuda_dump.h"

#include "ir/base/io.h"
#include "runtime/cuda_kernels.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static MuseStatus write_text(const MuseCudaDump *d, const char *suffix, const char *text, size_t length,
                             MuseDiag *diag) {
  MuseStr path = {0};
  char name[24];
  muse_cuda_kernel_name(d->kernel, name);
  muse_str_appendf(&path, "%s/%s.%s", d->dir, name, suffix);
  MuseStatus status = muse_write_file_atomic(path.data, text, length, diag);
  muse_str_free(&path);
  return status;
}

static void describe_launches(const MuseCudaDump *d, MuseStr *out) {
  const MuseCudaLaunches *l = d->launches;
  char name[24], arch[24];
  muse_cuda_kernel_name(d->kernel, name);
  muse_cuda_target_name(d->target, false, arch);
  muse_str_appendf(out, "kernel %s, skeleton %s, %s, variant %d of %d, %lld calls in the plan\n", name,
                   muse_op_text(d->kernel->op, "skeleton"), arch, d->variant, l->n_variants,
                   (long long)d->kernel->n_calls);
  for (int s = 0; s < l->n; s++) {
    const MuseCudaLaunch *a = &l->launch[s];
    muse_str_appendf(out, "%s_%d: grid %lld x %lld, block %d, dynamic shared memory %d bytes", name, s,
                     (long long)a->grid_x, (long long)a->grid_y, a->block, a->shared_bytes);
    if (a->cluster > 1) muse_str_appendf(out, ", clusters of %d", a->cluster);
    if (a->n_maps) muse_str_appendf(out, ", %d tensor maps", a->n_maps);
    muse_str_append(out, "\n");
  }
  if (l->loop_count > 1)
    muse_str_appendf(out, "launches %d to %d repeated %lld times\n", l->loop_first, l->loop_last,
                     (long long)l->loop_count);
  muse_str_appendf(out, "workspace %lld bytes\n", (long long)l->workspace_bytes);
}

MuseStatus muse_cuda_dump(const MuseCudaDump *d, MuseDiag *diag) {
  MuseStr text = {0}, ptx = {0}, cubin = {0}, log = {0};
  char name[24];
  muse_cuda_kernel_name(d->kernel, name);
  describe_launches(d, &text);
  MuseStatus status = write_text(d, "mir", d->kernel->text, strlen(d->kernel->text), diag);
  if (status == MUSE_OK) status = write_text(d, "cu", d->source, strlen(d->source), diag);
  if (status == MUSE_OK) status = write_text(d, "launch", text.data, text.len, diag);
  if (status == MUSE_OK) status = muse_nvrtc_compile(d->nvrtc, d->source, name, d->target, true, &ptx, &log, diag);
  if (status == MUSE_OK) status = write_text(d, "ptx", ptx.data, ptx.len, diag);
  if (status == MUSE_OK) status = muse_nvrtc_compile(d->nvrtc, d->source, name, d->target, false, &cubin, &log, diag);
  if (status == MUSE_OK) status = write_text(d, "log", muse_str_text(&log), log.len, diag);
  muse_str_free(&text);
  muse_str_free(&ptx);
  muse_str_free(&cubin);
  muse_str_free(&log);
  return status;
}

// ---- errors ----

// A note a line: control characters are shown escaped, so a text of several lines would not be readable as one note.
static void note_lines(MuseDiag *diag, const char *what, const char *text, int most) {
  int n = 0;
  for (const char *p = text; *p && n < most; n++) {
    size_t length = strcspn(p, "\n");
    muse_note_at(diag, (MuseLoc){0}, "%s: %.*s", what, (int)(length < 1000 ? length : 1000), p);
    p += length + (p[length] == '\n');
  }
}

// N of the first "name(N): error" of a log; 0 when there is none.
static int error_line(const char *log) {
  for (const char *p = strstr(log, ": error"); p; p = strstr(p + 1, ": error")) {
    if (p == log || p[-1] != ')') continue;
    const char *digits = p - 1;
    while (digits > log && isdigit((unsigned char)digits[-1])) digits--;
    if (digits > log && digits[-1] == '(' && digits < p - 1) return atoi(digits);
  }
  return 0;
}

void muse_cuda_explain(const MusePlanKernel *kernel, const char *source, const char *log, MuseDiag *diag) {
  int line = error_line(log);
  const char *p = source;
  for (int i = 1; i < line && *p; i++) p += strcspn(p, "\n"), p += *p == '\n';
  if (line > 0 && *p) {
    size_t length = strcspn(p, "\n");
    muse_note_at(diag, (MuseLoc){0}, "source line %d: %.*s", line, (int)(length < 1000 ? length : 1000), p);
  }
  note_lines(diag, "log", log, 20);
  note_lines(diag, "IR", kernel->text, 60);
}
