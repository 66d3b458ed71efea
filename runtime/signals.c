// Ctrl-C, and its relatives.
#include "runtime/signals.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static const char *stop_message;
static bool caught, caught_hangup;

static void on_signal(int number) {
  int saved = errno;
  if (!stop && stop_message && write(STDERR_FILENO, stop_message, strlen(stop_message)) < 0) {
    // the terminal is gone, which is no reason to stop otherwise
  }
  stop = 1;
  errno = saved;
}

volatile sig_atomic_t *muse_catch_stop(const char *message) {
  // SA_RESETHAND: the second signal of a kind finds the default, which ends the program.
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_RESTART}, before;
  stop_message = message;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
    caught_hangup = sigaction(SIGHUP, &action, NULL) == 0;
  caught = true;
  return &stop;
}

bool muse_stop_is_caught(void) { return caught; }
bool muse_stop_is_set(void) { return stop; }

void muse_release_stop(void) {
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  if (caught_hangup) signal(SIGHUP, SIG_DFL);
  caught = caught_hangup = false;
}

MuseStatus muse_stopped_preparing(MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_STOPPED, "stopped while kernels were being prepared; nothing else was begun");
}
