// Runs emitted kernels on aarch64 for the harness of another machine: loads an object, calls its functions on buffers
// in shared memory. See protocol.h. Alone it does nothing.

#include "tests/aarch64/protocol.h"

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Object {
  uint8_t *code; // all allocated sections
  size_t code_bytes;
  const uint8_t *file;
  const Elf64_Ehdr *header;
  const Elf64_Shdr *section;
  uint8_t *place[256]; // of a section; NULL: not loaded
  const Elf64_Sym *symbols;
  size_t n_symbols;
  const char *names;
} Object;

static Object object;

static const char *say(char *problem, size_t size, const char *what, const char *detail) {
  snprintf(problem, size, what, detail);
  return problem;
}

// ---- relocation, as the ELF for the Arm 64-bit Architecture (AArch64) has it ----

static void put_bits(uint8_t *at, int shift, uint32_t mask, uint64_t value) {
  uint32_t word;
  memcpy(&word, at, 4);
  word = (word & ~(mask << shift)) | (((uint32_t)value & mask) << shift);
  memcpy(at, &word, 4);
}

static void put_adr(uint8_t *at, int64_t value) { // 21 bits: immlo at 29, immhi at 5
  put_bits(at, 29, 3, (uint64_t)value);
  put_bits(at, 5, 0x7FFFF, (uint64_t)(value >> 2));
}

static bool fits(int64_t value, int bits) {
  int64_t limit = INT64_C(1) << (bits - 1);
  return value >= -limit && value < limit;
}

static bool relocate(uint8_t *at, unsigned type, int64_t target) {
  int64_t here = (int64_t)at, distance = target - here;
  int low = 0;
  switch (type) {
    case R_AARCH64_NONE: return true;
    case R_AARCH64_ABS64: memcpy(at, &target, 8); return true;
    case R_AARCH64_PREL64: memcpy(at, &distance, 8); return true;
    case R_AARCH64_PREL32: memcpy(at, &distance, 4); return fits(distance, 32);
    case R_AARCH64_ADR_PREL_LO21: put_adr(at, distance); return fits(distance, 21);
    case R_AARCH64_ADR_PREL_PG_HI21: {
      int64_t pages = (target >> 12) - (here >> 12);
      put_adr(at, pages);
      return fits(pages, 21);
    }
    case R_AARCH64_ADD_ABS_LO12_NC:
    case R_AARCH64_LDST8_ABS_LO12_NC: break;
    case R_AARCH64_LDST16_ABS_LO12_NC: low = 1; break;
    case R_AARCH64_LDST32_ABS_LO12_NC: low = 2; break;
    case R_AARCH64_LDST64_ABS_LO12_NC: low = 3; break;
    case R_AARCH64_LDST128_ABS_LO12_NC: low = 4; break;
    case R_AARCH64_JUMP26:
    case R_AARCH64_CALL26: put_bits(at, 0, 0x3FFFFFF, (uint64_t)(distance >> 2)); return fits(distance, 28);
    default: return false;
  }
  put_bits(at, 10, 0xFFF, (uint64_t)(target & 0xFFF) >> low);
  return (target & ((1 << low) - 1)) == 0;
}

// ---- objects ----

