// Bump allocator over a list of zeroed chunks. Small requests share the newest shared chunk, large ones get their own,
// so that one big array never wastes the rest of a shared chunk.
#include "ir/base/arena.h"

#include "ir/base/status.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, FIRST_CHUNK_BYTES = 16 * 1024, LARGEST_CHUNK_BYTES = 1024 * 1024 };

typedef struct Chunk {
  struct Chunk *next;
  size_t padding; // keeps data 16-byte aligned
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
    free(chunk);
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

static char *add_chunk(MuseArena *arena, size_t data_bytes) {
  size_t bytes;
  if (__builtin_add_overflow(data_bytes, sizeof(Chunk), &bytes)) muse_out_of_memory(SIZE_MAX);
  Chunk *chunk = allocate_or_abort(bytes);
  chunk->next = arena->chunks;
  arena->chunks = chunk;
  return chunk->data;
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
  char *memory = add_chunk(arena, arena->next_chunk_bytes);
  arena->cursor = memory + rounded;
  arena->end = memory + arena->next_chunk_bytes;
  if (arena->next_chunk_bytes < LARGEST_CHUNK_BYTES) arena->next_chunk_bytes *= 2;
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
