// muse-data fetch: NAME -> its entry in the file of data sets -> rows of the viewer, or files of a pinned commit ->
// DIR/text/NAME/00000.jsonl ... (-> the token set DIR/NAME).
#include "corpus/documents.h"
#include "corpus/encoding.h"
#include "corpus/hub.h"
#include "corpus/shard.h"
#include "ir/base/io.h"
#include "runtime/data_commands.h"
#include "runtime/text_files.h"
#include "runtime/fetch_state.h"
#include "runtime/tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_ROWS = 100, FEW_SAMPLES = 5000 };
#define MAX_DOCUMENT ((uint64_t)64 << 20)

typedef struct Fetch {
  const MuseFetchOptions *options;
  FILE *out;
  MuseHub hub;
  MuseStr endpoint, viewer, cache, token;
  // The set that is being fetched.
  const MuseDataset *set;
  MuseStr folder;
  MuseFetchState state;
  MuseShard shard;
  uint64_t n_left_out;     // records without text, or cut by the viewer
  uint64_t n_before;       // documents of earlier shards
  MuseStr joined;          // lines of a document that has not ended
  double last_shown;
  const char *shown;       // what is being downloaded
} Fetch;

// ---- the environment

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value && *value ? value : NULL;
}

static bool is_on(const char *value) {
  return value &&
         (!strcmp(value, "1") || !strcasecmp(value, "on") || !strcasecmp(value, "yes") || !strcasecmp(value, "true"));
}

static void append_trimmed(MuseStr *s, const char *url) {
  muse_str_append(s, url);
  while (s->len && s->data[s->len - 1] == '/') s->data[--s->len] = 0;
}

static MuseStatus check_url(const char *what, const char *url, MuseDiag *diag) {
  const char *host = muse_str_starts_with(url, "https://")  ? url + 8
                     : muse_str_starts_with(url, "http://") ? url + 7
                                                            : "";
  if (!*host || strpbrk(url, " \t\r\n"))
    return muse_error(diag, MUSE_ERR_INPUT, "%s is '%s', which is no URL; write https://HOST", what, url);
  return MUSE_OK;
}

static void find_home(MuseStr *out) {
  const char *home = setting("HF_HOME"), *xdg = setting("XDG_CACHE_HOME"), *user = setting("HOME");
  if (home) append_trimmed(out, home);
  else if (xdg) muse_str_appendf(out, "%s/huggingface", xdg);
  else muse_str_appendf(out, "%s/.cache/huggingface", user ? user : ".");
}

static void find_token(const MuseStr *home, MuseStr *out) {
  MuseStr path = {0};
  const char *token = setting("HF_TOKEN"), *file = setting("HF_TOKEN_PATH");
  if (token) muse_str_append(out, token);
  muse_str_append(&path, file ? file : home->data);
  if (!file) muse_str_append(&path, "/token");
  if (!token && access(path.data, R_OK) == 0)
    muse_read_file(path.data, 4096, out, NULL); // where the hub's login puts it
  while (out->len && strchr("\r\n \t", out->data[out->len - 1])) out->data[--out->len] = 0;
  muse_str_free(&path);
}

static void on_progress(void *user, uint64_t bytes, uint64_t total);

static MuseStatus read_environment(Fetch *f, MuseDiag *diag) {
  const char *endpoint = setting("HF_ENDPOINT"), *cache = setting("HF_HUB_CACHE"), *viewer = f->options->viewer;
  MuseStr home = {0};
  find_home(&home);
  append_trimmed(&f->endpoint, endpoint ? endpoint : "https://huggingface.co");
  muse_str_appendf(&f->cache, "%s%s", cache ? cache : home.data, cache ? "" : "/hub");
  find_token(&home, &f->token);
  muse_str_free(&home);
  MUSE_TRY(check_url("HF_ENDPOINT", f->endpoint.data, diag));
  if (viewer) {
    MUSE_TRY(check_url("--viewer", viewer, diag));
    append_trimmed(&f->viewer, viewer);
  } else {
    const char *host = strstr(f->endpoint.data, "://") + 3;
    muse_str_appendf(&f->viewer, "%.*sdatasets-server.%s", (int)(host - f->endpoint.data), f->endpoint.data, host);
  }
  f->hub = (MuseHub){NULL, f->endpoint.data, f->viewer.data, f->cache.data, is_on(getenv("HF_HUB_OFFLINE"))};
  MuseHttpOptions http = {.token = f->token.len ? f->token.data : NULL, .origins = {f->endpoint.data, f->viewer.data},
                          .retry_seconds = f->options->retry_seconds, .quiet = f->options->quiet,
                          .stop = f->options->stop, .progress = on_progress, .progress_user = f};
  return muse_http_create(&http, &f->hub.http, diag);
}

