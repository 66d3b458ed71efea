#ifndef MUSE_RUNTIME_PACKING_H
#define MUSE_RUNTIME_PACKING_H

#include "runtime/session.h"

// The function @pack in parts while the parameters are loaded, for sessions that do not train: as soon as a parameter
// is there, what @pack makes of it is made, as far as the prepared functions read it, and memory of a parameter that
// nobody reads any more is given back. So a model of 10 billion parameters needs the memory of its trits.
typedef struct MusePacking MusePacking;

// NULL when the session has to have all of @pack: when it trains, or where the device cannot run parts of a function.
// The functions that will run are prepared already, and @setup has run. The session must stay where it is.
MusePacking *muse_packing_create(MuseSession *session);
void muse_packing_destroy(MusePacking *packing); // NULL is allowed

// The buffer, a parameter or a scale, has been written.
MuseStatus muse_packing_loaded(MusePacking *packing, const MuseBuffer *buffer, MuseDiag *diag);
// Runs what is left, with whatever is in the buffers.
MuseStatus muse_packing_finish(MusePacking *packing, MuseDiag *diag);

#endif
