// Reading compressed models: whether the file is whole and belongs to the plan, and its parameters back.
#include "runtime/compressed.h"

#include "runtime/normals.h"
#include "runtime/param_grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_text(const char *text, const char *wanted) { return text && strcmp(text, wanted) == 0; }

bool muse_is_compressed(const MuseSafetensors *file) {
  return is_text(muse_safetensors_metadata(file, "format"), MUSE_COMPRESSED_FORMAT);
}

// ---- whether it fits ----

// Keys that change what the parameters mean without changing their shapes.
static const char *const meaning_keys[] = {"ffn_activation", "local_score", "num_heads"};

static MuseStatus check_meaning(const MuseModule *module, const MuseSafetensors *file, const char *config,
                                MuseDiag *diag) {
  MuseStr theirs = {0}, ours = {0};
  MuseStatus status = MUSE_OK;
  for (size_t i = 0; i < sizeof meaning_keys / sizeof *meaning_keys && status == MUSE_OK; i++) {
    muse_config_value(config, meaning_keys[i], &theirs);
    muse_config_value(muse_attr_text_or(&module->attrs, "config", ""), meaning_keys[i], &ours);
    if (strcmp(muse_str_text(&theirs), muse_str_text(&ours)) != 0)
      status = muse_error(diag, MUSE_ERR_DATA,
                          "'%s' was made with %s: %s, the plan has %s; it belongs to another configuration",
                          muse_safetensors_path(file), meaning_keys[i], muse_str_text(&theirs), muse_str_text(&ours));
  }
  muse_str_free(&theirs);
  muse_str_free(&ours);
  return status;
}

static bool same_tensor(const MuseStoredTensor *a, const MuseStoredTensor *b) {
  if (a->type != b->type || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->shape[i] != b->shape[i]) return false;
  return true;
}

// One tensor that the plan needs; counts it.
static MuseStatus need(const MuseSafetensors *file, const MuseStoredTensor *wanted, size_t *n, MuseDiag *diag) {
  const MuseStoredTensor *found = muse_safetensors_find(file, wanted->name);
  char wanted_text[200], found_text[200];
  ++*n;
  muse_stored_tensor_describe(wanted, wanted_text, sizeof wanted_text);
  if (!found)
    return muse_error(diag, MUSE_ERR_DATA,
                      "'%s' has no tensor '%s' (%s), which the plan needs; it belongs to another configuration",
                      muse_safetensors_path(file), wanted->name, wanted_text);
  if (same_tensor(found, wanted)) return MUSE_OK;
  muse_stored_tensor_describe(found, found_text, sizeof found_text);
  return muse_error(diag, MUSE_ERR_DATA,
                    "'%s': tensor '%s' is %s, the plan needs %s; it belongs to another configuration",
                    muse_safetensors_path(file), wanted->name, found_text, wanted_text);
}

static bool is_param(const MuseBuffer *b) { return strcmp(b->role, "param") == 0; }

MuseStatus muse_compressed_bitnet(const MuseModule *module, bool *out, MuseDiag *diag) {
  const MuseAttr *a = muse_attr_find(&module->attrs, "use_bitnet");
  if (!a || a->kind != MUSE_ATTR_BOOL)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "the plan does not say whether its matrices are ternary; run musec again on its configuration");
  *out = a->b;
  return MUSE_OK;
}

static MuseStatus check_tensors(const MuseModule *module, const MuseSafetensors *file, MuseDiag *diag) {
  MuseStr name = {0};
  MuseStatus status = MUSE_OK;
  bool bitnet;
  size_t n = 1; // the checksum
  MUSE_TRY(muse_compressed_bitnet(module, &bitnet, diag));
  for (int i = 0; i < module->n_buffers && status == MUSE_OK; i++) {
    const MuseBuffer *b = module->buffers[i];
    MuseStoredTensor content, scales;
    if (!is_param(b)) continue;
    bool scaled = muse_compressed_tensors(b, muse_compressed_form(b, bitnet), &name, &content, &scales);
    status = need(file, &content, &n, diag);
    if (status == MUSE_OK && scaled) status = need(file, &scales, &n, diag);
  }
  muse_str_free(&name);
  if (status == MUSE_OK && n != muse_safetensors_count(file))
    status = muse_error(diag, MUSE_ERR_DATA,
                        "'%s' holds %zu tensors, the plan needs %zu of them; it belongs to another configuration",
                        muse_safetensors_path(file), muse_safetensors_count(file), n);
  return status;
}