// ---- progress

static bool may_show(Fetch *f) {
  struct timespec t;
  if (f->options->quiet || !isatty(STDERR_FILENO)) return false;
  clock_gettime(CLOCK_MONOTONIC, &t);
  double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  if (now - f->last_shown < 0.2) return false;
  f->last_shown = now;
  return true;
}

static void clear_line(Fetch *f) {
  if (f->last_shown > 0) fputs("\r\033[K", stderr);
  f->last_shown = 0;
}

static void on_progress(void *user, uint64_t bytes, uint64_t total) {
  Fetch *f = user;
  if (!may_show(f)) return;
  MuseStr s = {0};
  muse_str_append_bytes(&s, bytes);
  muse_str_append(&s, " of ");
  muse_str_append_bytes(&s, total);
  fprintf(stderr, "\r\033[K%s: %s %s", f->set->name, f->shown ? f->shown : "", s.data);
  fflush(stderr);
  muse_str_free(&s);
}

static void show_documents(Fetch *f) {
  if (!may_show(f)) return;
  fprintf(stderr, "\r\033[K%s: %llu documents", f->set->name, (unsigned long long)(f->n_before + f->shard.n_documents));
  fflush(stderr);
}

static void note(const Fetch *f, const char *text) {
  if (!f->options->quiet) fprintf(stderr, "%s: %s\n", f->set->name, text);
}

// ---- documents

static bool is_full(const Fetch *f) {
  return f->options->max_samples > 0 && f->n_before + f->shard.n_documents >= (uint64_t)f->options->max_samples;
}

static MuseStatus flush_joined(Fetch *f, MuseDiag *diag) {
  MuseStatus status = MUSE_OK;
  if (f->joined.len && !is_full(f)) status = muse_shard_add(&f->shard, f->joined.data, f->joined.len, diag);
  muse_str_clear(&f->joined);
  return status;
}

// A record's text: a document, or a line of one.
static MuseStatus add_text(Fetch *f, const char *text, size_t length, MuseDiag *diag) {
  const MuseDataset *set = f->set;
  show_documents(f);
  if (!set->starts) return is_full(f) ? MUSE_OK : muse_shard_add(&f->shard, text, length, diag);
  bool starts =
      muse_str_starts_with(text, set->starts) && !(set->starts_not && muse_str_starts_with(text, set->starts_not));
  if (starts || f->joined.len > MAX_DOCUMENT) MUSE_TRY(flush_joined(f, diag));
  muse_str_append_n(&f->joined, text, length);
  if (length == 0 || text[length - 1] != '\n') muse_str_append(&f->joined, "\n");
  return MUSE_OK;
}

static MuseStatus open_shard(Fetch *f, MuseDiag *diag) {
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/%05zu.jsonl", f->folder.data, f->state.shards.len);
  MuseStatus status = muse_shard_open(path.data, &f->shard, diag);
  muse_str_free(&path);
  f->n_left_out = 0;
  return status;
}

static MuseStatus finish_shard(Fetch *f, const char *source, MuseDiag *diag) {
  uint64_t n = f->shard.n_documents, bytes = f->shard.n_bytes;
  MUSE_TRY(muse_shard_finish(&f->shard, diag));
  f->shard = (MuseShard){0};
  muse_fetch_state_add(&f->state, source, n, bytes, f->n_left_out);
  f->n_before += n;
  return MUSE_OK;
}

// ---- rows

static MuseStatus on_row(void *user, const char *text, size_t length, bool is_cut, MuseDiag *diag) {
  Fetch *f = user;
  if (is_cut || (length == 0 && !f->set->starts) || !muse_text_is_utf8(text, length, NULL)) {
    f->n_left_out++;
    return MUSE_OK;
  }
  return add_text(f, text, length, diag);
}

