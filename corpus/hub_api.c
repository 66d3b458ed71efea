// What the hub answers: commits, lists of files, rows.
#include "corpus/hub_internal.h"

#include "ir/base/io.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CONVERSION "refs/convert/parquet"
#define MAX_ANSWER ((uint64_t)256 << 20) // a hundred rows of long documents
#define MAX_FILES 100000u

void muse_hub_files_free(MuseHubFiles *files) {
  for (size_t i = 0; i < files->len; i++) {
    free(files->data[i].path);
    free(files->data[i].hash);
  }
  muse_vec_free(files);
}

const char *muse_hub_revision(const MuseDataset *set) { return set->files ? set->revision : CONVERSION; }

void muse_url_append(MuseStr *out, const char *text, bool keep_slash) {
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-_.~", *p);
    if (plain || (*p == '/' && keep_slash)) muse_str_appendf(out, "%c", *p);
    else muse_str_appendf(out, "%%%02X", *p);
  }
}

// A sentence for an answer that is no success.
MuseStatus muse_hub_refused(const MuseHub *hub, const MuseDataset *set, const char *url, int code, const char *body,
                            MuseDiag *diag) {
  switch (code) {
  case 401:
  case 403:
    return muse_error(diag, MUSE_ERR_FAILED,
                      "the hub does not give '%s' to you (%d); accept its terms on %s/datasets/%s, and set HF_TOKEN to "
                      "a token of yours",
                      set->hub, code, hub->endpoint, set->hub);
  case 404:
    return muse_error(
        diag, MUSE_ERR_INPUT,
        "the hub has no '%s' with this revision and config ('%s' answers 404); correct the entry of '%s' in the "
        "file of data sets, or set HF_TOKEN if the set is private",
        set->hub, url, set->name);
  default: {
    json_t *root = body ? json_loads(body, 0, NULL) : NULL;
    const char *error = json_string_value(json_object_get(root, "error"));
    MuseStatus status = muse_error(diag, MUSE_ERR_FAILED, "'%s' answers %d%s%.200s", url, code, error ? ": " : "",
                                   error ? error : "");
    json_decref(root);
    return status;
  }
  }
}

static MuseStatus get_json(const MuseHub *hub, const MuseDataset *set, const char *url, json_t **out_root,
                           MuseHttpAnswer *answer, MuseDiag *diag) {
  json_error_t why;
  *out_root = NULL;
  MUSE_TRY(muse_http_get(hub->http, url, MAX_ANSWER, answer, diag));
  MuseStatus status = MUSE_OK;
  if (answer->code != 200) status = muse_hub_refused(hub, set, url, answer->code, muse_str_text(&answer->body), diag);
  else if (!(*out_root = json_loadb(muse_str_text(&answer->body), answer->body.len, JSON_ALLOW_NUL, &why)))
    status = muse_error(diag, MUSE_ERR_FAILED, "'%s' answers with no JSON (%s)", url, why.text);
  if (status != MUSE_OK) muse_http_answer_free(answer);
  return status;
}

