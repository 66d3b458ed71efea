// Arena: alignment, zeroed memory, stability of addresses over growth, reset, and the end of memory.
#include "ir/base/arena.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

Test(base_arena, allocations_are_aligned_zeroed_and_disjoint) {
  MuseArena *arena = muse_arena_create();
  enum { COUNT = 3000 };
  unsigned char *blocks[COUNT];
  for (int i = 0; i < COUNT; i++) {
    size_t bytes = (size_t)(i % 97);
    blocks[i] = muse_arena_alloc(arena, bytes);
    cr_assert_eq((uintptr_t)blocks[i] % 16, 0);
    for (size_t j = 0; j < bytes; j++) cr_assert_eq(blocks[i][j], 0);
    memset(blocks[i], i & 0xFF, bytes);
  }
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < i % 97; j++) cr_assert_eq(blocks[i][j], i & 0xFF, "block %d was overwritten", i);
  muse_arena_destroy(arena);
}

Test(base_arena, empty_requests_have_distinct_addresses) {
  MuseArena *arena = muse_arena_create();
  cr_assert_neq(muse_arena_alloc(arena, 0), muse_arena_alloc(arena, 0));
  muse_arena_destroy(arena);
}

Test(base_arena, a_large_block_leaves_the_shared_chunk_in_use) {
  MuseArena *arena = muse_arena_create();
  char *small = muse_arena_alloc(arena, 16);
  char *large = muse_arena_alloc(arena, 10 << 20);
  cr_assert_eq(large[(10 << 20) - 1], 0);
  char *next = muse_arena_alloc(arena, 16);
  cr_assert_eq(next, small + 16);
  muse_arena_destroy(arena);
}

Test(base_arena, bytes_counts_what_was_handed_out) {
  MuseArena *arena = muse_arena_create();
  cr_assert_eq(muse_arena_bytes(arena), 0);
  muse_arena_alloc(arena, 1);
  cr_assert_eq(muse_arena_bytes(arena), 16);
  muse_arena_alloc(arena, 17);
  cr_assert_eq(muse_arena_bytes(arena), 48);
  muse_arena_reset(arena);
  cr_assert_eq(muse_arena_bytes(arena), 0);
  muse_arena_destroy(arena);
}

Test(base_arena, reset_gives_zeroed_memory_again) {
  MuseArena *arena = muse_arena_create();
  for (int round = 0; round < 3; round++) {
    unsigned char *block = muse_arena_alloc(arena, 5000);
    for (int i = 0; i < 5000; i++) cr_assert_eq(block[i], 0);
    memset(block, 0xAB, 5000);
    muse_arena_reset(arena);
  }
  muse_arena_destroy(arena);
  muse_arena_destroy(NULL);
}

Test(base_arena, text_functions) {
  MuseArena *arena = muse_arena_create();
  cr_assert_str_eq(muse_arena_strdup(arena, ""), "");
  cr_assert_str_eq(muse_arena_strdup(arena, "green"), "green");
  cr_assert_str_eq(muse_arena_strndup(arena, "resolvent", 3), "res");
  cr_assert_str_eq(muse_arena_strndup(arena, NULL, 0), "");
  cr_assert_str_eq(muse_arena_printf(arena, "%s[%d,%d]", "t2", 1024, 768), "t2[1024,768]");
  char *wide = muse_arena_printf(arena, "%0200000d", 7);
  cr_assert_eq(strlen(wide), 200000);
  muse_arena_destroy(arena);
}

Test(base_arena, new_macros) {
  MuseArena *arena = muse_arena_create();
  int64_t *numbers = MUSE_NEW_ARRAY(arena, int64_t, 100);
  for (int i = 0; i < 100; i++) cr_assert_eq(numbers[i], 0);
  struct pair { double a, b; } *pair = MUSE_NEW(arena, struct pair);
  cr_assert(pair->a == 0 && pair->b == 0);
  cr_assert_eq(muse_arena_bytes(arena), 816);
  muse_arena_destroy(arena);
}

Test(base_arena, exhaustion_aborts, .signal = SIGABRT) {
  MuseArena *arena = muse_arena_create();
  muse_arena_alloc(arena, SIZE_MAX - 3);
}

Test(base_arena, length_overflow_aborts, .signal = SIGABRT) {
  MuseArena *arena = muse_arena_create();
  muse_arena_strndup(arena, "x", SIZE_MAX);
}
