// The command `doctor`: what this machine offers to MUSE.
#include "compiler/emit.h"
#include "compiler/nvrtc.h"
#include "ir/base/io.h"
#include "runtime/commands.h"
#include "runtime/cuda_api.h"
#include "runtime/metrics.h"
#include "runtime/pool.h"

#include "ir/base/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

typedef struct Report {
  bool json;
  MuseStr text; // JSON so far
} Report;

static void add_text(Report *r, const char *key, const char *label, const char *value) {
  if (!r->json) {
    printf("%-14s %s\n", label, value);
    return;
  }
  muse_str_appendf(&r->text, "%s\"%s\":", r->text.len ? "," : "{", key);
  muse_json_append_text(&r->text, value, strlen(value));
}

static void add_bytes(Report *r, const char *key, const char *label, uint64_t bytes, const char *note) {
  if (r->json) {
    muse_str_appendf(&r->text, "%s\"%s\":%llu", r->text.len ? "," : "{", key, (unsigned long long)bytes);
    return;
  }
  MuseStr s = {0};
  muse_str_append_bytes(&s, bytes);
  printf("%-14s %s%s\n", label, muse_str_text(&s), note);
  muse_str_free(&s);
}

// Value of "key : value" in a file of /proc, or NULL; to be freed.
static char *proc_value(const char *path, const char *key) {
  FILE *f = fopen(path, "r");
  char *line = NULL, *found = NULL;
  size_t cap = 0;
  while (f && !found && getline(&line, &cap, f) > 0) {
    char *colon = strchr(line, ':');
    if (!colon || !muse_str_starts_with(line, key)) continue;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    value[strcspn(value, "\n")] = 0;
    found = strdup(value);
  }
  free(line);
  if (f) fclose(f);
  return found;
}

static bool has_word(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *p = list; p && (p = strstr(p, word)); p += n)
    if ((p == list || p[-1] == ' ') && (p[n] == 0 || p[n] == ' ')) return true;
  return false;
}

static void report_cpu(Report *r) {
  static const char *const interesting[] = {"avx2",        "fma",         "f16c",        "avx512f",  "avx512bw",
                                            "avx512_vnni", "avx512_vbmi", "avx512_bf16", "avx_vnni", "amx_tile",
                                            "amx_int8",    "amx_bf16",    "asimd",       "asimddp",  "sve"};
  char *model = proc_value("/proc/cpuinfo", "model name"), *flags = proc_value("/proc/cpuinfo", "flags");
  if (!flags) flags = proc_value("/proc/cpuinfo", "Features");
  struct utsname name;
  MuseStr have = {0};
  for (size_t i = 0; i < sizeof interesting / sizeof *interesting; i++)
    if (has_word(flags, interesting[i])) muse_str_appendf(&have, "%s%s", have.len ? " " : "", interesting[i]);
  add_text(r, "cpu", "processor", model ? model : uname(&name) == 0 ? name.machine : "unknown");
  add_text(r, "cpu_features", "features", have.len ? have.data : "none that MUSE uses");
  char cores[32];
  snprintf(cores, sizeof cores, "%d", muse_available_cores());
  if (r->json) muse_str_appendf(&r->text, ",\"cores\":%s", cores);
  else add_text(r, "cores", "cores", cores);
  muse_str_free(&have);
  free(model);
  free(flags);
}

static void report_memory(Report *r) {
  static const struct { const char *proc, *key, *label;
  } rows[] = {{"MemTotal", "memory_bytes", "memory"}, {"MemAvailable", "memory_available_bytes", "of that free"}};
  for (int i = 0; i < 2; i++) {
    char *value = proc_value("/proc/meminfo", rows[i].proc);
    if (value) add_bytes(r, rows[i].key, rows[i].label, strtoull(value, NULL, 10) * 1024, "");
    free(value);
  }
}

static void report_disk(Report *r, const char *path, const char *key, const char *label) {
  struct statvfs v;
  if (statvfs(path, &v) != 0) return;
  add_bytes(r, key, label, (uint64_t)v.f_bavail * v.f_frsize, " free");
}

// The code generator; without it no plan runs on the CPU.
static MuseStatus report_generator(Report *r, MuseDiag *diag) {
  const MuseCpuModule *module;
  MUSE_TRY(muse_cpu_module_load(&module, diag));
  add_text(r, "cpu_module", "libmuse-cpu.so", module->version);
  MuseCpuTarget target;
  MuseStr levels = {0};
  for (int level = MUSE_CPU_SCALAR; level <= MUSE_CPU_NEON_DOT; level++)
    if (module->host_target((MuseCpuLevel)level, true, &target))
      muse_str_appendf(&levels, "%s%s", levels.len ? " " : "", muse_cpu_level_name((MuseCpuLevel)level));
  if (module->host_target(MUSE_CPU_NEON_DOT, false, &target)) {
    add_text(r, "cpu_level", "CPU level", muse_cpu_level_name(target.level));
    add_text(r, "cpu_levels", "--cpu-level", muse_str_text(&levels));
  }
  muse_str_free(&levels);
  return MUSE_OK;
}

// The sentence of a failure, which on this machine is no failure: a GPU is not needed.
static const char *reason(const MuseDiag *diag) {
  const char *text = muse_diag_message(diag, 0);
  return text ? text : "unknown";
}

