// Blocks of threads on the cores of the host. A thread is a fiber with a stack of its own; a worker (one a core) runs
// one block, whose fibers give way to each other where they wait: at barriers, and where the lanes of a warp meet. The
// lane that comes last does what all do together. Between two such places a thread runs undisturbed, so that what needs
// a barrier and has none gives wrong results, always the same ones. Blocks begin in the order of their numbers.
#include "tests/emulator/execute.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined __x86_64__ && !defined EMULATOR_UCONTEXT
#define OWN_SWITCH
#else
#include <ucontext.h>
#endif

enum { MAX_THREADS = 1024, MAX_WORKERS = 64, BARRIERS = 16, MAX_STATIC = 64, PAGE = 4096, PAD = 64, POISON = 0xFF };

typedef struct Worker Worker;
typedef struct Fiber Fiber;

typedef struct Copy { // of cp.async, done when it is waited for
  unsigned char *to;
  const unsigned char *from;
  unsigned bytes, from_bytes, group;
} Copy;

struct Fiber { // in the first page of a stack
  EmuThread thread;
  Worker *worker;
  Fiber *next;  // of those that wait at the same barrier
  int number, waits_at; // barrier + 1, or 0
  unsigned lanes; // that it waits for; 0: none
  bool done;
  Copy *copies;
  unsigned n_copies, room, group; // copies not done yet; group: that is being filled
#ifdef OWN_SWITCH
  void *sp;
#else
  ucontext_t *context;
#endif
};

_Static_assert(sizeof(struct Fiber) <= 128, "see EMU_THREAD_AT");

typedef struct Barrier {
  unsigned arrived, expected;
  Fiber *waiting;
} Barrier;

typedef struct Meeting { // of lanes; kept under the lowest of them
  unsigned mask, arrived, kind;
  void *operands[32];
} Meeting;

struct Worker {
  const EmuLaunch *launch;
  EmuBlock block;
  unsigned char *stacks;
  Fiber *ready[MAX_THREADS]; // the last runs next
  int n_ready, n_done, n_threads;
  Fiber *later[MAX_THREADS]; // those that gave way of themselves
  int n_later;
  Barrier barrier[BARRIERS];
  Meeting meeting[MAX_THREADS / 32][32];
  struct {
    const void *key;
    unsigned offset;
  } statics[MAX_STATIC];
  int n_statics;
  unsigned static_end, static_bytes;
#ifdef OWN_SWITCH
  void *sp;
#else
  ucontext_t context;
#endif
  bool failed;
  char problem[512];
};

// ---- changing from one stack to another ----

#ifdef OWN_SWITCH
// Pushes what a function must keep, stores the stack pointer, takes another, pops.
void emu_switch(void **out_sp, void *sp);
__asm__(".text\n"
        ".globl emu_switch\n"
        ".hidden emu_switch\n"
        ".type emu_switch, @function\n"
        "emu_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size emu_switch, .-emu_switch\n");
#endif

static Fiber *fiber_on(uintptr_t stack) { return (Fiber *)EMU_THREAD_AT(stack); }
static Fiber *fiber_of(const Worker *w, int number) {
  return fiber_on((uintptr_t)w->stacks + (uintptr_t)number * EMU_STACK);
}

static Fiber *self(void) {
#ifdef OWN_SWITCH
  uintptr_t sp;
  __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
#else
  const uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
#endif
  return fiber_on(sp & ~(uintptr_t)(EMU_STACK - 1));
}

static void change(Fiber *from, Fiber *to, Worker *w) { // to NULL: to the worker
#ifdef OWN_SWITCH
  emu_switch(from ? &from->sp : &w->sp, to ? to->sp : w->sp);
#else
  swapcontext(from ? from->context : &w->context, to ? to->context : &w->context);
#endif
}

static void leave(Fiber *f) {
  Worker *w = f->worker;
  if (w->n_ready == 0)
    while (w->n_later > 0) w->ready[w->n_ready++] = w->later[--w->n_later];
  Fiber *next = w->failed || w->n_ready == 0 ? NULL : w->ready[--w->n_ready];
  if (next != f) change(f, next, w);
}

