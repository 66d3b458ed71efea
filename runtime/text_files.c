// Text files: a sorted walk through folders, and a reader that decompresses and checks the encoding as it goes.
#include "runtime/text_files.h"

#include "corpus/unpack.h"
#include "ir/base/io.h"
#include "ir/base/vec.h"
#include "runtime/tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536, MAX_FOLDER_DEPTH = 256 };

const char *muse_text_verdict_name(MuseTextVerdict verdict) {
  static const char *const names[MUSE_N_TEXT_VERDICTS] = {
      "text", "empty", "not UTF-8 text", "unreadable", "damaged gzip", "too large", "no JSON object", "stopped",
  };
  return names[verdict];
}

// ---- reading

// Bytes of a character that was cut by the end of a piece.
typedef struct Utf8Check {
  unsigned char carry[4];
  size_t n_carry;
} Utf8Check;

// True while everything so far can be UTF-8 without NUL.
static bool check_text(Utf8Check *c, const unsigned char *p, size_t n) {
  size_t i = 0;
  while (c->n_carry) { // at most three rounds
    if (i == n) return true;
    c->carry[c->n_carry++] = p[i++];
    if (muse_utf8_length(c->carry, c->n_carry) > 0) c->n_carry = 0;
    else if (c->n_carry == 4) return false;
  }
  while (i < n) {
    if (p[i] == 0) return false;
    if (p[i] < 0x80) {
      i++;
      continue;
    }
    int length = muse_utf8_length(p + i, n - i);
    if (length == 0) {
      if (n - i >= 4) return false;
      c->n_carry = n - i;
      memcpy(c->carry, p + i, c->n_carry);
      return true;
    }
    i += (size_t)length;
  }
  return true;
}

// After a call that failed for the reason in errno.
static MuseTextVerdict not_read(void) { return muse_is_shortage(errno) ? MUSE_TEXT_SHORTAGE : MUSE_TEXT_UNREADABLE; }

static MuseTextVerdict stream(MuseUnpack *file, uint64_t max_bytes, bool (*piece)(void *, const char *, size_t),
                              void *user) {
  char buffer[PIECE_BYTES];
  Utf8Check check = {0};
  uint64_t total = 0;
  for (;;) {
    int64_t n = muse_unpack_read(file, buffer, sizeof buffer);
    if (n == MUSE_UNPACK_UNREADABLE) return not_read();
    if (n < 0) return MUSE_TEXT_DAMAGED;
    if (n == 0) break;
    total += (uint64_t)n;
    if (!check_text(&check, (unsigned char *)buffer, (size_t)n)) return MUSE_TEXT_BINARY;
    if (total > max_bytes) return MUSE_TEXT_TOO_LARGE;
    if (piece && !piece(user, buffer, (size_t)n)) return MUSE_TEXT_STOPPED;
  }
  if (check.n_carry) return MUSE_TEXT_BINARY;
  return total ? MUSE_TEXT_OK : MUSE_TEXT_EMPTY;
}

MuseTextVerdict muse_text_stream(const char *path, uint64_t max_bytes,
                                 bool (*piece)(void *user, const char *text, size_t n), void *user) {
  MuseUnpack *file = muse_unpack_open(path);
  if (!file) return not_read();
  MuseTextVerdict verdict = stream(file, max_bytes, piece, user);
  int code = errno;
  muse_unpack_close(file);
  errno = code;
  return verdict;
}

static bool append_piece(void *user, const char *text, size_t n) {
  muse_str_append_n(user, text, n);
  return true;
}

MuseTextVerdict muse_text_read(const char *path, uint64_t max_bytes, MuseStr *out) {
  return muse_text_stream(path, max_bytes, append_piece, out);
}

// ---- walking

typedef struct Walk {
  const MuseTextList *endings;
  MuseStatus (*found)(void *user, const char *path, MuseDiag *diag);
  void *user;
  MuseDiag *diag;
} Walk;

