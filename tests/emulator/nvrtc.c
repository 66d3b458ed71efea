// The software GPU's compiler: libnvrtc as far as compiler/nvrtc.c asks for it. CUDA C is rewritten to C++ (rewrite.c)
// and compiled, with device.h in front of it, to a shared library of the host; that library is the "cubin".
//
// Environment: MUSE_EMULATOR_CXX (a C++ compiler; otherwise clang++ or g++, what there is), MUSE_EMULATOR_FLAGS (more
// options, by spaces: -O2, -fsanitize=alignment ...).
#include "tests/emulator/rewrite.h"

#include "ir/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define OPTIMISATION "-O1"

enum { MAX_ARGUMENTS = 64, COMPILE_ERROR = 6, FAILURE = 11 };

extern char **environ;

typedef struct Program {
  MuseStr source, name, log, code, text;
} Program;

static const int architectures[] = {75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121};

// ---- running the compiler ----

static char *read_all(const char *path, size_t *out_bytes) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  size_t bytes = 0, room = 1 << 16, n;
  char *data = malloc(room + 1);
  while (data && (n = fread(data + bytes, 1, room - bytes, f)) > 0) {
    bytes += n;
    if (bytes == room) data = realloc(data, (room *= 2) + 1);
  }
  fclose(f);
  if (data) data[bytes] = 0;
  *out_bytes = bytes;
  return data;
}

static void append_file(const char *path, MuseStr *out) {
  size_t bytes;
  char *data = read_all(path, &bytes);
  if (data) muse_str_append_n(out, data, bytes);
  free(data);
}

static bool write_all(const char *path, const char *text, size_t bytes) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  const bool good = fwrite(text, 1, bytes, f) == bytes;
  return fclose(f) == 0 && good;
}

