// Prints a configuration as canonical YAML: every key in table order, resolved, so that parsing it gives an equal
// config.
#include "compiler/config_internal.h"

#include <inttypes.h>
#include <string.h>

// Double-quoted YAML, in which every character can be written.
static void append_quoted(const char *text, MuseStr *out) {
  muse_str_append(out, "\"");
  for (const char *p = text; *p; p++) {
    unsigned char c = (unsigned char)*p;
    // The characters beyond ASCII that YAML does not print: C1 controls (but 0x85), surrogates excluded already by
    // UTF-8, U+FEFF, U+FFFE and U+FFFF. The line separators U+0085, U+2028 and U+2029 would be folded to spaces.
    if (c == 0xC2 && (unsigned char)p[1] < 0xA0) muse_str_appendf(out, "\\x%02X", (unsigned char)p[1]), p++;
    else if (c == 0xE2 && (unsigned char)p[1] == 0x80 && ((unsigned char)p[2] == 0xA8 || (unsigned char)p[2] == 0xA9))
      muse_str_append(out, (unsigned char)p[2] == 0xA8 ? "\\u2028" : "\\u2029"), p += 2;
    else if (c == 0xEF && (unsigned char)p[1] == 0xBB && (unsigned char)p[2] == 0xBF)
      muse_str_append(out, "\\uFEFF"), p += 2;
    else if (c == 0xEF && (unsigned char)p[1] == 0xBF && (unsigned char)p[2] >= 0xBE)
      muse_str_appendf(out, "\\uFFF%c", (unsigned char)p[2] == 0xBE ? 'E' : 'F'), p += 2;
    else if (c == '"' || c == '\\') muse_str_appendf(out, "\\%c", c);
    else if (c == '\n') muse_str_append(out, "\\n");
    else if (c == '\t') muse_str_append(out, "\\t");
    else if (c < 0x20 || c == 0x7f) muse_str_appendf(out, "\\x%02X", c);
    else muse_str_append_n(out, p, 1);
  }
  muse_str_append(out, "\"");
}

// Memory in the largest binary unit that divides it, as people write it.
static void append_bytes(uint64_t bytes, MuseStr *out) {
  static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (unit < 4 && bytes != 0 && bytes % 1024 == 0) bytes /= 1024, unit++;
  muse_str_appendf(out, "%" PRIu64 "%s", bytes, units[unit]);
}

void muse_config_print_value(const MuseConfig *config, const MuseConfigKey *key, MuseStr *out) {
  const void *field = muse_config_field(config, key);
  switch (key->type) {
  case MUSE_KEY_BOOL: muse_str_append(out, *(const bool *)field ? "true" : "false"); break;
  case MUSE_KEY_INT:
    if (*(const int64_t *)field < 0) muse_str_append(out, key->nullable ? "null" : "auto");
    else muse_str_appendf(out, "%" PRId64, *(const int64_t *)field);
    break;
  case MUSE_KEY_REAL: muse_str_append_double(out, *(const double *)field); break;
  case MUSE_KEY_BYTES: append_bytes(*(const uint64_t *)field, out); break;
  case MUSE_KEY_ENUM: muse_str_append(out, key->choices[*(const int *)field]); break;
  case MUSE_KEY_TEXT: {
    const char *text = *(const char *const *)field;
    if (text) append_quoted(text, out);
    else muse_str_append(out, "null");
    break;
  }
  }
}

void muse_config_print(const MuseConfig *config, MuseStr *out) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    if (keys[i].section) muse_str_appendf(out, "%s# %s\n", i ? "\n" : "", keys[i].section);
    muse_str_appendf(out, "%s: ", keys[i].name);
    muse_config_print_value(config, &keys[i], out);
    muse_str_append(out, "\n");
  }
}

bool muse_config_equal(const MuseConfig *a, const MuseConfig *b) {
  size_t n;
  const MuseConfigKey *keys = muse_config_keys(&n);
  for (size_t i = 0; i < n; i++) {
    const void *x = muse_config_field(a, &keys[i]), *y = muse_config_field(b, &keys[i]);
    bool same = false;
    switch (keys[i].type) {
    case MUSE_KEY_BOOL: same = *(const bool *)x == *(const bool *)y; break;
    case MUSE_KEY_INT: same = *(const int64_t *)x == *(const int64_t *)y; break;
    case MUSE_KEY_REAL: same = *(const double *)x == *(const double *)y; break;
    case MUSE_KEY_BYTES: same = *(const uint64_t *)x == *(const uint64_t *)y; break;
    case MUSE_KEY_ENUM: same = *(const int *)x == *(const int *)y; break;
    case MUSE_KEY_TEXT: {
      const char *s = *(const char *const *)x, *t = *(const char *const *)y;
      same = s && t ? !strcmp(s, t) : s == t;
      break;
    }
    }
    if (!same) return false;
  }
  return true;
}
