// Stands in for tokenizer_sentencepiece.c where MUSE is built without the library.
#include "runtime/tokenizer_kinds.h"

MuseStatus muse_sentencepiece_read(const char *path, const char *bytes, size_t size, MuseTokenizer *out,
                                   MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT,
                    "'%s' is no tokenizer.json, and SentencePiece models need MUSE built with libsentencepiece-dev",
                    path);
}

MuseStatus muse_sentencepiece_train(const MuseSentencePieceTraining *training, MuseStr *out_model, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "training a tokenizer needs MUSE built with libsentencepiece-dev");
}
