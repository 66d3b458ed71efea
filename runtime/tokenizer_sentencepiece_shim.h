#ifndef MUSE_RUNTIME_TOKENIZER_SENTENCEPIECE_SHIM_H
#define MUSE_RUNTIME_TOKENIZER_SENTENCEPIECE_SHIM_H

// The few functions of libsentencepiece that MUSE uses, for C. Plain C and C++ both read this file.
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct MuseSpModel MuseSpModel;
enum { MUSE_SP_ERROR_BYTES = 400 };

// NULL on failure, with a sentence in `error`.
MuseSpModel *muse_sp_load(const char *bytes, size_t size, char error[MUSE_SP_ERROR_BYTES]);
void muse_sp_free(MuseSpModel *model);
int muse_sp_eos(const MuseSpModel *model); // -1: none
// Calls `take` with all ids at once; false on failure, with a sentence. Safe from several threads.
int muse_sp_encode(const MuseSpModel *model, const char *text, size_t length,
                   void (*take)(void *user, const int *ids, size_t n), void *user, char error[MUSE_SP_ERROR_BYTES]);
// Trains from lines: `next` gives one at a time, NULL at the end. `options` are names and values, ended by NULL.
int muse_sp_train(const char *const *options, const char *(*next)(void *user, size_t *out_length), void *next_user,
                  void (*take)(void *user, const char *bytes, size_t n), void *user, char error[MUSE_SP_ERROR_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
