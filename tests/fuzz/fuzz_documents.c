// libFuzzer: any bytes as a file of documents, packed or not; the first byte chooses what it is read as. Every document
// that comes of it is UTF-8 text of the length that is allowed, and stays text when it is normalised.
#include "corpus/documents.h"
#include "corpus/encoding.h"
#include "tests/fuzz/fuzz_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { MAX_DOCUMENT = 20000, MAX_DOCUMENTS = 20000 };

static void read_all(const char *path, MuseFileKind kind, const MuseDocumentForm *form, MuseDiag *diag) {
  MuseDocuments *documents;
  MuseStr text = {0};
  MuseDocumentVerdict verdict = MUSE_DOCUMENT_OK;
  MUSE_ASSERT(muse_documents_open(path, kind, form, &documents, diag) == MUSE_OK);
  for (int i = 0; i < MAX_DOCUMENTS && verdict != MUSE_DOCUMENT_END; i++) {
    if (muse_documents_next(documents, &text, &verdict, diag) != MUSE_OK) {
      MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
      break;
    }
    MUSE_ASSERT(verdict <= MUSE_DOCUMENT_END && verdict != MUSE_DOCUMENT_UNREADABLE);
    if (verdict != MUSE_DOCUMENT_OK) continue;
    MUSE_ASSERT(text.len > 0 && text.len <= 4 * MAX_DOCUMENT && muse_text_is_utf8(text.data, text.len, NULL));
    muse_text_nfkc(&text);
    MUSE_ASSERT(muse_text_is_utf8(muse_str_text(&text), text.len, NULL));
  }
  muse_str_free(&text);
  muse_documents_close(documents);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *const encodings[] = {NULL, "SHIFT_JIS", "EUC-JP", "ISO-2022-JP"};
  static int fd = -1;
  if (size < 1) return 0;
  char path[64];
  fuzz_file(&fd, bytes + 1, size - 1, path);
  MuseDiag *diag = muse_diag_create();
  MuseArena *arena = muse_arena_create();
  MuseRecordForm form;
  if (bytes[0] & 1) muse_record_form_column("text", arena, &form);
  else MUSE_ASSERT(muse_record_form_template("{a}[\n{text}]", (MuseLoc){0}, arena, &form, diag) == MUSE_OK);
  MuseDocumentForm how = {&form, encodings[bytes[0] >> 1 & 3], MAX_DOCUMENT};
  read_all(path, bytes[0] & 8 ? MUSE_FILE_TEXT : MUSE_FILE_JSONL, &how, diag);
  muse_arena_destroy(arena);
  muse_diag_destroy(diag);
  return 0;
}