static bool has_ending(const Walk *w, const char *name) {
  if (w->endings->len == 0) return true;
  for (int i = 0; i < w->endings->len; i++) {
    if (muse_str_ends_with(name, w->endings->data[i])) return true;
    size_t n = strlen(name), m = strlen(w->endings->data[i]), packed = muse_str_ends_with(name, ".zst") ? 4 : 3;
    if (packed == 3 && !muse_str_ends_with(name, ".gz")) continue;
    if (n >= m + packed && memcmp(name + n - packed - m, w->endings->data[i], m) == 0) return true;
  }
  return false;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef MUSE_VEC(char *) Names;

// Sorted names of a folder; false, with errno, when it cannot be read to its end.
static bool list_folder(const char *path, Names *out_names) {
  DIR *dir = opendir(path);
  if (!dir) return false;
  for (struct dirent *e; errno = 0, (e = readdir(dir));) {
    if (e->d_name[0] == '.') continue;
    char *name = strdup(e->d_name);
    if (!name) muse_out_of_memory(256);
    muse_vec_push(out_names, name);
  }
  int code = errno;
  closedir(dir);
  if (out_names->len) qsort(out_names->data, out_names->len, sizeof *out_names->data, by_bytes);
  errno = code;
  return code == 0;
}

static MuseStatus walk_folder(const Walk *w, const char *path, int depth);

static MuseStatus visit(const Walk *w, const char *path, const char *name, int depth) {
  struct stat st;
  if (lstat(path, &st) != 0) // removed while we walk
    return muse_is_shortage(errno) ? muse_io_error(w->diag, "read", path, errno) : MUSE_OK;
  if (S_ISDIR(st.st_mode)) return walk_folder(w, path, depth + 1);
  return S_ISREG(st.st_mode) && has_ending(w, name) ? w->found(w->user, path, w->diag) : MUSE_OK;
}

static MuseStatus walk_folder(const Walk *w, const char *path, int depth) {
  Names names = {0};
  MuseStatus status = MUSE_OK;
  if (depth > MAX_FOLDER_DEPTH) {
    muse_warning_at(w->diag, (MuseLoc){0}, "the folder '%s' is left out: it lies too deep", path);
  } else if (!list_folder(path, &names)) {
    if (muse_is_shortage(errno)) status = muse_io_error(w->diag, "read", path, errno);
    else
      muse_warning_at(w->diag, (MuseLoc){0}, "the folder '%s' is left out%s: %s", path,
                      names.len ? " in part" : "", strerror(errno));
  }
  for (size_t i = 0; i < names.len; i++) {
    if (status == MUSE_OK) {
      MuseStr child = {0};
      muse_str_appendf(&child, "%s%s%s", path, muse_str_ends_with(path, "/") ? "" : "/", names.data[i]);
      status = visit(w, child.data, names.data[i], depth);
      muse_str_free(&child);
    }
    free(names.data[i]);
  }
  muse_vec_free(&names);
  return status;
}

MuseStatus muse_text_walk(const MuseTextList *paths, const MuseTextList *endings,
                          MuseStatus (*found)(void *user, const char *path, MuseDiag *diag), void *user,
                          MuseDiag *diag) {
  Walk w = {endings, found, user, diag};
  struct stat st;
  for (int i = 0; i < paths->len; i++) {
    if (stat(paths->data[i], &st) != 0) return muse_io_error(diag, "read", paths->data[i], errno);
  }
  for (int i = 0; i < paths->len; i++) {
    // A path of the command line is taken as it is, a link or not, whatever its name.
    if (stat(paths->data[i], &st) != 0) continue;
    MUSE_TRY(S_ISDIR(st.st_mode) ? walk_folder(&w, paths->data[i], 0) : found(user, paths->data[i], diag));
  }
  return MUSE_OK;
}

void muse_find_config(const char *name, MuseStr *out) {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  size_t start = out->len;
  muse_str_appendf(out, "configs/%s", name);
  if (access(out->data + start, F_OK) == 0 || n <= 0) return;
  self[n] = 0;
  char *slash = strrchr(self, '/');
  if (slash) *slash = 0;
  MuseStr installed = {0};
  muse_str_appendf(&installed, "%s/../share/muse/configs/%s", self, name);
  if (access(installed.data, F_OK) == 0) {
    out->len = start;
    muse_str_append(out, installed.data);
  }
  muse_str_free(&installed);
}
