// libFuzzer: any bytes as state.json of a checkpoint, with the checksum that it should have, and as .fetch.json of a
// folder of fetched text. A state that is accepted is written and read back to the same bits.
#include "runtime/fetch_state.h"
#include "runtime/run_state.h"
#include "tests/fuzz/fuzz_file.h"

#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_same(MuseRunState a, MuseRunState b) {
  MUSE_ASSERT(strcmp(a.config_text, b.config_text) == 0);
  MUSE_ASSERT(a.step == b.step && a.seed == b.seed && a.tokens == b.tokens && a.bad_steps == b.bad_steps);
  MUSE_ASSERT(a.cursor.fingerprint == b.cursor.fingerprint && a.cursor.rows == b.cursor.rows);
  MUSE_ASSERT(memcmp(a.cursor.drawn, b.cursor.drawn, sizeof a.cursor.drawn) == 0);
  double reals[2][4] = {{a.smoothed_loss, a.smoothed_weight, a.best_validation_loss, a.seconds},
                        {b.smoothed_loss, b.smoothed_weight, b.best_validation_loss, b.seconds}};
  MUSE_ASSERT(memcmp(reals[0], reals[1], sizeof reals[0]) == 0);
  MUSE_ASSERT(memcmp(&a.plan_hash, &b.plan_hash, sizeof a.plan_hash) == 0 && a.tokenizer_hash == b.tokenizer_hash);
}

static void parse_state(const char *text, size_t length) {
  MuseDiag *diag = muse_diag_create();
  MuseRunState state, again;
  MuseStateSeals seals, seals_again;
  MuseStr printed = {0};
  if (muse_run_state_parse("fuzz", text, length, &state, &seals, diag) == MUSE_OK) {
    MUSE_ASSERT(muse_run_state_print(&state, &seals, &printed, diag) == MUSE_OK);
    MUSE_ASSERT(muse_run_state_parse("again", printed.data, printed.len, &again, &seals_again, diag) == MUSE_OK);
    check_same(state, again);
    MUSE_ASSERT(memcmp(&seals, &seals_again, sizeof seals) == 0);
    free((char *)again.config_text);
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1 && !state.config_text);
  }
  free((char *)state.config_text);
  muse_str_free(&printed);
  muse_diag_destroy(diag);
}

// The checksum is over the compact text with sorted keys and 17 digits, without itself (runtime/run_state.c).
static void parse_with_checksum(const uint8_t *bytes, size_t size) {
  json_t *root = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL);
  if (json_is_object(root)) {
    json_object_del(root, "checksum");
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)), hex[33];
    MUSE_ASSERT(text);
    muse_hash_hex(muse_hash128(text, strlen(text)), hex);
    free(text);
    json_object_set_new(root, "checksum", json_string(hex));
    text = json_dumps(root, JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    MUSE_ASSERT(text);
    parse_state(text, strlen(text));
    free(text);
  }
  json_decref(root);
}

static void load_fetch_state(const uint8_t *bytes, size_t size) {
  static int fd = -1;
  static const char *folder;
  char file[64], link[4200];
  fuzz_file(&fd, bytes, size, file);
  if (!folder) {
    folder = fuzz_folder();
    snprintf(link, sizeof link, "%s/.fetch.json", folder);
    MUSE_ASSERT(symlink(file, link) == 0);
  }
  MuseDiag *diag = muse_diag_create();
  MuseFetchState state;
  if (muse_fetch_state_load(folder, &state, diag) == MUSE_OK) {
    MUSE_ASSERT(size == 0 || (state.request && state.commit));
    muse_fetch_state_free(&state);
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1 && !state.request && state.shards.len == 0);
  }
  muse_diag_destroy(diag);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  parse_state((const char *)bytes, size);
  parse_with_checksum(bytes, size);
  load_fetch_state(bytes, size);
  return 0;
}
