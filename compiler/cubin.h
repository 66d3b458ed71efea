#ifndef MUSE_COMPILER_CUBIN_H
#define MUSE_COMPILER_CUBIN_H

#include <stdbool.h>
#include <stddef.h>

// Is `griddepcontrol.wait` the first thing that the function does with memory that others share? ptxas may move loads
// of memory that a kernel only reads in front of any barrier, this one as well, so the machine code has to be asked
// before a launch is let overlap the one before it. Code that is not understood does not wait first.
bool muse_cubin_waits_first(const void *cubin, size_t bytes, const char *function);

#endif
