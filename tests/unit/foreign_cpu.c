// The near side of an emulated aarch64 processor; tests/aarch64/protocol.h says what is exchanged.

#include "tests/unit/foreign_cpu.h"

#include "tests/aarch64/protocol.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, N_RUNNERS = 2 };

typedef struct Runner {
  pid_t process;
  int to, from;
} Runner;

// Models that qemu knows: Armv8.0, and Armv8.2 with dot products. They end when the pipes of this process do.
static const char *const models[N_RUNNERS] = {"cortex-a57", "neoverse-n1"};

static struct {
  Runner runner[N_RUNNERS], *chosen;
  int file;
  uint64_t end; // bytes of the file given out so far; addresses are never used again
} foreign;

bool muse_foreign_wanted(void) {
  const char *cpu = getenv("MUSE_TEST_CPU");
  if (!cpu || !*cpu) return false;
  cr_assert_str_eq(cpu, "aarch64", "MUSE_TEST_CPU may be aarch64, not '%s'", cpu);
#ifndef MUSE_AARCH64_RUNNER
  cr_skip_test("no qemu-aarch64 or no aarch64-linux-gnu-gcc with a C library was there when the tests were built");
#endif
  return true;
}

static void start_runner(Runner *r, const char *model) {
  int to[2], from[2];
  cr_assert(pipe(to) == 0 && pipe(from) == 0);
  r->process = fork();
  cr_assert_geq(r->process, 0);
#ifdef MUSE_AARCH64_RUNNER
  if (r->process == 0) {
    int ends[3] = {fcntl(to[0], F_DUPFD, 100), fcntl(from[1], F_DUPFD, 100), fcntl(foreign.file, F_DUPFD, 100)};
    dup2(ends[0], 0);
    dup2(ends[1], 1);
    dup2(ends[2], MUSE_FOREIGN_FILE);
    for (int i = MUSE_FOREIGN_FILE + 1; i < 256; i++) close(i); // above all the other ends of the pipes
    execl(MUSE_QEMU_AARCH64, MUSE_QEMU_AARCH64, "-cpu", model, MUSE_AARCH64_RUNNER, (char *)NULL);
    _exit(127);
  }
#else
  (void)model;
#endif
  close(to[0]);
  close(from[1]);
  r->to = to[1];
  r->from = from[0];
}

static void start(void) {
  if (foreign.chosen) return;
  foreign.file = memfd_create("buffers", 0);
  cr_assert_geq(foreign.file, 0);
  signal(SIGPIPE, SIG_IGN); // what a runner died of is said below
  for (int i = 0; i < N_RUNNERS; i++) start_runner(&foreign.runner[i], models[i]);
  foreign.chosen = &foreign.runner[0];
}

void muse_foreign_choose(bool dot_products) {
  start();
  foreign.chosen = &foreign.runner[dot_products];
}

static bool transfer(const Runner *r, bool reads, void *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    char *at = (char *)data + done;
    ssize_t n = reads ? read(r->from, at, bytes - done) : write(r->to, at, bytes - done);
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

static uint64_t ask_runner(const Runner *r, MuseForeignRequest request, const char *what) {
  MuseForeignReply reply;
  if (!transfer(r, false, &request, sizeof request) || !transfer(r, true, &reply, sizeof reply)) {
    int status = 0;
    waitpid(r->process, &status, 0);
    if (WIFSIGNALED(status))
      cr_assert_fail("%s: the emulated processor stopped with signal %d (%d: memory outside of the buffers, "
                     "%d: an instruction that it lacks)", what, WTERMSIG(status), SIGSEGV, SIGILL);
    cr_assert_fail("%s: the emulated processor ended with status %d", what, WEXITSTATUS(status));
  }
  if (reply.problem[0]) cr_assert_fail("%s: %s", what, reply.problem);
  return reply.value;
}

static uint64_t ask(MuseForeignRequest request, const char *what) {
  return ask_runner(foreign.chosen, request, what);
}

static void ask_both(MuseForeignRequest request, const char *what) {
  for (int i = 0; i < N_RUNNERS; i++) ask_runner(&foreign.runner[i], request, what);
}

void *muse_foreign_map(size_t bytes) {
  start();
  uint64_t offset = foreign.end, address = MUSE_FOREIGN_BASE + offset;
  cr_assert(bytes > 0 && bytes % PAGE == 0);
  foreign.end += bytes + PAGE;
  cr_assert_eq(ftruncate(foreign.file, (off_t)foreign.end), 0);
  void *memory = mmap((void *)address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, foreign.file,
                      (off_t)offset);
  cr_assert_eq(memory, (void *)address, "the address %p is taken", (void *)address);
  ask_both((MuseForeignRequest){.kind = MUSE_FOREIGN_MAP, .address = address, .bytes = bytes}, "mapping");
  return memory;
}

void muse_foreign_unmap(void *memory, size_t bytes) {
  uint64_t address = (uint64_t)memory;
  munmap(memory, bytes);
  ask_both((MuseForeignRequest){.kind = MUSE_FOREIGN_UNMAP, .address = address, .bytes = bytes}, "unmapping");
  fallocate(foreign.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(address - MUSE_FOREIGN_BASE),
            (off_t)bytes);
}

void muse_foreign_load(const void *object, size_t bytes) {
  size_t span = (bytes + PAGE - 1) / PAGE * PAGE;
  void *copy = muse_foreign_map(span); // stays: names are looked up in it
  memcpy(copy, object, bytes);
  ask((MuseForeignRequest){.kind = MUSE_FOREIGN_LOAD, .address = (uint64_t)copy, .bytes = bytes}, "loading an object");
  munmap(copy, span);
}

uint64_t muse_foreign_lookup(const char *name) {
  MuseForeignRequest request = {.kind = MUSE_FOREIGN_LOOKUP};
  cr_assert_lt(strlen(name), sizeof request.name);
  strcpy(request.name, name);
  return ask(request, name);
}

void muse_foreign_call(const char *level, uint64_t function, void **buffers, int64_t begin, int64_t end, void *scratch,
                       int64_t iteration) {
  ask((MuseForeignRequest){.kind = MUSE_FOREIGN_CALL, .address = function, .buffers = (uint64_t)buffers,
                           .begin = begin, .end = end, .scratch = (uint64_t)scratch, .iteration = iteration}, level);
}
