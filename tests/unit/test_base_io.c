// Files: whole reads with a bound, atomic replacement under failure and under concurrent readers, directories, cache.
#include "ir/base/io.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static MuseDiag *diag;
static char root[64]; // a fresh directory for each test, and the working directory of it

static void set_up(void) {
  diag = muse_diag_create();
  strcpy(root, "/tmp/muse-test-io-XXXXXX");
  cr_assert_not_null(mkdtemp(root));
  cr_assert_eq(chdir(root), 0);
}

static void tear_down(void) {
  cr_assert_eq(chdir("/"), 0);
  cr_assert_eq(muse_remove_tree(root, diag), MUSE_OK);
  cr_assert_neq(access(root, F_OK), 0);
  muse_diag_destroy(diag);
}

TestSuite(base_io, .init = set_up, .fini = tear_down);

static void expect_content(const char *path, const char *expected) {
  MuseStr s = {0};
  cr_assert_eq(muse_read_file(path, 1 << 20, &s, diag), MUSE_OK, "%s", muse_diag_message(diag, 0));
  cr_assert_eq(s.len, strlen(expected));
  cr_assert_str_eq(s.data, expected);
  muse_str_free(&s);
}

static int count_entries(const char *path) {
  DIR *dir = opendir(path);
  int n = 0;
  while (readdir(dir)) n++;
  closedir(dir);
  return n - 2;
}

static void write_text(const char *path, const char *text) {
  cr_assert_eq(muse_write_file_atomic(path, text, strlen(text), diag), MUSE_OK, "%s", muse_diag_message(diag, 0));
}

static void expect_error(MuseStatus actual, MuseStatus expected, const char *sentence) {
  cr_assert_eq(actual, expected);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 1);
  cr_assert_str_eq(muse_diag_message(diag, 0), sentence);
  muse_diag_clear(diag);
}

Test(base_io, write_then_read) {
  write_text("a", "first");
  expect_content("a", "first");
  write_text("a", "");
  expect_content("a", "");
  cr_assert_eq(count_entries("."), 1, "no temporary file stays");
}

Test(base_io, binary_content_and_reuse_of_the_buffer) {
  char data[200000];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 31 + i / 251);
  cr_assert_eq(muse_write_file_atomic("b", data, sizeof data, diag), MUSE_OK);
  MuseStr s = {0};
  muse_str_append(&s, "what was there before");
  cr_assert_eq(muse_read_file("b", sizeof data, &s, diag), MUSE_OK);
  cr_assert_eq(s.len, sizeof data);
  cr_assert_eq(memcmp(s.data, data, sizeof data), 0);
  cr_assert_eq(s.data[s.len], 0);
  muse_str_free(&s);
}

Test(base_io, read_refuses_with_a_reason) {
  MuseStr s = {0};
  expect_error(muse_read_file("none", 10, &s, diag), MUSE_ERR_INPUT, "cannot read 'none': No such file or directory");
  expect_error(muse_read_file(".", 10, &s, diag), MUSE_ERR_INPUT,
               "cannot read '.': it is a directory, give the path of a regular file");
  write_text("big", "12345678901");
  expect_error(muse_read_file("big", 10, &s, diag), MUSE_ERR_INPUT,
               "cannot read 'big': it is larger than the 10 bytes such a file may have");
  cr_assert_eq(s.len, 0);
  cr_assert_eq(muse_read_file("big", 11, &s, diag), MUSE_OK);
  muse_str_free(&s);
}

Test(base_io, read_of_a_pipe_does_not_wait, .timeout = 5) {
  cr_assert_eq(mkfifo("pipe", 0600), 0);
  MuseStr s = {0};
  expect_error(muse_read_file("pipe", 10, &s, diag), MUSE_ERR_INPUT,
               "cannot read 'pipe': it is no regular file, give the path of a regular file");
  muse_str_free(&s);
}

Test(base_io, files_of_proc_say_size_zero_and_are_read_all_the_same) {
  MuseStr s = {0};
  cr_assert_eq(muse_read_file("/proc/self/status", 1 << 20, &s, diag), MUSE_OK);
  cr_assert(muse_str_starts_with(muse_str_text(&s), "Name:"));
  expect_error(muse_read_file("/proc/self/status", 16, &s, diag), MUSE_ERR_INPUT,
               "cannot read '/proc/self/status': it is larger than the 16 bytes such a file may have");
  muse_str_free(&s);
}

