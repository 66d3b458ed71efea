// Whole files in and out. Nothing that MUSE writes can be seen half done: content goes to a temporary file beside the
// target, reaches the disk, and is renamed over the target.
#include "ir/base/io.h"

#include "ir/base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// What the user can mend is bad input; the rest (disk full, I/O error) is a failed run.
static MuseStatus status_of_errno(int code) {
  switch (code) {
  case ENOENT:
  case EACCES:
  case EPERM:
  case EISDIR:
  case ENOTDIR:
  case ENAMETOOLONG:
  case ELOOP:
  case ENXIO: return MUSE_ERR_INPUT;
  default: return MUSE_ERR_FAILED;
  }
}

bool muse_is_shortage(int code) { return code == EMFILE || code == ENFILE || code == ENOMEM; }

MuseStatus muse_io_error(MuseDiag *diag, const char *action, const char *path, int code) {
  const char *way_out = code == EMFILE   ? "; raise the limit of open files (ulimit -n) and run the same command again"
                        : code == ENFILE ? "; close other programs and run the same command again"
                        : code == ENOMEM ? "; free memory and run the same command again"
                                         : "";
  muse_error(diag, status_of_errno(code), "cannot %s '%s': %s%s", action, path, strerror(code), way_out);
  errno = code;
  return status_of_errno(code);
}

static char *duplicate(const char *text) {
  char *copy = strdup(text);
  if (!copy) muse_out_of_memory(strlen(text) + 1);
  return copy;
}

// Opens a regular file for reading. O_NONBLOCK so that a pipe is refused instead of waited for.
static MuseStatus open_regular(const char *path, int *out_fd, struct stat *out_info, MuseDiag *diag) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return muse_io_error(diag, "read", path, errno);
  if (fstat(fd, out_info) != 0) {
    int code = errno;
    close(fd);
    return muse_io_error(diag, "read", path, code);
  }
  if (!S_ISREG(out_info->st_mode)) {
    close(fd);
    return muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s': it is %s, give the path of a regular file", path,
                      S_ISDIR(out_info->st_mode) ? "a directory" : "no regular file");
  }
  *out_fd = fd;
  return MUSE_OK;
}

static MuseStatus error_too_large(const char *path, uint64_t max_bytes, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s': it is larger than the %llu bytes such a file may have",
                    path, (unsigned long long)max_bytes);
}

// Reads until the end of the file, not up to the size in its inode: files in /proc say 0, and others may be growing.
static MuseStatus read_all(int fd, const char *path, uint64_t max_bytes, MuseStr *out, MuseDiag *diag) {
  char buffer[65536];
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return muse_io_error(diag, "read", path, errno);
    if (n == 0) return MUSE_OK;
    if ((uint64_t)n > max_bytes - out->len) return error_too_large(path, max_bytes, diag);
    muse_str_append_n(out, buffer, (size_t)n);
  }
}

MuseStatus muse_read_file(const char *path, uint64_t max_bytes, MuseStr *out, MuseDiag *diag) {
  muse_str_clear(out);
  struct stat info;
  int fd = -1;
  MUSE_TRY(open_regular(path, &fd, &info, diag));
  MuseStatus status;
  if ((uint64_t)info.st_size > max_bytes) {
    status = error_too_large(path, max_bytes, diag);
  } else {
    size_t need = (size_t)info.st_size + 1;
    if (need > out->cap) out->data = muse_vec_grow(out->data, &out->cap, need, 1);
    out->data[0] = 0;
    status = read_all(fd, path, max_bytes, out, diag);
  }
  close(fd);
  if (status != MUSE_OK) muse_str_clear(out);
  return status;
}

MuseStatus muse_sync_dir(const char *path, MuseDiag *diag) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return muse_io_error(diag, "open the directory", path, errno);
  int code = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  // Some file systems cannot sync a directory and say EINVAL; there is nothing better to do there.
  return code == 0 || code == EINVAL ? MUSE_OK : muse_io_error(diag, "sync the directory", path, code);
}

