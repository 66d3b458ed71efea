// libFuzzer: any bytes as metrics.jsonl. Whatever it says, a report can be made of it, whose page is UTF-8 text, holds
// no markup but its own, and draws at finite places.
#include "corpus/encoding.h"
#include "runtime/report_history.h"
#include "tests/fuzz/fuzz_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

// Texts of the run are escaped, so a '<' begins a tag of the report's own.
static void check_tag(const char *tag, size_t length) {
  MUSE_ASSERT(!starts(tag, "<script") && !starts(tag, "<img") && !starts(tag, "<iframe"));
  if (!starts(tag, "<path") && !starts(tag, "<line") && !starts(tag, "<circle") && !starts(tag, "<rect")) return;
  for (size_t i = 0; i + 3 <= length; i++) MUSE_ASSERT(!starts(tag + i, "nan") && !starts(tag + i, "inf"));
}

static void check_page(const MuseStr *page) {
  MUSE_ASSERT(muse_text_is_utf8(page->data, page->len, NULL));
  for (const char *p = page->data; (p = strchr(p, '<')); p++) {
    const char *end = strchr(p, '>');
    MUSE_ASSERT(end);
    check_tag(p, (size_t)(end - p));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static int fd = -1;
  char path[64];
  fuzz_file(&fd, bytes, size, path);
  MuseDiag *diag = muse_diag_create();
  MuseHistory history;
  MuseStr page = {0};
  MUSE_ASSERT(muse_history_read(path, &history, diag) == MUSE_OK);
  MUSE_ASSERT(history.damaged >= 0 && history.damaged <= history.lines);
  muse_report_page(&history, "runs/<a & \"b\">", &page);
  check_page(&page);
  muse_str_free(&page);
  muse_history_free(&history);
  muse_diag_destroy(diag);
  return 0;
}
