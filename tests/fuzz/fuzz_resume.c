// libFuzzer: any bytes as what a killed run left, metrics.jsonl and an event file, which a resumed run cuts. The first
// byte is the step that it resumes at. What remains is a beginning of the file, and cutting it again takes nothing.
#include "runtime/events.h"
#include "runtime/metrics.h"
#include "tests/fuzz/fuzz_file.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int64_t size_of(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static void resume_metrics(const char *path, int64_t step, MuseDiag *diag) {
  MuseMetrics *metrics;
  MUSE_ASSERT(muse_metrics_open(path, step, &metrics, diag) == MUSE_OK);
  MUSE_ASSERT(muse_metrics_close(metrics, diag) == MUSE_OK);
}

static void check_metrics(const uint8_t *bytes, size_t size, int64_t step, MuseDiag *diag) {
  static int fd = -1;
  char path[64];
  fuzz_file(&fd, bytes, size, path);
  resume_metrics(path, step, diag);
  int64_t kept = size_of(path);
  MUSE_ASSERT(kept >= 0 && kept <= (int64_t)size && (kept == 0 || bytes[kept - 1] == '\n'));
  resume_metrics(path, step, diag);
  MUSE_ASSERT(size_of(path) == kept);
}

// Records with sums that hold: a byte is the length of the one after it. Length 0 ends them; what follows is no record.
static void append_records(const uint8_t *bytes, size_t size, MuseStr *out) {
  while (size > 1 && bytes[0]) {
    size_t n = bytes[0] < size - 1 ? bytes[0] : size - 1;
    uint8_t head[8] = {(uint8_t)n};
    uint32_t head_sum = muse_masked_crc32c(head, 8), sum = muse_masked_crc32c(bytes + 1, n);
    muse_str_append_n(out, (const char *)head, 8);
    muse_str_append_n(out, (const char *)&head_sum, 4);
    muse_str_append_n(out, (const char *)bytes + 1, n);
    muse_str_append_n(out, (const char *)&sum, 4);
    bytes += 1 + n;
    size -= 1 + n;
  }
  muse_str_append_n(out, (const char *)bytes, size);
}

static void resume_events(const char *folder, int64_t step, MuseDiag *diag) {
  MuseEvents *events;
  MUSE_ASSERT(muse_events_open(folder, step, &events, diag) == MUSE_OK);
  MUSE_ASSERT(muse_events_close(events, diag) == MUSE_OK);
}

static void empty_folder(const char *folder) {
  char path[8192];
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) {
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    if (e->d_name[0] != '.') unlink(path);
  }
  closedir(d);
}

static void check_events(const uint8_t *bytes, size_t size, int64_t step, MuseDiag *diag) {
  static const char *folder;
  if (!folder) folder = fuzz_folder();
  MuseStr path = {0}, records = {0};
  muse_str_appendf(&path, "%s/" MUSE_EVENTS_PREFIX "0000000001" MUSE_EVENTS_SUFFIX, folder);
  append_records(bytes, size, &records);
  FILE *f = fopen(path.data, "wb");
  MUSE_ASSERT(f && fwrite(muse_str_text(&records), 1, records.len, f) == records.len && fclose(f) == 0);
  resume_events(folder, step, diag);
  int64_t kept = size_of(path.data); // -1: nothing was worth keeping
  MUSE_ASSERT(kept <= (int64_t)records.len);
  resume_events(folder, step, diag);
  MUSE_ASSERT(size_of(path.data) == kept);
  empty_folder(folder);
  muse_str_free(&path);
  muse_str_free(&records);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size < 1) return 0;
  MuseDiag *diag = muse_diag_create();
  if (size > 1 && bytes[1] == '{') check_metrics(bytes + 1, size - 1, bytes[0], diag);
  else check_events(bytes + 1, size - 1, bytes[0], diag);
  MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 0);
  muse_diag_destroy(diag);
  return 0;
}