static MuseStatus rows_into_shard(Fetch *f, MuseStr *revision, bool *out_available, MuseDiag *diag) {
  *out_available = true;
  MuseRowsVerdict verdict = MUSE_ROWS_OK;
  for (int64_t first = 0; verdict == MUSE_ROWS_OK && !is_full(f);) {
    int64_t n = 0;
    MUSE_TRY(muse_hub_rows(&f->hub, f->set, first, PAGE_ROWS, revision, on_row, f, &n, &verdict, diag));
    if (verdict == MUSE_ROWS_UNAVAILABLE) {
      if (first == 0) {
        *out_available = false;
        return MUSE_OK;
      }
      return muse_error(diag, MUSE_ERR_FAILED, "the viewer serves no more rows of '%s' after %lld; take --via files",
                        f->set->hub, (long long)first);
    }
    first += n;
  }
  return flush_joined(f, diag);
}

static MuseStatus fetch_rows(Fetch *f, bool *out_available, MuseDiag *diag) {
  MuseStr revision = {0};
  MuseStatus status = open_shard(f, diag);
  if (status == MUSE_OK) status = rows_into_shard(f, &revision, out_available, diag);
  if (status == MUSE_OK && *out_available) {
    muse_fetch_state_set(&f->state.commit, muse_str_text(&revision));
    status = finish_shard(f, "", diag);
  }
  muse_shard_abort(&f->shard);
  muse_str_free(&revision);
  return status;
}

// ---- files

static MuseStatus file_into_shard(Fetch *f, const char *path, MuseFileKind kind, MuseDiag *diag) {
  MuseDocumentForm form = {&f->set->form, NULL, MAX_DOCUMENT, f->options->stop};
  MuseDocuments *documents;
  MuseStr text = {0};
  MUSE_TRY(muse_documents_open(path, kind, &form, &documents, diag));
  MuseStatus status = MUSE_OK;
  while (status == MUSE_OK && !is_full(f)) {
    MuseDocumentVerdict verdict = MUSE_DOCUMENT_END;
    if (*f->options->stop) status = muse_error(diag, MUSE_ERR_STOPPED, "stopped");
    else status = muse_documents_next(documents, &text, &verdict, diag);
    if (status != MUSE_OK || verdict == MUSE_DOCUMENT_END) break;
    if (verdict == MUSE_DOCUMENT_OK || (verdict == MUSE_DOCUMENT_EMPTY && f->set->starts))
      status = add_text(f, muse_str_text(&text), text.len, diag);
    else if (verdict == MUSE_DOCUMENT_UNREADABLE || verdict == MUSE_DOCUMENT_DAMAGED)
      status = muse_error(diag, MUSE_ERR_FAILED, "'%s' is %s", path, muse_document_verdict_name(verdict));
    else f->n_left_out++;
  }
  if (status == MUSE_OK) status = flush_joined(f, diag);
  muse_documents_close(documents);
  muse_str_free(&text);
  return status;
}

static MuseStatus fetch_file(Fetch *f, const MuseHubFile *file, MuseDiag *diag) {
  MuseStr path = {0};
  MuseFileKind kind = muse_file_kind(file->path);
  f->shown = file->path;
  MuseStatus status = MUSE_OK;
  if (kind == MUSE_FILE_OTHER)
    status = muse_error(diag, MUSE_ERR_INPUT, "'%s' of '%s' is no Parquet, JSONL or text file; correct 'files'",
                        file->path, f->set->hub);
  if (status == MUSE_OK) status = muse_hub_file(&f->hub, f->set, f->state.commit, file, &path, diag);
  f->shown = NULL;
  if (status == MUSE_OK) status = open_shard(f, diag);
  if (status == MUSE_OK) status = file_into_shard(f, path.data, kind, diag);
  if (status == MUSE_OK) status = finish_shard(f, file->path, diag);
  if (status == MUSE_OK) status = muse_fetch_state_save(f->folder.data, &f->state, f->set, diag);
  if (status == MUSE_OK && f->options->discard) muse_hub_drop_file(&f->hub, f->set, f->state.commit, file);
  muse_shard_abort(&f->shard);
  muse_str_clear(&f->joined);
  muse_str_free(&path);
  return status;
}

