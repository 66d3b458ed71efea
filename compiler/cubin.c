// Machine code of NVIDIA's GPUs, as far as MUSE has to look at it (see the header).
#include "compiler/cubin.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>

// An instruction of sm_70 and newer has 16 bytes; its lowest 9 bits name it whatever its operands are. NVIDIA documents
// no encodings: these were read off small functions that ptxas of CUDA 13 made for sm_90a, sm_100a and sm_120a, where
// all that touches shared or global memory was 0x100 or more. What is not listed here counts as touching it.
enum {
  INSTRUCTION = 16,
  IN_REGISTERS = 0x100,
  ACQBULK = 0x02e, // griddepcontrol.wait
  NOP = 0x118,
  S2R = 0x119,
  LDC = 0x182,
  LDL = 0x183,
  STL = 0x187,
  STS = 0x188,
  CCTL = 0x18f, // prefetch
  LDCU = 0x1ac,
  S2UR = 0x1c3,
};

// Does an instruction leave what other blocks see alone, and go on to the next one?
static bool is_private(unsigned instruction) {
  switch (instruction) {
  case NOP:
  case S2R:
  case LDC:
  case LDL:
  case STL:
  case STS:
  case CCTL:
  case LDCU:
  case S2UR: return true;
  default: return instruction < IN_REGISTERS;
  }
}

static bool waits_first(const unsigned char *code, size_t bytes) {
  for (size_t i = 0; i + INSTRUCTION <= bytes; i += INSTRUCTION) {
    const unsigned instruction = (unsigned)code[i] | ((unsigned)code[i + 1] & 1u) << 8;
    if (instruction == ACQBULK) return true;
    if (!is_private(instruction)) return false;
  }
  return false;
}

static bool lies_within(uint64_t offset, uint64_t length, size_t bytes) {
  return offset <= bytes && length <= bytes - offset;
}

static bool read_section(const unsigned char *file, size_t bytes, const Elf64_Ehdr *head, unsigned index,
                         Elf64_Shdr *out) {
  const uint64_t at = head->e_shoff + (uint64_t)index * sizeof *out;
  if (index >= head->e_shnum || head->e_shoff > bytes || !lies_within(at, sizeof *out, bytes)) return false;
  memcpy(out, file + at, sizeof *out);
  return out->sh_type == SHT_NOBITS || lies_within(out->sh_offset, out->sh_size, bytes);
}

// Is `name` the string at `offset` of the section?
static bool is_named(const unsigned char *file, const Elf64_Shdr *names, uint64_t offset, const char *prefix,
                     const char *name) {
  const size_t n = strlen(prefix), m = strlen(name) + 1;
  const unsigned char *text = file + names->sh_offset + offset;
  return lies_within(offset, n + m, names->sh_size) && memcmp(text, prefix, n) == 0 && memcmp(text + n, name, m) == 0;
}

bool muse_cubin_waits_first(const void *cubin, size_t bytes, const char *function) {
  const unsigned char *file = cubin;
  Elf64_Ehdr head;
  Elf64_Shdr names, section;
  if (bytes < sizeof head) return false;
  memcpy(&head, file, sizeof head);
  if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
      head.e_shentsize != sizeof section || !read_section(file, bytes, &head, head.e_shstrndx, &names) ||
      names.sh_type == SHT_NOBITS)
    return false;
  for (unsigned i = 0; i < head.e_shnum; i++)
    if (read_section(file, bytes, &head, i, &section) && section.sh_type == SHT_PROGBITS &&
        is_named(file, &names, section.sh_name, ".text.", function))
      return waits_first(file + section.sh_offset, section.sh_size);
  return false;
}
