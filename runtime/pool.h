#ifndef MUSE_RUNTIME_POOL_H
#define MUSE_RUNTIME_POOL_H

#include "ir/base/diag.h"

#include <stdint.h>

// Worker threads that share the tasks of a kernel stage. Which thread computes which task changes from run to run;
// results do not, because tasks write disjoint places (compiler/kernel_info.h).
typedef struct MusePool MusePool;

// Computes tasks [begin, end). `thread` is 0..n_threads-1 and names the scratch memory to use.
typedef void (*MuseTaskFn)(void *context, int thread, int64_t begin, int64_t end);

// n_threads >= 1 counts the calling thread; 0: one a core that this process may run on.
MuseStatus muse_pool_create(int n_threads, MusePool **out_pool, MuseDiag *diag);
void muse_pool_destroy(MusePool *pool); // NULL is allowed
int muse_pool_threads(const MusePool *pool);

// Runs all tasks and returns when they are done. One caller at a time.
void muse_pool_run(MusePool *pool, int64_t n_tasks, MuseTaskFn fn, void *context);

int muse_available_cores(void);

#endif
