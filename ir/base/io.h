#ifndef MUSE_IR_BASE_IO_H
#define MUSE_IR_BASE_IO_H

#include "ir/base/diag.h"
#include "ir/base/str.h"

#include <stdbool.h>
#include <stdint.h>

// Whether an errno says that this process or this machine has run out of something (file descriptors, memory). It says
// nothing about the file then: who goes through many of them must not leave this one out and go on.
bool muse_is_shortage(int code);
// "cannot ACTION 'PATH': REASON", with the way out of a shortage. MUSE_ERR_INPUT for what the user can mend in the
// path, else MUSE_ERR_FAILED. errno is `code` afterwards.
MuseStatus muse_io_error(MuseDiag *diag, const char *action, const char *path, int code);

// Reads a whole regular file of at most `max_bytes` into *out (replaced). Errors name the path and the reason; after
// MUSE_ERR_FAILED errno holds it, too.
MuseStatus muse_read_file(const char *path, uint64_t max_bytes, MuseStr *out, MuseDiag *diag);

// Writes beside the path, fsyncs, renames over it and fsyncs the directory: readers see the old file or the whole new
// one. A path that is no regular file (/dev/stdout, a pipe) is written directly; a symbolic link stays, its target is
// replaced.
MuseStatus muse_write_file_atomic(const char *path, const void *data, size_t bytes, MuseDiag *diag);

// The same for content that is written piecemeal: write to `file`, then finish (commit) or abort (the old file stays).
typedef struct MuseAtomicFile { FILE *file; char *path, *temporary; bool kept; } MuseAtomicFile;
MuseStatus muse_atomic_open(const char *path, MuseAtomicFile *out, MuseDiag *diag);
MuseStatus muse_atomic_finish(MuseAtomicFile *f, MuseDiag *diag); // fsync + rename + fsync directory
void muse_atomic_abort(MuseAtomicFile *f);
// The same with a temporary file under a name of one's own, on the file system of `path`, that abort keeps for a later
// process: what it holds already stays, and `file` can be read, too.
MuseStatus muse_atomic_open_kept(const char *path, const char *temporary, MuseAtomicFile *out, MuseDiag *diag);

MuseStatus muse_make_dirs(const char *path, unsigned mode, MuseDiag *diag); // mkdir -p
MuseStatus muse_make_parent_dirs(const char *path, MuseDiag *diag);         // of a file to be, mode 0777
MuseStatus muse_sync_dir(const char *path, MuseDiag *diag);
MuseStatus muse_remove_tree(const char *path, MuseDiag *diag); // a missing path is fine

// $XDG_CACHE_HOME/muse or ~/.cache/muse, or $MUSE_CACHE_DIR as it stands; created 0700. Refused when
// another user could write there: what is in the cache is executed.
MuseStatus muse_cache_dir(MuseStr *out, MuseDiag *diag);

#endif