static bool is_hex(const char *text, size_t n) {
  return text && strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

// ---- commits

static MuseStatus offline_commit(const MuseHub *hub, const MuseDataset *set, MuseStr *out, MuseDiag *diag) {
  MuseStr path = {0};
  muse_hub_cache_path(hub, set, &path, "refs", muse_hub_revision(set), NULL);
  MuseStatus status = muse_read_file(path.data, 100, out, NULL);
  while (out->len && strchr("\r\n ", out->data[out->len - 1])) out->data[--out->len] = 0;
  if (status != MUSE_OK && is_hex(set->revision, 40) && set->files) {
    muse_str_append(out, set->revision);
    status = MUSE_OK;
  }
  if (status != MUSE_OK || !is_hex(muse_str_text(out), 40))
    status = muse_error(diag, MUSE_ERR_FAILED,
                        "'%s' is not in the cache %s, and HF_HUB_OFFLINE forbids to fetch it; unset HF_HUB_OFFLINE",
                        set->hub, hub->cache);
  muse_str_free(&path);
  return status;
}

MuseStatus muse_hub_commit(const MuseHub *hub, const MuseDataset *set, MuseStr *out_commit, MuseDiag *diag) {
  muse_str_clear(out_commit);
  if (hub->offline) return offline_commit(hub, set, out_commit, diag);
  MuseStr url = {0}, path = {0};
  muse_str_appendf(&url, "%s/api/datasets/%s/revision/", hub->endpoint, set->hub);
  muse_url_append(&url, muse_hub_revision(set), false);
  json_t *root;
  MuseHttpAnswer answer;
  MuseStatus status = get_json(hub, set, url.data, &root, &answer, diag);
  if (status == MUSE_OK) {
    const char *sha = json_string_value(json_object_get(root, "sha"));
    if (is_hex(sha, 40)) {
      muse_str_append(out_commit, sha);
      muse_hub_cache_path(hub, set, &path, "refs", muse_hub_revision(set), NULL);
      status = muse_make_parent_dirs(path.data, diag);
      if (status == MUSE_OK) status = muse_write_file_atomic(path.data, sha, 40, diag);
    } else {
      status = muse_error(diag, MUSE_ERR_FAILED, "'%s' names no commit", url.data);
    }
    json_decref(root);
    muse_http_answer_free(&answer);
  }
  muse_str_free(&url);
  muse_str_free(&path);
  return status;
}

// ---- files

static bool is_wanted(const MuseDataset *set, const char *path) {
  // A path becomes a path in the cache.
  if (!*path || *path == '/' || strstr(path, "..") || strstr(path, "//") || strchr(path, '\\') || strlen(path) > 1000)
    return false;
  if (set->files) return muse_pattern_matches(set->files, path);
  MuseStr pattern = {0};
  muse_str_appendf(&pattern, "%s/%s/*.parquet", set->config, set->split);
  bool wanted = muse_pattern_matches(pattern.data, path);
  muse_str_clear(&pattern);
  muse_str_appendf(&pattern, "%s/partial-%s/*.parquet", set->config, set->split); // a large set's beginning
  wanted |= muse_pattern_matches(pattern.data, path);
  muse_str_free(&pattern);
  return wanted;
}

static char *duplicate(const char *text) {
  char *copy = strdup(text);
  if (!copy) muse_out_of_memory(strlen(text) + 1);
  return copy;
}

// {"type":"file","oid":"<git>","size":N,"lfs":{"oid":"<sha256>","size":N,...},"path":"..."}
static MuseStatus add_file(const MuseDataset *set, const char *url, json_t *entry, MuseHubFiles *out, MuseDiag *diag) {
  const char *path = json_string_value(json_object_get(entry, "path"));
  const char *type = json_string_value(json_object_get(entry, "type"));
  if (!path || !type || !muse_str_eq(type, "file") || !is_wanted(set, path)) return MUSE_OK;
  json_t *lfs = json_object_get(entry, "lfs"), *facts = lfs && json_is_object(lfs) ? lfs : entry;
  const char *oid = json_string_value(json_object_get(facts, "oid"));
  json_int_t size = json_integer_value(json_object_get(facts, "size"));
  if (oid && muse_str_starts_with(oid, "sha256:")) oid += 7;
  bool sha256 = is_hex(oid, 64);
  if ((!sha256 && !is_hex(oid, 40)) || size < 0)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' gives no hash for '%s'", url, path);
  if (out->len >= MAX_FILES) return muse_error(diag, MUSE_ERR_FAILED, "'%s' lists more than %u files", url, MAX_FILES);
  MuseHubFile file = {duplicate(path), duplicate(oid), sha256, (uint64_t)size};
  muse_vec_push(out, file);
  return MUSE_OK;
}

static int by_path(const void *a, const void *b) {
  return strcmp(((const MuseHubFile *)a)->path, ((const MuseHubFile *)b)->path);
}

// All of the wanted files lie below the folders before the first '*'.
static void append_folder(const MuseDataset *set, MuseStr *url) {
  MuseStr folder = {0};
  if (!set->files) {
    muse_str_append(&folder, set->config);
  } else {
    const char *star = strchr(set->files, '*'), *end = NULL;
    for (const char *p = set->files; p && (!star || p < star); p = strchr(p + 1, '/'))
      if (*p == '/') end = p;
    if (end) muse_str_append_n(&folder, set->files, (size_t)(end - set->files));
  }
  if (folder.len) muse_str_append(url, "/");
  muse_url_append(url, muse_str_text(&folder), true);
  muse_str_free(&folder);
}

static MuseStatus list_online(const MuseHub *hub, const MuseDataset *set, const char *commit, MuseHubFiles *out,
                              MuseDiag *diag) {
  MuseStr url = {0};
  muse_str_appendf(&url, "%s/api/datasets/%s/tree/%s", hub->endpoint, set->hub, commit);
  append_folder(set, &url);
  muse_str_append(&url, "?recursive=true");
  MuseStatus status = MUSE_OK;
  for (int page = 0; status == MUSE_OK && url.len; page++) {
    json_t *root, *entry;
    MuseHttpAnswer answer;
    size_t i;
    status = get_json(hub, set, url.data, &root, &answer, diag);
    if (status != MUSE_OK) break;
    json_array_foreach(root, i, entry) {
      if (status == MUSE_OK) status = add_file(set, url.data, entry, out, diag);
    }
    json_decref(root);
    muse_str_clear(&url);
    // The next page is another one of the same hub; everything else is not followed.
    if (answer.next.len && page < 1000 && muse_http_origin_is(hub->endpoint, answer.next.data))
      muse_str_append(&url, answer.next.data);
    muse_http_answer_free(&answer);
  }
  muse_str_free(&url);
  return status;
}

// The files of a snapshot in the cache: links whose targets are named by their hashes.
static MuseStatus list_cached(const MuseDataset *set, const char *root, const char *below, int depth, MuseHubFiles *out,
                              MuseDiag *diag) {
  MuseStr folder = {0};
  muse_str_appendf(&folder, "%s/%s", root, below);
  DIR *dir = depth < 16 ? opendir(folder.data) : NULL;
  MuseStatus status = MUSE_OK;
  if (depth < 16 && !dir && muse_is_shortage(errno)) status = muse_io_error(diag, "read", folder.data, errno);
  for (struct dirent *e; dir && status == MUSE_OK && (e = readdir(dir));) {
    MuseStr path = {0}, full = {0};
    char target[4096];
    struct stat st;
    if (e->d_name[0] == '.') continue;
    muse_str_appendf(&path, "%s%s%s", below, *below ? "/" : "", e->d_name);
    muse_str_appendf(&full, "%s/%s", root, path.data);
    if (stat(full.data, &st) == 0 && S_ISDIR(st.st_mode)) {
      status = list_cached(set, root, path.data, depth + 1, out, diag);
    } else if (stat(full.data, &st) == 0 && S_ISREG(st.st_mode) && is_wanted(set, path.data)) {
      ssize_t n = muse_read_link(full.data, target, sizeof target);
      const char *name = n > 0 ? strrchr(target, '/') : NULL;
      name = name ? name + 1 : "";
      MuseHubFile file = {duplicate(path.data), duplicate(is_hex(name, 64) || is_hex(name, 40) ? name : ""),
                          is_hex(name, 64), (uint64_t)st.st_size};
      muse_vec_push(out, file);
    }
    muse_str_free(&path);
    muse_str_free(&full);
  }
  if (dir) closedir(dir);
  muse_str_free(&folder);
  return status;
}

MuseStatus muse_hub_list(const MuseHub *hub, const MuseDataset *set, const char *commit, MuseHubFiles *out_files,
                         MuseDiag *diag) {
  MuseStatus status;
  *out_files = (MuseHubFiles){0};
  if (hub->offline) {
    MuseStr root = {0};
    muse_hub_cache_path(hub, set, &root, "snapshots", commit, NULL);
    status = list_cached(set, root.data, "", 0, out_files, diag);
    muse_str_free(&root);
  } else {
    status = list_online(hub, set, commit, out_files, diag);
  }
  if (status == MUSE_OK && out_files->len == 0)
    status =
        muse_error(diag, hub->offline ? MUSE_ERR_FAILED : MUSE_ERR_INPUT,
                   hub->offline ? "the cache has no files of '%s' with config '%s' and split '%s'; unset HF_HUB_OFFLINE"
                                : "'%s' has no files for config '%s' and split '%s'; correct its entry in the file of "
                                  "data sets",
                   set->hub, set->config, set->split);
  if (status == MUSE_OK) qsort(out_files->data, out_files->len, sizeof *out_files->data, by_path);
  else muse_hub_files_free(out_files);
  return status;
}

// ---- rows

static bool is_cut(json_t *entry, const char *column) {
  json_t *name;
  size_t i;
  json_array_foreach(json_object_get(entry, "truncated_cells"), i, name) {
    if (json_is_string(name) && muse_str_eq(json_string_value(name), column)) return true;
  }
  return false;
}

static MuseStatus give_row(const MuseDataset *set, const char *url, json_t *entry,
                           MuseStatus (*row)(void *, const char *, size_t, bool, MuseDiag *), void *user,
                           MuseDiag *diag) {
  MuseSlice values[MUSE_RECORD_MAX_COLUMNS];
  json_t *cells = json_object_get(entry, "row");
  bool cut = false;
  for (int i = 0; i < set->form.n_columns; i++) {
    const char *column = set->form.columns[i];
    json_t *cell = json_object_get(cells, column);
    if (!cell)
      return muse_error(diag, MUSE_ERR_INPUT,
                        "'%s' has no column '%s'; correct the entry of '%s' in the file of data sets", set->hub, column,
                        set->name);
    values[i] = (MuseSlice){json_string_value(cell), json_string_length(cell)};
    cut |= is_cut(entry, column);
  }
  MuseStr text = {0};
  if (!cut) muse_record_append(&set->form, values, &text);
  MuseStatus status = row(user, muse_str_text(&text), text.len, cut, diag);
  muse_str_free(&text);
  return status;
}

MuseStatus muse_hub_rows(const MuseHub *hub, const MuseDataset *set, int64_t first, int64_t n, MuseStr *io_revision,
                         MuseStatus (*row)(void *, const char *, size_t, bool, MuseDiag *), void *user,
                         int64_t *out_n_rows, MuseRowsVerdict *out_verdict, MuseDiag *diag) {
  MuseStr url = {0};
  *out_n_rows = 0;
  *out_verdict = MUSE_ROWS_OK;
  muse_str_appendf(&url, "%s/rows?dataset=", hub->viewer);
  muse_url_append(&url, set->hub, false);
  muse_str_append(&url, "&config=");
  muse_url_append(&url, set->config, false);
  muse_str_append(&url, "&split=");
  muse_url_append(&url, set->split, false);
  muse_str_appendf(&url, "&offset=%lld&length=%lld", (long long)first, (long long)n);
  MuseHttpAnswer answer;
  MuseStatus status = muse_http_get(hub->http, url.data, MAX_ANSWER, &answer, diag);
  if (status != MUSE_OK) {
    muse_str_free(&url);
    return status;
  }
  json_t *root = NULL, *entry;
  if (answer.code == 404 || answer.code == 501 || answer.code == 422) {
    *out_verdict = MUSE_ROWS_UNAVAILABLE;
  } else if (answer.code != 200) {
    status = muse_hub_refused(hub, set, url.data, answer.code, muse_str_text(&answer.body), diag);
  } else if (!(root = json_loadb(muse_str_text(&answer.body), answer.body.len, JSON_ALLOW_NUL, NULL)) ||
             !json_is_array(json_object_get(root, "rows"))) {
    status = muse_error(diag, MUSE_ERR_FAILED, "'%s' answers with no rows", url.data);
  } else if (io_revision->len && answer.revision.len && !muse_str_eq(io_revision->data, answer.revision.data)) {
    status = muse_error(diag, MUSE_ERR_FAILED, "'%s' changed on the hub between two pages; run again", set->hub);
  } else {
    size_t i;
    if (!io_revision->len) muse_str_append(io_revision, muse_str_text(&answer.revision));
    json_t *rows = json_object_get(root, "rows");
    *out_n_rows = (int64_t)json_array_size(rows);
    json_array_foreach(rows, i, entry) {
      if (status == MUSE_OK) status = give_row(set, url.data, entry, row, user, diag);
    }
    if (*out_n_rows < n) *out_verdict = MUSE_ROWS_END;
  }
  json_decref(root);
  muse_http_answer_free(&answer);
  muse_str_free(&url);
  return status;
}
