#ifndef MUSE_RUNTIME_SIGNALS_H
#define MUSE_RUNTIME_SIGNALS_H

#include <signal.h>

// Makes SIGINT and SIGTERM set the flag that is returned, so that work can end at a good place; a second one ends the
// program at once.
volatile sig_atomic_t *muse_catch_stop(void);

#endif
