// Files of the hub in the cache: downloaded to blobs/HASH.incomplete, checked, renamed, linked.
#include "corpus/hub_internal.h"

#include "corpus/http_headers.h"
#include "corpus/sha256.h"
#include "ir/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void muse_hub_cache_path(const MuseHub *hub, const MuseDataset *set, MuseStr *out, const char *kind, const char *name,
                         const char *more) {
  const char *slash = strchr(set->hub, '/');
  muse_str_appendf(out, "%s/datasets--%.*s--%s/%s/%s", hub->cache, (int)(slash - set->hub), set->hub, slash + 1, kind,
                   name);
  if (more) muse_str_appendf(out, "/%s", more);
}

ssize_t muse_read_link(const char *path, char *out, size_t cap) {
  ssize_t n = readlink(path, out, cap - 1);
  if (n >= 0) out[n] = 0;
  return n;
}

bool muse_http_origin_is(const char *endpoint, const char *url) { return muse_http_same_origin(endpoint, url); }

// MUSE_ERR_DATA when the file has another SHA-256.
static MuseStatus check_sha256(const char *path, const char *want, MuseDiag *diag) {
  char buffer[65536], got[65];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return muse_error(diag, MUSE_ERR_FAILED, "cannot read '%s': %s", path, strerror(errno));
  MuseSha256 sum;
  muse_sha256_start(&sum);
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    muse_sha256_update(&sum, buffer, (size_t)n);
  }
  int code = n < 0 ? errno : 0;
  close(fd);
  if (code) return muse_error(diag, MUSE_ERR_FAILED, "cannot read '%s': %s", path, strerror(code));
  muse_sha256_hex(&sum, got);
  return muse_str_eq(got, want) ? MUSE_OK : MUSE_ERR_DATA;
}

static MuseStatus download(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file,
                           const char *part, MuseDiag *diag) {
  MuseStr url = {0};
  muse_str_appendf(&url, "%s/datasets/%s/resolve/%s/", hub->endpoint, set->hub, commit);
  muse_url_append(&url, file->path, true);
  MuseStatus status = MUSE_OK;
  for (int n_tries = 1;; n_tries++) {
    int code = 0;
    status = muse_http_download(hub->http, url.data, part, file->size, &code, diag);
    if (status == MUSE_OK && code != 200) status = muse_hub_refused(hub, set, url.data, code, NULL, diag);
    if (status != MUSE_OK || !file->is_sha256) break;
    status = check_sha256(part, file->hash, diag);
    if (status != MUSE_ERR_DATA) break;
    unlink(part); // wrong bytes are no beginning of anything
    if (n_tries == 2) {
      muse_error(diag, status, "'%s' came twice with another SHA-256 than the hub gives for it; nothing of it is kept, "
                               "try again later", url.data);
      break;
    }
  }
  muse_str_free(&url);
  return status;
}

// snapshots/COMMIT/PATH -> ../../blobs/HASH, replaced at once where it exists.
static MuseStatus link_blob(const MuseHubFile *file, const char *snapshot, MuseDiag *diag) {
  MuseStr target = {0}, temporary = {0};
  MUSE_TRY(muse_make_parent_dirs(snapshot, diag));
  muse_str_append(&target, "../../");
  for (const char *p = file->path; (p = strchr(p, '/')); p++) muse_str_append(&target, "../");
  muse_str_appendf(&target, "blobs/%s", file->hash);
  muse_str_appendf(&temporary, "%s.%ld.tmp", snapshot, (long)getpid());
  MuseStatus status = MUSE_OK;
  if (symlink(target.data, temporary.data) != 0 || rename(temporary.data, snapshot) != 0) {
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot make the link '%s': %s", snapshot, strerror(errno));
    unlink(temporary.data);
  }
  muse_str_free(&target);
  muse_str_free(&temporary);
  return status;
}

static MuseStatus fetch_blob(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file,
                             const char *blob, MuseDiag *diag) {
  MuseStr part = {0};
  struct stat st;
  muse_str_appendf(&part, "%s.incomplete", blob);
  MUSE_TRY(muse_make_parent_dirs(blob, diag));
  // Two runs at once must not write the same part.
  MuseStr lock_path = {0};
  muse_str_appendf(&lock_path, "%s.lock", blob);
  int lock = open(lock_path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  MuseStatus status = MUSE_OK;
  if (lock < 0) status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", lock_path.data, strerror(errno));
  else if (flock(lock, LOCK_EX | LOCK_NB) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "another run is downloading '%s'; wait for it", file->path);
  else if (stat(blob, &st) != 0 || (uint64_t)st.st_size != file->size) { // not made by the other run meanwhile
    status = download(hub, set, commit, file, part.data, diag);
    if (status == MUSE_OK && rename(part.data, blob) != 0)
      status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", blob, strerror(errno));
  }
  if (lock >= 0) {
    unlink(lock_path.data);
    close(lock);
  }
  muse_str_free(&lock_path);
  muse_str_free(&part);
  return status;
}

MuseStatus muse_hub_file(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file,
                         MuseStr *out_path, MuseDiag *diag) {
  muse_str_clear(out_path);
  muse_hub_cache_path(hub, set, out_path, "snapshots", commit, file->path);
  struct stat st;
  if (stat(out_path->data, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == file->size) return MUSE_OK;
  if (hub->offline)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
                      file->path);
  MuseStr blob = {0};
  muse_hub_cache_path(hub, set, &blob, "blobs", file->hash, NULL);
  MuseStatus status = MUSE_OK;
  if (stat(blob.data, &st) != 0 || (uint64_t)st.st_size != file->size)
    status = fetch_blob(hub, set, commit, file, blob.data, diag);
  if (status == MUSE_OK) status = link_blob(file, out_path->data, diag);
  muse_str_free(&blob);
  return status;
}

void muse_hub_drop_file(const MuseHub *hub, const MuseDataset *set, const char *commit, const MuseHubFile *file) {
  MuseStr path = {0};
  muse_hub_cache_path(hub, set, &path, "snapshots", commit, file->path);
  unlink(path.data);
  muse_str_clear(&path);
  if (*file->hash) {
    muse_hub_cache_path(hub, set, &path, "blobs", file->hash, NULL);
    unlink(path.data);
  }
  muse_str_free(&path);
}
