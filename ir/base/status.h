#ifndef MUSE_IR_BASE_STATUS_H
#define MUSE_IR_BASE_STATUS_H

#include <stddef.h>

// What a fallible function returns. The values are the exit codes of the programs, so that a status can travel from the
// place that found the problem to main() unchanged.
typedef enum MuseStatus {
  MUSE_OK = 0,
  MUSE_ERR_FAILED = 1,   // the run failed (I/O, compiler back end, out of memory)
  MUSE_ERR_INPUT = 2,    // usage or bad input
  MUSE_ERR_NO_FIT = 3,   // the work does not fit the memory that was offered
  MUSE_ERR_NUMERIC = 4,  // NaN or Inf, repeatedly
  MUSE_ERR_DATA = 5,     // files contradict each other (tokenizer, plan, checkpoint)
  MUSE_ERR_STOPPED = 75, // stopped by a signal, state saved
} MuseStatus;

// Propagates every status but MUSE_OK to the caller.
#define MUSE_TRY(expr)                                                                                                 \
  do {                                                                                                                 \
    MuseStatus muse_try_status = (expr);                                                                               \
    if (muse_try_status != MUSE_OK) return muse_try_status;                                                            \
  } while (0)

// A broken invariant of MUSE itself: prints the place and aborts, in release builds too.
_Noreturn void muse_assert_failed(const char *expr, const char *file, int line);
#define MUSE_ASSERT(expr) ((expr) ? (void)0 : muse_assert_failed(#expr, __FILE__, __LINE__))

// The one answer to a failed allocation: a sentence on stderr, then abort.
_Noreturn void muse_out_of_memory(size_t bytes);

#endif
