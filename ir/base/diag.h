#ifndef MUSE_IR_BASE_DIAG_H
#define MUSE_IR_BASE_DIAG_H

#include "ir/base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// Place in a text file. line and col count from 1, col in characters (a byte that is not UTF-8 counts as one);
// line 0: no place is known, col 0: no column is known.
typedef struct MuseLoc {
  const char *file; // owned by somebody who lives longer than the location; NULL: unknown
  int line, col;
  const char *key;  // the configuration key the thing came from, or NULL
} MuseLoc;

typedef enum MuseSeverity { MUSE_NOTE, MUSE_WARNING, MUSE_ERROR } MuseSeverity;

// Collects messages (all are counted; the first 1000 of each severity are kept, each cut at 4000 bytes).
// A fallible function puts one sentence in and returns a status; only main() prints.
// Where a MuseDiag is asked for, NULL is allowed: the sentence is dropped and the status returned.
typedef struct MuseDiag MuseDiag;

MuseDiag *muse_diag_create(void);
void muse_diag_destroy(MuseDiag *diag);
void muse_diag_clear(MuseDiag *diag);

// Text of the file that locations point into, so that a message can show the line with a caret. Copied.
void muse_diag_set_source(MuseDiag *diag, const char *file, const char *text, size_t length);

// All of them return `status` so that a caller can write: return muse_error(diag, MUSE_ERR_INPUT, "...", ...);
// The sentence has no final newline and names the way out.
MuseStatus muse_error(MuseDiag *diag, MuseStatus status, const char *format, ...) __attribute__((format(printf, 3, 4)));
MuseStatus muse_error_at(MuseDiag *diag, MuseStatus status, MuseLoc loc, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void muse_warning_at(MuseDiag *diag, MuseLoc loc, const char *format, ...) __attribute__((format(printf, 3, 4)));
void muse_note_at(MuseDiag *diag, MuseLoc loc, const char *format, ...) __attribute__((format(printf, 3, 4)));
MuseStatus muse_errorv(MuseDiag *diag, MuseStatus status, MuseLoc loc, const char *format, va_list args);

size_t muse_diag_count(const MuseDiag *diag, MuseSeverity severity);
const char *muse_diag_message(const MuseDiag *diag, size_t index); // the sentence alone; NULL past the end
MuseLoc muse_diag_loc(const MuseDiag *diag, size_t index);
MuseSeverity muse_diag_severity(const MuseDiag *diag, size_t index);

// Prints all messages: "file:3:7: error: unknown key 'd_modle'; did you mean 'd_model'?", then the source line and a
// caret; a key of the location that the sentence does not name is added: "(from key 'd_model')".
// Control characters of file contents are shown escaped; colour only on a TTY without NO_COLOR.
void muse_diag_print(const MuseDiag *diag, FILE *out);

#endif
