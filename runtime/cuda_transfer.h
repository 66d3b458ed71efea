#ifndef MUSE_RUNTIME_CUDA_TRANSFER_H
#define MUSE_RUNTIME_CUDA_TRANSFER_H

#include "runtime/cuda_api.h"

// Copies between host and GPU memory in the order of a stream of kernels, without stopping it: what is written goes
// through pinned memory and a stream of its own to a place beside its destination while kernels run, and is moved there
// between them; what is fetched is picked up the same way. All from one thread.
typedef struct MuseCudaTransfer MuseCudaTransfer;

MuseStatus muse_cuda_transfer_create(const MuseCuda *cuda, CudaStream *compute, MuseCudaTransfer **out, MuseDiag *diag);
void muse_cuda_transfer_destroy(MuseCudaTransfer *t); // NULL is allowed

// `data` is free when it returns. Small pieces are collected until the next flush.
MuseStatus muse_cuda_transfer_write(MuseCudaTransfer *t, CudaPointer to, const void *data, size_t bytes,
                                    MuseDiag *diag);
// In front of everything that is put on the stream and must see what was written, and behind what is fetched.
MuseStatus muse_cuda_transfer_flush(MuseCudaTransfer *t, MuseDiag *diag);
// Waits.
MuseStatus muse_cuda_transfer_read(MuseCudaTransfer *t, void *out, CudaPointer from, size_t bytes, MuseDiag *diag);
// Up to 4096 bytes as they are now; they are in `out` after the next wait. Neighbours are fetched together.
MuseStatus muse_cuda_transfer_fetch(MuseCudaTransfer *t, void *out, CudaPointer from, size_t bytes, MuseDiag *diag);
// For everything on the stream.
MuseStatus muse_cuda_transfer_wait(MuseCudaTransfer *t, MuseDiag *diag);

#endif
