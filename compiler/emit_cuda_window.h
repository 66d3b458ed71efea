#ifndef MUSE_COMPILER_EMIT_CUDA_WINDOW_H
#define MUSE_COMPILER_EMIT_CUDA_WINDOW_H

// Text of the device functions that the launches of emit_cuda_window.c call (namespace window, guarded).
const char *muse_cuda_window_prelude(void);
const char *muse_cuda_window_grad_prelude(void); // stands behind the other

#endif
