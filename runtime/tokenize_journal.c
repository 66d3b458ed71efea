// The journal of muse-data tokenize. Everything that it counts is on the disk before it is replaced, so that whatever
// it says after a crash is true.
#include "runtime/tokenize_journal.h"

#include "ir/base/io.h"
#include "ir/base/vec.h"
#include "runtime/tokens_format.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_FORMAT 1
#define MAX_JOURNAL_BYTES ((uint64_t)16 << 20)

struct MuseTokenizeJournal {
  MuseStr folder, path;
  MuseHash request;
  int lock;
  bool saved;
  FILE *seen;              // hashes one behind the other
  MuseHasher *seen_hasher; // of what it holds
  uint64_t n_seen;
  MUSE_VEC(MuseHash) pending; // not yet in it
};

// ---- the folder

// .NAME.partial where NAME.bin is, or where it points to: a rename has to reach it.
static void name_folder(const char *output, MuseStr *out) {
  char *base, *bin, *idx, *real;
  muse_tokens_paths(output, &base, &bin, &idx);
  real = realpath(bin, NULL);
  const char *at = real ? real : bin, *slash = strrchr(at, '/'), *name = strrchr(base, '/');
  if (slash) muse_str_append_n(out, at, (size_t)(slash + 1 - at));
  muse_str_appendf(out, ".%s.partial", name ? name + 1 : base);
  free(base), free(bin), free(idx), free(real);
}

static MuseStatus sync_parent(const char *path, MuseDiag *diag) {
  const char *slash = strrchr(path, '/');
  MuseStr parent = {0};
  if (slash) muse_str_append_n(&parent, path, slash == path ? 1 : (size_t)(slash - path));
  else muse_str_append(&parent, ".");
  MuseStatus status = muse_sync_dir(parent.data, diag);
  muse_str_free(&parent);
  return status;
}

