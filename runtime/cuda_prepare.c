// Getting functions of a plan ready on a GPU: their kernels, the memory they need, and calls with addresses in them.
#include "runtime/executor_cuda.h"

#include "ir/base/status.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_ALIGN = 64, MEMORY_ALIGN = 256 };

static size_t align_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// ---- memory ----

// Buffers of one role lie one behind the other, so that clearing a role is one operation, and small ones that are read
// together are neighbours.
void muse_cuda_lay_out(MuseCudaExecutor *e) {
  static const MuseCudaGroup groups[MUSE_CUDA_GROUPS] = {
      {.role = NULL, .what = "model"}, {.role = "grad", .what = "gradients"}, {.role = "moment", .what = "moments"}};
  const MuseModule *m = e->plan->module;
  memcpy(e->group, groups, sizeof groups);
  e->group_of = calloc((size_t)m->n_buffers + 1, sizeof *e->group_of);
  e->offset_of = calloc((size_t)m->n_buffers + 1, sizeof *e->offset_of);
  bool *placed = calloc((size_t)m->n_buffers + 1, sizeof *placed);
  MUSE_ASSERT(e->group_of && e->offset_of && placed);
  for (int i = 0; i < m->n_buffers; i++) {
    const char *role = m->buffers[i]->role;
    int g = MUSE_CUDA_GROUPS - 1;
    while (g > 0 && strcmp(groups[g].role, role) != 0) g--;
    for (int j = i; j < m->n_buffers && !placed[i]; j++) {
      if (strcmp(m->buffers[j]->role, role) != 0) continue;
      e->group_of[j] = g;
      e->offset_of[j] = e->group[g].bytes;
      e->group[g].bytes += align_up((size_t)muse_type_bytes(m->buffers[j]->type), BUFFER_ALIGN);
      if (j > i) placed[j] = true;
    }
    placed[i] = true;
  }
  free(placed);
}

typedef struct Need { size_t slab, workspace; } Need;

static void note_place(MuseCudaExecutor *e, MusePlace place) {
  if (place.kind == MUSE_PLACE_BUFFER) e->group[e->group_of[place.buffer]].needed = true;
}

static Need needs(MuseCudaExecutor *e, const int *functions, int n, const int *kernels, int n_kernels) {
  Need need = {e->slab_bytes, e->workspace_bytes};
  e->group[0].needed = true;
  for (int i = 0; i < n; i++) {
    const MusePlanFunc *f = &e->plan->funcs[functions[i]];
    if ((size_t)f->slab_bytes > need.slab) need.slab = (size_t)f->slab_bytes;
    for (int c = 0; c < f->n_calls; c++)
      for (int p = 0; p < f->calls[c].n_operands + f->calls[c].n_results; p++) note_place(e, f->calls[c].places[p]);
  }
  for (int i = 0; i < n_kernels; i++) {
    size_t bytes = (size_t)muse_cuda_kernels_launches(e->kernels, kernels[i], -1)->workspace_bytes;
    if (align_up(bytes, MEMORY_ALIGN) > need.workspace) need.workspace = align_up(bytes, MEMORY_ALIGN);
  }
  return need;
}

// Kernels of different streams need workspaces of their own to run side by side, as long as those are small.
static int workspaces_for(const MuseCudaExecutor *e, Need need) {
  const size_t most = (size_t)1 << 30;
  size_t n = need.workspace ? most / need.workspace : 1;
  return n < 1 ? 1 : n > (size_t)e->n_streams ? e->n_streams : (int)n;
}

static void append_part(MuseStr *out, const char *what, size_t bytes) {
  if (!bytes) return;
  MuseStr size = {0};
  muse_str_append_bytes(&size, bytes);
  muse_str_appendf(out, "%s%s %s", out->len ? ", " : "", what, muse_str_text(&size));
  muse_str_free(&size);
}

