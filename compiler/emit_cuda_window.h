#ifndef MUSE_COMPILER_EMIT_CUDA_WINDOW_H
#define MUSE_COMPILER_EMIT_CUDA_WINDOW_H

// Text of the device functions that the launches of emit_cuda_window.c call (namespace window, guarded).
const char *muse_cuda_window_prelude(void);
const char *muse_cuda_window_grad_prelude(void); // stands behind the other

// Text that functions of both have in common. Before the first key: no greatest score, and the radii of the rows.
#define WINDOW_NO_WEIGHTS_YET \
    "#pragma unroll\n" \
    "  for (int m = 0; m < S::M; m++)\n" \
    "#pragma unroll\n" \
    "    for (int i = 0; i < 2; i++) {\n" \
    "      top[m][i] = -1e30f;\n" \
    "      if (S::HYPERBOLIC) row[m][i] = row_radius<S>(alpha, at, at.begin + m * 16 + at.g + i * 8);\n" \
    "    }\n"
// The loop over the keys that the block sees, up to where their scores are wanted: block b + 1 is copied under b.
#define WINDOW_EACH_BLOCK_OF_KEYS \
    "  WindowRadii<S> radii;\n" \
    "  if (seen.keys_begin < seen.keys_end) {\n" \
    "    radii.begin(mem.radius, beta, at, seen.keys_begin);\n" \
    "    if (S::CHUNKS == 1) {\n" \
    "      load_tile<S, S::COLUMNS>(mem.tile(seen.keys_begin, 0), k, seen.keys_begin * S::COLUMNS, 0);\n" \
    "      load_tile<S, S::COLUMNS>(mem.tile(seen.keys_begin, 1), v, seen.keys_begin * S::COLUMNS, 0);\n" \
    "    }\n" \
    "  }\n" \
    "  for (int block = seen.keys_begin; block < seen.keys_end; block++) {\n" \
    "    const int k0 = block * S::COLUMNS;\n" \
    "    copies_done();\n" \
    "    __syncthreads();\n" \
    "    if (S::CHUNKS == 1 && block + 1 < seen.keys_end) {\n" \
    "      load_tile<S, S::COLUMNS>(mem.tile(block + 1, 0), k, k0 + S::COLUMNS, 0);\n" \
    "      load_tile<S, S::COLUMNS>(mem.tile(block + 1, 1), v, k0 + S::COLUMNS, 0);\n" \
    "    }\n" \
    "    radii.next(mem.radius, beta, at, block);\n" \
    "    const bool needed = !WindowQueries<S>::none(at, k0, seen.lowest);\n"

#endif
