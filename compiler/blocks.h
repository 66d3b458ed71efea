#ifndef MUSE_COMPILER_BLOCKS_H
#define MUSE_COMPILER_BLOCKS_H

// The blocks of the model, one function a kind; shared by the functions over whole rows (model.c) and by decoding
// (model_decode.c). Shapes: M = B*T tokens, [M,D] between blocks, [B,T,H,d] inside mixers.

#include "compiler/config.h"
#include "ops/ops.h"

#include <math.h>

typedef struct MuseLowering {
  const MuseConfig *cfg;
  MuseModule *module;
  MuseFunc *func;
  MuseBuilder b;
  int64_t B, T;   // of this function: 1, 1 when decoding
  MuseValue *tokens, *targets, *doc, *rope;
  uint64_t next_rng; // op ids of random ops
} MuseLowering;

// Starts a function that is appended to the module.
void muse_lower_begin(MuseLowering *lw, const MuseConfig *cfg, MuseModule *module, const char *func, int64_t B,
                      int64_t T);
void muse_lower_at(MuseLowering *lw, const char *key, int layer); // where the next ops come from
// Ends it with results bound to buffers.
typedef struct MuseResultList { MuseValue **value; const char **buffer; int n, cap; } MuseResultList; // in the arena
void muse_lower_result(MuseLowering *lw, MuseResultList *list, MuseValue *value, const char *buffer);
void muse_lower_return(MuseLowering *lw, const MuseResultList *list);

// The argument bound to a buffer; `format` makes its name. The buffer exists.
MuseValue *muse_lower_arg(MuseLowering *lw, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The same, with the buffer declared on first use.
MuseValue *muse_lower_input(MuseLowering *lw, const char *name, MuseType type, const char *role);
MuseValue *muse_lower_layer_param(MuseLowering *lw, int layer, const char *name);

MuseValue *muse_lower_f32(MuseLowering *lw, MuseValue *x);
MuseValue *muse_lower_act(MuseLowering *lw, MuseValue *x); // to the storage type of activations
MuseValue *muse_lower_heads(MuseLowering *lw, MuseValue *x);  // [M,D] -> [B,T,H,d]
MuseValue *muse_lower_scale(MuseLowering *lw, MuseValue *x, double c);

MuseValue *muse_block_embed(MuseLowering *lw);                            // tokens -> [M,D]
MuseValue *muse_block_linear(MuseLowering *lw, MuseValue *x, int layer, const char *name); // BitLinear or plain, f32
MuseValue *muse_block_ffn(MuseLowering *lw, MuseValue *x, int layer);     // x + feed-forward
MuseValue *muse_block_mixer_out(MuseLowering *lw, MuseValue *x, MuseValue *mixed, int layer); // x + o(rms(mixed))
MuseValue *muse_block_logits(MuseLowering *lw, MuseValue *x);             // after the last layer -> [M,V]
MuseValue *muse_block_loss(MuseLowering *lw, MuseValue *x);               // -> f32[]

// What a mixer computes from h = rms(x; mixer_norm), before anything runs along the text. The tensors with a dimension
// d are in the storage type of activations, the others f32.
typedef struct MuseMixerInputs {
  MuseValue *q, *k, *v;      // [B,T,H,d]
  MuseValue *kappa, *eta;    // [B,T,H], [H]; BK
  MuseValue *q_hat, *k_hat;  // rms(q), rms(k)/sqrt(d); BK
  // what local attention multiplies: unit vectors (hyperbolic) or scaled (dot), with positions
  MuseValue *q_score, *k_score;
  MuseValue *alpha, *beta;   // [B,T,H]; hyperbolic
  MuseValue *scale;          // [H]; hyperbolic
} MuseMixerInputs;
void muse_block_mixer_inputs(MuseLowering *lw, MuseValue *x, int layer, MuseMixerInputs *out);
// Joins global and local ([B,T,H,d], NULL when the mixer has none) with the gate.
MuseValue *muse_block_gate(MuseLowering *lw, int layer, MuseValue *global, MuseValue *local, MuseValue *g_im);

static inline bool muse_has_bk(const MuseConfig *c) { return muse_config_mixer(c) >= MUSE_MIXER_BK; }
static inline bool muse_has_window(const MuseConfig *c) { return muse_config_mixer(c) != MUSE_MIXER_BK; }
// Full attention is a window over the whole row with the dot score.
static inline int64_t muse_window(const MuseConfig *c) {
  return muse_config_mixer(c) == MUSE_MIXER_ATTENTION ? c->n_seq : c->local_window;
}
static inline bool muse_hyperbolic(const MuseConfig *c) {
  return muse_config_mixer(c) != MUSE_MIXER_ATTENTION && c->local_score == MUSE_LOCAL_HYPERBOLIC;
}

void muse_model_decode(const MuseConfig *cfg, MuseModule *module);
void muse_model_update(const MuseConfig *cfg, MuseModule *module);

#endif