Test(base_io, abort_keeps_the_old_file) {
  write_text("a", "old");
  MuseAtomicFile f;
  cr_assert_eq(muse_atomic_open("a", &f, diag), MUSE_OK);
  fputs("new", f.file);
  fflush(f.file);
  expect_content("a", "old");
  cr_assert_eq(count_entries("."), 2);
  muse_atomic_abort(&f);
  expect_content("a", "old");
  cr_assert_eq(count_entries("."), 1);
}

Test(base_io, finish_commits_piecemeal_content) {
  MuseAtomicFile f;
  cr_assert_eq(muse_atomic_open("a", &f, diag), MUSE_OK);
  for (int i = 0; i < 1000; i++) fprintf(f.file, "%d\n", i % 10);
  cr_assert_neq(access("a", F_OK), 0, "nothing is to be seen before the commit");
  cr_assert_eq(muse_atomic_finish(&f, diag), MUSE_OK);
  cr_assert_null(f.file);
  MuseStr s = {0};
  cr_assert_eq(muse_read_file("a", 1 << 20, &s, diag), MUSE_OK);
  cr_assert_eq(s.len, 2000);
  muse_str_free(&s);
}

Test(base_io, failing_write_keeps_the_old_file_and_cleans_up) {
  write_text("a", "old");
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit saved, limit;
  getrlimit(RLIMIT_FSIZE, &saved);
  limit = (struct rlimit){.rlim_cur = 8192, .rlim_max = saved.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  static char data[100000];
  MuseStatus status = muse_write_file_atomic("a", data, sizeof data, diag);
  setrlimit(RLIMIT_FSIZE, &saved);
  expect_error(status, MUSE_ERR_FAILED, "cannot write 'a': File too large");
  expect_content("a", "old");
  cr_assert_eq(count_entries("."), 1);
}

Test(base_io, write_errors_name_the_path) {
  expect_error(muse_write_file_atomic("no/such/dir", "x", 1, diag), MUSE_ERR_INPUT,
               "cannot write 'no/such/dir': No such file or directory");
  expect_error(muse_write_file_atomic(".", "x", 1, diag), MUSE_ERR_INPUT,
               "cannot write '.': it is a directory, give the path of a file");
  expect_error(muse_write_file_atomic("/dev/full", "x", 1, diag), MUSE_ERR_FAILED,
               "cannot write '/dev/full': No space left on device");
}

Test(base_io, devices_are_written_not_replaced) {
  write_text("/dev/null", "gone");
  struct stat info;
  cr_assert_eq(stat("/dev/null", &info), 0);
  cr_assert(S_ISCHR(info.st_mode));
}

Test(base_io, symbolic_links_stay) {
  write_text("target", "old");
  cr_assert_eq(symlink("target", "link"), 0);
  write_text("link", "new");
  struct stat info;
  cr_assert_eq(lstat("link", &info), 0);
  cr_assert(S_ISLNK(info.st_mode));
  expect_content("target", "new");
}

Test(base_io, umask_decides_the_mode) {
  umask(027);
  write_text("a", "x");
  struct stat info;
  cr_assert_eq(stat("a", &info), 0);
  cr_assert_eq(info.st_mode & 0777, 0640);
}

// A reader that looks at any moment sees one whole version.
Test(base_io, readers_never_see_a_part, .timeout = 20) {
  enum { N = 100000, ROUNDS = 60 };
  static char data[N];
  memset(data, 'A', N);
  cr_assert_eq(muse_write_file_atomic("a", data, N, diag), MUSE_OK);
  pid_t writer = fork();
  if (writer == 0) {
    for (int i = 0; i < ROUNDS; i++) {
      memset(data, 'A' + i % 26, N);
      if (muse_write_file_atomic("a", data, N, NULL) != MUSE_OK) _exit(1);
    }
    _exit(0);
  }
  MuseStr s = {0};
  int state = 0;
  while (waitpid(writer, &state, WNOHANG) == 0) {
    cr_assert_eq(muse_read_file("a", N, &s, diag), MUSE_OK);
    cr_assert_eq(s.len, N);
    for (int i = 1; i < N; i++) cr_assert_eq(s.data[i], s.data[0]);
  }
  cr_assert(WIFEXITED(state) && WEXITSTATUS(state) == 0);
  muse_str_free(&s);
}

Test(base_io, make_dirs) {
  cr_assert_eq(muse_make_dirs("x/y//z/", 0755, diag), MUSE_OK);
  cr_assert_eq(muse_make_dirs("x/y/z", 0755, diag), MUSE_OK, "what exists is fine");
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/abs/b", root);
  cr_assert_eq(muse_make_dirs(path, 0700, diag), MUSE_OK);
  struct stat info;
  cr_assert_eq(stat("abs/b", &info), 0);
  cr_assert(S_ISDIR(info.st_mode) && (info.st_mode & 0777) == 0700);
  write_text("file", "x");
  expect_error(muse_make_dirs("file/below", 0755, diag), MUSE_ERR_INPUT,
               "cannot create the directory 'file': Not a directory");
  expect_error(muse_make_dirs("", 0755, diag), MUSE_ERR_INPUT,
               "cannot create a directory with an empty name; give a path");
}

Test(base_io, sync_dir) {
  cr_assert_eq(muse_sync_dir(".", diag), MUSE_OK);
  expect_error(muse_sync_dir("none", diag), MUSE_ERR_INPUT,
               "cannot open the directory 'none': No such file or directory");
}

Test(base_io, remove_tree_stays_inside_the_tree) {
  cr_assert_eq(muse_make_dirs("keep/inner", 0755, diag), MUSE_OK);
  write_text("keep/inner/f", "x");
  cr_assert_eq(muse_make_dirs("tree/a/b", 0755, diag), MUSE_OK);
  write_text("tree/a/b/f", "x");
  write_text("tree/.hidden", "x");
  cr_assert_eq(symlink("../keep", "tree/link"), 0);
  cr_assert_eq(muse_remove_tree("tree", diag), MUSE_OK);
  cr_assert_neq(access("tree", F_OK), 0);
  expect_content("keep/inner/f", "x");
  cr_assert_eq(symlink("keep", "link"), 0);
  cr_assert_eq(muse_remove_tree("link", diag), MUSE_OK);
  expect_content("keep/inner/f", "x");
  cr_assert_eq(muse_remove_tree("keep/inner/f", diag), MUSE_OK, "a file is a tree, too");
  cr_assert_eq(muse_remove_tree("never-was", diag), MUSE_OK);
  cr_assert_eq(muse_diag_count(diag, MUSE_ERROR), 0);
}

Test(base_io, remove_tree_refuses_root_and_dots) {
  static const char *const paths[] = {"", "/", "//", ".", "..", "./", "../.."};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    cr_assert_eq(muse_remove_tree(paths[i], diag), MUSE_ERR_INPUT, "'%s'", paths[i]);
    cr_assert(muse_str_starts_with(muse_diag_message(diag, 0), "refusing to remove '"));
    muse_diag_clear(diag);
  }
}

