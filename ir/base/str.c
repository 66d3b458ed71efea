// Growable text, comparison and suggestion of words, conversion of numbers to text and back, and a string-keyed map.
// The programs never call setlocale, so printf and strtod always use the decimal point.
#include "ir/base/str.h"

#include "ir/base/hash.h"
#include "ir/base/status.h"
#include "ir/base/vec.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void reserve(MuseStr *s, size_t extra) {
  size_t need;
  if (__builtin_add_overflow(s->len, extra, &need) || need == SIZE_MAX) muse_out_of_memory(SIZE_MAX);
  need++; // the final NUL
  if (need > s->cap) s->data = muse_vec_grow(s->data, &s->cap, need < 32 ? 32 : need, 1);
}

void muse_str_append_n(MuseStr *s, const char *text, size_t length) {
  reserve(s, length);
  if (length) memcpy(s->data + s->len, text, length);
  s->len += length;
  s->data[s->len] = 0;
}

void muse_str_append(MuseStr *s, const char *text) { muse_str_append_n(s, text, strlen(text)); }

void muse_str_appendf(MuseStr *s, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  MUSE_ASSERT(length >= 0);
  reserve(s, (size_t)length);
  vsnprintf(s->data + s->len, (size_t)length + 1, format, again);
  va_end(again);
  s->len += (size_t)length;
}

const char *muse_str_text(const MuseStr *s) { return s->data ? s->data : ""; }

void muse_str_clear(MuseStr *s) {
  s->len = 0;
  if (s->data) s->data[0] = 0;
}

void muse_str_free(MuseStr *s) {
  free(s->data);
  *s = (MuseStr){0};
}

bool muse_str_eq(const char *a, const char *b) { return strcmp(a, b) == 0; }

bool muse_str_starts_with(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

bool muse_str_ends_with(const char *text, const char *suffix) {
  size_t n = strlen(text), n_suffix = strlen(suffix);
  return n >= n_suffix && memcmp(text + n - n_suffix, suffix, n_suffix) == 0;
}

static int min_int(int a, int b) { return a < b ? a : b; }

// Three rows of the distance table are enough, since a transposition looks two rows back.
int muse_str_distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  int *rows = calloc(3 * (m + 1), sizeof *rows);
  if (!rows) muse_out_of_memory(3 * (m + 1) * sizeof *rows);
  int *before = rows, *previous = rows + (m + 1), *current = rows + 2 * (m + 1);
  for (size_t j = 0; j <= m; j++) previous[j] = (int)j;
  for (size_t i = 1; i <= n; i++) {
    current[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int best = previous[j - 1] + (a[i - 1] != b[j - 1]);
      best = min_int(best, min_int(previous[j], current[j - 1]) + 1);
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) best = min_int(best, before[j - 2] + 1);
      current[j] = best;
    }
    int *recycled = before;
    before = previous, previous = current, current = recycled;
  }
  int distance = previous[m];
  free(rows);
  return distance;
}

// Near enough: the same word in other case, or at most one edit per three characters and never more than four.
const char *muse_str_nearest(const char *word, const char *const *candidates, size_t n_candidates) {
  size_t length = strlen(word);
  size_t limit = length / 3 > 4 ? 4 : length / 3;
  if (limit == 0 && length > 1) limit = 1;
  const char *nearest = NULL;
  int smallest = (int)limit + 1;
  for (size_t i = 0; i < n_candidates; i++) {
    if (strcasecmp(word, candidates[i]) == 0) return candidates[i];
    // The distance is at least the difference of the lengths; this also bounds the time for hostile words.
    size_t n = strlen(candidates[i]);
    if ((n > length ? n - length : length - n) > limit || length > 4096) continue;
    int distance = muse_str_distance(word, candidates[i]);
    if (distance < smallest) smallest = distance, nearest = candidates[i];
  }
  return nearest;
}

void muse_str_append_double(MuseStr *s, double value) {
  char text[40];
  if (isnan(value)) {
    muse_str_append(s, "nan");
    return;
  }
  // Fifteen digits of a normal double always survive, and %g drops trailing zeros; a subnormal one holds fewer.
  int precision = value != 0 && fabs(value) < 0x1p-1022 ? 1 : 15;
  do snprintf(text, sizeof text, "%.*g", precision, value);
  while (precision++ < 17 && strtod(text, NULL) != value);
  muse_str_append(s, text);
  if (!strpbrk(text, ".en")) muse_str_append(s, ".0");
}