static MuseStatus fetch_files(Fetch *f, MuseDiag *diag) {
  MuseHubFiles files = {0};
  if (!*f->state.commit) {
    MuseStr commit = {0};
    MuseStatus status = muse_hub_commit(&f->hub, f->set, &commit, diag);
    if (status == MUSE_OK) muse_fetch_state_set(&f->state.commit, commit.data);
    muse_str_free(&commit);
    MUSE_TRY(status);
    MUSE_TRY(muse_fetch_state_save(f->folder.data, &f->state, f->set, diag)); // pins it
  }
  MUSE_TRY(muse_hub_list(&f->hub, f->set, f->state.commit, &files, diag));
  if (f->hub.offline) note(f, "offline: taking the files that are in the cache, which may not be all of the set's");
  MuseStatus status = MUSE_OK;
  for (size_t i = 0; status == MUSE_OK && i < files.len && !is_full(f); i++) {
    if (i < f->state.shards.len) { // made by an earlier run
      if (!muse_str_eq(f->state.shards.data[i].source, files.data[i].path))
        status = muse_error(diag, MUSE_ERR_DATA,
                            "'%s' was begun with other files than the hub has now; take --force to "
                            "fetch the set anew",
                            f->folder.data);
      continue;
    }
    status = fetch_file(f, &files.data[i], diag);
  }
  muse_hub_files_free(&files);
  return status;
}

// ---- a set

static bool has_files(const char *folder) {
  DIR *dir = opendir(folder);
  int n = 0;
  if (!dir) return false;
  for (struct dirent *e; (e = readdir(dir));) n++;
  closedir(dir);
  return n > 2;
}

// Begins with what an earlier run of the same request has left. The request decides; an answer to another stays.
static MuseStatus begin_folder(Fetch *f, const char *request, MuseDiag *diag) {
  const char *folder = f->folder.data;
  MuseStatus status = f->options->replace ? MUSE_OK : muse_fetch_state_load(folder, &f->state, diag);
  MUSE_TRY(status);
  if (!f->options->replace && f->state.request && !muse_str_eq(f->state.request, request))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' holds another choice of the set (%s, not %s); take --force to replace it, "
                      "or another -o",
                      folder, f->state.request, request);
  if (!f->options->replace && !f->state.request && has_files(folder))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' holds files that fetch did not write; take --force to replace them, or "
                      "another -o",
                      folder);
  if (f->options->replace) MUSE_TRY(muse_remove_tree(folder, diag));
  MUSE_TRY(muse_make_dirs(folder, 0777, diag));
  if (!f->state.request) {
    muse_fetch_state_set(&f->state.request, request);
    muse_fetch_state_set(&f->state.commit, "");
  }
  for (size_t i = 0; i < f->state.shards.len; i++) f->n_before += f->state.shards.data[i].n_documents;
  return MUSE_OK;
}

static void print_set(const Fetch *f, FILE *out) {
  uint64_t n = 0, bytes = 0, left_out = 0;
  MuseStr s = {0};
  for (size_t i = 0; i < f->state.shards.len; i++) {
    n += f->state.shards.data[i].n_documents;
    bytes += f->state.shards.data[i].n_bytes;
    left_out += f->state.shards.data[i].n_left_out;
  }
  if (f->options->json) {
    muse_str_append(&s, "{\"set\":");
    muse_json_text(&s, f->set->name, strlen(f->set->name));
    muse_str_append(&s, ",\"folder\":");
    muse_json_text(&s, f->folder.data, f->folder.len);
    muse_str_append(&s, ",\"commit\":");
    muse_json_text(&s, f->state.commit, strlen(f->state.commit));
    muse_str_appendf(&s, ",\"documents\":%llu,\"bytes\":%llu,\"left_out\":%llu}\n", (unsigned long long)n,
                     (unsigned long long)bytes, (unsigned long long)left_out);
  } else {
    muse_str_appendf(&s, "%s: %llu documents, ", f->set->name, (unsigned long long)n);
    muse_str_append_bytes(&s, bytes);
    muse_str_appendf(&s, " of text in %s", f->folder.data);
    if (left_out) muse_str_appendf(&s, " (%llu records without whole text left out)", (unsigned long long)left_out);
    muse_str_append(&s, "\n");
  }
  fputs(s.data, out);
  fflush(out);
  muse_str_free(&s);
}

