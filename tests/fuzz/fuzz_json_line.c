// libFuzzer: any bytes as a line of JSON; muse_json_line and jansson must agree on what it is and on its texts.
#include "corpus/json_line.h"
#include "ir/base/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *const names[2] = {"text", "a"};
  MuseStr scratch = {0};
  MuseSlice values[2];
  MuseJsonKind kinds[2];
  char *line = malloc(size + 1); // of its exact size, so that a byte beyond it is seen
  if (!line) return 0;
  memcpy(line, bytes, size);
  char *exact = realloc(line, size ? size : 1);
  bool ok = muse_json_line(exact, size, names, 2, &scratch, values, kinds);
  json_error_t error;
  json_t *object = json_loadb(exact, size, JSON_ALLOW_NUL, &error);
  // What jansson takes is taken, down to the depth of its own; but it takes a NUL behind a number, which no JSON holds.
  if (json_is_object(object)) {
    int depth = 0, deepest = 0;
    for (size_t i = 0; i < size; i++) {
      depth += (exact[i] == '[' || exact[i] == '{') - (exact[i] == ']' || exact[i] == '}');
      if (depth > deepest) deepest = depth;
    }
    MUSE_ASSERT(ok || deepest >= MUSE_JSON_MAX_DEPTH || memchr(exact, 0, size));
    for (int i = 0; ok && i < 2; i++) {
      json_t *value = json_object_get(object, names[i]);
      MUSE_ASSERT((kinds[i] == MUSE_JSON_ABSENT) == !value && (kinds[i] == MUSE_JSON_STRING) == json_is_string(value));
      MUSE_ASSERT((kinds[i] == MUSE_JSON_NULL) == json_is_null(value));
      if (json_is_string(value))
        MUSE_ASSERT(values[i].length == json_string_length(value) &&
                    memcmp(values[i].text, json_string_value(value), values[i].length) == 0);
    }
  } else if (ok) { // jansson alone refuses texts that are not UTF-8, numbers beyond a double and keys with a NUL
    enum json_error_code why = object ? json_error_unknown : json_error_code(&error);
    MUSE_ASSERT(why == json_error_invalid_utf8 || why == json_error_numeric_overflow ||
                why == json_error_null_byte_in_key);
  }
  json_decref(object);
  free(exact);
  muse_str_free(&scratch);
  return 0;
}
