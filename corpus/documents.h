#ifndef MUSE_CORPUS_DOCUMENTS_H
#define MUSE_CORPUS_DOCUMENTS_H

#include "corpus/record.h"

#include <signal.h>

// The documents of a file: every line of a JSONL file, every row of a Parquet file, or the whole of a text file. JSONL
// and text files may be gzip- or zstd-compressed.

typedef enum MuseFileKind { MUSE_FILE_OTHER, MUSE_FILE_TEXT, MUSE_FILE_JSONL, MUSE_FILE_PARQUET } MuseFileKind;
// By the ending of the name: .txt .md .text .markdown; .jsonl .ndjson .json (one object a line); .parquet; all but
// .parquet may be followed by .gz or .zst.
MuseFileKind muse_file_kind(const char *name);

typedef enum MuseDocumentVerdict {
  MUSE_DOCUMENT_OK,
  MUSE_DOCUMENT_EMPTY,      // no text: an empty file, a record whose columns are null or empty
  MUSE_DOCUMENT_NOT_TEXT,   // not UTF-8 (nor what --encoding says), or with a NUL
  MUSE_DOCUMENT_TOO_LARGE,
  MUSE_DOCUMENT_NO_JSON,    // a line that is no JSON object
  MUSE_DOCUMENT_DAMAGED,    // compressed data that does not unpack (then the last)
  MUSE_DOCUMENT_UNREADABLE, // an I/O error (then the last)
  MUSE_DOCUMENT_END,
  MUSE_N_DOCUMENT_VERDICTS = MUSE_DOCUMENT_END
} MuseDocumentVerdict;

const char *muse_document_verdict_name(MuseDocumentVerdict verdict); // "no text"

typedef struct MuseDocumentForm {
  const MuseRecordForm *record; // of JSONL and Parquet
  const char *encoding;         // of text files: see muse_text_to_utf8
  uint64_t max_bytes;           // of a document; of a line, twice as much and a bit
  volatile sig_atomic_t *stop;  // set: a line without end is given up; NULL: none
} MuseDocumentForm;

typedef struct MuseDocuments MuseDocuments;

// `form` must live as long as the reader. MUSE_ERR_INPUT: the file cannot be opened, or is no sound Parquet file with
// the columns of the form. MUSE_ERR_FAILED: the reason is not the file's (muse_is_shortage), or an I/O error.
MuseStatus muse_documents_open(const char *path, MuseFileKind kind, const MuseDocumentForm *form,
                               MuseDocuments **out_documents, MuseDiag *diag);
void muse_documents_close(MuseDocuments *documents); // NULL is allowed
// The next document: its text, valid UTF-8 without NUL, replaces *out_text when the verdict is OK. Fails where a file
// is damaged so that nothing after it can be read, or where the first line of a JSONL file lacks a column, or in a
// shortage (muse_is_shortage).
MuseStatus muse_documents_next(MuseDocuments *documents, MuseStr *out_text, MuseDocumentVerdict *out_verdict,
                               MuseDiag *diag);

#endif