static MuseStatus tokenize_folder(const Fetch *f, const char *folder, const char *name, FILE *out, MuseDiag *diag) {
  if (!f->options->tokenizer) return MUSE_OK;
  MuseStr output = {0};
  muse_str_appendf(&output, "%s/%s", f->options->output, name);
  const char *inputs[1] = {folder};
  MuseTokenizeOptions o = {.inputs = {inputs, 1, 1}, .tokenizer = f->options->tokenizer, .output = output.data,
                           .max_document = (uint64_t)1 << 30, .save_seconds = MUSE_TOKENIZE_SAVE_SECONDS,
                           .json = f->options->json, .quiet = f->options->quiet, .stop = f->options->stop};
  MuseStatus status = muse_data_tokenize(&o, out, diag);
  muse_str_free(&output);
  return status;
}

static MuseStatus fetch_text(Fetch *f, bool rows, MuseDiag *diag) {
  bool available = true;
  if (rows) MUSE_TRY(fetch_rows(f, &available, diag));
  if (!available && muse_str_eq(f->options->via, "rows"))
    return muse_error(diag, MUSE_ERR_FAILED, "the viewer does not serve rows of '%s'; take --via files", f->set->hub);
  if (!available) note(f, "the viewer does not serve its rows; taking whole files");
  if (!rows || !available) MUSE_TRY(fetch_files(f, diag));
  if (f->n_before == 0)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' gave no document; correct its entry in the file of data sets",
                      f->set->name);
  f->state.complete = true;
  return muse_fetch_state_save(f->folder.data, &f->state, f->set, diag);
}

static MuseStatus fetch_set(Fetch *f, MuseDiag *diag) {
  const MuseFetchOptions *o = f->options;
  bool few = o->max_samples > 0 && o->max_samples <= FEW_SAMPLES;
  bool rows = muse_str_eq(o->via, "rows") || (muse_str_eq(o->via, "auto") && few && !f->set->starts && !f->hub.offline);
  if (rows && o->max_samples == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "--via rows is for samples; say how many with --max-samples");
  if (rows && f->hub.offline)
    return muse_error(diag, MUSE_ERR_FAILED, "HF_HUB_OFFLINE forbids to ask the viewer; take --via files, or unset it");
  MuseStr request = {0};
  f->n_before = 0;
  muse_str_clear(&f->folder);
  muse_str_appendf(&f->folder, "%s/text/%s", o->output, f->set->name);
  muse_fetch_request(f->set, o->max_samples,
                     muse_str_eq(o->via, "rows") || (muse_str_eq(o->via, "auto") && few && !f->set->starts), &request);
  MuseStatus status = begin_folder(f, request.data, diag);
  if (status == MUSE_OK && f->state.complete) note(f, "was fetched before; --force fetches it anew");
  else if (status == MUSE_OK) {
    status = fetch_text(f, rows, diag);
    if (status != MUSE_OK && f->state.shards.len == 0 && !*f->state.commit) rmdir(f->folder.data);
  }
  clear_line(f);
  if (status == MUSE_OK) print_set(f, f->out);
  if (status == MUSE_OK) status = tokenize_folder(f, f->folder.data, f->set->name, f->out, diag);
  muse_str_free(&request);
  muse_fetch_state_free(&f->state);
  return status;
}

// ---- without the hub

// The set machine_text, from what is on this machine; it says of itself what it is.
static MuseStatus make_machine_text(Fetch *f, MuseDiag *diag) {
  const MuseFetchOptions *o = f->options;
  MuseStr folder = {0}, label = {0};
  muse_str_appendf(&folder, "%s/text/machine_text", o->output);
  muse_str_appendf(&label, "text of this machine, made because the hub could not be reached; it is not '%s'\n",
                   f->set->name);
  fprintf(stderr,
          "offline: the hub cannot be reached, so '%s' is not fetched.\n"
          "Making the set 'machine_text' from the text on this machine instead: it is NOT '%s'.\n",
          f->set->name, f->set->name);
  MuseImportOptions import = {.inputs = o->else_from, .output = folder.data, .column = "text", .label = label.data,
                              .max_document = (uint64_t)1 << 20, .max_documents = o->max_samples, .any_name = true,
                              .replace = true, .json = o->json, .quiet = o->quiet, .stop = o->stop};
  MuseStatus status = muse_data_import(&import, f->out, diag);
  if (status == MUSE_OK) status = tokenize_folder(f, folder.data, "machine_text", f->out, diag);
  muse_str_free(&folder);
  muse_str_free(&label);
  return status;
}

