// The tile instructions by a handler of SIGILL. Encodings, operations and faults as in Intel's Architecture
// Instruction Set Extensions reference, chapter "Intel AMX", and the SDM, volume 2 (LDTILECFG, TDPBSSD, ...).

#include "tests/unit/tile_emulator.h"

#if defined(__linux__) && defined(__x86_64__)

#include <cpuid.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { N_TILES = 8, MAX_ROWS = 16, MAX_BYTES = 64 }; // palette 1

typedef struct TileState {
  bool configured;
  uint8_t config[64]; // as LDTILECFG read it
  int rows[N_TILES], bytes[N_TILES];
  uint8_t tile[N_TILES][MAX_ROWS][MAX_BYTES];
} TileState;

static _Thread_local TileState state;
static atomic_llong n_emulated;

// One VEX.128.0F38.W0 instruction.
typedef struct Instruction {
  int prefix; // 0 none, 1 66, 2 F3, 3 F2
  int opcode, mod, reg, rm, vvvv;
  uint8_t *address;  // mod != 3: base + displacement; with no SIB byte, or without its index
  int64_t stride;    // the scaled index
  bool has_sib;
  const uint8_t *end;
} Instruction;

static int64_t *general_register(ucontext_t *context, int number) {
  static const int place[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return (int64_t *)&context->uc_mcontext.gregs[place[number]];
}

static int64_t read_displacement(const uint8_t **p, int bytes) {
  int32_t wide;
  if (bytes == 1) return (int8_t) * (*p)++;
  memcpy(&wide, *p, 4);
  *p += 4;
  return wide;
}

static bool decode(ucontext_t *context, Instruction *out) {
  const uint8_t *p = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP];
  if (p[0] != 0xC4 || (p[1] & 0x1F) != 2 || (p[2] & 0x84) != 0) return false; // three bytes of VEX, 0F38, W0, 128 bits
  int r = p[1] & 0x80 ? 0 : 8, x = p[1] & 0x40 ? 0 : 8, b = p[1] & 0x20 ? 0 : 8; // stored inverted
  Instruction i = {.prefix = p[2] & 3, .vvvv = ~(p[2] >> 3) & 15, .opcode = p[3]};
  i.mod = p[4] >> 6, i.reg = (p[4] >> 3 & 7) | r, i.rm = p[4] & 7;
  p += 5;
  if (i.mod == 3) {
    i.rm |= b;
  } else {
    int64_t base = 0;
    bool relative = false, wide = i.mod == 2;
    if (i.rm == 4) {
      int scale = *p >> 6, index = (*p >> 3 & 7) | x, base_number = *p & 7;
      p++;
      i.has_sib = true;
      if (index != 4) i.stride = (int64_t)((uint64_t)*general_register(context, index) << scale);
      if (base_number == 5 && i.mod == 0) wide = true; // no base
      else base = *general_register(context, base_number | b);
    } else if (i.rm == 5 && i.mod == 0) {
      relative = wide = true;
    } else {
      base = *general_register(context, i.rm | b);
    }
    if (wide || i.mod == 1) base += read_displacement(&p, wide ? 4 : 1);
    if (relative) base += (int64_t)p;
    i.address = (uint8_t *)base;
  }
  i.end = p;
  *out = i;
  return true;
}

// ---- operations; each returns NULL, or what a processor would fault for ----

static const char *load_configuration(const uint8_t *from) {
  TileState next = {.configured = true};
  memcpy(next.config, from, sizeof next.config);
  const uint8_t *c = next.config;
  if (c[0] == 0) {
    state = (TileState){0};
    return NULL;
  }
  if (c[0] != 1) return "ldtilecfg: there is no such palette";
  if (c[1] != 0) return "ldtilecfg: emulated only from row 0";
  for (int i = 2; i < 64; i++)
    if (((i >= 2 && i < 16) || (i >= 32 && i < 48) || i >= 56) && c[i] != 0) return "ldtilecfg: a reserved byte is set";
  for (int t = 0; t < N_TILES; t++) {
    next.bytes[t] = c[16 + 2 * t] | c[17 + 2 * t] << 8;
    next.rows[t] = c[48 + t];
    if (next.bytes[t] > MAX_BYTES || next.rows[t] > MAX_ROWS) return "ldtilecfg: a tile is too large";
    if ((next.bytes[t] == 0) != (next.rows[t] == 0)) return "ldtilecfg: a tile has rows without bytes or the reverse";
  }
  state = next;
  return NULL;
}

static const char *check_tile(int tile) {
  if (!state.configured) return "tiles are used before ldtilecfg";
  if (tile >= N_TILES) return "there are eight tiles";
  return state.rows[tile] == 0 ? "a tile is used that is not configured" : NULL;
}

