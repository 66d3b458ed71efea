#ifndef MUSE_RUNTIME_SIGNALS_H
#define MUSE_RUNTIME_SIGNALS_H

#include "ir/base/diag.h"

#include <signal.h>
#include <stdbool.h>

// Makes SIGINT, SIGTERM and SIGHUP (unless it is ignored, as nohup does) set the flag that is returned, so that work
// can end at a good place; a second one ends the program at once. `message` goes to stderr at the first; NULL: none.
// Called again, it takes another message and catches a first and a second signal anew; the flag stays.
volatile sig_atomic_t *muse_catch_stop(const char *message);
bool muse_stop_is_caught(void);
bool muse_stop_is_set(void);
void muse_release_stop(void); // the signals end the program again, as before muse_catch_stop

// What preparing kernels ends with when the flag is set: MUSE_ERR_STOPPED, in a sentence.
MuseStatus muse_stopped_preparing(MuseDiag *diag);

#endif
