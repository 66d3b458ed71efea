#ifndef MUSE_RUNTIME_MEMORY_H
#define MUSE_RUNTIME_MEMORY_H

#include <stdint.h>

// Bytes of host memory that this process could take now without swapping: what the kernel calls MemAvailable, or what
// the limits of its control groups leave, whichever is less. UINT64_MAX: unknown.
uint64_t muse_available_memory(void);

#endif
