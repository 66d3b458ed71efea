#ifndef MUSE_COMPILER_SKEL_PANEL_H
#define MUSE_COMPILER_SKEL_PANEL_H

// Sizes of panel products (emit_llvm_panel.h), for skeletons that plan their scratch.
enum {
  MUSE_PANEL_WIDTH = 64,  // columns of a panel of B and C
  MUSE_PANEL_TERMS = 128, // rows of B to take at once: they fit the first-level cache
  MUSE_PANEL_LANES = 16,  // most lanes of any target: packing may write so many rows too far
  MUSE_PANEL_BYTES = (MUSE_PANEL_TERMS + MUSE_PANEL_LANES) * MUSE_PANEL_WIDTH * 4, // scratch of a packed panel
};

#endif
