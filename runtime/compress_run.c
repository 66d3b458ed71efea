// The command `compress`: a compressed model of a configuration's initial parameters, or of a checkpoint's.
#include "runtime/commands.h"
#include "runtime/compressed.h"
#include "runtime/generate.h"
#include "runtime/signals.h"

#include "ir/base/io.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct Arguments {
  MuseParamsOptions params;
  const char *output;
  MuseTextList sets;
  int64_t seed, threads;
  bool verify, quiet;
} Arguments;

enum { EMBEDDING, ATTENTION, FEED_FORWARD, SMALL, N_GROUPS };
static const char *const group_names[N_GROUPS] = {"embedding", "attention matrices", "feed-forward matrices",
                                                  "small (f32)"};

typedef struct Group { int64_t parameters; uint64_t bytes; MuseCompressedError error; } Group;

typedef struct Job {
  const Arguments *a;
  MuseArena *arena;
  MusePlan *plan;           // of a plan file
  MuseModule *bare;         // of a config
  const MuseModule *module; // one of the two
  bool bitnet;
  uint32_t seed;
  MuseStr path;             // of the result
  MuseStr dir;
  bool made_dir;
  MuseCheckpoint *checkpoint;
  MuseSafetensors *opened;
  const MuseSafetensors *source; // one of the two's, NULL: the seed
  MuseTokenizer *tokenizer; // of the configuration, or NULL
  uint64_t tokenizer_hash;  // of it, or what the checkpoint was trained with; 0: unknown
  MusePool *pool;
  MuseCompressor *compressor;
  MuseSafetensorsWriter *writer;
  MUSE_VEC(MuseStoredTensor) tensors;
  Group groups[N_GROUPS];
  int64_t done, total;      // parameters
  uint64_t bytes;           // of the file's tensors
  double start, shown;
  volatile sig_atomic_t *stop;
} Job;

static bool is_param(const MuseBuffer *b) { return strcmp(b->role, "param") == 0; }

static int group_of(const MuseBuffer *b, bool bitnet) {
  if (muse_str_starts_with(b->name, "embed.")) return EMBEDDING;
  if (muse_compressed_form(b, bitnet) == MUSE_FORM_F32) return SMALL;
  return strstr(b->name, ".ffn.") ? FEED_FORWARD : ATTENTION;
}

// ---- what to compress ----

static MuseStatus open_model(Job *j, const char *path, MuseDiag *diag) {
  if (muse_str_ends_with(path, ".yaml") || muse_str_ends_with(path, ".yml")) {
    MUSE_TRY(muse_module_of_config(path, &j->a->sets, j->arena, &j->bare, diag));
    j->module = j->bare;
  } else {
    if (j->a->sets.len) return muse_error(diag, MUSE_ERR_INPUT, "--set changes a configuration; '%s' is a plan", path);
    MUSE_TRY(muse_plan_load(path, &j->plan, diag));
    j->module = j->plan->module;
  }
  int64_t seed = muse_attr_int_or(&j->module->attrs, "seed", 0);
  j->seed = (uint32_t)(j->a->seed >= 0 ? j->a->seed : seed);
  const char *tokenizer = muse_attr_text_or(&j->module->attrs, "tokenizer", "");
  if (*tokenizer) MUSE_TRY(muse_tokenizer_open(tokenizer, &j->tokenizer, diag));
  if (j->tokenizer) j->tokenizer_hash = muse_tokenizer_hash(j->tokenizer);
  return muse_compressed_bitnet(j->module, &j->bitnet, diag);
}

static MuseStatus open_source(Job *j, MuseDiag *diag) {
  const MuseParamsOptions *p = &j->a->params;
  if (p->checkpoint && p->params)
    return muse_error(diag, MUSE_ERR_INPUT, "give the parameters either by --checkpoint or by --params, not both");
  if (p->checkpoint) {
    MUSE_TRY(muse_checkpoint_open(p->checkpoint, &j->checkpoint, diag));
    j->source = muse_checkpoint_file(j->checkpoint, MUSE_GROUP_MODEL);
    uint64_t trained = muse_checkpoint_state(j->checkpoint)->tokenizer_hash;
    MuseSession names = {.tokenizer_hash = j->tokenizer_hash,
                         .tokenizer = j->tokenizer ? muse_tokenizer_name(j->tokenizer) : NULL};
    MUSE_TRY(muse_session_check_tokenizer(&names, muse_checkpoint_path(j->checkpoint), trained, diag));
    if (trained) j->tokenizer_hash = trained;
  } else if (p->params) {
    MUSE_TRY(muse_safetensors_open(p->params, &j->opened, diag));
    j->source = j->opened;
  }
  if (!j->source) return MUSE_OK;
  if (j->a->seed >= 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--seed is for initial parameters; these come from '%s'",
                      muse_safetensors_path(j->source));
  if (muse_is_compressed(j->source))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is compressed already", muse_safetensors_path(j->source));
  return muse_params_check(j->module, j->source, diag);
}

