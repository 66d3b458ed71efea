#ifndef MUSE_CORPUS_JSON_LINE_H
#define MUSE_CORPUS_JSON_LINE_H

#include "corpus/parquet.h"
#include "ir/base/str.h"

// Some texts of a JSON object (RFC 8259) without building the object: several times as fast as a general reader, which
// is what JSONL of many gigabytes needs.

typedef enum MuseJsonKind { MUSE_JSON_ABSENT, MUSE_JSON_STRING, MUSE_JSON_NULL, MUSE_JSON_OTHER } MuseJsonKind;

enum { MUSE_JSON_MAX_DEPTH = 256 };

// False when the text is no JSON object. out_values[i] is the text of the key names[i], in the line or in *scratch
// (which is replaced), where it is a string; of a key that stands there twice, the last one. Whether texts are valid
// UTF-8 is not checked.
bool muse_json_line(const char *text, size_t length, const char *const *names, int n_names, MuseStr *scratch,
                    MuseSlice *out_values, MuseJsonKind *out_kinds);

#endif
