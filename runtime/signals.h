#ifndef MUSE_RUNTIME_SIGNALS_H
#define MUSE_RUNTIME_SIGNALS_H

#include <signal.h>

// Makes SIGINT, SIGTERM and SIGHUP (unless it is ignored, as nohup does) set the flag that is returned, so that work
// can end at a good place; a second one ends the program at once. `message` goes to stderr at the first; NULL: none.
volatile sig_atomic_t *muse_catch_stop(const char *message);

#endif
