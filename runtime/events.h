#ifndef MUSE_RUNTIME_EVENTS_H
#define MUSE_RUNTIME_EVENTS_H

#include "ir/base/diag.h"

#include <stdint.h>

// Event files that TensorBoard reads, beside metrics.jsonl. docs/files.md gives the bytes and their sources.

#define MUSE_EVENTS_PREFIX "events.out.tfevents."
#define MUSE_EVENTS_SUFFIX ".muse" // other programs' event files in the folder are left alone

typedef struct MuseEvents MuseEvents;

// Opens a new file in the folder `dir`. Our files that are there already lose all records beyond `resumed_step` and
// what is not whole; with -1 (a fresh run) they are removed. The new file begins by telling a TensorBoard that is
// looking to forget the steps beyond resumed_step.
MuseStatus muse_events_open(const char *dir, int64_t resumed_step, MuseEvents **out_events, MuseDiag *diag);
MuseStatus muse_events_close(MuseEvents *events, MuseDiag *diag); // NULL is allowed; reports a failed write

// One event: begin, any number of values, end (which writes it). An event without values is not written.
void muse_events_begin(MuseEvents *events, int64_t step);
void muse_events_scalar(MuseEvents *events, const char *tag, double value);
// Text is shown as it stands, not as Markdown; bytes that are not UTF-8 become U+FFFD.
void muse_events_text(MuseEvents *events, const char *tag, const char *text, size_t length);
// Counts of -1, 0 and 1.
void muse_events_trits(MuseEvents *events, const char *tag, const int64_t counts[3]);
MuseStatus muse_events_end(MuseEvents *events, MuseDiag *diag);

// CRC-32C (Castagnoli: polynomial 0x1EDC6F41, reflected), and the form that stands in a TFRecord.
uint32_t muse_crc32c(const void *data, size_t bytes);
uint32_t muse_masked_crc32c(const void *data, size_t bytes);

#endif