// Refuses with numbers what the GPU cannot hold, before any work.
static MuseStatus check_fit(MuseCudaExecutor *e, Need need, MuseDiag *diag) {
  size_t free_bytes, total_bytes, more = 0;
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->memory_info(&free_bytes, &total_bytes), "asking for free memory", diag));
  MuseStr parts = {0}, wanted = {0}, there = {0};
  for (int g = 0; g < MUSE_CUDA_GROUPS; g++) {
    if (!e->group[g].needed || e->group[g].memory) continue;
    more += align_up(e->group[g].bytes, MEMORY_ALIGN);
    append_part(&parts, e->group[g].what, e->group[g].bytes);
  }
  // A larger slab or workspace replaces the old one, which is given back first.
  if (need.slab > e->slab_bytes) more += need.slab - e->slab_bytes, append_part(&parts, "working memory", need.slab);
  if (need.workspace > e->workspace_bytes) {
    size_t now = e->workspace_bytes * (size_t)e->n_workspaces, then = need.workspace * (size_t)workspaces_for(e, need);
    if (then > now) more += then - now;
    append_part(&parts, "workspace of kernels", then);
  }
  MuseStatus status = MUSE_OK;
  if (more > free_bytes) {
    muse_str_append_bytes(&wanted, more);
    muse_str_append_bytes(&there, free_bytes);
    status = muse_error(diag, MUSE_ERR_NO_FIT,
                        "this needs %s of GPU memory (%s), but GPU %d (%s) has %s free; compile with a smaller "
                        "batch_size or n_seq, use_gradient_checkpointing: true or optimizer: adafactor8 (musec "
                        "--memory-budget says what fits), or use another GPU",
                        muse_str_text(&wanted), muse_str_text(&parts), e->device.index, e->device.name,
                        muse_str_text(&there));
  }
  muse_str_free(&parts), muse_str_free(&wanted), muse_str_free(&there);
  return status;
}

static MuseStatus take(MuseCudaExecutor *e, size_t bytes, const char *what, CudaPointer *out, MuseDiag *diag) {
  int result = e->cuda->memory_allocate(out, align_up(bytes, MEMORY_ALIGN));
  if (result != 0) *out = 0;
  MUSE_TRY(muse_cuda_check(e->cuda, result, what, diag));
  return muse_cuda_check(e->cuda, e->cuda->fill_later(*out, 0, align_up(bytes, MEMORY_ALIGN), e->compute), what, diag);
}

// All functions lose their calls when one of the two moves.
static MuseStatus replace(MuseCudaExecutor *e, size_t bytes, const char *what, CudaPointer *memory, MuseDiag *diag) {
  MUSE_TRY(muse_cuda_check(e->cuda, e->cuda->stream_synchronize(e->compute), what, diag));
  for (int i = 0; i < e->plan->n_funcs; i++) muse_cuda_unbind(e, &e->functions[i]);
  if (*memory) e->cuda->memory_free(*memory);
  *memory = 0;
  return take(e, bytes, what, memory, diag);
}

MuseStatus muse_cuda_take_group(MuseCudaExecutor *e, MuseCudaGroup *group, MuseDiag *diag) {
  if (group->memory || group->bytes == 0) return MUSE_OK;
  group->needed = true;
  MUSE_TRY(check_fit(e, (Need){0}, diag));
  return take(e, group->bytes, "memory for the tensors of the plan", &group->memory, diag);
}

static MuseStatus take_memory(MuseCudaExecutor *e, Need need, MuseDiag *diag) {
  for (int g = 0; g < MUSE_CUDA_GROUPS; g++)
    if (e->group[g].needed) MUSE_TRY(muse_cuda_take_group(e, &e->group[g], diag));
  if (need.slab > e->slab_bytes) {
    e->slab_bytes = 0;
    MUSE_TRY(replace(e, need.slab, "working memory", &e->slab, diag));
    e->slab_bytes = need.slab;
  }
  if (need.workspace > e->workspace_bytes) {
    e->workspace_bytes = 0;
    int n = workspaces_for(e, need);
    MUSE_TRY(replace(e, need.workspace * (size_t)n, "workspace of kernels", &e->workspace, diag));
    e->workspace_bytes = need.workspace;
    e->n_workspaces = n;
  }
  return MUSE_OK;
}

// ---- calls ----

static CudaPointer pointer_of(const MuseCudaExecutor *e, MusePlace place) {
  if (place.kind == MUSE_PLACE_BUFFER) return muse_cuda_buffer(e, place.buffer);
  if (place.kind == MUSE_PLACE_SLAB) return e->slab + (CudaPointer)place.offset;
  return 0;
}