static MuseStatus check_checksum(const MuseSafetensors *file, MuseDiag *diag) {
  size_t n = muse_safetensors_count(file);
  const MuseStoredTensor *last = n ? muse_safetensors_at(file, n - 1) : NULL;
  if (!last || strcmp(last->name, "checksum") != 0 || last->bytes != 16)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is damaged: it does not end with its checksum; make it again",
                      muse_safetensors_path(file));
  MuseHash is = muse_safetensors_hash_before(file, last), said;
  memcpy(&said.lo, last->data, 8);
  memcpy(&said.hi, (const uint8_t *)last->data + 8, 8);
  if (is.lo == said.lo && is.hi == said.hi) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' is damaged: its checksum is not that of its content; make it again",
                    muse_safetensors_path(file));
}

// 16 hexadecimal digits; anything else is no hash.
static uint64_t hash_of(const char *text) {
  return text && strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16 ? strtoull(text, NULL, 16) : 0;
}

MuseStatus muse_compressed_check(const MuseModule *module, const MuseSafetensors *file, MuseCompressedInfo *out,
                                 MuseDiag *diag) {
  const char *path = muse_safetensors_path(file), *kind = muse_safetensors_metadata(file, "kind");
  const char *version = muse_safetensors_metadata(file, "version"), *seed = muse_safetensors_metadata(file, "seed");
  int64_t number = -1;
  *out = (MuseCompressedInfo){.initial = is_text(kind, "initial"),
                              .tokenizer_hash = hash_of(muse_safetensors_metadata(file, "tokenizer_hash")),
                              .config = muse_safetensors_metadata(file, "config")};
  if (!is_text(version, MUSE_COMPRESSED_VERSION))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is a compressed model of version %s; this program reads version %s",
                      path, version ? version : "?", MUSE_COMPRESSED_VERSION);
  bool seeded = seed && muse_parse_i64(seed, &number) && number >= 0 && number <= UINT32_MAX;
  if (!out->config || (!out->initial && !is_text(kind, "converted")) || (out->initial && !seeded))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' is damaged: its metadata lacks kind, seed or config; make it again with muse-run compress",
                      path);
  out->seed = (uint32_t)number;
  MUSE_TRY(check_checksum(file, diag)); // first: the rest speaks of what is really there
  MUSE_TRY(check_tensors(module, file, diag));
  return check_meaning(module, file, out->config, diag);
}

MuseStatus muse_compressed_fits(const MuseModule *module, const MuseSafetensors *file, MuseDiag *diag) {
  const char *config = muse_safetensors_metadata(file, "config");
  MuseDiag *unsaid = muse_diag_create();
  bool fits = config && check_tensors(module, file, unsaid) == MUSE_OK &&
              check_meaning(module, file, config, unsaid) == MUSE_OK;
  muse_diag_destroy(unsaid);
  MuseCompressedInfo info;
  return fits ? MUSE_OK : muse_compressed_check(module, file, &info, diag);
}

// ---- an initial model ----

typedef struct Comparing {
  const MuseSafetensors *file;
  const MuseBuffer *param;
  const uint8_t *at[2];  // what comes next: of the content, then of the scales
  uint64_t left[2];
} Comparing;

static MuseStatus compare(void *context, const void *bytes, size_t n, MuseDiag *diag) {
  Comparing *c = context;
  int part = c->left[0] == 0;
  MUSE_ASSERT(n <= c->left[part]);
  if (memcmp(bytes, c->at[part], n) != 0)
    return muse_error(diag, MUSE_ERR_DATA,
                      "'%s': parameter '%s' is not what it was made from; another configuration, another seed or "
                      "another version of MUSE made the file", muse_safetensors_path(c->file), c->param->name);
  c->at[part] += n;
  c->left[part] -= n;
  return MUSE_OK;
}