static MuseStatus read_values(void *context, const MuseBuffer *b, int64_t first, int64_t count, float *out,
                              MuseDiag *diag) {
  const Job *j = context;
  if (*j->stop) return MUSE_ERR_STOPPED;
  if (!j->source) return muse_param_values(b, j->seed, j->pool, first, count, out, diag);
  const MuseStoredTensor *t = muse_safetensors_find(j->source, b->name);
  if (t->type != MUSE_STORED_I8) return muse_stored_read_f32(t, first, count, out, diag);
  MuseStr name = {0};
  const MuseStoredTensor *delta;
  float width = 0;
  muse_str_appendf(&name, "delta.%s", b->name);
  MuseStatus status = muse_safetensors_get(j->source, name.data, &delta, diag);
  muse_str_free(&name);
  MUSE_TRY(status);
  if (delta->count == 1) MUSE_TRY(muse_stored_read_f32(delta, 0, 1, &width, diag));
  const int8_t *w = (const int8_t *)t->data + first;
  for (int64_t i = 0; i < count; i++) out[i] = width * w[i];
  return MUSE_OK;
}

// ---- where to ----

static MuseStatus choose_path(Job *j, MuseDiag *diag) {
  const char *output = j->a->output;
  if (!output || !*output)
    return muse_error(diag, MUSE_ERR_INPUT, "say with -o where the compressed model goes: a folder");
  if (muse_str_ends_with(output, ".safetensors")) {
    const char *slash = strrchr(output, '/');
    muse_str_append(&j->path, output);
    if (slash == output) muse_str_append(&j->dir, "/");
    else if (slash) muse_str_append_n(&j->dir, output, (size_t)(slash - output));
    else muse_str_append(&j->dir, ".");
    return MUSE_OK;
  }
  muse_str_append(&j->dir, output);
  muse_str_appendf(&j->path, "%s%s" MUSE_COMPRESSED_FILE, output, muse_str_ends_with(output, "/") ? "" : "/");
  return MUSE_OK;
}

static void add_tensor(Job *j, MuseStoredTensor t) {
  t.name = muse_arena_strdup(j->arena, t.name);
  muse_vec_push(&j->tensors, t);
  j->bytes += t.bytes;
}

static void plan_tensors(Job *j) {
  MuseStr name = {0};
  int64_t sixteen = 16;
  for (int i = 0; i < j->module->n_buffers; i++) {
    const MuseBuffer *b = j->module->buffers[i];
    MuseStoredTensor content, scales;
    if (!is_param(b)) continue;
    bool scaled = muse_compressed_tensors(b, muse_compressed_form(b, j->bitnet), &name, &content, &scales);
    add_tensor(j, content);
    if (scaled) add_tensor(j, scales);
    Group *g = &j->groups[group_of(b, j->bitnet)];
    g->parameters += muse_type_elements(b->type);
    g->bytes += content.bytes + (scaled ? scales.bytes : 0);
    j->total += muse_type_elements(b->type);
  }
  add_tensor(j, muse_stored_tensor("checksum", MUSE_STORED_U8, 1, &sixteen, NULL));
  muse_str_free(&name);
}

// Refused before the work and not after it. What the disk says may change meanwhile; then the write fails.
static MuseStatus check_space(const Job *j, MuseDiag *diag) {
  struct statvfs fs;
  if (statvfs(j->dir.data, &fs) != 0) return MUSE_OK;
  uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize, needed = j->bytes + (1 << 20);
  if (free_bytes >= needed) return MUSE_OK;
  MuseStr need = {0}, there = {0};
  muse_str_append_bytes(&need, needed);
  muse_str_append_bytes(&there, free_bytes);
  MuseStatus status = muse_error(diag, MUSE_ERR_FAILED,
                                 "no space: the compressed model needs %s, '%s' has %s free; make room there, or "
                                 "choose another folder with -o",
                                 need.data, j->dir.data, there.data);
  muse_str_free(&need);
  muse_str_free(&there);
  return status;
}