Test(base_io, cache_dir_follows_the_environment) {
  MuseStr s = {0}, expected = {0};
  struct stat info;
  setenv("HOME", root, 1);
  unsetenv("MUSE_CACHE_DIR");
  setenv("XDG_CACHE_HOME", "relative/is/ignored", 1);
  cr_assert_eq(muse_cache_dir(&s, diag), MUSE_OK);
  muse_str_appendf(&expected, "%s/.cache/muse", root);
  cr_assert_str_eq(s.data, expected.data);
  cr_assert_eq(stat(s.data, &info), 0);
  cr_assert_eq(info.st_mode & 0777, 0700);

  muse_str_clear(&expected);
  muse_str_appendf(&expected, "%s/xdg", root);
  setenv("XDG_CACHE_HOME", expected.data, 1);
  muse_str_append(&expected, "/muse");
  cr_assert_eq(muse_cache_dir(&s, diag), MUSE_OK);
  cr_assert_str_eq(s.data, expected.data);

  setenv("MUSE_CACHE_DIR", "own", 1);
  cr_assert_eq(muse_cache_dir(&s, diag), MUSE_OK);
  cr_assert_str_eq(s.data, "own");
  cr_assert_eq(stat("own", &info), 0);

  cr_assert_eq(chmod("own", 0777), 0);
  expect_error(muse_cache_dir(&s, diag), MUSE_ERR_INPUT,
               "the cache directory 'own' can be written by other users, and its contents are executed; make it yours "
               "alone (chmod 700) or set MUSE_CACHE_DIR to another directory");

  unsetenv("MUSE_CACHE_DIR"), unsetenv("XDG_CACHE_HOME"), unsetenv("HOME");
  expect_error(muse_cache_dir(&s, diag), MUSE_ERR_INPUT,
               "no place for the kernel cache: HOME is not set; set MUSE_CACHE_DIR to a directory");
  muse_str_free(&s);
  muse_str_free(&expected);
}