static MuseStatus sync_parent(const char *path, MuseDiag *diag) {
  const char *slash = strrchr(path, '/');
  MuseStr parent = {0};
  if (!slash) muse_str_append(&parent, ".");
  else muse_str_append_n(&parent, path, slash == path ? 1 : (size_t)(slash - path));
  MuseStatus status = muse_sync_dir(parent.data, diag);
  muse_str_free(&parent);
  return status;
}

// A new file beside `path`. open() instead of mkstemp(), so that the user's umask decides who may read the result.
static int open_temporary(const char *path, char **out_temporary) {
  static atomic_uint counter;
  for (;;) {
    MuseStr name = {0};
    muse_str_appendf(&name, "%s.%ld.%u.tmp", path, (long)getpid(), atomic_fetch_add(&counter, 1));
    int fd = open(name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) *out_temporary = name.data;
    else muse_str_free(&name);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
}

MuseStatus muse_atomic_open(const char *path, MuseAtomicFile *out, MuseDiag *diag) {
  *out = (MuseAtomicFile){0};
  struct stat info;
  bool exists = stat(path, &info) == 0;
  if (exists && S_ISDIR(info.st_mode))
    return muse_error(diag, MUSE_ERR_INPUT, "cannot write '%s': it is a directory, give the path of a file", path);
  // realpath: a symbolic link keeps pointing where it points, and the temporary file lies on the target's file system.
  char *real = exists ? realpath(path, NULL) : NULL;
  MuseAtomicFile f = {.path = real ? real : duplicate(path)};
  // A device or pipe is not replaced by a file (root could rename over /dev/null).
  int fd = exists && !S_ISREG(info.st_mode) ? open(path, O_WRONLY | O_CLOEXEC) : open_temporary(f.path, &f.temporary);
  if (fd >= 0) f.file = fdopen(fd, "wb");
  if (!f.file) {
    MuseStatus status = muse_io_error(diag, "write", path, errno);
    if (fd >= 0) close(fd);
    muse_atomic_abort(&f);
    return status;
  }
  *out = f;
  return MUSE_OK;
}

MuseStatus muse_atomic_open_kept(const char *path, const char *temporary, MuseAtomicFile *out, MuseDiag *diag) {
  *out = (MuseAtomicFile){0};
  struct stat info;
  bool exists = stat(path, &info) == 0;
  if (exists && !S_ISREG(info.st_mode))
    return muse_error(diag, MUSE_ERR_INPUT, "cannot write '%s': it is %s, give the path of a file", path,
                      S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
  char *real = exists ? realpath(path, NULL) : NULL;
  MuseAtomicFile f = {.path = real ? real : duplicate(path), .kept = true};
  int fd = open(temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd >= 0) f.file = fdopen(fd, "r+b");
  if (!f.file) {
    MuseStatus status = muse_io_error(diag, "write", temporary, errno);
    if (fd >= 0) close(fd);
    muse_atomic_abort(&f);
    return status;
  }
  f.temporary = duplicate(temporary);
  *out = f;
  return MUSE_OK;
}

void muse_atomic_abort(MuseAtomicFile *f) {
  if (f->file) fclose(f->file);
  if (f->temporary && !f->kept) unlink(f->temporary);
  free(f->temporary);
  free(f->path);
  *f = (MuseAtomicFile){0};
}

MuseStatus muse_atomic_finish(MuseAtomicFile *f, MuseDiag *diag) {
  MUSE_ASSERT(f->file);
  int code = 0;
  if (fflush(f->file) != 0) code = errno;
  else if (ferror(f->file)) code = EIO; // an earlier write failed and its errno is gone
  else if (f->temporary && fsync(fileno(f->file)) != 0) code = errno;
  if (fclose(f->file) != 0 && code == 0) code = errno;
  f->file = NULL;
  if (code == 0 && f->temporary && rename(f->temporary, f->path) != 0) code = errno;
  MuseStatus status = MUSE_OK;
  if (code != 0) {
    status = muse_io_error(diag, "write", f->path, code);
  } else if (f->temporary) {
    free(f->temporary);
    f->temporary = NULL;
    status = sync_parent(f->path, diag);
  }
  muse_atomic_abort(f);
  return status;
}

MuseStatus muse_write_file_atomic(const char *path, const void *data, size_t bytes, MuseDiag *diag) {
  MuseAtomicFile f;
  MUSE_TRY(muse_atomic_open(path, &f, diag));
  if (bytes && fwrite(data, 1, bytes, f.file) != bytes) {
    MuseStatus status = muse_io_error(diag, "write", path, errno);
    muse_atomic_abort(&f);
    return status;
  }
  return muse_atomic_finish(&f, diag);
}

static MuseStatus make_one_dir(const char *path, unsigned mode, MuseDiag *diag) {
  if (mkdir(path, (mode_t)mode) == 0) return MUSE_OK;
  int code = errno;
  struct stat info;
  if (stat(path, &info) == 0) {
    if (S_ISDIR(info.st_mode)) return MUSE_OK;
    code = ENOTDIR;
  } else if (code == EEXIST) { // a link that leads nowhere, or around
    code = errno;
  }
  return muse_io_error(diag, "create the directory", path, code);
}

MuseStatus muse_make_dirs(const char *path, unsigned mode, MuseDiag *diag) {
  if (!*path) return muse_error(diag, MUSE_ERR_INPUT, "cannot create a directory with an empty name; give a path");
  char *copy = duplicate(path);
  MuseStatus status = MUSE_OK;
  for (char *p = copy + 1; status == MUSE_OK && *p; p++) {
    if (*p != '/' || p[-1] == '/') continue;
    *p = 0;
    status = make_one_dir(copy, mode, diag);
    *p = '/';
  }
  if (status == MUSE_OK) status = make_one_dir(copy, mode, diag);
  free(copy);
  return status;
}

MuseStatus muse_make_parent_dirs(const char *path, MuseDiag *diag) {
  const char *slash = strrchr(path, '/');
  if (!slash || slash == path) return MUSE_OK;
  char *folder = duplicate(path);
  folder[slash - path] = 0;
  MuseStatus status = muse_make_dirs(folder, 0777, diag);
  free(folder);
  return status;
}

// Removes the entry `name` of the open directory `parent`, with everything below it. Works on descriptors and never
// follows a link, so that nothing outside the tree can be reached. Returns 0 or an errno.
static int remove_entry(int parent, const char *name) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR) return errno;
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno;
  DIR *dir = fdopendir(fd);
  if (!dir) {
    int code = errno;
    close(fd);
    return code;
  }
  int code = 0;
  for (struct dirent *entry; code == 0 && (entry = readdir(dir));)
    if (!muse_str_eq(entry->d_name, ".") && !muse_str_eq(entry->d_name, "..")) code = remove_entry(fd, entry->d_name);
  closedir(dir);
  if (code == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) code = errno;
  return code;
}

