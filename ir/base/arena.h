#ifndef MUSE_IR_BASE_ARENA_H
#define MUSE_IR_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

// Bump allocator. Everything of a module lives in one arena and dies with it. Allocations are 16-byte aligned and
// zeroed; running out of memory aborts with a sentence (sizes that come from files are checked before they get here).
typedef struct MuseArena MuseArena;

MuseArena *muse_arena_create(void);
void muse_arena_destroy(MuseArena *arena); // NULL is allowed
void muse_arena_reset(MuseArena *arena);   // frees all allocations, keeps the arena usable
size_t muse_arena_bytes(const MuseArena *arena);

void *muse_arena_alloc(MuseArena *arena, size_t bytes);
char *muse_arena_strdup(MuseArena *arena, const char *text);
char *muse_arena_strndup(MuseArena *arena, const char *text, size_t length);
char *muse_arena_printf(MuseArena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define MUSE_NEW(arena, T) ((T *)muse_arena_alloc((arena), sizeof(T)))
#define MUSE_NEW_ARRAY(arena, T, n) ((T *)muse_arena_alloc((arena), sizeof(T) * (size_t)(n)))

#endif