MuseStatus muse_compressed_compare(MuseCompressor *compressor, const MuseModule *module, const MuseSafetensors *file,
                                   const MuseBuffer *param, MuseParamReadFn read, void *read_context, MuseDiag *diag) {
  bool bitnet;
  MuseStr name = {0};
  MuseStoredTensor content, scales;
  Comparing c = {.file = file, .param = param};
  MUSE_TRY(muse_compressed_bitnet(module, &bitnet, diag));
  MuseCompressedForm form = muse_compressed_form(param, bitnet);
  bool scaled = muse_compressed_tensors(param, form, &name, &content, &scales);
  const MuseStoredTensor *found = muse_safetensors_find(file, param->name);
  MUSE_ASSERT(found && found->bytes == content.bytes);
  c.at[0] = found->data;
  c.left[0] = found->bytes;
  if (scaled) {
    const MuseStoredTensor *of = muse_safetensors_find(file, name.data);
    c.at[1] = of->data;
    c.left[1] = of->bytes;
  }
  muse_str_free(&name);
  MuseStatus status =
      muse_compress_param(compressor, param, form, read, read_context, compare, &c, NULL, diag);
  muse_safetensors_release(file, found);
  return status;
}

typedef struct Loading {
  const MuseModule *module;
  const MuseSafetensors *file;
  MusePool *pool;
  MuseCompressor *compressor;
  uint32_t seed;
  bool bitnet;
} Loading;

static MuseStatus read_initial(void *context, const MuseBuffer *param, int64_t first, int64_t count, float *out,
                               MuseDiag *diag) {
  const Loading *l = context;
  return muse_param_values(param, l->seed, l->pool, first, count, out, diag);
}

static MuseStatus make_initial(void *context, const MuseBuffer *param, MuseParamValues *out, MuseDiag *diag) {
  Loading *l = context;
  MUSE_TRY(muse_compressed_compare(l->compressor, l->module, l->file, param, read_initial, l, diag));
  return muse_param_init(l->module, param, l->seed, l->pool, out, diag);
}

// ---- a converted model ----

// What each byte of T5 stands for (see ir/type.h); sum: how many of its trits are not 0, -1: no byte of T5.
typedef struct T5Table { int8_t trit[256][5]; int8_t nonzero[256]; } T5Table;

static void fill_table(T5Table *t) {
  memset(t->nonzero, -1, sizeof t->nonzero);
  for (int v = 0; v < 243; v++) {
    int byte = (v * 256 + 242) / 243, rest = v;
    t->nonzero[byte] = 0;
    for (int digit = 4; digit >= 0; digit--, rest /= 3) {
      t->trit[byte][digit] = (int8_t)(rest % 3 - 1);
      t->nonzero[byte] = (int8_t)(t->nonzero[byte] + (rest % 3 != 1));
    }
  }
}

typedef struct Unpacking {
  const T5Table *table;
  const uint8_t *bytes;
  int64_t columns, row_bytes;
  float value;   // of a trit 1
  int8_t latent;
  MuseParamValues *out;
} Unpacking;

static void unpack_rows(void *context, int thread, int64_t begin, int64_t end) {
  const Unpacking *u = context;
  for (int64_t r = begin; r < end; r++) {
    const uint8_t *row = u->bytes + r * u->row_bytes;
    for (int64_t k = 0; k < u->columns; k++) {
      int t = u->table->trit[row[k / 320 * 64 + k % 64]][k % 320 / 64];
      if (u->out->latent) u->out->latent[r * u->columns + k] = (int8_t)(t * u->latent);
      else u->out->values[r * u->columns + k] = (float)t * u->value;
    }
  }
}

static MuseStatus bad_tensor(const Loading *l, const MuseBuffer *param, const char *what, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "'%s': %s of '%s' is not what a compressed model can hold; make it again",
                    muse_safetensors_path(l->file), what, param->name);
}

// With w = t * gamma / share the mean of |w| is gamma, and every w/gamma rounds to t again: the function that the model
// computes stays. Plain t * gamma would shrink it by the share (about 0.7) in every matrix.
static MuseStatus unpack_trits(Loading *l, const MuseBuffer *param, const MuseStoredTensor *t, float gamma,
                               MuseParamValues *out, MuseDiag *diag) {
  T5Table table;
  fill_table(&table);
  int64_t nonzero = 0, n = muse_type_elements(param->type);
  for (uint64_t i = 0; i < t->bytes; i++) {
    int count = table.nonzero[((const uint8_t *)t->data)[i]];
    if (count < 0) return bad_tensor(l, param, "a byte", diag);
    nonzero += count;
  }
  if (nonzero > n) return bad_tensor(l, param, "the padding", diag);
  if (!(isfinite(gamma) && gamma > 0)) return bad_tensor(l, param, "the scale", diag);
  double value = nonzero ? (double)gamma * ((double)n / (double)nonzero) : 0;
  Unpacking u = {.table = &table, .bytes = t->data, .columns = param->type.dim[1], .out = out, .value = (float)value};
  u.row_bytes = muse_trit_row_bytes(MUSE_T5, u.columns);
  if (out->latent) {
    // The grid would be 3.2 gamma / 127 wide; a hair off, so that the value is one of its points.
    u.latent = nonzero ? muse_on_grid(value, 3.2 * (double)gamma / 127) : 0;
    out->delta = nonzero ? (float)(value / u.latent) : 1;
  }
  muse_pool_run(l->pool, param->type.dim[0], unpack_rows, &u);
  return MUSE_OK;
}