static MuseStatus open_writer(Job *j, MuseDiag *diag) {
  char seed[32], step[32], hash[17], parameters[32];
  MuseMetadata metadata[16];
  size_t n = 0;
  snprintf(parameters, sizeof parameters, "%lld", (long long)j->total);
  metadata[n++] = (MuseMetadata){"format", MUSE_COMPRESSED_FORMAT};
  metadata[n++] = (MuseMetadata){"version", MUSE_COMPRESSED_VERSION};
  metadata[n++] = (MuseMetadata){"kind", j->source ? "converted" : "initial"};
  metadata[n++] = (MuseMetadata){"parameters", parameters};
  metadata[n++] = (MuseMetadata){"config", muse_attr_text_or(&j->module->attrs, "config", "")};
  if (!j->source) {
    snprintf(seed, sizeof seed, "%" PRIu32, j->seed);
    metadata[n++] = (MuseMetadata){"seed", seed};
  }
  if (j->checkpoint) {
    snprintf(step, sizeof step, "%llu", (unsigned long long)muse_checkpoint_state(j->checkpoint)->step);
    metadata[n++] = (MuseMetadata){"step", step};
  }
  if (j->tokenizer) metadata[n++] = (MuseMetadata){"tokenizer", muse_tokenizer_name(j->tokenizer)};
  if (j->tokenizer_hash) {
    snprintf(hash, sizeof hash, "%016" PRIx64, j->tokenizer_hash);
    metadata[n++] = (MuseMetadata){"tokenizer_hash", hash};
  }
  j->made_dir = access(j->dir.data, F_OK) != 0;
  MUSE_TRY(muse_make_dirs(j->dir.data, 0777, diag));
  MUSE_TRY(check_space(j, diag));
  return muse_safetensors_writer_open(j->path.data, j->tensors.data, j->tensors.len, metadata, n, &j->writer, diag);
}

// ---- the work ----

static void show_progress(Job *j, const char *verb) {
  double now = muse_seconds(), seconds = now - j->start;
  bool terminal = isatty(STDERR_FILENO), last = j->done == j->total;
  if (j->a->quiet || (!last && now - j->shown < (terminal ? 0.2 : 10)) || (last && !terminal && seconds < 10)) return;
  j->shown = now;
  double share = (double)j->done / (double)j->total, left = share > 0 ? seconds * (1 / share - 1) : 0;
  fprintf(stderr, "%s%s %3.0f%%  %.0f of %.0f million parameters  %.0f M/s  ETA %.0fs%s", terminal ? "\r\033[K" : "",
          verb, 100 * share, (double)j->done / 1e6, (double)j->total / 1e6,
          seconds > 0 ? (double)j->done / seconds / 1e6 : 0, left, terminal && !last ? "" : "\n");
  fflush(stderr);
}

static MuseStatus append(void *context, const void *bytes, size_t n, MuseDiag *diag) {
  const Job *j = context;
  if (*j->stop) return MUSE_ERR_STOPPED;
  return muse_safetensors_writer_append(j->writer, bytes, n, diag);
}

static MuseStatus write_params(Job *j, MuseDiag *diag) {
  for (int i = 0; i < j->module->n_buffers; i++) {
    const MuseBuffer *b = j->module->buffers[i];
    if (!is_param(b)) continue;
    MuseCompressedError *error = j->source ? &j->groups[group_of(b, j->bitnet)].error : NULL;
    MUSE_TRY(muse_compress_param(j->compressor, b, muse_compressed_form(b, j->bitnet), read_values, j, append, j,
                                 error, diag));
    if (j->source) muse_safetensors_release(j->source, muse_safetensors_find(j->source, b->name));
    j->done += muse_type_elements(b->type);
    show_progress(j, "compress");
  }
  MuseHash hash = muse_safetensors_writer_digest(j->writer);
  uint8_t checksum[16];
  memcpy(checksum, &hash.lo, 8);
  memcpy(checksum + 8, &hash.hi, 8);
  return muse_safetensors_writer_append(j->writer, checksum, sizeof checksum, diag);
}

