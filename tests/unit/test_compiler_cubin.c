// What machine code of a GPU does in front of its wait, on ELF files made here; tests of kernels ask real ones
// (tests/unit/cuda_compile.c).
#include "compiler/cubin.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

enum { LDC = 0xb82, ADD = 0x210, S2R = 0x919, WAIT = 0x82e, LDG = 0x981, STG = 0x986, BRA = 0x947, PREFETCH = 0x98f };
enum { MAX_CODE = 8, NAMES = 64, CODE = NAMES + 64, SECTIONS = CODE + 16 * MAX_CODE, BYTES = SECTIONS + 3 * 64 };

// One function, ".text.kernel_0", of n instructions.
static void make(unsigned char file[BYTES], const unsigned *code, int n) {
  static const char names[] = "\0.shstrtab\0.text.kernel_0";
  memset(file, 0, BYTES);
  const Elf64_Ehdr head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                           .e_shoff = SECTIONS,
                           .e_shentsize = sizeof(Elf64_Shdr),
                           .e_shnum = 3,
                           .e_shstrndx = 1};
  const Elf64_Shdr section[3] = {
      {.sh_type = SHT_NULL},
      {.sh_name = 1, .sh_type = SHT_STRTAB, .sh_offset = NAMES, .sh_size = sizeof names},
      {.sh_name = 11, .sh_type = SHT_PROGBITS, .sh_offset = CODE, .sh_size = 16 * (uint64_t)n},
  };
  memcpy(file, &head, sizeof head);
  memcpy(file + NAMES, names, sizeof names);
  for (int i = 0; i < n; i++) {
    file[CODE + 16 * i] = (unsigned char)code[i], file[CODE + 16 * i + 1] = (unsigned char)(code[i] >> 8);
    memset(file + CODE + 16 * i + 2, 0x5a, 14); // operands
  }
  memcpy(file + SECTIONS, section, sizeof section);
}

#define WAITS(...)                                                                                                    \
  (make(file, (const unsigned[]){__VA_ARGS__}, (int)(sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned))),          \
   muse_cubin_waits_first(file, sizeof file, "kernel_0"))

Test(cubin, waits_first) {
  unsigned char file[BYTES];
  cr_assert(WAITS(WAIT, LDG, STG));
  cr_assert(WAITS(LDC, S2R, ADD, PREFETCH, WAIT, LDG));
  cr_assert_not(WAITS(LDC, LDG, WAIT), "a load moved in front of the wait");
  cr_assert_not(WAITS(LDC, STG, WAIT));
  cr_assert_not(WAITS(S2R, BRA, WAIT), "what a branch leads to is not seen");
  cr_assert_not(WAITS(LDC, ADD, LDG), "no wait at all");
  cr_assert_not(WAITS(LDC, ADD), "nothing but computing");
}

Test(cubin, another_function) {
  unsigned char file[BYTES];
  cr_assert(WAITS(WAIT));
  cr_assert_not(muse_cubin_waits_first(file, sizeof file, "kernel_1"));
  cr_assert_not(muse_cubin_waits_first(file, sizeof file, "kernel_"));
  cr_assert_not(muse_cubin_waits_first(file, sizeof file, "kernel_00"));
}

// Cut or with any byte of its tables changed: read within its bounds (the sanitizers look), and no is the safe answer.
Test(cubin, damaged) {
  unsigned char file[BYTES];
  cr_assert(WAITS(LDC, WAIT));
  for (size_t bytes = 0; bytes < sizeof file; bytes++) {
    unsigned char *cut = malloc(bytes + 1);
    memcpy(cut, file, bytes);
    cr_assert_not(muse_cubin_waits_first(cut, bytes, "kernel_0"), "%zu bytes", bytes);
    free(cut);
  }
  for (size_t at = 0; at < sizeof file; at++)
    for (int value = 1; value < 256; value += 127) {
      unsigned char *other = malloc(sizeof file);
      memcpy(other, file, sizeof file);
      other[at] ^= (unsigned char)value;
      const bool known = muse_cubin_waits_first(other, sizeof file, "kernel_0");
      cr_assert(!known || at != CODE + 16, "the wait is another instruction");
      free(other);
    }
}