void muse_str_append_bytes(MuseStr *s, uint64_t bytes) {
  static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) {
    muse_str_appendf(s, "%u B", (unsigned)bytes);
    return;
  }
  double scaled = (double)bytes / 1000;
  int unit = 0;
  while (scaled >= 999.95 && unit < 5) scaled /= 1000, unit++; // 999.95 would be printed as 1000.0
  muse_str_appendf(s, "%.1f %s", scaled, units[unit]);
}

// Reads decimal digits; false when there is none or the value overflows. *text moves past them.
static bool parse_digits(const char **text, uint64_t *out_value) {
  const char *p = *text;
  uint64_t value = 0;
  for (; *p >= '0' && *p <= '9'; p++)
    if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
      return false;
  if (p == *text) return false;
  *text = p;
  *out_value = value;
  return true;
}

bool muse_parse_bytes(const char *text, uint64_t *out_bytes) {
  uint64_t value;
  if (!parse_digits(&text, &value)) return false;
  static const char letters[] = "KMGT";
  const char *letter = *text == 'k' ? letters : (*text ? strchr(letters, *text) : NULL);
  if (letter) {
    text++;
    uint64_t base = muse_str_eq(text, "B") ? 1000 : 1024;
    if (*text && !muse_str_eq(text, "B") && !muse_str_eq(text, "iB")) return false;
    for (const char *p = letters; p <= letter; p++)
      if (__builtin_mul_overflow(value, base, &value)) return false;
  } else if (*text && !muse_str_eq(text, "B")) {
    return false;
  }
  *out_bytes = value;
  return true;
}

bool muse_parse_i64(const char *text, int64_t *out_value) {
  bool negative = *text == '-';
  if (*text == '-' || *text == '+') text++;
  uint64_t magnitude;
  if (!parse_digits(&text, &magnitude) || *text) return false;
  if (magnitude > (uint64_t)INT64_MAX + negative) return false;
  *out_value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
  return true;
}

bool muse_parse_double(const char *text, double *out_value) {
  if (!*text || isspace((unsigned char)*text)) return false;
  char *end;
  errno = 0;
  double value = strtod(text, &end);
  if (end == text || *end) return false;
  if (errno == ERANGE && isinf(value)) return false; // a result that is too small is kept as strtod rounds it
  *out_value = value;
  return true;
}

// Open addressing with linear probing, never more than half full; entries are only ever added or replaced.
typedef struct MapEntry {
  char *key; // NULL: free
  void *value;
} MapEntry;

struct MuseMap {
  MapEntry *entries;
  size_t n_slots, n_entries; // n_slots is a power of two
};

static void *zeroed_or_abort(size_t n, size_t size) {
  void *memory = calloc(n, size);
  if (!memory) muse_out_of_memory(n * size);
  return memory;
}

MuseMap *muse_map_create(void) {
  MuseMap *map = zeroed_or_abort(1, sizeof *map);
  map->n_slots = 16;
  map->entries = zeroed_or_abort(map->n_slots, sizeof *map->entries);
  return map;
}

void muse_map_destroy(MuseMap *map) {
  if (!map) return;
  for (size_t i = 0; i < map->n_slots; i++) free(map->entries[i].key);
  free(map->entries);
  free(map);
}

// The slot that holds `key`, or the free one where it belongs.
static MapEntry *find_slot(MapEntry *entries, size_t n_slots, const char *key) {
  size_t slot = muse_hash64(key, strlen(key)) & (n_slots - 1);
  while (entries[slot].key && !muse_str_eq(entries[slot].key, key)) slot = (slot + 1) & (n_slots - 1);
  return entries + slot;
}

static void grow_map(MuseMap *map) {
  size_t n_slots = map->n_slots * 2;
  MapEntry *entries = zeroed_or_abort(n_slots, sizeof *entries);
  for (size_t i = 0; i < map->n_slots; i++)
    if (map->entries[i].key) *find_slot(entries, n_slots, map->entries[i].key) = map->entries[i];
  free(map->entries);
  map->entries = entries;
  map->n_slots = n_slots;
}

void muse_map_put(MuseMap *map, const char *key, void *value) {
  MapEntry *entry = find_slot(map->entries, map->n_slots, key);
  if (!entry->key) {
    if ((map->n_entries + 1) * 2 > map->n_slots) {
      grow_map(map);
      entry = find_slot(map->entries, map->n_slots, key);
    }
    entry->key = strdup(key);
    if (!entry->key) muse_out_of_memory(strlen(key) + 1);
    map->n_entries++;
  }
  entry->value = value;
}

void *muse_map_get(const MuseMap *map, const char *key) { return find_slot(map->entries, map->n_slots, key)->value; }

size_t muse_map_size(const MuseMap *map) { return map->n_entries; }
