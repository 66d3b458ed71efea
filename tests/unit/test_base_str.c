// Text building, suggestions, numbers to text and back, byte sizes, the string map.
#include "ir/base/philox.h"
#include "ir/base/str.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(base_str, append_and_clear) {
  MuseStr s = {0};
  cr_assert_str_eq(muse_str_text(&s), "");
  muse_str_append(&s, "");
  cr_assert_str_eq(s.data, "");
  muse_str_append(&s, "tri");
  muse_str_append_n(&s, "tsxx", 2);
  muse_str_appendf(&s, " %d/%s", 5, "byte");
  cr_assert_str_eq(s.data, "trits 5/byte");
  cr_assert_eq(s.len, 12);
  muse_str_clear(&s);
  cr_assert_str_eq(s.data, "");
  muse_str_append_n(&s, "a\0b", 3);
  cr_assert_eq(s.len, 3);
  cr_assert_eq(memcmp(s.data, "a\0b", 4), 0);
  muse_str_free(&s);
  cr_assert_null(s.data);
  cr_assert_str_eq(muse_str_text(&s), "");
}

Test(base_str, grows_by_many_small_and_one_large_piece) {
  MuseStr s = {0};
  for (int i = 0; i < 10000; i++) muse_str_appendf(&s, "%d,", i % 10);
  cr_assert_eq(s.len, 20000);
  cr_assert_eq(strlen(s.data), 20000);
  muse_str_appendf(&s, "%0100000d", 1);
  cr_assert_eq(s.len, 120000);
  cr_assert_eq(s.data[119999], '1');
  muse_str_free(&s);
}

Test(base_str, comparisons) {
  cr_assert(muse_str_eq("a", "a"));
  cr_assert_not(muse_str_eq("a", "ab"));
  cr_assert(muse_str_starts_with("layers.0.q", "layers."));
  cr_assert(muse_str_starts_with("x", ""));
  cr_assert_not(muse_str_starts_with("lay", "layers"));
  cr_assert(muse_str_ends_with("model.safetensors", ".safetensors"));
  cr_assert_not(muse_str_ends_with("s", ".safetensors"));
  cr_assert(muse_str_ends_with("", ""));
}

Test(base_str, distance) {
  static const struct { const char *a, *b; int distance; } cases[] = {
      {"", "", 0},         {"", "abc", 3},           {"abc", "", 3},    {"kitten", "sitting", 3},
      {"abcd", "acbd", 1}, {"d_modle", "d_model", 1}, {"ca", "abc", 3}, {"flaw", "lawn", 2},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cr_assert_eq(muse_str_distance(cases[i].a, cases[i].b), cases[i].distance, "%s %s", cases[i].a, cases[i].b);
    cr_assert_eq(muse_str_distance(cases[i].b, cases[i].a), cases[i].distance, "%s %s", cases[i].b, cases[i].a);
  }
}

Test(base_str, nearest) {
  static const char *const keys[] = {"d_model", "n_layers", "n_seq", "lr", "learning_rate", "batch_size"};
  const size_t n = sizeof keys / sizeof *keys;
  cr_assert_str_eq(muse_str_nearest("d_modle", keys, n), "d_model");
  cr_assert_str_eq(muse_str_nearest("n_layer", keys, n), "n_layers");
  cr_assert_str_eq(muse_str_nearest("leraning_rate", keys, n), "learning_rate");
  cr_assert_str_eq(muse_str_nearest("D_MODEL", keys, n), "d_model");
  cr_assert_str_eq(muse_str_nearest("lt", keys, n), "lr");
  cr_assert_null(muse_str_nearest("vocabulary", keys, n));
  cr_assert_null(muse_str_nearest("x", keys, n), "a single letter is near to nothing");
  cr_assert_null(muse_str_nearest("", keys, n));
  cr_assert_null(muse_str_nearest("d_model", keys, 0));
  cr_assert_str_eq(muse_str_nearest("n_sea", (const char *const[]){"n_seb", "n_sea"}, 2), "n_sea", "the nearest wins");
}

Test(base_str, nearest_of_a_hostile_word_is_quick, .timeout = 2) {
  enum { N = 10000000 };
  char *word = malloc(N + 1), *other = malloc(N + 1);
  memset(word, 'a', N), word[N] = 0;
  memset(other, 'b', N), other[N] = 0;
  cr_assert_null(muse_str_nearest(word, (const char *const[]){"d_model", other}, 2));
  free(word);
  free(other);
}

static void check_double_text(double value, const char *expected) {
  MuseStr s = {0};
  muse_str_append_double(&s, value);
  cr_assert_str_eq(s.data, expected);
  muse_str_free(&s);
}

Test(base_str, double_text_is_short_and_a_float) {
  check_double_text(0, "0.0");
  check_double_text(-0.0, "-0.0");
  check_double_text(1, "1.0");
  check_double_text(-12345, "-12345.0");
  check_double_text(0.1, "0.1");
  check_double_text(1e-5, "1e-05");
  check_double_text(1e15, "1e+15");
  check_double_text(1.0 / 3, "0.3333333333333333");
  check_double_text(0.1 + 0.2, "0.30000000000000004");
  check_double_text(5e-324, "5e-324");
  check_double_text(0x1.fffffffffffffp1023, "1.7976931348623157e+308");
  check_double_text(0x1p-1022, "2.2250738585072014e-308");
  check_double_text(INFINITY, "inf");
  check_double_text(-INFINITY, "-inf");
  check_double_text(NAN, "nan");
}

