// The thread pool: tasks are handed out in shrinking pieces through one atomic counter. Workers spin for a moment
// between stages (a training step is some hundred short stages) and sleep when nothing comes.
#include "runtime/pool.h"

#include "ir/base/vec.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPINS = 4000 };

typedef struct Worker { MusePool *pool; pthread_t thread; int index; } Worker;

struct MusePool {
  int n_threads;
  Worker *workers; // n_threads - 1
  // The job: written before `generation` moves on, read after it was seen to move.
  MuseTaskFn fn;
  void *context;
  int64_t n_tasks;
  _Atomic int64_t next;
  _Atomic int busy;            // workers that have not finished the job
  _Atomic uint64_t generation;
  _Atomic int sleepers;
  _Atomic bool stop;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
};

int muse_available_cores(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
}

static void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// A piece is a share of what is left, so that pieces are large at first and the ends meet.
static void work(MusePool *p, int thread) {
  for (;;) {
    int64_t begin = atomic_load_explicit(&p->next, memory_order_relaxed), piece;
    do {
      if (begin >= p->n_tasks) return;
      piece = (p->n_tasks - begin) / (2 * p->n_threads);
      if (piece < 1) piece = 1;
    } while (!atomic_compare_exchange_weak_explicit(&p->next, &begin, begin + piece, memory_order_relaxed,
                                                    memory_order_relaxed));
    p->fn(p->context, thread, begin, begin + piece);
  }
}

static bool wait_for_job(MusePool *p, uint64_t seen) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) return !atomic_load(&p->stop);
    pause_cpu();
  }
  pthread_mutex_lock(&p->mutex);
  atomic_fetch_add(&p->sleepers, 1);
  while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->mutex);
  atomic_fetch_sub(&p->sleepers, 1);
  pthread_mutex_unlock(&p->mutex);
  return !atomic_load(&p->stop);
}

static void *worker_main(void *arg) {
  Worker *w = arg;
  MusePool *p = w->pool;
  uint64_t seen = 0;
  while (wait_for_job(p, seen)) {
    seen = atomic_load_explicit(&p->generation, memory_order_acquire);
    work(p, w->index);
    atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
  }
  return NULL;
}

static void announce(MusePool *p) {
  atomic_fetch_add_explicit(&p->generation, 1, memory_order_seq_cst);
  if (atomic_load_explicit(&p->sleepers, memory_order_seq_cst) == 0) {
    // A worker on its way to sleep checks the generation under the mutex, so taking it once is enough.
    pthread_mutex_lock(&p->mutex);
    pthread_mutex_unlock(&p->mutex);
    if (atomic_load(&p->sleepers) == 0) return;
  }
  pthread_mutex_lock(&p->mutex);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->mutex);
}

void muse_pool_run(MusePool *p, int64_t n_tasks, MuseTaskFn fn, void *context) {
  if (n_tasks <= 0) return;
  if (p->n_threads == 1 || n_tasks == 1) {
    fn(context, 0, 0, n_tasks);
    return;
  }
  p->fn = fn;
  p->context = context;
  p->n_tasks = n_tasks;
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  atomic_store_explicit(&p->busy, p->n_threads - 1, memory_order_relaxed);
  announce(p);
  work(p, 0);
  for (int i = 0; atomic_load_explicit(&p->busy, memory_order_acquire) > 0; i++) {
    if (i < SPINS) pause_cpu();
    else sched_yield();
  }
}

MuseStatus muse_pool_create(int n_threads, MusePool **out_pool, MuseDiag *diag) {
  if (n_threads < 0 || n_threads > 4096)
    return muse_error(diag, MUSE_ERR_INPUT, "%d threads are not possible; use 1 to 4096, or 0 for one a core",
                      n_threads);
  if (n_threads == 0) n_threads = muse_available_cores();
  MusePool *p = calloc(1, sizeof *p);
  MUSE_ASSERT(p != NULL);
  p->n_threads = n_threads;
  p->workers = calloc((size_t)n_threads, sizeof *p->workers);
  MUSE_ASSERT(p->workers != NULL);
  pthread_mutex_init(&p->mutex, NULL);
  pthread_cond_init(&p->wake, NULL);
  for (int i = 1; i < n_threads; i++) {
    p->workers[i - 1] = (Worker){.pool = p, .index = i};
    int error = pthread_create(&p->workers[i - 1].thread, NULL, worker_main, &p->workers[i - 1]);
    if (error) {
      p->n_threads = i;
      muse_pool_destroy(p);
      return muse_error(diag, MUSE_ERR_FAILED,
                        "thread %d of %d cannot be started (%s); use --threads with a smaller number", i + 1, n_threads,
                        strerror(error));
    }
  }
  *out_pool = p;
  return MUSE_OK;
}

void muse_pool_destroy(MusePool *p) {
  if (!p) return;
  atomic_store(&p->stop, true);
  pthread_mutex_lock(&p->mutex);
  atomic_fetch_add(&p->generation, 1);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->mutex);
  for (int i = 0; i < p->n_threads - 1; i++) pthread_join(p->workers[i].thread, NULL);
  pthread_mutex_destroy(&p->mutex);
  pthread_cond_destroy(&p->wake);
  free(p->workers);
  free(p);
}

int muse_pool_threads(const MusePool *p) { return p->n_threads; }
