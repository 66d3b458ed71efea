#ifndef MUSE_RUNTIME_COMPRESSED_H
#define MUSE_RUNTIME_COMPRESSED_H

#include "runtime/params.h"

// Compressed models (docs/files.md): one safetensors file with the matrices of a BitNet as trits, five a byte, with one
// scale a matrix; embeddings as int8 with one scale a row or core slice; everything else f32. They are made from a seed
// ("initial") or from trained parameters ("converted").

#define MUSE_COMPRESSED_FORMAT "muse compressed model"
#define MUSE_COMPRESSED_VERSION "1"
#define MUSE_COMPRESSED_FILE "model.safetensors" // in its folder

typedef enum MuseCompressedForm {
  MUSE_FORM_F32,   // F32 of the parameter's shape
  MUSE_FORM_SLICE, // I8 of the parameter's shape, scale.NAME F32 [first dimension]: max|slice|/127
  MUSE_FORM_TRITS, // U8 [N, bytes of a row] in the layout T5 of ir/type.h, scale.NAME F32 []: gamma
} MuseCompressedForm;

// The plan's use_bitnet; MUSE_ERR_INPUT for a plan of before that attribute.
MuseStatus muse_compressed_bitnet(const MuseModule *module, bool *out_bitnet, MuseDiag *diag);
MuseCompressedForm muse_compressed_form(const MuseBuffer *param, bool bitnet);
// What the file holds of a parameter: its content, and its scales (false: it has none). `name` keeps the scales' name.
bool muse_compressed_tensors(const MuseBuffer *param, MuseCompressedForm form, MuseStr *name,
                             MuseStoredTensor *out_content, MuseStoredTensor *out_scales);

// Where uncompressed values come from: elements [first, first + count) of a parameter, `first` a multiple of 4.
typedef MuseStatus (*MuseParamReadFn)(void *context, const MuseBuffer *param, int64_t first, int64_t count, float *out,
                                      MuseDiag *diag);
// Where compressed bytes go, piece by piece: the content, then the scales.
typedef MuseStatus (*MuseCompressedFn)(void *context, const void *bytes, size_t n, MuseDiag *diag);

typedef struct MuseCompressedError {
  double squares, weights; // sums of the squares of what is lost, and of the values
} MuseCompressedError;

// Compresses parameters one after the other; holds the memory for a part of one (at most 0.6 GB).
typedef struct MuseCompressor MuseCompressor;
MuseCompressor *muse_compressor_create(MusePool *pool);
void muse_compressor_destroy(MuseCompressor *compressor); // NULL is allowed
// `error` may be NULL; else it is added to. Values that are not finite are MUSE_ERR_INPUT.
MuseStatus muse_compress_param(MuseCompressor *compressor, const MuseBuffer *param, MuseCompressedForm form,
                               MuseParamReadFn read, void *read_context, MuseCompressedFn put, void *put_context,
                               MuseCompressedError *error, MuseDiag *diag);

// ---- reading ----

bool muse_is_compressed(const MuseSafetensors *file);

// What the metadata says, and whether the file is whole: version, checksum, the parameters of the plan and no others.
typedef struct MuseCompressedInfo {
  bool initial;           // else converted
  uint32_t seed;          // of an initial model
  uint64_t tokenizer_hash; // 0: none was named
  const char *config;     // text
} MuseCompressedInfo;
MuseStatus muse_compressed_check(const MuseModule *module, const MuseSafetensors *file, MuseCompressedInfo *out,
                                 MuseDiag *diag);

// Whether the file is of the plan's configuration, without reading its content when it is. What is wrong otherwise is
// what muse_compressed_check says: a damaged file may seem to be of another configuration.
MuseStatus muse_compressed_fits(const MuseModule *module, const MuseSafetensors *file, MuseDiag *diag);

// Compresses the parameter again and holds it against a checked file: MUSE_ERR_DATA when it differs.
MuseStatus muse_compressed_compare(MuseCompressor *compressor, const MuseModule *module, const MuseSafetensors *file,
                                   const MuseBuffer *param, MuseParamReadFn read, void *read_context, MuseDiag *diag);

// The parameters of a session. An initial model: made again from its seed, after comparing. A converted one: trits t of
// a matrix become latents t * gamma / (share of trits that are not 0), whose gamma and trits are the same again.
MuseStatus muse_compressed_load(MuseSession *session, const MuseSafetensors *file, MuseDiag *diag);

#endif