static void report_gpus(Report *r, const MuseCuda *cuda, MuseDiag *diag) {
  int n = muse_cuda_device_count(cuda);
  if (r->json) muse_str_append(&r->text, ",\"gpus\":[");
  for (int i = 0; i < n; i++) {
    MuseCudaDevice d;
    MuseStr memory = {0};
    if (muse_cuda_device(cuda, i, &d, diag) != MUSE_OK) continue;
    muse_str_append_bytes(&memory, d.memory_bytes);
    if (r->json) {
      muse_str_append(&r->text, i ? ",{\"name\":" : "{\"name\":");
      muse_json_append_text(&r->text, d.name, strlen(d.name));
      muse_str_appendf(&r->text, ",\"architecture\":\"sm_%d\",\"multiprocessors\":%d,\"memory_bytes\":%llu}", d.arch,
                       d.multiprocessors, (unsigned long long)d.memory_bytes);
    } else {
      printf("%-14s %s, sm_%d, %d multiprocessors, %s\n", "GPU", d.name, d.arch, d.multiprocessors,
             muse_str_text(&memory));
    }
    muse_str_free(&memory);
  }
  if (r->json) muse_str_append(&r->text, "]");
  else if (n == 0) printf("%-14s none\n", "GPU");
}

// Is it there, and does the driver take what it makes?
static bool report_nvrtc(Report *r, const MuseCuda *cuda, const char *path) {
  bool good = false;
  MuseDiag *diag = muse_diag_create();
  MuseNvrtc *nvrtc = NULL;
  if (muse_nvrtc_open(path, &nvrtc, diag) != MUSE_OK) {
    add_text(r, "nvrtc_missing", "NVRTC", reason(diag));
  } else {
    int major, minor, n;
    MuseStr text = {0};
    muse_nvrtc_version(nvrtc, &major, &minor);
    const int *archs = muse_nvrtc_architectures(nvrtc, &n);
    muse_str_appendf(&text, "%d.%d, %s, for", major, minor, muse_nvrtc_path(nvrtc));
    for (int i = 0; i < n; i++) muse_str_appendf(&text, " sm_%d", archs[i]);
    add_text(r, "nvrtc", "NVRTC", muse_str_text(&text));
    good = !cuda || muse_cuda_suits_nvrtc(cuda, major, diag) == MUSE_OK;
    if (!good) add_text(r, "nvrtc_problem", "", reason(diag));
    muse_str_free(&text);
  }
  muse_nvrtc_close(nvrtc);
  muse_diag_destroy(diag);
  return good;
}

// Can plans run on a GPU here?
static bool report_cuda(Report *r, const char *nvrtc_path) {
  MuseDiag *diag = muse_diag_create();
  const MuseCuda *cuda = NULL;
  if (muse_cuda_open(&cuda, diag) == MUSE_OK) {
    char version[32];
    snprintf(version, sizeof version, "CUDA %d.%d", cuda->version / 1000, cuda->version % 1000 / 10);
    add_text(r, "cuda_driver", "NVIDIA driver", version);
    report_gpus(r, cuda, diag);
  } else {
    MuseStr text = {0};
    muse_str_appendf(&text, "none: %s", reason(diag));
    add_text(r, "gpu", "GPU", muse_str_text(&text));
    muse_str_free(&text);
  }
  muse_diag_destroy(diag);
  bool compiles = report_nvrtc(r, cuda, nvrtc_path);
  return compiles && cuda && muse_cuda_device_count(cuda) > 0;
}

static MuseStatus doctor(bool json, const char *nvrtc_path, MuseDiag *diag) {
  Report r = {.json = json};
  MuseStr cache = {0};
  add_text(&r, "version", "muse-run", MUSE_VERSION);
  report_cpu(&r);
  report_memory(&r);
  report_disk(&r, ".", "disk_free_bytes", "this folder");
  MuseDiag *missing = muse_diag_create();
  MuseStatus status = report_generator(&r, missing);
  bool gpu = report_cuda(&r, nvrtc_path);
  if (status != MUSE_OK && gpu) { // as it should be where only the GPU is used
    muse_note_at(diag, (MuseLoc){0}, "plans run with --device cuda only: %s", reason(missing));
    status = MUSE_OK;
  } else if (status != MUSE_OK) {
    muse_error(diag, status, "%s", reason(missing));
  }
  muse_diag_destroy(missing);
  MuseStatus cached = muse_cache_dir(&cache, diag);
  if (cached == MUSE_OK) {
    add_text(&r, "cache_dir", "kernel cache", muse_str_text(&cache));
    report_disk(&r, muse_str_text(&cache), "cache_free_bytes", "");
  }
  muse_str_free(&cache);
  if (json) printf("%s}\n", muse_str_text(&r.text));
  muse_str_free(&r.text);
  return status != MUSE_OK ? status : cached;
}

MuseStatus muse_command_doctor(int argc, char **argv, MuseDiag *diag) {
  bool json = false, help = false;
  const char *nvrtc_path = NULL;
  const MuseOption table[] = {
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object.", &json},
      {"nvrtc", 0, MUSE_OPT_TEXT, "PATH", "The library NVRTC, when it is not found by itself.", &nvrtc_path},
      {0},
  };
  MuseTextList operands = {0};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help)
    muse_options_help(table, "muse-run doctor [options]",
                      "Shows processor, memory, disk, code generator, GPU and cache.", stdout);
  else if (status == MUSE_OK && operands.len)
    status = muse_error(diag, MUSE_ERR_INPUT, "muse-run doctor takes no operand ('%s')", operands.data[0]);
  else if (status == MUSE_OK) status = doctor(json, nvrtc_path, diag);
  muse_text_list_free(&operands);
  return status;
}
