// libFuzzer target: any bytes as a configuration and as an override. Nothing may crash, leak or run long; what is
// accepted prints as text that parses to an equal configuration; what is refused has at least one located sentence.
#include "compiler/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
  if (!condition) abort();
}

static void check_round_trip(const MuseConfig *config, MuseArena *arena) {
  MuseStr first = {0}, second = {0};
  MuseDiag *diag = muse_diag_create();
  MuseConfig again;
  muse_config_print(config, &first);
  MuseStatus status =
      muse_config_parse_text("again", muse_str_text(&first), first.len, NULL, arena, &again, diag);
  if (status != MUSE_OK) muse_diag_print(diag, stderr);
  require(status == MUSE_OK);
  require(muse_config_equal(config, &again));
  muse_config_print(&again, &second);
  require(muse_str_eq(muse_str_text(&first), muse_str_text(&second)));
  muse_diag_destroy(diag);
  muse_str_free(&first);
  muse_str_free(&second);
}

static void try_config(const char *text, size_t length, const MuseTextList *sets) {
  static FILE *nowhere;
  if (!nowhere) nowhere = fopen("/dev/null", "w");
  MuseArena *arena = muse_arena_create();
  MuseDiag *diag = muse_diag_create();
  MuseConfig config;
  MuseStatus status = muse_config_parse_text("fuzz", text, length, sets, arena, &config, diag);
  require((status == MUSE_OK) == (muse_diag_count(diag, MUSE_ERROR) == 0));
  for (size_t i = 0; muse_diag_message(diag, i); i++)
    require(muse_diag_loc(diag, i).line > 0 && muse_diag_loc(diag, i).col > 0);
  muse_diag_print(diag, nowhere);
  if (status == MUSE_OK) {
    require(config.d_model % config.num_heads == 0 && config.d_model / config.num_heads % 2 == 0);
    require(config.gradient_precision != MUSE_GRADIENT_AUTO && config.warmup_steps <= config.max_steps);
    require(muse_config_nominal_parameters(&config) > 0);
    check_round_trip(&config, arena);
  }
  muse_diag_destroy(diag);
  muse_arena_destroy(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char needed[] = "vocab_size: 300\nd_model: 64\nn_layers: 2\nn_seq: 32\n";
  try_config((const char *)data, size, NULL);
  // The same bytes after the keys that every config needs, and as overrides, one a line.
  char *joined = malloc(sizeof needed + size);
  if (!joined) return 0;
  memcpy(joined, needed, sizeof needed - 1);
  memcpy(joined + sizeof needed - 1, data, size);
  try_config(joined, sizeof needed - 1 + size, NULL);
  joined[sizeof needed - 1 + size] = '\0';
  const char *texts[8];
  MuseTextList sets = {texts, 0, 8};
  for (char *line = joined + sizeof needed - 1; line && sets.len < 8;) {
    char *newline = strchr(line, '\n');
    if (newline) *newline++ = '\0';
    texts[sets.len++] = line;
    line = newline;
  }
  try_config(needed, sizeof needed - 1, &sets);
  free(joined);
  return 0;
}