static MuseStatus bind_call(const MuseCudaExecutor *e, const MusePlanCall *plan, int stream, MuseCudaCall **out,
                            MuseDiag *diag) {
  int n = plan->n_operands + plan->n_results;
  CudaPointer *pointers = calloc((size_t)n + 1, sizeof *pointers);
  uint64_t *ids = calloc((size_t)plan->n_rng_ids + 1, sizeof *ids);
  MUSE_ASSERT(pointers && ids);
  for (int i = 0; i < n; i++) pointers[i] = pointer_of(e, plan->places[i]);
  for (int i = 0; i < plan->n_rng_ids; i++) ids[i] = (uint64_t)plan->rng_ids[i];
  if (e->workspace) pointers[n] = e->workspace + (CudaPointer)(stream % e->n_workspaces) * e->workspace_bytes;
  MuseStatus status = muse_cuda_call_create(muse_cuda_kernels_loaded(e->kernels, plan->kernel->index, -1), pointers,
                                            n + 1, ids, plan->n_rng_ids, out, diag);
  free(pointers);
  free(ids);
  return status;
}

static void make_schedule(const MuseCudaExecutor *e, MuseCudaFunction *f) {
  bool *workspaces = calloc((size_t)f->plan->n_calls + 1, sizeof *workspaces);
  MUSE_ASSERT(workspaces != NULL);
  for (int c = 0; c < f->plan->n_calls; c++)
    workspaces[c] = muse_cuda_kernels_launches(e->kernels, f->plan->calls[c].kernel->index, -1)->workspace_bytes > 0;
  f->schedule = muse_schedule_create(f->plan, workspaces, e->n_workspaces ? e->n_workspaces : 1, e->n_streams);
  free(workspaces);
}

static MuseStatus bind(MuseCudaExecutor *e, MuseCudaFunction *f, MuseDiag *diag) {
  if (f->calls) return MUSE_OK;
  f->calls = calloc((size_t)f->plan->n_calls + 1, sizeof *f->calls);
  MUSE_ASSERT(f->calls != NULL);
  make_schedule(e, f);
  for (int c = 0; c < f->plan->n_calls; c++)
    MUSE_TRY(bind_call(e, &f->plan->calls[c], muse_schedule_stream(f->schedule, c), &f->calls[c], diag));
  return MUSE_OK;
}

// ---- preparing ----

static MuseStatus prepare(MuseCudaExecutor *e, MusePool *pool, const int *functions, int n, const int *kernels,
                          int n_kernels, int *open, MuseDiag *diag) {
  int n_open = 0;
  MUSE_TRY(muse_cuda_kernels_emit(e->kernels, pool, kernels, n_kernels, 0, diag));
  MUSE_TRY(muse_cuda_recall_choices(e, pool, kernels, n_kernels, open, &n_open, diag));
  MUSE_TRY(check_fit(e, needs(e, functions, n, kernels, n_kernels), diag));
  MUSE_TRY(muse_cuda_tune(e, pool, open, n_open, diag));
  MUSE_TRY(muse_cuda_kernels_compile(e->kernels, pool, kernels, n_kernels, -1, diag));
  MUSE_TRY(muse_cuda_kernels_load(e->kernels, e->cuda, kernels, n_kernels, -1, diag));
  Need need = needs(e, functions, n, kernels, n_kernels); // with the variants that were chosen
  if (n_open) MUSE_TRY(check_fit(e, need, diag));
  MUSE_TRY(take_memory(e, need, diag));
  // Growing took the calls of functions prepared earlier, too.
  for (int i = 0; i < e->plan->n_funcs; i++)
    if (e->base.prepared && e->base.prepared[i]) MUSE_TRY(bind(e, &e->functions[i], diag));
  for (int i = 0; i < n; i++) MUSE_TRY(bind(e, &e->functions[functions[i]], diag));
  return MUSE_OK;
}

MuseStatus muse_cuda_prepare(MuseExecutor *base, const int *functions, int n, MuseDiag *diag) {
  MuseCudaExecutor *e = muse_cuda_executor(base);
  MusePool *pool;
  int *kernels = calloc((size_t)e->plan->n_kernels + 1, sizeof *kernels);
  int *open = calloc((size_t)e->plan->n_kernels + 1, sizeof *open);
  MUSE_ASSERT(kernels && open);
  int n_kernels = muse_executor_kernels(e->plan, functions, n, kernels);
  MuseStatus status = muse_pool_create(e->options.threads, &pool, diag);
  if (status == MUSE_OK) {
    status = prepare(e, pool, functions, n, kernels, n_kernels, open, diag);
    muse_pool_destroy(pool);
  }
  free(kernels);
  free(open);
  return status;
}
