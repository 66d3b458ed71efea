// Ctrl-C.
#include "runtime/signals.h"

#include <stddef.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) { stop = 1; }

volatile sig_atomic_t *muse_catch_stop(void) {
  // SA_RESETHAND: the second signal of a kind finds the default, which ends the program.
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_RESTART};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  return &stop;
}
