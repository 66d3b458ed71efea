// The command `init`: the initial parameters as a checkpoint, or one of them alone.
#include "runtime/commands.h"
#include "runtime/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Arguments {
  MuseSessionOptions session;
  const char *output, *param;
  int64_t seed;
} Arguments;

static MuseStatus write_all(MuseSession *s, const char *dir, MuseDiag *diag) {
  if (muse_checkpoint_exists(dir))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' holds checkpoints already; choose another folder", dir);
  MuseRunState state = {.seed = s->seed, .best_validation_loss = INFINITY, .plan_hash = s->plan_hash};
  MUSE_TRY(muse_session_text(s, "config", &state.config_text, diag));
  MUSE_TRY(muse_params_init(s, s->seed, diag));
  MuseTensorList tensors = {0};
  muse_params_tensors(s, false, &tensors);
  MuseStatus status = muse_checkpoint_save(dir, &state, tensors.data, tensors.len, 0, diag);
  muse_vec_free(&tensors);
  if (status == MUSE_OK) printf("%s/step-0\n", dir);
  return status;
}

static const MuseBuffer *find_param(const MuseModule *module, const char *name, MuseDiag *diag) {
  const char **names = calloc((size_t)module->n_buffers + 1, sizeof *names);
  MUSE_ASSERT(names);
  const MuseBuffer *found = NULL;
  size_t n = 0;
  for (int i = 0; i < module->n_buffers; i++) {
    if (strcmp(module->buffers[i]->role, "param") != 0) continue;
    if (strcmp(module->buffers[i]->name, name) == 0) found = module->buffers[i];
    names[n++] = module->buffers[i]->name;
  }
  const char *near = muse_str_nearest(name, names, n);
  if (!found)
    muse_error(diag, MUSE_ERR_INPUT, "the plan has no parameter '%s'%s%s%s", name, near ? "; did you mean '" : "",
               near ? near : "", near ? "'?" : "");
  free(names);
  return found;
}

// One parameter from the plan's text alone; no other memory is taken.
static MuseStatus write_one(const MuseModule *module, const Arguments *a, uint32_t seed, MuseDiag *diag) {
  const MuseBuffer *param = find_param(module, a->param, diag);
  if (!param) return MUSE_ERR_INPUT;
  MusePool *pool;
  MUSE_TRY(muse_pool_create((int)a->session.threads, &pool, diag));
  void *data = calloc((size_t)muse_type_bytes(param->type), 1);
  if (!data) muse_out_of_memory((size_t)muse_type_bytes(param->type));
  MuseParamValues values = {.values = data, .latent = data};
  MuseStatus status = muse_param_init(module, param, seed, pool, &values, diag);
  MuseStr delta = {0};
  muse_str_appendf(&delta, "delta.%s", param->name);
  MuseStoredTensor tensors[2] = {
      muse_stored_tensor(param->name, muse_stored_type_of(param->type.dtype), param->type.rank, param->type.dim, data),
      muse_stored_tensor(delta.data, MUSE_STORED_F32, 0, NULL, &values.delta),
  };
  if (status == MUSE_OK)
    status = muse_safetensors_write(a->output, tensors, param->type.dtype == MUSE_I8 ? 2 : 1, NULL, 0, NULL, diag);
  if (status == MUSE_OK) printf("%s\n", a->output);
  muse_str_free(&delta);
  free(data);
  muse_pool_destroy(pool);
  return status;
}

static MuseStatus init(const char *path, const Arguments *a, MuseDiag *diag) {
  if (!a->output)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "say with -o where the parameters go: a folder, or with --param a .safetensors file");
  if (a->seed < -1 || a->seed > UINT32_MAX)
    return muse_error(diag, MUSE_ERR_INPUT, "--seed takes a number from 0 to 4294967295");
  if (a->session.threads < 0 || a->session.threads > 4096)
    return muse_error(diag, MUSE_ERR_INPUT, "--threads takes a number from 1 to 4096 (or 0 for all cores)");
  bool is_cuda;
  int index;
  MUSE_TRY(muse_device_parse(a->session.device, &is_cuda, &index, diag));
  if (a->param) {
    MusePlan *plan;
    MUSE_TRY(muse_plan_load(path, &plan, diag));
    MuseSession bare = {.path = (char *)path, .plan = plan, .module = plan->module};
    int64_t seed = a->seed;
    MuseStatus status = seed >= 0 ? MUSE_OK : muse_session_int(&bare, "seed", 0, UINT32_MAX, &seed, diag);
    if (status == MUSE_OK) status = write_one(plan->module, a, (uint32_t)seed, diag);
    muse_plan_destroy(plan);
    return status;
  }
  MuseSession s = {0};
  MuseSessionOptions host = a->session;
  host.device = NULL; // the values are the same for every device, and made by the host
  MuseStatus status = muse_session_open(path, &host, &s, diag);
  if (a->seed >= 0) s.seed = (uint32_t)a->seed;
  if (status == MUSE_OK) status = write_all(&s, a->output, diag);
  muse_session_close(&s);
  return status;
}

MuseStatus muse_command_init(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.seed = -1};
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "DIR", "Folder for the checkpoint step-0; with --param a .safetensors file.",
       &a.output},
      {"param", 0, MUSE_OPT_TEXT, "NAME", "Make this parameter alone.", &a.param},
      {"seed", 0, MUSE_OPT_INT, "S", "Another seed than the plan's.", &a.seed},
      MUSE_HOST_OPTION_ROWS(a.session),
      {0},
  };
  MuseTextList operands = {0};
  const char *plan = NULL;
  bool help = false;
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run init [options] PLAN -o DIR",
                      "Writes the initial parameters, which follow from seed and name alone.", stdout);
  } else if (status == MUSE_OK) {
    status = muse_plan_operand(&operands, "init", &plan, diag);
    if (status == MUSE_OK) status = init(plan, &a, diag);
  }
  muse_text_list_free(&operands);
  return status;
}
