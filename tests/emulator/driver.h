#ifndef MUSE_TESTS_EMULATOR_DRIVER_H
#define MUSE_TESTS_EMULATOR_DRIVER_H

// What the two halves of the software GPU's driver share: driver.c (device, memory, modules, work), graph.c (streams,
// events, graphs). Results are the driver's error numbers.
#include "tests/emulator/execute.h"

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum {
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_BINARY = 209,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNJOINED = 904,
  NOT_PERMITTED = 800
};

typedef struct Stream Stream;
typedef struct Event {
  double seconds; // 0: never recorded
  struct Graph *capture;
  int node;
} Event;

typedef struct Function {
  const EmuKernel *kernel;
  unsigned max_dynamic;
  char name[128];
  void *module;
  struct Function *next;
} Function;

typedef enum OpKind { OP_LAUNCH, OP_COPY, OP_FILL, OP_RECORD, OP_NOTHING } OpKind;
typedef struct Op {
  OpKind kind;
  Function *function;
  EmuIndex grid, size;
  unsigned dynamic_bytes;
  void **parameters; // copies
  void *to;
  const void *from;
  size_t bytes;
  unsigned char value;
  Event *event;
} Op;

int emu_lock(void); // one call at a time; the error of an earlier launch, which every later call reports
int emu_unlock(int result);
int emu_perform(const Op *op);
void emu_op_free(Op *op); // what it holds
// Takes the op: it is done, or kept by the capture of the stream.
int emu_give(Stream *stream, Op *op);

#endif
