// The emulator of AMX tile instructions that the kernels of level amx run on where there are no tiles: each instruction
// against a plain loop, the forms of addresses, what is refused.

#include "tests/unit/tile_emulator.h"

#include <criterion/criterion.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__) && defined(__x86_64__)

static void start(void) {
  if (!muse_tile_emulator_start()) cr_skip_test("this processor has tiles of its own");
}
TestSuite(emit_tiles, .init = start);

typedef struct Config {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} Config;

static void configure(const Config *c) { // ldtilecfg [rax]
  __asm__ volatile(".byte 0xc4, 0xe2, 0x78, 0x49, 0x00" : : "a"(c), "m"(*c));
}

static void release(void) { __asm__ volatile(".byte 0xc4, 0xe2, 0x78, 0x49, 0xc0"); } // tilerelease

static void fill(void *data, size_t bytes, unsigned seed) {
  uint8_t *p = data;
  for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
}

// Tile 0: C [rows, columns], tile 1: A [rows, 4*units], tile 2: B [units, 4*columns], shapes as the test says.
static Config shapes(int rows, int units, int columns) {
  Config c = {.palette = 1};
  c.rows[0] = (uint8_t)rows, c.bytes[0] = (uint16_t)(4 * columns);
  c.rows[1] = (uint8_t)rows, c.bytes[1] = (uint16_t)(4 * units);
  c.rows[2] = (uint8_t)units, c.bytes[2] = (uint16_t)(4 * columns);
  c.rows[7] = 16, c.bytes[7] = 64;
  return c;
}

typedef struct Product {
  int32_t c[16][20];
  uint8_t a[16][80], b[16][96]; // rows longer than the tiles'
} Product;

// tdpb{ss,su,us,uu}d tmm0, tmm1, tmm2, by hand: VEX.128.{F2,F3,66,NP}.0F38.W0 5E /r, vvvv = 2
static void run_product(Product *p, bool a_signed, bool b_signed) {
  int64_t c_stride = sizeof p->c[0], a_stride = sizeof p->a[0], b_stride = sizeof p->b[0];
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(p->c), "r"(c_stride) : "memory");
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm1" : : "r"(p->a), "r"(a_stride) : "memory");
  __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm2" : : "r"(p->b), "r"(b_stride) : "memory");
  if (a_signed && b_signed) __asm__ volatile(".byte 0xc4, 0xe2, 0x6b, 0x5e, 0xc1");
  else if (a_signed) __asm__ volatile(".byte 0xc4, 0xe2, 0x6a, 0x5e, 0xc1");
  else if (b_signed) __asm__ volatile(".byte 0xc4, 0xe2, 0x69, 0x5e, 0xc1");
  else __asm__ volatile(".byte 0xc4, 0xe2, 0x68, 0x5e, 0xc1");
  __asm__ volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(p->c), "r"(c_stride) : "memory");
}

static void check_product(int rows, int units, int columns, bool a_signed, bool b_signed) {
  static Product got, want;
  fill(&got, sizeof got, (unsigned)(rows * 37 + units * 5 + columns));
  want = got;
  for (int m = 0; m < rows; m++)
    for (int n = 0; n < columns; n++) {
      int64_t sum = want.c[m][n];
      for (int k = 0; k < 4 * units; k++) {
        int x = got.a[m][k], y = got.b[k / 4][4 * n + k % 4];
        sum += (a_signed && x > 127 ? x - 256 : x) * (b_signed && y > 127 ? y - 256 : y);
      }
      want.c[m][n] = (int32_t)(uint32_t)sum; // wraps
    }
  Config c = shapes(rows, units, columns);
  configure(&c);
  run_product(&got, a_signed, b_signed);
  release();
  cr_assert_eq(memcmp(&got, &want, sizeof got), 0, "%d rows, %d units, %d columns, signed %d %d", rows, units, columns,
               a_signed, b_signed);
}