static MuseStatus write_file(Job *j, MuseDiag *diag) {
  MuseStatus status = open_writer(j, diag);
  if (status == MUSE_OK) status = write_params(j, diag);
  if (status == MUSE_OK) {
    status = muse_safetensors_writer_finish(j->writer, NULL, diag);
    j->writer = NULL;
  }
  muse_safetensors_writer_abort(j->writer);
  j->writer = NULL;
  if (status != MUSE_OK && j->made_dir) rmdir(j->dir.data); // empty, since nothing came to its name
  if (status == MUSE_ERR_STOPPED)
    muse_error(diag, status, "stopped; nothing was written to '%s'", j->dir.data);
  return status;
}

// Reads the file back and makes everything in it once more.
static MuseStatus verify(Job *j, MuseDiag *diag) {
  MuseSafetensors *file;
  MuseCompressedInfo info;
  MUSE_TRY(muse_safetensors_open(j->path.data, &file, diag));
  MuseStatus status = MUSE_OK;
  if (!muse_is_compressed(file))
    status = muse_error(diag, MUSE_ERR_INPUT, "'%s' is no compressed model", j->path.data);
  if (status == MUSE_OK) status = muse_compressed_check(j->module, file, &info, diag);
  if (status == MUSE_OK && info.initial != !j->source)
    status = muse_error(diag, MUSE_ERR_DATA, "'%s' holds %s; verify it %s", j->path.data,
                        info.initial ? "initial parameters" : "converted parameters",
                        info.initial ? "without --checkpoint and --params" : "with the --checkpoint it was made from");
  if (status == MUSE_OK && info.initial) j->seed = j->a->seed >= 0 ? (uint32_t)j->a->seed : info.seed;
  j->done = 0;
  j->start = j->shown = muse_seconds();
  for (int i = 0; i < j->module->n_buffers && status == MUSE_OK; i++) {
    const MuseBuffer *b = j->module->buffers[i];
    if (!is_param(b)) continue;
    status = muse_compressed_compare(j->compressor, j->module, file, b, read_values, j, diag);
    if (j->source) muse_safetensors_release(j->source, muse_safetensors_find(j->source, b->name));
    j->done += muse_type_elements(b->type);
    if (status == MUSE_OK) show_progress(j, "verify");
  }
  muse_safetensors_close(file);
  if (status == MUSE_ERR_STOPPED) muse_error(diag, status, "stopped; '%s' stays as it is", j->path.data);
  if (status == MUSE_OK)
    printf("%s: verified against %s, %.1f s\n", j->path.data, j->source ? muse_safetensors_path(j->source) : "its seed",
           muse_seconds() - j->start);
  return status;
}

// ---- the report ----

static void print_row(const char *name, const Group *g, bool errors) {
  MuseStr full = {0}, small = {0};
  muse_str_append_bytes(&full, 4 * (uint64_t)g->parameters);
  muse_str_append_bytes(&small, g->bytes);
  printf("%-22s %16lld %10s %11s %6.1f", name, (long long)g->parameters, full.data, small.data,
         g->bytes ? 4.0 * (double)g->parameters / (double)g->bytes : 0);
  if (errors && g->error.weights > 0) printf(" %8.4f", sqrt(g->error.squares / g->error.weights));
  putchar('\n');
  muse_str_free(&full);
  muse_str_free(&small);
}

static void print_report(const Job *j) {
  Group all = {0};
  struct rusage usage;
  MuseStr size = {0}, memory = {0};
  struct stat st = {0};
  printf("%-22s %16s %10s %11s %6s%s\n", "group", "parameters", "f32", "compressed", "ratio",
         j->source ? "    error" : "");
  for (int g = 0; g < N_GROUPS; g++) {
    const Group *group = &j->groups[g];
    if (group->parameters) print_row(group_names[g], group, j->source);
    all.parameters += group->parameters;
    all.bytes += group->bytes;
  }
  print_row("all", &all, false);
  if (j->source)
    puts("error: root of the sum of squares of what is lost, relative to the values. A BitNet computes with its\n"
         "trits, so what it loses there are the latents and not the function.");
  getrusage(RUSAGE_SELF, &usage);
  stat(j->path.data, &st);
  muse_str_append_bytes(&size, (uint64_t)st.st_size);
  muse_str_append_bytes(&memory, (uint64_t)usage.ru_maxrss * 1024);
  printf("%s: %s, %s", j->path.data, size.data, j->source ? "converted" : "initial");
  if (!j->source) printf(" (seed %u)", j->seed);
  printf(", %.1f s, peak memory %s\n", muse_seconds() - j->start, memory.data);
  fflush(stdout);
  muse_str_free(&size);
  muse_str_free(&memory);
}

