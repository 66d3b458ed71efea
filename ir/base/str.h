#ifndef MUSE_IR_BASE_STR_H
#define MUSE_IR_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Growable, always NUL-terminated text on the heap: MuseStr s = {0}; muse_str_appendf(&s, ...); muse_str_free(&s);
typedef struct MuseStr {
  char *data; // NULL while empty; use muse_str_text for a C string that is never NULL
  size_t len, cap;
} MuseStr;

void muse_str_append(MuseStr *s, const char *text);
void muse_str_append_n(MuseStr *s, const char *text, size_t length);
void muse_str_appendf(MuseStr *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *muse_str_text(const MuseStr *s);
void muse_str_clear(MuseStr *s);
void muse_str_free(MuseStr *s);

bool muse_str_eq(const char *a, const char *b);
bool muse_str_starts_with(const char *text, const char *prefix);
bool muse_str_ends_with(const char *text, const char *suffix);

// Damerau-Levenshtein distance in bytes (the optimal-string-alignment form: no part is edited twice), and
// the candidate nearest to `word` (NULL when none is near enough to suggest).
int muse_str_distance(const char *a, const char *b);
const char *muse_str_nearest(const char *word, const char *const *candidates, size_t n_candidates);

// Text of a double that reads back to the same bits, shortest first ("0.1", "1e-05", "inf", "nan").
void muse_str_append_double(MuseStr *s, double value);
// "2.3 GB", "512 B": decimal units as disks and papers count them.
void muse_str_append_bytes(MuseStr *s, uint64_t bytes);
// Parses "8GiB", "8G", "512MB", "1024" to bytes: K, M, G, T and KiB, MiB, ... are powers of 1024, kB (or KB), MB, ...
// of 1000. False on anything else or overflow.
bool muse_parse_bytes(const char *text, uint64_t *out_bytes);
// Whole-string number parsing: false on empty text, trailing characters or overflow.
bool muse_parse_i64(const char *text, int64_t *out_value);
bool muse_parse_double(const char *text, double *out_value);

// String-keyed hash map to pointers; keys are copied.
typedef struct MuseMap MuseMap;
MuseMap *muse_map_create(void);
void muse_map_destroy(MuseMap *map);
void muse_map_put(MuseMap *map, const char *key, void *value); // replaces
void *muse_map_get(const MuseMap *map, const char *key);       // NULL when absent
size_t muse_map_size(const MuseMap *map);

#endif