Test(emit_tiles, products) {
  int64_t before = muse_tile_emulator_count();
  static const int shape[][3] = {{16, 16, 16}, {1, 1, 1}, {5, 16, 16}, {16, 3, 16}, {16, 16, 7}, {9, 2, 13}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
    for (int s = 0; s < 4; s++) check_product(shape[i][0], shape[i][1], shape[i][2], s & 1, s & 2);
  cr_expect_eq(muse_tile_emulator_count() - before, 24 * 7);
}

// Every form that a compiler may choose; the assembler encodes them, independently of this emulator's decoder.
Test(emit_tiles, addresses) {
  static uint8_t memory[65536], out[16][64];
  fill(memory, sizeof memory, 1);
  Config c = shapes(16, 16, 16);
  configure(&c);
  uint8_t *middle = memory + 32768;
#define EXPECT_LOADED(first, step, text)                                                             \
  do {                                                                                               \
    __asm__ volatile("tilestored %%tmm7, (%0,%1,1)" : : "r"(out), "r"((int64_t)64) : "memory");      \
    for (int r = 0; r < 16; r++)                                                                     \
      cr_expect_eq(memcmp(out[r], (first) + (int64_t)(step) * r, 64), 0, "%s, row %d", (text), r);   \
    __asm__ volatile("tilezero %tmm7");                                                              \
  } while (0)
#define LOAD(operand, base, index)                                                      \
  __asm__ volatile("mov %0, %%r13\n mov %1, %%r12\n mov %0, %%rbx\n tileloadd " operand \
                   ", %%tmm7"                                                           \
                   : : "r"((uint8_t *)(base)), "r"((int64_t)(index)) : "rbx", "r12", "r13", "memory")
  LOAD("(%%rbx,%%r12,1)", middle, 70);
  EXPECT_LOADED(middle, 70, "base + index");
  LOAD("(%%r13,%%r12,1)", middle, -130);
  EXPECT_LOADED(middle, -130, "r13 + r12, a negative stride");
  LOAD("(%%rbx,%%r12,8)", middle, 16);
  EXPECT_LOADED(middle, 128, "scaled by 8");
  LOAD("-24(%%rbx,%%r12,2)", middle, 33);
  EXPECT_LOADED(middle - 24, 66, "8 bits of displacement");
  LOAD("4096(%%r13,%%r12,4)", middle, 20);
  EXPECT_LOADED(middle + 4096, 80, "32 bits of displacement");
  LOAD("(%%rbx)", middle, 0); // an SIB byte without an index
  EXPECT_LOADED(middle, 0, "no index");
  LOAD("(%%r12,%%rbx,1)", 100, middle);
  EXPECT_LOADED(middle, 100, "r12 as base");
#undef LOAD
  __asm__ volatile("mov %%rsp, %%r15\n mov %0, %%rsp\n tileloadd (%%rsp,%1,1), %%tmm7\n mov %%r15, %%rsp"
                   : : "r"(middle), "r"((int64_t)72) : "r15", "memory"); // the handler's frame lies below
  EXPECT_LOADED(middle, 72, "rsp as base");
#undef EXPECT_LOADED
  release();
}

static Config relative = {.palette = 1, .rows = {3}, .bytes = {12}};

Test(emit_tiles, configuration) {
  Config stored;
  memset(&stored, 0xFF, sizeof stored);
  __asm__ volatile("ldtilecfg %0" : : "m"(relative)); // relative to RIP
  __asm__ volatile("sttilecfg %0" : "=m"(stored));
  cr_expect_eq(memcmp(&stored, &relative, sizeof stored), 0);
  uint8_t in[16][64], out[16][64];
  fill(in, sizeof in, 3);
  memset(out, 0, sizeof out);
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(in), "r"((int64_t)64) : "memory");
  __asm__ volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(out), "r"((int64_t)64) : "memory");
  for (int r = 0; r < 16; r++)
    for (int i = 0; i < 64; i++) cr_expect_eq(out[r][i], r < 3 && i < 12 ? in[r][i] : 0, "row %d, byte %d", r, i);
  configure(&relative); // empties the tiles
  __asm__ volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(out), "r"((int64_t)64) : "memory");
  for (int r = 0; r < 3; r++)
    for (int i = 0; i < 12; i++) cr_expect_eq(out[r][i], 0);
  release();
  __asm__ volatile("sttilecfg %0" : "=m"(stored));
  for (size_t i = 0; i < sizeof stored; i++) cr_expect_eq(((uint8_t *)&stored)[i], 0);
}

// ---- refusals: what a processor would fault for ----

static void before_configuration(void) { __asm__ volatile("tilezero %tmm1"); }

static void configured(Config c) {
  static Product p;
  configure(&c);
  run_product(&p, true, true);
}
static void missing_tile(void) {
  Config c = shapes(4, 4, 4);
  c.rows[2] = 0, c.bytes[2] = 0;
  configured(c);
}
static void odd_shapes(void) {
  Config c = shapes(4, 4, 4);
  c.rows[2] = 5;
  configured(c);
}
static void same_tile(void) { // tdpbssd tmm0, tmm1, tmm1
  Config c = shapes(4, 4, 4);
  configure(&c);
  __asm__ volatile(".byte 0xc4, 0xe2, 0x73, 0x5e, 0xc1");
}
static void large_tile(void) {
  Config c = shapes(17, 4, 4);
  configured(c);
}
static void other_palette(void) {
  Config c = shapes(4, 4, 4);
  c.palette = 2;
  configured(c);
}
static void reserved_byte(void) {
  Config c = shapes(4, 4, 4);
  c.reserved[3] = 1;
  configured(c);
}
static void no_tile_instruction(void) { __asm__ volatile("ud2"); }

static void expect_end(void (*body)(void), const char *sentence) {
  int ends[2], status = 0;
  char said[256] = {0};
  cr_assert_eq(pipe(ends), 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    body();
    _exit(0);
  }
  close(ends[1]);
  size_t n = 0;
  for (ssize_t got; n + 1 < sizeof said && (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0;) n += (size_t)got;
  close(ends[0]);
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "status %d, not SIGILL: %s", status, sentence);
  cr_expect_not_null(strstr(said, sentence), "said '%s', not '%s'", said, sentence);
}

Test(emit_tiles, refusals) {
  expect_end(before_configuration, "tiles are used before ldtilecfg");
  expect_end(missing_tile, "a tile is used that is not configured");
  expect_end(odd_shapes, "the shapes of the tiles do not fit");
  expect_end(same_tile, "two operands are one tile");
  expect_end(large_tile, "a tile is too large");
  expect_end(other_palette, "there is no such palette");
  expect_end(reserved_byte, "a reserved byte is set");
  expect_end(no_tile_instruction, "no instruction of the tiles");
}

#else

Test(emit_tiles, elsewhere) { cr_expect_not(muse_tile_emulator_start()); }

#endif
