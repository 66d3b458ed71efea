#ifndef MUSE_COMPILER_EMIT_CUDA_MAP_H
#define MUSE_COMPILER_EMIT_CUDA_MAP_H

#include "compiler/emit_cuda_kernel.h"
#include "compiler/skel_map.h"

// What the two files of the CUDA emitter of skeleton "map" share: emit_cuda_map.c writes the walks over the domain,
// emit_cuda_map_combine.c the launch after it, which adds the partials of terminal reductions.
enum { MUSE_CUDA_MAP_REDUCTIONS = 64, MUSE_CUDA_MAP_STORED = 64, MUSE_CUDA_MAP_BLOCK = 256 };

typedef struct MuseCudaReduction {
  const MuseOp *op;
  int phase;                       // in which it is taken
  const MuseMapTerminal *terminal; // or NULL
  bool of_row_value;               // terminal over a value of the rows: taken once a row
  bool has_columns;                // terminal: its result has columns, or only kept leading dimensions
  bool by_row;                     // terminal that keeps only leading dimensions: the second launch adds rows
  bool moves;                      // terminal: its place in the partial depends on the row
  bool in_memory;                  // terminal: added to the partial by the thread that owns the place
  int64_t shared;                  // in_memory: where in shared memory the partial is while rows are walked; or -1
} MuseCudaReduction;

typedef struct MuseCudaMap {
  MuseCudaEmitter *e;
  const MuseOp *kernel;
  MuseMapDomain domain;
  MuseCudaBody body;
  int n_terminals, n_red;
  MuseMapTerminal terminal[MUSE_MAP_MAX_TERMINALS];
  MuseCudaReduction red[MUSE_CUDA_MAP_REDUCTIONS];
  bool has_rows; // results with one element a row
  bool walks;    // a block walks the rows of a task, for terminals that leave a partial of it
  int n_phases;  // walks over the columns of a row
  int store_phase[MUSE_CUDA_MAP_STORED]; // of each result that is stored at places
  // The cut: vector, threads of a team, teams of a block, pieces a thread, chunks of columns.
  int V, T, teams, K;
  int64_t chunks;
  int64_t shared; // bytes of partials in dynamic shared memory
} MuseCudaMap;

const MuseOp *muse_cuda_map_yield(const MuseCudaMap *map);
const char *muse_cuda_map_operation(const MuseOp *reduction); // "Max" or "Sum", a type of the prelude
const char *muse_cuda_map_neutral(const MuseOp *reduction);   // the number that changes nothing
MuseDtype muse_cuda_map_dtype(const MuseCudaReduction *reduction);

// Writes the second launch.
void muse_cuda_map_combine(MuseCudaMap *map);

#endif
