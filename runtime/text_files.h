#ifndef MUSE_RUNTIME_TEXT_FILES_H
#define MUSE_RUNTIME_TEXT_FILES_H

#include "ir/base/diag.h"
#include "ir/base/options.h"
#include "ir/base/str.h"

#include <stdint.h>

// Finding text under folders and reading it. Text is any regular file that is valid UTF-8 without NUL, compressed with
// gzip or zstd or not; it never matters what a file is called.

typedef enum MuseTextVerdict {
  MUSE_TEXT_OK,
  MUSE_TEXT_EMPTY,
  MUSE_TEXT_BINARY,     // a NUL, or not UTF-8
  MUSE_TEXT_UNREADABLE, // no permission, gone, an I/O error
  MUSE_TEXT_DAMAGED,    // gzip or zstd data that does not decompress
  MUSE_TEXT_TOO_LARGE,  // longer than the limit of the call
  MUSE_TEXT_NO_JSON,    // of JSONL files: a line that is no JSON object
  MUSE_TEXT_STOPPED,    // the callback returned false
  MUSE_TEXT_SHORTAGE,   // not read for a reason that is not the file's (muse_is_shortage), which errno holds
  MUSE_N_TEXT_VERDICTS = MUSE_TEXT_SHORTAGE // of a file
} MuseTextVerdict;

const char *muse_text_verdict_name(MuseTextVerdict verdict); // "not UTF-8 text"

// Calls `piece` with the text of a file, decompressed, in pieces of at most 64 KiB, as long as it returns true; checks
// that all of it is text. Pieces that came before a bad byte have been delivered. piece NULL: only checks.
MuseTextVerdict muse_text_stream(const char *path, uint64_t max_bytes,
                                 bool (*piece)(void *user, const char *text, size_t n), void *user);
// The whole text of a file of at most max_bytes, appended to out (which holds a part of it after another verdict).
MuseTextVerdict muse_text_read(const char *path, uint64_t max_bytes, MuseStr *out);

// Calls `found` for every regular file under each path, in the order of the paths and within a folder in byte order of
// the names, so that the same tree always gives the same list. Symbolic links inside folders and names that start with
// a dot are left out. `endings` (may be empty): only names with one of these endings, which may be followed by ".gz" or
// ".zst".
// Stops when `found` returns another status than MUSE_OK, and returns that. MUSE_ERR_INPUT when a path does not exist.
// A folder that cannot be read is left out with a warning; in a shortage (muse_is_shortage) the walk ends with
// MUSE_ERR_FAILED.
MuseStatus muse_text_walk(const MuseTextList *paths, const MuseTextList *endings,
                          MuseStatus (*found)(void *user, const char *path, MuseDiag *diag), void *user,
                          MuseDiag *diag);

// Appends the path of a file of configs/: the one here, or that which was installed with the program.
void muse_find_config(const char *name, MuseStr *out);

#endif
