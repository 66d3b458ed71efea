#ifndef MUSE_TESTS_UNIT_TILE_EMULATOR_H
#define MUSE_TESTS_UNIT_TILE_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

// AMX-TILE and AMX-INT8 on x86-64 processors without them: their instructions raise SIGILL, and a handler does what the
// instruction would have done, on eight tiles of the thread. Code compiled for AMX so runs as it is, slowly.
// Everything else that raises SIGILL, and every use that a processor with AMX would refuse (an odd configuration, a
// tile that is not configured, shapes that do not fit), ends the program with SIGILL after a sentence on stderr.

// From now on, for all threads; may be called again. False where it cannot be done (other than Linux on x86-64), and
// on a processor with AMX, which executes some of the instructions itself.
bool muse_tile_emulator_start(void);

int64_t muse_tile_emulator_count(void); // instructions emulated so far, all threads

#endif