Test(base_str, double_text_reads_back_to_the_same_bits) {
  MuseStr s = {0};
  for (uint64_t i = 0; i < 50000; i++) {
    uint64_t bits = (uint64_t)muse_random_u32(2 * i, 0, 1, 0) << 32 | muse_random_u32(2 * i + 1, 0, 1, 0);
    if (i % 8 == 0) bits &= ~0x7ff0000000000000ull; // a share of subnormal numbers
    double value, again;
    memcpy(&value, &bits, 8);
    muse_str_clear(&s);
    muse_str_append_double(&s, value);
    cr_assert(muse_parse_double(s.data, &again), "%s", s.data);
    if (isnan(value)) cr_assert(isnan(again));
    else cr_assert_eq(memcmp(&value, &again, 8), 0, "%s", s.data);
    // No text with one digit less reads back.
    char shorter[40];
    size_t digits = 0;
    for (const char *p = s.data; *p && *p != 'e'; p++) digits += *p >= '0' && *p <= '9';
    if (!isfinite(value) || digits <= 2 || strlen(s.data) > 24 || !strchr(s.data, 'e')) continue;
    snprintf(shorter, sizeof shorter, "%.*e", (int)digits - 2, value);
    cr_assert_neq(strtod(shorter, NULL), value, "%s is shorter than %s", shorter, s.data);
  }
  muse_str_free(&s);
}

Test(base_str, bytes_text) {
  static const struct { uint64_t bytes; const char *text; } cases[] = {
      {0, "0 B"},          {512, "512 B"},        {999, "999 B"},
      {1000, "1.0 kB"},    {999949, "999.9 kB"},  {999950, "1.0 MB"},
      {2300000000, "2.3 GB"}, {8589934592, "8.6 GB"}, {UINT64_MAX, "18.4 EB"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    MuseStr s = {0};
    muse_str_append_bytes(&s, cases[i].bytes);
    cr_assert_str_eq(s.data, cases[i].text);
    muse_str_free(&s);
  }
}

Test(base_str, parse_bytes) {
  static const struct { const char *text; uint64_t bytes; } cases[] = {
      {"0", 0},       {"1024", 1024},      {"7B", 7},           {"8GiB", 8ull << 30}, {"8G", 8ull << 30},
      {"2k", 2048},   {"2K", 2048},        {"2kB", 2000},       {"512MB", 512000000}, {"1TiB", 1ull << 40},
      {"3TB", 3000000000000ull}, {"18446744073709551615", UINT64_MAX}, {"16777215T", 16777215ull << 40},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t bytes = 1;
    cr_assert(muse_parse_bytes(cases[i].text, &bytes), "%s", cases[i].text);
    cr_assert_eq(bytes, cases[i].bytes, "%s", cases[i].text);
  }
  static const char *const rejected[] = {"",     "G",   "-1",   "+1",   "8 GiB", "8GiBs", "1.5G",  "8Gi", "8gb", "0x10",
                                         "16777216T", "18446744073709551616", " 8", "8\n", "8Q", "inf"};
  for (size_t i = 0; i < sizeof rejected / sizeof *rejected; i++) {
    uint64_t bytes = 42;
    cr_assert_not(muse_parse_bytes(rejected[i], &bytes), "'%s'", rejected[i]);
    cr_assert_eq(bytes, 42);
  }
}

Test(base_str, parse_i64) {
  int64_t value = 42;
  static const char *const rejected[] = {"", "-", "+", "1.0", "1e3", " 1", "1 ", "0x10", "9223372036854775808",
                                         "-9223372036854775809", "99999999999999999999999", "--1", "abc"};
  for (size_t i = 0; i < sizeof rejected / sizeof *rejected; i++) {
    cr_assert_not(muse_parse_i64(rejected[i], &value), "'%s'", rejected[i]);
    cr_assert_eq(value, 42);
  }
  cr_assert(muse_parse_i64("-9223372036854775808", &value) && value == INT64_MIN);
  cr_assert(muse_parse_i64("9223372036854775807", &value) && value == INT64_MAX);
  cr_assert(muse_parse_i64("+007", &value) && value == 7);
  cr_assert(muse_parse_i64("-0", &value) && value == 0);
}

Test(base_str, parse_double) {
  double value = 42;
  static const char *const rejected[] = {"", " 1", "1 ", "1x", "1e", "1e999", "-1e999", "one", ".", "1,5"};
  for (size_t i = 0; i < sizeof rejected / sizeof *rejected; i++) {
    cr_assert_not(muse_parse_double(rejected[i], &value), "'%s'", rejected[i]);
    cr_assert_eq(value, 42);
  }
  cr_assert(muse_parse_double("1e-4", &value) && value == 1e-4);
  cr_assert(muse_parse_double("-.5", &value) && value == -0.5);
  cr_assert(muse_parse_double("1e-999", &value) && value == 0);
  cr_assert(muse_parse_double("-inf", &value) && value == -INFINITY);
  cr_assert(muse_parse_double("nan", &value) && isnan(value));
}

Test(base_str, map_puts_gets_and_replaces) {
  MuseMap *map = muse_map_create();
  static int values[5000];
  char key[32];
  for (int i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "layers.%d.q", i);
    cr_assert_null(muse_map_get(map, key));
    muse_map_put(map, key, &values[i]);
    cr_assert_eq(muse_map_size(map), (size_t)i + 1);
  }
  memset(key, 'x', sizeof key - 1); // the map has its own copies of the keys
  for (int i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "layers.%d.q", i);
    cr_assert_eq(muse_map_get(map, key), &values[i]);
  }
  muse_map_put(map, "layers.7.q", &values[0]);
  cr_assert_eq(muse_map_get(map, "layers.7.q"), &values[0]);
  cr_assert_eq(muse_map_size(map), 5000);
  muse_map_put(map, "", &values[1]);
  cr_assert_eq(muse_map_get(map, ""), &values[1]);
  cr_assert_null(muse_map_get(map, "layers"));
  muse_map_destroy(map);
  muse_map_destroy(NULL);
}
