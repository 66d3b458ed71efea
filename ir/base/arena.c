// Bump allocator over a list of zeroed chunks. Small requests share the newest shared chunk, large ones get their own,
// so that one big array never wastes the rest of a shared chunk. Where much is asked for, shared chunks lie on large
// pages: walks over the IR follow pointers, and wait for the translation of addresses otherwise.
#include "ir/base/arena.h"

#include "ir/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
  ALIGNMENT = 16,
  FIRST_CHUNK_BYTES = 16 * 1024,
  LARGEST_CHUNK_BYTES = 1024 * 1024, // of calloc
  LARGE_PAGE = 2 * 1024 * 1024,
};

// Leaks are looked for in memory of calloc alone.
#if defined __SANITIZE_ADDRESS__
#define USE_LARGE_PAGES 0
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define USE_LARGE_PAGES 0
#endif
#endif
#ifndef USE_LARGE_PAGES
#define USE_LARGE_PAGES 1
#endif

typedef struct Chunk {
  struct Chunk *next;
  size_t mapped; // bytes to unmap; 0: it is of calloc
  char data[];
} Chunk;

_Static_assert(sizeof(Chunk) % ALIGNMENT == 0, "the chunk header must keep the data aligned");

struct MuseArena {
  Chunk *chunks;
  char *cursor, *end; // free part of the newest shared chunk
  size_t next_chunk_bytes;
  size_t bytes; // handed out, rounding included
};

static void *allocate_or_abort(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (!memory) muse_out_of_memory(bytes);
  return memory;
}

MuseArena *muse_arena_create(void) {
  MuseArena *arena = allocate_or_abort(sizeof *arena);
  arena->next_chunk_bytes = FIRST_CHUNK_BYTES;
  return arena;
}

void muse_arena_reset(MuseArena *arena) {
  for (Chunk *chunk = arena->chunks; chunk;) {
    Chunk *next = chunk->next;
    if (chunk->mapped) munmap(chunk, chunk->mapped);
    else free(chunk);
    chunk = next;
  }
  *arena = (MuseArena){.next_chunk_bytes = FIRST_CHUNK_BYTES};
}

void muse_arena_destroy(MuseArena *arena) {
  if (!arena) return;
  muse_arena_reset(arena);
  free(arena);
}

size_t muse_arena_bytes(const MuseArena *arena) { return arena->bytes; }

static char *link_chunk(MuseArena *arena, Chunk *chunk) {
  chunk->next = arena->chunks;
  arena->chunks = chunk;
  return chunk->data;
}

static char *add_chunk(MuseArena *arena, size_t data_bytes) {
  size_t bytes;
  if (__builtin_add_overflow(data_bytes, sizeof(Chunk), &bytes)) muse_out_of_memory(SIZE_MAX);
  return link_chunk(arena, allocate_or_abort(bytes));
}

// A shared chunk that is one large page where the system has them, or NULL.
static char *add_large_page(MuseArena *arena) {
  if (!USE_LARGE_PAGES) return NULL;
  char *mapped = mmap(NULL, 2 * LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return NULL;
  size_t before = (size_t)-(uintptr_t)mapped % LARGE_PAGE;
  if (before) munmap(mapped, before);
  munmap(mapped + before + LARGE_PAGE, LARGE_PAGE - before);
  Chunk *chunk = (Chunk *)(mapped + before);
  madvise(chunk, LARGE_PAGE, MADV_HUGEPAGE); // refused: small pages serve as well
  chunk->mapped = LARGE_PAGE;
  return link_chunk(arena, chunk);
}

void *muse_arena_alloc(MuseArena *arena, size_t bytes) {
  if (bytes > SIZE_MAX - ALIGNMENT) muse_out_of_memory(bytes);
  // An empty request still gets an address of its own.
  size_t rounded = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
  arena->bytes += rounded;
  if (rounded <= (size_t)(arena->end - arena->cursor)) {
    char *memory = arena->cursor;
    arena->cursor += rounded;
    return memory;
  }
  if (rounded > arena->next_chunk_bytes / 4) return add_chunk(arena, rounded);
  bool large = arena->next_chunk_bytes >= LARGEST_CHUNK_BYTES;
  char *memory = large ? add_large_page(arena) : NULL;
  size_t room = memory ? LARGE_PAGE - sizeof(Chunk) : arena->next_chunk_bytes;
  if (!memory) memory = add_chunk(arena, room);
  arena->cursor = memory + rounded;
  arena->end = memory + room;
  if (!large) arena->next_chunk_bytes *= 2;
  return memory;
}

char *muse_arena_strndup(MuseArena *arena, const char *text, size_t length) {
  if (length == SIZE_MAX) muse_out_of_memory(length);
  char *copy = muse_arena_alloc(arena, length + 1);
  if (length) memcpy(copy, text, length);
  return copy;
}

char *muse_arena_strdup(MuseArena *arena, const char *text) { return muse_arena_strndup(arena, text, strlen(text)); }

char *muse_arena_printf(MuseArena *arena, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  MUSE_ASSERT(length >= 0);
  char *text = muse_arena_alloc(arena, (size_t)length + 1);
  vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}