// The lock is on the folder itself and goes with the process. Who had it may have removed the folder since it was
// opened here; then another one is made.
static MuseStatus lock_folder(MuseTokenizeJournal *j, const char *output, MuseDiag *diag) {
  for (;;) {
    MUSE_TRY(muse_make_dirs(j->folder.data, 0777, diag));
    j->lock = open(j->folder.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->lock < 0 && errno == ENOENT) continue;
    if (j->lock < 0)
      return muse_io_error(diag, "open the folder", j->folder.data, errno);
    // File systems without locks are trusted to have one user.
    if (flock(j->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      return muse_error(diag, MUSE_ERR_INPUT, "another muse-data makes '%s'; wait for it, or take another -o", output);
    struct stat mine, there;
    if (fstat(j->lock, &mine) == 0 && stat(j->folder.data, &there) == 0 && mine.st_ino == there.st_ino &&
        mine.st_dev == there.st_dev)
      return sync_parent(j->folder.data, diag);
    close(j->lock);
    j->lock = -1;
  }
}

static void append_path(const MuseTokenizeJournal *j, const char *name, MuseStr *out) {
  muse_str_appendf(out, "%s/%s", j->folder.data, name);
}

static FILE *open_seen(const MuseTokenizeJournal *j) {
  MuseStr path = {0};
  append_path(j, "seen", &path);
  int fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  muse_str_free(&path);
  FILE *file = fd >= 0 ? fdopen(fd, "r+b") : NULL;
  if (fd >= 0 && !file) close(fd);
  return file;
}

MuseStatus muse_tokenize_journal_open(const char *output, MuseTokenizeJournal **out_journal, MuseDiag *diag) {
  *out_journal = NULL;
  MuseTokenizeJournal *j = calloc(1, sizeof *j);
  if (!j) muse_out_of_memory(sizeof *j);
  j->lock = -1;
  j->seen_hasher = muse_hasher_create();
  name_folder(output, &j->folder);
  append_path(j, "journal.json", &j->path);
  MuseStatus status = lock_folder(j, output, diag);
  if (status == MUSE_OK && !(j->seen = open_seen(j)))
    status = muse_io_error(diag, "write in", j->folder.data, errno);
  if (status == MUSE_OK) *out_journal = j;
  else muse_tokenize_journal_close(j, true);
  return status;
}

const char *muse_tokenize_journal_folder(const MuseTokenizeJournal *j) { return j->folder.data; }
bool muse_tokenize_journal_is_saved(const MuseTokenizeJournal *j) { return j->saved; }

void muse_tokenize_journal_close(MuseTokenizeJournal *j, bool keep) {
  if (!j) return;
  if (j->seen) fclose(j->seen);
  if (!keep) muse_remove_tree(j->folder.data, NULL);
  if (j->lock >= 0) close(j->lock);
  muse_hasher_finish(j->seen_hasher);
  muse_vec_free(&j->pending);
  muse_str_free(&j->folder);
  muse_str_free(&j->path);
  free(j);
}

// ---- reading

static bool read_count(const json_t *object, const char *key, uint64_t *out) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
  *out = (uint64_t)json_integer_value(value);
  return true;
}

static bool read_hash(const json_t *object, const char *key, MuseHash *out) {
  const char *text = json_string_value(json_object_get(object, key));
  if (!text || strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32) return false;
  char high[17] = {0};
  memcpy(high, text, 16);
  *out = (MuseHash){.lo = strtoull(text + 16, NULL, 16), .hi = strtoull(high, NULL, 16)};
  return true;
}

static bool read_progress(const json_t *root, MuseTokenizeProgress *p, MuseHash *out_seen) {
  uint64_t n_documents = 0, n_tokens = 0;
  bool ok = read_count(root, "files_begun", &p->files) && read_count(root, "records", &p->records) &&
            read_hash(root, "inputs", &p->inputs) && read_count(root, "documents", &n_documents) &&
            read_count(root, "tokens", &n_tokens) && read_hash(root, "bin", &p->tokens.bin) &&
            read_hash(root, "idx", &p->tokens.idx) && read_count(root, "seen", &p->n_seen) &&
            read_hash(root, "seen_hash", out_seen) && read_count(root, "files", &p->n_files) &&
            read_count(root, "bytes", &p->n_bytes) && read_count(root, "duplicates", &p->n_duplicates);
  const json_t *verdicts = json_object_get(root, "left_out");
  for (int v = 0; v < MUSE_N_TEXT_VERDICTS; v++)
    ok = ok && read_count(verdicts, muse_text_verdict_name((MuseTextVerdict)v), &p->n_verdicts[v]);
  // Sizes in bytes are computed of these.
  ok = ok && p->files > 0 && n_documents <= (uint64_t)INT64_MAX / 32 && n_tokens <= (uint64_t)INT64_MAX / 8 &&
       p->n_seen <= MUSE_SEEN_MAX;
  if (ok) p->tokens.n_documents = (int64_t)n_documents, p->tokens.n_tokens = (int64_t)n_tokens;
  return ok;
}

// The first n_seen hashes of the file, when they are those that were written.
static bool load_seen(MuseTokenizeJournal *j, uint64_t n, MuseHash expected, MuseSeen *seen) {
  if (fseeko(j->seen, 0, SEEK_SET) != 0) return false;
  for (uint64_t i = 0; i < n; i++) {
    MuseHash hash;
    if (fread(&hash, sizeof hash, 1, j->seen) != 1) return false;
    muse_hasher_update(j->seen_hasher, &hash, sizeof hash);
    muse_seen_add(seen, hash);
  }
  MuseHash found = muse_hasher_digest(j->seen_hasher);
  j->n_seen = n;
  return found.lo == expected.lo && found.hi == expected.hi &&
         ftruncate(fileno(j->seen), (off_t)(n * sizeof(MuseHash))) == 0 && fseeko(j->seen, 0, SEEK_END) == 0;
}

MuseJournalVerdict muse_tokenize_journal_load(MuseTokenizeJournal *j, const char *request,
                                              MuseTokenizeProgress *out_progress, MuseSeen *seen, MuseDiag *diag) {
  MuseStr text = {0};
  MuseHash seen_hash;
  append_path(j, "idx", &text);
  // Without an index the set is in its place already; only this folder was not removed any more.
  bool is_there = access(j->path.data, F_OK) == 0 && access(text.data, F_OK) == 0;
  muse_str_clear(&text);
  if (!is_there) {
    muse_str_free(&text);
    return MUSE_JOURNAL_NONE;
  }
  MuseJournalVerdict verdict = MUSE_JOURNAL_DAMAGED;
  json_t *root = NULL;
  if (muse_read_file(j->path.data, MAX_JOURNAL_BYTES, &text, NULL) == MUSE_OK) {
    root = json_loadb(muse_str_text(&text), text.len, JSON_REJECT_DUPLICATES, NULL);
  } else if (muse_is_shortage(errno)) { // who starts over now loses what is there
    muse_io_error(diag, "read", j->path.data, errno);
    muse_str_free(&text);
    j->saved = true;
    return MUSE_JOURNAL_SHORTAGE;
  }
  MuseHash wanted = muse_hash128(request, strlen(request)), begun;
  uint64_t format;
  *out_progress = (MuseTokenizeProgress){0};
  if (read_hash(root, "request", &begun) && read_count(root, "format", &format)) {
    if (format != JOURNAL_FORMAT || begun.lo != wanted.lo || begun.hi != wanted.hi) verdict = MUSE_JOURNAL_OTHER;
    else if (read_progress(root, out_progress, &seen_hash) && load_seen(j, out_progress->n_seen, seen_hash, seen))
      verdict = MUSE_JOURNAL_FOUND;
  }
  if (verdict == MUSE_JOURNAL_FOUND) {
    j->request = wanted;
    j->saved = true;
  }
  json_decref(root);
  muse_str_free(&text);
  return verdict;
}

MuseStatus muse_tokenize_journal_start(MuseTokenizeJournal *j, const char *request, MuseDiag *diag) {
  // The journal goes first: without it, what the other files hold counts for nothing.
  if (unlink(j->path.data) != 0 && errno != ENOENT)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot remove '%s': %s", j->path.data, strerror(errno));
  MUSE_TRY(muse_sync_dir(j->folder.data, diag));
  if (fseeko(j->seen, 0, SEEK_SET) != 0 || ftruncate(fileno(j->seen), 0) != 0)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write in '%s': %s", j->folder.data, strerror(errno));
  muse_hasher_finish(j->seen_hasher);
  j->seen_hasher = muse_hasher_create();
  muse_vec_clear(&j->pending);
  j->n_seen = 0;
  j->saved = false;
  j->request = muse_hash128(request, strlen(request));
  return MUSE_OK;
}

// ---- writing

void muse_tokenize_journal_add_seen(MuseTokenizeJournal *j, MuseHash hash) { muse_vec_push(&j->pending, hash); }

static MuseStatus save_seen(MuseTokenizeJournal *j, uint64_t n_seen, MuseDiag *diag) {
  MUSE_ASSERT(n_seen >= j->n_seen && n_seen - j->n_seen <= j->pending.len);
  size_t n = (size_t)(n_seen - j->n_seen);
  if (n == 0) return MUSE_OK;
  if (fwrite(j->pending.data, sizeof *j->pending.data, n, j->seen) != n || fflush(j->seen) != 0 ||
      fsync(fileno(j->seen)) != 0)
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write in '%s': %s", j->folder.data, strerror(errno));
  muse_hasher_update(j->seen_hasher, j->pending.data, n * sizeof *j->pending.data);
  memmove(j->pending.data, j->pending.data + n, (j->pending.len - n) * sizeof *j->pending.data);
  j->pending.len -= n;
  j->n_seen = n_seen;
  return MUSE_OK;
}

static void add_count(MuseStr *s, const char *key, uint64_t value) {
  muse_str_appendf(s, ",\n  \"%s\": %llu", key, (unsigned long long)value);
}

static void add_hash(MuseStr *s, const char *key, MuseHash hash) {
  char hex[33];
  muse_hash_hex(hash, hex);
  muse_str_appendf(s, ",\n  \"%s\": \"%s\"", key, hex);
}

MuseStatus muse_tokenize_journal_save(MuseTokenizeJournal *j, const MuseTokenizeProgress *p, MuseDiag *diag) {
  MUSE_TRY(save_seen(j, p->n_seen, diag));
  MuseStr s = {0};
  muse_str_appendf(&s, "{\n  \"format\": %d", JOURNAL_FORMAT);
  add_hash(&s, "request", j->request);
  add_count(&s, "files_begun", p->files);
  add_count(&s, "records", p->records);
  add_hash(&s, "inputs", p->inputs);
  add_count(&s, "documents", (uint64_t)p->tokens.n_documents);
  add_count(&s, "tokens", (uint64_t)p->tokens.n_tokens);
  add_hash(&s, "bin", p->tokens.bin);
  add_hash(&s, "idx", p->tokens.idx);
  add_count(&s, "seen", p->n_seen);
  add_hash(&s, "seen_hash", muse_hasher_digest(j->seen_hasher));
  add_count(&s, "files", p->n_files);
  add_count(&s, "bytes", p->n_bytes);
  add_count(&s, "duplicates", p->n_duplicates);
  muse_str_append(&s, ",\n  \"left_out\": {");
  for (int v = 0; v < MUSE_N_TEXT_VERDICTS; v++)
    muse_str_appendf(&s, "%s\"%s\": %llu", v ? ", " : "", muse_text_verdict_name((MuseTextVerdict)v),
                     (unsigned long long)p->n_verdicts[v]);
  muse_str_append(&s, "}\n}\n");
  MuseStatus status = muse_write_file_atomic(j->path.data, s.data, s.len, diag);
  muse_str_free(&s);
  if (status == MUSE_OK) j->saved = true;
  return status;
}