static void fail(Worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(Worker *w, const char *format, ...) {
  va_list args;
  va_start(args, format);
  if (!w->failed) vsnprintf(w->problem, sizeof w->problem, format, args);
  va_end(args);
  w->failed = true;
}

static void fail_here(const char *what) {
  Fiber *f = self();
  fail(f->worker, "thread %u of block (%u, %u): %s", f->thread.index.x, f->worker->block.index.x,
       f->worker->block.index.y, what);
  for (;;) leave(f);
}

static void begin(void) {
  Fiber *f = self();
  Worker *w = f->worker;
  w->launch->kernel->call(w->launch->parameters);
  f->done = true;
  w->n_done++;
  for (;;) leave(f);
}

static void prepare(Fiber *f) {
  unsigned char *bottom = f->worker->stacks + (size_t)f->number * EMU_STACK, *top = bottom + EMU_STACK;
#ifdef OWN_SWITCH
  // Stacks at multiples of a power of two would share the same few sets of the caches.
  void **sp = (void **)(void *)(top - 64 - f->number % 61 * 192);
  *--sp = NULL;
  *--sp = (void *)(uintptr_t)begin;
  for (int i = 0; i < 6; i++) *--sp = NULL;
  f->sp = sp;
#else
  if (!f->context && !(f->context = malloc(sizeof *f->context))) abort();
  getcontext(f->context);
  f->context->uc_stack.ss_sp = bottom + 2 * PAGE;
  f->context->uc_stack.ss_size = (size_t)(top - bottom) - 2 * PAGE;
  f->context->uc_link = NULL;
  makecontext(f->context, begin, 0);
#endif
}

// ---- what kernels call ----

static void barrier(unsigned id, unsigned threads) {
  Fiber *f = self();
  Worker *w = f->worker;
  if (id >= BARRIERS) fail_here("a barrier above 15");
  Barrier *b = &w->barrier[id];
  const unsigned expected = threads ? threads : (unsigned)w->n_threads;
  if (b->arrived && b->expected != expected) fail_here("threads at one barrier name different numbers of threads");
  b->expected = expected;
  if (++b->arrived < expected) {
    f->next = b->waiting, b->waiting = f, f->waits_at = (int)id + 1;
    leave(f);
    return;
  }
  // Those that came first shall go on first, after this one.
  for (Fiber *x = b->waiting; x; x = x->next) w->ready[w->n_ready++] = x, x->waits_at = 0;
  b->waiting = NULL;
  b->arrived = 0;
}

static void warp(unsigned kind, unsigned mask, void *operands) {
  Fiber *f = self();
  Worker *w = f->worker;
  const int first = f->number & ~31, lane = f->number & 31;
  const unsigned there = w->n_threads - first >= 32 ? 0xffffffffu : (1u << (w->n_threads - first)) - 1u;
  mask &= there; // lanes that the block does not have
  if (!(mask >> lane & 1)) fail_here("a lane is not in the mask that it names");
  Meeting *m = &w->meeting[first / 32][__builtin_ctz(mask)];
  if (m->arrived && (m->mask != mask || m->kind != kind)) fail_here("lanes of a warp meet in different instructions");
  m->mask = mask, m->kind = kind;
  m->operands[lane] = operands;
  m->arrived |= 1u << lane;
  if (m->arrived != mask) {
    f->lanes = mask;
    leave(f);
    return;
  }
  if (kind >= EMU_WARP_LDMATRIX && mask != 0xffffffffu) fail_here("a whole warp must take part, and some lanes do not");
  emu_warp(kind, mask, m->operands, w->block.shared);
  m->arrived = 0;
  for (int l = 31; l >= 0; l--) {
    if (!(mask >> l & 1) || l == lane) continue;
    Fiber *x = fiber_of(w, first + l);
    x->lanes = 0;
    w->ready[w->n_ready++] = x;
  }
}

static void *static_shared(const void *key, unsigned bytes, unsigned alignment) {
  Worker *w = self()->worker;
  for (int i = 0; i < w->n_statics; i++)
    if (w->statics[i].key == key) return w->block.shared + w->statics[i].offset;
  const unsigned at = (w->static_end + PAD + alignment - 1) & ~(alignment - 1);
  if (w->n_statics == MAX_STATIC) fail_here("too many variables in shared memory for the software GPU");
  w->static_end = at + bytes;
  w->static_bytes += bytes;
  if (w->launch->dynamic_bytes + w->static_bytes > w->launch->shared_limit || at + bytes > EMU_SHARED_WINDOW)
    fail_here("more shared memory than a block may have");
  w->statics[w->n_statics].key = key;
  w->statics[w->n_statics++].offset = at;
  memset(w->block.shared + at, POISON, bytes);
  return w->block.shared + at;
}

static void copy_later(void *to, const void *from, unsigned bytes, unsigned from_bytes) {
  Fiber *f = self();
  if (f->n_copies == f->room) {
    f->room = f->room ? 2 * f->room : 64;
    f->copies = realloc(f->copies, f->room * sizeof *f->copies);
    if (!f->copies) fail_here("the software GPU is out of memory");
  }
  f->copies[f->n_copies++] = (Copy){to, from, bytes, from_bytes < bytes ? from_bytes : bytes, f->group};
}

static void copy_commit(void) { self()->group++; }

static void copy_wait(unsigned pending) {
  Fiber *f = self();
  unsigned done = 0;
  for (; done < f->n_copies && f->copies[done].group + pending < f->group; done++) {
    const Copy *c = &f->copies[done];
    if (c->from_bytes) memcpy(c->to, c->from, c->from_bytes);
    memset(c->to + c->from_bytes, 0, c->bytes - c->from_bytes);
  }
  f->n_copies -= done;
  memmove(f->copies, f->copies + done, f->n_copies * sizeof *f->copies);
}

static void yield(void) {
  Fiber *f = self();
  Worker *w = f->worker;
  w->later[w->n_later++] = f;
  leave(f);
}

static const EmuHost host = {barrier, warp, static_shared, copy_later, copy_commit, copy_wait, yield, fail_here};

// ---- blocks ----

// Who waits for whom, when nobody can go on.
static void describe_deadlock(Worker *w) {
  char text[300] = "";
  int n = 0, waiting[BARRIERS + 1] = {0}, meeting = 0;
  for (int i = 0; i < w->n_threads; i++) {
    const Fiber *f = fiber_of(w, i);
    waiting[f->waits_at]++;
    meeting += f->lanes != 0;
  }
  for (int b = 0; b < BARRIERS; b++)
    if (waiting[b + 1])
      n += snprintf(text + n, sizeof text - (size_t)n, ", %d wait at barrier %d for %u", waiting[b + 1], b,
                    w->barrier[b].expected);
  fail(w, "block (%u, %u) waits for ever: of %d threads %d have ended%s, %d wait for other lanes of their warp",
       w->block.index.x, w->block.index.y, w->n_threads, w->n_done, text, meeting);
}

static void start_threads(Worker *w) {
  const EmuIndex size = w->launch->size;
  for (int i = w->n_threads - 1; i >= 0; i--) {
    Fiber *f = fiber_of(w, i);
    f->thread.index = (EmuIndex){(unsigned)i % size.x, (unsigned)i / size.x % size.y, (unsigned)i / size.x / size.y};
    f->thread.lane = (unsigned)i & 31u;
    f->thread.block = &w->block;
    f->thread.host = &host;
    f->worker = w;
    f->number = i;
    f->waits_at = 0, f->lanes = 0, f->done = false;
    f->n_copies = 0, f->group = 0;
    prepare(f);
    w->ready[w->n_ready++] = f;
  }
}

static bool run_block(Worker *w, EmuIndex index) {
  const EmuLaunch *l = w->launch;
  w->block.index = index, w->block.grid = l->grid, w->block.size = l->size;
  w->block.dynamic_bytes = l->dynamic_bytes;
  w->n_threads = (int)(l->size.x * l->size.y * l->size.z);
  w->n_ready = w->n_later = w->n_done = w->n_statics = 0, w->static_bytes = 0;
  w->static_end = EMU_SHARED_BEGIN + l->dynamic_bytes;
  memset(w->barrier, 0, sizeof w->barrier);
  for (int i = 0; i < (w->n_threads + 31) / 32; i++)
    for (int m = 0; m < 32; m++) w->meeting[i][m].arrived = 0;
  memset(w->block.shared + EMU_SHARED_BEGIN, POISON, l->dynamic_bytes + PAD);
  start_threads(w);
  change(NULL, w->ready[--w->n_ready], w);
  if (!w->failed && w->n_done < w->n_threads) describe_deadlock(w);
  for (unsigned i = 0; i < PAD && !w->failed; i++)
    if (w->block.shared[EMU_SHARED_BEGIN + l->dynamic_bytes + i] != POISON)
      fail(w, "block (%u, %u) wrote behind its dynamic shared memory", index.x, index.y);
  return !w->failed;
}

static Worker *worker_create(void) {
  Worker *w = calloc(1, sizeof *w);
  const size_t bytes = (size_t)(MAX_THREADS + 1) * EMU_STACK;
  if (!w) return NULL;
  unsigned char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  unsigned char *shared = aligned_alloc(PAGE, EMU_SHARED_WINDOW);
  if (map == MAP_FAILED || !shared) return NULL;
  w->stacks = (unsigned char *)(((uintptr_t)map + EMU_STACK - 1) & ~(uintptr_t)(EMU_STACK - 1));
  for (int i = 0; i < MAX_THREADS; i++) // a page that may not be touched below each stack
    if (mprotect(w->stacks + (size_t)i * EMU_STACK + PAGE, PAGE, PROT_NONE) != 0) return NULL;
  w->block.shared = shared;
  return w;
}

// ---- launches ----

static struct {
  pthread_mutex_t lock;
  pthread_cond_t work, done;
  Worker *worker[MAX_WORKERS];
  int n_workers, running;
  unsigned long long generation;
  const EmuLaunch *launch;
  _Atomic uint64_t next_block;
  _Atomic bool failed;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static void work_on(Worker *w, const EmuLaunch *l) {
  const uint64_t n = (uint64_t)l->grid.x * l->grid.y * l->grid.z;
  w->launch = l, w->failed = false;
  while (!pool.failed) {
    const uint64_t b = atomic_fetch_add(&pool.next_block, 1);
    if (b >= n) break;
    const EmuIndex index = {(unsigned)(b % l->grid.x), (unsigned)(b / l->grid.x % l->grid.y),
                            (unsigned)(b / l->grid.x / l->grid.y)};
    if (!run_block(w, index)) pool.failed = true;
  }
}

static void *helper(void *argument) {
  Worker *w = argument;
  unsigned long long seen = 0;
  for (;;) {
    pthread_mutex_lock(&pool.lock);
    while (pool.generation == seen) pthread_cond_wait(&pool.work, &pool.lock);
    seen = pool.generation;
    const EmuLaunch *l = pool.launch;
    pthread_mutex_unlock(&pool.lock);
    work_on(w, l);
    pthread_mutex_lock(&pool.lock);
    if (--pool.running == 0) pthread_cond_signal(&pool.done);
    pthread_mutex_unlock(&pool.lock);
  }
  return NULL;
}

static bool start_pool(void) {
  const char *asked = getenv("MUSE_EMULATOR_THREADS");
  int n = asked ? atoi(asked) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  n = n < 1 ? 1 : n > MAX_WORKERS ? MAX_WORKERS : n;
  for (int i = 0; i < n; i++) {
    pthread_t thread;
    if (!(pool.worker[i] = worker_create())) return false;
    if (i > 0 && pthread_create(&thread, NULL, helper, pool.worker[i]) != 0) return false;
    pool.n_workers = i + 1;
  }
  return true;
}

// Launches come one at a time: the driver holds its lock.
bool emu_execute(const EmuLaunch *launch, char *out_problem, size_t problem_bytes) {
  if (pool.n_workers == 0 && !start_pool()) {
    snprintf(out_problem, problem_bytes, "the software GPU has no memory for its threads");
    return false;
  }
  const bool alone = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z < 2 || pool.n_workers < 2;
  pool.next_block = 0;
  pool.failed = false;
  for (int i = 0; i < pool.n_workers; i++) pool.worker[i]->failed = false;
  if (!alone) {
    pthread_mutex_lock(&pool.lock);
    pool.launch = launch;
    pool.running = pool.n_workers - 1;
    pool.generation++;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
  }
  work_on(pool.worker[0], launch);
  if (!alone) {
    pthread_mutex_lock(&pool.lock);
    while (pool.running > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
  }
  for (int i = 0; i < pool.n_workers; i++)
    if (pool.worker[i]->failed) {
      snprintf(out_problem, problem_bytes, "%s: %s", launch->name, pool.worker[i]->problem);
      return false;
    }
  return true;
}
