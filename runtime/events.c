// TensorBoard's event files: a TFRecord (tensorflow/core/lib/io/record_writer.h: u64 length, its masked CRC-32C, the
// data, their masked CRC-32C) for each protobuf message Event (tensorflow/core/util/event.proto and
// framework/summary.proto), encoded by hand: a field is varint(number << 3 | wire type) and its value
// (protobuf.dev/programming-guides/encoding).
#include "runtime/events.h"

#include "ir/base/str.h"
#include "runtime/tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct MuseEvents {
  char *path;
  int fd;
  int64_t step;
  MuseStr summary, value, record; // of the event that is being made; a part of it; the whole with its frame
};

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; // wire types

// Field numbers of the messages.
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION_LOG = 7 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_HISTOGRAM = 5, VALUE_TENSOR = 8, VALUE_METADATA = 9 };
enum { METADATA_PLUGIN = 1, PLUGIN_NAME = 1, METADATA_DATA_CLASS = 4, DATA_CLASS_TENSOR = 2 };
enum { TENSOR_DTYPE = 1, TENSOR_SHAPE = 2, TENSOR_STRING = 8, DTYPE_STRING = 7, SHAPE_DIM = 2, DIM_SIZE = 1 };
enum { HISTO_MIN = 1, HISTO_MAX = 2, HISTO_NUM = 3, HISTO_SUM = 4, HISTO_SQUARES = 5 };
enum { HISTO_LIMIT = 6, HISTO_BUCKET = 7 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };

uint32_t muse_crc32c(const void *data, size_t bytes) {
  static uint32_t table[256];
  if (!table[1]) {
    for (uint32_t i = 255; i > 0; i--) { // entry 1, which says that the table is there, comes last
      uint32_t c = i;
      for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
      table[i] = c;
    }
  }
  uint32_t crc = ~0u;
  for (size_t i = 0; i < bytes; i++) crc = table[(crc ^ ((const unsigned char *)data)[i]) & 255] ^ crc >> 8;
  return ~crc;
}

