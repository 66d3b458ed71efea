// The record of a fetched set.
#include "runtime/fetch_state.h"

#include "corpus/shard.h"
#include "ir/base/io.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_STATE_BYTES ((uint64_t)64 << 20)

void muse_fetch_state_set(char **field, const char *value) {
  free(*field);
  *field = strdup(value);
  if (!*field) muse_out_of_memory(strlen(value) + 1);
}

void muse_fetch_state_free(MuseFetchState *s) {
  for (size_t i = 0; i < s->shards.len; i++) free(s->shards.data[i].source);
  muse_vec_free(&s->shards);
  free(s->request);
  free(s->commit);
  *s = (MuseFetchState){0};
}

void muse_fetch_state_add(MuseFetchState *s, const char *source, uint64_t n_documents, uint64_t n_bytes,
                          uint64_t n_left_out) {
  MuseFetchedShard shard = {NULL, n_documents, n_bytes, n_left_out};
  muse_fetch_state_set(&shard.source, source);
  muse_vec_push(&s->shards, shard);
}

void muse_fetch_request(const MuseDataset *set, int64_t max_samples, bool rows, MuseStr *out) {
  muse_str_appendf(out, "%s config %s split %s revision %s files %s form %s", set->hub, set->config, set->split,
                   set->revision, set->files ? set->files : "(conversion)", set->form_text);
  if (set->starts) muse_str_appendf(out, " starts '%s' not '%s'", set->starts, set->starts_not ? set->starts_not : "");
  muse_str_appendf(out, " by %s", rows ? "rows" : "files");
  if (max_samples) muse_str_appendf(out, " max-samples %lld", (long long)max_samples);
}

static MuseStatus read_state(const char *path, json_t *root, MuseFetchState *out, MuseDiag *diag) {
  const char *request = json_string_value(json_object_get(root, "request"));
  const char *commit = json_string_value(json_object_get(root, "commit"));
  json_t *shards = json_object_get(root, "shards"), *shard;
  size_t i;
  bool ok = request && commit && json_is_array(shards);
  if (ok) {
    muse_fetch_state_set(&out->request, request);
    muse_fetch_state_set(&out->commit, commit);
    out->complete = json_is_true(json_object_get(root, "complete"));
  }
  json_array_foreach(shards, i, shard) {
    const char *source = json_string_value(json_object_get(shard, "source"));
    json_int_t n = json_integer_value(json_object_get(shard, "documents"));
    json_int_t bytes = json_integer_value(json_object_get(shard, "bytes"));
    json_int_t left_out = json_integer_value(json_object_get(shard, "left_out"));
    ok = ok && source && n >= 0 && bytes >= 0 && left_out >= 0;
    if (ok) muse_fetch_state_add(out, source, (uint64_t)n, (uint64_t)bytes, (uint64_t)left_out);
  }
  return ok ? MUSE_OK
            : muse_error(diag, MUSE_ERR_INPUT, "'%s' is not what fetch wrote there; take --force to fetch the set anew",
                         path);
}

MuseStatus muse_fetch_state_load(const char *folder, MuseFetchState *out, MuseDiag *diag) {
  MuseStr path = {0}, text = {0};
  *out = (MuseFetchState){0};
  muse_str_appendf(&path, "%s/.fetch.json", folder);
  MuseStatus status = MUSE_OK;
  if (access(path.data, F_OK) == 0) status = muse_read_file(path.data, MAX_STATE_BYTES, &text, diag);
  if (status == MUSE_OK && text.len) {
    json_t *root = json_loadb(text.data, text.len, 0, NULL);
    status = read_state(path.data, root, out, diag);
    json_decref(root);
  }
  if (status != MUSE_OK) muse_fetch_state_free(out);
  muse_str_free(&path);
  muse_str_free(&text);
  return status;
}

static void add_text(MuseStr *s, const char *key, const char *value) {
  muse_str_appendf(s, "  \"%s\": ", key);
  muse_json_text(s, value, strlen(value));
  muse_str_append(s, ",\n");
}

MuseStatus muse_fetch_state_save(const char *folder, const MuseFetchState *state, const MuseDataset *set,
                                 MuseDiag *diag) {
  MuseStr path = {0}, s = {0};
  muse_str_appendf(&path, "%s/.fetch.json", folder);
  muse_str_append(&s, "{\n");
  add_text(&s, "set", set->name);
  if (set->description) add_text(&s, "description", set->description);
  if (set->license) add_text(&s, "license", set->license);
  add_text(&s, "request", state->request);
  add_text(&s, "commit", state->commit);
  muse_str_appendf(&s, "  \"complete\": %s,\n  \"shards\": [", state->complete ? "true" : "false");
  for (size_t i = 0; i < state->shards.len; i++) {
    const MuseFetchedShard *shard = &state->shards.data[i];
    muse_str_appendf(&s, "%s\n    {\"source\": ", i ? "," : "");
    muse_json_text(&s, shard->source, strlen(shard->source));
    muse_str_appendf(&s, ", \"documents\": %llu, \"bytes\": %llu, \"left_out\": %llu}",
                     (unsigned long long)shard->n_documents, (unsigned long long)shard->n_bytes,
                     (unsigned long long)shard->n_left_out);
  }
  muse_str_append(&s, "\n  ]\n}\n");
  MuseStatus status = muse_write_file_atomic(path.data, s.data, s.len, diag);
  muse_str_free(&path);
  muse_str_free(&s);
  return status;
}