// int8 slices as floats, or on the grid of a latent.
static MuseStatus unpack_slices(const MuseBuffer *param, const MuseStoredTensor *t, const MuseStoredTensor *scales,
                                MuseParamValues *out, MuseDiag *diag) {
  int64_t slices = param->type.dim[0], columns = t->count / slices;
  double sum = 0;
  for (int pass = out->latent ? 0 : 1; pass < 2; pass++) {
    for (int64_t r = 0; r < slices; r++) {
      float scale;
      const int8_t *q = (const int8_t *)t->data + r * columns;
      MUSE_TRY(muse_stored_read_f32(scales, r, 1, &scale, diag));
      for (int64_t i = 0; i < columns; i++) {
        float w = scale * q[i];
        if (pass == 0) sum += fabs((double)w);
        else if (out->latent) out->latent[r * columns + i] = muse_on_grid((double)w, (double)out->delta);
        else out->values[r * columns + i] = w;
      }
    }
    if (pass == 0) out->delta = muse_grid_width(&sum, 1, t->count);
  }
  return MUSE_OK;
}

static MuseStatus make_converted(void *context, const MuseBuffer *param, MuseParamValues *out, MuseDiag *diag) {
  Loading *l = context;
  MuseStr name = {0};
  MuseStoredTensor content, unused;
  MuseCompressedForm form = muse_compressed_form(param, l->bitnet);
  bool scaled = muse_compressed_tensors(param, form, &name, &content, &unused);
  const MuseStoredTensor *t = muse_safetensors_find(l->file, param->name);
  const MuseStoredTensor *scales = scaled ? muse_safetensors_find(l->file, name.data) : NULL;
  muse_str_free(&name);
  if (form == MUSE_FORM_TRITS) {
    float gamma;
    MUSE_TRY(muse_stored_read_f32(scales, 0, 1, &gamma, diag));
    MuseStatus status = unpack_trits(l, param, t, gamma, out, diag);
    muse_safetensors_release(l->file, t);
    return status;
  }
  if (form == MUSE_FORM_F32) MUSE_TRY(muse_stored_read_f32(t, 0, t->count, out->values, diag));
  else MUSE_TRY(unpack_slices(param, t, scales, out, diag));
  for (int64_t i = 0; out->values && i < t->count; i++)
    if (!isfinite(out->values[i])) return bad_tensor(l, param, "a value", diag);
  return out->latent && !isfinite(out->delta) ? bad_tensor(l, param, "a scale", diag) : MUSE_OK;
}

// ---- a session ----

MuseStatus muse_compressed_load(MuseSession *s, const MuseSafetensors *file, MuseDiag *diag) {
  MuseCompressedInfo info;
  Loading l = {.module = s->module, .file = file};
  MUSE_TRY(muse_compressed_check(s->module, file, &info, diag));
  MUSE_TRY(muse_session_check_tokenizer(s, muse_safetensors_path(file), info.tokenizer_hash, diag));
  MUSE_TRY(muse_compressed_bitnet(s->module, &l.bitnet, diag));
  MUSE_TRY(muse_pool_create(muse_executor_threads(s->executor), &l.pool, diag));
  l.seed = info.seed;
  l.compressor = muse_compressor_create(l.pool);
  MuseStatus status = muse_params_fill(s, info.initial ? make_initial : make_converted, &l, diag);
  muse_compressor_destroy(l.compressor);
  muse_pool_destroy(l.pool);
  if (status == MUSE_OK && !s->quiet && info.initial)
    fprintf(stderr,
            "'%s' is an initial model: its parameters are made again from seed %u, equal to the bit to those it was "
            "made from\n",
            muse_safetensors_path(file), info.seed);
  else if (status == MUSE_OK && !s->quiet)
    fprintf(stderr, "'%s' is a converted model: its parameters start from trits and int8\n",
            muse_safetensors_path(file));
  return status;
}
