#ifndef MUSE_CORPUS_THRIFT_H
#define MUSE_CORPUS_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Cursor over Thrift's compact protocol, in which Parquet writes its metadata
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md). Every read is checked against
// the end; after the first wrong byte `bad` stays set, all reads return 0 and all loops end. `short_of_bytes` says that
// the reason was the end of the bytes, so that a caller with more of them may try again.
typedef enum MuseThriftType {
  MUSE_THRIFT_STOP, MUSE_THRIFT_TRUE, MUSE_THRIFT_FALSE, MUSE_THRIFT_I8, MUSE_THRIFT_I16, MUSE_THRIFT_I32,
  MUSE_THRIFT_I64, MUSE_THRIFT_DOUBLE, MUSE_THRIFT_BINARY, MUSE_THRIFT_LIST, MUSE_THRIFT_SET, MUSE_THRIFT_MAP,
  MUSE_THRIFT_STRUCT,
} MuseThriftType;

typedef struct MuseThrift {
  const uint8_t *at, *end;
  bool bad, short_of_bytes;
} MuseThrift;

// The next field of a struct; *io_id is the field before it (0 at the start). False at the end of the struct.
bool muse_thrift_field(MuseThrift *t, int *io_id, MuseThriftType *out_type);
int64_t muse_thrift_int(MuseThrift *t, MuseThriftType type); // I8, I16, I32, I64
bool muse_thrift_bool(MuseThrift *t, MuseThriftType type);   // of a field
// Points into the bytes; NULL when bad.
const uint8_t *muse_thrift_binary(MuseThrift *t, MuseThriftType type, size_t *out_length);
// Number of elements; each takes at least one byte, so it never exceeds what is left.
size_t muse_thrift_list(MuseThrift *t, MuseThriftType type, MuseThriftType *out_element);
void muse_thrift_skip(MuseThrift *t, MuseThriftType type);         // the value of a field
void muse_thrift_skip_element(MuseThrift *t, MuseThriftType type); // an element of a list

#endif