static MuseStatus compress(Job *j, const char *path, MuseDiag *diag) {
  const Arguments *a = j->a;
  if (a->seed < -1 || a->seed > UINT32_MAX)
    return muse_error(diag, MUSE_ERR_INPUT, "--seed takes a number from 0 to 4294967295");
  if (a->threads < 0 || a->threads > 4096)
    return muse_error(diag, MUSE_ERR_INPUT, "--threads takes a number from 1 to 4096 (or 0 for all cores)");
  MUSE_TRY(choose_path(j, diag));
  bool exists = access(j->path.data, F_OK) == 0;
  if (exists && !a->verify)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' exists already; check it with --verify, or remove it, or choose another folder with -o",
                      j->path.data);
  MUSE_TRY(open_model(j, path, diag));
  MUSE_TRY(open_source(j, diag));
  MUSE_TRY(muse_pool_create((int)a->threads, &j->pool, diag));
  j->compressor = muse_compressor_create(j->pool);
  plan_tensors(j);
  j->start = j->shown = muse_seconds();
  if (!exists) {
    MUSE_TRY(write_file(j, diag));
    print_report(j);
  }
  return a->verify ? verify(j, diag) : MUSE_OK;
}

static void release(Job *j) {
  muse_compressor_destroy(j->compressor);
  muse_pool_destroy(j->pool);
  muse_tokenizer_close(j->tokenizer);
  muse_checkpoint_close(j->checkpoint);
  muse_safetensors_close(j->opened);
  muse_plan_destroy(j->plan);
  muse_module_destroy(j->bare);
  muse_vec_free(&j->tensors);
  muse_str_free(&j->path);
  muse_str_free(&j->dir);
  muse_arena_destroy(j->arena);
}

MuseStatus muse_command_compress(int argc, char **argv, MuseDiag *diag) {
  Arguments a = {.seed = -1};
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "DIR", "Folder for the compressed model, DIR/model.safetensors.", &a.output},
      {"checkpoint", 'c', MUSE_OPT_TEXT, "DIR",
       "Compress the newest checkpoint of a run, or one step-N, instead of the initial parameters.",
       &a.params.checkpoint},
      {"params", 'p', MUSE_OPT_TEXT, "FILE", "Compress the parameters of a safetensors file.", &a.params.params},
      {"seed", 0, MUSE_OPT_INT, "S", "Another seed than the configuration's.", &a.seed},
      {"set", 0, MUSE_OPT_LIST, "KEY=VALUE", "Override a key of the configuration; may be repeated.", &a.sets},
      {"verify", 0, MUSE_OPT_FLAG, NULL,
       "Read the file back and hold it against what it was made from; one that is there already is only read.",
       &a.verify},
      {"threads", 'j', MUSE_OPT_INT, "N", "Worker threads (all cores); the file is the same for any number.",
       &a.threads},
      {"quiet", 'q', MUSE_OPT_FLAG, NULL, "No progress.", &a.quiet},
      {0},
  };
  MuseTextList operands = {0};
  bool help = false;
  Job j = {.a = &a, .arena = muse_arena_create()};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-run compress [options] CONFIG.yaml|PLAN -o DIR",
                      "Makes a compressed model: trits, five a byte, and an int8 embedding.", stdout);
  } else if (status == MUSE_OK && operands.len != 1) {
    status = muse_error(diag, MUSE_ERR_INPUT, "name one configuration or plan: muse-run compress CONFIG.yaml -o DIR");
  } else if (status == MUSE_OK) {
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow is a failed write, as a full disk is
    j.stop = muse_catch_stop(NULL);
    status = compress(&j, operands.data[0], diag);
  }
  release(&j);
  muse_text_list_free(&a.sets);
  muse_text_list_free(&operands);
  return status;
}
