// XXH3 against its published values, and the stream form against the whole.
#include "ir/base/hash.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(base_hash, known_values_of_empty_input) {
  cr_assert_eq(muse_hash64("", 0), 0x2d06800538d394c2ull);
  char hex[33];
  muse_hash_hex(muse_hash128("", 0), hex);
  cr_assert_str_eq(hex, "99aa06d3014798d86001c324468d497f");
}

Test(base_hash, hex_is_high_half_first_with_leading_zeros) {
  char hex[33];
  muse_hash_hex((MuseHash){.lo = 0x1, .hi = 0xab}, hex);
  cr_assert_str_eq(hex, "00000000000000ab0000000000000001");
}

Test(base_hash, one_bit_changes_the_hash) {
  unsigned char data[1000] = {0};
  MuseHash plain = muse_hash128(data, sizeof data);
  data[999] = 1;
  MuseHash changed = muse_hash128(data, sizeof data);
  cr_assert(plain.lo != changed.lo && plain.hi != changed.hi);
  cr_assert_neq(muse_hash64("a", 1), muse_hash64("a", 2));
}

Test(base_hash, stream_equals_whole_for_any_split) {
  enum { N = 100000 };
  unsigned char *data = malloc(N);
  for (int i = 0; i < N; i++) data[i] = (unsigned char)(i * 7 + i / 256);
  MuseHash whole = muse_hash128(data, N);
  for (size_t piece = 1; piece < 70000; piece = piece * 3 + 1) {
    MuseHasher *hasher = muse_hasher_create();
    muse_hasher_update(hasher, NULL, 0);
    for (size_t at = 0; at < N; at += piece) muse_hasher_update(hasher, data + at, at + piece > N ? N - at : piece);
    MuseHash streamed = muse_hasher_finish(hasher);
    cr_assert(streamed.lo == whole.lo && streamed.hi == whole.hi, "pieces of %zu bytes", piece);
  }
  free(data);
}