static const char *load_tile(int tile, const uint8_t *from, int64_t stride) {
  const char *fault = check_tile(tile);
  if (fault) return fault;
  uint8_t rows[MAX_ROWS][MAX_BYTES] = {{0}}; // what lies beyond the configured part becomes zero
  for (int r = 0; r < state.rows[tile]; r++) memcpy(rows[r], from + r * stride, (size_t)state.bytes[tile]);
  memcpy(state.tile[tile], rows, sizeof rows);
  return NULL;
}

static const char *store_tile(int tile, uint8_t *to, int64_t stride) {
  const char *fault = check_tile(tile);
  if (fault) return fault;
  for (int r = 0; r < state.rows[tile]; r++) memcpy(to + r * stride, state.tile[tile][r], (size_t)state.bytes[tile]);
  return NULL;
}

static const char *multiply(int c, int a, int b, bool a_signed, bool b_signed) {
  const char *fault = check_tile(c);
  if (!fault) fault = check_tile(a);
  if (!fault) fault = check_tile(b);
  if (fault) return fault;
  if (a == b || a == c || b == c) return "tdpb*d: two operands are one tile";
  if (state.bytes[c] % 4 || state.bytes[a] % 4 || state.bytes[b] % 4) return "tdpb*d: columns are not whole units";
  if (state.rows[c] != state.rows[a] || state.bytes[c] != state.bytes[b] || state.bytes[a] / 4 != state.rows[b])
    return "tdpb*d: the shapes of the tiles do not fit";
  for (int m = 0; m < state.rows[c]; m++) {
    uint32_t sum[MAX_BYTES / 4];
    memcpy(sum, state.tile[c][m], sizeof sum);
    for (int k = 0; k < state.bytes[a] / 4; k++)
      for (int n = 0; n < state.bytes[c] / 4; n++)
        for (int i = 0; i < 4; i++) {
          uint8_t x = state.tile[a][m][4 * k + i], y = state.tile[b][k][4 * n + i];
          sum[n] += (uint32_t)((a_signed ? (int8_t)x : (int)x) * (b_signed ? (int8_t)y : (int)y));
        }
    memset(state.tile[c][m], 0, MAX_BYTES);
    memcpy(state.tile[c][m], sum, (size_t)state.bytes[c]);
  }
  for (int m = state.rows[c]; m < MAX_ROWS; m++) memset(state.tile[c][m], 0, MAX_BYTES);
  return NULL;
}

// False: not an instruction of the tiles.
static bool execute(const Instruction *i, const char **out_fault) {
  bool memory = i->mod != 3, plain = i->vvvv == 0; // vvvv is stored inverted: 1111 says unused
  *out_fault = NULL;
  switch (i->opcode << 4 | i->prefix) {
    case 0x490: // ldtilecfg m512; tilerelease
      if (!plain || (i->reg & 7) != 0 || (!memory && i->rm != 0)) return false;
      if (memory) *out_fault = load_configuration(i->address + i->stride);
      else state = (TileState){0};
      return true;
    case 0x491: // sttilecfg m512
      if (!plain || !memory || (i->reg & 7) != 0) return false;
      memcpy(i->address + i->stride, state.config, sizeof state.config);
      return true;
    case 0x493: // tilezero
      if (!plain || memory || i->rm != 0) return false;
      *out_fault = check_tile(i->reg);
      if (!*out_fault) memset(state.tile[i->reg], 0, sizeof state.tile[0]);
      return true;
    case 0x4B1: // tileloaddt1
    case 0x4B3: // tileloadd
    case 0x4B2: // tilestored
      if (!plain || !memory || !i->has_sib) return false;
      *out_fault = i->prefix == 2 ? store_tile(i->reg, i->address, i->stride)
                                  : load_tile(i->reg, i->address, i->stride);
      return true;
    case 0x5E0: // tdpbuud
    case 0x5E1: // tdpbusd
    case 0x5E2: // tdpbsud
    case 0x5E3: // tdpbssd: left operand in r/m, right one in vvvv
      if (memory) return false;
      *out_fault = multiply(i->reg, i->rm, i->vvvv, i->prefix & 2, i->prefix & 1);
      return true;
    default: return false;
  }
}

static void handle(int number, siginfo_t *info, void *opaque) {
  ucontext_t *context = opaque;
  Instruction i;
  const char *fault = "no instruction of the tiles";
  if (decode(context, &i) && execute(&i, &fault) && !fault) {
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)i.end;
    atomic_fetch_add_explicit(&n_emulated, 1, memory_order_relaxed);
    return;
  }
  static const char begin[] = "illegal instruction: ";
  if (write(2, begin, sizeof begin - 1) < 0 || write(2, fault, strlen(fault)) < 0 || write(2, "\n", 1) < 0) {}
  signal(number, SIG_DFL); // and it happens once more
}

bool muse_tile_emulator_start(void) {
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & 1u << 24)) return false; // AMX-TILE
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  return sigaction(SIGILL, &action, NULL) == 0;
}

int64_t muse_tile_emulator_count(void) { return atomic_load(&n_emulated); }

#else

bool muse_tile_emulator_start(void) { return false; }
int64_t muse_tile_emulator_count(void) { return 0; }

#endif
