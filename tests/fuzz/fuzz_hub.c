// libFuzzer: any bytes as answers of a hub, in place of corpus/http.c. The first byte chooses the question. An answer
// is lines of headers, an empty line, and a body, up to a NUL; there are at most three. Nothing that a hub says may
// become a path outside of the cache or a hash that is none.
#include "corpus/http_headers.h"
#include "corpus/hub.h"
#include "tests/fuzz/fuzz_file.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct { const char *at; size_t left; int n_given; } answers;

void muse_http_answer_free(MuseHttpAnswer *answer) {
  muse_str_free(&answer->body);
  muse_str_free(&answer->next);
  muse_str_free(&answer->revision);
}

MuseStatus muse_http_get(MuseHttp *http, const char *url, uint64_t max_bytes, MuseHttpAnswer *out_answer,
                         MuseDiag *diag) {
  MUSE_ASSERT(muse_http_same_origin(url, "https://hub.example") && muse_http_is_private(url));
  *out_answer = (MuseHttpAnswer){0};
  if (answers.left == 0 || answers.n_given++ == 3) return muse_error(diag, MUSE_ERR_FAILED, "no answer");
  const char *nul = memchr(answers.at, 0, answers.left), *p = answers.at;
  const char *end = nul ? nul : answers.at + answers.left;
  MuseHttpHeaders headers;
  muse_http_headers_reset(&headers);
  while (p < end) {
    const char *newline = memchr(p, '\n', (size_t)(end - p)), *line = p;
    size_t length = newline ? (size_t)(newline - p) : (size_t)(end - p);
    p = newline ? newline + 1 : end;
    if (length == 0) break;
    muse_http_headers_add(&headers, line, length);
  }
  MUSE_ASSERT(!isnan(muse_http_headers_wait(&headers)) && muse_http_headers_quota_wait(&headers) >= 0);
  MUSE_ASSERT(memchr(headers.etag, 0, sizeof headers.etag) && memchr(headers.revision, 0, sizeof headers.revision));
  (void)muse_http_is_private(headers.next);
  out_answer->code = headers.code;
  muse_str_append(&out_answer->next, headers.next);
  muse_str_append(&out_answer->revision, headers.revision);
  muse_str_append_n(&out_answer->body, p, (size_t)(end - p));
  answers.left -= (size_t)(end - answers.at) + (nul != NULL);
  answers.at = end + (nul != NULL);
  return MUSE_OK;
}

MuseStatus muse_http_download(MuseHttp *http, const char *url, const char *part, uint64_t size, int *out_code,
                              MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_FAILED, "no file");
}

static bool is_hex(const char *text, size_t n) {
  return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

static void list(const MuseHub *hub, const MuseDataset *set, MuseDiag *diag) {
  MuseHubFiles files;
  if (muse_hub_list(hub, set, "0123456789012345678901234567890123456789", &files, diag) == MUSE_OK) {
    MUSE_ASSERT(files.len > 0);
    for (size_t i = 0; i < files.len; i++) {
      const MuseHubFile *f = &files.data[i];
      MUSE_ASSERT(f->path[0] && f->path[0] != '/' && !strstr(f->path, "..") && is_hex(f->hash, f->is_sha256 ? 64 : 40));
    }
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
  }
  muse_hub_files_free(&files);
}

static MuseStatus take_row(void *user, const char *text, size_t length, bool is_cut, MuseDiag *diag) {
  size_t *sum = user;
  MUSE_ASSERT(!is_cut || length == 0);
  for (size_t i = 0; i < length; i++) *sum += (unsigned char)text[i];
  return MUSE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *cache;
  if (!cache) cache = fuzz_folder();
  if (size < 1) return 0;
  answers.at = (const char *)bytes + 1;
  answers.left = size - 1;
  answers.n_given = 0;
  MuseDiag *diag = muse_diag_create();
  MuseArena *arena = muse_arena_create();
  MuseStr text = {0};
  MuseHub hub = {.endpoint = "https://hub.example", .viewer = "https://hub.example/viewer", .cache = cache};
  MuseDataset set = {.name = "set", .hub = "a/b", .config = "default", .split = "train", .revision = "main"};
  if (bytes[0] & 4) set.files = "data/*.parquet";
  muse_record_form_column("text", arena, &set.form);
  switch (bytes[0] & 3) {
  case 0:
    if (muse_hub_commit(&hub, &set, &text, diag) == MUSE_OK) MUSE_ASSERT(is_hex(text.data, 40));
    break;
  case 1: list(&hub, &set, diag); break;
  default: {
    int64_t n_rows = 0;
    size_t sum = 0;
    MuseRowsVerdict verdict = MUSE_ROWS_OK;
    for (int64_t first = 0; verdict == MUSE_ROWS_OK; first += 2)
      if (muse_hub_rows(&hub, &set, first, 2, &text, take_row, &sum, &n_rows, &verdict, diag) != MUSE_OK) break;
  }
  }
  MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) <= 1);
  muse_str_free(&text);
  muse_arena_destroy(arena);
  muse_diag_destroy(diag);
  return 0;
}