static void place_sections(Object *o) {
  size_t bytes = 0, offset[256];
  for (int i = 0; i < o->header->e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    if (!(s->sh_flags & SHF_ALLOC)) continue;
    size_t align = s->sh_addralign ? s->sh_addralign : 1;
    offset[i] = bytes = (bytes + align - 1) / align * align;
    bytes += s->sh_size;
  }
  o->code_bytes = bytes + 1;
  o->code = mmap(NULL, o->code_bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (o->code == MAP_FAILED) return;
  for (int i = 0; i < o->header->e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    if (!(s->sh_flags & SHF_ALLOC)) continue;
    o->place[i] = o->code + offset[i];
    if (s->sh_type != SHT_NOBITS) memcpy(o->place[i], o->file + s->sh_offset, s->sh_size);
  }
}

static void load(const uint8_t *file, MuseForeignReply *reply) {
  Object *o = &object;
  if (o->code) munmap(o->code, o->code_bytes);
  *o = (Object){.file = file, .header = (const Elf64_Ehdr *)file};
  o->section = (const Elf64_Shdr *)(file + o->header->e_shoff);
#define FAIL(what, detail) ((void)say(reply->problem, sizeof reply->problem, what, detail))
  if (memcmp(file, ELFMAG, SELFMAG) != 0 || o->header->e_type != ET_REL || o->header->e_machine != EM_AARCH64 ||
      o->header->e_shnum > 256)
    return FAIL("%s", "not an object file for aarch64");
  place_sections(o);
  if (o->code == MAP_FAILED) return FAIL("%s", "no memory for the code");
  for (int i = 0; i < o->header->e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    if (s->sh_type != SHT_SYMTAB) continue;
    o->symbols = (const Elf64_Sym *)(file + s->sh_offset);
    o->n_symbols = s->sh_size / sizeof *o->symbols;
    o->names = (const char *)file + o->section[s->sh_link].sh_offset;
  }
  for (int i = 0; i < o->header->e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    if (s->sh_type == SHT_REL) return FAIL("%s", "relocations without addends");
    if (s->sh_type != SHT_RELA || !o->place[s->sh_info]) continue;
    const Elf64_Rela *r = (const Elf64_Rela *)(file + s->sh_offset);
    for (size_t n = s->sh_size / sizeof *r; n > 0; n--, r++) {
      const Elf64_Sym *symbol = &o->symbols[ELF64_R_SYM(r->r_info)];
      char number[24];
      snprintf(number, sizeof number, "%u", (unsigned)ELF64_R_TYPE(r->r_info));
      if (symbol->st_shndx >= o->header->e_shnum || !o->place[symbol->st_shndx])
        return FAIL("the object needs the outside symbol '%s'", o->names + symbol->st_name);
      int64_t target = (int64_t)(o->place[symbol->st_shndx] + symbol->st_value) + r->r_addend;
      if (!relocate(o->place[s->sh_info] + r->r_offset, (unsigned)ELF64_R_TYPE(r->r_info), target))
        return FAIL("relocation of type %s is unknown or out of reach", number);
    }
  }
#undef FAIL
  __builtin___clear_cache((char *)o->code, (char *)o->code + o->code_bytes);
}

static void lookup(const char *name, MuseForeignReply *reply) {
  for (size_t i = 0; i < object.n_symbols; i++) {
    const Elf64_Sym *s = &object.symbols[i];
    if (s->st_shndx == SHN_UNDEF || strcmp(object.names + s->st_name, name) != 0) continue;
    reply->value = (uint64_t)(object.place[s->st_shndx] + s->st_value);
    return;
  }
  say(reply->problem, sizeof reply->problem, "the object has no function '%s'", name);
}

// ---- requests ----

static bool transfer(bool reads, void *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = reads ? read(0, (char *)data + done, bytes - done) : write(1, (char *)data + done, bytes - done);
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

typedef void (*KernelFn)(void *const *buffers, int64_t begin, int64_t end, void *scratch, int64_t iteration);

static void serve(const MuseForeignRequest *r, MuseForeignReply *reply) {
  void *address = (void *)r->address; // both sides agree on addresses
  switch (r->kind) {
    case MUSE_FOREIGN_MAP:
      if (mmap(address, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, MUSE_FOREIGN_FILE,
               (off_t)(r->address - MUSE_FOREIGN_BASE)) != address)
        say(reply->problem, sizeof reply->problem, "%s", "cannot map shared memory");
      return;
    case MUSE_FOREIGN_UNMAP: munmap(address, r->bytes); return;
    case MUSE_FOREIGN_LOAD: load(address, reply); return;
    case MUSE_FOREIGN_LOOKUP: lookup(r->name, reply); return;
    case MUSE_FOREIGN_CALL:
      ((KernelFn)r->address)((void *const *)r->buffers, r->begin, r->end, (void *)r->scratch, r->iteration);
      return;
    default: say(reply->problem, sizeof reply->problem, "%s", "unknown request");
  }
}

int main(void) {
  MuseForeignRequest request;
  while (transfer(true, &request, sizeof request)) {
    MuseForeignReply reply = {0};
    serve(&request, &reply);
    if (!transfer(false, &reply, sizeof reply)) return 1;
  }
  return 0;
}