MuseStatus muse_remove_tree(const char *path, MuseDiag *diag) {
  if (strspn(path, "/.") == strlen(path))
    return muse_error(diag, MUSE_ERR_INPUT, "refusing to remove '%s'; give the path of a directory by its name", path);
  int code = remove_entry(AT_FDCWD, path);
  return code == 0 ? MUSE_OK : muse_io_error(diag, "remove", path, code);
}

static MuseStatus check_private(const char *path, MuseDiag *diag) {
  struct stat info;
  if (stat(path, &info) != 0) return muse_io_error(diag, "use the cache directory", path, errno);
  if ((info.st_uid == geteuid() || info.st_uid == 0) && !(info.st_mode & S_IWOTH)) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT,
                    "the cache directory '%s' can be written by other users, and its contents are executed; make it "
                    "yours alone (chmod 700) or set MUSE_CACHE_DIR to another directory",
                    path);
}

MuseStatus muse_cache_dir(MuseStr *out, MuseDiag *diag) {
  muse_str_clear(out);
  const char *own = getenv("MUSE_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (own && *own) muse_str_append(out, own);
  else if (xdg && xdg[0] == '/') muse_str_appendf(out, "%s/muse", xdg); // XDG: a relative path is to be ignored
  else if (home && *home) muse_str_appendf(out, "%s/.cache/muse", home);
  else
    return muse_error(diag, MUSE_ERR_INPUT,
                      "no place for the kernel cache: HOME is not set; set MUSE_CACHE_DIR to a directory");
  MUSE_TRY(muse_make_dirs(out->data, 0700, diag));
  return check_private(out->data, diag);
}