uint32_t muse_masked_crc32c(const void *data, size_t bytes) {
  uint32_t crc = muse_crc32c(data, bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// ---- encoding ----

static void add_little_endian(MuseStr *out, uint64_t value, int bytes) {
  char b[8];
  for (int i = 0; i < bytes; i++) b[i] = (char)(value >> 8 * i & 255);
  muse_str_append_n(out, b, (size_t)bytes);
}

static void add_varint(MuseStr *out, uint64_t value) {
  for (; value > 127; value >>= 7) add_little_endian(out, (value & 127) | 128, 1);
  add_little_endian(out, value, 1);
}

static void add_int(MuseStr *out, int field, uint64_t value) {
  add_varint(out, (uint64_t)field << 3 | VARINT);
  add_varint(out, value);
}

static void add_bytes(MuseStr *out, int field, const char *data, size_t bytes) {
  add_varint(out, (uint64_t)field << 3 | BYTES);
  add_varint(out, bytes);
  muse_str_append_n(out, data, bytes);
}

static void add_text(MuseStr *out, int field, const char *text) { add_bytes(out, field, text, strlen(text)); }

// An inner message; frees it.
static void add_message(MuseStr *out, int field, MuseStr *message) {
  add_bytes(out, field, muse_str_text(message), message->len);
  muse_str_free(message);
}

static uint64_t double_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static void add_double(MuseStr *out, int field, double value) {
  add_varint(out, (uint64_t)field << 3 | FIXED64);
  add_little_endian(out, double_bits(value), 8);
}

static void add_doubles(MuseStr *out, int field, const double *values, int n) {
  add_varint(out, (uint64_t)field << 3 | BYTES); // packed
  add_varint(out, 8 * (uint64_t)n);
  for (int i = 0; i < n; i++) add_little_endian(out, double_bits(values[i]), 8);
}

// ---- decoding, as far as cutting a file needs it ----

static uint64_t read_little_endian(const unsigned char *p, int bytes) {
  uint64_t value = 0;
  for (int i = bytes; i-- > 0;) value = value << 8 | p[i];
  return value;
}

static bool read_varint(const unsigned char **p, const unsigned char *end, uint64_t *out) {
  *out = 0;
  for (int shift = 0; shift < 64 && *p < end; shift += 7) {
    unsigned char byte = *(*p)++;
    *out |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

// The step of an Event; 0 when it has none, -1 for what is no message.
static int64_t step_of_event(const unsigned char *p, size_t bytes) {
  const unsigned char *end = p + bytes;
  int64_t step = 0;
  while (p < end) {
    uint64_t key, value;
    if (!read_varint(&p, end, &key)) return -1;
    uint64_t skip = 0;
    switch (key & 7) {
    case VARINT:
      if (!read_varint(&p, end, &value)) return -1;
      if (key >> 3 == EVENT_STEP) step = (int64_t)value;
      break;
    case FIXED64: skip = 8; break;
    case FIXED32: skip = 4; break;
    case BYTES:
      if (!read_varint(&p, end, &skip)) return -1;
      break;
    default: return -1;
    }
    if (skip > (uint64_t)(end - p)) return -1;
    p += skip;
  }
  return step;
}

// Bytes at the front of the file that are whole records of steps up to `last`, and how many records those are.
static off_t history_length(FILE *f, int64_t last, int *out_records) {
  enum { MAX_EVENT = 64 << 20 }; // far beyond what is ever written
  off_t kept = 0;
  *out_records = 0;
  for (;;) {
    unsigned char head[12], tail[4];
    if (fread(head, 1, sizeof head, f) != sizeof head) break;
    uint64_t bytes = read_little_endian(head, 8);
    if (muse_masked_crc32c(head, 8) != read_little_endian(head + 8, 4) || bytes == 0 || bytes > MAX_EVENT) break;
    char *record = malloc(bytes);
    if (!record) muse_out_of_memory(bytes);
    bool whole = fread(record, 1, bytes, f) == bytes && fread(tail, 1, sizeof tail, f) == sizeof tail &&
                 muse_masked_crc32c(record, bytes) == read_little_endian(tail, 4);
    int64_t step = whole ? step_of_event((const unsigned char *)record, bytes) : -1;
    free(record);
    if (step < 0 || step > last) break;
    kept += (off_t)(sizeof head + bytes + sizeof tail);
    ++*out_records;
  }
  return kept;
}

// ---- files ----

static MuseStatus write_all(MuseEvents *e, const char *data, size_t bytes, MuseDiag *diag) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = write(e->fd, data + done, bytes - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", e->path, strerror(errno));
    done += (size_t)n;
  }
  return MUSE_OK;
}

// Writes one Event: its time, its step, and one more field.
static MuseStatus write_event(MuseEvents *e, int64_t step, int field, const char *data, size_t bytes, MuseDiag *diag) {
  MuseStr event = {0};
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  add_double(&event, EVENT_WALL_TIME, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
  if (step) add_int(&event, EVENT_STEP, (uint64_t)step);
  add_bytes(&event, field, data, bytes);
  MuseStr *r = &e->record;
  muse_str_clear(r);
  add_little_endian(r, event.len, 8);
  add_little_endian(r, muse_masked_crc32c(r->data, 8), 4);
  muse_str_append_n(r, event.data, event.len);
  add_little_endian(r, muse_masked_crc32c(event.data, event.len), 4);
  muse_str_free(&event);
  return write_all(e, r->data, r->len, diag); // one call, so that a reader sees whole records
}

// Cuts an earlier file of the run to its steps up to `last`; one that holds no more than its head goes.
static MuseStatus cut_file(const char *path, int64_t last, MuseDiag *diag) {
  int records = 0;
  off_t kept = 0;
  FILE *f = last >= 0 ? fopen(path, "rb") : NULL;
  if (last >= 0 && !f) return muse_error(diag, MUSE_ERR_FAILED, "cannot read '%s': %s", path, strerror(errno));
  if (f) {
    kept = history_length(f, last, &records);
    fclose(f);
  }
  int result = records > 2 ? truncate(path, kept) : unlink(path); // the head: the version, and the session's start
  if (result == 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_FAILED, "cannot shorten '%s' to the resumed step: %s", path, strerror(errno));
}

static bool is_ours(const char *name) {
  return muse_str_starts_with(name, MUSE_EVENTS_PREFIX) && muse_str_ends_with(name, MUSE_EVENTS_SUFFIX);
}

// Cuts the earlier files. out_last: the largest number in their names, which order them; -1: there was none.
static MuseStatus cut_files(const char *dir, int64_t last, int64_t *out_last, MuseDiag *diag) {
  *out_last = -1;
  DIR *d = opendir(dir);
  if (!d) return muse_error(diag, MUSE_ERR_FAILED, "cannot read the folder '%s': %s", dir, strerror(errno));
  MuseStatus status = MUSE_OK;
  for (struct dirent *entry; status == MUSE_OK && (entry = readdir(d));) {
    if (!is_ours(entry->d_name)) continue;
    MuseStr path = {0};
    muse_str_appendf(&path, "%s/%s", dir, entry->d_name);
    int64_t number = strtoll(entry->d_name + strlen(MUSE_EVENTS_PREFIX), NULL, 10);
    if (number > *out_last && number < INT64_MAX) *out_last = number;
    status = cut_file(path.data, last, diag);
    muse_str_free(&path);
  }
  closedir(d);
  return status;
}

MuseStatus muse_events_open(const char *dir, int64_t resumed_step, MuseEvents **out_events, MuseDiag *diag) {
  *out_events = NULL;
  int64_t last, number = (int64_t)time(NULL);
  MUSE_TRY(cut_files(dir, resumed_step, &last, diag));
  if (number <= last) number = last + 1; // TensorBoard reads a folder's files in the order of their names
  MuseEvents *e = calloc(1, sizeof *e);
  if (!e) muse_out_of_memory(sizeof *e);
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/" MUSE_EVENTS_PREFIX "%010lld" MUSE_EVENTS_SUFFIX, dir, (long long)number);
  e->path = path.data;
  e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  MuseStatus status = MUSE_OK;
  if (e->fd < 0) status = muse_error(diag, MUSE_ERR_FAILED, "cannot make '%s': %s", e->path, strerror(errno));
  static const char version[] = "brain.Event:2";
  if (status == MUSE_OK) status = write_event(e, 0, EVENT_FILE_VERSION, version, sizeof version - 1, diag);
  if (status == MUSE_OK) { // "start" at a step: readers drop what they hold of this step and later
    MuseStr log = {0};
    add_int(&log, SESSION_STATUS, SESSION_START);
    status = write_event(e, resumed_step < 0 ? 0 : resumed_step + 1, EVENT_SESSION_LOG, log.data, log.len, diag);
    muse_str_free(&log);
  }
  if (status != MUSE_OK) {
    muse_events_close(e, NULL);
    return status;
  }
  *out_events = e;
  return MUSE_OK;
}

MuseStatus muse_events_close(MuseEvents *e, MuseDiag *diag) {
  if (!e) return MUSE_OK;
  MuseStatus status = MUSE_OK;
  if (e->fd >= 0 && close(e->fd) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", e->path, strerror(errno));
  muse_str_free(&e->summary);
  muse_str_free(&e->value);
  muse_str_free(&e->record);
  free(e->path);
  free(e);
  return status;
}

// ---- values ----

void muse_events_begin(MuseEvents *e, int64_t step) {
  e->step = step;
  muse_str_clear(&e->summary);
}

static void begin_value(MuseEvents *e, const char *tag) {
  muse_str_clear(&e->value);
  add_text(&e->value, VALUE_TAG, tag);
}

static void end_value(MuseEvents *e) { add_bytes(&e->summary, SUMMARY_VALUE, e->value.data, e->value.len); }

void muse_events_scalar(MuseEvents *e, const char *tag, double value) {
  begin_value(e, tag);
  float single = (float)value;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  add_varint(&e->value, VALUE_SIMPLE << 3 | FIXED32);
  add_little_endian(&e->value, bits, 4);
  end_value(e);
}

// Markdown shows lines that are indented by four blanks as they stand.
static void append_literal(MuseStr *out, const char *text, size_t length) {
  muse_str_append(out, "    ");
  for (size_t i = 0; i < length;) {
    int n = muse_utf8_length((const unsigned char *)text + i, length - i);
    if (n == 0) muse_str_append(out, "\xef\xbf\xbd");
    else muse_str_append_n(out, text + i, (size_t)n);
    if (text[i] == '\n') muse_str_append(out, "    ");
    i += n ? (size_t)n : 1;
  }
}

void muse_events_text(MuseEvents *e, const char *tag, const char *text, size_t length) {
  MuseStr plugin = {0}, metadata = {0}, dim = {0}, shape = {0}, tensor = {0}, literal = {0};
  begin_value(e, tag);
  append_literal(&literal, text, length);
  add_int(&dim, DIM_SIZE, 1);
  add_message(&shape, SHAPE_DIM, &dim);
  add_int(&tensor, TENSOR_DTYPE, DTYPE_STRING);
  add_message(&tensor, TENSOR_SHAPE, &shape);
  add_message(&tensor, TENSOR_STRING, &literal);
  add_message(&e->value, VALUE_TENSOR, &tensor);
  add_text(&plugin, PLUGIN_NAME, "text");
  add_message(&metadata, METADATA_PLUGIN, &plugin);
  add_int(&metadata, METADATA_DATA_CLASS, DATA_CLASS_TENSOR);
  add_message(&e->value, VALUE_METADATA, &metadata);
  end_value(e);
}

void muse_events_trits(MuseEvents *e, const char *tag, const int64_t counts[3]) {
  static const double limits[3] = {-0.5, 0.5, 1.5}; // right ends of the buckets
  double minus = (double)counts[0], zero = (double)counts[1], plus = (double)counts[2];
  MuseStr histogram = {0};
  begin_value(e, tag);
  add_double(&histogram, HISTO_MIN, -1);
  add_double(&histogram, HISTO_MAX, 1);
  add_double(&histogram, HISTO_NUM, minus + zero + plus);
  add_double(&histogram, HISTO_SUM, plus - minus);
  add_double(&histogram, HISTO_SQUARES, plus + minus);
  add_doubles(&histogram, HISTO_LIMIT, limits, 3);
  add_doubles(&histogram, HISTO_BUCKET, (double[3]){minus, zero, plus}, 3);
  add_message(&e->value, VALUE_HISTOGRAM, &histogram);
  end_value(e);
}

MuseStatus muse_events_end(MuseEvents *e, MuseDiag *diag) {
  if (e->summary.len == 0) return MUSE_OK;
  return write_event(e, e->step, EVENT_SUMMARY, e->summary.data, e->summary.len, diag);
}
