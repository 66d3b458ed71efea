#ifndef MUSE_TESTS_UNIT_SCRATCH_H
#define MUSE_TESTS_UNIT_SCRATCH_H

// A folder of its own for each test, files in it, and checks of statuses with their message.

#include "ir/base/io.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_dir[64];
static MuseDiag *diag;

static inline void scratch_setup(void) {
  snprintf(scratch_dir, sizeof scratch_dir, "/tmp/muse-test-XXXXXX");
  cr_assert_not_null(mkdtemp(scratch_dir));
  diag = muse_diag_create();
}

static inline void scratch_teardown(void) {
  muse_diag_clear(diag);
  cr_expect_eq(muse_remove_tree(scratch_dir, diag), MUSE_OK);
  muse_diag_destroy(diag);
}

// DIR/name; valid until the 16th next call.
static inline const char *scratch(const char *name) {
  static char paths[16][400];
  static int next;
  char *path = paths[next++ % 16];
  snprintf(path, sizeof paths[0], "%s/%s", scratch_dir, name);
  return path;
}

static inline const char *scratch_file(const char *name, const void *data, size_t bytes) {
  const char *path = scratch(name);
  cr_assert_eq(muse_write_file_atomic(path, data, bytes, diag), MUSE_OK);
  return path;
}

#define assert_ok(expr)                                                                   \
  do {                                                                                    \
    MuseStatus assert_status = (expr);                                                    \
    cr_assert_eq(assert_status, MUSE_OK, "status %d: %s", assert_status,                  \
                 muse_diag_message(diag, 0) ? muse_diag_message(diag, 0) : "no message"); \
  } while (0)

// The call fails with that status, and one of its new messages contains the text. Messages are cleared.
#define assert_fails(expr, expected_status, text)                                                                      \
  do {                                                                                                                 \
    muse_diag_clear(diag);                                                                                             \
    MuseStatus assert_status = (expr);                                                                                 \
    cr_assert_eq(assert_status, (expected_status), "status %d", assert_status);                                        \
    cr_assert(scratch_said(text), "said '%s', not '%s'", muse_diag_message(diag, 0) ? muse_diag_message(diag, 0) : "", \
              (text));                                                                                                 \
    muse_diag_clear(diag);                                                                                             \
  } while (0)

static inline bool scratch_said(const char *text) {
  const char *message;
  for (size_t i = 0; (message = muse_diag_message(diag, i)); i++) {
    if (strstr(message, text)) return true;
  }
  return false;
}

#endif
