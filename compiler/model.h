#ifndef MUSE_COMPILER_MODEL_H
#define MUSE_COMPILER_MODEL_H

#include "compiler/config.h"
#include "ir/op.h"

// Lowers a configuration to IR at level "tensor". The module holds:
//   @loss     tokens, targets -> loss (and the reports that use_lap and use_mourre ask for)    one micro-batch, no
//   gradients
//   @grad     the same, marked `differentiate` (and `remat`): autodiff adds grad.NAME for every parameter
//   @norms    gradients -> norm2.NAME (squares of their norms), grad_norm2, clip
//   @update   parameters, gradients, moments, lr, ... -> parameters, moments      one optimizer step
//   @inspect  tokens, targets -> loss, logits [B*T,V], green.N.re/im [B,T,H] of each layer with a BK mixer
//   @decode   one token and the state of the layers -> logits [1,V], new state
//   @setup    constant tables (positions)
// Buffers, by role: "param" (attributes init, std, value, first, last, layer, decay), "scale" (delta.NAME of int8
// latents), "moment", "const", "input", "hyper", "output", "state"; the passes add "grad" and "packed". Reads nothing
// but the config, and cannot fail for a config that was checked.
MuseModule *muse_model_build(const MuseConfig *config, const char *source);

// Elements of all parameters.
int64_t muse_model_parameters(const MuseModule *module);

#endif
