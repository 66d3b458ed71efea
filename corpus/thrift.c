// Thrift's compact protocol, reading only.
#include "corpus/thrift.h"

enum { MAX_DEPTH = 32 };

static void fail(MuseThrift *t, bool short_of_bytes) {
  if (!t->bad) t->short_of_bytes = short_of_bytes;
  t->bad = true;
}

static uint8_t byte(MuseThrift *t) {
  if (t->bad || t->at == t->end) {
    fail(t, true);
    return 0;
  }
  return *t->at++;
}

static uint64_t varint(MuseThrift *t) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    uint8_t b = byte(t);
    value |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) return t->bad ? 0 : value;
  }
  fail(t, false);
  return 0;
}

static int64_t zigzag(MuseThrift *t) {
  uint64_t v = varint(t);
  return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

bool muse_thrift_field(MuseThrift *t, int *io_id, MuseThriftType *out_type) {
  uint8_t head = byte(t);
  if (t->bad || head == 0) return false;
  int64_t id = head >> 4 ? *io_id + (head >> 4) : zigzag(t);
  *out_type = (MuseThriftType)(head & 15);
  if (id < -32768 || id > 32767 || *out_type > MUSE_THRIFT_STRUCT || *out_type == MUSE_THRIFT_STOP) fail(t, false);
  *io_id = (int)id;
  return !t->bad;
}

int64_t muse_thrift_int(MuseThrift *t, MuseThriftType type) {
  if (type == MUSE_THRIFT_I8) return (int8_t)byte(t);
  if (type >= MUSE_THRIFT_I16 && type <= MUSE_THRIFT_I64) return zigzag(t);
  fail(t, false);
  return 0;
}

bool muse_thrift_bool(MuseThrift *t, MuseThriftType type) {
  if (type != MUSE_THRIFT_TRUE && type != MUSE_THRIFT_FALSE) fail(t, false);
  return type == MUSE_THRIFT_TRUE;
}

const uint8_t *muse_thrift_binary(MuseThrift *t, MuseThriftType type, size_t *out_length) {
  *out_length = 0;
  if (type != MUSE_THRIFT_BINARY) fail(t, false);
  uint64_t n = varint(t);
  if (t->bad) return NULL;
  if (n > (uint64_t)(t->end - t->at)) {
    fail(t, true);
    return NULL;
  }
  const uint8_t *start = t->at;
  t->at += n;
  *out_length = (size_t)n;
  return start;
}

size_t muse_thrift_list(MuseThrift *t, MuseThriftType type, MuseThriftType *out_element) {
  *out_element = MUSE_THRIFT_STOP;
  if (type != MUSE_THRIFT_LIST && type != MUSE_THRIFT_SET) fail(t, false);
  uint8_t head = byte(t);
  uint64_t n = head >> 4 == 15 ? varint(t) : head >> 4;
  *out_element = (MuseThriftType)(head & 15);
  if (!t->bad && (*out_element == MUSE_THRIFT_STOP || *out_element > MUSE_THRIFT_STRUCT)) fail(t, false);
  if (!t->bad && n > (uint64_t)(t->end - t->at)) fail(t, true);
  return t->bad ? 0 : (size_t)n;
}

static void skip(MuseThrift *t, MuseThriftType type, bool is_element, int depth);

static void skip_map(MuseThrift *t, int depth) {
  uint64_t n = varint(t);
  if (n == 0 || t->bad) return;
  uint8_t types = byte(t);
  for (; n && !t->bad; n--) {
    skip(t, (MuseThriftType)(types >> 4), true, depth + 1);
    skip(t, (MuseThriftType)(types & 15), true, depth + 1);
  }
}

static void skip(MuseThrift *t, MuseThriftType type, bool is_element, int depth) {
  size_t length;
  int id = 0;
  MuseThriftType inner;
  if (depth > MAX_DEPTH) fail(t, false);
  if (t->bad) return;
  switch (type) {
  case MUSE_THRIFT_TRUE:
  case MUSE_THRIFT_FALSE:
    if (is_element) byte(t); // as a field, the type is the value
    return;
  case MUSE_THRIFT_I8: byte(t); return;
  case MUSE_THRIFT_I16:
  case MUSE_THRIFT_I32:
  case MUSE_THRIFT_I64: varint(t); return;
  case MUSE_THRIFT_DOUBLE:
    for (int i = 0; i < 8; i++) byte(t);
    return;
  case MUSE_THRIFT_BINARY: muse_thrift_binary(t, type, &length); return;
  case MUSE_THRIFT_LIST:
  case MUSE_THRIFT_SET:
    for (size_t n = muse_thrift_list(t, type, &inner); n && !t->bad; n--) skip(t, inner, true, depth + 1);
    return;
  case MUSE_THRIFT_MAP: skip_map(t, depth); return;
  case MUSE_THRIFT_STRUCT:
    while (muse_thrift_field(t, &id, &inner)) skip(t, inner, false, depth + 1);
    return;
  case MUSE_THRIFT_STOP: break;
  }
  fail(t, false);
}

void muse_thrift_skip(MuseThrift *t, MuseThriftType type) { skip(t, type, false, 0); }
void muse_thrift_skip_element(MuseThrift *t, MuseThriftType type) { skip(t, type, true, 0); }