static MuseStatus fetch_named(Fetch *f, const MuseDatasets *sets, MuseDiag *diag) {
  const MuseFetchOptions *o = f->options;
  for (int i = 0; i < o->names.len; i++) MUSE_TRY(muse_datasets_find(sets, o->names.data[i], &f->set, diag));
  for (int i = 0; i < o->names.len; i++) {
    MUSE_TRY(muse_datasets_find(sets, o->names.data[i], &f->set, diag));
    MuseDiag *own = o->else_from.len ? NULL : diag; // where there is a way out, being offline is no error
    MuseDiag *kept = own ? NULL : muse_diag_create();
    MuseStatus status = fetch_set(f, own ? own : kept);
    bool offline = status == MUSE_ERR_FAILED && (f->hub.offline || muse_http_is_unreachable(f->hub.http));
    if (kept && status != MUSE_OK && !offline)
      for (size_t k = 0; muse_diag_message(kept, k); k++)
        if (muse_diag_severity(kept, k) == MUSE_ERROR)
          muse_error_at(diag, status, muse_diag_loc(kept, k), "%s", muse_diag_message(kept, k));
    muse_diag_destroy(kept);
    if (offline && o->else_from.len) return make_machine_text(f, diag); // once, whatever else was to come
    if (status == MUSE_ERR_STOPPED)
      muse_note_at(diag, (MuseLoc){0}, "what is finished of '%s' is kept, and the same command goes on from there",
                   f->set->name);
    MUSE_TRY(status);
  }
  return MUSE_OK;
}

static void list_sets(const MuseDatasets *sets, FILE *out) {
  for (int i = 0; i < sets->n_sets; i++) {
    const MuseDataset *s = &sets->sets[i];
    fprintf(out, "%-20s %s%s%s%s\n", s->name, s->description ? s->description : s->hub, s->license ? " (" : "",
            s->license ? s->license : "", s->license ? ")" : "");
  }
}

static MuseStatus fetch_all(Fetch *f, MuseArena *arena, FILE *out, MuseDiag *diag) {
  MuseStr path = {0};
  MuseDatasets sets;
  if (f->options->datasets) muse_str_append(&path, f->options->datasets);
  else muse_find_config("datasets.yaml", &path);
  MuseStatus status = muse_datasets_load(path.data, arena, &sets, diag);
  muse_str_free(&path);
  MUSE_TRY(status);
  if (f->options->list) {
    list_sets(&sets, out);
    return MUSE_OK;
  }
  MUSE_TRY(read_environment(f, diag));
  return fetch_named(f, &sets, diag);
}

MuseStatus muse_data_fetch(const MuseFetchOptions *options, FILE *out, MuseDiag *diag) {
  static const char *const ways[] = {"auto", "rows", "files"};
  bool known = false;
  for (int i = 0; i < 3; i++) known |= muse_str_eq(options->via, ways[i]);
  if (!known) return muse_error(diag, MUSE_ERR_INPUT, "--via takes rows, files or auto, not '%s'", options->via);
  if (options->tokenizer) { // before hours of fetching
    MuseTokenizer *tokenizer;
    MUSE_TRY(muse_tokenizer_open(options->tokenizer, &tokenizer, diag));
    muse_tokenizer_close(tokenizer);
  }
  Fetch f = {.options = options, .out = out};
  MuseArena *arena = muse_arena_create();
  MuseStatus status = fetch_all(&f, arena, out, diag);
  muse_arena_destroy(arena);
  muse_http_destroy(f.hub.http);
  muse_fetch_state_free(&f.state);
  muse_str_free(&f.endpoint);
  muse_str_free(&f.viewer);
  muse_str_free(&f.cache);
  muse_str_free(&f.token);
  muse_str_free(&f.folder);
  muse_str_free(&f.joined);
  return status;
}