// Exit code of a program whose errors go to a file; 127: it cannot be run.
static int run(const char *const *arguments, const char *errors) {
  posix_spawn_file_actions_t actions;
  pid_t child;
  int status = 0;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, errors, O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  char *const *words = (char *const *)(const void *)arguments;
  const int result = posix_spawnp(&child, arguments[0], &actions, NULL, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (result != 0) return 127;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static bool exists(const char *compiler) {
  const char *const arguments[] = {compiler, "--version", NULL};
  return run(arguments, "/dev/null") == 0;
}

static char compiler_name[256];
static pthread_once_t compiler_once = PTHREAD_ONCE_INIT;

static void find_compiler(void) {
  static const char *const known[] = {"clang++", "g++", "c++", "clang++-19", "clang++-20"};
  const char *asked = getenv("MUSE_EMULATOR_CXX");
  if (asked) snprintf(compiler_name, sizeof compiler_name, "%s", asked);
  for (size_t i = 0; i < sizeof known / sizeof *known && !compiler_name[0]; i++)
    if (exists(known[i])) snprintf(compiler_name, sizeof compiler_name, "%s", known[i]);
}

static const char *compiler(void) {
  pthread_once(&compiler_once, find_compiler);
  return compiler_name;
}

typedef struct Arguments {
  const char *item[MAX_ARGUMENTS + 1];
  int n;
  char *words; // of MUSE_EMULATOR_FLAGS
} Arguments;

static void add(Arguments *a, const char *item) {
  if (a->n < MAX_ARGUMENTS) a->item[a->n++] = item;
}

static void add_flags(Arguments *a) {
  const char *flags = getenv("MUSE_EMULATOR_FLAGS");
  a->words = strdup(flags ? flags : "");
  char *state = NULL;
  for (char *word = strtok_r(a->words, " ", &state); word; word = strtok_r(NULL, " ", &state)) add(a, word);
}

// "kernel:12:3: error: x" becomes "kernel(12): error: x", as NVRTC writes it.
static void write_log(const MuseStr *errors, MuseStr *out) {
  for (const char *p = muse_str_text(errors); *p;) {
    const char *end = p + strcspn(p, "\n"), *colon = memchr(p, ':', (size_t)(end - p));
    char *behind = NULL;
    const long line = colon ? strtol(colon + 1, &behind, 10) : 0;
    if (line > 0 && *behind == ':') {
      long column = strtol(behind + 1, &behind, 10);
      (void)column;
      while (*behind == ':' || *behind == ' ') behind++;
      muse_str_appendf(out, "%.*s(%ld): %.*s\n", (int)(colon - p), p, line, (int)(end - behind), behind);
    } else {
      muse_str_appendf(out, "%.*s\n", (int)(end - p), p);
    }
    p = end + (*end == '\n');
  }
}

typedef struct Files {
  char folder[64], source[96], plain[96], rewritten[96], library[96], errors[96];
} Files;

static bool open_files(Files *f) {
  const char *tmp = getenv("TMPDIR");
  snprintf(f->folder, sizeof f->folder, "%.40s/muse-emulator-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(f->folder)) return false;
  snprintf(f->source, sizeof f->source, "%s/source.cc", f->folder);
  snprintf(f->plain, sizeof f->plain, "%s/plain.cc", f->folder);
  snprintf(f->rewritten, sizeof f->rewritten, "%s/rewritten.cc", f->folder);
  snprintf(f->library, sizeof f->library, "%s/library.so", f->folder);
  snprintf(f->errors, sizeof f->errors, "%s/errors", f->folder);
  return true;
}

static void close_files(const Files *f) {
  unlink(f->source);
  unlink(f->plain);
  unlink(f->rewritten);
  unlink(f->library);
  unlink(f->errors);
  rmdir(f->folder);
}

static int failed(Program *p, const Files *f, int result) {
  MuseStr errors = {0};
  append_file(f->errors, &errors);
  write_log(&errors, &p->log);
  if (p->log.len == 0) muse_str_appendf(&p->log, "error: %s cannot be run for the software GPU\n", compiler());
  muse_str_free(&errors);
  return result;
}

static int rewrite(Program *p, const Files *f, const char *arch) {
  MuseStr plain = {0}, problem = {0};
  Arguments a = {0};
  add(&a, compiler()), add(&a, "-E"), add(&a, "-undef"), add(&a, "-std=c++17"), add(&a, arch), add(&a, "-w");
  add(&a, f->source), add(&a, "-o"), add(&a, f->plain), add(&a, NULL);
  muse_str_appendf(&plain, "#line 1 \"%s\"\n%s", muse_str_text(&p->name), muse_str_text(&p->source));
  const bool written = write_all(f->source, plain.data, plain.len);
  muse_str_clear(&plain);
  if (!written || run(a.item, f->errors) != 0) return failed(p, f, COMPILE_ERROR);
  append_file(f->plain, &plain);
  muse_str_append(&p->text, "#include \"" EMULATOR_FOLDER "/abi.h\"\n#include \"" EMULATOR_FOLDER "/device.h\"\n");
  if (!emu_rewrite(muse_str_text(&plain), &p->text, &problem)) {
    muse_str_appendf(&p->log, "%s\n", muse_str_text(&problem));
    return COMPILE_ERROR;
  }
  muse_str_free(&plain);
  muse_str_free(&problem);
  return write_all(f->rewritten, p->text.data, p->text.len) ? 0 : FAILURE;
}

static int compile(Program *p, const Files *f, const char *arch) {
  Arguments a = {0};
  add(&a, compiler()), add(&a, "-shared"), add(&a, "-fPIC"), add(&a, "-std=c++17"), add(&a, arch);
  add(&a, OPTIMISATION), add(&a, "-w"), add(&a, "-ffp-contract=off"), add(&a, "-fno-strict-aliasing");
  add(&a, "-fwrapv"), add(&a, "-fno-math-errno"), add(&a, "-fno-exceptions"), add(&a, "-fno-rtti");
  add(&a, "-fvisibility=hidden"), add(&a, "-fno-stack-protector"), add(&a, "-nostdlib");
#if defined __x86_64__
  add(&a, "-march=native");
#endif
  add_flags(&a);
  add(&a, f->rewritten), add(&a, "-o"), add(&a, f->library), add(&a, NULL);
  const int result = run(a.item, f->errors);
  free(a.words);
  if (result != 0) return failed(p, f, COMPILE_ERROR);
  append_file(f->library, &p->code);
  muse_str_appendf(&p->log, "%s: compiled by %s for the MUSE software GPU\n", muse_str_text(&p->name), compiler());
  return p->code.len ? 0 : FAILURE;
}

// ---- the library ----

EXPORT int nvrtcVersion(int *major, int *minor) {
  // The version stands in the keys of MUSE's cache: nothing of another compiler, or of another text of these files, may
  // be taken for this one's.
  const char *flags = getenv("MUSE_EMULATOR_FLAGS");
  MuseStr key = {0};
  append_file(EMULATOR_FOLDER "/abi.h", &key);
  append_file(EMULATOR_FOLDER "/device.h", &key);
  append_file(EMULATOR_FOLDER "/rewrite.c", &key);
  muse_str_appendf(&key, "%s %s", compiler(), flags ? flags : "");
  *major = 12;
  *minor = 1000 + (int)(muse_hash64(key.data, key.len) % 1000000u);
  muse_str_free(&key);
  return compiler()[0] ? 0 : FAILURE;
}

EXPORT int nvrtcGetNumSupportedArchs(int *n) {
  *n = (int)(sizeof architectures / sizeof *architectures);
  return 0;
}

EXPORT int nvrtcGetSupportedArchs(int *archs) {
  memcpy(archs, architectures, sizeof architectures);
  return 0;
}

EXPORT const char *nvrtcGetErrorString(int result) {
  if (result == 0) return "NVRTC_SUCCESS";
  return result == COMPILE_ERROR ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_INTERNAL_ERROR";
}

EXPORT int nvrtcCreateProgram(Program **program, const char *source, const char *name, int n_headers,
                              const char *const *headers, const char *const *include_names) {
  if (n_headers) return FAILURE;
  Program *p = calloc(1, sizeof *p);
  if (!p) return FAILURE;
  muse_str_append(&p->source, source);
  muse_str_append(&p->name, name ? name : "default_program");
  *program = p;
  return 0;
}

EXPORT int nvrtcDestroyProgram(Program **program) {
  Program *p = *program;
  muse_str_free(&p->source);
  muse_str_free(&p->name);
  muse_str_free(&p->log);
  muse_str_free(&p->code);
  muse_str_free(&p->text);
  free(p);
  *program = NULL;
  return 0;
}

EXPORT int nvrtcCompileProgram(Program *p, int n_options, const char *const *options) {
  char arch[64] = "";
  bool virtual = false;
  for (int i = 0; i < n_options; i++) {
    const char *number = strncmp(options[i], "--gpu-architecture=", 19) == 0 ? strchr(options[i], '_') : NULL;
    if (!number) continue;
    virtual = options[i][19] == 'c'; // compute_80: text only
    snprintf(arch, sizeof arch, "-D__CUDA_ARCH__=%d", 10 * atoi(number + 1));
  }
  Files f;
  if (!arch[0] || !open_files(&f)) return FAILURE;
  int result = rewrite(p, &f, arch);
  if (result == 0 && !virtual) result = compile(p, &f, arch);
  close_files(&f);
  return result;
}

EXPORT int nvrtcGetPTXSize(const Program *p, size_t *bytes) {
  *bytes = p->text.len + 1;
  return 0;
}

// There is no PTX: it is the C++ that is compiled.
EXPORT int nvrtcGetPTX(const Program *p, char *ptx) {
  memcpy(ptx, muse_str_text(&p->text), p->text.len + 1);
  return 0;
}

EXPORT int nvrtcGetCUBINSize(const Program *p, size_t *bytes) {
  *bytes = p->code.len;
  return 0;
}

EXPORT int nvrtcGetCUBIN(const Program *p, char *cubin) {
  memcpy(cubin, p->code.data, p->code.len);
  return 0;
}

EXPORT int nvrtcGetProgramLogSize(const Program *p, size_t *bytes) {
  *bytes = p->log.len + 1;
  return 0;
}

EXPORT int nvrtcGetProgramLog(const Program *p, char *log) {
  memcpy(log, muse_str_text(&p->log), p->log.len + 1);
  return 0;
}
