// libFuzzer: any bytes as journal.json of a token set that is being made, with the hash of the request that it should
// have; after a NUL, the hashes of the duplicate check. What is accepted is written and read back as the same.
#include "runtime/tokenize_journal.h"
#include "tests/fuzz/fuzz_file.h"

#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char request[] = "request";

static void put_file(const char *folder, const char *name, const void *bytes, size_t size) {
  char path[8192];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "wb");
  MUSE_ASSERT(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
}

static void set_hash(json_t *root, const char *key, const void *bytes, size_t size) {
  char hex[33];
  muse_hash_hex(muse_hash128(bytes, size), hex);
  if (json_object_get(root, key)) json_object_set_new(root, key, json_string(hex));
}

// The journal with the hashes that it should have, where it is an object that has such.
static void put_journal(const char *folder, const uint8_t *bytes, size_t size, const uint8_t *seen, size_t n_seen) {
  json_t *root = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL);
  char *text = NULL;
  if (json_is_object(root)) {
    json_int_t n = json_integer_value(json_object_get(root, "seen"));
    set_hash(root, "request", request, strlen(request));
    if (n >= 0 && (uint64_t)n <= n_seen / 16) set_hash(root, "seen_hash", seen, (size_t)n * 16);
    text = json_dumps(root, 0);
  }
  put_file(folder, "journal.json", text ? text : (const char *)bytes, text ? strlen(text) : size);
  free(text);
  json_decref(root);
}

static MuseJournalVerdict load(const char *output, MuseTokenizeJournal **out_journal, MuseTokenizeProgress *out,
                               MuseDiag *diag) {
  MuseSeen seen = {0};
  MUSE_ASSERT(muse_tokenize_journal_open(output, out_journal, diag) == MUSE_OK);
  MuseJournalVerdict verdict = muse_tokenize_journal_load(*out_journal, request, out, &seen, NULL);
  muse_seen_free(&seen);
  return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static char output[4200], folder[8192];
  MuseDiag *diag = muse_diag_create();
  MuseTokenizeJournal *journal;
  if (!output[0]) {
    snprintf(output, sizeof output, "%s/set", fuzz_folder());
    MUSE_ASSERT(muse_tokenize_journal_open(output, &journal, diag) == MUSE_OK);
    snprintf(folder, sizeof folder, "%s", muse_tokenize_journal_folder(journal));
    muse_tokenize_journal_close(journal, true);
    put_file(folder, "idx", "", 0);
  }
  const uint8_t *nul = size ? memchr(bytes, 0, size) : NULL;
  size_t length = nul ? (size_t)(nul - bytes) : size, n_seen = nul ? size - length - 1 : 0;
  put_file(folder, "seen", nul ? (const void *)(nul + 1) : "", n_seen);
  put_journal(folder, bytes, length, nul ? nul + 1 : NULL, n_seen);
  MuseTokenizeProgress progress, again;
  MuseJournalVerdict verdict = load(output, &journal, &progress, diag);
  MUSE_ASSERT(verdict != MUSE_JOURNAL_NONE);
  MUSE_ASSERT(muse_tokenize_journal_is_saved(journal) == (verdict == MUSE_JOURNAL_FOUND));
  if (verdict == MUSE_JOURNAL_FOUND) {
    MUSE_ASSERT(progress.n_seen <= n_seen / 16);
    MUSE_ASSERT(muse_tokenize_journal_save(journal, &progress, diag) == MUSE_OK);
    muse_tokenize_journal_close(journal, true);
    MUSE_ASSERT(load(output, &journal, &again, diag) == MUSE_JOURNAL_FOUND);
    MUSE_ASSERT(memcmp(&progress, &again, sizeof again) == 0);
  } else {
    MUSE_ASSERT(muse_tokenize_journal_start(journal, request, diag) == MUSE_OK);
  }
  muse_tokenize_journal_close(journal, true);
  MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 0);
  muse_diag_destroy(diag);
  return 0;
}
