#ifndef MUSE_COMPILER_SKEL_MISC_H
#define MUSE_COMPILER_SKEL_MISC_H

#include "compiler/kernel_info.h"

// Skeletons of the small ops around the mixers; one op is the whole body.
// doc_begin: a task is a row. rope_table: a task is MUSE_ROPE_ENTRIES / half rows of the table (at least one).
// ring_write: a task is about MUSE_RING_BYTES of the ring; written over the ring, only the new slot is touched.
#define MUSE_ROPE_ENTRIES 4096
#define MUSE_RING_BYTES 65536

typedef struct MuseRingShape {
  int64_t outer, slots, inner_bytes; // the ring is [outer][slots][inner_bytes]
  int64_t rows_per_task;             // rows: (outer, slot) pairs
} MuseRingShape;
MuseRingShape muse_ring_shape(const MuseOp *kernel);
int64_t muse_rope_rows_per_task(const MuseOp *kernel);

void muse_doc_begin_info(const MuseOp *kernel, MuseKernelInfo *out_info);
void muse_rope_table_info(const MuseOp *kernel, MuseKernelInfo *out_info);
void muse_ring_write_info(const MuseOp *kernel, MuseKernelInfo *out_info);
bool muse_doc_begin_allows_in_place(const MuseOp *kernel, int result, int operand);
bool muse_ring_write_allows_in_place(const MuseOp *kernel, int result, int operand);

#endif
